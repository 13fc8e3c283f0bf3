r"""Which training clips do not sound like the others: faults of the machine may hide among them.

The sound of a clip is a row of numbers: for each band, of near without what far explains, the mean and the
standard deviation of the level over frames. Of clip i of domain d, with row x,

.. math:: D_i = \min_{c \in C_{d \setminus i}} (x_i - c)^\top \Sigma_{\setminus i}^{-1} (x_i - c), \qquad
    z_i = \frac{\log (D_i / m_d) - \mathrm{median}_j \log (D_j / m_d)}{s}

are a leave-one-out distance and its place among those of the others: neither the centres C nor the covariance
:math:`\Sigma` know the clip. The centre of a domain is its mean. A small domain has its clips themselves as
centres, because ten clips of three speeds have a mean at which the machine never runs. Each domain is measured
by its own median m, but never by less than the largest domain's. (``backends.domain_normalized`` scores new
clips in this way.)

**The outliers must not hide each other.** Centres and covariance are first learnt from the three quarters of each
domain that lie nearest to its median, band by band; then from the three quarters of the smallest distances,
twice, as the concentration steps of the minimum covariance determinant [1]_ do; then from all clips but those
that are under suspicion, until the suspicion stays the same. That is a reweighted estimate, whose rejection rule
is the one below. More than a third of a domain is never rejected. Where conditions are known, such as speeds by
the attributes in names, this holds for each condition: ten clips of a rare one are no outliers. Of a rare
condition that nobody tells, the look cannot know better.

**Suspicion by chance is held down.** The null distribution of z is fitted to the middle of the clips that are
there, which is Efron's empirical null [2]_: s is the larger of two robust estimates of the standard deviation,
by the median absolute deviation, and by the 80 % quantile (and at least ``LEAST_SPREAD``). It has the tail of
Student's t with ``TAIL`` degrees of freedom, because normal clips at the edge of what the machine does have
heavier tails than the normal distribution. On its p-values the procedure of Benjamini and Hochberg [3]_ keeps
the expected share of normal clips among the suspected ones below ``SHARE``, as far as the null distribution
holds.

References
----------
.. [1] M. Hubert, M. Debruyne and P. Rousseeuw, "Minimum covariance determinant and extensions," WIREs Computational
   Statistics 10, 2018, section 2.3.
.. [2] B. Efron, "Large-scale simultaneous hypothesis testing: the choice of a null hypothesis," JASA 99, 2004.
.. [3] Y. Benjamini and Y. Hochberg, "Controlling the false discovery rate," JRSS B 57, 1995.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import special

from nearfar.recordings.audio import FAR, NEAR, Samples
from nearfar.recordings.cancellation import TAPS, Canceller
from nearfar.recordings.inspection.measured import LOWEST_HZ, QUIETEST, Float, frame_length
from nearfar.recordings.inspection.shrinkage import shrinkage_of
from nearfar.recordings.transforms import Spectra, Transforms, frames_at_once, powers

Bool = NDArray[np.bool_]
Index = NDArray[np.intp]
Row = NDArray[np.float32]

SHARE = 0.1  # of the suspected clips that may be normal, on average
TAIL = 10  # degrees of freedom; 5 found half as many faults, the normal distribution suspected 2 clips of any set
FEWEST = 12  # clips of which it can be told what is usual
FEWEST_OF_CONDITION = 4  # clips of a condition that is told apart
FEW = 30  # clips of a small domain, as of `backends.domain_normalized`
INNER = 0.75  # of the clips of a domain: the estimate begins with these
CONCENTRATIONS = 2
FAR_AWAY = 6.0  # robust standard deviations: a band that is farther away says no more
ROUNDS = 8  # of learning what is usual, and rejecting what is not
MOST_REJECTED = 1 / 3  # of the clips of a domain: what so many have is no outlier
LEAST_SPREAD = 0.2  # of log D; simulated machines have 0.18 and more: 1.7 times the usual is no reason
OF_FEW = 4.0  # over the number of clips: by such a share more is the spread of few, as in `usual._limits`
UPPER = 0.8  # the quantile that tells the spread above the median
MAD = 1.4826  # times the median absolute deviation: a standard deviation
TINY = 1e-6  # of the median: below it, distances are equal
BANDS = 64
FLOOR_DB = -20.0  # of pink noise against the clip: what is left of a band that was cancelled is an error
LINEAR_TO_HZ = (
    1000.0  # bands are equally wide below, and equally wide on the logarithmic axis above, as in mel
)


@dataclass(frozen=True, slots=True, eq=False)
class Unlikeness:
    """How n clips differ from each other.

    Attributes
    ----------
    distance : (n,) array
        1 is usual. NaN of a clip that cannot be judged: there are too few others, or all are alike.
    p_value : (n,) array
        With which a normal clip is at least as far away; 1 where the distance is not known.
    suspected : (n,) array of bool
    """

    distance: Float
    p_value: Float
    suspected: Bool


def band_edges(rate: int) -> Index:
    """Bins of ``sound`` at which its bands begin, and the end of the last: (BANDS + 1,) or fewer."""
    bins = frame_length(rate) // 4 + 1
    top = rate / 2
    # a mel scale (M. Slaney, Auditory Toolbox, 1998): 15 steps to 1 kHz, then a factor of 6.4 in 27
    steps = np.linspace(LOWEST_HZ * 15 / LINEAR_TO_HZ, _mel(top), BANDS + 1)
    hertz = np.where(steps <= 15, steps * LINEAR_TO_HZ / 15, LINEAR_TO_HZ * 6.4 ** ((steps - 15) / 27))
    edges = np.unique(np.round(hertz / top * (bins - 1)).astype(np.intp))
    return edges if len(edges) > 1 else np.array([0, bins - 1])


def _mel(hertz: float) -> float:
    if hertz <= LINEAR_TO_HZ:
        return hertz * 15 / LINEAR_TO_HZ
    return float(15 + 27 * np.log(hertz / LINEAR_TO_HZ) / np.log(6.4))


def sound(samples: Samples, rate: int, transforms: Transforms | None = None) -> Row:
    """What a clip sounds like, near without what far explains: (2 * bands,).

    Of each band the mean of its level over frames of some 64 ms, in dB, without the mean over all bands; then the
    standard deviation. How loud the whole clip is has no part in it.

    Parameters
    ----------
    samples : (channels, samples) array
    rate : int
        In Hz.
    transforms : Transforms or None
        Of these samples, if others look at them, too.
    """
    length = frame_length(rate)
    heard = Transforms(samples.astype(np.float32, copy=False)) if transforms is None else transforms
    if len(samples) > FAR:
        heard = Canceller(length, TAPS).heard(heard)
    levels = _levels(heard.spectra(NEAR, length // 2), band_edges(rate))
    means = levels.mean(axis=0)
    return np.concatenate([means - means.mean(), levels.std(axis=0)])


def _levels(spectra: Spectra, edges: Index) -> NDArray[np.float32]:
    """Of each frame and band, above a floor of pink noise: (frames, bins) to (frames, bands), in dB."""
    size = frames_at_once(2 * (spectra.shape[1] - 1))
    power = np.empty((len(spectra), len(edges) - 1), np.float32)
    for i in range(0, len(spectra), size):
        squares = powers(spectra[i : i + size])
        power[i : i + size] = np.add.reduceat(squares[:, : edges[-1]], edges[:-1], axis=1)
    pink = np.log(np.maximum(edges[1:], 1) / np.maximum(edges[:-1], 0.5))
    power += 10 ** (FLOOR_DB / 10) * power.mean() * (pink / pink.mean()).astype(np.float32)
    levels: NDArray[np.float32] = 10 * np.log10(np.maximum(power, np.float32(QUIETEST)))
    return levels


def unlikeness(
    rows: NDArray[np.floating],
    domains: Sequence[str],
    conditions: Sequence[str] | None = None,
    *,
    share: float = SHARE,
) -> Unlikeness:
    """How far each clip is from the others of its domain, and which are under suspicion.

    Parameters
    ----------
    rows : (n, dim) array
        Of n clips, as of ``sound``.
    domains : sequence of str
        Of each clip.
    conditions : sequence of str or None
        Of each clip what is known of how the machine ran, such as its attributes; empty if nothing is. A condition
        with few clips is not an outlier: at least two thirds of it always count.
    share : float
        Of the suspected clips that may be normal, on average; above 0 and below 1.

    Raises
    ------
    ValueError
        If ``share`` is out of its range.

    Examples
    --------
    Two clips of a hundred have much more in one band than the others.

    >>> import numpy as np
    >>> from nearfar.recordings.inspection.unlike import unlikeness
    >>> rows = np.random.default_rng(0).normal(size=(100, 20))
    >>> rows[[3, 14], 2] += 12
    >>> np.flatnonzero(unlikeness(rows, [""] * 100).suspected).tolist()
    [3, 14]
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share}: must be above 0 and below 1; it is the share of false suspicion")
    n, groups = len(rows), _groups(domains)
    strata = groups if conditions is None else _strata(domains, conditions)
    unknown = Unlikeness(np.full(n, np.nan), np.ones(n), np.zeros(n, bool))
    if n < FEWEST:
        return unknown
    x = np.asarray(rows, dtype=np.float64)
    rejected, found = ~_inner(x, groups, strata), unknown
    for _ in range(ROUNDS):
        distance = in_units_of_the_usual(leave_one_out(x, groups, ~rejected), groups)
        found = suspicion(distance, strata, share=share)
        if (found.suspected == rejected).all():
            break
        rejected = found.suspected
    return found


