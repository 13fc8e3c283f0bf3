"""The kinds of faults of a recording, and what each of them spoils."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from nearfar.recordings.microphones import NAMES, Microphone

BOTH = "both"
Spoils = Literal["nothing", "its microphone", "both together", "everything"]

# What a fault makes worthless. "both together": views that hear both microphones at once.
KINDS: dict[str, Spoils] = {
    "dead": "its microphone",
    "deaf": "its microphone",
    "gone": "its microphone",
    "units": "its microphone",
    "identical": "both together",
    "late": "both together",
    "drifting": "both together",
    "swapped": "everything",
    "short": "everything",
    "rate": "everything",
    "unrelated": "nothing",
    "long": "nothing",
    "clipped": "nothing",
    "offset": "nothing",
    "not_running": "nothing",  # the machine is odd, not the sound: the decision stands
    "unfinished_header": "nothing",
    "right_aligned": "nothing",
    "lossy": "nothing",
}


@dataclass(frozen=True, slots=True)
class RecordingFault:
    """Something that was found in a recording, beside its score.

    Attributes
    ----------
    kind : str
        Of ``KINDS``, or a note of the reader that spoils nothing.
    microphone : {"near", "far", "both"}
        The channels that have it.
    message : str
        What was measured, and what to look at.
    """

    kind: str
    microphone: str
    message: str

    def spoils(self, needs: Iterable[Microphone]) -> bool:
        """Whether one of these microphone views is worthless in this recording."""
        what = KINDS.get(self.kind, "nothing")
        if what == "its microphone":
            struck = NAMES if self.microphone == BOTH else (self.microphone,)
            return any(name in microphone.hears for microphone in needs for name in struck)
        if what == "both together":
            return any(len(microphone.hears) > 1 for microphone in needs)
        return what == "everything"


def each_once(faults: Sequence[RecordingFault]) -> tuple[RecordingFault, ...]:
    """The first fault of each kind and microphone."""
    found: dict[tuple[str, str], RecordingFault] = {}
    for fault in faults:
        found.setdefault((fault.kind, fault.microphone), fault)
    return tuple(found.values())
