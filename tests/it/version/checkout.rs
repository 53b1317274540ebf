//! `cicd version` in every shape in which a checkout comes.

use super::{SERVICE, found, repository, version};
use crate::support::{Repository, Run, cicd, run};

/// A repository of `count` commits since v1.0.0, the first of them a feature, that serves partial
/// clones.
fn origin(count: usize) -> (Repository, String) {
    let origin = repository("name: patients\nport: 8000\n");
    origin.git(&["tag", "-a", "-m", "first", "v1.0.0"]);
    origin.commit("feat: a");
    for number in 1..count {
        origin.commit(&format!("fix: {number}"));
    }
    for key in ["uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"] {
        origin.git(&["config", key, "true"]);
    }
    let url = format!("file://{}", origin.path().display());
    (origin, url)
}

pub(super) fn cloned(url: &str, arguments: &[&str]) -> Repository {
    let clone = Repository::empty();
    clone.git(&[&["clone", "-q"], arguments, &[url, "."]].concat());
    clone
}

/// What is left out of a clone, among all that its HEAD reaches.
fn left_out(clone: &Repository, kind: &str) -> usize {
    let missing = clone.git(&["rev-list", "--objects", "--all", "--missing=print"]);
    let present = clone.git(&["cat-file", "--batch-all-objects", "--batch-check=%(objecttype)"]);
    match kind {
        "missing" => missing.lines().filter(|line| line.starts_with('?')).count(),
        kind => present.lines().filter(|line| *line == kind).count(),
    }
}

const LATEST: &str = "1.1.0";

#[test]
fn what_a_checkout_lacks_is_fetched_without_trees() {
    let (_origin, url) = origin(4);
    for arguments in [
        &["--depth", "1", "--no-tags"][..],
        &["--depth", "1"],
        &["--depth", "2"],
        &["--depth", "1", "--filter=tree:0"],
        &["--no-tags"],
    ] {
        let clone = cloned(&url, arguments);
        let trees = left_out(&clone, "tree");
        let refs = clone.git(&["for-each-ref", "refs/heads", "refs/remotes"]);
        assert_eq!(found(version(&clone)), (LATEST.into(), true, "v1.0.0".into()), "{arguments:?}");
        assert_eq!(left_out(&clone, "tree"), trees, "no tree came: {arguments:?}");
        assert_eq!(
            clone.git(&["for-each-ref", "refs/heads", "refs/remotes"]),
            refs,
            "{arguments:?}"
        );
        assert_eq!(clone.git(&["status", "--porcelain"]), "", "{arguments:?}");
        // The second time everything is here.
        let away = version_without_git(&clone);
        assert_eq!(found(away), (LATEST.into(), true, "v1.0.0".into()), "{arguments:?}");
    }
}

/// As in the action's own image, which holds no git.
fn version_without_git(repository: &Repository) -> Run {
    run(cicd(repository.path()).args(["version", "--output", "json"]).env("PATH", "/nonexistent"))
}

#[test]
fn enough_history_is_not_fetched() {
    let (origin, url) = origin(4);
    let clone = cloned(&url, &["--depth", "6"]);
    drop(origin);
    assert_eq!(found(version(&clone)), (LATEST.into(), true, "v1.0.0".into()));
}

/// v1.9.0 was tagged after v2.0.0 on one line, so that the nearest version is not the highest.
#[test]
fn a_higher_version_behind_the_end_of_a_checkout_is_found_or_doubted() {
    let origin = repository(SERVICE);
    origin.git(&["tag", "v2.0.0"]);
    for message in ["fix: a", "fix: b", "fix: c"] {
        origin.commit(message);
    }
    origin.git(&["tag", "v1.9.0"]);
    origin.commit("fix: d");
    let url = format!("file://{}", origin.path().display());
    let shallow = || cloned(&url, &["--depth", "3"]);
    assert_eq!(found(version(&shallow())).0, "2.0.1");
    let away = version_without_git(&shallow());
    assert!(away.stderr.contains("warning: the checkout is shallow"), "{away}");
    // The tag alone is no proof, as nobody sees whether HEAD contains it.
    let tagged = shallow();
    tagged.git(&["fetch", "-q", "--depth", "1", "origin", "refs/tags/v2.0.0:refs/tags/v2.0.0"]);
    version_without_git(&tagged).ended(3);
    assert_eq!(found(version(&tagged)).0, "2.0.1");
}

#[test]
fn too_little_history_is_refused_with_the_yaml_to_add() {
    let (origin, url) = origin(4);
    let shallow = || cloned(&url, &["--depth", "1"]);
    let refused = |run: Run, why: &str| {
        let ended = run.ended(3);
        let fix = ended.json()["error"]["fix"].as_str().expect("a fix").to_string();
        assert!(fix.contains("fetch-depth: 0") && fix.contains("filter:"), "{ended}");
        assert!(ended.stderr.contains(why), "{ended}");
    };
    refused(version_without_git(&shallow()), "no git");
    // A plan changes nothing, not even what git has stored.
    let planned = shallow();
    refused(run(cicd(planned.path()).args(["version", "--plan", "--output", "json"])), "shallow");
    assert_eq!(planned.git(&["rev-parse", "--is-shallow-repository"]), "true");
    let lost = shallow();
    drop(origin);
    refused(version(&lost), "does not appear to be a git repository");
    // The base is here, but not all that was merged since.
    let without = cloned(&self::origin(4).1, &["--depth", "3"]);
    refused(version_without_git(&without), "no git");
}

