//! What is wrong with a pod, and what it waits for. Pure.

use super::{Container, Exit, Log, PATIENCE, Pod, State, Trouble, WorkloadFacts, passed, with};

/// Whether a message of the kubelet says that the registry has no such image. An authorization
/// failure often says "may require authorization" beside "not found": that one may pass.
pub fn says_image_not_found(message: &str) -> bool {
    (message.contains("not found") || message.contains("manifest unknown"))
        && !message.contains("authorization")
}

pub fn trouble_of_pod(pod: &Pod, facts: &WorkloadFacts) -> Option<Trouble> {
    pod.containers.iter().find_map(|container| {
        let trouble = trouble_of_container(container, pod, facts)?;
        Some(Trouble { object: format!("Pod/{}/{}", pod.name, container.name), ..trouble })
    })
}

fn trouble_of_container(
    container: &Container,
    pod: &Pod,
    facts: &WorkloadFacts,
) -> Option<Trouble> {
    let log = |previous| Some(find_log(pod, container, previous));
    let restarts = container.restarts - container.restarts_before;
    let gives_up = |ends: i64| ends > facts.spare_ends;
    let since = container.waiting_since;
    let waited = since.is_some_and(|since| passed(since, facts.now) >= PATIENCE);
    match &container.state {
        State::Waiting { reason, message } => match reason.as_str() {
            "InvalidImageName" | "ErrImageNeverPull" => {
                let fix = "correct the registry and the prefix in platform.yaml";
                Some(Trouble {
                    reason: with(reason, message),
                    fix: Some(fix.into()),
                    ..Trouble::default()
                })
            }
            "ErrImagePull" | "ImagePullBackOff" => {
                let not_found = container.image_not_found || says_image_not_found(message);
                (not_found || waited).then(|| Trouble {
                    reason: with("ErrImagePull", core(message)),
                    fix: Some(pull_fix(message, not_found)),
                    ..Trouble::default()
                })
            }
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                // The kubelet's own cache is behind for a moment after a Secret was made.
                let passing = message.contains("failed to sync") && message.contains("cache");
                let now_or_later = reason == "RunContainerError" || waited && !passing;
                now_or_later.then(|| Trouble {
                    reason: with(reason, message),
                    fix: Some(config_fix(message)),
                    ..Trouble::default()
                })
            }
            // Without a restart since this deploy began it has been so before.
            "CrashLoopBackOff" if restarts == 0 || gives_up(restarts + 1) => {
                let exit = container.last.clone().unwrap_or_default();
                Some(crash(container, pod, &exit, log(true)))
            }
            _ => None,
        },
        // The first restart comes at once, and may be all it takes.
        State::Running => {
            let exit = container.last.as_ref()?;
            let is_over = gives_up(restarts) || restarts > 0 && had_its_time(pod, exit);
            let crashed = is_over && !container.ready && !is_done(container, exit);
            crashed.then(|| crash(container, pod, exit, log(true)))
        }
        State::Terminated(exit) => {
            let is_over = gives_up(restarts + 1) || had_its_time(pod, exit);
            let crashed = is_over && !is_done(container, exit);
            crashed.then(|| crash(container, pod, exit, log(false)))
        }
    }
}

/// Whether its startup probe ended it: all of `health.startup` has passed, and not a moment.
fn had_its_time(pod: &Pod, exit: &Exit) -> bool {
    let was_killed = was_told_to_stop(exit.code) && exit.reason != "OOMKilled";
    was_killed && pod.warnings.iter().any(|warning| warning.contains("Startup probe failed"))
}

/// An init container ends by design, when it ends well.
fn is_done(container: &Container, exit: &Exit) -> bool {
    container.init && exit.code == 0
}

fn crash(container: &Container, pod: &Pod, exit: &Exit, log: Option<Log>) -> Trouble {
    let what = if container.init { "init container" } else { "container" };
    let warned =
        |words: &str| pod.warnings.iter().rev().find(|warning| warning.contains(words)).cloned();
    let killed_by_probe = warned("Startup probe failed")
        .or_else(|| warned("Liveness probe failed"))
        .filter(|_| was_told_to_stop(exit.code));
    let (how, fix) = if exit.reason == "OOMKilled" {
        let limit = &container.memory_limit;
        (
            "OOMKilled: it wanted more memory than its limit".to_string(),
            format!("raise `resources.memory` in service.yaml (it is {limit})"),
        )
    } else if matches!(exit.reason.as_str(), "StartError" | "ContainerCannotRun")
        || matches!(exit.code, 126 | 127)
    {
        let fix = "its command cannot be run: correct CMD and ENTRYPOINT in the Dockerfile, and the image's platform";
        (named(&exit.reason).to_string(), fix.to_string())
    } else if let Some(warning) = killed_by_probe {
        let fix = "it did not answer 2xx on `health.path` in time: correct `health.path` or `port`, or raise `health.startup`";
        (format!("killed by its probe: {warning}"), fix.to_string())
    } else {
        let fix = "the last log lines say why; `cicd run --environment local` shows the same container on this machine";
        (signal(exit.code).to_string(), fix.to_string())
    };
    Trouble {
        reason: if how.is_empty() {
            format!("the {what} crashed")
        } else {
            format!("the {what} crashed, {how}")
        },
        exit_code: Some(exit.code),
        fix: Some(fix),
        log,
        ..Trouble::default()
    }
}

