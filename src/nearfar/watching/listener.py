"""A machine's own thread: recordings come from its source, and what follows from each window goes to the book.

A window of a file is read and scored in one of the *slots*, of which there are as many as windows may be scored
at a time. So hundreds of machines do not hold a window each. Whoever waits in a slot gives it away meanwhile
(``Slots.sleep``). Windows of live sound come when they come: only scoring them takes a slot.

What goes wrong with one machine, whatever it is, is told as its mode, and tried again after a while. It starts from
the logbook then, as after a kill.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import sqlalchemy as sql

from nearfar.files.extras import MissingPackageError
from nearfar.files.listing import DETECTOR
from nearfar.files.memory import keep_freed_memory
from nearfar.listening.scoring import Scorer
from nearfar.listening.session import length_of
from nearfar.logbook import conditions, heard
from nearfar.logbook.database import Database
from nearfar.logbook.heard import MachineRow, MachineTold, RecordingRow
from nearfar.logbook.life_cycle import CONDITIONS, Condition
from nearfar.recordings.audio import AudioError
from nearfar.recordings.microphones import MicrophoneError
from nearfar.watching.book import Book, BookError, Noted, Ticket
from nearfar.watching.finished import Finished
from nearfar.watching.hearing import NO_SOUND, Hearing, is_same_cut, load_lean
from nearfar.watching.sources import Arrival, Ear, Source, SourceError
from nearfar.windows.streaming import Heard, Stream

if TYPE_CHECKING:
    from nearfar.watching.site import MachineSite

logger = logging.getLogger(__name__)

UNREADABLE = (
    AudioError,
    MicrophoneError,
    MissingPackageError,
    OSError,
)  # what ends a recording, not the turn
AGAIN_S, AGAIN_MOST_S = 1.0, 60.0  # after which a machine, or a source, is tried again, at first and at most
SEEN_S = 30.0  # between two looks whether a detector was replaced
LATE_S = 5.0  # by which live sound is heard late, or by the length of a window if that is longer
EXPECTED = (ValueError, OSError, MissingPackageError)  # whose message says it all
ANOTHER_CUT = "another length of windows was set, so the rest of it is not heard"
T = TypeVar("T")


class Slots:
    """Places in which windows are scored: as many as may be scored at a time.

    Parameters
    ----------
    count : int
    stopping : Event
    """

    def __init__(self, count: int, stopping: threading.Event) -> None:
        self._free, self._stopping = threading.Semaphore(count), stopping
        self._own = threading.local()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Have a slot."""
        self._free.acquire()
        self._own.has = True
        try:
            yield
        finally:
            self._own.has = False
            self._free.release()

    def sleep(self, seconds: float) -> None:
        """Wait, or until watching ends; another one has the slot meanwhile."""
        has = getattr(self._own, "has", False)
        if has:
            self._free.release()
        try:
            self._stopping.wait(seconds)
        finally:
            if has:
                self._free.acquire()


@dataclass(frozen=True, slots=True)
class Means:
    """What all listeners share.

    Attributes
    ----------
    database : Database
    book : Book
    slots : Slots
    stopping : Event
    sounds : Path
        Folder.
    now : callable
        The time in seconds since 1970 (UTC).
    """

    database: Database
    book: Book
    slots: Slots
    stopping: threading.Event
    sounds: Path
    now: Callable[[], float] = time.time


