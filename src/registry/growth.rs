//! How large an image is against another one of its repository, layer by layer.
//!
//! A layer is what its digest says: one that both images have is not looked at.

use serde_json::Value;

use super::ecr::Ecr;
use super::origin::Origins;
use crate::aws::Session;
use crate::config::platform;
use crate::digest::Digest;
use crate::error::Result;
use crate::layout::Layout;
use crate::report::{Markdown, human};

/// Rows of the table; more layers than that are counted together.
const ROWS: usize = 12;

/// The layer of an image, and its size as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SizedLayer {
    digest: Digest,
    size: u64,
    /// The instruction that made it, where it is known.
    made: String,
}

/// What differs between two images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    before: u64,
    after: u64,
    /// By layer: what made it, its size before and after; `None` if it is not in that image.
    rows: Vec<(String, Option<u64>, Option<u64>)>,
}

/// Compares the image in a layout with `base`, which the repository has.
///
/// # Errors
/// As ECR refuses.
pub async fn compare_image(
    session: &Session,
    registry: &platform::Registry,
    name: &str,
    base: &Digest,
    layout: &Layout,
) -> Result<Option<Growth>> {
    let ecr = Ecr::new(session, registry, name);
    let Some(image) = layout.manifests().first() else { return Ok(None) };
    let platform = image.descriptor.platform.as_deref().unwrap_or_default();
    let Some(manifest) = find_manifest(&ecr, base, platform).await? else { return Ok(None) };
    let names: Vec<String> = image.layers.iter().map(|layer| layer.digest.to_string()).collect();
    let origins = Origins::of(&names, &layout.read(&image.config)?, None);
    let now = image.layers.iter().map(|layer| {
        let made = origins.find(layer.digest.as_str()).unwrap_or_default().to_string();
        SizedLayer { digest: layer.digest.clone(), size: layer.size, made }
    });
    Ok(Some(compare_layers(&read_layers(&manifest), &now.collect::<Vec<_>>())))
}

/// The manifest of an image for a platform, below its index where it has one.
async fn find_manifest(ecr: &Ecr, digest: &Digest, platform: &str) -> Result<Option<Value>> {
    let read = |text: String| serde_json::from_str::<Value>(&text).unwrap_or_default();
    let Some(root) = ecr.read_manifest(digest).await?.map(read) else { return Ok(None) };
    let Some(children) = root["manifests"].as_array() else { return Ok(Some(root)) };
    let runs_on = |child: &&Value| {
        let part = |key: &str| child["platform"][key].as_str().unwrap_or_default();
        platform.starts_with(&format!("{}/{}", part("os"), part("architecture")))
    };
    let child = children.iter().find(runs_on).and_then(|child| child["digest"].as_str());
    match child.and_then(|child| child.parse().ok()) {
        Some(child) => Ok(ecr.read_manifest(&child).await?.map(read)),
        None => Ok(None),
    }
}

fn read_layers(manifest: &Value) -> Vec<SizedLayer> {
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let sized = layers.filter_map(|layer| {
        let digest = layer["digest"].as_str()?.parse().ok()?;
        Some(SizedLayer { digest, size: layer["size"].as_u64()?, made: String::new() })
    });
    sized.collect()
}

/// What differs. Layers of the same place in images of as many layers are the same step.
fn compare_layers(base: &[SizedLayer], now: &[SizedLayer]) -> Growth {
    let has = |list: &[SizedLayer], one: &SizedLayer| list.iter().any(|it| it.digest == one.digest);
    let sum = |list: &[SizedLayer]| list.iter().map(|layer| layer.size).sum();
    let same_steps = base.len() == now.len();
    let mut rows = Vec::new();
    for (at, layer) in now.iter().enumerate().filter(|(_, layer)| !has(base, layer)) {
        let before = base.get(at).filter(|before| same_steps && !has(now, before));
        rows.push((layer.made.clone(), before.map(|before| before.size), Some(layer.size)));
    }
    let gone = base.iter().enumerate().filter(|(at, layer)| {
        let replaced = same_steps && now.get(*at).is_some_and(|now| !has(base, now));
        !has(now, layer) && !replaced
    });
    let gone: Vec<u64> = gone.map(|(_, layer)| layer.size).collect();
    if !gone.is_empty() {
        let what = if gone.len() == 1 { "a layer" } else { "layers" };
        rows.push((format!("{what} of before"), Some(gone.iter().sum()), None));
    }
    Growth { before: sum(base), after: sum(now), rows }
}

