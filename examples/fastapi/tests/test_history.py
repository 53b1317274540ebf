from typing import Any

import pytest
from fastapi.testclient import TestClient

from patients import history
from patients.main import create_app
from patients.settings import Settings


def client(bucket: str | None, **settings: Any) -> TestClient:
    return TestClient(create_app(Settings(history_bucket=bucket, **settings)))


def test_what_is_written_is_read(bucket: str) -> None:
    one = client(bucket)
    for body in [b"first", bytes(range(256)) * 4096, b""]:
        answer = one.put("/history/visit-1.bin", content=body)
        assert (answer.status_code, answer.json()) == (
            200,
            {"name": "visit-1.bin", "bytes": len(body)},
        )
        found = one.get("/history/visit-1.bin")
        assert (found.status_code, found.content) == (200, body)
        assert found.headers["content-type"] == "application/octet-stream"


def test_a_file_that_is_not_there(bucket: str) -> None:
    answer = client(bucket).get("/history/nothing")
    assert answer.status_code == 404
    assert answer.json() == {"detail": "there is no history file of that name"}


def test_a_file_that_is_too_large(bucket: str) -> None:
    one = client(bucket)
    assert one.put("/history/large", content=bytes(history.MAX_BYTES + 1)).status_code == 413
    assert one.get("/history/large").status_code == 404


@pytest.mark.parametrize(
    "name", ["..", ".hidden", "..%2Fsecret", "a%2Fb", "a%00b", "%0A", "x" * 101]
)
def test_a_name_never_leaves_the_bucket(bucket: str, name: str) -> None:
    # 404 and 405: resolved on its way, to no such route; 422: arrived as a name, and refused.
    assert client(bucket).put(f"/history/{name}", content=b"x").status_code in (404, 405, 422)


def test_history_is_off_without_a_bucket() -> None:
    for answer in [client(None).get("/history/a"), client(None).put("/history/a", content=b"x")]:
        assert answer.status_code == 503
        assert answer.json() == {"detail": "history is off: HISTORY_BUCKET is not set"}


@pytest.mark.parametrize("mode", ["debug", "production"])
def test_a_bucket_that_is_not_there(bucket: str, mode: str) -> None:
    answer = client("no-such-bucket", app_mode=mode).get("/history/a")
    assert answer.status_code == 503
    assert answer.json()["detail"].startswith("history is not reachable")
    assert ("NoSuchBucket" in answer.text) == (mode == "debug")


def test_an_s3_that_is_not_there(monkeypatch: pytest.MonkeyPatch, bucket: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    answer = client(bucket).put("/history/a", content=b"x")
    assert (answer.status_code, answer.json()) == (503, {"detail": "history is not reachable"})
