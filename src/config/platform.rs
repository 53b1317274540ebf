//! platform.yaml as it is written: where things live, once for the organisation.

use std::fmt;
use std::num::NonZeroU32;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::values::{AccountId, BranchPattern, Days, Endpoint, Name, Span, TagPattern};

/// Where the organisation's services live: read from platform.yaml.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "platform.yaml")]
pub struct Platform {
    pub registry: Registry,
    /// Where deploys to eks and ecs are locked and recorded.
    pub records: Option<Records>,
    #[serde(default)]
    pub environments: IndexMap<Name, Environment>,
}

/// The S3 bucket of the ledger: locks, history and the states to go back to. It is created when it is
/// missing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Records {
    pub bucket: String,
    pub region: String,
    /// The role that `report` reads the records of all services with: it only reads. Without it the SDK's
    /// default credentials are used.
    pub role: Option<String>,
}

/// The ECR registry all services push to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Registry {
    pub account: AccountId,
    pub region: String,
    /// What stands before the service's name in the repository's name: `clinicult/`.
    #[serde(default)]
    pub prefix: String,
    /// The role that pushes. Without it the credentials of the environment are used.
    pub role: Option<String>,
    /// Where the registry is reached instead of its own host name: a VPC endpoint or an emulator.
    /// Plain HTTP on loopback only.
    pub endpoint: Option<String>,
    /// The KMS key that repositories are encrypted with: its ARN, its id or an alias. It is set
    /// when they are created, for good. Without it, as the account does by default.
    pub kms_key: Option<String>,
    /// Tags that may be moved to another image all the same: those of build caches, or `latest` of
    /// another tool. At most five.
    #[serde(default, deserialize_with = "up_to_five")]
    #[schemars(length(max = 5))]
    pub mutable_tags: Vec<TagPattern>,
    /// When ECR removes images of repositories: releases never. `off`: it is not this program's
    /// business.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// AWS tags of repositories, beside `service` and `source`: who owns them, who pays.
    #[serde(default)]
    pub tags: IndexMap<String, String>,
}

/// When ECR removes images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    Off,
    Keep(Keep),
}

/// How much is kept of what is no release.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Keep {
    /// The newest of each kind of snapshot.
    pub snapshots: NonZeroU32,
    /// The tags that snapshots have, each a kind of its own: the names of the branches that they
    /// are made from.
    pub snapshot_tags: Vec<TagPattern>,
    /// How long an image without any tag stays: what the scan gate stopped, for one.
    pub untagged: Days,
}

impl Default for Keep {
    fn default() -> Self {
        let pattern =
            |text: &str| TagPattern::try_from(text.to_string()).expect("a constant pattern");
        Keep {
            snapshots: const { NonZeroU32::new(100).expect("not zero") },
            snapshot_tags: vec![pattern("*-main.*"), pattern("*-master.*")],
            untagged: Days(14),
        }
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Lifecycle::Keep(Keep::default())
    }
}

