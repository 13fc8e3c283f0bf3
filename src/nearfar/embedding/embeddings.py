"""From recordings to embeddings: views of the microphones, and pooling of an encoder's tokens.

Conventions
-----------
Tokens are ``(clips, blocks, frames, bands, dim)``. A pooling makes of them ``(clips, dim)``, or
``(clips, rows, dim)`` where a back end scores rows. A view names the microphone views (``microphones``) that
are encoded, and how their embeddings are combined.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.embedding.store import Key, Origin, Store, current_code
from nearfar.encoders import Encoder, Layered, Overhearing
from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError, Samples
from nearfar.recordings.clips import DatasetError
from nearfar.recordings.microphones import MICROPHONES, MicrophoneError, heard_through, listen
from nearfar.recordings.recording import Recording
from nearfar.recordings.transforms import Transforms

Array = NDArray[np.floating[Any]]
Keys = dict[str, dict[str, list[Key]]]  # of each recording, by microphone
Tell = Callable[[int, int], None]
AlsoHears = Callable[[str, Transforms, Mapping[str, Samples]], None]  # as of ``embed_stored``
Overheard = Mapping[str, Mapping[int, NDArray[np.float32]]]  # of one recording, by microphone and block

PUT_AT_ONCE = 20  # recordings, of which a killed run loses no more
READY_AT_ONCE = 1000  # recordings that were embedded before: all that takes time is to open the store
LOOKED_UP_AT_ONCE = 100  # recordings, whose embeddings are read to see which of them are whole
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


def shape_mean_std(tokens: Array) -> Array:
    """As ``mean_std``, with the mean over bands taken out of the means: (clips, 2 * blocks * bands * dim).

    For levels in dB: how loud a whole clip is depends on gains and distances, and is no part of the result.
    """
    means = tokens.mean(axis=2)
    means -= means.mean(axis=2, keepdims=True)
    return np.hstack([means.reshape(len(tokens), -1), tokens.std(axis=2).reshape(len(tokens), -1)])


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
    weight = weights_of_deviation(tokens)
    return ((weight * tokens).sum(axis=2) / weight.sum(axis=2)).reshape(len(tokens), -1)


def weights_of_deviation(tokens: Array) -> Array:
    """What tokens weigh in ``relative_deviation``: (clips, blocks, frames, bands, dim) to the same, of dim 1."""
    distance = np.linalg.norm(tokens - tokens.mean(axis=2, keepdims=True), axis=-1, keepdims=True)
    largest = distance.max(axis=2, keepdims=True)
    relative = np.divide(distance, largest, out=np.zeros_like(distance), where=largest > 0)
    weight: Array = (1 + relative) ** DEVIATION_POWER
    return weight


def rows(tokens: Array) -> Array:
    """Every token as a row of its own: (clips, blocks * frames * bands, dim)."""
    return tokens.reshape(len(tokens), -1, tokens.shape[-1])


POOLINGS: dict[str, Callable[[Array], Array]] = {
    "mean": mean,
    "mean_std": mean_std,
    "shape_mean_std": shape_mean_std,
    "global_mean": global_mean,
    "global_mean_std": global_mean_std,
    "relative_deviation": relative_deviation,
    "rows": rows,
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
    "cancelled_3taps": View(("cancelled_3taps",)),
    "cancelled_5taps": View(("cancelled_5taps",)),
    "cancelled_4096": View(("cancelled_4096",)),
    "coherence_weighted": View(("coherence_weighted",)),
    "coherence_weighted_running": View(("coherence_weighted_running",)),
    "near_and_cancelled": View(("near", "cancelled")),
    "near_and_cancelled_3taps": View(("near", "cancelled_3taps")),
    "near_and_far": View(("near", "far")),
    "near_twice": View(("near", "near")),  # for a network of two microphones, where the far one is of no use
    "near_and_contrast": View(("near", "far"), contrasted),
}


def embed(
    samples: Samples, encoder: Encoder, *, view: str, pooling: str, transforms: Transforms | None = None
) -> Array:
    """The embedding of one recording.

    Parameters
    ----------
    samples : (channels, samples) array
        At the encoder's rate.
    encoder : Encoder
    view, pooling : str
        Of ``VIEWS`` and ``POOLINGS``.
    transforms : Transforms or None
        Of these samples, if others look at them, too.

    Returns
    -------
    (dim,) array, or (rows, dim) array for the pooling ``"rows"``
    """
    waveforms = heard(samples, encoder, view, transforms)
    pooled = [pooled_blocks(encoder(one[None]), pooling) for one in waveforms]
    return VIEWS[view].combine(*(joined(*blocks) for blocks in pooled))


def pooled_blocks(tokens: Array, pooling: str) -> list[Array]:
    """Of one clip's tokens, (1, blocks, frames, bands, dim), what a pooling makes of each block."""
    return [POOLINGS[pooling](tokens[:, block : block + 1])[0] for block in range(tokens.shape[1])]


