//! Why STS does not give a role to a job's token, and what the role has to trust: from the code
//! and the words of its answer, and from the token's claims. Pure.
//!
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html#API_AssumeRoleWithWebIdentity_Errors>

use serde_json::json;

use super::AUDIENCE;
use crate::github::oidc::Claims;

/// The provider's name, where a token does not say who issued it.
const GITHUB: &str = "token.actions.githubusercontent.com";

/// A role that STS did not give.
pub struct DeniedRole<'a> {
    pub arn: &'a str,
    /// Where STS was asked.
    pub region: &'a str,
    /// What the token says; the token itself is never shown.
    pub claims: Option<&'a Claims>,
}

impl DeniedRole<'_> {
    fn account(&self) -> &str {
        self.arn.split(':').nth(4).unwrap_or_default()
    }

    fn partition(&self) -> &str {
        self.arn.split(':').nth(1).unwrap_or("aws")
    }

    /// The provider as IAM names it: the issuer without its scheme.
    fn provider(&self) -> &str {
        let issuer = self.claims.and_then(|claims| claims.iss.as_deref());
        issuer.and_then(|issuer| issuer.split_once("://")).map_or(GITHUB, |(_, name)| name)
    }

    fn provider_arn(&self) -> String {
        let (partition, account) = (self.partition(), self.account());
        format!("arn:{partition}:iam::{account}:oidc-provider/{}", self.provider())
    }

    /// The statement of a trust policy that accepts exactly this token's kind.
    fn statement(&self) -> String {
        let provider = self.provider();
        let subject = self.claims.map_or("unknown", |claims| claims.sub.as_str());
        let statement = json!({
            "Effect": "Allow",
            "Principal": { "Federated": self.provider_arn() },
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": { "StringEquals": {
                format!("{provider}:aud"): AUDIENCE,
                format!("{provider}:sub"): subject,
            }},
        });
        serde_json::to_string_pretty(&statement).unwrap_or_default()
    }

    fn trust_exactly(&self) -> String {
        let arn = self.arn;
        format!("add this statement to the trust policy of {arn}:\n{}", self.statement())
    }

    /// What to do, from what STS answered.
    pub fn remedies(&self, code: &str, why: &str) -> Vec<String> {
        let (account, provider) = (self.account(), self.provider());
        let again = |why: &str| vec![format!("run the job again: {why}")];
        match code {
            "AccessDenied" | "AccessDeniedException" | "IDPRejectedClaim" => {
                let form = self.claims.and_then(describe_form);
                std::iter::once(self.trust_exactly()).chain(form).collect()
            }
            "InvalidIdentityToken" if why.to_ascii_lowercase().contains("audience") => {
                vec![format!(
                    "add the audience to the provider: aws iam add-client-id-to-open-id-connect-provider \
                     --client-id {AUDIENCE} --open-id-connect-provider-arn {}",
                    self.provider_arn()
                )]
            }
            "InvalidIdentityToken" => vec![format!(
                "create the identity provider in account {account}, where the role is: aws iam \
                 create-open-id-connect-provider --url https://{provider} --client-id-list {AUDIENCE}"
            )],
            // It was signed a moment ago.
            "ExpiredTokenException" => vec![
                "run the job again: the token was older than its five minutes".into(),
                "set the clock of the server that issued it, if that is a GitHub Enterprise Server of \
                 yours: `timedatectl set-ntp true`"
                    .into(),
            ],
            "IDPCommunicationError" => {
                again("STS could not reach GitHub for the keys that tokens are signed with")
            }
            "RegionDisabledException" => vec![format!(
                "activate STS for {} in account {account} (IAM, account settings), or name a region \
                 in platform.yaml where it is",
                self.region
            )],
            "ValidationError" => vec![format!(
                "see that `role: {}` in platform.yaml is the ARN of a role",
                self.arn
            )],
            _ => vec![
                "see that the role exists and that its trust policy names GitHub's identity provider"
                    .into(),
            ],
        }
    }

    /// What to do when STS does not answer at all.
    pub fn remedy_unreachable(&self) -> String {
        format!(
            "let the runner reach https://sts.{}.amazonaws.com: by the proxy in HTTPS_PROXY, a rule of \
             its firewall, or an interface endpoint for STS in its VPC",
            self.region
        )
    }
}

/// What a token says, for whoever compares it with a trust policy.
pub fn describe_claims(claims: &Claims) -> String {
    let optional = [
        ("iss", &claims.iss),
        ("repository", &claims.repository),
        ("ref", &claims.reference),
        ("environment", &claims.environment),
        ("job_workflow_ref", &claims.job_workflow_ref),
    ];
    let said = optional.iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
    said.fold(
        format!("the token says sub={}, aud={AUDIENCE}", claims.sub),
        |text, (name, value)| format!("{text}, {name}={value}"),
    )
}

