"""A watch in a terminal: lines for what happens, a table of the machines, the progress of a replay, and its end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nearfar.cli.console import INTERRUPTED, TERMINATED, err, out, say
from nearfar.cli.progress import streamed_progress
from nearfar.files.names import quoted
from nearfar.windows.cutting import told_time

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nearfar.logbook.database import Database
    from nearfar.watching.sinks import Message
    from nearfar.watching.site import Site
    from nearfar.watching.sources.replay import Played

EVERY = 0.5  # seconds between two looks at the logbook
STEP = "playing (seconds of sound)"
LINES_BELOW = 8  # of the terminal, that the table leaves to what is told
SIGNALS = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


def run(site: Site, *, workers: int, as_json: bool, describe: Callable[[], Path | None], again: str) -> int:
    """Watch until a signal comes, or all sources have ended; the exit code.

    Parameters
    ----------
    site : Site
    workers : int
    as_json : bool
        Print messages as JSON, one a line, and nothing else on standard output.
    describe : callable
        Called once watching begins; the file that describes the site, or ``None`` if there is none.
    again : str
        How one goes on, for Ctrl-C.
    """
    from nearfar.logbook.database import Database
    from nearfar.report import watched
    from nearfar.watching.engine import Watch, WatchError

    stop = threading.Event()
    played = _played(site)
    told = _Told(site, stop, as_json=as_json)

    def begun() -> None:
        described.append(describe())

    say(f"Logbook: {watched.place(site.state)}", err)
    database = Database.open(site.state)
    described: list[Path | None] = []
    try:
        with _stopped_by_signals(stop) as received, _view(site, database, played, as_json=as_json):
            try:
                Watch(site, workers=workers, told=told, begun=begun).run(stop)
            except WatchError as error:
                raise ValueError(str(error)) from error
        if told.error is not None:
            raise told.error
        if received:
            say(f"Stopped; {again}.", err)
        if played and not told.count and not received:
            say("All of it was heard before; to play it again, give another --state.", err)
        if not as_json and (played or not received):
            with database.reading() as c:
                out.print(watched.summary(c, site.time_zone), soft_wrap=True)
        if described and described[0] is not None and not as_json:
            say(f"To look at it: nearfar serve {quoted(described[0])}")
    finally:
        database.close()
    return SIGNALS[received[0]] if received else 0


class _Told:
    """What happens is printed as it happens. If nobody reads it, watching ends."""

    def __init__(self, site: Site, stop: threading.Event, *, as_json: bool) -> None:
        self._zone, self._stop, self._as_json = site.time_zone, stop, as_json
        self.error: OSError | None = None
        self.count = 0

    def __call__(self, message: Message) -> None:
        """Print a message of the journal."""
        from nearfar.report import watched
        from nearfar.watching import sinks

        self.count += 1
        if not self._as_json and watched.is_repeated(message.content):
            return
        try:
            if self._as_json:
                out.file.write(sinks.as_json(message).decode() + "\n")
                out.file.flush()
            else:
                out.print(watched.line(message.content, self._zone), soft_wrap=True)
        except OSError as error:  # such as a closed pipe
            self.error = self.error or error
            self._stop.set()


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[list[signal.Signals]]:
    """Ctrl-C and SIGTERM end the watch in order, which takes a moment; a second one ends it at once.

    Yields a list of those that came.
    """
    received: list[signal.Signals] = []

    def end(number: int, _frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(signal.Signals(number))
        stop.set()

    is_main = threading.current_thread() is threading.main_thread()  # others get no signals
    before = {one: signal.signal(one, end) for one in SIGNALS} if is_main else {}
    try:
        yield received
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _played(site: Site) -> dict[str, Sequence[Played]]:
    """What is played of each machine, if it is a replay.

    Raises
    ------
    OSError, ValueError
        If there is nothing to play, or recordings do not tell their times as they should.
    """
    from nearfar.watching.sources.replay import Replay

    found: dict[str, Sequence[Played]] = {}
    for name, machine in site.machines.items():
        if machine.source.kind != "replay":
            continue
        source = machine.source.make(began=machine.began, zone=machine.zone)
        assert isinstance(source, Replay)
        found[name] = source.played
        if not source.tells_times:
            first = found[name][0]
            _say_times(name, len(found[name]), source.seconds, first.began_at, site)
    return found


def _say_times(name: str, recordings: int, seconds: float, began_at: float, site: Site) -> None:
    from nearfar.recordings.clips import counted
    from nearfar.report.watched import moment

    told = (
        "1 recording does not tell when it began, so it is played as if it ended at its last change:"
        if recordings == 1
        else f"{counted(recordings, 'recording')} do not tell when they began, so they are played one after the "
        "other,"
    )
    say(f"{name}: {told} {told_time(seconds)} from {moment(began_at, site.time_zone)} on", err)


def _heard(played: Mapping[str, Sequence[Played]], machines: Sequence[Mapping[str, Any]]) -> float:
    """How many seconds of what is played were heard."""
    until = {one["name"]: one["heard_until_at"] for one in machines if one["heard_until_at"] is not None}
    return sum(
        min(one.seconds, max(0.0, until[name] - one.began_at))
        for name, recordings in played.items()
        if name in until
        for one in recordings
    )


@contextmanager
def _view(
    site: Site, database: Database, played: Mapping[str, Sequence[Played]], *, as_json: bool
) -> Iterator[None]:
    """What is shown beside the lines: in a terminal, the machines; of a replay, how far it is."""
    total = sum(one.seconds for recordings in played.values() for one in recordings)
    if out.is_terminal and not as_json:
        with _table(site, database, played, total):
            yield
    elif played:
        with streamed_progress("What was heard is kept.") as progress:

            def tell() -> None:
                done = _heard(played, _machines(database))
                progress(STEP, min(int(done), int(total) - 1), int(total))

            with _each(EVERY, tell):
                yield
    else:
        yield


def _machines(database: Database) -> list[dict[str, Any]]:
    from nearfar.logbook import asked

    with database.reading() as c:
        return asked.machines(c)


@contextmanager
def _each(seconds: float, function: Callable[[], None]) -> Iterator[None]:
    """Call a function again and again, in a thread, as long as the body runs."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            with suppress(OSError, ValueError):  # the logbook is busy, or nobody reads what is printed
                function()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _table(
    site: Site, database: Database, played: Mapping[str, Sequence[Played]], total: float
) -> Iterator[None]:
    """The machines below the lines, while the body runs."""
    from time import monotonic

    from rich.live import Live

    from nearfar.report import watched

    began, shown, token = monotonic(), [_machines(database)], [database.changed()]

    def table() -> RenderableType:
        with suppress(OSError, ValueError):  # the logbook is busy: what was seen last is shown
            now = database.changed()
            if now != token[0]:
                token[0], shown[0] = now, _machines(database)
        heading = ""
        if played:
            heading = watched.progress(_heard(played, shown[0]), total, monotonic() - began)
        return watched.hall(
            shown[0],
            site.time_zone,
            most=max(1, out.size.height - LINES_BELOW),
            heading=heading,
            width=out.size.width,
        )

    with Live(get_renderable=table, console=out, refresh_per_second=1 / EVERY, transient=True):
        yield
