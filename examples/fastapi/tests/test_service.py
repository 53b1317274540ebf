from typing import Any

import pytest
from fastapi.testclient import TestClient

from patients.main import create_app
from patients.settings import Settings


def client(**settings: Any) -> TestClient:
    return TestClient(create_app(Settings(**settings)))


def test_it_says_what_it_is() -> None:
    answer = client(service_version="1.4.0", service_revision="4f1c", app_mode="debug").get("/")
    assert answer.json() == {
        "service": "patients",
        "version": "1.4.0",
        "revision": "4f1c",
        "mode": "debug",
    }


@pytest.mark.parametrize("path", ["/healthz", "/patients/healthz"])
def test_health_answers_with_and_without_the_gateways_prefix(path: str) -> None:
    answer = client(root_path="/patients", service_version="1.4.0").get(path)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "version": "1.4.0"})


@pytest.mark.parametrize("path", ["/", "/patients", "/patients/"])
def test_the_prefix_itself_answers_with_and_without_its_last_slash(path: str) -> None:
    answer = client(root_path="/patients").get(path, follow_redirects=False)
    assert (answer.status_code, answer.json()["service"]) == (200, "patients")


@pytest.mark.parametrize("path", ["/patients/healthz", "/other/healthz", "/patientsx/healthz"])
def test_other_prefixes_are_unknown(path: str) -> None:
    root_path = "" if path.startswith("/patients/") else "/patients"
    assert client(root_path=root_path).get(path).status_code == 404


@pytest.mark.parametrize(("mode", "status"), [("debug", 200), ("production", 404)])
def test_docs_are_for_debug_mode(mode: str, status: int) -> None:
    one = client(app_mode=mode, root_path="/patients")
    for path in ["/docs", "/openapi.json", "/patients/docs", "/patients/openapi.json"]:
        assert one.get(path).status_code == status, path


def test_docs_find_their_api_behind_the_gateway() -> None:
    one = client(app_mode="debug", root_path="/patients")
    assert "'/patients/openapi.json'" in one.get("/docs").text
    assert one.get("/openapi.json").json()["servers"] == [{"url": "/patients"}]


@pytest.mark.parametrize(
    ("mode", "detail"), [("debug", "ValueError: bad luck"), ("production", "internal error")]
)
def test_an_unexpected_error_has_its_detail_in_debug_mode_only(mode: str, detail: str) -> None:
    app = create_app(Settings.model_validate({"app_mode": mode}))

    @app.get("/broken")
    async def broken() -> None:
        raise ValueError("bad luck")

    answer = TestClient(app, raise_server_exceptions=False).get("/broken")
    assert (answer.status_code, answer.json()) == (500, {"detail": detail})