def heard(
    samples: Samples, encoder: Encoder, view: str, transforms: Transforms | None = None
) -> list[Samples]:
    """What an encoder is given of one recording, one after the other.

    Parameters
    ----------
    samples : (channels, samples) array
        At the encoder's rate.
    encoder : Encoder
    view : str
        Of ``VIEWS``.
    transforms : Transforms or None
        As of ``embed``.

    Returns
    -------
    list of (samples,) arrays, one a microphone of the view; or of one (microphones, samples) array
        For an encoder of one microphone; of several.
    """
    waveforms = [listen(samples, microphone, transforms) for microphone in VIEWS[view].microphones]
    return waveforms if encoder.microphones == 1 else [np.stack(waveforms)]


def embed_each(
    recordings: Iterable[Recording | Path], encoder: Encoder, *, view: str, pooling: str, workers: int = 1
) -> Iterator[Array]:
    """The embeddings of recordings, one at a time, in order; ``workers`` threads work ahead.

    Raises
    ------
    DatasetError
        After the last one, if there were recordings that cannot be used; all of them.
    """

    def embedding(recording: Recording | Path) -> Array | AudioError:
        try:
            return embed(_load(recording, encoder), encoder, view=view, pooling=pooling)
        except AudioError as error:
            return error

    problems = []
    for found in audio.each(recordings, embedding, workers=workers):
        if isinstance(found, AudioError):
            problems.append(str(found))
        else:
            yield found
    if problems:
        raise DatasetError(problems)


def _load(recording: Recording | Path, encoder: Encoder) -> Samples:
    """A recording at the encoder's rate, long enough for it."""
    samples = audio.load(recording, encoder.sample_rate)
    audio.require_length(samples, encoder.min_samples, encoder.sample_rate, str(recording))
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
        microphone: Origin(name, microphone, current_code(name), weights, precision, of_network)
        for microphone in VIEWS[view].microphones
    }


def compute_missing(
    recordings: Mapping[str, Sequence[Recording | Path]],
    encoder: Encoder,
    made_by: Mapping[str, Origin],
    store: Store,
    *,
    wanted: Mapping[str, Collection[tuple[int, str]]],
    workers: int = 1,
    batch_size: int | None = None,
    tell: Tell | None = None,
) -> None:
    """Add to the store what it lacks of these embeddings, all of a recording and microphone in one run.

    Parameters
    ----------
    recordings : mapping from SHA-256 of a recording to the recordings, or their files, of this content
    encoder : Encoder
        Frozen. A ``Layered`` one may be asked for any of its blocks, another one for ``blocks``.
    made_by : mapping from microphone to Origin
        As of ``origins``.
    store : Store
        What is computed is added to it, ``PUT_AT_ONCE`` recordings at a time.
    wanted : mapping from microphone to pairs of block and pooling
        Of each recording; the microphones are those of ``made_by``.
    workers : int
        Threads.
    batch_size : int or None
        How many recordings a ``Layered`` encoder computes at once; ``None``: as it says itself. They are sorted by
        length, and only those of equal length are computed together: to fill up the shorter ones would change what
        is made of them, while such a batch changes no embedding beyond rounding.
    tell : callable or None
        Called with (recordings done, all of them).

    Raises
    ------
    DatasetError
        If recordings cannot be used; all that cannot. What is made of the others is in the store.
    ValueError
        If the encoder does not give blocks that are wanted.
    """
    _refuse_strange(encoder, {block for pairs in wanted.values() for block, _ in pairs})
    shas = list(recordings)
    missing: Keys = {}
    for start in range(0, len(shas), LOOKED_UP_AT_ONCE):
        keys = _keys(shas[start : start + LOOKED_UP_AT_ONCE], wanted)
        missing |= _missing(keys, _look_up(keys, made_by, store))
    task = _Task(recordings, encoder, missing)
    for _ in _compute(task, made_by, store, workers, batch_size, tell):
        pass  # all that is asked of it is in the store by then


