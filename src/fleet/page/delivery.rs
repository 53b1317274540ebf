//! How well the organisation delivers, why deploys fail, and who runs which pipeline. Pure.

use std::collections::BTreeMap;

use jiff::civil::Date;
use maud::{Markup, PreEscaped, html};

use super::super::chart::draw_weeks;
use super::super::dora::{Figures, Spread};
use super::super::text::{file_name, show_line, show_share, show_span};
use super::super::{Fleet, rank_causes, rank_pipelines};

/// Half a year.
const WEEKS: usize = 26;
const TROUBLESHOOTING: &str = "https://github.com/clinicult/cicd/blob/main/docs/troubleshooting.md";

/// The four figures, and what they count.
pub fn show_figures(figures: &Figures) -> Markup {
    let median = |spread: &Option<Spread>| {
        spread.as_ref().map_or("not known".to_string(), |spread| show_span(spread.median))
    };
    let spread = |spread: &Option<Spread>| {
        spread.as_ref().map_or(String::new(), |spread| {
            format!(
                "half are between {} and {}, nine in ten within {}; {} known",
                show_span(spread.quarter),
                show_span(spread.three_quarters),
                show_span(spread.ninety),
                spread.count
            )
        })
    };
    html! {
        ul.figures {
            li { "Deployment frequency" strong { @match figures.weekly { Some(weekly) => { (format!("{weekly:.1} a week") ) } None => "none" } } small { (figures.deployed) " changes were deployed" } }
            li { "Lead time" strong { (median(&figures.lead_time)) } small { "median; " (spread(&figures.lead_time)) } }
            li { "Change failure rate" strong { @match figures.failure_rate { Some(rate) => (show_share(rate)), None => "none" } } small { (figures.failed) " of " (figures.changes) " changes" } }
            li { "Time to restore" strong { (median(&figures.time_to_restore)) } small { "median; " (spread(&figures.time_to_restore)) } }
        }
    }
}

/// What is counted, in the words of `dora.rs`.
pub fn define_figures() -> Markup {
    html! {
        details {
            summary { "What is counted" }
            dl {
                dt { "Change" } dd { "A deploy or a promotion that says something about what it brought: deployed, rolled back, failed, timed out or killed. Not one that was interrupted or superseded, nor one that brought what ran already." }
                dt { "Deployment frequency" } dd { "Changes that were deployed, a week, from the week of the first change to that of the last." }
                dt { "Lead time" } dd { "From the time of the commit to the end of the deploy that first brought its image there." }
                dt { "Change failure rate" } dd { "The share of changes that were not deployed, or that a rollback took back before the next change." }
                dt { "Time to restore" } dd { "From the start of a change that failed to the end of the first record after which a good version ran again." }
            }
        }
    }
}

/// Pictures and a table by week, the last half year of it.
pub fn show_weeks(weeks: &BTreeMap<Date, Figures>) -> Markup {
    let shown: Vec<(&Date, &Figures)> =
        weeks.iter().skip(weeks.len().saturating_sub(WEEKS)).collect();
    let draw = |what: &'static str, value: fn(&Figures) -> Option<f64>| {
        let bars: Vec<(Date, Option<f64>)> =
            shown.iter().map(|(week, figures)| (**week, value(figures))).collect();
        draw_weeks(what, &bars)
    };
    let pictures = [
        (
            "Changes deployed, by week",
            draw("Changes deployed, by week", |one| Some(one.deployed as f64)),
        ),
        (
            "Lead time in hours, median by week",
            draw("Lead time in hours, median by week", |one| {
                Some(one.lead_time.as_ref()?.median / 3600.0)
            }),
        ),
        (
            "Changes that failed, in percent by week",
            draw("Changes that failed, in percent by week", |one| Some(one.failure_rate? * 100.0)),
        ),
        (
            "Time to restore in minutes, median by week",
            draw("Time to restore in minutes, median by week", |one| {
                Some(one.time_to_restore.as_ref()?.median / 60.0)
            }),
        ),
    ];
    let median = |spread: &Option<Spread>| spread.as_ref().map(|spread| show_span(spread.median));
    html! {
        div.charts { @for (title, picture) in pictures {
            @if let Some(picture) = picture { figure { figcaption { (title) } (PreEscaped(picture)) } }
        } }
        div.scroll tabindex="0" role="region" aria-label="By week" { table {
            caption { "By week, named by its Monday" }
            thead { tr { th scope="col" { "Week" } th.n scope="col" { "Changes" } th.n scope="col" { "Deployed" } th.n scope="col" { "Failed" } th.n scope="col" { "Lead time" } th.n scope="col" { "To restore" } } }
            tbody { @for (week, figures) in shown.iter().rev() { tr {
                th scope="row" { (week.to_string()) }
                td.n { (figures.changes) } td.n { (figures.deployed) } td.n { (figures.failed) }
                td.n { (median(&figures.lead_time).unwrap_or_default()) }
                td.n { (median(&figures.time_to_restore).unwrap_or_default()) }
            } } }
        } }
    }
}

