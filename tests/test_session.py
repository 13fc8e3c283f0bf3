"""Listening that is interrupted, and goes on."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import RATE, clip, write_machine

from nearfar.decisions.alarms import AlarmRule
from nearfar.decisions.alerts import CountAlerts
from nearfar.detector.fitted import Detector
from nearfar.files.steps import Jobs
from nearfar.listening import session
from nearfar.listening.events import Event, events_of
from nearfar.listening.scoring import listen
from nearfar.listening.session import Alert, Heard, HeardWindow, Listening, SessionError
from nearfar.recordings import audio
from nearfar.recordings.recording import Recording
from nearfar.windows.cutting import Cut

FAULTY = (3, 4, 6)  # seconds of the long recording
SECONDS = 12
KILLS = 10


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of clips of a second; recordings of 12 s, of 3 s, of 1 s, and one that is none."""
    folder = tmp_path_factory.mktemp("session")
    write_machine(folder, "fan")
    Detector.fit(folder / "fan", "spectral", jobs=Jobs(folder / "cache")).save(folder / "detector")
    parts = [clip(9000 + i, faulty=i in FAULTY) for i in range(SECONDS)]
    audio.write(folder / "long.wav", np.concatenate(parts, axis=1), RATE)
    audio.write(folder / "later.wav", np.concatenate(parts[2:5], axis=1), RATE)
    audio.write(folder / "clip.wav", parts[0], RATE)
    (folder / "broken.wav").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def detector(place: Path) -> Detector:
    return Detector.load(place / "detector")


NAMES = ("long.wav", "broken.wav", "clip.wav", "later.wav")


def task(detector: Detector, place: Path, names: tuple[str, ...] = NAMES, **options: Any) -> Listening:
    assert detector.threshold is not None
    rules = {"2/3": CountAlerts(AlarmRule(2, 3), above=detector.threshold.value)}
    return Listening(detector, [Recording((place / name,)) for name in names], rules=rules, **options)


def lines(found: list[Heard]) -> str:
    return "\n".join(json.dumps(session.encoded(one)) for one in found)


@pytest.fixture(scope="module")
def unbroken(detector: Detector, place: Path) -> str:
    return lines(list(session.run(task(detector, place))))


def test_what_is_heard(detector: Detector, place: Path) -> None:
    found = list(session.run(task(detector, place)))
    windows = [one for one in found if isinstance(one, HeardWindow)]
    heard = [(Path(one.window.recording).name, one.window.index, one.verdict.decision) for one in windows]
    expected = [("long.wav", i, "anomaly" if i in FAULTY else "normal") for i in range(SECONDS)]
    expected += [("broken.wav", 0, "unusable"), ("clip.wav", 0, "normal")]
    assert heard == [*expected, *(("later.wav", i, "anomaly" if i else "normal") for i in range(3))]
    events = [(Path(e.recording).name, e.start, e.end, e.after) for e in found if isinstance(e, Event)]
    assert events == [
        ("long.wav", 3.0, 7.0, "normal"),
        ("later.wav", 1.0, 3.0, "recording"),
    ]
    alerts = [
        (Path(a.window.recording).name, a.window.index, a.begins) for a in found if isinstance(a, Alert)
    ]
    assert alerts == [("long.wav", 4, True), ("long.wav", 9, False), ("later.wav", 2, True)]
    on = [i for i, one in enumerate(windows) if one.rules["2/3"][0]]
    assert on == [4, 5, 6, 7, 8, 16]


def test_windows_and_events_are_those_of_listening_alone(detector: Detector, place: Path) -> None:
    cut = Cut.of(2.0, 0.5)
    one = Recording((place / "long.wav",))
    found = list(session.run(task(detector, place, ("long.wav",), cut=cut, gap=0.25)))
    alone = list(listen(detector, one, cut=cut))
    assert [(w.window, w.verdict) for w in found if isinstance(w, HeardWindow)] == [
        (w.window, w.verdict) for w in alone
    ]
    assert [event for event in found if isinstance(event, Event)] == list(events_of(alone, gap=0.25))


def test_an_event_comes_as_soon_as_it_is_over(detector: Detector, place: Path) -> None:
    found = list(session.run(task(detector, place, ("long.wav",))))
    at = next(i for i, one in enumerate(found) if isinstance(one, Event))
    before = [one for one in found[:at] if isinstance(one, HeardWindow)]
    assert before[-1].window.start == 9.0  # the first that begins after the gap, which is from 7 s to 8 s


def test_a_detector_without_a_threshold_has_windows_only(place: Path, tmp_path: Path) -> None:
    fitted = Detector.fit(place / "fan", "spectral", jobs=Jobs(tmp_path))
    fitted.threshold = None
    found = list(session.run(Listening(fitted, [Recording((place / "later.wav",))])))
    assert [type(one) for one in found] == [HeardWindow] * 3


