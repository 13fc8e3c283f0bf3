"""No score moves that must not move: not by a test label, not by another test clip, not by another machine.

First of every part of a system and every back end: all that must not matter is done to the data at once, which are
scored with a cache of their own, so that nothing is found instead of computed, and compared for exact equality: the
scores, and every byte of the fitted detector.
Then of studies, which choose on other machines, and may choose nothing on the machine that they report.
"""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import quick
from synthetic import RATE, hide_faults, write_machine

from nearfar.backends import BACKENDS
from nearfar.detector.fitted import Detector
from nearfar.evaluation.protocols import CROSS_FITTED, FIXED_LEAVE_ONE_MACHINE_OUT
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.recordings.clips import Dataset, Machine
from nearfar.research import experiment, fused
from nearfar.research.fused import Study
from nearfar.research.fusion import Fusion, Search
from nearfar.systems import configuration, named

OTHER = {"normal": "anomaly", "anomaly": "normal", "source": "target", "target": "source"}
SEED = 3
FEW_CLIPS = {
    "threshold.folds": 2,  # of 10 training clips, so that at least 5 are unseen
    "threshold.false_alarm_rate": 0.3,
}


FEW = {  # there are 10 training clips, 4 of them of the target domain, and half of them in a fold
    "gaussians": {"n_clusters": 1},
    "domain_local_density": {"k": 1, "k_target": 1},
    "outlier": {"options": {"n_estimators": 5}},
    "smote": {"k": 1},
}
NAMED = {configuration.load(name).branch.backend for name in named.SYSTEMS}  # by a system, so tested with it


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name in ("fan", "pump"):
        write_machine(root, name, train=6, target=4, test=1, seconds=0.5)
    return datasets.load(root)


@pytest.fixture(scope="module", params=[*quick.of_each_part(), *(b for b in BACKENDS if b not in NAMED)])
def system(request):
    """Systems of every part, and a simple one with every further back end."""
    name = request.param
    if name in BACKENDS:
        settings = {
            "branch.backend": name,
            "branch.backend_options": FEW.get(name, {}),
            "branch.view": "near",
        }
        return configuration.load("spectral_w1", {**quick.settings("spectral_w1"), **FEW_CLIPS, **settings})
    settings = {**quick.settings(name), **FEW_CLIPS}
    if configuration.load(name).ensemble.members:  # dca_2 has several seeds, and no members
        settings["ensemble.seeds"] = [1]
    return configuration.load(name, settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, system):
    return tmp_path_factory.mktemp(system.branch.backend)


@pytest.fixture(scope="module")
def of_fan(system, data, folder):
    """Score and decision of every test clip of the fan, as things are, and as if there were no other machine."""
    return scored(system, Dataset(data.name, data.root, (data["fan"],)), folder)


def scored(system, dataset, folder):
    """With an adapter that was trained before, if there is one: what an adapter hears is tested for itself."""
    jobs = Jobs(folder / "cache")
    for adapter in quick.adapters(system, jobs):
        adapter.save(folder / "adapter.safetensors")
    adapted_on = "others" if system.branch.adaptation is None else folder / "adapter.safetensors"
    result = experiment.run(
        system, dataset, folder / "results", seeds=[SEED], adapted_on=adapted_on, jobs=jobs
    )
    return {row.key: (row.score, row.decision) for row in result.scores.itertuples()}


def fitted_to(machine, folder):
    """The folder of the detector that ``scored`` fitted."""
    descriptions = (folder / "cache").rglob("detector.json")
    (found,) = (file.parent for file in descriptions if json.loads(file.read_text())["machine"] == machine)
    return found


def bytes_of(folder, machine="fan"):
    return {file.name: file.read_bytes() for file in fitted_to(machine, folder).iterdir()}


