//! What ECR's scan found in an image.

use aws_sdk_ecr::error::ProvideErrorMetadata;
use aws_sdk_ecr::types::{
    EnhancedImageScanFinding, ImageIdentifier, ImageScanFinding, VulnerablePackage,
};

use super::{Ecr, MOST_PAGES, is_denied};
use crate::config::service::Severity;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::registry::scan::{Finding, ScanResult};

/// ECR's words for an image that no scan has seen.
const NEVER_SCANNED: [&str; 3] =
    ["ScanNotFoundException", "ImageNotFoundException", "RepositoryNotFoundException"];

/// The statement that enhanced scanning needs besides ECR's own action.
const INSPECTOR: [&str; 2] = ["inspector2:ListCoverage", "inspector2:ListFindings"];

impl Ecr {
    /// Reads all pages of an image's scan. An image that does not exist was never scanned.
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_DescribeImageScanFindings.html>
    ///
    /// # Errors
    /// Refused, with the IAM statements, if we may not look.
    pub async fn scan(&self, digest: &Digest) -> Result<ScanResult> {
        let image = ImageIdentifier::builder().image_digest(digest.as_str()).build();
        let request = self
            .client
            .describe_image_scan_findings()
            .registry_id(&self.account)
            .repository_name(&self.name)
            .image_id(image);
        let mut pages = request.into_paginator().page_size(1000).send();
        let (mut scan, mut has_more) = (ScanResult::default(), true);
        for _ in 0..MOST_PAGES {
            let page = match pages.next().await {
                None => break,
                Some(Ok(page)) => page,
                Some(Err(error))
                    if error.code().is_some_and(|code| NEVER_SCANNED.contains(&code)) =>
                {
                    return Ok(ScanResult::default());
                }
                Some(Err(error)) => {
                    let attempt = format!("read the scan findings of {digest}");
                    let refused = self.explain(attempt, "ecr:DescribeImageScanFindings", &error);
                    return Err(match is_denied(error.code()) {
                        true => refused.fix(format!(
                            "where scanning is enhanced, add to the role's policy: {}",
                            crate::aws::allow_statement(&INSPECTOR, "*")
                        )),
                        false => refused,
                    });
                }
            };
            if let Some(status) = page.image_scan_status() {
                scan.status = status.status().map(|status| status.as_str().to_string());
                scan.description = status.description().unwrap_or_default().to_string();
            }
            if let Some(found) = page.image_scan_findings() {
                let counts =
                    found.finding_severity_counts().into_iter().flat_map(|counts| counts.values());
                scan.counted = counts.map(|count| usize::try_from(*count).unwrap_or(0)).sum();
                scan.completed = found.image_scan_completed_at().is_some();
                scan.listed += found.findings().len() + found.enhanced_findings().len();
                scan.findings.extend(found.findings().iter().map(read_basic));
                scan.findings.extend(found.enhanced_findings().iter().flat_map(read_enhanced));
            }
            has_more = page.next_token().is_some_and(|token| !token.is_empty());
        }
        match has_more {
            false => Ok(scan),
            true => Err(Error::unexpected(format!("cannot read the scan findings of {digest}"))
                .why(format!("ECR has more than {MOST_PAGES} pages of them, or repeats one"))),
        }
    }
}

/// Reads a finding of a basic scan: the package stands in attributes, and no field names the
/// version that fixes it.
/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageScanFinding.html>
fn read_basic(finding: &ImageScanFinding) -> Finding {
    let attribute = |name: &str| {
        let found = finding.attributes().iter().find(|attribute| attribute.key() == name);
        found.and_then(|attribute| attribute.value()).map(str::to_string)
    };
    Finding {
        severity: Severity::of_scan(finding.severity().map_or("", |severity| severity.as_str())),
        id: finding.name().unwrap_or("without a name").to_string(),
        package: attribute("package_name").unwrap_or_default(),
        installed: attribute("package_version").unwrap_or_default(),
        fixed: None,
        layer: None,
    }
}

/// Reads a finding of Inspector, once for each of its packages. A closed or suppressed one is left
/// out.
/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_EnhancedImageScanFinding.html>
fn read_enhanced(finding: &EnhancedImageScanFinding) -> Vec<Finding> {
    if matches!(finding.status(), Some("CLOSED" | "SUPPRESSED")) {
        return Vec::new();
    }
    let details = finding.package_vulnerability_details();
    let id = details
        .and_then(|details| details.vulnerability_id())
        .or(finding.title())
        .unwrap_or("without a name");
    let one = |package: Option<&VulnerablePackage>| Finding {
        severity: Severity::of_scan(finding.severity().unwrap_or_default()),
        id: id.to_string(),
        package: package.and_then(VulnerablePackage::name).unwrap_or_default().to_string(),
        installed: package.and_then(VulnerablePackage::version).unwrap_or_default().to_string(),
        // Inspector writes this word where no version fixes it.
        fixed: package
            .and_then(|package| package.fixed_in_version())
            .filter(|v| *v != "NotAvailable")
            .map(str::to_string),
        layer: package.and_then(VulnerablePackage::source_layer_hash).map(str::to_string),
    };
    match details.map(|details| details.vulnerable_packages()).unwrap_or_default() {
        [] => vec![one(None)],
        packages => packages.iter().map(|package| one(Some(package))).collect(),
    }
}
