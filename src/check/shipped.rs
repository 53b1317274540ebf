//! What the image that a Dockerfile ships says of itself: its environment, ports, command and
//! health check, as BuildKit would resolve them, and what it copies from the context. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::dockerfile::{Dockerfile, Instruction, Stage, filled, words};

/// A port of EXPOSE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExposedPort {
    /// `None` if what it is made of is not in the file; of a range, the first.
    pub number: Option<u16>,
    /// The last of a range.
    pub last: Option<u16>,
    pub is_tcp: bool,
    /// What it is made of, filled in.
    pub text: String,
    pub line: u64,
}

impl ExposedPort {
    /// Whether a port is this one, or of this range.
    pub fn contains(&self, port: u16) -> bool {
        self.number.is_some_and(|first| (first..=self.last.unwrap_or(first)).contains(&port))
    }
}

/// ENTRYPOINT or CMD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// A shell's script is taken apart into its words.
    pub words: Vec<String>,
    pub line: u64,
}

/// What HEALTHCHECK asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub port: Option<u16>,
    /// It asks by HTTPS.
    pub is_https: bool,
    pub path: Option<String>,
    pub line: u64,
}

/// A path that comes from the build context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextSource {
    pub path: String,
    pub line: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShippedImage {
    /// The variables with their lines.
    pub environment: BTreeMap<String, (String, u64)>,
    pub ports: Vec<ExposedPort>,
    pub entrypoint: Option<Command>,
    pub cmd: Option<Command>,
    pub health: Option<HealthCheck>,
    /// `10001:10001`; empty if the file does not say one.
    pub user: String,
}

impl ShippedImage {
    /// The whole command: ENTRYPOINT, then CMD.
    pub fn command(&self) -> Vec<&Command> {
        self.entrypoint.iter().chain(&self.cmd).collect()
    }

    /// The port that a flag of the command says: `--port 8080`, `-b 0.0.0.0:5000`.
    pub fn port_of_command(&self) -> Option<(u16, u64)> {
        self.command().into_iter().find_map(|command| {
            let port = find_port(&command.words)?;
            Some((port, command.line))
        })
    }

    /// The port that the program of the command takes when no flag says one: of a variable that it
    /// reads, else its own default.
    pub fn port_of_program(&self) -> Option<(u16, u64)> {
        let told = PORT_VARIABLES.iter().find_map(|name| {
            let (text, line) = self.environment.get(*name)?;
            let port = find_port(&words(text)).or_else(|| text.rsplit(':').next()?.parse().ok())?;
            Some((port, *line))
        });
        told.or_else(|| self.command().into_iter().find_map(read_default_port))
    }

    /// The TCP ports that are exposed and known.
    pub fn tcp_ports(&self) -> Vec<(u16, u64)> {
        let tcp = self.ports.iter().filter(|port| port.is_tcp);
        tcp.filter_map(|port| Some((port.number?, port.line))).collect()
    }
}

impl Dockerfile {
    /// The image of the target, or of the last stage; empty if there is no such stage. `arguments`
    /// are the build's own, which go before the defaults in the file.
    pub fn ship(&self, target: Option<&str>, arguments: &BTreeMap<String, String>) -> ShippedImage {
        let mut image = ShippedImage::default();
        let mut stages = self.shipped(target);
        stages.reverse();
        let globals = self.global_arguments(arguments);
        for stage in &stages {
            read_stage(&mut image, stage, &globals, arguments);
        }
        image
    }

    /// What the stages that the target needs take from the build context.
    pub fn context_sources(
        &self,
        target: Option<&str>,
        arguments: &BTreeMap<String, String>,
    ) -> Vec<ContextSource> {
        let globals = self.global_arguments(arguments);
        let mut found = Vec::new();
        for stage in self.needed_stages(target) {
            let mut variables = BTreeMap::new();
            for one in stage.instructions {
                set_variables(&mut variables, one, &globals, arguments);
                for path in one.context_paths() {
                    found.push(ContextSource { path: filled(&path, &variables), line: one.line });
                }
            }
        }
        found.sort_by_key(|source| source.line);
        found
    }

