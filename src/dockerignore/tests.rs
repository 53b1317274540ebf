//! What a .dockerignore leaves out, pattern by pattern.

use super::*;

struct Row {
    ignore: &'static str,
    out: &'static [&'static str],
    inside: &'static [&'static str],
}

const fn row(
    ignore: &'static str,
    out: &'static [&'static str],
    inside: &'static [&'static str],
) -> Row {
    Row { ignore, out, inside }
}

/// What the documentation says, and what moby's own tests hold.
/// <https://github.com/moby/patternmatcher/blob/main/patternmatcher_test.go>
const ROWS: &[Row] = &[
    row("", &[], &["a", "a/b"]),
    row("# a\n", &[], &["a", "# a"]),
    row("  # a\n", &["# a"], &["a"]),
    row("\u{feff}a\r\n", &["a"], &[]),
    row("\u{feff}# a\n", &[], &["a", "# a"]),
    row("  a  \n", &["a"], &[]),
    // Slashes, `.` and `..`.
    row("target", &["target", "target/x/y"], &["src/target", "targets"]),
    row("/target/", &["target/x"], &["src/target"]),
    row("./target", &["target"], &["x/target"]),
    row("a//b/./c", &["a/b/c"], &["a/b"]),
    row("x/../a", &["a"], &["x", "x/a"]),
    row("../a\n..\n.\n/\n", &[], &["a", "b"]),
    // `*` and `?` end at a slash.
    row("*", &["a", "a/b"], &[]),
    row(".*", &[".foo"], &["foo"]),
    row(".env*", &[".env", ".env.local"], &["config/.env"]),
    row("*.pem", &["a.pem"], &["keys/a.pem"]),
    row("*/temp*", &["a/temp", "a/temporary/x"], &["temp", "a/b/temp"]),
    row("temp?", &["tempa"], &["temp", "tempab"]),
    row("a/*.txt", &["a/f.txt"], &["a/d/f.txt"]),
    row("abc.def", &["abc.def"], &["abcdef", "abcZdef"]),
    // `**` does not.
    row("**", &["f", "d/f"], &[]),
    row("**/", &["f", "d/f"], &[]),
    row("**/**", &["f", "d/f"], &[]),
    row("**/dir", &["dir", "dir/f", "a/b/dir"], &["dirs", "adir"]),
    row("**/dir2/*", &["dir/dir2/f", "dir2/f"], &["dir/dir2"]),
    row("**/dir2/**", &["dir/dir2/d/f"], &["dir/dir2"]),
    row("dir/**", &["dir/f", "dir/d/f"], &["dir", "dirs"]),
    row("**/foo/bar", &["foo/bar", "d/foo/bar", "d/e/foo/bar"], &["foo/x/bar"]),
    row("**/.foo", &[".foo", "a/.foo"], &["bar.foo"]),
    row("**/.env*", &[".env", "config/.env", "a/b/.env.x/y"], &["env"]),
    row("**/file*.txt*", &["d/d/file.txt", "file1.txt.gz"], &["d/afile.txt"]),
    row("**/**/*.txt", &["f.txt", "d/d/f.txt"], &["f.txt2"]),
    row("a/**/b", &["a/b", "a/x/y/b"], &["ab"]),
    // `**` inside of a name.
    row("**file", &["file", "d/file", "d/myfile"], &["file1"]),
    row("**file*", &["file", "d/file1"], &["d/myfile"]),
    row("a**b", &["ab", "ax/b", "ax/y/b"], &["axb"]),
    row("a**/*.txt", &["a/f.txt", "a/d/f.txt", "a/d/d/f.txt"], &["b/f.txt"]),
    row("a/*.txt**", &["a/f.txt", "a/f.txt.gz"], &["a/d/f.txt"]),
    // The last that matches decides.
    row("docs\n!docs/README.md", &["docs/a"], &["docs/README.md"]),
    row("docs/\n!docs/README.md  ", &["docs/a"], &["docs/README.md"]),
    row("docs/*\n!docs/README.md", &["docs/a"], &["docs/README.md"]),
    row("docs\n  !docs/README.md", &["docs/a"], &["docs/README.md"]),
    row("docs\n! docs/README.md", &["docs/a"], &["docs/README.md"]),
    row("!f.go\n*.go", &["f.go"], &["f.py"]),
    row("*.go\n!f.go", &["e.go"], &["f.go"]),
    row("!app\n*", &["app", "x"], &[]),
    row("*\n!app\napp/*.md", &["x", "appendix", "app/a.md"], &["app", "app/d/a.md"]),
    row("**\n!util/web\nutil/web/foo", &["util", "util/web/foo"], &["util/web/bar"]),
    row("**\n!dist/*.whl", &["dist/a"], &["dist/a-2.4.0rc3+g08-py3-none-any.whl"]),
    row("!", &[], &["a"]),
    // Signs.
    row("a[b-d]e", &["ace"], &["ae", "aae"]),
    row("a[^b-d]e", &["aze"], &["ace"]),
    row("{a,b}\n\\!z", &["{a,b}", "!z"], &["a", "b", "z"]),
    row("a(b)c/def", &["a(b)c/def"], &["a(b)c/xyz"]),
    row("a.|)$(}+{bc", &["a.|)$(}+{bc"], &[]),
    row("a\\*b", &["a*b"], &["ab", "axb"]),
    row("a\\\\", &["a\\"], &["a"]),
    row("[\na[\n[^\n", &[], &["a", "["]),
];

