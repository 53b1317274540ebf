//! What is said to EventBridge Scheduler. SDK types end here.

use serde_json::Value;

use super::edge::OWNER_TAG;
use crate::aws::Session;
use crate::aws::call::{Caller, Failure};
use crate::aws::document::exchange;
use crate::deploy::pen::Pen;
use crate::error::Result;

pub struct ScheduleApi {
    caller: Caller,
    client: aws_sdk_scheduler::Client,
}

impl ScheduleApi {
    pub fn new(session: &Session) -> ScheduleApi {
        let caller = Caller::new(session);
        ScheduleApi { client: aws_sdk_scheduler::Client::new(caller.config()), caller }
    }

    /// A schedule as it is; `None` when there is none.
    pub async fn find(&self, group: &str, name: &str) -> Result<Option<Value>> {
        let get = self.client.get_schedule().group_name(group).name(name);
        let get =
            || exchange(None, |exchange| get.clone().customize().interceptor(exchange).send());
        let attempt = format!("find schedule {name} in group {group}");
        match self.caller.read(&attempt, "scheduler:GetSchedule", get).await {
            Err(failure) if failure.is(&["ResourceNotFoundException"]) => Ok(None),
            answer => Ok(Some(answer?)),
        }
    }

    /// Creates a schedule, with its group where that is missing.
    pub async fn create(&self, document: &Value, owner: &str, pen: Pen<'_>) -> Result<()> {
        let (group, name) = (text(document, "GroupName"), text(document, "Name"));
        let create = self.client.create_schedule_group().name(group);
        let tag = aws_sdk_scheduler::types::Tag::builder().key(OWNER_TAG).value(owner).build();
        let create = create.set_tags(tag.ok().map(|tag| vec![tag]));
        let create = || create.clone().send();
        let attempt = format!("create the schedule group {group}");
        is_there(self.caller.write(&attempt, "scheduler:CreateScheduleGroup", &pen, create).await)?;
        let body = body_of(document);
        let create = || {
            exchange(Some(&body), |exchange| {
                self.client.create_schedule().name(name).customize().interceptor(exchange).send()
            })
        };
        let attempt = format!("create schedule {name} in group {group}");
        let pen = pen.reaching_users();
        match self.caller.write(&attempt, "scheduler:CreateSchedule", &pen, create).await {
            // By a try of ours whose answer was lost, or by somebody else a moment ago.
            Err(failure) if failure.is(&["ConflictException"]) => self.update(document, pen).await,
            created => Ok(created.map(drop)?),
        }
    }

    /// Replaces a schedule.
    pub async fn update(&self, document: &Value, pen: Pen<'_>) -> Result<()> {
        let (group, name) = (text(document, "GroupName"), text(document, "Name"));
        let body = body_of(document);
        let update = || {
            exchange(Some(&body), |exchange| {
                self.client.update_schedule().name(name).customize().interceptor(exchange).send()
            })
        };
        let attempt = format!("update schedule {name} in group {group}");
        let pen = pen.reaching_users();
        self.caller.write(&attempt, "scheduler:UpdateSchedule", &pen, update).await?;
        Ok(())
    }

    pub async fn delete(&self, group: &str, name: &str, pen: Pen<'_>) -> Result<()> {
        let delete = || self.client.delete_schedule().group_name(group).name(name).send();
        let attempt = format!("delete schedule {name} in group {group}");
        match self.caller.write(&attempt, "scheduler:DeleteSchedule", &pen, delete).await {
            Err(failure) if failure.is(&["ResourceNotFoundException"]) => Ok(()),
            deleted => Ok(deleted.map(drop)?),
        }
    }
}

/// The body of a request: the name stands in its path.
fn body_of(document: &Value) -> Value {
    let mut body = document.clone();
    body.as_object_mut().map(|fields| fields.remove("Name"));
    body
}

fn text<'a>(document: &'a Value, key: &str) -> &'a str {
    document[key].as_str().unwrap_or_default()
}

/// What is there already need not be made.
fn is_there<T>(created: Result<T, Failure>) -> Result<(), Failure> {
    match created {
        Err(failure) if !failure.is(&["ConflictException"]) => Err(failure),
        _ => Ok(()),
    }
}
