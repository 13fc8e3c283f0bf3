"""The exported file against the detector that it was made of, sound by sound.

Every export is compared before it is written. Sounds are the detector's own normal clips, and made ones: noise from
full scale down to the last bit, noise that the microphones have nearly in common, silence at one of them or at all.
(Noise that is the same everywhere would not do: what cancellation leaves of it is rounding, and no score of that
means anything.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from nearfar.detector.fitted import Detector
from nearfar.detector.normal_sounds import DamagedSoundError
from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError, Samples

BOUND = 1e-4  # relative, of a score in single precision
OF_SILENCE = (
    10  # times the bound: the detector adds up constant levels in single precision, and that is off itself
)
OF_P_VALUES = 1e-6  # relative, beside what the bound of the score allows
NOISE_DB = (-10.0, -40.0, -70.0, -95.0)  # of full scale; the last is about one bit of 16
LONGER = 1.37  # windows: another length, if the file takes any
OWN_NOISE = 0.01  # of each microphone, in noise that they have in common


class ParityError(ValueError):
    """An exported file does not say what its detector says."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One sound, by the detector and by the exported file.

    Attributes
    ----------
    name : str
        Of the sound.
    is_own : bool
        Whether it is a clip of the detector, and not a made sound.
    scores, p_values, decisions : pairs
        Of the detector, then of the file; p-values are NaN and decisions False without a threshold.
    difference, bound : float
        Of the scores, relative; and how large it may be.
    is_close : bool
        Whether score, p-value and decision are what the bound allows.
    """

    name: str
    is_own: bool
    scores: tuple[float, float]
    p_values: tuple[float, float]
    decisions: tuple[bool, bool]
    difference: float
    bound: float
    is_close: bool


@dataclass(frozen=True, slots=True)
class Parity:
    """How an exported file differs from its detector.

    Attributes
    ----------
    heard : tuple of Heard
    unscored : tuple of str
        Sounds that the detector gives no score: they are not compared.
    bound : float
        Of ``Heard.difference``; of sounds with a silent channel, ``OF_SILENCE`` times as much.
    """

    heard: tuple[Heard, ...]
    unscored: tuple[str, ...]
    bound: float

    @property
    def largest_score(self) -> float:
        """The largest relative difference of scores."""
        return max((one.difference for one in self.heard), default=0.0)

    @property
    def largest_p_value(self) -> float:
        """The largest relative difference of p-values; NaN without a threshold."""
        if any(math.isnan(one.p_values[0]) for one in self.heard):
            return math.nan
        return max((_relative(*one.p_values, 0.0) for one in self.heard), default=0.0)

    @property
    def changed_decisions(self) -> int:
        """How many sounds are decided otherwise."""
        return sum(first != second for first, second in (one.decisions for one in self.heard))

    @property
    def own(self) -> int:
        """How many of the sounds are clips of the detector."""
        return sum(one.is_own for one in self.heard)

    def require(self) -> None:
        """Refuse a file that is not close to its detector.

        Raises
        ------
        ParityError
            Names the sound that differs most.
        """
        if not self.heard:
            raise ParityError("the detector scores none of the sounds that an export is compared on")
        if wrong := [one for one in self.heard if not one.is_close]:
            worst = max(wrong, key=lambda one: one.difference / one.bound)
            raise ParityError(
                f"the exported file does not say what the detector says, so it is not written: {len(wrong)} of "
                f"{len(self.heard)} sounds differ by more than the bound of {self.bound:g}, relative to their score; "
                f"most: {worst.name}, with a score of {worst.scores[0]:.8g} and {worst.scores[1]:.8g} in the file, by "
                f"{worst.difference:.2g}; {self.changed_decisions} decisions change"
            )


def compared(detector: Detector, content: bytes, *, samples: int | None, bound: float = BOUND) -> Parity:
    """Let a detector and its exported file score the same sounds.

    Parameters
    ----------
    detector : Detector
    content : bytes
        Of the file.
    samples : int or None
        Of a recording that the file takes; ``None``: any number.
    bound : float
        Of the relative difference of a score. Where a score is smaller than the interquartile range of the normal
        scores behind the threshold, the difference is relative to that range.
    """
    session = light_session(content)
    n_channels = session.get_inputs()[0].shape[0]
    heard, unscored = [], []
    for name, is_own, sound in _sounds(detector, samples):
        try:
            verdict = detector.score(sound, detector.sample_rate, name=name)
        except AudioError:
            unscored.append(name)
            continue
        found = dict(
            zip(
                (one.name for one in session.get_outputs()),
                session.run(None, {"samples": np.ascontiguousarray(sound[:n_channels])}),
                strict=True,
            )
        )
        said = float(verdict.score), float(verdict.p_value)
        allowed = bound if sound.any(axis=1).all() else OF_SILENCE * bound
        heard.append(_beside(detector, name, is_own, said, found, allowed))
    return Parity(tuple(heard), tuple(unscored), bound)


def light_session(content: bytes) -> onnxruntime.InferenceSession:
    """An exported file in ONNX Runtime, with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _beside(
    detector: Detector,
    name: str,
    is_own: bool,
    said: tuple[float, float],
    found: dict[str, NDArray[np.generic]],
    bound: float,
) -> Heard:
    """What the detector said, score and p-value, beside what was found by the file."""
    scores = said[0], float(found["score"])
    threshold = detector.threshold
    if threshold is None:
        difference = _relative(*scores, 0.0)
        return Heard(
            name, is_own, scores, (math.nan, math.nan), (False, False), difference, difference <= bound
        )
    lower, upper = np.quantile(threshold.normal_scores, (0.25, 0.75)).tolist()
    difference = _relative(*scores, upper - lower)
    slack = bound * max(abs(scores[0]), upper - lower)
    p_values = said[1], float(found["p_value"])
    highest, lowest = threshold.p_value(np.array([scores[0] - slack, scores[0] + slack])).tolist()
    decisions = scores[0] > threshold.value, bool(found["is_anomaly"])
    is_close = (
        difference <= bound
        and lowest * (1 - OF_P_VALUES) <= p_values[1] <= highest * (1 + OF_P_VALUES)
        and (decisions[0] == decisions[1] or abs(scores[0] - threshold.value) <= slack)
    )
    return Heard(name, is_own, scores, p_values, decisions, difference, bound, bool(is_close))


