//! How a repository in ECR should be, and what its lifecycle policy keeps. Pure.

pub mod drift;
pub mod lifecycle;
pub mod plan;
