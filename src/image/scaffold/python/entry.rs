//! What a Python service runs: its application, the function that makes one, or a module. Pure.

use tree_sitter::Node;

use super::super::syntax::{Source, children, is_call, line_of, list_nodes};
use super::super::tree::{Evidence, Fact, Tree};
use super::code::{Modules, PROGRAM, Symbol, is_outermost, list_calls, read_parameters};
use super::port::list_serving;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// `app.main:app`, run by uvicorn.
    Application(String),
    /// `app.main:create_app`, a function that makes one.
    Factory(String),
    /// `clinic.wsgi:application` or `web:create_app()`, run by gunicorn.
    Wsgi(String),
    /// `python -m app.main`
    Module(String),
    /// `clinic.cli:main`, a script of pyproject.toml.
    Script(String),
}

impl Start {
    /// Whether a server runs it, which the Dockerfile tells its port.
    pub fn is_application(&self) -> bool {
        !matches!(self, Start::Module(_) | Start::Script(_))
    }

    /// The module that it begins in.
    pub fn module(&self) -> &str {
        let (Start::Application(name)
        | Start::Factory(name)
        | Start::Wsgi(name)
        | Start::Module(name)
        | Start::Script(name)) = self;
        name.split(':').next().unwrap_or(name)
    }
}

const ASGI: [&str; 8] = [
    "FastAPI",
    "Starlette",
    "Litestar",
    "Quart",
    "Sanic",
    "AsyncApp",
    "falcon.asgi.App",
    "get_asgi_application",
];
const WSGI: [&str; 7] =
    ["Flask", "APIFlask", "OpenAPI", "FlaskApp", "Bottle", "falcon.App", "get_wsgi_application"];

/// Whether a call makes an application, and whether WSGI is how it is spoken to. A class that
/// inherits from a framework's makes one too.
fn read_interface(modules: &Modules, module: &str, call: Node<'_>) -> Option<bool> {
    let source = &modules.get(module)?.source;
    let function = call.child_by_field_name("function")?;
    let is_among = |all: &[&str], one: Node<'_>, source: &Source| {
        let (last, whole) = (source.last_name(one), source.text(one));
        all.iter().any(|name| *name == last || name.contains('.') && whole.ends_with(name))
    };
    let read = |one: Node<'_>, source: &Source| {
        let is_wsgi = is_among(&WSGI, one, source);
        (is_wsgi || is_among(&ASGI, one, source)).then_some(is_wsgi)
    };
    read(function, source).or_else(|| {
        let (target, name) = modules.resolve(module, function)?;
        let source = &modules.get(&target)?.source;
        let class = super::settings::find_class(source, &name)?;
        let bases = children(class.child_by_field_name("superclasses")?);
        bases.into_iter().find_map(|base| read(base, source))
    })
}

/// Whether a call puts something around an application, and what speaks to that then.
fn read_wrapper(called: &str, inner: bool) -> Option<bool> {
    match called {
        "WsgiToAsgi" | "WSGIMiddleware" | "ASGIApp" => Some(false),
        called if called.ends_with("Middleware") => Some(inner),
        _ => None,
    }
}

/// A name that is an application, or a function that makes one.
#[derive(Clone, Debug)]
struct Candidate {
    module: String,
    name: String,
    file: String,
    line: u64,
    is_wsgi: bool,
    /// A function that has to be told something.
    needs_arguments: bool,
}

impl Candidate {
    fn target(&self) -> String {
        format!("{}:{}", self.module, self.name)
    }

    /// The nearest to the root, and the one that is named as most are.
    fn rank(&self, named: &str) -> (usize, bool, String) {
        let target = self.target();
        (target.matches('.').count(), !target.ends_with(named), target)
    }
}

/// What the service runs; `None` if nothing in it serves.
pub fn find_start(tree: &Tree, modules: &Modules) -> Option<Fact<Start>> {
    let mut factories = find_factories(modules);
    let applications = find_applications(modules, &factories);
    factories.retain(|one| !one.needs_arguments);
    if let Some(start) = told_start(tree, &applications, &factories) {
        return Some(start);
    }
    let pick = |found: &[Candidate], named: &str| {
        // Where both interfaces are there, as in Django, the one that more servers speak.
        let prefers_wsgi = found.iter().any(|one| one.name == "application" && one.is_wsgi);
        found
            .iter()
            .filter(|one| one.name != "application" || !prefers_wsgi || one.is_wsgi)
            .min_by_key(|one| one.rank(named))
            .cloned()
    };
    let read = |start: Start, one: &Candidate, found: &[Candidate]| {
        let others = list_others(modules, one, found);
        match others.is_empty() {
            true => Fact::read(start, &one.file, one.line),
            false => Fact::guess(
                start,
                format!(
                    "{}:{} makes it, and there is also {}",
                    one.file,
                    one.line,
                    others.join(", ")
                ),
            ),
        }
    };
    if let Some(one) = pick(&applications, "main:app") {
        let target = one.target();
        let start = if one.is_wsgi { Start::Wsgi(target) } else { Start::Application(target) };
        return Some(read(start, &one, &applications));
    }
    if let Some(one) = pick(&factories, ":create_app") {
        let target = one.target();
        let start =
            if one.is_wsgi { Start::Wsgi(format!("{target}()")) } else { Start::Factory(target) };
        return Some(read(start, &one, &factories));
    }
    find_program(modules).or_else(|| find_script(tree, modules)).or_else(|| guess_program(modules))
}

