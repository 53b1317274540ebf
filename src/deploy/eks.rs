//! Deploys to Kubernetes on EKS.
//!
//! [`render`] says what a service is in Kubernetes' words; a server-side dry run says what would
//! differ; [`plan`] makes that the plan; `apply` writes it, `watch` looks at what happens,
//! [`observe`] turns that into facts and [`verdict`] judges them; `rollback` goes back to the last
//! good state. [`auth`] is the only part that calls AWS, [`api`] the only one that calls the API
//! server.

mod address;
mod api;
mod apply;
mod auth;
mod canary;
mod configuration;
mod diff;
mod gather;
mod iam;
mod managers;
mod migration;
mod object;
mod observe;
mod plan;
mod preflight;
mod preview;
mod refusal;
mod render;
mod rollback;
mod smoke;
mod stepwise;
mod verdict;
mod watch;
mod written;

use std::time::Duration;

use futures::future::{join4, try_join_all};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};

use self::api::Api;
use self::auth::Minter;
use self::gather::collect_objects;
pub use self::gather::render_manifests;
pub use self::iam::render_policies;
use self::object::{Key, Object};
use self::observe::{Restarts, read_copies, read_image, read_revision};
use self::plan::{EksFacts, EksPlan, ObservedObject, WayBack};
use self::refusal::{Caller, Failure, explain, no_namespace};
use self::render::{VERSION, VERSION_NOTE};
use self::verdict::RolloutVerdict;
use self::watch::{Look, Watching};
use self::written::EksWritten;
use crate::aws::Session;
use crate::config::platform;
use crate::config::settings::Settings;
use crate::config::strategy::{Canary, Strategy};
use crate::config::values::SecretRef;
use crate::deploy::target::{Goal, Permit, RolledBack, State, Target, Verdict};
use crate::deploy::{Order, RunState, Running, Sources, storage};
use crate::error::{Cause, Refusals, Result};
use crate::report::Report;

/// The Pod Security Standard that a namespace enforces.
/// <https://kubernetes.io/docs/concepts/security/pod-security-admission/>
const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// Objects that are read and tried at the same time.
const READERS: usize = 16;

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
    /// How a new version has to prove itself first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
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
            canary: match &settings.strategy {
                Strategy::Rolling => None,
                Strategy::Canary(canary) => Some(canary.clone()),
            },
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
                    let definition =
                        preflight::find_introduction(&objects, &object.key()).ok_or(failure)?;
                    definition.defines_namespaced()
                }
                known => known?,
            };
            let object = object.clone();
            Ok(if is_namespaced { object.placed(&self.caller.namespace) } else { object })
        });
        try_join_all(placed).await
    }

    fn service_key(&self, service: &str) -> Key {
        Key::new("v1", "Service", &self.caller.namespace, service)
    }

    fn deployment_key(&self, service: &str) -> Key {
        Key::new("apps/v1", "Deployment", &self.caller.namespace, service)
    }
}

impl Target for Eks {
    type Documents = EksDocuments;
    type Facts = EksFacts;
    type Plan = EksPlan;
    type Written = EksWritten;
    type Memory = Watching;

