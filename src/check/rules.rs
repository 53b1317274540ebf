//! The rules a service's Dockerfile has to keep: those that matter for what the pipeline does with
//! it. Pure.
//!
//! Style, and what only makes an image larger, is hadolint's.

use super::dockerfile::{Dockerfile, Instruction, KEYWORDS, Stage};
use super::{Finding, Level};

/// What rules look at.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    pub dockerfile: &'a Dockerfile,
    /// `image.target` of service.yaml.
    pub target: Option<&'a str>,
    pub port: u16,
    /// The text of .dockerignore, when there is one.
    pub ignore: Option<&'a str>,
}

impl Facts<'_> {
    fn shipped(&self) -> Vec<Stage<'_>> {
        self.dockerfile.shipped(self.target)
    }

    /// The last instruction of that kind that holds in the shipped image.
    fn last(&self, keyword: &str) -> Option<&Instruction> {
        let stages = self.dockerfile.shipped(self.target);
        let found = stages
            .iter()
            .find_map(|stage| stage.instructions.iter().rev().find(|one| one.keyword == keyword))?;
        self.dockerfile.instructions.iter().find(|one| one.line == found.line)
    }

    fn all<'a>(&'a self, keywords: &'a [&str]) -> impl Iterator<Item = &'a Instruction> {
        self.dockerfile.instructions.iter().filter(|one| keywords.contains(&one.keyword.as_str()))
    }
}

