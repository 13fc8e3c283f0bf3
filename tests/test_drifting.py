"""Slow changes in tables of scores: reading them, what is told, the command."""

from __future__ import annotations

import csv
import io
import json
import math
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from synthetic import write_machine
from typer.testing import CliRunner

import nearfar
from nearfar.cli import app
from nearfar.detector import drifting, score_tables
from nearfar.detector.drifting import NEAR_OVER_FAR, QUANTITIES
from nearfar.detector.fitted import Verdict
from nearfar.detector.score_tables import LEVELS, ORIGIN, ScoreTableError
from nearfar.files.steps import Jobs
from nearfar.recordings.inspection.measured import Levels
from nearfar.report import drifts, verdicts

BEGAN = datetime(2026, 3, 1, 9)
FEW = 1999  # series for each p-value
HEADER = ["recording", "start", "end", "clock", "score", "p_value", "decision", "faults", "error", *LEVELS]


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drifting")
    fitted = nearfar.fit(write_machine(folder, "fan"), "spectral", jobs=Jobs(folder / "cache"))
    fitted.save(folder / "detector")
    return fitted


@pytest.fixture(scope="module")
def folder(detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector") / "detector"
    detector.save(folder)
    return folder


def month(detector, *, near=0.0, far_step=0.0, score=0.0, days=24, seed=0):
    """Rows of half an hour each: slopes per week, and a step of far on the eleventh day; one row is unusable."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(days * 48):
        day = i / 48
        noise = 0.2 * rng.standard_normal(6)
        value = float(np.median(detector.threshold.normal_scores) + score * day / 7 + noise[0])
        levels = (
            -40 + near * day / 7 + 3 * (day % 1 > 0.5) + noise[1], -50 + far_step * (day > 10.3) + noise[2],
            0.4 + 0.1 * noise[3], -3 + noise[4], -5 + noise[5],
        )  # fmt: skip
        p_value = float(detector.threshold.p_value(np.array([value]))[0])
        clock = (BEGAN + timedelta(days=day)).isoformat()
        decision = "unusable" if i == 100 else "normal"
        rows.append(["hall.wav", 1800 * i, 1800 * i + 10, clock, value, p_value, decision, "", "", *levels])
    return rows


def write(path, rows, header=HEADER, **options):
    with path.open("w", newline="") as file:
        table = csv.writer(file, **options)
        table.writerow(header)
        table.writerows(rows)
    return path


def invoke(*arguments, stdin=None):
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin, env={"COLUMNS": "200"})


def plain(table):
    file = io.StringIO()
    Console(file=file, width=220).print(table)
    return " ".join(file.getvalue().split())


# tables


numbers = st.one_of(st.just(math.nan), st.floats(-1e6, 1e6).map(lambda x: round(x, 3)))


@given(st.lists(st.tuples(numbers, numbers, numbers, st.sampled_from(["normal", "anomaly", "", "unusable"]))))
def test_what_score_prints_is_read_back(tmp_path_factory, told):
    """As CSV and as JSON lines, of clips, which have no time."""
    said = [
        Verdict(f'a "{i}",\n.wav', s, 0.5, decision, levels=Levels(near, far, math.nan, 0.25, math.nan))
        for i, (s, near, far, decision) in enumerate(told)
    ]
    folder = tmp_path_factory.mktemp("tables")
    for form in ("csv", "json"):
        file = io.StringIO(newline="")
        verdicts.show(said, form, Console(file=file))
        (folder / form).write_text(file.getvalue(), newline="")
        if not said:
            with pytest.raises(ScoreTableError, match=r"no column score|without rows"):
                score_tables.read([folder / form], every=60)
            continue
        own = score_tables.read([folder / form], every=60)
        expected = np.array([v[:3] for v in told]).T
        found = np.stack([own.values[name] for name in ("score", "near_dbfs", "far_dbfs")])
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(own.times, 60.0 * np.arange(len(told)))
        assert own.usable.tolist() == [v[3] != "unusable" for v in told]
        assert np.isnan(own.values["coherence"]).all()
        assert own.recordings == len(told)


def test_rows_are_put_in_the_order_of_the_clock(tmp_path):
    rows = [["b", "2026-03-02T00:00:10.5+01:00", 2], ["c", "", 3], ["a", "2026-03-01 23:59:00", 1]]
    own = score_tables.read([write(tmp_path / "t", rows, ["recording", "clock", "score"])])
    assert own.by_clock
    assert own.values["score"].tolist() == [1, 2, 3]
    expected = (datetime(2026, 3, 2, 0, 0, 10, 500_000) - ORIGIN).total_seconds()
    assert own.times[1] == expected  # as the clock of the plant showed it
    assert np.isnan(own.times[2])


def test_the_windows_of_one_recording_need_no_clock(tmp_path):
    rows = [["x.wav#t=600,610", 2], ["x.wav#t=0.5,10.5", 1], ["x.wav#t=1200", 3]]
    own = score_tables.read([write(tmp_path / "t", rows, ["recording", "score"])])
    assert own.times.tolist() == [0.5, 600, 1200]
    assert (own.by_clock, own.recordings) == (False, 1)


def test_a_table_that_a_spreadsheet_has_saved(tmp_path):
    (tmp_path / "t").write_bytes(
        "\ufeffRecording;Start;Score\r\na.wav;10;0,5\r\n;;\r\na.wav;0;-1,25\r\n".encode()
    )
    own = score_tables.read([tmp_path / "t"])
    assert own.values["score"].tolist() == [-1.25, 0.5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("recording,score\n", "a table without rows"),
        ("", "no column score, but nothing"),
        ("a,b\n1,2\n", "no column score, but a, b; give a table that"),
        ("kind,recording,peak_score\n", "a table of events; give the one of windows"),
        ("recording,start,score\nx,0,high\n", "t, row 2: score is 'high'; expected a number, or nothing"),
        ("recording,clock,score\nx,yesterday,1\n", "t, row 2: clock is 'yesterday'; expected a date and a time"),
        ("recording,score\nx,1\ny,2\n", "do not say when their rows were recorded: .* with --every"),
        ("recording,start,score\nx,0,1\ny,0,2\n", "2 recordings, and no column clock"),
        ("recording,start,score\nx,0,1\nx,10\n", "t, row 3: 2 cells, but 3 columns; .* still being written"),
        ("recording,start,score\nx,0,1,7\n", "t, row 2: 4 cells, but 3 columns"),
        ('{"score": 1, "start": 0}\n{"score": \n', "t, row 2: no JSON"),
        ('{"score": 1, "start": 0}\n[1]\n', r"t, row 2: no JSON object, '\[1\]"),
        ('{"start": 0}\n', "t, row 1: no column score, but start"),
        ("recording,start,score\nL\udcfcfter,0,1\n", "not readable as text .* save it as CSV UTF-8"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_scores_is_refused(tmp_path, content, message):
    (tmp_path / "t").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ScoreTableError, match=message):
        score_tables.read([tmp_path / "t"])


@pytest.mark.parametrize("every", [0.0, -1.0, math.nan, math.inf])
def test_a_time_between_clips_that_is_none_is_refused(tmp_path, every):
    with pytest.raises(ValueError, match=r"every=.*: must be above 0, in seconds"):
        score_tables.read([write(tmp_path / "t", [["x", 1]], ["recording", "score"])], every=every)


def test_a_time_between_rows_that_have_a_clock_is_refused(tmp_path):
    table = write(tmp_path / "t", [["x", "2026-03-01", 1]], ["recording", "clock", "score"])
    with pytest.raises(ValueError, match="every=600: the tables have clock time; omit it"):
        score_tables.read([table], every=600)


def test_no_tables_are_refused():
    with pytest.raises(ScoreTableError, match="no table of scores; give at least one"):
        score_tables.read([])


# what changes


def test_each_quantity_is_told_by_itself(detector, tmp_path):
    rows = month(detector, near=1.0, far_step=-8.0)
    np.random.default_rng(1).shuffle(rows)
    half = len(rows) // 2
    tables = [write(tmp_path / "a", rows[:half]), write(tmp_path / "b", rows[half:], delimiter="\t")]
    found = nearfar.drift(detector, tables, simulated=FEW)
    kinds = {name: change.kind for name, change in found.changes.items()}
    assert list(kinds) == list(QUANTITIES)
    assert (kinds["near_dbfs"], kinds["far_dbfs"]) == ("drift", "sudden")
    assert kinds[NEAR_OVER_FAR] != "drift"
    assert {kinds[name] for name in ("score", "coherence", "near_tilt", "far_tilt")} == {"none"}
    assert 7 * found.changes["near_dbfs"].slope == pytest.approx(1, abs=0.1)
    assert found.when(found.changes["far_dbfs"].at) == datetime(2026, 3, 11, 16)
    assert (found.rows, found.unusable, found.without_time) == (24 * 48, 1, 0)
    shown = plain(drifts.table(found))
    assert "from 2026-03-01 to 2026-03-2" in shown
    assert "a step of -8 dB at about 2026-03-11 16:00" in shown
    assert "1 of them unusable" in shown
    assert "Look at the events of that hour" in shown
    assert "Asked: at most 5 % false drifts" in shown


def test_a_drift_of_scores_is_told_on_the_scale_of_p_values(detector, tmp_path):
    table = write(tmp_path / "t", month(detector, score=0.3))
    found = nearfar.drift(detector, table, only=["score"], simulated=FEW)
    (change,) = found.changes.values()
    assert change.kind == "drift"
    first, last = found.p_values
    assert last < first
    end = change.level + change.slope * 12
    assert found.days_to_threshold() == pytest.approx(
        (detector.threshold.value - end) / change.slope, rel=0.05
    )
    assert "at the threshold in" in plain(drifts.table(found))


def test_fewer_quantities_share_the_false_rate(detector, tmp_path, monkeypatch):
    rates = []
    of_numbers = drifting.change
    monkeypatch.setattr(
        drifting, "change", lambda b, **o: (rates.append(o["false_rate"]), of_numbers(b, **o))[1]
    )
    table = write(tmp_path / "t", [row[:9] for row in month(detector)], HEADER[:9])
    nearfar.drift(detector, table, simulated=FEW)
    nearfar.drift(detector, write(tmp_path / "u", month(detector)), only=["score", "far_dbfs"], simulated=FEW)
    assert rates == [0.05, 0.025, 0.025]


def test_what_was_not_tested_is_said(detector, tmp_path):
    rows = month(detector)
    for i, row in enumerate(rows):
        row[-1] = ""
        row[-2] = row[-2] if i < 200 else ""
    found = nearfar.drift(detector, write(tmp_path / "t", rows), simulated=FEW)
    assert found.not_tested == {
        "near_tilt": "5 days with enough hours; at least 10 are needed", "far_tilt": "the tables do not have it",
    }  # fmt: skip
    assert "the tables do not have it" in plain(drifts.table(found))


def test_too_few_days_are_an_error_that_says_how_many_are_needed(detector, tmp_path):
    table = write(tmp_path / "t", month(detector, days=6))
    with pytest.raises(
        ValueError, match=r"score, near_dbfs, .*: 6 days with enough hours; at least 10 are needed"
    ):
        nearfar.drift(detector, table)


def test_a_year_has_longer_blocks(detector, tmp_path):
    clock = [(BEGAN + timedelta(hours=6 * i)).isoformat() for i in range(4 * 365)]
    rows = [["x", c, 1 + 0.001 * math.sin(i)] for i, c in enumerate(clock)]
    table = write(tmp_path / "t", rows, ["recording", "clock", "score"])
    found = nearfar.drift(detector, table, only=["score"], simulated=199)
    assert found.block == 4 * 86_400
    assert found.changes["score"].blocks == 92
    with pytest.raises(ValueError, match=r"block=24: 365 days are more than 120 blocks .* at least 73"):
        nearfar.drift(detector, table, block=24)


@pytest.mark.parametrize("block", [0, 0.5, 24.5, math.nan])
def test_a_block_that_is_none_is_refused(detector, tmp_path, block):
    with pytest.raises(ValueError, match=r"block=.*: must be whole hours"):
        nearfar.drift(detector, write(tmp_path / "t", month(detector, days=1)), block=block)


def test_an_unknown_quantity_is_refused(detector):
    with pytest.raises(ValueError, match="only='loudness': must be one of score, near_dbfs"):
        nearfar.drift(detector, [], only=["loudness"])


def test_a_rate_that_is_too_small_for_so_many_quantities_is_refused(detector):
    with pytest.raises(ValueError, match=r"false_rate=0.005: must be at least 0.007"):
        nearfar.drift(detector, [], false_rate=0.005)


def test_scores_of_another_detector_are_noticed(detector, tmp_path, caplog):
    rows = month(detector, days=12)
    nearfar.drift(detector, write(tmp_path / "t", rows), only=["score"], simulated=FEW)
    assert not caplog.records
    for row in rows:
        row[5] = 0.5
    nearfar.drift(detector, write(tmp_path / "u", rows), only=["score"], simulated=FEW)
    assert "not those of this detector of 'fan'" in caplog.text


# the command


@pytest.fixture(scope="module")
def table(detector, tmp_path_factory):
    return write(tmp_path_factory.mktemp("scores") / "scores.csv", month(detector, near=1.0))


def test_the_command_prints_a_table_and_ends_with_a_code(folder, table):
    shown = invoke("drift", folder, table)
    assert shown.exit_code == 0, shown.output
    assert "near level" in shown.stdout
    assert invoke("drift", folder, table, "--fail-on-drift").exit_code == 3
    assert invoke("drift", folder, table, "--fail-on-drift", "--only", "score").exit_code == 0


def test_csv_and_json_say_the_same(folder, table):
    rows = list(csv.DictReader(io.StringIO(invoke("drift", folder, table, "--csv").stdout)))
    said = json.loads(invoke("drift", folder, "-", "--json", stdin=table.read_text()).stdout)
    assert [row["quantity"] for row in rows] == list(QUANTITIES)
    assert rows == [
        {key: "" if value is None else str(value) for key, value in one.items()} for one in said["quantities"]
    ]
    near = said["quantities"][1]
    assert (near["found"], near["first"], near["at"]) == ("drift", "2026-03-01T00:00:00", None)
    assert (said["machine"], said["rows"], said["block_hours"]) == ("fan", 1152, 24)


def test_two_forms_are_refused(folder, table):
    found = invoke("drift", folder, table, "--csv", "--json")
    assert found.exit_code == 2
    assert "give either --csv or --json, not both" in found.output
