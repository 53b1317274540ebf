//! The API server, through kube. The only file that sends to it; what leaves it is typed, or kube's
//! dynamic object, and [`Failure`].
//!
//! A service below kube's client gives each request its token, so that typed, dynamic and discovery
//! requests carry it alike. [`retry::run`] sends again, within our own bounds.

mod feed;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event, Namespace, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams,
    PostParams, Preconditions, ValidationDirective,
};
use kube::client::Body;
use kube::core::response::Status;
use kube::core::{GroupVersion, Resource};
use kube::discovery::{self, Scope};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tower::BoxError;

pub use self::feed::Feed;
use super::auth::{Cluster, Minter};
use super::managers::UNDO;
use super::object::{Key, Object, PROGRAM};
use super::refusal::{Caller, Failure, Fault, Refusal, classify_fault, explain};
use crate::deploy::target::Permit;
use crate::error::{Error, Result, chain};
use crate::report::Report;
use crate::retry::policy::read_retry_after;
use crate::retry::{self, Attempt, RetryPolicy};

const CONNECT: Duration = Duration::from_secs(5);
const READ: Duration = Duration::from_secs(20);
/// The longest silence of a watch: longer than it lasts, so that only a lost connection is as still.
const SILENCE: Duration = Duration::from_secs(75);
/// All of one request, bodies included.
const REQUEST: Duration = Duration::from_secs(30);
const RETRIES: RetryPolicy =
    RetryPolicy { first_pause: Duration::from_millis(200), ..RetryPolicy::DEFAULT };
/// The most of a log that is read.
const LOG_BYTES: i64 = 64 * 1024;

/// What stays as it is in a path of several segments: what names are made of.
const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'/');

/// How an apply is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apply<'a> {
    /// The API server validates and answers as if, and writes nothing.
    pub dry_run: bool,
    /// Takes fields over from other managers.
    pub force: bool,
    pub manager: &'a str,
}

pub struct Api {
    client: kube::Client,
    /// The client of watches, which may be silent for longer.
    watcher: kube::Client,
    minter: Arc<Minter>,
    caller: Caller,
    report: Report,
    /// Kinds that were looked up at the API server, by apiVersion and kind.
    found: RefCell<HashMap<(String, String), (ApiResource, Scope)>>,
}

impl Api {
    /// A client of `cluster`; nothing is asked yet.
    ///
    /// # Errors
    /// Bad input when the endpoint, the CA or the proxy is none.
    pub fn new(cluster: &Cluster, minter: Minter, caller: Caller, report: &Report) -> Result<Api> {
        let uri = |text: &str, key: &str| {
            text.parse::<http::Uri>().map_err(|error| {
                Error::input(format!("cannot use `{text}` as a URL"))
                    .why(error)
                    .fix(format!("correct `eks.{key}` in platform.yaml"))
            })
        };
        let mut config = kube::Config::new(uri(&cluster.endpoint, "endpoint")?);
        config.root_cert = Some(certificates(&cluster.ca)?);
        config.tls_server_name = cluster.server_name.clone();
        config.proxy_url = cluster.proxy.as_deref().map(|proxy| uri(proxy, "proxy")).transpose()?;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(READ);
        config.reset_reader_on_write = true;
        config.write_timeout = Some(READ);
        config.default_retry = false;
        let minter = Arc::new(minter);
        let connect = |config| {
            let client = kube::Client::try_from(config).map_err(|error| {
                Error::input("cannot make a client of the API server")
                    .why(chain(&error))
                    .fix("correct `eks: {endpoint, ca, proxy}` in platform.yaml")
            });
            client.map(|client| authorize(client, &minter, report, &caller.namespace))
        };
        let client = connect(config.clone())?;
        config.read_timeout = Some(SILENCE);
        let watcher = connect(config)?;
        let (report, found) = (report.clone(), RefCell::default());
        Ok(Api { client, watcher, minter, caller, report, found })
    }

    /// One object, or none.
    pub async fn get(&self, key: &Key) -> Result<Option<DynamicObject>, Failure> {
        let objects = match self.objects(key, None).await {
            // There is none of a kind that is not there.
            Err(failure) if failure.code() == Some(404) => return Ok(None),
            objects => objects?,
        };
        let attempt = format!("read {}", key.id());
        self.send(&attempt, None, async || objects.get_opt(&key.name).await).await
    }

