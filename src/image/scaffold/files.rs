//! The files that a service needs, from what its repository is. Pure.

use super::facts::{Facts, Installer, Node, Python, Stack};

/// A file to write: its path, and its text.
pub type File = (String, String);

/// What we give every service to copy.
const WORKFLOW: &str = include_str!("../../../workflows/ci.yml");

/// The versions of the tools that the build stages install. Everything else comes from the project's own lock file.
const UV: &str = "uv==0.13.9";
const POETRY: &str = "poetry==2.5.1";
const PDM: &str = "pdm==2.29.4";
const FASTAPI: &str = "fastapi==0.165.0";
const UVICORN: &str = "uvicorn==0.54.0";

/// The image that the Dockerfile is built on, by its tag; none when there is nothing to pin.
pub fn base(stack: &Stack) -> Option<String> {
    match stack {
        Stack::Python(_) => Some("python:3.13-slim".into()),
        Stack::Node(_) => Some("node:24-slim".into()),
        Stack::Go { version, .. } => Some(format!("golang:{version}")),
        Stack::Own => None,
    }
}

/// The files, `base` being [`base`] with its digest where that is known. `.github/…` belongs to the root of the repository.
pub fn files(facts: &Facts, base: &str) -> Vec<File> {
    let mut files = vec![("service.yaml".to_string(), service(facts))];
    if let Some((dockerfile, ignore)) = image(facts, base) {
        files.push(("Dockerfile".into(), dockerfile));
        files.push((".dockerignore".into(), ignore));
    } else {
        files.push((".dockerignore".into(), deny("")));
    }
    files.push((".github/workflows/ci.yml".into(), WORKFLOW.to_string()));
    files
}

fn service(facts: &Facts) -> String {
    let Facts { name, port, health, mode, .. } = facts;
    let target = if facts.stack == Stack::Own { "" } else { "\nimage: {target: runtime}\n" };
    format!(
        "# What this service is; docs/service.md of clinicult/cicd has every key. Where it runs is in the organisation's platform.yaml.
name: {name}
port: {port}
health: {{path: {health}}}
mode: {{variable: {mode}, debug: debug, production: production}}
{target}
resources: {{cpu: 250m, memory: 512Mi}}

# The platform's environments, in the order in which a version goes through them:
# environments:
#   staging: {{mode: debug}}
#   production: {{replicas: 2}}
"
    )
}

/// The Dockerfile and its .dockerignore. No HEALTHCHECK: Kubernetes, ECS behind a load balancer and `cicd` itself ask the health
/// path from outside, and a second asker inside only costs.
fn image(facts: &Facts, base: &str) -> Option<File> {
    let head = "# Written by `cicd init`, and yours from here on.\n";
    let (text, ignore) = match &facts.stack {
        Stack::Python(python) => python_image(python, facts.port, base),
        Stack::Node(node) => (node_image(node, facts.port, base), deny("node_modules\n")),
        Stack::Go { package, .. } => (go_image(package, facts.port, base), deny("")),
        Stack::Own => return None,
    };
    let tail = "
# These differ in every build; down here they cost no layer.
ARG VERSION=0.0.0
ARG REVISION=unknown
ENV SERVICE_VERSION=${VERSION} \\
    SERVICE_REVISION=${REVISION}
";
    Some((format!("{head}{text}{tail}"), ignore))
}

/// A .dockerignore for contexts that are copied as a whole.
fn deny(more: &str) -> String {
    format!("# What must not get into the image.\n.git\n.github\n.env*\n**/*.pem\nDockerfile\ntarget\n{more}")
}