/// What a rule says of one line: the line, what is there, what to write instead.
type Said = (u64, String, String);
type Rule = fn(&Facts<'_>) -> Vec<Said>;

/// Every rule, by its name.
const RULES: [(&str, Level, Rule); 17] = [
    ("broken-continuation", Level::Fail, broken_continuation),
    ("unknown-instruction", Level::Fail, unknown_instruction),
    ("unknown-target", Level::Fail, unknown_target),
    ("base-deprecated", Level::Fail, base_deprecated),
    ("base-ended", Level::Warn, base_ended),
    ("base-unpinned", Level::Warn, base_unpinned),
    ("retired-installer", Level::Fail, retired_installer),
    ("secret-in-image", Level::Fail, secret_in_image),
    ("secret-copied", Level::Fail, secret_copied),
    ("context-unfiltered", Level::Warn, context_unfiltered),
    ("shell-form", Level::Warn, shell_form),
    ("runs-as-root", Level::Warn, runs_as_root),
    ("port-differs", Level::Warn, port_differs),
    ("development-server", Level::Warn, development_server),
    ("unlocked-install", Level::Warn, unlocked_install),
    ("sources-before-dependencies", Level::Warn, sources_before_dependencies),
    ("unverified-download", Level::Warn, unverified_download),
];

/// What the rules find, by line.
pub fn lint(facts: &Facts<'_>) -> Vec<Finding> {
    let ignored = |line: u64, rule: &str| {
        let one = facts
            .dockerfile
            .instructions
            .iter()
            .find(|one| one.lines.iter().any(|(own, _)| *own == line));
        one.is_some_and(|one| one.ignored.iter().any(|ignored| ignored == rule))
    };
    let mut findings: Vec<Finding> = RULES
        .iter()
        .flat_map(|(rule, level, look)| {
            look(facts).into_iter().map(|(line, message, fix)| Finding {
                rule,
                level: *level,
                line,
                message,
                fix,
            })
        })
        .filter(|finding| !ignored(finding.line, finding.rule))
        .collect();
    findings.sort_by_key(|finding| finding.line);
    findings
}

fn broken_continuation(facts: &Facts<'_>) -> Vec<Said> {
    let mut said = Vec::new();
    for one in &facts.dockerfile.instructions {
        if ["&&", "||", "|", ";"].contains(&one.keyword.as_str()) || one.keyword.starts_with("--") {
            let fix = format!("end line {} with ` \\`", one.line.saturating_sub(1));
            said.push((
                one.line,
                format!(
                    "`{}` begins an instruction: the line before does not go on",
                    one.lines[0].1
                ),
                fix,
            ));
        }
        if one.continues {
            let last = one.lines.last().map_or(one.line, |(line, _)| *line);
            said.push((
                last,
                "the last line ends with the sign that it goes on".into(),
                "take the `\\` away".into(),
            ));
        }
        // These take an instruction as their argument.
        let takes = ["HEALTHCHECK", "ONBUILD"].contains(&one.keyword.as_str());
        for (line, text) in one.lines.iter().skip(1).filter(|_| !takes) {
            let first = text.split_whitespace().next().unwrap_or_default();
            // In upper case, as everybody writes them: `copy` may well be a command.
            if !one.text.contains("<<") && KEYWORDS.contains(&first) && text.contains(' ') {
                let message = format!(
                    "`{first}` is taken for a part of {} of line {}, which goes on before it",
                    one.keyword, one.line
                );
                said.push((*line, message, "take the `\\` before it away".into()));
            }
        }
        for (line, text) in
            one.lines.iter().filter(|_| one.keyword == "RUN" && !one.text.contains("<<"))
        {
            // A backslash inside a line is an escaped space for the shell: a line break was lost
            // there.
            if text.contains("&& \\ ") || text.contains("| \\ ") || text.contains("; \\ ") {
                said.push((
                    *line,
                    "a `\\` stands inside the line, where a line break was lost".into(),
                    "break the line after it".into(),
                ));
            }
        }
    }
    said
}

fn unknown_instruction(facts: &Facts<'_>) -> Vec<Said> {
    let known = |one: &&Instruction| {
        let sign = !one.keyword.starts_with(|c: char| c.is_ascii_alphabetic());
        sign || KEYWORDS.contains(&one.keyword.as_str())
    };
    let unknown = facts.dockerfile.instructions.iter().filter(|one| !known(one));
    unknown
        .map(|one| {
            let near = KEYWORDS
                .iter()
                .min_by_key(|known| strsim::damerau_levenshtein(&one.keyword, known))
                .unwrap_or(&"RUN");
            (
                one.line,
                format!("there is no instruction `{}`", one.keyword),
                format!("did you mean `{near}`? Or end the line before with ` \\`"),
            )
        })
        .collect()
}

fn unknown_target(facts: &Facts<'_>) -> Vec<Said> {
    match facts.target {
        Some(target) if facts.shipped().is_empty() => {
            let line = facts.all(&["FROM"]).last().map_or(1, |from| from.line);
            vec![(
                line,
                format!(
                    "no stage is named `{target}`, which `image.target` of service.yaml asks for"
                ),
                format!("`FROM … AS {target}`"),
            )]
        }
        _ => Vec::new(),
    }
}

/// The stages that begin with an image, not with a stage before them.
fn on_images(facts: &Facts<'_>) -> Vec<(u64, String)> {
    let stages = facts.dockerfile.stages();
    let names: Vec<&str> = stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
    stages
        .iter()
        .filter(|stage| {
            stage.base != "scratch"
                && !names.contains(&stage.base.as_str())
                && !stage.base.is_empty()
        })
        .map(|stage| (stage.from.line, stage.base.clone()))
        .collect()
}

/// An image's name without its registry's host and `library/`, and its tag.
fn name_and_tag(image: &str) -> (String, String) {
    let image = image.split('@').next().unwrap_or(image);
    let (name, tag) = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, ""),
    };
    let name = match name.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => name,
    };
    let name = name.trim_start_matches("docker/library/").trim_start_matches("library/");
    (name.to_string(), tag.to_string())
}

/// Why nobody should build on an image any more, whatever its version: its author gave it up.
pub fn deprecated(image: &str) -> Option<(String, String)> {
    let (name, _) = name_and_tag(image);
    match name.as_str() {
        name if name.starts_with("tiangolo/") => Some((
            format!("{name} is deprecated by its author"),
            "build on python:3.13-slim and run uvicorn itself: `cicd init --force` writes it, with the same variables"
                .into(),
        )),
        "centos" => Some(("centos is not published any more".into(), "FROM almalinux:10".into())),
        "openjdk" | "java" => {
            Some((format!("{name} is deprecated by its author"), "FROM eclipse-temurin:25-jre".into()))
        }
        _ => None,
    }
}

