"""A detector for each machine of a hall: as one by one, again, interrupted, and where some fail."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import synthetic
from typer.testing import CliRunner

from nearfar.cli import app
from nearfar.detector import fleet
from nearfar.detector.fitted import Detector
from nearfar.detector.fleet import fit_all, folders_of
from nearfar.files.steps import Jobs
from nearfar.places.tasks import TasksError
from nearfar.recordings.clips import DatasetError
from nearfar.systems import configuration

SMALL = {"branch.encoder_options.n_mels": 8, "threshold.false_alarm_rate": 0.1, "threshold.folds": 3}
NAMES = ["fan", "pump", "valve"]


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hall")
    for name in NAMES:
        synthetic.write_machine(root, name, train=20, target=2, test=0, seconds=0.5)
    return root


@pytest.fixture(scope="module")
def system() -> Any:
    return configuration.load("spectral", SMALL)


@pytest.fixture(scope="module")
def alone(hall: Path, system: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of each machine, fitted by itself."""
    out = tmp_path_factory.mktemp("alone")
    for name in NAMES:
        Detector.fit(hall / name, system, jobs=Jobs(out / "cache")).save(out / "detectors" / name)
    return out / "detectors"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("workers", [1, 2])
def test_detectors_are_those_of_single_fits(
    hall: Path, system: Any, alone: Path, tmp_path: Path, workers: int
) -> None:
    told: list[tuple[str, int, int]] = []
    found = list(
        fit_all(
            hall, tmp_path / "out", system,
            workers=workers, jobs=Jobs(tmp_path / "cache"), progress=lambda *message: told.append(message),
        )
    )  # fmt: skip
    assert sorted((one.name, one.became) for one in found) == [(name, "fitted") for name in NAMES]
    assert contents(tmp_path / "out") == contents(alone)
    assert {step for step, _, _ in told} >= {"fan: inspecting", "valve: inspecting"}
    again = fit_all(hall, tmp_path / "out", system, jobs=Jobs(tmp_path / "cache"))
    assert {one.became for one in again} == {"is there"}


def test_a_machine_that_cannot_be_fitted_does_not_stop_the_others(
    hall: Path, system: Any, tmp_path: Path
) -> None:
    shutil.copytree(hall, tmp_path / "hall")
    for path in (tmp_path / "hall" / "fan" / "train").iterdir():
        path.write_bytes(b"RIFF")
    (tmp_path / "hall" / "empty").mkdir()
    found: list[Any] = []
    with pytest.raises(TasksError, match="2 of 4 tasks failed") as raised:
        found.extend(
            fit_all(tmp_path / "hall", tmp_path / "out", system, jobs=Jobs(tmp_path / "cache"), workers=2)
        )
    assert sorted(one.name for one in found) == ["pump", "valve"]
    assert "\n  empty: " in str(raised.value)
    assert "\n  fan: " in str(raised.value)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["pump", "valve"]


def test_another_detector_stays_unless_it_is_to_be_replaced(
    hall: Path, system: Any, alone: Path, tmp_path: Path
) -> None:
    jobs = Jobs(tmp_path / "cache")
    shutil.copytree(alone, tmp_path / "out")
    before = contents(tmp_path / "out")
    other = system.model_copy(
        update={"threshold": system.threshold.model_copy(update={"false_alarm_rate": 0.2})}
    )
    (found,) = fit_all(hall, tmp_path / "out", other, jobs=jobs, machines=("pump",))
    assert found.became == "another is there"
    assert contents(tmp_path / "out") == before
    (found,) = fit_all(hall, tmp_path / "out", other, jobs=jobs, machines=("pump",), replace=True)
    assert found.became == "fitted"
    assert Detector.load(tmp_path / "out" / "pump").threshold.false_alarm_rate == 0.2  # type: ignore[union-attr]


