//! What the role that pushes has to be allowed for one service. Pure.
//!
//! <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html>

use serde_json::json;

use crate::aws::policy::{ArnBase, Policy, Statement};
use crate::config::platform::{Lifecycle, Registry};
use crate::config::service::Service;
use crate::config::settings;

/// What every push asks and sends.
const PUSH: [&str; 9] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:InitiateLayerUpload",
    "ecr:UploadLayerPart",
    "ecr:CompleteLayerUpload",
    "ecr:PutImage",
    "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer",
    "ecr:DescribeImages",
    "ecr:DescribeRepositories",
];

/// Whether the repository is as platform.yaml says.
const COMPARE: [&str; 3] = [
    "ecr:GetLifecyclePolicy",
    "ecr:ListTagsForResource",
    "ecr:BatchGetRepositoryScanningConfiguration",
];

/// The policy of `push-ecr`, which makes the repository of a new service. What `--repair` changes is
/// not in it.
pub fn render_push_policy(registry: &Registry, service: &Service) -> Option<Policy> {
    let base = ArnBase { region: &registry.region, account: registry.account.as_str() };
    let name = settings::repository(registry, service.name.as_str());
    let repository = base.arn("ecr", &format!("repository/{name}"));
    let on = |sid, actions: &[&'static str]| Statement::allow(sid, actions, repository.clone());
    let mut statements = vec![
        Statement::allow("Registry", &["ecr:GetAuthorizationToken"], "*"),
        on("Push", &PUSH),
        on("Compare", &COMPARE),
        on("NewService", &["ecr:CreateRepository", "ecr:TagResource"]),
    ];
    if registry.lifecycle != Lifecycle::Off {
        statements.push(on("Lifecycle", &["ecr:PutLifecyclePolicy"]));
    }
    if service.image.sbom.is_some() {
        statements.push(on("Attachments", &["ecr:ListImageReferrers"]));
    }
    if service.scan.is_some() {
        let inspector = ["inspector2:ListCoverage", "inspector2:ListFindings"];
        statements.push(on("Scan", &["ecr:DescribeImageScanFindings"]));
        statements.push(Statement::allow("EnhancedScan", &inspector, "*"));
    }
    statements.extend(registry.kms_key.as_deref().map(|key| allow_key(&base, key)));
    Policy::of(statements)
}

/// The key of new repositories, as platform.yaml names it: by ARN, id or alias.
fn allow_key(base: &ArnBase<'_>, key: &str) -> Statement {
    let actions = ["kms:DescribeKey", "kms:CreateGrant", "kms:RetireGrant"];
    let alias = key.find("alias/").map(|at| &key[at..]);
    match alias {
        // A statement names keys; the alias of one is a condition.
        Some(alias) => Statement::allow("Key", &actions, base.arn("kms", "key/*"))
            .when(json!({ "ForAnyValue:StringEquals": { "kms:ResourceAliases": alias } })),
        None if key.starts_with("arn:") => Statement::allow("Key", &actions, key),
        None => Statement::allow("Key", &actions, base.arn("kms", &format!("key/{key}"))),
    }
}
