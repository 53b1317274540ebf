//! Every form in which a secret may be written: what a tool prints is rarely the value alone. Pure.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use super::names_secret;

/// Shorter parts of a secret are told from ordinary text by nobody.
const SHORTEST: usize = 8;

/// Where tools break base64: PEM and MIME.
const WIDTHS: [usize; 2] = [64, 76];

/// A secret in a secret: base64 of JSON of a key. Deeper is not looked.
const DEPTH: usize = 3;

/// Returns what has to be masked of a secret, each form once: the value, its lines, what it stands
/// for as base64 or JSON, and the base64, JSON and URL forms of each.
pub fn find_forms(value: &[u8]) -> Vec<String> {
    let mut forms = BTreeSet::new();
    collect_forms(value, DEPTH, &mut forms);
    forms.into_iter().collect()
}

fn collect_forms(value: &[u8], depth: usize, forms: &mut BTreeSet<String>) {
    let text = String::from_utf8_lossy(value);
    let text = text.trim();
    if text.is_empty() {
        return;
    }
    // What may be any bytes has only the lines that are text.
    if is_text(value) {
        forms.insert(text.to_string());
    }
    add_lines(text, forms);
    // With and without the line end that `echo` and editors put behind it.
    let trimmed = value.trim_ascii_end();
    for bytes in [value, trimmed] {
        for encoded in [STANDARD.encode(bytes), URL_SAFE.encode(bytes)] {
            let unpadded = encoded.trim_end_matches('=');
            if unpadded.len() >= SHORTEST {
                forms.insert(unpadded.to_string());
            }
            for width in WIDTHS {
                add_lines(&wrap_text(unpadded, width), forms);
            }
        }
    }
    if !is_text(value) {
        return;
    }
    for escaped in escape_json(text).into_iter().chain(encode_url(text)).chain(quote_text(text)) {
        add_form(&escaped, forms);
    }
    if depth == 0 {
        return;
    }
    if let Some(decoded) = decode_base64(text).filter(|decoded| is_text(decoded)) {
        collect_forms(&decoded, depth - 1, forms);
    }
    if let Ok(json @ (serde_json::Value::Object(_) | serde_json::Value::Array(_))) =
        serde_json::from_str(text)
    {
        collect_values("", &json, depth - 1, forms);
    }
}

/// The values of a JSON document that are secrets by their names or by their looks.
fn collect_values(
    name: &str,
    json: &serde_json::Value,
    depth: usize,
    forms: &mut BTreeSet<String>,
) {
    match json {
        serde_json::Value::Object(map) => {
            map.iter().for_each(|(name, value)| collect_values(name, value, depth, forms));
        }
        serde_json::Value::Array(list) => {
            list.iter().for_each(|value| collect_values(name, value, depth, forms));
        }
        serde_json::Value::String(text)
            if names_secret(name)
                || name.eq_ignore_ascii_case("auth")
                || text.contains("-----BEGIN") =>
        {
            collect_forms(text.as_bytes(), depth, forms);
        }
        _ => {}
    }
}

/// Which characters tools escape in JSON beside those that they must: Go, Python, .NET.
const ESCAPED: [fn(char) -> bool; 3] = [
    |c| matches!(c, '<' | '>' | '&'),
    |c| !c.is_ascii(),
    |c| !c.is_ascii() || matches!(c, '<' | '>' | '&' | '\'' | '+' | '`'),
];

/// A text within JSON, as different tools write it, and within JSON in JSON.
fn escape_json(text: &str) -> Vec<String> {
    let quote = |text: &str| {
        let quoted = serde_json::Value::from(text).to_string();
        quoted[1..quoted.len() - 1].to_string()
    };
    let plain = quote(text);
    let escape = |escaped: &fn(char) -> bool, upper: bool| {
        let mut written = String::with_capacity(plain.len());
        for c in plain.chars() {
            if !escaped(c) {
                written.push(c);
                continue;
            }
            for unit in c.encode_utf16(&mut [0; 2]) {
                written.push_str(&match upper {
                    true => format!("\\u{unit:04X}"),
                    false => format!("\\u{unit:04x}"),
                });
            }
        }
        written
    };
    let mut written: Vec<String> = ESCAPED
        .iter()
        .flat_map(|escaped| [escape(escaped, false), escape(escaped, true)])
        .collect();
    written.extend([quote(&plain), text.replace('\n', "\\n"), plain.replace('/', "\\/"), plain]);
    written
}

/// A text within the quotation marks of a shell and of Python, and what `xxd -p` makes of it.
fn quote_text(text: &str) -> Vec<String> {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    vec![text.replace('\'', "'\\''"), text.replace('\'', "\\'"), hex.to_uppercase(), hex]
}

/// What tools leave as it is in a URL: all letters and digits, and these.
const LEFT: [&str; 5] = ["", "-_.~", "-_.~/", "-_.!~*'()", "-_.~$&+,;="];

/// A text within a URL, by what different tools leave of it, with either case of the digits.
fn encode_url(text: &str) -> Vec<String> {
    let encode = |left: &str, upper: bool| {
        let mut encoded = String::with_capacity(text.len());
        for byte in text.bytes() {
            let plain = byte.is_ascii_alphanumeric() || left.as_bytes().contains(&byte);
            match (plain, upper) {
                (true, _) => encoded.push(char::from(byte)),
                (false, true) => encoded.push_str(&format!("%{byte:02X}")),
                (false, false) => encoded.push_str(&format!("%{byte:02x}")),
            }
        }
        encoded
    };
    let encoded = LEFT.iter().flat_map(|left| [encode(left, true), encode(left, false)]);
    // A form writes a blank as `+`.
    let mut encoded: Vec<String> =
        encoded.flat_map(|text| [text.replace("%20", "+"), text]).collect();
    encoded.push(url::form_urlencoded::byte_serialize(text.as_bytes()).collect());
    encoded
}

