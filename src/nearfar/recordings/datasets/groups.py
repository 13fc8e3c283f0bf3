"""Which recordings belong together, by their names: of one day, one folder, one long recording cut into pieces.

Recordings that belong together are more alike than others. So a fit must not learn from some of them if the others
are to be scored as unseen clips. The name of a group begins with what it is: "day 2026-03-01", "folder hall 2",
"recording press_03".

Names are taken for groups only where a rule fits every recording and finds at least two groups. The first rule that
does is taken, the widest groups first:

1. **days**: every path contains a date, such as ``2026-03-01`` or ``20260301``;
2. **folders**: the recordings lie in several folders below the one that was given;
3. **recordings**: every name ends in a number, and without it there are at most half as many names as recordings:
   ``press_03_0001.wav``, ``press_03_0002.wav``, ``press_04_0001.wav``, ...

Names such as ``00.wav`` to ``99.wav``, or ``clip_001.wav`` to ``clip_100.wav``, say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from nearfar.recordings.recording import TRACK

COLUMNS = ("group", "day", "session", "recording")  # of a table, in the order in which they are looked for
CLIPS_A_RECORDING = 2  # at least, on average, of recordings that are known by the names of their pieces

_DATE = re.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<between>[-_.]?)(?P<month>0[1-9]|1[0-2])(?P=between)(?P<day>0[1-9]|[12]\d|3[01])"
    r"(?!\d)|(?<!\d)(?P<digits>20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?(?!\d)"
)  # the second is a date with a time, without anything between
_RUNNING = re.compile(r"(?P<rest>.*?)[-_. #(]*\d+\)?")


def groups_of_names(names: Sequence[str]) -> dict[str, str]:
    """The group of each recording, by its name; empty if names do not tell.

    Parameters
    ----------
    names : sequence of str
        Paths of recordings below one folder, with ``/``.

    Examples
    --------
    >>> from nearfar.recordings.datasets.groups import groups_of_names
    >>> groups_of_names(["a_1.wav", "a_2.wav", "b_1.wav", "b_2.wav"])["b_1.wav"]
    'recording b'
    >>> groups_of_names(["2026-03-01_morning_1.wav", "2026-03-02_morning_1.wav"])["2026-03-01_morning_1.wav"]
    'day 2026-03-01'
    >>> groups_of_names([f"{number:02}.wav" for number in range(100)])
    {}
    """
    for rule in (_days, _folders, _recordings):
        found = dict(rule(names))
        if len(set(found.values())) > 1:
            return found
    return {}


def _days(names: Sequence[str]) -> Mapping[str, str]:
    found = {}
    for name in names:
        match = _DATE.search(name)
        if match is None:
            return {}
        digits = match["digits"] or match["year"] + match["month"] + match["day"]
        found[name] = f"day {digits[:4]}-{digits[4:6]}-{digits[6:]}"
    return found


def _folders(names: Sequence[str]) -> Mapping[str, str]:
    """By the outermost folders that differ."""
    folders = {name: PurePosixPath(name).parts[:-1] for name in names}
    for depth in range(1, 1 + max((len(parts) for parts in folders.values()), default=0)):
        found = {name: f"folder {'/'.join(parts[:depth]) or '.'}" for name, parts in folders.items()}
        if len(set(found.values())) > 1:
            return found
    return {}


def _recordings(names: Sequence[str]) -> Mapping[str, str]:
    found = {}
    for name in names:
        stem = PurePosixPath(name).stem
        track = TRACK.fullmatch(stem)
        match = _RUNNING.fullmatch(stem if track is None else track["name"])
        if match is None or not any(map(str.isalnum, match["rest"])):
            return {}
        found[name] = f"recording {match['rest']}"
    return found if len(found) >= CLIPS_A_RECORDING * len(set(found.values())) else {}
