//! Rules for service.yaml: what is well formed, and must not stand there. Pure.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::{Finding, Level};
use crate::config::service::Service;
use crate::redact::classify_secret;

/// Finds secrets that are written into service.yaml, where everybody reads them who reads the
/// repository, the plan, or the image's history. `text` is the file, which the lines are looked up
/// in.
pub fn lint_service(service: &Service, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (place, key, value, cure) in list_values(service) {
        let Some(what) = classify_secret(&key, &value) else { continue };
        let line = find_line(text, &key, &value);
        if is_ignored(text, line, RULE) {
            continue;
        }
        let fix = match cure {
            Cure::Reference => format!(
                "keep it in a secret store, and name it there: \
                 `secrets: {{{key}: \"secretsmanager:NAME#KEY\"}}`"
            ),
            Cure::BuildSecret => format!(
                "hand it over as a build secret: `build-secrets: ['id={0},env={key}']` and \
                 `RUN --mount=type=secret,id={0} …` in the Dockerfile",
                key.to_lowercase()
            ),
            Cure::Remove => "take it out, and let the service read it from `secrets`".into(),
        };
        let fix = format!("{fix}; then replace it where it is valid: it stays in git's history");
        let message = format!("{place} holds {what} in the open");
        findings.push(Finding { rule: RULE, level: Level::Fail, line, message, fix });
    }
    findings
}

/// Another service of the same repository.
pub struct Neighbour {
    /// Its service.yaml, from the root of the repository.
    pub file: PathBuf,
    pub service: Service,
}

/// Finds services of the repository that count their versions on the same tags: each release of one
/// would be a version of the other. `file` is this service's own file, from the root. Services that
/// count the same commits are released together, and meant to.
pub fn lint_neighbours(
    service: &Service,
    text: &str,
    file: &Path,
    neighbours: &[Neighbour],
) -> Vec<Finding> {
    let counted = |file: &Path, service: &Service| -> BTreeSet<String> {
        let folder = file.parent().unwrap_or(Path::new(""));
        let places = service.version.paths.iter().map(|path| folder.join(path));
        places.map(|place| tidy(&place)).collect()
    };
    let own = counted(file, service);
    let shares = |other: &&Neighbour| {
        other.service.version.prefix == service.version.prefix
            && counted(&other.file, &other.service) != own
    };
    let Some(other) = neighbours.iter().find(shares) else { return Vec::new() };
    let line = (1..).zip(text.lines()).find(|(_, line)| line.starts_with("version:"));
    let line = line.map_or(1, |(number, _)| number);
    if is_ignored(text, line, "tags-shared") {
        return Vec::new();
    }
    vec![Finding {
        rule: "tags-shared",
        level: Level::Warn,
        line,
        message: format!(
            "{} has the same version.prefix `{}`: a release of one counts as a version of the other",
            other.file.display(),
            service.version.prefix
        ),
        fix: format!("give each service tags of its own: version: {{prefix: {}-v}}", service.name),
    }]
}

/// A path without its `.` and `..`.
fn tidy(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    parts.join("/")
}

const RULE: &str = "secret-in-service";

/// What to do about a secret.
#[derive(Clone, Copy)]
enum Cure {
    Reference,
    BuildSecret,
    Remove,
}

/// Every free value of the file: where it stands, what it is called, the value.
fn list_values(service: &Service) -> Vec<(String, String, String, Cure)> {
    let mut values = Vec::new();
    let mut add = |place: String, key: &str, value: &str, cure: Cure| {
        values.push((place, key.to_string(), value.to_string(), cure));
    };
    for (key, value) in &service.env {
        add(format!("env.{key}"), key.as_str(), value, Cure::Reference);
    }
    for (name, overlay) in &service.environments {
        for (key, value) in &overlay.env {
            let place = format!("environments.{name}.env.{key}");
            add(place, key.as_str(), value, Cure::Reference);
        }
    }
    for (key, value) in &service.contract.env {
        // What stands in for a secret is called like one; only its shape tells that it is one.
        add(format!("contract.env.{key}"), "", value, Cure::Remove);
    }
    let image = &service.image;
    for (key, value) in &image.build_args {
        add(format!("image.build-args.{key}"), key.as_str(), value, Cure::BuildSecret);
    }
    for (key, value) in &image.labels {
        add(format!("image.labels.{key}"), key.as_str(), value, Cure::Remove);
    }
    for (key, value) in &image.contexts {
        add(format!("image.contexts.{key}"), "", value.as_str(), Cure::Remove);
    }
    for (key, value) in service.before_deploy.iter().flat_map(|before| options(&before.command)) {
        add("before-deploy.command".into(), key, value, Cure::Remove);
    }
    values
}

/// The words of a command, each with the option before it as its name.
fn options(command: &[String]) -> impl Iterator<Item = (&str, &str)> {
    let names = std::iter::once("").chain(command.iter().map(String::as_str));
    let is_option = |name: &str| name.starts_with('-') && !name.contains('=');
    names.zip(command).map(move |(name, word)| (if is_option(name) { name } else { "" }, &**word))
}

