//! What a Python service reads from its environment: the mode variable with the values it takes,
//! and the port. Pure.

use std::collections::BTreeMap;

use tree_sitter::Node;

use super::super::mode::{ModeReading, is_mode_name};
use super::super::syntax::{
    ancestors, arguments, children, is_call, is_port_name, line_of, list_nodes, read_port,
};
use super::super::tree::Fact;
use super::code::{Modules, list_calls, list_strings};

/// The variables that may tell how to run, with the values that the sources know.
pub fn list_mode_readings(modules: &Modules, reachable: &[&str]) -> Vec<ModeReading> {
    let enums = read_enums(modules);
    let mut found = Vec::new();
    for name in reachable {
        let Some(module) = modules.get(name) else { continue };
        let source = &module.source;
        for node in source.nodes() {
            if let Some(variable) = read_variable(source, node)
                && is_mode_name(&variable)
            {
                let line = line_of(node);
                let file = source.path.clone();
                let (values, closed) = given_values(modules, &enums, name, node);
                found.push(ModeReading { variable, values, closed, file, line });
            }
            if node.kind() == "class_definition" && is_settings(modules, name, node) {
                found.extend(read_fields(modules, &enums, name, node));
            }
        }
    }
    // Values that are compared with what a variable was read into.
    for reading in &mut found {
        if !reading.closed {
            let more = compared_values(modules, reachable, &reading.variable);
            reading.values.extend(more);
        }
    }
    found
}

/// The variable that an expression reads: `os.environ["X"]`, `os.getenv("X", …)`, `config("X")`.
fn read_variable(source: &super::super::syntax::Source, node: Node<'_>) -> Option<String> {
    match node.kind() {
        "subscript" => {
            let value = source.text(node.child_by_field_name("value")?);
            let name = source.string(node.child_by_field_name("subscript")?)?;
            value.ends_with("environ").then_some(name)
        }
        "call" => {
            let function = node.child_by_field_name("function")?;
            let text = source.text(function);
            let reads = ["getenv", "config", "env"].contains(&source.last_name(function))
                || text.ends_with("environ.get")
                || text.starts_with("env.");
            let name = source.string(*arguments(node).first()?)?;
            reads.then_some(name)
        }
        _ => None,
    }
}

/// The values that stand beside where a variable is read: what it is compared with, its default,
/// and the enum that it is put into.
fn given_values(
    modules: &Modules,
    enums: &BTreeMap<String, Vec<String>>,
    name: &str,
    node: Node<'_>,
) -> (Vec<String>, bool) {
    let Some(module) = modules.get(name) else { return (Vec::new(), false) };
    let source = &module.source;
    let mut values = Vec::new();
    for above in ancestors(node).take(4) {
        if above.kind() == "comparison_operator" {
            values.extend(list_strings(source, above));
        }
        if is_call(&above)
            && let Some(known) = enums.get(source.called(above))
        {
            return (known.clone(), true);
        }
    }
    values.extend(arguments(node).get(1).and_then(|default| source.string(*default)));
    (values, false)
}

/// Whether a class is pydantic's settings, itself or by what it inherits.
fn is_settings(modules: &Modules, name: &str, class: Node<'_>) -> bool {
    let mut open = vec![(name.to_string(), class)];
    for _ in 0..8 {
        let Some((name, class)) = open.pop() else { return false };
        let (Some(module), Some(bases)) =
            (modules.get(&name), class.child_by_field_name("superclasses"))
        else {
            continue;
        };
        for base in children(bases) {
            let last = module.source.last_name(base);
            if last.ends_with("BaseSettings") {
                return true;
            }
            let Some((target, base)) = modules.resolve(&name, base) else { continue };
            let found = modules.get(&target).and_then(|module| find_class(&module.source, &base));
            open.extend(found.map(|class| (target, class)));
        }
    }
    false
}

fn find_class<'a>(source: &'a super::super::syntax::Source, name: &str) -> Option<Node<'a>> {
    source.nodes().into_iter().find(|node| {
        node.kind() == "class_definition"
            && node.child_by_field_name("name").is_some_and(|own| source.text(own) == name)
    })
}

