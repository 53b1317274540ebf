//! `render --iam`: the policies are enough, and each action in them is needed. The emulated AWS asks
//! for each call's action and resource, and for what AWS wants beside it.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::ecs::Place;
use crate::iam::User;
use crate::support::{Repository, Run, cicd, run, stack};

/// The policies of an environment, by role.
fn render(folder: &std::path::Path, environment: &str, platform: &str) -> Value {
    let mut command = cicd(folder);
    command.args(["render", "--iam", "--environment", environment, "--platform", platform]);
    // Nobody is asked.
    command.env_remove("AWS_ENDPOINT_URL").env_remove("AWS_ACCESS_KEY_ID");
    serde_json::from_str(&run(&mut command).ended(0).stdout).expect("JSON")
}

/// Every action of a policy.
fn actions(policy: &Value) -> BTreeSet<String> {
    let statements = policy["Statement"].as_array().expect("statements");
    let lists = statements.iter().flat_map(|one| one["Action"].as_array().expect("a list"));
    lists.map(|action| action.as_str().expect("a text").to_string()).collect()
}

/// The policy without an action.
fn without(policy: &Value, action: &str) -> String {
    let mut policy = policy.clone();
    let statements = policy["Statement"].as_array_mut().expect("statements");
    for statement in statements.iter_mut() {
        statement["Action"].as_array_mut().expect("a list").retain(|one| *one != action);
    }
    statements.retain(|statement| statement["Action"] != serde_json::json!([]));
    policy.to_string()
}

/// Without these nobody looks which platforms the image is for; the deploy goes on.
const LOOKS_AT_PLATFORMS: [&str; 3] =
    ["ecr:BatchGetImage", "ecr:GetAuthorizationToken", "ecr:GetDownloadUrlForLayer"];

fn aws(arguments: &[&str]) -> Run {
    run(Command::new("aws").args(arguments))
}

/// Who deploys with what is rendered, to a place where nothing is yet: not even the API, as it is
/// the place's own.
struct Deployer {
    place: Place,
    /// The security group of its own VPC link.
    group: String,
    policy: Value,
    user: User,
    seen: BTreeSet<String>,
    /// What was not denied, or not explained.
    wrong: Vec<String>,
}

