"""``explain``: what is said of one recording, and the command that shows it."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import synthetic
from rich.console import Console, RenderableType
from typer.testing import CliRunner, Result

import nearfar
from nearfar.cli import app, console
from nearfar.detector.fitted import BranchScore, Detector, Verdict
from nearfar.evidence.contents import plain
from nearfar.evidence.courses import Course
from nearfar.evidence.explanation import Explanation, _Looking, explain
from nearfar.evidence.maps import BranchMap
from nearfar.evidence.reasons import Compared
from nearfar.recordings import audio
from nearfar.report import explanations
from nearfar.report.pages import explained

RATE = synthetic.RATE
SECONDS = 2.0


@pytest.fixture(scope="module")
def fan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write_machine(tmp_path_factory.mktemp("data"), "fan", train=24, seconds=SECONDS)


@pytest.fixture(scope="module")
def folder(fan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detectors") / "fan"
    Detector.fit(fan, "spectral").save(folder)
    return folder


@pytest.fixture(scope="module")
def detector(folder: Path) -> Detector:
    return Detector.load(folder)


@pytest.fixture(scope="module")
def faulty(fan: Path) -> Path:
    return sorted((fan / "test").glob("*source_test_anomaly*"))[0]


@pytest.fixture(scope="module")
def normal(fan: Path, detector: Detector) -> Path:
    paths = sorted((fan / "test").glob("*source_test_normal*"))
    return next(path for path in paths if detector.score_file(path).decision == "normal")


@pytest.fixture(scope="module")
def found(detector: Detector, faulty: Path) -> Explanation:
    return explain(detector, faulty)


def with_tone(hertz: float, level: float, seed: int = 77) -> audio.Samples:
    """A normal clip, and near a tone that no normal clip has."""
    samples = synthetic.clip(seed, seconds=SECONDS)
    time = np.arange(samples.shape[1]) / RATE
    samples[0] += (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)
    return samples


def test_an_anomaly_has_reasons_and_everything_to_look_at(found: Explanation, faulty: Path) -> None:
    assert found.verdict.decision == "anomaly"
    assert found.name == str(faulty)
    assert found.reasons
    assert found.headline.startswith("Anomaly")
    assert found.words[0] == found.headline
    assert found.p_value_means in found.words
    assert {one.view for one in found.bands} == {"near", "far", "cancelled_3taps"}
    assert [one.view for one in found.spectra] == ["near", "far", "cancelled_3taps"]
    assert found.spectra[0].clips > 0
    assert len(found.neighbours) == 3
    assert found.sound is not None
    assert found.sound.near.dtype == np.float32
    assert found.sound.cancelled is not None
    assert found.envelope is not None
    assert len(found.envelope.normal) == 3
    assert not found.missing
    assert len(found.reference_scores) == 28


def test_a_tone_is_named_by_its_frequency(detector: Detector) -> None:
    told = explain(detector, with_tone(3210.0, 0.02), RATE, name="whistle")
    first = told.reasons[0]
    assert told.verdict.decision == "anomaly"
    assert first.low_hz <= 3210 < first.high_hz
    assert first.direction == "louder"
    assert first.course is not None
    assert first.course.tone_hz == pytest.approx(3210, abs=1)
    assert first.far == "not heard"
    assert "as a tone at 3.21 kHz" in told.headline
    assert told.name == "whistle"


def test_a_normal_clip_is_never_given_a_reason(detector: Detector, normal: Path) -> None:
    told = explain(detector, normal)
    assert told.verdict.decision == "normal"
    assert told.reasons == ()
    assert told.envelope is None
    assert told.headline.startswith("Normal: there is nothing to explain")
    assert told.bands
    assert told.maps


def test_the_p_value_is_explained_by_counting(detector: Detector, normal: Path, found: Explanation) -> None:
    assert "none of the 28 normal clips behind the threshold scored as high" in found.p_value_means
    told = explain(detector, normal)
    higher = int((told.reference_scores >= told.verdict.score).sum())
    assert (
        f"{higher} of the 28 normal clips behind the threshold scored as high or higher" in told.p_value_means
    )
    assert "Up to 0.05 counts as an anomaly" in told.p_value_means


@pytest.mark.parametrize("channel", [0, 1])
def test_an_unusable_recording_is_given_no_reason(detector: Detector, faulty: Path, channel: int) -> None:
    samples, rate = audio.read(faulty)
    samples[channel] = 0
    told = explain(detector, samples, rate)
    assert told.verdict.decision == "unusable"
    assert told.reasons == ()
    assert told.headline.startswith("Unusable")
    assert "the verdict cannot be trusted" in " ".join(told.health)
    said = " ".join(told.words).lower()
    assert said.count("microphone is silent") == 1
    assert "counts as an anomaly" not in said  # a p-value of such a recording means nothing
    assert told.p_value_means == ""
    name = ("near", "far")[channel]
    assert any(sentence.startswith(f"The {name} microphone is silent") for sentence in told.health)


def test_a_recording_that_cannot_be_read_says_why(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    for path in (tmp_path / "broken.wav", tmp_path / "absent.wav"):
        told = explain(detector, path)
        assert told.verdict.decision == "unusable"
        assert told.sound is None
        assert told.verdict.error
        assert told.headline.startswith("Unusable: ")
        json.loads(told.to_json())


def test_one_channel_is_too_few(detector: Detector, tmp_path: Path) -> None:
    audio.write(tmp_path / "mono.wav", synthetic.clip(0)[:1], RATE)
    assert "needs 2 channels" in explain(detector, tmp_path / "mono.wav").verdict.error


def test_a_detector_of_one_microphone(fan: Path, faulty: Path) -> None:
    near = Detector.fit(fan, "spectral_near")
    told = explain(near, faulty)
    assert told.reasons[0].view == "near"
    mono = explain(near, synthetic.clip(5, faulty=True, seconds=SECONDS)[:1], RATE)
    assert mono.sound is not None
    assert mono.sound.far is None
    assert {reason.far for reason in mono.reasons} <= {"unknown"}
    assert "There is no far microphone" in " ".join(mono.missing)


@pytest.mark.parametrize(
    ("keep", "said"),
    [("nothing", "does not keep how normal clips sound"), ("embeddings", "keeps no normal recordings")],
)
def test_what_a_detector_does_not_keep_is_said(fan: Path, faulty: Path, keep: str, said: str) -> None:
    told = explain(Detector.fit(fan, "spectral", keep=keep), faulty)  # type: ignore[arg-type]
    assert said in " ".join(told.missing)
    assert "nearfar fit" in " ".join(told.missing)
    assert not told.neighbours
    assert bool(told.reasons) == (keep == "embeddings")
    assert told.spectra[0].median is None
    assert told.headline.startswith("Anomaly")
    json.loads(told.to_json())


@pytest.mark.parametrize(("all_of_them", "neighbours"), [(True, 0), (False, 3)])
def test_normal_recordings_that_cannot_be_read_are_left_out_and_told_once(
    folder: Path, faulty: Path, tmp_path: Path, found: Explanation, all_of_them: bool, neighbours: int
) -> None:
    shutil.copytree(folder, tmp_path / "det")
    detector = Detector.load(tmp_path / "det")
    assert detector.sounds is not None
    nearest = found.neighbours[0].name
    lost = [clip for clip in detector.sounds.clips if all_of_them or clip.name == nearest]
    for number, clip in enumerate(lost):
        path = tmp_path / "det" / clip.file
        path.write_bytes(b"fLaC") if number % 2 else path.unlink()
    told = explain(Detector.load(tmp_path / "det"), faulty)
    assert told.headline.startswith("Anomaly")
    assert told.verdict.score == found.verdict.score
    assert len(told.reasons) == len(found.reasons)
    assert len(told.neighbours) == neighbours
    assert nearest not in {one.name for one in told.neighbours}
    said = [sentence for sentence in told.missing if "cannot be read" in sentence]
    count = f"{len(lost)} normal recordings" if all_of_them else "1 normal recording of"
    assert len(said) == len(told.missing) == 1
    assert said[0].startswith(count)
    assert "restore it from a copy of the detector, or fit again" in said[0]
    if all_of_them:  # of which a page and a picture have least
        done = run(tmp_path / "det", faulty, "-o", tmp_path / "page.html", "--png", tmp_path / "picture.png")
        assert done.exit_code == 0, done.output


def test_without_a_threshold_there_is_no_decision(detector: Detector, faulty: Path) -> None:
    told = explain(dataclasses.replace(detector, threshold=None), faulty)
    assert told.verdict.decision == ""
    assert told.p_value_means == ""
    assert told.headline.startswith("No decision")
    assert len(told.reference_scores) == 0


def test_without_a_threshold_nothing_is_said_of_a_decision(
    detector: Detector, normal: Path, hours: Path
) -> None:
    undecided = dataclasses.replace(detector, threshold=None)
    told = explain(undecided, normal)
    assert told.reasons[0].kind == "combination"
    assert told.headline.startswith("No decision; most telling is the sound at ")
    said = " ".join(explain(undecided, hours).words)
    assert "from 0:12 on, the most anomalous of 10 windows. " in said
    assert "are anomalous" not in said


def test_anomalous_windows_are_not_counted_where_nothing_is_decided(detector: Detector, hours: Path) -> None:
    undecided = json.loads(explain(dataclasses.replace(detector, threshold=None), hours).to_json())
    assert undecided["window"]["windows"] == 10
    assert undecided["window"]["anomalous"] is None
    assert json.loads(explain(detector, hours).to_json())["window"]["anomalous"] >= 1
    assert json.loads(explain(detector, hours, at=4.0).to_json())["window"]["anomalous"] is None


@pytest.mark.parametrize(("clips", "reasons"), [(1, False), (9, False), (10, True)])
def test_a_few_normal_clips_do_not_tell_what_is_unusual(
    detector: Detector, clips: int, reasons: bool
) -> None:
    assert detector.sounds is not None
    few = dataclasses.replace(
        detector.sounds,
        levels=detector.sounds.levels[:clips], peaks=detector.sounds.peaks[:clips],
        domain=detector.sounds.domain[:clips], contents=detector.sounds.contents[:clips],
        clips=tuple(clip for clip in detector.sounds.clips if clip.row < clips),
    )  # fmt: skip
    told = explain(dataclasses.replace(detector, sounds=few), with_tone(3210.0, 0.02), RATE)
    assert told.verdict.decision == "anomaly"
    assert bool(told.reasons) == reasons
    said = [words for words in told.missing if "told by 10 or more; fit it with more of them" in words]
    assert bool(said) != reasons
    if said:
        counted = "1 normal clip" if clips == 1 else f"{clips} normal clips"
        assert f"the levels of {counted} only, so reasons are missing" in said[0]
        assert told.headline == "Anomaly."


FUSED = """
name = "near_and_cancelled"
summary = "Near, and near without what far explains."
source = "Ours, for a test."
protocol = "fixed configuration"

