//! Buckets of S3, made safe: private, owned by their account, with all versions kept.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{
    BucketLocationConstraint, BucketVersioningStatus, CreateBucketConfiguration, ObjectOwnership,
    OwnershipControls, OwnershipControlsRule, PublicAccessBlockConfiguration, ServerSideEncryption,
    ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
    VersioningConfiguration,
};
use aws_sdk_sts::config::Region;

use super::{Session, refusal};
use crate::error::{Error, Result};

/// Opens a client of S3, in the session's region unless another one is named. It addresses buckets
/// by path where an endpoint is given: an emulator on loopback has no host per bucket.
pub fn open_client(session: &Session, region: Option<&str>) -> Client {
    let own_endpoint = session.config().endpoint_url().is_some();
    let mut config =
        aws_sdk_s3::config::Builder::from(session.config()).force_path_style(own_endpoint);
    if let Some(region) = region {
        config = config.region(Region::new(region.to_string()));
    }
    Client::from_conf(config.build())
}

/// Creates a bucket, unless this account has it.
///
/// # Errors
/// Refused with the IAM action when S3 denies it; unexpected when another account has the name.
pub async fn create_bucket(client: &Client, name: &str, region: &str) -> Result<()> {
    // us-east-1 is the one region that may not be named.
    let location = (region != "us-east-1").then(|| {
        CreateBucketConfiguration::builder()
            .location_constraint(BucketLocationConstraint::from(region))
            .build()
    });
    let created =
        client.create_bucket().bucket(name).set_create_bucket_configuration(location).send().await;
    match created {
        Ok(_) => Ok(()),
        // Another run was quicker: what follows is the same.
        Err(error)
            if matches!(error.code(), Some("BucketAlreadyOwnedByYou" | "OperationAborted")) =>
        {
            Ok(())
        }
        Err(error) => Err(refusal(format!("create bucket {name}"), "s3:CreateBucket", &error)),
    }
}

/// Keeps everybody out whom no policy of this account lets in.
///
/// # Errors
/// Refused with the IAM action when S3 denies it.
pub async fn make_private(client: &Client, name: &str) -> Result<()> {
    let block = PublicAccessBlockConfiguration::builder()
        .block_public_acls(true)
        .block_public_policy(true)
        .ignore_public_acls(true)
        .restrict_public_buckets(true)
        .build();
    let blocked = client
        .put_public_access_block()
        .bucket(name)
        .public_access_block_configuration(block)
        .send()
        .await;
    let action = "s3:PutBucketPublicAccessBlock";
    let part = "the public access block";
    blocked.map_err(|error| refusal(describe_part(part, name), action, &error))?;
    let rule = OwnershipControlsRule::builder()
        .object_ownership(ObjectOwnership::BucketOwnerEnforced)
        .build();
    let ownership = rule.and_then(|rule| OwnershipControls::builder().rules(rule).build());
    let attempt = || describe_part("ownership", name);
    let ownership = ownership.map_err(|error| Error::unexpected(attempt()).why(error))?;
    client
        .put_bucket_ownership_controls()
        .bucket(name)
        .ownership_controls(ownership)
        .send()
        .await
        .map_err(|error| refusal(attempt(), "s3:PutBucketOwnershipControls", &error))?;
    Ok(())
}

/// Encrypts new objects with the account's own KMS key for S3.
///
/// # Errors
/// Refused with the IAM action when S3 denies it.
pub async fn encrypt_by_kms(client: &Client, name: &str) -> Result<()> {
    let attempt = || describe_part("encryption", name);
    let by_default = ServerSideEncryptionByDefault::builder()
        .sse_algorithm(ServerSideEncryption::AwsKms)
        .build();
    let by_default = by_default.map_err(|error| Error::unexpected(attempt()).why(error))?;
    let rule = ServerSideEncryptionRule::builder()
        .apply_server_side_encryption_by_default(by_default)
        .bucket_key_enabled(true)
        .build();
    let encryption = ServerSideEncryptionConfiguration::builder().rules(rule).build();
    let encryption = encryption.map_err(|error| Error::unexpected(attempt()).why(error))?;
    client
        .put_bucket_encryption()
        .bucket(name)
        .server_side_encryption_configuration(encryption)
        .send()
        .await
        .map_err(|error| refusal(attempt(), "s3:PutEncryptionConfiguration", &error))?;
    Ok(())
}

/// Keeps every version of every object.
///
/// # Errors
/// Refused with the IAM action when S3 denies it.
pub async fn keep_versions(client: &Client, name: &str) -> Result<()> {
    let versioning =
        VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    let kept = client
        .put_bucket_versioning()
        .bucket(name)
        .versioning_configuration(versioning)
        .send()
        .await;
    let action = "s3:PutBucketVersioning";
    kept.map_err(|error| refusal(describe_part("versioning", name), action, &error))?;
    Ok(())
}

/// Refuses every request that does not come by TLS.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/security-best-practices.html>
///
/// # Errors
/// Refused with the IAM action when S3 denies it.
pub async fn demand_tls(client: &Client, name: &str, region: &str) -> Result<()> {
    let arn = bucket_arn(name, region);
    let policy = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [arn, format!("{arn}/*")],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }],
    });
    let put = client.put_bucket_policy().bucket(name).policy(policy.to_string()).send().await;
    let action = "s3:PutBucketPolicy";
    put.map_err(|error| refusal(describe_part("the policy", name), action, &error))?;
    Ok(())
}

/// The ARN of a bucket in the partition of its region.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>
pub fn bucket_arn(name: &str, region: &str) -> String {
    let partition = match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    format!("arn:{partition}:s3:::{name}")
}

fn describe_part(part: &str, name: &str) -> String {
    format!("set {part} of bucket {name}")
}
