//! Sources as syntax trees, by tree-sitter's grammars: one interface for three languages, and a
//! file with a mistake in it is still read. Pure.
//!
//! <https://tree-sitter.github.io/tree-sitter/>

use std::ops::ControlFlow;

use tree_sitter::{Node, ParseOptions, ParseState, Parser};

/// Deeper expressions are not evaluated.
pub const DEEPEST: usize = 12;

/// The parser asks once in a hundred of its operations whether to go on. Files that people write
/// take a few thousand.
const MOST_STEPS: usize = 50_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar {
    Python,
    Go,
    /// JavaScript and TypeScript: TypeScript's grammar takes both.
    Script,
}

/// A source file, parsed.
#[derive(Debug)]
pub struct Source {
    pub path: String,
    pub text: String,
    tree: tree_sitter::Tree,
}

impl Source {
    /// Parses a file; `None` if that takes too long: a hostile file is written for it.
    pub fn parse(path: &str, text: &str, grammar: Grammar) -> Option<Source> {
        let language = match grammar {
            Grammar::Python => tree_sitter_python::LANGUAGE.into(),
            Grammar::Go => tree_sitter_go::LANGUAGE.into(),
            Grammar::Script => tree_sitter_typescript::LANGUAGE_TSX.into(),
        };
        let mut parser = Parser::new();
        parser.set_language(&language).ok()?;
        let mut steps = 0;
        let mut count = |_: &ParseState| {
            steps += 1;
            if steps > MOST_STEPS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let options = ParseOptions::new().progress_callback(&mut count);
        let mut rest = |at: usize, _| text.as_bytes().get(at..).unwrap_or_default();
        let tree = parser.parse_with_options(&mut rest, None, Some(options))?;
        Some(Source { path: path.to_string(), text: text.to_string(), tree })
    }

    pub fn root(&self) -> Node<'_> {
        self.tree.root_node()
    }

    pub fn text(&self, node: Node<'_>) -> &str {
        node.utf8_text(self.text.as_bytes()).unwrap_or_default()
    }

    /// Every named node, in the order of the text.
    pub fn nodes(&self) -> Vec<Node<'_>> {
        list_nodes(self.root())
    }

    /// The value of a string without anything to fill in.
    pub fn string(&self, node: Node<'_>) -> Option<String> {
        match node.kind() {
            "string" | "template_string" | "concatenated_string" => {
                let parts = children(node);
                if parts.iter().any(|part| {
                    part.kind().contains("substitution") || part.kind() == "interpolation"
                }) {
                    return None;
                }
                if node.kind() == "concatenated_string" {
                    return parts.into_iter().map(|part| self.string(part)).collect();
                }
                let content = parts
                    .into_iter()
                    .filter(|part| ["string_content", "string_fragment"].contains(&part.kind()));
                Some(content.map(|part| self.text(part)).collect())
            }
            "interpreted_string_literal" | "raw_string_literal" => {
                let text = self.text(node);
                Some(text.get(1..text.len().checked_sub(1)?)?.to_string())
            }
            _ => None,
        }
    }

    /// The last part of a name: `FastAPI` of `fastapi.FastAPI`.
    pub fn last_name(&self, node: Node<'_>) -> &str {
        let field = match node.kind() {
            "attribute" => node.child_by_field_name("attribute"),
            "member_expression" => node.child_by_field_name("property"),
            "selector_expression" => node.child_by_field_name("field"),
            _ => Some(node),
        };
        field.map_or("", |node| self.text(node))
    }

    /// What a member belongs to: `router` of `router.get`.
    pub fn owner<'a>(&self, node: Node<'a>) -> Option<Node<'a>> {
        match node.kind() {
            "attribute" | "member_expression" => node.child_by_field_name("object"),
            "selector_expression" => node.child_by_field_name("operand"),
            _ => None,
        }
    }

    /// The name of the function that a call calls: `get` of `router.get("/")`.
    pub fn called(&self, call: Node<'_>) -> &str {
        function_of(call).map_or("", |function| self.last_name(function))
    }

    /// A named argument of a Python call.
    pub fn keyword<'a>(&self, call: Node<'a>, name: &str) -> Option<Node<'a>> {
        let arguments = call.child_by_field_name("arguments")?;
        children(arguments)
            .into_iter()
            .filter(|one| one.kind() == "keyword_argument")
            .find(|one| one.child_by_field_name("name").is_some_and(|own| self.text(own) == name))?
            .child_by_field_name("value")
    }

    /// The value of a property of a JavaScript object.
    pub fn property<'a>(&self, object: Node<'a>, name: &str) -> Option<Node<'a>> {
        children(object)
            .into_iter()
            .filter(|one| one.kind() == "pair")
            .find(|one| {
                one.child_by_field_name("key")
                    .is_some_and(|key| self.text(key).trim_matches(['"', '\'']) == name)
            })?
            .child_by_field_name("value")
    }
}

