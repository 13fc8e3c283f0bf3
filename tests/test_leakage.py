"""No score moves that must not move: not by a test label, not by another test clip, not by another machine.

Every variant of the data is scored with a cache of its own, so that nothing is found instead of computed, and
compared for exact equality: the scores, and every byte of the fitted detector.
"""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from synthetic import RATE, clip, write_machine

from nearfar import audio, datasets, experiment, systems
from nearfar.clips import Dataset, Machine
from nearfar.detector import Detector
from nearfar.storage import Jobs
from nearfar.training import TRAINERS

OTHER = {"normal": "anomaly", "anomaly": "normal", "source": "target", "target": "source"}
SEED = 3
TINY = {
    "branch.encoder_options.n_mels": 32,
    "threshold.folds": 2,  # of 10 training clips, so that at least 5 are unseen
    "threshold.false_alarm_rate": 0.3,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name in ("fan", "pump"):
        write_machine(root, name, train=6, target=4, test=1, seconds=0.5)
    return datasets.load(root)


@pytest.fixture(scope="module", params=systems.SYSTEMS)
def system(request):
    system = systems.load(request.param, TINY)
    if system.branch.encoder in TRAINERS:
        return systems.load(request.param, {**TINY, "branch.training.epochs": 1})
    return system


@pytest.fixture(scope="module")
def folder(tmp_path_factory, system):
    return tmp_path_factory.mktemp(system.name)


@pytest.fixture(scope="module")
def reference(system, data, folder):
    """Score and decision of every test clip of both machines, as things are."""
    return scored(system, data, folder)


@pytest.fixture(scope="module")
def of_fan(reference):
    """Of the fan alone: variants of it are scored without the pump, which must not matter either."""
    return {key: value for key, value in reference.items() if key.startswith("fan/")}


def scored(system, dataset, folder):
    result = experiment.run(system, dataset, folder / "results", seeds=[SEED], jobs=Jobs(folder / "cache"))
    return {row.key: (row.score, row.decision) for row in result.scores.itertuples()}


def fitted_to_fan(folder):
    """The folder of the detector that ``scored`` fitted."""
    descriptions = (folder / "cache").rglob("detector.json")
    (found,) = (file.parent for file in descriptions if json.loads(file.read_text())["machine"] == "fan")
    return found


def bytes_of(folder):
    return {file.name: file.read_bytes() for file in fitted_to_fan(folder).iterdir()}


def fan(data, *, train=None, test=None):
    """The fan alone, with other clips."""
    clips = (*(train or data["fan"].train), *(test or data["fan"].test))
    return Dataset(data.name, data.root, (Machine("fan", clips),))


def test_a_training_clip_moves_every_score(system, data, folder, of_fan, tmp_path):
    """Else the tests below would hold of anything."""
    found = scored(system, fan(data, train=data["fan"].train[:-1]), tmp_path)
    assert len({score for score, _ in of_fan.values()}) == 4
    assert all(found[key][0] != of_fan[key][0] for key in of_fan)
    assert bytes_of(tmp_path) != bytes_of(folder)


def test_labels_and_domains_of_test_clips_move_nothing(system, data, folder, of_fan, tmp_path):
    """Not even as they are written in the files' names."""
    shutil.copytree(data.root / "fan", tmp_path / "data" / "fan")
    former = {}
    for c in data["fan"].test:
        name = f"section_01_{OTHER[c.domain]}_test_{OTHER[c.label]}_9999_speed_9.wav"
        (tmp_path / "data" / c.key).rename(tmp_path / "data" / "fan" / "test" / name)
        former[f"fan/test/{name}"] = c.key
    flipped = datasets.load(tmp_path / "data")
    assert {(c.key, OTHER[c.label]) for c in data["fan"].test} == {
        (former[c.key], c.label) for c in flipped["fan"].test
    }
    found = scored(system, flipped, tmp_path)
    assert {former[key]: value for key, value in found.items()} == of_fan
    assert bytes_of(tmp_path) == bytes_of(folder)


def test_number_and_order_of_test_clips_move_nothing(system, data, folder, of_fan, tmp_path):
    """One is absent, the others are there thrice and shuffled, and their labels are not disclosed."""
    absent, *left = data["fan"].test
    test = [replace(c, name=f"{i}_{c.name}", domain=None, label=None) for c in left for i in range(3)]
    order = np.random.default_rng(0).permutation(len(test))
    found = scored(system, fan(data, test=[test[i] for i in order]), tmp_path)
    assert len(found) == 9
    assert absent.key in of_fan
    assert found == {c.key: of_fan[f"fan/test/{c.name[2:]}"] for c in test}
    assert bytes_of(tmp_path) == bytes_of(folder)


def test_other_recordings_move_nothing(system, data, folder, reference, tmp_path):
    """Anomalies as loud as can be, which statistics of test clips would show; and another pump altogether."""
    shutil.copytree(data.root, tmp_path / "data")
    other = datasets.load(tmp_path / "data")
    anomalies = [c for c in other["fan"].test if c.label == "anomaly"]
    for c in anomalies:
        noise = np.random.default_rng(0).uniform(-1, 1, size=(2, RATE))
        audio.write(c.path, noise.astype(np.float32), RATE)
    for i, c in enumerate(other["pump"].clips):
        audio.write(c.path, clip(7000 + i, speed=1.7, seconds=0.5), RATE)
    pump = tuple(replace(c, domain=OTHER[c.domain], label="normal") for c in other["pump"].clips)
    other = Dataset(other.name, other.root, (Machine("pump", pump), other["fan"]))
    found = scored(system, other, tmp_path)
    moved = {key for key in reference if found[key][0] != reference[key][0]}
    assert moved == {c.key for c in (*anomalies, *data["pump"].test)}
    assert bytes_of(tmp_path) == bytes_of(folder)


def test_a_detector_remembers_no_recording(data, folder, of_fan):
    detector = Detector.load(fitted_to_fan(folder))
    paths = [c.path for c in data["fan"].test]
    first = [detector.score_file(path) for path in paths]
    assert [v.score for v in first] == [of_fan[c.key][0] for c in data["fan"].test]
    assert [detector.score_file(path) for path in paths[::-1]][::-1] == first
    assert list(detector.score_files(paths * 2, workers=2)) == first * 2
