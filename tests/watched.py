"""A small site to watch, and what its logbook holds."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sql
from synthetic import RATE, clip, write_machine

from nearfar.detector.fitted import Detector
from nearfar.files.steps import Jobs
from nearfar.logbook import schema
from nearfar.logbook.database import Database
from nearfar.recordings import audio
from nearfar.watching.engine import Watch
from nearfar.watching.site import Site, SourceSite, of_one

FALSE_ALERTS = "1 per 2 min"
BEGAN = "%Y%m%d_%H%M%S"
FIRST = 1772359200.0  # 2026-03-01 10:00 UTC
OFTEN = ("written_at", "made_at")  # by the clock of the computer


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
    write_machine(folder, "fan")
    Detector.fit(folder / "fan", "spectral", jobs=Jobs(folder / "cache")).save(folder / "detector")
    heard = folder / "recordings"
    heard.mkdir()
    audio.write(heard / "fan_20260301_100000.wav", sound(20, faulty=range(6, 12)), RATE)
    audio.write(heard / "fan_20260301_100020.wav", sound(1), RATE)
    audio.write(heard / "fan_20260301_100021.wav", sound(1, faulty=[0]), RATE)
    audio.write(heard / "fan_20260301_100022.wav", sound(40, faulty=[30]), RATE)
    audio.write(heard / "fan_20260301_120000.wav", sound(75, dead=range(2, 68)), RATE)  # after a silence
    audio.write(heard / "fan_20260301_120115.wav", sound(20, faulty=range(10, 20), seed=7000), RATE)
    (heard / "fan_20260301_120135.wav").write_bytes(b"")
    return heard


def site_of(
    place: Path, state: Path, *, folder: Path | None = None, speed: float | str = "max", **keys: Any
) -> Site:
    """A site of that machine, which plays its recordings."""
    source = SourceSite.of({"kind": "replay", "folder": str(folder or place / "recordings"), "speed": speed})
    keys = {"began": BEGAN, "time_zone": "UTC", "false_alerts": FALSE_ALERTS, **keys}
    keys.pop("time_zone")
    return of_one(place / "detector", source, name="fan", state=state, **keys)


def watch(site: Site, **options: Any) -> None:
    """Watch until all sources have ended."""
    Watch(site, **options).run(threading.Event())


@dataclass
class Logbook:
    """What a logbook holds: each table as rows, in the order of their numbers."""

    tables: dict[str, list[dict[str, Any]]]

    @classmethod
    def of(cls, state: Path) -> Logbook:
        database = Database.open(state, make=False)
        try:
            with database.reading() as c:
                return cls(
                    {
                        name: [dict(row) for row in c.execute(sql.select(table)).mappings()]
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
