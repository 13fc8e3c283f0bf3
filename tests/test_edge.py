"""The runner of exported detectors: one file, which must read and judge as nearfar does, and need nothing of it."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import logging
import os
import struct
import subprocess
import sys
import sysconfig
import threading
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import write_machine

from nearfar import Detector as NearfarDetector
from nearfar.export import nearfar_edge, runner
from nearfar.export.nearfar_edge import (
    Detector,
    EdgeError,
    Heard,
    Sound,
    Stored,
    Verdict,
    decoded,
    open_pcm,
    open_wav,
)
from nearfar.files.steps import Jobs
from nearfar.recordings import audio, containers, sound_files
from nearfar.recordings.inspection import usual
from nearfar.recordings.recording import Recording
from nearfar.windows import cutting
from nearfar.windows.cutting import Cut

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

RATE = 1000
SOURCE = Path(nearfar_edge.__file__)
LIMIT = 0.1  # of the toy: the mean of all magnitudes
SUBTYPES = {
    "u8": "PCM_U8",
    "s16le": "PCM_16",
    "s24le": "PCM_24",
    "s32le": "PCM_32",
    "f32le": "FLOAT",
    "f64le": "DOUBLE",
}


def toy(path: Path, *, samples: int | None = None, score: str = "mean", **said: str | None) -> Path:
    """A file like an exported one, whose score is the mean magnitude of all samples; ``said`` is its metadata."""
    helper, kind = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Abs", ["samples"], ["magnitudes"]),
        helper.make_node("ReduceMean", ["magnitudes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "nothing"], ["infinite"]),
        helper.make_node("Cast", [score], ["score"], to=kind.DOUBLE),
        helper.make_node("Greater", ["score", "limit"], ["is_anomaly"]),
        helper.make_node("Cast", ["is_anomaly"], ["flag"], to=kind.DOUBLE),
        helper.make_node("Sub", ["one", "flag"], ["p_value"]),
        helper.make_node("Unsqueeze", ["score", "axes"], ["branch_scores"]),
    ]
    constants = [
        helper.make_tensor("nothing", kind.FLOAT, [], [0.0]),
        helper.make_tensor("limit", kind.DOUBLE, [], [LIMIT]),
        helper.make_tensor("one", kind.DOUBLE, [], [1.0]),
        helper.make_tensor("axes", kind.INT64, [1], [0]),
    ]
    outputs = {"score": kind.DOUBLE}
    if said.get("threshold", str(LIMIT)):
        outputs |= {"p_value": kind.DOUBLE, "is_anomaly": kind.BOOL}
    shapes = [helper.make_tensor_value_info(name, of, []) for name, of in outputs.items()]
    if said.get("system") == "fused":
        shapes.append(helper.make_tensor_value_info("branch_scores", kind.DOUBLE, [1]))
    given = helper.make_tensor_value_info("samples", kind.FLOAT, [2, samples or "samples"])
    graph = helper.make_graph(nodes, "toy", [given], shapes, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    metadata = {
        "format": "1", "version": "0.0", "machine": "fan", "system": "toy", "rate": str(RATE),
        "channels": "2", "selected": "[]", "samples": str(samples or ""), "least_samples": "10",
        "window_seconds": "1.0", "threshold": str(LIMIT), "false_alarm_rate": "0.05", "arithmetic": "float32",
    } | said  # fmt: skip
    onnx.helper.set_model_props(model, {f"nearfar.{k}": v for k, v in metadata.items() if v is not None})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def fan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy(tmp_path_factory.mktemp("edge") / "fan.onnx")


def noise(frames: int, *, level: float = 0.1, channels: int = 2, seed: int = 0) -> np.ndarray:
    samples = level * np.random.default_rng(seed).uniform(-1, 1, (channels, frames))
    return samples.astype(np.float32)


def wav(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    soundfile.write(path, samples.T, rate, subtype="FLOAT")
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str], list[str]]:
    """Exit code, and the lines on standard output and error."""
    code = nearfar_edge.main([str(one) for one in arguments])
    told = capsys.readouterr()
    return code, told.out.splitlines(), told.err.splitlines()


def all_of(sound: Sound, at_once: int = 64) -> np.ndarray:
    blocks = [sound.read(at_once)]
    while blocks[-1].shape[1]:
        blocks.append(sound.read(at_once))
    return np.concatenate(blocks, axis=1)


# what is read


class Chunks:
    """A WAV, chunk by chunk, as recorders and pipes write them."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.coding = draw(st.sampled_from(sorted(SUBTYPES)))
        self.channels = draw(st.integers(1, 3))
        self.frames = draw(st.integers(2, 40))  # a single byte after a size of 0 may be padding
        self.is_extensible = draw(st.booleans())
        self.magic = draw(st.sampled_from([b"RIFF", b"RF64"]))
        self.size = draw(st.sampled_from(["true", "zero", "unknown"]))
        junk = st.tuples(st.sampled_from([b"JUNK", b"iXML", b"odd "]), st.binary(max_size=9))
        self.before, self.after = draw(st.lists(junk, max_size=2)), draw(st.lists(junk, max_size=2))
        dtype, width, _ = nearfar_edge.CODINGS[self.coding]
        count = self.frames * self.channels
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        if dtype[1] == "f":
            self.sound = rng.uniform(-1, 1, count).astype(dtype).tobytes()
        else:
            self.sound = rng.bytes(count * width)

    def __repr__(self) -> str:
        return str({name: value for name, value in vars(self).items() if name != "sound"})

    def content(self) -> bytes:
        width = nearfar_edge.CODINGS[self.coding][1]
        align, tag = width * self.channels, 3 if self.coding[0] == "f" else 1
        told = tag if not self.is_extensible else 0xFFFE
        fmt = struct.pack("<HHIIHH", told, self.channels, RATE, RATE * align, align, 8 * width)
        if self.is_extensible:
            fmt += struct.pack("<HHIH", 22, 8 * width, 0, tag) + nearfar_edge.GUID
        said = {"true": len(self.sound), "zero": 0, "unknown": 0xFFFFFFFF}[self.size]
        chunks = [(name, part, len(part)) for name, part in [*self.before, (b"fmt ", fmt)]]
        if self.magic == b"RF64":
            large = (1 << 64) - 1 if self.size == "unknown" else said
            sizes = struct.pack("<QQQI", 0, large, self.frames, 0)
            chunks.insert(0, (b"ds64", sizes, len(sizes)))
            said = 0xFFFFFFFF
        chunks.append((b"data", self.sound, said))
        if self.size == "true":  # else nothing tells where the sound ends
            chunks += [(name, part, len(part)) for name, part in self.after]
        body = b"".join(n + struct.pack("<I", size) + part + bytes(len(part) % 2) for n, part, size in chunks)
        if self.size != "true" and len(self.sound) % 2:
            body = body[:-1]
        return self.magic + struct.pack("<I", 0xFFFFFFFF) + b"WAVE" + body


