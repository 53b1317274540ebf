//! What a repository's history says of the version that comes next. Reads, never writes.

use gix::ObjectId;
use semver::Version;

use super::VersionRequest;
use super::bump::{self, Bump, Commit};
use super::history::{self, Tags, VersionTag};
use super::line::{self, Line};
use super::objects::{CommitReader, Failure, Missing};
use super::paths;
use super::walk::Ancestors;
use crate::config::service;
use crate::error::{Error, Result};
use crate::git;

/// How many tags of other histories are looked at for a release that was made beside this one.
const LOOKED_AT: usize = 10;

/// What git knows.
pub struct Observed {
    pub line: Line,
    pub branch: Option<String>,
    pub tags: Tags,
    pub at_head: Option<Version>,
    pub highest: Option<Version>,
    pub base: Option<(String, Version)>,
    pub commits: Vec<Commit>,
    /// The entries of `version.paths` that do not do what they look like.
    pub misnamed: Vec<paths::Misnamed>,
    /// What may be missing, as far as only the remote can tell.
    pub doubt: Option<Missing>,
}

/// A tag and the commit that it stands at.
type Standing<'t> = Option<(&'t VersionTag, ObjectId)>;

/// The versions that commits are counted from.
#[derive(Clone, Copy)]
struct Bases<'t> {
    highest: Standing<'t>,
    base: Standing<'t>,
}

/// Reads what git knows.
///
/// # Errors
/// What is missing, when too little of the history is here; refused, when it cannot be read.
pub fn observe_history(
    repository: &gix::Repository,
    head: &git::Head,
    request: &VersionRequest,
) -> Result<Observed, Failure> {
    let at = ObjectId::from_hex(head.revision.as_bytes())
        .map_err(|error| Error::unexpected("cannot read HEAD").why(error))?;
    let settings = &request.settings;
    let paths = history::resolve_paths(&head.root, &request.folder, &settings.paths)?;
    let branch = request.branch.clone().or_else(|| head.branch.clone());
    let default = request.default_branch.clone().or_else(|| git::read_default_branch(repository));
    let line = match request.of_tag && !is_on_default(repository, head, default.as_deref())? {
        true => Line::Topic,
        false => Line::of(branch.as_deref(), default.as_deref(), settings),
    };
    let tags = history::read_tags(repository, &settings.prefix, request.tags.as_deref())?;
    let shallow = CommitReader::of(repository).is_shallow();

    let search = Search { repository, at, line: &line, tags: &tags.versions, settings, shallow };
    let mut ancestors = Ancestors::of(repository, &[at])?;
    let mut bases = search.find_bases(&mut ancestors)?;
    let mut commits = history::list_commits(repository, at, bases.base.map(|(_, at)| at), &paths)?;
    // A clock that was wrong for long hides a tag from the search, but not from the list.
    let higher = search.list_higher(bases.highest);
    if let Some(found) = history::find_among(repository, &higher, &commits) {
        bases = search.choose_base(&mut ancestors, Some(found))?;
        commits = history::list_commits(repository, at, bases.base.map(|(_, at)| at), &paths)?;
    }
    // GitHub's trial merge of a pull request is nobody's commit.
    if request.pull_request.is_some() && commits.first().is_some_and(is_trial_merge) {
        commits[0].trial = true;
        commits[0].counts = false;
    }
    let doubt = match request.tags {
        None if tags.versions.is_empty() && git::main_remote(repository).is_some() => {
            Some(Missing::Tags)
        }
        None if shallow && bases.highest.is_some() => Some(Missing::Higher),
        _ => None,
    };
    let ours = |(tag, _): &(&VersionTag, ObjectId)| line::is_ours(&tag.version, settings);
    let at_head = [bases.highest, bases.base.filter(ours)];
    let at_head = at_head.into_iter().flatten().find(|(_, commit)| *commit == at);
    Ok(Observed {
        at_head: at_head.map(|(tag, _)| tag.version.clone()),
        highest: bases.highest.map(|(tag, _)| tag.version.clone()),
        base: bases.base.map(|(tag, _)| (tag.name.clone(), tag.version.clone())),
        commits,
        misnamed: paths::find_misnamed(repository, at, &paths),
        doubt,
        line,
        branch,
        tags,
    })
}

