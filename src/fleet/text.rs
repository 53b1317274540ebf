//! Words of strangers on a page: names, reasons, addresses. Pure.
//!
//! The templates escape all that is HTML. What is left to do here: no control characters, no endless
//! texts, no links but to the web, and file names that are one.

use jiff::Timestamp;

use crate::digest::Digest;
use crate::untrusted::Untrusted;

/// In characters.
const LONGEST: usize = 300;
/// In bytes, of a file's name without its ending.
const LONGEST_NAME: usize = 120;

/// A text on one line, and cut.
pub fn show_line(text: &str) -> String {
    show_part(text, LONGEST)
}

/// A text on one line, and cut to so many characters.
pub fn show_part(text: &str, limit: usize) -> String {
    // What is cut off needs no look: a megabyte of it costs nothing.
    let (head, is_cut) = match text.char_indices().nth(limit) {
        Some((at, _)) => (&text[..at], true),
        None => (text, false),
    };
    let shown = Untrusted::new(head).line();
    if is_cut { format!("{shown}…") } else { shown }
}

/// The first digits of a digest.
pub fn show_digest(digest: &Digest) -> &str {
    &digest.short()[..8]
}

/// An address that may be a link: of the web, and of nothing else.
pub fn find_link(address: &str) -> Option<&str> {
    let is_web = address.starts_with("https://") || address.starts_with("http://");
    let is_plain =
        address.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'<>`\\".contains(&byte));
    (is_web && is_plain && address.len() <= 2000).then_some(address)
}

/// A file name for a service: its own where that is plain, else with each other byte as `~XX`, and a
/// part of its digest where it would be too long.
pub fn file_name(service: &str) -> String {
    use std::fmt::Write;
    let mut name = String::new();
    for (at, byte) in service.bytes().enumerate() {
        let is_plain =
            byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte == b'.' && at > 0;
        if is_plain {
            name.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(name, "~{byte:02x}");
        }
    }
    if name.len() > LONGEST_NAME || name.is_empty() {
        name.truncate(LONGEST_NAME - 16);
        name.push('~');
        name.push_str(Digest::of(service.as_bytes()).short());
    }
    name
}

/// A time for people: to the minute, in UTC.
pub fn show_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M").to_string()
}

/// A span for people, in its largest unit: `3 d`.
pub fn show_span(seconds: f64) -> String {
    let (value, unit) = match seconds {
        seconds if seconds < 90.0 => (seconds, "s"),
        seconds if seconds < 5400.0 => (seconds / 60.0, "min"),
        seconds if seconds < 129_600.0 => (seconds / 3600.0, "h"),
        seconds => (seconds / 86_400.0, "d"),
    };
    if value < 10.0 && value.fract() > 0.05 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// A share for people: `12 %`.
pub fn show_share(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_file_and_another_name_another_one() {
        for (service, file) in [
            ("patients", "patients"),
            ("a.b_c-D", "a.b_c-D"),
            ("..", "~2e."),
            ("../x", "~2e.~2fx"),
            ("a~b", "a~7eb"),
            ("é", "~c3~a9"),
        ] {
            assert_eq!(file_name(service), file);
        }
        let (one, other) = (file_name(&"x".repeat(300)), file_name(&"x".repeat(301)));
        assert!(one.len() < 130 && one != other);
    }

    #[test]
    fn only_the_web_is_linked() {
        for (address, is_web) in [
            ("https://github.com/clinicult/patients/actions/runs/1", true),
            ("http://127.0.0.1:8080/", true),
            ("javascript:alert(1)", false),
            ("https://a b", false),
            ("https://a/\"onclick=alert(1)", false),
            ("//github.com", false),
            ("HTTPS://github.com", false),
        ] {
            assert_eq!(find_link(address).is_some(), is_web, "{address}");
        }
    }

    #[test]
    fn spans_and_texts_are_short() {
        for (seconds, text) in
            [(0.0, "0 s"), (59.4, "59 s"), (100.0, "1.7 min"), (7200.0, "2 h"), (864_000.0, "10 d")]
        {
            assert_eq!(show_span(seconds), text);
        }
        assert_eq!(show_line(&"é".repeat(1_000_000)).chars().count(), LONGEST + 1);
        assert_eq!(show_line("a\nb\u{1b}"), "a b\\u001b");
        assert_eq!(show_share(0.125), "12 %");
    }
}
