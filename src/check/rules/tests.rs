//! A Dockerfile that breaks each rule, and one that keeps it.

use std::collections::BTreeMap;

use super::*;
use crate::check::dockerfile::Dockerfile;
use crate::dockerignore::Ignore;

fn found(text: &str, target: Option<&str>, ignore: Option<&str>) -> Vec<(&'static str, u64)> {
    let dockerfile = Dockerfile::parse(text);
    let facts = DockerfileFacts {
        dockerfile: &dockerfile,
        target,
        arguments: BTreeMap::new(),
        port: 8000,
        ignore,
        context: None,
    };
    lint_dockerfile(&facts).into_iter().map(|finding| (finding.rule, finding.line)).collect()
}

/// A stage that keeps every rule, around `lines`.
fn around(lines: &str) -> String {
    format!("FROM python:3.13-slim@sha256:abc\n{lines}\nUSER 10001\nCMD [\"x\"]\n")
}

#[test]
fn each_rule_has_what_breaks_it_and_what_keeps_it() {
    // The rule, what breaks it on line 2, what keeps it.
    let inside: &[(&str, &[&str], &[&str])] = &[
        (
            "broken-continuation",
            &["&& b", "RUN a && \\ b", "--no-dev"],
            &[
                "RUN a && \\\n b",
                "RUN printf '%s\\n' x",
                "RUN <<EOF\nCOPY this\nEOF",
                "HEALTHCHECK --interval=9s \\\n CMD [\"x\", \"y\"]",
            ],
        ),
        ("unknown-instruction", &["RUMM x", "RUNS"], &["RUN x", "# RUMM"]),
        (
            "retired-installer",
            &[
                "RUN curl -sSL https://x/get-poetry.py -o p",
                "RUN python setup.py install",
                "RUN apt-key add k",
            ],
            &["RUN pip install poetry==2.5.1", "# get-poetry.py"],
        ),
        (
            "secret-in-image",
            &[
                "ENV DB_PASSWORD=x",
                "ARG NPM_TOKEN",
                "ENV API_KEY key",
                "ARG SSH_KEY",
                "ENV AWS_ACCESS_KEY_ID=AKIA",
                "ARG AWS_SECRET_ACCESS_KEY=x",
                "ENV DB_PASSWORD=password",
                "ENV API_TOKEN=12345678",
                "ENV DB_PASSWORD=fakehunter",
                "ENV API_TOKEN=prod-example-9f8a7b6c",
                "ARG NPM_TOKEN=dummy",
                "ARG SINGLE_USE_TOKEN",
            ],
            &[
                "ENV DB_PASSWORD_FILE=/run/x",
                "ENV TOKEN_URL=https://x",
                "ENV KEYBOARD=de",
                "ENV PASSWORD_MIN_LENGTH=12",
                "ENV TOKEN_HEADER=x-token",
                "ENV TOKENIZER=x",
                "ENV SECRET=",
                "ENV TOKEN_BUCKET_SIZE=4096",
                "ENV PASSWORD_RESET=true",
                "ENV SECRET_KEY=dummy",
                "ENV API_TOKEN=change-me-later",
                "ENV API_TOKEN=not-a-real-one-fake",
                "ARG VERSION",
                // Switches, numbers, and what a frontend publishes.
                "ARG VITE_AUTH_USE_ID_TOKEN",
                "ARG NEXT_PUBLIC_API_KEY",
                "ARG TOKEN_EXPIRE_MINUTES=30",
                "ARG ENABLE_TOKEN=true",
                "ARG REQUIRE_PASSWORD",
                "ARG API_TOKEN=off",
                "ARG USE_ID_TOKEN",
            ],
        ),
        (
            "secret-copied",
            &[
                "COPY .env /app/",
                "COPY .npmrc package.json ./",
                "COPY keys/id_rsa /root/.ssh/",
                "ADD .git /app/.git",
            ],
            &["COPY .env.example /app/", "COPY --from=build /x/.npmrc /x", "COPY app app"],
        ),
        (
            "unlocked-install",
            &["RUN npm install", "RUN npm i", "RUN cd x && uv sync --no-dev", "RUN yarn install"],
            &[
                "RUN npm ci",
                "RUN npm install -g npm@11",
                "RUN uv sync --locked",
                "RUN yarn install --immutable",
            ],
        ),
        (
            "unverified-download",
            &[
                "RUN curl -sSL https://x | python3 -",
                "RUN wget -O- https://x | sudo sh",
                "ADD https://x/y /y",
            ],
            &[
                "ADD --checksum=sha256:x https://x/y /y",
                "RUN curl -fsSL https://x -o x",
                "RUN curl https://x | jq .",
            ],
        ),
        (
            "port-differs",
            &[
                "EXPOSE 80",
                "EXPOSE 90000",
                "EXPOSE 80-90",
                "ARG P=80\nEXPOSE $P",
                "EXPOSE 8000/udp 80",
            ],
            &[
                "EXPOSE 8000",
                "EXPOSE 8000/tcp 9000",
                "EXPOSE 7999-8001",
                "EXPOSE \"8000\"",
                "EXPOSE $PORT",
                "ENV P=8000\nEXPOSE ${P}",
                "EXPOSE 8125/udp",
                "ENTRYPOINT [\"x\", \"--port\", \"8000\"]",
            ],
        ),
    ];
    for (rule, breaking, keeping) in inside {
        for lines in *breaking {
            let seen = found(&around(lines), None, None);
            let own = 1 + lines.lines().count() as u64;
            let lines_of = if *rule == "port-differs" { own } else { 2 };
            assert!(seen.contains(&(rule, lines_of)), "{lines} breaks {rule}: {seen:?}");
        }
        for lines in *keeping {
            let seen = found(&around(lines), None, None);
            assert_eq!(seen, [], "{lines} keeps {rule}");
        }
    }

    // The rule and its line, a whole Dockerfile that breaks it, one that keeps it.
    let pinned = "FROM python:3.13-slim@sha256:abc";
    let whole: &[(&str, u64, String, String)] = &[
        ("base-unpinned", 1, around("").replace("@sha256:abc", ""), around("")),
        (
            "base-unpinned",
            1,
            "FROM python\nUSER 1\nCMD [\"x\"]".into(),
            "FROM scratch\nUSER 1\nCMD [\"x\"]".into(),
        ),
        (
            "base-unpinned",
            2,
            "ARG B=debian:trixie\nFROM $B\nUSER 1\nCMD [\"x\"]".into(),
            "ARG B=debian:trixie@sha256:a\nFROM $B\nUSER 1\nCMD [\"x\"]".into(),
        ),
        (
            "base-deprecated",
            1,
            "FROM tiangolo/uvicorn-gunicorn-fastapi:python3.7@sha256:a\nUSER 1".into(),
            around(""),
        ),
        (
            "base-ended",
            1,
            "FROM python:3.8-slim@sha256:a\nUSER 1".into(),
            "FROM python:3.12@sha256:a\nUSER 1".into(),
        ),
        (
            "base-ended",
            1,
            "FROM docker.io/library/node:16@sha256:a\nUSER 1".into(),
            "FROM node:22@sha256:a\nUSER 1".into(),
        ),
        (
            "base-ended",
            1,
            "FROM python:3.12-buster@sha256:a\nUSER 1".into(),
            "FROM python:3-slim@sha256:a\nUSER 1".into(),
        ),
        (
            "broken-continuation",
            3,
            format!("{pinned}\nRUN a \\\nCOPY b c\nUSER 1"),
            format!("{pinned}\nRUN a \\\n  b\nUSER 1"),
        ),
        (
            "broken-continuation",
            3,
            format!("{pinned}\nUSER 1\nRUN a \\"),
            format!("{pinned}\nUSER 1\nRUN a"),
        ),
        (
            "shell-form",
            3,
            format!("{pinned}\nUSER 1\nCMD python main.py"),
            format!("{pinned}\nUSER 1\nCMD [\"python\", \"main.py\"]"),
        ),
        (
            "shell-form",
            3,
            format!("{pinned}\nUSER 1\nCMD echo \"exec\"; python main.py"),
            format!("{pinned}\nUSER 1\nCMD exec python main.py"),
        ),
        (
            "shell-form",
            3,
            format!("{pinned}\nUSER 1\nENTRYPOINT server --port $PORT"),
            format!("{pinned}\nUSER 1\nENTRYPOINT X=1 exec ./server --port $PORT"),
        ),
        (
            "shell-form",
            3,
            format!("{pinned}\nUSER 1\nENTRYPOINT [\"sh\", \"-c\", \"uvicorn $M\"]"),
            format!("{pinned}\nUSER 1\nENTRYPOINT [\"sh\", \"-c\", \"exec uvicorn $M\"]"),
        ),
        (
            "runs-as-root",
            1,
            format!("{pinned}\nCMD [\"x\"]"),
            format!("{pinned}\nUSER 1\nCMD [\"x\"]"),
        ),
        (
            "runs-as-root",
            3,
            format!("{pinned}\nARG U=root\nUSER $U:$U"),
            "FROM gcr.io/distroless/static:nonroot@sha256:a\nCMD [\"x\"]".into(),
        ),
        (
            "development-server",
            3,
            format!("{pinned}\nUSER 1\nCMD [\"uvicorn\", \"a:b\", \"--reload\"]"),
            format!("{pinned}\nUSER 1\nCMD [\"uvicorn\", \"a:b\"]"),
        ),
        (
            "sources-before-dependencies",
            2,
            format!("{pinned}\nCOPY . .\nRUN pip install -r requirements.txt\nUSER 1"),
            format!(
                "{pinned}\nCOPY requirements.txt .\nRUN pip install -r requirements.txt\nCOPY . \
                 .\nUSER 1"
            ),
        ),
    ];
    let ignore = Some(".git\n.env*\n");
    for (rule, line, breaking, keeping) in whole {
        let seen = found(breaking, None, ignore);
        assert!(seen.contains(&(rule, *line)), "{breaking} breaks {rule}: {seen:?}");
        assert_eq!(found(keeping, None, ignore), [], "{keeping} keeps {rule}");
    }
}

