"""Stand-in until the branch fast is merged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from nearfar.detector.fitted import Detector, Verdict
from nearfar.recordings import audio
from nearfar.recordings.recording import Recording
from nearfar.windows.cutting import Cut, Window


@dataclass(frozen=True, slots=True)
class WindowVerdict:
    window: Window
    verdict: Verdict


def listen(detector: Detector, recording: Recording, *, cut: Cut, first: int = 0) -> Iterator[WindowVerdict]:
    samples, rate = audio.read(recording)
    length, hop = round(cut.seconds * rate), round(cut.hop * rate)
    for index in range(first, cut.count(samples.shape[1], rate)):
        start = max(0, min(index * hop, samples.shape[1] - length))
        part = samples[:, start : start + length]
        verdict = detector.score(part, rate, name=str(recording))
        window = Window(str(recording), index, start / rate, part.shape[1] / rate)
        yield WindowVerdict(window, dataclasses.replace(verdict, name=str(recording)))
