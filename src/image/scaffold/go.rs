//! What a Go module is, from its files, and the Dockerfile that builds and runs it. Pure.

mod code;
mod routes;
mod settings;

use super::mode::choose_mode;
use super::syntax::Source;
use super::tree::{Above, Evidence, Fact, Refusal, SourceFacts, Tree, choose_health};
use code::Packages;
pub use code::read_module_name;

/// The oldest Go that still gets security fixes: a newer one builds what an older one did.
/// <https://go.dev/doc/devel/release>
const OLDEST: (u32, u32) = (1, 26);

/// Modules that are C underneath.
const C_MODULES: [&str; 7] = [
    "github.com/mattn/go-sqlite3",
    "gorm.io/driver/sqlite",
    "github.com/confluentinc/confluent-kafka-go",
    "github.com/h2non/bimg",
    "github.com/davidbyttow/govips",
    "github.com/marcboeker/go-duckdb",
    "gocv.io/x/gocv",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Go {
    /// The path of its main package: `.`, `./cmd/api`.
    pub package: Fact<String>,
    /// `1.26`: what go.mod asks for, or the oldest that is cared for.
    pub version: String,
    /// How its dependencies come into the build.
    pub download: Download,
    /// Files and folders at the root that the program reads when it runs.
    pub files: Vec<Fact<String>>,
    pub needs_time_zones: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Download {
    /// They are in the repository.
    Vendored,
    /// A workspace's: the sources of all members have to be there.
    WithSources,
    /// By go.mod, with the folders that it replaces modules by.
    ByModule(Vec<String>),
}

/// What the sources of a Go service say, from its program on.
pub fn read_sources(tree: &Tree) -> SourceFacts {
    let packages = Packages::read(tree);
    let folder = choose_program(tree, &packages).map(|fact| fact.value);
    let sources = match &folder {
        Some(folder) => packages.reachable(folder.trim_start_matches("./").trim_matches('.')),
        None => packages.by_folder.values().flatten().collect(),
    };
    describe_sources(&sources)
}

fn describe_sources(sources: &[&Source]) -> SourceFacts {
    SourceFacts {
        port: settings::find_port(sources),
        health: choose_health(&routes::list_routes(sources)),
        mode: choose_mode(&settings::list_mode_readings(sources)),
    }
}

/// Reads a Go module and what its sources say.
///
/// # Errors
/// A shape that no Dockerfile is written for.
pub fn read_project(
    tree: &Tree,
    above: &[Above],
    notes: &mut Vec<String>,
) -> Result<(Go, SourceFacts), Refusal> {
    let module = tree.get("go.mod").map(String::as_str).unwrap_or_default();
    let asked = |start: &str| {
        let version = module.lines().find_map(|line| line.trim().strip_prefix(start))?;
        let mut parts = version.trim().split(['.', 'r']).map(|part| part.parse::<u32>().ok());
        Some((parts.next()??, parts.next()??))
    };
    let (major, minor) = asked("go ").max(asked("toolchain go")).unwrap_or(OLDEST).max(OLDEST);
    refuse_workspace_member(tree, above)?;
    let packages = Packages::read(tree);
    let package = choose_program(tree, &packages).ok_or_else(|| {
        Refusal::shape(
            "a Go module without a program",
            "no source that is built by default is `package main`",
            "run `cicd init` where the program is, or write the Dockerfile by hand",
        )
    })?;
    refuse_cgo(&packages, module)?;
    let others: Vec<String> = packages
        .programs()
        .into_iter()
        .map(|(folder, _)| name_package(folder))
        .filter(|other| *other != package.value)
        .collect();
    if !others.is_empty() {
        notes.push(format!(
            "the image runs {}; there are also {}: correct the Dockerfile if it is another",
            package.value,
            others.join(", ")
        ));
    }
    let folder = package.value.trim_start_matches("./").trim_matches('.');
    let sources = packages.reachable(folder);
    let read = settings::list_files_read(tree, &sources);
    let (private, read): (Vec<_>, Vec<_>) =
        read.into_iter().partition(|(name, ..)| super::python::is_private(tree, name));
    for (name, file, line) in &private {
        notes.push(format!(
            "the image has nothing of {name}, which {file}:{line} reads and which may be private: \
             add a COPY when everybody may read it who has the image"
        ));
    }
    note_unread(tree, &read, notes);
    let go = Go {
        package,
        version: format!("{major}.{minor}"),
        download: read_download(tree, module)?,
        files: read.into_iter().map(|(name, file, line)| Fact::read(name, &file, line)).collect(),
        needs_time_zones: settings::needs_time_zones(&sources),
    };
    Ok((go, describe_sources(&sources)))
}

/// Folders that programs often read, and that no string in the sources names.
fn note_unread(tree: &Tree, read: &[(String, String, u64)], notes: &mut Vec<String>) {
    let often = [
        "migrations",
        "templates",
        "static",
        "assets",
        "public",
        "config",
        "configs",
        "locales",
        "i18n",
        "views",
    ];
    let unread: Vec<&str> = often
        .into_iter()
        .filter(|name| {
            let below = format!("{name}/");
            let mut files = tree.keys().filter(|path| path.starts_with(&below)).peekable();
            files.peek().is_some() && !files.any(|path| path.ends_with(".go"))
        })
        .filter(|name| !read.iter().any(|(own, ..)| own == name))
        .collect();
    if !unread.is_empty() {
        notes.push(format!(
            "the image has nothing of {}, which no source names or which the program carries: \
             add a COPY when it reads it",
            unread.join(", ")
        ));
    }
}

fn name_package(folder: &str) -> String {
    if folder.is_empty() { ".".into() } else { format!("./{folder}") }
}

/// The root's program, the one of the module's name, the one that listens.
fn choose_program(tree: &Tree, packages: &Packages) -> Option<Fact<String>> {
    let programs = packages.programs();
    let module = read_module_name(tree).unwrap_or_default();
    let is_version =
        |part: &&str| part.strip_prefix('v').is_some_and(|rest| rest.parse::<u32>().is_ok());
    let own = module.rsplit('/').find(|part| !is_version(part)).unwrap_or_default();
    if let [(folder, source)] = programs.as_slice() {
        return Some(Fact::read(name_package(folder), &source.path, 1));
    }
    let sure = programs
        .iter()
        .find(|(folder, _)| folder.is_empty())
        .or_else(|| programs.iter().find(|(folder, _)| folder.rsplit('/').next() == Some(own)));
    if let Some((folder, source)) = sure {
        return Some(Fact::read(name_package(folder), &source.path, 1));
    }
    let serving: Vec<_> = programs
        .iter()
        .filter(|(folder, _)| settings::serves(&packages.reachable(folder)))
        .collect();
    match (serving.as_slice(), programs.first()) {
        ([(folder, source)], _) => Some(Fact::read(name_package(folder), &source.path, 1)),
        ([(folder, _), ..], _) => {
            let all: Vec<String> = serving.iter().map(|(folder, _)| name_package(folder)).collect();
            let why = format!("{} all serve", all.join(", "));
            Some(Fact::guess(name_package(folder), why))
        }
        ([], Some((folder, _))) => {
            Some(Fact::guess(name_package(folder), "none of the programs is seen to serve"))
        }
        ([], None) => None,
    }
}

/// # Errors
/// The program needs a C compiler, and a C library when it runs.
fn refuse_cgo(packages: &Packages, module: &str) -> Result<(), Refusal> {
    let by_hand = "write the Dockerfile with `ENV CGO_ENABLED=1` in the build stage, and a runtime \
                   stage on the same Debian as golang's image (FROM debian:trixie-slim) with the C \
                   libraries that it needs; `cicd init` then writes the rest";
    for source in packages.by_folder.values().flatten() {
        if code::list_imports(source).iter().any(|path| path == "C") {
            let why = format!(
                "{} imports \"C\", and a static program on scratch has no C library",
                source.path
            );
            return Err(Refusal::shape("a Go program that uses cgo", why, by_hand));
        }
    }
    let direct = (1..).zip(module.lines()).filter(|(_, line)| !line.contains("// indirect"));
    for (line, text) in direct {
        if let Some(name) = C_MODULES.iter().find(|name| text.contains(*name)) {
            let why = format!("go.mod:{line} requires {name}, which is C underneath");
            return Err(Refusal::shape("a Go program that uses cgo", why, by_hand));
        }
    }
    Ok(())
}

/// The folders that `use` of a go.work names.
fn read_uses(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines().map(|line| line.split("//").next().unwrap_or_default().trim()) {
        match line {
            "use (" | "use(" => inside = true,
            ")" => inside = false,
            _ if inside && !line.is_empty() => found.push(line),
            _ => found.extend(line.strip_prefix("use ")),
        }
    }
    found
        .into_iter()
        .map(|path| path.trim_start_matches("./").trim_matches('"').to_string())
        .collect()
}

/// # Errors
/// The module is a member of a workspace, and requires another member.
fn refuse_workspace_member(tree: &Tree, above: &[Above]) -> Result<(), Refusal> {
    let module = tree.get("go.mod").map(String::as_str).unwrap_or_default();
    for root in above {
        let Some(text) = root.files.get("go.work") else { continue };
        let uses = read_uses(text);
        if !uses.contains(&root.below) {
            continue;
        }
        let required = uses
            .iter()
            .filter(|path| **path != root.below)
            .find(|path| module.split_whitespace().any(|word| word.ends_with(&format!("/{path}"))));
        if let Some(required) = required {
            return Err(Refusal::shape(
                "a member of a Go workspace",
                format!(
                    "go.mod requires {required}, which {}/go.work takes from beside",
                    root.path
                ),
                format!(
                    "write {}/Dockerfile for the workspace's root: `COPY . .`, then `RUN go build \
                     -o /service ./{}`; `cicd init` here then writes the rest, with `image: \
                     {{context: {}}}`",
                    root.below, root.below, root.path
                ),
            ));
        }
    }
    Ok(())
}

/// # Errors
/// go.mod replaces a module by a folder outside of the build context.
fn read_download(tree: &Tree, module: &str) -> Result<Download, Refusal> {
    if tree.contains_key("vendor/modules.txt") {
        return Ok(Download::Vendored);
    }
    let mut local = Vec::new();
    for (line, text) in (1..).zip(module.lines()) {
        let text = text.split("//").next().unwrap_or_default();
        let Some((_, by)) = text.split_once("=>") else { continue };
        let path = by.trim().trim_matches('"');
        if path.starts_with("../") || path == ".." || path.starts_with('/') {
            return Err(Refusal::shape(
                "a Go module that is replaced by a folder outside",
                format!("go.mod:{line} says {path}, which is not in the build context"),
                "write the Dockerfile for the folder above: `COPY . .`, then `RUN cd SERVICE && go \
                 build`; `cicd init` then writes the rest, with `image: {context: ..}`",
            ));
        }
        if let Some(path) = path.strip_prefix("./") {
            local.push(path.trim_end_matches('/').to_string());
        }
    }
    Ok(match tree.contains_key("go.work") {
        true => Download::WithSources,
        false => Download::ByModule(local),
    })
}

pub fn write_image(go: &Go, port: u16, base: &str) -> String {
    let Go { package, download, files, needs_time_zones, .. } = go;
    let download = match download {
        Download::Vendored | Download::WithSources => String::new(),
        Download::ByModule(local) => {
            let copies: String =
                local.iter().map(|folder| format!("COPY {folder} {folder}\n")).collect();
            format!(
                "COPY go.* ./\n{copies}RUN --mount=type=cache,target=/go/pkg/mod \\\n    \
                 go mod download\n"
            )
        }
    };
    let tags = if *needs_time_zones { " -tags timetzdata" } else { "" };
    let beside = match files.is_empty() {
        true => String::new(),
        false => {
            let names = files.iter().map(|file| &file.value);
            let copies = names.map(|file| format!("COPY --from=build /src/{file} {file}\n"));
            format!("WORKDIR /app\n{}", copies.collect::<String>())
        }
    };
    format!(
        "
# build: one static program.
FROM {base} AS build
WORKDIR /src
{download}COPY . .
ENV CGO_ENABLED=0
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \\
    go build -trimpath{tags} -ldflags=\"-s -w\" -o /service {}

# runtime: the program, and the certificates that it needs to call others.
FROM scratch AS runtime
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /service /service
{beside}ENV PORT={port}
USER 10001:10001
EXPOSE {port}
CMD [\"/service\"]
",
        package.value
    )
}

/// Where the program that the image runs is said.
pub fn describe_entry(go: &Go) -> Fact<String> {
    let Fact { value, evidence } = &go.package;
    let evidence = match evidence {
        Evidence::Read { file, .. } => Evidence::Set(format!("package main of {file}")),
        other => other.clone(),
    };
    Fact { value: format!("go build {value}"), evidence }
}

#[cfg(test)]
mod tests;
