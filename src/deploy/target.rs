//! What every target is to the engine: a stateless adapter of one platform.
//!
//! A target is opened from *where* (cluster, namespace, engine). *What* is deployed arrives with
//! each call as a [`State`], so that a deploy, a promotion and a rollback take the same way.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Change, Image, Order, Running};
use crate::error::{Cause, Code, Error, Kind, Result};
use crate::ledger::{Guard, Lease, StateHash};

/// The layout of [`State`]: raised when an older program could not read a newer state.
const FORMAT: u32 = 2;

/// Everything a deploy applies to an environment, secrets' values excepted. The ledger keeps it by
/// the hash of its JSON, and a rollback applies exactly this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct State<D> {
    pub format: u32,
    /// `eks`, `ecs` or `local`.
    pub target: String,
    pub service: String,
    pub environment: String,
    pub image: Image,
    pub port: u16,
    pub health: HealthCheck,
    /// The platform's own documents.
    pub documents: D,
}

/// How the service is asked whether it is healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HealthCheck {
    pub path: String,
    /// Milliseconds that a start may take.
    pub startup: u64,
}

impl HealthCheck {
    pub fn startup(&self) -> Duration {
        Duration::from_millis(self.startup)
    }
}

impl<D: Serialize + DeserializeOwned> State<D> {
    /// The state of an order whose platform documents are `documents`.
    pub fn new(target: &str, order: &Order, documents: D) -> State<D> {
        let settings = &order.settings;
        State {
            format: FORMAT,
            target: target.to_string(),
            service: settings.name.clone(),
            environment: settings.environment.clone(),
            image: order.image.clone(),
            port: settings.port,
            health: HealthCheck {
                path: settings.health.path.clone(),
                startup: u64::try_from(settings.health.startup.as_millis()).unwrap_or(u64::MAX),
            },
            documents,
        }
    }

    /// The bytes that the ledger keeps.
    ///
    /// # Errors
    /// Unexpected, when the documents cannot be written as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self)
            .map_err(|error| Error::unexpected("cannot write the state as JSON").why(error))
    }

    /// The hash by which the ledger keeps it.
    ///
    /// # Errors
    /// As [`State::to_json`].
    pub fn hash(&self) -> Result<StateHash> {
        Ok(StateHash::of(&self.to_json()?))
    }

    /// Reads what the ledger kept.
    ///
    /// # Errors
    /// Refused when it is of another target, or a newer version of this program wrote it.
    pub fn from_json(bytes: &[u8], target: &str) -> Result<State<D>> {
        let unreadable = |why: String| {
            Error::refused("cannot read a stored state").why(why).fix(
                "deploy a version anew: `cicd deploy --version V`, or use the version of cicd that \
                 deployed this record",
            )
        };
        let head: StateHead =
            serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
        if head.format > FORMAT {
            return Err(unreadable(format!("its format is {}, known is {FORMAT}", head.format)));
        }
        if head.target != target {
            return Err(unreadable(format!("it is of target {}, not {target}", head.target)));
        }
        serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))
    }
}

/// The part of a state that is read before the rest is trusted.
#[derive(Deserialize)]
struct StateHead {
    format: u32,
    target: String,
}

/// What one deploy is to reach, and where it may go back to.
#[derive(Clone, Debug)]
pub struct Goal<D> {
    pub wanted: State<D>,
    /// The last state that a deploy saw through to the end.
    pub good: Option<Good<D>>,
    /// What runs were to reach that came to nothing since: parts of it may be left.
    pub left: Vec<State<D>>,
    /// The ledger has no record here: what runs was deployed by something else, and may be gone
    /// back to when it is healthy.
    pub adopts: bool,
    /// Run `before-deploy`. A rollback never does: migrations only lead forward.
    pub migrates: bool,
}

/// A good state as the ledger knows it.
#[derive(Clone, Debug)]
pub struct Good<D> {
    pub state: State<D>,
    /// The platform's own name of what ran then: an ECS revision.
    pub revision: Option<String>,
}

/// A plan: plain data, made without I/O.
pub trait Plan {
    /// What would change, in the order of apply. Empty: nothing to do.
    fn changes(&self) -> &[Change];
    /// The revision that runs before the change.
    fn previous_revision(&self) -> Option<String>;
}

/// What a run wrote, by the identities that the platform answered. It survives a failure half-way,
/// and says what is judged: from the first write of a rollback on, the version that is gone back to.
pub trait Written: Default {
    /// Whether anything may have been written. Then there is a record of the run, however it ends.
    fn any(&self) -> bool;
    /// Whether what runs, or where its users are led, may have changed. Then a failure takes the
    /// way back.
    fn touches_running(&self) -> bool;
}

/// What one look at the target says. A target's `verdict` module decides who is healthy: it derives
/// this from facts, without I/O.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not there yet; what is being waited for, in a few words.
    Progressing(String),
    /// The new version is what runs, all of it, healthy. With the revision's name where the target
    /// has one.
    Healthy { revision: String },
    /// It will not get there.
    Failed(Vec<Cause>),
}

/// What a rollback came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolledBack {
    /// The last good version is on its way back: it is watched and verified as a new one is.
    Begun,
    /// There was none: the first deploy. What was created is left for looking at, or removed: said
    /// in words.
    ToNothing(String),
}

