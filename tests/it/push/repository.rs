//! The ECR repository itself: how it is created, what is said of one that differs, and what
//! `--repair` changes.

use std::process::Command;

use serde_json::{Value, json};

use super::ecr::EcrRepository;
use super::layouts::{Layout, random};
use super::{get, message, pusher, url};
use crate::iam::User;
use crate::support::{Repository, Run, log_entries, run, stack, unique};

const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/00000000-0000-0000-0000-000000000001";
/// What a push needs, but for what is about the repository.
pub const PUSH: [&str; 8] = [
    "ecr:GetAuthorizationToken",
    "ecr:BatchCheckLayerAvailability",
    "ecr:InitiateLayerUpload",
    "ecr:UploadLayerPart",
    "ecr:CompleteLayerUpload",
    "ecr:PutImage",
    "ecr:BatchGetImage",
    "ecr:DescribeImages",
];

/// A push to a repository of its own, with a platform.yaml that has `registry` below its registry.
pub fn push_command(
    ecr: &EcrRepository,
    registry: &str,
    layout: &Layout,
    more: &[&str],
) -> (Repository, Command) {
    let (folder, mut command) = pusher(ecr.service(), layout.path(), more);
    let mut platform = format!(
        "registry:\n  account: \"111122223333\"\n  region: eu-west-1\n  prefix: clinicult/\n  endpoint: {}\n",
        stack("AWS_ENDPOINT_URL")
    );
    registry.lines().for_each(|line| platform.push_str(&format!("  {line}\n")));
    folder.write("platform.yaml", &platform);
    folder.git(&["remote", "add", "origin", "git@github.com:clinicult/patients.git"]);
    folder.commit("feat: one");
    command.args(["--platform", "platform.yaml"]);
    // By this its calls are told from those of others in the stack's log.
    command.env("AWS_SDK_UA_APP_ID", ecr.service());
    (folder, command)
}

pub fn push(ecr: &EcrRepository, registry: &str, layout: &Layout, more: &[&str]) -> Run {
    let (_folder, mut command) = push_command(ecr, registry, layout, more);
    run(&mut command)
}

/// The calls to ECR's own API that changed something, in their order.
pub fn changes(ecr: &EcrRepository) -> Vec<String> {
    let mine = format!("app/{}", ecr.service());
    let writes = log_entries("CICD_STACK_AWS_LOG").into_iter().filter(|entry| {
        entry["service"] == "ecr"
            && entry["write"] == true
            && entry["agent"].as_str().is_some_and(|at| at.contains(&mine))
    });
    writes.map(|entry| entry["action"].as_str().expect("an action").to_string()).collect()
}

/// What the stack has of the repository: its description, its lifecycle rules and its AWS tags.
fn state(ecr: &EcrRepository) -> (Value, Value, Value) {
    let described = ecr.describe().expect("a repository");
    let policy = ecr.aws("get-lifecycle-policy", &[]);
    let rules = match policy.code {
        0 => serde_json::from_str::<Value>(
            policy.json()["lifecyclePolicyText"].as_str().expect("text"),
        )
        .expect("JSON"),
        _ => Value::Null,
    };
    let arn = described["repositoryArn"].as_str().expect("an ARN").to_string();
    let mut aws = Command::new("aws");
    aws.args(["ecr", "list-tags-for-resource", "--output", "json", "--resource-arn", &arn]);
    let tags = run(&mut aws).ended(0).json()["tags"].clone();
    let tags = tags.as_array().expect("tags").iter();
    let tags = tags
        .map(|tag| (tag["Key"].as_str().expect("a key").to_string(), tag["Value"].clone()))
        .collect();
    (described, rules["rules"].clone(), Value::Object(tags))
}

pub fn warnings(ended: &Run) -> Vec<&str> {
    ended.stderr.lines().filter(|line| line.contains("warning")).collect()
}

