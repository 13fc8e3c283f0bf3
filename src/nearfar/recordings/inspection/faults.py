"""The kinds of faults of a recording, and what each of them spoils."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nearfar.recordings.microphones import NAMES, Microphone
from nearfar.recordings.sound import Note

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
}
OF_THE_FILE = (
    "unfinished_header",
    "wrong_length",
    "right_aligned",
    "lossy",
    "start",
)  # notes of a reader that are told


@dataclass(frozen=True, slots=True)
class RecordingFault:
    """Something that was found in a recording, beside its score.

    Attributes
    ----------
    kind : str
        Of ``KINDS``, or of ``OF_THE_FILE``, which spoil nothing.
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


def of_notes(
    notes: Iterable[Note], usual: Mapping[str, int] | None = None, *, clips: int = 1
) -> list[RecordingFault]:
    """What a reader noted, as faults that spoil nothing; what most training clips have is not told again.

    Parameters
    ----------
    notes : iterable of Note
    usual : mapping from str to int or None
        In how many training clips each fault was found, by microphone and kind.
    clips : int
        How many training clips there are.
    """
    usual = usual or {}
    told = (note for note in notes if note.kind in OF_THE_FILE)
    return [
        RecordingFault(note.kind, BOTH, note.message)
        for note in told
        if 2 * usual.get(f"{BOTH} {note.kind}", 0) < clips
    ]


def each_once(faults: Sequence[RecordingFault]) -> tuple[RecordingFault, ...]:
    """The first fault of each kind and microphone."""
    found: dict[tuple[str, str], RecordingFault] = {}
    for fault in faults:
        found.setdefault((fault.kind, fault.microphone), fault)
    return tuple(found.values())
