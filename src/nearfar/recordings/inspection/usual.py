r"""What the training clips of an installation have in common, and how another recording differs from it.

Two microphones that stand where they stood have a fixed relation. With :math:`M_i` the complex coherence of the
two channels of clip i, and :math:`T` the mean of :math:`M_i` over the training clips of a domain,

.. math:: R = \frac{\mathrm{Re} \sum_f M(f) T^*(f)}{\sum_f |T(f)|^2}, \qquad
    c = \frac{\mathrm{Re} \sum_f M(f) T^*(f)}{\sqrt{\sum_f |M(f)|^2 \sum_f |T(f)|^2}}

are a matched filter and its cosine. Both are near 0 if one channel hears something else. If one channel is
late, R is found at another delay. The cosine c, the *agreement* of a recording, is nearly the same in all
normal clips, also where R is not, because the machine is now louder and now softer than the surroundings that
both microphones hear. Each bin of the coherence has its own scale, as in the smoothed coherence transform of
generalized cross-correlation [1]_, so that loud lines do not rule.

References
----------
.. [1] C. Knapp and G. Carter, "The generalized correlation method for estimation of time delay," IEEE
   Transactions on Acoustics, Speech, and Signal Processing 24, 1976.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from nearfar.recordings.audio import Samples
from nearfar.recordings.inspection import alone
from nearfar.recordings.inspection.faults import BOTH, RecordingFault
from nearfar.recordings.inspection.measured import (
    BANDS,
    FLAT_SHARE,
    FRAME_SECONDS,
    PARTS,
    Float,
    Measured,
    frame_contrasts,
    measure,
    unit_phases,
)
from nearfar.recordings.inspection.shrinkage import shrunk_covariance
from nearfar.recordings.microphones import NAMES

# Our own limits, no one's standard; `benchmarks/inspection.py` measures what they find and what they invent.
FEWEST_OF_DOMAIN = 3  # clips of a domain that has a template of its own
FEWEST_FOR_PRESENCE = 12  # clips from which it can be told what a running machine is like
TELLING = 10.0  # times what unrelated channels have by chance: agreement on which judgements can rest
LOST = 0.5  # share of the usual agreement below which a channel may have lost its microphone
UNRELATED = 0.2  # share of the usual agreement that is none
CLOSELY = 8.0  # robust standard deviations from the usual agreement: what is looked at closely
RESTORED = 0.15  # of R, that an explanation must restore at least; and
STRONGER = 1.25  # times the R that is there; and
FOUND = 8.0  # times what unrelated channels have by chance
LONG_FRAME = 4  # times a frame: for delays that are longer than one
LATE_SECONDS = 0.001  # 0.34 m of air: warm air and a moved microphone stay below it
SLOPES = 101  # drifts that are tried
DRIFT_SECONDS = 0.02  # delays from which a drift may begin
DELAYS = ("late", "drifting")  # what the surroundings alone may look like: they come from elsewhere
DRIFT_STRONGER = 1.05  # times R of one constant delay, which low sound hardly tells from a drift
DRIFT_LEAST = 0.0002  # seconds between the beginning and the end of a clip
FASTEST_DRIFT = 1e-3  # seconds per second; clocks of cheap recorders differ by a tenth of that
UNITS_DB = 20.0  # beyond the levels of training: no machine is so much louder or quieter
DEAF_DB = 10.0
SPREADS = 5.0  # robust standard deviations that levels of normal clips may lie apart
GAP_MARGIN_DB = 10.0  # below the quietest moment of the training clips; and
GAP_DB = 20.0  # below the loud moments of the clip itself
OFFSET_SHARE = 0.1  # of the channel's usual RMS
LENGTH_MARGIN = 1.2  # ratio of lengths that are the same for all purposes
PRESENCE_FLOOR = 0.1  # dB^2, added to the variances
PRESENCE_LIMITS = (
    2.5,
    2.1,
)  # times the median of the squared distances: of recordings, of two parts together; and
PRESENCE_MARGIN = 1.7  # times what seven tenths of the clips stay below; the larger limit counts; and
PRESENCE_SPREADS = (1.6, 1.4)  # below the median of what near hears beyond far; and
PRESENCE_DB = 1.0  # below it at least
FEW_STILL, STILL_MARGIN = 3, 1.15  # so many clips may be missed; and times the stillest of the others
SURELY = 1.6  # times both limits: a clip that is left out of a fit
SWAP_LOG_ODDS = (
    11.5  # nats, odds of 100,000 to 1: cables are rarely exchanged, and a clip is soon judged again
)
EXCHANGED = 0.5  # share of the log-odds of an exchange that a part of a clip must reach
CONTRAST_FLOOR = 1.0  # dB^2, added to the contrast's variance in each band: ten clips cannot know it better
PLAUSIBLE = 51.2  # the 99.9 % quantile of chi-square with BANDS degrees of freedom
FOLDS = 5
MAD = 1.4826  # times the median absolute deviation: a standard deviation


@dataclass(frozen=True)
class Usual:
    """What the training clips have in common.

    Attributes
    ----------
    rate : int
        In Hz.
    seconds : (2,) array
        Shortest and longest clip.
    level : (2, C) array
        Of each channel the lowest and the highest level of a normal clip, in dBFS.
    quiet : (C,) array
        Level of the quietest block of a normal clip, in dBFS.
    offset : (2, C) array
        Median of the means, and their robust spread.
    templates : (domains, F) complex array
        T of the module; no domains if there is one channel.
    agreement : (4,) array
        Median of c over the training clips; the value below which a recording is looked at closely; the one above
        which it is, with its channels exchanged; and the standard deviation for channels that have nothing in
        common.
    contrast : (1 + B, B) array
        Mean of near over far by band, in dB; and the inverse of its covariance.
    presence : (2, domains, 3 B) array
        Medians of ``Pair.presence``: of recordings, and of their parts.
    precision : (2, 3 B, 3 B) array
        The inverses of their covariances.
    limits : (2, domains, 2) array
        Of recordings, and of parts: the largest squared distance, and the lowest mean presence, in dB against the
        median, of a machine that runs.
    """

    rate: int
    seconds: Float
    level: Float
    quiet: Float
    offset: Float
    templates: NDArray[np.complex64]
    agreement: Float
    contrast: Float
    presence: Float
    precision: Float
    limits: Float

    @property
    def channels(self) -> int:
        return self.level.shape[1]

    @classmethod
    def of(cls, clips: Sequence[Measured], domains: Sequence[str]) -> Usual:
        """Learn from normal clips of one rate and number of channels; robust to a minority of other ones.

        Parameters
        ----------
        clips : sequence of Measured
        domains : sequence of str
            Of each clip.
        """
        return cls(
            rate=clips[0].rate, **channels_of(*by_channel(clips), domains), **_relation(clips, domains)
        )

    def allowing(self, clips: Sequence[Measured]) -> Usual:
        """The same, with limits that these clips keep, but for a few: they are of a machine that runs."""
        return self.with_limits_of([how_still(self, clip) for clip in clips])

    def with_limits_of(self, stillness: Sequence[float]) -> Usual:
        """As ``allowing``, of clips of which only ``how_still`` is known."""
        if len(stillness) < FEWEST_FOR_PRESENCE:
            return self
        stillest = sorted(stillness)[-FEW_STILL]
        return replace(self, limits=max(1.0, STILL_MARGIN * stillest) * self.limits)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To save it."""
        arrays = {name: np.asarray(value) for name, value in vars(self).items()}
        return arrays | {"templates": np.stack([self.templates.real, self.templates.imag])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Usual:
        """What ``arrays`` saved."""
        real, imaginary = arrays["templates"]

        return cls(**{**arrays, "rate": int(arrays["rate"]), "templates": real + 1j * imaginary})

    def agreement_of(self, phase: NDArray[np.complex64]) -> float:
        """c of the module: with the domain that it agrees with best, (F,)."""
        return max((_cosine(phase, template) for template in self.templates), default=0.0)

    @property
    def is_telling(self) -> bool:
        """Whether the two microphones have enough in common for R to mean something."""
        return len(self.templates) > 0 and bool(self.agreement[0] >= TELLING * self.agreement[3])


def by_channel(clips: Sequence[Measured]) -> tuple[Float, Float, Float, Float]:
    """Of each clip its length in seconds, (n,); level, level of its quietest block, and mean, (n, C)."""
    return (
        np.array([clip.seconds for clip in clips]),
        np.stack([clip.level for clip in clips]),
        np.stack([clip.blocks.min(axis=1) for clip in clips]),
        np.stack([clip.mean for clip in clips]),
    )


def channels_of(
    seconds: Float, level: Float, quiet: Float, mean: Float, domains: Sequence[str]
) -> dict[str, Any]:
    """Everything of ``Usual`` that is told of each channel alone, from what ``by_channel`` gives."""
    groups = by_domain(domains)
    return {
        "seconds": np.array([seconds.min(), seconds.max()]),
        "level": np.stack(_range(level, groups)),
        "quiet": _range(quiet, groups)[0],
        "offset": np.stack([np.median(mean, axis=0), _spread(mean)]),
    }


def faults_against(usual: Usual, measured: Measured, read: Callable[[], Samples]) -> list[RecordingFault]:
    """How a recording differs from the training clips; empty if it does not.

    Parameters
    ----------
    usual : Usual
    measured : Measured
        Of the recording.
    read : callable
        Gives the recording, (channels, samples), for a closer look.
    """
    found = _length(usual, measured)
    if measured.rate != usual.rate:
        return [_rate(usual, measured), *found]
    units = _units(usual, measured)
    deaf = [] if units else _deaf(usual, measured)
    spoilt = {fault.microphone for fault in (*units, *deaf)}
    found += [*units, *deaf]
    for channel, name in enumerate(NAMES[: min(usual.channels, len(measured.level))]):
        if spoilt.isdisjoint({name, BOTH}):
            found += _of_channel(usual, measured, channel, name, read)
    if measured.pair is None or deaf or not len(usual.templates) or not alone.has_two_signals(measured):
        return found
    apart = _relation_fault(usual, measured, read)
    still = [] if _upsets_levels(measured, found) else _not_running(usual, measured)
    if still and apart is None and (partly := _partly_exchanged(usual, measured, read)):
        return [*found, partly]
    if apart is not None and not (still and apart.kind in DELAYS):
        return [*found, apart]
    return [*found, *still]


def _upsets_levels(measured: Measured, found: Sequence[RecordingFault]) -> bool:
    """Whether something else explains why near hears less beyond far than usual."""
    return bool((measured.flat > FLAT_SHARE).any()) or any(
        fault.kind in ("gone", "units", "short") for fault in found
    )


def _range(values: Float, groups: Sequence[NDArray[np.intp]]) -> tuple[Float, Float]:
    """The lowest and the highest that normal clips of a domain reach, (n, C) to (C,): robust, not the extremes."""
    lows, highs = [], []
    for group in groups:
        middle = np.quantile(values[group], 0.5, axis=0, method="lower")  # a value that is there
        near = np.where(np.abs(values[group] - middle) <= UNITS_DB, values[group], np.nan)
        spread = MAD * np.nanmedian(np.abs(near - middle), axis=0)
        low, high = np.nanquantile(near, [0.05, 0.95], axis=0)
        lows.append(np.minimum(low, middle - SPREADS * spread))
        highs.append(np.maximum(high, middle + SPREADS * spread))
    return np.min(lows, axis=0), np.max(highs, axis=0)


def _spread(values: Float) -> Float:
    spread: Float = MAD * np.median(np.abs(values - np.median(values, axis=0)), axis=0)
    return spread


def by_domain(domains: Sequence[str]) -> list[NDArray[np.intp]]:
    """The numbers of the clips of each domain; small domains are not told apart."""
    labels = np.array(domains, dtype=object)
    groups = [np.flatnonzero(labels == domain) for domain in sorted(set(domains))]
    return groups if all(len(group) >= FEWEST_OF_DOMAIN for group in groups) else [np.arange(len(labels))]


def _relation(clips: Sequence[Measured], domains: Sequence[str]) -> dict[str, Any]:
    """What two channels have in common: everything of ``Usual`` that comes from ``Pair``."""
    pairs = [clip.pair for clip in clips if clip.pair is not None]
    if not pairs:
        return NO_RELATION
    rows = by_domain([d for clip, d in zip(clips, domains, strict=True) if clip.pair is not None])
    phases = np.stack([pair.phase for pair in pairs])
    templates = np.stack([template_of(phases[group].mean(axis=0), len(group)) for group in rows])
    return {
        "templates": templates,
        "agreement": usual_agreement(agreements(phases, rows, templates), phases.shape[1]),
        **levels_of(
            np.stack([pair.contrast for pair in pairs]), np.stack([pair.presence for pair in pairs]), rows
        ),
    }


def levels_of(contrast: Float, presence: Float, groups: Sequence[NDArray[np.intp]]) -> dict[str, Any]:
    """Everything of ``Usual`` that comes from the levels of near beside far.

    Parameters
    ----------
    contrast : (n, B) array
        As of ``Pair``.
    presence : (n, 1 + PARTS, 3 B) array
    groups : sequence of arrays
        Of the clips of each domain, as of ``by_domain``.
    """
    learnt = [_presence(presence[:, :1], groups, 0), _presence(presence[:, 1:], groups, 1)]
    return {
        "contrast": _contrast(contrast),
        "presence": np.stack([one[0] for one in learnt]),
        "precision": np.stack([one[1] for one in learnt]),
        "limits": np.stack([one[2] for one in learnt]),
    }


NO_RELATION: dict[str, Any] = {  # of one channel, or of clips that are too short
    "templates": np.zeros((0, 0), np.complex64),
    "agreement": np.zeros(4),
    "contrast": np.zeros((0, 0)),
    "presence": np.zeros((2, 0, 0)),
    "precision": np.zeros((2, 0, 0)),
    "limits": np.zeros((2, 0, 2)),
}


def template_of(mean: NDArray[np.complexfloating[Any]], n: int) -> NDArray[np.complex64]:
    """The mean of n unit phases, without the magnitude that unrelated ones would leave by chance: 1 / sqrt(n)."""
    power = np.abs(mean) ** 2
    kept = mean * np.sqrt(np.maximum(1 - 1 / (n * np.maximum(power, 1e-12)), 0))
    return kept.astype(np.complex64)


def _agreement(phases: NDArray[np.complex64], template: NDArray[np.complex64]) -> Float:
    """R of the module, of (..., F)."""
    return np.asarray((phases @ template.conj()).real / _weight(template), dtype=np.float64)


def _weight(template: NDArray[np.complex64]) -> float:
    """The energy of a template."""
    return max(float(np.vdot(template, template).real), 1e-12)


def _cosine(phase: NDArray[np.complex64], template: NDArray[np.complex64]) -> float:
    """c of the module, of (F,)."""
    return float(_agreement(phase, template)) * float(np.sqrt(_weight(template) / _weight(phase)))


def agreements(
    phases: NDArray[np.complex64],
    groups: Sequence[NDArray[np.intp]],
    templates: NDArray[np.complex64],
) -> Float:
    """c of each clip against the others of its domain, as it is and with its channels exchanged: (n, 2)."""
    found = np.empty((len(phases), 2))
    for group, template in zip(groups, templates, strict=True):
        for i in group:
            found[i] = agreement_with_others(phases[i], template, len(group))
    return found


def agreement_with_others(
    phase: NDArray[np.complex64], template: NDArray[np.complex64], n: int
) -> tuple[float, float]:
    """c of one of the n clips of a template against the others, as it is and with its channels exchanged."""
    others = (n * template - phase) / (n - 1) if n > 1 else template
    return _cosine(phase, others), _cosine(phase.conj(), others)


def usual_agreement(found: Float, bins: int) -> Float:
    """``Usual.agreement``, from what ``agreements`` gives; ``bins`` is F."""
    (middle, mirrored), (spread, of_mirrored) = np.median(found, axis=0).tolist(), _spread(found).tolist()
    closely = min(middle - CLOSELY * spread, 0.95 * middle)
    exchanged = max(mirrored + CLOSELY * of_mirrored, mirrored + 0.05 * middle)
    return np.array([middle, closely, exchanged, 1 / np.sqrt(2 * bins)])


def _contrast(contrasts: Float) -> Float:
    middle = np.median(contrasts, axis=0)
    kept = _inner(((contrasts - middle) ** 2).sum(axis=1))
    centred = contrasts[kept] - middle
    covariance = centred.T @ centred / len(centred) + CONTRAST_FLOOR * np.eye(contrasts.shape[1])
    return np.concatenate([middle[None], np.linalg.inv(covariance)])


def _inner(distance: Float) -> NDArray[np.intp]:
    """The three quarters of the rows with the smallest distances: what outliers cannot reach."""
    return np.argsort(distance, kind="stable")[: max(2, int(np.ceil(0.75 * len(distance))))]


def _presence(values: Float, groups: Sequence[NDArray[np.intp]], which: int) -> tuple[Float, Float, Float]:
    """Of recordings (``which`` 0) or parts (1), (n, parts, 3 B).

    The median of each domain, the inverse covariance, and the limits of ``Usual.limits``.
    """
    dim = values.shape[2]
    middles = np.stack([np.median(values[group].reshape(-1, dim), axis=0) for group in groups])
    centred = np.concatenate([values[group] - middles[i] for i, group in enumerate(groups)])
    if len(centred) < FEWEST_FOR_PRESENCE:
        return middles, np.zeros((dim, dim)), np.tile([np.inf, -np.inf], (len(groups), 1))
    inner = _inner(_deficit(centred))
    distance = _cross_fitted(centred, inner)
    starts = np.cumsum([0, *(len(group) for group in groups)])
    limits = [
        _limits(
            distance[some], mean_presence(centred[some].reshape(-1, dim)), float(np.median(distance)), which
        )
        for some in (slice(*ends) for ends in pairwise(starts.tolist()))
    ]
    return middles, _precision(centred[inner].reshape(-1, dim)), np.array(limits)


def _limits(distance: Float, deficit: Float, usually: float, which: int) -> list[float]:
    """Of the clips of one domain, whose few clips scatter more than their own median tells."""
    few = 1 + 4 / len(distance)
    farthest = max(PRESENCE_LIMITS[which] * max(usually, float(np.median(distance)) * few),
                   PRESENCE_MARGIN * few * float(np.quantile(distance, 0.7)))  # fmt: skip
    return [farthest, -max(PRESENCE_DB, PRESENCE_SPREADS[which] * few * float(_spread(deficit)))]


def _deficit(centred: Float) -> Float:
    """How much less than usual near hears beyond far, where that is least, (n, parts, 3 B) to (n,).

    So a quarter of the clips may be of a machine that is off, in part or whole, before they change what is usual.
    """
    present = np.stack([mean_presence(part) for part in np.moveaxis(centred, 1, 0)], axis=1)
    if present.shape[1] > 1:
        present = (present[:, :-1] + present[:, 1:]) / 2
    deficit: Float = -present.min(axis=1)
    return deficit


def _cross_fitted(rows: Float, inner: NDArray[np.intp]) -> Float:
    """Squared distances of (n, parts, dim), each by a covariance of the inner ones among the others: (n, parts)."""
    dim = rows.shape[2]
    found = np.empty(rows.shape[:2])
    for fold in range(FOLDS):
        own = np.arange(fold, len(rows), FOLDS)
        precision = _precision(rows[np.setdiff1d(inner, own)].reshape(-1, dim))
        found[own] = ((rows[own] @ precision) * rows[own]).sum(axis=-1)
    return found


def _precision(rows: Float) -> Float:
    covariance, _ = shrunk_covariance(rows)
    return np.asarray(np.linalg.inv(covariance + PRESENCE_FLOOR * np.eye(len(covariance))), dtype=np.float64)


def mean_presence(rows: Float) -> Float:
    """How much less near hears beyond far than usual, in dB: the mean over bands; (n, 3 B) to (n,)."""
    mean: Float = rows[:, : 2 * BANDS].mean(axis=1)
    return mean


def _length(usual: Usual, measured: Measured) -> list[RecordingFault]:
    shortest, longest = usual.seconds
    told = f"{shortest:.4g} s" if shortest == longest else f"{shortest:.4g} to {longest:.4g} s"
    if measured.seconds * LENGTH_MARGIN < shortest:
        message = (
            f"{measured.seconds:.4g} s long, but the training clips are {told}: scores of shorter clips vary "
            "more, so "
            "the threshold does not hold; record as long as for the fit"
        )
        return [RecordingFault("short", BOTH, message)]
    if measured.seconds > LENGTH_MARGIN * longest:
        message = (
            f"{measured.seconds:.4g} s long, but the training clips are {told}: this is one score for all of it, "
            "in which a short fault drowns; `nearfar score` gives a score for each window as long as those"
        )
        return [RecordingFault("long", BOTH, message)]
    return []


def _rate(usual: Usual, measured: Measured) -> RecordingFault:
    return RecordingFault(
        "rate",
        BOTH,
        f"recorded at {measured.rate} Hz, but the training clips at {usual.rate} Hz: filters of recorder and "
        "resampling differ, which alone changes the score; record as for the fit, or fit to clips like this one",
    )


def _beyond(usual: Usual, measured: Measured) -> Float:
    """By how many dB each channel lies above (positive) or below (negative) the levels of training: (C,)."""
    n = min(usual.channels, len(measured.level))
    level = measured.level[:n]
    return np.maximum(level - usual.level[1, :n], 0) - np.maximum(usual.level[0, :n] - level, 0)


def _relates(usual: Usual, measured: Measured) -> bool:
    """Whether near and far agree as in training; true if that cannot be told."""
    if measured.pair is None or not usual.is_telling:
        return True
    return usual.agreement_of(measured.pair.phase) >= LOST * usual.agreement[0]


def _units(usual: Usual, measured: Measured) -> list[RecordingFault]:
    """Levels that no sound explains: other units, other scaling, or another gain."""
    beyond = _beyond(usual, measured)
    moved = np.abs(beyond) > UNITS_DB
    quieter = beyond < 0
    real = _relates(usual, measured) and measured.pair is not None and usual.is_telling
    if not moved.any() or (quieter[moved].any() and not (real and moved.all())):
        return []  # a quiet channel that has lost its relation to the other is deaf
    names = NAMES[: len(beyond)]
    where = BOTH if moved.all() and len(moved) > 1 else names[int(np.abs(beyond).argmax())]
    middle = usual.level.mean(axis=0)[: len(beyond)]
    by = (measured.level[: len(beyond)] - middle)[int(np.abs(beyond).argmax())]
    peak = float(measured.peak[: len(beyond)].max())
    message = (
        f"{abs(by):.0f} dB {'louder' if by > 0 else 'quieter'} than the training clips (samples up to {peak:.3g}): "
        "other units or another gain; samples must be scaled as in training"
    )
    return [RecordingFault("units", where, message)]


def _deaf(usual: Usual, measured: Measured) -> list[RecordingFault]:
    """Channels that are quieter than ever, and no longer hear what the other hears."""
    beyond = _beyond(usual, measured)
    related = _relates(usual, measured)
    found = []
    n = len(beyond)
    channels = zip(NAMES[:n], beyond, measured.level[:n], measured.bands[:n], strict=True)
    for name, by, level, bands in channels:
        lost = not related or alone.is_white(bands) or (usual.channels > 1 and not usual.is_telling)
        if level >= alone.DEAD_DBFS and by < -DEAF_DB and (lost or by < -2 * UNITS_DB):
            message = (
                f"the {name} microphone is {-by:.0f} dB quieter than in any training clip ({level:.0f} dBFS) "
                "and no longer hears what it heard; check its cable, its supply and its gain"
            )
            found.append(RecordingFault("deaf", name, message))
    return found


def _of_channel(
    usual: Usual, measured: Measured, channel: int, name: str, read: Callable[[], Samples]
) -> list[RecordingFault]:
    levels = measured.blocks[channel]
    found = []
    quiet = levels < min(usual.quiet[channel] - GAP_MARGIN_DB, measured.loud(channel) - GAP_DB)
    start, length = alone.longest_run(quiet)
    gone = length >= alone.GAP_BLOCKS and measured.level[channel] >= alone.DEAD_DBFS
    if gone and not _still_hears(usual, measured, read, levels < usual.quiet[channel]):
        message = (
            f"the {name} microphone is gone {alone.describe_gap(start, length)}: quieter than any moment of the "
            "training clips; check for a loose plug or lost samples"
        )
        found.append(RecordingFault("gone", name, message))
    middle, spread = usual.offset[:, channel]
    moved = float(measured.mean[channel] - middle)
    rms = 10 ** (
        max(usual.level[:, channel].mean(), measured.level[channel]) / 20
    )  # a gain scales offsets, too
    by_chance = 2 * SPREADS * max(float(spread), rms / np.sqrt(measured.samples))  # means of short clips vary
    if abs(moved) > max(by_chance, OFFSET_SHARE * rms):
        message = (
            f"the {name} channel has an offset of {measured.mean[channel]:.2g}, in the training clips "
            f"{middle:.2g}; check the input's coupling"
        )
        found.append(RecordingFault("offset", name, message))
    return found


def _still_hears(
    usual: Usual, measured: Measured, read: Callable[[], Samples], quiet: NDArray[np.bool_]
) -> bool:
    """Whether a channel that is quiet for some blocks hears what the other hears: then the machine is quiet.

    Unrelated channels leave 1 / n of the energy of the mean of n unit phases, give or take 1 / (n sqrt(bins)). Only
    bins count in which the two have something in common in training.
    """
    if measured.pair is None or stands_still(usual, measured) is None:
        return False
    frames = unit_phases(read()[:2], measured.rate)
    ends = np.linspace(0, len(quiet), len(frames) + 1)
    inside = np.array([quiet[int(a) : int(np.ceil(b))].all() for a, b in pairwise(ends)])
    n = int(inside.sum())
    if n < 2:
        return False
    weight = (np.abs(usual.templates) ** 2).sum(axis=0)
    energy = float(np.average(np.abs(frames[inside].mean(axis=0)) ** 2, weights=weight + 1e-12))
    bins = float(weight.sum() ** 2 / (weight**2).sum())
    return (energy * n - 1) * np.sqrt(bins) > FOUND


def _relation_fault(usual: Usual, measured: Measured, read: Callable[[], Samples]) -> RecordingFault | None:
    """Why near and far do not belong together as in training, if they do not."""
    assert measured.pair is not None
    usually, low, high, _ = usual.agreement
    if not usual.is_telling:
        return _swapped_by_contrast(usual, measured)
    if low <= high and (swapped := _swapped_by_contrast(usual, measured)):
        return swapped  # sound arrives at both at once, so the phases of exchanged channels are the same
    phase = measured.pair.phase
    agreement = usual.agreement_of(phase)
    if agreement >= low and usual.agreement_of(phase.conj()) <= high:
        return None
    samples = read()[:2]
    frames, longer = (unit_phases(samples, measured.rate * times) for times in (1, LONG_FRAME))
    found = [
        explain(heard, template, measured)
        for explain, heard in ((_exchanged, frames), (_drifting, frames), (_late, longer))
        for template in usual.templates
    ]
    mean = frames.mean(axis=0)
    as_is = max(float(_agreement(mean, template)) for template in usual.templates)
    chance = max(1 / np.sqrt(2 * measured.seconds / FRAME_SECONDS * _weight(t)) for t in usual.templates)
    restored, fault = max(found, key=lambda explanation: explanation[0])
    if fault is not None and restored >= max(STRONGER * as_is, as_is + RESTORED, FOUND * chance):
        return fault
    if agreement < UNRELATED * usually:
        message = (
            f"near and far have nothing in common that they had in training (agreement {agreement:.2f}, usually "
            f"{usually:.2f}); check that both microphones are connected, and that they were not moved"
        )
        return RecordingFault("unrelated", BOTH, message)
    return None


Explanation = tuple[float, RecordingFault | None]  # R with it, and what it is


def _exchanged(
    frames: NDArray[np.complex64], template: NDArray[np.complex64], measured: Measured
) -> Explanation:
    """Near and far exchanged, from the beginning on or for a part of the clip."""
    as_is, exchanged = _agreement(frames, template), _agreement(frames.conj(), template)
    start, end = _largest(exchanged - as_is)
    restored = float(as_is.mean() + (exchanged - as_is)[start:end].sum() / len(frames))
    first, last = (frame / len(frames) * measured.seconds for frame in (start, end))
    where = "" if end - start >= len(frames) - 2 else f" from {first:.3g} to {last:.3g} s"
    message = f"near and far seem to be exchanged{where}; check which cable is in which input"
    return restored, RecordingFault("swapped", BOTH, message)


def _largest(gain: Float) -> tuple[int, int]:
    """Beginning and end of the run whose sum is largest, (n,)."""
    before = np.concatenate([[0.0], np.cumsum(gain)])
    end = int((before - np.minimum.accumulate(before)).argmax())
    return int(before[: end + 1].argmin()), end


def _drifting(
    frames: NDArray[np.complex64], template: NDArray[np.complex64], measured: Measured
) -> Explanation:
    """One channel that runs faster than the other: a line of delays over time."""
    lags = _lags(frames, template)
    n_frames, n_lags = lags.shape
    farthest = min(n_lags // 2, round(DRIFT_SECONDS * measured.rate))
    columns = np.arange(-farthest, farthest)
    time = np.linspace(0, measured.seconds, n_frames)
    slopes = np.linspace(-FASTEST_DRIFT, FASTEST_DRIFT, SLOPES)
    constant = float(lags[:, columns % n_lags].mean(axis=0).max())  # R of one and the same delay
    beyond = round(FASTEST_DRIFT * measured.seconds * measured.rate)
    around = lags[:, np.arange(-farthest - beyond, farthest + beyond) % n_lags]
    shifted = np.lib.stride_tricks.sliding_window_view(
        around, len(columns), axis=1
    )  # (frames, shifts, delays)
    best = (-np.inf, 0.0)
    for slope in slopes[np.abs(slopes) * measured.seconds >= DRIFT_LEAST]:
        shift = np.round(slope * time * measured.rate).astype(int)
        line = shifted[np.arange(n_frames), beyond + shift].mean(axis=0)
        best = max(best, (float(line.max()), float(slope)))
    if best[0] < DRIFT_STRONGER * constant:
        return -np.inf, None
    late = "near" if best[1] > 0 else "far"
    message = (
        f"the {late} channel falls behind the other by {abs(best[1]) * 1e6:.0f} millionths of the time; record "
        "both "
        "channels with one clock"
    )
    return best[0], RecordingFault("drifting", BOTH, message)


def _late(frames: NDArray[np.complex64], template: NDArray[np.complex64], measured: Measured) -> Explanation:
    """One channel that is late by more than air can explain; of frames that are ``LONG_FRAME`` times as long."""
    lags = _lags(frames, _longer(template)).mean(axis=0)
    lag = int(lags.argmax())
    signed = lag - len(lags) if lag > len(lags) // 2 else lag
    seconds = signed / measured.rate
    if abs(seconds) < LATE_SECONDS:
        return float(lags[lag]), None
    late = "near" if seconds > 0 else "far"
    message = (
        f"the {late} channel is {abs(seconds) * 1000:.3g} ms late, compared with the training clips; record both "
        "channels with one device"
    )
    return float(lags[lag]), RecordingFault("late", BOTH, message)


def _lags(frames: NDArray[np.complex64], template: NDArray[np.complex64]) -> NDArray[np.float32]:
    """R of each frame at every delay, (frames, lags): first 0, then near later; the last ones are negative."""
    lags: NDArray[np.float32] = scipy.fft.irfft(frames * template.conj())
    return lags * (lags.shape[1] / 2 / _weight(template))


def _longer(template: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """The same template for frames that are ``LONG_FRAME`` times as long."""
    response = scipy.fft.irfft(template)
    half = len(response) // 2
    longer = np.zeros(len(response) * LONG_FRAME, response.dtype)
    longer[:half], longer[-half:] = response[:half], response[half:]
    return np.asarray(scipy.fft.rfft(longer), np.complex64)


def _swapped_by_contrast(usual: Usual, measured: Measured) -> RecordingFault | None:
    """A fault if the levels are implausible as they are, and plausible with the channels exchanged.

    The odds are those of two Gaussians, one the mirror image of the other. Where both microphones hear much the
    same, many a swap goes unseen in a single clip; it is never claimed without cause.
    """
    assert measured.pair is not None
    heard, mean, precision = measured.pair.contrast, usual.contrast[0], usual.contrast[1:]
    as_is, exchanged = (float(r @ precision @ r) for r in (heard - mean, -heard - mean))
    if exchanged > PLAUSIBLE or (as_is - exchanged) / 2 < SWAP_LOG_ODDS:
        return None
    return RecordingFault(
        "swapped", BOTH, "near and far seem to be exchanged; check which cable is in which input"
    )


def _partly_exchanged(usual: Usual, measured: Measured, read: Callable[[], Samples]) -> RecordingFault | None:
    """A fault if the machine is there again once the channels are exchanged back, for a part of the clip.

    The part is the one that gains most log-odds by it. If the machine stands still, near and far are less unlike
    than those of a running machine, and an exchange gains less.
    """
    samples = read()[:2]
    mean, precision = usual.contrast[0], usual.contrast[1:]
    gain = -2 * frame_contrasts(samples, measured.rate) @ precision @ mean  # log-odds of each frame
    start, end = _largest(gain)
    of_an_exchange = 2 * float(mean @ precision @ mean)
    if end - start < 2 or gain[start:end].mean() < EXCHANGED * of_an_exchange:
        return None
    times = np.array([start, end]) / len(gain) * measured.seconds
    first, last = np.round(times * measured.rate).astype(int)
    back = samples.copy()
    back[:, first:last] = samples[::-1, first:last]
    if stands_still(usual, measure(back, measured.rate)) is not None:
        return None
    message = (
        f"near and far seem to be exchanged from {times[0]:.3g} to {times[1]:.3g} s; check which cable is in which "
        "input"
    )
    return RecordingFault("swapped", BOTH, message)


def _not_running(usual: Usual, measured: Measured) -> list[RecordingFault]:
    still = stands_still(usual, measured)
    if still is None:
        return []
    start, end = still
    when = "" if end - start >= measured.seconds else f" from {start:.3g} to {end:.3g} s"
    message = f"the machine seems not to run{when}: near hears only what far hears; is it switched on?"
    return [RecordingFault("not_running", "near", message)]


def stands_still(usual: Usual, measured: Measured, *, times: float = 1.0) -> tuple[float, float] | None:
    """From when until when the machine stands still, in seconds; ``None`` if it runs.

    Near then hears less beyond far than in any normal clip, in most bands.

    Parameters
    ----------
    usual : Usual
    measured : Measured
    times : float
        How far beyond the limits of ``Usual.limits``: more for fewer false claims.
    """
    whole, parts = _stillness(usual, None if measured.pair is None else measured.pair.presence)
    if whole > times:
        return 0.0, measured.seconds
    still = np.flatnonzero(parts > times)
    if len(still) == 0:
        return None
    return float(still[0] * measured.seconds / PARTS), float((still[-1] + 2) * measured.seconds / PARTS)


def how_still(usual: Usual, measured: Measured) -> float:
    """The largest ``times`` at which ``stands_still`` says so."""
    return how_still_by(usual, None if measured.pair is None else measured.pair.presence)


def how_still_by(usual: Usual, presence: Float | None) -> float:
    """As ``how_still``, of a recording of which only ``Pair.presence`` is known."""
    whole, parts = _stillness(usual, presence)
    return max(whole, float(parts.max(initial=-np.inf)))


def _stillness(usual: Usual, heard: Float | None) -> tuple[float, Float]:
    """How far a recording, and each two neighbouring parts, are beyond both limits; minus infinity if unknown."""
    if heard is None or not len(usual.templates):
        return -np.inf, np.zeros(0)
    whole = np.minimum(*_absence(usual, heard[:1], 0))
    distance, deficit = (np.convolve(x, [0.5, 0.5], mode="valid") for x in _absence(usual, heard[1:], 1))
    return float(whole[0]), np.minimum(distance, deficit)


def _absence(usual: Usual, rows: Float, which: int) -> tuple[Float, Float]:
    """Of recordings (``which`` 0) or parts (1), (n, 3 B), against the nearest domain, as shares of its limits.

    The squared distance from normal, and how much less than usual near hears beyond far.
    """
    residuals = rows - usual.presence[which][:, None]  # (domains, n, 3 B)
    limits = usual.limits[which]
    distance = ((residuals @ usual.precision[which]) * residuals).sum(axis=-1) / limits[:, :1]
    nearest = distance.argmin(axis=0)
    deficit = mean_presence(residuals[nearest, np.arange(len(rows))]) / limits[nearest, 1]
    return distance.min(axis=0), deficit
