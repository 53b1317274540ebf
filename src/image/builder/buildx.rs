//! Docker's buildx: where it is, what it sees of the environment, and how it is run.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};

use super::plan::{self, Backend, Way};
use super::progress::{Progress, Said};
use super::request::{BuildRequest, tidy};
use crate::cli::Environ;
use crate::error::{Cannot, Error, Place, Result};
use crate::report::Report;
use crate::spawn::{self, Tool};

/// A line of buildx that is longer is cut: commands may write anything.
const LINE: u64 = 1024 * 1024;

/// A builder that is not removed by then is left to the next build.
const REMOVAL: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// What buildx sees of our environment: what it needs to find the engine, proxies and certificates,
/// the build secrets, and only for GitHub's cache the token for that. Never AWS credentials,
/// GitHub's other tokens or the action's inputs.
pub fn list_environment(
    request: &BuildRequest,
    environ: &Environ,
    way: &Way,
    secrets: &[(String, String)],
) -> Vec<(String, String)> {
    let (gha, ssh) = (way.cache == Some(Backend::Gha), !request.image.ssh.is_empty());
    let tool = Tool::Buildx { github_cache: gha, agent: ssh };
    let passed = spawn::select_environment(environ, tool).into_iter();
    // What it would ask git is told it by our labels; the action image has no git.
    let no_git = [("BUILDX_GIT_INFO".to_string(), "false".to_string())];
    // By the environment: arguments are seen by everybody on the machine.
    let service = gha.then(|| ("ACTIONS_CACHE_SERVICE_V2".to_string(), "true".to_string()));
    passed.chain(no_git).chain(service).chain(secrets.iter().cloned()).collect()
}

/// Docker's buildx as it is installed: as a plugin of the docker command, or on its own.
fn find_buildx(environ: &Environ) -> Result<PathBuf> {
    let config = environ.get("DOCKER_CONFIG").map(PathBuf::from);
    let config = config.or_else(|| Some(Path::new(environ.get("HOME")?).join(".docker")));
    let of_user = config.map(|config| config.join("cli-plugins"));
    let of_system = [
        "/usr/local/lib/docker/cli-plugins",
        "/usr/local/libexec/docker/cli-plugins",
        "/usr/lib/docker/cli-plugins",
        "/usr/libexec/docker/cli-plugins",
    ];
    let plugins = of_user
        .into_iter()
        .chain(of_system.map(PathBuf::from))
        .map(|folder| folder.join("docker-buildx"));
    let path = environ.get("PATH").unwrap_or_default();
    let programs = std::env::split_paths(path)
        .flat_map(|folder| [folder.join("docker-buildx"), folder.join("buildx")]);
    plugins.chain(programs).find(|file| file.is_file()).ok_or_else(|| {
        Error::refused("cannot build: there is no buildx")
            .why(
                "images are built by Docker's own docker-buildx; it is in no folder of Docker's \
                  plugins, and not in PATH",
            )
            .fix(
                "install it: `sudo apt-get install docker-buildx-plugin` (Debian's own package is \
                  docker-buildx), or Docker Desktop",
            )
    })
}

/// buildx as it is run here.
pub struct Buildx<'a> {
    program: PathBuf,
    environment: Vec<(String, String)>,
    report: &'a Report,
}

/// buildx while it runs. It is killed when this is dropped, and when it writes to a stderr that
/// nobody holds.
pub struct Running {
    child: tokio::process::Child,
    stderr: BufReader<tokio::process::ChildStderr>,
}

impl Running {
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

/// buildx for a builder's end only: it goes on where nothing can be reported any more.
#[derive(Clone)]
pub struct Remover {
    program: PathBuf,
    environment: Vec<(String, String)>,
}

impl Remover {
    /// Removes a builder with its container and its volume; whether that went well, and within a
    /// minute. `state` is what buildx knows it by.
    pub fn remove(&self, state: &Path, name: &str) -> bool {
        let mut command = spawn::prepare_blocking_command(&self.program, &self.environment);
        command
            .args(["rm", name])
            .env("BUILDX_CONFIG", state)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // A terminal's SIGINT is for us: interrupted, buildx forgets the builder and leaves it.
        let Ok(mut child) = command.process_group(0).spawn() else { return false };
        for _ in 0..REMOVAL.as_millis() / POLL.as_millis() {
            match child.try_wait() {
                Ok(None) => std::thread::sleep(POLL),
                ended => {
                    return ended.is_ok_and(|status| status.is_some_and(|status| status.success()));
                }
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        false
    }
}

impl<'a> Buildx<'a> {
    /// Finds buildx.
    ///
    /// # Errors
    /// Refused, when there is none.
    pub fn new(
        environ: &Environ,
        environment: Vec<(String, String)>,
        report: &'a Report,
    ) -> Result<Buildx<'a>> {
        Ok(Buildx { program: find_buildx(environ)?, environment, report })
    }

    /// The same, with what it knows of builders in a folder of its own.
    pub fn with_state(&self, folder: &Path) -> Buildx<'a> {
        let mut environment = self.environment.clone();
        environment.push(("BUILDX_CONFIG".into(), folder.to_string_lossy().into_owned()));
        Buildx { program: self.program.clone(), environment, report: self.report }
    }

