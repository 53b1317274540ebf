//! What a preview is on ECS: a service of its own, with its processes, its target group, its rule
//! and its routes. The cluster, the load balancer, the API, its link and its integration are others' too, and stay.

use std::cell::Cell;
use std::time::Duration;

use jiff::Timestamp;

use super::edge::{EdgeWanted, OWNER_TAG};
use super::edge_api::{EdgeApi, is_gone};
use super::live::LiveService;
use super::plan::is_worker_of;
use super::render::{
    ENVIRONMENT_TAG, EcsDocuments, find_tag, last_part, list_processes, name_process,
};
use super::scaling::{ScalingStep, name_count};
use super::schedule::name_group;
use super::{Api, Ecs};
use crate::config::preview::read_service_name;
use crate::deploy::pen::Pen;
use crate::deploy::removal::PreviewSeen;
use crate::deploy::target::{Permit, State};
use crate::error::{Error, Result};

impl Ecs {
    /// Removes the service of a preview and the ways that lead to it alone.
    pub(super) async fn remove_service(
        &self,
        state: &State<EcsDocuments>,
        permit: Permit<'_>,
    ) -> Result<Vec<String>> {
        let extent = Cell::default();
        let pen = Pen::new(permit, &extent).reaching_users();
        let name = state.documents.name();
        let service = self.api.find_service(name).await?;
        let tags = service.as_ref().map(|live| &live.document["tags"]);
        if let Some(tags) = tags {
            let is_ours = find_tag(tags, OWNER_TAG) == Some(name)
                && find_tag(tags, ENVIRONMENT_TAG) == Some(state.environment.as_str());
            if !is_ours {
                return Err(Error::refused(format!("cannot remove ECS service {name}"))
                    .why(format!("its tags do not say that it is {name} of {}", state.environment))
                    .fix("remove it by hand, if nobody needs it"));
            }
        }
        let mut removed = Vec::new();
        let group = match &state.documents.edge {
            Some(wanted) => self.edge.remove_ways(wanted, &mut removed, pen).await?,
            None => None,
        };
        // Those that the service runs, and those that this commit names: they may be others.
        let mut processes = service.as_ref().map(LiveService::processes).unwrap_or_default();
        processes.extend(list_processes(&state.documents).into_iter().map(str::to_string));
        processes.sort();
        processes.dedup();
        for process in &processes {
            self.remove_process(state, process, &mut removed, pen).await?;
        }
        if state.documents.scaling.is_some() {
            let whose = name_count(&state.documents.service);
            self.scaling.apply(&ScalingStep::Deregister(whose), pen).await?;
        }
        if service.is_some_and(|live| live.document["status"] == "ACTIVE") {
            self.api.delete_service(name, pen).await?;
            removed.push(format!("Service/{name}"));
        }
        if let (Some(group), Some(wanted)) = (group, &state.documents.edge) {
            self.edge.delete_target_group(&group, pen).await?;
            removed.push(format!("TargetGroup/{}", wanted.target_group));
        }
        Ok(removed)
    }

    /// Removes the schedule and the service of a process.
    async fn remove_process(
        &self,
        state: &State<EcsDocuments>,
        process: &str,
        removed: &mut Vec<String>,
        pen: Pen<'_>,
    ) -> Result<()> {
        let group = name_group(&state.service, &state.environment);
        if self.schedules.find(&group, process).await?.is_some() {
            self.schedules.delete(&group, process, pen).await?;
            removed.push(format!("Schedule/{process}"));
        }
        let name = name_process(&state.service, process);
        let live = self.api.find_service(&name).await?;
        let of = (&state.environment, state.documents.name());
        if live.is_some_and(|live| is_worker_of(&live, of.0, of.1)) {
            self.api.delete_service(&name, pen).await?;
            removed.push(format!("Service/{name}"));
        }
        Ok(())
    }

