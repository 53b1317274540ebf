//! The images that stay on the engine for a rollback: each under a tag that is its root digest.

use std::collections::HashMap;

use bollard::query_parameters::{ListImagesOptionsBuilder, TagImageOptionsBuilder};

use super::{Engine, explain_refusal};
use crate::digest::Digest;
use crate::error::Result;

impl Engine {
    /// The engine's identifier of a service's image that an earlier deploy kept; `None` when it is
    /// gone.
    ///
    /// # Errors
    /// Unexpected, when the engine does not answer.
    pub async fn kept_image(&self, service: &str, digest: &Digest) -> Result<Option<String>> {
        self.identifier(&format!("{}:{}", repository_of(service), tag_of(digest))).await
    }

    /// Keeps `image` as the one of `digest`.
    ///
    /// # Errors
    /// Unexpected, when the engine refuses.
    pub async fn keep_image(&self, image: &str, service: &str, digest: &Digest) -> Result<()> {
        let (repository, tag) = (repository_of(service), tag_of(digest));
        let options = TagImageOptionsBuilder::default().repo(&repository).tag(&tag).build();
        let tagged = self.docker.tag_image(image, Some(options)).await;
        tagged.map_err(|error| explain_refusal(&format!("tag image {repository}:{tag}"), &error))
    }

    /// Removes the kept images of a service but those of `digests`. One that a container uses
    /// stays.
    ///
    /// # Errors
    /// Unexpected, when the engine does not answer.
    pub async fn forget_images(&self, service: &str, digests: &[&Digest]) -> Result<()> {
        let repository = repository_of(service);
        let kept: Vec<String> =
            digests.iter().map(|digest| format!("{repository}:{}", tag_of(digest))).collect();
        let filters = HashMap::from([("reference".to_string(), vec![repository.clone()])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let listed = self.docker.list_images(Some(options)).await;
        let listed = listed.map_err(|error| explain_refusal("list images", &error))?;
        let tags = listed.into_iter().flat_map(|image| image.repo_tags);
        let of_digests = tags.filter(|tag| tag.starts_with(&format!("{repository}:sha256-")));
        for tag in of_digests.filter(|tag| !kept.contains(tag)) {
            self.remove_image(&tag).await;
        }
        Ok(())
    }
}

fn repository_of(service: &str) -> String {
    format!("cicd.local/{service}")
}

/// A tag takes no colon.
fn tag_of(digest: &Digest) -> String {
    format!("sha256-{}", digest.hex())
}
