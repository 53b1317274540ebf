//! The caller workflow that a service copies, run by act: reusable workflow → container action →
//! the emulated AWS.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use serde_json::{Value, json};

use crate::release::github::Github;
use crate::support::{Removal, Repository, Run, cicd, copy, http_get, root, run, stack, unique};

/// The action's image with the binary under test, by digest; built once for all tests.
pub fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let binary = Path::new(env!("CARGO_BIN_EXE_cicd"));
        let ended = run(Command::new(root().join("dev")).arg("image").arg(binary)).ended(0);
        ended.stdout.trim().to_string()
    })
}

/// A service's repository, as the README tells to make it: the example, the caller workflow, a
/// platform file beside it.
pub fn service(name: &str) -> Repository {
    let repository = Repository::of_example();
    let text =
        std::fs::read_to_string(repository.path().join("service.yaml")).expect("service.yaml");
    repository.write("service.yaml", &text.replace("patients", name));
    for caller in ["ci.yml", "deploy.yml"] {
        let text = std::fs::read_to_string(root().join("workflows").join(caller)).expect(caller);
        repository.write(&format!(".github/workflows/{caller}"), &text);
    }
    let platform =
        std::fs::read_to_string(stack("INPUT_PLATFORM")).expect("the stack's platform.yaml");
    assert!(
        platform.contains("role: arn:aws:iam::"),
        "the job is to assume a role by its OIDC token:\n{platform}"
    );
    repository.write("platform.yaml", &platform);
    repository.git(&["add", "-A"]);
    repository.commit("ci: let the pipeline run");
    repository
}

pub fn act(repository: &Repository, event: &str, github: &Github, more: &[&str]) -> Run {
    act_on(repository, (event, &json!({})), github, more)
}

/// Runs the workflows for an event with a part of its payload.
pub fn act_on(
    repository: &Repository,
    event: (&str, &Value),
    github: &Github,
    more: &[&str],
) -> Run {
    let kept = tempfile::tempdir().expect("a folder");
    act_keeping(kept.path(), repository, event, github, more)
}

/// The same, with the folder in which artifacts and caches stay.
fn act_keeping(
    kept: &Path,
    repository: &Repository,
    (event, payload): (&str, &Value),
    github: &Github,
    more: &[&str],
) -> Run {
    // act names its containers and its cache after workflow and job: two at a time would take each
    // other's.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|failed| failed.into_inner());
    let script = root().join("tests/stack/act.sh");
    run(Command::new("bash")
        .arg(script)
        .arg(repository.path())
        .arg(image())
        .arg(event)
        .arg(&github.url)
        .args(more)
        .env("ACT_KEPT", kept)
        .env("ACT_EVENT", payload.to_string()))
}

/// The jobs that act says succeeded, by name. Jobs of a matrix have a number behind it.
pub fn succeeded(log: &str) -> Vec<String> {
    let mut jobs: Vec<String> = log
        .lines()
        .filter(|line| line.contains("Job succeeded"))
        .filter_map(|line| line.split(']').next()?.rsplit('/').next())
        .map(|job| {
            job.trim()
                .trim_end_matches(|c: char| c.is_ascii_digit())
                .trim_end_matches('-')
                .to_string()
        })
        .collect();
    jobs.sort();
    jobs
}

