//! Scheduled processes as schedules of EventBridge: what is wanted, and what differs. Pure.
//!
//! A schedule starts a task of the service's own revision with the process's command. The documents
//! are the inputs of CreateSchedule; the revision is known only when they are sent.
//! <https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html>

use serde_json::{Value, json};

use super::cron;
use super::merge::copy_deep;
use crate::config::platform::Ecs as Platform;
use crate::config::settings::Runs;
use crate::deploy::diff::compare_documents;
use crate::deploy::{Action, Change, Order, short_name};
use crate::error::{Error, Result};

/// What GetSchedule says beside the document that was sent, and what it fills in.
const ANSWERED: [&str; 3] = ["Arn", "CreationDate", "LastModificationDate"];

/// A schedule that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleWrite {
    /// The input of CreateSchedule or UpdateSchedule, but for the revision.
    pub document: Value,
    /// As it was, for the rollback. `None` for one that is made.
    pub before: Option<Value>,
}

/// The schedules of an order. `service` is the input of CreateService, whose network the tasks get.
///
/// # Errors
/// Bad input for a schedule that EventBridge cannot be told, and for a platform without the role.
pub fn render_schedules(
    order: &Order,
    platform: &Platform,
    service: &Value,
    partition: &str,
) -> Result<Vec<Value>> {
    let settings = &order.settings;
    let mut documents = Vec::new();
    for process in &settings.processes {
        let Runs::Scheduled { schedule, timezone } = &process.runs else { continue };
        let scheduler = platform.scheduler.as_ref().ok_or_else(|| {
            Error::input(format!(
                "cannot run `processes.{}` in environment {}: nobody may start its tasks",
                process.name, settings.environment
            ))
            .why("EventBridge Scheduler starts them by a role")
            .fix(format!(
                "set environments.{}.ecs.scheduler in platform.yaml: {{role: ARN}}; the role trusts \
                 scheduler.amazonaws.com and may ecs:RunTask, and iam:PassRole on the tasks' roles",
                settings.environment
            ))
        })?;
        let expression = cron::to_expression(schedule).map_err(|why| {
            Error::input(format!(
                "cannot run `processes.{}` by schedule `{schedule}`: {why}",
                process.name
            ))
            .fix("write cron's five fields: schedule: 0 3 * * *")
        })?;
        let (region, account) =
            (&order.destination.region, order.destination.account.as_deref().unwrap_or_default());
        let cluster = match platform.cluster.starts_with("arn:") {
            true => platform.cluster.clone(),
            false => {
                format!("arn:{partition}:ecs:{region}:{account}:cluster/{}", platform.cluster)
            }
        };
        let network = &service["networkConfiguration"]["awsvpcConfiguration"];
        let command = json!({ "containerOverrides": [
            { "name": service["serviceName"], "command": process.command },
        ] });
        let mut target = json!({
            "Arn": cluster,
            "RoleArn": scheduler.role,
            "EcsParameters": {
                "TaskDefinitionArn": service["taskDefinition"],
                "TaskCount": 1,
                "LaunchType": service["launchType"],
                "NetworkConfiguration": { "awsvpcConfiguration": {
                    "Subnets": network["subnets"],
                    "SecurityGroups": network["securityGroups"],
                    "AssignPublicIp": network["assignPublicIp"],
                } },
                "PropagateTags": "TASK_DEFINITION",
                "EnableECSManagedTags": true,
            },
            "Input": command.to_string(),
            "RetryPolicy": {
                "MaximumRetryAttempts": scheduler.retries,
                "MaximumEventAgeInSeconds": scheduler.max_age.0.as_secs(),
            },
        });
        if let Some(queue) = &scheduler.dead_letter {
            target["DeadLetterConfig"] = json!({ "Arn": queue });
        }
        documents.push(json!({
            "Name": process.name,
            "GroupName": name_group(&settings.name, &settings.environment),
            "ScheduleExpression": expression,
            "ScheduleExpressionTimezone": timezone.as_deref().unwrap_or("UTC"),
            "FlexibleTimeWindow": { "Mode": "OFF" },
            "Target": target,
        }));
    }
    Ok(documents)
}

/// The group of a service's schedules in one environment.
pub fn name_group(service: &str, environment: &str) -> String {
    short_name(&format!("{service}-{environment}"), 64)
}

/// Puts the revision that its tasks run into a schedule.
pub fn set_revision(document: &mut Value, revision: &str) {
    document["Target"]["EcsParameters"]["TaskDefinitionArn"] = json!(revision);
}

