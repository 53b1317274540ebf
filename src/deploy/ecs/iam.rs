//! What the roles of a service on ECS have to be allowed. Pure.
//!
//! Which resource an action is on:
//! <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerservice.html>

use serde_json::{Value, json};

use super::edge::EdgeWanted;
use super::live::list_secrets;
use super::render::render_state;
use crate::aws::policy::{ArnBase, Statement};
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
        definition: &documents.task_definition,
    };
    let mut deploy = list_common(order, records);
    deploy.extend(place.list_service());
    deploy.extend(documents.edge.iter().flat_map(|edge| place.list_edge(edge)));
    let execution = match place.definition.get("executionRoleArn") {
        Some(_) => place.list_execution(order),
        None => Vec::new(),
    };
    Ok(collect_policies(order, deploy, [("execution", execution), ("task", list_running(order))]))
}

/// One service in one cluster.
struct Place<'a> {
    base: ArnBase<'a>,
    cluster: &'a str,
    name: &'a str,
    /// The input of RegisterTaskDefinition.
    definition: &'a Value,
}

impl Place<'_> {
    fn ecs(&self, resource: &str) -> String {
        self.base.arn("ecs", resource)
    }

    /// The secrets of Secrets Manager, with the six letters behind their names that only AWS knows.
    fn secrets(&self) -> Vec<String> {
        list_secrets(self.definition).into_iter().map(|(_, arn)| format!("{arn}-??????")).collect()
    }

    fn log_stream(&self) -> String {
        let (cluster, name) = (self.cluster, self.name);
        self.base.arn("logs", &format!("log-group:/ecs/{cluster}:log-stream:{name}/*"))
    }

    fn list_service(&self) -> Vec<Statement> {
        let (cluster, name) = (self.cluster, self.name);
        let cluster_arn = self.ecs(&format!("cluster/{cluster}"));
        let service = self.ecs(&format!("service/{cluster}/{name}"));
        let revisions = self.ecs(&format!("task-definition/{name}:*"));
        let acts = ["ecs:DescribeServices", "ecs:CreateService", "ecs:UpdateService"];
        let definitions = ["ecs:RegisterTaskDefinition", "ecs:DescribeTaskDefinition"];
        let roles = ["executionRoleArn", "taskRoleArn"].into_iter();
        let roles: Vec<String> = roles
            .filter_map(|key| self.definition.get(key)?.as_str().map(str::to_string))
            .collect();
        let mut statements = vec![
            Statement::allow("Cluster", &["ecs:DescribeClusters"], cluster_arn.clone()),
            Statement::allow("Service", &acts, service.clone()),
            Statement::allow_on("Tags", &["ecs:TagResource"], vec![service, revisions]),
            // These have no resource of their own in IAM.
            Statement::allow("Revisions", &definitions, "*"),
            Statement::allow("TaskList", &["ecs:ListTasks"], "*")
                .when(json!({ "ArnEquals": { "ecs:cluster": cluster_arn } })),
            Statement::allow(
                "Tasks",
                &["ecs:DescribeTasks"],
                self.ecs(&format!("task/{cluster}/*")),
            ),
        ];
        if !roles.is_empty() {
            let passed = json!({ "iam:PassedToService": "ecs-tasks.amazonaws.com" });
            statements.push(
                Statement::allow_on("Roles", &["iam:PassRole"], roles)
                    .when(json!({ "StringEquals": passed })),
            );
            statements.push(Statement::allow("Logs", &["logs:GetLogEvents"], self.log_stream()));
        }
        let secrets = self.secrets();
        if !secrets.is_empty() {
            let describe = ["secretsmanager:DescribeSecret"];
            statements.push(Statement::allow_on("Secrets", &describe, secrets));
        }
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
            Statement::allow_on("EdgeTags", &["elasticloadbalancing:AddTags"], tagged),
        ];
        if edge.gateway.is_some() {
            statements.extend(self.list_gateway());
        }
        statements
    }

    /// An HTTP API has an id that nobody knows before it is made.
    fn list_gateway(&self) -> Vec<Statement> {
        let on = |paths: &[&str]| paths.iter().map(|path| self.base.api_gateway(path)).collect();
        let of_api = ["/apis/*/integrations", "/apis/*/routes", "/apis/*/stages"];
        let made = [&["/apis", "/vpclinks"][..], &of_api].concat();
        let tagged = on(&["/apis", "/apis/*", "/vpclinks", "/vpclinks/*"]);
        vec![
            Statement::allow_on(
                "Gateway",
                &["apigateway:GET"],
                on(&["/apis", "/apis/*", "/vpclinks", "/vpclinks/*"]),
            ),
            Statement::allow_on("GatewayParts", &["apigateway:POST"], on(&made)),
            Statement::allow_on("Routes", &["apigateway:PATCH"], on(&["/apis/*/routes/*"])),
            // Of two that were made at once the younger goes; so does a link that failed.
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
        statements.push(Statement::allow("Log", &["logs:PutLogEvents"], self.log_stream()));
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
