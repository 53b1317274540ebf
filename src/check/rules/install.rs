//! Rules for what a build installs and downloads. Pure.

use super::facts::{DockerfileFacts, Said};
use super::process::is_shell;

pub fn find_retired_installers(facts: &DockerfileFacts<'_>) -> Vec<Said> {
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

pub fn find_unlocked_installs(facts: &DockerfileFacts<'_>) -> Vec<Said> {
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

pub fn find_early_sources(facts: &DockerfileFacts<'_>) -> Vec<Said> {
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

pub fn find_unverified_downloads(facts: &DockerfileFacts<'_>) -> Vec<Said> {
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
