//! The modules of a Node service: their imports, and the values of their constants. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tree_sitter::Node;

use super::super::syntax::{DEEPEST, Grammar, Source, arguments, children, is_call, list_nodes};
use super::super::tree::{Tree, list_sources};
use crate::dockerignore::clean_path;

const ENDS: [&str; 8] = [".ts", ".tsx", ".mts", ".cts", ".js", ".mjs", ".cjs", ".jsx"];

/// The sources by their path, with what each imports.
#[derive(Debug, Default)]
pub struct Scripts {
    pub by_path: BTreeMap<String, Script>,
}

#[derive(Debug)]
pub struct Script {
    pub source: Source,
    /// Local name → the file it is imported from.
    names: BTreeMap<String, String>,
    /// Every file that is imported.
    imports: BTreeSet<String>,
}

impl Scripts {
    pub fn read(tree: &Tree) -> Scripts {
        // `node ./bin/www`, as generators write it.
        let programs = tree.iter().filter(|(path, text)| {
            path.starts_with("bin/") && !path.contains('.') && text.contains("require(")
        });
        let programs = programs.map(|(path, text)| (path.as_str(), text.as_str()));
        let sources: Vec<Source> = list_sources(tree)
            .filter(|(path, _)| ENDS.iter().any(|end| path.ends_with(end)))
            .chain(programs)
            .filter_map(|(path, text)| Source::parse(path, text, Grammar::Script))
            .collect();
        let paths: BTreeSet<String> = sources.iter().map(|source| source.path.clone()).collect();
        let scripts = sources.into_iter().map(|source| {
            let (names, imports) = read_imports(&source, &paths);
            (source.path.clone(), Script { source, names, imports })
        });
        Scripts { by_path: scripts.collect() }
    }

    pub fn get(&self, path: &str) -> Option<&Script> {
        self.by_path.get(path)
    }

    /// The files that are imported from `entry` on, itself first, nearest first.
    pub fn reachable(&self, entry: &str) -> Vec<&str> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        let mut open = VecDeque::from([entry]);
        while let Some(path) = open.pop_front() {
            let Some((path, script)) = self.by_path.get_key_value(path) else { continue };
            if seen.insert(path.as_str()) {
                found.push(path.as_str());
                open.extend(script.imports.iter().map(String::as_str));
            }
        }
        found
    }

    /// The file that an expression stands for: an imported name, a member or a call of one, or
    /// `require("./x")` itself.
    pub fn file_of(&self, path: &str, node: Node<'_>) -> Option<&str> {
        let script = self.get(path)?;
        let source = &script.source;
        let found = match node.kind() {
            "identifier" => script.names.get(source.text(node))?.as_str(),
            "member_expression" => return self.file_of(path, source.owner(node)?),
            "await_expression" | "parenthesized_expression" => {
                return self.file_of(path, *children(node).first()?);
            }
            _ if is_call(&node) => {
                let function = node.child_by_field_name("function")?;
                let text = source.text(function);
                if text != "require" && text != "import" {
                    return self.file_of(path, function);
                }
                let wanted = source.string(*arguments(node).first()?)?;
                let paths: BTreeSet<String> = script.imports.clone();
                let file = find_file(path, &wanted, &paths)?;
                return self.by_path.get_key_value(&file).map(|(path, _)| path.as_str());
            }
            _ => return None,
        };
        self.by_path.get_key_value(found).map(|(path, _)| path.as_str())
    }

    /// The text of an expression as far as the sources say it.
    pub fn evaluate(&self, path: &str, node: Node<'_>) -> Option<String> {
        self.evaluate_to(path, node, DEEPEST)
    }

    fn evaluate_to(&self, path: &str, node: Node<'_>, depth: usize) -> Option<String> {
        let source = &self.get(path)?.source;
        let depth = depth.checked_sub(1)?;
        let value = |node| self.evaluate_to(path, node, depth);
        match node.kind() {
            "number" => Some(source.text(node).replace('_', "")),
            "string" => source.string(node),
            "template_string" => children(node)
                .into_iter()
                .map(|part| match part.kind() {
                    "string_fragment" => Some(source.text(part).to_string()),
                    "template_substitution" => value(*children(part).first()?),
                    _ => Some(String::new()),
                })
                .collect(),
            "parenthesized_expression"
            | "as_expression"
            | "non_null_expression"
            | "satisfies_expression" => value(*children(node).first()?),
            // +process.env.PORT || 3000
            "unary_expression" => value(node.child_by_field_name("argument")?),
            "binary_expression" => {
                let operator = source.text(node.child_by_field_name("operator")?);
                let left = node.child_by_field_name("left")?;
                let right = node.child_by_field_name("right")?;
                match operator {
                    "||" | "??" => value(right),
                    "+" => Some(value(left)? + &value(right)?),
                    _ => None,
                }
            }
            "ternary_expression" => value(node.child_by_field_name("alternative")?),
            "identifier" => {
                let name = source.text(node);
                let own = find_declared(source, name).and_then(value);
                own.or_else(|| {
                    let from = self.get(path)?.names.get(name)?;
                    let declared = find_declared(&self.get(from)?.source, name)?;
                    self.evaluate_to(from, declared, depth)
                })
            }
            "member_expression" => {
                let owner = source.owner(node)?;
                if source.text(owner).ends_with("process.env") {
                    return None;
                }
                self.evaluate_key(path, source.last_name(node), depth)
            }
            _ if is_call(&node) => {
                let given = arguments(node);
                match source.called(node) {
                    "Number" | "parseInt" | "String" | "default" | "int" | "normalizePort"
                    | "num" => value(*given.first()?),
                    "get" | "getOrThrow" | "env" => match given.get(1) {
                        Some(default) => value(*default),
                        None => {
                            let key = source.string(*given.first()?)?;
                            self.evaluate_key(path, key.rsplit('.').next()?, depth)
                        }
                    },
                    // port({ default: 3000 })
                    _ => value(source.property(*given.first()?, "default")?),
                }
            }
            // { type: "number", default: 3000 }
            "object" => value(source.property(node, "default")?),
            _ => None,
        }
    }

    /// The value of a property of this name: in the same file, then where it is imported.
    fn evaluate_key(&self, path: &str, name: &str, depth: usize) -> Option<String> {
        let imports = self.get(path)?.imports.iter().map(String::as_str);
        let others = self.by_path.keys().map(String::as_str);
        let mut seen = BTreeSet::new();
        std::iter::once(path)
            .chain(imports)
            .chain(others)
            .filter(|path| seen.insert(*path))
            .take(64)
            .find_map(|path| {
                let source = &self.get(path)?.source;
                source.nodes().into_iter().find_map(|node| {
                    let key =
                        (node.kind() == "pair").then(|| node.child_by_field_name("key"))??;
                    let is = source.text(key).trim_matches(['"', '\'']) == name;
                    let value = is.then(|| node.child_by_field_name("value"))??;
                    self.evaluate_to(path, value, depth)
                })
            })
    }
}

