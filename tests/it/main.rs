//! The one test binary: every capability of `cicd`, from outside, against the real parts of
//! `tests/stack`.
//!
//! One file a capability. What a test needs of the stack comes from the environment that `./dev
//! stack env` prints; a test whose part is missing fails and says so.

#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    reason = "tests start processes, read the stack's environment and fail"
)]

mod act;
mod check;
mod cli;
mod clients;
mod contract;
mod docs;
mod ecs;
mod eks;
mod events;
mod film;
mod fleet;
mod generated;
mod github;
mod house;
mod iam;
mod image;
mod import;
mod init;
mod local;
mod lock;
mod pictures;
mod pipeline;
mod policies;
mod preview;
mod probe;
mod proofs;
mod publish;
mod push;
mod release;
mod rollback;
mod security;
mod signals;
mod suite;
mod support;
mod version;
