"""Recordings whose channels are files of their own: the tracks of one recorder, each with one microphone.

Recorders with several inputs write ``..._Tr1.wav``, ``..._Tr2.wav`` beside each other. They are one recording if
all of them are mono, and numbered without a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError
from nearfar.recordings.clips import Clip
from nearfar.recordings.recording import TRACK

MOST_TRACKS = 8  # of a portable recorder; more files are so many recordings that somebody numbered


def grouped(paths: Iterable[Path]) -> list[tuple[Path, ...]]:
    """The files of each recording, in the order of their first files; tracks in the order of their numbers."""
    places: dict[Path, int] = {}  # of files that may be tracks
    found: list[tuple[int, tuple[Path, ...]]] = []
    alike: dict[tuple[str, ...], list[Path]] = {}
    for place, path in enumerate(paths):
        match = TRACK.fullmatch(path.stem)
        if match is None:
            found.append((place, (path,)))
        elif path not in places:
            places[path] = place
            alike.setdefault((str(path.parent), match["name"], path.suffix.lower()), []).append(path)
    for files in alike.values():
        ordered = tuple(sorted(files, key=_number))
        groups = [ordered] if _are_tracks(ordered) else [(file,) for file in files]
        found += [(min(places[file] for file in group), group) for group in groups]
    return [files for _, files in sorted(found, key=lambda one: one[0])]


def joined(clips: Sequence[Clip]) -> tuple[Clip, ...]:
    """The same clips, of which those that are tracks of one recording are one, called like its first track."""
    by_path = {clip.path: clip for clip in clips}
    if len(by_path) < len(clips):  # the same file twice, which is for others to tell
        return tuple(clips)
    return tuple(replace(by_path[files[0]], tracks=files[1:]) for files in grouped(by_path))


def _number(path: Path) -> int:
    match = TRACK.fullmatch(path.stem)
    return 0 if match is None else int(match["number"])


def _are_tracks(files: Sequence[Path]) -> bool:
    """Whether files of one name are tracks of one recording."""
    if not 1 < len(files) <= MOST_TRACKS:
        return False
    if any(_number(after) != _number(before) + 1 for before, after in pairwise(files)):
        return False
    return all(map(_may_be_mono, files))


def _may_be_mono(path: Path) -> bool:
    """Whether a file has one channel; also if it cannot be read, which is for the reader to tell."""
    try:
        return audio.read_header(path).channels == 1
    except (AudioError, OSError):
        return True
