//! What service.yaml and platform.yaml mean for one environment. Pure: no file, no clock, no
//! network.

use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;

use super::platform::{self, Platform, TargetName};
use super::service::{self, Autoscale, Expose, ModeName, Service, Storage};
use super::strategy::Strategy;
use super::values::{BranchPattern, Cpu, Memory, Name, SecretRef, Variable};
use super::yaml::nearest;
use crate::error::{Error, Result};

/// The environment that every service has: the Docker engine of this machine.
pub const LOCAL: &str = "local";

/// One service in one environment, with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub name: String,
    pub port: u16,
    pub health: Health,
    pub mode: Mode,
    /// Everything but the mode variable and the buckets: plain values, in the order of the file.
    pub env: IndexMap<String, String>,
    pub secrets: IndexMap<String, SecretRef>,
    pub cpu: Cpu,
    pub memory: Memory,
    pub replicas: Replicas,
    /// `linux/amd64`, `linux/arm64`: what the image is built for.
    pub platforms: Vec<String>,
    pub before_deploy: Option<Vec<String>>,
    /// Whether what `before_deploy` does cannot be taken back.
    pub irreversible: bool,
    pub processes: Vec<Process>,
    pub strategy: Strategy,
    pub storage: Vec<Storage>,
    pub expose: Option<Expose>,
    /// Relative to the folder of service.yaml.
    pub manifests: Vec<PathBuf>,
    pub environment: String,
    /// What the files call both: a preview has names of its own, and the image and the buckets of
    /// these.
    pub owner: Owner,
    /// Whether this environment takes versions that are not releases.
    pub snapshots: bool,
}

/// A service and an environment as the files name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub service: String,
    pub environment: String,
}

/// An environment that each pull request has one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preview {
    /// How long it stays after its last deploy.
    pub expires: Duration,
    /// The pull request; `None` for what they have in common.
    pub number: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub path: String,
    pub startup: Duration,
    /// So long a new version has to stay healthy before the old one goes.
    pub stable: Duration,
}

/// A process of the service beside the one that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub name: String,
    pub command: Vec<String>,
    pub runs: Runs,
}

/// When a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runs {
    Always {
        replicas: u32,
    },
    /// By cron, in UTC without a time zone.
    Scheduled {
        schedule: String,
        timezone: Option<String>,
    },
}

/// The mode variable and the value it has in this environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mode {
    pub name: ModeName,
    pub variable: String,
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replicas {
    /// service.yaml names no count: one, and on ECS what others scaled a live service to.
    Unset,
    Fixed(u32),
    Auto(Autoscale),
}

impl Replicas {
    /// The count to run; `None` with an autoscaler.
    pub fn count(self) -> Option<u32> {
        match self {
            Replicas::Unset => Some(1),
            Replicas::Fixed(count) => Some(count),
            Replicas::Auto(_) => None,
        }
    }
}

/// Where an environment's workloads run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The Docker engine of this machine.
    Local,
    Eks(platform::Eks),
    Ecs {
        ecs: platform::Ecs,
        api_gateway: Option<platform::ApiGateway>,
    },
}

impl Target {
    pub fn name(&self) -> &'static str {
        match self {
            Target::Local => "local",
            Target::Eks(_) => "eks",
            Target::Ecs { .. } => "ecs",
        }
    }
}

/// An environment of the platform, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub target: Target,
    /// Empty for [`Target::Local`].
    pub region: String,
    pub role: Option<String>,
    /// The role that plans for a pull request, in place of the other one.
    pub plan_role: Option<String>,
    /// The branches that may deploy here; empty for the default branch.
    pub branches: Vec<BranchPattern>,
    /// Whether pull requests have environments of their own beside it.
    pub preview: Option<Preview>,
    /// The environment that an image has to be good in before.
    pub after: Option<String>,
    /// The ECR registry images come from; none for [`Target::Local`].
    pub registry: Option<platform::Registry>,
    /// The AWS account of the environment, which need not be the registry's: that of the role, until
    /// STS is asked. None for [`Target::Local`].
    pub account: Option<String>,
}

