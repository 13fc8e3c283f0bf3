"""What a report shows of a result: each number against one that is counted by hand or by plain loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scored import make_clips, make_scores

from nearfar.decisions.rates import FlaggedShare
from nearfar.decisions.thresholds import Conformal, Gamma
from nearfar.evaluation import metrics, statistics
from nearfar.evaluation.record import DataRecord, MachineRecord, ProtocolRecord, RunRecord
from nearfar.evaluation.results import Result
from nearfar.research import overview
from nearfar.research.experiment import metrics_of

GOLDEN = Path(__file__).parent / "golden" / "fused_result"
PROTOCOL = ProtocolRecord(name="fixed configuration", selected_on="nothing")


def made(
    clips: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    rate: float | None = None,
    references: int = 0,
    system: dict[str, Any] | None = None,
    name: str = "ours",
) -> Result:
    """A result with these scores, a column a seed; with a rate, a threshold from so many normal scores."""
    rng = np.random.default_rng(1)
    machines = list(dict.fromkeys(clips["machine"]))
    tables, kept = [], []
    for seed in scores:
        table = clips.assign(split="test", seed=seed, score=scores[seed], decision=np.nan).reset_index()
        for machine in machines if rate is not None else ():
            normal = rng.normal(size=references)
            keys = [f"{machine}/train/{i:04d}.wav" for i in range(references)]
            kept.append(pd.DataFrame({"key": keys, "machine": machine, "seed": seed, "score": normal}))
            here = table["machine"] == machine
            value = Conformal.fit(normal, false_alarm_rate=rate).value
            table.loc[here, "decision"] = (table.loc[here, "score"] > value).astype(float)
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    of_machine = MachineRecord(
        training_clips=references, test_clips=6, training_digest="1", test_digest="2", false_alarm_rate=rate
    )
    run = RunRecord(
        system={"name": name, **(system or {})},
        seeds=tuple(int(seed) for seed in scores),
        data=DataRecord(name="hall", machines=dict.fromkeys(machines, of_machine)),
        sample_rate=16000, parameters={}, versions={"nearfar": "0"}, protocol=PROTOCOL,
    )  # fmt: skip
    columns = ["key", "machine", "seed", "score"]
    references_ = pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=columns)
    return Result(Path("results", name), table, metrics_of(table, clips), run, references_)


@pytest.fixture
def result(rng: np.random.Generator) -> Result:
    """Three machines, two seeds, decisions."""
    clips = make_clips()
    return made(clips, make_scores(clips, rng, {1: 1.0, 2: 2.0}), rate=0.2, references=30)


def rename(clips: pd.DataFrame, machines: Sequence[str], **columns: Any) -> pd.DataFrame:
    """The same clips, with what is known of these machines replaced."""
    changed = clips.copy()
    for column, value in columns.items():
        changed[column] = changed[column].where(~changed["machine"].isin(machines), value)
    return changed


class TestMetrics:
    def test_are_means_over_the_seeds(self, result: Result) -> None:
        found = overview.metrics_of(result).set_index("machine")
        for machine in result.run.machines:
            own = result.scores[result.scores["machine"] == machine]
            expected = []
            for _, table in own.groupby("seed"):
                source = table[(table["domain"] == "source") | (table["label"] == "anomaly")]
                expected.append(
                    metrics.auc((source["label"] == "anomaly").to_numpy(), source["score"].to_numpy())
                )
            assert found.loc[machine, "auc_source"] == pytest.approx(np.mean(expected))
        assert (found["low"] <= found["mean"]).all()
        assert (found["mean"] <= found["high"]).all()

    def test_omega_of_each_seed_averages_to_that_of_the_result(self, result: Result) -> None:
        found = overview.omegas(result)
        assert list(found.index) == [1, 2]
        assert found.mean() == pytest.approx(result.omega)

    def test_intervals_are_those_of_the_bootstrap(self, result: Result) -> None:
        found = overview.intervals(result)
        clips = overview.clips_of(result)
        by_seed = pd.DataFrame({s: t.set_index("key")["score"] for s, t in result.scores.groupby("seed")})
        pd.testing.assert_frame_equal(found, statistics.intervals(clips, by_seed))
        assert found.index[-1] == statistics.ALL
        of_recordings = overview.intervals(result, "recording")
        assert not of_recordings.equals(found)
        assert of_recordings["value"].equals(found["value"])

    def test_without_labels_there_are_none(self, rng: np.random.Generator) -> None:
        clips = make_clips().assign(label=None, domain=None)
        hidden = made(clips, pd.DataFrame({7: rng.normal(size=len(clips))}, index=clips.index))
        assert overview.metrics_of(hidden).empty
        assert overview.intervals(hidden) is None
        assert overview.omegas(hidden).empty
        assert overview.false_alarms(hidden).empty
        assert overview.most_wrong(hidden).empty
        assert overview.roc_curves(hidden, 7) == {}

    def test_machines_without_domains_beside_some_with_have_no_omega_but_intervals(
        self, rng: np.random.Generator
    ) -> None:
        clips = rename(make_clips(), ["pump"], domain=None)
        mixed = made(clips, make_scores(clips, rng, {1: 1.0}))
        assert overview.has_domains(mixed) is None
        assert overview.omegas(mixed).empty
        found = overview.intervals(mixed)
        assert sorted(found.index) == ["fan", "pump", "valve"]
        alone = statistics.intervals(clips[clips["machine"] == "pump"], overview.scores_by_seed(mixed).loc[
            clips.index[clips["machine"] == "pump"]
        ])  # fmt: skip
        assert found.loc["pump"].equals(alone.loc["pump"])

    def test_machines_without_labels_are_left_out(self, rng: np.random.Generator) -> None:
        clips = rename(make_clips(), ["pump"], label=None)
        partly = made(clips, make_scores(clips, rng, {1: 1.0}))
        assert set(overview.clips_of(partly)["machine"]) == {"fan", "valve"}
        assert list(overview.intervals(partly).index) == ["fan", "valve", statistics.ALL]
        assert set(overview.roc_curves(partly, 1)) == {("fan", 0), ("valve", 0)}


class TestFalseAlarms:
    def test_are_counted_by_domain(self, result: Result) -> None:
        found = overview.false_alarms(result)
        assert list(found) == list(overview.RATES)
        assert (found["asked"] == 0.2).all()
        row = found[(found["machine"] == "pump") & (found["domain"] == "target")].iloc[0]
        own = result.scores[(result.scores["machine"] == "pump") & (result.scores["domain"] == "target")]
        flagged = [
            ((t["label"] == "normal") & (t["score"] > overview.thresholds(result, s)["pump"].value)).sum()
            for s, t in own.groupby("seed")
        ]
        assert row["flagged"] == np.mean(flagged)
        assert (row["low"], row["high"]) == FlaggedShare(round(np.mean(flagged)), 6).interval()

    def test_all_machines_come_last_and_add_up(self, result: Result) -> None:
        found = overview.false_alarms(result)
        of_all = found[found["machine"] == statistics.ALL]
        assert list(of_all["domain"]) == ["source", "target"]
        assert list(of_all["normals"]) == [18, 18]
        assert list(found.index[-2:]) == list(of_all.index)
        of_machines = found[found["machine"] != statistics.ALL].groupby("domain")["flagged"].sum()
        assert of_all.set_index("domain")["flagged"].equals(of_machines)


class TestThresholds:
    def test_are_learnt_again_and_agree_with_the_decisions(self, result: Result) -> None:
        for seed in (1, 2):
            for machine, limit in overview.thresholds(result, seed).items():
                own = result.scores[(result.scores["machine"] == machine) & (result.scores["seed"] == seed)]
                assert limit.value is not None
                assert limit.above <= limit.value < limit.below
                assert ((own["score"] > limit.value) == (own["decision"] == 1)).all()

    def test_of_a_gamma_distribution(self, rng: np.random.Generator) -> None:
        normal = rng.gamma(3, size=40)
        clips = make_clips(("fan",))
        system = {"threshold": {"method": "gamma", "false_alarm_rate": 0.1}}
        found = made(clips, make_scores(clips, rng, {1: 3.0}) + 2, rate=0.1, references=40, system=system)
        value = Gamma.fit(normal, false_alarm_rate=0.1).value
        scores = found.scores.assign(decision=(found.scores["score"] > value).astype(float))
        found = replace(found, scores=scores, references=found.references.assign(score=normal))
        assert overview.thresholds(found, 1)["fan"].value == value

    def test_that_contradict_the_decisions_are_not_shown_but_bounded(self, result: Result) -> None:
        lost = replace(result, references=result.references.assign(score=99.0))
        limit, known = overview.thresholds(lost, 1)["fan"], overview.thresholds(result, 1)["fan"]
        assert limit.value is None
        assert (limit.above, limit.below) == (known.above, known.below)
        none = replace(result, references=result.references[:0])
        assert overview.thresholds(none, 1)["fan"].value is None

    def test_are_none_without_decisions(self, rng: np.random.Generator) -> None:
        clips = make_clips()
        assert overview.thresholds(made(clips, make_scores(clips, rng, {1: 1.0})), 1) == {}

    def test_of_a_machine_that_flags_nothing_has_one_end(self, result: Result) -> None:
        quiet = replace(result, scores=result.scores.assign(decision=0.0), references=result.references[:0])
        limit = overview.thresholds(quiet, 1)["fan"]
        assert np.isnan(limit.below)
        assert np.isfinite(limit.above)


class TestWrong:
    def test_clips_are_those_on_the_wrong_side(self) -> None:
        clips = make_clips(("fan",), per_cell=2)
        score = dict.fromkeys(clips.index, 0.0)
        normal = [key for key in clips.index if "normal" in key]
        anomalous = [key for key in clips.index if "anomaly" in key]
        score |= dict(zip(normal, (1.0, 2.0, 3.0, 9.0), strict=True))
        score |= dict(zip(anomalous, (2.5, 4.0, 10.0, 11.0), strict=True))
        found = overview.most_wrong(made(clips, pd.DataFrame({1: pd.Series(score)[clips.index]})))
        by_key = found.set_index("key")
        assert by_key["rank"].to_dict() == {
            anomalous[0]: 0.5,  # 3 and 9 of four normal clips are above
            anomalous[1]: 0.25,
            normal[2]: 0.25,  # 2.5 of four anomalies is below
            normal[3]: 0.5,
        }
        assert by_key.loc[anomalous[0], "kind"] == overview.MISSED
        assert by_key.loc[normal[3], "kind"] == overview.FALSE_ALARM
        assert found["flagged"].isna().all()

    def test_none_is_wrong_where_the_classes_do_not_overlap(self) -> None:
        clips = make_clips(("fan",))
        scores = pd.DataFrame({1: (clips["label"] == "anomaly").astype(float)})
        assert overview.most_wrong(made(clips, scores)).empty

    def test_a_wrong_decision_is_enough(self) -> None:
        clips = make_clips(("fan",), per_cell=3)
        scores = pd.DataFrame({1: (clips["label"] == "anomaly") + np.arange(12) / 100.0})
        apart = made(clips, scores)
        timid = replace(apart, scores=apart.scores.assign(decision=0.0))
        found = overview.most_wrong(timid, n=2)
        assert set(found["kind"]) == {overview.MISSED}
        assert (found.groupby("domain")["key"].count() == 2).all()
        assert (found["rank"] == 0).all()
        eager = replace(apart, scores=apart.scores.assign(decision=1.0))
        assert set(overview.most_wrong(eager)["kind"]) == {overview.FALSE_ALARM}

    def test_the_most_wrong_come_first_with_each_kind_by_domain(self, result: Result) -> None:
        found = overview.most_wrong(result, n=2)
        for _, table in found.groupby(["machine", "domain", "kind"]):
            assert len(table) <= 2
            assert table["rank"].is_monotonic_decreasing

    def test_the_highest_are_shown_without_labels(self, rng: np.random.Generator) -> None:
        clips = make_clips().assign(label=None, domain=None)
        scores = pd.DataFrame({7: rng.normal(size=len(clips))}, index=clips.index)
        found = overview.highest(made(clips, scores), n=3)
        assert list(found["machine"]) == ["fan"] * 3 + ["pump"] * 3 + ["valve"] * 3
        fan = scores[7][clips["machine"] == "fan"].nlargest(3)
        assert list(found["score"][:3]) == list(fan)


class TestComparisons:
    def test_are_of_all_pairs_or_with_the_first(
        self, result: Result, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(overview.experiment, "compare", lambda a, b, **_: (a.run.name, b.run.name))
        named = [replace(result, run=result.run.model_copy(update={"system": {"name": n}})) for n in "abcde"]
        assert [p.comparison for p in overview.comparisons(named[:3])] == [("a", "b"), ("a", "c"), ("b", "c")]
        assert [(p.a, p.b) for p in overview.comparisons(named)] == [(0, 1), (0, 2), (0, 3), (0, 4)]

    def test_of_different_clips_say_why_not(self, result: Result, rng: np.random.Generator) -> None:
        clips = make_clips(("saw",))
        other = made(clips, make_scores(clips, rng, {1: 1.0}))
        (pair,) = overview.comparisons([result, other])
        assert pair.comparison is None
        assert "different clips cannot be compared" in pair.why_not

    def test_of_a_result_with_itself_is_zero(self, result: Result) -> None:
        (pair,) = overview.comparisons([result, result])
        assert (pair.comparison.table["difference"] == 0).all()
        assert (pair.comparison.table["b_better"] == 0.5).all()


def test_curves_have_the_areas_of_the_metrics(result: Result) -> None:
    table = result.metrics.set_index(["seed", "machine"])
    for (machine, _), found in overview.roc_curves(result, 2).items():
        areas = {curve.name: curve for curve in found}
        assert areas["source"].auc == pytest.approx(table.loc[(2, machine), "auc_source"])
        assert areas["target"].auc == pytest.approx(table.loc[(2, machine), "auc_target"])
        assert areas["all"].pauc == pytest.approx(table.loc[(2, machine), "pauc"])


def test_a_golden_result_is_read() -> None:
    golden = Result.load(GOLDEN)
    assert overview.omegas(golden)[3] == pytest.approx(0.8367880861340311, abs=1e-15)
    assert set(overview.thresholds(golden, 3)) == {"fan", "pump", "valve"}
    assert len(overview.false_alarms(golden)) == 8
