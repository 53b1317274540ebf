"""The application is the package itself."""

import os

import fastapi

api = fastapi.FastAPI()


@api.get("/")
def index() -> dict[str, str | None]:
    return {"mode": os.environ.get("APP_MODE")}


@api.get("/healthz")
def health() -> dict[str, str]:
    return {"status": "ok"}
