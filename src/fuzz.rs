//! Inputs that nobody would write, for every reader of what strangers send: none of them ends in a
//! panic, or takes long. The tests try a few hundred of each, `./dev proof fuzz` ten thousand, in
//! bounded memory.
//!
//! The inputs are made of what such a text consists of, put together wrongly, and of what breaks
//! readers: odd characters, huge numbers, depth. They are the same in every run, and one that fails
//! is made smaller before it is shown. Each room has its own targets.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::config::settings;
use crate::config::{handover, parse, platform::Platform, service::Service};
use crate::report::{github, markdown};
use crate::untrusted::Untrusted;

/// An input that takes longer is a hang.
const LONGEST: Duration = Duration::from_secs(10);

/// Tries `reads` on inputs; how many, `PROPTEST_CASES` says.
pub fn try_inputs<S: Strategy>(inputs: S, reads: impl Fn(S::Value) + Send + Sync + 'static)
where
    S::Value: Clone + Debug + Send + 'static,
{
    let config = Config { failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let reads = Arc::new(reads);
    let tried = TestRunner::new_with_rng(config, rng).run(&inputs, |input| {
        let (reads, (done, wait)) = (Arc::clone(&reads), channel());
        let reader = std::thread::spawn(move || {
            reads(input);
            let _ = done.send(());
        });
        match wait.recv_timeout(LONGEST) {
            Ok(()) => Ok(()),
            Err(RecvTimeoutError::Timeout) => Err(TestCaseError::fail("it takes too long")),
            Err(RecvTimeoutError::Disconnected) => {
                let panic = reader.join().expect_err("a panic");
                let words = panic.downcast_ref::<String>().map(String::as_str);
                let words = words.or(panic.downcast_ref::<&str>().copied());
                Err(TestCaseError::fail(words.unwrap_or("a panic").to_string()))
            }
        }
    });
    match tried {
        Ok(()) => {}
        Err(TestError::Fail(why, input)) => panic!("{why}\nof {input:?}"),
        Err(error) => panic!("{error}"),
    }
}

/// Pieces that break readers of any text.
const ODD: [&str; 30] = [
    "",
    " ",
    "\n",
    "\r",
    "\r\n",
    "\t",
    "\0",
    "\u{feff}",
    "\u{202e}",
    "\u{1b}]52;c;eA==\u{7}",
    "\u{1b}[1m",
    "::set-output name=a::b",
    "##[add-path]/x",
    "ß\u{301}👩‍💻",
    "\u{10ffff}",
    "-1",
    "0",
    "18446744073709551615",
    "99999999999999999999999",
    "1e999",
    "0x7fffffffffffffff",
    "NaN",
    "null",
    "true",
    "../../..",
    "/proc/self/environ",
    "((((((((((((((((((((((((((((((((((((((((",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":",
    "%00%0a%zz",
];

/// Text of these pieces, odd ones between them, changed here and there.
pub fn text_of(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => proptest::sample::select(pieces).prop_map(str::to_string),
        2 => proptest::sample::select(&ODD[..]).prop_map(str::to_string),
        1 => any::<String>(),
    ];
    let text = proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
    (text, proptest::collection::vec(any_edit(), 0..6)).prop_map(|(text, edits)| {
        let mut characters: Vec<char> = text.chars().collect();
        edits.into_iter().for_each(|edit| edit.apply(&mut characters));
        characters.into_iter().collect()
    })
}

/// Bytes of these pieces; some of them are no text.
pub fn bytes_of(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let noise = proptest::collection::vec((any::<Index>(), any::<u8>()), 0..4);
    (text_of(pieces), noise).prop_map(|(text, noise)| {
        let mut bytes = text.into_bytes();
        for (at, byte) in noise {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        bytes
    })
}

/// A change somewhere in a text.
#[derive(Clone, Debug)]
enum Edit {
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    Replace(Index, char),
    Cut(Index),
}

fn any_edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<Index>(), 1..20_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        (any::<Index>(), 1..20_usize, 1..50_usize)
            .prop_map(|(at, length, times)| Edit::Repeat(at, length, times)),
        (any::<Index>(), any::<char>()).prop_map(|(at, c)| Edit::Replace(at, c)),
        any::<Index>().prop_map(Edit::Cut),
    ]
}

