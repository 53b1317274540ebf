//! GitHub's side of a run: what the runner hands in and reads back, the OIDC token, the API.

pub mod api;
pub mod oidc;
pub mod runner;