#[test]
fn a_push_goes_from_the_commit_to_both_environments() {
    let name = unique("act-push");
    let repository = service(&name);
    let _removal = Removal::of(&name);
    let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));
    let ended = act(&repository, "push", &github, &[]);
    let log = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code, 0, "{log}");
    assert_eq!(
        succeeded(&log),
        ["deploy production", "deploy staging", "image", "release"],
        "{log}"
    );
    let commit = repository.git(&["rev-parse", "HEAD"]);
    assert_eq!(
        github.with(|state| state.tags.clone().into_iter().collect::<Vec<_>>()),
        [("v0.1.0".to_string(), commit)]
    );
    assert!(github.with(|state| state.releases.contains_key("v0.1.0")), "{log}");
    for summary in [
        "**Version** `0.1.0`",
        "**Image** `sha256:",
        "**Pushed** `",
        "**Release** v0.1.0",
        "0.1.0 runs in staging",
        "0.1.0 runs in production",
    ] {
        assert!(log.contains(summary), "the job summary lacks {summary}:\n{log}");
    }
    let shown: Vec<Value> = github.with(|state| state.deployments.clone());
    let shown: Vec<String> = shown
        .iter()
        .map(|one| format!("{} {}", one["environment"], one["statuses"][1]["state"]))
        .collect();
    assert_eq!(shown, [r#""staging" "success""#, r#""production" "success""#], "{log}");
    for secret in [
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN=",
        "aws_secret_access_key",
        &stack("CICD_STACK_OIDC_BEARER"),
    ] {
        let said =
            log.lines().filter(|line| line.contains(secret) && !line.contains("add-mask")).count();
        assert_eq!(said, 0, "{secret} is in the log:\n{log}");
    }

    let path = format!("/api/v1/namespaces/staging/services/{name}:8000/proxy/");
    let answer = run(Command::new("kubectl").args(["get", "--raw", &path])).ended(0);
    assert!(answer.stdout.contains("\"version\":\"0.1.0\""), "{answer}");
    let url = log.lines().find_map(|line| {
        line.split("::set-output:: url=").nth(1).filter(|url| url.contains("execute-api"))
    });
    let answer: Value =
        serde_json::from_str(&http_get(&format!("{}/", url.expect("a URL").trim()))).expect("JSON");
    assert_eq!(answer["version"], "0.1.0");
}

#[test]
fn a_pull_request_plans_and_writes_nothing() {
    let name = unique("act-pull");
    let repository = service(&name);
    let _removal = Removal::of(&name);
    let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));
    let ended = act(&repository, "pull_request", &github, &[]);
    let log = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code, 0, "{log}");
    assert_eq!(succeeded(&log), ["image", "plan production", "plan staging"], "{log}");
    assert!(log.contains("would create Deployment/"), "{log}");
    assert!(log.contains("would create TaskDefinition/"), "{log}");
    let comments = github.with(|state| state.comments.clone());
    let comment = comments.first().map(|(text, _)| text.as_str()).unwrap_or_default();
    for section in [
        "**Version** `",
        "**Image** `sha256:",
        "+ create Deployment/",
        "+ create TaskDefinition/",
        "<sub>0123456789012345678901234567890123456789</sub>",
    ] {
        assert!(comments.len() == 1 && comment.contains(section), "{section}: {comments:?}");
    }
    let writes = github.writes();
    assert!(
        writes.iter().all(|write| write.contains("/comments")),
        "it releases nothing: {writes:?}"
    );
    let repositories = run(Command::new("aws").args(["ecr", "describe-repositories"])).ended(0);
    assert!(!repositories.stdout.contains(&name), "a pull request pushes nothing");
    let found = run(Command::new("kubectl").args(["-n", "staging", "get", "deployment", &name]));
    assert_ne!(found.code, 0, "a pull request deploys nothing");
}

/// It gets no OIDC token: its image is built and checked, and nothing is asked of the cloud.
#[test]
fn a_pull_request_from_a_fork_plans_nothing() {
    let name = unique("act-fork");
    let repository = service(&name);
    let _removal = Removal::of(&name);
    let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));
    let ended = act(&repository, "pull_request", &github, &["somebody/patients"]);
    let log = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!((ended.code, succeeded(&log)), (0, vec!["image".to_string()]), "{log}");
    assert_eq!(github.writes(), Vec::<String>::new());
}