[fusion]
weights = { near = 0.3, cancelled = 0.7 }
calibration = "own_normals"
false_alarm_rate = 0.05

[branches.near]
system = "spectral_near"

[branches.cancelled]
system = "spectral"
"""


def test_a_fused_detector_is_explained_by_branch(fan: Path, faulty: Path, tmp_path: Path) -> None:
    (tmp_path / "near_and_cancelled.toml").write_text(FUSED)
    fused = Detector.fit(fan, tmp_path / "near_and_cancelled.toml")
    told = explain(fused, faulty)
    assert told.verdict.decision == "anomaly"
    assert {one.branch for one in told.maps} == {"near", "cancelled"}
    assert {one.branch for one in told.neighbours} == {"near", "cancelled"}
    first = max(told.verdict.branches, key=lambda branch: branch.contribution)
    sentence = next(words for words in told.words if words.startswith("Of the score of"))
    assert sentence.index(f"{first.name} adds {first.contribution:.3g} (p = {first.p_value:.2g})") < 40
    assert {reason.view for reason in told.reasons} <= {"near", "cancelled_3taps"}
    assert told.reasons[0].score_share is not None
    agreed = dataclasses.replace(
        told, neighbours=told.neighbours * 2
    )  # as of branches that find the same clips
    for one in told.neighbours:
        assert shown(explanations.terminal(agreed)).count(one.name) == 1


def test_the_members_of_an_ensemble_share_the_contribution_of_their_part() -> None:
    """Two members of an ensemble beside one branch that contributes three times as much."""

    def map_of(branch: str, band: int) -> BranchMap:
        values = np.zeros((4, 5))
        values[band] = 0.2
        edges = np.array([100.0, 200.0, 300.0, 400.0, 500.0])
        return BranchMap(branch, "near", "", np.arange(6.0), edges, values, score=1.0, typical=0.0)

    ensemble, single = (SimpleNamespace(name=n, size=s) for n, s in (("dca", 2), ("near", 1)))
    looking = _Looking(
        detector=cast(Any, SimpleNamespace(system=SimpleNamespace(parts=(ensemble, single)))),
        compared=Compared(np.array([100.0, 200.0, 300.0, 400.0, 500.0]), {}, {}, ()),
        maps=[map_of("dca (1 of 2)", 0), map_of("dca (2 of 2)", 1), map_of("near", 3)],
        sound=cast(Any, None),
        near_to=(),
        verdict=Verdict(
            "a",
            1.0,
            0.1,
            "anomaly",
            branches=(BranchScore("dca", 1.0, 0.1, 1.0), BranchScore("near", 1.0, 0.1, 3.0)),
        ),
    )
    mass = looking._mass()
    assert mass is not None
    assert mass.tolist() == pytest.approx([0.125, 0.125, 0.0, 0.75])


@pytest.fixture(scope="module")
def hours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips in a row, of which the seventh is faulty."""
    path = tmp_path_factory.mktemp("long") / "press.wav"
    clips = [synthetic.clip(300 + i, faulty=i == 6, seconds=SECONDS) for i in range(10)]
    audio.write(path, np.concatenate(clips, axis=1), RATE)
    return path


