//! The modules of a Python service: their names, imports, and the values of their constants. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tree_sitter::Node;

use super::super::syntax::{
    DEEPEST, Grammar, Source, ancestors, arguments, children, is_call, list_nodes,
};
use super::super::tree::{Tree, list_sources};

/// A name in a module: `("app.api.health", "router")`.
pub type Symbol = (String, String);

/// What `python -m package` runs stands beside the package itself.
pub const PROGRAM: &str = ".__main__";

#[derive(Debug)]
pub struct Module {
    pub source: Source,
    /// Local name → the module, and the name in it where one is imported from it.
    imports: BTreeMap<String, (String, Option<String>)>,
    /// Modules whose every name is imported.
    wildcards: Vec<String>,
}

/// The modules by the names that they are imported by.
#[derive(Debug, Default)]
pub struct Modules {
    pub by_name: BTreeMap<String, Module>,
    /// Name → the modules that it names.
    links: BTreeMap<String, Vec<String>>,
}

impl Module {
    /// Whether something is imported from a package or a module in it.
    pub fn imports_from(&self, package: &str) -> bool {
        let below = format!("{package}.");
        let is = |name: &str| name == package || name.starts_with(&below);
        let imported = self.imports.values().any(|(target, attribute)| {
            let whole = attribute.as_ref().map(|attribute| format!("{target}.{attribute}"));
            is(target) || whole.is_some_and(|whole| is(&whole))
        });
        imported || self.wildcards.iter().any(|target| is(target))
    }
}

impl Modules {
    pub fn read(tree: &Tree) -> Modules {
        let mut by_name = BTreeMap::new();
        let sources: Vec<(String, Source)> = list_sources(tree)
            .filter(|(path, _)| path.ends_with(".py"))
            .filter_map(|(path, text)| {
                let mut name = name_module(tree, path);
                if path.ends_with("/__main__.py") {
                    name.push_str(PROGRAM);
                }
                Some((name, Source::parse(path, text, Grammar::Python)?))
            })
            .collect();
        let names: BTreeSet<String> = sources.iter().map(|(name, _)| name.clone()).collect();
        for (name, source) in sources {
            let is_package = source.path.ends_with("__init__.py");
            let (imports, wildcards) = read_imports(&source, &name, is_package, &names);
            by_name.insert(name, Module { source, imports, wildcards });
        }
        let mut modules = Modules { by_name, links: BTreeMap::new() };
        let names = modules.by_name.iter();
        let links = names.map(|(name, module)| (name.clone(), modules.list_links(module)));
        modules.links = links.collect();
        modules
    }

    pub fn get(&self, name: &str) -> Option<&Module> {
        self.by_name.get(name)
    }

