//! The first page: what runs of each service in each environment. Pure.
//!
//! It has a cell for each service and environment of an organisation, thousands, so that its markup is
//! terse.

use jiff::Timestamp;
use maud::{Markup, html};

use super::super::matrix::{Cell, Summary};
use super::super::text::{file_name, show_digest, show_line, show_span, show_time};
use super::super::{Broken, Fleet};

/// More broken records than this are only counted.
const NAMED: usize = 50;

pub fn show_matrix(fleet: &Fleet) -> Markup {
    let count = |is: fn(&Cell) -> bool| {
        fleet.services.iter().filter(|service| service.cells.iter().any(is)).count()
    };
    let (failed, behind, drifting) = (count(has_failed), count(is_behind), count(is_drifting));
    let frozen = fleet.services.iter().filter(|service| is_frozen(fleet, service)).count();
    html! {
        @if fleet.services.is_empty() {
            p { "No service has a record yet. The first " code { "cicd deploy" } " to an environment with " code { "records" } " in platform.yaml writes one." }
        } @else {
            p {
                (fleet.services.len()) " services in " (fleet.environments.len()) " environments. In some environment the last deploy of "
                (failed) " failed, " (frozen) " are frozen, " (drifting) " are drifting, and " (behind) " are behind the environment before."
            }
            fieldset {
                legend { "Show" }
                @for (id, name) in [("all", "all"), ("failed", "last deploy failed"), ("frozen", "frozen"), ("drifting", "drifting"), ("behind", "behind")] {
                    label { input type="radio" name="show" id=(id) checked[id == "all"]; " " (name) }
                }
            }
            div.scroll tabindex="0" role="region" aria-label="Services and environments" {
                table {
                    caption { "Version, digest and age of what runs. An age is counted from the end of the deploy. What drifts was changed by hand since, when " code { "cicd status --record" } " last looked." }
                    thead { tr { th scope="col" { "Service" } @for name in &fleet.environments { th scope="col" { (show_line(name)) } } } }
                    tbody { @for service in &fleet.services { (show_row(fleet, service)) } }
                }
            }
        }
        (show_broken(&fleet.broken))
    }
}

fn show_row(fleet: &Fleet, service: &Summary) -> Markup {
    let file = file_name(&service.name);
    let mut classes = String::from("s");
    for (class, is) in [
        (" f", service.cells.iter().any(has_failed)),
        (" z", is_frozen(fleet, service)),
        (" d", service.cells.iter().any(is_drifting)),
        (" l", service.cells.iter().any(is_behind)),
    ] {
        if is {
            classes.push_str(class);
        }
    }
    html! {
        tr class=(classes) {
            th scope="row" { a href={ "services/" (file) ".html" } { (show_line(&service.name)) } }
            @for environment in &fleet.environments {
                td { @for cell in service.cells.iter().filter(|cell| cell.environment == *environment) {
                    (show_cell(cell, fleet.made))
                    @if let Some(freeze) = fleet.freezes.in_force(&service.name, environment, fleet.made) {
                        " " b.z { "frozen until " (show_time(freeze.until)) }
                    }
                } }
            }
        }
    }
}

fn show_cell(cell: &Cell, now: Timestamp) -> Markup {
    html! {
        @match &cell.running {
            Some(running) => {
                (show_line(&running.version)) " " @if let Some(digest) = &running.digest { code { (show_digest(digest)) } " " }
                i { (show_span(now.duration_since(running.since).as_secs_f64().max(0.0))) }
            }
            None => i { "nothing good runs" },
        }
        @if let Some(distance) = cell.distance() { " " b.l { (distance) " behind" } }
        @if let Some(drift) = &cell.drift { " " b.d { "drifting, seen " (show_time(drift.looked)) } }
        @if let Some(failed) = &cell.failed {
            " " b.f { (show_line(&failed.version)) " " (failed.result.word()) }
        }
    }
}

fn show_broken(broken: &[Broken]) -> Markup {
    html! {
        @if !broken.is_empty() {
            h2 { "Records that could not be read" }
            p { (broken.len()) " are left out of every figure." }
            ul { @for one in broken.iter().take(NAMED) { li { code { (show_line(&one.key)) } ": " (show_line(&one.why)) } } }
        }
    }
}

fn has_failed(cell: &Cell) -> bool {
    cell.failed.is_some()
}

fn is_behind(cell: &Cell) -> bool {
    cell.behind.is_some_and(|behind| behind > 0)
}

fn is_drifting(cell: &Cell) -> bool {
    cell.drift.is_some()
}

fn is_frozen(fleet: &Fleet, service: &Summary) -> bool {
    let mut cells = service.cells.iter();
    cells.any(|cell| fleet.freezes.in_force(&service.name, &cell.environment, fleet.made).is_some())
}
