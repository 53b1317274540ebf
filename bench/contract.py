#!/usr/bin/env python3
"""How long the contract of a service's image is checked, beside the time that the service itself takes from `docker run` to its first 2xx.

    contract.py CICD SERVICE.YAML LAYOUT PORT HEALTH

The image has been built and checked once: it is in the engine. Prints rows of a Markdown table.
"""
import re
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

RUNS = 7
cicd, service, layout, port, health = sys.argv[1:]


def output(*command):
    return subprocess.run(command, check=True, text=True, capture_output=True)


def start(image):
    """Seconds from `docker run` to the first 2xx."""
    began = time.monotonic()
    container = output("docker", "run", "--detach", "--publish", f"127.0.0.1::{port}", image).stdout.strip()
    try:
        address = output("docker", "port", container, port).stdout.split()[0]
        while time.monotonic() - began < 60:
            try:
                with urllib.request.urlopen(f"http://{address}{health}", timeout=3):
                    return time.monotonic() - began
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        sys.exit(f"{image} does not answer")
    finally:
        output("docker", "rm", "--force", container)


def check():
    """Seconds of the step, as build-image says them."""
    said = output(cicd, "build-image", "--service", service, "--layout", layout).stderr
    return float(re.search(r"contract: .*\((\d+\.\d+) s\)", said).group(1))


rounds = [(check(), start("cicd.local/patients")) for _ in range(RUNS)]
checks, starts = zip(*rounds)
print(f"| the contract in both modes | {statistics.median(checks):.2f} s | |")
print(f"| the service's own start | {statistics.median(starts):.2f} s | |")
print(f"| contract - 1.5 × start | {statistics.median(check - 1.5 * start for check, start in rounds):.2f} s | |")
