//! Settings and an image → the task definition, and what differs from the one that runs. Pure.
//!
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_definition_parameters.html>

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::platform::{Ecs, Launch};
use crate::config::settings::Settings;
use crate::config::values::SecretRef;
use crate::deploy::diff::compare_documents;
use crate::deploy::{Order, short_name, storage};
use crate::error::{Error, Result};

/// How long a container has between SIGTERM and SIGKILL, in seconds.
const STOP_TIMEOUT: i32 = 30;

/// Fargate's sizes: CPU units → MiB of memory. The API takes no others.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html#fargate-tasks-size>
fn fargate_memory(cpu: u32) -> Vec<u32> {
    let steps = |from: u32, to: u32, by: u32| {
        (from..=to).step_by(by as usize).map(|gigabytes| gigabytes * 1024).collect()
    };
    match cpu {
        256 => vec![512, 1024, 2048],
        512 => steps(1, 4, 1),
        1024 => steps(2, 8, 1),
        2048 => steps(4, 16, 1),
        4096 => steps(8, 30, 1),
        8192 => steps(16, 60, 4),
        16384 => steps(32, 120, 8),
        _ => vec![],
    }
}

const FARGATE_CPU: [u32; 7] = [256, 512, 1024, 2048, 4096, 8192, 16384];

/// What one version of the service is, in ECS's terms. Only what we set: two that are equal run the
/// same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TaskDefinition {
    pub family: String,
    pub image: String,
    pub port: u16,
    /// CPU units: 1024 are one core.
    pub cpu: u32,
    /// MiB
    pub memory: u32,
    pub launch: String,
    pub architecture: String,
    pub execution_role: String,
    pub task_role: String,
    pub env: BTreeMap<String, String>,
    /// Variable → the ARN that ECS reads the value from.
    pub secrets: BTreeMap<String, String>,
    /// Without an execution role nothing may write logs.
    pub log_group: Option<String>,
    pub stop_timeout: i32,
}

/// The name of the family, and of the service.
pub fn service_name(order: &Order) -> String {
    short_name(&order.settings.name, 255)
}

/// Makes the task definition.
///
/// # Errors
/// Bad input for what ECS cannot run: a size that Fargate does not have, a Kubernetes secret, two
/// architectures.
pub fn render_definition(order: &Order, ecs: &Ecs) -> Result<TaskDefinition> {
    let settings = &order.settings;
    let (cpu, memory) = match ecs.launch {
        Launch::Fargate => fargate_size(settings.cpu.millicores, settings.memory.mebibytes)?,
        Launch::Ec2 => (units(settings.cpu.millicores), settings.memory.mebibytes),
    };
    let env = settings.container_env(|storage| Some(storage::bucket_name(order, storage)));
    let mut secrets = BTreeMap::new();
    for (variable, secret) in &settings.secrets {
        secrets.insert(variable.clone(), secret_arn(order, variable, secret)?);
    }
    if !secrets.is_empty() && ecs.execution_role.is_empty() {
        return Err(Error::input(
            "ECS reads secrets by the execution role, and platform.yaml names none",
        )
        .fix(format!(
            "set environments.{}.ecs.execution-role in platform.yaml",
            settings.environment
        )));
    }
    Ok(TaskDefinition {
        family: service_name(order),
        image: order.image.reference(),
        port: settings.port,
        cpu,
        memory,
        launch: match ecs.launch {
            Launch::Fargate => "FARGATE".into(),
            Launch::Ec2 => "EC2".into(),
        },
        architecture: architecture(&settings.platforms)?,
        execution_role: ecs.execution_role.clone(),
        task_role: ecs.task_role.clone(),
        env: env.into_iter().collect(),
        secrets,
        log_group: (!ecs.execution_role.is_empty()).then(|| format!("/ecs/{}", ecs.cluster)),
        stop_timeout: STOP_TIMEOUT,
    })
}

fn units(millicores: u32) -> u32 {
    (u64::from(millicores) * 1024).div_ceil(1000).try_into().unwrap_or(u32::MAX)
}

