//! What is wrong with a pod, and what it waits for. Pure.

use super::{
    CAUSES, Container, Exit, Log, PATIENCE, Pod, State, Trouble, TroubleKind, WorkloadFacts,
    passed, with,
};

const FIX_STARTUP: &str = "correct `health.path` or `port`, or raise `health.startup`: it did not \
                           answer 2xx on `health.path` in time";

/// What the scheduler says of nodes that lack the labels of a pod's `nodeSelector`.
const NO_SUCH_NODE: &str = "node affinity/selector";

/// Whether a message of the kubelet says that the registry has no such image. An authorization
/// failure often says "may require authorization" beside "not found": that one may pass.
pub fn says_image_not_found(message: &str) -> bool {
    (message.contains("not found") || message.contains("manifest unknown"))
        && !message.contains("authorization")
}

pub fn trouble_of_pod(pod: &Pod, facts: &WorkloadFacts) -> Option<Trouble> {
    pod.containers.iter().find_map(|container| trouble_of_container(container, pod, facts))
}

fn trouble_of_container(
    container: &Container,
    pod: &Pod,
    facts: &WorkloadFacts,
) -> Option<Trouble> {
    let object = format!("Pod/{}/{}", pod.name, container.name);
    let restarts = container.restarts - container.restarts_before;
    let gives_up = |ends: i64| ends > facts.spare_ends;
    let since = container.waiting_since;
    let waited = since.is_some_and(|since| passed(since, facts.now) >= PATIENCE);
    match &container.state {
        State::Waiting { reason, message } => match reason.as_str() {
            "InvalidImageName" | "ErrImageNeverPull" => {
                let (kind, reason) = (TroubleKind::ImageNotFound, with(reason, message));
                let fix = "correct the registry and the prefix in platform.yaml";
                Some(Trouble::new(kind, object, reason, fix))
            }
            "ErrImagePull" | "ImagePullBackOff" => {
                let not_found = container.image_not_found || says_image_not_found(message);
                let (kind, fix) = judge_pull(message, not_found);
                let reason = with("ErrImagePull", core(message));
                (not_found || waited).then(|| Trouble::new(kind, object, reason, fix))
            }
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                // The kubelet's own cache is behind for a moment after a Secret was made.
                let passing = message.contains("failed to sync") && message.contains("cache");
                let now_or_later = reason == "RunContainerError" || waited && !passing;
                let (kind, fix) = judge_configuration(message);
                now_or_later.then(|| Trouble::new(kind, object, with(reason, message), fix))
            }
            // Without a restart since this deploy began it has been so before.
            "CrashLoopBackOff" if restarts == 0 || gives_up(restarts + 1) => {
                let exit = container.last.clone().unwrap_or_default();
                Some(describe_crash(container, pod, &exit, true))
            }
            _ => None,
        },
        State::Running if container.is_overdue && startup_failure(pod).is_some() => {
            Some(describe_overdue(container, pod))
        }
        // The first restart comes at once, and may be all it takes.
        State::Running => {
            let exit = container.last.as_ref()?;
            let is_over = gives_up(restarts) || restarts > 0 && had_its_time(pod, exit);
            let crashed = is_over && !container.ready && !is_done(container, exit);
            crashed.then(|| describe_crash(container, pod, exit, true))
        }
        State::Terminated(exit) => {
            let is_over = gives_up(restarts + 1) || had_its_time(pod, exit);
            let crashed = is_over && !is_done(container, exit);
            crashed.then(|| describe_crash(container, pod, exit, false))
        }
    }
}

fn startup_failure(pod: &Pod) -> Option<&String> {
    pod.warnings.iter().rev().find(|warning| warning.contains("Startup probe failed"))
}

/// It will be ended by its startup probe, and takes its time to stop.
fn describe_overdue(container: &Container, pod: &Pod) -> Trouble {
    let warning = startup_failure(pod).map(String::as_str).unwrap_or_default();
    Trouble {
        log: Some(find_log(pod, container, false)),
        ..Trouble::new(
            TroubleKind::ProbeFailed,
            format!("Pod/{}/{}", pod.name, container.name),
            format!("it did not pass its startup probe in its time: {warning}"),
            FIX_STARTUP,
        )
    }
}

/// What is in the way of pods when the time is over, though it may pass: no node, an image that
/// cannot be pulled yet, a probe that is not answered, a quota.
pub fn find_pending(facts: &WorkloadFacts) -> Vec<Trouble> {
    let pods = facts.pods.iter().filter(|pod| !pod.terminating && !pod.ready);
    let mut pending: Vec<Trouble> = pods.filter_map(pending_of_pod).collect();
    // A second copy that waits for the same says nothing new.
    pending.dedup_by(|next, first| next.kind == first.kind);
    pending.extend(facts.create_failure.as_ref().map(|failure| {
        let kind = match failure.message.contains("exceeded quota") {
            true => TroubleKind::QuotaExceeded,
            false => TroubleKind::Forbidden,
        };
        let reason = with("FailedCreate", &failure.message);
        Trouble::new(kind, &failure.object, reason, "change what the message names")
    }));
    pending.truncate(CAUSES);
    pending
}

