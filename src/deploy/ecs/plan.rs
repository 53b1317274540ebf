//! Facts about an ECS service → what a deploy will do. Pure.
//!
//! An ECS rollback applies the good state that `find_way_back` returns.

use serde_json::{Value, json};

use super::edge::{self, EdgeFound, EdgeStep, EdgeWanted, OWNER_TAG};
use super::live::{
    LiveService, comparable_definition, comparable_service, drop_lost_containers, keep_definition,
    keep_service, leads_to, leave_out_secrets, mark_secrets, name_foreign, name_lost_secrets,
    refuse_clash, refuse_service, secrets_mark, update_document,
};
use super::preflight::{MissingSecret, SecretsSeen};
use super::prerequisites::{PrerequisitesSeen, refuse_prerequisites};
use super::render::{
    EcsDocuments, MIGRATED_TAG, Migration, PROCESS_TAG, find_tag, last_part, list_processes,
    revision_of,
};
use super::scaling::{ScalingFound, ScalingStep, plan_scaling};
use super::schedule::{self, ScheduleWrite};
use crate::deploy::diff::compare_documents;
use crate::deploy::storage::{self, Bucket};
use crate::deploy::target::{Goal, Good, HealthCheck, Plan, State};
use crate::deploy::{Action, Change};
use crate::error::{Code, Error, Refusals, Result};
use crate::ledger::StateHash;

/// What stands there now.
#[derive(Clone, Debug, Default)]
pub struct EcsFacts {
    pub service: Option<LiveService>,
    pub buckets: Vec<Bucket>,
    pub edge: Option<EdgeFound>,
    pub secrets: SecretsSeen,
    pub prerequisites: PrerequisitesSeen,
    /// How the service is scaled, where it is or was to be.
    pub scaling: Option<ScalingFound>,
    /// What the tag of the family's latest revision says was migrated.
    pub migrated: Option<String>,
    /// Those of the wanted workers, in their order.
    pub workers: Vec<EcsFacts>,
    /// Workers that are no longer wanted: they go in the clean-up.
    pub left_over: Vec<LiveService>,
    /// Those of the wanted schedules, in their order.
    pub schedules: Vec<Option<Value>>,
    /// Schedules that are no longer wanted, by name.
    pub left_over_schedules: Vec<String>,
}

/// What apply will do.
#[derive(Clone, Debug)]
pub struct EcsPlan {
    /// With what others wrote and stays.
    pub wanted: State<EcsDocuments>,
    /// The same as the ledger keeps it.
    pub recorded: State<EcsDocuments>,
    /// The way back.
    pub good: Option<Good<EcsDocuments>>,
    /// Without a recorded way back, what runs now is one.
    pub adopts: bool,
    pub facts: EcsFacts,
    /// Register a new revision; else the service's own is kept.
    pub register: bool,
    pub service: Option<ServiceWrite>,
    /// The tags that a service that is there has to get; null for none.
    pub tags: Value,
    /// A plan for each of the workers.
    pub workers: Vec<EcsPlan>,
    pub schedules: Vec<ScheduleWrite>,
    pub scaling: Vec<ScalingStep>,
    /// `before-deploy`, where it has to run.
    pub migration: Option<Migration>,
    pub edge_steps: Vec<EdgeStep>,
    changes: Vec<Change>,
}

impl EcsPlan {
    /// Whether something else than a deploy set the count of tasks before this one.
    pub fn was_scaled(&self) -> bool {
        self.facts.scaling.as_ref().is_some_and(|found| found.target.is_some())
    }
}

/// What ECS is told of the service, but for what [`fill_in`] adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceWrite {
    /// The input of CreateService.
    Create(Value),
    /// The input of UpdateService.
    Update(Value),
}

impl Plan for EcsPlan {
    fn changes(&self) -> &[Change] {
        &self.changes
    }
    fn previous_revision(&self) -> Option<String> {
        self.facts.service.as_ref().map(|service| revision_of(&service.definition_arn))
    }
}

