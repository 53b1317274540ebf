//! The paths that a Python service answers on, from its application on: prefixes of routers,
//! blueprints and mounted applications included. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tree_sitter::Node;

use super::super::syntax::{Source, ancestors, arguments, children, is_call, line_of, list_nodes};
use super::super::tree::{Route, join_paths};
use super::code::{Modules, Symbol, list_calls, list_strings, read_parameters};

/// What answers: routes and included routers, by the variable that they hang on.
#[derive(Debug, Default)]
struct Router {
    prefix: String,
    routes: Vec<(String, String, u64)>,
    included: Vec<Included>,
}

/// A router that another includes.
#[derive(Debug)]
struct Included {
    child: Symbol,
    /// The prefix it gets; `None` if that is not known.
    prefix: Option<String>,
    /// That prefix takes the place of its own, as in Flask.
    replaces: bool,
}

impl Included {
    fn below(child: Symbol, prefix: Option<String>) -> Included {
        Included { child, prefix, replaces: false }
    }
}

/// A router to follow: the prefix before its routes, and whether that is instead of its own.
#[derive(Clone, Debug)]
struct Open {
    symbol: Symbol,
    base: String,
    replaces: bool,
    depth: usize,
}

impl Open {
    fn root(symbol: Symbol) -> Open {
        Open { symbol, base: String::new(), replaces: false, depth: 0 }
    }
}

const METHODS: [&str; 8] =
    ["get", "route", "api_route", "head", "add_api_route", "add_route", "add_url_rule", "add_get"];
const INCLUDES: [&str; 9] = [
    "include_router",
    "register_blueprint",
    "mount",
    "add_router",
    "add_subapp",
    "add_routes",
    "blueprint",
    "add_namespace",
    "init_app",
];
const ROUTERS: [&str; 13] = [
    "Litestar",
    "Namespace",
    "RouteTableDef",
    "Api",
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
    for included in routers.values_mut().flat_map(|router| &mut router.included) {
        if let Some(symbol) = given.get(&included.child) {
            included.child = symbol.clone();
        }
    }
    // An application that a function is given is the service's, and so is one that a function
    // makes, whatever the name there.
    let made = routers.keys().filter(|symbol| symbol.1 == MADE);
    let open = parameters.iter().chain(made).chain(roots).cloned().map(Open::root).collect();
    let (mut found, reached) = follow_routers(&routers, open, None);
    // What nothing includes that was reached, from the outermost router on.
    let children: BTreeSet<&Symbol> = routers
        .values()
        .flat_map(|router| router.included.iter().filter(|one| one.prefix.is_some()))
        .map(|included| &included.child)
        .collect();
    let rest =
        routers.keys().filter(|symbol| !reached.contains(*symbol) && !children.contains(symbol));
    let rest = rest.cloned().map(Open::root).collect();
    let doubt = "no source says under which prefix its router is included";
    found.extend(follow_routers(&routers, rest, Some(doubt)).0);
    found
}