    /// The stages that a build of the target runs.
    fn needed_stages(&self, target: Option<&str>) -> Vec<Stage<'_>> {
        let stages = self.stages();
        let find = |name: &str| {
            stages
                .iter()
                .position(|stage| {
                    stage.name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name))
                })
                .or_else(|| name.parse().ok().filter(|at: &usize| *at < stages.len()))
        };
        let last = match target {
            Some(target) => find(target),
            None => stages.len().checked_sub(1),
        };
        let mut needed = BTreeSet::new();
        let mut open: Vec<usize> = last.into_iter().collect();
        while let Some(at) = open.pop() {
            if !needed.insert(at) {
                continue;
            }
            let stage = &stages[at];
            open.extend(find(&stage.base).filter(|base| *base < at));
            for flag in stage.instructions.iter().flat_map(|one| &one.flags) {
                let named = flag.split(',').find_map(|part| {
                    part.strip_prefix("--from=").or_else(|| part.strip_prefix("from="))
                });
                open.extend(named.and_then(find).filter(|from| *from < at));
            }
        }
        needed.into_iter().map(|at| stages[at].clone()).collect()
    }
}

/// Sets what ARG and ENV say. An ENV of a name goes before an ARG of it.
fn set_variables(
    variables: &mut BTreeMap<String, String>,
    one: &Instruction,
    globals: &BTreeMap<String, String>,
    arguments: &BTreeMap<String, String>,
) {
    match one.keyword.as_str() {
        "ARG" => {
            for (name, default) in one.pairs() {
                let value = arguments
                    .get(&name)
                    .cloned()
                    .or_else(|| default.map(|default| filled(&default, variables)))
                    .or_else(|| globals.get(&name).cloned());
                if let Some(value) = value {
                    variables.entry(name).or_insert(value);
                }
            }
        }
        "ENV" => {
            // All of one instruction are filled in with what was before it.
            let before = variables.clone();
            for (name, value) in one.pairs() {
                let value = value.unwrap_or_default();
                variables.insert(name, filled(&value, &before));
            }
        }
        _ => {}
    }
}

fn read_stage(
    image: &mut ShippedImage,
    stage: &Stage<'_>,
    globals: &BTreeMap<String, String>,
    arguments: &BTreeMap<String, String>,
) {
    let mut variables: BTreeMap<String, String> =
        image.environment.iter().map(|(name, (value, _))| (name.clone(), value.clone())).collect();
    let mut sets_cmd = false;
    for one in stage.instructions {
        set_variables(&mut variables, one, globals, arguments);
        match one.keyword.as_str() {
            "ENV" => {
                for (name, _) in one.pairs() {
                    let value = variables.get(&name).cloned().unwrap_or_default();
                    image.environment.insert(name, (value, one.line));
                }
            }
            "EXPOSE" => {
                for word in words(&one.text) {
                    image.ports.push(read_exposed(&word, &variables, one.line));
                }
            }
            "CMD" => {
                sets_cmd = true;
                image.cmd = Some(read_command(one, &variables));
            }
            "ENTRYPOINT" => {
                image.entrypoint = Some(read_command(one, &variables));
                // An ENTRYPOINT takes away the CMD of what the stage begins with.
                if !sets_cmd {
                    image.cmd = None;
                }
            }
            "USER" => image.user = filled(one.text.trim(), &variables),
            "HEALTHCHECK" => image.health = read_health(one, &variables),
            _ => {}
        }
    }
}

fn read_exposed(word: &str, variables: &BTreeMap<String, String>, line: u64) -> ExposedPort {
    let whole = filled(word, variables);
    let (number, protocol) = whole.split_once('/').unwrap_or((&whole, "tcp"));
    let (first, last) = number.split_once('-').unwrap_or((number, number));
    ExposedPort {
        number: first.parse().ok(),
        last: last.parse().ok().filter(|_| first != last),
        is_tcp: protocol.eq_ignore_ascii_case("tcp"),
        text: number.to_string(),
        line,
    }
}