#[test]
fn a_clone_without_trees_is_enough_unless_paths_ask_for_them() {
    let (origin, url) = origin(1);
    for filter in ["--filter=tree:0", "--filter=blob:none"] {
        assert_eq!(
            found(version(&cloned(&url, &[filter]))),
            (LATEST.into(), true, "v1.0.0".into()),
            "{filter}"
        );
    }
    origin.write("api/service.yaml", "name: api\nport: 1\nversion: {prefix: api/v}\n");
    origin.git(&["add", "-A"]);
    origin.commit("feat: api");
    origin.write("api/a.txt", "1");
    origin.git(&["add", "-A"]);
    origin.git(&["tag", "api/v2.0.0"]);
    origin.commit("fix: api");
    let api = |clone: &Repository, git: bool| {
        let mut command = cicd(&clone.path().join("api"));
        if !git {
            command.env("PATH", "/nonexistent");
        }
        run(command.args(["version", "--output", "json"]))
    };
    let latest = ("2.0.1".to_string(), true, "api/v2.0.0".to_string());
    assert_eq!(found(api(&cloned(&url, &["--filter=blob:none"]), false)), latest);
    for arguments in
        [&["--filter=tree:0"][..], &["--depth", "1"], &["--depth", "1", "--filter=tree:0"]]
    {
        let clone = cloned(&url, arguments);
        assert_eq!(found(api(&clone, true)), latest, "{arguments:?}");
        assert_eq!(found(api(&clone, false)), latest, "{arguments:?}");
    }
    let treeless = cloned(&url, &["--filter=tree:0"]);
    let ended = api(&treeless, false).ended(3);
    assert!(ended.json()["error"]["fix"].as_str().expect("a fix").contains("blob:none"), "{ended}");
    drop(origin);
    let ended = api(&treeless, true).ended(3);
    assert!(ended.stderr.contains("does not appear to be a git repository"), "{ended}");
}

#[test]
fn a_repository_without_a_version_is_before_its_first() {
    let origin = repository(SERVICE);
    origin.commit("feat: a");
    let clone = cloned(&format!("file://{}", origin.path().display()), &[]);
    let ended = version(&clone).ended(0);
    assert!(!ended.stderr.contains("no tag"), "the remote said that there is none: {ended}");
    // Nobody can say so: it is taken for the first, and said aloud.
    let ended = version_without_git(&clone).ended(0);
    assert_eq!(ended.json()["version"], "0.1.0");
    assert!(ended.stderr.contains("no tag `v1.2.3` is here"), "{ended}");
}

#[test]
fn checkouts_come_in_every_shape() {
    let repository = repository(SERVICE);
    repository.git(&["tag", "v1.0.0"]);
    let commit = repository.commit("feat: a");
    repository.git(&["checkout", "-q", "--detach"]);
    assert_eq!(found(version(&repository)).0, "1.1.0", "a detached HEAD");

    let worktree = Repository::empty();
    repository.git(&[
        "worktree",
        "add",
        "-q",
        "--detach",
        &worktree.path().join("w").display().to_string(),
        &commit,
    ]);
    let ended = run(cicd(&worktree.path().join("w")).args(["version", "--output", "json"]));
    assert_eq!(found(ended).0, "1.1.0", "a worktree");

    let preview = run(cicd(repository.path())
        .args(["version", "--output", "json"])
        .env("GITHUB_REF", "refs/pull/12/merge"));
    assert_eq!(found(preview), ("1.1.0-pr.12.1".into(), false, "v1.0.0".into()));
    let branch = run(cicd(repository.path())
        .args(["version", "--output", "json"])
        .env("GITHUB_REF", "refs/heads/topic/x"));
    assert_eq!(found(branch), ("1.1.0-topic-x.1".into(), false, "v1.0.0".into()));
}

#[test]
fn a_submodule_has_its_own_history() {
    let inner = repository(SERVICE);
    inner.git(&["tag", "v3.0.0"]);
    inner.commit("fix: a");
    let outer = Repository::new();
    outer.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        &inner.path().display().to_string(),
        "sub",
    ]);
    outer.commit("feat: outer");
    let ended = run(cicd(&outer.path().join("sub")).args(["version", "--output", "json"]));
    assert_eq!(found(ended), ("3.0.1".into(), true, "v3.0.0".into()));
}

#[test]
fn a_sha_256_repository_is_refused() {
    let repository = Repository::empty();
    repository.git(&["init", "-q", "-b", "main", "--object-format=sha256"]);
    repository.write("service.yaml", SERVICE);
    repository.git(&["add", "-A"]);
    repository.commit("feat: a");
    let ended = version(&repository).ended(3);
    assert!(ended.stderr.contains("SHA-256"), "{ended}");
}

