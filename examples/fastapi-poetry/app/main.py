"""The service: what it answers. Modules are found beside each other, as /app was the folder they were copied to."""

import os

from fastapi import FastAPI

from settings import DEBUG, MODE

app = FastAPI(title="visits", docs_url="/docs" if DEBUG else None)


@app.get("/")
def about() -> dict[str, str | int]:
    """Which mode it runs in, and what of it: the module that was asked for, the process that answers."""
    return {"mode": MODE, "module": __name__, "process": os.getpid()}


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}
