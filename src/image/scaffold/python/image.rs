//! The Dockerfile of a Python project, and its .dockerignore. Pure.

use super::entry::{Start, write_script};
use super::needs::SystemPackages;
use super::project::{Installer, Python};

/// The versions of the tools that the build stages install. Everything else comes from the
/// project's own lock file. pdm says itself which versions it was tested with (`locked`); a later
/// release of what it needs has broken it before.
const UV: &str = "uv==0.13.9";
const POETRY: &str = "poetry==2.5.1";
const PDM: &str = "pdm[locked]==2.29.3";
const FASTAPI: &str = "fastapi==0.165.0";
const UVICORN: &str = "uvicorn==0.54.0";
const GUNICORN: &str = "gunicorn==27.0.1";

/// The Dockerfile and its .dockerignore.
pub fn write_image(python: &Python, port: u16, base: &str) -> (String, String) {
    let Python { installer, sources, roots, manifests, installed, missing, .. } = python;
    let tool = |tool: &str| {
        format!(
            "RUN --mount=type=cache,target=/root/.cache/pip \\\n    \
             pip install --root-user-action=ignore {tool}\n"
        )
    };
    // In an environment of its own: what the tool needs is not to meet what the base image has.
    let apart = |tool: &str| {
        format!(
            "RUN --mount=type=cache,target=/root/.cache/pip \\\n    \
             python -m venv /opt/tool && /opt/tool/bin/pip install {tool}\n"
        )
    };
    let (below, at_root): (Vec<&String>, Vec<&String>) =
        manifests.iter().partition(|file| file.contains('/'));
    let mut copy: String = below.iter().map(|file| format!("COPY {file} {file}\n")).collect();
    if !at_root.is_empty() {
        let names: Vec<&str> = at_root.into_iter().map(String::as_str).collect();
        copy.push_str(&format!("COPY {} ./\n", names.join(" ")));
    }
    copy.extend(python.local.iter().map(|folder| format!("COPY {folder} {folder}\n")));
    let install = match installer {
        Installer::Uv => {
            tool(UV)
                + "ENV UV_LINK_MODE=copy \\
    UV_PYTHON_DOWNLOADS=never \\
    UV_COMPILE_BYTECODE=1 \\
    PYC_INVALIDATION_MODE=UNCHECKED_HASH \\
    UV_NO_INSTALLER_METADATA=1
" + &copy + "RUN --mount=type=cache,target=/root/.cache/uv \\
    uv sync --locked --no-dev --no-install-project"
                + if python.local.is_empty() { "\n" } else { " --no-editable\n" }
        }
        Installer::Poetry => {
            apart(POETRY)
                + "ENV POETRY_VIRTUALENVS_IN_PROJECT=1
" + &copy + "RUN --mount=type=cache,target=/root/.cache/pypoetry \\
    /opt/tool/bin/poetry install --only main --no-root --no-interaction
"
        }
        Installer::Pdm => {
            apart(PDM)
                + "ENV PDM_CHECK_UPDATE=false
" + &copy + "RUN --mount=type=cache,target=/root/.cache/pdm \\
    /opt/tool/bin/pdm sync --prod --no-self
"
        }
        Installer::Pip => {
            "RUN [\"python\", \"-m\", \"venv\", \".venv\"]\n".to_string()
                + &copy
                + "RUN --mount=type=cache,target=/root/.cache/pip \\
    .venv/bin/pip install -r "
                + &manifests[0]
                + "\n"
        }
    };
    let install = SystemPackages::write_install(&python.system.build) + &install;
    let system = SystemPackages::write_install(&python.system.runtime);
    let brought: Vec<&str> = missing
        .iter()
        .map(|package| match *package {
            "fastapi" => FASTAPI,
            "gunicorn" => GUNICORN,
            _ => UVICORN,
        })
        .collect();
    let mut install = match brought.as_slice() {
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
    let copies: String = sources.iter().map(|source| format!("COPY {source} {source}\n")).collect();
    let mut paths = vec!["/app".to_string()];
    let mut project = "";
    if let Some(files) = installed {
        install.push_str(&format!(
            "# The project itself, beside its dependencies: it asks for its own version or entry \
             points.
COPY {} ./
{copies}RUN --mount=type=cache,target=/root/.cache/pip \\
    pip install --root-user-action=ignore --no-deps --no-compile --target project .
",
            files.join(" ")
        ));
        paths.push("/app/project".into());
        project = "COPY --from=build /app/project project\n";
    }
    paths.extend(roots.iter().map(|root| format!("/app/{root}")));
    let uvicorn = |application: &str, factory: &str| {
        (
            format!(" \\\n    APP_MODULE={application} \\\n    LOG_LEVEL=info"),
            format!(
                "# uvicorn reads WEB_CONCURRENCY, the number of its processes, itself.\n\
                 CMD [\"sh\", \"-c\", \"exec uvicorn{factory} \\\"$APP_MODULE\\\" --host 0.0.0.0 \
                 --port \\\"$PORT\\\" --log-level \\\"$LOG_LEVEL\\\" --timeout-graceful-shutdown \
                 8\"]"
            ),
        )
    };
    let gunicorn = |application: &str| {
        (
            format!(" \\\n    APP_MODULE={application}"),
            "# gunicorn reads WEB_CONCURRENCY, the number of its processes, itself.\n\
             CMD [\"sh\", \"-c\", \"exec gunicorn \\\"$APP_MODULE\\\" --bind \\\"0.0.0.0:$PORT\\\" \
             --graceful-timeout 8 --worker-tmp-dir /dev/shm --access-logfile -\"]"
                .to_string(),
        )
    };
    let (variables, command) = match &python.start.value {
        Start::Application(application) => uvicorn(application, ""),
        Start::Factory(factory) => uvicorn(factory, " --factory"),
        Start::Wsgi(application) => gunicorn(application),
        Start::Script(target) => {
            (String::new(), format!("CMD [\"python\", \"-c\", \"{}\"]", write_script(target)))
        }
        Start::Module(module) => (String::new(), format!("CMD [\"python\", \"-m\", \"{module}\"]")),
    };
    let text = format!(
        "
# build: the dependencies, from the lock file, into /app/.venv.
FROM {base} AS build
WORKDIR /app
{install}

# runtime: what is shipped. Nothing in it is written to.
FROM {base} AS runtime
{system}WORKDIR /app
ENV PATH=/app/.venv/bin:$PATH \\
    PYTHONPATH={} \\
    PYTHONUNBUFFERED=1 \\
    PYTHONDONTWRITEBYTECODE=1 \\
    PORT={port}{variables}
COPY --from=build /app/.venv .venv
{project}{copies}USER 10001:10001
EXPOSE {port}
{command}
",
        paths.join(":")
    );
    let allowed: String = python.copied().iter().map(|file| format!("!{file}\n")).collect();
    (
        text,
        format!(
            "# Nothing goes into the build but what is named here: no .git, no .env, no tests.\n\
             *\n{allowed}**/__pycache__\n**/.env*\n"
        ),
    )
}
