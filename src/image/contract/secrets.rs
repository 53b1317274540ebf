//! What in an image looks like a secret, by a file's name and by its content. Pure. Never says the
//! secret itself.
//!
//! What many images have and is no secret is left alone: public keys and certificates, samples, and
//! the tests and examples of packages that everybody can download.

use std::sync::LazyLock;

use regex::bytes::{Regex, RegexSet};

use crate::check::rules::is_secret_file;
use crate::redact::SHAPES;

/// Files up to this size are looked into; secrets that people forget in images are small. In bytes.
pub const LOOKED_INTO: u64 = 256 * 1024;

/// Where package managers put what everybody can download.
const PACKAGES: [&str; 7] = [
    "site-packages/",
    "dist-packages/",
    "node_modules/",
    "lib/python3",
    "usr/share/",
    "go/pkg/mod/",
    "lib/ruby/",
];

/// Those of them that nobody puts files of a service's own into: what is there came with a package.
const PUBLISHED: [&str; 5] =
    ["site-packages/", "dist-packages/", "node_modules/", "go/pkg/mod/", "lib/ruby/"];

/// Sources of programs that everybody can download, keys for their tests beside them.
const TOOLCHAINS: [&str; 2] = ["usr/local/go/", "usr/lib/go-"];

/// Folders of a package that hold what only looks like secrets.
const TESTS: [&str; 12] = [
    "test",
    "tests",
    "testing",
    "testdata",
    "test_data",
    "fixtures",
    "__tests__",
    "example",
    "examples",
    "doc",
    "docs",
    "demo",
];

/// What a `.git` folder is: its configuration and its history hold what nobody meant to ship.
pub const REPOSITORY: &str = "a git repository";

/// Files that are a matter of what they say, by the end of their path: what is in them, and its
/// shape.
const CONFIGURATIONS: [(&str, &str, &str); 6] = [
    (".npmrc", "an npm token", r"(?m)^[^#;\n]*_(?:authToken|auth|password)\s*=\s*[^\s$]"),
    (".pypirc", "a PyPI password", r"(?m)^\s*password\s*[=:]\s*[^\s$]"),
    (".netrc", "a password", r"\bpassword\s+\S"),
    (
        ".docker/config.json",
        "a registry's password",
        r#""(?:auth|identitytoken|password)"\s*:\s*"[^"]"#,
    ),
    (".dockercfg", "a registry's password", r#""(?:auth|password)"\s*:\s*"[^"]"#),
    (".git-credentials", "a password", r"://[^\s/:]*:[^\s/@]+@"),
];

static SET: LazyLock<Option<RegexSet>> =
    LazyLock::new(|| RegexSet::new(SHAPES.map(|(_, shape)| bytes(shape))).ok());

static EACH: LazyLock<Vec<Regex>> =
    LazyLock::new(|| SHAPES.iter().filter_map(|(_, shape)| regex(shape)).collect());

static CONFIGURED: LazyLock<Vec<Regex>> =
    LazyLock::new(|| CONFIGURATIONS.iter().filter_map(|(_, _, shape)| regex(shape)).collect());

/// A pattern of bytes: what is looked at need not be text.
fn bytes(shape: &str) -> String {
    format!("(?-u){shape}")
}

fn regex(shape: &str) -> Option<Regex> {
    Regex::new(&bytes(shape)).ok()
}

/// Whether a file is of a toolchain, or of a package that everybody can download and there no more
/// than a test or an example.
pub fn is_public(path: &str) -> bool {
    TOOLCHAINS.iter().any(|toolchain| path.starts_with(toolchain))
        || below(path, &PACKAGES)
            .is_some_and(|rest| rest.split('/').rev().skip(1).any(|folder| TESTS.contains(&folder)))
}

/// The rest of a path below the first of these places that is in it.
fn below<'a>(path: &'a str, places: &[&str]) -> Option<&'a str> {
    let below = places.iter().filter_map(|place| path.find(place).map(|at| at + place.len())).min();
    below.map(|at| &path[at..])
}

