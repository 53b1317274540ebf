//! The images of an ECR repository: found by name, and listed.

use std::collections::BTreeSet;

use aws_sdk_ecr::error::ProvideErrorMetadata;
use aws_sdk_ecr::types::{
    DescribeImagesFilter, ImageDetail, ImageIdentifier, ImageStatus, ImageStatusFilter,
};

use super::{Ecr, MOST_PAGES};
use crate::error::{Code, Error, Kind, Result};
use crate::layout::{Digest, INDEXES};
use crate::registry::repository::lifecycle::{self, StoredImage};

/// As many images as BatchGetImage takes.
const BATCH: usize = 100;

/// The name by which an image is looked up.
#[derive(Clone, Debug)]
pub enum Wanted {
    Tag(String),
    Digest(Digest),
}

/// An image that a registry has.
#[derive(Clone, Debug)]
pub struct FoundImage {
    pub digest: Digest,
    /// The version tag of the image; `None` if no tag is a version.
    pub tag: Option<String>,
    pub is_untagged: bool,
}

impl Ecr {
    /// Finds the image with this tag or digest.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImages.html>
    ///
    /// # Errors
    /// Refused, if there is none or it may not be looked for.
    pub async fn find(&self, wanted: &Wanted) -> Result<FoundImage> {
        let (identifier, shown) = match wanted {
            Wanted::Tag(tag) => (
                ImageIdentifier::builder().image_tag(tag),
                format!("{}/{}:{tag}", self.host, self.name),
            ),
            Wanted::Digest(digest) => (
                ImageIdentifier::builder().image_digest(digest.as_str()),
                format!("{}/{}@{digest}", self.host, self.name),
            ),
        };
        let missing = |why: &str| {
            Error::refused(format!("cannot find image {shown}"))
                .code(Code::ImageNotFound)
                .why(why)
                .fix(self.push_first_fix(wanted))
        };
        let request =
            self.client.describe_images().registry_id(&self.account).repository_name(&self.name);
        let answer =
            request.image_ids(identifier.build()).send().await.map_err(|error| {
                match error.code() {
                    Some("ImageNotFoundException") => missing("ECR has no such tag or digest"),
                    Some("RepositoryNotFoundException") => missing("ECR has no such repository"),
                    _ => self.explain(format!("find {shown} in ECR"), "ecr:DescribeImages", &error),
                }
            })?;
        // The answer may hold the manifests below an index, too.
        let found = answer.image_details().iter().find(|image| match wanted {
            Wanted::Tag(tag) => image.image_tags().contains(tag),
            Wanted::Digest(digest) => image.image_digest() == Some(digest.as_str()),
        });
        let found = found.ok_or_else(|| missing("ECR answered without it"))?;
        let digest = found.image_digest().ok_or_else(|| {
            Error::unexpected(format!("cannot find the digest of {shown} in ECR"))
        })?;
        let tag = match wanted {
            Wanted::Tag(tag) => Some(tag.clone()),
            Wanted::Digest(_) => find_version_tag(found.image_tags()),
        };
        Ok(FoundImage {
            is_untagged: found.image_tags().is_empty(),
            digest: Digest::parse(digest)
                .map_err(|error| Error::new(Kind::Unexpected, error.message))?,
            tag,
        })
    }

    /// The time at which an image was pushed; `None` if ECR does not say, as only people read it.
    pub async fn pushed(&self, digest: &Digest) -> Option<String> {
        let at = *self.image(digest).await.ok()??.image_pushed_at()?;
        jiff::Timestamp::from_second(at.secs()).ok().map(|at| at.to_string())
    }

    /// All tags of an image.
    ///
    /// # Errors
    /// Refused, with the IAM statement, if we may not look.
    pub async fn tags_of(&self, digest: &Digest) -> Result<Vec<String>> {
        Ok(self.image(digest).await?.map(|image| image.image_tags().to_vec()).unwrap_or_default())
    }

    async fn image(&self, digest: &Digest) -> Result<Option<ImageDetail>> {
        let request =
            self.client.describe_images().registry_id(&self.account).repository_name(&self.name);
        let image = ImageIdentifier::builder().image_digest(digest.as_str()).build();
        let answer = request.image_ids(image).send().await.map_err(|error| {
            self.explain(format!("find {digest} in ECR"), "ecr:DescribeImages", &error)
        })?;
        let mut images = answer.image_details.unwrap_or_default().into_iter();
        Ok(images.find(|image| image.image_digest() == Some(digest.as_str())))
    }