/// Other applications that may be the service's: as near to the root, and no part of the one.
fn list_others(modules: &Modules, one: &Candidate, found: &[Candidate]) -> Vec<String> {
    let depth = |one: &Candidate| one.module.matches('.').count();
    let parts = modules.reachable(&one.module);
    let others = found.iter().filter(|other| {
        depth(other) == depth(one)
            // Django's two interfaces are of one application.
            && other.name != "application"
            && !parts.contains(&other.module.as_str())
            // One that is made of it: wsgi.py beside the package.
            && !modules.reachable(&other.module).contains(&one.module.as_str())
    });
    others.map(Candidate::target).collect()
}

/// What a Procfile or pyproject.toml says is run.
fn told_start(
    tree: &Tree,
    applications: &[Candidate],
    factories: &[Candidate],
) -> Option<Fact<Start>> {
    for file in ["Procfile", "pyproject.toml"] {
        for (line, text) in (1..).zip(tree.get(file).map_or("", String::as_str).lines()) {
            let says = text.trim_start().starts_with("web:") || text.starts_with("entrypoint");
            let words = text.split([' ', '"', '\'', '=']).filter(|word| says && word.contains(':'));
            for word in words {
                let plain = word.trim_end_matches("()");
                let evidence = Evidence::Read { file: file.into(), line };
                if let Some(one) = applications.iter().find(|one| one.target() == plain) {
                    let target = plain.to_string();
                    let value =
                        if one.is_wsgi { Start::Wsgi(target) } else { Start::Application(target) };
                    return Some(Fact { value, evidence });
                }
                if let Some(one) = factories.iter().find(|one| one.target() == plain) {
                    let value = match one.is_wsgi {
                        true => Start::Wsgi(format!("{plain}()")),
                        false => Start::Factory(plain.to_string()),
                    };
                    return Some(Fact { value, evidence });
                }
            }
        }
    }
    None
}

/// A module that runs itself, one that serves before others.
fn find_program(modules: &Modules) -> Option<Fact<Start>> {
    let serving = list_serving(modules);
    let serves = |name: &str| modules.reachable(name).iter().any(|one| serving.contains(one));
    let mut programs: Vec<(bool, usize, bool, &str, &str, u64)> = modules
        .by_name
        .iter()
        .filter_map(|(name, module)| {
            let path = module.source.path.as_str();
            let line = match path.ends_with("__main__.py") {
                true => 1,
                false => runs_itself(module.source.root(), &module.source.text)?,
            };
            let name = name.strip_suffix(PROGRAM).unwrap_or(name);
            let depth = name.matches('.').count();
            Some((!serves(name), depth, !name.ends_with("main"), name, path, line))
        })
        // Django's manage.py runs commands of a developer.
        .filter(|(_, _, _, name, ..)| *name != "manage")
        .collect();
    programs.sort();
    if let Some((idle, depth, other, name, path, line)) = programs.first() {
        let start = Start::Module(name.to_string());
        let parts = modules.reachable(name);
        let rivals = programs[1..].iter().filter(|(own_idle, own_depth, own_other, own, ..)| {
            (own_idle, own_depth, own_other) == (idle, depth, other) && !parts.contains(own)
        });
        let rivals: Vec<&str> = rivals.map(|(_, _, _, name, ..)| *name).collect();
        return Some(match rivals.is_empty() {
            true => Fact::read(start, path, *line),
            false => Fact::guess(
                start,
                format!("{path}:{line} runs itself, and so does {}", rivals.join(", ")),
            ),
        });
    }
    None
}

/// What a script of pyproject.toml does, without the script.
pub fn write_script(target: &str) -> String {
    let (module, function) = target.split_once(':').unwrap_or((target, "main"));
    format!("import sys; from {module} import {function}; sys.exit({function}())")
}

