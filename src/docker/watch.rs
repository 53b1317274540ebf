//! A container that runs to its end: what it writes meanwhile, and the files that it leaves. All of
//! it is a stranger's, so that nothing is read without a bound.

use std::io::Read;
use std::time::Duration;

use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, LogsOptionsBuilder};
use futures::StreamExt;

use super::api::{Engine, explain_refusal, keep_present};
use super::{Container, State};
use crate::error::{Error, Result};

/// The largest file that is taken out of a container, in bytes.
const LARGEST: usize = 16 * 1024 * 1024;

/// The longest line that is handed on at once, in bytes.
const LINE: usize = 8 * 1024;

/// Time between two looks at a container whose log is at its end.
const INTERVAL: Duration = Duration::from_millis(50);

impl Engine {
    /// Hands each line that a container writes to `say` until it ends; gives how it ended.
    ///
    /// # Errors
    /// Unexpected, when the engine does not answer, or somebody removed the container.
    pub async fn follow(&self, name: &str, say: impl Fn(&str)) -> Result<State> {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).follow(true).build();
        let mut log = std::pin::pin!(self.docker.logs(name, Some(options)));
        let mut rest: Vec<u8> = Vec::new();
        while let Some(Ok(chunk)) = log.next().await {
            rest.extend_from_slice(&chunk.into_bytes());
            while let Some(end) = find_line_end(&rest) {
                let line: Vec<u8> = rest.drain(..end).collect();
                say(String::from_utf8_lossy(&line).trim_end());
            }
        }
        if !rest.is_empty() {
            say(String::from_utf8_lossy(&rest).trim_end());
        }
        loop {
            let Some(Container { state, .. }) = self.inspect(name).await? else {
                return Err(Error::unexpected(format!(
                    "cannot watch container {name}: somebody removed it"
                )));
            };
            if matches!(state, State::Ended { .. }) {
                return Ok(state);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Reads a file of a container, running or not. `None` if there is none, or a folder is.
    ///
    /// # Errors
    /// Unexpected, when the engine refuses, or the file is too large.
    pub async fn read_file(&self, name: &str, path: &str) -> Result<Option<Vec<u8>>> {
        let attempt = || format!("read {path} of container {name}");
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let mut packed = Vec::new();
        let mut parts = std::pin::pin!(self.docker.download_from_container(name, Some(options)));
        while let Some(part) = parts.next().await {
            let part = keep_present(part).map_err(|error| explain_refusal(&attempt(), &error))?;
            let Some(part) = part else { return Ok(None) };
            packed.extend_from_slice(&part);
            if packed.len() > LARGEST {
                return Err(Error::unexpected(format!("cannot {}", attempt()))
                    .why(format!("it has more than {} MiB", LARGEST / 1024 / 1024)));
            }
        }
        let cannot = |error| Error::unexpected(format!("cannot {}", attempt())).why(error);
        let mut archive = tar::Archive::new(packed.as_slice());
        let mut entries = archive.entries().map_err(cannot)?;
        let Some(entry) = entries.next() else { return Ok(None) };
        let mut entry = entry.map_err(cannot)?;
        if !entry.header().entry_type().is_file() {
            return Ok(None);
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(cannot)?;
        Ok(Some(content))
    }
}

/// Where the first line ends; a longer one than is handed on ends there.
fn find_line_end(text: &[u8]) -> Option<usize> {
    let end = text.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
    end.or((text.len() > LINE).then_some(LINE))
}
