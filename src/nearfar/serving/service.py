"""What all routes share: the logbook, its answers that are kept for a moment, and the limits."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import sqlalchemy as sql

from nearfar.logbook import asked, tokens
from nearfar.serving.limits import Limits

if TYPE_CHECKING:
    from nearfar.logbook.database import Database
    from nearfar.logbook.tokens import Known
    from nearfar.watching.site import Site

T = TypeVar("T")
ALL = "*"  # machines; no name of one
ENDED = ("stopped", "removed")  # modes of a machine to which nobody says that they listen
LOST = "lost"  # the mode of a machine that the logbook says to be watched, though no watcher runs
PATIENCE = 10.0  # times what an answer took: so long it may be given while windows come
MOST_PATIENCE = 2.0  # s

LOOPBACK = ("127.0.0.1", "::1", "localhost")
SOUND_NAME = re.compile(r"[^/\\\x00]+")


class NotFoundError(LookupError):
    """There is no such machine, alert, event or sound; the message says so."""


V = TypeVar("V", bound=Sized)


class Kept(Generic[V]):
    """Values by key, such as bytes; those that nobody asked for longest go when there are too many.

    Parameters
    ----------
    most_bytes : int
        The length of all values together. A value that is longer by itself is not kept.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._size = 0
        self._values: OrderedDict[Hashable, V] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """The value; ``None`` if it is not kept."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: Hashable, value: V) -> None:
        """Keep a value."""
        if (old := self._values.pop(key, None)) is not None:
            self._size -= len(old)
        if len(value) <= self._most:
            self._values[key] = value
            self._size += len(value)
        while self._size > self._most:
            self._size -= len(self._values.popitem(last=False)[1])

    def clear(self) -> None:
        """Keep nothing."""
        self._values.clear()
        self._size = 0


@dataclass(frozen=True, slots=True)
class _Answered:
    """An answer, what it is of, and until when it may be given though that has changed."""

    content: bytes
    of: Hashable
    until: float

    def __len__(self) -> int:
        return len(self.content)


@dataclass(eq=False)
class Service:
    """What routes share.

    Answers are kept until the logbook changes, which is looked at four times a second (``changes.Changes``): many
    who ask the same cost one look. What is asked twice at once is looked up once. In a hall of many machines, some
    window is heard all the time. So what is said of one machine is kept until it is heard again; what is said of
    all is also given for a while after windows have come, ten times as long as it took to make, at most two
    seconds. After anything else, such as an alert or what somebody did, no older answer is given.

    Attributes
    ----------
    site : Site
    database : Database
    limits : Limits
    now : callable
        Seconds since 1970 (UTC).
    generation : int
        Grows whenever the logbook has changed.
    heard : mapping from str to float
        Until when each machine was heard, as it was last looked at.
    is_watched : bool
        Whether a watcher runs, as it was last looked at.
    """

    site: Site
    database: Database
    limits: Limits = field(default_factory=Limits)
    now: Callable[[], float] = time.time
    generation: int = 0
    heard: Mapping[str, float | None] = field(default_factory=dict)
    is_watched: bool = True

    def __post_init__(self) -> None:
        # SQLite and the interpreter's lock allow no more at once; more threads only make all of them slower
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="logbook")
        self._kept: Kept[_Answered] = Kept(self.limits.kept_bytes)
        self._told = 0  # how often something else than windows has come
        self._asked: dict[Hashable, asyncio.Future[bytes]] = {}
        self._known: tuple[int, list[Known]] | None = None

    @property
    def is_local(self) -> bool:
        """Whether it answers this computer only."""
        return self.site.serve.host in LOOPBACK

    def changed(self, *, only_heard: bool = False) -> None:
        """The logbook has changed: nothing that was kept is true any more.

        Parameters
        ----------
        only_heard : bool
            Windows have come, and nothing else.
        """
        self.generation += 1
        if not only_heard:
            self._told += 1
            self._kept.clear()

    async def read(self, ask: Callable[[sql.Connection], T]) -> T:
        """What the logbook answers, asked in a thread."""
        return await self._in_thread(lambda: self._read(ask))

    async def write(self, act: Callable[[sql.Connection], T]) -> T:
        """What an action returns, in a transaction of its own; whoever asks afterwards sees what it has done."""
        try:
            return await self._in_thread(lambda: self._write(act))
        finally:
            self.changed()

    async def answer(
        self,
        key: Hashable,
        make: Callable[[sql.Connection], bytes],
        *,
        windows_of: str | None = None,
    ) -> bytes:
        """What ``make`` makes of the logbook; kept until it changes.

        Parameters
        ----------
        key : hashable
            What it depends on, beside the logbook.
        make : callable
            Runs in a thread.
        windows_of : str or None
            The machine whose windows it tells of, or ``ALL``; ``None``: it tells of what the journal tells, too.
        """
        begun = time.monotonic()
        kept = self._kept.get(key)
        of = self._state_of(windows_of)
        if kept is not None and (kept.of == of or begun < kept.until):
            return kept.content
        this = (key, told := self._told)
        if (running := self._asked.get(this)) is not None:
            return await asyncio.shield(running)
        future = asyncio.ensure_future(self.read(make))
        self._asked[this] = future
        future.add_done_callback(lambda _: self._asked.pop(this, None))
        made = await asyncio.shield(future)  # one who leaves does not take it from others
        if told == self._told:
            patience = min(MOST_PATIENCE, PATIENCE * (time.monotonic() - begun)) if windows_of == ALL else 0.0
            self._kept.put(key, _Answered(made, of, begun + patience))
        return made

    def _state_of(self, windows_of: str | None) -> Hashable:
        if windows_of is None:
            return None
        return self.generation if windows_of == ALL else self.heard.get(windows_of, self.generation)

    def as_watched(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row of a machine; where its watcher has ended without a word, its mode is ``LOST``."""
        is_lost = not self.is_watched and row["mode"] not in ENDED
        return {**row, "mode": LOST} if is_lost else row

    async def known_tokens(self) -> list[Known]:
        """All tokens, as the logbook has them."""
        if self._known is None or self._known[0] != self.generation:
            generation = self.generation
            self._known = (generation, await self.read(tokens.known))
        return self._known[1]

    def sound(self, name: str | None) -> Path:
        """The file of a sound that a row names.

        Raises
        ------
        NotFoundError
            If it names none, or one that is not there, or not in the folder of sounds.
        """
        if not name or not SOUND_NAME.fullmatch(name):
            raise NotFoundError("there is no sound of it")
        folder = Path(self.site.sounds).resolve()
        path = (folder / name).resolve()
        if path.parent != folder or not path.is_file():
            raise NotFoundError("its sound is no longer there: older ones make room for newer ones")
        return path

    def detector(self, machine: dict[str, Any]) -> Path:
        """The folder of a machine's detector.

        Raises
        ------
        NotFoundError
            If the site no longer has the machine.
        """
        listed = self.site.machines.get(machine["name"])
        if listed is None:
            raise NotFoundError(f"{machine['name']} is no longer a machine of this site")
        return listed.detector

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _read(self, ask: Callable[[sql.Connection], T]) -> T:
        with self.database.reading() as c:
            return ask(c)

    def _write(self, act: Callable[[sql.Connection], T]) -> T:
        with self.database.writing() as c:
            return act(c)

    def close(self) -> None:
        """Wait for what threads do, and let them go."""
        self._threads.shutdown()


