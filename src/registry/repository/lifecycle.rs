//! The lifecycle policy: its rules, how an existing one differs, and which images a new one would
//! remove. Pure.
//!
//! The rules are followed here as ECR follows them. ECR's own preview runs for minutes, one at a
//! time, needs two more IAM actions, and reports only what goes at once.
//! <https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html>

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::drift::{Change, Drift, Fix};
use crate::config::pattern;
use crate::config::platform::Keep;
use crate::error::Error;

/// The prefix of our lifecycle rules' descriptions; other rules are somebody else's.
const OURS: &str = "cicd: ";
/// More images than these are not named in a refusal.
const MOST_NAMED: usize = 10;
const DAY: i64 = 24 * 60 * 60;

/// Writes the policy as ECR reads it.
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html>
pub fn write_policy(keep: &Keep) -> String {
    json!({ "rules": list_rules(keep) }).to_string()
}

/// Lists the rules of the policy. Each pattern has a rule of its own, as a rule with several takes
/// only images that match all of them.
pub fn list_rules(keep: &Keep) -> Vec<Value> {
    let rule = |description: String, selection: Value| {
        json!({
            "description": format!("{OURS}{description}"),
            "selection": selection,
            "action": { "type": "expire" },
        })
    };
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
            "tagStatus": "untagged", "countType": "sinceImagePushed",
            "countUnit": "days", "countNumber": keep.untagged.0,
        }),
    );
    let mut rules: Vec<Value> = snapshots.chain([untagged]).collect();
    for (priority, rule) in (1..).zip(&mut rules) {
        rule["rulePriority"] = json!(priority);
    }
    rules
}

/// Finds how the policy `there` differs from the settings; `there` is `None` without a policy.
pub fn find_drift(keep: &Keep, there: Option<&str>) -> Option<Drift> {
    let wanted = list_rules(keep);
    let repair = Fix::Repair(Change::Lifecycle(write_policy(keep)));
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
            what: format!(
                "its lifecycle policy is not ours, and stays as it is{}",
                name_risky_rules(&foreign)
            ),
            fix: Fix::ByHand(
                "write `lifecycle: off` below `registry` in platform.yaml, if that is meant; else \
                 remove it (aws ecr delete-lifecycle-policy), and run this with --repair"
                    .into(),
            ),
        });
    }
    found.sort_by_key(|rule| rule["rulePriority"].as_i64());
    let same = found.len() == wanted.len()
        && wanted.iter().zip(&found).all(|(wanted, found)| contains_all(found, wanted));
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

/// Names those of the rules that can remove a release.
fn name_risky_rules(rules: &[&Value]) -> String {
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

/// Whether `found` contains all of `wanted`. ECR may add to what it was given.
fn contains_all(found: &Value, wanted: &Value) -> bool {
    match wanted.as_object() {
        Some(wanted) => wanted.iter().all(|(key, value)| contains_all(&found[key], value)),
        None => found == wanted,
    }
}

/// An image, an index or another manifest in a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredImage {
    pub digest: String,
    pub tags: Vec<String>,
    /// An unknown time counts as long ago.
    pub pushed: Option<Timestamp>,
    pub is_index: bool,
    /// The image of an SBOM or a signature.
    pub subject: Option<String>,
    /// Whether it is in ECR's archive, where our rules remove nothing.
    pub is_archived: bool,
}

/// All images of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageList {
    pub all: Vec<StoredImage>,
    /// The digests that the indexes among them refer to.
    pub children: BTreeSet<String>,
    /// The time at which they were listed.
    pub at: Timestamp,
}

impl ImageList {
    /// The images that our rules apply to, with their positions.
    fn standard(&self) -> impl Iterator<Item = (usize, &StoredImage)> {
        self.all.iter().enumerate().filter(|(_, image)| !image.is_archived)
    }
}

/// Selects the indexes whose children matter: none, if every image has a tag.
pub fn select_indexes(images: &[StoredImage]) -> Vec<String> {
    let matter = images.iter().any(|image| image.tags.is_empty() && image.subject.is_none());
    images
        .iter()
        .filter(|image| matter && image.is_index)
        .map(|image| image.digest.clone())
        .collect()
}

