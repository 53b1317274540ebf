//! What differs between two documents of a target, a line each. Pure.
//!
//! The one differ of all targets, with secret masking: one rule says what a plan shows. A plan stands in logs,
//! outputs and summaries, and a value that is, or looks like, a secret is `***` in it.

use serde_json::Value;

use crate::redact::{self, HIDDEN};

/// More lines than this help nobody.
const LINES: usize = 30;
/// Longer values are cut, in characters.
const LENGTH: usize = 200;

/// What differs: `spec.replicas: 1 → 2`. Empty when nothing does. `hidden` are keys of the document
/// whose values are never shown.
pub fn compare_documents(old: &Value, new: &Value, hidden: &[&str]) -> Vec<String> {
    let mut walk = Walk { lines: Vec::new(), hidden };
    walk.compare("", "", Some(old), Some(new), false);
    // What goes is always said.
    let (mut shown, mut more) = (0, 0);
    walk.lines.retain(|line| {
        let is_shown = shown < LINES || line.ends_with(" → none");
        if is_shown {
            shown += 1
        } else {
            more += 1
        }
        is_shown
    });
    if more > 0 {
        walk.lines.push(format!("and {more} more"));
    }
    walk.lines
}

struct Walk<'a> {
    lines: Vec<String>,
    hidden: &'a [&'a str],
}

impl Walk<'_> {
    /// Compares what is at `path`, and called `name`: a key, or a variable's own name.
    fn compare(
        &mut self,
        path: &str,
        name: &str,
        old: Option<&Value>,
        new: Option<&Value>,
        masked: bool,
    ) {
        if old == new {
            return;
        }
        match (old, new) {
            (Some(Value::Object(before)), Some(Value::Object(after))) => {
                let added = after.keys().filter(|key| !before.contains_key(*key));
                for key in before.keys().chain(added) {
                    let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    let masked = masked || path.is_empty() && self.hidden.contains(&key.as_str());
                    let sides = (before.get(key), after.get(key));
                    let name = value_name(old, key).or(value_name(new, key)).unwrap_or(key);
                    self.compare(&below, name, sides.0, sides.1, masked);
                }
            }
            (Some(Value::Array(before)), Some(Value::Array(after))) => {
                self.compare_lists(path, name, before, after, masked)
            }
            (old, new) => {
                let is_secret = |side: Option<&Value>| side.is_some_and(|side| hides(name, side));
                let masked = masked || is_secret(old) || is_secret(new);
                self.lines.push(format!("{path}: {} → {}", shown(old, masked), shown(new, masked)));
            }
        }
    }

    /// Elements that have names (containers, variables, ports, volumes) are told apart by them,
    /// others by their place.
    fn compare_lists(
        &mut self,
        path: &str,
        name: &str,
        old: &[Value],
        new: &[Value],
        masked: bool,
    ) {
        let (Some(before), Some(after)) = (names(old), names(new)) else {
            for index in 0..old.len().max(new.len()) {
                let flag = [flag_before(old, index), flag_before(new, index)];
                let name = flag.into_iter().flatten().next().unwrap_or(name);
                let below = format!("{path}[{index}]");
                self.compare(&below, name, old.get(index), new.get(index), masked);
            }
            return;
        };
        let at = |names: &[&str], name: &str| names.iter().position(|known| *known == name);
        let lines = self.lines.len();
        let added = after.iter().filter(|name| !before.contains(*name));
        for element in before.iter().chain(added) {
            let (was, is) = (at(&before, element), at(&after, element));
            let sides = (was.map(|at| &old[at]), is.map(|at| &new[at]));
            let sides = lone_values(sides.0, sides.1).unwrap_or(sides);
            self.compare(&format!("{path}[{element}]"), element, sides.0, sides.1, masked);
        }
        if self.lines.len() == lines {
            let order = |names: &[&str]| names.join(", ");
            self.lines.push(format!("{path}: {} → {}", order(&before), order(&after)));
        }
    }
}