def with_other_test_clips(data, root):
    """The fan; what must not matter of its test clips is otherwise. And by key, which of its clips each one was.

    One is absent. The others are shuffled, each as the opposite, in its name too, and twice undisclosed. Anomalies
    are among them that are as loud as can be, which statistics of test clips would show.
    """
    shutil.copytree(data.root / "fan", root / "fan")
    former = {}
    for c in data["fan"].test:
        name = f"section_01_{OTHER[c.domain]}_test_{OTHER[c.label]}_9999_speed_9.wav"
        (root / c.key).rename(root / "fan" / "test" / name)
        former[name] = c
    for i in range(3):
        noise = np.random.default_rng(i).uniform(-1, 1, size=(2, RATE)).astype(np.float32)
        audio.write(root / "fan" / "test" / f"section_01_target_test_anomaly_000{i}_loud.wav", noise, RATE)
    changed = datasets.load(root)["fan"]
    absent, *left = (c for c in changed.test if c.name in former)
    assert all(
        (OTHER[c.domain], OTHER[c.label]) == (former[c.name].domain, former[c.name].label) for c in left
    )
    undisclosed = [replace(c, name=f"{i}_{c.name}", domain=None, label=None) for c in left for i in range(2)]
    loud = [c for c in changed.test if c.name not in former]
    test = np.random.default_rng(0).permutation([*left, *undisclosed, *loud])
    was = {c.key: former[c.name.removeprefix("0_").removeprefix("1_")].key for c in (*left, *undisclosed)}
    assert len(was) == 9
    assert former[absent.name].key not in was.values()
    return Machine("fan", (*changed.train, *test)), was


def test_nothing_of_other_clips_and_machines_moves_a_score_but_training_clips_do(
    system, data, folder, of_fan, tmp_path
):
    """The other machine has the fan's test clips. Its scores are others, else equal ones would say nothing."""
    changed, was = with_other_test_clips(data, tmp_path / "data")
    pump = Machine("pump", (*data["pump"].train, *(replace(c, machine="pump") for c in data["fan"].test)))
    found = scored(system, Dataset("other", tmp_path / "data", (pump, changed)), tmp_path)
    assert {key: found[key] for key in was} == {key: of_fan[former] for key, former in was.items()}
    assert bytes_of(tmp_path) == bytes_of(folder)
    of_pump = {key: score for key, (score, _) in found.items() if key.startswith("pump/")}
    assert len({score for score, _ in of_fan.values()}) == len(of_pump) == 4
    assert all(score != of_fan[key.replace("pump/", "fan/")][0] for key, score in of_pump.items())
    assert bytes_of(tmp_path, "pump") != bytes_of(folder)


def test_a_detector_remembers_no_recording(data, folder, of_fan):
    detector = Detector.load(fitted_to("fan", folder))
    paths = [c.path for c in data["fan"].test]
    first = [detector.score_file(path) for path in paths]
    assert [v.score for v in first] == [of_fan[c.key][0] for c in data["fan"].test]
    assert list(detector.score_files(paths[::-1] * 2, workers=2)) == first[::-1] * 2


# Studies

