//! Small typed values of service.yaml and platform.yaml. Each one checks itself while it is read,
//! so that an error carries the line and column of the value. Pure.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Declares a text value: its check, its JSON schema pattern and how it is shown.
macro_rules! text_value {
    ($(#[$doc:meta])* $name:ident, $pattern:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                let check: fn(&str) -> Result<(), String> = $check;
                check(&text)?;
                Ok(Self(text))
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

text_value!(
    /// A DNS label (RFC 1123): what a workload, a Service and an ECR repository can all be called.
    Name,
    "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
    |text| {
        let letters = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        let ends = text.starts_with('-') || text.ends_with('-');
        if text.is_empty() || text.len() > 63 || !letters || ends {
            return Err(format!(
                "`{text}` is not a DNS label: 1 to 63 lower-case letters, digits and `-`, with a letter or digit at both ends"
            ));
        }
        Ok(())
    }
);

text_value!(
    /// What names the prereleases of a channel in a semantic version
    /// (<https://semver.org/#spec-item-9>): `beta`.
    Identifier,
    "^[A-Za-z][-A-Za-z0-9]{0,39}$",
    |text| {
        let first = text.starts_with(|c: char| c.is_ascii_alphabetic());
        if !first || text.len() > 40 || !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(format!(
                "`{text}` cannot name prereleases: up to 40 letters, digits and `-`, beginning with a letter"
            ));
        }
        Ok(())
    }
);

text_value!(
    /// The name of an environment variable.
    Variable,
    "^[A-Za-z_][A-Za-z0-9_]*$",
    |text| {
        let mut chars = text.chars();
        let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if !first || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("`{text}` is not an environment variable name: letters, digits and `_`, not starting with a digit"));
        }
        Ok(())
    }
);

text_value!(
    /// An absolute URL path without query: `/healthz`.
    UrlPath,
    "^/[^?#\\s]*$",
    |text| {
        if !text.starts_with('/') || text.contains(['?', '#']) || text.contains(char::is_whitespace) {
            return Err(format!("`{text}` is not a URL path: it starts with `/` and has no query, fragment or space"));
        }
        Ok(())
    }
);

text_value!(
    /// `os/architecture`, as image platforms are written: `linux/amd64`.
    Platform,
    "^linux/(amd64|arm64)$",
    |text| match text {
        "linux/amd64" | "linux/arm64" => Ok(()),
        _ => Err(format!("`{text}` is not a platform that EKS and ECS run: use linux/amd64 or linux/arm64")),
    }
);

text_value!(
    /// A branch, or a pattern of branches as GitHub's filters have them: `main`, `release/*`, `*.x`.
    /// `*` stands for any text without `/`, `**` for any text.
    BranchPattern,
    "^[^\\s\\\\{}!]{1,255}$",
    |text| {
        let signs = text.contains(char::is_whitespace) || text.contains(['\\', '{', '}', '!']);
        if text.is_empty() || text.len() > 255 || signs || branch_glob(text).is_err() {
            return Err(format!("`{text}` is no branch and no pattern of branches, like main, `release/*` or `*.x`"));
        }
        Ok(())
    }
);

fn branch_glob(text: &str) -> Result<globset::Glob, globset::Error> {
    globset::GlobBuilder::new(text).literal_separator(true).build()
}

impl BranchPattern {
    /// Whether a branch is meant.
    pub fn matches(&self, branch: &str) -> bool {
        branch_glob(self.as_str()).is_ok_and(|glob| glob.compile_matcher().is_match(branch))
    }
}

text_value!(
    /// An AWS account id, twelve digits. In YAML it wants quotes, or it is read as a number.
    AccountId,
    "^[0-9]{12}$",
    |text| {
        if text.len() != 12 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("`{text}` is not an AWS account id: twelve digits, in quotes"));
        }
        Ok(())
    }
);

text_value!(
    /// The web address of something that gets a token: by TLS, or on this machine.
    Endpoint,
    "^https?://",
    |text| match crate::http::parse_safe("the endpoint", text) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "`{text}` gets a token, and is no address for one: write https://HOST; http:// is for \
             localhost only"
        )),
    }
);

text_value!(
    /// What a scan calls a finding: `CVE-2026-1234`, `GHSA-…`, `ALAS2-…`.
    Vulnerability,
    "^[A-Z][A-Za-z0-9]*-[-.:A-Za-z0-9]+$",
    |text| {
        let (first, rest) = text.split_once('-').unwrap_or_default();
        let is_word = |text: &str, more: &[char]| {
            !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(&c))
        };
        if !first.starts_with(|c: char| c.is_ascii_uppercase()) || !is_word(first, &[]) || !is_word(rest, &['-', '.', ':']) {
            return Err(format!("`{text}` is no finding: write it as the scan does, like CVE-2026-1234"));
        }
        Ok(())
    }
);

