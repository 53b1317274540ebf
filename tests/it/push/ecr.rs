//! Pushing to ECR: its repositories, its token, its permissions.

use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::api::{Api, Turn};
use super::layouts::{Layout, random, sha256};
use super::proxy::{Act, Proxy, Rule};
use super::repository::{push_command, warnings};
use super::{assert_arrived, message, pusher};
use crate::support::{Repository, Run, cicd, log_entries, root, run, stack, unique};

/// The platform of the stack, with credentials for it in the environment.
fn to_ecr(name: &str, layout: &Layout, arguments: &[&str]) -> Run {
    let (_folder, mut command) = pusher(name, layout.path(), arguments);
    run(&mut command)
}

/// An ECR repository that is removed with all its images at the end.
pub struct EcrRepository(String);

impl EcrRepository {
    pub fn new() -> EcrRepository {
        EcrRepository(unique("push-ecr"))
    }
    /// What a service is called whose repository this is.
    pub fn service(&self) -> &str {
        &self.0
    }
    pub fn name(&self) -> String {
        format!("clinicult/{}", self.0)
    }
    /// `HOST/NAME` where the stack has it.
    pub fn reached(&self) -> String {
        let endpoint = stack("AWS_ENDPOINT_URL");
        format!("{}/{}", endpoint.trim_start_matches("http://"), self.name())
    }
    pub fn aws(&self, command: &str, more: &[&str]) -> Run {
        let mut aws = Command::new("aws");
        aws.args(["ecr", command, "--output", "json", "--repository-name", &self.name()])
            .args(more);
        run(&mut aws)
    }
    pub fn describe(&self) -> Option<Value> {
        let mut aws = Command::new("aws");
        aws.args([
            "ecr",
            "describe-repositories",
            "--output",
            "json",
            "--repository-names",
            &self.name(),
        ]);
        let ended = run(&mut aws);
        (ended.code == 0).then(|| ended.json()["repositories"][0].clone())
    }
    /// The writes to the repository's registry that the stack has seen.
    pub fn writes(&self) -> usize {
        let path = format!("/v2/{}/", self.name());
        log_entries("CICD_STACK_AWS_LOG")
            .iter()
            .filter(|entry| {
                entry["write"] == true
                    && entry["path"].as_str().is_some_and(|at| at.starts_with(&path))
            })
            .count()
    }
}

impl Drop for EcrRepository {
    fn drop(&mut self) {
        self.aws("delete-repository", &["--force"]);
    }
}

#[test]
fn ecr_gets_a_repository_with_safe_defaults_and_the_image() {
    let ecr = EcrRepository::new();
    let layout = Layout::index(&[random(600_000), random(300_000), random(1000)]);

    let planned = to_ecr(&ecr.0, &layout, &["--tag", "1.4.0", "--plan"]).ended(0);
    assert_eq!(
        (&planned.json()["status"], &planned.json()["uploaded-bytes"]),
        (&"planned".into(), &layout.size().into())
    );
    assert!(
        planned.stderr.contains(&format!("would create the repository {}", ecr.name())),
        "{planned}"
    );
    assert!(ecr.describe().is_none(), "a plan creates nothing");

    let pushed = to_ecr(&ecr.0, &layout, &["--tag", "1.4.0"]).ended(0).json();
    assert_eq!(
        pushed["repository"],
        format!("111122223333.dkr.ecr.eu-west-1.amazonaws.com/{}", ecr.name())
    );
    assert_eq!(
        (&pushed["digest"], &pushed["uploaded-bytes"]),
        (&layout.digest.as_str().into(), &layout.size().into())
    );
    let described = ecr.describe().expect("a repository");
    assert_eq!(described["imageTagMutability"], "IMMUTABLE");
    assert_eq!(described["imageScanningConfiguration"]["scanOnPush"], true);
    assert_arrived(&layout, &ecr.reached(), &["1.4.0"]);

    let writes = ecr.writes();
    assert!(writes > layout.blobs.len() * 2 + layout.documents.len(), "{writes}");
    let again = to_ecr(&ecr.0, &layout, &["--tag", "1.4.0"]).ended(0).json();
    assert_eq!(
        (&again["uploaded-bytes"], &again["skipped-bytes"]),
        (&0.into(), &layout.size().into())
    );
    assert_eq!(ecr.writes(), writes, "a second push writes nothing");

    let other = Layout::image(&[random(100)]);
    let said = message(&to_ecr(&ecr.0, &other, &["--tag", "1.4.0", "--tag", "1.5.0"]).ended(3));
    assert!(said.contains(&layout.digest) && said.contains(&other.digest), "{said}");
    assert_eq!(ecr.writes(), writes, "refused before anything is written");
}

