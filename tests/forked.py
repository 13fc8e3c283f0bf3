"""The command line in a process of its own, without the second that a new Python takes to load what it needs.

A Python that has loaded the library waits; for each command it forks a process, which then does all that a new one
does: it loads the command line, reads the environment, runs ``main``, and ends as Python ends. What is measured or
looked at is never of such a process: which modules are loaded, how long a start takes, what a signal does to it.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

# Nothing of ``nearfar.cli``, which reads the environment when it is loaded, and no torch, which few commands need
LOADED = (
    "nearfar.detector.fitted", "nearfar.evidence.explanation", "nearfar.listening.session",
    "nearfar.research.experiment", "nearfar.watching.engine", "nearfar.simulation", "nearfar.report.fitted",
    "nearfar.report.results", "typer", "pandas", "sklearn.covariance", "sklearn.neighbors", "scipy.signal",
    "scipy.stats", "multiprocessing.pool",
)  # fmt: skip
AT_START = (
    "PYTHON",
    "LC_",
    "LANG",
    "OMP_",
    "OPENBLAS_",
    "MKL_",
    "LD_",
)  # variables that are read once, at the start
LONG = 600.0  # seconds: far more than any command takes
START = "import sys; sys.path.insert(0, {!r}); import forked; forked.serve({})()"
lock = threading.Lock()


def nearfar(
    *arguments: object,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: Path | str = os.devnull,
    timeout: float = LONG,
) -> subprocess.CompletedProcess[str]:
    """What ``nearfar`` returns, and what it says on both streams.

    Parameters
    ----------
    *arguments : object
        Of the command line.
    env : mapping or None
        Variables that are added to those of this process.
    cwd : Path or None
        The folder in which it runs; this one by default.
    stdin : Path or str
        The file that it reads as standard input; an empty one by default.
    timeout : float
        Seconds after which it is killed.

    Raises
    ------
    subprocess.TimeoutExpired
    ValueError
        If a variable is to be another one that Python reads only when it starts.
    """
    asked = {
        "arguments": ["nearfar", *map(str, arguments)], "environment": {**os.environ, **(env or {})},
        "cwd": str(cwd or Path.cwd()),
    }  # fmt: skip
    with (
        lock,
        Path(stdin).open("rb") as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        code = _waiting().run(asked, (given, out, err), timeout)
        said = [_text(stream) for stream in (out, err)]
    return subprocess.CompletedProcess(asked["arguments"], code, *said)


def _text(stream: BinaryIO) -> str:
    stream.seek(0)
    return stream.read().decode()


class _Waiting:
    """The Python that waits, as this process sees it."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair()
        self._environment = dict(os.environ)
        code = START.format(str(Path(__file__).parent), theirs.fileno())
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()
        self._answers = self._line.makefile("r")
        atexit.register(self._end)

    def _end(self) -> None:
        self._answers.close()
        self._line.close()
        self._process.wait()

    def run(self, asked: dict[str, Any], streams: Sequence[BinaryIO], timeout: float) -> int:
        """The exit code of a command that has these three streams, negative if a signal ended it."""
        for name, value in asked["environment"].items():
            if name.startswith(AT_START) and self._environment.get(name) != value:
                raise ValueError(f"{name}={value}: Python reads it when it starts; start one of its own")
        line = json.dumps(asked).encode() + b"\n"
        socket.send_fds(self._line, [line[:1]], [stream.fileno() for stream in streams])
        self._line.sendall(line[1:])
        begun = self._answers.readline()
        if not begun:
            raise OSError(f"the Python that waits has ended with {self._process.wait()}; it says why above")
        pid, until = int(begun), time.monotonic() + timeout
        timer = threading.Timer(timeout, os.kill, (pid, signal.SIGKILL))
        timer.start()
        code = int(self._answers.readline())
        timer.cancel()
        if time.monotonic() > until:
            raise subprocess.TimeoutExpired(asked["arguments"], timeout)
        return code


@functools.cache
def _waiting() -> _Waiting:
    """One for all tests of this process."""
    return _Waiting()


# In the process that waits


def serve(number: int) -> Callable[[], None]:
    """Fork a process for each command that comes in by a socket; in such a process, return what it has to call."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in LOADED:
            importlib.import_module(name)
    gc.freeze()  # so that the memory stays shared
    line = socket.socket(fileno=number)
    while True:
        first, streams, _, _ = socket.recv_fds(line, 1, 3)
        if not first:
            return lambda: None  # nobody will ask any more
        content = first
        while not content.endswith(b"\n"):
            content += line.recv(1 << 16)
        pid = os.fork()
        if pid == 0:
            line.close()
            return _prepared(json.loads(content), streams)
        for stream in streams:
            os.close(stream)
        line.sendall(f"{pid}\n".encode())
        line.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n".encode())


def _prepared(asked: dict[str, Any], streams: list[int]) -> Callable[[], None]:
    """All that is as at the start of a new process, but for modules; the command that it has to run."""
    for there, stream in zip((0, 1, 2), streams, strict=True):
        os.dup2(stream, there)
        os.close(stream)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    sys.path[:] = [path for path in sys.path if path != str(Path(__file__).parent)]
    sys.argv[:] = asked["arguments"]
    from nearfar.cli import main

    return main
