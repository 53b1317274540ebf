//! What a Go service listens on, reads from its environment, and reads from files. Pure.

use std::collections::BTreeSet;

use tree_sitter::Node;

use super::super::mode::{ModeReading, is_mode_name};
use super::super::syntax::{
    Source, ancestors, arguments, children, is_call, is_port_name, line_of, list_nodes, read_port,
};
use super::super::tree::{Fact, Tree, choose_port};
use super::code::{evaluate, list_imports, read_assignment};

/// Calls that begin to serve, with the address first.
const LISTENS: [&str; 6] =
    ["ListenAndServe", "ListenAndServeTLS", "Run", "Start", "Listen", "StartTLS"];

/// The port that the service listens on, or takes when nothing else is said.
pub fn find_port(sources: &[&Source]) -> Option<Fact<u16>> {
    let look = |look: fn(&[&Source], &Source, Node<'_>) -> Option<u16>| {
        let found = sources.iter().flat_map(move |source| {
            source.nodes().into_iter().filter_map(move |node| {
                let port = look(sources, source, node)?;
                // What is served beside, such as metrics, has a goroutine of its own.
                let is_beside = ancestors(node).any(|above| above.kind() == "go_statement");
                Some((is_beside, Fact::read(port, &source.path, line_of(node))))
            })
        });
        let mut found: Vec<_> = found.collect();
        found.sort_by_key(|(is_beside, _)| *is_beside);
        found.into_iter().map(|(_, fact)| fact).collect::<Vec<_>>()
    };
    choose_port(look(read_listen))
        .or_else(|| look(read_default).into_iter().next())
        .or_else(|| look(read_named).into_iter().next())
}

/// `http.ListenAndServe(":8080", nil)`, `http.Server{Addr: ":8080"}`, gin's `r.Run()`.
fn read_listen(sources: &[&Source], source: &Source, node: Node<'_>) -> Option<u16> {
    if node.kind() == "keyed_element" {
        let (key, value) = read_assignment(node)?;
        // The address of a client is somebody else's: redis.Options{Addr: …}
        let literal = ancestors(node).find(|above| above.kind() == "composite_literal")?;
        let kind = source.text(literal.child_by_field_name("type")?);
        let is = kind.ends_with("Server") && ["Addr", "Address"].contains(&source.text(key));
        return read_port(&is.then(|| evaluate(sources, source, value))??);
    }
    if !is_call(&node) || !LISTENS.contains(&source.called(node)) {
        return None;
    }
    let given = arguments(node);
    if given.is_empty() && source.called(node) == "Run" && uses_gin(sources) {
        return Some(8080);
    }
    // net.Listen("tcp", ":8080")
    let is_sure = !["Run", "Start"].contains(&source.called(node));
    let address = given.iter().take(2).find_map(|one| {
        let text = evaluate(sources, source, *one)?;
        // tracer.Start("localhost:8126")
        let is_own = is_sure || [":", "0.0.0.0:", "[::]:"].iter().any(|it| text.starts_with(it));
        read_port(&text).filter(|_| is_own)
    });
    let owner = source.owner(node.child_by_field_name("function")?)?;
    let is_command = ["cmd", "exec", "command"].contains(&source.text(owner));
    address.filter(|_| !is_command)
}

/// `flag.Int("port", 9898, "…")`, `getenv("PORT", "8080")`, `` `env:"PORT" envDefault:"8080"` ``.
fn read_default(sources: &[&Source], source: &Source, node: Node<'_>) -> Option<u16> {
    if node.kind() == "field_declaration" {
        let tag = source.string(node.child_by_field_name("tag")?)?;
        let named = read_tag(&tag, "env").or_else(|| read_tag(&tag, "envconfig"));
        let field = node.child_by_field_name("name").map(|name| source.text(name).to_string());
        let default = read_tag(&tag, "envDefault")
            .or_else(|| read_tag(&tag, "default"))
            .or_else(|| read_tag(&tag, "env-default"))?;
        return read_port(&default).filter(|_| is_port_name(&named.or(field).unwrap_or_default()));
    }
    if node.kind() == "literal_value" {
        return read_literal(sources, source, node);
    }
    if !is_call(&node) {
        return None;
    }
    let given = arguments(node);
    let named =
        given.iter().position(|one| source.string(*one).is_some_and(|name| is_port_name(&name)))?;
    // pflag has the short name between: IntP("port", "p", 8080, "…")
    let mut values = given.iter().skip(named + 1).take(2);
    values.find_map(|value| read_port(&evaluate(sources, source, *value)?))
}