@st.composite
def wavs(draw: st.DrawFn) -> Chunks:
    return Chunks(draw)


@given(wavs())
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_header_is_read_as_nearfar_and_libsndfile_do(tmp_path: Path, made: Chunks) -> None:
    content = made.content()
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with path.open("rb") as file:
        of_file = open_wav(file)
        found = all_of(of_file)
    np.testing.assert_array_equal(found, all_of(open_wav(io.BytesIO(content))))  # as of a pipe
    assert (of_file.frames, of_file.stored.channels, of_file.stored.rate) == (
        made.frames,
        made.channels,
        RATE,
    )
    if made.magic == b"RIFF" or (made.size != "unknown" and not made.before):  # RF64 that libsndfile reads
        np.testing.assert_array_equal(found, audio.read(path)[0])
    raw = {"format": "RAW", "subtype": SUBTYPES[made.coding], "channels": made.channels, "samplerate": RATE}
    by_libsndfile, _ = soundfile.read(io.BytesIO(made.sound), dtype="float32", always_2d=True, **raw)
    np.testing.assert_array_equal(found, by_libsndfile.T)


@given(wavs(), st.data())
@settings(max_examples=80)
def test_a_damaged_header_is_sound_or_one_clear_error(made: Chunks, data: st.DataObject) -> None:
    content = bytearray(made.content())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    with contextlib.suppress(EdgeError):
        assert all_of(open_wav(io.BytesIO(content)), 2**12).dtype == np.float32


def test_it_knows_the_same_limits_as_nearfar() -> None:
    for name in ("UNKNOWN_LENGTH", "UNKNOWN_LENGTH_64", "FULL_32", "TOLERATED", "SMALL_SHARE", "TINY_SHARE"):
        assert getattr(nearfar_edge, name) == getattr(containers, name)
    assert nearfar_edge.LEAST_REST == cutting.LEAST_REST
    assert nearfar_edge.LENGTH_MARGIN == usual.LENGTH_MARGIN
    assert nearfar_edge.CODINGS["s16le"][2] == sound_files.INT16_SCALE


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if size is None else size) + content


