"""The one who writes: what all machines' threads have heard goes into the logbook, in order, by one thread.

Several things that wait are written in one transaction. What is urgent, such as an alert, waits for nothing; the
rest waits at most ``GROUP_S`` for others. If a transaction fails, each of its things is tried alone, so that what
is wrong with one machine stops only this one. A disk that is full stops them all. A server that does not answer is
asked again.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import sqlalchemy as sql

from nearfar.listening.events import Event
from nearfar.logbook import conditions, heard, journal, schema
from nearfar.logbook.database import Database
from nearfar.logbook.heard import Latest, WindowRow
from nearfar.logbook.life_cycle import Condition

logger = logging.getLogger(__name__)

GROUP_S = 0.2  # that something may wait for others, so that they share a commit
MOST_WAITING = 1024  # things; whoever brings more waits
MOST_AT_ONCE = 256  # things in a transaction: others want to write, too
AGAIN_S, AGAIN_MOST_S = 0.5, 10.0  # after which a server is asked again, at first and at most
LOOK_S = 0.25  # between two looks whether to stop meanwhile

T = TypeVar("T")
Writing = Callable[[sql.Connection, float], Any]


class BookError(RuntimeError):
    """Nothing can be written any more; the message says why."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One turn of listening to a machine: what it brings is written in order, all of it or only its beginning.

    Attributes
    ----------
    machine_id : int
    error : Exception or None
        Why something that it brought was not written: nothing after it is.
    recording : (str, int) or None
        Key and row of the recording that was written to last.
    """

    machine_id: int
    error: Exception | None = None
    recording: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """A recording that something was heard in.

    Attributes
    ----------
    key, name : str
    path : str or None
        Of a file that can be read again.
    began_at : float
    rate, channels : int or None
    """

    key: str
    name: str
    path: str | None
    began_at: float
    rate: int | None
    channels: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """A condition becomes active or inactive, or what people are told of it.

    Attributes
    ----------
    what : {"activate", "clear", "suppress", "unsuppress"}
    condition : Condition
    at : float
    message : str
        Of what is activated; the reason of what is suppressed, or of what is cleared if it is not over.
    since : float or None
        The likely beginning of what is wrong; ``None``: see ``windows``.
    windows : int
        For how many windows something has been wrong, the last one counted.
    score, sound, content
        As of ``conditions.activate``.
    """

    what: Literal["activate", "clear", "suppress", "unsuppress"]
    condition: Condition
    at: float
    message: str = ""
    since: float | None = None
    windows: int = 1
    score: float | None = None
    sound: str | None = None
    content: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Mode:
    """What a machine's listening does from then on."""

    mode: str
    at: float
    told: str = ""


