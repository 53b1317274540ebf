//! What is said to API Gateway. SDK types end here.

use std::time::Duration;

use aws_sdk_apigatewayv2::types::{
    AuthorizationType, AuthorizerType, ConnectionType, IntegrationType, JwtConfiguration,
    ProtocolType, TlsConfigInput, VpcLink,
};

use super::{EdgeApi, EdgeIds, is_gone};
use crate::aws::call::{Failure, Fault};
use crate::config::platform::Authorizer;
use crate::deploy::ecs::edge::{
    AUTHORIZER, EdgeStep, FoundGateway, FoundRoute, OWNER_TAG, WantedGateway, find_route,
};
use crate::deploy::ecs::states::{LinkState, ListenerProtocol};
use crate::deploy::pen::Pen;
use crate::error::{Code, Error, Kind, Result};
use crate::retry::{self, Attempt, RetryPolicy};

/// A VPC link takes minutes to come up.
const LINK_LOOKS: RetryPolicy = RetryPolicy {
    attempts: 200,
    first_pause: Duration::from_secs(1),
    longest_pause: Duration::from_secs(5),
    jitter: 0.0,
};

/// The pages that a listing is read to at most.
const PAGES: usize = 100;

impl EdgeApi {
    /// Reads a listing of API Gateway to its end: its SDK has no paginators.
    async fn read_pages<O, T, E, F>(
        &self,
        attempt: &str,
        send: impl Fn(Option<String>) -> F,
        open: impl Fn(O) -> (Option<Vec<T>>, Option<String>),
    ) -> Result<Vec<T>, Failure>
    where
        E: Into<Fault>,
        F: Future<Output = Result<O, E>>,
    {
        let (mut all, mut token) = (Vec::new(), None);
        for _ in 0..PAGES {
            let page = self.caller.read(attempt, "apigateway:GET", || send(token.clone())).await?;
            let (items, next) = open(page);
            all.extend(items.unwrap_or_default());
            token = next;
            if token.is_none() {
                break;
            }
        }
        Ok(all)
    }

    pub(super) async fn find_gateway(
        &self,
        wanted: &WantedGateway,
        listener: &str,
    ) -> Result<FoundGateway> {
        let api = self.api(&wanted.api).await?;
        let link = self.link(&wanted.link).await?;
        let mut found =
            FoundGateway { api: api.clone(), link: link.clone(), ..FoundGateway::default() };
        let Some((api, _)) = api else { return Ok(found) };
        let attempt = |what: &str| format!("read the {what} of API {}", wanted.api);

        let send =
            |token| self.gateway.get_integrations().api_id(&api).set_next_token(token).send();
        let reading = attempt("integrations");
        let integrations =
            self.read_pages(&reading, send, |page| (page.items, page.next_token)).await?;
        for one in integrations {
            let Some(id) = one.integration_id() else { continue };
            let link = link.as_ref().map(|(id, _)| id.as_str());
            if one.integration_uri() != Some(listener) {
                let uri = one.integration_uri().unwrap_or("another");
                found.foreign.insert(id.into(), uri.into());
            } else if link.is_some() && one.connection_id() == link && found.integration.is_none() {
                found.integration = Some(id.to_string());
                let tls = one.tls_config().and_then(|tls| tls.server_name_to_verify());
                found.server_name = tls.map(str::to_string);
            }
        }
        if wanted.authorizer.is_some() {
            found.authorizer = self.authorizer(&api, &wanted.api).await?;
        }
        found.routes = self.routes(&api, &wanted.api).await?.into_iter().collect();
        let send = |token| self.gateway.get_stages().api_id(&api).set_next_token(token).send();
        let stages =
            self.read_pages(&attempt("stages"), send, |page| (page.items, page.next_token)).await?;
        found.stage = stages.iter().any(|stage| stage.stage_name() == Some("$default"));
        Ok(found)
    }

