//! Deploys to Kubernetes on EKS.
//!
//! [`render`] says what a service is in Kubernetes' words; a server-side dry run says what would
//! differ; [`plan`] makes that the plan; `apply` writes it, `watch` collects what happens and
//! [`verdict`] judges it; `rollback` knows the last good state. [`auth`] is the only part that
//! calls AWS, [`api`] the only one that calls the API server.

mod api;
mod apply;
mod auth;
mod diff;
mod object;
mod plan;
mod refusal;
mod render;
mod rollback;
mod snapshot;
mod verdict;
mod watch;

use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use futures::future::{join, try_join_all};
use serde_json::Value;

use self::api::{Api, as_ours};
use self::auth::Minter;
use self::object::{Key, Object, list, number, read_manifest, text, to_yaml};
use self::plan::{EksPlan, Facts, Observed};
use self::refusal::{Caller, Failure, explain, may_take_over, no_namespace, owned_by_others};
use self::rollback::image_of;
use self::snapshot::Snapshot;
use self::verdict::Seen;
use self::watch::Memory;
use crate::aws::Session;
use crate::config::platform;
use crate::config::values::SecretRef;
use crate::deploy::{Backend, Order, Restored, Running, Verdict, storage};
use crate::error::{Error, Kind, Result};

/// Between two looks at a rollout.
const INTERVAL: Duration = Duration::from_millis(500);
/// Requests to a service that is ready, until one is answered with 2xx.
const PROOFS: u32 = 10;

/// See the module.
pub struct Eks {
    order: Order,
    session: Session,
    api: Api,
    caller: Caller,
    /// What is to stand in the cluster.
    objects: Vec<Object>,
    memory: Mutex<Memory>,
    done: Mutex<Done>,
}

/// What this run has done to the cluster so far.
#[derive(Debug, Default)]
struct Done {
    wrote: bool,
    /// The objects that the plan creates, by kind and name.
    creating: Vec<String>,
    /// Those that were created, with their uid.
    created: Vec<(Key, String)>,
    /// The Deployment's generation after our apply.
    generation: Option<i64>,
    /// The Deployment's uid and image after our apply.
    deployed: Option<(String, String)>,
}

impl Eks {
    /// Opens the cluster of `cluster`. `folder` is where service.yaml stands.
    ///
    /// # Errors
    /// Bad input for what this target cannot serve, and for manifests that are none. Refused when
    /// the cluster or the namespace is not there, or does not let us in.
    pub async fn open(
        order: &Order,
        cluster: &platform::Eks,
        folder: &Path,
        session: &Session,
    ) -> Result<Eks> {
        let objects = all_objects(order, cluster, folder)?;
        let found = auth::find_cluster(session, &order.destination.region, cluster).await?;
        let namespace = cluster.namespace.as_str();
        let caller = Caller {
            cluster: found.name.clone(),
            region: found.region.clone(),
            namespace: namespace.to_string(),
            endpoint: found.endpoint.clone(),
            private: found.private,
            principal: None,
        };
        let api = Api::new(&found, Minter::new(session, &found), namespace)?;
        let (memory, done) = (Mutex::default(), Mutex::default());
        let session = session.clone();
        let mut eks =
            Eks { order: order.clone(), session, api, caller, objects: Vec::new(), memory, done };
        eks.enter().await?;
        eks.objects = eks.place(objects).await?;
        Ok(eks)
    }

