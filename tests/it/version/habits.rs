//! `cicd version` in repositories with habits of their own: tags of other kinds, tags that moved,
//! commits and references that other tools wrote.

use std::io::Write;
use std::process::{Command, Stdio};

use super::checkout::cloned;
use super::{SERVICE, dated, found, repository, version};
use crate::support::{Repository, Run, cicd, run};

/// A repository in which these steps were taken: `git …` is a command, `tag …` a tag at HEAD, and
/// anything else the message of a commit.
fn played(steps: &[&str]) -> Repository {
    let repository = repository(SERVICE);
    play(&repository, steps);
    repository
}

fn play(repository: &Repository, steps: &[&str]) {
    for step in steps {
        match step.split_once(' ') {
            Some(("git", rest)) => {
                repository.git(&rest.split(' ').collect::<Vec<_>>());
            }
            Some(("tag", name)) => {
                repository.git(&["tag", name]);
            }
            _ => {
                repository.commit(step);
            }
        }
    }
}

/// In short: `1.4.0 release since v1.3.0`, `1.3.1-main.2 since v1.3.0`, or `refused`.
fn short(run: &Run) -> String {
    if run.code != 0 {
        return run.json()["error"]["kind"].as_str().unwrap_or("no kind").to_string();
    }
    let json = run.json();
    let release = if json["release"] == true { " release" } else { "" };
    let since = json["previous-tag"].as_str().map(|tag| format!(" since {tag}"));
    format!(
        "{}{release}{}",
        json["version"].as_str().unwrap_or("no version"),
        since.unwrap_or_default()
    )
}

struct Row {
    name: &'static str,
    steps: &'static [&'static str],
    /// The outcome in short.
    found: &'static str,
    /// What is said aloud; empty: no warning.
    said: &'static str,
}