    /// Route key → route.
    async fn routes(&self, api: &str, name: &str) -> Result<Vec<(String, FoundRoute)>> {
        let send = |token| self.gateway.get_routes().api_id(api).set_next_token(token).send();
        let attempt = format!("read the routes of API {name}");
        let all = self.read_pages(&attempt, send, |page| (page.items, page.next_token)).await?;
        let known = all.into_iter().filter_map(|route| {
            let open = [None, Some(AuthorizationType::None)];
            let found = FoundRoute {
                id: route.route_id?,
                target: route.target.unwrap_or_default(),
                is_guarded: !open.contains(&route.authorization_type),
                authorizer: route.authorizer_id,
            };
            Some((route.route_key?, found))
        });
        Ok(known.collect())
    }

    /// The API by our tag, else by its name; names are not unique. Of two that carry our tag the
    /// older one counts: two first deploys may have made one each, and the younger one's maker
    /// takes it back.
    async fn api(&self, name: &str) -> Result<Option<(String, String)>> {
        let send = |token| self.gateway.get_apis().set_next_token(token).send();
        let all = self.read_pages("list the HTTP APIs", send, |page| (page.items, page.next_token));
        let (mut owned, mut named) = (Vec::new(), Vec::new());
        let all = all.await?;
        for api in all.iter().filter(|api| api.protocol_type() == Some(&ProtocolType::Http)) {
            let id = api.api_id().unwrap_or_default().to_string();
            let created = api.created_date();
            let age = created.map(aws_sdk_apigatewayv2::primitives::DateTime::as_nanos);
            let endpoint = api.api_endpoint().unwrap_or_default().to_string();
            let found = ((age, id.clone()), (id, endpoint));
            let owner = api.tags().and_then(|tags| tags.get(OWNER_TAG));
            if owner.is_some_and(|owner| owner == name) {
                owned.push(found.clone());
            }
            if api.name() == Some(name) {
                named.push(found);
            }
        }
        if owned.is_empty() && named.len() > 1 {
            let ids: Vec<&str> = named.iter().map(|(_, (id, _))| id.as_str()).collect();
            let (count, ids) = (ids.len(), ids.join(", "));
            return Err(Error::refused(format!(
                "cannot choose HTTP API {name}: there are {count} of that name: {ids}"
            ))
            .fix(format!("tag the one that is meant with {OWNER_TAG}={name}")));
        }
        let candidates = if owned.is_empty() { named } else { owned };
        Ok(candidates.into_iter().min().map(|(_, found)| found))
    }

    async fn link(&self, name: &str) -> Result<Option<(String, LinkState)>> {
        let send = |token| self.gateway.get_vpc_links().set_next_token(token).send();
        let all = self.read_pages("list the VPC links", send, |page| (page.items, page.next_token));
        // One that failed and was replaced is still listed while it goes. Of several, all runs take
        // the same: the oldest that lives.
        let all = all.await?;
        let named = all
            .iter()
            .filter(|link| link.name() == Some(name) && state_of(link) != LinkState::Deleting);
        let chosen = named.min_by_key(|link| {
            (
                state_of(link) == LinkState::Failed,
                link.created_date().map(aws_sdk_apigatewayv2::primitives::DateTime::as_nanos),
                link.vpc_link_id().map(str::to_string),
            )
        });
        Ok(chosen.and_then(|link| Some((link.vpc_link_id()?.to_string(), state_of(link)))))
    }

    /// Our authorizer of an API, by its name. Of two that two runs made at once all take the same.
    async fn authorizer(&self, api: &str, name: &str) -> Result<Option<(String, Authorizer)>> {
        let send = |token| self.gateway.get_authorizers().api_id(api).set_next_token(token).send();
        let attempt = format!("read the authorizers of API {name}");
        let all = self.read_pages(&attempt, send, |page| (page.items, page.next_token)).await?;
        let ours = all.into_iter().filter(|one| one.name.as_deref() == Some(AUTHORIZER));
        let known = ours.filter_map(|one| {
            let settings = match (one.jwt_configuration, one.authorizer_uri) {
                (Some(jwt), _) if jwt.issuer.is_some() => Authorizer::Jwt {
                    issuer: jwt.issuer.unwrap_or_default(),
                    audience: jwt.audience.unwrap_or_default(),
                },
                (_, uri) => Authorizer::Lambda {
                    function: uri.as_deref().and_then(function_of).unwrap_or_default().to_string(),
                    role: one.authorizer_credentials_arn.filter(|role| !role.is_empty()),
                },
            };
            Some((one.authorizer_id?, settings))
        });
        Ok(known.min_by(|(one, _), (other, _)| one.cmp(other)))
    }

