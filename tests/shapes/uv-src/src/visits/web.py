"""The application is made by a function, so that tests can make one of their own."""

import os
from importlib.metadata import version

from fastapi import FastAPI


def create_app() -> FastAPI:
    app = FastAPI(title="visits", version=version("visits"))

    @app.get("/")
    def index() -> dict[str, str | None]:
        return {"mode": os.environ.get("APP_MODE"), "version": app.version}

    @app.get("/healthz")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    return app
