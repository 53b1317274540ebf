//! How a task ended → its stable code, its reason in AWS's own words, and what to do. Pure.
//!
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html>

use super::states::StopCode;
use crate::error::Code;

/// A task that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoppedTask {
    /// The last part of its ARN.
    pub task: String,
    pub code: StopCode,
    pub reason: String,
    pub container: String,
    pub exit_code: Option<i64>,
    /// What the container's runtime said: `OutOfMemoryError: …`.
    pub container_reason: Option<String>,
    pub log_tail: Vec<String>,
}

/// Which container of a stopped task is the one to name: ours where it failed, else one that did.
/// The others were sent SIGTERM when the first ended.
pub fn failed_container(
    containers: &[(&str, Option<i32>, Option<&str>)],
    ours: &str,
) -> Option<usize> {
    let sigterm = [Some(0), Some(143), Some(137), None];
    let failed = |(_, code, reason): &(&str, Option<i32>, Option<&str>)| {
        !sigterm.contains(code) || reason.is_some()
    };
    let is_ours = |(name, ..): &(&str, Option<i32>, Option<&str>)| *name == ours;
    let at = |found: &dyn Fn(&(&str, Option<i32>, Option<&str>)) -> bool| {
        containers.iter().position(found)
    };
    at(&|one| is_ours(one) && failed(one)).or(at(&failed)).or(at(&is_ours)).or(at(&|_| true))
}

/// What is said of a task that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    pub code: Code,
    pub reason: String,
    pub fix: Option<String>,
}

/// Diagnoses a task that ended.
pub fn diagnose(stopped: &StoppedTask) -> Diagnosis {
    let reason = match (&stopped.container_reason, stopped.reason.as_str()) {
        (Some(container), "") => container.clone(),
        (Some(container), task) => format!("{task} ({container})"),
        (None, "") => stopped.code.to_string(),
        (None, task) => task.to_string(),
    };
    let (code, fix) = recognise(&stopped.code, &reason.to_lowercase(), stopped.exit_code);
    Diagnosis { code, reason, fix: fix.map(str::to_string) }
}

/// Whether a task that could not be started may start the next time.
pub fn is_passing(code: Code, reason: &str) -> bool {
    let reason = reason.to_lowercase();
    code != Code::ImageNotFound && !says_missing(&reason) && !says_denied(&reason)
}

fn says_missing(reason: &str) -> bool {
    let words = ["not found", "manifest unknown", "does not exist", "can't find the specified"];
    words.iter().any(|word| reason.contains(word))
}

fn says_denied(reason: &str) -> bool {
    let words = ["accessdenied", "access denied", "not authorized", "no basic auth credentials"];
    words.iter().any(|word| reason.contains(word))
}

