"""A fit by worker processes has the bytes, the messages and the progress of one by threads."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from synthetic import RATE, clip, write_machine
from typer.testing import CliRunner

from nearfar.cli import app
from nearfar.detector import one_pass
from nearfar.detector.fitted import Detector
from nearfar.detector.one_pass import Ear, OnePass, Task, WorkersAre, refuse_nested
from nearfar.files.processes import Tell, Workers
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.recordings.clips import Clip, DatasetError
from nearfar.systems import configuration
from nearfar.systems.branches import Branch
from nearfar.systems.resolved import resolve

SMALL = {"branch.encoder_options.n_mels": 8, "threshold.false_alarm_rate": 0.1, "threshold.folds": 3}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WORKERS: list[tuple[int, WorkersAre]] = [(1, "threads"), (3, "threads"), (1, "processes"), (2, "processes")]


@pytest.fixture(scope="module")
def fan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_machine(tmp_path_factory.mktemp("data"), "fan", test=0)


@pytest.fixture
def however_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes hear clips, however few there are."""
    monkeypatch.setattr(one_pass, "FIRST", 6)
    monkeypatch.setattr(one_pass, "PAYS_FROM", 0.0)
    monkeypatch.setattr(one_pass, "AT_ONCE", 4)


def fit(machine: Any, cache: Path, workers: int, workers_are: WorkersAre, **means: Any) -> Detector:
    system = configuration.load("spectral", SMALL)
    return Detector.fit(machine, system, workers=workers, workers_are=workers_are, jobs=Jobs(cache), **means)


def saved(detector: Detector, folder: Path) -> dict[str, bytes]:
    detector.save(folder)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("however_few")
def test_a_detector_has_the_same_bytes_whatever_workers_read_its_clips(fan: Path, tmp_path: Path) -> None:
    later = [tmp_path / f"{number}.wav" for number in range(12)]
    for number, path in enumerate(later):
        audio.write(path, clip(5_000 + number), RATE)
    fitted, learnt = [], []
    for workers, are in (WORKERS[0], WORKERS[-1]):
        place = tmp_path / f"{workers} {are}"
        detector = fit(fan, place / "cache", workers, are)
        fitted.append(saved(detector, place / "fitted"))
        how: dict[str, Any] = {"workers": workers, "workers_are": are, "jobs": Jobs(place / "cache")}
        now = detector.learn(later, domain="source", when=NOON, **how)
        learnt.append(saved(now, place / "learnt"))
    assert all(files == fitted[0] for files in fitted)
    assert all(files == learnt[0] for files in learnt)