@pytest.mark.parametrize("every", [0.0, 1e9], ids=["state after each window", "no state but at the end"])
def test_every_stop_goes_on_where_it_was(
    every: float,
    detector: Detector,
    place: Path,
    unbroken: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Closed after some things heard; and then once more after all."""
    monkeypatch.setattr(session, "EVERY", every)
    for stop in (0, 5, 6, 16, 18, 22):  # also in an event and an alert; 22 is all
        folder = tmp_path / str(stop)
        running = session.run(task(detector, place), folder=folder)
        list(islice(running, stop))
        running.close()
        assert lines(list(session.run(task(detector, place), folder=folder))) == unbroken


def test_what_was_heard_is_not_heard_again(
    detector: Detector, place: Path, unbroken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lines(list(session.run(task(detector, place), folder=tmp_path / "state"))) == unbroken

    def fail(*_: object, **__: object) -> Iterator[object]:
        raise AssertionError

    monkeypatch.setattr(session, "_windows", fail)
    assert lines(list(session.run(task(detector, place), folder=tmp_path / "state"))) == unbroken
    with pytest.raises(AssertionError, match=r"^$"):
        list(session.run(task(detector, place, (*NAMES, "long.wav")), folder=tmp_path / "state"))


def test_recordings_may_be_added(detector: Detector, place: Path, unbroken: str, tmp_path: Path) -> None:
    """Rules for alerts go on from one to the next."""
    for names in (NAMES[:1], NAMES[:3], NAMES):
        found = lines(list(session.run(task(detector, place, names), folder=tmp_path / "state")))
    assert found == unbroken


@pytest.mark.parametrize("torn", [1, 40, 1500])
def test_what_comes_after_the_state_is_cut_off(
    torn: int, detector: Detector, place: Path, unbroken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kill leaves it: whole lines and a torn one after those that the state counts."""
    folder = tmp_path / "state"
    monkeypatch.setattr(session, "EVERY", 0.0)
    running = session.run(task(detector, place), folder=folder)
    list(islice(running, 7))
    before = (folder / "state.json").read_bytes()
    list(islice(running, 9))
    running.close()
    (folder / "state.json").write_bytes(before)
    size = json.loads(before)["bytes"]
    with (folder / "heard.jsonl").open("r+b") as file:
        file.truncate(size + torn)
    assert lines(list(session.run(task(detector, place), folder=folder))) == unbroken
    assert lines(list(session.run(task(detector, place), folder=folder))) == unbroken  # of the log alone


@pytest.fixture
def begun(detector: Detector, place: Path, tmp_path: Path) -> Path:
    """A session that was interrupted in the middle of a recording, in a folder with its recordings."""
    shutil.copytree(place, tmp_path / "place", ignore=shutil.ignore_patterns("cache", "fan"))
    running = session.run(task(detector, tmp_path / "place"), folder=tmp_path / "state")
    list(islice(running, 7))
    running.close()
    return tmp_path


def refused(detector: Detector, begun: Path, names: tuple[str, ...] = NAMES, **options: Any) -> None:
    list(session.run(task(detector, begun / "place", names, **options), folder=begun / "state"))


def test_another_way_of_listening_is_refused(detector: Detector, begun: Path) -> None:
    with pytest.raises(
        SessionError, match=r"begun in another way: window was 1\.0 and is 2\.0, hop was 1\.0"
    ):
        refused(detector, begun, cut=Cut.of(2.0))
    with pytest.raises(
        SessionError, match=r"gap was 1\.0 and is 0\.5\. Give the same as then, or another folder"
    ):
        refused(detector, begun, gap=0.5)
    with pytest.raises(SessionError, match="false_alarm_rate was"):
        refused(detector.with_false_alarm_rate(0.2), begun)
    other = Listening(detector, [Recording((begun / "place" / name,)) for name in NAMES])
    with pytest.raises(SessionError, match=r"rules was \['2/3'\] and is \[\]"):
        list(session.run(other, folder=begun / "state"))


def test_another_detector_is_refused(place: Path, begun: Path) -> None:
    other = Detector.fit(place / "fan", "spectral", seed=1, jobs=Jobs(begun / "cache"))
    with pytest.raises(SessionError, match=r"detector was .* and is"):
        refused(other, begun)


def test_other_recordings_are_refused(detector: Detector, begun: Path) -> None:
    with pytest.raises(
        SessionError, match=r"begun with .*long\.wav, where now .*clip\.wav is; give the recordings"
    ):
        refused(detector, begun, ("clip.wav", *NAMES))
    with pytest.raises(SessionError, match=r"begun with .*later\.wav, which is not among the recordings now"):
        refused(detector, begun, NAMES[:3])
    os.utime(begun / "place" / "clip.wav", (0, 0))
    with pytest.raises(SessionError, match=r"begun with .*clip\.wav, which has changed since"):
        refused(detector, begun)
    (begun / "place" / "clip.wav").unlink()
    with pytest.raises(SessionError, match=r"begun with .*clip\.wav, which has changed since"):
        refused(detector, begun)


def test_other_channels_are_refused(detector: Detector, begun: Path) -> None:
    other = task(detector, begun / "place")
    swapped = [Recording(one.paths, (2, 1)) for one in other.recordings]
    with pytest.raises(SessionError, match=r"begun with other channels of .*long\.wav"):
        list(session.run(Listening(detector, swapped, rules=other.rules), folder=begun / "state"))


def test_two_at_once_are_refused(detector: Detector, begun: Path) -> None:
    running = session.run(task(detector, begun / "place"), folder=begun / "state")
    next(running)
    with pytest.raises(SessionError, match="another process listens with this state; wait for its end"):
        refused(detector, begun)
    running.close()
    refused(detector, begun)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("state.json", b"{", r"state\.json: damaged"),
        ("state.json", b'{"a": 1}', r"state\.json: damaged"),
        ("state.json", b'{"format": 99}', "of format 99, and this nearfar knows 1; update it"),
        ("heard.jsonl", b"", r"heard\.jsonl: damaged, 0 bytes, but the state beside it counts"),
        ("heard.jsonl", b"x" * 100_000, r"heard\.jsonl: damaged"),
    ],
)
def test_a_damaged_state_is_named(
    file: str, content: bytes, message: str, detector: Detector, begun: Path
) -> None:
    (begun / "state" / file).write_bytes(content)
    with pytest.raises(SessionError, match=message):
        refused(detector, begun)