def test_of_a_long_recording_the_most_anomalous_window_is_explained(detector: Detector, hours: Path) -> None:
    told = explain(detector, hours)
    assert told.window is not None
    assert (told.window.start, told.window.seconds) == (12.0, 2.0)
    assert (told.window.chosen, told.window.windows) == ("most anomalous", 10)
    assert told.name == f"{hours}#t=12,14"
    assert told.verdict.decision == "anomaly"
    assert "the window of 2 s from 0:12 on, the most anomalous of 10 windows" in " ".join(told.words)
    samples, rate = audio.read(hours)
    same = explain(detector, samples, rate, name="press")
    assert same.window is not None
    assert (same.window.start, same.name) == (12.0, "press#t=12,14")
    assert same.verdict.score == told.verdict.score


def test_a_window_that_is_asked_for(detector: Detector, hours: Path) -> None:
    told = explain(detector, hours, at=11.5)
    assert told.window is not None
    assert (told.window.start, told.window.chosen) == (11.5, "asked")
    at_end = explain(detector, hours, at=19.5)
    assert at_end.window is not None
    assert at_end.window.start == 18.0
    with pytest.raises(ValueError, match=r"at=25: must be within the recording; .*press.wav is 20 s long"):
        explain(detector, hours, at=25.0)
    with pytest.raises(ValueError, match="at=-1: must be within the recording"):
        explain(detector, hours, at=-1.0)


