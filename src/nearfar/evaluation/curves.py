"""ROC curves of one machine, of the clips that the official metrics compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearfar.evaluation.metrics import DOMAINS, auc, partial_roc, pauc, roc

ALL = "all"  # name of the curve of all clips

Float = NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A ROC curve and its areas.

    Attributes
    ----------
    name : str
        ``"source"``, ``"target"`` or ``"all"``: whose normal clips it compares with the anomalies of all domains.
    false_alarms, hits : (n_points,) arrays
        False-positive and true-positive rates, from (0, 0) to (1, 1).
    normals, anomalies : int
        How many clips it compares.
    auc, pauc : float
        Areas as of ``metrics.auc`` and ``metrics.pauc``. The official AUCs are those of the domains, the official
        pAUC is that of all clips.
    """

    name: str
    false_alarms: Float
    hits: Float
    normals: int
    anomalies: int
    auc: float
    pauc: float

    @property
    def partial(self) -> tuple[Float, Float]:
        """The part that pAUC counts: false-positive and true-positive rates, (k,) each."""
        return partial_roc(self.false_alarms, self.hits)


def curves(
    anomalous: ArrayLike, score: ArrayLike, domain: Sequence[str | None] | None = None
) -> tuple[Curve, ...]:
    """The curves behind the official metrics of one machine.

    Parameters
    ----------
    anomalous : (n_clips,) array of bool
    score : (n_clips,) array
        Higher for a more anomalous clip.
    domain : (n_clips,) sequence of {"source", "target"}, or None
        ``None``, or none known at all: there is no curve of a domain.

    Returns
    -------
    tuple of Curve
        Of each domain, then of all clips. A domain without normal clips has none.

    Raises
    ------
    ValueError
        If shapes differ, ``anomalous`` is not of bool, a score is not finite, all clips are of one class, or only
        some domains are known.

    Examples
    --------
    The normal clip of the target domain scores higher than one of the anomalies.

    >>> from nearfar.evaluation.curves import curves
    >>> found = curves([False, False, True, True], [1.0, 3.0, 2.0, 4.0], ["source", "target", "source", "target"])
    >>> {curve.name: curve.auc for curve in found}
    {'source': 1.0, 'target': 0.5, 'all': 0.75}
    """
    is_anomaly, scores = np.asarray(anomalous), np.asarray(score, dtype=float)
    if is_anomaly.dtype != bool:
        raise ValueError(
            f"anomalous: an array of {is_anomaly.dtype}; must be of bool, as label == 'anomaly' is"
        )
    whole = _curve(ALL, is_anomaly, scores)
    of_clip = (
        [None] * len(scores) if domain is None else [name if name in DOMAINS else None for name in domain]
    )
    if len(of_clip) != len(scores):
        raise ValueError(f"domain: {len(of_clip)} names for {len(scores)} clips; there must be one for each")
    known = [name is not None for name in of_clip]
    if not any(known):
        return (whole,)
    if not all(known):
        raise ValueError(
            f"domain: {known.count(False)} of {len(known)} are neither source nor target; name all, or none"
        )
    names = np.array(of_clip)
    inside = {name: is_anomaly | (names == name) for name in DOMAINS}
    of_domains = [_curve(n, is_anomaly[i], scores[i]) for n, i in inside.items() if not is_anomaly[i].all()]
    return (*of_domains, whole)


def _curve(name: str, anomalous: NDArray[np.bool_], score: Float) -> Curve:
    false_alarms, hits = roc(anomalous, score)
    anomalies = int(anomalous.sum())
    return Curve(
        name,
        false_alarms,
        hits,
        len(score) - anomalies,
        anomalies,
        auc(anomalous, score),
        pauc(anomalous, score),
    )
