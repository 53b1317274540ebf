"""One JSON object a line on stdout: the service's own logs and uvicorn's alike."""

import json
import logging
import sys
from datetime import UTC, datetime
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("patients")


class JsonFormatter(logging.Formatter):
    """`log.info("text", extra={"fields": {...}})` adds the fields to the line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str) -> None:
    """Sends every logger of the process through the formatter."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class RequestLog:
    """Logs each request once it is answered; healthy health checks only at debug level."""

    def __init__(self, app: ASGIApp, health: str) -> None:
        self.app = app
        self.health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        status = 500  # what the client is told when the app raises
        started = perf_counter()

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            fields = {
                "method": scope["method"],
                "path": scope["path"],  # never the query string: it may carry personal data
                "status": status,
                "ms": round((perf_counter() - started) * 1000, 1),
            }
            log.log(self._level(scope["path"], status), "request", extra={"fields": fields})

    def _level(self, path: str, status: int) -> int:
        if status >= 500:
            return logging.ERROR
        healthy = path.endswith(self.health) and status == 200
        return logging.DEBUG if healthy else logging.INFO