/// The secret that a file of this path is, as its name says and nobody has to look into it.
pub fn by_name(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let settled_by_content = CONFIGURATIONS.iter().any(|(end, ..)| is_at_end(path, end))
        || name.ends_with(".pem")
        || name.starts_with("id_");
    match name {
        _ if path.ends_with(".git/config") || path.ends_with(".git/HEAD") => Some(REPOSITORY),
        // A package was published with it; what is in it is looked at all the same.
        _ if settled_by_content || name.ends_with(".pub") || below(path, &PUBLISHED).is_some() => {
            None
        }
        ".env" => Some("an environment file"),
        _ if name.starts_with(".env.") && is_secret_file(path) => Some("an environment file"),
        _ if path.ends_with(".aws/credentials") => Some("AWS credentials"),
        _ if path.ends_with(".kube/config") => Some("a cluster's credentials"),
        _ if is_secret_file(path) => Some("a key or credentials"),
        _ => None,
    }
}

fn is_at_end(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

/// The secret in a file's content.
pub fn by_content(path: &str, content: &[u8]) -> Option<&'static str> {
    let configured = CONFIGURATIONS.iter().zip(CONFIGURED.iter());
    let configured = configured.filter(|((end, ..), _)| is_at_end(path, end));
    for ((_, kind, _), regex) in configured {
        if regex.is_match(content) {
            return Some(kind);
        }
    }
    // Compiled: whatever it holds, it is not what people forget. Byte code stands beside its
    // sources.
    if content.iter().take(512).any(|byte| *byte == 0) {
        return None;
    }
    in_text(content)
}

/// The secret of a known shape in a text.
pub fn in_text(text: &[u8]) -> Option<&'static str> {
    let found = SET.as_ref()?.matches(text);
    found.iter().find_map(|at| {
        let real = |found: regex::bytes::Match<'_>| !is_example(found.as_bytes());
        EACH.get(at)?.find_iter(text).any(real).then_some(SHAPES[at].0)
    })
}

