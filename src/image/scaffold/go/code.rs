//! The packages of a Go module: their imports, and the values of their constants. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tree_sitter::Node;

use super::super::syntax::{
    DEEPEST, Grammar, Source, arguments, children, is_port_name, list_nodes,
};
use super::super::tree::{Tree, list_sources};

/// The sources by the folder they are in; the root's is empty.
#[derive(Debug, Default)]
pub struct Packages {
    pub module: String,
    pub by_folder: BTreeMap<String, Vec<Source>>,
}

impl Packages {
    pub fn read(tree: &Tree) -> Packages {
        let module = read_module_name(tree).unwrap_or_default();
        let mut by_folder: BTreeMap<String, Vec<Source>> = BTreeMap::new();
        for (path, text) in list_sources(tree).filter(|(path, _)| path.ends_with(".go")) {
            // Files that are built only when asked for.
            let ignored = text.lines().any(|line| {
                line.starts_with("//go:build ignore") || line.starts_with("// +build ignore")
            });
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            if let (false, Some(source)) = (ignored, Source::parse(path, text, Grammar::Go)) {
                by_folder.entry(folder.to_string()).or_default().push(source);
            }
        }
        Packages { module, by_folder }
    }

    /// The folders of programs, with the file that says so.
    pub fn programs(&self) -> Vec<(&str, &Source)> {
        self.by_folder
            .iter()
            .filter_map(|(folder, sources)| {
                let main = sources.iter().find(|source| package_of(source) == Some("main"))?;
                Some((folder.as_str(), main))
            })
            .collect()
    }

    /// The sources of a package and of those that it imports.
    pub fn reachable(&self, folder: &str) -> Vec<&Source> {
        let mut found = Vec::new();
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut open = vec![folder.to_string()];
        while let Some(folder) = open.pop() {
            if !seen.insert(folder.clone()) {
                continue;
            }
            for source in self.by_folder.get(&folder).into_iter().flatten() {
                found.push(source);
                open.extend(list_imports(source).iter().filter_map(|path| self.folder_of(path)));
            }
        }
        found
    }

    fn folder_of(&self, import: &str) -> Option<String> {
        let rest = import.strip_prefix(&self.module)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/').to_string())
    }
}

/// The name after `package`.
fn package_of(source: &Source) -> Option<&str> {
    let clause = children(source.root()).into_iter().find(|one| one.kind() == "package_clause")?;
    Some(source.text(*children(clause).first()?))
}

/// The module's name in go.mod.
pub fn read_module_name(tree: &Tree) -> Option<String> {
    let line = tree.get("go.mod")?.lines().find_map(|line| line.strip_prefix("module "))?;
    Some(line.trim().trim_matches('"').to_string())
}

/// The paths that a source imports.
pub fn list_imports(source: &Source) -> Vec<String> {
    let specs = source.nodes().into_iter().filter(|node| node.kind() == "import_spec");
    specs.filter_map(|spec| source.string(spec.child_by_field_name("path")?)).collect()
}

/// The text of an expression as far as these sources say it.
pub fn evaluate(sources: &[&Source], source: &Source, node: Node<'_>) -> Option<String> {
    evaluate_to(sources, source, node, DEEPEST)
}

fn evaluate_to(
    sources: &[&Source],
    source: &Source,
    node: Node<'_>,
    depth: usize,
) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    let value = |node| evaluate_to(sources, source, node, depth);
    match node.kind() {
        "interpreted_string_literal" | "raw_string_literal" => source.string(node),
        "int_literal" => Some(source.text(node).replace('_', "")),
        "parenthesized_expression" | "expression_list" | "literal_element" => {
            value(*children(node).first()?)
        }
        "unary_expression" => value(node.child_by_field_name("operand")?),
        "binary_expression" => {
            let left = value(node.child_by_field_name("left")?);
            let right = value(node.child_by_field_name("right")?);
            // ":" + port
            Some(left? + &right?)
        }
        "call_expression" => {
            let given = arguments(node);
            match source.called(node) {
                "Sprintf" => given.iter().skip(1).rev().find_map(|one| value(*one)),
                "Itoa" | "String" if given.len() == 1 => value(given[0]),
                "JoinHostPort" => value(*given.get(1)?),
                "Getenv" | "LookupEnv" => None,
                // flag.Int("port", 9898, "…"), getenv("PORT", "8080")
                _ => {
                    let named = given.iter().position(|one| {
                        source.string(*one).is_some_and(|name| is_port_name(&name))
                    })?;
                    value(*given.get(named + 1)?)
                }
            }
        }
        "identifier" => {
            let name = source.text(node);
            evaluate_name(sources, source, name, depth)
        }
        "selector_expression" => {
            let name = source.last_name(node);
            evaluate_name(sources, source, name, depth)
        }
        _ => None,
    }
}

/// The first value that something of this name gets: in the same file, then elsewhere.
fn evaluate_name(sources: &[&Source], own: &Source, name: &str, depth: usize) -> Option<String> {
    let others = sources.iter().copied().filter(|source| source.path != own.path);
    std::iter::once(own).chain(others).find_map(|source| {
        source.nodes().into_iter().find_map(|node| {
            let (left, right) = read_assignment(node)?;
            let is = list_nodes(left).into_iter().any(|one| source.last_name(one) == name);
            let value = is.then(|| evaluate_to(sources, source, right, depth)).flatten();
            value.filter(|value| !value.is_empty())
        })
    })
}

/// The two sides of what sets something: a declaration, an assignment, a field of a literal.
pub fn read_assignment(node: Node<'_>) -> Option<(Node<'_>, Node<'_>)> {
    match node.kind() {
        "short_var_declaration" | "assignment_statement" => {
            Some((node.child_by_field_name("left")?, node.child_by_field_name("right")?))
        }
        "const_spec" | "var_spec" => {
            Some((node.child_by_field_name("name")?, node.child_by_field_name("value")?))
        }
        "keyed_element" => {
            let parts = children(node);
            Some((*parts.first()?, *parts.get(1)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_followed_from_the_program_on() {
        let tree = [
            ("go.mod", "module example.org/a\n"),
            ("cmd/a/main.go", "package main\nimport \"example.org/a/web\"\n"),
            ("web/web.go", "package web\nimport x \"example.org/a/core\"\n"),
            ("core/core.go", "package core\n"),
            ("other/other.go", "package other\n"),
            ("gen.go", "//go:build ignore\n\npackage main\n"),
        ];
        let tree = tree.map(|(path, text)| (path.to_string(), text.to_string())).into();
        let packages = Packages::read(&tree);
        let programs: Vec<&str> =
            packages.programs().into_iter().map(|(folder, _)| folder).collect();
        assert_eq!(programs, ["cmd/a"]);
        let reached = packages.reachable("cmd/a");
        assert_eq!(reached.len(), 3, "{reached:?}");
    }
}
