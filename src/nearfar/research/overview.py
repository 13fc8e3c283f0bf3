"""What a result shows: every number of a report, from the folder of a result alone.

Conventions
-----------
Tables are plain DataFrames. Metrics and rates are fractions. Every number is made by ``evaluation`` and
``decisions``; here they are only asked. Several seeds are several trainings: a metric is the mean over them, as in
``Result.omega``, and never that of averaged scores, which would be those of another system.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd

from nearfar.decisions.rates import FlaggedShare
from nearfar.decisions.thresholds import THRESHOLDS
from nearfar.evaluation import metrics, statistics
from nearfar.evaluation.curves import Curve, curves
from nearfar.evaluation.flags import COUNTS
from nearfar.evaluation.metrics import omega
from nearfar.evaluation.results import Result
from nearfar.evaluation.statistics import ALL, Comparison
from nearfar.research import experiment
from nearfar.research.experiment import recording_of, scores_by_seed

Unit = Literal["clip", "recording"]

PAIRS_OF_ALL = 4  # results; of more, each is compared with the first
MISSED, FALSE_ALARM = "missed anomaly", "false alarm"
RESULT_METRICS = ("auc_source", "auc_target", "auc", "pauc", "f1", "f1_always")
RATES = (
    "machine",
    "section",
    "domain",
    "asked",
    "normals",
    "flagged",
    "share",
    "low",
    "high",
    "anomalies",
    "found",
)


def names_of(results: Sequence[Result]) -> list[str]:
    """A name for each result: that of its system; where several have it, with the folder; else with a number."""
    names = [result.run.name for result in results]
    names = _told_apart(names, [f"{name} ({r.folder.name})" for name, r in zip(names, results, strict=True)])
    return _told_apart(names, [f"{name}, {number + 1}" for number, name in enumerate(names)])


def _told_apart(names: Sequence[str], longer: Sequence[str]) -> list[str]:
    """The longer of two names for those that are not alone."""
    count = Counter(names)
    return [long if count[name] > 1 else name for name, long in zip(names, longer, strict=True)]


def clips_of(result: Result) -> pd.DataFrame:
    """The test clips that have metrics, by key: machine, section, domain, label. Empty if no labels are known."""
    known = result.scores[result.scores["machine"].isin(set(result.metrics["machine"]))]
    return known.drop_duplicates("key").set_index("key")[["machine", "section", "domain", "label"]]


def has_domains(result: Result) -> bool | None:
    """Whether all machines with metrics have domains; ``None`` if some have and some have not."""
    columns = set(result.metrics)
    return None if {"auc", "auc_source"} <= columns else "auc_source" in columns


def omegas(result: Result) -> pd.Series:
    """Omega of each seed, by seed; empty where it is not defined, as ``Result.omega``."""
    if result.omega is None:
        return pd.Series(dtype=float, name="omega")
    return pd.Series({seed: omega(table) for seed, table in result.metrics.groupby("seed")}, name="omega")


def intervals(result: Result, unit: Unit = "clip") -> pd.DataFrame | None:
    """How certain Omega and each machine's share in it are, as of ``statistics.intervals``.

    They are over resamples of the test clips, or of recordings, of these machines: they tell neither how other
    machines would do, nor another training.

    Returns
    -------
    DataFrame or None
        By machine; the last row is ``statistics.ALL``, Omega, unless some machines have domains and some have none.
        ``None`` if no labels are known.

    Raises
    ------
    ValueError
        If recordings are to be drawn, and names of clips do not tell them.
    """
    clips = clips_of(result)
    if clips.empty:
        return None
    scores = scores_by_seed(result)
    parts = (
        [clips] if has_domains(result) is not None else [t for _, t in clips.groupby(clips["domain"].isna())]
    )
    found = [
        statistics.intervals(part, scores.loc[part.index], recording=recording_of(part.index, unit))
        for part in parts
    ]
    return found[0] if len(found) == 1 else pd.concat(table.drop(ALL) for table in found)


def metrics_of(result: Result, unit: Unit = "clip", *, certain: pd.DataFrame | None = None) -> pd.DataFrame:
    """Metrics of each machine and section, means over the seeds; empty if no labels are known.

    Parameters
    ----------
    result : Result
    unit : {"clip", "recording"}
        What the intervals draw.
    certain : DataFrame or None
        What ``intervals`` found, if it has been asked already.

    Returns
    -------
    DataFrame
        machine, section, those of ``RESULT_METRICS`` that the result has, and ``mean``, ``low``, ``high``: the
        harmonic mean of the machine's metrics with its interval, of all its sections.
    """
    found = intervals(result, unit) if certain is None else certain
    if found is None:
        return pd.DataFrame(columns=["machine", "section", "mean", "low", "high"])
    names = [name for name in RESULT_METRICS if name in result.metrics]
    table = result.metrics.groupby(["machine", "section"])[names].mean().reset_index()
    of_machines = found.rename(columns={"value": "mean"})
    return table.join(of_machines, on="machine")


def false_alarms(result: Result) -> pd.DataFrame:
    """How many normal clips were flagged, of each machine, section and domain, beside the rate that was asked for.

    Of several seeds, counts are means. The intervals are exact ones of the rounded mean count
    (``rates.FlaggedShare``): seeds share their clips, so more seeds do not make them narrower.

    Returns
    -------
    DataFrame
        ``RATES``: ``asked`` is NaN where it is not recorded; ``share``, ``low`` and ``high`` are NaN without normal
        clips. Of several machines, the last rows are of ``statistics.ALL``, section -1. Empty if no labels are
        known, or there are no decisions.
    """
    counts = result.false_alarms
    if counts.empty:
        return pd.DataFrame(columns=list(RATES))
    places = ["machine", "section", "domain"]
    rows = counts.groupby(places, sort=False, dropna=False)[COUNTS].mean().reset_index()
    asked = {m: of.false_alarm_rate for m, of in result.run.data.machines.items()}
    rows = rows.assign(asked=rows["machine"].map(asked).astype(float))
    if len(rows[["machine", "section"]].drop_duplicates()) > 1:
        of_all = rows.groupby("domain", sort=False, dropna=False)[COUNTS].sum().reset_index()
        rates = rows["asked"].unique()
        of_all = of_all.assign(machine=ALL, section=-1, asked=rates[0] if len(rates) == 1 else np.nan)
        rows = pd.concat([rows, of_all], ignore_index=True)
    shares = [
        _flagged(flagged, int(normals))
        for flagged, normals in zip(rows["normals_flagged"], rows["normals"], strict=True)
    ]
    rows[["share", "low", "high"]] = pd.DataFrame(shares, index=rows.index)
    rows = rows.rename(columns={"normals_flagged": "flagged", "anomalies_flagged": "found"})
    return rows[list(RATES)]


def _flagged(flagged: float, normals: int) -> tuple[float, float, float]:
    """The share, and the limits of its interval."""
    if not normals:
        return (np.nan, np.nan, np.nan)
    return (flagged / normals, *FlaggedShare(round(flagged), normals).interval())


@dataclass(frozen=True, slots=True)
class Limit:
    """Where a machine's threshold lies.

    Attributes
    ----------
    value : float or None
        Learnt again from the scores of unseen normal clips, if the decisions agree with it.
    above, below : float
        The highest score that was not flagged, and the lowest that was: the threshold is not lower than the one,
        and lower than the other. NaN if there is none.
    """

    value: float | None
    above: float
    below: float


def thresholds(result: Result, seed: int) -> dict[str, Limit]:
    """Where the threshold of each machine lies, with one seed; none of machines without decisions."""
    found = {}
    of_seed = result.scores[(result.scores["seed"] == seed) & result.scores["decision"].notna()]
    for machine, table in of_seed.groupby("machine", sort=False):
        score, flagged = table["score"].to_numpy(float), table["decision"].to_numpy(float) == 1
        value = _threshold(result, str(machine), seed)
        if value is not None and not np.array_equal(score > value, flagged):
            value = None
        above, below = score[~flagged].max(initial=-np.inf), score[flagged].min(initial=np.inf)
        finite = (float(x) if np.isfinite(x) else np.nan for x in (above, below))
        found[str(machine)] = Limit(value, *finite)
    return found


def _threshold(result: Result, machine: str, seed: int) -> float | None:
    """As the run learnt it, as far as its record tells."""
    references = result.references
    normal = references[(references["machine"] == machine) & (references["seed"] == seed)]["score"]
    rate = result.run.data.machines[machine].false_alarm_rate
    config: Mapping[str, Any] = result.run.system.get("threshold") or {}
    rate = config.get("false_alarm_rate") if rate is None else rate
    method = THRESHOLDS.get(config.get("method", "conformal"))
    if normal.empty or rate is None or method is None:
        return None
    try:
        return float(method.fit(normal.to_numpy(float), false_alarm_rate=rate).value)
    except ValueError:
        return None


def roc_curves(result: Result, seed: int) -> dict[tuple[str, int], tuple[Curve, ...]]:
    """The ROC curves of each machine and section that has metrics, with one seed."""
    scores = scores_by_seed(result)[seed]
    return {
        (str(machine), int(str(section))): curves(
            metrics.is_anomalous(table),
            scores.loc[table.index].to_numpy(float),
            None if table["domain"].isna().all() else table["domain"].tolist(),
        )
        for (machine, section), table in clips_of(result).groupby(["machine", "section"], sort=False)
    }


@dataclass(frozen=True)
class Pair:
    """Two results of those that are reported together, compared; or why they cannot be.

    Attributes
    ----------
    a, b : int
        Places of the results.
    comparison : Comparison or None
    why_not : str
    """

    a: int
    b: int
    comparison: Comparison | None
    why_not: str = ""


def comparisons(results: Sequence[Result], unit: Unit = "clip") -> Iterator[Pair]:
    """Paired comparisons: of each pair, or of more than ``PAIRS_OF_ALL`` results, of each with the first."""
    for a, b in _pairs(len(results)):
        try:
            yield Pair(a, b, experiment.compare(results[a], results[b], unit=unit))
        except ValueError as error:
            yield Pair(a, b, None, str(error))


def n_pairs(n_results: int) -> int:
    """How many pairs of so many results are compared."""
    return len(_pairs(n_results))


def _pairs(n: int) -> list[tuple[int, int]]:
    return [pair for pair in combinations(range(n), 2) if n <= PAIRS_OF_ALL or pair[0] == 0]


def most_wrong(result: Result, n: int = 5) -> pd.DataFrame:
    """The test clips that a result is most wrong about, of each machine, section and domain.

    Missed anomalies were not flagged, or a normal clip of their machine and section scores as high: those with most
    normal clips above them come first. False alarms are normal clips that were flagged, or score as high as an
    anomaly: those with most anomalies below them come first, and of these the highest among the normal clips. Of
    several seeds, ranks and flags are means.

    Parameters
    ----------
    result : Result
    n : int
        At most so many of each kind, machine, section and domain.

    Returns
    -------
    DataFrame
        machine, section, domain, kind (``MISSED``, ``FALSE_ALARM``), key, ``score`` (of the first seed), ``rank``
        (share of the *other* class on the wrong side: of a missed anomaly, normal clips that score as high or
        higher; of a false alarm, anomalies that score as high or lower), ``flagged`` (share of the seeds that
        flagged it; NaN without decisions). Empty if no labels are known.
    """
    clips, scores = clips_of(result), scores_by_seed(result)
    found = []
    for (machine, section), table in clips.groupby(["machine", "section"], sort=False):
        ranked = _ranked(result, table, scores.loc[table.index])
        missed = ranked["kind"] == MISSED
        decided_wrongly = (missed & (ranked["flagged"] < 1)) | (~missed & (ranked["flagged"] > 0))
        wrong = ranked[(ranked["rank"] > 0) | decided_wrongly]
        wrong = wrong.sort_values(["rank", "order"], ascending=False, kind="stable")
        wrong = wrong.assign(machine=str(machine), section=int(str(section)))
        found.append(wrong.groupby(["domain", "kind"], dropna=False).head(n))
    columns = ["machine", "section", "domain", "kind", "key", "score", "rank", "flagged"]
    if not found:
        return pd.DataFrame(columns=columns)
    by_kind = [table for f in found for _, table in f.groupby(["kind", "domain"], dropna=False, sort=False)]
    return pd.concat(by_kind or found)[columns].reset_index(drop=True)


def _ranked(result: Result, clips: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The clips of a machine and section, and how far each is on the wrong side."""
    anomalous = metrics.is_anomalous(clips)
    ranks, orders = np.zeros(len(clips)), np.zeros(len(clips))
    for seed in scores:
        score = scores[seed].to_numpy(float)
        normals, anomalies = np.sort(score[~anomalous]), np.sort(score[anomalous])
        above = 1 - np.searchsorted(normals, score, "left") / len(normals)
        below = np.searchsorted(anomalies, score, "right") / len(anomalies)
        ranks += np.where(anomalous, above, below) / scores.shape[1]
        within = np.searchsorted(normals, score, "left") / len(normals)
        orders += np.where(anomalous, -within, within) / scores.shape[1]
    flagged = result.scores.groupby("key")["decision"].mean().reindex(clips.index)
    return pd.DataFrame(
        {
            "key": clips.index,
            "domain": clips["domain"].to_numpy(),
            "kind": np.where(anomalous, MISSED, FALSE_ALARM),
            "score": scores.iloc[:, 0].to_numpy(float),
            "rank": ranks,
            "order": orders,
            "flagged": flagged.to_numpy(float),
        }
    )


def highest(result: Result, n: int = 5) -> pd.DataFrame:
    """The test clips with the highest scores of each machine and section, of a result without labels.

    Returns
    -------
    DataFrame
        As ``most_wrong``; ``kind`` and ``rank`` are not known.
    """
    first = result.scores[result.scores["seed"] == result.run.seeds[0]]
    found = first.sort_values("score", ascending=False, kind="stable").groupby(["machine", "section"]).head(n)
    found = found.sort_values(["machine", "section"], kind="stable")
    return found.assign(kind="highest score", rank=np.nan, flagged=found["decision"])[
        ["machine", "section", "domain", "kind", "key", "score", "rank", "flagged"]
    ].reset_index(drop=True)
