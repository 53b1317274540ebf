//! service.yaml as it is written: what the service is. Nothing is resolved here; see
//! [`super::settings`]. Pure.

use std::path::PathBuf;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::contract::Contract;
use super::strategy::Deploy;
use super::values::{
    BuildContext, Cache, Cpu, Day, HostAddress, HostName, Identifier, ImageName, LabelName, Memory,
    Name, Platform, Reason, SecretRef, Span, UrlPath, Variable, Vulnerability,
};

/// What a service is: read from service.yaml.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "service.yaml")]
pub struct Service {
    /// Name of the workload and of the ECR repository: a DNS label.
    pub name: Name,
    /// The one port the container listens on.
    pub port: std::num::NonZeroU16,
    #[serde(default)]
    pub health: Health,
    #[serde(default)]
    pub mode: Mode,
    #[serde(default)]
    pub image: Image,
    /// The service's own tests, which run before anything is pushed.
    pub test: Option<Test>,
    /// What the built image has to keep, before anything is pushed.
    #[serde(default)]
    pub contract: Contract,
    /// Environment variables of the container.
    #[serde(default)]
    pub env: IndexMap<Variable, String>,
    /// Environment variables whose values come from a secret store.
    #[serde(default)]
    pub secrets: IndexMap<Variable, SecretRef>,
    #[serde(default)]
    pub resources: Resources,
    /// How many copies run. Not together with `autoscale`.
    #[schemars(extend("x-targets" = ["eks", "ecs"]))]
    pub replicas: Option<u32>,
    #[schemars(extend("x-targets" = ["eks", "ecs"]))]
    pub autoscale: Option<Autoscale>,
    /// Runs once before the new version takes over; its failure stops the deploy.
    #[schemars(extend("x-targets" = ["eks", "ecs", "local"]))]
    pub before_deploy: Option<BeforeDeploy>,
    /// The same image with other commands, deployed and rolled back with the service: a worker
    /// that runs all the time, or one with a `schedule`.
    #[serde(default)]
    #[schemars(extend("x-targets" = ["eks", "ecs"]))]
    pub processes: IndexMap<Name, Process>,
    #[serde(default)]
    pub deploy: Deploy,
    /// S3 buckets the service reads and writes.
    #[serde(default)]
    #[schemars(extend("x-targets" = ["eks", "ecs"]))]
    pub storage: Vec<Storage>,
    /// Makes the service reachable from outside the cluster.
    #[schemars(extend("x-targets" = ["eks", "ecs"]))]
    pub expose: Option<Expose>,
    /// Extra Kubernetes manifests, relative to this file, applied with the rest (eks).
    #[serde(default)]
    #[schemars(extend("x-targets" = ["eks"]))]
    pub manifests: Vec<PathBuf>,
    #[serde(default)]
    pub version: Version,
    /// Keeps an image with findings from getting its tags. Without it nobody looks for findings.
    pub scan: Option<Scan>,
    /// What differs per environment, in the order in which they are deployed.
    #[serde(default)]
    pub environments: IndexMap<Name, Overlay>,
}

/// How the platform sees that the service is well.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Health {
    /// Answers 2xx when the service can take requests.
    pub path: UrlPath,
    /// The longest time from start to the first 2xx.
    pub startup: Span,
    /// So long a new version has to stay healthy: on eks before the old one goes, on ecs before the
    /// deploy counts as done. What is not changed is not waited for.
    #[schemars(extend("x-targets" = ["eks", "ecs"]))]
    pub stable: Span,
}

impl Default for Health {
    fn default() -> Self {
        Health {
            path: UrlPath::try_from("/healthz".to_string()).expect("a constant path"),
            startup: Span(std::time::Duration::from_secs(60)),
            stable: Span(std::time::Duration::from_secs(10)),
        }
    }
}

/// The environment variable that tells the service to run in debug or in production mode, and its
/// two values.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Mode {
    pub variable: Variable,
    pub debug: String,
    pub production: String,
}

impl Default for Mode {
    fn default() -> Self {
        Mode {
            variable: Variable::try_from("APP_MODE".to_string()).expect("a constant name"),
            debug: "debug".into(),
            production: "production".into(),
        }
    }
}

/// One of the two modes every service has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ModeName {
    Debug,
    #[default]
    Production,
}

