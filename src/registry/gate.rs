//! The scan gate: waits for the scan of a pushed image, and judges its findings before a tag is
//! set.

use std::time::Duration;

use jiff::civil::Date;

use super::ecr::Ecr;
use super::origin::{Origins, Recipe};
use super::scan::{self, Progress, ScanResult};
use crate::config::service::{OnUnsupported, Scan as Rules};
use crate::error::{Cause, Code, Error, Kind, Result};
use crate::layout::{Digest, Layout};
use crate::report::Report;

/// The pause between two polls. A scan takes half a minute and more.
const POLL: Duration = Duration::from_secs(2);

/// Checks the findings of every image in the layout: an index has none of its own.
///
/// # Errors
/// Gate, for findings and for a scan that returns none; timed out, if the scan does not end;
/// refused, if we may not look.
pub async fn check_findings(
    ecr: &Ecr,
    layout: &Layout,
    rules: &Rules,
    recipe: Option<&Recipe>,
    report: &Report,
) -> Result<()> {
    let mut last = "no scan has been started";
    let found = tokio::time::timeout(rules.timeout.0, async {
        let mut findings = Vec::new();
        for image in layout.manifests() {
            let found =
                wait_for_findings(ecr, &image.descriptor.digest, rules, report, &mut last).await?;
            let layers: Vec<String> =
                image.layers.iter().map(|layer| layer.digest.to_string()).collect();
            let origins = Origins::of(&layers, &layout.read(&image.config)?, recipe);
            findings.extend(found.into_iter().map(|finding| scan::name_origin(finding, &origins)));
        }
        Ok(findings)
    })
    .await;
    let findings = found.unwrap_or_else(|_| Err(explain_timeout(ecr, rules, last)))?;
    let judged = scan::judge_findings(findings, rules, read_today());
    report.summarise(scan::render_table(&judged));
    report.detail(format!("scan: {}", scan::count_findings(&judged)));
    let stopping: Vec<_> = judged.iter().filter(|(_, answer)| answer.stops()).collect();
    if stopping.is_empty() {
        return Ok(());
    }
    let causes = stopping.iter().map(|(finding, answer)| Cause {
        object: scan::name_object(finding),
        reason: scan::format_line(finding, answer),
        fix: scan::suggest_fix(finding),
        ..Cause::default()
    });
    let causes: Vec<Cause> = causes.collect();
    let (finding, _) = stopping[0];
    Err(Error::new(
        Kind::Gate,
        format!(
            "cannot tag the image: its scan found what must not be deployed: {}",
            format_count(stopping.len(), rules)
        ),
    )
    .code(Code::ScanFindings)
    .why("the image is in the registry by its digest, and this push sets no tag")
    .fix("update the packages, or the base image that has them")
    .fix(format!(
        "allow a finding that does no harm here, in service.yaml:\n\
         scan:\n  allow:\n    - {{id: {}, reason: why it does no harm here, until: {}}}",
        finding.id,
        read_today().saturating_add(jiff::Span::new().days(30))
    ))
    .causes(causes))
}

fn format_count(stopping: usize, rules: &Rules) -> String {
    let plural = if stopping == 1 { "" } else { "s" };
    format!("{stopping} finding{plural}, {} or worse", rules.fail_on)
}

async fn wait_for_findings(
    ecr: &Ecr,
    image: &Digest,
    rules: &Rules,
    report: &Report,
    last: &mut &'static str,
) -> Result<Vec<scan::Finding>> {
    let mut before: Option<ScanResult> = None;
    loop {
        let scan = ecr.scan(image).await?;
        let words = |why: &str| match scan.description.is_empty() {
            true => why.to_string(),
            false => format!("{why}: {}", scan.description),
        };
        let status = scan.status.as_deref().unwrap_or_default();
        match scan::judge_progress(&scan, before.as_ref()) {
            Progress::Done => return Ok(scan.findings),
            Progress::Unsupported if rules.unsupported == OnUnsupported::Warn => {
                report.warn(words(&format!(
                    "ECR does not scan {image}, and its tags are set without findings"
                )));
                return Ok(Vec::new());
            }
            Progress::Unsupported => {
                return Err(Error::new(
                    Kind::Gate,
                    format!("cannot read findings of {image}: ECR does not scan it"),
                )
                .why(words(status))
                .fix(
                    "build on a base image that ECR knows, or let such images pass: `scan: \
                         {unsupported: warn}` in service.yaml",
                ));
            }
            Progress::Failed => {
                return Err(Error::new(
                    Kind::Gate,
                    format!("cannot read findings of {image}: its scan failed"),
                )
                .why(words(status))
                .fix(format!(
                    "start it again, and run this again: {}",
                    ecr.start_scan_command(image)
                )));
            }
            Progress::Waiting(what) => {
                if *last != what || before.is_none() {
                    report.detail(format!("{what}: {image}"));
                }
                *last = what;
            }
        }
        before = Some(scan);
        tokio::time::sleep(POLL).await;
    }
}

fn explain_timeout(ecr: &Ecr, rules: &Rules, last: &str) -> Error {
    let seconds = rules.timeout.0.as_secs();
    Error::new(Kind::TimedOut, format!("cannot read the findings of the scan within {seconds} s"))
        .why(format!(
            "{last}; the image is in the registry by its digest, and this push sets no tag"
        ))
        .fix("run it again, or give it more time: `scan: {timeout: 15m}` in service.yaml")
        .fix(format!(
            "if no scan starts, let the repository scan on push: {}",
            ecr.scan_on_push_command()
        ))
}

/// Returns the day in UTC, at whose end allowances end.
#[expect(
    clippy::disallowed_methods,
    reason = "the one clock of the gate; the judgement takes the day as a fact"
)]
fn read_today() -> Date {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
}
