"""From recordings to embeddings: views of the microphones, and pooling of an encoder's tokens.

Conventions
-----------
Tokens are ``(clips, blocks, frames, bands, dim)``. A pooling makes of them ``(clips, dim)``, or
``(clips, rows, dim)`` where a back end scores rows. A view names the microphone views (``microphones``) that
are encoded, and how their embeddings are combined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar import audio
from nearfar.audio import AudioError, Samples
from nearfar.clips import DatasetError
from nearfar.encoders import Encoder
from nearfar.microphones import MICROPHONES, listen
from nearfar.store import Key, Origin, Store, current_code

Array = NDArray[np.floating[Any]]

PUT_AT_ONCE = 20  # recordings, of which a killed run loses no more
NOT_OF_THE_NETWORK = (
    "weights",
    "blocks",
    "precision",
    "device",
)  # options that have a place of their own, or none
DEVIATION_POWER = 4  # between 4 and 8 in what was published; not tuned here


def mean(tokens: Array) -> Array:
    """Mean over time: (clips, blocks * bands * dim)."""
    return tokens.mean(axis=2).reshape(len(tokens), -1)


def mean_std(tokens: Array) -> Array:
    """Mean and standard deviation over time: (clips, 2 * blocks * bands * dim)."""
    return np.hstack([mean(tokens), tokens.std(axis=2).reshape(len(tokens), -1)])


def global_mean(tokens: Array) -> Array:
    """Mean over time and bands: (clips, blocks * dim)."""
    return tokens.mean(axis=(2, 3)).reshape(len(tokens), -1)


def global_mean_std(tokens: Array) -> Array:
    """Mean and standard deviation over time and bands: (clips, 2 * blocks * dim)."""
    return np.hstack([global_mean(tokens), tokens.std(axis=(2, 3)).reshape(len(tokens), -1)])


def relative_deviation(tokens: Array) -> Array:
    """Mean over time that listens to what is unusual within the clip: (clips, blocks * bands * dim).

    A token weighs ``(1 + d / max d) ** DEVIATION_POWER``, where d is its distance from the mean of its band, and
    max d the largest of these in the band. Relative deviation pooling, with the power of published recipes.
    """
    distance = np.linalg.norm(tokens - tokens.mean(axis=2, keepdims=True), axis=-1, keepdims=True)
    largest = distance.max(axis=2, keepdims=True)
    relative = np.divide(distance, largest, out=np.zeros_like(distance), where=largest > 0)
    weight = (1 + relative) ** DEVIATION_POWER
    return ((weight * tokens).sum(axis=2) / weight.sum(axis=2)).reshape(len(tokens), -1)


def rows(tokens: Array) -> Array:
    """Every token as a row of its own: (clips, blocks * frames * bands, dim)."""
    return tokens.reshape(len(tokens), -1, tokens.shape[-1])


POOLINGS: dict[str, Callable[[Array], Array]] = {
    f.__name__: f for f in (mean, mean_std, global_mean, global_mean_std, relative_deviation, rows)
}


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
    pooled = [pooled_blocks(encoder(waveforms[None]), pooling) for waveforms in heard(samples, encoder, view)]
    return VIEWS[view].combine(*(joined(*blocks) for blocks in pooled))


def pooled_blocks(tokens: Array, pooling: str) -> list[Array]:
    """Of one clip's tokens, (1, blocks, frames, bands, dim), what a pooling makes of each block."""
    return [POOLINGS[pooling](tokens[:, block : block + 1])[0] for block in range(tokens.shape[1])]


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
    """The embeddings of recordings, one at a time, in order; ``workers`` threads work ahead.

    Raises
    ------
    DatasetError
        After the last one, if there were recordings that cannot be used; all of them.
    """

    def embedding(path: Path) -> Array | AudioError:
        try:
            return embed(_loaded(path, encoder), encoder, view=view, pooling=pooling)
        except AudioError as error:
            return error

    problems = []
    for found in audio.each(paths, embedding, workers=workers):
        if isinstance(found, AudioError):
            problems.append(str(found))
        else:
            yield found
    if problems:
        raise DatasetError(problems)


