//! YAML → types, with errors that name the line, the column and the nearest known key. Pure.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_saphyr::Error as Yaml;

use crate::error::{Error, Place, Result};

/// Reads `text` as a `T`; `file` is only named in errors.
pub fn parse<T: DeserializeOwned>(text: &str, file: &Path) -> Result<T> {
    serde_saphyr::from_str(text).map_err(|error| explain(error.without_snippet(), text, file))
}

fn explain(error: &Yaml, text: &str, file: &Path) -> Error {
    let explained = match error {
        Yaml::SerdeUnknownField { field, expected, .. } => {
            let unknown = Error::input(format!("cannot read this map: unknown key `{field}`"));
            match nearest(field, expected) {
                Some(known) => unknown.fix(format!("did you mean `{known}`?")),
                None => unknown.fix(format!("known keys here: {}", list(expected))),
            }
        }
        Yaml::SerdeMissingField { field, .. } => {
            Error::input(format!("cannot read this map: `{field}` is missing"))
                .fix(format!("add `{}`", example(field)))
        }
        Yaml::SerdeUnknownVariant { variant, expected, .. } => {
            let known = list(expected);
            Error::input(format!("cannot read this value: `{variant}` is not one of {known}")).fix(
                nearest(variant, expected).map_or_else(
                    || "use one of these".into(),
                    |near| format!("did you mean `{near}`?"),
                ),
            )
        }
        Yaml::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("?");
            Error::input(format!("cannot read this map: key `{key}` stands twice"))
                .fix("keep one of them")
        }
        Yaml::InvalidScalar { ty, location } => wrong_type(ty, text, location.line()),
        Yaml::Unexpected { expected, location } => wrong_type(expected, text, location.line()),
        Yaml::SerdeInvalidValue { expected, location, .. }
        | Yaml::SerdeInvalidType { expected, location, .. } => {
            wrong_type(expected, text, location.line())
        }
        Yaml::Eof { .. } => Error::input("cannot read the file: it is empty, or ends too early")
            .fix("see docs/service.md for what it may say"),
        other => Error::input(format!("cannot read what stands here: {}", message(other)))
            .fix("see docs/service.md and docs/platform.md for what stands where"),
    };
    match error.location() {
        Some(location) => explained.at(Place {
            file: file.into(),
            line: location.line(),
            column: location.column(),
        }),
        None => explained.at(Place { file: file.into(), line: 1, column: 1 }),
    }
}

/// A value of a wrong type, in the words of who writes YAML; `wanted` is the parser's name of the
/// type.
fn wrong_type(wanted: &str, text: &str, line: u64) -> Error {
    let wanted = match wanted {
        "u16" | "a nonzero u16" => "a whole number from 1 to 65535",
        "u8" => "a whole number from 0 to 255",
        "u32" | "u64" => "a whole number, 0 or more",
        "bool" | "boolean" => "true or false",
        "mapping start" => "a map: `key: value`, or `{}` for none",
        "sequence start" => "a list: `[a, b]`, or `[]` for none",
        "string scalar" | "string" => "a text",
        other => other,
    };
    let line = usize::try_from(line)
        .ok()
        .and_then(|line| text.lines().nth(line.checked_sub(1)?))
        .unwrap_or_default();
    let key = line
        .trim_start()
        .trim_start_matches("- ")
        .split([':', '='])
        .next()
        .unwrap_or_default()
        .trim();
    let error = Error::input(format!("cannot read this value: it must be {wanted}"));
    match key {
        "" => error.fix(format!("write {wanted}")),
        _ if line.contains(['{', '['])
            && !line.trim_end().ends_with(['[', '{'])
            && line.contains(": {") =>
        {
            error.fix(format!("write {wanted} there"))
        }
        key => error.fix(
            match wanted.contains("number") || wanted.contains("true") || wanted.contains("text") {
                true => format!("like `{}`", example(key)),
                false => format!("write `{key}` as {wanted}"),
            },
        ),
    }
}

/// The parser's own message without the place it repeats at the end.
fn message(error: &Yaml) -> String {
    let text = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    let text = text.lines().next().unwrap_or_default();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_string(),
        None => text.to_string(),
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// The known name nearest to `name`, when one is near enough to be what was meant.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |candidate: &&&str| strsim::damerau_levenshtein(name, candidate);
    let best = known.iter().min_by_key(distance)?;
    (distance(&best) <= 1 + name.len() / 4).then_some(*best)
}

