//! What a repository is, from its files. Pure.
//!
//! What is the same for every language is here; [`python`], [`node`] and [`go`] know theirs, and
//! [`own`] a Dockerfile that is there.

use super::go::{self, Go};
use super::mode::Mode;
use super::node::{self, Node};
use super::own::{self, OwnDockerfile};
use super::python::{self, Python, Start};
use super::tree::{Evidence, Fact, Refusal, SourceFacts, Surroundings, Tree};
use crate::check::dockerfile::Dockerfile;
use crate::check::rules::explain_deprecated;
use crate::dockerignore::Ignore;

/// What `init` has to know to write its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    /// A DNS label.
    pub name: String,
    pub port: Fact<u16>,
    pub health: Fact<String>,
    pub mode: Fact<Mode>,
    pub stack: Stack,
    /// The default branch, where that is known.
    pub branch: Option<String>,
    /// What a person has to look at.
    pub notes: Vec<String>,
}

/// How the service is built and run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stack {
    Python(Python),
    Node(Node),
    Go(Go),
    /// It has a Dockerfile of its own, which stays.
    Own(OwnDockerfile),
}

/// What every Dockerfile begins with that init wrote. One that begins so is written anew like the
/// first time.
pub const MARK: &str = "# Written by `cicd init`, and yours from here on.\n";

/// The files that say how a project is built.
const PROJECT_FILES: [&str; 5] =
    ["pyproject.toml", "requirements.txt", "package.json", "go.mod", "Dockerfile"];

/// Project files of what no Dockerfile is written for.
const OTHER_FILES: [(&str, &str); 12] = [
    ("Pipfile", "Pipenv"),
    ("pom.xml", "Maven"),
    ("build.gradle", "Gradle"),
    ("build.gradle.kts", "Gradle"),
    ("Gemfile", "Bundler"),
    ("pixi.toml", "pixi"),
    ("composer.json", "Composer"),
    ("Cargo.toml", "Cargo"),
    ("mix.exs", "Mix"),
    ("setup.py", "setup.py alone"),
    ("environment.yml", "conda"),
    ("deno.json", "Deno"),
];

impl ServiceFacts {
    /// What is known with its evidence, and what is guessed.
    pub fn describe(&self) -> (Vec<String>, Vec<String>) {
        let Mode { variable, debug, production } = &self.mode.value;
        let mode = format!("mode {variable} ({debug}, {production})");
        let entry = match &self.stack {
            Stack::Python(python) => Some(describe_start(&python.start)),
            Stack::Node(node) => Some(node::describe_entry(node)),
            Stack::Go(go) => Some(go::describe_entry(go)),
            Stack::Own(_) => None,
        };
        let all = [
            entry.map(|entry| (format!("entry `{}`", entry.value), entry.evidence, "CMD")),
            Some((format!("port {}", self.port.value), self.port.evidence.clone(), "port")),
            Some((
                format!("health path {}", self.health.value),
                self.health.evidence.clone(),
                "health.path",
            )),
            Some((mode, self.mode.evidence.clone(), "mode")),
        ];
        let (mut known, mut guessed) = (Vec::new(), Vec::new());
        for (what, evidence, key) in all.into_iter().flatten() {
            match &evidence {
                Evidence::Guess(why) => {
                    let place = if key == "CMD" { "the Dockerfile" } else { "service.yaml" };
                    guessed.push(format!(
                        "{what} is a guess: {why}; correct `{key}` of {place} if it is another"
                    ));
                }
                evidence => known.push(format!("{what}: {evidence}")),
            }
        }
        if let Stack::Go(go) = &self.stack {
            let beside = go.files.iter();
            known.extend(beside.map(|file| {
                format!("the image has {} beside the program: {}", file.value, file.evidence)
            }));
        }
        (known, guessed)
    }
}