def machine_named(c: sql.Connection, name: str) -> dict[str, Any]:
    """The row of a machine.

    Raises
    ------
    NotFoundError
    """
    return dict(_of_machine(asked.machine, c, name))


def machine_number(c: sql.Connection, name: str) -> int:
    """The id of a machine, which is much quicker to read than its row.

    Raises
    ------
    NotFoundError
    """
    return _of_machine(asked.machine_id, c, name)


def _of_machine(read: Callable[[sql.Connection, str], T | None], c: sql.Connection, name: str) -> T:
    found = None if "\x00" in name else read(c, name)
    if found is None:
        raise NotFoundError("there is no machine of that name")
    return found


def alert_of(c: sql.Connection, number: int) -> dict[str, Any]:
    """The row of an alert, with its journal.

    Raises
    ------
    NotFoundError
    """
    found = asked.alert(c, number)
    if found is None:
        raise NotFoundError(f"there is no alert {number}")
    machine = {"machine": found["machine"]}
    return {**found, "journal": [{**machine, **row} for row in found["journal"]]}


def event_of(c: sql.Connection, number: int) -> dict[str, Any]:
    """The row of an event.

    Raises
    ------
    NotFoundError
    """
    found = asked.event(c, number)
    if found is None:
        raise NotFoundError(f"there is no event {number}")
    return dict(found)
