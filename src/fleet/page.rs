//! The frame of every page of the site. Pure.
//!
//! A page is one file without a script and without anything from elsewhere, which its policy says
//! too: it opens from a disk, from S3 and from Pages, and no text in it can do anything.

pub mod delivery;
pub mod matrix;
pub mod service;

use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("page/style.css");
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'";

/// Where a page is, which its links are relative to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Top,
    /// Below `services/`.
    Service,
}

/// What each page says of the report.
pub struct Frame<'a> {
    /// When the report was made.
    pub made: &'a str,
    pub place: Place,
}

/// A page with its title, which is its heading too.
pub fn frame_page(frame: &Frame<'_>, title: &str, content: &Markup) -> String {
    let up = if frame.place == Place::Top { "" } else { "../" };
    let links = [
        ("index.html", "What runs where"),
        ("delivery.html", "Delivery"),
        ("causes.html", "Causes"),
        ("pipelines.html", "Pipelines"),
    ];
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (title) " · fleet" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header { nav aria-label="Pages" { ul {
                    @for (file, name) in links {
                        li { a href={ (up) (file) } { (name) } }
                    }
                } } }
                main #main { h1 { (title) } (content) }
                footer { p { "Made " (frame.made) " UTC by cicd " (crate::VERSION) } }
            }
        }
    };
    page.into_string()
}
