"""Samples: exact, whole, never mixed down, and free of aliases."""

from __future__ import annotations

import io
import os
import struct

import numpy as np
import pytest
import soundfile

from nearfar.recordings import audio
from nearfar.recordings.audio import AudioError


@pytest.fixture
def stereo(tmp_path, rng):
    """A clip of random 16-bit samples: its path and what was written, (2, 1000)."""
    samples = rng.integers(-32768, 32768, (2, 1000), dtype=np.int16)
    samples[:, :2] = [[-32768, 32767], [32767, -32768]]
    path = tmp_path / "clip.wav"
    soundfile.write(path, samples.T, 16000, subtype="PCM_16")
    return path, samples


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_16_bit_samples_are_read_exactly(tmp_path, stereo, suffix):
    path, samples = tmp_path / f"again{suffix}", stereo[1]
    soundfile.write(path, samples.T, 16000, subtype="PCM_16")
    read, rate = audio.read(path)
    assert (read.shape, read.dtype, rate) == ((2, 1000), np.float32, 16000)
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read * 32768, samples)


def test_the_channels_keep_their_places(stereo):
    read, _ = audio.read(stereo[0])
    np.testing.assert_array_equal(read[audio.NEAR] * 32768, stereo[1][0])
    np.testing.assert_array_equal(read[audio.FAR] * 32768, stereo[1][1])


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_what_is_written_is_read(tmp_path, stereo, suffix):
    path = tmp_path / f"again{suffix}"
    samples = stereo[1] / np.float32(32768)
    audio.write(path, samples, 8000)
    read, rate = audio.read(path)
    np.testing.assert_array_equal(read, samples)
    assert rate == 8000


@pytest.mark.parametrize(
    ("value", "bits", "message"),
    [
        (np.nan, 16, "4 samples are NaN or infinite"),
        (np.inf, 16, "4 samples are NaN or infinite"),
        (np.nan, 32, "4 samples are NaN or infinite"),
        (1.001, 16, r"samples must be within \[-1, 1\]"),
        (-1.001, 16, r"samples must be within \[-1, 1\]"),
    ],
)
def test_samples_that_a_file_does_not_hold_are_not_written(tmp_path, value, bits, message):
    with pytest.raises(AudioError, match=message):
        audio.write(tmp_path / "a.wav", np.full((1, 4), value, np.float32), 16000, bits=bits)
    assert not (tmp_path / "a.wav").exists()


def test_floating_point_holds_everything(tmp_path, rng):
    samples = 10 * rng.standard_normal((2, 100), dtype=np.float32)
    audio.write(tmp_path / "a.wav", samples, 8000, bits=32)
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav")[0], samples)


@pytest.mark.parametrize(("subtype", "name"), [("PCM_24", "a.wav"), ("FLOAT", "a.wav"), ("PCM_24", "a.flac")])
def test_other_sample_formats_are_read(tmp_path, rng, subtype, name):
    samples = (rng.integers(-(2**23), 2**23, (100, 2)) / 2**23).astype(np.float32)
    soundfile.write(tmp_path / name, samples, 44100, subtype=subtype)
    read, rate = audio.read(tmp_path / name)
    np.testing.assert_array_equal(read, samples.T)
    assert rate == 44100


def test_the_header_says_what_is_there(stereo):
    header = audio.read_header(stereo[0])
    assert (header.rate, header.channels, header.samples, header.format) == (16000, 2, 1000, "WAV/PCM_16")
    assert header.seconds == 1000 / 16000


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        audio.read(tmp_path / "none.wav")


def fault_of(path, match):
    with pytest.raises(AudioError, match=match) as caught:
        audio.read(path)
    assert str(path) in str(caught.value)
    return caught.value.fault


def test_a_file_of_no_bytes_is_refused(tmp_path):
    (tmp_path / "a.wav").touch()
    assert fault_of(tmp_path / "a.wav", "0 bytes") == "empty"


def test_a_file_of_no_samples_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 2), np.int16), 16000, subtype="PCM_16")
    assert fault_of(tmp_path / "a.wav", "no samples") == "empty"


def test_a_file_that_is_not_audio_is_refused(tmp_path):
    (tmp_path / "a.wav").write_text("no recording")
    assert fault_of(tmp_path / "a.wav", "not a readable recording") == "unreadable"


