//! What is wanted and what was found → steps.

use super::*;

fn health() -> HealthCheck {
    HealthCheck { path: "/healthz".into(), codes: "200-299".into() }
}

fn wanted() -> EdgeWanted {
    EdgeWanted {
        listener: "listener".into(),
        target_group: "patients-production".into(),
        port: 8000,
        health: health(),
        patterns: vec!["/patients".into(), "/patients/*".into()],
        gateway: Some(WantedGateway {
            api: "public".into(),
            link: "link".into(),
            subnets: vec![],
            security_groups: vec![],
            routes: vec!["ANY /patients".into(), "ANY /patients/{proxy+}".into()],
            path: "/patients".into(),
            server_name: None,
            authorizer: None,
        }),
    }
}

fn complete() -> EdgeFound {
    let route = |id: &str| FoundRoute {
        id: id.into(),
        target: "integrations/i".into(),
        ..FoundRoute::default()
    };
    EdgeFound {
        vpc: "vpc".into(),
        protocol: ListenerProtocol::Http,
        target_group: Some(TargetGroup { arn: "tg".into(), port: 8000, health: health() }),
        rules: vec![rule("/patients", "tg", false)],
        gateway: FoundGateway {
            api: Some(("a".into(), "https://a".into())),
            link: Some(("l".into(), LinkState::Available)),
            integration: Some("i".into()),
            foreign: BTreeMap::new(),
            routes: [
                ("ANY /patients".into(), route("r1")),
                ("ANY /patients/{proxy+}".into(), route("r2")),
            ]
            .into(),
            stage: true,
            ..FoundGateway::default()
        },
    }
}

fn rule(path: &str, target_group: &str, is_ours: bool) -> Rule {
    Rule {
        arn: format!("rule{path}"),
        priority: 48_900,
        patterns: rule_patterns(path),
        target_group: target_group.into(),
        is_ours,
    }
}

/// The found edge with what an earlier `expose.path` left, and more that is others'.
fn moved() -> EdgeFound {
    let mut found = complete();
    found.rules.push(rule("/old", "tg", true));
    let more = [("ANY /old", "i"), ("ANY /old/{proxy+}", "i"), ("GET /old/{proxy+}", "i")];
    for (key, integration) in more {
        let target = format!("integrations/{integration}");
        let route = FoundRoute { id: key.into(), target, ..FoundRoute::default() };
        found.gateway.routes.insert(key.into(), route);
    }
    found
}

#[test]
fn what_an_earlier_path_left_goes_and_nothing_of_others() {
    type Edit = fn(&mut EdgeFound);
    let cases: &[(&str, Edit, &str)] = &[
        ("ours", |_| (), "DeleteRoute DeleteRoute DeleteRule"),
        ("a rule without our tag", |found| found.rules[1].is_ours = false, ""),
        ("a rule to others", |found| found.rules[1].target_group = "other".into(), ""),
        (
            "a rule that is not of our shape",
            |found| found.rules[1].patterns = vec!["/old/*".into()],
            "DeleteRule",
        ),
        (
            "a route that was led elsewhere since",
            |found| {
                found.gateway.foreign.insert("x".into(), "arn:…/other".into());
                let route = found.gateway.routes.get_mut("ANY /old").expect("a route");
                route.target = "integrations/x".into();
            },
            "DeleteRoute DeleteRule",
        ),
        (
            "routes that are gone",
            |found| found.gateway.routes.retain(|key, _| !key.contains("/old")),
            "DeleteRule",
        ),
    ];
    for (title, edit, expected) in cases {
        let mut found = moved();
        edit(&mut found);
        assert_eq!(objects(&found), *expected, "{title}");
    }
    let steps = plan_edge(&wanted(), &moved()).expect("steps");
    assert!(steps.iter().all(EdgeStep::comes_last), "the new path answers first");
    let at_root = rule_patterns("");
    let keys = path_of(&at_root).map(route_keys).expect("a path");
    assert_eq!(keys, ["ANY /", "ANY /{proxy+}"]);
}

#[test]
fn an_https_listener_needs_the_name_in_its_certificate() {
    struct Case {
        protocol: &'static str,
        wanted: Option<&'static str>,
        found: Option<&'static str>,
        expected: &'static str,
    }
    let case = |protocol, wanted, found, expected| Case { protocol, wanted, found, expected };
    let cases = [
        case("HTTP", None, None, ""),
        case("HTTP", Some("a.example"), None, ""),
        case("HTTPS", Some("a.example"), Some("a.example"), ""),
        case("HTTPS", Some("a.example"), None, "UpdateIntegration"),
        case("HTTP", None, Some("a.example"), "UpdateIntegration"),
        case(
            "HTTPS",
            None,
            None,
            "refused: cannot deploy behind listener listener: it speaks HTTPS, and API Gateway has \
             to know the name in its certificate",
        ),
        case(
            "TCP",
            None,
            None,
            "refused: cannot deploy behind listener listener: it is for TCP, and only those for HTTP \
             and HTTPS have rules for paths",
        ),
    ];
    for Case { protocol, wanted: name, found: before, expected } in cases {
        let (mut wanted, mut found) = (wanted(), complete());
        found.protocol = protocol.into();
        found.gateway.server_name = before.map(str::to_string);
        wanted.gateway.as_mut().expect("a gateway").server_name = name.map(str::to_string);
        assert_eq!(objects_of(&wanted, &found), expected, "{protocol} {name:?} {before:?}");
    }
}