fn describe_start(start: &Fact<Start>) -> Fact<String> {
    let text = match &start.value {
        Start::Application(name) => format!("uvicorn {name}"),
        Start::Factory(name) => format!("uvicorn --factory {name}"),
        Start::Wsgi(name) => format!("gunicorn {name}"),
        Start::Module(name) => format!("python -m {name}"),
        Start::Script(name) => format!("python, {name}"),
    };
    Fact { value: text, evidence: start.evidence.clone() }
}

/// Reads a tree.
///
/// # Errors
/// What is in the way of knowing how it is built.
pub fn read_facts(tree: &Tree, around: &Surroundings) -> Result<ServiceFacts, Refusal> {
    let mut notes = Vec::new();
    let (stack, said) = read_stack(tree, around, &mut notes)?;
    let own = matches!(stack, Stack::Own(_));
    // uvicorn and gunicorn are told their port.
    let told = match &stack {
        Stack::Python(python) if python.start.value.is_application() => {
            Some(Fact::set(8000, "the Dockerfile tells the server by PORT"))
        }
        _ => None,
    };
    let port = told.or(said.port).unwrap_or_else(|| {
        let why = if own {
            "neither the Dockerfile nor a source says it"
        } else {
            "no source says what the service listens on"
        };
        Fact::guess(8000, why)
    });
    if port.value < 1024 && !own {
        notes.push(format!(
            "the sources listen on port {} ({}), which the image's user may not: take one above \
             1023",
            port.value, port.evidence
        ));
    }
    if let Some(file) = find_ignored(tree, &stack) {
        notes.push(format!(
            "the .dockerignore that is there leaves out {file}, which the Dockerfile copies: add a \
             line !{file} to it"
        ));
    }
    let health = said.health.unwrap_or_else(|| {
        let why = "no health path was found; add a route /healthz that answers 200";
        Fact::guess("/healthz".into(), why)
    });
    let mode = said.mode.unwrap_or_else(|| {
        let [variable, debug, production] = ["APP_MODE", "debug", "production"].map(str::to_string);
        Fact::guess(Mode { variable, debug, production }, "no source reads a variable for it")
    });
    let name = read_name(tree).unwrap_or_else(|| around.folder.clone());
    let name = make_label(&name);
    Ok(ServiceFacts { name, port, health, mode, stack, branch: around.branch.clone(), notes })
}

