"""Logbooks for tests: machines in them, and windows of these."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql

from nearfar.listening.events import Event
from nearfar.logbook import heard
from nearfar.logbook.heard import Latest, MachineRow, MachineTold, RecordingRow, WindowRow

BEGAN = 1_790_000_000.0  # in 2026
HOP = 10.0
NOW = BEGAN + 1e6


def told(name: str = "pump 1", **changes: Any) -> MachineTold:
    values: dict[str, Any] = {
        "name": name, "detector": "detectors/pump", "detector_digest": "0" * 64, "system": "spectral",
        "window_s": HOP, "hop_s": HOP, "threshold": 1.5, "false_alerts": "1 per 30 days",
    }  # fmt: skip
    return MachineTold(**(values | changes))


def machine(c: sql.Connection, name: str = "pump 1", *, key: str = "live") -> tuple[MachineRow, RecordingRow]:
    """A machine, and a recording of it that goes on."""
    row = heard.open_machine(c, told(name), now=NOW)
    return row, recording(c, row.id, key=key)


def recording(c: sql.Connection, machine_id: int, *, key: str = "live", **changes: Any) -> RecordingRow:
    values: dict[str, Any] = {
        "key": key, "name": f"{key}.wav", "path": f"/sounds/{key}.wav", "began_at": BEGAN, "rate": 16000,
        "channels": 2, "now": NOW,
    }  # fmt: skip
    return heard.begin_recording(c, machine_id, **(values | changes))


def window(number: int, score: float | None = 0.5, decision: str = "normal", **changes: Any) -> WindowRow:
    values: dict[str, Any] = {"begins_at": BEGAN + HOP * number, "seconds": HOP, "p_value": 0.5}
    return WindowRow(number=number, score=score, decision=decision, **(values | changes))


def latest(number: int = 0, score: float | None = 0.5) -> Latest:
    return Latest(BEGAN + HOP * (number + 1), score, "normal", 0.25, True)


def event(start: float = 20.0, seconds: float = 30.0, **changes: Any) -> Event:
    values: dict[str, Any] = {
        "windows": 3, "anomalous": 2, "unusable": 1, "peak_score": 9.0, "p_value": float("nan"),
        "peak_start": start + HOP, "peak_end": start + 2 * HOP, "microphones": {"near": "ok", "far": "clipped"},
    }  # fmt: skip
    return Event("live.wav", start, start + seconds, **(values | changes))
