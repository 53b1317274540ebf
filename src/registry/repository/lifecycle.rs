//! The lifecycle policy: its rules, in what one that is there differs, and which images a new one
//! would take. Pure.
//!
//! ECR's preview of a policy tells the latter, too. It runs for minutes, one at a time, wants two
//! more IAM actions, and says only what goes at once; so the images are looked at and the rules are
//! followed here, as ECR does.
//! <https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html>

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::plan::{Change, Drift, Fix};
use crate::config::pattern;
use crate::config::platform::Keep;
use crate::error::Error;

/// What the descriptions of our lifecycle rules begin with: rules that do not are somebody else's.
const OURS: &str = "cicd: ";
/// More images than these are not named in a refusal.
const MOST_NAMED: usize = 10;
const DAY: i64 = 24 * 60 * 60;

/// The policy as ECR reads it.
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html>
pub fn policy(keep: &Keep) -> String {
    json!({ "rules": rules(keep) }).to_string()
}

/// The rules of the policy. Each pattern has a rule of its own, as a rule takes only images that
/// have them all.
pub fn rules(keep: &Keep) -> Vec<Value> {
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

/// In what the policy that is `there` (none: there is none) differs from what is wanted.
pub fn drift(keep: &Keep, there: Option<&str>) -> Option<Drift> {
    let wanted = rules(keep);
    let repair = Fix::Repair(Change::Lifecycle(policy(keep)));
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
    let same = found.len() == wanted.len()
        && wanted.iter().zip(&found).all(|(wanted, found)| has(found, wanted));
    let told = |rules: &mut dyn Iterator<Item = &Value>| {
        rules
            .filter_map(|rule| rule["description"].as_str()?.strip_prefix(OURS))
            .collect::<Vec<_>>()
            .join("; ")
    };
    let (is, should) = (told(&mut found.iter().copied()), told(&mut wanted.iter()));
    (!same).then(|| Drift {
        what: match is == should {
            true => format!(
                "its lifecycle policy says that it is `{is}`, and its rules do something else"
            ),
            false => format!("its lifecycle policy is `{is}` and should be `{should}`"),
        },
        fix: repair,
    })
}

/// Which of these rules can remove a release.
fn risks(rules: &[&Value]) -> String {
    let is_risky = |rule: &&&Value| {
        let selection = &rule["selection"];
        let list =
            |key: &str| selection[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        let prefixes = list("tagPrefixList").map(|prefix| format!("{prefix}*"));
        let mut patterns = list("tagPatternList").map(str::to_string).chain(prefixes);
        let takes_releases = match selection["tagStatus"].as_str() {
            Some("any") => true,
            Some("tagged") => patterns.all(|one| pattern::matches_a_release(&one)),
            _ => false,
        };
        takes_releases && rule["action"]["type"] == "expire"
    };
    let named: Vec<String> =
        rules.iter().filter(is_risky).map(|rule| rule["rulePriority"].to_string()).collect();
    match named.as_slice() {
        [] => String::new(),
        [one] => format!("; its rule {one} can remove releases"),
        many => format!("; its rules {} can remove releases", many.join(", ")),
    }
}

/// Whether `found` says all that `wanted` does. ECR may say more than it was given.
fn has(found: &Value, wanted: &Value) -> bool {
    match wanted.as_object() {
        Some(wanted) => wanted.iter().all(|(key, value)| has(&found[key], value)),
        None => found == wanted,
    }
}

/// An image, an index or whatever else has a manifest in a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub digest: String,
    pub tags: Vec<String>,
    /// Unknown counts as long ago.
    pub pushed: Option<Timestamp>,
    pub is_index: bool,
    /// The image that it is about, when it is an SBOM or a signature.
    pub subject: Option<String>,
    /// In ECR's archive, where our rules take nothing.
    pub is_archived: bool,
}

/// All that is in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    pub all: Vec<Image>,
    /// What the indexes among them refer to.
    pub children: BTreeSet<String>,
    /// When they were looked at.
    pub at: Timestamp,
}

impl Images {
    /// Those that our rules speak of, with their places.
    fn standard(&self) -> impl Iterator<Item = (usize, &Image)> {
        self.all.iter().enumerate().filter(|(_, image)| !image.is_archived)
    }
}

/// The indexes whose children matter: without images that have no tag, none does.
pub fn indexes(images: &[Image]) -> Vec<String> {
    let matter = images.iter().any(|image| image.tags.is_empty() && image.subject.is_none());
    images
        .iter()
        .filter(|image| matter && image.is_index)
        .map(|image| image.digest.clone())
        .collect()
}

