//! RepositorySettings, drift and what repairs it, case by case.

use serde_json::{Value, json};

use super::*;

const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/1b1f";

fn registry(more: &str) -> Registry {
    let text = format!("account: \"111122223333\"\nregion: eu-west-1\n{more}\n");
    serde_saphyr::from_str(&text).expect("a registry")
}

fn owner() -> Owner {
    Owner {
        service: "patients".into(),
        source: Some("https://github.com/clinicult/patients".into()),
        channels: vec!["beta".into(), "rc".into()],
    }
}

fn settings(more: &str) -> RepositorySettings {
    RepositorySettings::of(&registry(more), &owner()).expect("settings")
}

/// A repository as `settings` say.
fn as_it_should_be(settings: &RepositorySettings) -> RepositoryFacts {
    RepositoryFacts {
        mutability: settings.mutability().into(),
        excluded: settings.mutable_tags.clone(),
        scanned: Scanned::Yes,
        encryption: if settings.kms_key.is_some() { "KMS" } else { "AES256" }.into(),
        kms_key: settings.kms_key.clone(),
        lifecycle: Some(settings.lifecycle_policy()),
        tags: Some(settings.tags.clone()),
    }
}

#[test]
fn a_repository_that_is_as_it_should_be_has_no_drift() {
    for more in [
        "",
        "kms-key: alias/ecr",
        "mutable-tags: [\"buildcache*\", \"*-main.*\"]",
        "lifecycle: off",
        "lifecycle: {snapshots: 5, snapshot-tags: [], untagged: 1d}",
        "tags: {team: records, service: other}",
    ] {
        let settings = settings(more);
        assert_eq!(find_drifts(&as_it_should_be(&settings), &settings), [], "{more}");
    }
}

