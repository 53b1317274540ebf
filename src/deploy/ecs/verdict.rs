//! A look at an ECS service → how far the deploy is: who decides healthy, on the way in as on the
//! rollback. Pure.
//!
//! A rollout is done only when the PRIMARY deployment is ours and all of it runs: the SDK's own
//! waiter also passes after a rollback and for a service with no tasks.

use std::time::Duration;

use super::diagnosis::{Diagnosis, StoppedTask, diagnose, is_passing};
use super::render::{last_part, revision_of};
use super::states::{Rollout, StopCode, TaskState};
use crate::deploy::target::Verdict;
use crate::error::{Cause, Code};

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceLook {
    /// The task definition's ARN of the PRIMARY deployment.
    pub primary: String,
    /// None where ECS does not say.
    pub rollout: Option<Rollout>,
    pub rollout_reason: Option<String>,
    /// The id of the PRIMARY deployment.
    pub primary_id: Option<String>,
    /// Whose the PRIMARY deployment is.
    pub ownership: Ownership,
    /// Tasks that are to run, by the plan: the service's own count may have been changed by
    /// somebody else meanwhile.
    pub desired: u32,
    pub running: u32,
    /// Tasks of our task definition that do not run yet.
    pub waiting: Vec<TaskState>,
    /// Tasks of other deployments that run still.
    pub others_running: u32,
    /// None without a load balancer.
    pub targets: Option<Targets>,
    /// It is the good version that is looked at: its old tasks may drain on.
    pub goes_back: bool,
    /// Tasks of our deployment that ended, oldest first.
    pub stopped: Vec<StoppedTask>,
    /// The service's events since the deploy began, oldest first.
    pub events: Vec<String>,
}

/// The targets of a load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    pub healthy: u32,
    /// They get no new requests, and finish those that they have.
    pub draining: u32,
    /// The load balancer's words for one that is not healthy.
    pub unhealthy: Option<String>,
}

impl Targets {
    /// How many healthy ones are surely of the PRIMARY deployment: a task of another one that does
    /// not drain may be healthy too.
    fn healthy_ours(&self, others_running: u32) -> u32 {
        self.healthy.saturating_sub(others_running.saturating_sub(self.draining))
    }
}

/// Whose deployment is PRIMARY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ownership {
    /// The one that this run began, or the one that it found and kept.
    #[default]
    Ours,
    /// One that was there before this run wrote: the read is older than our write.
    Stale,
    /// A later one of what ran before: ECS went back by itself.
    RolledBackByEcs,
    /// A later one of something else: somebody deployed after us.
    Others,
}

/// By what a run knows its own deployment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity<'a> {
    /// The id that our last write was answered with.
    pub deployment: Option<&'a str>,
    /// The revision that this run registered, which nobody else knows of: what runs it is ours.
    pub definition_arn: Option<&'a str>,
    /// The deployments that were there before that write.
    pub earlier: &'a [String],
    /// What ECS goes back to by itself: what ran before that write.
    pub fallback: Option<&'a str>,
}

/// Whose the PRIMARY deployment of a look is.
pub fn owner_of_primary(look: &ServiceLook, ours: &Identity<'_>) -> Ownership {
    let Some(primary) = look.primary_id.as_deref() else { return Ownership::Ours };
    let was_there = ours.earlier.iter().any(|known| known == primary);
    let is_fallback = ours.fallback == Some(look.primary.as_str());
    match ours.deployment {
        Some(ours) if primary == ours => Ownership::Ours,
        None if ours.definition_arn == Some(look.primary.as_str()) => Ownership::Ours,
        Some(_) if was_there => Ownership::Stale,
        Some(_) if is_fallback => Ownership::RolledBackByEcs,
        // This run kept what it found.
        None if was_there || is_fallback || ours.fallback.is_none() => Ownership::Ours,
        Some(_) | None => Ownership::Others,
    }
}

/// Believes that ECS went back by itself only when two looks in a row say so: one of them may be
/// older than our own write.
pub fn confirm_owner(before: Ownership, now: Ownership) -> Ownership {
    match now {
        Ownership::RolledBackByEcs if before != now => Ownership::Stale,
        _ => now,
    }
}

/// The verdict on a service with its processes: healthy when all are. The first is the service's own,
/// whose revision is named.
pub fn join_verdicts(verdicts: Vec<Verdict>) -> Verdict {
    let (mut causes, mut waits, mut revision) = (Vec::new(), None, None);
    for verdict in verdicts {
        match verdict {
            Verdict::Failed(more) => causes.extend(more),
            Verdict::Progressing(words) => waits = waits.or(Some(words)),
            Verdict::Healthy { revision: its } => revision = revision.or(Some(its)),
        }
    }
    match (causes.is_empty(), waits) {
        (false, _) => Verdict::Failed(causes),
        (true, Some(words)) => Verdict::Progressing(words),
        (true, None) => Verdict::Healthy { revision: revision.unwrap_or_default() },
    }
}