/// Decides.
///
/// # Errors
/// Bad input for what ECS cannot be told, refused for what cannot be changed or kept.
pub fn make_plan(goal: &Goal<EcsDocuments>, facts: EcsFacts) -> Result<EcsPlan> {
    let mut wanted = goal.wanted.clone();
    let environment = &goal.wanted.environment;
    let mut refusals = Refusals::default();
    let mut workers = Vec::new();
    for (worker, facts) in goal.wanted.documents.workers.iter().zip(&facts.workers) {
        workers.extend(refusals.keep(make_plan(&goal_of_worker(goal, worker), facts.clone())));
    }
    refusals.keep(refuse_place(&goal.wanted, facts.service.as_ref()));
    refusals.keep(refuse_missing_secrets(&facts.secrets.missing));
    for refused in refuse_prerequisites(&facts.prerequisites, environment) {
        refusals.keep::<()>(Err(refused));
    }
    let migration = goal.wanted.documents.migration.clone();
    let migration = migration
        .filter(|one| !is_migrated(goal, facts.service.as_ref(), one))
        .filter(|one| facts.migrated.as_deref() != Some(&one.key));
    let mut changes: Vec<Change> = migration.iter().map(describe_migration).collect();
    changes.extend(storage::plan(&facts.buckets));
    let edge_wanted = goal.wanted.documents.edge.as_ref();
    let edge_steps = match (edge_wanted, &facts.edge) {
        (Some(wanted), Some(found)) => refusals.keep(edge::plan_edge(wanted, found)),
        _ => Some(Vec::new()),
    };
    let edge_steps = refusals.conclude(edge_steps)?;
    // A service can only be attached to a target group that a listener knows; the API comes last,
    // when there is something to reach.
    let (before, after): (Vec<&EdgeStep>, Vec<&EdgeStep>) =
        edge_steps.iter().partition(|step| step.comes_before_service());
    changes.extend(before.into_iter().filter_map(|step| edge_change(step, edge_wanted)));

    let documents = &mut wanted.documents;
    let live = facts.service.as_ref();
    if let Some(live) = live {
        let target_group = edge::target_group_name(&goal.wanted.service, environment);
        refuse_service(&live.document, &documents.service)?;
        refuse_exposure(&live.document, documents, &target_group)?;
        documents.service = keep_service(&live.document, &documents.service, &target_group);
        // A service that was told to run nothing is brought up.
        if documents.keeps_count && live.desired() > 0 {
            let scaling = documents.scaling.as_ref();
            let count = scaling.map_or(live.desired(), |scaling| scaling.bound(live.desired()));
            documents.service["desiredCount"] = json!(count);
        }
        let definition = &live.definition;
        documents.task_definition = keep_definition(definition, &documents.task_definition);
        refuse_clash(definition, &documents.task_definition)?;
    }
    mark_secrets(&mut documents.task_definition, facts.secrets.mark.as_deref());
    refuse_lost_secrets(&documents.task_definition)?;
    // The ledger names a state by its bytes.
    documents.task_definition.sort_all_objects();
    documents.service.sort_all_objects();

    let definition = definition_change(live, documents);
    let register = definition.is_some();
    changes.extend(definition);
    let found = facts.edge.as_ref().and_then(|found| found.target_group.as_ref());
    let found = found.map(|group| group.arn.as_str());
    let mut tags = documents.service["tags"].clone();
    let left_over = name_left_over(&facts);
    if !left_over.is_empty() {
        let tag = tag_of_processes(documents, &left_over);
        let list = tags.as_array_mut().into_iter().flatten().filter(|one| one["key"] != tag["key"]);
        tags = list.map(|one| one.clone()).chain([tag.clone()]).collect();
    }
    let (service, change) = service_change(live, documents, &tags, register, found);
    changes.extend(change);
    let wanted_scaling = documents.scaling.as_ref();
    let (scaling, of_scaling) =
        plan_scaling(wanted_scaling, facts.scaling.as_ref(), documents.name());
    changes.extend(of_scaling);
    changes.extend(workers.iter().flat_map(|worker| worker.changes.clone()));
    documents.workers = workers.iter().map(|worker| worker.wanted.documents.clone()).collect();
    changes.extend(after.into_iter().filter_map(|step| edge_change(step, edge_wanted)));
    let tags = match live.is_some_and(|live| !missing_tags(live, &tags).is_empty()) {
        true => tags,
        false => Value::Null,
    };
    let revision = live.map(|live| live.definition_arn.as_str()).filter(|_| !register);
    let (schedules, of_schedules) =
        schedule::plan_schedules(&wanted.documents.schedules, &facts.schedules, revision);
    changes.extend(of_schedules);
    let services = facts.left_over.iter().map(|worker| format!("Service/{}", worker.name()));
    let more = facts.left_over_schedules.iter().map(|name| format!("Schedule/{name}"));
    changes.extend(services.chain(more).map(|object| Change {
        action: Action::Delete,
        object,
        details: vec!["`processes` has it no longer".into()],
    }));
    let mut recorded = wanted.clone();
    leave_out_secrets(&mut recorded.documents.task_definition);
    recorded.documents.workers =
        workers.iter().map(|worker| worker.recorded.documents.clone()).collect();
    Ok(EcsPlan {
        wanted,
        recorded,
        good: goal.good.clone(),
        adopts: goal.adopts,
        facts,
        register,
        service,
        tags,
        workers,
        schedules,
        scaling,
        migration,
        edge_steps,
        changes,
    })
}

