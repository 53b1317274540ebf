//! The paths that a Go service answers on, with the prefixes of groups and subrouters. Pure.

use tree_sitter::Node;

use super::super::syntax::{Source, ancestors, arguments, children, is_call, line_of, list_nodes};
use super::super::tree::{Route, join_paths};
use super::code::{evaluate, read_assignment};

const METHODS: [&str; 10] =
    ["HandleFunc", "Handle", "Get", "GET", "Any", "HEAD", "Head", "All", "Path", "HandlerFunc"];
const GROUPS: [&str; 4] = ["Group", "PathPrefix", "Route", "Party"];
/// Deeper nesting of routers is not followed.
const DEEPEST: usize = 8;

pub fn list_routes(sources: &[&Source]) -> Vec<Route> {
    let mut found = Vec::new();
    for source in sources {
        for call in source.nodes().into_iter().filter(is_call) {
            let called = source.called(call);
            let given = arguments(call);
            if !METHODS.contains(&called) || given.len() < 2 && called != "Path" {
                continue;
            }
            let Some(function) = call.child_by_field_name("function") else { continue };
            let (Some(owner), Some(path)) =
                (source.owner(function), evaluate(sources, source, given[0]))
            else {
                continue;
            };
            let path = path.strip_prefix("GET ").unwrap_or(&path).trim().to_string();
            if !path.starts_with('/') && !path.is_empty() {
                continue;
            }
            let prefix = find_prefix(sources, source, owner, DEEPEST);
            let (file, line) = (source.path.clone(), line_of(call));
            found.push(match prefix {
                Ok(prefix) => Route { path: join_paths(&prefix, &path), file, line, doubt: None },
                Err(Unknown) => {
                    let doubt = "no source says under which prefix its router is mounted";
                    Route { path, file, line, doubt: Some(doubt.into()) }
                }
            });
        }
    }
    found
}

/// Where a router is mounted is not said.
struct Unknown;

/// The prefix of what routes are registered on.
fn find_prefix(
    sources: &[&Source],
    source: &Source,
    router: Node<'_>,
    depth: usize,
) -> Result<String, Unknown> {
    let depth = depth.checked_sub(1).ok_or(Unknown)?;
    // r.PathPrefix("/api").Subrouter().HandleFunc(…)
    if is_call(&router) {
        return find_made(sources, source, router, depth);
    }
    if router.kind() != "identifier" {
        return Ok(String::new());
    }
    let name = source.text(router);
    for scope in ancestors(router) {
        if !["func_literal", "function_declaration", "method_declaration"].contains(&scope.kind()) {
            continue;
        }
        if let Some(position) = find_parameter(source, scope, name) {
            return find_given(sources, source, scope, position, depth);
        }
        let made = list_nodes(scope).into_iter().find_map(|node| {
            let (left, right) = read_assignment(node)?;
            let is = children(left).iter().any(|one| source.text(*one) == name);
            let call = list_nodes(right).into_iter().find(is_call)?;
            is.then_some(call)
        });
        if let Some(call) = made {
            let own = find_made(sources, source, call, depth)?;
            return Ok(find_mount(sources, source, scope, name)? + &own);
        }
    }
    Ok(String::new())
}

/// The prefix of a router that a call makes: `api.Group("/v1")`, `mux.NewRouter()`.
fn find_made(
    sources: &[&Source],
    source: &Source,
    call: Node<'_>,
    depth: usize,
) -> Result<String, Unknown> {
    let Some(function) = call.child_by_field_name("function") else { return Ok(String::new()) };
    let called = source.called(call);
    let Some(owner) = source.owner(function) else { return Ok(String::new()) };
    if called == "Subrouter" {
        return find_prefix(sources, source, owner, depth);
    }
    if !GROUPS.contains(&called) {
        return Ok(String::new());
    }
    let own = match arguments(call).first() {
        Some(first) if first.kind() == "func_literal" => String::new(),
        Some(first) => evaluate(sources, source, *first).ok_or(Unknown)?,
        None => String::new(),
    };
    let above = find_prefix(sources, source, owner, depth)?;
    Ok(format!("{above}{}", own.trim_end_matches('/')))
}

/// Which parameter of a function has this name.
fn find_parameter(source: &Source, function: Node<'_>, name: &str) -> Option<usize> {
    let list = function.child_by_field_name("parameters")?;
    let names: Vec<&str> = list_nodes(list)
        .into_iter()
        .filter(|node| {
            node.kind() == "identifier"
                && node.parent().is_some_and(|above| above.kind() == "parameter_declaration")
        })
        .map(|node| source.text(node))
        .collect();
    names.iter().position(|own| *own == name)
}

