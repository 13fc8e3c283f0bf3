"""Sound files as recorders, pipes and power cuts leave them: read to the end, or refused for what they are."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from nearfar.recordings import audio, sound_files
from nearfar.recordings.audio import AudioError
from nearfar.recordings.containers import extent_of
from nearfar.recordings.recording import Recording, Span

RATE = 16000
FRAMES = 20_000
SAMPLES = (1000 * np.random.default_rng(0).standard_normal((2, FRAMES))).astype(np.int16)
SOUND = SAMPLES.T.astype("<i2").tobytes()
FORMATS = {
    "wav": {"format": "WAV"},
    "wavex": {"format": "WAVEX"},
    "rifx": {"format": "WAV", "endian": "BIG"},
    "rf64": {"format": "RF64"},
    "w64": {"format": "W64"},
    "aiff": {"format": "AIFF"},
    "aifc": {"format": "AIFF", "endian": "LITTLE"},
    "caf": {"format": "CAF"},
    "au": {"format": "AU"},
}


def encoded(options: dict[str, str], samples=SAMPLES, *, subtype: str = "PCM_16", rate: int = RATE) -> bytes:
    """The bytes of a whole file."""
    file = io.BytesIO()
    soundfile.write(file, samples.T, rate, subtype=subtype, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    said = len(content) if size is None else size
    return name + struct.pack("<I", said & 0xFFFFFFFF) + content + bytes(len(content) % 2)


def fmt(*, bits: int = 16, channels: int = 2, tag: int = 1, valid: int | None = None) -> bytes:
    width = channels * bits // 8
    head = struct.pack("<HHIIHH", tag if valid is None else 0xFFFE, channels, RATE, RATE * width, width, bits)
    if valid is None:
        return chunk(b"fmt ", head)
    guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
    return chunk(b"fmt ", head + struct.pack("<HHI", 22, valid, 3) + guid)


def wav(*chunks: bytes, riff: int | None = None, magic: bytes = b"RIFF") -> bytes:
    content = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", len(content) if riff is None else riff) + content


@pytest.fixture
def read(tmp_path):
    """Writes bytes into a file of that name, and reads it."""

    def write_and_read(content: bytes, name: str = "a.wav") -> audio.Recorded:
        path = tmp_path / name
        path.write_bytes(content)
        recorded = audio.read_recorded(path)
        assert audio.read_header(path) == recorded.header
        return recorded

    return write_and_read


def kinds(recorded: audio.Recorded) -> list[str]:
    return [note.kind for note in recorded.notes]


def assert_whole(recorded: audio.Recorded, frames: int = FRAMES) -> None:
    np.testing.assert_array_equal(recorded.samples * 32768, SAMPLES[:, :frames])
    assert recorded.rate == RATE


def fault_of(path: Path, match: str) -> str:
    for read_it in (audio.read_recorded, audio.read_header):
        with pytest.raises(AudioError, match=match) as caught:
            read_it(path)
        assert str(caught.value).startswith(f"{path}: ")
    return caught.value.fault


# formats


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("named", ["wav", "own"])
def test_a_whole_file_is_read_without_a_note(read, kind, named):
    recorded = read(encoded(FORMATS[kind]), f"a.{kind if named == 'own' else 'wav'}")
    assert_whole(recorded)
    assert recorded.notes == ()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_half_a_file_is_truncated_whatever_it_is_called(tmp_path, kind, share):
    whole = encoded(FORMATS[kind])
    (tmp_path / "a.wav").write_bytes(whole[: int(share * len(whole))])
    assert (
        fault_of(tmp_path / "a.wav", rf"truncated, \d+ of {len(SOUND)} bytes of audio are missing")
        == "truncated"
    )


@pytest.mark.parametrize("magic", [b"RF64", b"BW64"])
@pytest.mark.parametrize(("kept", "ending"), [(len(SOUND), "whole"), (len(SOUND) // 2, "truncated")])
def test_64_bit_sizes_are_those_of_their_own_chunk(tmp_path, read, magic, kept, ending):
    sizes = chunk(b"ds64", struct.pack("<QQQI", len(SOUND) + 80, len(SOUND), FRAMES, 0))
    content = wav(sizes, fmt(), chunk(b"data", SOUND, -1), magic=magic, riff=0xFFFFFFFF)
    content = content[: len(content) - len(SOUND) + kept]
    if ending == "whole":
        assert_whole(read(content))
    else:
        (tmp_path / "a.wav").write_bytes(content)
        assert fault_of(tmp_path / "a.wav", "truncated, 40000 of 80000 bytes") == "truncated"


@pytest.mark.parametrize("magic", [b"RF64", b"BW64"])
@pytest.mark.parametrize("size", [len(SOUND), 1 << 63], ids=["told", "unknown"])
@pytest.mark.parametrize("text", [b"<hall>1</hall>", b"<hall>12</hall>"])
def test_texts_of_any_length_come_before_the_samples_of_a_large_wav(read, magic, size, text):
    """Which libsndfile does not read if the length is odd, or the number of bytes a placeholder."""
    sizes = chunk(b"ds64", struct.pack("<QQQI", len(SOUND) + 120, size, FRAMES, 0))
    told = chunk(b"iXML", text)
    content = wav(sizes, told, fmt(), told, chunk(b"data", SOUND, -1), magic=magic, riff=0xFFFFFFFF)
    recorded = read(content)
    assert_whole(recorded)
    assert recorded.notes == ()


def test_chunks_before_the_format_and_after_the_samples_are_no_sound(read):
    broadcast = chunk(b"bext", b"a recorder".ljust(603, b"\0"))
    recorded = read(
        wav(chunk(b"JUNK", bytes(28)), broadcast, chunk(b"iXML", b"<x/>"), fmt(), chunk(b"fact", bytes(4)),
            chunk(b"data", SOUND), chunk(b"LIST", b"INFOISFT\5\0\0\0Lavf\0"), chunk(b"id3 ", bytes(100)))
    )  # fmt: skip
    assert_whole(recorded)
    assert recorded.notes == ()


# headers that were never finished


@pytest.mark.parametrize("riff", [None, 0, 36, 4088])
@pytest.mark.parametrize("before", [(), (chunk(b"bext", bytes(602)), chunk(b"JUNK", bytes(4001)))])
def test_a_wav_of_size_zero_is_read_to_its_end(read, riff, before):
    recorded = read(wav(*before, fmt(), chunk(b"data", SOUND, 0), riff=riff))
    assert_whole(recorded)
    assert kinds(recorded) == ["unfinished_header"]
    assert f"{len(SOUND)} bytes" in recorded.notes[0].message


@pytest.mark.parametrize(
    ("kind", "name", "width"),
    [("rifx", b"data", 4), ("aiff", b"SSND", 4), ("au", b".snd", 4), ("w64", b"data\xf3", 8)],
)
def test_other_formats_of_size_zero_are_read_to_their_end(read, kind, name, width):
    content = bytearray(encoded(FORMATS[kind]))
    place = content.index(name) + (16 if kind == "w64" else 8 if kind == "au" else 4)
    content[place : place + width] = bytes(width)
    if kind == "aiff":
        frames = content.index(b"COMM") + 10
        content[frames : frames + 4] = bytes(4)
    recorded = read(bytes(content))
    assert_whole(recorded)
    assert kinds(recorded) == ["unfinished_header"]


def test_an_rf64_of_size_zero_is_read_to_its_end(read):
    recorded = read(
        wav(chunk(b"ds64", bytes(28)), fmt(), chunk(b"data", SOUND, -1), magic=b"RF64", riff=0xFFFFFFFF)
    )
    assert_whole(recorded)
    assert kinds(recorded) == ["unfinished_header"]


@pytest.mark.parametrize(
    "after",
    [
        b"",
        chunk(b"LIST", b"INFOISFT\5\0\0\0Lavf\0"),
        chunk(b"bext", bytes(602)) + chunk(b"iXML", b"<x/>"),
        chunk(b"LIST", b"abc")[:-1],  # without the byte that fills it up
    ],
)
def test_a_wav_that_is_really_empty_stays_empty(tmp_path, after):
    (tmp_path / "a.wav").write_bytes(wav(fmt(), chunk(b"data", b""), after))
    assert fault_of(tmp_path / "a.wav", "holds no samples") == "empty"


@pytest.mark.parametrize("size", [0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFDB, 0xFFFFFFFF])
def test_sizes_that_stand_for_unknown_are_read_to_the_end_of_the_file(read, size):
    recorded = read(wav(fmt(), chunk(b"data", SOUND, size), riff=0xFFFFFFFF))
    assert_whole(recorded)
    assert recorded.notes == ()


@pytest.mark.parametrize(("kind", "name", "after", "width"), [("caf", b"data", 4, 8), ("au", b".snd", 8, 4)])
def test_other_formats_say_that_they_do_not_know(read, kind, name, after, width):
    content = bytearray(encoded(FORMATS[kind]))
    place = content.index(name) + after
    content[place : place + width] = b"\xff" * width
    recorded = read(bytes(content))
    assert_whole(recorded)
    assert recorded.notes == ()


@pytest.mark.parametrize("more", [1, 8, 44, 80, 700])
@pytest.mark.parametrize("kind", ["wav", "rifx", "w64", "aiff", "au"])
def test_a_size_that_counts_some_bytes_too_many_is_no_truncation(read, more, kind):
    content = bytearray(encoded(FORMATS[kind]))
    name, after, order, width = {
        "wav": (b"data", 4, "little", 4), "rifx": (b"data", 4, "big", 4), "w64": (b"data\xf3", 16, "little", 8),
        "aiff": (b"SSND", 4, "big", 4), "au": (b".snd", 8, "big", 4),
    }[kind]  # fmt: skip
    place = content.index(name) + after
    said = int.from_bytes(content[place : place + width], order)
    content[place : place + width] = (said + more).to_bytes(width, order)
    recorded = read(bytes(content))
    assert_whole(recorded)
    assert kinds(recorded) == ["wrong_length"]
    assert f"{more} bytes more than there are" in recorded.notes[0].message


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_part_of_a_frame_at_the_end_does_not_matter(read, cut):
    assert_whole(read(wav(fmt(), chunk(b"data", SOUND + b"x" * cut))))
    assert_whole(read(wav(fmt(), chunk(b"data", SOUND))[:-cut]), FRAMES - 1)


@pytest.mark.parametrize("lost", [2000, 40_000, 79_000])
def test_more_than_that_is_a_truncation(tmp_path, lost):
    (tmp_path / "a.wav").write_bytes(wav(fmt(), chunk(b"data", SOUND))[:-lost])
    assert fault_of(tmp_path / "a.wav", f"truncated, {lost} of {len(SOUND)} bytes") == "truncated"


def test_a_short_clip_has_not_lost_a_large_part_within_what_is_tolerated(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(fmt(), chunk(b"data", SOUND[:1600]))[:-800])
    assert fault_of(tmp_path / "a.wav", "truncated, 800 of 1600 bytes") == "truncated"


def test_a_thousandth_of_a_long_recording_is_tolerated(read):
    content = wav(fmt(), chunk(b"data", bytes(2_000_000)))
    assert kinds(read(content[:-2000])) == ["wrong_length"]


# FLAC of unknown length


def flac(total: int, samples=SAMPLES) -> bytes:
    """A FLAC whose header says that number of samples."""
    content = bytearray(encoded({"format": "FLAC"}, samples))
    content[21] = content[21] & 0xF0 | total >> 32
    content[22:26] = (total & 0xFFFFFFFF).to_bytes(4, "big")
    content[26:42] = bytes(16)  # of MD5: not known either
    return bytes(content)


@pytest.mark.parametrize("total", [0, 2**36 - 1, 2**34])
def test_a_flac_of_unknown_or_absurd_length_is_decoded_to_its_end(read, total):
    recorded = read(flac(total), "a.flac")
    assert_whole(recorded)
    assert recorded.header.samples == FRAMES
    assert kinds(recorded) == ["unfinished_header"]


def test_a_flac_of_unknown_length_is_decoded_in_several_blocks(read, monkeypatch):
    monkeypatch.setattr(sound_files, "BLOCK", 5000)
    assert_whole(read(flac(0), "a.flac"))


def test_a_flac_that_is_cut_is_not_one_of_unknown_length(tmp_path):
    (tmp_path / "a.flac").write_bytes(flac(3 * FRAMES))
    assert (
        fault_of_reading(tmp_path / "a.flac", f"truncated, {FRAMES} of {3 * FRAMES} samples") == "truncated"
    )


def fault_of_reading(path: Path, match: str) -> str:
    with pytest.raises(AudioError, match=match) as caught:
        audio.read(path)
    return caught.value.fault


def test_a_silent_flac_is_read_although_it_needs_few_bytes(read):
    silent = np.zeros((2, 30 * FRAMES), np.int16)
    assert read(flac(30 * FRAMES, silent), "a.flac").samples.shape == (2, 30 * FRAMES)


# bounds


def test_a_recording_is_bounded_whatever_its_format(tmp_path, monkeypatch):
    monkeypatch.setattr(sound_files, "MOST_SAMPLES", 2 * FRAMES - 1)
    message = r"1 s of 2 channels at 16000 Hz, too long: at most 1 s are read at once; cut it into windows"
    for name, content in {
        "a.wav": encoded(FORMATS["wav"]),
        "b.flac": flac(0),
        "c.flac": flac(FRAMES),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert fault_of_reading(tmp_path / name, message) == "refused"
    assert (
        audio.read_header(tmp_path / "a.wav").samples == FRAMES
    )  # a long recording of noise is read in parts


def test_a_file_whose_header_is_repaired_is_not_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(sound_files, "MOST_BYTES", 1000)
    (tmp_path / "a.wav").write_bytes(wav(fmt(), chunk(b"data", SOUND, 0)))
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav")[0] * 32768, SAMPLES)
    (tmp_path / "a.raw").write_bytes((tmp_path / "a.wav").read_bytes())  # libsndfile believes the name
    assert fault_of(tmp_path / "a.raw", "80044 bytes, too long; cut it into clips") == "refused"


def test_a_file_of_endless_chunks_is_looked_at_for_a_bounded_time(tmp_path):
    (tmp_path / "a.wav").write_bytes(wav(*[chunk(b"JUNK", b"")] * 100_000))
    assert fault_of(tmp_path / "a.wav", "not a readable recording|holds no samples") in (
        "unreadable",
        "empty",
    )


@pytest.mark.parametrize(
    "content",
    [encoded(FORMATS["wav"]), wav(fmt(), chunk(b"data", SOUND, 0)), encoded({"format": "FLAC"}), flac(0)],
)
def test_a_part_is_what_the_whole_has_there(tmp_path, content):
    (tmp_path / "a.wav").write_bytes(content)
    part = audio.read_part(tmp_path / "a.wav", 15_000, 1000)
    np.testing.assert_array_equal(part * 32768, SAMPLES[:, 15_000:16_000])
    assert audio.read_part(tmp_path / "a.wav", FRAMES - 10, 1000).shape == (2, 10)


# 24 bits in 32


def bits_32(samples, *, valid: int | None) -> bytes:
    return wav(fmt(bits=32, valid=valid), chunk(b"data", samples.T.astype("<i4").tobytes()))


def test_24_valid_bits_at_the_lower_end_of_32_are_moved(read):
    samples = SAMPLES.astype(np.int32) * 256 + 77
    recorded = read(bits_32(samples, valid=24))
    np.testing.assert_array_equal(recorded.samples, (samples / 2**23).astype(np.float32))
    assert kinds(recorded) == ["right_aligned"]
    assert "moved" in recorded.notes[0].message


@pytest.mark.parametrize("valid", [24, 32, None])
def test_samples_at_the_upper_end_stay_there(read, valid):
    samples = (SAMPLES.astype(np.int32) * 256 + 77) << 8
    recorded = read(bits_32(samples, valid=valid))
    np.testing.assert_array_equal(recorded.samples, (samples / 2**31).astype(np.float32))
    assert recorded.notes == ()


@pytest.mark.parametrize("valid", [None, 32])
def test_without_valid_bits_the_lower_end_is_only_noted(read, valid):
    samples = SAMPLES.astype(np.int32) * 256 + 77
    recorded = read(bits_32(samples, valid=valid))
    np.testing.assert_array_equal(recorded.samples, (samples / 2**31).astype(np.float32))
    assert kinds(recorded) == ["right_aligned"]


def test_a_quiet_recording_is_no_misplaced_one(read):
    quiet = SAMPLES.astype(np.int32) // 8 + 1
    assert read(bits_32(quiet, valid=None)).notes == ()
    assert read(bits_32(SAMPLES.astype(np.int32) * 256, valid=24)).notes == ()  # the low bytes are zero


# lossy coding, raw samples


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "ULAW", "ALAW", "GSM610"])
def test_lossy_coding_in_a_wav_is_read_and_noted(read, subtype):
    samples = SAMPLES[:1] if subtype == "GSM610" else SAMPLES
    recorded = read(encoded({"format": "WAV"}, samples, subtype=subtype))
    assert kinds(recorded) == ["lossy"]
    assert subtype in recorded.notes[0].message
    n = FRAMES - 2000
    assert np.corrcoef(recorded.samples[0, :n], samples[0, :n])[0, 1] > 0.5


@pytest.mark.parametrize(("kind", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_lossy_files_that_are_called_wav_are_read_and_noted(read, kind, subtype):
    rate = 48000 if subtype == "OPUS" else 44100
    recorded = read(encoded({"format": kind}, subtype=subtype, rate=rate))
    assert (recorded.rate, len(recorded.samples), kinds(recorded)) == (rate, 2, ["lossy"])
    assert abs(recorded.header.samples - FRAMES) < 3000


def test_mpeg_data_in_a_wav_are_read_and_noted(read):
    mpeg = encoded({"format": "MP3"}, subtype="MPEG_LAYER_III", rate=44100)
    head = struct.pack("<HHIIHHHHIHHH", 0x55, 2, 44100, 16000, 1, 0, 12, 1, 2, 417, 1, 1393)
    recorded = read(
        wav(chunk(b"fmt ", head), chunk(b"fact", struct.pack("<I", FRAMES)), chunk(b"data", mpeg))
    )
    assert (recorded.samples.shape, kinds(recorded)) == ((2, FRAMES), ["lossy"])


@pytest.mark.parametrize("suffix", [".raw", ".pcm", ".RAW"])
def test_raw_samples_by_name_are_refused_with_a_way_to_pipe_them(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(SOUND)
    message = (
        r"raw samples tell neither their rate nor their channels; pipe them, as in `nearfar score DETECTOR - "
    )
    assert fault_of(path, message) == "unreadable"


@pytest.mark.parametrize("suffix", [".raw", ".pcm"])
def test_a_sound_file_that_is_called_raw_is_read(read, suffix):
    assert_whole(read(encoded(FORMATS["wav"]), f"a{suffix}"))


# no files


def test_a_folder_and_a_pipe_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    assert fault_of(tmp_path / "pipe.wav", "a pipe or device, and no file") == "unreadable"
    assert fault_of(tmp_path / "folder.wav", "a folder; give a recording") == "unreadable"


def test_a_file_that_may_not_be_opened_is_unreadable(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(encoded(FORMATS["wav"]))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert fault_of(tmp_path / "a.wav", r"cannot be opened \(Permission denied\)") == "unreadable"


@pytest.mark.parametrize("kind", ["wav", "aiff"])
def test_a_name_that_is_not_utf_8_is_read(tmp_path, kind):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/L\xfcfter.wav"))
    path.write_bytes(encoded(FORMATS[kind]))
    assert_whole(audio.read_recorded(path))


# streams


def stream(content: bytes) -> audio.Recorded:
    return audio.read_stream(io.BytesIO(content), "standard input", rate=8000, channels=2)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_sound_file_on_a_stream_is_decoded(kind):
    assert_whole(stream(encoded(FORMATS[kind])))


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (wav(fmt(), chunk(b"data", SOUND, 0x80000000), riff=0x80000024), []),
        (wav(fmt(), chunk(b"data", SOUND, 0), riff=36), ["unfinished_header"]),
        (flac(0), ["unfinished_header"]),
        (wav(fmt(), chunk(b"data", SOUND, len(SOUND) + 44)), ["wrong_length"]),
    ],
)
def test_a_sound_file_on_a_stream_has_the_same_rules(content, note):
    recorded = stream(content)
    assert_whole(recorded)
    assert kinds(recorded) == note


@pytest.mark.parametrize(("kind", "rate"), [("MP3", 44100), ("MP3", 22050), ("MP3", 8000), ("OGG", 44100)])
@pytest.mark.parametrize("before", [b"", b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10)])
def test_lossy_files_on_a_stream_are_decoded(kind, rate, before):
    if before and kind == "OGG":
        before = b""
    recorded = stream(before + encoded({"format": kind}, rate=rate, subtype=None))
    assert (recorded.rate, kinds(recorded)) == (rate, ["lossy"])


def test_a_truncated_sound_file_on_a_stream_is_refused():
    with pytest.raises(AudioError, match="standard input: truncated, 40000 of 80000 bytes"):
        stream(wav(fmt(), chunk(b"data", SOUND))[:-40_000])


def test_anything_else_on_a_stream_is_raw_pcm():
    recorded = stream(SOUND)
    np.testing.assert_array_equal(recorded.samples * 32768, SAMPLES)
    assert (recorded.rate, recorded.header.format, recorded.samples.dtype) == (8000, "RAW/PCM_16", np.float32)


@pytest.mark.parametrize("beginning", [b"\xff\xfb", b"RIFFxxxxLIST", b"FORMxxxx8SVX", b"ID"])
def test_raw_pcm_that_begins_like_a_file_is_raw_pcm(beginning):
    content = beginning + SOUND[len(beginning) :]
    np.testing.assert_array_equal(
        stream(content).samples * 32768, np.frombuffer(content, "<i2").reshape(-1, 2).T
    )


@pytest.mark.parametrize("count", [2, 5])
def test_raw_pcm_must_be_whole_frames(count):
    message = f"standard input: {count} bytes are no sound file, and not whole frames of 2 16-bit channels"
    with pytest.raises(AudioError, match=message) as caught:
        stream(bytes(count))
    assert caught.value.fault == "unreadable"


def test_a_stream_without_a_byte_is_empty():
    with pytest.raises(AudioError, match="standard input: it ended without a single byte") as caught:
        stream(b"")
    assert caught.value.fault == "empty"


@pytest.mark.parametrize("content", [bytes(60_000), encoded(FORMATS["wav"])], ids=["raw", "wav"])
def test_a_stream_that_does_not_end_is_read_no_further_than_a_recording_may_be_long(monkeypatch, content):
    monkeypatch.setattr(audio, "MOST_BYTES", 30_000)
    monkeypatch.setattr(audio, "MOST_SAMPLES", 15_000)
    endless = io.BytesIO(content)
    with pytest.raises(AudioError, match="standard input: it does not end within 30000 bytes"):
        audio.read_stream(endless, "standard input", rate=8000, channels=2)
    assert endless.tell() < 60_000


# parts


def part_of(path: Path, start: int, stop: int, *, rate: int = RATE) -> Recording:
    return Recording((path,), span=Span(start, stop, rate))


PARTS = [(0, FRAMES), (0, 1), (FRAMES - 1, FRAMES), (777, 15_001)]


def assert_parts_are_what_the_whole_has(path: Path) -> None:
    whole = audio.read_recorded(path)
    for start, stop in PARTS:
        part = audio.read_recorded(part_of(path, start, stop, rate=whole.rate))
        np.testing.assert_array_equal(part.samples, whole.samples[:, start:stop])
        assert (part.header.samples, part.header.format) == (stop - start, whole.header.format)
        assert audio.read_header(part_of(path, start, stop, rate=whole.rate)) == part.header
        assert kinds(part) == kinds(whole)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT"])
def test_a_part_of_a_file_is_what_the_whole_has_there(tmp_path, kind, subtype):
    if (kind, subtype) == ("aifc", "FLOAT"):
        pytest.skip("libsndfile writes AIFF-C with floating point in big-endian order only")
    (tmp_path / "a.wav").write_bytes(encoded(FORMATS[kind], subtype=subtype))
    assert_parts_are_what_the_whole_has(tmp_path / "a.wav")


@pytest.mark.parametrize("content", [
    wav(fmt(), chunk(b"data", SOUND, 0)), encoded({"format": "FLAC"}),
    encoded({"format": "FLAC"}, subtype="PCM_24"), encoded({"format": "CAF"}, subtype="ALAC_16"),
])  # fmt: skip
def test_a_part_of_an_unfinished_or_packed_file(tmp_path, content):
    (tmp_path / "a.wav").write_bytes(content)
    assert_parts_are_what_the_whole_has(tmp_path / "a.wav")


@pytest.mark.parametrize("samples", [0, FRAMES])
def test_a_part_of_a_stream_of_flac(tmp_path, samples):
    (tmp_path / "a.flac").write_bytes(flac(samples))
    assert_parts_are_what_the_whole_has(tmp_path / "a.flac")


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "ULAW", "ALAW"])
def test_a_part_of_a_lossy_file_is_what_the_whole_has_there(tmp_path, subtype):
    (tmp_path / "a.wav").write_bytes(encoded({"format": "WAV"}, subtype=subtype))
    assert_parts_are_what_the_whole_has(tmp_path / "a.wav")


@pytest.mark.parametrize("kind", ["MP3", "OGG"])
def test_a_part_of_a_file_in_which_libsndfile_seeks_only_roughly(tmp_path, kind):
    subtype = "MPEG_LAYER_III" if kind == "MP3" else "VORBIS"
    (tmp_path / "a.wav").write_bytes(encoded({"format": kind}, subtype=subtype, rate=44100))
    assert_parts_are_what_the_whole_has(tmp_path / "a.wav")


def test_a_quiet_part_is_moved_as_the_whole_file_is(tmp_path):
    loud = (SAMPLES.astype(np.int32) * 256 + 77) << 8
    loud[:, 5000:10_000] //= 2**12  # by itself, it looks as if it were at the lower end
    (tmp_path / "a.wav").write_bytes(bits_32(loud, valid=24))
    (tmp_path / "b.wav").write_bytes(bits_32(loud[:, 5000:10_000], valid=24))
    assert kinds(audio.read_recorded(tmp_path / "b.wav")) == ["right_aligned"]
    part = audio.read_recorded(part_of(tmp_path / "a.wav", 5000, 10_000))
    np.testing.assert_array_equal(part.samples, audio.read(tmp_path / "a.wav")[0][:, 5000:10_000])
    assert part.notes == ()


def test_a_file_that_is_too_long_to_be_read_at_once_is_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(sound_files, "MOST_SAMPLES", 10_000)
    for name, content in {"a.wav": encoded(FORMATS["wav"]), "b.wav": wav(fmt(), chunk(b"data", SOUND, 0)),
                          "c.flac": flac(0)}.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
        part = audio.read(part_of(tmp_path / name, 12_000, 17_000))[0]
        np.testing.assert_array_equal(part * 32768, SAMPLES[:, 12_000:17_000])
        with pytest.raises(AudioError, match="too long: at most 0 s are read at once"):
            audio.read(part_of(tmp_path / name, 12_000, 17_001))


def test_parts_that_are_not_there(tmp_path):
    (tmp_path / "a.wav").write_bytes(encoded(FORMATS["wav"]))
    for read_it in (audio.read_recorded, audio.read_header):
        with pytest.raises(
            AudioError, match=r"a\.wav#t=1\.249937,1\.25006.: the recording ends at 1\.25 s, before"
        ):
            read_it(part_of(tmp_path / "a.wav", FRAMES - 1, FRAMES + 1))
        with pytest.raises(AudioError, match="a part at 8000 Hz of a recording at 16000 Hz; cut it again"):
            read_it(part_of(tmp_path / "a.wav", 0, 100, rate=8000))
    (tmp_path / "b.flac").write_bytes(flac(0))
    with pytest.raises(AudioError, match=r"b\.flac#t=1\.2.*: truncated, 1 of 2 samples could be read"):
        audio.read(part_of(tmp_path / "b.flac", FRAMES - 1, FRAMES + 1))


def test_a_part_of_tracks_and_of_chosen_channels(tmp_path):
    for number, samples in enumerate(SAMPLES, start=1):
        (tmp_path / f"a_Tr{number}.wav").write_bytes(encoded(FORMATS["wav"], samples[None]))
    span = Span(300, 9000, RATE)
    tracks = Recording((tmp_path / "a_Tr1.wav", tmp_path / "a_Tr2.wav"), span=span)
    np.testing.assert_array_equal(audio.read(tracks)[0] * 32768, SAMPLES[:, 300:9000])
    swapped = Recording(tracks.paths, (2, 1), span)
    np.testing.assert_array_equal(audio.read(swapped)[0] * 32768, SAMPLES[::-1, 300:9000])
    assert str(swapped) == f"{tmp_path / 'a_Tr1.wav'}#t=0.01875,0.5625"


ENDLESS = {  # a chunk before the samples that says to be longer than any file: where its size stands
    "rf64": (16, struct.pack("<I", 0xFFFFFFFF)),
    "w64": (56, struct.pack("<Q", 2**64 - 1)),
    "caf": (12, struct.pack(">Q", 2**63 - 1)),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_chunk_that_says_to_be_longer_than_any_file(tmp_path, kind):
    content = bytearray(encoded(FORMATS[kind]))
    at, size = ENDLESS[kind]
    content[at : at + len(size)] = size
    (tmp_path / "a.wav").write_bytes(content)
    for read_it in (audio.read_recorded, audio.read_header):
        with pytest.raises(AudioError, match=r"a\.wav: not a readable recording"):
            read_it(tmp_path / "a.wav")


@pytest.mark.parametrize(("magic", "endless"), [(b"RF64", 0xFFFFFFFF), (b"BW64", 0xFFFFFFFF)])
def test_an_odd_chunk_of_large_wav_may_say_the_largest_size(magic, endless):
    content = magic + bytes(4) + b"WAVE" + b"ds64" + struct.pack("<I", endless) + bytes(40)
    assert extent_of(io.BytesIO(content), len(content)) is None


def test_a_size_that_32_bits_cannot_say_is_as_large_as_they_can():
    """Of a WAV above 4 GiB whose header was never finished: only its length is asked for here."""
    content = wav(fmt(), chunk(b"data", SOUND, 0))
    extent = extent_of(io.BytesIO(content), 5 * 2**30)
    assert extent is not None
    assert extent.is_unfinished
    assert b"\xff\xff\xff\xff" in extent.patches.values()
