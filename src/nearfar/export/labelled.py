"""What 8 bits cost: two exports of one detector, in float32 and in integers, on the same labelled clips.

No bound holds for integers as it does for float32 (``export.parity``): each score moves a little. What counts is
whether faults are told from normal clips as before. So Omega of both exports is told, how far scores move, how many
decisions change, and what is gained: size and time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import onnxruntime
import pandas as pd
from numpy.typing import NDArray

from nearfar.detector.fitted import Detector
from nearfar.encoders.arithmetic import MOST_OMEGA_POINTS
from nearfar.evaluation import metrics
from nearfar.export import chain, parity
from nearfar.export.exporting import samples_of
from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError, Samples
from nearfar.recordings.clips import Clip, Dataset, DatasetError

CHANCE = 0.5  # Omega of scores that tell nothing
USELESS = (
    0.5  # of what Omega is above chance in float32: with less than that in integers, a file is not written
)

Tell = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Two exports on the same clips; pairs are of float32, then of integers.

    Attributes
    ----------
    clips, anomalies : int
    omega : (float, float)
        Between 0 and 1.
    largest_difference : float
        Of a score, relative: as of ``parity.Heard``.
    changed_decisions : int or None
        ``None`` without a threshold.
    size : (int, int)
        Bytes.
    milliseconds : (float, float)
        Processor time of a clip, the median.
    """

    clips: int
    anomalies: int
    omega: tuple[float, float]
    largest_difference: float
    changed_decisions: int | None
    size: tuple[int, int]
    milliseconds: tuple[float, float]

    @property
    def lost_points(self) -> float:
        """What integers take from Omega, in points; below 0 if they add to it."""
        return 100 * (self.omega[0] - self.omega[1])

    @property
    def warning(self) -> str | None:
        """What to tell if integers cost or gain too much or too little; else nothing."""
        told = []
        if abs(self.lost_points) > MOST_OMEGA_POINTS:
            told.append(
                f"8 bits change Omega by {-self.lost_points:+.2f} points; more than {MOST_OMEGA_POINTS:g} is never "
                "chosen without asking"
            )
        if self.milliseconds[1] > self.milliseconds[0]:
            told.append("8 bits are slower than float32 on this processor")
        return "; ".join(told) or None

    def require(self) -> None:
        """Refuse integers that tell nothing any more.

        Raises
        ------
        ParityError
            If Omega is above chance in float32, and less than ``USELESS`` of that in integers.
        """
        before, after = (omega - CHANCE for omega in self.omega)
        if before > 0 and after < USELESS * before:
            raise parity.ParityError(
                f"in 8 bits, Omega falls from {100 * self.omega[0]:.1f} to {100 * self.omega[1]:.1f} on "
                f"{self.clips} clips (chance has {100 * CHANCE:g}): the decisions would be useless, so nothing is "
                "written; export it without --int8"
            )

    def contents(self) -> dict[str, Any]:
        """All of it, JSON-able."""
        return asdict(self) | {"lost_points": self.lost_points, "warning": self.warning}


def test_clips(data: Dataset, machine: str) -> tuple[Clip, ...]:
    """The test clips of a machine in a data set: of that name, or of the only one.

    Raises
    ------
    ValueError
        If there is no such machine, or it has no test clips.
    """
    names = [one.name for one in data.machines]
    found = next((one for one in data.machines if one.name == machine or len(names) == 1), None)
    if found is None:
        raise ValueError(f"--data has no machine {machine!r}, but {', '.join(names)}; give one with its name")
    if not found.test:
        raise ValueError(f"--data has no test clips of {found.name!r}; they are in its folder `test`")
    return tuple(found.test)


def compare(
    detector: Detector,
    clips: Sequence[Clip],
    *,
    seconds: float | Literal["any"] | None = None,
    progress: Tell | None = None,
) -> Labelled:
    """Let both exports of a detector score labelled clips.

    Parameters
    ----------
    detector : Detector
    clips : sequence of Clip
        Of one machine, normal ones and anomalies.
    seconds : float, "any" or None
        As of ``exporting.export``. Of longer clips the beginning is scored; shorter ones are repeated.
    progress : callable or None
        Called with (done, total).

    Raises
    ------
    ValueError
        If the detector cannot be exported in 8 bits, or the clips have not both labels.
    DatasetError
        With all clips that cannot be read.
    """
    samples = samples_of(detector, seconds)
    contents = [
        chain.detector_model(detector, samples=samples, arithmetic=arithmetic).SerializeToString(
            deterministic=True
        )
        for arithmetic in ("float32", "int8")
    ]
    table = metrics.clip_table(clips)
    metrics.require_classes(table)
    sessions = [parity.light_session(content) for content in contents]
    found = _scored(detector, sessions, clips, samples, progress)
    scores = found[..., 0]
    omegas = [metrics.omega(metrics.evaluate(table, pd.Series(own, index=table.index))) for own in scores]
    least = parity.least_of(detector, scores[0].tolist())
    largest = max(parity.relative(one, other, least) for one, other in scores.T.tolist())
    changed = None if detector.threshold is None else int((found[0, :, 1] != found[1, :, 1]).sum())
    times = np.median(1000 * found[..., 2], axis=1).tolist()
    anomalies = int(metrics.is_anomalous(table).sum())
    sizes = (len(contents[0]), len(contents[1]))
    return Labelled(
        len(clips), anomalies, (omegas[0], omegas[1]), largest, changed, sizes, (times[0], times[1])
    )


def _scored(
    detector: Detector,
    sessions: Sequence[onnxruntime.InferenceSession],
    clips: Sequence[Clip],
    samples: int | None,
    progress: Tell | None,
) -> NDArray[np.float64]:
    """Score, decision and processor time in seconds: (files, clips, 3)."""
    found = np.full((len(sessions), len(clips), 3), np.nan)
    problems = []
    for number, clip in enumerate(clips):
        try:
            given = _loaded(detector, clip, samples)
        except AudioError as error:
            problems.append(str(error))
            continue
        for file, session in enumerate(sessions):
            found[file, number] = _heard(session, given)
        if progress is not None:
            progress(number + 1, len(clips))
    if problems:
        raise DatasetError(problems)
    return found


def _loaded(detector: Detector, clip: Clip, samples: int | None) -> Samples:
    """What the files take of a clip."""
    chosen = clip if clip.channels else replace(clip, channels=detector.selected_channels)
    recording = chosen.recording
    sound = audio.load(recording, detector.sample_rate)[: chain.channels(detector)]
    audio.require_length(sound, chain.least_samples(detector), detector.sample_rate, str(recording))
    return np.ascontiguousarray(sound if samples is None else parity.as_long(sound, samples))


def _heard(session: onnxruntime.InferenceSession, given: Samples) -> tuple[float, float, float]:
    """Score, decision (NaN without a threshold), and seconds of processor time."""
    began = time.process_time()
    values = session.run(None, {"samples": given})
    took = time.process_time() - began
    outputs = dict(zip((one.name for one in session.get_outputs()), values, strict=True))
    return float(outputs["score"]), float(outputs.get("is_anomaly", np.nan)), took
