"""The folder of simulated days: files that follow each other, the truth about them, and runs that were killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import tracemalloc
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from nearfar.cli import app
from nearfar.recordings.audio import read, read_header
from nearfar.simulation import Onset, broadcast, days, simulate_stream
from nearfar.simulation.days import Settings, files_of, stream_of
from nearfar.simulation.schedules import HOUR

RATE = 8000
MINUTE = 1 / 60
SHORT: dict[str, Any] = {"machines": ["fan"], "rate": RATE, "file_hours": 0.4 * MINUTE}
LEAK = Onset("blade", start_hours=0.7 * MINUTE, profile="linear", hours=MINUTE)


def sounds(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.wav"))


def digests(folder: Path) -> dict[str, str]:
    """Of everything in a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def truth_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute, of which 0.5 are normal, in files of 24 s."""
    out = tmp_path_factory.mktemp("days") / "made"
    return simulate_stream(out, MINUTE, faults=[LEAK], train_hours=0.5 * MINUTE, **SHORT)


def test_the_folder(made):
    assert [str(path.relative_to(made)) for path in sounds(made)] == [
        "fan/test/fan_2026-01-05_08-00-30.wav",
        "fan/test/fan_2026-01-05_08-00-54.wav",
        "fan/train/fan_2026-01-05_08-00-00.wav",
        "fan/train/fan_2026-01-05_08-00-24.wav",
    ]
    assert sorted(path.name for path in made.iterdir()) == ["fan", "manifest.jsonl", "simulated.json"]
    headers = [read_header(made / line["key"]) for line in truth_in(made)]
    assert [header.samples / RATE for header in headers] == [24, 6, 24, 6]
    assert {(header.channels, header.rate) for header in headers} == {(2, RATE)}


def test_files_follow_each_other_as_in_one_long_recording(made, tmp_path):
    """Bit for bit: where files meet nothing is lost, and nothing is faded."""
    whole = simulate_stream(tmp_path / "whole", MINUTE, faults=[LEAK], **{**SHORT, "file_hours": 1.0})
    parts = np.concatenate([read(made / line["key"])[0] for line in truth_in(made)], axis=1)
    assert np.array_equal(parts, read(sounds(whole)[0])[0])


def test_it_does_not_depend_on_the_workers_or_the_run(made, tmp_path):
    again = simulate_stream(
        tmp_path / "again", MINUTE, faults=[LEAK], train_hours=0.5 * MINUTE, workers=2, **SHORT
    )
    assert digests(again) == digests(made)


def test_the_seeds_of_the_machine_and_of_the_day():
    chosen: dict[str, Any] = {"machines": ("fan",), "hours": 1.0, "rate": RATE}
    streams = [stream_of(Settings(seed=s, day_seed=d, **chosen), "fan") for s, d in ((0, 0), (0, 1), (1, 0))]
    assert streams[0].site.units == streams[1].site.units != streams[2].site.units
    assert streams[0].days.hall.happenings != streams[1].days.hall.happenings
    assert not np.array_equal(streams[0].days.operation.speeds, streams[1].days.operation.speeds)


def killing(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Let a run end as if it were killed after so many pieces."""
    left = [after]
    pieces = days.pieces

    def until_killed(*given: Any) -> Any:
        for piece in pieces(*given):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            yield piece

    monkeypatch.setattr(days, "pieces", until_killed)


@pytest.mark.parametrize("after", [1, 5])
def test_a_run_that_was_interrupted_goes_on(made, tmp_path, monkeypatch, after):
    given = {"faults": [LEAK], "train_hours": 0.5 * MINUTE, **SHORT}
    with monkeypatch.context() as patched:
        killing(patched, after)
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            simulate_stream(tmp_path / "out", MINUTE, **given)
    assert not (tmp_path / "out").exists()
    with pytest.raises(FileExistsError, match="begun with other parameters"):
        simulate_stream(tmp_path / "out", MINUTE, day_seed=1, **given)
    done = []
    simulate_stream(tmp_path / "out", MINUTE, progress=lambda *d: done.append(d), **given)
    assert digests(tmp_path / "out") == digests(made)
    assert done[-1] == (60, 60)
    assert len(done) < 8 or after == 1  # what was finished is not made again


