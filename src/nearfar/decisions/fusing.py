r"""Scores of several branches become one, by normal scores alone.

A branch's score is put on a scale that its scores of *normal* clips give; then the branches are added, weighted:

.. math:: A(z) = \sum_b w_b\, g_b(A_b(z)), \qquad w_b \ge 0, \quad \sum_b w_b = 1

(equation 4 of [1]_). The normal scores are of training clips, each by a fit that left it out. So the fused score of
a clip depends on no other new clip, and on no label.

References
----------
.. [1] J. Lei, "Task-adapted dual-microphone representations with domain-conditioned local-density fusion,"
   DCASE 2026 Challenge technical report, section 2.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

CALIBRATIONS = ("own_normals", "own_normals_log", "reference_rank")

NormalCalibration = Literal["own_normals", "own_normals_log", "reference_rank"]
Float = NDArray[np.float64]

LEAST_RATIO = 1e-6  # of a score to a median: a clip at distance 0 has no logarithm. Our choice


@dataclass(frozen=True)
class Scale:
    """Median and interquartile range of each branch: mappings from its name."""

    median: Mapping[str, float]
    iqr: Mapping[str, float]

    @classmethod
    def of(cls, scores: Float, branches: Sequence[str], where: str) -> Self:
        """Measure scores, (n_clips, n_branches); ``where`` says whose, in an error.

        Raises
        ------
        ValueError
            If half of a branch's scores are one number: its interquartile range is 0.
        """
        q1, median, q3 = np.quantile(scores, (0.25, 0.5, 0.75), axis=0)
        for branch, spread in zip(branches, q3 - q1, strict=True):
            if spread == 0:
                raise ValueError(
                    f"branch {branch!r}: iqr=0 over {len(scores)} scores of {where}; it must be above 0: most of "
                    "these scores are one number, so there is nothing to calibrate"
                )
        return cls(
            dict(zip(branches, median.tolist(), strict=True)),
            dict(zip(branches, (q3 - q1).tolist(), strict=True)),
        )

    def sigmoid(self, scores: Float, branches: Sequence[str]) -> Float:
        """The robust sigmoid :math:`1 / (1 + e^{-(x - m) / r})` of each score, in [0, 1].

        Scores are (n_clips, n_branches), in the order of ``branches``. Beyond some 37 ranges above the median the
        sigmoid is 1 to the last bit, and clips can no longer be told apart.
        """
        median, iqr = (np.array([of[b] for b in branches]) for of in (self.median, self.iqr))
        with np.errstate(over="ignore"):  # a quotient may be infinite, its sigmoid is not
            return expit((scores - median) / iqr)


def fuse(
    scores: Float,
    normals: Float,
    *,
    weights: Mapping[str, float],
    calibration: NormalCalibration,
    whose: str = "the normal clips",
) -> Float:
    """The fused score of each clip, (n_clips,).

    Parameters
    ----------
    scores : (n_clips, n_branches) array
        Finite, higher for a more anomalous clip.
    normals : (n_normals, n_branches) array
        Scores of normal clips by fits that had not seen them.
    weights : mapping from branch to float
        In the order of the columns; not negative, of sum 1.
    calibration : str
        Of ``CALIBRATIONS``: see ``calibrate``.
    whose : str
        Whose the normal scores are, in an error.

    Raises
    ------
    ValueError
        If a branch's normal scores have no spread, or no logarithm.

    Examples
    --------
    The second branch has larger numbers, and counts as much as the first.

    >>> import numpy as np
    >>> from nearfar.decisions.fusing import fuse
    >>> normals = np.array([[1.0, 100.0], [2.0, 200.0], [3.0, 300.0]])
    >>> fuse(np.array([[4.0, 200.0], [2.0, 400.0]]), normals, weights={"a": 0.5, "b": 0.5},
    ...      calibration="reference_rank")
    array([0.75, 0.75])
    """
    calibrated = calibrate(scores, normals, branches=list(weights), calibration=calibration, whose=whose)
    return combine(calibrated, np.array([list(weights.values())]))[0]


def fuse_left_out(
    normals: Float,
    *,
    weights: Mapping[str, float],
    calibration: NormalCalibration,
    whose: str = "the normal clips",
) -> Float:
    """The fused score of each normal clip, (n_normals,), on a scale that the *other* normal clips give.

    So a clip has no part in its own scale, as a new clip has none. Arguments and errors are as of ``fuse``.
    """
    everyone = np.arange(len(normals))
    return np.array(
        [
            fuse(
                normals[i : i + 1],
                normals[everyone != i],
                weights=weights,
                calibration=calibration,
                whose=whose,
            )[0]
            for i in everyone
        ]
    )


def calibrate(
    scores: Float,
    normals: Float,
    *,
    branches: Sequence[str],
    calibration: NormalCalibration,
    whose: str = "the normal clips",
) -> Float:
    """Branches on one scale, (n_clips, n_branches).

    ``"own_normals"`` is the robust sigmoid, with median and interquartile range of the normal scores;
    ``"own_normals_log"`` the logarithm of the score over the median of the normal scores, so that the fused score
    is the logarithm of a weighted geometric mean, without an upper bound; ``"reference_rank"`` the share of normal
    scores that are lower, plus half of those that are the same. Arguments and errors are as of ``fuse``.
    """
    if calibration == "own_normals":
        return Scale.of(normals, branches, whose).sigmoid(scores, branches)
    if calibration == "own_normals_log":
        return _log_ratios(scores, _medians(normals, branches, whose))
    return _ranks(scores, normals)


def combine(calibrated: Float, weights: Float) -> Float:
    """(n_clips, n_branches) and (n_weights, n_branches) to (n_weights, n_clips).

    Branch by branch, not as a product of matrices: there the rounding of a clip's score depends on its place
    among the others, and clips with equal scores would no longer be equal.
    """
    fused = np.zeros((len(weights), len(calibrated)))
    for b in range(calibrated.shape[1]):
        fused += weights[:, b, None] * calibrated[:, b]
    return fused


def take_weights(
    weights: Literal["equal"] | Mapping[str, float], branches: Sequence[str]
) -> dict[str, float]:
    """Weights in the order of the branches.

    Raises
    ------
    ValueError
        If they are not of these branches.
    """
    if isinstance(weights, str):
        if weights != "equal":
            raise ValueError(f"weights={weights!r}: must be 'equal', a weight for each branch, or Search")
        return dict.fromkeys(branches, 1 / len(branches))
    if set(weights) != set(branches):
        raise ValueError(f"weights of {', '.join(weights)}, but the branches are {', '.join(branches)}")
    return {b: float(weights[b]) for b in branches}


def require_weights(weights: Mapping[str, float]) -> None:
    """Raise if a weight is negative, or the sum is not 1.

    Raises
    ------
    ValueError
    """
    for branch, weight in weights.items():
        if not weight >= 0:
            raise ValueError(f"weights[{branch!r}]={weight}: must not be negative")
    if abs((total := sum(weights.values())) - 1) > 1e-9:
        raise ValueError(f"the weights have the sum {total:.6g}; it must be 1")


def _medians(normals: Float, branches: Sequence[str], whose: str) -> Float:
    """The median of each branch, (n_branches,), of scores that all have a logarithm."""
    for branch, lowest in zip(branches, normals.min(axis=0).tolist(), strict=True):
        if not lowest > 0:
            raise ValueError(
                f"branch {branch!r}: a score of {lowest:.4g} among those of {whose}; "
                "calibration='own_normals_log' takes logarithms, so scores must be above 0: take a back end that "
                "gives a distance or a ratio, or calibration='own_normals'"
            )
    return np.asarray(np.median(normals, axis=0))


def _log_ratios(scores: Float, medians: Float) -> Float:
    return np.asarray(np.log(np.maximum(scores / medians, LEAST_RATIO)))


def _ranks(scores: Float, normals: Float) -> Float:
    """The share of normal scores that are lower, plus half of those that are the same, for each column."""
    found = np.empty(scores.shape)
    for b, reference in enumerate(np.sort(normals, axis=0).T):
        lower, not_higher = (np.searchsorted(reference, scores[:, b], side) for side in ("left", "right"))
        found[:, b] = (lower + not_higher) / (2 * len(reference))
    return found
