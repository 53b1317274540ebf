//! What the API server, or the way to it, said instead of an answer → an error with the exact fix.
//! Pure.

use crate::error::{Error, Kind};

/// A request that has no answer.
#[derive(Clone, Debug)]
pub enum Failure {
    Refused(Refusal),
    /// No answer at all.
    Unreachable {
        timed_out: bool,
        why: String,
    },
    /// Nothing was asked: this program could not.
    Unasked(Box<Error>),
}

/// A `Status` of the API server.
/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    pub code: u16,
    pub reason: String,
    pub message: String,
    /// Field and message, where the API server tells several things.
    pub causes: Vec<(String, String)>,
}

/// Who asks, and where: what a fix has to name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    pub cluster: String,
    pub region: String,
    pub namespace: String,
    pub endpoint: String,
    pub private: bool,
    /// The IAM role or user, when it is known.
    pub principal: Option<String>,
}

impl Refusal {
    /// Whether the object that was sent is what is wrong. An unknown field in an apply ends in a
    /// 500.
    fn is_about_the_object(&self) -> bool {
        matches!(self.code, 400 | 422)
            || self.message.contains("failed to create typed patch object")
    }
}

impl Failure {
    /// Whether the same request may well be answered in a moment.
    pub fn is_passing(&self) -> bool {
        match self {
            Failure::Refused(refusal) => {
                matches!(refusal.code, 429 | 500 | 502 | 503 | 504)
                    && !refusal.is_about_the_object()
                    || refusal.code == 409
                        && refusal.reason == "Conflict"
                        && refusal.causes.is_empty()
            }
            // A connection that could not be made in its time will not be made in the same time
            // again.
            Failure::Unreachable { timed_out, .. } => !timed_out,
            Failure::Unasked(_) => false,
        }
    }

    /// The status code of an answer.
    pub fn code(&self) -> Option<u16> {
        match self {
            Failure::Refused(refusal) => Some(refusal.code),
            Failure::Unreachable { .. } | Failure::Unasked(_) => None,
        }
    }

    /// Field managers that own fields this apply sets: manager and field, when that is what was
    /// refused.
    pub fn conflicts(&self) -> Vec<(String, String)> {
        let Failure::Refused(refusal) = self else { return Vec::new() };
        if refusal.code != 409 {
            return Vec::new();
        }
        // `conflict with "kubectl" with subresource "scale" using apps/v1`
        let manager = |message: &str| {
            Some(message.strip_prefix("conflict with \"")?.split_once('"')?.0.to_string())
        };
        refusal
            .causes
            .iter()
            .filter_map(|(field, message)| Some((manager(message)?, field.clone())))
            .collect()
    }
}

/// Tools whose fields a deploy may take over: they are what somebody ran by hand, or what deployed
/// before. Anything else is a controller that would take them back.
pub fn may_take_over(manager: &str) -> bool {
    ["kubectl", "helm", "Helm", "cicd"].iter().any(|known| manager.starts_with(known))
}

/// The error when fields of `object` belong to managers we do not take over from.
pub fn owned_by_others(object: &str, conflicts: &[(String, String)]) -> Error {
    let owners: Vec<String> = conflicts
        .iter()
        .filter(|(manager, _)| !may_take_over(manager))
        .map(|(manager, field)| format!("`{manager}` owns {field}"))
        .collect();
    let fix = if conflicts.iter().any(|(_, field)| field.ends_with(".replicas")) {
        "something else sets the count: write `autoscale` instead of `replicas` in service.yaml, or stop that controller"
    } else {
        "let one of the two set it: take it out of the other tool, or out of service.yaml and its manifests"
    };
    Error::refused(format!("{object} is also managed by something else"))
        .why(owners.join(", "))
        .fix(fix)
}

/// The error for a failure while an `attempt` (`read Deployment/patients`).
pub fn explain(failure: &Failure, attempt: &str, caller: &Caller) -> Error {
    match failure {
        Failure::Unasked(error) => error.as_ref().clone(),
        Failure::Unreachable { timed_out, why } => unreachable(*timed_out, why, attempt, caller),
        Failure::Refused(refusal) => refused(refusal, attempt, caller),
    }
}

fn unreachable(timed_out: bool, why: &str, attempt: &str, caller: &Caller) -> Error {
    let error = Error::refused(format!(
        "cannot {attempt}: the API server of {} at {} does not answer",
        caller.cluster, caller.endpoint
    ))
    .why(why);
    let name = &caller.cluster;
    if caller.private {
        return error.fix(format!(
            "the endpoint of {name} is private: run on a runner inside its VPC, or reach it through a tunnel or proxy and name \
             that in platform.yaml: eks: {{cluster: {name}, endpoint: \"https://…\", proxy: \"http://…\"}}"
        ));
    }
    if why.contains("certificate") {
        return error.fix(
            "the server's certificate is not the cluster's: correct `eks.endpoint` and `eks.ca` in platform.yaml",
        );
    }
    if timed_out {
        return error.fix(format!(
            "this runner's address may not be among the endpoint's public access CIDRs: \
             aws eks describe-cluster --name {name} --region {} --query cluster.resourcesVpcConfig",
            caller.region
        ));
    }
    error.fix("see that the network of this machine lets HTTPS to that address through")
}

