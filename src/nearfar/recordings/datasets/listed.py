"""Which recording a row of a table means, however its name is spelt there.

A name that is written as it is means that recording. Otherwise folders may be separated by backslashes, an accented
letter may be one character or two, a byte that is not UTF-8 may be read as Windows-1252 or be escaped, the path may
begin with the folder's own name, and last, capitals may differ. A spelling that fits two recordings is ambiguous.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from nearfar.files.names import one_line
from nearfar.files.tables import LEGACY

_BYTES = re.compile("[\udc80-\udcff]")  # as Python stands for those that are not UTF-8


class ListedNames:
    """Names of recordings, to be found by what a table calls them.

    Parameters
    ----------
    names : iterable of str
        Paths below a folder, with ``/``.
    folder : str
        The name of that folder.

    Examples
    --------
    >>> from nearfar.recordings.datasets.listed import ListedNames
    >>> names = ListedNames(["train/a.wav", "train/A.wav"], "saw")
    >>> names.meant(r".\\train\\a.wav"), names.meant("train/b.wav"), names.meant("TRAIN/A.WAV")
    (('train/a.wav',), (), ('train/A.wav', 'train/a.wav'))
    """

    def __init__(self, names: Iterable[str], folder: str = "") -> None:
        self._folder = folder
        self._exact = frozenset(names)
        self._alike = _by(_spelling, self._exact)
        self._any_case = _by(_without_case, self._exact)

    def meant(self, said: str) -> tuple[str, ...]:
        """The recordings that this may mean, in order: one; none; or several, between which it does not tell."""
        if said in self._exact:
            return (said,)
        spelling = _spelling(said)
        below = spelling.removeprefix(f"{self._folder}/") if self._folder else spelling
        for known, key in (
            (self._alike, spelling),
            (self._alike, below),
            (self._any_case, _without_case(said)),
        ):
            if found := known.get(key):
                return tuple(sorted(found))
        return ()


def _by(key: Callable[[str], str], names: Iterable[str]) -> dict[str, set[str]]:
    """The names by their key; also by that of their escaped form, as messages show them."""
    found: dict[str, set[str]] = {}
    for name in names:
        for shown in {name, one_line(name)}:
            found.setdefault(key(shown), set()).add(name)
    return found


def _spelling(name: str) -> str:
    return PurePosixPath(unicodedata.normalize("NFC", _decoded(name)).replace("\\", "/")).as_posix()


def _without_case(name: str) -> str:
    return unicodedata.normalize("NFC", _spelling(name).casefold())


def _decoded(name: str) -> str:
    """The name with bytes that are not UTF-8 read as Windows did."""
    return _BYTES.sub(lambda found: bytes([ord(found.group()) - 0xDC00]).decode(LEGACY, "replace"), name)