/// The tag of a service that names its processes, those included that are still there.
pub fn tag_of_processes(documents: &EcsDocuments, left_over: &[String]) -> Value {
    let names: Vec<&str> =
        list_processes(documents).into_iter().chain(left_over.iter().map(String::as_str)).collect();
    json!({ "key": PROCESS_TAG, "value": names.join(" ") })
}

/// The processes that are there and no longer wanted.
pub fn name_left_over(facts: &EcsFacts) -> Vec<String> {
    let services = facts.left_over.iter();
    let services = services.filter_map(|one| find_tag(&one.document["tags"], PROCESS_TAG));
    services.map(str::to_string).chain(facts.left_over_schedules.iter().cloned()).collect()
}

/// The processes that a service's tag names, and that are not wanted.
pub fn name_unwanted(goal: &Goal<EcsDocuments>, live: Option<&LiveService>) -> Vec<String> {
    let mut named = live.map(LiveService::processes).unwrap_or_default();
    let wanted = list_processes(&goal.wanted.documents);
    named.retain(|name| !wanted.contains(&name.as_str()));
    named
}

/// Whether a service is a process of this one: only then it may be deleted.
pub fn is_worker_of(live: &LiveService, environment: &str, owner: &str) -> bool {
    live.is_process()
        && live.owner() == Some(owner)
        && live.environment() == Some(environment)
        && live.document["status"] == "ACTIVE"
}

/// What a run is to reach for one of the workers, and what of it was good.
pub fn goal_of_worker(goal: &Goal<EcsDocuments>, worker: &EcsDocuments) -> Goal<EcsDocuments> {
    let with = |state: &State<EcsDocuments>, documents: &EcsDocuments| State {
        documents: documents.clone(),
        ..state.clone()
    };
    let good = goal.good.as_ref().and_then(|good| {
        let mut workers = good.state.documents.workers.iter();
        let documents = workers.find(|one| one.name() == worker.name())?;
        Some(Good { state: with(&good.state, documents), revision: None })
    });
    let wanted = with(&goal.wanted, worker);
    Goal { wanted, good, left: Vec::new(), adopts: false, migrates: false }
}

/// Whether a migration need not run: this goes back, a good deploy did it, or what runs was deployed
/// after it.
pub fn is_migrated(
    goal: &Goal<EcsDocuments>,
    live: Option<&LiveService>,
    migration: &Migration,
) -> bool {
    let good = goal.good.as_ref().and_then(|good| good.state.documents.migration.as_ref());
    let tag = live.and_then(|live| find_tag(&live.definition["tags"], MIGRATED_TAG));
    !goal.migrates
        || good.is_some_and(|good| good.key == migration.key)
        || tag == Some(&migration.key)
}

fn describe_migration(migration: &Migration) -> Change {
    Change {
        action: Action::Create,
        object: "Task/before-deploy".into(),
        details: vec![format!("runs {}", migration.command.join(" "))],
    }
}

/// Refuses a place without subnets, and one that is another environment's.
fn refuse_place(wanted: &State<EcsDocuments>, live: Option<&LiveService>) -> Result<()> {
    let (environment, service) = (&wanted.environment, &wanted.documents.service);
    let subnets = &service["networkConfiguration"]["awsvpcConfiguration"]["subnets"];
    if subnets.as_array().is_none_or(Vec::is_empty) {
        return Err(Error::input(format!(
            "cannot deploy to environment {environment}: it has no subnets to run tasks in"
        ))
        .fix(format!("set environments.{environment}.ecs.subnets in platform.yaml")));
    }
    // Its name may be that of another service's process.
    let ours = find_tag(&service["tags"], OWNER_TAG);
    let is_process = wanted.documents.is_process();
    let foreign =
        live.filter(|live| live.owner() != ours && (live.owner().is_some() || is_process));
    if let Some(live) = foreign {
        let name = wanted.documents.name();
        return Err(Error::refused(format!(
            "cannot deploy to ECS service {name}: it is not of this service"
        ))
        .why(match live.owner() {
            Some(owner) => format!("it is part of service {owner}"),
            None => "somebody else made it".into(),
        })
        .fix("choose another name for the process, or for the service"));
    }
    let Some(other) = live.and_then(LiveService::environment).filter(|other| other != environment)
    else {
        return Ok(());
    };
    Err(Error::refused(format!(
        "cannot deploy to service {} in cluster {}: it is of environment {other}, not {environment}",
        wanted.documents.name(),
        service["cluster"].as_str().unwrap_or_default()
    ))
    .fix(format!("give environment {environment} an ECS cluster of its own in platform.yaml")))
}