#[test]
fn a_new_repository_is_as_platform_yaml_says() {
    let (ecr, layout) = (EcrRepository::new(), Layout::image(&[random(100)]));
    let registry = format!(
        "kms-key: {KEY}\nmutable-tags: [\"buildcache*\"]\nlifecycle: {{snapshots: 7, untagged: 3d}}\ntags: {{team: records}}"
    );
    let planned = push(&ecr, &registry, &layout, &["--tag", "1.4.0", "--plan"]).ended(0);
    for part in [
        "immutable tags but for buildcache*",
        "scan on push",
        KEY,
        "the newest 7 snapshots stay",
        "stay 3 days",
    ] {
        assert!(planned.stderr.contains(part), "{part}: {planned}");
    }
    assert!(ecr.describe().is_none() && changes(&ecr).is_empty(), "a plan creates nothing");

    let ended = push(&ecr, &registry, &layout, &["--tag", "1.4.0"]).ended(0);
    assert_eq!(warnings(&ended), Vec::<&str>::new());
    assert_eq!(changes(&ecr), ["CreateRepository", "PutLifecyclePolicy"]);
    let (described, rules, tags) = state(&ecr);
    assert_eq!(described["imageTagMutability"], "IMMUTABLE_WITH_EXCLUSION");
    let filters = json!([{ "filterType": "WILDCARD", "filter": "buildcache*" }]);
    assert_eq!(described["imageTagMutabilityExclusionFilters"], filters);
    assert_eq!(described["imageScanningConfiguration"]["scanOnPush"], true);
    assert_eq!(
        described["encryptionConfiguration"],
        json!({ "encryptionType": "KMS", "kmsKey": KEY })
    );
    assert_eq!(
        tags,
        json!({ "service": ecr.service(), "source": "https://github.com/clinicult/patients", "team": "records" })
    );
    let told: Vec<(&Value, &Value)> = rules
        .as_array()
        .expect("rules")
        .iter()
        .map(|rule| (&rule["selection"]["tagPatternList"][0], &rule["selection"]["countNumber"]))
        .collect();
    assert_eq!(
        told,
        [
            (&json!("*-main.*"), &json!(7)),
            (&json!("*-master.*"), &json!(7)),
            (&Value::Null, &json!(3))
        ]
    );

    // Again, and another image: all is as it should be, and nothing is said or written of it.
    for (layout, tag) in [(&layout, "1.4.0"), (&Layout::image(&[random(100)]), "1.5.0")] {
        let ended = push(&ecr, &registry, layout, &["--tag", tag, "--repair"]).ended(0);
        assert_eq!((warnings(&ended), changes(&ecr).len()), (vec![], 2), "{ended}");
        assert!(!ended.stderr.contains("repair"), "{ended}");
    }
}

#[test]
fn a_repository_that_differs_is_told_of_and_repaired_only_when_asked_to() {
    let (ecr, layout) = (EcrRepository::new(), Layout::image(&[random(100)]));
    ecr.aws("create-repository", &["--tags", "Key=cost,Value=17", "Key=team,Value=sales"]).ended(0);
    let registry = "tags: {team: records}";
    let parts = [
        "its tags are MUTABLE and should be IMMUTABLE",
        "scanOnPush is false",
        "no lifecycle policy",
        "its tag team is sales and should be records",
    ];
    let ended = push(&ecr, registry, &layout, &["--tag", "1.0.0"]).ended(0);
    let told = warnings(&ended);
    assert!(
        told.len() == 1 && told[0].matches("--repair").count() == 1,
        "all of it at once: {ended}"
    );
    let actions = [
        "PutImageTagMutability",
        "PutImageScanningConfiguration",
        "PutLifecyclePolicy",
        "TagResource",
    ];
    for part in parts.into_iter().chain(actions) {
        assert!(told[0].contains(part), "{part}: {ended}");
    }
    let planned = push(&ecr, registry, &layout, &["--tag", "1.0.0", "--plan", "--repair"]).ended(0);
    for part in parts {
        assert!(
            planned.stderr.lines().any(|line| line.contains("would repair") && line.contains(part)),
            "{part}: {planned}"
        );
    }
    assert_eq!(changes(&ecr), Vec::<String>::new(), "nobody asked for it");

    // A tag that is taken is refused before anything is changed.
    let other = Layout::image(&[random(100)]);
    push(&ecr, registry, &other, &["--tag", "1.0.0", "--repair"]).ended(3);
    assert_eq!(changes(&ecr), Vec::<String>::new());

    let ended = push(&ecr, registry, &layout, &["--tag", "1.0.0", "--repair"]).ended(0);
    assert_eq!(changes(&ecr), actions);
    assert_eq!(
        (warnings(&ended).len(), ended.stderr.matches("repaired clinicult/").count()),
        (0, 4),
        "{ended}"
    );
    let (described, rules, tags) = state(&ecr);
    assert_eq!(described["imageTagMutability"], "IMMUTABLE");
    assert_eq!(described["imageScanningConfiguration"]["scanOnPush"], true);
    assert_eq!(rules.as_array().map(Vec::len), Some(3));
    assert_eq!(
        (&tags["team"], &tags["cost"]),
        (&json!("records"), &json!("17")),
        "other tags stay"
    );

    let again = push(&ecr, registry, &layout, &["--tag", "1.0.0", "--repair"]).ended(0);
    assert_eq!((warnings(&again).len(), changes(&ecr).len()), (0, 4), "{again}");

    // Only what differs is written: here the AWS tags, and of them one.
    let arn = described["repositoryArn"].as_str().expect("an ARN").to_string();
    let mut aws = Command::new("aws");
    run(aws.args([
        "ecr",
        "tag-resource",
        "--resource-arn",
        &arn,
        "--tags",
        "Key=team,Value=sales",
    ]))
    .ended(0);
    push(&ecr, registry, &layout, &["--tag", "1.0.0", "--repair"]).ended(0);
    assert_eq!(changes(&ecr)[4..], ["TagResource"]);
}

