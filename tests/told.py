"""Logbooks with something to tell, and who is told: for tests of messages, deliveries and sinks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from nearfar.logbook import conditions, cursors, heard, journal, schema, streams
from nearfar.logbook.database import Database
from nearfar.watching.messages import of_journal, of_window
from nearfar.watching.sinks import Message

PATIENCE_S = 30.0  # for what takes milliseconds, on a computer that is busy
BEGAN = 1_796_000_000.0  # 2026-11-30 00:53:20 UTC, in seconds since 1970


def soon(holds: Callable[[], Any], told: str = "") -> Any:
    """Wait until something holds, and say what it gives."""
    end = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < end, f"this does not become true: {told or holds}"
        time.sleep(0.005)
    return found


class Logbook:
    """A logbook in a folder, with machines that have nothing to say yet."""

    def __init__(self, folder: Path, machines: tuple[str, ...] = ("pump-1",)) -> None:
        self.path = folder / "logbook.db"
        self.database = Database.open(self.path)
        self.machines: dict[str, int] = {}
        self.numbers: dict[str, int] = {}
        with self.database.writing() as c:
            for name in machines:
                told = heard.MachineTold(
                    name, "detector", "digest", "spectral", 10.0, 10.0, 1.5, "1 per 30 days"
                )
                self.machines[name] = heard.open_machine(c, told, now=BEGAN).id
                heard.set_mode(c, self.machines[name], "listening", at=BEGAN, now=BEGAN)

    def close(self) -> None:
        self.database.close()

    def activate(self, machine: str = "pump-1", condition: str = "anomaly", *, at: float = BEGAN) -> int:
        with self.database.writing() as c:
            found = conditions.activate(
                c, self.machines[machine], condition, at=at, since=at - 60, message="It sounds unusual",
                now=at + 0.1, score=2.5, sound="pump.flac",
            )  # fmt: skip
        assert found is not None
        return found

    def clear(self, machine: str = "pump-1", condition: str = "anomaly", *, at: float = BEGAN + 100) -> None:
        with self.database.writing() as c:
            assert conditions.clear(c, self.machines[machine], condition, at=at, now=at + 0.1)

    def comment(self, alert: int, comment: str) -> None:
        with self.database.writing() as c:
            conditions.comment(c, alert, now=BEGAN + 5, by="Ada", comment=comment)

    def note(self, how_many: int, machine: str = "pump-1") -> None:
        """So many rows of the journal, of a kind that needs nothing else."""
        with self.database.writing() as c:
            for _ in range(how_many):
                journal.note(c, machine_id=self.machines[machine], what="heard late", at=BEGAN, now=BEGAN)

    def hear(self, how_many: int, machine: str = "pump-1", *, score: float = 1.0) -> None:
        """So many windows."""
        id = self.machines[machine]
        first = self.numbers.get(machine, 0)
        with self.database.writing() as c:
            recording = heard.begin_recording(
                c, id, key="one", name="one", path=None, began_at=BEGAN, rate=16000, channels=2, now=BEGAN
            )
            for number in range(first, first + how_many):
                row = {
                    "machine_id": id, "recording_id": recording.id, "number": number,
                    "begins_at": BEGAN + 10 * number, "seconds": 10.0, "score": score, "p_value": 0.5,
                    "decision": "normal", "evidence": 0.1, "near_db": -20.0, "far_db": float("-inf"), "told": "",
                }  # fmt: skip
                c.execute(sql.insert(schema.windows).values(row))
            values = {"score": score, "decision": "normal", "evidence": 0.1, "running": True}
            until = BEGAN + 10 * (first + how_many)
            c.execute(
                sql.update(schema.machines)
                .where(schema.machines.c.id == id)
                .values(heard_until_at=until, **values)
            )
        self.numbers[machine] = first + how_many

    def rows(self, stream: str = "journal") -> list[dict[str, Any]]:
        with self.database.reading() as c:
            return streams.after(c, stream, 0, most=10_000)

    def messages(self, stream: str = "journal", site: str = "Hall 3") -> list[Message]:
        make = of_journal if stream == "journal" else of_window
        return [make(row, site) for row in self.rows(stream)]

    def message(self, what: str) -> Message:
        """The last message of this kind."""
        return [message for message in self.messages() if message.what == what][-1]

    def standing(self, sink: str, stream: str = "journal") -> Mapping[str, Any]:
        with self.database.reading() as c:
            rows = [row for row in cursors.standing(c) if (row["sink"], row["stream"]) == (sink, stream)]
        return rows[0]


@contextmanager
def logbook(folder: Path, *machines: str) -> Iterator[Logbook]:
    """A logbook that is closed at the end."""
    made = Logbook(folder, machines or ("pump-1",))
    try:
        yield made
    finally:
        made.close()


@dataclass
class Listener:
    """A sink that keeps what it is told. ``before`` is called first, and may raise."""

    streams: tuple[str, ...] = ("journal",)
    before: Callable[[Message], None] = lambda _message: None
    told: list[Message] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    idled: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def open(self, _site: Any) -> None:
        self.opened += 1

    def deliver(self, message: Message) -> None:
        self.before(message)
        with self.changed:
            self.told.append(message)
            self.changed.notify_all()

    def idle(self) -> None:
        self.idled += 1

    def close(self) -> None:
        self.closed += 1

    @property
    def ids(self) -> list[str]:
        return [message.id for message in self.told]


@dataclass(frozen=True)
class Made:
    """``SinkSite`` of a sink that is there already."""

    name: str
    sink: Any

    def make(self) -> Any:
        return self.sink


@dataclass(frozen=True)
class Site:
    """What deliveries look at of a site."""

    sinks: Mapping[str, Made]
    name: str = "Hall 3"

    @classmethod
    def of(cls, **sinks: Any) -> Site:
        return cls({name: Made(name, sink) for name, sink in sinks.items()})
