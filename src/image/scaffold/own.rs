//! A repository with a Dockerfile of its own, which stays: what it says, and which folder it is
//! written for. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::mode::{ModeReading, choose_mode, is_mode_name};
use super::tree::{Above, Fact, SourceFacts, Tree};
use crate::check::dockerfile::{Dockerfile, words as words_of};
use crate::check::rules::is_pattern;
use crate::check::shipped::{ShippedImage, find_port};

/// A Dockerfile that stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnDockerfile {
    /// Its path, from the service's folder.
    pub path: String,
    /// Its build context, from the service's folder: `.`, `../..`.
    pub context: String,
    /// The service's folder, from the context; empty where that is the folder itself.
    pub below: String,
    /// The stage to build, where that is not the last one.
    pub target: Option<String>,
    /// What it copies from the context.
    pub sources: Vec<String>,
    /// It has an ignore file by its own name, which BuildKit prefers, or its context, where that
    /// is another folder, has one.
    pub is_filtered: bool,
}

/// What a Dockerfile copies from its context, as far as it says it itself.
pub fn list_copied(text: &str) -> Vec<String> {
    let dockerfile = Dockerfile::parse(text);
    let target = choose_target(&dockerfile);
    let sources = dockerfile.context_sources(target.as_deref(), &BTreeMap::new());
    let mut paths: Vec<String> = sources.into_iter().map(|source| source.path).collect();
    paths.retain(|path| !path.contains('$'));
    paths.dedup();
    paths
}

/// The stage that is shipped, where the last one is a developer's.
fn choose_target(dockerfile: &Dockerfile) -> Option<String> {
    let aside =
        ["dev", "develop", "development", "debug", "test", "tests", "testing", "lint", "ci"];
    let shipped = ["production", "prod", "runtime", "release", "final", "runner", "deploy", "app"];
    let names: Vec<String> =
        dockerfile.stages().into_iter().map(|stage| stage.name.unwrap_or_default()).collect();
    let lower = |name: &str| name.to_lowercase();
    names.last().filter(|last| aside.contains(&lower(last).as_str()))?;
    shipped.iter().find_map(|name| names.iter().find(|own| lower(own) == *name)).cloned()
}

/// Reads a Dockerfile that stays.
pub fn read_own(
    path: &str,
    text: &str,
    tree: &Tree,
    here: &BTreeSet<String>,
    above: &[Above],
    notes: &mut Vec<String>,
) -> (OwnDockerfile, SourceFacts) {
    let sources = list_copied(text);
    let lacks = |found: &BTreeSet<String>| -> Vec<&str> {
        // BuildKit takes it that a pattern matches nothing, as long as something is there.
        let counts = |source: &&String| !is_pattern(source) || found.is_empty();
        let missing = sources.iter().filter(|source| !found.contains(*source)).filter(counts);
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
    let target = choose_target(&Dockerfile::parse(text));
    if let Some(target) = &target {
        notes.push(format!(
            "the last stage of {path} is a developer's: `image.target` of service.yaml says {target}"
        ));
    }
    let facts = describe_image(path, text, target.as_deref(), tree, notes);
    let own = OwnDockerfile {
        path: path.to_string(),
        target,
        context: place.map_or(".".to_string(), |place| place.path.clone()),
        below: place.map_or(String::new(), |place| place.below.clone()),
        is_filtered: tree.contains_key(&format!("{path}.dockerignore"))
            || place.is_some_and(|place| place.files.contains_key(".dockerignore")),
        sources,
    };
    (own, facts)
}

/// What the image says of itself: EXPOSE, then the command's flags, the health check, PORT.
fn describe_image(
    path: &str,
    text: &str,
    target: Option<&str>,
    tree: &Tree,
    notes: &mut Vec<String>,
) -> SourceFacts {
    let image = Dockerfile::parse(text).ship(target, &BTreeMap::new());
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
    if let Some(health) = health.filter(|health| health.is_https) {
        notes.push(format!(
            "{path}:{} asks the service by HTTPS: the platforms ask by HTTP, so that it has to \
             answer that too",
            health.line
        ));
    }
    let told = || {
        let (text, line) = image.environment.get("PORT")?;
        Some((text.parse().ok()?, *line))
    };
    let asked = || health.and_then(|health| Some((health.port?, health.line)));
    let here = |(port, line): (u16, u64)| Fact::read(port, path, line);
    let port = exposed.first().copied().or_else(|| image.port_of_command()).map(here);
    let port = port.or_else(|| find_script_port(&image, tree));
    let more = || asked().or_else(told).or_else(|| image.port_of_program());
    let port = port.or_else(|| more().map(here));
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
        port,
        health: health.and_then(|health| Some(Fact::read(health.path.clone()?, path, health.line))),
        mode: choose_mode(&readings),
    }
}