fn read_stack(
    tree: &Tree,
    around: &Surroundings,
    notes: &mut Vec<String>,
) -> Result<(Stack, SourceFacts), Refusal> {
    let has = |file: &str| tree.contains_key(file);
    let path = find_dockerfile(tree);
    let old = path.as_deref().and_then(|path| tree.get(path)).is_some_and(|text| is_old(text));
    if let Some(path) = path.filter(|_| !old) {
        let others = list_dockerfiles(tree);
        let others: Vec<&str> =
            others.iter().map(String::as_str).filter(|other| *other != path).collect();
        if !others.is_empty() {
            notes.push(format!(
                "{path} is taken for the service's; there is also {}: `image.dockerfile` of \
                 service.yaml says which",
                others.join(", ")
            ));
        } else if path != "Dockerfile" {
            notes.push(format!("{path} is taken for the service's"));
        }
        let text = tree.get(&path).map(String::as_str).unwrap_or_default();
        let (own, image) = own::read_own(&path, text, tree, &around.copied, &around.above, notes);
        let said = read_sources(tree);
        let facts = SourceFacts {
            port: image.port.or(said.port),
            health: image.health.or(said.health),
            // What a source compares says more than one value of ENV.
            mode: said.mode.filter(|mode| !mode.is_guess()).or(image.mode),
        };
        return Ok((Stack::Own(own), facts));
    }
    if old {
        notes.push(
            "the Dockerfile is on a retired base image: `cicd init --force` writes the modern one \
             over it"
                .into(),
        );
    }
    let deeper: Vec<&str> = tree
        .keys()
        .map(String::as_str)
        .filter(|path| path.contains('/') && path.ends_with("Dockerfile"))
        .take(3)
        .collect();
    if !deeper.is_empty() {
        notes.push(format!(
            "there are Dockerfiles further below: {}; where one is the service's, name it by \
             `image.dockerfile` of service.yaml, and remove the one at the root",
            deeper.join(", ")
        ));
    }
    let above = around.above.as_slice();
    if python::is_project(tree) {
        if node::read_package(tree)["scripts"]["build"].is_string() {
            notes.push(
                "package.json is there too: the image has nothing of what its script `build` makes"
                    .into(),
            );
        }
        let (python, facts) = python::read_project(tree, above, old, notes)?;
        return Ok((Stack::Python(python), facts));
    }
    if has("package.json") && !has("Pipfile") {
        let (node, facts) = node::read_project(tree, above, notes)?;
        return Ok((Stack::Node(node), facts));
    }
    if has("go.mod") {
        let (go, facts) = go::read_project(tree, above, notes)?;
        return Ok((Stack::Go(go), facts));
    }
    if has("go.work") {
        return Err(Refusal::shape(
            "a Go workspace",
            "go.work is here, and no go.mod: which module is the service is not said",
            "run `cicd init` in the service's module; where it needs another member, write its \
             Dockerfile for this folder first: `COPY . .`, then `RUN go build -o /service \
             ./MODULE`",
        ));
    }
    let dotnet = [".csproj", ".fsproj", ".sln", ".slnx"];
    let is_dotnet =
        |path: &&String| !path.contains('/') && dotnet.iter().any(|end| path.ends_with(end));
    let other = OTHER_FILES.into_iter().find(|(file, _)| has(file));
    let other = other.map(|(file, tool)| (file.to_string(), tool));
    let other = other.or_else(|| Some((tree.keys().find(is_dotnet)?.clone(), ".NET")));
    if let Some((file, tool)) = other {
        return Err(Refusal::shape(
            tool,
            format!(
                "{file} says that {tool} builds it; init knows uv, Poetry, pdm, pip, npm and Go"
            ),
            "write the Dockerfile by hand; `cicd init` then writes the rest: service.yaml, \
             .dockerignore and the workflow",
        ));
    }
    let below = tree.keys().filter(|path| {
        path.rsplit_once('/').is_some_and(|(_, name)| PROJECT_FILES.contains(&name))
            && path.matches('/').count() <= 2
    });
    Err(Refusal::Nothing(below.cloned().collect()))
}

/// The Dockerfile that is there: at the root, or in a folder that is no project of its own.
pub fn find_dockerfile(tree: &Tree) -> Option<String> {
    let is_project = PROJECT_FILES[..4].iter().any(|file| tree.contains_key(*file));
    if tree.get("Dockerfile").is_some_and(|text| is_project && text.starts_with(MARK)) {
        return None;
    }
    list_dockerfiles(tree).into_iter().next()
}

/// The Dockerfiles that may be the service's, the surest first. Names that end otherwise are of
/// other images: `Dockerfile.dev`.
fn list_dockerfiles(tree: &Tree) -> Vec<String> {
    const NAMES: [&str; 9] = [
        "Dockerfile",
        "Containerfile",
        "Dockerfile.prod",
        "Dockerfile.production",
        "Dockerfile.release",
        "prod.Dockerfile",
        "production.Dockerfile",
        "Dockerfile.app",
        "Dockerfile.api",
    ];
    let is_of_another = |folder: &str| {
        let mut files = PROJECT_FILES[..4].iter();
        files.any(|file| tree.contains_key(&format!("{folder}/{file}")))
    };
    let mut found: Vec<(bool, usize, &String)> = tree
        .keys()
        .filter_map(|path| {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            let rank = NAMES.iter().position(|own| *own == name)?;
            let is_near = folder.is_empty() || !folder.contains('/') && !is_of_another(folder);
            is_near.then_some((!folder.is_empty(), rank, path))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, _, path)| path.clone()).collect()
}

