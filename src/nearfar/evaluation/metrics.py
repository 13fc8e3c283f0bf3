"""The challenge's metrics.

Conventions
-----------
A score is higher for a more anomalous clip. ``clips`` is a table indexed by key with the columns ``machine``,
``section``, ``domain`` ("source", "target", or missing where undisclosed) and ``label`` ("normal", "anomaly");
scores and decisions are Series indexed by the same keys, in any order. Every metric is a fraction between 0
and 1; percent is for print alone.

The definitions are the challenge's since 2022. 2021 had others (anomalies of the same domain only), and 2020
had no domains: there one AUC takes the place of two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import hmean

from nearfar.recordings.clips import Clip

MAX_FPR = 0.1  # of pAUC; T. Nishida et al., arXiv:2606.01578
FLOOR = float(np.finfo(float).eps)  # of every term of a harmonic mean; the official evaluators
DOMAINS = ("source", "target")
METRICS = ("auc_source", "auc_target", "pauc")  # what Omega averages
METRICS_WITHOUT_DOMAINS = ("auc", "pauc")  # 2020, and recordings of one's own
NAMED = 3  # keys that an error names

Bool = NDArray[np.bool_]
Float = NDArray[np.floating]


def clip_table(clips: Iterable[Clip]) -> pd.DataFrame:
    """What the metrics need to know of each clip: indexed by key, in the order given."""
    known = list(clips)
    return pd.DataFrame(
        {
            "machine": [c.machine for c in known],
            "section": [c.section for c in known],
            "domain": [c.domain for c in known],
            "label": [c.label for c in known],
        },
        index=pd.Index([c.key for c in known], name="key"),
    )


def roc(anomalous: Bool, score: Float) -> tuple[Float, Float]:
    """The ROC curve from (0, 0) to (1, 1): false-alarm rates and hit rates, (n_distinct_scores + 1,) each.

    scikit-learn's ``roc_auc_score`` gives the same areas, at tens of times the cost for 200 clips: too much for
    a search over fusion weights or a bootstrap.

    Parameters
    ----------
    anomalous, score : (n_clips,) arrays
        Of the same clips in the same order.

    Raises
    ------
    ValueError
        If the two do not fit together, a score is not finite, or a class is absent.
    """
    _require_scorable(anomalous, score)
    falling = np.argsort(-score, kind="stable")
    ordered = score[falling]
    last_of_equals = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(score) - 1)
    hits = np.cumsum(anomalous[falling])[last_of_equals]
    false_alarms = last_of_equals + 1 - hits
    return np.append(0.0, false_alarms / false_alarms[-1]), np.append(0.0, hits / hits[-1])


def auc(anomalous: Bool, score: Float) -> float:
    """Area under the ROC curve; a pair of equal scores counts one half. Arguments as of ``roc``."""
    false_alarms, hits = roc(anomalous, score)
    return float(np.trapezoid(hits, false_alarms))


def pauc(anomalous: Bool, score: Float) -> float:
    """Partial AUC up to a false-positive rate of ``MAX_FPR``, standardized after McClish. Arguments as of ``roc``.

    A perfect detector has 1, chance 0.5, and the worst 0.47368.

    References
    ----------
    .. [1] D. K. McClish, "Analyzing a portion of the ROC curve," Medical Decision Making 9 (3), 1989.
    """
    false_alarms, hits = roc(anomalous, score)
    inside = false_alarms <= MAX_FPR
    x = np.append(false_alarms[inside], MAX_FPR)
    y = np.append(hits[inside], np.interp(MAX_FPR, false_alarms, hits))
    chance, perfect = MAX_FPR**2 / 2, MAX_FPR
    return float(0.5 * (1 + (np.trapezoid(y, x) - chance) / (perfect - chance)))


def harmonic_mean(values: Float) -> float:
    """Harmonic mean of all ``values``, each raised to ``FLOOR`` if it is below."""
    return float(hmean(np.maximum(np.asarray(values, dtype=float), FLOOR), axis=None))


def precision_recall_f1(anomalous: Bool, flagged: Bool) -> tuple[float, float, float]:
    """Precision, recall and their harmonic mean; 0.0 wherever the definition divides by zero.

    So a detector that flags nothing has a precision of 0.0, as in the official evaluator.
    """
    hits, alarms, anomalies = (int(np.sum(x)) for x in (anomalous & flagged, flagged, anomalous))
    precision = hits / alarms if alarms else 0.0
    recall = hits / anomalies if anomalies else 0.0
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return precision, recall, f1


def evaluate(clips: pd.DataFrame, scores: pd.Series) -> pd.DataFrame:
    """The official metrics of every machine and section.

    AUC of a domain pairs the domain's normal clips with the anomalies of *both* domains; pAUC takes all
    clips.

    Parameters
    ----------
    clips : DataFrame
        Indexed by key, with machine, section, domain and label of every clip.
    scores : Series
        One finite anomaly score for each of these keys.

    Returns
    -------
    DataFrame
        Indexed by machine and section: ``auc_source``, ``auc_target``, ``pauc`` and the numbers of clips
        behind them, ``normals_source``, ``normals_target``, ``anomalies``. Where no domain is disclosed:
        ``auc``, ``pauc``, ``normals``, ``anomalies``.

    Raises
    ------
    ValueError
        If keys differ or repeat, a score is not finite, labels are not disclosed, domains only in part, or a
        machine lacks the clips that a metric needs.
    """
    table = joined(clips, scores, kind="score")
    require_classes(table)
    return _by_section(table, _score_metrics)


def decision_metrics(clips: pd.DataFrame, decisions: pd.Series) -> pd.DataFrame:
    """Precision, recall and F1 of every machine and section; reported by the challenge, not ranked.

    Those of a domain take the domain's own normal *and* anomalous clips, unlike AUC; those without a suffix
    take all clips. ``f1_always`` is what flagging every clip would have: an F1 below it is no achievement.
    A class may be absent; divisions by zero give 0.0.

    Parameters
    ----------
    clips : DataFrame
        As for ``evaluate``.
    decisions : Series
        For each of these keys 1 (anomalous) or 0 (normal).

    Returns
    -------
    DataFrame
        Indexed by machine and section: ``precision``, ``recall``, ``f1``, ``f1_always``, before them each
        with ``_source`` and ``_target`` where the domains are disclosed.
    """
    table = joined(clips, decisions, kind="decision")
    if bad := list(table.index[~table["value"].isin((0, 1))]):
        raise ValueError(f"{len(bad)} decisions are neither 0 nor 1, the first of {bad[0]!r}")
    return _by_section(table, _decision_metrics)


def omega(table: pd.DataFrame) -> float:
    """The challenge's score: the harmonic mean of all three metrics of all machines and sections, all alike.

    Without domains (2020) it is the harmonic mean of AUC and pAUC: a definition of ours, not comparable with
    any published number.

    Parameters
    ----------
    table : DataFrame
        What ``evaluate`` returns, or any table with its metric columns, as fractions.
    """
    columns = list(METRICS if METRICS[0] in table else METRICS_WITHOUT_DOMAINS)
    if absent := [c for c in columns if c not in table]:
        raise ValueError(f"the table lacks {absent}; Omega needs {METRICS} or {METRICS_WITHOUT_DOMAINS}")
    values = table[columns].to_numpy(dtype=float)
    if table.empty or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"Omega needs metrics between 0 and 1 (not percent), of at least one machine: {values}"
        )
    return harmonic_mean(values)


def _score_metrics(table: pd.DataFrame) -> dict[str, float | int]:
    anomalous = is_anomalous(table)
    score = table["value"].to_numpy(float)
    inside_of = scopes(table)
    used = {suffix: anomalous | inside for suffix, inside in inside_of.items()}
    return {
        **{f"auc{suffix}": auc(anomalous[u], score[u]) for suffix, u in used.items()},
        "pauc": pauc(anomalous, score),
        **{f"normals{suffix}": int((~anomalous & inside).sum()) for suffix, inside in inside_of.items()},
        "anomalies": int(anomalous.sum()),
    }


def _decision_metrics(table: pd.DataFrame) -> dict[str, float]:
    anomalous = is_anomalous(table)
    flagged = table["value"].to_numpy(float) == 1
    inside_of = scopes(table) | {"": np.ones(len(table), dtype=bool)}
    row: dict[str, float] = {}
    for suffix, inside in inside_of.items():
        of_these = anomalous[inside]
        numbers = precision_recall_f1(of_these, flagged[inside])
        row |= {f"{name}{suffix}": x for name, x in zip(("precision", "recall", "f1"), numbers, strict=True)}
        row[f"f1_always{suffix}"] = precision_recall_f1(of_these, np.ones_like(of_these))[2]
    return row


def is_anomalous(table: pd.DataFrame) -> Bool:
    """Of each clip of a table: (n_clips,)."""
    return np.asarray(table["label"] == "anomaly", dtype=bool)


def scopes(table: pd.DataFrame) -> dict[str, Bool]:
    """Which clips the metrics of each domain are about; all where none is disclosed: (n_clips,) each."""
    if table["domain"].isna().all():
        return {"": np.ones(len(table), dtype=bool)}
    return {f"_{d}": np.asarray(table["domain"] == d, dtype=bool) for d in DOMAINS}


def _by_section(table: pd.DataFrame, measure: Callable[[pd.DataFrame], Mapping[str, float]]) -> pd.DataFrame:
    rows = {group: measure(t) for group, t in table.groupby(["machine", "section"])}
    index = pd.MultiIndex.from_tuples(list(rows), names=["machine", "section"])
    return pd.DataFrame(list(rows.values()), index=index)


def joined(clips: pd.DataFrame, values: pd.Series, *, kind: str) -> pd.DataFrame:
    """The clips with a finite column ``value``, once all that the metrics take for granted is checked."""
    require_described(clips)
    if repeated := list(values.index[values.index.duplicated()].unique()):
        raise ValueError(f"more than one {kind} for {named(repeated)}")
    absent, extra = clips.index.difference(values.index), values.index.difference(clips.index)
    if len(absent) or len(extra):
        differences = [f"no {kind} for {named(absent)}"] if len(absent) else []
        differences += [f"a {kind}, but no clip, for {named(extra)}"] if len(extra) else []
        raise ValueError("; ".join(differences))
    table = clips.assign(value=values.astype(float).reindex(clips.index))
    if bad := list(table.index[~np.isfinite(table["value"])]):
        raise ValueError(f"{len(bad)} {kind}s are missing or not finite, the first of {bad[0]!r}")
    return table


def require_described(clips: pd.DataFrame) -> None:
    """Raise unless every clip has a machine, a section, a label and, all or none, a domain."""
    if absent := [c for c in ("machine", "section", "domain", "label") if c not in clips]:
        raise ValueError(f"the clips have no column {', '.join(absent)}")
    if clips.empty:
        raise ValueError("no clips to evaluate: the table of clips has no rows")
    if repeated := list(clips.index[clips.index.duplicated()].unique()):
        raise ValueError(f"clips that occur more than once: {named(repeated)}")
    if nameless := list(clips.index[clips[["machine", "section"]].isna().any(axis=1)]):
        raise ValueError(f"clips without machine or section: {named(nameless)}")
    if hidden := list(clips.index[~clips["label"].isin(("normal", "anomaly"))]):
        raise ValueError(f"{len(hidden)} clips have no label 'normal' or 'anomaly': {named(hidden)}")
    disclosed = clips["domain"].notna()
    if unknown := sorted(set(clips.loc[disclosed, "domain"]) - set(DOMAINS)):
        raise ValueError(f"unknown domains {unknown}; expected one of {DOMAINS}")
    if disclosed.any() and not disclosed.all():
        hidden = list(clips.index[~disclosed])
        raise ValueError(
            f"the domain is disclosed for some clips, but not for {named(hidden)}; "
            "evaluate machines with and without domains apart"
        )


def require_classes(table: pd.DataFrame) -> None:
    """Raise, naming every machine that has no anomalies or, in a domain, no normal clips."""
    problems = []
    for (machine, section), t in table.groupby(["machine", "section"]):
        anomalous = is_anomalous(t)
        lacks = [] if anomalous.any() else ["anomalous clips"]
        for suffix, inside in scopes(t).items():
            if not (~anomalous & inside).any():
                lacks.append(f"normal clips of the {suffix[1:]} domain" if suffix else "normal clips")
        problems += [f"{machine}, section {section:02d}, has no {what}" for what in lacks]
    if problems:
        raise ValueError("; ".join(problems) + ": AUC is not defined")


def _require_scorable(anomalous: Bool, score: Float) -> None:
    if anomalous.ndim != 1 or anomalous.shape != score.shape:
        raise ValueError(f"anomalous {anomalous.shape} and score {score.shape} must be two arrays (n_clips,)")
    if len(bad := np.flatnonzero(~np.isfinite(score))):
        raise ValueError(f"{len(bad)} scores are not finite, the first at position {bad[0]}")
    if anomalous.all() or not anomalous.any():
        raise ValueError(f"AUC needs normal and anomalous clips; all {len(anomalous)} are of one class")


def named(keys: Iterable[str]) -> str:
    """The first few keys, and how many more there are."""
    every = list(keys)
    more = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return ", ".join(map(repr, every[:NAMED])) + more