text_value!(
    /// Why something is as it is, in words, on one line.
    Reason,
    "\\S",
    |text| {
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            return Err("a reason has words, on one line: what makes the finding harmless here".into());
        }
        Ok(())
    }
);

text_value!(
    /// Image tags by a wildcard, as ECR takes them. None of them may be a release's: those keep
    /// their image for ever.
    ///
    /// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ImageTagMutabilityExclusionFilter.html>
    TagPattern,
    "^[0-9A-Za-z._*-]{1,128}$",
    |text| {
        let letters = text.chars().all(|c| c.is_ascii_alphanumeric() || "._*-".contains(c));
        if text.is_empty() || text.len() > 128 || !letters || text.matches('*').count() > 4 {
            return Err(format!(
                "`{text}` is no pattern for tags: 1 to 128 letters, digits and `._-`, and at most four times `*` for any text"
            ));
        }
        if super::pattern::matches_a_release(text) {
            return Err(format!("`{text}` matches releases like 1.4.0 too, and a release keeps its tag and its image for ever"));
        }
        Ok(())
    }
);

/// A number of whole days: `14d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Days(pub u32);

impl TryFrom<String> for Days {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let days =
            text.strip_suffix('d').filter(|number| number.bytes().all(|b| b.is_ascii_digit()));
        match days.and_then(|number| number.parse().ok()) {
            Some(days @ 1..=36_500) => Ok(Days(days)),
            _ => Err(format!("`{text}` is no number of days: write 1d to 36500d, like 14d")),
        }
    }
}

impl From<Days> for String {
    fn from(days: Days) -> String {
        format!("{}d", days.0)
    }
}

impl JsonSchema for Days {
    fn schema_name() -> Cow<'static, str> {
        "Days".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+d$" })
    }
}

/// A day, in UTC: `2027-01-31`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Day(pub jiff::civil::Date);

impl TryFrom<String> for Day {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no day: write it as 2027-01-31");
        let day: jiff::civil::Date = text.parse().map_err(|_| wrong())?;
        if day.to_string() == text { Ok(Day(day)) } else { Err(wrong()) }
    }
}

impl From<Day> for String {
    fn from(day: Day) -> String {
        day.0.to_string()
    }
}

impl JsonSchema for Day {
    fn schema_name() -> Cow<'static, str> {
        "Day".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date" })
    }
}

/// Where a secret's value comes from. The value itself never passes through this program.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// `secretsmanager:NAME#KEY`; without `#KEY` the whole secret.
    SecretsManager { name: String, key: Option<String> },
    /// `ssm:/path`
    Ssm { path: String },
    /// `k8s:SECRET/KEY`
    Kubernetes { secret: String, key: String },
}

impl TryFrom<String> for SecretRef {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            // What names no store may be the secret itself.
            let names_store =
                ["secretsmanager:", "ssm:", "k8s:"].iter().any(|s| text.starts_with(s));
            let shown = if names_store { format!("`{text}`") } else { "this".into() };
            format!(
                "{shown} is not a secret reference: write secretsmanager:NAME#KEY, ssm:/PATH or k8s:SECRET/KEY, never the value itself"
            )
        };
        let (scheme, rest) = text.split_once(':').ok_or_else(wrong)?;
        let filled = |part: &str| Some(part.to_string()).filter(|part| !part.is_empty());
        match scheme {
            "secretsmanager" => {
                let (name, key) =
                    rest.split_once('#').map_or((rest, None), |(name, key)| (name, Some(key)));
                let key = key.map(|key| filled(key).ok_or_else(wrong)).transpose()?;
                Ok(SecretRef::SecretsManager { name: filled(name).ok_or_else(wrong)?, key })
            }
            "ssm" if rest.starts_with('/') && rest.len() > 1 => {
                Ok(SecretRef::Ssm { path: rest.to_string() })
            }
            "k8s" => {
                let (secret, key) = rest.split_once('/').ok_or_else(wrong)?;
                Ok(SecretRef::Kubernetes {
                    secret: filled(secret).ok_or_else(wrong)?,
                    key: filled(key).ok_or_else(wrong)?,
                })
            }
            _ => Err(wrong()),
        }
    }
}

