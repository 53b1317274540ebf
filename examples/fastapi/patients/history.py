"""Files in the S3 bucket HISTORY_BUCKET; the AWS_* variables say where S3 is and who asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Request, Response
from obstore.exceptions import BaseError
from obstore.store import S3Store

from patients.logs import log

MAX_BYTES = 10 * 1024 * 1024

router = APIRouter(prefix="/history", tags=["history"])


def open_bucket(bucket: str) -> S3Store:
    """A client of the bucket. It is lazy: nothing is asked of S3 before the first read or write."""
    return S3Store(
        bucket,
        # An emulator's AWS_ENDPOINT_URL is plain HTTP; S3's own address stays HTTPS.
        client_options={"allow_http": True, "connect_timeout": "2s", "timeout": "5s"},
        retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=5)},
    )


def bucket(request: Request) -> S3Store:
    """The bucket that create_app opened, for the endpoints that need it."""
    opened: S3Store | None = request.app.state.bucket
    if opened is None:
        raise HTTPException(503, "history is off: HISTORY_BUCKET is not set")
    return opened


Bucket = Annotated[S3Store, Depends(bucket)]
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


@contextmanager
def failures(request: Request) -> Iterator[None]:
    """Tells the client 404 or 503 for S3's failures, and what S3 said only to the log, or in debug.

    S3 says 404 for a missing file only to those who may list the bucket (s3:ListBucket).
    """
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        said = str(error).partition("\n\nDebug source")[0]
        if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in said:
            raise HTTPException(404, "there is no history file of that name") from None
        log.error("history is not reachable", extra={"fields": {"error": said}})
        detail = f": {said}" if request.app.state.settings.debug else ""
        raise HTTPException(503, "history is not reachable" + detail) from None


@router.put("/{name}")
async def write(name: Name, request: Request, bucket: Bucket) -> dict[str, str | int]:
    """Keeps the request's body, up to 10 MiB, under the name."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise HTTPException(413, f"a history file has at most {MAX_BYTES} bytes")
    with failures(request):
        await bucket.put_async(name, bytes(body))
    return {"name": name, "bytes": len(body)}


@router.get("/{name}", response_class=Response)
async def read(name: Name, request: Request, bucket: Bucket) -> Response:
    """Gives the file back as bytes, never as a type that a browser would run."""
    with failures(request):
        found = await bucket.get_async(name)
        body = bytes(await found.bytes_async())
    return Response(body, media_type="application/octet-stream")