/// The prefix of what a function is given as this parameter.
fn find_given(
    sources: &[&Source],
    source: &Source,
    function: Node<'_>,
    position: usize,
    depth: usize,
) -> Result<String, Unknown> {
    // r.Route("/api", func(r chi.Router) { … })
    if function.kind() == "func_literal" {
        let call = ancestors(function).find(is_call).ok_or(Unknown)?;
        return find_made(sources, source, call, depth);
    }
    let name = function.child_by_field_name("name").map_or("", |name| source.text(name));
    for other in sources {
        let calls = other.nodes().into_iter().filter(is_call);
        for call in calls.filter(|call| other.called(*call) == name) {
            if let Some(given) = arguments(call).get(position) {
                return find_prefix(sources, other, *given, depth);
            }
        }
    }
    Err(Unknown)
}

/// Where a router is mounted that a function makes or returns: `r.Mount("/api", apiRouter())`.
fn find_mount(
    sources: &[&Source],
    own: &Source,
    function: Node<'_>,
    name: &str,
) -> Result<String, Unknown> {
    let maker = function.child_by_field_name("name").map_or("", |name| own.text(name));
    for source in sources {
        for call in source.nodes().into_iter().filter(is_call) {
            let called = source.called(call);
            let given = arguments(call);
            let (Some(first), Some(second)) = (given.first(), given.get(1)) else { continue };
            if !["Mount", "Handle"].contains(&called) {
                continue;
            }
            let is_mounted = list_nodes(*second).into_iter().any(|node| {
                let here = source.path == own.path
                    && ancestors(node).any(|above| above.id() == function.id())
                    && node.kind() == "identifier"
                    && source.text(node) == name;
                here || is_call(&node) && !maker.is_empty() && source.called(node) == maker
            });
            if is_mounted {
                let prefix = evaluate(sources, source, *first).ok_or(Unknown)?;
                return Ok(prefix.trim_end_matches(['/', '*']).to_string());
            }
        }
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::super::super::syntax::Grammar;
    use super::*;

    #[test]
    fn prefixes_stand_before_the_paths() {
        let cases = [
            ("func main() { http.HandleFunc(\"/healthz\", h) }", "/healthz"),
            ("func main() { mux.HandleFunc(\"GET /livez\", h) }", "/livez"),
            (
                "func main() { r := gin.Default(); api := r.Group(\"/api\"); api.GET(\"/health\", \
                 h) }",
                "/api/health",
            ),
            (
                "func main() { v1 := app.Group(\"/api\").Group(\"/v1\"); v1.Get(\"/ping\", h) }",
                "/api/v1/ping",
            ),
            (
                "func main() { r.Route(\"/api\", func(r chi.Router) { r.Get(\"/health\", h) }) }",
                "/api/health",
            ),
            ("func main() { r.Group(func(r chi.Router) { r.Get(\"/health\", h) }) }", "/health"),
            (
                "func main() { s := r.PathPrefix(\"/api\").Subrouter(); s.HandleFunc(\"/up\", h) }",
                "/api/up",
            ),
            (
                "func main() { add(r.Group(\"/a\")) }\nfunc add(r *gin.RouterGroup) { \
                 r.GET(\"/up\", h) }",
                "/a/up",
            ),
            (
                "func main() { r.Mount(\"/a\", sub()) }\nfunc sub() http.Handler { r := \
                 chi.NewRouter(); \
              r.Get(\"/up\", h); return r }",
                "/a/up",
            ),
            ("const P = \"/health\"\nfunc main() { mux.Handle(P, h) }", "/health"),
            (
                "func main() { mux.Handle(\"/a/\", http.StripPrefix(\"/a\", s)) }\nfunc add(r R) { \
              r.GET(\"/up\", h) }",
                "? /up",
            ),
            ("func main() { client.Get(\"/status\") }", ""),
        ];
        for (text, expected) in cases {
            let text = format!("package main\n{text}\n");
            let source = Source::parse("main.go", &text, Grammar::Go).expect("a grammar");
            let routes = list_routes(&[&source]);
            let found = routes.last().map_or(String::new(), |route| {
                format!("{}{}", if route.doubt.is_some() { "? " } else { "" }, route.path)
            });
            assert_eq!(found, expected, "{text}");
        }
    }
}