def file_of(*chunks: bytes, magic: bytes = b"RIFF") -> bytes:
    return magic + bytes(4) + b"WAVE" + b"".join(chunks)


def fmt(*, tag: int = 1, channels: int = 2, bits: int = 16, valid: int | None = None) -> bytes:
    align = channels * bits // 8
    told = tag if valid is None else 0xFFFE
    content = struct.pack("<HHIIHH", told, channels, RATE, RATE * align, align, bits)
    if valid is not None:
        content += struct.pack("<HHIH", 22, valid, 0, tag) + nearfar_edge.GUID
    return chunk(b"fmt ", content)


SOUND = bytes(range(200)) * 100
LARGE = chunk(b"ds64", struct.pack("<QQQI", 0, 1 << 33, 0, 0))
LOW = np.arange(-900, 900, dtype="<i4").tobytes()
BROKEN = {
    "empty": (b"", r"empty \(0 bytes\)"),
    "text": (b"not a recording at all", "not a WAV file"),
    "big-endian": (file_of(fmt(), magic=b"RIFX"), "not a WAV file"),
    "no samples": (file_of(fmt(), chunk(b"data", b"")), "holds no samples"),
    "no chunk of samples": (file_of(fmt(), chunk(b"LIST", b"1234")), "no chunk of samples"),
    "no format": (file_of(chunk(b"data", SOUND)), "nothing says how they are stored"),
    "ADPCM": (file_of(fmt(tag=2, bits=4), chunk(b"data", SOUND)), "format 0x2"),
    "no channel": (file_of(fmt(channels=0), chunk(b"data", SOUND)), "says 0 channels"),
    "cut": (file_of(fmt(), chunk(b"data", SOUND[:9000], 20000)), "truncated, 11000 of 20000 bytes of sound"),
    "cut RF64": (
        file_of(LARGE, fmt(), chunk(b"data", SOUND, 0xFFFFFFFF), magic=b"RF64"),
        "truncated, 8589914592 of 8589934592 bytes",
    ),
    "24 low bits of 32": (
        file_of(fmt(bits=32, valid=24), chunk(b"data", LOW)),
        "24 bits lie at the lower end of 32",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("way", ["file", "pipe"])
def test_what_is_no_recording_is_refused_for_what_it_is(
    fan: Path, tmp_path: Path, kind: str, way: str
) -> None:
    content, match = BROKEN[kind]
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    opened = path.open("rb") if way == "file" else io.BytesIO(content)
    with opened as file, pytest.raises(EdgeError, match=match):
        list(Detector(fan).listen(open_wav(file)))


def test_a_header_that_counts_a_little_too_much_is_forgiven(tmp_path: Path) -> None:
    content = file_of(fmt(), chunk(b"data", SOUND, len(SOUND) + 44))
    (tmp_path / "a.wav").write_bytes(content)
    with (tmp_path / "a.wav").open("rb") as file:
        assert all_of(open_wav(file)).shape == (2, len(SOUND) // 4)
    assert all_of(open_wav(io.BytesIO(content))).shape == (2, len(SOUND) // 4)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not a single byte"),
        (file_of(fmt()), "begins as a WAV file; omit --pcm"),
        (SOUND[:-1], "ends within a frame"),
    ],
)
def test_raw_samples_are_whole_frames_of_something(content: bytes, match: str) -> None:
    with pytest.raises(EdgeError, match=match):
        all_of(open_pcm(io.BytesIO(content), Stored("s16le", RATE, 2)))


def test_a_raw_file_is_checked_before_it_is_heard(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(SOUND[:-1])
    with (tmp_path / "a.raw").open("rb") as file, pytest.raises(EdgeError, match="19999 bytes are not whole"):
        open_pcm(file, Stored("s16le", RATE, 2))


# windows


@given(st.integers(1, 700), st.integers(20, 120), st.data())
@settings(max_examples=150)
def test_windows_are_those_of_nearfar(frames: int, length: int, data: st.DataObject) -> None:
    hop = data.draw(st.integers(1, length))
    ramp = np.arange(frames, dtype="<i2")[None]
    sound = open_pcm(io.BytesIO(ramp.tobytes()), Stored("s16le", RATE, 1))
    found = [
        (start, start + window.shape[1], round(32768 * float(window[0, 0])))
        for start, window in nearfar_edge.windows_of(sound, length, hop)
    ]
    spans = Cut(length / RATE, hop / RATE).spans(frames, RATE)
    assert found == [(span.start, span.stop, span.start) for span in spans]


@pytest.mark.parametrize(
    ("said", "seconds", "expected"),
    [
        ({}, 1.005, [(0, 1.005)]),  # hardly longer than a window: one, as a whole
        ({}, 2.5, [(0, 1), (1, 2), (1.5, 2.5)]),
        ({"longest_seconds": "2.5"}, 2.5, [(0, 2.5)]),
        ({"window_seconds": ""}, 2.5, [(0, 2.5)]),
        ({"samples": 1000}, 2.5, [(0, 1), (1, 2), (1.5, 2.5)]),
        ({"samples": 1000}, 1.005, [(0, 1)]),
    ],
)
def test_a_recording_is_cut_as_the_detector_was_fitted(
    tmp_path: Path, said: dict[str, Any], seconds: float, expected: list[tuple[float, float]]
) -> None:
    detector = Detector(toy(tmp_path / "a.onnx", **said))
    with wav(tmp_path / "a.wav", noise(round(seconds * RATE))).open("rb") as file:
        heard = list(detector.listen(open_wav(file)))
    assert [(one.start, one.end) for one in heard] == expected
    assert all(one.verdict is not None for one in heard)


# verdicts


def test_a_verdict_is_what_the_model_says(fan: Path) -> None:
    samples = noise(1000)
    (verdict, loud) = (Detector(fan).score(samples * gain) for gain in (1, 4))
    assert verdict == (pytest.approx(np.abs(samples).mean()), 1.0, False, 1.0, ())
    assert (loud.p_value, loud.is_anomaly) == (0.0, True)
    assert isinstance(verdict, Verdict)


def test_a_detector_without_a_threshold_scores_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = toy(tmp_path / "a.onnx", threshold="", false_alarm_rate="", system="fused")
    samples = noise(1000)
    score = pytest.approx(np.abs(samples).mean())
    assert Detector(model).score(samples) == (score, None, None, 1.0, (score,))
    clip = wav(tmp_path / "a.wav", samples)
    assert run(capsys, model, clip)[1] == [f"{clip}  0:00:00-0:00:01  -        score 0.0504699"]
    (line,) = run(capsys, model, clip, "--json")[1]
    told = json.loads(line)
    assert (told["p_value"], told["decision"], told["branch_scores"]) == (None, None, [told["score"]])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda x: x[:1], "expected floating point"),
        (lambda x: x[0], "expected floating point"),
        (lambda x: (1000 * x).astype(np.int16), "int16 samples of shape"),
        (lambda x: x[:, :5], "at least 0.01 s are needed"),
        (lambda x: x[:, :400], "0.4 s long, but the detector was fitted to recordings of 0.5 s or more"),
        (lambda x: np.where(np.arange(500) == 7, np.nan, x), "2 samples are NaN or infinite"),
        (lambda x: x * 1e6, r"samples up to .*, far outside \[-1, 1\)"),
        (lambda x: x * [[1], [0]], "of the channels that are heard, 2 stands still"),
    ],
)
def test_what_is_no_sound_is_refused(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], match: str
) -> None:
    detector = Detector(toy(tmp_path / "a.onnx", shortest_seconds="0.5"))
    with pytest.raises(EdgeError, match=match):
        detector.score(change(noise(500)))