/// Refuses what no task could be given.
fn refuse_missing_secrets(missing: &[MissingSecret]) -> Result<()> {
    let Some(MissingSecret { arn, .. }) = missing.first() else { return Ok(()) };
    let names: Vec<String> =
        missing.iter().map(|one| format!("secrets.{}", one.variable)).collect();
    let arns: Vec<&str> = missing.iter().map(|one| one.arn.as_str()).collect();
    let name = arn.splitn(7, ':').last().unwrap_or_default();
    Err(Error::refused(format!(
        "cannot deliver {}: Secrets Manager has no {}",
        names.join(", "),
        arns.join(", ")
    ))
    .code(Code::SecretUnavailable)
    .fix(format!(
        "correct the name in service.yaml, or create it: aws secretsmanager create-secret --name \
         {name} --secret-string file://VALUE"
    )))
}

/// Refuses a stored state that cannot be whole any more.
fn refuse_lost_secrets(definition: &Value) -> Result<()> {
    let lost = name_lost_secrets(definition);
    if lost.is_empty() {
        return Ok(());
    }
    let family = definition["family"].as_str().unwrap_or_default();
    Err(Error::refused(format!(
        "cannot bring back what others wrote of service {family}: {}",
        lost.join(", ")
    ))
    .code(Code::SecretUnavailable)
    .why("it held secrets in the open, which the ledger does not keep, and it is not live any more")
    .fix("deploy a version anew with `cicd deploy --version V`, then add it again, with `secrets`"))
}

/// Refuses to take a service off its load balancer, which would leave its path open to nobody.
fn refuse_exposure(live: &Value, documents: &EcsDocuments, target_group: &str) -> Result<()> {
    let mut balancers = live["loadBalancers"].as_array().into_iter().flatten();
    if documents.edge.is_some() || !balancers.any(|one| leads_to(one, target_group)) {
        return Ok(());
    }
    let (service, name) = (&documents.service, documents.name());
    Err(Error::refused(format!(
        "cannot take `expose` from service {name}: its load balancer cannot be removed"
    ))
    .fix(format!(
        "delete the service (`aws ecs delete-service --cluster {} --service {name} --force`), then \
         deploy again",
        service["cluster"].as_str().unwrap_or_default(),
    )))
}

/// `None` when the live revision is what is wanted.
fn definition_change(live: Option<&LiveService>, documents: &EcsDocuments) -> Option<Change> {
    let wanted = &documents.task_definition;
    let mut details = match live {
        None => {
            let image = &wanted["containerDefinitions"][0]["image"];
            vec![format!("image: {}", image.as_str().unwrap_or_default())]
        }
        Some(live) => {
            let (before, after) =
                (comparable_definition(&live.definition), comparable_definition(wanted));
            let mut details = compare_documents(&before, &after, &[]);
            let marks = [&live.definition, wanted].map(secrets_mark);
            if let [Some(before), Some(after)] = marks
                && before != after
            {
                details.push("a secret has another version, which new tasks are given".into());
            }
            if !live.is_active {
                details.push(format!("{} was deregistered", last_part(&live.definition_arn)));
            }
            details
        }
    };
    if details.is_empty() {
        return None;
    }
    details.extend(documents.rounding.clone());
    if documents.edge.is_none() && !documents.is_process() {
        let line =
            "nobody asks health.path, as it is not exposed: it is healthy while its tasks run";
        details.push(line.into());
    }
    let foreign = name_foreign(wanted);
    if !foreign.is_empty() {
        details.push(format!("stays as others wrote it: {}", foreign.join(", ")));
    }
    let action = if live.is_some() { Action::Update } else { Action::Create };
    Some(Change { action, object: format!("TaskDefinition/{}", documents.name()), details })
}