fn pending_of_pod(pod: &Pod) -> Option<Trouble> {
    let object = format!("Pod/{}", pod.name);
    if let Some(message) = &pod.unschedulable {
        let room = "lower `resources` in service.yaml, or give the cluster nodes that have the room \
                    and what else the message names";
        let fix = match message.contains(NO_SUCH_NODE) {
            true => format!("{room}; its `nodeSelector` is what `image.platforms` says"),
            false => room.to_string(),
        };
        let reason = with("Unschedulable", message);
        return Some(Trouble::new(TroubleKind::Unschedulable, object, reason, fix));
    }
    pod.containers.iter().find_map(|container| {
        let object = format!("{object}/{}", container.name);
        match &container.state {
            State::Waiting { reason, message } => match reason.as_str() {
                "ErrImagePull" | "ImagePullBackOff" => {
                    let (kind, fix) = judge_pull(message, container.image_not_found);
                    Some(Trouble::new(kind, object, with(reason, core(message)), fix))
                }
                "CreateContainerConfigError" | "CreateContainerError" => {
                    let (kind, fix) = judge_configuration(message);
                    Some(Trouble::new(kind, object, with(reason, message), fix))
                }
                _ => None,
            },
            State::Running if !container.ready && !container.init => {
                let warning =
                    pod.warnings.iter().rev().find(|text| text.contains("probe failed"))?;
                Some(Trouble {
                    log: Some(find_log(pod, container, false)),
                    ..Trouble::new(TroubleKind::ProbeFailed, object, warning, FIX_STARTUP)
                })
            }
            _ => None,
        }
    })
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

/// `previous`: the run that crashed is the one before the present.
fn describe_crash(container: &Container, pod: &Pod, exit: &Exit, previous: bool) -> Trouble {
    let what = if container.init { "init container" } else { "container" };
    let warned =
        |words: &str| pod.warnings.iter().rev().find(|warning| warning.contains(words)).cloned();
    let killed_by_probe = warned("Startup probe failed")
        .or_else(|| warned("Liveness probe failed"))
        .filter(|_| was_told_to_stop(exit.code));
    let (kind, how, fix) = if exit.reason == "OOMKilled" {
        let limit = &container.memory_limit;
        (
            TroubleKind::OutOfMemory,
            "OOMKilled: it wanted more memory than its limit".to_string(),
            format!("raise `resources.memory` in service.yaml (it is {limit})"),
        )
    } else if matches!(exit.reason.as_str(), "StartError" | "ContainerCannotRun")
        || matches!(exit.code, 126 | 127)
    {
        let fix = "correct CMD and ENTRYPOINT in the Dockerfile, and the image's platform: its \
                   command cannot be run";
        (TroubleKind::CannotStart, named(&exit.reason).to_string(), fix.to_string())
    } else if let Some(warning) = killed_by_probe {
        let how = format!("killed by its probe: {warning}");
        (TroubleKind::ProbeFailed, how, FIX_STARTUP.to_string())
    } else {
        let fix = "see the last log lines, which say why; `cicd run --environment local` shows the \
                   same container on this machine";
        (TroubleKind::Crashed, signal(exit.code).to_string(), fix.to_string())
    };
    let how = if how.is_empty() { how } else { format!(", {how}") };
    Trouble {
        exit_code: Some(exit.code),
        log: Some(find_log(pod, container, previous)),
        ..Trouble::new(
            kind,
            format!("Pod/{}/{}", pod.name, container.name),
            format!("the {what} crashed{how}"),
            fix,
        )
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

/// What keeps the node from pulling an image, and the fix.
fn judge_pull(message: &str, not_found: bool) -> (TroubleKind, &'static str) {
    if not_found {
        return (
            TroubleKind::ImageNotFound,
            "push the image with `cicd push-ecr`, and deploy the digest that it prints: the \
             registry has no such image",
        );
    }
    let is_denied = ["authorization", "403", "401", "credentials"];
    let fix = match is_denied.iter().any(|words| message.contains(words)) {
        true => {
            "let the nodes pull: their role needs AmazonEC2ContainerRegistryPullOnly, and in \
             another account the repository's policy ecr:BatchGetImage and \
             ecr:GetDownloadUrlForLayer"
        }
        false => {
            "see that the nodes reach the registry: NAT, or VPC endpoints for ecr.api, ecr.dkr and \
             s3"
        }
    };
    (TroubleKind::ImagePullRefused, fix)
}

/// What is wrong with a container's configuration, and the fix.
fn judge_configuration(message: &str) -> (TroubleKind, &'static str) {
    if message.contains("secret") && message.contains("not found") {
        let fix = "create the Secret that `secrets` in service.yaml names, or correct the name";
        return (TroubleKind::ConfigurationMissing, fix);
    }
    if message.contains("configmap") && message.contains("not found") {
        let fix = "add the ConfigMap to `manifests`, or correct its name";
        return (TroubleKind::ConfigurationMissing, fix);
    }
    if message.contains("couldn't find key") {
        let fix = "add the key to the Secret, or correct it in `secrets`: k8s:SECRET/KEY";
        return (TroubleKind::ConfigurationMissing, fix);
    }
    let fix = match message.contains("runAsNonRoot") {
        true => "give the Dockerfile a numeric USER: USER 10001:10001",
        false => "correct what the message names",
    };
    (TroubleKind::CannotStart, fix)
}

/// The trouble of what ended badly, with the exit that says most.
pub fn trouble_of_end(object: &str, reason: &str, fix: &str, pods: &[&Pod]) -> Trouble {
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
    let kind = match last {
        Some((_, _, exit, _)) if exit.reason == "OOMKilled" => TroubleKind::OutOfMemory,
        None if reason.starts_with("DeadlineExceeded") => TroubleKind::DeadlineExceeded,
        _ => TroubleKind::Crashed,
    };
    Trouble {
        exit_code: last.map(|(_, _, exit, _)| exit.code),
        log: last.map(|(pod, container, _, previous)| find_log(pod, container, previous)),
        ..Trouble::new(kind, object, reason, fix)
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
