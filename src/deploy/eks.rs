//! Deploys to Kubernetes on EKS.
//!
//! [`render`] says what a service is in Kubernetes' words; a server-side dry run says what would
//! differ; [`plan`] makes that the plan; `apply` writes it, `watch` looks at what happens,
//! [`observe`] turns that into facts and [`verdict`] judges them; `rollback` goes back to the last
//! good state. [`auth`] is the only part that calls AWS, [`api`] the only one that calls the API
//! server.

mod api;
mod apply;
mod auth;
mod configuration;
mod diff;
mod migration;
mod object;
mod observe;
mod plan;
mod preview;
mod refusal;
mod render;
mod rollback;
mod smoke;
mod verdict;
mod watch;
mod written;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures::future::{join, join_all, try_join_all};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::api::{Api, as_ours};
use self::auth::Minter;
use self::configuration::{find_references, mark_templates};
use self::object::{Key, LiveObject, Object, read_manifest, to_yaml};
use self::observe::{Memory, Restarts, read_address, read_copies, read_image, read_revision};
use self::plan::{EksFacts, EksPlan, ObservedMigration, ObservedObject, WayBack};
use self::refusal::{Caller, Failure, explain, may_take_over, no_namespace, owned_by_others};
use self::render::PART_OF;
use self::verdict::RolloutVerdict;
use self::watch::Look;
use self::written::EksWritten;
use crate::aws::Session;
use crate::config::platform;
use crate::config::settings::Settings;
use crate::config::values::SecretRef;
use crate::deploy::target::{Goal, Permit, RolledBack, State, Target, Verdict};
use crate::deploy::{Order, RunState, Running, Sources, storage};
use crate::error::{Code, Error, Result};
use crate::report::Report;

/// The Pod Security Standard that a namespace enforces.
/// <https://kubernetes.io/docs/concepts/security/pod-security-admission/>
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// One namespace of a cluster. See the module.
pub struct Eks {
    session: Session,
    api: Api,
    caller: Caller,
    cluster: platform::Eks,
    /// Whether the namespace enforces the Pod Security Standard `restricted`.
    is_restricted: bool,
    /// Where the `manifests` of service.yaml are.
    sources: Sources,
    /// The account that the service's buckets have to be of.
    account: Option<String>,
    report: Report,
}

/// What a service is in the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EksDocuments {
    pub objects: Vec<Object>,
    /// Secrets that are among the manifests. The ledger keeps no value of theirs, only
    /// `secret_keys`.
    #[serde(skip)]
    pub secrets: Vec<Object>,
    pub secret_keys: Vec<Key>,
    /// The Job of `before-deploy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Object>,
    /// Keys of Secrets that have to be there before.
    pub needs: Vec<SecretNeed>,
    pub buckets: Vec<String>,
    /// The path below which an Ingress hands requests on.
    pub expose: Option<String>,
}

/// A variable that the key of a Secret gives its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SecretNeed {
    pub variable: String,
    pub secret: String,
    pub key: String,
}

impl EksDocuments {
    fn new(
        settings: &Settings,
        objects: Vec<Object>,
        migration: Option<Object>,
        buckets: Vec<String>,
    ) -> EksDocuments {
        let (secrets, objects): (Vec<Object>, Vec<Object>) =
            objects.into_iter().partition(Object::is_secret);
        let needs = settings.secrets.iter().filter_map(|(variable, reference)| match reference {
            SecretRef::Kubernetes { secret, key } => Some(SecretNeed {
                variable: variable.clone(),
                secret: secret.clone(),
                key: key.clone(),
            }),
            SecretRef::SecretsManager { .. } | SecretRef::Ssm { .. } => None,
        });
        EksDocuments {
            secret_keys: secrets.iter().map(Object::key).collect(),
            secrets,
            objects,
            migration,
            needs: needs.collect(),
            buckets,
            expose: settings.expose.as_ref().map(|expose| expose.path.as_str().to_string()),
        }
    }

