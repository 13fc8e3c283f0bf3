"""Figures of a result: what is drawn is what its tables say, of a fused result and of ones with several seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from test_figures import drawn, key, lines, rows, texts

from nearfar.decisions.rates import FlaggedShare
from nearfar.decisions.thresholds import Conformal
from nearfar.evaluation.metrics import evaluate
from nearfar.evaluation.results import Result
from nearfar.evaluation.statistics import ALL, intervals
from nearfar.report.figures import of_result
from nearfar.research import experiment

GOLDEN = Path(__file__).parent / "golden" / "fused_result"
RATE = 0.25  # that it was fused with


@pytest.fixture(scope="module")
def golden() -> Result:
    return Result.load(GOLDEN)


@pytest.fixture(scope="module")
def asked(golden: Result) -> Result:
    """With the rate, which that version did not record."""
    machines = {
        n: of.model_copy(update={"false_alarm_rate": RATE}) for n, of in golden.run.data.machines.items()
    }
    data = golden.run.data.model_copy(update={"machines": machines})
    return replace(golden, run=golden.run.model_copy(update={"data": data}))


@pytest.fixture(scope="module")
def two_seeds(golden: Result) -> Result:
    """With a second seed, whose scores are others."""
    other = golden.scores.assign(seed=4, score=golden.scores["score"].iloc[::-1].to_numpy())
    clips = golden.scores.set_index("key")[["machine", "section", "domain", "label"]]
    found = evaluate(clips, other.set_index("key")["score"]).reset_index().assign(seed=4)
    run = golden.run.model_copy(update={"seeds": (3, 4)})
    return replace(
        golden,
        scores=pd.concat([golden.scores, other], ignore_index=True),
        metrics=pd.concat([golden.metrics, found], ignore_index=True),
        run=run,
    )


def of_machine(result: Result, machine: str, **known: object) -> pd.DataFrame:
    table = result.scores[result.scores["machine"] == machine]
    for name, value in known.items():
        table = table[table[name] == value]
    return table


def points(axes: Axes) -> dict[str, list[float]]:
    """The scores of each row."""
    return {name: x[0].tolist() for name, x in zip(rows(axes), lines(axes, "_clips"), strict=True)}


def test_scores_are_those_of_the_machine(asked: Result) -> None:
    axes = of_result.score_distributions(asked, "pump").axes[0]
    for name, values in points(axes).items():
        if name.startswith("training"):
            expected = asked.references[asked.references["machine"] == "pump"]["score"]
        else:
            domain, label = name.split(", ")
            expected = of_machine(asked, "pump", domain=domain, label=label)["score"]
        np.testing.assert_allclose(values, sorted(expected))
    unseen = asked.references[asked.references["machine"] == "pump"]["score"].to_numpy()
    threshold = Conformal.fit(unseen, false_alarm_rate=RATE).value
    np.testing.assert_allclose(lines(axes, "_threshold")[0][0], threshold)


def test_a_threshold_that_is_not_recorded_lies_between_two_scores(golden: Result) -> None:
    table = of_machine(golden, "pump")
    low, high = table[table["decision"] == 0]["score"].max(), table[table["decision"] == 1]["score"].min()
    assert low < high
    shown = texts(of_result.score_distributions(golden, "pump").axes[0])
    assert shown[-1] == f"threshold between {low:.4g} and {high:.4g}"


def test_a_result_without_decisions_has_no_threshold(golden: Result) -> None:
    assert texts(of_result.score_distributions(without(golden, "decision"), "pump").axes[0]) == []


def test_roc_curves_have_the_areas_of_the_metrics(golden: Result) -> None:
    row = golden.metrics.set_index("machine").loc["fan"]
    shown = key(of_result.roc(golden, "fan"))
    assert f"source: AUC {100 * row['auc_source']:.1f} %" in shown[0]
    assert f"target: AUC {100 * row['auc_target']:.1f} %" in shown[1]
    assert f"pAUC {100 * row['pauc']:.1f} %" in shown[2]


def test_a_heat_map_shows_means_over_seeds(two_seeds: Result) -> None:
    figure = of_result.heat_map(two_seeds)
    means = two_seeds.metrics.groupby("machine")[["auc_source", "auc_target", "pauc"]].mean()
    assert rows(figure.axes[0]) == list(means.index)
    assert texts(figure.axes[0]) == [f"{100 * value:.1f}" for value in means.to_numpy().ravel()]
    omega = two_seeds.omega
    assert omega is not None
    assert figure.axes[0].get_title("left").endswith(f"Omega {100 * omega:.2f} %")


def test_false_alarms_are_counted(asked: Result) -> None:
    axes = of_result.false_alarm_rates(asked).axes[0]
    machines = ("fan", "pump", "valve")
    assert rows(axes) == [name for machine in (*machines, ALL) for name in (machine, "")]
    cells = [(m, d) for m in machines for d in ("source", "target")]
    flags = [of_machine(asked, m, domain=d, label="normal")["decision"] == 1 for m, d in cells]
    counts = [(int(f.sum()), len(f)) for f in flags]
    counts += [tuple(np.sum(counts[i::2], axis=0)) for i in (0, 1)]
    assert texts(axes) == [f"{k} of {m}" for k, m in counts]
    for line, (k, m) in zip(lines(axes, "_interval"), counts, strict=True):
        np.testing.assert_allclose(line[0], 100 * np.array(FlaggedShare(k, m).interval()))
    assert {x[0, 0] for x in lines(axes, "_asked")} == {100 * RATE}


def test_weights_are_those_of_the_fold_that_reported_the_machine(golden: Result) -> None:
    axes = of_result.branch_weights(golden).axes[0]
    widths = {c.get_label(): [bar.get_width() for bar in c] for c in axes.containers}  # type: ignore[attr-defined]
    assert rows(axes) == ["fan", "pump", "valve"]
    assert widths == {"far": [0.25, 0.0, 0.25], "near": [0.75, 1.0, 0.75]}  # from its run.json


def test_what_a_branch_adds_is_the_difference_to_the_fusion_without_it(golden: Result) -> None:
    """Of two branches, the fusion without one is the other alone."""
    axes = of_result.left_out(GOLDEN).axes[0]
    (near,), (far,) = axes.containers  # type: ignore[misc]  # without far, without near
    found = {name: Result.load(GOLDEN / "branches" / name).omega for name in ("near", "far")}
    for bar, name in ((near, "near"), (far, "far")):
        assert bar.get_x() == pytest.approx(100 * (golden.omega or 0))
        assert bar.get_x() + bar.get_width() == pytest.approx(100 * (found[name] or 0))
    assert rows(axes) == ["without far", "without near"]


def test_seeds_are_those_of_each_result(golden: Result, two_seeds: Result) -> None:
    axes = of_result.seeds(golden, two_seeds).axes[0]
    of_first, of_second = (x[0] for x in lines(axes, "_seeds"))
    assert (len(of_first), len(of_second)) == (1, 2)
    assert of_first[0] == of_second[0]
    omega = two_seeds.omega
    assert omega is not None
    assert of_second.mean() == pytest.approx(100 * omega)
    assert rows(axes) == [f"near_and_far (fused_result), {i}" for i in (1, 2)]


def test_omegas_have_their_interval(golden: Result) -> None:
    axes = of_result.omegas(GOLDEN).axes[0]
    clips = golden.scores.set_index("key")
    table = intervals(clips[["machine", "section", "domain", "label"]], clips[["score"]])
    np.testing.assert_allclose(
        lines(axes, "_interval")[0][0], 100 * table.loc[ALL, ["low", "high"]].to_numpy(float)
    )


def test_a_comparison_is_that_of_the_paired_bootstrap() -> None:
    far, near = (Result.load(GOLDEN / "branches" / name) for name in ("far", "near"))
    axes = of_result.comparison(far, near).axes[0]
    table = experiment.compare(far, near).table
    np.testing.assert_allclose(
        [x[0] for x in lines(axes, "_interval")], 100 * table[["low", "high"]].to_numpy()
    )
    np.testing.assert_allclose([x[0, 0] for x in lines(axes, "_difference")], 100 * table["difference"])
    assert rows(axes) == ["fan", "pump", "valve", ALL]


def test_a_folder_is_as_good_as_its_result(golden: Result) -> None:
    assert drawn(of_result.heat_map(str(GOLDEN))) == drawn(of_result.heat_map(golden))


def without(golden: Result, column: str) -> Result:
    """The same, of which a column of the scores is not known."""
    return replace(golden, scores=golden.scores.assign(**{column: np.nan}))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda r: of_result.roc(r, "fam"), "no machine 'fam'; did you mean 'fan'"),
        (lambda r: of_result.roc(r, "fan", seed=9), "seed=9: .* has 3"),
        (lambda r: of_result.roc(r, "fan", section=2), "section=2: fan has 0"),
        (lambda r: of_result.roc(without(r, "label"), "fan"), "the labels of 8 of 8 clips"),
        (lambda r: of_result.heat_map(replace(r, metrics=r.metrics.iloc[:0])), "no metrics, because no labels"),
        (lambda r: of_result.false_alarm_rates(without(r, "decision")), "no false alarms"),
        (lambda _: of_result.branch_weights(GOLDEN / "branches" / "far"), "is no fused result"),
        (lambda _: of_result.left_out(GOLDEN / "branches" / "far"), "is no fused result"),
        (lambda r: of_result.left_out(replace(r, folder=GOLDEN / "nowhere")), "branches/far is not in"),
        (lambda _: of_result.seeds(), "of: empty"),
        (lambda _: of_result.heat_map(GOLDEN / "branches"), "not a folder of results"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(
    golden: Result, draw: Callable[[Result], Figure], message: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        draw(golden)


def test_a_machine_with_sections_is_asked_for_one(golden: Result) -> None:
    sections = golden.scores.assign(section=[i % 2 for i in range(len(golden.scores))])
    several = replace(golden, scores=sections)
    with pytest.raises(ValueError, match="section=None: fan has the sections 0, 1; choose one"):
        of_result.roc(several, "fan")
    shown = of_result.score_distributions(several, "fan", section=1).axes[0]
    assert sum(len(values) for name, values in points(shown).items() if "training" not in name) == 4
