//! `rollback`: deploys the stored state of an earlier record again.

use super::Context;
use super::announce::announce_deploy;
use super::deploy::{conclude_deploy, open_site, resolve_environment};
use super::guard::refuse_run;
use super::intent::{make_intent, read_run_facts};
use crate::cli::RollbackArgs;
use crate::digest::Digest;
use crate::error::{Code, Error, Result};
use crate::ledger::{Head, Phase, Record, RecordKind, RecordResult};

/// How many records are looked through, newest first.
const RECORDS: usize = 500;

pub async fn roll_back(context: &Context, arguments: &RollbackArgs) -> Result<()> {
    let environment = context.environment()?;
    let step = context.report.step("rollback");
    let (_, destination) = resolve_environment(context, environment).await?;
    refuse_run(context, environment, &destination)?;
    let site = open_site(context, environment, None).await?;
    let ledger = site.ledger()?;
    let (head, mut records) = (ledger.read_head().await?, ledger.list_records(RECORDS).await?);
    // A number may name one that is older than all of these.
    if let Ok(number) = arguments.to.parse()
        && let Some(record) = ledger.read_record(number).await?
    {
        records.push(record);
    }
    let record = choose_record(&arguments.to, &head, &records)?;
    refuse_irreversible(record, &records, arguments.force)?;
    let image = record.run.digest.as_ref().map_or("an image of another kind", Digest::as_str);
    context
        .report
        .detail(format!("back to record {}: {} ({image})", record.number, record.run.version));
    let facts = read_run_facts(context);
    let mut intent =
        make_intent(context, &facts, RecordKind::Rollback, &arguments.reason, arguments.timeout);
    // What is deployed again was built from that commit, whatever is checked out now.
    intent.commit.clone_from(&record.run.commit);
    let named = (record.run.version.as_str(), record.run.digest.as_ref());
    let announcement = announce_deploy(context, &site, named, &intent).await;
    let result = site.deploy_record(record, intent).await;
    announcement.conclude(&result).await;
    conclude_deploy(context, step, &result?);
    Ok(())
}

/// The record that `to` means: `previous`, a record's number, a digest or a version. Only a record
/// that ended well is one to go back to. Pure.
fn choose_record<'a>(to: &str, head: &Head, records: &'a [Record]) -> Result<&'a Record> {
    let good = || records.iter().filter(|record| record.good && record.state_hash.is_some());
    let number = to.parse::<u64>().ok();
    if let Some(number) = number
        && let Some(record) = records.iter().find(|record| record.number == number)
    {
        if record.good && record.state_hash.is_some() {
            return Ok(record);
        }
        return Err(Error::refused(format!("cannot roll back to record {number}"))
            .why(format!("that deploy did not end well: {}", record.result.word()))
            .fix(describe_choice(good())));
    }
    let found = match to {
        "previous" => find_previous(head, good()),
        digest if digest.starts_with("sha256:") => good()
            .find(|record| record.run.digest.as_ref().is_some_and(|own| own.as_str() == digest)),
        version => {
            let version = version.strip_prefix('v').unwrap_or(version);
            good().find(|record| record.run.version == version)
        }
    };
    found.ok_or_else(|| {
        Error::refused(format!("cannot roll back to {to}"))
            .why("the ledger has no such record that ended well")
            .fix(describe_choice(good()))
    })
}

/// Refuses to go below a migration that says of itself that it cannot be taken back, unless a person
/// takes that upon them. A migration that `to` had as well is none below it. Pure.
fn refuse_irreversible(to: &Record, records: &[Record], force: bool) -> Result<()> {
    let has_begun = |record: &Record| {
        record.good
            || record.killed_in.is_some()
            || record.phases.iter().any(|phase| phase.name == Phase::Migrate)
    };
    let is_below = |record: &&Record| {
        let (ours, theirs) = (&to.run, &record.run);
        record.number > to.number
            && !theirs.irreversible.is_empty()
            && (&theirs.irreversible, &theirs.digest) != (&ours.irreversible, &ours.digest)
            && has_begun(record)
    };
    let Some(record) = records.iter().find(is_below).filter(|_| !force) else { return Ok(()) };
    let (number, version) = (record.number, &record.run.version);
    Err(Error::refused(format!(
        "cannot roll back to record {} ({}): a migration since cannot be taken back",
        to.number, to.run.version
    ))
    .code(Code::IrreversibleMigration)
    .why(format!(
        "record {number} ({version}) ran `{}`, which is `irreversible` in its service.yaml",
        record.run.irreversible.join(" ")
    ))
    .fix(format!(
        "go forward: correct {version} and deploy that; or, if {} works with the data as they are \
         now, repeat the command with --force",
        to.run.version
    )))
}

