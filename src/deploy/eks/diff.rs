//! What differs between an object as it is and as it would be, a line each. Pure.

use serde_json::{Map, Value};

use super::object::strip;

/// More lines than this help nobody.
const LINES: usize = 30;
/// Longer values are cut.
const LENGTH: usize = 200;

/// What differs: `spec.replicas: 1 → 2`. Values that are, or look like, secrets are shown as `***`.
/// Empty when nothing does.
pub fn lines(live: &Value, wanted: &Value) -> Vec<String> {
    let (mut live, mut wanted) = (live.clone(), wanted.clone());
    strip(&mut live);
    strip(&mut wanted);
    let secret = wanted.get("kind").and_then(Value::as_str) == Some("Secret");
    let mut walk = Walk { lines: Vec::new(), secret };
    walk.compare("", Some(&live), Some(&wanted), false);
    let more = walk.lines.len().saturating_sub(LINES);
    walk.lines.truncate(LINES);
    if more > 0 {
        walk.lines.push(format!("and {more} more"));
    }
    walk.lines
}

struct Walk {
    lines: Vec<String>,
    /// The object is a Secret: its data is never shown.
    secret: bool,
}

impl Walk {
    fn compare(&mut self, path: &str, live: Option<&Value>, wanted: Option<&Value>, masked: bool) {
        if live == wanted {
            return;
        }
        match (live, wanted) {
            (Some(Value::Object(live)), Some(Value::Object(wanted))) => {
                let masked = masked || named_secret(live) || named_secret(wanted);
                for key in live.keys().chain(wanted.keys().filter(|key| !live.contains_key(*key))) {
                    let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    let masked = masked
                        || self.secret
                            && path.is_empty()
                            && matches!(key.as_str(), "data" | "stringData");
                    self.compare(&below, live.get(key), wanted.get(key), masked);
                }
            }
            (Some(Value::Array(live)), Some(Value::Array(wanted))) => {
                self.compare_lists(path, live, wanted, masked)
            }
            (live, wanted) => {
                let masked =
                    masked || [live, wanted].iter().any(|side| side.is_some_and(holds_secret));
                let shown = |side: Option<&Value>| {
                    side.map_or_else(|| "none".into(), |value| shown(value, masked))
                };
                self.lines.push(format!("{path}: {} → {}", shown(live), shown(wanted)));
            }
        }
    }

    /// Elements that have names (containers, variables, ports, volumes) are told apart by them,
    /// others by their place.
    fn compare_lists(&mut self, path: &str, live: &[Value], wanted: &[Value], masked: bool) {
        match (names(live), names(wanted)) {
            (Some(before), Some(after)) => {
                let at = |names: &[&str], list: &'_ [Value], name: &str| {
                    names.iter().position(|known| *known == name).map(|index| list[index].clone())
                };
                let lines = self.lines.len();
                for name in before.iter().chain(after.iter().filter(|name| !before.contains(*name)))
                {
                    let (old, new) = (at(&before, live, name), at(&after, wanted, name));
                    self.compare(&format!("{path}[{name}]"), old.as_ref(), new.as_ref(), masked);
                }
                if self.lines.len() == lines {
                    self.lines.push(format!(
                        "{path}: {} → {}",
                        before.join(", "),
                        after.join(", ")
                    ));
                }
            }
            _ => {
                for index in 0..live.len().max(wanted.len()) {
                    self.compare(
                        &format!("{path}[{index}]"),
                        live.get(index),
                        wanted.get(index),
                        masked,
                    );
                }
            }
        }
    }
}

/// The `name` of each element, when each has one of its own.
fn names(list: &[Value]) -> Option<Vec<&str>> {
    let names: Option<Vec<&str>> =
        list.iter().map(|element| element.get("name")?.as_str()).collect();
    let names = names?;
    let own = names.iter().enumerate().all(|(index, name)| !names[..index].contains(name));
    own.then_some(names)
}

/// An environment variable whose name says that its value is not for everybody's eyes.
fn named_secret(object: &Map<String, Value>) -> bool {
    let name = object.get("name").and_then(Value::as_str).unwrap_or_default().to_ascii_uppercase();
    object.contains_key("value")
        && ["SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL", "PRIVATE", "API_KEY", "APIKEY"]
            .iter()
            .any(|word| name.contains(word))
}

