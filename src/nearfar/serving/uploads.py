"""A recording comes in, and the verdict on it goes out.

How large it is and how long it takes is limited before a byte is decoded. It comes into a file in a folder of its
own, which the worker opens; no name from outside is used.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from nearfar.serving.answers import Verdict
from nearfar.serving.decoding import Decoder
from nearfar.serving.evidence import page_response
from nearfar.serving.limits import Limits
from nearfar.serving.reading import Name
from nearfar.serving.security import RefusedError, cut_off, headers_of, refuse_too_large, too_large, too_slow
from nearfar.serving.service import Service, machine_named
from nearfar.serving.worker import UPLOAD

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
BODY = {
    "requestBody": {
        "required": True,
        "description": "The file itself, such as a WAV or a FLAC; not a form.",
        "content": {"application/octet-stream": BINARY, "audio/wav": BINARY, "audio/flac": BINARY},
    }
}


def add_uploads(api: APIRouter, service: Service, decoder: Decoder) -> None:
    """Add the route that takes a recording."""
    places = Places(service.limits)

    @api.post(
        "/machines/{name}/verdict",
        response_model=Verdict,
        responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
        openapi_extra=BODY,
        summary="What the detector of a machine says of a recording",
    )
    async def verdict(
        name: Name,
        request: Request,
        page: Annotated[bool, Query(description="Answer with the page of the evidence.")] = False,
        at: Annotated[
            float | None,
            Query(
                ge=0,
                allow_inf_nan=False,
                description="Of a long recording: where the window begins, in seconds.",
            ),
        ] = None,
    ) -> Response:
        detector = service.detector(await service.read(lambda c: machine_named(c, name)))
        async with places.file(request) as file:
            if page:
                return page_response(await decoder.page(detector, file, at=at))
            content = await decoder.content(detector, file, at=at)
        return JSONResponse(content)


class Places:
    """For so many recordings at once.

    Parameters
    ----------
    limits : Limits
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._taken = 0

    @asynccontextmanager
    async def file(self, request: Request) -> AsyncIterator[Path]:
        """A file with the body of a request; it is gone afterwards.

        Raises
        ------
        RefusedError
            If there are too many at once; if the body is empty, too large, or takes too long.
        """
        limits = self._limits
        refuse_too_large(headers_of(request.scope), limits.upload_bytes)
        if self._taken >= limits.uploads:
            raise RefusedError(
                429, "too many recordings come in at once", "try again in a few seconds", {"Retry-After": "5"}
            )
        self._taken += 1
        folder = None
        try:
            folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="nearfar-upload-"))
            await self._write(request, folder / UPLOAD)
            yield folder / UPLOAD
        finally:
            self._taken -= 1
            if folder is not None:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _write(self, request: Request, path: Path) -> None:
        limits = self._limits
        try:
            with path.open("wb") as file:
                async with asyncio.timeout(limits.upload_seconds):
                    size = await _copy(request, file, limits.upload_bytes)
        except TimeoutError:
            raise too_slow(limits.upload_seconds) from None
        except ClientDisconnect:
            raise cut_off() from None
        if size == 0:
            raise RefusedError(422, "the body is empty", "send the recording itself as the body")


async def _copy(request: Request, file: BinaryIO, most: int) -> int:
    """Write a body as it comes, in blocks so small that nobody waits for it; how many bytes it had."""
    size = 0
    async for block in request.stream():
        size += len(block)
        if size > most:
            raise too_large(most)
        file.write(block)
    return size
