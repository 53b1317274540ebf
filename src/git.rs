//! The git repository a service stands in: facts about HEAD that several steps need.

mod reftable;
mod worktree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cli::Environ;
use crate::error::{Error, Result, chain};
use crate::spawn::{self, Tool};
use reftable::References;
pub use worktree::{Difference, LfsPointer, WorkTree, read_work_tree};

/// What is checked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The commit, as 40 hexadecimal digits.
    pub revision: String,
    /// The commit's own time, in seconds since 1970.
    pub time: i64,
    /// The current branch's short name; `None` if HEAD is detached.
    pub branch: Option<String>,
    /// The web address of `origin`, without credentials.
    pub source: Option<String>,
    /// The root of the work tree.
    pub root: PathBuf,
}

/// Opens the repository that holds `path`, also one that another user owns: container actions run
/// as root in the runner's work tree, and reading needs no trust in its configuration.
///
/// # Errors
/// Bad input when `path` is in no repository; refused when it is one of SHA-256.
pub fn open(path: &Path) -> Result<gix::Repository> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let options = gix::open::Options::isolated().open_path_as_is(false);
    let trust = gix::sec::trust::Mapping { full: options.clone(), reduced: options };
    // A folder of the work tree may have all files of a bare repository, with a configuration of
    // its own that nobody looked at; as git's safe.bareRepository=explicit has it.
    let upwards = gix::discover::upwards::Options { dot_git_only: true, ..Default::default() };
    gix::ThreadSafeRepository::discover_opts(&path, upwards, trust)
        .map(|repository| repository.to_thread_local())
        .map_err(|error| {
            let why = chain(&error);
            // The library tells it in words only.
            if why.contains("objectFormat") {
                return Error::refused(format!(
                    "cannot read the repository of {}, which names its objects by SHA-256",
                    path.display()
                ))
                .why(why)
                .fix(
                    "use a SHA-1 repository, the only kind that GitHub has: git init \
                     --object-format=sha1",
                );
            }
            Error::input(format!("cannot find a git repository at {}", path.display())).why(why).fix(
                "run inside a clone, or check out before this step: versions come from git history",
            )
        })
}

/// The argument by which the remote runs its own `git-upload-pack`. The first program that the
/// configuration names would win over a setting.
pub const OWN_UPLOAD_PACK: &str = "--upload-pack=git-upload-pack";

/// The git that is installed here, for what needs its ways to a remote.
///
/// The configuration of the repository is data of whoever made the folder, so it starts no program:
/// no hook, no file system monitor, no `upload-pack` of its own. Its credential helper and SSH
/// command count only in GitHub Actions, where the checkout step leaves them; elsewhere those of
/// the user do.
#[derive(Clone, Debug)]
pub struct Git {
    environment: Vec<(String, String)>,
    settings: Vec<String>,
}

impl Git {
    pub fn new(environ: &Environ) -> Git {
        let mut settings: Vec<String> = [
            "safe.bareRepository=explicit",
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "core.alternateRefsCommand=true",
            "maintenance.auto=false",
            "gc.auto=0",
        ]
        .map(str::to_string)
        .into();
        if !environ.on_github() {
            settings.extend(users_own_programs(environ));
        }
        let mut environment = spawn::select_environment(environ, Tool::Git);
        let mut set = |name: &str, value: &str| {
            environment.retain(|(known, _)| known != name);
            environment.push((name.into(), value.into()));
        };
        // Nobody is there to answer a question, and what git says is read by people who may not
        // share its language.
        set("GIT_TERMINAL_PROMPT", "0");
        // It would ask the remote again, by the `upload-pack` of the configuration.
        set("GIT_NO_LAZY_FETCH", "1");
        set("LC_ALL", "C");
        if environ.get("GIT_ALLOW_PROTOCOL").is_none() {
            set("GIT_ALLOW_PROTOCOL", "file:http:https:ssh");
        }
        // An empty one keeps git from asking the configuration for another.
        if environ.get("GIT_ASKPASS").is_none() {
            set("GIT_ASKPASS", "");
        }
        Git { environment, settings }
    }

    /// A command of git in a work tree, to which its arguments are added; to what talks to a remote
    /// also [`OWN_UPLOAD_PACK`].
    pub fn command(&self, root: &Path) -> tokio::process::Command {
        let mut command = spawn::prepare_command("git", &self.environment);
        command.current_dir(root);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command
    }
}

