//! Which services of a repository the commits of a run touch. Reads trees, never files.

use std::path::PathBuf;

use gix::ObjectId;

use super::history::resolve_paths;
use super::objects::Failure;
use super::paths::{PathRule, Touched, judge_touched};
use super::refuse_missing;
use crate::error::Result;
use crate::git;

/// What a service is made of.
pub struct ServicePaths {
    /// Its service.yaml, which counts whatever `paths` say.
    pub file: PathBuf,
    /// Its `version.paths`, relative to that.
    pub paths: Vec<PathBuf>,
}

/// Judges of each service whether it differs between HEAD and the commit that a run's changes come
/// after. A merge that a pull request is tried by is compared with its first parent: `base` is told
/// once, and its branch goes on. All differ where that commit is not known or not here.
///
/// # Errors
/// Bad input when a path leads out of the repository; refused when the checkout has no trees.
pub fn find_changed(
    repository: &gix::Repository,
    base: Option<&str>,
    of_pull_request: bool,
    services: &[ServicePaths],
) -> Result<Vec<bool>> {
    let head = git::head(repository)?;
    let is_here = |id: &ObjectId| repository.find_commit(*id).is_ok();
    let commit = |hex: &str| ObjectId::from_hex(hex.as_bytes()).ok().filter(is_here);
    let everything = || Ok(vec![true; services.len()]);
    let Some(at) = commit(&head.revision) else { return everything() };
    let is_merge = repository.find_commit(at).is_ok_and(|commit| commit.parent_ids().count() > 1);
    let base = match of_pull_request && is_merge {
        true => Touched::of(repository, at).ok().and_then(|merge| merge.first_parent()),
        false => base.and_then(commit),
    };
    let Some(base) = base.filter(is_here) else { return everything() };
    let judge = |service: &ServicePaths| -> Result<bool> {
        let folder = service.file.parent().map(PathBuf::from).unwrap_or_default();
        let mut rules = resolve_paths(&head.root, &folder, &service.paths)?;
        if rules.is_empty() {
            return Ok(true);
        }
        let own = service.file.file_name().map(PathBuf::from).unwrap_or_default();
        rules.extend::<Vec<PathRule>>(resolve_paths(&head.root, &folder, &[own])?);
        let touched = Touched::since(repository, base, at)
            .and_then(|touched| judge_touched(repository, &rules, &[touched]));
        match touched {
            Ok(touched) => Ok(touched.contains(&true)),
            Err(Failure::Missing(missing)) => Err(refuse_missing(missing)),
            Err(Failure::Error(error)) => Err(error),
        }
    };
    services.iter().map(judge).collect()
}
