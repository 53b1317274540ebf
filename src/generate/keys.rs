//! docs/reference.md: every key of the two files, from their schemas, with an example from
//! schema/*.example.yaml. Pure.

use std::fmt::Write;

use serde_json::Value;

use crate::error::{Error, Result};

/// What is said of each file before its keys.
const FILES: [(&str, &str, &str); 2] = [
    ("service.yaml", "service", include_str!("../../schema/service.example.yaml")),
    ("platform.yaml", "platform", include_str!("../../schema/platform.example.yaml")),
];

/// What the patterns of texts are called.
const SHAPES: [(&str, &str); 9] = [
    ("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", "DNS label"),
    ("^[A-Za-z_][A-Za-z0-9_]*$", "variable"),
    ("^/[^?#\\s]*$", "path"),
    ("^[0-9]+(ms|s|m|h)$", "time: `500ms`, `10s`, `5m`, `1h`"),
    ("^[0-9]+d$", "days: `14d`"),
    ("^[0-9]+(Mi|Gi)$", "size: `512Mi`, `2Gi`"),
    ("^([0-9]+m|[0-9]+(\\.[0-9]{1,3})?)$", "cores: `250m`, `0.5`, `2`"),
    ("^[0-9]{12}$", "12 digits, in quotes"),
    ("^linux/(amd64|arm64)$", "`linux/amd64`, `linux/arm64`"),
];

/// A key, as the table has it.
struct Row {
    key: String,
    kind: String,
    default: String,
    example: String,
    targets: String,
    means: String,
}

/// The page.
///
/// # Errors
/// Unexpected, when an example cannot be read or lacks a key.
pub fn render_page(service: &Value, platform: &Value) -> Result<String> {
    let mut text = String::from(
        "# Every key of service.yaml and platform.yaml\n\nGenerated from the schemas; `./dev fmt` writes it anew. What the keys are for, and \
         what goes together, is told in [service.md](service.md) and [platform.md](platform.md). `NAME` is a name of your own, `[]` each element of a \
         list. *Targets* are those that a key means something for: `eks`, `ecs` and `local`, the Docker engine of this machine.\n",
    );
    for ((title, name, example), schema) in FILES.into_iter().zip([service, platform]) {
        let example: Value = serde_saphyr::from_str(example).map_err(|error| {
            Error::unexpected(format!("cannot read the example of {title}")).why(error)
        })?;
        let mut page = Page { schema, file: title, rows: Vec::new() };
        page.list_keys(schema, &example, "", &Inherited { targets: "all", optional: false })?;
        let _ = write!(
            text,
            "\n## {title}\n\n[JSON schema](../schema/{name}.schema.json), [a file with every key](../schema/{name}.example.yaml).\n\n\
             | key | type | default | example | targets | means |\n|---|---|---|---|---|---|\n"
        );
        for row in page.rows {
            let Row { key, kind, default, example, targets, means } = row;
            let _ = writeln!(
                text,
                "| `{key}` | {kind} | {default} | {example} | {targets} | {means} |"
            );
        }
    }
    Ok(text)
}

/// What a key has from those above it.
struct Inherited<'a> {
    targets: &'a str,
    /// Its parent may be left out.
    optional: bool,
}

struct Page<'a> {
    schema: &'a Value,
    file: &'static str,
    rows: Vec<Row>,
}

