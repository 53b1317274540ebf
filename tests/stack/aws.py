"""AWS for the tests: ministack in this process, with what it lacks added before it starts.

Each `add_*` below closes one gap, by replacing a function of ministack's; its docstring says why. A request log tells
tests what was asked of AWS, one JSON object a line.
"""

import argparse
import asyncio
import contextvars
import json
import os
import random
import re
import time
import urllib.parse
import uuid


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stack", required=True, help="name of the stack; part of container names")
    parser.add_argument("--state", required=True, help="folder for data")
    parser.add_argument("--logs", required=True, help="folder for logs")
    parser.add_argument("--port", required=True, help="the port of all AWS endpoints, and of the ECR registry")
    parser.add_argument("--bind", action="append", required=True, help="address to listen on; repeatable")
    parser.add_argument("--account", required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--iam", choices=["on", "off"], required=True, help="off: every well-formed credential may do everything")
    parser.add_argument("--node-image", required=True, help="what runs as the cluster of `eks create-cluster`")
    parser.add_argument("--cluster-port", required=True, help="port of the first cluster's API server; the next cluster takes the next one")
    return parser.parse_args()


def configure(args):
    """ministack reads its settings from the environment while it is imported."""
    os.environ.update(
        GATEWAY_PORT=args.port,
        MINISTACK_ACCOUNT_ID=args.account,
        MINISTACK_REGION=args.region,
        AUTH="true" if args.iam == "on" else "false",
        MINISTACK_DOCKER_TIMEOUT="120",
        MINISTACK_HOSTNAME=f"cicd-{args.stack}",  # tells its containers from those of other stacks
        EKS_K3S_IMAGE=args.node_image,
        EKS_BASE_PORT=args.cluster_port,
        S3_DATA_DIR=f"{args.state}/s3",
        TMPDIR=args.state,
        SFTP_ENABLED="0",  # these two would take fixed ports
        IOT_MTLS_ENABLED="0",
    )
    # Credentials and endpoints of the caller's shell are not for the emulator's own use.
    for name in [n for n in os.environ if n.startswith("AWS_") and n != "AWS_CA_BUNDLE"]:
        del os.environ[name]


# ---- Containers ----


def add_stack_to_containers(stack, port):
    """Every container carries the stack's name, so that `stack down` finds it even when this process was killed.

    Image names with ECR's host cannot be resolved; the registry behind them is this process. Docker reaches it on
    loopback, where it accepts plain HTTP.
    """
    from docker.models.containers import ContainerCollection
    from docker.models.images import ImageCollection

    ecr_host = re.compile(r"^\d{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com/")

    def local(image):
        return ecr_host.sub(f"localhost:{port}/", image) if isinstance(image, str) else image

    def first_argument_local(method):
        def call(self, image, *args, **kwargs):
            return method(self, local(image), *args, **kwargs)

        return call

    def labelled(method):
        def call(self, image, *args, labels=None, **kwargs):
            return method(self, local(image), *args, labels={**(labels or {}), "cicd.stack": stack}, **kwargs)

        return call

    for name in ("get", "pull", "get_registry_data"):
        setattr(ImageCollection, name, first_argument_local(getattr(ImageCollection, name)))
    # `run` calls `create`, which would label twice: the same labels, so it does no harm.
    for name in ("run", "create"):
        setattr(ContainerCollection, name, labelled(getattr(ContainerCollection, name)))


def add_cluster_node(stack, logs_of_stack):
    """The cluster's container, as our node image and such a host need it.

    ministack asks for capabilities one by one beside `privileged`, and one of them, CAP_SYS_RESOURCE, is more than some
    hosts can give: Docker then refuses the container and ministack falls back to a mock. Privileged alone is all there
    is. The name gets the stack's, the port stays on loopback, and logs land where tests read the audit log.
    """
    from ministack.services import eks

    original = eks._k3s_run_kwargs

    def run_kwargs(name, *args, port, **kwargs):
        result = original(name, *args, port=port, **kwargs)
        del result["cap_add"]
        result["name"] = f"cicd-{stack}-eks-{name}"
        result["ports"] = {"6443/tcp": ("127.0.0.1", port)}
        logs = f"{logs_of_stack}/clusters/{name}"
        os.makedirs(logs, exist_ok=True)
        result["volumes"] = {**result["volumes"], logs: {"bind": "/var/log/cluster", "mode": "rw"}}
        if not os.path.exists("/dev/fuse"):
            result.pop("devices", None)
        return result

    eks._k3s_run_kwargs = lambda *args, name=None, **kwargs: run_kwargs(name or args[0], *args[1:], **kwargs)


# ---- ECR ----


def add_mutability_exclusions():
    """The filters of IMMUTABLE_WITH_EXCLUSION, which ministack forgets: kept, told, and heeded when a tag is put."""
    from fnmatch import fnmatchcase
    from ministack.services import ecr

    filters = "imageTagMutabilityExclusionFilters"
    create, put, shape, put_manifest = ecr._create_repository, ecr._put_image_tag_mutability, ecr._repo_shape, ecr._v2_put_manifest

    def keeping(method):
        def call(data):
            response = method(data)
            if response[0] == 200:
                ecr._repositories[data["repositoryName"]][filters] = data.get(filters, [])
            return response

        return call

    def put_manifest_or_refuse(name, ref, headers, body):
        repository = ecr._repositories.get(name, {})
        if repository.get("imageTagMutability") != "IMMUTABLE_WITH_EXCLUSION":
            return put_manifest(name, ref, headers, body)
        excluded = any(fnmatchcase(ref, one["filter"]) for one in repository.get(filters, []))
        repository["imageTagMutability"] = "MUTABLE" if excluded else "IMMUTABLE"
        try:
            return put_manifest(name, ref, headers, body)
        finally:
            repository["imageTagMutability"] = "IMMUTABLE_WITH_EXCLUSION"

    ecr._create_repository, ecr._put_image_tag_mutability = keeping(create), keeping(put)
    ecr._repo_shape = lambda repo: {**shape(repo), **({filters: repo[filters]} if repo.get(filters) else {})}
    ecr._v2_put_manifest = put_manifest_or_refuse


def add_scanning_configuration():
    """BatchGetRepositoryScanningConfiguration, which ministack has not: its registry has no rules of its own."""
    from ministack.core.responses import json_response
    from ministack.services import ecr

    handle_request = ecr.handle_request

    async def handle(method, path, headers, body, query_params):
        if not headers.get("x-amz-target", "").endswith(".BatchGetRepositoryScanningConfiguration"):
            return await handle_request(method, path, headers, body, query_params)
        configurations = []
        for name in json.loads(body)["repositoryNames"]:
            if name in ecr._repositories:
                on_push = ecr._repositories[name]["imageScanningConfiguration"].get("scanOnPush", False)
                frequency = "SCAN_ON_PUSH" if on_push else "MANUAL"
                configurations.append({
                    "repositoryArn": ecr._repo_arn(name), "repositoryName": name, "scanOnPush": on_push, "scanFrequency": frequency,
                })
        return json_response({"scanningConfigurations": configurations, "failures": []})

    ecr.handle_request = handle


def add_untagging():
    """BatchDeleteImage of a tag: it takes the tag off, and the image goes with its last one. ministack removes the image at once."""
    from ministack.services import ecr

    delete = ecr._batch_delete_image

    def delete_or_untag(data):
        whole, untagged = [], []
        for wanted in data.get("imageIds", []):
            tag = wanted.get("imageTag")
            image = ecr._find_image(data["repositoryName"], wanted) if tag and "imageDigest" not in wanted else None
            if image is None or image["imageTags"] == [tag]:
                whole.append(wanted)
            else:
                image["imageTags"].remove(tag)
                untagged.append({"imageDigest": image["imageDigest"], "imageTag": tag})
        status, headers, body = delete({**data, "imageIds": whole})
        if status == 200:
            answer = json.loads(body)
            body = json.dumps({**answer, "imageIds": answer["imageIds"] + untagged}).encode()
        return status, headers, body

    ecr._batch_delete_image = delete_or_untag


def add_other_registries():
    """Calls that name another account's registry, by `registryId` or in an ARN: ministack answers them from the caller's own."""
    from ministack.core.responses import get_account_id, get_region, request_scope
    from ministack.services import ecr

    handle_request = ecr.handle_request

    async def handle(method, path, headers, body, query_params):
        data = json.loads(body) if body else {}
        account = data.get("registryId") or "".join(data.get("resourceArn", "").split(":")[4:5]) or get_account_id()
        with request_scope(account, get_region()):
            return await handle_request(method, path, headers, body, query_params)

    ecr.handle_request = handle


# ---- Load balancing ----


def add_target_health():
    """Health checks of target groups, which ministack never makes: each target is `healthy` once it is registered.

    Targets are asked when somebody asks about them or sends them a request, a few times a second at most. One that does not
    answer is `initial`, one that answers badly `unhealthy`, in an ALB's words. Requests go to healthy ones only; to all when
    there is none, as an ALB does. Nobody stops a task that stays unhealthy.
    """
    from ministack.services import alb

    handle_request, forward = alb.handle_request, alb._forward_to_tg
    asked = {}

    def is_well(status, codes):
        bounds = [code.split("-") for code in codes.split(",")]
        return any(int(low) <= status <= int(high[0] if high else low) for low, *high in bounds)

    async def status(group, target):
        reader, writer = await asyncio.open_connection(target["Id"], target.get("Port") or group.get("Port", 80))
        try:
            writer.write(f"GET {group.get('HealthCheckPath', '/')} HTTP/1.0\r\nUser-Agent: ELB-HealthChecker/2.0\r\n\r\n".encode())
            return int((await reader.readline()).split()[1])
        finally:
            writer.close()

    async def state_and_why(arn, group, target):
        key = (arn, target["Id"], target.get("Port"))
        when, found = asked.get(key, (0, None))
        if time.monotonic() - when > 0.2:  # less than the next task with this address takes to start
            try:
                found = await asyncio.wait_for(status(group, target), timeout=2)
            except (OSError, ValueError, IndexError, asyncio.TimeoutError):
                found = None
            asked[key] = (time.monotonic(), found)
        if found is None:
            return "initial", "Initial health checks in progress"
        if is_well(found, group.get("Matcher", {}).get("HttpCode", "200")):
            return "healthy", ""
        return "unhealthy", f"Health checks failed with these codes: [{found}]"

    async def health(arn, group):
        """Each target, its state, and why."""
        targets = list(alb._targets.get(arn, []))
        found = await asyncio.gather(*(state_and_why(arn, group, target) for target in targets))
        return [(target, *state) for target, state in zip(targets, found)]

    async def handle(method, path, headers, body, query_params):
        form = urllib.parse.parse_qs(body.decode(errors="replace") if isinstance(body, bytes) else body or "")
        arn = form.get("TargetGroupArn", [""])[0]
        group = alb._tgs.get(arn)
        if form.get("Action") != ["DescribeTargetHealth"] or group is None or group.get("TargetType") != "ip":
            return await handle_request(method, path, headers, body, query_params)
        members = "".join(
            f"<member><Target><Id>{target['Id']}</Id><Port>{target.get('Port', group.get('Port', 80))}</Port></Target>"
            f"<TargetHealth><State>{state}</State><Description>{why}</Description></TargetHealth></member>"
            for target, state, why in await health(arn, group)
        )
        return alb._xml(200, "DescribeTargetHealth", f"<TargetHealthDescriptions>{members}</TargetHealthDescriptions>")

    async def forward_to_healthy(arn, method, path, headers, body, query_params, raw_query_string=None, raw_path=None):
        group = alb._tgs.get(arn)
        targets = await health(arn, group) if group and group.get("TargetType") == "ip" else []
        well = [target for target, state, _ in targets if state == "healthy"]
        if not well:
            return await forward(arn, method, path, headers, body, query_params, raw_query_string, raw_path)
        return await alb._proxy_http_target(
            random.choice(well), group, method, raw_path or path, headers, body, query_params, raw_query_string
        )

    alb.handle_request, alb._forward_to_tg = handle, forward_to_healthy


# ---- API Gateway: VPC links ----

VPC_LINK_STATES = ("PENDING", "AVAILABLE", "DELETING", "FAILED", "INACTIVE")


class VpcLinks:
    """The VPC links of HTTP APIs, which ministack does not know.

    A link is PENDING for a second, then AVAILABLE; AWS takes minutes over the same. Tests reach the other states:
    `PUT /_stack/vpc-links/{id or *}?status=FAILED` sets a link's state for good (with `*`: that of every link created from now on;
    an empty status goes back to normal).
    """

    PENDING_SECONDS = 1.0

    def __init__(self):
        self.links = {}
        self.next_status = ""

    def view(self, link):
        pending = time.time() - link["created"] < self.PENDING_SECONDS
        status = link["forced"] or ("PENDING" if pending else "AVAILABLE")
        messages = {
            "PENDING": "VPC link is provisioning ENIs",
            "AVAILABLE": "VPC link is ready to route traffic",
            "FAILED": "VPC link provisioning failed: not enough free addresses in subnet",
            "INACTIVE": "VPC link had no traffic for 60 days",
        }
        return {
            **link["data"],
            "vpcLinkStatus": status,
            "vpcLinkStatusMessage": messages.get(status, ""),
        }

    def force(self, link_id, status):
        if status and status not in VPC_LINK_STATES:
            return 400, {"message": f"status is one of {', '.join(VPC_LINK_STATES)}"}
        if link_id == "*":
            self.next_status = status
        elif link_id in self.links:
            self.links[link_id]["forced"] = status
        else:
            return 404, {"message": f"no VPC link {link_id}"}
        return 200, {}

    def tags(self, arn):
        return self.links.get(arn.rsplit("/", 1)[-1], {}).get("data", {}).get("tags")

    def handle(self, gateway, method, link_id, data):
        """One request to /v2/vpclinks, answered as apigatewayv2 answers."""
        if method == "POST" and not link_id:
            if not data.get("subnetIds") or not data.get("name"):
                return gateway._apigw_error("BadRequestException", "name and subnetIds are required", 400)
            link_id = uuid.uuid4().hex[:6]
            self.links[link_id] = {
                "created": time.time(),
                "forced": self.next_status,
                "data": {
                    "vpcLinkId": link_id,
                    "name": data["name"],
                    "subnetIds": data["subnetIds"],
                    "securityGroupIds": data.get("securityGroupIds", []),
                    "tags": data.get("tags", {}),
                    "vpcLinkVersion": "V2",
                    "createdDate": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                },
            }
            return gateway._apigw_response(self.view(self.links[link_id]), 201)
        if method == "GET" and not link_id:
            return gateway._apigw_response({"items": [self.view(link) for link in self.links.values()]})
        link = self.links.get(link_id)
        if link is None:
            return gateway._apigw_error("NotFoundException", f"Invalid VpcLink identifier specified: {link_id}", 404)
        if method == "GET":
            return gateway._apigw_response(self.view(link))
        if method == "PATCH":
            link["data"]["name"] = data.get("name", link["data"]["name"])
            return gateway._apigw_response(self.view(link))
        if method == "DELETE":
            del self.links[link_id]
            return gateway._apigw_response({}, 202)
        return gateway._apigw_error("NotFoundException", f"{method} is not a VPC link operation", 404)


def add_vpc_links(links):
    """`/v2/vpclinks` and the tags of links; and links disappear with everything else on reset."""
    from ministack.services import apigateway

    handle_request, reset = apigateway.handle_request, apigateway.reset

    async def handle(method, path, headers, body, query_params):
        parts = [urllib.parse.unquote(p) for p in path.strip("/").split("/")]
        data = json.loads(body) if body else {}
        if parts[:2] == ["v2", "vpclinks"]:
            return links.handle(apigateway, method, parts[2] if len(parts) > 2 else "", data)
        if parts[:2] == ["v2", "tags"] and (tags := links.tags("/".join(parts[2:]))) is not None:
            if method == "POST":
                tags.update(data.get("tags", {}))
                return apigateway._apigw_response({}, 201)
            if method == "DELETE":
                for key in query_params.get("tagKeys", []):
                    tags.pop(key, None)
                return apigateway._apigw_response({}, 204)
            return apigateway._apigw_response({"tags": tags})
        return await handle_request(method, path, headers, body, query_params)

    def forget():
        links.links.clear()
        links.next_status = ""
        reset()

    apigateway.handle_request, apigateway.reset = handle, forget


def add_private_integrations(links):
    """Integrations whose URI is an ARN: an ALB listener, or a Cloud Map service, reached through a VPC link.

    ministack takes every integration URI for a URL, and forgets which link an integration names and which name it expects
    in a certificate. A link that is not AVAILABLE answers 503, as API Gateway does.
    """
    from ministack.services import alb, apigateway, servicediscovery

    invoke_url = apigateway._invoke_http_proxy
    create, update = apigateway._create_integration, apigateway._update_integration

    def create_with_link(api_id, data):
        before = set(apigateway._integrations.get(api_id, {}))
        response = create(api_id, data)
        for new in set(apigateway._integrations.get(api_id, {})) - before:
            return keep_link(api_id, new, data, 201)
        return response

    def update_with_link(api_id, integration_id, data):
        response = update(api_id, integration_id, data)
        if integration_id in apigateway._integrations.get(api_id, {}):
            return keep_link(api_id, integration_id, data, 200)
        return response

    def keep_link(api_id, integration_id, data, status):
        integration = apigateway._integrations[api_id][integration_id]
        integration.update({key: data[key] for key in ("connectionId", "tlsConfig") if key in data})
        return apigateway._apigw_response(integration, status)

    apigateway._create_integration, apigateway._update_integration = create_with_link, update_with_link

    def unavailable(message):
        return 503, {"Content-Type": "application/json"}, json.dumps({"message": message}).encode()

    async def invoke(integration, path, method, headers, body, query_params):
        uri = integration.get("integrationUri", "")
        if not uri.startswith("arn:"):
            return await invoke_url(integration, path, method, headers, body, query_params)
        link = links.links.get(integration.get("connectionId", ""))
        if link is None or links.view(link)["vpcLinkStatus"] != "AVAILABLE":
            return unavailable("Service Unavailable")
        if ":elasticloadbalancing:" in uri:
            listener = alb._listeners.get(uri)
            if listener is None:
                return unavailable("Service Unavailable")
            balancer = alb._lbs[listener["LoadBalancerArn"]]
            return await alb.dispatch_request(balancer, method, path, headers, body, query_params, port=listener.get("Port", 80))
        instances = servicediscovery._instances.get(uri.rsplit("/", 1)[-1], {})
        for instance in instances.values():
            attributes = instance.get("Attributes", {})
            target = {"Id": attributes.get("AWS_INSTANCE_IPV4", ""), "Port": attributes.get("AWS_INSTANCE_PORT", 80)}
            return await alb._proxy_http_target(target, {}, method, path, headers, body, query_params)
        return unavailable("Service Unavailable")

    apigateway._invoke_http_proxy = invoke


# ---- IAM ----


def add_precise_permissions():
    """The resource of calls to ECS, load balancers and logs as IAM checks it, and what a call needs beside its own action.

    ministack takes the cluster for the resource of a service, and `*` for that of a new target group; and it asks for one action a call:
    AWS also wants iam:PassRole on the roles of a task definition, and the tagging action where a request has tags.
    https://docs.aws.amazon.com/service-authorization/latest/reference/
    """
    from ministack.core import iam_actions, iam_evaluator

    own_resource, own_context, own_enforce, own_answer = (
        iam_actions.extract_resource_arn,
        iam_actions.request_tag_context,
        iam_evaluator.enforce,
        iam_actions.access_denied_response,
    )
    denied_beside = contextvars.ContextVar("denied_beside", default=None)

    def read_json(body):
        try:
            found = json.loads(body or b"{}")
            return found if isinstance(found, dict) else {}
        except ValueError:
            return {}

    def resource(service, method, path, headers, body, query, region, account):
        original = own_resource(service, method, path, headers, body, query, region, account)
        action = headers.get("x-amz-target", "").rsplit(".", 1)[-1]
        told = read_json(body) if service in ("ecs", "logs") else {}
        if service == "ecs":
            cluster = str(told.get("cluster", "")).rsplit("/", 1)[-1]
            named = told.get("serviceName") or told.get("service") or next(iter(told.get("services") or []), None)
            if action in ("CreateService", "UpdateService", "DescribeServices", "DeleteService") and named:
                return f"arn:aws:ecs:{region}:{account}:service/{cluster}/{str(named).rsplit('/', 1)[-1]}"
            if action == "DescribeClusters":
                return f"arn:aws:ecs:{region}:{account}:cluster/{str(next(iter(told.get('clusters') or []), '*')).rsplit('/', 1)[-1]}"
            if action == "DescribeTasks":
                return f"arn:aws:ecs:{region}:{account}:task/{cluster}/{str(next(iter(told.get('tasks') or []), '*')).rsplit('/', 1)[-1]}"
            if action in ("TagResource", "UntagResource", "ListTagsForResource"):
                return told.get("resourceArn", "*")
            if action in ("ListTasks", "RegisterTaskDefinition", "DescribeTaskDefinition"):
                return "*"
        if service == "logs" and action in ("GetLogEvents", "PutLogEvents"):
            return f"{original}:log-stream:{told.get('logStreamName', '')}"
        if service == "logs" and action in ("CreateLogGroup", "CreateLogStream"):
            return f"{original}:*"
        if service == "elasticloadbalancing" and original == "*" and "Name" in query:
            return f"arn:aws:elasticloadbalancing:{region}:{account}:targetgroup/{iam_actions._query_param(query, 'Name')}/0"
        return original

    def context(service, action, body, query):
        result = own_context(service, action, body, query)
        told = read_json(body) if service in ("ecs", "apigateway") else {}
        if service == "ecs" and told.get("cluster"):
            cluster = str(told["cluster"]).rsplit("/", 1)[-1]
            result["ecs:cluster"] = f"arn:aws:ecs:{os.environ['MINISTACK_REGION']}:{os.environ['MINISTACK_ACCOUNT_ID']}:cluster/{cluster}"
        result["stack:beside"] = list_beside(service, action, told, query)
        return result

    def list_beside(service, action, told, query):
        """What else the caller has to be allowed: action, resource (None: that of the call itself), condition keys."""
        beside = []
        if action == "ecs:RegisterTaskDefinition":
            passed = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
            beside += [("iam:PassRole", told[key], passed) for key in ("executionRoleArn", "taskRoleArn") if told.get(key)]
        if service == "ecs" and told.get("tags") and action in ("ecs:CreateService", "ecs:RegisterTaskDefinition"):
            family = told.get("family")
            account, region = os.environ["MINISTACK_ACCOUNT_ID"], os.environ["MINISTACK_REGION"]
            beside.append(("ecs:TagResource", f"arn:aws:ecs:{region}:{account}:task-definition/{family}:1" if family else None, {}))
        if service == "elasticloadbalancing" and any(key.startswith("Tags.") for key in query):
            if action == "elasticloadbalancing:CreateTargetGroup":
                beside.append(("elasticloadbalancing:AddTags", None, {}))
            if action == "elasticloadbalancing:CreateRule":
                rule = iam_actions._query_param(query, "ListenerArn").replace(":listener/", ":listener-rule/", 1)
                beside.append(("elasticloadbalancing:AddTags", f"{rule}/0", {}))
        if service == "apigateway" and action == "apigateway:POST" and told.get("tags"):
            beside.append(("apigateway:TagResource", None, {}))
        return beside

    def enforce(key, action, service, region, resource_arn="*", service_context=None):
        rest = dict(service_context or {})
        beside = rest.pop("stack:beside", [])
        denied = own_enforce(key, action, service, region, resource_arn=resource_arn, service_context=rest)
        for other, on, keys in beside if not denied else []:
            on = on or resource_arn
            if denied := own_enforce(key, other, service, region, resource_arn=on, service_context=keys):
                denied_beside.set((other, on))
                break
        return denied

    def answer(service, action, principal_arn, request_id, **more):
        if beside := denied_beside.get():
            denied_beside.set(None)
            action, more["resource_arn"] = beside
            more["message"] = f"User: {principal_arn} is not authorized to perform: {action} on resource: {more['resource_arn']} because no identity-based policy allows the {action} action"
        return own_answer(service, action, principal_arn, request_id, **more)

    iam_actions.extract_resource_arn = resource
    iam_actions.request_tag_context = context
    iam_evaluator.enforce = enforce
    iam_actions.access_denied_response = answer


# ---- EventBridge Scheduler ----


def add_scheduled_tasks():
    """Schedules whose target is an ECS cluster: ministack fires them and runs no task."""
    from ministack.services import ecs, eventbridge

    invoke = eventbridge._invoke_target

    def lower(value):
        if isinstance(value, dict):
            return {key[:1].lower() + key[1:]: lower(one) for key, one in value.items()}
        return value

    def invoke_or_run(target, event, rule, view=None):
        parameters = target.get("EcsParameters")
        if not parameters:
            return invoke(target, event, rule, view)
        parameters = lower(parameters)
        request = {
            "cluster": target["Arn"],
            "taskDefinition": parameters.pop("taskDefinitionArn"),
            "count": parameters.pop("taskCount", 1),
            "overrides": json.loads(target.get("Input") or "{}"),
            "startedBy": "chronos-schedule/" + rule.get("Name", ""),
            **parameters,
        }
        return ecs._run_task(request)

    eventbridge._invoke_target = invoke_or_run


# ---- Requests ----

READ_ACTION = re.compile(r"^(Assume|BatchCheck|BatchGet|Describe|Discover|Filter|Get|Head|List|Lookup|Query|Scan|Search|Select|Simulate|Start(Live|Query)|Test|Validate)")


class RequestLog:
    """Wraps the ASGI application: one line for each AWS request, and `/_stack/` for the tests' own controls."""

    def __init__(self, app, file, links):
        self.app, self.file, self.links = app, file, links

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"].startswith("/_ministack/"):
            return await self.app(scope, receive, send)
        if scope["path"].startswith("/_stack/"):
            return await self.control(scope, send)
        start, status, body = time.time(), 0, b""

        async def receive_and_keep():
            nonlocal body
            message = await receive()
            if len(body) < 4096:  # the action of a query-protocol request is at the head of its form
                body += message.get("body", b"")[:4096]
            return message

        async def send_and_keep(message):
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive_and_keep, send_and_keep)
        finally:
            service, action = identify(scope, body)
            line = {
                "time": round(start, 3),
                "ms": round((time.time() - start) * 1000),
                "service": service,
                "action": action,
                "write": is_write(service, action, scope["method"]),
                "status": status,
                "method": scope["method"],
                "path": scope["path"],
                "agent": agent(scope),
            }
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()

    async def control(self, scope, send):
        parts = scope["path"].strip("/").split("/")
        query = dict(urllib.parse.parse_qsl(scope["query_string"].decode()))
        if scope["method"] == "PUT" and parts[1] == "vpc-links" and len(parts) == 3:
            status, answer = self.links.force(parts[2], query.get("status", ""))
        else:
            status, answer = 404, {"message": "see tests/stack/README.md"}
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


