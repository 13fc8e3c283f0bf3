"""Published studies: their files say what the report says, our numbers are those of branches and fusions."""

from __future__ import annotations

import io
import json
import shutil
import tomllib
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import quick
from rich.console import Console
from synthetic import hide_faults, write_machine
from typer.testing import CliRunner
from typer.testing import Result as Invoked

from nearfar import cli
from nearfar.cli import app
from nearfar.detector.fitted import Detector
from nearfar.encoders.measuring import Measured
from nearfar.encoders.processors import processor
from nearfar.encoders.remembering import Remembered
from nearfar.evaluation import metrics
from nearfar.evaluation.protocols import COMPLETE_DEVELOPMENT, CROSS_FITTED, NESTED
from nearfar.evaluation.results import Result
from nearfar.files import steps
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, datasets
from nearfar.recordings.clips import Clip, Dataset, DatasetError, Machine
from nearfar.recordings.datasets import DATASETS
from nearfar.recordings.inspection import training
from nearfar.recordings.microphones import Microphone
from nearfar.report import reproductions
from nearfar.research import experiment, fused, fusion, reproduce
from nearfar.research.fusion import Search
from nearfar.research.reproduce import STUDIES, PublishedStudy, Reproduction, constants
from nearfar.research.reproduce.costs import Progress
from nearfar.research.reproduce.reproduction import COLUMNS, is_published
from nearfar.research.reproduce.runs import runs_of
from nearfar.systems.components import Component
from nearfar.systems.named import SYSTEMS
from nearfar.training.adapters import Adapter

MACHINES = ("fan", "pump", "valve")

# As the report has them: tables 2 and 3, figure 3 (a), and what its text names
PUBLISHED = {
    "lei_table2": [
        0.561682,
        0.580897,
        0.583375,
        0.602619,
        0.607410,
        0.558972,
        0.592583,
        0.614391,
        0.613875,
    ],
    "lei_table3": [0.601961, 0.616416, 0.623988, 0.625003, 0.635498],
    "lei_figure3a": [-0.0166, -0.0039, -0.0026, -0.0012, 0.0005],
    "lei_figure3b": [0.540, 0.535, 0.500, 0.532, 0.554],
    "lei_text": [0.6114, 0.614133, 0.618768, 0.6220, 0.635498],
}

OWN = """
name = "own"
title = "Table 0"
source = "A. Uthor, a report"
data = "dcase2026"
summary = "Rows of every kind."
seeds = [3]

[branches.near]
system = "spectral"
[branches.near.settings]
"branch.view" = "near"
"branch.encoder_options.n_mels" = 16
"threshold.method" = "none"

[branches.far]
system = "spectral"
[branches.far.settings]
"branch.view" = "far"
"branch.backend" = "nearest_neighbour"
"branch.encoder_options.n_mels" = 16
"threshold.method" = "none"

[branches.cancelled]
system = "spectral"
[branches.cancelled.settings]
"branch.encoder_options.n_mels" = 16
"threshold.method" = "none"

[branches.drawn]
system = "spectral"
[branches.drawn.settings]
"branch.view" = "near"
"branch.pooling" = "mean_std"
"branch.backend" = "smote"
"branch.backend_options.k" = 1
"branch.encoder_options.n_mels" = 16
"threshold.method" = "none"

[[rows]]
label = "near"
published = 61.5
branch = "near"
protocol = "complete development"

[[rows]]
label = "near again"
branch = "near"
protocol = "fixed configuration, leave one machine out"

[[rows]]
label = "two seeds"
published = 60.0
published_std = 0.5
branch = "drawn"
seeds = [3, 4]
protocol = "complete development"

[[rows]]
label = "target of the pump"
published = 50.0
branch = "far"
protocol = "complete development"
machine = "pump"
metric = "target"

[[rows]]
label = "searched"
published = 62.0
branches = ["near", "far", "cancelled"]
weights = "search"
step = 0.25
protocol = "cross-fitted, leave one machine out"

[[rows]]
label = "given"
branches = ["near", "far"]
weights = { near = 0.75, far = 0.25 }
protocol = "complete development"

[[rows]]
label = "without far"
published = -1.25
branches = ["near", "far", "cancelled"]
without = "far"
protocol = "cross-fitted, leave one machine out"

[[rows]]
label = "nested"
published = 60.0
branches = ["near", "far"]
protocol = "strict nested, leave one machine out"
[rows.candidates.as_it_is]
[rows.candidates.neighbour]
near = { "branch.backend" = "nearest_neighbour" }
"""
N = {
    label: n
    for n, label in enumerate(
        line.partition('"')[2].strip('"') for line in OWN.splitlines() if line.startswith("label")
    )
}

Write = Callable[[str], Path]


def only(*labels: str) -> str:
    """The study with these rows alone."""
    head, *rows = OWN.split("[[rows]]\n")
    kept = (row for row in rows if any(row.startswith(f'label = "{label}"\n') for label in labels))
    return head + "".join(f"[[rows]]\n{row}" for row in kept)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name in MACHINES:
        hide_faults(write_machine(root, name, train=8, target=4, test=3, seconds=0.5))
    return root