/// The script of pyproject.toml that serves, or the only one.
fn find_script(tree: &Tree, modules: &Modules) -> Option<Fact<Start>> {
    let text = tree.get("pyproject.toml")?;
    let project: toml::Table = text.parse().ok()?;
    let scripts = |table: Option<&toml::Value>| {
        let scripts = table.and_then(|table| table.get("scripts")?.as_table());
        scripts.cloned().unwrap_or_default()
    };
    let poetry = project.get("tool").and_then(|tools| tools.get("poetry"));
    let all = scripts(project.get("project")).into_iter().chain(scripts(poetry));
    let targets = all.filter_map(|(name, value)| Some((name, value.as_str()?.to_string())));
    let is_ours = |target: &str| {
        let (module, function) = target.split_once(':').unwrap_or((target, ""));
        modules.get(module).is_some() && function.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    let serving = list_serving(modules);
    let serves = |name: &str| modules.reachable(name).iter().any(|one| serving.contains(one));
    let mut found: Vec<(bool, String, String)> = targets
        .filter(|(_, target)| is_ours(target))
        .map(|(name, target)| {
            let module = target.split(':').next().unwrap_or_default();
            (!serves(module), name, target)
        })
        .collect();
    found.sort();
    let (idle, name, target) = found.first()?.clone();
    let rivals = found[1..].iter().filter(|(own, ..)| *own == idle).map(|(_, name, _)| name);
    let rivals: Vec<&str> = rivals.map(String::as_str).collect();
    let at = (1..).zip(text.lines()).find(|(_, line)| line.contains(&target));
    let line = at.map_or(1, |(line, _)| line);
    Some(match rivals.is_empty() {
        true => Fact::read(Start::Script(target), "pyproject.toml", line),
        false => {
            let why =
                format!("pyproject.toml:{line} has it as {name}, beside {}", rivals.join(", "));
            Fact::guess(Start::Script(target), why)
        }
    })
}

/// A module that is named as most are that are run.
fn guess_program(modules: &Modules) -> Option<Fact<Start>> {
    let named = ["main", "app", "server", "run", "wsgi"];
    // A package runs nothing without its __main__.py.
    let plain =
        modules.by_name.iter().filter(|(_, module)| !module.source.path.ends_with("__init__.py"));
    let mut found: Vec<&String> = plain
        .map(|(name, _)| name)
        .filter(|name| named.contains(&name.rsplit('.').next().unwrap_or(name)))
        .collect();
    found.sort_by_key(|name| (name.matches('.').count(), !name.ends_with("main")));
    let name = found.first()?;
    let why = "no application and no `if __name__ == \"__main__\"` was found";
    Some(Fact::guess(Start::Module(name.to_string()), why))
}

/// The line of `if __name__ == "__main__"`.
fn runs_itself(root: Node<'_>, text: &str) -> Option<u64> {
    let found = children(root).into_iter().find(|node| {
        let condition = node.child_by_field_name("condition");
        node.kind() == "if_statement"
            && condition.is_some_and(|condition| {
                condition
                    .utf8_text(text.as_bytes())
                    .is_ok_and(|text| text.contains("__name__") && text.contains("__main__"))
            })
    })?;
    Some(line_of(found))
}

/// Names at the outermost level of a module that are an application. One that is mounted on
/// another, or that another is put around, is a part of that.
fn find_applications(modules: &Modules, factories: &[Candidate]) -> Vec<Candidate> {
    let mut inner = find_mounted(modules);
    let mut found: Vec<Candidate> = Vec::new();
    // What is put around an application stands below it.
    for pass in 0..2 {
        for (module, one) in &modules.by_name {
            for node in one.source.nodes().into_iter().filter(|node| node.kind() == "assignment") {
                let Some((left, right)) = read_outermost(node, &one.source) else { continue };
                let interface = match pass {
                    0 => made_interface(modules, module, right, factories),
                    _ => wrapped(modules, module, right, &found).and_then(|wrapped| {
                        let is_wsgi = read_wrapper(one.source.called(right), wrapped.is_wsgi)?;
                        inner.push((wrapped.module.clone(), wrapped.name.clone()));
                        Some(is_wsgi)
                    }),
                };
                let Some(is_wsgi) = interface else { continue };
                let name = one.source.text(left).to_string();
                // `app = Middleware(app)` is the one of that name still.
                found.retain(|own| own.module != *module || own.name != name);
                inner.retain(|own| pass == 0 || own.0 != *module || own.1 != name);
                let (module, file) = (module.clone(), one.source.path.clone());
                let (line, needs_arguments) = (line_of(node), false);
                found.push(Candidate { module, name, file, line, is_wsgi, needs_arguments });
            }
        }
    }
    found.retain(|one| !inner.contains(&(one.module.clone(), one.name.clone())));
    found
}

/// `NAME = CALL(…)` at the outermost level.
fn read_outermost<'a>(assignment: Node<'a>, source: &Source) -> Option<(Node<'a>, Node<'a>)> {
    let left = assignment.child_by_field_name("left")?;
    let right = assignment.child_by_field_name("right")?;
    let is_name = left.kind() == "identifier" && !source.text(left).is_empty();
    (is_name && is_outermost(assignment) && is_call(&right)).then_some((left, right))
}