impl Edit {
    fn apply(self, text: &mut Vec<char>) {
        if text.is_empty() {
            return;
        }
        let range = |at: Index, length: usize| {
            let at = at.index(text.len());
            at..(at + length).min(text.len())
        };
        match self {
            Edit::Remove(at, length) => drop(text.drain(range(at, length))),
            Edit::Repeat(at, length, times) => {
                let range = range(at, length);
                let again = text[range.clone()].repeat(times);
                text.splice(range, again);
            }
            Edit::Replace(at, c) => {
                let at = at.index(text.len());
                text[at] = c;
            }
            Edit::Cut(at) => text.truncate(at.index(text.len())),
        }
    }
}

const SERVICE: [&str; 40] = [
    "name: patients\n",
    "port: 8000\n",
    "name: patients\nport: 8000\n",
    "health: {path: /healthz, startup: 60s}\n",
    "health: {startup: 99999999999999999h}\n",
    "mode: {variable: APP_MODE, debug: debug, production: production}\n",
    "image:\n",
    "  context: ..\n",
    "  dockerfile: Dockerfile\n",
    "  platforms: [linux/amd64, linux/arm64]\n",
    "  build-args: {A: b}\n",
    "  build-secrets: ['id=a,env=A', 'id=b,src=/x']\n",
    "  ssh: [default, 'k=a,b']\n",
    "  contexts: {a: 'oci-layout://x:1@sha256:2'}\n",
    "  cache: local:x\n",
    "  labels: {org.x: y}\n",
    "env: {A: b, B: 1, C: true}\n",
    "env:\n  DATABASE_URL: 'postgres://a:b@c/d'\n",
    "secrets: {A: 'secretsmanager:a/b#c', B: 'ssm:/a', C: 'k8s:a/b'}\n",
    "resources: {cpu: 250m, memory: 512Mi}\n",
    "resources: {cpu: 99999999999999, memory: 99999999Ti}\n",
    "replicas: 2\n",
    "replicas: 4294967295\n",
    "autoscale: {min: 1, max: 4294967295, cpu: 255}\n",
    "before-deploy: {command: [a, --token, b]}\n",
    "storage: [{name: a, env: B}]\n",
    "expose: {path: /a}\n",
    "manifests: [a.yaml, ../b]\n",
    "version: {prefix: v, paths: [a, ../b], initial: 0.1.0, bumps: {docs: patch}}\n",
    "scan: {fail-on: low, allow: [{id: CVE-2026-1, reason: x, until: 2026-12-31}]}\n",
    "contract: {rules: {non-root: warn}, stop: 10s, env: {A: b}}\n",
    "environments:\n",
    "  staging: {mode: debug, env: {A: c}, snapshots: true}\n",
    "  production: {replicas: 3}\n",
    "a: &a [*a, *a]\n",
    "a: &a {b: c}\nb: {<<: *a}\n",
    "!!binary aGk=\n",
    "? [a, b]\n: c\n",
    "--- |\n  text\n...\n",
    "# cicd: ignore=secret-in-service\n",
];

