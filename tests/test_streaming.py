"""Windows of a recording that is read once, whatever its format and whatever is wrong with it."""

from __future__ import annotations

import io
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from nearfar.recordings import audio, sound_files
from nearfar.recordings.audio import AudioError
from nearfar.recordings.blocks import Lost
from nearfar.recordings.recording import Recording, Span
from nearfar.windows import streaming
from nearfar.windows.cutting import Cut

RATE = 1000
LENGTH = 200_000  # several blocks
CUT, SIDE_BY_SIDE = Cut(10.0, 4.0), Cut(10.0, 10.0)
CODINGS = [
    ("a.wav", "PCM_16"), ("a.wav", "PCM_24"), ("a.wav", "PCM_32"), ("a.wav", "FLOAT"), ("a.wav", "IMA_ADPCM"),
    ("a.flac", "PCM_16"), ("a.flac", "PCM_24"), ("a.ogg", "VORBIS"), ("a.w64", "PCM_16"), ("a.aiff", "PCM_16"),
]  # fmt: skip


def noise(channels=2, samples=LENGTH, seed=0):
    return (
        (0.3 * np.random.default_rng(seed).standard_normal((channels, samples)))
        .clip(-1, 0.99)
        .astype(np.float32)
    )


def written(path: Path, samples, subtype="PCM_16", rate=RATE) -> Path:
    data = np.rint(32768 * pcm(samples)).astype(np.int16) if subtype == "PCM_16" else samples
    soundfile.write(path, data.T, rate, subtype=subtype)
    return path


def read_all(stream, start=0):
    """All samples from that one on; NaN for what is lost."""
    blocks = stream.recorded.blocks(start)
    parts = [np.full((2, b.samples), np.nan) if isinstance(b, Lost) else b for b in blocks]
    return np.concatenate(parts, axis=1)


def heard(stream, cut=CUT, first=0):
    return list(streaming.windows(stream, cut, first=first))


@pytest.mark.parametrize(("name", "subtype"), CODINGS)
def test_blocks_are_the_whole(tmp_path, name, subtype):
    path = written(tmp_path / name, noise(), subtype, 8000)
    stream, whole = streaming.of_recording(path), audio.read_recorded(path)
    assert (stream.rate, stream.notes) == (whole.rate, whole.notes)
    np.testing.assert_array_equal(read_all(stream), whole.samples)
    for start in (1, 65_535, 65_536, 70_001, whole.samples.shape[1] - 1):
        np.testing.assert_array_equal(read_all(stream, start), whole.samples[:, start:])
    assert list(stream.recorded.blocks(whole.samples.shape[1])) == []


@pytest.mark.parametrize("length", [1, 99, 9_999, 10_000, 10_001, 10_100, 13_999, 25_000, 200_000, 200_099])
@pytest.mark.parametrize("hop", [4.0, 10.0])
def test_windows_are_those_of_the_cut(tmp_path, length, hop):
    samples, cut = noise(samples=length), Cut(10.0, hop)
    stream = streaming.of_recording(written(tmp_path / "a.wav", samples, "FLOAT"))
    expected = cut.spans(length, RATE)
    for first in {0, 1, len(expected) - 1, len(expected), len(expected) + 7}:
        found = heard(stream, cut, max(first, 0))
        assert [(h.index, h.span) for h in found] == list(enumerate(expected))[max(first, 0) :]
        for h in found:
            np.testing.assert_array_equal(h.samples, samples[:, h.span.start : h.span.stop])


@pytest.mark.parametrize("size", [13, 1000, 4096, 10**6])
def test_windows_do_not_depend_on_the_blocks(tmp_path, monkeypatch, size):
    path = written(tmp_path / "a.flac", noise(samples=30_000))
    expected = heard(streaming.of_recording(path))
    monkeypatch.setattr(sound_files, "STREAMED", size)
    for first in (0, 2):
        for one, other in zip(
            heard(streaming.of_recording(path), first=first), expected[first:], strict=True
        ):
            assert (one.index, one.span) == (other.index, other.span)
            np.testing.assert_array_equal(one.samples, other.samples)


