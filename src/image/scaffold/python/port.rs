//! The port that a Python program listens on, when no server of ours is told one. Pure.

use std::collections::BTreeSet;

use tree_sitter::Node;

use super::super::syntax::{Source, arguments, children, is_port_name, line_of, read_port};
use super::super::tree::Fact;
use super::code::{Module, Modules, find_value, list_calls};
use super::settings::read_variable;

/// Calls that begin to serve, whoever's they are, with the port that they take when none is told.
const SERVERS: [(&str, Option<u16>); 16] = [
    ("run_app", Some(8080)),
    ("TCPSite", Some(8080)),
    ("HTTPServer", None),
    ("ThreadingHTTPServer", None),
    ("TCPServer", None),
    ("ThreadingTCPServer", None),
    ("WSGIServer", None),
    ("make_server", None),
    ("run_simple", None),
    ("start_server", None),
    ("create_server", None),
    ("serve", None),
    ("listen", None),
    ("run_server", None),
    ("Granian", Some(8000)),
    ("launch", None),
];

/// What `run` of an application, or of its server, takes when none is told.
const RUNNERS: [(&str, u16); 9] = [
    ("uvicorn", 8000),
    ("Flask", 5000),
    ("APIFlask", 5000),
    ("Quart", 5000),
    ("Sanic", 8000),
    ("Bottle", 8080),
    ("Dash", 8050),
    ("FastMCP", 8000),
    ("waitress", 8080),
];

/// Whether a call begins to serve; with the port that it takes when none is told, if known.
fn read_server(
    modules: &Modules,
    name: &str,
    module: &Module,
    call: Node<'_>,
) -> Option<Option<u16>> {
    let source = &module.source;
    let called = source.called(call);
    let owner = call.child_by_field_name("function").and_then(|one| source.owner(one));
    let owner_text = owner.map_or("", |owner| source.text(owner));
    let runner = |word: &str| RUNNERS.iter().find(|(own, _)| *own == word).map(|(_, port)| *port);
    match called {
        // uvicorn.run("app.main:app"), app.run()
        "run" => {
            let made = owner.and_then(|owner| modules.resolve(name, owner));
            let made = made.and_then(|(module, name)| {
                let source = &modules.get(&module)?.source;
                let value = find_value(source, &name)?;
                runner(source.called(value))
            });
            let default = runner(owner_text).or(made);
            let is_told = ["port", "bind"].iter().any(|word| source.keyword(call, word).is_some());
            let is_child = ["subprocess", "asyncio", "anyio"].contains(&owner_text);
            (!is_child && (is_told || default.is_some())).then_some(default)
        }
        // uvicorn.Config(app)
        "Config" => (owner_text == "uvicorn").then_some(Some(8000)),
        "serve" => Some(runner(owner_text)),
        called => SERVERS.iter().find(|(own, _)| *own == called).map(|(_, default)| *default),
    }
}

/// The modules in which something begins to serve.
pub fn list_serving(modules: &Modules) -> BTreeSet<&str> {
    let serves = |name: &str, module: &Module| {
        let mut calls = list_calls(&module.source).into_iter();
        calls.any(|call| read_server(modules, name, module, call).is_some())
    };
    let all = modules.by_name.iter().filter(|(name, module)| serves(name, module));
    all.map(|(name, _)| name.as_str()).collect()
}

/// The port of the first server that is started from the entry on; else the default of a variable
/// that is named so, or gunicorn's own configuration.
pub fn find_port(modules: &Modules, reachable: &[&str]) -> Option<Fact<u16>> {
    let mut fallback = None;
    for name in reachable {
        let Some(module) = modules.get(name) else { continue };
        let source = &module.source;
        for call in list_calls(source) {
            let fact = |port: u16| Fact::read(port, &source.path, line_of(call));
            if let Some(default) = read_server(modules, name, module, call) {
                match told_port(modules, name, source, call) {
                    Told::Port(port) => return Some(fact(port)),
                    Told::Nothing => {
                        if let Some(port) = default {
                            return Some(fact(port));
                        }
                    }
                    Told::Unknown => {}
                }
            }
            if read_variable(source, call).is_some_and(|variable| is_port_name(&variable))
                && let Some(port) = modules.evaluate(name, call).and_then(|text| read_port(&text))
            {
                fallback.get_or_insert(fact(port));
            }
        }
    }
    fallback.or_else(|| read_gunicorn(modules))
}

enum Told {
    Port(u16),
    /// It says something that the sources do not.
    Unknown,
    Nothing,
}

/// `port=8000`, `HTTPServer(("0.0.0.0", 8000), Handler)`, `make_server("", 8000, app)`.
fn told_port(modules: &Modules, name: &str, source: &Source, call: Node<'_>) -> Told {
    let read = |node: Node<'_>| modules.evaluate(name, node).and_then(|text| read_port(&text));
    let keyword = ["port", "server_port", "bind", "listen"]
        .iter()
        .find_map(|word| source.keyword(call, word));
    if let Some(keyword) = keyword {
        return read(keyword).map_or(Told::Unknown, Told::Port);
    }
    let given = arguments(call);
    if let Some(first) = given.first().filter(|first| first.kind() == "tuple") {
        let port = children(*first).get(1).copied().and_then(read);
        return port.map_or(Told::Unknown, Told::Port);
    }
    let positional = given.into_iter().take(3).find_map(read);
    positional.map_or(Told::Nothing, Told::Port)
}

/// `bind = "0.0.0.0:5000"` of gunicorn.conf.py, which gunicorn reads by itself.
fn read_gunicorn(modules: &Modules) -> Option<Fact<u16>> {
    let (name, module) = modules.by_name.iter().find(|(_, module)| {
        let path = module.source.path.rsplit('/').next().unwrap_or_default();
        ["gunicorn.conf.py", "gunicorn_conf.py", "gunicorn_config.py"].contains(&path)
    })?;
    let bind = find_value(&module.source, "bind")?;
    let port = read_port(&modules.evaluate(name, bind)?)?;
    Some(Fact::read(port, &module.source.path, line_of(bind)))
}