def overhear(
    samples: Samples,
    encoder: Encoder,
    microphones: Iterable[str],
    *,
    pooling: str,
    transforms: Transforms,
    name: str = "recording",
) -> tuple[Overheard, dict[str, Samples]]:
    """What ``embed_stored`` makes of one recording, while somebody else looks at its samples, too.

    Parameters
    ----------
    samples : (channels, samples) array
        At the encoder's rate.
    encoder : Encoder
        Frozen.
    microphones : iterable of str
        Those of a view.
    pooling : str
        Of ``POOLINGS``.
    transforms : Transforms
        Of these samples.
    name : str
        For messages.

    Returns
    -------
    embeddings : mapping from microphone to mapping from block to (dim,) array
        As ``embed_stored`` takes them.
    waveforms : mapping from microphone to (samples,) array

    Raises
    ------
    AudioError, MicrophoneError
        If the recording is too short, or has too few channels.
    """
    audio.require_length(samples, encoder.min_samples, encoder.sample_rate, name)
    waveforms, found = {}, {}
    for microphone in microphones:
        heard = heard_through(transforms, microphone)
        waveforms[microphone] = heard.samples[0]
        tokens = _tokens(encoder, heard)
        found[microphone] = {block: _as_stored(tokens[block], pooling) for block in encoder.blocks}
    return found, waveforms


def embed_stored(  # noqa: PLR0913  # what is computed, where it is kept, and by which means
    recordings: Mapping[str, Sequence[Recording | Path]],
    encoder: Encoder,
    made_by: Mapping[str, Origin],
    store: Store,
    *,
    pooling: str,
    workers: int = 1,
    tell: Tell | None = None,
    also: AlsoHears | None = None,
    ready: Mapping[str, Overheard] | None = None,
) -> dict[str, dict[str, Array]]:
    """The embeddings of recordings by each microphone of a view; what the store has is not computed.

    Parameters
    ----------
    recordings, encoder, made_by, store, workers, tell
        As of ``compute_missing``.
    pooling : str
        Of ``POOLINGS``.
    also : callable or None
        Called with what is heard of each recording that is read: its SHA-256, the spectra of its samples at the
        encoder's rate, and the waveform of each microphone. Threads call it.
    ready : mapping from SHA-256 to what ``overhear`` gave, or None
        Of recordings that need not be read for it. The store is given it, as far as it lacks it.

    Returns
    -------
    mapping from microphone to mapping from SHA-256 to (dim,) array
        The encoder's blocks side by side.

    Raises
    ------
    DatasetError
        If recordings cannot be used; all that cannot.
    """
    keys = _keys(recordings, {m: [(block, pooling) for block in encoder.blocks] for m in made_by})
    found = _look_up(keys, made_by, store)
    for microphone, new in _take(ready or {}, _missing(keys, found), made_by, store):
        found[microphone] |= new
    task = _Task(recordings, encoder, _missing(keys, found), also=also)
    for microphone, new in _compute(task, made_by, store, workers, None, tell):
        found[microphone] |= new
    return {
        m: {sha: joined(*(found[m][key] for key in of_one[m])) for sha, of_one in keys.items()}
        for m in made_by
    }


