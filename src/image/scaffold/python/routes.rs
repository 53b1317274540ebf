//! The paths that a Python service answers on, from its application on: prefixes of routers,
//! blueprints and mounted applications included. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tree_sitter::Node;

use super::super::syntax::{ancestors, arguments, is_call, line_of};
use super::super::tree::{Route, join_paths};
use super::code::{Modules, Symbol, list_calls, read_parameters};

/// What answers: routes and included routers, by the variable that they hang on.
#[derive(Debug, Default)]
struct Router {
    prefix: String,
    routes: Vec<(String, String, u64)>,
    /// Included routers with the prefix they get; `None` if that is not known.
    included: Vec<(Symbol, Option<String>)>,
}

const METHODS: [&str; 8] =
    ["get", "route", "api_route", "head", "add_api_route", "add_route", "add_url_rule", "add_get"];
const INCLUDES: [&str; 5] =
    ["include_router", "register_blueprint", "mount", "add_router", "blueprint"];
const ROUTERS: [&str; 9] = [
    "APIRouter",
    "Blueprint",
    "FastAPI",
    "Flask",
    "Starlette",
    "Quart",
    "Router",
    "APIBlueprint",
    "Sanic",
];

/// The routes of the applications `roots`; those of routers that nothing includes come with a
/// doubt.
pub fn list_routes(modules: &Modules, reachable: &[&str], roots: &[Symbol]) -> Vec<Route> {
    let mut routers: BTreeMap<Symbol, Router> = BTreeMap::new();
    let mut parameters: BTreeSet<Symbol> = BTreeSet::new();
    let mut given = BTreeMap::new();
    for name in reachable {
        read_module(modules, name, &mut routers, &mut parameters);
        read_given(modules, name, &mut given);
    }
    // A router that a function is given is the one that the caller names.
    let known: BTreeSet<Symbol> = routers.keys().cloned().chain(roots.iter().cloned()).collect();
    given.retain(|parameter: &Symbol, symbol| parameter != symbol && known.contains(symbol));
    for (parameter, symbol) in &given {
        parameters.remove(parameter);
        if let Some(router) = routers.remove(parameter) {
            let target = routers.entry(symbol.clone()).or_default();
            target.routes.extend(router.routes);
            target.included.extend(router.included);
        }
    }
    for (child, _) in routers.values_mut().flat_map(|router| &mut router.included) {
        if let Some(symbol) = given.get(child) {
            *child = symbol.clone();
        }
    }
    let mut open: Vec<(Symbol, String, usize)> = Vec::new();
    // An application that a function is given is the service's.
    open.extend(parameters.iter().cloned().map(|symbol| (symbol, String::new(), 0)));
    // So is one that a function makes, whatever the name there.
    let made = routers.keys().filter(|symbol| symbol.1 == MADE).cloned();
    open.extend(made.map(|symbol| (symbol, String::new(), 0)));
    open.extend(roots.iter().cloned().map(|symbol| (symbol, String::new(), 0)));
    let (mut found, reached) = follow_routers(&routers, open, None);
    // What nothing includes that was reached, from the outermost router on.
    let children: BTreeSet<&Symbol> = routers
        .values()
        .flat_map(|router| {
            router.included.iter().filter_map(|(child, prefix)| prefix.is_some().then_some(child))
        })
        .collect();
    let rest =
        routers.keys().filter(|symbol| !reached.contains(*symbol) && !children.contains(symbol));
    let rest = rest.map(|symbol| (symbol.clone(), String::new(), 0)).collect();
    let doubt = "no source says under which prefix its router is included";
    found.extend(follow_routers(&routers, rest, Some(doubt)).0);
    found
}

/// The routes of these routers and of all that they include.
fn follow_routers(
    routers: &BTreeMap<Symbol, Router>,
    mut open: Vec<(Symbol, String, usize)>,
    doubt: Option<&str>,
) -> (Vec<Route>, BTreeSet<Symbol>) {
    let mut found = Vec::new();
    let mut reached = BTreeSet::new();
    while let Some((symbol, base, depth)) = open.pop() {
        let Some(router) = routers.get(&symbol) else { continue };
        if depth > 8 || !reached.insert((symbol.clone(), base.clone())) {
            continue;
        }
        let base = join_prefixes(&base, &router.prefix);
        for (path, file, line) in &router.routes {
            let path = join_paths(&base, path);
            let doubt = doubt.map(str::to_string);
            found.push(Route { path, file: file.clone(), line: *line, doubt });
        }
        for (child, prefix) in &router.included {
            if let Some(prefix) = prefix {
                open.push((child.clone(), join_prefixes(&base, prefix), depth + 1));
            }
        }
    }
    (found, reached.into_iter().map(|(symbol, _)| symbol).collect())
}

