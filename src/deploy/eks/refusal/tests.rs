//! What is refused, and its fix, as tables.

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

fn failure(fault: Fault) -> Failure {
    let error = explain(&fault, "check x", &caller());
    Failure { error, fault: Some(fault), may_have_written: false }
}

#[test]
fn what_cannot_change_is_told_by_its_kind() {
    for (kind, message, fix) in [
        ("Job", "spec.template: Invalid value: {}: field is immutable", "another name"),
        ("ConfigMap", "data: Forbidden: field is immutable when `immutable` is set", "o-2"),
        (
            "RoleBinding",
            "roleRef: Invalid value: {}: cannot change roleRef",
            "delete rolebinding/o",
        ),
        (
            "StatefulSet",
            "spec: Forbidden: updates to statefulset spec for fields other than 'x' are forbidden",
            "kubectl -n n delete statefulset/o --cascade=orphan",
        ),
        (
            "Service",
            "spec.clusterIPs[0]: Invalid value: []: may not change once set",
            "another name",
        ),
        ("Deployment", "spec.selector: Invalid value: {}: field is immutable", "another name"),
        ("PersistentVolumeClaim", "spec is immutable after creation", "move the data"),
    ] {
        let failure = failure(status(422, "Invalid", message));
        assert!(failure.says_immutable(), "{message}");
        let error = cannot_change(&Key::new("v1", kind, "n", "o"), &failure);
        assert_eq!(error.kind, Kind::Refused);
        assert!(error.advice().contains(fix), "{kind}: {:?}", error.fixes);
    }
    let wrong = failure(status(422, "Invalid", "spec.ports: Required value"));
    assert!(!wrong.says_immutable());
}

#[test]
fn a_pod_that_is_not_admitted_is_told_from_a_deployer_that_is_not_permitted() {
    let denied = "pods is forbidden: User \"ci\" cannot create resource \"pods\" in API group \"\" in the namespace \"n\"";
    for (code, message, expected) in [
        (403, denied, None),
        (400, "admission webhook \"x\" does not support dry run", None),
        (
            403,
            "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
            Some((Code::QuotaExceeded, "raise the quota")),
        ),
        (
            403,
            "pods \"p\" is forbidden: failed quota: q: must specify limits.cpu for: p",
            Some((Code::QuotaExceeded, "LimitRange")),
        ),
        (
            403,
            "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": x",
            Some((Code::AccessDenied, "Pod Security")),
        ),
        (
            403,
            "pods \"p\" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi",
            Some((Code::AccessDenied, "`resources`")),
        ),
    ] {
        let failure = failure(status(code, "Forbidden", message));
        assert_eq!(failure.refuses_pod(), expected.is_some(), "{message}");
        if let Some((code, fix)) = expected {
            let error = not_admitted("Deployment/p", &failure);
            assert_eq!(error.code, Some(code), "{message}");
            assert!(error.advice().contains(fix), "{message}: {:?}", error.fixes);
        }
    }
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
}