def _inner(x: Float, groups: Sequence[Index], strata: Sequence[Index]) -> Bool:
    """The clips with which the estimate begins: (n, dim) to (n,)."""
    centred = np.empty_like(x)
    for group in groups:
        centred[group] = x[group] - np.median(x[group], axis=0)
    spread = MAD * np.median(np.abs(centred), axis=0)
    times = np.divide(np.abs(centred), spread, out=np.zeros_like(x), where=spread > 0)
    inner = _nearest_of_each((np.minimum(times, FAR_AWAY) ** 2).mean(axis=1), strata)
    for _ in range(CONCENTRATIONS):
        inner = _nearest_of_each(leave_one_out(x, groups, inner), strata)
    return inner


def _nearest_of_each(distance: Float, groups: Sequence[Index]) -> Bool:
    """The inner clips of each group: (n,) to (n,)."""
    found = np.zeros(len(distance), bool)
    for group in groups:
        order = group[np.argsort(distance[group], kind="stable")]
        found[order[: int(np.ceil(INNER * len(group)))]] = True
    return found


def _groups(domains: Sequence[str]) -> list[Index]:
    labels = np.array(domains, dtype=object)
    return [np.flatnonzero(labels == domain) for domain in sorted(set(domains))]


def _strata(domains: Sequence[str], conditions: Sequence[str]) -> list[Index]:
    """The clips of each domain and condition; conditions of very few clips are put together, or to the largest."""
    found, labels = [], np.array(conditions, dtype=object)
    for group in _groups(domains):
        own = [group[of] for of in _groups(labels[group].tolist())]
        told = [one for one in own if len(one) >= FEWEST_OF_CONDITION]
        rest = np.concatenate([np.zeros(0, np.intp), *(one for one in own if len(one) < FEWEST_OF_CONDITION)])
        if told and len(rest) < FEWEST_OF_CONDITION:
            largest = max(range(len(told)), key=lambda i: len(told[i]))
            told[largest] = np.concatenate([told[largest], rest])
        else:
            told.append(rest)
        found += [one for one in told if len(one)]
    return found


