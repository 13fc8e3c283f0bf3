"""How much a number would change with other seeds, other test clips, or other recordings.

These are three different spreads:

* of *training*: ``spread`` over seeds;
* of the *test clips*: ``bootstrap`` and ``jackknife``;
* of the *recordings* that the clips were cut from: ``bootstrap`` with ``recording=``. It is larger than that of the
  clips if few recordings give many clips.

None of them tells how other machines would do.

Resampling is stratified: each cell of machine, section, domain and label keeps its number of clips, or of
recordings. The makers of the test set fixed these numbers; they were not drawn.

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
    """Mean and sample standard deviation (divisor n - 1) of n seeds. The deviation of one seed is None."""

    mean: float
    deviation: float | None
    n: int


def spread(values: Sequence[float]) -> Spread:
    """The spread of training: of one metric with several seeds.

    Raises
    ------
    ValueError
        If there is no value, or if one is not finite.
    """
    x = np.asarray(values, dtype=float)
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f"values={list(values)}: expected one or more, all finite")
    return Spread(float(x.mean()), float(x.std(ddof=1)) if x.size > 1 else None, x.size)


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """The official score and all metrics, with percentile intervals.

    Attributes
    ----------
    omega : Interval
    metrics : DataFrame
        Indexed by machine, section and metric: ``value``, ``low``, ``high``.
    single : tuple of str
        Cells of one recording. They make the intervals too narrow; see ``resample``.
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
    """Percentile intervals of the official score and of each metric, over resamples of the test clips.

    Parameters
    ----------
    clips, scores
        As for ``metrics.evaluate``.
    n_resamples : int
    level : float
        Of the intervals, above 0 and below 1.
    seed : int
    recording : Series, optional
        The recording that each clip was cut from, by key. Clips of one recording are then drawn together.
    """
    _require_level(level)
    of, score = sections(clips), _align(clips, scores)
    counts = resample(clips, n_resamples=n_resamples, seed=seed, recording=recording)
    value, drawn = all_metrics(of, score), all_metrics(of, score, counts)
    low, high = _ends(drawn.reshape(len(drawn), -1), level)
    names = [(s.machine, s.section, m) for s in of for m in s.metrics]
    index = pd.MultiIndex.from_tuples(names, names=["machine", "section", "metric"])
    table = pd.DataFrame({"value": value.ravel(), "low": low, "high": high}, index=index)
    ends = _ends(harmonic_means(drawn)[:, None], level)
    omega = Interval(float(harmonic_means(value)[0]), *(float(e[0]) for e in ends))
    return Bootstrap(omega, table, single_recordings(clips, recording))


def intervals(
    clips: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    n_resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    recording: pd.Series | None = None,
) -> pd.DataFrame:
    """Percentile intervals of one system's official score and of each machine's share in it.

    Parameters
    ----------
    clips : DataFrame
        As for ``metrics.evaluate``.
    scores : DataFrame
        By key, with a column for each seed. Values are means over the seeds, as of ``compare``.
    n_resamples, level, seed, recording
        As for ``bootstrap``.

    Returns
    -------
    DataFrame
        Indexed by machine; the last row is ``ALL``. ``value`` is the harmonic mean of the machine's metrics; for
        ``ALL``, the official score. ``low`` and ``high`` are the ends of its interval.
    """
    _require_level(level)
    of, systems = sections(clips), [_align(clips, scores[column]) for column in scores]
    counts = resample(clips, n_resamples=n_resamples, seed=seed, recording=recording)
    value = _mean_values(of, systems, np.ones((1, len(clips)), dtype=int))[0]
    low, high = _ends(_mean_values(of, systems, counts), level)
    return pd.DataFrame({"value": value, "low": low, "high": high}, index=_machines_and_all(of))