@pytest.mark.parametrize("kept", [3500 + 44, 44 + 2, 44])
def test_a_truncated_wav_is_refused(stereo, kept):
    path, _ = stereo
    path.write_bytes(path.read_bytes()[:kept])
    missing = 4000 + 44 - kept
    assert fault_of(path, rf"truncated, {missing} of 4000 bytes") == "truncated"


def test_a_truncated_wav_with_chunks_before_its_samples_is_refused(stereo):
    path, _ = stereo
    whole = path.read_bytes()
    note = b"LIST" + struct.pack("<I", 3) + b"abc\0"  # an odd chunk is padded
    path.write_bytes(whole[:36] + note + whole[36:-1000])
    assert fault_of(path, "truncated, 1000 of 4000 bytes") == "truncated"


def test_a_wav_from_a_pipe_that_does_not_know_its_length_is_read(stereo):
    path, samples = stereo
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + b"\xff\xff\xff\xff" + whole[44:])
    np.testing.assert_array_equal(audio.read(path)[0] * 32768, samples)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_a_truncated_flac_is_refused(tmp_path, rng, share):
    path = tmp_path / "a.flac"
    soundfile.write(path, rng.integers(-9000, 9000, (50_000, 2), dtype=np.int16), 16000, subtype="PCM_16")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert fault_of(path, "truncated|damaged") in ("truncated", "unreadable")


def test_samples_that_are_not_finite_are_refused(tmp_path):
    samples = np.zeros((100, 2), np.float32)
    samples[3, 0], samples[4, 1] = np.nan, np.inf
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    assert fault_of(tmp_path / "a.wav", "2 samples are NaN or infinite") == "not_finite"


@pytest.mark.parametrize(("rate", "samples"), [(48000, 48000), (44100, 44100), (8000, 8000)])
def test_resampling_keeps_duration_and_channels(rng, rate, samples):
    sound = rng.standard_normal((2, samples)).astype(np.float32)
    resampled = audio.resample(sound, rate, 16000)
    assert resampled.shape == (2, 16000)
    assert resampled.dtype == np.float32
    assert resampled.flags.c_contiguous


def test_resampling_to_the_same_rate_changes_nothing(rng):
    sound = rng.standard_normal((2, 100)).astype(np.float32)
    np.testing.assert_array_equal(audio.resample(sound, 16000, 16000), sound)


def tone(frequency, rate, seconds=1.0):
    return np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate).astype(np.float32)[None]


def test_a_tone_above_the_new_nyquist_frequency_does_not_return_as_an_alias():
    resampled = audio.resample(tone(9000, 48000), 48000, 16000)
    middle = resampled[:, 1000:-1000]  # the tone's abrupt start and end are no tone
    decibels = 20 * np.log10(np.sqrt((middle**2).mean()) / np.sqrt(0.5))
    assert decibels < -100


def test_a_tone_below_the_new_nyquist_frequency_stays_as_it_is():
    resampled = audio.resample(tone(1000, 48000), 48000, 16000)
    np.testing.assert_allclose(resampled[:, 1000:-1000], tone(1000, 16000)[:, 1000:-1000], atol=1e-4)


def test_load_gives_a_recording_at_the_rate_asked_for(tmp_path):
    audio.write(tmp_path / "a.wav", np.repeat(tone(1000, 48000), 2, axis=0) / 2, 48000)
    samples = audio.load(tmp_path / "a.wav", 16000)
    assert samples.shape == (2, 16000)
    np.testing.assert_allclose(
        samples[:, 1000:-1000], tone(1000, 16000).repeat(2, 0)[:, 1000:-1000] / 2, atol=1e-3
    )


def test_what_was_never_recorded_is_not_made_up(tmp_path):
    audio.write(tmp_path / "a.wav", tone(1000, 8000), 8000)
    with pytest.raises(AudioError, match=r"a\.wav: recorded at 8000 Hz, but 16000 Hz are needed"):
        audio.load(tmp_path / "a.wav", 16000)