MACHINES = ("fan", "pump", "valve")
OWN_NORMALS = {"calibration": "own_normals", "weights": "equal"}
SEARCHED = {"calibration": "selection_fold", "weights": "search", "step": 0.125}
FUSIONS = {
    "searched": (CROSS_FITTED, SEARCHED),
    "searched on own normals": (CROSS_FITTED, {**SEARCHED, "calibration": "own_normals"}),
    "equal on other machines": (CROSS_FITTED, {**SEARCHED, "weights": "equal"}),
    "equal on own normals": (FIXED_LEAVE_ONE_MACHINE_OUT, OWN_NORMALS),
}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    root = tmp_path_factory.mktemp("three")
    for name in MACHINES:
        hide_faults(write_machine(root, name, train=6, target=4, test=4, seconds=0.5))
    return datasets.load(root)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Of branches, which are the same in all studies; every variant has names of its own, hence its own scores."""
    return Jobs(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module", params=FUSIONS)
def asked(request):
    protocol, fusion = FUSIONS[request.param]
    settings = {**FEW_CLIPS, "branch.encoder_options.n_mels": 16}
    of_far = {**settings, "branch.view": "far", "branch.backend": "nearest_neighbour"}
    branches = {
        "near": {"system": "spectral_near", "settings": settings},
        "far": {"system": "spectral_near", "settings": of_far},
    }
    content = {
        "name": "x",
        "protocol": protocol.name,
        "seeds": [SEED],
        "branches": branches,
        "fusion": fusion,
    }
    return Study.model_validate(content)


@pytest.fixture(scope="module")
def as_it_is(asked, three, cache, tmp_path_factory):
    return fused.run(asked, three, tmp_path_factory.mktemp("as_it_is") / "out", jobs=cache)


def fused_scores(found, machine="fan"):
    """Scores of a machine: of each branch, and fused."""
    tables = {
        **{name: result.scores for name, result in found.branches.items()},
        "fused": found.result.scores,
    }
    rows = pd.DataFrame({name: table.set_index("key")["score"] for name, table in tables.items()})
    return {key: tuple(row) for key, row in rows.iterrows() if key.startswith(f"{machine}/")}


def chosen_for(found, machine="fan"):
    """What the fold that reports this machine chose."""
    (selection,) = (s for s in found.findings[SEED].selections if machine in s.fold.report)
    return selection.chosen


def with_tests(three, change, machines):
    """The data, where ``change`` was done to the test clips of these machines."""
    made = (Machine(m.name, (*m.train, *(change(m.test) if m.name in machines else m.test))) for m in three)
    return Dataset(three.name, three.root, tuple(made))


def flipped(clips):
    """As if the names had said the opposite: they do, and so do all that is read from them."""
    return [
        replace(c, name=f"flipped_{i}.wav", label=OTHER[c.label], domain=OTHER[c.domain])
        for i, c in enumerate(clips)
    ]


def relabelled(clips):
    """The labels drawn anew."""
    labels = np.random.default_rng(1).permutation([c.label for c in clips])
    return [replace(c, label=str(label)) for c, label in zip(clips, labels, strict=True)]


def some_thrice(clips):
    """Some are absent, the others are there thrice under other names, and all are shuffled."""
    made = [replace(c, name=f"{i}_{c.name}") for c in clips[1::2] for i in range(3)]
    return [made[i] for i in np.random.default_rng(0).permutation(len(made))]


def run(asked, dataset, cache, tmp_path):
    return fused.run(asked, dataset, tmp_path / "out", jobs=cache)


def test_own_labels_move_no_score_of_a_study(asked, three, as_it_is, cache, tmp_path):
    found = run(asked, with_tests(three, flipped, ["fan"]), cache, tmp_path)
    former = {f"fan/test/flipped_{i}.wav": c.key for i, c in enumerate(three["fan"].test)}
    assert {former[key]: scores for key, scores in fused_scores(found).items()} == fused_scores(as_it_is)
    assert chosen_for(found) == chosen_for(as_it_is)
    assert found.findings[SEED].omega != as_it_is.findings[SEED].omega


def test_own_clips_move_no_other_score_of_a_study(asked, three, as_it_is, cache, tmp_path):
    found = run(asked, with_tests(three, some_thrice, ["fan"]), cache, tmp_path)
    as_before = fused_scores(as_it_is)
    assert len(fused_scores(found)) == 24
    assert fused_scores(found) == {
        key: as_before[f"fan/test/{key[len('fan/test/0_') :]}"] for key in fused_scores(found)
    }
    assert chosen_for(found) == chosen_for(as_it_is)


def test_other_machines_move_branches_never_and_what_is_fused_only_by_what_is_chosen_on_them(
    asked, three, as_it_is, cache, tmp_path
):
    """With equal weights on the scale of a machine's own normal clips: nothing, whatever the others are."""
    before = fused_scores(as_it_is)
    moved = set()
    for kind, change in (("labels", relabelled), ("clips", some_thrice)):
        found = run(asked, with_tests(three, change, ["pump", "valve"]), cache, tmp_path / kind)
        after = fused_scores(found)
        assert {key: row[:2] for key, row in after.items()} == {key: row[:2] for key, row in before.items()}
        assert chosen_from_others(found, asked) == chosen_for(found)
        moved |= {kind} if after != before else set()
        assert (chosen_for(found) == chosen_for(as_it_is)) == (not choosing(asked, kind))
    alone = run(asked, three.only(["fan", "valve"]), cache, tmp_path / "two")
    moved |= {"machines"} if fused_scores(alone) != before else set()
    if asked.fusion.calibration == "own_normals" and asked.fusion.weights == "equal":
        assert not moved
    else:
        assert moved


def choosing(asked, kind):
    """Whether a fold chooses something by this: labels by a search, scores by a calibration, too."""
    by_labels = asked.fusion.weights == "search"
    return by_labels or (kind == "clips" and asked.fusion.calibration == "selection_fold")


def chosen_from_others(found, asked):
    """What a fusion chooses that has never seen a test clip of the fan."""
    tables = {name: result.scores for name, result in found.branches.items()}
    others = {name: table[table["machine"] != "fan"].set_index("key") for name, table in tables.items()}
    references = {name: result.references for name, result in found.branches.items()}
    normals = pd.DataFrame({name: table.set_index("key")["score"] for name, table in references.items()})
    fusion = Fusion.fit(
        pd.DataFrame({name: table["score"] for name, table in others.items()}),
        others["near"][["machine", "section", "domain", "label"]],
        weights=Search(0.125) if asked.fusion.weights == "search" else "equal",
        calibration=asked.fusion.calibration,
        references=normals[~normals.index.str.startswith("fan/")],
    )
    return fusion.describe()