/// The fields of settings as the variables that they are read from.
fn read_fields(
    modules: &Modules,
    enums: &BTreeMap<String, Vec<String>>,
    name: &str,
    class: Node<'_>,
) -> Vec<ModeReading> {
    let Some(module) = modules.get(name) else { return Vec::new() };
    let source = &module.source;
    let prefix = list_nodes(class)
        .into_iter()
        .find_map(|node| match node.kind() {
            "call" => source.string(source.keyword(node, "env_prefix")?),
            "assignment" => {
                let left = node.child_by_field_name("left")?;
                (source.text(left) == "env_prefix").then_some(())?;
                source.string(node.child_by_field_name("right")?)
            }
            _ => None,
        })
        .unwrap_or_default();
    let mut found = Vec::new();
    let assignments = list_nodes(class).into_iter().filter(|node| node.kind() == "assignment");
    for field in assignments.filter(|node| super::code::is_field(*node)) {
        let (Some(left), Some(kind)) =
            (field.child_by_field_name("left"), field.child_by_field_name("type"))
        else {
            continue;
        };
        let right = field.child_by_field_name("right");
        let alias = right.filter(is_call).and_then(|call| {
            ["validation_alias", "alias", "env"]
                .into_iter()
                .find_map(|keyword| source.string(source.keyword(call, keyword)?))
        });
        let variable =
            alias.unwrap_or_else(|| format!("{prefix}{}", source.text(left))).to_uppercase();
        if !is_mode_name(&variable) {
            continue;
        }
        let kind_text = source.text(kind);
        let literal = kind_text.contains("Literal").then(|| list_strings(source, kind));
        let of_enum = || {
            list_nodes(kind).into_iter().find_map(|node| {
                (node.kind() == "identifier" || node.kind() == "attribute")
                    .then(|| enums.get(source.last_name(node)).cloned())
                    .flatten()
            })
        };
        let closed = literal.or_else(of_enum);
        let default = right.and_then(|right| source.string(right));
        found.push(ModeReading {
            variable,
            closed: closed.is_some(),
            values: closed.unwrap_or_else(|| default.into_iter().collect()),
            file: source.path.clone(),
            line: line_of(field),
        });
    }
    found
}

/// The values of the enums of strings, by their name.
fn read_enums(modules: &Modules) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for module in modules.by_name.values() {
        let source = &module.source;
        for class in source.nodes().into_iter().filter(|node| node.kind() == "class_definition") {
            let (Some(name), Some(bases), Some(body)) = (
                class.child_by_field_name("name"),
                class.child_by_field_name("superclasses"),
                class.child_by_field_name("body"),
            ) else {
                continue;
            };
            if !children(bases).iter().any(|base| source.last_name(*base).ends_with("Enum")) {
                continue;
            }
            let values: Vec<String> = children(body)
                .into_iter()
                .filter_map(|statement| {
                    let assignment = *children(statement).first()?;
                    let value = assignment.child_by_field_name("right")?;
                    let name = source.text(assignment.child_by_field_name("left")?);
                    // `auto()` of a StrEnum is the member's name in lower case.
                    source.string(value).or_else(|| {
                        (is_call(&value) && source.called(value) == "auto")
                            .then(|| name.to_lowercase())
                    })
                })
                .collect();
            found.insert(source.text(name).to_string(), values);
        }
    }
    found
}

/// The strings that a variable, or a field of its name, is compared with.
fn compared_values(modules: &Modules, reachable: &[&str], variable: &str) -> Vec<String> {
    let field = variable.to_lowercase();
    let mut found = Vec::new();
    for name in reachable {
        let Some(module) = modules.get(name) else { continue };
        let source = &module.source;
        for node in source.nodes().into_iter().filter(|node| node.kind() == "comparison_operator") {
            let names = list_nodes(node).into_iter().any(|one| {
                let text = source.last_name(one).to_lowercase();
                ["identifier", "attribute"].contains(&one.kind())
                    && (text == field || text == field.trim_start_matches("app_"))
            });
            if names {
                found.extend(list_strings(source, node));
            }
        }
    }
    found
}

/// The port that a program without a server of ours listens on.
pub fn find_port(modules: &Modules, reachable: &[&str]) -> Option<Fact<u16>> {
    let mut fallback = None;
    for name in reachable {
        let Some(module) = modules.get(name) else { continue };
        let source = &module.source;
        for call in list_calls(source) {
            let read = |node: Node<'_>| modules.evaluate(name, node);
            let told = source.keyword(call, "port").and_then(read);
            // HTTPServer(("0.0.0.0", 8000), Handler)
            let bound = || {
                let first = arguments(call).first().copied()?;
                let parts = children(first);
                (first.kind() == "tuple" && parts.len() == 2).then(|| read(parts[1]))?
            };
            if let Some(port) = told.or_else(bound).and_then(|text| read_port(&text)) {
                return Some(Fact::read(port, &source.path, line_of(call)));
            }
            if read_variable(source, call).is_some_and(|variable| is_port_name(&variable))
                && let Some(port) = read(call).and_then(|text| read_port(&text))
            {
                fallback.get_or_insert(Fact::read(port, &source.path, line_of(call)));
            }
        }
    }
    fallback
}
