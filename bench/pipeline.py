#!/usr/bin/env python3
"""CPU and time of the steps of a merge that changes nothing, and the first line of a step in the action's image."""
import json
import os
import statistics
import subprocess
import sys
import time

RUNS = 7
IMAGE = os.environ.get("CICD_BENCH_IMAGE", "cicd:local")
binary, work = sys.argv[1:]


def spent(arguments):
    """Seconds, and CPU seconds of the process with all that it started."""
    started = time.monotonic()
    process = subprocess.Popen([binary, *arguments, "--quiet"], cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{arguments} ended with {os.waitstatus_to_exitcode(status)}")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime


def first_line(arguments):
    """Seconds from `docker run`, as the runner says it, to the first line."""
    mounts = ["-v", f"{work}:/github/workspace", "--workdir", "/github/workspace", "-e", "HOME=/github/workspace", "-e", "GITHUB_ACTIONS=true"]
    started = time.monotonic()
    process = subprocess.Popen(["docker", "run", "--rm", *mounts, IMAGE, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    line = process.stdout.readline().decode().strip()
    seconds = time.monotonic() - started
    process.stdout.read()
    if process.wait():
        sys.exit(f"{arguments} ended with {process.returncode}: {line}")
    return seconds


found = json.loads(subprocess.check_output([binary, "status", "--environment", "staging", "--output", "json"], cwd=work))
image = ["--digest", found["digest"], "--version", found["version"]]
steps = [
    ("check", ["check"]),
    ("version", ["version"]),
    ("push-ecr --preflight", ["push-ecr", "--preflight", "--environment", "staging", "--tag", found["version"]]),
    ("push-ecr, all is there", ["push-ecr", "--environment", "staging", "--tag", found["version"]]),
    ("deploy, unchanged", ["deploy", "--environment", "staging", *image]),
]
print("| step | time | CPU |\n|---|---|---|")
total = 0.0
for name, arguments in steps:
    spent(arguments)
    rounds = [spent(arguments) for _ in range(RUNS)]
    seconds, cpu = (statistics.median(one[at] for one in rounds) for at in (0, 1))
    total += cpu
    print(f"| {name} | {seconds * 1000:.0f} ms | {cpu * 1000:.0f} ms |")
print(f"| all of them | | {total * 1000:.0f} ms |")
if subprocess.run(["docker", "image", "inspect", IMAGE], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
    sys.exit(f"no image {IMAGE}: ./dev image, or CICD_BENCH_IMAGE=NAME")
pairs = [(first_line(["check"]), first_line(["--version"])) for _ in range(RUNS)]
print("\n| in the action's image, to the first line | time |\n|---|---|")
print(f"| check | {statistics.median(one[0] for one in pairs):.2f} s |")
print(f"| --version: what the engine itself needs | {statistics.median(one[1] for one in pairs):.2f} s |")
print(f"| check / --version, pair by pair | {statistics.median(one[0] / one[1] for one in pairs):.2f} |")
