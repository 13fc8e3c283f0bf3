"""Events as label tracks, for programs that show sound and labels together.

The format is that of Audacity's label tracks, which other programs read, too: a line for each label, with start and end
in seconds of the recording and a text, separated by tabs, in UTF-8
(https://manual.audacityteam.org/man/importing_and_exporting_labels.html).
"""

from __future__ import annotations

from collections.abc import Iterable

from nearfar.files.names import encodable, one_line
from nearfar.listening.events import OK, Event


def label_track(events: Iterable[Event]) -> str:
    r"""The label track of events in one recording.

    Examples
    --------
    >>> from nearfar.listening.events import Event
    >>> from nearfar.listening.labels import label_track
    >>> event = Event("pump.wav", 10.0, 50.0, 4, 3, 0, 9.0, 0.01, 20.0, 30.0, {"near": "clipped", "far": "ok"})
    >>> label_track([event])
    '10.000000\t50.000000\tanomaly, peak 9, p 0.01, near clipped\n'
    """
    return "".join(f"{event.start:.6f}\t{event.end:.6f}\t{text_of(event)}\n" for event in events)


def text_of(event: Event) -> str:
    """What a label says of an event: peak score, p-value, and the state of microphones that have a fault."""
    states = [f"{name} {state}" for name, state in event.microphones.items() if state != OK]
    told = ["anomaly", f"peak {event.peak_score:.4g}", f"p {event.p_value:.2g}", *states]
    return one_line(encodable(", ".join(told)))
