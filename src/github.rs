//! GitHub's side of a run: what the runner hands in and reads back, the OIDC token, the API.
//!
//! [`client`] speaks its REST API within our bounds; [`refusal`] classifies what GitHub answers;
//! [`api`] reads files and [`repository`] reads and writes tags and releases, [`publication`] what a
//! release has beside its commit, [`comments`] what is said on a pull request, [`deployments`] what
//! is said of a deploy.

pub mod api;
pub mod client;
pub mod comments;
pub mod deployments;
pub mod oidc;
pub mod publication;
pub mod refusal;
pub mod repository;
pub mod runner;