/// The smallest size of Fargate that has at least this much of both.
fn fargate_size(millicores: u32, mebibytes: u32) -> Result<(u32, u32)> {
    // 250m is what people write for a quarter of a core, which is 256 units.
    for cpu in FARGATE_CPU.into_iter().filter(|cpu| *cpu >= units(millicores)) {
        if let Some(memory) = fargate_memory(cpu).into_iter().find(|memory| *memory >= mebibytes) {
            return Ok((cpu, memory));
        }
    }
    Err(Error::input(format!(
        "resources {{cpu: {millicores}m, memory: {mebibytes}Mi}} is more than a Fargate task can have"
    ))
    .fix("at most cpu: 16 and memory: 120Gi; for more use launch: ec2 in platform.yaml"))
}

/// What is said when a task gets more than service.yaml asks for.
pub fn describe_rounding(settings: &Settings, definition: &TaskDefinition) -> Option<String> {
    let (cpu, memory) = (settings.cpu.millicores, settings.memory.mebibytes);
    let more = definition.cpu > units(cpu) || definition.memory > memory;
    more.then(|| {
        format!(
            "{cpu}m and {memory}Mi are rounded up to a size that Fargate has: {} CPU units and {} \
             MiB",
            definition.cpu, definition.memory
        )
    })
}

fn architecture(platforms: &[String]) -> Result<String> {
    match platforms {
        [one] if one == "linux/arm64" => Ok("ARM64".into()),
        // An image for both runs on either; x86 is what clusters have without being asked.
        platforms if platforms.iter().any(|platform| platform == "linux/amd64") => {
            Ok("X86_64".into())
        }
        _ => Err(Error::input("image.platforms is empty").fix("platforms: [linux/amd64]")),
    }
}

/// The part of AWS that a region belongs to.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>
fn partition(region: &str) -> &'static str {
    match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html>
fn secret_arn(order: &Order, variable: &str, secret: &SecretRef) -> Result<String> {
    let region = &order.destination.region;
    let partition = partition(region);
    let account =
        order.destination.registry.as_ref().map_or("", |registry| registry.account.as_str());
    match secret {
        // ARNs of secrets end with six letters that only AWS knows; ECS takes them without.
        SecretRef::SecretsManager { name, key } => {
            let key = key.as_ref().map(|key| format!(":{key}::")).unwrap_or_default();
            Ok(format!("arn:{partition}:secretsmanager:{region}:{account}:secret:{name}{key}"))
        }
        SecretRef::Ssm { path } => {
            Ok(format!("arn:{partition}:ssm:{region}:{account}:parameter{path}"))
        }
        SecretRef::Kubernetes { .. } => Err(Error::input(format!(
            "secrets.{variable} is `{secret}`, and {} is on ECS",
            order.settings.environment
        ))
        .fix("name it as secretsmanager:NAME#KEY or ssm:/PATH for this environment")),
    }
}

/// What differs, a line each, with values shown only where they are no secret.
pub fn differences(before: &TaskDefinition, after: &TaskDefinition) -> Vec<String> {
    let document = |definition| serde_json::to_value(definition).unwrap_or_default();
    compare_documents(&document(before), &document(after), &[])
}

