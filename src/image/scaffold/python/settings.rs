//! What a Python service reads from its environment: the mode variable with the values it takes.
//! Pure.

use std::collections::BTreeMap;

use tree_sitter::Node;

use super::super::mode::{ModeReading, is_mode_name};
use super::super::syntax::{Source, ancestors, arguments, children, is_call, line_of, list_nodes};
use super::code::{Modules, find_type, find_value, list_strings};

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
                let Values { mut known, closed } = given_values(modules, &enums, name, node);
                if !closed {
                    known.extend(assigned_values(modules, reachable, source, node));
                }
                let is_any_text = is_any_text(source, node);
                let values = known;
                found.push(ModeReading { variable, values, closed, is_any_text, file, line });
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
pub fn read_variable(source: &Source, node: Node<'_>) -> Option<String> {
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

/// What is known of the values that a variable takes.
#[derive(Clone, Debug, Default)]
struct Values {
    known: Vec<String>,
    /// Another value ends the service.
    closed: bool,
}

/// The values that stand beside where a variable is read: what it is compared with, its default,
/// the enum that it is put into, and what it chooses from a dictionary.
fn given_values(
    modules: &Modules,
    enums: &BTreeMap<String, Vec<String>>,
    name: &str,
    node: Node<'_>,
) -> Values {
    let Some(module) = modules.get(name) else { return Values::default() };
    let source = &module.source;
    let mut known = Vec::new();
    for above in ancestors(node).take(4) {
        known.extend(matched_values(source, above));
        let chosen = (above.kind() == "subscript").then(|| {
            let value = above.child_by_field_name("value")?;
            list_keys(modules, name, value)
        });
        if let Some(keys) = chosen.flatten().filter(|keys| !keys.is_empty()) {
            return Values { known: keys, closed: true };
        }
        if !is_call(&above) {
            continue;
        }
        // int("true") ends the service.
        if source.called(above) == "int" {
            return Values { known: ["1", "0"].map(str::to_string).to_vec(), closed: true };
        }
        if let Some(all) = enums.get(source.called(above)) {
            return Values { known: all.clone(), closed: true };
        }
    }
    known.extend(arguments(node).get(1).and_then(|default| source.string(*default)));
    Values { known, closed: false }
}

/// The strings that a comparison or a `match` has.
fn matched_values(source: &Source, node: Node<'_>) -> Vec<String> {
    match node.kind() {
        "comparison_operator" => list_strings(source, node),
        "match_statement" => {
            let patterns = list_nodes(node).into_iter().filter(|one| one.kind() == "case_pattern");
            patterns.flat_map(|pattern| list_strings(source, pattern)).collect()
        }
        _ => Vec::new(),
    }
}

/// The keys of a dictionary that a name stands for.
fn list_keys(modules: &Modules, name: &str, node: Node<'_>) -> Option<Vec<String>> {
    let (module, own) = modules.resolve(name, node)?;
    let source = &modules.get(&module)?.source;
    let value = find_value(source, &own).filter(|value| value.kind() == "dictionary")?;
    let pairs = children(value).into_iter().filter_map(|pair| pair.child_by_field_name("key"));
    Some(pairs.filter_map(|key| source.string(key)).collect())
}

/// Whether `bool()` is made of a variable: each value but the empty one is true.
fn is_any_text(source: &Source, node: Node<'_>) -> bool {
    let above = ancestors(node).find(is_call);
    above.is_some_and(|above| {
        source.called(above) == "bool"
            && arguments(above).first().is_some_and(|first| first.id() == node.id())
    })
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

pub fn find_class<'a>(source: &'a Source, name: &str) -> Option<Node<'a>> {
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
    let prefix = read_option(source, class, "env_prefix")
        .and_then(|value| source.string(value))
        .unwrap_or_default();
    let is_exact = read_option(source, class, "case_sensitive")
        .is_some_and(|value| source.text(value) == "True");
    let delimiter =
        read_option(source, class, "env_nested_delimiter").and_then(|value| source.string(value));
    let mut found = Vec::new();
    for (variable, field) in list_fields(source, class, &prefix) {
        // A model in a field: `APP__ENV` is `env` of the class that `app` is of.
        let inner = delimiter.as_ref().and_then(|delimiter| {
            let kind = field.child_by_field_name("type")?;
            let named = list_nodes(kind).into_iter().find(|one| one.kind() == "identifier")?;
            let (target, inner) = modules.resolve(name, named)?;
            let class = find_class(&modules.get(&target)?.source, &inner)?;
            Some((target, class, format!("{variable}{delimiter}")))
        });
        let Some((target, class, prefix)) = inner else {
            found.extend(read_field(modules, enums, name, &variable, field, is_exact));
            continue;
        };
        let Some(module) = modules.get(&target) else { continue };
        for (variable, field) in list_fields(&module.source, class, &prefix) {
            found.extend(read_field(modules, enums, &target, &variable, field, is_exact));
        }
    }
    found
}

