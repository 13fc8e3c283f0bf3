"""How far a number would move: with other seeds, other test clips, other recordings.

Three spreads, never to be mixed up: that of *training* (``spread`` over seeds), that of the *test clips*
(``bootstrap``, ``jackknife``), and that of the *recordings* the clips were cut from (``recording=``), which is
the larger one where few recordings give many clips. None of them tells how other machines would do.

Resampling is stratified: each cell of machine, section, domain and label keeps its number of clips, or of
recordings, because these are fixed by who made the test set, not drawn.

References
----------
.. [1] B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap, 1993: percentile intervals (chapter 13),
   the jackknife (chapter 11).
.. [2] A. Mesaros et al., "Sound event detection in the DCASE 2017 challenge," IEEE/ACM TASLP 27 (6), 2019,
   section IV: the jackknife of DCASE's evaluators.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from nearfar.evaluation import metrics
from nearfar.evaluation.ranking import Section, all_metrics, harmonic_means, section_metrics, sections
from nearfar.recordings.clips import parse_clip

RESAMPLES = 1000  # our choice: the ends of a 95 % interval then rest on 25 resamples each
LEVEL = 0.95  # of intervals, as in the challenge's tables
ALL = "all machines"  # the row of Omega
CELL = ["machine", "section", "domain", "label"]

Float = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample standard deviation (divisor n - 1) of n seeds; no deviation of one."""

    mean: float
    deviation: float | None
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Of the same metric with several seeds: the spread of training.

    Raises
    ------
    ValueError
        If there are none, or one is not finite.
    """
    x = np.asarray(values, dtype=float)
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f"values={list(values)}: expected one or more, all finite")
    return Spread(float(x.mean()), float(x.std(ddof=1)) if x.size > 1 else None, x.size)


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with the ends of its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """Omega and all metrics with percentile intervals.

    Attributes
    ----------
    omega : Interval
    metrics : DataFrame
        Indexed by machine, section and metric: ``value``, ``low``, ``high``.
    single : tuple of str
        Cells of one recording, which make the intervals too narrow: see ``resample``.
    """

    omega: Interval
    metrics: pd.DataFrame
    single: tuple[str, ...]


def bootstrap(
    clips: pd.DataFrame,
    scores: pd.Series,
    *,
    n_resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    recording: pd.Series | None = None,
) -> Bootstrap:
    """Percentile intervals of Omega and of each metric, over resamples of the test clips.

    Parameters
    ----------
    clips, scores
        As for ``metrics.evaluate``.
    n_resamples : int
    level : float
    seed : int
    recording : Series, optional
        Of each key, the recording that the clip is from: clips of one recording then come and go together.
    """
    _require_level(level)
    of, score = sections(clips), _aligned(clips, scores)
    counts = resample(clips, n_resamples=n_resamples, seed=seed, recording=recording)
    value, drawn = all_metrics(of, score), all_metrics(of, score, counts)
    low, high = _ends(drawn.reshape(len(drawn), -1), level)
    names = [(s.machine, s.section, m) for s in of for m in s.metrics]
    index = pd.MultiIndex.from_tuples(names, names=["machine", "section", "metric"])
    table = pd.DataFrame({"value": value.ravel(), "low": low, "high": high}, index=index)
    ends = _ends(harmonic_means(drawn)[:, None], level)
    omega = Interval(float(harmonic_means(value)[0]), *(float(e[0]) for e in ends))
    return Bootstrap(omega, table, single_recordings(clips, recording))


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same resamples of the same clips.

    Attributes
    ----------
    table : DataFrame
        Indexed by machine, the last row ``ALL``: ``a``, ``b``, ``difference`` (b - a), its interval ``low`` and
        ``high``, and ``b_better``, the share of resamples in which b is above a, ties counting one half. A
        machine's value is the harmonic mean of its metrics, that of ``ALL`` is Omega.
    n_resamples, seed : int
    level : float
    unit : str
        What was drawn: "clip" or "recording".
    single : tuple of str
        Cells of one recording, which make the intervals too narrow: see ``resample``.
    """

    table: pd.DataFrame
    n_resamples: int
    seed: int
    level: float
    unit: str
    single: tuple[str, ...]