#[test]
fn a_trial_merge_is_not_counted() {
    let repository = repository(SERVICE);
    repository.git(&["tag", "v1.0.0"]);
    repository.git(&["checkout", "-q", "-b", "topic"]);
    let head = repository.commit("feat: a");
    repository.git(&["checkout", "-q", "main"]);
    let base = repository.commit("fix: b");
    repository.git(&["checkout", "-q", "--detach"]);
    repository.git(&[
        "merge",
        "-q",
        "--no-ff",
        "-m",
        &format!("Merge {head} into {base}"),
        "topic",
    ]);
    let summary = tempfile::NamedTempFile::new().expect("a file");
    let preview = run(cicd(repository.path())
        .args(["version", "--output", "json"])
        .env("GITHUB_REF", "refs/pull/12/merge")
        .env("GITHUB_BASE_REF", "main")
        .env("GITHUB_HEAD_REF", "topic")
        .env("GITHUB_STEP_SUMMARY", summary.path()));
    assert_eq!(preview.ended(0).json()["version"], "1.1.0-pr.12.2");
    let table = std::fs::read_to_string(summary.path()).expect("a summary");
    assert!(
        table.contains(&format!("| `{}` | **minor** | **feat: a** | type feat |", &head[..7])),
        "{table}"
    );
    assert!(
        table.contains(&format!("| `{}` | patch | fix: b | type fix |", &base[..7])),
        "{table}"
    );
    assert!(!table.contains("Merge "), "{table}");
}

#[test]
fn a_repository_of_another_user_is_read() {
    let repository = repository(SERVICE);
    repository.commit("feat: a");
    // Container actions run as root in a work tree of uid 1001. Only root can give a folder away,
    // so a container does.
    let give = |owner: &str| {
        let mount = format!("{}:/r", repository.path().display());
        let mut docker = std::process::Command::new("docker");
        run(docker.args([
            "run",
            "--rm",
            "-v",
            &mount,
            "python:3.13-slim",
            "chown",
            "-R",
            owner,
            "/r",
        ]))
        .ended(0);
    };
    let mine = repository.owner();
    give("1001:1001");
    let ended = version(&repository);
    give(&mine);
    assert_eq!(found(ended).0, "0.1.0");
}

#[test]
fn no_commit_and_no_repository_are_bad_input() {
    let repository = Repository::new();
    repository.write("service.yaml", SERVICE);
    assert!(version(&repository).ended(2).stderr.contains("no commit"));
    let folder = Repository::empty();
    folder.write("service.yaml", SERVICE);
    assert!(version(&folder).ended(2).stderr.contains("cannot find a git repository"));
}

/// What the step gives when GitHub's runner starts it for a reference.
fn given(repository: &Repository, reference: &str, more: &[(&str, &str)]) -> serde_json::Value {
    let kind = if reference.starts_with("refs/tags/") { "tag" } else { "branch" };
    let mut command = cicd(repository.path());
    command
        .args(["version", "--output", "json"])
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_EVENT_NAME", "push")
        .env("GITHUB_REF", reference)
        .env("GITHUB_REF_TYPE", kind)
        .envs(more.iter().copied());
    run(&mut command).ended(0).json()
}

#[test]
fn only_what_is_on_the_default_branch_is_released_and_deployed() {
    let text = "name: patients\nport: 8000\nenvironments: {staging: {}, production: {}}\n";
    let repository = repository(text);
    repository.git(&["tag", "v1.0.0"]);
    repository.commit("feat: b");
    repository.git(&["tag", "on-main"]);
    repository.commit("feat: c");
    repository.git(&["checkout", "-q", "-b", "topic"]);
    repository.commit("feat!: an experiment");
    repository.git(&["tag", "nightly"]);
    let both = serde_json::json!(["staging", "production"]);
    let none = serde_json::json!([]);
    // reference → whether it is a release, the environments
    let cases = [
        ("refs/heads/main", "main", true, &both),
        ("refs/tags/on-main", "on-main", true, &both),
        ("refs/tags/nightly", "nightly", false, &none),
        ("refs/heads/topic", "topic", false, &none),
    ];
    for (reference, checked_out, release, environments) in cases {
        repository.git(&["checkout", "-q", "--detach", checked_out]);
        let found = given(&repository, reference, &[]);
        let found = (&found["release"], &found["environments"]);
        assert_eq!(found, (&release.into(), environments), "{reference}");
    }
    // The platform may let other branches deploy.
    let platform = Repository::empty();
    platform.write(
        "platform.yaml",
        "registry: {account: '111122223333', region: eu-west-1}\nenvironments:\n  staging: {target: eks, region: eu-west-1, branches: [topic], \
         eks: {cluster: c, namespace: n}}\n",
    );
    let file = platform.path().join("platform.yaml").display().to_string();
    let found = given(&repository, "refs/heads/topic", &[("INPUT_PLATFORM", &file)]);
    assert_eq!(found["environments"], serde_json::json!(["staging"]));
}
