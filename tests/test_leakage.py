"""No score moves that must not move: not by a test label, not by another test clip, not by another machine.

Every variant of the data is scored with a cache of its own, so that nothing is found instead of computed, and
compared for exact equality.
"""

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
def reference(system, data, tmp_path_factory):
    """Score and decision of every test clip of both machines, as things are."""
    return scored(system, data, tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="module")
def of_fan(reference):
    """Of the fan alone: variants of it are scored without the pump, which must not matter either."""
    return {key: value for key, value in reference.items() if key.startswith("fan/")}


def scored(system, dataset, folder):
    result = experiment.run(system, dataset, folder / "results", seeds=[SEED], jobs=Jobs(folder / "cache"))
    return {row.key: (row.score, row.decision) for row in result.scores.itertuples()}


def changed(dataset, machine, change):
    """The data set with ``change(clip)`` for every clip of this machine."""
    machines = [
        Machine(m.name, tuple(map(change, m.clips))) if m.name == machine else m for m in dataset.machines
    ]
    return Dataset(dataset.name, dataset.root, tuple(machines))


def fan_with(data, test):
    """The fan alone, with other test clips."""
    return Dataset(data.name, data.root, (Machine("fan", (*data["fan"].train, *test)),))


def copied(dataset, root):
    """The same recordings in files of their own."""
    shutil.copytree(dataset.root, root)
    return datasets.load(root)


def test_a_training_clip_moves_every_score(system, data, of_fan, tmp_path):
    """Else the tests below would hold of anything."""
    fan = data["fan"]
    fewer = Dataset("fewer", data.root, (Machine("fan", (*fan.train[:-1], *fan.test)),))
    found = scored(system, fewer, tmp_path)
    assert len({score for score, _ in of_fan.values()}) == 4
    assert all(found[key][0] != of_fan[key][0] for key in of_fan)


def test_truth_about_test_clips_moves_nothing(system, data, of_fan, tmp_path):
    def flip(c):
        return replace(c, domain=OTHER[c.domain], label=OTHER[c.label], attributes="speed_9", section=1)

    assert scored(system, fan_with(data, map(flip, data["fan"].test)), tmp_path) == of_fan


def test_names_of_test_clips_move_nothing(system, data, of_fan, tmp_path):
    """The truth as it is written in the files' names."""
    shutil.copytree(data.root / "fan", tmp_path / "data" / "fan")
    former = {}
    for c in data["fan"].test:
        domain, _, label, number, *_ = c.name.removeprefix("section_00_").split("_")
        name = f"section_00_{OTHER[domain]}_test_{OTHER[label]}_9{number[1:]}.wav"
        (tmp_path / "data" / c.key).rename(tmp_path / "data" / "fan" / "test" / name)
        former[f"fan/test/{name}"] = c.key
    found = scored(system, datasets.load(tmp_path / "data"), tmp_path)
    assert {former[key]: value for key, value in found.items()} == of_fan


def test_absent_test_clips_move_nothing(system, data, of_fan, tmp_path):
    left = data["fan"].test[0]
    undisclosed = replace(left, domain=None, label=None)
    assert scored(system, fan_with(data, [undisclosed]), tmp_path) == {left.key: of_fan[left.key]}


def test_copies_and_order_of_test_clips_move_nothing(system, data, of_fan, tmp_path):
    test = list(data["fan"].test)
    test += [replace(c, name=f"copy_of_{c.name}") for c in test]
    order = np.random.default_rng(0).permutation(len(test))
    found = scored(system, fan_with(data, [test[i] for i in order]), tmp_path)
    copies = {key.replace("/test/", "/test/copy_of_"): value for key, value in of_fan.items()}
    assert found == of_fan | copies


def test_other_test_clips_move_nothing(system, data, of_fan, tmp_path):
    """Anomalies as loud as can be: any statistic of the test clips would show them."""
    moved = copied(data.only(["fan"]), tmp_path / "data").only(["fan"])
    anomalies = [c for c in moved["fan"].test if c.label == "anomaly"]
    for c in anomalies:
        noise = np.random.default_rng(0).uniform(-1, 1, size=(2, RATE))
        audio.write(c.path, noise.astype(np.float32), RATE)
    found = scored(system, moved, tmp_path)
    differ = {key for key in of_fan if found[key] != of_fan[key]}
    assert differ == {c.key for c in anomalies}


def test_another_machine_moves_nothing(system, data, reference, tmp_path):
    """Neither its recordings nor what is known of them."""
    moved = copied(data, tmp_path / "data")
    for i, c in enumerate(moved["pump"].clips):
        audio.write(c.path, clip(7000 + i, speed=1.7, seconds=0.5), RATE)
    moved = changed(moved, "pump", lambda c: replace(c, domain=OTHER[c.domain], label="normal"))
    found = scored(system, moved, tmp_path)
    differ = {key for key in reference if found[key][0] != reference[key][0]}
    assert differ == {c.key for c in data["pump"].test}


@pytest.fixture(scope="module")
def fitted(system, data, tmp_path_factory):
    return Detector.fit(data["fan"], system, seed=SEED, jobs=Jobs(tmp_path_factory.mktemp("fitted")))


def learnt(detector):
    arrays = detector.branch.arrays() | {"threshold": detector.threshold.normal_scores}
    return {name: np.asarray(a).tobytes() for name, a in arrays.items()} | {"value": detector.threshold.value}


def test_a_detector_learns_nothing_from_test_clips(system, data, fitted, tmp_path):
    without = Detector.fit(Machine("fan", data["fan"].train), system, seed=SEED, jobs=Jobs(tmp_path))
    assert learnt(fitted) == learnt(without)
    assert fitted.trained_on == without.trained_on


def test_a_detector_remembers_no_recording(data, fitted, of_fan):
    paths = [c.path for c in data["fan"].test]
    first = [fitted.score_file(path) for path in paths]
    assert [v.score for v in first] == [of_fan[c.key][0] for c in data["fan"].test]
    assert [fitted.score_file(path) for path in paths[::-1]][::-1] == first
    assert list(fitted.score_files(paths * 2, workers=2)) == first * 2