@dataclass(frozen=True)
class Comparison:
    """Two systems, compared on the same resamples of the same clips.

    Attributes
    ----------
    table : DataFrame
        Indexed by machine; the last row is ``ALL``. ``a`` and ``b`` are the two systems' values: the harmonic mean
        of the machine's metrics; for ``ALL``, the official score. ``difference`` is b - a, with its interval
        ``low`` and ``high``. ``b_better`` is the share of resamples where b is above a; ties count one half.
    n_resamples, seed : int
    level : float
    unit : str
        What was drawn: "clip" or "recording".
    single : tuple of str
        Cells of one recording. They make the intervals too narrow; see ``resample``.
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
    """Paired bootstrap: how sure it is that b is better than a on these machines.

    If a system has several seeds, each resample gives a value for each seed, and the mean of these values counts.
    So the value is the expected result of *one* training. The scores are not averaged, because that would be
    another system, an ensemble. The two systems may have different numbers of seeds.

    Parameters
    ----------
    clips : DataFrame
        As for ``metrics.evaluate``.
    a, b : DataFrame
        Scores by key, with a column for each seed.
    n_resamples, level, seed, recording
        As for ``bootstrap``.
    """
    _require_level(level)
    of = sections(clips)
    counts = resample(clips, n_resamples=n_resamples, seed=seed, recording=recording)
    once = np.ones((1, len(clips)), dtype=int)
    systems = [[_align(clips, x[column]) for column in x] for x in (a, b)]
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
    unit = "clip" if recording is None else "recording"
    table = pd.DataFrame(columns, index=_machines_and_all(of))
    return Comparison(table, n_resamples, seed, level, unit, single_recordings(clips, recording))


def _machines_and_all(of: Sequence[Section]) -> pd.Index:
    return pd.Index([*dict.fromkeys(s.machine for s in of), ALL], name="machine")


def _mean_values(of: Sequence[Section], seeds: Sequence[Float], counts: Counts) -> Float:
    """The value of each machine, then the official score, averaged over seeds: (n_resamples, n_machines + 1).

    The value of a machine is the harmonic mean of its metrics.
    """
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

    Every cell of machine, section, domain and label is drawn with replacement, as many clips as it has. With
    ``recording``, as many recordings are drawn as the cell has, each with all of its clips in the cell. One
    recording tells nothing about other recordings. So in a cell of one recording (see ``single_recordings``) the
    clips are drawn one by one, and the interval is too narrow.

    Raises
    ------
    ValueError
        If there is nothing to draw, or if a clip has no recording.
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
    """The cells, in words, whose clips are all of one recording. Empty without ``recording``."""
    if recording is None:
        return ()
    return tuple(cell for cell, _, group in _cells(clips, recording) if not group.any())


def _cells(
    clips: pd.DataFrame, recording: pd.Series | None
) -> Iterator[tuple[str, NDArray[np.intp], NDArray[np.intp]]]:
    """The name of each cell, the positions of its clips, and the number of each clip's group, from 0 on."""
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
    """The recording that each clip was cut from, as far as its name tells: its machine and attributes.

    Some data sets cut several clips from one recording; the attributes (a speed, say) then name the recording. If
    the same attributes were recorded twice, the two recordings count as one, and intervals are wider than
    necessary.

    Raises
    ------
    ValueError
        If a name has no attributes.
    """
    known = [parse_clip(Path(key)) for key in keys]
    if without := [c.key for c in known if not c.attributes]:
        raise ValueError(
            f"no attributes, which would name the recording, in {metrics.named(without)}; resample clips instead"
        )
    names = [f"{c.machine}/{c.attributes}" for c in known]
    return pd.Series(names, index=pd.Index(keys, name="key"), name="recording")


def jackknife(clips: pd.DataFrame, scores: pd.Series, *, level: float = LEVEL) -> Interval:
    r"""The official score with the interval of its delete-one-clip jackknife.

    Let :math:`\Omega_{(i)}` be the score without clip i of n, and :math:`\bar\Omega` the mean of these. The
    variance is :math:`\frac{n-1}{n} \sum_i (\Omega_{(i)} - \bar\Omega)^2`. The interval is the score plus and minus
    the root of the variance times Student's t with n - 1 degrees of freedom. All clips of all machines are one
    sample here; it is not stratified. The interval is an approximation, because pAUC is not a smooth function of
    the clips.

    Parameters
    ----------
    clips, scores
        As for ``metrics.evaluate``. There must be at least two anomalies and two normal clips of each domain.
    level : float
    """
    _require_level(level)
    of, score = sections(clips), _align(clips, scores)
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

    It is *not* an interval of the official score, for two reasons. First, AUC and pAUC are those of all clips of
    all machines pooled, though scores of different machines have no common scale. The half widths of both are
    averaged. Second, with :math:`\theta_{(i)}` the value without clip i, each half width is

    .. math:: t_{0.975, n-1} \sqrt{\sum_i (\theta_{(i)} - \bar\theta)^2 / (n (n - 1))}

    The jackknife (reference 2 of the module) has pseudo-values there, which spread n - 1 times as far. So the half
    width is too small by that factor. Use it only to compare with published tables. Otherwise, use ``bootstrap`` or
    ``jackknife``.
    """
    score = _align(clips, scores)
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


def _align(clips: pd.DataFrame, scores: pd.Series) -> Float:
    return metrics.joined(clips, scores, kind="score")["value"].to_numpy(float)


def _ends(drawn: Float, level: float) -> Float:
    """(n_resamples, n) to (2, n)."""
    return np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)


def _require_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level={level}: must be above 0 and below 1, as 0.95")
