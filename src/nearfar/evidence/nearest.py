"""The nearest normal clips of which the sound is kept: what a recording should have sounded like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nearfar.recordings.audio import Samples

if TYPE_CHECKING:
    from nearfar.detector.fitted import Detector
    from nearfar.detector.normal_sounds import NormalClip

BY_LEVELS = "levels in bands"  # in place of a branch, where no embeddings are kept

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A normal clip that is near to a recording.

    Attributes
    ----------
    clip : NormalClip
        With its sound: ``clip.load()``.
    branch : str
        By whose embeddings: the name of a part of a fused system, as of ``BranchScore``, or of the system; of an
        ensemble, by those of all members together. ``BY_LEVELS`` where no embeddings are kept.
    distance : float
        Root mean square over the dimensions, in units of the standard deviation among the clips of the detector:
        two of these, drawn at random, are about 1.4 apart.
    rank_of_all : int
        Which nearest it is of all clips of the detector, from 1; only few of them are kept as sound.
    """

    clip: NormalClip
    branch: str
    distance: float
    rank_of_all: int


def nearest_normals(
    detector: Detector,
    samples: Samples,
    rate: int,
    n: int = 3,
    *,
    embeddings: Sequence[Array] | None = None,
) -> tuple[Neighbour, ...]:
    """The kept normal clips that are nearest to a recording: n for each part of the system, the nearest first.

    Parameters
    ----------
    detector : Detector
    samples : (channels, samples) array
        As of ``Detector.score``.
    rate : int
        In Hz.
    n : int
    embeddings : sequence of arrays or None
        Those of the recording, as of ``Detector.embeddings``, if they are known.

    Returns
    -------
    tuple of Neighbour
        Empty if the detector keeps no sounds.

    Raises
    ------
    ValueError
        If ``n`` is less than 1.
    AudioError, MicrophoneError
        If the detector cannot use the samples.
    """
    if n < 1:
        raise ValueError(f"n={n}: must be at least 1")
    sounds, kept = detector.sounds, detector.kept
    if sounds is None or not sounds.clips:
        return ()
    known: Sequence[Array | None] = () if kept is None else kept.bank.embeddings
    found: list[Neighbour] = []
    if any(X is not None for X in known):
        new = detector.embeddings(samples, rate) if embeddings is None else embeddings
        pairs = list(zip(known, new, strict=True))
        for part, own in zip(detector.system.parts, detector.system.by_part(pairs), strict=True):
            squares = [_mean_squares(X, x) for X, x in own if X is not None]
            if squares:
                found += _nearest(sounds.clips, np.sqrt(np.mean(squares, axis=0)), part.name, n)
        return tuple(found)
    levels, _ = sounds.measure(samples, rate)
    heard = ~np.isnan(levels).any(axis=1)  # a recording may lack the far microphone
    distances = np.sqrt(_mean_squares(sounds.levels[:, heard], levels[heard]))
    return tuple(_nearest(sounds.clips, distances, BY_LEVELS, n))


def _mean_squares(X: Array, x: Array) -> NDArray[np.float64]:
    """Mean over the dimensions of squared differences in units of their variance: (n, ...), (...) to (n,)."""
    known = X.reshape(len(X), -1).astype(np.float64)
    spread = known.std(axis=0)
    difference = (known - x.reshape(-1)) / np.where(spread > 0, spread, 1.0)
    return np.asarray((difference**2).mean(axis=1))


def _nearest(
    clips: Sequence[NormalClip], distances: NDArray[np.float64], branch: str, n: int
) -> list[Neighbour]:
    ordered = sorted(clips, key=lambda clip: (distances[clip.row], clip.row))[:n]
    return [
        Neighbour(clip, branch, float(distances[clip.row]), 1 + int((distances < distances[clip.row]).sum()))
        for clip in ordered
    ]
