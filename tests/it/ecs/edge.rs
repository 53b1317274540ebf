//! The way to a service from outside: its routes, their authorizers and the listener behind them.

use std::process::Command;

use serde_json::Value;

use super::{Place, url};
use crate::probe::digest_of;
use crate::support::{Run, http_get, http_status, run, stack};

fn aws(arguments: &[&str]) -> Value {
    let ended = run(Command::new("aws").args(arguments).args(["--output", "json"])).ended(0);
    serde_json::from_str(&ended.stdout).unwrap_or(Value::Null)
}

/// The id of the HTTP API of this name.
fn api_id(name: &str) -> String {
    let apis = aws(&["apigatewayv2", "get-apis"]);
    let mut items = apis["Items"].as_array().expect("APIs").iter();
    let api = items.find(|api| api["Name"] == name).unwrap_or_else(|| panic!("no API {name}"));
    api["ApiId"].as_str().expect("an id").to_string()
}

fn routes_of(api: &str, path: &str) -> Vec<Value> {
    let routes = aws(&["apigatewayv2", "get-routes", "--api-id", api]);
    let all = routes["Items"].as_array().expect("routes").iter();
    let of_path = |route: &&Value| {
        let key = route["RouteKey"].as_str().unwrap_or_default();
        key == format!("ANY {path}") || key == format!("ANY {path}/{{proxy+}}")
    };
    all.filter(of_path).cloned().collect()
}

impl Place {
    /// Deploys with the stack's platform.yaml, some of it replaced.
    fn deploy_on(&self, replaced: &[(&str, &str)], version: &str) -> Run {
        let mut platform = std::fs::read_to_string(stack("INPUT_PLATFORM")).expect("platform.yaml");
        for (from, to) in replaced {
            assert!(platform.contains(from), "{platform}");
            platform = platform.replace(from, to);
        }
        self.repository.write("other.yaml", &platform);
        run(self.command(version).args(["--platform", "other.yaml"]))
    }
}

/// A token is asked for in front of the service: the smoke check has none.
#[test]
fn what_an_authorizer_answers_is_no_failure_of_the_service() {
    let place = Place::new("ecs-jwt");
    place.service("");
    let first = place.deploy("1.0.0").ended(0);
    let (url, api) = (url(&first), api_id("clinicult-public"));
    let jwt = "Audience=a,Issuer=https://issuer.example";
    let made = aws(&[
        "apigatewayv2",
        "create-authorizer",
        "--api-id",
        &api,
        "--name",
        &place.name,
        "--authorizer-type",
        "JWT",
        "--identity-source",
        "$request.header.Authorization",
        "--jwt-configuration",
        jwt,
    ]);
    let authorizer = made["AuthorizerId"].as_str().expect("an id");
    for route in routes_of(&api, &format!("/{}", place.name)) {
        let route = route["RouteId"].as_str().expect("an id");
        let guard = ["--authorization-type", "JWT", "--authorizer-id", authorizer];
        let update = ["apigatewayv2", "update-route", "--api-id", &api, "--route-id", route];
        aws(&[&update[..], &guard[..]].concat());
    }
    assert_eq!(http_status(&format!("{url}/healthz")), 401);
    assert_eq!(place.deploy("1.0.0").ended(0).json()["status"], "unchanged");
    let second = place.deploy("2.0.0").ended(0);
    assert!(second.stderr.contains("answers 401 to the smoke check"), "{second}");

    // A service that itself answers 401 is not well.
    let place = Place::new("ecs-401");
    place.service("env: {STATUS_OUTSIDE: '401'}\n");
    let refused = place.deploy("1.0.0");
    assert_eq!(refused.code, 5, "{refused}");
    assert!(refused.stderr.contains("it answered 401"), "{refused}");
}

/// The authorizer of platform.yaml stands in front of the routes from their first moment.
#[test]
fn routes_are_made_with_the_authorizer_of_the_platform() {
    let place = Place::new("ecs-auth");
    place.service("");
    let api = format!("{}-api", place.name);
    let gateway = |more: &str| format!("api-gateway: {{name: {api}{more}}}");
    let jwt = |issuer: &str| {
        gateway(&format!(", authorizer: {{jwt: {{issuer: 'https://{issuer}', audience: [a]}}}}"))
    };
    let from = "api-gateway: {name: clinicult-public}";
    let first = place.deploy_on(&[(from, &jwt("one.example"))], "1.0.0").ended(0);
    assert!(first.changed().contains(&"Authorizer/cicd".to_string()), "{first}");
    let id = api_id(&api);
    let path = format!("/{}", place.name);
    let routes = routes_of(&id, &path);
    assert_eq!(routes.len(), 2, "{routes:?}");
    for route in &routes {
        assert_eq!(route["AuthorizationType"], "JWT", "{route}");
    }
    assert_eq!(http_status(&format!("{}/healthz", url(&first))), 401);
    let before = place.writes();
    let again = place.deploy_on(&[(from, &jwt("one.example"))], "1.0.0").ended(0);
    assert_eq!(again.json()["status"], "unchanged", "{again}");
    assert_eq!(place.writes(), before);
    let moved = place.deploy_on(&[(from, &jwt("two.example"))], "1.0.0").ended(0);
    assert_eq!(moved.changed(), ["Authorizer/cicd"]);
    // Taken out of platform.yaml, it goes on guarding: nothing is opened in silence.
    let kept = place.deploy_on(&[(from, &gateway(""))], "1.0.0").ended(0);
    assert_eq!(kept.json()["status"], "unchanged", "{kept}");
    assert_eq!(http_status(&format!("{}/healthz", url(&first))), 401);
}

