"""The program that decodes sound from outside, scores and explains it: ``python -m nearfar.serving.worker``.

It takes one job after the other from standard input and answers each on standard output, as JSON behind its length.
It ends when its input does, which is when its parent ends. Before it loads anything it gives up what it does not
need: memory beyond a limit, the network, files that it could write.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from nearfar.detector.fitted import Detector
    from nearfar.evidence.explanation import Explanation
    from nearfar.recordings.recording import Recording

LENGTH = struct.Struct(">Q")  # of what follows
MOST_DETECTORS = 8  # that are kept loaded
UPLOAD = "recording.wav"  # what a recording from outside is called here: libsndfile looks at what is in it
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
FORBIDDEN = ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.exec", "os.system",
             "os.posix_spawn", "os.fork")  # fmt: skip


class RefusedRecordingError(ValueError):
    """A recording of which nothing can be said.

    Parameters
    ----------
    message : str
    is_too_large : bool
        Whether it is too much of it, and not what it is.
    """

    def __init__(self, message: str, *, is_too_large: bool = False) -> None:
        super().__init__(message)
        self.is_too_large = is_too_large


def send(file: BinaryIO, told: Mapping[str, Any]) -> None:
    """Write one object."""
    body = json.dumps(told, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
    file.write(LENGTH.pack(len(body)) + body)
    file.flush()


def receive(file: BinaryIO) -> dict[str, Any] | None:
    """Read one object; ``None`` at the end."""
    head = file.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = file.read(length)
    return None if len(body) < length else json.loads(body)


def confine(memory_bytes: int) -> list[str]:
    """Give up what decoding does not need.

    Parameters
    ----------
    memory_bytes : int
        How much memory may be written to (``RLIMIT_DATA``, which does not count mapped libraries).

    Returns
    -------
    list of str
        What this system does not let it give up.
    """
    lacks = []
    if not _closes_network():
        lacks.append("the network is closed to Python code only")
    try:
        import resource
    except ImportError:  # Windows
        lacks.append("memory and computing time are not limited")
    else:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return lacks


def _closes_network() -> bool:
    """Enter a network without devices, if the system allows it."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    return any(libc.unshare(flags) == 0 for flags in (CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET))


def _forbid(event: str, _: Any) -> None:
    if event in FORBIDDEN:
        raise PermissionError(f"{event} is not for this process")


def _limit_computing(seconds: float) -> None:
    """From now on, so many seconds of computing; then the system ends this process."""
    with suppress(ImportError):
        import resource

        own = resource.getrusage(resource.RUSAGE_SELF)
        until = int(own.ru_utime + own.ru_stime + seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (until, resource.getrlimit(resource.RLIMIT_CPU)[1]))


