//! Which runs may deploy where: those of the branches that platform.yaml names, and of an image that
//! was good elsewhere before.

use super::Context;
use crate::config::settings::{self, Destination, Settings};
use crate::config::values::BranchPattern;
use crate::deploy::{Image, site};
use crate::error::{Code, Error, Result};
use crate::git;
use crate::github::runner::{self, Reference};

/// How many records are looked through for an image, newest first.
const RECORDS: usize = 200;

/// What this run is of.
pub struct RunReference {
    /// `None` outside GitHub Actions: there the credentials alone decide.
    pub reference: Option<Reference>,
    /// The branches that have the commit of a tag.
    pub holders: Vec<String>,
    /// The default branch, where it is known.
    pub default: Option<String>,
}

/// Reads what this run is of, from the runner and from the clone.
pub fn read_run_reference(context: &Context) -> RunReference {
    let reference = runner::reference(&context.environ);
    let holders = match &reference {
        Some(Reference::Tag(_)) => list_holders(context).unwrap_or_default(),
        _ => Vec::new(),
    };
    let told = runner::default_branch(&context.environ);
    let default = told.or_else(|| git::default_branch(&context.folder()));
    RunReference { reference, holders, default }
}

fn list_holders(context: &Context) -> Result<Vec<String>> {
    let repository = git::open(&context.folder())?;
    let head = git::head(&repository)?.revision;
    git::list_holders(&repository, &head)
}

/// Why the run may not deploy where `branches` may, or the default branch where there are none.
/// `None` if it may. Pure.
pub fn judge_run(run: &RunReference, branches: &[BranchPattern]) -> Option<String> {
    let is_allowed = |branch: &str| match (branches, &run.default) {
        ([], Some(default)) => branch == default,
        ([], None) => matches!(branch, "main" | "master"),
        (patterns, _) => patterns.iter().any(|pattern| pattern.matches(branch)),
    };
    let allowed = || match (branches, &run.default) {
        ([], default) => format!("the default branch, {}", default.as_deref().unwrap_or("main")),
        (patterns, _) => {
            let names: Vec<&str> = patterns.iter().map(BranchPattern::as_str).collect();
            names.join(", ")
        }
    };
    match run.reference.as_ref()? {
        Reference::Branch(branch) if is_allowed(branch) => None,
        Reference::Branch(branch) => {
            Some(format!("the run is of branch {branch}, and only {} may", allowed()))
        }
        Reference::Tag(_) if run.holders.iter().any(|branch| is_allowed(branch)) => None,
        Reference::Tag(tag) => Some(format!(
            "the run is of tag {tag}, whose commit this clone does not find on {}",
            allowed()
        )),
        Reference::Review => Some("the run is of a change that is not merged yet".into()),
    }
}

/// Why a run may not touch the preview of a pull request: it is of a stranger's. `None` if it may.
fn judge_preview(context: &Context, run: &RunReference) -> Option<String> {
    let is_foreign =
        run.reference == Some(Reference::Review) && runner::from_fork(&context.environ);
    is_foreign
        .then(|| "the pull request is from another repository, whose code nobody approved".into())
}

/// Refuses a run whose branch may not deploy to the environment.
///
/// # Errors
/// Refused, with the branches that may.
pub fn refuse_run(context: &Context, environment: &str, destination: &Destination) -> Result<()> {
    let run = read_run_reference(context);
    let why = match destination.target {
        _ if context.shared.plan => None,
        settings::Target::Local => None,
        _ if destination.preview.is_some() => judge_preview(context, &run),
        _ => judge_run(&run, &destination.branches),
    };
    let Some(why) = why else { return Ok(()) };
    let mut error = Error::refused(format!("cannot deploy to {environment} from this run"))
        .code(Code::BranchNotAllowed)
        .why(why);
    if let Some(Reference::Branch(branch)) = &run.reference {
        error = error.fix(format!(
            "merge it; or, if {branch} is to deploy too, in platform.yaml:\nenvironments: \
             {{{environment}: {{branches: [{}, {branch}]}}}}",
            run.default.as_deref().unwrap_or("main")
        ));
    }
    Err(error)
}

