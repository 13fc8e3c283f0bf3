"""Decisions from normal scores alone.

A threshold is learnt from the anomaly scores of normal *clips* that the fit has not seen: a clip that took part
in the fit scores too low, and a threshold from such scores alarms too often. The user asks for a false-alarm
rate: the share of normal clips, of the kind that the scores came from, that may be flagged.

References
----------
.. [1] V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World, 2005 (conformal p-values).
.. [2] R. F. Barber et al., "Predictive inference with the jackknife+," Annals of Statistics 49, 2021
   (scores by cross-validation).
.. [3] T. Nishida et al., arXiv:2606.01578 (the gamma quantile of the DCASE baseline).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

ROUNDING = 1e-12  # relative, of a rate such as 1/20 that binary numbers cannot hold

Scores = NDArray[np.float64]
Indices = NDArray[np.intp]


class ThresholdConfig(BaseModel):
    """How a detector gets its threshold.

    Attributes
    ----------
    method : {"conformal", "gamma", "none"}
        ``"conformal"``: from the ranks of the normal scores, without an assumption on their distribution;
        ``"gamma"``: the quantile of a gamma distribution fitted to them, as the official baseline does (with
        ``false_alarm_rate = 0.1``; the official code fits it to batch losses of training clips, which is not
        repeated here); ``"none"``: no decisions.
    false_alarm_rate : float
    calibration : {"cross_fit", "held_out"}
        Where the unseen scores come from. ``"cross_fit"``: each of ``folds`` parts is scored by a fit on the
        others, so every clip counts; ``"held_out"``: only the first part is, for systems that are costly to
        fit. The detector itself is fitted on all clips in both cases.
    folds : int
        As many as there are clips, at most, which is leave-one-out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["conformal", "gamma", "none"] = "conformal"
    false_alarm_rate: Annotated[float, Field(gt=0, lt=1)] = 0.05
    calibration: Literal["cross_fit", "held_out"] = "cross_fit"
    folds: Annotated[int, Field(ge=2)] = 10


def folds(
    domain: NDArray[np.str_], config: ThresholdConfig, *, seed: int
) -> Iterator[tuple[Indices, Indices]]:
    """Pairs (clips to fit on, clips to score), the domains spread evenly over the parts.

    Parameters
    ----------
    domain : (n_clips,) array of str
    config : ThresholdConfig
    seed : int
        Of the order in which clips are dealt out.
    """
    rng = np.random.default_rng(seed)
    n_folds = min(config.folds, len(domain))
    part = np.empty(len(domain), dtype=int)
    dealt = 0
    for d in np.unique(domain):
        members = rng.permutation(np.flatnonzero(domain == d))
        part[members] = (dealt + np.arange(len(members))) % n_folds
        dealt += len(members)
    for k in range(1 if config.calibration == "held_out" else n_folds):
        yield np.flatnonzero(part != k), np.flatnonzero(part == k)


class Threshold(Protocol):
    """What turns scores into p-values and decisions.

    Attributes
    ----------
    normal_scores : (n,) array
        What it was learnt from, ascending.
    false_alarm_rate : float
        What was asked for.
    floor : float
        The smallest p-value that can come out.
    value : float
        A score above it is an anomaly.
    """

    normal_scores: Scores
    false_alarm_rate: float
    floor: float
    value: float

    @classmethod
    def fit(cls, normal_scores: Scores, *, false_alarm_rate: float) -> Self: ...
    def p_value(self, score: Scores) -> Scores: ...


def is_anomaly(threshold: Threshold, score: Scores) -> NDArray[np.bool_]:
    """Whether each score is above the threshold."""
    return np.asarray(score) > threshold.value