def test_what_is_no_detector_is_told_as_that(hall: Path, system: Any, alone: Path, tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "cache")
    shutil.copytree(alone, tmp_path / "out")
    whole = contents(tmp_path / "out" / "valve")
    (tmp_path / "out" / "fan" / "detector.json").write_text("{")
    shutil.rmtree(tmp_path / "out" / "pump")
    (tmp_path / "out" / "pump").write_text("a file")
    found = {one.name: one.became for one in fit_all(hall, tmp_path / "out", system, jobs=jobs)}
    assert found == {"fan": "not a detector", "pump": "not a detector", "valve": "is there"}
    assert contents(tmp_path / "out" / "valve") == whole


def test_places_for_detectors_that_are_none(hall: Path, system: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out, kind, message in (
        (tmp_path / "file", NotADirectoryError, "is a file, not a folder for detectors"),
        (tmp_path / "file" / "in", NotADirectoryError, "is a file, not a folder; choose another name"),
        (hall, ValueError, "lies in the hall"),
        (hall / "fan", ValueError, "among recordings; choose a folder outside of it"),
    ):
        with pytest.raises(kind, match=message):
            next(fit_all(hall, out, system, jobs=Jobs(tmp_path / "cache")))
    assert sorted(path.name for path in hall.iterdir()) == NAMES


def test_machines_are_read_when_their_turn_comes(
    hall: Path, system: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the memory of the driver does not grow with their number."""
    read = []
    load = fleet.datasets.load_machine

    def counted(folder: Path, channels: Any) -> Any:
        read.append(folder.name)
        return load(folder, channels)

    monkeypatch.setattr(fleet.datasets, "load_machine", counted)
    found = fit_all(hall, tmp_path / "out", system, jobs=Jobs(tmp_path / "cache"))
    next(found)
    assert len(read) < len(NAMES)
    found.close()


def test_halls_that_are_none(hall: Path, system: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        folders_of(tmp_path / "none")
    (tmp_path / "file.wav").touch()
    with pytest.raises(DatasetError, match="no folders here; expected one for each machine"):
        folders_of(tmp_path)
    with pytest.raises(DatasetError, match="press: no folder of such a machine in"):
        list(fit_all(hall, tmp_path / "out", system, machines=("press",), jobs=Jobs(tmp_path / "cache")))


class TestCommand:
    def run(self, *arguments: Any) -> Any:
        return CliRunner().invoke(app, [*map(str, arguments)])

    def test_it_fits_tells_and_leaves_what_is_there(self, hall: Path, tmp_path: Path) -> None:
        settings = [f"--set={key}={value}" for key, value in SMALL.items()]
        fixed = ("--system", "spectral", *settings, "--cache", tmp_path / "cache", "--workers", 1)
        done = self.run(
            "fit-all", hall, "-o", tmp_path / "out", *fixed, "--machine", "fan", "--machine", "pump"
        )
        assert done.exit_code == 0, done.output
        assert "2 machines" in done.stdout
        assert "fan, pump" in done.stdout
        done = self.run("fit-all", hall, "-o", tmp_path / "out", *fixed, "--json")
        assert done.exit_code == 0, done.output
        assert {row["machine"]: row["became"] for row in json.loads(done.stdout)} == {
            "fan": "is there", "pump": "is there", "valve": "fitted",
        }  # fmt: skip
        done = self.run("fit-all", hall, "-o", tmp_path / "out", *fixed, "--no-learning")
        assert done.exit_code == 1
        assert "What was there before was left as it is; --replace replaces detectors" in done.stderr

    def test_places_that_are_none(self, hall: Path, tmp_path: Path) -> None:
        done = self.run("fit-all", hall, "-o", tmp_path / "out", "--on", "mars")
        assert done.exit_code == 2
        assert "expected local (worker processes), ray" in " ".join(done.output.replace("│", " ").split())
        done = self.run("fit-all", hall, "-o", tmp_path / "out", "--gpus", 0.5)
        assert done.exit_code == 2
        assert "--gpus and --task-memory are for a cluster" in " ".join(done.output.replace("│", " ").split())
