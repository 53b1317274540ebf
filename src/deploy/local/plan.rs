//! What stands on the engine → what deploy does. Pure.

use super::render::{DIGEST, REVISION, SETTINGS, VERSION};
use crate::deploy::{Action, Change, Order, Plan};
use crate::docker::{Container, State};

/// A container of the service, of any revision.
#[derive(Clone, Debug)]
pub struct Seen {
    pub container: Container,
    /// It runs, and its health path answers 2xx.
    pub well: bool,
}

impl Seen {
    pub fn revision(&self) -> u64 {
        self.label(REVISION).and_then(|revision| revision.parse().ok()).unwrap_or(0)
    }
    pub fn label(&self, label: &str) -> Option<&str> {
        self.container.labels.get(label).map(String::as_str)
    }
}

/// Everything the plan needs.
#[derive(Clone, Debug)]
pub struct Facts {
    pub seen: Vec<Seen>,
    /// What a hash of the order's settings is now.
    pub settings: String,
    /// The name a new container would get.
    pub fresh: String,
}

/// What apply will do.
#[derive(Clone, Debug)]
pub struct LocalPlan {
    changes: Vec<Change>,
    /// The container that serves when the deploy is done, new or as it was.
    pub current: String,
    pub revision: u64,
    /// Whether `current` is to be made.
    pub create: bool,
    /// Containers that go when `current` is well.
    pub leftovers: Vec<Container>,
    /// What serves now, and is well: the one to go back to.
    pub last_good: Option<(String, u64)>,
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
pub fn plan(order: &Order, facts: Facts) -> LocalPlan {
    let Facts { mut seen, settings, fresh } = facts;
    seen.sort_by_key(|seen| std::cmp::Reverse(seen.revision()));
    let newest = seen.first().map_or(0, Seen::revision);
    let last_good = seen.iter().find(|seen| seen.well).cloned();
    let is_wanted = |seen: &Seen| {
        seen.well
            && seen.label(DIGEST) == Some(&order.image.digest)
            && seen.label(SETTINGS) == Some(&settings)
    };
    let kept = seen.iter().position(is_wanted).map(|position| seen.remove(position));

    let mut changes = Vec::new();
    if kept.is_none() {
        if let Some(command) = &order.settings.before_deploy {
            let object = format!("Task/{}-before-deploy", order.settings.name);
            changes.push(Change {
                action: Action::Create,
                object,
                details: vec![command.join(" ")],
            });
        }
        changes.push(create(order, last_good.as_ref(), &settings));
    }
    // The one that is replaced is part of the change above; what else is there is left over from a
    // run that was cut short.
    let replaced =
        last_good.as_ref().filter(|_| kept.is_none()).map(|good| good.container.name.clone());
    for left in seen.iter().filter(|seen| Some(&seen.container.name) != replaced.as_ref()) {
        let state = if left.well { "of an earlier revision" } else { state(&left.container.state) };
        let details = vec![format!("revision {}, {state}", left.revision())];
        changes.push(Change {
            action: Action::Delete,
            object: format!("Container/{}", left.container.name),
            details,
        });
    }
    let (current, revision, create) = match &kept {
        Some(kept) => (kept.container.name.clone(), kept.revision(), false),
        None => (fresh, newest + 1, true),
    };
    let last_good = last_good.map(|good| (good.container.name.clone(), good.revision()));
    let leftovers = seen.into_iter().map(|seen| seen.container).collect();
    LocalPlan { changes, current, revision, create, leftovers, last_good }
}

fn create(order: &Order, replaced: Option<&Seen>, settings: &str) -> Change {
    let object = format!("Container/{}", order.settings.name);
    let Some(replaced) = replaced else {
        let details = vec![format!("version {}, {}", order.image.version, order.image.digest)];
        return Change { action: Action::Create, object, details };
    };
    let differs = |name: &str, label: &str, new: &str| {
        let old = replaced.label(label).unwrap_or("unknown");
        (old != new).then(|| format!("{name}: {old} → {new}"))
    };
    let mut details: Vec<String> = differs("version", VERSION, &order.image.version)
        .into_iter()
        .chain(differs("digest", DIGEST, &order.image.digest))
        .collect();
    if replaced.label(SETTINGS) != Some(settings) {
        details.push("settings: env, secrets, port, health, memory or before-deploy differ".into());
    }
    Change { action: Action::Update, object, details }
}

fn state(state: &State) -> &'static str {
    match state {
        State::Created => "never started",
        State::Running => "not well",
        State::Ended { .. } => "ended",
    }
}
