//! What a .dockerignore leaves out, by moby's rules: patterns count from the context's root, `*`
//! ends at a slash, `**` does not, `!` brings back, and the last pattern that matches decides. Pure.
//!
//! <https://docs.docker.com/build/concepts/context/#dockerignore-files>

use globset::{GlobBuilder, GlobMatcher};

/// A pattern with more `**` inside its parts is not read: nobody writes one.
const MOST_SPLITS: usize = 3;

#[derive(Clone, Debug)]
struct Pattern {
    /// What the pattern stands for, any of them.
    globs: Vec<GlobMatcher>,
    text: String,
    brings_back: bool,
}

/// The patterns of a file, in its order.
#[derive(Clone, Debug, Default)]
pub struct IgnoreRules {
    patterns: Vec<Pattern>,
}

impl IgnoreRules {
    /// Reads a .dockerignore; a pattern that is none is left out, which BuildKit refuses.
    pub fn parse(text: &str) -> IgnoreRules {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim);
        IgnoreRules { patterns: lines.filter_map(|line| read_pattern(line, false)).collect() }
    }

    /// Reads a .gitignore: there a name without a slash counts in every folder.
    /// <https://git-scm.com/docs/gitignore#_pattern_format>
    pub fn parse_git(text: &str) -> IgnoreRules {
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim);
        IgnoreRules { patterns: lines.filter_map(|line| read_pattern(line, true)).collect() }
    }

    /// Whether a path, from the context's root, is left out: itself or with a folder above it.
    pub fn excludes(&self, path: &str) -> bool {
        let path = clean(path);
        let ends: Vec<&str> =
            path.match_indices('/').map(|(at, _)| &path[..at]).chain([path.as_str()]).collect();
        self.patterns.iter().fold(false, |out, pattern| {
            // A pattern that would change nothing need not be matched.
            if out != pattern.brings_back {
                return out;
            }
            let matches =
                ends.iter().any(|end| pattern.globs.iter().any(|glob| glob.is_match(end)));
            if matches { !pattern.brings_back } else { out }
        })
    }

    /// Whether a folder is left out with all that is in it.
    pub fn excludes_all_below(&self, folder: &str) -> bool {
        let folder = clean(folder);
        let below = format!("{folder}/");
        let may_bring_back = self.patterns.iter().filter(|one| one.brings_back).any(|one| {
            one.text.starts_with(&below) || one.text.contains('*') || one.text.contains('?')
        });
        self.excludes(&folder) && !may_bring_back
    }
}

/// Whether a .dockerignore leaves out a path, or all that is in it: `target/**` keeps an empty
/// folder.
pub fn leaves_out(ignore: &str, path: &str) -> bool {
    let rules = IgnoreRules::parse(ignore);
    // A file of this name is nowhere, so that only a pattern for everything matches it.
    rules.excludes(path) || rules.excludes(&format!("{path}/\u{1}"))
}

/// Whether a glob, as COPY and workspaces have them, matches a path.
pub fn matches_glob(glob: &str, path: &str) -> bool {
    compile(&clean(glob)).is_some_and(|globs| globs.iter().any(|glob| glob.is_match(path)))
}

fn read_pattern(line: &str, is_git: bool) -> Option<Pattern> {
    let (text, brings_back) = match line.strip_prefix('!') {
        Some(rest) => (rest.trim(), true),
        None => (line, false),
    };
    let mut text = clean(text);
    if text.is_empty() {
        return None;
    }
    let is_anchored = line.trim_start_matches('!').trim_end_matches('/').contains('/');
    if is_git && !is_anchored {
        text = format!("**/{text}");
    }
    Some(Pattern { globs: compile(&text)?, text, brings_back })
}

