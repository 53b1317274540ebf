"""The service as a process: what it logs, and how it starts, stops and fails."""

import signal
import socket
import time
from collections.abc import Callable
from datetime import datetime

import httpx2
from conftest import Service

Start = Callable[..., Service]


def test_each_line_is_json_and_each_request_is_one_line(service: Start) -> None:
    one = service(LOG_LEVEL="debug", ROOT_PATH="/patients").started()
    httpx2.get(f"{one.url}/patients/?name=secret")
    httpx2.get(f"{one.url}/nothing")
    httpx2.get(f"{one.url}/history/a")
    one.process.terminate()
    code, lines, stderr = one.ended()

    assert (code, stderr) == (0, "")
    assert all(datetime.fromisoformat(line["time"]).tzinfo for line in lines)
    assert {"patients", "uvicorn.error"} <= {line["logger"] for line in lines}
    requests = [line for line in lines if line["message"] == "request"]
    assert all(line["ms"] >= 0 for line in requests)
    assert [(r["level"], r["method"], r["path"], r["status"]) for r in requests[-4:]] == [
        ("debug", "GET", "/healthz", 200),
        ("info", "GET", "/patients/", 200),
        ("info", "GET", "/nothing", 404),
        ("error", "GET", "/history/a", 503),
    ]


def test_health_checks_are_silent_unless_debugging(service: Start) -> None:
    one = service(DATABASE_URL="postgres://user:hunter2@db/patients").started()
    one.process.terminate()
    code, lines, _ = one.ended()
    assert code == 0
    assert not [line for line in lines if line["message"] == "request"]
    assert lines[0]["settings"]["database_url"] == "**********"
    assert "hunter2" not in str(lines)


def test_sigterm_lets_a_request_finish(service: Start, bucket: str) -> None:
    one = service(HISTORY_BUCKET=bucket).started()
    with socket.create_connection(("127.0.0.1", one.port), timeout=10) as upload:
        upload.sendall(b"PUT /history/slow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst")
        time.sleep(0.3)
        one.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert one.process.poll() is None
        upload.sendall(b"later")
        assert upload.recv(1024).startswith(b"HTTP/1.1 200 ")
    code, lines, stderr = one.ended()
    assert (code, stderr) == (0, "")
    assert lines[-1]["message"].startswith("Finished server process")


def test_an_idle_connection_does_not_hold_the_stop_up(service: Start) -> None:
    one = service().started()
    with httpx2.Client() as client:
        client.get(f"{one.url}/")
        one.process.terminate()
        asked = time.monotonic()
        assert one.ended()[0] == 0
    assert time.monotonic() - asked < 2


def test_a_crash_that_was_ordered(service: Start) -> None:
    code, lines, stderr = service(CRASH_AT_START="no table named patients").ended()
    assert (code, stderr) == (3, "")
    assert [(line["level"], line["message"]) for line in lines] == [
        ("error", "no table named patients")
    ]


def test_a_bad_environment_ends_without_a_traceback(service: Start) -> None:
    code, lines, stderr = service(APP_MODE="prod").ended()
    assert (code, lines) == (1, [])
    assert stderr == (
        "patients cannot start, the environment is wrong:\n"
        "APP_MODE: Input should be 'debug' or 'production'\n"
    )