def _loaded(path: Path, encoder: Encoder) -> Samples:
    """A recording at the encoder's rate, long enough for it."""
    samples = audio.load(path, encoder.sample_rate)
    audio.require_length(samples, encoder.min_samples, encoder.sample_rate, str(path))
    return samples


def origins(
    encoder: Encoder, name: str, options: Mapping[str, Any], weights: str | None, *, view: str
) -> dict[str, Origin]:
    """Under what embeddings of a frozen encoder are kept, by the microphones of a view.

    Parameters
    ----------
    encoder : Encoder
    name : str
        Of ``encoders.ENCODERS``.
    options : mapping
        That it was made with.
    weights : str or None
        SHA-256 of the file of its weights; that of an adapter is added here.
    view : str
        Of ``VIEWS``.
    """
    if encoder.fitted_per_machine or encoder.microphones > 1:
        raise ValueError(f"encoder {name!r}: only what frozen encoders of one microphone make is kept")
    if adapter := getattr(encoder, "adapter_digest", None):
        weights = f"{weights}+{adapter}"
    of_network = {k: v for k, v in options.items() if k not in NOT_OF_THE_NETWORK}
    precision = options.get("precision", "float32")
    return {
        microphone: Origin(name, microphone, current_code(), weights, precision, of_network)
        for microphone in VIEWS[view].microphones
    }


def embed_stored(
    recordings: Mapping[str, Sequence[Path]],
    encoder: Encoder,
    made_by: Mapping[str, Origin],
    store: Store,
    *,
    pooling: str,
    workers: int = 1,
    tell: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, Array]]:
    """The embeddings of recordings by each microphone of a view; what the store has is not computed.

    Parameters
    ----------
    recordings : mapping from SHA-256 of a recording's file to the files of this content
    encoder : Encoder
        Frozen.
    made_by : mapping from microphone to Origin
        As of ``origins``.
    store : Store
        What is computed is added to it, ``PUT_AT_ONCE`` recordings at a time.
    pooling : str
        Of ``POOLINGS``.
    workers : int
        Threads.
    tell : callable or None
        Called with (recordings done, all of them).

    Returns
    -------
    mapping from microphone to mapping from SHA-256 to (dim,) array
        Blocks side by side.

    Raises
    ------
    DatasetError
        If recordings cannot be used; all that cannot.
    """
    keys = {sha: [Key(sha, block, pooling) for block in encoder.blocks] for sha in recordings}
    found = {m: store.get(made_by[m], (key for of_one in keys.values() for key in of_one)) for m in made_by}
    missing = {sha: [m for m in made_by if not found[m].keys() >= set(keys[sha])] for sha in recordings}
    to_do = [sha for sha, microphones in missing.items() if microphones]
    problems: list[str] = []

    def computed(sha: str) -> dict[str, dict[Key, Array]]:
        try:
            samples = _loaded(recordings[sha][0], encoder)
        except AudioError as error:
            message = str(error).removeprefix(str(recordings[sha][0]))
            problems.extend(f"{path}{message}" for path in recordings[sha])
            return {}
        tokens = {m: encoder(listen(samples, m)[None]) for m in missing[sha]}
        return {m: dict(zip(keys[sha], _stored_form(t, pooling), strict=True)) for m, t in tokens.items()}

    done = len(recordings) - len(to_do)
    made = audio.each(to_do, computed, workers=workers)
    while some := list(islice(made, PUT_AT_ONCE)):
        for microphone, origin in made_by.items():
            new = {key: array for of_one in some for key, array in of_one.get(microphone, {}).items()}
            store.put(origin, new)
            found[microphone] |= new
        done += len(some)
        if tell is not None:
            tell(done, len(recordings))
    if problems:
        raise DatasetError(sorted(problems))  # threads found them
    return {m: {sha: joined(*(found[m][key] for key in keys[sha])) for sha in recordings} for m in made_by}


def _stored_form(tokens: Array, pooling: str) -> list[NDArray[np.float32]]:
    return [block.astype(np.float32) for block in pooled_blocks(tokens, pooling)]