#[test]
fn paths_are_left_out_by_mobys_rules() {
    for Row { ignore, out, inside } in ROWS {
        let rules = Ignore::parse(ignore);
        for path in *out {
            assert!(rules.leaves_out(path), "{ignore:?} leaves out {path}");
        }
        for path in *inside {
            assert!(!rules.leaves_out(path), "{ignore:?} keeps {path}");
        }
    }
}

#[test]
fn git_counts_a_name_in_every_folder() {
    let rules = Ignore::parse_git("dist\n/only\nlogs/*.log\n!keep\n");
    for path in ["dist/x", "web/dist/x", "only", "logs/a.log"] {
        assert!(rules.leaves_out(path), "{path}");
    }
    for path in ["web/only", "web/logs/a.log", "keep"] {
        assert!(!rules.leaves_out(path), "{path}");
    }
}

#[test]
fn a_folder_is_pruned_when_nothing_in_it_comes_back() {
    for (ignore, folder, prunes) in [
        ("target", "target/x", true),
        ("node_modules\n!node_modules/a", "node_modules", false),
        ("node_modules\n!app", "node_modules", true),
        ("*\n!app/main.py", "app", false),
        ("*\n!app", "docs", true),
        ("*\n!**/*.py", "docs", false),
        ("*\n![d]ocs/a", "docs", false),
    ] {
        assert_eq!(Ignore::parse(ignore).prunes(folder), prunes, "{ignore:?} {folder}");
    }
    assert!(Ignore::parse("target/**").empties("target"));
    assert!(!Ignore::parse("target/**\n!target/\u{1}").empties("target"));
}

#[test]
fn a_line_leaves_out_just_that_path() {
    for path in ["target/image", "my, layout", "a*b", "[x]", "#no", "!no", "a?", "a\\b"] {
        let ignore = Ignore::parse(&format!("!**\n{}\n", write_line(Path::new(path))));
        assert!(ignore.leaves_out(path), "{path}");
        assert!(ignore.leaves_out(Path::new(path).join("below")), "{path}");
        assert!(!ignore.leaves_out("ab"), "{path}");
    }
}

#[test]
fn odd_patterns_end() {
    for text in ["[", "!", "**********a**b**c**d**e", "\\", "a[b", "/", "..", "\u{feff}a"] {
        let _ = Ignore::parse(text).leaves_out("a/b");
    }
    assert!(matches_glob("packages/*", "packages/a"));
    assert!(!matches_glob("packages/*", "packages/a/b"));
    assert!(matches_glob("apps/**", "apps/a/b"));
}
