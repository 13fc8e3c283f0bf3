"""Whether what a detector hears changes slowly, over days: its scores, the microphones, the levels.

A machine ages, a season comes, a microphone gets dusty. None of these is a fault of today, but scores of normal
sound move, and with them the false-alarm rate. ``decisions.drift`` has the test on numbers.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nearfar.decisions.drift import (
    DAY,
    FALSE_RATE,
    FEWEST,
    HOUR,
    MOST,
    SIMULATED,
    Blocks,
    Change,
    Kind,
    blocks,
    change,
    refuse_rate,
)
from nearfar.detector import score_tables
from nearfar.detector.fitted import Detector
from nearfar.detector.score_tables import ORIGIN, ScoreTable

Float = NDArray[np.float64]

NEAR_OVER_FAR = "near_over_far"
QUANTITIES = {  # what is tested, and its unit
    "score": "",
    "near_dbfs": "dB",
    "far_dbfs": "dB",
    NEAR_OVER_FAR: "dB",
    "coherence": "",
    "near_tilt": "dB/octave",
    "far_tilt": "dB/octave",
}
FEW_P_VALUES = 200  # that are compared with those of the detector
AGREES = 1e-6  # relative, of p-values; they are printed in full

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Drift:
    """What changed over days, of all that a detector hears.

    Attributes
    ----------
    machine : str
    changes : dict of Change
        By quantity (``QUANTITIES``).
    not_tested : dict of str
        Of each other quantity, why it was not tested.
    false_rate : float
        That was asked for, for all quantities together.
    block : float
        Length of a block, in seconds.
    rows, unusable, without_time : int
        Rows of the tables; of these, of recordings that could not be used; of these, without a time. The last count
        nowhere.
    origin : datetime or None
        To which the seconds of the changes are to be added; ``None`` if the tables have no clock time.
    threshold : float or None
        Of the detector: a score above it is an anomaly.
    p_values : (float, float) or None
        Where the slope of the score begins and where it ends, as p-values among the detector's normal scores.
    """

    machine: str
    changes: Mapping[str, Change]
    not_tested: Mapping[str, str]
    false_rate: float
    block: float
    rows: int
    unusable: int
    without_time: int
    origin: datetime | None
    threshold: float | None
    p_values: tuple[float, float] | None

    @property
    def kinds(self) -> set[Kind]:
        """What was found of any quantity."""
        return {found.kind for found in self.changes.values()}

    def when(self, seconds: float) -> datetime | float:
        """Clock time, or days since the beginning of the recording if that is all that is known."""
        return seconds / DAY if self.origin is None else self.origin + timedelta(seconds=seconds)

    def days_to_threshold(self) -> float:
        """After how many days from the end the middle of the score is at the threshold, at this slope.

        Infinite if it does not rise, or does not drift; 0 if it is there already.
        """
        found = self.changes.get("score")
        if found is None or self.threshold is None or found.kind != "drift" or found.slope <= 0:
            return math.inf
        return max(0.0, (self.threshold - _ends(found)[1]) / found.slope)


def drift(
    detector: Detector | Path | str,
    scores: Path | str | Iterable[Path | str],
    *,
    false_rate: float = FALSE_RATE,
    block: float | None = None,
    every: float | None = None,
    only: Sequence[str] = (),
    simulated: int = SIMULATED,
) -> Drift:
    """Test whether scores, microphones and levels change slowly.

    Parameters
    ----------
    detector : Detector, Path or str
        The one that made the scores.
    scores : Path, str, or iterable of these
        Tables as ``nearfar score --csv`` or ``--json`` prints them, of clips or windows, in any order.
    false_rate : float
        How often a drift may be found by mistake, in any of the quantities.
    block : float or None
        Hours that are one value. ``None``: 24, or as many days as make no more than ``decisions.drift.MOST`` of
        them.
    every : float or None
        Seconds from row to row, for clips whose times the tables do not say.
    only : sequence of str
        Of ``QUANTITIES``, those to test; the fewer, the more is found. Empty: all that the tables have.
    simulated : int
        Series for each p-value.

    Raises
    ------
    FileNotFoundError
        If there is no such detector or table.
    ScoreTableError
        If a table cannot be used, or does not say when its rows were recorded.
    ValueError
        If there are too few days, or a setting is none.
    """
    chosen = _chosen(only)
    refuse_rate(false_rate, tests=len(chosen), simulated=simulated)
    loaded = detector if isinstance(detector, Detector) else Detector.load(detector)
    tables = [scores] if isinstance(scores, Path | str) else list(scores)
    table = score_tables.read(tables, every=every)
    _warn_of_other_scores(loaded, table)
    seconds = _block_seconds(table, block)
    series, not_tested = _series(table, chosen, seconds)
    changes = {
        name: change(found, false_rate=false_rate / len(series), simulated=simulated)
        for name, found in series.items()
    }
    return Drift(
        loaded.machine, changes, not_tested, false_rate, seconds, rows=len(table.times),
        unusable=int((~table.usable).sum()), without_time=int(np.isnan(table.times).sum()),
        origin=ORIGIN if table.by_clock else None,
        threshold=None if loaded.threshold is None else loaded.threshold.value,
        p_values=_p_values(loaded, changes.get("score")),
    )  # fmt: skip


def _p_values(detector: Detector, of_score: Change | None) -> tuple[float, float] | None:
    if detector.threshold is None or of_score is None:
        return None
    first, last = detector.threshold.p_value(np.array(_ends(of_score)))
    return float(first), float(last)


def _chosen(only: Sequence[str]) -> list[str]:
    if unknown := [name for name in only if name not in QUANTITIES]:
        raise ValueError(f"only={unknown[0]!r}: must be one of {', '.join(QUANTITIES)}")
    return list(dict.fromkeys(only)) or list(QUANTITIES)


def _block_seconds(table: ScoreTable, block: float | None) -> float:
    """The length of a block, so that there are not too many."""
    known = table.times[np.isfinite(table.times)]
    span = float(known[-1] - known[0])
    if block is None:
        return DAY * max(1, math.ceil(span / DAY / (MOST - 1)))
    if not (block >= 1 and float(block).is_integer()):
        raise ValueError(f"block={block:g}: must be whole hours, at least 1, such as 24")
    if span / HOUR / block > MOST:
        least = math.ceil(span / HOUR / MOST)
        raise ValueError(
            f"block={block:g}: {span / DAY:.3g} days are more than {MOST} blocks of so few hours; choose at least "
            f"{least}, or omit it"
        )
    return block * HOUR


def _series(
    table: ScoreTable, chosen: Sequence[str], seconds: float
) -> tuple[dict[str, Blocks], dict[str, str]]:
    """The blocks of each quantity that has enough of them, and why the others have not."""
    series, not_tested = {}, {}
    for name in chosen:
        values = _values(table, name)
        if not (np.isfinite(values) & np.isfinite(table.times)).any():
            not_tested[name] = "the tables do not have it"
            continue
        found = blocks(table.times, values, seconds=seconds)
        if len(found.number) < FEWEST:
            not_tested[name] = f"{_counted(found)}; at least {FEWEST} are needed"
            continue
        series[name] = found
    if not series:
        names_of: dict[str, list[str]] = {}
        for name, reason in not_tested.items():
            names_of.setdefault(reason, []).append(name)
        reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in names_of.items())
        raise ValueError(f"too little to tell a slow change from chance. {reasons}")
    return series, not_tested


def _counted(found: Blocks) -> str:
    n, hours = len(found.number), found.seconds / HOUR
    what = "day" if hours == 24 else f"block of {hours:g} h"
    plural = what + "s" if hours == 24 else what.replace("block", "blocks")
    return f"{n} {what if n == 1 else plural} with enough hours"


def _values(table: ScoreTable, name: str) -> Float:
    """Of a quantity, for each row: without the score of an unusable recording, which is of its fault."""
    if name == NEAR_OVER_FAR:
        return table.values["near_dbfs"] - table.values["far_dbfs"]
    values = table.values[name]
    return np.where(table.usable, values, np.nan) if name == "score" else values


def _ends(found: Change) -> tuple[float, float]:
    """Where the slope begins and where it ends."""
    half = found.slope * (found.last - found.first) / DAY / 2
    return found.level - half, found.level + half


def _warn_of_other_scores(detector: Detector, table: ScoreTable) -> None:
    """Warn if the p-values of the table are not those that the detector gives its scores."""
    if detector.threshold is None:
        return
    score, p_value = table.values["score"], table.values["p_value"]
    known = np.flatnonzero(np.isfinite(score) & np.isfinite(p_value))
    known = known[np.linspace(0, len(known) - 1, min(len(known), FEW_P_VALUES)).astype(int)]
    if not np.allclose(detector.threshold.p_value(score[known]), p_value[known], rtol=AGREES, atol=0):
        logger.warning(
            "the p-values in the tables are not those of this detector of %r: it was calibrated since, or the "
            "scores are of another detector, or of two; score all recordings with one detector",
            detector.machine,
        )