/// What a name is declared as, anywhere in a file.
fn find_declared<'a>(source: &'a Source, name: &str) -> Option<Node<'a>> {
    source.nodes().into_iter().find_map(|node| {
        let declared = node.kind() == "variable_declarator"
            && node.child_by_field_name("name").is_some_and(|own| source.text(own) == name);
        declared.then(|| node.child_by_field_name("value"))?
    })
}

type Imports = (BTreeMap<String, String>, BTreeSet<String>);

fn read_imports(source: &Source, paths: &BTreeSet<String>) -> Imports {
    let mut names = BTreeMap::new();
    let mut imports = BTreeSet::new();
    for node in source.nodes() {
        let wanted = match node.kind() {
            "import_statement" | "export_statement" => {
                node.child_by_field_name("source").and_then(|from| source.string(from))
            }
            "call_expression" => {
                let function = node.child_by_field_name("function").map(|one| source.text(one));
                let given = arguments(node);
                matches!(function, Some("require" | "import"))
                    .then(|| source.string(*given.first()?))
                    .flatten()
            }
            _ => None,
        };
        let file = wanted.and_then(|wanted| find_file(&source.path, &wanted, paths));
        if let Some(file) = file {
            let binds = match node.kind() {
                "import_statement" => Some(node),
                _ => super::super::syntax::ancestors(node)
                    .take(3)
                    .find(|above| above.kind() == "variable_declarator")
                    .and_then(|above| above.child_by_field_name("name")),
            };
            let bound = binds.map(list_nodes).unwrap_or_default();
            let kinds = ["identifier", "shorthand_property_identifier_pattern"];
            for one in bound.into_iter().filter(|one| kinds.contains(&one.kind())) {
                names.insert(source.text(one).to_string(), file.clone());
            }
            imports.insert(file);
        }
        // What @fastify/autoload finds in a folder.
        if let Some(folder) = autoloaded(source, node) {
            let below = format!("{folder}/");
            imports.extend(paths.iter().filter(|path| path.starts_with(&below)).cloned());
        }
    }
    (names, imports)
}

/// The folder of `register(AutoLoad, { dir: path.join(__dirname, "routes") })`.
pub fn autoloaded(source: &Source, node: Node<'_>) -> Option<String> {
    if !is_call(&node) || source.called(node) != "register" {
        return None;
    }
    let options = *arguments(node).get(1)?;
    let folder = source.property(options, "dir")?;
    let named = list_nodes(folder).into_iter().find_map(|one| source.string(one))?;
    let own = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    Some(clean_path(&format!("{own}/{named}")))
}

/// The file that an import names, as Node and the usual aliases find it.
fn find_file(from: &str, wanted: &str, paths: &BTreeSet<String>) -> Option<String> {
    let own = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let bases: Vec<String> = if wanted.starts_with('.') {
        vec![clean_path(&format!("{own}/{wanted}"))]
    } else {
        let plain = wanted.trim_start_matches(['@', '~', '#']).trim_start_matches('/');
        vec![format!("src/{plain}"), plain.to_string()]
    };
    bases.iter().find_map(|base| complete_path(base, |path| paths.contains(path)))
}

/// A path with the ending that is there: `src/x` and `src/x.js` are `src/x.ts`.
pub fn complete_path(base: &str, exists: impl Fn(&str) -> bool) -> Option<String> {
    if exists(base) {
        return Some(base.to_string());
    }
    let stem = ENDS.iter().find_map(|end| base.strip_suffix(end));
    let stems = [Some(base), stem];
    let mut tried = stems.into_iter().flatten().flat_map(|stem| {
        ENDS.iter()
            .map(move |end| format!("{stem}{end}"))
            .chain(ENDS.iter().map(move |end| format!("{stem}/index{end}")))
    });
    tried
        .find(|path| exists(path.trim_start_matches('/')))
        .map(|path| path.trim_start_matches('/').to_string())
}