impl Growth {
    /// The difference in a few words, which go on behind the size.
    pub fn in_words(&self, of: &str) -> String {
        if self.rows.is_empty() {
            return format!("the same layers as {of}");
        }
        let difference = human::bytes(self.after.abs_diff(self.before));
        match self.after.cmp(&self.before) {
            std::cmp::Ordering::Greater => format!("{difference} more than {of}"),
            std::cmp::Ordering::Less => format!("{difference} less than {of}"),
            std::cmp::Ordering::Equal => format!("as much as {of}"),
        }
    }

    /// The layers that differ; nothing where none does.
    pub fn table(&self) -> Markdown {
        let own = |text: &'static str| Markdown::default().own(text);
        if self.rows.is_empty() {
            return own("");
        }
        let size = |size: Option<u64>| size.map_or_else(|| "–".to_string(), human::bytes);
        let mut text = own("\n| layer | before | now |\n|---|---|---|\n");
        for (made, before, after) in self.rows.iter().take(ROWS) {
            text = text.own("| ").text(made).own(" | ").text(&size(*before)).own(" | ");
            text = text.text(&size(*after)).own(" |\n");
        }
        match self.rows.len().saturating_sub(ROWS) {
            0 => text,
            more => text.own("\nand ").text(&more.to_string()).own(" more layers\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(sizes: &[(&str, u64)]) -> Vec<SizedLayer> {
        let layer = |(digest, size): &(&str, u64)| SizedLayer {
            digest: Digest::of(digest.as_bytes()),
            size: *size,
            made: format!("RUN {digest}"),
        };
        sizes.iter().map(layer).collect()
    }

    #[test]
    fn only_layers_that_differ_are_told() {
        struct Case {
            base: &'static [(&'static str, u64)],
            now: &'static [(&'static str, u64)],
            words: &'static str,
            rows: &'static [(&'static str, Option<u64>, Option<u64>)],
        }
        let cases = [
            Case {
                base: &[("a", 10), ("b", 20)],
                now: &[("a", 10), ("b", 20)],
                words: "the same layers as 1.4.0 in staging",
                rows: &[],
            },
            Case {
                base: &[("a", 10), ("b", 20)],
                now: &[("a", 10), ("c", 25)],
                words: "5 B more than 1.4.0 in staging",
                rows: &[("RUN c", Some(20), Some(25))],
            },
            Case {
                base: &[("a", 10), ("b", 20), ("d", 7)],
                now: &[("a", 10), ("c", 25)],
                words: "2 B less than 1.4.0 in staging",
                rows: &[("RUN c", None, Some(25)), ("layers of before", Some(27), None)],
            },
            // One that only moved is none that differs.
            Case {
                base: &[("a", 10), ("b", 20)],
                now: &[("b", 20), ("c", 10)],
                words: "as much as 1.4.0 in staging",
                rows: &[("RUN c", None, Some(10)), ("a layer of before", Some(10), None)],
            },
        ];
        for Case { base, now, words, rows } in cases {
            let growth = compare_layers(&layers(base), &layers(now));
            let found: Vec<_> = growth
                .rows
                .iter()
                .map(|(made, before, after)| (made.as_str(), *before, *after))
                .collect();
            assert_eq!((growth.in_words("1.4.0 in staging").as_str(), &found[..]), (words, rows));
            assert_eq!(growth.table().as_str().is_empty(), rows.is_empty());
        }
    }
}