/// The SSH command and the credential helpers of the user, as settings that replace those of a
/// repository. An empty helper forgets all before it.
/// <https://git-scm.com/docs/gitcredentials#_configuration_options>
fn users_own_programs(environ: &Environ) -> Vec<String> {
    let global = gix::config::File::from_globals().ok();
    let ssh = global.as_ref().and_then(|file| file.string("core.sshCommand"));
    let ssh = ssh.map(|command| command.to_string());
    let ssh = environ.get("GIT_SSH").map(str::to_string).or(ssh);
    let mut settings = vec![format!("core.sshCommand={}", ssh.unwrap_or_else(|| "ssh".into()))];
    settings.push("credential.helper=".into());
    let sections = global.iter().flat_map(|file| file.sections_by_name("credential"));
    for section in sections.into_iter().flatten() {
        let place = section.header().subsection_name();
        let key =
            place.map_or("credential.helper".into(), |url| format!("credential.{url}.helper"));
        let helpers = section.values("helper");
        settings.extend(helpers.into_iter().map(|helper| format!("{key}={helper}")));
    }
    settings.extend(helpers_of_environment(environ));
    settings
}

/// The credential helpers that the environment names.
/// <https://git-scm.com/docs/git-config#ENVIRONMENT>
fn helpers_of_environment(environ: &Environ) -> Vec<String> {
    let count = environ.get("GIT_CONFIG_COUNT").and_then(|count| count.parse().ok());
    let setting = |number: u16| {
        let key = environ.get(&format!("GIT_CONFIG_KEY_{number}"))?;
        let value = environ.get(&format!("GIT_CONFIG_VALUE_{number}")).unwrap_or_default();
        let is_helper = key.starts_with("credential.") && key.ends_with(".helper");
        is_helper.then(|| format!("{key}={value}"))
    };
    (0..count.unwrap_or(0)).filter_map(setting).collect()
}

/// Reads HEAD.
///
/// # Errors
/// Bad input when there is no commit yet.
pub fn head(repository: &gix::Repository) -> Result<Head> {
    let no_commit = |error: String| {
        Error::input("cannot read HEAD: the repository has no commit")
            .why(error)
            .fix("commit first: a version is the version of a commit")
    };
    let references = read_reftable(repository)?;
    let (commit, branch) = match &references {
        Some(references) => {
            let (name, id) = reftable::follow_reference(references, "HEAD")
                .ok_or_else(|| no_commit("HEAD stands nowhere".into()))?;
            let id = gix::ObjectId::from_hex(id.as_bytes())
                .map_err(|error| no_commit(error.to_string()))?;
            let commit = repository.find_commit(id).map_err(|error| no_commit(chain(&error)))?;
            (commit, name.strip_prefix("refs/heads/").map(str::to_string))
        }
        None => {
            let commit = repository.head_commit().map_err(|error| no_commit(chain(&error)))?;
            let name = repository.head_name().ok().flatten();
            (commit, name.map(|name| name.shorten().to_string()))
        }
    };
    // Old importers left commits without a date, which git takes for 1970.
    let time = commit.time().map_or(0, |time| time.seconds);
    let source = repository
        .find_remote("origin")
        .ok()
        .and_then(|remote| {
            remote.url(gix::remote::Direction::Fetch).map(|url| url.to_bstring().to_string())
        })
        .and_then(|url| web_address(&url));
    let root =
        repository.workdir().map_or_else(|| repository.git_dir().to_path_buf(), Path::to_path_buf);
    Ok(Head { revision: commit.id().to_string(), time, branch, source, root })
}

/// The remote that a clone came from: `origin`, or the first of those of other names.
pub fn main_remote(repository: &gix::Repository) -> Option<String> {
    let names = repository.remote_names();
    let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.retain(|name| !name.starts_with('-'));
    names.iter().find(|name| *name == "origin").or(names.first()).cloned()
}

/// Refuses a history that is changed by the list of grafts, which git reads and the library does
/// not. <https://git-scm.com/docs/git-replace#Documentation/git-replace.txt---convert-graft-file>
///
/// # Errors
/// Refused, when there is such a list.
pub fn refuse_grafts(repository: &gix::Repository) -> Result<()> {
    let file = repository.common_dir().join("info/grafts");
    let list = crate::inside::read_bytes(&file).unwrap_or_default();
    let is_graft = |line: &[u8]| !line.trim_ascii().is_empty() && !line.starts_with(b"#");
    if !list.split(|byte| *byte == b'\n').any(is_graft) {
        return Ok(());
    }
    Err(Error::refused("cannot read a history with grafts")
        .why(format!("{} gives commits other parents", file.display()))
        .fix("turn them into replaced commits: git replace --convert-graft-file"))
}

