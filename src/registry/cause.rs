//! Why ECR refuses a request, and the fix. Pure.
//!
//! <https://docs.aws.amazon.com/AmazonECR/latest/userguide/common-errors-docker.html>

use crate::aws::allow_statement;

/// The cause of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The connection ends without an answer: so ECR refuses an upload without permission or
    /// repository.
    Closed,
    /// ECR's token ran out; ECR answers 403, not 401.
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

/// Finds the cause in an answer: its status, `None` if there was no answer, and the registry's
/// words.
pub fn find_cause(status: Option<u16>, words: &str) -> Cause {
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
        // An answer to HEAD has no words.
        Some(404) if !says(&["_unknown", "_invalid"]) => Cause::Repository,
        Some(_) => Cause::Unknown,
    }
}

/// What a role needs on the key of an encrypted repository.
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/encryption-at-rest.html>
const USE_KEY: [&str; 3] = ["kms:GenerateDataKey", "kms:Decrypt", "kms:DescribeKey"];

impl Cause {
    /// The fix. `allow` allows the action that was tried; `create` creates the repository.
    pub fn fix(self, allow: &str, create: &str) -> Option<String> {
        Some(match self {
            Cause::Closed => format!(
                "run it again; if ECR closes the connection each time, the repository is missing \
                 ({create}), or the role may not upload: {allow}"
            ),
            Cause::Expired => "run it again: the registry's token ran out, and it rejected the \
                               new one, too"
                .into(),
            Cause::Permission => allow.into(),
            Cause::Forbidden => format!(
                "find the explicit deny, which wins over every allow: in the organisation's \
                 service control policies, the role's permissions boundary, the repository's \
                 policy or the VPC endpoint's policy. What is needed: {allow}"
            ),
            Cause::OtherAccount => format!(
                "let the repository policy of the other account name this role (aws ecr \
                 set-repository-policy), with the same actions as here; {allow}"
            ),
            Cause::Repository => create.into(),
            Cause::Key => format!(
                "see that the repository's key is enabled and that its policy lets the account \
                 use it; add to the role's policy: {}",
                allow_statement(&USE_KEY, "*")
            ),
            Cause::Immutable => "use another tag: the tags of the repository are immutable, and \
                                 this one is another image's. For a tool that has to move it, \
                                 write it in platform.yaml and run push-ecr with --repair once: \
                                 `mutable-tags: [\"sha256-*\"]` below `registry` is for lists of \
                                 SBOMs and signatures, where the registry keeps none itself"
                .into(),
            Cause::Full => "let a lifecycle policy remove what no environment runs (aws ecr \
                            put-lifecycle-policy), or ask for a higher quota in Service Quotas: \
                            the repository is full"
                .into(),
            Cause::Manifest => "build the image with `cicd build-image`, or with `--output \
                                type=oci` and no other manifests in it: ECR takes OCI and Docker \
                                images and indexes"
                .into(),
            Cause::Blob => "build the layout again, and let no proxy between here and ECR change \
                            or split what is sent: ECR takes layers from one byte to 52,000 MiB, \
                            whole"
                .into(),
            Cause::Session => "run it again; if each upload's session is over at once, a proxy \
                               between here and ECR sends requests twice: go around it, or use a \
                               VPC endpoint"
                .into(),
            Cause::Unknown => return None,
        })
    }

    /// The fix for whoever pushes without a login.
    pub fn anonymous_fix(self) -> Option<String> {
        match self {
            Cause::Repository => {
                Some("create the repository first: this registry makes none by itself".into())
            }
            Cause::Permission | Cause::Forbidden | Cause::OtherAccount | Cause::Expired => Some(
                "push to a registry that lets everybody, or to ECR through platform.yaml: this \
                 registry wants a login, and --repository has none"
                    .into(),
            ),
            _ => None,
        }
    }

    /// Whether the registry refuses us, and not what was sent.
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
            let found = find_cause(status, words);
            assert_eq!(found, expected, "{status:?} {words}");
            let fix = found.fix("ALLOW", "CREATE").unwrap_or_default();
            assert!(fix.contains(part), "{words}: {fix}");
            assert_eq!(fix.is_empty(), expected == Cause::Unknown, "{words}");
            assert!(
                !found.is_refusal() || status.is_some(),
                "{words}: a lost answer refuses nothing"
            );
        }
    }
}