/// Reads the digests that an index refers to.
pub fn read_children(manifest: &str) -> Vec<String> {
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

/// When a policy removes an image, in the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Within a day.
    Now,
    /// On a day, without any further push.
    On(Timestamp),
    /// Behind this many newer snapshots, with a tag that is no snapshot's.
    Behind(usize),
    /// Never, or as a snapshot that newer ones replace.
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

/// A rule of ours as ECR follows it: the images that it matches, and those that stay.
enum Rule {
    Newest { pattern: String, stay: usize },
    Untagged { days: i64 },
}

/// Reads the rules of a policy; `None` if one of them has another form than ours.
fn read_rules(policy: &str) -> Option<Vec<Rule>> {
    let parsed: Value = serde_json::from_str(policy).ok()?;
    let mut rules: Vec<&Value> = parsed["rules"].as_array()?.iter().collect();
    rules.sort_by_key(|rule| rule["rulePriority"].as_i64());
    let rule = |rule: &&Value| {
        let selection = &rule["selection"];
        // A rule that archives images, or removes archived ones, is not of our form.
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

/// Follows the rules of a policy for each image. An image belongs to the first rule that any of its
/// tags matches; later rules count it, and do not remove it.
fn follow_rules(rules: &[Rule], images: &ImageList) -> Vec<End> {
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
                let mut matching: Vec<(usize, &StoredImage)> =
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

/// An image that a new policy removes sooner than the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss<'a> {
    pub image: &'a StoredImage,
    pub end: End,
}

/// Finds the images that the policy `after` removes sooner than `before`, which is `None` without a
/// policy.
///
/// Snapshots that newer ones replace are no loss, nor are the children of an index and the SBOMs of
/// an image, which go and stay with it.
pub fn find_losses<'a>(before: Option<&str>, after: &str, images: &'a ImageList) -> Vec<Loss<'a>> {
    let there: HashSet<&str> = images.all.iter().map(|image| image.digest.as_str()).collect();
    let belongs = |image: &StoredImage| {
        images.children.contains(&image.digest)
            || image.subject.as_deref().is_some_and(|subject| there.contains(subject))
    };
    // A policy of an unknown form counts as one that keeps everything.
    let ends = |policy: Option<&str>| {
        follow_rules(&policy.and_then(read_rules).unwrap_or_default(), images)
    };
    let (before, after) = (ends(before), ends(Some(after)));
    let sooner = images
        .all
        .iter()
        .zip(before.iter().zip(&after))
        .filter(|(_, (before, after))| after < before);
    // An image with a tag is somebody's, whatever refers to it.
    let own = sooner.filter(|(image, _)| !image.tags.is_empty() || !belongs(image));
    own.map(|(image, (_, end))| Loss { image, end: *end }).collect()
}

/// Explains why the policy of the repository `name` is not changed; `None` without losses. `aws`
/// turns a verb into an `aws ecr` command for the repository.
pub fn explain_losses(name: &str, losses: &[Loss], aws: impl Fn(&str) -> String) -> Option<Error> {
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
                "give a tag to an untagged image that runs, or that a rollback may need: {}",
                format_tag_command(&image.digest, &aws)
            )
        });
    let released = losses.iter().any(|loss| loss.image.tags.len() > 1).then(|| {
        format!(
            "remove the snapshot's tag from an image that is a release, too: {} --image-ids \
             imageTag=SNAPSHOT",
            aws("batch-delete-image")
        )
    });
    let fixes = [
        untagged,
        released,
        Some(format!(
            "remove at once what nobody needs: {} --image-ids imageDigest=DIGEST",
            aws("batch-delete-image")
        )),
        Some(
            "or keep more: `lifecycle: {snapshots: …, untagged: …}` below `registry` in \
             platform.yaml, or `lifecycle: off`; then run this again"
                .into(),
        ),
    ];
    let error = Error::refused(format!(
        "cannot change the lifecycle policy of {name}: ECR would remove {count} there now"
    ))
    .why(shown.chain(more).collect::<Vec<_>>().join("\n"));
    Some(fixes.into_iter().flatten().fold(error, Error::fix))
}

/// Formats the warning of a deploy of an image without a tag.
pub fn format_untagged_warning(
    name: &str,
    digest: &str,
    keep: &Keep,
    aws: impl Fn(&str) -> String,
) -> String {
    format!(
        "{name}@{digest} has no tag, and by the lifecycle policy in platform.yaml an image without \
         one is removed {} days after it was pushed, even while it runs: give it one ({})",
        keep.untagged.0,
        format_tag_command(digest, &aws)
    )
}

/// Formats the command that gives an image a tag. It names the digest, too: a shell drops the
/// newline at a manifest's end, and the rest would be another image.
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-retag.html>
fn format_tag_command(digest: &str, aws: &impl Fn(&str) -> String) -> String {
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
