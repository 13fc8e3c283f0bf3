"""What was recorded: levels over time, spectra, near beside far, the clocks of the channels, and clips to listen
to.

Conventions
-----------
Each clip is read once, by the look of `datasets.validation` that finds its problems; a few numbers are kept of
it. The few clips that are shown with their sound are read once more, because which they are is known at the
end. Bands are sixths of an octave from 50 Hz; levels are in dBFS, and those of all bands add up, as powers, to
that of the channel.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from nearfar.evidence.clock_offsets import ClockOffset, clock_offset
from nearfar.files.extras import MissingPackageError
from nearfar.recordings import audio
from nearfar.recordings.audio import FAR, NEAR, AudioError, Samples
from nearfar.recordings.cancellation import Canceller
from nearfar.recordings.clips import Clip, Dataset, Machine
from nearfar.recordings.inspection.measured import Measured, decibels, frame_length
from nearfar.recordings.transforms import framed, frames_at_once, hann
from nearfar.windows.clock import ClockError, clock_of

if TYPE_CHECKING:
    from nearfar.recordings.datasets.validation import Problem

Float = NDArray[np.float64]
Single = NDArray[np.float32]

LOWEST_HZ = 50.0
BANDS_AN_OCTAVE = 6
COURSE = 60  # places within a clip
# Hann windows that overlap by half have a correlation of 1/6, so that n of them count as n / (1 + 2 / 6**2): the
# formula of P. Welch (IEEE Transactions on Audio and Electroacoustics 15, 1967) for the variance of a mean.
OVERLAPPING = 1 + 2 / 6**2
PATTERNS = (  # of dates in names, tried in this order
    "%Y%m%d_%H%M%S", "%Y%m%d-%H%M%S", "%Y%m%dT%H%M%S", "%Y-%m-%d_%H-%M-%S", "%Y-%m-%dT%H-%M-%S", "%Y%m%d%H%M%S",
)  # fmt: skip
SHOWN = 8  # clips of a machine that can be heard
LOOKED_FOR = {  # kinds of problems, as the page names them
    "unlike": "Training clips that do not sound like the others",
    "not_running": "Clips of a machine that seems to be off",
    "swapped": "Near and far seem to be exchanged",
    "late": "One channel is late",
    "drifting": "The clocks of the channels differ",
    "unrelated": "Near and far have nothing in common",
    "identical": "Near and far are one signal",
}


@dataclass(frozen=True, slots=True, eq=False)
class ClipRecorded:
    """What is kept of a clip; C channels, at most two, and B bands.

    Attributes
    ----------
    clip : Clip
    rate : int
        In Hz.
    seconds : float
    began : datetime or None
        By the chunk ``bext`` of its file, or by its name.
    level : (C,) array
        In dBFS.
    quiet, loud : (C,) array
        What 5 % and 95 % of its blocks of 50 ms stay below.
    course : (C, COURSE) array
        Levels from its beginning to its end.
    bands : (C, B) array
    coherence : (B,) array
        Of near and far, without what chance gives; empty if there is one channel.
    offset : ClockOffset
    """

    clip: Clip
    rate: int
    seconds: float
    began: datetime | None
    level: Single
    quiet: Single
    loud: Single
    course: Single
    bands: Single
    coherence: Single
    offset: ClockOffset


@dataclass(frozen=True, slots=True, eq=False)
class Audible:
    """A clip that is shown with its sound.

    Attributes
    ----------
    clip : Clip
    about : str
        Why.
    rate : int
        In Hz.
    views : mapping from name to (samples,) array
        ``near``, and ``cancelled``, near without what far explains, if there is a far one.
    """

    clip: Clip
    about: str
    rate: int
    views: Mapping[str, Single]


@dataclass(frozen=True, slots=True, eq=False)
class MachineRecorded:
    """What was recorded of a machine.

    Attributes
    ----------
    name : str
    clips : tuple of ClipRecorded
        That could be read, and have the rate of most: in order of time if that is known of all; otherwise
        training clips first.
    unread : int
        How many could not be read.
    other_rate : int
        How many have another rate than most.
    by_time : bool
        Whether the clips are in order of time.
    edges : (B + 1,) array
        Of the bands, in Hz.
    problems : tuple of Problem
    audible : tuple of Audible
        A typical clip first, then clips that do not sound like the others.
    inaudible : int
        Of the latter, those that there was no room for.
    cutting : str
        How long recordings were cut; empty if none was.
    """

    name: str
    clips: tuple[ClipRecorded, ...]
    unread: int
    other_rate: int
    by_time: bool
    edges: Float
    problems: tuple[Problem, ...]
    audible: tuple[Audible, ...]
    inaudible: int
    cutting: str

    @property
    def train(self) -> tuple[ClipRecorded, ...]:
        """The training clips."""
        return tuple(one for one in self.clips if one.clip.split == "train")

    def of_kind(self, kind: str) -> tuple[Problem, ...]:
        """The problems of a kind."""
        return tuple(problem for problem in self.problems if problem.kind == kind)


@dataclass(frozen=True, slots=True, eq=False)
class DatasetRecorded:
    """What was recorded of all machines, and all problems of the data set in the order of ``nearfar check``."""

    name: str
    machines: tuple[MachineRecorded, ...]
    problems: tuple[Problem, ...]


def recorded(
    dataset: Dataset,
    cuttings: Mapping[str, object] | None = None,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    shown: int = SHOWN,
) -> DatasetRecorded:
    """Look at all clips of a data set.

    Parameters
    ----------
    dataset : Dataset
    cuttings : mapping from machine to Cutting, or None
        What ``windows.long_recordings.cut_dataset`` cut.
    workers : int
        Threads that read.
    progress : callable(clips read, clips in all) or None
    shown : int
        Clips of each machine that do not sound like the others and can be heard, at most.
    """
    from nearfar.recordings.datasets.validation import validate  # here, because it loads pandas
    from nearfar.recordings.inspection import training

    heard: dict[str, ClipRecorded] = {}

    def listen(clip: Clip) -> training.Seen:
        found = training.read(clip)
        if isinstance(found, training.Seen):
            return found
        seen = training.seen(clip, found)
        heard[clip.key] = _described(clip, found.samples, found.rate, seen.known)
        return seen

    problems = tuple(validate(dataset, workers=workers, progress=progress, listen=listen))
    cuttings = cuttings or {}
    machines = [
        _of_machine(machine, heard, problems, str(cuttings.get(machine.name, "")), shown)
        for machine in dataset
    ]
    return DatasetRecorded(dataset.name, tuple(machines), problems)


def _of_machine(
    machine: Machine, heard: Mapping[str, ClipRecorded], problems: Sequence[Problem], cutting: str, shown: int
) -> MachineRecorded:
    known = [heard[clip.key] for clip in machine.clips if clip.key in heard]
    rates = Counter((one.rate, len(one.level)) for one in known)
    usual = max(rates, key=lambda rate: (rates[rate], rate), default=(0, 0))
    clips, by_time = _in_order([one for one in known if (one.rate, len(one.level)) == usual])
    keys = {clip.key for clip in machine.clips}
    places = (machine.name, f"{machine.name}/")
    own = [p for p in problems if p.where in keys or p.where == places[0] or p.where.startswith(places[1])]
    unlike = {p.where: p.message for p in own if p.kind == "unlike"}
    odd = {problem.where for problem in own}
    chosen = [one for one in clips if one.clip.key in unlike]
    chosen.sort(key=lambda one: list(unlike).index(one.clip.key))
    audible = [*_typical(clips, odd), *((one, unlike[one.clip.key]) for one in chosen[:shown])]
    return MachineRecorded(
        name=machine.name,
        clips=tuple(clips),
        unread=len(machine.clips) - len(known),
        other_rate=len(known) - len(clips),
        by_time=by_time,
        edges=band_edges(usual[0]) if clips else np.zeros(0),
        problems=tuple(own),
        audible=tuple(heard_again for one, about in audible if (heard_again := _audible(one.clip, about))),
        inaudible=max(0, len(chosen) - shown),
        cutting=cutting,
    )


def _in_order(clips: Sequence[ClipRecorded]) -> tuple[list[ClipRecorded], bool]:
    """By time, if it is known of all, and all of it has a zone or none has; otherwise training clips first."""
    zones = {None if one.began is None else one.began.tzinfo is None for one in clips}
    if not clips or None in zones or len(zones) > 1:
        return sorted(clips, key=lambda one: one.clip.split == "test"), False
    return sorted(clips, key=lambda one: one.began or datetime.min), True


def _typical(clips: Sequence[ClipRecorded], odd: set[str]) -> list[tuple[ClipRecorded, str]]:
    """The training clip whose spectrum is nearest to the median of all without a problem."""
    normal = [one for one in clips if one.clip.split == "train" and one.clip.key not in odd]
    if not normal:
        return []
    rows = np.stack([one.bands.ravel() for one in normal])
    nearest = int(np.abs(rows - np.median(rows, axis=0)).mean(axis=1).argmin())
    return [(normal[nearest], "a typical training clip: its spectrum is nearest to the median of all")]


def _audible(clip: Clip, about: str) -> Audible | None:
    """The clip with its sound; ``None`` if it has gone in the meantime."""
    try:
        samples, rate = audio.read(clip.recording)
    except (AudioError, MissingPackageError, OSError):
        return None
    views = {"near": samples[NEAR]}
    if len(samples) > FAR:
        views["cancelled"] = Canceller(frame_length(rate))(samples[: FAR + 1])
    return Audible(clip, about, rate, views)


def band_edges(rate: int) -> Float:
    """Edges of the bands in Hz, (B + 1,): sixths of an octave, wider where a bin of the transform is wider."""
    bin_width = rate / frame_length(rate)
    top = rate / 2
    steps = np.arange(np.ceil(BANDS_AN_OCTAVE * np.log2(max(top / LOWEST_HZ, 1))))
    edges = np.append(LOWEST_HZ * 2 ** (steps / BANDS_AN_OCTAVE), top)
    bins = np.unique(np.round(edges / bin_width))
    return bins * bin_width if len(bins) > 1 else np.array([0.0, top])


def _described(clip: Clip, samples: Samples, rate: int, measured: Measured) -> ClipRecorded:
    heard = samples[: FAR + 1].astype(np.float32, copy=False)
    bands, coherence = spectra_of(heard, rate)
    quiet, loud = np.quantile(measured.blocks, [0.05, 0.95], axis=1)
    places = np.linspace(0, measured.blocks.shape[1], COURSE + 1)
    power = 10 ** (measured.blocks / 10)
    spans = [slice(int(a), max(int(np.ceil(b)), int(a) + 1)) for a, b in pairwise(places.tolist())]
    course = decibels(np.stack([power[:, span].mean(axis=1) for span in spans], axis=1))
    return ClipRecorded(
        clip=clip,
        rate=rate,
        seconds=measured.seconds,
        began=_began(clip, measured.seconds),
        level=measured.level.astype(np.float32),
        quiet=quiet.astype(np.float32),
        loud=loud.astype(np.float32),
        course=course.astype(np.float32),
        bands=bands.astype(np.float32),
        coherence=coherence.astype(np.float32),
        offset=clock_offset(heard, rate),
    )


def spectra_of(samples: Samples, rate: int) -> tuple[Float, Float]:
    """Levels of the bands of each channel, (C, B), and the coherence of near and far, (B,) or (0,).

    The coherence of a band is the mean over its bins of the magnitude-squared coherence, of which n independent
    frames of unrelated channels have 1 / n on average: that is taken away, and what is below 0 is 0.
    """
    length = frame_length(rate)
    bins = np.round(band_edges(rate) * length / rate).astype(int)
    frames = [framed(channel, length) for channel in samples]
    window = hann(length)
    power, cross = np.zeros((len(samples), length // 2 + 1)), np.zeros(length // 2 + 1, complex)
    for i in range(0, len(frames[0]), frames_at_once(length)):
        spectra = [scipy.fft.rfft(one[i : i + frames_at_once(length)] * window) for one in frames]
        power += [(one.real**2 + one.imag**2).sum(axis=0) for one in spectra]
        cross += (spectra[NEAR] * spectra[-1].conj()).sum(axis=0)
    count = max(samples.shape[1] / (length // 2), 1.0)
    scale = 2 / (count * length * float((window.astype(np.float64) ** 2).sum()))
    levels = decibels(np.add.reduceat(power[:, : bins[-1]], bins[:-1], axis=1) * scale)
    if len(samples) < 2:
        return levels, np.zeros(0)
    energy = power[NEAR] * power[FAR]
    common = np.divide(np.abs(cross) ** 2, energy, out=np.zeros_like(energy), where=energy > 0)
    mean = np.add.reduceat(common[: bins[-1]], bins[:-1]) / np.diff(bins)
    chance = OVERLAPPING / count
    return levels, np.clip((mean - chance) / (1 - chance), 0, 1) if chance < 1 else np.full_like(mean, np.nan)


def _began(clip: Clip, seconds: float) -> datetime | None:
    """When a clip began, by its file or its name; ``None`` if neither tells."""
    start = 0.0 if clip.span is None else clip.span.start / clip.span.rate
    for way in ("bext", *PATTERNS):
        try:
            clock = clock_of(clip.recording, way, seconds=seconds)
        except (ClockError, OSError):
            continue
        if clock is not None:
            return clock.at(start)
    return None


def attributes_of(clip: Clip) -> dict[str, str]:
    """The pairs of its attributes.

    Examples
    --------
    >>> from pathlib import Path
    >>> from nearfar import Clip
    >>> from nearfar.evidence.recorded import attributes_of
    >>> clip = Clip(Path("1.wav"), "press", 0, "train", "1.wav", attributes="speed_6_load_2")
    >>> attributes_of(clip)
    {'speed': '6', 'load': '2'}
    """
    parts = clip.attributes.split("_") if clip.attributes else []
    if len(parts) % 2:
        return {"attributes": clip.attributes}
    return dict(zip(parts[::2], parts[1::2], strict=True))


def groups_by(clips: Sequence[ClipRecorded], name: str) -> dict[str, list[ClipRecorded]]:
    """The clips by ``"domain"``, or by the value of an attribute; those without one are left out."""
    found: dict[str, list[ClipRecorded]] = defaultdict(list)
    for one in clips:
        value = one.clip.domain if name == "domain" else attributes_of(one.clip).get(name)
        if value:
            found[value].append(one)
    return dict(sorted(found.items()))


def quantiles_of(rows: Sequence[Single] | Float) -> Float:
    """5, 50 and 95 % of n rows: (n, ...) to (3, ...)."""
    return np.quantile(np.asarray(rows, dtype=np.float64), [0.05, 0.5, 0.95], axis=0)


@dataclass(frozen=True, slots=True)
class Drift:
    """What all clips of a machine tell about the clocks of its channels.

    Attributes
    ----------
    told, asked : int
        Clips of which the drift can be told, and all with two channels.
    ppm : float
        The median; NaN if it cannot be told.
    low, high : float
        Its 95 % interval, by the order of the values (binomial).
    delay_spread : float
        Seconds between the 5 % and the 95 % quantile of the delays.
    """

    told: int
    asked: int
    ppm: float = np.nan
    low: float = np.nan
    high: float = np.nan
    delay_spread: float = np.nan


FEWEST_DRIFTS = 6  # below, the extremes are no 95 % interval of the median: 2 / 2**6 is 3 %


def drift_of(clips: Sequence[ClipRecorded]) -> Drift:
    """The drift of the clips of a machine together: what moves blurs that of a single clip."""
    asked = [one.offset for one in clips if len(one.level) > 1]
    values = np.sort([offset.drift for offset in asked if not np.isnan(offset.drift)])
    delays = [offset.delay for offset in asked if not np.isnan(offset.delay)]
    if len(values) < FEWEST_DRIFTS:
        return Drift(len(values), len(asked))
    from scipy.stats import binom

    lowest = int(binom.ppf(0.025, len(values), 0.5))
    low, high = values[max(lowest - 1, 0)], values[min(len(values) - lowest, len(values) - 1)]
    spread = float(np.ptp(np.quantile(delays, [0.05, 0.95]))) if delays else np.nan
    return Drift(len(values), len(asked), float(np.median(values)), float(low), float(high), spread)
