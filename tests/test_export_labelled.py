"""What 8 bits cost is told on labelled clips, before a file is written."""

from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np
import pytest
import synthetic
from typer.testing import CliRunner

pytest.importorskip("onnx", reason="the extra export is not installed")
pytest.importorskip("onnxruntime", reason="the extra export is not installed")
pytest.importorskip("torch")

from nearfar.cli import app
from nearfar.cli import exporting as command
from nearfar.detector.fitted import Detector
from nearfar.evaluation import metrics
from nearfar.export import chain, exporting, labelled, parity
from nearfar.export.labelled import Labelled, compare
from nearfar.export.parity import ParityError
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.recordings.clips import DatasetError
from nearfar.report.exported import table
from nearfar.systems import configuration

QUICK = {
    "branch.encoder_options.n_mels": 32,
    "branch.training.epochs": 2,
    "threshold.false_alarm_rate": 0.2,
}
CLIPS = 12  # of the test: three of each domain and label


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    synthetic.write_machine(root, "fan", train=20, target=4)
    return datasets.load(root)


@pytest.fixture(scope="module")
def detector(data, tmp_path_factory) -> Detector:
    jobs = Jobs(tmp_path_factory.mktemp("cache"))
    return Detector.fit(data.machines[0], configuration.load("baseline_mse", QUICK), jobs=jobs)


@pytest.fixture(scope="module")
def saved(detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("detectors") / "fan"
    detector.save(folder)
    return folder


@pytest.fixture(scope="module")
def found(detector, data) -> Labelled:
    return compare(detector, labelled.test_clips(data, "fan"))


def test_omega_in_float32_is_that_of_the_detector(detector, data, found):
    clips = data.machines[0].test
    scores = {clip.key: detector.score_file(clip.recording).score for clip in clips}
    known = metrics.clip_table(clips)
    expected = metrics.omega(metrics.evaluate(known, known.index.to_series().map(scores)))
    assert (found.clips, found.anomalies) == (CLIPS, CLIPS // 2)
    assert found.omega[0] == pytest.approx(expected, abs=1e-9)
    assert found.lost_points == pytest.approx(100 * (found.omega[0] - found.omega[1]))


def test_integers_are_smaller_and_nearly_the_same(found):
    assert found.size[1] < 0.9 * found.size[0]
    assert 0 < found.largest_difference < 0.1
    assert found.changed_decisions <= 2
    assert all(np.array(found.milliseconds) > 0)
    assert json.loads(json.dumps(found.contents()))["omega"] == list(found.omega)


def test_a_length_that_is_fixed(detector, data):
    clips = labelled.test_clips(data, "fan")
    shorter, longer = (compare(detector, clips, seconds=seconds) for seconds in (0.5, 1.5))
    assert shorter.largest_difference > 0
    assert longer.clips == CLIPS


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"omega": (0.80, 0.797)}, "8 bits change Omega by -0.30 points; more than 0.2 is never"),
        ({"omega": (0.80, 0.803)}, r"8 bits change Omega by \+0.30 points"),
        ({"omega": (0.80, 0.80), "milliseconds": (1.0, 2.0)}, "8 bits are slower than float32"),
    ],
)
def test_a_warning(found, changed, words):
    quiet = dataclasses.replace(found, omega=(0.80, 0.799), milliseconds=(2.0, 1.0))
    assert quiet.warning is None
    assert pytest.approx(0.1) == quiet.lost_points
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(dataclasses.replace(quiet, **changed).warning)


def test_useless_decisions_are_refused(found):
    dataclasses.replace(found, omega=(0.80, 0.66)).require()
    dataclasses.replace(found, omega=(0.45, 0.40)).require()
    with pytest.raises(ParityError, match=r"Omega falls from 80\.0 to 64\.0 on 12 clips"):
        dataclasses.replace(found, omega=(0.80, 0.64)).require()


def test_clips_that_cannot_be_used(detector, data, tmp_path):
    clips = data.machines[0].test
    normal = [clip for clip in clips if clip.label == "normal"]
    with pytest.raises(ValueError, match="anomal"):
        compare(detector, normal)
    broken = tmp_path / clips[0].path.name
    broken.write_bytes(b"RIFF")
    with pytest.raises(DatasetError, match=broken.name):
        compare(detector, [dataclasses.replace(clips[0], path=broken), *clips[1:]])


def test_the_machine_of_a_data_set(data):
    machine = data.machines[0]
    assert labelled.test_clips(data, "another") == machine.test  # the only one
    two = dataclasses.replace(data, machines=(machine, dataclasses.replace(machine, name="pump")))
    assert labelled.test_clips(two, "pump") == machine.test
    with pytest.raises(ValueError, match="has no machine 'valve', but fan, pump"):
        labelled.test_clips(two, "valve")
    bare = dataclasses.replace(data, machines=(dataclasses.replace(machine, clips=machine.train),))
    with pytest.raises(ValueError, match="has no test clips of 'fan'"):
        labelled.test_clips(bare, "fan")


def test_a_system_without_a_network_is_refused(data, tmp_path):
    system = configuration.load("spectral", {"threshold.method": "none"})
    detector = Detector.fit(data.machines[0], system, jobs=Jobs(tmp_path))
    with pytest.raises(ValueError, match="'spectral' has no matrix products of a network"):
        chain.detector_model(detector, arithmetic="int8")


def test_an_export_in_integers_is_not_bounded(detector, found, tmp_path, monkeypatch):
    strict = functools.partial(parity.compared, bound=1e-9)
    monkeypatch.setattr(exporting.parity, "compared", strict)
    with pytest.raises(ParityError, match="is not written"):
        exporting.export(detector, tmp_path / "fan.onnx")
    made = exporting.export(detector, tmp_path / "fan.onnx", arithmetic="int8")
    assert made.arithmetic == "int8"
    assert made.parity.largest_score > made.parity.bound
    assert made.size == found.size[1]
    shown = table(made, found)
    assert "in 8 bits without a bound" in "".join(map(str, shown.columns[1]._cells))


class TestCommand:
    def run(self, *arguments):
        return CliRunner().invoke(app, [*map(str, arguments)])

    def test_with_data(self, saved, data, tmp_path):
        folder = data.machines[0].test[0].path.parents[2]
        file = tmp_path / "fan.onnx"
        done = self.run("export", saved, "-o", file, "--int8", "--data", folder, "--json")
        assert done.exit_code == 0, done.output
        told = json.loads(done.stdout)
        assert told["arithmetic"] == "int8"
        assert (told["labelled"]["clips"], told["labelled"]["size"][1]) == (CLIPS, file.stat().st_size)

    def test_without_data(self, saved, tmp_path, monkeypatch):
        for name, value in {"TRAINING_CLIPS": 20, "TARGET_CLIPS": 2, "TEST_CLIPS": 2}.items():
            monkeypatch.setattr(command, name, value)
        done = self.run("export", saved, "-o", tmp_path / "fan.onnx", "--int8")
        assert done.exit_code == 0, done.output
        assert "judged on a simulated fan" in done.stderr
        for told in ("8 labelled clips, 4 of them anomalous", "Omega", "points", "decisions change"):
            assert told in done.stdout

    def test_data_alone(self, tmp_path):
        done = self.run("export", tmp_path, "-o", tmp_path / "fan.onnx", "--data", tmp_path)
        assert done.exit_code == 2
        assert "--data is for --int8" in done.output