/// What the sources at the root say, whatever builds them.
fn read_sources(tree: &Tree) -> SourceFacts {
    let has = |file: &str| tree.contains_key(file);
    let is_python = || tree.keys().any(|path| path.ends_with(".py"));
    if has("go.mod") {
        go::read_sources(tree)
    } else if has("package.json") && !has("pyproject.toml") && !has("requirements.txt") {
        node::read_sources(tree)
    } else if is_python() {
        python::read_sources(tree)
    } else {
        SourceFacts::default()
    }
}

/// The shape of the platform's old guide.
fn is_old(text: &str) -> bool {
    let dockerfile = Dockerfile::parse(text);
    dockerfile.stages().iter().any(|stage| {
        explain_deprecated(&stage.base).is_some_and(|_| stage.base.contains("tiangolo/"))
    })
}

/// A file that the Dockerfile copies and the .dockerignore that is there leaves out.
fn find_ignored(tree: &Tree, stack: &Stack) -> Option<String> {
    let path = match stack {
        Stack::Own(own) => own.path.as_str(),
        _ => "Dockerfile",
    };
    let by_name = tree.get(&format!("{path}.dockerignore"));
    let ignore = Ignore::parse(by_name.or_else(|| tree.get(".dockerignore"))?);
    let copied = match stack {
        Stack::Python(python) => python.copied(),
        Stack::Node(node) => node::list_manifests(node),
        Stack::Go(_) => vec!["go.mod".to_string()],
        Stack::Own(own) if own.context == "." => own.sources.clone(),
        Stack::Own(_) => vec![],
    };
    copied.into_iter().find(|path| {
        let below = format!("{path}/");
        let mut files =
            tree.keys().filter(|own| *own == path || own.starts_with(&below)).peekable();
        files.peek().is_some() && files.all(|file| ignore.empties(file))
    })
}

/// What the project's own file calls it.
fn read_name(tree: &Tree) -> Option<String> {
    let project: Option<toml::Table> =
        tree.get("pyproject.toml").and_then(|text| text.parse().ok());
    let python = project.and_then(|project| {
        let named = project.get("project").or_else(|| project.get("tool")?.get("poetry"))?;
        Some(named.get("name")?.as_str()?.to_string())
    });
    let node = || node::read_package(tree)["name"].as_str().map(str::to_string);
    let go = || {
        let module = go::read_module_name(tree)?;
        // example.org/visits/v2: the last part is the major version.
        let version =
            |part: &&str| part.strip_prefix('v').is_some_and(|rest| rest.parse::<u32>().is_ok());
        module.rsplit('/').find(|part| !version(part)).map(str::to_string)
    };
    python
        .or_else(node)
        .or_else(go)
        .map(|name| name.rsplit('/').next().unwrap_or_default().to_string())
}

