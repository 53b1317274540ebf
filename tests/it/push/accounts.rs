//! Registries of other accounts and regions, and repositories that ECR does not know everywhere
//! yet.

use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use super::api::{Api, Turn};
use super::ecr::EcrRepository;
use super::layouts::{Layout, random};
use super::repository::{push, push_command, warnings};
use super::{message, pusher};
use crate::support::{Repository, Run, run};

const OTHER: &str = "222233334444";
const REGION: &str = "eu-central-1";
/// The calls that take no registry: of the caller's own, or by an ARN.
const WITHOUT: [&str; 4] = [
    "GetAuthorizationToken",
    "BatchGetRepositoryScanningConfiguration",
    "ListTagsForResource",
    "TagResource",
];

/// `aws ecr` in the other region, about the repository of this name.
fn aws(name: &str, command: &str, more: &[&str]) -> Run {
    let mut aws = Command::new("aws");
    aws.args(["ecr", command, "--output", "json", "--region", REGION, "--repository-name", name])
        .args(more);
    run(&mut aws)
}

/// A repository's name, which is gone from the other region at the end, in both accounts.
struct Elsewhere(String);

impl Elsewhere {
    /// `aws ecr` in the other account's registry.
    fn aws(&self, command: &str, more: &[&str]) -> Run {
        aws(&self.0, command, &[&["--registry-id", OTHER], more].concat())
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.aws("delete-repository", &["--force"]);
        aws(&self.0, "delete-repository", &["--force"]);
    }
}

/// The caller is in one account and region, the repository in another of both; a repository of the
/// caller's own has the same name.
#[test]
fn a_registry_of_another_account_and_region_is_the_one_that_is_spoken_to() {
    let (ecr, layout) = (EcrRepository::new(), Layout::image(&[random(100)]));
    let there = Elsewhere(ecr.name());
    let api = Api::named(&format!("{OTHER}.dkr.ecr.{REGION}.amazonaws.com"));
    let push = |more: &[&str]| -> Run {
        let (folder, mut command): (Repository, Command) =
            pusher(ecr.service(), layout.path(), &[&["--tag", "1.0.0"], more].concat());
        folder.write(
            "platform.yaml",
            &format!(
                "registry:\n  account: \"{OTHER}\"\n  region: {REGION}\n  prefix: clinicult/\n  endpoint: {}\n",
                api.url
            ),
        );
        command.args(["--platform", "platform.yaml"]);
        run(command.env("AWS_ENDPOINT_URL_ECR", &api.url)).ended(0)
    };
    let pushed = push(&[]);
    let shown = format!("{OTHER}.dkr.ecr.{REGION}.amazonaws.com/{}", ecr.name());
    assert_eq!(pushed.json()["repository"], shown.as_str(), "{pushed}");
    assert!(ecr.describe().is_none(), "the caller's own registry got nothing");
    let arn = format!("arn:aws:ecr:{REGION}:{OTHER}:repository/{}", ecr.name());
    let images = there.aws("describe-images", &[]).ended(0).json();
    assert_eq!(images["imageDetails"][0]["imageTags"], json!(["1.0.0"]), "{images}");

    // What it looks at is that account's: nothing differs there.
    let again = push(&[]);
    assert_eq!((warnings(&again), &again.json()["uploaded-bytes"]), (vec![], &0.into()), "{again}");

    // The registry's own rules are told of the caller's registry only, where a repository of the
    // same name is scanned.
    let scanned = "--image-scanning-configuration";
    aws(&there.0, "create-repository", &[scanned, "scanOnPush=true"]).ended(0);
    there.aws("put-image-scanning-configuration", &[scanned, "scanOnPush=false"]).ended(0);
    there.aws("delete-lifecycle-policy", &[]).ended(0);
    let told = push(&["--repair"]);
    let told = warnings(&told).join("\n");
    assert!(told.lines().count() == 1 && told.contains("is told to that account only"), "{told}");
    let text = there.aws("get-lifecycle-policy", &[]).ended(0).json();
    assert!(
        text["lifecyclePolicyText"].as_str().is_some_and(|text| text.contains("cicd: ")),
        "{text}"
    );

    let calls: Vec<_> =
        api.calls().into_iter().filter(|call| !call.action.contains("/v2/")).collect();
    assert!(calls.len() >= 15, "{calls:?}");
    for call in calls {
        assert_eq!(call.region, REGION, "{}", call.action);
        let named = match WITHOUT.contains(&call.action.as_str()) {
            true => call.body["resourceArn"].as_str().is_none_or(|named| named == arn),
            false => call.body["registryId"] == OTHER,
        };
        assert!(named, "{call:?}");
    }
}

/// ECR in front of the stack's, whose parts do not know a repository yet the first `times` that
/// each of them is asked.
fn late(times: usize) -> Api {
    Api::new(move |call, before| {
        let unknown = json!({ "errors": [{ "code": "NAME_UNKNOWN", "message": "The repository with name 'x' does not exist" }] });
        match call.action.as_str() {
            "PutLifecyclePolicy" if before < times => Turn::error("RepositoryNotFoundException"),
            action if action.starts_with("POST /v2/") && before < times => {
                Turn::Answer("404 Not Found", unknown)
            }
            _ => Turn::Pass,
        }
    })
}

#[test]
fn a_new_repository_gets_a_moment_to_be_known_and_an_old_one_does_not() {
    let layout = Layout::image(&[random(100)]);
    let through = |ecr: &EcrRepository, api: &Api, code: i32| -> Run {
        let (folder, mut command) = push_command(ecr, "", &layout, &["--tag", "1.0.0"]);
        let platform =
            std::fs::read_to_string(folder.path().join("platform.yaml")).expect("platform.yaml");
        folder.write(
            "platform.yaml",
            &platform.replace(&crate::support::stack("AWS_ENDPOINT_URL"), &api.url),
        );
        run(command.env("AWS_ENDPOINT_URL_ECR", &api.url)).ended(code)
    };
    let posts =
        |api: &Api| api.calls().iter().filter(|call| call.action.starts_with("POST /v2/")).count();

    let (ecr, api) = (EcrRepository::new(), late(2));
    let ended = through(&ecr, &api, 0);
    assert_eq!(warnings(&ended), Vec::<&str>::new());
    assert_eq!(
        (api.of_action("PutLifecyclePolicy").len(), posts(&api)),
        (3, 4),
        "two blobs, and two tries that came too early"
    );

    // It was there: nobody waits for it to appear.
    let (old, api) = (EcrRepository::new(), late(usize::MAX));
    push(&old, "", &Layout::image(&[random(10)]), &["--tag", "0.9.0"]).ended(0);
    let said = message(&through(&old, &api, 3));
    assert!(said.contains("NAME_UNKNOWN") && said.contains("aws ecr create-repository"), "{said}");
    assert!(posts(&api) <= 2, "each blob once");

    // And one that never appears is not waited for for ever.
    let (never, api, started) = (EcrRepository::new(), late(usize::MAX), Instant::now());
    let said = message(&through(&never, &api, 3));
    assert!(said.contains("NAME_UNKNOWN"), "{said}");
    assert!((4..40).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    let _: Value = never.describe().expect("it was created");
}