/// `cli.IntFlag{Name: "port", Value: 8080}`
fn read_literal(sources: &[&Source], source: &Source, node: Node<'_>) -> Option<u16> {
    let find = |name: &str| {
        let mut pairs = children(node).into_iter().filter_map(read_assignment);
        let (_, value) = pairs.find(|(key, _)| source.text(*key) == name)?;
        evaluate(sources, source, value)
    };
    let name = find("Name").filter(|name| is_port_name(name));
    name.and_then(|_| find("Value")).and_then(|text| read_port(&text))
}

/// `port := "8080"`, `const DefaultPort = 8080`.
fn read_named(sources: &[&Source], source: &Source, node: Node<'_>) -> Option<u16> {
    let (left, right) = read_assignment(node)?;
    let name = source.text(left);
    read_port(&is_port_name(name).then(|| evaluate(sources, source, right))??)
}

/// A value of a struct's tag: `PORT` of `env:"PORT,required"`.
fn read_tag(tag: &str, key: &str) -> Option<String> {
    let start = format!("{key}:\"");
    let at = tag
        .match_indices(&start)
        .find(|(at, _)| *at == 0 || tag[..*at].ends_with([' ', '\t', '"']))?;
    let rest = &tag[at.0 + start.len()..];
    Some(rest.split(['"', ',']).next()?.to_string())
}

fn uses_gin(sources: &[&Source]) -> bool {
    sources
        .iter()
        .any(|source| list_imports(source).iter().any(|path| path == "github.com/gin-gonic/gin"))
}

/// Whether something in these sources begins to serve.
pub fn serves(sources: &[&Source]) -> bool {
    sources.iter().any(|source| {
        source.nodes().into_iter().filter(is_call).any(|call| {
            let called = source.called(call);
            called.starts_with("ListenAndServe")
                || called == "Listen"
                || ["Run", "Start", "Serve"].contains(&called)
                    && read_listen(sources, source, call).is_some()
        })
    })
}

/// The variables that may tell how to run, with the values that they are compared with.
pub fn list_mode_readings(sources: &[&Source]) -> Vec<ModeReading> {
    let mut found = Vec::new();
    for source in sources {
        for node in source.nodes() {
            let variable = match node.kind() {
                "call_expression" => {
                    let named = arguments(node).into_iter().find_map(|one| source.string(one));
                    let called = source.called(node).to_lowercase();
                    named.filter(|_| called.contains("env") || called.starts_with("get"))
                }
                "field_declaration" => node
                    .child_by_field_name("tag")
                    .and_then(|tag| source.string(tag))
                    .and_then(|tag| {
                        ["env", "envconfig", "mapstructure"]
                            .into_iter()
                            .find_map(|key| read_tag(&tag, key))
                    }),
                _ => None,
            };
            let Some(variable) = variable.map(|name| name.to_uppercase()) else { continue };
            if is_mode_name(&variable) {
                found.push(ModeReading {
                    values: compared_values(sources, &variable),
                    variable,
                    closed: false,
                    is_any_text: false,
                    file: source.path.clone(),
                    line: line_of(node),
                });
            }
        }
    }
    if let Some(source) = sources
        .iter()
        .find(|source| list_imports(source).iter().any(|path| path == "github.com/gin-gonic/gin"))
    {
        found.push(ModeReading {
            variable: "GIN_MODE".into(),
            values: vec!["debug".into(), "release".into()],
            closed: true,
            is_any_text: false,
            file: source.path.clone(),
            line: 1,
        });
    }
    found
}

