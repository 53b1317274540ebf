//! Secret masking: what nobody may read, by the value that was made known, by the name beside it, by
//! its shape. Pure.

mod forms;
mod names;

use std::sync::LazyLock;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use regex::Regex;
use serde_json::Value;

use crate::untrusted::Untrusted;
pub use names::{is_secret_name, is_stand_in, is_switch};

/// What stands in the place of a secret.
pub const HIDDEN: &str = "***";

/// The shortest secret that is looked for, in bytes: a shorter one is part of ordinary text.
const SHORTEST: usize = 4;
/// The shortest other form of one.
const SHORTEST_PART: usize = 8;

/// Kinds of secrets that are told by their own shape, and the shape.
pub const SHAPES: [(&str, &str); 17] = [
    (
        "a private key",
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\s|\\r|\\n|[A-Za-z-]+: [^\n]*\n)+[A-Za-z0-9+/=]{32}",
    ),
    ("an AWS access key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("a GitHub token", r"\bgh[pousr]_[A-Za-z0-9]{36}"),
    ("a GitHub token", r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    ("a GitLab token", r"\bglpat-[A-Za-z0-9_-]{20}"),
    ("an npm token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("a PyPI token", r"\bpypi-AgE[A-Za-z0-9_-]{50}"),
    ("a Slack token", r"\bxox[abprs]-[0-9]{8,}-[A-Za-z0-9-]{20}"),
    (
        "a Slack webhook",
        r"\bhooks\.slack\.com/services/T[A-Z0-9]{8,}/B[A-Z0-9]{8,}/[A-Za-z0-9]{20}",
    ),
    ("a Stripe key", r"\b[rs]k_live_[A-Za-z0-9]{20}"),
    ("a model provider's key", r"\bsk-(?:ant|proj)-[A-Za-z0-9_-]{32}"),
    ("an Azure storage key", r"\bAccountKey=[A-Za-z0-9+/]{86}=="),
    ("a Vault token", r"\bhvs\.[A-Za-z0-9_-]{24}"),
    ("a Docker token", r"\bdckr_[a-z]+_[A-Za-z0-9_-]{27}"),
    ("a SendGrid key", r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    ("a Hugging Face token", r"\bhf_[A-Za-z]{34}\b"),
    ("a DigitalOcean token", r"\bdo[opr]_v1_[a-f0-9]{64}\b"),
];

static SHAPED: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    let compile = |(what, shape): &(&'static str, &str)| Some((*what, Regex::new(shape).ok()?));
    SHAPES.iter().filter_map(compile).collect()
});

/// A URL's user and password (<https://www.rfc-editor.org/rfc/rfc3986#section-3.2.1>).
static CREDENTIALS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r#"([A-Za-z][A-Za-z0-9+.-]*://)([^\s/:@"'<>?#]*)(?::([^\s/"'<>?#]*))?@"#).ok()
});

/// What stands before a value inside of a longer text: `NAME=`, `name: `, `"name": "`.
static ASSIGNMENT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r#"([A-Za-z][A-Za-z0-9_.-]*)\\?["']?[ \t]*[=:][ \t]*\\?["']?"#).ok()
});

/// The shortest value of such a name that is taken for a secret, in bytes.
const SHORTEST_VALUE: usize = 6;

/// How a renderer escapes text: a secret is looked for in that form too.
pub type Escape = fn(&str) -> String;

/// Secrets that were made known, in every form in which they may be shown.
#[derive(Default)]
pub struct Redactor {
    /// The longest first: a secret that holds another is not to be cut open by it.
    forms: Vec<String>,
    escapes: &'static [Escape],
}

impl Redactor {
    /// Returns a redactor for text that `escapes` have gone over.
    pub fn new(escapes: &'static [Escape]) -> Self {
        Redactor { forms: Vec::new(), escapes }
    }

    /// Makes a secret known, and returns the lines that others have to be told to hide: each form
    /// of it that is one.
    pub fn add(&mut self, secret: &[u8]) -> Vec<String> {
        let mut found = forms::find_forms(secret);
        found.retain(|form| form.len() >= SHORTEST);
        for form in &found {
            self.forms.push(form.clone());
            self.forms.extend(forms_of(form, self.escapes));
        }
        self.forms.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.forms.dedup();
        found.retain(|form| !form.contains(['\n', '\r']));
        found
    }

