"""The exported file against the detector that it was made of, sound by sound.

Every export is compared before it is written. Sounds are the detector's own normal clips, and made ones: noise from
full scale down to the last bit, noise that the microphones have nearly in common, silence at one of them or at all.
(Noise that is the same everywhere would not do: what cancellation leaves of it is rounding, and no score of that
means anything.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from nearfar.decisions.thresholds import Threshold
from nearfar.detector.fitted import Detector, Verdict
from nearfar.detector.normal_sounds import DamagedSoundError
from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError, Samples

BOUND = 1e-4  # relative, of a score in single precision
OF_SILENCE = (
    10  # times the bound: the detector adds up constant levels in single precision, and that is off itself
)
OF_P_VALUES = 2e-6  # relative, beside what the bound of the score allows
NOISE_DB = (-10.0, -40.0, -70.0, -95.0)  # of full scale; the last is about one bit of 16
LONGER = 1.37  # windows: another length, if the file takes any
OWN_NOISE = 0.01  # of each microphone, in noise that they have in common
NO_P_VALUES, UNDECIDED = (math.nan, math.nan), (False, False)


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
        """The largest relative difference of scores, of sounds without a silent channel."""
        return max((one.difference for one in self.heard if one.bound == self.bound), default=0.0)

    @property
    def largest_score_of_silence(self) -> float:
        """The same of sounds with a silent channel, whose bound is ``OF_SILENCE`` times as large."""
        return max((one.difference for one in self.heard if one.bound != self.bound), default=0.0)

    @property
    def largest_p_value(self) -> float:
        """The largest relative difference of p-values; NaN without a threshold."""
        if any(math.isnan(one.p_values[0]) for one in self.heard):
            return math.nan
        return max((relative(*one.p_values, 0.0) for one in self.heard), default=0.0)

    @property
    def changed_decisions(self) -> int:
        """How many sounds are decided otherwise."""
        return sum(first != second for first, second in (one.decisions for one in self.heard))

    @property
    def own(self) -> int:
        """How many of the sounds are clips of the detector."""
        return sum(one.is_own for one in self.heard)

    def require(self, remedy: str = "") -> None:
        """Refuse a file that is not close to its detector.

        Parameters
        ----------
        remedy : str
            What to do then, if that is known; the end of the message.

        Raises
        ------
        ParityError
            Names the sound that differs most.
        """
        if not self.heard:
            raise ParityError("the detector scores none of the sounds that an export is compared on")
        if wrong := [one for one in self.heard if not one.is_close]:
            worst = max(wrong, key=lambda one: one.difference / one.bound)
            said, found = worst.scores
            raise ParityError(
                f"the exported file does not say what the detector says, so it is not written: {len(wrong)} of "
                f"{len(self.heard)} sounds differ by more than the bound of {self.bound:g}, relative to their "
                f"score; most: {worst.name}, with a score of {said:.8g}, and {found:.8g} in the "
                f"file, by {worst.difference:.2g}; {self.changed_decisions} decisions change{remedy}"
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
        Of the relative difference of a score. A score may be 0. So the difference is relative to the interquartile
        range of the normal scores behind the threshold, where the score is smaller than that; without a threshold,
        to the median score of the detector's own clips.
    """
    session = light_session(content)
    n_channels = session.get_inputs()[0].shape[0]
    names = [one.name for one in session.get_outputs()]
    said: list[tuple[_Sound, Verdict, dict[str, Any]]] = []
    unscored = []
    for sound in _sounds(detector, samples):
        try:
            verdict = detector.score(sound.samples, detector.sample_rate, name=sound.name)
        except AudioError:
            unscored.append(sound.name)
            continue
        given = np.ascontiguousarray(sound.samples[:n_channels])
        said.append((sound, verdict, dict(zip(names, _run(session, given), strict=True))))
    least = least_of(detector, [verdict.score for sound, verdict, _ in said if sound.is_own])
    heard = [_beside(detector.threshold, *one, least, bound) for one in said]
    return Parity(tuple(heard), tuple(unscored), bound)