fn made_interface(
    modules: &Modules,
    module: &str,
    call: Node<'_>,
    factories: &[Candidate],
) -> Option<bool> {
    let made = modules.resolve(module, call.child_by_field_name("function")?);
    let factory = made.and_then(|(module, name)| {
        factories.iter().find(|one| one.module == module && one.name == name)
    });
    factory.map(|one| one.is_wsgi).or_else(|| read_interface(modules, module, call))
}

/// The application that a call is given.
fn wrapped<'a>(
    modules: &Modules,
    module: &str,
    call: Node<'_>,
    found: &'a [Candidate],
) -> Option<&'a Candidate> {
    let given = children(call.child_by_field_name("arguments")?).into_iter();
    let values = given.map(|one| one.child_by_field_name("value").unwrap_or(one));
    let mut symbols = values.filter_map(|value| modules.resolve(module, value));
    symbols.find_map(|(module, name)| {
        found.iter().find(|one| one.module == module && one.name == name)
    })
}

/// The applications that another one mounts.
fn find_mounted(modules: &Modules) -> Vec<Symbol> {
    let mut found = Vec::new();
    for (name, module) in &modules.by_name {
        for call in list_calls(&module.source) {
            if module.source.called(call) != "mount" {
                continue;
            }
            let given = super::super::syntax::arguments(call);
            let child = given.get(1).copied().or_else(|| module.source.keyword(call, "app"));
            found.extend(child.and_then(|child| modules.resolve(name, child)));
        }
    }
    found
}

/// Functions at the outermost level that make an application.
fn find_factories(modules: &Modules) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (module, one) in &modules.by_name {
        let source = &one.source;
        for node in source.nodes().into_iter().filter(|node| node.kind() == "function_definition") {
            let Some(name) = node.child_by_field_name("name") else { continue };
            if !is_outermost(node) {
                continue;
            }
            let needs_arguments = read_parameters(source, node).iter().any(|(_, needed)| *needed);
            let inside = list_nodes(node);
            let returns = inside
                .iter()
                .any(|one| one.kind() == "return_statement" && !children(*one).is_empty());
            let mut calls = inside.iter().filter(|one| is_call(one));
            let made = calls.find_map(|call| read_interface(modules, module, *call));
            if let (true, Some(is_wsgi)) = (returns, made) {
                let (module, file) = (module.clone(), source.path.clone());
                let name = source.text(name).to_string();
                let line = line_of(node);
                found.push(Candidate { module, name, file, line, is_wsgi, needs_arguments });
            }
        }
    }
    found
}

/// The variables whose routes are the service's: its application, and those that functions make.
pub fn list_roots(modules: &Modules, reachable: &[&str], start: &Start) -> Vec<Symbol> {
    let (Start::Application(target)
    | Start::Factory(target)
    | Start::Wsgi(target)
    | Start::Module(target)
    | Start::Script(target)) = start;
    let mounted = find_mounted(modules);
    let mut roots: Vec<Symbol> = target
        .split_once(':')
        .map(|(module, name)| (module.to_string(), name.trim_end_matches("()").to_string()))
        .into_iter()
        .collect();
    let is_module = !start.is_application();
    for name in reachable {
        let Some(module) = modules.get(name) else { continue };
        for call in list_calls(&module.source) {
            let Some(above) = call.parent().filter(|above| above.kind() == "assignment") else {
                continue;
            };
            let Some(left) = above.child_by_field_name("left") else { continue };
            // What another is put around answers as the whole does.
            if read_wrapper(module.source.called(call), false).is_some() {
                let given = call.child_by_field_name("arguments").map_or(Vec::new(), children);
                let values =
                    given.into_iter().map(|one| one.child_by_field_name("value").unwrap_or(one));
                roots.extend(values.filter_map(|value| modules.resolve(name, value)));
            }
            let is_aiohttp = is_module && module.source.called(call) == "Application";
            let makes = is_aiohttp || read_interface(modules, name, call).is_some();
            if makes && (is_module || !is_outermost(call)) {
                let symbol = (name.to_string(), module.source.text(left).to_string());
                if !mounted.contains(&symbol) {
                    roots.push(symbol);
                }
            }
        }
    }
    roots
}