impl From<SecretRef> for String {
    fn from(secret: SecretRef) -> String {
        secret.to_string()
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretRef::SecretsManager { name, key: Some(key) } => {
                write!(f, "secretsmanager:{name}#{key}")
            }
            SecretRef::SecretsManager { name, key: None } => write!(f, "secretsmanager:{name}"),
            SecretRef::Ssm { path } => write!(f, "ssm:{path}"),
            SecretRef::Kubernetes { secret, key } => write!(f, "k8s:{secret}/{key}"),
        }
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "SecretRef".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(secretsmanager:[^#]+(#.+)?|ssm:/.+|k8s:[^/]+/.+)$" })
    }
}

/// A span of time written with its unit: `500ms`, `60s`, `2m`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is not a time span: write a whole number and ms, s, m or h, like 60s")
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
        let milliseconds = match &text[digits..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        let total = number.checked_mul(milliseconds).ok_or_else(wrong)?;
        Ok(Span(Duration::from_millis(total)))
    }
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        let milliseconds = span.0.as_millis();
        if milliseconds.is_multiple_of(1_000) {
            format!("{}s", milliseconds / 1_000)
        } else {
            format!("{milliseconds}ms")
        }
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h)$" })
    }
}

/// A share of processor time, in thousandths of a core: `250m`, `1`, `0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cpu {
    pub millicores: u32,
}

impl TryFrom<String> for Cpu {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an amount of CPU: write 250m, 0.5 or 2");
        let millicores = match text.strip_suffix('m') {
            Some(number) => number.parse::<u32>().map_err(|_| wrong())?,
            None => {
                let cores: f64 = text.parse().map_err(|_| wrong())?;
                let millicores = cores * 1_000.0;
                if !(0.0..=f64::from(u32::MAX)).contains(&millicores) || millicores.fract() != 0.0 {
                    return Err(wrong());
                }
                millicores as u32
            }
        };
        if millicores == 0 { Err(wrong()) } else { Ok(Cpu { millicores }) }
    }
}

impl From<Cpu> for String {
    fn from(cpu: Cpu) -> String {
        format!("{}m", cpu.millicores)
    }
}

impl JsonSchema for Cpu {
    fn schema_name() -> Cow<'static, str> {
        "Cpu".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "pattern": "^([0-9]+m|[0-9]+(\\.[0-9]{1,3})?)$" })
    }
}

/// An amount of memory in MiB: `512Mi`, `2Gi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Memory {
    pub mebibytes: u32,
}

impl TryFrom<String> for Memory {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an amount of memory: write 512Mi or 2Gi");
        let (number, factor) = match (text.strip_suffix("Mi"), text.strip_suffix("Gi")) {
            (Some(number), _) => (number, 1),
            (_, Some(number)) => (number, 1024),
            _ => return Err(wrong()),
        };
        let mebibytes =
            number.parse::<u32>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(wrong)?;
        if mebibytes == 0 { Err(wrong()) } else { Ok(Memory { mebibytes }) }
    }
}

impl From<Memory> for String {
    fn from(memory: Memory) -> String {
        format!("{}Mi", memory.mebibytes)
    }
}

impl JsonSchema for Memory {
    fn schema_name() -> Cow<'static, str> {
        "Memory".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(Mi|Gi)$" })
    }
}