/// Lists the tags: the name of each without `refs/tags/`, and the object that it stands at.
///
/// # Errors
/// Unexpected, when the references cannot be read.
pub fn list_tags(repository: &gix::Repository) -> Result<Vec<(String, gix::ObjectId)>> {
    if let Some(references) = read_reftable(repository)? {
        let tag = |name: &'_ String| -> Option<(String, gix::ObjectId)> {
            let (_, id) = reftable::follow_reference(&references, name)?;
            let short = name.strip_prefix("refs/tags/")?.to_string();
            Some((short, gix::ObjectId::from_hex(id.as_bytes()).ok()?))
        };
        return Ok(references.keys().filter_map(tag).collect());
    }
    let unreadable =
        |error: gix::Error| Error::unexpected("cannot read the tags").why(chain(&error));
    let platform = repository.references().map_err(unreadable)?;
    let mut tags = Vec::new();
    for tag in platform.tags().map_err(unreadable)? {
        // One that is passed over may be the last version's.
        let mut tag = tag.map_err(|error| {
            Error::refused("cannot read a tag").why(chain(&error)).fix(
                "delete the file of that name below .git/refs/tags, and fetch again: git fetch \
                 --tags",
            )
        })?;
        let name = tag.name().shorten().to_string();
        // A name for another reference stands where that does; where it does not, nowhere.
        tags.extend(tag.follow_to_object().ok().map(|id| (name, id.detach())));
    }
    Ok(tags)
}

/// Lists the files of the index that are wanted, by their paths from the root of the work tree.
pub fn list_tracked(
    repository: &gix::Repository,
    is_wanted: impl Fn(&Path) -> bool,
) -> Vec<PathBuf> {
    let Ok(index) = repository.index_or_empty() else { return Vec::new() };
    let paths = index.entries().iter().map(|entry| PathBuf::from(entry.path(&index).to_string()));
    paths.filter(|path| is_wanted(path)).collect()
}

/// Lists the branches: the name of each, and the commit that it stands at. Where the remote has a
/// branch too, it stands where the remote's does.
///
/// # Errors
/// Unexpected, when the references cannot be read.
pub fn list_branches(repository: &gix::Repository) -> Result<BTreeMap<String, String>> {
    let mut branches = BTreeMap::new();
    let references = read_reftable(repository)?;
    for prefix in ["refs/heads/", "refs/remotes/origin/"] {
        if let Some(references) = &references {
            for name in references.keys().filter(|name| name.starts_with(prefix)) {
                if let Some((_, id)) = reftable::follow_reference(references, name) {
                    branches.insert(name[prefix.len()..].to_string(), id.to_string());
                }
            }
            continue;
        }
        let unreadable =
            |error: gix::Error| Error::unexpected("cannot read the branches").why(chain(&error));
        let platform = repository.references().map_err(unreadable)?;
        let found = platform.prefixed(prefix).map_err(unreadable)?;
        for mut reference in found.filter_map(std::result::Result::ok) {
            let name = reference.name().as_bstr().to_string();
            if let Ok(id) = reference.peel_to_id() {
                branches.insert(name[prefix.len()..].to_string(), id.to_string());
            }
        }
    }
    branches.remove("HEAD");
    Ok(branches)
}

/// Lists the branches that have a commit, as far as this clone knows.
///
/// # Errors
/// Unexpected, when the references cannot be read.
pub fn list_holders(repository: &gix::Repository, commit: &str) -> Result<Vec<String>> {
    let has = |tip: &str| is_ancestor(repository, commit, tip) == Some(true);
    let branches = list_branches(repository)?.into_iter();
    Ok(branches.filter(|(_, tip)| has(tip)).map(|(name, _)| name).collect())
}

/// Reads the default branch of the remote, as a clone remembers it.
pub fn read_default_branch(repository: &gix::Repository) -> Option<String> {
    const HEAD: &str = "refs/remotes/origin/HEAD";
    let name = match read_reftable(repository).ok()? {
        Some(references) => match references.get(HEAD)? {
            reftable::Target::Symbolic(name) => name.clone(),
            reftable::Target::Object(_) => return None,
        },
        None => {
            let head = repository.find_reference(HEAD).ok()?;
            head.target().try_name()?.as_bstr().to_string()
        }
    };
    name.strip_prefix("refs/remotes/origin/").map(str::to_string)
}

