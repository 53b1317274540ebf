//! `cicd release` against a GitHub that compares before it swaps, with requests that GitHub's own
//! description takes.

#[path = "release/github.rs"]
pub mod github;

use std::process::{Command, Stdio};

use crate::support::{Repository, Run, cicd, run, stack};
use github::{Act, Github};

const SERVICE: &str = "name: patients\nport: 8000\n";

/// A repository released as v1.0.0 with one feature since, and its GitHub.
fn scene(service: &str) -> (Repository, Github, String) {
    let repository = Repository::new();
    repository.write("service.yaml", service);
    repository.git(&["add", "-A"]);
    let first = repository.commit("chore: first");
    let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));
    github.with(|state| state.tags.insert("v1.0.0".into(), first.clone()));
    let commit = repository.commit("feat(api): export");
    (repository, github, commit)
}

/// A job of `github`'s runner that releases what is checked out in `folder`.
fn job(folder: &std::path::Path, github: &Github, more: &[&str]) -> Command {
    let mut command = cicd(folder);
    command
        .args(["release", "--output", "json"])
        .args(more)
        .env("GITHUB_API_URL", &github.url)
        .env("GITHUB_REPOSITORY", "clinicult/patients")
        .env("GITHUB_REF", "refs/heads/main")
        .env("GITHUB_TOKEN", "test-github-token");
    command
}

fn release(repository: &Repository, github: &Github, more: &[&str]) -> Run {
    run(&mut job(repository.path(), github, more))
}

fn status(run: Run) -> String {
    run.ended(0).json()["status"].as_str().expect("a status").to_string()
}

fn tags(github: &Github) -> Vec<String> {
    github.with(|state| state.tags.keys().cloned().collect())
}

fn releases(github: &Github) -> Vec<String> {
    github.with(|state| state.releases.keys().cloned().collect())
}

#[test]
fn a_commit_is_tagged_and_released_once() {
    let (repository, github, commit) = scene(SERVICE);
    let planned = release(&repository, &github, &["--plan"]).ended(0).json();
    assert_eq!((&planned["status"], &planned["tag"]), (&"planned".into(), &"v1.1.0".into()));
    assert_eq!(github.writes(), Vec::<String>::new(), "a plan writes nothing");

    let ended = release(&repository, &github, &[]).ended(0);
    let json = ended.json();
    assert_eq!(
        json["changed"],
        serde_json::json!(["refs/tags/v1.1.0", "release v1.1.0"]),
        "{ended}"
    );
    assert_eq!(json["url"], "https://github.com/clinicult/patients/releases/tag/v1.1.0");
    assert_eq!(
        (&json["version"], &json["docker-tag"], &json["release"]),
        (&"1.1.0".into(), &"1.1.0".into(), &true.into())
    );
    assert!(!format!("{ended}").contains("test-github-token"), "{ended}");
    let made = github.with(|state| state.releases["v1.1.0"].clone());
    assert_eq!(
        (&made["make_latest"], &made["prerelease"], &made["draft"]),
        (&"true".into(), &false.into(), &false.into())
    );
    let body = made["body"].as_str().expect("notes");
    assert!(
        body.contains("### Features\n\n- **api:** export (")
            && body.contains("/compare/v1.0.0...v1.1.0"),
        "{body}"
    );
    assert_eq!(github.with(|state| state.tags["v1.1.0"].clone()), commit);

    let before = github.writes().len();
    assert_eq!(status(release(&repository, &github, &[])), "unchanged");
    assert_eq!(github.writes().len(), before, "a second run writes nothing");
}

#[test]
fn what_is_no_release_is_left_alone() {
    let (repository, github, _) = scene(SERVICE);
    let pull =
        run(job(repository.path(), &github, &[]).env("GITHUB_EVENT_NAME", "pull_request_target"));
    assert_eq!(status(pull), "unchanged");
    let branch = run(job(repository.path(), &github, &[]).env("GITHUB_REF", "refs/heads/topic"));
    assert_eq!(status(branch), "unchanged");
    let nobody = run(job(repository.path(), &github, &[]).env_remove("GITHUB_TOKEN")).ended(3);
    assert!(nobody.stdout.contains("contents: write"), "{nobody}");
    let nowhere =
        run(job(repository.path(), &github, &[]).env_remove("GITHUB_REPOSITORY")).ended(2);
    assert!(nowhere.stdout.contains("--github-repository"), "{nowhere}");
    assert_eq!(github.writes(), Vec::<String>::new());
}

