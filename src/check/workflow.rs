//! The rules for a workflow that calls the pipeline: what GitHub would refuse at its start, or run
//! with other people's code. Pure.
//!
//! <https://docs.github.com/actions/how-tos/reuse-automations/reuse-workflows>

use std::path::Path;

use serde_json::Value;

use super::{Finding, Level};
use crate::dockerignore::matches_glob;
use crate::error::Result;

/// The repository whose reusable workflows are meant.
const PIPELINE: &str = "clinicult/cicd/";

/// The most that any job of service.yml asks for, and of services.yml, which calls it: a caller that grants less is refused by GitHub
/// before any job runs.
const PERMISSIONS: [(&str, &str); 4] = [
    ("contents", "write"),
    ("deployments", "write"),
    ("id-token", "write"),
    ("pull-requests", "write"),
];
/// The same of deploy.yml, which people start by hand.
const DEPLOY_PERMISSIONS: [(&str, &str); 3] =
    [("contents", "read"), ("deployments", "write"), ("id-token", "write")];

/// The same of preview.yml.
const PREVIEW_PERMISSIONS: [(&str, &str); 4] = [
    ("contents", "read"),
    ("deployments", "write"),
    ("id-token", "write"),
    ("pull-requests", "write"),
];

/// What rules look at beside the workflow itself.
pub struct WorkflowFacts<'a> {
    /// Whether the repository has a file.
    pub exists: &'a dyn Fn(&str) -> bool,
    /// The repository's default branch, where that is known.
    pub branch: Option<&'a str>,
}

/// What the rules find in a workflow; nothing when it does not call the pipeline.
///
/// # Errors
/// Bad input with its place, when it is not YAML.
pub fn lint_workflow(text: &str, file: &Path, facts: &WorkflowFacts<'_>) -> Result<Vec<Finding>> {
    if !text.contains(PIPELINE) {
        return Ok(Vec::new());
    }
    let workflow: Value = crate::config::parse(text, file)?;
    let mut findings = Vec::new();
    let jobs = workflow["jobs"].as_object().cloned().unwrap_or_default();
    for (name, job) in &jobs {
        if job["uses"].as_str().is_some_and(|uses| uses.starts_with(PIPELINE)) {
            check_caller(text, name, job, &workflow, facts, &mut findings);
        }
        for step in job["steps"].as_array().into_iter().flatten() {
            if let Some(uses) = step["uses"].as_str() {
                check_pin(text, uses, &mut findings);
            }
        }
    }
    if list_triggers(&workflow).iter().any(|trigger| trigger == "pull_request_target") {
        findings.push(Finding {
            rule: "pull-request-target",
            level: Level::Fail,
            line: find_line(text, &["pull_request_target"]),
            message:
                "pull_request_target runs a stranger's code with this repository's permissions"
                    .into(),
            fix: "on: {pull_request: {}}".into(),
        });
    }
    findings.sort_by_key(|finding| finding.line);
    Ok(findings)
}