/// What functions of these modules are given: parameter → what the first caller names.
fn read_given(modules: &Modules, name: &str, given: &mut BTreeMap<Symbol, Symbol>) {
    let Some(module) = modules.get(name) else { return };
    for call in list_calls(&module.source) {
        let function = call.child_by_field_name("function");
        let Some((target, function)) = function.and_then(|one| modules.resolve(name, one)) else {
            continue;
        };
        let Some(other) = modules.get(&target) else { continue };
        let defined = other.source.nodes().into_iter().find(|node| {
            let own = node.child_by_field_name("name").map(|own| other.source.text(own));
            node.kind() == "function_definition" && own == Some(function.as_str())
        });
        let Some(defined) = defined else { continue };
        let positional = arguments(call);
        for (at, (parameter, _)) in read_parameters(&other.source, defined).iter().enumerate() {
            let value = module.source.keyword(call, parameter).or(positional.get(at).copied());
            if let Some(symbol) = value.and_then(|value| modules.resolve(name, value)) {
                given.entry((target.clone(), parameter.clone())).or_insert(symbol);
            }
        }
    }
}

/// The name of what has none: routes in a list, in a function that makes the application.
const MADE: &str = "";

fn join_prefixes(base: &str, prefix: &str) -> String {
    format!("{}{}", base.trim_end_matches('/'), prefix.trim_end_matches('/'))
}

fn read_module(
    modules: &Modules,
    name: &str,
    routers: &mut BTreeMap<Symbol, Router>,
    parameters: &mut BTreeSet<Symbol>,
) {
    let Some(module) = modules.get(name) else { return };
    let source = &module.source;
    let place = |node: Node<'_>| (source.path.clone(), line_of(node));
    let resolve = |node: Node<'_>| modules.resolve(name, node);
    let text = |node: Node<'_>| modules.evaluate(name, node);
    for node in source.nodes().into_iter().filter(|node| node.kind() == "function_definition") {
        for (parameter, needed) in read_parameters(source, node) {
            if needed {
                parameters.insert((name.to_string(), parameter));
            }
        }
    }
    for call in list_calls(source) {
        let called = source.called(call);
        let given = arguments(call);
        let first = given.first().copied();
        let owner =
            call.child_by_field_name("function").and_then(|function| source.owner(function));
        if let Some(owner) = owner.filter(|_| METHODS.contains(&called)) {
            let path = first
                .or_else(|| source.keyword(call, "path"))
                .or_else(|| source.keyword(call, "rule"))
                .and_then(text);
            // A request to another service is no route: that one's answer is used.
            let registers = called.starts_with("add_") || is_decorator(call);
            if let (Some(path), Some(symbol), true) = (path, resolve(owner), registers) {
                let (file, line) = place(call);
                routers.entry(symbol).or_default().routes.push((path, file, line));
            }
        }
        if let Some(owner) = owner.filter(|_| INCLUDES.contains(&called)) {
            let (prefix, child) = if called == "mount" || called == "add_router" {
                let child = given.get(1).copied().or_else(|| source.keyword(call, "app"));
                (first.map_or(Some(String::new()), text), child)
            } else {
                let told = ["prefix", "url_prefix"]
                    .into_iter()
                    .find_map(|keyword| source.keyword(call, keyword));
                (told.map_or(Some(String::new()), text), first)
            };
            let child = child.and_then(resolve);
            if let (Some(symbol), Some(child)) = (resolve(owner), child) {
                routers.entry(symbol).or_default().included.push((child, prefix));
            }
        }
        let assigned = call.parent().filter(|above| above.kind() == "assignment");
        if let Some(left) = assigned.and_then(|above| above.child_by_field_name("left"))
            && ROUTERS.contains(&called)
        {
            let told = ["prefix", "url_prefix"]
                .into_iter()
                .find_map(|keyword| source.keyword(call, keyword));
            let symbol = (name.to_string(), source.text(left).to_string());
            let router = routers.entry(symbol).or_default();
            if let Some(prefix) = told.and_then(text) {
                router.prefix = prefix;
            }
        }
        // Starlette's and aiohttp's lists of routes.
        let in_list = (called == "Route" || called == "get" && !is_decorator(call))
            && ancestors(call).take(3).any(|above| above.kind() == "list");
        if in_list && let Some(path) = first.and_then(text) {
            let path = enclosing_mounts(modules, name, call) + &path;
            let (file, line) = place(call);
            let symbol = (name.to_string(), MADE.to_string());
            routers.entry(symbol).or_default().routes.push((path, file, line));
        }
    }
    compared_paths(modules, name, routers);
    django_urls(modules, name, routers);
}