class Listener:
    """Hears one machine, in a thread of its own.

    Parameters
    ----------
    machine : MachineSite
    means : Means

    Attributes
    ----------
    machine_id : int or None
        ``None`` until the logbook has been asked.
    follows_clock : bool
        Whether sound is to be expected now.
    heard_at : float
        When sound came in last, by the clock of this computer; before any did, when listening began.
    heard_until : float or None
        The end of the last window, by the clock of the recording.
    noted_at : float
        When a window was heard last.
    mode : str
        As it was set last.
    is_mode_of_clock : bool
        Whether that was by another thread, because of the time.
    told_silent_since : float or None
        Since when there was no sound, when that was told last.
    """

    def __init__(self, machine: MachineSite, means: Means) -> None:
        self.machine, self._means = machine, means
        self.machine_id: int | None = None
        self.follows_clock = False
        self.heard_at = self.noted_at = means.now()
        self.heard_until: float | None = None
        self.told_silent_since: float | None = None
        self.mode, self.is_mode_of_clock = "", False
        self._outside: str | None = None  # a mode that the supervisor has set meanwhile
        self._ready: Ready | None = None
        self._thread = threading.Thread(target=self._run, name=f"nearfar {machine.name}", daemon=True)

    def prepare(self) -> Ready:
        """Open what is heard, and by what: so what is wrong is told before anything starts.

        Raises
        ------
        ValueError, OSError
            If the detector cannot be read, or cannot keep the rule for alerts, or an option of the source is wrong.
        MissingPackageError
            If one of them needs a package that is not installed.
        """
        self._ready = Ready.of(self.machine, self._means.sounds)
        return self._ready

    def taken_ready(self) -> Ready:
        """What was prepared, once; or the same anew."""
        ready, self._ready = self._ready, None
        return ready or Ready.of(self.machine, self._means.sounds)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether it listens, or will."""
        return self._thread.is_alive()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for its end."""
        self._thread.join(timeout_s)

    def set_mode(self, mode: str, told: str = "", *, at: float | None = None) -> None:
        """Say what listening does, from another thread or its own."""
        machine_id, at = self.machine_id, self._means.now() if at is None else at
        if machine_id is None:
            return
        moment = at

        def write(c: sql.Connection, now: float) -> None:
            heard.set_mode(c, machine_id, mode, at=moment, now=now, told=told)

        self._means.book.do(write)
        self._outside = self.mode = mode
        self.is_mode_of_clock = True

    def taken_mode(self) -> str | None:
        """A mode that was set from outside since the last question."""
        mode, self._outside = self._outside, None
        return mode

    def _run(self) -> None:
        wait, stopping = AGAIN_S, self._means.stopping
        told = ""
        while not stopping.is_set():
            began = time.monotonic()
            try:
                told = ""
                _Turn(self.machine, self._means, self).take()
                break
            except BookError:
                return
            except Exception as error:
                told = str(error) if isinstance(error, EXPECTED) else f"{type(error).__name__}: {error}"
                trace = None if isinstance(error, EXPECTED) else error
                logger.error(
                    "%s: is not heard; tried again in %g s: %s", self.machine.name, wait, told, exc_info=trace
                )
                if not self._say_stopped(told):
                    return
            stopping.wait(wait)
            wait = AGAIN_S if time.monotonic() - began > AGAIN_MOST_S else min(2 * wait, AGAIN_MOST_S)
        self._say_stopped("" if stopping.is_set() else "its source has ended")

    def _say_stopped(self, told: str) -> bool:
        """Whether it could be said."""
        try:
            self.set_mode("stopped", told, at=None if self.follows_clock else self.heard_until)
        except BookError:
            return False
        except Exception:  # whatever it was, other machines are heard
            logger.exception("%s: cannot be said to have stopped", self.machine.name)
        return True


@dataclass(frozen=True, slots=True)
class Ready:
    """What a turn begins with.

    Attributes
    ----------
    hearing : Hearing
    source : Source
    stamp : tuple or None
        Of the detector, from before it was read.
    """

    hearing: Hearing
    source: Source
    stamp: tuple[int, int, int] | None

    @classmethod
    def of(cls, machine: MachineSite, folder: Path) -> Self:
        """What hears a machine; ``folder`` is that of sounds."""
        stamp = _stamp_of(machine.detector)
        hearing = Hearing(machine, load_lean(machine.detector), folder)
        return cls(hearing, machine.make_source(hearing.detector), stamp)