class Detectors:
    """Detectors that were used last, loaded. One that was saved again is loaded again."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, int], Detector] = {}

    def at(self, folder: str) -> Detector:
        """The detector of a folder."""
        from nearfar.detector.fitted import Detector

        key = (folder, (Path(folder) / "detector.json").stat().st_mtime_ns)
        found = self._loaded.pop(key, None) or Detector.load(folder)
        self._loaded = {other: kept for other, kept in self._loaded.items() if other[0] != folder}
        self._loaded[key] = found
        while len(self._loaded) > MOST_DETECTORS:
            del self._loaded[next(iter(self._loaded))]
        return found


def explained(job: Mapping[str, Any], detectors: Detectors) -> dict[str, Any]:
    """Explain one recording.

    Parameters
    ----------
    job : mapping
        ``detector``, its folder; ``folder`` and ``file``, of the recording; ``at``, where the window that is
        explained begins, or null; or ``last``, how long it is if it ends where the recording does, or null;
        ``seconds``, the longest recording; ``page``, whether the page is wanted.
    detectors : Detectors

    Raises
    ------
    RefusedRecordingError
    """
    from nearfar.evidence.explanation import explain
    from nearfar.recordings.recording import Recording

    detector = detectors.at(job["detector"])
    os.chdir(job["folder"])  # so that messages name the file and not where it lies
    recording = _part(Recording.of(Path(job["file"])), job)
    try:
        explanation = explain(detector, recording, at=job["at"])
    except ValueError as error:
        raise RefusedRecordingError(str(error)) from error
    if explanation.verdict.error:
        raise RefusedRecordingError(f"{recording}: {explanation.verdict.error}")
    return {"page": _page(explanation)} if job["page"] else {"content": explanation.content()}


def _page(explanation: Explanation) -> str:
    from nearfar.report.pages.explained import page

    return page(explanation)


def _part(recording: Recording, job: Mapping[str, Any]) -> Recording:
    """What is explained of a recording; refused if it is none, or by its header longer than is allowed."""
    from nearfar.recordings import audio
    from nearfar.recordings.recording import Span
    from nearfar.recordings.sound import AudioError

    try:
        header = audio.read_header(recording)
    except (AudioError, OSError) as error:
        raise RefusedRecordingError(str(error)) from error
    if header.seconds > job["seconds"]:
        raise RefusedRecordingError(
            f"{recording}: {header.seconds:.0f} s, too long: at most {job['seconds']:g} s", is_too_large=True
        )
    if job["last"] is None or (last := round(job["last"] * header.rate)) >= header.samples:
        return recording
    return replace(recording, span=Span(header.samples - last, header.samples, header.rate))


def learnt(job: Mapping[str, Any], _: Detectors) -> dict[str, Any]:
    """Let a detector learn recordings, and save it in its place.

    Parameters
    ----------
    job : mapping
        ``detector``, its folder; ``folder`` and ``files``, of the recordings; ``domain``, of all of them;
        null: "target" if the detector's clips tell theirs, for what seemed anomalous is not like most of them.
    """
    from nearfar.detector.fitted import Detector
    from nearfar.recordings.clips import Clip, Domain

    loaded = Detector.load(job["detector"])
    os.chdir(job["folder"])
    # people have said that they are normal, whatever is in their names
    normals = [Clip(Path(name), loaded.machine, 0, "train", name, label="normal") for name in job["files"]]
    tells_domains = loaded.kept is not None and all(loaded.kept.bank.domain)
    domain: Domain | None = job["domain"] or ("target" if tells_domains else None)
    made = loaded.learn(normals, domain=domain)
    made.save(job["detector"], replace=True)
    return {"learnt": made.history[-1]}


JOBS: dict[str, Callable[[Mapping[str, Any], Detectors], dict[str, Any]]] = {
    "explain": explained,
    "learn": learnt,
}


def outcome(job: Mapping[str, Any], detectors: Detectors) -> dict[str, Any]:
    """What is answered to a job: what it made, or why it was ``refused``, or has ``failed``."""
    try:
        return JOBS[job["do"]](job, detectors)
    except RefusedRecordingError as error:
        return {"refused": str(error), "is_too_large": error.is_too_large}
    except MemoryError:
        return {"refused": "it needs more memory than is allowed", "is_too_large": True}
    except Exception as error:
        traceback.print_exc()
        told = " ".join(str(error).split()) if isinstance(error, ValueError | OSError) else ""
        return {"failed": told or f"an error of the program: {type(error).__name__}"}


def main() -> None:
    """Answer jobs until there are no more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    settings = json.loads(sys.argv[1])
    lacks = confine(settings["memory_bytes"]) if settings["confined"] else []
    if settings["confined"]:
        sys.addaudithook(_forbid)
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_take, args=(jobs,), daemon=True).start()
    send(answers, {"ready": True, "lacks": lacks})
    detectors = Detectors()
    while True:
        job = jobs.get()
        if job.get("compute_seconds"):
            _limit_computing(job["compute_seconds"])
        send(answers, outcome(job, detectors))


def _take(jobs: queue.Queue[dict[str, Any]]) -> None:
    """Take jobs from the parent; without it there is nobody to answer to, whatever is in hand."""
    while (job := receive(sys.stdin.buffer)) is not None:
        jobs.put(job)
    os._exit(0)


if __name__ == "__main__":
    main()