    /// The objects of a kind in a namespace.
    pub async fn list<K>(&self, namespace: &str, which: &ListParams) -> Result<Vec<K>, Failure>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        K: Clone + DeserializeOwned + Debug,
    {
        let objects = kube::Api::<K>::namespaced(self.client.clone(), namespace);
        let attempt = format!("list {}", K::plural(&()));
        Ok(self.send(&attempt, None, async || objects.list(which).await).await?.items)
    }

    /// The namespaces of the cluster with these labels.
    pub async fn list_namespaces(&self, labels: &str) -> Result<Vec<Namespace>, Failure> {
        let objects = kube::Api::<Namespace>::all(self.client.clone());
        let which = ListParams::default().labels(labels);
        let found = self.send("list namespaces", None, async || objects.list(&which).await);
        Ok(found.await?.items)
    }

    /// Server-side apply with strict field validation; gives the object as it is then.
    /// <https://kubernetes.io/docs/reference/using-api/server-side-apply/>
    pub async fn apply(
        &self,
        object: &Object,
        how: Apply<'_>,
        permit: Option<Permit<'_>>,
    ) -> Result<DynamicObject, Failure> {
        let objects = self.objects(&object.key(), permit).await?;
        let attempt = format!("{} {}", if how.dry_run { "check" } else { "apply" }, object.id());
        let how = PatchParams {
            dry_run: how.dry_run,
            force: how.force,
            field_manager: Some(how.manager.to_string()),
            field_validation: Some(ValidationDirective::Strict),
        };
        let patch = Patch::Apply(object.value());
        self.send(&attempt, permit, async || objects.patch(object.name(), &how, &patch).await).await
    }

    /// Replaces the object as it is now by `object`, whole.
    pub async fn replace(
        &self,
        object: &Object,
        permit: Option<Permit<'_>>,
    ) -> Result<DynamicObject, Failure> {
        let objects = self.objects(&object.key(), permit).await?;
        let how = PostParams { dry_run: false, field_manager: Some(UNDO.into()) };
        self.send(&format!("restore {}", object.id()), permit, async || {
            let live = objects.get(object.name()).await?;
            let mut wanted: DynamicObject =
                serde_json::from_value(object.value().clone()).map_err(kube::Error::SerdeError)?;
            wanted.metadata.resource_version = live.metadata.resource_version;
            objects.replace(object.name(), &how, &wanted).await
        })
        .await
    }

    /// What the API server makes of a live object that is replaced by `wanted`, its defaults
    /// included. Nothing is written.
    pub async fn try_replacement(
        &self,
        wanted: &DynamicObject,
        key: &Key,
    ) -> Result<DynamicObject, Failure> {
        let objects = self.objects(key, None).await?;
        let how = PostParams { dry_run: true, field_manager: Some(UNDO.into()) };
        let attempt = format!("check {}", key.id());
        self.send(&attempt, None, async || objects.replace(&key.name, &how, wanted).await).await
    }

    /// Says who manages the fields of an object, as long as it has this version. Nothing else of it
    /// changes.
    pub async fn set_managers(
        &self,
        key: &Key,
        version: Option<&str>,
        entries: &[ManagedFieldsEntry],
        permit: Permit<'_>,
    ) -> Result<(), Failure> {
        let objects = self.objects(key, Some(permit)).await?;
        let metadata = json!({"resourceVersion": version, "managedFields": entries});
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let how = PatchParams { field_manager: Some(PROGRAM.into()), ..PatchParams::default() };
        let attempt = format!("take over {}", key.id());
        let set = self.send(&attempt, Some(permit), async || {
            objects.patch_metadata(&key.name, &how, &patch).await
        });
        set.await.map(drop)
    }

    /// Whether the API server would make this pod. Nothing is made.
    pub async fn try_pod(&self, namespace: &str, pod: &Pod) -> Result<(), Failure> {
        let pods = kube::Api::<Pod>::namespaced(self.client.clone(), namespace);
        let how = PostParams { dry_run: true, field_manager: Some(PROGRAM.into()) };
        let made = self.send("try a pod", None, async || pods.create(&how, pod).await);
        made.await.map(drop)
    }