/// Refuses an image that has to be good in another environment first, and was not.
///
/// # Errors
/// Refused, when the ledger has no good record of it there, or cannot be read.
pub async fn refuse_unproven(
    context: &Context,
    settings: &Settings,
    destination: &Destination,
    image: &Image,
) -> Result<()> {
    let Some(after) = destination.after.as_deref().filter(|_| !context.shared.plan) else {
        return Ok(());
    };
    let platform = context.platform().await?;
    let before = settings::destination(platform.as_ref(), after)?;
    let records = platform.as_ref().and_then(|platform| platform.records.as_ref());
    // With the role of the environment that is deployed to: it reads the same bucket.
    let session = context.session_of(destination, &destination.region).await?;
    let place = site::LedgerPlace {
        service: &settings.name,
        environment: after,
        destination: &before,
        session: Some(&session),
        records,
    };
    let proven =
        match site::open_ledger(&place, &context.environ, &context.report).await? {
            Some(ledger) => {
                let last = ledger.read_head().await?.good;
                last.is_some_and(|last| last.run.digest.as_ref() == Some(&image.digest))
                    || ledger.list_records(RECORDS).await?.iter().any(|record| {
                        record.good && record.run.digest.as_ref() == Some(&image.digest)
                    })
            }
            None => false,
        };
    if proven {
        return Ok(());
    }
    let environment = &settings.environment;
    Err(Error::refused(format!("cannot deploy {} to {environment} yet", image.version))
        .code(Code::NotProven)
        .why(format!(
            "{environment} comes after {after}, where no deploy of {} ended well",
            image.digest
        ))
        .fix(format!(
            "deploy it to {after} first; `cicd history --environment {after}` shows why not"
        )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_deploys_from_its_branches_only() {
        struct Case {
            reference: Option<Reference>,
            holders: &'static [&'static str],
            default: Option<&'static str>,
            branches: &'static [&'static str],
            /// A part of the reason; none where the run may deploy.
            why: Option<&'static str>,
        }
        let branch = |name: &str| Some(Reference::Branch(name.into()));
        let tag = || Some(Reference::Tag("v1.4.0".into()));
        let case = |reference, holders, default, branches, why| Case {
            reference,
            holders,
            default,
            branches,
            why,
        };
        let trunk = Some("trunk");
        let cases = [
            case(None, &[], None, &[], None),
            case(None, &[], trunk, &["main"], None),
            case(branch("trunk"), &[], trunk, &[], None),
            case(branch("main"), &[], trunk, &[], Some("the default branch, trunk may")),
            case(branch("main"), &[], None, &[], None),
            case(branch("master"), &[], None, &[], None),
            case(branch("topic"), &[], None, &[], Some("branch topic")),
            case(branch("release/2"), &[], trunk, &["main", "release/*"], None),
            case(branch("release/2/x"), &[], trunk, &["main", "release/*"], Some("release/*")),
            case(branch("1.x"), &[], trunk, &["*.x"], None),
            case(branch("trunk"), &[], trunk, &["*.x"], Some("only *.x may")),
            case(branch("a/b/c"), &[], trunk, &["**"], None),
            case(tag(), &["trunk", "topic"], trunk, &[], None),
            case(tag(), &["topic"], trunk, &[], Some("tag v1.4.0")),
            case(tag(), &[], trunk, &[], Some("tag v1.4.0")),
            case(tag(), &["release/2"], trunk, &["release/*"], None),
            case(Some(Reference::Review), &[], trunk, &["**"], Some("not merged")),
        ];
        for Case { reference, holders, default, branches, why } in cases {
            let run = RunReference {
                reference: reference.clone(),
                holders: holders.iter().map(ToString::to_string).collect(),
                default: default.map(str::to_string),
            };
            let pattern =
                |text: &&str| BranchPattern::try_from(text.to_string()).expect("a pattern");
            let patterns: Vec<BranchPattern> = branches.iter().map(pattern).collect();
            let found = judge_run(&run, &patterns);
            match (&found, why) {
                (None, None) => {}
                (Some(found), Some(why)) if found.contains(why) => {}
                _ => panic!("{reference:?} {holders:?} {branches:?}: {found:?}"),
            }
        }
    }
}
