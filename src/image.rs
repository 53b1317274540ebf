//! From sources, or from an image that was built elsewhere, to an image that keeps the platform's
//! contract.

pub mod builder;
pub mod contract;
mod destination;
pub mod import;
pub mod join;
mod pack;
pub mod scaffold;
pub mod suite;
mod work;

pub use destination::Built;