fn refused(refusal: &Refusal, attempt: &str, caller: &Caller) -> Error {
    let Caller { cluster, region, namespace, .. } = caller;
    let error = |message: String| Error::refused(message).why(&refusal.message);
    match refusal.code {
        401 => {
            let principal = caller.principal.as_deref().unwrap_or("ARN_OF_THE_ROLE");
            error(format!("the cluster {cluster} does not know {principal}")).fix(format!(
                "give it an access entry:\n\
                 aws eks create-access-entry --cluster-name {cluster} --region {region} --principal-arn {principal}\n\
                 aws eks associate-access-policy --cluster-name {cluster} --region {region} --principal-arn {principal} \
                 --policy-arn arn:aws:eks::aws:cluster-access-policy/AmazonEKSEditPolicy --access-scope type=namespace,namespaces={namespace}"
            ))
        }
        403 => match Permission::asked(&refusal.message) {
            Some(permission) => error(format!("cannot {attempt}: not permitted")).fix(permission.fix(namespace)),
            // Admission (pod security, a webhook) says 403 too, about what was sent and not about
            // who sent it.
            None => error(format!("cannot {attempt}: forbidden"))
                .fix("the cluster's admission rules say no: change what the message names, or ask who runs the cluster"),
        },
        404 if refusal.message.contains(&format!("namespaces \"{namespace}\"")) => {
            no_namespace(caller).why(&refusal.message)
        }
        404 => error(format!("cannot {attempt}: not found")).fix("see that the cluster has what the message names"),
        409 => error(format!("cannot {attempt}: changed by somebody else meanwhile")).fix("run the deploy again"),
        422 if refusal.message.contains("field is immutable") => error(format!("cannot {attempt}: a field that cannot change would")).fix(format!(
            "another tool made it; let it go, its pods stay: kubectl -n {namespace} delete OBJECT --cascade=orphan, then deploy again"
        )),
        _ if refusal.is_about_the_object() => Error { kind: Kind::Input, ..error(format!("cannot {attempt}: not valid")) }
            .fix("correct what the message names, in service.yaml or in the manifest it comes from"),
        429 | 500..=599 => Error::unexpected(format!("cannot {attempt}: the API server is not well")).why(&refusal.message).fix("run it again"),
        code => Error::unexpected(format!("cannot {attempt}: the API server answered {code}")).why(&refusal.message),
    }
}

/// The namespace that platform.yaml names is not there.
pub fn no_namespace(caller: &Caller) -> Error {
    let Caller { cluster, namespace, .. } = caller;
    Error::refused(format!("the cluster {cluster} has no namespace {namespace}")).fix(format!(
        "create it once: kubectl create namespace {namespace}; or correct `eks.namespace` in platform.yaml"
    ))
}

/// The permission that was missing, as the API server words it: `deployments.apps "patients" is
/// forbidden: User "ci" cannot patch resource "deployments" in API group "apps" in the namespace
/// "staging"`.
#[derive(Debug, PartialEq, Eq)]
struct Permission<'a> {
    user: &'a str,
    verb: &'a str,
    resource: &'a str,
    group: &'a str,
}