impl<'a> Page<'a> {
    /// The definition behind references and `null`.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        if let Some(name) = schema["$ref"].as_str().and_then(|at| at.strip_prefix("#/$defs/")) {
            return self.resolve(&self.schema["$defs"][name]);
        }
        let choices = schema["anyOf"].as_array().into_iter().flatten();
        let mut real = choices.filter(|one| one["type"] != "null");
        match (real.next(), real.next()) {
            (Some(only), None) => self.resolve(only),
            // A switch or a map: the map has the keys.
            (Some(_), Some(map)) if map.get("$ref").is_some() => self.resolve(map),
            _ => schema,
        }
    }

    /// Adds the keys of an object, and of what is in them.
    fn list_keys(
        &mut self,
        object: &'a Value,
        example: &Value,
        above: &str,
        inherited: &Inherited<'_>,
    ) -> Result<()> {
        let required = |key: &str| {
            object["required"].as_array().is_some_and(|list| list.iter().any(|one| one == key))
        };
        for (key, schema) in object["properties"].as_object().into_iter().flatten() {
            let path = format!("{above}{key}");
            let example = &example[key];
            if example.is_null() {
                return Err(Error::unexpected(format!(
                    "cannot show `{path}` of {}: the example has none",
                    self.file
                )));
            }
            let targets = targets_of(schema).unwrap_or_else(|| inherited.targets.to_string());
            let found = self.resolve(schema);
            let optional = inherited.optional || !required(key) && schema.get("anyOf").is_some();
            let below = Inherited { targets: &targets, optional };
            let properties = found.get("properties").is_some();
            let values = found["patternProperties"].as_object().and_then(|map| map.values().next());
            let element = values.map(|of| (format!("{path}.NAME."), of, first_value(example)));
            let element = element.or_else(|| {
                let items = found.get("items")?;
                Some((format!("{path}[]."), items, &example[0]))
            });
            let element = element.map(|(path, of, example)| (path, self.resolve(of), example));
            match element {
                _ if properties => {
                    let path = format!("{path}.");
                    self.list_keys(found, example, &path, &below)?;
                }
                Some((path, of, example)) if of.get("properties").is_some() => {
                    self.list_keys(of, example, &path, &Inherited { optional: true, ..below })?;
                }
                _ => {
                    let default = match (required(key), schema.get("default")) {
                        (true, _) if inherited.optional => "required in it".to_string(),
                        (true, _) => "required".to_string(),
                        (false, None | Some(Value::Null)) => "none".to_string(),
                        (false, Some(value)) => show_value(value),
                    };
                    let means = describe(schema).or_else(|| describe(found)).unwrap_or_default();
                    self.rows.push(Row {
                        key: path,
                        kind: self.name_kind(found),
                        default,
                        example: show_value(example),
                        targets,
                        means,
                    });
                }
            }
        }
        Ok(())
    }

    /// A schema in words.
    fn name_kind(&self, schema: &'a Value) -> String {
        let schema = self.resolve(schema);
        let choices = list_choices(schema);
        if !choices.is_empty() {
            return choices.join(", ");
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => {
                kinds.iter().find(|kind| *kind != "null").and_then(Value::as_str)
            }
            kind => kind.as_str(),
        };
        match kind {
            Some("array") => format!("list: {}", self.name_kind(&schema["items"])),
            Some("object") => {
                let patterns = schema["patternProperties"].as_object();
                let value = patterns.and_then(|map| map.values().next());
                let value = value.or_else(|| schema.get("additionalProperties"));
                format!("map: NAME → {}", value.map_or("text".into(), |of| self.name_kind(of)))
            }
            Some("boolean") => "`true`, `false`".into(),
            Some("integer") => "number".into(),
            Some("string" | "number") => {
                let pattern = schema["pattern"].as_str().unwrap_or_default();
                let shape = SHAPES.iter().find(|(known, _)| *known == pattern);
                let shape = shape.map(|(_, words)| *words);
                let date = (schema["format"] == "date").then_some("day: `2027-01-31`");
                shape.or(date).unwrap_or("text").to_string()
            }
            _ => "text".into(),
        }
    }
}

/// The words that a value may be.
fn list_choices(schema: &Value) -> Vec<String> {
    let one_of = schema["oneOf"].as_array().into_iter().flatten();
    let all = std::iter::once(schema).chain(one_of);
    let words =
        all.flat_map(|one| one["enum"].as_array().into_iter().flatten().chain(one.get("const")));
    words.filter_map(|word| Some(format!("`{}`", word.as_str()?))).collect()
}

/// The targets that a key is for, where it is not for all.
fn targets_of(schema: &Value) -> Option<String> {
    let targets = schema["x-targets"].as_array()?.iter().filter_map(Value::as_str);
    Some(targets.collect::<Vec<_>>().join(", "))
}

fn describe(schema: &Value) -> Option<String> {
    let text = schema["description"].as_str()?.replace('\n', " ").replace('|', "\\|");
    Some(text.trim_end_matches('.').to_string())
}

fn first_value(map: &Value) -> &Value {
    map.as_object().and_then(|map| map.values().next()).unwrap_or(&Value::Null)
}

/// A value as YAML on one line, in code.
fn show_value(value: &Value) -> String {
    let text = match value {
        Value::String(text) if text.is_empty() => "\"\"".to_string(),
        Value::String(text) if is_plain(text) => text.clone(),
        value => value.to_string(),
    };
    format!("`{}`", text.replace('|', "\\|"))
}

/// Whether YAML takes a text without quotes for itself.
fn is_plain(text: &str) -> bool {
    text.parse::<f64>().is_err() && !text.starts_with(['*', '[', '{', '"']) && !text.contains(": ")
}
