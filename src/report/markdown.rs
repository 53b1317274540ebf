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

    /// Adds what anybody wrote, as a block that keeps its lines. It is HTML, as an indented block
    /// behind a list would be a paragraph of the list, with its markup.
    pub fn block(mut self, anything: &str) -> Self {
        self.0.push_str("<pre>\n");
        for line in Untrusted::new(anything).lines().lines() {
            self.0.push_str(&format!("    {}\n", escape_html(line)));
        }
        self.0.push_str("</pre>\n");
        self
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
        let block = Markdown::default().own("- a\n").block("a\r[x](y)\nb\r\n</pre>@c\r");
        assert_eq!(
            block.as_str(),
            "- a\n<pre>\n    a\\r&#91;x&#93;(y)\n    b\n    &lt;/pre&gt;&#64;c\n</pre>\n"
        );
    }
}