def test_bad_arguments(detector: Detector, faulty: Path) -> None:
    with pytest.raises(TypeError, match="rate is missing"):
        explain(detector, synthetic.clip(0))
    with pytest.raises(TypeError, match=r"rate=16000: the file .* has its own rate"):
        explain(detector, faulty, RATE)
    with pytest.raises(ValueError, match="neighbours=-1: must be at least 0"):
        explain(detector, faulty, neighbours=-1)
    assert explain(detector, faulty, neighbours=0).neighbours == ()


def test_it_is_public_and_takes_a_folder(folder: Path, faulty: Path) -> None:
    assert nearfar.explain(folder, str(faulty)).verdict.decision == "anomaly"


def test_it_can_be_pickled_and_is_the_same_each_time(
    detector: Detector, faulty: Path, found: Explanation
) -> None:
    again = pickle.loads(pickle.dumps(explain(detector, faulty)))
    assert again.to_json() == found.to_json()


def test_the_json_is_complete(found: Explanation) -> None:
    content = json.loads(found.to_json())
    keys = {field.name for field in dataclasses.fields(Explanation)} - {"name", "verdict", "sound"}
    assert keys <= content.keys()
    assert content["format"] == 1
    assert content["decision"] == "anomaly"
    assert content["recording"] == found.name
    assert content["reasons"][0]["words"] == found.reasons[0].words
    assert "bursts" in [reason["course"] and reason["course"]["kind"] for reason in content["reasons"]]
    assert "sound" not in content["neighbours"][0]
    assert np.shape(content["maps"][0]["values"]) == found.maps[0].values.shape
    assert np.shape(content["bands"][0]["normal"])[0] == 5
    documented = (Path(__file__).parents[1] / "docs" / "explain.md").read_text()
    assert not [key for key in content if f"`{key}`" not in documented]


