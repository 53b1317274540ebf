//! How a repository should be, where it differs, and what a repair changes. Pure.

use std::collections::BTreeMap;

use super::lifecycle;
use crate::config::pattern;
use crate::config::platform::{Keep, Lifecycle, Registry};
use crate::config::values::TagPattern;
use crate::error::{Error, Result};

/// Whose image it is.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    pub service: String,
    /// The web address of its sources.
    pub source: Option<String>,
    /// The identifiers that name its prereleases.
    pub channels: Vec<String>,
}

/// How a repository should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Tags that may be moved; all others may not.
    pub mutable_tags: Vec<String>,
    pub kms_key: Option<String>,
    /// None: the lifecycle policy is not our business.
    pub keep: Option<Keep>,
    /// AWS tags. Others may be there beside them.
    pub tags: BTreeMap<String, String>,
}

impl Settings {
    /// From platform.yaml, for the service whose repository it is.
    ///
    /// # Errors
    /// Bad input, when a pattern matches prereleases of one of the service's channels: they would
    /// lose their images.
    pub fn of(registry: &Registry, owner: &Owner) -> Result<Settings> {
        let keep = match &registry.lifecycle {
            Lifecycle::Keep(keep) => Some(keep.clone()),
            Lifecycle::Off => None,
        };
        let expiring = keep.iter().flat_map(|keep| &keep.snapshot_tags);
        let patterns =
            registry.mutable_tags.iter().map(|one| ("mutable-tags", "could be moved", one));
        for (key, fate, one) in
            patterns.chain(expiring.map(|one| ("lifecycle.snapshot-tags", "would be removed", one)))
        {
            spare_channels(key, fate, one, &owner.channels)?;
        }
        let mut tags = BTreeMap::from([("service".to_string(), owner.service.clone())]);
        tags.extend(owner.source.iter().map(|source| ("source".to_string(), source.clone())));
        tags.extend(registry.tags.iter().map(|(key, value)| (key.clone(), value.clone())));
        Ok(Settings {
            mutable_tags: registry
                .mutable_tags
                .iter()
                .map(|pattern| pattern.as_str().to_string())
                .collect(),
            kms_key: registry.kms_key.clone(),
            keep,
            tags,
        })
    }

    /// ECR's word for which tags stay what they are.
    pub fn mutability(&self) -> &'static str {
        if self.mutable_tags.is_empty() { "IMMUTABLE" } else { "IMMUTABLE_WITH_EXCLUSION" }
    }

    /// For people: what a new repository gets.
    pub fn in_words(&self) -> String {
        let tags = match self.mutable_tags.is_empty() {
            true => "immutable tags".to_string(),
            false => format!("immutable tags but for {}", self.mutable_tags.join(", ")),
        };
        let encrypted = self.kms_key.iter().map(|key| format!("encrypted with {key}"));
        let kept = self.keep.iter().map(|keep| {
            let snapshots = match keep.snapshot_tags.is_empty() {
                true => String::new(),
                false => format!("the newest {} snapshots stay, ", keep.snapshots),
            };
            format!(
                "{snapshots}images without a tag stay {} days, releases for ever",
                keep.untagged.0
            )
        });
        [tags, "scan on push".into()]
            .into_iter()
            .chain(encrypted)
            .chain(kept)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// The lifecycle policy as ECR reads it; none when it is not our business.
    pub fn lifecycle_policy(&self) -> Option<String> {
        self.keep.as_ref().map(lifecycle::policy)
    }

    /// What is to be said of an image with these tags; none when each of them keeps it.
    ///
    /// A lifecycle rule removes an image with all its tags, and none can spare one for its other
    /// tag: a wildcard that matches releases alone does not exist.
    pub fn loses_a_release(&self, tags: &[String]) -> Option<String> {
        let keep = self.keep.as_ref()?;
        let (snapshots, others): (Vec<&String>, Vec<&String>) = tags.iter().partition(|tag| {
            keep.snapshot_tags.iter().any(|pattern| pattern::matches(pattern.as_str(), tag))
        });
        let (snapshot, other) = (snapshots.first()?, others.first()?);
        Some(format!(
            "{other} and the snapshot {snapshot} are one image, and the lifecycle policy removes it, {other} included, when {} newer \
             snapshots are there: take the tag {snapshot} off it, or build {other} as an image of its own",
            keep.snapshots
        ))
    }
}

