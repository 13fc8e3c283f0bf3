"""`nearfar score` of long recordings."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from synthetic import RATE, clip, write_machine
from test_clock import bext, chunk
from typer.testing import CliRunner, Result

from nearfar.cli import app
from nearfar.detector.fitted import Detector
from nearfar.files.steps import Jobs
from nearfar.listening import excerpts, session
from nearfar.recordings import audio

FAULTY = (3, 4, 6)  # seconds of the long recording
SECONDS = 12


def score(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(
        app, ["score", *map(str, arguments)], input=stdin, env={"COLUMNS": "200"}, catch_exceptions=True
    )


def rows(*arguments: object) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(score(*arguments, "--csv").stdout)))


def objects(*arguments: object, stdin: bytes | None = None) -> list[dict[str, object]]:
    return [json.loads(line) for line in score(*arguments, "--json", stdin=stdin).stdout.splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    write_machine(folder, "fan")
    Detector.fit(folder / "fan", "spectral", jobs=Jobs(folder / "cache")).save(folder / "detector")
    parts = [clip(9000 + i, faulty=i in FAULTY) for i in range(SECONDS)]
    audio.write(folder / "long_20260301_235955.wav", np.concatenate(parts, axis=1), RATE)
    audio.write(folder / "clip.wav", parts[0], RATE)
    return folder


@pytest.fixture
def detector(place: Path) -> Path:
    return place / "detector"


@pytest.fixture
def long(place: Path) -> Path:
    return place / "long_20260301_235955.wav"


def test_a_long_recording_is_cut_into_windows_and_that_is_said(detector: Path, long: Path) -> None:
    found = score(detector, long)
    assert found.exit_code == 0
    told = " ".join(found.stderr.split())
    assert f"{long}: 12 s, cut into 12 windows of 1 s, the length of the training clips" in told
    assert "12 windows: 3 anomaly, 9 normal" in found.stdout
    assert "0:00:03-0:00:04" in found.stdout


def test_windows_as_csv_and_json(detector: Path, long: Path) -> None:
    found = rows(detector, long, "--window", "2", "--hop", "0:00.5")
    assert list(found[0])[:9] == [
        "recording", "start", "end", "clock", "score", "p_value", "decision", "faults", "error",
    ]  # fmt: skip
    assert list(found[0])[-1] == "far_tilt"
    assert [(row["start"], row["end"]) for row in found] == [(str(i / 2), str(i / 2 + 2)) for i in range(21)]
    assert {row["recording"] for row in found} == {str(long)}
    assert {row["clock"] for row in found} == {""}
    same = objects(detector, long, "--window", "2 s", "--hop", "0.5")
    assert [(one["start"], one["score"]) for one in same] == [
        (float(row["start"]), float(row["score"])) for row in found
    ]


def test_clips_are_scored_as_before(detector: Path, place: Path, long: Path) -> None:
    """As they are, beside windows, too."""
    (alone,) = objects(detector, place / "clip.wav")
    assert "start" not in alone
    first, *others = objects(detector, place / "clip.wav", long)
    assert {key: first[key] for key in alone} == alone
    assert (first["start"], first["end"]) == (0.0, 1.0)
    assert len(others) == SECONDS


def test_events(detector: Path, long: Path) -> None:
    found = score(detector, long, "--events")
    assert found.exit_code == 0
    assert "1 event" in found.stdout
    assert "0:00:03-0:00:07" in found.stdout
    (event,) = objects(detector, long, "--events")
    assert event == {
        "kind": "event", "recording": str(long), "start": 3.0, "end": 7.0, "clock": None, "clock_end": None,
        "peak_score": event["peak_score"], "p_value": pytest.approx(1 / 29), "peak_start": event["peak_start"],
        "peak_end": event["peak_end"], "windows": 4, "anomalous": 3, "unusable": 0,
        "microphones": {"near": "ok", "far": "ok"}, "before": "normal", "after": "normal",
        "levels": event["levels"],
    }  # fmt: skip
    (row,) = rows(detector, long, "--events")
    assert (row["kind"], row["start"], row["near"], row["rule"]) == ("event", "3.0", "ok", "")
    assert [one["start"] for one in objects(detector, long, "--events", "--gap", "0")] == [3.0, 6.0]


def test_events_fail_only_if_asked(detector: Path, long: Path, place: Path) -> None:
    assert score(detector, long, "--events", "--fail-on-anomaly").exit_code == 3
    assert score(detector, long, "--fail-on-anomaly", "--alarm", "3/3").exit_code == 0
    assert score(detector, long, "--fail-on-anomaly", "--alarm", "2/3").exit_code == 3
    assert score(detector, place / "clip.wav", "--events", "--fail-on-anomaly").exit_code == 0


def test_clock_time_by_the_name(detector: Path, long: Path) -> None:
    """Past midnight, and without a zone."""
    (event,) = objects(detector, long, "--events", "--began", "%Y%m%d_%H%M%S")
    assert (event["clock"], event["clock_end"]) == ("2026-03-01T23:59:58.000", "2026-03-02T00:00:02.000")
    assert "2026-03-01 23:59:58" in score(detector, long, "--events", "--began", "%Y%m%d_%H%M%S").stdout
    last = rows(detector, long, "--began", "%Y%m%d_%H%M%S")[-1]
    assert last["clock"] == "2026-03-02T00:00:06.000"


def test_clock_time_by_the_file(detector: Path, long: Path, tmp_path: Path) -> None:
    """By bext, unless something else is asked; the time of the last change has a zone."""
    content = long.read_bytes()
    with_time = content + chunk(b"bext", bext("2026-05-04", "03:02:01"))
    (tmp_path / "a.wav").write_bytes(with_time)
    assert objects(detector, tmp_path / "a.wav", "--events")[0]["clock"] == "2026-05-04T03:02:04.000"
    assert objects(detector, tmp_path / "a.wav", "--events", "--began", "none")[0]["clock"] is None
    os.utime(tmp_path / "a.wav", (1_772_368_200,) * 2)
    (event,) = objects(detector, tmp_path / "a.wav", "--events", "--began", "mtime")
    assert str(event["clock"])[-6] in "+-"


def test_a_wrong_date_is_an_error(detector: Path, long: Path, tmp_path: Path) -> None:
    wrong = long.read_bytes() + chunk(b"bext", bext("2026-13-04", "03:02:01"))
    (tmp_path / "a.wav").write_bytes(wrong)
    assert "which is no date and time (month must be in 1..12)" in str(
        score(detector, tmp_path / "a.wav").exception
    )
    assert score(detector, tmp_path / "a.wav", "--began", "none").exit_code == 0
    assert "no date of the form %Y-%m-%d %H" in str(score(detector, long, "--began", "%Y-%m-%d %H").exception)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", "x"], "--window='x': no time"),
        (["--window", "0"], "--window=0: must be a time above 0 s"),
        (["--hop", "2"], "--hop=2: must be above 0 s, and at most the window (1 s)"),
        (
            ["--window", "0.8", "--false-alerts", "1 per 30 days"],
            "--window=0.8: shorter than the training clips (1 s) by more than a factor of 1.2, so no window could "
            "be used; fit with --window 0.8",
        ),
        (["--gap", "-1"], "--gap='-1': no time"),
        (["--replace"], "--replace is for files of --labels and --cut, and neither is given"),
        (["--began", "ctime"], "--began='ctime': must be bext, mtime, none, or a pattern"),
        (["--false-alerts", "often"], "--false-alerts"),
    ],
)
def test_what_is_none_is_refused(options: list[str], message: str, detector: Path, long: Path) -> None:
    found = score(detector, long, *options)
    assert found.exit_code == 2
    assert message in " ".join(found.output.replace("│", " ").split())
    assert not found.stdout


def test_windows_that_are_hardly_shorter_are_heard(detector: Path, long: Path) -> None:
    """As the inspection has it: a clip is short if it is shorter by more than a factor of 1.2."""
    assert {row["faults"] for row in rows(detector, long, "--window", "0.84")} == {""}


def test_the_order_of_the_clock(detector: Path, long: Path, tmp_path: Path) -> None:
    """An alarm goes on from one recording to the next; what cannot be read comes last."""
    for name in ("b_20260301_120000.wav", "a_20260301_120100.wav"):
        shutil.copy(long, tmp_path / name)
    (tmp_path / "0.wav").write_bytes(b"")
    options = ("--order", "clock", "--began", "%Y%m%d_%H%M%S")
    names = [Path(row["recording"]).name for row in rows(detector, tmp_path, *options)]
    assert list(dict.fromkeys(names)) == ["b_20260301_120000.wav", "a_20260301_120100.wav", "0.wav"]
    assert "does not say when it began, so --order clock has no place" in str(
        score(detector, tmp_path, "--order", "clock").exception
    )
    (tmp_path / "b_20260301_120000.wav").rename(tmp_path / "b_20260301_120055.wav")
    assert (
        score(detector, tmp_path, *options).exit_code == 1
    )  # of the broken file: they overlap by some seconds
    audio.write(tmp_path / "c_20260301_115200.wav", np.tile(audio.read(long)[0], 52), RATE)
    assert "before it had ended. Recordings of one machine follow each other" in str(
        score(detector, tmp_path, *options).exception
    )


def test_labels_of_one_recording(detector: Path, long: Path, tmp_path: Path) -> None:
    found = score(detector, long, "--labels", tmp_path / "l.txt")
    assert found.exit_code == 0, found.output
    assert "12 windows" in found.stdout  # what is shown stays
    start, end, text = (tmp_path / "l.txt").read_text().rstrip("\n").split("\t")
    assert (start, end) == ("3.000000", "7.000000")
    assert text.startswith("anomaly, peak ")
    assert "is there already; choose another name, or replace it with --replace" in str(
        score(detector, long, "--labels", tmp_path / "l.txt").exception
    )
    assert score(detector, long, "--labels", tmp_path / "l.txt", "--replace").exit_code == 0


def test_labels_of_several_recordings(detector: Path, long: Path, place: Path, tmp_path: Path) -> None:
    score(detector, long, place / "clip.wav", "--labels", tmp_path / "new" / "labels")
    folder = tmp_path / "new" / "labels"
    assert {path.name: path.read_text().count("\n") for path in folder.iterdir()} == {
        "long_20260301_235955.wav.txt": 1,
        "clip.wav.txt": 0,
    }


def test_events_are_cut_out(detector: Path, long: Path, tmp_path: Path) -> None:
    options = ("--cut", tmp_path / "cut", "--began", "%Y%m%d_%H%M%S", "--gap", "0")
    found = score(detector, long, *options)
    assert found.exit_code == 0, found.output
    assert "Wrote 2 events" in found.stderr
    names = sorted(path.name for path in (tmp_path / "cut").iterdir())
    assert names == [
        "long_20260301_235955_0h00m03s_2026-03-01T23.59.58.flac",
        "long_20260301_235955_0h00m06s_2026-03-02T00.00.01.flac",
    ]
    whole = soundfile.read(long, dtype="int16")[0]
    cut = soundfile.read(tmp_path / "cut" / names[1], dtype="int16")[0]
    np.testing.assert_array_equal(cut, whole[RATE : 12 * RATE])
    before = [path.stat().st_mtime_ns for path in sorted((tmp_path / "cut").iterdir())]
    assert score(detector, long, *options).exit_code == 0  # the same once more
    assert len(before) == 2
    (tmp_path / "cut" / names[0]).write_bytes(b"mine")
    assert "is there already, with another content" in str(score(detector, long, *options).exception)
    assert (tmp_path / "cut" / names[0]).read_bytes() == b"mine"
    (tmp_path / "file").touch()
    assert "file: a file; --cut needs a folder" in str(
        score(detector, long, "--cut", tmp_path / "file").exception
    )


def test_alerts_beside_events(detector: Path, long: Path) -> None:
    found = objects(detector, long, "--events", "--alarm", "2/3", "--false-alerts", "1 per 10 min")
    told = [(one["kind"], one.get("rule"), one["end"]) for one in found]
    assert told[0] == ("alert_begins", "2/3", 5.0)
    assert ("alert_ends", "2/3", 10.0) in told
    assert [one[0] for one in told].count("event") == 1
    windows = objects(detector, long, "--alarm", "2/3", "--false-alerts", "1 per 10 min")
    assert [one["alarm"] for one in windows] == [4 <= i <= 8 for i in range(SECONDS)]
    assert all(0 <= float(str(one["evidence"])) <= 1 for one in windows)
    assert list(windows[0])[-3:] == ["alarm", "alert", "evidence"]
    (row, *_) = rows(detector, long, "--alarm", "2/3", "--false-alerts", "1 per 10 min")
    assert (row["alarm"], row["alert"]) == ("0", "0")
    table = score(detector, long, "--events", "--alarm", "2/3", "--false-alerts", "1 per 10 min").stdout
    assert "alert begins" in table
    assert "Promised: if windows are exchangeable with the 28 normal ones" in " ".join(table.split())


def test_without_a_threshold_there_are_no_events(place: Path, long: Path, tmp_path: Path) -> None:
    fitted = Detector.load(place / "detector")
    mute = Detector.fit(place / "fan", load_without_threshold(), jobs=Jobs(tmp_path / "cache"))
    assert fitted.threshold is not None
    mute.save(tmp_path / "mute")
    assert "has no threshold, so there are no events; set one with" in str(
        score(tmp_path / "mute", long, "--events").exception
    )
    assert len(rows(tmp_path / "mute", long)) == SECONDS


def load_without_threshold() -> object:
    from nearfar.systems.fusion import load_any

    return load_any("spectral", {"threshold.method": "none"})


def test_unusable_windows_are_told(detector: Path, long: Path, tmp_path: Path) -> None:
    """NaN for a second of an event; a file that was cut off; mono; another rate; nothing at all."""
    samples, _ = audio.read(long)
    broken = samples.copy()
    broken[0, 5 * RATE : 6 * RATE] = np.nan
    soundfile.write(tmp_path / "nan.wav", broken.T, RATE, subtype="FLOAT")
    found = score(detector, tmp_path / "nan.wav", "--events", "--json")
    assert found.exit_code == 1
    event = json.loads(found.stdout)
    assert (event["start"], event["end"], event["unusable"]) == (3.0, 7.0, 1)
    assert "1 window in it unusable" in " ".join(
        score(detector, tmp_path / "nan.wav", "--events").stdout.split()
    )
    (tmp_path / "cut.wav").write_bytes(long.read_bytes()[: 44 + 4 * 6 * RATE])
    found = score(detector, tmp_path / "cut.wav", "--events", "--json")
    event = json.loads(found.stdout)
    assert (found.exit_code, event["end"], event["after"]) == (1, 5.0, "normal")
    soundfile.write(tmp_path / "mono.wav", samples[0], RATE)
    found = score(detector, tmp_path / "mono.wav", "--events")
    assert (found.exit_code, "0 events" in found.stdout) == (1, True)
    assert "mono.wav: 12 of 12 windows cannot be used, so no event is found there: " in found.stderr
    assert {row["decision"] for row in rows(detector, tmp_path / "mono.wav")} == {"unusable"}
    audio.write(tmp_path / "slow.wav", samples, 8000)
    assert {row["error"][:20] for row in rows(detector, tmp_path / "slow.wav")} == {"recorded at 8000 Hz,"}
    (tmp_path / "empty").mkdir()
    assert "no recordings (.wav, .flac) in this folder" in str(
        score(detector, tmp_path / "empty", "--events").exception
    )


def test_events_say_which_windows_were_unusable(detector: Path, long: Path, tmp_path: Path) -> None:
    """In each form, of a file that is missing, too, and of many recordings at once."""
    whole = long.read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: 44 + 4 * 5 * RATE + 100])
    for form in ([], ["--json"], ["--csv"]):
        found = score(detector, tmp_path / "cut.wav", tmp_path / "missing.wav", "--events", *form)
        assert found.exit_code == 1
        assert "cut.wav: 7 of 12 windows cannot be used" in found.stderr
        assert "no event is found there: truncated" in found.stderr
        assert "missing.wav: 1 of 1 window cannot be used" in found.stderr
    missing = [tmp_path / f"missing{i}.wav" for i in range(5)]
    assert "... and 2 windows of 2 more" in score(detector, *missing, "--events").stderr
    assert "cannot be used" not in score(detector, tmp_path / "cut.wav").stderr  # the table shows them


def test_labels_are_not_in_the_way_of_a_command_that_is_repeated(
    detector: Path, long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If excerpts cannot be written, there is no label track either."""
    given = [detector, long, "--cut", tmp_path / "cut", "--labels", tmp_path / "l.txt"]

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(excerpts, "cut_out", full)
        assert "No space left" in str(score(*given).exception)
    assert score(*given).exit_code == 0
    assert (tmp_path / "l.txt").is_file()


