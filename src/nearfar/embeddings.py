"""From recordings to embeddings: views of the microphones, and pooling of an encoder's tokens.

Conventions
-----------
Tokens are ``(clips, blocks, frames, bands, dim)``. A pooling makes of them ``(clips, dim)``, or
``(clips, rows, dim)`` where a back end scores rows. A view names the microphone views (``microphones``) that
are encoded, and how their embeddings are combined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar import audio
from nearfar.audio import Samples
from nearfar.encoders import Encoder
from nearfar.microphones import MICROPHONES, listen

Array = NDArray[np.floating[Any]]


def mean(tokens: Array) -> Array:
    """Mean over time: (clips, blocks * bands * dim)."""
    return tokens.mean(axis=2).reshape(len(tokens), -1)


def mean_std(tokens: Array) -> Array:
    """Mean and standard deviation over time: (clips, 2 * blocks * bands * dim)."""
    return np.hstack([mean(tokens), tokens.std(axis=2).reshape(len(tokens), -1)])


def rows(tokens: Array) -> Array:
    """Every token as a row of its own: (clips, blocks * frames * bands, dim)."""
    return tokens.reshape(len(tokens), -1, tokens.shape[-1])


POOLINGS: dict[str, Callable[[Array], Array]] = {f.__name__: f for f in (mean, mean_std, rows)}


def joined(*embeddings: Array) -> Array:
    """Side by side: the dimensions add up."""
    return np.concatenate(embeddings, axis=-1)


def contrasted(near: Array, far: Array) -> Array:
    """The near embedding beside its difference from the far one."""
    return np.concatenate([near, near - far], axis=-1)


@dataclass(frozen=True, slots=True)
class View:
    """Which microphone views are encoded, and how their embeddings become one."""

    microphones: tuple[str, ...]
    combine: Callable[..., Array] = joined

    @property
    def channels(self) -> int:
        """How many channels a recording must have."""
        return max(MICROPHONES[m].channels for m in self.microphones)


VIEWS = {
    "near": View(("near",)),
    "far": View(("far",)),
    "cancelled": View(("cancelled",)),
    "near_and_cancelled": View(("near", "cancelled")),
    "near_and_far": View(("near", "far")),
    "near_twice": View(("near", "near")),  # for a network of two microphones, where the far one is of no use
    "near_and_contrast": View(("near", "far"), contrasted),
}


def embed(samples: Samples, encoder: Encoder, *, view: str, pooling: str) -> Array:
    """The embedding of one recording.

    Parameters
    ----------
    samples : (channels, samples) array
        At the encoder's rate.
    encoder : Encoder
    view, pooling : str
        Of ``VIEWS`` and ``POOLINGS``.

    Returns
    -------
    (dim,) array, or (rows, dim) array for the pooling ``"rows"``
    """
    pool = POOLINGS[pooling]
    return VIEWS[view].combine(
        *(pool(encoder(waveforms[None]))[0] for waveforms in heard(samples, encoder, view))
    )


def heard(samples: Samples, encoder: Encoder, view: str) -> list[Samples]:
    """What an encoder is given of one recording, one after the other.

    Parameters
    ----------
    samples : (channels, samples) array
        At the encoder's rate.
    encoder : Encoder
    view : str
        Of ``VIEWS``.

    Returns
    -------
    list of (samples,) arrays, one a microphone of the view; or of one (microphones, samples) array
        For an encoder of one microphone; of several.
    """
    waveforms = [listen(samples, microphone) for microphone in VIEWS[view].microphones]
    return waveforms if encoder.microphones == 1 else [np.stack(waveforms)]


def embed_each(
    paths: Iterable[Path], encoder: Encoder, *, view: str, pooling: str, workers: int = 1
) -> Iterator[Array]:
    """The embeddings of recordings, one at a time, in order; ``workers`` threads work ahead."""

    def embedding(path: Path) -> Array:
        samples = audio.load(path, encoder.sample_rate)
        return embed(samples, encoder, view=view, pooling=pooling)

    return audio.each(paths, embedding, workers=workers)
