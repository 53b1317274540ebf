//! A repository with a Dockerfile of its own, which stays: what it says, and which folder it is
//! written for. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::mode::{ModeReading, choose_mode, is_mode_name};
use super::tree::{Above, Fact, SourceFacts};
use crate::check::dockerfile::Dockerfile;

/// A Dockerfile that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnDockerfile {
    /// Its path, from the service's folder.
    pub path: String,
    /// Its build context, from the service's folder: `.`, `../..`.
    pub context: String,
    /// The service's folder, from the context; empty where that is the folder itself.
    pub below: String,
    /// What it copies from the context.
    pub sources: Vec<String>,
    /// The context, where it is another folder, has a .dockerignore.
    pub is_filtered: bool,
}

/// What a Dockerfile copies from its context, as far as it says it itself.
pub fn list_copied(text: &str) -> Vec<String> {
    let sources = Dockerfile::parse(text).context_sources(None, &BTreeMap::new());
    let mut paths: Vec<String> = sources.into_iter().map(|source| source.path).collect();
    paths.retain(|path| !path.contains('$'));
    paths.dedup();
    paths
}

/// Reads a Dockerfile that stays.
pub fn read_own(
    path: &str,
    text: &str,
    here: &BTreeSet<String>,
    above: &[Above],
    notes: &mut Vec<String>,
) -> (OwnDockerfile, SourceFacts) {
    let sources = list_copied(text);
    let lacks = |found: &BTreeSet<String>| -> Vec<&str> {
        let missing = sources.iter().filter(|source| !found.contains(*source));
        missing.map(String::as_str).collect()
    };
    let missing = lacks(here);
    let fitting = above.iter().find(|above| lacks(&above.copied).is_empty());
    let place = match (missing.as_slice(), fitting) {
        ([], _) => None,
        (_, Some(fitting)) => {
            notes.push(format!(
                "{path} is written for {}: it copies {}, which is there and not here; \
                 `image.context` of service.yaml says so",
                fitting.path,
                missing.join(", ")
            ));
            Some(fitting)
        }
        (missing, None) => {
            notes.push(format!(
                "{path} copies {}, which is not in the build context: set `image.context` of \
                 service.yaml to the folder that it is written for, or make it before the build",
                missing.join(", ")
            ));
            None
        }
    };
    let own = OwnDockerfile {
        path: path.to_string(),
        context: place.map_or(".".to_string(), |place| place.path.clone()),
        below: place.map_or(String::new(), |place| place.below.clone()),
        is_filtered: place.is_some_and(|place| place.files.contains_key(".dockerignore")),
        sources,
    };
    (own, describe_image(path, text, notes))
}

/// What the image says of itself: EXPOSE, then the command's flags, the health check, PORT.
fn describe_image(path: &str, text: &str, notes: &mut Vec<String>) -> SourceFacts {
    let image = Dockerfile::parse(text).ship(None, &BTreeMap::new());
    let exposed = image.tcp_ports();
    if let [(first, _), others @ ..] = exposed.as_slice()
        && others.iter().any(|(other, _)| other != first)
    {
        let all: Vec<String> = exposed.iter().map(|(port, _)| port.to_string()).collect();
        notes.push(format!(
            "{path} exposes the ports {}: service.yaml has the first one, {first}; correct `port` \
             if the service answers on another",
            all.join(", ")
        ));
    }
    let health = image.health.as_ref();
    let told = || {
        let (text, line) = image.environment.get("PORT")?;
        Some((text.parse().ok()?, *line))
    };
    let asked = || health.and_then(|health| Some((health.port?, health.line)));
    let port =
        exposed.first().copied().or_else(|| image.port_of_command()).or_else(asked).or_else(told);
    let readings: Vec<ModeReading> = image
        .environment
        .iter()
        .filter(|(name, _)| is_mode_name(name))
        .map(|(name, (value, line))| ModeReading {
            variable: name.clone(),
            values: vec![value.clone()],
            closed: false,
            is_any_text: false,
            file: path.to_string(),
            line: *line,
        })
        .collect();
    SourceFacts {
        port: port.map(|(port, line)| Fact::read(port, path, line)),
        health: health.and_then(|health| Some(Fact::read(health.path.clone()?, path, health.line))),
        mode: choose_mode(&readings),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(paths: &[&str]) -> BTreeSet<String> {
        paths.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_context_is_where_the_sources_are() {
        let text = "FROM x\nCOPY services/api/a.txt ./\nCOPY $X y\nCOPY services/api/app app\n";
        let all = ["services/api/a.txt", "services/api/app"];
        let above = |path: &str, below: &str, copied: &[&str]| Above {
            path: path.into(),
            below: below.into(),
            copied: set(copied),
            ..Above::default()
        };
        struct Case {
            here: BTreeSet<String>,
            above: Vec<Above>,
            context: &'static str,
            notes: usize,
        }
        let cases = [
            Case { here: set(&all), above: vec![], context: ".", notes: 0 },
            Case {
                here: set(&[]),
                above: vec![above("..", "api", &[]), above("../..", "services/api", &all)],
                context: "../..",
                notes: 1,
            },
            Case { here: set(&all[..1]), above: vec![], context: ".", notes: 1 },
        ];
        for Case { here, above, context, notes: count } in cases {
            let mut notes = Vec::new();
            let (own, _) = read_own("Dockerfile", text, &here, &above, &mut notes);
            assert_eq!((own.context.as_str(), notes.len()), (context, count), "{notes:?}");
        }
    }

    #[test]
    fn the_image_says_port_health_and_mode() {
        struct Case {
            text: &'static str,
            port: Option<u16>,
            health: Option<&'static str>,
            notes: usize,
        }
        let case = |text, port, health, notes| Case { text, port, health, notes };
        let cases = [
            case("CMD [\"x\"]", None, None, 0),
            case("EXPOSE 8080\nEXPOSE 9090", Some(8080), None, 1),
            case("EXPOSE 8080/tcp\nEXPOSE 8125/udp", Some(8080), None, 0),
            case("HEALTHCHECK CMD curl http://localhost:8080/ready", Some(8080), Some("/ready"), 0),
            case("CMD [\"uvicorn\", \"a:b\", \"--port\", \"81\"]", Some(81), None, 0),
            case("ENV PORT=82", Some(82), None, 0),
        ];
        for Case { text, port, health, notes: count } in cases {
            let mut notes = Vec::new();
            let facts = describe_image("Dockerfile", &format!("FROM x\n{text}\n"), &mut notes);
            assert_eq!(facts.port.map(|fact| fact.value), port, "{text}");
            assert_eq!(facts.health.map(|fact| fact.value).as_deref(), health, "{text}");
            assert_eq!(notes.len(), count, "{text}");
        }
        let facts = describe_image("Dockerfile", "FROM x\nENV NODE_ENV=production\n", &mut vec![]);
        assert_eq!(facts.mode.map(|mode| mode.value.debug).as_deref(), Some("development"));
    }
}
