//! `cicd version` on real repositories, in every shape in which a checkout comes.

use crate::support::{Repository, Run, cicd, run};

const SERVICE: &str = "name: patients\nport: 8000\n";

/// A repository with service.yaml committed as `chore: first`.
fn repository(service: &str) -> Repository {
    let repository = Repository::new();
    repository.write("service.yaml", service);
    repository.git(&["add", "-A"]);
    repository.commit("chore: first");
    repository
}

fn version(repository: &Repository) -> Run {
    run(cicd(repository.path()).args(["version", "--output", "json"]))
}

/// The version, whether it is a release, and the tag it came from.
fn found(run: Run) -> (String, bool, String) {
    let json = run.ended(0).json();
    (
        json["version"].as_str().expect("a version").to_string(),
        json["release"].as_bool().expect("a release"),
        json["previous-tag"].as_str().unwrap_or_default().to_string(),
    )
}

#[test]
fn the_base_is_the_highest_version_that_head_contains() {
    // Tags made before the last commit; the version and the base that follow from them.
    let cases: &[(&[&str], &str, &str)] = &[
        (&[], "0.1.0", ""),
        (&["v1.0.0"], "1.0.1", "v1.0.0"),
        (&["v1.9.0", "v1.10.0"], "1.10.1", "v1.10.0"),
        (&["v1.0.0", "v1", "v2", "nightly", "v2.0", "release-9.0.0", "w3.0.0", "vv4.0.0"], "1.0.1", "v1.0.0"),
        (&["v2.0.0-rc.9", "v2.0.0-rc.10"], "2.0.0", "v2.0.0-rc.10"),
        (&["v1.0.0", "v1.0.0-rc.1"], "1.0.1", "v1.0.0"),
    ];
    for (tags, expected, base) in cases {
        let repository = repository(SERVICE);
        for (at, tag) in tags.iter().enumerate() {
            // Annotated and lightweight ones alike.
            let mut arguments = vec!["tag", tag];
            if at % 2 == 1 {
                arguments.extend(["-a", "-m", "a version"]);
            }
            repository.git(&arguments);
        }
        repository.commit("fix: a");
        assert_eq!(found(version(&repository)), (expected.to_string(), true, base.to_string()), "{tags:?}");
    }
}

#[test]
fn a_tag_of_another_branch_is_no_base() {
    let repository = repository(SERVICE);
    repository.git(&["tag", "v1.0.0"]);
    repository.git(&["checkout", "-q", "-b", "other"]);
    repository.commit("feat!: other");
    repository.git(&["tag", "v2.0.0"]);
    repository.git(&["checkout", "-q", "main"]);
    repository.commit("fix: a");
    assert_eq!(found(version(&repository)), ("1.0.1".into(), true, "v1.0.0".into()));
    repository.git(&["merge", "-q", "--no-ff", "-m", "Merge branch 'other'", "other"]);
    assert_eq!(found(version(&repository)), ("2.0.1".into(), true, "v2.0.0".into()));
}

#[test]
fn commits_of_a_merged_branch_count() {
    let repository = repository(SERVICE);
    repository.git(&["tag", "v1.0.0"]);
    repository.git(&["checkout", "-q", "-b", "topic"]);
    repository.commit("feat: topic");
    repository.git(&["checkout", "-q", "main"]);
    repository.commit("fix: main");
    repository.git(&["merge", "-q", "--no-ff", "-m", "Merge branch 'topic'", "topic"]);
    let json = version(&repository).ended(0).json();
    assert_eq!((&json["version"], &json["commits"]), (&"1.1.0".into(), &3.into()));
    assert_eq!(json["deciding-commit"]["subject"], "feat: topic");
}

#[test]
fn head_at_a_tag_is_that_version() {
    let repository = repository(SERVICE);
    repository.git(&["tag", "v1.0.0"]);
    assert_eq!(found(version(&repository)), ("1.0.0".into(), false, "v1.0.0".into()));
}

#[test]
fn only_commits_that_touch_the_paths_count() {
    let repository = Repository::new();
    repository.write("api/service.yaml", "name: api\nport: 1\nversion: {prefix: api/v, paths: [., ../shared]}\n");
    repository.write("web/service.yaml", "name: web\nport: 1\nversion: {prefix: web/v}\n");
    repository.write("shared/a.txt", "1");
    repository.git(&["add", "-A"]);
    repository.commit("chore: first");
    for tag in ["api/v1.0.0", "web/v3.0.0", "api/v1.1.0-not", "v9.0.0"] {
        repository.git(&["tag", tag]);
    }
    let touch = |file: &str, message: &str| {
        repository.write(file, message);
        repository.git(&["add", "-A"]);
        repository.commit(message);
    };
    touch("web/a.txt", "feat!: web");
    touch("shared/a.txt", "fix: shared");
    touch("docs/a.txt", "feat: elsewhere");
    let at = |folder: &str| found(run(cicd(&repository.path().join(folder)).args(["version", "--output", "json"])));
    assert_eq!(at("api"), ("1.1.0".into(), true, "api/v1.1.0-not".into()));
    assert_eq!(at("web"), ("4.0.0".into(), true, "web/v3.0.0".into()));
}