#[test]
fn what_stands_outside_the_dockerfile_counts_too() {
    let copies = around("COPY . .");
    for (ignore, breaks) in [
        (None, true),
        (Some(".git\n"), true),
        (Some(".git\n.env\n"), false),
        (Some("*\n!app\n"), false),
        (Some(".git\n.env*\n!.env\n"), true),
    ] {
        assert_eq!(
            found(&copies, None, ignore).contains(&("context-unfiltered", 2)),
            breaks,
            "{ignore:?}"
        );
    }
    let stages = "FROM a@sha256:a AS build\nFROM a@sha256:a AS runtime\nUSER 1\n";
    assert_eq!(found(stages, Some("nope"), None), [("unknown-target", 2)]);
    assert_eq!(found(stages, Some("runtime"), None), []);
    assert_eq!(
        found(stages, Some("build"), None),
        [("runs-as-root", 1)],
        "what is shipped is what counts"
    );
}

#[test]
fn what_is_copied_is_looked_for_in_the_context() {
    struct Case {
        copy: &'static str,
        ignore: &'static str,
        found: &'static [&'static str],
    }
    let case = |copy, ignore, found| Case { copy, ignore, found };
    let cases = [
        case("COPY app app", "", &[]),
        case("COPY ./app/*.py /x/", "", &[]),
        case("COPY api/app app", "", &["copy-missing"]),
        case("COPY app app", "app", &["copy-missing"]),
        case("COPY app app", "*\n!app/a.py", &[]),
        // A pattern may match nothing.
        case("COPY app/*.js /x/", "", &[]),
        case("COPY app/a.py yarn.lock* ./", "", &[]),
        case("COPY $UNKNOWN/x /x", "", &[]),
        case("COPY --from=other /x /x", "", &[]),
        case("ADD --checksum=sha256:a https://x/y /y", "", &[]),
        case("RUN --mount=type=bind,source=gone,target=gone x", "", &["copy-missing"]),
        case("COPY made/x.jar /x", "", &["copy-unmade"]),
        case("COPY . .", ".git\n.env\n", &["context-unfiltered"]),
        case("COPY . .", ".git\n**/.env\n", &["context-unfiltered"]),
        case("COPY . .", ".git\n**/.env\n**/node_modules\n", &[]),
    ];
    for Case { copy, ignore, found } in cases {
        let dockerfile = Dockerfile::parse(&around(copy));
        let paths = ["app", "app/a.py", "config", "config/.env", "ui", "ui/node_modules"];
        let facts = DockerfileFacts {
            dockerfile: &dockerfile,
            target: None,
            arguments: BTreeMap::new(),
            port: 8000,
            ignore: Some(ignore),
            context: Some(ContextFiles {
                paths: paths.map(str::to_string).into(),
                git_ignore: Some("made/\n".into()),
            }),
        };
        let seen: Vec<&str> =
            lint_dockerfile(&facts).into_iter().map(|finding| finding.rule).collect();
        assert_eq!(seen, found, "{copy} with {ignore:?}");
    }
}

