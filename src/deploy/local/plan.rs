//! What stands on the engine → what deploy does. Pure.

use serde_json::json;

use super::render::{DIGEST, LocalDocuments, REVISION, SETTINGS, VERSION};
use crate::deploy::diff::compare_documents;
use crate::deploy::target::{Goal, Good, Plan, State};
use crate::deploy::{Action, Change};
use crate::docker::{self, Container};

/// A container of the service, of any revision.
#[derive(Clone, Debug)]
pub struct ContainerSeen {
    pub container: Container,
    /// It runs, and its health path answers 2xx.
    pub healthy: bool,
}

impl ContainerSeen {
    pub fn revision(&self) -> u64 {
        self.label(REVISION).and_then(|revision| revision.parse().ok()).unwrap_or(0)
    }
    pub fn label(&self, label: &str) -> Option<&str> {
        self.container.labels.get(label).map(String::as_str)
    }
}

/// Everything the plan needs.
#[derive(Clone, Debug)]
pub struct LocalFacts {
    pub seen: Vec<ContainerSeen>,
    /// The hash of the wanted settings and of the secrets' present values.
    pub settings_hash: String,
    /// The name a new container would get.
    pub fresh_name: String,
}

/// What apply will do.
#[derive(Clone, Debug)]
pub struct LocalPlan {
    changes: Vec<Change>,
    pub wanted: State<LocalDocuments>,
    /// Run before-deploy first.
    pub migrates: bool,
    /// The container that serves when the deploy is done, new or as it was.
    pub current: String,
    pub revision: u64,
    /// Whether `current` is to be made.
    pub create: bool,
    /// Containers that go when `current` is healthy.
    pub leftovers: Vec<Container>,
    /// What serves now, and is healthy: the one to go back to.
    pub last_good: Option<(String, u64)>,
    /// The last good state, whose image stays on the engine for a rollback.
    pub good: Option<Good<LocalDocuments>>,
}

impl Plan for LocalPlan {
    fn changes(&self) -> &[Change] {
        &self.changes
    }
    fn previous_revision(&self) -> Option<String> {
        self.last_good.as_ref().map(|(_, revision)| revision.to_string())
    }
}

/// Makes the plan.
pub fn make_plan(goal: &Goal<LocalDocuments>, facts: LocalFacts) -> LocalPlan {
    let wanted = &goal.wanted;
    let LocalFacts { mut seen, settings_hash, fresh_name } = facts;
    seen.sort_by_key(|seen| std::cmp::Reverse(seen.revision()));
    let newest = seen.first().map_or(0, ContainerSeen::revision);
    // What a killed run left may be healthy, and is not known to be good.
    let good_revision = goal.good.as_ref().and_then(|good| good.revision.as_deref());
    let is_good = |seen: &&ContainerSeen| {
        seen.healthy && (goal.adopts || seen.label(REVISION) == good_revision)
    };
    let last_good = seen.iter().find(is_good).cloned();
    let is_wanted = |seen: &ContainerSeen| {
        seen.healthy
            && seen.label(DIGEST) == Some(wanted.image.digest.as_str())
            && seen.label(SETTINGS) == Some(&settings_hash)
    };
    let kept = seen.iter().position(is_wanted).map(|position| seen.remove(position));

    let migrates = goal.migrates && kept.is_none() && wanted.documents.before_deploy.is_some();
    let mut changes = Vec::new();
    if let Some(command) = wanted.documents.before_deploy.as_ref().filter(|_| migrates) {
        let object = format!("Task/{}-before-deploy", wanted.service);
        let command = json!({ "command": command });
        let details = compare_documents(&json!({}), &command, &[]);
        changes.push(Change { action: Action::Create, object, details });
    }
    if kept.is_none() {
        changes.push(describe_container(wanted, last_good.as_ref(), &settings_hash));
    }
    // The one that is replaced is part of the change above; what else is there is left over from a
    // run that was cut short.
    let replaced =
        last_good.as_ref().filter(|_| kept.is_none()).map(|good| good.container.name.clone());
    for left in seen.iter().filter(|seen| Some(&seen.container.name) != replaced.as_ref()) {
        let state = match left.healthy {
            true => "of an earlier revision",
            false => describe_state(&left.container.state),
        };
        let details = vec![format!("revision {}, {state}", left.revision())];
        let object = format!("Container/{}", left.container.name);
        changes.push(Change { action: Action::Delete, object, details });
    }
    let (current, revision, create) = match &kept {
        Some(kept) => (kept.container.name.clone(), kept.revision(), false),
        None => (fresh_name, newest + 1, true),
    };
    let last_good = last_good.map(|good| (good.container.name.clone(), good.revision()));
    let leftovers = seen.into_iter().map(|seen| seen.container).collect();
    LocalPlan {
        changes,
        wanted: wanted.clone(),
        migrates,
        current,
        revision,
        create,
        leftovers,
        last_good,
        good: goal.good.clone(),
    }
}

fn describe_container(
    wanted: &State<LocalDocuments>,
    replaced: Option<&ContainerSeen>,
    settings_hash: &str,
) -> Change {
    let object = format!("Container/{}", wanted.service);
    let image = &wanted.image;
    let Some(replaced) = replaced else {
        let details = vec![format!("version {}, {}", image.version, image.digest)];
        return Change { action: Action::Create, object, details };
    };
    let runs = json!({ "version": replaced.label(VERSION), "digest": replaced.label(DIGEST) });
    let wanted = json!({ "version": image.version, "digest": image.digest });
    let mut details = compare_documents(&runs, &wanted, &[]);
    if replaced.label(SETTINGS) != Some(settings_hash) {
        details.push("settings: env, secrets, port, health, memory or before-deploy differ".into());
    }
    Change { action: Action::Update, object, details }
}

fn describe_state(state: &docker::State) -> &'static str {
    match state {
        docker::State::Created => "never started",
        docker::State::Running => "not healthy",
        docker::State::Ended { .. } => "ended",
    }
}