/// What differs, in the words that people read; each case changes one thing.
#[test]
fn what_differs_is_said_and_repaired_by_one_change() {
    type Other = fn(&mut RepositoryFacts);
    let cases: [(&str, Other, &str, &str); 16] = [
        (
            "",
            |one| one.mutability = "MUTABLE".into(),
            "its tags are MUTABLE and should be IMMUTABLE",
            "Mutability",
        ),
        (
            "",
            |one| {
                one.mutability = "IMMUTABLE_WITH_EXCLUSION".into();
                one.excluded = vec!["*".into()];
            },
            "its tags are IMMUTABLE_WITH_EXCLUSION (*) and should be IMMUTABLE",
            "Mutability",
        ),
        (
            "mutable-tags: [\"buildcache*\"]",
            |one| one.excluded = vec!["dev-*".into()],
            "IMMUTABLE_WITH_EXCLUSION (dev-*) and should be IMMUTABLE_WITH_EXCLUSION (buildcache*)",
            "Mutability",
        ),
        ("", |one| one.scanned = Scanned::No, "is not scanned", "ScanOnPush"),
        (
            "",
            |one| one.scanned = Scanned::ByRulesUnseen,
            "told to that account only",
            "have someone of that account look",
        ),
        (
            "kms-key: alias/ecr",
            |one| (one.encryption, one.kms_key) = ("AES256".into(), None),
            "encrypted by AES256, and should be with alias/ecr",
            "another name",
        ),
        (
            "kms-key: 1b1f",
            |one| one.kms_key = Some("arn:aws:kms:eu-west-1:111122223333:key/2222".into()),
            "with arn:aws:kms:eu-west-1:111122223333:key/2222, and should be with 1b1f",
            "never again",
        ),
        ("", |one| one.lifecycle = Some(None), "no lifecycle policy", "Lifecycle"),
        (
            "lifecycle: {snapshots: 7, snapshot-tags: [\"*-main.*\"], untagged: 3d}",
            |one| one.lifecycle = Some(settings("").lifecycle_policy()),
            "`the newest 100 of *-main.* stay; the newest 100 of *-master.* stay; images without a \
             tag stay 14 days` and should be `the newest 7 of *-main.* stay; images without a tag \
             stay 3 days`",
            "Lifecycle",
        ),
        (
            "",
            |one| one.lifecycle = Some(Some("{".into())),
            "is not ours, and stays as it is",
            "lifecycle: off",
        ),
        (
            "",
            |one| one.lifecycle = Some(Some(theirs(r#""tagStatus":"any""#))),
            "its rule 10 can remove releases",
            "lifecycle: off",
        ),
        (
            "",
            |one| {
                one.lifecycle = Some(Some(theirs(r#""tagStatus":"tagged","tagPrefixList":["1"]"#)))
            },
            "its rule 10 can remove releases",
            "delete-lifecycle-policy",
        ),
        (
            "",
            |one| {
                one.lifecycle =
                    Some(Some(theirs(r#""tagStatus":"tagged","tagPatternList":["pr-*"]"#)))
            },
            "stays as it is",
            "lifecycle: off",
        ),
        (
            "tags: {team: records}",
            |one| one.tags = Some(BTreeMap::new()),
            "its tag service is missing",
            "Tags",
        ),
        (
            "tags: {team: records}",
            |one| {
                *one.tags.as_mut().expect("tags").get_mut("team").expect("a tag") = "sales".into()
            },
            "its tag team is sales and should be records",
            r#"Tags({"team": "records"})"#,
        ),
        (
            "",
            |one| one.tags.as_mut().expect("tags").remove("source").map_or((), drop),
            "its tag source is missing and should be https://github.com/clinicult/patients",
            "Tags",
        ),
    ];
    for (more, differ, what, fix) in cases {
        let settings = settings(more);
        let mut facts = as_it_should_be(&settings);
        differ(&mut facts);
        let found = find_drifts(&facts, &settings);
        assert_eq!(found.len(), 1, "{what}: {found:?}");
        assert!(found[0].what.contains(what), "{what}: {}", found[0].what);
        assert!(format!("{:?}", found[0].fix).contains(fix), "{what}: {:?}", found[0].fix);
        let risky = found[0].what.contains("can remove releases");
        assert_eq!(risky, what.contains("can remove releases"), "{}", found[0].what);
    }
}

/// A policy of somebody else's with one rule.
fn theirs(selection: &str) -> String {
    format!(
        r#"{{"rules":[{{"rulePriority":10,"description":"keep few","selection":{{{selection},"countType":"imageCountMoreThan","countNumber":5}},"action":{{"type":"expire"}}}}]}}"#
    )
}

#[test]
fn what_may_not_be_looked_at_or_is_not_our_business_is_no_drift() {
    let all = settings("kms-key: alias/ecr\ntags: {team: records}");
    let hidden = RepositoryFacts {
        scanned: Scanned::Unknown,
        lifecycle: None,
        tags: None,
        ..as_it_should_be(&all)
    };
    assert_eq!(find_drifts(&hidden, &all), []);

    let off = settings("lifecycle: off");
    let theirs = RepositoryFacts {
        lifecycle: Some(Some(theirs(r#""tagStatus":"any""#))),
        ..as_it_should_be(&off)
    };
    assert_eq!((find_drifts(&theirs, &off), off.lifecycle_policy()), (vec![], None));

    // More than is asked for is no drift: other tags, a stronger encryption, what ECR adds to a
    // rule.
    let plain = settings("kms-key: 1b1f");
    let mut more = as_it_should_be(&plain);
    (more.encryption, more.kms_key) = ("KMS_DSSE".into(), Some(KEY.into()));
    more.tags.as_mut().expect("tags").insert("cost".into(), "17".into());
    let mut policy: Value =
        serde_json::from_str(&plain.lifecycle_policy().expect("a policy")).expect("JSON");
    policy["rules"].as_array_mut().expect("rules").reverse();
    policy["rules"][0]["selection"]["storageClass"] = "standard".into();
    more.lifecycle = Some(Some(serde_json::to_string_pretty(&policy).expect("text")));
    assert_eq!(find_drifts(&more, &plain), []);
    let unasked = settings("");
    assert_eq!(
        find_drifts(
            &RepositoryFacts { encryption: "KMS".into(), ..as_it_should_be(&unasked) },
            &unasked
        ),
        []
    );
}

/// The property that counts: no rule of ours takes an image for a tag that a release or a channel's
/// prerelease can have.
#[test]
fn releases_are_never_removed() {
    let policy = settings("").lifecycle_policy().expect("a policy");
    let policy: Value = serde_json::from_str(&policy).expect("JSON");
    let rules = policy["rules"].as_array().expect("rules");
    let matching = |tag: &str| {
        rules.iter().filter(|rule| rule["selection"]["tagStatus"] != "untagged").any(|rule| {
            let patterns = rule["selection"]["tagPatternList"].as_array().expect("patterns");
            patterns.iter().all(|one| pattern::matches(one.as_str().expect("a pattern"), tag))
        })
    };
    for tag in ["1.4.0", "0.1.0", "10.20.30", "2.0.0-beta.1", "2.0.0-rc.12", "latest", "stable"] {
        assert!(!matching(tag), "{tag}");
    }
    for tag in ["1.3.3-main.4", "1.3.3-master.4"] {
        assert!(matching(tag), "{tag}");
    }
    let untagged: Vec<&Value> =
        rules.iter().filter(|rule| rule["selection"]["tagStatus"] == "untagged").collect();
    assert_eq!(untagged.len(), 1);
    assert_eq!(
        (&untagged[0]["rulePriority"], &untagged[0]["selection"]["countNumber"]),
        (&json!(3), &json!(14))
    );
}

#[test]
fn a_pattern_that_takes_a_channels_prereleases_is_refused() {
    for (more, expected) in [
        (
            "mutable-tags: [\"*-beta.*\"]",
            "registry.mutable-tags in platform.yaml: it has `*-beta.*`",
        ),
        ("mutable-tags: [\"*-*\"]", "could be moved"),
        (
            "lifecycle: {snapshot-tags: [\"*-r*\"]}",
            "prereleases like 2.0.0-rc.1, which would be removed",
        ),
    ] {
        let error = RepositorySettings::of(&registry(more), &owner()).expect_err(more);
        assert_eq!(error.kind.exit_code(), 2);
        assert!(error.to_string().contains(expected) && !error.fixes.is_empty(), "{error}");
    }
    let without = Owner { channels: vec![], ..owner() };
    assert!(RepositorySettings::of(&registry("mutable-tags: [\"*-beta.*\"]"), &without).is_ok());
}

#[test]
fn an_image_with_a_releases_and_a_snapshots_tag_is_told_of() {
    let cases: [(&str, &[&str], bool); 6] = [
        ("", &["1.4.0", "1.3.3-main.4"], true),
        ("", &["1.3.3-main.4", "2.0.0-beta.1"], true),
        ("", &["1.4.0", "stable"], false),
        ("", &["1.3.3-main.4", "1.3.3-main.5"], false),
        ("", &[], false),
        ("lifecycle: off", &["1.4.0", "1.3.3-main.4"], false),
    ];
    for (more, tags, told) in cases {
        let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
        assert_eq!(settings(more).loses_a_release(&tags).is_some(), told, "{tags:?}");
    }
}

/// One sentence for all that one run ends, and one for each thing that it does not.
#[test]
fn what_a_repair_ends_is_told_at_once() {
    let settings = settings("kms-key: alias/ecr");
    let mut facts = as_it_should_be(&settings);
    assert_eq!(
        format_drift_warning("n", &sort_drifts("n", &find_drifts(&facts, &settings)).0),
        None
    );
    (facts.mutability, facts.lifecycle, facts.scanned) =
        ("MUTABLE".into(), Some(None), Scanned::No);
    facts.encryption = "AES256".into();
    let drifts = find_drifts(&facts, &settings);
    let (repairs, by_hand) = sort_drifts("n", &drifts);
    assert_eq!(
        format_drift_warning("n", &repairs).as_deref(),
        Some(
            "n is not as platform.yaml says: its tags are MUTABLE and should be IMMUTABLE; what is \
             pushed is not scanned, and should be: scanOnPush is false; it has no lifecycle policy: \
             images stay for ever, and are paid for; run this once with --repair (in a workflow \
             `repair: true`), which needs `ecr:PutImageTagMutability`, \
             `ecr:PutImageScanningConfiguration`, `ecr:PutLifecyclePolicy`"
        )
    );
    assert!(
        by_hand.len() == 1 && by_hand[0].starts_with("n: it is encrypted by AES256"),
        "{by_hand:?}"
    );
}

#[test]
fn a_new_repository_is_told_in_words() {
    assert_eq!(
        settings("").in_words(),
        "immutable tags, scan on push, the newest 100 snapshots stay, images without a tag stay 14 \
         days, releases for ever"
    );
    assert_eq!(
        settings(&format!("kms-key: {KEY}\nmutable-tags: [\"buildcache*\"]\nlifecycle: off"))
            .in_words(),
        format!("immutable tags but for buildcache*, scan on push, encrypted with {KEY}")
    );
}
