//! A Dockerfile taken apart as far as rules need it: instructions with their lines, stages, exec
//! forms. Pure.
//!
//! It never refuses a text: what BuildKit would refuse becomes an instruction that no rule knows as
//! one.
//! <https://docs.docker.com/reference/dockerfile/>

use std::collections::BTreeMap;

/// Every instruction there is.
pub const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dockerfile {
    pub instructions: Vec<Instruction>,
}

/// One instruction, its continued lines and here-documents put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// In upper case.
    pub keyword: String,
    /// `--mount=…`, `--from=…`: what stands before the arguments.
    pub flags: Vec<String>,
    /// Everything after keyword and flags; lines are joined by a space, those of a here-document by
    /// a newline.
    pub text: String,
    /// The line it begins on, from 1.
    pub line: u64,
    /// The lines as they stand in the file, with their numbers; comments between them are left out.
    pub lines: Vec<(u64, String)>,
    /// The last line asks for a further one.
    pub continues: bool,
    /// Rules that the comment right above says to ignore.
    pub ignored: Vec<String>,
}

/// A FROM and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage<'a> {
    pub from: &'a Instruction,
    /// The image or the stage it begins with, arguments filled in as far as the file says them.
    pub base: String,
    pub name: Option<String>,
    pub instructions: &'a [Instruction],
}

impl Dockerfile {
    /// Reads a Dockerfile.
    pub fn parse(text: &str) -> Dockerfile {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let escape = escape(text);
        let mut lines = (1..).zip(text.lines());
        let mut instructions: Vec<Instruction> = Vec::new();
        let mut ignored = Vec::new();
        while let Some((line, first)) = lines.next() {
            let first = first.trim();
            if first.is_empty() || first.starts_with('#') {
                ignored.extend(
                    first
                        .split("cicd: ignore=")
                        .nth(1)
                        .map(|rules| rules.split(',').map(word))
                        .into_iter()
                        .flatten(),
                );
                continue;
            }
            let mut raw = vec![(line, first.to_string())];
            let mut joined = String::new();
            let mut continues = push_line(&mut joined, first, escape);
            while continues {
                let Some((line, next)) = lines.next() else { break };
                let next = next.trim();
                if next.starts_with('#') || next.is_empty() {
                    continue;
                }
                raw.push((line, next.to_string()));
                continues = push_line(&mut joined, next, escape);
            }
            for end in heredocs(&joined) {
                for (line, next) in lines.by_ref() {
                    if next.trim_start_matches('\t') == end {
                        break;
                    }
                    raw.push((line, next.to_string()));
                    joined.push('\n');
                    joined.push_str(next);
                }
            }
            let (keyword, rest) = joined.split_once(char::is_whitespace).unwrap_or((&joined, ""));
            let (flags, text) = flags(rest.trim());
            instructions.push(Instruction {
                keyword: keyword.to_uppercase(),
                flags,
                text,
                line,
                lines: raw,
                continues,
                ignored: std::mem::take(&mut ignored),
            });
        }
        Dockerfile { instructions }
    }

