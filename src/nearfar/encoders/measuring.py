"""What each arithmetic of a frozen encoder takes on this computer, and how far it is from float32.

Conventions
-----------
Each arithmetic takes turns with float32, clip by clip, and the least time of the rounds counts. With one thread it
is processor time, which a busy computer hardly changes; with several it is that of a clock.

Clips are made here. They sound like machines: blows, hum and blades, at levels 34 dB apart, so that a scale that
one of them sets would show in another. What is compared is the mean over time of the tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from nearfar.encoders.arithmetic import ARITHMETICS, ArithmeticName

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nearfar.encoders import Array
    from nearfar.encoders.frozen import Frozen

REFERENCE: ArithmeticName = "float32"
ROUNDS = 3  # as many as clips
TOO_SLOW = 3.0  # times float32: nobody would choose it, so it is not measured closely
GLIMPSE_SECONDS = 1.0  # of sound, by which that is found out before more time goes into it
LEVELS_DB = (-6.0, -23.0, -40.0)  # of the clips, re full scale
SAFE = (ValueError, ImportError, RuntimeError)  # what engines raise where they cannot compute a network

Tell = Callable[[str, int, int], None]  # as ``systems.branches.Progress``


@dataclass(frozen=True, slots=True)
class Measured:
    """What an arithmetic takes and changes.

    Attributes
    ----------
    arithmetic : str
    seconds : mapping from int to float
        Of a clip, by how many are given at once.
    of_float32 : float
        Of a clip by itself: seconds over those of float32 in the same rounds.
    preparation : float
        Seconds until it hears the first clip, beyond the clip's own: reading and converting weights, compiling.
    cosine, least_cosine : float
        Of the embeddings of clips to those in float32: mean, and least.
    difference : float
        The largest distance of an embedding from that in float32, over the mean distance of two clips in float32.
    same_in_batches : bool
        Whether a clip has the same bits alone and among others; also if nothing but single clips was measured.
    clip_seconds : float
        Length of the clips.
    """

    arithmetic: ArithmeticName
    seconds: Mapping[int, float]
    of_float32: float
    preparation: float
    cosine: float
    least_cosine: float
    difference: float
    same_in_batches: bool
    clip_seconds: float

    def describe(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {**asdict(self), "seconds": {str(size): s for size, s in self.seconds.items()}}

    @classmethod
    def restore(cls, content: Mapping[str, Any]) -> Self:
        """What ``describe`` gave.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is not that.
        """
        seconds = {int(size): float(s) for size, s in content["seconds"].items()}
        numbers = {name: float(content[name]) for name in _NUMBERS}
        if not all(np.isfinite([*seconds.values(), *numbers.values()])) or 1 not in seconds:
            raise ValueError("not all numbers are there")
        return cls(
            arithmetic=ARITHMETICS[content["arithmetic"]].name,
            seconds=seconds,
            same_in_batches=bool(content["same_in_batches"]),
            **numbers,
        )


_NUMBERS = ("of_float32", "preparation", "cosine", "least_cosine", "difference", "clip_seconds")


@dataclass(frozen=True, slots=True)
class Impossible:
    """An arithmetic that cannot be computed here.

    Attributes
    ----------
    arithmetic : str
    why : str
    """

    arithmetic: ArithmeticName
    why: str


def probe_clips(seconds: float, rate: int) -> Array:
    """Clips that sound like machines, (3, samples): the same at each call.

    Parameters
    ----------
    seconds : float
    rate : int
        In Hz.

    Examples
    --------
    >>> from nearfar.encoders.measuring import probe_clips
    >>> probe_clips(2.0, 16000).shape
    (3, 32000)
    """
    n = max(1, round(seconds * rate))
    t, rng = np.arange(n) / rate, np.random.default_rng(0)
    hum = sum(np.sin(2 * np.pi * 49.3 * k * t + k * k) / k for k in range(1, 25))
    hiss = rng.standard_normal((2, n))
    blades = _smooth(hiss[0], 8) * (1 + 0.7 * np.sin(2 * np.pi * 23.7 * t))
    since_blow = (t * 37.1) % 1 / 37.1
    blows = np.exp(-300 * since_blow) * np.sin(2 * np.pi * min(3100.0, 0.4 * rate) * since_blow)
    sounds = np.stack([blows + 0.02 * hiss[1], hum + 0.1 * hiss[1], blades + 0.05 * hiss[1]])
    loudness = 10 ** (np.array(LEVELS_DB) / 20)[:, None] / np.sqrt((sounds**2).mean(axis=1, keepdims=True))
    return np.clip(sounds * loudness, -1, 1).astype(np.float32)


def _smooth(noise: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    return np.convolve(noise, np.ones(width) / width, mode="same")


def measure(
    encoder: Frozen,
    arithmetics: Sequence[ArithmeticName],
    *,
    seconds: float,
    batches: Sequence[int] = (1,),
    rounds: int = ROUNDS,
    threads: int | None = None,
    tell: Tell | None = None,
) -> dict[ArithmeticName, Measured | Impossible]:
    """Measure arithmetics of an encoder on the processor, in turns with float32.

    All of them are in memory at the same time.

    Parameters
    ----------
    encoder : Frozen
        In whatever arithmetic; its weights, blocks and adapter count.
    arithmetics : sequence of str
        Of ``arithmetic.ARITHMETICS``. float32 is measured in any case, first.
    seconds : float
        Of each clip.
    batches : sequence of int
        How many clips are given at once, beside single clips; to float32 only if nothing else is measured.
    rounds : int
    threads : int or None
        ``None``: as many as torch has now.
    tell : callable or None
        Called with ("measuring NAME", rounds done, all); of several, with the name of the last.

    Raises
    ------
    WeightsError, CheckpointError, ValueError
        If the encoder cannot be computed in float32.
    """
    seconds = max(seconds, encoder.min_samples / encoder.sample_rate)
    clips = probe_clips(seconds, encoder.sample_rate)
    found: dict[ArithmeticName, Measured | Impossible] = {}
    with torch_threads(threads):
        reference = _Turns.begun(encoder, REFERENCE, clips)
        taking_turns = [reference]
        for name in dict.fromkeys(arithmetics):
            if name != REFERENCE:
                begun = _begun(encoder, name, clips)
                found[name] = begun if isinstance(begun, Impossible) else Impossible(name, "not measured")
                taking_turns += [begun] if isinstance(begun, _Turns) else []
        sizes = {one.name: sorted({1, *batches}) for one in taking_turns}
        if len(taking_turns) > 1:
            sizes[REFERENCE] = [1]
        for done in range(rounds):
            for one in taking_turns:
                one.take(clips, sizes[one.name], done, slowest=TOO_SLOW * reference.seconds.get(1, np.inf))
                if tell is not None and one is taking_turns[-1]:
                    tell(f"measuring {one.name}", done + 1, rounds)
        found |= {one.name: one.outcome(reference, seconds) for one in taking_turns}
    return {REFERENCE: found.pop(REFERENCE), **found}


@contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """As many threads for torch, and for what is prepared meanwhile; ``None``: those that it has."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def glimpse(encoder: Frozen) -> float:
    """Seconds that a second of sound takes an encoder, roughly; its weights are read first, if they are not yet."""
    clips = probe_clips(max(GLIMPSE_SECONDS, encoder.min_samples / encoder.sample_rate), encoder.sample_rate)
    encoder(clips[:1])
    _, taken = _timed(lambda: encoder(clips[:1]))
    return taken * encoder.sample_rate / clips.shape[1]