/// The good record before what was deployed last: the last good one, where that ended badly and
/// was not rolled back. After a rollback it is the one before the version that was gone back to:
/// going back twice never goes forward.
fn find_previous<'a>(
    head: &Head,
    good: impl Iterator<Item = &'a Record> + Clone,
) -> Option<&'a Record> {
    let present = head.good.as_ref()?;
    let is_present = |record: &&Record| record.state_hash == present.state_hash;
    if head
        .last
        .as_ref()
        .is_some_and(|last| last.number > present.number && !goes_back(last.result))
    {
        return good.filter(is_present).find(|record| record.number == present.number);
    }
    let first_deployed = good
        .clone()
        .filter(is_present)
        .find(|record| record.number <= present.number && record.run.kind != RecordKind::Rollback);
    let present_number = first_deployed.map_or(present.number, |record| record.number);
    good.filter(|record| record.number < present_number).find(|record| !is_present(record))
}

/// Whether a deploy that ended so left the last good version, or one that is newer, to run.
fn goes_back(result: RecordResult) -> bool {
    matches!(result, RecordResult::RolledBack | RecordResult::Superseded)
}

/// What could have been chosen.
fn describe_choice<'a>(good: impl Iterator<Item = &'a Record>) -> String {
    let choice: Vec<String> = good
        .take(5)
        .map(|record| format!("record {} ({})", record.number, record.run.version))
        .collect();
    match choice.is_empty() {
        true => "deploy a version first: there is nothing to go back to".into(),
        false => format!("choose one of: {}; `cicd history` shows all", choice.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::ledger::{HeadEntry, PhaseTime, Run, StateHash};

    fn record(number: u64, version: &str, good: bool) -> Record {
        Record {
            number,
            good,
            result: if good { RecordResult::Deployed } else { RecordResult::RolledBack },
            run: Run {
                version: version.into(),
                digest: Some(Digest::of(version.as_bytes())),
                ..Run::default()
            },
            state_hash: Some(StateHash::of(version.as_bytes())),
            ..Record::default()
        }
    }

    #[test]
    fn only_what_ended_well_is_gone_back_to() {
        // Newest first. Record 4 is a second deploy of what record 3 brought.
        let records = [
            record(6, "4.0.0", false),
            record(5, "3.0.0", true),
            record(4, "3.0.0", true),
            record(3, "2.0.0", true),
            record(2, "1.5.0", false),
            record(1, "1.0.0", true),
        ];
        let head = Head { good: Some(HeadEntry::from(&records[1])), ..Head::default() };
        let digest = Digest::of(b"1.0.0").to_string();
        struct Case<'a> {
            to: &'a str,
            record: Option<u64>,
        }
        let cases = [
            Case { to: "previous", record: Some(3) },
            Case { to: "1", record: Some(1) },
            Case { to: "6", record: None },
            Case { to: "99", record: None },
            Case { to: "3.0.0", record: Some(5) },
            Case { to: "v2.0.0", record: Some(3) },
            Case { to: "1.5.0", record: None },
            Case { to: &digest, record: Some(1) },
            Case { to: "sha256:9", record: None },
        ];
        for Case { to, record } in cases {
            match (choose_record(to, &head, &records), record) {
                (Ok(found), Some(number)) => assert_eq!(found.number, number, "{to}"),
                (Err(error), None) => {
                    assert_eq!(error.kind, Kind::Refused, "{to}");
                    assert!(error.advice().contains("record 5 (3.0.0)"), "{to}: {error:?}");
                }
                (found, _) => panic!("{to}: {:?}", found.map(|record| record.number)),
            }
        }
        assert!(choose_record("previous", &Head::default(), &[]).is_err());
    }

    #[test]
    fn below_an_irreversible_migration_nobody_goes_without_force() {
        let migrating = |number, version, command: &str| {
            let mut record = record(number, version, true);
            record.run.irreversible = vec![command.into()];
            record
        };
        let mut refused = migrating(5, "3", "drop");
        refused.good = false;
        let mut failed = refused.clone();
        failed.phases = vec![PhaseTime { name: Phase::Migrate, seconds: 1.0 }];
        let killed = Record { killed_in: Some(Phase::Apply), ..refused.clone() };
        struct Case {
            newer: Record,
            to: Record,
            refused: bool,
        }
        let case = |newer, to, refused| Case { newer, to, refused };
        let cases = [
            case(record(2, "2", true), record(1, "1", true), false),
            case(migrating(2, "2", "drop"), record(1, "1", true), true),
            case(migrating(2, "2", "drop"), migrating(1, "1", "drop"), true),
            // The same image and command: it did not run again.
            case(migrating(2, "1", "drop"), migrating(1, "1", "drop"), false),
            case(migrating(2, "1", "drop"), migrating(1, "1", "other"), true),
            // Forward, after a rollback.
            case(migrating(2, "2", "drop"), migrating(2, "2", "drop"), false),
            case(migrating(2, "2", "drop"), record(3, "3", true), false),
            // One that was refused before it began changed nothing.
            case(refused, record(1, "1", true), false),
            case(failed, record(1, "1", true), true),
            case(killed, record(1, "1", true), true),
        ];
        for Case { newer, to, refused } in cases {
            let records = [newer, to.clone()];
            let answer = refuse_irreversible(&to, &records, false);
            assert_eq!(answer.is_err(), refused, "{records:?}");
            if let Err(error) = answer {
                assert_eq!(error.kind, Kind::Refused);
                assert!(error.advice().contains("--force"), "{error:?}");
            }
            refuse_irreversible(&to, &records, true).expect("forced");
        }
    }

    #[test]
    fn going_back_twice_never_goes_forward() {
        let back = |number, version| {
            let mut record = record(number, version, true);
            record.run.kind = RecordKind::Rollback;
            record
        };
        // What was deployed, newest first; what `previous` means then.
        let cases: [(&[Record], Option<u64>); 5] = [
            (&[record(1, "1", true)], None),
            (&[record(2, "2", true), record(1, "1", true)], Some(1)),
            (&[back(3, "1"), record(2, "2", true), record(1, "1", true)], None),
            (
                &[back(4, "2"), record(3, "3", true), record(2, "2", true), record(1, "1", true)],
                Some(1),
            ),
            (
                &[record(4, "3", true), back(3, "1"), record(2, "2", true), record(1, "1", true)],
                Some(3),
            ),
        ];
        for (records, expected) in cases {
            let head = Head { good: records.first().map(HeadEntry::from), ..Head::default() };
            let found = choose_record("previous", &head, records).ok();
            assert_eq!(found.map(|record| record.number), expected, "{records:?}");
        }
    }

    #[test]
    fn after_a_deploy_that_ended_badly_previous_is_the_last_good() {
        use RecordResult::{Failed, Interrupted, Killed, RolledBack, Superseded, TimedOut};
        let good = [record(2, "2", true), record(1, "1", true)];
        for (result, expected) in [
            (Failed, 2),
            (TimedOut, 2),
            (Interrupted, 2),
            (Killed, 2),
            (RolledBack, 1),
            (Superseded, 1),
        ] {
            let last = HeadEntry { result, ..HeadEntry::from(&record(3, "3", false)) };
            let head =
                Head { last: Some(last), good: Some(HeadEntry::from(&good[0])), ..Head::default() };
            let found = choose_record("previous", &head, &good).expect("a record");
            assert_eq!(found.number, expected, "{result:?}");
        }
    }
}
