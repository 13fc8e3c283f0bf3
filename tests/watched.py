"""A small site to watch, and what its logbook holds."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import queue
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, TypeVar

import numpy as np
import pytest
import sqlalchemy as sql
from synthetic import RATE, clip, write_machine

from nearfar.detector.fitted import Detector
from nearfar.files.steps import Jobs
from nearfar.logbook import schema
from nearfar.logbook.database import Database
from nearfar.recordings import audio
from nearfar.recordings.audio import Header
from nearfar.recordings.blocks import InBlocks
from nearfar.recordings.recording import Recording
from nearfar.watching import evidence_maker
from nearfar.watching.engine import Watch
from nearfar.watching.sinks import Message
from nearfar.watching.site import Site, SourceSite, of_one
from nearfar.watching.sources import Arrival, Ear
from nearfar.windows.streaming import Stream, of_recording

FALSE_ALERTS = "1 per 2 min"
BEGAN = "%Y%m%d_%H%M%S"
FIRST = 1772359200.0  # 2026-03-01 10:00 UTC
PATIENCE_S = 600.0  # this computer may have other work
OFTEN = ("written_at", "made_at")  # by the clock of the computer
FOLDER = TemporaryDirectory(prefix="watched-")  # of this process, which removes it when it ends

T = TypeVar("T")


class InThisProcess:
    """Makes evidence where it is asked for: another process takes longer to start than to do it."""

    def call(self, function: Callable[..., T], *given: Any) -> T:
        return function(*given)

    def close(self) -> None:
        """There is nothing to end."""


@pytest.fixture(autouse=True, scope="module")
def evidence_is_made_here() -> Iterator[None]:
    """Of modules that import it; in ``test_watch``, and where a command runs, a process aside makes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence_maker, "Aside", InThisProcess)
        yield


def sound(
    seconds: int, faulty: Sequence[int] = (), *, seed: int = 9000, dead: Sequence[int] = ()
) -> audio.Samples:
    """So many seconds of a machine: faulty in some, and without a sound at the near microphone in others."""
    parts = [clip(seed + second, faulty=second in faulty) for second in range(seconds)]
    for second in dead:
        parts[second][0] = 0.0
    return np.concatenate(parts, axis=1)


def write_site(folder: Path) -> Path:
    """A detector of clips of a second, and recordings with all that can happen to them; the folder of these."""
    shutil.copytree(_site(), folder, dirs_exist_ok=True)
    return folder / "recordings"


@functools.cache
def _site() -> Path:
    """It is made once for all modules of tests that run in this process."""
    data, folder = Path(FOLDER.name, "data"), Path(FOLDER.name, "site")
    detector = Detector.fit(write_machine(data, "fan"), "spectral", jobs=Jobs(data / "cache"))
    detector.save(folder / "detector")
    heard = folder / "recordings"
    heard.mkdir()
    audio.write(heard / "fan_20260301_100000.wav", sound(20, faulty=range(6, 12)), RATE)
    audio.write(heard / "fan_20260301_100020.wav", sound(1), RATE)
    audio.write(heard / "fan_20260301_100021.wav", sound(1, faulty=[0]), RATE)
    audio.write(heard / "fan_20260301_100022.wav", sound(40, faulty=[30]), RATE)
    audio.write(heard / "fan_20260301_120000.wav", sound(75, dead=range(2, 68)), RATE)  # after a silence
    audio.write(heard / "fan_20260301_120115.wav", sound(20, faulty=range(10, 20), seed=7000), RATE)
    (heard / "fan_20260301_120135.wav").write_bytes(b"")
    return folder


def site_of(
    place: Path, state: Path | str, *, folder: Path | None = None, speed: float | str = "max", **keys: Any
) -> Site:
    """A site of that machine, which plays its recordings."""
    source = SourceSite.of({"kind": "replay", "folder": str(folder or place / "recordings"), "speed": speed})
    keys = {"began": BEGAN, "false_alerts": FALSE_ALERTS, **keys}
    return of_one(place / "detector", source, name="fan", state=state, **keys)


def live_site(place: Path, state: Path | str, tape: str, **keys: Any) -> Site:
    """A site of that machine, which is heard as it comes; ``sources.SOURCES`` must have "test" for ``Live``."""
    source = SourceSite.of({"kind": "test", "tape": tape})
    return of_one(place / "detector", source, name=tape, state=state, false_alerts=FALSE_ALERTS, **keys)


def watch(site: Site, **options: Any) -> None:
    """Watch until all sources have ended."""
    Watch(site, **options).run(threading.Event())