fn service_change(
    live: Option<&LiveService>,
    documents: &EcsDocuments,
    tags: &Value,
    register: bool,
    target_group: Option<&str>,
) -> (Option<ServiceWrite>, Option<Change>) {
    let object = format!("Service/{}", documents.name());
    let Some(live) = live else {
        let details = vec![format!("desiredCount: {}", documents.desired())];
        let write = ServiceWrite::Create(documents.service.clone());
        return (Some(write), Some(Change { action: Action::Create, object, details }));
    };
    let mut wanted = documents.service.clone();
    fill_in(&mut wanted, documents, None, target_group);
    let (before, after) = (comparable_service(&live.document), comparable_service(&wanted));
    let mut details = compare_documents(&before, &after, &[]);
    let mut update = update_document(&live.document, &wanted, &Value::Null);
    if register {
        details.push("runs the new task definition".into());
        let family = wanted["taskDefinition"].clone();
        let document = update.get_or_insert_with(
            || json!({ "cluster": wanted["cluster"], "service": wanted["serviceName"] }),
        );
        document["taskDefinition"] = family;
    }
    details.extend(missing_tags(live, tags));
    let change =
        (!details.is_empty()).then_some(Change { action: Action::Update, object, details });
    (update.map(ServiceWrite::Update), change)
}

/// A line for each tag of ours that a service has not.
fn missing_tags(live: &LiveService, tags: &Value) -> Vec<String> {
    let tags = tags.as_array().into_iter().flatten();
    let pairs = tags.filter_map(|tag| Some((tag["key"].as_str()?, tag["value"].as_str()?)));
    let missing = pairs.filter_map(|(key, value)| {
        let before = find_tag(&live.document["tags"], key);
        let shown = before.unwrap_or("none");
        (before != Some(value)).then(|| format!("tags[{key}]: {shown} → {value}"))
    });
    missing.collect()
}

/// Puts into a service's document what is known only when it is sent: the revision, where the
/// document names one, and the ARN of the target group that stands there by its name.
pub fn fill_in(
    service: &mut Value,
    documents: &EcsDocuments,
    definition_arn: Option<&str>,
    target_group: Option<&str>,
) {
    if let Some(arn) = definition_arn.filter(|_| service.get("taskDefinition").is_some()) {
        service["taskDefinition"] = json!(arn);
    }
    let name = documents.edge.as_ref().map(|edge| edge.target_group.as_str());
    let balancers = service.get_mut("loadBalancers").and_then(Value::as_array_mut);
    for balancer in balancers.into_iter().flatten() {
        if let Some(arn) = target_group.filter(|_| balancer["targetGroupArn"].as_str() == name) {
            balancer["targetGroupArn"] = json!(arn);
        }
    }
}

/// What a rollback tells ECS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayBack {
    /// The input of RegisterTaskDefinition, should the revision be gone.
    pub definition: Value,
    /// The good revision's own name, and what ran before this deploy where it is the same.
    pub revisions: Vec<String>,
    /// The input of UpdateService.
    pub service: Value,
    /// The load balancers of the service then.
    pub balancers: Value,
    /// Tasks that are to run.
    pub desired: Value,
    pub smoke_check: Option<SmokeCheck>,
}

/// The smoke check of a state: below which path of the gateway its health check is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmokeCheck {
    pub path: String,
    pub health: HealthCheck,
}

impl SmokeCheck {
    /// `None` for what no gateway leads to.
    pub fn of(state: &State<EcsDocuments>) -> Option<SmokeCheck> {
        let path = state.documents.edge.as_ref()?.gateway.as_ref()?.path.clone();
        Some(SmokeCheck { path, health: state.health.clone() })
    }
}

/// Of what others deployed nobody knows how it is asked but the load balancer; and only what users
/// reached before is asked.
fn check_adopted(plan: &EcsPlan) -> Option<SmokeCheck> {
    let found = plan.facts.edge.as_ref()?;
    let check = SmokeCheck::of(&plan.wanted)?;
    let routes = &plan.wanted.documents.edge.as_ref()?.gateway.as_ref()?.routes;
    let path = found.target_group.as_ref()?.health.path.clone();
    let was_reached = routes.iter().all(|key| found.gateway.routes.contains_key(key));
    was_reached.then_some(SmokeCheck { health: HealthCheck { path, ..check.health }, ..check })
}