#[test]
fn ecrs_token_is_never_shown() {
    let ecr = EcrRepository::new();
    let layout = Layout::image(&[random(100)]);
    // The token, the password, and what the token stands for.
    for (format, masked) in [("json", false), ("human", false), ("github", true)] {
        let arguments = ["--tag", "1.4.0", "--verbose", "--output", format];
        let folder = Repository::new();
        folder.write("service.yaml", &format!("name: {}\nport: 8000\n", ecr.0));
        let mut command = cicd(folder.path());
        let ended = run(command.arg("push-ecr").arg("--layout").arg(layout.path()).args(arguments))
            .ended(0);
        let (token, password) = ("QVdTOm1pbmlzdGFjay1hdXRoLXRva2Vu", "ministack-auth-token");
        let text = format!("{}{}", ended.stdout, ended.stderr);
        let shown: Vec<&str> =
            text.lines().filter(|line| line.contains(token) || line.contains(password)).collect();
        assert_eq!(!shown.is_empty(), masked, "{ended}");
        assert!(shown.iter().all(|line| line.starts_with("::add-mask::")), "{ended}");
    }
}

/// The whole run is refused before it builds anything.
#[test]
fn a_run_whose_version_is_taken_by_another_commit_builds_nothing() {
    let ecr = EcrRepository::new();
    let another = "4f1c".repeat(10);
    let layout = Layout::of_commit(&another);
    to_ecr(&ecr.0, &layout, &["--tag", "0.1.0"]).ended(0);
    let folder = Repository::new();
    folder.write("service.yaml", &format!("name: {}\nport: 8000\n", ecr.0));
    folder.git(&["add", "-A"]);
    let commit = folder.commit("feat: first");
    let mut command = cicd(folder.path());
    let ended = run(command.args(["run", "--environment", "staging", "--output", "json"])).ended(3);
    let said = message(&ended);
    for part in [&layout.digest, &commit, &format!("commit {another}"), ", pushed 20", ":0.1.0"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(ended.json()["version"], "0.1.0");
    assert!(!folder.path().join("target").exists(), "nothing was built");
}

/// The build goes on, as the push will tell; but nobody takes it for a look.
#[test]
fn a_look_before_the_build_that_is_denied_is_said() {
    let (ecr, layout) = (EcrRepository::new(), Layout::image(&[random(100)]));
    ecr.aws("create-repository", &[]).ended(0);
    let api = Api::new(|call, _| match call.action.contains("/manifests/1.0.0") {
        true => Turn::Answer(
            "403 Forbidden",
            json!({ "errors": [{ "code": "DENIED", "message": "not authorized" }] }),
        ),
        false => Turn::Pass,
    });
    let (folder, mut command) =
        push_command(&ecr, "", &layout, &["--tag", "1.0.0", "--tag", "2.0.0", "--preflight"]);
    let platform =
        std::fs::read_to_string(folder.path().join("platform.yaml")).expect("platform.yaml");
    folder.write("platform.yaml", &platform.replace(&stack("AWS_ENDPOINT_URL"), &api.url));
    let ended = run(&mut command).ended(0);
    let told = warnings(&ended);
    assert!(
        told.len() == 1
            && told[0].contains("whether 1.0.0 is free")
            && told[0].contains("ecr:BatchGetImage"),
        "{ended}"
    );
}

/// As a job pushes: the OIDC token becomes the environment's role.
#[test]
fn a_job_pushes_with_its_role() {
    let ecr = EcrRepository::new();
    ecr.aws("create-repository", &["--image-tag-mutability", "IMMUTABLE"]).ended(0);
    let layout = Layout::image(&[random(100)]);
    for bytes in [layout.size(), 0] {
        let (_folder, mut command) =
            pusher(&ecr.0, layout.path(), &["--tag", "1.0.0", "--environment", "staging"]);
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        command.env("ACTIONS_ID_TOKEN_REQUEST_URL", stack("CICD_STACK_OIDC_URL"));
        command.env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", stack("CICD_STACK_OIDC_BEARER"));
        assert_eq!(run(&mut command).ended(0).json()["uploaded-bytes"], bytes);
    }
}

/// ECR says in two ways that its token is over. It is renewed, and the upload that heard it begins
/// anew.
#[test]
fn a_token_that_is_over_in_the_middle_is_renewed() {
    let endpoint = stack("AWS_ENDPOINT_URL");
    let over = [
        Act::Answer("HTTP/1.1 401 Unauthorized"),
        Act::Say(
            "HTTP/1.1 403 Forbidden",
            r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate and try again."}]}"#,
        ),
    ];
    for act in over {
        // The calls of the API, of which one gets a token; what else there is, is the same with and
        // without.
        let calls = |rules: &[Rule]| {
            let (ecr, layout) = (
                EcrRepository::new(),
                Layout::image(&[random(1000), random(300_000), random(2000)]),
            );
            let proxy = Proxy::before(endpoint.trim_start_matches("http://"), rules);
            let platform = std::fs::read_to_string(stack("INPUT_PLATFORM")).expect("platform.yaml");
            let (folder, mut command) = pusher(ecr.service(), layout.path(), &["--tag", "1.0.0"]);
            folder.write(
                "platform.yaml",
                &platform.replace(&endpoint, &format!("http://{}", proxy.host)),
            );
            command
                .args(["--platform", "platform.yaml"])
                .env("AWS_ENDPOINT_URL", format!("http://{}", proxy.host));
            assert_eq!(run(&mut command).ended(0).json()["uploaded-bytes"], layout.size());
            assert_arrived(&layout, &ecr.reached(), &["1.0.0"]);
            proxy.lines(&["POST"]).iter().filter(|line| *line == "POST /").count()
        };
        let rule = Rule { method: "PUT", part: "/uploads/", times: 1, act };
        assert_eq!(calls(&[rule]), calls(&[]) + 1);
    }
}

/// While a job's push is under way: nothing in what the kernel shows of the process, in any file,
/// or in its words.
#[test]
fn no_credential_leaves_the_memory_of_a_push() {
    let ecr = EcrRepository::new();
    let endpoint = stack("AWS_ENDPOINT_URL");
    let hang = Rule { method: "PUT", part: "/uploads/", times: usize::MAX, act: Act::Silence };
    let proxy = Proxy::before(endpoint.trim_start_matches("http://"), &[hang]);
    let platform = std::fs::read_to_string(stack("INPUT_PLATFORM")).expect("platform.yaml");
    let platform = platform.replace(&endpoint, &format!("http://{}", proxy.host));

    let (layout, folder) = (Layout::image(&[random(100)]), Repository::new());
    folder.write("service.yaml", &format!("name: {}\nport: 8000\n", ecr.0));
    folder.write("platform.yaml", &platform);
    for file in ["output", "summary", "env", "state", "stdout", "stderr"] {
        folder.write(file, "");
    }
    let at = |file: &str| folder.path().join(file);
    let opened = |file: &str| std::fs::File::create(at(file)).expect("a file");
    let mut command = cicd(folder.path());
    command.args([
        "push-ecr",
        "--verbose",
        "--output",
        "json",
        "--platform",
        "platform.yaml",
        "--environment",
        "staging",
    ]);
    command.args(["--tag", "1.0.0", "--layout"]).arg(layout.path());
    command.env("HOME", folder.path()).env("TMPDIR", folder.path());
    command.env("GITHUB_OUTPUT", at("output")).env("GITHUB_STEP_SUMMARY", at("summary"));
    command.env("GITHUB_ENV", at("env")).env("GITHUB_STATE", at("state"));
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    command.env("ACTIONS_ID_TOKEN_REQUEST_URL", stack("CICD_STACK_OIDC_URL"));
    command.env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", stack("CICD_STACK_OIDC_BEARER"));
    let mut child =
        command.stdout(opened("stdout")).stderr(opened("stderr")).spawn().expect("started");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !proxy.lines(&["PUT"]).iter().any(|line| line.contains("/uploads/")) {
        assert!(
            Instant::now() < deadline && child.try_wait().expect("looked").is_none(),
            "it does not come to uploading"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let process =
        |what: &str| std::fs::read(format!("/proc/{}/{what}", child.id())).expect("a process");
    let mut places =
        vec![("environ".to_string(), process("environ")), ("cmdline".into(), process("cmdline"))];
    let memory = memory(child.id());
    run(Command::new("kill").args(["-TERM", &child.id().to_string()])).ended(0);
    assert_eq!(child.wait().expect("ended").code(), Some(143));
    let found = run(Command::new("find")
        .arg(folder.path())
        .args(["-type", "f", "-not", "-path", "*/.git/*"]))
    .ended(0);
    for file in found.stdout.lines() {
        places.push((file.to_string(), std::fs::read(file).expect("a file")));
    }
    assert!(places.len() >= 10, "all files are looked at: {}", found.stdout);
    // ECR's token and its password, the key of a session of STS, and a JSON web token, each by its
    // beginning.
    let secrets = ["QVdTOm1pbmlzdGFjay", "ministack-auth-token", "ASIA", "eyJ"];
    for (place, bytes) in places {
        let text = String::from_utf8_lossy(&bytes);
        for secret in secrets {
            assert!(!text.contains(secret), "{place} has {secret}: {text}");
        }
    }
    // The memory is where the token is while it is used: what is looked for is what there is.
    assert!(
        memory.windows(secrets[0].len()).any(|bytes| bytes == secrets[0].as_bytes()),
        "it is looked for in vain"
    );
}

/// All that a process may write to of its memory.
fn memory(process: u32) -> Vec<u8> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).expect("a process");
    let file = std::fs::File::open(format!("/proc/{process}/mem")).expect("its memory");
    let mut memory = Vec::new();
    for map in maps.lines().filter(|map| map.contains(" rw")) {
        let (start, end) =
            map.split_once(' ').and_then(|(range, _)| range.split_once('-')).expect("a range");
        let address = |hex| u64::from_str_radix(hex, 16).expect("an address");
        let mut part = vec![0; usize::try_from(address(end) - address(start)).expect("a size")];
        // What cannot be read is no ordinary memory.
        if file.read_exact_at(&mut part, address(start)).is_ok() {
            memory.append(&mut part);
        }
    }
    memory
}

/// The ECR actions that docs/iam.md lists, as the elements of a policy's list.
fn documented_actions() -> String {
    let text = std::fs::read_to_string(root().join("docs/iam.md")).expect("docs/iam.md");
    let actions =
        text.split('`').filter(|word| word.starts_with("ecr:")).map(|action| format!("{action:?}"));
    actions.collect::<Vec<_>>().join(",")
}

#[test]
fn a_role_with_too_little_is_told_what_it_lacks_and_the_documented_one_is_enough() {
    let ecr = EcrRepository::new();
    let layout = Layout::image(&[random(100)]);
    let user = unique("cicd-test");
    let aws = |arguments: &[&str]| {
        run(Command::new("aws").args(arguments).args(["--output", "json"])).ended(0)
    };
    aws(&["iam", "create-user", "--user-name", &user]);
    let keys = aws(&["iam", "create-access-key", "--user-name", &user]).json();
    let push = |actions: &str, code: i32| {
        let policy = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":[{actions}],"Resource":"*"}}]}}"#
        );
        aws(&[
            "iam",
            "put-user-policy",
            "--user-name",
            &user,
            "--policy-name",
            "push",
            "--policy-document",
            &policy,
        ]);
        let (_folder, mut command) = pusher(&ecr.0, layout.path(), &["--tag", "1.0.0"]);
        let key = |name: &str| keys["AccessKey"][name].as_str().expect("a key").to_string();
        command
            .env("AWS_ACCESS_KEY_ID", key("AccessKeyId"))
            .env("AWS_SECRET_ACCESS_KEY", key("SecretAccessKey"));
        let ended = run(&mut command).ended(code);
        if code == 0 { ended.json().to_string() } else { message(&ended) }
    };
    let said = push(r#""sts:GetCallerIdentity""#, 3);
    let statement = r#"{"Effect":"Allow","Action":["ecr:GetAuthorizationToken"],"Resource":"*"}"#;
    assert!(said.contains(statement), "{said}");
    let said = push(r#""ecr:GetAuthorizationToken","ecr:DescribeRepositories""#, 3);
    let arn = format!("arn:aws:ecr:eu-west-1:111122223333:repository/{}", ecr.name());
    assert!(
        said.contains(r#""Action":["ecr:CreateRepository","ecr:TagResource"]"#)
            && said.contains(&arn),
        "{said}"
    );
    assert!(said.contains("aws ecr create-repository"), "{said}");
    // A role that may not even ask whether the repository is there finds out when it pushes.
    let said = push(r#""ecr:GetAuthorizationToken""#, 3);
    assert!(said.contains("NAME_UNKNOWN") && said.contains("aws ecr create-repository"), "{said}");
    let said = push(&documented_actions(), 0);
    assert!(said.contains(&layout.digest), "{said}");
    aws(&["iam", "delete-user-policy", "--user-name", &user, "--policy-name", "push"]);
}

#[test]
fn an_image_is_found_by_its_tag_and_by_its_digest_and_not_made_up() {
    let ecr = EcrRepository::new();
    let layout = Layout::index(&[random(100), random(100)]);
    let deploy = |arguments: &[&str], code: i32| {
        let folder = Repository::new();
        folder.write("service.yaml", &format!("name: {}\nport: 8000\n", ecr.0));
        let mut command = cicd(folder.path());
        command
            .args(["deploy", "--environment", "staging", "--plan", "--output", "json"])
            .args(arguments);
        run(&mut command).ended(code)
    };
    let said = message(&deploy(&["--version", "1.4.0"], 3));
    assert!(
        said.contains("cannot find image")
            && said.contains("no such repository")
            && said.contains("cicd push-ecr --tag 1.4.0"),
        "{said}"
    );
    to_ecr(&ecr.0, &layout, &["--tag", "1.0.0", "--tag", "stable"]).ended(0);
    let said = message(&deploy(&["--version", "1.4.0"], 3));
    assert!(
        said.contains(&format!("{}:1.4.0", ecr.name())) && said.contains("aws ecr describe-images"),
        "{said}"
    );
    let said = message(&deploy(&["--digest", &sha256(b"other")], 3));
    assert!(said.contains(&format!("{}@sha256:", ecr.name())), "{said}");

    // An index has its children in ECR's answer, too: the tag's own digest is the one.
    for arguments in [["--version", "1.0.0"], ["--digest", &layout.digest]] {
        let ended = deploy(&arguments, 0);
        assert_eq!(
            (&ended.json()["status"], &ended.json()["version"]),
            (&"planned".into(), &"1.0.0".into()),
            "{ended}"
        );
        assert!(
            ended.stdout.contains(&layout.digest) || ended.stderr.contains(&layout.digest),
            "{ended}"
        );
        assert!(!ended.stderr.contains("has no tag"), "{ended}");
    }

    // Without a tag it runs, and goes one day.
    let untagged = Layout::image(&[random(100)]);
    to_ecr(&ecr.0, &untagged, &[]).ended(0);
    let ended = deploy(&["--digest", &untagged.digest], 0);
    for part in ["has no tag", "14 days after it was pushed", "aws ecr put-image"] {
        assert!(
            ended.stderr.lines().any(|line| line.starts_with("warning") && line.contains(part)),
            "{part}: {ended}"
        );
    }
}
