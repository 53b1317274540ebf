//! The settings of a repository, where it differs from them, and what a repair changes. Pure.

use std::collections::BTreeMap;

use super::drift::{Change, Drift, Fix};
use super::lifecycle;
use crate::config::pattern;
use crate::config::platform::{Keep, Lifecycle, Registry};
use crate::config::values::TagPattern;
use crate::error::{Error, Result};

/// The owner of an image.
#[derive(Clone, Debug, Default)]
pub struct Owner {
    pub service: String,
    /// The web address of its sources.
    pub source: Option<String>,
    /// The identifiers that name its prereleases.
    pub channels: Vec<String>,
}

/// The settings that a repository should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositorySettings {
    /// Patterns of tags that may be moved; all other tags may not.
    pub mutable_tags: Vec<String>,
    pub kms_key: Option<String>,
    /// `None` if we leave the lifecycle policy alone.
    pub keep: Option<Keep>,
    /// AWS tags. The repository may have others, too.
    pub tags: BTreeMap<String, String>,
}

impl RepositorySettings {
    /// Reads the settings of an owner's repository from platform.yaml.
    ///
    /// # Errors
    /// Bad input, if a pattern matches prereleases of one of the service's channels, which would
    /// lose their images.
    pub fn of(registry: &Registry, owner: &Owner) -> Result<RepositorySettings> {
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
        Ok(RepositorySettings {
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

    /// ECR's word for the mutability of the tags.
    pub fn mutability(&self) -> &'static str {
        if self.mutable_tags.is_empty() { "IMMUTABLE" } else { "IMMUTABLE_WITH_EXCLUSION" }
    }

    /// Describes the settings of a new repository for people.
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

    /// The lifecycle policy as ECR reads it; `None` if we leave it alone.
    pub fn lifecycle_policy(&self) -> Option<String> {
        self.keep.as_ref().map(lifecycle::write_policy)
    }

    /// Warns of an image that loses a release's tag; `None` if each of its tags keeps it.
    ///
    /// A lifecycle rule removes an image with all its tags. No rule can spare one for another tag,
    /// as no wildcard matches releases alone.
    pub fn loses_a_release(&self, tags: &[String]) -> Option<String> {
        let keep = self.keep.as_ref()?;
        let (snapshots, others): (Vec<&String>, Vec<&String>) = tags.iter().partition(|tag| {
            keep.snapshot_tags.iter().any(|pattern| pattern::matches(pattern.as_str(), tag))
        });
        let (snapshot, other) = (snapshots.first()?, others.first()?);
        Some(format!(
            "{other} and the snapshot {snapshot} are one image, and the lifecycle policy removes \
             it, {other} included, behind {} newer snapshots: remove the tag {snapshot} from it, or \
             build {other} as an image of its own",
            keep.snapshots
        ))
    }
}

/// Refuses a pattern that matches a channel's prereleases, which are releases with tags.
fn spare_channels(key: &str, fate: &str, one: &TagPattern, channels: &[String]) -> Result<()> {
    let hit = channels.iter().find(|channel| pattern::matches_a_prerelease(one.as_str(), channel));
    hit.map_or(Ok(()), |channel| {
        Err(Error::input(format!(
            "cannot use registry.{key} in platform.yaml: it has `{one}`, and the service has the \
             channel `{channel}`"
        ))
        .why(format!("the pattern matches prereleases like 2.0.0-{channel}.1, which {fate}"))
        .fix("write a pattern that matches snapshots only, like `*-main.*`")
        .fix("or give the channel another name in service.yaml"))
    })
}

/// Whether ECR scans pushed images, by the repository's setting or the registry's rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scanned {
    Yes,
    No,
    /// The role may not look.
    #[default]
    Unknown,
    /// The repository's setting says no, and only another account may read its registry's rules.
    ByRulesUnseen,
}

/// The state of a repository, as ECR reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepositoryFacts {
    /// `IMMUTABLE`, `MUTABLE` or one of the two `…_WITH_EXCLUSION`.
    pub mutability: String,
    /// The patterns of tags that are excluded from the mutability.
    pub excluded: Vec<String>,
    pub scanned: Scanned,
    /// `AES256`, `KMS` or `KMS_DSSE`.
    pub encryption: String,
    pub kms_key: Option<String>,
    /// The text of the policy, `Some(None)` without one; `None` if the role may not look.
    pub lifecycle: Option<Option<String>>,
    /// `None` if the role may not look.
    pub tags: Option<BTreeMap<String, String>>,
}