def test_a_file_of_fixed_length_hears_that_length_only(tmp_path: Path) -> None:
    detector = Detector(toy(tmp_path / "a.onnx", samples=500))
    with pytest.raises(EdgeError, match=r"0\.6 s long; the detector hears 0\.5 s at once"):
        detector.score(noise(600))
    with pytest.raises(EdgeError, match="a window of 1 s; the file was exported for 500 samples"):
        list(detector.listen(open_pcm(io.BytesIO(bytes(8000)), Stored("s16le", RATE, 2)), window=1))


def test_a_score_that_is_not_finite_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="no finite score"):
        Detector(toy(tmp_path / "a.onnx", score="infinite")).score(noise(1000))


def test_what_onnx_runtime_refuses_is_one_line(tmp_path: Path) -> None:
    detector = Detector(toy(tmp_path / "a.onnx", samples=1000))
    detector.samples = None
    with pytest.raises(EdgeError, match=r"ONNX Runtime fails: .*Got invalid dimensions"):
        detector.score(noise(1200))


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"format": None}, "an ONNX file, but none that `nearfar export` has written"),
        ({"format": "2"}, "format 2 of nearfar, but this runner knows 1"),
        ({"rate": None}, "damaged, its metadata do not say nearfar.rate"),
        ({"channels": "two"}, "damaged, its metadata say nearfar.channels='two'"),
    ],
)
def test_a_model_of_another_kind_is_refused(tmp_path: Path, said: dict[str, str | None], match: str) -> None:
    with pytest.raises(EdgeError, match=match):
        Detector(toy(tmp_path / "a.onnx", **said))