fn read_command(one: &Instruction, variables: &BTreeMap<String, String>) -> Command {
    let parts = match one.exec_form() {
        // The script of `sh -c`.
        Some(exec) => match exec.as_slice() {
            [_, option, script, ..] if option.starts_with('-') && option.ends_with('c') => {
                words(&filled(script, variables))
            }
            _ => exec,
        },
        None => words(&filled(&one.text, variables)),
    };
    Command { words: parts, line: one.line }
}

/// Flags that say what a server listens on.
const PORT_FLAGS: [&str; 17] = [
    "--port",
    "-port",
    "-p",
    "--http-port",
    "--bind",
    "-b",
    "--listen",
    "-listen",
    "--listen-address",
    "--addr",
    "-addr",
    "--address",
    "--server.port",
    "-Dserver.port",
    "--http",
    "--web.listen-address",
    "-P",
];

/// Variables that servers read their port or address from, the flags of gunicorn among them.
const PORT_VARIABLES: [&str; 8] = [
    "UVICORN_PORT",
    "GUNICORN_CMD_ARGS",
    "FLASK_RUN_PORT",
    "STREAMLIT_SERVER_PORT",
    "GRADIO_SERVER_PORT",
    "ASPNETCORE_HTTP_PORTS",
    "ASPNETCORE_URLS",
    "SERVER_PORT",
];

/// What a program listens on when nothing says a port: the program, the word that follows it, the
/// port.
const DEFAULT_PORTS: [(&str, &str, u16); 11] = [
    ("uvicorn", "", 8000),
    ("hypercorn", "", 8000),
    ("granian", "", 8000),
    ("daphne", "", 8000),
    ("fastapi", "run", 8000),
    ("flask", "run", 5000),
    ("streamlit", "run", 8501),
    ("litestar", "run", 8000),
    ("next", "start", 3000),
    ("puma", "", 9292),
    ("rails", "server", 3000),
];

fn read_default_port(command: &Command) -> Option<(u16, u64)> {
    let mut pairs = command.words.iter().enumerate().map(|(at, word)| {
        let program = word.rsplit('/').next().unwrap_or_default();
        (program, command.words.get(at + 1).map_or("", String::as_str))
    });
    let port = pairs.find_map(|(program, next)| {
        let mut known = DEFAULT_PORTS.iter();
        let found = known.find(|(own, word, _)| *own == program && ["", next].contains(word));
        found.map(|(_, _, port)| *port)
    })?;
    Some((port, command.line))
}

/// The port that a flag in the words of a command says.
pub fn find_port(words: &[String]) -> Option<u16> {
    let read = |text: &str| {
        text.rsplit(':').next()?.trim_matches(['"', '\'']).parse().ok().filter(|port| *port > 0)
    };
    let flagged = words.iter().enumerate().find_map(|(at, word)| match word.split_once('=') {
        Some((flag, value)) if PORT_FLAGS.contains(&flag) => read(value),
        _ if PORT_FLAGS.contains(&word.as_str()) => read(words.get(at + 1)?),
        _ => None,
    });
    // manage.py runserver 0.0.0.0:8000
    let address = || {
        words.iter().find_map(|word| {
            let (host, port) = word.split_once(':')?;
            let is_host = host.chars().all(|c| c.is_ascii_digit() || c == '.');
            is_host.then(|| read(port))?
        })
    };
    flagged.or_else(address)
}