/// The port that a flag says in the shell script of the repository which the image runs.
fn find_script_port(image: &ShippedImage, tree: &Tree) -> Option<Fact<u16>> {
    let words = image.command().into_iter().flat_map(|command| &command.words);
    let names =
        words.filter(|word| word.ends_with(".sh")).filter_map(|word| word.rsplit('/').next());
    let mut scripts = names.filter_map(|name| {
        let end = format!("/{name}");
        tree.iter().find(|(path, _)| *path == name || path.ends_with(&end))
    });
    scripts.find_map(|(path, text)| {
        (1..).zip(text.lines()).find_map(|(line, one)| {
            let is_said = !one.trim_start().starts_with('#');
            let port = find_port(&words_of(one)).filter(|_| is_said)?;
            Some(Fact::read(port, path, line))
        })
    })
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
            let (own, _) = read_own("Dockerfile", text, &Tree::new(), &here, &above, &mut notes);
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
        let script = "#!/bin/sh\n# --port 1\nexec uvicorn a:b --port 83\n";
        let tree = Tree::from([("bin/start.sh".to_string(), script.to_string())]);
        let cases = [
            case("CMD [\"x\"]", None, None, 0),
            case("EXPOSE 8080\nEXPOSE 9090", Some(8080), None, 1),
            case("EXPOSE 8080/tcp\nEXPOSE 8125/udp", Some(8080), None, 0),
            case("HEALTHCHECK CMD curl http://localhost:8080/ready", Some(8080), Some("/ready"), 0),
            case("CMD [\"uvicorn\", \"a:b\", \"--port\", \"81\"]", Some(81), None, 0),
            case("ENV PORT=82", Some(82), None, 0),
            case("CMD [\"./start.sh\"]", Some(83), None, 0),
            case("CMD [\"flask\", \"run\"]", Some(5000), None, 0),
            case("HEALTHCHECK CMD curl https://localhost:84/up", Some(84), Some("/up"), 1),
        ];
        for Case { text, port, health, notes: count } in cases {
            let mut notes = Vec::new();
            let text = format!("FROM x\n{text}\n");
            let facts = describe_image("Dockerfile", &text, None, &tree, &mut notes);
            assert_eq!(facts.port.map(|fact| fact.value), port, "{text}");
            assert_eq!(facts.health.map(|fact| fact.value).as_deref(), health, "{text}");
            assert_eq!(notes.len(), count, "{text}");
        }
        let text = "FROM x\nENV NODE_ENV=production\n";
        let facts = describe_image("Dockerfile", text, None, &tree, &mut vec![]);
        assert_eq!(facts.mode.map(|mode| mode.value.debug).as_deref(), Some("development"));
    }

    #[test]
    fn a_last_stage_of_developers_is_not_shipped() {
        for (stages, target) in [
            (&["build", "production", "dev"][..], Some("production")),
            (&["Runner", "test"], Some("Runner")),
            (&["build", "test"], None),
            (&["dev", "production"], None),
            (&[""], None),
        ] {
            let text: String = stages
                .iter()
                .map(|name| match *name {
                    "" => "FROM x\n".to_string(),
                    name => format!("FROM x AS {name}\n"),
                })
                .collect();
            assert_eq!(choose_target(&Dockerfile::parse(&text)).as_deref(), target, "{stages:?}");
        }
    }
}