def test_standard_input_is_heard_window_by_window(detector: Path, long: Path, tmp_path: Path) -> None:
    raw = soundfile.read(long, dtype="int16")[0].tobytes()
    found = objects(detector, "-", "--window", "1", stdin=raw)
    expected = objects(detector, long, "--window", "1")
    assert [one["score"] for one in found] == [one["score"] for one in expected]
    (event,) = objects(detector, "-", "--events", "--labels", tmp_path / "l.txt", stdin=long.read_bytes())
    assert (event["recording"], event["start"], event["end"]) == ("standard input", 3.0, 7.0)
    assert (tmp_path / "l.txt").read_text().startswith("3.000000\t7.000000")
    for option in (
        ("--state", tmp_path / "s"),
        ("--cut", tmp_path / "c"),
        ("--began", "mtime"),
        ("--order", "time"),
    ):
        refused = score(detector, "-", *option, stdin=raw)
        assert refused.exit_code == 2
        assert f"{option[0]} needs files, and - is standard input" in " ".join(refused.output.split())


def test_an_interrupted_command_says_how_to_go_on(
    detector: Path, long: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score(detector, long, "--json").stdout
    listen, left = session.listen, iter(range(5))

    def interrupted(*arguments: object, **options: object) -> object:
        for heard in listen(*arguments, **options):  # type: ignore[arg-type]
            yield heard
            if next(left, None) is None:
                raise KeyboardInterrupt

    monkeypatch.setattr(session, "listen", interrupted)
    found = score(detector, long, "--json", "--state", tmp_path / "state")
    assert found.exit_code == 130
    assert f"What was heard is kept in {tmp_path / 'state'}; run the same command again" in found.stderr
    assert 0 < found.stdout.count("\n") < SECONDS
    monkeypatch.setattr(session, "listen", listen)
    assert score(detector, long, "--json", "--state", tmp_path / "state").stdout == whole
    refused = score(detector, long, "--csv", "--hop", "0.5", "--state", tmp_path / "state")
    assert "begun in another way: hop: 1 s, now 0.5 s" in str(refused.exception)
    assert not refused.stdout
    assert score(detector, long, "--events", "--json", "--state", tmp_path / "state").stdout == (
        score(detector, long, "--events", "--json").stdout
    )
    monkeypatch.setattr(session, "listen", interrupted)
    assert "Nothing was kept; with --state FOLDER" in score(detector, long).stderr


def test_spaces_make_no_other_rule(detector: Path, long: Path, tmp_path: Path) -> None:
    for rule in ("1 per 1 h", " 1 per  1 h"):
        assert score(detector, long, "--false-alerts", rule, "--state", tmp_path / "state").exit_code == 0


def test_a_place_that_cannot_be_written_to_is_named_as_given(
    detector: Path, long: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for option in ("--cut", "--state"):
        refused = str(score(detector, long, option, tmp_path / "file" / "c").exception)
        assert refused.startswith(f"{tmp_path / 'file' / 'c'}: {tmp_path / 'file'} is a file, not a folder")


def test_a_recording_that_is_given_twice_is_heard_once(detector: Path, long: Path, tmp_path: Path) -> None:
    folder = tmp_path / "rec"
    folder.mkdir()
    (folder / "link.wav").symlink_to(long)
    once = score(detector, long, "--events", "--json")
    for names in ([long, long], [long, folder], [long, long.parent / "." / long.name]):
        twice = score(detector, *names, "--events", "--json")
        assert twice.stdout == once.stdout
        assert "it is heard once" in twice.stderr
    assert (
        f"{folder / 'link.wav'}: given before as {long}; it is heard once"
        in score(detector, long, folder).stderr
    )
    clips = score(detector, long.parent / "clip.wav", long.parent / "clip.wav", "--json")
    assert clips.stdout.count("\n") == 2
