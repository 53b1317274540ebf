//! The Dockerfile of a Node project. Pure.

use super::project::{Around, Node};

/// What a build stage lacks that gets dependencies from git; npm's lock file names GitHub by SSH.
const GIT: &str = "# hadolint ignore=DL3008
RUN apt-get update && \\
    apt-get install -y --no-install-recommends ca-certificates git && \\
    rm -rf /var/lib/apt/lists/* && \\
    git config --global url.https://github.com/.insteadOf ssh://git@github.com/
";

const MODULES: &str = "COPY --from=build /app/node_modules node_modules\n";
const SOURCES: &str = "
# sources: what was built, without the dependencies.
FROM build AS sources
RUN rm -rf node_modules
";

/// What the Dockerfile copies before it installs.
pub fn list_manifests(node: &Node) -> Vec<String> {
    let members = node.members.iter().map(|member| format!("{member}/package.json"));
    ["package.json", "package-lock.json"]
        .into_iter()
        .map(str::to_string)
        .chain(members)
        .chain(node.local.iter().cloned())
        .collect()
}

pub fn write_image(node: &Node, port: u16, base: &str) -> String {
    let words: Vec<String> =
        node.start.command.value.iter().map(|word| format!("\"{word}\"")).collect();
    let command = words.join(", ");
    let scripts = match &node.around {
        Around::Scripts(scripts) => scripts.as_slice(),
        _ => &[],
    };
    // What is only there for development is needed until all is built.
    let later = node.build.is_some() || !scripts.is_empty() || !node.start.steps.is_empty();
    let install = match (&node.around, later) {
        (Around::Scripts(_), _) => "npm ci --ignore-scripts",
        (Around::Hooks, true) => "npm pkg delete scripts.prepare && \\\n    npm ci",
        (Around::Hooks, false) => {
            "npm pkg delete scripts.prepare && \\\n    npm ci --omit=dev && \\\n    mkdir -p node_modules"
        }
        (Around::Nothing, true) => "npm ci",
        (Around::Nothing, false) => "npm ci --omit=dev && \\\n    mkdir -p node_modules",
    };
    let mut steps: Vec<String> = Vec::new();
    if !scripts.is_empty() {
        steps.push("npm rebuild".into());
        steps.extend(scripts.iter().map(|script| format!("npm run {script}")));
    }
    steps.extend(node.build.iter().map(|build| format!("npm run {build}")));
    steps.extend(node.start.steps.iter().cloned());
    if later {
        steps.extend(["npm prune --omit=dev".into(), "mkdir -p node_modules".into()]);
    }
    let build = if steps.is_empty() {
        String::new()
    } else {
        format!("RUN {}\n", steps.join(" && \\\n    "))
    };
    let git = if node.needs_git { GIT } else { "" };
    let manifests: String =
        list_manifests(node).iter().skip(2).map(|path| format!("COPY {path} {path}\n")).collect();
    // Dependencies are a layer of their own: a release that changes the sources uploads only those.
    let (copied, sources, shipped) = match (node.start.is_standalone, later) {
        (true, _) => {
            let public =
                if node.has_public { "COPY --from=build /app/public public\n" } else { "" };
            let shipped = format!(
                "COPY --from=build /app/.next/standalone ./\n\
                 COPY --from=build /app/.next/static .next/static\n{public}"
            );
            ("COPY . .\n", "", shipped)
        }
        (false, true) => {
            let shipped = format!("{MODULES}COPY --from=sources /app ./\n");
            ("COPY . .\n", SOURCES, shipped)
        }
        (false, false) => ("", "", format!("{MODULES}COPY . .\n")),
    };
    // Docker sets HOSTNAME to the container's name, and Next listens on it.
    let host = if node.start.is_next { " \\\n    HOSTNAME=0.0.0.0" } else { "" };
    format!(
        "
# build: the dependencies, from the lock file, and the sources.
FROM {base} AS build
WORKDIR /app
{git}COPY package.json package-lock.json ./
{manifests}RUN --mount=type=cache,target=/root/.npm \\
    {install}
{copied}{build}{sources}
# runtime: what is shipped. Nothing in it is written to.
FROM {base} AS runtime
WORKDIR /app
ENV NODE_ENV=production \\
    PORT={port}{host}
{shipped}USER 10001:10001
EXPOSE {port}
CMD [{command}]
"
    )
}