#[test]
fn what_is_somebody_elses_or_cannot_be_changed_stays() {
    let (ecr, layout) = (EcrRepository::new(), Layout::image(&[random(100)]));
    ecr.aws(
        "create-repository",
        &[
            "--image-tag-mutability",
            "IMMUTABLE",
            "--image-scanning-configuration",
            "scanOnPush=true",
        ],
    )
    .ended(0);
    let policy = r#"{"rules":[{"rulePriority":10,"selection":{"tagStatus":"any","countType":"imageCountMoreThan","countNumber":30},"action":{"type":"expire"}}]}"#;
    ecr.aws("put-lifecycle-policy", &["--lifecycle-policy-text", policy]).ended(0);
    let registry = format!("kms-key: {KEY}");
    let ended = push(&ecr, &registry, &layout, &["--tag", "1.0.0", "--repair"]).ended(0);
    let told = warnings(&ended);
    assert_eq!(told.len(), 2, "{ended}");
    assert!(told[0].contains("encrypted by AES256") && told[0].contains("never again"), "{ended}");
    assert!(
        told[1].contains("its rule 10 can remove releases") && told[1].contains("lifecycle: off"),
        "{ended}"
    );
    assert_eq!(changes(&ecr), ["TagResource"]);
    let (_, rules, _) = state(&ecr);
    assert_eq!((rules.as_array().map(Vec::len), &rules[0]["rulePriority"]), (Some(1), &json!(10)));

    let ended = push(&ecr, "lifecycle: off", &layout, &["--tag", "1.0.0"]).ended(0);
    assert_eq!(warnings(&ended), Vec::<&str>::new(), "off is off");
}

/// A push does not need the right to look or to repair; whoever asks for a repair does.
#[test]
fn missing_rights_stop_a_repair_and_no_push() {
    let layout = Layout::image(&[random(100)]);
    let with = |more: &[&str]| json!([&PUSH[..], more].concat()).to_string();
    // What the user may do besides pushing, whether the repository is there, the arguments, the
    // exit code, and what is said.
    let cases: [(&[&str], bool, &[&str], i32, &[&str]); 6] = [
        (
            &[],
            true,
            &[],
            0,
            &[
                "may not be described",
                "is not known",
                "ecr:DescribeRepositories",
                "ecr:GetLifecyclePolicy",
            ],
        ),
        (
            &["ecr:DescribeRepositories"],
            true,
            &[],
            0,
            &[
                "ecr:GetLifecyclePolicy",
                "ecr:ListTagsForResource",
                "ecr:BatchGetRepositoryScanningConfiguration",
                "is not known",
            ],
        ),
        (&[], true, &["--repair"], 3, &["may not be described", "ecr:DescribeRepositories"]),
        (
            &["ecr:DescribeRepositories", "ecr:GetLifecyclePolicy"],
            true,
            &["--repair"],
            3,
            &["ecr:ListTagsForResource"],
        ),
        (
            &[
                "ecr:DescribeRepositories",
                "ecr:GetLifecyclePolicy",
                "ecr:ListTagsForResource",
                "ecr:BatchGetRepositoryScanningConfiguration",
            ],
            true,
            &["--repair"],
            3,
            &["ecr:PutImageTagMutability"],
        ),
        (
            &["ecr:DescribeRepositories", "ecr:CreateRepository", "ecr:TagResource"],
            false,
            &[],
            0,
            &["has no lifecycle policy", "ecr:PutLifecyclePolicy", "--repair"],
        ),
    ];
    let user = User::new(unique("cicd-test"), &with(&[]));
    for (rights, there, more, code, parts) in cases {
        let ecr = EcrRepository::new();
        user.may(&with(rights));
        if there {
            ecr.aws("create-repository", &[]).ended(0);
        }
        let (_folder, mut command) =
            push_command(&ecr, "", &layout, &[&["--tag", "1.0.0"], more].concat());
        let ended = run(user.on(&mut command)).ended(code);
        let said = if code == 0 { ended.stderr.clone() } else { message(&ended) };
        for part in parts {
            assert!(said.contains(part), "{rights:?} {part}: {said}");
        }
        assert!(
            ended.stderr.matches("is not known").count() <= 1,
            "one warning for all that is not known: {ended}"
        );
        assert_eq!(ecr.writes() > 0, code == 0, "refused before anything is pushed: {said}");
    }
}

