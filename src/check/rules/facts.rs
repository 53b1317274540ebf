//! What the rules for a Dockerfile look at. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::dockerfile::{Dockerfile, Instruction, Stage};
use crate::check::shipped::ShippedImage;

/// The paths of a build context, folders included, `/` between their parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContextFiles {
    pub paths: BTreeSet<String>,
    /// What git leaves out, when there is a .gitignore.
    pub git_ignore: Option<String>,
}

/// What rules look at.
#[derive(Clone, Debug)]
pub struct DockerfileFacts<'a> {
    pub dockerfile: &'a Dockerfile,
    /// `image.target` of service.yaml.
    pub target: Option<&'a str>,
    /// `image.build-args` of service.yaml.
    pub arguments: BTreeMap<String, String>,
    pub port: u16,
    /// The text of .dockerignore, when there is one.
    pub ignore: Option<&'a str>,
    /// What is in the context; `None` if it is too large to be looked through.
    pub context: Option<ContextFiles>,
}

impl DockerfileFacts<'_> {
    pub fn shipped(&self) -> Vec<Stage<'_>> {
        self.dockerfile.shipped(self.target)
    }

    pub fn image(&self) -> ShippedImage {
        self.dockerfile.ship(self.target, &self.arguments)
    }

    /// The last instruction of that kind that holds in the shipped image.
    pub fn last(&self, keyword: &str) -> Option<&Instruction> {
        let stages = self.dockerfile.shipped(self.target);
        let found = stages
            .iter()
            .find_map(|stage| stage.instructions.iter().rev().find(|one| one.keyword == keyword))?;
        self.dockerfile.instructions.iter().find(|one| one.line == found.line)
    }

    pub fn all<'a>(&'a self, keywords: &'a [&str]) -> impl Iterator<Item = &'a Instruction> {
        self.dockerfile.instructions.iter().filter(|one| keywords.contains(&one.keyword.as_str()))
    }
}

/// What a rule says of one line: the line, what is there, what to write instead.
pub type Said = (u64, String, String);