/// Values that documentation shows: `AKIAIOSFODNN7EXAMPLE`, `ghp_xxxx…`.
fn is_example(found: &[u8]) -> bool {
    let text = String::from_utf8_lossy(found).to_lowercase();
    let body = &found[found.len().saturating_sub(16)..];
    let different = (0..=u8::MAX).filter(|byte| body.contains(byte)).count();
    text.contains("example") || text.contains("1234567890") || different < 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_a_pattern() {
        assert!(SET.is_some());
        assert_eq!((EACH.len(), CONFIGURED.len()), (SHAPES.len(), CONFIGURATIONS.len()));
    }

    #[test]
    fn names_that_are_secrets() {
        let cases = [
            ("app/.env", Some("an environment file")),
            (".env.production", Some("an environment file")),
            ("app/.env.example", None),
            ("app/.git/HEAD", Some("a git repository")),
            ("app/.github/HEAD", None),
            ("app/node_modules/dotenv-x/.env", None),
            ("usr/share/nginx/html/.env", Some("an environment file")),
            ("usr/share/app/store.p12", Some("a key or credentials")),
            ("app/.venv/lib/python3.13/site-packages/store/keys.p12", None),
            ("app/node_modules/x/.git/HEAD", Some("a git repository")),
            ("root/.aws/credentials", Some("AWS credentials")),
            ("root/.kube/config", Some("a cluster's credentials")),
            ("srv/store.p12", Some("a key or credentials")),
            ("app/credentials.json", Some("a key or credentials")),
            // Told by what is in them.
            ("root/.npmrc", None),
            ("root/.docker/config.json", None),
            ("root/.ssh/id_rsa", None),
            ("root/.ssh/id_rsa.pub", None),
            ("etc/ssl/certs/ca-key.pem", None),
            ("app/settings.py", None),
            ("usr/lib/environment", None),
        ];
        for (path, expected) in cases {
            assert_eq!(by_name(path), expected, "{path}");
        }
    }

    /// Not written out, so that no scanner takes this file for what it looks for.
    fn token(prefix: &str, length: usize) -> String {
        let letters = b"aB3dE5gH7jK9mN1pQ4rS6tU8vW0xY2zA";
        prefix.to_string()
            + &(0..length).map(|at| char::from(letters[at * 7 % letters.len()])).collect::<String>()
    }

    fn key(kind: &str) -> String {
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", token("MII", 61))
    }

    #[test]
    fn contents_that_are_secrets() {
        let upper = token("", 16).to_uppercase();
        let cases = [
            ("a.pem", key("PRIVATE KEY"), Some("a private key")),
            ("a.pem", key("RSA PRIVATE KEY"), Some("a private key")),
            ("id_ed25519", key("OPENSSH PRIVATE KEY"), Some("a private key")),
            (
                "a.asc",
                key("PGP PRIVATE KEY BLOCK").replacen('\n', "\n\n", 1),
                Some("a private key"),
            ),
            (
                "a.pem",
                key("EC PRIVATE KEY").replacen('\n', "\nProc-Type: 4,ENCRYPTED\n\n", 1),
                Some("a private key"),
            ),
            (
                "sa.json",
                format!("{{\"private_key\": {:?}}}", key("PRIVATE KEY")),
                Some("a private key"),
            ),
            ("a.pem", key("CERTIFICATE"), None),
            ("a.pem", key("PUBLIC KEY"), None),
            ("ssl.py", "MARK = '-----BEGIN PRIVATE KEY-----'\n".into(), None),
            ("a", format!("key = AKIA{upper}\n"), Some("an AWS access key")),
            ("a", "key = AKIAIOSFODNN7EXAMPLE\n".into(), None),
            ("a", token("ghp_", 36), Some("a GitHub token")),
            ("a", "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx".into(), None),
            ("a", token("npm_", 36), Some("an npm token")),
            ("a", token("npm_", 20), None),
            ("a", token("glpat-", 20), Some("a GitLab token")),
            ("a", token("sk_live_", 24), Some("a Stripe key")),
            ("root/.npmrc", "//r.example.org/:_authToken=abcdef\n".into(), Some("an npm token")),
            ("root/.npmrc", "//r.example.org/:_authToken=${NPM_TOKEN}\n".into(), None),
            ("root/.npmrc", "registry=https://r.example.org\n".into(), None),
            ("root/.netrc", "machine a login b password c\n".into(), Some("a password")),
            ("root/.pypirc", "[pypi]\nusername: a\npassword: b\n".into(), Some("a PyPI password")),
            (
                "root/.docker/config.json",
                "{\"auths\": {\"r\": {\"auth\": \"YTpi\"}}}".into(),
                Some("a registry's password"),
            ),
            ("root/.docker/config.json", "{\"credsStore\": \"ecr-login\"}".into(), None),
            (
                "root/.git-credentials",
                "https://me:hunter2@example.org\n".into(),
                Some("a password"),
            ),
            ("xnpmrc", "_authToken=abc".into(), None),
        ];
        for (path, content, expected) in cases {
            assert_eq!(by_content(path, content.as_bytes()), expected, "{path}: {content}");
        }
        assert_eq!(in_text(b"\xff\xfe\x00"), None);
    }

    #[test]
    fn tests_of_packages_are_public() {
        let cases = [
            ("app/.venv/lib/python3.13/site-packages/tornado/test/test.key", true),
            ("usr/local/lib/node_modules/x/fixtures/a.pem", true),
            ("usr/share/doc/x/examples/key.pem", true),
            ("usr/lib/python3.13/test/certdata/key.pem", true),
            ("usr/local/go/src/crypto/x509/platform_root_key.pem", true),
            ("app/usr/local/go/key.pem", false),
            ("app/.venv/lib/python3.13/site-packages/patients/key.pem", false),
            ("app/tests/key.pem", false),
            ("tests/site-packages/key.pem", false),
        ];
        for (path, expected) in cases {
            assert_eq!(is_public(path), expected, "{path}");
        }
    }
}
