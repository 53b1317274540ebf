//! `--repair` and the images that a new lifecycle policy would end: they are named, and nothing is
//! changed.

use std::process::Command;

use serde_json::{Value, json};

use super::api::{Api, Turn};
use super::ecr::EcrRepository;
use super::layouts::{Layout, random};
use super::message;
use super::repository::{PUSH, changes, push, push_command, warnings};
use crate::iam::User;
use crate::support::{Run, run, unique};

/// What a repair may, besides looking at images.
const REPAIR: [&str; 8] = [
    "ecr:DescribeRepositories",
    "ecr:GetLifecyclePolicy",
    "ecr:ListTagsForResource",
    "ecr:BatchGetRepositoryScanningConfiguration",
    "ecr:PutImageTagMutability",
    "ecr:PutImageScanningConfiguration",
    "ecr:PutLifecyclePolicy",
    "ecr:TagResource",
];

/// A repository from before, without a policy.
fn old() -> EcrRepository {
    let ecr = EcrRepository::new();
    ecr.aws("create-repository", &[]).ended(0);
    ecr
}

fn image() -> Layout {
    Layout::image(&[random(100)])
}

/// Runs a command that a fix says, as it stands there.
fn follow(fix: &str, begin: &str, with: &[(&str, &str)]) {
    let line =
        fix.lines().find(|line| line.contains(begin)).unwrap_or_else(|| panic!("{begin}: {fix}"));
    let mut command = line[line.find("aws ecr").expect("a command")..].to_string();
    for (from, to) in with {
        command = command.replace(from, to);
    }
    run(Command::new("sh").args(["-c", &command])).ended(0);
}