class _Turn:
    """Listening from what the logbook knows to the end of the source, or the first error."""

    def __init__(self, machine: MachineSite, means: Means, listener: Listener) -> None:
        self._machine, self._means, self._listener = machine, means, listener
        self._looked = time.monotonic()
        with means.slots.one():  # so that not hundreds load at once
            keep_freed_memory()
            ready = listener.taken_ready()
        self._hearing, self._source, self._stamp = ready.hearing, ready.source, ready.stamp
        self._finished = Finished((), self._asked)
        self._is_late = False
        self._unfinished: list[RecordingRow] = []  # the first ones that were begun come first
        self._ticket = self._opened()
        listener.follows_clock = self._source.follows_clock

    def take(self) -> None:
        """Hear whatever comes.

        Raises
        ------
        BookError
            If nothing can be written any more.
        """
        means = self._means
        ear = Ear(
            lambda key: key in self._finished, means.stopping.is_set, means.slots.sleep, means.now,
            self._has_come, self._hearing.detector.selected_channels,
        )  # fmt: skip
        if self._source.follows_clock:
            self._listener.set_mode("listening")
        wait, told = AGAIN_S, ""
        while not self._stops:
            try:
                self._finished = Finished(self._known(), self._asked)
                with _closed(self._source.arrivals(ear)) as arrivals:
                    for arrival in arrivals:
                        if self._stops:
                            break
                        self._hear(arrival)
                        wait, told = AGAIN_S, ""
                    else:
                        self._abandon(None)
                        return
            except SourceError as error:
                if str(error) != told:  # once, however long it lasts
                    told = str(error)
                    logger.warning("%s: %s; tried again until it is there", self._machine.name, told)
                self._listener.set_mode(NO_SOUND, str(error))
                self._means.stopping.wait(wait)
                wait = min(2 * wait, AGAIN_MOST_S)

    @property
    def _stops(self) -> bool:
        return self._means.stopping.is_set()

    def _opened(self) -> Ticket:
        """The machine as the logbook knows it; hearing goes on from there."""
        hearing = self._hearing

        def write(c: sql.Connection, now: float) -> tuple[MachineRow, list[RecordingRow], set[Condition]]:
            row = _open_machine(c, hearing.told, now)
            active: set[Condition] = {one for one in CONDITIONS if conditions.is_active(c, row.id, one)}
            return row, heard.unfinished(c, row.id), active

        row, self._unfinished, active = self._means.book.do(write)
        hearing.go_on(row.steps, row.heard_until_at, row.mode, active)
        self._listener.machine_id = row.id
        self._listener.heard_until = row.heard_until_at
        return Ticket(row.id)

    # the ear of the source

    def _known(self) -> Iterable[str]:
        """The recordings that the logbook has and that were heard to their end."""
        return self._read(lambda c: list(heard.finished_keys(c, self._ticket.machine_id)))

    def _asked(self, key: str) -> bool:
        """The same, of one recording."""
        return self._read(lambda c: heard.is_finished(c, self._ticket.machine_id, key))

    def _read(self, ask: Callable[[sql.Connection], T]) -> T:
        """Ask the logbook; again, if its server does not answer."""
        while True:
            try:
                with self._means.database.reading() as c:
                    return ask(c)
            except (ConnectionError, TimeoutError) as error:  # of a server, which may be back soon
                if self._stops:
                    raise
                logger.warning("%s; asked again in %g s", error, AGAIN_S)
                self._means.stopping.wait(AGAIN_S)

    def _has_come(self, at: float) -> None:
        self._listener.heard_at = max(self._listener.heard_at, min(at, self._means.now()))

    # recordings

    def _hear(self, arrival: Arrival) -> None:
        """All windows of a recording."""
        self._look_for_another_detector()
        row = self._abandon(arrival)
        is_live = self._source.is_live or arrival.recording is None
        hearing, stream = self._hearing, arrival.stream
        if stream is None:
            hearing.begin(arrival, row, is_whole=False, is_live=is_live)
            self._put(hearing.unreadable(AudioError(arrival.error)))
            return
        seconds = None if is_live else _length(stream, arrival)
        is_whole = seconds is not None and hearing.task.is_whole(seconds)
        hearing.begin(arrival, row, is_whole=is_whole, is_live=is_live)
        try:
            self._hear_windows(
                stream, 0 if row is None else row.next_window, seconds if is_whole else None, is_live
            )
        except SourceError as error:
            self._put(self._hearing.end(str(error)))
            raise
        except UNREADABLE as error:
            self._put(self._hearing.unreadable(error))

    def _hear_windows(self, stream: Stream, first: int, whole_s: float | None, is_live: bool) -> None:
        """The windows of a recording from that one on; ``whole_s`` is its length if it is one window, as it is."""
        scorer = self._scorer(stream, whole_s)
        with _closed(scorer.windows(first)) as windows:
            while not self._stops:
                noted = (
                    self._live(windows, scorer)
                    if is_live
                    else self._next(windows, scorer, whole_s is not None)
                )
                if noted is None:
                    break
                self._put(noted)
                if noted.finished is not None:
                    return
                if time.monotonic() - self._looked >= SEEN_S and self._look_for_another_detector():
                    if not is_same_cut(scorer.cut, self._hearing.task.own_cut):
                        self._put(self._hearing.end(ANOTHER_CUT))
                        return
                    scorer = self._scorer(stream, None)
        if is_live or not self._stops:  # a file that is heard to here goes on when watching does
            self._put(self._hearing.end())

    def _scorer(self, stream: Stream, whole_s: float | None) -> Scorer:
        task = self._hearing.task
        if whole_s is not None:
            return Scorer.of_whole(task.detector, stream, whole_s)
        return Scorer(task.detector, stream, task.own_cut)

    def _next(self, windows: Iterator[Heard], scorer: Scorer, is_whole: bool) -> Noted | None:
        """The next window of a file: read and scored in one slot."""
        with self._means.slots.one():
            window = None if self._stops else next(windows, None)
            if window is None or self._stops:  # a source that stops may end a recording too early
                return None
            return self._noted(window, scorer, is_whole)

    def _live(self, windows: Iterator[Heard], scorer: Scorer) -> Noted | None:
        """The next window of live sound, when it comes."""
        window = next(windows, None)
        if window is None or self._stops:
            return None
        with self._means.slots.one():
            noted = self._noted(window, scorer, False)
        if noted.latest is not None:
            self._tell_if_late(noted, noted.latest.heard_until_at)
        return noted

    def _noted(self, heard: Heard, scorer: Scorer, is_whole: bool) -> Noted:
        """What follows from a window."""
        hearing = self._hearing
        if (mode := self._listener.taken_mode()) is not None:
            hearing.was_set(mode)
        window = scorer.window_of(heard)
        if hearing.is_paused(window):
            return hearing.pause(heard, window, is_last=is_whole)
        return hearing.after(heard, scorer.of(heard), is_last=is_whole)

    def _tell_if_late(self, noted: Noted, ended_at: float) -> None:
        """Once, until it is heard in time again."""
        late, most = self._means.now() - ended_at, max(LATE_S, self._hearing.task.own_cut.seconds)
        if late > most and not self._is_late:
            noted.late_s, self._is_late = late, True
        elif late < most / 2:
            self._is_late = False

    def _put(self, noted: Noted) -> None:
        if noted.finished is not None:
            self._finished.add(noted.recording.key)
        listener = self._listener
        if noted.latest is not None:
            listener.heard_until, listener.noted_at = noted.latest.heard_until_at, self._means.now()
            self._has_come(noted.latest.heard_until_at)
        if noted.mode is not None:
            listener.mode, listener.is_mode_of_clock = noted.mode.mode, False
        self._means.book.put(self._ticket, noted)

    def _abandon(self, arrival: Arrival | None) -> RecordingRow | None:
        """End the recordings that were begun and cannot be heard any more; the row of the one that arrives.

        A file that is still there will be offered again, though others come before it. Then it goes on. Its event
        is over.
        """
        found, kept = None, []
        for row in self._unfinished:
            if arrival is not None and row.key == arrival.key:
                found = row
            elif arrival is not None and _will_come(row, arrival):
                kept.append(row)
                if (noted := self._hearing.set_aside(row)) is not None:
                    self._put(noted)
            else:
                self._put(self._hearing.abandon(row))
        self._unfinished = kept
        return found

    # the detector

    def _look_for_another_detector(self) -> bool:
        """Whether the detector was replaced, and the new one hears from now on."""
        self._looked = time.monotonic()
        stamp = _stamp_of(self._machine.detector)
        if stamp is None or stamp == self._stamp:
            return False
        former = self._hearing
        try:
            with self._means.slots.one():
                hearing = Hearing(self._machine, load_lean(self._machine.detector), self._means.sounds)
        except (ValueError, OSError) as error:
            logger.warning(
                "%s: the new detector cannot be used, so the former one goes on: %s",
                self._machine.name,
                error,
            )
            self._stamp = stamp
            return False
        self._stamp = stamp
        if hearing.told == former.told:
            return False
        hearing.take_over(former)
        self._means.book.do(lambda c, now: _open_machine(c, hearing.told, now))
        if not is_same_cut(hearing.task.own_cut, former.task.own_cut):
            self._unfinished = []
        self._hearing = hearing
        return True


