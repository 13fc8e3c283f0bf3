"""What a worker lacks comes from the driver, by content: recordings, weights, finished steps.

A worker that sees the driver's cache works in it, and nothing is sent. Any other has a cache of its own. It looks
there first, then asks. What it finishes goes back to the driver's cache, under the same keys.
"""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from nearfar.files.atomic import atomic_file, atomic_folder
from nearfar.files.cache_files import SHIPPED
from nearfar.files.digests import digest_file
from nearfar.files.steps import DONE, Jobs, default_cache

STEPS = "jobs"  # in a cache
PIECE = 32 * 2**20  # bytes of a file in one message
Ask = Callable[[tuple[str, Any]], Any]


@dataclass(frozen=True)
class Here:
    """Where a worker finds what a task names: a ``travelling.Finder``.

    Attributes
    ----------
    cache : Path
        Of this worker, or the driver's, if it is seen here.
    is_shared : bool
    ask : callable
        Asks the driver (what, of what).
    """

    cache: Path
    is_shared: bool
    ask: Ask
    found: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def of(cls, cache: str | None, mark: str, ask: Ask) -> Here:
        """By the driver's cache, and the name of a file that the driver has put there."""
        shared = cache is not None and (Path(cache) / mark).is_file()
        return cls(Path(cache) if shared and cache is not None else default_cache(), shared, ask)

    def in_cache(self, relative: str) -> Path:
        """A place in the cache; a finished step that it lies in is brought here."""
        place = self.cache / relative
        parts = PurePosixPath(relative).parts
        if not self.is_shared and parts[:1] == (STEPS,) and len(parts) > 4 and not place.exists():
            self.fetch(self.cache.joinpath(*parts[:4]))
        return place

    def file(self, told: str, size: int, changed: int) -> Path:
        """That file, or its content from the driver.

        Raises
        ------
        OSError
            If the driver has it no more, or it changes while it is sent.
        """
        place = Path(told)
        try:
            status = place.stat()
        except OSError:
            pass
        else:
            if (status.st_size, status.st_mtime_ns) == (size, changed):
                return place
        if told not in self.found:
            self.found[told] = self._shipped(place, size)
        return self.found[told]

    def _shipped(self, told: Path, size: int) -> Path:
        sha = self.ask(("digest", str(told)))
        if told.is_file() and told.stat().st_size == size and Jobs(self.cache).digests_of([told]) == [sha]:
            return told  # a copy: the same bytes, of another time
        place = self.cache / SHIPPED / sha[:2] / sha / told.name
        if not place.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(place) as part:
                with part.open("wb") as file:
                    for begin in range(0, size, PIECE):
                        file.write(self.ask(("bytes", (str(told), begin))))
                if digest_file(part) != sha:
                    raise OSError(f"{told}: changed on the driver's computer while it was sent; run again")
        return place

    def fetch(self, folder: Path) -> None:
        """A finished step from the driver's cache into this one, if it is there."""
        packed = self.ask(("step", folder.relative_to(self.cache).as_posix()))
        if packed is not None:
            unpack_folder(packed, folder)

    def offer(self, folder: Path) -> None:
        """A finished step of this cache to the driver's, if it is not there."""
        relative = folder.relative_to(self.cache).as_posix()
        if self.ask(("lacks", relative)):
            self.ask(("keep", (relative, pack_folder(folder))))


@dataclass
class There:
    """Answers what workers ask; in the driver.

    Attributes
    ----------
    cache : Path or None
    files : dict of str to int
        Files that tasks in hand name, and how many tasks: no other file is sent.
    """

    cache: Path | None
    files: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._counting = threading.Lock()  # tasks begin in one thread, and end in others

    def name(self, files: Iterable[str]) -> None:
        """A task that is about to be sent names these files."""
        with self._counting:
            for file in files:
                self.files[file] = self.files.get(file, 0) + 1

    def forget(self, files: Iterable[str]) -> None:
        """A task that has named these files has ended."""
        with self._counting:
            for file in files:
                self.files[file] -= 1
                if not self.files[file]:
                    del self.files[file]

    def answer(self, what: str, of: Any) -> Any:
        """By the kind of request.

        Raises
        ------
        PermissionError
            If it is of a file that no task names, or of a place outside the finished steps.
        """
        match what:
            case "digest":
                (sha,) = Jobs(self.cache).digests_of([self._file(of)])
                return sha
            case "bytes":
                name, begin = of
                with self._file(name).open("rb") as file:
                    file.seek(begin)
                    return file.read(PIECE)
            case "step":
                folder = self._step(of)
                return pack_folder(folder) if (folder / DONE).is_file() else None
            case "lacks":
                return not (self._step(of) / DONE).is_file()
            case "keep":
                relative, packed = of
                unpack_folder(packed, self._step(relative))
                return True
        raise PermissionError(f"{what}: nothing that a worker may ask")

    def _file(self, name: str) -> Path:
        if name not in self.files:
            raise PermissionError(f"{name}: no task names this file")
        return Path(name)

    def _step(self, relative: str) -> Path:
        parts = PurePosixPath(relative).parts
        if self.cache is None or len(parts) != 4 or parts[0] != STEPS or ".." in parts:
            raise PermissionError(f"{relative}: no place of a finished step")
        return self.cache.joinpath(*parts)


def pack_folder(folder: Path) -> bytes:
    """A folder and all in it, as a tar file without owners and times."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            info = tar.gettarinfo(path, path.relative_to(folder).as_posix())
            info.uid = info.gid = info.mtime = 0
            info.uname = info.gname = ""
            if path.is_file():
                with path.open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)
    return packed.getvalue()


def unpack_folder(packed: bytes, folder: Path) -> None:
    """The folder again: whole or, if it could not be written, absent. One that is finished stays."""
    with (
        atomic_folder(folder, replace=True, unless=DONE) as part,
        tarfile.open(fileobj=io.BytesIO(packed)) as tar,
    ):
        tar.extractall(part, filter="data")
