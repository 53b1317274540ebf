//! What the check found, in words: for people, for the job summary, and as the error that stops an
//! image. Pure.

use super::rules::{Finding, Verdict};
use crate::config::contract::{Level, Rule};
use crate::error::{Cause, Code, Error, Kind};
use crate::report::Markdown;

/// What a finding is about: `production and debug`, or the image itself.
fn name_object(finding: &Finding) -> String {
    if finding.modes.is_empty() { "image".to_string() } else { finding.modes.join(" and ") }
}

/// A finding on one line, with its fix.
pub fn write_line(finding: &Finding) -> String {
    let Finding { rule, evidence, fix, .. } = finding;
    format!("contract rule `{rule}` ({}): {evidence}; fix: {fix}", name_object(finding))
}

/// One line for the whole check.
pub fn write_words(verdict: &Verdict) -> String {
    let kept = format!("{} of {} rules kept", verdict.kept.len(), Rule::ALL.len());
    let warned = verdict.findings.iter().filter(|finding| finding.level == Level::Warn).count();
    let parts = [
        (warned, "to look at"),
        (verdict.unjudged.len(), "not judged"),
        (verdict.off.len(), "off"),
    ];
    parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .fold(kept, |text, (count, what)| format!("{text}, {count} {what}"))
}

/// The error that stops the image; none when nothing at level fail was found.
pub fn write_refusal(verdict: &Verdict) -> Option<Error> {
    let failed: Vec<&Finding> =
        verdict.findings.iter().filter(|finding| finding.level == Level::Fail).collect();
    let mut rules: Vec<&str> = failed.iter().map(|finding| finding.rule.name()).collect();
    rules.dedup();
    let first = rules.first()?;
    let causes = failed.iter().map(|finding| Cause {
        code: Some(Code::ContractBroken),
        object: name_object(finding),
        reason: format!("{}: {}", finding.rule, finding.evidence),
        exit_code: finding.exit_code,
        log_tail: finding.log_tail.clone(),
        fix: Some(finding.fix.clone()),
    });
    let error = Error::new(
        Kind::Gate,
        format!("cannot take the image: it breaks its contract: {}", rules.join(", ")),
    )
    .fix(format!(
        "docs/contract.md tells each rule; one that is not for this service: \
                      `contract: {{rules: {{{first}: warn}}}}`"
    ))
    .causes(causes.collect());
    Some(error)
}

/// The check in the job summary.
pub fn write_summary(verdict: &Verdict) -> Markdown {
    let mut text = Markdown::default().own("**Contract** ").text(&write_words(verdict)).own("\n");
    if !verdict.findings.is_empty() {
        text = text.own("\n| rule | level | where | found | fix |\n|---|---|---|---|---|\n");
        for finding in &verdict.findings {
            let level = if finding.level == Level::Fail { "fail" } else { "warn" };
            text = text.own("| ").code(&finding.rule.to_string()).own(" | ").own(level);
            for cell in [&name_object(finding), &finding.evidence, &finding.fix] {
                text = text.own(" | ").text(cell);
            }
            text = text.own(" |\n");
        }
    }
    let list = |title: &'static str, rules: &[Rule]| {
        let mut text = Markdown::default().own(title);
        for (number, rule) in rules.iter().enumerate() {
            text = text.own(if number == 0 { "" } else { ", " }).code(&rule.to_string());
        }
        text.own(".\n")
    };
    if !verdict.kept.is_empty() {
        text = text.markdown(&list("\nKept: ", &verdict.kept));
    }
    for (rule, why) in &verdict.unjudged {
        text = text.own("\nNot judged: ").code(&rule.to_string()).own(", ").text(why).own(".\n");
    }
    if !verdict.off.is_empty() {
        text = text.markdown(&list("\nOff: ", &verdict.off));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make_finding(rule: Rule, level: Level) -> Finding {
        Finding {
            rule,
            level,
            modes: vec!["production", "debug"],
            evidence: "it writes /a|b\n<c>".into(),
            fix: "do `x`".into(),
            exit_code: None,
            log_tail: vec![],
        }
    }

    #[test]
    fn only_what_fails_stops() {
        let mut verdict = Verdict {
            findings: vec![make_finding(Rule::ReadOnly, Level::Warn)],
            ..Verdict::default()
        };
        assert!(write_refusal(&verdict).is_none());
        assert_eq!(
            write_words(&verdict),
            format!("0 of {} rules kept, 1 to look at", Rule::ALL.len())
        );
        verdict.findings.push(make_finding(Rule::Stops, Level::Fail));
        let error = write_refusal(&verdict).expect("a refusal");
        assert_eq!((error.kind.exit_code(), error.causes.len()), (8, 1));
        assert_eq!(error.message, "cannot take the image: it breaks its contract: stops");
        assert_eq!(error.causes[0].object, "production and debug");
        assert!(error.causes[0].reason.starts_with("stops: "));
        assert!(error.advice().contains("stops: warn"));
    }

    #[test]
    fn a_summary_is_a_table_that_no_image_can_break() {
        let verdict = Verdict {
            findings: vec![make_finding(Rule::ReadOnly, Level::Warn)],
            kept: vec![Rule::Stops],
            unjudged: vec![(Rule::Mode, "no `cat`".into())],
            off: vec![Rule::Size],
        };
        let summary = write_summary(&verdict);
        let text = summary.as_str();
        assert!(
            text.contains(
                "| `read-only` | warn | production and debug | it writes /a\\|b &lt;c> | \
                           do \\`x\\` |\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("Kept: `stops`.")
                && text.contains("Not judged: `mode`, no \\`cat\\`.")
                && text.contains("Off: `size`.")
        );
    }
}
