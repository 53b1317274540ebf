//! What each stable code means, which exit codes it comes with, and what to do: the text of
//! docs/errors.md. Pure.

use super::Code;

/// A code's row in docs/errors.md.
#[derive(Clone, Copy, Debug)]
pub struct CodeEntry {
    pub meaning: &'static str,
    /// The exit codes of the runs that it was seen in.
    pub exits: &'static [u8],
    /// What to do, begun with a verb.
    pub action: &'static str,
}

/// After apply, by how the deploy ended: rolled back, broken, timed out.
const AFTER_APPLY: &[u8] = &[4, 5, 6];

/// Refused at once, or found after apply.
const ANY_TIME: &[u8] = &[3, 4, 5, 6];

impl Code {
    pub const ALL: [Code; 24] = [
        Code::ImageNotFound,
        Code::ImagePullRefused,
        Code::ContainerExited,
        Code::OutOfMemory,
        Code::ProbeFailed,
        Code::Unschedulable,
        Code::SecretUnavailable,
        Code::AccessDenied,
        Code::StartFailed,
        Code::RolloutFailed,
        Code::QuotaExceeded,
        Code::MigrationFailed,
        Code::SmokeCheckFailed,
        Code::DeadlineExceeded,
        Code::LockHeld,
        Code::Frozen,
        Code::OlderRun,
        Code::IrreversibleMigration,
        Code::BranchNotAllowed,
        Code::NotProven,
        Code::LedgerUnavailable,
        Code::ContractBroken,
        Code::TestsFailed,
        Code::ScanFindings,
    ];

    /// The code's word, as serde writes it.
    pub fn word(self) -> String {
        let word = serde_json::to_value(self).ok();
        word.and_then(|word| word.as_str().map(str::to_string)).unwrap_or_default()
    }

    /// What docs/errors.md says of the code.
    pub fn entry(self) -> CodeEntry {
        let entry = |meaning, exits, action| CodeEntry { meaning, exits, action };
        match self {
            Code::ImageNotFound => entry(
                "The image, or its tag or platform, is not in the registry",
                ANY_TIME,
                "push it with `cicd push-ecr`, and deploy the digest that it prints",
            ),
            Code::ImagePullRefused => entry(
                "The node or task may not pull the image, or does not reach the registry",
                AFTER_APPLY,
                "give the node's or the task's execution role the ECR actions that the cause names, \
                 or a way to the registry",
            ),
            Code::ContainerExited => entry(
                "A container ended although it should keep running",
                AFTER_APPLY,
                "read the last log lines in the cause, and run the image on a laptop: \
                 `cicd run --environment local`",
            ),
            Code::OutOfMemory => entry(
                "A container was killed because it used more memory than it may",
                AFTER_APPLY,
                "raise `resources.memory` in service.yaml, or find what uses it",
            ),
            Code::ProbeFailed => entry(
                "The container runs and does not answer its health check",
                AFTER_APPLY,
                "see that the service listens on `port` on all addresses and answers \
                 `health.path`; raise `health.startup` if it only needs time",
            ),
            Code::Unschedulable => entry(
                "No node, instance or capacity takes the workload",
                AFTER_APPLY,
                "lower `resources` or `replicas`, or add capacity to the cluster",
            ),
            Code::SecretUnavailable => entry(
                "A secret, or a key of it, is missing or unreadable",
                ANY_TIME,
                "create the secret that the cause names, or correct `secrets` in service.yaml",
            ),
            Code::AccessDenied => entry(
                "Permission was denied",
                ANY_TIME,
                "add the statement that the fix prints to the role that it names; docs/iam.md has \
                 them all",
            ),
            Code::StartFailed => entry(
                "The platform cannot start the container: what it needs beside the image is out \
                 of reach",
                AFTER_APPLY,
                "read the platform's words in the cause: a file system, a network interface or \
                 the place of its logs is missing",
            ),
            Code::RolloutFailed => entry(
                "The platform itself gave the rollout up, without a cause that can be seen",
                &[4, 5],
                "read the service's events in the platform's console, and run it again",
            ),
            Code::QuotaExceeded => entry(
                "A quota of the account or the namespace is used up",
                ANY_TIME,
                "free some of it, or have the quota raised",
            ),
            Code::MigrationFailed => entry(
                "The command `before-deploy` failed; nothing was deployed",
                &[8],
                "read its last log lines in the cause, and correct `before-deploy.command` or what \
                 it runs",
            ),
            Code::SmokeCheckFailed => entry(
                "The service does not answer at the address that users use",
                &[4, 5],
                "ask the address in the error from where users are, and see that routes and \
                 security groups lead to the service",
            ),
            Code::DeadlineExceeded => entry(
                "Nothing of the above came within the deadline",
                &[5, 6],
                "see what was waited for; give it longer with `--timeout` if it only needs time",
            ),
            Code::LockHeld => entry(
                "Another run holds the lock, or took it over",
                &[7],
                "wait for the run that the error links, and run again if this version is still \
                 wanted",
            ),
            Code::Frozen => entry(
                "A person froze the environment",
                &[7],
                "wait until the end that the error names, or ask who froze it for `cicd unlock`",
            ),
            Code::OlderRun => entry(
                "A newer run deployed meanwhile, or before",
                &[7],
                "leave it: a newer version is there; `cicd rollback` goes back on purpose",
            ),
            Code::IrreversibleMigration => entry(
                "A migration since the version to go back to cannot be taken back",
                &[3],
                "go forward with a corrected version, or repeat the rollback with `--force`",
            ),
            Code::BranchNotAllowed => entry(
                "The run's branch may not deploy to the environment",
                &[3],
                "merge it, or add the branch to `environments.NAME.branches` in platform.yaml",
            ),
            Code::NotProven => entry(
                "The image was not good in the environment that comes before",
                &[3],
                "deploy it there first; `cicd history --environment NAME` shows how that ended",
            ),
            Code::LedgerUnavailable => entry(
                "The ledger cannot be read or written",
                &[1, 3, 5, 6],
                "run it again; if it stays, look at the bucket `records` of platform.yaml and at \
                 the role's permission for it",
            ),
            Code::TestsFailed => entry(
                "A test of the service failed, or its tests could not run",
                &[8],
                "correct what the cause names; `cicd test` runs them the same way on a laptop",
            ),
            Code::ContractBroken => entry(
                "The image does not keep its contract",
                &[8],
                "mend what each cause names; docs/contract.md has every rule",
            ),
            Code::ScanFindings => entry(
                "The scan of the image found what may not be deployed",
                &[8],
                "update the packages in the cause, or allow a finding with a reason and an end in \
                 `scan.allow`",
            ),
        }
    }
}

