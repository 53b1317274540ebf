//! A service's own page: what was brought where, in time. Pure.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::super::dora::Figures;
use super::super::entry::{Entry, Track};
use super::super::matrix::{Cell, Summary};
use super::super::text::{
    find_link, show_digest, show_line, show_part, show_share, show_span, show_time,
};
use super::delivery::{show_cause, show_figures};

/// More of a place's records than this are left to `cicd history`.
const SHOWN: usize = 30;

/// What differs between the state of a record and of the one before, by the track's place and the
/// record's number.
pub type Differences = BTreeMap<(usize, u64), Vec<String>>;

/// The page of a service.
pub fn show_service(summary: &Summary, tracks: &[Track], differences: &Differences) -> Markup {
    html! {
        @if !summary.changes.is_empty() { (show_figures(&Figures::of(&summary.changes))) }
        @for (at, track) in tracks.iter().enumerate() {
            h2 { (show_line(&track.environment)) " " small { (show_line(&track.destination)) } }
            @match track.running() {
                Some(running) => p {
                    "Runs " (show_line(&running.version)) @if let Some(digest) = &running.digest { " " code { (show_digest(digest)) } } " since " (show_time(running.ended)) ", by " (show_line(&running.who))
                    @if let Some(url) = &running.url { ", at " (show_link(url, url)) } "."
                },
                None => p { "Nothing good runs here." },
            }
            @if let Some(words) = show_distance(summary, track, &tracks[at + 1..]) { p { (words) } }
            @if let Some(drift) = find_cell(summary, track).and_then(|cell| cell.drift.as_ref()) {
                p { b.d { "drifting" } " Somebody changed it by hand since, as seen " (show_time(drift.looked)) ":" }
                ul { @for one in drift.differences.iter().take(SHOWN) { li { (show_line(one)) } } }
            }
            (show_track(at, track, differences))
        }
    }
}

fn find_cell<'a>(summary: &'a Summary, track: &Track) -> Option<&'a Cell> {
    summary
        .cells
        .iter()
        .find(|cell| cell.environment == track.environment && cell.destination == track.destination)
}

/// How far a place is behind the environment before, of which there are `others`, with a link to
/// GitHub, which lists the commits. `None` if it is not.
fn show_distance(summary: &Summary, track: &Track, others: &[Track]) -> Option<Markup> {
    let distance = find_cell(summary, track)?.distance()?;
    let before = others.iter().find(|other| other.environment != track.environment)?;
    let (ours, theirs) = (track.running()?, before.running()?);
    let commits = ours.commit.as_deref().zip(theirs.commit.as_deref());
    let commits = commits.filter(|(ours, theirs)| is_hex(ours) && is_hex(theirs));
    let comparison = find_repository(theirs)
        .zip(commits)
        .map(|(repository, (ours, theirs))| format!("{repository}/compare/{ours}...{theirs}"));
    Some(html! {
        b.l { (distance) " behind " (show_line(&before.environment)) }
        @if let Some(comparison) = comparison { ": " (show_link(&comparison, "the commits in between")) }
    })
}

fn show_track(at: usize, track: &Track, differences: &Differences) -> Markup {
    let hidden = track.entries.len().saturating_sub(SHOWN);
    html! {
        div.scroll tabindex="0" role="region" aria-label={ "Records of " (show_line(&track.environment)) } { table {
            caption {
                "Newest first, times in UTC"
                @if hidden > 0 { "; " (hidden) " older ones are in " code { "cicd history --environment " (show_line(&track.environment)) } }
            }
            thead { tr { th.n scope="col" { "Record" } th scope="col" { "When" } th scope="col" { "Result" } th scope="col" { "What" } th scope="col" { "Phases" } th scope="col" { "Who and why" } } }
            tbody { @for entry in track.entries.iter().rev().take(SHOWN) {
                (show_entry(entry, differences.get(&(at, entry.number))))
            } }
        } }
    }
}

fn show_entry(entry: &Entry, difference: Option<&Vec<String>>) -> Markup {
    let of_repository = |path: String| Some(format!("{}/{path}", find_repository(entry)?));
    let commit = entry.commit.as_deref().filter(|commit| is_hex(commit));
    html! {
        tr {
            th.n scope="row" { (entry.number) }
            td { (show_time(entry.started)) }
            td {
                @if entry.is_deployed() { "deployed" } @else if entry.is_judged() { b.f { (entry.result.word()) } } @else { b.l { (entry.result.word()) } }
                @for cause in &entry.causes { br; (show_cause(cause)) }
            }
            td {
                (entry.kind.word()) " "
                @match of_repository(format!("releases/tag/v{}", entry.version)).filter(|_| is_version(&entry.version)) {
                    Some(release) => (show_link(&release, &entry.version)),
                    None => (show_line(&entry.version)),
                }
                @if let Some(digest) = &entry.digest { " " code { (show_digest(digest)) } }
                @if let Some(commit) = commit {
                    br; small { "commit " @match of_repository(format!("commit/{commit}")) { Some(url) => (show_link(&url, &commit[..commit.len().min(8)])), None => (show_part(commit, 8)) } }
                }
                @if let Some(lines) = difference.filter(|lines| !lines.is_empty()) {
                    details { summary { "what changed" } pre { @for line in lines { (show_part(line, 400)) "\n" } } }
                }
            }
            td { (show_phases(entry)) }
            td {
                (show_line(&entry.who))
                @if let Some(url) = &entry.run.url { ", " (show_link(url, "run")) }
                @if let Some(reason) = &entry.reason { br; small { (show_line(reason)) } }
            }
        }
    }
}

/// A bar of the phases' shares, and the same in words for those who do not see it.
fn show_phases(entry: &Entry) -> Markup {
    let all: f64 = entry.phases.iter().map(|phase| phase.seconds.max(0.0)).sum();
    html! {
        (show_span(entry.ended.duration_since(entry.started).as_secs_f64().max(0.0)))
        @if all > 0.0 {
            div.phases aria-hidden="true" {
                @for phase in &entry.phases { span style={ "width:" (show_share(phase.seconds.max(0.0) / all).replace(' ', "")) } {} }
            }
            small { @for (at, phase) in entry.phases.iter().enumerate() { @if at > 0 { ", " } (phase.name.word()) " " (show_span(phase.seconds)) } }
        }
    }
}

/// A link where it leads into the web, else its words.
fn show_link(address: &str, words: &str) -> Markup {
    html! {
        @match find_link(address) {
            Some(address) => a href=(address) rel="noreferrer" { (show_line(words)) },
            None => (show_line(words)),
        }
    }
}

/// The web address of the repository whose run it was, on whichever GitHub.
fn find_repository(entry: &Entry) -> Option<&str> {
    Some(find_link(entry.run.url.as_deref()?)?.split_once("/actions/runs/")?.0)
}

fn is_hex(commit: &str) -> bool {
    commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_version(version: &str) -> bool {
    semver::Version::parse(version).is_ok()
}
