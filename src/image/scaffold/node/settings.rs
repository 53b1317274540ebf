//! What a Node service listens on and reads from its environment. Pure.

use tree_sitter::Node;

use super::super::mode::{ModeReading, is_mode_name};
use super::super::syntax::{Source, arguments, children, is_call, line_of, list_nodes, read_port};
use super::super::tree::{Fact, choose_port};
use super::code::Scripts;

/// The port that the service listens on, or takes when PORT is not set.
pub fn find_port(scripts: &Scripts, reachable: &[&str]) -> Option<Fact<u16>> {
    let look = |look: fn(&Scripts, &str, &Source, Node<'_>) -> Option<u16>| {
        let scripts_read = reachable.iter().filter_map(|path| Some((path, scripts.get(path)?)));
        scripts_read.flat_map(move |(path, script)| {
            let source = &script.source;
            source.nodes().into_iter().filter_map(move |node| {
                let port = look(scripts, path, source, node)?;
                Some(Fact::read(port, path, line_of(node)))
            })
        })
    };
    choose_port(look(read_listen).collect()).or_else(|| look(read_default).next())
}

/// `app.listen(process.env.PORT || 3000)`, `server.listen({ port })`, `serve({ fetch, port })`.
fn read_listen(scripts: &Scripts, path: &str, source: &Source, node: Node<'_>) -> Option<u16> {
    let serves = ["listen", "serve", "WebSocketServer"];
    if !is_call(&node) || !serves.contains(&source.called(node)) {
        return None;
    }
    let first = *arguments(node).first()?;
    let value = match first.kind() {
        "object" => source.property(first, "port"),
        _ => Some(first),
    };
    let short = || {
        let mut names = children(first).into_iter();
        names.find(|one| {
            one.kind() == "shorthand_property_identifier" && source.text(*one) == "port"
        })?;
        find_default(scripts, path, "port")
    };
    value
        .and_then(|value| scripts.evaluate(path, value))
        .or_else(short)
        .and_then(|text| read_port(&text))
}

fn find_default(scripts: &Scripts, path: &str, name: &str) -> Option<String> {
    let source = &scripts.get(path)?.source;
    source.nodes().into_iter().find_map(|node| {
        let own =
            (node.kind() == "variable_declarator").then(|| node.child_by_field_name("name"))??;
        (source.text(own) == name).then_some(())?;
        scripts.evaluate(path, node.child_by_field_name("value")?)
    })
}

/// `process.env.PORT ?? 3000`, `PORT: z.coerce.number().default(3000)`.
fn read_default(scripts: &Scripts, path: &str, source: &Source, node: Node<'_>) -> Option<u16> {
    let value = match node.kind() {
        "binary_expression" => {
            let left = source.text(node.child_by_field_name("left")?);
            left.ends_with("env.PORT").then_some(node)?
        }
        "pair" => {
            let key = source.text(node.child_by_field_name("key")?);
            let value = node.child_by_field_name("value")?;
            // A number alone may be of a database.
            let counts = match key.trim_matches(['"', '\'']) {
                "PORT" => true,
                "port" => value.kind() != "number" && value.kind() != "string",
                _ => false,
            };
            counts.then_some(value)?
        }
        _ => return None,
    };
    read_port(&scripts.evaluate(path, value)?)
}

/// The variables that may tell how to run, with the values that the sources know.
pub fn list_mode_readings(scripts: &Scripts, reachable: &[&str]) -> Vec<ModeReading> {
    let mut found = Vec::new();
    for path in reachable {
        let Some(script) = scripts.get(path) else { continue };
        let source = &script.source;
        for node in source.nodes() {
            let Some((variable, values)) = read_variable(scripts, reachable, source, node) else {
                continue;
            };
            if is_mode_name(&variable) {
                let closed = values.is_some();
                let values =
                    values.unwrap_or_else(|| compared_values(scripts, reachable, &variable));
                let (file, line) = (path.to_string(), line_of(node));
                found.push(ModeReading {
                    variable,
                    values,
                    closed,
                    is_any_text: false,
                    file,
                    line,
                });
            }
        }
    }
    found
}

