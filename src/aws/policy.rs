//! IAM policies as data: what a role may do, and on what. Pure.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>

use serde::Serialize;
use serde_json::Value;

/// What a role may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    version: &'static str,
    #[serde(rename = "Statement")]
    pub statements: Vec<Statement>,
}

/// Some actions on some resources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Statement {
    /// What they are for: letters and digits.
    pub sid: &'static str,
    effect: &'static str,
    #[serde(rename = "Action")]
    pub actions: Vec<&'static str>,
    #[serde(rename = "Resource")]
    pub resources: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Value>,
}

impl Policy {
    /// `None` for no statements: IAM takes no such policy.
    pub fn of(statements: Vec<Statement>) -> Option<Policy> {
        (!statements.is_empty()).then_some(Policy { version: "2012-10-17", statements })
    }

    /// The part of the policy that only reads; `None` if nothing does.
    pub fn reading(&self) -> Option<Policy> {
        let mut statements = self.statements.clone();
        for statement in &mut statements {
            statement.actions.retain(|action| is_read(action));
        }
        statements.retain(|statement| !statement.actions.is_empty());
        Policy::of(statements)
    }
}

impl Statement {
    /// Actions on one resource.
    pub fn allow(
        sid: &'static str,
        actions: &[&'static str],
        resource: impl Into<String>,
    ) -> Statement {
        Statement::allow_on(sid, actions, vec![resource.into()])
    }

    /// Actions on several resources.
    pub fn allow_on(
        sid: &'static str,
        actions: &[&'static str],
        resources: Vec<String>,
    ) -> Statement {
        let (actions, effect) = (actions.to_vec(), "Allow");
        Statement { sid, effect, actions, resources, condition: None }
    }

    /// Only where this holds too.
    pub fn when(self, condition: Value) -> Statement {
        Statement { condition: Some(condition), ..self }
    }
}

/// Whether an action changes nothing.
fn is_read(action: &str) -> bool {
    let verb = action.split_once(':').map_or(action, |(_, verb)| verb);
    ["GET", "Get", "List", "Describe", "Batch"].iter().any(|read| verb.starts_with(read))
}

/// What the ARNs of one account and region have in common.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>
#[derive(Clone, Copy, Debug)]
pub struct ArnBase<'a> {
    pub region: &'a str,
    pub account: &'a str,
}

impl ArnBase<'_> {
    pub fn arn(&self, service: &str, resource: &str) -> String {
        let ArnBase { region, account } = self;
        format!("arn:{}:{service}:{region}:{account}:{resource}", partition(region))
    }

    /// The ARN of what API Gateway manages: it names no account.
    /// <https://docs.aws.amazon.com/apigateway/latest/developerguide/arn-format-reference.html>
    pub fn api_gateway(&self, path: &str) -> String {
        format!("arn:{}:apigateway:{}::{path}", partition(self.region), self.region)
    }
}

/// The part of AWS that a region belongs to.
pub fn partition(region: &str) -> &'static str {
    match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// The account in an ARN.
pub fn account_of(arn: &str) -> Option<&str> {
    arn.split(':').nth(4).filter(|account| !account.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_written_as_iam_reads_it() {
        let base = ArnBase { region: "cn-north-1", account: "1" };
        let statement =
            Statement::allow("Cluster", &["ecs:DescribeClusters"], base.arn("ecs", "cluster/c"));
        let condition = serde_json::json!({ "Bool": { "a": "b" } });
        let policy = Policy::of(vec![statement.when(condition)]).expect("a policy");
        let text = serde_json::to_string(&policy).expect("JSON");
        assert_eq!(
            text,
            r#"{"Version":"2012-10-17","Statement":[{"Sid":"Cluster","Effect":"Allow","Action":["ecs:DescribeClusters"],"Resource":["arn:aws-cn:ecs:cn-north-1:1:cluster/c"],"Condition":{"Bool":{"a":"b"}}}]}"#
        );
        assert_eq!(Policy::of(vec![]), None);
        assert_eq!(base.api_gateway("/apis"), "arn:aws-cn:apigateway:cn-north-1::/apis");
    }

    #[test]
    fn a_plan_gets_what_reads() {
        let both = Statement::allow("A", &["s3:GetObject", "s3:PutObject", "apigateway:GET"], "*");
        let writes = Statement::allow("B", &["apigateway:PATCH", "iam:PassRole"], "*");
        let policy = Policy::of(vec![both, writes]).expect("a policy").reading().expect("a part");
        let actions: Vec<_> = policy.statements.iter().map(|one| one.actions.clone()).collect();
        assert_eq!(actions, [vec!["s3:GetObject", "apigateway:GET"]]);
    }
}