/// The strings that what a variable was read into is compared with.
fn compared_values(sources: &[&Source], variable: &str) -> Vec<String> {
    let plain = |text: &str| -> String {
        text.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect()
    };
    let own = plain(variable);
    let fits = |source: &Source, node: Node<'_>| {
        list_nodes(node).into_iter().any(|one| {
            let name = plain(source.last_name(one));
            let read = source.string(one).is_some_and(|text| text == variable);
            read || !name.is_empty() && (name == own || own.strip_prefix("app") == Some(&name))
        })
    };
    let mut found = Vec::new();
    for source in sources {
        for node in source.nodes() {
            let strings = |node: Node<'_>| {
                list_nodes(node)
                    .into_iter()
                    .filter_map(|one| source.string(one))
                    .collect::<Vec<_>>()
            };
            if node.kind() == "binary_expression" {
                let operator = node.child_by_field_name("operator").map(|one| source.text(one));
                if matches!(operator, Some("==" | "!=")) && fits(source, node) {
                    found.extend(strings(node).into_iter().filter(|text| text != variable));
                }
            } else if node.kind() == "expression_switch_statement"
                && node.child_by_field_name("value").is_some_and(|value| fits(source, value))
            {
                let cases = children(node).into_iter();
                for case in cases.filter(|one| one.kind() == "expression_case") {
                    found
                        .extend(case.child_by_field_name("value").map(strings).unwrap_or_default());
                }
            }
        }
    }
    found
}

/// What a program reads when it runs, at the repository's root, with where that is said.
pub fn list_files_read(tree: &Tree, sources: &[&Source]) -> Vec<(String, String, u64)> {
    let tops: BTreeSet<&str> =
        tree.keys().map(|path| path.split('/').next().unwrap_or(path)).collect();
    let mut found: Vec<(String, String, u64)> = Vec::new();
    for source in sources {
        for node in source.nodes() {
            let above = node.parent().map_or("", |above| above.kind());
            if ["import_spec", "field_declaration"].contains(&above) {
                continue;
            }
            let Some(text) = source.string(node) else { continue };
            let path = text.trim_start_matches("file://").trim_start_matches("./");
            let Some(top) = tops.get(path.split('/').next().unwrap_or_default()) else { continue };
            let is_file = tree.contains_key(*top);
            let told = path.contains('/')
                || text.starts_with("./")
                || is_file
                || text.starts_with("file://")
                || is_path_argument(source, node);
            let hidden = top.starts_with('.') || is_project_file(top);
            let embedded = is_embedded(sources, top);
            if told && !hidden && !embedded && !found.iter().any(|(name, ..)| name == top) {
                found.push((top.to_string(), source.path.clone(), line_of(node)));
            }
        }
    }
    found
}

fn is_project_file(name: &str) -> bool {
    name.ends_with(".go")
        || name.ends_with(".md")
        || ["go.mod", "go.sum", "go.work", "Dockerfile", "Makefile", "vendor"].contains(&name)
}

/// Whether a string is what a function takes as a path: `http.Dir("assets")`.
fn is_path_argument(source: &Source, node: Node<'_>) -> bool {
    let takes = [
        "Dir",
        "DirFS",
        "AddConfigPath",
        "Open",
        "ReadFile",
        "ReadDir",
        "ParseGlob",
        "LoadHTMLGlob",
        "Static",
        "Join",
        "LoadHTMLFiles",
        "SetConfigFile",
        "Glob",
    ];
    let call = node.parent().and_then(|list| list.parent());
    call.is_some_and(|call| is_call(&call) && takes.contains(&source.called(call)))
}

/// Whether the program carries what stands at the root under this name.
fn is_embedded(sources: &[&Source], top: &str) -> bool {
    sources.iter().any(|source| {
        let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let patterns = source.text.lines().filter_map(|line| line.strip_prefix("//go:embed "));
        patterns.flat_map(str::split_whitespace).any(|pattern| {
            let pattern = pattern.trim_start_matches("all:");
            let whole =
                if folder.is_empty() { pattern.to_string() } else { format!("{folder}/{pattern}") };
            whole.split('/').next() == Some(top)
        })
    })
}

/// Whether the program asks for a time zone by its name.
pub fn needs_time_zones(sources: &[&Source]) -> bool {
    sources.iter().any(|source| {
        let mut calls = source.nodes().into_iter().filter(is_call);
        calls.any(|call| source.called(call) == "LoadLocation")
    })
}