#[test]
fn an_earlier_path_is_closed_when_the_new_one_answers() {
    let place = Place::new("ecs-move");
    place.service("");
    let first = place.deploy("1.0.0").ended(0);
    let old = url(&first);
    let service = |path: &str, more: &str| {
        let text = format!(
            "name: {0}\nport: 8000\nhealth: {{startup: 20s, stable: 1s}}\nexpose: {{path: {path}}}\n{more}",
            place.name
        );
        place.repository.write("service.yaml", &text);
    };
    let new = format!("/{}-internal", place.name);
    // A version that does not run is gone back from, and the old path stays.
    service(&new, "env: {CRASH: nothing works}\n");
    place.deploy("2.0.0").ended(4);
    assert_eq!(http_get(&format!("{old}/")), "version 1.0.0 says nothing");

    service(&new, "");
    let moved = place.deploy("1.0.0").ended(0);
    assert_eq!(http_get(&format!("{}/", url(&moved))), "version 1.0.0 says nothing");
    assert_eq!(http_status(&format!("{old}/healthz")), 404, "{moved}");
    assert!(moved.changed().contains(&format!("ListenerRule/{}", place.name)), "{moved}");
    assert_eq!(place.deploy("1.0.0").ended(0).json()["status"], "unchanged");
}

#[test]
fn a_listener_for_https_is_refused_without_the_name_in_its_certificate() {
    let place = Place::new("ecs-tls");
    place.service("");
    let balancers = aws(&["elbv2", "describe-load-balancers", "--names", "clinicult"]);
    let balancer = balancers["LoadBalancers"][0]["LoadBalancerArn"].as_str().expect("an ARN");
    let port = (20_000 + std::process::id() % 10_000).to_string();
    let made = aws(&[
        "elbv2",
        "create-listener",
        "--load-balancer-arn",
        balancer,
        "--protocol",
        "HTTPS",
        "--port",
        &port,
        "--certificates",
        "CertificateArn=arn:aws:acm:eu-west-1:111122223333:certificate/x",
        "--default-actions",
        "Type=fixed-response,FixedResponseConfig={StatusCode=404}",
    ]);
    let listener = made["Listeners"][0]["ListenerArn"].as_str().expect("an ARN");
    let line = format!("listener: {listener} #");
    let refused = place.deploy_on(&[("listener: ", &line)], "1.0.0").ended(3);
    let error = &refused.json()["error"];
    assert!(error["message"].to_string().contains("it speaks HTTPS"), "{refused}");
    assert!(error["fix"].to_string().contains("server-name: NAME.EXAMPLE.ORG"), "{refused}");
    assert_eq!(place.writes(), 0);

    let gateway = format!("api-gateway: {{name: {}-api, server-name: in.example.org}}", place.name);
    let named =
        [("listener: ", line.as_str()), ("api-gateway: {name: clinicult-public}", &gateway)];
    place.deploy_on(&named, "1.0.0").ended(0);
    let api = api_id(&format!("{}-api", place.name));
    let integrations = aws(&["apigatewayv2", "get-integrations", "--api-id", &api]);
    let tls = &integrations["Items"][0]["TlsConfig"];
    assert_eq!(tls["ServerNameToVerify"], "in.example.org", "{integrations}");
    aws(&["elbv2", "delete-listener", "--listener-arn", listener]);
}

/// A link that nobody used for sixty days wakes when somebody comes, and that takes a while.
#[test]
fn a_link_that_sleeps_is_woken_and_waited_for() {
    let place = Place::new("ecs-link");
    place.service("");
    // A link of its own: other tests go through the shared one.
    let group = ["ec2", "create-security-group", "--group-name", &place.name, "--description", "x"];
    let group = aws(&group)["GroupId"].as_str().expect("an id").to_string();
    let api = format!("{}-api", place.name);
    let gateway = format!("api-gateway: {{name: {api}}}");
    let groups = format!("security-groups: [{group}] #");
    let own = [
        ("security-groups: ", groups.as_str()),
        ("api-gateway: {name: clinicult-public}", gateway.as_str()),
    ];
    place.deploy_on(&own, "1.0.0").ended(0);
    let integrations = aws(&["apigatewayv2", "get-integrations", "--api-id", &api_id(&api)]);
    let link = integrations["Items"][0]["ConnectionId"].as_str().expect("an id").to_string();
    let set = |status: &str| {
        let base = stack("AWS_ENDPOINT_URL");
        let url = format!("{base}/_stack/vpc-links/{link}?status={status}");
        run(Command::new("curl").args(["-sf", "-X", "PUT", &url])).ended(0);
    };
    set("INACTIVE");
    let second = std::thread::scope(|scope| {
        let deploy = scope.spawn(|| place.deploy_on(&own, "2.0.0"));
        std::thread::sleep(std::time::Duration::from_secs(20));
        set("");
        deploy.join().expect("a deploy")
    });
    let second = second.ended(0);
    assert!(second.stderr.contains("is INACTIVE"), "{second}");
    assert_eq!(second.json()["version"], "2.0.0", "{second} {}", digest_of("2.0.0"));
}
