"""Listening that is interrupted, and goes on."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
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
from nearfar.listening.session import Listening, SessionError
from nearfar.listening.steps import Alert, Heard, HeardWindow
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
        SessionError,
        match=r"another way: window: 1 s, now 2 s; hop: 1 s, now 2 s; cut: what is longer than .*, now all",
    ):
        refused(detector, begun, cut=Cut.of(2.0))
    with pytest.raises(
        SessionError, match=r"way: gap: 1 s, now 0\.5 s\. Give the same as then, or another folder"
    ):
        refused(detector, begun, gap=0.5)
    with pytest.raises(SessionError, match=r"; false alarm rate: 0\.05, now 0\.2\. Give"):
        refused(detector.with_false_alarm_rate(0.2), begun)
    other = Listening(detector, [Recording((begun / "place" / name,)) for name in NAMES])
    with pytest.raises(SessionError, match=r"way: rules for alerts: '2/3', now none\. Give"):
        list(session.run(other, folder=begun / "state"))


def test_another_detector_is_refused(place: Path, begun: Path) -> None:
    other = Detector.fit(place / "fan", "spectral", seed=1, jobs=Jobs(begun / "cache"))
    with pytest.raises(SessionError, match=r"way: detector: [0-9a-f]{12}, now [0-9a-f]{12}\. Give"):
        refused(other, begun)


def test_other_recordings_are_refused(detector: Detector, begun: Path) -> None:
    with pytest.raises(
        SessionError, match=r"begun with .*long\.wav, where now .*clip\.wav is; give the recordings"
    ):
        refused(detector, begun, ("clip.wav", *NAMES))
    refused(detector, begun)
    with pytest.raises(SessionError, match=r"begun with .*later\.wav, which is not among the recordings now"):
        refused(detector, begun, NAMES[:3])
    (begun / "place" / "later.wav").rename(begun / "place" / "gone.wav")
    with pytest.raises(SessionError, match=r"begun with .*later\.wav, which is gone; give it, too"):
        refused(detector, begun)
    (begun / "place" / "gone.wav").rename(begun / "place" / "later.wav")
    os.utime(begun / "place" / "clip.wav", (0, 0))
    with pytest.raises(SessionError, match=r"begun with .*clip\.wav, which has changed since"):
        refused(detector, begun)


def write_recorded(folder: Path, name: str, seconds: int, *, of: int | None = None) -> None:
    """So many seconds of the sound of a recorder; of a file that grows, whose header tells more, as it will be."""
    parts = [clip(9000 + i, faulty=i in FAULTY) for i in range(of or seconds)]
    audio.write(folder / name, np.concatenate(parts, axis=1), RATE)
    if of is not None:
        rest = (of - seconds) * parts[0].shape[1] * 2 * 2
        with (folder / name).open("r+b") as file:
            file.truncate(file.seek(0, os.SEEK_END) - rest)


@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    """A folder that a recorder writes to: its second recording has 6 s of 12 s."""
    folder = tmp_path / "rec"
    folder.mkdir()
    write_recorded(folder, "1.wav", 7)
    write_recorded(folder, "2.wav", 6, of=12)
    return folder


def heard_at_once(detector: Detector, folder: Path, names: tuple[str, ...]) -> tuple[str, bytes, bytes]:
    state = folder.parent / "at-once"
    said = lines(list(session.run(task(detector, folder, names), folder=state)))
    return said, (state / "heard.jsonl").read_bytes(), (state / "state.json").read_bytes()


@pytest.mark.parametrize("stop", [4, 11, 999], ids=["before it", "in it", "after it"])
def test_a_recording_that_grows_is_heard_again(
    stop: int, detector: Detector, recorder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In the end all is equal to what is heard of the finished recordings at once; also while another one grows."""
    state = tmp_path / "state"
    running = session.run(task(detector, recorder, ("1.wav", "2.wav")), folder=state)
    found = list(islice(running, stop))
    running.close()
    if stop == 999:
        tail = [w for w in found if isinstance(w, HeardWindow) and w.verdict.decision == "unusable"]
        assert len(tail) == 6
    assert not caplog.messages
    write_recorded(recorder, "2.wav", 12)
    write_recorded(recorder, "3.wav", 1, of=3)
    names = ("1.wav", "2.wav", "3.wav")
    list(session.run(task(detector, recorder, names), folder=state))
    again = f"{recorder / '2.wav'}: has changed since it was heard; it is heard again from its start"
    assert caplog.messages == ([again] if stop > 4 else [])
    write_recorded(recorder, "3.wav", 3)
    for _ in range(2):
        said = lines(list(session.run(task(detector, recorder, names), folder=state)))
        kept = [(state / name).read_bytes() for name in ("heard.jsonl", "state.json")]
        assert (said, *kept) == heard_at_once(detector, recorder, names)