/// What gets no security fixes any more, as of November 2026. <https://endoflife.date>
fn ended(image: &str) -> Option<(String, String)> {
    let (name, tag) = name_and_tag(image);
    let old = ["jessie", "stretch", "buster", "bullseye"];
    if let Some(release) = old.iter().find(|release| tag.split('-').any(|part| part == **release)) {
        return Some((format!("Debian {release}"), "take the same image on trixie".into()));
    }
    let mut parts = tag.split(['.', '-']).map(str::parse::<u32>);
    let major = parts.next()?.ok()?;
    // `python:3` is the newest one.
    let minor = parts.next().and_then(Result::ok).unwrap_or(u32::MAX);
    let (what, fix) = match (name.as_str(), major, minor) {
        ("python", ..=2, _) | ("python", 3, ..=10) => ("Python", "FROM python:3.13-slim"),
        ("node", ..=21 | 23, _) => ("Node", "FROM node:24-slim"),
        ("golang", 1, ..=25) => ("Go", "FROM golang:1.27"),
        ("ubuntu", ..=20, _) => ("Ubuntu", "FROM ubuntu:24.04"),
        ("alpine", ..=2, _) | ("alpine", 3, ..=20) => ("Alpine", "FROM alpine:3.23"),
        _ => return None,
    };
    Some((format!("{what} {}", tag.split('-').next().unwrap_or(&tag)), fix.into()))
}

fn base_deprecated(facts: &Facts<'_>) -> Vec<Said> {
    let found = on_images(facts).into_iter();
    found
        .filter_map(|(line, image)| deprecated(&image).map(|(message, fix)| (line, message, fix)))
        .collect()
}

fn base_ended(facts: &Facts<'_>) -> Vec<Said> {
    let found = on_images(facts).into_iter();
    found
        .filter_map(|(line, image)| {
            ended(&image)
                .map(|(what, fix)| (line, format!("{what} gets no security fixes any more"), fix))
        })
        .collect()
}

fn base_unpinned(facts: &Facts<'_>) -> Vec<Said> {
    let unpinned = on_images(facts).into_iter().filter(|(_, image)| !image.contains("@sha256:"));
    unpinned
        .map(|(line, image)| {
            let (_, tag) = name_and_tag(&image);
            let message = match tag.as_str() {
                "" | "latest" => format!("{image} is another image every few weeks, and another version some day"),
                _ => format!("{image} is another image every few weeks: the same commit does not make the same image"),
            };
            (line, message, format!("pin its digest, and let Dependabot keep it fresh: FROM {image}@sha256:… (`docker buildx imagetools inspect {image}` says it)"))
        })
        .collect()
}

fn retired_installer(facts: &Facts<'_>) -> Vec<Said> {
    let retired = [
        (
            "get-poetry.py",
            "Poetry's get-poetry.py is gone: it answers 404",
            "RUN pip install poetry==2.5.1",
        ),
        (
            "install.python-poetry.org",
            "an installer is run that may change any day",
            "RUN pip install poetry==2.5.1",
        ),
        (
            "install-poetry.py",
            "Poetry's install-poetry.py is retired",
            "RUN pip install poetry==2.5.1",
        ),
        (
            "bootstrap.pypa.io/2.",
            "pip for Python 2 is retired",
            "build on python:3.13-slim, which has pip",
        ),
        ("easy_install", "easy_install is retired", "pip install"),
        ("setup.py install", "`setup.py install` is retired", "pip install ."),
        (
            "apt-key ",
            "apt-key is retired",
            "put the key into /etc/apt/keyrings and name it by signed-by",
        ),
        (
            "deb.nodesource.com/setup_",
            "the script of NodeSource is run unseen",
            "COPY --from=node:24-slim /usr/local/bin/node /usr/local/bin/node",
        ),
    ];
    let mut said = Vec::new();
    for one in facts.all(&["RUN", "ADD"]) {
        for (line, text) in &one.lines {
            if let Some((_, message, fix)) = retired.iter().find(|(word, ..)| text.contains(word)) {
                said.push((*line, (*message).to_string(), (*fix).to_string()));
            }
        }
    }
    said
}

