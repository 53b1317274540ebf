//! The address of a repository, and where requests to it may go. Pure.

use url::Url;

use crate::error::{Error, Result};
use crate::http::{is_loopback, is_safe, may_lead};
use crate::layout::Digest;

const NAME_RULE: &str = "a name has lower-case letters, digits and single `.`, `_`, `-` between \
                         them, in parts split by `/`";

/// A repository in a registry.
#[derive(Clone, Debug)]
pub struct Address {
    /// The origin that requests go to.
    base: Url,
    /// The registry as images are named after it: `registry.example.org:5000`.
    host: String,
    name: String,
}

impl Address {
    /// Parses `HOST[:PORT]/NAME`. Requests go to loopback by plain HTTP and elsewhere by TLS, as
    /// Docker's do.
    ///
    /// # Errors
    /// Bad input that says what a repository looks like.
    pub fn parse(repository: &str) -> Result<Address> {
        let bad = |why: &str| {
            Error::input(format!(
                "cannot push to `{}`: it is no repository",
                repository.escape_default()
            ))
            .why(why)
            .fix(
                "write HOST[:PORT]/NAME, without scheme, tag and digest: \
                     registry.example.org/team/patients",
            )
        };
        if repository.contains("://") {
            return Err(bad("it has a scheme"));
        }
        let (host, name) =
            repository.split_once('/').ok_or_else(|| bad("it has no `/` between host and name"))?;
        let named = host == "localhost" || host.contains(['.', ':']);
        if !named {
            return Err(bad("it begins with no host"));
        }
        if !is_name(name) {
            return Err(bad(NAME_RULE));
        }
        // The scheme depends on the host, which is parsed once to see whether it is loopback.
        let base =
            Url::parse(&format!("https://{host}")).map_err(|error| bad(&error.to_string()))?;
        if base.path() != "/"
            || !base.username().is_empty()
            || base.query().is_some()
            || base.fragment().is_some()
        {
            return Err(bad("the host has more than a name and a port"));
        }
        let scheme = if is_loopback(&base) { "http" } else { "https" };
        let base =
            Url::parse(&format!("{scheme}://{host}")).map_err(|error| bad(&error.to_string()))?;
        Ok(Address { base, host: host.to_string(), name: name.to_string() })
    }

    /// The address of a repository in an ECR registry, at `endpoint` if one is given.
    ///
    /// # Errors
    /// Bad input, if ECR takes no such name, or the endpoint is no `https://HOST` (`http://` on
    /// loopback).
    pub fn ecr(host: String, name: &str, endpoint: Option<&str>) -> Result<Address> {
        if !is_name(name) || name.len() < 2 {
            let shown = name.escape_default();
            return Err(Error::input(format!("cannot name a repository `{shown}` in ECR"))
                .why(NAME_RULE)
                .fix(
                    "correct `registry.prefix` in platform.yaml, which stands before the \
                     service's name: `prefix: clinicult/`",
                ));
        }
        let origin = endpoint.map_or_else(|| format!("https://{host}"), str::to_string);
        let bad = |why: &str| {
            Error::input(format!("cannot use registry.endpoint `{}`", origin.escape_default()))
                .why(why)
                .fix(
                    "write `endpoint: https://HOST[:PORT]` in platform.yaml; http:// is for \
                     loopback only",
                )
        };
        let base = Url::parse(&origin).map_err(|error| bad(&error.to_string()))?;
        if !is_safe(&base) {
            return Err(bad("credentials do not go over plain HTTP"));
        }
        let more = base.path() != "/" || base.query().is_some() || base.fragment().is_some();
        if more || !base.username().is_empty() || base.password().is_some() {
            return Err(bad("it is more than an origin"));
        }
        Ok(Address { base, host, name: name.to_string() })
    }

    /// The repository in the form of image names: `HOST/NAME`.
    pub fn shown(&self) -> String {
        format!("{}/{}", self.host, self.name)
    }

