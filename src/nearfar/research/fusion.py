r"""Score fusion: branches on one scale, weighted.

Scores travel as a DataFrame: indexed by key, one float column a branch, finite, higher for a more anomalous
clip. With :math:`A_b(z)` the score of clip z by branch b, the fused score is

.. math:: A(z) = \sum_b w_b\, g_b(A_b(z)), \qquad w_b \ge 0, \quad \sum_b w_b = 1

(equation 4 of [1]_). The calibration :math:`g_b` is a robust sigmoid, :math:`1 / (1 + e^{-(x - m_b) / r_b})`
with median m and interquartile range r, a logarithm, or a rank among normal scores (``decisions.fusing``). No
statistic is of the scores that are fused, unless these are the selection fold itself: a clip's fused score does not
depend on other test clips.

References
----------
.. [1] J. Lei, "Task-adapted dual-microphone representations with domain-conditioned local-density fusion,"
   DCASE 2026 Challenge technical report, section 2.4.
.. [2] R. Caruana, A. Niculescu-Mizil, G. Crew, A. Ksikes, "Ensemble selection from libraries of models," ICML 2004.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import comb
from typing import Any, Literal, Self, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nearfar.decisions import fusing
from nearfar.decisions.fusing import NormalCalibration, Scale, combine, require_weights, take_weights
from nearfar.evaluation import metrics
from nearfar.evaluation.protocols import (
    NESTED,
    Choice,
    Finding,
    Fold,
    Protocol,
    Selection,
    leave_one_branch_out,
    scope_of,
)
from nearfar.evaluation.ranking import all_metrics, harmonic_means, sections

STEP = 0.1  # of the weight grid; a finer one, 0.05, does worse on held-out machines: reference 1, section 4
TIE = 1e-12  # Omegas that differ by less are equal but for rounding
ROWS = 128  # weights that are tried at once: bounds the memory
MOST_WEIGHTS = 100_000  # of a grid: about a quarter of a minute on one core for 1,400 clips, in each fold
CALIBRATIONS = ("selection_fold", *fusing.CALIBRATIONS)

Calibration = Literal["selection_fold", "own_normals", "own_normals_log", "reference_rank"]
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Search:
    """Weights to be searched by Omega.

    Attributes
    ----------
    step : float
        Of the weights; it divides 1.
    method : {"grid", "greedy"}
        ``"grid"``: all multiples of ``step`` with sum 1, of which there are at most ``MOST_WEIGHTS``. ``"greedy"``:
        forward selection, for many branches (reference 2 of the module). A branch is added in each of 1 / ``step``
        rounds, the one with which the mean of all that were added is best; a branch may be added again. Of these
        means the best is taken. It is never below the best single branch of the selection machines. The weights
        are multiples of 1 / r after r rounds.

    Raises
    ------
    ValueError
        If there is no such method.
    """

    step: float = STEP
    method: Literal["grid", "greedy"] = "grid"

    def __post_init__(self) -> None:
        if self.method not in ("grid", "greedy"):
            raise ValueError(f"method={self.method!r}: must be 'grid' or 'greedy'")


Weights = Literal["equal"] | Mapping[str, float] | Search


@dataclass(frozen=True)
class Fusion:
    """Branches on one scale, weighted: made by ``fit``, or from what ``describe`` told.

    Attributes
    ----------
    weights : mapping from branch to float
        In the order of the branches; not negative, of sum 1.
    calibration : str
        Of ``CALIBRATIONS``.
    scale : Scale or None
        Of the selection fold; None where every machine has its own.
    omega : float or None
        That the weights have on the selection fold, if they were searched there.

    Raises
    ------
    ValueError
        If the weights are no weights, or calibration and scale do not fit together.
    """

    weights: Mapping[str, float]
    calibration: Calibration
    scale: Scale | None = None
    omega: float | None = None

    def __post_init__(self) -> None:
        require_weights(self.weights)
        _require_calibration(self.calibration)
        if (self.scale is not None) != (self.calibration == "selection_fold"):
            raise ValueError(
                f"calibration={self.calibration!r}, scale={self.scale}: a scale belongs to 'selection_fold', "
                "and to no other"
            )

    @classmethod
    def fit(
        cls,
        scores: pd.DataFrame,
        clips: pd.DataFrame | None = None,
        *,
        weights: Weights = "equal",
        calibration: Calibration = "selection_fold",
        references: pd.DataFrame | None = None,
    ) -> Self:
        """Fit calibration and weights to a selection fold.

        Parameters
        ----------
        scores : DataFrame
            Of the fold's test clips, all machines together.
        clips : DataFrame, optional
            Machine, section, domain and label of these, as ``metrics.evaluate`` takes it: for ``Search`` alone.
        weights : "equal", mapping from branch to float, or Search
            ``Search`` takes those of the best Omega on this fold. Of equally good ones of a grid it takes the
            nearest to equal weights, and of equally near ones the first in lexicographic order, smaller first
            weights before larger. The greedy search takes the first of equally good branches, and of equally good
            means the one of fewest rounds.
        calibration : str
            ``"selection_fold"``: robust sigmoid with the fold's median and interquartile range, all machines
            pooled. The others are by each machine's ``references``: ``fusing.calibrate``.
        references : DataFrame, optional
            Scores of each machine's normal training clips by a fit that left the clip out; both domains
            together. Needs no labels.

        Raises
        ------
        ValueError
            If a table is not as it must be, references are missing, or a branch has no spread.
        """
        _require_scores(scores, "scores")
        _require_calibration(calibration)
        scale = None
        if calibration == "selection_fold":
            scale = Scale.of(scores.to_numpy(float), list(scores.columns), "the selection fold")
        if not isinstance(weights, Search):
            given = take_weights(weights, list(scores.columns))
            return cls(given, calibration, scale)
        if clips is None:
            raise ValueError(f"weights={weights}: a search needs clips, with labels; give them, or weights")
        _require_same_clips(scores, clips)
        calibrated = _calibrate(scores, calibration, scale, references)
        best, omega = _search(calibrated, clips.loc[scores.index], weights)
        return cls(dict(zip(scores.columns, best.tolist(), strict=True)), calibration, scale, omega)

    def transform(self, scores: pd.DataFrame, references: pd.DataFrame | None = None) -> pd.Series:
        """The fused score of each clip.

        Parameters
        ----------
        scores : DataFrame
            With every branch that has a weight, in any order of columns.
        references : DataFrame, optional
            As for ``fit``: of the machines that are scored here.

        Raises
        ------
        ValueError
            If a branch or the references of a machine are missing, or a score is not finite.
        """
        if absent := [b for b in self.weights if b not in scores]:
            raise ValueError(
                f"no scores of branch {absent[0]!r}; there are: {', '.join(map(str, scores.columns))}"
            )
        used = scores[list(self.weights)]
        _require_scores(used, "scores")
        calibrated = _calibrate(used, self.calibration, self.scale, references)
        weights = np.array([list(self.weights.values())])
        return pd.Series(combine(calibrated, weights)[0], index=scores.index, name="score")

    def describe(self) -> dict[str, Any]:
        """Everything, JSON-able; ``Fusion.restore`` reads it."""
        return asdict(self)

    @classmethod
    def restore(cls, described: Mapping[str, Any]) -> Self:
        """What ``describe`` told."""
        scale = described["scale"]
        return cls(**{**described, "scale": None if scale is None else Scale(**scale)})


def simplex(branches: Sequence[str], step: float) -> Float:
    """All weights in multiples of ``step`` with sum 1, in lexicographic order: (n_weights, n_branches).

    Raises
    ------
    ValueError
        If the step does not divide 1, or the weights are more than ``MOST_WEIGHTS``.
    """
    parts, n = _parts(step), len(branches)
    if (size := comb(parts + n - 1, n - 1)) > MOST_WEIGHTS:
        raise ValueError(
            f"step={step}: for {n} branches these are {size:,} weights, and at most {MOST_WEIGHTS:,} are "
            'tried; take a larger step, fewer branches, or the greedy search (weights = "greedy" in a study)'
        )
    bars = list(combinations(range(parts + n - 1), n - 1))  # between parts: stars and bars
    edges = np.full((len(bars), n + 1), -1)
    edges[:, 1:-1] = np.array(bars, dtype=int).reshape(len(bars), n - 1)
    edges[:, -1] = parts + n - 1
    return (np.diff(edges, axis=1) - 1) / parts


def _parts(step: float) -> int:
    """How many steps make 1."""
    parts = round(1 / step) if 0 < step <= 1 else 0
    if parts == 0 or abs(parts * step - 1) > 1e-9:
        raise ValueError(f"step={step}: it must divide 1, as 0.1 and 0.05 do")
    return parts


def _rounds(branches: Sequence[Any], step: float) -> int:
    """How many branches the greedy search adds, one after the other."""
    rounds, n = _parts(step), len(branches)
    if (size := rounds * n) > MOST_WEIGHTS:
        raise ValueError(
            f"step={step}: for {n} branches these are {rounds:,} rounds and {size:,} weights, and at most "
            f"{MOST_WEIGHTS:,} are tried; take a larger step"
        )
    return rounds


def crossfit(
    scores: pd.DataFrame,
    clips: pd.DataFrame,
    folds: Iterable[Fold],
    *,
    weights: Weights,
    calibration: Calibration = "selection_fold",
    references: pd.DataFrame | None = None,
) -> tuple[pd.Series, tuple[Selection, ...]]:
    """The fused scores of the reported machines, each by a fusion fitted to its fold's selection machines.

    Parameters
    ----------
    scores, clips : DataFrame
        Of the test clips of all machines; as for ``Fusion.fit``.
    folds : iterable of Fold
    weights, calibration, references
        As for ``Fusion.fit``; references of all machines.

    Returns
    -------
    Series, tuple of Selection
        Fused scores by key, and what each fold chose.
    """
    if isinstance(weights, Search):
        _require_same_clips(scores, clips)
    elif unlike := scores.index.symmetric_difference(clips.index).to_list():
        raise ValueError(f"scores and clips are not of the same: {metrics.named(unlike)}")
    machine = clips["machine"].reindex(scores.index)
    parts, selections = [], []
    for fold in folds:
        known = scores[machine.isin(fold.select)]
        fusion = Fusion.fit(
            known, clips.loc[known.index], weights=weights, calibration=calibration, references=references
        )
        parts.append(fusion.transform(scores[machine.isin(fold.report)], references))
        selections.append(Selection(fold, fusion.describe()))
    return pd.concat(parts), tuple(selections)


def evaluate_fusion(
    scores: pd.DataFrame,
    clips: pd.DataFrame,
    protocol: Protocol,
    *,
    weights: Weights,
    calibration: Calibration = "selection_fold",
    references: pd.DataFrame | None = None,
) -> Finding:
    """``crossfit`` over the protocol's folds, and the metrics of all reported machines together.

    Parameters
    ----------
    scores, clips, weights, calibration, references
        As for ``crossfit``.
    protocol : Protocol
        One that chooses what ``weights`` and ``calibration`` make it choose.

    Raises
    ------
    ValueError
        If the protocol would say something else than what is done, or as ``Fusion.fit``.
    """
    chosen = choices(weights, calibration)
    _require_honest(protocol, chosen)
    folds = protocol.folds(sorted(clips["machine"].unique()))
    fused, selections = crossfit(
        scores, clips, folds, weights=weights, calibration=calibration, references=references
    )
    return Finding(metrics.evaluate(clips, fused), protocol, scope_of(chosen, folds), selections, fused)


def refuse_impossible(
    branches: Sequence[str], protocol: Protocol, *, weights: Weights, calibration: Calibration
) -> None:
    """Raise, before long work, for what ``evaluate_fusion`` would refuse whatever the scores are.

    Parameters
    ----------
    branches : sequence of str
    protocol, weights, calibration
        As for ``evaluate_fusion``.

    Raises
    ------
    ValueError
        If the protocol would say something else than what is done, or the weights are no weights of the branches.
    """
    _require_honest(protocol, choices(weights, calibration))
    if isinstance(weights, Search):
        _ = _rounds(branches, weights.step) if weights.method == "greedy" else simplex(branches, weights.step)
    else:
        require_weights(take_weights(weights, list(branches)))


def evaluate_nested(
    candidates: Mapping[str, pd.DataFrame],
    clips: pd.DataFrame,
    *,
    weights: Weights,
    calibration: Calibration = "selection_fold",
    references: Mapping[str, pd.DataFrame] | None = None,
    protocol: Protocol = NESTED,
) -> Finding:
    """As ``evaluate_fusion``, with one of several score tables chosen in each fold.

    A candidate is what the branches score with one choice of their settings. In each fold the candidate is
    taken whose fusion, cross-fitted over the *inner* folds, has the best Omega; of equally good ones the first.
    So the labels of a reported machine take part in no choice.

    Parameters
    ----------
    candidates : mapping from name to DataFrame
        Each as the scores of ``crossfit``.
    clips, weights, calibration
        As for ``crossfit``.
    references : mapping from name to DataFrame, optional
        Of each candidate.
    protocol : Protocol
        With inner folds.
    """
    chosen = (*choices(weights, calibration), "settings")
    _require_honest(protocol, chosen)
    of_candidate = references or {}
    folds = protocol.folds(sorted(clips["machine"].unique()))

    def crossfitted(name: str, of: Iterable[Fold]) -> tuple[pd.Series, tuple[Selection, ...]]:
        return crossfit(
            candidates[name], clips, of,
            weights=weights, calibration=calibration, references=of_candidate.get(name),
        )  # fmt: skip

    def inner_omega(name: str, fold: Fold) -> float:
        fused, _ = crossfitted(name, fold.inner)
        return metrics.omega(metrics.evaluate(clips.loc[fused.index], fused))

    parts, selections = [], []
    for fold in folds:
        omegas = {name: inner_omega(name, fold) for name in candidates}
        best = next(name for name in candidates if omegas[name] > max(omegas.values()) - TIE)
        fused, (selection,) = crossfitted(best, [fold])
        parts.append(fused)
        chosen_here = {**selection.chosen, "candidate": best, "inner_omegas": omegas}
        selections.append(Selection(fold, chosen_here))
    fused = pd.concat(parts)
    found = metrics.evaluate(clips, fused)
    return Finding(found, protocol, scope_of(chosen, folds), tuple(selections), fused)


def without_each_branch(
    scores: pd.DataFrame, clips: pd.DataFrame, protocol: Protocol, **options: Any
) -> dict[str, Finding]:
    """For each branch, ``evaluate_fusion`` of the others, with calibration and weights of their own.

    Parameters
    ----------
    scores, clips, protocol, **options
        As for ``evaluate_fusion``.
    """
    subsets = leave_one_branch_out(list(scores.columns))
    return {b: evaluate_fusion(scores[list(rest)], clips, protocol, **options) for b, rest in subsets.items()}


def choices(weights: Weights, calibration: Calibration) -> tuple[Choice, ...]:
    """What is selected by the scores or labels of a fold."""
    of_scores: tuple[Choice, ...] = ("calibration",) if calibration == "selection_fold" else ()
    return (*of_scores, "weights") if isinstance(weights, Search) else of_scores


def _require_honest(protocol: Protocol, chosen: tuple[Choice, ...]) -> None:
    if beyond := [c for c in chosen if c not in protocol.chooses]:
        raise ValueError(
            f"protocol={protocol.name!r} chooses {' and '.join(protocol.chooses) or 'nothing'}, but here "
            f"{' and '.join(beyond)} would be chosen, too"
        )
    if "settings" in protocol.chooses and "settings" not in chosen:
        raise ValueError(
            f"protocol={protocol.name!r} chooses the settings of branches, among candidates: give them to "
            "evaluate_nested"
        )


def _search(calibrated: Float, clips: pd.DataFrame, search: Search) -> tuple[Float, float]:
    """The best weights, (n_branches,), and their Omega."""
    of, n = sections(clips), calibrated.shape[1]

    def omegas_of(weights: Float) -> Float:
        chunks = (weights[start : start + ROWS] for start in range(0, len(weights), ROWS))
        return np.concatenate([harmonic_means(all_metrics(of, combine(calibrated, w))) for w in chunks])

    if search.method == "greedy":
        return _select_forward(n, _rounds(range(n), search.step), omegas_of)
    return _best_of(simplex([str(b) for b in range(n)], search.step), omegas_of)


def _select_forward(n: int, rounds: int, omegas_of: Callable[[Float], Float]) -> tuple[Float, float]:
    """Of n branches: one is added in each round, and the best of the means is taken; with its Omega."""
    added, best, best_omega = np.zeros(n), np.zeros(n), -np.inf
    for number in range(1, rounds + 1):
        tried = (added + np.eye(n)) / number
        omegas = omegas_of(tried)
        chosen = int(np.flatnonzero(omegas >= omegas.max() - TIE)[0])
        added[chosen] += 1
        if omegas[chosen] > best_omega + TIE:
            best, best_omega = tried[chosen], float(omegas[chosen])
    return best, best_omega


def _best_of(grid: Float, omegas_of: Callable[[Float], Float]) -> tuple[Float, float]:
    """The best of the weights (n_weights, n_branches), and its Omega."""
    omegas = omegas_of(grid)
    tied = np.flatnonzero(omegas >= omegas.max() - TIE)
    from_equal = (grid[tied] ** 2).sum(axis=1).round(12)  # the squared distance but for a constant
    best = tied[np.argmin(from_equal)]  # the first, and the grid is in lexicographic order
    return grid[best], float(omegas[best])


def _calibrate(
    scores: pd.DataFrame, calibration: Calibration, scale: Scale | None, references: pd.DataFrame | None
) -> Float:
    """Branches on one scale, (n_clips, n_branches)."""
    if scale is not None:
        return scale.sigmoid(scores.to_numpy(float), list(scores.columns))
    known = _check_references(scores, calibration, references)
    machines, of_reference = machine_of(scores.index), machine_of(known.index)
    calibrated = np.empty(scores.shape)
    for machine in pd.unique(machines):
        own = known[of_reference == machine]
        if own.empty:
            raise ValueError(f"no references of machine {machine!r}; calibration={calibration!r} needs some")
        here = machines == machine
        calibrated[here] = fusing.calibrate(
            scores[here].to_numpy(float), own.to_numpy(float),
            branches=list(scores.columns), calibration=cast(NormalCalibration, calibration),
            whose=f"machine {machine!r}",
        )  # fmt: skip
    return calibrated


def machine_of(keys: pd.Index) -> NDArray[np.object_]:
    """The machine of each key ``machine/split/name``: (n_clips,)."""
    return np.array([str(key).partition("/")[0] for key in keys], dtype=object)


def _require_calibration(calibration: str) -> None:
    if calibration not in CALIBRATIONS:
        raise ValueError(f"calibration={calibration!r}: must be one of {', '.join(CALIBRATIONS)}")


def _check_references(
    scores: pd.DataFrame, calibration: Calibration, references: pd.DataFrame | None
) -> pd.DataFrame:
    """The references' columns of these branches."""
    if references is None:
        raise ValueError(
            f"calibration={calibration!r} needs references: scores of each machine's normal clips"
        )
    if absent := [b for b in scores if b not in references]:
        raise ValueError(f"the references have no branch {absent[0]!r}")
    _require_scores(references[list(scores.columns)], "references")
    if both := scores.index.intersection(references.index).to_list():
        raise ValueError(
            f"references that are scored, too: {metrics.named(both)}; take normal training clips"
        )
    return references[list(scores.columns)]


def _require_same_clips(scores: pd.DataFrame, clips: pd.DataFrame) -> None:
    metrics.joined(clips, pd.Series(0.0, index=scores.index), kind="row of scores")


def _require_scores(scores: pd.DataFrame, kind: str) -> None:
    if scores.empty:
        raise ValueError(f"{kind}: a table of {len(scores)} clips and {scores.shape[1]} branches is empty")
    for what, labels in (("clips", scores.index), ("branches", scores.columns)):
        if repeated := labels[labels.duplicated()].unique().to_list():
            raise ValueError(f"{kind}: {what} that occur more than once: {metrics.named(repeated)}")
    for branch in scores:
        if not pd.api.types.is_float_dtype(scores[branch]):
            raise ValueError(f"{kind}: branch {branch!r} holds {scores[branch].dtype}, not floats")
        if bad := scores.index[~np.isfinite(scores[branch].to_numpy(float))].to_list():
            raise ValueError(f"{kind}: branch {branch!r} is not finite for {metrics.named(bad)}")