/// Whether a variable of this name holds a secret, as far as its name says.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_uppercase();
    let harmless = [
        "_FILE",
        "_PATH",
        "_URL",
        "_ID",
        "_NAME",
        "_TTL",
        "_ALGORITHM",
        "_MINUTES",
        "_SECONDS",
        "_LIFETIME",
        "_LENGTH",
        "_LIMIT",
        "_HEADER",
        "_TYPE",
        "_ISSUER",
        "_AUDIENCE",
        "_SIZE",
        "_COUNT",
        "_EXPIRY",
        "_EXPIRES",
        "_ENABLED",
        "_REQUIRED",
        "_POLICY",
        "PUBLIC_KEY",
    ];
    let parts: Vec<&str> = name.split('_').collect();
    let is = |word: &str| parts.contains(&word);
    let key = is("KEY")
        && [
            "API",
            "SECRET",
            "PRIVATE",
            "ACCESS",
            "SIGNING",
            "ENCRYPTION",
            "SSH",
            "DEPLOY",
            "MASTER",
        ]
        .iter()
        .any(|word| is(word));
    let secret = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIALS", "APIKEY"]
        .iter()
        .any(|word| is(word))
        || key;
    name == "AWS_ACCESS_KEY_ID" || secret && !harmless.iter().any(|end| name.ends_with(end))
}

/// Whether a value of such a variable is no secret after all: a switch, a small number, or a
/// stand-in for a build that asks for some value. Also asked by the image contract.
pub fn is_stand_in(value: &str) -> bool {
    const LONGEST: usize = 24;
    let value = value.trim_matches(['"', '\'']).to_lowercase();
    let switches = ["true", "false", "yes", "no", "on", "off", "none", "null"];
    let stand_ins = ["dummy", "placeholder", "changeme", "fake", "example", "test", "build"];
    let phrases = ["change-me", "change_me", "not-set", "not_set"];
    let number = value.len() < 6 && value.bytes().all(|byte| byte.is_ascii_digit());
    let letters = value.len() <= LONGEST
        && value.bytes().all(|byte| byte.is_ascii_lowercase() || b"-_ ".contains(&byte));
    let says = value.split(['-', '_', ' ']).any(|word| stand_ins.contains(&word))
        || phrases.iter().any(|phrase| value.contains(phrase));
    number || switches.contains(&value.as_str()) || letters && says
}

fn secret_in_image(facts: &Facts<'_>) -> Vec<Said> {
    let mut said = Vec::new();
    for one in facts.all(&["ARG", "ENV", "LABEL"]) {
        for (name, value) in one.pairs() {
            // An ARG gets its value at the build, where `docker history` shows it; an ENV without
            // value is none.
            let is_argument = one.keyword == "ARG";
            let has_value =
                value.as_deref().is_some_and(|value| !value.is_empty() && !is_stand_in(value))
                    || is_argument;
            if is_secret_name(&name) && has_value {
                let fix = format!(
                    "for the build: `build-secrets: ['id={0},env={name}']` in service.yaml and `RUN --mount=type=secret,id={0} …`; \
                     for the running service: `secrets: {{{name}: …}}` in service.yaml",
                    name.to_lowercase()
                );
                said.push((
                    one.line,
                    format!("{} {name} stays readable in the image's history", one.keyword),
                    fix,
                ));
            }
        }
    }
    said
}

/// Whether a file of this path holds a secret, as far as its name says. Also asked by the image
/// contract.
pub fn is_secret_file(path: &str) -> bool {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or(path);
    let sample =
        [".example", ".sample", ".template", ".dist"].iter().any(|end| name.ends_with(end));
    let names = [
        ".env",
        ".npmrc",
        ".pypirc",
        ".netrc",
        ".git-credentials",
        ".dockercfg",
        "id_rsa",
        "id_dsa",
        "id_ecdsa",
        "id_ed25519",
        "credentials.json",
        "service-account.json",
    ];
    let ends = [".p12", ".pfx", ".jks", ".kdbx"];
    let below = path.ends_with(".aws/credentials")
        || path.ends_with(".docker/config.json")
        || path.ends_with(".kube/config");
    !sample
        && (names.contains(&name)
            || name.starts_with(".env.")
            || ends.iter().any(|end| name.ends_with(end))
            || below
            || name.ends_with("-key.pem")
            || name == "key.pem"
            || name == "private.pem")
}

fn secret_copied(facts: &Facts<'_>) -> Vec<Said> {
    let mut said = Vec::new();
    for one in facts.all(&["COPY", "ADD"]) {
        for source in one.sources().into_iter().filter(|source| {
            is_secret_file(source) || source.trim_end_matches('/').ends_with(".git")
        }) {
            said.push((one.line, format!("{source} stays in a layer, also when it is deleted later"), "take it as a build secret: `RUN --mount=type=secret,id=…`; .git is not needed: VERSION and REVISION are build arguments".into()));
        }
    }
    said
}

