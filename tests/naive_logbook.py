"""The slow, obvious twin of a machine's trend, and of summaries: lists, and one step at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

HOUR = 3600.0
# of buckets, seconds: those that clocks and calendars have
WIDTHS = [
    *(1, 2, 5, 10, 20, 30), *(60 * m for m in (1, 2, 5, 10, 20, 30)), *(3600 * h for h in (1, 2, 3, 6, 12)),
    *(86400 * d for d in range(1, 30000)),
]  # fmt: skip


@dataclass(frozen=True)
class Heard:
    """A window, as far as a trend shows it."""

    begins_at: float
    seconds: float
    score: float | None
    decision: str
    evidence: float | None


def summary(begins_at: float, ends_at: float, heard: list[Heard]) -> dict[str, Any]:
    """What is told of windows together."""
    scores = [one.score for one in heard if one.score is not None]
    evidence = [one.evidence for one in heard if one.evidence is not None]
    return {
        "begins_at": begins_at,
        "seconds": ends_at - begins_at,
        "windows": len(heard),
        "scored": len(scores),
        "anomalous": sum(one.decision == "anomaly" for one in heard),
        "unusable": sum(one.decision == "unusable" for one in heard),
        "paused": sum(one.decision == "paused" for one in heard),
        "lowest": min(scores, default=None),
        "mean": sum(scores) / len(scores) if scores else None,
        "highest": max(scores, default=None),
        "evidence": max(evidence, default=None),
    }


def trend(
    kept: list[Heard], old: list[Heard], begin: float | None, end: float | None, points: int
) -> list[dict[str, Any]]:
    """The points of a trend, of windows that are kept and of windows that have become summaries of an hour."""
    begin, end = -math.inf if begin is None else begin, math.inf if end is None else end
    hours: dict[float, list[Heard]] = {}
    for one in old:
        hours.setdefault(math.floor(one.begins_at / HOUR) * HOUR, []).append(one)
    parts = [
        (one.begins_at, one.begins_at + one.seconds, [one]) for one in kept if begin <= one.begins_at < end
    ]
    parts += [
        (hour, hour + HOUR, heard) for hour, heard in hours.items() if hour < end and hour + HOUR > begin
    ]
    parts.sort(key=lambda part: part[0])
    if len(parts) <= points:
        return [summary(*part) for part in parts]
    for width in WIDTHS:
        buckets: dict[int, list[Any]] = {}
        for part in parts:
            buckets.setdefault(math.floor(part[0] / width), []).append(part)
        if max(buckets) - min(buckets) + 1 <= points:
            return [
                summary(
                    min(part[0] for part in of),
                    max(part[1] for part in of),
                    [h for part in of for h in part[2]],
                )
                for _, of in sorted(buckets.items())
            ]
    raise AssertionError("no width is enough")
