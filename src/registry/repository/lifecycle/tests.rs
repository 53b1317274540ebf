//! Which images a new lifecycle policy would take, case by case.

use super::*;
use crate::config::platform::Lifecycle;

/// `more` as it stands at `lifecycle` in platform.yaml.
fn keep(more: &str) -> Keep {
    match serde_saphyr::from_str(more).expect("a lifecycle") {
        Lifecycle::Keep(keep) => keep,
        Lifecycle::Off => panic!("it is off"),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// Named by a letter, with tags, pushed so many days before the look.
fn image(name: &str, days: i64, tags: &[&str]) -> StoredImage {
    let pushed = at("2026-11-26T12:00:00Z").as_second() - days * DAY;
    StoredImage {
        digest: name.into(),
        tags: tags.iter().map(ToString::to_string).collect(),
        pushed: Some(Timestamp::from_second(pushed).expect("a time")),
        ..StoredImage::default()
    }
}

fn seen(all: Vec<StoredImage>) -> ImageList {
    ImageList { all, children: BTreeSet::new(), at: at("2026-11-26T12:00:00Z") }
}

/// `NAME goes WHEN` of each loss.
fn lost(before: Option<&str>, after: &str, images: &ImageList) -> Vec<String> {
    let before = before.map(|before| write_policy(&keep(before)));
    let losses = find_losses(before.as_deref(), &write_policy(&keep(after)), images);
    losses.iter().map(|loss| format!("{} {}", loss.image.digest, loss.end.in_words())).collect()
}

/// A reader that understood none of our rules would find no losses.
#[test]
fn each_rule_of_ours_is_read() {
    for more in [
        "{}",
        "{snapshots: 3, snapshot-tags: [\"a-*\", \"b-*\", c], untagged: 2d}",
        "{snapshot-tags: []}",
    ] {
        let keep = keep(more);
        assert_eq!(
            read_rules(&write_policy(&keep)).map(|rules| rules.len()),
            Some(list_rules(&keep).len()),
            "{more}"
        );
    }
    assert!(read_rules("{").is_none() && read_rules(r#"{"rules":[{"selection":{}}]}"#).is_none());
}

#[test]
fn a_first_policy_takes_what_it_does_not_keep() {
    let few = "{snapshots: 2, untagged: 14d}";
    let cases: [(&str, &str, Vec<StoredImage>, &[&str]); 11] = [
        (
            "releases stay",
            few,
            vec![image("a", 900, &["1.4.0"]), image("b", 900, &["2.0.0-beta.1", "latest"])],
            &[],
        ),
        (
            "an untagged image may run, whatever its age",
            few,
            vec![image("a", 14, &[]), image("b", 13, &[]), image("c", 0, &[])],
            &["a goes within a day", "b goes on 2026-11-27", "c goes on 2026-12-10"],
        ),
        (
            "the oldest snapshots, by when they were pushed",
            few,
            vec![
                image("a", 4, &["1.3.3-main.9"]),
                image("b", 1, &["1.3.3-main.1"]),
                image("c", 3, &["1.3.3-main.2"]),
                image("d", 2, &["1.3.3-main.3"]),
            ],
            &["a goes within a day", "c goes within a day"],
        ),
        (
            "each kind of snapshot is counted by itself",
            few,
            vec![
                image("a", 4, &["1.3.3-main.1"]),
                image("b", 3, &["1.3.3-main.2"]),
                image("c", 2, &["1.3.3-master.1"]),
                image("d", 1, &["1.3.3-master.2"]),
            ],
            &[],
        ),
        (
            "any of its tags takes a release along",
            few,
            vec![
                image("a", 9, &["1.4.0", "1.3.3-main.1"]),
                image("b", 8, &["1.3.3-main.2", "1.3.3-main.3"]),
                image("c", 7, &["1.3.3-main.4", "stable"]),
            ],
            &["a goes within a day", "c goes with all its tags, when 2 more snapshots are pushed"],
        ),
        (
            "a rule behind the first that matches counts it, and does not take it",
            "{snapshots: 1, snapshot-tags: [\"x-*\", \"y-*\"]}",
            vec![image("a", 3, &["x-1", "y-1"]), image("b", 2, &["y-2"]), image("c", 1, &["y-3"])],
            &["b goes within a day"],
        ),
        (
            "a rule before takes what one behind it keeps",
            "{snapshots: 1, snapshot-tags: [\"x-*\", \"y-*\"]}",
            vec![image("a", 3, &["x-1", "y-1"]), image("b", 2, &["x-2", "1.4.0"])],
            &["a goes within a day", "b goes with all its tags, when 1 more snapshots are pushed"],
        ),
        (
            "another branch's snapshots match nothing",
            few,
            vec![image("a", 900, &["1.4.0-feature-x.5"])],
            &[],
        ),
        (
            "a time that is not known is long ago",
            few,
            vec![StoredImage { pushed: None, ..image("a", 0, &[]) }],
            &["a goes within a day"],
        ),
        ("nothing is there", few, vec![], &[]),
        (
            "no snapshots are counted",
            "{snapshot-tags: []}",
            vec![image("a", 9, &["1.4.0", "1.3.3-main.1"])],
            &[],
        ),
    ];
    for (what, after, all, expected) in cases {
        assert_eq!(lost(None, after, &seen(all)), expected, "{what}");
    }
}

#[test]
fn a_change_of_the_policy_answers_for_what_goes_sooner_by_it() {
    let all = || {
        seen(vec![
            image("a", 20, &[]),
            image("b", 1, &[]),
            image("c", 3, &["1.3.3-main.1"]),
            image("d", 2, &["1.4.0", "1.3.3-main.2"]),
        ])
    };
    let cases: [(&str, &str, &[&str]); 6] = [
        ("{}", "{}", &[]),
        ("{snapshots: 5}", "{snapshots: 9, untagged: 30d}", &[]),
        ("{untagged: 30d}", "{untagged: 14d}", &["a goes within a day", "b goes on 2026-12-09"]),
        (
            "{snapshots: 100}",
            "{snapshots: 1}",
            &["c goes within a day", "d goes with all its tags, when 1 more snapshots are pushed"],
        ),
        (
            "{snapshot-tags: []}",
            "{}",
            &["d goes with all its tags, when 100 more snapshots are pushed"],
        ),
        ("{}", "{snapshot-tags: []}", &[]),
    ];
    for (before, after, expected) in cases {
        assert_eq!(lost(Some(before), after, &all()), expected, "{before} → {after}");
    }
    // One that says it is ours, and that we cannot follow, is taken to keep all: an archive does.
    let ours = write_policy(&keep("{}"));
    for odd in [
        ours.replace("sinceImagePushed", "sinceImagePulled"),
        ours.replace(r#""type":"expire""#, r#""targetStorageClass":"archive","type":"transition""#),
        ours.replace(
            r#""tagStatus":"untagged""#,
            r#""storageClass":"archive","tagStatus":"untagged""#,
        ),
    ] {
        assert_ne!(odd, ours);
        assert_eq!(find_losses(Some(&odd), &ours, &all()).len(), 3, "{odd}");
    }
    let archived = |image: StoredImage| StoredImage { is_archived: true, ..image };
    let old = vec![
        archived(image("a", 900, &[])),
        archived(image("b", 9, &["1.3.3-main.1"])),
        image("c", 9, &["1.3.3-main.2"]),
    ];
    assert_eq!(
        lost(None, "{snapshots: 1}", &seen(old)),
        [""; 0],
        "nothing of the archive is counted or taken"
    );
}

/// An index holds its children, and an image its SBOM: neither goes before it, and where it goes it
/// is named itself.
#[test]
fn what_belongs_to_an_image_is_not_named_beside_it() {
    let index = StoredImage { is_index: true, ..image("index", 90, &["1.4.0"]) };
    let sbom = |of: &str| StoredImage { subject: Some(of.into()), ..image("sbom", 90, &[]) };
    let with = |all: Vec<StoredImage>, children: &[&str]| ImageList {
        children: children.iter().map(ToString::to_string).collect(),
        ..seen(all)
    };
    let cases: [(&str, ImageList, &[&str]); 5] = [
        ("a child", with(vec![index.clone(), image("child", 90, &[])], &["child"]), &[]),
        (
            "a child of an index that goes",
            with(
                vec![StoredImage { tags: vec![], ..index.clone() }, image("child", 90, &[])],
                &["child"],
            ),
            &["index goes within a day"],
        ),
        ("an SBOM", with(vec![image("a", 90, &["1.4.0"]), sbom("a")], &[]), &[]),
        ("an SBOM of what is gone", with(vec![sbom("a")], &[]), &["sbom goes within a day"]),
        (
            "a child with tags of its own",
            with(vec![index.clone(), image("child", 90, &["1.3.3-main.1", "amd64"])], &["child"]),
            &["child goes with all its tags, when 100 more snapshots are pushed"],
        ),
    ];
    for (what, images, expected) in cases {
        assert_eq!(lost(None, "{}", &images), expected, "{what}");
    }

    assert_eq!(
        select_indexes(&[index.clone(), image("a", 1, &["1.4.0"]), sbom("a")]),
        Vec::<String>::new(),
        "nobody asks"
    );
    assert_eq!(select_indexes(&[index, image("a", 1, &[])]), ["index"]);
    assert_eq!(
        read_children(r#"{"manifests":[{"digest":"sha256:1"},{"digest":"sha256:2","size":7}]}"#),
        ["sha256:1", "sha256:2"]
    );
    assert_eq!((read_children("{}"), read_children("no JSON")), (vec![], vec![]));
}

#[test]
fn a_refusal_names_the_images_and_the_ways_on() {
    let aws = |verb: &str| format!("aws ecr {verb} HERE");
    let images = seen(vec![
        image("sha256:1", 20, &[]),
        image("sha256:2", 3, &["1.4.0", "1.3.3-main.1"]),
        image("sha256:3", 3, &["2.0.0"]),
    ]);
    let policy = write_policy(&keep("{}"));
    let error = explain_losses("n", &find_losses(None, &policy, &images), aws).expect("a refusal");
    assert_eq!(error.kind.exit_code(), 3);
    assert_eq!(
        error.message,
        "cannot change the lifecycle policy of n: ECR would remove 2 images that are there now"
    );
    assert_eq!(
        error.why.as_deref(),
        Some(
            "sha256:1 (no tag), pushed 2026-11-06T12:00:00Z: goes within a day\n\
             sha256:2 (1.4.0, 1.3.3-main.1), pushed 2026-11-23T12:00:00Z: goes with all its tags, \
             when 100 more snapshots are pushed"
        )
    );
    let fix = error.advice();
    for part in [
        "aws ecr put-image HERE --image-tag TAG --image-digest sha256:1 --image-manifest \
         \"$(aws ecr batch-get-image HERE --image-ids imageDigest=sha256:1",
        "aws ecr batch-delete-image HERE --image-ids imageTag=SNAPSHOT",
        "aws ecr batch-delete-image HERE --image-ids imageDigest=DIGEST",
        "`lifecycle: off`",
    ] {
        assert!(fix.contains(part), "{part}: {fix}");
    }
    assert!(explain_losses("n", &[], aws).is_none());

    let many = seen((0..1000).map(|n| image(&format!("sha256:{n}"), 20, &[])).collect());
    let error = explain_losses("n", &find_losses(None, &policy, &many), aws).expect("a refusal");
    let why = error.why.clone().expect("why");
    assert_eq!((why.lines().count(), why.lines().last()), (11, Some("and 990 more")));
    assert!(!error.advice().contains("imageTag=SNAPSHOT"), "only what is wanted here");
}