/// Whether the default branch has HEAD's commit, as far as this clone knows.
fn is_on_default(
    repository: &gix::Repository,
    head: &git::Head,
    default: Option<&str>,
) -> Result<bool> {
    let holders = git::list_holders(repository, &head.revision)?;
    let is_default = |name: &String| match default {
        Some(default) => name == default,
        None => matches!(name.as_str(), "main" | "master"),
    };
    Ok(holders.iter().any(is_default))
}

/// Whether a commit is `Merge <head> into <base>`, as GitHub makes it for `refs/pull/12/merge`.
fn is_trial_merge(commit: &Commit) -> bool {
    let subject = commit.message.subject.as_str();
    matches!(commit.parents.as_slice(), [base, head] if subject == format!("Merge {head} into {base}"))
}

/// The search for the versions that HEAD contains.
struct Search<'s, 't> {
    repository: &'s gix::Repository,
    at: ObjectId,
    line: &'s Line,
    tags: &'t [VersionTag],
    settings: &'s service::Version,
    shallow: bool,
}

impl<'t> Search<'_, 't> {
    fn find_bases(&self, ancestors: &mut Ancestors<'_>) -> Result<Bases<'t>, Failure> {
        let ours = |version: &Version| line::is_ours(version, self.settings);
        let mut highest = history::find_highest(self.repository, ancestors, self.tags, ours)?;
        if self.shallow {
            // Behind the cut a higher one may be contained as well.
            if highest.is_none() || !self.list_higher(highest).is_empty() {
                return Err(Failure::Missing(Missing::Commits));
            }
        } else if highest.is_none() && self.tags.iter().any(|tag| tag.is_here(self.repository)) {
            // No version at all is not to be blamed on a clock: look to the end.
            ancestors.exhaust()?;
            highest = history::find_highest(self.repository, ancestors, self.tags, ours)?;
        }
        if !self.shallow
            && let Some(beside) = self.find_beside(ancestors, highest)?
        {
            return Ok(Bases { highest: Some(beside), base: Some(beside) });
        }
        self.choose_base(ancestors, highest)
    }

    /// Chooses the version that commits are counted from.
    fn choose_base(
        &self,
        ancestors: &mut Ancestors<'_>,
        highest: Standing<'t>,
    ) -> Result<Bases<'t>, Failure> {
        let mut find = |wanted: &dyn Fn(&Version) -> bool| {
            history::find_highest(self.repository, ancestors, self.tags, wanted)
        };
        let base = match highest {
            // What a prerelease held is not out yet for those who take stable versions.
            Some((tag, _))
                if !tag.version.pre.is_empty() && !matches!(self.line, Line::Channel(_)) =>
            {
                let stable = find(&|version| version.pre.is_empty())?;
                if stable.is_none() && self.shallow {
                    return Err(Failure::Missing(Missing::Commits));
                }
                stable.or(highest)
            }
            // A prerelease of nobody's channel says at least where the numbers are.
            None => find(&|_| true)?,
            highest => highest,
        };
        Ok(Bases { highest, base })
    }

    /// The tags of our versions that are higher than one, the highest first.
    fn list_higher(&self, than: Standing<'t>) -> Vec<&'t VersionTag> {
        let higher = |tag: &&VersionTag| {
            than.is_none_or(|(than, _)| tag.version.cmp_precedence(&than.version).is_gt())
        };
        let ours = |tag: &&VersionTag| line::is_ours(&tag.version, self.settings);
        self.tags.iter().take_while(higher).filter(ours).collect()
    }

    /// Finds a version of this line that a tool released from a commit of its own, on top of a commit
    /// of this history, and never merged: only what releases nothing is in it and not here.
    fn find_beside(
        &self,
        ancestors: &mut Ancestors<'_>,
        highest: Standing<'t>,
    ) -> Result<Standing<'t>> {
        // A topic branch counts from the main line's versions.
        let line = match self.line {
            Line::Topic => &Line::Main,
            line => line,
        };
        let here = |tag: &&VersionTag| line.has(&tag.version) && tag.stands();
        let higher = self.list_higher(highest);
        for tag in higher.into_iter().filter(here).take(LOOKED_AT) {
            let beside = history::list_beside(self.repository, ancestors, tag, self.at)?;
            let Some((at, commits)) = beside else { continue };
            let verdicts = bump::judge_commits(&commits, self.settings);
            if verdicts.iter().all(|verdict| verdict.bump == Bump::None) {
                return Ok(Some((tag, at)));
            }
        }
        Ok(None)
    }
}