/// The page of the organisation's figures.
pub fn show_delivery(fleet: &Fleet) -> Markup {
    let all = || fleet.services.iter().flat_map(|service| &service.changes);
    let median = |spread: &Option<Spread>| spread.as_ref().map(|spread| show_span(spread.median));
    html! {
        p { "To " (fleet.environments.last().map(|name| show_line(name)).unwrap_or_default()) ", of all services." }
        (show_figures(&Figures::of(all())))
        (define_figures())
        (show_weeks(&Figures::by_week(all())))
        h2 { "By service" }
        div.scroll tabindex="0" role="region" aria-label="By service" { table {
            caption { "Medians; services without a change are left out" }
            thead { tr { th scope="col" { "Service" } th.n scope="col" { "Deployed a week" } th.n scope="col" { "Lead time" } th.n scope="col" { "Failed" } th.n scope="col" { "To restore" } } }
            tbody { @for service in fleet.services.iter().filter(|service| !service.changes.is_empty()) {
                @let figures = Figures::of(&service.changes);
                tr {
                    th scope="row" { a href={ "services/" (file_name(&service.name)) ".html" } { (show_line(&service.name)) } }
                    td.n { (figures.weekly.map(|weekly| format!("{weekly:.1}")).unwrap_or_default()) }
                    td.n { (median(&figures.lead_time).unwrap_or_default()) }
                    td.n { (figures.failure_rate.map(show_share).unwrap_or_default()) }
                    td.n { (median(&figures.time_to_restore).unwrap_or_default()) }
                }
            } }
        } }
    }
}

/// Why deploys failed, the most frequent cause first.
pub fn show_causes(fleet: &Fleet) -> Markup {
    let causes = rank_causes(&fleet.services);
    let all: usize = causes.iter().map(|(_, count, _)| count).sum();
    html! {
        @if causes.is_empty() { p { "No record names a cause." } } @else {
            p { "In every environment. A record may name several." }
            div.scroll tabindex="0" role="region" aria-label="Causes" { table {
                thead { tr { th scope="col" { "Cause" } th.n scope="col" { "Records" } th.n scope="col" { "Share" } th scope="col" { "Most often in" } } }
                tbody { @for (cause, count, services) in &causes { tr {
                    th scope="row" { (show_cause(cause)) }
                    td.n { (count) } td.n { (show_share(*count as f64 / all as f64)) }
                    td { @for (at, (service, count)) in services.iter().take(3).enumerate() {
                        @if at > 0 { ", " }
                        a href={ "services/" (file_name(service)) ".html" } { (show_line(service)) } " " small { (count) }
                    } }
                } } }
            } }
        }
    }
}

/// A cause, with a link to what to do about it where it is one of this program.
pub fn show_cause(cause: &str) -> Markup {
    let is_ours = crate::error::Code::ALL.iter().any(|code| code.word() == cause);
    html! {
        @if is_ours { a href={ (TROUBLESHOOTING) "#" (cause) } { (cause) } } @else { (show_line(cause)) }
    }
}

/// Which version of this program each service deploys with.
pub fn show_pipelines(fleet: &Fleet) -> Markup {
    let versions = rank_pipelines(&fleet.services);
    let newest = versions.first().map(|(version, _)| version.clone());
    html! {
        @if let Some(newest) = newest {
            p { "By the newest record of each service. The newest version in use is " (show_line(&newest)) "." }
            div.scroll tabindex="0" role="region" aria-label="Versions" { table {
                thead { tr { th scope="col" { "Version of cicd" } th.n scope="col" { "Services" } th scope="col" { "Who" } } }
                tbody { @for (version, services) in &versions { tr {
                    th scope="row" { (show_line(version)) } td.n { (services.len()) }
                    td {
                        @if *version == newest { small { "up to date" } } @else { details { summary { "behind " (show_line(&newest)) } ul {
                            @for service in services { li { a href={ "services/" (file_name(service)) ".html" } { (show_line(service)) } } }
                        } } }
                    }
                } } }
            } }
        } @else { p { "No service has a record yet." } }
    }
}