#[test]
fn tags_count_or_are_named() {
    let row = |name, steps, found, said| Row { name, steps, found, said };
    let rows = [
        row("no prefix", &["tag 1.1.0", "fix: b"], "refused", "prefix: \"\""),
        row("a capital", &["tag V1.1.0", "fix: b"], "refused", "prefix: \"V\""),
        row("a word", &["tag release-1.1.0", "fix: b"], "refused", "prefix: \"release-\""),
        row(
            "two parts",
            &["tag v7.2", "feat: a", "tag v7.3", "fix: b"],
            "refused",
            "git tag v7.3.0 'v7.3^{}'",
        ),
        row("one part", &["tag v3", "fix: b"], "refused", "git tag v3.0.0"),
        row("a date in one", &["tag v20241220", "fix: b"], "refused", "one part"),
        row("a date with zeros", &["tag v2024.01.05", "fix: b"], "refused", "zero"),
        row("a date", &["tag v2024.12.20", "fix: b"], "2024.12.21 release since v2024.12.20", ""),
        row(
            "dates beside numbers",
            &["tag v1.4.0", "feat: a", "tag v2024.12.20", "fix: b"],
            "2024.12.21 release since v2024.12.20",
            "count in two ways",
        ),
        row("another service", &["tag api-1.1.0", "feat: b"], "0.1.0 release", "api-1.1.0"),
        row("no version at all", &["tag nightly", "tag deploy-17", "feat: b"], "0.1.0 release", ""),
        row(
            "a convention that was left",
            &["tag v1.0.0", "fix: a", "tag 1.1.0", "fix: b"],
            "1.0.1 release since v1.0.0",
            "1.1.0 do not count",
        ),
        row(
            "tags that follow",
            &["tag v1.4.0", "tag v1", "tag v1.4", "fix: b"],
            "1.4.1 release since v1.4.0",
            "",
        ),
        row(
            "two of one version, the later one at HEAD",
            &["tag v1.0.0+1", "feat: a", "tag v1.0.0+2"],
            "1.0.0+2 since v1.0.0+2",
            "",
        ),
        row(
            "two of one version, named the other way round",
            &["tag v1.0.0+9", "feat: a", "tag v1.0.0", "fix: b"],
            "1.0.1 release since v1.0.0",
            "",
        ),
        row(
            "a nightly build",
            &["tag v1.4.0", "docs: a", "tag v1.5.0-nightly.20260102", "docs: b"],
            "1.4.1-main.2 since v1.4.0",
            "",
        ),
        row(
            "a nightly build at HEAD",
            &["tag v1.4.0", "feat: a", "tag v1.5.0-nightly.20260102"],
            "1.5.0 release since v1.4.0",
            "",
        ),
        row(
            "nothing but previews",
            &["tag v1.0.0-preview.3", "docs: a"],
            "1.0.0-main.1 since v1.0.0-preview.3",
            "",
        ),
        row(
            "rc without a point",
            &["tag v2.0.0-rc1", "docs: a"],
            "2.0.0 release since v2.0.0-rc1",
            "",
        ),
        row(
            "a name for another tag",
            &["tag 1.0.0", "git symbolic-ref refs/tags/v1.0.0 refs/tags/1.0.0", "fix: b"],
            "1.0.1 release since v1.0.0",
            "",
        ),
        row(
            "the highest number",
            &["tag v1.2.18446744073709551615", "fix: a"],
            "refused",
            "64 bits",
        ),
        row(
            "the highest number, and a way on",
            &["tag v1.2.18446744073709551615", "feat: a"],
            "1.3.0 release since v1.2.18446744073709551615",
            "",
        ),
        row(
            "a number no 64 bits hold",
            &["tag v99999999999999999999.0.0", "fix: a"],
            "refused",
            "too high",
        ),
        row(
            "a version that was dropped",
            &["tag v1.4.0", "feat!: a", "tag v2.0.0", "git reset -q --hard v1.4.0", "feat: b"],
            "1.5.0 release since v1.4.0",
            "v2.0.0 is higher than 1.5.0",
        ),
        row(
            "a history that was begun again",
            &[
                "tag v1.3.0",
                "git checkout -q --orphan new",
                "chore: again",
                "git branch -M main",
                "feat: a",
            ],
            "refused",
            "git tag --force v1.3.0",
        ),
        row(
            "the same on a topic branch",
            &["tag v1.3.0", "git checkout -q --orphan topic", "feat: a"],
            "0.1.0-topic.1",
            "v1.3.0 is higher",
        ),
        row(
            "an old commit, before the first version",
            &["docs: a", "feat: b", "tag v1.0.0", "git checkout -q --detach HEAD~1"],
            "0.1.0-snapshot.2",
            "",
        ),
        row(
            "an old commit, behind a version",
            &["tag v1.0.0", "docs: a", "feat: b", "tag v1.1.0", "git checkout -q --detach HEAD~1"],
            "1.0.1-snapshot.1 since v1.0.0",
            "",
        ),
        row(
            "a maintenance branch below newer versions",
            &[
                "tag v1.4.0",
                "git branch 1.x",
                "feat!: a",
                "tag v2.0.0",
                "git checkout -q 1.x",
                "fix: b",
            ],
            "1.4.1 release since v1.4.0",
            "",
        ),
        row(
            "a tag that moved to another branch",
            &[
                "tag v1.4.0",
                "feat: a",
                "tag v1.5.0",
                "git checkout -q -b other v1.4.0",
                "fix: x",
                "feat: y",
                "git tag -f v1.5.0",
                "git checkout -q main",
                "fix: b",
            ],
            "1.6.0 release since v1.4.0",
            "v1.5.0 stands at a commit that is not part of this history",
        ),
        row(
            "a release that was committed beside",
            &[
                "tag v1.0.0",
                "feat: a",
                "git checkout -q --detach",
                "chore(release): 1.1.0",
                "tag v1.1.0",
                "git checkout -q main",
                "fix: b",
            ],
            "1.1.1 release since v1.1.0",
            "",
        ),
        row(
            "a release of two commits beside",
            &[
                "tag v1.0.0",
                "feat: a",
                "git checkout -q --detach",
                "Bump version",
                "docs: changelog",
                "tag v1.1.0",
                "git checkout -q main",
                "docs: b",
            ],
            "1.1.1-main.1 since v1.1.0",
            "",
        ),
        row(
            "a fix beside is not here",
            &[
                "tag v1.0.0",
                "git checkout -q --detach",
                "fix: hot",
                "tag v1.0.1",
                "git checkout -q main",
                "feat: b",
            ],
            "1.1.0 release since v1.0.0",
            "",
        ),
    ];
    for Row { name, steps, found, said } in rows {
        let run = version(&played(steps));
        assert_eq!(short(&run), found, "{name}: {run}");
        if run.code == 0 && said.is_empty() {
            assert!(!run.stderr.contains("warning:"), "{name}: {run}");
        }
        assert!(run.stderr.contains(said), "{name}: {run}");
    }
}

