"""Listening to recordings, one after the other, which can be interrupted at any moment and goes on where it was.

What was heard is appended to a log, in whole lines. Beside it is a state: how long the log was when the state was
written, which window comes next, and what events and alarms know of the windows before. That is little,
whatever the length of the recordings. Both are checked against digests in the state. A state is written once a
second and at the end, whole or not at all. Who goes on cuts the log to the length that the state names. So nothing
is lost but a second of work, and what is heard in the end is equal, byte for byte, to what an unbroken run hears.

A folder belongs to one detector, to one way of listening, and to recordings that do not change. Recordings may
be added after the others.

The recording that was heard last may yet change: a recorder may still have been writing it. So the state also has a
snapshot, what was known when that recording began. If it has changed since, all is taken back to the snapshot, and
it is heard again from its start. If a recording changes while it is heard, the snapshot stays at its start, also
while later ones are heard.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import Any, Self

from numpy.typing import NDArray

from nearfar.detector.fitted import BranchScore, Detector, Verdict
from nearfar.files.atomic import no_space_names, refuse_unwritable, write_json
from nearfar.files.digests import digest, digest_arrays
from nearfar.files.extras import MissingPackageError
from nearfar.files.locks import LockedError, locked
from nearfar.listening.events import Event, event_from, event_to
from nearfar.listening.scoring import WindowVerdict, listen, listen_to
from nearfar.listening.steps import Alert, Heard, HeardWindow, Steps, Tracker
from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError, Header
from nearfar.recordings.inspection.faults import RecordingFault
from nearfar.recordings.inspection.measured import Levels
from nearfar.recordings.inspection.usual import LENGTH_MARGIN
from nearfar.recordings.microphones import MicrophoneError
from nearfar.recordings.recording import Recording
from nearfar.systems.branches import Progress
from nearfar.windows.cutting import Cut, Window
from nearfar.windows.streaming import Stream

logger = logging.getLogger(__name__)

UNREADABLE = (
    AudioError,
    MicrophoneError,
    MissingPackageError,
    OSError,
)  # what ends a recording, not the session
FORMAT = 2  # 1 had no snapshot
STATE, LOG, LOCK = "state.json", "heard.jsonl", "lock"
SHORT_DIGEST = 12  # characters in messages
READ_AT_ONCE = 2**20  # bytes of a log
EVERY = 1.0  # seconds between two states
SCORING = "scoring"  # the step that progress is told of
NUMBERS = ("score", "p_value")  # of a verdict: NaN if they are not known


class SessionError(ValueError):
    """A folder of state belongs to other recordings or another way of listening, or is damaged."""


@dataclass(frozen=True, slots=True)
class Listening:
    """What is listened to, and how.

    Attributes
    ----------
    detector : Detector
    recordings : sequence of Recording
        Of one machine, in order of time.
    cut : Cut or None
        How they are cut into windows; ``None``: those that are longer than the training clips, as the detector
        does it.
    gap : float or None
        Seconds of an event, as of ``events.Events``; ``None``: a window. A detector without a threshold has no
        events.
    rules : mapping from str to Tracker
        Rules for alerts that have heard nothing yet, by what they are called.

    Raises
    ------
    ValueError
        If windows are so much shorter than the training clips that none could be used.
    """

    detector: Detector
    recordings: Sequence[Recording]
    cut: Cut | None = None
    gap: float | None = None
    rules: Mapping[str, Tracker] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shortest = 0.0 if self.detector.usual is None else float(self.detector.usual.seconds[0])
        if self.cut is not None and self.cut.seconds * LENGTH_MARGIN < shortest:
            window = f"{self.cut.seconds:g}"
            raise ValueError(
                f"window={window}: shorter than the training clips ({shortest:.4g} s) by more than a factor of "
                f"{LENGTH_MARGIN:g}, so no window could be used; fit with --window {window} (in Python: cut="
                f"Cut.of({window})), or leave the window out"
            )

    @property
    def own_cut(self) -> Cut:
        """How recordings are cut that are."""
        return self.detector.cut if self.cut is None else self.cut

    @property
    def own_gap(self) -> float:
        return self.own_cut.seconds if self.gap is None else self.gap

    def steps(self) -> Steps:
        """What follows from each window, before the first one."""
        return Steps(None if self.detector.threshold is None else self.own_gap, self.rules)

    def is_whole(self, seconds: float) -> bool:
        """Whether a recording of that length is one clip, as it is."""
        return self.cut is None and not self.detector.is_long(seconds)

    def size_of(self, recording: Recording) -> tuple[float, int] | None:
        """How long a recording is, in seconds, and how many windows it has; ``None`` if it cannot be read."""
        header = _header_of(recording)
        if header is None:
            return None
        return header.seconds, 1 if self.is_whole(header.seconds) else self.own_cut.count(
            header.samples, header.rate
        )

    def identity(self) -> dict[str, Any]:
        """What determines what is heard in the recordings, as JSON values."""
        threshold = self.detector.threshold
        return {
            "detector": digest_of(self.detector),
            "false_alarm_rate": None if threshold is None else threshold.false_alarm_rate,
            "window": self.own_cut.seconds,
            "hop": self.own_cut.hop,
            "clips_as_they_are": self.cut is None,
            "gap": self.own_gap,
            "rules": list(self.rules),
        }


def digest_of(detector: Detector) -> str:
    """Of everything in a detector that makes its verdicts: another digest, other verdicts."""
    arrays: dict[str, NDArray[Any]] = {"sample": detector.sample}
    for number, branch in enumerate(detector.branches):
        arrays |= {f"{number}.{name}": array for name, array in branch.arrays().items()}
    if detector.threshold is not None:
        arrays["normal_scores"] = detector.threshold.normal_scores
    if detector.normals is not None:
        arrays["normals"] = detector.normals
    if detector.usual is not None:
        arrays |= {f"usual.{name}": array for name, array in detector.usual.arrays().items()}
    return digest([detector.machine, detector.system.describe(), digest_arrays(arrays)])


def run(
    task: Listening, *, folder: Path | None = None, progress: Progress | None = None
) -> Generator[Heard, None, None]:
    """What is heard, in order of time: each window, and after it the events and alerts that follow from it.

    A recording that changes while it is heard is told by a warning. If it was the last one that a state has heard,
    it is heard again from its start.

    Parameters
    ----------
    task : Listening
    folder : Path or None
        Where the state is kept. What was heard before is given again, and then goes on.
    progress : callable or None
        Called with (step, done, total): windows.

    Raises
    ------
    SessionError
        If the folder belongs to something else, is damaged, or is in use; if a recording is a pipe or device, of
        which nothing is known before it is read.
    OSError
        If the state cannot be written.
    """
    _refuse_pipes(task.recordings, folder)
    steps, place = task.steps(), (0, 0)
    total = sum(1 if size is None else size[1] for size in map(task.size_of, task.recordings))
    told = 0

    def tell(found: Sequence[Heard]) -> Sequence[Heard]:
        nonlocal told
        told += sum(isinstance(one, HeardWindow) for one in found)
        if progress is not None and found:
            progress(SCORING, min(told, total), total)
        return found

    with _opened(task, folder) as log:
        if log is not None:
            place = log.done.place
            if log.done.steps is not None:
                steps.restore(log.done.steps)
            for before in log.lines():
                yield from tell([before])
        for number in range(place[0], len(task.recordings)):
            first = place[1] if number == place[0] else 0
            for found in _heard_in(task, number, first, steps, log):
                yield from tell(found)


def _heard_in(
    task: Listening, number: int, first: int, steps: Steps, log: _Log | None
) -> Iterator[Sequence[Heard]]:
    """What is heard in the recording of this number, from that window on, and after it; all of it is in the log."""
    recording = task.recordings[number]
    told = _told(recording) if log is None or first == 0 else log.recordings[number]
    if log is not None and first == 0:
        log.begin(number, told, steps)
    for heard in _windows(task, recording, first):
        found = steps.after(heard)
        if log is not None:
            whole = heard.window.seconds > 0  # else nothing of the recording can be read
            log.append(found, (number, heard.window.index + 1) if whole else (number + 1, 0), steps)
        yield found
    found = steps.end_of_recording()
    if log is not None:
        log.append(found, (number + 1, 0), steps)
    if _told(recording) != told:
        _say_changed(recording, log)
    yield found


def _refuse_pipes(recordings: Sequence[Recording], folder: Path | None) -> None:
    """Raise if a recording is a pipe or device: it would be one clip, however long it is."""
    for recording in recordings:
        if not audio.is_stream(recording.path):
            continue
        if folder is not None:
            raise SessionError(
                f"{recording}: a pipe or device cannot be read again, so there is no state of it"
            )
        raise SessionError(
            f"{recording}: a pipe or device is not cut into windows; give it as standard input, with a hyphen, "
            f"such as nearfar score DETECTOR - --window 10 < {recording}"
        )


def run_stream(task: Listening, stream: Stream) -> Generator[Heard, None, None]:
    """The same of what a pipe gives, as ``scoring.piped``: window by window, as they come."""
    steps = task.steps()
    for heard in listen_to(task.detector, stream, cut=task.own_cut):
        yield from steps.after(heard)
    yield from steps.end_of_recording()


def _say_changed(recording: Recording, log: _Log | None) -> None:
    """Say that a recording has changed while it was heard."""
    if log is None:
        again = "score it again when it is finished"
    else:
        log.keep_snapshot()
        again = "the same command will hear it again from its start, and what comes after it"
    logger.warning("%s: has changed while it was heard; %s", recording, again)


def _windows(task: Listening, recording: Recording, first: int) -> Iterator[WindowVerdict]:
    """The windows of a recording from that one on; of one that cannot be read, one that says why."""
    name, header = str(recording), _header_of(recording)
    if header is None or task.is_whole(header.seconds):
        if first == 0:
            window = Window(name, 0, 0.0, 0.0 if header is None else header.seconds)
            yield WindowVerdict(window, task.detector.score_file(recording))
        return
    yield from listen(task.detector, recording, cut=task.own_cut, first=first)


def length_of(recording: Recording) -> float | None:
    """How long a recording is, in seconds; ``None`` if it cannot be read."""
    header = _header_of(recording)
    return None if header is None else header.seconds


def _header_of(recording: Recording) -> Header | None:
    """The header of a file; ``None`` if nothing of it can be read, or it is a pipe, which has none before."""
    if audio.is_stream(recording.path):
        return None
    try:
        recorded = audio.in_blocks(recording)
        return recorded.header if recorded.is_counted else audio.read_header(recording)
    except UNREADABLE:
        return None


@dataclass(frozen=True, slots=True)
class _Done:
    """How far a session is: bytes of the log, the next window (number of its recording, its own), and the steps.

    ``log`` is the SHA-256 of these bytes, which goes on where they do.
    """

    size: int = 0
    place: tuple[int, int] = (0, 0)
    steps: dict[str, Any] | None = None
    log: Any = field(default_factory=hashlib.sha256, compare=False)

    def content(self) -> dict[str, Any]:
        """As JSON values."""
        log = self.log.hexdigest()
        return {"next": list(self.place), "bytes": self.size, "steps": self.steps, "log": log}

    @classmethod
    def of(cls, content: Mapping[str, Any], log: Path) -> Self:
        """From these values, and the log that they tell of.

        Raises
        ------
        SessionError
            If the log has not what it had; of states that tell no digest, if it has less.
        """
        recording, window = content["next"]
        size, summed = int(content["bytes"]), hashlib.sha256()
        there = log.stat().st_size if log.is_file() else 0
        if there < size:
            raise SessionError(
                f"{log}: damaged, {there} bytes, but the state beside it counts {size}; remove {log.parent} and "
                "begin again"
            )
        if size:
            with log.open("rb") as file:
                left = size
                while left > 0 and (some := file.read(min(left, READ_AT_ONCE))):
                    summed.update(some)
                    left -= len(some)
        if content.get("log") not in (None, summed.hexdigest()):
            raise SessionError(
                f"{log}: damaged (its digest has changed); remove {log.parent} and begin again"
            )
        return cls(size, (int(recording), int(window)), content["steps"], summed)


class _Log:
    """The log in a folder, and the state beside it.

    Attributes
    ----------
    done : _Done
        What was added. It is replaced as a whole, so that no signal finds half of it.
    recordings : list of dict
        What tells whether the recordings that were heard, or begun, are the same: as they were when they began.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], recordings: Sequence[dict[str, Any]]
    ) -> None:
        self._folder, self._identity = folder, dict(identity)
        self.done = self._saved = self._snapshot = _Done()
        self.recordings: list[dict[str, Any]] = []
        self._keeps_snapshot = False
        known = _known(folder)
        if known is not None:
            try:
                self._go_on(known, recordings)
            except SessionError:
                raise
            except (ValueError, TypeError, LookupError, AttributeError) as error:
                raise SessionError(
                    f"{folder / STATE}: damaged ({error}); remove {folder} and begin again"
                ) from error
        self._file = self._opened_log()
        self._time = time.monotonic()
        try:
            self._save()  # before the log is cut: it is never shorter than the state counts
            self._file.truncate(self.done.size)
            self._file.seek(self.done.size)
        except BaseException:
            self._file.close()
            raise

    def _go_on(self, known: Mapping[str, Any], recordings: Sequence[dict[str, Any]]) -> None:
        """Take up a state; if a recording that may be heard again has changed, from where it began."""
        log = self._folder / LOG
        done, self._snapshot = _Done.of(known, log), _Done.of(known["snapshot"], log)
        heard = known["recordings"][: done.place[0] + (done.place[1] > 0)]
        _refuse_other_ways(self._folder, known["identity"], self._identity)
        changed = _refuse_others(self._folder, heard, recordings, self._snapshot.place[0])
        if changed:
            after = "" if changed[0] == _name_of(heard[-1]) else ", and what came after it"
            logger.warning(
                "%s: has changed since it was heard; it is heard again from its start%s", changed[0], after
            )
            done = self._snapshot
            heard = heard[: done.place[0]]
        self.done = self._saved = done
        self.recordings = list(heard)

    def begin(self, number: int, told: dict[str, Any], steps: Steps) -> None:
        """Say that the recording of this number begins, as it is now."""
        self.recordings[number:] = [told]
        if not self._keeps_snapshot:
            self._snapshot = replace(self.done, place=(number, 0), steps=steps.state())

    def keep_snapshot(self) -> None:
        """The recording that was just heard is to be heard again: what follows makes no snapshot."""
        self._keeps_snapshot = True

    def _opened_log(self) -> FileIO:
        """The log, which has all that the state counts, and perhaps more."""
        path = self._folder / LOG
        path.touch()
        return path.open("r+b", buffering=0)

    def lines(self) -> Iterator[Heard]:
        """What was heard until the state was written."""
        with (self._folder / LOG).open("rb") as file:
            left = self._saved.size
            while left > 0 and (line := file.readline()):
                left -= len(line)
                try:
                    found = decoded(json.loads(line))
                except (ValueError, TypeError, LookupError) as error:
                    raise SessionError(
                        f"{file.name}: damaged ({error}); remove {self._folder} and begin again"
                    ) from error
                yield found

    def append(self, found: Sequence[Heard], place: tuple[int, int], steps: Steps) -> None:
        """Add what was heard, and say which window comes next."""
        content = "".join(json.dumps(encoded(one), allow_nan=False) + "\n" for one in found).encode()
        left = memoryview(content)
        with no_space_names(self._folder / LOG):
            while left:
                left = left[self._file.write(left) :]
        log = self.done.log.copy()
        log.update(content)
        self.done = _Done(self.done.size + len(content), place, steps.state(), log)
        if time.monotonic() - self._time >= EVERY:
            self._save()

    def _save(self) -> None:
        """Write the state after everything that was added."""
        done = self.done
        with no_space_names(self._folder / LOG):
            os.fsync(self._file.fileno())
        content = {
            "format": FORMAT, "identity": self._identity, "recordings": self.recordings, **done.content(),
            "snapshot": self._snapshot.content(),
        }  # fmt: skip
        write_json(self._folder / STATE, {**content, "digest": digest(content)})
        self._saved, self._time = done, time.monotonic()

    def close(self) -> None:
        """Write the state, and let the log go."""
        try:
            if self.done is not self._saved:
                self._save()
        finally:
            self._file.close()


