//! What can be seen of a running container from outside: its answers, its log, its processes. All
//! of it is a stranger's, so that nothing is read without a bound in bytes and in time.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error as ApiError;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::{LogsOptionsBuilder, TopOptionsBuilder};
use futures::{Stream, StreamExt};
use reqwest::header::{HOST, LOCATION};

use super::api::Engine;
use super::network::{ANSWER_TIMEOUT, build_url};
use super::processes::{FILES, Inside, PS, Processes};
use super::{Answer, Clues, Container, Page, diagnosis};

/// What only explains a failure must not hold it up.
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// As much of an answer's body as is looked at, in bytes.
const PAGE: usize = 64 * 1024;

/// The longest log line that is shown whole, in characters.
const LINE: usize = 500;

/// As much of what a container writes as is kept, and as is read to find it, in bytes.
const KEPT: usize = 1024 * 1024;
const READ: usize = 64 * KEPT;

/// The Host that probes of Kubernetes and of load balancers name: the container's own address.
/// <https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/#http-probes>
fn probe_host(container: &Container, port: u16) -> Option<String> {
    let address = container.own_address.as_ref()?;
    Some(format!("{address}:{}", container.port.unwrap_or(port)))
}

impl Engine {
    /// Asks a container as users of this machine do. One that publishes no port listens on `port`.
    pub async fn ask(&self, container: &Container, port: u16, path: &str) -> Answer {
        answer_of(self.get(container, port, path, None).await.as_ref())
    }

    /// Asks a container as probes do: by its own address, whatever way the request takes.
    pub async fn probe(&self, container: &Container, port: u16, path: &str) -> Answer {
        let host = probe_host(container, port);
        answer_of(self.get(container, port, path, host.as_deref()).await.as_ref())
    }

    /// Sends one GET, for `host` where one is given.
    async fn get(
        &self,
        container: &Container,
        port: u16,
        path: &str,
        host: Option<&str>,
    ) -> Result<reqwest::Response, String> {
        let url = build_url(container, self.network.as_deref(), port, path)
            .ok_or("it has no address yet")?;
        let mut request = self.clients.plain.get(url);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        request.send().await.map_err(|error| explain_silence(&error))
    }

    /// Asks again, in other ways, why a container does not answer a probe well.
    pub async fn look_closer(&self, container: &Container, port: u16, path: &str) -> Clues {
        let host = probe_host(container, port);
        let first = self.get(container, port, path, host.as_deref());
        let by_localhost = self.get(container, port, path, Some("localhost"));
        let forwarded = async {
            let url = build_url(container, self.network.as_deref(), port, path)?;
            let request = self.clients.plain.get(url).header("x-forwarded-proto", "https");
            let request = match &host {
                Some(host) => request.header(HOST, host),
                None => request,
            };
            Some(answer_of(request.send().await.map_err(|error| explain_silence(&error)).as_ref()))
        };
        let by_tls = async {
            let url = build_url(container, self.network.as_deref(), port, path)?;
            let url = url.replacen("http:", "https:", 1);
            self.clients.any_certificate.get(url).send().await.ok()
        };
        let (first, by_localhost, forwarded, by_tls) =
            futures::join!(first, by_localhost, forwarded, by_tls);
        let mut clues = Clues {
            by_localhost: Some(answer_of(by_localhost.as_ref())),
            by_forwarded_https: forwarded,
            speaks_tls: by_tls.is_some(),
            ..Clues::default()
        };
        if let Ok(response) = first {
            let location = response.headers().get(LOCATION);
            clues.location = location.and_then(|value| Some(shorten(value.to_str().ok()?)));
            clues.body = read_body(response).await;
        }
        clues
    }

    /// The whole answer to one GET as probes ask. `None` if there is no answer in time.
    pub async fn page(&self, container: &Container, port: u16, path: &str) -> Option<Page> {
        let host = probe_host(container, port);
        let response = self.get(container, port, path, host.as_deref()).await.ok()?;
        let status = response.status().as_u16();
        Some(Page { status, body: read_body(response).await })
    }

    /// A container's last `lines` log lines, oldest first. What cannot be read is left out: logs
    /// only explain.
    pub async fn log_tail(&self, name: &str, lines: usize) -> Vec<String> {
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .tail(&lines.to_string())
            .build();
        let text = read_end(self.docker.logs(name, Some(options))).await;
        let all: Vec<&str> = text.lines().map(str::trim_end).collect();
        all[all.len().saturating_sub(lines)..].iter().map(|line| shorten(line)).collect()
    }

    /// Where a running container listens, as far as a `cat` in it can tell.
    pub async fn listening(&self, name: &str) -> Option<Vec<diagnosis::Socket>> {
        self.inside(name).await.listening
    }

