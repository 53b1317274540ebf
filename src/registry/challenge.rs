//! What a registry answers to who is nobody yet: where to get a token. Pure.
//!
//! <https://distribution.github.io/distribution/spec/auth/token/>

use url::Url;

use crate::error::{Error, Result};
use crate::http::{is_safe, may_lead};

/// `Bearer realm="https://auth.example.org/token",service="registry"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    realm: String,
    service: Option<String>,
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header; none where it asks for anything but a bearer token.
    pub fn parse(header: &str) -> Option<Challenge> {
        let (scheme, mut rest) = header.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        // Each turn takes at least one character, so that this ends with the header.
        while let Some((key, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(',').unwrap_or(after.len())),
            };
            match key.trim().to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.trim().to_string()),
                "service" => service = Some(value.trim().to_string()),
                _ => {}
            }
            rest = after.trim_start().trim_start_matches(',').trim_start();
        }
        Some(Challenge { realm: realm?, service })
    }

    /// Where to ask for a token that may push to `name` at `registry`, and read the repository that
    /// blobs are mounted from. The scope is ours, not the challenge's: a look-up's would be too
    /// small for the upload behind it.
    ///
    /// # Errors
    /// Refused, when the registry sends us to a place without TLS, or to this machine.
    pub fn url(&self, registry: &Url, name: &str, mount_from: Option<&str>) -> Result<Url> {
        let refused = |why: &str| {
            Error::refused(format!(
                "cannot get a token at `{}`, where the registry sends us",
                self.realm.escape_default()
            ))
            .why(why)
        };
        let mut url = Url::parse(&self.realm).map_err(|error| refused(&error.to_string()))?;
        if !is_safe(&url) {
            return Err(refused("tokens do not go over plain HTTP"));
        }
        if !may_lead(registry, &url) {
            return Err(refused("it is elsewhere, and that is this machine"));
        }
        if let Some(service) = &self.service {
            url.query_pairs_mut().append_pair("service", service);
        }
        url.query_pairs_mut().append_pair("scope", &format!("repository:{name}:pull,push"));
        if let Some(from) = mount_from {
            url.query_pairs_mut().append_pair("scope", &format!("repository:{from}:pull"));
        }
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let cases = [
            (
                r#"Bearer realm="https://a/t",service="r, s",scope="repository:a/b:pull""#,
                Some(("https://a/t", Some("r, s"))),
            ),
            (r#"bearer service=r , realm="https://a/t""#, Some(("https://a/t", Some("r")))),
            (r#"Bearer realm="https://a/t""#, Some(("https://a/t", None))),
            (r#"Bearer service="r""#, None),
            (r#"Bearer realm="https://a/t"#, None),
            (r#"Basic realm="https://a/t""#, None),
            ("Bearer", None),
            ("Bearer =,=,=", None),
            ("", None),
        ];
        for (header, expected) in cases {
            let found = Challenge::parse(header);
            let found =
                found.as_ref().map(|found| (found.realm.as_str(), found.service.as_deref()));
            assert_eq!(found, expected, "{header}");
        }
    }

    #[test]
    fn a_token_is_asked_for_where_it_is_safe() {
        let challenge =
            |realm: &str| Challenge { realm: realm.into(), service: Some("a b".into()) };
        let registry = |text: &str| Url::parse(text).expect("a URL");
        let (here, elsewhere) = (registry("http://localhost:5000"), registry("https://r"));
        let at = |realm: &str| challenge(realm).url(&here, "team/x", None);
        let mounting = challenge("https://a/t").url(&elsewhere, "team/x", Some("team/base"));
        let mounting = mounting.expect("a URL");
        assert!(
            mounting.as_str().ends_with("Apull%2Cpush&scope=repository%3Ateam%2Fbase%3Apull"),
            "{mounting}"
        );
        assert_eq!(
            at("https://a/t?account=1").expect("a URL").as_str(),
            "https://a/t?account=1&service=a+b&scope=repository%3Ateam%2Fx%3Apull%2Cpush"
        );
        assert!(at("http://localhost:5001/t").is_ok());
        assert!(challenge("http://localhost:5001/t").url(&elsewhere, "team/x", None).is_err());
        for realm in ["http://a/t", "file:///etc/passwd", "/token", ""] {
            assert!(at(realm).is_err(), "{realm}");
        }
    }
}
