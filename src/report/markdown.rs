//! Text in the job summary and elsewhere on github.com. Pure.
//!
//! [`Markdown`] is made of our own literals and of what anybody wrote, and only the literals are
//! markup. <https://github.github.com/gfm/>

use crate::untrusted::Untrusted;

/// Markdown whose markup is all ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Markdown(String);

impl Markdown {
    /// Adds markup of our own.
    pub fn own(mut self, markup: &'static str) -> Self {
        self.0.push_str(markup);
        self
    }

    /// Adds what anybody wrote, as text on one line that is no markup.
    pub fn text(mut self, anything: &str) -> Self {
        self.0.push_str(&escape(anything));
        self
    }

    /// Adds what anybody wrote, as code on one line, also in a cell of a table.
    pub fn code(mut self, anything: &str) -> Self {
        let text = Untrusted::new(anything).line().replace('|', "\\|");
        let runs = text.split(|c| c != '`').map(str::len);
        let fence = "`".repeat(runs.max().unwrap_or(0) + 1);
        // A space that the reader does not see keeps a backtick of the text from the fence.
        let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
        if !text.trim().is_empty() {
            self.0.push_str(&format!("{fence}{pad}{text}{pad}{fence}"));
        }
        self
    }

    /// Adds a sentence of ours that may quote anybody: what stands between backticks is code.
    pub fn prose(self, anything: &str) -> Self {
        let parts = anything.split('`').enumerate();
        match anything.matches('`').count() % 2 {
            0 => parts.fold(self, |text, (place, part)| match place % 2 {
                0 => text.text(part),
                _ => text.code(part),
            }),
            _ => self.text(anything),
        }
    }

    /// Adds what anybody wrote, as a block of code in `language` that can be copied.
    pub fn fenced(mut self, language: &'static str, anything: &str) -> Self {
        let text = Untrusted::new(anything).lines();
        let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
        let fence = "`".repeat(longest.max(2) + 1);
        self.0.push_str(&format!("{fence}{language}\n{}\n{fence}\n", text.trim_end_matches('\n')));
        self
    }

    /// Adds a link to an address of ours or of the service. One that is no address is text.
    pub fn link(self, anything: &str, address: &str) -> Self {
        let address = url::Url::parse(address).ok().filter(|url| url.scheme().starts_with("http"));
        match address {
            Some(url) => {
                // What ends a link in Markdown, or a cell of a table.
                let url = ['(', ')', '|', '<', '>'].iter().fold(url.to_string(), |url, c| {
                    url.replace(*c, &format!("%{:02X}", u32::from(*c)))
                });
                let mut text = self.own("[").text(anything);
                text.0.push_str(&format!("](<{url}>)"));
                text
            }
            None => self.text(anything),
        }
    }

    /// Folds all of it away below a title.
    pub fn fold(self, anything: &str, is_open: bool) -> Self {
        let open = if is_open { " open" } else { "" };
        let title = escape_html(&Untrusted::new(anything).line());
        Markdown(format!("\n<details{open}><summary>{title}</summary>\n\n{}\n</details>\n", self.0))
    }