def compare(
    clips: pd.DataFrame,
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    n_resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    recording: pd.Series | None = None,
) -> Comparison:
    """Paired bootstrap: how sure it is, given these machines, that b is better than a.

    Where a system has several seeds, its value is the mean over seeds of the value of each, on the same
    resample: the expected result of *one* training. (The scores are not averaged: that would be an ensemble,
    another system.) The number of seeds may differ.

    Parameters
    ----------
    clips : DataFrame
        As for ``metrics.evaluate``.
    a, b : DataFrame
        Scores by key, a column a seed.
    n_resamples, level, seed, recording
        As for ``bootstrap``.
    """
    _require_level(level)
    of = sections(clips)
    counts = resample(clips, n_resamples=n_resamples, seed=seed, recording=recording)
    once = np.ones((1, len(clips)), dtype=int)
    systems = [[_aligned(clips, x[column]) for column in x] for x in (a, b)]
    value_a, value_b = (_mean_values(of, system, once)[0] for system in systems)
    drawn_a, drawn_b = (_mean_values(of, system, counts) for system in systems)
    difference = drawn_b - drawn_a
    low, high = _ends(difference, level)
    columns = {
        "a": value_a,
        "b": value_b,
        "difference": value_b - value_a,
        "low": low,
        "high": high,
        "b_better": (difference > 0).mean(axis=0) + (difference == 0).mean(axis=0) / 2,
    }
    index = pd.Index([*dict.fromkeys(s.machine for s in of), ALL], name="machine")
    unit = "clip" if recording is None else "recording"
    table = pd.DataFrame(columns, index=index)
    return Comparison(table, n_resamples, seed, level, unit, single_recordings(clips, recording))


def _mean_values(of: Sequence[Section], seeds: Sequence[Float], counts: Counts) -> Float:
    """Harmonic mean of each machine's metrics, and Omega, averaged over seeds: (n_resamples, n_machines + 1)."""
    machines = list(dict.fromkeys(s.machine for s in of))
    total = np.zeros((len(counts), len(machines) + 1))
    for scores in seeds:
        values = all_metrics(of, scores, counts)
        for m, machine in enumerate(machines):
            total[:, m] += harmonic_means(values[:, [s.machine == machine for s in of]])
        total[:, -1] += harmonic_means(values)
    return total / len(seeds)


def resample(
    clips: pd.DataFrame, *, n_resamples: int, seed: int, recording: pd.Series | None = None
) -> Counts:
    """How often each clip is in each resample: (n_resamples, n_clips).

    In every cell of machine, section, domain and label as many clips are drawn, with replacement, as there are;
    with ``recording`` as many recordings, each with all of its clips in the cell. A cell of one recording, see
    ``single_recordings``, tells nothing of others: its clips are drawn one by one, and the interval is too narrow.

    Raises
    ------
    ValueError
        If there is nothing to draw, or a clip has no recording.
    """
    if n_resamples < 1:
        raise ValueError(f"n_resamples={n_resamples}: must be at least 1")
    rng = np.random.default_rng(seed)
    counts = np.zeros((n_resamples, len(clips)), dtype=np.int64)
    for _, positions, group in _cells(clips, recording):
        group = group if group.any() else np.arange(len(positions))
        n_groups = int(group.max()) + 1
        drawn = rng.integers(n_groups, size=(n_resamples, n_groups))
        drawn += n_groups * np.arange(n_resamples)[:, None]  # so that one count serves all rows
        of_group = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        counts[:, positions] = of_group[:, group]
    return counts


def single_recordings(clips: pd.DataFrame, recording: pd.Series | None) -> tuple[str, ...]:
    """The cells, in words, whose clips are all of one recording; none without ``recording``."""
    if recording is None:
        return ()
    return tuple(cell for cell, _, group in _cells(clips, recording) if not group.any())


def _cells(
    clips: pd.DataFrame, recording: pd.Series | None
) -> Iterator[tuple[str, NDArray[np.intp], NDArray[np.intp]]]:
    """Of each cell: its name, the positions of its clips, and the number of each one's group, from 0 on."""
    groups = np.arange(len(clips)) if recording is None else _group_numbers(clips, recording)
    table = clips.assign(position=np.arange(len(clips)))
    for cell, members in table.groupby(CELL, dropna=False):
        positions = members["position"].to_numpy()
        machine, section, domain, label = cell
        disclosed = members["domain"].notna().all()
        name = f"{machine}, section {section:02d}, {label}" + (f", {domain}" if disclosed else "")
        yield name, positions, np.unique(groups[positions], return_inverse=True)[1]