@pytest.mark.parametrize("every", [0.0, 1e9])
def test_a_recording_that_grows_while_it_is_heard(
    every: float,
    detector: Detector,
    recorder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is heard again, also if others came after it."""
    monkeypatch.setattr(session, "EVERY", every)
    state, names = tmp_path / "state", ("1.wav", "2.wav", "3.wav")
    write_recorded(recorder, "3.wav", 3)
    for one in (running := session.run(task(detector, recorder, names), folder=state)):
        if isinstance(one, HeardWindow) and one.window.recording == str(recorder / "2.wav"):
            break
    write_recorded(recorder, "2.wav", 12)
    list(running)
    (message,) = caplog.messages
    assert "2.wav: has changed while it was heard; the same command will hear it again" in message
    said = lines(list(session.run(task(detector, recorder, names), folder=state)))
    assert caplog.messages[1].endswith(
        "2.wav: has changed since it was heard; it is heard again from its start, and what came after it"
    )
    assert len(caplog.messages) == 2
    kept = [(state / name).read_bytes() for name in ("heard.jsonl", "state.json")]
    assert (said, *kept) == heard_at_once(detector, recorder, names)


def test_a_change_is_told_without_a_state(
    detector: Detector, recorder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    running = session.run(task(detector, recorder, ("2.wav",)))
    next(running)
    os.utime(recorder / "2.wav", (0, 0))
    list(running)
    (message,) = caplog.messages
    assert message.endswith("2.wav: has changed while it was heard; score it again when it is finished")


def test_a_kill_when_it_is_taken_back_loses_nothing(
    detector: Detector, recorder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is written before the log is cut."""
    state, names = tmp_path / "state", ("1.wav", "2.wav")
    list(session.run(task(detector, recorder, names), folder=state))
    write_recorded(recorder, "2.wav", 12)
    log = (state / "heard.jsonl").read_bytes()
    with monkeypatch.context() as broken:
        broken.setattr(session._Log, "_save", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            list(session.run(task(detector, recorder, names), folder=state))
    assert (state / "heard.jsonl").read_bytes() == log
    said = lines(list(session.run(task(detector, recorder, names), folder=state)))
    assert said == heard_at_once(detector, recorder, names)[0]


def test_recordings_that_were_not_heard_yet_may_change(
    detector: Detector, begun: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.utime(begun / "place" / "clip.wav", (0, 0))
    refused(detector, begun)
    assert not caplog.messages


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
        ("state.json", b'{"format": 99}', "of format 99, and this nearfar knows 2; update it"),
        ("heard.jsonl", b"", r"heard\.jsonl: damaged, 0 bytes, but the state beside it counts"),
        ("heard.jsonl", b"x" * 100_000, r"heard\.jsonl: damaged \(its digest has changed\)"),
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


@pytest.mark.parametrize("name", ["state.json", "heard.jsonl"])
def test_a_changed_digit_is_damage(name: str, detector: Detector, begun: Path) -> None:
    """What was heard before is given again as it was, or not at all."""
    path = begun / "state" / name
    content = path.read_bytes()
    path.write_bytes(
        re.sub(rb"(?<=\d\.)\d", lambda digit: b"%d" % ((int(digit[0]) + 1) % 10), content, count=1)
    )
    assert path.read_bytes() != content
    with pytest.raises(SessionError, match=rf"{name}: damaged \(its digest has changed\)"):
        refused(detector, begun)


def test_a_state_without_digests_goes_on(detector: Detector, begun: Path) -> None:
    """As nearfar 0.1 wrote it; whatever is strange in it is damage."""
    path = begun / "state" / "state.json"
    content = json.loads(path.read_bytes())
    for part in (content, content["snapshot"]):
        del part["log"]
    del content["digest"]
    path.write_text(json.dumps(content), encoding="utf-8")
    refused(detector, begun)
    for strange in ({"next": [1]}, {"next": ["a", 0]}, {"bytes": None}, {"snapshot": []}, {"recordings": 7}):
        path.write_text(json.dumps({**content, **strange}), encoding="utf-8")
        with pytest.raises(SessionError, match=r"state\.json: damaged"):
            refused(detector, begun)