    /// Returns `text` with every known secret, and every password in a URL, hidden.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_string();
        for form in &self.forms {
            if text.contains(form.as_str()) {
                text = text.replace(form.as_str(), HIDDEN);
            }
        }
        hide_url_passwords(text)
    }

    /// Returns `value` with its texts and keys redacted. Texts are redacted before they are written
    /// as JSON, where quotes and backslashes of a secret are escaped.
    pub fn redact_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.redact(&text)),
            Value::Array(list) => {
                Value::Array(list.into_iter().map(|value| self.redact_value(value)).collect())
            }
            Value::Object(map) => Value::Object(
                map.into_iter()
                    .map(|(key, value)| (self.redact(&key), self.redact_value(value)))
                    .collect(),
            ),
            other => other,
        }
    }
}

/// Other ways in which renderers write a form of a secret, and its base64 within a longer text.
fn forms_of(form: &str, escapes: &[Escape]) -> Vec<String> {
    let mut forms = vec![Untrusted::new(form).lines(), Untrusted::new(form).line()];
    forms.extend(escapes.iter().map(|escape| escape(form)));
    forms.retain(|other| other != form);
    forms.extend(base64_forms(form.as_bytes()));
    forms.retain(|form| form.len() >= SHORTEST_PART);
    forms
}

/// The base64 of a secret, alone and as part of a longer text that begins up to two bytes before
/// it. What depends on the bytes around it is left out.
fn base64_forms(secret: &[u8]) -> Vec<String> {
    let mut forms = Vec::new();
    for alphabet in [&STANDARD, &URL_SAFE] {
        let engine =
            GeneralPurpose::new(alphabet, GeneralPurposeConfig::new().with_encode_padding(false));
        for before in 0..3 {
            let text = engine.encode([&vec![0; before][..], secret].concat());
            let known = (before + secret.len()) * 8 / 6;
            let begin = (before * 8).div_ceil(6);
            forms.extend(text.get(begin..known).map(str::to_string));
        }
    }
    forms
}

/// Returns `text` with the password of every URL hidden, also where a token stands in the place of
/// the user. References to a password stay: `$(PASSWORD)`, `${PASSWORD}`.
fn hide_url_passwords(text: String) -> String {
    if !text.contains("://") || !text.contains('@') {
        return text;
    }
    let Some(pattern) = CREDENTIALS.as_ref() else { return text };
    let hide = |found: &regex::Captures<'_>| {
        let part = |number: usize| found.get(number).map_or("", |part| part.as_str());
        match credential(part(2), found.get(3).map(|password| password.as_str())) {
            Some(Credential::Password) => format!("{}{}:{HIDDEN}@", part(1), part(2)),
            Some(Credential::Token) => format!("{}{HIDDEN}@", part(1)),
            None => part(0).to_string(),
        }
    };
    pattern.replace_all(&text, hide).into_owned()
}

/// What of a URL's user information is secret.
enum Credential {
    Password,
    Token,
}

fn credential(user: &str, password: Option<&str>) -> Option<Credential> {
    const TOKEN: usize = 20;
    match password {
        Some("") | None if user.len() >= TOKEN && !is_reference(user) => Some(Credential::Token),
        Some(password) if !password.is_empty() && !is_reference(password) => {
            Some(Credential::Password)
        }
        _ => None,
    }
}

