"""Channels, tracks, pipes and odd names from the command line to the score: as of the plain two-channel files."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import called
import numpy as np
import pytest
import soundfile
from synthetic import RATE, clip
from typer.testing import CliRunner, Result

from nearfar.cli import app
from nearfar.detector.fitted import Detector
from nearfar.files.names import encodable
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.recordings.audio import AudioError
from nearfar.recordings.microphones import MicrophoneError
from nearfar.recordings.recording import Recording

FOUR = (4, 2)  # of files with four channels: near, far
CLIPS = 24
HERE = {"NEARFAR_DECODING": ""}  # in this process, where no file crashes a library


def four_channels(seed: int, **options: bool) -> np.ndarray:
    """(4, samples): only the fourth and the second are those of the machine."""
    near, far = clip(seed, **options)
    other = np.random.default_rng(seed).normal(scale=0.1, size=(2, len(near)))
    return np.stack([other[0], far, other[1], near])


def write(path: Path, samples: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.T, RATE, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same clips three times: in ``two`` and ``four`` channels, and in ``tracks``."""
    root = tmp_path_factory.mktemp("data")
    for number in range(CLIPS):
        write(root / f"two/fan/train/{number:02}.wav", clip(number))
        write(root / f"four/fan/train/{number:02}.wav", four_channels(number))
        for track, samples in enumerate(clip(number), start=1):
            write(root / f"tracks/fan/train/{number:02}_Tr{track}.wav", samples[None])
    for number, label in ((100, "normal"), (101, "anomaly")):
        faulty = label == "anomaly"
        write(root / f"two/fan/test/{label}/{number}.wav", clip(number, faulty=faulty))
        write(root / f"four/fan/test/{label}/{number}.wav", four_channels(number, faulty=faulty))
        for track, samples in enumerate(clip(number, faulty=faulty), start=1):
            write(root / f"tracks/fan/test/{label}/{number}_Tr{track}.wav", samples[None])
    return root


def fit(root: Path, kind: str, channels: tuple[int, ...] = ()) -> Detector:
    machine = datasets.load_machine(root / kind / "fan", channels)
    return Detector.fit(machine, "spectral", false_alarm_rate=0.1, jobs=Jobs(root / "cache"))


@pytest.fixture(scope="module")
def plain(root: Path) -> Detector:
    return fit(root, "two")


@pytest.fixture(scope="module")
def chosen(root: Path) -> Detector:
    return fit(root, "four", FOUR)


@pytest.fixture(scope="module")
def saved(root: Path, chosen: Detector) -> Path:
    chosen.save(root / "detector")
    return root / "detector"


@pytest.fixture(scope="module")
def saved_plain(root: Path, plain: Detector) -> Path:
    plain.save(root / "plain")
    return root / "plain"


def scores(detector: Detector, recordings: list[Path | Recording]) -> list[float]:
    verdicts = list(detector.score_files(recordings))
    assert [v.error for v in verdicts] == [""] * len(verdicts)
    return [v.score for v in verdicts]


def invoke(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin, env={"COLUMNS": "200"})


def process(*arguments: object, encoding: str = "utf-8:strict") -> subprocess.CompletedProcess[bytes]:
    """The real thing, in a process of its own."""
    command = [sys.executable, "-c", "from nearfar.cli import main; main()", *map(str, arguments)]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)


def scored(*arguments: object, stdin: bytes | None = None) -> list[float | None]:
    """What ``nearfar score`` prints."""
    done = invoke("score", *arguments, "--json", stdin=stdin)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return [json.loads(line)["score"] for line in done.stdout.splitlines()]


def test_chosen_channels_score_as_files_that_have_no_others(root, plain, chosen):
    two, four = (sorted((root / kind / "fan/test").rglob("*.wav")) for kind in ("two", "four"))
    assert scores(chosen, four) == scores(plain, two)
    assert chosen.threshold.value == plain.threshold.value
    assert (chosen.selected_channels, plain.selected_channels) == (FOUR, ())
    assert (chosen.trained_on["selected_channels"], chosen.trained_on["channels"]) == ([4, 2], 2)
    assert scores(plain, [Recording((file,), FOUR) for file in four]) == scores(plain, two)


def test_a_saved_detector_remembers_its_channels(root, chosen, saved):
    (file, _) = sorted((root / "four/fan/test").rglob("*.wav"))
    assert Detector.load(saved).selected_channels == FOUR
    assert Detector.load(saved).score_file(file) == chosen.score_file(file)


def test_clips_without_a_choice_are_scored_by_the_channels_of_the_fit(root, chosen):
    clips = datasets.load_machine(root / "four/fan").test
    files = [clip.path for clip in clips]
    np.testing.assert_allclose(
        chosen.score_clips(clips, jobs=Jobs(root / "cache")), scores(chosen, files), rtol=1e-6
    )