#[test]
fn a_way_out_of_a_refusal_is_one() {
    let repository = played(&["tag v7.3", "fix: b"]);
    version(&repository).ended(3);
    repository.git(&["tag", "v7.3.0", "v7.3^{}"]);
    assert_eq!(found(version(&repository)).0, "7.3.1");
    let start = "name: p\nport: 1\nversion: {initial: 8.0.0}\n";
    repository.git(&["tag", "-d", "v7.3.0"]);
    repository.write("service.yaml", start);
    assert_eq!(found(version(&repository)).0, "8.0.0", "whoever says where to begin is heard");
}

#[test]
fn tags_that_stayed_at_the_remote_are_named_too() {
    let origin = played(&["tag 1.1.0", "fix: b"]);
    let clone = cloned(&format!("file://{}", origin.path().display()), &["--no-tags"]);
    let run = version(&clone);
    assert!(run.stderr.contains("1.1.0"), "{run}");
    run.ended(3);
}

#[test]
fn a_remote_may_have_another_name() {
    let origin = played(&["tag v1.0.0", "feat: a"]);
    let url = format!("file://{}", origin.path().display());
    for arguments in [["--origin", "upstream", "--no-tags"], ["-o", "hub", "--depth=1"]] {
        let clone = cloned(&url, &arguments);
        assert_eq!(short(&version(&clone)), "1.1.0 release since v1.0.0", "{arguments:?}");
    }
}

#[test]
fn a_tag_that_cannot_be_read_is_not_passed_over() {
    for text in ["", "no id"] {
        let repository = played(&["tag v1.0.0", "fix: b"]);
        repository.write(".git/refs/tags/.DS_Store", "no reference");
        assert_eq!(short(&version(&repository)), "1.0.1 release since v1.0.0", "another's file");
        repository.write(".git/refs/tags/v2.0.0", text);
        let run = version(&repository);
        assert!(run.stderr.contains("v2.0.0"), "{run}");
        run.ended(3);
    }
}

#[test]
fn grafts_are_refused_and_may_be_replacements() {
    let repository = played(&["tag v1.0.0", "feat: a", "fix: b"]);
    let ids = repository.git(&["rev-parse", "HEAD", "v1.0.0"]).replace('\n', " ");
    repository.write(".git/info/grafts", &format!("# parents\n{ids}\n"));
    assert!(version(&repository).ended(3).stderr.contains("--convert-graft-file"));
    repository.git(&["replace", "--convert-graft-file"]);
    assert_eq!(short(&version(&repository)), "1.0.1 release since v1.0.0");
}

