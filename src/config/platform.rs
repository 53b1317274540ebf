//! platform.yaml as it is written: where things live, once for the organisation.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{AccountId, Name};

/// Where the organisation's services live: read from platform.yaml.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "platform.yaml")]
pub struct Platform {
    pub registry: Registry,
    #[serde(default)]
    pub environments: IndexMap<Name, Environment>,
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
    /// Where the registry is reached instead of its own host name: a VPC endpoint or an emulator. Plain HTTP on loopback only.
    pub endpoint: Option<String>,
}

impl Registry {
    /// The registry's host name, as images are addressed: `111122223333.dkr.ecr.eu-west-1.amazonaws.com`.
    ///
    /// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html>
    pub fn host(&self) -> String {
        let suffix = if self.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
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
    pub eks: Option<Eks>,
    pub ecs: Option<Ecs>,
    pub api_gateway: Option<ApiGateway>,
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
    /// Where the API server is reached, instead of what DescribeCluster says (a tunnel to a private cluster).
    pub endpoint: Option<String>,
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
    /// The listener of the (internal) load balancer that exposed services are attached to, by its ARN.
    pub listener: Option<String>,
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
}
