//! The files and folders at the root that a running Python service reads. Pure.

use tree_sitter::Node;

use super::super::syntax::{ancestors, is_call};
use super::super::tree::Tree;
use super::code::Modules;
use crate::check::rules::is_secret_file;
use crate::dockerignore::Ignore;

/// What stands at the root and is needed when the service runs: sources, migrations, and folders
/// that the sources name.
pub fn list_root_sources(tree: &Tree, modules: &Modules) -> Vec<String> {
    let top = |path: &str| path.split('/').next().unwrap_or(path).to_string();
    let paths = modules.by_name.values().map(|module| module.source.path.as_str());
    let mut found: Vec<String> = paths.map(top).collect();
    let names = list_root_data(tree).filter(|name| is_read(tree, modules, name));
    found.extend(names.map(str::to_string));
    found.sort();
    found.dedup();
    found
}

/// Folders that are not about the running service.
const ASIDE: [&str; 26] = [
    "bench",
    "benchmarks",
    "chart",
    "charts",
    "ci",
    "deploy",
    "doc",
    "docker",
    "docs",
    "e2e",
    "examples",
    "helm",
    "infra",
    "infrastructure",
    "k8s",
    "node_modules",
    "notebooks",
    "requirements",
    "scripts",
    "target",
    "terraform",
    "test",
    "testdata",
    "tests",
    "tools",
    "vendor",
];

/// What else stands at the root and may be read: folders, and files that are not about the project
/// itself.
fn list_root_data(tree: &Tree) -> impl Iterator<Item = &str> {
    let mut tops: Vec<&str> =
        tree.keys().map(|path| path.split('/').next().unwrap_or(path)).collect();
    tops.dedup();
    tops.into_iter().filter(|name| !name.starts_with('.') && !ASIDE.contains(name))
}

/// Whether what has this name at the root is not for an image: git leaves it out, or it may hold
/// secrets or what people entrusted to the service.
pub fn is_private(tree: &Tree, name: &str) -> bool {
    let lower = name.to_lowercase();
    let folders = [
        "backup", "backups", "dump", "dumps", "log", "logs", "media", "output", "outputs", "temp",
        "tmp", "upload", "uploads", "var",
    ];
    let begins = ["secret", "credential", "private"];
    let ends = [".key", ".pem", ".crt", ".db", ".sqlite", ".sqlite3", ".dump", ".log"];
    tree.get(".gitignore").is_some_and(|ignore| Ignore::parse(ignore).empties(name))
        || is_secret_file(name)
        || folders.contains(&lower.as_str())
        || begins.iter().any(|begin| lower.starts_with(begin))
        || ends.iter().any(|end| lower.ends_with(end))
}

/// Whether the service reads what stands at the root under this name: a migration, or what a source
/// says by `"data/x.csv"`, `Path("data")`, `/ "data"`, `directory="data"`, or a file's whole name.
fn is_read(tree: &Tree, modules: &Modules, name: &str) -> bool {
    if ["alembic", "migrations", "alembic.ini"].contains(&name) {
        return true;
    }
    // A Dockerfile takes a space for the end of a name.
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    is_named(tree, modules, name) && !is_private(tree, name) && name.chars().all(plain)
}

/// Whether a string in a source names what stands at the root.
fn is_named(tree: &Tree, modules: &Modules, name: &str) -> bool {
    let is_file = tree.contains_key(name);
    let page = ["templates", "static"].contains(&name);
    modules.by_name.values().any(|module| {
        let source = &module.source;
        source.nodes().into_iter().any(|node| {
            let Some(text) = source.string(node) else { return false };
            let rest = text.strip_prefix("./").unwrap_or(&text).strip_prefix(name);
            match rest {
                Some("") => is_file || page || text.starts_with("./") || names_a_path(source, node),
                Some(rest) => rest.starts_with('/'),
                None => false,
            }
        })
    })
}

/// Whether a string stands where paths do: `Path("data")`, `ROOT / "data"`, `directory="data"`.
fn names_a_path(source: &super::super::syntax::Source, node: Node<'_>) -> bool {
    ancestors(node).take(3).any(|above| {
        let operator = above.child_by_field_name("operator").map(|one| source.text(one));
        let keyword = above.child_by_field_name("name").map(|one| source.text(one));
        above.kind() == "binary_operator" && operator == Some("/")
            || above.kind() == "keyword_argument"
                && keyword.is_some_and(|name| name.contains("dir") || name.contains("path"))
            || is_call(&above) && ["Path", "open", "join"].contains(&source.called(above))
    })
}

/// What stands at the root and is not copied: folders, and files that a source names.
pub fn list_unread<'a>(
    tree: &'a Tree,
    modules: &Modules,
    copied: &[String],
    manifests: &[String],
) -> Vec<&'a str> {
    let told = |name: &&str| !tree.contains_key(*name) || is_named(tree, modules, name);
    let is_copied = |name: &str| copied.iter().chain(manifests).any(|copied| copied == name);
    list_root_data(tree).filter(|name| told(name) && !is_copied(name)).collect()
}
