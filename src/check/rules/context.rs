//! Rules for what stands beside a Dockerfile: its build context, .dockerignore, and service.yaml.
//! Pure.

use super::facts::{ContextFiles, DockerfileFacts, Said};
use crate::check::dockerfile::Instruction;
use crate::check::shipped::ContextSource;
use crate::dockerignore::{Ignore, clean_path, matches_glob};

/// A source of COPY that a build would not find, and whether .dockerignore is why.
struct Missing {
    source: ContextSource,
    is_ignored: bool,
}

fn list_missing(facts: &DockerfileFacts<'_>) -> Vec<Missing> {
    let Some(context) = &facts.context else { return Vec::new() };
    let rules = Ignore::parse(facts.ignore.unwrap_or_default());
    let sources = facts.dockerfile.context_sources(facts.target, &facts.arguments);
    sources
        .into_iter()
        // What the file does not say of a path is not looked for, and BuildKit takes it that a
        // pattern matches nothing: `COPY package.json yarn.lock* ./`.
        .filter(|source| !source.path.contains('$') && !is_pattern(&source.path))
        .filter_map(|source| {
            let found = find_paths(context, &source.path);
            if found.is_empty() {
                return Some(Missing { source, is_ignored: false });
            }
            let is_ignored = found.iter().all(|path| rules.prunes(path));
            is_ignored.then_some(Missing { source, is_ignored })
        })
        .collect()
}

/// Whether a source of COPY may stand for several paths.
pub fn is_pattern(source: &str) -> bool {
    source.contains(['*', '?', '['])
}

/// The paths of the context that a source of COPY stands for.
fn find_paths<'a>(context: &'a ContextFiles, source: &str) -> Vec<&'a str> {
    // `./`, which is the whole context, is always there.
    let path = clean_path(source);
    if path.is_empty() {
        return vec![""];
    }
    if let Some(exact) = context.paths.get(&path) {
        return vec![exact];
    }
    // An escaped name: `COPY a\*.txt ./`
    let all = context.paths.iter().filter(|_| path.contains('\\')).map(String::as_str);
    all.filter(|own| matches_glob(&path, own)).collect()
}

pub fn find_missing_sources(facts: &DockerfileFacts<'_>) -> Vec<Said> {
    let missing = list_missing(facts).into_iter().filter(|one| !is_made_elsewhere(facts, one));
    missing
        .map(|Missing { source, is_ignored }| {
            let path = source.path;
            match is_ignored {
                true => (
                    source.line,
                    format!("{path} is not in the build context: .dockerignore leaves it out"),
                    format!("add to .dockerignore: !{}", clean_path(&path)),
                ),
                false => (
                    source.line,
                    format!("{path} is not in the build context: there is no such file or folder"),
                    "name it from `image.context` of service.yaml, or set that to the folder that \
                     the Dockerfile is written for: `image: {context: ../..}`"
                        .into(),
                ),
            }
        })
        .collect()
}

/// A file that git leaves out is made by something: by a step before the build, maybe.
fn is_made_elsewhere(facts: &DockerfileFacts<'_>, missing: &Missing) -> bool {
    let ignore = facts.context.as_ref().and_then(|context| context.git_ignore.as_deref());
    !missing.is_ignored
        && ignore.is_some_and(|ignore| Ignore::parse_git(ignore).leaves_out(&missing.source.path))
}

pub fn find_unmade_sources(facts: &DockerfileFacts<'_>) -> Vec<Said> {
    let unmade = list_missing(facts).into_iter().filter(|one| is_made_elsewhere(facts, one));
    unmade
        .map(|Missing { source, .. }| {
            (
                source.line,
                format!(
                    "{} is not there, and git leaves it out: it has to be made before each \
                         build",
                    source.path
                ),
                "make it in a stage of the Dockerfile: the pipeline runs nothing before the build"
                    .into(),
            )
        })
        .collect()
}

pub fn find_unfiltered_context(facts: &DockerfileFacts<'_>) -> Vec<Said> {
    let whole = |one: &&Instruction| {
        one.sources().iter().any(|source| matches!(source.as_str(), "." | "./" | "/" | "*" | "./*"))
    };
    let Some(one) = facts.all(&["COPY", "ADD"]).find(whole) else { return Vec::new() };
    let rules = Ignore::parse(facts.ignore.unwrap_or_default());
    let mut left: Vec<&str> = Vec::new();
    if !rules.leaves_out(".git") {
        left.push(".git");
    }
    let below = |name: &str| {
        let end = format!("/{name}");
        let mut paths = facts.context.iter().flat_map(|context| &context.paths);
        paths.any(|path| path.ends_with(&end) && !rules.leaves_out(path))
    };
    if !rules.leaves_out(".env") || below(".env") {
        left.push("**/.env");
    }
    if below("node_modules") {
        left.push("**/node_modules");
    }
    match left.as_slice() {
        [] => Vec::new(),
        left => vec![(
            one.line,
            format!(
                "the whole context is copied, and .dockerignore does not leave out {}",
                left.join(" and ")
            ),
            format!("add to .dockerignore:\n{}", left.join("\n")),
        )],
    }
}

pub fn find_other_port(facts: &DockerfileFacts<'_>) -> Vec<Said> {
    let image = facts.image();
    let port = facts.port;
    let mut said = Vec::new();
    // A variable that the file does not say may be any port.
    let is_unknown = image.ports.iter().any(|one| one.text.contains('$'));
    let exposed: Vec<_> = image.ports.iter().filter(|one| one.is_tcp).collect();
    if let (Some(last), false) = (exposed.last(), is_unknown)
        && !exposed.iter().any(|one| one.contains(port))
    {
        let all: Vec<&str> = exposed.iter().map(|one| one.text.as_str()).collect();
        let message = format!("EXPOSE says {}, service.yaml says `port: {port}`", all.join(" "));
        said.push((last.line, message, format!("EXPOSE {port}")));
    }
    if let Some((own, line)) = image.port_of_command().filter(|(own, _)| *own != port) {
        said.push((
            line,
            format!("the command listens on {own}, service.yaml says `port: {port}`"),
            format!("set `port: {own}` in service.yaml, or let the command listen on {port}"),
        ));
    }
    said
}
