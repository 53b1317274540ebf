//! Where the ledger's objects are: a bucket, or a folder. Both write on a condition only: of two
//! runs that write at once exactly one succeeds.

pub mod folder;
pub mod s3;

use jiff::Timestamp;

use crate::error::{Error, Result};

/// Names one content of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ETag(pub String);

/// An object as it was read.
#[derive(Clone, Debug)]
pub struct Object {
    pub bytes: Vec<u8>,
    pub etag: ETag,
    /// When it was written, by the store's clock.
    pub modified: Timestamp,
}

/// The answer to a read.
#[derive(Clone, Debug)]
pub struct Reading {
    pub object: Option<Object>,
    /// The time of the answer, by the store's clock.
    pub now: Timestamp,
}

/// What must hold for a write to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is no such object.
    Absent,
    /// The object has this content.
    Match(ETag),
}

/// The answer to a write.
#[derive(Clone, Debug)]
pub enum Outcome {
    Written(ETag),
    /// The condition did not hold.
    Lost,
    /// Nobody knows whether the write happened, or still will.
    Doubtful(Error),
}

#[derive(Clone)]
pub enum Store {
    S3(s3::Bucket),
    Folder(folder::Folder),
}

impl Store {
    /// Reads an object and the store's time.
    ///
    /// # Errors
    /// Refused with `ledger-unavailable`, when the store denies it or does not answer in time.
    pub async fn get(&self, key: &str) -> Result<Reading> {
        match self {
            Store::S3(bucket) => bucket.get(key).await,
            Store::Folder(folder) => folder.get(key).await,
        }
    }

    /// Writes an object if `condition` holds. An answer that is lost is [`Outcome::Doubtful`].
    ///
    /// # Errors
    /// Refused with `ledger-unavailable`, when it is certain that nothing was written.
    pub async fn put(&self, key: &str, bytes: Vec<u8>, condition: &Condition) -> Result<Outcome> {
        match self {
            Store::S3(bucket) => bucket.put(key, bytes, condition).await,
            Store::Folder(folder) => folder.put(key, bytes, condition).await,
        }
    }

    /// The keys that begin with `prefix`, which ends with a slash, and come after `after`, in
    /// their order.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn list(&self, prefix: &str, after: &str) -> Result<Vec<String>> {
        match self {
            Store::S3(bucket) => bucket.list(prefix, after).await,
            Store::Folder(folder) => folder.list(prefix, after).await,
        }
    }

    /// The names of the folders directly below `prefix`, which is empty or ends with a slash, in
    /// their order.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn list_folders(&self, prefix: &str) -> Result<Vec<String>> {
        match self {
            Store::S3(bucket) => bucket.list_folders(prefix).await,
            Store::Folder(folder) => folder.list_folders(prefix).await,
        }
    }

    /// The bytes of many objects, in the order of their keys; `None` for one that is not there.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub async fn read_all(&self, keys: Vec<String>) -> Result<Vec<Option<Vec<u8>>>> {
        match self {
            Store::S3(bucket) => bucket.read_all(keys).await,
            Store::Folder(folder) => folder.read_all(keys).await,
        }
    }

    /// Where `key` is, for people.
    pub fn describe(&self, key: &str) -> String {
        match self {
            Store::S3(bucket) => bucket.describe(key),
            Store::Folder(folder) => folder.describe(key),
        }
    }
}
