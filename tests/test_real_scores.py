"""The scores of twenty real systems on the real development set of 2026: golden values of metrics and of a fusion.

The scores are third-party material (``golden/dcase2026_dev`` of the shared folder, whose README says where they are
from), the published values those of T. Nishida et al., arXiv:2606.01578.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from nearfar.cli import app
from nearfar.evaluation import statistics
from nearfar.evaluation.metrics import METRICS, clip_table, evaluate, omega
from nearfar.evaluation.official import evaluate_folder
from nearfar.evaluation.protocols import COMPLETE_DEVELOPMENT, CROSS_FITTED
from nearfar.evaluation.results import Result
from nearfar.recordings.clips import parse_clip
from nearfar.research import fused
from nearfar.research.fusion import Search, evaluate_fusion

STUDIES = sorted((Path(__file__).parents[1] / "benchmarks" / "studies").glob("*.toml"))
HERE = ("complete", "cross_fitted")  # of systems; the others take scores from the shared folder
BASELINES = {"official_mse": ("AE", 57.19, 56.66), "official_mahala": ("MAHALA", 57.20, 57.66)}


@pytest.fixture(scope="module")
def scores(shared: Path) -> pd.DataFrame:
    return pd.read_csv(shared / "golden" / "dcase2026_dev" / "scores.csv", index_col="key")


@pytest.fixture(scope="module")
def clips(scores: pd.DataFrame) -> pd.DataFrame:
    return clip_table(parse_clip(Path(key)) for key in scores.index)


@pytest.mark.parametrize("column", BASELINES)
def test_the_official_baseline_as_somebody_ran_it(column: str, scores: pd.DataFrame, tmp_path: Path) -> None:
    """With the seed of the published run: half a point from it."""
    files = defaultdict(list)
    for key, score in scores[column].items():
        machine, _, name = str(key).split("/")
        files[machine].append((name, repr(float(score))))
    for machine, rows in files.items():
        with (tmp_path / f"anomaly_score_{machine}_section_00_test.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    found = evaluate_folder(tmp_path).metrics
    _, here, published = BASELINES[column]
    assert 100 * omega(found) == pytest.approx(here, abs=0.005)
    assert 0.4 < abs(100 * omega(found) - published) < 0.55


def test_how_far_two_runs_with_one_seed_are_apart(
    scores: pd.DataFrame, clips: pd.DataFrame, shared: Path
) -> None:
    """What the page of systems says of a reproduction."""
    published = pd.read_csv(shared / "golden" / "published_2026_dev.csv")
    differences, of_omega = [], []
    for column, (name, *_) in BASELINES.items():
        theirs = published[published["system"] == name].set_index("machine").rename(index=lambda m: m.lower())
        ours = 100 * evaluate(clips, scores[column]).droplevel("section").rename(index=str.lower)
        assert set(theirs.index) == set(ours.index)
        for metric in METRICS:
            differences.extend((ours[metric] - theirs[metric]).abs())
        of_omega.append(100 * omega(evaluate(clips, scores[column])) - theirs["omega"].iloc[0])
    every = pd.Series(differences)
    assert len(every) == 2 * 7 * 3
    assert of_omega == pytest.approx([0.53, -0.46], abs=0.005)
    assert (every.max(), every.median()) == pytest.approx((4.55, 1.05), abs=0.005)


def test_what_a_fusion_of_twenty_seems_to_gain_and_does(scores: pd.DataFrame, clips: pd.DataFrame) -> None:
    complete, cross_fitted = (
        100 * evaluate_fusion(scores, clips, protocol, weights=Search(0.1, "greedy")).omega
        for protocol in (COMPLETE_DEVELOPMENT, CROSS_FITTED)
    )
    best = max(100 * omega(evaluate(clips, scores[column])) for column in scores)
    assert (complete, cross_fitted, best) == pytest.approx((58.65, 56.16, 57.20), abs=0.005)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_of_the_benchmarks_loads(path: Path, request: pytest.FixtureRequest) -> None:
    if path.stem in HERE:
        assert len(fused.load(path).systems) == 4
        return
    columns = list(request.getfixturevalue("scores"))
    if not (path.parent / "../../../shared").is_dir():
        pytest.skip("needs the shared folder beside the checkout: the study names it")
    loaded = fused.load(path)
    assert loaded.name == path.stem
    used = columns[:2] if path.stem == "real_official" else columns
    assert {name: file.column for name, file in loaded.files.items()} == {c: c for c in used}
    assert not loaded.systems


@pytest.mark.slow
def test_a_study_of_the_benchmarks_runs_with_one_command(
    scores: pd.DataFrame, clips: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(statistics.intervals.__kwdefaults__, "n_resamples", 20)  # of 1000
    path = next(p for p in STUDIES if p.stem == "real_single")
    if not (path.parent / "../../../shared").is_dir():
        pytest.skip("needs the shared folder beside the checkout: the study names it")
    ran = CliRunner().invoke(app, ["run", str(path), "--out", str(tmp_path / "out")])
    assert ran.exit_code == 0, ran.output
    assert "Omega" in ran.output
    found = Result.load(tmp_path / "out")
    assert found.omega == pytest.approx(0.5498, abs=5e-5)
    branch = Result.load(tmp_path / "out" / "branches" / "ae_gated")
    assert branch.omega == pytest.approx(omega(evaluate(clips, scores["ae_gated"])), abs=1e-15)