def _group_numbers(clips: pd.DataFrame, recording: pd.Series) -> NDArray[np.intp]:
    known = recording.reindex(clips.index)
    if without := known.index[known.isna()].to_list():
        raise ValueError(f"no recording is known of {metrics.named(without)}")
    return pd.factorize(known)[0]


def recordings(keys: Sequence[str]) -> pd.Series:
    """The recording that each clip was cut from, as far as its name tells: machine and attributes.

    In sets that cut several clips from one recording, the attributes (a speed, say) name it; where the same
    attributes were recorded twice, the two count as one, and intervals come out wider than they need be.

    Raises
    ------
    ValueError
        If a name tells no attributes.
    """
    known = [parse_clip(Path(key)) for key in keys]
    if without := [c.key for c in known if not c.attributes]:
        raise ValueError(
            f"no attributes, which would name the recording, in {metrics.named(without)}; resample clips instead"
        )
    names = [f"{c.machine}/{c.attributes}" for c in known]
    return pd.Series(names, index=pd.Index(keys, name="key"), name="recording")


def jackknife(clips: pd.DataFrame, scores: pd.Series, *, level: float = LEVEL) -> Interval:
    r"""Omega with the interval of its delete-one-clip jackknife.

    With :math:`\Omega_{(i)}` that without clip i of n, and their mean :math:`\bar\Omega`, the variance is
    :math:`\frac{n-1}{n} \sum_i (\Omega_{(i)} - \bar\Omega)^2`; the interval is Omega plus and minus Student's t
    of n - 1 degrees of freedom times its root. All clips of all machines are one sample here: it is not
    stratified. It is an approximation, since pAUC is not smooth in the clips.

    Parameters
    ----------
    clips, scores
        As for ``metrics.evaluate``; two anomalies and, of each domain, two normal clips at least.
    level : float
    """
    _require_level(level)
    of, score = sections(clips), _aligned(clips, scores)
    value = all_metrics(of, score)
    without = np.empty(len(clips))
    for k, s in enumerate(of):  # the clip that is left out changes the metrics of its section alone
        own = section_metrics(s, score[None, s.positions], _each_left_out(len(s.positions)))
        values = np.repeat(value, len(own), axis=0)
        values[:, k] = own
        without[s.positions] = harmonic_means(values)
    n = len(without)
    half = _student(level, n) * np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    omega = float(harmonic_means(value)[0])
    return Interval(omega, omega - half, omega + half)


def official_half_width(clips: pd.DataFrame, scores: pd.Series) -> float:
    r"""The number that DCASE's evaluator of 2024 calls "official score ci95", as we understand its code.

    It is *not* an interval of the official score. AUC and pAUC are taken of all clips of all machines pooled,
    though the scores of different machines have no common scale; the half widths of both are averaged. And each
    is :math:`t_{0.975, n-1} \sqrt{\sum_i (\theta_{(i)} - \bar\theta)^2 / (n (n - 1))}` of the values without
    clip i, where the jackknife (reference 2 of the module) has pseudo-values, which spread n - 1 times as far:
    it is too small by that factor. For comparing with published tables alone; take ``jackknife`` or
    ``bootstrap`` otherwise.
    """
    score = _aligned(clips, scores)
    pooled = clips.assign(machine=ALL, section=0, domain=None)
    (everything,) = sections(pooled)
    without = section_metrics(everything, score[None], _each_left_out(len(score)))  # AUC and pAUC
    n = len(score)
    sigma = np.sqrt(((without - without.mean(axis=0)) ** 2).sum(axis=0) / (n * (n - 1)))
    return float(_student(LEVEL, n) * sigma.mean())


def _each_left_out(n: int) -> Counts:
    return 1 - np.eye(n, dtype=np.int64)


def _student(level: float, n: int) -> float:
    return float(stats.t.ppf((1 + level) / 2, n - 1))


def _aligned(clips: pd.DataFrame, scores: pd.Series) -> Float:
    return metrics.joined(clips, scores, kind="score")["value"].to_numpy(float)


def _ends(drawn: Float, level: float) -> Float:
    """(n_resamples, n) to (2, n)."""
    return np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)


def _require_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level={level}: must be above 0 and below 1, as 0.95")
