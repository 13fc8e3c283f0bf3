"""Intervals: resamples that keep their cells, values equal to clips written out, and known cases."""

from __future__ import annotations

from pathlib import Path

import naive
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scored import make_clips, make_scores

from nearfar.evaluation import statistics
from nearfar.evaluation.metrics import evaluate, omega
from nearfar.evaluation.ranking import sections
from nearfar.evaluation.statistics import ALL, bootstrap, compare, jackknife, resample


@pytest.fixture
def clips() -> pd.DataFrame:
    return make_clips(("fan", "pump"), per_cell=7)


@pytest.fixture
def scores(clips: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return make_scores(clips, rng, {"weak": 0.5, "strong": 2.0}).round(1)


def written_out(clips: pd.DataFrame, scores: pd.Series, counts: np.ndarray) -> tuple[pd.DataFrame, pd.Series]:
    """Tables in which every clip is as often as it counts, under names of its own."""
    chosen = np.repeat(np.arange(len(clips)), counts)
    names = [f"{i}" for i in range(len(chosen))]
    return clips.iloc[chosen].set_axis(names), scores.iloc[chosen].set_axis(names)


def test_spread_is_the_sample_standard_deviation() -> None:
    assert statistics.spread([0.614391, 0.613875]).mean == pytest.approx(0.614133)
    assert statistics.spread([0.614391, 0.613875]).deviation == pytest.approx(
        0.000364, abs=1e-6
    )  # Lei, section 4
    assert statistics.spread([0.5]).deviation is None
    with pytest.raises(ValueError, match=r"values=\[\]: expected one or more, all finite"):
        statistics.spread([])


def test_a_resample_keeps_every_cell(clips: pd.DataFrame) -> None:
    counts = resample(clips, n_resamples=200, seed=1)
    assert counts.shape == (200, 56)
    for _, cell in clips.assign(i=range(56)).groupby(statistics.CELL):
        assert (counts[:, cell["i"]].sum(axis=1) == 7).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(56), abs=0.35)
    assert counts.max() > 3


def test_clips_of_one_recording_move_together(clips: pd.DataFrame) -> None:
    recording = statistics.recordings(list(clips.index))
    counts = resample(clips, n_resamples=50, seed=1, recording=recording)
    assert (counts.sum(axis=1) != 56).any()  # recordings have different numbers of clips
    for _, cell in clips.assign(i=range(56), recording=recording).groupby([*statistics.CELL, "recording"]):
        assert (counts[:, cell["i"]] == counts[:, cell["i"].iloc[:1]]).all()
    for _, cell in clips.assign(i=range(56), recording=recording).groupby(statistics.CELL):
        firsts = cell.drop_duplicates("recording")["i"]
        assert (counts[:, firsts].sum(axis=1) == 3).all()


def test_recordings_are_machine_and_attributes() -> None:
    keys = [
        "a/test/section_00_source_test_normal_0000_rpm_1.wav",
        "b/test/section_00_source_test_normal_0000_rpm_1.wav",
    ]
    assert statistics.recordings(keys).to_list() == ["a/rpm_1", "b/rpm_1"]
    with pytest.raises(
        ValueError, match=r"no attributes, which would name the recording, in 'a/test/.*_0001.wav'"
    ):
        statistics.recordings([*keys, "a/test/section_00_source_test_normal_0001.wav"])


def test_bootstrap_is_that_of_clips_written_out(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    score = scores["weak"]
    found = bootstrap(clips, score, n_resamples=40, level=0.8, seed=3)
    counts = resample(clips, n_resamples=40, seed=3)
    drawn = [evaluate(*written_out(clips, score, c)) for c in counts]
    low, high = np.quantile([omega(t) for t in drawn], [0.1, 0.9])
    assert (found.omega.low, found.omega.high) == pytest.approx((low, high), abs=1e-12)
    assert found.omega.value == pytest.approx(omega(evaluate(clips, score)), abs=1e-12)
    paucs = [t.loc[("pump", 0), "pauc"] for t in drawn]
    row = found.metrics.loc[("pump", 0, "pauc")]
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(paucs, [0.1, 0.9])), abs=1e-12)