/// A job that calls a reusable workflow of the pipeline.
fn check_caller(
    text: &str,
    name: &str,
    job: &Value,
    workflow: &Value,
    facts: &WorkflowFacts<'_>,
    findings: &mut Vec<Finding>,
) {
    let uses = job["uses"].as_str().unwrap_or_default();
    let line = find_line(text, &["uses:", uses]);
    let mut say = |rule, level, line, message: String, fix: String| {
        findings.push(Finding { rule, level, line, message, fix })
    };

    let reference = uses.rsplit_once('@').map(|(_, reference)| reference).unwrap_or_default();
    if ["", "main", "master", "HEAD"].contains(&reference) {
        say(
            "pipeline-unpinned",
            Level::Warn,
            line,
            format!("`{uses}` is what somebody merged last"),
            format!("uses: {}@v1, or a release's full SHA", uses.split('@').next().unwrap_or(uses)),
        );
    }
    let given =
        if job["permissions"].is_null() { &workflow["permissions"] } else { &job["permissions"] };
    let of = |name: &str| uses.contains(&format!("/{name}@"));
    let (by_hand, of_previews) = (of("deploy.yml"), of("preview.yml"));
    let (asked, triggers): (&[(&str, &str)], &[&str]) = match (by_hand, of_previews) {
        (true, _) => (&DEPLOY_PERMISSIONS, &["workflow_dispatch"]),
        (_, true) => (&PREVIEW_PERMISSIONS, &["pull_request", "schedule"]),
        _ => (&PERMISSIONS, &["push", "pull_request"]),
    };
    let grants = |scope: &str, access: &str| match given {
        Value::String(all) => all == "write-all" || access == "read" && all == "read-all",
        given => given[scope] == "write" || given[scope] == access,
    };
    let missing: Vec<String> = asked
        .iter()
        .filter(|(scope, access)| !grants(scope, access))
        .map(|(scope, access)| format!("{scope}: {access}"))
        .collect();
    if !missing.is_empty() {
        say(
            "permissions",
            Level::Fail,
            line,
            format!(
                "job `{name}` does not grant {}: GitHub refuses to start the pipeline",
                missing.join(", ")
            ),
            format!(
                "jobs:\n  {name}:\n    permissions: {{{}}}",
                asked
                    .iter()
                    .map(|(scope, access)| format!("{scope}: {access}"))
                    .collect::<Vec<String>>()
                    .join(", ")
            ),
        );
    }
    if job["secrets"] == "inherit" {
        say(
            "secrets-inherit",
            Level::Warn,
            find_line(text, &["secrets:", "inherit"]),
            "every secret of the repository is handed over, and the pipeline takes build-secrets \
             alone"
                .into(),
            "take the line away, or name what the build reads: secrets: {build-secrets: \
             \"NAME=${{ secrets.NAME }}\"}"
                .into(),
        );
    }
    let service = job["with"]["service"].as_str().unwrap_or("service.yaml");
    if !of("services.yml") && !service.contains("${{") && !(facts.exists)(service) {
        say(
            "service-missing",
            Level::Fail,
            line,
            format!("there is no {service} in this repository"),
            "name it from the repository's root: `with: {service: path/service.yaml}`".into(),
        );
    }
    for trigger in triggers {
        if !list_triggers(workflow).iter().any(|own| own == trigger) {
            say(
                "trigger-missing",
                Level::Warn,
                find_line(text, &["on:"]),
                format!("nothing happens on {trigger}"),
                match by_hand {
                    true => {
                        "on: {workflow_dispatch: {inputs: …}}, as in workflows/deploy.yml".into()
                    }
                    false if of_previews => {
                        "on: {pull_request: {types: […, closed]}, schedule: […]}, as in \
                         workflows/preview.yml"
                            .into()
                    }
                    false => "on: {push: {branches: [main]}, pull_request: {}}".into(),
                },
            );
        }
    }
    if of_previews {
        let types = workflow["on"]["pull_request"]["types"].as_array();
        let ends = types.is_some_and(|types| types.iter().any(|one| one == "closed"));
        if !ends {
            say(
                "preview-stays",
                Level::Warn,
                find_line(text, &["pull_request"]),
                "a preview stays when its pull request is closed".into(),
                "on: {pull_request: {types: [opened, reopened, synchronize, closed]}}".into(),
            );
        }
        return;
    }
    if !by_hand && let Some((line, message, fix)) = check_push(text, workflow, facts.branch) {
        say("push-branches", Level::Warn, line, message, fix);
    }
}