def leave_one_out(x: Float, groups: Sequence[Index], used: Bool) -> Float:
    """D of the module: (n, dim) to (n,); NaN of a clip without another one in its domain.

    Leaving out clip i, with residual r around the mean of its domain's n clips, the mean is further away by the
    factor f = n / (n - 1), and the scatter lacks f r r'. So all distances follow from one decomposition (formula of
    Sherman and Morrison). The shrinkage of Ledoit and Wolf hardly depends on one clip, and stays.

    Parameters
    ----------
    x : (n, dim) array
    groups : sequence of arrays
        The clips of each domain.
    used : (n,) array of bool
        The clips that have a part in what is usual.
    """
    residuals, largest = np.empty_like(x), max(groups, key=len)
    for group in groups:
        own = group[used[group]]
        residuals[group] = x[group] - x[own if len(own) else group].mean(axis=0)
    n_used, dim = int(used.sum()), x.shape[1]
    scatter, axes = np.linalg.eigh(residuals[used].T @ residuals[used])
    scatter, turned = np.maximum(scatter, 0), residuals @ axes
    shrinkage = shrinkage_of(residuals[used])
    found = np.full(len(x), np.nan)
    for group in groups:
        if len(group) < 2:
            continue
        n_own = int(used[group].sum())
        factor = np.where(used[group], n_own / max(n_own - 1, 1), 0.0)
        count = n_used - used[group]
        own = turned[group]
        mean = (scatter.sum() - factor * (own**2).sum(axis=1)) / (dim * count)
        variances = (1 - shrinkage) * scatter / count[:, None] + (shrinkage * mean)[:, None]
        variances = np.maximum(variances, (TINY * mean + QUIETEST)[:, None])
        lacking = (1 - shrinkage) * factor / count
        if len(group) >= FEW or group is largest:
            away = np.maximum(factor, 1.0)[:, None] * own
            found[group] = _distances(away, own, variances, lacking)
            continue
        for place, i in enumerate(group):  # its centres are the others
            others = group[used[group] & (group != i)]
            if len(others):
                one = slice(place, place + 1)
                away = own[one] - turned[others]
                found[i] = _distances(away, own[one], variances[one], lacking[one]).min()
    return found