def test_what_is_no_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.onnx"
    with pytest.raises(EdgeError, match=f"{path}: no such file"):
        Detector(path)
    path.write_bytes(b"no model")
    with pytest.raises(EdgeError, match=f"{path}: ONNX Runtime .* cannot read it"):
        Detector(path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EdgeError, match=r"needs ONNX Runtime .*; install it with: pip install onnxruntime"):
        Detector(path)


# channels


@pytest.mark.parametrize(
    ("selected", "select", "heard"),
    [
        ("[]", (), [0, 1]),
        ("[3, 1]", (), [2, 0]),
        ("[3, 1]", (1, 2), [0, 1]),
        ('["near", "far"]', (2, 3), [1, 2]),
    ],
)
def test_the_channels_of_the_fit_are_heard(
    tmp_path: Path, selected: str, select: tuple[int, ...], heard: list[int]
) -> None:
    samples = noise(1000, channels=3) * np.array([[0.1], [0.5], [1]], np.float32)
    detector = Detector(toy(tmp_path / "a.onnx", selected=selected), select=select)
    with wav(tmp_path / "a.wav", samples).open("rb") as file:
        (found,) = detector.listen(open_wav(file))
    assert found.verdict is not None
    assert found.verdict.score == pytest.approx(np.abs(samples[heard]).mean())


@pytest.mark.parametrize(
    ("selected", "select", "match"),
    [
        ("[]", (), "1 channel, but the detector hears channel 1 and 2"),
        ("[4, 1]", (), "1 channel, but the detector hears channel 4 and 1"),
        ('["near", "far"]', (), r"channels that have names \(near, far\)"),
        ("[]", (1,), r"channels \[1\]: the detector hears 2 different ones"),
        ("[]", (1, 1), r"channels \[1, 1\]: the detector hears 2 different ones"),
    ],
)
def test_channels_that_are_not_there_are_refused(
    tmp_path: Path, selected: str, select: tuple[int, ...], match: str
) -> None:
    detector = Detector(toy(tmp_path / "a.onnx", selected=selected), select=select)
    with (
        wav(tmp_path / "a.wav", noise(1000, channels=1)).open("rb") as file,
        pytest.raises(EdgeError, match=match),
    ):
        list(detector.listen(open_wav(file)))


# the command line