/// A prerelease of a channel is a release: it has a tag and is deployed by it.
fn spare_channels(key: &str, fate: &str, one: &TagPattern, channels: &[String]) -> Result<()> {
    let hit = channels.iter().find(|channel| pattern::matches_a_prerelease(one.as_str(), channel));
    hit.map_or(Ok(()), |channel| {
        Err(Error::input(format!("registry.{key} in platform.yaml has `{one}`, and the service has the channel `{channel}`"))
            .why(format!("the pattern matches prereleases like 2.0.0-{channel}.1, which {fate}"))
            .fix("write the pattern so that it matches snapshots only, like `*-main.*`, or give the channel another name in service.yaml"))
    })
}

/// Whether what is pushed is scanned: because the repository says so, or the registry for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scanned {
    Yes,
    No,
    /// We may not look.
    #[default]
    Unknown,
    /// Not by the repository's own setting; and the rules of another account's registry are told to
    /// that account only.
    ByRulesUnseen,
}

/// What ECR says of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `IMMUTABLE`, `MUTABLE` or one of the two `…_WITH_EXCLUSION`.
    pub mutability: String,
    /// The patterns that are excluded from it.
    pub excluded: Vec<String>,
    pub scanned: Scanned,
    /// `AES256`, `KMS` or `KMS_DSSE`.
    pub encryption: String,
    pub kms_key: Option<String>,
    /// The policy's text, and none when there is none. Unknown: we may not look.
    pub lifecycle: Option<Option<String>>,
    /// Unknown: we may not look.
    pub tags: Option<BTreeMap<String, String>>,
}

/// A change that brings a repository nearer to how it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Mutability,
    ScanOnPush,
    Lifecycle(String),
    Tags(BTreeMap<String, String>),
}

impl Change {
    /// The IAM action it needs.
    pub fn action(&self) -> &'static str {
        match self {
            Change::Mutability => "ecr:PutImageTagMutability",
            Change::ScanOnPush => "ecr:PutImageScanningConfiguration",
            Change::Lifecycle(_) => "ecr:PutLifecyclePolicy",
            Change::Tags(_) => "ecr:TagResource",
        }
    }

    /// The new lifecycle policy, when it is about that.
    pub fn lifecycle(&self) -> Option<&str> {
        match self {
            Change::Lifecycle(policy) => Some(policy),
            _ => None,
        }
    }
}

/// One thing in which a repository is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// What it is, and what it should be.
    pub what: String,
    pub fix: Fix,
}

/// How a drift ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// By `--repair`.
    Repair(Change),
    /// Not by us: what to do instead.
    ByHand(String),
}

/// Where a repository differs from how it should be, in the order of what it may cost.
pub fn drifts(facts: &Facts, settings: &Settings) -> Vec<Drift> {
    [
        mutability(facts, settings),
        scanning(facts),
        encryption(facts, settings),
        lifecycle(facts, settings),
        tags(facts, settings),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A drift that a repair ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repair<'a> {
    pub what: &'a str,
    pub change: &'a Change,
}

/// The drifts that a repair ends, and the others in words.
pub fn sort<'a>(name: &str, drifts: &'a [Drift]) -> (Vec<Repair<'a>>, Vec<String>) {
    let (mut repairs, mut by_hand) = (Vec::new(), Vec::new());
    for Drift { what, fix } in drifts {
        match fix {
            Fix::Repair(change) => repairs.push(Repair { what, change }),
            Fix::ByHand(fix) => by_hand.push(format!("{name}: {what}; {fix}")),
        }
    }
    (repairs, by_hand)
}

