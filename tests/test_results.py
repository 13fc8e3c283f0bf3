"""Results: written and read again, also those of an earlier commit; the errors of damaged ones; how they look.

``golden/fused_result`` was written by commit 5cc02b6: a study of two branches on three machines of ``synthetic``.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nearfar
from nearfar.evaluation.metrics import omega
from nearfar.evaluation.record import MachineRecord, RunRecord
from nearfar.evaluation.results import FILES, SCORE_COLUMNS, Result, read_table, refuse_other_results
from nearfar.recordings.clips import Dataset, Machine

GOLDEN = Path(__file__).parent / "golden" / "fused_result"
MACHINES = ("fan", "pump", "valve")


@pytest.fixture
def golden() -> Result:
    return Result.load(GOLDEN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "result"))


def changed(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads((folder / "run.json").read_text())
    change(content)
    (folder / "run.json").write_text(json.dumps(content))


class TestGolden:
    def test_of_a_fusion_loads(self, golden: Result) -> None:
        assert golden.run.name == "near_and_far"
        assert golden.run.machines == MACHINES
        assert golden.run.seeds == (3,)
        assert golden.run.protocol.name == "cross-fitted, leave one machine out"
        assert golden.run.protocol.scope == "weights selected on 2 other machines for each of 3"
        assert golden.run.adapters is None
        assert golden.run.findings is not None
        fold = golden.run.findings["3"].folds[0]
        assert (fold.select, fold.report) == (("pump", "valve"), ("fan",))
        assert fold.chosen["weights"] == {"far": 0.25, "near": 0.75}
        assert golden.omega == golden.run.findings["3"].omega == pytest.approx(0.8367880861340311, abs=1e-15)
        assert list(golden.scores) == SCORE_COLUMNS
        assert set(golden.scores["decision"]) == {0, 1}

    @pytest.mark.parametrize("name", ["near", "far"])
    def test_of_a_branch_loads_and_is_what_the_fusion_says(self, golden: Result, name: str) -> None:
        branch = Result.load(GOLDEN / "branches" / name)
        assert branch.run.name == "spectral"
        assert branch.run.system["branch"]["view"] == name
        assert branch.run.data.machines["fan"].sample_rate == 16000
        assert branch.run.findings is None
        assert golden.run.branches is not None
        assert golden.run.branches[name] == branch.run
        of_clips = {m: of.without_network() for m, of in branch.run.data.machines.items()}
        assert golden.run.data.machines == of_clips

    @pytest.mark.parametrize("name", ["", "branches/near", "branches/far"])
    def test_is_written_as_it_was(self, name: str, tmp_path: Path) -> None:
        before = Result.load(GOLDEN / name)
        replace(before, folder=tmp_path / "again").save()
        again = (tmp_path / "again" / "run.json").read_bytes()
        assert again == (GOLDEN / name / "run.json").read_bytes()
        after = Result.load(tmp_path / "again")
        assert after.run == before.run
        for table in ("scores", "metrics", "references"):
            pd.testing.assert_frame_equal(getattr(after, table), getattr(before, table), check_exact=True)

    def test_a_path_may_be_text(self, golden: Result) -> None:
        found = nearfar.Result.load(str(GOLDEN))
        assert found.folder == GOLDEN
        assert found.run == golden.run


class TestDamaged:
    def test_files_that_are_missing_are_all_named(self, folder: Path) -> None:
        (folder / "metrics.csv").unlink()
        (folder / "run.json").unlink()
        with pytest.raises(
            FileNotFoundError,
            match=r"not a folder of results \(metrics.csv, run.json missing\); see `nearfar run`",
        ):
            Result.load(folder)

    def test_everything_that_is_wrong_is_listed(self, folder: Path) -> None:
        changed(
            folder, lambda run: [run.pop("seeds"), run.update(sample_rate="high"), run["data"].pop("name")]
        )
        table = pd.read_csv(folder / "scores.csv")
        table.drop(columns=["seed", "score"]).to_csv(folder / "scores.csv", index=False)
        (folder / "references.csv").write_text("key,machine,seed,score\nfan/train/a.wav,fan,3,loud\n")
        with pytest.raises(ValueError, match=r"run.json: 3 problems; the file is damaged") as error:
            Result.load(folder)
        for said in (
            "\n  seeds: missing",
            "\n  data.name: missing",
            "\n  sample_rate: Input should be a valid integer, not 'high'",
            f"{folder / 'scores.csv'}: no column seed, score",
            f"{folder / 'references.csv'}: not a table of a result: could not convert string to float: 'loud'",
        ):
            assert said in str(error.value), said

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ('{"system": {', r"run.json: 1 problem; .*\n  Invalid JSON: EOF while parsing"),
            ("", r"Invalid JSON: EOF while parsing(.|\n)*Take a copy .* else remove it .* and run again"),
            ("[]", r"1 problem; .*\n  Input should be an object"),
            ('{"study": {}}', r"7 problems; .*\n  system: missing\n  seeds: missing"),
        ],
    )
    def test_what_is_no_record(self, folder: Path, content: str, message: str) -> None:
        (folder / "run.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            Result.load(folder)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda run: run["system"].pop("name"), "system: a system needs a name that is a text, not None"),
            (lambda run: run.update(seeds=[]), "seeds: Tuple should have at least 1 item"),
            (lambda run: run.update(seeds=[3, "4"]), "seeds.1: Input should be a valid integer, not '4'"),
            (lambda run: run["data"].update(machines={}), "data.machines: Dictionary should have at least 1"),
            (
                lambda run: run["data"]["machines"]["fan"].pop("test_clips"),
                "data.machines.fan.test_clips: missing",
            ),
            (
                lambda run: run["parameters"].update(fan=-1),
                "parameters.fan: .* greater than or equal to 0, not -1",
            ),
            (lambda run: run["protocol"].pop("selected_on"), "protocol.selected_on: missing"),
            (lambda run: run["findings"]["3"].pop("scope"), "findings.3.scope: missing"),
            (lambda run: run["branches"]["near"].pop("data"), "branches.near.data: missing"),
        ],
    )
    def test_each_part_of_a_record(
        self, folder: Path, change: Callable[[dict[str, Any]], Any], message: str
    ) -> None:
        changed(folder, change)
        with pytest.raises(ValueError, match=message):
            Result.load(folder)

    def test_a_table_that_is_none_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "scores.csv").write_text("")
        with pytest.raises(ValueError, match=r"scores.csv: not a table of a result: No columns to parse"):
            read_table(tmp_path / "scores.csv")

    @pytest.mark.parametrize("kept", [0.3, 0.5, 0.77])
    def test_half_a_table_says_what_to_do(self, folder: Path, kept: float) -> None:
        file = folder / "scores.csv"
        rows = file.read_text().splitlines(keepends=True)
        at = int(kept * len(rows))
        file.write_text("".join(rows[:at]) + rows[at].split(",")[0])
        with pytest.raises(ValueError, match=rf"row {at} has no whole number as se") as error:
            Result.load(folder)
        assert str(error.value).startswith(f"{file}: not a table of a result: ")
        assert "Take a copy of it if there is one; else remove it" in str(error.value)
        assert "run again" in str(error.value)
        assert "non-finite" not in str(error.value)

    def test_a_place_with_a_damaged_record_is_refused(self, folder: Path) -> None:
        (folder / "run.json").write_text("{}")
        with pytest.raises(ValueError, match="7 problems; the file is damaged, or nearfar did not write it"):
            refuse_other_results(folder, {}, Dataset("x", folder, (Machine("fan", ()),)))


@pytest.mark.parametrize("name", [name for name in FILES if name != "run.json"])
def test_a_file_that_is_no_result_is_not_replaced(name: str, tmp_path: Path) -> None:
    dataset = Dataset("x", tmp_path, (Machine("fan", ()),))
    (tmp_path / "notes.txt").write_text("of the user")
    refuse_other_results(tmp_path, {}, dataset)  # such a folder may be used
    (tmp_path / name).write_text("of the user")
    with pytest.raises(
        FileExistsError, match=rf"has {re.escape(name)}, but no run.json: these are no results"
    ):
        refuse_other_results(tmp_path, {}, dataset)


def test_keys_of_a_later_version_are_kept(folder: Path) -> None:
    changed(folder, lambda run: [run.update(note="x"), run["data"]["machines"]["fan"].update(room="hall")])
    found = RunRecord.load(folder / "run.json").describe()
    assert found == json.loads((folder / "run.json").read_text())
    assert (found["note"], found["data"]["machines"]["fan"]["room"]) == ("x", "hall")


def test_a_record_cannot_be_changed(golden: Result) -> None:
    with pytest.raises(ValueError, match="Instance is frozen"):
        golden.run.sample_rate = 8000  # type: ignore[misc]


class TestOmega:
    def test_is_the_mean_over_seeds(self, golden: Result) -> None:
        other = golden.metrics.assign(seed=4, pauc=0.5)
        both = replace(golden, metrics=pd.concat([golden.metrics, other]))
        assert both.omega == pytest.approx(np.mean([omega(golden.metrics), omega(other)]), abs=1e-15)
        assert both.omega != pytest.approx(omega(both.metrics), abs=1e-6)

    def test_is_none_where_it_is_not_defined(self, golden: Result) -> None:
        assert replace(golden, metrics=golden.metrics.iloc[:0]).omega is None
        some = golden.metrics.assign(auc=[0.7, np.nan, np.nan])
        assert replace(golden, metrics=some).omega is None


class TestLooks:
    def test_a_repr_is_short(self, golden: Result) -> None:
        assert repr(golden) == (
            f"Result('near_and_far' on fan, pump, valve; seed 3; Omega 83.68 %, folder={str(GOLDEN)!r})"
        )

    def test_a_repr_of_many_machines_and_seeds_stays_short(self, golden: Result) -> None:
        of = MachineRecord(training_clips=4, test_clips=2, training_digest="a", test_digest="b")
        machines = {f"machine{i}": of for i in range(20)}
        data = golden.run.data.model_copy(update={"machines": machines})
        run = golden.run.model_copy(update={"data": data, "seeds": (1, 2)})
        result = replace(golden, run=run, metrics=golden.metrics.iloc[:0], folder=Path("out"))
        assert repr(result) == (
            "Result('near_and_far' on machine0, machine1, machine2, machine3 and 16 more; seeds 1, 2; no Omega, "
            "folder='out')"
        )

    def test_a_notebook_shows_metrics_of_each_machine_in_percent(self, golden: Result) -> None:
        other = golden.metrics.assign(seed=4, auc_source=1.0)
        shown = replace(golden, metrics=pd.concat([golden.metrics, other]))._repr_html_()
        head, *rows = re.findall("<tr>(.*?)</tr>", shown)
        names = ["machine", "section", "auc_source", "auc_target", "pauc", "f1"]
        assert re.findall("<th>(.*?)</th>", head) == names
        cells = np.array([re.findall("<t[hd]>(.*?)</t[hd]>", row) for row in rows])
        assert cells[:, 0].tolist() == list(MACHINES)
        expected = [f"{50 * (value + 1):.2f}" for value in golden.metrics["auc_source"]]
        assert cells[:, 2].tolist() == expected
        assert "near_and_far&#x27; on fan, pump, valve" in shown

    def test_a_notebook_shows_counts_where_no_label_is_known(self, golden: Result) -> None:
        shown = replace(golden, metrics=golden.metrics.iloc[:0])._repr_html_()
        assert "<th>clips scored</th>" in shown
        assert shown.count("<td>8</td>") == 3

    def test_names_are_no_markup(self, golden: Result) -> None:
        name = "<b>fan</b>"
        run = golden.run.model_copy(update={"system": {"name": name}})
        shown = replace(golden, run=run, metrics=golden.metrics.assign(machine=name))._repr_html_()
        assert name not in shown
        assert shown.count("&lt;b&gt;fan&lt;/b&gt;") == 2


def test_a_folder_holds_its_files_and_nothing_else(golden: Result, tmp_path: Path) -> None:
    replace(golden, folder=tmp_path / "out").save()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(FILES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("\n", ",1,2\n").replace(",1,2\n", "\n", 1), "more cells than its header"),
        (lambda text: text.replace("auc_source", "other", 1), r"the table lacks \['auc'\]"),
    ],
)
def test_strange_metrics_name_the_file(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    shutil.copytree(GOLDEN, tmp_path / "result")
    path = tmp_path / "result" / "metrics.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=rf"metrics\.csv: .*{message}"):
        assert Result.load(tmp_path / "result").omega