/// The caller names a secret, and the step of the Dockerfile that asks for it reads it. A fork has
/// none, and is told so.
#[test]
fn a_build_secret_goes_from_the_caller_to_the_step_and_not_to_a_fork() {
    let name = unique("act-secret");
    let repository = service(&name);
    let _removal = Removal::of(&name);
    let edit = |file: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(repository.path().join(file)).expect("a file");
        assert!(text.contains(from), "{file} has no {from}");
        repository.write(file, &text.replacen(from, to, 1));
    };
    edit(
        "service.yaml",
        "  context: .\n",
        "  context: .\n  build-secrets: ['id=npm,env=NPM_TOKEN']\n",
    );
    let step = "RUN --mount=type=secret,id=npm cat /run/secrets/npm; test \"$(cat /run/secrets/npm)\" = hunter2-and-a-half\n";
    edit("Dockerfile", "WORKDIR /app\n", &format!("{step}WORKDIR /app\n"));
    let secrets =
        "    secrets:\n      build-secrets: |\n        NPM_TOKEN=${{ secrets.NPM_TOKEN }}\n";
    edit(".github/workflows/ci.yml", "    permissions:\n", &format!("{secrets}    permissions:\n"));
    repository.git(&["add", "-A"]);
    repository.commit("feat: a private dependency");
    let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));

    let own = ["clinicult/patients", "--secret", "NPM_TOKEN=hunter2-and-a-half"];
    let ended = act(&repository, "pull_request", &github, &own);
    let log = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!((ended.code, succeeded(&log).contains(&"image".to_string())), (0, true), "{log}");
    let said: Vec<&str> =
        log.lines().filter(|line| line.contains("hunter2") && !line.contains("add-mask")).collect();
    assert!(said.is_empty(), "{said:?}");

    let ended = act(&repository, "pull_request", &github, &["somebody/patients"]);
    let log = format!("{}{}", ended.stdout, ended.stderr);
    assert_ne!(ended.code, 0, "{log}");
    assert!(log.contains("a pull request from a fork runs without secrets"), "{log}");
}

/// A merge that releases nothing is a snapshot: pushed, deployed to the first environment, and the
/// release left out.
#[test]
fn a_snapshot_is_deployed_without_a_release() {
    let name = unique("act-snapshot");
    let repository = service(&name);
    repository.git(&["tag", "v0.1.0"]);
    repository.commit("docs: words");
    let _removal = Removal::of(&name);
    let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));
    let ended = act(&repository, "push", &github, &[]);
    let log = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(
        (ended.code, succeeded(&log)),
        (0, vec!["deploy staging".to_string(), "image".to_string()]),
        "{log}"
    );
    // It is shown as a deployment, and nothing is released.
    let writes = github.writes();
    assert!(!writes.is_empty());
    assert!(writes.iter().all(|write| write.contains("/deployments")), "{writes:?}");
}

/// Tests of a service, and what they report.
const TESTS: &str =
    "open('/tmp/junit.xml', 'w').write('<testsuite><testcase name=\"a\"/></testsuite>')";

