//! The paths that a Node service answers on: Express, Fastify, Koa, Hono, Nest, Next and plain
//! servers, with the prefixes that routers get. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tree_sitter::Node;

use super::super::syntax::{Source, ancestors, arguments, children, is_call, line_of, list_nodes};
use super::super::tree::{Route, Tree, join_paths};
use super::code::{Scripts, autoloaded};

/// One file that another mounts: the prefix, `None` if no source says it.
struct Mount {
    prefix: Option<String>,
    file: String,
}

/// What one file says, without the prefix that others give it.
#[derive(Default)]
struct Routes {
    own: Vec<(String, u64)>,
    mounts: Vec<Mount>,
}

pub fn list_routes(scripts: &Scripts, reachable: &[&str]) -> Vec<Route> {
    let files: BTreeMap<&str, Routes> =
        reachable.iter().map(|path| (*path, read_routes(scripts, path))).collect();
    let mounted: BTreeSet<&str> =
        files.values().flat_map(|one| &one.mounts).map(|mount| mount.file.as_str()).collect();
    let mut found = nest_routes(scripts, reachable);
    let mut seen = BTreeSet::new();
    let mut open: Vec<(&str, Option<String>, usize)> = reachable
        .iter()
        .filter(|path| !mounted.contains(*path))
        .map(|path| (*path, Some(String::new()), 0))
        .collect();
    while let Some((path, base, depth)) = open.pop() {
        let Some((path, routes)) = files.get_key_value(path) else { continue };
        if depth > 8 || !seen.insert((*path, base.clone())) {
            continue;
        }
        for (own, line) in &routes.own {
            let doubt = "no source says under which prefix its router is mounted";
            found.push(Route {
                path: join_paths(base.as_deref().unwrap_or_default(), own),
                file: path.to_string(),
                line: *line,
                doubt: base.is_none().then(|| doubt.to_string()),
            });
        }
        for mount in &routes.mounts {
            let prefix = match (&base, &mount.prefix) {
                (Some(base), Some(prefix)) => {
                    Some(format!("{base}{}", prefix.trim_end_matches('/')))
                }
                _ => None,
            };
            open.push((mount.file.as_str(), prefix, depth + 1));
        }
    }
    found
}

const METHODS: [&str; 5] = ["get", "all", "head", "use", "route"];
/// Names of what asks other services.
const CLIENTS: [&str; 8] =
    ["axios", "client", "http", "https", "got", "instance", "request", "supertest"];

fn read_routes(scripts: &Scripts, path: &str) -> Routes {
    let mut routes = Routes::default();
    let Some(script) = scripts.get(path) else { return routes };
    let source = &script.source;
    let locals = local_prefixes(scripts, path);
    let prefix_of = |owner: Node<'_>| {
        locals.get(source.text(owner)).cloned().unwrap_or_else(|| Some(String::new()))
    };
    for node in source.nodes() {
        if let Some(folder) = autoloaded(source, node) {
            let options = arguments(node)
                .get(1)
                .and_then(|options| source.property(*options, "options"))
                .and_then(|options| source.property(options, "prefix"))
                .and_then(|prefix| scripts.evaluate(path, prefix));
            let below = format!("{folder}/");
            for file in scripts.by_path.keys().filter(|file| file.starts_with(&below)) {
                let inside = file[below.len()..].rsplit_once('/').map_or("", |(inside, _)| inside);
                let prefix = join_paths(&options.clone().unwrap_or_default(), inside);
                routes.mounts.push(Mount { prefix: Some(prefix), file: file.clone() });
            }
        }
        if is_call(&node) {
            read_call(scripts, path, node, &prefix_of, &mut routes);
        }
        // if (req.url === "/healthz")
        if node.kind() == "binary_expression" || node.kind() == "switch_statement" {
            let asked = node
                .child_by_field_name("left")
                .or_else(|| node.child_by_field_name("value"))
                .map_or("", |left| source.text(left));
            let asks = ["url", "path"].iter().any(|word| asked.to_lowercase().contains(word));
            let inside = if asks { list_nodes(node) } else { Vec::new() };
            let paths = inside.into_iter().filter_map(|one| source.string(one));
            for own in paths.filter(|own| own.starts_with('/')) {
                routes.own.push((own, line_of(node)));
            }
        }
    }
    routes
}