/// An option of pydantic's settings: of `SettingsConfigDict(…)`, or of the older `class Config`.
fn read_option<'a>(source: &Source, class: Node<'a>, name: &str) -> Option<Node<'a>> {
    list_nodes(class).into_iter().find_map(|node| match node.kind() {
        "call" => source.keyword(node, name),
        "assignment" => {
            let left = node.child_by_field_name("left")?;
            (source.text(left) == name).then(|| node.child_by_field_name("right"))?
        }
        _ => None,
    })
}

/// The fields of a class with the variables that they are read from, as they are written.
fn list_fields<'a>(source: &Source, class: Node<'a>, prefix: &str) -> Vec<(String, Node<'a>)> {
    let all = list_nodes(class).into_iter().filter(|node| node.kind() == "assignment");
    let fields = all.filter(|node| super::code::is_field(*node));
    fields
        .filter_map(|field| {
            let left = field.child_by_field_name("left")?;
            field.child_by_field_name("type")?;
            let inside = list_nodes(field).into_iter().filter(is_call);
            // `Field(alias="X")`, `validation_alias=AliasChoices("X", "Y")`: the first one.
            let alias = inside.filter(|call| source.called(*call) == "Field").find_map(|call| {
                let named = ["validation_alias", "alias", "env"];
                let value = named.into_iter().find_map(|word| source.keyword(call, word))?;
                list_strings(source, value).into_iter().next()
            });
            let own = format!("{prefix}{}", source.text(left));
            Some((alias.unwrap_or(own), field))
        })
        .collect()
}

fn read_field(
    modules: &Modules,
    enums: &BTreeMap<String, Vec<String>>,
    name: &str,
    variable: &str,
    field: Node<'_>,
    is_exact: bool,
) -> Option<ModeReading> {
    let upper = variable.to_uppercase();
    if !is_mode_name(&upper) {
        return None;
    }
    let source = &modules.get(name)?.source;
    let kind = field.child_by_field_name("type")?;
    let right = field.child_by_field_name("right");
    let named = || {
        let mut names = list_nodes(kind).into_iter();
        names.find_map(|node| {
            if node.kind() != "identifier" && node.kind() != "attribute" {
                return None;
            }
            // `Stage = Literal["dev", "prod"]`, `type Stage = …`
            let alias = || {
                let (target, own) = modules.resolve(name, node)?;
                let source = &modules.get(&target)?.source;
                let value = find_type(source, &own)?;
                let is_literal = source.text(value).contains("Literal");
                is_literal.then(|| list_strings(source, value))
            };
            enums.get(source.last_name(node)).cloned().or_else(alias)
        })
    };
    let literal = source.text(kind).contains("Literal").then(|| list_strings(source, kind));
    // `Field(pattern="^(dev|prod)$")`
    let pattern = || {
        let mut calls = list_nodes(field).into_iter().filter(is_call);
        let value = calls.find_map(|call| {
            source.keyword(call, "pattern").or_else(|| source.keyword(call, "regex"))
        })?;
        let text = source.string(value)?;
        let words: Vec<String> =
            text.trim_matches(['^', '$', '(', ')']).split('|').map(str::to_string).collect();
        let is_plain = |word: &String| word.chars().all(|c| c.is_ascii_alphanumeric());
        words.iter().all(is_plain).then_some(words)
    };
    let closed = literal.or_else(named).or_else(pattern);
    let default = right.and_then(|right| source.string(right));
    Some(ModeReading {
        variable: if is_exact { variable.to_string() } else { upper },
        closed: closed.is_some(),
        values: closed.unwrap_or_else(|| default.into_iter().collect()),
        is_any_text: false,
        file: source.path.clone(),
        line: line_of(field),
    })
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
    list_compared(modules, reachable, &[&field, field.trim_start_matches("app_")])
}

/// The strings that the name is compared with which a variable is read into.
fn assigned_values(
    modules: &Modules,
    reachable: &[&str],
    source: &Source,
    node: Node<'_>,
) -> Vec<String> {
    let above = ancestors(node).take(4).find(|above| above.kind() == "assignment");
    let left = above.and_then(|above| above.child_by_field_name("left"));
    let name = left.map(|left| source.last_name(left).to_lowercase()).unwrap_or_default();
    // Of a short name, another may be meant elsewhere.
    if name.len() < 3 { Vec::new() } else { list_compared(modules, reachable, &[&name]) }
}

fn list_compared(modules: &Modules, reachable: &[&str], names: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for name in reachable {
        let Some(module) = modules.get(name) else { continue };
        let source = &module.source;
        for node in source.nodes() {
            let asked = match node.kind() {
                "comparison_operator" => Some(node),
                "match_statement" => node.child_by_field_name("subject"),
                _ => None,
            };
            let is_named = asked.is_some_and(|asked| {
                list_nodes(asked).into_iter().any(|one| {
                    let text = source.last_name(one).to_lowercase();
                    ["identifier", "attribute"].contains(&one.kind())
                        && names.contains(&text.as_str())
                })
            });
            if is_named {
                found.extend(matched_values(source, node));
            }
        }
    }
    found
}
