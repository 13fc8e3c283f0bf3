"""Which arithmetic ``precision="auto"`` is: the fastest on this computer, of those that change next to nothing.

Conventions
-----------
An arithmetic is measured once for each encoder, processor, number of threads and class of length, and remembered
(``remembering``). ``bench`` measures anew.

What is torch alone is measured unasked. Other engines convert a network first, which takes seconds, and a compiler
takes most of a minute. They are measured if the work at hand is ``WORTH`` times as long as that is thought to take,
and taken if they are ahead with what it did take. So what is chosen depends on the work, and a choice is made once,
by the process that knows all of it.

What may be chosen is bounded: by ``LEAST_COSINE`` of embeddings, and by ``MOST_OMEGA_POINTS`` on recordings, where
these have been compared (``note_omega``). This module loads no torch by itself.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from nearfar.encoders.arithmetic import (
    ARITHMETICS,
    LEAST_COSINE,
    MOST_OMEGA_POINTS,
    ArithmeticName,
    EngineName,
)
from nearfar.encoders.remembering import Compared, Remembered, compared

if TYPE_CHECKING:  # they load torch
    from nearfar.encoders.frozen import Frozen
    from nearfar.encoders.measuring import Impossible, Measured, Tell

LENGTHS = (1.0, 2.0, 5.0, 10.0)  # seconds of clips; longer recordings are mostly heard in windows of 10 s
PATIENCE = 0.4  # seconds that a clip may take in float32; where it takes longer, shorter ones are measured
SHORTENED_TO = 5.0  # seconds; with much shorter ones, what is done once a call would count too much
AHEAD = (
    0.9  # of the time of a simpler one, at most; else the simpler one is taken: it is tomorrow's choice, too
)
WORTH = 10.0  # times the preparation
THOUGHT_TO_TAKE: dict[EngineName, float] = {  # seconds to prepare EAT-base, before that is measured here
    "eager": 0.0,
    "onnxruntime": 6.0,
    "openvino": 6.0,
    "compiled": 40.0,
}
UNASKED: tuple[EngineName, ...] = (
    "eager",
    "onnxruntime",
    "openvino",
)  # engines that ``bench`` measures unless it is asked for all

Rows = Mapping[ArithmeticName, "Measured | Impossible"]

logger = logging.getLogger(__name__)
_one_at_a_time = RLock()  # threads that measured side by side would measure each other


@dataclass(frozen=True, slots=True)
class Work:
    """What an encoder is to hear, roughly.

    Attributes
    ----------
    clips : int
    seconds : float
        Of each.
    """

    clips: int = 1
    seconds: float = 10.0

    @property
    def length(self) -> float:
        """Its class of length, of ``LENGTHS``."""
        return next((length for length in LENGTHS if length >= self.seconds), LENGTHS[-1])


def chosen(encoder: Frozen, *, work: Work | None = None, cache: Path | None = None) -> ArithmeticName:
    """The arithmetic that ``precision="auto"`` is, on the device of an encoder.

    On a CUDA device it is bfloat16 where the device has it, else float32. On the processor it is measured, if that
    has not been done.

    Parameters
    ----------
    encoder : Frozen
        Of whatever precision.
    work : Work or None
        That it is to do; ``None``: so little that nothing is worth a preparation.
    cache : Path or None
        Folder where it is remembered; ``None``: the user's cache.

    Raises
    ------
    WeightsError, CheckpointError, ValueError
        If the encoder cannot be computed at all.
    """
    from nearfar.encoders import devices

    if devices.chosen(encoder.device).type != "cpu":
        return unmeasured(encoder)
    work = work or Work()
    with _one_at_a_time:
        remembered = Remembered(encoder, work.length, cache=cache)
        found = _with_missing(remembered, candidates(["eager"]), encoder)
        found = _with_missing(remembered, candidates(worthwhile(found, work)), encoder)
        return choice(found, work, compared(encoder, cache=cache))


def choice(
    rows: Rows,
    work: Work,
    found: Mapping[str, Compared] | None = None,
) -> ArithmeticName:
    """What "auto" is for some work, of arithmetics that have been measured.

    Parameters
    ----------
    rows : mapping from arithmetic to Measured or Impossible
        What is torch alone among them; of others, those whose preparation the work is not worth have no part.
    work : Work
    found : mapping from arithmetic to Compared, or None
        Omega, as far as it was compared.
    """
    engines = worthwhile(rows, work)
    taken = {name: row for name, row in rows.items() if ARITHMETICS[name].engine in engines}
    return fastest(_allowed(taken, found), work)


def worthwhile(rows: Rows, work: Work) -> list[EngineName]:
    """The engines whose preparation some work is worth; ``rows`` has what is torch alone."""
    eager = {name: row for name, row in rows.items() if ARITHMETICS[name].engine == "eager"}
    quickest = min(row.of_float32 for row in _allowed(eager))
    at_work = work.clips * quickest * _in_float32(rows, work)
    return [engine for engine, seconds in THOUGHT_TO_TAKE.items() if at_work >= WORTH * seconds]


def unmeasured(encoder: Frozen) -> ArithmeticName:
    """What "auto" was before it was measured, and is on a GPU: bfloat16 where a device has it, else float32."""
    from nearfar.encoders import devices

    return "bfloat16" if devices.has_bfloat16(devices.chosen(encoder.device)) else "float32"


def fastest(rows: Sequence[Measured], work: Work) -> ArithmeticName:
    """The arithmetic that has done some work first, with its preparation; a simpler one if it is hardly later.

    Parameters
    ----------
    rows : sequence of Measured
        All that may be chosen, float32 among them.
    work : Work

    Examples
    --------
    A preparation of six seconds pays for a thousand clips, but not for ten.

    >>> from nearfar.encoders.choosing import Work, fastest
    >>> from nearfar.encoders.measuring import Measured
    >>> parity = dict(cosine=1.0, least_cosine=1.0, difference=0.0, same_in_batches=True, clip_seconds=10.0)
    >>> rows = [
    ...     Measured("float32", {1: 0.8}, 1.0, 1.0, **parity),
    ...     Measured("float32_openvino", {1: 0.4}, 0.5, 7.0, **parity),
    ... ]
    >>> [fastest(rows, Work(clips=clips)) for clips in (10, 1000)]
    ['float32', 'float32_openvino']
    """
    known = {row.arithmetic: row for row in rows}
    a_clip, least = _in_float32(known, work), math.inf
    best = usual = known["float32"]
    for row in sorted(rows, key=lambda row: list(ARITHMETICS).index(row.arithmetic)):  # the simplest first
        extra = max(0.0, row.preparation - usual.preparation)
        taken = extra + work.clips * row.of_float32 * a_clip
        if taken < AHEAD * least:
            best, least = row, taken
    return best.arithmetic


def _in_float32(rows: Rows, work: Work) -> float:
    """Seconds that a clip takes in float32."""
    row: Any = rows["float32"]
    return float(row.seconds[1] * work.seconds / row.clip_seconds)


def why_not(row: Measured | Impossible, found: Compared | None = None) -> str:
    """Why an arithmetic may not be chosen without asking; empty if it may.

    Parameters
    ----------
    row : Measured or Impossible
    found : Compared or None
        Its Omega, if that was compared.
    """
    from nearfar.encoders.measuring import Impossible

    if isinstance(row, Impossible):
        return row.why
    if not row.least_cosine >= LEAST_COSINE:
        return f"cosine {row.least_cosine:.5f} is below {LEAST_COSINE}"
    if found is not None and found.is_beyond:
        return f"Omega differs by {found.points:+.2f} points on {found.data}, more than {MOST_OMEGA_POINTS}"
    return ""


def candidates(engines: Collection[EngineName]) -> list[ArithmeticName]:
    """The arithmetics of some engines, as far as what they need is installed."""
    return [a.name for a in ARITHMETICS.values() if a.engine in engines and a.is_installed]


def _allowed(rows: Rows, found: Mapping[str, Compared] | None = None) -> list[Measured]:
    """Those that may be chosen; float32 always."""
    from nearfar.encoders.measuring import Measured

    return [
        row
        for name, row in rows.items()
        if isinstance(row, Measured) and (name == "float32" or not why_not(row, (found or {}).get(name)))
    ]


def _with_missing(remembered: Remembered, names: Sequence[ArithmeticName], encoder: Frozen) -> Rows:
    """All that is known, once these have been measured, too."""
    from nearfar.encoders.measuring import measure

    known = remembered.rows
    if missing := [name for name in dict.fromkeys(("float32", *names)) if name not in known]:
        logger.info("measuring %s of %s", ", ".join(missing), type(encoder).__name__)
        measured = measure(encoder, missing, seconds=_of_patience(encoder, remembered.length))
        new = {name: row for name, row in measured.items() if name in missing}
        remembered.add(new)
        known |= new
    return known


def _of_patience(encoder: Frozen, length: float) -> float:
    """The length of clips to measure: of the class, or shorter where a clip would take too long."""
    from nearfar.encoders.measuring import glimpse

    if length <= SHORTENED_TO or length * glimpse(encoder.computing_in("float32")) <= PATIENCE:
        return length
    return SHORTENED_TO


def bench(
    encoder: Frozen,
    *,
    seconds: float,
    threads: int = 1,
    batches: Sequence[int] = (1,),
    engines: Collection[EngineName] = UNASKED,
    cache: Path | None = None,
    tell: Tell | None = None,
) -> dict[ArithmeticName, Measured | Impossible]:
    """Measure all arithmetics of an encoder anew, one after the other, each in turns with float32.

    What is found takes the place of what is remembered for clips of this class of length.

    Parameters
    ----------
    encoder : Frozen
    seconds : float
        Of the clips.
    threads : int
    batches : sequence of int
        How many clips are given at once, beside single clips.
    engines : collection of str
        Arithmetics of others are told as not measured.
    cache : Path or None
        As of ``chosen``.
    tell : callable or None
        As of ``measuring.measure``.

    Raises
    ------
    WeightsError, CheckpointError, ValueError
        If the encoder cannot be computed in float32.
    """
    from nearfar.encoders.measuring import Impossible, measure

    found: dict[ArithmeticName, Measured | Impossible] = {}
    skipped: dict[ArithmeticName, Measured | Impossible] = {}
    for arithmetic in ARITHMETICS.values():
        name = arithmetic.name
        if not arithmetic.is_installed:
            skipped[name] = Impossible(name, f"needs pip install 'nearfar[{arithmetic.extra}]'")
        elif arithmetic.engine not in engines:
            skipped[name] = Impossible(name, "not measured: it is compiled for most of a minute")
        else:
            measured = measure(encoder, [name], seconds=seconds, threads=threads, batches=batches, tell=tell)
            found[name] = measured[name]
    Remembered(encoder, Work(seconds=seconds).length, threads=threads, cache=cache).add(found)
    return {a.name: (found | skipped)[a.name] for a in ARITHMETICS.values()}
