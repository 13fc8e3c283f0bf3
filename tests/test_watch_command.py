"""The command ``watch``: what it prints and writes, replays that are killed, Ctrl-C, and what it refuses."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from datetime import UTC
from pathlib import Path
from typing import Any

import forked
import pytest
from rich.console import Console
from synthetic import RATE
from typer.testing import CliRunner
from watched import BEGAN, FALSE_ALERTS, Logbook, evidence_is_made_here, sound, write_site  # noqa: F401

from nearfar.cli import app
from nearfar.recordings import audio
from nearfar.report import watched
from nearfar.watching.site import load

LONG = 600.0  # seconds that a process may take on a busy computer
COMMAND = [sys.executable, "-c", "from nearfar.cli import main; main()"]
WAYS = ("--began", BEGAN, "--false-alerts", FALSE_ALERTS)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watch-command")
    for recording in write_site(folder).glob("fan_20260301_12*"):  # a minute, with an alert, is enough here
        recording.unlink()
    return folder


def run(*arguments: object, expect: int = 0, input: bytes | None = None) -> Any:
    done = CliRunner().invoke(
        app, ["watch", *map(str, arguments)], input=input, env={"COLUMNS": "200", "TZ": "UTC"}
    )
    assert done.exit_code == expect, f"{done.output}\n{done.exception!r}"
    return done


@pytest.fixture(scope="module")
def played(place: Path) -> Any:
    """A replay with a logbook that has a name."""
    return run(
        place / "detector",
        "--replay",
        place / "recordings",
        "--speed",
        "max",
        *WAYS,
        "--state",
        place / "day.db",
    )


def test_a_replay_tells_what_happens_and_sums_it_up(played: Any, place: Path) -> None:
    book = Logbook.of(place / "day.db")
    alerts = re.findall(r"^2026-03-01 \S+  fan  ALERT  (\w+)", played.stdout, re.MULTILINE)
    assert alerts == [one["condition"].split()[0] for one in book["alerts"]]
    assert "anomaly" in alerts
    assert played.stdout.count("  fan  event  ") == len(book["events"])
    counts = re.search(r"Heard (\d+) windows, (\d+) .*Found (\d+) events? and (\d+) alerts?", played.stdout)
    assert counts is not None
    scored = sum(one["score"] is not None for one in book["windows"])
    assert [*map(int, counts.groups())] == [
        len(book["windows"]),
        scored,
        len(book["events"]),
        len(book["alerts"]),
    ]
    assert f"nearfar serve {place / 'day.toml'}" in played.stdout


def test_what_serve_reads_is_beside_the_logbook(played: Any, place: Path) -> None:
    assert played.exit_code == 0
    site = load(place / "day.toml")
    assert (site.name, site.state, [*site.machines]) == ("fan (replay)", place / "day.db", ["fan"])
    assert site.machines["fan"].source.options["folder"] == place / "recordings"
    assert site.machines["fan"].false_alerts == FALSE_ALERTS


def test_the_same_command_hears_nothing_twice(played: Any, place: Path, tmp_path: Path) -> None:
    assert played.exit_code == 0
    for name in ("day.db", "day-sounds"):
        copy = shutil.copytree if (place / name).is_dir() else shutil.copy
        copy(place / name, tmp_path / name)
    before = Logbook.of(tmp_path / "day.db")
    run(
        place / "detector",
        "--replay",
        place / "recordings",
        "--speed",
        "max",
        *WAYS,
        "--state",
        tmp_path / "day.db",
    )
    assert Logbook.of(tmp_path / "day.db")["windows"] == before["windows"]
    assert Logbook.of(tmp_path / "day.db")["alerts"] == before["alerts"]


def test_messages_are_json_lines_and_nothing_else(place: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    shutil.copy(place / "recordings" / "fan_20260301_100000.wav", tmp_path / "one")
    done = run(
        place / "detector", "--replay", tmp_path / "one", "--speed", "max", *WAYS, "--json",
        "--state", tmp_path / "x.db",
    )  # fmt: skip
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["id"] for one in told] == [
        f"journal-{row['id']}" for row in Logbook.of(tmp_path / "x.db")["journal"]
    ]
    assert {"activated", "event", "mode"} <= {one["what"] for one in told}


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "watch", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TZ": "UTC"},
    )  # fmt: skip


def stopped(process: subprocess.Popen[str], sent: signal.Signals, *whats: str) -> tuple[int, str]:
    """Send a signal as soon as one of these is told; the exit code, and what is said on standard error."""
    watchdog = threading.Timer(LONG, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        assert any(json.loads(line)["what"] in whats for line in process.stdout)
        process.send_signal(sent)
        errors = process.communicate()[1]
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()
    return process.returncode, errors


@pytest.mark.slow  # two processes, and a minute of sound
def test_ctrl_c_ends_it_in_order_and_it_goes_on(played: Any, place: Path, tmp_path: Path) -> None:
    assert played.exit_code == 0
    state = tmp_path / "x.db"
    arguments = [place / "detector", "--replay", place / "recordings", *WAYS, "--state", state]
    code, errors = stopped(start(*arguments, "--speed", "5", "--json"), signal.SIGINT, "event", "activated")
    assert code == 130, errors
    assert "Stopped; run the same command again to continue." in errors
    some = len(Logbook.of(state)["windows"])
    assert some > 0
    run(*arguments, "--speed", "max")
    whole, again = Logbook.of(place / "day.db"), Logbook.of(state)
    assert some < len(again["windows"])
    for table in ("windows", "events"):
        assert [_heard(row) for row in again[table]] == [_heard(row) for row in whole[table]]


def _heard(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not key.endswith("id") and key != "written_at"}


def test_a_recording_on_stdin_is_heard_to_its_end(place: Path, tmp_path: Path) -> None:
    pcm = tmp_path / "fan.raw"
    samples = (sound(12, faulty=range(4, 12)).T * 32767).astype("<i2")
    pcm.write_bytes(samples.tobytes())
    state = tmp_path / "x.db"
    done = forked.nearfar(
        "watch", place / "detector", "-", "--state", state, "--false-alerts", FALSE_ALERTS, stdin=pcm
    )
    assert done.returncode == 0, done.stderr
    assert len(Logbook.of(state)["windows"]) == 12
    assert "ALERT  anomaly" in done.stdout


def test_a_folder_is_watched_until_it_is_terminated(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "recorder"
    folder.mkdir()
    process = start(place / "detector", folder, *WAYS, "--json", "--state", tmp_path / "x.db")
    audio.write(tmp_path / "new.wav", sound(6, faulty=range(2, 5)), RATE)
    (tmp_path / "new.wav").rename(folder / "fan_20260301_100000.wav")
    code, errors = stopped(process, signal.SIGTERM, "event")
    assert code == 143, errors
    assert "Stopped; run the same command again to continue." in errors


def test_a_check_says_what_would_be_done_and_writes_nothing(place: Path, tmp_path: Path) -> None:
    done = run(place / "detector", place / "recordings", "--check", *WAYS, "--state", tmp_path / "x.db")
    assert "fan" in done.stdout
    assert FALSE_ALERTS in done.stdout
    assert not [*tmp_path.iterdir()]


def test_a_check_tells_all_that_cannot_be(place: Path, tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(
        "".join(
            f'[machines.{name}]\ndetector = "{place / "detector"}"\nfalse_alerts = "{rate}"\n'
            f'source = {{ kind = "replay", folder = "{name}" }}\n'
            for name, rate in (("a", "1 per 30 days"), ("b", FALSE_ALERTS), ("c", "1 per 5 s"))
        )
    )
    done = run(tmp_path / "site.toml", "--check", expect=1)
    assert isinstance(done.exception, ValueError)
    assert "machines.c: false alerts of" in str(done.exception)
    assert "machines.b" not in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{detector}"], "give a source after"),
        (["{detector}", "{recordings}", "--replay", "{recordings}"], "give either a source or --replay"),
        (["{detector}", "{recordings}", "--speed", "60"], "--speed is for --replay"),
        (["{detector}", "{recordings}", "--rate", "8000"], "--rate: of raw PCM"),
        (["{detector}", "{recordings}", "--window", "soon"], "no time; give seconds"),
        (["{detector}", "--replay", "{recordings}", "--speed", "fast"], "must be a number above 0"),
        (["{detector}", "--replay", "{recordings}", "--speed", "0"], "--speed='0': must be a number above 0"),
        (
            ["{detector}", "--replay", "{recordings}", "--speed", "nan"],
            "--speed='nan': must be a number above 0",
        ),
        (["{recordings}", "{detector}"], "give it before the source: `nearfar watch DETECTOR SOURCE`"),
        (["{detector}", "{recordings}", "--state", "x.toml"], "choose another ending, such as .db"),
        (["{detector}", "{detector}/detector.json"], "neither the folder that a recorder fills, nor a pipe"),
        (["{detector}", "nowhere"], "no such folder or pipe"),
        (["{detector}", "tcp://127.0.0.1"], "expected tcp://HOST:PORT"),
        (["{detector}", "http://127.0.0.1:1"], "no kind of stream 'http'"),
        (
            ["{detector}", "{recordings}/fan_20260301_100021.wav"],
            "one recording, which `nearfar score` hears",
        ),
        (["{site}", "--window", "10"], "--window: of one machine"),
        (["{site}", "--state", "x.db"], "--state: of one machine"),
        (["a", "b", "c"], "3 arguments: give SITE.toml, or DETECTOR SOURCE"),
    ],
)
def test_what_makes_no_sense_is_refused(place: Path, arguments: list[str], message: str) -> None:
    site = place / "site.toml"
    site.write_text(
        f'[machines.a]\ndetector = "{place / "detector"}"\nsource = {{ kind = "folder", folder = "recordings" }}\n'
    )
    names = {"detector": place / "detector", "recordings": place / "recordings", "site": site}
    done = run(*(one.format(**names) for one in arguments), expect=2)
    assert message in re.sub(r"[│\s]+", " ", done.output)


@pytest.mark.parametrize("check", [(), ("--check",)], ids=["watch", "check"])
def test_what_cannot_be_heard_is_told_before_anything_starts(
    place: Path, tmp_path: Path, check: tuple[str, ...]
) -> None:
    """Such as windows that are too short for the detector: once, and the command ends."""
    state = tmp_path / "x.db"
    done = run(
        place / "detector",
        place / "recordings",
        "--window",
        "0.01",
        "--state",
        state,
        *WAYS,
        *check,
        expect=1,
    )
    assert "machines.fan: window=0.01: shorter than the training clips" in str(done.exception)
    assert "listening" not in done.output
    assert not state.with_suffix(".toml").exists()


@pytest.mark.parametrize("check", [(), ("--check",)], ids=["watch", "check"])
def test_all_that_is_wrong_is_told_before_anything_starts(
    place: Path, tmp_path: Path, check: tuple[str, ...]
) -> None:
    shutil.copytree(place / "detector", tmp_path / "damaged")
    (tmp_path / "damaged" / "arrays.safetensors").write_bytes(b"x")
    (tmp_path / "site.toml").write_text(
        f'[machines.a]\ndetector = "{place / "detector"}"\nsource = {{ kind = "folder", folder = "a" }}\n'
        '[machines.b]\ndetector = "damaged"\nsource = { kind = "folder", folder = "b" }\n'
        f'[defaults]\nfalse_alerts = "{FALSE_ALERTS}"\n'
        '[sinks.pager]\nkind = "webhook"\nurl = "https://example.org/"\nsecret_file = "nowhere"\n'
    )
    done = run(tmp_path / "site.toml", *check, expect=1)
    of_detector, of_sink = str(done.exception).splitlines()
    assert re.fullmatch(r"machines\.b: .*arrays\.safetensors: damaged.*", of_detector)
    assert of_sink == f"sinks.pager: {tmp_path / 'nowhere'}: no such file or folder"


def test_a_file_that_is_no_logbook_stays_as_it_is_and_alone(place: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    run(place / "detector", place / "recordings", "--state", table, *WAYS, expect=1)
    assert [one.name for one in tmp_path.iterdir()] == ["table.csv"]


def test_no_password_is_printed(place: Path) -> None:
    pytest.importorskip("pg8000")
    url = "postgresql+pg8000://ada:secret@127.0.0.1:1/hall"
    done = run(place / "detector", place / "recordings", "--state", url, *WAYS, expect=1)
    assert "ada:***@127.0.0.1:1/hall" in done.output
    assert "secret" not in f"{done.output}{done.exception}"


def test_a_check_opens_the_logbook(place: Path, tmp_path: Path) -> None:
    done = run(place / "detector", place / "recordings", "--state", "foo://x", "--check", *WAYS, expect=1)
    assert "no URL of a database" in str(done.exception) or "a logbook is a file" in str(done.exception)
    (tmp_path / "x.db").write_text("mine")
    run(place / "detector", place / "recordings", "--state", tmp_path / "x.db", "--check", *WAYS, expect=1)


def test_a_check_says_which_folder_is_not_there(place: Path, tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(
        f'[machines.a]\ndetector = "{place / "detector"}"\nfalse_alerts = "{FALSE_ALERTS}"\n'
        'source = { kind = "folder", folder = "a" }\n'
    )
    done = run(tmp_path / "site.toml", "--check")
    assert f"a: {tmp_path / 'a'} is not there yet" in done.stderr


def test_who_plays_again_what_was_heard_is_told_so(played: Any, place: Path, tmp_path: Path) -> None:
    assert played.exit_code == 0
    assert "heard before" not in played.stderr
    shutil.copy(place / "day.db", tmp_path)
    arguments = [place / "detector", "--replay", place / "recordings", "--speed", "max", *WAYS]
    done = run(*arguments, "--state", tmp_path / "day.db")
    assert "All of it was heard before; to play it again, give another --state." in done.stderr


def test_a_narrow_terminal_shows_what_matters_most() -> None:
    alert = {"condition": "anomaly", "active": True, "since_at": 0.0}
    machines: list[dict[str, Any]] = [
        {"name": name, "mode": "listening", "score": 2.5, "decision": "normal", "evidence": 0.31,
         "heard_until_at": 1.8e9, "alerts": alerts}
        for name, alerts in (("pump-1", []), ("press", [alert]))
    ]  # fmt: skip
    console = Console(width=50, record=True, file=io.StringIO())
    console.print(watched.hall(machines, UTC, most=5, heading="playing: 31 %", width=50))
    shown = [re.sub(r"\s+", " ", line).strip() for line in console.export_text().splitlines()]
    assert shown == [
        "playing: 31 %",
        "machine state evidence until",
        "press ALERT anomaly 31 % 08:00:00",
        "pump-1 listening 31 % 08:00:00",
    ]


def test_a_site_file_of_somebody_else_is_left_alone(place: Path, tmp_path: Path) -> None:
    mine = tmp_path / "x.toml"
    mine.write_text("# mine\n")
    folder = tmp_path / "short"
    folder.mkdir()
    audio.write(folder / "fan_20260301_100000.wav", sound(2), RATE)
    done = run(place / "detector", "--replay", folder, "--speed", "max", *WAYS, "--state", tmp_path / "x.db")
    assert mine.read_text() == "# mine\n"
    assert "left as it is" in done.output
    assert "nearfar serve" not in done.output