/// The line that a value stands at: with its key where there is one like that, else with the value.
fn find_line(text: &str, key: &str, value: &str) -> u64 {
    let shown = value.lines().next().unwrap_or_default();
    let has_key = |line: &str| !key.is_empty() && line.contains(key);
    let has_value = |line: &str| !shown.is_empty() && line.contains(shown);
    let position = |found: &dyn Fn(&str) -> bool| text.lines().position(found);
    let at = position(&|line| has_key(line) && has_value(line))
        .or_else(|| position(&has_value))
        .or_else(|| position(&has_key))
        .unwrap_or(0);
    at as u64 + 1
}

/// Whether the line above says `# cicd: ignore=secret-in-service`.
fn is_ignored(text: &str, line: u64, rule: &str) -> bool {
    let above = usize::try_from(line).ok().and_then(|line| line.checked_sub(2));
    let above = above.and_then(|above| text.lines().nth(above)).unwrap_or_default();
    let rules = above.trim().strip_prefix("# cicd: ignore=").unwrap_or_default();
    rules.split(',').any(|ignored| ignored.trim() == rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_share_their_tags_are_told_so() {
        struct Case {
            version: &'static str,
            other: &'static str,
            line: Option<u64>,
        }
        let cases = [
            Case { version: "", other: "", line: Some(1) },
            Case { version: "version: {prefix: b-v}\n", other: "", line: None },
            Case { version: "", other: "version: {prefix: a-v}\n", line: None },
            Case {
                version: "version: {prefix: s-v}\n",
                other: "version: {prefix: s-v}\n",
                line: Some(3),
            },
            // They count the same commits: one release is meant for both.
            Case {
                version: "version: {paths: [../..]}\n",
                other: "version: {paths: [../../]}\n",
                line: None,
            },
            Case {
                version: "version: {paths: [.]}\n",
                other: "version: {paths: [., ../b]}\n",
                line: Some(3),
            },
            Case {
                version: "# cicd: ignore=tags-shared\nversion: {floating: true}\n",
                other: "",
                line: None,
            },
        ];
        let read = |name: &str, version: &str| {
            let text = format!("name: {name}\nport: 1\n{version}");
            let service = crate::config::parse(&text, Path::new("service.yaml"));
            (service.expect("a service"), text)
        };
        for Case { version, other, line } in cases {
            let (service, text) = read("b", version);
            let file = PathBuf::from("services/a/service.yaml");
            let neighbours = [Neighbour { file, service: read("a", other).0 }];
            let own = Path::new("services/b/service.yaml");
            let findings = lint_neighbours(&service, &text, own, &neighbours);
            let found = findings.first().map(|finding| finding.line);
            assert_eq!(found, line, "{version} beside {other}");
        }
    }

    fn places(text: &str) -> Vec<String> {
        let text = format!("name: p\nport: 1\n{text}");
        let service = crate::config::parse(&text, Path::new("service.yaml")).expect("a service");
        let findings = lint_service(&service, &text);
        assert!(findings.iter().all(|finding| finding.level == Level::Fail));
        assert!(findings.iter().all(|finding| !finding.message.contains("hunter2")));
        let place = |finding: &Finding| {
            format!("{} {}", finding.line, finding.message.split(' ').next().unwrap_or_default())
        };
        findings.iter().map(place).collect()
    }

    #[test]
    fn a_secret_in_the_open_is_found() {
        struct Case {
            text: &'static str,
            found: &'static [&'static str],
        }
        let cases = [
            Case {
                text: "env:\n  LOG_LEVEL: info\n  DATABASE_PASSWORD: hunter2hunter2\n",
                found: &["5 env.DATABASE_PASSWORD"],
            },
            Case {
                text: "env: {DATABASE_URL: 'postgres://app:hunter2hunter2@db/app'}\n",
                found: &["3 env.DATABASE_URL"],
            },
            Case {
                text: "env: {AWS_SECRET_ACCESS_KEY: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY}\n",
                found: &["3 env.AWS_SECRET_ACCESS_KEY"],
            },
            Case {
                text: "environments:\n  staging:\n    env:\n      API_TOKEN: hunter2hunter2\n",
                found: &["6 environments.staging.env.API_TOKEN"],
            },
            Case {
                text: "image: {build-args: {NPM_TOKEN: hunter2}, labels: {org.x.token: hunter2}}\n",
                found: &["3 image.build-args.NPM_TOKEN", "3 image.labels.org.x.token"],
            },
            Case {
                text: "image: {contexts: {lib: 'https://x:hunter2@git.example/r.git'}}\n",
                found: &["3 image.contexts.lib"],
            },
            Case {
                text: "before-deploy: {command: [migrate, --db-password, hunter2hunter2]}\n",
                found: &["3 before-deploy.command"],
            },
            Case {
                text: "env: {OPTS: '-Dapi.token=hunter2hunter2', TOKEN_TTL: '3600'}\n",
                found: &["3 env.OPTS"],
            },
            Case {
                text: "secrets: {DB_PASSWORD: 'ssm:/a'}\n\
                       contract: {env: {DB_PASSWORD: hunter2hunter2}}\n",
                found: &[],
            },
            Case {
                text: "env: {REQUIRE_PASSWORD: 'true', DB_PASSWORD_FILE: /run/secrets/db}\n",
                found: &[],
            },
            Case {
                text: "env:\n  # cicd: ignore=secret-in-service\n  API_TOKEN: hunter2hunter2\n",
                found: &[],
            },
        ];
        for Case { text, found } in cases {
            assert_eq!(places(text), found, "{text}");
        }
    }
}