    /// Creates our authorizer; of two that two runs made at once all take the same. Returns its id.
    async fn create_authorizer(
        &self,
        api: &str,
        wanted: &WantedGateway,
        settings: &Authorizer,
        pen: Pen<'_>,
    ) -> Result<String> {
        let create = async || -> Result<String, Fault> {
            let create = self.gateway.create_authorizer().api_id(api).name(AUTHORIZER);
            let create = create.identity_source("$request.header.Authorization");
            let create = match settings {
                Authorizer::Jwt { issuer, audience } => create
                    .authorizer_type(AuthorizerType::Jwt)
                    .jwt_configuration(describe_jwt(issuer, audience)),
                Authorizer::Lambda { function, role } => create
                    .authorizer_type(AuthorizerType::Request)
                    .authorizer_uri(self.uri_of(function))
                    .set_authorizer_credentials_arn(role.clone())
                    .authorizer_payload_format_version("2.0")
                    .enable_simple_responses(true),
            };
            Ok(create.send().await?.authorizer_id.unwrap_or_default())
        };
        let find = async || Ok(self.authorizer(api, &wanted.api).await?.map(|(id, _)| id));
        let attempt = format!("create the authorizer of API {}", wanted.api);
        let mine = self.caller.create(&attempt, "apigateway:POST", &pen, &create, find).await?;
        let winner = self.authorizer(api, &wanted.api).await?.map(|(id, _)| id);
        let winner = winner.unwrap_or_else(|| mine.clone());
        if winner != mine {
            let delete =
                || self.gateway.delete_authorizer().api_id(api).authorizer_id(&mine).send();
            let attempt = format!("take back authorizer {mine} of API {api}");
            is_gone(self.caller.write(&attempt, "apigateway:DELETE", &pen, delete).await)?;
        }
        Ok(winner)
    }

    async fn update_authorizer(
        &self,
        api: &str,
        id: &str,
        settings: &Authorizer,
        pen: Pen<'_>,
    ) -> Result<()> {
        let update = || {
            let update = self.gateway.update_authorizer().api_id(api).authorizer_id(id);
            match settings {
                Authorizer::Jwt { issuer, audience } => update
                    .authorizer_type(AuthorizerType::Jwt)
                    .jwt_configuration(describe_jwt(issuer, audience)),
                Authorizer::Lambda { function, role } => update
                    .authorizer_type(AuthorizerType::Request)
                    .authorizer_uri(self.uri_of(function))
                    .set_authorizer_credentials_arn(role.clone())
                    .authorizer_payload_format_version("2.0")
                    .enable_simple_responses(true),
            }
            .send()
        };
        let attempt = format!("update authorizer {id} of API {api}");
        self.caller.write(&attempt, "apigateway:PATCH", &pen.reaching_users(), update).await?;
        Ok(())
    }

    /// What API Gateway calls a function by.
    fn uri_of(&self, function: &str) -> String {
        let mut parts = function.split(':');
        let (partition, region) = (parts.nth(1).unwrap_or("aws"), parts.nth(1).unwrap_or_default());
        format!(
            "arn:{partition}:apigateway:{region}:lambda:path/2015-03-31/functions/{function}/invocations"
        )
    }

    /// Whether somebody has to let requests for `path` through before they reach the service. What
    /// cannot be read says nothing.
    pub async fn is_guarded(&self, api: &str, path: &str) -> bool {
        match self.routes(api, api).await {
            Ok(routes) => {
                let routes = routes.into_iter().collect();
                find_route(&routes, path).is_some_and(|route| route.is_guarded)
            }
            Err(error) => {
                self.caller.report().trace(error.to_string());
                false
            }
        }
    }

    /// Has the integration find this name in the listener's certificate; none for plain HTTP.
    pub(super) async fn set_server_name(
        &self,
        api: &str,
        id: &str,
        name: Option<&str>,
        pen: Pen<'_>,
    ) -> Result<()> {
        let update = || {
            let update = self.gateway.update_integration().api_id(api).integration_id(id);
            update.tls_config(expect_server(name)).send()
        };
        let attempt = format!("update integration {id} of API {api}");
        self.caller.write(&attempt, "apigateway:PATCH", &pen.reaching_users(), update).await?;
        Ok(())
    }