def test_no_window_has_a_negative_number(tmp_path):
    stream = streaming.of_recording(written(tmp_path / "a.wav", noise()))
    with pytest.raises(ValueError, match="first=-1: must be at least 0, the index of a window"):
        heard(stream, first=-1)


# what is wrong with a file spoils what it touches


def spoilt(stream, cut=SIDE_BY_SIDE, first=0):
    """The numbers of the windows that cannot be used, and why."""
    return {h.index: str(h.error) for h in heard(stream, cut, first) if h.samples is None}


def test_a_truncated_file_has_the_windows_that_it_promises(tmp_path):
    path = written(tmp_path / "a.wav", noise())
    os.truncate(path, 44 + 4 * 130_500 + 3)
    stream = streaming.of_recording(path)
    assert (stream.samples, len(heard(stream, Cut.of(10.0)))) == (LENGTH, 20)
    found = spoilt(stream)
    assert sorted(found) == list(range(13, 20))
    assert set(found.values()) == {f"{path}: truncated, 277997 of 800000 bytes of audio are missing"}
    np.testing.assert_array_equal(read_all(stream)[:, :130_500], pcm(noise()[:, :130_500]))
    assert spoilt(stream, first=15) == {k: v for k, v in found.items() if k >= 15}
    with pytest.raises(AudioError, match="truncated, 277997 of 800000 bytes"):
        audio.read(path)


def pcm(samples):
    return np.rint(samples * 32768).clip(-32768, 32767) / 32768


