"""The challenge's metrics.

Conventions
-----------
A score is higher for a more anomalous clip. ``clips`` is a table with one row for each clip, indexed by key. Its
columns are ``machine``, ``section``, ``domain`` ("source", "target", or missing if undisclosed) and ``label``
("normal", "anomaly"). Scores and decisions are Series indexed by the same keys, in any order. Every metric is a
fraction between 0 and 1; only what is printed is in percent.

The definitions are those of the challenge since 2022. In 2021, the AUC of a domain took the anomalies of that
domain only. In 2020 there were no domains; one AUC takes the place of two there.
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
    """The table of clips that the metrics take.

    Parameters
    ----------
    clips : iterable of Clip

    Returns
    -------
    DataFrame
        Machine, section, domain and label of each clip, indexed by key, in the order given.

    Examples
    --------
    >>> from pathlib import Path
    >>> from nearfar.evaluation.metrics import clip_table
    >>> from nearfar.recordings.clips import parse_clip
    >>> names = ["section_00_source_test_normal_0000.wav", "section_00_target_test_anomaly_0001.wav"]
    >>> print(clip_table(parse_clip(Path("fan/test", name)) for name in names).reset_index(drop=True))
      machine  section  domain    label
    0     fan        0  source   normal
    1     fan        0  target  anomaly
    """
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
    """The ROC curve, from (0, 0) to (1, 1).

    scikit-learn's ``roc_auc_score`` gives the same areas. For 200 clips it takes tens of times as long, which is
    too slow for a search over fusion weights or for a bootstrap.

    Parameters
    ----------
    anomalous : (n_clips,) array of bool
    score : (n_clips,) array
        Scores of the same clips, in the same order.

    Returns
    -------
    false_alarms, hits : (n_distinct_scores + 1,) arrays
        False-positive rates and true-positive rates.

    Raises
    ------
    ValueError
        If the two arrays differ in shape, if a score is not finite, or if all clips are of one class.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.evaluation.metrics import roc
    >>> anomalous = np.array([False, False, True, True])
    >>> false_alarms, hits = roc(anomalous, np.array([1.0, 3.0, 2.0, 4.0]))
    >>> false_alarms
    array([0. , 0. , 0.5, 0.5, 1. ])
    >>> hits
    array([0. , 0.5, 0.5, 1. , 1. ])
    """
    _require_scorable(anomalous, score)
    falling = np.argsort(-score, kind="stable")
    ordered = score[falling]
    last_of_equals = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(score) - 1)
    hits = np.cumsum(anomalous[falling])[last_of_equals]
    false_alarms = last_of_equals + 1 - hits
    return np.append(0.0, false_alarms / false_alarms[-1]), np.append(0.0, hits / hits[-1])


def auc(anomalous: Bool, score: Float) -> float:
    """Area under the ROC curve.

    It is the probability that an anomalous clip has a higher score than a normal one. Equal scores count one half.

    Parameters
    ----------
    anomalous, score : (n_clips,) arrays
        As for ``roc``.

    Examples
    --------
    One anomaly scores higher than both normal clips, the other higher than one of them: three of four pairs are in
    order.

    >>> import numpy as np
    >>> from nearfar.evaluation.metrics import auc
    >>> auc(np.array([False, False, True, True]), np.array([1.0, 3.0, 2.0, 4.0]))
    0.75
    """
    false_alarms, hits = roc(anomalous, score)
    return float(np.trapezoid(hits, false_alarms))


def pauc(anomalous: Bool, score: Float) -> float:
    """Partial AUC: the area up to a false-positive rate of ``MAX_FPR``, standardized after McClish [1]_.

    A perfect detector has 1, chance has 0.5, and the worst possible detector has 0.47368.

    Parameters
    ----------
    anomalous, score : (n_clips,) arrays
        As for ``roc``.

    References
    ----------
    .. [1] D. K. McClish, "Analyzing a portion of the ROC curve," Medical Decision Making 9 (3), 1989.

    Examples
    --------
    With ten normal clips, only the one with the highest score is inside the first 10 % of false alarms. So
    anomalies that it outscores do not count.

    >>> import numpy as np
    >>> from nearfar.evaluation.metrics import auc, pauc
    >>> anomalous = np.array([False] * 10 + [True] * 2)
    >>> score = np.array([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 8.5, 10])
    >>> round(auc(anomalous, score), 3), round(pauc(anomalous, score), 3)
    (0.95, 0.737)
    """
    x, y = partial_roc(*roc(anomalous, score))
    chance, perfect = MAX_FPR**2 / 2, MAX_FPR
    return float(0.5 * (1 + (np.trapezoid(y, x) - chance) / (perfect - chance)))


def partial_roc(false_alarms: Float, hits: Float) -> tuple[Float, Float]:
    """The part of a ROC curve that ``pauc`` counts: false-positive rates from 0 to ``MAX_FPR``.

    Parameters
    ----------
    false_alarms, hits : (n,) arrays
        As of ``roc``.

    Returns
    -------
    false_alarms, hits : (k,) arrays
        The last point lies at ``MAX_FPR``, on the straight line between its neighbours on the curve.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.evaluation.metrics import partial_roc
    >>> partial_roc(np.array([0.0, 0.2, 1.0]), np.array([0.5, 0.7, 1.0]))
    (array([0. , 0.1]), array([0.5, 0.6]))
    """
    inside = false_alarms <= MAX_FPR
    x = np.append(false_alarms[inside], MAX_FPR)
    return x, np.append(hits[inside], np.interp(MAX_FPR, false_alarms, hits))


def harmonic_mean(values: Float) -> float:
    """Harmonic mean of all values.

    A value below ``FLOOR`` is raised to it, as in the official evaluators. So a single 0 makes the mean nearly 0.

    Parameters
    ----------
    values : array
        Of any shape.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.evaluation.metrics import harmonic_mean
    >>> round(harmonic_mean(np.array([0.9, 0.6])), 3)
    0.72
    >>> harmonic_mean(np.array([0.9, 0.0])) < 1e-15
    True
    """
    return float(hmean(np.maximum(np.asarray(values, dtype=float), FLOOR), axis=None))


def precision_recall_f1(anomalous: Bool, flagged: Bool) -> tuple[float, float, float]:
    """Precision, recall and their harmonic mean F1.

    Where the definition divides by zero, the value is 0.0. So a detector that flags nothing has a precision of 0.0,
    as in the official evaluator.

    Parameters
    ----------
    anomalous, flagged : (n_clips,) arrays of bool

    Returns
    -------
    precision, recall, f1 : float

    Examples
    --------
    Two of three alarms are right, and two of four anomalies are found.

    >>> import numpy as np
    >>> from nearfar.evaluation.metrics import precision_recall_f1
    >>> anomalous = np.array([True, True, True, True, False, False])
    >>> flagged = np.array([True, True, False, False, True, False])
    >>> precision, recall, f1 = precision_recall_f1(anomalous, flagged)
    >>> round(precision, 3), recall, round(f1, 3)
    (0.667, 0.5, 0.571)
    """
    hits, alarms, anomalies = (int(np.sum(x)) for x in (anomalous & flagged, flagged, anomalous))
    precision = hits / alarms if alarms else 0.0
    recall = hits / anomalies if anomalies else 0.0
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return precision, recall, f1


def evaluate(clips: pd.DataFrame, scores: pd.Series) -> pd.DataFrame:
    """The official metrics of every machine and section.

    The AUC of a domain compares the normal clips of that domain with the anomalies of *both* domains. pAUC takes
    all clips.

    Parameters
    ----------
    clips : DataFrame
        Machine, section, domain and label of every clip, indexed by key; see ``clip_table``.
    scores : Series
        A finite anomaly score for each of these keys.

    Returns
    -------
    DataFrame
        Indexed by machine and section. The columns are ``auc_source``, ``auc_target``, ``pauc``, and the numbers of
        clips behind them: ``normals_source``, ``normals_target``, ``anomalies``. If no domain is disclosed they are
        ``auc``, ``pauc``, ``normals``, ``anomalies``.

    Raises
    ------
    ValueError
        If keys differ or repeat, if a score is not finite, if a label is not disclosed, if only some domains are
        disclosed, or if a machine lacks the clips that a metric needs.

    Examples
    --------
    The normal clips of the target domain score higher than those of the source domain, so its AUC is lower.

    >>> import pandas as pd
    >>> from nearfar.evaluation.metrics import evaluate
    >>> clips = pd.DataFrame(
    ...     {
    ...         "machine": "fan",
    ...         "section": 0,
    ...         "domain": ["source", "source", "target", "target", "source", "target"],
    ...         "label": ["normal"] * 4 + ["anomaly"] * 2,
    ...     },
    ...     index=list("abcdef"),
    ... )
    >>> scores = pd.Series([1.0, 2.0, 3.0, 4.0, 3.5, 5.0], index=list("abcdef"))
    >>> evaluate(clips, scores).loc[("fan", 0), ["auc_source", "auc_target"]].to_dict()
    {'auc_source': 1.0, 'auc_target': 0.75}
    """
    table = joined(clips, scores, kind="score")
    require_classes(table)
    return _by_section(table, _score_metrics)


def decision_metrics(clips: pd.DataFrame, decisions: pd.Series) -> pd.DataFrame:
    """Precision, recall and F1 of every machine and section. The challenge reports them, but does not rank by them.

    Unlike AUC, the metrics of a domain take the normal *and* anomalous clips of that domain alone. Those without a
    suffix take all clips. ``f1_always`` is the F1 of flagging every clip; an F1 below it is no achievement. A class
    may be absent; a division by zero gives 0.0.

    Parameters
    ----------
    clips : DataFrame
        As for ``evaluate``.
    decisions : Series
        For each of these keys 1 (anomalous) or 0 (normal).

    Returns
    -------
    DataFrame
        Indexed by machine and section: ``precision``, ``recall``, ``f1``, ``f1_always``. If the domains are
        disclosed, each also with ``_source`` and ``_target``, which come first.

    Raises
    ------
    ValueError
        If a decision is neither 0 nor 1; otherwise as ``evaluate``.

    Examples
    --------
    Half of the clips are anomalous. The F1 of 0.67 looks fair, but whoever flags every clip reaches it too.

    >>> import pandas as pd
    >>> from nearfar.evaluation.metrics import decision_metrics
    >>> clips = pd.DataFrame(
    ...     {"machine": "fan", "section": 0, "domain": None, "label": ["normal"] * 2 + ["anomaly"] * 2},
    ...     index=list("abcd"),
    ... )
    >>> decisions = pd.Series([1, 1, 1, 1], index=list("abcd"))
    >>> decision_metrics(clips, decisions).loc[("fan", 0)].round(2).to_dict()
    {'precision': 0.5, 'recall': 1.0, 'f1': 0.67, 'f1_always': 0.67}
    """
    table = joined(clips, decisions, kind="decision")
    if bad := list(table.index[~table["value"].isin((0, 1))]):
        raise ValueError(f"{len(bad)} decisions are neither 0 nor 1, the first of {bad[0]!r}")
    return _by_section(table, _decision_metrics)


def omega(table: pd.DataFrame) -> float:
    """The challenge's official score: the harmonic mean of all three metrics of all machines and sections.

    Without domains (2020) it is the harmonic mean of AUC and pAUC. That is our definition; do not compare it with a
    published number.

    Parameters
    ----------
    table : DataFrame
        What ``evaluate`` returns, or any table with its metric columns, as fractions.

    Raises
    ------
    ValueError
        If a metric column is missing, if a value is not between 0 and 1, or if there is no machine.

    Examples
    --------
    The arithmetic mean of these metrics is 0.7. The harmonic mean is lower, because one metric is only 0.3.

    >>> import pandas as pd
    >>> from nearfar.evaluation.metrics import omega
    >>> table = pd.DataFrame({"auc_source": [0.9, 0.9], "auc_target": [0.8, 0.3], "pauc": [0.7, 0.6]})
    >>> round(omega(table), 3)
    0.606
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
    """Whether each clip of a table is anomalous: (n_clips,)."""
    return np.asarray(table["label"] == "anomaly", dtype=bool)