/// What an index refers to.
pub fn children(manifest: &str) -> Vec<String> {
    #[derive(Default, Deserialize)]
    struct Index {
        #[serde(default)]
        manifests: Vec<Child>,
    }
    #[derive(Deserialize)]
    struct Child {
        digest: String,
    }
    let index: Index = serde_json::from_str(manifest).unwrap_or_default();
    index.manifests.into_iter().map(|child| child.digest).collect()
}

/// How a policy ends an image. The earlier, the less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Within a day.
    Now,
    /// On a day, although nothing else happens.
    On(Timestamp),
    /// When this many more of its kind are pushed, and with it a tag that is no snapshot's.
    Behind(usize),
    /// Never, or as one of many that newer ones take the place of.
    AsMeant,
}

impl End {
    fn in_words(self) -> String {
        match self {
            End::Now => "goes within a day".into(),
            End::On(day) => format!("goes on {}", day.strftime("%Y-%m-%d")),
            End::Behind(newer) => {
                format!("goes with all its tags, when {newer} more snapshots are pushed")
            }
            End::AsMeant => "stays".into(),
        }
    }
}

/// A rule of ours as ECR follows it: which images, and which of them stay.
enum Rule {
    Newest { pattern: String, stay: usize },
    Untagged { days: i64 },
}

/// The rules of a policy; none, when one of them is not made as ours are.
fn read(policy: &str) -> Option<Vec<Rule>> {
    let parsed: Value = serde_json::from_str(policy).ok()?;
    let mut rules: Vec<&Value> = parsed["rules"].as_array()?.iter().collect();
    rules.sort_by_key(|rule| rule["rulePriority"].as_i64());
    let rule = |rule: &&Value| {
        let selection = &rule["selection"];
        // One that archives, or takes from the archive, ends nothing of what ours ends.
        let is_standard =
            selection["storageClass"].as_str().is_none_or(|class| class == "standard");
        if !is_standard || rule["action"]["type"] != "expire" {
            return None;
        }
        let number = selection["countNumber"].as_i64()?;
        match (selection["tagStatus"].as_str()?, selection["countType"].as_str()?) {
            ("tagged", "imageCountMoreThan") => {
                match selection["tagPatternList"].as_array()?.as_slice() {
                    [one] => Some(Rule::Newest {
                        pattern: one.as_str()?.into(),
                        stay: usize::try_from(number).ok()?,
                    }),
                    _ => None,
                }
            }
            ("untagged", "sinceImagePushed") => Some(Rule::Untagged { days: number }),
            _ => None,
        }
    };
    rules.iter().map(rule).collect()
}

/// How each image ends by the rules of a policy. An image belongs to the first rule that it
/// matches, by any of its tags; the rules behind it count it, and do not take it.
fn ends(rules: &[Rule], images: &Images) -> Vec<End> {
    let mut ends: Vec<Option<End>> = vec![None; images.all.len()];
    let is_snapshots = |tag: &String| {
        rules.iter().any(
            |rule| matches!(rule, Rule::Newest { pattern, .. } if pattern::matches(pattern, tag)),
        )
    };
    for rule in rules {
        let mut end = |at: usize, how: End| ends[at] = ends[at].take().or(Some(how));
        match rule {
            Rule::Newest { pattern, stay } => {
                let is_of = |tag: &String| pattern::matches(pattern, tag);
                let mut matching: Vec<(usize, &Image)> =
                    images.standard().filter(|(_, image)| image.tags.iter().any(is_of)).collect();
                matching.sort_by_key(|(_, image)| std::cmp::Reverse(image.pushed));
                for (place, (at, image)) in matching.into_iter().enumerate() {
                    end(
                        at,
                        match stay.checked_sub(place) {
                            None | Some(0) => End::Now,
                            Some(_) if image.tags.iter().all(is_snapshots) => End::AsMeant,
                            Some(newer) => End::Behind(newer),
                        },
                    );
                }
            }
            Rule::Untagged { days } => {
                for (at, image) in images.standard().filter(|(_, image)| image.tags.is_empty()) {
                    let until = image.pushed.and_then(|at| {
                        Timestamp::from_second(
                            at.as_second().saturating_add(days.saturating_mul(DAY)),
                        )
                        .ok()
                    });
                    end(at, until.filter(|until| *until > images.at).map_or(End::Now, End::On));
                }
            }
        }
    }
    ends.into_iter().map(|end| end.unwrap_or(End::AsMeant)).collect()
}