/// How long a version has been healthy without a break.
#[derive(Debug, Default)]
pub struct Stability {
    /// When it became so, counted from when watching began.
    since: Option<Duration>,
    /// How many of its tasks had ended by then.
    ended: usize,
}

impl Stability {
    /// The verdict of a look at `elapsed`, when `ended` tasks had ended: healthy only for what has
    /// been so for `stable`. A task that ends in between begins it anew, also when the next one was
    /// there before anybody looked.
    pub fn hold(
        &mut self,
        verdict: Verdict,
        ended: usize,
        elapsed: Duration,
        stable: Duration,
    ) -> Verdict {
        let Verdict::Healthy { revision } = verdict else {
            self.since = None;
            return verdict;
        };
        if std::mem::replace(&mut self.ended, ended) != ended {
            self.since = None;
        }
        let since = *self.since.get_or_insert(elapsed);
        if elapsed.saturating_sub(since) >= stable {
            return Verdict::Healthy { revision };
        }
        Verdict::Progressing(format!(
            "it is healthy, and has to stay so for {} s",
            stable.as_secs_f64()
        ))
    }
}

/// Whether a task was started by a deployment, by what its `startedBy` says. Where that names no
/// deployment, its task definition has to do.
pub fn is_of_deployment(started_by: &str, deployment: Option<&str>) -> bool {
    let names_one = started_by.starts_with("ecs-svc/");
    deployment.is_none_or(|id| !names_one || started_by == id)
}

/// The verdict on the deployment of task definition `ours`: the one judge of what is healthy.
pub fn judge_look(look: &ServiceLook, ours: &str) -> Verdict {
    if is_spent(look) {
        return Verdict::Failed(list_causes(look));
    }
    if let Some(cause) = judge_events(&look.events) {
        return Verdict::Failed(vec![cause]);
    }
    if look.ownership == Ownership::RolledBackByEcs {
        let reason = format!("ECS went back to {} by itself", last_part(&look.primary));
        return Verdict::Failed(given_up(look, reason));
    }
    if look.ownership == Ownership::Stale || look.primary != ours {
        return Verdict::Progressing(format!("waiting for ECS to take {}", last_part(ours)));
    }
    if look.rollout == Some(Rollout::Failed) {
        let reason = look.rollout_reason.clone().unwrap_or_else(|| "the rollout failed".into());
        return Verdict::Failed(given_up(look, reason));
    }
    let healthy = look.targets.as_ref().map(|targets| targets.healthy_ours(look.others_running));
    let are_healthy = healthy.is_none_or(|healthy| healthy >= look.desired);
    // ECS calls a rollout complete when the old tasks are gone. On the rollback those that drain are
    // not waited for, where a load balancer says that the good ones are healthy.
    let is_done = look.goes_back && healthy.is_some()
        || look.rollout.as_ref().is_none_or(|state| *state == Rollout::Completed);
    if is_done && are_healthy && look.running >= look.desired {
        return Verdict::Healthy { revision: revision_of(ours) };
    }
    Verdict::Progressing(describe_progress(look))
}

/// What is waited for, in words: all that a person needs when the time is over.
fn describe_progress(look: &ServiceLook) -> String {
    let mut text = format!("{} of {} tasks run", look.running, look.desired);
    if let Some(targets) = &look.targets {
        let healthy = targets.healthy_ours(look.others_running);
        text += &format!(", {healthy} healthy in the load balancer");
        if let Some(why) = &targets.unhealthy {
            text += &format!(": {why}");
        }
    }
    let mut states: Vec<String> = look.waiting.iter().map(TaskState::to_string).collect();
    states.sort_unstable();
    states.dedup();
    if !states.is_empty() {
        text += &format!("; {} {}", look.waiting.len(), states.join(" or "));
    }
    if look.waiting.contains(&TaskState::Provisioning) {
        text += ": ECS looks for room in the cluster, or for an address in the subnets";
    }
    if let Some(last) = look.stopped.iter().rfind(|stopped| !is_intended(stopped)) {
        text += &format!("; a task ended: {}", diagnose(last).reason);
    }
    if let Some(event) = look.events.iter().rfind(|event| is_shortage(event)) {
        text += &format!("; ECS said: {event}");
    }
    text
}