    /// Everything to apply: of a stored state, all but its Secrets.
    pub fn all_objects(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter().chain(&self.secrets)
    }

    /// Whether `service` is told to have no copies.
    fn runs_nothing(&self, service: &str) -> bool {
        let own = self.objects.iter().find(|object| object.is_deployment_of(service));
        own.and_then(|own| own.value().pointer("/spec/replicas")?.as_i64()) == Some(0)
    }

    /// The keys of everything, Secrets included.
    pub fn keys(&self) -> Vec<Key> {
        let objects = self.objects.iter().map(Object::key);
        objects.chain(self.secret_keys.iter().cloned()).collect()
    }
}

/// Where the namespace of a service is.
pub struct Place<'a> {
    pub region: &'a str,
    pub role: Option<&'a str>,
    /// The account that the service's buckets have to be of.
    pub account: Option<&'a str>,
    pub cluster: &'a platform::Eks,
    /// The namespace is made with the first deploy.
    pub is_preview: bool,
}

impl Eks {
    /// Opens the namespace of a cluster.
    ///
    /// # Errors
    /// Refused when the cluster or the namespace is not there, or does not let us in.
    pub async fn open(
        place: Place<'_>,
        sources: &Sources,
        session: &Session,
        report: &Report,
    ) -> Result<Eks> {
        let Place { region, role, account, cluster, is_preview } = place;
        let found = auth::find_cluster(session, region, cluster).await?;
        let namespace = cluster.namespace.as_str();
        let caller = Caller {
            cluster: found.name.clone(),
            region: found.region.clone(),
            namespace: namespace.to_string(),
            endpoint: found.endpoint.clone(),
            private: found.private,
            principal: None,
        };
        let api = Api::new(&found, Minter::new(session, &found), caller.clone(), report)?;
        let mut eks = Eks {
            session: session.clone(),
            api,
            caller,
            cluster: cluster.clone(),
            is_restricted: false,
            sources: sources.clone(),
            account: account.map(str::to_string),
            report: report.clone(),
        };
        eks.enter_cluster(role, is_preview).await?;
        Ok(eks)
    }