fn holds_secret(value: &Value) -> bool {
    match value {
        Value::Object(object) => named_secret(object) || object.values().any(holds_secret),
        Value::Array(list) => list.iter().any(holds_secret),
        _ => false,
    }
}

fn shown(value: &Value, masked: bool) -> String {
    if masked {
        return "***".into();
    }
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_difference_is_one_line() {
        let cases = [
            ("equal", json!({"a": 1, "b": [1, 2]}), json!({"b": [1, 2], "a": 1}), vec![]),
            (
                "changed",
                json!({"spec": {"replicas": 1}}),
                json!({"spec": {"replicas": 2}}),
                vec!["spec.replicas: 1 → 2"],
            ),
            (
                "added",
                json!({"spec": {}}),
                json!({"spec": {"x": {"y": true}}}),
                vec!["spec.x: none → {\"y\":true}"],
            ),
            ("removed", json!({"a": "x"}), json!({}), vec!["a: x → none"]),
            ("kind", json!({"a": [1]}), json!({"a": "x"}), vec!["a: [1] → x"]),
            (
                "by name",
                json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}),
                json!({"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}),
                vec![
                    "env[A]: {\"name\":\"A\",\"value\":\"1\"} → none",
                    "env[B].value: 2 → 3",
                    "env[C]: none → {\"name\":\"C\",\"value\":\"4\"}",
                ],
            ),
            (
                "order of names",
                json!({"env": [{"name": "A"}, {"name": "B"}]}),
                json!({"env": [{"name": "B"}, {"name": "A"}]}),
                vec!["env: A, B → B, A"],
            ),
            (
                "by place",
                json!({"a": [1, 2]}),
                json!({"a": [1, 3, 4]}),
                vec!["a[1]: 2 → 3", "a[2]: none → 4"],
            ),
            (
                "two of one name",
                json!({"a": [{"name": "x", "v": 1}, {"name": "x", "v": 2}]}),
                json!({"a": [{"name": "x", "v": 1}, {"name": "x", "v": 3}]}),
                vec!["a[1].v: 2 → 3"],
            ),
            (
                "what the server writes",
                json!({"metadata": {"name": "a", "uid": "1", "resourceVersion": "1", "generation": 1}, "status": {"x": 1}}),
                json!({"metadata": {"name": "a", "generation": 2, "managedFields": [{}]}}),
                vec![],
            ),
            (
                "a Secret's data",
                json!({"kind": "Secret", "data": {"a": "b2xk"}, "type": "Opaque"}),
                json!({"kind": "Secret", "data": {"a": "bmV3", "b": "eA=="}, "type": "Other"}),
                vec!["data.a: *** → ***", "data.b: none → ***", "type: Opaque → Other"],
            ),
            (
                "a variable named like a secret",
                json!({"env": [{"name": "DB_PASSWORD", "value": "old"}]}),
                json!({"env": [{"name": "DB_PASSWORD", "value": "new"}, {"name": "API_TOKEN", "value": "t"}]}),
                vec!["env[DB_PASSWORD].value: *** → ***", "env[API_TOKEN]: none → ***"],
            ),
            (
                "a list that did not exist, with a secret in it",
                json!({}),
                json!({"env": [{"name": "A_TOKEN", "value": "t"}]}),
                vec!["env: none → ***"],
            ),
        ];
        for (name, live, wanted, expected) in cases {
            assert_eq!(lines(&live, &wanted), expected, "{name}");
        }
    }

    #[test]
    fn what_is_long_is_cut() {
        let shown = lines(&json!({"a": "x"}), &json!({"a": "é".repeat(500)}));
        assert_eq!(shown, [format!("a: x → {}…", "é".repeat(LENGTH))]);
        let many: Vec<Value> = (0..100).map(|n| json!(n)).collect();
        let shown = lines(&json!({"a": []}), &json!({ "a": many }));
        assert_eq!(
            (shown.len(), shown.last().map(String::as_str)),
            (LINES + 1, Some("and 70 more"))
        );
    }
}