    pub fn remover(&self) -> Remover {
        Remover { program: self.program.clone(), environment: self.environment.clone() }
    }

    /// Runs buildx to its end, or kills it when this is dropped; BuildKit ends a build whose client
    /// is gone.
    ///
    /// # Errors
    /// Refused, when it cannot be run. That a build fails is no error here.
    pub async fn run(
        &self,
        arguments: &[String],
        request: &BuildRequest,
    ) -> Result<(Progress, ExitStatus)> {
        self.listen(&mut self.begin(arguments, request)?, "docker buildx build", request).await
    }

    /// Starts buildx.
    ///
    /// # Errors
    /// Refused, when it cannot be run.
    pub fn begin(&self, arguments: &[String], request: &BuildRequest) -> Result<Running> {
        let buildx = &self.program;
        self.report.trace(format!("{} {}", buildx.display(), arguments.join(" ")));
        let mut child = spawn::prepare_command(buildx, &self.environment)
            .args(arguments)
            .current_dir(&request.folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| {
                Error::refused(format!("cannot run {}", buildx.display()))
                    .why(error)
                    .fix("install it again")
            })?;
        let stderr =
            child.stderr.take().ok_or_else(|| Error::unexpected("cannot read what buildx says"))?;
        Ok(Running { child, stderr: BufReader::new(stderr) })
    }

    /// Reports what it says, as `activity`, until it ends.
    ///
    /// # Errors
    /// Unexpected, when it cannot be read.
    pub async fn listen(
        &self,
        running: &mut Running,
        activity: &'static str,
        request: &BuildRequest,
    ) -> Result<(Progress, ExitStatus)> {
        let report = self.report;
        let dockerfile = tidy(&request.folder.join(plan::locate_dockerfile(request)));
        let mut progress = Progress::default();
        let activity = report.activity(activity);
        loop {
            let line =
                read_line(&mut running.stderr).await.cannot(|| "read what buildx says".into())?;
            let Some(line) = line else { break };
            for said in progress.line(&line) {
                match said {
                    Said::Began(step) => activity.now(&step),
                    Said::Done(step) => report.detail(step),
                    Said::Log(line) => report.log(line),
                    Said::Warning { message, line } => {
                        let place =
                            line.map(|line| Place { file: dockerfile.clone(), line, column: 1 });
                        place.map_or_else(
                            || report.warn(&message),
                            |place| report.warn_at(&message, &place),
                        );
                    }
                }
            }
        }
        let status = running.child.wait().await.cannot(|| "wait for buildx".into())?;
        Ok((progress, status))
    }
}

/// The next line, without its end; the rest of one that is too long is left out.
async fn read_line(
    reader: &mut BufReader<tokio::process::ChildStderr>,
) -> std::io::Result<Option<String>> {
    use tokio::io::AsyncReadExt;
    let mut line = Vec::new();
    if (&mut *reader).take(LINE).read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    let mut rest = Vec::new();
    while line.last() != Some(&b'\n') && rest.last() != Some(&b'\n') {
        rest.clear();
        if (&mut *reader).take(LINE).read_until(b'\n', &mut rest).await? == 0 {
            break;
        }
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::service;

    #[test]
    fn buildx_sees_what_it_needs_and_no_credentials() {
        let all = [
            "PATH",
            "HOME",
            "DOCKER_HOST",
            "BUILDX_BUILDER",
            "BUILDX_GIT_LABELS",
            "BUILDKIT_HOST",
            "https_proxy",
            "SSL_CERT_FILE",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
            "ACTIONS_RUNTIME_TOKEN",
            "ACTIONS_RESULTS_URL",
            "SSH_AUTH_SOCK",
            "GITHUB_TOKEN",
            "INPUT_PLATFORM",
            "NPM_TOKEN",
        ];
        let environ = Environ::new(all.map(|name| (name.to_string(), "x".to_string())));
        let seen = |request: &BuildRequest, way: &Way| {
            let seen = list_environment(
                request,
                &environ,
                way,
                &[("NPM_TOKEN".to_string(), "secret".to_string())],
            );
            let mut names: Vec<String> = seen.into_iter().map(|(name, _)| name).collect();
            names.sort_unstable();
            names
        };
        let always = [
            "BUILDKIT_HOST",
            "BUILDX_BUILDER",
            "BUILDX_GIT_INFO",
            "DOCKER_HOST",
            "HOME",
            "NPM_TOKEN",
            "PATH",
            "SSL_CERT_FILE",
            "https_proxy",
        ];
        let mut request = plan::tests::request(service::Image::default());
        assert_eq!(seen(&request, &Way::default()), always);
        request.image.ssh = vec!["default".into()];
        let more = seen(&request, &Way { cache: Some(Backend::Gha), ..Way::default() });
        let more: Vec<&str> =
            more.iter().map(String::as_str).filter(|name| !always.contains(name)).collect();
        let expected = [
            "ACTIONS_CACHE_SERVICE_V2",
            "ACTIONS_RESULTS_URL",
            "ACTIONS_RUNTIME_TOKEN",
            "SSH_AUTH_SOCK",
        ];
        assert_eq!(more, expected);
    }
}