    /// The modules that are imported from `entry` on, itself first, nearest first.
    pub fn reachable(&self, entry: &str) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut open: VecDeque<&str> = self.with_packages(entry).into();
        let program = format!("{entry}{PROGRAM}");
        open.extend(self.by_name.get_key_value(&program).map(|(name, _)| name.as_str()));
        while let Some(name) = open.pop_front() {
            if seen.insert(name) {
                found.push(name);
                open.extend(self.links.get(name).into_iter().flatten().map(String::as_str));
            }
        }
        found
    }

    /// The modules that a module names: by its imports, and by its strings, as Django's settings
    /// and `uvicorn.run("app.main:app")` do.
    fn list_links(&self, module: &Module) -> Vec<String> {
        let mut found: Vec<&str> = Vec::new();
        for (target, attribute) in module.imports.values() {
            let whole = attribute.as_ref().map(|attribute| format!("{target}.{attribute}"));
            found.extend(self.with_packages(target));
            found.extend(whole.as_deref().map_or(Vec::new(), |whole| self.with_packages(whole)));
        }
        for target in &module.wildcards {
            found.extend(self.with_packages(target));
        }
        for node in module.source.nodes() {
            let Some(text) = module.source.string(node) else { continue };
            let text = text.split(':').next().unwrap_or_default();
            if text.contains('.') || node.kind() == "string" {
                found.extend(self.named_by(text));
            }
        }
        let mut seen = BTreeSet::new();
        found.retain(|name| seen.insert(*name));
        found.into_iter().map(str::to_string).collect()
    }

    /// The module of this name and the packages that it is in, where they have sources.
    fn with_packages(&self, name: &str) -> Vec<&str> {
        let ends = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
        let mut found: Vec<&str> = ends
            .filter_map(|end| Some(self.by_name.get_key_value(&name[..end])?.0.as_str()))
            .collect();
        found.reverse();
        found
    }

    /// `app.urls` of `"app.urls"`, `clinic.apps` of `"clinic.apps.ClinicConfig"`.
    fn named_by(&self, text: &str) -> Option<&str> {
        let parent = text.rsplit_once('.').map(|(parent, _)| parent);
        [Some(text), parent]
            .into_iter()
            .flatten()
            .find_map(|name| Some(self.by_name.get_key_value(name)?.0.as_str()))
    }

    /// What a name or a member is, followed through imports.
    pub fn resolve(&self, module: &str, node: Node<'_>) -> Option<Symbol> {
        let source = &self.get(module)?.source;
        match node.kind() {
            "identifier" => Some(self.follow(module, source.text(node), DEEPEST)),
            "attribute" => {
                let whole = source.text(node);
                let (first, rest) = whole.split_once('.')?;
                let (mut at, mut name) = self.follow(module, first, DEEPEST);
                for part in rest.split('.') {
                    let inner = if name.is_empty() { at.clone() } else { format!("{at}.{name}") };
                    if !self.by_name.contains_key(&inner) && !self.is_package(&inner) {
                        return None;
                    }
                    (at, name) = self.follow(&inner, part, DEEPEST);
                }
                Some((at, name))
            }
            _ => None,
        }
    }

    fn is_package(&self, name: &str) -> bool {
        let below = format!("{name}.");
        self.by_name.keys().any(|own| own.starts_with(&below))
    }

    /// A name as another module defines it; a module itself has an empty name.
    fn follow(&self, module: &str, name: &str, depth: usize) -> Symbol {
        let own = (module.to_string(), name.to_string());
        let (Some(found), true) = (self.get(module), depth > 0) else {
            let whole = format!("{module}.{name}");
            return if self.by_name.contains_key(&whole) { (whole, String::new()) } else { own };
        };
        match found.imports.get(name) {
            Some((target, None)) => (target.clone(), String::new()),
            Some((target, Some(attribute))) => {
                let whole = format!("{target}.{attribute}");
                if self.by_name.contains_key(&whole) || self.is_package(&whole) {
                    return (whole, String::new());
                }
                self.follow(target, attribute, depth - 1)
            }
            None => {
                let whole = format!("{module}.{name}");
                let defines = |module: &str| {
                    self.get(module)
                        .is_some_and(|module| find_value(&module.source, name).is_some())
                };
                if !defines(module) && self.by_name.contains_key(&whole) {
                    return (whole, String::new());
                }
                let from = found.wildcards.iter().find(|target| defines(target));
                from.map_or(own, |target| (target.clone(), name.to_string()))
            }
        }
    }

    /// The text of an expression as far as the sources say it.
    pub fn evaluate(&self, module: &str, node: Node<'_>) -> Option<String> {
        self.evaluate_to(module, node, DEEPEST)
    }

    fn evaluate_to(&self, module: &str, node: Node<'_>, depth: usize) -> Option<String> {
        let source = &self.get(module)?.source;
        let depth = depth.checked_sub(1)?;
        match node.kind() {
            "integer" => Some(source.text(node).replace('_', "")),
            "string" if source.string(node).is_none() => children(node)
                .into_iter()
                .map(|part| match part.kind() {
                    "string_content" => Some(source.text(part).to_string()),
                    "interpolation" => self.evaluate_to(module, *children(part).first()?, depth),
                    _ => Some(String::new()),
                })
                .collect(),
            "string" | "concatenated_string" => source.string(node),
            "parenthesized_expression" => self.evaluate_to(module, *children(node).first()?, depth),
            "binary_operator" if source.text(node).contains('+') => {
                let left = node.child_by_field_name("left")?;
                let right = node.child_by_field_name("right")?;
                Some(
                    self.evaluate_to(module, left, depth)?
                        + &self.evaluate_to(module, right, depth)?,
                )
            }
            // os.getenv("PORT") or 8000
            "boolean_operator" => {
                let right = node.child_by_field_name("right")?;
                self.evaluate_to(module, right, depth)
            }
            "call" => {
                let given = arguments(node);
                let is_plain = node
                    .child_by_field_name("function")
                    .is_some_and(|function| function.kind() == "identifier");
                let value = match source.called(node) {
                    "int" | "str" if is_plain => *given.first()?,
                    // `env.int("PORT", 8000)`
                    "getenv" | "get" | "config" | "env" | "int_env" | "int" | "str" => {
                        given.get(1).copied().or_else(|| source.keyword(node, "default"))?
                    }
                    "Field" | "Option" => {
                        given.first().copied().or_else(|| source.keyword(node, "default"))?
                    }
                    _ => source.keyword(node, "default")?,
                };
                self.evaluate_to(module, value, depth)
            }
            "identifier" | "attribute" => {
                let resolved = self.resolve(module, node).and_then(|(module, name)| {
                    let value = find_value(&self.get(&module)?.source, &name)?;
                    self.evaluate_to(&module, value, depth)
                });
                // `settings.API_PREFIX` is a field of a class.
                resolved
                    .or_else(|| {
                        let name = (node.kind() == "attribute").then(|| source.last_name(node))?;
                        self.evaluate_field(name, depth)
                    })
                    .or_else(|| self.evaluate_option(module, node, depth))
            }
            _ => None,
        }
    }

    /// The default of a parameter of the function around, and of the option of a command line that
    /// has its name: `add_argument("--port", default=8000)`, `@click.option("--port", …)`.
    fn evaluate_option(&self, module: &str, node: Node<'_>, depth: usize) -> Option<String> {
        let source = &self.get(module)?.source;
        let name = source.last_name(node);
        let option = format!("--{}", name.replace('_', "-"));
        let told = list_calls(source).into_iter().find_map(|call| {
            let is_option = ["add_argument", "option"].contains(&source.called(call));
            let names = arguments(call).into_iter().filter_map(|one| source.string(one));
            let is_own = is_option && names.into_iter().any(|one| one == option);
            is_own.then(|| source.keyword(call, "default"))?
        });
        let parameter = || {
            let mut around = ancestors(node).filter(|one| one.kind() == "function_definition");
            let list = around.next()?.child_by_field_name("parameters")?;
            let mut own = children(list).into_iter().filter(|one| {
                one.child_by_field_name("name").is_some_and(|own| source.text(own) == name)
            });
            own.next()?.child_by_field_name("value")
        };
        let value = told.or_else(|| (node.kind() == "identifier").then(parameter)?)?;
        self.evaluate_to(module, value, depth)
    }

    /// The default of a field that one class alone has.
    fn evaluate_field(&self, name: &str, depth: usize) -> Option<String> {
        let mut found = self.by_name.iter().flat_map(|(module, one)| {
            let fields = find_assignments(&one.source, name).into_iter();
            fields
                .filter(|assignment| is_field(*assignment))
                .filter_map(|assignment| assignment.child_by_field_name("right"))
                .map(move |value| (module.as_str(), value))
        });
        let (module, value) = found.next()?;
        match found.next() {
            None => self.evaluate_to(module, value, depth),
            Some(_) => None,
        }
    }
}