def test_the_same_file_with_other_channels_is_another_recording_in_the_cache(root, chosen):
    clips = datasets.load_machine(root / "four/fan", (2, 4)).test
    exchanged = [Recording((clip.path,), (2, 4)) for clip in clips]
    found = chosen.score_clips(clips, jobs=Jobs(root / "cache"))
    np.testing.assert_allclose(found, [chosen.score_file(one).score for one in exchanged], rtol=1e-6)
    files = [clip.path for clip in clips]
    assert not np.isclose(found, scores(chosen, files)).any()


def test_tracks_score_as_the_channels_of_a_file(root, plain):
    tracks = fit(root, "tracks")
    two, pairs = (datasets.load_machine(root / kind / "fan").test for kind in ("two", "tracks"))
    assert scores(tracks, [c.recording for c in pairs]) == scores(plain, [c.path for c in two])
    assert [c.name for c in pairs] == ["anomaly/101_Tr1.wav", "normal/100_Tr1.wav"]


def test_a_file_without_the_channels_of_the_fit_is_unusable_and_says_which_it_has(root, chosen):
    verdict = chosen.score_file(root / "two/fan/train/00.wav")
    assert verdict.decision == "unusable"
    assert verdict.error.startswith("no channel 4; it has 2 channels")


def test_a_lone_track_says_that_the_other_one_is_missing(root, plain):
    verdict = plain.score_file(root / "tracks/fan/train/00_Tr2.wav")
    assert "needs 2 channels (near, far), but the recording has 1" in verdict.error
    assert "00_Tr2.wav is one of several tracks, but no other one" in verdict.error


# streams


def pcm(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples.T, RATE, subtype="PCM_16", format="WAV")
    return file.getvalue()[44:]


def wav(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples.T, RATE, subtype="PCM_16", format="WAV")
    return file.getvalue()


TWO, OF_FOUR = clip(100), four_channels(100)


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (wav(OF_FOUR), {}),
        (wav(OF_FOUR), {"channels": 4, "rate": RATE}),
        (wav(OF_FOUR[::-1]), {"selected": (1, 3)}),
        (pcm(TWO), {}),
        (pcm(TWO), {"channels": 2}),
        (pcm(OF_FOUR), {"channels": 4, "selected": FOUR}),
    ],
)
def test_a_stream_scores_as_its_channels(root, plain, chosen, content, options):
    expected = plain.score_file(root / "two/fan/test/normal/100.wav").score
    assert chosen.score_stream(io.BytesIO(content), **options).score == expected


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (pcm(OF_FOUR), {"selected": FOUR}, "standard input: channels 4,2 of raw PCM, .* with --pcm-channels"),
        (
            wav(OF_FOUR),
            {"channels": 2},
            r"channels=2, but it is a sound file \(WAV/PCM_16\) with channels=4; omit",
        ),
        (wav(OF_FOUR), {"rate": 8000}, "rate=8000, but it is a sound file .* with rate=16000; omit rate"),
        (wav(TWO), {}, "standard input: no channel 4; it has 2 channels"),
        (
            pcm(OF_FOUR),
            {"channels": 4, "selected": (5, 1)},
            "standard input: no channel 5; it has 4 channels",
        ),
        (wav(TWO), {"channels": 0}, "channels=0, rate=16000: both must be at least 1"),
        (b"", {}, "standard input: it ended without a single byte"),
    ],
)
def test_a_stream_that_is_not_what_was_said_is_refused(chosen, content, options, message):
    with pytest.raises(AudioError, match=message):
        chosen.score_stream(io.BytesIO(content), **options)


def test_too_few_chosen_channels_are_refused(plain):
    with pytest.raises(MicrophoneError, match=r"needs 2 channels \(near, far\), but the recording has 1"):
        plain.score_stream(io.BytesIO(wav(TWO)), selected=(1,))


@pytest.mark.parametrize("content", [wav(OF_FOUR), pcm(TWO)], ids=["wav", "raw"])
def test_a_named_pipe_is_read_as_a_stream(root, plain, chosen, tmp_path, content):
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    verdict = chosen.score_file(pipe)
    writer.join()
    assert (verdict.name, verdict.error) == (str(pipe), "")
    assert verdict.score == plain.score_file(root / "two/fan/test/normal/100.wav").score


# the command line


def test_channels_from_check_to_score(root, tmp_path, plain):
    four, detector = root / "four", tmp_path / "detector"
    assert invoke("check", four, "--channels", "4,2").exit_code == 0
    done = invoke("fit", four / "fan", "-o", detector, "--channels", "4,2", "--cache", tmp_path / "cache")
    assert done.exit_code == 0, done.exception
    assert Detector.load(detector).selected_channels == FOUR
    expected = scores(plain, sorted((root / "two/fan/test").rglob("*.wav")))
    assert scored(detector, four / "fan/test") == expected
    assert scored(detector, root / "two/fan/test", "--channels", "1,2") == expected
    assert scored(detector, root / "tracks/fan/test", "--channels", "1,2") == expected


def test_tracks_are_named_on_the_command_line(root, saved_plain, plain):
    expected = scores(plain, [root / "two/fan/train/00.wav"])
    files = [root / f"tracks/fan/train/00_Tr{track}.wav" for track in (2, 1)]
    assert scored(saved_plain, *files) == expected


