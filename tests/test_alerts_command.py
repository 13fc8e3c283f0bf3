"""The commands for people who handle alerts, on a real logbook."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sql
from typer.testing import CliRunner, Result

from nearfar.cli import app, console
from nearfar.logbook import asked, conditions, schema
from nearfar.logbook.database import Database
from nearfar.logbook.life_cycle import LifeCycleError

BEGAN = 1_700_000_000.0  # 2023-11-14 23:13:20 in Berlin
SITE = """
name = "Hall 3"
state = "hall3.db"
time_zone = "Europe/Berlin"
[machines.pump-1]
detector = "det"
source = { kind = "folder", folder = "recordings" }
[machines.fan-1]
detector = "det"
source = { kind = "folder", folder = "recordings-fan" }
"""
MACHINE = {
    "detector": "det", "detector_digest": "0" * 64, "system": "spectral", "window_s": 10.0, "hop_s": 10.0,
    "false_alerts": "1 per 30 days", "mode": "listening", "mode_since_at": BEGAN, "written_at": BEGAN,
}  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site whose pump has an alert that is cleared (1), an active one (2), and an old one that is over (3)."""
    for folder in ("det", "recordings", "recordings-fan"):
        (tmp_path / folder).mkdir()
    (tmp_path / "det" / "detector.json").write_text("{}")  # these commands do not open it
    (tmp_path / "hall.toml").write_text(SITE)
    database = Database.open(tmp_path / "hall3.db")
    with database.writing() as c:
        c.execute(sql.insert(schema.machines), [{**MACHINE, "name": name} for name in ("pump-1", "fan-1")])
        told = {"message": "sounds unlike before [red]", "now": BEGAN, "sound": "pump.flac"}
        conditions.activate(c, 1, "anomaly", at=BEGAN, since=BEGAN - 60, **told)
        conditions.clear(c, 1, "anomaly", at=BEGAN + 600, now=BEGAN)
        conditions.activate(c, 1, "anomaly", at=BEGAN + 3600, since=BEGAN + 3540, **told)
        conditions.activate(
            c, 1, "no sound", at=BEGAN - 3600, since=BEGAN - 3600, message="silent", now=BEGAN
        )
        conditions.clear(c, 1, "no sound", at=BEGAN - 3000, now=BEGAN)
        conditions.acknowledge(c, 3, now=BEGAN, by="Bo")
    database.close()
    return tmp_path / "hall.toml"


@pytest.fixture
def c(site: Path) -> Iterator[sql.Connection]:
    """What is in the logbook when it is first asked: so ask after the command."""
    database = Database.open(site.with_name("hall3.db"))
    with database.reading() as connection:
        yield connection
    database.close()


def alerts(command: str, site: Path, *arguments: object) -> Result:
    wide = {"COLUMNS": "200"}
    return CliRunner().invoke(app, ["alerts", command, str(site), *map(str, arguments)], env=wide)


def done(command: str, site: Path, *arguments: object) -> str:
    result = alerts(command, site, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def listed(site: Path, *options: str) -> list[int]:
    return [alert["id"] for alert in json.loads(done("list", site, "--json", *options))["alerts"]]


def test_the_list_has_what_waits_newest_first(site: Path) -> None:
    assert listed(site) == [2, 1]
    assert listed(site, "--active") == [2]
    assert listed(site, "--all") == [2, 1, 3]
    assert listed(site, "--machine", "fan-1") == []
    assert "No alert." in done("list", site, "--machine", "fan-1")
    assert alerts("list", site, "--all", "--active").exit_code == 2


def test_a_table_has_states_and_the_times_of_the_site(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.out, "_width", 200)  # of a worker of tests it is fixed
    rows = [line.split("│") for line in done("list", site).splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row[1:-1]] for row in rows] == [
        [
            "2",
            "pump-1",
            "anomaly",
            "active, unacknowledged",
            "2023-11-15 00:13:20",
            "sounds unlike before [red]",
        ],
        [
            "1",
            "pump-1",
            "anomaly",
            "cleared, unacknowledged",
            "2023-11-14 23:13:20",
            "sounds unlike before [red]",
        ],
    ]


def test_a_long_list_goes_on(site: Path) -> None:
    shown = json.loads(done("list", site, "--all", "--most", "2", "--json"))
    assert ([alert["id"] for alert in shown["alerts"]], shown["before"]) == ([2, 1], 1)
    assert "There are older ones; --most shows more." in done("list", site, "--all", "--most", "2")
    assert "older" not in done("list", site, "--all", "--most", "3")


def test_what_is_acknowledged_and_over_leaves_the_list(site: Path, c: sql.Connection) -> None:
    told = done("acknowledge", site, 1, 2, "--by", "Ada", "--comment", "the belt")
    assert told == "Acknowledged by Ada: alerts 1, 2.\n"
    assert listed(site) == [2]
    found = asked.alert(c, 1)
    assert found is not None
    last = found["journal"][-2]
    assert (last["what"], last["by"], last["comment"]) == ("acknowledged", "Ada", "the belt")
    assert abs(last["at"] - time.time()) < 60


def test_of_several_all_are_acknowledged_or_none(site: Path, c: sql.Connection) -> None:
    refused = alerts("acknowledge", site, 1, 2, 3, "--by", "Ada")
    assert isinstance(refused.exception, LifeCycleError)
    assert str(refused.exception) == "alert 3: it is acknowledged already"
    assert [alert["acked"] for alert in asked.alerts(c, state="all")] == [False, False, True]


