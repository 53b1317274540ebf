//! The API server, over HTTP. The only file that calls kube; what leaves it is JSON and
//! [`Failure`].
//!
//! Requests are built here rather than by kube's typed API: objects of any kind go through
//! untouched, each request carries a token that is fresh, and timeouts and retries are bounded by
//! us.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use kube::client::Body;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::auth::{Cluster, Minter};
use super::object::{Key, Object, list, text};
use super::refusal::{Failure, Refusal};
use super::render::MANAGER;
use crate::error::{Error, Result, chain};

const CONNECT: Duration = Duration::from_secs(5);
const READ: Duration = Duration::from_secs(20);
/// All of one request, bodies included.
const REQUEST: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(150);
/// The most of a log that is read.
const LOG_BYTES: u32 = 64 * 1024;

/// What stays as it is in a path: what names are made of.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');
/// The same in a path of several segments.
const PATH: &AsciiSet = &SEGMENT.remove(b'/');

/// How an apply is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apply<'a> {
    /// The API server validates and answers as if, and writes nothing.
    pub dry_run: bool,
    /// Takes fields over from other managers.
    pub force: bool,
    pub manager: &'a str,
}

/// Where the objects of a kind are: `deployments`, in namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Resource {
    plural: String,
    namespaced: bool,
}

pub struct Api {
    client: kube::Client,
    minter: Minter,
    namespace: String,
    /// Kinds that were looked up at the API server, by apiVersion and kind.
    found: RefCell<HashMap<(String, String), Resource>>,
}

