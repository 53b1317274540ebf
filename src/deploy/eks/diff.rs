//! What differs between an object as it is and as it would be, a line each. Pure.

use serde_json::Value;

use super::object::{LiveObject, strip};
use crate::deploy::diff::compare_documents;

/// What differs, without what the API server writes. The data of a Secret is never shown.
pub fn lines(live: &LiveObject, wanted: &LiveObject) -> Vec<String> {
    let as_written = |object: &LiveObject| {
        let mut value = serde_json::to_value(object).unwrap_or_default();
        strip(&mut value);
        value
    };
    let (live, wanted) = (as_written(live), as_written(wanted));
    let is_secret = |object: &Value| object.get("kind").and_then(Value::as_str) == Some("Secret");
    let hidden: &[&str] = match is_secret(&live) || is_secret(&wanted) {
        true => &["data", "stringData"],
        false => &[],
    };
    compare_documents(&live, &wanted, hidden)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dynamic(value: Value) -> LiveObject {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn what_the_server_writes_is_no_difference() {
        let live = json!({
            "metadata": {"name": "a", "uid": "1", "resourceVersion": "1", "generation": 1},
            "status": {"x": 1},
        });
        let wanted = json!({"metadata": {"name": "a", "generation": 2, "managedFields": [{}]}});
        assert!(lines(&dynamic(live), &dynamic(wanted)).is_empty());
    }

    #[test]
    fn the_data_of_a_secret_is_hidden_and_that_of_a_config_map_is_not() {
        let object = |kind: &str, value: &str| {
            dynamic(json!({"apiVersion": "v1", "kind": kind, "data": {"greeting": value}}))
        };
        let differ = |kind| lines(&object(kind, "a"), &object(kind, "b"));
        assert_eq!(differ("Secret"), ["data.greeting: *** → ***"]);
        assert_eq!(differ("ConfigMap"), ["data.greeting: a → b"]);
    }
}