    pub(super) async fn delete_route(
        &self,
        api: &str,
        key: &str,
        id: &str,
        pen: Pen<'_>,
    ) -> Result<()> {
        let delete = || self.gateway.delete_route().api_id(api).route_id(id).send();
        let attempt = format!("delete route {key}");
        Ok(is_gone(self.caller.write(&attempt, "apigateway:DELETE", &pen, delete).await)?)
    }

    pub(super) async fn apply_gateway(
        &self,
        step: &EdgeStep,
        wanted: &WantedGateway,
        listener: (&str, &ListenerProtocol),
        made: &mut EdgeIds,
        pen: Pen<'_>,
    ) -> Result<()> {
        let (listener, protocol) = listener;
        let server_name = wanted.server_name.as_deref();
        let server_name = server_name.filter(|_| *protocol == ListenerProtocol::Https);
        let api = made.api.as_ref().map(|(id, _)| id.clone()).unwrap_or_default();
        let target = made.integration.as_ref().map(|id| format!("integrations/{id}"));
        let target = target.unwrap_or_default();
        match step {
            EdgeStep::CreateApi => made.api = Some(self.create_api(&wanted.api, pen).await?),
            EdgeStep::CreateLink => made.link = Some(self.create_link(wanted, pen).await?),
            EdgeStep::CreateIntegration => {
                let create = async || -> Result<Option<String>, Fault> {
                    let create = self.gateway.create_integration().api_id(&api);
                    let create = create
                        .integration_type(IntegrationType::HttpProxy)
                        .integration_method("ANY")
                        .integration_uri(listener)
                        .connection_type(ConnectionType::VpcLink)
                        .set_connection_id(made.link.clone())
                        .set_tls_config(server_name.map(|name| expect_server(Some(name))))
                        .payload_format_version("1.0");
                    Ok(create.send().await?.integration_id)
                };
                let find = async || {
                    let found = self.find_gateway(wanted, listener).await?;
                    Ok(found.integration.map(Some))
                };
                let attempt = format!("create an integration of API {}", wanted.api);
                let action = "apigateway:POST";
                made.integration =
                    self.caller.create(&attempt, action, &pen, &create, find).await?;
            }
            EdgeStep::UpdateIntegration { id, before } => {
                made.renamed = Some((id.clone(), before.clone()));
                self.set_server_name(&api, id, server_name, pen).await?;
            }
            EdgeStep::CreateAuthorizer => {
                if let Some(settings) = &wanted.authorizer {
                    made.authorizer =
                        Some(self.create_authorizer(&api, wanted, settings, pen).await?);
                }
            }
            EdgeStep::UpdateAuthorizer { id } => {
                if let Some(settings) = &wanted.authorizer {
                    self.update_authorizer(&api, id, settings, pen).await?;
                }
            }
            EdgeStep::GuardRoute { id, .. } => {
                let guard = guard_of(wanted);
                let update = || {
                    let update = self.gateway.update_route().api_id(&api).route_id(id);
                    let update = update.set_authorization_type(guard.clone());
                    update.set_authorizer_id(made.authorizer.clone()).send()
                };
                let attempt = format!("update route {id} of API {api}");
                let pen = pen.reaching_users();
                self.caller.write(&attempt, "apigateway:PATCH", &pen, update).await?;
            }
            EdgeStep::CreateRoute { key } => {
                let guard = guard_of(wanted);
                let create = || {
                    let create = self.gateway.create_route().api_id(&api).route_key(key);
                    let create = create.set_authorization_type(guard.clone());
                    let authorizer = made.authorizer.clone().filter(|_| guard.is_some());
                    create.set_authorizer_id(authorizer).target(&target).send()
                };
                let attempt = format!("create route {key}");
                match self.caller.write(&attempt, "apigateway:POST", &pen, create).await {
                    // One is there by now: a try of ours whose answer was lost, or another run's.
                    Err(failure) if failure.is(&["ConflictException"]) => {
                        let routes = self.routes(&api, &wanted.api).await?;
                        let found = routes.into_iter().find(|(found, _)| found == key);
                        if let Some((_, route)) = found.filter(|(_, route)| route.target != target)
                        {
                            self.turn_route(&api, &route.id, &target, pen).await?;
                        }
                    }
                    created => drop(created?),
                }
            }
            EdgeStep::UpdateRoute { id, before, .. } => {
                // Noted first: what a lost answer did is taken back too.
                made.turned.extend(before.clone().map(|before| (id.clone(), before)));
                self.turn_route(&api, id, &target, pen).await?;
            }
            EdgeStep::CreateStage => {
                let create = || {
                    let create = self.gateway.create_stage().api_id(&api);
                    create.stage_name("$default").auto_deploy(true).send()
                };
                let attempt = format!("create the stage of API {}", wanted.api);
                match self.caller.write(&attempt, "apigateway:POST", &pen, create).await {
                    // Another run was quicker with the same stage.
                    Err(failure) if failure.is(&["ConflictException"]) => {}
                    created => drop(created?),
                }
            }
            // The clean-up does them, when users come the new way.
            EdgeStep::DeleteLink { .. }
            | EdgeStep::DeleteRoute { .. }
            | EdgeStep::DeleteRule { .. } => {}
            EdgeStep::CreateTargetGroup
            | EdgeStep::UpdateTargetGroup { .. }
            | EdgeStep::CreateRule { .. } => {}
        }
        Ok(())
    }