/// What a health check's command asks for: the first address of this machine in it.
fn read_health(one: &Instruction, variables: &BTreeMap<String, String>) -> Option<HealthCheck> {
    if one.text.trim().eq_ignore_ascii_case("NONE") {
        return None;
    }
    let text = filled(&one.text, variables);
    let hosts = ["localhost", "127.0.0.1", "0.0.0.0", "[::1]", "$HOSTNAME"];
    let place = hosts.iter().filter_map(|host| Some((text.find(host)?, host.len()))).min();
    let before = place.map_or("", |(start, _)| &text[..start]);
    let (is_http, is_https) = (before.ends_with("http://"), before.ends_with("https://"));
    let rest = place.map_or("", |(start, length)| &text[start + length..]);
    let (port, rest) = match rest.strip_prefix(':') {
        Some(rest) => {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            (digits.parse().ok(), &rest[digits.len()..])
        }
        None => (None, rest),
    };
    let is_end = |c: char| c.is_whitespace() || "\"'`)|;&?\\".contains(c);
    let path: String = rest.chars().take_while(|c| !is_end(*c)).collect();
    // c.request('GET', '/healthz')
    let quoted = || {
        let words = words_in_quotes(&text).into_iter();
        words.map(str::to_string).find(|word| word.starts_with('/') && word.len() > 1)
    };
    let path = match path.as_str() {
        path if path.starts_with('/') && !path.contains('$') => Some(path.to_string()),
        // curl http://localhost:8080
        "" if is_http || is_https => Some("/".to_string()),
        _ if one.exec_form().is_some() || text.contains("python") => quoted(),
        _ => None,
    };
    Some(HealthCheck { port, is_https, path, line: one.line })
}