@pytest.mark.usefixtures("however_few")
def test_processes_hear_what_threads_hear(fan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is they who do: all clips but the first."""
    by_processes = []
    submit = Workers.submit

    def seen(self: Workers, function: Any, task: Task) -> Any:
        by_processes.extend(clip.key for clip, _ in task.clips)
        return submit(self, function, task)

    monkeypatch.setattr(Workers, "submit", seen)
    told: list[tuple[str, int, int]] = []
    fit(fan, tmp_path / "cache", 2, "processes", progress=lambda *message: told.append(message))
    clips = datasets.load_machine(fan).train
    assert by_processes == [clip.key for clip in clips[6:]]
    assert [of for of in told if of[0] == "inspecting"] == [("inspecting", n, 28) for n in range(1, 29)]


@pytest.mark.usefixtures("however_few")
def test_the_commands_ask_for_processes(fan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted = []
    submit = Workers.submit
    monkeypatch.setattr(Workers, "submit", lambda *given: submitted.append(given) or submit(*given))
    later = tmp_path / "later"
    later.mkdir()
    for number in range(12):
        audio.write(later / f"section_00_source_train_normal_{number:04d}.wav", clip(6_000 + number), RATE)
    means = ["--workers", "2", "--cache", str(tmp_path / "cache"), "-o"]
    for arguments in (
        ["fit", str(fan), "--system", "spectral", *means, str(tmp_path / "fitted")],
        ["learn", str(tmp_path / "fitted"), str(later), *means, str(tmp_path / "learnt")],
    ):
        submitted.clear()
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert submitted


def test_few_clips_are_heard_by_threads(fan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Workers, "submit", lambda *_, **__: pytest.fail("a process was started"))
    fit(fan, tmp_path / "cache", 2, "processes")


@pytest.mark.usefixtures("however_few")
def test_what_is_wrong_with_clips_is_told_alike(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_machine(tmp_path, "fan", test=0)
    machine = datasets.load_machine(folder)
    clips = [*machine.train]
    clips[20].path.write_bytes(clips[20].path.read_bytes()[:-4_000])
    clips[22].path.write_bytes(b"RIFF")
    clips[23].path.unlink()
    audio.write(clips[25].path, clip(7)[:1], RATE)
    told = []
    for workers, are in (WORKERS[0], WORKERS[-1]):
        caplog.clear()
        with caplog.at_level(logging.WARNING), pytest.raises(DatasetError, match="truncated") as refused:
            fit(machine, tmp_path / f"{workers} {are}", workers, are, odd_clips="refuse")
        left = fit(machine, tmp_path / f"{workers} {are}", workers, are).trained_on["left_out"]
        told.append((str(refused.value), caplog.messages.copy(), left))
    assert [one["clip"] for one in told[0][2]] == [clips[i].name for i in (20, 22, 23, 25)]
    assert all(one == told[0] for one in told)


class Broken:
    """In place of a branch: it raises what nobody expects."""

    encoder = SimpleNamespace(sample_rate=RATE)

    def unfitted(self) -> Broken:
        return self

    def overhear(self, _: object, __: object, name: str) -> None:
        raise ArithmeticError(f"{name}: nobody expects this")


@pytest.mark.usefixtures("however_few")
@pytest.mark.parametrize(("workers", "are"), WORKERS)
def test_what_is_raised_comes_through(fan: Path, workers: int, are: WorkersAre) -> None:
    clips: list[Clip] = list(datasets.load_machine(fan).train)
    branches: dict[int, Any] = {0: Broken()}
    heard = OnePass(branches, RATE, None, {0: {c.recording for c in clips[:9]}}, {0: {}})
    with pytest.raises(ArithmeticError, match=rf"{clips[9].path.name}: nobody expects this"):
        heard.listen_to(clips, workers=workers, workers_are=are)


def test_what_a_process_is_given_and_gives_back_is_small(fan: Path, tmp_path: Path) -> None:
    """So that thousands of clips cost no memory that they would not cost with threads."""
    system = resolve(configuration.load("spectral", SMALL), seed=0, jobs=Jobs(tmp_path))
    ear = Ear({0: Branch(system.branches[0])}, RATE, ("near", "far", "cancelled_3taps"))
    task = Task(ear, tuple((one, (0,)) for one in datasets.load_machine(fan).train[:10]))
    assert len(pickle.dumps(task)) < 20_000
    assert len(pickle.dumps([task.ear.hear(*one) for one in task.clips])) < 400_000


def test_workers_that_there_are_not_are_refused(fan: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"workers_are='fibres': must be one of 'threads', 'processes'"):
        fit(fan, tmp_path, 2, "fibres")  # type: ignore[arg-type]


def refusal(are: WorkersAre, _: Tell) -> str:
    try:
        refuse_nested(are, 2)
    except ValueError as error:
        return str(error)
    return ""


def test_a_worker_process_starts_no_others() -> None:
    """But by threads, or alone, it may fit."""
    kinds: list[WorkersAre] = ["threads", "processes"]
    with Workers(2, print) as pool:
        by_threads, by_processes = (pool.submit(refusal, kind).result() for kind in kinds)
    assert by_threads == ""
    assert by_processes.startswith("workers_are='processes': this is a worker process itself")
    refuse_nested("processes", 2)  # this one is none


UNGUARDED = """
import sys
from pathlib import Path
from nearfar.detector import one_pass
from nearfar.detector.fitted import Detector
from nearfar.files.steps import Jobs
one_pass.PAYS_FROM = 0.0
print("begins", flush=True)
Detector.fit(sys.argv[1], "spectral", workers=2, workers_are="processes", jobs=Jobs(Path(sys.argv[2])))
"""


def test_a_script_without_a_guard_is_told_what_to_do(fan: Path, tmp_path: Path) -> None:
    """Its worker processes run it once more, and must not start others in turn."""
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    command = [sys.executable, script, fan, tmp_path / "cache"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "if __name__ == '__main__':" in done.stderr
    assert done.stdout.count("begins") in (2, 3)  # the first to fail may end the other before it begins
