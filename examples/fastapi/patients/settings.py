"""What the environment says about this process, read once, before anything else happens."""

import sys
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, HttpUrl, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

LogLevel = Literal["debug", "info", "warning", "error"]
BucketName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]


class Settings(BaseSettings):
    """Each field is the environment variable of the same name in capitals; empty means unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    app_mode: Literal["debug", "production"] = "production"
    log_level: Annotated[LogLevel, BeforeValidator(str.lower)] = "info"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    root_path: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = ""
    history_bucket: BucketName | None = None
    aws_endpoint_url: HttpUrl | None = None  # the S3 client reads it itself; here it is checked
    database_url: SecretStr | None = None

    service_version: str = "0.0.0"
    service_revision: str = "unknown"

    crash_at_start: str | None = None

    @property
    def debug(self) -> bool:
        return self.app_mode == "debug"

    @classmethod
    def load(cls) -> Self:
        """The settings, or an exit that names each bad variable (no value: it may be secret)."""
        try:
            return cls()
        except ValidationError as error:
            bad = [f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors()]
            sys.exit("\n".join(["patients cannot start, the environment is wrong:", *bad]))
