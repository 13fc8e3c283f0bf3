"""A detector hears hours: what it says of every window."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import synthetic

from nearfar.detector.fitted import Detector
from nearfar.listening import scoring
from nearfar.listening.scoring import listen, listen_to, piped
from nearfar.recordings import audio, sound_files
from nearfar.recordings.recording import Recording, Span
from nearfar.windows.cutting import Cut

RATE = synthetic.RATE
CUTS = [Cut(1.0, 1.0), Cut(1.0, 0.5), Cut(1.024, 0.512), Cut(1.024, 0.128), Cut(1.1, 0.3333)]


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Detector:
    return Detector.fit(synthetic.write_machine(tmp_path_factory.mktemp("data"), "fan") / "train", "spectral")


@pytest.fixture(scope="module")
def samples():
    """A long recording: normal, a fault in its middle, a silence."""
    parts = [synthetic.clip(900 + i, faulty=3 <= i < 6) for i in range(9)]
    parts[7] = np.zeros_like(parts[7])
    return np.concatenate(parts, axis=1)[:, : 9 * RATE - 777]


@pytest.fixture(scope="module")
def path(tmp_path_factory, samples) -> Path:
    path = tmp_path_factory.mktemp("long") / "long.wav"
    audio.write(path, samples, RATE)
    return path


def expected(detector, path, cut):
    """Window by window, as clips are scored."""
    recorded = audio.read_recorded(path)
    spans = cut.spans(recorded.samples.shape[1], recorded.rate)
    return [
        detector.score(recorded.samples[:, s.start : s.stop].copy(), recorded.rate, name=f"{path}#{s}")
        for s in spans
    ]


def assert_same(found, wanted):
    assert [f.verdict.name for f in found] == [w.name for w in wanted]
    assert [f.verdict.decision for f in found] == [w.decision for w in wanted]
    assert [f.verdict.faults for f in found] == [w.faults for w in wanted]
    np.testing.assert_allclose(
        [f.verdict.score for f in found], [w.score for w in wanted], rtol=1e-9, atol=0, equal_nan=True
    )
    np.testing.assert_array_equal([f.verdict.p_value for f in found], [w.p_value for w in wanted])


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_a_window_is_what_a_clip_is(detector, path, cut):
    found = list(listen(detector, path, cut=cut))
    assert_same(found, expected(detector, path, cut))
    assert {f.verdict.decision for f in found} == {"normal", "anomaly", "unusable"}
    starts = [
        min(i * cut.hop_samples(RATE), 9 * RATE - 777 - cut.window_samples(RATE)) / RATE
        for i in range(len(found))
    ]
    assert [f.window.start for f in found] == starts
    assert {f.window.seconds for f in found} == {cut.window_samples(RATE) / RATE}
    assert {f.window.recording for f in found} == {str(path)}


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_a_run_that_goes_on_says_the_same(detector, path, monkeypatch, cut):
    whole = [repr(f) for f in listen(detector, path, cut=cut)]
    for first, block in ((1, 1000), (len(whole) // 2, 10**6), (len(whole) - 1, 4096), (len(whole), 512)):
        monkeypatch.setattr(sound_files, "STREAMED", block)
        assert [repr(f) for f in listen(detector, path, cut=cut, first=first)] == whole[first:]


def test_the_windows_are_those_of_files_of_their_own(detector, path, samples, tmp_path):
    parts = []
    for i in range(8):
        parts.append(tmp_path / f"{i}.wav")
        audio.write(parts[-1], samples[:, i * RATE : (i + 1) * RATE], RATE)
    found = list(listen(detector, path, cut=Cut.of(1.0)))[:8]
    for one, other in zip(found, detector.score_files(parts), strict=True):
        assert (one.verdict.decision, one.verdict.faults) == (other.decision, other.faults)
        assert one.verdict.score == pytest.approx(other.score, rel=1e-9)


def test_a_part_of_a_recording_is_scored_alike(detector, path):
    spans = Cut.of(1.0).spans(9 * RATE - 777, RATE)
    files = detector.score_files([Recording((path,), span=span) for span in spans])
    assert [repr(f.verdict) for f in listen(detector, path)] == list(map(repr, files))


def test_windows_are_as_long_as_the_clips_of_the_fit(detector, path):
    assert [f.window.seconds for f in listen(detector, path)] == [1.0] * 9


# what cannot be used


def test_what_cannot_be_read_spoils_the_windows_that_it_touches(detector, path, samples, tmp_path):
    spoilt = samples.copy()
    spoilt[0, 2 * RATE + 5] = np.nan
    audio.soundfile.write(tmp_path / "a.wav", spoilt.T, RATE, subtype="FLOAT")
    os.truncate(tmp_path / "a.wav", (tmp_path / "a.wav").stat().st_size - 3 * RATE * 8)
    good, found = (list(listen(detector, p, cut=Cut.of(1.0))) for p in (path, tmp_path / "a.wav"))
    reasons = {f.window.index: f.verdict.error for f in found if f.verdict.error}
    assert reasons.keys() == {2, 5, 6, 7, 8}
    assert reasons[2] == "1 sample is NaN or infinite"
    assert reasons[6].startswith("truncated, 384000 of 1145784 bytes of audio are missing")
    for one, other in zip(found, good, strict=True):
        assert one.window.start == other.window.start
        assert one.verdict.decision == ("unusable" if one.window.index in reasons else other.verdict.decision)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"", "the file is empty"), (b"RIFF1234WAVEjunk", "not a readable recording")],
)
def test_a_recording_of_which_nothing_can_be_read_is_unusable(detector, tmp_path, content, message):
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    (found,) = listen(detector, path, first=3)
    assert (found.window.index, found.window.seconds, found.verdict.decision) == (3, 0.0, "unusable")
    assert message in found.verdict.error
    assert str(path) not in found.verdict.error


def test_a_recording_shorter_than_a_window_is_one(detector, samples, tmp_path):
    audio.write(tmp_path / "a.wav", samples[:, : RATE // 2], RATE)
    (found,) = listen(detector, tmp_path / "a.wav")
    assert (found.window.seconds, found.verdict.decision) == (0.5, "unusable")
    assert [fault.kind for fault in found.verdict.faults] == ["short"]


def test_one_channel_is_too_few(detector, samples, tmp_path):
    audio.write(tmp_path / "x_Tr1.wav", samples[:1], RATE)
    found = list(listen(detector, tmp_path / "x_Tr1.wav"))
    assert len(found) == 9
    for one in found:
        assert "needs 2 channels" in one.verdict.error
        assert "is one of several tracks" in one.verdict.error


def test_a_higher_rate_is_resampled_window_by_window(detector, samples, tmp_path):
    path = tmp_path / "a.wav"
    audio.write(path, np.repeat(samples[:, : 2 * RATE], 3, axis=1), 3 * RATE)
    cut = Cut(1.0, 0.5)
    assert_same(list(listen(detector, path, cut=cut)), expected(detector, path, cut))


# pipes, and the end of listening


def test_a_pipe_is_heard_as_a_file(detector, path, samples):
    content = np.rint(samples.T * 32768).clip(-32768, 32767).astype("<i2").tobytes()
    whole = list(listen(detector, path))
    for pipe in (io.BytesIO(content), path.open("rb")):
        with pipe, piped(detector, pipe, name="it") as stream:
            found = list(listen_to(detector, stream))
        assert [f.verdict.score for f in found] == [f.verdict.score for f in whole]
        assert found[2].verdict.name == "it#t=2,3"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"channels": 0}, "channels=0, rate=16000: both must be at least 1"),
        ({"selected": (2, 1)}, "channels 2,1 of raw PCM, which does not tell how many it has"),
    ],
)
def test_what_raw_samples_do_not_tell_must_be_said(detector, given, message):
    with pytest.raises(audio.AudioError, match=message), piped(detector, io.BytesIO(bytes(99)), **given):
        pass


def test_a_piped_file_must_agree_with_what_is_said_of_it(detector, path):
    with (
        path.open("rb") as pipe,
        pytest.raises(audio.AudioError, match="rate=8000, but it is a sound file"),
        piped(detector, pipe, rate=8000),
    ):
        pass


def test_listening_ends_when_asked(detector, path):
    found = listen(detector, path)
    next(found)
    found.close()
    assert list(found) == []


def test_a_part_is_listened_to_in_its_own_time(detector, path):
    found = list(scoring.listen(detector, Recording((path,), span=Span(RATE, 4 * RATE, RATE))))
    assert [f.window.start for f in found] == [0.0, 1.0, 2.0]
