"""The routes of the service."""

import os

from fastapi import APIRouter

router = APIRouter()


@router.get("/")
def index() -> dict[str, str | None]:
    return {"mode": os.environ.get("APP_MODE")}


@router.get("/healthz")
def health() -> dict[str, str]:
    return {"status": "ok"}
