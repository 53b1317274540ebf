//! The smoke check of ECS: asks a URL until it answers, as users do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::error::{Cannot, Code, Error, Kind, Result, chain};
use crate::http;

/// Time between two requests.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until `url` answers 2xx, at most for `within`.
///
/// # Errors
/// [`Kind::Broken`] with the last answer when it does not.
pub async fn answers(url: &str, within: Duration) -> Result<()> {
    let client = client(url)?;
    let mut last = String::from("nothing came back in time");
    let asking = async {
        loop {
            match client.get(url).send().await {
                Ok(answer) if answer.status().is_success() => return,
                Ok(answer) => last = format!("it answered {}", answer.status()),
                Err(error) => last = chain(&error.without_url()),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    if tokio::time::timeout(within.max(PAUSE), asking).await.is_ok() {
        return Ok(());
    }
    Err(Error::new(Kind::Broken, format!("{url} does not answer")).code(Code::SmokeCheckFailed).why(last).fix("see that the service answers its health path with the whole path in front of it, and that security groups let the request through"))
}

/// Names below `.localhost` are this machine by definition (RFC 6761, section 6.3), and not every
/// resolver knows.
fn client(url: &str) -> Result<reqwest::Client> {
    let mut builder = http::start_client().timeout(Duration::from_secs(10));
    let parsed = url::Url::parse(url).cannot(|| format!("read {url}"))?;
    if let Some(host) = parsed.host_str().filter(|host| host.ends_with(".localhost")) {
        let port = parsed.port_or_known_default().unwrap_or(80);
        builder = builder.resolve(host, SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    builder.build().cannot(|| "make an HTTP client".into())
}
