"""What each arithmetic of an encoder takes on a computer, and what it changes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from nearfar.encoders.choosing import Rows, Work, choice, why_not
from nearfar.encoders.measuring import Measured
from nearfar.encoders.processors import processor
from nearfar.recordings.clips import counted

if TYPE_CHECKING:
    from nearfar.encoders.remembering import Compared
    from nearfar.research.arithmetics import Comparison

SHOWN_WORK = (1, 1000)  # clips, for which it is told what "auto" takes
MILLI, PERCENT = 1e3, 100
WITH_LABELS = "the data set tells which test clips are anomalous"
PLANTED = "faults planted into half of the normal clips, which say nothing about real ones"


@dataclass(frozen=True)
class Bench:
    """What was measured.

    Attributes
    ----------
    weights : str
    threads : int
    seconds : float
        Of a clip.
    size : int
        Of the file of weights, in bytes.
    rows : mapping from arithmetic to Measured or Impossible
    comparison : Comparison or None
        Of Omega, if it was asked for.
    remembered : mapping from arithmetic to Compared
        The farthest that Omega ever was.
    """

    weights: str
    threads: int
    seconds: float
    size: int
    rows: Rows
    comparison: Comparison | None
    remembered: Mapping[str, Compared]

    def auto(self, clips: int) -> str:
        """What "auto" takes for so many clips."""
        return choice(self.rows, Work(clips, self.seconds), self.size, self.remembered)

    @property
    def sizes(self) -> list[int]:
        """Of batches, beside single clips."""
        rows = (row for row in self.rows.values() if isinstance(row, Measured))
        return sorted({size for row in rows for size in row.seconds} - {1})


def table(bench: Bench) -> Group:
    """A row for each arithmetic that was measured; what auto takes, why not others, and how it was measured."""
    heads = ["ms", *(f"{n} at once" for n in bench.sizes), "of float32", "ready", "cosine", "differs"]
    heads += ["Omega"] if bench.comparison else []
    numbers = [Column(head, justify="right", no_wrap=True) for head in heads]
    what = f"{bench.weights}, clips of {bench.seconds:g} s, {counted(bench.threads, 'thread')}"
    found = Table(
        Column("arithmetic", no_wrap=True), *numbers, title=what, box=box.SIMPLE, padding=(0, 1, 0, 0)
    )
    for name, row in bench.rows.items():
        if isinstance(row, Measured):
            found.add_row(name, *_cells(bench, row))
    return Group(found, Text("\n".join([*_remarks(bench), "", *_notes(bench)])))


def _cells(bench: Bench, row: Measured) -> Iterator[str]:
    yield f"{row.seconds[1] * MILLI:.1f}"
    for size in bench.sizes:
        mark = "" if row.same_in_batches else "*"
        yield f"{row.seconds[size] * MILLI:.1f}{mark}" if size in row.seconds else ""
    yield f"{row.of_float32:.2f}"
    yield f"{row.preparation:.1f} s"
    yield f"{row.least_cosine:.5f}"
    yield f"{row.difference:.1%}"
    if (found := bench.comparison) is not None:
        other = found.compared.get(row.arithmetic)
        yield f"{found.omega[row.arithmetic] * PERCENT:.2f}" if other is None else f"{other.points:+.2f}"


def _remarks(bench: Bench) -> Iterator[str]:
    """What auto takes, and why not others; those with the same reason together."""
    for clips in SHOWN_WORK:
        yield f"precision=auto takes {bench.auto(clips)} for {clips:,} clip{'s' if clips > 1 else ''}."
    reasons: dict[str, list[str]] = {}
    for name, row in bench.rows.items():
        if name != "float32" and (reason := why_not(row, bench.remembered.get(name))):
            reasons.setdefault(reason, []).append(name)
    yield from (f"Not {', '.join(names)}: {reason}." for reason, names in reasons.items())


def _notes(bench: Bench) -> Iterator[str]:
    yield f"{processor()}."
    what = "processor time" if bench.threads == 1 else "time by the clock"
    yield (
        f"ms: of a clip, the least {what} of three rounds, in turns with float32. ready: reading, converting, "
        "compiling. cosine: the least, of embeddings of three made sounds to those in float32. differs: the "
        "largest distance from float32, over the mean distance of two sounds."
    )
    if bench.sizes:
        yield "at once: a clip of so many that are given together. *: it then has other bits than by itself."
    if (found := bench.comparison) is not None:
        yield (
            f"Omega on {found.data}, {counted(found.machines, 'machine')}: in float32, and what others have more, "
            f"in points. Recipe of mn04, view {found.view}, fitted to {found.fitted:,} and scored on "
            f"{found.scored:,} clips{_of_all(found)}; {_of_labels(found)}."
        )


def _of_all(found: Comparison) -> str:
    """How many clips there are, if not all of them were heard."""
    few = found.labels == "labels" and found.fitted + found.scored < found.there_are
    return f", of {found.there_are:,} that there are" if few else ""


def _of_labels(found: Comparison) -> str:
    return WITH_LABELS if found.labels == "labels" else PLANTED


def to_json(bench: Bench) -> str:
    """All numbers."""
    content: dict[str, Any] = {
        "weights": bench.weights,
        "processor": processor().name,
        "instruction_sets": list(processor().instruction_sets),
        "cores": processor().cores,
        "threads": bench.threads,
        "clip_seconds": bench.seconds,
        "arithmetics": {
            name: (row.describe() if isinstance(row, Measured) else {})
            | {"why_not": why_not(row, bench.remembered.get(name))}
            for name, row in bench.rows.items()
        },
        "auto": {str(clips): bench.auto(clips) for clips in SHOWN_WORK},
        "omega": None if bench.comparison is None else _omega(bench.comparison),
    }
    return json.dumps(content, allow_nan=False)


def _omega(found: Comparison) -> dict[str, Any]:
    return {
        "data": found.data,
        "labels": found.labels,
        "machines": found.machines,
        "fitted": found.fitted,
        "scored": found.scored,
        "there_are": found.there_are,
        "view": found.view,
        "values": dict(found.omega),
        "points": {name: row.points for name, row in found.compared.items()},
    }