    /// Whether this program may do that.
    /// <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access>
    pub async fn may(&self, what: &ResourceAttributes) -> Result<bool, Failure> {
        let reviews = kube::Api::<SelfSubjectAccessReview>::all(self.client.clone());
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(what.clone()),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let asked = self.send("ask for permissions", None, async || {
            reviews.create(&PostParams::default(), &review).await
        });
        Ok(asked.await?.status.is_none_or(|status| status.allowed))
    }

    /// How the API server calls a kind in permissions: its group and its name in the plural.
    pub async fn find_names(&self, key: &Key) -> Result<(String, String), Failure> {
        let (resource, _) = self.find_resource(key, None).await?;
        Ok((resource.group, resource.plural))
    }

    /// Deletes exactly the object with `uid`. One that is gone, or is another by now, is left
    /// alone.
    pub async fn delete(
        &self,
        key: &Key,
        uid: &str,
        permit: Option<Permit<'_>>,
    ) -> Result<(), Failure> {
        let objects = self.objects(key, permit).await?;
        let exactly = Preconditions { uid: Some(uid.to_string()), resource_version: None };
        let how = DeleteParams::background().preconditions(exactly);
        let attempt = format!("delete {}", key.id());
        let deleted =
            self.send(&attempt, permit, async || objects.delete(&key.name, &how).await).await;
        match deleted {
            Ok(_) => Ok(()),
            Err(failure) if matches!(failure.code(), Some(404 | 409)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// The version of an object, if it is there. Only its metadata travels.
    pub async fn find_version(&self, key: &Key) -> Result<Option<String>, Failure> {
        let objects = self.objects(key, None).await?;
        let attempt = format!("find {}", key.id());
        let found = self.send(&attempt, None, async || objects.get_metadata_opt(&key.name).await);
        Ok(found.await?.map(|found| found.metadata.resource_version.unwrap_or_default()))
    }

    /// The names of a Secret's keys, if it is there. Its values are dropped as they are read.
    pub async fn list_secret_keys(&self, key: &Key) -> Result<Option<Vec<String>>, Failure> {
        let found = self.get(key).await?;
        let data =
            |found: DynamicObject| found.data.get("data").and_then(Value::as_object).cloned();
        Ok(found.map(|found| {
            data(found).map(|data| data.keys().cloned().collect()).unwrap_or_default()
        }))
    }

    /// The last lines that a container wrote; `previous`: before its last restart.
    pub async fn log(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        previous: bool,
        lines: i64,
    ) -> Result<Vec<String>, Failure> {
        let pods = kube::Api::<Pod>::namespaced(self.client.clone(), namespace);
        let which = LogParams {
            container: Some(container.to_string()),
            previous,
            tail_lines: Some(lines),
            limit_bytes: Some(LOG_BYTES),
            ..LogParams::default()
        };
        let attempt = format!("read the log of {pod}");
        let text = self.send(&attempt, None, async || {
            match pods.logs(pod, &which).await {
                // A container may log anything.
                Err(kube::Error::FromUtf8(error)) => {
                    Ok(String::from_utf8_lossy(error.as_bytes()).into_owned())
                }
                answer => answer,
            }
        });
        Ok(text.await?.lines().map(str::to_string).collect())
    }

    /// What a pod's container logged since then, each line with its time before it.
    pub async fn log_since(
        &self,
        namespace: &str,
        pod: &str,
        since: Option<Timestamp>,
    ) -> Result<Vec<String>, Failure> {
        let pods = kube::Api::<Pod>::namespaced(self.client.clone(), namespace);
        let which = LogParams {
            since_time: since,
            timestamps: true,
            limit_bytes: Some(LOG_BYTES),
            ..LogParams::default()
        };
        let read = send_once(async || pods.logs(pod, &which).await).await;
        let text = read.map_err(|fault| Failure {
            error: explain(&fault, &format!("read the log of {pod}"), &self.caller),
            fault: Some(fault),
            may_have_written: false,
        })?;
        Ok(text.lines().map(str::to_string).collect())
    }

    /// Asks the service itself for `path`, through the API server, once; gives the status it
    /// answered with.
    /// <https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/#manually-constructing-apiserver-proxy-urls>
    pub async fn ask_service(&self, service: &str, port: u16, path: &str) -> Result<u16, Failure> {
        let path = self.service_path(service, port, path);
        let asked = send_once(async || {
            let request =
                http::Request::get(&path).body(Body::empty()).map_err(kube::Error::HttpError)?;
            let answer = self.client.send(request).await?;
            let status = answer.status();
            if status.is_success() || status.is_redirection() {
                return Ok(status.as_u16());
            }
            let body = answer.into_body().collect().await?.to_bytes();
            match serde_json::from_slice::<Status>(&body) {
                // What the API server itself says is a Status; what the service says is not.
                Ok(refusal) if refusal.code == status.as_u16() => {
                    Err(kube::Error::Api(refusal.boxed()))
                }
                _ => Ok(status.as_u16()),
            }
        });
        asked.await.map_err(|fault| Failure {
            error: explain(&fault, "ask it", &self.caller),
            fault: Some(fault),
            may_have_written: false,
        })
    }

    /// The path under which the API server hands a request on to a service.
    pub fn service_path(&self, service: &str, port: u16, path: &str) -> String {
        let services =
            kube::Api::<Service>::namespaced(self.client.clone(), &self.caller.namespace);
        let path = utf8_percent_encode(path, PATH);
        format!("{}/{service}:{port}/proxy{path}", services.resource_url())
    }

    /// Whether objects of this kind live in namespaces.
    pub async fn is_namespaced(&self, object: &Object) -> Result<bool, Failure> {
        let key = object.key();
        Ok(self.find_resource(&key, None).await?.1 == Scope::Namespaced)
    }

    /// The objects of a key's kind, where the key is.
    async fn objects(
        &self,
        key: &Key,
        permit: Option<Permit<'_>>,
    ) -> Result<kube::Api<DynamicObject>, Failure> {
        let (resource, scope) = self.find_resource(key, permit).await?;
        let namespace = key.namespace.as_deref().unwrap_or(&self.caller.namespace);
        Ok(kube::Api::dynamic(self.client.clone(), &resource, &scope).constrain(namespace))
    }

    /// How the API server calls a kind; a failure with code 404 if it knows none. Only its own group is asked: another one that is down does
    /// not matter.
    async fn find_resource(
        &self,
        key: &Key,
        permit: Option<Permit<'_>>,
    ) -> Result<(ApiResource, Scope), Failure> {
        let (api_version, kind) = (key.api_version.as_str(), key.kind.as_str());
        if let Some(resource) = known_resource(api_version, kind) {
            return Ok(resource);
        }
        let at = (api_version.to_string(), kind.to_string());
        if let Some(found) = self.found.borrow().get(&at) {
            return Ok(found.clone());
        }
        let group: GroupVersion = api_version.parse().map_err(|error| {
            Failure::unasked(
                Error::input(format!("cannot use `{api_version}` as an apiVersion"))
                    .why(error)
                    .fix("write GROUP/VERSION, or v1"),
            )
        })?;
        let wanted = group.with_kind(kind);
        let attempt = format!("find the kind {kind} of {api_version}");
        let found = self.send(&attempt, permit, async || {
            match discovery::pinned_kind(&self.client, &wanted).await {
                Ok((resource, capabilities)) => Ok(Some((resource, capabilities.scope))),
                Err(kube::Error::Discovery(_)) => Ok(None),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                Err(error) => Err(error),
            }
        });
        let found = found.await?.ok_or_else(|| Failure::unknown_kind(api_version, kind))?;
        self.found.borrow_mut().insert(at, found.clone());
        Ok(found)
    }

    /// Sends until it is answered, the retries are over or the `permit` ends. Every request
    /// here can be repeated: applying twice, or deleting one uid twice, is applying and deleting
    /// once.
    async fn send<T>(
        &self,
        attempt: &str,
        permit: Option<Permit<'_>>,
        call: impl AsyncFn() -> kube::Result<T>,
    ) -> Result<T, Failure> {
        let (mut last, mut may_have_written) = (None, false);
        let deadline = permit.map(|permit| permit.deadline());
        let answer = retry::run(&RETRIES, deadline, &self.report, async |this| {
            // A retry may come when the lock is another's.
            if let Some(permit) = permit
                && let Err(error) = permit.check().await
            {
                return Attempt::Refused(error);
            }
            if this.renew {
                self.minter.forget();
            }
            // An attempt that the deadline drops is not heard of again.
            let before = std::mem::replace(&mut may_have_written, true);
            let answer = send_once(&call).await;
            may_have_written = before;
            match answer {
                Ok(answer) => Attempt::Done(answer),
                Err(fault) => {
                    may_have_written |= fault.may_have_written();
                    let attempt = classify_fault(&fault, attempt, &self.caller);
                    last = Some(fault);
                    attempt
                }
            }
        })
        .await;
        answer.map_err(|error| Failure { error, fault: last, may_have_written })
    }
}

async fn send_once<T>(call: impl AsyncFn() -> kube::Result<T>) -> Result<T, Fault> {
    match tokio::time::timeout(REQUEST, call()).await {
        Ok(answer) => answer.map_err(|error| read_fault(&error)),
        Err(_) => {
            let why = format!("no answer within {} s", REQUEST.as_secs());
            Err(Fault::Unreachable { timed_out: true, why })
        }
    }
}

/// Kube's own client below a service that gives each request its token, reports what the API server
/// warns of, and keeps the pause that a busy one asks for, which kube would drop.
fn authorize(
    client: kube::Client,
    minter: &Arc<Minter>,
    report: &Report,
    namespace: &str,
) -> kube::Client {
    let (minter, report) = (minter.clone(), report.clone());
    let service = tower::service_fn(move |mut request: http::Request<Body>| {
        let (client, minter, report) = (client.clone(), minter.clone(), report.clone());
        async move {
            let unasked = |error| Fault::Unasked(Box::new(error));
            let token = minter.token().await.map_err(unasked)?;
            let mut bearer = http::HeaderValue::from_str(&token.bearer())?;
            bearer.set_sensitive(true);
            request.headers_mut().insert(http::header::AUTHORIZATION, bearer);
            let uri = request.uri().to_string();
            let answer = client.send(request).await?;
            // Each write is tried without being done first: so each warning is said once.
            if uri.contains("dryRun=All") {
                for warning in answer.headers().get_all(http::header::WARNING) {
                    report.warn(read_warning(warning.to_str().unwrap_or_default()));
                }
            }
            let is_of_the_service = uri.contains("/proxy/");
            match asked_pause(&answer).filter(|_| !is_of_the_service) {
                Some(pause) => Err(BoxError::from(read_busy(answer, pause).await?)),
                None => Ok(answer),
            }
        }
    });
    kube::Client::new(service, namespace)
}

/// `299 - "text"` → text.
/// <https://www.rfc-editor.org/rfc/rfc7234#section-5.5>
fn read_warning(header: &str) -> String {
    let text = header.splitn(3, ' ').nth(2).unwrap_or(header);
    format!("the API server warns: {}", text.trim_matches('"').replace("\\\"", "\""))
}

fn asked_pause(answer: &http::Response<Body>) -> Option<Duration> {
    if !matches!(answer.status().as_u16(), 429 | 503) {
        return None;
    }
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    read_retry_after(header(http::header::RETRY_AFTER), header(http::header::DATE))
}

async fn read_busy(answer: http::Response<Body>, pause: Duration) -> kube::Result<Fault> {
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await?.to_bytes();
    let status: Status = serde_json::from_slice(&body).unwrap_or_default();
    let message = match status.message.is_empty() {
        true => String::from_utf8_lossy(&body).trim().to_string(),
        false => status.message,
    };
    let (reason, retry_after) = (status.reason, Some(pause));
    Ok(Fault::Refused(Refusal { code, reason, message, causes: Vec::new(), retry_after }))
}

/// Applies for good.
pub fn for_good(manager: &str, force: bool) -> Apply<'_> {
    Apply { dry_run: false, force, manager }
}

/// Applies as if.
pub fn as_if(manager: &str, force: bool) -> Apply<'_> {
    Apply { dry_run: true, force, manager }
}

fn read_fault(error: &kube::Error) -> Fault {
    if let kube::Error::Service(inner) = error
        && let Some(fault) = inner.downcast_ref::<Fault>()
    {
        return fault.clone();
    }
    let kube::Error::Api(status) = error else {
        let why = chain(error);
        let timed_out =
            ["timed out", "deadline", "timeout"].iter().any(|words| why.contains(words));
        return Fault::Unreachable { timed_out, why };
    };
    let details = status.details.as_ref();
    let causes = details.iter().flat_map(|details| &details.causes);
    let pause = details.map(|details| details.retry_after_seconds).filter(|pause| *pause > 0);
    Fault::Refused(Refusal {
        code: status.code,
        reason: status.reason.clone(),
        message: status.message.clone(),
        causes: causes.map(|cause| (cause.field.clone(), cause.message.clone())).collect(),
        retry_after: pause.map(|seconds| Duration::from_secs(seconds.into())),
    })
}

/// PEM → the certificates in it, as kube wants them.
fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>> {
    use base64::Engine;
    let wrong = |why: &str| {
        Error::input("cannot read the cluster's CA: it is no PEM certificate")
            .why(why)
            .fix("correct `eks.ca` in platform.yaml")
    };
    let text = std::str::from_utf8(pem).map_err(|_| wrong("not text"))?;
    let mut certificates = Vec::new();
    for part in text.split("-----BEGIN CERTIFICATE-----").skip(1) {
        let (body, _) = part
            .split_once("-----END CERTIFICATE-----")
            .ok_or_else(|| wrong("no end of a certificate"))?;
        let body: String = body.split_whitespace().collect();
        let der = base64::prelude::BASE64_STANDARD.decode(body).map_err(|_| wrong("not base64"))?;
        certificates.push(der);
    }
    if certificates.is_empty() { Err(wrong("there is none in it")) } else { Ok(certificates) }
}

/// Kinds that each deploy has, which need no look-up.
fn known_resource(api_version: &str, kind: &str) -> Option<(ApiResource, Scope)> {
    let namespaced = [
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<Deployment>(&()),
        ApiResource::erase::<Event>(&()),
        ApiResource::erase::<HorizontalPodAutoscaler>(&()),
        ApiResource::erase::<Ingress>(&()),
        ApiResource::erase::<Pod>(&()),
        ApiResource::erase::<ReplicaSet>(&()),
        ApiResource::erase::<Secret>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<ServiceAccount>(&()),
    ];
    let known = namespaced.into_iter().map(|resource| (resource, Scope::Namespaced));
    let mut known = known.chain([(ApiResource::erase::<Namespace>(&()), Scope::Cluster)]);
    known.find(|(resource, _)| resource.api_version == api_version && resource.kind == kind)
}

/// Whether an object's kind is one of the cluster itself, as far as that is known without asking:
/// for `render`, which asks nobody.
pub fn is_of_the_cluster(kind: &str) -> bool {
    let suffixes = ["WebhookConfiguration", "AdmissionPolicy", "AdmissionPolicyBinding"];
    let kinds = [
        "APIService",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "IngressClass",
        "Namespace",
        "PersistentVolume",
        "PriorityClass",
        "RuntimeClass",
        "StorageClass",
    ];
    kinds.contains(&kind) || suffixes.iter().any(|suffix| kind.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_is_read_or_refused() {
        let one = "-----BEGIN CERTIFICATE-----\nAAEC\nAwQ=\n-----END CERTIFICATE-----\n";
        assert_eq!(certificates(one.as_bytes()).expect("one"), [[0, 1, 2, 3, 4]]);
        assert_eq!(certificates(format!("text\n{one}{one}").as_bytes()).expect("two").len(), 2);
        for wrong in [
            "",
            "no certificate",
            "-----BEGIN CERTIFICATE-----\nAAEC",
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----",
        ] {
            assert_eq!(
                certificates(wrong.as_bytes()).expect_err(wrong).kind,
                crate::error::Kind::Input
            );
        }
    }
}
