//! `cicd version` on real repositories: lines of versions, paths, clocks.

mod checkout;
mod habits;
mod messages;
mod services;

use crate::support::{Repository, Run, cicd, run};
use checkout::cloned;

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
        (
            &["v1.0.0", "v1", "v2", "nightly", "v2.0", "release-9.0.0", "w3.0.0", "vv4.0.0"],
            "1.0.1",
            "v1.0.0",
        ),
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
        assert_eq!(
            found(version(&repository)),
            (expected.to_string(), true, base.to_string()),
            "{tags:?}"
        );
    }
}

#[test]
fn a_tag_of_a_tag_and_several_of_a_commit_are_bases() {
    let repository = repository("name: p\nport: 1\nversion: {prefix: svc-v}\n");
    for (tag, of) in [
        ("svc-v1.0.0", "HEAD"),
        ("svc-v1.2.0", "svc-v1.0.0"),
        ("svc-v2-v9.0.0", "HEAD"),
        ("svc-v1.1.0", "HEAD"),
    ] {
        repository.git(&["tag", "-a", "-m", "a version", tag, of]);
    }
    repository.git(&["tag", "svc-v7.0.0", "HEAD^{tree}"]);
    assert_eq!(found(version(&repository)), ("1.2.0".into(), false, "svc-v1.2.0".into()));
    repository.commit("fix: a");
    assert_eq!(found(version(&repository)), ("1.2.1".into(), true, "svc-v1.2.0".into()));
    repository.git(&["pack-refs", "--all"]);
    assert_eq!(found(version(&repository)), ("1.2.1".into(), true, "svc-v1.2.0".into()));
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
    repository.write(
        "api/service.yaml",
        "name: api\nport: 1\nversion: {prefix: api/v, paths: [., ../shared]}\n",
    );
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
    let at = |folder: &str| {
        found(run(cicd(&repository.path().join(folder)).args(["version", "--output", "json"])))
    };
    assert_eq!(at("api"), ("1.0.1".into(), true, "api/v1.0.0".into()), "`not` is no channel");
    assert_eq!(at("web"), ("4.0.0".into(), true, "web/v3.0.0".into()));
}

#[test]
fn a_path_outside_the_repository_is_bad_input() {
    let repository = repository("name: p\nport: 1\nversion: {paths: [../..]}\n");
    version(&repository).ended(2);
}

#[test]
fn a_merge_counts_by_all_that_it_brings_and_an_evil_one_too() {
    let repository = Repository::new();
    repository.write("api/service.yaml", "name: api\nport: 1\n");
    repository.write("web/a.txt", "1");
    repository.git(&["add", "-A"]);
    repository.commit("chore: first");
    repository.git(&["tag", "v1.0.0"]);
    let api = || run(cicd(&repository.path().join("api")).args(["version", "--output", "json"]));
    // A branch that touches web only, and a merge that touches api although no commit did.
    repository.git(&["checkout", "-q", "-b", "topic"]);
    repository.write("web/a.txt", "2");
    repository.git(&["add", "-A"]);
    repository.commit("feat!: web");
    repository.git(&["checkout", "-q", "main"]);
    let merge = |message: &str, file: Option<&str>| {
        repository.git(&["merge", "-q", "--no-ff", "--no-commit", "topic"]);
        if let Some(file) = file {
            repository.write(file, message);
        }
        repository.git(&["add", "-A"]);
        repository.commit(message);
    };
    merge("Merge pull request #1 from o/topic\n\nfeat: nothing of api", None);
    let json = api().ended(0).json();
    assert_eq!((&json["commits"], &json["release"]), (&0.into(), &false.into()), "{json}");
    assert_eq!(json["version"], "1.0.1-main.2", "another commit is another version");
    repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    merge("Merge pull request #1 from o/topic\n\nfeat: api on the way", Some("api/evil.txt"));
    let json = api().ended(0).json();
    assert_eq!((&json["version"], &json["commits"]), (&"1.1.0".into(), &1.into()), "{json}");
    assert_eq!(json["deciding-commit"]["subject"], "feat: api on the way");
}

#[test]
fn a_folder_is_followed_to_where_it_was() {
    let repository = Repository::new();
    for file in ["a.txt", "b.txt", "c/d.txt"] {
        repository.write(&format!("api/{file}"), file);
        repository.write(&format!("web/{file}"), &format!("web {file}"));
    }
    repository.write("api/service.yaml", "name: api\nport: 1\n");
    repository.git(&["add", "-A"]);
    repository.commit("chore: first");
    repository.git(&["tag", "v1.0.0"]);
    let change = |file: &str, message: &str| {
        repository.write(file, message);
        repository.git(&["add", "-A"]);
        repository.commit(message);
    };
    change("api/a.txt", "feat: before the move");
    change("web/a.txt", "feat!: of another");
    std::fs::create_dir(repository.path().join("services")).expect("a folder");
    repository.git(&["mv", "api", "services/api"]);
    // Not all of it moved as it was.
    change("services/api/b.txt", "refactor: move api");
    let json =
        run(cicd(&repository.path().join("services/api")).args(["version", "--output", "json"]))
            .ended(0)
            .json();
    assert_eq!((&json["version"], &json["commits"]), (&"1.1.0".into(), &2.into()), "{json}");
    assert_eq!(json["deciding-commit"]["subject"], "feat: before the move");
}