fn python_image(python: &Python, port: u16, base: &str) -> (String, String) {
    let Python { installer, app, main, sources, missing } = python;
    let tool = |tool: &str| {
        format!("RUN --mount=type=cache,target=/root/.cache/pip \\\n    pip install --root-user-action=ignore {tool}\n")
    };
    // In an environment of its own: what the tool needs is not to meet what the base image has.
    let apart = |tool: &str| {
        format!(
            "RUN --mount=type=cache,target=/root/.cache/pip \\\n    python -m venv /opt/tool && /opt/tool/bin/pip install {tool}\n"
        )
    };
    let (install, manifests) = match installer {
        Installer::Uv => (
            tool(UV)
                + "ENV UV_LINK_MODE=copy \\
    UV_PYTHON_DOWNLOADS=never \\
    UV_COMPILE_BYTECODE=1 \\
    PYC_INVALIDATION_MODE=UNCHECKED_HASH \\
    UV_NO_INSTALLER_METADATA=1
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache/uv \\
    uv sync --locked --no-dev --no-install-project
",
            ["pyproject.toml", "uv.lock"].as_slice(),
        ),
        Installer::Poetry => (
            apart(POETRY)
                + "ENV POETRY_VIRTUALENVS_IN_PROJECT=1
COPY pyproject.toml poetry.lock ./
RUN --mount=type=cache,target=/root/.cache/pypoetry \\
    /opt/tool/bin/poetry install --only main --no-root --no-interaction
",
            ["pyproject.toml", "poetry.lock"].as_slice(),
        ),
        Installer::Pdm => (
            apart(PDM)
                + "ENV PDM_CHECK_UPDATE=false
COPY pyproject.toml pdm.lock ./
RUN --mount=type=cache,target=/root/.cache/pdm \\
    /opt/tool/bin/pdm sync --prod --no-self
",
            ["pyproject.toml", "pdm.lock"].as_slice(),
        ),
        Installer::Pip => (
            "RUN [\"python\", \"-m\", \"venv\", \".venv\"]
COPY requirements.txt ./
RUN --mount=type=cache,target=/root/.cache/pip \\
    .venv/bin/pip install -r requirements.txt
"
            .to_string(),
            ["requirements.txt"].as_slice(),
        ),
    };
    let brought: Vec<&str> =
        missing.iter().map(|package| if *package == "fastapi" { FASTAPI } else { UVICORN }).collect();
    let install = match brought.as_slice() {
        [] => install,
        // In the same layer, as they are dependencies too.
        brought => {
            format!(
                "{} \\\n && pip --python .venv/bin/python install --no-cache-dir {}\n",
                install.trim_end(),
                brought.join(" ")
            )
        }
    };
    // Modules are found as they were: below src, and for the old image beside each other in ./app.
    let mut paths = vec!["/app".to_string()];
    paths.extend(
        sources.iter().filter(|source| *source == "src" || *source == "app").map(|source| format!("/app/{source}")),
    );
    let (variables, command) = match app {
        Some(app) => (
            format!(" \\\n    APP_MODULE={app} \\\n    LOG_LEVEL=info"),
            "# uvicorn reads WEB_CONCURRENCY, the number of its processes, itself.\nCMD [\"sh\", \"-c\", \"exec uvicorn \\\"$APP_MODULE\\\" --host 0.0.0.0 --port \\\"$PORT\\\" --log-level \\\"$LOG_LEVEL\\\" --timeout-graceful-shutdown 8\"]".to_string(),
        ),
        None => (String::new(), format!("CMD [\"python\", \"-m\", \"{main}\"]")),
    };
    let copies: String = sources.iter().map(|source| format!("COPY {source} {source}\n")).collect();
    let text = format!(
        "
# build: the dependencies, from the lock file, into /app/.venv.
FROM {base} AS build
WORKDIR /app
{install}

# runtime: what is shipped. Nothing in it is written to.
FROM {base} AS runtime
WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH \\
    PYTHONPATH={} \\
    PYTHONUNBUFFERED=1 \\
    PYTHONDONTWRITEBYTECODE=1 \\
    PORT={port}{variables}
COPY --from=build /app/.venv .venv
{copies}USER 10001:10001
EXPOSE {port}
{command}
",
        paths.join(":")
    );
    let allowed: String = manifests
        .iter()
        .map(|file| (*file).to_string())
        .chain(sources.clone())
        .map(|file| format!("!{file}\n"))
        .collect();
    (
        text,
        format!(
            "# Nothing goes into the build but what is named here: no .git, no .env, no tests.\n*\n{allowed}**/__pycache__\n"
        ),
    )
}

fn node_image(node: &Node, port: u16, base: &str) -> String {
    let command = node.command.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let (omit, build) =
        if node.build { ("", "RUN npm run build && npm prune --omit=dev\n") } else { (" --omit=dev", "") };
    format!(
        "
# build: the dependencies, from the lock file, and the sources.
FROM {base} AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm \\
    npm ci{omit}
COPY . .
{build}
# runtime: what is shipped. Nothing in it is written to.
FROM {base} AS runtime
WORKDIR /app
ENV NODE_ENV=production \\
    PORT={port}
COPY --from=build /app ./
USER 10001:10001
EXPOSE {port}
CMD [{command}]
"
    )
}

