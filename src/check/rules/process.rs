//! Rules for the process that runs in the image. Pure.

use super::facts::{DockerfileFacts, Said};

pub fn find_shell_forms(facts: &DockerfileFacts<'_>) -> Vec<Said> {
    let mut said = Vec::new();
    for one in ["ENTRYPOINT", "CMD"].into_iter().filter_map(|keyword| facts.last(keyword)) {
        let fix = format!(
            "{} [\"program\", \"argument\"], or [\"sh\", \"-c\", \"exec program $ARGUMENT\"]",
            one.keyword
        );
        match one.exec_form().as_deref() {
            // A shell that is replaced by the service keeps nothing from it.
            None if replaces_shell(&one.text) => {}
            None if !one.text.is_empty() => {
                said.push((
                    one.line,
                    format!(
                        "{} is run by a shell, which keeps SIGTERM from the \
                    service: each stop takes until it is killed",
                        one.keyword
                    ),
                    fix,
                ));
            }
            Some([shell, option, script, ..])
                if is_shell(shell)
                    && option.starts_with('-')
                    && option.contains('c')
                    && !replaces_shell(script) =>
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

/// Whether a script replaces its shell with the service: `exec program`.
fn replaces_shell(script: &str) -> bool {
    script.split(['&', ';', '|', '\n']).any(|command| {
        let words: Vec<&str> = command.split_whitespace().collect();
        let begins = |before: &&str| ["then", "else", "do", "{"].contains(before);
        let at = words.iter().position(|word| *word == "exec");
        at.is_some_and(|at| {
            at == 0 || words[..at].iter().all(|one| begins(one) || one.contains('='))
        })
    })
}

pub fn is_shell(program: &str) -> bool {
    ["sh", "bash", "dash", "ash"].contains(&program.rsplit('/').next().unwrap_or(program))
}

pub fn find_root_user(facts: &DockerfileFacts<'_>) -> Vec<Said> {
    let stages = facts.shipped();
    let Some(stage) = stages.last() else { return Vec::new() };
    let fix = "USER 10001:10001 before CMD";
    match facts.last("USER") {
        Some(user) => {
            let whole = facts.image().user;
            let name = whole.split(':').next().unwrap_or_default();
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

pub fn find_development_servers(facts: &DockerfileFacts<'_>) -> Vec<Said> {
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
            said.push((
                one.line,
                format!("`{sign}` is for a developer's machine"),
                "run the \
                server itself: `uvicorn app.main:app`, `node server.js`; what differs in debug \
                mode is the mode variable's"
                    .into(),
            ));
        }
    }
    said
}