/// A variable that is read, and the values that a schema allows it.
fn read_variable(
    scripts: &Scripts,
    reachable: &[&str],
    source: &Source,
    node: Node<'_>,
) -> Option<(String, Option<Vec<String>>)> {
    match node.kind() {
        "member_expression" => {
            let owner = source.text(source.owner(node)?);
            let name = source.last_name(node).to_string();
            owner.ends_with("process.env").then_some((name, None))
        }
        "subscript_expression" => {
            let owner = source.text(node.child_by_field_name("object")?);
            let name = source.string(node.child_by_field_name("index")?)?;
            owner.ends_with("process.env").then_some((name, None))
        }
        // NODE_ENV: z.enum(["development", "production"]), Joi.string().valid("a", "b")
        "pair" => {
            let key = source.text(node.child_by_field_name("key")?);
            let value = node.child_by_field_name("value")?;
            let text = source.text(value);
            let lists = ["enum", "valid(", "oneOf", "choices", "Literal"];
            let name = key.trim_matches(['"', '\'']).to_string();
            // NODE_ENV: z.string()
            if name == name.to_uppercase()
                && is_call(&value)
                && !lists.iter().any(|word| text.contains(word))
            {
                return Some((name, None));
            }
            lists.iter().any(|word| text.contains(word)).then_some(())?;
            let mut values: Vec<String> = list_nodes(value)
                .into_iter()
                .filter(|one| !is_default(source, *one))
                .filter_map(|one| source.string(one))
                .collect();
            values.dedup();
            (name == name.to_uppercase()).then_some((name, Some(values)))
        }
        // @IsEnum(Environment) NODE_ENV: Environment;
        "public_field_definition" => {
            let name = source.text(node.child_by_field_name("name")?).to_string();
            let kind = node.child_by_field_name("type")?;
            let kind = list_nodes(kind).into_iter().find(|one| one.kind() == "type_identifier")?;
            let values = read_enum(scripts, reachable, source.text(kind))?;
            Some((name, Some(values)))
        }
        _ => None,
    }
}

/// Whether a string is the default of a schema, and no value of its list.
fn is_default(source: &Source, node: Node<'_>) -> bool {
    let call = node.parent().and_then(|list| list.parent());
    let key = node.parent().filter(|above| above.kind() == "pair");
    let key = key.and_then(|pair| pair.child_by_field_name("key")).map(|key| source.text(key));
    call.is_some_and(|call| is_call(&call) && source.called(call) == "default")
        || key.is_some_and(|key| ["default", "type", "desc", "description"].contains(&key))
}

/// The values of an enum of TypeScript.
fn read_enum(scripts: &Scripts, reachable: &[&str], name: &str) -> Option<Vec<String>> {
    reachable.iter().find_map(|path| {
        let source = &scripts.get(path)?.source;
        let found = source.nodes().into_iter().find(|node| {
            node.kind() == "enum_declaration"
                && node.child_by_field_name("name").is_some_and(|own| source.text(own) == name)
        })?;
        let body = found.child_by_field_name("body")?;
        let values = list_nodes(body)
            .into_iter()
            .filter(|one| one.kind() == "enum_assignment")
            .filter_map(|one| source.string(one.child_by_field_name("value")?));
        Some(values.collect())
    })
}