/// What tells the elements of a list apart.
const NAMES: [&str; 2] = ["name", "key"];

/// The name that a value has beside it: `{name: API_TOKEN, value: …}`.
fn value_name<'a>(object: Option<&'a Value>, key: &str) -> Option<&'a str> {
    let object = object.filter(|_| key == "value")?;
    NAMES.iter().find_map(|name| object.get(name)?.as_str())
}

/// The values of a variable that is nothing but a name and a value, on both sides.
fn lone_values<'a>(
    old: Option<&'a Value>,
    new: Option<&'a Value>,
) -> Option<(Option<&'a Value>, Option<&'a Value>)> {
    let value = |side: &'a Value, key: &str| {
        side.as_object().filter(|fields| fields.len() == 2).and_then(|fields| fields.get(key))
    };
    ["value", "valueFrom"].into_iter().find_map(|key| {
        let sides = (old.map(|side| value(side, key)), new.map(|side| value(side, key)));
        match sides {
            (None | Some(Some(_)), None | Some(Some(_))) => {
                Some((sides.0.flatten(), sides.1.flatten()))
            }
            _ => None,
        }
    })
}

/// The option whose value an element of a command is: `--token` before it.
fn flag_before(list: &[Value], index: usize) -> Option<&str> {
    let before = list.get(index.checked_sub(1)?)?.as_str()?;
    (before.starts_with('-') && !before.contains('=')).then_some(before)
}

/// The name of each element, when each has one of its own.
fn names(list: &[Value]) -> Option<Vec<&str>> {
    let of = |key: &str| -> Option<Vec<&str>> {
        list.iter().map(|element| element.get(key)?.as_str()).collect()
    };
    let names = NAMES.iter().find_map(|key| of(key))?;
    let own = names.iter().enumerate().all(|(index, name)| !names[..index].contains(name));
    own.then_some(names)
}

/// Whether a value, which is called `name`, is one that a plan hides, or has one in it.
fn hides(name: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => redact::is_hidden(name, text),
        Value::Number(number) => redact::is_hidden(name, &number.to_string()),
        Value::Object(object) => object
            .iter()
            .any(|(key, below)| hides(value_name(Some(value), key).unwrap_or(key), below)),
        Value::Array(list) => {
            let mut elements = list.iter().enumerate();
            elements.any(|(index, one)| hides(flag_before(list, index).unwrap_or(name), one))
        }
        Value::Bool(_) | Value::Null => false,
    }
}

/// A command as a log may show it.
pub fn show_command(command: &[String]) -> String {
    let mut shown = Value::from(command);
    hide_secrets("", &mut shown);
    let words = shown.as_array().into_iter().flatten().filter_map(Value::as_str);
    words.collect::<Vec<_>>().join(" ")
}

/// Puts `***` in the place of each value that a plan hides. `name` is what the value is called.
pub fn hide_secrets(name: &str, value: &mut Value) {
    let names: Vec<String> = match &*value {
        Value::Object(object) => {
            let name = |key: &String| value_name(Some(&*value), key).unwrap_or(key).to_string();
            object.keys().map(name).collect()
        }
        Value::Array(list) => {
            let name = |index| flag_before(list, index).unwrap_or(name).to_string();
            (0..list.len()).map(name).collect()
        }
        scalar if hides(name, scalar) => {
            *value = HIDDEN.into();
            return;
        }
        _ => return,
    };
    match value {
        Value::Object(object) => {
            object.values_mut().zip(names).for_each(|(below, name)| hide_secrets(&name, below))
        }
        Value::Array(list) => {
            list.iter_mut().zip(names).for_each(|(below, name)| hide_secrets(&name, below))
        }
        _ => {}
    }
}

