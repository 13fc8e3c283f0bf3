"""Asked against got: how many test clips of a result were flagged."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from nearfar.decisions.rates import FlaggedShare
from nearfar.evaluation.flags import CELL, COUNTS, flagged
from nearfar.evaluation.results import Result
from nearfar.report import results

GOLDEN = Path(__file__).parent / "golden" / "fused_result"  # of a version that recorded no rate


@pytest.fixture
def golden() -> Result:
    return Result.load(GOLDEN)


def plain(found: Result, width: int = 80) -> str:
    table = results.false_alarms(found)
    assert table is not None
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def cells(found: Result) -> list[list[str]]:
    lines = (line for line in plain(found).splitlines() if "│" in line)
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]


def asked(golden: Result, *rates: float) -> Result:
    """The result with a recorded rate for each machine."""
    machines = {
        name: of.model_copy(update={"false_alarm_rate": rate})
        for (name, of), rate in zip(golden.run.data.machines.items(), rates, strict=True)
    }
    data = golden.run.data.model_copy(update={"machines": machines})
    return replace(golden, run=golden.run.model_copy(update={"data": data}))


def test_counts_are_those_of_the_clips(golden: Result, rng: np.random.Generator) -> None:
    scores = golden.scores.assign(decision=rng.integers(0, 2, len(golden.scores)))
    for row in flagged(scores).to_dict("records"):
        for label, name in (("normal", "normals"), ("anomaly", "anomalies")):
            is_one = (scores["machine"] == row["machine"]) & (scores["domain"] == row["domain"])
            these = scores.loc[is_one & (scores["label"] == label), "decision"].tolist()
            assert (row[name], row[f"{name}_flagged"]) == (len(these), sum(these))
    assert flagged(scores)[["normals", "anomalies"]].to_numpy().sum() == len(scores)


def test_clips_of_unknown_label_or_decision_do_not_count(golden: Result) -> None:
    scores = golden.scores.astype({"decision": float})
    scores.loc[scores.index[:3], "decision"] = float("nan")
    scores.loc[scores.index[-2:], "label"] = None
    assert flagged(scores)[["normals", "anomalies"]].to_numpy().sum() == len(scores) - 5


@pytest.mark.parametrize("unknown", ["label", "decision"])
def test_there_is_nothing_to_say_without_labels_or_decisions(golden: Result, unknown: str) -> None:
    found = replace(golden, scores=golden.scores.assign(**{unknown: np.nan}))
    assert found.false_alarms.empty
    assert list(found.false_alarms) == [*CELL, *COUNTS]
    assert results.false_alarms(found) is None


def test_domains_that_are_not_known_are_one_row_a_machine(golden: Result) -> None:
    found = replace(golden, scores=golden.scores.assign(domain=None))
    assert found.false_alarms["normals"].tolist() == [4, 4, 4]
    assert [row[:2] for row in cells(found)] == [
        ["fan", "-"],
        ["pump", "-"],
        ["valve", "-"],
        ["all machines", "-"],
    ]


def test_the_table_shows_asked_and_got(golden: Result) -> None:
    decision = (golden.scores["domain"] == "target") & (golden.scores["machine"] != "valve")
    found = asked(
        replace(golden, scores=golden.scores.assign(decision=decision.astype(int))), 0.05, 0.05, 0.05
    )
    assert "False alarms (5 % asked)" in plain(found)
    rows = cells(found)
    assert rows[0] == ["fan", "source", "0 of 2, 0.0 %", "0.0 to 84 %", "0 of 2, 0.0 %"]
    assert rows[1] == ["", "target", "2 of 2, 100 %", "16 to 100 %", "2 of 2, 100 %"]
    low, high = FlaggedShare(4, 6).interval()
    assert rows[-1] == [
        "",
        "target",
        "4 of 6, 67 %",
        f"{100 * low:.0f} to {100 * high:.0f} %",
        "4 of 6, 67 %",
    ]
    assert rows[-2][0] == "all machines"


def test_machines_may_be_asked_for_different_rates(golden: Result) -> None:
    assert "(1 % to 10 % asked)" in plain(asked(golden, 0.1, 0.01, 0.05))
    assert "(the rate that was asked for is not recorded)" in plain(golden)


def test_several_seeds_are_shown_by_their_means(golden: Result) -> None:
    second = golden.scores.assign(seed=4, decision=1)
    both = pd.concat([golden.scores.assign(decision=0), second], ignore_index=True)
    found = replace(golden, scores=both)
    assert len(found.false_alarms) == 2 * 6
    assert cells(found)[0][2:] == ["1 of 2, 50 %", "1.3 to 99 %", "1 of 2, 50 %"]
    assert "Means of 2 seeds" in plain(found)


def test_one_machine_has_no_row_of_all_machines(golden: Result) -> None:
    found = replace(golden, scores=golden.scores[golden.scores["machine"] == "fan"])
    assert [row[0] for row in cells(found)] == ["fan", ""]


def test_names_are_no_markup(golden: Result) -> None:
    assert "[b]fan" in plain(replace(golden, scores=golden.scores.assign(machine="[b]fan")))


def test_the_table_fits_into_80_columns(golden: Result) -> None:
    many = pd.concat(
        [golden.scores.assign(key=golden.scores["key"] + str(i), decision=1) for i in range(100)]
    )
    found = asked(replace(golden, scores=many), 0.05, 0.05, 0.05)
    assert [row[2] for row in cells(found)][-1] == "600 of 600, 100 %"
    assert max(map(len, plain(found, width=200).split("95 % intervals")[0].splitlines())) <= 80