impl Deployer {
    fn new(service: &str) -> Deployer {
        let place = Place::new("ecs-iam");
        let name = &place.name;
        let platform = std::fs::read_to_string(stack("INPUT_PLATFORM")).expect("platform.yaml");
        let group = create_group(name, &platform);
        let platform = platform
            .replace("clinicult-cicd-records", &format!("{name}-records"))
            .replace("clinicult-public", &format!("api-{name}"))
            .replace("security-groups: [", &format!("security-groups: [{group}, "));
        place.repository.write("own.yaml", &platform);
        aws(&["s3", "mb", &format!("s3://{name}-records")]).ended(0);
        place.service(&service.replace("NAME", name));
        let policy = render(place.repository.path(), "production", "own.yaml")["deploy"].clone();
        let user = User::new(format!("user-{name}"), r#"["sts:GetCallerIdentity"]"#);
        Deployer { place, group, policy, user, seen: BTreeSet::new(), wrong: vec![] }
    }

    fn deploy(&self, policy: &str) -> Run {
        self.user.has_policy(policy);
        let mut command = self.place.command("1.0.0");
        run(self.user.on(command.args(["--platform", "own.yaml"])))
    }

    fn deploy_allowed(&self) -> Run {
        self.deploy(&self.policy.to_string())
    }

    /// From here on the VPC links of the place do not work.
    fn fail_links(&self) {
        let links = aws(&["apigatewayv2", "get-vpc-links", "--output", "json"]).ended(0).json();
        let is_ours = |link: &&Value| link["SecurityGroupIds"].to_string().contains(&self.group);
        for link in links["Items"].as_array().expect("links").iter().filter(is_ours) {
            let id = link["VpcLinkId"].as_str().expect("an id");
            let url = format!("{}/_stack/vpc-links/{id}?status=FAILED", stack("AWS_ENDPOINT_URL"));
            run(Command::new("curl").args(["-sf", "-X", "PUT", &url])).ended(0);
        }
    }

    /// Without this action the deploy ends badly, and says which one it lacks.
    fn is_denied_without(&mut self, action: &str) {
        assert!(actions(&self.policy).contains(action), "{action} is in no statement");
        let denied = self.deploy(&without(&self.policy, action));
        let error = &denied.json()["error"];
        let told = format!("{} {}", error["fix"], error["causes"]);
        if denied.code == 0 || !told.contains(action) {
            self.wrong.push(format!("{action}: {denied}"));
        }
        self.seen.insert(action.to_string());
    }
}

/// Creates a security group where the platform's tasks run.
fn create_group(name: &str, platform: &str) -> String {
    let subnet = platform.split("subnets: [").nth(1).and_then(|rest| rest.split([',', ']']).next());
    let subnet = subnet.expect("a subnet");
    let query = ["--query", "Subnets[0].VpcId", "--output", "text"];
    let vpc = run(Command::new("aws")
        .args(["ec2", "describe-subnets", "--subnet-ids", subnet])
        .args(query));
    let vpc = vpc.ended(0).stdout.trim().to_string();
    let create = ["ec2", "create-security-group", "--group-name", name, "--description", "test"];
    let query = ["--query", "GroupId", "--output", "text"];
    let created = run(Command::new("aws").args(create).args(["--vpc-id", &vpc]).args(query));
    created.ended(0).stdout.trim().to_string()
}

impl Drop for Deployer {
    fn drop(&mut self) {
        aws(&["ec2", "delete-security-group", "--group-id", &self.group]);
    }
}

const SERVICE: &str =
    "storage: [{name: files, env: FILES_BUCKET}]\nsecrets: {DB: 'secretsmanager:NAME/db'}\n";

#[test]
fn each_action_of_a_deploy_to_ecs_is_needed_and_together_they_are_enough() {
    let mut deployer = Deployer::new(SERVICE);
    let name = deployer.place.name.clone();
    let secret = format!("{name}/db");
    aws(&["secretsmanager", "create-secret", "--name", &secret, "--secret-string", "s"]).ended(0);
    let bucket = format!("{name}-files-production-111122223333");

    // The first deploy, up to each call in turn.
    let reads = [
        "ecr:DescribeImages",
        "s3:GetObject",
        "ecs:DescribeClusters",
        "ecs:DescribeServices",
        "elasticloadbalancing:DescribeListeners",
        "elasticloadbalancing:DescribeLoadBalancers",
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeRules",
        "apigateway:GET",
        "s3:PutObject",
        "s3:CreateBucket",
    ];
    reads.iter().for_each(|action| deployer.is_denied_without(action));
    for action in [
        "s3:PutBucketPublicAccessBlock",
        "s3:PutBucketOwnershipControls",
        "s3:PutEncryptionConfiguration",
        "s3:PutBucketVersioning",
    ] {
        deployer.is_denied_without(action);
        aws(&["s3api", "delete-bucket", "--bucket", &bucket]).ended(0);
    }
    for action in [
        "elasticloadbalancing:CreateTargetGroup",
        "elasticloadbalancing:AddTags",
        "elasticloadbalancing:CreateRule",
        "ecs:RegisterTaskDefinition",
        "ecs:TagResource",
        "iam:PassRole",
        "ecs:CreateService",
        "apigateway:POST",
        "apigateway:TagResource",
    ] {
        deployer.is_denied_without(action);
    }
    let first = deployer.deploy_allowed().ended(0);
    assert_eq!(first.json()["status"], "deployed", "{first}");

    // What a change needs beside.
    let change = |deployer: &Deployer, text: &str| {
        deployer.place.service(&format!("{}{text}", SERVICE.replace("NAME", &name)));
    };
    deployer.is_denied_without("s3:ListBucket");
    deployer.is_denied_without("ecs:DescribeTaskDefinition");
    change(&deployer, "env: {GREETING: hello}\n");
    deployer.is_denied_without("ecs:UpdateService");
    for action in ["ecs:ListTasks", "elasticloadbalancing:DescribeTargetHealth"] {
        deployer.is_denied_without(action);
    }
    // Each is a change of its own: ECS takes up what is new.
    for (action, text) in [("logs:GetLogEvents", "now"), ("ecs:DescribeTasks", "again")] {
        change(&deployer, &format!("env: {{CRASH: {text}}}\n"));
        deployer.is_denied_without(action);
    }
    let file = deployer.place.repository.path().join("service.yaml");
    change(&deployer, "");
    let text = std::fs::read_to_string(&file).expect("service.yaml");
    let text = text.replace("health: {startup: 20s", "health: {path: /other, startup: 20s");
    deployer.place.repository.write("service.yaml", &text);
    deployer.is_denied_without("elasticloadbalancing:ModifyTargetGroup");
    deployer.deploy_allowed().ended(0);

    // A link that failed is replaced: routes turn to the new one, then the old one goes, for want
    // of which nothing fails.
    deployer.fail_links();
    let warned = deployer.deploy(&without(&deployer.policy, "apigateway:DELETE"));
    if warned.code != 0 || !warned.stderr.contains("apigateway:DELETE") {
        deployer.wrong.push(format!("apigateway:DELETE: {warned}"));
    }
    deployer.seen.insert("apigateway:DELETE".into());
    deployer.fail_links();
    deployer.is_denied_without("apigateway:PATCH");
    deployer.deploy_allowed().ended(0);

    // Another path: the rule of the old one is ours, and goes last.
    let text = std::fs::read_to_string(&file).expect("service.yaml");
    let moved = text.replace("expose: {path: /", "expose: {path: /moved-");
    deployer.place.repository.write("service.yaml", &moved);
    deployer.is_denied_without("elasticloadbalancing:DescribeTags");
    let warned = deployer.deploy(&without(&deployer.policy, "elasticloadbalancing:DeleteRule"));
    if warned.code != 0 || !warned.stderr.contains("elasticloadbalancing:DeleteRule") {
        deployer.wrong.push(format!("elasticloadbalancing:DeleteRule: {warned}"));
    }
    deployer.seen.insert("elasticloadbalancing:DeleteRule".into());

    // Without these nobody looks whether secret, roles and network are there; the deploy goes on. The
    // last three are for processes that there were.
    let unasked = [
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "iam:GetRole",
        "s3:GetBucketVersioning",
        "secretsmanager:DescribeSecret",
        "ecs:DeleteService",
        "scheduler:GetSchedule",
        "scheduler:DeleteSchedule",
    ];
    for action in unasked.into_iter().chain(LOOKS_AT_PLATFORMS) {
        deployer.seen.insert(action.into());
    }
    assert_eq!(deployer.seen, actions(&deployer.policy));
    assert!(deployer.wrong.is_empty(), "{}", deployer.wrong.join("\n"));
    for command in [
        vec!["secretsmanager", "delete-secret", "--secret-id", &secret],
        vec!["s3", "rb", &format!("s3://{bucket}"), "--force"],
        vec!["s3", "rb", &format!("s3://{name}-records"), "--force"],
    ] {
        aws(&command);
    }
}

/// Inside of the cluster an access entry decides, which lets this user do everything in the namespace.
#[test]
fn each_action_of_a_deploy_to_eks_is_needed_and_together_they_are_enough() {
    let place = crate::eks::Place::new("iam");
    let folder = place.repository.path();
    let platform = std::fs::read_to_string(folder.join("platform.yaml")).expect("platform.yaml");
    let namespace = platform.split("namespace: ").nth(1).and_then(|rest| rest.split('}').next());
    let namespace = namespace.expect("a namespace");
    let records = format!("{namespace}-records");
    place.repository.write("platform.yaml", &platform.replace("clinicult-cicd-records", &records));
    aws(&["s3", "mb", &format!("s3://{records}")]).ended(0);
    let user = User::new(format!("user-{namespace}"), r#"["sts:GetCallerIdentity"]"#);
    let group = format!("deployers-{namespace}");
    let mut bind = Command::new("kubectl");
    bind.args(["-n", namespace, "create", "rolebinding", "cicd", "--clusterrole=admin"]);
    run(bind.arg(format!("--group={group}"))).ended(0);
    user.enters(&group);
    let deploy = |policy: &str| {
        user.has_policy(policy);
        run(user.on(&mut place.command("1.0.0", crate::probe::digest_of("1.0.0"))))
    };
    place.service("");
    let policy = render(folder, "staging", "platform.yaml")["deploy"].clone();
    let mut wrong = Vec::new();
    let all = actions(&policy);
    // The emulated S3 says of a missing object that it is missing, whoever asks.
    let asked = |action: &&String| {
        *action != "s3:ListBucket" && !LOOKS_AT_PLATFORMS.contains(&action.as_str())
    };
    for action in all.iter().filter(asked) {
        let denied = deploy(&without(&policy, action));
        let error = &denied.json()["error"];
        if denied.code == 0 || !format!("{} {}", error["fix"], error["causes"]).contains(action) {
            wrong.push(format!("{action}: {denied}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let known = [
        "ecr:BatchGetImage",
        "ecr:DescribeImages",
        "ecr:GetAuthorizationToken",
        "ecr:GetDownloadUrlForLayer",
        "eks:DescribeCluster",
        "s3:GetObject",
        "s3:ListBucket",
        "s3:PutObject",
    ];
    assert_eq!(all.iter().map(String::as_str).collect::<Vec<_>>(), known);
    for action in LOOKS_AT_PLATFORMS {
        deploy(&without(&policy, action)).ended(0);
    }
    deploy(&policy.to_string()).ended(0);
    aws(&["s3", "rb", &format!("s3://{records}"), "--force"]);
}

/// What starts the tasks and what they run as: each call is allowed, on this service's things alone.
#[test]
fn the_policies_of_what_runs_are_for_its_own_things() {
    let deployer = Deployer::new(SERVICE);
    let name = deployer.place.name.clone();
    let all = render(deployer.place.repository.path(), "production", "own.yaml");
    let (bucket, other) =
        (format!("{name}-files-production-111122223333"), format!("{name}-other"));
    for secret in ["db", "other"] {
        let id = format!("{name}/{secret}");
        aws(&["secretsmanager", "create-secret", "--name", &id, "--secret-string", "s"]).ended(0);
    }
    for bucket in [&bucket, &other] {
        aws(&["s3", "mb", &format!("s3://{bucket}")]).ended(0);
    }
    let repository = format!("clinicult/{name}");
    let stream = |service: &str| format!("{service}/{service}/task");
    let (own_stream, other_stream) = (stream(&name), stream("other"));
    let events = "timestamp=1,message=m";
    let group = "/ecs/clinicult";
    for stream in [&own_stream, &other_stream] {
        aws(&["logs", "create-log-stream", "--log-group-name", group, "--log-stream-name", stream]);
    }
    let (own_secret, other_secret) = (format!("{name}/db"), format!("{name}/other"));
    let digest = crate::probe::digest_of("1.0.0");
    let image = format!("imageDigest={digest}");
    struct Call<'a> {
        role: &'static str,
        action: &'static str,
        /// On the service's own, and on another's; none where IAM knows no resource.
        own: Vec<&'a str>,
        other: Option<Vec<&'a str>>,
    }
    let get = |id| vec!["secretsmanager", "get-secret-value", "--secret-id", id];
    let batch = |id| vec!["ecr", "batch-get-image", "--repository-name", id, "--image-ids", &image];
    let log = |stream| {
        let put = ["logs", "put-log-events", "--log-group-name", group];
        [&put[..], &["--log-stream-name", stream, "--log-events", events]].concat()
    };
    let list = |bucket| vec!["s3api", "list-objects-v2", "--bucket", bucket];
    let object = |verb, bucket| vec!["s3api", verb, "--bucket", bucket, "--key", "k"];
    let execution = |action, own, other| Call { role: "execution", action, own, other };
    let task = |action, own, other| Call { role: "task", action, own, other };
    let calls = [
        execution("ecr:GetAuthorizationToken", vec!["ecr", "get-authorization-token"], None),
        execution("ecr:BatchGetImage", batch(&repository), Some(batch("clinicult/probe"))),
        execution("secretsmanager:GetSecretValue", get(&own_secret), Some(get(&other_secret))),
        execution("logs:PutLogEvents", log(&own_stream), Some(log(&other_stream))),
        task("s3:ListBucket", list(&bucket), Some(list(&other))),
        task("s3:PutObject", object("put-object", &bucket), Some(object("put-object", &other))),
        task(
            "s3:DeleteObject",
            object("delete-object", &bucket),
            Some(object("delete-object", &other)),
        ),
    ];
    for Call { role, action, own, other } in calls {
        let call = |policy: &str, arguments: &[&str]| {
            deployer.user.has_policy(policy);
            let ended = run(deployer.user.on(Command::new("aws").args(arguments)));
            let is_denied = format!("{ended}").contains("AccessDenied");
            assert!(is_denied || ended.code == 0, "{role} {action}: {ended}");
            !is_denied
        };
        let policy = all[role].to_string();
        assert!(call(&policy, &own), "{role} may not {action}");
        assert!(!call(&without(&all[role], action), &own), "{role} needs no {action}");
        if let Some(other) = other {
            assert!(!call(&policy, &other), "{role} may {action} on another's");
        }
    }
    for bucket in [&bucket, &other] {
        aws(&["s3", "rb", &format!("s3://{bucket}"), "--force"]);
    }
    for secret in [&own_secret, &other_secret] {
        aws(&["secretsmanager", "delete-secret", "--secret-id", secret]);
    }
}

/// Every IAM action that the code names is in a policy, so that a new call is not forgotten.
#[test]
fn every_action_that_a_deploy_or_a_push_names_is_in_a_policy() {
    let repository = Repository::new();
    repository.write(
        "service.yaml",
        "name: p\nport: 8000\nexpose: {path: /p}\nautoscale: {min: 1, max: 2, cpu: 50}\nbefore-deploy: {command: [m]}\n\
         processes: {w: {command: [w]}, n: {command: [n], schedule: 0 3 * * *}}\nscan: {}\nimage: {sbom: 'docker/scout@sha256:1'}\n\
         storage: [{name: files, env: FILES}]\nenvironments:\n  ecs:\n    secrets: {A: 'secretsmanager:p/db', B: 'ssm:/p/b'}\n",
    );
    repository.write(
        "platform.yaml",
        "registry: {account: '111122223333', region: eu-west-1, prefix: c/, kms-key: alias/images}\n\
         records: {bucket: r, region: eu-west-1}\n\
         environments:\n  eks: {target: eks, region: eu-west-1, eks: {cluster: c, namespace: n}}\n  \
         ecs:\n    target: ecs\n    region: eu-west-1\n    api-gateway: {name: a}\n    ecs: {cluster: c, \
         subnets: [s], security-groups: [g], listener: 'arn:aws:elasticloadbalancing:eu-west-1:111122223333:listener/app/l/1/2', \
         execution-role: 'arn:aws:iam::111122223333:role/x', scheduler: {role: 'arn:aws:iam::111122223333:role/s'}}\n",
    );
    let mut known = BTreeSet::new();
    for environment in ["eks", "ecs"] {
        let rendered = render(repository.path(), environment, "platform.yaml");
        rendered
            .as_object()
            .expect("roles")
            .values()
            .for_each(|policy| known.extend(actions(policy)));
    }
    // By `--repair` alone; in advice on keys of others; to create the bucket of the ledger; to remove
    // a preview, for which nothing is rendered.
    known.extend(
        [
            "ecr:PutImageTagMutability",
            "ecr:PutImageScanningConfiguration",
            "kms:Decrypt",
            "kms:GenerateDataKey",
            "s3:PutBucketPolicy",
            "ecs:ListServices",
            "elasticloadbalancing:DeleteTargetGroup",
        ]
        .map(str::to_string),
    );
    let literal = regex::Regex::new(
        r#""((?:apigateway|application-autoscaling|ec2|ecr|ecs|eks|elasticloadbalancing|events|iam|inspector2|kms|logs|s3|scheduler|secretsmanager|servicequotas|ssm):[A-Za-z]+)""#,
    )
    .expect("a pattern");
    let mut missing = BTreeSet::new();
    for file in crate::house::words::sources() {
        let path = file.to_string_lossy();
        let asks = ["src/deploy/", "src/registry/", "src/ledger/", "src/aws/"];
        if !asks.iter().any(|room| path.contains(room)) || path.ends_with("iam.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("a source file");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (_, [action]) in literal.captures_iter(code).map(|found| found.extract()) {
            if !known.contains(action) {
                missing.insert(format!("{action} in {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "add them to the statements of an iam.rs: {missing:#?}");
}
