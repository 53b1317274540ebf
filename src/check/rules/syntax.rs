//! Rules for what BuildKit would refuse, or read otherwise than it is meant. Pure.

use super::facts::{DockerfileFacts, Said};
use crate::check::dockerfile::{Instruction, KEYWORDS};

pub fn find_broken_continuations(facts: &DockerfileFacts<'_>) -> Vec<Said> {
    let mut said = Vec::new();
    for one in &facts.dockerfile.instructions {
        if ["&&", "||", "|", ";"].contains(&one.keyword.as_str()) || one.keyword.starts_with("--") {
            let fix = format!("end line {} with ` \\`", one.line.saturating_sub(1));
            said.push((
                one.line,
                format!(
                    "`{}` begins an instruction: the line before does not go on",
                    one.lines[0].1
                ),
                fix,
            ));
        }
        if one.continues {
            let last = one.lines.last().map_or(one.line, |(line, _)| *line);
            said.push((
                last,
                "the last line ends with the sign that it goes on".into(),
                "take the `\\` away".into(),
            ));
        }
        // These take an instruction as their argument.
        let takes = ["HEALTHCHECK", "ONBUILD"].contains(&one.keyword.as_str());
        for (line, text) in one.lines.iter().skip(1).filter(|_| !takes) {
            let first = text.split_whitespace().next().unwrap_or_default();
            // In upper case, as everybody writes them: `copy` may well be a command.
            if !one.text.contains("<<") && KEYWORDS.contains(&first) && text.contains(' ') {
                let message = format!(
                    "`{first}` is taken for a part of {} of line {}, which goes on before it",
                    one.keyword, one.line
                );
                said.push((*line, message, "take the `\\` before it away".into()));
            }
        }
        for (line, text) in
            one.lines.iter().filter(|_| one.keyword == "RUN" && !one.text.contains("<<"))
        {
            // A backslash inside a line is an escaped space for the shell: a line break was lost
            // there.
            if text.contains("&& \\ ") || text.contains("| \\ ") || text.contains("; \\ ") {
                said.push((
                    *line,
                    "a `\\` stands inside the line, where a line break was lost".into(),
                    "break the line after it".into(),
                ));
            }
        }
    }
    said
}

pub fn find_unknown_instructions(facts: &DockerfileFacts<'_>) -> Vec<Said> {
    let known = |one: &&Instruction| {
        let sign = !one.keyword.starts_with(|c: char| c.is_ascii_alphabetic());
        sign || KEYWORDS.contains(&one.keyword.as_str())
    };
    let unknown = facts.dockerfile.instructions.iter().filter(|one| !known(one));
    unknown
        .map(|one| {
            let near = KEYWORDS
                .iter()
                .min_by_key(|known| strsim::damerau_levenshtein(&one.keyword, known))
                .unwrap_or(&"RUN");
            (
                one.line,
                format!("there is no instruction `{}`", one.keyword),
                format!("did you mean `{near}`? Or end the line before with ` \\`"),
            )
        })
        .collect()
}

pub fn find_unknown_target(facts: &DockerfileFacts<'_>) -> Vec<Said> {
    match facts.target {
        Some(target) if facts.shipped().is_empty() => {
            let line = facts.all(&["FROM"]).last().map_or(1, |from| from.line);
            vec![(
                line,
                format!(
                    "no stage is named `{target}`, which `image.target` of service.yaml asks for"
                ),
                format!("`FROM … AS {target}`"),
            )]
        }
        _ => Vec::new(),
    }
}