#[test]
fn branches_have_their_versions() {
    let repository =
        repository("name: patients\nport: 8000\nversion: {channels: {develop: dev}}\n");
    repository.git(&["tag", "v1.3.0"]);
    let commit = |branch: &str, message: &str| {
        repository.git(&["checkout", "-q", "-B", branch]);
        repository.commit(message);
    };
    let here = || found(version(&repository));
    commit("develop", "feat: a");
    assert_eq!(here(), ("1.4.0-dev.1".into(), true, "v1.3.0".into()));
    repository.git(&["tag", "v1.4.0-dev.1"]);
    assert_eq!(here(), ("1.4.0-dev.1".into(), false, "v1.4.0-dev.1".into()), "it is released");
    commit("develop", "docs: b");
    assert_eq!(here(), ("1.4.0-dev.1.1".into(), false, "v1.4.0-dev.1".into()));
    commit("develop", "fix: c");
    assert_eq!(here(), ("1.4.0-dev.2".into(), true, "v1.4.0-dev.1".into()));
    // What was a prerelease becomes stable where it is merged.
    repository.git(&["checkout", "-q", "main"]);
    repository.git(&["merge", "-q", "--no-ff", "-m", "Merge branch 'develop'", "develop"]);
    assert_eq!(here(), ("1.4.0".into(), true, "v1.3.0".into()));
    repository.git(&["tag", "v1.4.0"]);
    // A maintenance branch stays below its ceiling.
    repository.git(&["checkout", "-q", "-b", "1.3.x", "v1.3.0"]);
    repository.commit("fix: d");
    assert_eq!(here(), ("1.3.1".into(), true, "v1.3.0".into()));
    repository.commit("feat: e");
    let ended = version(&repository).ended(3);
    let error = &ended.json()["error"];
    assert!(
        error["message"].as_str().is_some_and(|text| text.contains(">=1.3.0 <1.4.0")),
        "{ended}"
    );
    assert!(ended.stderr.contains("feat: e"), "{ended}");
}