def refuse_unattainable(config: ThresholdConfig, n_unseen: int) -> None:
    """Raise, before long work, if the scores of so few unseen normal clips cannot attain the false-alarm rate.

    Parameters
    ----------
    config : ThresholdConfig
    n_unseen : int

    Raises
    ------
    ValueError
        With the number of normal clips that it takes, those that are fitted on included.
    """
    rate = config.false_alarm_rate
    if config.method != "conformal" or rate * (n_unseen + 1) * (1 + ROUNDING) >= 1:
        return
    needed = math.ceil((1 - ROUNDING) / rate) - 1
    if config.calibration == "held_out":
        needed *= config.folds
    raise ValueError(
        f"false_alarm_rate={rate}: the scores of {n_unseen} unseen normal clips attain no rate below "
        f"1/{n_unseen + 1} = {1 / (n_unseen + 1):.3g}; ask for that or more, fit to {needed} normal clips or more, "
        "or fit with threshold.method='gamma', which assumes a distribution"
    )


class Conformal:
    """Ranks among the normal scores: ``p = (1 + normals that score as high) / (n + 1)``.

    If the scored clip is normal and exchangeable with the n others, p is at most the false-alarm rate with at
    most that probability, whatever the distribution. That is exact for scores by one fit that saw neither; a
    detector is fitted again to all clips, and then it holds approximately. No p-value is below ``1 / (n + 1)``.
    """

    def __init__(self, normal_scores: Scores, false_alarm_rate: float) -> None:
        self.normal_scores = np.sort(normal_scores)
        self.false_alarm_rate = false_alarm_rate
        n = len(normal_scores)
        self.floor = 1 / (n + 1)
        exceeding = (
            math.floor(false_alarm_rate * (n + 1) * (1 + ROUNDING)) - 1
        )  # normals that may score as high
        self.value = float(self.normal_scores[n - 1 - min(max(0, exceeding), n - 1)])

    @classmethod
    def fit(cls, normal_scores: Scores, *, false_alarm_rate: float) -> Self:
        """Learn from the scores of normal clips, (n,).

        Raises
        ------
        ValueError
            If so few clips cannot attain the false-alarm rate.
        """
        config = ThresholdConfig(method="conformal", false_alarm_rate=false_alarm_rate)
        refuse_unattainable(config, len(_require_finite(normal_scores)))
        return cls(normal_scores, false_alarm_rate)

    def p_value(self, score: Scores) -> Scores:
        """(n_scores,) in [floor, 1]."""
        n = len(self.normal_scores)
        as_high = n - np.searchsorted(self.normal_scores, score, side="left")
        return (1 + as_high) / (n + 1)


class Gamma:
    """A quantile of the gamma distribution (shape, location, scale) that fits the normal scores best."""

    def __init__(self, normal_scores: Scores, false_alarm_rate: float) -> None:
        from scipy import stats  # here, because it takes half a second to load

        self.normal_scores = np.sort(normal_scores)
        self.false_alarm_rate = false_alarm_rate
        self.floor = 0.0
        self._distribution = stats.gamma(*stats.gamma.fit(self.normal_scores))
        self.value = float(self._distribution.isf(false_alarm_rate))

    @classmethod
    def fit(cls, normal_scores: Scores, *, false_alarm_rate: float) -> Self:
        """Learn from the scores of normal clips, (n,).

        Raises
        ------
        ValueError
            If there are fewer than three, or they do not differ.
        """
        if len(_require_finite(normal_scores)) < 3 or np.ptp(normal_scores) == 0:
            raise ValueError(
                f"{len(normal_scores)} equal or too few normal scores: a gamma needs 3 that differ"
            )
        return cls(normal_scores, false_alarm_rate)

    def p_value(self, score: Scores) -> Scores:
        """(n_scores,) in [0, 1]."""
        return np.asarray(self._distribution.sf(score))


THRESHOLDS: dict[str, type[Any]] = {"conformal": Conformal, "gamma": Gamma}


def _require_finite(normal_scores: Scores) -> Scores:
    if len(normal_scores) == 0:
        raise ValueError("no normal scores: a threshold needs normal clips that the fit has not seen")
    if not np.isfinite(normal_scores).all():
        raise ValueError(
            f"{(~np.isfinite(normal_scores)).sum()} of {len(normal_scores)} normal scores are not finite"
        )
    return normal_scores
