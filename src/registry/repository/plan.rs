//! How a repository should be, where it differs, and what a repair changes. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::config::pattern;
use crate::config::platform::{Keep, Lifecycle, Registry};
use crate::config::values::TagPattern;
use crate::error::{Error, Result};

/// What the descriptions of our lifecycle rules begin with: rules that do not are somebody else's.
const OURS: &str = "cicd: ";

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
    /// Bad input, when a pattern matches prereleases of one of the service's channels: they would lose their images.
    pub fn of(registry: &Registry, owner: &Owner) -> Result<Settings> {
        let keep = match &registry.lifecycle {
            Lifecycle::Keep(keep) => Some(keep.clone()),
            Lifecycle::Off => None,
        };
        let expiring = keep.iter().flat_map(|keep| &keep.snapshot_tags);
        let patterns = registry.mutable_tags.iter().map(|one| ("mutable-tags", "could be moved", one));
        for (key, fate, one) in patterns.chain(expiring.map(|one| ("lifecycle.snapshot-tags", "would be removed", one)))
        {
            spare_channels(key, fate, one, &owner.channels)?;
        }
        let mut tags = BTreeMap::from([("service".to_string(), owner.service.clone())]);
        tags.extend(owner.source.iter().map(|source| ("source".to_string(), source.clone())));
        tags.extend(registry.tags.iter().map(|(key, value)| (key.clone(), value.clone())));
        Ok(Settings {
            mutable_tags: registry.mutable_tags.iter().map(|pattern| pattern.as_str().to_string()).collect(),
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
            format!("{snapshots}images without a tag stay {} days, releases for ever", keep.untagged.0)
        });
        [tags, "scan on push".into()].into_iter().chain(encrypted).chain(kept).collect::<Vec<_>>().join(", ")
    }

    /// The lifecycle policy as ECR reads it; none when it is not our business.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html>
    pub fn lifecycle_policy(&self) -> Option<String> {
        self.keep.as_ref().map(|keep| json!({ "rules": rules(keep) }).to_string())
    }

    /// What is to be said of an image with these tags; none when each of them keeps it.
    ///
    /// A lifecycle rule removes an image with all its tags, and none can spare one for its other tag: a wildcard that matches
    /// releases alone does not exist.
    pub fn loses_a_release(&self, tags: &[String]) -> Option<String> {
        let keep = self.keep.as_ref()?;
        let (snapshots, others): (Vec<&String>, Vec<&String>) = tags
            .iter()
            .partition(|tag| keep.snapshot_tags.iter().any(|pattern| pattern::matches(pattern.as_str(), tag)));
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

/// What ECR says of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `IMMUTABLE`, `MUTABLE` or one of the two `…_WITH_EXCLUSION`.
    pub mutability: String,
    /// The patterns that are excluded from it.
    pub excluded: Vec<String>,
    /// Whether what is pushed is scanned: because the repository says so, or the registry for it. Unknown: we may not look.
    pub scanned: Option<bool>,
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

    /// What whoever makes it should know, as the end of a sentence.
    pub fn warning(&self) -> &'static str {
        match self {
            Change::Lifecycle(_) => {
                "; within a day ECR removes what it does not keep (first: aws ecr start-lifecycle-policy-preview)"
            }
            _ => "",
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

fn mutability(facts: &Facts, settings: &Settings) -> Option<Drift> {
    let sorted = |patterns: &[String]| {
        let mut patterns = patterns.to_vec();
        patterns.sort();
        patterns
    };
    let same = facts.mutability == settings.mutability() && sorted(&facts.excluded) == sorted(&settings.mutable_tags);
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
    (facts.scanned == Some(false)).then(|| Drift {
        what: "what is pushed is not scanned, and should be: scanOnPush is false".into(),
        fix: Fix::Repair(Change::ScanOnPush),
    })
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
    let (keep, there) = (settings.keep.as_ref()?, facts.lifecycle.as_ref()?);
    let wanted = rules(keep);
    let repair = Fix::Repair(Change::Lifecycle(settings.lifecycle_policy()?));
    let Some(text) = there else {
        return Some(Drift {
            what: "it has no lifecycle policy: images stay for ever, and are paid for".into(),
            fix: repair,
        });
    };
    let parsed: Value = serde_json::from_str(text).unwrap_or_default();
    let mut found: Vec<&Value> = parsed["rules"].as_array().into_iter().flatten().collect();
    let foreign: Vec<&Value> = found
        .iter()
        .copied()
        .filter(|rule| !rule["description"].as_str().unwrap_or_default().starts_with(OURS))
        .collect();
    if found.is_empty() || !foreign.is_empty() {
        return Some(Drift {
            what: format!("its lifecycle policy is not ours, and stays as it is{}", risks(&foreign)),
            fix: Fix::ByHand(
                "when that is meant, say `lifecycle: off` below `registry` in platform.yaml; else remove it (aws ecr \
                 delete-lifecycle-policy), and run this with --repair"
                    .into(),
            ),
        });
    }
    found.sort_by_key(|rule| rule["rulePriority"].as_i64());
    let same = found.len() == wanted.len() && wanted.iter().zip(&found).all(|(wanted, found)| has(found, wanted));
    let told = |rules: &mut dyn Iterator<Item = &Value>| {
        rules.filter_map(|rule| rule["description"].as_str()?.strip_prefix(OURS)).collect::<Vec<_>>().join("; ")
    };
    (!same).then(|| Drift {
        what: format!(
            "its lifecycle policy is `{}` and should be `{}`",
            told(&mut found.iter().copied()),
            told(&mut wanted.iter())
        ),
        fix: repair,
    })
}

/// Which of these rules can remove a release.
fn risks(rules: &[&Value]) -> String {
    let is_risky = |rule: &&&Value| {
        let selection = &rule["selection"];
        let list = |key: &str| selection[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        let prefixes = list("tagPrefixList").map(|prefix| format!("{prefix}*"));
        let mut patterns = list("tagPatternList").map(str::to_string).chain(prefixes);
        let takes_releases = match selection["tagStatus"].as_str() {
            Some("any") => true,
            Some("tagged") => patterns.all(|one| pattern::matches_a_release(&one)),
            _ => false,
        };
        takes_releases && rule["action"]["type"] == "expire"
    };
    let named: Vec<String> = rules.iter().filter(is_risky).map(|rule| rule["rulePriority"].to_string()).collect();
    match named.as_slice() {
        [] => String::new(),
        [one] => format!("; its rule {one} can remove releases"),
        many => format!("; its rules {} can remove releases", many.join(", ")),
    }
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

/// The rules of the lifecycle policy. Each pattern has a rule of its own, as a rule takes only images that have them all.
fn rules(keep: &Keep) -> Vec<Value> {
    let rule = |description: String, selection: Value| json!({ "description": format!("{OURS}{description}"), "selection": selection, "action": { "type": "expire" } });
    let snapshots = keep.snapshot_tags.iter().map(|one| {
        rule(
            format!("the newest {} of {one} stay", keep.snapshots),
            json!({
                "tagStatus": "tagged", "tagPatternList": [one.as_str()],
                "countType": "imageCountMoreThan", "countNumber": keep.snapshots,
            }),
        )
    });
    let untagged = rule(
        format!("images without a tag stay {} days", keep.untagged.0),
        json!({
            "tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": keep.untagged.0,
        }),
    );
    let mut rules: Vec<Value> = snapshots.chain([untagged]).collect();
    for (priority, rule) in (1..).zip(&mut rules) {
        rule["rulePriority"] = json!(priority);
    }
    rules
}

/// Whether `found` says all that `wanted` does. ECR may say more than it was given.
fn has(found: &Value, wanted: &Value) -> bool {
    match wanted.as_object() {
        Some(wanted) => wanted.iter().all(|(key, value)| has(&found[key], value)),
        None => found == wanted,
    }
}

#[cfg(test)]
mod tests;
