"""Raw samples of every format, and streams that are known by their headers."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import soundfile
from ears import noise
from hypothesis import given
from hypothesis import strategies as st

from nearfar.recordings.audio import AudioError
from nearfar.recordings.blocks import Lost
from nearfar.watching.sources.decoding import Expected, Sound, sounds_of
from nearfar.watching.sources.pcm import Format, frame_bytes, frames_of, samples_of

ORDERS = {"le": "<", "be": ">"}


def naive(content: bytes, format: str, channels: int) -> list[list[float]]:
    """Samples by the definition, one at a time: (channels, samples)."""
    if format == "u8":
        values = [(byte - 128) / 128 for byte in content]
    else:
        order = "little" if format.endswith("le") else "big"
        bits = int(format[1:3])
        chunks = [content[i : i + bits // 8] for i in range(0, len(content), bits // 8)]
        if format.startswith("f"):
            values = [struct.unpack(f"{ORDERS[format[-2:]]}f", chunk)[0] for chunk in chunks]
        else:
            values = [int.from_bytes(chunk, order, signed=True) / 2 ** (bits - 1) for chunk in chunks]
    return [values[channel::channels] for channel in range(channels)]


@given(st.sampled_from(get_args(Format)), st.integers(1, 5), st.integers(0, 40), st.randoms())
def test_every_format_is_what_it_says(format: Format, channels: int, frames: int, random: object) -> None:
    rng = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    count = frames * channels
    if format.startswith("f"):
        content = rng.uniform(-1, 1, count).astype(f"{ORDERS[format[-2:]]}f4").tobytes()
    else:
        content = rng.bytes(count * frame_bytes(format, 1))
    assert len(content) == frames * frame_bytes(format, channels)
    found = samples_of(frames_of(content, format, channels))
    assert found.dtype == np.float32
    assert found.shape == (channels, frames)
    np.testing.assert_allclose(
        found, np.reshape(naive(content, format, channels), (channels, frames)), atol=6e-8
    )


def reader(content: bytes, sizes: Callable[[], int]) -> Callable[[int], bytes]:
    """Gives a stream in pieces, as a network does."""
    file = io.BytesIO(content)
    return lambda most: file.read(min(most, max(sizes(), 1)))


def heard(content: bytes, expected: Expected, size: int = 1000) -> list[tuple[Sound, np.ndarray, list[Lost]]]:
    found = []
    for sound in sounds_of(reader(content, lambda: size), expected, "the sender"):
        parts = list(sound.parts)
        there = [samples_of(part) for part in parts if not isinstance(part, Lost)]
        lost = [part for part in parts if isinstance(part, Lost)]
        found.append((sound, np.concatenate(there, axis=1) if there else np.empty((0, 0)), lost))
    return found


UNKNOWN = Expected(None, None, "s16le")
RAW = Expected(16000, 2, "s16le")


def wav(frames: np.ndarray, *, size: int | None = None, extra: bytes = b"") -> bytes:
    """A WAV of 16 bits at 16 kHz, with a header that says what is asked."""
    content = frames.astype("<i2").tobytes()
    channels = frames.shape[1]
    form = struct.pack("<HHIIHH", 1, channels, 16000, 32000 * channels, 2 * channels, 16)
    size = len(content) if size is None else size
    head = b"WAVEfmt " + struct.pack("<I", 16) + form + extra + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", min(len(head) + size, 2**32 - 1)) + head + content


@given(st.integers(1, 20_000), st.integers(1, 997))
def test_raw_samples_are_the_same_in_whatever_pieces_they_come(count: int, size: int) -> None:
    frames = noise(count % 400 + 3)
    (sound, samples, lost), *others = heard(frames.tobytes(), RAW, size)
    assert (sound.rate, sound.channels, others, lost) == (16000, 2, [], [])
    np.testing.assert_array_equal(samples, samples_of(frames))


@pytest.mark.parametrize("size", [None, 0, 0x7FFFF000, 0xFFFFFFFF])
def test_a_wav_of_known_and_of_unknown_length(size: int | None) -> None:
    frames = noise(1234)
    ((sound, samples, lost),) = heard(wav(frames, size=size), UNKNOWN)
    assert (sound.rate, sound.channels, sound.format, lost) == (16000, 2, "WAV/s16le", [])
    np.testing.assert_array_equal(samples, samples_of(frames))


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"])
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
def test_a_wav_is_decoded_as_by_libsndfile(subtype: str, container: str) -> None:
    file = io.BytesIO()
    soundfile.write(file, noise(999, 3) / 32768, 48000, format=container, subtype=subtype)
    expected, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32", always_2d=True)
    ((sound, samples, _),) = heard(file.getvalue(), UNKNOWN)
    assert (sound.rate, sound.channels) == (48000, 3)
    np.testing.assert_array_equal(samples, expected.T)


def test_wavs_that_follow_each_other_are_several_recordings() -> None:
    first, second = noise(500, 1, seed=1)[:499], noise(300, seed=2)
    behind = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    found = heard(wav(first) + behind + wav(second) + b"junk", UNKNOWN, 7)
    assert [(sound.channels, samples.shape[1]) for sound, samples, _ in found] == [(1, 499), (2, 300)]
    np.testing.assert_array_equal(found[1][1], samples_of(second))


def test_a_frame_that_is_cut_off_is_lost_and_told() -> None:
    ((_, samples, lost),) = heard(noise(100).tobytes()[:-1], RAW)
    assert samples.shape == (2, 99)
    assert [one.samples for one in lost] == [1]
    assert "ended with 3 bytes that are no whole frame: 2 channels of s16le have 4" in str(lost[0].error)


@pytest.mark.parametrize("bits", ["PCM_S8", "PCM_16", "PCM_24"])
@pytest.mark.parametrize("is_counted", [True, False])
def test_flac_is_decoded_exactly(bits: str, is_counted: bool) -> None:
    content = flac(noise(20_000), bits, is_counted=is_counted)
    with soundfile.SoundFile(io.BytesIO(flac(noise(20_000), bits, is_counted=True))) as file:
        expected = file.read(dtype="int32", always_2d=True)
    ((sound, samples, lost),) = heard(content, UNKNOWN, 100)
    assert (sound.rate, sound.channels, sound.format, lost) == (16000, 2, f"FLAC/{bits}", [])
    np.testing.assert_array_equal(samples, samples_of(expected))


def flac(frames: np.ndarray, subtype: str = "PCM_16", *, is_counted: bool = False) -> bytes:
    """FLAC at 16 kHz; as a sender makes it that does not know its length, unless it is counted."""
    file = io.BytesIO()
    soundfile.write(file, frames / 32768, 16000, format="FLAC", subtype=subtype)
    content = bytearray(file.getvalue())
    if not is_counted:
        content[21] &= 0xF0
        content[22:26] = bytes(4)
    return bytes(content)


def test_flac_is_heard_as_it_comes() -> None:
    """Of all but the last two frames of FLAC, before more bytes are asked for."""
    content = flac(noise(65536))
    given = [0]

    def read(most: int) -> bytes:
        piece = content[given[0] : given[0] + min(most, 500)]
        given[0] += len(piece)
        return piece

    (sound,) = [next(sounds_of(read, UNKNOWN, "the sender"))]
    done, late = 0, []
    for part in sound.parts:
        done += len(part)
        late.append(given[0] / len(content) * 65536 - done)
    assert done == 65536
    assert max(late) < 2.2 * 4096, "it waits for more than it needs"


@pytest.mark.parametrize("damage", ["one byte", "missing", "inserted", "garbage"])
def test_a_damaged_stream_of_flac_ends_with_an_error(damage: str) -> None:
    """What came before is heard, and nothing after a gap is taken for what follows."""
    frames = noise(50_000)
    content = flac(frames)
    first, second = content[: len(content) // 2], content[len(content) // 2 :]
    damaged = {
        "one byte": first + bytes([second[0] ^ 0x55]) + second[1:],
        "missing": first + second[3000:],
        "inserted": first + b"\x55" * 5000 + second,
        "garbage": first + np.random.default_rng(0).bytes(len(second)),
    }[damage]
    (sound,) = sounds_of(reader(damaged, lambda: 1000), UNKNOWN, "the sender")
    parts = []
    with pytest.raises(AudioError, match="the sender: the stream of FLAC is damaged"):  # noqa: PT012
        for part in sound.parts:
            parts.append(part)
    found = np.concatenate(parts)
    assert 20_000 < len(found) < 25_000
    np.testing.assert_array_equal(found, frames[: len(found)])


def test_a_stream_of_flac_that_breaks_off_gives_what_came() -> None:
    frames = noise(50_000)
    (sound,) = sounds_of(reader(flac(frames)[:-5000], lambda: 1000), UNKNOWN, "the sender")
    found = samples_of(np.concatenate(list(sound.parts)))
    assert 40_000 < found.shape[1] < 50_000
    np.testing.assert_array_equal(found, samples_of(frames)[:, : found.shape[1]])


@pytest.mark.parametrize(
    ("content", "expected", "message"),
    [
        (b"fLaC" + bytes(100), UNKNOWN, "it begins as FLAC, and its header cannot be read"),
        (b"OggS" + bytes(100), RAW, "begins as a sound file of a format that cannot be decoded as it comes"),
        (bytes(100), UNKNOWN, "it must be raw samples; give rate and channels, or send WAV or FLAC"),
        (bytes(100), Expected(16000, 2, "flac"), "format=flac, but what came does not begin as that"),
        (wav(noise(10)), Expected(None, None, "flac"), "format=flac, but WAV came"),
        (wav(noise(10)), Expected(48000, None, "s16le"), "rate=48000, but its header says 16000"),
        (wav(noise(10)), Expected(None, 1, "s16le"), "channels=1, but its header says 2"),
        (wav(noise(10))[:40], UNKNOWN, "no samples follow its header"),
        (wav(noise(10)).replace(b"fmt ", b"nono"), UNKNOWN, "does not say its format"),
        (
            wav(noise(10)).replace(struct.pack("<HH", 4, 16), struct.pack("<HH", 5, 16)),
            UNKNOWN,
            "header of the WAV contradicts itself",
        ),
        (
            wav(noise(10)).replace(struct.pack("<HH", 4, 16), struct.pack("<HH", 4, 12)),
            UNKNOWN,
            "a WAV of format 1 with 12 bits cannot be decoded as it comes",
        ),
    ],
)
def test_what_cannot_be_understood_is_told(content: bytes, expected: Expected, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        heard(content, expected)


def test_nothing_is_no_recording() -> None:
    assert heard(b"", RAW) == []


@pytest.mark.parametrize(
    ("rate", "channels", "format", "message"),
    [
        (0, 2, "s16le", "rate=0: must be from 1"),
        (16000, 0, "s16le", "channels=0: must be from 1 to 256"),
        (16000, 2, "s17le", "format='s17le': must be one of s16le, s16be"),
    ],
)
def test_strange_formats_are_refused(rate: int, channels: int, format: Format, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Expected(rate, channels, format)
