//! What the API server, or the way to it, said instead of an answer → an error with the exact fix.
//! Pure.

use std::time::Duration;

use super::managers::may_take_over;
use super::object::Key;
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

    /// Whether a field that cannot change would.
    pub fn says_immutable(&self) -> bool {
        let words = [
            "field is immutable",
            "is immutable after creation",
            "cannot change roleRef",
            "may not change once set",
            "are forbidden",
        ];
        let Some(Fault::Refused(refusal)) = &self.fault else { return false };
        refusal.code == 422 && words.iter().any(|word| refusal.message.contains(word))
    }

    /// Whether a pod is refused for what it is, and not for who asks.
    pub fn refuses_pod(&self) -> bool {
        let Some(Fault::Refused(refusal)) = &self.fault else { return false };
        refusal.code == 422 || refusal.code == 403 && Permission::asked(&refusal.message).is_none()
    }

    pub fn says_quota_is_full(&self) -> bool {
        matches!(&self.fault, Some(Fault::Refused(refusal)) if refusal.message.contains("exceeded quota"))
    }

    /// The API server's own words.
    fn words(&self) -> &str {
        match &self.fault {
            Some(Fault::Refused(refusal)) => &refusal.message,
            _ => self.error.why.as_deref().unwrap_or_default(),
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

/// The error when a field of `key` that cannot change would.
pub fn cannot_change(key: &Key, failure: &Failure) -> Error {
    let Key { kind, name, namespace, .. } = key;
    let at = namespace.as_ref().map(|name| format!("-n {name} ")).unwrap_or_default();
    let delete = format!("kubectl {at}delete {}/{name}", kind.to_lowercase());
    let fix = match kind.as_str() {
        "Job" => "give the Job another name with each change, as seed-2; or set its `ttlSecondsAfterFinished: 0`, \
                  so that it is gone by then".to_string(),
        "ConfigMap" | "Secret" => format!(
            "give it another name with each change, as {name}-2, and name that where it is used"
        ),
        "RoleBinding" | "ClusterRoleBinding" => {
            format!("delete it, and deploy again at once, which makes it anew: {delete}")
        }
        "StatefulSet" => format!(
            "delete it without its pods and volumes, which stay and are taken up again, and deploy \
             again: {delete} --cascade=orphan"
        ),
        "PersistentVolumeClaim" | "PersistentVolume" | "Namespace" | "CustomResourceDefinition" => {
            "give what is to be otherwise another name, and move the data: a deploy deletes none".into()
        }
        _ => format!(
            "give it another name: the present one goes once the new version runs; or, if nobody \
             needs it in between, delete it and deploy again: {delete}"
        ),
    };
    Error::refused(format!("cannot apply {}: a field that cannot change would", key.id()))
        .why(failure.words())
        .fix(fix)
}

/// The error when the namespace would not let pods of `object` in.
pub fn not_admitted(object: &str, failure: &Failure) -> Error {
    let words = failure.words();
    let (code, fix) = match words {
        _ if failure.says_quota_is_full() => (
            Code::QuotaExceeded,
            "raise the quota that it names, or lower `resources`: while a version takes over, one pod \
             more than before has to fit",
        ),
        words if words.contains("failed quota") => (
            Code::QuotaExceeded,
            "let a LimitRange of the namespace give containers a default for what the quota counts",
        ),
        words if words.contains("violates PodSecurity") => (
            Code::AccessDenied,
            "change what the message names, or the namespace's Pod Security Standard",
        ),
        words if words.contains("usage per") => {
            (Code::AccessDenied, "change `resources` in service.yaml to what the LimitRange allows")
        }
        _ => (
            Code::AccessDenied,
            "change what the message names, or ask who runs the cluster: its admission rules say no",
        ),
    };
    Error::refused(format!("cannot run pods of {object}: the namespace does not let them in"))
        .code(code)
        .why(words)
        .fix(fix)
}

/// The error when this program may not do what the plan needs.
pub fn not_permitted(verb: &str, resource: &str, group: &str, caller: &Caller) -> Error {
    let user = caller.principal.as_deref().unwrap_or("the role of this deploy");
    let permission = Permission { user, verb, resource, group };
    Error::refused(format!("cannot {verb} {resource}, as this deploy has to: not permitted"))
        .code(Code::AccessDenied)
        .fix(permission.fix(&caller.namespace))
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
mod tests;