    /// The first request: whether the API server answers, knows us, and has the namespace.
    async fn enter_cluster(&mut self, role: Option<&str>, is_preview: bool) -> Result<()> {
        match self.api.get(&self.namespace_key()).await {
            Ok(Some(found)) => {
                let enforced =
                    found.metadata.labels.and_then(|labels| labels.get(ENFORCE).cloned());
                self.is_restricted = enforced.as_deref() == Some("restricted");
                Ok(())
            }
            Ok(None) if is_preview => Ok(()),
            Ok(None) => Err(no_namespace(&self.caller)),
            // Who may only work inside the namespace may not be allowed to look at it; what comes
            // next will tell.
            Err(failure) if failure.code() == Some(403) => Ok(()),
            Err(Failure { fault: Some(fault), .. }) if fault.code() == Some(401) => {
                let role = role.map(str::to_string);
                self.caller.principal = self.session.principal().await.or(role);
                Err(explain(&fault, "enter the cluster", &self.caller))
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Manifests that name no namespace go into ours, unless they are objects of the whole cluster.
    async fn place_objects(&self, objects: Vec<Object>) -> Result<Vec<Object>> {
        let placed = objects.iter().map(|object| async {
            let is_namespaced = match self.api.is_namespaced(object).await {
                Err(failure) if failure.code() == Some(404) => {
                    let definition = find_introduction(&objects, &object.key()).ok_or(failure)?;
                    definition.defines_namespaced()
                }
                known => known?,
            };
            let object = object.clone();
            Ok(if is_namespaced { object.placed(&self.caller.namespace) } else { object })
        });
        try_join_all(placed).await
    }

    fn deployment_key(&self, service: &str) -> Key {
        Key::new("apps/v1", "Deployment", &self.caller.namespace, service)
    }

    /// One object as it is and as it would be. `autoscaler_goes`: its count is ours from now on.
    async fn observe_object(
        &self,
        object: &Object,
        documents: &EksDocuments,
        autoscaler_goes: bool,
    ) -> Result<ObservedObject> {
        let dry = |force| self.api.apply(object, as_ours(true, force), None);
        let key = object.key();
        let (live, answer) = join(self.api.get(&key), dry(false)).await;
        let live = live?;
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
        let dry_run = match if force { dry(true).await } else { answer } {
            // What it needs is made in the same deploy: nothing can be tried before.
            Err(failure) if failure.code() == Some(404) && live.is_none() => {
                let introduction = find_introduction(&documents.objects, &key);
                introduction.and_then(|_| object.to_dynamic()).ok_or(failure)?
            }
            answer => answer?,
        };
        Ok(ObservedObject { object: object.clone(), live, dry_run, force })
    }

    /// A Secret that a container needs has to be there before the container. Who may not look goes
    /// without this check.
    async fn refuse_missing_secrets(&self, documents: &EksDocuments) -> Result<()> {
        for SecretNeed { variable, secret, key } in &documents.needs {
            let namespace = &self.caller.namespace;
            let at = Key::new("v1", "Secret", namespace, secret);
            // One of the manifests may be it.
            if documents.secret_keys.contains(&at) {
                continue;
            }
            let lack = match self.api.list_secret_keys(&at).await {
                Ok(None) => format!("Secret {secret}"),
                Ok(Some(keys)) if !keys.contains(key) => {
                    format!("key {key} in the Secret {secret}")
                }
                Err(failure) if failure.code() != Some(403) => return Err(failure.into()),
                _ => continue,
            };
            let headline = format!(
                "cannot give `{variable}` its value: the namespace {namespace} has no {lack}, which \
                 `secrets` names"
            );
            return Err(Error::refused(headline).code(Code::SecretUnavailable).fix(format!(
                "create it: kubectl -n {namespace} create secret generic {secret} \
                 --from-literal={key}=…"
            )));
        }
        Ok(())
    }

    /// Marks the templates by their configuration, and fits them to the namespace.
    async fn finish_objects(&self, objects: &mut [Object], service: &str) -> Result<()> {
        let mut versions = BTreeMap::new();
        let ours: Vec<Key> = objects.iter().map(Object::key).collect();
        for (kind, name) in find_references(objects) {
            let key = Key::new("v1", kind, &self.caller.namespace, &name);
            if kind != "Secret" || ours.contains(&key) {
                continue;
            }
            match self.api.find_version(&key).await {
                Ok(version) => versions.extend(version.map(|version| (name, version))),
                // Who may not look goes without.
                Err(failure) if failure.code() == Some(403) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        mark_templates(objects, &versions);
        let is_own = |object: &&mut Object| {
            let part_of = object.value().pointer("/metadata/labels").and_then(|at| at.get(PART_OF));
            object.is_deployment_of(service) || part_of.is_some_and(|part| part == service)
        };
        if self.is_restricted {
            objects.iter_mut().filter(is_own).for_each(Object::forbid_root);
        }
        Ok(())
    }

    /// The Job of `before-deploy`, if it is to run: whether the API server takes it, and whether an
    /// earlier run did it.
    async fn observe_migration(
        &self,
        goal: &Goal<EksDocuments>,
    ) -> Result<Option<ObservedMigration>> {
        let job = goal.wanted.documents.migration.as_ref().filter(|_| goal.migrates);
        let Some(job) = job else { return Ok(None) };
        let live = self.api.get(&job.key()).await?;
        if live.is_none() {
            self.api.apply(job, as_ours(true, false), None).await?;
        }
        Ok(Some(ObservedMigration { job: job.clone(), live }))
    }

    /// The live objects of the last good state that are no longer wanted.
    async fn read_leftovers(&self, goal: &Goal<EksDocuments>) -> Result<Vec<LiveObject>> {
        let wanted = goal.wanted.documents.keys();
        let old = goal.good.as_ref().map(|good| good.state.documents.keys()).unwrap_or_default();
        let gone: Vec<Key> = old.into_iter().filter(|key| !wanted.contains(key)).collect();
        let live = try_join_all(gone.iter().map(|key| self.api.get(key))).await?;
        Ok(live.into_iter().flatten().collect())
    }

    /// Where users reach the service: the Ingress's address once it has one, else through the API
    /// server.
    async fn url_of(&self, state: &State<EksDocuments>) -> Result<String> {
        let (service, namespace) = (&state.service, &self.caller.namespace);
        if let Some(path) = &state.documents.expose {
            let key = Key::new("networking.k8s.io/v1", "Ingress", namespace, service);
            let ingress = self.api.get(&key).await?;
            if let Some(address) = ingress.as_ref().and_then(read_address) {
                return Ok(format!("{address}{path}"));
            }
        }
        let endpoint = self.caller.endpoint.trim_end_matches('/');
        let path = self.api.service_path(service, state.port, "/");
        Ok(format!("{endpoint}{path}"))
    }
}

impl Target for Eks {
    type Documents = EksDocuments;
    type Facts = EksFacts;
    type Plan = EksPlan;
    type Written = EksWritten;
    type Memory = Memory;

    const NAME: &'static str = "eks";
    const INTERVAL: Duration = Duration::from_millis(500);

    async fn render(&self, order: &Order) -> Result<State<EksDocuments>> {
        let objects = collect_objects(order, &self.cluster, &self.sources)?;
        let mut objects = self.place_objects(objects).await?;
        self.finish_objects(&mut objects, &order.settings.name).await?;
        let buckets = storage::bucket_names(order);
        let mut migration = render::before_deploy(order, &self.cluster, |storage| {
            Some(storage::bucket_name(order, storage))
        })?;
        if let Some(job) = migration.as_mut().filter(|_| self.is_restricted) {
            job.forbid_root();
        }
        let documents = EksDocuments::new(&order.settings, objects, migration, buckets);
        Ok(State::new("eks", order, documents))
    }

    async fn observe(&self, goal: &Goal<EksDocuments>) -> Result<EksFacts> {
        let documents = &goal.wanted.documents;
        let name = &goal.wanted.service;
        self.refuse_missing_secrets(documents).await?;
        let is_autoscaler =
            |object: &Object| object.kind() == "HorizontalPodAutoscaler" && object.name() == name;
        let good = goal.good.as_ref().map(|good| &good.state.documents.objects);
        let had = good.is_some_and(|objects| objects.iter().any(is_autoscaler));
        let autoscaler_goes = had && !documents.objects.iter().any(is_autoscaler);
        let observed = documents
            .all_objects()
            .map(|object| self.observe_object(object, documents, autoscaler_goes));
        // Of several refusals always the first object's is told, not the one that came first.
        let objects: Vec<ObservedObject> =
            join_all(observed).await.into_iter().collect::<Result<_>>()?;
        let migration = self.observe_migration(goal).await?;
        let leftovers = self.read_leftovers(goal).await?;
        let restarts_before = self.read_restarts(&documents.objects).await?;
        let account = self.account.as_deref();
        let buckets = storage::observe(&documents.buckets, account, &self.session).await?;
        Ok(EksFacts { objects, migration, leftovers, buckets, restarts_before })
    }

    fn plan(&self, goal: &Goal<EksDocuments>, facts: EksFacts) -> Result<EksPlan> {
        plan::refuse_paused(&facts)?;
        Ok(plan::make_plan(goal, facts))
    }

    async fn migrate(
        &self,
        plan: &EksPlan,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        self.run_migration(plan, written, permit).await
    }

    async fn apply(
        &self,
        plan: &EksPlan,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<()> {
        self.write_plan(plan, written, permit).await
    }

    async fn check_rollout(
        &self,
        plan: &EksPlan,
        written: &mut EksWritten,
        memory: &mut Memory,
    ) -> Result<Verdict> {
        let wanted = plan.wanted_now(written.goes_back);
        let look = Look {
            service: &wanted.service,
            objects: &wanted.documents.objects,
            written,
            restarts_before: written.restarts_before.as_ref().unwrap_or(&plan.restarts_before),
        };
        let verdict = self.judge_rollout(look, memory).await?;
        Ok(match memory.confirm(verdict) {
            RolloutVerdict::Progressing(what) => Verdict::Progressing(what),
            RolloutVerdict::Healthy { revision } => Verdict::Healthy { revision },
            RolloutVerdict::Failed(troubles) => {
                Verdict::Failed(self.explain_troubles(troubles).await)
            }
        })
    }

    async fn verify(&self, plan: &EksPlan, written: &EksWritten) -> Result<Option<String>> {
        let state = plan.wanted_now(written.goes_back);
        // Nobody knows on which path a service answers that something else deployed.
        let is_found = written.goes_back && matches!(plan.way_back, WayBack::ToFound(_));
        if is_found || state.documents.runs_nothing(&state.service) {
            return Ok(None);
        }
        if self.check_smoke(state).await? { self.url_of(state).await.map(Some) } else { Ok(None) }
    }

    async fn roll_back(
        &self,
        plan: &EksPlan,
        written: &mut EksWritten,
        permit: Permit<'_>,
    ) -> Result<RolledBack> {
        self.roll_back_to_good(plan, written, permit).await
    }

    async fn clean_up(&self, plan: &EksPlan, permit: Permit<'_>) -> Result<()> {
        for removal in plan.removals.iter().filter(|removal| !removal.first) {
            let mut written = EksWritten::default();
            self.remove_object(&removal.key, &removal.uid, &mut written, permit).await?;
        }
        self.remove_old_migrations(plan, permit).await
    }

    async fn remove(&self, state: &State<EksDocuments>, permit: Permit<'_>) -> Result<Vec<String>> {
        let number = state.environment.rsplit('-').next().and_then(|number| number.parse().ok());
        self.remove_namespace(&state.service, number.unwrap_or(0), permit).await
    }

    async fn read_running(&self, state: &State<EksDocuments>) -> Result<Running> {
        let absent = Running { target: "eks", ..Running::default() };
        let key = self.deployment_key(&state.service);
        let Some(live) = self.api.get(&key).await? else { return Ok(absent) };
        let look = Look {
            service: &state.service,
            objects: &state.documents.objects,
            written: &EksWritten::default(),
            restarts_before: &Restarts::new(),
        };
        let verdict = self.judge_rollout(look, &mut Memory::default()).await?;
        let known = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
        let labels = live.metadata.labels.as_ref();
        let (ready, wanted) = read_copies(&live);
        Ok(Running {
            target: "eks",
            state: match verdict {
                RolloutVerdict::Healthy { .. } => RunState::Ready,
                RolloutVerdict::Progressing(_) => RunState::Progressing,
                RolloutVerdict::Failed(_) => RunState::Failed,
            },
            version: labels.and_then(|labels| known(labels.get("app.kubernetes.io/version")?)),
            digest: read_image(&live).split_once('@').and_then(|(_, digest)| digest.parse().ok()),
            revision: known(&read_revision(&live)),
            url: Some(self.url_of(state).await?),
            ready,
            wanted,
        })
    }
}

/// The object among `objects` without which the one of `key` cannot be made.
fn find_introduction<'a>(objects: &'a [Object], key: &Key) -> Option<&'a Object> {
    objects.iter().find(|object| object.introduces(key))
}

/// The service's own objects and those of its manifests.
fn collect_objects(
    order: &Order,
    cluster: &platform::Eks,
    sources: &Sources,
) -> Result<Vec<Object>> {
    let mut objects =
        render::objects(order, cluster, |storage| Some(storage::bucket_name(order, storage)))?;
    for manifest in &order.settings.manifests {
        let file = sources.folder.join(manifest);
        let content = sources.tree.read(&file).map_err(|denied| match denied.is_missing() {
            true => Error::input(format!("cannot read {}", file.display()))
                .why(denied)
                .fix("name YAML files, relative to service.yaml, in its `manifests`"),
            false => denied.into_error("read", &file),
        })?;
        for object in read_manifest(&content, &file)? {
            let key = object.clone().placed(cluster.namespace.as_str()).key();
            let placed = |known: &Object| known.clone().placed(cluster.namespace.as_str()).key();
            let mut known = objects.iter_mut();
            let known = known.find(|known| placed(known).is_same(&key));
            // Its own ServiceAccount may be told more: the role that its pods take on.
            if let Some(known) = known {
                if object.kind() == "ServiceAccount" && object.name() == order.settings.name {
                    known.merge_with(object);
                    continue;
                }
                return Err(Error::input(format!(
                    "cannot apply {} of {}: it stands twice",
                    object.id(),
                    file.display()
                ))
                .why("service.yaml or another manifest says it already")
                .fix("take it out of the manifest, or give it another name"));
            }
            refuse_users_requests(&object, &order.settings.name, &file)?;
            objects.push(object);
        }
    }
    leave_count_to_autoscaler(&mut objects, &order.settings.name);
    Ok(objects)
}

/// The Service leads to all pods with the service's name, and its Deployment counts them.
fn refuse_users_requests(object: &Object, service: &str, file: &Path) -> Result<()> {
    let labels = object.value().pointer("/spec/template/metadata/labels");
    let name = labels.and_then(|labels| labels.get(render::NAME)?.as_str());
    if !object.key().is_workload() || name != Some(service) {
        return Ok(());
    }
    let headline = format!("cannot apply {} of {}", object.id(), file.display());
    Err(Error::input(headline)
        .why(format!(
            "its pods have the label `{}: {service}` of the service's own, and would get its users' \
             requests",
            render::NAME
        ))
        .fix(format!(
            "give its template and selector another name: `{}: {}`; or write it as a process of \
             service.yaml: `processes: {{NAME: {{command: […]}}}}`",
            render::NAME,
            object.name()
        )))
}

/// An autoscaler among the manifests owns the count of the Deployment that it names.
fn leave_count_to_autoscaler(objects: &mut [Object], service: &str) {
    let scales = |object: &Object| {
        let target = object.value().pointer("/spec/scaleTargetRef/name").and_then(Value::as_str);
        ["HorizontalPodAutoscaler", "ScaledObject"].contains(&object.kind())
            && target == Some(service)
    };
    if objects.iter().any(scales) {
        let own = objects.iter_mut().find(|object| object.is_deployment_of(service));
        own.into_iter().for_each(Object::drop_replicas);
    }
}

/// The manifests that deploy would apply, as YAML documents. Pure but for reading `manifests`.
///
/// # Errors
/// Bad input as in a deploy.
pub fn render_manifests(
    order: &Order,
    cluster: &platform::Eks,
    sources: &Sources,
) -> Result<String> {
    let placed = |object: Object| {
        if api::is_of_the_cluster(object.kind()) {
            object
        } else {
            object.placed(cluster.namespace.as_str())
        }
    };
    let mut objects: Vec<Object> =
        collect_objects(order, cluster, sources)?.into_iter().map(placed).collect();
    objects.sort_by_key(|object| plan::order_of(object.kind()));
    let migration = render::before_deploy(order, cluster, |storage| {
        Some(storage::bucket_name(order, storage))
    })?;
    let all: Vec<Object> = migration.into_iter().chain(objects).collect();
    to_yaml(&all)
}
