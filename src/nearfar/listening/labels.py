"""Events as label tracks, for programs that show sound and labels together.

The format is that of Audacity's label tracks, which other programs read, too: a line for each label, with start
and end in seconds of the recording and a text, separated by tabs, in UTF-8
(https://manual.audacityteam.org/man/importing_and_exporting_labels.html).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from nearfar.files.names import encodable, one_line
from nearfar.listening.events import OK, Event
from nearfar.recordings.recording import Recording


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


def label_files(target: Path, recordings: Sequence[Recording]) -> dict[str, Path]:
    """Where the label track of each recording goes.

    Parameters
    ----------
    target : Path
        The file, of one recording. Of several, or if a folder of this name is there: a folder, in which each
        recording has a file of its own name and ``.txt``, such as ``monday/pump.wav.txt``.
    recordings : sequence of Recording

    Raises
    ------
    NotADirectoryError
        If there are several recordings, and the target is a file.

    Examples
    --------
    >>> from pathlib import Path
    >>> from nearfar.listening.labels import label_files
    >>> from nearfar.recordings.recording import Recording
    >>> days = [Recording((Path("hall", day, "pump.wav"),)) for day in ("monday", "tuesday")]
    >>> [path.as_posix() for path in label_files(Path("labels"), days).values()]
    ['labels/monday/pump.wav.txt', 'labels/tuesday/pump.wav.txt']
    """
    names = {str(one) for one in recordings}
    if len(names) == 1 and not target.is_dir():
        return dict.fromkeys(names, target)
    if target.is_file():
        raise NotADirectoryError(
            f"{target}: a file, but {len(names)} recordings need a folder; give the name of one"
        )
    return {name: target / f"{below}.txt" for name, below in own_names(recordings).items()}


def own_names(recordings: Sequence[Recording]) -> dict[str, Path]:
    """The path of each recording below the folder that has them all: different for different recordings."""
    paths = {str(one): Path(os.path.abspath(one.path)) for one in recordings}  # noqa: PTH100  # keeps links
    try:
        common = os.path.commonpath([path.parent for path in paths.values()])
    except ValueError:  # on several drives
        return {name: Path(path.drive.strip(":"), *path.parts[1:]) for name, path in paths.items()}
    return {name: path.relative_to(common) for name, path in paths.items()}
