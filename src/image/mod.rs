//! From sources to an image that keeps the platform's contract.

pub mod build;
pub mod contract;
pub mod scaffold;