    /// The first request: whether the API server answers, knows us, and has the namespace.
    async fn enter(&mut self) -> Result<()> {
        let namespace =
            Key { namespace: None, ..Key::new("v1", "Namespace", "", &self.caller.namespace) };
        match self.api.get(&namespace).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(no_namespace(&self.caller)),
            // Who may only work inside the namespace may not be allowed to look at it; what comes
            // next will tell.
            Err(failure) if failure.code() == Some(403) => Ok(()),
            Err(failure) => {
                if failure.code() == Some(401) {
                    let role = self.order.destination.role.clone();
                    self.caller.principal = self.session.principal().await.or(role);
                }
                Err(self.explain(&failure, "enter the cluster"))
            }
        }
    }

    /// Manifests that name no namespace go into ours, unless they are objects of the whole cluster.
    async fn place(&self, objects: Vec<Object>) -> Result<Vec<Object>> {
        let placed = objects.into_iter().map(|object| async move {
            let namespaced = self.api.is_namespaced(&object).await;
            let namespaced = namespaced.map_err(|failure| {
                self.explain(&failure, &format!("find the kind of {}", object.id()))
            })?;
            Ok(if namespaced { object.placed(&self.caller.namespace) } else { object })
        });
        try_join_all(placed).await
    }

    /// What runs, for `status`.
    ///
    /// # Errors
    /// As the API server refuses.
    pub async fn running(&self) -> Result<Running> {
        let absent = Running { target: "eks", state: "absent".into(), ..Running::default() };
        let live = self.api.get(&self.deployment_key()).await;
        let Some(live) = live.map_err(|failure| self.explain(&failure, "read the Deployment"))?
        else {
            return Ok(absent);
        };
        let state = match self.see(number(&live, "/metadata/generation")).await? {
            Seen::Ready { .. } => "ready",
            Seen::Progressing(_) => "progressing",
            Seen::Failed(_) => "failed",
        };
        let known = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
        Ok(Running {
            target: "eks",
            state: state.into(),
            version: known(text(&live, "/metadata/labels/app.kubernetes.io~1version")),
            digest: image_of(&live).split_once('@').and_then(|(_, digest)| known(digest)),
            revision: known(&plan::revision(&live)),
            url: Some(self.url().await?),
            ready: u32::try_from(number(&live, "/status/readyReplicas")).unwrap_or_default(),
            wanted: u32::try_from(number(&live, "/spec/replicas")).unwrap_or_default(),
        })
    }

    fn deployment_key(&self) -> Key {
        Key::new("apps/v1", "Deployment", &self.caller.namespace, &self.order.settings.name)
    }

    fn explain(&self, failure: &Failure, attempt: &str) -> Error {
        explain(failure, attempt, &self.caller)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// One object as it is and as it would be. `autoscaler_goes`: its count is ours from now on.
    async fn observe_one(&self, object: &Object, autoscaler_goes: bool) -> Result<Observed> {
        let dry = |force| async move { self.api.apply(object, as_ours(true, force)).await };
        let (live, answer) = join(self.api.get(&object.key()), dry(false)).await;
        let live =
            live.map_err(|failure| self.explain(&failure, &format!("read {}", object.id())))?;
        let mut conflicts = answer.as_ref().err().map(Failure::conflicts).unwrap_or_default();
        if autoscaler_goes {
            conflicts.retain(|(manager, field)| {
                !(manager == "kube-controller-manager" && field == ".spec.replicas")
            });
        }
        if !conflicts.iter().all(|(manager, _)| may_take_over(manager)) {
            return Err(owned_by_others(&object.id(), &conflicts));
        }
        let force = answer.as_ref().err().is_some_and(|failure| !failure.conflicts().is_empty());
        let answer = if force { dry(true).await } else { answer };
        let dry_run =
            answer.map_err(|failure| self.explain(&failure, &format!("check {}", object.id())))?;
        Ok(Observed { object: object.clone(), live, dry_run, force })
    }

    /// The last good state. An answer that is none of ours is as good as none.
    async fn snapshot(&self) -> Result<Option<Snapshot>> {
        let key = Snapshot::key_for(&self.order.settings.name, &self.caller.namespace);
        let secret = self.api.get(&key).await;
        let secret =
            secret.map_err(|failure| self.explain(&failure, &format!("read {}", key.id())))?;
        Ok(secret.as_ref().and_then(Snapshot::from_secret))
    }

    /// A Secret that a container needs has to be there before the container. Who may not look goes
    /// without this check.
    async fn refuse_missing_secrets(&self) -> Result<()> {
        for (variable, reference) in &self.order.settings.secrets {
            let SecretRef::Kubernetes { secret, key } = reference else { continue };
            let namespace = &self.caller.namespace;
            let at = Key::new("v1", "Secret", namespace, secret);
            // One of the manifests may be it.
            if self.objects.iter().any(|object| object.key() == at) {
                continue;
            }
            match self.api.exists(&at).await {
                Ok(false) => {
                    return Err(Error::refused(format!(
                        "`secrets.{variable}` names the Secret {secret}, which is not in the namespace {namespace}"
                    ))
                    .fix(format!(
                        "create it: kubectl -n {namespace} create secret generic {secret} --from-literal={key}=…"
                    )));
                }
                Err(failure) if failure.code() != Some(403) => {
                    return Err(self.explain(&failure, &format!("find Secret/{secret}")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The live objects of the last good state that are no longer wanted.
    async fn leftovers(&self, snapshot: Option<&Snapshot>) -> Result<Vec<Value>> {
        let wanted: Vec<Key> = self.objects.iter().map(Object::key).collect();
        let old = snapshot
            .map(|snapshot| snapshot.objects.as_slice())
            .unwrap_or_default()
            .iter()
            .map(Object::key);
        let gone = old.filter(|key| !wanted.contains(key)).map(|key| async move {
            let live = self.api.get(&key).await;
            live.map_err(|failure| self.explain(&failure, &format!("read {}", key.id())))
        });
        Ok(try_join_all(gone).await?.into_iter().flatten().collect())
    }

    /// Where users reach the service: the Ingress's address once it has one, else through the API
    /// server.
    async fn url(&self) -> Result<String> {
        let settings = &self.order.settings;
        if let Some(expose) = &settings.expose {
            let key =
                Key::new("networking.k8s.io/v1", "Ingress", &self.caller.namespace, &settings.name);
            let ingress = self
                .api
                .get(&key)
                .await
                .map_err(|failure| self.explain(&failure, "read the Ingress"))?;
            if let Some(address) = ingress.as_ref().and_then(address_of) {
                return Ok(format!("{address}{}", expose.path));
            }
        }
        let endpoint = self.caller.endpoint.trim_end_matches('/');
        Ok(format!(
            "{endpoint}{}",
            api::service_path(&self.caller.namespace, &settings.name, settings.port, "/")
        ))
    }
}

/// `https://host` of an Ingress that a load balancer answers for.
fn address_of(ingress: &Value) -> Option<String> {
    let first = list(ingress, "/status/loadBalancer/ingress").first()?;
    let host = Some(text(first, "/hostname"))
        .filter(|host| !host.is_empty())
        .unwrap_or_else(|| text(first, "/ip"));
    let scheme = if list(ingress, "/spec/tls").is_empty() { "http" } else { "https" };
    (!host.is_empty()).then(|| format!("{scheme}://{host}"))
}

impl Backend for Eks {
    type Facts = Facts;
    type Plan = EksPlan;

    async fn observe(&self) -> Result<Facts> {
        let settings = &self.order.settings;
        let (name, namespace) = (&settings.name, &self.caller.namespace);
        self.refuse_missing_secrets().await?;
        let snapshot = self.snapshot().await?;
        let wanted = Snapshot {
            version: self.order.image.version.clone(),
            digest: self.order.image.digest.clone(),
            objects: self.objects.clone(),
        };
        // Recording comes last in a deploy; that it is not permitted has to be known first.
        let record = wanted.to_secret(name, namespace)?;
        let recorded = self.api.apply(&record, as_ours(true, true)).await;
        recorded.map_err(|failure| self.explain(&failure, &format!("check {}", record.id())))?;

        let is_autoscaler =
            |object: &Object| object.kind() == "HorizontalPodAutoscaler" && object.name() == name;
        let had =
            snapshot.as_ref().is_some_and(|snapshot| snapshot.objects.iter().any(is_autoscaler));
        let autoscaler_goes = had && !self.objects.iter().any(is_autoscaler);
        let observed = self.objects.iter().map(|object| self.observe_one(object, autoscaler_goes));
        let objects = try_join_all(observed).await?;
        let leftovers = self.leftovers(snapshot.as_ref()).await?;
        self.remember_pods().await.map_err(|failure| self.explain(&failure, "read the pods"))?;
        let buckets = storage::observe(&self.order, &self.session).await?;
        Ok(Facts { name: name.clone(), objects, snapshot, wanted, leftovers, buckets })
    }

    fn plan(&self, facts: Facts) -> Result<EksPlan> {
        Ok(plan::plan(facts))
    }

    async fn apply(&self, plan: &EksPlan) -> Result<()> {
        self.write(plan).await
    }

    fn wrote(&self) -> bool {
        self.done().wrote
    }

    async fn look(&self, plan: &EksPlan) -> Result<Verdict> {
        let generation = self.done().generation.unwrap_or(plan.generation);
        Ok(match self.see(generation).await? {
            Seen::Progressing(what) => Verdict::Progressing(what),
            Seen::Ready { revision } => Verdict::Ready { revision },
            Seen::Failed(troubles) => Verdict::Failed(self.causes(troubles).await?),
        })
    }

    async fn roll_back(&self, plan: &EksPlan) -> Result<Restored> {
        self.restore(plan).await
    }

    async fn prove(&self, _plan: &EksPlan) -> Result<Option<String>> {
        let settings = &self.order.settings;
        let (name, path) = (&settings.name, &settings.health.path);
        if settings.replicas == crate::config::settings::Replicas::Fixed(0) {
            return Ok(None);
        }
        let mut said = String::new();
        for _ in 0..PROOFS {
            match self.api.ask_service(name, settings.port, path).await {
                Ok(200..=299) => return self.url().await.map(Some),
                Ok(status) => said = format!("it answers {status}"),
                // Readiness probes have asked the same path already; who may not use the proxy goes
                // without a second proof.
                Err(failure) if failure.code() == Some(403) => return Ok(None),
                Err(failure) => said = self.explain(&failure, "ask it").to_string(),
            }
            tokio::time::sleep(INTERVAL * 2).await;
        }
        Err(Error::new(Kind::Broken, format!("{name} is ready, and does not answer 2xx on {path} through its Service"))
            .why(said)
            .fix("see that `port` and `health.path` in service.yaml are those of the container, and that no NetworkPolicy shuts the API server out"))
    }

    async fn settle(&self, plan: &EksPlan) -> Result<()> {
        self.finish(plan).await
    }

    fn interval(&self) -> Duration {
        INTERVAL
    }
}

/// The service's own objects and those of its manifests.
fn all_objects(order: &Order, cluster: &platform::Eks, folder: &Path) -> Result<Vec<Object>> {
    let mut objects =
        render::objects(order, cluster, |storage| Some(storage::bucket_name(order, storage)))?;
    for manifest in &order.settings.manifests {
        let file = folder.join(manifest);
        let content = std::fs::read_to_string(&file).map_err(|error| {
            Error::input(format!("cannot read {}", file.display()))
                .why(error)
                .fix("`manifests` in service.yaml names YAML files, relative to service.yaml")
        })?;
        for object in read_manifest(&content, &file)? {
            let same =
                |known: &Object| known.kind() == object.kind() && known.name() == object.name();
            if objects.iter().any(same) {
                return Err(Error::input(format!(
                    "{}: {} stands twice",
                    file.display(),
                    object.id()
                ))
                .why("service.yaml or another manifest says it already")
                .fix("take it out of the manifest, or give it another name"));
            }
            objects.push(object);
        }
    }
    Ok(objects)
}

/// The manifests that deploy would apply, as YAML documents. Pure but for reading `manifests` below
/// `folder`.
///
/// # Errors
/// Bad input as in a deploy.
pub fn render(order: &Order, folder: &Path) -> Result<String> {
    let crate::config::settings::Target::Eks(cluster) = &order.destination.target else {
        return Err(Error::unexpected("an environment that is not on eks"));
    };
    let placed = |object: Object| {
        if api::is_of_the_cluster(object.kind()) {
            object
        } else {
            object.placed(cluster.namespace.as_str())
        }
    };
    let mut objects: Vec<Object> =
        all_objects(order, cluster, folder)?.into_iter().map(placed).collect();
    objects.sort_by_key(|object| plan::order_of(object.kind()));
    to_yaml(&objects)
}