def test_a_run_that_was_killed_while_it_tidied_up_is_finished(made, tmp_path):
    out = tmp_path / "out"
    given = {"faults": [LEAK], "train_hours": 0.5 * MINUTE, **SHORT}
    simulate_stream(out, MINUTE, **given)
    out.rename(tmp_path / "out.unfinished")
    (tmp_path / "out.unfinished/fan/test/fan_2026-01-05_08-00-30.json").write_text("{}")
    simulate_stream(out, MINUTE, **given)
    assert digests(out) == digests(made)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_run_that_was_killed_goes_on(made, tmp_path):
    code = (
        "import sys; from nearfar.simulation import Onset, simulate_stream\n"
        f"simulate_stream(sys.argv[1], {MINUTE!r}, faults=[{LEAK!r}], train_hours={0.5 * MINUTE!r}, "
        f"machines=['fan'], rate={RATE}, file_hours={0.4 * MINUTE!r}, progress=lambda *d: print(d, flush=True))"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        for _ in range(3):  # in the midst of the second file
            process.stdout.readline()
        process.kill()
    assert not (tmp_path / "out").exists()
    simulate_stream(tmp_path / "out", MINUTE, faults=[LEAK], train_hours=0.5 * MINUTE, **SHORT)
    assert digests(tmp_path / "out") == digests(made)


def chunks(content: bytes) -> dict[bytes, bytes]:
    """Of a RIFF file, read by hand."""
    assert (content[:4], content[8:12]) == (b"RIFF", b"WAVE")
    assert struct.unpack("<I", content[4:8])[0] == len(content) - 8
    found, at = {}, 12
    while at < len(content):
        name, size = content[at : at + 4], struct.unpack("<I", content[at + 4 : at + 8])[0]
        found[name] = content[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    return found


def test_a_file_knows_when_it_began(tmp_path):
    """The offsets are those of EBU Tech 3285, section 2.3."""
    out = simulate_stream(tmp_path / "out", 0.3 * MINUTE, begins=datetime(2027, 12, 31, 23, 59, 50), **SHORT)
    content = chunks(sounds(out)[0].read_bytes())
    bext = content[b"bext"]
    assert len(bext) == 602
    assert bext[256:288].rstrip(b"\0") == b"nearfar simulate"
    assert (bext[320:330], bext[330:338]) == (b"2027-12-31", b"23:59:50")
    low, high, version = struct.unpack("<IIH", bext[338:348])
    assert (low, high, version) == ((24 * 3600 - 10) * RATE, 0, 2)
    assert sounds(out)[0].name == "fan_2027-12-31_23-59-50.wav"
    assert truth_in(out)[0]["began"] == "2027-12-31T23:59:50"


def test_samples_beyond_full_scale_are_clipped_and_counted(tmp_path):
    piece = np.array([[0.5, 1.5, -1.0, -1.1], [0, 0, 1.0, 0]], dtype=np.float32)
    clipped = broadcast.write(
        tmp_path / "a.wav", [piece[:, :1], piece[:, 1:]], samples=4, channels=2, rate=RATE, began=days.BEGINS
    )
    assert clipped == 3
    assert read(tmp_path / "a.wav")[0] * 32768 == pytest.approx(
        np.array([[16384, 32767, -32768, -32768], [0, 0, 32767, 0]])
    )


def test_a_file_that_does_not_hold_what_was_announced(tmp_path):
    given: dict[str, Any] = {"channels": 2, "rate": RATE, "began": days.BEGINS}
    with pytest.raises(ValueError, match="4 samples were written, but 5 were announced"):
        broadcast.write(tmp_path / "a.wav", [np.zeros((2, 4), np.float32)], samples=5, **given)
    with pytest.raises(ValueError, match="but WAV holds"):
        broadcast.write(tmp_path / "a.wav", [], samples=2**31, **given)
    assert not list(tmp_path.iterdir())


def test_the_truth_of_a_recording(made):
    lines = truth_in(made)
    assert [line["label"] for line in lines] == ["normal", "normal", "anomaly", "anomaly"]
    assert [line["split"] for line in lines] == ["train", "train", "test", "test"]
    assert [line["stream_start"] for line in lines] == [0, 24, 30, 54]
    first, last = lines[2]["faults"][0], lines[3]["faults"][0]
    assert (first["start"], last["start"]) == (12, -12)  # 42 s of the stream
    for seconds, severity in [*first["course"], *last["course"][-1:]]:
        told = max(seconds - 12, 0) if [seconds, severity] in first["course"] else seconds + 12
        assert severity == pytest.approx(told / 60, abs=1e-5)
    assert lines[0]["regimes"][0]["end"] == 24
    assert (lines[0]["unit"], lines[0]["clipped"]) == ("A", 0)
    assert len(lines[0]["microphone_places"]) == 2


def test_the_label_track_says_the_same(made):
    line = truth_in(made)[2]
    rows = [row.split("\t") for row in (made / line["key"]).with_suffix(".txt").read_text().splitlines()]
    found = {text: (float(start), float(end)) for start, end, text in rows}
    regime = line["regimes"][0]
    assert found[f"{regime['speed']} rpm load {regime['load']}"] == (0, 24)
    assert found["fault blade"] == (12, 24)
    assert found["shift early"] == (0, 24)
    assert len(found) == 3 + len(line["happenings"])


def test_the_truth_over_hours_without_a_sound():
    """Regimes, shifts and what passes are cut where files meet, and fit together again."""
    settings = Settings(
        machines=("valve",), hours=30.0, train_hours=2.0, file_hours=0.7, rate=RATE, seed=3, day_seed=4,
        drift=("far",),
    )  # fmt: skip
    stream = stream_of(settings, "valve")
    files = list(files_of(settings, "valve"))
    truth = [days.truth_of(settings, stream, file) for file in files]
    assert sum(file.samples for file in files) == 30 * 3600 * RATE
    assert sum(line["split"] == "train" for line in truth) == 3
    for key in ("regimes", "shifts"):
        for line in truth:
            pieces = [(piece["start"], piece["end"]) for piece in line[key]]
            assert pieces[0][0] == 0
            assert pieces[-1][1] == pytest.approx(line["seconds"], abs=1e-5)
            assert [end for _, end in pieces[:-1]] == [start for start, _ in pieces[1:]]
    stops = sum(r["end"] - r["start"] for line in truth for r in line["regimes"] if r["speed"] == 0)
    assert 0.01 < stops / (30 * HOUR) < 0.1
    assert truth[0]["drift_db"]["far"] == [0, pytest.approx(0.7 / 4)]
    assert truth[-1]["drift_db"]["far"] == [6, 6]
    begun = [
        h for line in truth for h in line["happenings"] if h["start"] > 0
    ]  # others go on in the next file
    assert len(begun) == sum(h.start < 30 * HOUR for h in stream.days.hall.happenings)
    assert {h["kind"] for h in begun} == {"vehicle", "alarm"}


def test_memory_does_not_grow_with_the_length(tmp_path):
    settings = Settings(machines=("fan",), hours=2.0, rate=RATE, hall=False)
    stream = stream_of(settings, "fan")
    peaks = []
    for blocks in (3, 12):
        tracemalloc.start()
        samples = blocks * stream.grid.samples
        broadcast.write(
            tmp_path / f"{blocks}.wav", days.pieces(stream, 0, samples), samples=samples, channels=2, rate=RATE,
            began=days.BEGINS,
        )  # fmt: skip
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 60e6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hours": 0.001}, r"hours=0.001: must be between 0.0028 \(10 s\) and"),
        ({"hours": float("nan")}, "hours=nan: must be between"),
        ({"train_hours": 2.0}, "train_hours=2.0: must be between 0 and hours=1"),
        ({"file_hours": 0.0}, "file_hours=0.0: must be at least"),
        ({"file_hours": 200.0}, r"file_hours=200.0: a WAV file holds at most 37.3 hours at 8000 Hz"),
        ({"rate": 4000}, "rate=4000: must be at least 8000 Hz"),
        ({"snr_db": float("inf")}, "snr_db=inf: must be a finite level"),
        ({"day_seed": -1}, "day_seed=-1: must not be negative"),
        ({"machines": []}, r"machines=\(\): expected at least one machine"),
        ({"machines": ["fan", "fan"]}, "machine fan, fan: name each only once"),
        ({"machines": ["toaster"]}, "no machine 'toaster'"),
        ({"drift": ["weather"]}, "no kind of drift 'weather'"),
        (
            {"drift_db": 3.0},
            r"\{'drift_db': 3.0\}: nothing drifts; say what, of machine, near, far",
        ),
        ({"drift": ["far"], "drift_hours": 0.0}, "drift_hours=0.0: must be finite, and the hours above 0"),
        ({"faults": [Onset("leak", 0.5)]}, "no fault of the fan 'leak'. There are: any, bearing, blade"),
        ({"faults": [Onset("blade", 1.0)]}, "blade starts after 1 hours, but the stream ends after hours=1"),
        (
            {"faults": [Onset("blade", 0.2)], "train_hours": 0.5},
            "but the first train_hours=0.5 are to be normal",
        ),
        (
            {"faults": [Onset("blade", 0.2, machine="pump")]},
            "fault blade of machine pump, which is not simulated",
        ),
        (
            {"faults": [Onset("blade", 0.2), Onset("blade", 0.3)]},
            "fault blade of the fan: given more than once",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(tmp_path, given, message):
    chosen = {"hours": 1.0, "machines": ["fan"], "rate": RATE, **given}
    with pytest.raises(ValueError, match=message):
        simulate_stream(tmp_path / "out", **chosen)
    assert not list(tmp_path.iterdir())


def test_any_fault_is_one_of_the_machine_and_depends_on_the_day():
    drawn = set()
    for day_seed in range(8):
        settings = Settings(
            machines=("fan", "pump"), hours=1.0, rate=RATE, day_seed=day_seed,
            onsets=(Onset("any", 0.2), Onset("any", 0.4), Onset("leak", 0.5, machine="pump")),
        )  # fmt: skip
        of_fan = days.onsets_of(settings, "fan")
        assert len({onset.fault for onset in of_fan}) == 2
        drawn |= {onset.fault for onset in of_fan}
    assert drawn == {"unbalance", "blade", "bearing", "clogging"}


def test_the_command_line(tmp_path):
    run = CliRunner().invoke(
        app,
        ["simulate", str(tmp_path / "out"), "--stream", "0.005", "--machines", "valve", "--rate", str(RATE),
         "--fault", "leak@0.004,severity=0.5", "--train-hours", "0.003", "--no-hall", "--workers", "1"],
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    normal, faulty = truth_in(tmp_path / "out")
    assert (normal["split"], faulty["faults"][0]["severity"]) == ("train", 0.5)
    assert normal["shifts"] == [{"start": 0, "end": pytest.approx(10.8), "shift": "steady"}]
    assert "nearfar fit" in run.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stream", "1", "--clips", "9"], "--clips is about clips"),
        (["--stream", "1", "--preset", "small"], "--preset is about clips"),
        (["--stream", "1", "--sources"], "--sources is about clips"),
        (["--fault", "leak@1"], "--fault belongs to a stream"),
        (["--no-hall"], "--no-hall belongs to a stream"),
        (["--day-seed", "0"], "--day-seed belongs to a stream"),
    ],
)
def test_options_that_contradict_each_other(tmp_path, options, message):
    run = CliRunner().invoke(app, ["simulate", str(tmp_path / "out"), *options])
    assert run.exit_code == 2
    assert message in " ".join(run.output.replace("│", " ").split())