#[test]
fn a_path_that_does_not_do_what_it_looks_like_is_told() {
    let cases = [
        ("['src', 'srv']", "nothing here is named srv, so that no commit counts"),
        ("['src', '!docz']", "nothing here is named !docz, so that it leaves nothing out"),
        ("['src', '!**/*.txt']", "nothing here is named !**/*.txt"),
        ("['lib']", "lib is a link"),
    ];
    for (paths, said) in cases {
        let repository = repository(&format!("{SERVICE}version: {{paths: {paths}}}\n"));
        repository.write("src/a", "a");
        std::os::unix::fs::symlink("src", repository.path().join("lib")).expect("a link");
        repository.git(&["add", "-A"]);
        repository.commit("feat: a");
        let run = version(&repository).ended(0);
        assert!(run.stderr.contains(said), "{paths}: {run}");
    }
}

#[test]
fn a_hook_of_another_repository_changes_nothing() {
    let origin = played(&["tag v1.0.0", "feat: a"]);
    let clone = cloned(&format!("file://{}", origin.path().display()), &["--no-tags"]);
    let other = repository(SERVICE);
    let run = run(cicd(clone.path())
        .args(["version", "--output", "json"])
        .env("GIT_DIR", other.path().join(".git"))
        .env("GIT_WORK_TREE", other.path()));
    assert_eq!(short(&run), "1.1.0 release since v1.0.0", "{run}");
    assert_eq!(other.git(&["tag"]), "", "nothing came into the other one");
}