/// Two services of one repository: a push that touches one of them builds, releases and deploys that
/// one, by tags of its own; one that touches none is green.
#[test]
fn a_push_is_of_the_services_that_it_touches() {
    let names = [unique("act-one"), unique("act-two")];
    let _removals = names.each_ref().map(|name| Removal::of(name));
    let repository = Repository::new();
    for name in &names {
        let folder = format!("services/{name}");
        copy(&root().join("examples/fastapi"), &repository.path().join(&folder));
        let text = format!(
            "name: {name}\nport: 8000\nversion: {{prefix: {name}-v}}\nenvironments: {{staging: {{}}}}\n\
             test: {{target: build, command: [python, -c, {TESTS:?}], reports: [/tmp/junit.xml]}}\n"
        );
        repository.write(&format!("{folder}/service.yaml"), &text);
    }
    let caller = include_str!("../../workflows/services.yml");
    repository.write(".github/workflows/ci.yml", caller);
    let platform = std::fs::read_to_string(stack("INPUT_PLATFORM")).expect("a platform");
    repository.write("platform.yaml", &platform);
    repository.git(&["add", "-A"]);
    let first = repository.commit("feat: first");
    let tags = names.each_ref().map(|name| format!("{name}-v0.1.0"));
    tags.iter().for_each(|tag| drop(repository.git(&["tag", tag])));
    let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));
    let known = tags.iter().map(|tag| (tag.clone(), first.clone()));
    github.with(|state| state.tags.extend(known));
    let push = |before: &str, file: &str| {
        repository.write(file, "something\n");
        repository.git(&["add", "-A"]);
        repository.commit("feat: something");
        let options = ["clinicult/patients", "--var", "CICD_PLATFORM=platform.yaml"];
        let ended = act_on(&repository, ("push", &json!({"before": before})), &github, &options);
        let log = format!("{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, 0, "{log}");
        (succeeded(&log), log)
    };
    let (jobs, log) = push(&first, &format!("services/{}/NEWS.md", names[0]));
    assert_eq!(jobs, ["changed", "deploy staging", "image", "release"], "{log}");
    assert!(log.contains(&format!("{} 0.2.0 runs in staging", names[0])), "{log}");
    assert!(log.contains("**Tests** 1 test,"), "{log}");
    let released = |github: &Github| github.with(|state| state.releases.len());
    let tag = format!("{}-v0.2.0", names[0]);
    assert!(github.with(|state| state.releases.contains_key(&tag)), "{log}");
    let (jobs, log) = push(&repository.git(&["rev-parse", "HEAD"]), "README.md");
    assert_eq!((jobs, released(&github)), (vec!["changed".to_string()], 1), "{log}");
}

/// Each platform on a runner of its own, and one image of them; here the one platform that this
/// machine is of.
#[test]
fn a_platform_is_built_on_a_runner_of_its_own() {
    let name = unique("act-native");
    let repository = service(&name);
    let _removal = Removal::of(&name);
    let file = ".github/workflows/ci.yml";
    let text = std::fs::read_to_string(repository.path().join(file)).expect("ci.yml");
    let native = r#"'[{"platform": "linux/amd64", "runner": "ubuntu-latest"}]'"#;
    let with = format!("    with:\n      native: {native}\n    permissions:\n");
    repository.write(file, &text.replacen("    permissions:\n", &with, 1));
    repository.git(&["commit", "-qam", "ci: a runner for each platform"]);
    let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));
    let ended = act(&repository, "pull_request", &github, &["somebody/patients"]);
    let log = format!("{}{}", ended.stdout, ended.stderr);
    // `build linux/amd64`, of whose name the part behind the last stroke is read, without numbers.
    assert_eq!((ended.code, succeeded(&log)), (0, vec!["amd".into(), "image".into()]), "{log}");
}

/// Starts deploy.yml by hand.
pub fn dispatch(repository: &Repository, github: &Github, inputs: &[(&str, &str)]) -> Run {
    let inputs: Vec<String> =
        inputs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut more = vec!["clinicult/patients"];
    more.extend(inputs.iter().flat_map(|input| ["--input", input.as_str()]));
    act(repository, "workflow_dispatch", github, &more)
}

