//! The service's image, built by Docker's own buildx into an OCI layout.
//!
//! [`plan`] says with which arguments, [`progress`] reads what buildx says, [`diagnosis`] says why it failed; here is what
//! touches the disk and runs the process.

mod diagnosis;
mod plan;
mod progress;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};

pub use plan::plan;

use crate::cli::Environ;
use crate::config::service;
use crate::error::{Doing, Error, Kind, Place, Result};
use crate::git::Head;
use crate::layout::Layout;
use crate::report::Report;
use plan::SecretSource;
use progress::{Progress, Said};

/// No build of a service takes longer; one that does hangs.
const TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// A line of buildx that is longer is cut: commands may write anything.
const LINE: u64 = 1024 * 1024;

/// What to build.
#[derive(Clone, Debug)]
pub struct Request {
    pub name: String,
    /// The folder of service.yaml, which the context is relative to.
    pub folder: PathBuf,
    pub image: service::Image,
    pub head: Head,
    /// Goes into the label org.opencontainers.image.version and the build argument VERSION.
    pub version: String,
    /// Where the OCI layout is written.
    pub layout: PathBuf,
    pub no_cache: bool,
}

/// What was built.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Built {
    pub layout: String,
    pub digest: String,
    /// Of every blob together, as they are pushed, in bytes.
    pub size: u64,
    pub platforms: Vec<String>,
}

/// Builds the image. The layout is replaced when the new one is whole; until then, and when the build fails, the earlier one
/// stays as it is.
///
/// # Errors
/// Bad input with the Dockerfile's line when it does not build; refused without buildx, an engine, a build secret or a base
/// image; timed out after an hour.
pub async fn build(request: &Request, environ: &Environ, report: &Report) -> Result<Built> {
    check_sources(request)?;
    let layout = std::path::absolute(&request.layout).doing(|| format!("finding {}", request.layout.display()))?;
    check_destination(&layout)?;
    warn_of_layout_in_context(request, &layout, report);
    let secrets = secrets(request, environ, report)?;
    let buildx = find_buildx(environ)?;

    let fresh = Fresh::beside(&layout)?;
    let arguments = plan::arguments(request, &fresh.folder)?;
    report.trace(format!("{} {}", buildx.display(), arguments.join(" ")));
    let running = run(&buildx, &arguments, request, environment(environ, &secrets), report);
    tokio::time::timeout(TIMEOUT, running).await.unwrap_or_else(|_| {
        Err(Error::new(Kind::TimedOut, format!("the build took longer than {} min", TIMEOUT.as_secs() / 60))
            .fix("see its last steps above, or with --verbose all it said"))
    })?;

    // What buildx wrote is trusted as little as what others hand in.
    let built = Layout::open(&fresh.folder)?;
    fresh.replace(&layout)?;
    Ok(Built {
        layout: request.layout.display().to_string(),
        digest: built.root().digest.to_string(),
        size: built.size(),
        platforms: built.platforms(),
    })
}

/// A path as people write it: without its `.` parts.
fn tidy(path: &Path) -> PathBuf {
    let tidy: PathBuf = path.components().filter(|part| *part != std::path::Component::CurDir).collect();
    if tidy.as_os_str().is_empty() { PathBuf::from(".") } else { tidy }
}

/// The Dockerfile is there, and in the context.
fn check_sources(request: &Request) -> Result<()> {
    let fix = "say where they are: `image: {context: ., dockerfile: Dockerfile}` in service.yaml; the context is relative to \
               service.yaml, the Dockerfile to the context";
    let context = tidy(&request.folder.join(&request.image.context));
    let context = context.canonicalize().map_err(|error| {
        Error::input(format!("there is no build context {}", context.display())).why(error).fix(fix)
    })?;
    let dockerfile = tidy(&request.folder.join(plan::dockerfile(request)));
    let found = dockerfile
        .canonicalize()
        .map_err(|error| Error::input(format!("there is no {}", dockerfile.display())).why(error).fix(fix))?;
    if !found.starts_with(&context) {
        return Err(Error::input(format!("{} is outside the build context", dockerfile.display()))
            .why(format!("the context is {}", context.display()))
            .fix(fix));
    }
    Ok(())
}

/// A folder that is replaced is a layout: never somebody's sources.
fn check_destination(layout: &Path) -> Result<()> {
    let Ok(mut entries) = std::fs::read_dir(layout) else {
        return match layout.exists() {
            true => {
                Err(Error::input(format!("{} is not a folder", layout.display())).fix("name another one: --layout DIR"))
            }
            false => Ok(()),
        };
    };
    if entries.next().is_some() && !layout.join("oci-layout").is_file() {
        return Err(Error::input(format!("{} is no OCI layout, and not empty", layout.display()))
            .why("the layout takes the place of the whole folder")
            .fix("name a folder of its own: --layout target/image"));
    }
    Ok(())
}