mod image;
pub use image::{BuildContext, BuilderImage, Cache, HostAddress, HostName, ImageName, LabelName};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_or_refused() {
        fn span(text: &str) -> Result<String, String> {
            Span::try_from(text.to_string()).map(|v| format!("{:?}", v.0))
        }
        fn cpu(text: &str) -> Result<String, String> {
            Cpu::try_from(text.to_string()).map(|v| v.millicores.to_string())
        }
        fn memory(text: &str) -> Result<String, String> {
            Memory::try_from(text.to_string()).map(|v| v.mebibytes.to_string())
        }
        fn name(text: &str) -> Result<String, String> {
            Name::try_from(text.to_string()).map(String::from)
        }
        fn secret(text: &str) -> Result<String, String> {
            SecretRef::try_from(text.to_string()).map(String::from)
        }
        fn day(text: &str) -> Result<String, String> {
            Day::try_from(text.to_string()).map(String::from)
        }
        fn vulnerability(text: &str) -> Result<String, String> {
            Vulnerability::try_from(text.to_string()).map(String::from)
        }
        fn days(text: &str) -> Result<String, String> {
            Days::try_from(text.to_string()).map(String::from)
        }
        fn pattern(text: &str) -> Result<String, String> {
            TagPattern::try_from(text.to_string()).map(String::from)
        }
        fn reason(text: &str) -> Result<String, String> {
            Reason::try_from(text.to_string()).map(String::from)
        }
        fn cache(text: &str) -> Result<String, String> {
            Cache::try_from(text.to_string()).map(String::from)
        }
        fn label(text: &str) -> Result<String, String> {
            LabelName::try_from(text.to_string()).map(String::from)
        }
        fn host(text: &str) -> Result<String, String> {
            HostName::try_from(text.to_string()).map(String::from)
        }
        fn address(text: &str) -> Result<String, String> {
            HostAddress::try_from(text.to_string()).map(String::from)
        }
        fn context(text: &str) -> Result<String, String> {
            BuildContext::try_from(text.to_string()).map(String::from)
        }
        type Read = fn(&str) -> Result<String, String>;
        let cases: &[(Read, &str, Option<&str>)] = &[
            (span, "60s", Some("60s")),
            (span, "500ms", Some("500ms")),
            (span, "2m", Some("120s")),
            (span, "60", None),
            (span, "s", None),
            (span, "-1s", None),
            (span, "1.5s", None),
            (span, "18446744073709551615h", None),
            (day, "2027-01-31", Some("2027-01-31")),
            (day, "2027-02-30", None),
            (day, "31.1.2027", None),
            (day, "2027-01-31T10:00", None),
            (day, "20270131", None),
            (vulnerability, "CVE-2026-1234", Some("CVE-2026-1234")),
            (vulnerability, "GHSA-xxxx-yyyy-zzzz", Some("GHSA-xxxx-yyyy-zzzz")),
            (vulnerability, "openssl", None),
            (vulnerability, "CVE-", None),
            (vulnerability, "CVE-2026-*", None),
            (days, "14d", Some("14d")),
            (days, "0d", None),
            (days, "14", None),
            (days, "+1d", None),
            (days, "99999999999d", None),
            (pattern, "*-main.*", Some("*-main.*")),
            (pattern, "buildcache*", Some("buildcache*")),
            (pattern, "*", None),
            (pattern, "1.4.*", None),
            (pattern, "a*b*c*d*e*", None),
            (pattern, "a b", None),
            (pattern, "", None),
            (reason, "no such call here", Some("no such call here")),
            (reason, "  ", None),
            (reason, "a\nb", None),
            (cache, "auto", Some("auto")),
            (cache, "off", Some("off")),
            (cache, "gha", Some("gha")),
            (
                cache,
                "registry:localhost:5000/cache/patients:main",
                Some("registry:localhost:5000/cache/patients:main"),
            ),
            (cache, "local:../a, b", Some("local:../a, b")),
            (cache, "inline", None),
            (cache, "registry:patients", None),
            (cache, "registry:h/n@sha256:0", None),
            (cache, "registry:h/n,mode=min", None),
            (cache, "local:", None),
            (cache, "", None),
            (label, "org.example.team", Some("org.example.team")),
            (label, "org.opencontainers.image.title", Some("org.opencontainers.image.title")),
            (label, "org.opencontainers.image.revision", None),
            (label, "a=b", None),
            (label, "-a", None),
            (label, "", None),
            (host, "db.internal", Some("db.internal")),
            (host, "db:1", None),
            (host, "", None),
            (address, "10.0.0.7", Some("10.0.0.7")),
            (address, "::1", Some("::1")),
            (address, "host-gateway", Some("host-gateway")),
            (address, "db", None),
            (context, "../shared", Some("../shared")),
            (context, "docker-image://alpine:3", Some("docker-image://alpine:3")),
            (context, "ftp://x", None),
            (context, " ", None),
            (cpu, "250m", Some("250")),
            (cpu, "1", Some("1000")),
            (cpu, "0.5", Some("500")),
            (cpu, "0", None),
            (cpu, "-1", None),
            (cpu, "NaN", None),
            (cpu, "0.0001", None),
            (memory, "512Mi", Some("512")),
            (memory, "2Gi", Some("2048")),
            (memory, "512MB", None),
            (memory, "0Mi", None),
            (memory, "4194304Gi", None),
            (name, "patients", Some("patients")),
            (name, "p", Some("p")),
            (name, "-p", None),
            (name, "Patients", None),
            (name, "", None),
            (name, "a.b", None),
            (secret, "secretsmanager:patients/db#url", Some("secretsmanager:patients/db#url")),
            (secret, "secretsmanager:patients/db", Some("secretsmanager:patients/db")),
            (secret, "ssm:/patients/db", Some("ssm:/patients/db")),
            (secret, "k8s:db/url", Some("k8s:db/url")),
            (secret, "hunter2", None),
            (secret, "k8s:db", None),
            (secret, "secretsmanager:#url", None),
        ];
        for (read, text, expected) in cases {
            assert_eq!(read(text).ok().as_deref(), *expected, "{text}");
        }
        assert!(name(&"a".repeat(63)).is_ok());
        assert!(name(&"a".repeat(64)).is_err());
    }
}