/// The routes of these routers and of all that they include.
fn follow_routers(
    routers: &BTreeMap<Symbol, Router>,
    mut open: Vec<Open>,
    doubt: Option<&str>,
) -> (Vec<Route>, BTreeSet<Symbol>) {
    let mut found = Vec::new();
    let mut reached = BTreeSet::new();
    while let Some(Open { symbol, base, replaces, depth }) = open.pop() {
        let Some(router) = routers.get(&symbol) else { continue };
        if depth > 8 || !reached.insert((symbol.clone(), base.clone())) {
            continue;
        }
        let base = if replaces { base } else { join_prefixes(&base, &router.prefix) };
        for (path, file, line) in &router.routes {
            let path = join_paths(&base, path);
            let doubt = doubt.map(str::to_string);
            found.push(Route { path, file: file.clone(), line: *line, doubt });
        }
        for Included { child, prefix, replaces } in &router.included {
            if let Some(prefix) = prefix {
                let base = join_prefixes(&base, prefix);
                let (symbol, replaces) = (child.clone(), *replaces);
                open.push(Open { symbol, base, replaces, depth: depth + 1 });
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
        // aiohttp's `app.router.add_get(…)`
        let owner = owner.map(|owner| match source.last_name(owner) {
            "router" => source.owner(owner).unwrap_or(owner),
            _ => owner,
        });
        if let Some(owner) = owner.filter(|_| METHODS.contains(&called)) {
            let keyword = || source.keyword(call, "path").or_else(|| source.keyword(call, "rule"));
            let path = match first.or_else(keyword).and_then(text) {
                // aiohttp's add_route has the method first.
                Some(method) if ["GET", "HEAD", "*"].contains(&method.as_str()) => {
                    given.get(1).copied().and_then(text)
                }
                path => path,
            };
            // A request to another service is no route: that one's answer is used.
            let registers = called.starts_with("add_") || is_decorator(call);
            if let (Some(path), Some(symbol), true) =
                (path, resolve(owner), registers && takes_get(source, call))
            {
                let (file, line) = place(call);
                routers.entry(symbol).or_default().routes.push((path, file, line));
            }
        }
        // flask-restful: `api.add_resource(Health, "/healthz")`
        if let Some(symbol) = owner.filter(|_| called == "add_resource").and_then(resolve) {
            let router = routers.entry(symbol).or_default();
            let paths = given.iter().skip(1).copied().filter_map(text);
            router.routes.extend(paths.map(|path| (path, source.path.clone(), line_of(call))));
        }
        if let Some(owner) = owner.filter(|_| INCLUDES.contains(&called)) {
            let told = ["prefix", "url_prefix", "path"]
                .into_iter()
                .find_map(|keyword| source.keyword(call, keyword));
            let (prefix, child) = if ["mount", "add_router", "add_subapp"].contains(&called) {
                let child = given.get(1).copied().or_else(|| source.keyword(call, "app"));
                (first.or(told).map_or(Some(String::new()), text), child)
            } else {
                (told.map_or(Some(String::new()), text), first)
            };
            let replaces = told.is_some()
                && ["register_blueprint", "blueprint", "add_namespace"].contains(&called);
            if let (Some(owner), Some(child)) = (resolve(owner), child.and_then(resolve)) {
                // `api.init_app(app)` puts the one into the other the other way round.
                let (above, child) =
                    if called == "init_app" { (child, owner) } else { (owner, child) };
                let included = Included { child, prefix, replaces };
                routers.entry(above).or_default().included.push(included);
            }
        }
        let assigned = call.parent().filter(|above| above.kind() == "assignment");
        let left = assigned.and_then(|above| above.child_by_field_name("left"));
        let is_router = ROUTERS.contains(&called);
        let own = left.map_or(MADE, |left| source.text(left));
        let symbol = (name.to_string(), own.to_string());
        if left.is_some() && is_router {
            let told = ["prefix", "url_prefix", "path"]
                .into_iter()
                .find_map(|keyword| source.keyword(call, keyword))
                .and_then(text);
            let default = (called == "Namespace")
                .then(|| Some(format!("/{}", first.and_then(text)?)))
                .flatten();
            let router = routers.entry(symbol.clone()).or_default();
            if let Some(prefix) = told.or(default) {
                router.prefix = prefix;
            }
        }
        // Api(app), of Flask's extensions.
        if let (true, Some(app)) = (called == "Api" && left.is_some(), first.and_then(resolve)) {
            let included = Included::below(symbol.clone(), Some(String::new()));
            routers.entry(app).or_default().included.push(included);
        }
        if is_router {
            let handlers = ["routes", "route_handlers"];
            let lists = handlers.into_iter().filter_map(|keyword| source.keyword(call, keyword));
            for one in lists.flat_map(list_elements) {
                if let Some(child) = resolve(one) {
                    let included = Included::below(child, Some(String::new()));
                    routers.entry(symbol.clone()).or_default().included.push(included);
                }
            }
        }
        // Litestar: `@get("/healthz")` of a function, or of a controller's method.
        let is_bare = owner.is_none() && is_decorator(call) && ["get", "route"].contains(&called);
        if let Some(symbol) = is_bare.then(|| name_handler(source, name, call)).flatten() {
            let path = first.or_else(|| source.keyword(call, "path"));
            if let Some(path) = path.map_or(Some(String::new()), text) {
                let (file, line) = place(call);
                routers.entry(symbol).or_default().routes.push((path, file, line));
            }
        }
        read_listed(modules, name, call, routers);
    }
    read_controllers(modules, name, routers);
    compared_paths(modules, name, routers);
    django_urls(modules, name, routers);
}

fn is_decorator(call: Node<'_>) -> bool {
    call.parent().is_some_and(|above| above.kind() == "decorator")
}

/// Whether a route answers GET: it does where no method is named.
fn takes_get(source: &Source, call: Node<'_>) -> bool {
    source.keyword(call, "methods").is_none_or(|methods| {
        let named = list_strings(source, methods);
        named.is_empty() || named.iter().any(|method| method.eq_ignore_ascii_case("get"))
    })
}

/// The elements of a list, or what stands in its place.
fn list_elements(node: Node<'_>) -> Vec<Node<'_>> {
    if node.kind() == "list" { children(node) } else { vec![node] }
}

/// The function that a decorator is of, or the class that the function is a method of.
fn name_handler(source: &Source, name: &str, call: Node<'_>) -> Option<Symbol> {
    let class = ancestors(call).find(|above| above.kind() == "class_definition");
    let definition = || {
        let decorated = ancestors(call).find(|above| above.kind() == "decorated_definition")?;
        decorated.child_by_field_name("definition")
    };
    let named = class.or_else(definition)?.child_by_field_name("name")?;
    Some((name.to_string(), source.text(named).to_string()))
}

/// Litestar's controllers: `path = "/health"` in the class.
fn read_controllers(modules: &Modules, name: &str, routers: &mut BTreeMap<Symbol, Router>) {
    let Some(module) = modules.get(name) else { return };
    let source = &module.source;
    for ((_, own), router) in routers.iter_mut().filter(|((module, _), _)| module == name) {
        let Some(class) = super::settings::find_class(source, own) else { continue };
        let path = list_nodes(class).into_iter().find_map(|node| {
            let left = node.child_by_field_name("left")?;
            let is_path = node.kind() == "assignment" && source.text(left) == "path";
            modules.evaluate(name, node.child_by_field_name("right").filter(|_| is_path)?)
        });
        router.prefix = path.unwrap_or_default();
    }
}

/// Starlette's and aiohttp's lists of routes: `Route("/x", f)`, `Mount("/x", routes=other)`.
fn read_listed(
    modules: &Modules,
    name: &str,
    call: Node<'_>,
    routers: &mut BTreeMap<Symbol, Router>,
) {
    let Some(module) = modules.get(name) else { return };
    let source = &module.source;
    let called = source.called(call);
    let is_route = called == "Route" || called == "get" && !is_decorator(call);
    let Some(list) = ancestors(call).take(3).find(|above| above.kind() == "list") else { return };
    if !is_route && called != "Mount" {
        return;
    }
    let given = arguments(call);
    let path = given.first().copied().or_else(|| source.keyword(call, "path"));
    let path = path.and_then(|path| modules.evaluate(name, path));
    let before = enclosing_prefixes(modules, name, call, &["Mount"]);
    let path = before.zip(path).map(|(before, path)| before + &path);
    // A list that has a name is one that something else includes.
    let outermost = ancestors(list).filter(|above| above.kind() == "list").last().unwrap_or(list);
    let assigned = outermost.parent().filter(|above| above.kind() == "assignment");
    let left = assigned.and_then(|above| above.child_by_field_name("left"));
    let own = left.map_or(MADE, |left| source.text(left));
    let router = routers.entry((name.to_string(), own.to_string())).or_default();
    if is_route {
        let is_taken = takes_get(source, call);
        let path = path.filter(|_| is_taken);
        router.routes.extend(path.map(|path| (path, source.path.clone(), line_of(call))));
        return;
    }
    let inner = ["routes", "app"].into_iter().find_map(|word| source.keyword(call, word));
    let child = inner.or(given.get(1).copied()).and_then(|inner| modules.resolve(name, inner));
    router.included.extend(child.map(|child| Included::below(child, path)));
}

/// The prefixes of the calls around a route: `Mount("/x", routes=[…])`, `path("x/", include([…]))`.
/// `None` if one is not known.
fn enclosing_prefixes(
    modules: &Modules,
    name: &str,
    call: Node<'_>,
    makers: &[&str],
) -> Option<String> {
    let source = &modules.get(name)?.source;
    let around = ancestors(call).filter(is_call);
    let mut prefixes = around
        .filter(|above| makers.contains(&source.called(*above)))
        .map(|above| modules.evaluate(name, *arguments(above).first()?))
        .collect::<Option<Vec<String>>>()?;
    prefixes.reverse();
    Some(prefixes.concat())
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
        for path in list_strings(source, node) {
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
        let urls = (urls, "urlpatterns".to_string());
        let included = Included::below(urls, Some(String::new()));
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
        let makers = ["path", "re_path", "url"];
        let Some(before) = enclosing_prefixes(modules, name, call, &makers) else { continue };
        let path = format!("/{before}{}", path.trim_end_matches("/?"));
        // What the language of a request changes.
        if ancestors(call).any(|above| is_call(&above) && source.called(above) == "i18n_patterns") {
            continue;
        }
        let symbol = (name.to_string(), "urlpatterns".to_string());
        let include = given
            .get(1)
            .filter(|second| is_call(second) && source.called(**second) == "include")
            .and_then(|second| arguments(*second).first().copied());
        let router = routers.entry(symbol).or_default();
        match include {
            // The routes in the list are read by themselves.
            Some(target) if target.kind() == "list" => {}
            Some(target) => {
                // include(("web.urls", "web"))
                let target = match target.kind() {
                    "tuple" => children(target).first().copied().unwrap_or(target),
                    _ => target,
                };
                let target = source
                    .string(target)
                    .or_else(|| modules.resolve(name, target).map(|(module, _)| module));
                let child = target.map(|target| (target, "urlpatterns".to_string()));
                let prefix = path.trim_end_matches('/').to_string();
                // What a package from elsewhere answers begins there.
                if child.as_ref().is_none_or(|(module, _)| modules.get(module).is_none()) {
                    router.routes.push((path, source.path.clone(), line_of(call)));
                }
                router.included.extend(child.map(|child| Included::below(child, Some(prefix))));
            }
            None => router.routes.push((path, source.path.clone(), line_of(call))),
        }
    }
}