def test_who_does_it_is_the_user_unless_said(
    site: Path, monkeypatch: pytest.MonkeyPatch, c: sql.Connection
) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    assert done("comment", site, 3, "--comment", "it was the belt") == "Commented by grace: alert 3.\n"
    found = asked.alert(c, 3)
    assert found is not None
    assert found["journal"][-1]["by"] == "grace"


def test_a_user_without_a_name_gives_one(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nobody)
    refused = alerts("acknowledge", site, 1)
    assert refused.exit_code == 2
    assert "this user has no name here; give --by NAME" in refused.output


def test_an_alert_is_shown_with_what_happened_to_it(site: Path) -> None:
    done("comment", site, 1, "--by", "Ada", "--comment", "the belt")
    done("shelve", site, "pump-1", "--one-shot", "--by", "Ada")
    shown = done("show", site, 1)
    for words in (
        "Alert 1: pump-1, anomaly, cleared, unacknowledged",
        "sounds unlike before [red]",
        "the belt",
    ):
        assert words in shown
    assert "nobody is told: shelved for one shot" in shown
    happened = [line.split("│")[2].strip() for line in shown.splitlines() if line.startswith("│")]
    assert happened == ["activated", "cleared", "commented"]
    found = json.loads(done("show", site, 1, "--json"))
    assert [row["what"] for row in found["journal"]] == ["activated", "cleared", "commented"]
    missing = alerts("show", site, 99)
    assert str(missing.exception).startswith("alert 99: there is no such alert in the logbook")


def test_evidence_is_shown_in_words(site: Path) -> None:
    database = Database.open(site.with_name("hall3.db"))
    with database.writing() as c:
        evidence = {"reasons": [{"words": "8 kHz is 12 dB louder"}]}
        conditions.add_evidence(c, 1, at=BEGAN, now=BEGAN, evidence=evidence)
        conditions.add_evidence(c, 2, at=BEGAN, now=BEGAN, error="its sound is gone")
    database.close()
    assert "* 8 kHz is 12 dB louder" in done("show", site, 1)
    assert "no evidence: its sound is gone" in done("show", site, 2)


def test_shelving_and_unshelving(site: Path) -> None:
    told = done("shelve", site, "pump-1", "--for", "8 h", "--by", "Ada", "--comment", "cleaning")
    assert re.fullmatch(r"Shelved by Ada: pump-1, anomaly, until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\n", told)
    (shelved,) = json.loads(done("list", site, "--json"))["conditions"]
    assert (shelved["machine"], shelved["condition"], shelved["shelving"]) == ("pump-1", "anomaly", "timed")
    assert abs(shelved["shelved_until_at"] - time.time() - 8 * 3600) < 60
    assert "Nobody is told of pump-1, anomaly: shelved until " in done("list", site)
    again = alerts("shelve", site, "pump-1", "--for", "1 h", "--by", "Ada")
    assert str(again.exception).startswith("pump-1, anomaly: it is shelved already, until ")
    assert done("unshelve", site, "pump-1", "--by", "Ada") == "Unshelved by Ada: pump-1, anomaly.\n"
    assert "Nobody" not in done("list", site)


def test_one_shot_and_service_of_any_condition(site: Path) -> None:
    told = done("shelve", site, "fan-1", "no-sound", "--one-shot", "--by", "Ada")
    assert told == "Shelved by Ada: fan-1, no sound, until it becomes inactive.\n"
    out = done("out-of-service", site, "fan-1", "no sound", "--by", "Ada")
    assert out == "Taken out of service by Ada: fan-1, no sound.\n"
    assert "fan-1, no sound: shelved for one shot, out of service" in done("list", site)
    back = done("in-service", site, "fan-1", "no-sound", "--by", "Ada")
    assert back == "Returned to service by Ada: fan-1, no sound.\n"


def test_what_was_normal_is_kept_for_learning(site: Path, c: sql.Connection) -> None:
    assert done("normal", site, 1, "--by", "Ada") == "Marked as normal by Ada: alert 1.\n"
    assert [row["sound"] for row in asked.normals_to_learn(c, 1)] == ["pump.flac"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pump-1",), "give either --for TIME"),
        (("pump-1", "--for", "8 h", "--one-shot"), "give either --for TIME"),
        (("pump-1", "--for", "long"), "--for: 'long' is no length of time"),
        (("pump-1", "smell", "--one-shot"), "must be one of anomaly, microphones, no-sound"),
    ],
)
def test_wrong_ways_to_shelve(site: Path, arguments: tuple[str, ...], message: str) -> None:
    result = alerts("shelve", site, *arguments, "--by", "Ada")
    assert result.exit_code == 2
    assert message in re.sub(r"\s*│\s*", " ", result.output)


def test_errors_say_what_to_do(site: Path, tmp_path: Path) -> None:
    near = alerts("shelve", site, "pump1", "--one-shot", "--by", "Ada")
    assert str(near.exception.args[0]) == "pump1: the logbook knows no such machine; did you mean pump-1?"
    far = alerts("shelve", site, "press", "--one-shot", "--by", "Ada")
    assert str(far.exception.args[0]) == "press: the logbook knows no such machine; it knows fan-1, pump-1"
    too_long = alerts("shelve", site, "pump-1", "--for", "31 days", "--by", "Ada")
    assert "at most 30 days from now" in str(too_long.exception)
    (tmp_path / "hall3.db").unlink()
    gone = alerts("list", site)
    assert isinstance(gone.exception, FileNotFoundError)
    assert "`nearfar watch` makes it" in str(gone.exception)