def test_another_folder_is_left_alone(detector: Detector, place: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(
        SessionError, match="is there already, and is no state of listening; choose another name"
    ):
        list(session.run(task(detector, place), folder=tmp_path))
    with pytest.raises(NotADirectoryError, match="mine: a file; the state is a folder"):
        list(session.run(task(detector, place), folder=tmp_path / "mine"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_an_empty_folder_is_taken(detector: Detector, place: Path, tmp_path: Path) -> None:
    assert list(session.run(task(detector, place, ("clip.wav",)), folder=tmp_path))


def test_a_pipe_has_no_state(detector: Detector, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SessionError, match="pipe: a pipe or device cannot be read again"):
        list(session.run(Listening(detector, [Recording((tmp_path / "pipe",))]), folder=tmp_path / "state"))


def test_a_pipe_among_files_is_refused(detector: Detector, place: Path, tmp_path: Path) -> None:
    """It was one clip of all that came, without regard to windows and to the rate that was given."""
    os.mkfifo(tmp_path / "pipe")
    recordings = [Recording((place / "clip.wav",)), Recording((tmp_path / "pipe",))]
    with pytest.raises(
        SessionError, match=r"pipe: a pipe or device is not cut into windows; .* - --window 10"
    ):
        list(session.run(Listening(detector, recordings)))


def test_a_full_disk_is_told_and_what_was_heard_stays(
    detector: Detector, place: Path, unbroken: str, tmp_path: Path
) -> None:
    folder, before = tmp_path / "state", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(27)) as raised:
            list(session.run(task(detector, place), folder=folder))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert Path(raised.value.filename).name == "heard.jsonl"
    assert json.loads((folder / "state.json").read_text())["bytes"] > 0
    assert lines(list(session.run(task(detector, place), folder=folder))) == unbroken


def test_progress_counts_windows(detector: Detector, place: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    running = session.run(task(detector, place), folder=tmp_path / "s", progress=lambda *x: told.append(x))
    list(islice(running, 5))
    running.close()
    list(session.run(task(detector, place), folder=tmp_path / "s", progress=lambda *x: told.append(x)))
    assert {(step, total) for step, _, total in told} == {("scoring", 17)}
    assert told[-1][1] == 17


def test_what_was_heard_survives_json(detector: Detector, place: Path) -> None:
    """Also names that are not UTF-8, and numbers that are not known."""
    for one in session.run(task(detector, place)):
        again = session.decoded(json.loads(json.dumps(session.encoded(one))))
        assert repr(again) == repr(one)


def listen_until_killed(detector: Detector, place: Path, state: Path) -> None:
    for _ in session.run(task(detector, place, cut=Cut.of(1.0, 0.25)), folder=state):
        time.sleep(0.01)  # so that it is not done before it is killed, however fast the machine


def test_kills_at_random_moments_change_nothing(
    detector: Detector, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``benchmarks/kill_listening.py`` does it with the command line."""
    monkeypatch.setattr(session, "EVERY", 0.02)  # a second is longer than all of it takes
    began = time.monotonic()
    whole = list(session.run(task(detector, place, cut=Cut.of(1.0, 0.25)), folder=tmp_path / "whole"))
    seconds, log = time.monotonic() - began, (tmp_path / "whole" / "heard.jsonl").read_bytes()
    context, rng, state, killed = multiprocessing.get_context("fork"), random.Random(0), tmp_path / "state", 0
    for _ in range(KILLS):
        process = context.Process(target=listen_until_killed, args=(detector, place, state))
        process.start()
        process.join(rng.uniform(0, 0.5 * seconds))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:  # it had come to its end: begin again
            assert (state / "heard.jsonl").read_bytes() == log
            shutil.rmtree(state)
    assert killed > KILLS // 3
    assert lines(list(session.run(task(detector, place, cut=Cut.of(1.0, 0.25)), folder=state))) == lines(
        whole
    )
    assert (state / "heard.jsonl").read_bytes() == log