#[test]
fn twenty_releases_of_one_commit_make_one() {
    let (repository, github, _) = scene(SERVICE);
    let jobs: Vec<_> = (0..20)
        .map(|_| {
            job(repository.path(), &github, &[])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("cicd")
        })
        .collect();
    for job in jobs {
        let ended = job.wait_with_output().expect("an end");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    assert_eq!(
        (tags(&github), releases(&github)),
        (vec!["v1.0.0".into(), "v1.1.0".into()], vec!["v1.1.0".into()])
    );
}

#[test]
fn twenty_commits_released_at_once_lose_nothing() {
    let (repository, github, first) = scene(SERVICE);
    let mut commits = vec![first];
    commits.extend((1..20).map(|number| repository.commit(&format!("fix: number {number}"))));
    let trees = tempfile::tempdir().expect("a folder");
    let jobs: Vec<_> = commits
        .iter()
        .map(|commit| {
            let tree = trees.path().join(commit);
            repository.git(&[
                "worktree",
                "add",
                "-q",
                "--detach",
                &tree.display().to_string(),
                commit,
            ]);
            job(&tree, &github, &[])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("cicd")
        })
        .collect();
    for job in jobs {
        let ended = job.wait_with_output().expect("an end");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    let made = github.with(|state| state.tags.clone());
    let mut order: Vec<(semver::Version, usize)> = Vec::new();
    for (name, commit) in made.iter().filter(|(name, _)| *name != "v1.0.0") {
        let at = commits.iter().position(|one| one == commit).expect("a commit");
        order.push((semver::Version::parse(&name[1..]).expect("a version"), at));
        assert!(releases(&github).contains(name), "{name} has its release");
    }
    order.sort();
    assert!(
        order.windows(2).all(|pair| pair[0].1 < pair[1].1),
        "later commits have higher versions: {order:?}"
    );
    assert_eq!(
        order.last().expect("one").1,
        19,
        "the last commit is released, so each one is contained in a release"
    );
}

/// A run that was killed at any request, before it was done or after, is finished by the next.
#[test]
fn killed_anywhere_it_converges() {
    let service = format!("{SERVICE}version: {{floating: true}}\n");
    let mut kills = 0;
    for number in 0.. {
        let mut ended = true;
        for after in [false, true] {
            let (repository, github, commit) = scene(&service);
            let (sender, reached) = std::sync::mpsc::channel();
            github.with(|state| state.hold = Some((number, after, sender)));
            let mut child = job(repository.path(), &github, &[])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("cicd");
            let held = loop {
                if reached.recv_timeout(std::time::Duration::from_millis(20)).is_ok() {
                    break true;
                }
                if child.try_wait().expect("a child").is_some() {
                    break false;
                }
            };
            if held {
                child.kill().expect("SIGKILL");
                child.wait().expect("an end");
                (ended, kills) = (false, kills + 1);
            }
            github.with(|state| state.hold = None);
            release(&repository, &github, &[]).ended(0);
            let made = github.with(|state| state.tags.clone());
            let ours: Vec<&str> = made
                .iter()
                .filter(|(_, at)| **at == commit)
                .map(|(name, _)| name.as_str())
                .collect();
            assert_eq!(ours, ["v1", "v1.1", "v1.1.0"], "killed at request {number}");
            assert_eq!(releases(&github), ["v1.1.0"], "killed at request {number}");
        }
        if ended {
            break;
        }
    }
    assert!(kills >= 14, "every request was one to be killed at: {kills}");
}

#[test]
fn a_later_release_that_holds_the_commit_makes_it_needless() {
    let (repository, github, early) = scene(SERVICE);
    let late = repository.commit("feat!: later");
    assert_eq!(status(release(&repository, &github, &[])), "released");
    repository.git(&["branch", "1.x", &early]);
    repository.git(&["checkout", "-q", "--detach", &early]);
    let ended = release(&repository, &github, &[]);
    assert_eq!(status(ended), "superseded");
    assert_eq!(github.with(|state| state.tags["v2.0.0"].clone()), late);
    // On a branch of its own it is no part of main's releases.
    let branch =
        run(job(repository.path(), &github, &[]).env("GITHUB_REF", "refs/heads/1.x")).ended(0);
    assert_eq!(
        (
            &branch.json()["tag"],
            github.with(|state| state.releases["v1.1.0"]["make_latest"].clone())
        ),
        (&"v1.1.0".into(), "false".into())
    );
}

#[test]
fn names_that_are_used_up_are_skipped() {
    let (repository, github, _) = scene(SERVICE);
    github.with(|state| state.burned = vec!["v1.1.0".into(), "v1.2.0".into()]);
    let ended = release(&repository, &github, &[]).ended(0);
    assert!(ended.stderr.contains("v1.1.0 belonged to an immutable release"), "{ended}");
    assert_eq!(
        (&ended.json()["tag"], releases(&github)),
        (&"v1.3.0".into(), vec!["v1.3.0".to_string()])
    );
    assert_eq!(status(release(&repository, &github, &[])), "unchanged");
}

#[test]
fn refusals_end_with_3_and_say_the_fix() {
    let cases: &[(&str, u16, &str, &str)] = &[
        (
            "git/refs",
            403,
            "Resource not accessible by integration",
            "permissions: {contents: write}",
        ),
        ("git/refs", 404, "Not Found", "contents: write"),
        ("git/refs", 401, "Bad credentials", "GITHUB_TOKEN"),
        ("git/refs", 403, "Repository was archived so is read-only.", "unarchive"),
        ("git/refs", 422, "Object does not exist", "git push"),
    ];
    for (part, status, message, fix) in cases {
        let (repository, github, _) = scene(SERVICE);
        github
            .with(|state| state.rules = vec![("POST", part, 1, Act::Answer(*status, "", message))]);
        let ended = release(&repository, &github, &[]).ended(3);
        assert!(ended.json()["error"]["fix"].as_str().expect("a fix").contains(fix), "{ended}");
        assert_eq!((tags(&github).len(), releases(&github).len()), (1, 0));
        assert_eq!(
            self::status(release(&repository, &github, &[])),
            "released",
            "once that is done: {message}"
        );
    }
}

/// GitHub refuses the ref of a name that is used up in the words of a ruleset; which of them it is,
/// the release is told.
#[test]
fn a_ruleset_is_told_from_a_name_that_is_used_up() {
    let (repository, github, _) = scene(SERVICE);
    github.with(|state| state.locked = true);
    let ended = release(&repository, &github, &[]).ended(3);
    assert!(
        ended.json()["error"]["fix"].as_str().expect("a fix").contains("bypass list"),
        "{ended}"
    );
    assert_eq!((tags(&github).len(), releases(&github).len()), (1, 0));
    github.with(|state| (state.locked, state.reserved) = (false, vec!["v1.1.0".into()]));
    let ended = release(&repository, &github, &[]).ended(0);
    assert!(ended.stderr.contains("v1.1.0 belonged to an immutable release"), "{ended}");
    assert!(!ended.stderr.contains("not part of this history"), "{ended}");
    assert_eq!(
        (tags(&github), releases(&github)),
        (vec!["v1.0.0".into(), "v1.2.0".into()], vec!["v1.2.0".into()])
    );
}

#[test]
fn what_is_refused_after_a_write_does_not_say_that_nothing_changed() {
    let (repository, github, _) = scene(SERVICE);
    let no = Act::Answer(403, "", "Resource not accessible by integration");
    github.with(|state| {
        state.burned = vec!["v1.1.0".into()];
        state.rules = vec![("POST", "git/refs", 1, Act::Pass), ("POST", "git/refs", 1, no)];
    });
    let ended = release(&repository, &github, &[]).ended(1);
    assert!(
        ended.json()["error"]["message"]
            .as_str()
            .expect("words")
            .contains("refs/tags/v1.1.0 is there"),
        "{ended}"
    );
}

#[test]
fn a_renamed_repository_is_followed_and_no_write_becomes_a_read() {
    let (repository, github, _) = scene(SERVICE);
    assert_eq!(
        status(release(&repository, &github, &["--github-repository", "clinicult/sufferers"])),
        "released"
    );
    assert_eq!((tags(&github).len(), releases(&github)), (2, vec!["v1.1.0".to_string()]));

    let moved = "Location: /repos/clinicult/patients/git/matching-refs/tags%2Fv\r\n";
    let away = "Location: http://127.0.0.1:9/\r\n";
    let list = "Link: <http://127.0.0.1:9/?page=2>; rel=\"next\"\r\n";
    let cases = [
        ("POST", "git/refs", 301, moved, "--github-repository"),
        ("POST", "git/refs", 307, away, "--github-repository"),
        ("GET", "matching-refs", 200, list, "GITHUB_API_URL"),
    ];
    for (method, part, status, headers, fix) in cases {
        let (repository, github, _) = scene(SERVICE);
        github.with(|state| {
            state.rules = vec![(method, part, usize::MAX, Act::Answer(status, headers, "Moved"))]
        });
        let ended = release(&repository, &github, &[]).ended(3);
        assert!(ended.json()["error"]["fix"].as_str().expect("a fix").contains(fix), "{ended}");
        assert_eq!((tags(&github).len(), releases(&github).len()), (1, 0));
    }
}

#[test]
fn a_release_that_github_does_not_show_is_no_success() {
    let (repository, github, _) = scene(SERVICE);
    let draft = Act::Answer(422, "", "tag_name already exists");
    github.with(|state| state.rules = vec![("POST", "/releases", usize::MAX, draft)]);
    let ended = release(&repository, &github, &[]).ended(1);
    assert!(ended.json()["error"]["fix"].as_str().expect("a fix").contains("draft"), "{ended}");
}

#[test]
fn a_prerelease_becomes_stable_at_the_same_commit() {
    let (repository, github, commit) = scene(SERVICE);
    let beta = || run(job(repository.path(), &github, &[]).env("GITHUB_REF", "refs/heads/beta"));
    assert_eq!(status(beta()), "released");
    assert_eq!(status(beta()), "unchanged");
    assert_eq!(tags(&github), ["v1.0.0", "v1.1.0-beta.1"]);
    assert_eq!(status(release(&repository, &github, &[])), "released");
    assert_eq!(github.with(|state| state.tags["v1.1.0"].clone()), commit);
    assert_eq!(status(release(&repository, &github, &[])), "unchanged");
    assert_eq!(status(beta()), "unchanged");
    assert_eq!(releases(&github), ["v1.1.0", "v1.1.0-beta.1"]);
}

/// The newest version of the line stands on a branch of its own, but the one it began with holds
/// the commit.
#[test]
fn a_later_release_is_found_behind_a_maintenance_branch() {
    let (repository, github, _) = scene(SERVICE);
    assert_eq!(status(release(&repository, &github, &[])), "released");
    let early = repository.commit("fix: early");
    repository.commit("feat: later");
    assert_eq!(status(release(&repository, &github, &[])), "released");
    repository.git(&["checkout", "-q", "-b", "1.2.x"]);
    repository.commit("fix: on the branch");
    let branch = run(job(repository.path(), &github, &[]).env("GITHUB_REF", "refs/heads/1.2.x"));
    assert_eq!(status(branch), "released");
    assert_eq!(tags(&github), ["v1.0.0", "v1.1.0", "v1.2.0", "v1.2.1"]);
    repository.git(&["checkout", "-q", "--detach", &early]);
    let ended = release(&repository, &github, &[]).ended(0).json();
    assert_eq!((&ended["status"], &ended["tag"]), (&"superseded".into(), &"v1.2.0".into()));
    assert_eq!(tags(&github).len(), 4);
}

#[test]
fn a_name_that_stands_elsewhere_is_said() {
    let (repository, github, commit) = scene(SERVICE);
    repository.git(&["checkout", "-q", "-b", "topic", "HEAD~1"]);
    let other = repository.commit("feat: elsewhere");
    repository.git(&["checkout", "-q", "--detach", &commit]);
    github.with(|state| state.tags.insert("v1.1.0".into(), other));
    let ended = release(&repository, &github, &["--version", "1.1.0"]).ended(0);
    assert_eq!(ended.json()["tag"], "v1.2.0");
    assert!(
        ended.stderr.contains("pushed as 1.1.0, and its commit is released as 1.2.0"),
        "{ended}"
    );
    let again = release(&repository, &github, &["--version", "1.2.0"]).ended(0);
    assert!(!again.stderr.contains("pushed as"), "{again}");
    assert_eq!(
        ended.stderr.matches("v1.1.0 stands at a commit that is not part of this history").count(),
        1,
        "{ended}"
    );
}

#[test]
fn what_passes_is_waited_for() {
    let wait = "Retry-After: 1\r\n";
    let used_up = "X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 1795404373\r\n";
    let cases: &[(&'static str, &'static str, Act)] = &[
        ("GET", "matching-refs", Act::Answer(502, "", "Bad Gateway")),
        ("POST", "git/refs", Act::Answer(403, wait, "You have exceeded a secondary rate limit")),
        ("POST", "git/refs", Act::Answer(429, used_up, "API rate limit exceeded")),
        ("POST", "git/refs", Act::LoseAnswer),
        ("POST", "/releases", Act::LoseAnswer),
        ("POST", "/releases", Act::Answer(503, wait, "Unavailable")),
    ];
    for (method, part, act) in cases {
        let (repository, github, _) = scene(SERVICE);
        github.with(|state| state.rules = vec![(method, part, 1, act.clone())]);
        assert_eq!(
            status(release(&repository, &github, &[])),
            "released",
            "{method} {part} {act:?}"
        );
        assert_eq!(
            (tags(&github).len(), releases(&github).len()),
            (2, 1),
            "{method} {part} {act:?}"
        );
    }
    let (repository, github, _) = scene(SERVICE);
    let hour = "X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: 1795407973\r\n";
    github.with(|state| {
        state.rules =
            vec![("POST", "git/refs", 1, Act::Answer(403, hour, "API rate limit exceeded"))]
    });
    let ended = release(&repository, &github, &[]).ended(6);
    assert!(
        ended.json()["error"]["fix"].as_str().expect("a fix").contains("2026-11-23T04:26:13Z"),
        "{ended}"
    );
}

#[test]
fn floating_tags_only_go_forward() {
    let (repository, github, commit) = scene(&format!("{SERVICE}version: {{floating: true}}\n"));
    assert_eq!(status(release(&repository, &github, &[])), "released");
    assert_eq!(tags(&github), ["v1", "v1.0.0", "v1.1", "v1.1.0"]);
    repository.git(&["checkout", "-q", "-b", "1.1.x"]);
    let fix = repository.commit("fix: on the branch");
    let branch = run(job(repository.path(), &github, &[]).env("GITHUB_REF", "refs/heads/1.1.x"));
    assert_eq!(status(branch), "released");
    assert_eq!(github.with(|state| state.tags["v1"].clone()), fix);
    repository.git(&["checkout", "-q", "main"]);
    let feature = repository.commit("feat: on main");
    assert_eq!(status(release(&repository, &github, &[])), "released");
    assert_eq!(
        github.with(|state| state.tags["v1"].clone()),
        feature,
        "aside, to the higher version"
    );
    assert_ne!(commit, feature);
    repository.git(&["checkout", "-q", "1.1.x"]);
    repository.commit("fix: another");
    run(job(repository.path(), &github, &[]).env("GITHUB_REF", "refs/heads/1.1.x")).ended(0);
    assert_eq!(github.with(|state| state.tags["v1"].clone()), feature, "never back");
}

#[test]
fn a_channel_makes_prereleases() {
    let (repository, github, _) = scene(&format!("{SERVICE}version: {{floating: true}}\n"));
    let ended =
        run(job(repository.path(), &github, &[]).env("GITHUB_REF", "refs/heads/beta")).ended(0);
    assert_eq!(
        ended.json()["changed"],
        serde_json::json!(["refs/tags/v1.1.0-beta.1", "release v1.1.0-beta.1"])
    );
    let made = github.with(|state| state.releases["v1.1.0-beta.1"].clone());
    assert_eq!((&made["prerelease"], &made["make_latest"]), (&true.into(), &"false".into()));
}

#[test]
fn a_name_that_others_take_each_time_is_given_up() {
    let (repository, github, _) = scene(SERVICE);
    let taken = Act::Answer(422, "", "Reference already exists");
    github.with(|state| state.rules = vec![("POST", "git/refs", usize::MAX, taken)]);
    release(&repository, &github, &[]).ended(7);
    assert_eq!(github.writes().len(), 10);
}

#[test]
fn many_and_annotated_tags_are_read() {
    let (repository, github, _) = scene(SERVICE);
    let first = github.with(|state| state.tags["v1.0.0"].clone());
    github.with(|state| {
        state.tags.extend((1..=250).map(|patch| (format!("v1.0.{patch}"), first.clone())));
        state.annotated = vec!["v1.0.250".into()];
    });
    let json = release(&repository, &github, &["--plan"]).ended(0).json();
    assert_eq!(json["tag"], "v1.1.0");
    let pages = github
        .with(|state| state.seen.iter().filter(|line| line.contains("matching-refs")).count());
    assert_eq!(pages, 3);
    repository.git(&["commit", "-q", "--amend", "--allow-empty", "-m", "fix: instead"]);
    let json = release(&repository, &github, &["--plan"]).ended(0).json();
    assert_eq!(json["tag"], "v1.0.251", "the annotated one counts");
}

#[test]
fn own_notes_and_a_changelog() {
    let (repository, github, _) = scene(SERVICE);
    repository.write("notes.md", "By hand.\n");
    release(&repository, &github, &["--notes-file", "nowhere.md"]).ended(2);
    repository.write("long.md", &"x".repeat(125_001));
    release(&repository, &github, &["--notes-file", "long.md"]).ended(2);
    release(&repository, &github, &["--notes-file", "notes.md", "--changelog", "CHANGELOG.md"])
        .ended(0);
    assert_eq!(github.with(|state| state.releases["v1.1.0"]["body"].clone()), "By hand.\n");
    let log = std::fs::read_to_string(repository.path().join("CHANGELOG.md")).expect("a changelog");
    assert_eq!(log, "# Changelog\n\n## v1.1.0\n\nBy hand.\n");
}

/// A release of an action: the tag has an action.yml that names the image, and the branch has not.
#[test]
fn files_that_only_the_tag_has_stand_beside_the_branch() {
    let (repository, github, _) = scene("name: patients\nport: 8000\nversion: {floating: true}\n");
    repository.write("action.yml", "runs: {using: docker, image: Dockerfile}\n");
    repository.git(&["add", "-A"]);
    let commit = repository.commit("feat: an action");
    let pinned = "runs: {using: docker, image: docker://registry.example.org/cicd@sha256:0}\n";
    repository.write("action.yml", pinned);
    repository.write("cicd-linux-amd64", "a binary");
    repository.write("sums/SHA256SUMS", "sums");
    let arguments =
        ["--with", "action.yml", "--asset", "cicd-linux-amd64", "--asset", "sums/SHA256SUMS"];
    let plan = release(&repository, &github, &[&arguments[..], &["--plan"]].concat()).ended(0);
    assert_eq!((&plan.json()["status"], github.writes().len()), (&"planned".into(), 0));

    let ended = release(&repository, &github, &arguments).ended(0);
    assert_eq!(
        ended.json()["changed"],
        serde_json::json!(["refs/tags/v1.1.0", "release v1.1.0", "refs/tags/v1", "refs/tags/v1.1"]),
        "{ended}"
    );
    let tagged = github.with(|state| state.tags["v1.1.0"].clone());
    assert_ne!(tagged, commit);
    assert_eq!(github.with(|state| state.tags["v1"].clone()), tagged);
    assert_eq!(repository.git(&["rev-parse", &format!("{tagged}^")]), commit);
    assert_eq!(repository.git(&["show", &format!("{tagged}:action.yml")]), pinned.trim());
    assert_eq!(repository.git(&["diff", "--name-only", &commit, &tagged]), "action.yml");
    assert_eq!(repository.git(&["branch", "--contains", &tagged]), "");
    let published = github.with(|state| state.releases["v1.1.0"].clone());
    assert_eq!(
        (&published["draft"], &published["target_commitish"]),
        (&false.into(), &tagged.clone().into())
    );
    let text = |at: usize, key: &str| published["assets"][at][key].clone();
    assert_eq!((text(0, "name"), text(0, "text")), ("cicd-linux-amd64".into(), "a binary".into()));
    assert_eq!((text(1, "name"), text(1, "text")), ("SHA256SUMS".into(), "sums".into()));

    // The same again makes the same commit, and nothing else.
    let again = release(&repository, &github, &arguments).ended(0).json();
    assert_eq!((&again["status"], &again["tag"]), (&"unchanged".into(), &"v1.1.0".into()));
    // The next release moves v1 aside, to a commit that does not contain the one before.
    repository.write("action.yml", "runs: {using: docker, image: Dockerfile}\n");
    repository.git(&["fetch", "-q", ".", &tagged]);
    repository.git(&["tag", "v1.1.0", &tagged]);
    let next = repository.commit("fix: b");
    repository.write("action.yml", &pinned.replace(":0", ":1"));
    let ended = release(&repository, &github, &arguments).ended(0).json();
    assert_eq!(ended["tag"], "v1.1.1");
    let tagged = github.with(|state| state.tags["v1"].clone());
    assert_eq!(repository.git(&["rev-parse", &format!("{tagged}^")]), next);
}

#[test]
fn a_release_with_assets_goes_on_from_the_draft_that_was_left() {
    let (repository, github, _) = scene(SERVICE);
    for name in ["a", "b"] {
        repository.write(name, &format!("asset {name}"));
    }
    // The second upload is cut off for good, after the first one.
    github
        .with(|state| state.rules.push(("POST", "/assets?name=b", 1, Act::Answer(403, "", "no"))));
    release(&repository, &github, &["--asset", "a", "--asset", "b"]).ended(1);
    assert_eq!((releases(&github), github.with(|state| state.drafts.len())), (vec![], 1));
    // And one of the first is half there.
    github.with(|state| state.drafts[0]["assets"][0]["state"] = "starter".into());
    let ended = release(&repository, &github, &["--asset", "a", "--asset", "b"]).ended(0).json();
    assert_eq!(ended["changed"], serde_json::json!(["release v1.1.0"]));
    let assets = github.with(|state| state.releases["v1.1.0"]["assets"].clone());
    let names: Vec<&str> = assets
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|asset| asset["name"].as_str())
        .collect();
    assert_eq!((names, github.with(|state| state.drafts.len())), (vec!["a", "b"], 0));
}

#[test]
fn what_cannot_be_released_is_bad_input() {
    let (repository, github, _) = scene(SERVICE);
    repository.write("empty", "");
    for (arguments, why) in [
        (&["--asset", "empty"][..], "it is empty"),
        (&["--asset", "service.yaml", "--asset", "service.yaml"], "another one has its name"),
        (&["--with", "../action.yml"], "from the root of the repository"),
        (&["--with", "nothing.yml"], "nothing.yml"),
    ] {
        let refused = release(&repository, &github, arguments);
        assert!(matches!(refused.code, 2 | 3), "{refused}");
        assert!(refused.stderr.contains(why), "{refused}");
    }
    assert_eq!(github.writes(), Vec::<String>::new());
}
