"""The command line, as its user meets it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from synthetic import write_machine
from typer.testing import CliRunner, Result

from nearfar.cli import app

COMMANDS = ["demo", "simulate", "check", "data", "fit", "score", "run", "evaluate", "submit", "systems"]


def nearfar(*arguments: object, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """The real thing, in a process of its own."""
    command = [sys.executable, "-c", "from nearfar.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=120, check=False)


def invoke(*arguments: object) -> Result:
    """The same in this process, which is faster; errors come out as exceptions."""
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def fan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_machine(tmp_path_factory.mktemp("data"), "fan")


@pytest.fixture(scope="module")
def detector(fan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    done = nearfar("fit", fan, "-o", folder / "detector", "--cache", folder / "cache")
    assert done.returncode == 0, done.stderr
    assert b"28 normal clips (24 source, 4 target)" in done.stdout
    return folder / "detector"


def test_help_loads_nothing_heavy() -> None:
    heavy = ["torch", "sklearn", "pandas", "scipy", "numpy", "pydantic"]
    code = f"""
import sys
from nearfar.cli import main
sys.argv = ["nearfar", "--help"]
try: main()
except SystemExit: pass
print([m for m in {heavy} if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", [*([c] for c in COMMANDS), ["data", "list"], ["data", "download"]])
def test_every_command_has_help(command: list[str]) -> None:
    found = invoke(*command, "--help")
    assert found.exit_code == 0
    assert "Usage" in found.output


def test_version() -> None:
    assert invoke("--version").output.startswith("nearfar 0.")


def test_systems_lists_what_each_needs() -> None:
    found = invoke("systems").output
    assert all(name in found for name in ("spectral", "baseline_mse", "baseline_mahalanobis", "minutes"))


def test_score_as_a_table(detector: Path, fan: Path) -> None:
    found = invoke("score", detector, fan / "test")
    assert found.exit_code == 0
    assert "12 recordings:" in found.output


def test_score_as_csv_and_json(detector: Path, fan: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(invoke("score", detector, fan / "test", "--csv").stdout)))
    assert list(rows[0]) == ["recording", "score", "p_value", "decision", "microphones", "error"]
    lines = [
        json.loads(line) for line in invoke("score", detector, fan / "test", "--json").stdout.splitlines()
    ]
    assert [(r["recording"], float(r["score"]), r["decision"]) for r in rows] == [
        (line["recording"], line["score"], line["decision"]) for line in lines
    ]
    assert len(rows) == 12


def test_exit_codes_of_score(detector: Path, fan: Path, tmp_path: Path) -> None:
    normal, faulty = (next((fan / "test").glob(f"*test_{label}*")) for label in ("normal", "anomaly"))
    assert invoke("score", detector, normal, "--fail-on-anomaly").exit_code == 0
    assert invoke("score", detector, faulty).exit_code == 0
    assert invoke("score", detector, normal, faulty, "--fail-on-anomaly").exit_code == 3
    (tmp_path / "broken.wav").write_bytes(b"")
    found = invoke("score", detector, normal, tmp_path / "broken.wav")
    assert found.exit_code == 1
    assert "the file is empty" in found.output
    assert "1 normal, 1 unusable" in found.output


def test_score_of_standard_input(detector: Path, fan: Path) -> None:
    path = next((fan / "test").glob("*test_anomaly*"))
    raw = soundfile.read(path, dtype="int16")[0].tobytes()
    done = nearfar("score", detector, "-", "--json", "--fail-on-anomaly", stdin=raw)
    of_file = json.loads(invoke("score", detector, path, "--json").stdout)
    assert json.loads(done.stdout)["score"] == of_file["score"]
    assert done.returncode == 3
    assert b"not whole frames" in nearfar("score", detector, "-", stdin=raw[:-1]).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["score", "nowhere", "clip.wav"], "no detector here (detector.json is missing); fit one with"),
        (["score", "{detector}", "{empty}"], "no recordings (.wav, .flac) in this folder"),
        (["fit", "{empty}", "-o", "{empty}/new"], "no .wav or .flac file"),
        (["fit", "{fan}", "-o", "{empty}"], "is there already"),
        (["run", "spectra", "--data", "{fan}/.."], "no system 'spectra'; did you mean 'spectral'?"),
        (
            ["run", "spectral", "--data", "{fan}/..", "--machine", "fann"],
            "no machine 'fann'; did you mean 'fan'?",
        ),
        (
            ["run", "spectral", "--data", "{fan}/..", "--set", "branch.vew=near"],
            "no key 'vew'; did you mean 'view'?",
        ),
        (["run", "spectral", "--data", "{empty}"], "{empty}"),
        (["check", "{empty}/none"], "{empty}/none"),
        (["evaluate", "{empty}"], "no file anomaly_score"),
        (["submit", "--check", "{empty}/none.zip"], "none.zip"),
    ],
)
def test_errors_are_one_line_that_tells_what_to_do(
    arguments: list[str], said: str, detector: Path, fan: Path, tmp_path: Path
) -> None:
    places = {"detector": detector, "fan": fan, "empty": tmp_path}
    done = nearfar(*(a.format(**places) for a in arguments))
    assert done.returncode == 1
    assert said.format(**places) in done.stderr.decode().replace("\n", " ") + done.stdout.decode()
    assert b"Traceback" not in done.stderr


def test_a_traceback_on_demand() -> None:
    environment = {**os.environ, "NEARFAR_DEBUG": "1"}
    command = [sys.executable, "-c", "from nearfar.cli import main; main()", "run", "x", "--data", "y"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert b"Traceback" in done.stderr


def test_check_of_a_good_and_a_bad_data_set(fan: Path, tmp_path: Path) -> None:
    bad = write_machine(tmp_path, "fan", train=3, target=1, test=1)
    broken = sorted((bad / "train").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:500])
    found = invoke("check", tmp_path, "--json")
    assert found.exit_code == 1
    assert any(broken.name in json.dumps(problem) for problem in json.loads(found.stdout))
    assert invoke("check", fan.parent).exit_code == 0


def test_from_simulation_to_results(tmp_path: Path) -> None:
    made = invoke(
        "simulate", tmp_path / "sim", "--machines", "fan", "--clips", "20", "--seconds", "1", "--seed", "3"
    )
    assert made.exit_code == 0, made.output
    command = [
        "run",
        "spectral",
        "--data",
        tmp_path / "sim",
        "--out",
        tmp_path / "out",
        "--cache",
        tmp_path / "cache",
    ]
    found = invoke(*command, "--seeds", "1,2", "--set", "branch.view=near")
    assert found.exit_code == 0, found.output
    assert "Omega" in found.output
    assert "Selected on nothing" in found.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"scores.csv", "metrics.csv", "run.json"}