/// A path without `.`, `..`, doubled slashes, and one at its ends, as Go's filepath.Clean has it.
pub fn clean(path: &str) -> String {
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

/// `a**b` is `ab`, and `a…/b` with any folders between: moby's `**` eats parts of names, globset's
/// stands between slashes.
fn compile(text: &str) -> Option<Vec<GlobMatcher>> {
    let mut texts = vec![escape(text)];
    for _ in 0..MOST_SPLITS {
        let mut next = Vec::new();
        for text in &texts {
            match find_inner_stars(text) {
                None => next.push(text.clone()),
                Some(at) => {
                    let (before, after) = (&text[..at], text[at + 2..].trim_start_matches('*'));
                    if after.is_empty() {
                        next.extend([format!("{before}*"), format!("{before}*/**")]);
                    } else {
                        next.extend([
                            format!("{before}{after}"),
                            format!("{before}*/{after}"),
                            format!("{before}*/**/{after}"),
                        ]);
                    }
                }
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
fn escape(text: &str) -> String {
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
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_that_matches_decides() {
        struct Case {
            ignore: &'static str,
            out: &'static [&'static str],
            inside: &'static [&'static str],
        }
        let case = |ignore, out, inside| Case { ignore, out, inside };
        let cases: [Case; 17] = [
            case("", &[], &["a", "a/b"]),
            case("# a\n", &[], &["a", "# a"]),
            case("target", &["target", "target/x/y"], &["src/target", "targets"]),
            case("/target/", &["target/x"], &["src/target"]),
            case("./target", &["target"], &["x/target"]),
            case(".env*", &[".env", ".env.local"], &["config/.env"]),
            case("**/.env*", &[".env", "config/.env", "a/b/.env.x/y"], &["env"]),
            case("*.pem", &["a.pem"], &["keys/a.pem"]),
            case("*/temp*", &["a/temp", "a/temporary/x"], &["temp", "a/b/temp"]),
            case("temp?", &["tempa"], &["temp", "tempab"]),
            case("*\n!app", &["x", "x/y", "appendix"], &["app", "app/main.py"]),
            case("*\n!app\napp/*.md", &["app/a.md"], &["app/a.py", "app/docs/a.md"]),
            case("!app\n*", &["app", "x"], &[]),
            case("a**b", &["ab", "ax/b", "ax/y/b"], &["axb"]),
            case("a/**/b", &["a/b", "a/x/y/b"], &["ab"]),
            case("docs/**", &["docs/a", "docs/a/b"], &["doc"]),
            case("{a,b}\n[^x]y\n\\!z", &["{a,b}", "zy", "!z"], &["a", "xy", "z"]),
        ];
        for Case { ignore, out, inside } in cases {
            let rules = IgnoreRules::parse(ignore);
            for path in out {
                assert!(rules.excludes(path), "{ignore:?} leaves out {path}");
            }
            for path in inside {
                assert!(!rules.excludes(path), "{ignore:?} keeps {path}");
            }
        }
    }

    #[test]
    fn git_counts_a_name_in_every_folder() {
        let rules = IgnoreRules::parse_git("dist\n/only\nlogs/*.log\n!keep\n");
        for path in ["dist/x", "web/dist/x", "only", "logs/a.log"] {
            assert!(rules.excludes(path), "{path}");
        }
        for path in ["web/only", "web/logs/a.log", "keep"] {
            assert!(!rules.excludes(path), "{path}");
        }
    }

    #[test]
    fn a_folder_is_left_out_as_a_whole_when_nothing_brings_back() {
        assert!(IgnoreRules::parse("target").excludes_all_below("target/x"));
        assert!(!IgnoreRules::parse("*\n!app/main.py").excludes_all_below("app"));
        assert!(IgnoreRules::parse("*\n!app").excludes_all_below("docs"));
        assert!(!IgnoreRules::parse("*\n!**/*.py").excludes_all_below("docs"));
    }

    #[test]
    fn odd_patterns_end() {
        for text in ["[", "!", "**********a**b**c**d**e", "\\", "a[b", "/", "..", "\u{feff}a"] {
            let _ = IgnoreRules::parse(text).excludes("a/b");
        }
        assert!(matches_glob("packages/*", "packages/a"));
        assert!(!matches_glob("packages/*", "packages/a/b"));
        assert!(matches_glob("apps/**", "apps/a/b"));
    }
}
