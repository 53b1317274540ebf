"""The service: its endpoints, and how the process starts and stops."""

import signal
import sys

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from patients import history, logs
from patients.logs import log
from patients.settings import Settings

SECONDS_TO_FINISH = 8  # for requests in flight at SIGTERM; Docker kills after 10


class RootPath:
    """Answers /patients/healthz like /healthz, so that a gateway may keep or strip its prefix.

    uvicorn's own root_path puts the prefix before every path: right only where it is stripped.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app = app
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "root_path": self.root_path}
            # A redirect to /patients/ would go round in circles behind a gateway that takes the last slash away.
            if self.root_path and scope["path"] == self.root_path:
                scope["path"] = f"{self.root_path}/"
        await self.app(scope, receive, send)


def create_app(settings: Settings) -> FastAPI:
    app = FastAPI(
        title="patients",
        version=settings.service_version,
        openapi_url="/openapi.json" if settings.debug else None,  # without it, no /docs either
    )
    app.state.settings = settings
    app.state.bucket = settings.history_bucket and history.open_bucket(settings.history_bucket)
    app.include_router(history.router)
    app.add_middleware(RootPath, root_path=settings.root_path)
    app.add_middleware(logs.RequestLog, health="/healthz")

    @app.get("/")
    async def about() -> dict[str, str]:
        return {
            "service": "patients",
            "version": settings.service_version,
            "revision": settings.service_revision,
            "mode": settings.app_mode,
        }

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Is this process well? It asks no other service: a restart would not cure theirs."""
        return {"status": "ok", "version": settings.service_version}

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        detail = f"{type(error).__name__}: {error}" if settings.debug else "internal error"
        return JSONResponse({"detail": detail}, status_code=500)

    return app


def main() -> None:
    # uvicorn raises SIGTERM again once it has stopped: a stop that was asked for is a success.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    settings = Settings.load()
    logs.configure(settings.log_level)
    if settings.crash_at_start:
        log.error(settings.crash_at_start)
        sys.exit(3)

    shown = settings.model_dump(mode="json", exclude_none=True)  # a SecretStr shows as stars
    log.info("starting", extra={"fields": {"settings": shown}})
    uvicorn.run(
        create_app(settings),
        host="0.0.0.0",  # noqa: S104 (the container's own network)
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
    )


if __name__ == "__main__":
    main()