def stored(
    shas: Iterable[str],
    encoder: Encoder,
    made_by: Mapping[str, Origin],
    store: Store,
    *,
    view: str,
    pooling: str,
) -> dict[str, Array]:
    """What the store has of a view's embeddings, by SHA-256 of the recording; nothing is computed.

    Parameters
    ----------
    shas : iterable of str
    encoder, made_by, store, pooling
        As of ``embed_stored``.
    view : str
        Of ``VIEWS``.
    """
    keys = _keys(shas, {m: [(block, pooling) for block in encoder.blocks] for m in made_by})
    found = _look_up(keys, made_by, store)
    chosen = VIEWS[view]
    return {
        sha: chosen.combine(*(joined(*(found[m][key] for key in of_one[m])) for m in chosen.microphones))
        for sha, of_one in keys.items()
        if all(key in found[m] for m in made_by for key in of_one[m])
    }


def _refuse_strange(encoder: Encoder, blocks: set[int]) -> None:
    if not isinstance(encoder, Layered) and (strange := sorted(blocks - {*encoder.blocks})):
        raise ValueError(
            f"blocks={strange}: this encoder gives {encoder.blocks}, and has no choice of blocks"
        )


def _keys(shas: Iterable[str], wanted: Mapping[str, Collection[tuple[int, str]]]) -> Keys:
    return {sha: {m: [Key(sha, *pair) for pair in wanted[m]] for m in wanted} for sha in shas}


def _look_up(keys: Keys, made_by: Mapping[str, Origin], store: Store) -> dict[str, dict[Key, Array]]:
    """What the store has, by microphone."""
    return {
        m: store.get(origin, (key for of_one in keys.values() for key in of_one[m]))
        for m, origin in made_by.items()
    }


def _missing(keys: Keys, found: Mapping[str, Mapping[Key, Array]]) -> Keys:
    """What was not found, without the recordings and microphones of which all was."""
    missing: Keys = {}
    for sha, of_one in keys.items():
        for microphone, asked in of_one.items():
            if lacking := [key for key in asked if key not in found[microphone]]:
                missing.setdefault(sha, {})[microphone] = lacking
    return missing


def _take(
    ready: Mapping[str, Overheard], missing: Keys, made_by: Mapping[str, Origin], store: Store
) -> Iterator[tuple[str, dict[Key, Array]]]:
    """Put what is missing into the store, as far as it is ready; then tell it, by microphone."""
    shas = [sha for sha in missing if sha in ready]
    for start in range(0, len(shas), READY_AT_ONCE):
        some = shas[start : start + READY_AT_ONCE]
        for microphone, origin in made_by.items():
            new: dict[Key, Array] = {
                key: ready[sha][microphone][key.block]
                for sha in some
                for key in missing[sha].get(microphone, ())
            }
            if new:
                store.put(origin, new)
                yield microphone, new


def _compute(
    task: _Task,
    made_by: Mapping[str, Origin],
    store: Store,
    workers: int,
    batch_size: int | None,
    tell: Tell | None,
) -> Iterator[tuple[str, dict[Key, Array]]]:
    """Compute what is missing, and put it into the store; then tell it, by microphone."""
    done = len(task.recordings) - len(task.missing)
    made = chain.from_iterable(audio.each(task.batches(batch_size), task.embeddings_of, workers=workers))
    while some := list(islice(made, PUT_AT_ONCE)):
        for microphone, origin in made_by.items():
            new = {key: array for of_one in some for key, array in of_one.get(microphone, {}).items()}
            if new:
                store.put(origin, new)
                yield microphone, new
        done += len(some)
        if tell is not None:
            tell(done, len(task.recordings))
    if task.problems:
        raise DatasetError(sorted(task.problems))  # threads found them


