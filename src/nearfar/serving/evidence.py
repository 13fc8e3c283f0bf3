"""What speaks for an alert or an event, as a page: the worker makes it of the sound, when somebody asks for it."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import Hashable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from nearfar.serving.decoding import Decoder
from nearfar.serving.reading import Id
from nearfar.serving.service import Kept, Service, alert_of, event_of, machine_named

META = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)"')
HEAD = 4096  # bytes of a page within which its policy stands
APART = "frame-ancestors 'self'; sandbox allow-scripts allow-downloads allow-popups"


def add_evidence(api: APIRouter, service: Service, decoder: Decoder) -> None:
    """Add the routes of evidence pages."""
    pages = _Pages(service, decoder)

    @api.get(
        "/alerts/{number}/evidence",
        response_class=HTMLResponse,
        summary="What speaks for an alert, as a page",
    )
    async def of_alert(number: Id) -> HTMLResponse:
        return page_response(await pages.of("alert", await service.read(lambda c: alert_of(c, number))))

    @api.get(
        "/events/{number}/evidence",
        response_class=HTMLResponse,
        summary="What speaks for an event, as a page",
    )
    async def of_event(number: Id) -> HTMLResponse:
        return page_response(await pages.of("event", await service.read(lambda c: event_of(c, number))))


class _Pages:
    """Pages that were made; one that is asked for twice at once is made once."""

    def __init__(self, service: Service, decoder: Decoder) -> None:
        self._service, self._decoder = service, decoder
        self._kept: Kept[bytes] = Kept(service.limits.kept_pages_bytes)
        self._made: dict[Hashable, asyncio.Future[bytes]] = {}

    async def of(self, kind: str, row: dict[str, Any]) -> bytes:
        machine = await self._service.read(lambda c: machine_named(c, row["machine"]))
        sound, detector = self._service.sound(row["sound"]), self._service.detector(machine)
        key = (kind, row["id"], sound.stat().st_mtime_ns, machine["detector_digest"])
        if (kept := self._kept.get(key)) is not None:
            return kept
        future = self._made.get(key)
        if future is None:
            # the file ends with the window that the alert or event is about; before it is what led to it
            making = self._decoder.page(detector, sound, last=machine["window_s"])
            future = self._made[key] = asyncio.ensure_future(making)
            future.add_done_callback(lambda _: self._made.pop(key, None))
        page = await asyncio.shield(future)
        self._kept.put(key, page)
        return page


def page_response(page: bytes) -> HTMLResponse:
    """A page that has a policy of its own; the same stands in the header, and it is kept apart from all others."""
    found = META.search(page[:HEAD].decode("utf-8", "replace"))
    own = "default-src 'none'" if found is None else html.unescape(found[1])
    return HTMLResponse(page, headers={"Content-Security-Policy": f"{own}; {APART}"})
