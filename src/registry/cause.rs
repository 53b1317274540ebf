//! Why ECR says no, from what it answered to what to do. Pure.
//!
//! <https://docs.aws.amazon.com/AmazonECR/latest/userguide/common-errors-docker.html>

/// What is behind a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The connection ends without an answer: ECR's way to refuse an upload that is not allowed or
    /// has no repository.
    Closed,
    /// ECR's token ran out; ECR says so with 403 and not with 401.
    Expired,
    /// The role's policy does not allow it.
    Permission,
    /// Something above the role forbids it.
    Forbidden,
    /// The repository is another account's, and its policy does not let us in.
    OtherAccount,
    /// There is no such repository.
    Repository,
    /// The repository's KMS key does not let us use it.
    Key,
    /// The tag is another image's, and stays so.
    Immutable,
    /// The repository is full.
    Full,
    /// A manifest that ECR does not take.
    Manifest,
    /// A blob that ECR does not take.
    Blob,
    /// The upload's session is over, each time.
    Session,
    Unknown,
}

/// Finds the cause in an answer: its status, or none when there was no answer, and the registry's
/// words.
pub fn of(status: Option<u16>, words: &str) -> Cause {
    let words = words.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    match status {
        None => Cause::Closed,
        Some(_) if says(&["authorization token has expired"]) => Cause::Expired,
        Some(400 | 403) if says(&["kmsexception", "kms:", "kms key"]) => Cause::Key,
        Some(401 | 403) if says(&["explicit deny"]) => Cause::Forbidden,
        Some(401 | 403) if says(&["resource-based policy"]) => Cause::OtherAccount,
        Some(401 | 403) => Cause::Permission,
        Some(404) if says(&["name_unknown", "repositorynotfound", "repository with name"]) => {
            Cause::Repository
        }
        Some(400 | 409) if says(&["is immutable", "imagetagalreadyexists"]) => Cause::Immutable,
        Some(400 | 429)
            if says(&["limitexceeded", "limit_exceeded", "maximum number of images"]) =>
        {
            Cause::Full
        }
        Some(400 | 405 | 415)
            if says(&["manifest_invalid", "unsupported:", "invalid media type"]) =>
        {
            Cause::Manifest
        }
        Some(400) if says(&["digest_invalid", "size_invalid", "invalidlayer", "layer part"]) => {
            Cause::Blob
        }
        Some(413) => Cause::Blob,
        Some(416) => Cause::Session,
        // Whoever has no words for it: with HEAD there are none.
        Some(404) if !says(&["_unknown", "_invalid"]) => Cause::Repository,
        Some(_) => Cause::Unknown,
    }
}

impl Cause {
    /// What to do. `allow` is the statement that allows what was tried, `create` the command for
    /// the repository.
    pub fn fix(self, allow: &str, create: &str) -> Option<String> {
        Some(match self {
            Cause::Closed => format!(
                "run it again; when ECR closes the connection each time, the repository is missing ({create}), or the role may \
                 not upload: {allow}"
            ),
            Cause::Expired => {
                "run it again: the token for the registry ran out, and the new one was not taken either".into()
            }
            Cause::Permission => allow.into(),
            Cause::Forbidden => format!(
                "an explicit deny wins over every allow: look for it in the organisation's service control policies, the role's \
                 permissions boundary, the repository's policy and the VPC endpoint's policy. What is needed: {allow}"
            ),
            Cause::OtherAccount => format!(
                "the registry is another account's: let its repository policy name this role (aws ecr set-repository-policy), \
                 with the same actions as here; {allow}"
            ),
            Cause::Repository => create.into(),
            Cause::Key => "allow `kms:GenerateDataKey`, `kms:Decrypt` and `kms:DescribeKey` on the repository's key in the role's \
                           policy, and see that the key is enabled and its policy lets the account use it"
                .into(),
            Cause::Immutable => "the repository's tags are immutable, and this one is another image's. Where a tool has to move it, say so \
                                 in platform.yaml, and run push-ecr with --repair once: `mutable-tags: [\"sha256-*\"]` below `registry` is \
                                 for lists of SBOMs and signatures, where the registry keeps none itself"
                .into(),
            Cause::Full => "the repository holds as many images as it may: let a lifecycle policy remove what no environment runs \
                            (aws ecr put-lifecycle-policy), or ask for a higher quota in Service Quotas"
                .into(),
            Cause::Manifest => "ECR takes OCI and Docker images and indexes: build the image with `cicd build-image`, or with \
                                `--output type=oci` and no other manifests in it"
                .into(),
            Cause::Blob => "ECR takes layers from one byte to 52,000 MiB, whole: build the layout again, and let no proxy between \
                            here and ECR change or split what is sent"
                .into(),
            Cause::Session => "run it again; when each upload's session is over at once, a proxy between here and ECR sends \
                               requests twice: go around it, or use a VPC endpoint"
                .into(),
            Cause::Unknown => return None,
        })
    }

