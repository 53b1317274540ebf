//! The Docker engine of this machine, for the steps that run containers on it.
//!
//! [`Engine`] is the face: `api` has its images and the life of its containers, `look` what can be
//! seen of a running one, `watch` one that runs to its end, `network` where it is reached, `convert` the SDK's types as ours.
//! [`archive`] turns a layout into what the engine loads, [`diagnosis`] says why a container is not
//! healthy, and [`processes`] reads what a running one tells.

mod api;
mod archive;
mod convert;
pub mod diagnosis;
mod look;
mod network;
pub mod processes;
mod watch;

use std::collections::BTreeMap;
use std::time::Duration;

pub use api::{Engine, read_version};

use crate::error::{Error, Result};

/// How long `docker stop` waits for a service to end by itself, as Docker does by default.
pub const GRACE: Duration = Duration::from_secs(10);

/// How long to wait for containers to be removed; GitHub's runner gives 7.5 s after SIGINT.
pub const REMOVAL_TIMEOUT: Duration = Duration::from_secs(5);

/// The exit code of what SIGKILL ended: 128 and the signal's number.
pub const KILLED: i64 = 137;

/// How many of a container's last log lines a failure shows.
pub const LOG_TAIL: usize = 20;

/// An engine's version, `28.0.4`, and its API's, `1.48`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub engine: String,
    pub api: String,
}

/// A container to run. It holds values of secrets, so it is never shown.
#[derive(Clone)]
pub struct Spec {
    pub name: String,
    /// The engine's own identifier of an image, as [`Engine::load`] gives it.
    pub image: String,
    /// Instead of the image's own command.
    pub command: Option<Vec<String>>,
    pub env: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// The port inside the container.
    pub port: Option<u16>,
    /// Whether everything on this machine reaches the port, on 127.0.0.1 and a free port that the
    /// engine chooses. Otherwise it is published only where this process has no other way to it:
    /// publishing takes time.
    pub published: bool,
    /// In MiB. What uses more is killed.
    pub memory: u32,
}

/// A container as the engine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub name: String,
    /// The engine's identifier of its image.
    pub image: String,
    pub labels: BTreeMap<String, String>,
    pub state: State,
    /// The port on 127.0.0.1 of the machine the engine runs on.
    pub published: Option<u16>,
    /// The port inside that is published.
    pub port: Option<u16>,
    /// Its address in this process's network, when it is in there.
    pub address: Option<String>,
    /// The address by which the platform's probes would know it: in any network of the engine.
    pub own_address: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, and not started yet.
    Created,
    Running,
    Ended {
        exit_code: i64,
        out_of_memory: bool,
        /// The engine's words when it could not start the command at all.
        error: Option<String>,
    },
}

/// What came back from one GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Status(u16),
    /// Nothing, and why.
    Silence(String),
}

impl Answer {
    /// 2xx.
    pub fn is_well(&self) -> bool {
        matches!(self, Answer::Status(200..=299))
    }
}

/// What further requests showed of a container that does not answer a probe well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clues {
    /// Where a redirect leads.
    pub location: Option<String>,
    /// The beginning of the probe's answer.
    pub body: String,
    /// The answer to the same request for `localhost`.
    pub by_localhost: Option<Answer>,
    /// The answer to the same request as a proxy hands it on that takes HTTPS.
    pub by_forwarded_https: Option<Answer>,
    /// Whether the port speaks TLS.
    pub speaks_tls: bool,
}

/// A whole answer to one GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub status: u16,
    /// Its beginning.
    pub body: String,
}

/// How a container ended that was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    pub after: Duration,
    /// It did not end by itself in time.
    pub killed: bool,
}

/// A name nobody else uses: `prefix-` and eight hexadecimal digits.
///
/// # Errors
/// Unexpected, when the system has no random bytes.
pub fn unique(prefix: &str) -> Result<String> {
    let mut bytes = [0_u8; 4];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Error::unexpected("cannot make a name: the system gave no random bytes"))?;
    Ok(bytes.iter().fold(format!("{prefix}-"), |name, byte| name + &format!("{byte:02x}")))
}
