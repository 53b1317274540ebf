"""The application is named as most are."""

import os

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
def index() -> dict[str, str | None]:
    return {"mode": os.environ.get("APP_ENV")}


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}