fn go_image(package: &str, port: u16, base: &str) -> String {
    format!(
        "
# build: one static program.
FROM {base} AS build
WORKDIR /src
COPY go.* ./
RUN --mount=type=cache,target=/go/pkg/mod \\
    go mod download
COPY . .
ENV CGO_ENABLED=0
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \\
    go build -trimpath -ldflags=\"-s -w\" -o /service {package}

# runtime: the program, and the certificates that it needs to call others.
FROM scratch AS runtime
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /service /service
ENV PORT={port}
USER 10001:10001
EXPOSE {port}
CMD [\"/service\"]
"
    )
}

/// What a write would change, as a unified diff of one hunk; empty when nothing.
pub fn diff(path: &str, before: Option<&str>, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.unwrap_or_default().lines().collect(), after.lines().collect());
    if before == Some(after) {
        return String::new();
    }
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - same;
    let end = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let (gone, come) = (&old[same..old.len() - end], &new[same..new.len() - end]);
    let from = if before.is_some() { format!("a/{path}") } else { "/dev/null".into() };
    let start = |lines: &[&str]| if lines.is_empty() { same } else { same + 1 };
    let mut text =
        format!("--- {from}\n+++ b/{path}\n@@ -{},{} +{},{} @@\n", start(gone), gone.len(), start(come), come.len());
    let lines = gone.iter().map(|line| format!("-{line}\n")).chain(come.iter().map(|line| format!("+{line}\n")));
    text.extend(lines);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::dockerfile::Dockerfile;
    use crate::check::rules;

    #[test]
    fn a_diff_says_what_changes() {
        let cases = [
            (None, "a\nb\n", "--- /dev/null\n+++ b/f\n@@ -0,0 +1,2 @@\n+a\n+b\n"),
            (Some("a\nb\n"), "a\nb\n", ""),
            (Some("a\nb\nc\n"), "a\nx\nc\n", "--- a/f\n+++ b/f\n@@ -2,1 +2,1 @@\n-b\n+x\n"),
            (Some("a\na\n"), "a\na\na\n", "--- a/f\n+++ b/f\n@@ -2,0 +3,1 @@\n+a\n"),
        ];
        for (before, after, expected) in cases {
            assert_eq!(diff("f", before, after), expected);
        }
    }

    #[test]
    fn what_is_written_keeps_our_own_rules() {
        let python = |installer, app: Option<&str>, missing: &[&'static str]| {
            Stack::Python(Python {
                installer,
                app: app.map(str::to_string),
                main: "main".into(),
                sources: vec!["app".into()],
                missing: missing.to_vec(),
            })
        };
        let stacks = [
            python(Installer::Uv, Some("app.main:app"), &[]),
            python(Installer::Poetry, Some("app.main:app"), &["fastapi", "uvicorn"]),
            python(Installer::Pdm, Some("app.main:app"), &[]),
            python(Installer::Pip, None, &[]),
            Stack::Node(Node { command: vec!["node".into(), "x.js".into()], build: true }),
            Stack::Go { package: "./cmd/x".into(), version: "1.27".into() },
        ];
        for stack in stacks {
            let facts = Facts {
                name: "x".into(),
                port: 8000,
                health: "/healthz".into(),
                mode: "APP_MODE".into(),
                stack,
                notes: vec![],
            };
            let base = format!("{}@sha256:abc", base(&facts.stack).expect("a base"));
            let files: std::collections::BTreeMap<String, String> = files(&facts, &base).into_iter().collect();
            let dockerfile = Dockerfile::parse(&files["Dockerfile"]);
            let looked = rules::Facts {
                dockerfile: &dockerfile,
                target: Some("runtime"),
                port: 8000,
                ignore: Some(&files[".dockerignore"]),
            };
            assert_eq!(rules::lint(&looked), [], "{}", files["Dockerfile"]);
            let service: crate::config::service::Service =
                crate::config::parse(&files["service.yaml"], std::path::Path::new("service.yaml")).expect("a service");
            assert_eq!(service.name.to_string(), "x");
        }
    }
}
