"""The arithmetic of a system's encoder: ``precision="auto"`` becomes a name, once.

A resolved system holds the name. So all processes of a run compute alike, embeddings and steps are kept under it,
and a detector computes in it on every computer, or says what is missing there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nearfar.encoders import choosing
from nearfar.encoders.choosing import Work
from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError
from nearfar.recordings.clips import Clip
from nearfar.systems.components import Component

LOOKED_AT = 9  # recordings, for the length of all


def is_auto(encoder: Component) -> bool:
    """Whether the arithmetic of an encoder is still to be chosen."""
    return encoder.options.arguments().get("precision") == "auto"


def with_choice(
    encoder: Component,
    weights: str | None,
    clips: Sequence[Clip],
    *,
    microphones: int = 1,
    cache: Path | None = None,
) -> Component:
    """An encoder in the arithmetic that is fastest here for these recordings, if it is to be chosen.

    Parameters
    ----------
    encoder : Component
    weights : str or None
        SHA-256 of the file of its weights, which is then not computed again.
    clips : sequence of Clip
        That it is to hear.
    microphones : int
        That it hears of each, one after the other.
    cache : Path or None
        As of ``choosing.chosen``, which says what may be raised.
    """
    if not is_auto(encoder):
        return encoder
    made = encoder.make()
    made.digest = weights
    return _in(encoder, choosing.chosen(made, work=work_of(clips, microphones), cache=cache))


def with_former_choice(encoder: Component) -> Component:
    """An encoder of a file that says "auto", in what that was before it was measured; any other as it is."""
    return _in(encoder, choosing.unmeasured(encoder.make())) if is_auto(encoder) else encoder


def _in(encoder: Component, arithmetic: str) -> Component:
    return Component.resolve(
        "encoder", encoder.name, {**encoder.options.arguments(), "precision": arithmetic}
    )


def work_of(clips: Sequence[Clip], microphones: int = 1) -> Work:
    """What it is to hear these recordings, by the headers of a few of them.

    Parameters
    ----------
    clips : sequence of Clip
    microphones : int
        That are heard of each.
    """
    lengths = []
    for clip in clips[:: max(1, len(clips) // LOOKED_AT)]:
        with suppress(AudioError):  # told when it is read
            lengths.append(audio.read_header(clip.recording).seconds)
    if not lengths:
        return Work()
    return Work(len(clips) * microphones, sum(lengths) / len(lengths))
