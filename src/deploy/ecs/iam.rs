//! What the roles of a service on ECS have to be allowed. Pure.
//!
//! Which resource an action is on:
//! <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerservice.html>

use serde_json::{Value, json};

use super::edge::{EdgeWanted, OWNER_TAG};
use super::live::list_secrets;
use super::render::{EcsDocuments, render_state};
use super::schedule::name_group;
use crate::aws::policy::{ArnBase, Statement, partition};
use crate::config::platform::{ApiGateway, Ecs as Platform, Records};
use crate::deploy::Order;
use crate::deploy::iam::{
    Policies, base_of, collect_policies, list_common, list_running, repository_arn,
};
use crate::error::Result;

/// The policies of the roles that deploy, plan, start the tasks and are the tasks'.
///
/// # Errors
/// Bad input for what ECS cannot be told.
pub fn render_policies(
    order: &Order,
    platform: &Platform,
    api_gateway: Option<&ApiGateway>,
    records: Option<&Records>,
) -> Result<Policies> {
    let documents = render_state(order, platform, api_gateway)?.documents;
    let place = Place {
        base: base_of(&order.destination),
        cluster: platform.cluster.rsplit('/').next().unwrap_or_default(),
        name: documents.name(),
        group: name_group(&order.settings.name, &order.settings.environment),
        definition: &documents.task_definition,
        workers: documents.workers.iter().map(EcsDocuments::name).collect(),
    };
    let mut deploy = list_common(order, records);
    deploy.extend(place.list_service());
    if documents.migration.is_some() {
        deploy.extend(place.list_migration());
    }
    if !documents.schedules.is_empty() {
        deploy.extend(place.list_schedules(platform));
    }
    if documents.scaling.is_some() {
        deploy.extend(place.list_scaling());
    }
    deploy.extend(documents.edge.iter().flat_map(|edge| place.list_edge(edge)));
    let execution = match place.definition.get("executionRoleArn") {
        Some(_) => place.list_execution(order),
        None => Vec::new(),
    };
    let scheduler = match documents.schedules.is_empty() {
        true => Vec::new(),
        false => place.list_scheduler(platform),
    };
    let running =
        [("execution", execution), ("task", list_running(order)), ("scheduler", scheduler)];
    Ok(collect_policies(deploy, running))
}

/// One service in one cluster.
struct Place<'a> {
    base: ArnBase<'a>,
    cluster: &'a str,
    name: &'a str,
    /// The group of its schedules.
    group: String,
    /// The input of RegisterTaskDefinition.
    definition: &'a Value,
    /// The services of its processes.
    workers: Vec<&'a str>,
}

