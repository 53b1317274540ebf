//! Text in the job summary. Pure.

/// What anybody wrote, as text that Markdown leaves alone: no markup, no link, no mention, no end
/// of a cell. It stands in no code span, where it would be shown as it is written here.
pub fn text(anything: &str) -> String {
    let mut escaped = String::with_capacity(anything.len());
    for c in anything.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '@' => escaped.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' | '(' | ')' => {
                escaped.extend(['\\', c])
            }
            c if c.is_control() => escaped.push(' '),
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
            ("a\u{1b}[31m\tb", "a \\[31m b"),
            ("![x](y)", "\\!\\[x\\]\\(y\\)"),
            ("`exec \"$@\"`", "\\`exec \"$&#64;\"\\`"),
        ];
        for (anything, expected) in cases {
            assert_eq!(text(anything), expected);
        }
    }
}