/// Writes a commit object as some tool did, and moves main to it.
fn import(repository: &Repository, headers: &[u8], message: &[u8]) -> String {
    let tree = repository.git(&["rev-parse", "HEAD^{tree}"]);
    let parent = repository.git(&["rev-parse", "HEAD"]);
    let mut object = format!("tree {tree}\nparent {parent}\n").into_bytes();
    for part in [headers, b"\n\n", message] {
        object.extend(part);
    }
    let mut git = Command::new("git")
        .args(["hash-object", "--literally", "-t", "commit", "-w", "--stdin"])
        .current_dir(repository.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git runs");
    git.stdin.take().expect("its input").write_all(&object).expect("written");
    let id = git.wait_with_output().expect("its end").stdout;
    let id = String::from_utf8(id).expect("an id").trim().to_string();
    repository.git(&["update-ref", "refs/heads/main", &id]);
    id
}

#[test]
fn a_commit_without_a_date_is_read() {
    for committer in ["committer a <a@example.org>", "committer a <a@example.org> Thu Jan 1 2015"] {
        let repository = played(&["tag v1.0.0"]);
        let headers = format!("author a <a@example.org>\n{committer}");
        import(&repository, headers.as_bytes(), b"feat: old\n");
        assert_eq!(
            short(&version(&repository)),
            "1.1.0 release since v1.0.0",
            "at HEAD: {committer}"
        );
        repository.commit("fix: after");
        assert_eq!(short(&version(&repository)), "1.1.0 release since v1.0.0", "{committer}");
        repository.git(&["tag", "v1.1.0", "HEAD~1"]);
        assert_eq!(short(&version(&repository)), "1.1.1 release since v1.1.0", "{committer}");
    }
}

#[test]
fn a_commit_says_how_it_is_encoded() {
    let repository = played(&["tag v1.0.0"]);
    let headers = b"author J\xf6rg <j@example.org> 1700000000 +0000\n\
        committer J\xf6rg <j@example.org> 1700000000 +0000\nencoding ISO-8859-1";
    import(&repository, headers, b"feat: \xfcberarbeitet\n");
    let json = version(&repository).ended(0).json();
    assert_eq!(json["deciding-commit"]["subject"], "feat: überarbeitet");
}

#[test]
fn a_clock_that_was_wrong_for_long_hides_no_tag() {
    // More commits follow than a search walks among older ones.
    let many = |repository: &Repository, from: &str, since: u32| {
        let mut stream = String::new();
        for number in 0..1_100 {
            let message = format!("fix: {number}");
            stream.push_str(&format!(
                "commit refs/heads/main\ncommitter a <a@example.org> {} +0000\ndata {}\n{message}\n",
                since + number,
                message.len()
            ));
            if number == 0 {
                stream.push_str(&format!("from {from}\n"));
            }
            stream.push('\n');
        }
        let mut git = Command::new("git")
            .args(["fast-import", "--quiet", "--force"])
            .current_dir(repository.path())
            .stdin(Stdio::piped())
            .spawn()
            .expect("git runs");
        git.stdin.take().expect("its input").write_all(stream.as_bytes()).expect("written");
        assert!(git.wait().expect("its end").success());
        repository.git(&["reset", "-q", "--hard"]);
    };
    let repository = repository(SERVICE);
    dated(&repository, "2017-01-01T00:00:00Z", "commit -q --allow-empty -m 'feat: a'");
    repository.git(&["tag", "v0.9.0"]);
    dated(&repository, "2095-01-01T00:00:00Z", "commit -q --allow-empty -m 'feat: b'");
    repository.git(&["tag", "v1.0.0"]);
    let tagged = repository.git(&["rev-parse", "HEAD"]);
    many(&repository, &tagged, 1_600_000_000);
    assert_eq!(
        short(&version(&repository)),
        "1.0.1 release since v1.0.0",
        "beside one of a right clock"
    );
    repository.git(&["tag", "-d", "v0.9.0"]);
    assert_eq!(short(&version(&repository)), "1.0.1 release since v1.0.0", "alone");
}

#[test]
fn a_git_folder_may_be_linked() {
    let repository = played(&["tag v1.0.0", "feat: a"]);
    let store = Repository::empty();
    let git = repository.path().join(".git");
    std::fs::rename(&git, store.path().join("git")).expect("moved");
    std::os::unix::fs::symlink(store.path().join("git"), &git).expect("a link");
    assert_eq!(short(&version(&repository)), "1.1.0 release since v1.0.0", "a link");
    std::fs::remove_file(&git).expect("no link");
    repository.write(".git", &format!("gitdir: {}\n", store.path().join("git").display()));
    assert_eq!(short(&version(&repository)), "1.1.0 release since v1.0.0", "a file");
}

/// A reftable of one block: every name in full, `kind` 1 for an id and 3 for another name.
fn reftable(references: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, target) in references {
        let kind = if target.len() == 40 { 1 } else { 3 };
        let head = name.len() << 3 | kind;
        block.push(0);
        if head > 127 {
            block.push(128 | u8::try_from((head >> 7) - 1).expect("a short name"));
        }
        block.push(u8::try_from(head & 127).expect("seven bits"));
        block.extend(name.as_bytes());
        block.push(0);
        if kind == 1 {
            let byte = |at: usize| u8::from_str_radix(&target[at..at + 2], 16).expect("an id");
            block.extend((0..40).step_by(2).map(byte));
        } else {
            block.push(u8::try_from(target.len()).expect("a short name"));
            block.extend(target.as_bytes());
        }
    }
    block.extend([0, 0, 28, 0, 1]);
    let mut bytes = b"REFT\x01\x00\x00\x00".to_vec();
    bytes.extend([0; 16]);
    let length = u16::try_from(28 + block.len()).expect("a short block").to_be_bytes();
    bytes.extend([b'r', 0, length[0], length[1]]);
    bytes.extend(block);
    bytes.extend(b"REFT");
    bytes
}