/// What stands behind the last slash of an ARN.
pub fn last_part(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// The revision at the end of a task definition's ARN.
pub fn revision_of(arn: &str) -> String {
    arn.rsplit(':').next().unwrap_or(arn).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fargate_sizes_are_rounded_up_to_one_that_exists() {
        let cases = [
            (250, 512, Some((256, 512))),
            (250, 513, Some((256, 1024))),
            (256, 512, Some((512, 1024))),
            (250, 2048, Some((256, 2048))),
            (250, 2049, Some((512, 3072))),
            (250, 8192, Some((1024, 8192))),
            (1000, 512, Some((1024, 2048))),
            (4000, 30 * 1024, Some((4096, 30 * 1024))),
            (4000, 31 * 1024, Some((8192, 32 * 1024))),
            (8000, 17 * 1024, Some((8192, 20 * 1024))),
            (16000, 120 * 1024, Some((16384, 120 * 1024))),
            (16000, 121 * 1024, None),
            (17000, 512, None),
        ];
        for (cpu, memory, expected) in cases {
            assert_eq!(fargate_size(cpu, memory).ok(), expected, "{cpu}m {memory}Mi");
        }
    }

    #[test]
    fn secrets_become_arns() {
        let settings = |secret: &str| {
            let text = format!("name: patients\nport: 8000\nsecrets: {{S: '{secret}'}}\n");
            let service = serde_saphyr::from_str(&text).expect("a service");
            crate::config::settings::resolve(&service, "production").expect("settings")
        };
        let registry = "registry: {account: '111122223333', region: REGION}\nenvironments: {production: {target: ecs, region: REGION, \
                        ecs: {cluster: c, subnets: [s], security-groups: [g]}}}\n";
        let cases = [
            (
                "secretsmanager:p/db#url",
                "eu-west-1",
                Some("arn:aws:secretsmanager:eu-west-1:111122223333:secret:p/db:url::"),
            ),
            (
                "secretsmanager:p/db",
                "eu-west-1",
                Some("arn:aws:secretsmanager:eu-west-1:111122223333:secret:p/db"),
            ),
            ("ssm:/p/db", "eu-west-1", Some("arn:aws:ssm:eu-west-1:111122223333:parameter/p/db")),
            (
                "ssm:/p/db",
                "cn-north-1",
                Some("arn:aws-cn:ssm:cn-north-1:111122223333:parameter/p/db"),
            ),
            (
                "ssm:/p/db",
                "us-gov-west-1",
                Some("arn:aws-us-gov:ssm:us-gov-west-1:111122223333:parameter/p/db"),
            ),
            ("k8s:db/url", "eu-west-1", None),
        ];
        for (secret, region, expected) in cases {
            let platform =
                serde_saphyr::from_str(&registry.replace("REGION", region)).expect("a platform");
            let destination = crate::config::settings::destination(Some(&platform), "production")
                .expect("a place");
            let image = crate::deploy::Image {
                repository: "r".into(),
                digest: "d".into(),
                version: "1".into(),
            };
            let settings = settings(secret);
            let found = settings.secrets["S"].clone();
            let order = Order { settings, destination, image };
            assert_eq!(
                secret_arn(&order, "S", &found).ok().as_deref(),
                expected,
                "{secret} in {region}"
            );
        }
    }

    #[test]
    fn an_image_runs_on_an_architecture_it_has() {
        let of = |platforms: &[&str]| {
            architecture(&platforms.iter().map(ToString::to_string).collect::<Vec<_>>()).ok()
        };
        assert_eq!(of(&["linux/amd64"]).as_deref(), Some("X86_64"));
        assert_eq!(of(&["linux/arm64"]).as_deref(), Some("ARM64"));
        assert_eq!(of(&["linux/arm64", "linux/amd64"]).as_deref(), Some("X86_64"));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_plan_shows_no_secret() {
        let definition = |value: &str| TaskDefinition {
            env: [("API_TOKEN".to_string(), value.to_string())].into(),
            ..TaskDefinition::default()
        };
        let lines = differences(&definition("old-token"), &definition("new-token"));
        assert_eq!(lines, ["env.API_TOKEN: *** → ***"]);
    }

    #[test]
    fn only_what_differs_is_said() {
        let before = TaskDefinition {
            image: "a@sha256:1".into(),
            env: [("A".into(), "1".into()), ("B".into(), String::new())].into(),
            ..TaskDefinition::default()
        };
        assert!(differences(&before, &before).is_empty());
        let mut after = before.clone();
        after.image = "a@sha256:2".into();
        after.env.insert("A".into(), "2".into());
        after.env.insert("C".into(), "3".into());
        after.env.remove("B");
        assert_eq!(
            differences(&before, &after),
            [
                "image: a@sha256:1 → a@sha256:2",
                "env.A: 1 → 2",
                "env.B: \"\" → none",
                "env.C: none → 3"
            ]
        );
    }

    #[test]
    fn arns_have_ends() {
        assert_eq!(
            revision_of("arn:aws:ecs:eu-west-1:111122223333:task-definition/patients:7"),
            "7"
        );
        assert_eq!(
            last_part("arn:aws:ecs:eu-west-1:111122223333:task-definition/patients:7"),
            "patients:7"
        );
    }
}
