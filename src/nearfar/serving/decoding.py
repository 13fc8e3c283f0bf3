"""Recordings from outside are decoded in a process of their own, which may be lost.

This process never decodes them: whatever a file does to a decoder happens in ``serving.worker``, which has limits
of memory, computing time and time, no network, and nothing of the environment that it does not need. When it
exceeds a limit it is killed, and the next job gets a new one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nearfar.serving import worker
from nearfar.serving.limits import Limits
from nearfar.serving.worker import receive, send

log = logging.getLogger(__name__)

SECONDS_TO_START = 60.0
MOST_WAITING = 16  # jobs
KEPT_ENVIRONMENT = (  # what the interpreter, libraries, and those who look for weights need
    "PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "HOME", "USERPROFILE", "SYSTEMROOT", "TMPDIR", "TEMP", "TMP",
    "LANG", "LC_ALL", "XDG_CACHE_HOME", "LOCALAPPDATA", "OMP_NUM_THREADS", "LD_LIBRARY_PATH",
)  # fmt: skip


class WorkerError(RuntimeError):
    """A job has no outcome; the message says why, in a sentence for those who gave it.

    Parameters
    ----------
    message : str
    is_too_large : bool
        Whether it was too much: of memory, time, or sound.
    """

    def __init__(self, message: str, *, is_too_large: bool = False) -> None:
        super().__init__(message)
        self.is_too_large = is_too_large


class BusyError(RuntimeError):
    """Too many jobs wait already."""


class Worker:
    """A process that does one job at a time; one that is lost is replaced at the next job.

    Parameters
    ----------
    memory_bytes : int
    confined : bool
        Whether it may do nothing but decode and compute. One that saves a detector is not.
    """

    def __init__(self, *, memory_bytes: int, confined: bool = True) -> None:
        self._settings = {"memory_bytes": memory_bytes, "confined": confined}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.lacks: tuple[str, ...] = ()

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return None if self._process is None else self._process.pid

    def ask(self, job: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
        """What the process answers; it is killed if that takes longer.

        Raises
        ------
        WorkerError
            If there is no outcome.
        """
        with self._lock:
            process = self._started()
            try:
                assert process.stdin is not None
                send(process.stdin, {**job, "compute_seconds": seconds})  # type: ignore[arg-type]
                told = self._answers.get(timeout=seconds)
            except queue.Empty:
                self._end()
                raise WorkerError(f"it took longer than {seconds:g} s", is_too_large=True) from None
            except OSError:  # it was lost before
                told = None
            if told is None:
                code = self._end()
                log.warning("the worker ended with %s", code)
                raise WorkerError("it took more memory or computing than is allowed", is_too_large=True)
        if "refused" in told:
            raise WorkerError(told["refused"], is_too_large=told["is_too_large"])
        if "failed" in told:
            raise WorkerError(told["failed"])
        return told

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def kill(self) -> None:
        """End the process at once, whatever it does: whoever waits for it is told."""
        if (process := self._process) is not None:
            process.kill()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        command = [sys.executable, "-m", worker.__name__, json.dumps(self._settings)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=reduced_environment()
        )
        self._process, self._answers = process, queue.Queue()
        threading.Thread(target=_hand_on, args=(process, self._answers), daemon=True).start()
        try:
            ready = self._answers.get(timeout=SECONDS_TO_START)
        except queue.Empty:
            ready = None
        if ready is None:
            self._end()
            raise WorkerError("the process that decodes did not start; the log of the service says why")
        self.lacks = tuple(ready["lacks"])
        for lack in self.lacks:
            log.warning("recordings from outside are decoded with less protection: %s", lack)
        return process

    def _end(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        process.kill()
        code = process.wait()
        assert process.stdin is not None
        try:
            process.stdin.close()
        except OSError:  # what it was to be told last
            log.debug("the worker ended before it took its job")
        return code


def _hand_on(process: subprocess.Popen[bytes], answers: queue.Queue[dict[str, Any] | None]) -> None:
    """Hand on what a worker answers, until it ends."""
    assert process.stdout is not None
    with process.stdout as file:
        while (told := receive(file)) is not None:  # type: ignore[arg-type]
            answers.put(told)
    answers.put(None)


def reduced_environment() -> dict[str, str]:
    """What a worker gets to know of the environment; it computes with one thread unless that is said otherwise."""
    kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    return {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **kept}


class Decoder:
    """One warm worker, which explains recordings one after the other.

    Parameters
    ----------
    limits : Limits
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.worker = Worker(memory_bytes=limits.work_bytes)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decoding")
        self._waiting = 0

    async def content(self, detector: Path, file: Path, *, at: float | None = None) -> dict[str, Any]:
        """What speaks for the verdict, as of ``Explanation.content``; parameters and errors as of ``page``."""
        told = await self._explain(detector, file, {"at": at, "last": None, "page": False})
        content: dict[str, Any] = told["content"]
        return content

    async def page(
        self, detector: Path, file: Path, *, at: float | None = None, last: float | None = None
    ) -> bytes:
        """The page of an explanation.

        Parameters
        ----------
        detector : Path
            Its folder.
        file : Path
            The recording.
        at : float or None
            In seconds: where the window begins that is explained. ``None``: the most anomalous one.
        last : float or None
            In seconds: explain the end of the recording, so long.

        Raises
        ------
        WorkerError
            If the recording is not usable, or takes too much.
        BusyError
            If too many wait already.
        """
        told = await self._explain(detector, file, {"at": at, "last": last, "page": True})
        page: str = told["page"]
        return page.encode()

    async def _explain(self, detector: Path, file: Path, how: Mapping[str, Any]) -> dict[str, Any]:
        if self._waiting >= MOST_WAITING:
            raise BusyError("too many recordings wait to be decoded; try again in a few seconds")
        job = {
            "do": "explain", "detector": str(detector.resolve()), "folder": str(file.parent), "file": file.name,
            "seconds": self._limits.recording_seconds, **how,
        }  # fmt: skip
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            seconds = self._limits.work_seconds
            return await loop.run_in_executor(self._thread, lambda: self.worker.ask(job, seconds=seconds))
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the worker."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self.worker.kill()
        self._thread.shutdown()
        self.worker.close()
