"""One log a task: where and when it ran, what was said in it, and how it ended."""

from __future__ import annotations

import logging
import os
import platform
import re
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from nearfar.files.cache_files import LOGS
from nearfar.files.digests import digest

OURS = "nearfar"
LONGEST = 100  # characters of a name, which file systems take


class Said(NamedTuple):
    """What a worker's logger said; the driver's logger of that name says it again."""

    level: int
    logger: str
    text: str

    def again(self) -> None:
        """By the logger of this process."""
        logging.getLogger(self.logger).log(self.level, "%s", self.text)


def log_of(cache: Path, kind: str, name: str) -> Path:
    """Where the log of a task lies.

    Parameters
    ----------
    cache : Path
    kind : str
        Of task, such as the module that does it.
    name : str
        Of the task, such as "fan, seed 1".
    """
    return cache / LOGS / kind.rpartition(".")[2] / f"{_file_name(name)}.log"


def _file_name(name: str) -> str:
    """As it is where it is short and plain; else plain, and different for each name."""
    plain = re.sub(r"[^\w.,=-]+", "_", name, flags=re.ASCII)[:LONGEST]
    return plain if plain == name.replace(" ", "_") else f"{plain}-{digest(name)[:8]}"


@contextmanager
def logged(place: Path | None, name: str, *, say: Any = None) -> Iterator[None]:
    """What is said in the body goes into the log of a task, after what is in it already.

    Parameters
    ----------
    place : Path or None
        The file; ``None``: there is none.
    name : str
        Of the task.
    say : callable or None
        Called with a ``Said`` for each warning, which is then for the driver to print; ``None``: this process
        prints it as ever.
    """
    with _written(place, name) as write, _heard(write, say):
        begun = time.monotonic()
        write(f"begun on {platform.node()}, process {os.getpid()}")
        try:
            yield
        except BaseException as error:
            write(
                f"failed after {time.monotonic() - begun:.1f} s\n{''.join(traceback.format_exception(error))}"
            )
            raise
        write(f"finished after {time.monotonic() - begun:.1f} s")


@contextmanager
def _written(place: Path | None, name: str) -> Iterator[Any]:
    if place is None:
        yield lambda _: None
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a", encoding="utf-8", errors="backslashreplace", buffering=1) as file:
        yield lambda text: file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {name}: {text.rstrip()}\n")


class _Handler(logging.Handler):
    def __init__(self, write: Any, say: Any) -> None:
        super().__init__(logging.INFO)
        self._write, self._say = write, say

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self._write(f"{record.levelname} {record.name}: {text}")
        if self._say is not None and record.levelno >= logging.WARNING:
            self._say(Said(record.levelno, record.name, text))


@contextmanager
def _heard(write: Any, say: Any) -> Iterator[None]:
    """Our loggers write into the log; so do warnings of libraries, where this process has nobody to tell."""
    ours, handler = logging.getLogger(OURS), _Handler(write, say)
    level, propagate, show = ours.level, ours.propagate, warnings.showwarning

    def shown(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
        text = warnings.formatwarning(message, category, filename, lineno)
        write(text)
        say(Said(logging.WARNING, OURS, text.strip()))

    ours.addHandler(handler)
    if say is not None:
        ours.setLevel(logging.INFO)
        ours.propagate, warnings.showwarning = False, shown  # type: ignore[assignment]
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)
        ours.propagate, warnings.showwarning = propagate, show