/// Staging first, then production by hand; back by hand; promoted again; and what was never in
/// staging, or never pushed, is refused.
#[test]
fn a_person_deploys_rolls_back_and_promotes() {
    let name = unique("act-hand");
    let repository = service(&name);
    let _removal = Removal::of(&name);
    let file = repository.path().join("platform.yaml");
    let text = std::fs::read_to_string(&file).expect("a platform");
    let proven = text.replacen("  production:\n", "  production:\n    after: staging\n", 1);
    assert_ne!(proven, text);
    repository.write("platform.yaml", &proven);
    repository.git(&["commit", "-qam", "ci: production comes after staging"]);
    let github = Github::of(repository.path(), &stack("CICD_STACK_GITHUB"));
    let local = |arguments: &[&str]| {
        run(cicd(repository.path()).args(arguments).args([
            "--platform",
            "platform.yaml",
            "--output",
            "json",
        ]))
    };
    let first = local(&["run", "--environment", "staging"]).ended(0).json();
    let (version, digest) = (first["version"].clone(), first["digest"].clone());
    let version = version.as_str().expect("a version");
    let file = repository.path().join("service.yaml");
    let text = std::fs::read_to_string(file).expect("service.yaml");
    let migration = "before-deploy: {command: [\"true\"], irreversible: true}";
    repository.write("service.yaml", &format!("{text}{migration}\n"));
    repository.git(&["add", "-A"]);
    repository.commit("feat: something");
    repository.git(&["tag", &format!("v{version}"), "HEAD~1"]);

    let ended = |inputs: &[(&str, &str)]| {
        let ended = dispatch(&repository, &github, inputs);
        (ended.code, format!("{}{}", ended.stdout, ended.stderr))
    };
    let production = ("environment", "production");
    let tag = format!("v{version}");
    let (code, log) =
        ended(&[("action", "deploy"), production, ("version", &tag), ("reason", "first")]);
    assert_eq!(code, 0, "{log}");
    let (code, log) =
        ended(&[("action", "deploy"), production, ("version", "9.9.9"), ("reason", "no")]);
    assert!(code != 0 && log.contains("9.9.9"), "what was never pushed:\n{log}");

    let second = local(&["version"]).ended(0).json()["docker-tag"].clone();
    let second = second.as_str().expect("a version");
    local(&["build-image", "--skip-contract", "--version", second]).ended(0);
    local(&["push-ecr", "--environment", "staging", "--tag", second]).ended(0);
    let (code, log) =
        ended(&[("action", "deploy"), production, ("version", second), ("reason", "no")]);
    assert!(code != 0 && log.contains("production comes after staging"), "{log}");
    local(&["deploy", "--environment", "staging", "--version", second]).ended(0);
    let (code, log) =
        ended(&[("action", "promote"), production, ("from", "staging"), ("reason", "it is well")]);
    assert_eq!(code, 0, "{log}");
    let back = [("action", "rollback"), production, ("reason", "it hurts")];
    let (code, log) = ended(&back);
    assert!(code != 0 && log.contains("irreversible-migration"), "without force:\n{log}");
    let (code, log) = ended(&[&back[..], &[("force", "true")]].concat());
    assert_eq!(code, 0, "{log}");

    let history = local(&["history", "--environment", "production"]).ended(0).json();
    let told: Vec<String> = history["records"]
        .as_array()
        .expect("records")
        .iter()
        .map(|record| {
            let text = |key: &str| record[key].as_str().unwrap_or_default();
            format!("{} {} {}", text("kind"), text("version"), text("reason"))
        })
        .collect();
    let expected = [
        format!("rollback {version} it hurts"),
        format!("promote {second} it is well"),
        format!("deploy {version} first"),
    ];
    assert_eq!(told, expected);
    assert_eq!(history["records"][0]["digest"], digest);
}