    /// Whether somebody has to let us in first, and nothing is wrong with what was sent.
    pub fn is_refusal(self) -> bool {
        !matches!(
            self,
            Cause::Closed | Cause::Session | Cause::Manifest | Cause::Blob | Cause::Unknown
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_cause_and_its_fix() {
        let cases = [
            (
                None,
                "error sending request: connection closed before message completed",
                Cause::Closed,
                "ALLOW",
            ),
            (None, "connection reset by peer", Cause::Closed, "CREATE"),
            (
                Some(403),
                "DENIED: Your authorization token has expired. Reauthenticate and try again.",
                Cause::Expired,
                "again",
            ),
            (Some(401), "HTTP 401 Unauthorized", Cause::Permission, "ALLOW"),
            (Some(403), "HTTP 403 Forbidden", Cause::Permission, "ALLOW"),
            (
                Some(403),
                "DENIED: User: arn:aws:sts::1:assumed-role/r/s is not authorized to perform: ecr:InitiateLayerUpload on resource: x \
                 because no identity-based policy allows it",
                Cause::Permission,
                "ALLOW",
            ),
            (
                Some(403),
                "DENIED: … with an explicit deny in a service control policy",
                Cause::Forbidden,
                "service control policies",
            ),
            (
                Some(403),
                "DENIED: … because no resource-based policy allows the ecr:PutImage action",
                Cause::OtherAccount,
                "set-repository-policy",
            ),
            (
                Some(403),
                "DENIED: not authorized to perform: ecr:PutImage on resource: arn:aws:ecr:eu-west-1:1:repository/kms-keeper",
                Cause::Permission,
                "ALLOW",
            ),
            (
                Some(404),
                "NAME_UNKNOWN: The repository with name 'a' does not exist",
                Cause::Repository,
                "CREATE",
            ),
            (Some(404), "HTTP 404 Not Found", Cause::Repository, "CREATE"),
            (Some(404), "MANIFEST_UNKNOWN: no", Cause::Unknown, ""),
            (Some(400), "KmsException: the key is disabled", Cause::Key, "kms:GenerateDataKey"),
            (Some(403), "DENIED: KMS key access denied", Cause::Key, "kms:Decrypt"),
            (
                Some(400),
                "TAG_INVALID: The image tag 'sha256-1' already exists in the 'a' repository and cannot be overwritten because the tag is \
                 immutable.",
                Cause::Immutable,
                "mutable-tags",
            ),
            (Some(400), "ImageTagAlreadyExistsException: it exists", Cause::Immutable, "sha256-*"),
            (
                Some(400),
                "LimitExceededException: maximum number of images per repository",
                Cause::Full,
                "put-lifecycle-policy",
            ),
            (Some(400), "MANIFEST_INVALID: Invalid JSON syntax", Cause::Manifest, "build-image"),
            (
                Some(405),
                "UNSUPPORTED: Invalid parameter at 'ImageManifest'",
                Cause::Manifest,
                "build-image",
            ),
            (Some(400), "DIGEST_INVALID: the digest is another", Cause::Blob, "52,000 MiB"),
            (Some(413), "HTTP 413 Payload Too Large", Cause::Blob, "52,000 MiB"),
            (Some(416), "HTTP 416 Range Not Satisfiable", Cause::Session, "proxy"),
            (Some(400), "HTTP 400 Bad Request", Cause::Unknown, ""),
            (Some(418), "HTTP 418", Cause::Unknown, ""),
        ];
        for (status, words, expected, part) in cases {
            let found = of(status, words);
            assert_eq!(found, expected, "{status:?} {words}");
            let fix = found.fix("ALLOW", "CREATE").unwrap_or_default();
            assert!(fix.contains(part), "{words}: {fix}");
            assert_eq!(fix.is_empty(), expected == Cause::Unknown, "{words}");
            assert!(
                !found.is_refusal() || status.is_some(),
                "{words}: who says nothing may say yes next time"
            );
        }
    }
}