impl Place<'_> {
    fn ecs(&self, resource: &str) -> String {
        self.base.arn("ecs", resource)
    }

    /// The secrets of Secrets Manager, with the six letters behind their names that only AWS knows.
    fn secrets(&self) -> Vec<String> {
        list_secrets(self.definition).into_iter().map(|(_, arn)| format!("{arn}-??????")).collect()
    }

    /// The service, and those of its processes: each is a family and a log stream as well.
    fn each<'a>(&'a self, arn: impl Fn(&str) -> String + 'a) -> Vec<String> {
        std::iter::once(self.name).chain(self.workers.iter().copied()).map(arn).collect()
    }

    fn services(&self) -> Vec<String> {
        self.each(|name| self.ecs(&format!("service/{}/{name}", self.cluster)))
    }

    fn cluster_arn(&self) -> String {
        self.ecs(&format!("cluster/{}", self.cluster))
    }

    fn revisions_of(&self, family: &str) -> String {
        self.ecs(&format!("task-definition/{family}:*"))
    }

    fn log_streams(&self) -> Vec<String> {
        let group = format!("log-group:/ecs/{}", self.cluster);
        self.each(|name| self.base.arn("logs", &format!("{group}:log-stream:{name}/*")))
    }

    /// The roles that tasks are given.
    fn roles(&self) -> Vec<String> {
        let roles = ["executionRoleArn", "taskRoleArn"].into_iter();
        roles.filter_map(|key| self.definition.get(key)?.as_str().map(str::to_string)).collect()
    }

    /// To hand over those roles.
    fn list_passing(&self) -> Option<Statement> {
        let passed =
            json!({ "StringEquals": { "iam:PassedToService": "ecs-tasks.amazonaws.com" } });
        let roles = Some(self.roles()).filter(|roles| !roles.is_empty())?;
        Some(Statement::allow_on("Roles", &["iam:PassRole"], roles).when(passed))
    }

    /// To start a task by itself in this cluster.
    fn run_task(&self) -> Statement {
        Statement::allow("RunTask", &["ecs:RunTask"], self.revisions_of(self.name))
            .when(json!({ "ArnEquals": { "ecs:cluster": self.cluster_arn() } }))
    }

    fn list_service(&self) -> Vec<Statement> {
        let cluster_arn = self.cluster_arn();
        let acts = ["ecs:DescribeServices", "ecs:CreateService", "ecs:UpdateService"];
        let definitions = ["ecs:RegisterTaskDefinition", "ecs:DescribeTaskDefinition"];
        let mut tagged = self.services();
        tagged.extend(self.each(|family| self.revisions_of(family)));
        let mut statements = vec![
            Statement::allow("Cluster", &["ecs:DescribeClusters"], cluster_arn.clone()),
            Statement::allow_on("Service", &acts, self.services()),
            Statement::allow_on("Tags", &["ecs:TagResource"], tagged),
            // These have no resource of their own in IAM.
            Statement::allow("Revisions", &definitions, "*"),
            Statement::allow("TaskList", &["ecs:ListTasks"], "*")
                .when(json!({ "ArnEquals": { "ecs:cluster": cluster_arn } })),
            Statement::allow("Tasks", &["ecs:DescribeTasks"], self.tasks()),
        ];
        if let Some(passing) = self.list_passing() {
            statements.push(passing);
            let read = ["logs:GetLogEvents"];
            statements.push(Statement::allow_on("Logs", &read, self.log_streams()));
        }
        statements.extend(self.list_left_over());
        let secrets = self.secrets();
        if !secrets.is_empty() {
            let describe = ["secretsmanager:DescribeSecret"];
            statements.push(Statement::allow_on("Secrets", &describe, secrets));
        }
        statements.push(Statement::allow_on("TrustOfRoles", &["iam:GetRole"], self.roles()));
        // Describing has no resource of its own in IAM.
        let network = ["ec2:DescribeSubnets", "ec2:DescribeSecurityGroups"];
        statements.push(Statement::allow("Network", &network, "*"));
        statements.retain(|statement| !statement.resources.is_empty());
        statements
    }

    fn tasks(&self) -> String {
        self.ecs(&format!("task/{}/*", self.cluster))
    }

    /// `before-deploy`: a task of the new revision, ended when it takes too long.
    fn list_migration(&self) -> Vec<Statement> {
        vec![self.run_task(), Statement::allow("StopTask", &["ecs:StopTask"], self.tasks())]
    }

    /// Processes that `processes` has no longer are unknown here: a worker is told by its tag, a
    /// schedule by its group.
    fn list_left_over(&self) -> Vec<Statement> {
        let workers = self.ecs(&format!("service/{}/{}-*", self.cluster, self.name));
        let tag = format!("aws:ResourceTag/{OWNER_TAG}");
        let ours = json!({ "StringEquals": { tag: self.name } });
        let acts = ["scheduler:GetSchedule", "scheduler:DeleteSchedule"];
        let schedules = self.base.arn("scheduler", &format!("schedule/{}/*", self.group));
        vec![
            Statement::allow("Workers", &["ecs:DeleteService"], workers).when(ours),
            Statement::allow("LeftOver", &acts, schedules),
        ]
    }

    /// Processes with a `schedule`: their group and what is in it.
    fn list_schedules(&self, platform: &Platform) -> Vec<Statement> {
        let of_group = |kind: &str| self.base.arn("scheduler", &format!("{kind}/{}", self.group));
        let acts = ["scheduler:CreateSchedule", "scheduler:UpdateSchedule"];
        let makes = ["scheduler:CreateScheduleGroup", "scheduler:TagResource"];
        let passed = json!({ "iam:PassedToService": "scheduler.amazonaws.com" });
        let role = platform.scheduler.iter().map(|scheduler| {
            Statement::allow("SchedulerRole", &["iam:PassRole"], scheduler.role.clone())
                .when(json!({ "StringEquals": passed }))
        });
        let mut statements = vec![
            Statement::allow("Schedules", &acts, format!("{}/*", of_group("schedule"))),
            Statement::allow("ScheduleGroup", &makes, of_group("schedule-group")),
        ];
        statements.extend(role);
        statements
    }

    /// `autoscale`. Application Auto Scaling makes its role itself, and its alarms in the caller's
    /// name.
    /// <https://docs.aws.amazon.com/autoscaling/application/userguide/security_iam_id-based-policy-examples.html>
    fn list_scaling(&self) -> Vec<Statement> {
        let acts = [
            "application-autoscaling:RegisterScalableTarget",
            "application-autoscaling:DeregisterScalableTarget",
            "application-autoscaling:PutScalingPolicy",
            "application-autoscaling:DeleteScalingPolicy",
        ];
        let looks = [
            "application-autoscaling:DescribeScalableTargets",
            "application-autoscaling:DescribeScalingPolicies",
        ];
        let alarms =
            ["cloudwatch:PutMetricAlarm", "cloudwatch:DescribeAlarms", "cloudwatch:DeleteAlarms"];
        let of_ecs = json!({ "application-autoscaling:service-namespace": "ecs" });
        let scaler = "ecs.application-autoscaling.amazonaws.com";
        let named = json!({ "StringLike": { "iam:AWSServiceName": scaler } });
        let alarm = self
            .base
            .arn("cloudwatch", &format!("alarm:TargetTracking-service/{}/*", self.cluster));
        let role = format!(
            "arn:{}:iam::{}:role/aws-service-role/{scaler}/*",
            partition(self.base.region),
            self.base.account
        );
        vec![
            Statement::allow(
                "Scaling",
                &acts,
                self.base.arn("application-autoscaling", "scalable-target/*"),
            )
            .when(json!({ "StringEquals": of_ecs })),
            Statement::allow("Scaled", &looks, "*"),
            Statement::allow("ScalingAlarms", &alarms, alarm),
            Statement::allow("ScalingRole", &["iam:CreateServiceLinkedRole"], role).when(named),
        ]
    }

    /// What EventBridge Scheduler does by its role.
    fn list_scheduler(&self, platform: &Platform) -> Vec<Statement> {
        let mut statements = vec![self.run_task()];
        statements.extend(self.list_passing());
        let queue = platform.scheduler.as_ref().and_then(|one| one.dead_letter.clone());
        let send = |arn| Statement::allow("DeadLetters", &["sqs:SendMessage"], arn);
        statements.extend(queue.map(send));
        statements
    }

    /// The way from outside: the load balancer, and API Gateway where the platform has it.
    fn list_edge(&self, edge: &EdgeWanted) -> Vec<Statement> {
        let group = format!("targetgroup/{}/*", edge.target_group);
        let group = self.base.arn("elasticloadbalancing", &group);
        // `listener/app/NAME/ID/ID`, and `listener-rule/app/NAME/ID/ID/ID`.
        let rules = edge.listener.replacen(":listener/", ":listener-rule/", 1);
        let reads = [
            "elasticloadbalancing:DescribeListeners",
            "elasticloadbalancing:DescribeLoadBalancers",
            "elasticloadbalancing:DescribeRules",
            "elasticloadbalancing:DescribeTags",
            "elasticloadbalancing:DescribeTargetGroups",
            "elasticloadbalancing:DescribeTargetHealth",
        ];
        let makes =
            ["elasticloadbalancing:CreateTargetGroup", "elasticloadbalancing:ModifyTargetGroup"];
        let tagged = vec![group.clone(), format!("{rules}/*")];
        let mut statements = vec![
            // Describing has no resource of its own in IAM.
            Statement::allow("LoadBalancer", &reads, "*"),
            Statement::allow("TargetGroup", &makes, group),
            Statement::allow("Rule", &["elasticloadbalancing:CreateRule"], edge.listener.clone()),
            // Of an earlier `expose.path`.
            Statement::allow("OldRule", &["elasticloadbalancing:DeleteRule"], format!("{rules}/*")),
            Statement::allow_on("EdgeTags", &["elasticloadbalancing:AddTags"], tagged),
        ];
        if edge.gateway.is_some() {
            statements.extend(self.list_gateway(edge));
        }
        statements
    }

    /// An HTTP API has an id that nobody knows before it is made.
    fn list_gateway(&self, edge: &EdgeWanted) -> Vec<Statement> {
        let gateway = edge.gateway.as_ref();
        let is_guarded = gateway.is_some_and(|gateway| gateway.authorizer.is_some());
        let on = |paths: &[&str]| paths.iter().map(|path| self.base.api_gateway(path)).collect();
        let of_api = ["/apis/*/integrations", "/apis/*/routes", "/apis/*/stages"];
        let mut made = [&["/apis", "/vpclinks"][..], &of_api].concat();
        let mut changed = vec!["/apis/*/routes/*"];
        if is_guarded {
            made.push("/apis/*/authorizers");
            changed.push("/apis/*/authorizers/*");
        }
        if gateway.is_some_and(|gateway| gateway.server_name.is_some()) {
            changed.push("/apis/*/integrations/*");
        }
        let tagged = on(&["/apis", "/apis/*", "/vpclinks", "/vpclinks/*"]);
        vec![
            Statement::allow_on(
                "Gateway",
                &["apigateway:GET"],
                on(&["/apis", "/apis/*", "/vpclinks", "/vpclinks/*"]),
            ),
            Statement::allow_on("GatewayParts", &["apigateway:POST"], on(&made)),
            Statement::allow_on("Routes", &["apigateway:PATCH"], on(&changed)),
            // Of two that were made at once the younger goes; so do a link that failed and the
            // routes of an earlier `expose.path`.
            Statement::allow_on(
                "TakenBack",
                &["apigateway:DELETE"],
                on(&["/apis/*", "/vpclinks/*"]),
            ),
            Statement::allow_on("GatewayTags", &["apigateway:TagResource"], tagged),
        ]
    }

    /// What ECS itself does before a container starts, and the log driver while it runs.
    fn list_execution(&self, order: &Order) -> Vec<Statement> {
        let pull =
            ["ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"];
        let group = self.base.arn("logs", &format!("log-group:/ecs/{}:*", self.cluster));
        let mut statements =
            vec![Statement::allow("Registry", &["ecr:GetAuthorizationToken"], "*")];
        statements.extend(repository_arn(order).map(|arn| Statement::allow("Image", &pull, arn)));
        let streams = ["logs:CreateLogGroup", "logs:CreateLogStream"];
        statements.push(Statement::allow("LogGroup", &streams, group));
        statements.push(Statement::allow_on("Log", &["logs:PutLogEvents"], self.log_streams()));
        let secrets = self.secrets();
        if !secrets.is_empty() {
            let read = ["secretsmanager:GetSecretValue"];
            statements.push(Statement::allow_on("Secrets", &read, secrets));
        }
        let parameters = self.parameters();
        if !parameters.is_empty() {
            let read = ["ssm:GetParameters"];
            statements.push(Statement::allow_on("Parameters", &read, parameters));
        }
        statements
    }

    /// The parameters of Systems Manager that variables come from.
    fn parameters(&self) -> Vec<String> {
        let containers = self.definition["containerDefinitions"].as_array().into_iter().flatten();
        let secrets = containers.flat_map(|one| one["secrets"].as_array().into_iter().flatten());
        let from = secrets.filter_map(|secret| secret["valueFrom"].as_str());
        from.filter(|arn| arn.contains(":ssm:")).map(str::to_string).collect()
    }
}