def test_json_has_no_number_that_is_none() -> None:
    told = plain(
        {"a": float("nan"), "b": np.array([[np.inf, 1.23456789]]), "c": (np.float32(2), None, "L\udcfc")}
    )
    assert told == {"a": None, "b": [[None, 1.23457]], "c": [2.0, None, "L\\xfc"]}
    with pytest.raises(TypeError, match=r"Path: has no form in JSON"):
        plain(Path("x"))


def shown(table: RenderableType, width: int = 300) -> str:
    """What a terminal of this width shows."""
    console = Console(width=width, file=io.StringIO())
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_the_table_fits_into_a_narrow_terminal(found: Explanation) -> None:
    course = Course("part", begin_s=1.6, end_s=1.8, tone_hz=3210.0)
    long = dataclasses.replace(
        found.reasons[0],
        view="cancelled_3taps",
        low_hz=890.0,
        high_hz=3600.0,
        from_median_db=33.0,
        course=course,
    )
    told = dataclasses.replace(found, reasons=(long, *found.reasons))
    table = shown(explanations.terminal(told), width=80)
    assert "…" not in table
    lines = [line for line in table.splitlines() if line.startswith(("┏", "└"))]
    assert [line[-1] for line in lines] == ["┓", "┘"]  # it is not cut off
    assert "│ cancelled │" in table