impl Settings {
    /// The container's plain environment: what service.yaml says, the mode variable, and the bucket
    /// names `bucket` gives.
    pub fn container_env(
        &self,
        bucket: impl Fn(&Storage) -> Option<String>,
    ) -> IndexMap<String, String> {
        let mut env = self.env.clone();
        env.insert(self.mode.variable.clone(), self.mode.value.clone());
        for storage in &self.storage {
            if let Some(bucket) = bucket(storage) {
                env.insert(storage.env.to_string(), bucket);
            }
        }
        env
    }
}

/// The processes as they are run.
fn resolve_processes(service: &Service) -> Result<Vec<Process>> {
    let resolve = |(name, process): (&Name, &service::Process)| {
        let service::Process { command, replicas, schedule, timezone } = process;
        let wrong = |why: &str, fix: &str| {
            Err(Error::input(format!("cannot run `processes.{name}`: {why}")).fix(fix))
        };
        if command.is_empty() {
            return wrong("its command is empty", "write `command: [program, argument]`");
        }
        if name.as_str() == "before-deploy" {
            return wrong("the migration is called so", "give it another name");
        }
        // A CronJob adds eleven characters to its Jobs' names.
        if service.name.as_str().len() + name.as_str().len() > 50 {
            return wrong("with the service's name it is longer than 51 characters", "shorten one");
        }
        let runs = match (replicas, schedule, timezone) {
            (Some(_), Some(_), _) => {
                return wrong("it has `replicas` and `schedule`", "write one of the two");
            }
            (_, None, Some(_)) => {
                return wrong(
                    "it has a `timezone` and no `schedule`",
                    "write `schedule: 0 3 * * *`",
                );
            }
            (Some(replicas), ..) if *replicas > MOST_REPLICAS => {
                return wrong(
                    &format!("{replicas} replicas are more than {MOST_REPLICAS}"),
                    "replicas: 2",
                );
            }
            (None, Some(schedule), timezone) => {
                Runs::Scheduled { schedule: schedule.clone(), timezone: timezone.clone() }
            }
            (replicas, None, None) => Runs::Always { replicas: replicas.unwrap_or(1) },
        };
        Ok(Process { name: name.to_string(), command: command.clone(), runs })
    };
    service.processes.iter().map(resolve).collect()
}

/// A canary and a process may not be called the same.
fn refuse_canary_twice(service: &Service, strategy: &Strategy) -> Result<()> {
    let is_canary = matches!(strategy, Strategy::Canary(_));
    match service.processes.keys().find(|name| is_canary && name.as_str() == "canary") {
        None => Ok(()),
        Some(name) => Err(Error::input(format!("cannot run `processes.{name}`"))
            .why("the copies of a new version are called so, by `deploy.strategy`")
            .fix("give it another name")),
    }
}

/// The repository a service is pushed to, without the registry's host: `clinicult/patients`.
pub fn repository(registry: &platform::Registry, service: &str) -> String {
    format!("{}{service}", registry.prefix)
}

