r"""Maps: where in time and frequency the score of a recording comes from.

A back end says which quadratic forms of the embedding its score is (``backends.terms``). Traced back to means and
standard deviations of tokens (``embedding.tracing``), such a form is :math:`r^\top G r` of the deviation r from
what the clip is compared with. It is split among the dimensions by the *corr-max* transformation [1]_:

.. math:: r^\top G r = \sum_j y_j^2, \qquad y = (S^{-1} G\, S^{-1})^{1/2} S\, r

where S divides each dimension by its standard deviation. The y are deviations that are decorrelated, each as close
as can be to that of its own dimension; no term is negative. The plain terms :math:`r_j (G r)_j` add up as well, but
of bands that rise and fall together they are large, of both signs.

A deviation is a sum over tokens, and so is each :math:`y_j`. Its term is spread over time as :math:`y_j\, y_j(t)`:
large while the clip is off as it is off on the whole, and negative while it is off the other way. So the values of
a map add up to the score, to rounding.

Where a pooling adds up all bands, or where each dimension is compared for itself, the plain terms are taken: there
is nothing to choose, or they are the same.

References
----------
.. [1] P. H. Garthwaite and I. Koch, "Evaluating the contributions of individual variables to a quadratic form,"
   Australian & New Zealand Journal of Statistics 58, 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nearfar.embedding import tracing
from nearfar.embedding.embeddings import VIEWS, heard, joined, pooled_blocks
from nearfar.embedding.linear_steps import Step, chained
from nearfar.encoders import Located
from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError, Samples
from nearfar.recordings.transforms import Transforms

if TYPE_CHECKING:
    from nearfar.backends.terms import Quadratic, Terms
    from nearfar.detector.fitted import Detector
    from nearfar.encoders.axes import TimeFrequency
    from nearfar.systems.branches import Branch
    from nearfar.systems.resolved import Part

Float = NDArray[np.float64]

MOST_DIMENSIONS = 1024  # that are split by corr-max: an eigendecomposition of so many takes half a second
ROWS = "rows"  # the pooling whose embedding are the tokens themselves

# Of what is shown; chosen on simulated machines of one seed, see docs/evidence-maps.md:
SMOOTHED_SECONDS = 0.1  # standard deviation of the smoothing over time
SMOOTHED_BANDS = 1 / 128  # of the rows of a map; the same over frequency
TIMES_MEAN = 3.0  # what is below so many times the mean of a smoothed map is not shown

OF_RESIDUALS = "The squared residual of each frame and band: their mean is the score."
OF_ROWS = "What each frame and band adds to the Mahalanobis length of the residuals, which is the score."
OF_VECTORS = (
    "What each frame and band adds to the score: how far the {statistics} of the {encoder!r} tokens are from "
    "normal ones, {split}."
)
BY_CORR_MAX = (
    "shared out among bands whose deviations are decorrelated, and over time by how far each frame is off"
)
BY_TOKEN = "shared out among tokens by how far each is off in the direction in which the whole clip is off"
WORDS = {"mean": "means", "std": "standard deviations"}


@dataclass(frozen=True, eq=False)
class BranchMap:
    """Where the score of one branch comes from, as one microphone view hears it.

    Attributes
    ----------
    branch : str
        The system; of a fused one the part; with a number, such as "dca_1 (3 of 10)", of an ensemble.
    microphone : str
        Of ``recordings.microphones.MICROPHONES``; or two with "and" between them, for an encoder that hears both.
    how : str
        What a value is, in a sentence or two.
    times : (frames + 1,) array
        Edges of the columns in seconds. They end after the clip where the encoder fills it up.
    frequencies : (bands + 1,) array
        Edges of the rows in Hz.
    values : (bands, frames) array
        What each cell adds to the score; a cell can lower it. The values of all maps of a branch add up to
        ``score``.
    score : float
        Of the branch, in its own units.
    typical : float
        What a normal clip scores: the median of those behind the threshold. NaN if there are none.
    adds_up : bool
        Whether the values add up to the score.
    why_not : str
        Why there is no map; then it has no cells. Empty if there is one.
    n_maps : int
        How many maps the branch has, which add up together.
    """

    branch: str
    microphone: str
    how: str
    times: Float
    frequencies: Float
    values: Float
    score: float
    typical: float
    adds_up: bool = True
    why_not: str = ""
    n_maps: int = 1

    @property
    def is_empty(self) -> bool:
        """Whether there is no map."""
        return self.values.size == 0

    @cached_property
    def shown(self) -> Float:
        """What a picture shows, (bands, frames), not negative: where the map stands out from what it has
        everywhere.

        The positive part of the values, smoothed over 0.1 s and a 128th of the rows, less three times its mean. A
        normal clip has something everywhere as well; this leaves of a map what has several times as much.
        """
        from scipy.ndimage import gaussian_filter  # slow to load

        if self.is_empty:
            return self.values
        column = (self.times[-1] - self.times[0]) / self.values.shape[1]
        sigma = (SMOOTHED_BANDS * self.values.shape[0], SMOOTHED_SECONDS / column)
        smoothed = gaussian_filter(np.maximum(self.values, 0.0), sigma, mode="nearest")
        return np.maximum(smoothed - TIMES_MEAN * smoothed.mean(), 0.0)

    def between(self, low: float, high: float) -> float:
        """What the frequencies from ``low`` to ``high``, in Hz, add to the score; rows are cut in proportion."""
        lower, upper = self.frequencies[:-1], self.frequencies[1:]
        within = np.clip(np.minimum(upper, high) - np.maximum(lower, low), 0.0, None) / (upper - lower)
        return float(within @ self.values.sum(axis=1)) if len(within) else 0.0


def maps_of(
    detector: Detector,
    samples: Samples,
    rate: int,
    *,
    name: str = "recording",
    transforms: Transforms | None = None,
) -> tuple[BranchMap, ...]:
    """The maps of a recording, of each branch in the detector's order.

    A branch whose view has several microphone views gives a map for each; together they add up.

    Parameters
    ----------
    detector : Detector
    samples : (channels, samples) array
        As of ``Detector.score``.
    rate : int
        In Hz.
    name : str
        What errors call it.
    transforms : Transforms or None
        Of these samples.

    Raises
    ------
    AudioError, MicrophoneError
        If the recording cannot be scored.
    """
    audio.require_samples(samples, name)
    heard_at = {} if transforms is None else {rate: transforms}
    found: list[BranchMap] = []
    typical = _typical_scores(detector)
    names = [name for part in detector.system.parts for name in names_of(part)]
    for branch, branch_name, usual in zip(detector.branches, names, typical, strict=True):
        own = branch.encoder.sample_rate
        if own not in heard_at:
            heard_at[own] = Transforms(audio.at_rate(samples, rate, own, name))
        audio.require_length(heard_at[own].samples, branch.encoder.min_samples, own, name)
        try:
            found += _Split.of(branch, heard_at[own]).maps(branch_name, usual)
        except ValueError as error:  # it has no finite embedding, no direction, no finite score
            raise AudioError(f"{name}: cannot be scored: {error}") from error
    return tuple(found)


def names_of(part: Part) -> list[str]:
    """What the maps of the branches of a part are called, as ``BranchMap.branch``."""
    if part.size == 1:
        return [part.name]
    return [f"{part.name} ({i + 1} of {part.size})" for i in range(part.size)]


def _typical_scores(detector: Detector) -> list[float]:
    """What normal clips score by each branch; of an ensemble, the mean over its branches."""
    parts = detector.system.parts
    if detector.normals is not None:
        of_parts = np.median(detector.normals, axis=0).tolist()
    elif detector.threshold is not None:
        of_parts = [float(np.median(detector.threshold.normal_scores))]
    else:
        of_parts = [float("nan")] * len(parts)
    return [score for part, score in zip(parts, of_parts, strict=True) for _ in range(part.size)]


@dataclass(frozen=True, eq=False)
class _Split:
    """A clip as a branch hears it, whose score is to be split.

    Attributes
    ----------
    branch : Branch
    samples : int
        Of the clip, at the encoder's rate.
    tokens : (waveforms, blocks, frames, bands, dim) array
        A waveform is a microphone view, or several at once.
    stages : list of (dim,) arrays
        The embedding, and what each conditioning makes of it in turn.
    score : float
    """

    branch: Branch
    samples: int
    tokens: NDArray[np.floating[Any]]
    stages: list[Any]
    score: float

    @classmethod
    def of(cls, branch: Branch, transforms: Transforms) -> _Split:
        resolved, samples = branch.resolved, transforms.samples
        waveforms = heard(samples, branch.encoder, resolved.view, transforms)
        tokens = np.stack([branch.encoder(one[None])[0] for one in waveforms])
        pooled = [joined(*pooled_blocks(one[None], resolved.pooling)) for one in tokens]
        stages: list[Any] = [VIEWS[resolved.view].combine(*pooled)]
        score = float(branch.anomaly_score(stages)[0])
        if resolved.pooling != ROWS:
            for step in branch.conditioning:
                stages.append(np.asarray(step.transform(stages[-1][None]), dtype=np.float64)[0])
        return cls(branch, samples.shape[-1], tokens, stages, score)

    def maps(self, name: str, typical: float) -> list[BranchMap]:
        """A map for each waveform; one without cells if there is none."""
        microphones = VIEWS[self.branch.resolved.view].microphones
        if len(self.tokens) < len(microphones):
            microphones = (" and ".join(microphones),)
        why_not = self._why_not()
        terms = None if why_not else self.branch.backend.terms(self.stages[-1])
        if terms is None:
            backend = self.branch.resolved.backend.name
            why_not = why_not or f"the back end {backend!r} does not say which terms its score has"
            none: dict[str, Any] = {
                "how": "",
                "times": np.empty(0),
                "frequencies": np.empty(0),
                "values": np.empty((0, 0)),
            }
            told: dict[str, Any] = {
                "score": self.score,
                "typical": typical,
                "adds_up": False,
                "why_not": why_not,
            }
            return [BranchMap(name, one, **none, **told, n_maps=0) for one in microphones]
        grids = self._grids(terms)
        return [
            BranchMap(name, microphone, self._how(terms), *grid, self.score, typical, n_maps=len(grids))
            for microphone, grid in zip(microphones, grids, strict=True)
        ]

    def _why_not(self) -> str:
        """Why the score cannot be split over tokens, or these not placed; empty if both can be done."""
        resolved = self.branch.resolved
        if not isinstance(self.branch.encoder, Located):
            return (
                f"the encoder {resolved.encoder.name!r} makes one embedding of the whole clip, whose numbers lie "
                "nowhere in time and frequency"
            )
        if resolved.pooling == ROWS:
            return "" if not self.branch.conditioning else "rows are conditioned, which is not traced back"
        if resolved.pooling not in tracing.POOLED:
            return f"the pooling {resolved.pooling!r} is not known to be a sum over tokens"
        if tracing.of_view(resolved.view, len(self.tokens)) is None:
            return f"the view {resolved.view!r} is not known to be linear"
        given = self.stages[:-1]  # to each conditioning
        for step, x, described in zip(self.branch.conditioning, given, resolved.conditioning, strict=True):
            if tracing.of_conditioning(step, np.asarray(x, dtype=np.float64)) is None:
                return f"the conditioning {described.name!r} is not known to be linear"
        return ""

    def _how(self, terms: Terms) -> str:
        """What a value is."""
        resolved = self.branch.resolved
        if resolved.pooling == ROWS:
            return OF_RESIDUALS if terms.quadratics[0].precision is None else OF_ROWS
        statistics = " and ".join(WORDS[one] for one in tracing.POOLED[resolved.pooling].statistics)
        is_corr_max = any(self._is_for_corr_max(quadratic) for quadratic in terms.quadratics)
        split = BY_CORR_MAX if is_corr_max else BY_TOKEN
        return OF_VECTORS.format(statistics=statistics, encoder=resolved.encoder.name, split=split)

    def _is_for_corr_max(self, quadratic: Quadratic) -> bool:
        """Whether bands have terms of their own, and each depends on others."""
        keeps_bands = tracing.POOLED[self.branch.resolved.pooling].keeps_bands
        is_alone = quadratic.precision is None and self._chain(quadratic).is_diagonal
        return keeps_bands and not is_alone and len(self.stages[0]) <= MOST_DIMENSIONS

    def _chain(self, quadratic: Quadratic) -> Step:
        """From the statistics of tokens to what the back end compares."""
        resolved = self.branch.resolved
        x = [np.asarray(stage, dtype=np.float64) for stage in self.stages]
        steps = [
            tracing.of_pooling(resolved.pooling, self.tokens.shape),
            tracing.of_view(resolved.view, len(self.tokens)),
            *(tracing.of_conditioning(step, x[i]) for i, step in enumerate(self.branch.conditioning)),
            Step.scaling(quadratic.scale),
        ]
        return chained([step for step in steps if step is not None])

    def _grids(self, terms: Terms) -> list[TimeFrequency]:
        """A grid for each waveform; what no token explains is spread evenly: a constant, and rounding."""
        split = self._of_rows if self.branch.resolved.pooling == ROWS else self._of_vector
        of_tokens = np.sum([split(quadratic) for quadratic in terms.quadratics], axis=0)
        encoder = self.branch.encoder
        assert isinstance(encoder, Located)
        grids = [encoder.located(one, self.samples) for one in of_tokens]
        cells = sum(grid.values.size for grid in grids)
        rest = (self.score - sum(float(grid.values.sum()) for grid in grids)) / cells
        return [grid._replace(values=grid.values + rest) for grid in grids]

    def _of_rows(self, quadratic: Quadratic) -> Float:
        """The terms of tokens that are rows, of the shape of the tokens."""
        rows = np.asarray(self.stages[-1], dtype=np.float64)
        residuals = quadratic.scale * rows - quadratic.centre
        if quadratic.precision is not None:
            residuals = residuals @ corr_max(quadratic.precision).T
        others = residuals
        if quadratic.rows == "mean":
            others = residuals.mean(axis=0) / len(rows)
        return np.asarray(quadratic.factor * residuals * others).reshape(self.tokens.shape)

    def _of_vector(self, quadratic: Quadratic) -> Float:
        """The terms of tokens that were pooled, of the shape of the tokens."""
        chain = self._chain(quadratic)
        residual = quadratic.residual(self.stages[-1])
        deviation = chain.back(residual)
        of_tokens = tracing.spread(self.tokens, deviation, self.branch.resolved.pooling)
        if self._is_for_corr_max(quadratic):
            return self._by_corr_max(quadratic, chain, deviation, of_tokens)
        pulled = residual if quadratic.precision is None else residual @ quadratic.precision
        weights = chain.transposed(pulled).reshape(*of_tokens.shape[:3], 1, -1, of_tokens.shape[-1])
        return np.asarray((quadratic.factor * of_tokens * weights).sum(axis=2))

    def _by_corr_max(self, quadratic: Quadratic, chain: Step, deviation: Float, of_tokens: Float) -> Float:
        precision = quadratic.precision
        if precision is None:
            precision = np.eye(len(self.stages[-1]))
        transformation = corr_max(chain.transposed(chain.transposed(precision).T))
        frames = np.moveaxis(of_tokens, 3, 0)  # before microphones, blocks, statistics, bands and dim
        by_frame = frames.reshape(len(frames), -1) @ transformation.T * (transformation @ deviation)
        terms = np.moveaxis(by_frame.reshape(frames.shape), 0, 3)
        return np.asarray(quadratic.factor * terms.sum(axis=2))


def corr_max(form: Float) -> Float:
    """The matrix M of the corr-max transformation: ``M.T @ M`` is the form, and no row of M leaves its dimension
    more than it must.

    Parameters
    ----------
    form : (dim, dim) array
        Symmetric, without negative eigenvalues: the inverse of a covariance, or of one within some directions.

    Examples
    --------
    Two dimensions that are correlated are off by as much, against their correlation: half of the distance is of
    each.

    >>> import numpy as np
    >>> from nearfar.evidence.maps import corr_max
    >>> covariance = np.array([[4.0, 1.0], [1.0, 1.0]])
    >>> M = corr_max(np.linalg.inv(covariance))
    >>> ((M @ [2.0, -1.0]) ** 2).round(3)
    array([2., 2.])
    """
    values, axes = np.linalg.eigh((form + form.T) / 2)
    largest = max(float(values[-1]), 0.0)
    kept = values > len(form) * np.finfo(np.float64).eps * largest
    variances = (axes[:, kept] ** 2 / values[kept]).sum(axis=1)
    deviations = np.sqrt(np.where(variances > 0, variances, 1.0))
    values, axes = np.linalg.eigh((form + form.T) / 2 * deviations * deviations[:, None])
    root = axes * np.sqrt(np.maximum(values, 0.0)) @ axes.T
    return np.asarray(root / deviations)
