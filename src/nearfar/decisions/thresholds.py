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
.. [4] R. C. H. Cheng, T. C. Iles, "Corrected maximum likelihood in non-regular problems," Journal of the Royal
   Statistical Society B 49, 1987 (the likelihood has no bound where a location meets the lowest score).
"""

from __future__ import annotations

import logging
import math
from typing import Annotated, Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

ROUNDING = 1e-12  # relative, of a rate such as 1/20 that binary numbers cannot hold
AGREES_WITHIN = 0.5  # of the asked share: how far a fit may be from its own sample; our choice
FEWER, MORE = (
    1,
    2,
)  # scores beside that, because few are a matter of chance: of 60, 1 % is 0 to 2 of them; our choice
ALSO_AGREES_AT = (0.25, 0.5)  # upper shares that a fit must also give, so that it cannot lie far above all
LOCATIONS = 200  # tried for the likelihood of a gamma, from range / n to 1e4 ranges below the lowest score
NEWTON_STEPS = 10  # for the shape of a gamma; Minka's start is good to 1.5 %, and each step squares the error

logger = logging.getLogger(__name__)

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
    folds_by : {"group_if_known", "group", "attributes", "far", "random"}
        Which clips are never split between a fit and the clips that it scores (``decisions.folds``). ``"group"``:
        those of one group, such as a day or a long recording; ``"group_if_known"``: the same where a domain has two
        groups, else none; ``"attributes"``: those of one combination of attributes; ``"far"``: those in which the
        far microphone hears alike; ``"random"``: none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["conformal", "gamma", "none"] = "conformal"
    false_alarm_rate: Annotated[float, Field(gt=0, lt=1)] = 0.05
    calibration: Literal["cross_fit", "held_out"] = "cross_fit"
    folds: Annotated[int, Field(ge=2)] = 10
    folds_by: Literal["group_if_known", "group", "attributes", "far", "random"] = "group_if_known"


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
    """Whether each score is above the threshold.

    Raises
    ------
    ValueError
        If a score is not a number. It is neither normal nor an anomaly.
    """
    return _require_numbers(score) > threshold.value


def smallest_rate(n_scores: int) -> str:
    """The smallest false-alarm rate that so many scores attain, in words; its decimals can be asked for.

    Examples
    --------
    >>> from nearfar.decisions.thresholds import smallest_rate
    >>> smallest_rate(9), smallest_rate(12)
    ('1/10 = 0.1', '1/13 (about 0.077)')
    """
    n = n_scores + 1
    digits = 2 + math.ceil(math.log10(n))
    up = math.ceil(10**digits / n * (1 - ROUNDING)) / 10**digits  # rounded down, it would be refused
    return f"1/{n} = {up:g}" if abs(up * n - 1) < ROUNDING else f"1/{n} (about {up:g})"


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
        f"{smallest_rate(n_unseen)}; ask for that or more, fit to {needed} normal clips or more, "
        "or fit with threshold.method='gamma', which assumes a distribution"
    )


def conformal_p_values(normal_scores: Scores, score: Scores) -> Scores:
    """``(1 + normals that score as high) / (n + 1)`` of each score: (n_scores,).

    Parameters
    ----------
    normal_scores : (n,) array
        Ascending.
    score : (n_scores,) array

    Raises
    ------
    ValueError
        If a score is not a number.
    """
    n = len(normal_scores)
    as_high = n - np.searchsorted(normal_scores, _require_numbers(score), side="left")
    return (1 + as_high) / (n + 1)


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
        # normals that may score as high
        exceeding = math.floor(false_alarm_rate * (n + 1) * (1 + ROUNDING)) - 1
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
        """(n_scores,) in [floor, 1]; a ``ValueError`` for a score that is not a number."""
        return conformal_p_values(self.normal_scores, score)


class Gamma:
    """A quantile of a gamma distribution (shape, location, scale) that was fitted to the normal scores.

    A fit can end in a bad optimum, and some scores are far from any gamma distribution. So a fit counts only if it
    agrees with its own sample: about the asked share of the normal scores must lie above the threshold (from half
    of it, less one score, to half as many again, and two more). The same holds at the median and the upper
    quartile. The first of these that agrees is taken:

    1. scipy's fit (``scipy.stats.gamma.fit``), as the official baseline uses it;
    2. the largest likelihood over many locations below the lowest score, with the best shape and scale for each.
       The location stays a little below that score, because the likelihood has no bound there (reference 4 above);
    3. no distribution at all, but the ranks of the scores, as ``Conformal`` takes them. ``fit`` logs a warning.

    Attributes
    ----------
    fitted_by : {"scipy", "likelihood", "ranks"}
        Which of them it is. p-values come from the same one.
    """

    def __init__(self, normal_scores: Scores, false_alarm_rate: float) -> None:
        from scipy import stats  # here, because it takes half a second to load

        self.normal_scores = np.sort(normal_scores)
        self.false_alarm_rate = false_alarm_rate
        self.floor = 0.0
        for self.fitted_by, fitted in (("scipy", _scipys_gamma), ("likelihood", _likeliest_gamma)):
            self._distribution: Any = stats.gamma(*fitted(self.normal_scores))
            if self._agrees():
                self.value = float(self._distribution.isf(false_alarm_rate))
                return
        self._take_ranks()

    @classmethod
    def fit(cls, normal_scores: Scores, *, false_alarm_rate: float) -> Self:
        """Learn from the scores of normal clips, (n,).

        Raises
        ------
        ValueError
            If there are fewer than three, or they do not differ; or if no gamma distribution agrees with them and
            they are too few for their ranks.
        """
        if len(_require_finite(normal_scores)) < 3 or np.min(normal_scores) == np.max(normal_scores):
            raise ValueError(
                f"{len(normal_scores)} equal or too few normal scores: a gamma needs 3 that differ"
            )
        threshold = cls(normal_scores, false_alarm_rate)
        if threshold.fitted_by == "ranks":
            logger.warning(
                "no gamma distribution agrees with the %d normal scores at false_alarm_rate=%g, so the threshold "
                "comes from their ranks; use threshold.method='conformal', which needs no distribution",
                len(normal_scores), false_alarm_rate,
            )  # fmt: skip
        return threshold

    def p_value(self, score: Scores) -> Scores:
        """(n_scores,) in [0, 1]; a ``ValueError`` for a score that is not a number."""
        if isinstance(self._distribution, Conformal):
            return self._distribution.p_value(score)
        return np.asarray(self._distribution.sf(_require_numbers(score)))

    def _agrees(self) -> bool:
        """Whether the distribution gives the normal scores about the shares that lie above its quantiles."""
        shares = np.array([self.false_alarm_rate, *ALSO_AGREES_AT])
        quantiles = self._distribution.isf(shares)
        if not np.isfinite(quantiles).all():
            return False
        n = len(self.normal_scores)
        above = n - np.searchsorted(self.normal_scores, quantiles, side="right")
        difference = above - shares * n
        allowed = AGREES_WITHIN * n * np.minimum(shares, 1 - shares)  # so that 0.95 is as strict as 0.05
        return bool(((-allowed - FEWER <= difference) & (difference <= allowed + MORE)).all())

    def _take_ranks(self) -> None:
        n, rate = len(self.normal_scores), self.false_alarm_rate
        try:
            refuse_unattainable(ThresholdConfig(false_alarm_rate=rate), n)
        except ValueError as error:
            raise ValueError(
                f"no gamma distribution agrees with the {n} normal scores, and their ranks do not do instead: "
                f"{str(error).partition(', or fit with')[0]}"
            ) from error
        self.fitted_by = "ranks"
        self._distribution = Conformal(self.normal_scores, rate)
        self.floor, self.value = self._distribution.floor, self._distribution.value


def _scipys_gamma(scores: Scores) -> tuple[float, ...]:
    """Shape, location and scale by scipy; NaN if it gives up."""
    from scipy import stats

    try:
        with np.errstate(all="ignore"):
            return tuple(stats.gamma.fit(scores))
    except (ValueError, RuntimeError):  # that it does not converge, or left the range of its parameters
        return (math.nan,) * 3


def _likeliest_gamma(scores: Scores) -> tuple[float, ...]:
    """Shape, location and scale of the largest likelihood over ``LOCATIONS`` locations; the scores ascend.

    For a location, the likelihood has one maximum: the scale is the mean divided by the shape, and the shape solves
    ``log(shape) - digamma(shape) = log(mean) - mean(log)`` of the distances from the location.
    """
    from scipy.special import digamma, gammaln, polygamma

    n = len(scores)
    with np.errstate(all="ignore"):
        span = scores[-1] - scores[0]
        below = np.geomspace(1 / n, 1e4, LOCATIONS)  # in spans, as all that follows
        distances = (scores - scores[0]) / span + below[:, None]
        mean, mean_log = distances.mean(axis=1), np.log(distances).mean(axis=1)
        s = np.log(mean) - mean_log
        shape = (3 - s + np.sqrt((s - 3) ** 2 + 24 * s)) / (12 * s)  # Minka's approximation
        for _ in range(NEWTON_STEPS):
            step = np.log(shape) - digamma(shape) - s
            shape = 1 / (1 / shape + step / (shape**2 * (1 / shape - polygamma(1, shape))))
        likelihood = (shape - 1) * mean_log - shape - shape * np.log(mean / shape) - gammaln(shape)
    if not np.isfinite(likelihood).any():
        return (math.nan,) * 3
    best = np.nanargmax(np.where(np.isfinite(likelihood), likelihood, -np.inf))
    scale = mean[best] / shape[best] * span
    return float(shape[best]), float(scores[0] - below[best] * span), float(scale)


THRESHOLDS: dict[str, type[Any]] = {"conformal": Conformal, "gamma": Gamma}


def _require_finite(normal_scores: Scores) -> Scores:
    if len(normal_scores) == 0:
        raise ValueError("no normal scores: a threshold needs normal clips that the fit has not seen")
    if not np.isfinite(normal_scores).all():
        raise ValueError(
            f"{(~np.isfinite(normal_scores)).sum()} of {len(normal_scores)} normal scores are not finite"
        )
    return normal_scores


def _require_numbers(score: Scores) -> Scores:
    scores = np.asarray(score, dtype=np.float64)
    if np.isnan(scores).any():
        raise ValueError(
            f"{np.isnan(scores).sum()} of {scores.size} scores are NaN: not a number is neither normal nor an "
            "anomaly, and has no p-value; find out which recording or back end it is from"
        )
    return scores
