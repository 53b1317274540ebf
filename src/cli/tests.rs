//! Inputs and flags, as they meet.

use super::*;

fn expanded(arguments: &[&str], inputs: &[(&str, &str)]) -> String {
    let environ =
        Environ::new(inputs.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    match with_inputs(arguments.iter().map(OsString::from).collect(), &environ) {
        Ok(arguments) => {
            arguments.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ")
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn inputs_mean_flags_and_flags_win() {
    let cases: &[(&[&str], &[(&str, &str)], &str)] = &[
        (&["version"], &[], "version"),
        (&[], &[("INPUT_COMMAND", "version")], "version"),
        (&["status"], &[("INPUT_COMMAND", "version")], "status"),
        (&["--help"], &[("INPUT_COMMAND", "version")], "--help"),
        (
            &["push-ecr"],
            &[("INPUT_TAG", "1.0.0\n\n latest \n")],
            "push-ecr --tag=1.0.0 --tag=latest",
        ),
        (&["push-ecr", "--tag", "2"], &[("INPUT_TAG", "1")], "push-ecr --tag 2"),
        (&["push-ecr", "--tag=2"], &[("INPUT_TAG", "1")], "push-ecr --tag=2"),
        (&["build-image"], &[("INPUT_NO-CACHE", "true")], "build-image --no-cache"),
        (&["build-image"], &[("INPUT_NO-CACHE", "false")], "build-image"),
        (&["build-image"], &[("INPUT_NO-CACHE", "")], "build-image"),
        (
            &["build-image"],
            &[("INPUT_NO-CACHE", "yes")],
            "cannot read input `no-cache`: it is `yes`",
        ),
        (&["build-image"], &[("INPUT_NO-CACHE", "True\n")], "build-image --no-cache"),
        (&["build-image"], &[("INPUT_NO-CACHE", " FALSE ")], "build-image"),
        (&["build-image"], &[("INPUT_NO-CACHE", " \n")], "build-image"),
        (&[], &[("INPUT_COMMAND", "version\n")], "version"),
        (
            &["deploy"],
            &[("INPUT_ENVIRONMENT", "staging\r\n"), ("INPUT_SERVICE", "\ta b.yaml\n")],
            "deploy --service=a b.yaml --environment=staging",
        ),
        // `explain` is no flag of deploy.
        (
            &["deploy"],
            &[("INPUT_EXPLAIN", "true"), ("INPUT_ENVIRONMENT", "staging")],
            "deploy --environment=staging",
        ),
        (&["deploy"], &[("INPUT_DIGEST", "a b\"\\c")], "deploy --digest=a b\"\\c"),
        (&["deploy"], &[("INPUT_PLAN", "true")], "deploy --plan"),
        (&["--plan", "deploy"], &[("INPUT_PLAN", "true")], "--plan deploy"),
    ];
    for (arguments, inputs, result) in cases {
        assert_eq!(&expanded(arguments, inputs), result, "{arguments:?} {inputs:?}");
    }
}

#[test]
fn digests_and_versions_are_checked_where_they_come_in() {
    let good = format!("sha256:{}", "0a".repeat(32));
    for (text, ok) in [
        (good.as_str(), true),
        ("garbage", false),
        ("../../x", false),
        (&good[..70], false),
        (&good.to_uppercase(), false),
    ] {
        assert_eq!(digest(text).is_ok(), ok, "{text}");
    }
    for (text, ok) in [
        ("1.4.0", true),
        ("1.3.3-main.4", true),
        ("1.0.0+b", true),
        ("", false),
        ("a b", false),
        ("../x", false),
        ("v/1", false),
    ] {
        assert_eq!(version(text).is_ok(), ok, "{text}");
    }
    for command in ["deploy", "render", "push-ecr"] {
        let parsed =
            parse(vec![command.into(), "--digest".into(), "garbage".into()], &Environ::default());
        assert!(parsed.expect_err("bad").message.contains("64 hexadecimal digits"));
    }
}

#[test]
fn a_misspelt_flag_is_bad_input_with_a_suggestion() {
    let error = parse(vec!["deploy".into(), "--digset".into(), "x".into()], &Environ::default())
        .expect_err("bad");
    assert_eq!(error.kind.exit_code(), 2);
    assert!(error.message.contains("--digset"), "{error}");
    assert!(error.advice().contains("--digest"));
}
