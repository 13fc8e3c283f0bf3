"""Stand-in until the branch win is merged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    recording: str
    index: int
    start: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    seconds: float = 10.0
    hop: float = 0.0

    def __post_init__(self) -> None:
        if self.hop == 0:
            object.__setattr__(self, "hop", self.seconds)

    def count(self, samples: int, rate: int) -> int:
        length, hop = round(self.seconds * rate), round(self.hop * rate)
        if samples <= length:
            return min(samples, 1)
        whole = 1 + (samples - length) // hop
        rest = samples - ((whole - 1) * hop + length)
        return whole + (rest > 0 and rest >= 0.01 * length)
