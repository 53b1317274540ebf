//! `check` beside hadolint, on Dockerfiles that keep or break rules: where both have a rule, they
//! agree.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Repository, cicd, run};

/// The rules that both have. What hadolint finds by its rule, we find by ours, on the same line;
/// the other way round only where `both`: ours are stricter elsewhere (a tag is no pin, an image
/// without USER is root's, `sh -c` without exec is a shell too).
struct Pair {
    ours: &'static [&'static str],
    theirs: &'static [&'static str],
    both: bool,
}

const PAIRS: [Pair; 6] = [
    Pair { ours: &["base-unpinned"], theirs: &["DL3006", "DL3007"], both: false },
    Pair { ours: &["shell-form"], theirs: &["DL3025"], both: false },
    Pair { ours: &["runs-as-root"], theirs: &["DL3002"], both: false },
    // Ours leaves out names that only lead to a secret, which DL3064 does not: DB_PASSWORD_FILE,
    // TOKEN_URL, PASSWORD_MIN_LENGTH.
    Pair { ours: &["secret-in-image"], theirs: &["DL3064"], both: false },
    Pair { ours: &["port-differs"], theirs: &["DL3011"], both: false },
    // hadolint stops at what it cannot read, and says that it expected something else.
    Pair { ours: &["unknown-instruction", "broken-continuation"], theirs: &["DL1000"], both: true },
];

const BASE: &str =
    "FROM python:3.13-slim@sha256:0123456789012345678901234567890123456789012345678901234567890123";

/// Dockerfiles, and the rules and lines that `check` finds in each. BASE stands for a pinned base.
/// Without here-documents, which hadolint 2.15 cannot read.
const DOCKERFILES: [(&str, &[&str]); 37] = [
    // Nothing to find.
    ("BASE\nUSER 10001\nCMD [\"x\"]\n", &[]),
    (
        "BASE AS build\nRUN [\"make\"]\nBASE\nCOPY --from=build /x /x\nUSER 10001:10001\nENTRYPOINT [\"/x\"]\n",
        &[],
    ),
    ("FROM scratch\nCOPY x /x\nUSER 1\nCMD [\"/x\"]\n", &[]),
    ("# a comment\n\nARG V=3.13@sha256:a\nFROM python:$V\nUSER 1\nCMD [\"x\"]\n", &[]),
    ("BASE\nRUN a \\\n # said\n && b\nUSER 1\nCMD [\"x\"]\n", &[]),
    ("BASE\nUSER root\nRUN [\"id\"]\nUSER 10001\nCMD [\"x\"]\n", &[]),
    ("BASE\nUSER app\nCMD [\"sh\", \"-c\", \"exec uvicorn $M\"]\n", &[]),
    ("BASE\nHEALTHCHECK --interval=9s \\\n  CMD [\"x\", \"y\"]\nUSER 1\nCMD [\"x\"]\n", &[]),
    ("BASE AS base\nUSER 10001\nFROM base AS runtime\nCMD [\"x\"]\n", &[]),
    (
        "BASE\nSHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\nRUN curl -fsSL https://x.example/y | tar -x\nUSER 1\nCMD [\"x\"]\n",
        &[],
    ),
    (
        "BASE\nENV A=1 \\\n    B=\"two words\"\nUSER 1\nSTOPSIGNAL SIGINT\nEXPOSE 8000/tcp\nVOLUME [\"/data\"]\nCMD [\"x\"]\n",
        &[],
    ),
    // The base.
    ("FROM python\nUSER 1\nCMD [\"x\"]\n", &["base-unpinned 1"]),
    ("FROM python:latest\nUSER 1\nCMD [\"x\"]\n", &["base-unpinned 1"]),
    (
        "FROM registry.example.org:5000/team/base:latest AS x\nUSER 1\nCMD [\"x\"]\n",
        &["base-unpinned 1"],
    ),
    ("FROM python:3.13-slim\nUSER 1\nCMD [\"x\"]\n", &["base-unpinned 1"]),
    ("BASE AS build\nFROM debian\nUSER 1\nCMD [\"x\"]\n", &["base-unpinned 2"]),
    ("FROM debian:latest AS build\nFROM build\nUSER 1\nCMD [\"x\"]\n", &["base-unpinned 1"]),
    ("FROM --platform=linux/amd64 node\nUSER 1\nCMD [\"x\"]\n", &["base-unpinned 1"]),
    // How it is started.
    ("BASE\nUSER 1\nCMD python main.py\n", &["shell-form 3"]),
    ("BASE\nUSER 1\nENTRYPOINT /start.sh\n", &["shell-form 3"]),
    ("BASE\nUSER 1\nENTRYPOINT [\"/x\"]\nCMD --port 8000\n", &["shell-form 4"]),
    ("BASE\nUSER 1\nCMD ['python', 'main.py']\n", &["shell-form 3"]),
    ("BASE\nUSER 1\nCMD [\"python\", \"main.py\",]\n", &["shell-form 3"]),
    ("BASE\nUSER 1\nCMD [\"sh\", \"-c\", \"uvicorn $M\"]\n", &["shell-form 3"]),
    // Who runs it.
    ("BASE\nUSER root\nCMD [\"x\"]\n", &["runs-as-root 2"]),
    ("BASE\nUSER 0:0\nCMD [\"x\"]\n", &["runs-as-root 2"]),
    ("BASE\nUSER app\nRUN [\"a\"]\nUSER root\nRUN [\"b\"]\nCMD [\"x\"]\n", &["runs-as-root 4"]),
    ("BASE\nCMD [\"x\"]\n", &["runs-as-root 1"]),
    // What it gives away, and where it listens.
    ("BASE\nENV DB_PASSWORD=x\nUSER 1\nCMD [\"x\"]\n", &["secret-in-image 2"]),
    ("BASE\nARG NPM_TOKEN\nUSER 1\nCMD [\"x\"]\n", &["secret-in-image 2"]),
    ("BASE\nENV A=1 \\\n    API_KEY=x\nUSER 1\nCMD [\"x\"]\n", &["secret-in-image 2"]),
    ("BASE\nEXPOSE 90000\nUSER 1\nCMD [\"x\"]\n", &["port-differs 2"]),
    // What is no Dockerfile.
    ("BASE\nRUMM x\nUSER 1\nCMD [\"x\"]\n", &["unknown-instruction 2"]),
    ("BASE\nRUN a\n&& b\nUSER 1\nCMD [\"x\"]\n", &["broken-continuation 3"]),
    (
        "BASE\nRUN pip install \\\n  a\n  --no-cache-dir\nUSER 1\nCMD [\"x\"]\n",
        &["broken-continuation 4"],
    ),
    ("BASE\nCOPY a b\n  and-this /x\nUSER 1\nCMD [\"x\"]\n", &["unknown-instruction 3"]),
    ("BASE\nUSER 1\nCMD [\"x\"]\nEXPSE 8000\n", &["unknown-instruction 4"]),
];