/// How the image is built.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Image {
    /// Build context, relative to service.yaml.
    pub context: PathBuf,
    /// Relative to the context.
    pub dockerfile: PathBuf,
    /// Stage of the Dockerfile; the last one when not given.
    pub target: Option<String>,
    pub platforms: Vec<Platform>,
    pub build_args: IndexMap<Variable, String>,
    /// BuildKit secrets: `id=npm,env=NPM_TOKEN` or `id=npm,src=FILE`. Never in a layer, never in an
    /// argument's value.
    pub build_secrets: Vec<String>,
    /// SSH agents or keys for `RUN --mount=type=ssh`: `default` is the agent in SSH_AUTH_SOCK, or
    /// `id=path` of a key.
    pub ssh: Vec<String>,
    /// More sources for `COPY --from=name`, or in the place of an image of that name: a folder
    /// relative to service.yaml, `docker-image://…`, `https://…`, `oci-layout://…`.
    pub contexts: IndexMap<String, BuildContext>,
    /// Host → address, known to the build's steps only.
    pub extra_hosts: IndexMap<HostName, HostAddress>,
    pub pull: Pull,
    /// Labels of the image, and annotations of its manifest, beside those that every image gets.
    pub labels: IndexMap<LabelName, String>,
    /// Where the build's steps are kept from run to run: `auto`, `off`, `gha`,
    /// `registry:HOST/NAME:TAG` or `local:FOLDER`.
    pub cache: Cache,
    /// How much is written down of how the image was built, beside the image.
    pub provenance: Provenance,
    /// The image that lists what is in the built one, beside it: a generator as BuildKit runs them,
    /// by digest. None: no list.
    pub sbom: Option<ImageName>,
}

/// How the service is tested.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Test {
    /// The stage of the Dockerfile that has the tests; `image.target` when not given.
    pub target: Option<String>,
    /// Given to the image's entrypoint: `[pytest, --junitxml=/tmp/junit.xml]`. Without it, the
    /// stage's own command.
    #[serde(default)]
    pub command: Vec<String>,
    /// What the tests write, by paths in the container: results as JUnit has them, coverage as
    /// Cobertura has it. One that is named has to be there.
    #[serde(default)]
    pub reports: Vec<String>,
}

/// When base images are asked for at their registries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pull {
    Always,
    /// Those that the builder does not have.
    #[default]
    Missing,
}

/// How much a build writes down of itself
/// (<https://docs.docker.com/build/metadata/attestations/slsa-provenance/>).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Provenance {
    /// Each build's is another one, so that a commit that is built and pushed again would write to
    /// the registry again.
    #[default]
    Off,
    /// When, from which base images, for which platform; no build arguments.
    Min,
    /// The Dockerfile, its build arguments with their values, and each step too.
    Max,
}

impl Default for Image {
    fn default() -> Self {
        Image {
            context: ".".into(),
            dockerfile: "Dockerfile".into(),
            target: None,
            platforms: vec![
                Platform::try_from("linux/amd64".to_string()).expect("a constant platform"),
            ],
            build_args: IndexMap::new(),
            build_secrets: Vec::new(),
            ssh: Vec::new(),
            contexts: IndexMap::new(),
            extra_hosts: IndexMap::new(),
            pull: Pull::default(),
            labels: IndexMap::new(),
            cache: Cache::default(),
            provenance: Provenance::default(),
            sbom: None,
        }
    }
}

/// What one copy of the service may use.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Resources {
    pub cpu: Cpu,
    pub memory: Memory,
}

impl Default for Resources {
    fn default() -> Self {
        Resources { cpu: Cpu { millicores: 250 }, memory: Memory { mebibytes: 512 } }
    }
}

/// Copies between `min` and `max`, by average CPU use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Autoscale {
    pub min: u32,
    pub max: u32,
    /// Target CPU use in percent of what the service asks for.
    pub cpu: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BeforeDeploy {
    pub command: Vec<String>,
    /// What it does to the data cannot be taken back: a later `cicd rollback` to a version before
    /// this one is refused without `--force`.
    #[serde(default)]
    pub irreversible: bool,
}