    /// Its stages, in order.
    pub fn stages(&self) -> Vec<Stage<'_>> {
        let starts: Vec<usize> = (0..self.instructions.len())
            .filter(|at| self.instructions[*at].keyword == "FROM")
            .collect();
        let arguments = self.global_arguments(&BTreeMap::new());
        let ends = starts.iter().skip(1).copied().chain([self.instructions.len()]);
        starts
            .iter()
            .zip(ends)
            .map(|(start, end)| {
                let from = &self.instructions[*start];
                let words: Vec<&str> = from.text.split_whitespace().collect();
                let name = words
                    .iter()
                    .position(|word| word.eq_ignore_ascii_case("as"))
                    .and_then(|at| words.get(at + 1));
                Stage {
                    from,
                    base: filled(words.first().copied().unwrap_or_default(), &arguments),
                    name: name.map(|name| (*name).to_string()),
                    instructions: &self.instructions[start + 1..end],
                }
            })
            .collect()
    }

    /// The ARGs before the first FROM; `arguments` are the build's own.
    pub fn global_arguments(
        &self,
        arguments: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut globals = BTreeMap::new();
        for one in self.instructions.iter().take_while(|one| one.keyword != "FROM") {
            for (name, value) in one.pairs().into_iter().filter(|_| one.keyword == "ARG") {
                let default = value.map(|value| filled(&value, &globals));
                let value = arguments.get(&name).cloned().or(default);
                globals.extend(value.map(|value| (name, value)));
            }
        }
        globals
    }

    /// The stage that is shipped, and those it begins with, the shipped one first: what holds in
    /// the result.
    pub fn shipped<'a>(&'a self, target: Option<&str>) -> Vec<Stage<'a>> {
        let stages = self.stages();
        let by_name = |name: &str| {
            stages.iter().position(|stage| {
                stage.name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name))
            })
        };
        let mut next = match target {
            Some(target) => by_name(target),
            None => stages.len().checked_sub(1),
        };
        let mut found: Vec<Stage<'a>> = Vec::new();
        while let Some(at) = next {
            found.push(stages[at].clone());
            // A base is an earlier stage, so this ends.
            next = by_name(&stages[at].base).filter(|base| *base < at);
        }
        found
    }
}

impl Instruction {
    /// The words of a JSON array, as CMD and ENTRYPOINT take it in their exec form.
    pub fn exec_form(&self) -> Option<Vec<String>> {
        serde_json::from_str(&self.text).ok()
    }

    /// The names, and the values where there are any, of ARG, ENV and LABEL.
    pub fn pairs(&self) -> Vec<(String, Option<String>)> {
        let words = words(&self.text);
        match words.as_slice() {
            // ENV NAME value: the older form.
            [name, rest @ ..] if self.keyword == "ENV" && !name.contains('=') => {
                vec![(name.clone(), Some(rest.join(" ")))]
            }
            words => words
                .iter()
                .map(|word| match word.split_once('=') {
                    Some((name, value)) => (name.to_string(), Some(value.to_string())),
                    None => (word.clone(), None),
                })
                .collect(),
        }
    }

    /// The commands of a RUN, without their line breaks; in its exec form joined by spaces.
    pub fn commands(&self) -> String {
        self.exec_form().map_or_else(|| self.text.clone(), |words| words.join(" "))
    }

    /// The paths of the build context that it reads: sources of COPY and ADD that are no URL or git
    /// repository, and what RUN mounts.
    pub fn context_paths(&self) -> Vec<String> {
        match self.keyword.as_str() {
            "COPY" | "ADD" => {}
            "RUN" => return self.flags.iter().filter_map(|flag| read_bind_mount(flag)).collect(),
            _ => return Vec::new(),
        }
        let is_remote = |source: &String| source.contains("://") || source.starts_with("git@");
        self.sources().into_iter().filter(|source| !is_remote(source)).collect()
    }

    /// The sources that COPY and ADD take from the build context.
    pub fn sources(&self) -> Vec<String> {
        if self.flags.iter().any(|flag| flag.starts_with("--from=")) || self.text.contains("<<") {
            return Vec::new();
        }
        let mut words = self.exec_form().unwrap_or_else(|| words(&self.text));
        words.pop();
        words
    }
}

/// The source of `--mount=type=bind`, which is also the type when none is named, if it is the
/// context's. <https://docs.docker.com/reference/dockerfile/#run---mounttypebind>
fn read_bind_mount(flag: &str) -> Option<String> {
    let options: Vec<(&str, &str)> = flag
        .strip_prefix("--mount=")?
        .split(',')
        .map(|option| option.split_once('=').unwrap_or((option, "")))
        .collect();
    let find = |names: &[&str]| {
        options.iter().find(|(name, _)| names.contains(name)).map(|(_, value)| *value)
    };
    let is_of_context =
        find(&["type"]).is_none_or(|kind| kind == "bind") && find(&["from"]).is_none();
    is_of_context.then(|| find(&["source", "src"]).unwrap_or(".").to_string())
}

fn word(text: &str) -> String {
    text.trim().to_string()
}