/// A line that would make a missing key good.
fn example(field: &str) -> String {
    match field {
        "name" => "name: my-service".into(),
        "port" => "port: 8000".into(),
        "path" => "path: /healthz".into(),
        "account" => "account: \"111122223333\"".into(),
        "region" => "region: eu-west-1".into(),
        "target" => "target: eks".into(),
        "replicas" => "replicas: 2".into(),
        other => format!("{other}: …"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::platform::Platform;
    use crate::config::service::Service;
    use crate::error::Kind;

    fn service(text: &str) -> String {
        show(parse::<Service>(text, Path::new("service.yaml")).map(|_| ()))
    }
    fn platform(text: &str) -> String {
        show(parse::<Platform>(text, Path::new("platform.yaml")).map(|_| ()))
    }
    fn show(result: Result<()>) -> String {
        match result {
            Ok(()) => "ok".into(),
            Err(error) => {
                assert_eq!(error.kind, Kind::Input);
                format!("{error} | {}", error.advice())
            }
        }
    }

    #[test]
    fn errors_name_the_place_and_the_fix() {
        let cases: &[(fn(&str) -> String, &str, &str)] = &[
            (service, "name: patients\nport: 8000\n", "ok"),
            (
                service,
                "name: patients\nprot: 8000\n",
                "service.yaml:2:1: cannot read this map: unknown key `prot` | did you mean `port`?",
            ),
            (
                service,
                "name: patients\n",
                "service.yaml:1:1: cannot read this map: `port` is missing | add `port: 8000`",
            ),
            (
                service,
                "name: patients\nport: 8000\nhealth: {pth: /x}\n",
                "service.yaml:3:10: cannot read this map: unknown key `pth` | did you mean `path`?",
            ),
            (
                service,
                "name: patients\nport: 8000\nenvironments:\n  staging: {replica: 2}\n",
                "service.yaml:4:13: cannot read this map: unknown key `replica` | did you mean `replicas`?",
            ),
            (
                service,
                "name: patients\nport: 8000\nenvironments: {staging: {mode: debgu}}\n",
                "service.yaml:3:32: cannot read this value: `debgu` is not one of `debug`, `production` | did you mean `debug`?",
            ),
            (
                service,
                "name: patients\nport: 8000\ncontract: {rules: {non-rot: warn}}\n",
                "service.yaml:3:20: cannot read this map: unknown key `non-rot` | did you mean `non-root`?",
            ),
            (
                service,
                "name: patients\nport: 8000\ncontract: {rules: {non-root: warning}}\n",
                "service.yaml:3:30: cannot read this value: `warning` is not one of `off`, `warn`, `fail` | use one of these",
            ),
            (
                service,
                "name: patients\nport: 1\nsecrets: {DB_PASSWORD: hunter2}\n",
                "service.yaml:3:24: cannot read what stands here: this is not a secret reference: write secretsmanager:NAME#KEY, ssm:/PATH or k8s:SECRET/KEY, never the value itself | see docs/service.md and docs/platform.md for what stands where",
            ),
            (
                service,
                "name: patients\nport: 1\nenv:\n  - DB_PASSWORD=hunter2\n",
                "service.yaml:4:3: cannot read this value: it must be a map: `key: value`, or `{}` for none | write `DB_PASSWORD` as a map: `key: value`, or `{}` for none",
            ),
            (
                service,
                "name: patients\nname: b\nport: 1\n",
                "service.yaml:2:1: cannot read this map: key `name` stands twice | keep one of them",
            ),
            (
                platform,
                "registry: {account: \"111122223333\", region: eu-west-1}\nenvironments: {s: {target: esk, region: x}}\n",
                "platform.yaml:2:28: cannot read this value: `esk` is not one of `eks`, `ecs` | did you mean `eks`?",
            ),
        ];
        for (read, text, expected) in cases {
            assert_eq!(&read(text), expected, "{text}");
        }
    }

    #[test]
    fn a_bad_value_is_named_with_its_place() {
        let cases = [
            ("name: patients\nport: eighty\n", "service.yaml:2:7: "),
            ("name: patients\nport: 70000\n", "service.yaml:2:7: "),
            (
                "name: patients\nport: 0\n",
                "service.yaml:2:1: cannot read this value: it must be a whole number from 1 to 65535 | like `port: 8000`",
            ),
            (
                "name: patients\nport: eighty\n",
                "service.yaml:2:7: cannot read this value: it must be a whole number from 1 to 65535 | like `port: 8000`",
            ),
            (
                "name: p\nport: 1\nreplicas: -1\n",
                "service.yaml:3:11: cannot read this value: it must be a whole number, 0 or more | like `replicas: 2`",
            ),
            (
                "name: p\nport: 1\nenv: [a]\n",
                "service.yaml:3:6: cannot read this value: it must be a map: `key: value`, or `{}` for none | write `env` as a map",
            ),
            (
                "name: p\nport: 1\nmanifests: a.yaml\n",
                "service.yaml:3:12: cannot read this value: it must be a list: `[a, b]`, or `[]` for none",
            ),
            (
                "name: p\nport: 1\nversion: {allow-1-0: maybe}\n",
                "service.yaml:3:22: cannot read this value: it must be true or false",
            ),
            (
                "name: Patients\nport: 8000\n",
                "service.yaml:1:7: cannot read what stands here: `Patients` is not a DNS label",
            ),
            (
                "name: p\nport: 1\nresources: {memory: 5}\n",
                "service.yaml:3:21: cannot read what stands here: `5` is not an amount of memory",
            ),
            ("name: p\nport: 1\nsecrets: {A: hunter2}\n", "service.yaml:3:14: "),
            ("name: p\nport: 1\nenv: [a]\n", "service.yaml:3:6: "),
            ("name: p\nport: 1\nenv: {A: [b]}\n", "service.yaml:3:10: "),
            ("name: [\n", "service.yaml:"),
            ("", "service.yaml:"),
        ];
        for (text, start) in cases {
            let shown = service(text);
            assert!(!shown.ends_with("| "), "{text:?} has no fix: {shown}");
            assert!(shown.starts_with(start), "{text:?} gave {shown:?}, expected {start:?}…");
        }
        assert_eq!(service("name: p\nport: 1\nenv: {WORKERS: 2, ON: true}\n"), "ok");
    }

    #[test]
    fn nearest_is_near() {
        let known = ["port", "name", "health", "before-deploy"];
        let cases = [
            ("prot", Some("port")),
            ("before_deploy", Some("before-deploy")),
            ("helth", Some("health")),
            ("zzz", None),
            ("", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, &known), expected, "{name}");
        }
    }
}