/// Reads `router.get("/x", …)`, `app.use("/api", router)`, `app.register(routes, { prefix })`.
fn read_call(
    scripts: &Scripts,
    path: &str,
    call: Node<'_>,
    prefix_of: &dyn Fn(Node<'_>) -> Option<String>,
    routes: &mut Routes,
) {
    let Some(script) = scripts.get(path) else { return };
    let source = &script.source;
    let called = source.called(call);
    let given = arguments(call);
    let owner = call.child_by_field_name("function").and_then(|function| source.owner(function));
    let (Some(owner), Some(first)) = (owner, given.first()) else { return };
    let text = |node: Node<'_>| scripts.evaluate(path, node);
    if CLIENTS.contains(&source.last_name(owner)) {
        return;
    }
    let join = |base: Option<String>, own: Option<String>| {
        Some(format!("{}{}", base?, own?.trim_end_matches('/')))
    };
    match called {
        "register" => {
            let options = given.get(1).copied();
            let prefix = options.and_then(|options| source.property(options, "prefix"));
            let prefix = prefix.map_or(Some(String::new()), text);
            if let Some(file) = scripts.file_of(path, *first) {
                let prefix = join(prefix_of(owner), prefix);
                routes.mounts.push(Mount { prefix, file: file.to_string() });
            }
        }
        "use" | "route" if first.kind() != "object" => {
            let named = text(*first).filter(|own| own.starts_with('/'));
            let is_path = named.is_some()
                || first.kind() == "template_string"
                || first.kind() == "binary_expression"
                || given.len() > 1 && scripts.file_of(path, *first).is_none();
            let own = if is_path { named.clone() } else { Some(String::new()) };
            for one in given.iter().skip(usize::from(is_path)) {
                if let Some(file) = scripts.file_of(path, *one) {
                    let prefix = join(prefix_of(owner), own.clone());
                    routes.mounts.push(Mount { prefix, file: file.to_string() });
                }
            }
            // router.route("/x").get(handler)
            let chained = called == "route" && given.len() == 1;
            if let (true, Some(own), Some(base)) = (chained, named, prefix_of(owner)) {
                routes.own.push((join_paths(&base, &own), line_of(call)));
            }
        }
        "route" => {
            let url = source.property(*first, "url").or_else(|| source.property(*first, "path"));
            if let (Some(own), Some(base)) = (url.and_then(text), prefix_of(owner)) {
                routes.own.push((join_paths(&base, &own), line_of(call)));
            }
        }
        called if METHODS.contains(&called) => {
            let own = text(*first).filter(|own| own.starts_with('/'));
            let handled = given.last().is_some_and(|last| last.kind() != "object")
                && given.len() > 1
                || ["app", "server", "router", "fastify", "api"].contains(&source.text(owner));
            if let (Some(own), Some(base), true) = (own, prefix_of(owner), handled) {
                routes.own.push((join_paths(&base, &own), line_of(call)));
            }
        }
        _ => {}
    }
}

/// The prefixes of routers that are made and mounted in the same file.
fn local_prefixes(scripts: &Scripts, path: &str) -> BTreeMap<String, Option<String>> {
    let mut found = BTreeMap::new();
    let Some(script) = scripts.get(path) else { return found };
    let source = &script.source;
    for node in source.nodes() {
        if node.kind() == "variable_declarator"
            && let (Some(name), Some(value)) =
                (node.child_by_field_name("name"), node.child_by_field_name("value"))
            && is_call(&value)
        {
            // new Router({ prefix: "/x" }), new Hono().basePath("/x")
            let first = arguments(value).first().copied();
            let prefix = match source.called(value) {
                "Router" => first.and_then(|options| source.property(options, "prefix")),
                "basePath" | "prefix" => first,
                _ => None,
            };
            if let Some(prefix) = prefix {
                let prefix = scripts.evaluate(path, prefix);
                found.insert(source.text(name).to_string(), prefix);
            }
        }
        if is_call(&node) && ["use", "route"].contains(&source.called(node)) {
            let given = arguments(node);
            for router in given.iter().skip(1).filter(|one| one.kind() == "identifier") {
                let prefix = scripts.evaluate(path, given[0]).filter(|own| own.starts_with('/'));
                let name = source.text(*router).to_string();
                if prefix.is_some() && scripts.file_of(path, *router).is_none() {
                    found.entry(name).or_insert(prefix);
                }
            }
        }
    }
    found
}

/// Nest's controllers: `@Controller("health")` with `@Get()`.
fn nest_routes(scripts: &Scripts, reachable: &[&str]) -> Vec<Route> {
    let mut prefix: Option<String> = Some(String::new());
    let mut excluded: Vec<String> = Vec::new();
    let mut is_versioned = false;
    for path in reachable {
        let Some(script) = scripts.get(path) else { continue };
        let source = &script.source;
        for call in source.nodes().into_iter().filter(is_call) {
            match source.called(call) {
                "setGlobalPrefix" => {
                    let given = arguments(call);
                    prefix = given.first().and_then(|first| scripts.evaluate(path, *first));
                    let list =
                        given.get(1).and_then(|options| source.property(*options, "exclude"));
                    let inside = list.map(list_nodes).unwrap_or_default();
                    excluded.extend(inside.into_iter().filter_map(|one| source.string(one)));
                }
                "enableVersioning" => is_versioned = true,
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    for path in reachable {
        let Some(script) = scripts.get(path) else { continue };
        let source = &script.source;
        let decorators: Vec<Node<'_>> =
            source.nodes().into_iter().filter(|node| node.kind() == "decorator").collect();
        for decorator in &decorators {
            let Some(own) = read_decorator(source, *decorator, "Get") else { continue };
            let class = ancestors(*decorator).find(|above| above.kind() == "class_declaration");
            let Some(class) = class else { continue };
            let controller = decorators.iter().find_map(|one| {
                let above = one.parent()?;
                let is_own = above.id() == class.id()
                    || children(above).iter().any(|child| child.id() == class.id());
                is_own.then(|| read_decorator(source, *one, "Controller"))?
            });
            let Some(controller) = controller else { continue };
            let text = |node: Option<Node<'_>>| match node {
                None => Some(String::new()),
                Some(node) if node.kind() == "object" => {
                    scripts.evaluate(path, source.property(node, "path")?)
                }
                Some(node) => scripts.evaluate(path, node),
            };
            let (Some(controller), Some(own)) = (text(controller), text(own)) else { continue };
            let inside: Vec<&str> = [controller.trim_matches('/'), own.trim_matches('/')]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect();
            let inside = format!("/{}", inside.join("/"));
            let is_excluded =
                excluded.iter().any(|one| one.trim_matches('/') == inside.trim_matches('/'));
            let before = if is_excluded { Some("") } else { prefix.as_deref() };
            let doubt = match (before, is_versioned) {
                (None, _) => Some("no source says the global prefix"),
                (_, true) => Some("the routes have versions"),
                _ => None,
            };
            let before = before.unwrap_or_default().trim_matches('/');
            let before = if before.is_empty() { String::new() } else { format!("/{before}") };
            found.push(Route {
                path: join_paths(
                    &before,
                    if inside == "/" && !before.is_empty() { "" } else { &inside },
                ),
                file: path.to_string(),
                line: line_of(*decorator),
                doubt: doubt.map(str::to_string),
            });
        }
    }
    found
}

/// The argument of a decorator of this name, if it has one; `None` if it is another.
fn read_decorator<'a>(
    source: &Source,
    decorator: Node<'a>,
    name: &str,
) -> Option<Option<Node<'a>>> {
    let call = *children(decorator).first()?;
    let is = is_call(&call) && source.called(call) == name;
    is.then(|| arguments(call).first().copied())
}

/// Next's routes, which are files.
pub fn next_routes(tree: &Tree) -> Vec<Route> {
    let prefix = super::start::read_next_option(tree, "basePath").unwrap_or_default();
    let mut found = Vec::new();
    for path in tree.keys() {
        let inside = path.strip_prefix("src/").unwrap_or(path);
        let stem = inside.rsplit_once('.').map_or(inside, |(stem, _)| stem);
        let route = if let Some(rest) = stem.strip_prefix("app/") {
            let folder = rest.strip_suffix("route").or_else(|| rest.strip_suffix("page"));
            folder.map(|folder| folder.trim_end_matches('/').to_string())
        } else if let Some(rest) = stem.strip_prefix("pages/") {
            let rest = rest.strip_suffix("index").unwrap_or(rest);
            (!rest.starts_with('_')).then(|| rest.trim_end_matches('/').to_string())
        } else {
            None
        };
        // Folders in parentheses group routes, and are no part of a path.
        let route = route.map(|route| {
            let parts = route.split('/').filter(|part| !part.starts_with('('));
            parts.collect::<Vec<_>>().join("/")
        });
        if let Some(route) = route.filter(|route| !route.contains('[')) {
            let whole = join_paths(&prefix, &route);
            let whole = if whole.starts_with('/') { whole } else { format!("/{whole}") };
            let (path, file) = (whole, path.clone());
            found.push(Route { path, file, line: 1, doubt: None });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let tree: Tree =
            files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        let scripts = Scripts::read(&tree);
        let reachable = scripts.reachable(files[0].0);
        let mut routes: Vec<String> = list_routes(&scripts, &reachable)
            .into_iter()
            .map(|route| format!("{}{}", if route.doubt.is_some() { "? " } else { "" }, route.path))
            .collect();
        routes.sort();
        routes
    }

    #[test]
    fn prefixes_stand_before_the_paths() {
        let cases: &[(&[(&str, &str)], &[&str])] = &[
            (&[("a.js", "app.get('/healthz', (q, r) => r.end())")], &["/healthz"]),
            (
                &[
                    ("src/app.ts", "import api from './routes';\napp.use('/api', api);"),
                    ("src/routes/index.ts", "import h from './h.js';\nrouter.use('/v1', h);"),
                    ("src/routes/h.ts", "router.get('/health', handler);"),
                ],
                &["/api/v1/health"],
            ),
            (
                &[
                    ("a.js", "app.use('/api', require('./b'));"),
                    ("b.js", "const r = Router();\nr.get('/up', h);\nmodule.exports = r;"),
                ],
                &["/api/up"],
            ),
            (&[("a.js", "const r = Router();\nr.get('/up', h);\napp.use('/x', r);")], &["/x/up"]),
            (&[("a.js", "const r = new Router({ prefix: '/k' });\nr.get('/up', h);")], &["/k/up"]),
            (
                &[
                    ("a.js", "const b = require('./b');\nfastify.register(b, { prefix: '/v1' });"),
                    ("b.js", "module.exports = async (f) => { f.get('/health', h); };"),
                ],
                &["/v1/health"],
            ),
            (&[("a.js", "fastify.route({ method: 'GET', url: '/ready', handler });")], &["/ready"]),
            (
                &[
                    ("a.js", "app.register(AutoLoad, { dir: path.join(__dirname, 'routes') });"),
                    ("routes/health/index.js", "module.exports = async (f) => { f.get('/', h); };"),
                ],
                &["/health/"],
            ),
            (
                &[
                    ("a.js", "import b from './b';\napp.use(config.prefix, b);"),
                    ("b.js", "export default r;\nr.get('/up', h);"),
                ],
                &["? /up"],
            ),
            (&[("a.js", "if (req.url === '/healthz') res.end();")], &["/healthz"]),
            (&[("a.js", "axios.get('/status', x); // '/healthz'")], &[]),
            (
                &[
                    (
                        "src/main.ts",
                        "import { C } from './c';\napp.setGlobalPrefix('api', { exclude: ['ping'] \
                         });",
                    ),
                    (
                        "src/c.ts",
                        "@Controller('health')\nexport class C { @Get() a() {} @Get('db') b() {} \
                         }\n\
                         @Controller()\nclass D { @Get('ping') p() {} }",
                    ),
                ],
                &["/api/health", "/api/health/db", "/ping"],
            ),
        ];
        for (files, expected) in cases {
            assert_eq!(found(files), *expected, "{files:?}");
        }
    }

    #[test]
    fn files_are_the_routes_of_next() {
        let files = [
            "src/app/page.tsx",
            "src/app/(ops)/api/health/route.ts",
            "pages/api/ping.js",
            "pages/_app.js",
            "app/users/[id]/page.tsx",
        ];
        let tree = files.map(|file| (file.to_string(), String::new())).into();
        let mut paths: Vec<String> =
            next_routes(&tree).into_iter().map(|route| route.path).collect();
        paths.sort();
        assert_eq!(paths, ["/", "/api/health", "/api/ping"]);
    }
}