/// The escape character: a backslash, or what the directive of the first lines says.
fn escape(text: &str) -> char {
    text.lines()
        .map_while(|line| line.trim().strip_prefix('#'))
        .filter_map(|line| line.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("escape"))
        .and_then(|(_, value)| value.trim().chars().next())
        .unwrap_or('\\')
}

/// Adds a line without its continuation; whether there was one.
fn push_line(joined: &mut String, line: &str, escape: char) -> bool {
    let continued = line.strip_suffix(escape);
    if !joined.is_empty() {
        joined.push(' ');
    }
    joined.push_str(continued.unwrap_or(line).trim_end());
    continued.is_some()
}

/// The words that end the here-documents of an instruction. Each begins with a word of its own,
/// `<<END` or `3<<-"END"`: a shift in a program's text is none.
fn heredocs(text: &str) -> Vec<String> {
    let begins = ["RUN", "COPY", "ADD"].iter().any(|keyword| {
        text.get(..keyword.len()).is_some_and(|start| start.eq_ignore_ascii_case(keyword))
    });
    let ends = text.split_whitespace().filter(|_| begins).filter_map(|word| {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let rest = rest.trim_start_matches('-').trim_start_matches(['"', '\'']);
        let end: String =
            rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        (!end.is_empty() && !rest.starts_with('<')).then_some(end)
    });
    ends.collect()
}

fn flags(mut rest: &str) -> (Vec<String>, String) {
    let mut flags = Vec::new();
    while rest.starts_with("--") {
        let (flag, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        flags.push(flag.to_string());
        rest = after.trim_start();
    }
    (flags, rest.to_string())
}

/// A text's words, quotes and the backslashes before spaces and quotes taken off.
pub fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None | Some('"'), '\\')
                if chars.peek().is_some_and(|next| {
                    matches!(next, '"' | '\\') || quote.is_none() && (*next == ' ' || *next == '\'')
                }) =>
            {
                word.get_or_insert_default().extend(chars.next());
            }
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Variables in a text filled in: `$NAME`, `${NAME}`, and `${NAME:-default}` with its like; what
/// the file does not say stays as it stands.
/// <https://docs.docker.com/reference/dockerfile/#environment-replacement>
pub fn filled(text: &str, arguments: &BTreeMap<String, String>) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, remaining) = match after.strip_prefix('{').and_then(split_braces) {
            Some(braced) => braced,
            None => after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len())),
        };
        let (name, modifier) = name.split_at(name.find(|c| !is_name(c)).unwrap_or(name.len()));
        let value = arguments.get(name).map(String::as_str);
        let (counts, modifier) = match modifier.strip_prefix(':') {
            // With a colon, an empty value is none.
            Some(modifier) => (value.filter(|value| !value.is_empty()), modifier),
            None => (value, modifier),
        };
        let sign = modifier.chars().next();
        let word = || filled(&modifier[1..], arguments);
        let value = match sign {
            None | Some('?') => value.map(str::to_string),
            Some('-') => Some(counts.map_or_else(word, str::to_string)),
            Some('+') => Some(counts.map_or_else(String::new, |_| word())),
            Some(_) => None,
        };
        match value {
            Some(value) => result.push_str(&value),
            None => result.push_str(&rest[before.len()..rest.len() - remaining.len()]),
        }
        rest = remaining;
    }
    result + rest
}