def test_a_run_with_channels_gives_the_scores_of_a_run_without(root, tmp_path):
    tables = []
    for kind, options in (("two", ()), ("four", ("--channels", "4,2")), ("tracks", ())):
        done = invoke(
            "run", "spectral", "--data", root / kind, "--out", tmp_path / kind, "--cache", tmp_path / "cache",
            "--false-alarm-rate", 0.1, "--workers", 1, *options,
        )  # fmt: skip
        assert done.exit_code == 0, done.exception
        (table,) = (tmp_path / kind).rglob("scores.csv")
        tables.append(table.read_text().replace("_Tr1", ""))
    assert tables[0] == tables[1] == tables[2]


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (wav(OF_FOUR), ()),
        (wav(OF_FOUR), ("--channels", "4,2")),
        (wav(OF_FOUR), ("--channels", "4")),
        (wav(OF_FOUR), ("--pcm-channels", "4")),
        (pcm(TWO), ()),
        (pcm(TWO), ("--channels", "2")),
        (pcm(OF_FOUR), ("--pcm-channels", "4")),
        (pcm(OF_FOUR[::-1]), ("--pcm-channels", "4", "--channels", "1,3")),
    ],
)
def test_channels_of_standard_input(root, plain, saved, content, options):
    expected = scores(plain, [root / "two/fan/test/normal/100.wav"])
    assert scored(saved, "-", *options, stdin=content) == expected


@pytest.mark.parametrize("command", ["check {data}", "fit {data}/fan -o {out}", "score {saved} {data}"])
@pytest.mark.parametrize(
    ("channels", "message"),
    [("0,1", "the first channel is 1"), ("2,2", "channel 2 is there 2 times"), (",", "a channel is empty")],
)
def test_strange_channels_are_wrong_usage(root, saved, tmp_path, command, channels, message):
    words = [w.format(data=root / "four", out=tmp_path / "d", saved=saved) for w in command.split()]
    done = invoke(*words, "--channels", channels)
    assert done.exit_code == 2
    assert message in done.output


@pytest.mark.parametrize("form", [(), ("--csv",), ("--json",)])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_name_that_is_not_utf_8_has_a_verdict(saved_plain, tmp_path, form, encoding):
    odd = odd_clips(tmp_path)
    done = called.nearfar("score", saved_plain, tmp_path / "score", *form, env=HERE, encoding=encoding)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("normal") >= 2
    assert r"\xfcfter.wav" in done.stdout.replace("\n", "")
    if form == ("--json",):
        assert json.loads(done.stdout.splitlines()[0])["recording"] == encodable(str(odd))


def test_a_name_that_is_not_utf_8_has_a_verdict_from_a_process_of_its_own(saved_plain, tmp_path):
    odd_clips(tmp_path)
    done = process("score", saved_plain, tmp_path / "score", encoding="ascii:strict")
    assert done.returncode == 0, done.stderr
    assert rb"\xfcfter.wav" in done.stdout.replace(b"\n", b"")


def odd_clips(folder: Path) -> Path:
    """A recording, and one of a name that is not UTF-8, which is returned."""
    odd = Path(os.fsdecode(os.fsencode(folder) + b"/score/L\xfcfter.wav"))
    write(folder / "score/a.wav", clip(100))
    shutil.copy(folder / "score/a.wav", odd)
    return odd


def test_names_that_are_not_utf_8_are_fitted_and_digested(root, tmp_path, plain):
    shutil.copytree(root / "two/fan/train", tmp_path / "fan")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/fan/L\xfcfter.wav"))
    (tmp_path / "fan/00.wav").rename(odd)
    jobs = Jobs(tmp_path / "cache")
    for _ in range(2):  # the second time, the digest is remembered
        fitted = Detector.fit(tmp_path / "fan", "spectral", false_alarm_rate=0.1, jobs=jobs)
        score = plain.score_file(root / "two/fan/train/00.wav").score
        assert fitted.score_file(odd).score == pytest.approx(
            score, rel=1e-9
        )  # the order of the clips is another


def test_names_that_are_not_utf_8_are_escaped_in_results(root, tmp_path):
    shutil.copytree(root / "two", tmp_path / "data")
    for folder in ("train", "test/normal"):
        odd = os.fsdecode(os.fsencode(tmp_path / "data/fan" / folder) + b"/L\xfcfter.wav")
        shutil.copy(root / "two/fan/test/normal/100.wav", odd)
    checked = called.nearfar("check", tmp_path / "data", "--json", env=HERE)
    assert "fan/test/normal/L\\xfcfter.wav" in {problem["where"] for problem in json.loads(checked.stdout)}
    done = invoke(
        "run", "spectral", "--data", tmp_path / "data", "--out", tmp_path / "out", "--cache", tmp_path / "cache",
        "--false-alarm-rate", 0.1, "--workers", 1,
    )  # fmt: skip
    assert done.exit_code == 0, done.exception
    assert r"fan/test/normal/L\xfcfter.wav" in (tmp_path / "out/scores.csv").read_text()