@pytest.mark.parametrize("workers", [1, 3])
def test_each_keeps_the_order_and_works_only_a_little_ahead(workers):
    begun: list[int] = []

    def square(item: int) -> int:
        begun.append(item)
        return item * item

    results = audio.each(range(100), square, workers=workers)
    assert next(results) == 0
    assert len(begun) <= 2 * workers + 2
    assert list(results) == [item * item for item in range(1, 100)]


def test_each_hands_on_what_was_raised():
    def fail(item: int) -> int:
        raise AudioError(f"clip {item}")

    with pytest.raises(AudioError, match="clip 0"):
        list(audio.each(range(10), fail))


# writing what a format cannot hold


@pytest.mark.parametrize(
    ("name", "bits", "message"),
    [
        (
            "a.flac",
            32,
            r"a\.flac: bits=32, but the format '\.flac' has no 32-bit floating point; write \.wav",
        ),
        ("a.ogg", 16, r"the format '\.ogg' has no 16-bit PCM; write \.wav, .* or \.flac"),
        ("a.xyz", 16, r"the format '\.xyz' has no 16-bit PCM"),
        ("a", 32, r"the format '' has no 32-bit floating point"),
        ("a.wav", 24, r"a\.wav: bits=24; it must be 16 \(PCM\) or 32"),
    ],
)
def test_a_format_that_cannot_hold_the_samples_is_an_error(tmp_path, name, bits, message):
    with pytest.raises(AudioError, match=message):
        audio.write(tmp_path / name, np.zeros((1, 4), np.float32), 16000, bits=bits)
    assert list(tmp_path.iterdir()) == []


def test_more_channels_than_a_format_has_are_an_error(tmp_path):
    with pytest.raises(AudioError, match=r"a\.flac: 9 channels at 16000 Hz cannot be written"):
        audio.write(tmp_path / "a.flac", np.zeros((9, 40), np.float32), 16000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "bits"), [("a.wav", 16), ("a.WAV", 32), ("a.flac", 16), ("a.w64", 32)])
def test_what_is_written_is_what_libsndfile_writes_to_a_file(tmp_path, name, bits):
    samples = 0.1 * np.random.default_rng(0).standard_normal((2, 500)).astype(np.float32)
    audio.write(tmp_path / name, samples, 16000, bits=bits)
    written, rate = soundfile.read(tmp_path / name, dtype="float32")
    assert (rate, [p.name for p in tmp_path.iterdir()]) == (16000, [name])
    np.testing.assert_allclose(written.T, samples, atol=0 if bits == 32 else 2**-16)


def test_a_pipe_stays_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    reader = os.open(tmp_path / "a.wav", os.O_RDONLY | os.O_NONBLOCK)
    audio.write(tmp_path / "a.wav", np.zeros((1, 100), np.float32), 16000)
    assert os.read(reader, 1000)[:4] == b"RIFF"
    os.close(reader)
    assert (tmp_path / "a.wav").is_fifo()


@pytest.mark.parametrize("name", ["a.wav", "a.aiff"])
def test_equal_samples_give_equal_bytes_whenever_they_are_written(tmp_path, rng, name):
    samples = rng.standard_normal((2, 500)).astype(np.float32)
    audio.write(tmp_path / name, samples, 8000, bits=32)
    content = (tmp_path / name).read_bytes()
    at = content.index(b"PEAK")
    assert content[at + 12 : at + 16] == bytes(4)  # where libsndfile writes the time
    np.testing.assert_array_equal(audio.read(tmp_path / name)[0], samples)


@pytest.mark.parametrize("how", ["header", "whole", "blocks", "piped"])
def test_a_rate_that_no_converter_has_is_refused(tmp_path, how):
    """It asked for frames of gigabytes."""
    path = tmp_path / "clip.wav"
    audio.write(path, np.zeros((2, 1000), np.float32), 16_000)
    content = bytearray(path.read_bytes())
    content[24:28] = (2**30).to_bytes(4, "little")
    path.write_bytes(content)
    ways = {
        "header": lambda: audio.read_header(path),
        "whole": lambda: audio.read(path),
        "blocks": lambda: audio.in_blocks(path),
        "piped": lambda: audio.read_stream(io.BytesIO(content), "clip.wav", rate=16_000, channels=2),
    }
    with pytest.raises(
        AudioError, match=r"clip\.wav: 1073741824 Hz is no sampling rate; the header is damaged"
    ):
        ways[how]()