    /// The origin that requests go to.
    pub fn origin(&self) -> &Url {
        &self.base
    }

    /// The repository's name without the host.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL of a part of the repository: `manifests/1.4.0`, `blobs/uploads/`.
    pub fn url(&self, rest: &str) -> Url {
        let mut url = self.base.clone();
        // Names and references are checked, and need no escapes.
        url.set_path(&format!("/v2/{}/{rest}", self.name));
        url
    }

    /// Returns where a blob is put, from the `Location` of an upload session. A registry behind
    /// `registry.endpoint` may name its own host, which is reached at the endpoint.
    ///
    /// # Errors
    /// The reason, if it is no URL, or would go over plain HTTP.
    pub fn upload(&self, location: &str, digest: &Digest) -> Result<Url, String> {
        let mut url =
            self.url("blobs/uploads/").join(location).map_err(|error| error.to_string())?;
        let own = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
            None => url.host_str().unwrap_or_default().to_string(),
        };
        if own == self.host {
            let mut at = self.base.clone();
            at.set_path(url.path());
            at.set_query(url.query());
            url = at;
        }
        if !may_lead(&self.base, &url) {
            return Err(format!("uploads do not go to {}", url.origin().ascii_serialization()));
        }
        url.query_pairs_mut().append_pair("digest", digest.as_str());
        Ok(url)
    }

    /// Whether credentials for this registry may go to `url`.
    pub fn is_origin_of(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }
}

/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>
fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = part.bytes().next().is_some_and(alphanumeric)
            && part.bytes().last().is_some_and(alphanumeric);
        let known =
            part.bytes().all(|byte| alphanumeric(byte) || matches!(byte, b'.' | b'_' | b'-'));
        let separated = part.split(|c: char| c.is_ascii_alphanumeric()).all(|between| {
            matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-')
        });
        ends && known && separated
    };
    name.len() <= 255 && name.split('/').all(part)
}

/// Checks the name of a repository, without its host.
///
/// # Errors
/// Bad input, if no registry takes it.
pub fn check_name(name: &str) -> Result<()> {
    match is_name(name) {
        true => Ok(()),
        false => {
            let name = name.escape_default();
            Err(Error::input(format!("cannot mount from `{name}`: it is no repository's name"))
                .fix("write it without host, tag and digest: team/base"))
        }
    }
}