    /// What a running container's /proc tells, as far as there is a `cat` in it.
    pub async fn inside(&self, name: &str) -> Inside {
        let command = std::iter::once("cat").chain(FILES).collect();
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            cmd: Some(command),
            ..Default::default()
        };
        let Ok(exec) = self.docker.create_exec(name, options).await else {
            return Inside::default();
        };
        match self.docker.start_exec(&exec.id, None::<StartExecOptions>).await {
            Ok(StartExecResults::Attached { output, .. }) => {
                Inside::read(&read_beginning(output).await)
            }
            _ => Inside::default(),
        }
    }

    /// The processes of a running container. `None` if the engine cannot tell.
    pub async fn processes(&self, name: &str) -> Option<Processes> {
        let options = TopOptionsBuilder::default().ps_args(PS).build();
        let look = None::<bollard::query_parameters::InspectContainerOptions>;
        let (found, top) = futures::future::try_join(
            self.docker.inspect_container(name, look),
            self.docker.top_processes(name, Some(options)),
        )
        .await
        .ok()?;
        Some(Processes::read(found.state?.pid?, &top.processes?))
    }

    /// The paths of a container's file system that are not as the image has them: written, added or
    /// removed. Of a folder that is listed for what is in it, only that.
    pub async fn changes(&self, name: &str) -> Option<Vec<String>> {
        let changes = self.docker.container_changes(name).await.ok()?;
        let mut paths: Vec<String> =
            changes.unwrap_or_default().into_iter().map(|change| change.path).collect();
        paths.sort();
        let is_parent = |path: &String| {
            let below = format!("{}/", path.trim_end_matches('/'));
            paths
                .binary_search(&below)
                .is_err_and(|at| paths.get(at).is_some_and(|next| next.starts_with(&below)))
        };
        Some(paths.iter().filter(|path| !is_parent(path)).cloned().collect())
    }
}

fn answer_of(response: Result<&reqwest::Response, &String>) -> Answer {
    match response {
        Ok(response) => Answer::Status(response.status().as_u16()),
        Err(why) => Answer::Silence(why.clone()),
    }
}

fn explain_silence(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", ANSWER_TIMEOUT.as_secs());
    }
    // The engine's proxy takes a connection and closes it again when nobody listens behind it.
    match error.is_connect() {
        true => "connection refused".into(),
        false => "the connection was closed without an answer".into(),
    }
}

/// The beginning of an answer's body.
async fn read_body(mut response: reqwest::Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() >= PAGE {
            body.truncate(PAGE);
            break;
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// A line as it is shown.
fn shorten(line: &str) -> String {
    line.chars().take(LINE).collect()
}

/// The first of what a container wrote, as far as it came in time.
async fn read_beginning(output: impl Stream<Item = Result<LogOutput, ApiError>>) -> String {
    let mut bytes = Vec::new();
    let read = async {
        let mut output = std::pin::pin!(output);
        while let Some(Ok(chunk)) = output.next().await {
            bytes.extend_from_slice(&chunk.into_bytes());
            if bytes.len() >= KEPT {
                break;
            }
        }
    };
    // What did not come in time is left out.
    let _ = tokio::time::timeout(EXPLAIN_TIMEOUT, read).await;
    bytes.truncate(KEPT);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last of what a container wrote, as far as it came in time. One that writes faster than it is
/// read has no last line.
async fn read_end(output: impl Stream<Item = Result<LogOutput, ApiError>>) -> String {
    let (mut bytes, mut seen) = (Vec::new(), 0);
    let read = async {
        let mut output = std::pin::pin!(output);
        while let Some(Ok(chunk)) = output.next().await {
            let chunk = chunk.into_bytes();
            seen += chunk.len();
            bytes.extend_from_slice(&chunk);
            if bytes.len() > 2 * KEPT {
                bytes.drain(..bytes.len() - KEPT);
            }
            if seen >= READ {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(EXPLAIN_TIMEOUT, read).await;
    bytes.drain(..bytes.len().saturating_sub(KEPT));
    // The line that was cut is none.
    let begins = match seen > bytes.len() {
        true => bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1),
        false => 0,
    };
    String::from_utf8_lossy(&bytes[begins..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A container that writes `line` for ever, and how much of it was taken.
    fn endless(
        line: &'static [u8],
        taken: &std::cell::Cell<usize>,
    ) -> impl Stream<Item = Result<LogOutput, ApiError>> {
        futures::stream::repeat_with(move || {
            taken.set(taken.get() + line.len());
            Ok(LogOutput::StdOut { message: bytes::Bytes::from_static(line) })
        })
    }

    #[tokio::test]
    async fn a_log_without_end_is_read_to_a_bound() {
        static LINE: [u8; 65_536] = {
            let mut line = [b'x'; 65_536];
            line[65_535] = b'\n';
            line
        };
        let taken = std::cell::Cell::new(0);
        let text = read_end(endless(&LINE, &taken)).await;
        assert!(text.len() <= KEPT && taken.get() <= READ + LINE.len(), "{}", taken.get());
        assert!(text.lines().all(|line| line.len() == LINE.len() - 1), "only whole lines are kept");
        taken.set(0);
        let text = read_beginning(endless(&LINE, &taken)).await;
        assert!(text.len() <= KEPT && taken.get() <= 2 * KEPT, "{}", taken.get());
    }

    #[tokio::test]
    async fn a_short_log_is_read_whole() {
        let chunks = ["one\ntw", "o\n", "three"].map(|text| {
            Ok(LogOutput::StdErr { message: bytes::Bytes::from_static(text.as_bytes()) })
        });
        let text = read_end(futures::stream::iter(chunks)).await;
        assert_eq!(text, "one\ntwo\nthree");
        assert_eq!(read_end(futures::stream::empty()).await, "");
    }
}
