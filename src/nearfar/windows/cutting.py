"""Stand-in until the branch win is merged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    recording: str
    index: int
    start: float
    seconds: float