/// Whether a text only names where a secret is: a variable, a place in a secret store, a file.
fn is_reference(text: &str) -> bool {
    let text = text.trim();
    let is_path = || {
        text.starts_with('/')
            && text[1..].contains('/')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
    };
    let wraps = [("$(", ")"), ("${", "}"), ("{{", "}}"), ("<", ">")];
    text.is_empty()
        || text == HIDDEN
        || text.starts_with("arn:")
        || ["secretsmanager:", "ssm:", "k8s:"].iter().any(|store| text.starts_with(store))
        || wraps.iter().any(|(begin, end)| text.starts_with(begin) && text.ends_with(end))
        || text.strip_prefix('$').is_some_and(|name| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
        || is_path()
}

/// Whether what has this name is secret, in every way that names are written: `DB_PASSWORD`,
/// `dbPassword`, `db-password`, `--db.password`.
pub fn names_secret(name: &str) -> bool {
    let mut words = String::with_capacity(name.len() + 4);
    let mut before = '_';
    for c in name.trim_start_matches('-').chars() {
        if c.is_uppercase() && (before.is_lowercase() || before.is_ascii_digit()) {
            words.push('_');
        }
        words.push(if c.is_alphanumeric() { c } else { '_' });
        before = c;
    }
    is_secret_name(&words)
}

/// What kind of secret a text holds by its shape: a token's prefix, a password in a URL, or the
/// value of something that is called like a secret.
pub fn find_secret(text: &str) -> Option<&'static str> {
    if let Some((what, _)) = SHAPED.iter().find(|(_, shape)| shape.is_match(text)) {
        return Some(what);
    }
    let url = CREDENTIALS.as_ref().into_iter().flat_map(|pattern| pattern.captures_iter(text));
    let in_url = |found: regex::Captures<'_>| {
        let user = found.get(2).map_or("", |user| user.as_str());
        credential(user, found.get(3).map(|password| password.as_str())).is_some()
    };
    if url.into_iter().any(in_url) {
        return Some("a password in a URL");
    }
    let names = ASSIGNMENT.as_ref().into_iter().flat_map(|pattern| pattern.captures_iter(text));
    let assigns = |found: regex::Captures<'_>| {
        let rest = found.get(0).map_or("", |whole| &text[whole.end()..]);
        let ends = |c: char| c.is_whitespace() || "\"',;&\\".contains(c);
        let value = &rest[..rest.find(ends).unwrap_or(rest.len())];
        value.len() >= SHORTEST_VALUE
            && names_secret(&found[1])
            && !is_reference(value)
            && !is_stand_in(value)
    };
    names.into_iter().any(assigns).then_some("the value of a secret's name")
}

/// What kind of secret stands in `value`, which is called `name`. `None` for switches, stand-ins
/// and references.
pub fn classify_secret(name: &str, value: &str) -> Option<&'static str> {
    match find_secret(value) {
        Some(what) => Some(what),
        None if names_secret(name) && !is_reference(value) && !is_stand_in(value) => {
            Some("a secret by its name")
        }
        None => None,
    }
}

