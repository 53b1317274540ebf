//! A difference between a repository and its settings, and the change that ends it. Pure.

use std::collections::BTreeMap;

/// A change that brings a repository nearer to its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Mutability,
    ScanOnPush,
    Lifecycle(String),
    Tags(BTreeMap<String, String>),
}

impl Change {
    /// The IAM action that the change needs.
    pub fn action(&self) -> &'static str {
        match self {
            Change::Mutability => "ecr:PutImageTagMutability",
            Change::ScanOnPush => "ecr:PutImageScanningConfiguration",
            Change::Lifecycle(_) => "ecr:PutLifecyclePolicy",
            Change::Tags(_) => "ecr:TagResource",
        }
    }

    /// The new lifecycle policy; `None` if the change is another one.
    pub fn lifecycle(&self) -> Option<&str> {
        match self {
            Change::Lifecycle(policy) => Some(policy),
            _ => None,
        }
    }
}

/// One difference between a repository and its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// What the repository has, and what it should have.
    pub what: String,
    pub fix: Fix,
}

/// How a drift ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// `--repair` makes this change.
    Repair(Change),
    /// A person does this instead.
    ByHand(String),
}