    /// Adds other Markdown.
    pub fn markdown(mut self, other: &Markdown) -> Self {
        self.0.push_str(&other.0);
        self
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The first lines of `text` in at most `limit` bytes, the note included, with every block closed
/// that is open there.
pub fn cut_text(text: &str, limit: usize, note: &str) -> String {
    if text.len() <= limit {
        return text.to_string();
    }
    // A fence is as long as what it holds demands; ours are never near this.
    let room = limit.saturating_sub(note.len() + 256);
    let end = (0..=room).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    let kept = &text[..end];
    let kept = kept.rfind('\n').map_or(kept, |line_end| &kept[..=line_end]);
    let (mut fence, mut open): (Option<&str>, Vec<&str>) = (None, Vec::new());
    for line in kept.lines() {
        let backticks = &line[..line.len() - line.trim_start_matches('`').len()];
        match fence {
            Some(own) if line == own => fence = None,
            Some(_) => {}
            None if backticks.len() >= 3 => fence = Some(backticks),
            None if line.starts_with("<details") => open.push("</details>"),
            None if line == "<pre>" => open.push("</pre>"),
            None if open.last().is_some_and(|end| *end == line) => drop(open.pop()),
            None => {}
        }
    }
    let closing = fence.filter(|fence| fence.len() < 100).into_iter().chain(open.into_iter().rev());
    let closing: String = closing.take(16).map(|end| format!("{end}\n")).collect();
    format!("{kept}{closing}{note}")
}

/// What anybody wrote, as text of HTML that no filter makes a link or a mention of.
pub fn escape_html(anything: &str) -> String {
    let entities = [
        ('&', "&amp;"),
        ('<', "&lt;"),
        ('>', "&gt;"),
        ('[', "&#91;"),
        (']', "&#93;"),
        ('@', "&#64;"),
    ];
    let escaped = anything.to_string();
    entities.into_iter().fold(escaped, |escaped, (c, entity)| escaped.replace(c, entity))
}

/// What anybody wrote, as text that Markdown leaves alone: no markup, no link, no mention, no end
/// of a cell. It stands in no code span, where it would be shown as it is written here.
pub fn escape(anything: &str) -> String {
    let line = Untrusted::new(anything).line();
    let mut escaped = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while let Some(c) = rest.chars().next() {
        let at = rest;
        rest = &rest[c.len_utf8()..];
        match c {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '@' => escaped.push_str("&#64;"),
            // What GitHub makes a link of by itself.
            ':' if rest.starts_with("//") => escaped.push_str("&#58;"),
            'w' | 'W' if at.get(..4).is_some_and(|www| www.eq_ignore_ascii_case("www.")) => {
                escaped.push_str(&at[..3]);
                escaped.push_str("&#46;");
                rest = &at[4..];
            }
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' | '(' | ')' | '$' => {
                escaped.extend(['\\', c])
            }
            '\t' => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_text() {
        let cases = [
            ("feat: a", "feat: a"),
            ("fix(api): a | b", "fix\\(api\\): a \\| b"),
            ("<img src=x> @ada #12", "&lt;img src=x> &#64;ada \\#12"),
            ("a\u{1b}[31m\tb", "a b"),
            ("a\r[x](y)\nb", "a\\\\r\\[x\\]\\(y\\) b"),
            ("![x](y)", "\\!\\[x\\]\\(y\\)"),
            ("`exec \"$@\"`", "\\`exec \"\\$&#64;\"\\`"),
            ("see https://evil.example", "see https&#58;//evil.example"),
            ("see WWW.evil.example ww", "see WWW&#46;evil.example ww"),
        ];
        for (anything, expected) in cases {
            assert_eq!(escape(anything), expected);
        }
    }

    #[test]
    fn code_ends_where_the_text_does() {
        let cases = [
            ("1.3.0", "`1.3.0`"),
            ("a`b", "``a`b``"),
            ("`x` ``y``", "``` `x` ``y`` ```"),
            ("a|b", "`a\\|b`"),
            ("a\nb\rc", "`a b\\rc`"),
            ("", ""),
        ];
        for (anything, expected) in cases {
            assert_eq!(Markdown::default().code(anything).as_str(), expected);
        }
    }

    #[test]
    fn a_block_holds_every_line() {
        let block = Markdown::default().own("- a\n").fenced("", "a\r[x](y)\n```\n</pre>@c\r\n");
        assert_eq!(block.as_str(), "- a\n````\na\\r[x](y)\n```\n</pre>@c\n````\n");
    }

    #[test]
    fn a_link_goes_to_an_address_only() {
        let cases = [
            ("a", "https://a.example/b?c=(d)|e>", "[a](<https://a.example/b?c=%28d%29%7Ce%3E>)"),
            ("a](b", "https://a.example", "[a\\]\\(b](<https://a.example/>)"),
            ("a", "javascript:alert(1)", "a"),
            ("a", "no address", "a"),
        ];
        for (text, address, expected) in cases {
            assert_eq!(Markdown::default().link(text, address).as_str(), expected, "{address}");
        }
    }

    #[test]
    fn what_is_cut_ends_every_block() {
        let log = Markdown::default().fenced("", &"line\n".repeat(1000)).fold("a", true);
        let text = Markdown::default().own("head\n").markdown(&log);
        for limit in [400, 1000, 4999] {
            let short = cut_text(text.as_str(), limit, "\nnote\n");
            assert!(
                short.len() <= limit && short.ends_with("```\n</details>\n\nnote\n"),
                "{short}"
            );
        }
        assert_eq!(cut_text("short", 100, "note"), "short");
        assert!(cut_text(&"ä".repeat(500), 401, "note").len() <= 401);
    }
}