    /// Has a route lead to an integration.
    pub(super) async fn turn_route(
        &self,
        api: &str,
        id: &str,
        target: &str,
        pen: Pen<'_>,
    ) -> Result<()> {
        let update = || self.gateway.update_route().api_id(api).route_id(id).target(target).send();
        let attempt = format!("update route {id} of API {api}");
        self.caller.write(&attempt, "apigateway:PATCH", &pen.reaching_users(), update).await?;
        Ok(())
    }

    /// Creates the HTTP API; of two that two runs made at once the older one stays. Returns its id
    /// and where it answers.
    async fn create_api(&self, name: &str, pen: Pen<'_>) -> Result<(String, String)> {
        let create = async || -> Result<(String, String), Fault> {
            let create = self.gateway.create_api().name(name).tags(OWNER_TAG, name);
            let made = create.protocol_type(ProtocolType::Http).send().await?;
            Ok((made.api_id.unwrap_or_default(), made.api_endpoint.unwrap_or_default()))
        };
        let find = async || self.api(name).await;
        let attempt = format!("create HTTP API {name}");
        let mine = self.caller.create(&attempt, "apigateway:POST", &pen, &create, find).await?;
        let winner = self.api(name).await?.unwrap_or_else(|| mine.clone());
        if winner.0 != mine.0 {
            let delete = || self.gateway.delete_api().api_id(&mine.0).send();
            let attempt = format!("take back HTTP API {}", mine.0);
            is_gone(self.caller.write(&attempt, "apigateway:DELETE", &pen, delete).await)?;
        }
        Ok(winner)
    }

    /// Creates the VPC link; of two that two runs made at once the older one stays.
    async fn create_link(&self, wanted: &WantedGateway, pen: Pen<'_>) -> Result<String> {
        let create = async || -> Result<String, Fault> {
            let create = self.gateway.create_vpc_link().name(&wanted.link);
            let create = create
                .set_subnet_ids(Some(wanted.subnets.clone()))
                .set_security_group_ids(Some(wanted.security_groups.clone()))
                .tags(OWNER_TAG, &wanted.api);
            Ok(create.send().await?.vpc_link_id.unwrap_or_default())
        };
        let find = async || {
            let found = self.link(&wanted.link).await?;
            let lives = |(id, state)| (state != LinkState::Failed).then_some(id);
            Ok(found.and_then(lives))
        };
        let attempt = format!("create VPC link {}", wanted.link);
        let mine = self.caller.create(&attempt, "apigateway:POST", &pen, &create, find).await?;
        let winner = self.link(&wanted.link).await?.map_or_else(|| mine.clone(), |(id, _)| id);
        if winner != mine {
            self.delete_link("take back", &mine, pen).await?;
        }
        Ok(winner)
    }