/// An image that a new policy takes, and that the one before leaves alone for longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss<'a> {
    pub image: &'a Image,
    pub end: End,
}

/// What the policy `after` takes sooner than the one `before` (none: none) does. Not among it:
/// snapshots that newer ones will take the place of, as is meant; and what goes with another image
/// or stays with it, as an index's children and an image's SBOM do.
pub fn losses<'a>(before: Option<&str>, after: &str, images: &'a Images) -> Vec<Loss<'a>> {
    let there: HashSet<&str> = images.all.iter().map(|image| image.digest.as_str()).collect();
    let belongs = |image: &Image| {
        images.children.contains(&image.digest)
            || image.subject.as_deref().is_some_and(|subject| there.contains(subject))
    };
    // A policy that cannot be followed is taken to keep everything.
    let ends = |policy: Option<&str>| ends(&policy.and_then(read).unwrap_or_default(), images);
    let (before, after) = (ends(before), ends(Some(after)));
    let sooner = images
        .all
        .iter()
        .zip(before.iter().zip(&after))
        .filter(|(_, (before, after))| after < before);
    // Whatever has a tag is somebody's, whoever refers to it.
    let own = sooner.filter(|(image, _)| !image.tags.is_empty() || !belongs(image));
    own.map(|(image, (_, end))| Loss { image, end: *end }).collect()
}

/// Why the policy of the repository `name` is not changed; none when nothing is lost. `aws` makes
/// an `aws ecr` command for the repository of a verb.
pub fn refusal(name: &str, losses: &[Loss], aws: impl Fn(&str) -> String) -> Option<Error> {
    losses.first()?;
    let shown = losses.iter().take(MOST_NAMED).map(|Loss { image, end }| {
        let tags = if image.tags.is_empty() { "no tag".into() } else { image.tags.join(", ") };
        let pushed = image.pushed.map_or("at an unknown time".into(), |at| at.to_string());
        format!("{} ({tags}), pushed {pushed}: {}", image.digest, end.in_words())
    });
    let more = losses.len().saturating_sub(MOST_NAMED);
    let more = (more > 0).then(|| format!("and {more} more"));
    let count = match losses.len() {
        1 => "an image that is".to_string(),
        many => format!("{many} images that are"),
    };
    let untagged =
        losses.iter().find(|loss| loss.image.tags.is_empty()).map(|Loss { image, .. }| {
            format!(
                "an image without a tag that runs, or may be gone back to, stays with one: {}",
                tagging(&image.digest, &aws)
            )
        });
    let released = losses.iter().any(|loss| loss.image.tags.len() > 1).then(|| {
        format!(
            "an image of a release and of a snapshot stays without the snapshot's tag: {} --image-ids imageTag=SNAPSHOT",
            aws("batch-delete-image")
        )
    });
    let fixes = [
        untagged,
        released,
        Some(format!(
            "what nobody needs can go at once: {} --image-ids imageDigest=DIGEST",
            aws("batch-delete-image")
        )),
        Some(
            "or keep more: `lifecycle: {snapshots: …, untagged: …}` below `registry` in platform.yaml, or `lifecycle: off`; \
             then run this again"
                .into(),
        ),
    ];
    Some(
        Error::refused(format!(
            "the lifecycle policy of {name} is not changed: ECR would remove {count} there now"
        ))
        .why(shown.chain(more).collect::<Vec<_>>().join("\n"))
        .fix(fixes.into_iter().flatten().collect::<Vec<_>>().join("\n")),
    )
}

/// What is to be said when an image without a tag is deployed.
pub fn deployed_untagged(
    name: &str,
    digest: &str,
    keep: &Keep,
    aws: impl Fn(&str) -> String,
) -> String {
    format!(
        "{name}@{digest} has no tag, and by the lifecycle policy in platform.yaml an image without one is removed {} days after it was pushed, \
         also while it runs: give it one ({})",
        keep.untagged.0,
        tagging(digest, &aws)
    )
}

/// The command that gives an image a tag. It says the digest, too: a shell drops the newline that a
/// manifest may end with, and what is left would be another image.
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-retag.html>
fn tagging(digest: &str, aws: &impl Fn(&str) -> String) -> String {
    let image = format!("--image-ids imageDigest={digest}");
    let manifest = format!(
        "{} {image} --query 'images[0].imageManifest' --output text",
        aws("batch-get-image")
    );
    format!(
        "{} --image-tag TAG --image-digest {digest} --image-manifest \"$({manifest})\"",
        aws("put-image")
    )
}

#[cfg(test)]
mod tests;
