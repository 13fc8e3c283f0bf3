"""The command line, as its user meets it."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import called
import forked
import numpy as np
import pytest
import soundfile
from rich.console import Console
from synthetic import write_machine
from typer.testing import CliRunner, Result

from nearfar.cli import app
from nearfar.embedding import store
from nearfar.evaluation.metrics import omega
from nearfar.evaluation.results import FILES, read_table
from nearfar.files import atomic, steps
from nearfar.report import cached

COMMANDS = [
    "demo", "simulate", "machines", "check", "data", "fit", "calibrate", "learn", "score",
    "explain", "export", "drift", "run", "study", "sweep", "evaluate", "compare", "report", "submit",
    "systems", "weights", "cache", "alerts",
]  # fmt: skip


COMMAND = [sys.executable, "-c", "from nearfar.cli import main; main()"]


def nearfar(*arguments: object, stdin: bytes) -> subprocess.CompletedProcess[bytes]:
    """The real thing, in a process of its own."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=600, check=False)


def invoke(*arguments: object) -> Result:
    """The same in this process, which is faster; errors come out as exceptions."""
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def fan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_machine(tmp_path_factory.mktemp("data"), "fan")


@pytest.fixture(scope="module")
def detector(fan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    done = invoke("fit", fan, "-o", folder / "detector", "--cache", folder / "cache")
    assert done.exit_code == 0, done.output
    assert "28 normal clips (24 source, 4 target)" in done.stdout
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


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["systems"], "spectral"),
        (["machines"], "gearbox"),
        (["study"], "lei_table2"),
        (["weights", "list"], "ced_base"),
        (["data", "list"], "dcase2026"),
    ],
    ids=" ".join,
)
def test_a_list_loads_nothing_heavy(command: list[str], shown: str) -> None:
    heavy = {"numpy", "pandas", "scipy", "pydantic", "sklearn", "torch", "soundfile", "soxr", "sqlite3"}
    if command == ["study"]:
        heavy -= {"pydantic"}  # typer 0.29 loads it to read options of other types than flags
    code = f"""
import sys
from nearfar.cli import main
sys.argv = ["nearfar", *{command}]
try: main()
except SystemExit: pass
print(sorted({heavy} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert shown in done.stdout


def test_the_list_of_studies_loads_no_pydantic_of_its_own() -> None:
    code = """
import sys
from nearfar.cli import experiments
experiments.study()
assert "pydantic" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


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
    levels = ["near_dbfs", "far_dbfs", "coherence", "near_tilt", "far_tilt"]
    assert list(rows[0]) == ["recording", "score", "p_value", "decision", "faults", "error", *levels]
    lines = [
        json.loads(line) for line in invoke("score", detector, fan / "test", "--json").stdout.splitlines()
    ]
    assert [(r["recording"], float(r["score"]), r["decision"]) for r in rows] == [
        (line["recording"], line["score"], line["decision"]) for line in lines
    ]
    assert [{name: float(r[name]) for name in levels} for r in rows] == [line["levels"] for line in lines]
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