/// Whether an assignment stands in the body of a class.
pub fn is_field(assignment: Node<'_>) -> bool {
    let scope = ancestors(assignment)
        .find(|above| ["class_definition", "function_definition"].contains(&above.kind()));
    scope.is_some_and(|scope| scope.kind() == "class_definition")
}

/// Whether a node is executed when its module is imported.
pub fn is_outermost(node: Node<'_>) -> bool {
    ancestors(node)
        .all(|above| !["class_definition", "function_definition", "lambda"].contains(&above.kind()))
}

/// The assignments to a name, wherever they stand.
fn find_assignments<'a>(source: &'a Source, name: &str) -> Vec<Node<'a>> {
    source
        .nodes()
        .into_iter()
        .filter(|node| node.kind() == "assignment")
        .filter(|node| {
            node.child_by_field_name("left").is_some_and(|left| source.text(left) == name)
        })
        .collect()
}

/// What a name is set to at the outermost level of a module.
pub fn find_value<'a>(source: &'a Source, name: &str) -> Option<Node<'a>> {
    find_assignments(source, name)
        .into_iter()
        .filter(|assignment| is_outermost(*assignment))
        .find_map(|assignment| assignment.child_by_field_name("right"))
}

/// What a name stands for as a type: an assignment, or `type NAME = …`.
pub fn find_type<'a>(source: &'a Source, name: &str) -> Option<Node<'a>> {
    let alias = || {
        let all = source.nodes().into_iter().filter(|node| node.kind() == "type_alias_statement");
        let mut sides = all.filter_map(|node| {
            let parts = children(node);
            Some((*parts.first()?, *parts.last()?))
        });
        sides.find(|(left, _)| source.text(*left) == name).map(|(_, right)| right)
    };
    find_value(source, name).or_else(alias)
}