#[test]
fn an_authorizer_is_there_before_its_routes() {
    let jwt = |issuer: &str| Authorizer::Jwt { issuer: issuer.into(), audience: vec!["a".into()] };
    let mut wanted = wanted();
    wanted.gateway.as_mut().expect("a gateway").authorizer = Some(jwt("https://one.example"));
    let guard = |found: &mut EdgeFound| {
        found.gateway.authorizer = Some(("g".into(), jwt("https://one.example")));
        for route in found.gateway.routes.values_mut() {
            (route.is_guarded, route.authorizer) = (true, Some("g".into()));
        }
    };
    let first = "CreateTargetGroup CreateRule CreateApi CreateLink CreateIntegration \
                 CreateAuthorizer CreateRoute CreateRoute CreateStage";
    assert_eq!(objects_of(&wanted, &EdgeFound::default()), first);
    assert_eq!(objects_of(&wanted, &complete()), "CreateAuthorizer GuardRoute GuardRoute");
    let mut found = complete();
    guard(&mut found);
    assert_eq!(objects_of(&wanted, &found), "");
    // What somebody else guards stays guarded.
    assert_eq!(objects(&found), "");
    found.gateway.authorizer = Some(("g".into(), jwt("https://two.example")));
    assert_eq!(objects_of(&wanted, &found), "UpdateAuthorizer");
    found.gateway.routes.get_mut("ANY /patients").expect("a route").authorizer = Some("x".into());
    assert_eq!(objects_of(&wanted, &found), "UpdateAuthorizer GuardRoute");
}

#[test]
fn a_request_takes_the_route_that_fits_best() {
    let all =
        ["$default", "ANY /a", "ANY /a/{proxy+}", "GET /a/healthz", "POST /a/b", "ANY /{one}/b"];
    let route = |key: &str| FoundRoute { id: key.into(), ..FoundRoute::default() };
    let routes: BTreeMap<String, FoundRoute> =
        all.iter().map(|key| (key.to_string(), route(key))).collect();
    let cases = [
        ("/a", "ANY /a"),
        ("/a/healthz", "GET /a/healthz"),
        ("/a/x", "ANY /a/{proxy+}"),
        ("/a/x/y", "ANY /a/{proxy+}"),
        ("/a/b", "ANY /{one}/b"),
        ("/x", "$default"),
    ];
    for (path, key) in cases {
        let found = find_route(&routes, path).map(|route| route.id.as_str());
        assert_eq!(found, Some(key), "{path}");
    }
    assert!(find_route(&BTreeMap::new(), "/a").is_none());
}

fn objects(found: &EdgeFound) -> String {
    objects_of(&wanted(), found)
}

fn objects_of(wanted: &EdgeWanted, found: &EdgeFound) -> String {
    match plan_edge(wanted, found) {
        Ok(steps) => steps
            .iter()
            .map(|step| {
                format!("{step:?}").split([' ', '{']).next().unwrap_or_default().to_string()
            })
            .collect::<Vec<_>>()
            .join(" "),
        Err(error) => format!("refused: {}", error.message),
    }
}

#[test]
fn what_is_missing_is_planned_and_nothing_else() {
    type Edit = fn(&mut EdgeFound);
    let cases: &[(Edit, &str)] = &[
        (|_| (), ""),
        (
            |found| *found = EdgeFound::default(),
            "CreateTargetGroup CreateRule CreateApi CreateLink CreateIntegration CreateRoute CreateRoute CreateStage",
        ),
        (
            |found| found.target_group.as_mut().expect("one").health.path = "/".into(),
            "UpdateTargetGroup",
        ),
        (
            |found| found.target_group.as_mut().expect("one").health.codes = "200".into(),
            "UpdateTargetGroup",
        ),
        (
            |found| found.target_group.as_mut().expect("one").port = 1,
            "refused: cannot use target group patients-production: it is for port 1, the service listens on 8000",
        ),
        (|found| found.rules.clear(), "CreateRule"),
        (
            |found| found.rules[0].target_group = "other".into(),
            "refused: cannot use /patients and /patients/*: it is taken on this load balancer",
        ),
        (|found| found.rules[0].patterns.reverse(), ""),
        (|found| found.gateway.link = None, "CreateLink CreateIntegration UpdateRoute UpdateRoute"),
        (
            |found| found.gateway.link = Some(("l".into(), LinkState::Failed)),
            "CreateLink CreateIntegration UpdateRoute UpdateRoute DeleteLink",
        ),
        (|found| found.gateway.link = Some(("l".into(), LinkState::Pending)), ""),
        (|found| found.gateway.integration = None, "CreateIntegration UpdateRoute UpdateRoute"),
        (
            |found| {
                found.gateway.routes.remove("ANY /patients");
            },
            "CreateRoute",
        ),
        (|found| found.gateway.stage = false, "CreateStage"),
        (
            |found| found.gateway.foreign = [("i".to_string(), "arn:…/other".to_string())].into(),
            "refused: cannot use route ANY /patients of API public: it is taken",
        ),
    ];
    for (number, (edit, expected)) in cases.iter().enumerate() {
        let mut found = complete();
        edit(&mut found);
        assert_eq!(objects(&found), *expected, "case {number}");
    }
}

#[test]
fn priorities_are_free_and_put_longer_paths_first() {
    let mut found = complete();
    found.rules[0].priority = 1;
    let first = free_priority(&found.rules, &wanted()).expect("one");
    assert_eq!(first, 50_000 - 1_100, "/patients/* has eleven characters");
    found.rules[0].priority = first;
    assert_eq!(free_priority(&found.rules, &wanted()).expect("one"), first + 1);
    let longer = EdgeWanted { patterns: vec!["/patients/archive/*".into()], ..wanted() };
    assert!(free_priority(&found.rules, &longer).expect("one") < first);
}