/// A layout inside the context is copied into the next image by `COPY . .`, and each build then has another digest.
fn warn_of_layout_in_context(request: &Request, layout: &Path, report: &Report) {
    let Ok(context) = request.folder.join(&request.image.context).canonicalize() else { return };
    let Ok(inside) = layout.strip_prefix(&context) else { return };
    let Some(first) = inside.iter().next().and_then(|first| first.to_str()) else { return };
    let dockerfile = plan::dockerfile(request).into_os_string().into_string().unwrap_or_default();
    let ignore_files = [request.folder.join(format!("{dockerfile}.dockerignore")), context.join(".dockerignore")];
    let ignore = ignore_files.iter().find_map(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    if !crate::check::rules::leaves_out(&ignore, first) {
        report.warn(format!(
            "{} is in the build context, so `COPY . .` puts earlier images into this one: add `{first}/` to .dockerignore",
            request.layout.display()
        ));
    }
}

/// The variables that build secrets are read from, with their values.
fn secrets(request: &Request, environ: &Environ, report: &Report) -> Result<Vec<(String, String)>> {
    let mut variables = Vec::new();
    for entry in &request.image.build_secrets {
        let missing = |what: String, fix: String| {
            Error::refused(format!("the build secret `{entry}` has no value")).why(what).fix(fix)
        };
        match plan::secret(entry)? {
            SecretSource::Variable(name) => {
                let value = environ.get(&name).ok_or_else(|| {
                    missing(
                        format!("the environment variable {name} is not set"),
                        format!(
                            "set it for this step: `env: {{{name}: ${{{{ secrets.{name} }}}}}}`, or `export {name}=…`"
                        ),
                    )
                })?;
                report.mask(value);
                variables.push((name, value.to_string()));
            }
            SecretSource::File(file) => {
                let path = request.folder.join(&file);
                let value = std::fs::read_to_string(&path).map_err(|error| {
                    missing(
                        format!("{}: {error}", path.display()),
                        "write the file before this step, relative to service.yaml".into(),
                    )
                })?;
                report.mask(value.trim());
                // A step may write it line by line.
                value.lines().map(str::trim).filter(|line| line.len() >= 8).for_each(|line| report.mask(line));
            }
        }
    }
    Ok(variables)
}

/// What buildx sees of our environment: what it needs to find the engine, proxies and certificates, and the build secrets.
/// Never AWS credentials, GitHub's tokens or the action's inputs.
fn environment(environ: &Environ, secrets: &[(String, String)]) -> Vec<(String, String)> {
    let names = [
        "PATH",
        "HOME",
        "TMPDIR",
        "XDG_CONFIG_HOME",
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
    let needed = |name: &str| {
        names.contains(&name) || ["DOCKER_", "BUILDX_", "BUILDKIT_"].iter().any(|prefix| name.starts_with(prefix))
    };
    let passed = environ.iter().filter(|(name, _)| needed(name) && !name.starts_with("BUILDX_GIT_"));
    let passed = passed.map(|(name, value)| (name.to_string(), value.to_string()));
    // What it would ask git is told it by our labels; the action image has no git.
    let no_git = [("BUILDX_GIT_INFO".to_string(), "false".to_string())];
    passed.chain(no_git).chain(secrets.iter().cloned()).collect()
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
    let plugins = of_user.into_iter().chain(of_system.map(PathBuf::from)).map(|folder| folder.join("docker-buildx"));
    let path = environ.get("PATH").unwrap_or_default();
    let programs = std::env::split_paths(path).flat_map(|folder| [folder.join("docker-buildx"), folder.join("buildx")]);
    plugins.chain(programs).find(|file| file.is_file()).ok_or_else(|| {
        Error::refused("there is no buildx")
            .why("images are built by Docker's own docker-buildx; it is in no folder of Docker's plugins, and not in PATH")
            .fix("install it: `sudo apt-get install docker-buildx-plugin` (Debian's own package is docker-buildx), or Docker Desktop")
    })
}

/// Runs buildx to its end, or kills it when this is dropped.
#[expect(clippy::disallowed_methods, reason = "the one place that starts a process")]
async fn run(
    buildx: &Path,
    arguments: &[String],
    request: &Request,
    environment: Vec<(String, String)>,
    report: &Report,
) -> Result<()> {
    let mut child = tokio::process::Command::new(buildx)
        .args(arguments)
        .current_dir(&request.folder)
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Error::refused(format!("{} cannot be run", buildx.display())).why(error).fix("install it again")
        })?;
    let stderr = child.stderr.take().ok_or_else(|| Error::unexpected("buildx has no stderr"))?;
    let dockerfile = tidy(&request.folder.join(plan::dockerfile(request)));
    let mut progress = Progress::default();
    let mut reader = BufReader::new(stderr);
    loop {
        let line = read_line(&mut reader).await.doing(|| "reading what buildx says".into())?;
        let Some(line) = line else { break };
        for said in progress.line(&line) {
            match said {
                Said::Done(step) => report.detail(step),
                Said::Log(line) => report.log(line),
                Said::Warning { message, line } => {
                    let place = line.map(|line| Place { file: dockerfile.clone(), line, column: 1 });
                    place.map_or_else(|| report.warn(&message), |place| report.warn_at(&message, &place));
                }
            }
        }
    }
    let status = child.wait().await.doing(|| "waiting for buildx".into())?;
    match status.success() {
        true => Ok(()),
        false => {
            let target = request.image.target.as_deref();
            Err(diagnosis::diagnose(&progress, &dockerfile, target, &format!("buildx ended with {status}")))
        }
    }
}