@contextmanager
def _opened(task: Listening, folder: Path | None) -> Iterator[_Log | None]:
    """The log in a folder, of this process alone."""
    if folder is None:
        yield None
        return
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder}: a file; the state is a folder, choose another name")
    refuse_unwritable(folder / STATE, folder)
    if (
        folder.is_dir()
        and not (folder / STATE).is_file()
        and any(one.name not in (LOCK, LOG) for one in folder.iterdir())
    ):
        raise SessionError(f"{folder}: is there already, and is no state of listening; choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        log = _Log(folder, task.identity(), [_told(one) for one in task.recordings])
        try:
            yield log
        finally:
            log.close()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else listens with this folder as long as the body runs."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / LOCK))
        except LockedError as error:
            raise SessionError(
                f"{folder}: another process listens with this state; wait for its end, or give another folder"
            ) from error
        yield


def _known(folder: Path) -> dict[str, Any] | None:
    """The state in a folder, if there is one."""
    path = folder / STATE
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        said, version = content.pop("digest", None), content["format"]
        if said not in (None, digest(content)):  # states of 0.1 have none
            raise ValueError("its digest has changed")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise SessionError(f"{path}: damaged ({error}); remove {folder} and begin again") from error
    if version != FORMAT:
        raise SessionError(
            f"{path}: of format {version}, and this nearfar knows {FORMAT}; update it, or begin again elsewhere"
        )
    return content


def _told(recording: Recording) -> dict[str, Any]:
    """What tells whether a recording is the same: names, sizes and times of its files, and its channels."""
    files = []
    for path in recording.paths:
        try:
            found = path.stat()
            files.append([str(path), found.st_size, found.st_mtime_ns])
        except OSError:
            files.append([str(path), None, None])
    return {"files": files, "channels": list(recording.channels)}


def _refuse_other_ways(folder: Path, before: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Raise if a state is not of this detector and this way of listening."""
    differ = [key for key in identity if identity[key] != before.get(key)]
    if differ:
        changes = "; ".join(
            f"{_in_words(key, before.get(key))}, now {_in_words(key, identity[key], named=False)}"
            for key in differ
        )
        raise SessionError(
            f"{folder}: begun in another way: {changes}. Give the same as then, or another folder"
        )


def _in_words(key: str, value: Any, *, named: bool = True) -> str:
    """What an identity says, in words; a digest by its first characters."""
    match key:
        case "detector":
            told = str(value)[:SHORT_DIGEST]
        case "clips_as_they_are":
            key, told = "cut", "what is longer than the training clips" if value else "all recordings"
        case "window" | "hop" | "gap" if value is not None:
            told = f"{value:g} s"
        case "rules":
            key, told = "rules for alerts", " and ".join(map(repr, value or ())) or "none"
        case _:
            told = "none" if value is None else str(value)
    return f"{key.replace('_', ' ')}: {told}" if named else told


def _refuse_others(
    folder: Path, heard: Sequence[dict[str, Any]], recordings: Sequence[dict[str, Any]], first: int
) -> list[str]:
    """Raise if a state is not of these recordings; the names of those that have changed and may be heard again.

    Parameters
    ----------
    folder : Path
    heard, recordings : sequence of dict
        What is told of those that were heard, and of those that are given now.
    first : int
        The first that may have changed, because the state knows what was before it.
    """
    changed = []
    for number, one in enumerate(heard):
        if number >= len(recordings):
            raise SessionError(
                f"{folder}: begun with {_name_of(one)}, which is not among the recordings now; give it, too, or "
                "another folder"
            )
        now = recordings[number]
        if one == now:
            continue
        if number < first or not _is_another_state(one, now):
            raise SessionError(f"{folder}: {_difference(one, now)}")
        changed.append(_name_of(one))
    return changed


def _name_of(told: Mapping[str, Any]) -> str:
    return str(told["files"][0][0])


def _is_another_state(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a recording is one that was there before, of another size or time; not one that is gone."""
    names = [[file[0] for file in one["files"]] for one in (before, now)]
    there = all(file[1] is not None for file in now["files"])
    return names[0] == names[1] and before["channels"] == now["channels"] and there


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In which way a recording is not the one that was there before."""
    name = before["files"][0][0]
    names = [[file[0] for file in one["files"]] for one in (before, now)]
    if names[0] != names[1]:
        return (
            f"begun with {name}, where now {now['files'][0][0]} is; give the recordings in the same order, new "
            "ones after them, or give another folder"
        )
    if any(file[1] is None for file in now["files"]):
        return f"begun with {name}, which is gone; give it, too, or another folder"
    what = "other channels of " if before["channels"] != now["channels"] else ""
    why = "" if what else ", which has changed since (its size or time)"
    return f"begun with {what}{name}{why}; give another folder"


def encoded(heard: Heard) -> dict[str, Any]:
    """What was heard, as JSON values: an unknown number is None."""
    if isinstance(heard, Event):
        return {"event": event_to(heard)}
    if isinstance(heard, Alert):
        return {"alert": asdict(heard)}
    rules = {name: list(said) for name, said in heard.rules.items()}
    return {
        "window": _without_nan(asdict(heard.window)),
        "verdict": _without_nan(asdict(heard.verdict)),
        "rules": rules,
    }


def decoded(content: Mapping[str, Any]) -> Heard:
    """What was heard, from its JSON values."""
    if "event" in content:
        return event_from(content["event"])
    if "alert" in content:
        alert = content["alert"]
        return Alert(**{**alert, "window": Window(**alert["window"])})
    verdict = {**content["verdict"], **_with_nan({name: content["verdict"][name] for name in NUMBERS})}
    if verdict["levels"] is not None:
        verdict["levels"] = Levels(**_with_nan(verdict["levels"]))
    verdict["faults"] = tuple(RecordingFault(**one) for one in verdict["faults"])
    verdict["branches"] = tuple(BranchScore(**one) for one in verdict["branches"])
    rules = {name: (said[0], said[1]) for name, said in content["rules"].items()}
    return HeardWindow(Window(**_with_nan(content["window"])), Verdict(**verdict), rules)


def _without_nan(content: Any) -> Any:
    """The same with None for each number that is not known."""
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    return None if isinstance(content, float) and math.isnan(content) else content


def _with_nan(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The same with NaN for each number that is not known."""
    return {key: math.nan if value is None else value for key, value in numbers.items()}