/// A text as a DNS label.
fn make_label(text: &str) -> String {
    let lower = text.to_lowercase();
    let parts: Vec<&str> =
        lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
    let joined = parts.join("-");
    let name: String =
        joined.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).chars().take(40).collect();
    if name.is_empty() { "service".into() } else { name.trim_end_matches('-').to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect()
    }

    fn around() -> Surroundings {
        Surroundings { folder: "My Service".into(), ..Surroundings::default() }
    }

    fn told(files: &[(&str, &str)]) -> ServiceFacts {
        read_facts(&tree(files), &around()).expect("it is something")
    }

    fn own_path(facts: &ServiceFacts) -> Option<&str> {
        match &facts.stack {
            Stack::Own(own) => Some(&own.path),
            _ => None,
        }
    }

    #[test]
    fn a_dockerfile_of_its_own_stays() {
        let own = told(&[("Dockerfile", "FROM x\nEXPOSE 9000/tcp\n"), ("package.json", "{}")]);
        assert_eq!(
            (own_path(&own), own.port.value, own.name.as_str()),
            (Some("Dockerfile"), 9000, "my-service")
        );
        let written = format!("{MARK}\nFROM x\n");
        let program = ("main.go", "package main\n");
        let ours = told(&[("Dockerfile", &written), ("go.mod", "module x\ngo 1.26\n"), program]);
        assert!(matches!(ours.stack, Stack::Go(_)), "what init wrote is written anew: {ours:?}");
        let elsewhere = told(&[("docker/Dockerfile", "FROM x\n"), ("requirements.txt", "fastapi")]);
        assert_eq!((own_path(&elsewhere), elsewhere.notes.len()), (Some("docker/Dockerfile"), 1));
        let another = told(&[
            ("web/Dockerfile", "FROM x\n"),
            ("web/package.json", "{}"),
            ("requirements.txt", ""),
            ("main.py", ""),
        ]);
        assert!(
            matches!(another.stack, Stack::Python(_)),
            "what is in web is another service: {another:?}"
        );
    }

    #[test]
    fn what_cannot_be_known_is_said() {
        let unknown = |files: &[(&str, &str)]| {
            read_facts(&tree(files), &around()).expect_err("nothing is known")
        };
        assert_eq!(unknown(&[]), Refusal::Nothing(vec![]));
        let below =
            unknown(&[("backend/pyproject.toml", ""), ("web/package.json", ""), ("README.md", "")]);
        assert_eq!(
            below,
            Refusal::Nothing(vec!["backend/pyproject.toml".into(), "web/package.json".into()])
        );
        for (file, tool) in [("Pipfile", "Pipenv"), ("pom.xml", "Maven"), ("go.work", "workspace")]
        {
            let Refusal::Shape { what, .. } = unknown(&[(file, "")]) else { panic!("{file}") };
            assert!(what.contains(tool), "{what}");
        }
    }

    #[test]
    fn the_sources_are_asked_beside_a_dockerfile_that_says_nothing() {
        let go = "package main\n\nfunc main() {\n\tflag.Int(\"port\", 9898, \"\")\n}\n";
        let facts = told(&[
            ("Dockerfile", "FROM scratch\nCMD [\"/x\"]\n"),
            ("go.mod", "module x\n"),
            ("main.go", go),
        ]);
        assert_eq!(facts.port, Fact::read(9898, "main.go", 4));
        assert!(facts.health.is_guess() && facts.mode.is_guess());
        let (known, guessed) = facts.describe();
        assert_eq!(known, ["port 9898: main.go:4"]);
        assert_eq!(guessed.len(), 2, "{guessed:?}");
        assert!(guessed.iter().all(|text| text.contains("is a guess: ")), "{guessed:?}");
    }

    #[test]
    fn a_port_that_the_user_may_not_open_is_said() {
        let low = told(&[
            ("go.mod", "module x\ngo 1.26\n"),
            ("main.go", "package main\nfunc main() { http.ListenAndServe(\":80\", nil) }\n"),
        ]);
        assert!(low.notes.iter().any(|note| note.contains("above 1023")), "{low:?}");
    }

    #[test]
    fn a_dockerignore_that_is_there_is_read() {
        let files = [("requirements.txt", "fastapi uvicorn"), ("app/main.py", "app = FastAPI()")];
        let seen = |ignore: &'static str| {
            let mut files = files.to_vec();
            files.push((".dockerignore", ignore));
            told(&files).notes
        };
        assert!(!seen(".git\n").iter().any(|note| note.contains(".dockerignore")));
        assert!(seen("*\n!app\n").iter().any(|note| note.contains("!requirements.txt")));
        let whole = seen("*\n!app/main.py\n!requirements.txt\n");
        assert!(!whole.iter().any(|note| note.contains(".dockerignore")), "{whole:?}");
    }

    #[test]
    fn a_name_is_a_dns_label() {
        for (text, expected) in [
            ("My Service", "my-service"),
            ("patients_api", "patients-api"),
            ("42", "service"),
            ("7up", "up"),
            ("é", "service"),
        ] {
            assert_eq!(make_label(text), expected);
        }
        let name = |file: &str, text: &str| read_name(&tree(&[(file, text)]));
        assert_eq!(name("go.mod", "module example.org/visits/v2\n").as_deref(), Some("visits"));
        assert_eq!(name("package.json", r#"{"name": "@org/web"}"#).as_deref(), Some("web"));
    }
}