/// What a push says that does not repair: one sentence for all, as one run ends them all. None when
/// all is as it should be.
pub fn warning(name: &str, repairs: &[Repair]) -> Option<String> {
    let whats: Vec<&str> = repairs.iter().map(|repair| repair.what).collect();
    let actions: Vec<String> =
        repairs.iter().map(|repair| format!("`{}`", repair.change.action())).collect();
    (!repairs.is_empty()).then(|| {
        format!(
            "{name} is not as platform.yaml says: {}; run this once with --repair (in a workflow `repair: true`), which needs {}",
            whats.join("; "),
            actions.join(", ")
        )
    })
}

fn mutability(facts: &Facts, settings: &Settings) -> Option<Drift> {
    let sorted = |patterns: &[String]| {
        let mut patterns = patterns.to_vec();
        patterns.sort();
        patterns
    };
    let same = facts.mutability == settings.mutability()
        && sorted(&facts.excluded) == sorted(&settings.mutable_tags);
    let in_words = |word: &str, excluded: &[String]| match excluded.is_empty() {
        true => word.to_string(),
        false => format!("{word} ({})", excluded.join(", ")),
    };
    (!same).then(|| Drift {
        what: format!(
            "its tags are {} and should be {}",
            in_words(&facts.mutability, &facts.excluded),
            in_words(settings.mutability(), &settings.mutable_tags)
        ),
        fix: Fix::Repair(Change::Mutability),
    })
}

fn scanning(facts: &Facts) -> Option<Drift> {
    let (what, fix) = match facts.scanned {
        Scanned::Yes | Scanned::Unknown => return None,
        Scanned::No => {
            ("what is pushed is not scanned, and should be: scanOnPush is false", Fix::Repair(Change::ScanOnPush))
        }
        Scanned::ByRulesUnseen => (
            "scanOnPush is false, and whether its registry's own rules scan what is pushed is told to that account only",
            Fix::ByHand(
                "have someone of that account look (aws ecr batch-get-repository-scanning-configuration), and where they do not, set it \
                 (aws ecr put-image-scanning-configuration)"
                    .into(),
            ),
        ),
    };
    Some(Drift { what: what.into(), fix })
}

/// Only a wish that is not met is a drift; and the account may want more than platform.yaml says.
fn encryption(facts: &Facts, settings: &Settings) -> Option<Drift> {
    let wanted = settings.kms_key.as_deref()?;
    let there = facts.kms_key.as_deref().unwrap_or_default();
    let same_key = there == wanted
        || there.ends_with(&format!(":key/{wanted}"))
        // ECR tells the key behind an alias, and not the alias.
        || wanted.contains("alias/");
    let is = match facts.encryption.as_str() {
        "KMS" | "KMS_DSSE" if same_key => return None,
        "KMS" | "KMS_DSSE" => format!("with {there}"),
        other => format!("by {other}"),
    };
    Some(Drift {
        what: format!("it is encrypted {is}, and should be with {wanted}"),
        fix: Fix::ByHand(
            "ECR sets this when it creates a repository, and never again: push what is still needed to a repository of another name, \
             and let this one go when nothing runs from it; or take `kms-key` out of platform.yaml"
                .into(),
        ),
    })
}

fn lifecycle(facts: &Facts, settings: &Settings) -> Option<Drift> {
    lifecycle::drift(settings.keep.as_ref()?, facts.lifecycle.as_ref()?.as_deref())
}

fn tags(facts: &Facts, settings: &Settings) -> Option<Drift> {
    let there = facts.tags.as_ref()?;
    let missing: BTreeMap<String, String> = settings
        .tags
        .iter()
        .filter(|(key, value)| there.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let each = missing.iter().map(|(key, value)| match there.get(key) {
        Some(other) => format!("its tag {key} is {other} and should be {value}"),
        None => format!("its tag {key} is missing and should be {value}"),
    });
    let what = each.collect::<Vec<_>>().join("; ");
    (!missing.is_empty()).then_some(Drift { what, fix: Fix::Repair(Change::Tags(missing)) })
}

#[cfg(test)]
mod tests;
