//! What the API server, or the way to it, said instead of an answer → an error with the exact fix.
//! Pure.

use std::time::Duration;

use crate::error::{Code, Error, Kind};
use crate::retry::Attempt;

/// What came instead of an answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the API server gave no answer")]
pub enum Fault {
    Refused(Refusal),
    /// No answer at all.
    Unreachable {
        timed_out: bool,
        why: String,
    },
    /// Nothing was asked: this program could not.
    Unasked(Box<Error>),
}

/// A request that came to nothing, however often it was sent.
#[derive(Clone, Debug)]
pub struct Failure {
    /// With its fix.
    pub error: Error,
    /// What the last try met; `None` if the deadline ended it.
    pub fault: Option<Fault>,
    /// One of the tries may have been carried out.
    pub may_have_written: bool,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        failure.error
    }
}

impl Failure {
    /// A failure of this program itself.
    pub fn unasked(error: Error) -> Failure {
        let fault = Some(Fault::Unasked(Box::new(error.clone())));
        Failure { error, fault, may_have_written: false }
    }

    /// The cluster has no such kind.
    pub fn unknown_kind(api_version: &str, kind: &str) -> Failure {
        let error = Error::refused(format!(
            "cannot find the kind {kind} of {api_version}: the cluster knows none"
        ))
        .fix(
            "add its CustomResourceDefinition to `manifests` or install it before, or correct the manifest",
        );
        let refusal = Refusal { code: 404, ..Refusal::default() };
        Failure { error, fault: Some(Fault::Refused(refusal)), may_have_written: false }
    }

    /// The status code of the answer.
    pub fn code(&self) -> Option<u16> {
        self.fault.as_ref()?.code()
    }

    /// Field managers that own fields this apply sets: manager and field, when that is what was
    /// refused.
    pub fn conflicts(&self) -> Vec<(String, String)> {
        self.fault.as_ref().map(Fault::conflicts).unwrap_or_default()
    }

    /// The API server's words, if it does not reach what it was to hand a request on to.
    pub fn says_shut_out(&self) -> Option<String> {
        match self.fault.as_ref()? {
            Fault::Refused(refusal)
                if refusal.message.contains("error trying to reach service") =>
            {
                Some(refusal.message.clone())
            }
            _ => None,
        }
    }

    /// The error of a look that may be taken again: it says nothing of what was looked for.
    pub fn into_blindness(self) -> Error {
        let passes = match &self.fault {
            Some(Fault::Refused(refusal)) => refusal.code == 401 || refusal.code >= 429,
            Some(Fault::Unreachable { .. }) => true,
            Some(Fault::Unasked(_)) | None => false,
        };
        match passes {
            true => Error { kind: Kind::Unexpected, ..self.error },
            false => self.error,
        }
    }
}

