//! What the roles of one service in one environment have to be allowed, for all targets alike. Pure.
//!
//! The policies are as small as the calls: a test takes each action away and sees the deploy denied.

use indexmap::IndexMap;

use super::{Order, storage};
use crate::aws::bucket::bucket_arn;
use crate::aws::policy::{ArnBase, Policy, Statement, account_of};
use crate::config::platform::Records;
use crate::config::settings::{self, Destination};

/// The policy of each role: `deploy`, `plan`, and those that run the service.
pub type Policies = IndexMap<&'static str, Policy>;

/// The account and region of an environment.
pub fn base_of(destination: &Destination) -> ArnBase<'_> {
    let of_role = destination.role.as_deref().and_then(account_of);
    let registry = destination.registry.as_ref();
    let account = of_role.or_else(|| registry.map(|registry| registry.account.as_str()));
    ArnBase { region: &destination.region, account: account.unwrap_or_default() }
}

/// The ARN of the service's repository, in the registry's account.
pub fn repository_arn(order: &Order) -> Option<String> {
    let registry = order.destination.registry.as_ref()?;
    let base = ArnBase { region: &registry.region, account: registry.account.as_str() };
    let name = settings::repository(registry, &order.settings.owner.service);
    Some(base.arn("ecr", &format!("repository/{name}")))
}

/// What every deploy needs: to find its image, to write down what it did, to make its buckets.
pub fn list_common(order: &Order, records: Option<&Records>) -> Vec<Statement> {
    let mut statements = Vec::new();
    let image = repository_arn(order);
    statements.extend(image.map(|arn| Statement::allow("Image", &["ecr:DescribeImages"], arn)));
    statements.extend(list_platforms(order));
    if let Some(records) = records {
        statements.extend(list_ledger(order, records));
    }
    let buckets = list_buckets(order);
    if !buckets.is_empty() {
        let actions = [
            "s3:ListBucket",
            "s3:GetBucketVersioning",
            "s3:CreateBucket",
            "s3:PutBucketPublicAccessBlock",
            "s3:PutBucketOwnershipControls",
            "s3:PutEncryptionConfiguration",
            "s3:PutBucketVersioning",
        ];
        statements.push(Statement::allow_on("Storage", &actions, buckets));
    }
    statements
}

/// To see which platforms the image is for.
fn list_platforms(order: &Order) -> Vec<Statement> {
    let Some(image) = repository_arn(order) else { return Vec::new() };
    let read = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];
    vec![
        Statement::allow("Registry", &["ecr:GetAuthorizationToken"], "*"),
        Statement::allow("ImagePlatform", &read, image),
    ]
}

/// The ledger of this service and environment, in a bucket that is there. What says that no
/// environment is frozen is one object for all services; where another environment comes first, its
/// records are read.
fn list_ledger(order: &Order, records: &Records) -> Vec<Statement> {
    let bucket = bucket_arn(&records.bucket, &records.region);
    let (service, environment) = (&order.settings.name, &order.settings.environment);
    let of = |environment: &str| format!("{bucket}/cicd/{service}/{environment}/*");
    let mut read = vec![of(environment), format!("{bucket}/cicd/freezes.json")];
    read.extend(order.destination.after.as_deref().map(of));
    vec![
        // Without it S3 says of an object that is not there that it may not be read.
        Statement::allow("Ledger", &["s3:ListBucket"], bucket.clone()),
        Statement::allow_on("Records", &["s3:GetObject"], read),
        Statement::allow("Record", &["s3:PutObject"], of(environment)),
    ]
}

/// What reads the records of all services, for `report`.
pub fn render_report_policy(records: &Records) -> Option<Policy> {
    let bucket = bucket_arn(&records.bucket, &records.region);
    let objects = format!("{bucket}/cicd/*");
    Policy::of(vec![
        Statement::allow("Ledger", &["s3:ListBucket"], bucket),
        Statement::allow("Records", &["s3:GetObject"], objects),
    ])
}

/// The ARNs of the service's buckets.
fn list_buckets(order: &Order) -> Vec<String> {
    let arn = |name: &String| bucket_arn(name, &order.destination.region);
    storage::bucket_names(order).iter().map(arn).collect()
}

/// What the running service needs: its buckets.
pub fn list_running(order: &Order) -> Vec<Statement> {
    let buckets = list_buckets(order);
    if buckets.is_empty() {
        return Vec::new();
    }
    let objects = buckets.iter().map(|bucket| format!("{bucket}/*")).collect();
    vec![
        Statement::allow_on("Buckets", &["s3:ListBucket"], buckets),
        Statement::allow_on(
            "Objects",
            &["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
            objects,
        ),
    ]
}

/// The policies by role: what deploys, the part of it that a plan needs, and what runs.
pub fn collect_policies(
    deploy: Vec<Statement>,
    running: impl IntoIterator<Item = (&'static str, Vec<Statement>)>,
) -> Policies {
    let deploy = Policy::of(deploy);
    let plan = deploy.as_ref().and_then(Policy::reading);
    let running = running.into_iter().map(|(role, statements)| (role, Policy::of(statements)));
    let all = [("deploy", deploy), ("plan", plan)].into_iter().chain(running);
    all.filter_map(|(role, policy)| Some((role, policy?))).collect()
}