/// What has to be written so that the found schedules are the wanted ones. `revision` is what the
/// service runs already; `None` where it gets a new one.
pub fn plan_schedules(
    wanted: &[Value],
    found: &[Option<Value>],
    revision: Option<&str>,
) -> (Vec<ScheduleWrite>, Vec<Change>) {
    let (mut writes, mut changes) = (Vec::new(), Vec::new());
    for (wanted, found) in wanted.iter().zip(found) {
        let object = format!("Schedule/{}", wanted["Name"].as_str().unwrap_or_default());
        let mut document = wanted.clone();
        let Some(before) = found else {
            let details = ["ScheduleExpression", "ScheduleExpressionTimezone"]
                .map(|key| format!("{key}: {}", wanted[key].as_str().unwrap_or_default()));
            changes.push(Change { action: Action::Create, object, details: details.into() });
            writes.push(ScheduleWrite { document, before: None });
            continue;
        };
        let before = without_answered(before);
        copy_deep(&before, &mut document);
        let mut details = Vec::new();
        match revision {
            Some(revision) => set_revision(&mut document, revision),
            None => {
                let runs = &before["Target"]["EcsParameters"]["TaskDefinitionArn"];
                set_revision(&mut document, runs.as_str().unwrap_or_default());
                details.push("runs the new task definition".to_string());
            }
        }
        details.extend(compare_documents(&before, &document, &[]));
        if !details.is_empty() {
            changes.push(Change { action: Action::Update, object, details });
            writes.push(ScheduleWrite { document, before: Some(before) });
        }
    }
    (writes, changes)
}

/// An answer of GetSchedule as the input of UpdateSchedule, which replaces the whole of it.
fn without_answered(answer: &Value) -> Value {
    let mut document = answer.clone();
    if let Some(fields) = document.as_object_mut() {
        fields.retain(|key, value| !ANSWERED.contains(&key.as_str()) && !value.is_null());
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Value {
        json!({
            "Name": "nightly", "GroupName": "patients-production",
            "ScheduleExpression": "cron(0 3 * * ? *)", "ScheduleExpressionTimezone": "UTC",
            "FlexibleTimeWindow": { "Mode": "OFF" },
            "Target": {
                "Arn": "cluster", "RoleArn": "role", "Input": "{}",
                "EcsParameters": { "TaskDefinitionArn": "patients", "TaskCount": 1 },
            },
        })
    }

    fn found() -> Value {
        let mut found = wanted();
        set_revision(&mut found, "arn:…/patients:6");
        found["Arn"] = json!("arn");
        found["CreationDate"] = json!(1.5);
        found["State"] = json!("ENABLED");
        found
    }

    #[test]
    fn a_schedule_is_written_where_it_differs() {
        let with = |edit: fn(&mut Value)| {
            let mut live = found();
            edit(&mut live);
            live
        };
        struct Case {
            title: &'static str,
            live: Option<Value>,
            revision: Option<&'static str>,
            expected: &'static [&'static str],
        }
        let same = Some("arn:…/patients:6");
        let case = |title, live, revision, expected| Case { title, live, revision, expected };
        let cases = [
            case("none", None, None, &["Create Schedule/nightly"]),
            case("the same", Some(found()), same, &[]),
            case("a new revision", Some(found()), None, &["Update Schedule/nightly"]),
            case(
                "another time",
                Some(with(|live| live["ScheduleExpression"] = json!("rate(1 day)"))),
                same,
                &["Update Schedule/nightly"],
            ),
            case("put to sleep", Some(with(|live| live["State"] = json!("DISABLED"))), same, &[]),
            case(
                "another revision",
                Some(found()),
                Some("arn:…/patients:5"),
                &["Update Schedule/nightly"],
            ),
        ];
        for Case { title, live, revision, expected } in cases {
            let (writes, changes) = plan_schedules(&[wanted()], &[live], revision);
            let names = changes.iter().map(|one| format!("{:?} {}", one.action, one.object));
            assert_eq!(names.collect::<Vec<_>>(), expected, "{title}");
            assert_eq!(writes.len(), expected.len(), "{title}");
            for write in writes.iter().filter(|write| write.before.is_some()) {
                assert_eq!(write.document["State"], "ENABLED", "what others set is sent again");
                assert_eq!(write.document.get("CreationDate"), None, "{title}");
            }
        }
    }
}