@pytest.fixture(scope="module")
def shift(fan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of a day, in the order of their numbers; the second one is broken."""
    folder = tmp_path_factory.mktemp("shift")
    normal, faulty = (sorted((fan / "test").glob(f"*test_{label}*")) for label in ("normal", "anomaly"))
    day = [normal[0], None, faulty[0], normal[1], faulty[1], faulty[2], normal[2], normal[0]]
    for number, clip in enumerate(day, start=5):  # from 5.wav to 12.wav
        if clip is None:
            (folder / f"{number}.wav").write_bytes(b"")
        else:
            shutil.copy(clip, folder / f"{number}.wav")
    return folder


def test_score_with_an_alarm(detector: Path, shift: Path) -> None:
    found = invoke("score", detector, shift, "--alarm", "2/3", "--json")
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert [Path(line["recording"]).name for line in lines] == [f"{n}.wav" for n in range(5, 13)]
    assert [line["decision"] for line in lines] == [
        "normal", "unusable", "anomaly", "normal", "anomaly", "anomaly", "normal", "normal",
    ]  # fmt: skip
    expected = [False, False, False, False, True, True, True, False]
    assert [line["alarm"] for line in lines] == expected
    rows = list(
        csv.DictReader(io.StringIO(invoke("score", detector, shift, "--alarm", "2/3", "--csv").stdout))
    )
    assert [row["alarm"] for row in rows] == [str(int(alarm)) for alarm in expected]
    table = invoke("score", detector, shift, "--alarm", "2/3").output
    assert "alarm after 3 of them" in table
    assert "one group of 3 consecutive normal clips alarms by mistake in 0.73 %" in " ".join(table.split())
    assert "alarm" not in invoke("score", detector, shift, "--json").stdout


def test_an_alarm_never_spans_two_folders(detector: Path, fan: Path, tmp_path: Path) -> None:
    faulty = sorted((fan / "test").glob("*test_anomaly*"))[:2]
    for folder, clip in zip(("a", "b"), faulty, strict=True):
        (tmp_path / folder).mkdir()
        shutil.copy(clip, tmp_path / folder / "1.wav")
    arguments = ("score", detector, tmp_path / "a", tmp_path / "b", "--fail-on-anomaly")
    assert invoke(*arguments).exit_code == 3
    assert invoke(*arguments, "--alarm", "2/2").exit_code == 0
    shutil.copy(faulty[1], tmp_path / "a" / "2.wav")
    assert invoke(*arguments, "--alarm", "2/2").exit_code == 3


def test_score_in_the_order_of_time(detector: Path, shift: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(shift, tmp_path / "shift")
    for number in range(5, 13):
        os.utime(folder / f"{number}.wav", (1000 - number, 1000 - number))
    found = invoke("score", detector, folder, folder / "gone.wav", "--order", "time", "--json").stdout
    names = [Path(json.loads(line)["recording"]).name for line in found.splitlines()]
    assert names == [*(f"{n}.wav" for n in range(12, 4, -1)), "gone.wav"]


@pytest.mark.parametrize(
    ("clips", "alarm", "message"),
    [
        ("shift", "5/3", "--alarm=5/3: 5 of the last 3 clips"),
        ("shift", "3", "--alarm='3': expected two whole numbers"),
        (
            "-",
            "3/5",
            "--alarm counts several clips, and - is one; give files or folders, or cut it into windows",
        ),
    ],
)
def test_an_alarm_that_is_none_is_refused(detector: Path, clips: str, alarm: str, message: str) -> None:
    found = invoke("score", detector, clips, "--alarm", alarm)
    assert found.exit_code == 2
    assert message in " ".join(found.output.replace("│", " ").split())


def test_an_alarm_needs_a_threshold(fan: Path, tmp_path: Path) -> None:
    invoke(
        "fit", fan, "-o", tmp_path / "mute", "--set", "threshold.method=none", "--cache", tmp_path / "cache"
    )
    found = invoke("score", tmp_path / "mute", fan / "test", "--alarm", "3/5")
    assert "alarm=3/5: the detector of 'fan' has no threshold" in str(found.exception)


def test_score_with_another_false_alarm_rate(detector: Path, fan: Path) -> None:
    def flagged(*options: str) -> int:
        rows = invoke("score", detector, fan / "test", "--csv", *options).stdout.splitlines()
        return sum(",anomaly," in row for row in rows)

    assert flagged("--false-alarm-rate", "0.9") > flagged("--false-alarm-rate", "0.05") == flagged()
    assert "attain no rate below 1/29" in str(
        invoke("score", detector, fan, "--false-alarm-rate", "0.01").exception
    )


def test_score_of_standard_input(detector: Path, fan: Path, tmp_path: Path) -> None:
    path = next((fan / "test").glob("*test_anomaly*"))
    raw = soundfile.read(path, dtype="int16")[0].tobytes()
    done = nearfar("score", detector, "-", "--json", "--fail-on-anomaly", stdin=raw)
    of_file = json.loads(invoke("score", detector, path, "--json").stdout)
    assert json.loads(done.stdout)["score"] == of_file["score"]
    assert done.returncode == 3
    (tmp_path / "part").write_bytes(raw[:-1])
    assert "not whole frames" in forked.nearfar("score", detector, "-", stdin=tmp_path / "part").stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["score", "nowhere", "clip.wav"], "no detector here (detector.json is missing); fit one with"),
        (["score", "{detector}", "{empty}"], "no recordings (.wav, .flac) in this folder"),
        (["fit", "{empty}", "-o", "{empty}/new"], "no .wav or .flac file"),
        (
            ["fit", "{fan}", "-o", "{empty}"],
            "{empty} is there already; choose another name, or replace it with --replace",
        ),
        (["adapt", "dualmic", "--data", "{fan}/..", "-o", "{empty}"], "or replace it with --replace"),
        (["simulate", "{empty}"], "{empty} is there already; choose another name, or remove it first"),
        (["demo", "{empty}"], "{empty} is there already; choose another name, or remove it first"),
        (["run", "spectra", "--data", "{fan}/.."], "no system 'spectra'; did you mean 'spectral'?"),
        (
            ["run", "spectral", "--data", "{fan}/..", "--machine", "fann"],
            "no machine 'fann'; did you mean 'fan'?",
        ),
        (
            ["run", "spectral", "--data", "{fan}/..", "--set", "branch.vew=near"],
            "no key 'vew'; did you mean 'view'?",
        ),
        (["run", "spectral", "--data", "{fan}/..", "--set", "view=near"], "did you mean branch.view?"),
        (["run", "spectral", "--data", "{empty}"], "{empty}"),
        (["check", "{empty}/none"], "{empty}/none"),
        (
            ["run", "spectral", "--data", "{fan}/..", "--out", "{empty}/out", "--false-alarm-rate", "0.01"],
            "false_alarm_rate=0.01: the scores of 28 unseen normal clips attain no rate below 1/29",
        ),
        (["evaluate", "{empty}"], "no scores; expected files anomaly_score"),
        (["submit", "--check", "{empty}/none.zip"], "none.zip"),
    ],
)
def test_errors_are_one_line_that_tells_what_to_do(
    arguments: list[str], said: str, detector: Path, fan: Path, tmp_path: Path
) -> None:
    if arguments[0] == "adapt":
        pytest.importorskip("torch")
    places = {"detector": detector, "fan": fan, "empty": tmp_path}
    done = called.nearfar(*(a.format(**places) for a in arguments))
    assert done.returncode == 1
    assert said.format(**places) in done.stderr.replace("\n", " ") + done.stdout
    assert "Traceback" not in done.stderr


def test_a_traceback_on_demand() -> None:
    done = forked.nearfar("run", "x", "--data", "y", env={"NEARFAR_DEBUG": "1"})
    assert "Traceback" in done.stderr


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
        "simulate",
        tmp_path / "sim",
        "--machines",
        "fan",
        "--clips",
        "20",
        "--test-clips",
        "4",
        "--seconds",
        "1",
        "--seed",
        "3",
        "--workers",
        "1",
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
    found = invoke(*command, "--seeds", "1,2", "--set", "branch.view=near", "--workers", "1")
    assert found.exit_code == 0, found.output
    assert "Omega" in found.output
    assert "Selected on nothing" in found.output
    assert "False alarms (5 % asked)" in found.output
    assert "Means of 2 seeds" in found.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == set(FILES)


def test_every_machine_is_listed_with_its_faults() -> None:
    found = invoke("machines")
    assert found.exit_code == 0, found.output
    for name in (
        "fan",
        "gearbox",
        "bearing",
        "pump",
        "slider",
        "valve",
        "motor",
        "toycar",
        "inner_race",
        "cavitation",
    ):
        assert name in found.output


def test_every_option_of_a_simulation_arrives(tmp_path: Path) -> None:
    made = invoke(
        "simulate", tmp_path / "sim", "--machines", "fan, pump", "--clips", "2", "--test-clips", "3", "--seconds",
        "0.5", "--rate", "8000", "--snr", "-3", "3", "--shift", "speed,load", "--microphone-faults", "dead, hum",
        "--sources", "--seed", "7", "--workers", "1",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    kept = json.loads((tmp_path / "sim" / "simulated.json").read_text())
    assert kept == {
        "format": 2, "machines": ["fan", "pump"], "source_clips": 2, "target_clips": 10, "test_clips": 3,
        "seconds": 0.5, "rate": 8000, "snr": [-3.0, 3.0], "seed": 7, "shift": ["speed", "load"], "noise": None,
        "microphone_faults": ["dead", "hum"], "microphone_fault_share": 0.1, "sources": True, "noise_digest": None,
    }  # fmt: skip
    assert (tmp_path / "sim" / "sources" / "pump").is_dir()


@pytest.mark.slow
def test_an_interrupted_simulation_says_how_to_go_on(tmp_path: Path) -> None:
    """Ctrl-C while two workers record: the same command goes on, here with one, and no worker is left."""
    arguments = [
        "simulate", tmp_path / "sim", "--machines", "fan", "--clips", "30", "--test-clips", "1", "--rate", "8000",
        "--seconds", "2", "--workers", "2",
    ]  # fmt: skip
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stderr=subprocess.PIPE,
        start_new_session=True,
        # a test run in the background is told to ignore Ctrl-C, and hands that on
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and len(list(tmp_path.glob("sim.unfinished/fan/train/section*"))) < 4:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    try:
        _, said = process.communicate(timeout=600)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert b"run the same command again to continue" in b" ".join(said.split())
    assert not (tmp_path / "sim").exists()
    again = invoke(*arguments[:-1], 1)
    assert again.exit_code == 0, again.output
    assert len(list((tmp_path / "sim").rglob("*.wav"))) == 44
    assert not (tmp_path / "sim.unfinished").exists()


@pytest.fixture(scope="module")
def two_results(fan: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("results")
    for name in ("spectral_near", "spectral"):
        places = ("--out", folder / name, "--cache", folder / "cache")
        found = invoke("run", name, "--data", fan.parent, *places, "--workers", "1")
        assert found.exit_code == 0, found.output
    return folder / "spectral_near", folder / "spectral"


def test_compare_two_results(two_results: tuple[Path, Path]) -> None:
    found = invoke("compare", *two_results, "--resamples", "50")
    assert found.exit_code == 0, found.output
    text = " ".join(found.output.split())  # whatever the width of the terminal
    assert "spectral_near" in text
    assert "50 resamples of clips, seed 0" in text
    assert "B selected on nothing" in text
    said = json.loads(invoke("compare", *two_results, "--resamples", "50", "--json").stdout)
    assert [m["machine"] for m in said["machines"]] == ["fan", "all machines"]
    assert said["b"]["system"] == "spectral"
    assert said["unit"] == "clip"
    for key, result in (("a", two_results[0]), ("b", two_results[1])):
        of_run = omega(read_table(result / "metrics.csv"))
        assert said["machines"][1][key] == pytest.approx(of_run, abs=1e-12)


def test_compare_by_recording_tells_where_there_is_only_one(two_results: tuple[Path, Path]) -> None:
    found = invoke("compare", *two_results, "--by-recording", "--resamples", "20")
    assert found.exit_code == 0, found.output
    text = " ".join(found.output.split())
    assert "20 resamples of recordings" in text
    assert "too narrow: all clips are from one recording in fan, section 00, anomaly, source" in text


def test_compare_refuses_other_clips(two_results: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = two_results
    other = shutil.copytree(b, tmp_path / "other")
    scores = read_table(other / "scores.csv")
    scores.iloc[1:].to_csv(other / "scores.csv", index=False)
    for pair in ((a, other), (other, a)):
        found = invoke("compare", *pair)
        assert f"different clips cannot be compared: {other} has no '{scores['key'][0]}'" in str(
            found.exception
        )
    swapped = scores.assign(label=scores["label"].map({"normal": "anomaly", "anomaly": "normal"}))
    swapped.to_csv(other / "scores.csv", index=False)
    assert "know different domains or labels of" in str(invoke("compare", a, other).exception)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """With embeddings of this code and of other code, and a finished step of each."""
    for number, code in enumerate([store.current_code("eat"), "other"]):
        origin = store.Origin(
            "eat", "near", code, weights="0123456789" + 54 * "f", options={"blocks": [11, 12]}
        )
        key = store.Key(64 * str(number), 12, "mean")
        store.Store(tmp_path).put(origin, {key: np.ones(500_000, np.float32)})
    _, old = (
        steps.Jobs(tmp_path).do("scores", {"number": n}, str, made_by=["nearfar.files.digests"])
        for n in range(2)
    )
    atomic.write_json(old / steps.DONE, {"code": "other"})
    return tmp_path


def test_cache_info(cache: Path) -> None:
    invoke("cache", "info", "--cache", cache)  # at whatever width the terminal has
    wide = Console(width=200, record=True, file=io.StringIO())
    wide.print(cached.embeddings(store.Store(cache).contents()))
    wide.print(cached.steps(steps.Jobs(cache).finished()))
    shown = wide.export_text()
    for made_by in ("this", "other"):
        (row,) = [line for line in shown.splitlines() if "eat" in line and made_by in line]
        cells = [cell.strip() for cell in row.strip("│").split("│")]
        assert cells == [
            "eat",
            '{"blocks": [11, 12]}',
            "01234567",
            "float32",
            "near",
            "1",
            "2.0",
            "0",
            made_by,
        ]
        assert [line for line in shown.splitlines() if "scores" in line and made_by in line]
    nothing = invoke("cache", "info", "--cache", cache / "none").output
    assert nothing.splitlines() == ["No embeddings.", "No finished steps."]


def test_cache_verify(cache: Path) -> None:
    whole = invoke("cache", "verify", "--cache", cache)
    assert (whole.exit_code, "All embeddings are intact." in whole.output) == (0, True)
    with (cache / "embeddings" / "000001.f32").open("r+b") as file:
        file.write(b"damaged")
    damaged = invoke("cache", "verify", "--cache", cache)
    assert damaged.exit_code == 1
    assert f"000001.f32: damaged: block 12, mean, of the recording {64 * '0'}" in damaged.output
    assert "Removed 1 damaged" in invoke("cache", "clean", "--damaged", "--cache", cache).output
    assert invoke("cache", "verify", "--cache", cache).exit_code == 0


def test_cache_clean(cache: Path) -> None:
    shown = invoke("cache", "clean", "--cache", cache).output
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines() if "│" in line
    ]
    assert [row[:2] for row in rows] == [["embeddings", "1"], ["steps", "1"], ["unfinished steps", "0"]]
    assert rows[0][2] == "2.0"
    (kept,) = store.Store(cache).contents()
    assert kept.is_current
    assert "other" not in invoke("cache", "info", "--cache", cache).output.replace("of other code", "")
    invoke("cache", "clean", "--encoder", "eat", "--cache", cache)
    assert store.Store(cache).contents() == []


def test_a_rate_without_decisions_has_no_effect_and_is_refused(tmp_path: Path) -> None:
    asked = ("--false-alarm-rate", "0.1", "--set", "threshold.method=none")
    done = invoke("fit", tmp_path, "-o", tmp_path / "detector", *asked)
    assert done.exit_code == 2
    assert "spectral takes no decisions" in " ".join(done.output.replace("│", " ").split())


# options that are at fault


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--false-alarm-rate", "2"], "--false-alarm-rate=2: Input should be less than 1"),
        (
            ["--set", "threshold.folds=1"],
            "--set:\n  threshold.folds: Input should be greater than or equal to 2",
        ),
        (["--set", "branch.vew=near"], "--set:\n  branch.vew: no key 'vew'; did you mean 'view'"),
        (["--set", "branch.view.a=1"], "--set: 'branch.view.a': 'view' is a value, not a table"),
        (
            ["--set", "threshold.folds=1", "--false-alarm-rate", "2"],
            "--set:\n  --false-alarm-rate=2: Input should be less than 1\n  threshold.folds: Input should be",
        ),
    ],
)
def test_a_wrong_option_is_named_and_not_the_file_of_the_system(
    fan: Path, tmp_path: Path, options: list[str], told: str
) -> None:
    found = invoke("run", "spectral", "--data", fan.parent, "--out", tmp_path / "out", *options)
    assert str(found.exception).startswith(told)
    assert "spectral.toml" not in str(found.exception)


def test_a_wrong_file_is_named_whatever_the_options(fan: Path, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("name = 'own'\n")
    found = invoke("run", tmp_path / "own.toml", "--data", fan.parent, "--false-alarm-rate", "2")
    assert str(found.exception).startswith("own.toml: ")


def test_a_wrong_value_of_a_sweep_is_named(fan: Path) -> None:
    found = invoke("sweep", "spectral", "--data", fan.parent, "--vary", "branch.view=near;both")
    assert str(found.exception).startswith("combination branch.view=both: spectral.toml:")
    found = invoke("sweep", "spectral", "--data", fan.parent, "--vary", "branch.view=near", "--set", "a=1")
    assert str(found.exception).startswith("--set:\n  a: no key")


def test_score_prints_one_format(detector: Path, fan: Path) -> None:
    found = invoke("score", detector, fan / "test", "--csv", "--json")
    assert found.exit_code == 2
    assert "give either --csv or --json" in found.output


def test_lists_of_names_may_be_repeated(tmp_path: Path) -> None:
    made = invoke(
        "simulate", tmp_path / "plant", "--machines", "fan", "--machines", "pump, fan", "--clips", "1",
        "--test-clips", "1", "--seconds", "0.5", "--rate", "8000", "--shift", "speed", "--shift", "noise",
        "--workers", "1",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    assert sorted(path.name for path in (tmp_path / "plant").iterdir() if path.is_dir()) == ["fan", "pump"]
    assert json.loads((tmp_path / "plant" / "simulated.json").read_text())["shift"] == ["speed", "noise"]
