"""Sinks are told what the logbook holds: in order, again until it has arrived, and without holding anything up.

The queue is the logbook. Each sink has a thread, and for each stream of messages a cursor: the number of the last
row that is done with. What arrived, was refused by the receiver, or was dropped is done with.

The rules
---------
* **In order.** A stream is told in the order of its numbers. The journal comes before windows.
* **At once.** After a commit of this process, ``Deliveries.wake`` lets sinks look for rows of the journal. Rows
  that other processes wrote, and windows, are found within ``POLL_S``.
* **Again.** A sink that is down is tried again, after waits that double up to ``Backoff.longest_s``. Half of each
  wait is random, so that many watchers do not come back to one receiver at the same moment.
* **At least once.** The cursor is written after a batch of at most ``BATCH`` messages. After a kill, those of the
  last batch may be told twice, with the same ``id``.
* **Bounded.** A sink for which more than ``most`` rows wait misses the oldest. That is counted, and the sink is
  told ("dropped").
* **A refusal passes.** A message that its receiver refuses is counted, and the next one is told.
* **Nothing else stops.** Whatever a sink raises counts as "down": its thread goes on, and so do all others.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from nearfar.logbook import asked, cursors
from nearfar.logbook.database import Database
from nearfar.watching import messages
from nearfar.watching.sinks import Sink, SinkDownError, SinkRefusedError, Stream

LOG = logging.getLogger(__name__)
MOST = (
    10_000  # rows that may wait for a sink: about a day of windows of one machine, and years of its journal
)
BATCH = 100  # messages between two commits of a cursor
POLL_S = 0.5  # how often rows of other processes, and windows, are looked for
IDLE_S = 1.0  # how often a sink's ``idle`` is called, at least
STOP_S = 5.0  # how long ``stop`` waits for the messages at hand


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after a sink has failed: exponential, bounded, half of it random ("equal jitter").

    Attributes
    ----------
    first_s, longest_s : float
        The bounds of the wait. Our choice: a receiver that restarts is back in seconds, and one that is away for
        days is asked once a minute.

    Examples
    --------
    >>> import random
    >>> from nearfar.watching.deliveries import Backoff
    >>> waits = [Backoff().wait_s(attempt, random.Random(0)) for attempt in (1, 2, 3, 100)]
    >>> [round(wait, 1) for wait in waits]
    [0.5, 0.9, 1.8, 55.3]
    """

    first_s: float = 0.5
    longest_s: float = 60.0

    def wait_s(self, attempt: int, rng: random.Random, *, asked_s: float | None = None) -> float:
        """Seconds to wait after so many attempts in vain; as many as were asked for, within the bounds."""
        if asked_s is not None:
            return min(max(asked_s, self.first_s), self.longest_s)
        bound = min(self.first_s * 2.0 ** min(attempt - 1, 32), self.longest_s)
        return bound * rng.uniform(0.5, 1.0)


class SinkOfSite(Protocol):
    """``watching.site.SinkSite``: a sink's name, and how to make it."""

    @property
    def name(self) -> str: ...

    def make(self) -> Sink: ...


class Told(Protocol):
    """What of ``watching.site.Site`` is told."""

    @property
    def name(self) -> str: ...

    @property
    def sinks(self) -> Mapping[str, SinkOfSite]: ...


@dataclass(frozen=True, slots=True)
class LogbookState:
    """The state as it is now, as the logbook has it (``sinks.SiteState``).

    Attributes
    ----------
    name : str
        Of the site.
    database : Database
    """

    name: str
    database: Database

    def machines(self) -> list[dict[str, Any]]:
        """Each machine as ``logbook.asked.machines`` gives it, also those that were removed."""
        with self.database.reading() as c:
            return asked.machines(c, removed=True)

    def sinks(self) -> list[dict[str, Any]]:
        """How far each sink is, as ``logbook.cursors.standing`` gives it."""
        with self.database.reading() as c:
            return cursors.standing(c)