struct ApiRequest<'a> {
    method: http::Method,
    path: &'a str,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Api {
    /// A client of `cluster`; nothing is asked yet.
    ///
    /// # Errors
    /// Bad input when the endpoint, the CA or the proxy is none.
    pub fn new(cluster: &Cluster, minter: Minter, namespace: &str) -> Result<Api> {
        let uri = |text: &str, key: &str| {
            text.parse::<http::Uri>().map_err(|error| {
                Error::input(format!("`{text}` is not a URL"))
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
        let client = kube::Client::try_from(config).map_err(|error| {
            Error::input("no client can be made for the API server")
                .why(chain(&error))
                .fix("correct `eks: {endpoint, ca, proxy}` in platform.yaml")
        })?;
        Ok(Api { client, minter, namespace: namespace.to_string(), found: RefCell::default() })
    }

    /// One object, or none.
    pub async fn get(&self, key: &Key) -> Result<Option<Value>, Failure> {
        let path = self.path(key).await?;
        match self.json(http::Method::GET, &path).await {
            Ok(value) => Ok(Some(value)),
            Err(failure) if failure.code() == Some(404) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The objects of a kind in our namespace. `query`: `labelSelector=…`, already encoded.
    pub async fn list(
        &self,
        api_version: &str,
        kind: &str,
        query: &str,
    ) -> Result<Vec<Value>, Failure> {
        let collection = self.collection(&Key::new(api_version, kind, &self.namespace, "")).await?;
        let answer = self.json(http::Method::GET, &format!("{collection}?{query}")).await?;
        Ok(list(&answer, "/items").to_vec())
    }

    /// Server-side apply with strict field validation; gives the object as it is then.
    /// <https://kubernetes.io/docs/reference/using-api/server-side-apply/>
    pub async fn apply(&self, object: &Object, how: Apply<'_>) -> Result<Value, Failure> {
        let path = self.path(&object.key()).await?;
        let (dry_run, force) = (if how.dry_run { "&dryRun=All" } else { "" }, how.force);
        let path = format!(
            "{path}?fieldManager={}&fieldValidation=Strict&force={force}{dry_run}",
            how.manager
        );
        // Every JSON text is a YAML text.
        let body = object.value().to_string().into_bytes();
        let request = ApiRequest {
            method: http::Method::PATCH,
            path: &path,
            content_type: "application/apply-patch+yaml",
            body,
        };
        parse(&self.send(&request).await?)
    }

    /// Replaces the object as it is now by `object`, whole.
    pub async fn replace(&self, object: &Object) -> Result<Value, Failure> {
        let path = self.path(&object.key()).await?;
        let live = self.json(http::Method::GET, &path).await?;
        let mut value = object.value().clone();
        value["metadata"]["resourceVersion"] = text(&live, "/metadata/resourceVersion").into();
        let path = format!("{path}?fieldManager={MANAGER}-undo");
        let body = value.to_string().into_bytes();
        parse(
            &self
                .send(&ApiRequest {
                    method: http::Method::PUT,
                    path: &path,
                    content_type: "application/json",
                    body,
                })
                .await?,
        )
    }

    /// Deletes exactly the object with `uid`. One that is gone, or is another by now, is left
    /// alone.
    pub async fn delete(&self, key: &Key, uid: &str) -> Result<(), Failure> {
        let path = self.path(key).await?;
        let body = serde_json::json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}, "propagationPolicy": "Background"});
        let request = ApiRequest {
            method: http::Method::DELETE,
            path: &path,
            content_type: "application/json",
            body: body.to_string().into_bytes(),
        };
        match self.send(&request).await {
            Ok(_) => Ok(()),
            Err(failure) if matches!(failure.code(), Some(404 | 409)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Whether the object exists. Only its metadata travels: for Secrets, whose values are none of
    /// our business.
    pub async fn exists(&self, key: &Key) -> Result<bool, Failure> {
        let path = self.path(key).await?;
        let request = ApiRequest {
            method: http::Method::GET,
            path: &path,
            content_type: "metadata",
            body: Vec::new(),
        };
        match self.send(&request).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.code() == Some(404) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// The last lines that a container wrote; `previous`: before its last restart.
    pub async fn log(
        &self,
        pod: &str,
        container: &str,
        previous: bool,
        lines: usize,
    ) -> Result<Vec<String>, Failure> {
        let path = self.path(&Key::new("v1", "Pod", &self.namespace, pod)).await?;
        let path = format!(
            "{path}/log?container={container}&previous={previous}&tailLines={lines}&limitBytes={LOG_BYTES}"
        );
        let text = self.send(&get(&path)).await?;
        Ok(text.lines().map(str::to_string).collect())
    }

    /// Asks the service itself for `path`, through the API server; gives the status it answered
    /// with.
    /// <https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/#manually-constructing-apiserver-proxy-urls>
    pub async fn ask_service(&self, service: &str, port: u16, path: &str) -> Result<u16, Failure> {
        let path = service_path(&self.namespace, service, port, path);
        // Not `send`: a service's own 3xx, 4xx and 5xx are answers here.
        let answer = self.raw(&get(&path)).await?;
        let status = answer.status();
        if status.is_success() || status.is_redirection() {
            return Ok(status.as_u16());
        }
        match self.once(&get(&path)).await {
            // What the API server itself says is a Status; what the service says is not.
            Err(Failure::Refused(refusal)) if refusal.reason == NOT_A_STATUS => Ok(refusal.code),
            Err(failure) => Err(failure),
            Ok(_) => Ok(200),
        }
    }

    async fn json(&self, method: http::Method, path: &str) -> Result<Value, Failure> {
        parse(&self.send(&ApiRequest { method, ..get(path) }).await?)
    }

    async fn path(&self, key: &Key) -> Result<String, Failure> {
        Ok(format!("{}/{}", self.collection(key).await?, utf8_percent_encode(&key.name, SEGMENT)))
    }

    async fn collection(&self, key: &Key) -> Result<String, Failure> {
        let resource = self.resource(&key.api_version, &key.kind).await?;
        let root = group_path(&key.api_version);
        Ok(if resource.namespaced {
            let namespace = key.namespace.as_deref().unwrap_or(&self.namespace);
            format!(
                "{root}/namespaces/{}/{}",
                utf8_percent_encode(namespace, SEGMENT),
                resource.plural
            )
        } else {
            format!("{root}/{}", resource.plural)
        })
    }

    /// Whether objects of this kind live in namespaces.
    pub async fn is_namespaced(&self, object: &Object) -> Result<bool, Failure> {
        let key = object.key();
        Ok(self.resource(&key.api_version, &key.kind).await?.namespaced)
    }

    async fn resource(&self, api_version: &str, kind: &str) -> Result<Resource, Failure> {
        if let Some(resource) = well_known(api_version, kind) {
            return Ok(resource);
        }
        let key = (api_version.to_string(), kind.to_string());
        if let Some(resource) = self.found.borrow().get(&key) {
            return Ok(resource.clone());
        }
        let unknown = || {
            let error = Error::refused(format!("the cluster knows no {kind} of {api_version}")).fix(
                "install its CustomResourceDefinition first, in a deploy before this one, or correct the manifest",
            );
            Failure::Unasked(Box::new(error))
        };
        let answer = match self.json(http::Method::GET, &group_path(api_version)).await {
            Err(failure) if failure.code() == Some(404) => return Err(unknown()),
            answer => answer?,
        };
        let resources = list(&answer, "/resources");
        let found = resources
            .iter()
            .find(|found| text(found, "/kind") == kind && !text(found, "/name").contains('/'));
        let found = found.ok_or_else(unknown)?;
        let namespaced = found.get("namespaced").and_then(Value::as_bool).unwrap_or(true);
        let resource = Resource { plural: text(found, "/name").to_string(), namespaced };
        self.found.borrow_mut().insert(key, resource.clone());
        Ok(resource)
    }

    /// One request, asked again a bounded number of times where that may help. Every request here
    /// can be repeated: applying twice, or deleting one uid twice, is applying and deleting once.
    async fn send(&self, request: &ApiRequest<'_>) -> Result<String, Failure> {
        let mut pause = FIRST_PAUSE;
        let mut renewed = false;
        let mut attempt = 1;
        loop {
            let failure = match self.once(request).await {
                Ok(text) => return Ok(text),
                Err(failure) => failure,
            };
            if failure.code() == Some(401) && !renewed {
                // The credentials behind the token may have ended before the token did.
                renewed = true;
                self.minter.forget();
                continue;
            }
            if attempt == ATTEMPTS || !failure.is_passing() {
                return Err(failure);
            }
            attempt += 1;
            tokio::time::sleep(pause).await;
            pause *= 3;
        }
    }

    async fn once(&self, request: &ApiRequest<'_>) -> Result<String, Failure> {
        let request = self.build(request).await?;
        match tokio::time::timeout(REQUEST, self.client.request_text(request)).await {
            Ok(Ok(text)) => Ok(text),
            // A container may log anything.
            Ok(Err(kube::Error::FromUtf8(error))) => {
                Ok(String::from_utf8_lossy(error.as_bytes()).into_owned())
            }
            Ok(Err(error)) => Err(failure(&error)),
            Err(_) => Err(Failure::Unreachable { timed_out: true, why: too_long() }),
        }
    }

    async fn raw(&self, request: &ApiRequest<'_>) -> Result<http::Response<Body>, Failure> {
        let request = self.build(request).await?.map(Body::from);
        match tokio::time::timeout(REQUEST, self.client.send(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failure(&error)),
            Err(_) => Err(Failure::Unreachable { timed_out: true, why: too_long() }),
        }
    }

    async fn build(&self, request: &ApiRequest<'_>) -> Result<http::Request<Vec<u8>>, Failure> {
        let unasked = |error: Error| Failure::Unasked(Box::new(error));
        let token = self.minter.token().await.map_err(unasked)?;
        let mut bearer = http::HeaderValue::from_str(&token.bearer())
            .map_err(|_| unasked(Error::unexpected("the cluster's token is no header value")))?;
        bearer.set_sensitive(true);
        let mut builder = http::Request::builder()
            .method(&request.method)
            .uri(request.path)
            .header("authorization", bearer);
        builder = match request.content_type {
            "metadata" => builder
                .header("accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"),
            "" => builder.header("accept", "application/json, */*"),
            content_type => {
                builder.header("accept", "application/json").header("content-type", content_type)
            }
        };
        builder.body(request.body.clone()).map_err(|error| {
            unasked(
                Error::unexpected(format!("building the request for {}", request.path)).why(error),
            )
        })
    }
}

fn get(path: &str) -> ApiRequest<'_> {
    ApiRequest { method: http::Method::GET, path, content_type: "", body: Vec::new() }
}

fn too_long() -> String {
    format!("no answer within {} s", REQUEST.as_secs())
}

/// The path under which the API server hands a request on to a service.
pub fn service_path(namespace: &str, service: &str, port: u16, path: &str) -> String {
    format!(
        "/api/v1/namespaces/{namespace}/services/{service}:{port}/proxy{}",
        utf8_percent_encode(path, PATH)
    )
}

/// `how` for what a deploy writes.
pub fn as_ours(dry_run: bool, force: bool) -> Apply<'static> {
    Apply { dry_run, force, manager: MANAGER }
}

fn parse(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::Unreachable {
        timed_out: false,
        why: format!("the answer is not JSON: {error}"),
    })
}

/// What kube calls the reason when an answer is not the API server's own.
const NOT_A_STATUS: &str = "Failed to parse error data";

fn failure(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => {
            let causes = status.details.iter().flat_map(|details| &details.causes);
            Failure::Refused(Refusal {
                code: status.code,
                reason: status.reason.clone(),
                message: status.message.clone(),
                causes: causes.map(|cause| (cause.field.clone(), cause.message.clone())).collect(),
            })
        }
        other => {
            let why = chain(other);
            let timed_out =
                ["timed out", "deadline", "timeout"].iter().any(|words| why.contains(words));
            Failure::Unreachable { timed_out, why }
        }
    }
}

/// PEM → the certificates in it, as kube wants them.
fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>> {
    use base64::Engine;
    let wrong = |why: &str| {
        Error::input("the cluster's CA is not a PEM certificate")
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

/// `/api/v1`, `/apis/apps/v1`.
fn group_path(api_version: &str) -> String {
    if api_version.contains('/') {
        format!("/apis/{api_version}")
    } else {
        format!("/api/{api_version}")
    }
}

/// Kinds of Kubernetes itself, which need no look-up.
fn well_known(api_version: &str, kind: &str) -> Option<Resource> {
    let plural = match (api_version, kind) {
        ("v1", "ConfigMap") => "configmaps",
        ("v1", "Event") => "events",
        ("v1", "Namespace") => "namespaces",
        ("v1", "Pod") => "pods",
        ("v1", "Secret") => "secrets",
        ("v1", "Service") => "services",
        ("v1", "ServiceAccount") => "serviceaccounts",
        ("apps/v1", "Deployment") => "deployments",
        ("apps/v1", "ReplicaSet") => "replicasets",
        ("autoscaling/v2", "HorizontalPodAutoscaler") => "horizontalpodautoscalers",
        ("networking.k8s.io/v1", "Ingress") => "ingresses",
        _ => return None,
    };
    Some(Resource { plural: plural.into(), namespaced: kind != "Namespace" })
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
    fn paths_are_those_of_the_api() {
        assert_eq!(group_path("v1"), "/api/v1");
        assert_eq!(group_path("apps/v1"), "/apis/apps/v1");
        assert_eq!(
            service_path("staging", "patients", 8000, "/healthz/a b"),
            "/api/v1/namespaces/staging/services/patients:8000/proxy/healthz/a%20b"
        );
    }

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
