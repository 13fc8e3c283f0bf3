"""What happens is told as it happens: server-sent events (WHATWG HTML, section 9.2).

One task looks whether the logbook has changed, four times a second. Only if it has, and somebody follows, it reads
what is new; it makes the text once, for all who follow. A follower who does not take it is cut off: its browser
connects again and says with ``Last-Event-ID`` how far it was, so that it misses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sql

from nearfar.logbook import asked
from nearfar.logbook.schema import machines
from nearfar.serving.answers import Entry
from nearfar.serving.security import RefusedError
from nearfar.serving.service import Service

if TYPE_CHECKING:
    from nearfar.logbook.database import Database

log = logging.getLogger(__name__)

EVERY = 0.25  # s
WATCHER_EVERY = 2.0  # s between two looks whether a watcher runs; our choice
HEARTBEAT = 10.0  # s; proxies end what is silent for a minute
HEARD_EVERY = 1.0  # s between what is told of windows
AT_ONCE = 500  # rows of the journal in one look
MOST_MISSED = 1000  # rows that are told again; whoever missed more loads everything anew
LOST = "event: lost\ndata: {}\n\n"  # to one who missed more
BEAT = ": still here\n\n"


class Follower:
    """One who follows: text that it has not taken yet."""

    def __init__(self, most: int) -> None:
        self._texts: asyncio.Queue[str | None] = asyncio.Queue(most + 1)  # and room for the end
        self._most = most
        self.is_cut = False

    def tell(self, text: str) -> None:
        """One more text; a follower that is too far behind is cut off."""
        if not self.is_cut:
            if self._texts.qsize() >= self._most:
                self.cut()
            else:
                self._texts.put_nowait(text)

    def cut(self) -> None:
        """The end: what was not taken is dropped."""
        self.is_cut = True
        while not self._texts.empty():
            self._texts.get_nowait()
        self._texts.put_nowait(None)

    async def texts(self) -> AsyncIterator[str]:
        """Texts as they come, and a heartbeat where there are none."""
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    text = await self._texts.get()
            except TimeoutError:
                text = BEAT
            if text is None:
                return
            yield text


class Changes:
    """Looks whether the logbook has changed, and tells those who follow.

    Parameters
    ----------
    service : Service
    is_watched : callable
        Whether a program watches with a logbook.
    """

    def __init__(self, service: Service, is_watched: Callable[[Database], bool]) -> None:
        self._service, self._is_watched = service, is_watched
        self._followers: set[Follower] = set()
        self._token = ""
        self._task: asyncio.Task[None] | None = None
        self._newest = -1  # row of the journal
        self._last: int | None = None  # row of the journal that was told; None while nobody follows
        self._heard: Mapping[
            str, float | None
        ] = {}  # of each machine, until when it was heard, as it was told
        self._heard_at = 0.0
        self._heard_is_due = False
        self._watcher_at = 0.0
        self._lock = asyncio.Lock()

    def start(self) -> None:
        """Begin to look; needs a running loop."""
        self._task = asyncio.get_running_loop().create_task(self._look())

    async def stop(self) -> None:
        """No longer look; all who follow are cut off."""
        self.cut_all()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def cut_all(self) -> None:
        """End all streams."""
        for follower in list(self._followers):
            follower.cut()

    async def follow(self, after: int | None) -> Follower:
        """Follow from now on, or from a row of the journal on.

        Parameters
        ----------
        after : int or None
            The last row that is known already.

        Raises
        ------
        RefusedError
            If too many follow already.
        """
        limits = self._service.limits
        follower = Follower(limits.follower_behind)
        async with self._lock:  # so that between what was missed and what comes nothing is lost
            if len(self._followers) >= limits.followers:
                raise RefusedError(
                    429, "too many follow already", "close other pages of this service", {"Retry-After": "10"}
                )
            if not self._followers:
                self._last = None
            last = self._last
            if last is None:
                now, self._heard = await self._service.read(_state)
                last = self._last = now
            follower.tell(f"retry: 2000\nid: {last if after is None else min(after, last)}\n\n")
            if after is not None and after < last:
                follower.tell(await self._missed(after, last))
            self._followers.add(follower)
        return follower

    def leave(self, follower: Follower) -> None:
        """Follow no more."""
        self._followers.discard(follower)

    async def _missed(self, after: int, last: int) -> str:
        rows = await self._service.read(lambda c: asked.journal(c, after=after, most=MOST_MISSED))
        if len(rows) == MOST_MISSED and rows[-1]["id"] < last:
            return f"id: {last}\n{LOST}"
        return "".join(entry_text(row) for row in rows if row["id"] <= last)

    async def _look(self) -> None:
        while True:
            try:
                await self._look_once()
            except Exception:  # whatever it was, those who follow are told again once it can be read
                log.exception("the logbook could not be read; it is tried again")
                await asyncio.sleep(1.0)
            await asyncio.sleep(EVERY)

    async def _look_once(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._watcher_at >= WATCHER_EVERY:
            self._watcher_at = loop.time()
            await self._look_for_watcher()
        token = await loop.run_in_executor(None, self._service.database.changed)
        if token != self._token:
            newest, self._service.heard = await self._service.read(_state)
            self._service.changed(only_heard=newest == self._newest)
            self._newest, self._token = newest, token  # last: what could not be read is looked at again
            self._heard_is_due = True
            async with self._lock:
                if self._followers and self._last is not None and self._last < newest:
                    await self._tell_new(self._last)
        if self._heard_is_due and self._followers and loop.time() - self._heard_at >= HEARD_EVERY:
            self._heard_at, self._heard_is_due = loop.time(), False
            self._tell(self._newly_heard())

    async def _look_for_watcher(self) -> None:
        """Whether a watcher runs; all pages say it at once if that has changed."""
        loop, service = asyncio.get_running_loop(), self._service
        is_watched = await loop.run_in_executor(None, self._is_watched, service.database)
        if is_watched != service.is_watched:
            service.is_watched = is_watched
            service.changed()
            self._tell(event_text("machine", {"what": "watched" if is_watched else "not watched"}))

    async def _tell_new(self, last: int) -> None:
        rows = await self._service.read(lambda c: asked.journal(c, after=last, most=AT_ONCE))
        self._tell("".join(map(entry_text, rows)))
        if rows:
            self._last = rows[-1]["id"]
        if len(rows) == AT_ONCE:
            await self._tell_new(rows[-1]["id"])

    def _newly_heard(self) -> str:
        """Machines of which windows have come since that was told, or since the first follower came."""
        now = self._service.heard
        before, self._heard = self._heard, now
        new = [name for name, until in now.items() if before.get(name) != until]
        return "".join(event_text("machine", {"machine": name, "what": "heard"}) for name in new)

    def _tell(self, text: str) -> None:
        if text:
            for follower in list(self._followers):
                follower.tell(text)


def _state(c: sql.Connection) -> tuple[int, dict[str, float | None]]:
    """The newest row of the journal, and until when each machine was heard."""
    rows = c.execute(sql.select(machines.c.name, machines.c.heard_until_at))
    return asked.latest(c)[0], {row.name: row.heard_until_at for row in rows}


def entry_text(row: Mapping[str, Any]) -> str:
    """A row of the journal as an event: of an alert, an event, or a machine."""
    entry = Entry.model_validate(row).model_dump(mode="json")
    content = entry.pop("content") or {}
    alert = content.get("alert") if isinstance(content, dict) else None
    entry["message"] = alert.get("message") if isinstance(alert, dict) else None
    kind = "machine"
    if entry["alert_id"] is not None:
        kind = "alert"
    elif entry["event_id"] is not None:
        kind = "event"
    return event_text(kind, entry, number=entry["id"])


def event_text(kind: str, data: Mapping[str, Any], *, number: int | None = None) -> str:
    """One event; JSON has no line breaks of its own."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {kind}\ndata: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


def last_event_id(text: str | None) -> int | None:
    """What a browser says in ``Last-Event-ID``; ``None`` if it is no row of the journal."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 17 else None