/// A process of the service beside the one that listens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Process {
    /// Given to the image's entrypoint.
    pub command: Vec<String>,
    /// How many copies of a worker run: one, if it is not said.
    pub replicas: Option<u32>,
    /// When it runs, as cron writes it: `0 3 * * *`.
    pub schedule: Option<String>,
    /// Whose time the schedule is in: `Europe/Vienna`. Without it, UTC.
    pub timezone: Option<String>,
}

/// A bucket, and the environment variable in which the service finds its name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Storage {
    pub name: Name,
    pub env: Variable,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Expose {
    /// The service gets every request whose path is this one or below it, with the whole path.
    pub path: UrlPath,
}

/// How versions are made from the git history.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Version {
    /// What stands before the version in a tag.
    pub prefix: String,
    /// Only commits that touch one of these paths count, relative to service.yaml.
    pub paths: Vec<PathBuf>,
    /// The first version, when no tag exists.
    pub initial: String,
    /// Commit type → bump, over the defaults (feat: minor, fix: patch, perf: patch).
    pub bumps: IndexMap<String, BumpName>,
    /// A breaking change takes 0.x to 1.0.0 instead of to the next minor.
    pub allow_1_0: bool,
    /// Branch → identifier of the prereleases that are made from it: `2.0.0-beta.1`,
    /// `2.0.0-beta.2`.
    pub channels: IndexMap<String, Identifier>,
    /// Move `v1` and `v1.4` along with each release; never back, and never to a prerelease.
    pub floating: bool,
}

impl Default for Version {
    fn default() -> Self {
        Version {
            prefix: "v".into(),
            paths: vec![".".into()],
            initial: "0.1.0".into(),
            bumps: IndexMap::new(),
            allow_1_0: false,
            channels: ["alpha", "beta", "next", "rc"]
                .map(|name| {
                    (
                        name.into(),
                        Identifier::try_from(name.to_string()).expect("a constant identifier"),
                    )
                })
                .into_iter()
                .collect(),
            floating: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BumpName {
    None,
    Patch,
    Minor,
    Major,
}

/// When ECR's scan of a pushed image stops it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Scan {
    /// The least severity that stops.
    pub fail_on: Severity,
    /// Findings that do no harm here, each with the reason and an end.
    pub allow: Vec<Allowed>,
    /// The longest time until the findings are there.
    pub timeout: Span,
    /// What becomes of an image that ECR cannot scan.
    pub unsupported: OnUnsupported,
}

impl Default for Scan {
    fn default() -> Self {
        Scan {
            fail_on: Severity::High,
            allow: Vec::new(),
            timeout: Span(std::time::Duration::from_secs(300)),
            unsupported: OnUnsupported::Fail,
        }
    }
}

/// A finding that does no harm here.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Allowed {
    /// As the scan names it: `CVE-2026-1234`.
    pub id: Vulnerability,
    pub reason: Reason,
    /// The last day on which it is allowed.
    pub until: Day,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnsupported {
    Fail,
    Warn,
}

/// How severe a finding is, the least severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Nobody has rated it yet.
    Undefined,
    Informational,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// From ECR's or Inspector's word. One that we do not know is taken for the worst.
    pub fn of_scan(word: &str) -> Severity {
        match word {
            "UNDEFINED" | "UNTRIAGED" | "" => Severity::Undefined,
            "INFORMATIONAL" => Severity::Informational,
            "LOW" => Severity::Low,
            "MEDIUM" => Severity::Medium,
            "HIGH" => Severity::High,
            _ => Severity::Critical,
        }
    }
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Severity::Undefined => "undefined",
            Severity::Informational => "informational",
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        })
    }
}

/// What differs in one environment. Maps are merged key by key; everything else replaces.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Overlay {
    pub mode: Option<ModeName>,
    pub env: IndexMap<Variable, String>,
    pub secrets: IndexMap<Variable, SecretRef>,
    pub resources: Option<Resources>,
    #[schemars(extend("x-targets" = ["eks", "ecs"]))]
    pub replicas: Option<u32>,
    #[schemars(extend("x-targets" = ["eks", "ecs"]))]
    pub autoscale: Option<Autoscale>,
    #[schemars(extend("x-targets" = ["eks", "ecs"]))]
    pub expose: Option<Expose>,
    pub deploy: Option<Deploy>,
    /// Deploy versions that are not releases here too. By default only the first environment takes
    /// them.
    pub snapshots: Option<bool>,
}