#[test]
fn an_image_that_may_run_is_named_and_nothing_changes_until_it_is_safe() {
    let (ecr, untagged, both, new) = (old(), image(), image(), image());
    push(&ecr, "", &untagged, &[]).ended(0);
    push(&ecr, "", &both, &["--tag", "1.3.3-main.4", "--tag", "1.4.0"]).ended(0);
    push(&ecr, "", &image(), &["--tag", "1.3.3-main.5"]).ended(0);
    push(&ecr, "", &image(), &["--tag", "1.5.0"]).ended(0);
    let writes = ecr.writes();
    let mut fix = String::new();
    for plan in [&["--plan"][..], &[]] {
        let ended =
            push(&ecr, "", &new, &[&["--tag", "2.0.0", "--repair"], plan].concat()).ended(3);
        let said = message(&ended);
        for part in [
            "ECR would remove 2 images that are there now",
            &format!("{} (no tag), pushed 20", untagged.digest),
            &format!("{} (1.3.3-main.4, 1.4.0), pushed 20", both.digest),
            "goes with all its tags, when ",
            "goes on 20",
            "`lifecycle: off`",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(
            (changes(&ecr), ecr.writes()),
            (vec![], writes),
            "nothing is changed, and nothing is pushed"
        );
        fix = ended.json()["error"]["fix"].as_str().expect("a fix").to_string();
    }
    // Without the policy the rest is repaired.
    push(&ecr, "lifecycle: off", &new, &["--tag", "2.0.0", "--repair"]).ended(0);
    assert_eq!(
        changes(&ecr),
        ["PutImageTagMutability", "PutImageScanningConfiguration", "TagResource"]
    );

    // As the fix says, word for word.
    follow(&fix, "put-image", &[("TAG", "0.9.0")]);
    follow(&fix, "imageTag=SNAPSHOT", &[("SNAPSHOT", "1.3.3-main.4")]);
    let ended = push(&ecr, "", &new, &["--tag", "2.0.0", "--repair"]).ended(0);
    assert_eq!(
        (warnings(&ended).len(), &changes(&ecr)[3..]),
        (0, &["PutLifecyclePolicy".to_string()][..]),
        "{ended}"
    );
    let described = ecr.aws("describe-images", &[]).ended(0).json();
    let images = described["imageDetails"].as_array().expect("images");
    let tags = |layout: &Layout| {
        images
            .iter()
            .find(|image| image["imageDigest"] == layout.digest.as_str())
            .expect("an image")["imageTags"]
            .clone()
    };
    assert_eq!((tags(&untagged), tags(&both)), (json!(["0.9.0"]), json!(["1.4.0"])));
}

/// What is lost is asked for when a policy of ours gets stricter, too, and only what is lost by
/// that.
#[test]
fn a_stricter_policy_answers_for_what_it_takes() {
    let (ecr, images) = (EcrRepository::new(), [image(), image(), image()]);
    for (n, layout) in images.iter().enumerate() {
        push(&ecr, "", layout, &["--tag", &format!("1.3.3-main.{n}")]).ended(0);
    }
    push(&ecr, "", &image(), &[]).ended(0);
    let repair = |registry: &str, code: i32| {
        push(&ecr, registry, &images[2], &["--tag", "1.3.3-main.2", "--repair"]).ended(code)
    };
    let said = message(&repair("lifecycle: {snapshots: 1}", 3));
    assert!(
        said.contains("ECR would remove 2 images") && said.contains("goes within a day"),
        "{said}"
    );
    assert!(!said.contains("(no tag)"), "the policy that is there takes it as soon: {said}");
    let said = message(&repair("lifecycle: {untagged: 2d}", 3));
    assert!(
        said.contains("ECR would remove an image that is") && said.contains("(no tag)"),
        "{said}"
    );
    assert_eq!(changes(&ecr), ["CreateRepository", "PutLifecyclePolicy"]);
    repair("lifecycle: {snapshots: 3, untagged: 20d}", 0);
    assert_eq!(changes(&ecr)[2..], ["PutLifecyclePolicy"]);
}

/// The children of an index have no tag and are held by it. All pages are read, and the age is told
/// as ECR tells it.
#[test]
fn an_index_holds_its_children_and_every_page_counts() {
    let (ecr, index, late) = (old(), Layout::index(&[random(100), random(100)]), image());
    push(&ecr, "", &index, &["--tag", "1.0.0"]).ended(0);
    push(&ecr, "", &late, &[]).ended(0);
    // One image a page, a thousand days old.
    let api = Api::new(|call, _| match call.action.as_str() {
        "DescribeImages" if call.body["imageIds"].is_null() => {
            let page =
                call.body["nextToken"].as_str().map_or(0, |page| page.parse().expect("a page"));
            Turn::Change(Box::new(move |answer: &mut Value| {
                let mut image = answer["imageDetails"][page].clone();
                image["imagePushedAt"] =
                    json!(image["imagePushedAt"].as_f64().expect("a time") - 86400.0 * 1000.0);
                let next = answer["imageDetails"].get(page + 1).map(|_| (page + 1).to_string());
                *answer = json!({ "imageDetails": [image], "nextToken": next });
            }))
        }
        _ => Turn::Pass,
    });
    let repair = |code: i32| -> Run {
        let (_folder, mut command) =
            push_command(&ecr, "", &index, &["--tag", "1.0.0", "--repair"]);
        run(command.env("AWS_ENDPOINT_URL_ECR", &api.url)).ended(code)
    };
    let said = message(&repair(3));
    assert!(said.contains("an image that is there now") && said.contains(&late.digest), "{said}");
    assert!(said.contains("goes within a day"), "{said}");
    assert_eq!(
        api.of_action("DescribeImages").len(),
        5,
        "the index, its three children and the last one"
    );

    ecr.aws("batch-delete-image", &["--image-ids", &format!("imageDigest={}", late.digest)])
        .ended(0);
    repair(0);
    assert!(changes(&ecr).contains(&"PutLifecyclePolicy".to_string()));
    for call in api
        .calls()
        .iter()
        .filter(|call| ["DescribeImages", "BatchGetImage"].contains(&call.action.as_str()))
    {
        assert_eq!(
            (&call.body["registryId"], &call.body["repositoryName"]),
            (&"111122223333".into(), &ecr.name().into())
        );
    }
    assert_eq!(
        api.of_action("BatchGetImage")[0].body["imageIds"],
        json!([{ "imageDigest": index.digest }])
    );
}

#[test]
fn who_may_not_look_at_images_changes_no_policy() {
    let may = |without: &str| {
        let all = PUSH.iter().chain(&REPAIR).filter(|action| **action != without);
        json!(all.collect::<Vec<_>>()).to_string()
    };
    let (ecr, layout) = (old(), image());
    push(&ecr, "", &Layout::index(&[random(10)]), &["--tag", "0.9.0"]).ended(0);
    push(&ecr, "", &layout, &["--tag", "1.0.0"]).ended(0);
    let user = User::new(unique("cicd-test"), &may(""));
    let repair = |without: &str, code: i32| {
        user.may(&may(without));
        let (_folder, mut command) =
            push_command(&ecr, "", &layout, &["--tag", "1.0.0", "--repair"]);
        run(user.on(&mut command)).ended(code)
    };
    let said = message(&repair("ecr:DescribeImages", 3));
    assert!(
        said.contains("cannot list the images of")
            && said.contains(r#""Action":["ecr:DescribeImages"]"#),
        "{said}"
    );
    assert_eq!(changes(&ecr), Vec::<String>::new());

    // It says so, too, when it cannot see what a new name would cost an image.
    user.may(&may("ecr:DescribeImages"));
    let (_folder, mut command) = push_command(&ecr, "", &layout, &["--tag", "1.1.0"]);
    let ended = run(user.on(&mut command)).ended(0);
    let told =
        warnings(&ended).into_iter().filter(|told| told.contains("ecr:DescribeImages")).count();
    assert_eq!(told, 1, "{ended}");

    repair("", 0);
    assert!(changes(&ecr).contains(&"PutLifecyclePolicy".to_string()));
}
