"""The look at all training clips of a machine: which cannot be used, are copies, or do not sound like the others.

Conventions
-----------
The look must not be fooled by the outliers that it looks for. So what is usual comes from medians and from the
inner three quarters of the clips, and a fault that more than a third of the clips have is no outlier: it is a
problem of the whole set, and then nothing is left out. Faults of the *machine* that may hide among the clips
are never left out; ``Look.unlike`` lists them.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import pairwise
from statistics import median
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nearfar.files.extras import MissingPackageError
from nearfar.files.memory import keep_freed_memory
from nearfar.recordings import audio
from nearfar.recordings.audio import INT16_SCALE, AudioError, Header, Note, Recorded, Samples
from nearfar.recordings.clips import Clip, DatasetError, Machine
from nearfar.recordings.inspection import copies, unlike
from nearfar.recordings.inspection.alone import faults_alone
from nearfar.recordings.inspection.faults import RecordingFault, each_once, of_notes
from nearfar.recordings.inspection.measured import Float, Measured, measure
from nearfar.recordings.inspection.traits import Traits
from nearfar.recordings.inspection.usual import (
    LENGTH_MARGIN,
    SURELY,
    Usual,
    faults_against,
    how_still,
    stands_still,
)
from nearfar.recordings.microphones import MICROPHONES, Microphone
from nearfar.recordings.transforms import Transforms

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
OddClips = Literal["leave out", "refuse", "keep"]

MANY = 1 / 3  # of the clips: what so many have is no outlier
ROUNDS = 4  # of learning what is usual, and leaving out what is not
SHOWN = 5  # clips that a message names
DATED_SHARE = 0.9  # of the clips, whose names tell the day
_DATE = re.compile(r"(?<!\d)(20\d\d)([-_.]?)(\d\d)\2(\d\d)(?!\d{1,3}(?!\d))")
OFF = "not_running"
MAYBE = 0.5  # times the limits of a machine that runs, from where on clips of one that is off
APART = 1.15  # are that many times as still as the others, with none between
NO_TARGET = "no target-domain training clips"
FEWEST_OFF, OFF_SHARE = 3, 0.05  # clips of a machine that is off: not by chance
UNFIT = (
    "missing",
    "empty",
    "unreadable",
    "truncated",
    "not_finite",
    "refused",
    "rate",
    "channels",
    "dead",
    "identical",
)


@dataclass(frozen=True, slots=True)
class Suspect:
    """A training clip, and what is wrong with it.

    Attributes
    ----------
    clip : Clip
    kind : str
        A kind of ``faults.KINDS``; or ``copy``, ``rate``, ``channels``, ``length``, or why it cannot be read.
    message : str
    """

    clip: Clip
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.clip.recording}: {self.message.removeprefix(f'{self.clip.recording}: ')}"


@dataclass(frozen=True)
class Look:
    """What the training clips of a machine showed.

    Attributes
    ----------
    kept : tuple of Clip
        That a detector can be fitted to.
    left_out : tuple of Suspect
        What is certainly broken, or a copy.
    noticed : tuple of (Clip, RecordingFault)
        What was found in clips that are kept.
    unlike : tuple of Suspect
        Kept clips that do not sound like the others: perhaps faults of the machine.
    problems : tuple of str
        Why no detector can be fitted to these clips as they are.
    problem_kinds : tuple of str
        What each of the problems is about, as of ``Suspect.kind``.
    warnings : tuple of str
    header : Header or None
        Of one of the kept clips: all have its rate and its number of channels.
    usual : Usual or None
        What the kept clips have in common.
    traits : Traits or None
        What is kept of each of them, to learn that again with others.
    median_seconds : float
        Of the lengths of these clips; 0 without any.
    """

    kept: tuple[Clip, ...]
    left_out: tuple[Suspect, ...]
    noticed: tuple[tuple[Clip, RecordingFault], ...]
    unlike: tuple[Suspect, ...]
    problems: tuple[str, ...]
    problem_kinds: tuple[str, ...]
    warnings: tuple[str, ...]
    header: Header | None
    usual: Usual | None
    median_seconds: float
    traits: Traits | None = None

    @property
    def fault_counts(self) -> dict[str, int]:
        """In how many of the kept clips each fault was found."""
        counts = Counter(f"{fault.microphone} {fault.kind}" for _, fault in self.noticed)
        return dict(sorted(counts.items()))


@dataclass(frozen=True, slots=True)
class Seen:
    """A clip that was read: its header and measurements, or why it cannot be used."""

    clip: Clip
    header: Header | None = None
    measured: Measured | None = None
    notes: tuple[Note, ...] = ()
    digest: bytes = b""
    error: tuple[str, str] | None = None  # its kind, and the message
    sound: unlike.Row | None = field(
        default=None, kw_only=True, compare=False, repr=False
    )  # of a training clip
    held: Samples | NDArray[np.int16] | None = field(default=None, kw_only=True, compare=False, repr=False)

    @property
    def seconds(self) -> float:
        return self.known.seconds

    @property
    def n_channels(self) -> int:
        """How many channels it has."""
        return 0 if self.header is None else self.header.channels

    @property
    def known(self) -> Measured:
        """The measurements of a clip that can be used."""
        assert self.measured is not None
        return self.measured

    @property
    def recording(self) -> str:
        """The recording that the clip is a part of; empty if it is all of it."""
        return "" if self.clip.span is None else str(self.clip.path)

    def again(self) -> Samples:
        """Its samples for a closer look: from memory, or read again."""
        if self.held is None:
            return audio.read(self.clip.recording)[0]
        if self.held.dtype == np.int16:
            return self.held * np.float32(INT16_SCALE)
        return np.asarray(self.held, dtype=np.float32)


def listen(clip: Clip) -> Seen:
    """Read a clip once, measure it and let it go."""
    recorded = read(clip)
    return recorded if isinstance(recorded, Seen) else seen(clip, recorded)


def read(clip: Clip) -> Recorded | Seen:
    """What was recorded; of a clip that cannot be used, its record, which says why."""
    try:
        return audio.read_recorded(clip.recording)
    except FileNotFoundError as error:
        return Seen(clip, error=("missing", str(error)))
    except MissingPackageError as error:
        return Seen(clip, error=("unreadable", f"{clip.recording}: {error}"))
    except AudioError as error:
        return Seen(clip, error=(error.fault, str(error)))
    except OSError as error:
        return Seen(clip, error=("unreadable", f"{clip.recording}: {error.strerror or error}"))


def seen(clip: Clip, recorded: Recorded, *, hold: bool = False, transforms: Transforms | None = None) -> Seen:
    """Measure what was recorded.

    Parameters
    ----------
    clip : Clip
    recorded : Recorded
    hold : bool
        Keep the samples in memory for ``Seen.again``, so that nothing is read twice: as 16-bit integers where these
        are the samples exactly.
    transforms : Transforms or None
        Of the samples, if others look at them, too.
    """
    samples = recorded.samples
    return Seen(
        clip,
        recorded.header,
        measure(samples, recorded.rate),
        recorded.notes,
        copies.digest(samples),
        sound=unlike.sound(samples, recorded.rate, transforms) if clip.split == "train" else None,
        held=_small(samples) if hold else None,
    )


def _small(samples: Samples) -> Samples | NDArray[np.int16]:
    """The same samples, as 16-bit integers if these lose nothing."""
    whole = np.rint(np.clip(samples, -1, 1) / np.float32(INT16_SCALE))
    small = np.clip(whole, -32768, 32767).astype(np.int16)
    return small if np.array_equal(small * np.float32(INT16_SCALE), samples) else samples


def look(
    machine: Machine,
    *,
    needs: Sequence[Microphone] = tuple(MICROPHONES.values()),
    workers: int = 1,
    progress: Progress | None = None,
) -> Look:
    """Look at every training clip of a machine.

    Parameters
    ----------
    machine : Machine
    needs : sequence of Microphone
        The microphone views that are to be used: a fault that spoils none of them leaves a clip in.
    workers : int
        Threads.
    progress : callable or None
        Called with (clips done, all of them).
    """
    keep_freed_memory()
    seen = []
    for one in audio.each(machine.train, listen, workers=workers):
        seen.append(one)
        if progress is not None:
            progress(len(seen), len(machine.train))
    return judge(machine.name, seen, needs)


def judge(name: str, seen: Sequence[Seen], needs: Sequence[Microphone]) -> Look:
    """As ``look``, of training clips that have been read.

    Parameters
    ----------
    name : str
        Of the machine.
    seen : sequence of Seen
    needs : sequence of Microphone
    """
    sieve = _Sieve(name, len(seen), list(seen), [])
    sieve.drop([Suspect(one.clip, *one.error) for one in seen if one.error is not None])
    for unlike_the_most in (_other_format, _other_length):
        sieve.drop_unless_many(unlike_the_most(sieve.kept))
    alone = {one.clip: [*of_notes(one.notes), *faults_alone(one.known)] for one in sieve.kept}
    sieve.drop_unless_many(_spoilt(alone, needs))
    sieve.drop(_copies(sieve.kept))
    usual, compared = _compare(sieve, needs)
    found = [(one.clip, f) for one in sieve.kept for f in each_once(alone[one.clip] + compared[one.clip])]
    return Look(
        kept=tuple(one.clip for one in sieve.kept),
        left_out=tuple(sieve.dropped),
        noticed=tuple(found),
        unlike=tuple(_unlike(sieve.kept)),
        problems=tuple(sieve.problems),
        problem_kinds=tuple(sieve.problem_kinds),
        warnings=tuple(_warnings(name, sieve.kept)),
        header=sieve.kept[-1].header if sieve.kept else None,
        usual=usual,
        traits=_traits(sieve.kept),
        median_seconds=median([one.seconds for one in sieve.kept] or [0.0]),
    )


def _traits(seen: Sequence[Seen]) -> Traits | None:
    """What is kept of clips; ``None`` if there are none, or they differ in rate or channels."""
    if len({(_format(one, "rate"), len(one.known.level)) for one in seen}) != 1:
        return None
    counted = np.zeros(len(seen), dtype=bool)
    counted[majority([one.known for one in seen])] = True
    return Traits.of([one.known for one in seen], [_domain(one) for one in seen], counted)


def inspect(
    machine: Machine,
    seen: Sequence[Seen],
    *,
    needs: Sequence[Microphone],
    rate: int,
    min_samples: int,
    odd_clips: OddClips = "leave out",
) -> Look:
    """Look at every training clip of a machine before a fit; log what was found.

    Parameters
    ----------
    machine : Machine
    seen : sequence of Seen
        Its training clips, read.
    needs : sequence of Microphone
        The microphone views that are to be used.
    rate : int
        At which they are used, in Hz.
    min_samples : int
        That a clip must have at this rate.
    odd_clips : {"leave out", "refuse", "keep"}
        Clips that are certainly broken, or copies, are left out; or they are refused; or everything that can be
        read is kept, because a protocol says so.

    Raises
    ------
    DatasetError
        If no detector can be fitted to the clips, with everything that is wrong.
    """
    found = judge(machine.name, seen, needs)
    refused = list(found.problems)
    if odd_clips == "keep":
        refused = [
            message
            for kind, message in zip(found.problem_kinds, found.problems, strict=True)
            if kind in UNFIT
        ]
        refused += [str(one) for one in found.left_out if one.kind in UNFIT]
        found = _keeping_all(machine, found)
    elif odd_clips == "refuse":
        refused += [str(one) for one in found.left_out]
    if not refused and found.header is not None:
        refused = _unsuited(machine.name, found.header, needs, rate, min_samples)
    if refused or not found.kept:
        raise DatasetError(refused or [str(one) for one in found.left_out])
    _log(machine, found)
    return found


def _keeping_all(machine: Machine, found: Look) -> Look:
    """The same look, with nothing left out; what would have been is a warning."""
    told = tuple(f"{suspect}; kept" for suspect in found.left_out)
    return replace(
        found,
        kept=machine.train,
        traits=found.traits if len(found.kept) == len(machine.train) else None,
        left_out=(),
        unlike=(),
        warnings=(*found.problems, *told, *found.warnings),
        problems=(),
        problem_kinds=(),
    )


@dataclass
class _Sieve:
    """The clips that are still kept, and why the others are not."""

    name: str
    total: int
    kept: list[Seen]
    dropped: list[Suspect]
    problems: list[str] = field(default_factory=list)
    problem_kinds: list[str] = field(default_factory=list)

    def drop(self, suspects: Sequence[Suspect]) -> None:
        """Leave these out."""
        first = {suspect.clip: suspect for suspect in reversed(suspects)}
        self.dropped += [first[one.clip] for one in self.kept if one.clip in first]
        self.kept = [one for one in self.kept if one.clip not in first]

    def drop_unless_many(self, suspects: Sequence[Suspect]) -> None:
        """Leave these out; but if they are too many to be outliers, tell it as a problem of the whole set."""
        for kind, of_kind in _by_kind(suspects):
            if len({suspect.clip for suspect in of_kind}) > MANY * self.total:
                self.problem_kinds.append(kind)
                self.problems.append(
                    f"{self.name}: {len(of_kind)} of {self.total} training clips ({kind}), too many to be left "
                    f"out: {_few(of_kind)}; look which clips are right, and remove or repair the others"
                )
            else:
                self.drop(of_kind)


def _other_format(seen: Sequence[Seen]) -> list[Suspect]:
    """Clips of another rate, or another number of channels, than most."""
    suspects: list[Suspect] = []
    for kind, unit in (("rate", "Hz"), ("channels", "channels")):
        values = Counter(_format(one, kind) for one in seen)
        usual = max(values, key=lambda value: (values[value], -value), default=0)
        suspects += [
            Suspect(one.clip, kind, f"{_format(one, kind)} {unit}, but most training clips have {usual}")
            for one in seen
            if _format(one, kind) != usual
        ]
    return suspects


def _format(one: Seen, kind: str) -> int:
    return one.known.rate if kind == "rate" else one.n_channels


def _of_one_format(seen: Sequence[Seen]) -> list[Seen]:
    """Those of the rate and the number of channels that most have: only these can be compared."""
    formats = [(one.known.rate, len(one.known.level)) for one in seen]
    ((usual, _),) = Counter(formats).most_common(1)
    return [one for one, kind in zip(seen, formats, strict=True) if kind == usual]


def _other_length(seen: Sequence[Seen]) -> list[Suspect]:
    """Clips of another length than most: the largest group within ``LENGTH_MARGIN`` is usual."""
    if not seen:
        return []
    seconds = np.array([one.seconds for one in seen])
    ascending = np.sort(seconds)
    within = np.searchsorted(ascending, seconds * LENGTH_MARGIN, side="right")
    within -= np.searchsorted(ascending * LENGTH_MARGIN, seconds, side="left")
    usual = float(seconds[within.argmax()])
    return [
        Suspect(
            one.clip, "length", f"{one.seconds:.4g} s long, but most training clips are {usual:.4g} s long"
        )
        for one in seen
        if not (one.seconds <= usual * LENGTH_MARGIN and one.seconds * LENGTH_MARGIN >= usual)
    ]


def _spoilt(faults: dict[Clip, list[RecordingFault]], needs: Sequence[Microphone]) -> list[Suspect]:
    return [
        Suspect(clip, fault.kind, fault.message)
        for clip, found in faults.items()
        for fault in found
        if fault.spoils(needs)
    ]


def _copies(seen: Sequence[Seen]) -> list[Suspect]:
    seen = sorted(seen, key=lambda one: copies.originals_first(one.clip.name))
    found = copies.find_copies(
        [one.digest for one in seen],
        [one.known for one in seen],
        lambda number: seen[number].again(),
        recordings=[one.recording for one in seen],
    )
    return [
        Suspect(seen[copy].clip, "copy", f"a copy of {seen[first].clip.name}")
        for copy, first in found.items()
    ]


def _compare(
    sieve: _Sieve, needs: Sequence[Microphone]
) -> tuple[Usual | None, dict[Clip, list[RecordingFault]]]:
    """What is usual, and how each clip differs; clips that differ too much are left out, and it is learnt again."""
    usual: Usual | None = None
    faults: dict[Clip, list[RecordingFault]] = {}
    for _ in range(ROUNDS):
        if not sieve.kept:
            return None, faults
        alike = _of_one_format(sieve.kept)
        learnt_from = [alike[i] for i in majority([one.known for one in alike])]
        usual = Usual.of([one.known for one in learnt_from], [_domain(one) for one in learnt_from])
        if sieve.problems:  # what so many odd clips have in common is no measure of the others
            return usual, {one.clip: [] for one in sieve.kept}
        faults = {one.clip: faults_against(usual, one.known, one.again) for one in sieve.kept}
        before = len(sieve.kept)
        suspects = _spoilt(faults, needs)
        suspects += _off(sieve, usual, faults)
        sieve.drop_unless_many(suspects)
        if len(sieve.kept) == before:
            break
    if usual is not None:
        usual = usual.allowing([one.known for one in sieve.kept])
        faults = {
            one.clip: [f for f in faults[one.clip] if f.kind != OFF or stands_still(usual, one.known)]
            for one in sieve.kept
        }
    return usual, faults


def _off(sieve: _Sieve, usual: Usual, faults: Mapping[Clip, Sequence[RecordingFault]]) -> list[Suspect]:
    """Clips of a machine that does not run: those beyond doubt; or several that stand apart from the others.

    Clips that were left out in an earlier round do not count as several: beside them, any chance gap among the
    others would be enough.
    """
    found = [(one, fault) for one in sieve.kept for fault in faults[one.clip] if fault.kind == OFF]
    stillness = [how_still(usual, one.known) for one in sieve.kept]
    few = len(found) < max(FEWEST_OFF, OFF_SHARE * sieve.total)
    times = SURELY if few else min(SURELY, where_apart(stillness))
    suspects = []
    for one, still in zip(sieve.kept, stillness, strict=True):
        when = stands_still(usual, one.known, times=times) if still > times else None
        if when is not None:
            where = "" if when == (0.0, one.seconds) else f" from {when[0]:.3g} to {when[1]:.3g} s"
            suspects.append(
                Suspect(one.clip, OFF, f"the machine seems not to run{where}, unlike in other clips")
            )
    return suspects


def where_apart(stillness: Sequence[float]) -> float:
    """Where the widest gap above ``MAYBE`` begins; infinite if there is none: then the clips are one group.

    Parameters
    ----------
    stillness : sequence of float
        Of each clip, as of ``how_still``: above 1 the machine seems not to run.
    """
    ordered = sorted(value for value in stillness if value > MAYBE)
    if ordered and ordered[0] > 1:
        return MAYBE
    gaps = [(high / low, low) for low, high in pairwise(ordered) if low < 1]
    widest, start = max(gaps, default=(0.0, np.inf))
    return start if widest > APART else np.inf


def unlike_by_score(clips: Sequence[Clip], scores: Mapping[str, float]) -> list[Suspect]:
    """Clips that a detector finds unlike the others, the most conspicuous first: perhaps faults of the machine.

    Suspicion by chance is held down as in ``unlike``. Domains of few clips are not judged.

    Parameters
    ----------
    clips : sequence of Clip
    scores : mapping from key to float
        Anomaly scores, each by a fit that has not seen the clip.
    """
    found = []
    for domain in dict.fromkeys(clip.domain for clip in clips):
        known = [clip for clip in clips if clip.domain == domain and scores.get(clip.key, 0) > 0]
        if len(known) >= unlike.FEWEST:
            values = np.array([scores[clip.key] for clip in known])
            judged = unlike.suspicion(values / np.median(values), [np.arange(len(known))])
            found += [(judged.distance[i], known[i]) for i in np.flatnonzero(judged.suspected).tolist()]
    found.sort(key=lambda one: -one[0])
    return [
        Suspect(clip, "unlike", f"the detector finds it {times:.1f} times as unlike the others as usual")
        for times, clip in found
    ]


def _domain(one: Seen) -> str:
    return one.clip.domain or ""


def majority(measured: Sequence[Measured]) -> list[int]:
    """The clips whose channels are not exchanged against those of most.

    An exchange turns the sign of the levels of near over far, and of the imaginary part of the cross-spectrum.
    So the first singular vector of these, without a mean, tells two groups apart, whatever their sizes.
    """
    pairs = [one.pair for one in measured]
    if any(pair is None for pair in pairs) or len(pairs) < 2:
        return list(range(len(measured)))
    rows = np.stack([_odd_part(pair.phase, pair.contrast) for pair in pairs if pair is not None])
    positive = _first_singular(rows) > 0
    if positive.sum() * 2 < len(positive):
        positive = ~positive
    kept = np.flatnonzero(positive).tolist()
    return kept if len(kept) >= 2 else list(range(len(measured)))


def _first_singular(rows: Float) -> Float:
    """The first left singular vector of (n, dim), with any sign and length: (n,).

    By the Gram matrix of the shorter side, so that thousands of clips cost no more than there are dimensions.
    """
    n, dim = rows.shape
    if n <= dim:
        return _last_eigenvector(rows @ rows.T)
    return np.asarray(rows @ _last_eigenvector(rows.T @ rows))


def _last_eigenvector(gram: Float) -> Float:
    """Of a symmetric matrix, that of the largest eigenvalue."""
    from scipy.linalg import eigh  # here, because a verdict does not need it

    last = len(gram) - 1
    vectors: Float = eigh(gram, subset_by_index=(last, last))[1]
    return vectors[:, 0]


def _odd_part(phase: NDArray[np.complex64], contrast: Float) -> Float:
    """What an exchange of the channels turns around, both halves with the same weight."""
    return np.concatenate([phase.imag / np.sqrt(len(phase)), 0.1 * contrast / np.sqrt(len(contrast))])


def _unlike(seen: Sequence[Seen]) -> list[Suspect]:
    """Clips that do not sound like the others of their domain, the most conspicuous first."""
    known = [one for one in seen if one.sound is not None]
    if len({(_format(one, "rate"), len(_row(one))) for one in known}) != 1:
        return []
    rows = np.stack([_row(one) for one in known])
    domains = [_domain(one) for one in known]
    found = unlike.unlikeness(rows, domains, [one.clip.attributes for one in known])
    suspects = []
    for i in np.argsort(-np.nan_to_num(found.distance), kind="stable").tolist():
        if found.suspected[i]:
            others = [j for j, d in enumerate(domains) if d == domains[i] and not found.suspected[j]]
            where = unlike.in_what(rows[i], rows[others], _format(known[i], "rate"))
            message = f"{found.distance[i]:.1f} times as far from the other training clips as usual; {where}"
            suspects.append(Suspect(known[i].clip, "unlike", message))
    return suspects


def _row(one: Seen) -> unlike.Row:
    assert one.sound is not None
    return one.sound


def _warnings(name: str, seen: Sequence[Seen]) -> Iterator[str]:
    domains = {one.clip.domain for one in seen}
    if domains == {"source"}:
        yield (f"{name}: {NO_TARGET}; the detector knows only the conditions of the source domain")
    days = [day for one in seen if (day := _day(one.clip.name)) is not None]
    if len(seen) > 1 and len(days) >= DATED_SHARE * len(seen) and len(set(days)) == 1:
        yield (
            f"{name}: all training clips are from one day, {days[0]}, by their names; other days may sound "
            "unlike it, so record on several"
        )


def _day(name: str) -> date | None:
    """The day that a file name tells."""
    for match in _DATE.finditer(name):
        try:
            return date(int(match[1]), int(match[3]), int(match[4]))
        except ValueError:
            continue
    return None


def _unsuited(
    name: str, header: Header, needs: Sequence[Microphone], rate: int, min_samples: int
) -> list[str]:
    """Why clips like these cannot be used by a system, though nothing is wrong with them."""
    found = []
    channels = max(microphone.channels for microphone in needs)
    if header.channels < channels:
        found.append(
            f"{name}: the clips have {header.channels} channel, but this system needs {channels} microphones "
            "(near, "
            "far); record both, or choose a system for one microphone, such as spectral_near"
        )
    if header.seconds < min_samples / rate:
        found.append(
            f"{name}: the clips are {header.seconds:.3f} s long; at least {min_samples / rate:.3f} s are needed"
        )
    try:
        audio.require_rate(header.rate, rate, name)
    except AudioError as error:
        found.append(str(error))
    return found


def _log(machine: Machine, found: Look) -> None:
    """Say what was left out, what was found in clips that are kept, and what may be wrong with them."""
    for kind, suspects in _by_kind(found.left_out):
        logger.warning("%s: left out %d of %d training clips (%s): %s",
                       machine.name, len(suspects), len(machine.train), kind, _few(suspects))  # fmt: skip
    for fault, count in found.fault_counts.items():
        logger.warning("%s: %s in %d of %d training clips", machine.name, fault, count, len(found.kept))
    warn_of_unlike(machine.name, found.unlike)
    for warning in found.warnings:
        logger.warning("%s", warning)


def warn_of_unlike(name: str, suspects: Sequence[Suspect]) -> None:
    """Ask to listen to clips that do not sound like the others."""
    if suspects:
        logger.warning(
            "%s: most unlike the other training clips: %s; listen to them, because a fault among the clips hides "
            "such faults later",
            name, _few(suspects),
        )  # fmt: skip


def _by_kind(suspects: Sequence[Suspect]) -> list[tuple[str, list[Suspect]]]:
    kinds = dict.fromkeys(suspect.kind for suspect in suspects)
    return [(kind, [suspect for suspect in suspects if suspect.kind == kind]) for kind in kinds]


def _few(suspects: Sequence[Suspect]) -> str:
    """The first one with what is wrong, some names, and how many there are."""
    names = [suspect.clip.name for suspect in suspects[1:SHOWN]]
    more = f"; also {', '.join(names)}" if names else ""
    return f"{suspects[0]}{more}{', ...' if len(suspects) > SHOWN else ''}"