/// Whether the patterns of a .dockerignore, or a .gitignore, leave out the path `name` at the
/// context's root.
pub fn leaves_out(ignore: &str, name: &str) -> bool {
    let mut out = false;
    for pattern in
        ignore.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (pattern, excepted) = match pattern.strip_prefix('!') {
            Some(pattern) => (pattern, true),
            None => (pattern, false),
        };
        let pattern = pattern.trim_start_matches("**/").trim_start_matches("./").trim_matches('/');
        let pattern = pattern.trim_end_matches("/**").trim_end_matches("/*");
        let matches = match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
            (Some(start), _) => name.starts_with(start.trim_end_matches('*')),
            (None, Some(end)) => name.ends_with(end),
            (None, None) => pattern == name,
        };
        if matches {
            out = !excepted;
        }
    }
    out
}

fn context_unfiltered(facts: &Facts<'_>) -> Vec<Said> {
    let whole = |one: &&Instruction| {
        one.sources().iter().any(|source| matches!(source.as_str(), "." | "./" | "/" | "*" | "./*"))
    };
    let Some(one) = facts.all(&["COPY", "ADD"]).find(whole) else { return Vec::new() };
    let left: Vec<&str> = [".git", ".env"]
        .into_iter()
        .filter(|name| !facts.ignore.is_some_and(|ignore| leaves_out(ignore, name)))
        .collect();
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

fn shell_form(facts: &Facts<'_>) -> Vec<Said> {
    let mut said = Vec::new();
    for one in ["ENTRYPOINT", "CMD"].into_iter().filter_map(|keyword| facts.last(keyword)) {
        let fix = format!(
            "{} [\"program\", \"argument\"], or [\"sh\", \"-c\", \"exec program $ARGUMENT\"]",
            one.keyword
        );
        match one.exec_form().as_deref() {
            None if !one.text.is_empty() => {
                said.push((one.line, format!("{} is run by a shell, which keeps SIGTERM from the service: each stop takes until it is killed", one.keyword), fix));
            }
            Some([shell, option, script, ..])
                if is_shell(shell)
                    && option.starts_with('-')
                    && option.contains('c')
                    && !script.contains("exec ") =>
            {
                said.push((
                    one.line,
                    "the shell stays before the service and keeps SIGTERM from it".into(),
                    fix,
                ));
            }
            _ => {}
        }
    }
    said
}

fn is_shell(program: &str) -> bool {
    ["sh", "bash", "dash", "ash"].contains(&program.rsplit('/').next().unwrap_or(program))
}

fn runs_as_root(facts: &Facts<'_>) -> Vec<Said> {
    let stages = facts.shipped();
    let Some(stage) = stages.last() else { return Vec::new() };
    let fix = "USER 10001:10001 before CMD";
    match facts.last("USER") {
        Some(user) => {
            let name = user.text.split(':').next().unwrap_or_default();
            let root = ["root", "0"].contains(&name);
            root.then(|| (user.line, "the service runs as root".to_string(), fix.to_string()))
                .into_iter()
                .collect()
        }
        // Bases that say a user themselves say so in their tags.
        None if stage.base.contains("nonroot") || stage.base.contains("rootless") => Vec::new(),
        None => vec![(stages[0].from.line, "no USER: the service runs as root".into(), fix.into())],
    }
}

fn port_differs(facts: &Facts<'_>) -> Vec<Said> {
    let Some(one) = facts.last("EXPOSE") else { return Vec::new() };
    let stages = facts.shipped();
    let exposed =
        || stages.iter().flat_map(|stage| stage.instructions).filter(|one| one.keyword == "EXPOSE");
    let ports: Vec<&str> = exposed()
        .flat_map(|one| one.text.split_whitespace())
        .map(|port| port.split('/').next().unwrap_or(port))
        .collect();
    if ports.iter().any(|port| port.contains('$') || **port == facts.port.to_string()) {
        return Vec::new();
    }
    vec![(
        one.line,
        format!("EXPOSE says {}, service.yaml says `port: {}`", ports.join(" "), facts.port),
        format!("EXPOSE {}", facts.port),
    )]
}

fn development_server(facts: &Facts<'_>) -> Vec<Said> {
    let signs = [
        "--reload",
        "flask run",
        "fastapi dev",
        "manage.py runserver",
        "npm run dev",
        "nodemon",
        "yarn dev",
        "pnpm dev",
    ];
    let mut said = Vec::new();
    for one in ["ENTRYPOINT", "CMD"].into_iter().filter_map(|keyword| facts.last(keyword)) {
        let command = one.commands();
        if let Some(sign) = signs.iter().find(|sign| command.contains(**sign)) {
            said.push((one.line, format!("`{sign}` is for a developer's machine"), "run the server itself: `uvicorn app.main:app`, `node server.js`; what differs in debug mode is the mode variable's".into()));
        }
    }
    said
}

fn unlocked_install(facts: &Facts<'_>) -> Vec<Said> {
    let cases: [(&str, &[&str], &str); 5] = [
        ("npm install", &["-g", "--global"], "npm ci"),
        ("npm i ", &["-g", "--global"], "npm ci"),
        ("yarn install", &["--immutable", "--frozen-lockfile"], "yarn install --immutable"),
        ("uv sync", &["--locked", "--frozen"], "uv sync --locked"),
        ("poetry update", &[], "poetry install"),
    ];
    let mut said = Vec::new();
    for one in facts.all(&["RUN"]) {
        let commands = one.commands();
        for command in
            commands.split(['&', ';', '|', '\n']).map(|command| format!("{} ", command.trim()))
        {
            let found = cases.iter().find(|(start, but, _)| {
                command.contains(start) && !but.iter().any(|flag| command.contains(flag))
            });
            if let Some((start, _, fix)) = found {
                said.push((
                    one.line,
                    format!("`{}` takes other versions tomorrow", start.trim()),
                    (*fix).to_string(),
                ));
            }
        }
    }
    said
}

fn sources_before_dependencies(facts: &Facts<'_>) -> Vec<Said> {
    let installs = [
        "pip install",
        "npm ci",
        "npm install",
        "uv sync",
        "poetry install",
        "pdm install",
        "pdm sync",
        "go mod download",
        "yarn install",
        "pnpm install",
    ];
    let mut said = Vec::new();
    for stage in facts.dockerfile.stages() {
        let whole = stage.instructions.iter().find(|one| {
            ["COPY", "ADD"].contains(&one.keyword.as_str())
                && one.sources().iter().any(|source| source == "." || source == "./")
        });
        let Some(whole) = whole else { continue };
        // The first one counts: a second, after the sources, installs the project itself.
        let install = stage.instructions.iter().find(|one| {
            one.keyword == "RUN" && installs.iter().any(|install| one.text.contains(install))
        });
        if let Some(install) = install.filter(|install| install.line > whole.line) {
            said.push((
                whole.line,
                format!(
                    "every change of a source installs all dependencies again (line {})",
                    install.line
                ),
                "copy the manifest and the lock file first, install, then copy the sources".into(),
            ));
        }
    }
    said
}

fn unverified_download(facts: &Facts<'_>) -> Vec<Said> {
    let mut said = Vec::new();
    for one in facts.all(&["ADD"]) {
        if one.text.contains("http")
            && one.text.contains("://")
            && !one.flags.iter().any(|flag| flag.starts_with("--checksum="))
        {
            said.push((
                one.line,
                "what is downloaded may change any day".into(),
                "ADD --checksum=sha256:… URL".into(),
            ));
        }
    }
    for one in facts.all(&["RUN"]) {
        let commands = one.commands();
        let piped = commands.split("&&").find(|command| {
            let downloads = command.contains("curl ") || command.contains("wget ");
            let runs = command.split('|').skip(1).any(|next| {
                let program =
                    next.split_whitespace().find(|word| *word != "sudo").unwrap_or_default();
                is_shell(program) || program.starts_with("python")
            });
            downloads && runs
        });
        if piped.is_some() {
            said.push((
                one.line,
                "a script from the network is run unseen".into(),
                "install a package of a fixed version, or ADD --checksum=sha256:… and run that"
                    .into(),
            ));
        }
    }
    said
}

#[cfg(test)]
mod tests;
