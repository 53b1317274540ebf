//! Messages of commits that nobody would write; see [`crate::fuzz`].

use super::commit;
use crate::fuzz::{text_of, try_inputs};

const MESSAGES: [&str; 34] = [
    "feat: a",
    "fix(api)!: b",
    "feat!(a): c",
    "FEAT(scope with space): d",
    "chore(release): 1.2.3 [skip ci]",
    "Revert \"feat: a\"",
    "Reapply \"feat: a\"",
    "Revert \"Revert \"Revert \"",
    "Merge pull request #12 from o/branch",
    "Merge branch 'main' into x",
    "Merged PR 7: title",
    " (#12)",
    " (#99999999999999999999)",
    "(#)",
    "\n\n",
    "\r\n\r\n",
    "BREAKING CHANGE: x",
    "BREAKING-CHANGE #x",
    "BREAKING CHANGE:",
    "* feat: listed\n",
    "- fix: listed\n\n",
    "```\n",
    "~~~~\n",
    "> ",
    "<details>\n",
    "</details>\n",
    "This reverts commit 4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c4f1c.\n",
    "This reverts commit , reversing\nchanges made to ",
    "This reverts pull request #3.\n",
    "Signed-off-by: Ada <ada@example.org>\n",
    "Co-authored-by: x\n",
    "---------\n",
    ": ",
    "!",
];

#[test]
fn any_message_is_read() {
    try_inputs(text_of(&MESSAGES), |message| {
        let read = commit::read_message(&message);
        assert!(!read.subject.contains('\n'), "{read:?}");
        let _ = commit::strip_number(&read.title);
        for header in read.header.iter().chain(&read.listed) {
            assert!(!header.kind.is_empty(), "{header:?}");
        }
    });
}
