//! Which commits touch paths that are written with wildcards, or leave some out. Reads trees.
//!
//! What differs between two trees is matched, file by file; the last rule that matches decides, as
//! in GitHub's own filters. A folder that matches stands for all that is below it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::glob::wildmatch::Mode;

use super::{Entry, Failure, PathRule, TREES, TreePair, has_wildcard, list_entries};

/// A rule, ready to be matched.
struct Matcher {
    /// As a path from the root.
    pattern: BString,
    /// The names before the first wildcard.
    base: BString,
    excluded: bool,
}

impl Matcher {
    fn of(rule: &PathRule) -> Matcher {
        let join = |parts: &[OsString]| -> BString {
            let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
            parts.join(&b'/').into()
        };
        let end = rule.parts.iter().position(has_wildcard).unwrap_or(rule.parts.len());
        // `**.js` is GitHub's way to write files in any folder.
        let parts: Vec<OsString> = rule.parts.iter().flat_map(spread_stars).collect();
        Matcher { pattern: join(&parts), base: join(&rule.parts[..end]), excluded: rule.excluded }
    }

    /// Whether the rule names a path, or a folder that it is in.
    fn matches(&self, path: &BStr) -> bool {
        if self.pattern.is_empty() || is_below(path, self.pattern.as_bstr()) {
            return true;
        }
        let ends = path.find_iter(b"/").chain([path.len()]);
        ends.into_iter().any(|end| {
            let mode = Mode::NO_MATCH_SLASH_LITERAL;
            gix::glob::wildmatch(self.pattern.as_bstr(), path[..end].as_bstr(), mode)
        })
    }

    /// Whether something at or below a folder may match.
    fn reaches(&self, folder: &BStr) -> bool {
        is_below(folder, self.base.as_bstr()) || is_below(self.base.as_bstr(), folder)
    }
}

/// Splits a name that begins with two stars into the folders and the name.
fn spread_stars(part: &OsString) -> Vec<OsString> {
    match part.as_bytes().strip_prefix(b"**") {
        Some(rest) if !rest.is_empty() => {
            let mut name = OsString::from("*");
            name.push(std::ffi::OsStr::from_bytes(rest));
            vec!["**".into(), name]
        }
        _ => vec![part.clone()],
    }
}