def _relative(expected: float, found: float, least: float) -> float:
    """The difference, relative to what was expected, or to ``least`` if that is larger; infinite if one is NaN."""
    if expected == found:
        return 0.0
    unit = max(abs(expected), least)
    relative = abs(found - expected) / unit if unit else math.inf
    return relative if math.isfinite(relative) else math.inf


def _sounds(detector: Detector, samples: int | None) -> Iterator[tuple[str, bool, Samples]]:
    """Name, whether it is the detector's own, and samples of each sound, at the detector's rate."""
    for name, sound in _own(detector):
        yield name, True, sound if samples is None else _as_long(sound, samples)
    n_channels = len(detector.sample)
    least = max(branch.encoder.min_samples for branch in detector.branches)
    usual = round(detector.window_seconds * detector.sample_rate)
    lengths = (usual,) if samples is None else (samples,)
    for name, sound in _made(n_channels, max(least, lengths[0])):
        yield name, False, sound
    if samples is None:
        for length in (least, least + round(LONGER * usual)):
            yield f"noise of {length} samples", False, np.float32(0.1) * _noise(length, n_channels, length)


def _own(detector: Detector) -> Iterator[tuple[str, Samples]]:
    """The detector's own clips: that of its self-check, and the normal ones that it keeps as sound."""
    yield "the clip of the self-check", detector.sample
    for clip in () if detector.sounds is None else detector.sounds.clips:
        try:
            recorded = clip.load()
        except DamagedSoundError:
            continue  # scores do not need it
        yield clip.name, audio.at_rate(recorded.samples, recorded.rate, detector.sample_rate, clip.name)


def _as_long(sound: Samples, samples: int) -> Samples:
    """Cut, or repeated, to a length."""
    times = -(-samples // sound.shape[1])
    return np.ascontiguousarray(np.tile(sound, (1, times))[:, :samples])


def _noise(seed: int, n_channels: int, samples: int) -> Samples:
    """White, of power one."""
    return np.random.default_rng(seed).standard_normal((n_channels, samples), np.float32)


def _made(n_channels: int, samples: int) -> Iterator[tuple[str, Samples]]:
    """Noise of several levels, and what is out of the ordinary: (n_channels, samples) each."""
    noise = _noise(0, n_channels, samples)
    for level in NOISE_DB:
        yield f"noise at {level:g} dB", np.float32(10 ** (level / 20)) * noise
    yield "noise of one bit", np.rint(2 * noise) * np.float32(2**-15)
    yield "noise in common", noise[:1] + np.float32(OWN_NOISE) * _noise(1, n_channels, samples)
    for channel in range(n_channels if n_channels > 1 else 0):
        silent = noise.copy()
        silent[channel] = 0
        yield f"silence in channel {channel + 1}", silent
    yield "silence", np.zeros_like(noise)