/// What names one CreateService for all its tries: ECS makes one service of them, whatever answers
/// were lost. <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/ECS_Idempotency.html>
pub fn client_token(document: &Value, record: u64) -> String {
    let hash = StateHash::of(format!("{record} {document}").as_bytes()).to_string();
    // At most 36 characters.
    hash.chars().filter(char::is_ascii_hexdigit).take(32).collect()
}

/// The way back: the recorded good state; else, where the ledger knows nothing, what ran before.
/// `None` when there is none. What others wrote before this deploy stays on it too.
pub fn find_way_back(plan: &EcsPlan) -> Option<WayBack> {
    let live = plan.facts.service.as_ref();
    let before = live.map_or(Value::Null, |live| live.document.clone());
    let target_group = edge::target_group_name(&plan.wanted.service, &plan.wanted.environment);
    let (definition, mut service, named, smoke_check) = match &plan.good {
        Some(good) => {
            let EcsDocuments { task_definition, service, .. } = &good.state.documents;
            let mut definition = match live {
                Some(live) => keep_definition(&live.definition, task_definition),
                None => task_definition.clone(),
            };
            drop_lost_containers(&mut definition);
            let family = task_definition["family"].as_str().unwrap_or_default();
            let named = good.revision.as_ref().map(|revision| format!("{family}:{revision}"));
            let service = keep_service(&before, service, &target_group);
            (definition, service, named, SmokeCheck::of(&good.state))
        }
        // A service that was told to run nothing has no last good version: a first deploy that
        // failed leaves this.
        None if plan.adopts && live.is_some_and(|live| live.desired() > 0) => {
            (live?.definition.clone(), before.clone(), None, check_adopted(plan))
        }
        None => return None,
    };
    // The count may have been changed by a person or a scheduler since.
    if let Some(live) = live {
        service["desiredCount"] = json!(live.desired());
    }
    service["cluster"] = plan.wanted.documents.service["cluster"].clone();
    let written = match &plan.service {
        Some(ServiceWrite::Create(document) | ServiceWrite::Update(document)) => document,
        None => &Value::Null,
    };
    let mut document = update_document(&before, &service, written).unwrap_or_else(
        || json!({ "cluster": service["cluster"], "service": service["serviceName"] }),
    );
    document["taskDefinition"] = definition["family"].clone();
    let wanted = comparable_definition(&definition);
    let same =
        live.filter(|live| live.is_active && comparable_definition(&live.definition) == wanted);
    let revisions = same.map(|live| live.definition_arn.clone()).into_iter().chain(named).collect();
    let (desired, balancers) = (service["desiredCount"].clone(), service["loadBalancers"].clone());
    Some(WayBack { definition, revisions, service: document, balancers, desired, smoke_check })
}

fn edge_change(step: &EdgeStep, wanted: Option<&EdgeWanted>) -> Option<Change> {
    let wanted = wanted?;
    let (action, details) = match step {
        EdgeStep::UpdateTargetGroup { before, .. } => {
            let after = &wanted.health;
            (
                Action::Update,
                vec![format!(
                    "health: {} ({}) → {} ({})",
                    before.path, before.codes, after.path, after.codes
                )],
            )
        }
        EdgeStep::UpdateRoute { .. } => {
            (Action::Update, vec!["leads to this load balancer".into()])
        }
        EdgeStep::UpdateIntegration { .. } => {
            let name = wanted.gateway.as_ref().and_then(|gateway| gateway.server_name.as_deref());
            let line = match name {
                Some(name) => format!("expects a certificate for {name}"),
                None => "speaks HTTP".into(),
            };
            (Action::Update, vec![line])
        }
        EdgeStep::UpdateAuthorizer { .. } => {
            (Action::Update, vec!["as platform.yaml says: all services of the API have it".into()])
        }
        EdgeStep::GuardRoute { .. } => {
            (Action::Update, vec![format!("guarded by authorizer {}", edge::AUTHORIZER)])
        }
        EdgeStep::DeleteLink { .. } => (Action::Delete, vec!["it has failed".into()]),
        EdgeStep::DeleteRoute { .. } | EdgeStep::DeleteRule { .. } => {
            (Action::Delete, vec!["`expose.path` is another one now".into()])
        }
        EdgeStep::CreateRule { priority } => {
            (Action::Create, vec![format!("priority {priority}: {}", wanted.patterns.join(", "))])
        }
        _ => (Action::Create, vec![]),
    };
    Some(Change { action, object: step.object(wanted), details })
}

#[cfg(test)]
mod tests;