/// The filter lets others move a tag; a push of ours never does.
#[test]
fn a_tag_that_may_be_moved_is_not_moved_by_a_push() {
    let (ecr, first) = (EcrRepository::new(), Layout::image(&[random(100)]));
    let registry = "mutable-tags: [\"*-main.*\"]";
    push(&ecr, registry, &first, &["--tag", "1.3.3-main.4", "--tag", "1.4.0"]).ended(0);
    let second = Layout::image(&[random(100)]);
    for tag in ["1.3.3-main.4", "1.4.0"] {
        let said = message(&push(&ecr, registry, &second, &["--tag", tag]).ended(3));
        assert!(said.contains("tags are not moved"), "{said}");
    }
    push(&ecr, registry, &second, &["--tag", "2.0.0"]).ended(0);
    // Others, with the stack's registry deciding as ECR does.
    let manifest = String::from_utf8(second.documents[&second.digest].clone()).expect("text");
    let put = |tag: &str| {
        let url = format!(
            "http://{}/v2/{}/manifests/{tag}",
            ecr.reached().split('/').next().expect("a host"),
            ecr.name()
        );
        let mut curl = Command::new("curl");
        curl.args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-X",
            "PUT",
            "--data-binary",
            &manifest,
        ]);
        run(curl.args([
            "-u",
            "AWS:x",
            "-H",
            "Content-Type: application/vnd.oci.image.manifest.v1+json",
            &url,
        ]))
        .ended(0)
        .stdout
    };
    assert_eq!((put("1.3.3-main.4").as_str(), put("1.4.0").as_str()), ("201", "400"));
}

/// Where a registry keeps no list of referrers, a tag stands for it, which is written once for all
/// that is pushed together.
#[test]
fn two_sboms_of_an_image_are_listed_by_a_tag_that_stays() {
    let ecr = EcrRepository::new();
    let (layout, digests) = Layout::with_referrers(&[random(100)], 2);
    push(&ecr, "", &layout, &["--tag", "1.0.0"]).ended(0);
    let (status, list) =
        get(&format!("{}/manifests/{}", url(&ecr.reached()), layout.digest.replace(':', "-")));
    let list: Value = serde_json::from_slice(&list).expect("an index");
    let mut listed: Vec<&str> = list["manifests"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["digest"].as_str())
        .collect();
    listed.sort_unstable();
    let mut expected: Vec<&str> = digests.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!((status, listed), (200, expected));
}