/// Reads the references of a repository that keeps them in a reftable; `None` where they are files.
/// A linked work tree has a table of its own beside the common one.
///
/// # Errors
/// Refused, when the table cannot be read.
fn read_reftable(repository: &gix::Repository) -> Result<Option<References>> {
    let common = repository.common_dir().join("reftable");
    if !common.is_dir() {
        return Ok(None);
    }
    let own = repository.git_dir().join("reftable");
    let mut references = References::new();
    for folder in [Some(&common), Some(&own).filter(|own| **own != common)].into_iter().flatten() {
        let refused = |file: &Path, why: String| {
            Error::refused(format!("cannot read the references in {}", file.display()))
                .why(why)
                .fix("store the references as files: git refs migrate --ref-format=files")
        };
        let list = folder.join("tables.list");
        let names =
            std::fs::read_to_string(&list).map_err(|error| refused(&list, error.to_string()))?;
        for name in names.lines().filter(|name| !name.contains('/')) {
            let file = folder.join(name);
            let bytes = std::fs::read(&file).map_err(|error| refused(&file, error.to_string()))?;
            reftable::add_table(&bytes, &mut references)
                .ok_or_else(|| refused(&file, "it is no reftable of SHA-1 ids".into()))?;
        }
    }
    if references.keys().any(|name| name.starts_with("refs/replace/")) {
        return Err(Error::refused("cannot read replaced commits from a reftable")
            .fix("store the references as files: git refs migrate --ref-format=files"));
    }
    Ok(Some(references))
}

/// Whether commit `one` is an ancestor of commit `other`. `None` if the clone does not have both, or
/// is cut off between them.
pub fn is_ancestor(repository: &gix::Repository, one: &str, other: &str) -> Option<bool> {
    let id = |text: &str| gix::ObjectId::from_hex(text.as_bytes()).ok();
    let (one, other) = (id(one)?, id(other)?);
    let has = |id: gix::ObjectId| repository.find_commit(id).is_ok();
    if !has(one) || !has(other) {
        return None;
    }
    let base = repository.merge_base(one, other).map(|base| base.map(gix::Id::detach)).ok()?;
    match base {
        Some(base) => Some(base == one),
        // In a shallow clone the common commit may lie behind the cut.
        None if repository.is_shallow().unwrap_or(true) => None,
        None => Some(false),
    }
}

/// When a commit was committed, by its author's machine; `None` if the clone does not have it, or it
/// has no date.
pub fn time_of_commit(repository: &gix::Repository, commit: &str) -> Option<jiff::Timestamp> {
    let id = gix::ObjectId::from_hex(commit.as_bytes()).ok()?;
    let seconds = repository.find_commit(id).ok()?.time().ok()?.seconds;
    jiff::Timestamp::from_second(seconds).ok().filter(|_| seconds > 0)
}

/// How many commits the history of a commit has, itself included; `None` if the clone does not have all
/// of them.
pub fn count_commits(repository: &gix::Repository, commit: &str) -> Option<u64> {
    if repository.is_shallow().unwrap_or(true) {
        return None;
    }
    let id = gix::ObjectId::from_hex(commit.as_bytes()).ok()?;
    let mut count = 0;
    for commit in repository.rev_walk([id]).all().ok()? {
        commit.ok()?;
        count += 1;
    }
    Some(count)
}

/// The repository's default branch: what `origin` says, else the one of the usual names; `None` if
/// neither tells.
pub fn default_branch(path: &Path) -> Option<String> {
    let repository = open(path).ok()?;
    let branches = list_branches(&repository).unwrap_or_default();
    let usual = || ["main", "master"].into_iter().find(|name| branches.contains_key(*name));
    read_default_branch(&repository).or_else(|| usual().map(str::to_string))
}

/// The web address of a remote: `git@github.com:o/r.git` and `https://token@github.com/o/r.git` are
/// `https://github.com/o/r`.
fn web_address(url: &str) -> Option<String> {
    let url = url.strip_suffix(".git").unwrap_or(url);
    let rest = match url.split_once("://") {
        Some(("https" | "http" | "ssh", rest)) => rest.to_string(),
        Some(_) => return None,
        None => {
            let (host, path) = url.split_once(':')?;
            format!("{host}/{path}")
        }
    };
    let (host, path) = rest.split_once('/')?;
    let host = host.rsplit('@').next().unwrap_or(host);
    let host = host.split(':').next().unwrap_or(host);
    (!host.is_empty() && !path.is_empty()).then(|| format!("https://{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_has_a_web_address_without_credentials() {
        let cases = [
            (
                "git@github.com:clinicult/patients.git",
                Some("https://github.com/clinicult/patients"),
            ),
            (
                "https://x-access-token:secret@github.com/clinicult/patients",
                Some("https://github.com/clinicult/patients"),
            ),
            (
                "ssh://git@github.com:22/clinicult/patients.git",
                Some("https://github.com/clinicult/patients"),
            ),
            (
                "https://github.com/clinicult/patients.git",
                Some("https://github.com/clinicult/patients"),
            ),
            ("/srv/patients.git", None),
            ("file:///srv/patients.git", None),
            ("", None),
        ];
        for (url, expected) in cases {
            assert_eq!(web_address(url).as_deref(), expected, "{url}");
        }
    }
}