/// Leave to write: the lock is held and the time is not over. Asked before every write.
#[derive(Clone, Copy)]
pub struct Permit<'a> {
    lease: &'a Lease,
    deadline: Instant,
}

impl<'a> Permit<'a> {
    pub fn new(lease: &'a Lease, deadline: Instant) -> Permit<'a> {
        Permit { lease, deadline }
    }

    /// Refuses the write that would follow. Waits where the lock could not be renewed of late.
    ///
    /// # Errors
    /// Superseded when the lock is another's by now, timed out after the deadline.
    pub async fn check(&self) -> Result<()> {
        self.guard().wait(self.deadline).await?;
        if self.time_left().is_zero() {
            return Err(Error::new(
                Kind::TimedOut,
                "cannot write any more: the time for it is over",
            )
            .code(Code::DeadlineExceeded)
            .fix("give it longer with --timeout, if it only needs time"));
        }
        Ok(())
    }

    /// The number of the record of this run: it names the run to AWS.
    pub fn record_number(&self) -> u64 {
        self.lease.number()
    }

    /// What a try of a write asks that cannot wait.
    pub fn guard(&self) -> Guard {
        self.lease.guard()
    }

    /// When the time for writing is over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The time until the deadline.
    #[expect(clippy::disallowed_methods, reason = "a deadline is compared with the clock")]
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// A platform that services are deployed to. It holds connections and nothing of a run.
pub trait Target {
    /// What the platform is told, as it is sent and as the ledger keeps it.
    type Documents: Clone + std::fmt::Debug + PartialEq + Serialize + DeserializeOwned;
    /// What stands there now.
    type Facts;
    type Plan: Plan;
    type Written: Written;
    /// What watching remembers from look to look.
    type Memory: Default;

    /// `eks`, `ecs` or `local`.
    const NAME: &'static str;
    /// Time between two looks.
    const INTERVAL: Duration;
    /// Whether a run that comes to nothing may leave what only its state names.
    const LEAVES_OBJECTS: bool = false;

    /// Makes the documents of an order. At most kinds of objects that only the cluster knows are
    /// asked for.
    async fn render(&self, order: &Order) -> Result<State<Self::Documents>>;

    /// Reads, and refuses what can be refused before the first write (missing cluster, permission,
    /// namespace): exit 3.
    async fn observe(&self, goal: &Goal<Self::Documents>) -> Result<Self::Facts>;

    /// Decides. Pure.
    fn plan(&self, goal: &Goal<Self::Documents>, facts: Self::Facts) -> Result<Self::Plan>;

    /// What the plan reaches, where that is more than was wanted: what others wrote and stays. The
    /// ledger keeps it.
    fn planned_state<'a>(&self, _plan: &'a Self::Plan) -> Option<&'a State<Self::Documents>> {
        None
    }

    /// Runs `before-deploy` to its end. What it did counts as written.
    ///
    /// # Errors
    /// [`Kind::Gate`] when it fails.
    async fn migrate(
        &self,
        plan: &Self::Plan,
        written: &mut Self::Written,
        permit: Permit<'_>,
    ) -> Result<()>;

    /// Does what the plan says, and nothing else; notes in `written` what was answered.
    async fn apply(
        &self,
        plan: &Self::Plan,
        written: &mut Self::Written,
        permit: Permit<'_>,
    ) -> Result<()>;

    /// One look at how far the rollout is: facts → verdict.
    ///
    /// # Errors
    /// Superseded when somebody else's change is what runs.
    async fn check_rollout(
        &self,
        plan: &Self::Plan,
        written: &mut Self::Written,
        memory: &mut Self::Memory,
    ) -> Result<Verdict>;

    /// Waits until another look may say something else.
    async fn wait_for_change(&self, _memory: &Self::Memory) {
        tokio::time::sleep(Self::INTERVAL).await;
    }

    /// What is in the way of a version that is not healthy when the time is over, by the last look.
    async fn explain_waiting(&self, _memory: &Self::Memory) -> Vec<Cause> {
        Vec::new()
    }

    /// The smoke check: a request to the service the way its users come. Returns their address.
    async fn verify(&self, plan: &Self::Plan, written: &Self::Written) -> Result<Option<String>>;

    /// Begins the rollback after a failure: makes the writes that bring the last good version back,
    /// as far as that is still ours to say, and notes in `written` what is judged from then on.
    /// Whether it runs again is told by [`Target::check_rollout`] and [`Target::verify`].
    ///
    /// # Errors
    /// Superseded when somebody else's change is what runs.
    async fn roll_back(
        &self,
        plan: &Self::Plan,
        written: &mut Self::Written,
        permit: Permit<'_>,
    ) -> Result<RolledBack>;

    /// Removes what the recorded success left over of older versions.
    async fn clean_up(&self, plan: &Self::Plan, permit: Permit<'_>) -> Result<()>;

    /// Removes a preview: all that is its own, and nothing that others have a part in. Returns what
    /// was removed: nothing where pull requests have no environments.
    async fn remove(
        &self,
        _state: &State<Self::Documents>,
        _permit: Permit<'_>,
    ) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// What runs now, for `status`.
    async fn read_running(&self, state: &State<Self::Documents>) -> Result<Running>;
}