/// Whether a plan hides `value`, which is called `name`. It hides more than [`classify_secret`]
/// finds: a value that looks like a stand-in may still be somebody's password.
pub fn is_hidden(name: &str, value: &str) -> bool {
    let is_switch = matches!(value, "true" | "false" | "");
    names_secret(name) && !is_reference(value) && !is_switch || find_secret(value).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_in_each_of_its_forms() {
        let secret = "pa\"ss\\wo_rd*99%&+/ü";
        let mut redactor = Redactor::new(&[|text| text.replace('%', "%25")]);
        redactor.add(secret.as_bytes());
        let base64 = base64::prelude::BASE64_STANDARD;
        let forms = [
            secret.to_string(),
            serde_json::json!({ "a": secret }).to_string(),
            serde_json::json!(serde_json::json!({ "a": secret }).to_string()).to_string(),
            url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
            secret.replace('%', "%25"),
            base64.encode(secret),
            base64.encode(format!("u:{secret}")),
            base64.encode(format!("user:{secret}\n")),
            base64.encode(format!("{{\"p\":\"{secret}\"}}")),
        ];
        for form in forms {
            let shown = redactor.redact(&form);
            assert!(shown.contains(HIDDEN), "{form} is shown as {shown}");
            assert!(!shown.contains("ss\\wo"), "{form} is shown as {shown}");
        }
        assert_eq!(redactor.redact("nothing"), "nothing");
    }

    #[test]
    fn what_base64_stands_for_is_hidden_line_by_line() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq0123\n-----END KEY-----\n";
        let mut redactor = Redactor::default();
        let told = redactor.add(base64::prelude::BASE64_STANDARD.encode(key).as_bytes());
        assert!(told.iter().any(|line| line == "MIIEvQIBADANBgkq0123"), "{told:?}");
        assert_eq!(redactor.redact("bad: MIIEvQIBADANBgkq0123!"), "bad: ***!");
    }

    #[test]
    fn the_password_of_a_url_is_hidden() {
        let cases = [
            ("postgres://app:hunter2@db/x", "postgres://app:***@db/x"),
            ("postgres://app:p@ss:w@db/x", "postgres://app:***@db/x"),
            ("redis://:hunter2@db", "redis://:***@db"),
            ("two: http://a:b@c and http://d:e@f", "two: http://a:***@c and http://d:***@f"),
            ("https://ghs_0123456789abcdefghij@github.com/o/r", "https://***@github.com/o/r"),
            ("https://ghs_0123456789abcdefghij:@github.com", "https://***@github.com"),
            ("ssh://git@github.com/o/r", "ssh://git@github.com/o/r"),
            ("http://host:8080/a@b", "http://host:8080/a@b"),
            ("postgres://$(USER):$(PASSWORD)@db", "postgres://$(USER):$(PASSWORD)@db"),
            ("postgres://app:${PASSWORD}@db", "postgres://app:${PASSWORD}@db"),
            ("mail ada@example.org", "mail ada@example.org"),
        ];
        for (text, expected) in cases {
            assert_eq!(Redactor::default().redact(text), expected);
        }
    }

    #[test]
    fn a_secret_is_known_by_its_name_and_by_its_shape() {
        struct Case {
            name: &'static str,
            value: &'static str,
            found: bool,
        }
        let case = |name, value, found| Case { name, value, found };
        let cases = [
            case("DATABASE_PASSWORD", "hunter2hunter2", true),
            case("apiToken", "hunter2hunter2", true),
            case("client-secret", "hunter2hunter2", true),
            case("NPM_TOKEN", "npm_x", true),
            case("SMTP_PASS", "hunter2hunter2", true),
            case("MYSQL_PWD", "hunter2hunter2", true),
            case("PGPASSWORD", "hunter2hunter2", true),
            case("REDIS_PASSPHRASE", "hunter2hunter2", true),
            case("AUTHTOKEN", "hunter2hunter2", true),
            case("GITHUB_PAT", "hunter2hunter2", true),
            case("JWT_KEY", "hunter2hunter2", true),
            case("X", "dckr_pat_abcdefghijklmnopqrstuvwxyz0", true),
            case("PWD", "/srv", false),
            case("BYPASS", "hunter2hunter2", false),
            case("MAX_NEW_TOKENS", "hunter2hunter2", false),
            case("PASS_THROUGH", "true", false),
            case("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", true),
            case("DATABASE_URL", "postgres://app:hunter2hunter2@db.example/app", true),
            case("KEY_ID", "AKIAIOSFODNN7EXAMPLE", true),
            case("JAVA_OPTS", "-Xmx1g -Ddb.password=hunter2hunter2", true),
            case("CONFIG", "{\"client_secret\": \"hunter2hunter2\"}", true),
            case("DATABASE_URL", "postgres://db.example/app", false),
            case("DATABASE_URL", "postgres://app:$(PASSWORD)@db/app", false),
            case("DATABASE_PASSWORD", "$(OTHER)", false),
            case("DATABASE_PASSWORD", "arn:aws:secretsmanager:eu-west-1:1:secret:x", false),
            case("DATABASE_PASSWORD_FILE", "/run/secrets/db", false),
            case("TOKEN", "/var/run/secrets/token", false),
            case("REQUIRE_PASSWORD", "true", false),
            case("TOKEN_TTL", "3600", false),
            case("MAX_TOKENS", "4096", false),
            case("secretName", "tls", false),
            case("LOG_LEVEL", "info", false),
            case("GREETING", "password: ask Ada", false),
            case("CONFIG", "db: {password: hunter2hunter2}", true),
        ];
        for Case { name, value, found } in cases {
            assert_eq!(classify_secret(name, value).is_some(), found, "{name}: {value}");
        }
    }
}