#[test]
fn a_path_outside_the_repository_is_bad_input() {
    let repository = repository("name: p\nport: 1\nversion: {paths: [../..]}\n");
    version(&repository).ended(2);
}

#[test]
fn too_little_history_is_refused_with_the_yaml_to_add() {
    let origin = repository(SERVICE);
    origin.git(&["tag", "v1.0.0"]);
    for subject in ["feat: a", "fix: b", "fix: c"] {
        origin.commit(subject);
    }
    let url = format!("file://{}", origin.path().display());
    for extra in [&["--no-tags"][..], &[]] {
        let clone = Repository::empty();
        let mut arguments = vec!["clone", "-q", "--depth", "1"];
        arguments.extend(extra);
        arguments.extend([url.as_str(), "."]);
        clone.git(&arguments);
        let ended = run(cicd(clone.path()).args(["version", "--output", "json"])).ended(3);
        assert!(ended.json()["error"]["fix"].as_str().expect("a fix").contains("fetch-depth: 0"), "{ended}");
        clone.git(&["fetch", "-q", "--unshallow", "--tags"]);
        assert_eq!(
            found(run(cicd(clone.path()).args(["version", "--output", "json"]))),
            ("1.1.0".into(), true, "v1.0.0".into())
        );
    }
}

#[test]
fn a_clone_without_trees_is_enough() {
    let origin = repository(SERVICE);
    origin.git(&["tag", "v1.0.0"]);
    origin.commit("feat: a");
    origin.git(&["config", "uploadpack.allowFilter", "true"]);
    for filter in ["tree:0", "blob:none"] {
        let clone = Repository::empty();
        clone.git(&["clone", "-q", "--filter", filter, &format!("file://{}", origin.path().display()), "."]);
        assert_eq!(found(version(&clone)), ("1.1.0".into(), true, "v1.0.0".into()), "{filter}");
    }
}

#[test]
fn checkouts_come_in_every_shape() {
    let repository = repository(SERVICE);
    repository.git(&["tag", "v1.0.0"]);
    let commit = repository.commit("feat: a");
    repository.git(&["checkout", "-q", "--detach"]);
    assert_eq!(found(version(&repository)).0, "1.1.0", "a detached HEAD");

    let worktree = Repository::empty();
    repository.git(&["worktree", "add", "-q", "--detach", &worktree.path().join("w").display().to_string(), &commit]);
    let ended = run(cicd(&worktree.path().join("w")).args(["version", "--output", "json"]));
    assert_eq!(found(ended).0, "1.1.0", "a worktree");

    let preview =
        run(cicd(repository.path()).args(["version", "--output", "json"]).env("GITHUB_REF", "refs/pull/12/merge"));
    assert_eq!(found(preview), ("1.1.0-pr.12.1".into(), false, "v1.0.0".into()));
    let branch =
        run(cicd(repository.path()).args(["version", "--output", "json"]).env("GITHUB_REF", "refs/heads/topic/x"));
    assert_eq!(found(branch), ("1.1.0-topic-x.1".into(), false, "v1.0.0".into()));
}

#[test]
fn a_repository_of_another_user_is_read() {
    let repository = repository(SERVICE);
    repository.commit("feat: a");
    // Container actions run as root in a work tree of uid 1001. Only root can give a folder away, so a container does.
    let give = |owner: &str| {
        let mount = format!("{}:/r", repository.path().display());
        let mut docker = std::process::Command::new("docker");
        run(docker.args(["run", "--rm", "-v", &mount, "python:3.13-slim", "chown", "-R", owner, "/r"])).ended(0);
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
    assert!(version(&folder).ended(2).stderr.contains("no git repository"));
}

#[test]
fn explain_says_why_of_every_commit() {
    let repository = repository(SERVICE);
    repository.commit("feat: a");
    repository.commit("docs: b");
    let ended = run(cicd(repository.path()).args(["version", "--explain"])).ended(0);
    assert_eq!(ended.stdout.trim(), "0.1.0");
    for line in ["none  docs: b (type docs)", "minor feat: a (type feat)"] {
        assert!(ended.stderr.contains(line), "{ended}");
    }
    let deciding = ended.stderr.lines().find(|line| line.contains('→')).expect("a deciding commit");
    assert!(deciding.contains("feat: a"), "{ended}");
}
