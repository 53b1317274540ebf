//! Buckets of S3, made safe: private, owned by their account, with all versions kept.

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration, ObjectOwnership,
    OwnershipControls, OwnershipControlsRule, PublicAccessBlockConfiguration, ServerSideEncryption,
    ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
    VersioningConfiguration,
};
use aws_sdk_sts::config::Region;

use super::Session;
use super::call::Fault;
use super::policy::partition;

/// Opens a client of S3, in the session's region unless another one is named. It addresses buckets
/// by path where an endpoint is given: an emulator on loopback has no host per bucket.
pub fn open_client(session: &Session, region: Option<&str>) -> Client {
    open_with(session.config(), region)
}

/// Opens a client of S3 by a configuration.
pub fn open_with(config: &SdkConfig, region: Option<&str>) -> Client {
    let own_endpoint = config.endpoint_url().is_some();
    let mut config = aws_sdk_s3::config::Builder::from(config).force_path_style(own_endpoint);
    if let Some(region) = region {
        config = config.region(Region::new(region.to_string()));
    }
    Client::from_conf(config.build())
}

/// Creates a bucket, unless this account has it. Sent once.
///
/// # Errors
/// As S3 says: another account may have the name.
pub async fn create_bucket(client: &Client, name: &str, region: &str) -> Result<(), Fault> {
    // us-east-1 is the one region that may not be named.
    let location = (region != "us-east-1").then(|| {
        CreateBucketConfiguration::builder()
            .location_constraint(BucketLocationConstraint::from(region))
            .build()
    });
    let create = client.create_bucket().bucket(name);
    match create.set_create_bucket_configuration(location).send().await {
        Ok(_) => Ok(()),
        // Another run was quicker: what follows is the same.
        Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A setting that makes a bucket safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Nobody gets in by an ACL or a policy for everybody.
    PublicAccessBlock,
    /// Every object belongs to the account of the bucket.
    Ownership,
    /// New objects are encrypted with the account's own KMS key for S3.
    Encryption,
    /// Every version of every object stays.
    Versioning,
    /// Each request that does not come by TLS is refused.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/security-best-practices.html>
    TlsOnly,
}

impl Setting {
    /// What putting it is called: `set the policy of bucket b`.
    pub fn describe(self, name: &str) -> String {
        let part = match self {
            Setting::PublicAccessBlock => "the public access block",
            Setting::Ownership => "ownership",
            Setting::Encryption => "encryption",
            Setting::Versioning => "versioning",
            Setting::TlsOnly => "the policy",
        };
        format!("set {part} of bucket {name}")
    }

    /// The IAM action of putting it.
    pub fn action(self) -> &'static str {
        match self {
            Setting::PublicAccessBlock => "s3:PutBucketPublicAccessBlock",
            Setting::Ownership => "s3:PutBucketOwnershipControls",
            Setting::Encryption => "s3:PutEncryptionConfiguration",
            Setting::Versioning => "s3:PutBucketVersioning",
            Setting::TlsOnly => "s3:PutBucketPolicy",
        }
    }
}

/// Gives a bucket a setting. Sent once.
///
/// # Errors
/// As S3 says.
pub async fn put_setting(
    client: &Client,
    name: &str,
    region: &str,
    setting: Setting,
) -> Result<(), Fault> {
    match setting {
        Setting::PublicAccessBlock => {
            let block = PublicAccessBlockConfiguration::builder()
                .block_public_acls(true)
                .block_public_policy(true)
                .ignore_public_acls(true)
                .restrict_public_buckets(true)
                .build();
            let put = client.put_public_access_block().bucket(name);
            put.public_access_block_configuration(block).send().await?;
        }
        Setting::Ownership => {
            let rule = OwnershipControlsRule::builder()
                .object_ownership(ObjectOwnership::BucketOwnerEnforced)
                .build();
            let controls = rule.and_then(|rule| OwnershipControls::builder().rules(rule).build());
            let controls = controls.map_err(Fault::unbuilt)?;
            let put = client.put_bucket_ownership_controls().bucket(name);
            put.ownership_controls(controls).send().await?;
        }
        Setting::Encryption => {
            let by_default = ServerSideEncryptionByDefault::builder()
                .sse_algorithm(ServerSideEncryption::AwsKms)
                .build();
            let rule = ServerSideEncryptionRule::builder()
                .apply_server_side_encryption_by_default(by_default.map_err(Fault::unbuilt)?)
                .bucket_key_enabled(true)
                .build();
            let encryption = ServerSideEncryptionConfiguration::builder().rules(rule).build();
            let put = client.put_bucket_encryption().bucket(name);
            let encryption = encryption.map_err(Fault::unbuilt)?;
            put.server_side_encryption_configuration(encryption).send().await?;
        }
        Setting::Versioning => {
            let versioning =
                VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
            let put = client.put_bucket_versioning().bucket(name);
            put.versioning_configuration(versioning).send().await?;
        }
        Setting::TlsOnly => {
            let policy = tls_policy(&bucket_arn(name, region)).to_string();
            client.put_bucket_policy().bucket(name).policy(policy).send().await?;
        }
    }
    Ok(())
}

fn tls_policy(arn: &str) -> serde_json::Value {
    serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [arn, format!("{arn}/*")],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }],
    })
}

/// The ARN of a bucket in the partition of its region.
pub fn bucket_arn(name: &str, region: &str) -> String {
    format!("arn:{}:s3:::{name}", partition(region))
}