/// By hand, as an untagged enum would say of a misspelt key only that nothing matches.
impl<'de> Deserialize<'de> for Lifecycle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OffOrKeep;
        impl<'de> Visitor<'de> for OffOrKeep {
            type Value = Lifecycle;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off` or a map like `{snapshots: 100, untagged: 14d}`")
            }
            fn visit_bool<E: Error>(self, on: bool) -> Result<Lifecycle, E> {
                if on {
                    Err(E::invalid_type(serde::de::Unexpected::Bool(on), &self))
                } else {
                    Ok(Lifecycle::Off)
                }
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Lifecycle, E> {
                if text == "off" {
                    Ok(Lifecycle::Off)
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(text), &self))
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Lifecycle, A::Error> {
                Keep::deserialize(MapAccessDeserializer::new(map)).map(Lifecycle::Keep)
            }
        }
        deserializer.deserialize_any(OffOrKeep)
    }
}

impl JsonSchema for Lifecycle {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Lifecycle".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let keep = generator.subschema_for::<Keep>();
        schemars::json_schema!({ "anyOf": [{ "enum": ["off", false] }, keep] })
    }
}

/// As many filters as ECR takes.
/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_PutImageTagMutability.html>
fn up_to_five<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TagPattern>, D::Error> {
    let patterns = Vec::deserialize(deserializer)?;
    match patterns.len() {
        0..=5 => Ok(patterns),
        many => {
            Err(D::Error::custom(format!("there are {many} patterns, and ECR takes at most five")))
        }
    }
}

impl Registry {
    /// The registry's host name, as images are addressed:
    /// `111122223333.dkr.ecr.eu-west-1.amazonaws.com`.
    ///
    /// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html>
    pub fn host(&self) -> String {
        let suffix =
            if self.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("{}.dkr.ecr.{}.{suffix}", self.account, self.region)
    }
}

/// One environment. Exactly one of `eks` and `ecs` belongs to its `target`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Environment {
    pub target: TargetName,
    pub region: String,
    /// The role that deploys. Without it the SDK's default credentials are used.
    pub role: Option<String>,
    /// The role that plans for a pull request: it only reads. Without it `role` is assumed,
    /// narrowed to what reads.
    pub plan_role: Option<String>,
    /// The branches whose runs in GitHub Actions may deploy here: names or patterns like `release/*`
    /// and `*.x`. A tag may where its commit is on one of them. Without it, the default branch.
    #[serde(default)]
    pub branches: Vec<BranchPattern>,
    /// Each pull request has an environment of its own beside this one: `preview-12`. It is removed
    /// when the pull request is closed, and when it is over.
    pub preview: Option<Preview>,
    /// The environment that an image has to be good in before it is deployed here.
    pub after: Option<Name>,
    pub eks: Option<Eks>,
    pub ecs: Option<Ecs>,
    pub api_gateway: Option<ApiGateway>,
}

/// Environments of pull requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Preview {
    /// How long one stays after its last deploy.
    pub expires: Span,
}

impl Default for Preview {
    fn default() -> Self {
        Preview { expires: Span(std::time::Duration::from_secs(72 * 60 * 60)) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TargetName {
    Eks,
    Ecs,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Eks {
    pub cluster: String,
    pub namespace: Name,
    /// Where the API server is reached, instead of what DescribeCluster says (a tunnel to a private
    /// cluster). Plain HTTP on loopback only.
    pub endpoint: Option<Endpoint>,
    /// The API server's CA as a PEM file, instead of what DescribeCluster says.
    pub ca: Option<std::path::PathBuf>,
    /// An HTTP proxy to the API server.
    pub proxy: Option<String>,
    /// The class of the Ingress, where the cluster has no default one.
    pub ingress_class: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ecs {
    pub cluster: String,
    #[serde(default)]
    pub launch: Launch,
    pub subnets: Vec<String>,
    pub security_groups: Vec<String>,
    /// Lets ECS pull the image, read the secrets and write the logs. Empty: none.
    #[serde(default)]
    pub execution_role: String,
    /// What the service itself may do. Empty: nothing.
    #[serde(default)]
    pub task_role: String,
    /// How tasks of `processes` with a `schedule` are started.
    pub scheduler: Option<Scheduler>,
    /// The listener of the (internal) load balancer that exposed services are attached to, by its
    /// ARN.
    pub listener: Option<String>,
}

/// How EventBridge Scheduler starts tasks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scheduler {
    /// The role by which it does. It trusts scheduler.amazonaws.com, and may run tasks and pass them
    /// their roles.
    pub role: String,
    /// The SQS queue, by its ARN, that a start is noted in that was given up.
    pub dead_letter: Option<String>,
    /// How often a start that failed is tried again: at most 185 times.
    #[serde(default = "three")]
    #[schemars(range(max = 185))]
    pub retries: u32,
    /// How long after its time a start is still tried: from a minute to a day.
    #[serde(default = "one_hour")]
    pub max_age: Span,
}

fn three() -> u32 {
    3
}

fn one_hour() -> Span {
    Span(std::time::Duration::from_secs(3600))
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Launch {
    #[default]
    Fargate,
    Ec2,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ApiGateway {
    /// Name of the HTTP API that exposed services get a route in.
    pub name: String,
    /// The name in the certificate of an HTTPS listener: API Gateway checks it.
    pub server_name: Option<String>,
    /// Who lets a request to an exposed service through. Without it, everybody is let through.
    pub authorizer: Option<Authorizer>,
}

/// The authorizer of the routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Authorizer {
    /// A request needs a token that this issuer signed for one of the audiences.
    Jwt { issuer: String, audience: Vec<String> },
    /// A Lambda function answers `{"isAuthorized": true}` (payload format 2.0).
    Lambda {
        /// The function's ARN.
        function: String,
        /// The role by which API Gateway calls it, where the function's own policy does not say so.
        role: Option<String>,
    },
}