/// Whether bytes are a text that people or programs wrote: almost any word is base64 of something.
fn is_text(bytes: &[u8]) -> bool {
    let is_control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    std::str::from_utf8(bytes).is_ok_and(|text| !text.contains(is_control))
}

/// What a text stands for as base64, with or without padding and line breaks.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let plain: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let decoded = [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
        .iter()
        .find_map(|engine| engine.decode(&plain).ok())?;
    (decoded.len() >= SHORTEST).then_some(decoded)
}

fn add_lines(text: &str, forms: &mut BTreeSet<String>) {
    for line in text.split(['\n', '\r']).map(str::trim) {
        // The first and the last line of a key say what it is, and are no secret.
        if !line.starts_with("-----") && is_text(line.as_bytes()) && !line.contains('\u{fffd}') {
            add_form(line, forms);
        }
    }
}

fn add_form(text: &str, forms: &mut BTreeSet<String>) {
    if text.len() >= SHORTEST {
        forms.insert(text.to_string());
    }
}

fn wrap_text(text: &str, width: usize) -> String {
    let lines = text.as_bytes().chunks(width).map(String::from_utf8_lossy);
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether some form stands in what a step wrote.
    fn masks(secret: &str, line: &str) -> bool {
        find_forms(secret.as_bytes()).iter().any(|form| line.contains(form.as_str()))
    }

    #[test]
    fn a_secret_is_known_in_every_form_a_step_may_write_it() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----\n";
        let base64 = STANDARD.encode(key);
        let json = format!("{{\"type\": \"service\", \"private-key\": {:?}}}", key);
        let long = "p".repeat(90);
        struct Row {
            secret: String,
            line: String,
        }
        let row = |secret: &str, line: &str| Row { secret: secret.into(), line: line.into() };
        let rows = [
            row("hunter2-and-a-half", "it says hunter2-and-a-half"),
            row("hun\"ter2\\x", "{\"token\": \"hun\\\"ter2\\\\x\"}"),
            row("hunter2/+ x", "https://h/?t=hunter2%2F%2B%20x"),
            row("hun/ter2!x", "https://h/?t=hun%2Fter2!x"),
            row("hun/ter2!x", "https://h/?t=hun%2fter2%21x"),
            row("hun/ter2!x", "t=hun/ter2%21x"),
            row("hun@ter2$x", "https://u:hun%40ter2$x@h"),
            row("hun ter2~x", "t=hun+ter2%7Ex"),
            row("hun ter2~x", "t=hun+ter2~x"),
            row("hun ter2~x", "68756e20746572327e78"),
            row("hun'ter2-x", "echo 'hun'\\''ter2-x'"),
            row("hun'ter2-x", "{'token': 'hun\\'ter2-x'}"),
            row("hun<ter2ü+x", "{\"token\": \"hun\\u003cter2\\u00fc\\u002bx\"}"),
            row("hun<ter2&x", "{\"token\": \"hun\\u003cter2\\u0026x\"}"),
            row("hünter2ü-x", "{\"token\": \"h\\u00fcnter2\\u00fc-x\"}"),
            row("hun/ter2/x", "{\"token\": \"hun\\/ter2\\/x\"}"),
            row("hunter2-x", &format!("Basic {}", STANDARD.encode("hunter2-x"))),
            row("hunter2-x", &format!("Basic {}", STANDARD.encode("hunter2-x\n"))),
            row("hunter2?>-x", &URL_SAFE_NO_PAD.encode("hunter2?>-x")),
            row(&long, &STANDARD.encode(&long)[..76]),
            row(key, "invalid format: MIIEvQIBADANBgkq"),
            row(key, "MIIEvQIBADANBgkq\\nhkiG9w0BAQEFAASC"),
            row(&base64, "invalid format: MIIEvQIBADANBgkq"),
            row(&base64, "hkiG9w0BAQEFAASC"),
            row(base64.trim_end_matches('='), "hkiG9w0BAQEFAASC"),
            row(&wrap_text(&base64, 20), "hkiG9w0BAQEFAASC"),
            row(&json, "hkiG9w0BAQEFAASC"),
            row(&STANDARD.encode(&json), "hkiG9w0BAQEFAASC"),
            row("{\"auths\": {\"h\": {\"auth\": \"bWU6aHVudGVyMi14\"}}}", "bWU6aHVudGVyMi14"),
            row("{\"auths\": {\"h\": {\"auth\": \"bWU6aHVudGVyMi14\"}}}", "me:hunter2-x"),
        ];
        for Row { secret, line } in rows {
            assert!(masks(&secret, &line), "{secret:?}: {line:?}");
        }
    }

    #[test]
    fn ordinary_text_is_not_taken_for_a_part_of_one() {
        let key = "-----BEGIN KEY-----\nab\nMIIEvQIBADANBgkq\n-----END KEY-----\n";
        for line in ["-----BEGIN KEY-----", "ab", "type: service", "", "ok"] {
            assert!(!masks(key, line), "{line}");
        }
        assert!(!masks("{\"type\": \"service-account\"}", "service-account"));
        for odd in [&b""[..], b"\n", b"\xff\xfe\x00", b"=", b"ab"] {
            assert!(find_forms(odd).iter().all(|form| !form.is_empty()), "{odd:?}");
        }
        // A key's own lines are letters of base64, too: what they stand for is no text.
        let forms = find_forms(key.as_bytes());
        assert!(forms.iter().all(|form| !form.contains('\0')), "{forms:?}");
        let bytes: Vec<u8> = (0..=255).collect();
        assert!(find_forms(&bytes).iter().all(|form| form.len() >= SHORTEST));
    }
}