/// What stands in braces that are open already, and what follows them.
fn split_braces(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&text[..at], &text[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_put_together() {
        let text = "# syntax=docker/dockerfile:1\n\nARG BASE=python:3.13\nfrom ${BASE} AS \
            build\nRUN --mount=type=cache,target=/x a && \\\n  # said\n\n  b\nCOPY <<EOF /x\none \
            # two\nEOF\nENV A=1 B=\"two words\"\nENV C three four\nCMD [\"a\", \"b\"]\n";
        let file = Dockerfile::parse(text);
        let seen: Vec<(&str, &str, u64)> = file
            .instructions
            .iter()
            .map(|one| (one.keyword.as_str(), one.text.as_str(), one.line))
            .collect();
        let expected = [
            ("ARG", "BASE=python:3.13", 3),
            ("FROM", "${BASE} AS build", 4),
            ("RUN", "a && b", 5),
            ("COPY", "<<EOF /x\none # two", 9),
            ("ENV", "A=1 B=\"two words\"", 12),
            ("ENV", "C three four", 13),
            ("CMD", "[\"a\", \"b\"]", 14),
        ];
        assert_eq!(seen, expected);
        assert_eq!(file.instructions[2].flags, ["--mount=type=cache,target=/x"]);
        let pair = |name: &str, value: &str| (name.to_string(), Some(value.to_string()));
        assert_eq!(file.instructions[4].pairs(), [pair("A", "1"), pair("B", "two words")]);
        assert_eq!(file.instructions[5].pairs(), [pair("C", "three four")]);
        assert_eq!(file.instructions[6].exec_form(), Some(vec!["a".to_string(), "b".to_string()]));
        let stages = file.stages();
        assert_eq!(
            (stages[0].base.as_str(), stages[0].name.as_deref(), stages.len()),
            ("python:3.13", Some("build"), 1)
        );
    }

    #[test]
    fn words_are_what_a_build_takes_them_for() {
        for (text, expected) in [
            (r"a\ b c", &["a b", "c"][..]),
            (r#"A="x\"y" B='\z'"#, &[r#"A=x"y"#, r"B=\z"]),
            (r"C:\dir\x", &[r"C:\dir\x"]),
            ("\"\" x", &["", "x"]),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    /// A shift begins no here-document; one may have a number, a dash and quotes.
    #[test]
    fn a_shift_is_no_here_document() {
        let file = Dockerfile::parse(
            "FROM x\nRUN python -c \"print(1<<20)\" && echo $((1<<2))\nRUN cat 3<<-\"END\"\nUSER \
             0\nEND\nUSER 1\n",
        );
        let seen: Vec<(&str, u64)> =
            file.instructions.iter().map(|one| (one.keyword.as_str(), one.line)).collect();
        assert_eq!(seen, [("FROM", 1), ("RUN", 2), ("RUN", 3), ("USER", 6)]);
    }

    #[test]
    fn the_shipped_stage_comes_with_those_it_begins_with() {
        let file = Dockerfile::parse(
            "FROM a AS base\nUSER 1\nFROM b AS build\nFROM base AS runtime\nFROM runtime AS \
             debug\n",
        );
        let names = |target| -> Vec<String> {
            file.shipped(target).into_iter().filter_map(|stage| stage.name).collect()
        };
        assert_eq!(names(None), ["debug", "runtime", "base"]);
        assert_eq!(names(Some("build")), ["build"]);
        assert!(names(Some("nope")).is_empty());
    }

    #[test]
    fn arguments_are_filled_in() {
        let arguments = [("V", "3.13"), ("E", "")].map(|(name, value)| (name.into(), value.into()));
        let arguments = BTreeMap::from(arguments);
        for (text, expected) in [
            ("python:$V-slim", "python:3.13-slim"),
            ("python:${V}", "python:3.13"),
            ("python:${W:-3}", "python:3"),
            ("${W-3} ${V-3}", "3 3.13"),
            ("${V:+set}${W:+set}", "set"),
            ("${E:-x}${E-x}${E+y}", "xy"),
            ("${W:-${V}}", "3.13"),
            ("${V:?needed} ${W:?needed}", "3.13 ${W:?needed}"),
            ("${V#3}", "${V#3}"),
            ("python:${W}", "python:${W}"),
            ("$W", "$W"),
            ("plain", "plain"),
        ] {
            assert_eq!(filled(text, &arguments), expected);
        }
    }

    #[test]
    fn nothing_breaks_it() {
        for text in [
            "",
            "\\",
            "RUN \\",
            "FROM",
            "FROM AS",
            "RUN <<EOF",
            "RUN <<",
            "COPY",
            "ENV",
            "ENV =",
            "# escape=`\nRUN a `\n b",
            "\u{feff}FROM x",
            "CMD [",
            "$",
            "FROM ${",
        ] {
            let file = Dockerfile::parse(text);
            file.stages();
            for one in &file.instructions {
                let _ = (one.pairs(), one.exec_form(), one.sources(), one.commands());
            }
        }
    }
}
