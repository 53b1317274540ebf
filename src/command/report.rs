//! `report`: the fleet page, from the records of all services.

use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::json;

use super::Context;
use crate::cli::ReportArgs;
use crate::error::{Error, Result};
use crate::fleet;
use crate::ledger::store::Store;
use crate::ledger::store::folder::Folder;
use crate::ledger::store::s3::Bucket;
use crate::report::Format;

pub async fn write_report(context: &Context, arguments: &ReportArgs) -> Result<()> {
    let step = context.report.step("report");
    let (store, environments) = open_records(context, arguments).await?;
    let named = !arguments.environments.is_empty();
    #[expect(clippy::disallowed_methods, reason = "ages on the page are counted from now")]
    let now = Timestamp::now();
    let request = fleet::Request {
        store,
        to: arguments.to.clone(),
        index: arguments.index.clone().unwrap_or_else(|| arguments.to.join(".index")),
        environments: if named { arguments.environments.clone() } else { environments },
        now,
    };
    let fleet = fleet::write_site(request).await?;
    let figures = fleet.figures();
    for broken in fleet.broken.iter().take(10) {
        context.report.warn(format!("{} is left out: {}", broken.key, broken.why));
    }
    if fleet.broken.len() > 10 {
        context.report.warn(format!("{} records in all are left out", fleet.broken.len()));
    }
    let page = arguments.to.join("index.html");
    step.done(format!(
        "{} services, {} records ({} services had new ones): {}",
        figures.services.len(),
        figures.records,
        fleet.changed,
        page.display()
    ));
    // A runner's file of outputs takes a megabyte in all.
    if context.shared.output == Some(Format::Json) {
        context.give(&json!({ "figures": figures }));
    }
    context.give(&json!({ "page": page }));
    Ok(())
}

/// The records to read, and the environments of platform.yaml, in its order.
async fn open_records(context: &Context, arguments: &ReportArgs) -> Result<(Store, Vec<String>)> {
    if let Some(folder) = &arguments.records {
        if !folder.is_dir() {
            return Err(Error::input(format!("cannot read the records in {}", folder.display()))
                .why("it is no folder")
                .fix("name the folder that has `cicd/` in it, or leave --records out to read the bucket of platform.yaml"));
        }
        return Ok((Store::Folder(Folder::new(PathBuf::from(folder))), Vec::new()));
    }
    let platform = context.platform().await?;
    let records = platform.as_ref().and_then(|platform| platform.records.as_ref());
    let (Some(platform), Some(records)) = (&platform, records) else {
        return Err(Error::input("cannot choose the records: platform.yaml names no bucket")
            .fix("write `records: {bucket: NAME, region: REGION}` into platform.yaml")
            .fix("or name a folder of records: --records FOLDER"));
    };
    let session = context.session(&records.region, records.role.as_deref(), None).await?;
    let bucket = Bucket::new(&session, &records.bucket, &records.region, &context.report);
    // Those of pull requests come and go.
    let lasting = platform.environments.iter().filter(|(_, found)| found.preview.is_none());
    let environments = lasting.map(|(name, _)| name.to_string()).collect();
    Ok((Store::S3(bucket), environments))
}