#[test]
fn a_rule_is_ignored_where_the_line_above_says_so() {
    let text = "# cicd: ignore=base-unpinned, runs-as-root\nFROM python:3.13\nCMD [\"x\"]\n";
    assert_eq!(found(text, None, None), []);
    assert_eq!(found(&text.replace("base-unpinned, ", ""), None, None), [("base-unpinned", 2)]);
}

/// The platform's old guide, as teams copied it.
#[test]
fn the_old_guide_is_found_out() {
    let text = "\
FROM tiangolo/uvicorn-gunicorn-fastapi:python3.7

RUN curl -sSL https://raw.githubusercontent.com/python-poetry/poetry/master/get-poetry.py | POETRY_HOME=/opt/poetry python && \\ cd /usr/local/bin && \\
    ln -s /opt/poetry/bin/poetry && \\
    poetry config virtualenvs.create false

COPY ./pyproject.toml ./poetry.lock* /app/
RUN poetry install --no-root --no-dev
COPY ./app /app
";
    let seen = found(text, None, None);
    let expected = [
        ("base-deprecated", 1),
        ("base-unpinned", 1),
        ("runs-as-root", 1),
        ("broken-continuation", 3),
        ("retired-installer", 3),
    ];
    for rule in expected {
        assert!(seen.contains(&rule), "{rule:?} in {seen:?}");
    }
}

#[test]
fn a_dockerignore_may_leave_a_path_out() {
    for ignore in [
        "target",
        "/target",
        "target/",
        "**/target",
        "# x\ntarget/**\n",
        "*\n!patients",
        "./target",
        "*get",
        "**/*get",
    ] {
        assert!(Ignore::parse(ignore).empties("target"), "{ignore}");
    }
    for ignore in ["", "targets", "src", "# target", "!target", "target/debug", "*.get", "*\n!*get"]
    {
        assert!(!Ignore::parse(ignore).empties("target"), "{ignore}");
    }
}