/// Checks a tag.
///
/// # Errors
/// Bad input, if no registry takes it.
pub fn check_tag(tag: &str) -> Result<()> {
    let first = tag.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let rest =
        tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    if first && rest && tag.len() <= 128 {
        return Ok(());
    }
    Err(Error::input(format!("cannot use `{}` as a tag", tag.escape_default()))
        .why(
            "a tag has up to 128 letters, digits, `.`, `_` and `-`, and begins with none of `.` \
             and `-`",
        )
        .fix("take the output `docker-tag` of `cicd version`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_read_as_docker_reads_them() {
        let cases = [
            ("localhost/patients", "http://localhost/v2/patients/"),
            ("localhost:5000/team/patients", "http://localhost:5000/v2/team/patients/"),
            ("127.0.0.1:5000/a", "http://127.0.0.1:5000/v2/a/"),
            ("[::1]:5000/a", "http://[::1]:5000/v2/a/"),
            ("registry.example.org/team/a-b_c.d", "https://registry.example.org/v2/team/a-b_c.d/"),
            ("localhost.example.org/a", "https://localhost.example.org/v2/a/"),
            ("10.0.0.1:5000/a", "https://10.0.0.1:5000/v2/a/"),
        ];
        for (repository, url) in cases {
            let address = Address::parse(repository).expect(repository);
            assert_eq!(address.url("").as_str(), url);
            assert_eq!(address.shown(), repository);
        }
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        let bad = [
            "",
            "patients",
            "team/patients",
            "https://a.example/b",
            "a.example/",
            "a.example/B",
            "a.example/b:1.0",
            "a.example/b@sha256:00",
            "a.example/../b",
            "a.example//b",
            "a.example/b/",
            "user@a.example/b",
            "a.example/b?c",
            "a.example/-b",
            "a.example/b..c",
            "a.example:x/b",
            "a.example/b\nc",
            "a.example\\x/b",
        ];
        for repository in bad {
            let error = Address::parse(repository).expect_err(repository);
            assert!(!error.fixes.is_empty(), "{repository}");
        }
    }

    #[test]
    fn an_endpoint_is_an_origin_and_safe() {
        let host = || "111122223333.dkr.ecr.eu-west-1.amazonaws.com".to_string();
        let address = Address::ecr(host(), "clinicult/patients", None).expect("ECR");
        assert_eq!(
            address.url("x").as_str(),
            format!("https://{}/v2/clinicult/patients/x", host())
        );
        let address = Address::ecr(host(), "clinicult/patients", Some("http://localhost:4566"))
            .expect("loopback");
        assert_eq!(address.url("x").as_str(), "http://localhost:4566/v2/clinicult/patients/x");
        assert_eq!(address.shown(), format!("{}/clinicult/patients", host()));
        for endpoint in [
            "http://10.0.0.1",
            "localhost:1",
            "https://a/b",
            "https://u:p@a",
            "ftp://a",
            "https://a?b",
            "",
        ] {
            assert!(Address::ecr(host(), "a/b", Some(endpoint)).is_err(), "{endpoint}");
        }
        for name in ["", "a", "Clinicult/patients", "clinicult//patients", "/patients"] {
            assert!(Address::ecr(host(), name, None).is_err(), "{name}");
        }
    }

    #[test]
    fn an_upload_goes_where_the_registry_says_and_is_safe() {
        let digest = Digest::of(b"");
        let end = format!("digest=sha256%3A{}", digest.hex());
        let ecr = "111122223333.dkr.ecr.eu-west-1.amazonaws.com";
        let at = |endpoint| Address::ecr(ecr.into(), "a/b", endpoint).expect("an address");
        let local = Some("http://localhost:4566");
        let cases = [
            (
                at(None),
                "/v2/a/b/blobs/uploads/1".to_string(),
                Some(format!("https://{ecr}/v2/a/b/blobs/uploads/1?{end}")),
            ),
            (
                at(None),
                "1?state=a%2Fb".into(),
                Some(format!("https://{ecr}/v2/a/b/blobs/uploads/1?state=a%2Fb&{end}")),
            ),
            (
                at(local),
                format!("https://{ecr}/v2/u?s=1"),
                Some(format!("http://localhost:4566/v2/u?s=1&{end}")),
            ),
            (
                at(None),
                "https://elsewhere.example/u".into(),
                Some(format!("https://elsewhere.example/u?{end}")),
            ),
            (at(None), "http://elsewhere.example/u".into(), None),
            (at(None), "http://127.0.0.1/u".into(), None),
            (at(None), "https://localhost/u".into(), None),
            (at(None), "file:///etc/passwd".into(), None),
        ];
        for (address, location, expected) in cases {
            let url = address.upload(&location, &digest).ok();
            assert_eq!(url.as_ref().map(Url::as_str), expected.as_deref(), "{location}");
        }
        assert!(!at(None).is_origin_of(&Url::parse("https://elsewhere.example/u").expect("a URL")));
        assert!(at(None).is_origin_of(&at(None).url("x")));
    }

    #[test]
    fn tags_are_checked() {
        for tag in ["1.4.0", "1.3.3-main.4", "_x", "latest", &"a".repeat(128)] {
            assert!(check_tag(tag).is_ok(), "{tag}");
        }
        for tag in ["", ".a", "-a", "a b", "a/b", "1.0+build", "a:b", "ä", "a\n", &"a".repeat(129)]
        {
            assert!(check_tag(tag).is_err(), "{tag}");
        }
    }
}
