"""The package as people use it in a notebook: names and paths instead of objects, and what it shows of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from synthetic import RATE, clip, write_machine

import nearfar
from nearfar.files import notebooks
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.systems import configuration

RARE = 0.3  # a false-alarm rate that few clips attain


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_machine(root / "plant", "fan")
    write_machine(root / "plant", "<pump>")
    return root


@pytest.fixture(scope="module")
def jobs(root: Path) -> Jobs:
    return Jobs(root / "cache")


@pytest.fixture(scope="module")
def detector(root: Path, jobs: Jobs) -> nearfar.Detector:
    return nearfar.fit(str(root / "plant" / "fan"), false_alarm_rate=RARE, jobs=jobs)


def test_fit_takes_a_folder_and_a_name(root: Path, jobs: Jobs, detector: nearfar.Detector) -> None:
    system = configuration.load("spectral", {"threshold.false_alarm_rate": RARE})
    asked = [
        nearfar.Detector.fit(root / "plant" / "fan", "spectral", false_alarm_rate=RARE, jobs=jobs),
        nearfar.Detector.fit(datasets.load_machine(root / "plant" / "fan"), system, jobs=jobs),
    ]
    for other in asked:
        assert other.system == detector.system
        assert other.score(clip(7), RATE) == detector.score(clip(7), RATE)


def test_fit_refuses_what_is_not_there(root: Path, jobs: Jobs) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        nearfar.fit(root / "nowhere", jobs=jobs)
    with pytest.raises(ValueError, match="no system 'spectrall'; did you mean 'spectral'"):
        nearfar.fit(root / "plant" / "fan", "spectrall", jobs=jobs)
    with pytest.raises(ValueError, match=r"false_alarm_rate=5: must be above 0 and below 1"):
        nearfar.fit(root / "plant" / "fan", false_alarm_rate=5, jobs=jobs)


def test_score_takes_a_path_or_samples(root: Path, detector: nearfar.Detector) -> None:
    path = datasets.load_machine(root / "plant" / "fan").test[0].path
    assert detector.score(path) == detector.score(str(path)) == detector.score_file(path)
    with pytest.raises(TypeError, match="rate is missing: samples alone do not tell"):
        detector.score(clip(7))
    with pytest.raises(TypeError, match=r"rate=16000: the file .* has its own rate"):
        detector.score(path, RATE)


def test_run_takes_a_folder_and_a_name(root: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    found = nearfar.run("spectral", "plant", jobs=jobs)
    assert found.folder == Path("results/spectral")
    again = nearfar.run(configuration.load("spectral"), datasets.load(root / "plant"), "again", jobs=jobs)
    assert found.scores.equals(again.scores)


def test_what_is_shown_is_short(root: Path, detector: nearfar.Detector) -> None:
    dataset = datasets.load(root / "plant")
    machine = dataset["fan"]
    assert repr(machine) == "Machine('fan', 28 training clips, 12 test clips)"
    assert repr(dataset) == "Dataset('plant', 2 machines: <pump>, fan)"
    assert repr(machine.train[0]).startswith(
        "Clip('fan/train/section_00_source_train_normal_0000_speed_1.wav', s"
    )
    assert repr(detector).startswith("Detector('fan', system=spectral, clips=28, threshold=")
    for shown in (machine, dataset, machine.train[0], detector, detector.score(clip(7), RATE)):
        assert len(repr(shown)) < 200


def test_html_is_escaped(root: Path, detector: nearfar.Detector) -> None:
    dataset = datasets.load(root / "plant")._repr_html_()
    assert "<tr><th>&lt;pump&gt;</th><td>28</td><td>12</td></tr>" in dataset
    assert "<tr><th>machine</th><th>training clips</th><th>test clips</th></tr>" in dataset
    assert "<tr><th>false alarm rate</th><td>0.3</td></tr>" in detector._repr_html_()
    assert notebooks.table("a & b", [("x", "<1>")]) == (
        "<table><caption>a &amp; b</caption><tr><th>x</th><td>&lt;1&gt;</td></tr></table>"
    )


def test_the_public_names_are_all_there() -> None:
    for name in nearfar.__all__:
        assert getattr(nearfar, name) is not None
    assert dir(nearfar) == sorted(nearfar.__all__)
    with pytest.raises(AttributeError, match="module 'nearfar' has no attribute 'Fan'"):
        nearfar.Fan  # noqa: B018


def test_a_false_alarm_rate_is_that_of_the_threshold(detector: nearfar.Detector) -> None:
    assert detector.threshold is not None
    assert detector.threshold.false_alarm_rate == RARE
    assert detector.system.threshold.false_alarm_rate == RARE
    assert np.isfinite(detector.threshold.value)