class _Newest:
    """The numbers of the last rows, asked for once after each change of the logbook, for all sinks together."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._known: dict[Stream, int] = {}
        self._moment = ""

    def of(self, stream: Stream) -> int:
        """The number of the last row of a stream."""
        with self._lock:
            moment = self._database.changed()
            if moment != self._moment:
                with self._database.reading() as c:
                    self._known["journal"], self._known["windows"] = asked.latest(c)
                self._moment = moment
            return self._known[stream]


class Deliveries:
    """All sinks of a site, each with its thread.

    Parameters
    ----------
    site : Site
        Its ``name`` and ``sinks`` are looked at.
    database : Database
    most : int
        How many rows may wait for a sink.
    backoff : Backoff
    now : callable
        The time in seconds since 1970.

    Raises
    ------
    ValueError, MissingPackageError
        If a sink cannot be made of its options. None is started then.

    Examples
    --------
    ::

        deliveries = Deliveries(site, database)
        deliveries.start()
        ...  # after each commit: deliveries.wake()
        deliveries.drain(timeout_s=10)
        deliveries.stop()
    """

    def __init__(
        self,
        site: Told,
        database: Database,
        *,
        most: int = MOST,
        backoff: Backoff = Backoff(),
        now: Callable[[], float] = time.time,
    ) -> None:
        self.state = LogbookState(site.name, database)
        newest = _Newest(database)
        self._couriers = [
            _Courier(name, sink.make(), self.state, newest, most=most, backoff=backoff, now=now)
            for name, sink in site.sinks.items()
        ]

    def start(self) -> None:
        """Begin to tell. A sink that is new begins with what is written from now on."""
        with self.state.database.writing() as c:
            cursors.forget_others(c, [courier.name for courier in self._couriers])
            for courier in self._couriers:
                cursors.register(c, courier.name, courier.sink.streams)
        for courier in self._couriers:
            courier.thread.start()

    def wake(self) -> None:
        """Rows were committed: look for them at once. Returns at once, too."""
        for courier in self._couriers:
            courier.awake.set()

    def drain(self, timeout_s: float) -> bool:
        """Wait until each sink was told all that is there, but for sinks that are failing.

        Parameters
        ----------
        timeout_s : float

        Returns
        -------
        all : bool
            Whether all sinks were told all.
        """
        end = time.monotonic() + timeout_s
        for courier in self._couriers:
            courier.ask_for_all()
        for courier in self._couriers:
            courier.settled.wait(max(0.0, end - time.monotonic()))
        return all(courier.has_all for courier in self._couriers)

    def stop(self, timeout_s: float = STOP_S) -> None:
        """End, after the messages at hand, and after at most so many seconds.

        A sink that takes longer is left alone; its message is told again at the next start, with the same id.
        """
        end = time.monotonic() + timeout_s
        for courier in self._couriers:
            courier.stopping.set()
            courier.awake.set()
        for courier in self._couriers:
            if courier.thread.ident is not None:
                courier.thread.join(max(0.0, end - time.monotonic()))
                if courier.thread.is_alive():
                    LOG.warning(
                        "sink %s is still busy with a message; it is told again next time", courier.name
                    )


@dataclass(slots=True)
class _Courier:
    """One sink and its thread.

    ``settled`` is set when a look for rows, begun after ``ask_for_all``, has found no more, or failed.
    """

    name: str
    sink: Sink
    state: LogbookState
    newest: _Newest
    most: int
    backoff: Backoff
    now: Callable[[], float]
    awake: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)
    settled: threading.Event = field(default_factory=threading.Event)
    has_all: bool = False
    thread: threading.Thread = field(init=False)
    _rng: random.Random = field(default_factory=random.Random)
    _wants_all: bool = False
    _is_open: bool = False
    _attempts: int = 0  # in vain, since the last success
    _was_failing: bool = False  # so the logbook says
    _failing: Stream = "journal"  # which was told when it failed
    _told_until: dict[Stream, int] = field(default_factory=dict)  # nothing waits up to this number
    _polled_at: float = -1e9
    _idled_at: float = -1e9

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, name=f"sink {self.name}", daemon=True)

    def ask_for_all(self) -> None:
        """Set ``settled`` once all that is there was told; at once if the sink is failing."""
        self.has_all = False
        if self._attempts:
            self.settled.set()
            return
        self.settled.clear()
        self._wants_all = True
        self.awake.set()

    def _run(self) -> None:
        while not self.stopping.is_set():
            self.awake.clear()
            wants_all, self._wants_all = self._wants_all, False
            try:
                self._look(wants_all)
            except Exception as error:  # whatever it is, the thread goes on
                wait_s = self._after_failure(error)
                self.settled.set()
                self.stopping.wait(wait_s)
            else:
                if wants_all and not self.stopping.is_set():
                    self.has_all = True
                    self.settled.set()
                self.awake.wait(POLL_S)
        self._close()

    def _look(self, everything: bool) -> None:
        """Tell what is there."""
        if not self._is_open:
            self._failing = self.sink.streams[0]
            self.sink.open(self.state)
            self._is_open = True
        polls = everything or time.monotonic() - self._polled_at >= POLL_S
        if "journal" in self.sink.streams:
            self._tell_all("journal")
        if "windows" in self.sink.streams and polls:
            self._tell_all("windows")
        if polls:
            self._polled_at = time.monotonic()
        if time.monotonic() - self._idled_at >= IDLE_S - POLL_S:
            self.sink.idle()
            self._idled_at = time.monotonic()
        self._works()
        if self._was_failing:
            with self.state.database.writing() as c:
                for stream in self.sink.streams:
                    cursors.works(c, self.name, stream)
            self._was_failing = False

    def _tell_all(self, stream: Stream) -> None:
        """Tell all that waits of a stream."""
        self._failing = stream
        newest = self.newest.of(stream)
        if newest <= self._told_until.get(stream, -1):
            return
        while self._tell_batch(stream):
            if stream == "windows" and self.awake.is_set() and "journal" in self.sink.streams:
                self.awake.clear()
                self._tell_all("journal")
                self._failing = stream
        if not self.stopping.is_set():
            self._told_until[stream] = newest

    def _tell_batch(self, stream: Stream) -> bool:
        """Tell what waits, up to ``BATCH``; whether there may be more."""
        with self.state.database.reading() as c:
            pending = cursors.pending(c, self.name, stream, most=self.most, at_once=BATCH)
        batch = _Batch(dropped=pending.dropped)
        try:
            if pending.dropped:
                self._tell_dropped(stream, pending.dropped, int(pending.rows[0]["id"]))
            for row in pending.rows:
                if self.stopping.is_set():
                    break
                refusal = self._tell_row(stream, row)
                batch.done = int(row["id"])
                if refusal is not None:
                    LOG.warning("sink %s refused %s %d: %s", self.name, stream, batch.done, refusal)
                    batch.refused.append((batch.done, refusal))
        finally:
            self._write(stream, batch)
        return len(pending.rows) == BATCH and not self.stopping.is_set()

    def _tell_dropped(self, stream: Stream, dropped: int, before: int) -> None:
        LOG.warning(
            "sink %s is more than %d rows behind: it misses the oldest %d of %s",
            self.name, self.most, dropped, stream,
        )  # fmt: skip
        try:
            self.sink.deliver(messages.of_dropped(stream, dropped, before, self.state.name, now=self.now()))
        except SinkRefusedError as error:  # it is counted as dropped, whether the sink wants to know or not
            LOG.warning("sink %s refused to be told that: %s", self.name, error)

    def _tell_row(self, stream: Stream, row: Mapping[str, Any]) -> str | None:
        """Tell one row; why it was refused, if it was."""
        make = messages.of_journal if stream == "journal" else messages.of_window
        try:
            message = make(row, self.state.name)
        except Exception as error:  # one that cannot be told must not keep all others from being told
            LOG.exception("row %s of %s cannot be told", row.get("id"), stream)
            return f"it cannot be told: {type(error).__name__}: {error}"
        try:
            self.sink.deliver(message)
        except SinkRefusedError as error:
            return str(error)
        self._works()
        return None

    def _write(self, stream: Stream, batch: _Batch) -> None:
        """Write how far the sink is."""
        if batch.done is None:
            return
        dropped = batch.dropped
        with self.state.database.writing() as c:
            for number, error in batch.refused:
                cursors.refused(c, self.name, stream, number, error=error, dropped=dropped)
                dropped = 0
            if not batch.refused or batch.refused[-1][0] != batch.done:
                cursors.delivered(c, self.name, stream, batch.done, dropped=dropped)

    def _works(self) -> None:
        if self._attempts:
            LOG.info("sink %s works again, after %d attempts in vain", self.name, self._attempts)
            self._attempts = 0

    def _after_failure(self, error: Exception) -> float:
        """Write that the sink is failing; seconds to wait."""
        self._attempts += 1
        self._was_failing = True
        told = str(error) if isinstance(error, SinkDownError) else f"{type(error).__name__}: {error}"
        if not isinstance(error, SinkDownError):
            LOG.exception("sink %s failed in a way that nobody expected", self.name)
        elif self._attempts == 1:
            LOG.warning("sink %s is down: %s", self.name, told)
        try:
            with self.state.database.writing() as c:
                cursors.failed(c, self.name, self._failing, error=told, now=self.now())
        except Exception:  # the logbook itself may be what fails
            LOG.exception("the logbook does not take that sink %s is failing", self.name)
        asked_s = error.retry_after if isinstance(error, SinkDownError) else None
        return self.backoff.wait_s(self._attempts, self._rng, asked_s=asked_s)

    def _close(self) -> None:
        if not self._is_open:
            return
        try:
            self.sink.close()
        except Exception:  # watching ends anyway
            LOG.exception("sink %s could not be closed", self.name)


@dataclass(slots=True)
class _Batch:
    """What became of some rows: the last that is done with, those that were refused, how many were dropped."""

    dropped: int
    done: int | None = None
    refused: list[tuple[int, str]] = field(default_factory=list)
