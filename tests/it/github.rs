//! What GitHub shows of a run: the pull request's comment, the job summary, deployments.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::eks::Place;
use crate::probe::digest_of;
use crate::publish::script_of;
use crate::release::github::{Act, Github};
use crate::support::{Removal, Repository, Run, cicd, run, stack, unique};

/// A pull request of a repository of its own, and its GitHub.
pub fn commenting(repository: &Repository, github: &Github, step: &str) -> Command {
    let event = repository.path().join("event.json");
    let of = r#"{"full_name": "clinicult/patients"}"#;
    let sha = repository.git(&["rev-parse", "HEAD"]);
    let head = format!(r#"{{"repo": {of}, "sha": "{sha}"}}"#);
    let text =
        format!(r#"{{"repository": {of}, "pull_request": {{"number": 12, "head": {head}}}}}"#);
    std::fs::write(&event, text).expect("written");
    let mut command = cicd(repository.path());
    command
        .args([step, "--comment"])
        .env("GITHUB_EVENT_NAME", "pull_request")
        .env("GITHUB_REF", "refs/pull/12/merge")
        .env("GITHUB_EVENT_PATH", event)
        .env("GITHUB_API_URL", &github.url)
        .env("GITHUB_REPOSITORY", "clinicult/patients")
        .env("GITHUB_TOKEN", "test-github-token");
    command
}

#[test]
fn a_pull_request_has_one_comment_that_is_kept_up_to_date() {
    let repository = Repository::new();
    repository.write("service.yaml", "name: patients\nport: 8000\n");
    repository.git(&["add", "-A"]);
    repository.commit("fix: a");
    let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));
    // Anybody can copy the mark.
    let forged =
        "<!-- clinicult/cicd service.yaml -->\n<!-- section version -->\nmine\n".to_string();
    github.with(|state| state.comments.push((forged.clone(), false)));
    let comments = || github.with(|state| state.comments.clone());
    run(&mut commenting(&repository, &github, "version")).ended(0);
    assert!(comments().len() == 2 && comments()[1].0.contains("0.1.0-pr.12.1"), "{:?}", comments());
    let commit = repository.git(&["rev-parse", "HEAD"]);
    assert!(comments()[1].0.contains(&format!("<sub>{commit}</sub>")), "{:?}", comments());
    let writes = github.writes().len();
    run(&mut commenting(&repository, &github, "version")).ended(0);
    assert_eq!(github.writes().len(), writes, "nothing new is said");
    repository.commit("feat: [b](https://evil.example) <!-- section version -->");
    run(&mut commenting(&repository, &github, "version")).ended(0);
    let all = comments();
    assert!(all.len() == 2 && all[0].0 == forged, "{all:?}");
    assert!(all[1].0.contains("0.1.0-pr.12.2"), "{all:?}");
    assert_eq!(all[1].0.matches("<!--").count(), 2, "{all:?}");
    // A failure is said as well, and a token that may not comment fails nothing.
    repository.write("service.yaml", "name: patients\nprot: 8000\n");
    run(&mut commenting(&repository, &github, "version")).ended(2);
    assert!(comments()[1].0.contains("Did you mean `port`?"), "{:?}", comments());
    repository.write("service.yaml", "name: patients\nport: 8000\n");
    github.with(|state| state.rules.push(("PATCH", "/comments/", 9, Act::Answer(403, "", "no"))));
    let ended = run(&mut commenting(&repository, &github, "version")).ended(0);
    assert!(ended.stderr.contains("pull-requests: write"), "{ended}");
}

/// Two jobs look at the same moment, find no comment, and both make one.
#[test]
fn two_first_comments_become_one() {
    let repository = Repository::new();
    repository.write("service.yaml", "name: patients\nport: 8000\n");
    repository.write("Dockerfile", "FROM scratch\n");
    repository.git(&["add", "-A"]);
    repository.commit("fix: a");
    let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));
    // The first look of each finds nothing.
    github.with(|state| {
        state.rules.push(("GET", "/issues/12/comments", 2, Act::Answer(200, "", "")))
    });
    let start = |step: &str| {
        let mut command = commenting(&repository, &github, step);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("cicd starts")
    };
    let mut started = [start("version"), start("check")];
    for child in &mut started {
        child.wait().expect("an end");
    }
    let ours = github.with(|state| {
        let ours = state.comments.iter().filter(|(text, _)| text.starts_with("<!-- clinicult"));
        ours.map(|(text, _)| text.clone()).collect::<Vec<_>>()
    });
    let writes = github.writes();
    assert_eq!(ours.len(), 1, "{ours:?} {writes:?}");
    assert!(ours[0].contains("section version") && ours[0].contains("section check"), "{ours:?}");
}