/// Finds where a repository differs from its settings, the costliest difference first.
pub fn find_drifts(facts: &RepositoryFacts, settings: &RepositorySettings) -> Vec<Drift> {
    [
        compare_mutability(facts, settings),
        compare_scanning(facts),
        compare_encryption(facts, settings),
        compare_lifecycle(facts, settings),
        compare_tags(facts, settings),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A drift that `--repair` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repair<'a> {
    pub what: &'a str,
    pub change: &'a Change,
}

/// Sorts drifts into those that a repair ends, and the others in words.
pub fn sort_drifts<'a>(name: &str, drifts: &'a [Drift]) -> (Vec<Repair<'a>>, Vec<String>) {
    let (mut repairs, mut by_hand) = (Vec::new(), Vec::new());
    for Drift { what, fix } in drifts {
        match fix {
            Fix::Repair(change) => repairs.push(Repair { what, change }),
            Fix::ByHand(fix) => by_hand.push(format!("{name}: {what}; {fix}")),
        }
    }
    (repairs, by_hand)
}

/// Formats the warning of a push that does not repair: one sentence, as one run repairs all. `None`
/// without a drift.
pub fn format_drift_warning(name: &str, repairs: &[Repair]) -> Option<String> {
    let whats: Vec<&str> = repairs.iter().map(|repair| repair.what).collect();
    let actions: Vec<String> =
        repairs.iter().map(|repair| format!("`{}`", repair.change.action())).collect();
    (!repairs.is_empty()).then(|| {
        format!(
            "{name} is not as platform.yaml says: {}; run this once with --repair (in a workflow \
             `repair: true`), which needs {}",
            whats.join("; "),
            actions.join(", ")
        )
    })
}

fn compare_mutability(facts: &RepositoryFacts, settings: &RepositorySettings) -> Option<Drift> {
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

fn compare_scanning(facts: &RepositoryFacts) -> Option<Drift> {
    let (what, fix) = match facts.scanned {
        Scanned::Yes | Scanned::Unknown => return None,
        Scanned::No => (
            "what is pushed is not scanned, and should be: scanOnPush is false",
            Fix::Repair(Change::ScanOnPush),
        ),
        Scanned::ByRulesUnseen => (
            "scanOnPush is false, and whether its registry's own rules scan what is pushed is told \
             to that account only",
            Fix::ByHand(
                "have someone of that account look (aws ecr \
                 batch-get-repository-scanning-configuration), and if they do not, set it (aws ecr \
                 put-image-scanning-configuration)"
                    .into(),
            ),
        ),
    };
    Some(Drift { what: what.into(), fix })
}

/// Compares the encryption with a key that platform.yaml names; without one, any encryption is
/// right.
fn compare_encryption(facts: &RepositoryFacts, settings: &RepositorySettings) -> Option<Drift> {
    let wanted = settings.kms_key.as_deref()?;
    let there = facts.kms_key.as_deref().unwrap_or_default();
    let same_key = there == wanted
        || there.ends_with(&format!(":key/{wanted}"))
        // ECR reports the key behind an alias, not the alias.
        || wanted.contains("alias/");
    let is = match facts.encryption.as_str() {
        "KMS" | "KMS_DSSE" if same_key => return None,
        "KMS" | "KMS_DSSE" => format!("with {there}"),
        other => format!("by {other}"),
    };
    Some(Drift {
        what: format!("it is encrypted {is}, and should be with {wanted}"),
        fix: Fix::ByHand(
            "push what is still needed to a repository of another name, and remove this one when \
             nothing runs from it, as ECR sets this when it creates a repository, and never again; \
             or take `kms-key` out of platform.yaml"
                .into(),
        ),
    })
}

fn compare_lifecycle(facts: &RepositoryFacts, settings: &RepositorySettings) -> Option<Drift> {
    lifecycle::find_drift(settings.keep.as_ref()?, facts.lifecycle.as_ref()?.as_deref())
}

fn compare_tags(facts: &RepositoryFacts, settings: &RepositorySettings) -> Option<Drift> {
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
