//! An image scan of ECR: whether it is complete, which findings stop the image, and how they are
//! shown. Pure.
//!
//! <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImageScanFindings.html>

use jiff::civil::Date;

use super::origin::Origins;
use crate::config::service::{Scan as Rules, Severity};
use crate::report::Markdown;

/// More findings than this are counted, but not shown.
const SHOWN: usize = 100;

/// The scan of one image, as ECR reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanResult {
    /// ECR's word for the state; `None` if no scan was ever started.
    pub status: Option<String>,
    /// The reason for the state, in ECR's words.
    pub description: String,
    /// Whether ECR reports a time of completion.
    pub completed: bool,
    /// The number of findings that ECR counts. It may list them later.
    pub counted: usize,
    /// The number of findings that ECR lists: one may be about several packages.
    pub listed: usize,
    pub findings: Vec<Finding>,
}

/// One vulnerability in one package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub severity: Severity,
    pub id: String,
    pub package: String,
    pub installed: String,
    /// The version that fixes it; `None` if there is none yet, or the scan does not say.
    pub fixed: Option<String>,
    /// The layer that has it: a hash in the scan's words, and its origin after [`name_origin`].
    pub layer: Option<String>,
}

/// Names the origin of a finding's layer. An unknown layer keeps its hash.
pub fn name_origin(finding: Finding, origins: &Origins) -> Finding {
    let layer = finding.layer.map(|hash| origins.find(&hash).map_or(hash.clone(), str::to_string));
    Finding { layer, ..finding }
}

/// Suggests a fix for a finding; `None` if nothing is known.
pub fn suggest_fix(finding: &Finding) -> Option<String> {
    let update =
        finding.fixed.as_ref().map(|fixed| format!("update {} to {fixed}", finding.package));
    let base = finding
        .layer
        .as_ref()
        .and_then(|layer| layer.strip_prefix("base image ")?.split(" (").next());
    let fix = match (base, update) {
        (Some(base), Some(update)) => {
            format!("take a newer {base}, or {update} in a RUN of your own")
        }
        (Some(base), None) => format!("see whether a newer {base} is without it"),
        (None, update) => update?,
    };
    Some(tame_text(&fix))
}

/// The progress of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The scan is not complete: what is waited for.
    Waiting(&'static str),
    Done,
    /// ECR does not scan such an image.
    Unsupported,
    /// The scan will return no findings.
    Failed,
}

/// Judges whether all findings are listed. A basic scan that reports a time of completion and lists
/// something is complete.
///
/// Any other list is believed if the poll `before` returned the same: ECR reports that a scan is
/// complete before it lists its findings, and an enhanced scan stays ACTIVE while it finds more.
pub fn judge_progress(scan: &ScanResult, before: Option<&ScanResult>) -> Progress {
    let Some(status) = scan.status.as_deref() else {
        return Progress::Waiting("no scan has been started");
    };
    match status {
        "PENDING" => Progress::Waiting("the scan waits for its turn"),
        "IN_PROGRESS" => Progress::Waiting("the scan is under way"),
        // Basic scans end as COMPLETE, enhanced ones stay ACTIVE.
        "COMPLETE" | "ACTIVE" if scan.listed < scan.counted => {
            Progress::Waiting("not all findings are listed yet")
        }
        "COMPLETE" if scan.listed > 0 && scan.completed => Progress::Done,
        "COMPLETE" | "ACTIVE" if scan.listed == 0 && !scan.completed => {
            Progress::Waiting("the scan says nothing of its findings yet")
        }
        "COMPLETE" | "ACTIVE" if before != Some(scan) => {
            Progress::Waiting("there may be more findings")
        }
        "COMPLETE" | "ACTIVE" => Progress::Done,
        "UNSUPPORTED_IMAGE" => Progress::Unsupported,
        _ => Progress::Failed,
    }
}

/// The judgement on a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Stops,
    /// service.yaml allowed the finding until a day that is over.
    Expired(Date),
    /// service.yaml allows the finding.
    Allowed {
        until: Date,
        reason: String,
    },
    /// The finding is less severe than what stops.
    Passes,
}