    /// The previews of a service, each of which ends so long after its last deploy.
    ///
    /// # Errors
    /// As ECS refuses.
    pub async fn list_previews(&self, service: &str, lasts: Duration) -> Result<Vec<PreviewSeen>> {
        let mut previews = Vec::new();
        for name in self.api.list_services().await? {
            let Some(number) = read_service_name(&name, service) else { continue };
            let Some(live) = self.api.find_service(&name).await? else { continue };
            if live.document["status"] != "ACTIVE"
                || find_tag(&live.document["tags"], OWNER_TAG) != Some(&name)
            {
                continue;
            }
            let deployments = live.document["deployments"].as_array().into_iter().flatten();
            let times = deployments.filter_map(|deployment| {
                let updated = deployment["updatedAt"].as_f64();
                updated.or(deployment["createdAt"].as_f64())
            });
            let last = times.map(|seconds| seconds as i64).max();
            let expires = last.and_then(|last| {
                let lasts = i64::try_from(lasts.as_secs()).ok()?;
                Timestamp::from_second(last.checked_add(lasts)?).ok()
            });
            previews.push(PreviewSeen { number, expires });
        }
        previews.sort_by_key(|preview| preview.number);
        Ok(previews)
    }
}

impl Api {
    /// The names of the cluster's services.
    async fn list_services(&self) -> Result<Vec<String>> {
        let cluster = &self.platform.cluster;
        let list = || {
            let services = self.ecs.list_services().cluster(cluster);
            services.into_paginator().items().send().collect::<Result<Vec<_>, _>>()
        };
        let attempt = format!("list the services of ECS cluster {cluster}");
        let arns = self.caller.read(&attempt, "ecs:ListServices", list).await?;
        Ok(arns.iter().map(|arn| last_part(arn).to_string()).collect())
    }
}

impl EdgeApi {
    /// Removes the routes and the rules that lead to the service alone; gives its target group,
    /// which cannot go before what it serves.
    async fn remove_ways(
        &self,
        wanted: &EdgeWanted,
        removed: &mut Vec<String>,
        pen: Pen<'_>,
    ) -> Result<Option<String>> {
        let found = self.find(wanted).await?;
        if let (Some(gateway), Some((api, _))) = (&wanted.gateway, &found.gateway.api) {
            for key in &gateway.routes {
                let Some(route) = found.gateway.routes.get(key) else { continue };
                let leads_to = route.target.strip_prefix("integrations/");
                // One that leads elsewhere is somebody else's.
                if leads_to.is_none() || leads_to != found.gateway.integration.as_deref() {
                    continue;
                }
                let delete = || self.gateway.delete_route().api_id(api).route_id(&route.id).send();
                let attempt = format!("delete route {key} of API {}", gateway.api);
                is_gone(self.caller.write(&attempt, "apigateway:DELETE", &pen, delete).await)?;
                removed.push(format!("Route/{key}"));
            }
        }
        let Some(group) = found.target_group.map(|group| group.arn) else { return Ok(None) };
        for rule in found.rules.iter().filter(|rule| rule.target_group == group) {
            let delete = || self.balancer.delete_rule().rule_arn(&rule.arn).send();
            let action = "elasticloadbalancing:DeleteRule";
            match self.caller.write("delete the listener's rule", action, &pen, delete).await {
                Err(failure) if failure.is(&["RuleNotFound", "RuleNotFoundException"]) => {}
                deleted => drop(deleted?),
            }
            removed.push(format!("Rule/{}", rule.patterns.join(" ")));
        }
        Ok(Some(group))
    }

    async fn delete_target_group(&self, arn: &str, pen: Pen<'_>) -> Result<()> {
        let delete = || self.balancer.delete_target_group().target_group_arn(arn).send();
        let action = "elasticloadbalancing:DeleteTargetGroup";
        let attempt = format!("delete target group {}", last_part(arn));
        match self.caller.write(&attempt, action, &pen, delete).await {
            Err(failure)
                if failure.is(&["TargetGroupNotFound", "TargetGroupNotFoundException"]) =>
            {
                Ok(())
            }
            deleted => Ok(deleted.map(drop)?),
        }
    }
}