fn is_below(path: &BStr, folder: &BStr) -> bool {
    folder.is_empty()
        || path
            .strip_prefix(folder.as_bytes())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Judges of each pair of trees whether they differ in what the rules name.
pub fn judge_pairs(
    repository: &gix::Repository,
    rules: &[PathRule],
    pairs: &[TreePair],
) -> Result<Vec<bool>, Failure> {
    let matchers: Vec<Matcher> = rules.iter().map(Matcher::of).collect();
    let search = Search { repository, matchers: &matchers };
    let tree = gix::objs::tree::EntryKind::Tree.into();
    let judge = |(before, after): &TreePair| {
        search.differs(BString::default(), before.map(|id| (id, tree)), Some((*after, tree)))
    };
    pairs.iter().map(judge).collect()
}

/// Whether a rule names nothing in a tree.
///
/// # Errors
/// Missing trees; unexpected, when something cannot be read.
pub fn is_unmatched(
    repository: &gix::Repository,
    tree: ObjectId,
    rule: &PathRule,
) -> Result<bool, Failure> {
    let matcher = Matcher::of(rule);
    let mut budget = TREES;
    let mut open = vec![(BString::default(), tree)];
    while let Some((folder, tree)) = open.pop() {
        for (name, (id, mode)) in list_entries(repository, tree)? {
            let path = join_path(&folder, &name);
            if matcher.matches(path.as_bstr()) {
                return Ok(false);
            }
            if mode.is_tree() && matcher.reaches(path.as_bstr()) {
                open.push((path, id));
            }
        }
        budget -= 1;
        if budget == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn join_path(folder: &BString, name: &OsString) -> BString {
    let mut path = folder.clone();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.as_bytes());
    path
}

struct Search<'a> {
    repository: &'a gix::Repository,
    matchers: &'a [Matcher],
}

impl Search<'_> {
    /// Whether two entries of one path differ in something that counts.
    fn differs(
        &self,
        path: BString,
        before: Option<Entry>,
        after: Option<Entry>,
    ) -> Result<bool, Failure> {
        if before == after {
            return Ok(false);
        }
        let is_file = |entry: &Option<Entry>| entry.is_some_and(|(_, mode)| !mode.is_tree());
        if (is_file(&before) || is_file(&after)) && self.counts(path.as_bstr()) {
            return Ok(true);
        }
        let included = || self.matchers.iter().filter(|matcher| !matcher.excluded);
        if included().count() > 0 && !included().any(|matcher| matcher.reaches(path.as_bstr())) {
            return Ok(false);
        }
        let entries = |entry: Option<Entry>| match entry {
            Some((id, mode)) if mode.is_tree() => list_entries(self.repository, id),
            _ => Ok(Vec::new()),
        };
        let mut was: HashMap<OsString, Entry> = entries(before)?.into_iter().collect();
        for (name, now) in entries(after)? {
            let was = was.remove(&name);
            if self.differs(join_path(&path, &name), was, Some(now))? {
                return Ok(true);
            }
        }
        for (name, gone) in was {
            if self.differs(join_path(&path, &name), Some(gone), None)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a file counts: the last rule that names it says so.
    fn counts(&self, path: &BStr) -> bool {
        let last = self.matchers.iter().rev().find(|matcher| matcher.matches(path));
        match last {
            Some(matcher) => !matcher.excluded,
            None => self.matchers.iter().all(|matcher| matcher.excluded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str) -> Matcher {
        let bare = pattern.trim_start_matches('!');
        let parts = bare.split('/').map(OsString::from).collect();
        Matcher::of(&PathRule::new(pattern.as_ref(), parts, pattern != bare))
    }

    #[test]
    fn a_pattern_names_files_and_folders() {
        struct Row {
            pattern: &'static str,
            path: &'static str,
            named: bool,
        }
        let row = |pattern, path, named| Row { pattern, path, named };
        let rows = [
            row("src/**", "src/a", true),
            row("src/**", "src/b/c", true),
            row("src/**", "srcs/a", false),
            row("src/**/*", "src/b/c", true),
            row("src/*.rs", "src/a.rs", true),
            row("src/*.rs", "src/b/a.rs", false),
            row("src/**/*.rs", "src/b/c/a.rs", true),
            row("src/**/*.rs", "src/a.rs", true),
            row("**/*.rs", "a.rs", true),
            row("**.rs", "b/a.rs", true),
            row("services/*/src", "services/api/src/a", true),
            row("services/*/src", "services/src", false),
            row("file?", "file1", true),
            row("file[0-9]", "file1", true),
            row("app/[slug]", "app/[slug]/page.tsx", true),
            row("**", "a", true),
        ];
        for Row { pattern, path, named } in rows {
            assert_eq!(rule(pattern).matches(path.into()), named, "{pattern} of {path}");
        }
    }

    #[test]
    fn the_last_rule_that_names_a_file_decides() {
        let repository =
            crate::git::open(env!("CARGO_MANIFEST_DIR").as_ref()).expect("a repository");
        let counts = |patterns: &[&str], path: &str| {
            let matchers: Vec<Matcher> = patterns.iter().map(|pattern| rule(pattern)).collect();
            Search { repository: &repository, matchers: &matchers }.counts(path.into())
        };
        assert!(counts(&["src", "!src/docs"], "src/a"));
        assert!(!counts(&["src", "!src/docs"], "src/docs/a"));
        assert!(counts(&["src", "!src/docs", "src/docs/api"], "src/docs/api/a"));
        assert!(counts(&["!docs"], "a"));
        assert!(!counts(&["!docs"], "docs/a"));
        assert!(!counts(&["src"], "a"));
    }
}