/// The parameters of a function: their names, and whether they need an argument.
pub fn read_parameters(source: &Source, function: Node<'_>) -> Vec<(String, bool)> {
    let Some(list) = function.child_by_field_name("parameters") else { return Vec::new() };
    children(list)
        .into_iter()
        .filter_map(|one| {
            let (name, needed) = match one.kind() {
                "identifier" => (one, true),
                "typed_parameter" => {
                    let inner = *children(one).first()?;
                    (inner, inner.kind() == "identifier")
                }
                "default_parameter" | "typed_default_parameter" => {
                    (one.child_by_field_name("name")?, false)
                }
                _ => return None,
            };
            Some((source.text(name).to_string(), needed))
        })
        .collect()
}

/// The calls in a source.
pub fn list_calls(source: &Source) -> Vec<Node<'_>> {
    source.nodes().into_iter().filter(is_call).collect()
}

/// The strings in a node.
pub fn list_strings(source: &Source, node: Node<'_>) -> Vec<String> {
    list_nodes(node).into_iter().filter_map(|one| source.string(one)).collect()
}

/// The name that a source is imported by.
pub fn name_module(tree: &Tree, path: &str) -> String {
    let path = path.strip_suffix(".py").unwrap_or(path);
    let path = path.trim_end_matches("/__init__").trim_end_matches("/__main__");
    let package = |folder: &str| tree.contains_key(&format!("{folder}/__init__.py"));
    let mut root = path.strip_prefix("src/").map_or("", |_| "src");
    // Folders above a package are no packages: backend/app/__init__.py without backend/__init__.py
    // is `app`.
    let folders: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
    for pair in folders.windows(2) {
        if !package(&path[..pair[0]]) && package(&path[..pair[1]]) {
            root = &path[..pair[0]];
        }
    }
    path.strip_prefix(root).unwrap_or(path).trim_start_matches('/').replace('/', ".")
}

type Imports = (BTreeMap<String, (String, Option<String>)>, Vec<String>);

/// The imports of a module, relative ones made absolute.
fn read_imports(
    source: &Source,
    name: &str,
    is_package: bool,
    modules: &BTreeSet<String>,
) -> Imports {
    let mut imports = BTreeMap::new();
    let mut wildcards = Vec::new();
    for node in source.nodes() {
        let mut cursor = node.walk();
        let named = node.children_by_field_name("name", &mut cursor);
        let pairs: Vec<(String, Option<String>)> = named
            .map(|one| match one.kind() {
                "aliased_import" => {
                    let field = |field| {
                        one.child_by_field_name(field).map(|node| source.text(node).to_string())
                    };
                    (field("name").unwrap_or_default(), field("alias"))
                }
                _ => (source.text(one).to_string(), None),
            })
            .collect();
        match node.kind() {
            "import_statement" => {
                for (target, alias) in pairs {
                    match alias {
                        Some(alias) => imports.insert(alias, (target, None)),
                        // `import a.b` binds `a`.
                        None => {
                            let first = target.split('.').next().unwrap_or_default().to_string();
                            let whole = target.clone();
                            imports.insert(format!(" {whole}"), (whole, None));
                            imports.insert(first.clone(), (first, None))
                        }
                    };
                }
            }
            "import_from_statement" => {
                let Some(from) = node.child_by_field_name("module_name") else { continue };
                let target = absolute(source.text(from), name, is_package, modules);
                if children(node).iter().any(|one| one.kind() == "wildcard_import") {
                    wildcards.push(target.clone());
                }
                for (attribute, alias) in pairs {
                    let local = alias.unwrap_or_else(|| attribute.clone());
                    imports.insert(local, (target.clone(), Some(attribute)));
                }
            }
            _ => {}
        }
    }
    (imports, wildcards)
}