/// The fleet page of docs/fleet.md, twice: by a role that may do what `render --iam` says and no more,
/// with what was read the first time, and published.
#[test]
fn the_fleet_page_is_published_and_only_new_records_are_read() {
    let name = unique("act-fleet");
    let repository = service(&name);
    let docs = std::fs::read_to_string(root().join("docs/fleet.md")).expect("fleet.md");
    let workflow = docs.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    repository.write(".github/workflows/ci.yml", workflow.expect("a workflow"));
    repository.git(&["rm", "-q", "--cached", ".github/workflows/deploy.yml"]);
    std::fs::remove_file(repository.path().join(".github/workflows/deploy.yml")).expect("removed");
    let platform = std::fs::read_to_string(repository.path().join("platform.yaml"));
    let own = format!("bucket: {name}, role: 'arn:aws:iam::111122223333:role/{name}'");
    let platform = platform.expect("a platform").replace("bucket: clinicult-cicd-records", &own);
    assert!(platform.contains(&own), "{platform}");
    repository.write("platform.yaml", &platform);
    repository.git(&["add", "-A"]);
    repository.commit("ci: the fleet page");

    let aws = |more: &[&str]| run(Command::new("aws").args(more)).ended(0);
    let iam = |more: &[&str]| aws(&[&["iam"], more, &["--role-name", &name]].concat());
    let trust = run(Command::new("aws").args([
        "iam",
        "get-role",
        "--role-name",
        "cicd-staging",
        "--output",
        "json",
    ]));
    let trust = trust.ended(0).json()["Role"]["AssumeRolePolicyDocument"].to_string();
    iam(&["create-role", "--assume-role-policy-document", &trust]);
    let rendered = run(cicd(repository.path()).args([
        "render",
        "--iam",
        "report",
        "--environment",
        "staging",
        "--platform",
        "platform.yaml",
    ]));
    let policy = rendered.ended(0).stdout;
    iam(&["put-role-policy", "--policy-name", "report", "--policy-document", &policy]);
    let (place, records) = (format!("cicd/{name}/production/docker"), repository.path().join("r"));
    aws(&["s3", "mb", &format!("s3://{name}")]);
    let deployed = |number: u64| {
        let record = json!({
            "format": 1, "number": number, "service": name, "environment": "production",
            "kind": "deploy", "version": format!("1.0.{number}"), "result": "deployed", "good": true,
            "started": "2026-11-23T08:00:00Z", "ended": "2026-11-23T08:01:00Z", "who": "ada",
            "digest": format!("sha256:{}", "ab".repeat(32)), "pipeline-version": "1.0.0",
        });
        let head = json!({ "format": 1, "last": record });
        for (file, object) in
            [(format!("records/{number:08}.json"), &record), ("head.json".into(), &head)]
        {
            std::fs::write(&records, object.to_string()).expect("written");
            let to = format!("s3://{name}/{place}/{file}");
            aws(&["s3", "cp", "--only-show-errors", &records.display().to_string(), &to]);
        }
    };
    let (kept, github) = (tempfile::tempdir().expect("a folder"), stack("CICD_STACK_GITHUB"));
    let github = Github::of(repository.path(), &github);
    let publish = |run: &str| {
        let id = format!("GITHUB_RUN_ID={run}");
        let options = ["clinicult/patients", "--var", "CICD_PLATFORM=platform.yaml", "--env", &id];
        let ended =
            act_keeping(kept.path(), &repository, ("schedule", &json!({})), &github, &options);
        let log = format!("{}{}", ended.stdout, ended.stderr);
        assert_eq!(
            (ended.code, succeeded(&log)),
            (0, vec!["publish".into(), "report".into()]),
            "{log}"
        );
        let page = std::fs::read_to_string(kept.path().join("github-pages/index.html"));
        (page.expect("a page"), log)
    };
    deployed(1);
    let (page, log) = publish("1");
    assert!(page.contains(&name) && page.contains("1.0.1"), "{page}");
    assert!(log.contains("1 services, 1 records (1 services had new ones)"), "{log}");
    // What was read once is not asked for again: it comes from the cache.
    let first = format!("s3://{name}/{place}/records/00000001.json");
    aws(&["s3", "rm", "--only-show-errors", &first]);
    deployed(2);
    let (page, log) = publish("2");
    assert!(page.contains("1.0.2") && log.contains("1 services, 2 records"), "{page}\n{log}");

    // Without one of its actions the page says what is missing, and nothing is published.
    for action in ["s3:ListBucket", "s3:GetObject"] {
        let less = policy.replace(action, "s3:GetBucketLocation");
        assert_ne!(less, policy);
        iam(&["put-role-policy", "--policy-name", "report", "--policy-document", &less]);
        let ended = act_on(
            &repository,
            ("schedule", &json!({})),
            &github,
            &["clinicult/patients", "--var", "CICD_PLATFORM=platform.yaml"],
        );
        let log = format!("{}{}", ended.stdout, ended.stderr);
        assert!(ended.code != 0 && log.contains(action), "{action}: {log}");
        assert_eq!(succeeded(&log), Vec::<String>::new(), "{log}");
    }
    aws(&["s3", "rb", "--force", &format!("s3://{name}")]);
    iam(&["delete-role-policy", "--policy-name", "report"]);
    iam(&["delete-role"]);
}