/// The next line, without its end; the rest of one that is too long is left out.
async fn read_line(reader: &mut BufReader<tokio::process::ChildStderr>) -> std::io::Result<Option<String>> {
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

/// A folder beside the layout that buildx writes to; what is left of it is removed at the end.
struct Fresh {
    folder: PathBuf,
}

impl Fresh {
    fn beside(layout: &Path) -> Result<Fresh> {
        let name = layout.file_name().ok_or_else(|| {
            Error::input(format!("{} is no folder that can be replaced", layout.display()))
                .fix("name one: --layout target/image")
        })?;
        let parent = layout.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent).doing(|| format!("making {}", parent.display()))?;
        let fresh = crate::docker::unique(&format!(".{}", name.to_string_lossy()))?;
        Ok(Fresh { folder: parent.join(fresh) })
    }

    /// Puts the new layout in the place of the earlier one.
    fn replace(self, layout: &Path) -> Result<()> {
        let doing = || format!("putting the new layout in the place of {}", layout.display());
        let mut earlier = self.folder.clone().into_os_string();
        earlier.push(".earlier");
        let earlier = PathBuf::from(earlier);
        let had = match std::fs::rename(layout, &earlier) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(error).doing(doing),
        };
        let replaced = std::fs::rename(&self.folder, layout);
        if had {
            match &replaced {
                Ok(()) => remove(&earlier),
                Err(_) => std::fs::rename(&earlier, layout).doing(doing)?,
            }
        }
        replaced.doing(doing)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

/// Removes a folder. A buildx that was just killed may write a last file meanwhile, so it is tried a few times.
fn remove(folder: &Path) {
    for _ in 0..5 {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => std::thread::sleep(Duration::from_millis(20)),
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            "GITHUB_TOKEN",
            "INPUT_PLATFORM",
            "NPM_TOKEN",
        ];
        let environ = Environ::new(all.map(|name| (name.to_string(), "x".to_string())));
        let seen = environment(&environ, &[("NPM_TOKEN".to_string(), "secret".to_string())]);
        let mut names: Vec<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "BUILDKIT_HOST",
                "BUILDX_BUILDER",
                "BUILDX_GIT_INFO",
                "DOCKER_HOST",
                "HOME",
                "NPM_TOKEN",
                "PATH",
                "SSL_CERT_FILE",
                "https_proxy"
            ]
        );
    }

    #[test]
    fn a_layout_is_replaced_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = folder.path().join("target/image");
        let write = |at: &Path, text: &str| {
            std::fs::create_dir_all(at).expect("a folder");
            std::fs::write(at.join("index.json"), text).expect("written");
        };
        let read = || std::fs::read_to_string(layout.join("index.json")).expect("read");
        let left = || std::fs::read_dir(folder.path().join("target")).expect("a folder").count();

        let first = Fresh::beside(&layout).expect("a folder");
        write(&first.folder, "first");
        first.replace(&layout).expect("replaced");
        assert_eq!((read().as_str(), left()), ("first", 1));

        let second = Fresh::beside(&layout).expect("a folder");
        write(&second.folder, "second");
        second.replace(&layout).expect("replaced");
        assert_eq!((read().as_str(), left()), ("second", 1));

        let abandoned = Fresh::beside(&layout).expect("a folder");
        write(&abandoned.folder, "half");
        drop(abandoned);
        assert_eq!((read().as_str(), left()), ("second", 1));

        Fresh::beside(&layout).expect("a folder").replace(&layout).expect_err("nothing was built");
        assert_eq!((read().as_str(), left()), ("second", 1));
    }

    #[test]
    fn only_a_layout_or_an_empty_folder_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        check_destination(&at.join("missing")).expect("nothing is there");
        check_destination(at).expect("empty");
        std::fs::write(at.join("main.py"), "").expect("written");
        assert_eq!(check_destination(at).expect_err("sources").kind.exit_code(), 2);
        assert_eq!(check_destination(&at.join("main.py")).expect_err("a file").kind.exit_code(), 2);
        std::fs::write(at.join("oci-layout"), "{}").expect("written");
        check_destination(at).expect("a layout");
    }
}
