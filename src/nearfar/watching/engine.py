"""Machines are watched, for months: a thread for each, one that writes, one that makes evidence.

Who is who
----------
* ``listener.Listener``: a machine's own thread. It hears, and brings what follows to the book.
* ``book.Book``: writes it, in transactions that several machines share.
* ``evidence_maker.EvidenceMaker``: makes what speaks for an alert.
* ``deliveries.Deliveries``: a thread for each sink, which reads what was written.
* ``Watch``: starts and stops them. It looks at the clock: for sound that does not come, for shelves that end, for
  windows and sounds that have become old.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sql

from nearfar.files.memory import keep_freed_memory
from nearfar.logbook import asked, compaction, conditions, heard, schema, watcher
from nearfar.logbook.database import Database
from nearfar.watching import messages, sounds
from nearfar.watching.book import Book, BookError, apply
from nearfar.watching.deliveries import Deliveries
from nearfar.watching.evidence_maker import EvidenceMaker
from nearfar.watching.hearing import NO_SOUND, PAUSED, no_sound, silent_from
from nearfar.watching.listener import EXPECTED, Listener, Means, Ready, Slots
from nearfar.watching.sinks import Message

if TYPE_CHECKING:
    from nearfar.watching.site import Site

logger = logging.getLogger(__name__)

TICK_S = 0.25  # between two looks at the clock, and whether to stop
UPKEEP_S = 3600.0
QUIET_S = 60.0  # without a window, in a pause, until the clock says that it is one
DRAIN_S = 10.0  # that sinks have to take what is there when all sources have ended
LAST_S = 2.0  # that they have to take the last messages, when watching ends
JOIN_S = 60.0  # that a machine's thread has to end: it may be scoring
TOLD_AT_ONCE = 100
T = TypeVar("T")


class WatchError(RuntimeError):
    """Watching cannot begin, or cannot go on: another process watches with this logbook, the disk is full."""


class Watch:
    """Detectors hear the machines of a site.

    Parameters
    ----------
    site : Site
    workers : int
        How many windows are scored at a time.
    told : callable or None
        Called with each message of the journal, in order, after it is written; in the thread of ``run``.
    begun : callable or None
        Called once nothing hinders watching any more, before the first sound is heard; in the thread of ``run``.

    Raises
    ------
    ValueError
        If there are fewer than one worker.
    """

    def __init__(
        self,
        site: Site,
        *,
        workers: int = 1,
        told: Callable[[Message], None] | None = None,
        begun: Callable[[], None] | None = None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers={workers}: must be at least 1")
        self._site, self._workers, self._told, self._begun = site, workers, told, begun

    def run(self, stop: threading.Event) -> None:
        """Watch until ``stop`` is set, or all sources have ended.

        Raises
        ------
        WatchError
            If another process watches with this logbook, or begins to while its server is away; if nothing can be
            written any more.
        LogbookError, OSError
            If the logbook cannot be opened.
        ValueError
            If a machine cannot be heard or a sink not be told, because a detector cannot be read, an option is
            wrong, or a package is not installed: all that is wrong, a line each.
        """
        database = Database.open(self._site.state)
        try:
            with _alone(database) as require_alone:
                running = _Running(self._site, database, self._workers, self._told, stop, require_alone)
                running.prepare()
                if self._begun is not None:
                    self._begun()
                running.run()
        finally:
            database.close()


class _Running:
    """One run of a watch."""

    def __init__(
        self,
        site: Site,
        database: Database,
        workers: int,
        told: Callable[[Message], None] | None,
        stop: threading.Event,
        require_alone: Callable[[], None],
    ) -> None:
        self._site, self._database, self._told, self._stop = site, database, told, stop
        self._require_alone = require_alone
        self._stopping, self._awake = threading.Event(), threading.Event()
        self._deliveries: Deliveries  # made by ``prepare``
        self._book = Book(database, written=self._written, failed=self._stopping.set, stopping=stop.is_set)
        self._evidence = EvidenceMaker(database, self._book, site.sounds)
        slots = Slots(workers, self._stopping)
        means = Means(database, self._book, slots, self._stopping, site.sounds)
        self._listeners = [Listener(machine, means) for machine in site.machines.values()]
        self._upkeep: threading.Thread | None = None
        self._kept_up = time.monotonic()
        with database.reading() as c:
            self._told_until = asked.latest(c)[0]

    def prepare(self) -> None:
        """Open all that machines are heard by, and make what is told.

        A machine that was heard before, and cannot be now, is tried again while the others are watched: after a
        power cut, a damaged detector must not leave a hall without watch.

        Raises
        ------
        ValueError
            If a machine that is new cannot be heard, none can, or a sink cannot be made: all that is wrong, a line
            each.
        """
        keep_freed_memory()
        known = self._heard_before()
        hearing, faults = _opened("machines", {one.machine.name: one.prepare for one in self._listeners})
        _, more = _opened("sinks", {name: sink.make for name, sink in self._site.sinks.items()})
        broken = {one.machine.name for one in self._listeners} - set(hearing)
        if more or not hearing or not broken <= set(known):
            raise ValueError("\n".join(faults + more))
        for listener in self._listeners:
            listener.machine_id = known.get(listener.machine.name)
        for fault in faults:
            logger.error("%s; the others are watched, and this one when it can be read again", fault)
        self._deliveries = Deliveries(self._site, self._database)

    def _heard_before(self) -> dict[str, int]:
        """The machines that were heard before, and their numbers."""
        with self._database.reading() as c:
            return {row["name"]: row["id"] for row in asked.machines(c) if row["heard_until_at"] is not None}

    def run(self) -> None:
        """Watch until it is to stop, nothing can be written any more, or all sources have ended."""
        self._site.sounds.mkdir(parents=True, exist_ok=True)
        sounds.remove_unfinished(self._site.sounds)
        self._book.start()
        try:
            names = list(self._site.machines)
            self._book.do(lambda c, now: heard.remove_others(c, names, now=now))
            self._deliveries.start()
            self._evidence.start()
            for listener in self._listeners:
                listener.start()
            self._supervise()
            if not self._stop.is_set() and not self._stopping.is_set():
                self._drain()
        except BookError:
            pass  # which is told below
        finally:
            self._end()
        if (error := self._book.error()) is not None:
            raise WatchError(
                f"nothing can be written to {self._database}: {error}. What is written is not lost: watching goes "
                "on there when it is started again"
            ) from error

    def _written(self, is_urgent: bool) -> None:
        """After each commit, in the thread of the book."""
        self._deliveries.wake()
        if is_urgent:
            self._evidence.wake()
        self._awake.set()

    def _supervise(self) -> None:
        looked = 0.0
        while any(listener.is_alive for listener in self._listeners):
            if self._stop.is_set() or self._stopping.is_set():
                return
            self._awake.wait(TICK_S)
            self._awake.clear()
            try:
                self._tell()
                if time.monotonic() - looked >= 1.0:
                    looked = time.monotonic()
                    self._look_at_the_clock()
            except (ConnectionError, TimeoutError) as error:  # of a server, which may be back soon
                logger.warning("%s", error)
                self._stop.wait(1.0)

    def _drain(self) -> None:
        """All sources have ended: make the evidence that is left, and let sinks take all of it."""
        while not self._evidence.drain(TICK_S) and not self._stop.is_set():
            self._tell()
        self._deliveries.wake()
        self._deliveries.drain(DRAIN_S)

    def _end(self) -> None:
        """Let all threads finish what they are doing."""
        self._stopping.set()
        deadline = time.monotonic() + JOIN_S
        for listener in self._listeners:
            listener.join(max(0.0, deadline - time.monotonic()))
            if listener.is_alive:
                logger.warning("%s: its source does not end", listener.machine.name)
        self._evidence.stop()
        if self._upkeep is not None:
            self._upkeep.join()
        self._book.close()
        self._deliveries.drain(LAST_S)
        self._deliveries.stop()
        self._tell()

    def _tell(self) -> None:
        """Pass on what is new in the journal."""
        while self._told is not None:
            with self._database.reading() as c:
                rows = asked.journal(c, after=self._told_until, most=TOLD_AT_ONCE)
            for row in rows:
                self._told_until = row["id"]
                self._told(messages.of_journal(row, self._site.name))
            if len(rows) < TOLD_AT_ONCE:
                return

    # the clock

    def _look_at_the_clock(self) -> None:
        now = time.time()
        self._require_alone()
        self._end_shelves(now)
        for listener in self._listeners:
            if listener.follows_clock and listener.is_alive:
                self._look_for_silence(listener, now)
                self._look_for_a_pause(listener, now)
        if time.monotonic() - self._kept_up >= UPKEEP_S:
            self._kept_up = time.monotonic()
            self._upkeep = threading.Thread(target=self._keep_up, name="nearfar upkeep", daemon=True)
            self._upkeep.start()

    def _end_shelves(self, now: float) -> None:
        table = schema.conditions.c
        with self._database.reading() as c:
            over = c.execute(
                sql.select(table.condition).where(table.shelved_until_at <= now).limit(1)
            ).first()
        if over is not None:
            self._book.do(lambda c, now: conditions.expire(c, now=now))

    def _look_for_silence(self, listener: Listener, now: float) -> None:
        """Tell if no sound has come in for too long; once, until some does."""
        since, machine, machine_id = listener.heard_at, listener.machine, listener.machine_id
        at = silent_from(machine, since)
        if now < at or since == listener.told_silent_since or machine_id is None:
            return
        listener.told_silent_since = since
        change = no_sound(machine, since, at)
        self._book.do(lambda c, now: apply(c, machine_id, change, now))
        listener.set_mode(NO_SOUND, change.message)

    def _look_for_a_pause(self, listener: Listener, now: float) -> None:
        """Tell that it is a pause, or is over, though no window says so."""
        is_pause = listener.machine.pauses.is_paused(now, now)
        if is_pause and listener.mode != PAUSED and now - listener.noted_at > QUIET_S:
            listener.set_mode(PAUSED)
        elif not is_pause and listener.mode == PAUSED and listener.is_mode_of_clock:
            listener.set_mode("listening")

    def _keep_up(self) -> None:
        """What has become old is put together, or removed."""
        try:
            compaction.compact(self._database, now=time.time(), keep_windows_s=self._site.keep_windows_s)
            self._remove_sounds()
        except BookError:
            pass
        except Exception:  # whatever it was, listening goes on
            logger.exception("what is old cannot be put together now; tried again in an hour")

    def _remove_sounds(self) -> None:
        """The oldest sounds of events, if there are too many; not those that somebody called normal."""
        table, normals = schema.events.c, schema.normals.c
        query = (
            sql.select(table.sound)
            .where(table.sound.is_not(None), table.sound.not_in(sql.select(normals.sound)))
            .order_by(table.ends_at)
        )
        with self._database.reading() as c:
            names = list(c.execute(query).scalars())
        removed = sounds.remove_oldest(self._site.sounds, names, self._site.keep_sounds_bytes)
        if removed:
            self._book.do(lambda c, _now: _forget_sounds(c, removed))


def check(site: Site) -> dict[str, Ready]:
    """Open all that a watch opens, and start nothing.

    Returns
    -------
    opened : dict
        What would hear each machine, by its name.

    Raises
    ------
    ValueError
        All that is wrong with machines and sinks, a line each.
    LogbookError, OSError
        If the logbook is there and cannot be opened, or its server cannot be reached.
    """
    machines = {name: partial(Ready.of, machine, site.sounds) for name, machine in site.machines.items()}
    sinks = {name: sink.make for name, sink in site.sinks.items()}
    (opened, machine_faults), (_, sink_faults) = _opened("machines", machines), _opened("sinks", sinks)
    if faults := machine_faults + sink_faults:
        raise ValueError("\n".join(faults))
    with suppress(FileNotFoundError):  # the first watch makes it
        Database.open(site.state, make=False).close()
    return opened


def _opened(what: str, ways: Mapping[str, Callable[[], T]]) -> tuple[dict[str, T], list[str]]:
    """What could be opened, by its name, and why others could not, a line each."""
    found, faults = {}, []
    for name, opened in ways.items():
        try:
            found[name] = opened()
        except FileNotFoundError as error:
            reason = f"{error.filename}: no such file or folder" if error.filename else str(error)
            faults.append(f"{what}.{name}: {reason}")
        except EXPECTED as error:
            faults.append(f"{what}.{name}: {error}")
    return found, faults


def _forget_sounds(c: sql.Connection, names: list[str]) -> None:
    """Events whose sounds were removed have none any more."""
    table = schema.events
    statement = sql.update(table).where(table.c.sound == sql.bindparam("name")).values(sound=None)
    c.execute(statement, [{"name": name} for name in names])


@contextmanager
def _alone(database: Database) -> Iterator[Callable[[], None]]:
    """No other process watches with this logbook as long as the body runs; it calls what it is given now and then.

    Raises
    ------
    WatchError
        If one does.
    """
    with _told_by_us(), watcher.alone(database) as require:

        def require_alone() -> None:
            with _told_by_us():
                require()

        yield require_alone


@contextmanager
def _told_by_us() -> Iterator[None]:
    """That another process watches is an error of watching."""
    try:
        yield
    except watcher.WatchedError as error:
        raise WatchError(str(error)) from error
