//! Children: the programs that run for us, each with a cleared environment and what is on its list.
//!
//! A child starts others: helpers, plugins, hooks, commands of a build. So it gets what it needs to
//! find its way, and never what this process was given for itself: credentials of AWS, tokens of
//! GitHub, the action's inputs.

use std::ffi::OsStr;
use std::process::Stdio;

use crate::cli::Environ;

/// What every child gets: where programs, the home folder and temporary files are, the language,
/// proxies and certificates.
const EVERY: [&str; 22] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "LANG",
    "LANGUAGE",
    "TZ",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// What git gets besides: the agent, and how it reaches remotes. Not what points it to another
/// repository (`GIT_DIR`, `GIT_WORK_TREE`, `GIT_INDEX_FILE`, …), as hooks are told.
/// <https://git-scm.com/docs/git#_environment_variables>
const GIT: [&str; 5] = [
    "SSH_AUTH_SOCK",
    "DBUS_SESSION_BUS_ADDRESS",
    "GIT_ASKPASS",
    "GIT_ALLOW_PROTOCOL",
    "GIT_CEILING_DIRECTORIES",
];
const GIT_FAMILIES: [&str; 7] =
    ["GIT_SSH", "GIT_SSL_", "GIT_HTTP_", "GIT_PROXY_", "GIT_CONFIG", "GIT_TRACE", "GIT_CURL_"];

/// What Docker's programs get besides: the engine, builders, their settings.
/// <https://docs.docker.com/reference/cli/docker/#environment-variables>
const DOCKER_FAMILIES: [&str; 3] = ["DOCKER_", "BUILDX_", "BUILDKIT_"];

/// Where GitHub's runner says where its cache is, and gives a token for it.
pub const GITHUB_CACHE: [&str; 2] = ["ACTIONS_RESULTS_URL", "ACTIONS_RUNTIME_TOKEN"];

/// A program that is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Git,
    Buildx {
        /// The build keeps its steps in GitHub's cache.
        github_cache: bool,
        /// The build uses the SSH agent.
        agent: bool,
    },
}

impl Tool {
    /// Whether the tool gets the variable of this name.
    fn gets(self, name: &str) -> bool {
        let is_of = |families: &[&str]| families.iter().any(|family| name.starts_with(family));
        EVERY.contains(&name)
            || name.starts_with("LC_")
            || match self {
                Tool::Git => GIT.contains(&name) || is_of(&GIT_FAMILIES),
                Tool::Buildx { github_cache, agent } => {
                    // It would ask git for what our labels say.
                    is_of(&DOCKER_FAMILIES) && !name.starts_with("BUILDX_GIT_")
                        || github_cache && GITHUB_CACHE.contains(&name)
                        || agent && name == "SSH_AUTH_SOCK"
                }
            }
    }
}

/// The part of our environment that a tool gets.
pub fn select_environment(environ: &Environ, tool: Tool) -> Vec<(String, String)> {
    let selected = environ.iter().filter(|(name, _)| tool.gets(name));
    selected.map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// A command with `environment` and no other. Nobody answers its questions, and it is killed when
/// nobody waits for it any more.
#[expect(clippy::disallowed_methods, reason = "the one place that starts processes")]
pub fn prepare_command(
    program: impl AsRef<OsStr>,
    environment: &[(String, String)],
) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(program);
    command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// [`prepare_command`] for where nothing can be awaited: while a guard is dropped.
#[expect(clippy::disallowed_methods, reason = "the one place that starts processes")]
pub fn prepare_blocking_command(
    program: impl AsRef<OsStr>,
    environment: &[(String, String)],
) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command.env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_gets_what_is_on_its_list() {
        struct Case {
            name: &'static str,
            git: bool,
            buildx: bool,
            /// buildx with GitHub's cache and an agent.
            more: bool,
        }
        let case = |name, git, buildx, more| Case { name, git, buildx, more };
        let cases = [
            case("PATH", true, true, true),
            case("LC_ALL", true, true, true),
            case("https_proxy", true, true, true),
            case("SSL_CERT_FILE", true, true, true),
            case("GIT_SSH_COMMAND", true, false, false),
            case("GIT_CONFIG_GLOBAL", true, false, false),
            case("SSH_AUTH_SOCK", true, false, true),
            case("DOCKER_HOST", false, true, true),
            case("BUILDX_BUILDER", false, true, true),
            case("BUILDKIT_HOST", false, true, true),
            case("BUILDX_GIT_LABELS", false, false, false),
            case("ACTIONS_RUNTIME_TOKEN", false, false, true),
            case("ACTIONS_ID_TOKEN_REQUEST_TOKEN", false, false, false),
            case("GIT_DIR", false, false, false),
            case("GIT_WORK_TREE", false, false, false),
            case("GIT_INDEX_FILE", false, false, false),
            case("GIT_EXEC_PATH", false, false, false),
            case("GITHUB_TOKEN", false, false, false),
            case("INPUT_GITHUB-TOKEN", false, false, false),
            case("AWS_SECRET_ACCESS_KEY", false, false, false),
            case("CICD_BUILD_SECRETS", false, false, false),
            case("NPM_TOKEN", false, false, false),
            case("LD_PRELOAD", false, false, false),
        ];
        let (plain, all) = (
            Tool::Buildx { github_cache: false, agent: false },
            Tool::Buildx { github_cache: true, agent: true },
        );
        for Case { name, git, buildx, more } in cases {
            assert_eq!(Tool::Git.gets(name), git, "git: {name}");
            assert_eq!(plain.gets(name), buildx, "buildx: {name}");
            assert_eq!(all.gets(name), more, "buildx with more: {name}");
        }
    }
}