@dataclass(frozen=True, slots=True)
class _Task:
    """What is to be computed, of which recordings, by what.

    Attributes
    ----------
    recordings : mapping from SHA-256 to recordings
    encoder : Encoder
    missing : mapping from SHA-256, to a mapping from microphone to keys
    also : callable or None
        As of ``embed_stored``.
    problems : list of str
        Of recordings that could not be used; threads add to it.
    """

    recordings: Mapping[str, Sequence[Recording | Path]]
    encoder: Encoder
    missing: Keys
    also: AlsoHears | None = None
    problems: list[str] = field(default_factory=list)

    def batches(self, size: int | None) -> list[list[str]]:
        """Recordings that are computed together: of equal length, and of which the same is missing."""
        if not isinstance(self.encoder, Layered):
            return [[sha] for sha in self.missing]
        alike: dict[tuple[Any, ...], list[str]] = {}
        for sha, of_one in self.missing.items():
            lacking = tuple((m, *key[1:]) for m, keys in of_one.items() for key in keys)
            alike.setdefault((_length(self.recordings[sha][0]), lacking), []).append(sha)
        found = []
        for ((samples, rate), _), shas in sorted(alike.items()):
            at_once = size or self.encoder.batch_size(samples * self.encoder.sample_rate // rate)
            found += [shas[start : start + at_once] for start in range(0, len(shas), at_once)]
        return found

    def embeddings_of(self, shas: Sequence[str]) -> list[dict[str, dict[Key, Array]]]:
        """What is missing of the recordings of a batch, by microphone; nothing of those that cannot be used."""
        heard = {sha: waveforms for sha in shas if (waveforms := self._heard(sha))}
        made: dict[str, dict[str, dict[Key, Array]]] = {sha: {} for sha in shas}
        for microphone in self.missing[shas[0]] if heard else ():
            blocks = sorted({key.block for key in self.missing[shas[0]][microphone]})
            tokens = _by_block(self.encoder, np.stack([w[microphone] for w in heard.values()]), blocks)
            for clip, sha in enumerate(heard):
                made[sha][microphone] = {
                    key: _as_stored(tokens[key.block][clip : clip + 1], key.pooling)
                    for key in self.missing[sha][microphone]
                }
        return list(made.values())

    def _heard(self, sha: str) -> dict[str, Samples]:
        """What is to be encoded of a recording, by microphone; nothing if it cannot be used."""
        first = self.recordings[sha][0]
        try:
            spectra = Transforms(samples := _load(first, self.encoder))
            heard = {microphone: listen(samples, microphone, spectra) for microphone in self.missing[sha]}
        except (AudioError, MicrophoneError) as error:
            what = str(error).removeprefix(f"{first}: ")
            self.problems.extend(f"{recording}: {what}" for recording in self.recordings[sha])
            return {}
        if self.also is not None:
            self.also(sha, spectra, heard)
        return heard


def _length(recording: Recording | Path) -> tuple[int, int]:
    """Samples of a recording, and their rate; no samples if it cannot be read, which is told when it is loaded."""
    try:
        header = audio.read_header(recording)
    except AudioError:
        return 0, 1
    return header.samples, header.rate


def _tokens(encoder: Encoder, heard: Transforms) -> Mapping[int, Array]:
    """Tokens of each block of one waveform, (1, 1, frames, bands, dim); by its spectra, if the encoder can."""
    if not isinstance(encoder, Overhearing):
        return _by_block(encoder, heard.samples, encoder.blocks)
    return _in_blocks(encoder, encoder.of_spectra(heard))


def _by_block(encoder: Encoder, waveforms: Samples, blocks: Sequence[int]) -> Mapping[int, Array]:
    """Tokens of each block, (batch, 1, frames, bands, dim)."""
    if isinstance(encoder, Layered):
        return encoder.by_block(waveforms, blocks)
    return _in_blocks(encoder, encoder(waveforms))


def _in_blocks(encoder: Encoder, tokens: Array) -> Mapping[int, Array]:
    return {block: tokens[:, place : place + 1] for place, block in enumerate(encoder.blocks)}


def _as_stored(tokens: Array, pooling: str) -> NDArray[np.float32]:
    """The embedding of one clip's tokens of one block."""
    (block,) = pooled_blocks(tokens, pooling)
    return block.astype(np.float32)