/// The image of a pull request against the one that runs.
#[test]
fn the_comment_says_what_a_change_adds_to_the_image() {
    let name = unique("grown");
    let repository = crate::pipeline::service(&name);
    let _removal = Removal::of(&name);
    run(cicd(repository.path()).args(["run", "--environment", "staging", "--skip-contract"]))
        .ended(0);
    let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));
    let said = || {
        let mut build = commenting(&repository, &github, "build-image");
        run(build.args(["--compare", "staging", "--skip-contract", "--version", "0.1.0"])).ended(0);
        github.with(|state| state.comments[0].0.clone())
    };
    let same = said();
    assert!(same.contains("the same layers as 0.1.0 in staging"), "{same}");
    assert!(!same.contains("| layer |"), "nothing to tell of: {same}");
    repository.write("patients/codes.txt", &"A00 Cholera\n".repeat(4000));
    repository.git(&["add", "-A"]);
    repository.commit("feat: codes of diagnoses");
    let grown = said();
    assert!(grown.contains(" more than 0.1.0 in staging"), "{grown}");
    assert!(grown.contains("| layer | before | now |") && grown.contains("COPY"), "{grown}");
    assert_eq!(grown.matches("\n| ").count(), 2, "a layer differs, and no other: {grown}");
    // Where the commit that it goes to was deployed, it is told by that one's image.
    let mut build = commenting(&repository, &github, "build-image");
    let base = repository.git(&["rev-parse", "HEAD~1"]);
    let event = repository.path().join("event.json");
    let text = std::fs::read_to_string(&event).expect("an event");
    let of_base = format!(r#""base": {{"sha": "{base}"}}, "head""#);
    std::fs::write(&event, text.replace(r#""head""#, &of_base)).expect("written");
    run(build.args(["--compare", "staging", "--skip-contract", "--version", "0.1.0"])).ended(0);
    let based = github.with(|state| state.comments[0].0.clone());
    assert!(based.contains(" more than 0.1.0 in the base branch"), "{based}");
    // Where nobody may look, nothing is said.
    let mut build = commenting(&repository, &github, "build-image");
    build.args(["--compare", "nowhere", "--skip-contract", "--version", "0.1.0"]);
    let ended = run(&mut build).ended(0);
    assert!(ended.stderr.contains("not compared with nowhere"), "{ended}");
}

/// A command of a job on the default branch, with what the runner hands in.
pub fn on_main(command: &mut Command, folder: &Path, github: &Github) -> Run {
    let event = folder.join("event.json");
    let text = r#"{"repository": {"default_branch": "main", "full_name": "clinicult/patients"}}"#;
    std::fs::write(&event, text).expect("written");
    let given = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_EVENT_NAME", "workflow_dispatch"),
        ("GITHUB_REF", "refs/heads/main"),
        ("GITHUB_RUN_ID", "811"),
        ("GITHUB_SHA", "0123456789012345678901234567890123456789"),
        ("GITHUB_API_URL", &github.url),
        ("GITHUB_REPOSITORY", "clinicult/patients"),
        ("GITHUB_TOKEN", "test-github-token"),
    ];
    let summary = folder.join("summary.md");
    run(command.envs(given).env("GITHUB_EVENT_PATH", event).env("GITHUB_STEP_SUMMARY", summary))
}

/// A namespace of the test's own, where the credentials at hand deploy: the stack's role is for
/// another one.
pub fn place_without_role(test: &str) -> Place {
    let place = Place::new(test);
    let file = place.repository.path().join("platform.yaml");
    let text = std::fs::read_to_string(file).expect("a platform");
    let kept: Vec<&str> = text.lines().filter(|line| !line.contains("role: arn:")).collect();
    place.repository.write("platform.yaml", &kept.join("\n"));
    place
}

/// The state and the description of each status of a deployment.
fn statuses(deployment: &Value) -> Vec<(String, String)> {
    let all = deployment["statuses"].as_array().expect("a list");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    all.iter().map(|status| (text(&status["state"]), text(&status["description"]))).collect()
}

/// A deploy, one that fails, and a rollback by hand: GitHub shows each as the ledger has it, and the
/// summary of each begins with the verdict.
#[test]
fn github_shows_the_deploys_that_the_ledger_has() {
    let place = place_without_role("shown");
    let github = Github::of(place.repository.path(), &stack("CICD_STACK_GITHUB"));
    let folder = place.repository.path();
    let summary = folder.join("summary.md");
    let verdict = || {
        let text = std::fs::read_to_string(&summary).expect("a summary");
        std::fs::remove_file(&summary).expect("removed");
        text.lines().next().unwrap_or_default().to_string()
    };
    let deploy =
        |version: &str| on_main(&mut place.command(version, digest_of(version)), folder, &github);
    // A service of another team in the same environment.
    let others = json!({ "id": 1, "environment": "staging", "payload": { "service": "other" },
        "statuses": [{ "state": "success" }] });
    github.with(|state| state.deployments.push(others.clone()));

    place.service("env: {GREETING: hello}\n");
    let first = deploy("1.0.0").ended(0).json();
    assert_eq!(verdict(), "### ✅ probe 1.0.0 runs in staging");
    place.service("env: {GREETING: hello, CRASH: no database}\n");
    deploy("2.0.0").ended(4);
    assert_eq!(verdict(), "### ↩️ probe 2.0.0 failed in staging and was rolled back to 1.0.0");
    place.service("env: {GREETING: again}\n");
    deploy("2.0.0").ended(0);
    let mut rollback = cicd(folder);
    rollback.args(["rollback", "--environment", "staging", "--to", "previous"]);
    rollback.args(["--platform", "platform.yaml", "--output", "json"]);
    on_main(&mut rollback, folder, &github).ended(0);

    let shown = github.with(|state| state.deployments.clone());
    assert_eq!(shown[0], others, "what others deployed is theirs");
    let told: Vec<Value> = shown[1..]
        .iter()
        .map(|one| json!([one["task"], one["payload"]["version"], one["payload"]["digest"]]))
        .collect();
    let (one, two) = (digest_of("1.0.0"), digest_of("2.0.0"));
    assert_eq!(
        told,
        [
            json!(["deploy", "1.0.0", one]),
            json!(["deploy", "2.0.0", two]),
            json!(["deploy", "2.0.0", two]),
            json!(["rollback", "1.0.0", one]),
        ]
    );
    let states: Vec<Vec<String>> = shown[1..]
        .iter()
        .map(|one| statuses(one).into_iter().map(|(state, _)| state).collect())
        .collect();
    assert_eq!(
        states,
        [
            vec!["in_progress", "success", "inactive"],
            vec!["in_progress", "failure"],
            vec!["in_progress", "success", "inactive"],
            vec!["in_progress", "success"],
        ]
    );
    let last = &shown[1]["statuses"][1];
    assert_eq!(last["environment_url"], first["url"], "{last}");
    assert_eq!(last["log_url"], "https://github.com/clinicult/patients/actions/runs/811");
    // The records of the ledger, oldest first, and what GitHub says of each.
    let mut history = cicd(folder);
    history.args(["history", "--environment", "staging"]);
    let history = run(history.args(["--platform", "platform.yaml", "--output", "json"])).ended(0);
    let history = history.json();
    let records = history["records"].as_array().expect("records").iter().rev();
    for (record, deployment) in records.zip(&shown[1..]) {
        let said = format!("record {}: ", record["number"]);
        let (_, words) = &statuses(deployment)[1];
        assert!(words.starts_with(&said), "{words}: {said}");
        assert_eq!(record["digest"], deployment["payload"]["digest"]);
    }
}

/// A token that may not, and a GitHub that does not answer well, stop no deploy.
#[test]
fn a_deploy_needs_nothing_of_github() {
    let place = place_without_role("unshown");
    let github = Github::of(place.repository.path(), &stack("CICD_STACK_GITHUB"));
    let folder = place.repository.path();
    let cases = [
        (("POST", "/deployments", 9, Act::Answer(403, "", "no")), "deployments: write"),
        (("POST", "/statuses", 9, Act::Answer(404, "", "gone")), "GitHub shows no deployment"),
    ];
    for (place_in_order, (rule, said)) in cases.into_iter().enumerate() {
        github.with(|state| state.rules = vec![rule]);
        place.service(&format!("env: {{GREETING: hello{place_in_order}}}\n"));
        let ended = on_main(&mut place.command("1.0.0", digest_of("1.0.0")), folder, &github);
        assert!(ended.stderr.contains(said), "{ended}");
        ended.ended(0);
    }
    // Nor does a plan tell anybody.
    github.with(|state| state.seen.clear());
    on_main(place.command("1.0.0", digest_of("1.0.0")).arg("--plan"), folder, &github).ended(0);
    assert_eq!(github.writes(), Vec::<String>::new());
}

/// A role that trusts another job is refused; with the statement that is said in its trust policy it
/// is given.
#[test]
fn the_statement_that_is_said_lets_the_job_in() {
    let role = unique("trust");
    let aws = |arguments: &[&str]| run(Command::new("aws").args(arguments)).ended(0);
    let trusting = |statement: &Value| {
        json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string()
    };
    let nobody = json!({
        "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::111122223333:root" },
        "Action": "sts:AssumeRole",
    });
    let named = ["--role-name", &role];
    let trust = ["--assume-role-policy-document", &trusting(&nobody)];
    aws(&[&["iam", "create-role"], &named[..], &trust[..]].concat());
    let repository = Repository::new();
    let platform = std::fs::read_to_string(stack("INPUT_PLATFORM")).expect("a platform");
    repository
        .write("platform.yaml", &platform.replace("role/cicd-staging", &format!("role/{role}")));
    repository.write("service.yaml", "name: patients\nport: 8000\nenvironments: {staging: {}}\n");
    let status = || {
        let mut command = cicd(repository.path());
        command.args(["status", "--environment", "staging", "--platform", "platform.yaml"]);
        command.args(["--output", "json"]).env("GITHUB_ACTIONS", "true");
        let bearer = stack("CICD_STACK_OIDC_BEARER");
        command.env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", &bearer);
        run(command.env("ACTIONS_ID_TOKEN_REQUEST_URL", stack("CICD_STACK_OIDC_URL")))
    };
    let denied = status().ended(3).json();
    let message = denied["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("the token says sub=repo:"), "{message}");
    let fix = denied["error"]["fix"].as_str().unwrap_or_default();
    let (_, statement) = fix.split_once(":\n").unwrap_or_else(|| panic!("no statement: {denied}"));
    let statement = serde_json::Deserializer::from_str(statement).into_iter::<Value>().next();
    let statement = statement.expect("a statement").expect("JSON");
    let document = ["--policy-document", &trusting(&statement)];
    aws(&[&["iam", "update-assume-role-policy"], &named[..], &document[..]].concat());
    let given = status();
    assert!(!format!("{given}").contains("cannot assume"), "{given}");
    aws(&[&["iam", "delete-role"], &named[..]].concat());
}

/// All jobs are run again after the tag was made: the release goes on with the image that it names.
#[test]
fn a_publication_goes_on_from_the_tag_that_stands() {
    let repository = Repository::new();
    let action = "runs:\n  using: docker\n  image: Dockerfile\n";
    repository.write("action.yml", action);
    repository.git(&["add", "-A"]);
    repository.commit("feat: a");
    let output = repository.path().join("output");
    let begun = || {
        std::fs::write(&output, "").expect("written");
        let ended = run(Command::new("bash")
            .args([
                "--noprofile",
                "--norc",
                "-eo",
                "pipefail",
                "-c",
                &script_of("See whether an earlier attempt made the tag"),
            ])
            .current_dir(repository.path())
            .env("IMAGE", "ghcr.io/clinicult/cicd")
            .env("GITHUB_OUTPUT", &output));
        (ended.code, std::fs::read_to_string(&output).expect("an output"), ended.stdout)
    };
    let nothing = (0, String::new(), String::new());
    assert_eq!(begun(), nothing);
    // An earlier release, which HEAD contains, is none of this commit; nor is one of another name.
    repository.git(&["tag", "v1.1.0"]);
    let digest = format!("sha256:{}", "0a".repeat(32));
    let release = |tag: &str, image: &str| {
        repository.git(&["checkout", "-q", "--detach"]);
        repository.write("action.yml", &action.replace("Dockerfile", image));
        repository.git(&["commit", "-qam", "release"]);
        repository.git(&["tag", tag]);
        repository.git(&["checkout", "-q", "main"]);
    };
    release("nightly", &format!("docker://ghcr.io/clinicult/cicd@{digest}"));
    assert_eq!(begun(), nothing);
    release("v1.2.0", &format!("docker://ghcr.io/clinicult/cicd@{digest}"));
    let (code, given, said) = begun();
    assert_eq!((code, given), (0, format!("version=1.2.0\ndigest={digest}\n")), "{said}");
    // The next commit is released anew.
    repository.commit("feat: b");
    assert_eq!(begun(), nothing);
    release("v1.3.0", "docker://ghcr.io/somebody/cicd@sha256:00");
    let (code, given, said) = begun();
    assert!(code == 1 && given.is_empty() && said.contains("::error::v1.3.0"), "{said}");
}
