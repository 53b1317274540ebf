//! What each end of a step looks like, and that nobody else writes in it.

use serde_json::json;

use super::*;
use crate::error::Code;
use crate::report::outputs;

/// What a deploy of patients 1.5.0 to production ended with.
struct Case {
    error: Option<Error>,
    status: &'static str,
    plan: &'static str,
    /// The first line, and parts of the rest in their order.
    verdict: &'static str,
    parts: &'static [&'static str],
}

const PLAN: &str = "update Deployment/patients\n    spec.replicas: 2 → 3\n    a.b: none → 1\n\
                    create Service/patients\n    c: x → y → z\n";

fn course(plan: &str) -> Course {
    let phases =
        [("lock", 0.3), ("migrate", 0.0), ("apply", 1.2), ("watch", 41.0), ("verify", 0.4)];
    let again = [("watch", 1.0), ("record", 0.2)];
    Course {
        phases: phases.into_iter().chain(again).map(|(name, s)| (name.to_string(), s)).collect(),
        plan: plan.to_string(),
        record: Some(42),
        good: Some("1.4.0".into()),
    }
}

fn render(error: Option<&Error>, status: &str, course: &Course) -> String {
    let given = json!({
        "status": status, "version": "1.5.0", "target": "eks", "digest": "sha256:0123456789abcdef",
        "previous-revision": "6", "url": "https://patients.example/a",
    });
    let links = Links {
        run: Some("https://github.com/o/r/actions/runs/1".into()),
        by_hand: Some("https://github.com/o/r/actions/workflows/deploy.yml".into()),
    };
    let end = StepEnd {
        step: "deploy",
        service: Some("patients"),
        wanted: None,
        environment: Some("production"),
        outputs: &outputs(&given),
        course,
        error,
        links: &links,
    };
    end.render().expect("a verdict").as_str().to_string()
}

#[test]
fn the_verdict_comes_first_and_then_what_to_do() {
    let error = |kind| Some(Error::new(kind, "it does not run"));
    let cases = [
        Case {
            error: None,
            status: "deployed",
            plan: PLAN,
            verdict: "### ✅ patients 1.5.0 runs in production",
            parts: &[
                "[https&#58;//patients.example/a](<https://patients.example/a>) · record 42 · \
                 before: 1.4.0 · eks · `sha256:0123456789ab` · 44.1 s · [this run](",
                "```mermaid\n",
                "    apply 1.2 s :done, 300, 1500\n    watch 41.0 s :done,",
                "<details><summary>The plan: 2 objects</summary>",
                "! update Deployment/patients\n-     spec.replicas: 2\n+     spec.replicas: 3\n\
                 +     a.b: 1\n+ create Service/patients\n      c: x → y → z\n",
                "Back to what ran before: [run the workflow](",
                "`cicd rollback --environment production --to previous`",
            ],
        },
        Case {
            error: None,
            status: "unchanged",
            plan: "",
            verdict: "### ✅ patients 1.5.0 runs in production already: nothing was changed",
            parts: &[],
        },
        Case {
            error: None,
            status: "planned",
            plan: "",
            verdict: "### ✅ patients 1.5.0 would change nothing in production",
            parts: &[],
        },
        Case {
            error: None,
            status: "planned",
            plan: PLAN,
            verdict: "### 📝 patients 1.5.0 would change 2 objects in production",
            parts: &["\n```diff\n! update"],
        },
        Case {
            error: error(Kind::RolledBack),
            status: "",
            plan: PLAN,
            verdict: "### ↩️ patients 1.5.0 failed in production and was rolled back to 1.4.0",
            parts: &[
                "**exit code 4: failed, and rolled back to the last good**",
                "**What:** it does not run",
                "1. Nothing is down: production serves 1.4.0 as before.",
                "watch 1.0 s :crit",
            ],
        },
        Case {
            error: error(Kind::Broken),
            status: "",
            plan: "",
            verdict: "### 🚨 patients 1.5.0 failed in production: a person is needed",
            parts: &["exit code 5", "1. **Bring the last good version back:** [run the workflow]("],
        },
        Case {
            error: error(Kind::Refused)
                .map(|error| error.why("no role").fix("allow it:\n{\n  \"a\": 1\n}")),
            status: "",
            plan: "",
            verdict: "### ⛔ patients 1.5.0 was refused for production: nothing that runs was changed",
            parts: &[
                "exit code 3",
                "**Why:** no role",
                "1. Allow it:\n\n```\n{\n  \"a\": 1\n}\n```\n",
                "2. Then run the failed job again",
            ],
        },
        Case {
            error: error(Kind::Superseded).map(|error| error.fix("wait, or `cicd unlock`")),
            status: "",
            plan: "",
            verdict: "### ⏭️ patients 1.5.0 was not brought to production: another run or a freeze \
                      comes first",
            parts: &["1. Wait, or `cicd unlock`\n"],
        },
    ];
    for Case { error, status, plan, verdict, parts } in cases {
        let text = render(error.as_ref(), status, &course(plan));
        assert_eq!(text.lines().next(), Some(verdict));
        let mut rest = text.as_str();
        for part in parts {
            let at = rest.find(part).unwrap_or_else(|| panic!("{part}\nis not behind in\n{text}"));
            rest = &rest[at..];
        }
    }
}