/// A process that was told to stop ends well or by the signal; any other code is its own.
pub fn was_told_to_stop(code: i64) -> bool {
    matches!(code, 0 | 137 | 143)
}

fn named(reason: &str) -> &str {
    if reason.is_empty() { "Error" } else { reason }
}

/// 128 + n is how a shell and the kubelet write "ended by signal n".
fn signal(code: i64) -> &'static str {
    match code {
        132 => "SIGILL: a wrong CPU architecture?",
        134 => "SIGABRT",
        137 => "SIGKILL",
        139 => "SIGSEGV",
        143 => "SIGTERM",
        _ => "",
    }
}

fn pull_fix(message: &str, not_found: bool) -> String {
    if not_found {
        return "the registry has no such image: push it with `cicd push-ecr`, and deploy the digest that it prints"
            .into();
    }
    if message.contains("authorization")
        || message.contains("403")
        || message.contains("401")
        || message.contains("credentials")
    {
        return "let the nodes pull: their role needs AmazonEC2ContainerRegistryPullOnly, and in another account the repository's \
                policy ecr:BatchGetImage and ecr:GetDownloadUrlForLayer"
            .into();
    }
    "see that the nodes reach the registry: NAT, or VPC endpoints for ecr.api, ecr.dkr and s3"
        .into()
}

fn config_fix(message: &str) -> String {
    if message.contains("secret") && message.contains("not found") {
        return "create the Secret that `secrets` in service.yaml names, or correct the name"
            .into();
    }
    if message.contains("couldn't find key") {
        return "add the key to the Secret, or correct it in `secrets`: k8s:SECRET/KEY".into();
    }
    if message.contains("runAsNonRoot") {
        return "give the Dockerfile a numeric USER: USER 10001:10001".into();
    }
    "correct what the message names".into()
}

/// The trouble of what ended badly, with the exit that says most.
pub fn trouble_of_end(object: &str, reason: &str, pods: &[&Pod]) -> Trouble {
    let ends = pods.iter().flat_map(|pod| {
        pod.containers.iter().filter_map(move |container| {
            match (&container.state, &container.last) {
                (State::Terminated(exit), _) if exit.code != 0 => {
                    Some((pod, container, exit, false))
                }
                (_, Some(exit)) if exit.code != 0 => Some((pod, container, exit, true)),
                _ => None,
            }
        })
    });
    let last = ends.last();
    Trouble {
        object: object.to_string(),
        reason: reason.to_string(),
        exit_code: last.map(|(_, _, exit, _)| exit.code),
        log: last.map(|(pod, container, _, previous)| find_log(pod, container, previous)),
        ..Trouble::default()
    }
}

pub fn find_log(pod: &Pod, container: &Container, previous: bool) -> Log {
    Log {
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        container: container.name.clone(),
        previous,
    }
}

/// What a pod that is not ready waits for, when that is worth a word.
pub fn waits_for(pod: &Pod) -> Option<String> {
    if pod.ready {
        return None;
    }
    let name = &pod.name;
    if let Some(message) = &pod.unschedulable {
        return Some(format!("{name} has no node: {message}"));
    }
    let waiting = pod.containers.iter().find_map(|container| match &container.state {
        State::Waiting { reason, message } => match reason.as_str() {
            "ContainerCreating" | "PodInitializing" | "" => None,
            // The error and the back-off after it take turns, and mean one thing.
            "ErrImagePull" | "ImagePullBackOff" => {
                Some(format!("{name} waits for its image: {}", core(message)))
            }
            _ => Some(format!("{name} waits: {}", with(reason, message))),
        },
        _ => None,
    });
    let gates = || {
        let gates = pod.closed_gates.join(", ");
        (!gates.is_empty()).then(|| format!("{name} waits for its readiness gate {gates}"))
    };
    waiting.or_else(gates).or_else(|| Some(format!("{name}: {}", core(pod.warnings.last()?))))
}

/// What a container runtime says failed, without the steps around it that each repeat the image's
/// long name.
fn core(message: &str) -> &str {
    message.rfind("failed to ").map_or(message, |start| &message[start..])
}