/// Writes docs/errors.md.
pub fn render_page() -> String {
    let mut page = String::from(
        "# Stable codes of failures\n\nGenerated from the code; `./dev fmt` writes it anew. A code \
         keeps its name and its meaning once it is published.\n\n\
         It stands in `error.code` of `--output json`, in `code` of each cause there, in `causes` \
         of the ledger's records, and in brackets behind what people read. The exit code says how \
         the run ended (README.md has the table), the code says why. What each looks like and how \
         to find out more is in [troubleshooting.md](troubleshooting.md).\n\n\
         | code | means | exit | what to do |\n|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let (word, entry) = (code.word(), code.entry());
        let exits: Vec<String> = entry.exits.iter().map(u8::to_string).collect();
        let (meaning, action) = (entry.meaning, entry.action);
        let exits = exits.join(", ");
        page += &format!(
            "| [`{word}`](troubleshooting.md#{word}) | {meaning} | {exits} | {action} |\n"
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_page_once() {
        let page = render_page();
        let declared = include_str!("../error.rs").split_once("pub enum Code {\n");
        let declared = declared.and_then(|(_, rest)| rest.split_once("\n}\n")).expect("an enum").0;
        let variants = declared.lines().map(str::trim).filter(|line| !line.starts_with("///"));
        let variants: Vec<&str> = variants.map(|line| line.trim_end_matches(',')).collect();
        let listed: Vec<String> = Code::ALL.iter().map(|code| format!("{code:?}")).collect();
        assert_eq!(listed, variants, "Code::ALL has each code, in their order");
        for code in Code::ALL {
            let entry = code.entry();
            assert_eq!(page.matches(&format!("| [`{}`]", code.word())).count(), 1, "{code:?}");
            assert!(!entry.meaning.is_empty() && !entry.exits.is_empty(), "{code:?}");
            let begins = entry.action.chars().next();
            assert!(begins.is_some_and(char::is_lowercase), "{code:?}: {}", entry.action);
        }
    }
}