/// Where a registry keeps no list of referrers, a tag stands for it and moves with each further
/// one: the filter is for that, too.
#[test]
fn a_second_sbom_of_an_image_wants_a_tag_that_may_be_moved() {
    let (ecr, layers) = (EcrRepository::new(), [random(100)]);
    let sboms = [Layout::with_sbom(&layers).0, Layout::with_sbom(&layers).0];
    assert_eq!(sboms[0].digest, sboms[1].digest, "two SBOMs of one image");
    push(&ecr, "", &sboms[0], &["--tag", "1.0.0"]).ended(0);
    let said = message(&push(&ecr, "", &sboms[1], &["--tag", "1.0.0"]).ended(3));
    assert!(said.contains("immutable") && said.contains(r#"mutable-tags: ["sha256-*"]"#), "{said}");
    let registry = "mutable-tags: [\"sha256-*\"]";
    push(&ecr, registry, &sboms[1], &["--tag", "1.0.0", "--repair"]).ended(0);
    assert_eq!(changes(&ecr)[2..], ["PutImageTagMutability"]);
    let (status, list) =
        get(&format!("{}/manifests/{}", url(&ecr.reached()), sboms[0].digest.replace(':', "-")));
    let list: Value = serde_json::from_slice(&list).expect("an index");
    assert_eq!((status, list["manifests"].as_array().map(Vec::len)), (200, Some(2)));
}

/// Calls about the repository go to another emulator, which knows the registry's own scanning
/// rules; the image goes to the stack.
#[test]
fn a_second_emulator_agrees_and_the_registrys_own_scans_count() {
    let (ecr, layout, moto) =
        (EcrRepository::new(), Layout::image(&[random(100)]), stack("CICD_STACK_SCANS"));
    let aws = |command: &str, more: &[&str]| {
        let mut aws = Command::new("aws");
        run(aws.args(["ecr", command, "--output", "json", "--endpoint-url", &moto]).args(more))
            .ended(0)
    };
    ecr.aws("create-repository", &[]).ended(0);
    aws("create-repository", &["--repository-name", &ecr.name()]);
    let push = |more: &[&str]| {
        let registry = "mutable-tags: [\"buildcache*\"]\ntags: {team: records}";
        let (_folder, mut command) =
            push_command(&ecr, registry, &layout, &[&["--tag", "1.0.0"], more].concat());
        run(command.env("AWS_ENDPOINT_URL_ECR", &moto)).ended(0)
    };
    let told = push(&["--plan"]);
    assert!(warnings(&told).len() == 1 && told.stderr.contains("scanOnPush"), "{told}");
    let rule = format!(
        r#"[{{"scanFrequency":"CONTINUOUS_SCAN","repositoryFilters":[{{"filter":"{}","filterType":"WILDCARD"}}]}}]"#,
        ecr.name()
    );
    aws("put-registry-scanning-configuration", &["--scan-type", "ENHANCED", "--rules", &rule]);
    let told = push(&["--plan"]);
    assert!(warnings(&told).len() == 1 && !told.stderr.contains("scanOnPush"), "{told}");
    push(&["--repair"]);
    assert_eq!(warnings(&push(&[])), Vec::<&str>::new());
    let described =
        aws("describe-repositories", &["--repository-names", &ecr.name()]).json()["repositories"]
            [0]
        .clone();
    assert_eq!(described["imageTagMutability"], "IMMUTABLE_WITH_EXCLUSION");
    assert_eq!(described["imageTagMutabilityExclusionFilters"][0]["filter"], "buildcache*");
    assert_eq!(
        described["imageScanningConfiguration"]["scanOnPush"], false,
        "it is the registry's business"
    );
}

#[test]
fn what_would_be_lost_is_told_of() {
    let (ecr, layout) = (EcrRepository::new(), Layout::image(&[random(100)]));
    let ended = push(&ecr, "", &layout, &[]).ended(0);
    assert!(
        warnings(&ended)[0].contains("no tag is set") && warnings(&ended)[0].contains("14 days"),
        "{ended}"
    );
    let ended = push(&ecr, "", &layout, &["--tag", "1.3.3-main.4"]).ended(0);
    assert_eq!(warnings(&ended), Vec::<&str>::new());
    // The snapshot gets a release's name later.
    let ended = push(&ecr, "", &layout, &["--tag", "1.4.0"]).ended(0);
    assert!(
        warnings(&ended)[0].contains("1.4.0 and the snapshot 1.3.3-main.4 are one image"),
        "{ended}"
    );
}

#[test]
fn settings_that_endanger_a_release_are_refused() {
    let (ecr, layout) = (EcrRepository::new(), Layout::image(&[random(10)]));
    for (registry, expected) in [
        ("mutable-tags: [\"*\"]", "platform.yaml:6:"),
        ("mutable-tags: [\"1.*\"]", "matches releases like 1.4.0"),
        ("mutable-tags: [a, b, c, d, e, f]", "at most five"),
        ("mutable-tags: [\"*-rc.*\"]", "the service has the channel `rc`"),
        ("lifecycle: {snapshot-tags: [\"*-*\"]}", "would be removed"),
        ("lifecycle: {snapshot: 5}", "did you mean `snapshots`?"),
        ("lifecycle: {snapshots: 0}", "platform.yaml:6:"),
        ("lifecycle: {untagged: 14}", "like 14d"),
        ("lifecycle: keep", "`off` or a map"),
    ] {
        let said = message(&push(&ecr, registry, &layout, &["--tag", "1.0.0"]).ended(2));
        assert!(said.contains(expected) && !said.ends_with("fix: none"), "{registry}: {said}");
    }
    // Before the build, too.
    let (_folder, mut preflight) = push_command(
        &ecr,
        "mutable-tags: [\"*-rc.*\"]",
        &layout,
        &["--tag", "1.0.0", "--preflight"],
    );
    let said = message(&run(&mut preflight).ended(2));
    assert!(said.contains("the channel `rc`"), "{said}");
    for other in [["--repository", "localhost:1/a"].as_slice(), &["--preflight", "--tag", "1.0.0"]]
    {
        let said = message(&push(&ecr, "", &layout, &[&["--repair"], other].concat()).ended(2));
        assert!(said.contains(other[0]), "{said}");
    }
    assert!(ecr.describe().is_none());
}