/// The texts between single quotes.
fn words_in_quotes(text: &str) -> Vec<&str> {
    text.split('\'').skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ship(text: &str) -> ShippedImage {
        Dockerfile::parse(text).ship(None, &BTreeMap::new())
    }

    #[test]
    fn ports_are_resolved_as_a_build_does() {
        struct Case {
            lines: &'static str,
            exposed: &'static [u16],
            command: Option<u16>,
        }
        let case = |lines, exposed, command| Case { lines, exposed, command };
        let cases: [Case; 16] = [
            case("EXPOSE 8080\n", &[8080], None),
            case("ARG PORT=8080\nEXPOSE $PORT\n", &[8080], None),
            case("ENV PORT=8080\nEXPOSE ${PORT}/tcp\n", &[8080], None),
            case("EXPOSE ${PORT:-81} 82/udp\n", &[81], None),
            case("EXPOSE $PORT\n", &[], None),
            case("ARG P=1\nENV P=2\nEXPOSE $P\n", &[2], None),
            case("EXPOSE 8080\nEXPOSE 9090\n", &[8080, 9090], None),
            case("EXPOSE 8080-8082/tcp \"90\"\n", &[8080, 90], None),
            case("ENV A=b\\ c PORT=85\nEXPOSE ${P-$PORT}\n", &[85], None),
            case("CMD [\"uvicorn\",\"a:b\",\"--port\",\"81\"]\n", &[], Some(81)),
            case("CMD exec gunicorn -b 0.0.0.0:5000 a:b\n", &[], Some(5000)),
            case("ENV PORT=83\nCMD [\"sh\",\"-c\",\"exec x --port=$PORT\"]\n", &[], Some(83)),
            case("ENTRYPOINT [\"java\",\"-Dserver.port=84\"]\n", &[], Some(84)),
            case("CMD python manage.py runserver 0.0.0.0:85\n", &[], Some(85)),
            case("CMD [\"x\",\"--port\",\"eth0\"]\n", &[], None),
            case("FROM y\nENTRYPOINT [\"x\"]\n", &[], None),
        ];
        for Case { lines, exposed, command } in cases {
            let image = ship(&format!("FROM x\n{lines}"));
            let ports: Vec<u16> = image.tcp_ports().into_iter().map(|(port, _)| port).collect();
            assert_eq!(ports, exposed, "{lines}");
            assert_eq!(image.port_of_command().map(|(port, _)| port), command, "{lines}");
        }
    }

    #[test]
    fn a_program_has_a_port_of_its_own() {
        for (lines, port) in [
            ("CMD [\"uvicorn\", \"a:b\"]", Some(8000)),
            ("CMD exec /venv/bin/flask run", Some(5000)),
            ("ENTRYPOINT [\"tini\"]\nCMD [\"streamlit\", \"run\", \"a.py\"]", Some(8501)),
            ("CMD [\"fastapi\", \"dev\"]", None),
            ("CMD [\"python\", \"a.py\"]", None),
            ("ENV UVICORN_PORT=81\nCMD [\"uvicorn\", \"a:b\"]", Some(81)),
            ("ENV GUNICORN_CMD_ARGS=\"--bind=:82 -w 2\"\nCMD [\"gunicorn\"]", Some(82)),
            ("ENV ASPNETCORE_URLS=http://+:83\nCMD [\"dotnet\", \"a.dll\"]", Some(83)),
        ] {
            let image = ship(&format!("FROM x\n{lines}\n"));
            assert_eq!(image.port_of_program().map(|(port, _)| port), port, "{lines}");
        }
    }

    #[test]
    fn what_a_stage_begins_with_holds_in_it() {
        let text = "ARG P=70\nFROM x AS base\nARG P\nENV A=$P\nCMD [\"a\"]\nHEALTHCHECK CMD curl \
                    localhost:1/x\nFROM base\nENTRYPOINT [\"b\"]\nEXPOSE $A\nHEALTHCHECK NONE\n";
        let image = ship(text);
        assert_eq!(image.environment["A"], ("70".to_string(), 4));
        assert_eq!((image.cmd.clone(), image.health.clone()), (None, None));
        assert_eq!(image.tcp_ports(), [(70, 9)]);
        let arguments = BTreeMap::from([("P".to_string(), "71".to_string())]);
        assert_eq!(Dockerfile::parse(text).ship(None, &arguments).tcp_ports(), [(71, 9)]);
    }

    #[test]
    fn a_health_check_says_its_path_and_port() {
        for (check, port, path) in [
            ("CMD curl -f http://localhost:8080/ready || exit 1", Some(8080), Some("/ready")),
            ("CMD wget -qO- \"http://127.0.0.1:80/a/b?x=1\"", Some(80), Some("/a/b")),
            ("CMD curl localhost/up", None, Some("/up")),
            ("CMD curl -f http://localhost:81 || exit 1", Some(81), Some("/")),
            ("CMD nc -z localhost 81", None, None),
            ("--interval=9s CMD [\"curl\", \"http://localhost:3000/h\"]", Some(3000), Some("/h")),
            (
                "CMD [\"python\", \"-c\", \"c = C('127.0.0.1', 8); c.request('GET', '/hz')\"]",
                None,
                Some("/hz"),
            ),
            ("CMD pg_isready", None, None),
        ] {
            let health = ship(&format!("FROM x\nHEALTHCHECK {check}\n")).health.expect("a check");
            assert_eq!((health.port, health.path.as_deref()), (port, path), "{check}");
        }
    }

    #[test]
    fn the_context_is_asked_for_what_the_target_needs() {
        let text = "FROM x AS a\nARG D=src\nCOPY --chown=1 $D/a b /x/\nFROM x AS unused\nCOPY c .\n\
                    FROM x\nCOPY --from=a /x /x\nRUN --mount=type=bind,source=d,target=d e\n\
                    RUN --mount=type=bind,from=a,source=f,target=f e\nADD https://x/y [\"g h\"]\n\
                    COPY [\"i j\", \"./\"]\nCOPY <<E /x\nE\n";
        let seen: Vec<(String, u64)> = Dockerfile::parse(text)
            .context_sources(None, &BTreeMap::new())
            .into_iter()
            .map(|source| (source.path, source.line))
            .collect();
        let expected = [("src/a", 3), ("b", 3), ("d", 8), ("i j", 11)];
        assert_eq!(seen, expected.map(|(path, line)| (path.to_string(), line)));
    }
}