/// Resolves one environment of a service.
///
/// # Errors
/// Bad input when service.yaml contradicts itself.
pub fn resolve(service: &Service, environment: &str) -> Result<Settings> {
    let overlay = service.environments.iter().find(|(name, _)| name.as_str() == environment);
    let position = service.environments.keys().position(|name| name.as_str() == environment);
    let first = service.environments.keys().position(|name| name.as_str() != LOCAL);
    let overlay = overlay.map(|(_, overlay)| overlay.clone()).unwrap_or_default();

    let mode = overlay.mode.unwrap_or_default();
    let value = match mode {
        ModeName::Debug => &service.mode.debug,
        ModeName::Production => &service.mode.production,
    };
    let env = merged(&service.env, &overlay.env);
    let secrets = merged(&service.secrets, &overlay.secrets);

    let replicas = match (overlay.replicas, overlay.autoscale, service.replicas, service.autoscale)
    {
        (Some(_), Some(_), _, _) => return Err(both(&format!("environments.{environment}"))),
        (None, None, Some(_), Some(_)) => return Err(both("service.yaml")),
        (Some(count), None, _, _) | (None, None, Some(count), None) => Replicas::Fixed(count),
        (None, Some(auto), _, _) | (None, None, None, Some(auto)) => Replicas::Auto(auto),
        (None, None, None, None) => Replicas::Unset,
    };
    if let Replicas::Auto(auto) = replicas
        && (auto.min == 0 || auto.min > auto.max || auto.cpu == 0 || auto.cpu > 100)
    {
        return Err(Error::input(format!(
            "cannot use autoscale {{min: {}, max: {}, cpu: {}}}: it makes no sense",
            auto.min, auto.max, auto.cpu
        ))
        .fix("write 0 < min ≤ max, and cpu as a percentage from 1 to 100"));
    }
    refuse_contradictions(service, &env, &secrets)?;
    refuse_nonsense(service, &env, replicas)?;

    let strategy = overlay.deploy.as_ref().unwrap_or(&service.deploy).strategy.clone();
    strategy.refuse_nonsense()?;
    refuse_canary_twice(service, &strategy)?;
    let resources = overlay.resources.unwrap_or(service.resources);
    Ok(Settings {
        name: service.name.to_string(),
        port: service.port.get(),
        health: Health {
            path: service.health.path.to_string(),
            startup: service.health.startup.0,
            stable: service.health.stable.0,
        },
        mode: Mode {
            name: mode,
            variable: service.mode.variable.to_string(),
            value: value.clone(),
        },
        env,
        secrets,
        cpu: resources.cpu,
        memory: resources.memory,
        replicas,
        platforms: service.image.platforms.iter().map(ToString::to_string).collect(),
        before_deploy: service.before_deploy.as_ref().map(|before| before.command.clone()),
        irreversible: service.before_deploy.as_ref().is_some_and(|before| before.irreversible),
        processes: resolve_processes(service)?,
        strategy,
        storage: service.storage.clone(),
        expose: overlay.expose.or_else(|| service.expose.clone()),
        manifests: service.manifests.clone(),
        environment: environment.to_string(),
        owner: Owner { service: service.name.to_string(), environment: environment.to_string() },
        snapshots: overlay
            .snapshots
            .unwrap_or(environment == LOCAL || position.is_some() && position == first),
    })
}

/// Both maps; where a key stands in both, the second one's value.
fn merged<V: Clone>(
    base: &IndexMap<Variable, V>,
    over: &IndexMap<Variable, V>,
) -> IndexMap<String, V> {
    base.iter().chain(over).map(|(key, value)| (key.to_string(), value.clone())).collect()
}

fn both(place: &str) -> Error {
    Error::input(format!("cannot use both `replicas` and `autoscale` in {place}"))
        .fix("keep one of them")
}

/// The most copies that anybody means: a larger number is a mistake, and the platforms refuse it in
/// their own words later.
const MOST_REPLICAS: u32 = 10_000;