    /// Deletes a link that failed, with the integration that names it: API Gateway keeps a link that
    /// one names.
    pub(super) async fn delete_dead_link(
        &self,
        api: &str,
        link: &str,
        integration: Option<&str>,
        pen: Pen<'_>,
    ) -> Result<()> {
        if let Some(id) = integration {
            let delete = || self.gateway.delete_integration().api_id(api).integration_id(id).send();
            let attempt = format!("delete integration {id} of API {api}");
            is_gone(self.caller.write(&attempt, "apigateway:DELETE", &pen, delete).await)?;
        }
        self.delete_link("delete", link, pen).await
    }

    async fn delete_link(&self, verb: &str, id: &str, pen: Pen<'_>) -> Result<()> {
        let delete = || self.gateway.delete_vpc_link().vpc_link_id(id).send();
        let attempt = format!("{verb} VPC link {id}");
        Ok(is_gone(self.caller.write(&attempt, "apigateway:DELETE", &pen, delete).await)?)
    }

    /// Waits until the VPC link carries traffic. One that nobody used for sixty days wakes when
    /// somebody does: `knock` sends a request through it. Whoever bounds the time drops it.
    pub async fn wait_for_link(&self, id: &str, knock: impl AsyncFn()) -> Result<()> {
        let report = self.caller.report();
        let mut is_told = false;
        retry::run(&LINK_LOOKS, None, report, async |_| {
            let (state, ended) = self.look_at_link(id).await;
            if state == Some(LinkState::Inactive) {
                if !std::mem::replace(&mut is_told, true) {
                    report.warn(format!(
                        "VPC link {id} is INACTIVE: nobody came through it for sixty days. It is \
                         woken by requests, which takes API Gateway some minutes"
                    ));
                }
                knock().await;
            }
            ended
        })
        .await
    }

    async fn look_at_link(&self, id: &str) -> (Option<LinkState>, Attempt<()>) {
        let get = || self.gateway.get_vpc_link().vpc_link_id(id).send();
        let attempt = format!("inspect VPC link {id}");
        let answer = match self.caller.read(&attempt, "apigateway:GET", get).await {
            Ok(answer) => answer,
            Err(failure) => return (None, Attempt::Refused(failure.error)),
        };
        let state = answer.vpc_link_status().map(|status| LinkState::from(status.as_str()));
        let headline = format!("cannot reach the service through VPC link {id}");
        let ended = match &state {
            Some(LinkState::Available) => Attempt::Done(()),
            Some(LinkState::Failed) => {
                let reason = answer.vpc_link_status_message();
                Attempt::Refused(
                    Error::new(Kind::Broken, format!("{headline}: it has failed"))
                        .code(Code::SmokeCheckFailed)
                        .why(reason.unwrap_or("API Gateway gives no reason"))
                        .fix(
                            "see that its subnets and security groups exist; the next deploy \
                             replaces it",
                        ),
                )
            }
            state => {
                let state = state.as_ref().map_or("unknown".into(), LinkState::to_string);
                let why = Error::new(Kind::TimedOut, format!("{headline}: it is {state}"))
                    .code(Code::DeadlineExceeded)
                    .fix("look at it in API Gateway, then deploy again");
                Attempt::Retry { why, after: None }
            }
        };
        (state, ended)
    }
}

fn state_of(link: &VpcLink) -> LinkState {
    LinkState::from(link.vpc_link_status().map_or("", |status| status.as_str()))
}

/// How routes are guarded; `None` where platform.yaml does not say.
fn guard_of(wanted: &WantedGateway) -> Option<AuthorizationType> {
    Some(match wanted.authorizer.as_ref()? {
        Authorizer::Jwt { .. } => AuthorizationType::Jwt,
        Authorizer::Lambda { .. } => AuthorizationType::Custom,
    })
}

fn describe_jwt(issuer: &str, audience: &[String]) -> JwtConfiguration {
    JwtConfiguration::builder().issuer(issuer).set_audience(Some(audience.to_vec())).build()
}

/// The function's ARN in the URI that API Gateway calls it by.
fn function_of(uri: &str) -> Option<&str> {
    uri.split_once("/functions/")?.1.strip_suffix("/invocations")
}

fn expect_server(name: Option<&str>) -> TlsConfigInput {
    TlsConfigInput::builder().server_name_to_verify(name.unwrap_or_default()).build()
}
