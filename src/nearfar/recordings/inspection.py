"""A look at the training clips of a machine before anything is fitted: all problems at once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError, Header
from nearfar.recordings.clips import Clip, DatasetError, Machine
from nearfar.recordings.microphones import Microphone, MicrophoneFault, Placement, contrast, health
from nearfar.recordings.recording import missing_track

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the training clips have in common.

    Attributes
    ----------
    header : Header
        Of one of them: all have its rate and its number of channels.
    faults : mapping from kind to int
        In how many clips each microphone fault was found.
    placement : Placement or None
        How near differs from far, if there are two microphones.
    """

    header: Header
    faults: dict[str, int]
    placement: Placement | None


def inspect(
    machine: Machine,
    *,
    needs: Sequence[Microphone],
    rate: int,
    min_samples: int,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Look at every training clip of a machine.

    Parameters
    ----------
    machine : Machine
    needs : sequence of Microphone
        The microphone views that are to be used.
    rate : int
        At which they are used, in Hz.
    min_samples : int
        That a clip must have at this rate.
    workers : int
        Threads.
    progress : callable or None
        Called with (clips done, all of them).

    Raises
    ------
    DatasetError
        If clips cannot be used; everything that is wrong with them.
    """
    clips = machine.train
    header = _common_header(machine, max(microphone.channels for microphone in needs))
    looks = []
    for look in audio.each(clips, lambda clip: _look_at(clip, rate, min_samples), workers=workers):
        looks.append(look)
        if progress is not None:
            progress(len(looks), len(clips))
    if problems := [p for clip, look in zip(clips, looks, strict=True) for p in look.problems(clip, needs)]:
        raise DatasetError(problems)
    faults = Counter[str](f"{fault.microphone} {fault.kind}" for look in looks for fault in look.faults)
    _warn(machine, faults)
    contrasts = [look.contrast for look in looks if look.contrast is not None]
    return Inspection(header, dict(sorted(faults.items())), Placement.of(contrasts) if contrasts else None)


def _warn(machine: Machine, faults: Counter[str]) -> None:
    """Say what a detector can be fitted with, but should not."""
    clips = machine.train
    for fault, count in sorted(faults.items()):
        logger.warning("%s: %s in %d of %d training clips", machine.name, fault, count, len(clips))
    if {c.domain for c in clips} == {"source"}:
        logger.warning(
            "%s: no target-domain training clips; the detector knows only the conditions of the source domain",
            machine.name,
        )


@dataclass(frozen=True, slots=True)
class _Look:
    """What one clip showed: microphone faults, the contrast of two channels, why it cannot be used."""

    faults: tuple[MicrophoneFault, ...] = ()
    contrast: NDArray[np.float64] | None = None
    problem: str = ""

    def problems(self, clip: Clip, needs: Sequence[Microphone]) -> list[str]:
        """Why the clip cannot be used by views of these microphones."""
        unusable = [self.problem] if self.problem else []
        spoilt = [fault for fault in self.faults if any(m.is_spoilt_by(fault) for m in needs)]
        return unusable + [f"{clip.path}: {fault.message}" for fault in spoilt]


def _look_at(clip: Clip, rate: int, min_samples: int) -> _Look:
    try:
        samples = audio.load(clip.recording, rate)
        audio.require_length(samples, min_samples, rate, str(clip.path))
    except AudioError as error:
        return _Look(problem=str(error))
    return _Look(health(samples), contrast(samples) if len(samples) > 1 else None)


def _common_header(machine: Machine, channels: int) -> Header:
    """The header that all training clips share, except for their length."""
    headers, problems = [], []
    for clip in machine.train:
        try:
            headers.append(audio.read_header(clip.recording))
        except (AudioError, FileNotFoundError) as error:
            problems.append(str(error))
    problems += _differences(machine.name, headers)
    counts = {header.channels for header in headers}
    if len(counts) == 1 and min(counts) < channels:
        problems.append(
            f"{machine.name}: the clips have {min(counts)} channel, but this system needs {channels} "
            "microphones (near, far); record both, or choose a system for one microphone, such as spectral_near"
            f"{missing_track(machine.train[0].recording)}"
        )
    if problems:
        raise DatasetError(problems)
    return headers[-1]


def _differences(name: str, headers: Sequence[Header]) -> list[str]:
    """What must be the same in all clips, and is not."""
    rates = Counter(header.rate for header in headers)
    counts = Counter(header.channels for header in headers)
    found = []
    if len(rates) > 1:
        shown = ", ".join(f"{n} clips of {rate} Hz" for rate, n in sorted(rates.items()))
        found.append(f"{name}: different sampling rates: {shown}; convert all clips to the lowest")
    if len(counts) > 1:
        shown = ", ".join(f"{n} clips of {c} channels" for c, n in sorted(counts.items()))
        found.append(f"{name}: different numbers of channels: {shown}")
    return found