impl Answer {
    pub fn stops(&self) -> bool {
        matches!(self, Answer::Stops | Answer::Expired(_))
    }
}

/// Judges findings on a day. The worst comes first, and each comes once.
pub fn judge_findings(
    mut findings: Vec<Finding>,
    rules: &Rules,
    today: Date,
) -> Vec<(Finding, Answer)> {
    findings.sort_by(|one, other| other.severity.cmp(&one.severity).then_with(|| one.cmp(other)));
    findings.dedup();
    findings
        .into_iter()
        .map(|finding| {
            let longest = rules.allow.iter().filter(|allowed| allowed.id.as_str() == finding.id);
            let answer = match longest.max_by_key(|allowed| allowed.until.0) {
                _ if finding.severity < rules.fail_on => Answer::Passes,
                Some(allowed) if allowed.until.0 >= today => {
                    Answer::Allowed { until: allowed.until.0, reason: allowed.reason.to_string() }
                }
                Some(allowed) => Answer::Expired(allowed.until.0),
                None => Answer::Stops,
            };
            (finding, answer)
        })
        .collect()
}

/// `3 findings: 1 critical, 2 low`
pub fn count_findings(judged: &[(Finding, Answer)]) -> String {
    let severities = [
        Severity::Critical,
        Severity::High,
        Severity::Medium,
        Severity::Low,
        Severity::Informational,
        Severity::Undefined,
    ];
    let counts = severities.map(|severity| {
        (judged.iter().filter(|(one, _)| one.severity == severity).count(), severity)
    });
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, severity)| format!("{count} {severity}"))
        .collect();
    match judged.len() {
        0 => "no findings".into(),
        1 => format!("1 finding: {}", counts.join(", ")),
        many => format!("{many} findings: {}", counts.join(", ")),
    }
}

/// Names what a finding is about, as the object of a cause.
pub fn name_object(finding: &Finding) -> String {
    tame_text(&format!("Package/{}", finding.package))
}

/// Formats a finding that stops: `CVE-2026-1 (high) in openssl 3.0.1, fixed in 3.0.2; from base
/// image debian:12 (layer 1 of 3)`.
pub fn format_line(finding: &Finding, answer: &Answer) -> String {
    let Finding { severity, id, package, installed, fixed, layer } = finding;
    let layer = layer.as_ref().map(|layer| format!("; from {layer}")).unwrap_or_default();
    let fixed = fixed
        .as_ref()
        .map_or("no fixed version known".to_string(), |fixed| format!("fixed in {fixed}"));
    let allowed = match answer {
        Answer::Expired(until) => format!(" (it was allowed until {until})"),
        _ => String::new(),
    };
    tame_text(&format!("{id} ({severity}) in {package} {installed}, {fixed}{layer}{allowed}"))
}

/// Renders the findings as a table. No name of a package can end a cell.
pub fn render_table(judged: &[(Finding, Answer)]) -> Markdown {
    let mut table = Markdown::default().own("**Scan** ").text(&count_findings(judged)).own("\n");
    if judged.is_empty() {
        return table;
    }
    table = table.own("\n| severity | finding | package | installed | fixed in | from | |");
    table = table.own("\n|---|---|---|---|---|---|---|\n");
    for (finding, answer) in judged.iter().take(SHOWN) {
        let answer = match answer {
            Answer::Stops => "stops".to_string(),
            Answer::Expired(until) => format!("stops: it was allowed until {until}"),
            Answer::Allowed { until, reason } => format!("allowed until {until}: {reason}"),
            Answer::Passes => String::new(),
        };
        let (fixed, layer) =
            (finding.fixed.as_deref().unwrap_or("–"), finding.layer.as_deref().unwrap_or("–"));
        table = table.own("| ").text(&finding.severity.to_string());
        for cell in [&finding.id, &finding.package, &finding.installed, fixed, layer, &answer] {
            table = table.own(" | ").text(&tame_text(cell));
        }
        table = table.own(" |\n");
    }
    match judged.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        Some(more) => table.own("\n").text(&more.to_string()).own(" more are not shown.\n"),
        None => table,
    }
}