const PLATFORM: [&str; 24] = [
    "registry: {account: \"111122223333\", region: eu-west-1, prefix: clinicult/}\n",
    "registry:\n",
    "  account: \"111122223333\"\n",
    "  region: eu-west-1\n",
    "  endpoint: http://10.0.0.7\n",
    "  lifecycle: off\n",
    "  lifecycle: {snapshots: 1, snapshot-tags: ['*-main.*'], untagged: 14d}\n",
    "  mutable-tags: ['buildcache*', '*', '1.*']\n",
    "  tags: {team: records}\n",
    "environments:\n",
    "  staging:\n",
    "    target: eks\n",
    "    region: eu-west-1\n",
    "    role: arn:aws:iam::111122223333:role/x\n",
    "    plan-role: arn:aws:iam::111122223333:role/y\n",
    "    eks: {cluster: c, namespace: n, endpoint: \"https://h:1\", ca: /dev/zero}\n",
    "    eks: {cluster: c, namespace: n, endpoint: \"http://[::1\"}\n",
    "  production:\n",
    "    target: ecs\n",
    "    ecs: {cluster: c, launch: ec2, subnets: [s], security-groups: [g]}\n",
    "    api-gateway: {name: n}\n",
    "  staging: {target: eks, region: r, eks: {cluster: c, namespace: n}}\n",
    "  a: &a {b: *a}\n",
    "a: &a [*a]\n",
];

/// What a commit, a log or a registry may say.
const WORDS: [&str; 16] = [
    "feat: a",
    " https://evil.example/x ",
    "www.evil.example",
    "[a](b)",
    "<img src=x>",
    "@clinicult/admins",
    "`",
    "``` ",
    "| a | b |\n|---|---|\n",
    "\r::add-mask::x",
    "\n::error file=a::b",
    " ##[group]",
    "#",
    "\u{9b}2J",
    "\u{2028}",
    "$x$",
];

#[test]
fn any_service_yaml_is_read_or_refused() {
    try_inputs(text_of(&SERVICE), |text| {
        let service = match parse::<Service>(&text, Path::new("service.yaml")) {
            Ok(service) => service,
            Err(error) => return assert!(!error.advice().is_empty(), "no fix: {error}"),
        };
        drop(handover::list_paths(&service));
        drop(crate::check::service::lint_service(&service, &text));
        for environment in ["local", "staging", "production"] {
            let _ = settings::resolve(&service, environment);
        }
    });
}

#[test]
fn any_platform_yaml_is_read_or_refused() {
    try_inputs(text_of(&PLATFORM), |text| {
        let platform = match parse::<Platform>(&text, Path::new("platform.yaml")) {
            Ok(platform) => platform,
            Err(error) => return assert!(!error.advice().is_empty(), "no fix: {error}"),
        };
        let names: Vec<String> = platform.environments.keys().map(ToString::to_string).collect();
        for name in names {
            let _ = settings::destination(Some(&platform), &name);
        }
    });
}

#[test]
fn no_text_is_a_command_or_markup() {
    try_inputs(text_of(&WORDS), |text| {
        let (lines, line) = (Untrusted::new(&text).lines(), Untrusted::new(&text).line());
        let obeyed = |c: char| c.is_control() && c != '\t' && c != '\n';
        assert!(!lines.contains(obeyed) && !line.contains(obeyed), "{lines:?}");
        assert!(!line.contains('\n'), "{line:?}");
        let said = github::defuse(&lines);
        let is_command = |line: &str| line.trim_start().starts_with("::") || line.contains("##[");
        assert!(!said.split(['\r', '\n']).any(is_command), "{said:?}");
        let escaped = markdown::escape(&text);
        let markup = ["<", "@", "://", "](", "\n"];
        assert!(!markup.iter().any(|markup| escaped.contains(markup)), "{escaped:?}");
    });
}

#[test]
fn no_secret_is_shown_in_any_text() {
    let secret = "[!-~]{8,24}";
    try_inputs((secret, text_of(&WORDS), text_of(&WORDS)), |(secret, before, after)| {
        let mut redactor = crate::redact::Redactor::new(&[markdown::escape, github::defuse]);
        redactor.add(secret.as_bytes());
        let plain = redactor.redact(&format!("{before}{secret}{after}"));
        assert!(!plain.contains(&secret), "{plain:?}");
        let json = serde_json::json!({ "a": format!("{before} {secret} {after}") }).to_string();
        let escaped = serde_json::json!(secret).to_string();
        assert!(!redactor.redact(&json).contains(escaped.trim_matches('"')), "{json:?}");
        let summary = redactor.redact(&markdown::escape(&format!("{before} {secret} {after}")));
        assert!(!summary.contains(&markdown::escape(&secret)), "{summary:?}");
    });
}

