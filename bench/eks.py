#!/usr/bin/env python3
"""eks.py BINARY FOLDER NAME COUNT...: cicd, kubectl and helm bring the same objects to a cluster, in turn.

FOLDER is a service repository whose image was pushed and deployed once. Nothing runs (no copies), so the time is that of the tools and of the API server.
Requests are counted by a `kubectl proxy` between each tool and the API server, in a run of their own.
"""
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
PODS = int(os.environ.get("BENCH_PODS", "1000"))
binary, work, name, *counts = sys.argv[1:]
with open(f"{work}/image.json") as status:
    image = json.load(status)
platform = open(os.environ["INPUT_PLATFORM"]).read()
tools = ["cicd", "kubectl"] + (["helm"] if shutil.which("helm") else [])
if "helm" not in tools:
    print("helm is not installed", file=sys.stderr)


def run(command, **options):
    """Seconds, peak memory in MiB and output of a command that has to end well."""
    started = time.monotonic()
    with open(f"{work}/out", "w+") as out:
        process = subprocess.Popen(command, cwd=work, stdout=out, stderr=subprocess.STDOUT, **options)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        out.seek(0)
        text = out.read()
    if status:
        sys.exit(f"{' '.join(command)[:200]} ended with {os.waitstatus_to_exitcode(status)}:\n{text[-3000:]}")
    return seconds, usage.ru_maxrss / 1024, text


class Proxy:
    """A `kubectl proxy` that notes each request."""

    def __enter__(self):
        self.log = open(f"{work}/requests", "w+")
        self.process = subprocess.Popen(["kubectl", "proxy", "--port=0", "-v=3"], stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.at = "http://127.0.0.1:" + re.search(r":(\d+)$", self.process.stdout.readline().strip())[1]
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def count(self):
        with open(self.log.name) as log:
            return sum("Filter accept" in line for line in log)


def write(count, mark):
    """The same objects for each tool; `mark` is in all of them."""
    more = []
    for number in range(count - 3):
        meta = f'metadata: {{name: more-{number}, labels: {{mark: "{mark}"}}}}'
        if number % 5 == 4:
            more.append(f"apiVersion: v1\nkind: Service\n{meta}\nspec: {{selector: {{app: more-{number}}}, ports: [{{port: 80}}]}}\n")
        elif number % 5 == 3:
            more.append(
                f"apiVersion: apps/v1\nkind: Deployment\n{meta}\nspec:\n  replicas: 0\n  selector: {{matchLabels: {{app: more-{number}}}}}\n"
                f"  template: {{metadata: {{labels: {{app: more-{number}}}}}, spec: {{containers: [{{name: main, image: none}}]}}}}\n"
            )
        else:
            more.append(f'apiVersion: v1\nkind: ConfigMap\n{meta}\ndata: {{mark: "{mark}", text: {"x" * 800}}}\n')
    with open(f"{work}/more.yaml", "w") as file:
        file.write("---\n".join(more))
    with open(f"{work}/service.yaml", "w") as file:
        file.write(f'name: {name}\nport: 8000\nhealth: {{path: /healthz}}\nreplicas: 0\nenv: {{MARK: "{mark}"}}\nmanifests: [more.yaml]\n')
    text = run([binary, "render", "--environment", "staging", "--platform", "platform.yaml", "--version", image["version"], "--digest", image["digest"]])[2]
    for tool in tools[1:]:
        with open(f"{work}/{tool}.yaml", "w") as file:
            file.write(text.replace(space("cicd"), space(tool)))
    if "helm" in tools:
        os.makedirs(f"{work}/chart/templates", exist_ok=True)
        with open(f"{work}/chart/Chart.yaml", "w") as file:
            file.write(f"apiVersion: v2\nname: {name}\nversion: 1.0.0\n")
        shutil.copy(f"{work}/helm.yaml", f"{work}/chart/templates/all.yaml")


def space(tool):
    return f"{name}-{tool}"


def write_platform(endpoint=None):
    here = f"namespace: {space('cicd')}" + (f', endpoint: "{endpoint}"' if endpoint else "") + "}"
    text = platform.replace("namespace: staging}", here)
    if text == platform:
        sys.exit("the stack's platform.yaml has no `namespace: staging}`")
    with open(f"{work}/platform.yaml", "w") as file:
        file.write(text)


def deploy(tool, at=None):
    """Seconds and memory of one deploy; kubectl needs two commands to be as careful."""
    if tool == "cicd":
        command = [binary, "deploy", "--environment", "staging", "--platform", "platform.yaml", "--quiet", "--version", image["version"], "--digest", image["digest"]]
        return run(command)[:2]
    server = [f"--server={at}"] if at else []
    if tool == "helm":
        return run(["helm", "upgrade", "--install", name, "chart", "--namespace", space(tool), *([f"--kube-apiserver={at}"] if at else [])])[:2]
    apply = ["kubectl", *server, "apply", "--server-side", "-f", "kubectl.yaml"]
    steps = [run([*apply, "--dry-run=server"]), run(apply)]
    return sum(step[0] for step in steps), max(step[1] for step in steps)


def requests(tool):
    with Proxy() as proxy:
        if tool == "cicd":
            write_platform(proxy.at)
        deploy(tool, proxy.at)
        counted = proxy.count()
    write_platform()
    return counted


def table(title, measured):
    print(f"\n| {title} | time | / kubectl | requests | memory |\n|---|---|---|---|---|")
    for tool in tools:
        times = [one[0] for one in measured[tool]["rounds"]]
        ratio = statistics.median(mine[0] / theirs[0] for mine, theirs in zip(measured[tool]["rounds"], measured["kubectl"]["rounds"]))
        memory = max(one[1] for one in measured[tool]["rounds"])
        label = "kubectl, dry run and apply" if tool == "kubectl" else tool
        print(f"| {label} | {min(times):.2f}, {statistics.median(times):.2f}, {max(times):.2f} s | {ratio:.2f} | {measured[tool]['requests']} | {memory:.0f} MiB |")


for tool in tools:
    run(["kubectl", "create", "namespace", space(tool)])
try:
    write_platform()
    for count in map(int, counts):
        rounds = ROUNDS if count < 1000 else 3
        measured = {what: {tool: {"rounds": []} for tool in tools} for what in ("changed", "same")}
        write(count, "first")
        for tool in tools:
            deploy(tool)
        for number in range(rounds):
            write(count, f"round-{number}")
            for what in measured:
                for tool in tools if number % 2 else reversed(tools):
                    measured[what][tool]["rounds"].append(deploy(tool))
        write(count, "counted")
        for what in measured:
            for tool in tools:
                measured[what][tool]["requests"] = requests(tool)
        table(f"{count} objects, all of them changed", measured["changed"])
        table(f"{count} objects, nothing changed", measured["same"])
    if PODS:
        # They wait for ever, and need no node.
        pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: pod-%d}\nspec: {schedulingGates: [{name: bench.example.org/never}], containers: [{name: main, image: none}]}\n"
        with open(f"{work}/pods.yaml", "w") as file:
            file.write("---\n".join(pod % number for number in range(PODS)))
        run(["kubectl", "--namespace", space("cicd"), "create", "-f", "pods.yaml"])
        write(20, "among-pods")
        seconds, memory = deploy("cicd")
        print(f"\nA deploy of 20 objects into a namespace with {PODS} pods: {seconds:.2f} s, {memory:.0f} MiB.")
finally:
    for tool in tools:
        subprocess.run(["kubectl", "delete", "namespace", space(tool), "--wait=false"], stdout=subprocess.DEVNULL)
