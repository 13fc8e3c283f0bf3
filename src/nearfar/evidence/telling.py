"""Sentences on a verdict: what its p-value means, what its branches say, and whether it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nearfar.evidence.unusual import FEWEST_CLIPS
from nearfar.recordings.clips import counted
from nearfar.recordings.microphones import MICROPHONES

if TYPE_CHECKING:
    from nearfar.detector.fitted import Detector, Verdict
    from nearfar.evidence.excerpts import Excerpt

FIT_AGAIN = "fit it again with `nearfar fit`, which keeps them unless it is told not to"
MOST_TO_COUNT = 200  # normal clips, up to which their number says more than a share


def of_p_value(detector: Detector, verdict: Verdict) -> str:
    """What the p-value means; empty without one, and of a recording that cannot be used: it means nothing there."""
    threshold = detector.threshold
    if threshold is None or math.isnan(verdict.p_value) or verdict.decision == "unusable":
        return ""
    normal = threshold.normal_scores
    higher, n = int(np.count_nonzero(normal >= verdict.score)), len(normal)
    clips = f"{n} normal clips behind the threshold"
    if higher == 0:
        said = f"none of the {clips} scored as high"
        if detector.system.threshold.method == "conformal":
            said += f"; with so many, p cannot be below {threshold.floor:.2g}"
        else:
            said += "; p is of the distribution that was fitted to their scores"
    elif n <= MOST_TO_COUNT:
        said = f"{higher} of the {clips} scored as high or higher"
    else:
        said = f"{100 * higher / n:.2g} % of the {clips} scored as high or higher"
    rate = threshold.false_alarm_rate
    return f"p = {verdict.p_value:.2g}: {said}. Up to {rate:g} counts as an anomaly."


def of_decision(verdict: Verdict) -> str:
    """The decision in one or two words."""
    return {"anomaly": "Anomaly", "normal": "Normal", "unusable": "Unusable", "": "No decision"}[
        verdict.decision
    ]


def of_normal(detector: Detector, verdict: Verdict) -> str:
    """That a normal clip needs no reason, and how usual it is."""
    assert detector.threshold is not None
    normal = detector.threshold.normal_scores
    lower = float(np.mean(normal < verdict.score))
    usual = (
        "its score is in the middle of those of the normal clips"
        if 0.25 <= lower <= 0.75
        else f"its score is {'above' if lower > 0.5 else 'below'} that of "
        f"{100 * max(lower, 1 - lower):.0f} % of the normal clips"
    )
    return f"Normal: there is nothing to explain; {usual}."


def of_branches(verdict: Verdict) -> list[str]:
    """Which branches of a fused detector say so."""
    if not verdict.branches:
        return []
    ordered = sorted(verdict.branches, key=lambda branch: -branch.contribution)
    said = [f"{b.name} adds {b.contribution:.3g} (p = {b.p_value:.2g})" for b in ordered]
    return [f"Of the score of {verdict.score:.3g}, {', '.join(said)}."]


def of_health(detector: Detector, verdict: Verdict) -> tuple[str, ...]:
    """What is wrong with the recording itself, and what that means for the verdict."""
    if verdict.error:
        return (f"The recording cannot be used: {verdict.error}.",)
    if not verdict.faults:
        if detector.usual is None:
            return ("The recording itself shows no fault; what is usual for its microphones is not known.",)
        return ("Nothing is wrong with the recording itself, as far as can be told.",)
    heard = [MICROPHONES[name] for name in detector.system.microphones]
    said = []
    for fault in verdict.faults:
        message = fault.message.rstrip(".")
        if fault.spoils(heard):
            trust = "It spoils what the detector hears, so the verdict cannot be trusted"
        elif fault.kind == "not_running":
            trust = (
                "The score is of the machine as it is, so the verdict stands; see whether it was meant to run"
            )
        else:
            trust = "It does not spoil what the detector hears, so the verdict stands"
        said.append(f"{message[:1].upper()}{message[1:]}. {trust}.")
    return tuple(said)


def of_missing(
    detector: Detector, far: bool, maps: list[str], damaged: Sequence[str] = ()
) -> tuple[str, ...]:
    """What cannot be shown, why, and how to get it.

    Parameters
    ----------
    detector : Detector
    far : bool
        Whether there is a far microphone to compare with.
    maps : list of str
        Why branches have no map.
    damaged : sequence of str
        Why kept normal recordings cannot be read: a message for each of those that were wanted.
    """
    said = []
    if detector.sounds is None:
        said.append(
            "The detector does not keep how normal clips sound, so reasons, normal spectra and normal clips to "
            f"hear are missing; {FIT_AGAIN}."
        )
    if detector.sounds is not None and (n := len(detector.sounds.levels)) < FEWEST_CLIPS:
        said.append(
            f"The detector knows the levels of {counted(n, 'normal clip')} only, so reasons are missing: how much "
            f"normal clips differ is told by {FEWEST_CLIPS} or more; fit it with more of them."
        )
    if detector.sounds is not None and not detector.sounds.clips:
        said.append(
            "The detector keeps no normal recordings, so there are none to hear beside it, and fine spectra and "
            f"bursts are not compared with theirs; {FIT_AGAIN}."
        )
    if damaged:
        left_out = "it is left out" if len(damaged) == 1 else "they are left out; the first of them"
        said.append(
            f"{counted(len(damaged), 'normal recording')} of the detector cannot be read, so {left_out}: "
            f"{damaged[0]}."
        )
    if detector.sounds is not None and not far:
        said.append("There is no far microphone, so it is not known whether the sound comes from the hall.")
    return (*said, *maps)


def of_window(detector: Detector, excerpt: Excerpt) -> str:
    """Which window of a long recording it is, of how many; and how many are anomalous, if that is decided."""
    said = (
        f"It is the window of {excerpt.seconds:g} s from {clock(excerpt.start)} on, the most anomalous of "
        f"{counted(excerpt.windows, 'window')}"
    )
    if detector.threshold is None or excerpt.anomalous is None:
        return f"{said}."
    said += f"; {excerpt.anomalous} of them {'is' if excerpt.anomalous == 1 else 'are'} anomalous"
    expected = detector.threshold.false_alarm_rate * excerpt.windows
    return f"{said}, where {expected:.2g} are expected of a normal machine."


def clock(seconds: float) -> str:
    """A time in a recording: minutes and seconds, and hours where there are any."""
    whole, rest = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(whole), 60)
    tail = f"{rest:06.3f}".rstrip("0").rstrip(".")
    return f"{hours}:{minutes:02}:{tail}" if hours else f"{minutes}:{tail}"