def test_intervals_of_one_seed_are_those_of_the_bootstrap(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    found = statistics.intervals(clips, scores[["weak"]], n_resamples=50, seed=3)
    expected = bootstrap(clips, scores["weak"], n_resamples=50, seed=3).omega
    assert found.loc[ALL].tolist() == pytest.approx([expected.value, expected.low, expected.high], abs=1e-15)
    own = clips[clips["machine"] == "pump"]
    assert found.loc["pump", "value"] == pytest.approx(omega(evaluate(own, scores.loc[own.index, "weak"])))
    assert list(found.index) == ["fan", "pump", ALL]


def test_intervals_of_several_seeds_are_of_their_mean(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    found = statistics.intervals(clips, scores, n_resamples=50, level=0.8)
    counts = resample(clips, n_resamples=50, seed=0)
    drawn = [
        np.mean([omega(evaluate(*written_out(clips, scores[seed], row))) for seed in scores])
        for row in counts
    ]
    assert found.loc[ALL, ["low", "high"]].tolist() == pytest.approx(list(np.quantile(drawn, [0.1, 0.9])))
    compared = compare(clips, scores, scores, n_resamples=2).table
    assert found["value"].tolist() == pytest.approx(compared["a"].tolist(), abs=1e-15)
    with pytest.raises(ValueError, match=r"level=1: must be above 0 and below 1"):
        statistics.intervals(clips, scores, level=1)


def test_bootstrap_spreads_as_theory_says(rng: np.random.Generator) -> None:
    clips = make_clips(("fan",), per_cell=100)
    score = make_scores(clips, rng, {"x": 1.0})["x"]
    found = bootstrap(clips, score, n_resamples=2000).metrics.loc[("fan", 0, "auc_source")]
    a, m, n = found["value"], 200, 100  # Hanley and McNeil, Radiology 143, 1982
    variance = a * (1 - a) + (m - 1) * (a / (2 - a) - a**2) + (n - 1) * (2 * a**2 / (1 + a) - a**2)
    width = 2 * 1.96 * np.sqrt(variance / (m * n))
    assert found["high"] - found["low"] == pytest.approx(width, rel=0.15)


def test_seeds_make_it_repeatable(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    one, again, other = (bootstrap(clips, scores["weak"], n_resamples=30, seed=s) for s in (1, 1, 2))
    assert one.omega == again.omega
    assert one.omega != other.omega


def test_comparison_is_paired(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    a, b = scores[["weak"]], scores[["strong"]]
    found = compare(clips, a, b, n_resamples=60, seed=5)
    counts = resample(clips, n_resamples=60, seed=5)
    value = [[omega(evaluate(*written_out(clips, s, c))) for c in counts] for s in (a["weak"], b["strong"])]
    difference = np.subtract(value[1], value[0])
    row = found.table.loc[ALL]
    assert (row["low"], row["high"]) == pytest.approx(
        tuple(np.quantile(difference, [0.025, 0.975])), abs=1e-12
    )
    assert row["b_better"] == np.mean(difference > 0)
    assert row["b"] - row["a"] == pytest.approx(row["difference"])
    fan = clips["machine"] == "fan"
    assert found.table.loc["fan", "a"] == pytest.approx(
        omega(evaluate(clips[fan], a["weak"][fan])), abs=1e-12
    )
    assert list(found.table.index) == ["fan", "pump", ALL]


def test_a_system_is_not_better_than_itself(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    table = compare(clips, scores[["weak"]], scores[["weak"]], n_resamples=20).table
    assert (table[["difference", "low", "high"]] == 0).all(axis=None)
    assert (table["b_better"] == 0.5).all()


def test_seeds_are_averaged_after_the_metric(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    table = compare(clips, scores, scores[["strong"]], n_resamples=20).table
    each = [omega(evaluate(clips, scores[c])) for c in scores]
    assert table.loc[ALL, "a"] == pytest.approx(np.mean(each), abs=1e-12)


def test_by_recording_is_wider_where_recordings_are_alike(rng: np.random.Generator) -> None:
    clips = make_clips(("fan",), per_cell=30)
    recording = statistics.recordings(list(clips.index))
    of_cell = recording + clips["domain"] + clips["label"]
    level = dict(zip(of_cell.unique(), rng.normal(size=of_cell.nunique()), strict=True))
    score = of_cell.map(level) + 0.1 * rng.normal(size=len(clips))
    by_clip = bootstrap(clips, score, n_resamples=300).omega
    by_recording = bootstrap(clips, score, n_resamples=300, recording=recording).omega
    assert by_recording.high - by_recording.low > 1.5 * (by_clip.high - by_clip.low)


def test_jackknife_is_its_twin(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    def omega_of(kept: list[int]) -> float:
        return omega(evaluate(clips.iloc[kept], scores["weak"].iloc[kept]))

    error = naive.jackknife(omega_of, len(clips))
    found = jackknife(clips, scores["weak"], level=0.9)
    assert found.value == pytest.approx(omega_of(list(range(56))), abs=1e-12)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.95, 55) * error, abs=1e-12)
    assert found.low + found.high == pytest.approx(2 * found.value)


def test_the_official_half_width_is_pooled_and_too_small(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    anomalous, score = (clips["label"] == "anomaly").to_numpy(), scores["weak"].to_numpy()
    none, n = np.array([""] * len(clips)), len(clips)

    def metric(which: int, kept: list[int]) -> float:
        return naive.section_metrics(anomalous[kept], none[kept], score[kept], [1] * len(kept))[which]

    def error(which: int) -> float:
        return naive.jackknife(lambda kept: metric(which, kept), n)

    none = none.astype(object)
    none[:] = None
    expected = stats.t.ppf(0.975, n - 1) * (error(0) + error(1)) / 2 / (n - 1)
    assert statistics.official_half_width(clips, scores["weak"]) == pytest.approx(expected, abs=1e-14)


def test_cells_of_one_recording_are_told(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    cells = [
        f"{m}, section 00, {la}, {d}"
        for m in ("fan", "pump")
        for d in ("source", "target")
        for la in ("anomaly", "normal")
    ]
    one = clips["machine"]
    assert bootstrap(clips, scores["weak"], n_resamples=5, recording=one).single == tuple(cells)
    assert compare(clips, scores, scores, n_resamples=5, recording=one).single == tuple(cells)
    assert compare(clips, scores, scores, n_resamples=5).single == ()


def test_impossible_resamples_are_refused(clips: pd.DataFrame, scores: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="n_resamples=0: must be at least 1"):
        resample(clips, n_resamples=0, seed=0)
    with pytest.raises(ValueError, match="level=95: must be above 0 and below 1"):
        bootstrap(clips, scores["weak"], level=95)
    with pytest.raises(ValueError, match=r"no recording is known of 'fan/test/.*_0000_speed_0.wav'"):
        resample(clips, n_resamples=2, seed=0, recording=clips["machine"].iloc[1:])
    with pytest.raises(ValueError, match=r"no score for 'fan/test/.*_0000_speed_0.wav'"):
        jackknife(clips, scores["weak"].iloc[1:])


def test_real_recordings_of_the_motors_are_named(motors: Path) -> None:
    keys = [
        f"{m}/test/{p.name}" for m in ("motorA", "motorB") for p in sorted((motors / m / "test").iterdir())
    ]
    found = statistics.recordings(keys)
    assert found.nunique() == 16
    clips = pd.DataFrame(
        [(k.split("/")[0], 0, k.split("_")[2], k.split("_")[4]) for k in keys],
        columns=["machine", "section", "domain", "label"], index=keys,
    )  # fmt: skip
    assert len(sections(clips)) == 2
    assert statistics.single_recordings(clips, found) == ("motorA, section 00, anomaly, target",)
    counts = resample(clips, n_resamples=50, seed=0, recording=found)
    single = (clips[["machine", "domain", "label"]] == ["motorA", "target", "anomaly"]).all(axis=1).to_numpy()
    assert (counts[:, single].sum(axis=1) == 40).all()
    assert len(np.unique(counts[0, single])) > 2