def identify(scope, body):
    """The service and the action of a request, by the ways in which AWS's protocols name them."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get("host", "")
    path = scope["path"]
    credential = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", headers.get("authorization", ""))
    service = credential.group(1) if credential else ""
    if not service:
        if ".execute-api." in host:
            service = "execute-api"
        elif ".elb." in host or ".alb." in host:
            service = "load-balancer"
        elif path.startswith("/v2/") or path == "/v2":
            service = "registry"
    if target := headers.get("x-amz-target"):
        return service, target.rsplit(".", 1)[-1]
    query = scope["query_string"].decode("latin-1")
    if match := re.search(r"(?:^|&)Action=(\w+)", query) or re.search(r"(?:^|&)Action=(\w+)", body.decode("latin-1")):
        return service or ("sts" if "AssumeRole" in match.group(1) else ""), match.group(1)
    return service, ""


def agent(scope):
    """What the client says it is. A test that counts its own calls names itself there: AWS_SDK_UA_APP_ID."""
    told = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() in (b"user-agent", b"x-amz-user-agent")]
    return " ".join(told)


def is_write(service, action, method):
    if service in ("execute-api", "load-balancer", "sts"):
        return False
    if action:
        return not READ_ACTION.match(action)
    return method not in ("GET", "HEAD", "OPTIONS")


async def serve(args, links):
    from hypercorn.asyncio import serve as hypercorn_serve
    from hypercorn.config import Config
    from ministack import app

    config = Config()
    config.bind = [f"{address}:{args.port}" for address in args.bind]
    config.keep_alive_timeout = 75
    config.graceful_timeout = 1
    with open(f"{args.logs}/requests.log", "a", encoding="utf-8") as file:
        await hypercorn_serve(RequestLog(app.app, file, links), config)


def main():
    args = arguments()
    configure(args)
    links = VpcLinks()
    add_stack_to_containers(args.stack, args.port)
    add_cluster_node(args.stack, args.logs)
    add_mutability_exclusions()
    add_scanning_configuration()
    add_untagging()
    add_other_registries()
    add_target_health()
    add_vpc_links(links)
    add_private_integrations(links)
    add_scheduled_tasks()
    add_precise_permissions()
    asyncio.run(serve(args, links))


if __name__ == "__main__":
    main()