#[test]
fn a_reftable_is_read() {
    let repository = played(&["tag v1.0.0", "feat: a"]);
    let (tagged, head) =
        (repository.git(&["rev-parse", "v1.0.0"]), repository.git(&["rev-parse", "HEAD"]));
    let git = repository.path().join(".git");
    for folder in ["refs", "reftable"] {
        let _ = std::fs::remove_dir_all(git.join(folder));
        std::fs::create_dir(git.join(folder)).expect("a folder");
    }
    repository.write(".git/HEAD", "ref: refs/heads/.invalid\n");
    repository.write(".git/refs/heads", "this repository uses the reftable format\n");
    let write = |references: &[(&str, &str)]| {
        std::fs::write(git.join("reftable/one.ref"), reftable(references)).expect("written");
        repository.write(".git/reftable/tables.list", "one.ref\n");
    };
    write(&[
        ("HEAD", "refs/heads/main"),
        ("refs/heads/main", &head),
        ("refs/tags/v1.0.0", &tagged),
    ]);
    assert_eq!(short(&version(&repository)), "1.1.0 release since v1.0.0");
    write(&[("HEAD", "refs/heads/x"), ("refs/heads/x", &head), ("refs/tags/v1.0.0", &tagged)]);
    assert_eq!(short(&version(&repository)), "1.1.0-x.1 since v1.0.0", "the branch");
    write(&[("HEAD", &head), ("refs/tags/v1.0.0", &head)]);
    assert_eq!(short(&version(&repository)), "1.0.0 since v1.0.0", "a detached HEAD");
    write(&[("HEAD", "refs/heads/main")]);
    assert!(version(&repository).ended(2).stderr.contains("no commit"));
    repository.write(".git/reftable/one.ref", "of another kind");
    let ended = version(&repository).ended(3);
    assert!(ended.stderr.contains("git refs migrate --ref-format=files"), "{ended}");
}

#[test]
fn a_merge_queue_makes_previews() {
    let repository = played(&["tag v1.0.0", "feat: a"]);
    let queue = "refs/heads/gh-readonly-queue/main/pr-12-0123456789abcdef0123456789abcdef01234567";
    let run =
        run(cicd(repository.path()).args(["version", "--output", "json"]).env("GITHUB_REF", queue));
    assert_eq!(short(&run), "1.1.0-pr.12.1 since v1.0.0", "{run}");
}

#[test]
fn paths_with_wildcards_count_and_those_that_name_nothing_are_told() {
    let repository = Repository::new();
    let service = |paths: &str| {
        repository
            .write("service.yaml", &format!("name: p\nport: 1\nversion: {{paths: {paths}}}\n"));
    };
    service("[src]");
    repository.write("src/a.rs", "1");
    repository.write("src/deep/b.rs", "1");
    repository.write("src/docs/c.md", "1");
    repository.git(&["add", "-A"]);
    repository.commit("chore: first");
    repository.git(&["tag", "v1.0.0"]);
    for (file, message) in
        [("src/docs/c.md", "fix: docs"), ("src/deep/b.rs", "feat: deep"), ("other", "feat!: other")]
    {
        repository.write(file, message);
        repository.git(&["add", file]);
        repository.commit(message);
    }
    let cases = [
        ("[src]", "1.1.0", 2, ""),
        ("[\"src/**\"]", "1.1.0", 2, ""),
        ("[\"src/**/*.rs\"]", "1.1.0", 1, ""),
        ("[\"**.md\"]", "1.0.1", 1, ""),
        ("[\"src/*.rs\"]", "1.0.1-main.3", 0, ""),
        ("[src, \"!src/docs\"]", "1.1.0", 1, ""),
        ("[\"!other\"]", "1.1.0", 2, ""),
        ("[\"**\"]", "2.0.0", 3, ""),
        ("[srv]", "1.0.1-main.3", 0, "srv"),
        ("[src, srv]", "1.1.0", 2, "srv"),
        ("[\"lib/**\"]", "1.0.1-main.3", 0, "lib/**"),
        ("[\"src/*.py\"]", "1.0.1-main.3", 0, "src/*.py"),
    ];
    for (paths, expected, commits, told) in cases {
        service(paths);
        let run = version(&repository).ended(0);
        let json = run.json();
        assert_eq!(
            (&json["version"], &json["commits"]),
            (&expected.into(), &commits.into()),
            "{paths}"
        );
        let warning = run.stderr.lines().find(|line| line.contains("warning:")).unwrap_or_default();
        assert_eq!(warning.is_empty(), told.is_empty(), "{paths}: {run}");
        assert!(warning.contains(told), "{paths}: {run}");
    }
}
