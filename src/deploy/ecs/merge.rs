//! Two documents → one: what one of them lacks is taken from the other. Pure.

use serde_json::Value;

/// Copies fields of `from` that `to` has not, but for `ours`.
pub fn copy_absent(from: &Value, to: &mut Value, ours: &[&str]) {
    if let (Some(from), Some(to)) = (from.as_object(), to.as_object_mut()) {
        for (key, value) in from.iter().filter(|(key, _)| !ours.contains(&key.as_str())) {
            to.entry(key.as_str()).or_insert_with(|| value.clone());
        }
    }
}

/// Copies fields of `from` that `to` has not, at any depth.
pub fn copy_deep(from: &Value, to: &mut Value) {
    if let (Some(from), Some(to)) = (from.as_object(), to.as_object_mut()) {
        for (key, value) in from {
            copy_deep(value, to.entry(key.as_str()).or_insert_with(|| value.clone()));
        }
    }
}