fn ours(text: &str) -> BTreeSet<String> {
    let repository = Repository::new();
    repository.write("service.yaml", "name: x\nport: 8000\n");
    repository.write("Dockerfile", text);
    let result = run(cicd(repository.path()).args(["check", "--output", "json"])).json();
    let findings = result["findings"].as_array().unwrap_or_else(|| panic!("no findings: {result}"));
    // The context has nothing that is copied, which hadolint does not look for.
    findings
        .iter()
        .filter(|one| one["rule"] != "copy-missing")
        .map(|one| format!("{} {}", one["rule"].as_str().expect("a rule"), one["line"]))
        .collect()
}

fn theirs(text: &str) -> BTreeSet<String> {
    let mut command = Command::new("hadolint");
    command
        .args(["--no-fail", "--format", "json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut hadolint = command
        .spawn()
        .expect("hadolint is on the PATH: `./dev setup`, and `eval \"$(./dev stack env)\"`");
    hadolint.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("read");
    let output = hadolint.wait_with_output().expect("an end");
    let findings: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = findings.as_array().expect("a list");
    findings
        .iter()
        .map(|one| format!("{} {}", one["code"].as_str().expect("a code"), one["line"]))
        .collect()
}

/// The lines on which one of `rules` was found.
fn lines(found: &BTreeSet<String>, rules: &[&str]) -> BTreeSet<u64> {
    let one = |text: &String| {
        let (rule, line) = text.split_once(' ')?;
        rules.contains(&rule).then(|| line.parse().expect("a line"))
    };
    found.iter().filter_map(one).collect()
}

#[test]
fn where_hadolint_has_the_rule_too_both_find_the_same() {
    let mut wrong = Vec::new();
    let mut met = [0; PAIRS.len()];
    for (text, expected) in DOCKERFILES {
        let text =
            text.replace("BASE\n", &format!("{BASE}\n")).replace("BASE AS", &format!("{BASE} AS"));
        let (ours, theirs) = (ours(&text), theirs(&text));
        if ours != expected.iter().map(ToString::to_string).collect() {
            wrong.push(format!("{text}check finds {ours:?}, and is to find {expected:?}"));
        }
        for (pair, met) in PAIRS.iter().zip(&mut met) {
            let (own, other) = (lines(&ours, pair.ours), lines(&theirs, pair.theirs));
            *met += usize::from(!other.is_empty());
            // Of what it cannot read hadolint says where it stopped, which may be a line later:
            // that it stopped is what counts.
            let agree = match pair.both {
                true => own.is_empty() == other.is_empty(),
                false => other.is_subset(&own),
            };
            if !agree {
                wrong.push(format!(
                    "{text}{:?}: check on {own:?}, hadolint on {other:?} ({theirs:?})",
                    pair.ours
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n---\n"));
    assert!(met.iter().all(|times| *times >= 1), "hadolint has met each pair: {met:?}");
}
