//! Modules form no circle: at no level does one name another that leads back to it.
//!
//! A module is its file and all that is below it. The file at its head (`x.rs`) and those below
//! (`x/`) may name each other: they are one module, whose words stand in its head. Beside each
//! other, from the rooms of the crate down, modules name each other in one direction only, whether
//! by `crate::`, by `super::` or by `self::`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::words::sources;
use super::{code, statements};

/// A module's path from the crate: `["deploy", "eks", "plan"]`.
type Module = Vec<String>;

fn module_of(file: &Path) -> Module {
    let below = file.strip_prefix("src").expect("a source").with_extension("");
    let parts = below.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "main").collect()
}

/// The paths that a module's code names, each from the crate on.
fn named_paths(code: &str, module: &[String]) -> BTreeSet<Module> {
    let code: String = statements(code).collect::<Vec<_>>().join("\n");
    let parent = |path: &[String]| path[..path.len().saturating_sub(1)].to_vec();
    let mut found = BTreeSet::new();
    for (word, base) in
        [("crate::", Vec::new()), ("super::", parent(module)), ("self::", module.to_vec())]
    {
        for (start, _) in code.match_indices(word) {
            let is_inside = |before: char| before.is_alphanumeric() || matches!(before, '_' | ':');
            if code[..start].ends_with(is_inside) {
                continue;
            }
            let (mut base, mut rest) = (base.clone(), &code[start + word.len()..]);
            while let Some(further) = rest.strip_prefix("super::") {
                (base, rest) = (parent(&base), further);
            }
            for path in expand(rest) {
                found.insert(base.iter().cloned().chain(path).collect());
            }
        }
    }
    found
}

/// The paths that a text begins with: `plan::make`, or `{plan::{self, make}, verdict}`.
fn expand(text: &str) -> Vec<Module> {
    let Some(list) = text.strip_prefix('{') else {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        if word.is_empty() {
            return vec![Vec::new()];
        }
        let further = rest.strip_prefix("::").map_or_else(|| vec![Vec::new()], expand);
        let whole = |path: Module| std::iter::once(word.to_string()).chain(path).collect();
        return further.into_iter().map(whole).collect();
    };
    let (mut depth, mut start, mut paths) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let item = list[start..at].trim();
                paths.extend((!item.is_empty()).then(|| expand(item)).into_iter().flatten());
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    paths
}

/// Which modules beside each other name which, and where: by the module that they are in.
type Level = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// The names of `files`, each a module with its code, by level.
fn find_names(files: &BTreeMap<Module, String>) -> BTreeMap<Module, Level> {
    let mut levels: BTreeMap<Module, Level> = BTreeMap::new();
    for (module, code) in files {
        for path in named_paths(code, module) {
            // An item is of the innermost module on its path.
            let inner = (1..=path.len()).rev().find(|&length| files.contains_key(&path[..length]));
            let Some(named) = inner.map(|length| &path[..length]) else { continue };
            let shared = module.iter().zip(named).take_while(|(one, other)| one == other).count();
            let (Some(from), Some(to)) = (module.get(shared), named.get(shared)) else { continue };
            let level = levels.entry(module[..shared].to_vec()).or_default();
            let place = format!("{} names {}", module.join("/"), path.join("::"));
            level.entry(from.clone()).or_default().entry(to.clone()).or_default().insert(place);
        }
    }
    levels
}

/// What of a level is in a circle, or between two.
fn find_circles(mut level: Level) -> Level {
    loop {
        let before = level.len();
        let left: BTreeSet<String> = level.keys().cloned().collect();
        level.values_mut().for_each(|named| named.retain(|name, _| left.contains(name)));
        level.retain(|_, named| !named.is_empty());
        let named: BTreeSet<String> =
            level.values().flat_map(|named| named.keys().cloned()).collect();
        level.retain(|name, _| named.contains(name));
        if level.len() == before {
            return level;
        }
    }
}

#[test]
fn modules_form_no_circle() {
    let files: BTreeMap<Module, String> =
        sources().iter().map(|file| (module_of(file), code(file))).collect();
    let levels = find_names(&files);
    let names: usize = levels.values().flat_map(BTreeMap::values).map(BTreeMap::len).sum();
    assert!(names >= 400, "{names} names are found: does the test still see them?");
    for (module, level) in levels {
        let circles = find_circles(level);
        assert!(circles.is_empty(), "in `{}`: {circles:#?}", module.join("::"));
    }
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    struct Case {
        files: &'static [(&'static str, &'static str)],
        circle: &'static [&'static str],
    }
    let cases = [
        Case { files: &[("a", "use crate::b::B;"), ("b", "use super::a;")], circle: &["a", "b"] },
        Case { files: &[("a", "use crate::b::B;"), ("b", "// use super::a;")], circle: &[] },
        // A head and what is below it are one module.
        Case { files: &[("a", "self::b::f()"), ("a/b", "use super::A;")], circle: &[] },
        // Three rooms, through files inside of them.
        Case {
            files: &[
                ("a", ""),
                ("a/x", "use crate::{b::y::{self, Y}, d};"),
                ("b", ""),
                ("b/y", "crate::c::f()"),
                ("c", "use super::a::x;"),
                ("d", ""),
            ],
            circle: &["a", "b", "c"],
        },
        // Beside each other in a room.
        Case {
            files: &[("a", ""), ("a/x", "super::y::f()"), ("a/y", "use crate::a::x::X;")],
            circle: &["x", "y"],
        },
        Case {
            files: &[("a", ""), ("a/x/z", "super::super::y::f()"), ("a/x", ""), ("a/y", "")],
            circle: &[],
        },
    ];
    for Case { files, circle } in cases {
        let module = |path: &str| path.split('/').map(str::to_string).collect::<Module>();
        let of = files.iter().map(|(path, code)| (module(path), code.to_string())).collect();
        let found: Vec<String> =
            find_names(&of).into_values().flat_map(find_circles).map(|(name, _)| name).collect();
        assert_eq!(found, circle, "{files:?}");
    }
}