def test_a_header_that_promises_hours_takes_no_memory(tmp_path):
    path = written(tmp_path / "a.wav", noise(samples=20_000))
    content = bytearray(path.read_bytes())
    content[40:44] = (2**31 - 2**20).to_bytes(4, "little")
    path.write_bytes(content)
    tracemalloc.start()
    stream, cut = streaming.of_recording(path), Cut.of(100.0)
    count = sum(h.samples is None for h in streaming.windows(stream, cut))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == cut.count((2**31 - 2**20) // 4, RATE) > 5000
    assert peak < 20e6


def test_behind_a_damage_a_flac_goes_on(tmp_path):
    samples = noise(samples=1_000_000)
    path = written(tmp_path / "a.flac", samples, rate=16_000)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(np.random.default_rng(1).integers(0, 256, 2000, dtype=np.uint8))
    path.write_bytes(content)
    stream = streaming.of_recording(path)
    found = read_all(stream)
    lost = np.flatnonzero(np.isnan(found[0]))
    assert found.shape == samples.shape
    assert 0 < len(lost) <= 3 * sound_files.TRIED
    assert abs(lost - 500_000).max() < 20_000
    intact = ~np.isnan(found[0])
    np.testing.assert_allclose(found[:, intact], pcm(samples)[:, intact], atol=1e-7)
    cut = Cut.of(5.0)
    assert set(spoilt(stream, cut)) == {int(lost[0]) // 80_000, int(lost[-1]) // 80_000}
    assert all("damaged, its samples cannot be decoded" in why for why in spoilt(stream, cut).values())
    assert spoilt(stream, cut, first=6) == spoilt(stream, cut)


def test_a_truncated_flac_is_heard_as_far_as_it_goes(tmp_path):
    path = written(tmp_path / "a.flac", noise())
    os.truncate(path, path.stat().st_size * 2 // 3)
    found = spoilt(streaming.of_recording(path))
    assert sorted(found) in (list(range(13, 20)), list(range(12, 20)))
    assert spoilt(streaming.of_recording(path), first=14) == {k: v for k, v in found.items() if k >= 14}


def test_samples_that_are_not_finite_are_passed_on(tmp_path):
    samples = noise()
    samples[1, 55_000:56_000] = np.nan
    found = heard(streaming.of_recording(written(tmp_path / "a.wav", samples, "FLOAT")), Cut.of(10.0))
    assert [h.index for h in found if not np.isfinite(h.samples).all()] == [5]


def test_a_header_that_was_never_finished_is_read_to_the_end(tmp_path):
    path = written(tmp_path / "a.wav", noise())
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = bytes(4)
    path.write_bytes(content)
    stream = streaming.of_recording(path)
    assert [note.kind for note in stream.notes] == ["unfinished_header"]
    np.testing.assert_array_equal(read_all(stream), audio.read(path)[0])


def test_samples_at_the_lower_end_of_32_bits_are_noted_and_moved_as_in_a_whole_file(tmp_path):
    quiet = np.zeros((LENGTH, 2), np.int32)
    quiet[150_000:] = np.random.default_rng(0).integers(-(2**22), 2**22, (50_000, 2))
    path = tmp_path / "a.wav"
    soundfile.write(path, quiet, RATE, subtype="PCM_32", format="WAVEX")
    whole, stream = audio.read_recorded(path), streaming.of_recording(path)
    assert stream.notes == whole.notes
    assert [note.kind for note in stream.notes] == ["right_aligned"]
    np.testing.assert_array_equal(read_all(stream, 100_000), whole.samples[:, 100_000:])


# tracks, channels, parts


def test_tracks_are_channels_and_a_damage_of_one_is_one_of_all(tmp_path):
    samples = noise()
    paths = tuple(written(tmp_path / f"x_Tr{i + 1}.wav", samples[i : i + 1], "FLOAT") for i in range(2))
    recording = Recording(paths)
    np.testing.assert_array_equal(read_all(streaming.of_recording(recording)), samples)
    os.truncate(paths[1], paths[1].stat().st_size - 4 * 95_000)
    assert sorted(spoilt(streaming.of_recording(recording))) == list(range(10, 20))
    written(paths[1], samples[1:, :-1])
    with pytest.raises(AudioError, match="tracks of a recording must have the same rate and length"):
        streaming.of_recording(recording)


def test_chosen_channels_are_near_and_far(tmp_path):
    samples = noise(3)
    recording = Recording((written(tmp_path / "a.wav", samples, "FLOAT"),), (3, 1))
    stream = streaming.of_recording(recording)
    np.testing.assert_array_equal(read_all(stream), samples[[2, 0]])
    assert stream.recorded.header.channels == 2
    with pytest.raises(AudioError, match=r"no channel 4; it has 3 channels"):
        streaming.of_recording(replace(recording, channels=(4, 1)))


def test_a_part_is_a_recording(tmp_path):
    samples = noise()
    part = Recording((written(tmp_path / "a.wav", samples, "FLOAT"),), span=Span(40_000, 170_001, RATE))
    stream = streaming.of_recording(part)
    assert (stream.samples, stream.name) == (130_001, f"{part}")
    np.testing.assert_array_equal(read_all(stream, 5), samples[:, 40_005:170_001])
    with pytest.raises(AudioError, match="ends at 200 s, before this part does"):
        streaming.of_recording(replace(part, span=Span(0, LENGTH + 1, RATE)))


@pytest.mark.parametrize(
    ("suffix", "package"),
    [(".tdms", "nptdms"), (".mat", "scipy"), (".h5", "h5py"), (".mf4", "asammdf"), (".uff", "pyuff")],
)
def test_files_of_data_acquisition_are_read_in_blocks(tmp_path, monkeypatch, suffix, package):
    pytest.importorskip(package, reason="needs the extra daq")
    import acquisition_files

    from nearfar.recordings import acquisition

    monkeypatch.setattr(acquisition, "BLOCK", 2000)
    near, far = noise(samples=5000)
    path = tmp_path / f"a{suffix}"
    acquisition_files.WRITERS[suffix](path, {"near": near, "far": far}, RATE)
    whole = audio.read_recorded(path)
    stream = streaming.of_recording(path)
    assert stream.notes == whole.notes
    np.testing.assert_array_equal(read_all(stream), whole.samples)
    np.testing.assert_array_equal(read_all(stream, 100), whole.samples[:, 100:])


# pipes


class Dripping(io.RawIOBase):
    """A pipe that gives a few bytes at a time."""

    def __init__(self, content: bytes, at_once: int) -> None:
        self.left, self.at_once = content, at_once

    def read(self, size=-1):
        some = self.left[: min(self.at_once, size if size >= 0 else self.at_once)]
        self.left = self.left[len(some) :]
        return some


def raw(samples):
    return np.rint(samples.T * 32768).clip(-32768, 32767).astype("<i2").tobytes()


@pytest.mark.parametrize("at_once", [1001, 40_000])
def test_raw_samples_come_as_they_are_piped(at_once):
    samples = noise(samples=25_500)
    pipe = Dripping(raw(samples), at_once)
    with streaming.of_pipe(pipe, "it", rate=RATE, channels=2) as stream:
        found = streaming.windows(stream, Cut.of(10.0))
        first = next(found)
        assert len(raw(samples)) - len(pipe.left) <= 40_000 + max(at_once, streaming.BEGINNING)  # not all yet
        rest = list(found)
    assert [str(h.span) for h in (first, *rest)] == ["t=0,10", "t=10,20", "t=15.5,25.5"]
    for h in (first, *rest):
        np.testing.assert_allclose(h.samples, pcm(samples)[:, h.span.start : h.span.stop], atol=1e-7)


def test_raw_samples_that_end_within_a_frame_spoil_the_last_window():
    pipe = io.BytesIO(raw(noise(samples=30_000)) + b"\0")
    with streaming.of_pipe(pipe, "it", rate=RATE, channels=2) as stream:
        found = spoilt(stream)
    assert found == {}  # the rest is shorter than 1 % of a window
    with streaming.of_pipe(
        io.BytesIO(raw(noise(samples=25_000)) + b"\0"), "it", rate=RATE, channels=2
    ) as stream:
        found = spoilt(stream)
    assert found == {
        2: "it: it ended with 1 bytes that are no whole frame of 2 16-bit channels: raw little-endian PCM must be "
        "a multiple of 4 bytes"
    }


def test_a_sound_file_is_piped_too(tmp_path):
    path = written(tmp_path / "a.wav", noise())
    with path.open("rb") as pipe, streaming.of_pipe(pipe, "it", rate=1, channels=1, of_file=(2, 1)) as stream:
        assert (stream.rate, stream.name) == (RATE, "it")
        np.testing.assert_array_equal(read_all(stream), audio.read(path)[0][::-1])


def test_a_pipe_without_a_byte_is_an_error():
    with (
        pytest.raises(AudioError, match="it: it ended without a single byte; is the recorder running"),
        streaming.of_pipe(io.BytesIO(), "it", rate=RATE, channels=2),
    ):
        pass


# files are closed, and memory is bounded


def test_a_generator_that_is_closed_closes_its_files(tmp_path):
    path = written(tmp_path / "a.wav", noise())
    before = open_files(path)
    found = streaming.windows(streaming.of_recording(path), CUT)
    next(found)
    assert open_files(path) > before
    found.close()
    assert open_files(path) == before


def open_files(path):
    """How many times this process has a file open."""
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("needs /proc")
    return sum(link.exists() and link.resolve() == path.resolve() for link in folder.iterdir())


def test_memory_does_not_grow_with_the_recording(tmp_path):
    path = written(tmp_path / "a.wav", np.zeros((2, 5_000_000)))
    tracemalloc.start()
    count = sum(1 for _ in streaming.windows(streaming.of_recording(path), Cut.of(100.0)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 50
    assert peak < 12e6  # the recording has 40 MB


@pytest.mark.parametrize(
    "content", [b"RIFF\x04\0\0\0WAVE", b"RIFF\x10\0\0\0WAVEfmt \xff\xff\xff\xff" + bytes(50)]
)
def test_errors_of_a_sound_file_from_a_pipe_name_the_pipe(content):
    with (
        pytest.raises(AudioError, match=r"^stdin: not a readable recording"),
        streaming.of_pipe(io.BytesIO(content), "stdin", rate=RATE, channels=1),
    ):
        pass


@pytest.mark.parametrize("part", [0.3, 0.6])
def test_what_is_lost_of_a_sound_file_from_a_pipe_names_the_pipe(tmp_path, part):
    whole = written(tmp_path / "a.ogg", noise(), "VORBIS").read_bytes()
    cut = io.BytesIO(whole[: int(part * len(whole))])
    with streaming.of_pipe(cut, "stdin", rate=RATE, channels=2) as stream:
        lost = [block for block in stream.recorded.blocks(0) if isinstance(block, Lost)]
    assert all(str(one.error).startswith("stdin: ") for one in lost)