/// `..core` in `app.api.health` is `app.core`.
fn absolute(from: &str, name: &str, is_package: bool, modules: &BTreeSet<String>) -> String {
    let from = from.replace(char::is_whitespace, "");
    let dots = from.len() - from.trim_start_matches('.').len();
    let rest = &from[dots..];
    if dots == 0 {
        // The folder of a program is where its imports begin: `from routes import x` beside it.
        let beside = name.rsplit_once('.').map(|(package, _)| format!("{package}.{rest}"));
        return match beside {
            Some(beside) if !modules.contains(rest) && modules.contains(&beside) => beside,
            _ => rest.to_string(),
        };
    }
    let mut parts: Vec<&str> = name.split('.').collect();
    let up = if is_package { dots - 1 } else { dots };
    parts.truncate(parts.len().saturating_sub(up));
    parts.extend(rest.split('.').filter(|part| !part.is_empty()));
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(files: &[(&str, &str)]) -> Modules {
        let tree = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        Modules::read(&tree)
    }

    #[test]
    fn imports_are_followed_from_the_entry_on() {
        let found = modules(&[
            ("app/__init__.py", ""),
            ("app/main.py", "from .api import router\nfrom app import core as c\nimport app.db\n"),
            ("app/api/__init__.py", "from .v1.health import router\n"),
            ("app/api/v1/health.py", "router = 1\n"),
            ("app/core.py", "from app.late import *\n"),
            ("app/db.py", ""),
            ("app/late.py", "X = 'x'\n"),
            ("app/other.py", ""),
        ]);
        let reached = found.reachable("app.main");
        assert!(!reached.contains(&"app.other"), "{reached:?}");
        assert_eq!(reached.len(), 7, "{reached:?}");
        let symbol = found.follow("app.main", "router", DEEPEST);
        assert_eq!(symbol, ("app.api.v1.health".into(), "router".into()));
        assert_eq!(found.follow("app.core", "X", DEEPEST), ("app.late".into(), "X".into()));
    }

    #[test]
    fn modules_that_strings_name_are_reached() {
        let found = modules(&[
            ("manage.py", "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site.settings')\n"),
            ("site/settings.py", "ROOT_URLCONF = 'site.urls'\nAPPS = ['web.apps.WebConfig']\n"),
            ("site/urls.py", ""),
            ("web/apps.py", ""),
        ]);
        assert_eq!(found.reachable("manage").len(), 4);
    }

    #[test]
    fn constants_are_evaluated() {
        let found = modules(&[(
            "a.py",
            "P = '/api'\nV = f'{P}/v1'\nclass S:\n    KEY: str = '/k'\nx = [V + '/u', S().KEY, \
             s.KEY, \
             int(os.getenv('PORT', '80')), z]\nloop = loop\ny = loop\n",
        )]);
        let source = &found.by_name["a"].source;
        let list = find_value(source, "x").expect("x");
        let values: Vec<_> =
            children(list).into_iter().map(|one| found.evaluate("a", one)).collect();
        let expected = [Some("/api/v1/u"), Some("/k"), Some("/k"), Some("80"), None];
        assert_eq!(values, expected.map(|value| value.map(str::to_string)));
        assert_eq!(found.evaluate("a", find_value(source, "y").expect("y")), None);
    }
}
