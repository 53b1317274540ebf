//! What XML says for signs that it has a use for itself. Pure.

/// Text without XML's own references. One that is none stays.
/// <https://www.w3.org/TR/xml/#sec-references>
pub fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let known = after.split_once(';').filter(|(name, _)| name.len() <= 8);
        let meant = known.and_then(|(name, rest)| Some((resolve_reference(name)?, rest)));
        rest = match meant {
            Some((character, rest)) => {
                plain.push(character);
                rest
            }
            None => {
                plain.push('&');
                after
            }
        };
    }
    plain + rest
}

fn resolve_reference(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved() {
        for (text, plain) in [
            ("a &amp;&lt;b&gt; &#65;&#x42;", "a &<b> AB"),
            ("&amp;lt;", "&lt;"),
            ("a & b; &nope; &#xFFFFFF; &", "a & b; &nope; &#xFFFFFF; &"),
        ] {
            assert_eq!(unescape(text), plain);
        }
    }
}