@pytest.fixture(scope="module")
def data(root: Path) -> Dataset:
    return datasets.load(root)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    return Jobs(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own.toml"
    path.write_text(OWN)
    return path


@pytest.fixture(scope="module")
def again(own: Path, data: Dataset, jobs: Jobs, tmp_path_factory: pytest.TempPathFactory) -> Reproduction:
    return reproduce.run(reproduce.load(str(own)), data, tmp_path_factory.mktemp("again") / "out", jobs=jobs)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> Path:
        path = tmp_path / "own.toml"
        path.write_text(text)
        return path

    return written


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARFAR_WEIGHTS", str(tmp_path / "no-weights"))


@pytest.mark.parametrize("name", STUDIES)
class TestEveryStudy:
    def test_is_named_as_its_file_and_described(self, name: str) -> None:
        loaded = reproduce.load(name)
        assert loaded.name == name
        (described,) = [d for d in reproduce.describe() if d.name == name]
        assert (described.title, described.source) == (loaded.title, loaded.source)
        assert described.rows == len(loaded.rows)

    def test_names_systems_that_exist(self, name: str) -> None:
        content = tomllib.loads(STUDIES[name].read_text(encoding="utf-8"))
        assert {b["system"] for b in content["branches"].values()} <= {*SYSTEMS}

    def test_has_the_published_numbers(self, name: str) -> None:
        found = [row.published for row in reproduce.load(name).rows]
        assert found == pytest.approx([100 * value for value in PUBLISHED[name]], abs=1e-9)

    def test_is_of_the_data_of_the_report(self, name: str) -> None:
        loaded = reproduce.load(name)
        assert loaded.data == "dcase2026"
        assert {row.machine for row in loaded.rows} <= {None, *DATASETS["dcase2026"].MACHINES["dev"]}

    def test_uses_all_its_branches_and_decides_nothing(self, name: str) -> None:
        loaded = reproduce.load(name)
        assert {b for row in loaded.rows for b in row.used} == set(loaded.branches)
        assert all(branch.load().threshold.method == "none" for branch in loaded.branches.values())


class TestTheStudiesOfTheLeiReport:
    """Section 3: evidence levels, grids and neighbourhoods."""

    def test_protocols_and_grids(self) -> None:
        protocols = {
            name: [row.protocol.split(",")[0] for row in reproduce.load(name).rows] for name in STUDIES
        }
        assert protocols["lei_table2"] == ["complete development"] * 9
        assert protocols["lei_table3"] == [
            "strict nested",
            "fixed configuration",
            "cross-fitted",
            "cross-fitted",
            "complete development",
        ]
        assert set(protocols["lei_figure3a"] + protocols["lei_figure3b"]) == {"cross-fitted"}
        steps = [row.step for name in STUDIES for row in reproduce.load(name).rows if row.branches]
        assert sorted(steps) == [0.05] + [0.1] * (len(steps) - 1)
        assert reproduce.load("lei_text").rows[3].step == 0.05

    def test_neighbourhoods(self) -> None:
        loaded = reproduce.load("lei_table3")
        found = [
            {
                (o["k"], o["k_target"])
                for b in row.used
                for o in [loaded.system(b, row).branch.backend_options]
                if "k" in o
            }
            for row in loaded.rows
        ]
        assert found == [{(16, 9)}, {(16, 9)}, {(16, 9)}, {(8, 5)}, {(8, 5)}]
        nested = loaded.rows[0]
        for candidate, expected in (("k_8_5", (8, 5)), ("k_16_9", (16, 9))):
            for branch in ("eat", "ced", "m2d"):
                options = loaded.system(branch, nested, candidate).branch.backend_options
                assert (options["k"], options["k_target"]) == expected

    def test_weights_of_the_evaluation_output(self) -> None:
        row = reproduce.load("lei_text").rows[-1]
        names = [name.removesuffix("_8_5") for name in row.weights]
        assert dict(zip(names, row.weights.values(), strict=True)) == {
            "ae": 0.3, "ced": 0.1, "m2d": 0.2, "dualmic": 0.4,
        }  # fmt: skip

    def test_seeds(self) -> None:
        text, table = reproduce.load("lei_text"), reproduce.load("lei_table2")
        assert text.seeds_of(text.rows[1]) == (13711, 2026)
        assert text.rows[1].published_std == 0.0364
        assert [table.seeds_of(row)[0] for row in table.rows] == [13711] * 8 + [2026]


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Machines under the names that figure 3 (b) has."""
    root = tmp_path_factory.mktemp("hall")
    for name in ("fan", "bearingEmu", "ToyCarEmu", "sliderEmu"):
        hide_faults(write_machine(root, name, train=8, target=4, test=2))
    return datasets.load(root)


def tiny(name: str) -> PublishedStudy:
    """A study of the report with random weights of a few numbers, a moment's training, and a coarse grid."""
    content = tomllib.loads(STUDIES[name].read_text(encoding="utf-8"))
    for branch in content["branches"].values():
        branch["settings"] |= quick.settings(branch["system"])
    for row in content["rows"]:
        if row.get("weights") == "search":
            row["step"] = 0.5
        if nested := row.pop("candidates", {}):
            of = nested["k_8_5"]
            few = {f"k_{k}": {b: dict.fromkeys(settings, k) for b, settings in of.items()} for k in (1, 2)}
            row["candidates"] = few
    return PublishedStudy.model_validate(content)


@pytest.fixture
def seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is seen of a machine's clips is seen by the first fit, for the others that need the same of them."""
    look = training.look

    @cache
    def seen(machine: Machine, needs: tuple[Microphone, ...]) -> training.Look:
        return look(machine, needs=needs)

    monkeypatch.setattr(training, "look", lambda machine, *, needs, **_: seen(machine, tuple(needs)))


@pytest.mark.slow
@pytest.mark.usefixtures("seen_once")
def test_every_study_of_the_report_runs_from_recordings_to_its_table(hall: Dataset, tmp_path: Path) -> None:
    """Adapters trained without each machine, frozen branches, autoencoders, fusions: all rows, on one cache."""
    own = Jobs(tmp_path / "cache")
    for name in STUDIES:
        asked = tiny(name)
        found = reproduce.run(asked, hall, tmp_path / name, jobs=own)
        assert all(row.ours is not None and -100 < row.ours.mean < 100 for row in found.rows)
        assert [row.scope.split(":")[0] for row in found.rows] == [row.protocol for row in asked.rows]
        assert not found.is_comparable
        planned = reproduce.plan(asked, hall, jobs=own)
        assert planned.minutes_left == 0
        assert all(of.finished == of.total for of in planned.steps.values())
    adapters = [Adapter.load(path) for path in own.root.glob("jobs/adapter/*/*/*.safetensors")]
    heard = Counter(adapter.machines for adapter in adapters)
    every = tuple(sorted(machine.name for machine in hall))
    # seeds 13711 and 2026 on all machines, and seed 13711 on the others of each: none is trained for two studies
    assert heard == Counter({every: 2} | {tuple(m for m in every if m != out): 1 for out in every})


class TestFile:
    @pytest.mark.parametrize(
        ("was", "is_now", "message"),
        [
            ("summary =", "sumary =", r"sumary: no key 'sumary'; did you mean 'summary'\?"),
            ('label = "near"\n', 'lable = "near"\n', r"rows\.0\.lable: no key 'lable'; did you mean 'label'"),
            ('"branch.view" = "far"', '"branch.vew" = "far"', r"branches\.far: spectral.toml:\n .*'vew'"),
            ('data = "dcase2026"', 'data = "dcase2062"', "data: no data set 'dcase2062'; did you mean"),
            ("seeds = [3]", "seeds = []", "seeds: Tuple should have at least 1 item"),
            ("seeds = [3, 4]", "seeds = [3, 3]", r"rows\.2: seeds=\[3, 3\]: each once"),
            ("seeds = [3, 4]", "", r"rows\.2: published_std=0\.5: needs two seeds or more"),
            ('metric = "target"', 'metric = "f1"', r"rows\.3\.metric: Input should be 'omega'"),
            ('branch = "far"', 'branch = "fra"', r"rows\.3: no branch 'fra'; did you mean 'far'"),
            ('branch = "far"', "", r"rows\.3: name either a branch, or branches to be fused"),
            ('branch = "far"', 'branch = "far"\nstep = 0.1', r"rows\.3: step: of a fusion, but there is one"),
            (
                'branch = "far"\nprotocol = "complete development"',
                'branch = "far"\nprotocol = "cross-fitted, leave one machine out"',
                r"rows\.3: protocol='cross-fitted, .*': a branch alone chooses nothing; take one of complete",
            ),
            (
                'branch = "far"\nprotocol = "complete',
                'branch = "far"\nprotocol = "complet',
                r"rows\.3\.protocol: no protocol .*; did you mean 'complete development'",
            ),
            (
                '"near", "far"]\nweights = {',
                '"near"]\nweights = {',
                r"branches=\['near'\]: a fusion has two or",
            ),
            ("near = 0.75", "near = 0.5", r"rows\.5: the weights have the sum 0\.75; it must be 1"),
            ("step = 0.25", "step = 0.3", r"rows\.4: step=0\.3: it must divide 1"),
            (
                'without = "far"',
                'without = "fra"',
                r"rows\.6: no branch to leave out 'fra'; did you mean 'far'",
            ),
            (
                'branches = ["near", "far", "cancelled"]\nwithout = "far"',
                'branches = ["near", "far"]\nwithout = "far"',
                r"rows\.6: without='far': needs three branches, equal or searched weights",
            ),
            (
                "[rows.candidates.as_it_is]\n[rows.candidates.neighbour]\nnear = {",
                "[branches.x]\nsystem = 'spectral'\nsettings = {",
                r"rows\.7: protocol='strict nested, .*': candidates belong to 'strict nested",
            ),
            (
                'near = { "branch.backend" =',
                'cancelled = { "branch.backend" =',
                r"rows\.7: candidates: cancelled is not among the branches of this row",
            ),
            (
                'near = { "branch.backend" =',
                'near = { "branch.backed" =',
                r"rows\.7: branches\.near: spectral.toml:\n .*'backed'",
            ),
            (
                "step = 0.25",
                'calibration = "own_normals"',
                r"rows\.4: branches\.near: calibration='own_normals' needs scores of unseen normal clips",
            ),
            (
                "step = 0.25",
                'calibration = "own_normals"\nfalse_alarm_rate = 0.05',
                r"rows\.4: false_alarm_rate=0.05: a row compares scores, and decides nothing",
            ),
            ("published = 61.5", "published = nan", r"rows\.0\.published: Input should be a finite number"),
            ("name =", "name :", "own.toml: not TOML"),
        ],
    )
    def test_a_fault_is_named(self, was: str, is_now: str, message: str, write: Write) -> None:
        assert was in OWN
        path = write(OWN.replace(was, is_now, 1))
        with pytest.raises(ValueError, match=message) as error:
            reproduce.load(str(path))
        assert "own.toml:" in str(error.value)
        assert "Value error" not in str(error.value)

    def test_all_faults_are_named_at_once(self, write: Write) -> None:
        text = OWN.replace('branch = "far"', 'branch = "fra"').replace('["near", "far"]', '["near", "afar"]')
        with pytest.raises(ValueError, match=r"own\.toml") as error:
            reproduce.load(
                str(write(text.replace("weights = { near = 0.75, far", "weights = { near = 0.75, afar")))
            )
        assert all(f"\n  rows.{n}: no branch" in str(error.value) for n in (3, 5, 7))

    def test_a_study_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no study 'lei_tabel2'; did you mean 'lei_table2'"):
            reproduce.load("lei_tabel2")
        with pytest.raises(FileNotFoundError, match=r"no\.toml"):
            reproduce.load(str(tmp_path / "no.toml"))

    def test_settings_come_last_and_can_be_of_one_encoder(self, own: Path) -> None:
        loaded = reproduce.load(
            str(own), {"branch.encoder_options.n_mels": 8, "spectral:branch.view": "near_and_far"}
        )
        nested = loaded.rows[N["nested"]]
        found = loaded.system("near", nested, "neighbour").branch
        assert (found.encoder_options["n_mels"], found.view) == (8, "near_and_far")
        assert found.backend == "nearest_neighbour"
        with pytest.raises(ValueError, match="settings: no encoder of this study 'eta'"):
            reproduce.load(str(own), {"eta:branch.view": "near"})
        with pytest.raises(ValueError, match=r"rows\.0: branches\.near: spectral.toml:\n .*no key 'vew'"):
            reproduce.load(str(own), {"branch.vew": "near"})


def scores_and_clips(
    again: Reproduction, names: dict[str, str], seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of branches by the names of their folders, read from these."""
    results = {b: Result.load(again.folder / "branches" / folder) for b, folder in names.items()}
    return fused.scores_of(results, seed), fused.clips_of(results, seed)


def omega_of(again: Reproduction, folder: str, seed: int) -> float:
    found = Result.load(again.folder / "branches" / folder).metrics
    return 100 * metrics.omega(found[found["seed"] == seed])


class TestRows:
    def test_equal_branches_are_run_once_with_all_seeds(self, again: Reproduction) -> None:
        folders = sorted((again.folder / "branches").iterdir())
        assert [f.name for f in folders] == ["cancelled", "drawn", "far", "near", "near.neighbour"]
        seeds = {f.name: Result.load(f).run.seeds for f in folders}
        assert seeds == {
            "cancelled": (3,), "drawn": (3, 4), "far": (3,), "near": (3,), "near.neighbour": (3,),
        }  # fmt: skip

    def test_of_one_branch(self, again: Reproduction) -> None:
        alone, fixed = again.rows[N["near"]], again.rows[N["near again"]]
        assert alone.ours.mean == fixed.ours.mean == omega_of(again, "near", 3)
        assert alone.difference == pytest.approx(alone.ours.mean - 61.5, abs=1e-12)
        assert alone.ours.deviation is None
        assert fixed.difference is None  # there is nothing to differ from
        assert alone.scope == "complete development: nothing was selected; 3 machines reported"

    def test_of_two_seeds(self, again: Reproduction) -> None:
        found, values = again.rows[N["two seeds"]], [omega_of(again, "drawn", seed) for seed in (3, 4)]
        assert values[0] != values[1]
        assert found.of_seeds == tuple(values)
        assert found.ours.mean == pytest.approx(np.mean(values), abs=1e-12)
        assert found.ours.deviation == pytest.approx(np.std(values, ddof=1), abs=1e-12)

    def test_of_one_machine_and_metric(self, again: Reproduction) -> None:
        table = Result.load(again.folder / "branches" / "far").metrics.set_index("machine")
        assert again.rows[N["target of the pump"]].of_seeds == pytest.approx(
            [100 * table.loc["pump", "auc_target"]], abs=1e-12
        )

    def test_of_fusions(self, again: Reproduction) -> None:
        scores, clips = scores_and_clips(again, {b: b for b in ("near", "far", "cancelled")}, 3)
        expected = fusion.evaluate_fusion(scores, clips, CROSS_FITTED, weights=Search(0.25))
        found = again.rows[N["searched"]]
        assert found.of_seeds == (100 * expected.omega,)
        assert found.findings[0]["folds"] == expected.describe()["folds"]
        assert found.scope == f"{CROSS_FITTED.name}: {expected.scope}"
        given = fusion.evaluate_fusion(
            scores[["near", "far"]], clips, COMPLETE_DEVELOPMENT, weights={"near": 0.75, "far": 0.25}
        )
        assert again.rows[N["given"]].of_seeds == (100 * given.omega,)

    def test_of_a_difference(self, again: Reproduction) -> None:
        scores, clips = scores_and_clips(again, {b: b for b in ("near", "far", "cancelled")}, 3)
        whole = fusion.evaluate_fusion(scores, clips, CROSS_FITTED, weights="equal")
        without = fusion.without_each_branch(scores, clips, CROSS_FITTED, weights="equal")["far"]
        expected = 100 * (without.omega - whole.omega)
        assert abs(expected) > 0.01
        assert again.rows[N["without far"]].of_seeds == pytest.approx([expected], abs=1e-12)
        assert set(again.rows[N["without far"]].findings[0]) == {"all", "rest"}

    def test_of_nested_selection(self, again: Reproduction) -> None:
        folders = {
            "as_it_is": {"near": "near", "far": "far"},
            "neighbour": {"near": "near.neighbour", "far": "far"},
        }
        read = {name: scores_and_clips(again, of, 3) for name, of in folders.items()}
        scores = {name: table for name, (table, _) in read.items()}
        expected = fusion.evaluate_nested(scores, read["as_it_is"][1], weights="equal")
        found = again.rows[N["nested"]]
        assert found.of_seeds == (100 * expected.omega,)
        assert found.findings[0]["folds"] == expected.describe()["folds"]
        assert found.scope.startswith(f"{NESTED.name}: calibration and settings selected on 2 other")

    def test_calibrated_on_own_normals(self, write: Write, data: Dataset, jobs: Jobs, tmp_path: Path) -> None:
        text = only("searched").replace("step = 0.25", 'calibration = "own_normals"')
        folds = {"threshold.method": "conformal", "threshold.folds": 2, "threshold.false_alarm_rate": 0.4}
        found = reproduce.run(reproduce.load(str(write(text)), folds), data, tmp_path / "out", jobs=jobs)
        names = ("near", "far", "cancelled")
        results = {b: Result.load(tmp_path / "out" / "branches" / b) for b in names}
        expected = fusion.evaluate_fusion(
            fused.scores_of(results, 3), fused.clips_of(results, 3), CROSS_FITTED, weights=Search(0.1),
            calibration="own_normals", references=fused.references_of(results, 3),
        )  # fmt: skip
        assert found.rows[0].of_seeds == (100 * expected.omega,)

    def test_of_branches_that_two_rows_call_the_same(self, write: Write) -> None:
        nested = OWN[OWN.index('[[rows]]\nlabel = "nested"') :]
        other = nested.replace("nearest_neighbour", "domain_local_density")
        loaded = reproduce.load(str(write(f"{OWN}\n{other}")))
        names = reproduce.plan(loaded, None).branches
        assert names == ("near", "drawn", "far", "cancelled", "near.neighbour", "near.neighbour.2")


class TestFolder:
    def test_has_the_table_and_everything(self, again: Reproduction) -> None:
        table = pd.read_csv(again.folder / "study.csv")
        assert list(table) == COLUMNS
        assert table["row"].tolist() == list(N)
        assert table["ours"].tolist() == pytest.approx([row.ours.mean for row in again.rows], abs=1e-12)
        told = json.loads((again.folder / "study.json").read_text())
        assert told == json.loads(json.dumps(again.describe()))
        assert told["comparable"] is False
        assert told["rows"][N["two seeds"]]["std"] == again.rows[N["two seeds"]].ours.deviation
        assert told["data"] == {"name": again.data.name, "clips": dict.fromkeys(MACHINES, 24)}

    def test_a_repeated_run_only_reads(
        self, again: Reproduction, data: Dataset, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = {f: f.read_bytes() for f in again.folder.rglob("*.*") if f.is_file()}
        monkeypatch.setattr(Detector, "fit", never)
        repeated = reproduce.run(again.study, data, again.folder, jobs=jobs)
        assert repeated.rows == again.rows
        assert {f: f.read_bytes() for f in again.folder.rglob("*.*") if f.is_file()} == before

    def test_of_something_else_is_left_alone(
        self, again: Reproduction, own: Path, data: Dataset, jobs: Jobs, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr(experiment, "run", never)
        other = reproduce.load(str(own), {"branch.encoder_options.n_mels": 8})
        for asked, of, differing in (
            (again.study, data.only(["fan", "pump"]), ""),
            (other, data, ", with other settings or another file"),
        ):
            with pytest.raises(
                FileExistsError, match=f"out holds results of own on fan, .*{differing}; choose"
            ):
                reproduce.run(asked, of, again.folder, jobs=jobs)
        (tmp_path / "branches").mkdir()
        (tmp_path / "branches" / "near").symlink_to(again.folder / "branches" / "near")
        with pytest.raises(
            FileExistsError, match="branches/near holds results of spectral on fan, pump, valve"
        ):
            reproduce.run(other, data, tmp_path, jobs=jobs)

    def test_is_not_begun_where_a_branch_cannot_be_run(
        self, own: Path, data: Dataset, jobs: Jobs, tmp_path: Path
    ) -> None:
        asked = reproduce.load(
            str(own), {"branch.backend": "domain_local_density", "branch.backend_options": {"k": 99}}
        )
        told = r"branch 'near': 3 of 3 tasks failed\n  fan, seed 3; pump.*: k=99, but domain 'source' has 8"
        with pytest.raises(ValueError, match=told):
            reproduce.run(asked, data, tmp_path / "out", jobs=jobs)
        untested = Dataset("x", data.root, (*data.machines, Machine("saw", data["fan"].train)))
        with pytest.raises(DatasetError, match="saw: no test clips to score"):
            reproduce.run(reproduce.load(str(own)), untested, tmp_path / "other", jobs=jobs)
        assert not (tmp_path / "out" / "study.json").exists()


def never(*_: object, **__: object) -> None:
    raise AssertionError("something was computed")


EAT = """
[branches.eat]
system = "eat_raw"
settings = { "threshold.method" = "none" }

[branches.m2d]
system = "m2d_dld"
settings = { "threshold.method" = "none" }

[[rows]]
label = "eat"
published = 58.0
branch = "eat"
protocol = "complete development"

[[rows]]
label = "both"
branches = ["eat", "m2d"]
protocol = "complete development"
"""
NEEDS_EAT = "needs weights eat (MIT, about 362 MB): nearfar weights get eat"
NEEDS_M2D = (
    "needs weights m2d_as (NTT evaluation licence, about 342 MB): "
    "nearfar weights add m2d_as FILE --accept-licence"
)


@pytest.mark.usefixtures("no_weights")
class TestNeeds:
    def test_weights_keep_only_their_rows_from_running(
        self, again: Reproduction, write: Write, data: Dataset, jobs: Jobs, tmp_path: Path
    ) -> None:
        found = reproduce.run(reproduce.load(str(write(OWN + EAT))), data, tmp_path / "out", jobs=jobs)
        assert found.rows[: len(again.rows)] == again.rows
        eat, both = found.rows[len(again.rows) :]
        assert (eat.scope, eat.ours, eat.difference) == (NEEDS_EAT, None, None)
        assert both.scope == f"{NEEDS_EAT}; {NEEDS_M2D}"
        table = pd.read_csv(tmp_path / "out" / "study.csv")
        assert table["ours"].isna().tolist() == [False] * len(again.rows) + [True, True]

    def test_weights_of_a_file_that_is_not_there(self, write: Write, tmp_path: Path) -> None:
        asked = reproduce.load(
            str(write(OWN + EAT)), {"eat:branch.encoder_options.weights": str(tmp_path / "my.safetensors")}
        )
        found = reproduce.run(asked, None, tmp_path / "out")
        assert f"needs weights {tmp_path}/my.safetensors: there is no such file" in found.rows[-2].scope

    def test_data(self, write: Write, tmp_path: Path) -> None:
        found = reproduce.run(reproduce.load(str(write(OWN + EAT))), None, tmp_path / "out")
        wanted = "needs data dcase2026: nearfar data download dcase2026"
        assert found.rows[0].scope == wanted
        assert found.rows[-2].scope == f"{NEEDS_EAT}; {wanted}"
        assert all(row.ours is None for row in found.rows)
        assert found.ours_on == "Ours: not measured, for no data were given."
        assert not (tmp_path / "out").exists()

    def test_machines(self, own: Path, data: Dataset, jobs: Jobs, tmp_path: Path) -> None:
        found = reproduce.run(reproduce.load(str(own)), data.only(["fan"]), tmp_path / "out", jobs=jobs)
        said = {label: found.rows[n].scope for label, n in N.items()}
        assert said["target of the pump"] == f"needs machine pump, which {data.name} does not have"
        assert said["searched"].startswith(
            "needs more machines: machines=('fan',): the protocol needs 2 or more"
        )
        assert said["nested"].startswith(
            "needs more machines: machines=('fan',): the protocol needs 3 or more"
        )
        assert found.rows[N["near"]].ours is not None

    def test_domains(self, write: Write, root: Path, jobs: Jobs, tmp_path: Path) -> None:
        """As in 2020."""
        for name in MACHINES:
            for split in ("train", "test"):
                (tmp_path / "data" / name / split).mkdir(parents=True)
                for i, path in enumerate(sorted((root / name / split).iterdir())):
                    label = "anomaly" if "anomaly" in path.name else "normal"
                    (tmp_path / "data" / name / split / f"{label}_id_00_{i:08d}.wav").symlink_to(path)
        asked = reproduce.load(str(write(only("near", "target of the pump", "given", "nested"))))
        found = reproduce.run(asked, datasets.load(tmp_path / "data"), tmp_path / "out", jobs=jobs)
        (without,) = (row for row in found.rows if row.ours is None)
        assert without == found.rows[1]
        assert "needs the domains of test clips" in without.scope

    def test_labels_before_any_work(
        self, own: Path, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(experiment, "run", never)
        hidden = [Machine(m.name, (*m.train, *map(unlabelled, m.test))) for m in data]
        with pytest.raises(ValueError, match="36 clips have no label 'normal' or 'anomaly'"):
            reproduce.run(reproduce.load(str(own)), Dataset("x", data.root, tuple(hidden)), tmp_path / "out")
        normal = [Machine(m.name, tuple(c for c in m.clips if c.label == "normal")) for m in data]
        with pytest.raises(ValueError, match="has no anomalous clips"):
            reproduce.run(reproduce.load(str(own)), Dataset("x", data.root, tuple(normal)), tmp_path / "out")
        assert not (tmp_path / "out").exists()


def unlabelled(clip: Clip) -> Clip:
    return Clip(clip.path, clip.machine, clip.section, clip.split, clip.name, clip.domain)


def as_published(count: int) -> Dataset:
    """The development machines of 2026, with so many clips of each."""
    counts = [("train", 1000), ("test", count)]
    machines = [
        Machine(name, tuple(Clip(Path("x"), name, 0, split, f"{i}") for split, n in counts for i in range(n)))
        for name in DATASETS["dcase2026"].MACHINES["dev"]
    ]
    return Dataset("dev_data", Path("x"), tuple(machines))


class TestComparability:
    def test_is_told_by_machines_and_numbers_of_clips(self, own: Path) -> None:
        assert is_published(as_published(200), "dcase2026")
        assert not is_published(as_published(199), "dcase2026")
        assert not is_published(as_published(200).only(["fan"]), "dcase2026")
        assert not is_published(as_published(200), "dcase2020")  # whose numbers differ by machine
        same = Reproduction(reproduce.load(str(own)), (), as_published(200), None)
        assert same.is_comparable
        assert "machines and numbers of clips as in dcase2026" in same.ours_on

    def test_other_data_are_called_so(self, again: Reproduction) -> None:
        assert "These are other data than dcase2026" in again.ours_on
        assert "NOT comparable" in again.ours_on
        assert again.published_on == (
            "Published: A. Uthor, a report; measured on the development machines of dcase2026."
        )


def study_of(system: str, settings: dict[str, Any]) -> PublishedStudy:
    """A study of one branch."""
    row = {"label": "alone", "branch": "alone", "protocol": "fixed configuration, leave one machine out"}
    branch = {"system": system, "settings": settings}
    of = {
        "name": "one",
        "title": "Table 1",
        "source": "A. Uthor",
        "data": "dcase2026",
        "summary": "One branch.",
    }
    return PublishedStudy.model_validate(of | {"branches": {"alone": branch}, "rows": [row]})


def said(table: object) -> str:
    return " ".join(rendered(table, 200).split())


TIMES = {  # in seconds for a clip of 10 s
    "processor": processor().name,
    "matrix_product": 1.0,
    "hearing": {"near": 1.0, "far": 2.0, "cancelled_3taps": 4.0},
    "encoding": {"spectral": 10.0, "eat": 100.0},
    "training": [
        {"encoder": "autoencoder", "options": {"n_mels": 128}, "seconds": 50.0},
        {"encoder": "dca", "options": {"n_mels": 1}, "seconds": 0.0},
    ],
    "adapting": {"eat arcface": 30.0},
    "inspecting": {"fit": 0.0, "score": 0.0},
    "fitting": {"domain_normalized": 0.5, "domain_local_density": 0.5, "nearest_neighbour": 0.25},
}
HALF_A_SECOND = 0.05  # of 10 s


@pytest.fixture
def times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The table of the package is ``TIMES``, or that with other values."""

    def replaced(**others: Any) -> None:
        (tmp_path / "constants.json").write_text(json.dumps(TIMES | others))
        monkeypatch.setattr(constants, "TABLE", tmp_path / "constants.json")

    replaced()
    return replaced


def only_rows(study: PublishedStudy, *labels: str) -> PublishedStudy:
    return study.model_copy(update={"rows": tuple(row for row in study.rows if row.label in labels)})


def removed(jobs: Jobs, *kinds: str) -> None:
    for kind in kinds:
        shutil.rmtree(jobs.root / "jobs" / kind)


class TestPlan:
    def test_counts_branches_machines_and_clips(self, own: Path, data: Dataset) -> None:
        found = reproduce.plan(reproduce.load(str(own)), data)
        assert (found.machines, found.clips, found.rows, found.possible) == (3, 72, 8, 8)
        assert found.branches == ("near", "drawn", "far", "cancelled", "near.neighbour")
        assert (found.trainings, found.adapters, found.weights) == (0, 0, {})
        assert found.data == data.name

    @pytest.mark.usefixtures("times")
    def test_projects_the_time_from_constants(self, own: Path, data: Dataset) -> None:
        """Rows near and far: a view each of 3 x 24 clips of half a second, and a fit each for 12 of 24 clips."""
        asked = only_rows(reproduce.load(str(own)), "near", "target of the pump")
        expected = 72 * (HALF_A_SECOND * (10 + 1 + 10 + 2) + 0.5 + 0.25)
        found = reproduce.plan(asked, data, cores=2)
        assert found.minutes == found.minutes_left == pytest.approx(expected / 60, rel=1e-12)
        assert found.minutes_on_cores == pytest.approx(expected / 60 / 2, rel=1e-12)
        assert found.share_done == 0
        as_published = reproduce.plan(asked, None)
        assert (as_published.machines, as_published.clips) == (7, 7 * 1200)
        assert as_published.minutes == pytest.approx(8400 * (10 + 1 + 10 + 2 + 0.5 + 0.25) / 60, rel=1e-12)

    @pytest.mark.usefixtures("times")
    def test_on_many_cores_the_longest_task_is_left(self, own: Path, data: Dataset) -> None:
        asked = only_rows(reproduce.load(str(own)), "near")
        one = reproduce.plan(asked, data).minutes
        assert reproduce.plan(asked, data, cores=100).minutes_on_cores == pytest.approx(one / 3, rel=1e-12)

    def test_says_where_the_times_are_from(self, own: Path, times: Callable[..., None]) -> None:
        asked = only_rows(reproduce.load(str(own)), "near")
        (source,) = {s for found in reproduce.plan(asked, None).constants.values() for s in found}
        assert source == f"{processor().name} (the table of the package)"
        before = reproduce.plan(asked, None).minutes
        times(processor="an abacus", matrix_product=1e-9)
        (source,) = {s for found in reproduce.plan(asked, None).constants.values() for s in found}
        assert source.startswith("an abacus (the table of the package, times ")
        assert reproduce.plan(asked, None).minutes == before  # no network is in this row
        times(encoding={})
        asked = reproduce.load(str(own), {"needs.minutes": 6.0, "needs.measured_on": "a clock"})
        assert reproduce.plan(asked, None).constants["embeddings by spectral"] == ("a clock",)

    def test_times_of_networks_follow_the_processor(
        self, times: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = only_rows(reproduce.load("lei_table2"), "Frozen EAT block 10, raw")
        times(hearing={}, fitting={})
        before = reproduce.plan(asked, None).minutes
        times(processor="an abacus", matrix_product=2.0, hearing={}, fitting={})
        monkeypatch.setattr(constants, "_matrix_product_here", lambda: 6.0)
        assert reproduce.plan(asked, None).minutes == pytest.approx(3 * before, rel=1e-12)

    @pytest.mark.usefixtures("times")
    def test_what_was_measured_here_counts_first(self, hall: Dataset, tmp_path: Path) -> None:
        asked = only_rows(tiny("lei_table2"), "Frozen EAT block 10, raw")
        (run,) = runs_of(asked).values()
        config = run.system.branch
        encoder = Component.resolve("encoder", config.encoder, config.encoder_options).make()
        row = Measured("float32", {1: 0.7}, 1.0, 0.0, 1.0, 1.0, 0.0, same_in_batches=True, clip_seconds=1.0)
        Remembered(encoder, 1.0, threads=1, cache=tmp_path / "cache").add({"float32": row})
        found = reproduce.plan(asked, hall, jobs=Jobs(tmp_path / "cache"))
        assert found.constants["embeddings by eat"] == ("this computer",)
        clips = sum(len(machine.clips) for machine in hall)  # of a second
        assert found.minutes * 60 == pytest.approx(clips * (0.7 + 0.1 * 1.0 + 0.5), rel=1e-12)

    def test_before_half_way_and_after_a_run(
        self, own: Path, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked, jobs = reproduce.load(str(own)), Jobs(tmp_path / "cache")
        asked = only_rows(asked, "near", "target of the pump", "two seeds")
        before = reproduce.plan(asked, data, jobs=jobs)
        assert before.minutes_left == before.minutes_possible == before.minutes > 0
        assert not jobs.root.exists()
        assert {kind: (of.total, of.finished) for kind, of in before.steps.items()} == {
            "adapters": (0, 0),
            "trainings": (0, 0),
            "embeddings": (3 * 72, 0),
            "detectors": (12, 0),
            "scores": (12, 0),
        }
        reproduce.run(only_rows(asked, "near", "target of the pump"), data, tmp_path / "some", jobs=jobs)
        removed(jobs, "scores")
        with monkeypatch.context() as patch:
            for module, name in ((audio, "load"), (audio, "read_recorded"), (steps, "digest_file")):
                patch.setattr(module, name, never)
            half = reproduce.plan(asked, data, jobs=jobs)
        assert (half.steps["embeddings"].finished, half.steps["detectors"].finished) == (2 * 72, 6)
        assert half.steps["scores"].finished == 0
        assert 0 < half.minutes_left < half.minutes_possible == before.minutes_possible
        reproduce.run(asked, data, tmp_path / "all", jobs=jobs)
        shutil.rmtree(jobs.root / "embeddings")  # nobody needs them any more
        after = reproduce.plan(asked, data, jobs=jobs)
        assert after.minutes_left == after.minutes_on_cores == 0
        assert after.share_done == 1
        assert all(of.total == of.finished for of in after.steps.values())
        assert "left │ nothing" in said(reproductions.plan(after))

    def test_finished_trainings_and_adapters(self, hall: Dataset, tmp_path: Path) -> None:
        """Those of a run that was killed before any detector was whole."""
        jobs, two = Jobs(tmp_path / "cache"), hall.only(["fan", "sliderEmu"])
        for name, settings, kind, count in (
            (
                "baseline_mse",
                {"threshold.calibration": "held_out", "threshold.method": "gamma"},
                "trainings",
                2 * 2,
            ),
            ("dualmic_raw", {"threshold.method": "none"}, "adapters", 2),
        ):
            asked = study_of(name, quick.settings(name) | settings)
            assert reproduce.plan(asked, two, jobs=jobs).steps[kind] == Progress(count, 0)
            reproduce.run(asked, two, tmp_path / name, jobs=jobs)
            removed(jobs, "scores", "detector")
            found = reproduce.plan(asked, two, jobs=jobs)
            assert found.steps[kind] == Progress(count, count)
            assert found.steps["detectors"].finished == 0
            assert 0 < found.minutes_left < found.minutes_possible / 2

    @pytest.mark.usefixtures("no_weights", "times")
    def test_trainings_are_shared_and_weights_named(self, data: Dataset) -> None:
        found = reproduce.plan(reproduce.load("lei_table2"), data)
        assert found.trainings == 1  # of the autoencoder, for both of its scores
        assert found.weights == {"eat": False}
        assert (found.rows, found.possible) == (9, 2)
        epochs = 100
        assert found.steps["trainings"] == Progress(3, 0)
        assert found.minutes_possible == pytest.approx(epochs * 50 * 36 * HALF_A_SECOND / 60, rel=1e-12)
        assert found.adapters == 2  # a seed each, on all machines

    @pytest.mark.parametrize(
        ("threshold", "trainings"),
        [
            ({}, 2),
            ({"threshold.calibration": "cross_fit", "threshold.folds": 4}, 5),
            ({"threshold.method": "none"}, 1),
        ],
    )
    def test_trainings_for_a_threshold_count(
        self, threshold: dict[str, object], trainings: int, write: Write
    ) -> None:
        text = OWN[: OWN.index("[branches.near]")]
        text += '[branches.ae]\nsystem = "baseline_mse"\n[[rows]]\nlabel = "ae"\nbranch = "ae"\n'
        text += 'protocol = "complete development"\nseeds = [{}]\n'
        for seeds, factor in (("1", 1), ("1, 2", 2)):
            asked = reproduce.load(str(write(text.format(seeds))), threshold)
            assert reproduce.plan(asked, None).trainings == factor * trainings

    def test_adapters_are_one_for_all_machines_or_one_for_each(
        self, write: Write, data: Dataset, times: Callable[..., None]
    ) -> None:
        text = OWN[: OWN.index('[[rows]]\nlabel = "target')]
        for name in ("near", "far", "cancelled", "drawn"):
            before, _, after = text.partition(f"[branches.{name}]")
            kept = after[after.index("[", after.index("settings]") + 10) :]
            text = f'{before}[branches.{name}]\nsystem = "dualmic_raw"\n{kept}'
        text = text.replace(
            '[branches.drawn]\nsystem = "dualmic_raw"', '[branches.drawn]\nsystem = "dualmic"'
        )
        times(adapting={}, encoding={}, hearing={}, fitting={})
        asked = reproduce.load(str(write(text)), {"needs.adapter_minutes": 70.0, "needs.minutes": 0.0})
        found = reproduce.plan(asked, data)
        # one adaptation: seeds 3 and 4 on all machines, seed 3 on the others of each
        assert found.branches == ("near.all", "near.others", "drawn.all")
        assert found.adapters == 2 + 3
        whole = 36 / 7000 * 0.05
        assert found.minutes == pytest.approx(70 * (2 * whole + 3 * whole * 2 / 3), rel=1e-12)


def rendered(table: object, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), no_color=True)
    console.print(table)
    return console.file.getvalue()


class TestTable:
    @pytest.mark.parametrize("width", [80, 200])
    def test_has_every_number_with_its_scope(self, width: int, again: Reproduction) -> None:
        text = rendered(reproductions.reproduction(again), width)
        assert max(map(len, text.splitlines())) <= width
        for row in again.rows:
            assert f"{row.ours.mean:.2f}" in text
            if row.difference is not None:
                assert f"{row.difference:+.2f}" in text
        assert "60.00 ± 0.50" in text
        assert "-1.25" in text
        assert f"{again.rows[N['two seeds']].ours.deviation:.2f}" in text
        flat = " ".join(text.split())
        assert "NOT comparable" in flat
        assert "A. Uthor, a report" in flat
        assert "descriptive only" in flat

    def test_tells_the_settings(self, own: Path) -> None:
        asked = reproduce.load(str(own), {"spectral:branch.view": "near"})
        shown = rendered(reproductions.reproduction(Reproduction(asked, (), None, None)), 200)
        assert "Ours: with spectral:branch.view=near." in shown

    def test_of_hours(self, own: Path, times: Callable[..., None]) -> None:
        times(encoding={"spectral": 36.0}, hearing={}, fitting={})
        asked = only_rows(reproduce.load(str(own)), "near")
        text = said(reproductions.plan(reproduce.plan(asked, None, cores=4)))
        assert "84 hours on one core" in text
        assert "84 hours on one core; 21 hours on 4 cores" in text
        assert "0% of the time (embeddings 0 of 8,400, detectors 0 of 7, scores 0 of 7)" in text


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Invoked]:
    def invoked(*arguments: object, columns: int = 200) -> Invoked:
        monkeypatch.setattr(cli.console.out, "width", columns)
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return invoked


class TestCommandLine:
    @pytest.mark.parametrize("columns", [60, 200])
    def test_lists_the_studies(self, columns: int, invoke: Callable[..., Invoked]) -> None:
        done = invoke("study", columns=columns)
        assert done.exit_code == 0
        assert all(name in done.stdout for name in STUDIES)
        assert max(map(len, done.stdout.splitlines())) <= columns

    def test_plans_then_runs(
        self, own: Path, root: Path, jobs: Jobs, tmp_path: Path, invoke: Callable[..., Invoked]
    ) -> None:
        common = (
            "study",
            own,
            "--data",
            root,
            "--out",
            tmp_path / "out",
            "--cache",
            jobs.root,
            "--workers",
            1,
        )
        for columns in (200, 80):
            planned = invoke(*common, "--plan", columns=columns)
            assert planned.exit_code == 0
            assert "machines: 3, clips: 72" in planned.stdout
            assert "The time is an estimate. It includes thresholds. Measured on:" in " ".join(
                planned.stdout.split()
            )
            assert max(map(len, planned.stdout.splitlines())) <= columns
        assert not (tmp_path / "out").exists()
        done = invoke(*common, columns=80)
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith(planned.stdout)
        assert "NOT comparable" in " ".join(done.stdout.split())

    def test_prints_json_alone(
        self,
        again: Reproduction,
        own: Path,
        root: Path,
        jobs: Jobs,
        tmp_path: Path,
        invoke: Callable[..., Invoked],
    ) -> None:
        common = ("study", own, "--data", root, "--cache", jobs.root, "--out", tmp_path / "out", "--json")
        told = json.loads(invoke(*common, "--workers", 1).stdout)
        assert told == json.loads(json.dumps(again.describe()))
        assert json.loads(invoke(*common, "--plan").stdout)["clips"] == 72

    def test_takes_settings_and_machines(
        self, write: Write, root: Path, jobs: Jobs, tmp_path: Path, invoke: Callable[..., Invoked]
    ) -> None:
        done = invoke(
            "study", write(only("near")), "--data", root, "--cache", jobs.root, "--out", tmp_path / "out",
            "--workers", 1,
            "--machine", "fan", "--machine", "pump", "--set", "spectral:branch.encoder_options.n_mels=8",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        run = Result.load(tmp_path / "out" / "branches" / "near").run
        assert run.system["branch"]["encoder_options"]["n_mels"] == 8
        assert run.machines == ("fan", "pump")

    @pytest.mark.usefixtures("no_weights")
    def test_without_data_says_what_is_needed(
        self, tmp_path: Path, invoke: Callable[..., Invoked], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        done = invoke("study", "lei_table2")
        said = " ".join(done.stdout.split())
        assert done.exit_code == 0
        assert "needs data dcase2026" in said
        assert "eat (missing)" in said
        assert "61.44" in said
        assert not (tmp_path / "results").exists()