/// The causes of a rollout that ECS itself gave up: how its tasks ended, else ECS's own words.
fn given_up(look: &ServiceLook, reason: String) -> Vec<Cause> {
    let causes = list_causes(look);
    if !causes.is_empty() {
        return causes;
    }
    vec![Cause {
        code: Some(Code::RolloutFailed),
        object: "Service".into(),
        reason,
        fix: Some("see the service's events and stopped tasks in the ECS console".into()),
        ..Cause::default()
    }]
}

/// How often tasks may end in one way before that is the version's fault: one exit of one container
/// is no verdict. Where tasks of the new version run, more is bad luck.
fn budget_of(look: &ServiceLook) -> usize {
    let share = usize::try_from(look.desired / 4).unwrap_or(usize::MAX);
    if look.running == 0 { 2 } else { share.max(3) }
}

/// Whether the tasks that ended tell enough: one cannot end otherwise the next time, so many ended
/// in the same way, or half as many again in any.
fn is_spent(look: &ServiceLook) -> bool {
    let failed: Vec<(&StoppedTask, Diagnosis)> = look
        .stopped
        .iter()
        .filter(|stopped| !is_intended(stopped))
        .map(|stopped| (stopped, diagnose(stopped)))
        .collect();
    let budget = budget_of(look);
    let is_final = failed.iter().any(|(stopped, diagnosis)| {
        stopped.code == StopCode::TaskFailedToStart && !is_passing(diagnosis.code, &stopped.reason)
    });
    let same = |(stopped, diagnosis): &(&StoppedTask, Diagnosis)| {
        let ended_so = failed.iter().filter(|(other, of_other)| {
            (&other.code, other.exit_code, of_other.code)
                == (&stopped.code, stopped.exit_code, diagnosis.code)
        });
        ended_so.count()
    };
    is_final || failed.len() >= budget + budget / 2 || failed.iter().any(|one| same(one) >= budget)
}

/// Whether a task was stopped on purpose, by the scheduler or a person, or lost its machine. The
/// scheduler also stops what is not healthy.
fn is_intended(stopped: &StoppedTask) -> bool {
    match stopped.code {
        StopCode::ServiceSchedulerInitiated => !stopped.reason.contains("health checks"),
        StopCode::UserInitiated | StopCode::SpotInterruption | StopCode::TerminationNotice => true,
        _ => false,
    }
}

/// One cause for each way in which tasks failed, the first seen of each.
fn list_causes(look: &ServiceLook) -> Vec<Cause> {
    let mut causes: Vec<Cause> = Vec::new();
    for stopped in look.stopped.iter().filter(|stopped| !is_intended(stopped)) {
        let Diagnosis { code, reason, fix } = diagnose(stopped);
        if causes.iter().any(|cause| cause.reason == reason && cause.exit_code == stopped.exit_code)
        {
            continue;
        }
        causes.push(Cause {
            code: Some(code),
            object: format!("Task/{}/{}", stopped.task, stopped.container),
            reason,
            exit_code: stopped.exit_code,
            log_tail: stopped.log_tail.clone(),
            fix,
        });
    }
    causes
}

/// Whether an event says that ECS has no room for a task.
fn is_shortage(event: &str) -> bool {
    event.contains("unable to place a task") || event.contains("failed to launch a task")
}

/// What ECS says when it cannot even make a task. Capacity that is short for a moment says so once
/// or twice, and a role that was made a moment ago is not known everywhere yet.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-event-messages-list.html>
fn judge_events(events: &[String]) -> Option<Cause> {
    struct Budget {
        is_of: fn(&str) -> bool,
        events: usize,
        code: Code,
        fix: &'static str,
    }
    let budgets = [
        Budget {
            is_of: |event| event.contains("unable to assume the role"),
            events: 2,
            code: Code::AccessDenied,
            fix: "let the execution and task role trust ecs-tasks.amazonaws.com, and see that both \
                  exist",
        },
        Budget {
            is_of: is_shortage,
            events: 3,
            code: Code::Unschedulable,
            fix: "give the cluster room (instances, subnets with free addresses), or ask for less \
                  in `resources`",
        },
    ];
    budgets.iter().find_map(|Budget { is_of, events: most, code, fix }| {
        let of_it: Vec<&String> = events.iter().filter(|event| is_of(event)).collect();
        let last = of_it.last().filter(|_| of_it.len() >= *most)?;
        Some(Cause {
            code: Some(*code),
            object: "Service".into(),
            reason: (*last).clone(),
            fix: Some((*fix).into()),
            ..Cause::default()
        })
    })
}

#[cfg(test)]
mod tests;
