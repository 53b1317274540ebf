"""The platform that services are deployed to: what an organisation's infrastructure team would have made once.

Made with AWS's own API against the emulator; writes platform.yaml and a kubeconfig into the stack's folder.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import time

import boto3

CLUSTER = "clinicult-staging"
NAMESPACE = "staging"


def client(service):
    return boto3.client(service)


def make_network(name):
    ec2 = client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.20.0.0/16")["Vpc"]["VpcId"]
    zones = [f"{ec2.meta.region_name}{letter}" for letter in "ab"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.20.{number}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
        for number, zone in enumerate(zones)
    ]

    def security_group(role):
        return ec2.create_security_group(GroupName=f"{name}-{role}", Description=f"{role} of {name}", VpcId=vpc)["GroupId"]

    balancer_group, task_group = security_group("load-balancer"), security_group("tasks")
    ec2.authorize_security_group_ingress(
        GroupId=task_group,
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 0, "ToPort": 65535, "UserIdGroupPairs": [{"GroupId": balancer_group}]}],
    )
    return {"vpc": vpc, "subnets": subnets, "balancer-group": balancer_group, "task-group": task_group}


def documented_actions(*steps):
    """The IAM actions that docs/iam.md lists for these steps: what it promises to be enough is all that the roles here may do."""
    actions, step = [], ""
    for line in (pathlib.Path(__file__).parents[2] / "docs/iam.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) < 4:
            continue
        step = cells[1] or step
        if step in steps:
            actions += re.findall(r"`([a-z0-9-]+:[A-Za-z*]+)`", cells[2])
    return actions


def make_role(name, principal, action="sts:AssumeRole", condition=None, may=()):
    statement = {"Effect": "Allow", "Principal": principal, "Action": action}
    if condition:
        statement["Condition"] = condition
    iam = client("iam")
    arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=policy(statement))["Role"]["Arn"]
    if may:
        iam.put_role_policy(RoleName=name, PolicyName="steps", PolicyDocument=policy({"Effect": "Allow", "Action": list(may), "Resource": "*"}))
    return arn


def policy(statement):
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def make_roles(oidc_url):
    issuer = oidc_url.split("://", 1)[1]
    provider = client("iam").create_open_id_connect_provider(
        Url=f"https://{issuer}", ClientIDList=["sts.amazonaws.com"], ThumbprintList=["0" * 40]
    )["OpenIDConnectProviderArn"]

    def for_github(name, may):
        condition = {"StringEquals": {f"{issuer}:aud": "sts.amazonaws.com"}, "StringLike": {f"{issuer}:sub": "repo:clinicult/*"}}
        return make_role(name, {"Federated": provider}, "sts:AssumeRoleWithWebIdentity", condition, may)

    tasks = {"Service": "ecs-tasks.amazonaws.com"}
    return {
        "staging": for_github("cicd-staging", documented_actions("push-ecr", "records", "deploy, eks", "storage")),
        "production": for_github("cicd-production", documented_actions("push-ecr", "records", "deploy, ecs", "exposed", "storage")),
        "execution": make_role("ecs-execution", tasks),
        "task": make_role("patients-task", tasks),
    }


def make_load_balancer(name, network):
    elb = client("elbv2")
    balancer = elb.create_load_balancer(
        Name=name, Subnets=network["subnets"], SecurityGroups=[network["balancer-group"]], Scheme="internal", Type="application"
    )["LoadBalancers"][0]["LoadBalancerArn"]
    nothing_here = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404", "ContentType": "text/plain", "MessageBody": "no such service"}}
    return elb.create_listener(LoadBalancerArn=balancer, Protocol="HTTP", Port=80, DefaultActions=[nothing_here])["Listeners"][0]["ListenerArn"]


def make_ecs(name):
    client("ecs").create_cluster(clusterName=name)
    client("logs").create_log_group(logGroupName=f"/ecs/{name}")


def start_cluster():
    client("eks").create_cluster(
        name=CLUSTER,
        version="1.36",
        roleArn=make_role("eks-cluster", {"Service": "eks.amazonaws.com"}),
        resourcesVpcConfig={},
        accessConfig={"authenticationMode": "API"},
    )


def let_into_cluster(role):
    """The role that GitHub's jobs take may do everything in the one namespace, and nothing outside it."""
    eks = client("eks")
    eks.create_access_entry(clusterName=CLUSTER, principalArn=role, type="STANDARD")
    eks.associate_access_policy(
        clusterName=CLUSTER,
        principalArn=role,
        policyArn="arn:aws:eks::aws:cluster-access-policy/AmazonEKSAdminPolicy",
        accessScope={"type": "namespace", "namespaces": [NAMESPACE]},
    )


