"""Names of files and folders from the command line to what is printed: whole, quoted for a shell, never a crash."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from pathlib import Path

import called
import forked
import pytest
from synthetic import RATE, clip, write_machine
from typer.testing import CliRunner, Result

from nearfar.cli import app
from nearfar.evaluation.results import read_table
from nearfar.recordings import audio, datasets

BYTE = "L\udcfcfter [old].wav"  # as Python stands for a name with the byte 0xFC
SHOWN = r"L\xfcfter [old].wav"


def nearfar(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The real thing, in a process of its own."""
    return forked.nearfar(*arguments, env={"COLUMNS": "200"})


def main_here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The same without a new process."""
    return called.nearfar(*arguments, env={"COLUMNS": "200", "NEARFAR_DECODING": ""})


def invoke(*arguments: object) -> Result:
    """The same in this process, which is faster."""
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder ``set [1]`` with a machine whose recordings and folders have odd names, and a detector of it."""
    root = tmp_path_factory.mktemp("plant") / "set [1]"
    machine = write_machine(root, "fan", train=24, target=0, test=0)
    (machine / "test").rmdir()
    plain = root / "plain"
    (machine / "train").rename(plain)
    for number, file in enumerate(sorted(plain.iterdir())):
        file.rename(plain / f"{number}.wav")
    machine.rmdir()
    audio.write(plain / "x.wav", clip(1), RATE)
    (plain / "x.wav").rename(plain / BYTE)
    done = main_here("fit", plain, "-o", root / "det [old]", "--cache", root / "cache")
    assert done.returncode == 0, done.stderr
    assert f"Wrote {root / 'det [old]'}. Next: `nearfar score '{root / 'det [old]'}' CLIPS`" in done.stdout
    return root


def test_every_recording_gets_its_verdict_whatever_its_name(plant: Path) -> None:
    arguments = ("score", plant / "det [old]", plant / "plain")
    rows = list(csv.DictReader(io.StringIO(invoke(*arguments, "--csv").stdout)))
    lines = [json.loads(line) for line in invoke(*arguments, "--json").stdout.splitlines()]
    assert len(rows) == len(lines) == 25
    assert [r["recording"] for r in rows] == [line["recording"] for line in lines]
    of_byte = [r for r in rows if r["recording"] == str(plant / "plain" / SHOWN)]
    assert [r["decision"] for r in of_byte] == ["normal"]
    table = nearfar(*arguments)
    assert table.returncode == 0, table.stderr
    assert f"│ {SHOWN} " in table.stdout
    assert f"{plant / 'plain'}{os.sep}" in table.stdout


def test_check_takes_the_plain_folder_that_fit_takes(plant: Path) -> None:
    found = invoke("check", plant / "plain", "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout) == []


def test_check_names_a_recording_whatever_its_name(tmp_path: Path) -> None:
    for number in range(4):
        audio.write(tmp_path / f"{number}.wav", clip(number), RATE)
    (tmp_path / BYTE).write_bytes(b"RIFF")
    found = invoke("check", tmp_path, "--json")
    assert found.exit_code == 1
    (problem,) = json.loads(found.stdout)
    assert problem["where"].endswith(f"/train/{SHOWN}")
    assert SHOWN in main_here("check", tmp_path).stdout


def test_a_link_to_nothing_is_named_and_the_others_are_scored(plant: Path, tmp_path: Path) -> None:
    audio.write(tmp_path / "a.wav", clip(1), RATE)
    (tmp_path / "b.wav").symlink_to("gone.wav")
    done = invoke("score", plant / "det [old]", tmp_path, "--json")
    said = {Path(v["recording"]).name: v["decision"] for v in map(json.loads, done.stdout.splitlines())}
    assert said == {"a.wav": "normal", "b.wav": "unusable"}
    assert done.exit_code == 1
    (problem,) = [p for p in json.loads(invoke("check", tmp_path, "--json").stdout) if p["kind"] == "missing"]
    assert "b.wav" in problem["message"]


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_scored(
    plant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio.write(tmp_path / "a.wav", clip(1), RATE)
    (tmp_path / "secret").mkdir()
    scandir = os.scandir

    def refusing(folder: Path) -> object:
        if Path(folder).name == "secret":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    done = invoke("score", plant / "det [old]", tmp_path, "--json")
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert {Path(v["recording"]).name: v["decision"] for v in verdicts} == {
        "a.wav": "normal",
        "secret": "unusable",
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["fit", "{0}/plain/0.wav", "-o", "{0}/new"],
            "0.wav is a file; give the folder of a machine, or a folder",
        ),
        (
            ["check", "{0}/plain/0.wav"],
            "0.wav is a file; give a folder that contains a folder for each machine",
        ),
        (
            ["fit", "{0}/det [old]", "-o", "{0}/new"],
            "det [old] is the folder of a detector; give the folder of a",
        ),
        (
            ["score", "{0}/plain/0.wav", "{0}/det [old]"],
            "0.wav: a file, not the folder of a detector; give the",
        ),
        (
            ["score", "{0}/plain", "{0}/det [old]"],
            "plain: no detector here (detector.json is missing); fit one",
        ),
        (["score", "{0}/det [old]", "{0}/det [old]"], "in this folder; it is the folder of a detector"),
        (["score", "{0}/det [old]", "{0}/mp3"], "in this folder; convert the .mp3 files to .wav or .flac"),
        (["check", "{0}/none [1]"], "none [1]: no such folder; give a folder that contains"),
        (["check", "{0}/L\udcfc [1]"], r"L\xfc [1]: no such folder"),
        (
            ["fit", "{0}/id_00", "-o", "{0}/new"],
            "use the normal ones alone: `nearfar fit '{0}/id_00/normal'`",
        ),
    ],
)
def test_what_cannot_be_used_is_named_whole(plant: Path, arguments: list[str], said: str) -> None:
    (plant / "mp3").mkdir(exist_ok=True)
    (plant / "mp3/a.mp3").touch()
    for place in ("normal", "abnormal"):
        (plant / "id_00" / place).mkdir(parents=True, exist_ok=True)
        (plant / "id_00" / place / "0.wav").touch()
    done = main_here(*(argument.format(plant) for argument in arguments))
    assert done.returncode == 1
    assert said.format(plant) in done.stderr
    assert "Traceback" not in done.stderr


def test_results_keep_names_that_are_not_utf8(tmp_path: Path) -> None:
    machine = write_machine(tmp_path / "data", "fan", train=8, target=0, test=2)
    for number, file in enumerate(sorted(machine.glob("*/*.wav"))):
        label = next(label for label in ("normal", "anomaly") if f"_{label}_" in file.name)
        place = machine / "train" if file.parent.name == "train" else machine / "test" / label
        place.mkdir(exist_ok=True)
        file.rename(place / f"{number}\udcfc.wav")
    machine.rename(machine.with_name("f\udcfcn"))
    done = main_here(
        "run", "spectral", "--data", tmp_path / "data", "--out", tmp_path / "res [1]", "--cache",
        tmp_path / "cache", "--set", "threshold.method=none", "--workers", "1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "/res[1]/scores.csv" in "".join(done.stdout.split())  # long paths are wrapped
    assert r"f\xfcn" in done.stdout
    keys = read_table(tmp_path / "res [1]" / "scores.csv")["key"]
    assert sorted(keys) == sorted(
        clip.key for clip in datasets.load(tmp_path / "data").clips if clip.split == "test"
    )