/// Which branches a push has to be on: service.yml deploys what it is called for.
/// <https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax#onpushbranchestagsbranches-ignoretags-ignore>
fn check_push(text: &str, workflow: &Value, branch: Option<&str>) -> Option<(u64, String, String)> {
    if !list_triggers(workflow).iter().any(|trigger| trigger == "push") {
        return None;
    }
    let push = &workflow["on"]["push"];
    let main = branch.unwrap_or("main");
    let fix = format!("on: {{push: {{branches: [{main}]}}, pull_request: {{}}}}");
    let line = find_line(text, &["push"]);
    let is_given = |key: &str| !push[key].is_null();
    if !["branches", "branches-ignore"].iter().any(|key| is_given(key)) {
        // With tags alone, no branch starts anything.
        if is_given("tags") || is_given("tags-ignore") {
            let message = "a merge starts nothing: `push` has tags and no branches".to_string();
            return Some((line, message, fix));
        }
        let message = "a push to any branch, and of any tag, starts the pipeline, which deploys \
                       what it builds there";
        return Some((line, message.into(), fix));
    }
    let branch = branch?;
    let list = |key: &str| -> Vec<&str> {
        match &push[key] {
            Value::String(one) => vec![one],
            Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    };
    let matches = |patterns: &[&str]| {
        patterns.iter().fold(false, |taken, pattern| match pattern.strip_prefix('!') {
            Some(pattern) => taken && !matches_glob(pattern, branch),
            None => taken || matches_glob(pattern, branch),
        })
    };
    let (taken, ignored) = (list("branches"), list("branches-ignore"));
    let starts = if taken.is_empty() { !matches(&ignored) } else { matches(&taken) };
    (!starts).then(|| {
        let message = format!("a merge to {branch}, the default branch, starts nothing");
        (find_line(text, &["branches"]), message, fix)
    })
}

/// An action of somebody else's, beside the pipeline's permissions.
fn check_pin(text: &str, uses: &str, findings: &mut Vec<Finding>) {
    let known = ["./", "$/", "docker://", PIPELINE].iter().any(|start| uses.starts_with(start));
    let sha = uses
        .rsplit_once('@')
        .is_some_and(|(_, sha)| sha.len() == 40 && sha.bytes().all(|b| b.is_ascii_hexdigit()));
    if !known && !sha {
        findings.push(Finding {
            rule: "action-unpinned",
            level: Level::Warn,
            line: find_line(text, &["uses:", uses]),
            message: format!("{uses} may become something else"),
            fix: "name it by its full SHA, and let Dependabot keep it fresh".into(),
        });
    }
}

/// The events a workflow runs on: `on: push`, `on: [push]` and `on: {push: …}`.
fn list_triggers(workflow: &Value) -> Vec<String> {
    match &workflow["on"] {
        Value::String(one) => vec![one.clone()],
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_string).collect(),
        Value::Object(map) => map.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

/// The first line that has all of `words`; the first line at all, when none has.
fn find_line(text: &str, words: &[&str]) -> u64 {
    let found =
        (1..).zip(text.lines()).find(|(_, line)| words.iter().all(|word| line.contains(word)));
    found.map_or(1, |(line, _)| line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "on: {push: {branches: [main]}, pull_request: {}}\njobs:\n  service:\n    \
        uses: clinicult/cicd/.github/workflows/service.yml@v1\n    permissions: {contents: write, \
        id-token: write, pull-requests: write, deployments: write}\n";

    fn found(text: &str) -> Vec<(&'static str, u64)> {
        found_on(text, None)
    }

    fn found_on(text: &str, branch: Option<&str>) -> Vec<(&'static str, u64)> {
        let facts = WorkflowFacts { exists: &|file| file == "service.yaml", branch };
        let file = Path::new(".github/workflows/ci.yml");
        let findings = lint_workflow(text, file, &facts).expect("YAML");
        findings.into_iter().map(|finding| (finding.rule, finding.line)).collect()
    }

    #[test]
    fn each_rule_has_what_breaks_it() {
        assert_eq!(found(GOOD), []);
        assert_eq!(
            found(include_str!("../../workflows/ci.yml")),
            [],
            "what we give to copy keeps every rule"
        );
        let preview = include_str!("../../workflows/preview.yml");
        for own in [
            include_str!("../../workflows/deploy.yml"),
            include_str!("../../workflows/services.yml"),
            preview,
        ] {
            assert_eq!(found(own), []);
        }
        let stays = preview.replace("    types: [opened, reopened, synchronize, closed]\n", "");
        assert_eq!(found(&stays), [("preview-stays", 5)]);
        assert_eq!(
            found("on: push\njobs: {x: {uses: ./x}}\n"),
            [],
            "it does not call the pipeline"
        );
        let cases: &[(&str, &str, &[(&str, u64)])] = &[
            ("@v1", "@main", &[("pipeline-unpinned", 4)]),
            ("@v1", "@0123456789012345678901234567890123456789", &[]),
            ("contents: write, ", "", &[("permissions", 4)]),
            ("id-token: write", "id-token: read", &[("permissions", 4)]),
            (
                "{contents: write, id-token: write, pull-requests: write, deployments: write}",
                "write-all",
                &[],
            ),
            (", deployments: write}", "}", &[("permissions", 4)]),
            (
                "pull_request: {}",
                "pull_request_target: {}",
                &[("trigger-missing", 1), ("pull-request-target", 1)],
            ),
            ("    permissions", "    secrets: inherit\n    permissions", &[("secrets-inherit", 5)]),
            (
                "    permissions",
                "    with: {service: nope/service.yaml}\n    permissions",
                &[("service-missing", 4)],
            ),
            (
                "jobs:\n",
                "jobs:\n  other:\n    runs-on: x\n    steps: [{uses: a/b@v1}]\n",
                &[("action-unpinned", 5)],
            ),
        ];
        for (from, to, expected) in cases {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD, "{from}");
            let mut seen = found(&text);
            seen.sort_by_key(|(rule, _)| expected.iter().position(|(own, _)| own == rule));
            assert_eq!(seen, *expected, "{text}");
        }
    }

    #[test]
    fn a_push_starts_the_pipeline_on_the_default_branch_alone() {
        let cases: &[(&str, Option<&str>, bool)] = &[
            ("{branches: [main]}", None, false),
            ("{branches: [main]}", Some("main"), false),
            ("{branches: [main]}", Some("trunk"), true),
            ("{branches: main}", Some("main"), false),
            ("{branches: ['**', '!trunk']}", Some("trunk"), true),
            ("{branches: ['release/*', 'm*']}", Some("master"), false),
            ("{branches-ignore: [dependabot]}", Some("main"), false),
            ("{branches-ignore: ['**']}", Some("main"), true),
            ("{}", None, true),
            ("{paths: [src]}", None, true),
            ("{tags: ['v*']}", None, true),
            ("{branches: [main], tags: ['v*']}", Some("main"), false),
        ];
        for (push, branch, breaks) in cases {
            let text = GOOD.replace("{branches: [main]}", push);
            let seen = found_on(&text, *branch);
            assert_eq!(seen.contains(&("push-branches", 1)), *breaks, "{push} {branch:?}");
        }
        for all in ["on: [push, pull_request]", "on:\n  push:\n  pull_request:\n"] {
            let first = GOOD.lines().next().expect("a line");
            let seen = found(&GOOD.replace(first, all));
            assert!(seen.iter().any(|(rule, _)| *rule == "push-branches"), "{all}: {seen:?}");
        }
    }

    /// What a caller has to grant is what the jobs really ask for, no less and no more.
    #[test]
    fn the_permissions_are_those_of_the_jobs() {
        let granted = |scopes: &[(&str, &str)]| -> Vec<String> {
            scopes.iter().map(|(scope, access)| format!("{scope}: {access}")).collect()
        };
        for (text, scopes) in [
            (include_str!("../../.github/workflows/service.yml"), &PERMISSIONS[..]),
            (include_str!("../../.github/workflows/services.yml"), &PERMISSIONS[..]),
            (include_str!("../../.github/workflows/deploy.yml"), &DEPLOY_PERMISSIONS[..]),
            (include_str!("../../.github/workflows/preview.yml"), &PREVIEW_PERMISSIONS[..]),
        ] {
            assert_eq!(list_asked(text), granted(scopes));
        }
    }

    /// The most that the jobs of a workflow ask for, as `scope: access`.
    fn list_asked(text: &str) -> Vec<String> {
        let workflow: Value = crate::config::parse(text, Path::new("x.yml")).expect("YAML");
        let mut asked = std::collections::BTreeMap::new();
        for (name, job) in workflow["jobs"].as_object().expect("jobs") {
            // Without a map of its own a job would have what the caller's token has.
            for (scope, access) in
                job["permissions"].as_object().unwrap_or_else(|| panic!("{name}"))
            {
                let access = access.as_str().expect("read or write");
                let most = asked.entry(scope.clone()).or_insert_with(|| access.to_string());
                if access == "write" {
                    *most = access.to_string();
                }
            }
        }
        asked.iter().map(|(scope, access)| format!("{scope}: {access}")).collect()
    }

    #[test]
    fn what_is_not_yaml_is_said_with_its_place() {
        let facts = WorkflowFacts { exists: &|_| true, branch: None };
        let error = lint_workflow("jobs: [clinicult/cicd/\n", Path::new("ci.yml"), &facts)
            .expect_err("not YAML");
        assert_eq!((error.kind.exit_code(), error.place.is_some()), (2, true));
    }
}