/// Says what follows from a fault while an `attempt` (`read Deployment/patients`).
pub fn classify_fault<T>(fault: &Fault, attempt: &str, caller: &Caller) -> Attempt<T> {
    let why = explain(fault, attempt, caller);
    match fault {
        // The credentials behind the token may have ended before the token did.
        Fault::Refused(refusal) if refusal.code == 401 => Attempt::Reauthorize { why },
        Fault::Refused(refusal) if fault.is_passing() => {
            Attempt::Retry { why, after: refusal.retry_after }
        }
        _ if fault.is_passing() => Attempt::Retry { why, after: None },
        _ => Attempt::Refused(why),
    }
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
    /// The pause that it asks for.
    pub retry_after: Option<Duration>,
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

impl Fault {
    /// Whether a write may have been carried out all the same.
    pub fn may_have_written(&self) -> bool {
        match self {
            Fault::Refused(refusal) => refusal.code >= 500,
            Fault::Unreachable { .. } => true,
            Fault::Unasked(_) => false,
        }
    }

    /// Whether the same request may well be answered in a moment.
    fn is_passing(&self) -> bool {
        match self {
            Fault::Refused(refusal) => {
                matches!(refusal.code, 429 | 500 | 502 | 503 | 504)
                    && !refusal.is_about_the_object()
                    || refusal.code == 409
                        && refusal.reason == "Conflict"
                        && refusal.causes.is_empty()
            }
            // A connection that could not be made in its time will not be made in the same time
            // again.
            Fault::Unreachable { timed_out, .. } => !timed_out,
            Fault::Unasked(_) => false,
        }
    }

    /// The status code of an answer.
    pub fn code(&self) -> Option<u16> {
        match self {
            Fault::Refused(refusal) => Some(refusal.code),
            Fault::Unreachable { .. } | Fault::Unasked(_) => None,
        }
    }

    fn conflicts(&self) -> Vec<(String, String)> {
        let Fault::Refused(refusal) = self else { return Vec::new() };
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
        "write `autoscale` instead of `replicas` in service.yaml, or stop the controller that sets the \
         count"
    } else {
        "let one of the two set it: take it out of the other tool, or out of service.yaml and its manifests"
    };
    Error::refused(format!("cannot apply {object}: something else manages it too"))
        .why(owners.join(", "))
        .fix(fix)
}

/// The error for a fault while an `attempt` (`read Deployment/patients`).
pub fn explain(fault: &Fault, attempt: &str, caller: &Caller) -> Error {
    match fault {
        Fault::Unasked(error) => error.as_ref().clone(),
        Fault::Unreachable { timed_out, why } => unreachable(*timed_out, why, attempt, caller),
        Fault::Refused(refusal) => refused(refusal, attempt, caller),
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
            "run on a runner inside the VPC, as the endpoint of {name} is private; or reach it through a tunnel or proxy and \
             name that in platform.yaml: eks: {{cluster: {name}, endpoint: \"https://…\", proxy: \"http://…\"}}"
        ));
    }
    if why.contains("certificate") {
        return error.fix(
            "correct `eks.endpoint` and `eks.ca` in platform.yaml: the server's certificate is not the cluster's",
        );
    }
    if timed_out {
        return error.fix(format!(
            "let this runner's address in: it may not be among the endpoint's public access CIDRs: \
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
            error(format!("cannot enter the cluster {cluster}: it does not know {principal}"))
                .code(Code::AccessDenied)
                .fix(format!(
                "give it an access entry:\n\
                 aws eks create-access-entry --cluster-name {cluster} --region {region} --principal-arn {principal}\n\
                 aws eks associate-access-policy --cluster-name {cluster} --region {region} --principal-arn {principal} \
                 --policy-arn arn:aws:eks::aws:cluster-access-policy/AmazonEKSEditPolicy --access-scope type=namespace,namespaces={namespace}"
            ))
        }
        403 => match Permission::asked(&refusal.message) {
            Some(permission) => error(format!("cannot {attempt}: not permitted"))
                .code(Code::AccessDenied)
                .fix(permission.fix(namespace)),
            // Admission (pod security, a webhook) says 403 too, about what was sent and not about
            // who sent it.
            None => error(format!("cannot {attempt}: forbidden"))
                .code(Code::AccessDenied)
                .fix("change what the message names, or ask who runs the cluster: its admission rules say no"),
        },
        404 if refusal.message.contains(&format!("namespaces \"{namespace}\"")) => {
            no_namespace(caller).why(&refusal.message)
        }
        404 => error(format!("cannot {attempt}: not found")).fix("see that the cluster has what the message names"),
        409 => error(format!("cannot {attempt}: changed by somebody else meanwhile")).fix("run the deploy again"),
        422 if refusal.message.contains("field is immutable") && attempt.contains(" Job/") => {
            error(format!("cannot {attempt}: a Job that was made cannot change")).fix(
                "give the Job another name with each change, as seed-2; or set its `ttlSecondsAfterFinished: 0`, so that it is gone by then",
            )
        }
        422 if refusal.message.contains("field is immutable") => error(format!("cannot {attempt}: a field that cannot change would")).fix(format!(
            "let it go, as another tool made it; its pods stay: kubectl -n {namespace} delete OBJECT --cascade=orphan, then deploy again"
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
    Error::refused(format!("cannot deploy to the cluster {cluster}: it has no namespace {namespace}")).fix(format!(
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

    fn status(code: u16, reason: &str, message: &str) -> Fault {
        Fault::Refused(Refusal {
            code,
            reason: reason.into(),
            message: message.into(),
            causes: Vec::new(),
            retry_after: None,
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
        let immutable =
            status(422, "Invalid", "spec.template: Invalid value: {}: field is immutable");
        let error = explain(&immutable, "check Job/seed", &caller());
        assert!(error.advice().contains("give the Job another name"), "{:?}", error.fixes);
    }

    #[test]
    fn silence_names_its_likely_reason() {
        let silent = |timed_out, why: &str| Fault::Unreachable { timed_out, why: why.into() };
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

    /// A refusal that asks for a pause, as a busy API server does.
    fn busy(seconds: u64) -> Fault {
        let Fault::Refused(refusal) = status(429, "TooManyRequests", "") else { unreachable!() };
        Fault::Refused(Refusal { retry_after: Some(Duration::from_secs(seconds)), ..refusal })
    }

    #[test]
    fn what_follows_from_a_fault() {
        struct Case {
            fault: Fault,
            follows: &'static str,
            may_have_written: bool,
        }
        let case = |fault, follows, may_have_written| Case { fault, follows, may_have_written };
        let conflict = Fault::Refused(Refusal {
            code: 409,
            reason: "Conflict".into(),
            causes: vec![(".spec.x".into(), "conflict with \"kubectl\" using v1".into())],
            ..Refusal::default()
        });
        let silent = |timed_out| Fault::Unreachable { timed_out, why: String::new() };
        let invalid = "failed to create typed patch object (n/x; /v1, Kind=ConfigMap)";
        let cases = [
            case(status(429, "TooManyRequests", ""), "retry", false),
            case(busy(3), "retry after 3 s", false),
            case(status(500, "InternalError", "etcdserver: leader changed"), "retry", true),
            case(status(503, "ServiceUnavailable", ""), "retry", true),
            case(status(500, "InternalError", invalid), "refused", true),
            case(status(409, "Conflict", "the object has been modified"), "retry", false),
            case(status(409, "AlreadyExists", ""), "refused", false),
            case(conflict, "refused", false),
            case(status(401, "Unauthorized", ""), "reauthorize", false),
            case(status(403, "Forbidden", ""), "refused", false),
            case(status(404, "NotFound", ""), "refused", false),
            case(status(410, "Expired", ""), "refused", false),
            case(silent(false), "retry", true),
            case(silent(true), "refused", true),
            case(Fault::Unasked(Box::new(Error::refused("x"))), "refused", false),
        ];
        for Case { fault, follows, may_have_written } in cases {
            let said = match classify_fault::<()>(&fault, "read x", &caller()) {
                Attempt::Done(()) => "done".into(),
                Attempt::Retry { after: None, .. } => "retry".into(),
                Attempt::Retry { after: Some(after), .. } => {
                    format!("retry after {} s", after.as_secs())
                }
                Attempt::Reauthorize { .. } => "reauthorize".to_string(),
                Attempt::Refused(_) => "refused".into(),
            };
            assert_eq!(said, follows, "{fault:?}");
            assert_eq!(fault.may_have_written(), may_have_written, "{fault:?}");
        }
    }

    #[test]
    fn a_look_that_met_what_passes_says_nothing() {
        let silent = |timed_out| Fault::Unreachable { timed_out, why: String::new() };
        let cases = [
            (Some(status(503, "ServiceUnavailable", "")), Kind::Unexpected),
            (Some(status(429, "TooManyRequests", "")), Kind::Unexpected),
            (Some(status(401, "Unauthorized", "")), Kind::Unexpected),
            (Some(silent(true)), Kind::Unexpected),
            (Some(silent(false)), Kind::Unexpected),
            (Some(status(403, "Forbidden", "")), Kind::Refused),
            (None, Kind::TimedOut),
        ];
        for (fault, kind) in cases {
            let error = match &fault {
                Some(fault) => explain(fault, "read x", &caller()),
                None => Error::new(Kind::TimedOut, "x"),
            };
            let failure = Failure { error, fault: fault.clone(), may_have_written: false };
            assert_eq!(failure.into_blindness().kind, kind, "{fault:?}");
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
            retry_after: None,
        };
        let failure = Fault::Refused(refusal);
        let conflicts = failure.conflicts();
        assert_eq!(
            conflicts,
            [
                ("kube-controller-manager".to_string(), ".spec.replicas".to_string()),
                ("kubectl-client-side-apply".to_string(), ".spec.template".to_string())
            ]
        );
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
