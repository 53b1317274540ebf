"""What the tests stand on: a clean environment, S3 over real HTTP, the service as a process."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from patients.settings import Settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def wait_until_it_answers(url: str, process: subprocess.Popen[Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx2.get(url, timeout=1).raise_for_status()
            return
        except httpx2.HTTPError:
            time.sleep(0.05)
    process.kill()
    pytest.fail(f"{url} never answered: {process.communicate()}")


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, str]]:
    """The variables that lead to an S3: those of the caller, or of an emulator started here."""
    if "AWS_ENDPOINT_URL" in os.environ:
        yield {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        return
    url = f"http://127.0.0.1:{(port := free_port())}"
    env = {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "LOG_LEVEL": "ERROR"}
    command = [sys.executable, "-m", "ministack"]
    with subprocess.Popen(command, env=os.environ | env, stdout=subprocess.DEVNULL) as process:
        wait_until_it_answers(f"{url}/_ministack/health", process)
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        process.terminate()


@pytest.fixture
def bucket(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a bucket that exists, in an environment that leads there."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    created = httpx2.put(f"{s3['AWS_ENDPOINT_URL']}/patients-tests")
    assert created.status_code in (200, 409), created.text  # 409: by an earlier test
    return "patients-tests"


class Service:
    """The service as a process of its own, as in production."""

    def __init__(self, **env: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "patients.main"],
            env=os.environ | {"PORT": str(self.port)} | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def started(self) -> "Service":
        wait_until_it_answers(f"{self.url}/healthz", self.process)
        return self

    def ended(self) -> tuple[int, list[dict[str, Any]], str]:
        """Its exit code, its log lines and its stderr, once it has ended by itself."""
        out, err = self.process.communicate(timeout=15)
        return self.process.returncode, [json.loads(line) for line in out.splitlines()], err


@pytest.fixture
def service() -> Iterator[Callable[..., Service]]:
    """Starts services; none outlives its test."""
    services: list[Service] = []

    def start(**env: str) -> Service:
        services.append(Service(**env))
        return services[-1]

    yield start
    for one in services:
        one.process.kill()
        one.process.communicate()