/// The other form of a subject: repositories that were made, renamed or moved since July 2026 have
/// ids in it, which older policies do not expect.
fn describe_form(claims: &Claims) -> Option<String> {
    let (repository, rest) = claims.sub.strip_prefix("repo:")?.split_once(':')?;
    let bare: Vec<&str> =
        repository.split('/').map(|part| part.split('@').next().unwrap_or(part)).collect();
    let older = format!("repo:{}:{rest}", bare.join("/"));
    (older != claims.sub).then(|| {
        format!(
            "replace the older form of `sub` where the policy has it: it says `{older}`, and GitHub puts \
             the ids of owner and repository into it since this repository was made, renamed or moved"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(sub: &str) -> Claims {
        Claims {
            sub: sub.into(),
            iss: Some("https://token.actions.githubusercontent.com".into()),
            repository: Some("clinicult/patients".into()),
            environment: Some("staging".into()),
            ..Claims::default()
        }
    }

    const ROLE: &str = "arn:aws:iam::111122223333:role/cicd";

    #[test]
    fn what_sts_says_has_a_remedy() {
        let cases = [
            ("AccessDenied", "not authorized", "sub\": \"repo:clinicult/patients:pull_request\""),
            ("InvalidIdentityToken", "Incorrect token audience", "add-client-id-to-open-id"),
            (
                "InvalidIdentityToken",
                "No OpenIDConnect provider",
                "create-open-id-connect-provider",
            ),
            ("ExpiredTokenException", "Token expired", "run the job again"),
            ("IDPCommunicationError", "could not be reached", "run the job again"),
            ("IDPRejectedClaim", "rejected", "sts.amazonaws.com"),
            (
                "RegionDisabledException",
                "off",
                "activate STS for eu-south-1 in account 111122223333",
            ),
            ("ValidationError", "1 validation error detected", "is the ARN of a role"),
            ("", "no answer", "trust policy names"),
        ];
        let claims = claims("repo:clinicult/patients:pull_request");
        let denied = DeniedRole { arn: ROLE, region: "eu-south-1", claims: Some(&claims) };
        for (code, why, part) in cases {
            let fixes = denied.remedies(code, why).join("\n");
            assert!(fixes.contains(part), "{code}: {fixes}");
        }
        assert!(denied.remedy_unreachable().contains("https://sts.eu-south-1.amazonaws.com"));
    }

    #[test]
    fn the_statement_accepts_exactly_the_token() {
        struct Case {
            sub: &'static str,
            older: Option<&'static str>,
        }
        let cases = [
            Case { sub: "repo:clinicult/patients:environment:staging", older: None },
            Case {
                sub: "repo:clinicult@7/patients@99:environment:a@b:c",
                older: Some("repo:clinicult/patients:environment:a@b:c"),
            },
        ];
        for Case { sub, older } in cases {
            let claims = claims(sub);
            let denied = DeniedRole { arn: ROLE, region: "eu-west-1", claims: Some(&claims) };
            let fixes = denied.remedies("AccessDenied", "");
            let (_, statement) = fixes[0].split_once(":\n").expect("a statement");
            let statement: serde_json::Value = serde_json::from_str(statement).expect("JSON");
            let provider = "token.actions.githubusercontent.com";
            assert_eq!(
                statement,
                json!({
                    "Effect": "Allow",
                    "Principal": { "Federated": format!("arn:aws:iam::111122223333:oidc-provider/{provider}") },
                    "Action": "sts:AssumeRoleWithWebIdentity",
                    "Condition": { "StringEquals": {
                        format!("{provider}:aud"): "sts.amazonaws.com", format!("{provider}:sub"): sub,
                    }},
                })
            );
            let told = fixes.get(1).map(String::as_str).unwrap_or_default();
            assert_eq!(told.is_empty(), older.is_none(), "{told}");
            assert!(told.contains(older.unwrap_or_default()), "{told}");
            let said = describe_claims(&claims);
            assert!(said.contains(sub) && said.contains("environment=staging"), "{said}");
        }
    }

    #[test]
    fn another_issuer_is_named_as_it_is() {
        let claims = Claims {
            iss: Some("https://git.example.org/_services/token".into()),
            ..claims("repo:a/b:ref:refs/heads/main")
        };
        let arn = "arn:aws-cn:iam::1:role/r";
        let denied = DeniedRole { arn, region: "cn-north-1", claims: Some(&claims) };
        let fix = denied.remedies("AccessDenied", "").join("\n");
        assert!(
            fix.contains("arn:aws-cn:iam::1:oidc-provider/git.example.org/_services/token"),
            "{fix}"
        );
        assert!(fix.contains("git.example.org/_services/token:sub"), "{fix}");
    }
}