def _begun(encoder: Frozen, name: ArithmeticName, clips: Array) -> _Turns | Impossible:
    try:
        return _Turns.begun(encoder, name, clips)
    except SAFE as error:
        return Impossible(name, str(error))


@dataclass(slots=True)
class _Turns:
    """An arithmetic that is being measured.

    Attributes
    ----------
    name : str
    encoder : Frozen
    preparation : float
        With the first clip.
    seconds : dict from int to float
        The least of a clip so far, by the size of the batch.
    embeddings : dict from int to array
        Of the clips that it has heard alone.
    differs : bool
        Whether a clip had other bits among others.
    """

    name: ArithmeticName
    encoder: Frozen
    preparation: float
    seconds: dict[int, float] = field(default_factory=dict)
    embeddings: dict[int, Array] = field(default_factory=dict)
    differs: bool = False

    @classmethod
    def begun(cls, encoder: Frozen, name: ArithmeticName, clips: Array) -> Self:
        """Ready to hear: weights are read and converted, and a clip has been heard."""
        own = encoder.computing_in(name)
        start = time.perf_counter()
        own(clips[:1])
        return cls(name, own, time.perf_counter() - start)

    def take(self, clips: Array, sizes: Sequence[int], turn: int, *, slowest: float) -> None:
        """Hear clips in batches of all sizes, other clips at each turn; one that is too slow rests after its first.

        Parameters
        ----------
        clips : (clips, samples) array
        sizes : sequence of int
        turn : int
        slowest : float
            Seconds of a clip.
        """
        if self.seconds.get(1, 0.0) > slowest:
            return
        places = [(turn + i) % len(clips) for i in range(max(sizes))]
        for size in sizes:
            tokens, taken = _timed(partial(self.encoder, clips[places[:size]]))
            self.seconds[size] = min(self.seconds.get(size, np.inf), taken / size)
            embedding = tokens.mean(axis=2).reshape(size, -1)
            if size == 1:
                self.embeddings[places[0]] = embedding[0]
            self.differs |= not np.array_equal(embedding[0], self.embeddings[places[0]])

    def outcome(self, reference: _Turns, clip_seconds: float) -> Measured:
        """What was measured."""
        heard = sorted(self.embeddings)
        own, exact = (
            np.stack([of.embeddings[place] for place in heard]).astype(np.float64) for of in (self, reference)
        )
        cosines = (own * exact).sum(1) / (np.linalg.norm(own, axis=1) * np.linalg.norm(exact, axis=1))
        return Measured(
            arithmetic=self.name,
            seconds=dict(self.seconds),
            of_float32=self.seconds[1] / reference.seconds[1],
            preparation=max(0.0, self.preparation - self.seconds[1]),
            cosine=float(cosines.mean()),
            least_cosine=float(cosines.min()),
            difference=float(np.linalg.norm(own - exact, axis=1).max() / _spread(reference)),
            same_in_batches=not self.differs,
            clip_seconds=clip_seconds,
        )


def _spread(reference: _Turns) -> float:
    """The mean distance of two clips in float32; 1 if only one was heard."""
    exact = np.stack(list(reference.embeddings.values())).astype(np.float64)
    distances = np.linalg.norm(exact[:, None] - exact[None], axis=-1)
    pairs = len(exact) * (len(exact) - 1)
    return float(distances.sum() / pairs) if pairs and distances.any() else 1.0


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a function gives, and its seconds: of the processor with one thread, of a clock with several."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    found = function()
    return found, clock() - start
