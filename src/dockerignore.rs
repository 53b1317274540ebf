//! What a .dockerignore leaves out of a build, and what a glob of COPY takes, by moby's rules:
//! patterns count from the context's root, `*` ends at a slash, `**` does not, `!` brings back, and
//! the last pattern that matches decides. Pure.
//!
//! <https://docs.docker.com/build/concepts/context/#dockerignore-files>

use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

/// A pattern with more `**` inside its parts is not read: nobody writes one.
const MOST_SPLITS: usize = 3;

/// A pattern of a .dockerignore, or a source of COPY: anchored at the context's root.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    /// What the pattern stands for, any of them.
    globs: Vec<GlobMatcher>,
}

impl Pattern {
    /// Reads a pattern. `None` if BuildKit refuses it too.
    pub fn parse(text: &str) -> Option<Pattern> {
        let text = clean_path(text.trim());
        Some(Pattern { globs: compile_globs(&text)?, text })
    }

    /// Whether just this path matches.
    pub fn matches(&self, path: impl AsRef<Path>) -> bool {
        self.globs.iter().any(|glob| glob.is_match(path.as_ref()))
    }

    /// Whether the path, or a folder that it lies in, matches.
    pub fn covers(&self, path: &Path) -> bool {
        path.ancestors().any(|part| !part.as_os_str().is_empty() && self.matches(part))
    }

    /// Whether something below a folder may match; the folder ends with a slash.
    fn may_match_below(&self, folder: &str) -> bool {
        self.text.starts_with(folder) || self.text.contains(['*', '?', '[', '\\'])
    }
}

/// The patterns of a file in its order; the last that matches decides.
#[derive(Clone, Debug, Default)]
pub struct Ignore {
    /// A pattern, and whether it brings a path back.
    patterns: Vec<(Pattern, bool)>,
}

impl Ignore {
    /// Reads a .dockerignore. A pattern that is none is left out; BuildKit refuses the build.
    pub fn parse(text: &str) -> Ignore {
        Ignore::read(text, |text| {
            // Nothing of the context lies above it.
            (!text.starts_with("../") && text != "..").then(|| text.to_string())
        })
    }

    /// Reads a .gitignore: there a name without a slash counts in every folder.
    /// <https://git-scm.com/docs/gitignore#_pattern_format>
    pub fn parse_git(text: &str) -> Ignore {
        Ignore::read(text, |text| {
            let is_anchored = text.trim_end_matches('/').contains('/');
            Some(if is_anchored { text.to_string() } else { format!("**/{text}") })
        })
    }

    fn read(text: &str, place: fn(&str) -> Option<String>) -> Ignore {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim);
        let patterns = lines.filter_map(|line| {
            let (text, brings_back) = match line.strip_prefix('!') {
                Some(rest) => (rest.trim(), true),
                None => (line, false),
            };
            let is_empty = clean_path(text).is_empty();
            let text = Some(text).filter(|_| !is_empty).and_then(place)?;
            Some((Pattern::parse(&text)?, brings_back))
        });
        Ignore { patterns: patterns.collect() }
    }

    /// Whether a path, relative to the context, is no part of the build.
    pub fn leaves_out(&self, path: impl AsRef<Path>) -> bool {
        let parts = path.as_ref().components();
        let path: PathBuf = parts.filter(|part| matches!(part, Component::Normal(_))).collect();
        let last = self.patterns.iter().rev().find(|(pattern, _)| pattern.covers(&path));
        last.is_some_and(|(_, brings_back)| !brings_back)
    }

    /// Whether nothing below a folder is a part of the build, whatever it is called.
    pub fn prunes(&self, folder: impl AsRef<Path>) -> bool {
        let below = format!("{}/", clean_path(&folder.as_ref().to_string_lossy()));
        let mut back = self.patterns.iter().filter(|(_, brings_back)| *brings_back);
        self.leaves_out(folder) && !back.any(|(pattern, _)| pattern.may_match_below(&below))
    }

    /// Whether a path is left out, or all that is in it: `target/**` keeps an empty folder.
    pub fn empties(&self, path: &str) -> bool {
        // A file of this name is nowhere, so that only a pattern for everything matches it.
        self.leaves_out(path) || self.leaves_out(format!("{path}/\u{1}"))
    }
}

/// Whether a glob, as COPY and workspaces have them, matches a path.
pub fn matches_glob(glob: &str, path: &str) -> bool {
    Pattern::parse(glob).is_some_and(|pattern| pattern.matches(path))
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

/// A path of the context without `.`, `..`, doubled slashes and those at its ends.
pub fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// moby's `**` eats parts of names, globset's stands between slashes: `a**b` is `ab`, and `a…/b`
/// with any folders between; `**b` with no other sign is all that ends with `b`.
fn compile_globs(text: &str) -> Option<Vec<GlobMatcher>> {
    let mut texts = vec![escape_braces(text)];
    for _ in 0..MOST_SPLITS {
        let mut next = Vec::new();
        for text in &texts {
            let Some(at) = find_inner_stars(text) else {
                next.push(text.clone());
                continue;
            };
            let (before, after) = (&text[..at], text[at + 2..].trim_start_matches('*'));
            // moby takes the slash behind for a part of it.
            let after = after.strip_prefix('/').unwrap_or(after);
            if after.is_empty() {
                next.extend([format!("{before}*"), format!("{before}*/**")]);
            } else if before.is_empty() && !after.contains(['*', '?', '[', '\\']) {
                next.push(format!("**/*{after}"));
            } else {
                let between = ["", "*/", "*/**/"];
                next.extend(between.map(|folders| format!("{before}{folders}{after}")));
            }
        }
        texts = next;
    }
    texts
        .iter()
        .map(|text| {
            let mut glob = GlobBuilder::new(text);
            glob.literal_separator(true).backslash_escape(true);
            Some(glob.build().ok()?.compile_matcher())
        })
        .collect()
}

/// Where `**` stands inside of a part.
fn find_inner_stars(text: &str) -> Option<usize> {
    text.match_indices("**").map(|(at, _)| at).find(|at| {
        let begins = *at == 0 || text[..*at].ends_with('/');
        let rest = &text[at + 2..];
        !begins || !(rest.is_empty() || rest.starts_with('/'))
    })
}

/// moby's patterns have no alternatives in braces.
fn escape_braces(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '{' | '}' | ',' => escaped.extend(['\\', c]),
            '\\' => {
                escaped.push('\\');
                escaped.extend(chars.next());
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