#[test]
fn the_default_branch_is_the_main_line() {
    let origin = Repository::empty();
    origin.git(&["init", "-q", "-b", "trunk"]);
    origin.write("service.yaml", SERVICE);
    origin.git(&["add", "-A"]);
    origin.commit("feat: a");
    assert_eq!(found(version(&origin)).0, "0.1.0-trunk.1", "nobody says that it is one");
    let clone = cloned(&format!("file://{}", origin.path().display()), &[]);
    assert_eq!(found(version(&clone)).0, "0.1.0", "a clone remembers");
    origin.write("event.json", r#"{"repository": {"default_branch": "trunk"}}"#);
    let run = run(cicd(origin.path())
        .args(["version", "--output", "json"])
        .env("GITHUB_EVENT_PATH", "event.json"));
    assert_eq!(found(run).0, "0.1.0", "the event says");
}

#[test]
fn a_run_that_comes_late_makes_no_version_of_its_own() {
    let repository = repository(SERVICE);
    repository.git(&["tag", "v1.0.0"]);
    let late = repository.commit("feat: a");
    repository.commit("fix: b");
    repository.git(&["tag", "v1.1.0"]);
    repository.git(&["checkout", "-q", &late]);
    let ended = run(cicd(repository.path())
        .args(["version", "--output", "json"])
        .env("GITHUB_REF", "refs/heads/main"));
    assert!(ended.stderr.contains("v1.1.0 was released from a later commit"), "{ended}");
    assert_eq!(found(ended), ("1.1.0-main.1".into(), false, "v1.0.0".into()));
    // Also when the later one asked for more.
    repository.git(&["tag", "-d", "v1.1.0"]);
    repository.git(&["tag", "v2.0.0", "main"]);
    let main = || {
        run(cicd(repository.path())
            .args(["version", "--output", "json"])
            .env("GITHUB_REF", "refs/heads/main"))
    };
    let ended = main();
    assert!(ended.stderr.contains("v2.0.0 was released from a later commit"), "{ended}");
    assert_eq!(found(ended), ("1.1.0-main.1".into(), false, "v1.0.0".into()));
    // A maintenance branch has versions of its own.
    let ended = run(cicd(repository.path())
        .args(["version", "--output", "json"])
        .env("GITHUB_REF", "refs/heads/1.x"));
    assert_eq!(found(ended), ("1.1.0".into(), true, "v1.0.0".into()));
    repository.git(&["tag", "-d", "v2.0.0"]);
    repository.git(&["tag", "v1.1.0", "main"]);
    // A tag that no longer is on the branch is passed over.
    repository.git(&["checkout", "-q", "main"]);
    repository.git(&["reset", "-q", "--hard", &late]);
    repository.commit("fix: c");
    let ended = version(&repository);
    assert!(
        ended.stderr.contains("v1.1.0 stands at a commit that is not part of this history"),
        "{ended}"
    );
    assert_eq!(found(ended), ("1.2.0".into(), true, "v1.0.0".into()));
}

/// A git command on a machine with this date.
fn dated(repository: &Repository, date: &str, command: &str) {
    repository.git(&[
        "-c",
        &format!("alias.dated=!GIT_COMMITTER_DATE='{date}' git {command}"),
        "dated",
    ]);
}

#[test]
fn a_wrong_clock_hides_no_tag() {
    let repository = repository(SERVICE);
    let commit = |message: &str, date: &str| {
        dated(&repository, date, &format!("commit -q --allow-empty -m '{message}'"))
    };
    commit("feat: a", "2026-06-01T12:00:00Z");
    repository.git(&["tag", "v1.0.0"]);
    // One machine's clock was not set when it committed.
    commit("fix: b", "1970-01-02T12:00:00Z");
    commit("fix: c", "2026-06-02T12:00:00Z");
    assert_eq!(found(version(&repository)), ("1.0.1".into(), true, "v1.0.0".into()));
}

#[test]
fn a_wrong_clock_brings_no_released_commit_back() {
    let repository = repository(SERVICE);
    let commit = |message: &str, date: &str| {
        dated(&repository, date, &format!("commit -q --allow-empty -m '{message}'"))
    };
    commit("feat: released", "2026-06-01T12:00:00Z");
    repository.git(&["branch", "topic"]);
    commit("docs: on a machine whose clock was not set", "1970-01-02T12:00:00Z");
    commit("docs: b", "2026-06-02T12:00:00Z");
    repository.git(&["tag", "v1.0.0"]);
    repository.git(&["checkout", "-q", "topic"]);
    commit("fix: topic", "2026-06-03T12:00:00Z");
    repository.git(&["checkout", "-q", "main"]);
    dated(&repository, "2026-06-04T12:00:00Z", "merge -q --no-ff -m 'Merge branch topic' topic");
    assert_eq!(found(version(&repository)), ("1.0.1".into(), true, "v1.0.0".into()));
}

#[test]
fn a_revert_is_read_after_what_it_takes_back_whatever_the_clock_says() {
    let repository = repository(SERVICE);
    repository.git(&["tag", "v1.0.0"]);
    let commit = |message: &str, date: &str| {
        dated(&repository, date, &format!("commit -q --allow-empty -m '{message}'"))
    };
    commit("feat: a", "2090-06-03T12:00:00Z");
    repository.git(&["branch", "topic"]);
    commit("Revert \"feat: a\"", "2026-06-01T12:00:00Z");
    repository.git(&["checkout", "-q", "topic"]);
    commit("fix: topic", "2090-06-03T12:00:00Z");
    repository.git(&["checkout", "-q", "main"]);
    repository.git(&["merge", "-q", "--no-ff", "-m", "Merge branch topic", "topic"]);
    assert_eq!(found(version(&repository)), ("1.0.1".into(), true, "v1.0.0".into()));
}

#[test]
fn a_rebased_revert_takes_back_what_it_quotes() {
    let repository = repository(SERVICE);
    let released = repository.commit("feat: a");
    repository.git(&["tag", "v1.0.0"]);
    repository.git(&["checkout", "-q", "-b", "topic"]);
    let before = repository.commit("feat: a");
    repository.git(&["checkout", "-q", "main"]);
    repository.commit("feat: a");
    let revert = |id: &str| {
        repository.commit(&format!("Revert \"feat: a\"\n\nThis reverts commit {id}."));
        found(version(&repository)).0
    };
    assert_eq!(revert(&before), "1.0.1-main.2", "the topic's own id is not in this history");
    repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    assert_eq!(revert(&"f".repeat(40)), "1.0.1-main.2", "no such commit");
    repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    assert_eq!(revert(&released), "1.1.0", "the one that was released, and no namesake");
    repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    assert_eq!(revert(&released[..9]), "1.1.0");
}

/// This project's own history: every commit has a verdict, and the one that decides is one of them.
#[test]
fn our_own_history_is_explained() {
    let ended = run(cicd(&crate::support::root()).args([
        "version",
        "--explain",
        "--service",
        "examples/fastapi/service.yaml",
    ]));
    let ended = ended.ended(0);
    let commits = ended.stderr.lines().filter(|line| line.trim_end().ends_with(')')).count();
    assert!(commits > 0, "{ended}");
    semver(ended.stdout.trim());
}

fn semver(text: &str) {
    let numbers: Vec<&str> = text.split(['-', '+']).next().unwrap_or_default().split('.').collect();
    assert!(
        numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u64>().is_ok()),
        "{text}"
    );
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