def scopes(table: pd.DataFrame) -> dict[str, Bool]:
    """The clips of each domain: (n_clips,) arrays of bool, by the suffix of the domain's metrics.

    If no domain is disclosed there is one entry, for all clips, without a suffix.
    """
    if table["domain"].isna().all():
        return {"": np.ones(len(table), dtype=bool)}
    return {f"_{d}": np.asarray(table["domain"] == d, dtype=bool) for d in DOMAINS}


def _by_section(table: pd.DataFrame, measure: Callable[[pd.DataFrame], Mapping[str, float]]) -> pd.DataFrame:
    rows = {group: measure(t) for group, t in table.groupby(["machine", "section"])}
    index = pd.MultiIndex.from_tuples(list(rows), names=["machine", "section"])
    return pd.DataFrame(list(rows.values()), index=index)


def joined(clips: pd.DataFrame, values: pd.Series, *, kind: str) -> pd.DataFrame:
    """The table of clips with their values in a column ``value``, after all checks that the metrics rely on."""
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
    """Raise unless every clip has a machine, a section and a label, and all clips or none have a domain."""
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
    """Raise if a machine has no anomalies, or no normal clips in a domain; the message names all of them."""
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
    """The first few keys, and the number of the others."""
    every = list(keys)
    more = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return ", ".join(map(repr, every[:NAMED])) + more