@dataclass(slots=True)
class Noted:
    """What follows from one step of listening: it is written as a whole, or not at all.

    Attributes
    ----------
    recording : Begun
    next_window : int
    steps : dict
        What is known after it, as JSON values.
    latest : Latest or None
        ``None`` if no window was heard.
    windows : list of WindowRow
    events : list of (Event, str or None)
        That are over, with their sounds.
    before, after : list of Change
        Of conditions: before the window, and with it.
    mode : Mode or None
    late_s : float or None
        How late it was heard, if that is to be told.
    finished : (float or None, str) or None
        If the recording is over: its length, and the error with which it ended.
    """

    recording: Begun
    next_window: int
    steps: dict[str, Any]
    latest: Latest | None = None
    windows: list[WindowRow] = field(default_factory=list)
    events: list[tuple[Event, str | None]] = field(default_factory=list)
    before: list[Change] = field(default_factory=list)
    after: list[Change] = field(default_factory=list)
    mode: Mode | None = None
    late_s: float | None = None
    finished: tuple[float | None, str] | None = None

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for it."""
        return bool(self.before or self.after)

    def write(self, c: sql.Connection, ticket: Ticket, now: float) -> None:
        """Write all of it.

        Parameters
        ----------
        c : Connection
            That writes.
        ticket : Ticket
        now : float
        """
        machine_id, row = ticket.machine_id, self._row(c, ticket, now)
        for change in self.before:
            apply(c, machine_id, change, now)
        if self.mode is not None:
            heard.set_mode(c, machine_id, self.mode.mode, at=self.mode.at, now=now, told=self.mode.told)
        heard.add_windows(c, machine_id, row, self.windows)
        for event, sound in self.events:
            began_at = self.recording.began_at
            heard.add_event(c, machine_id, row, event, began_at=began_at, sound=sound, now=now)
        for change in self.after:
            apply(c, machine_id, change, now)
        if self.late_s is not None and self.latest is not None:
            at = self.latest.heard_until_at
            journal.note(
                c, machine_id=machine_id, what="heard late", at=at, now=now, content={"seconds": self.late_s}
            )
        if self.latest is not None:
            heard.save_progress(
                c,
                machine_id,
                row,
                next_window=self.next_window,
                steps=self.steps,
                latest=self.latest,
                now=now,
            )
        else:
            _save_steps(c, machine_id, self.steps)
        if self.finished is not None:
            seconds, error = self.finished
            heard.finish_recording(c, row, seconds=seconds, error=error, now=now)

    def _row(self, c: sql.Connection, ticket: Ticket, now: float) -> int:
        """The recording in the logbook."""
        told = self.recording
        if ticket.recording is None or ticket.recording[0] != told.key:
            begun = heard.begin_recording(
                c, ticket.machine_id, key=told.key, name=told.name, path=told.path, began_at=told.began_at,
                rate=told.rate, channels=told.channels, now=now,
            )  # fmt: skip
            ticket.recording = told.key, begun.id
        return ticket.recording[1]


def _save_steps(c: sql.Connection, machine_id: int, steps: dict[str, Any]) -> None:
    """What is known after a recording has ended without another window."""
    table = schema.machines
    c.execute(sql.update(table).where(table.c.id == machine_id).values(steps=json.dumps(steps)))


def apply(c: sql.Connection, machine_id: int, change: Change, now: float) -> None:
    """Write a change of a condition."""
    condition, at = change.condition, change.at
    match change.what:
        case "activate":
            since = change.since
            if since is None:
                since = _began(c, machine_id, change.windows, at)
            conditions.activate(
                c, machine_id, condition, at=at, since=since, message=change.message, now=now,
                score=change.score, sound=change.sound, content=change.content,
            )  # fmt: skip
        case "clear":
            at = max(at, _active_since(c, machine_id, condition))
            conditions.clear(c, machine_id, condition, at=at, now=now, reason=change.message)
        case "suppress":
            conditions.suppress(c, machine_id, condition, at=at, now=now, reason=change.message)
        case "unsuppress":
            conditions.unsuppress(c, machine_id, condition, at=at, now=now)


def _began(c: sql.Connection, machine_id: int, windows: int, at: float) -> float:
    """When the first of the last so many windows began."""
    table = schema.windows
    query = (
        sql.select(table.c.begins_at)
        .where(table.c.machine_id == machine_id, table.c.begins_at < at)
        .order_by(table.c.begins_at.desc())
        .limit(1)
    )
    found = c.execute(query.offset(max(0, windows - 1))).scalar()
    if found is None:  # so long ago that windows have become summaries
        found = c.execute(
            sql.select(sql.func.min(table.c.begins_at)).where(table.c.machine_id == machine_id)
        ).scalar()
    return at if found is None else float(found)


def _active_since(c: sql.Connection, machine_id: int, condition: str) -> float:
    """When a condition became active; before everything if it is not: nothing ends before it begins."""
    table = schema.alerts
    query = sql.select(table.c.began_at).where(
        table.c.machine_id == machine_id, table.c.condition == condition, table.c.active
    )
    found = c.execute(query).scalar()
    return 0.0 if found is None else float(found)


@dataclass(slots=True, eq=False)
class _Job:
    """Something that is to be written."""

    write: Writing
    is_urgent: bool
    ticket: Ticket | None = None
    answer: Future[Any] | None = None

    @property
    def is_void(self) -> bool:
        """Whether something before it was not written."""
        return self.ticket is not None and self.ticket.error is not None

    def refuse(self, error: Exception) -> None:
        if self.ticket is not None:
            self.ticket.error = self.ticket.error or error
        if self.answer is not None:
            self.answer.set_exception(error)


class Book:
    """Writes in a thread of its own.

    Parameters
    ----------
    database : Database
    written : callable
        Called after each commit, in that thread, with whether something urgent was written; it must not wait.
    failed : callable
        Called once, when nothing can be written any more.
    stopping : callable
        Whether watching is to end: then a server that does not answer is not waited for.
    """

    def __init__(
        self,
        database: Database,
        *,
        written: Callable[[bool], None],
        failed: Callable[[], None],
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._database, self._written, self._failed, self._stopping = database, written, failed, stopping
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._is_urgent = self._is_closing = self._is_over = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="nearfar book")

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, ticket: Ticket, noted: Noted) -> None:
        """Something that was heard; it is written soon.

        Raises
        ------
        BookError
            If nothing can be written any more.
        Exception
            Why something before it was not written.
        """
        if ticket.error is not None:
            raise ticket.error
        self._add(_Job(lambda c, now: noted.write(c, ticket, now), noted.is_urgent, ticket))

    def do(self, write: Callable[[sql.Connection, float], T]) -> T:
        """Call a function with a connection that writes and the time, and wait until it is committed.

        Raises
        ------
        BookError
            If nothing can be written any more.
        Exception
            What the function raises.
        """
        job = _Job(write, True, answer=Future())
        self._add(job)
        assert job.answer is not None
        answer: T = job.answer.result()
        return answer

    def error(self) -> Exception | None:
        """Why nothing can be written any more, if that is so."""
        return self._error

    def close(self) -> None:
        """Write all that waits, and end."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()

    def _add(self, job: _Job) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._jobs) < MOST_WAITING or self._error is not None or self._is_over
            )
            if self._error is not None or self._is_over:
                raise BookError(f"nothing can be written: {self._error or 'watching ends'}") from self._error
            self._jobs.append(job)
            self._is_urgent |= job.is_urgent
            if len(self._jobs) == 1 or job.is_urgent or len(self._jobs) >= MOST_AT_ONCE:
                self._changed.notify_all()

    def _run(self) -> None:
        while jobs := self._next():
            try:
                self._write(jobs)
            except Exception as error:
                self._fail(error, jobs)
                return
            self._written(any(job.is_urgent for job in jobs))

    def _next(self) -> list[_Job]:
        """What is written next, in one transaction; empty when there is nothing, and never will be."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._jobs) or self._is_closing)
            self._changed.wait_for(
                lambda: self._is_urgent or self._is_closing or len(self._jobs) >= MOST_AT_ONCE,
                timeout=GROUP_S,
            )
            found = [self._jobs.popleft() for _ in range(min(len(self._jobs), MOST_AT_ONCE))]
            self._is_urgent = any(job.is_urgent for job in self._jobs)
            self._is_over = not found
            self._changed.notify_all()
            return found

    def _write(self, jobs: Sequence[_Job]) -> None:
        """Write these in one transaction; if that fails, one by one.

        Raises
        ------
        OSError
            If nothing can be written any more.
        """
        wait = AGAIN_S
        while True:
            try:
                self._write_at_once(jobs)
                return
            except (ConnectionError, TimeoutError) as error:
                logger.warning("%s; asked again in %g s", error, wait)
                self._wait_for_server(wait, error)
                wait = min(2 * wait, AGAIN_MOST_S)
            except OSError:
                raise  # the disk is full, or something of the kind
            except Exception as error:
                if len(jobs) == 1:
                    jobs[0].refuse(error)
                    return
                for job in jobs:
                    self._write([job])
                return

    def _wait_for_server(self, seconds: float, error: OSError) -> None:
        """Wait so long; raise the error if watching is to end meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._is_closing or self._stopping():
                raise error
            time.sleep(min(left, LOOK_S))

    def _write_at_once(self, jobs: Sequence[_Job]) -> None:
        known = {job.ticket: job.ticket.recording for job in jobs if job.ticket is not None}
        answers: list[tuple[_Job, Any]] = []
        try:
            with self._database.writing() as c:
                now = time.time()
                answers = [(job, job.write(c, now)) for job in jobs if not job.is_void]
        except BaseException:
            for ticket, recording in known.items():
                ticket.recording = recording  # what was begun meanwhile is rolled back
            raise
        for job, answer in answers:
            if job.answer is not None:
                job.answer.set_result(answer)

    def _fail(self, error: Exception, jobs: Sequence[_Job]) -> None:
        with self._changed:
            self._error = error
            waiting = [*jobs, *self._jobs]
            self._jobs.clear()
            self._changed.notify_all()
        for job in waiting:
            if job.answer is None or not job.answer.done():
                job.refuse(BookError(f"nothing can be written: {error}"))
        self._failed()
