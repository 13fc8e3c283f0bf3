"""Where the tokens of an encoder lie in time and frequency.

Conventions
-----------
A *position* counts frames, or bands: frame t of a spectrogram takes the positions from t to t + 1. Edges are
ascending; between the centres of two frames or bands lies an edge, midway in time or in mel. A token of a network
hears more than its cell: with attention the whole clip. Its cell is where its input lies.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nearfar.encoders.features import Fbank, Mel, hertz, mel_frequencies

Float = NDArray[np.float64]


class TimeFrequency(NamedTuple):
    """Numbers on a grid of time and frequency.

    Attributes
    ----------
    times : (frames + 1,) array
        Edges of the columns, in seconds.
    frequencies : (bands + 1,) array
        Edges of the rows, in Hz.
    values : (bands, frames) array
    """

    times: Float
    frequencies: Float
    values: Float


def located(terms: NDArray[Any], times: Float, frequencies: Float) -> TimeFrequency:
    """What tokens add up to, each in its cell: (blocks, frames, bands, dim) to a grid."""
    return TimeFrequency(times, frequencies, np.asarray(terms, dtype=np.float64).sum(axis=(0, 3)).T)


def mel_edges(front_end: Mel | Fbank, positions: ArrayLike) -> Float:
    """Frequencies in Hz of positions among the mel bands of a front end; its ends are those of the first and the
    last filter.

    Examples
    --------
    >>> from nearfar.encoders.axes import mel_edges
    >>> from nearfar.encoders.features import BASELINE
    >>> mel_edges(BASELINE, [0, 64, 128]).round()
    array([   0., 1689., 8000.])
    """
    scale = front_end.scale if isinstance(front_end, Mel) else "htk"
    highest = front_end.f_max if isinstance(front_end, Mel) else front_end.highest
    low, high = mel_frequencies(np.array([front_end.f_min, highest]), scale)
    at = np.asarray(positions, dtype=np.float64)
    mels = low + (at + 0.5) * (high - low) / (front_end.n_mels + 1)
    within = hertz(mels, scale)
    return np.where(at <= 0, front_end.f_min, np.where(at >= front_end.n_mels, highest, within))


def frame_edges(front_end: Mel | Fbank, positions: ArrayLike, n_samples: int, *, centred: bool) -> Float:
    """Times in seconds of positions among the frames of a front end.

    Parameters
    ----------
    front_end : Mel or Fbank
    positions : (n,) array
    n_samples : int
        Of the clip, at the front end's rate: the first edge is not before it begins, and the last one not after it
        ends, unless the last cell begins after that (where a clip is filled up).
    centred : bool
        Whether the centre of frame t is sample ``t * hop``; else that is its first sample.
    """
    first = 0.0 if centred else _length(front_end) / 2
    edges = (first + (np.asarray(positions, dtype=np.float64) - 0.5) * front_end.hop) / front_end.rate
    seconds = n_samples / front_end.rate
    edges[0] = max(0.0, edges[0])
    if len(edges) > 1 and edges[-2] < seconds:
        edges[-1] = min(edges[-1], seconds)
    return edges


def _length(front_end: Mel | Fbank) -> int:
    return front_end.length if isinstance(front_end, Fbank) else front_end.n_fft


def patch_positions(n_tokens: int, patch: int, longest: int | None = None) -> Float:
    """Positions of the edges of patches, one after the other; (n_tokens + 1,).

    Parameters
    ----------
    n_tokens, patch : int
        Patches, and frames in each.
    longest : int or None
        Frames that are encoded at once; what fills no patch at the end of each part is in the cell before it.
    """
    token = np.arange(n_tokens)
    at_once = max(1, longest // patch) if longest else n_tokens + 1
    starts = token // at_once * (longest or 0) + token % at_once * patch
    return np.append(starts, starts[-1] + patch).astype(np.float64)