def _distances(away: Float, own: Float, variances: Float, lacking: Float) -> Float:
    """Squared distances of (n, dim), (n,); the scatter lacks ``lacking`` times that of ``own``.

    Each argument is of n clips, or of one that all are compared with.
    """
    plain = (away**2 / variances).sum(axis=1)
    along = (away * own / variances).sum(axis=1)
    left = np.maximum(1 - lacking * (own**2 / variances).sum(axis=1), TINY)
    distances: Float = plain + lacking * along**2 / left
    return distances


def in_units_of_the_usual(distance: Float, groups: Sequence[Index]) -> Float:
    """By the median of each domain, but never by less than that of the largest: (n,) to (n,)."""
    found = np.full_like(distance, np.nan)
    medians = [float(np.median(own)) if len(own := _known(distance[group])) else np.nan for group in groups]
    least = medians[int(np.argmax([len(group) for group in groups]))]
    for group, median in zip(groups, medians, strict=True):
        scale = np.fmax(median, least)
        if scale > 0:
            found[group] = distance[group] / scale
    return found


def _known(values: Float) -> Float:
    return values[~np.isnan(values)]


def suspicion(distance: Float, groups: Sequence[Index], *, share: float = SHARE) -> Unlikeness:
    """Which distances are too large to be of normal clips.

    Parameters
    ----------
    distance : (n,) array
        In units of what is usual; NaN where it is not known.
    groups : sequence of arrays
        The clips of each domain, or of each condition in it.
    share : float
        As of ``unlikeness``.
    """
    p_value, known = np.ones(len(distance)), ~np.isnan(distance)
    if known.sum() >= FEWEST:
        logs = np.log(np.maximum(distance[known], TINY))
        middle = float(np.median(logs))
        above = (float(np.quantile(logs, UPPER)) - middle) / float(special.ndtri(UPPER))
        spread = max(above, MAD * float(np.median(np.abs(logs - middle))), LEAST_SPREAD)
        spread *= 1 + OF_FEW / len(logs)
        p_value[known] = special.stdtr(TAIL, -(logs - middle) / spread)
    suspected = discoveries(p_value, share)
    for group in groups:
        order = group[np.argsort(p_value[group], kind="stable")]
        suspected[order[int(MOST_REJECTED * len(group)) :]] = False
    return Unlikeness(distance, p_value, suspected)


def discoveries(p_value: Float, share: float) -> Bool:
    """The procedure of Benjamini and Hochberg: (n,) to (n,)."""
    order = np.argsort(p_value, kind="stable")
    below = np.flatnonzero(p_value[order] <= share * np.arange(1, len(order) + 1) / max(len(order), 1))
    found = np.zeros(len(order), bool)
    found[order[: below[-1] + 1 if len(below) else 0]] = True
    return found


def in_what(row: Row, others: NDArray[np.float32], rate: int) -> str:
    """In which band a clip differs most from the others, in words.

    Parameters
    ----------
    row : (2 * bands,) array
        As of ``sound``.
    others : (n, 2 * bands) array
    rate : int
        In Hz.
    """
    edges = band_edges(rate)
    middle = np.median(others, axis=0)
    spread = MAD * np.median(np.abs(others - middle), axis=0)
    away = (row - middle).reshape(2, -1)
    times = np.abs(away) / np.maximum(spread.reshape(2, -1), 0.1)  # dB: no band is known better
    part, band = (int(i) for i in np.unravel_index(times.argmax(), times.shape))
    first, last = _around(np.sign(away[part]) == np.sign(away[part, band]), times[part], band)
    low, high = (edges[[first, last + 1]] * rate / (frame_length(rate) // 2)).tolist()
    run = away[part, first : last + 1]
    by = float(run[np.abs(run).argmax()])
    where = f"at {_hertz(low)} to {_hertz(high)}"
    if part == 0:
        return f"most {where}, {abs(by):.1f} dB {'more' if by > 0 else 'less'} against its other bands"
    return f"most {where}, where its level varies by {abs(by):.1f} dB {'more' if by > 0 else 'less'}"


def _around(alike: Bool, times: Float, band: int) -> tuple[int, int]:
    """The first and the last band of the run around one in which a clip differs at least half as much."""
    inside = np.flatnonzero(~(alike & (times >= times[band] / 2)))
    ends = np.concatenate([[-1], inside, [len(times)]])
    return next((a + 1, b - 1) for a, b in pairwise(ends.tolist()) if a < band < b)


def _hertz(frequency: float) -> str:
    return f"{frequency:.0f} Hz" if frequency < 1000 else f"{frequency / 1000:.1f} kHz"