def test_one_bad_recording_does_not_hide_the_others(
    fan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, loud = wav(tmp_path / "good.wav", noise(1000)), wav(tmp_path / "loud.wav", noise(2000, level=0.5))
    other, absent = wav(tmp_path / "other.wav", noise(1000), rate=2 * RATE), tmp_path / "absent.wav"
    code, out, error = run(capsys, fan, other, absent, good, loud)
    assert code == 2
    assert [line.split()[:3] for line in out] == [
        [str(good), "0:00:00-0:00:01", "normal"],
        [str(loud), "0:00:00-0:00:01", "anomaly"],
        [str(loud), "0:00:01-0:00:02", "anomaly"],
    ]
    assert error == [
        f"error: {other}: 2000 Hz, but the detector hears 1000 Hz and this runner does not resample; "
        "record at 1000 Hz",
        f"error: {absent}: No such file or directory",
    ]
    assert run(capsys, fan, good)[0] == 0
    assert run(capsys, fan, loud)[0] == 0
    assert run(capsys, fan, "--fail", good)[0] == 0
    assert run(capsys, fan, "--fail", absent, loud)[0] == 1


def test_a_bad_window_does_not_hide_the_others(
    fan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = noise(3000)
    samples[0, 1500] = np.nan
    code, lines, _ = run(capsys, fan, "--json", wav(tmp_path / "a.wav", samples))
    told = [json.loads(line) for line in lines]
    assert code == 2
    assert [one["decision"] for one in told] == ["normal", "unusable", "normal"]
    assert (told[1]["start"], told[1]["score"], told[1]["error"]) == (
        1.0,
        None,
        "1 sample is NaN or infinite",
    )


def test_without_recordings_it_says_what_the_detector_was_fitted_to(
    fan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines, _ = run(capsys, fan)
    assert code == 0
    assert lines == [
        "machine  fan",
        "system   toy (float32)",
        "hears    2 channels (the first ones) at 1000 Hz",
        "length   any; windows of 1 s",
        "anomaly  above 0.1 (false-alarm rate 0.05)",
        "nearfar  0.0",
    ]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--hop", "0", "a.wav"], "0: must be above 0 s"),
        (["--hop", "fast", "a.wav"], "fast: must be above 0 s"),
        (["--threads", "0"], "0: must be a whole number from 1"),
        (["--threads", "1000000"], "1000000: this computer has"),
        (["--threads", "9" * 30], "must be a whole number from 1"),
        (["--select", "near"], "near: must be a whole number from 1"),
        (["--rate", "8000", "a.wav"], "--rate and --channels are of raw samples"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    fan: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], match: str
) -> None:
    with pytest.raises(SystemExit):
        nearfar_edge.main([str(fan), *arguments])
    assert match in capsys.readouterr().err


def test_a_name_of_two_lines_is_one_line(
    fan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = wav(tmp_path / "two\nlines.wav", noise(1000))
    (line,) = run(capsys, fan, clip)[1]
    assert line.startswith(str(clip).replace("\n", "\\n"))


def test_without_standard_input_there_is_an_error(
    fan: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearfar_edge.sys, "stdin", None)
    assert run(capsys, fan, "-") == (2, [], ["error: -: there is no standard input"])


def test_verdicts_that_cannot_be_written_are_an_error(fan: Path, tmp_path: Path) -> None:
    clip = wav(tmp_path / "a.wav", noise(1000))
    program = [sys.executable, nearfar_edge.__file__, fan, clip]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: verdicts cannot be written: No space left on device\n"


def test_samples_that_are_no_numbers_are_told_and_not_warned_of() -> None:
    assert np.isnan(decoded(b"\0\0\xa0\x7f", Stored("f32le", RATE, 1))).all()  # a signalling NaN


def test_a_hop_that_skips_sound_is_refused(
    fan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = wav(tmp_path / "a.wav", noise(3000))
    assert run(capsys, fan, "--hop", "2", clip)[2] == [
        f"error: {clip}: a hop of 2 s would skip sound between windows of 1 s"
    ]


def test_a_stream_without_windows_asks_for_them(tmp_path: Path) -> None:
    detector = Detector(toy(tmp_path / "a.onnx", window_seconds=""))
    with pytest.raises(EdgeError, match="give --window SECONDS"):
        list(detector.listen(open_pcm(io.BytesIO(SOUND), Stored("s16le", RATE, 2))))


def test_a_live_stream_has_a_verdict_as_soon_as_a_window_is_complete(fan: Path) -> None:
    """Samples come in small pieces, and the stream stays open."""
    reading, writing = os.pipe()
    pcm = (32768 * noise(2500)).astype("<i2").T.tobytes()
    found: list[Heard] = []
    second = threading.Event()

    def listen() -> None:
        with os.fdopen(reading, "rb") as file:
            for heard in Detector(fan).listen(open_pcm(file, Stored("s16le", RATE, 2)), hop=0.5):
                found.append(heard)
                if len(found) == 2:
                    second.set()

    listener = threading.Thread(target=listen)
    listener.start()
    for begin in range(0, 4 * 1500, 400):
        os.write(writing, pcm[begin : begin + 400])
    assert second.wait(30)
    assert [(one.start, one.end) for one in found] == [(0.0, 1.0), (0.5, 1.5)]
    os.write(writing, pcm[4 * 1500 :])
    os.close(writing)
    listener.join(30)
    assert [(one.start, one.end) for one in found[2:]] == [(1.0, 2.0), (1.5, 2.5)]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0:00:00"), (59.9996, "0:01:00"), (3661.5, "1:01:01.5")]
)
def test_times_are_those_of_a_clock(seconds: float, expected: str) -> None:
    assert nearfar_edge._clock(seconds) == expected


# the file itself


def test_it_is_the_syntax_of_python_3_9_and_imports_no_more_than_it_says() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - sys.stdlib_module_names == {"numpy", "onnxruntime"}
    assert "Apache License, Version 2.0" in SOURCE.read_text(encoding="utf-8")


def test_the_runner_is_written_and_a_changed_one_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = runner.write_runner(tmp_path)
    written = path.read_bytes()
    assert path == tmp_path / "nearfar_edge.py"
    assert written.startswith(SOURCE.read_bytes())
    compile(written, path, "exec")
    older = runner.sealed(b"# of an older nearfar\n")
    path.write_bytes(older)
    assert runner.write_runner(tmp_path).read_bytes() == written
    assert not caplog.records
    for changed in (written.replace(b"FINE, ANOM", b"FINE,  ANOM"), b"# another file\n", b"", older[:-1]):
        path.write_bytes(changed)
        with caplog.at_level(logging.WARNING):
            assert runner.write_runner(tmp_path).read_bytes() == changed
        assert "nearfar_edge.py: somebody has changed it, so it stays as it is" in caplog.text
        caplog.clear()


# beside the detector itself


@pytest.fixture(scope="module")
def pump(tmp_path_factory: pytest.TempPathFactory) -> tuple[NearfarDetector, Path]:
    """A detector, and its export."""
    exporting = pytest.importorskip("nearfar.export.exporting")
    folder = tmp_path_factory.mktemp("pump")
    detector = NearfarDetector.fit(write_machine(folder, "pump"), "spectral", jobs=Jobs(folder / "cache"))
    exporting.export(detector, folder / "pump.onnx")
    return detector, folder / "pump.onnx"


def test_it_says_what_the_detector_says(
    pump: tuple[NearfarDetector, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector, model = pump
    rate, seconds = detector.sample_rate, detector.window_seconds
    clips = sorted((model.parent / "pump" / "test").iterdir())
    long, _ = audio.read(clips[0])
    audio.write(tmp_path / "long.wav", np.tile(long, 4)[:, : round(2.5 * seconds * rate)], rate)
    audio.write(tmp_path / "short.wav", long[:, : round(0.7 * seconds * rate)], rate)
    clips.append(tmp_path / "short.wav")
    expected = list(detector.score_files(clips))
    spans = detector.cut.spans(audio.read_header(tmp_path / "long.wav").samples, rate)
    expected += detector.score_files([Recording((tmp_path / "long.wav",), span=span) for span in spans])
    code, lines, _ = run(capsys, model, "--json", *clips, tmp_path / "long.wav")
    told = [json.loads(line) for line in lines]
    assert code == 2
    assert [one["decision"] for one in told] == [verdict.decision for verdict in expected]
    assert {"normal", "anomaly", "unusable"} == {one["decision"] for one in told}
    for one, verdict in zip(told, expected, strict=True):
        if one["decision"] != "unusable":  # in which case it does not even ask the model
            assert one["score"] == pytest.approx(verdict.score, rel=1e-4)
            assert one["p_value"] == pytest.approx(verdict.p_value)


BARE = """
import sys
sys.path.insert(0, sys.argv.pop(1))
import nearfar_edge
assert "onnxruntime" not in sys.modules
code = nearfar_edge.main()
loaded = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names
print(sorted(name for name in loaded if not name.startswith("_")))
sys.exit(code)
"""


def test_it_runs_where_there_is_nothing_but_numpy_and_onnx_runtime(fan: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    venv.create(bare, with_pip=False)
    python = bare / ("Scripts" if os.name == "nt" else "bin") / "python"
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": bare}))
    for package in (Path(np.__file__).parent, Path(onnxruntime.__file__).parent):
        for folder in package.parent.glob(f"{package.name}*"):  # numpy.libs, too
            (packages / folder.name).symlink_to(folder, target_is_directory=True)
    runner.write_runner(tmp_path)
    clip = wav(tmp_path / "a.wav", noise(1000))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [python, "-c", BARE, tmp_path, fan, clip]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    verdict, loaded = done.stdout.splitlines()
    assert verdict == f"{clip}  0:00:00-0:00:01  normal   score 0.0504699  p 1"
    assert set(ast.literal_eval(loaded)) == {"nearfar_edge", "numpy", "onnxruntime"}