    const NAME: &'static str = "eks";
    const INTERVAL: Duration = Duration::from_millis(500);
    const LEAVES_OBJECTS: bool = true;

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
        let is_autoscaler =
            |object: &Object| object.kind() == "HorizontalPodAutoscaler" && object.name() == name;
        let good = goal.good.as_ref().map(|good| &good.state.documents.objects);
        let had = good.is_some_and(|objects| objects.iter().any(is_autoscaler));
        let autoscaler_goes = had && !documents.objects.iter().any(is_autoscaler);
        let observed = documents
            .all_objects()
            .map(|object| self.observe_object(object, goal, autoscaler_goes));
        // All refusals are told, in the order of the objects, whichever came first.
        let mut refusals = Refusals::default();
        refusals.keep(self.refuse_missing_secrets(documents).await);
        let observed: Vec<Result<ObservedObject>> =
            stream::iter(observed).buffered(READERS).collect().await;
        let objects: Vec<ObservedObject> =
            observed.into_iter().filter_map(|object| refusals.keep(object)).collect();
        let account = self.account.as_deref();
        let finished = goal.good.as_ref().map(|good| good.state.documents.buckets.as_slice());
        let finished = finished.unwrap_or_default();
        let (migration, leftovers, restarts_before, buckets) = join4(
            self.observe_migration(goal),
            self.read_leftovers(goal),
            self.read_restarts(&documents.objects),
            storage::observe(&documents.buckets, finished, account, &self.session),
        )
        .await;
        let (migration, leftovers) = (refusals.keep(migration), refusals.keep(leftovers));
        let (restarts, buckets) = (refusals.keep(restarts_before), refusals.keep(buckets));
        let found = migration.zip(leftovers).zip(restarts.zip(buckets));
        let ((migration, leftovers), (restarts_before, buckets)) = refusals.conclude(found)?;
        let mut refusals = Refusals::default();
        let (good_is_live, permitted, pods, canary) = join4(
            self.is_good_live(goal, &objects),
            self.refuse_unpermitted(goal, &objects, &leftovers),
            self.try_pods(&objects),
            self.try_canary(goal, &objects),
        )
        .await;
        refusals.keep(permitted);
        refusals.keep(pods);
        refusals.keep(canary);
        let good_is_live = refusals.keep(good_is_live);
        let good_is_live = refusals.conclude(good_is_live)?;
        Ok(EksFacts { objects, migration, leftovers, good_is_live, buckets, restarts_before })
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
        watching: &mut Watching,
    ) -> Result<Verdict> {
        let wanted = plan.wanted_now(written.goes_back);
        let look = Look {
            service: &wanted.service,
            objects: &wanted.documents.objects,
            written,
            restarts_before: written.restarts_before.as_ref().unwrap_or(&plan.restarts_before),
        };
        let verdict = self.judge_rollout(look, watching).await?;
        Ok(match watching.memory.confirm(verdict) {
            RolloutVerdict::Progressing(what) => Verdict::Progressing(what),
            RolloutVerdict::Healthy { revision } => Verdict::Healthy { revision },
            RolloutVerdict::Failed(troubles) => {
                Verdict::Failed(self.explain_troubles(troubles).await)
            }
        })
    }

    async fn wait_for_change(&self, watching: &Watching) {
        self.await_change(watching).await;
    }

    async fn explain_waiting(&self, watching: &Watching) -> Vec<Cause> {
        self.explain_troubles(watching.memory.pending.clone()).await
    }

    async fn verify(&self, plan: &EksPlan, written: &EksWritten) -> Result<Option<String>> {
        let state = plan.wanted_now(written.goes_back);
        // Nobody knows on which path a service answers that something else deployed.
        let is_found = written.goes_back && matches!(plan.way_back, WayBack::ToFound(_));
        if is_found || state.documents.runs_nothing(&state.service) {
            return Ok(None);
        }
        if self.check_smoke(state).await? { self.await_url(state).await } else { Ok(None) }
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
            self.remove_object(plan, removal, &mut written, permit).await?;
        }
        self.remove_canary(plan, &mut EksWritten::default(), permit).await?;
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
        let verdict = self.judge_rollout(look, &mut Watching::default()).await?;
        let known = |text: &str| Some(text.to_string()).filter(|text| !text.is_empty());
        let labels = live.metadata.labels.as_ref();
        let notes = live.metadata.annotations.as_ref();
        let noted = notes.and_then(|notes| known(notes.get(VERSION_NOTE)?));
        let (ready, wanted) = read_copies(&live);
        Ok(Running {
            target: "eks",
            state: match verdict {
                RolloutVerdict::Healthy { .. } => RunState::Ready,
                RolloutVerdict::Progressing(_) => RunState::Progressing,
                RolloutVerdict::Failed(_) => RunState::Failed,
            },
            version: noted.or_else(|| labels.and_then(|labels| known(labels.get(VERSION)?))),
            digest: read_image(&live).split_once('@').and_then(|(_, digest)| digest.parse().ok()),
            revision: known(&read_revision(&live)),
            url: self.find_url(state).await?,
            ready,
            wanted,
        })
    }
}

/// The manager of what a state's objects set.
fn name_manager(state: &State<EksDocuments>) -> String {
    managers::name_manager(&state.service, &state.environment)
}
