"""Files of data acquisition: what they hold, what is read of them, and what is refused."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("nptdms", reason="needs the extra daq")
pytest.importorskip("pyuff", reason="needs the extra daq")
pytest.importorskip("asammdf", reason="needs the extra daq")
pytest.importorskip("h5py", reason="needs the extra daq")

import acquisition_files as files
import h5py
import pyuff
import scipy.io
import synthetic
from asammdf import MDF, Signal
from nptdms import ChannelObject, RootObject, TdmsWriter
from typer.testing import CliRunner

from nearfar.cli import app
from nearfar.files.extras import EXTRAS, MissingPackageError
from nearfar.recordings import acquisition, audio
from nearfar.recordings.acquisition import READERS, rates
from nearfar.recordings.acquisition.interleaving import takes_turns
from nearfar.recordings.clips import ACQUISITION_SUFFIXES, AUDIO_SUFFIXES, is_audio
from nearfar.recordings.recording import Recording, Span
from nearfar.recordings.sound import AudioError, Recorded

RATE = 48000
N = 9600
# pyuff leaves binary files that it wrote open, asammdf damaged files that it could not read
UNCLOSED = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def columns() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {"near": 3 * rng.standard_normal(N), "far": rng.standard_normal(N)}


def read(path: Path, *channels: int | str) -> Recorded:
    """With the header that is promised before."""
    recording = Recording((path,), channels)
    recorded = audio.read_recorded(recording)
    assert audio.read_header(recording) == recorded.header
    assert recorded.samples.dtype == np.float32
    assert recorded.samples.shape == (recorded.header.channels, recorded.header.samples)
    return recorded


def kinds(recorded: Recorded) -> dict[str, str]:
    return {note.kind: note.message for note in recorded.notes}


def fault_of(path: Path, *channels: int | str, match: str) -> str:
    with pytest.raises(AudioError, match=match) as raised:
        read(path, *channels)
    assert str(raised.value).startswith(f"{path}: ")
    return raised.value.fault


# All formats alike


@pytest.mark.parametrize("suffix", files.WRITERS)
@pytest.mark.parametrize("rate", [16000, 44100, 48000, 51200])
def test_values_rate_and_names(suffix: str, rate: int, columns: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / f"clip{suffix}"
    files.WRITERS[suffix](path, columns, rate)
    both = read(path)
    assert (both.rate, both.header.channels, both.header.samples) == (rate, 2, N)
    np.testing.assert_allclose(both.samples, np.stack([columns["near"], columns["far"]]), rtol=1e-6)
    np.testing.assert_array_equal(read(path, "far", "near").samples, both.samples[::-1])
    np.testing.assert_array_equal(read(path, "FAR").samples, both.samples[1:])
    assert ("unit" in kinds(both)) == (suffix != ".mat")


@pytest.mark.parametrize("suffix", files.WRITERS)
def test_numbers_count_from_one(suffix: str, columns: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / f"clip{suffix}"
    files.WRITERS[suffix](path, {"a": columns["near"], "b": columns["far"]}, RATE)
    np.testing.assert_allclose(read(path, 2, 1).samples, np.stack([*columns.values()])[::-1], rtol=1e-6)


@pytest.mark.parametrize("suffix", files.WRITERS)
def test_a_channel_that_is_not_there(suffix: str, columns: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / f"clip{suffix}"
    files.WRITERS[suffix](path, columns, RATE)
    assert (
        fault_of(path, "left", match=r"no channel 'left'; there are: 1 \w+ .*48000 Hz, 9600 samples")
        == "refused"
    )
    assert fault_of(path, 3, match=r"no channel 3; there are: ") == "refused"


@pytest.mark.parametrize("suffix", files.WRITERS)
def test_near_comes_first_where_the_names_say_so(
    suffix: str, columns: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / f"clip{suffix}"
    files.WRITERS[suffix](
        path,
        {"Far mic": columns["far"], "micNear": columns["near"]}
        if suffix not in (".mat",)
        else {"farMic": columns["far"], "micNear": columns["near"]},
        RATE,
    )
    np.testing.assert_allclose(read(path).samples, np.stack([columns["near"], columns["far"]]), rtol=1e-6)


@pytest.mark.parametrize("suffix", files.WRITERS)
def test_lost_samples_are_counted(suffix: str, columns: dict[str, Any], tmp_path: Path) -> None:
    columns["far"][100:107] = 777 if suffix == ".uff" else np.nan
    path = tmp_path / f"clip{suffix}"
    files.WRITERS[suffix](path, columns, RATE)
    if suffix == ".uff":  # pyuff writes 0 for NaN; other programs do not
        path.write_text(path.read_text().replace("7.77000000000e+02", "NaN".rjust(17)))
    assert fault_of(path, match="channel 'far': 7 of 9600 .* the first is number 101") == "not_finite"
    assert read(path, "near").header.channels == 1


@pytest.mark.parametrize("suffix", files.WRITERS)
def test_what_is_no_such_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(b"not what the suffix says " * 40)
    assert fault_of(path, match="not a readable") == "unreadable"
    path.write_bytes(b"")
    assert fault_of(path, match="0 bytes") == "empty"
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no such file"):
        acquisition.read(path)


@UNCLOSED
@pytest.mark.parametrize("suffix", files.WRITERS)
@pytest.mark.parametrize("part", [0.999, 0.9, 0.6, 0.3])
def test_a_file_that_is_cut_short(suffix: str, part: float, columns: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / f"clip{suffix}"
    files.WRITERS[suffix](path, columns, RATE)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    assert fault_of(path, match="truncated") == "truncated"


def test_channels_that_do_not_belong_together_are_listed(columns: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "clip.tdms"
    with TdmsWriter(str(path)) as writer:
        writer.write_segment(
            [
                *(
                    ChannelObject("rig", n, x, properties={"wf_increment": 1 / RATE, "unit_string": "V"})
                    for n, x in columns.items()
                ),
                ChannelObject(
                    "slow",
                    "rpm",
                    np.full(20, 1500.0),
                    properties={"wf_increment": 0.01, "unit_string": "1/min"},
                ),
            ]
        )
    message = re.escape(
        "differ in rate or length; near and far must be recorded together; choose the microphones with --channels "
        "NEAR,FAR, by name or number; there are: 1 rig/near (V, 48000 Hz, 9600 samples), 2 rig/far (V, 48000 Hz, "
        "9600 samples), 3 slow/rpm (1/min, 100 Hz, 20 samples)"
    )
    assert fault_of(path, match=message) == "refused"
    assert read(path, "near", "rig/far").header.channels == 2
    assert fault_of(path, "near", "rig/near", match="names a channel twice") == "refused"


def test_too_many_samples_are_refused_before_they_are_read(
    columns: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clip.h5"
    files.hdf5(path, columns, RATE)
    monkeypatch.setattr(acquisition, "MOST_SAMPLES", N)
    assert fault_of(path, match="19200 samples in 2 channels; at most 9600") == "refused"
    assert read(path, "near").header.samples == N


def test_a_packed_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("near", (2**40,), "f4", chunks=(2**20,), fillvalue=0.0)
        file.attrs["fs"] = RATE
    assert path.stat().st_size < 10_000
    assert fault_of(path, match="blocks were never written") == "truncated"


def test_integers_without_a_unit_are_divided_by_full_scale(tmp_path: Path) -> None:
    counts = {"near": np.arange(-500, 500, dtype=np.int16), "far": np.arange(1000, dtype=np.int16)}
    for suffix, more in (
        (".mat", {}),
        (".h5", {"unit": ""}),
        (".tdms", {"unit": None}),
        (".mf4", {"unit": ""}),
    ):
        path = tmp_path / f"clip{suffix}"
        files.WRITERS[suffix](path, counts, RATE, **more)
        recorded = read(path)
        np.testing.assert_array_equal(recorded.samples, np.stack([*counts.values()]) / np.float32(32768))
        assert "16 bits" in kinds(recorded)["integers_scaled"]
    files.tdms(path := tmp_path / "volt.tdms", counts, RATE, unit="mV")
    np.testing.assert_array_equal(read(path).samples, np.stack([*counts.values()]))


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(path := tmp_path / "clip.tdms")
    assert fault_of(path, match="can't be read from a pipe") == "refused"


# Rates


@pytest.mark.parametrize("rate", rates.USUAL_RATES)
def test_six_digits_of_an_interval_name_every_usual_rate(rate: int) -> None:
    found = rates.from_interval(float(f"{1 / rate:13.5e}"))
    assert found.hz == rate
    assert rates.from_rate(1 / float(f"{1 / rate:13.5e}")).hz == rate
    assert rates.from_interval(1 / rate) == rates.Rate(rate)
    assert rates.from_interval(float(np.float32(1 / rate))) == rates.Rate(rate)


def test_a_rounded_interval_is_said() -> None:
    (note,) = rates.from_interval(2.08333e-05).notes
    assert note.kind == "rate_rounded"
    assert "2.08333e-05 s means 48000.077 Hz; within its 6 digits, 48000 Hz" in note.message
    assert rates.from_rate(48000.077).hz == 48000


@pytest.mark.parametrize("rate", [51200 / 3, 44247.787610619, 25641.025641, 48000.5, 47996.4, 0.3])
def test_a_rate_that_is_not_whole_is_refused(rate: float) -> None:
    with pytest.raises(rates.RateError, match="no whole rate"):
        rates.from_rate(rate)
    with pytest.raises(rates.RateError, match="no whole rate"):
        rates.from_interval(1 / rate)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_a_rate_that_is_no_rate(value: float) -> None:
    with pytest.raises(rates.RateError, match="must be positive"):
        rates.from_rate(value)
    with pytest.raises(rates.RateError, match="must be positive"):
        rates.from_interval(value)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000, 51200, 96000])
def test_time_stamps_with_jitter(rate: int, rng: np.random.Generator) -> None:
    exact = np.arange(2 * rate) / rate
    assert rates.from_stamps(exact) == rates.Rate(rate)
    assert rates.from_stamps(exact + 1.7e9).hz == rate  # seconds since 1970, in double precision
    assert rates.from_stamps(exact.astype(np.float32)).hz == rate
    for jittered in (
        exact + rng.uniform(-0.1, 0.1, exact.size) / rate,
        np.cumsum(1 + 0.05 * rng.standard_normal(exact.size)) / rate,
        exact * (1 + 30e-6),  # another clock
    ):
        found = rates.from_stamps(jittered)
        assert found.hz == rate
        assert found.notes[0].kind == "jitter"


def test_missing_stretches_are_refused_and_located(rng: np.random.Generator) -> None:
    stamps = np.arange(16000) / 16000 + rng.uniform(-0.05, 0.05, 16000) / 16000
    for lost in (1, 100, 5000):
        with pytest.raises(
            rates.RateError, match=r"missing: 1 gaps.*the first after 0\.[23]\d* s \(sample 4800\)"
        ):
            rates.from_stamps(np.delete(stamps, slice(4800, 4800 + lost)))
    with pytest.raises(rates.RateError, match="do not increase"):
        rates.from_stamps(np.concatenate([stamps, stamps]))
    with pytest.raises(rates.RateError, match="too few digits"):
        rates.from_stamps(np.round(stamps, 3))
    with pytest.raises(rates.RateError, match="no whole rate"):
        rates.from_stamps(np.arange(16000) / 17066.4321)
    with pytest.raises(rates.RateError, match="give no rate"):
        rates.from_stamps(np.array([0.0]))


# TDMS


def test_tdms_scaling_is_applied(tmp_path: Path) -> None:
    scale = {
        "NI_Scaling_Status": "unscaled", "NI_Number_Of_Scales": 1, "NI_Scale[0]_Scale_Type": "Linear",
        "NI_Scale[0]_Linear_Slope": 0.25, "NI_Scale[0]_Linear_Y_Intercept": -2.0,
    }  # fmt: skip
    counts = {"near": np.arange(1000, dtype=np.int16), "far": np.arange(1000, dtype=np.int16)[::-1]}
    files.tdms(path := tmp_path / "clip.tdms", counts, RATE, unit="V", **scale)
    np.testing.assert_array_equal(read(path).samples[0], np.arange(1000) * 0.25 - 2)
    files.daqmx(path, counts, 16000, slope=0.5, offset=1.0)
    recorded = read(path)
    assert (recorded.rate, recorded.header.samples) == (16000, 1000)
    np.testing.assert_array_equal(recorded.samples, np.stack([*counts.values()]) * 0.5 + 1)
    assert "in V" in kinds(recorded)["unit"]


def test_tdms_without_an_increment(columns: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "clip.tdms"
    files.tdms(path, columns, RATE, wf_increment=None)
    assert fault_of(path, match="channel 'near': the file has no wf_increment") == "refused"
    files.tdms(path, columns, RATE, wf_increment=None, Sampling_Rate="51.2 kHz")
    assert read(path).rate == 51200
    files.tdms(path, {"Time": np.arange(N) / RATE, **columns}, RATE, wf_increment=None)
    assert read(path).rate == RATE
    with TdmsWriter(str(path)) as writer:
        writer.write_segment(
            [RootObject({"fs": 16000}), *(ChannelObject("g", n, x) for n, x in columns.items())]
        )
    assert read(path).rate == 16000


def test_tdms_channels_that_begin_apart(columns: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "clip.tdms"
    moment = np.datetime64("2026-03-01T10:00:00.000000")
    begins = {"near": moment, "far": moment + np.timedelta64(2500, "us")}
    with TdmsWriter(str(path)) as writer:
        writer.write_segment(
            [
                ChannelObject("g", n, x, properties={"wf_increment": 1 / RATE, "wf_start_time": begins[n]})
                for n, x in columns.items()
            ]
        )
    assert kinds(read(path))["start"] == "its channels begin 0.0025 s apart, by their own time stamps"


def test_tdms_after_a_power_cut(columns: dict[str, Any], tmp_path: Path) -> None:
    """Whatever is left of the last segment; npTDMS reads it, and calls some of these files complete."""
    path = tmp_path / "clip.tdms"
    told = {"wf_increment": 1 / RATE}
    with TdmsWriter(str(path)) as writer:
        for part in range(2):
            writer.write_segment(
                [ChannelObject("g", n, x[part::2], properties=told) for n, x in columns.items()]
            )
    data = path.read_bytes()
    second = data.rindex(b"TDSm")
    for end in (second + 2, second + 20, second + 60, len(data) - 1):
        path.write_bytes(data[:end])
        assert fault_of(path, match="truncated in segment 2") == "truncated"
    path.write_bytes(data[: second + 12] + b"\xff" * 8 + data[second + 20 :])
    assert fault_of(path, match="its length was never written") == "truncated"
    path.write_bytes(data[:second])
    assert read(path).header.samples == N // 2


def test_an_old_index_beside_a_tdms_file_is_not_believed(columns: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "clip.tdms"
    with TdmsWriter(str(path), index_file=True) as writer:
        writer.write_segment([ChannelObject("g", "old", np.arange(10.0), properties={"wf_increment": 1e-4})])
    assert path.with_suffix(".tdms_index").is_file()
    files.tdms(path, columns, RATE)
    assert read(path).header.samples == N


# Universal files


@UNCLOSED
@pytest.mark.parametrize("suffix", [".uff", ".unv", ".uf58"])
@pytest.mark.parametrize("binary", [0, 1])
def test_universal_files(suffix: str, binary: int, columns: dict[str, Any], tmp_path: Path) -> None:
    files.uff(path := tmp_path / f"clip{suffix}", columns, RATE, binary=binary)
    recorded = read(path)
    assert recorded.rate == RATE
    np.testing.assert_allclose(recorded.samples, np.stack([*columns.values()]), rtol=1e-6)
    assert "rate_rounded" in kinds(recorded)


def test_universal_files_name_their_channels(columns: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "clip.uff"
    sets = [
        files.uff_set("Time record", x, RATE, rsp_ent_name="mic", rsp_node=n)
        for n, x in zip((7, 9), columns.values(), strict=True)
    ]
    pyuff.UFF(str(path)).write_sets(sets, "add")
    np.testing.assert_allclose(read(path, "mic:9+Z").samples[0], columns["far"], rtol=1e-6)
    assert fault_of(path, "Time record", match="2 channels 'Time record'; choose them by number") == "refused"


def test_universal_files_with_uneven_abscissa(columns: dict[str, Any], tmp_path: Path) -> None:
    """Time stamps of six digits: from 1 s on, they are as coarse as the interval."""
    files.uff(path := tmp_path / "clip.uff", columns, RATE, abscissa_spacing=0)
    assert read(path).rate == RATE
    x = np.arange(N) / RATE
    files.uff(path := tmp_path / "gap.uff", columns, RATE, abscissa_spacing=0, x=x + 0.1 * (x > 0.05))
    assert fault_of(path, match=r"channel 'near': samples are missing: 1 gaps") == "refused"


def test_what_is_no_time_response(columns: dict[str, Any], tmp_path: Path) -> None:
    files.uff(path := tmp_path / "clip.uff", columns, RATE, func_type=9, abscissa_spec_data_type=18)
    assert fault_of(path, match=r"no function of time \(function type 9, abscissa type 18\)") == "refused"
    columns["far"] = columns["far"] * 1j
    files.uff(path := tmp_path / "complex.uff", columns, RATE)
    assert fault_of(path, match="channel 'far': its values are complex") == "refused"


@UNCLOSED
def test_doubles_that_are_called_single_are_refused(columns: dict[str, Any], tmp_path: Path) -> None:
    """So pyuff writes single precision in binary files: read back, that is twice as many values, all wrong."""
    path = tmp_path / "clip.uff"
    made = files.uff_set("near", columns["near"], RATE, binary=1, ord_data_type=2)
    pyuff.UFF(str(path)).write_sets(made, "add", force_double=False)
    assert fault_of(path, match=r"\(19200,\) values were read, 9600 samples are promised") == "unreadable"


# MDF


def test_a_stereo_block_that_asammdf_scrambled_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "clip.mf4"
    near = np.convolve(rng.standard_normal(N + 4), [1, 2, 3, 2, 1], "valid")
    for far in (0.7 * rng.standard_normal(N), 0.8 * near + 0.2 * rng.standard_normal(N), np.roll(near, 1)):
        for block in (np.stack([near, far], axis=1), np.stack([near, far], axis=1).astype(np.float32)):
            files.mdf(path, {"mic": block}, RATE)
            with MDF(path) as file:
                assert file.get("mic").samples.shape == (
                    N,
                )  # near and far in turn; half of the recording is lost
            assert (
                fault_of(path, match=r"'mic' holds the samples of several channels in turn.*asammdf")
                == "refused"
            )
    files.mdf(path, {"near": near, "far": far}, RATE)
    assert read(path).header.channels == 2


def test_sound_is_not_taken_for_several_channels(rng: np.random.Generator) -> None:
    time = np.arange(N) / RATE
    noise = rng.standard_normal(N)
    tones = [np.sin(2 * np.pi * frequency * time + 0.3) for frequency in (50, 997, 1000, 6000, 12000)]
    sounds = [
        *tones, *(tone + 0.01 * noise for tone in tones), sum(tones), noise, np.cumsum(noise), time, 5 + tones[0],
        (time * 120) % 1, np.sign(tones[0]), np.exp(-9 * time) * tones[1],
    ]  # fmt: skip
    for sound in sounds:
        assert not takes_turns(sound)
        for far in (0.5 * sound, 0.7 * noise[::-1], 0.3 * sound + 0.2 * noise[::-1]):
            assert takes_turns(np.stack([sound, far], axis=1).ravel()[:N])
    assert takes_turns(np.stack([noise, 0.5 * noise[::-1], 0.25 * noise], axis=1).ravel())
    for nothing in (
        noise * (time % 0.02 < 0.002),
        np.zeros(N),
        np.ones(N),
        noise[:100],
        noise[:0],
        np.full(N, np.nan),
    ):
        assert not takes_turns(nothing)


def test_a_channel_array_is_one_channel_for_each_place(columns: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "clip.mf4"
    block = np.zeros(N, np.dtype([("mic", "<f8", (2,))]))
    block["mic"] = np.stack([*columns.values()], axis=1)
    files.mdf(path, {"mic": block}, RATE)
    np.testing.assert_allclose(read(path).samples, np.stack([*columns.values()]), rtol=1e-6)
    np.testing.assert_allclose(read(path, "mic[1]", "mic[0]").samples[0], columns["far"], rtol=1e-6)
    with MDF(path) as file:
        file.convert("4.20").save(path.with_name("again.mf4"))  # lists the places a second time
    assert read(path.with_name("again.mf4")).header.channels == 2


def test_mdf_conversion_unit_and_version(tmp_path: Path) -> None:
    counts = {"near": np.arange(1000, dtype=np.int16), "far": np.arange(1000, dtype=np.int16)[::-1]}
    for version in ("3.30", "4.00", "4.10", "4.20"):
        path = tmp_path / ("clip.mdf" if version < "4" else "clip.mf4")
        files.mdf(path, counts, RATE, unit="g", version=version, conversion={"a": 0.5, "b": -3.0})
        recorded = read(path)
        np.testing.assert_array_equal(recorded.samples, np.stack([*counts.values()]) * 0.5 - 3)
        assert kinds(recorded) == {"unit": "samples are in g, as the file has them, and not in [-1, 1)"}


def test_invalid_samples_are_not_left_out(columns: dict[str, Any], tmp_path: Path) -> None:
    lost = np.zeros(N, bool)
    lost[200:210] = True
    files.mdf(path := tmp_path / "clip.mf4", columns, RATE, invalidation_bits=lost)
    with MDF(path) as file:
        assert len(file.get("near").samples) == N - 10  # as asammdf gives them: without a gap
    assert fault_of(path, match="channel 'near': 10 of 9600 .* the first is number 201") == "not_finite"


def test_jittered_and_missing_time_stamps_of_mdf(columns: dict[str, Any], tmp_path: Path) -> None:
    stamps = (np.arange(N) + np.random.default_rng(0).uniform(-0.1, 0.1, N)) / RATE
    files.mdf(path := tmp_path / "clip.mf4", columns, RATE, stamps=stamps)
    recorded = read(path)
    assert recorded.rate == RATE
    assert "taken as 48000 Hz" in kinds(recorded)["jitter"]
    files.mdf(path, columns, RATE, stamps=stamps + 0.01 * (np.arange(N) >= 4000))
    assert (
        fault_of(path, match=r"samples are missing: 1 gaps in its time stamps, 0.01\d* s.*sample 4000")
        == "refused"
    )


def test_groups_of_mdf(columns: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "clip.mf4"
    with MDF() as file:
        for start, x in enumerate(columns.values()):
            file.append([Signal(x, 0.5 * start + np.arange(N) / RATE, name="mic", unit="V")])
        file.append([Signal(np.arange(20.0), np.arange(20) / 10, name="rpm", unit="1/min")])
        file.save(path)
    assert fault_of(path, match=r"3 rpm \(1/min, 10 Hz, 20 samples\)") == "refused"
    recorded = read(path, "1/mic", "2/mic")
    np.testing.assert_allclose(recorded.samples, np.stack([*columns.values()]), rtol=1e-6)
    assert kinds(recorded)["start"] == "its channels begin 0.5 s apart, by their own time stamps"


def test_an_unfinished_mdf(columns: dict[str, Any], tmp_path: Path) -> None:
    files.mdf(path := tmp_path / "clip.mf4", columns, RATE)
    path.write_bytes(b"UnFinMF " + path.read_bytes()[8:])
    assert fault_of(path, match="marked unfinished") == "truncated"


# MATLAB


@pytest.mark.parametrize("name", ["fs", "Fs", "SampleRate", "sr", "sampling_rate", "Fs_Hz"])
def test_names_of_rates_in_matlab(name: str, columns: dict[str, Any], tmp_path: Path) -> None:
    block = np.stack([*columns.values()])
    for shaped in (block, block.T):
        scipy.io.savemat(path := tmp_path / "clip.mat", {"x": shaped, name: 16000, "gain": 2.0, "who": "me"})
        recorded = read(path)
        assert recorded.rate == 16000
        np.testing.assert_allclose(recorded.samples, block, rtol=1e-6)
    np.testing.assert_allclose(read(path, "x:2").samples, block[1:], rtol=1e-6)


def test_structures_text_and_cells_in_matlab(columns: dict[str, Any], tmp_path: Path) -> None:
    cells = np.empty(3, object)
    cells[:] = ["a", np.arange(100.0), {"b": 1}]
    rig = {
        **columns,
        "meta": {"fs": 44100.0, "operator": "me"},
        "cells": cells,
        "spectrogram": np.ones((513, 99)),
    }
    scipy.io.savemat(
        path := tmp_path / "clip.mat",
        {"rig": rig, "note": "a text", "flags": np.ones(3)},
        do_compression=True,
    )
    recorded = read(path, "rig.near", "far")
    assert recorded.rate == 44100
    np.testing.assert_allclose(recorded.samples, np.stack([*columns.values()]), rtol=1e-6)
    np.testing.assert_array_equal(read(path).samples, recorded.samples)
    channels = np.array(
        [(columns["near"], 16000), (columns["far"], 16000)], dtype=[("signal", object), ("fs", object)]
    )
    scipy.io.savemat(path, {"data": channels})
    assert read(path, "data(2).signal", "data(1).signal").rate == 16000
    np.testing.assert_allclose(read(path).samples, np.stack([*columns.values()]), rtol=1e-6)


def test_whole_numbers_of_matlab_are_not_taken_for_integers(tmp_path: Path) -> None:
    """MATLAB stores doubles that are whole as small integers; they are still doubles."""

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    def variable(name: str, values: np.ndarray[Any, Any], stored: str, kind: int) -> bytes:
        parts = element(6, struct.pack("<II", 6, 0)) + element(
            5, struct.pack("<ii", 1, len(values))
        )  # class double
        return element(14, parts + element(1, name.encode()) + element(kind, values.astype(stored).tobytes()))

    path = tmp_path / "clip.mat"
    values = np.arange(-500, 500)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    path.write_bytes(head + variable("near", values, "<i2", 3) + variable("fs", np.array([16000]), "<u2", 4))
    np.testing.assert_array_equal(read(path).samples[0], values)


def test_a_rate_that_is_not_told_or_not_clear_in_matlab(columns: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "clip.mat"
    time = np.arange(N) / RATE
    scipy.io.savemat(path, columns)
    assert fault_of(path, match="does not tell its rate.*add the rate in Hz under the name fs") == "refused"
    scipy.io.savemat(path, {**columns, "fs": 48000, "sr": 16000})
    assert fault_of(path, match="not clear: fs means 48000 Hz, sr means 16000 Hz") == "refused"
    scipy.io.savemat(path, {**columns, "t": time})
    assert read(path).rate == RATE
    scipy.io.savemat(path, {**columns, "t": time, "fs": 44100})
    assert fault_of(path, match="its rate is 44100 Hz, but its time vector 't' means 48000 Hz") == "refused"
    scipy.io.savemat(path, {**columns, "t": time + 1.0 * (time > 0.1), "fs": RATE})
    assert fault_of(path, match="samples are missing") == "refused"
    scipy.io.savemat(path, {**columns, "fs": 48000.07680012288})
    assert read(path).rate == RATE
    scipy.io.savemat(path, {**columns, "dt": 1 / RATE})
    assert read(path).rate == RATE


def test_an_order_of_the_alphabet_is_not_taken_for_near_and_far(
    columns: dict[str, Any], tmp_path: Path
) -> None:
    outside_first = {"ambient": columns["far"], "machine": columns["near"]}
    for suffix in (".mat", ".h5"):
        files.WRITERS[suffix](path := tmp_path / f"clip{suffix}", outside_first, RATE)
        assert fault_of(path, match="order of the alphabet.*--channels NEAR,FAR") == "refused"
        assert read(path, "machine", "ambient").header.channels == 2
        files.WRITERS[suffix](path, {"ch1": columns["near"], "ch2": columns["far"]}, RATE)
        np.testing.assert_allclose(read(path).samples[0], columns["near"], rtol=1e-6)
    scipy.io.savemat(
        path := tmp_path / "own.mat", {"machine": columns["near"], "ambient": columns["far"], "fs": RATE}
    )
    np.testing.assert_allclose(read(path).samples[0], columns["near"], rtol=1e-6)
    with h5py.File(path := tmp_path / "own.h5", "w", track_order=True) as file:
        file.attrs["fs"] = RATE
        file["machine"], file["ambient"] = columns["near"], columns["far"]
    np.testing.assert_allclose(read(path).samples[0], columns["near"], rtol=1e-6)


def test_matlab_7_3(columns: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "clip.mat"
    for given in (columns, {"x": np.stack([*columns.values()])}):
        files.matlab73(path, given, 16000)
        recorded = read(path)
        assert recorded.header.format == "MATLAB7.3"
        assert recorded.rate == 16000
        np.testing.assert_allclose(recorded.samples, np.stack([*columns.values()]), rtol=1e-6)


def test_a_square_array_has_no_time_axis(tmp_path: Path) -> None:
    scipy.io.savemat(path := tmp_path / "clip.mat", {"x": np.ones((32, 32)), "fs": 16000})
    assert fault_of(path, 1, match="which axis is time is not clear") == "refused"


# HDF5


def test_where_hdf5_tells_the_rate(columns: dict[str, Any], tmp_path: Path) -> None:
    block = np.stack([*columns.values()])
    for place in ("dataset", "group", "file", "beside", "elsewhere", "stamps"):
        for shaped in (block, block.T):
            with h5py.File(path := tmp_path / f"{place}.h5", "w") as file:
                made = file.create_dataset("rig/mic", data=shaped, compression="gzip", shuffle=True)
                if place in ("dataset", "group", "file"):
                    {"dataset": made, "group": file["rig"], "file": file}[place].attrs["SamplingRate"] = RATE
                elif place == "stamps":
                    file["rig/time"] = np.arange(N) / RATE
                else:
                    file["rig/fs" if place == "beside" else "meta/fs"] = np.array([RATE])
            recorded = read(path)
            assert recorded.rate == RATE
            np.testing.assert_allclose(recorded.samples, block, rtol=1e-6)


def test_scale_and_units_of_hdf5(tmp_path: Path) -> None:
    with h5py.File(path := tmp_path / "clip.hdf5", "w") as file:
        made = file.create_dataset("near", data=np.arange(1000, dtype=np.int16))
        made.attrs.update({"scale_factor": 0.5, "add_offset": 10.0, "units": np.bytes_("Pa"), "fs": "16 kHz"})
    recorded = read(path)
    assert recorded.rate == 16000
    np.testing.assert_array_equal(recorded.samples[0], np.arange(1000) * 0.5 + 10)
    assert "in Pa" in kinds(recorded)["unit"]


def test_what_hdf5_would_fill_in_is_refused(columns: dict[str, Any], tmp_path: Path) -> None:
    with h5py.File(path := tmp_path / "clip.h5", "w") as file:
        file.attrs["fs"] = RATE
        grown = file.create_dataset("near", (N,), "f4", chunks=(960,))
        grown[: N // 2] = columns["near"][: N // 2]
        layout = h5py.VirtualLayout((N,), "f4")
        layout[:] = h5py.VirtualSource("absent.h5", "x", (N,))
        file.create_virtual_dataset("far", layout)
        file["loop/itself"] = file["/"]
        file["other"] = h5py.ExternalLink("absent.h5", "/x")
    assert fault_of(path, "near", match="5 of 10 blocks were never written") == "truncated"
    assert fault_of(path, "far", match="in other files") == "refused"


# In the project


def verdicts(folder: Path, suffix: str, *channels: str) -> list[tuple[str, float, str]]:
    """Of a detector that was fitted to a few clips in files of this format."""
    for split, count in (("train", 6), ("test/normal", 2), ("test/anomaly", 2)):
        (place := folder / "fan" / split).mkdir(parents=True)
        for seed in range(count):
            near, far = 4 * synthetic.clip(10 * len(split) + seed, faulty="anomaly" in split)
            if suffix == ".wav":
                audio.write(place / f"{seed}.wav", np.stack([near, far]), synthetic.RATE, bits=32)
            else:
                columns = {"far": far.astype(float), "near": near.astype(float)}
                files.WRITERS[suffix](place / f"{seed}{suffix}", columns, synthetic.RATE)
    run = CliRunner()
    options = ["--cache", str(folder / "cache"), "--false-alarm-rate", "0.2", *channels]
    done = run.invoke(app, ["fit", str(folder / "fan"), "-o", str(folder / "detector"), *options])
    assert done.exit_code == 0, done.output
    done = run.invoke(app, ["score", str(folder / "detector"), str(folder / "fan" / "test"), "--json"])
    said = [json.loads(line) for line in done.stdout.splitlines()]
    return [(Path(v["recording"]).stem, v["score"], v["decision"]) for v in said]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, float, str]]:
    found = verdicts(tmp_path_factory.mktemp("wav"), ".wav")
    assert [decision for *_, decision in found] == ["anomaly", "anomaly", "normal", "normal"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("suffix", files.WRITERS)
def test_fit_and_score_say_the_same_as_of_wav(
    suffix: str, expected: list[tuple[str, float, str]], tmp_path: Path
) -> None:
    found = verdicts(tmp_path, suffix, "--channels", "near,far")
    assert [(name, decision) for name, _, decision in found] == [(n, d) for n, _, d in expected]
    np.testing.assert_allclose([score for _, score, _ in found], [s for _, s, _ in expected], rtol=1e-3)


def test_every_suffix_has_a_reader_and_is_picked_up(tmp_path: Path) -> None:
    assert tuple(READERS) == ACQUISITION_SUFFIXES
    assert set(ACQUISITION_SUFFIXES) == set(audio.READERS) <= set(AUDIO_SUFFIXES)
    assert all(is_audio(tmp_path / f"a{suffix.upper()}") for suffix in ACQUISITION_SUFFIXES)


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = {".tdms": "nptdms", ".uff": "pyuff", ".mf4": "asammdf", ".h5": "h5py"}
    assert set(package.values()) <= set(EXTRAS)
    for suffix, name in package.items():
        path = tmp_path / f"clip{suffix}"
        path.write_bytes(b"x")
        monkeypatch.delitem(sys.modules, READERS[suffix].partition(":")[0], raising=False)
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingPackageError, match=rf"{name}, which is not installed.*nearfar\[daq\]"):
            acquisition.read_header(path)


def test_a_sound_file_loads_none_of_it(tmp_path: Path) -> None:
    audio.write(path := tmp_path / "a.wav", np.zeros((2, 100), np.float32), 16000)
    code = f"""
import sys
from pathlib import Path
from nearfar.recordings import audio
audio.read(Path({str(path)!r}))
heavy = {{"nptdms", "pyuff", "asammdf", "h5py", "scipy", "nearfar.recordings.acquisition"}}
print(*sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@UNCLOSED
@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".tdms", files.tdms),
        (".uff", files.uff),
        (".mf4", files.mdf),
        (".mat", files.matlab),
        (".mat", files.matlab73),
        (".h5", files.hdf5),
    ],
)
def test_a_part_is_what_the_whole_has_there(tmp_path, columns, suffix, write):
    path = tmp_path / f"clip{suffix}"
    write(path, columns, RATE)
    whole = read(path, "near", "far")
    for start, stop in [(0, N), (0, 1), (N - 1, N), (123, 9001)]:
        part = audio.read_recorded(Recording((path,), ("near", "far"), Span(start, stop, RATE)))
        np.testing.assert_array_equal(part.samples, whole.samples[:, start:stop])
        assert part.header.samples == stop - start
        assert part.notes == whole.notes
    with pytest.raises(
        AudioError, match=r"#t=0,0\.200021: the recording ends at 0\.2 s, before this part does"
    ):
        audio.read(Recording((path,), ("near",), Span(0, N + 1, RATE)))