fn is_decorator(call: Node<'_>) -> bool {
    call.parent().is_some_and(|above| above.kind() == "decorator")
}

/// The prefixes of the `Mount(…, routes=[…])` around a route.
fn enclosing_mounts(modules: &Modules, name: &str, call: Node<'_>) -> String {
    let Some(module) = modules.get(name) else { return String::new() };
    let mut prefixes: Vec<String> = ancestors(call)
        .filter(is_call)
        .filter(|above| module.source.called(*above) == "Mount")
        .filter_map(|mount| modules.evaluate(name, *arguments(mount).first()?))
        .collect();
    prefixes.reverse();
    prefixes.concat()
}

/// A service without a framework compares the path it is asked for: `self.path == "/healthz"`.
fn compared_paths(modules: &Modules, name: &str, routers: &mut BTreeMap<Symbol, Router>) {
    let Some(module) = modules.get(name) else { return };
    let source = &module.source;
    for node in source.nodes().into_iter().filter(|node| node.kind() == "comparison_operator") {
        let asked = source.text(node);
        if !asked.contains("path") && !asked.contains("PATH_INFO") {
            continue;
        }
        for path in super::code::list_strings(source, node) {
            if path.starts_with('/') {
                let symbol = (name.to_string(), MADE.to_string());
                let route = (path, source.path.clone(), line_of(node));
                routers.entry(symbol).or_default().routes.push(route);
            }
        }
    }
}

/// Django's urlpatterns: `path("healthz/", view)`, `path("api/", include("web.urls"))`.
fn django_urls(modules: &Modules, name: &str, routers: &mut BTreeMap<Symbol, Router>) {
    let Some(module) = modules.get(name) else { return };
    let source = &module.source;
    if let Some(value) = super::code::find_value(source, "ROOT_URLCONF")
        && let Some(urls) = source.string(value)
    {
        let symbol = (name.to_string(), MADE.to_string());
        let included = ((urls, "urlpatterns".to_string()), Some(String::new()));
        routers.entry(symbol).or_default().included.push(included);
    }
    if super::code::find_value(source, "urlpatterns").is_none() {
        return;
    }
    for call in list_calls(source) {
        let called = source.called(call);
        if !["path", "re_path", "url"].contains(&called)
            || call
                .child_by_field_name("function")
                .is_some_and(|function| function.kind() != "identifier")
        {
            continue;
        }
        let given = arguments(call);
        let Some(path) = given.first().and_then(|first| modules.evaluate(name, *first)) else {
            continue;
        };
        let path = path.trim_start_matches('^').trim_end_matches('$').to_string();
        let path = format!("/{}", path.trim_end_matches("/?"));
        let symbol = (name.to_string(), "urlpatterns".to_string());
        let include = given
            .get(1)
            .filter(|second| is_call(second) && source.called(**second) == "include")
            .and_then(|second| arguments(*second).first().copied());
        let router = routers.entry(symbol).or_default();
        match include {
            Some(target) => {
                let target = source
                    .string(target)
                    .or_else(|| modules.resolve(name, target).map(|(module, _)| module));
                let child = target.map(|target| (target, "urlpatterns".to_string()));
                let prefix = path.trim_end_matches('/').to_string();
                // What a package from elsewhere answers begins there.
                if child.as_ref().is_none_or(|(module, _)| modules.get(module).is_none()) {
                    router.routes.push((path, source.path.clone(), line_of(call)));
                }
                router.included.extend(child.map(|child| (child, Some(prefix))));
            }
            None => router.routes.push((path, source.path.clone(), line_of(call))),
        }
    }
}
