//! Waits for the scan of what was pushed, and says yes or no before a tag is set.

use std::time::Duration;

use jiff::civil::Date;

use super::ecr::Ecr;
use super::origin::{Origins, Recipe};
use super::scan::{self, Progress, Scan};
use crate::config::service::{OnUnsupported, Scan as Rules};
use crate::error::{Cause, Error, Kind, Result};
use crate::layout::Layout;
use crate::report::Report;

/// Between two looks. A scan takes half a minute and more.
const PAUSE: Duration = Duration::from_secs(2);

/// Looks at the findings of every image in the layout: an index has none of its own.
///
/// # Errors
/// A gate's no, for findings and for a scan that gives none; timed out, when it does not end;
/// refused, when we may not look.
pub async fn pass(
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
                findings_of(ecr, image.descriptor.digest.as_str(), rules, report, &mut last)
                    .await?;
            let layers: Vec<String> =
                image.layers.iter().map(|layer| layer.digest.to_string()).collect();
            let origins = Origins::of(&layers, &layout.read(&image.config)?, recipe);
            findings.extend(found.into_iter().map(|finding| scan::told(finding, &origins)));
        }
        Ok(findings)
    })
    .await;
    let findings = found.unwrap_or_else(|_| Err(too_late(ecr, rules, last)))?;
    let judged = scan::judge(findings, rules, today());
    report.summarise(scan::table(&judged));
    report.detail(format!("scan: {}", scan::in_words(&judged)));
    let stopping: Vec<_> = judged.iter().filter(|(_, answer)| answer.stops()).collect();
    if stopping.is_empty() {
        return Ok(());
    }
    let causes = stopping.iter().map(|(finding, answer)| Cause {
        object: scan::object(finding),
        reason: scan::line(finding, answer),
        fix: scan::fix(finding),
        ..Cause::default()
    });
    let causes: Vec<Cause> = causes.collect();
    let (finding, _) = stopping[0];
    Err(Error::new(Kind::Gate, format!("the scan found what must not be deployed: {}", count(stopping.len(), rules)))
        .why("the image is in the registry by its digest, and this push sets no tag")
        .fix(format!(
            "update the packages, or the base image that has them; where one does no harm here, say so in service.yaml:\n\
             scan:\n  allow:\n    - {{id: {}, reason: why it does no harm here, until: {}}}",
            finding.id,
            today().saturating_add(jiff::Span::new().days(30))
        ))
        .causes(causes))
}

fn count(stopping: usize, rules: &Rules) -> String {
    let plural = if stopping == 1 { "" } else { "s" };
    format!("{stopping} finding{plural}, {} or worse", rules.fail_on)
}

async fn findings_of(
    ecr: &Ecr,
    image: &str,
    rules: &Rules,
    report: &Report,
    last: &mut &'static str,
) -> Result<Vec<scan::Finding>> {
    let mut before: Option<Scan> = None;
    loop {
        let scan = ecr.scan(image).await?;
        let words = |why: &str| match scan.description.is_empty() {
            true => why.to_string(),
            false => format!("{why}: {}", scan.description),
        };
        let status = scan.status.as_deref().unwrap_or_default();
        match scan::progress(&scan, before.as_ref()) {
            Progress::Done => return Ok(scan.findings),
            Progress::Unsupported if rules.unsupported == OnUnsupported::Warn => {
                report.warn(words(&format!(
                    "ECR does not scan {image}, and its tags are set all the same"
                )));
                return Ok(Vec::new());
            }
            Progress::Unsupported => {
                return Err(Error::new(Kind::Gate, format!("ECR does not scan {image}")).why(words(status)).fix(
                    "build on a base image that ECR knows, or let such images pass: `scan: {unsupported: warn}` in service.yaml",
                ));
            }
            Progress::Failed => {
                return Err(Error::new(
                    Kind::Gate,
                    format!("the scan of {image} gives no findings"),
                )
                .why(words(status))
                .fix(format!("start it again, and run this again: {}", ecr.start_scan(image))));
            }
            Progress::Waiting(what) => {
                if *last != what || before.is_none() {
                    report.detail(format!("{what}: {image}"));
                }
                *last = what;
            }
        }
        before = Some(scan);
        tokio::time::sleep(PAUSE).await;
    }
}

fn too_late(ecr: &Ecr, rules: &Rules, last: &str) -> Error {
    Error::new(Kind::TimedOut, format!("no findings of the scan after {} s", rules.timeout.0.as_secs()))
        .why(format!("{last}; the image is in the registry by its digest, and this push sets no tag"))
        .fix(format!(
            "run it again, or give it more time: `scan: {{timeout: 15m}}` in service.yaml. Where no scan starts, the repository does \
             not scan on push: {}",
            ecr.scan_on_push()
        ))
}

/// Allowances end at midnight UTC.
#[expect(
    clippy::disallowed_methods,
    reason = "the one clock of the gate; the judgement takes the day as a fact"
)]
fn today() -> Date {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
}