const DOCUMENTS: [&str; 18] = [
    "{\"schemaVersion\": 2, ",
    "\"mediaType\": \"application/vnd.oci.image.index.v1+json\", ",
    "\"mediaType\": \"application/vnd.oci.image.manifest.v1+json\", ",
    "\"mediaType\": \"application/vnd.oci.image.config.v1+json\", ",
    "\"manifests\": [",
    "\"layers\": [",
    "\"config\": ",
    "\"subject\": ",
    "\"annotations\": {\"a\": \"b\"}, ",
    "\"platform\": {\"os\": \"linux\", \"architecture\": \"amd64\"}, ",
    "\"digest\": \"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\", ",
    "\"digest\": \"sha256:../../../../../../../../../../../../../../../../../../../etc/passwd\", ",
    "\"size\": 0}",
    "\"size\": 9223372036854775808}",
    "\"size\": -1}",
    "]",
    "}",
    "{\"imageLayoutVersion\": \"1.0.0\"}",
];

#[test]
fn any_layout_is_read_or_refused() {
    let parts = (text_of(&DOCUMENTS), bytes_of(&DOCUMENTS), any::<bool>());
    try_inputs(parts, |(edited, bytes, as_index)| {
        let draft = crate::layout::tests::Draft::image(&[b"a layer"]);
        match as_index {
            true => draft.write("index.json", &bytes),
            // A manifest that is what it is called, and says anything.
            false => draft.root(&draft.blob(crate::layout::MANIFEST, edited.as_bytes())),
        }
        if let Ok(layout) = draft.open() {
            drop((layout.platforms(), layout.size(), layout.blobs().count()));
        }
    });
}

const ANSWERS: [&str; 16] = [
    "{\"message\": \"Validation Failed\", ",
    "\"errors\": [{\"resource\": \"Release\", \"code\": \"already_exists\"}]",
    "\"errors\": [\"text\"]",
    "\"errors\": {\"a\": 1}",
    "\"message\": 7",
    "\"documentation_url\": \"https://docs.github.com\"",
    "\"status\": \"422\"",
    "Cannot create ref due to creations being restricted",
    "immutable release",
    "You have exceeded a secondary rate limit",
    "<html>",
    "{",
    "}",
    "[",
    "]",
    ", ",
];

#[test]
fn any_answer_of_github_is_understood_or_refused() {
    use crate::github::refusal::{Limits, Refusal};
    let header = || proptest::option::of(text_of(&HEADERS));
    let answer = (100..600_u16, bytes_of(&ANSWERS), header(), header(), header());
    try_inputs(answer, |(status, body, retry_after, reset, date)| {
        let limits = Limits {
            retry_after: retry_after.as_deref(),
            remaining: Some("0"),
            reset: reset.as_deref(),
            date: date.as_deref(),
        };
        let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = String::from_utf8_lossy(&body);
        let message = answer["message"].as_str().unwrap_or(&text);
        let errors = answer["errors"].as_array().cloned().unwrap_or_default();
        let refusal = Refusal::new(status, message, &errors);
        let _ = (refusal.retry_after(&limits), refusal.meaning());
        let words = refusal.words.clone();
        assert!(!limits.into_error("try it", &words).message.is_empty());
        assert!(!refusal.into_error("try it").message.is_empty());
    });
}

/// What stands in headers that say when to come back.
pub const HEADERS: [&str; 8] = [
    "60",
    "Sun, 29 Nov 2026 08:00:00 GMT",
    "Sun, 29 Nov -9999 08:00:00 GMT",
    "1793534400",
    "9223372036854775807",
    "Wed, 31 Dec 9999 23:59:60 GMT",
    ", ",
    "+0000",
];