/// Cuts a text to one line of bounded length.
fn tame_text(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(300)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Rules {
        serde_saphyr::from_str(text).expect("rules")
    }

    fn finding(severity: Severity, id: &str) -> Finding {
        Finding {
            severity,
            id: id.into(),
            package: "openssl".into(),
            installed: "3.0.1".into(),
            fixed: None,
            layer: None,
        }
    }

    fn scan(status: &str, completed: bool, counted: usize, listed: usize) -> ScanResult {
        ScanResult {
            status: Some(status.into()),
            completed,
            counted,
            listed,
            ..ScanResult::default()
        }
    }

    #[test]
    fn only_a_real_end_is_one() {
        let empty = |status| scan(status, true, 0, 0);
        let before = empty("COMPLETE");
        let waits = Progress::Waiting("");
        let cases = [
            ("never started", ScanResult::default(), None, waits.clone()),
            (
                "never started, twice",
                ScanResult::default(),
                Some(ScanResult::default()),
                waits.clone(),
            ),
            ("pending", empty("PENDING"), Some(empty("PENDING")), waits.clone()),
            ("in progress", empty("IN_PROGRESS"), Some(empty("IN_PROGRESS")), waits.clone()),
            ("complete before its findings", scan("COMPLETE", false, 0, 0), None, waits.clone()),
            (
                "complete without a word, again",
                scan("COMPLETE", false, 0, 0),
                Some(scan("COMPLETE", false, 0, 0)),
                waits.clone(),
            ),
            ("complete, and fewer than counted", scan("COMPLETE", true, 3, 2), None, waits.clone()),
            ("complete and empty, once", before.clone(), None, waits.clone()),
            (
                "complete and empty, after pending",
                before.clone(),
                Some(empty("PENDING")),
                waits.clone(),
            ),
            ("complete and empty, twice", before.clone(), Some(before), Progress::Done),
            ("complete", scan("COMPLETE", true, 3, 3), None, Progress::Done),
            ("active and empty, once", empty("ACTIVE"), None, waits.clone()),
            ("active and empty, twice", empty("ACTIVE"), Some(empty("ACTIVE")), Progress::Done),
            ("active, counted and not listed", scan("ACTIVE", true, 1, 0), None, waits.clone()),
            ("active, once", scan("ACTIVE", false, 2, 2), None, waits.clone()),
            (
                "active, and one more",
                scan("ACTIVE", false, 2, 2),
                Some(scan("ACTIVE", false, 1, 1)),
                waits,
            ),
            (
                "active, twice",
                scan("ACTIVE", false, 2, 2),
                Some(scan("ACTIVE", false, 2, 2)),
                Progress::Done,
            ),
            ("unsupported", empty("UNSUPPORTED_IMAGE"), None, Progress::Unsupported),
            ("failed", empty("FAILED"), None, Progress::Failed),
            ("over a limit", empty("LIMIT_EXCEEDED"), None, Progress::Failed),
            ("too old", empty("SCAN_ELIGIBILITY_EXPIRED"), None, Progress::Failed),
            ("no findings to be had", empty("FINDINGS_UNAVAILABLE"), None, Progress::Failed),
            ("archived", empty("IMAGE_ARCHIVED"), None, Progress::Failed),
            ("a word of next year", empty("SCANNED"), None, Progress::Failed),
        ];
        for (case, scan, before, expected) in cases {
            let found = match judge_progress(&scan, before.as_ref()) {
                Progress::Waiting(_) => Progress::Waiting(""),
                found => found,
            };
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn a_finding_stops_from_its_severity_on_unless_it_is_allowed_today() {
        let allow =
            |id: &str, until: &str| format!("{{id: {id}, reason: not reachable, until: {until}}}");
        let high = |allow: &str| format!("{{fail-on: high, allow: [{allow}]}}");
        let cases = [
            ("high by default", "{}".to_string(), Severity::High, true),
            ("above", "{fail-on: high}".into(), Severity::Critical, true),
            ("below", "{fail-on: high}".into(), Severity::Medium, false),
            ("low", "{fail-on: low}".into(), Severity::Low, true),
            ("not rated yet", "{fail-on: low}".into(), Severity::Undefined, false),
            ("all", "{fail-on: undefined}".into(), Severity::Undefined, true),
            ("allowed", high(&allow("CVE-2026-1", "2027-01-31")), Severity::Critical, false),
            (
                "allowed on its last day",
                high(&allow("CVE-2026-1", "2026-12-01")),
                Severity::High,
                false,
            ),
            (
                "allowed until yesterday",
                high(&allow("CVE-2026-1", "2026-11-30")),
                Severity::High,
                true,
            ),
            ("another is allowed", high(&allow("CVE-2026-11", "2027-01-31")), Severity::High, true),
            (
                "allowed anew",
                high(
                    &[allow("CVE-2026-1", "2027-01-31"), allow("CVE-2026-1", "2026-01-31")]
                        .join(", "),
                ),
                Severity::High,
                false,
            ),
        ];
        for (case, text, severity, stops) in cases {
            let today = jiff::civil::date(2026, 12, 1);
            let judged =
                judge_findings(vec![finding(severity, "CVE-2026-1")], &rules(&text), today);
            assert_eq!(judged[0].1.stops(), stops, "{case}: {judged:?}");
        }
    }

    #[test]
    fn a_finding_of_the_base_image_is_fixed_there() {
        let at = |layer: Option<&str>, fixed: Option<&str>| {
            let layer = layer.map(str::to_string);
            suggest_fix(&Finding {
                layer,
                fixed: fixed.map(str::to_string),
                ..finding(Severity::High, "CVE-2026-1")
            })
        };
        let base = Some("base image python:3.13-slim (layer 1 of 3)");
        for (layer, fixed, expected) in [
            (None, None, None),
            (None, Some("3.0.2"), Some("update openssl to 3.0.2")),
            (
                Some("Dockerfile:3: RUN a (layer 2 of 3)"),
                Some("3.0.2"),
                Some("update openssl to 3.0.2"),
            ),
            (
                base,
                Some("3.0.2"),
                Some(
                    "take a newer python:3.13-slim, or update openssl to 3.0.2 in a RUN of your own",
                ),
            ),
            (base, None, Some("see whether a newer python:3.13-slim is without it")),
        ] {
            assert_eq!(at(layer, fixed).as_deref(), expected, "{layer:?} {fixed:?}");
        }
    }

    #[test]
    fn findings_are_shown_the_worst_first_and_end_no_cell() {
        let mut evil = finding(Severity::Critical, "CVE-2026-9");
        evil.package = "a|b\n## <img>`x`".into();
        evil.fixed = Some("3.0.2".into());
        evil.layer = Some("Dockerfile:3: RUN a | b (layer 2 of 2)".into());
        let low = finding(Severity::Low, "CVE-2026-1");
        let today = jiff::civil::date(2026, 12, 1);
        let judged = judge_findings(vec![low.clone(), evil, low], &rules("{}"), today);
        assert_eq!(count_findings(&judged), "2 findings: 1 critical, 1 low");
        assert_eq!(name_object(&judged[0].0), "Package/a|b ## <img>`x`", "on one line");
        assert_eq!(
            format_line(&judged[1].0, &Answer::Stops),
            "CVE-2026-1 (low) in openssl 3.0.1, no fixed version known"
        );
        assert!(
            format_line(&judged[0].0, &Answer::Stops)
                .ends_with("fixed in 3.0.2; from Dockerfile:3: RUN a | b (layer 2 of 2)")
        );
        let table = render_table(&judged);
        let rows: Vec<&str> = table.as_str().lines().filter(|line| line.contains("CVE-")).collect();
        assert_eq!(
            rows,
            [
                r"| critical | CVE-2026-9 | a\|b \#\# &lt;img>\`x\` | 3.0.1 | 3.0.2 | Dockerfile:3: RUN a \| b \(layer 2 of 2\) | stops |",
                "| low | CVE-2026-1 | openssl | 3.0.1 | – | – |  |"
            ]
        );
        let many = judge_findings(
            (0..150).map(|id| finding(Severity::High, &format!("CVE-{id}"))).collect(),
            &rules("{}"),
            today,
        );
        assert!(render_table(&many).as_str().ends_with("\n50 more are not shown.\n"));
        assert_eq!(render_table(&[]).as_str(), "**Scan** no findings\n");
    }
}