/// The line of a node, from 1.
pub fn line_of(node: Node<'_>) -> u64 {
    node.start_position().row as u64 + 1
}

/// The named children of a node, without comments.
pub fn children(node: Node<'_>) -> Vec<Node<'_>> {
    let mut cursor = node.walk();
    node.named_children(&mut cursor).filter(|child| child.kind() != "comment").collect()
}

/// A node and every named node in it. Without recursion: a hostile file may be nested deeply.
pub fn list_nodes(start: Node<'_>) -> Vec<Node<'_>> {
    let mut found = Vec::new();
    let mut open = vec![start];
    while let Some(node) = open.pop() {
        found.push(node);
        open.extend(children(node).into_iter().rev());
    }
    found
}

/// The nodes above a node, nearest first.
pub fn ancestors(node: Node<'_>) -> impl Iterator<Item = Node<'_>> {
    std::iter::successors(node.parent(), |above| above.parent())
}

/// What a call calls.
pub fn function_of(call: Node<'_>) -> Option<Node<'_>> {
    call.child_by_field_name("function").or_else(|| call.child_by_field_name("constructor"))
}

/// Whether a node is a call of a function or a constructor.
pub fn is_call(node: &Node<'_>) -> bool {
    ["call", "call_expression", "new_expression"].contains(&node.kind())
}

/// The arguments of a call that have no name.
pub fn arguments(call: Node<'_>) -> Vec<Node<'_>> {
    let Some(list) = call.child_by_field_name("arguments") else { return Vec::new() };
    children(list).into_iter().filter(|one| one.kind() != "keyword_argument").collect()
}

/// A port above 1 from a text: `8080`, `:8080`, `0.0.0.0:8080`.
pub fn read_port(text: &str) -> Option<u16> {
    let digits = text.trim().rsplit(':').next()?;
    digits.parse().ok().filter(|port| *port > 1)
}

/// Whether a name, of a flag, a variable or a field, is of the port that the service listens on.
pub fn is_port_name(name: &str) -> bool {
    let name: String = name.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let other = ["metric", "admin", "debug", "grpc", "pprof", "db", "redis", "smtp", "postgres"];
    let ends = ["port", "addr", "address", "listen", "bind"];
    ends.iter().any(|end| name.ends_with(end)) && !other.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_calls_are_read_in_each_language() {
        let cases = [
            (Grammar::Python, "x = f('a')", "a"),
            (Grammar::Python, "x = f('a' \"b\")", "ab"),
            (Grammar::Go, "package x\nvar x = f(\"a\")", "a"),
            (Grammar::Go, "package x\nvar x = f(`a`)", "a"),
            (Grammar::Script, "const x = f('a')", "a"),
            (Grammar::Script, "const x = f(`a`)", "a"),
        ];
        for (grammar, text, expected) in cases {
            let source = Source::parse("x", text, grammar).expect("a grammar");
            let call = source.nodes().into_iter().find(is_call).expect("a call");
            assert_eq!(source.called(call), "f");
            assert_eq!(source.string(arguments(call)[0]).as_deref(), Some(expected), "{text}");
        }
        let filled = Source::parse("x", "x = f(f'a{b}')", Grammar::Python).expect("a grammar");
        let call = filled.nodes().into_iter().find(is_call).expect("a call");
        assert_eq!(filled.string(arguments(call)[0]), None);
    }

    #[test]
    fn hostile_nesting_ends() {
        for grammar in [Grammar::Python, Grammar::Go, Grammar::Script] {
            let hostile = Source::parse("x", &"f(".repeat(20_000), grammar);
            assert!(hostile.is_none_or(|source| !source.nodes().is_empty()));
            let broken = Source::parse("x", "\u{0}\u{feff}([{\"'`", grammar).expect("a grammar");
            assert!(!broken.nodes().is_empty());
        }
    }

    #[test]
    fn a_port_is_read_from_an_address() {
        for (text, port) in [
            ("8080", Some(8080)),
            (":8080", Some(8080)),
            ("0.0.0.0:80", Some(80)),
            ("[::]:9", Some(9)),
            ("", None),
            ("http", None),
            ("70000", None),
            ("0", None),
        ] {
            assert_eq!(read_port(text), port, "{text}");
        }
    }
}
