"""Setting a threshold on normal recordings that the fit never saw: nothing is fitted again.

All scores behind the old threshold are replaced, not joined by new ones. Those of the fit are of other conditions,
and each of them is by another fit than the detector's own. The new ones are by the detector itself, so the
conformal rate is exact for recordings that are exchangeable with them.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nearfar.decisions.calibration import Calibration
from nearfar.decisions.thresholds import ROUNDING, Threshold, ThresholdConfig, smallest_rate
from nearfar.files.digests import digest
from nearfar.recordings import audio
from nearfar.recordings.clips import Clip, DatasetError, counted
from nearfar.recordings.datasets.layout import few
from nearfar.recordings.inspection.training import OFF as NOT_RUNNING
from nearfar.recordings.recording import Recording, Span, fingerprints
from nearfar.systems.branches import Progress, domains
from nearfar.windows.long_recordings import Cutting

if TYPE_CHECKING:
    from nearfar.detector.fitted import Verdict

LATER = "later recordings"  # how the clips came to be unseen

logger = logging.getLogger(__name__)

Score = Callable[[Sequence[Recording]], Iterable["Verdict"]]


@dataclass(frozen=True)
class Scored:
    """Normal recordings, what they scored, and what could not be used.

    Attributes
    ----------
    clips : tuple of Clip
        Those that count.
    scores : (n_clips,) array
    left_out : tuple of dict
        Of each recording that does not count: ``clip``, ``kind`` and ``message``.
    digest : str
        Of the contents of the clips that count.
    """

    clips: tuple[Clip, ...]
    scores: NDArray[np.float64]
    left_out: tuple[dict[str, str], ...]
    digest: str

    @property
    def calibration(self) -> Calibration:
        """The scores, with what is known of their clips."""
        how = {"by": LATER, "fits": 0, "groups": {}, "random_in": {}}
        return Calibration.of(self.scores, domains(self.clips), [clip.group for clip in self.clips], how)

    def describe(
        self, before: Threshold | None, cutting: Cutting | None, *, learnt_from: Literal["fit", "calibration"]
    ) -> dict[str, Any]:
        """What ``Detector.calibrated_on`` says, with the threshold before it and where that one is from.

        Parameters
        ----------
        before : Threshold or None
        cutting : Cutting or None
            Of long recordings.
        learnt_from : {"fit", "calibration"}
        """
        told: dict[str, Any] = {
            "clips": len(self.clips),
            "domains": dict(sorted(Counter(domains(self.clips).tolist()).items())),
            "digest": self.digest,
            "left_out": list(self.left_out),
            "recordings": None if cutting is None else cutting.describe(),
            "before": None,
        }
        if before is not None:
            by_domain = self.calibration.by_domain(above=before.value)
            told["before"] = {
                "value": before.value,
                "false_alarm_rate": before.false_alarm_rate,
                "normal_clips": len(before.normal_scores),
                "learnt_from": learnt_from,
                "flagged": int((self.scores > before.value).sum()),
                "domains": {d: {"clips": x.clips, "flagged": x.flagged} for d, x in by_domain.items()},
            }
        return told


def score_normals(
    clips: Sequence[Clip], score: Score, *, seen: NDArray[np.uint64], progress: Progress | None = None
) -> Scored:
    """Score normal recordings, each once.

    Parameters
    ----------
    clips : sequence of Clip
    score : callable
        Gives the verdict on each of several recordings, in their order.
    seen : (n,) array of uint64
        Fingerprints of the training clips; empty if they are not known.
    progress : callable or None
        Called with (step, done, total).

    Raises
    ------
    DatasetError
        If training clips are among the recordings.
    """
    prints, left_out = fingerprinted(clips)
    known = set(seen.tolist())
    _refuse_seen([clip for clip in clips if prints.get(clip.recording) in known])
    first: dict[tuple[int, Span | None], Clip] = {}
    for clip in clips:
        if clip.recording not in prints:
            continue
        content = prints[clip.recording], clip.span
        if first.setdefault(content, clip) is not clip:
            left_out.append(told_of(clip, "copy", f"a copy of {first[content].recording}"))
    kept, scores = [], []
    told = _told(score([clip.recording for clip in first.values()]), len(first), progress)
    for clip, verdict in zip(first.values(), told, strict=True):
        if verdict.decision == "unusable":
            kinds = [fault.kind for fault in verdict.faults] or ["unreadable"]
            message = verdict.error or "; ".join(fault.message for fault in verdict.faults)
            left_out.append(told_of(clip, kinds[0], message))
        elif not verdict.is_running:  # as a fit leaves it out: its score is not that of a machine that runs
            left_out += [told_of(clip, f.kind, f.message) for f in verdict.faults if f.kind == NOT_RUNNING][
                :1
            ]
        else:
            kept.append(clip)
            scores.append(verdict.score)
    contents = [prints[clip.recording] for clip in kept]
    parts = [(content, clip.span) for content, clip in zip(contents, kept, strict=True) if clip.span]
    described = (
        sorted(contents) if not parts else [sorted(contents), sorted((p, s.start, s.stop) for p, s in parts)]
    )
    return Scored(tuple(kept), np.array(scores, dtype=np.float64), tuple(left_out), digest(described))


def refuse_too_few(config: ThresholdConfig, scored: int, left_out: Sequence[dict[str, str]] = ()) -> None:
    """Raise if so few normal recordings cannot attain the false-alarm rate.

    Raises
    ------
    ValueError
        With the number of recordings that it takes, and what was left out.
    """
    rate = config.false_alarm_rate
    why = "".join(f"\n  left out {line}" for line in few(f"{x['clip']}: {x['message']}" for x in left_out))
    if scored == 0:
        raise ValueError(f"no normal recording that can be used, so there is no threshold to set{why}")
    if config.method != "conformal" or rate * (scored + 1) * (1 + ROUNDING) >= 1:
        return
    needed = math.ceil((1 - ROUNDING) / rate) - 1
    raise ValueError(
        f"false_alarm_rate={rate:g}: {counted(scored, 'normal recording')} that can be used attain no rate below "
        f"{smallest_rate(scored)}; give {needed} or more, ask for that rate or more, or take the method gamma, "
        f"which assumes a distribution{why}"
    )


def fingerprinted(clips: Sequence[Clip]) -> tuple[dict[Recording, int], list[dict[str, str]]]:
    """Of each recording that can be read more than once; and the others, as of ``Scored.left_out``."""
    found: dict[Recording, int] = {}
    known: dict[tuple[Path, ...], int] = {}  # of the files of a recording, whichever part of it
    left_out = []
    for clip in clips:
        paths = clip.recording.paths
        try:
            if any(audio.is_stream(path) for path in paths):
                left_out.append(told_of(clip, "stream", "a pipe or a device; give files"))
                continue
            if paths not in known:
                (known[paths],) = fingerprints([clip.recording])
            found[clip.recording] = known[paths]
        except OSError as error:
            left_out.append(told_of(clip, "unreadable", error.strerror or str(error)))
    return found, left_out


def _refuse_seen(seen: Sequence[Clip]) -> None:
    if seen:
        paths = list(dict.fromkeys(clip.path for clip in seen))  # of a long recording, all windows
        raise DatasetError(
            [
                f"{counted(len(paths), 'recording')} known to the fit, so their scores are too low; give normal "
                "recordings that it has not seen, of a later session if you can",
                *few(f"{path}: among the training clips" for path in paths),
            ]
        )


def told_of(clip: Clip, kind: str, message: str) -> dict[str, str]:
    """As of ``Scored.left_out``; the recording is named once, though what reads it names it too."""
    name = str(clip.recording)
    return {"clip": name, "kind": kind, "message": message.removeprefix(f"{name}: ")}


def _told(verdicts: Iterable[Verdict], total: int, progress: Progress | None) -> Iterator[Verdict]:
    for number, verdict in enumerate(verdicts, start=1):
        yield verdict
        if progress is not None:
            progress("scoring", number, total)
