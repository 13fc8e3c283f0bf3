"""What a branch adds to a fusion: fused again without it, by choices that see no reported machine."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scored import lied, make_clips, make_scores

from nearfar.evaluation.results import Result
from nearfar.evaluation.statistics import ALL
from nearfar.research import fused, leaving_out
from nearfar.research.fused import Study
from nearfar.research.leaving_out import branches_of

GOLDEN = Path(__file__).parent / "golden" / "fused_result"
EFFECTS = {"strong": 2.0, "weak": 0.7, "noise": 0.0}


def study_of(folder: Path, rng: np.random.Generator, *, labels: Any = None, **content: Any) -> Result:
    """The result of a study of three files of scores of four machines."""
    clips = make_clips(("fan", "pump", "saw", "valve"))
    table = make_scores(clips, rng, EFFECTS).rename_axis("key").reset_index()
    if labels is not None:
        table["key"] = [labels(key) for key in table["key"]]
    table.to_csv(folder / "scores.csv", index=False)
    file = str(folder / "scores.csv")
    given = {
        "name": "three",
        "protocol": "cross-fitted, leave one machine out",
        "branches": {name: {"scores": file, "column": name} for name in EFFECTS},
        "fusion": {"weights": "search", "step": 0.25},
        **content,
    }
    return fused.run(Study.model_validate(given), None, folder / "result").result


@pytest.fixture
def result(tmp_path: Path, rng: np.random.Generator) -> Result:
    return study_of(tmp_path, rng)


def test_of_a_system_there_are_none() -> None:
    assert branches_of(Result.load(GOLDEN / "branches" / "near")) is None


def test_weights_are_those_of_the_fold_that_reported_the_machine(result: Result) -> None:
    found = branches_of(result)
    assert found.names == ("strong", "weak", "noise")
    weights = found.weights.set_index("machine")[list(EFFECTS)]
    (finding,) = result.run.findings.values()
    for fold in finding.folds:
        assert weights.loc[fold.report[0]].to_dict() == fold.chosen["weights"]
    np.testing.assert_allclose(weights.sum(axis=1), 1)


def test_without_a_branch_it_is_the_study_of_the_others(result: Result, tmp_path: Path) -> None:
    found = branches_of(result).table
    for out in EFFECTS:
        left = {name: effect for name, effect in EFFECTS.items() if name != out}
        (tmp_path / out).mkdir()
        file = str(tmp_path / "scores.csv")
        content = {
            "name": "two", "protocol": "cross-fitted, leave one machine out",
            "branches": {name: {"scores": file, "column": name} for name in left},
            "fusion": {"weights": "search", "step": 0.25},
        }  # fmt: skip
        alone = fused.run(Study.model_validate(content), None, tmp_path / out / "result").result
        assert found.loc[out, "without"] == pytest.approx(alone.omega)
        assert found.loc[out, "adds"] == pytest.approx(result.omega - alone.omega)
        assert found.loc[out, "adds_low"] <= found.loc[out, "adds"] <= found.loc[out, "adds_high"]
    assert found["adds"].idxmax() == "strong"
    assert (found["low"] < found["omega"]).all()
    assert found["omega"].idxmax() == "strong"


def test_labels_of_a_machine_have_no_part_in_its_own_number(result: Result) -> None:
    """With the labels of one machine exchanged, the scores that it is reported with stay."""
    study = leaving_out._Study.of(result)
    branches, _ = leaving_out._load(result)
    truth = leaving_out.clips_of(branches, result.run.seeds[0])
    liars = {
        name: replace(branch, scores=branch.scores.assign(
            label=lied(truth, "saw").loc[branch.scores["key"], "label"].to_numpy()
        ))
        for name, branch in branches.items()
    }  # fmt: skip
    seed, rest = result.run.seeds[0], ("strong", "weak")
    honest, misled = (leaving_out._fuse(study, of, rest, seed) for of in (branches, liars))
    saw = truth.index[truth["machine"] == "saw"]
    pd.testing.assert_series_equal(honest[saw], misled[saw])
    assert not honest.equals(misled)  # the other machines' weights heard the lie


@pytest.mark.parametrize(
    ("weights", "expected"),
    [({"strong": 0.5, "weak": 0.5, "noise": 0.0}, "scaled to sum 1"), ("greedy", None)],
)
def test_weights_may_be_given_or_found_greedily(
    tmp_path: Path, rng: np.random.Generator, weights: Any, expected: str | None
) -> None:
    found = branches_of(study_of(tmp_path, rng, fusion={"weights": weights}))
    assert found.table["without"].notna().all()
    assert (expected or "leave one machine out") in found.chosen
    if isinstance(weights, dict):
        assert found.table.loc["noise", "adds"] == pytest.approx(0, abs=1e-12)
        assert (found.weights[["strong", "weak", "noise"]] == [0.5, 0.5, 0.0]).all(axis=None)


def test_given_weights_may_leave_nothing_without_a_branch(tmp_path: Path, rng: np.random.Generator) -> None:
    weights = {"strong": 1.0, "weak": 0.0, "noise": 0.0}
    found = branches_of(study_of(tmp_path, rng, fusion={"weights": weights})).table
    assert np.isnan(found.loc["strong", "without"])
    assert found.loc["weak", "adds"] == 0


def test_candidates_lose_the_branch_too(tmp_path: Path, rng: np.random.Generator) -> None:
    candidates = {"all": ["strong", "weak", "noise"], "two": ["strong", "noise"], "one": ["strong"]}
    found = branches_of(study_of(
        tmp_path, rng, protocol="strict nested, leave one machine out", candidates=candidates,
        fusion={"weights": "equal"},
    ))  # fmt: skip
    assert found.table["without"].notna().all()
    assert "settings" in found.chosen
    assert found.table["adds"].idxmax() == "strong"


def test_too_many_weights_are_refused_with_what_to_do(
    result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving_out, "MOST_WEIGHTS", 10)
    found = branches_of(result)
    assert "60 weights would be tried" in found.why_not[0]
    assert list(found.table) == ["omega", "low", "high"]


def test_branches_that_are_not_in_the_folder_are_told(result: Result) -> None:
    shutil.rmtree(result.folder / "branches" / "weak")
    found = branches_of(result)
    assert found.table.empty
    assert found.why_not == (
        "branches/weak is not in the folder of the result; copy it there, or run again.",
    )
    assert len(found.weights) == 4


def test_a_branch_of_another_run_is_told(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN, tmp_path / "result"))
    shutil.rmtree(folder / "branches" / "far")
    shutil.copytree(folder / "branches" / "near", folder / "branches" / "far")
    found = branches_of(Result.load(folder))
    assert "branches/far holds another result" in found.why_not[0]
    assert found.table.empty


def test_a_damaged_branch_is_an_error(result: Result) -> None:
    (result.folder / "branches" / "weak" / "scores.csv").write_text("key\n")
    with pytest.raises(ValueError, match=r"weak/scores\.csv: no column machine"):
        branches_of(result)


def test_a_golden_result_that_decides() -> None:
    golden = Result.load(GOLDEN)
    found = branches_of(golden)
    assert found.why_not == ()
    assert found.table.loc["far", "without"] == pytest.approx(
        Result.load(GOLDEN / "branches" / "near").omega, abs=0.02
    )
    assert ALL not in found.table.index


def test_without_labels_weights_that_are_given_are_known() -> None:
    golden = Result.load(GOLDEN)
    fusion = {**golden.run.system["fusion"], "weights": {"near": 0.75, "far": 0.25}}
    run = golden.run.model_copy(update={"findings": {}, "system": {**golden.run.system, "fusion": fusion}})
    found = branches_of(replace(golden, metrics=golden.metrics[:0], run=run))
    assert "No labels are known" in found.why_not[0]
    assert found.table.empty
    assert (found.weights[["near", "far"]] == [0.75, 0.25]).all(axis=None)
    searched = golden.run.model_copy(update={"findings": {}})
    assert branches_of(replace(golden, metrics=golden.metrics[:0], run=searched)).weights.empty