def _open_machine(c: sql.Connection, told: MachineTold, now: float) -> MachineRow:
    """The machine; if windows lie elsewhere now, a recording that is half heard cannot go on at its next window."""
    cut = heard.cut_of(c, told.name)
    row = heard.open_machine(c, told, now=now)
    if cut is not None and cut != (told.window_s, told.hop_s):
        for one in heard.unfinished(c, row.id):
            seconds = 0.0 if one.next_window == 0 else (one.next_window - 1) * cut[1] + cut[0]
            heard.finish_recording(c, one.id, seconds=seconds, error=ANOTHER_CUT, now=now)
    return row


def _will_come(row: RecordingRow, arrival: Arrival) -> bool:
    """Whether a recording that was begun will be offered again, after the one that arrives."""
    if row.path is None or (arrival.recording is not None and row.path == str(arrival.recording.path)):
        return False  # it is gone; or its file was changed, so it is another recording now
    return Path(row.path).exists()


def _length(stream: Stream, arrival: Arrival) -> float | None:
    """How long a file is, in seconds; ``None`` if that cannot be known."""
    if stream.samples is not None:
        return stream.samples / stream.rate
    return None if arrival.recording is None else length_of(arrival.recording)


def _stamp_of(folder: Path) -> tuple[int, int, int] | None:
    """What tells whether a detector was replaced; ``None`` if there is none at the moment."""
    try:
        told = (folder / DETECTOR).stat()
    except OSError:
        return None
    return told.st_ino, told.st_mtime_ns, told.st_size


@contextmanager
def _closed(found: Iterator[T]) -> Iterator[Iterator[T]]:
    """The same; a generator is closed at the end."""
    try:
        yield found
    finally:
        if (close := getattr(found, "close", None)) is not None:
            close()