    /// Lists all images of the repository, with what is stored beside them.
    ///
    /// # Errors
    /// Refused, with the IAM statement, if we may not look, or if there are too many.
    pub async fn images(&self) -> Result<Vec<StoredImage>> {
        // Without the filter ECR leaves out what comes back from its archive.
        let any = DescribeImagesFilter::builder().image_status(ImageStatusFilter::Any).build();
        let request = self
            .client
            .describe_images()
            .registry_id(&self.account)
            .repository_name(&self.name)
            .filter(any);
        let mut pages = request.into_paginator().page_size(1000).send();
        let (mut images, mut has_more) = (Vec::new(), true);
        for _ in 0..MOST_PAGES {
            let Some(page) = pages.next().await else { break };
            let page = page.map_err(|error| {
                let attempt = format!("list the images of {}", self.name);
                self.explain(attempt, "ecr:DescribeImages", &error)
            })?;
            images.extend(page.image_details().iter().map(read_image));
            has_more = page.next_token().is_some_and(|token| !token.is_empty());
        }
        match has_more {
            false => Ok(images),
            true => Err(Error::refused(format!("cannot list all images of {}", self.name))
                .why(format!(
                    "{} of them are read, so what a lifecycle policy would remove is not known",
                    images.len()
                ))
                .fix(format!("remove unused images: {}", self.command("batch-delete-image")))),
        }
    }

    /// Lists what these indexes refer to.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_BatchGetImage.html>
    ///
    /// # Errors
    /// Refused, with the IAM statement, if we may not look.
    pub async fn children(&self, indexes: &[String]) -> Result<BTreeSet<String>> {
        let mut children = BTreeSet::new();
        for batch in indexes.chunks(BATCH) {
            let ids = batch
                .iter()
                .map(|digest| ImageIdentifier::builder().image_digest(digest).build())
                .collect();
            let request = self
                .client
                .batch_get_image()
                .registry_id(&self.account)
                .repository_name(&self.name)
                .set_image_ids(Some(ids))
                .set_accepted_media_types(Some(INDEXES.map(String::from).to_vec()));
            let answer = request.send().await.map_err(|error| {
                let attempt = format!("read the indexes of {}", self.name);
                self.explain(attempt, "ecr:BatchGetImage", &error)
            })?;
            let manifests = answer.images().iter().filter_map(|image| image.image_manifest());
            children.extend(manifests.flat_map(lifecycle::read_children));
        }
        Ok(children)
    }

    /// The manifest or index of an image; `None` if the repository has it no more.
    ///
    /// # Errors
    /// Refused, with the IAM statement, if we may not look.
    pub async fn read_manifest(&self, digest: &Digest) -> Result<Option<String>> {
        let id = ImageIdentifier::builder().image_digest(digest.as_str()).build();
        let request = self.client.batch_get_image().registry_id(&self.account);
        let answer = request.repository_name(&self.name).image_ids(id).send().await;
        let answer = answer.map_err(|error| {
            self.explain(format!("read {digest} in {}", self.name), "ecr:BatchGetImage", &error)
        })?;
        let first = answer.images().first();
        Ok(first.and_then(|image| image.image_manifest()).map(str::to_string))
    }

    fn push_first_fix(&self, wanted: &Wanted) -> String {
        let list = format!(
            "list what the repository has: {} --query 'imageDetails[].imageTags'",
            self.command("describe-images")
        );
        match wanted {
            Wanted::Tag(tag) => format!("push it first: cicd push-ecr --tag {tag}\n{list}"),
            Wanted::Digest(_) => format!("push it first: cicd push-ecr\n{list}"),
        }
    }
}

fn read_image(image: &ImageDetail) -> StoredImage {
    let media_type = image.image_manifest_media_type().unwrap_or_default();
    StoredImage {
        digest: image.image_digest().unwrap_or_default().to_string(),
        tags: image.image_tags().to_vec(),
        pushed: image.image_pushed_at().and_then(|at| jiff::Timestamp::from_second(at.secs()).ok()),
        is_index: INDEXES.contains(&media_type),
        subject: image.subject_manifest_digest().map(str::to_string),
        is_archived: image.image_status() == Some(&ImageStatus::Archived),
    }
}

/// Returns the highest version among tags; `None` if no tag is a version.
fn find_version_tag(tags: &[String]) -> Option<String> {
    let versions = tags
        .iter()
        .filter_map(|tag| semver::Version::parse(tag).ok().map(|version| (version, tag)));
    versions.max_by(|one, other| one.0.cmp(&other.0)).map(|(_, tag)| tag.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_is_the_images() {
        let cases: [(&[&str], Option<&str>); 5] = [
            (&["latest", "1.4.0", "1.10.0", "1.9.0"], Some("1.10.0")),
            (&["1.3.3-main.4", "1.3.3-main.12"], Some("1.3.3-main.12")),
            (&["1.4.0", "1.4.0-pr.12.7"], Some("1.4.0")),
            (&["latest", "v1", "1.4"], None),
            (&[], None),
        ];
        for (tags, expected) in cases {
            let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
            assert_eq!(find_version_tag(&tags).as_deref(), expected, "{tags:?}");
        }
    }
}
