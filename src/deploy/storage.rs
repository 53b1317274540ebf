//! The S3 buckets a service writes to. Made when missing, with safe settings; never deleted, and an
//! existing one is left as it is, unless a run ended while it made it.

use aws_sdk_s3::Client;
use futures::future::try_join_all;

use super::pen::Pen;
use super::{Action, Change, Order};
use crate::aws::Session;
use crate::aws::bucket::{self, Setting};
use crate::aws::call::Caller;
use crate::config::service::Storage;
use crate::error::{Code, Error, Result};

/// What makes a new bucket safe.
const SAFE: [Setting; 4] =
    [Setting::PublicAccessBlock, Setting::Ownership, Setting::Encryption, Setting::Versioning];

/// A bucket the service wants, and whether it is there with all its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub name: String,
    pub exists: bool,
}

/// A bucket's name: `SERVICE-STORAGE-ENVIRONMENT-ACCOUNT`, as names are shared by all of AWS. Where
/// that is longer than the 63 characters a name may have, the service's part is cut and a hash of
/// the whole keeps it unique.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
pub fn bucket_name(order: &Order, storage: &Storage) -> String {
    let account = order.destination.account.as_deref().unwrap_or("local");
    let whole = format!(
        "{}-{}-{}-{account}",
        order.settings.owner.service, storage.name, order.settings.owner.environment
    );
    super::short_name(&whole, 63)
}

/// The names of the service's buckets, as a state keeps them.
pub fn bucket_names(order: &Order) -> Vec<String> {
    order.settings.storage.iter().map(|storage| bucket_name(order, storage)).collect()
}

/// Looks which of the service's buckets are there. `account` is the one that has to own them;
/// `finished` are those that a good version had.
///
/// # Errors
/// Refused when a bucket belongs to someone else or may not be looked at: S3 answers 403 to both.
pub async fn observe(
    names: &[String],
    finished: &[String],
    account: Option<&str>,
    session: &Session,
) -> Result<Vec<Bucket>> {
    let caller = &Caller::new(session);
    let client = &bucket::open_with(caller.config(), None);
    let look = async |name: &String| {
        let head = client.head_bucket().bucket(name);
        let head = head.set_expected_bucket_owner(account.map(str::to_string));
        let attempt = format!("find bucket {name}");
        let answer = caller.read(&attempt, "s3:ListBucket", || head.clone().send()).await;
        let exists = match answer {
            Ok(_) => finished.contains(name) || !is_half_made(name, client, caller).await?,
            Err(failure) if failure.status() == Some(404) => false,
            Err(failure) if failure.status() == Some(403) => {
                let headline = "it is another account's, or this role may not look at it";
                return Err(Error::refused(format!("cannot {attempt}: {headline}"))
                    .code(Code::AccessDenied)
                    .why("S3 answered 403 to HeadBucket")
                    .fix(format!(
                        "allow `s3:ListBucket` on arn:aws:s3:::{name}; if another account has it, \
                         rename `storage`"
                    )));
            }
            Err(failure) => return Err(failure.into()),
        };
        Ok(Bucket { name: name.clone(), exists })
    };
    try_join_all(names.iter().map(look)).await
}

/// Whether a run ended between creating a bucket and its last setting, which is versioning: nothing
/// is in it then. One that may not be looked at counts as made.
async fn is_half_made(name: &str, client: &Client, caller: &Caller) -> Result<bool> {
    let attempt = format!("look at bucket {name}");
    let list = || client.list_objects_v2().bucket(name).max_keys(1).send();
    let objects = caller.read(&attempt, "s3:ListBucket", list).await?;
    if !objects.contents().is_empty() {
        return Ok(false);
    }
    let get = || client.get_bucket_versioning().bucket(name).send();
    match caller.read(&attempt, "s3:GetBucketVersioning", get).await {
        Ok(versioning) => Ok(versioning.status().is_none()),
        Err(failure) if failure.status() == Some(403) => {
            caller.report().trace(failure.error.to_string());
            Ok(false)
        }
        Err(failure) => Err(failure.into()),
    }
}

/// What [`apply`] will do. Pure.
pub fn plan(buckets: &[Bucket]) -> Vec<Change> {
    let missing = buckets.iter().filter(|bucket| !bucket.exists);
    missing
        .map(|bucket| Change {
            action: Action::Create,
            object: format!("Bucket/{}", bucket.name),
            details: vec!["private, encrypted, versioned".into()],
        })
        .collect()
}

/// Makes the buckets that are missing.
///
/// # Errors
/// Refused with the IAM action when S3 denies a step. A bucket that was made by then stays: the next
/// run finishes it while it is empty.
pub async fn apply(buckets: &[Bucket], session: &Session, pen: Pen<'_>) -> Result<()> {
    let caller = Caller::new(session);
    let client = &bucket::open_with(caller.config(), None);
    let region = session.config().region().map(ToString::to_string).unwrap_or_default();
    for Bucket { name, .. } in buckets.iter().filter(|bucket| !bucket.exists) {
        let attempt = format!("create bucket {name}");
        let create = || bucket::create_bucket(client, name, &region);
        caller.write(&attempt, "s3:CreateBucket", &pen, create).await?;
        for setting in SAFE {
            let put = || bucket::put_setting(client, name, &region, setting);
            let attempt = setting.describe(name);
            caller.write(&attempt, setting.action(), &pen, put).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_have_names_that_s3_takes() {
        let order = |service: &str| {
            let text =
                format!("name: {service}\nport: 8000\nstorage: [{{name: history, env: H}}]\n");
            let service = serde_saphyr::from_str(&text).expect("a service");
            let platform = "registry: {account: '111122223333', region: eu-west-1}\nenvironments: {staging: {target: eks, region: eu-west-1, \
                            eks: {cluster: c, namespace: n}}}\n";
            let platform = serde_saphyr::from_str(platform).expect("a platform");
            Order {
                settings: crate::config::settings::resolve(&service, "staging").expect("settings"),
                destination: crate::config::settings::destination(Some(&platform), "staging")
                    .expect("a place"),
                image: crate::deploy::Image {
                    repository: "r".into(),
                    digest: crate::digest::Digest::of(b"d"),
                    version: "1".into(),
                },
            }
        };
        let name = |service: &str| {
            let order = order(service);
            bucket_name(&order, &order.settings.storage[0])
        };
        assert_eq!(name("patients"), "patients-history-staging-111122223333");
        let (one, two) =
            (name(&format!("{}a", "p".repeat(62))), name(&format!("{}b", "p".repeat(62))));
        assert!(one.len() == 63 && two.len() == 63 && one != two, "{one} {two}");
    }

    #[test]
    fn only_missing_buckets_are_made() {
        let bucket = |name: &str, exists| Bucket { name: name.into(), exists };
        let changes = plan(&[bucket("a", true), bucket("b", false)]);
        assert_eq!(
            changes.iter().map(|change| change.object.as_str()).collect::<Vec<_>>(),
            ["Bucket/b"]
        );
    }
}