@dataclass
class Logbook:
    """What a logbook holds: each table as rows, in the order of their numbers."""

    tables: dict[str, list[dict[str, Any]]]

    @classmethod
    def of(cls, state: Path | str) -> Logbook:
        database = Database.open(state, make=False)
        try:
            with database.reading() as c:
                return cls(
                    {
                        name: [
                            dict(row)
                            for row in c.execute(sql.select(table).order_by(*table.primary_key)).mappings()
                        ]
                        for name, table in schema.metadata.tables.items()
                    }
                )
        finally:
            database.close()

    def __getitem__(self, name: str) -> list[dict[str, Any]]:
        return self.tables[name]

    def journal(self, *what: str) -> list[dict[str, Any]]:
        """Rows of the journal, of some kinds."""
        rows = [row for row in self["journal"] if not what or row["what"] in what]
        return [{**row, "content": json.loads(row["content"])} for row in rows]

    def lasting(self) -> dict[str, list[dict[str, Any]]]:
        """What must be the same, however often watching was killed meanwhile.

        Evidence comes whenever it is made, so its rows stand anywhere in the journal, have any number, and say what
        has become of the alert until then. That a machine is new is told at the time of the computer.
        """
        found = {name: [_without(row, *OFTEN) for row in rows] for name, rows in self.tables.items()}
        told = [_without(row, "id") for row in found["journal"]]
        for row in told:
            if row["what"] == "detector":
                del row["at"]
        evidence = sorted((row for row in told if row["what"] == "evidence"), key=lambda row: row["alert_id"])
        for row in evidence:
            content = json.loads(row["content"])
            row["content"] = {name: content[name] for name in ("words", "error")}
        found["evidence"] = evidence
        found["journal"] = [row for row in told if row["what"] != "evidence"]
        found["machines"] = [_without(row, "mode_since_at") for row in found["machines"]]
        return found


def _without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


class Live:
    """A source of live sound: a test puts arrays of samples, errors that it raises, and None for an end.

    Parameters
    ----------
    tape : str
        Which of ``TAPES``.
    """

    is_live = True
    follows_clock = True

    def __init__(self, tape: str) -> None:
        self._tape = TAPES.setdefault(tape, queue.Queue())

    def arrivals(self, ear: Ear) -> Iterator[Arrival]:
        while (first := self._next(ear)) is not None:
            number = next(NUMBERS)
            began_at = ear.now() - first.shape[1] / RATE
            header = Header(RATE, len(first), 0, "RAW/PCM_16")
            recorded = InBlocks(header, False, (), lambda _start, first=first: self._blocks(ear, first))
            yield Arrival(f"live {number}", "live", began_at, Stream("live", recorded))
        if ear.stopping():
            return

    def _blocks(self, ear: Ear, first: audio.Samples) -> Iterator[audio.Samples]:
        block: audio.Samples | None = first
        while block is not None:
            ear.heard(ear.now())
            yield block
            block = self._next(ear)

    def _next(self, ear: Ear) -> audio.Samples | None:
        while not ear.stopping():
            try:
                found = self._tape.get(timeout=0.05)
            except queue.Empty:
                continue
            if isinstance(found, Exception):
                raise found
            return found
        return None


class Given:
    """A source of files in an order that a test gives.

    Parameters
    ----------
    order : str
        Paths, with ":" between them.
    until : float
        Seconds of the first one that come; then watching has to end.
    """

    is_live = False
    follows_clock = False

    def __init__(self, order: str, until: float = math.inf) -> None:
        self._paths, self._until = [Path(one) for one in order.split(":")], until

    def arrivals(self, ear: Ear) -> Iterator[Arrival]:
        for number, path in enumerate(self._paths):
            if not ear.is_finished(path.name):
                stream = of_recording(Recording((path,)))
                if number == 0 and self._until < math.inf:
                    blocks = functools.partial(self._first, ear, stream.recorded)
                    stream = dataclasses.replace(
                        stream, recorded=dataclasses.replace(stream.recorded, blocks=blocks)
                    )
                began = datetime.strptime(path.stem[-15:], BEGAN).replace(tzinfo=UTC)
                yield Arrival(path.name, path.name, began.timestamp(), stream, Recording((path,)))

    def _first(self, ear: Ear, recorded: InBlocks, start: int) -> Iterator[audio.Samples]:
        left = round(self._until * RATE) - start
        for block in recorded.blocks(start):
            assert isinstance(block, np.ndarray)
            yield block[:, :left]
            left -= block.shape[1]
            if left <= 0:
                break
        while not ear.stopping():
            ear.sleep(0.05)


TAPES: dict[str, queue.Queue[Any]] = {}
NUMBERS = itertools.count()


class Watching:
    """A watch in a thread, as long as the body runs; what it tells is in ``told``."""

    def __init__(self, site: Site) -> None:
        self.told: list[Message] = []
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self._site = site
        self._changed = threading.Condition()
        self.thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            Watch(self._site, told=self._tell).run(self.stop)
        except BaseException as error:
            self.error = error
            with self._changed:
                self._changed.notify_all()

    def _tell(self, message: Message) -> None:
        with self._changed:
            self.told.append(message)
            self._changed.notify_all()

    def until(self, what: str, count: int = 1, **about: Any) -> Message:
        """Wait for the message of that kind, and of that content, if it is the so many-th."""

        def found() -> list[Message]:
            return [
                one
                for one in self.told
                if one.what == what
                and all(
                    {**one.content, **one.content["content"]}[key] == value for key, value in about.items()
                )
            ]

        with self._changed:
            self._changed.wait_for(lambda: len(found()) >= count or self.error is not None, PATIENCE_S)
            assert len(found()) >= count, (
                f"{what} {about} was not told, but: {[one.what for one in self.told]}"
            )
            return found()[count - 1]