def wait_for_cluster(logs, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        cluster = client("eks").describe_cluster(name=CLUSTER)["cluster"]
        if cluster["status"] == "ACTIVE":
            if (logs / "clusters" / CLUSTER / "ready").exists():
                return cluster
            if len(cluster["certificateAuthority"]["data"]) < 100:
                break  # the emulator's mock: no container came up
        time.sleep(0.1)
    raise SystemExit(f"the cluster is not ready within {seconds} s; its logs: {logs / 'clusters' / CLUSTER}, the emulator's: {logs / 'aws.log'}")


def write_kubeconfig(cluster, logs, state):
    kubeconfig = state / "kubeconfig"
    kubeconfig.write_bytes((logs / "clusters" / CLUSTER / "kubeconfig").read_bytes())
    kubeconfig.chmod(0o600)
    kubectl(kubeconfig, "config", "set-cluster", "cluster", "--server", cluster["endpoint"])
    kubectl(kubeconfig, "create", "namespace", NAMESPACE)
    # A pod can only be made where its service account exists, and the controller makes that a moment after the namespace.
    kubectl(kubeconfig, "wait", "-n", NAMESPACE, "--for=create", "serviceaccount/default", "--timeout=20s")


def kubectl(kubeconfig, *arguments):
    subprocess.run(["kubectl", "--kubeconfig", kubeconfig, *arguments], check=True, stdout=subprocess.DEVNULL)


def platform_yaml(args, network, roles, listener):
    return f"""\
# Written by tests/stack/infrastructure.py for the stack "{args.stack}".
registry: {{account: "{args.account}", region: {args.region}, prefix: {args.name}/, endpoint: "{os.environ["AWS_ENDPOINT_URL"]}"}}
records: {{bucket: {args.name}-cicd-records, region: {args.region}}}
environments:
  staging:
    target: eks
    region: {args.region}
    role: {roles["staging"]}
    eks: {{cluster: {CLUSTER}, namespace: {NAMESPACE}}}
  production:
    target: ecs
    region: {args.region}
    role: {roles["production"]}
    ecs:
      cluster: {args.name}
      launch: fargate
      subnets: [{", ".join(network["subnets"])}]
      security-groups: [{network["task-group"]}]
      execution-role: {roles["execution"]}
      task-role: {roles["task"]}
      listener: {listener}
    api-gateway: {{name: {args.name}-public}}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stack", required=True)
    parser.add_argument("--state", required=True, type=pathlib.Path)
    parser.add_argument("--logs", required=True, type=pathlib.Path)
    parser.add_argument("--account", required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--oidc-url", required=True)
    parser.add_argument("--name", default="clinicult")
    args = parser.parse_args()

    start_cluster()  # takes longest, so the rest is made meanwhile
    with concurrent.futures.ThreadPoolExecutor() as pool:
        roles = pool.submit(make_roles, args.oidc_url)
        ecs = pool.submit(make_ecs, args.name)
        network = make_network(args.name)
        listener = make_load_balancer(args.name, network)
        roles, _ = roles.result(), ecs.result()
    let_into_cluster(roles["staging"])
    (args.state / "platform.yaml").write_text(platform_yaml(args, network, roles, listener))
    write_kubeconfig(wait_for_cluster(args.logs), args.logs, args.state)


if __name__ == "__main__":
    main()
