//! Which paths of a build context a pattern covers, and which a .dockerignore leaves out. Pure.
//!
//! The rules are moby's: <https://docs.docker.com/build/concepts/context/#dockerignore-files>

use std::path::{Component, Path};

use globset::{GlobBuilder, GlobMatcher};

/// A pattern of a .dockerignore, or a source of COPY: anchored at the context's root.
#[derive(Clone, Debug)]
pub struct Pattern(GlobMatcher);

impl Pattern {
    /// Reads a pattern. `None` if BuildKit refuses it too.
    pub fn parse(text: &str) -> Option<Pattern> {
        let text = clean_path(text);
        // Braces mean nothing to moby.
        let escaped = text.replace('{', "[{]").replace('}', "[}]");
        let mut glob = GlobBuilder::new(&escaped);
        glob.literal_separator(true).backslash_escape(true);
        Some(Pattern(glob.build().ok()?.compile_matcher()))
    }

    /// Whether the path, or a folder that it lies in, matches.
    pub fn covers(&self, path: &Path) -> bool {
        path.ancestors().any(|part| !part.as_os_str().is_empty() && self.0.is_match(part))
    }
}

/// A path without `.`, `..` and slashes at its ends, as Go's `filepath.Clean` writes it.
fn clean_path(text: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in Path::new(text.trim()).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(parts.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    parts.join("/")
}

/// The patterns of a .dockerignore; the last that matches decides.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    /// A pattern, and whether it takes a path in again.
    patterns: Vec<(Pattern, bool)>,
}

impl Ignore {
    /// Reads the text of a .dockerignore.
    pub fn parse(text: &str) -> Ignore {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let patterns = lines.filter_map(|line| {
            let line = line.trim();
            let (line, takes_in) = match line.strip_prefix('!') {
                Some(line) => (line, true),
                None => (line, false),
            };
            Some((Pattern::parse(line)?, takes_in))
        });
        Ignore { patterns: patterns.collect() }
    }

    /// Whether a path, relative to the context, is no part of the build.
    pub fn leaves_out(&self, path: &Path) -> bool {
        let last = self.patterns.iter().rev().find(|(pattern, _)| pattern.covers(path));
        last.is_some_and(|(_, takes_in)| !takes_in)
    }

    /// Whether nothing below a folder is a part of the build, whatever it is called.
    pub fn prunes(&self, folder: &Path) -> bool {
        self.leaves_out(folder) && !self.patterns.iter().any(|(_, takes_in)| *takes_in)
    }
}

/// The line of a .dockerignore that leaves out just this path, whatever characters are in it.
pub fn write_line(path: &Path) -> String {
    let mut line = String::from("/");
    for character in path.to_string_lossy().chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            line.push('\\');
        }
        line.push(character);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_left_out_by_mobys_rules() {
        struct Row {
            ignore: &'static str,
            path: &'static str,
            out: bool,
        }
        let row = |ignore, path, out| Row { ignore, path, out };
        let rows = [
            row("", "a", false),
            row("target/\n", "target", true),
            row("target/\n", "target/image/index.json", true),
            row("target/\n", "sub/target", false),
            row("/target\n", "target/x", true),
            row("./target\n", "target/x", true),
            row("**/target\n", "target", true),
            row("**/target\n", "a/b/target/c", true),
            row("*.bin\n", "a.bin", true),
            row("*.bin\n", "model/a.bin", false),
            row("**/*.bin\n", "model/a.bin", true),
            row("*/temp*\n", "a/temporary.txt", true),
            row("*/temp*\n", "temporary.txt", false),
            row("temp?\n", "tempa", true),
            row("temp?\n", "temp", false),
            row("*\n!src\n", "src/main.py", false),
            row("*\n!src\nsrc/secret\n", "src/secret", true),
            row("!a\na\n", "a", true),
            row("a/**\n", "a/b/c", true),
            row("#a\n", "a", false),
            row("  a  \n", "a", true),
            row("\u{feff}a\n", "a", true),
            row("{a,b}\n", "a", false),
            row("{a,b}\n", "{a,b}", true),
            row("[\n", "a", false),
            row("a\\*\n", "a*", true),
            row("a\\*\n", "ab", false),
        ];
        for Row { ignore, path, out } in rows {
            assert_eq!(Ignore::parse(ignore).leaves_out(Path::new(path)), out, "{ignore:?} {path}");
        }
        assert!(Ignore::parse("node_modules\n").prunes(Path::new("node_modules")));
        assert!(
            !Ignore::parse("node_modules\n!node_modules/a\n").prunes(Path::new("node_modules"))
        );
    }

    #[test]
    fn a_line_leaves_out_just_that_path() {
        for path in ["target/image", "my, layout", "a*b", "[x]", "#no", "!no", "a?", "a\\b"] {
            let ignore = Ignore::parse(&format!("!**\n{}\n", write_line(Path::new(path))));
            assert!(ignore.leaves_out(Path::new(path)), "{path}");
            assert!(ignore.leaves_out(&Path::new(path).join("below")), "{path}");
            assert!(!ignore.leaves_out(Path::new("ab")), "{path}");
        }
    }
}