@pytest.mark.parametrize(("rate", "said"), [(1.2, "swelling, 1.2"), (12.0, "bursts, 12")])
def test_a_slow_burst_is_a_swelling_in_the_tables_also(found: Explanation, rate: float, said: str) -> None:
    course = Course("bursts", rate_hz=rate)
    assert explanations.in_time(dataclasses.replace(found.reasons[0], course=course)).startswith(said)
    assert (explained._in_time(course) or "").startswith(said)


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sentences are not broken into lines; a console takes its width when it is made, in another test perhaps."""
    monkeypatch.setattr(console.out, "_width", 300)


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["explain", *map(str, arguments)], input=stdin)


def test_the_command_prints_the_words(folder: Path, faulty: Path, found: Explanation) -> None:
    done = run(folder, faulty)
    assert done.exit_code == 0, done.output
    for sentence in found.words:
        assert sentence in done.stdout
    assert "Nearest normal clips: " in done.stdout
    assert run(folder, faulty, "--fail-on-anomaly").exit_code == 3


def test_the_command_prints_json(folder: Path, faulty: Path, found: Explanation) -> None:
    done = run(folder, faulty, "--json")
    assert json.loads(done.stdout) == json.loads(found.to_json())


def test_an_unusable_recording_exits_with_one(folder: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path / "absent.wav").exit_code == 1


def test_standard_input(folder: Path, faulty: Path, found: Explanation) -> None:
    done = run(folder, "-", "--json", stdin=faulty.read_bytes())
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["recording"] == "standard input"
    assert told["score"] == pytest.approx(found.verdict.score)
    pcm = (audio.read(faulty)[0].T * 32768).astype("<i2").tobytes()
    raw = json.loads(run(folder, "-", "--json", "--rate", RATE, stdin=pcm).stdout)
    assert raw["score"] == pytest.approx(found.verdict.score, rel=1e-3)


def test_the_tracks_of_one_recording(folder: Path, faulty: Path, found: Explanation, tmp_path: Path) -> None:
    samples, rate = audio.read(faulty)
    tracks = [tmp_path / f"press_Tr{i + 1}.wav" for i in range(2)]
    for path, channel in zip(tracks, samples, strict=True):
        audio.write(path, channel[None], rate)
    told = json.loads(run(folder, *tracks, "--json").stdout)
    assert told["score"] == pytest.approx(found.verdict.score, rel=1e-6)


def test_a_time_is_written_as_people_write_it(folder: Path, hours: Path) -> None:
    told = json.loads(run(folder, hours, "--at", "0:12", "--json").stdout)
    assert (told["window"]["start"], told["window"]["chosen"]) == (12.0, "asked")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{faulty}", "{faulty}"], "2 recordings: one recording is explained at a time"),
        (["{folder}"], "is a folder: one recording is explained at a time; find the anomalous ones with"),
        (["{faulty}", "--rate", "16000"], "a file tells its own"),
        (["{faulty}", "--at", "noon"], "--at='noon': no time"),
        (["{faulty}", "--channels", "1,1"], "--channels: "),
    ],
)
def test_wrong_usage_says_what_to_do(folder: Path, faulty: Path, arguments: list[str], message: str) -> None:
    done = run(folder, *(one.format(faulty=faulty, folder=folder) for one in arguments))
    assert done.exit_code == 2
    assert message in " ".join(done.output.replace("│", " ").split())


def test_files_are_refused_before_anything_is_computed(folder: Path, faulty: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"page.txt: a page is a file that ends in .html"):
        explanations.refuse(tmp_path / "page.txt", None, replace=False)
    with pytest.raises(ValueError, match=r"picture.jpg: a picture is a file that ends in .png"):
        explanations.refuse(None, tmp_path / "picture.jpg", replace=False)
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(IsADirectoryError, match=r"folder.html is a folder; choose another name for a page"):
        explanations.refuse(tmp_path / "folder.html", None, replace=True)
    (tmp_path / "page.html").write_text("mine")
    with pytest.raises(FileExistsError, match="is there already"):
        explanations.refuse(tmp_path / "page.html", None, replace=False)
    explanations.refuse(tmp_path / "page.html", tmp_path / "new.png", replace=True)
    done = run(folder, faulty, "-o", tmp_path / "page.html")
    assert isinstance(done.exception, FileExistsError)
    assert (tmp_path / "page.html").read_text() == "mine"


def test_the_page_and_the_picture_are_written(folder: Path, faulty: Path, tmp_path: Path) -> None:
    done = run(folder, faulty, "-o", tmp_path / "page.html", "--png", tmp_path / "picture.png")
    assert done.exit_code == 0, done.output
    assert "nearfar" in (tmp_path / "page.html").read_text()
    assert f"{tmp_path / 'page.html'} (" in done.stderr
    assert f"{tmp_path / 'picture.png'} (" in done.stderr
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "picture.png"]


def test_a_hostile_name_is_no_markup_on_a_terminal(folder: Path, faulty: Path, tmp_path: Path) -> None:
    odd = tmp_path / "[bold]\x1b[31m.wav"
    odd.write_bytes(faulty.read_bytes())
    done = run(folder, odd)
    assert "[bold]\\x1b[31m.wav" in done.stdout