/// What is well formed, and cannot work.
fn refuse_nonsense(
    service: &Service,
    env: &IndexMap<String, String>,
    replicas: Replicas,
) -> Result<()> {
    let wrong = |key: &str, why: String, fix: &str| {
        Err(Error::input(format!("cannot use {key}: {why}")).fix(fix))
    };
    if let Replicas::Fixed(count) | Replicas::Auto(Autoscale { max: count, .. }) = replicas
        && count > MOST_REPLICAS
    {
        let why = format!("{count} replicas are more than {MOST_REPLICAS}");
        return wrong("`replicas`", why, "write a smaller number: replicas: 2");
    }
    if service.health.startup.0.is_zero() {
        let fix = "write one: health: {startup: 60s}";
        return wrong("health.startup", "it is no time at all".into(), fix);
    }
    let mode = &service.mode;
    if mode.debug == mode.production || mode.debug.is_empty() || mode.production.is_empty() {
        return wrong(
            "`mode`",
            format!(
                "debug is `{}` and production `{}`, and the service could not tell them apart",
                mode.debug, mode.production
            ),
            "write two values: mode: {debug: debug, production: production}",
        );
    }
    if service.before_deploy.as_ref().is_some_and(|before| before.command.is_empty()) {
        return wrong(
            "before-deploy.command",
            "it is empty".into(),
            "write one, or remove it: before-deploy: {command: [alembic, upgrade, head]}",
        );
    }
    let platforms = &service.image.platforms;
    if platforms.is_empty()
        || platforms.iter().enumerate().any(|(at, one)| platforms[..at].contains(one))
    {
        return wrong(
            "image.platforms",
            "it is empty or names one twice".into(),
            "name each once: image: {platforms: [linux/amd64]}",
        );
    }
    for (at, storage) in service.storage.iter().enumerate() {
        if service.storage[..at]
            .iter()
            .any(|other| other.name == storage.name || other.env == storage.env)
        {
            return wrong(
                "`storage`",
                format!("it has `{}` or `{}` twice", storage.name, storage.env),
                "give each bucket a name and a variable of its own",
            );
        }
    }
    refuse_contract(service)?;
    if let Some(variable) =
        env.iter().find(|(_, value)| value.contains('\0')).map(|(variable, _)| variable)
    {
        return wrong(
            &format!("env.{variable}"),
            "it has a NUL in it, which no environment can hold".into(),
            "remove it",
        );
    }
    if let Err(error) = semver::Version::parse(&service.version.initial) {
        return wrong(
            "version.initial",
            format!("`{}` is not a semantic version: {error}", service.version.initial),
            "write one: version: {initial: 0.1.0}",
        );
    }
    Ok(())
}

/// Measures that no image could keep, and stand-ins for what needs none.
fn refuse_contract(service: &Service) -> Result<()> {
    let contract = &service.contract;
    if contract.stop.0.is_zero() {
        return Err(Error::input("cannot use contract.stop: it is no time at all")
            .fix("write one: contract: {stop: 10s}"));
    }
    let overlays = service.environments.values().flat_map(|overlay| overlay.secrets.keys());
    let secrets: Vec<&str> = service.secrets.keys().chain(overlays).map(Variable::as_str).collect();
    let stands_in = |variable: &str| {
        secrets.contains(&variable)
            || service.storage.iter().any(|storage| storage.env.as_str() == variable)
    };
    match contract.env.keys().find(|variable| !stands_in(variable.as_str())) {
        Some(variable) => Err(Error::input(format!(
            "cannot use contract.env.{variable}: neither `secrets` nor `storage` has {variable}"
        ))
        .fix(format!("write `{variable}` into `env`, or add it to `secrets`"))),
        None => Ok(()),
    }
}

/// A variable has one source. Two would leave it to chance which one the container sees.
fn refuse_contradictions(
    service: &Service,
    env: &IndexMap<String, String>,
    secrets: &IndexMap<String, SecretRef>,
) -> Result<()> {
    let mode = service.mode.variable.as_str();
    let buckets = service.storage.iter().map(|storage| (storage.env.as_str(), "storage"));
    for (variable, owner) in std::iter::once((mode, "mode.variable")).chain(buckets) {
        if env.contains_key(variable) || secrets.contains_key(variable) {
            return Err(Error::input(format!(
                "cannot set `{variable}` twice: by `{owner}`, and in `env` or `secrets`"
            ))
            .fix(format!("remove `{variable}` from `env` and `secrets`")));
        }
    }
    if let Some(variable) = env.keys().find(|variable| secrets.contains_key(*variable)) {
        return Err(Error::input(format!("cannot set `{variable}` twice: in `env` and `secrets`"))
            .fix("keep one of them"));
    }
    Ok(())
}