/// The code and the fix; `reason` in small letters.
fn recognise(stop: &StopCode, reason: &str, exit: Option<i64>) -> (Code, Option<&'static str>) {
    let has = |word: &str| reason.contains(word);
    if has("health checks") {
        let fix = "let it answer 2xx on health.path within health.startup, and the tasks' security \
                   groups let the load balancer in";
        return (Code::ProbeFailed, Some(fix));
    }
    if has("outofmemory") {
        let fix = "raise resources.memory in service.yaml, or find what grows";
        return (Code::OutOfMemory, Some(fix));
    }
    if has("cannotpull") {
        return match () {
            () if has("platform") && has("descriptor") => (
                Code::ImageNotFound,
                Some(
                    "build the image for the platform that tasks run on: `image.platforms` in \
                     service.yaml",
                ),
            ),
            () if says_denied(reason) => (
                Code::ImagePullRefused,
                Some(
                    "let the execution role pull it: attach AmazonECSTaskExecutionRolePolicy, and \
                     allow its account in the repository's policy",
                ),
            ),
            () if says_missing(reason) => {
                (Code::ImageNotFound, Some("push the image first: `cicd push-ecr`"))
            }
            () => (
                Code::ImagePullRefused,
                Some(
                    "let the tasks reach the registry: a NAT gateway or VPC endpoints for ECR and \
                     S3",
                ),
            ),
        };
    }
    if has("resourceinitializationerror") {
        let is_secret = has("secret") || has("ssm") || has("parameter");
        return match () {
            () if has("registry auth") && says_denied(reason) && !has("getsecretvalue") => (
                Code::ImagePullRefused,
                Some("let the execution role pull images: attach AmazonECSTaskExecutionRolePolicy"),
            ),
            () if is_secret => (
                Code::SecretUnavailable,
                Some(
                    "see that each of `secrets` exists with its key, that the execution role may \
                     read it, and that the subnets reach Secrets Manager and SSM",
                ),
            ),
            () if says_denied(reason) => (
                Code::AccessDenied,
                Some("let the execution role do what the reason names, such as writing the logs"),
            ),
            () => (
                Code::StartFailed,
                Some("see that the subnets reach what the reason names: logs, a file system"),
            ),
        };
    }
    match exit {
        // What the kernel or a person kills ends so as well: only the reason tells.
        Some(137) => (
            Code::ContainerExited,
            Some(
                "it was killed, and not for its memory as far as ECS knows: see whether it stops \
                 on SIGTERM, and whether it needs more of resources.memory",
            ),
        ),
        Some(126 | 127) => (
            Code::ContainerExited,
            Some(
                "the command of the image cannot be run: see its ENTRYPOINT and CMD, and its \
                 platform",
            ),
        ),
        Some(139) => (
            Code::ContainerExited,
            Some("it crashed: see that the image is built for the platform it runs on"),
        ),
        Some(_) => (Code::ContainerExited, None),
        None if *stop == StopCode::TaskFailedToStart => (Code::StartFailed, None),
        None => (Code::ContainerExited, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_end_has_its_code() {
        let (start, exit) = (StopCode::TaskFailedToStart, StopCode::EssentialContainerExited);
        let scheduler = StopCode::ServiceSchedulerInitiated;
        let pull = "CannotPullContainerError: pull image manifest has been retried 5 time(s): ";
        let ecr = "ResourceInitializationError: unable to pull secrets or registry auth: ";
        struct Case<'a> {
            stop: &'a StopCode,
            reason: String,
            container: Option<&'a str>,
            exit: Option<i64>,
            code: Code,
            passing: bool,
        }
        let case = |stop, reason: &str, exit, code, passing| Case {
            stop,
            reason: reason.to_string(),
            container: None,
            exit,
            code,
            passing,
        };
        let pulled = |words: &str, code, passing| {
            case(&start, &format!("{pull}{words}"), None, code, passing)
        };
        let init = |words: &str, code, passing| {
            case(&start, &format!("{ecr}{words}"), None, code, passing)
        };
        let oom = Case {
            container: Some("OutOfMemoryError: Container killed due to memory usage"),
            ..case(&exit, "Essential container in task exited", Some(137), Code::OutOfMemory, true)
        };
        let cases = [
            oom,
            case(
                &exit,
                "Essential container in task exited",
                Some(137),
                Code::ContainerExited,
                true,
            ),
            case(&exit, "Essential container in task exited", Some(3), Code::ContainerExited, true),
            case(
                &exit,
                "Essential container in task exited",
                Some(127),
                Code::ContainerExited,
                true,
            ),
            case(&exit, "Essential container in task exited", None, Code::ContainerExited, true),
            case(
                &scheduler,
                "Task failed ELB health checks in (target-group x)",
                Some(143),
                Code::ProbeFailed,
                true,
            ),
            pulled("failed to resolve ref r@sha256:1: not found", Code::ImageNotFound, false),
            pulled("manifest unknown", Code::ImageNotFound, false),
            pulled(
                "image Manifest does not contain descriptor matching platform 'linux/amd64'",
                Code::ImageNotFound,
                false,
            ),
            pulled(
                "AccessDeniedException: not authorized to perform: ecr:GetAuthorizationToken",
                Code::ImagePullRefused,
                false,
            ),
            pulled("dial tcp 10.0.0.1:443: i/o timeout", Code::ImagePullRefused, true),
            init(
                "execution resource retrieval failed: unable to retrieve secret from asm: \
                  ResourceNotFoundException: Secrets Manager can't find the specified secret",
                Code::SecretUnavailable,
                false,
            ),
            init(
                "AccessDeniedException: not authorized to perform: secretsmanager:GetSecretValue",
                Code::SecretUnavailable,
                false,
            ),
            init(
                "AccessDeniedException: not authorized to perform: ecr:GetAuthorizationToken",
                Code::ImagePullRefused,
                false,
            ),
            init(
                "unable to retrieve secrets from ssm: RequestCanceled: i/o timeout",
                Code::SecretUnavailable,
                true,
            ),
            case(
                &start,
                "ResourceInitializationError: failed to validate logger args: log group does not exist",
                None,
                Code::StartFailed,
                false,
            ),
            case(
                &start,
                "ResourceInitializationError: failed to invoke EFS utils commands: timed out",
                None,
                Code::StartFailed,
                true,
            ),
            case(
                &start,
                "Timeout waiting for network interface provisioning to complete.",
                None,
                Code::StartFailed,
                true,
            ),
        ];
        for Case { stop, reason, container, exit, code, passing } in cases {
            let stopped = StoppedTask {
                task: "t".into(),
                code: stop.clone(),
                reason,
                container: "patients".into(),
                exit_code: exit,
                container_reason: container.map(str::to_string),
                log_tail: vec![],
            };
            let found = diagnose(&stopped);
            assert_eq!(found.code, code, "{found:?}");
            assert_eq!(is_passing(found.code, &found.reason), passing, "{found:?}");
        }
    }

    #[test]
    fn the_container_that_failed_is_named() {
        let (oom, ended, killed) = (Some("OutOfMemoryError"), Some(1), Some(137));
        let cases: [(&[(&str, Option<i32>, Option<&str>)], Option<usize>); 6] = [
            (&[("ours", Some(3), None)], Some(0)),
            (&[("router", Some(143), None), ("ours", Some(3), None)], Some(1)),
            (&[("router", ended, None), ("ours", Some(143), None)], Some(0)),
            (&[("router", Some(0), None), ("ours", killed, oom)], Some(1)),
            (&[("router", killed, None), ("ours", Some(0), None)], Some(1)),
            (&[], None),
        ];
        for (containers, expected) in cases {
            assert_eq!(failed_container(containers, "ours"), expected, "{containers:?}");
        }
    }
}
