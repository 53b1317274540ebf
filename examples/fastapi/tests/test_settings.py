import pytest

from patients.settings import Settings


def test_defaults_are_those_of_production() -> None:
    settings = Settings.load()
    assert (settings.app_mode, settings.log_level, settings.port) == ("production", "info", 8000)
    assert (settings.service_version, settings.service_revision) == ("0.0.0", "unknown")
    assert settings.root_path == ""
    assert settings.history_bucket is None


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISTORY_BUCKET", "")
    monkeypatch.setenv("APP_MODE", "")
    settings = Settings.load()
    assert settings.history_bucket is None
    assert not settings.debug


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APP_MODE", "live"),
        ("LOG_LEVEL", "loud"),
        ("PORT", "http"),
        ("PORT", "70000"),
        ("ROOT_PATH", "hospital"),
        ("ROOT_PATH", "/hospital/"),
        ("HISTORY_BUCKET", "Not A Bucket"),
        ("AWS_ENDPOINT_URL", "nowhere"),
    ],
)
def test_a_bad_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"\n{name}: ") as exit:
        Settings.load()
    assert value not in str(exit.value)


def test_every_bad_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_MODE", "prod")
    monkeypatch.setenv("PORT", "0")
    with pytest.raises(SystemExit, match=r"(?s)APP_MODE: .*\nPORT: "):
        Settings.load()


def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://user:hunter2@db/patients")
    settings = Settings.load()
    assert settings.database_url
    assert settings.database_url.get_secret_value().endswith("@db/patients")
    assert "hunter2" not in f"{settings} {settings!r} {settings.model_dump_json()}"