/// Finds where `environment` lives. `local` needs no platform.
///
/// # Errors
/// Bad input when the platform has no such environment or leaves out what its target needs.
pub fn destination(platform: Option<&Platform>, environment: &str) -> Result<Destination> {
    if environment == LOCAL {
        return Ok(Destination {
            target: Target::Local,
            region: String::new(),
            role: None,
            plan_role: None,
            branches: Vec::new(),
            preview: None,
            after: None,
            registry: None,
            account: None,
        });
    }
    let platform = platform.ok_or_else(|| {
        Error::input(format!("cannot find environment `{environment}`: there is no platform.yaml"))
            .fix("name it with --platform FILE, or use --environment local")
    })?;
    let found = platform.environments.iter().find(|(name, _)| name.as_str() == environment);
    let Some((_, found)) = found else {
        let known: Vec<&str> = platform.environments.keys().map(|name| name.as_str()).collect();
        let near = nearest(environment, &known).map(|near| format!("did you mean `{near}`? "));
        return Err(Error::input(format!(
            "cannot find environment `{environment}` in platform.yaml"
        ))
        .fix(format!("{}it has: {}", near.unwrap_or_default(), known.join(", "))));
    };
    let region = found.region.as_str();
    if region.is_empty()
        || !region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Err(Error::input(format!(
            "cannot use environments.{environment}.region: `{region}` is no AWS region"
        ))
        .fix("write one: region: eu-west-1"));
    }
    for (key, role) in [("role", &found.role), ("plan-role", &found.plan_role)] {
        let is_arn = |role: &String| role.starts_with("arn:") && role.contains(":role/");
        if let Some(role) = role.as_ref().filter(|role| !is_arn(role)) {
            return Err(Error::input(format!(
                "cannot use environments.{environment}.{key}: `{role}` is not the ARN of a role"
            ))
            .fix(format!("write one: {key}: arn:aws:iam::111122223333:role/cicd-staging")));
        }
    }
    let lacks = |key: &str| {
        Error::input(format!(
            "cannot use environment `{environment}`: it has target `{key}` and no `{key}:`"
        ))
        .fix(format!("add `{key}: {{cluster: …}}` to environments.{environment} in platform.yaml"))
    };
    let target = match found.target {
        TargetName::Eks => Target::Eks(found.eks.clone().ok_or_else(|| lacks("eks"))?),
        TargetName::Ecs => Target::Ecs {
            ecs: found.ecs.clone().ok_or_else(|| lacks("ecs"))?,
            api_gateway: found.api_gateway.clone(),
        },
    };
    Ok(Destination {
        target,
        region: found.region.clone(),
        role: found.role.clone(),
        plan_role: found.plan_role.clone(),
        branches: found.branches.clone(),
        preview: found.preview.map(|preview| Preview { expires: preview.expires.0, number: None }),
        after: found_after(platform, environment, found.after.as_ref())?,
        registry: Some(platform.registry.clone()),
        account: Some(account_of(platform, found)),
    })
}

/// The account that platform.yaml gives an environment: that of its role, else the registry's.
fn account_of(platform: &Platform, found: &platform::Environment) -> String {
    let of_role = found.role.as_deref().and_then(|role| role.split(':').nth(4));
    of_role.map_or_else(|| platform.registry.account.to_string(), str::to_string)
}