fn shown(value: Option<&Value>, masked: bool) -> String {
    let text = match value {
        None | Some(Value::Null) => return "none".into(),
        Some(_) if masked => return HIDDEN.into(),
        Some(Value::String(text)) if text.is_empty() => return "\"\"".into(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
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

    struct Case {
        title: &'static str,
        old: Value,
        new: Value,
        lines: Vec<&'static str>,
    }

    fn check(cases: impl IntoIterator<Item = Case>) {
        for Case { title, old, new, lines } in cases {
            assert_eq!(compare_documents(&old, &new, &["data", "stringData"]), lines, "{title}");
        }
    }

    #[test]
    fn each_difference_is_one_line() {
        let case = |title, old, new, lines| Case { title, old, new, lines };
        check([
            case("equal", json!({"a": 1, "b": [1]}), json!({"b": [1], "a": 1}), vec![]),
            case(
                "changed",
                json!({"spec": {"replicas": 1}}),
                json!({"spec": {"replicas": 2}}),
                vec!["spec.replicas: 1 → 2"],
            ),
            case(
                "added",
                json!({"spec": {}}),
                json!({"spec": {"x": {"y": true}}}),
                vec!["spec.x: none → {\"y\":true}"],
            ),
            case("removed", json!({"a": "x"}), json!({}), vec!["a: x → none"]),
            case("emptied", json!({"a": "x"}), json!({"a": ""}), vec!["a: x → \"\""]),
            case("unset", json!({"a": null}), json!({"a": "x"}), vec!["a: none → x"]),
            case("kind", json!({"a": [1]}), json!({"a": "x"}), vec!["a: [1] → x"]),
            case(
                "by name",
                json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}),
                json!({"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}),
                vec!["env[A]: 1 → none", "env[B]: 2 → 3", "env[C]: none → 4"],
            ),
            case(
                "by key",
                json!({"tags": [{"key": "team", "value": "a"}, {"key": "x", "value": ""}]}),
                json!({"tags": [{"key": "team", "value": "b"}, {"key": "y", "z": 1}]}),
                vec![
                    "tags[team]: a → b",
                    "tags[x]: \"\" → none",
                    "tags[y]: none → {\"key\":\"y\",\"z\":1}",
                ],
            ),
            case(
                "another kind of value",
                json!({"env": [{"name": "A", "value": "1"}]}),
                json!({"env": [{"name": "A", "valueFrom": {"x": 1}}]}),
                vec!["env[A].value: 1 → none", "env[A].valueFrom: none → {\"x\":1}"],
            ),
            case(
                "order of names",
                json!({"env": [{"name": "A"}, {"name": "B"}]}),
                json!({"env": [{"name": "B"}, {"name": "A"}]}),
                vec!["env: A, B → B, A"],
            ),
            case(
                "by place",
                json!({"a": [1, 2]}),
                json!({"a": [1, 3, 4]}),
                vec!["a[1]: 2 → 3", "a[2]: none → 4"],
            ),
            case(
                "two of one name",
                json!({"a": [{"name": "x", "v": 1}, {"name": "x", "v": 2}]}),
                json!({"a": [{"name": "x", "v": 1}, {"name": "x", "v": 3}]}),
                vec!["a[1].v: 2 → 3"],
            ),
        ]);
    }

    #[test]
    fn a_secret_is_not_shown() {
        let case = |title, old, new, lines| Case { title, old, new, lines };
        let url = |password: &str| format!("postgres://app:{password}@db/app");
        check([
            case(
                "data of a Secret",
                json!({"data": {"a": "b2xk"}, "type": "Opaque"}),
                json!({"data": {"a": "bmV3", "b": "eA=="}, "type": "Other"}),
                vec!["data.a: *** → ***", "data.b: none → ***", "type: Opaque → Other"],
            ),
            case(
                "a variable in a list",
                json!({"env": [{"name": "DB_PASSWORD", "value": "old"}]}),
                json!({"env": [
                    {"name": "DB_PASSWORD", "value": "new"},
                    {"name": "API_TOKEN", "value": "t"}
                ]}),
                vec!["env[DB_PASSWORD]: *** → ***", "env[API_TOKEN]: none → ***"],
            ),
            case(
                "a list that was not there",
                json!({}),
                json!({"env": [{"name": "A_TOKEN", "value": "t"}]}),
                vec!["env: none → ***"],
            ),
            case(
                "a variable in a map",
                json!({"env": {"API_TOKEN": "old", "LOG_LEVEL": "info"}}),
                json!({"env": {"API_TOKEN": "new", "LOG_LEVEL": "debug"}}),
                vec!["env.API_TOKEN: *** → ***", "env.LOG_LEVEL: info → debug"],
            ),
            case(
                "a map that was not there",
                json!({}),
                json!({"env": {"API_TOKEN": "new"}}),
                vec!["env: none → ***"],
            ),
            case(
                "a URL with a password",
                json!({"env": {"DATABASE_URL": "postgres://db/app"}}),
                json!({"env": {"DATABASE_URL": url("hunter2")}}),
                vec!["env.DATABASE_URL: *** → ***"],
            ),
            case(
                "an option of a command",
                json!({"command": ["serve", "--token", "old", "--level", "a"]}),
                json!({"command": ["serve", "--token", "new", "--level", "b"]}),
                vec!["command[2]: *** → ***", "command[4]: a → b"],
            ),
            case(
                "inside of a text",
                json!({"config": "db:\n  password: hunter2hunter2\n"}),
                json!({"config": "db:\n  password: hunter3hunter3\n"}),
                vec!["config: *** → ***"],
            ),
            case(
                "a tag",
                json!({"tags": [{"key": "deploy-token", "value": "old"}]}),
                json!({"tags": [{"key": "deploy-token", "value": "new"}]}),
                vec!["tags[deploy-token]: *** → ***"],
            ),
            case(
                "options of a log driver",
                json!({"options": {"splunk-token": "a1b2", "splunk-url": "https://s", "apikey": "x9"}}),
                json!({"options": {"apikey": "y9"}}),
                vec![
                    "options.splunk-token: *** → none",
                    "options.splunk-url: https://s → none",
                    "options.apikey: *** → ***",
                ],
            ),
            case(
                "an option with its value",
                json!({"command": ["serve", "--token=hunter2hunter2"]}),
                json!({"command": ["serve"]}),
                vec!["command[1]: *** → none"],
            ),
            case(
                "a number",
                json!({"adminPassword": 12345678}),
                json!({"adminPassword": 87654321}),
                vec!["adminPassword: *** → ***"],
            ),
            case(
                "what only names a secret",
                json!({"secrets": {"DB_PASSWORD": "arn:aws:ssm:r:1:a"}, "secretName": "a"}),
                json!({"secrets": {"DB_PASSWORD": "arn:aws:ssm:r:1:b"}, "secretName": "b"}),
                vec![
                    "secrets.DB_PASSWORD: arn:aws:ssm:r:1:a → arn:aws:ssm:r:1:b",
                    "secretName: a → b",
                ],
            ),
            case(
                "a switch",
                json!({"automountServiceAccountToken": true}),
                json!({"automountServiceAccountToken": false}),
                vec!["automountServiceAccountToken: true → false"],
            ),
        ]);
    }

    #[test]
    fn what_is_long_is_cut() {
        let lines = |old, new| compare_documents(&old, &new, &[]);
        let shown = lines(json!({"a": "x"}), json!({"a": "é".repeat(500)}));
        assert_eq!(shown, [format!("a: x → {}…", "é".repeat(LENGTH))]);
        let many: Vec<Value> = (0..100).map(|n| json!(n)).collect();
        let gone = lines(json!({ "a": many }), json!({"a": []}));
        assert_eq!((gone.len(), gone.last().map(String::as_str)), (100, Some("a[99]: 99 → none")));
        let shown = lines(json!({"a": []}), json!({ "a": many }));
        assert_eq!(
            (shown.len(), shown.last().map(String::as_str)),
            (LINES + 1, Some("and 70 more"))
        );
    }
}