/// The strings that a variable, or a property of its name, is compared with.
fn compared_values(scripts: &Scripts, reachable: &[&str], variable: &str) -> Vec<String> {
    let plain = |text: &str| -> String {
        text.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect()
    };
    let own = plain(variable);
    let mut found = Vec::new();
    for path in reachable {
        let Some(script) = scripts.get(path) else { continue };
        let source = &script.source;
        for node in source.nodes().into_iter().filter(|node| node.kind() == "binary_expression") {
            let operator = node.child_by_field_name("operator").map(|one| source.text(one));
            let inside = list_nodes(node);
            let fits = inside.iter().any(|one| plain(source.last_name(*one)) == own);
            if matches!(operator, Some("==" | "===" | "!=" | "!==")) && fits {
                let strings = inside.into_iter().filter_map(|one| source.string(one));
                found.extend(strings.filter(|text| text != variable));
            }
        }
    }
    found
}

/// Libraries that handle SIGTERM themselves, or are told to by one call.
const HANDLERS: [&str; 11] = [
    "close-with-grace",
    "@godaddy/terminus",
    "fastify-cli",
    "lightship",
    "next",
    "nuxt",
    "death",
    "exit-hook",
    "async-exit-hook",
    "signal-exit",
    "node-cleanup",
];

/// Whether something in the service handles SIGTERM: a source, or a library.
pub fn handles_sigterm(scripts: &Scripts, dependencies: &[&str]) -> bool {
    dependencies.iter().any(|name| {
        // graceful-fs only opens files.
        HANDLERS.contains(name) || name.contains("graceful") && *name != "graceful-fs"
    }) || scripts.by_path.values().any(|script| {
        let source = &script.source;
        source.nodes().into_iter().any(|node| {
            source.string(node).as_deref() == Some("SIGTERM")
                || is_call(&node) && source.called(node) == "enableShutdownHooks"
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::mode::choose_mode;
    use super::super::super::tree::Tree;
    use super::*;

    #[test]
    fn port_and_mode_are_read() {
        struct Case {
            text: &'static str,
            port: Option<u16>,
            mode: Option<(&'static str, &'static str, &'static str)>,
        }
        let case = |text, port, mode| Case { text, port, mode };
        let node = Some(("NODE_ENV", "development", "production"));
        let cases = [
            case("// app.listen(3000)", None, None),
            case("app.listen(process.env.PORT || 3000)", Some(3000), None),
            case(
                "const port = Number(process.env.PORT ?? 8081);\napp.listen(port)",
                Some(8081),
                None,
            ),
            case("const port = 4000;\nserver.listen({ port, host })", Some(4000), None),
            case(
                "server.listen({ port: config.port })\nconst config = { port: 5000 }",
                Some(5000),
                None,
            ),
            case("x = cleanEnv({ PORT: port({ default: 3333 }) })", Some(3333), None),
            case("x = z.object({ PORT: z.coerce.number().default(3001) })", Some(3001), None),
            case("app.listen(config.get('PORT', 3210))", Some(3210), None),
            case("x = z.object({ NODE_ENV: z.string().default('x') })", None, node),
            case("if (process.env.NODE_ENV === 'production') x()", None, node),
            case(
                "x = z.object({ NODE_ENV: z.enum(['dev', 'prod']).default('dev') })",
                None,
                Some(("NODE_ENV", "dev", "prod")),
            ),
            case(
                "x = Joi.object({ APP_ENV: Joi.string().valid('local', 'live') })",
                None,
                Some(("APP_ENV", "local", "live")),
            ),
            case(
                "enum E { Dev = 'development', Prod = 'production' }\nclass V { @IsEnum(E)\n \
                 NODE_ENV: E; }",
                None,
                node,
            ),
        ];
        for Case { text, port, mode } in cases {
            let tree: Tree = [("a.ts".to_string(), text.to_string())].into();
            let scripts = Scripts::read(&tree);
            assert_eq!(find_port(&scripts, &["a.ts"]).map(|fact| fact.value), port, "{text}");
            let found = choose_mode(&list_mode_readings(&scripts, &["a.ts"]));
            let found = found.map(|fact| fact.value);
            let seen = found.as_ref().map(|mode| {
                (mode.variable.as_str(), mode.debug.as_str(), mode.production.as_str())
            });
            assert_eq!(seen, mode, "{text}");
        }
    }
}
