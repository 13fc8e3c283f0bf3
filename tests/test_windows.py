"""Windows of long recordings: which there are, and that they are what the whole has there."""

import math
from itertools import pairwise
from pathlib import Path

import naive_windows
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearfar.recordings.recording import Recording, Span
from nearfar.windows.cutting import LEAST_REST, Cut, Window, parse_time, told_time

RATES = st.sampled_from([8000, 16_000, 22_050, 44_100, 48_000, 51_200])


@given(
    seconds=st.floats(0.5, 60),
    share=st.floats(0.05, 1),
    rate=RATES,
    hops=st.floats(0.001, 300),
)
def test_windows_cover_a_recording(seconds, share, rate, hops):
    cut, samples = Cut(seconds, share * seconds), max(1, round(hops * share * seconds * rate))
    spans = cut.spans(samples, rate)
    window, hop = cut.window_samples(rate), cut.hop_samples(rate)
    assert [(span.start, span.stop) for span in spans] == naive_windows.windows(samples, window, hop)
    assert len(spans) == cut.count(samples, rate)
    assert spans[0].start == 0
    assert {len(span) for span in spans} == {min(window, samples)}
    assert [span.start for span in spans[:-1]] == [k * hop for k in range(len(spans) - 1)]
    assert 0 <= samples - spans[-1].stop < max(1, LEAST_REST * window)
    for one, after in pairwise(spans):
        assert one.start < after.start <= one.stop
        assert one.stop < after.stop


def test_an_hour_has_360_windows_and_none_drifts():
    spans = Cut.of(10).spans(3600 * 44_100, 44_100)
    assert len(spans) == 360
    assert spans[-1] == Span(3590 * 44_100, 3600 * 44_100, 44_100)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (0, []),
        (1, [(0, 1)]),
        (999, [(0, 999)]),
        (1000, [(0, 1000)]),
        (1009, [(0, 1000)]),
        (1010, [(0, 1000), (10, 1010)]),
        (2000, [(0, 1000), (1000, 2000)]),
        (2500, [(0, 1000), (1000, 2000), (1500, 2500)]),
    ],
)
def test_the_rest_of_a_recording(samples, expected):
    assert [(s.start, s.stop) for s in Cut.of(10).spans(samples, 100)] == expected


@pytest.mark.parametrize("index", [-1, 3])
def test_a_window_that_is_not_there(index):
    with pytest.raises(IndexError, match=rf"window {index}: the recording has 3"):
        Cut.of(10).span(index, 3000, 100)


@pytest.mark.parametrize(("seconds", "hop", "match"), [
    (0, 1, "window=0: must be a time above 0 s"),
    (math.nan, 1, "window=nan: must be"),
    (math.inf, 1, "window=inf: must be"),
    (10, 0, r"hop=0: must be above 0 s, and at most the window \(10 s\)"),
    (10, 10.5, r"hop=10.5: must be above 0 s, and at most the window \(10 s\)"),
    (10, math.nan, "hop=nan: must be above"),
])  # fmt: skip
def test_lengths_that_are_none(seconds, hop, match):
    with pytest.raises(ValueError, match=match):
        Cut(seconds, hop)


def test_a_window_knows_its_time():
    span = Cut(10, 2.5).span(3, 100 * 44_100, 44_100)
    window = Window.of(Recording((Path("hall/press.wav"),)), 3, span)
    assert (window.recording, window.index) == ("hall/press.wav", 3)
    assert (window.start, window.seconds, window.end) == (7.5, 10.0, 17.5)


@pytest.mark.parametrize(("text", "seconds"), [
    ("10", 10), (" 0.5 min ", 30), (".5s", 0.5), ("2h", 7200), ("1:30", 90), ("90:00", 5400), ("1:01:01.5", 3661.5),
    ("3 Days", 259_200), ("1 sec", 1),
])  # fmt: skip
def test_times_as_people_write_them(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "ten", "-1", "10 ms", "1 m", "1:70", "1:60:00", "1:2", "nan", "1e3", "5 s s"]
)
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match=r"window=.*: no time; give seconds"):
        parse_time(text, "window")


def test_times_in_words():
    told = [told_time(s) for s in (0.25, 119, 120, 3600, 9000, 3 * 3600, 100_000)]
    assert told == ["0.25 s", "119 s", "2 min", "60 min", "150 min", "3 h", "27.8 h"]
    with pytest.raises(ValueError, match="seconds=-1"):
        told_time(-1)


def test_a_part_needs_samples():
    with pytest.raises(ValueError, match="start=5, stop=5, rate=8000: a part of a recording must have"):
        Span(5, 5, 8000)
    with pytest.raises(ValueError, match="start=-1"):
        Span(-1, 5, 8000)


def test_names_tell_neighbouring_samples_apart():
    rng = np.random.default_rng(0)
    for rate in (8000, 44_100, 192_000, 384_000):
        starts = rng.integers(0, 100 * 3600 * rate, 200)
        assert (
            len({str(Span(int(s) + k, int(s) + k + 10 * rate, rate)) for s in starts for k in (0, 1)}) == 400
        )