#[test]
fn causes_are_a_table_and_their_logs_are_below() {
    let cause = |object: &str, log: &[&str]| Cause {
        code: Some(Code::OutOfMemory),
        object: object.into(),
        reason: "OOMKilled".into(),
        exit_code: Some(137),
        log_tail: log.iter().map(|line| line.to_string()).collect(),
        fix: Some("raise `resources.memory`".into()),
    };
    let causes = vec![cause("Pod/a", &["one", "two"]), cause("Pod/b", &["three"])];
    let error = Error::new(Kind::Broken, "no").causes(causes);
    let text = render(Some(&error), "", &Course::default());
    for part in [
        "| code | object | reason | fix |\n|---|---|---|---|\n",
        "| `out-of-memory` | `Pod/a` | OOMKilled \\(exit code 137\\) | raise `resources.memory` |\n",
        "<details open><summary>The last lines of Pod/a</summary>\n\n```\none\ntwo\n```\n",
        "<details><summary>The last lines of Pod/b</summary>",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    let block = Cause { fix: Some("a:\n  b: 1".into()), ..cause("Pod/c", &[]) };
    let of_block =
        render(Some(&Error::new(Kind::Broken, "no").causes(vec![block])), "", &Course::default());
    let shown = "| see below |\n\nFor `Pod/c`:\n\n```\na:\n  b: 1\n```\n";
    assert!(of_block.contains(shown), "{of_block}");
    // A timeline of nothing is none.
    assert!(!text.contains("mermaid"), "{text}");
}

/// Names of objects, logs, plans and messages are anybody's.
#[test]
fn hostile_text_stays_text() {
    let evil = "```\n</details><img src=x> [in](https://evil.example) | @all\n### done `x\r## y";
    let cause = Cause {
        object: evil.into(),
        reason: evil.into(),
        log_tail: vec![evil.into()],
        fix: Some(evil.into()),
        ..Cause::default()
    };
    let error = Error::new(Kind::Refused, evil).why(evil).fix(evil).causes(vec![cause]);
    let mut course = course(&format!("update {evil}\n    a: {evil} → {evil}\n"));
    course.phases.push((evil.to_string(), 9.0));
    course.good = Some(evil.into());
    let text = render(Some(&error), "", &course);
    // Outside of fences, which are longer than what they hold, nothing of it is markup.
    let (mut outside, mut fence) = (String::new(), None);
    for line in text.lines() {
        let ticks = &line[..line.len() - line.trim_start_matches('`').len()];
        match fence {
            Some(own) if own == line => fence = None,
            Some(_) => {}
            None if ticks.len() >= 3 => fence = Some(ticks),
            None => outside.push_str(&format!("{line}\n")),
        }
    }
    assert_eq!(fence, None, "{text}");
    // Code spans show what they hold as it is.
    let shown: String = outside.split('`').step_by(2).collect();
    for markup in ["<img", "](https://evil", "@all", "\n### done", "\n## y"] {
        assert!(!shown.contains(markup), "{markup} is in\n{outside}");
    }
    let ends = |markup: &str| outside.matches(markup).count();
    assert_eq!(ends("\n<details"), ends("\n</details>"), "{outside}");
    assert_eq!(text.matches("mermaid").count(), 1);
    assert!(
        !text
            .split("mermaid")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .expect("a chart")
            .contains("evil")
    );
}

#[test]
fn a_step_that_ended_well_says_more_itself() {
    let end = |error| {
        let (outputs, course) = (Outputs::new(), Course::default());
        let links = Links::default();
        let end = StepEnd {
            step: "version",
            service: None,
            wanted: None,
            environment: None,
            outputs: &outputs,
            course: &course,
            error,
            links: &links,
        };
        end.render().map(|text| text.as_str().lines().next().unwrap_or_default().to_string())
    };
    assert_eq!(end(None), None);
    let error = Error::input("no");
    assert_eq!(end(Some(&error)).as_deref(), Some("### ⛔ version found something to correct"));
}

/// A first deploy that failed has nothing to go back to: a command that is refused helps nobody.
#[test]
fn without_a_good_version_no_rollback_is_advised() {
    let broken = Error::new(Kind::Broken, "it does not run");
    let first = Course { good: None, ..course("") };
    let text = render(Some(&broken), "", &first);
    assert!(text.contains("1. See what runs: `cicd status --environment production`."), "{text}");
    assert!(!text.contains("rollback"), "{text}");
    assert!(render(Some(&broken), "", &course("")).contains("rollback"));
}

#[test]
fn what_is_to_be_typed_is_code() {
    for (fix, shown) in [
        ("create it: kubectl get pods", "Create it: `kubectl get pods`"),
        ("make it: aws s3 mb s3://b", "Make it: `aws s3 mb s3://b`"),
        ("look: the cluster is gone", "Look: the cluster is gone"),
        ("see: `cicd status`", "See: `cicd status`"),
    ] {
        assert_eq!(split_fix(fix)[0].as_str(), shown);
    }
}