impl<'a> Permission<'a> {
    fn asked(message: &'a str) -> Option<Permission<'a>> {
        let after = |mark: &str| message.split_once(mark).map(|(_, rest)| rest);
        let quoted = |mark: &str| after(mark)?.split_once('"').map(|(word, _)| word);
        let verb = after("\" cannot ")?.split_once(" resource ")?.0;
        Some(Permission {
            user: quoted("User \"")?,
            verb,
            resource: quoted("resource \"")?,
            group: quoted("API group \"")?,
        })
    }

    /// The rule to add, and the whole role that a deploy needs, once.
    fn fix(&self, namespace: &str) -> String {
        let Permission { user, verb, resource, group } = self;
        if *resource == "namespaces" {
            return format!(
                "let `{user}` read the namespace {namespace}: the access policy AmazonEKSEditPolicy does, or a Role with get on namespaces"
            );
        }
        format!(
            "let `{user}` do it; the missing rule of its Role in {namespace}:\n\
             - {{apiGroups: [\"{group}\"], resources: [{resource}], verbs: [{verb}]}}\n\
             or all a deploy needs: aws eks associate-access-policy … --policy-arn \
             arn:aws:eks::aws:cluster-access-policy/AmazonEKSEditPolicy --access-scope type=namespace,namespaces={namespace}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Caller {
        Caller {
            cluster: "clinicult-staging".into(),
            region: "eu-west-1".into(),
            namespace: "staging".into(),
            endpoint: "https://api".into(),
            private: false,
            principal: Some("arn:aws:iam::1:role/ci".into()),
        }
    }

    fn status(code: u16, reason: &str, message: &str) -> Failure {
        Failure::Refused(Refusal {
            code,
            reason: reason.into(),
            message: message.into(),
            causes: Vec::new(),
        })
    }

    #[test]
    fn each_refusal_names_its_fix() {
        let forbidden = "deployments.apps \"patients\" is forbidden: User \"ci\" cannot patch resource \"deployments\" in API group \"apps\" in the namespace \"staging\"";
        let log = "pods \"p\" is forbidden: User \"ci\" cannot get resource \"pods/log\" in API group \"\" in the namespace \"staging\"";
        let admission = "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\"";
        let cases = [
            (
                status(401, "Unauthorized", "Unauthorized"),
                Kind::Refused,
                "create-access-entry --cluster-name clinicult-staging --region eu-west-1 --principal-arn arn:aws:iam::1:role/ci",
            ),
            (
                status(401, "Unauthorized", "Unauthorized"),
                Kind::Refused,
                "--access-scope type=namespace,namespaces=staging",
            ),
            (
                status(403, "Forbidden", forbidden),
                Kind::Refused,
                "- {apiGroups: [\"apps\"], resources: [deployments], verbs: [patch]}",
            ),
            (
                status(403, "Forbidden", log),
                Kind::Refused,
                "- {apiGroups: [\"\"], resources: [pods/log], verbs: [get]}",
            ),
            (status(403, "Forbidden", admission), Kind::Refused, "admission rules"),
            (
                status(404, "NotFound", "namespaces \"staging\" not found"),
                Kind::Refused,
                "kubectl create namespace staging",
            ),
            (
                status(422, "Invalid", "spec.selector: Invalid value: {}: field is immutable"),
                Kind::Refused,
                "--cascade=orphan",
            ),
            (
                status(422, "Invalid", "spec.ports: Required value"),
                Kind::Input,
                "correct what the message names",
            ),
            (
                status(400, "BadRequest", "unknown field \"spec.foo\""),
                Kind::Input,
                "correct what the message names",
            ),
            (
                status(
                    500,
                    "InternalError",
                    "failed to create typed patch object (n/x; /v1, Kind=ConfigMap): .dta: field not declared in schema",
                ),
                Kind::Input,
                "correct what the message names",
            ),
            (status(503, "ServiceUnavailable", "x"), Kind::Unexpected, "run it again"),
        ];
        for (failure, kind, fix) in cases {
            let error = explain(&failure, "apply Deployment/patients", &caller());
            assert_eq!(error.kind, kind, "{failure:?}");
            assert!(error.advice().contains(fix), "{failure:?}: {:?}", error.fixes);
        }
    }

    #[test]
    fn silence_names_its_likely_reason() {
        let silent = |timed_out, why: &str| Failure::Unreachable { timed_out, why: why.into() };
        let private = Caller { private: true, ..caller() };
        let cases = [
            (silent(true, "timed out"), private, "is private"),
            (silent(true, "timed out"), caller(), "public access CIDRs"),
            (silent(false, "invalid peer certificate: UnknownIssuer"), caller(), "`eks.ca`"),
            (silent(false, "connection refused"), caller(), "network"),
        ];
        for (failure, caller, fix) in cases {
            let error = explain(&failure, "reading", &caller);
            assert_eq!(error.kind, Kind::Refused);
            assert!(error.advice().contains(fix), "{failure:?}: {:?}", error.fixes);
        }
    }

    #[test]
    fn only_what_may_pass_is_asked_again() {
        let cases = [
            (status(429, "TooManyRequests", ""), true),
            (status(503, "ServiceUnavailable", ""), true),
            (status(409, "Conflict", "the object has been modified"), true),
            (status(409, "AlreadyExists", ""), false),
            (status(403, "Forbidden", ""), false),
            (status(401, "Unauthorized", ""), false),
            (Failure::Unreachable { timed_out: false, why: String::new() }, true),
            (Failure::Unreachable { timed_out: true, why: String::new() }, false),
        ];
        for (failure, passing) in cases {
            assert_eq!(failure.is_passing(), passing, "{failure:?}");
        }
    }

    #[test]
    fn conflicts_name_manager_and_field() {
        let refusal = Refusal {
            code: 409,
            reason: "Conflict".into(),
            message: "Apply failed with 2 conflicts".into(),
            causes: vec![
                (
                    ".spec.replicas".into(),
                    "conflict with \"kube-controller-manager\" with subresource \"scale\" using apps/v1".into(),
                ),
                (".spec.template".into(), "conflict with \"kubectl-client-side-apply\" using apps/v1".into()),
            ],
        };
        let failure = Failure::Refused(refusal);
        let conflicts = failure.conflicts();
        assert_eq!(
            conflicts,
            [
                ("kube-controller-manager".to_string(), ".spec.replicas".to_string()),
                ("kubectl-client-side-apply".to_string(), ".spec.template".to_string())
            ]
        );
        assert!(!failure.is_passing());
        let error = owned_by_others("Deployment/patients", &conflicts);
        assert_eq!(error.why.as_deref(), Some("`kube-controller-manager` owns .spec.replicas"));
        assert!(error.advice().contains("`autoscale`"));
        assert!(
            may_take_over("kubectl-edit")
                && may_take_over("helm")
                && !may_take_over("argocd-controller")
        );
    }
}