def _run(session: onnxruntime.InferenceSession, samples: Samples) -> list[Any]:
    """What an exported file says of (channels, samples).

    Raises
    ------
    ParityError
        If ONNX Runtime cannot compute it, mostly for want of memory.
    """
    try:
        return session.run(None, {"samples": samples})
    except Exception as error:  # it has a class for each kind of failure, and no common one
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ParityError(
            f"the exported file cannot be run on {samples.shape[1]} samples, so it is not written ({why}); give "
            "fewer --seconds, or more memory"
        ) from error


def least_of(detector: Detector, own: Sequence[float]) -> float:
    """What differences are relative to at least."""
    if detector.threshold is None:
        return float(np.median(np.abs(own))) if own else 0.0
    lower, upper = np.quantile(detector.threshold.normal_scores, (0.25, 0.75)).tolist()
    return float(upper - lower)


def light_session(content: bytes) -> onnxruntime.InferenceSession:
    """An exported file in ONNX Runtime, with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _beside(
    threshold: Threshold | None,
    sound: _Sound,
    verdict: Verdict,
    found: Mapping[str, Any],
    least: float,
    bound: float,
) -> Heard:
    """What the detector said of a sound, beside what was found by the file."""
    allowed = bound if sound.samples.any(axis=1).all() else OF_SILENCE * bound
    scores = verdict.score, float(found["score"])
    difference = relative(*scores, least)
    heard = Heard(
        sound.name, sound.is_own, scores, NO_P_VALUES, UNDECIDED, difference, allowed, difference <= allowed
    )
    if threshold is None:
        return heard
    slack = allowed * max(abs(scores[0]), least)
    p_values = verdict.p_value, float(found["p_value"])
    highest, lowest = threshold.p_value(np.array([scores[0] - slack, scores[0] + slack])).tolist()
    decisions = scores[0] > threshold.value, bool(found["is_anomaly"])
    is_close = (
        heard.is_close
        and lowest * (1 - OF_P_VALUES) <= p_values[1] <= highest * (1 + OF_P_VALUES)
        and (decisions[0] == decisions[1] or abs(scores[0] - threshold.value) <= slack)
    )
    return replace(heard, p_values=p_values, decisions=decisions, is_close=is_close)


def relative(expected: float, found: float, least: float) -> float:
    """The difference, relative to what was expected, or to ``least`` if that is larger; infinite if one is NaN."""
    if expected == found:
        return 0.0
    unit = max(abs(expected), least)
    relative = abs(found - expected) / unit if unit else math.inf
    return relative if math.isfinite(relative) else math.inf


class _Sound(NamedTuple):
    """A sound at the detector's rate: is it one of the detector's own clips?"""

    name: str
    is_own: bool
    samples: Samples


def _sounds(detector: Detector, samples: int | None) -> Iterator[_Sound]:
    """All that are compared, as long as the file takes them."""
    for name, sound in _own(detector):
        yield _Sound(name, True, sound if samples is None else as_long(sound, samples))
    n_channels = len(detector.sample)
    least = max(branch.encoder.min_samples for branch in detector.branches)
    usual = round(detector.window_seconds * detector.sample_rate)
    for name, sound in _made(n_channels, max(least, usual if samples is None else samples)):
        yield _Sound(name, False, sound)
    if samples is None:
        for length in (least, least + round(LONGER * usual)):
            noise = np.float32(0.1) * _noise(length, n_channels, length)
            yield _Sound(f"noise of {length} samples", False, noise)


def _own(detector: Detector) -> Iterator[tuple[str, Samples]]:
    """The detector's own clips: that of its self-check, and the normal ones that it keeps as sound."""
    yield "the clip of the self-check", detector.sample
    for clip in () if detector.sounds is None else detector.sounds.clips:
        try:
            recorded = clip.load()
        except DamagedSoundError:
            continue  # scores do not need it
        yield clip.name, audio.at_rate(recorded.samples, recorded.rate, detector.sample_rate, clip.name)


def as_long(sound: Samples, samples: int) -> Samples:
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
