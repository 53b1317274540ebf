"""Files beside each other at the root, and a folder of routes without __init__.py."""

from fastapi import FastAPI

from routes import modes
from settings import TITLE

app: FastAPI = FastAPI(
    title=TITLE,
)
app.include_router(modes.router)