/// The environment that comes before: another one of the platform.
fn found_after(
    platform: &Platform,
    environment: &str,
    after: Option<&Name>,
) -> Result<Option<String>> {
    let Some(after) = after else { return Ok(None) };
    if after.as_str() != environment && platform.environments.contains_key(after) {
        return Ok(Some(after.to_string()));
    }
    let known = platform.environments.keys().map(|name| name.as_str());
    let others: Vec<&str> = known.filter(|name| *name != environment).collect();
    Err(Error::input(format!(
        "cannot use environments.{environment}.after: `{after}` is no other environment"
    ))
    .fix(format!("name one of: {}", others.join(", "))))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::yaml::parse;

    fn service(text: &str) -> Service {
        parse(&format!("name: patients\nport: 8000\n{text}"), Path::new("service.yaml"))
            .expect("a service")
    }

    #[test]
    fn an_overlay_wins_over_the_service() {
        let service = service(
            "env: {LOG_LEVEL: info, WORKERS: '2'}\nreplicas: 2\n\
             environments:\n  staging: {mode: debug, env: {LOG_LEVEL: debug}}\n  production: {autoscale: {min: 2, max: 4, cpu: 70}}\n",
        );
        let staging = resolve(&service, "staging").expect("staging");
        assert_eq!(staging.mode.value, "debug");
        assert_eq!(staging.env.get("LOG_LEVEL").map(String::as_str), Some("debug"));
        assert_eq!(staging.env.get("WORKERS").map(String::as_str), Some("2"));
        assert_eq!(staging.replicas, Replicas::Fixed(2));
        assert!(staging.snapshots, "the first environment takes snapshots");
        let production = resolve(&service, "production").expect("production");
        assert_eq!(production.mode.value, "production");
        assert_eq!(production.replicas, Replicas::Auto(Autoscale { min: 2, max: 4, cpu: 70 }));
        assert!(!production.snapshots);
        assert_eq!(resolve(&service, LOCAL).expect("local").mode.value, "production");
    }

    #[test]
    fn contradictions_are_refused() {
        let cases = [
            (
                "replicas: 2\nautoscale: {min: 1, max: 2, cpu: 50}\n",
                "both `replicas` and `autoscale`",
            ),
            ("autoscale: {min: 3, max: 2, cpu: 50}\n", "makes no sense"),
            ("autoscale: {min: 0, max: 2, cpu: 50}\n", "makes no sense"),
            ("env: {APP_MODE: debug}\n", "twice: by `mode.variable`"),
            ("env: {B: x}\nstorage: [{name: history, env: B}]\n", "twice: by `storage`"),
            ("env: {A: x}\nsecrets: {A: 'ssm:/a'}\n", "twice: in `env` and `secrets`"),
            ("replicas: 4294967295\n", "more than 10000"),
            ("health: {startup: 0s}\n", "no time at all"),
            ("mode: {debug: a, production: a}\n", "could not tell them apart"),
            ("mode: {debug: ''}\n", "could not tell them apart"),
            ("before-deploy: {command: []}\n", "before-deploy.command: it is empty"),
            ("deploy: {strategy: {canary: {steps: []}}}\n", "canary.steps: []"),
            (
                "deploy: {strategy: {canary: {}}}\nprocesses: {canary: {command: [x]}}\n",
                "`processes.canary`",
            ),
            ("image: {platforms: []}\n", "image.platforms"),
            ("image: {platforms: [linux/amd64, linux/amd64]}\n", "image.platforms"),
            ("storage: [{name: a, env: A}, {name: b, env: A}]\n", "twice"),
            ("storage: [{name: a, env: A}, {name: a, env: B}]\n", "twice"),
            ("env: {A: \"x\\0y\"}\n", "NUL"),
            ("version: {initial: banana}\n", "not a semantic version"),
            ("contract: {stop: 0s}\n", "contract.stop: it is no time"),
            ("env: {A: x}\ncontract: {env: {A: y}}\n", "neither `secrets` nor `storage` has A"),
        ];
        for (text, expected) in cases {
            let error = resolve(&service(text), "staging").expect_err(text);
            assert!(error.message.contains(expected), "{text}: {error}");
            assert!(!error.fixes.is_empty(), "{text}");
        }
    }

    #[test]
    fn an_unknown_environment_is_named_with_its_nearest() {
        let text = "registry: {account: \"111122223333\", region: eu-west-1}\nenvironments:\n  staging: {target: eks, region: eu-west-1}\n";
        let platform: Platform = parse(text, Path::new("platform.yaml")).expect("a platform");
        let cases = [
            ("stagign", "did you mean `staging`? it has: staging"),
            ("production", "it has: staging"),
            ("staging", "add `eks: {cluster: …}` to environments.staging in platform.yaml"),
        ];
        for (environment, fix) in cases {
            let error = destination(Some(&platform), environment).expect_err(environment);
            assert_eq!(error.advice(), fix);
        }
        for (from, to) in [
            ("region: x", "region: 'not a region/../'"),
            ("region: x", "region: eu-west-1, role: banana"),
        ] {
            let text = text
                .replace("target: eks, region: eu-west-1", "target: eks, region: x")
                .replace(from, to);
            let platform: Platform = parse(&text, Path::new("platform.yaml")).expect("a platform");
            assert!(
                destination(Some(&platform), "staging")
                    .expect_err(to)
                    .message
                    .contains("environments.staging."),
                "{to}"
            );
        }
        assert_eq!(destination(None, LOCAL).expect("local").target, Target::Local);
        assert!(destination(None, "staging").is_err());
    }
}
