"""The page of an explanation: what it says of every kind of verdict, and what it weighs."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import explanations_made
import numpy as np
import pytest
from explanations_made import RATE, branch_map, explanation, sound, verdict

from nearfar.detector.fitted import Verdict
from nearfar.evidence.excerpts import Excerpt
from nearfar.report.pages import explained, page, sounds

NAN = float("nan")


def text_of(made):
    """What a reader sees, on one line."""
    found = re.sub(r"<(style|script)[^>]*>.*?</\1>", " ", made, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", found)).split())


@pytest.fixture(scope="module")
def anomaly():
    return explained.page(
        explanation("folder/anomaly.wav", seconds=1.0), command="nearfar explain det 'a b.wav'"
    )


def test_the_decision_stands_on_top_and_each_sentence_once(anomaly):
    said = text_of(anomaly)
    assert re.search(
        r"anomaly\.wav .{0,20}Dark colours Anomaly 9 dB more energy at 2\.1 to 2\.6 kHz than in 99 % of 120 normal",
        said,
    )
    assert "Anomaly: 9 dB" not in said
    for sentence in (
        "none of the 120 normal clips behind",
        "Both microphones work",
        "gives no map: its tokens",
    ):
        assert said.count(sentence) == 1
    assert "nearfar explain det 'a b.wav'" in said
    assert "Recording folder/anomaly.wav" in said


def test_every_part_is_there(anomaly):
    said = text_of(anomaly)
    for title in (
        "Where the score lies",
        "What was measured",
        "What the branches say",
        "Where the score of spectral comes from: near microphone",
        "Levels in bands: far microphone",
        "Spectrum: near microphone",
        "Envelope spectrum, 2100 to 2600 Hz: near microphone",
        "Near without what far explains",
        "eat <i>: No tokens in time.",
        "1 more of the normal clips",
    ):
        assert title in said, title
    assert anomaly.count("<audio") == 3 * 5
    assert "bursts, 4 a second" in said
    assert "Sounds are FLAC with 16 bits" in said


def test_it_says_how_much_louder_the_sounds_are(anomaly):
    said = text_of(anomaly)
    made = explanation("folder/anomaly.wav", seconds=1.0)
    for view in ("near", "far", "cancelled"):
        heard = [getattr(one.sound, view) for one in (made, *made.neighbours)]
        assert (
            f"All sounds of this row are {sounds.gain_for(heard):.0f} dB louder than they were recorded."
            in said
        )


def test_a_normal_recording_has_no_reasons():
    made = explanation(
        "normal.wav",
        seconds=1.0,
        headline="Normal: there is nothing to explain.",
        reasons=(),
        envelope=None,
        words=("Normal: there is nothing to explain.",),
        verdict=verdict(score=1.0, p_value=0.5, decision="normal", branches=(), levels=None),
    )
    said = text_of(explained.page(made))
    assert "Normal There is nothing to explain." in said
    assert "What was measured" not in said
    assert "What the branches say" not in said
    assert "Envelope spectrum" not in said
    assert "What speaks for it" not in said


def test_a_recording_that_cannot_be_read_says_why():
    made = explanation(
        "broken.wav",
        headline="Unusable: it is empty.",
        p_value_means="",
        reasons=(),
        words=("Unusable: it is empty.",),
        missing=(),
        bands=(),
        spectra=(),
        envelope=None,
        maps=(),
        neighbours=(),
        sound=None,
        threshold=None,
        false_alarm_rate=None,
        reference_scores=np.empty(0),
        verdict=Verdict("broken.wav", NAN, NAN, "unusable", error="it is empty"),
    )
    said = text_of(explained.page(made))
    assert "Unusable It is empty." in said
    assert said.lower().count("it is empty") == 1
    for title in ("Listen and compare", "Where in time", "Spectra against", "Anomaly score", "cannot show"):
        assert title not in said


def test_a_window_of_a_long_recording_is_named():
    window = Excerpt("day.wav", 600.0, 10.0, "most anomalous", windows=360, anomalous=2)
    said = text_of(explained.page(explanation("day.wav#t=600,610", seconds=0.5, window=window)))
    assert "Window 10 s from 600 s on, the most anomalous of 360" in said
    assert "Recording day.wav" in said


def test_a_map_tells_the_parts_of_the_score_and_shows_what_stands_out():
    made = explanation("a.wav", seconds=0.5, neighbours=())
    chart = explained._map_chart(made.maps[0], made)
    level, part = chart.numbers["layers"]
    assert (level["name"], part["name"]) == ("level (dBFS)", "part of the score")
    assert (part["low"], part["high"]) == (made.maps[0].values.min(), made.maps[0].values.max())
    assert chart.layers == ("map",)


def test_a_map_of_which_nothing_stands_out_says_so():
    flat = branch_map("spectral", "near", seconds=0.5)
    flat = replace(flat, values=np.full_like(flat.values, 0.01))
    said = text_of(explained.page(explanation("a.wav", seconds=0.5, maps=(flat,))))
    assert "Nothing stands out of this map." in said
    assert "Shown: map" not in said


def test_one_microphone_has_one_row(rng):
    one = replace(sound(rng, seconds=0.5), far=None, cancelled=None, cancelled_view="")
    said = text_of(explained.page(explanation("mono.wav", seconds=0.5, sound=one, neighbours=())))
    assert "This recording" in said
    assert "All sounds of this row" in said
    assert "Near without what far explains" not in said


def test_a_high_rate_is_resampled_for_the_players_and_said(rng):
    made = explanation("fast.wav", seconds=0.5, sound=sound(rng, rate=96000, seconds=0.5), neighbours=())
    said = text_of(explained.page(made))
    assert "Recorded at 96000 Hz and resampled to 48000 Hz for the players" in said


@pytest.mark.parametrize(
    ("seconds", "rate", "clips", "codec", "fit"),
    [
        (10, RATE, 3, "flac", 4),
        (10, RATE, 6, "flac", 5),
        (10, 48000, 3, "mp3", 4),
        (60, 48000, 3, "mp3", 1),
        (600, 48000, 0, "mp3", 1),
    ],
)
def test_sounds_are_exact_if_they_fit_and_the_recording_is_always_there(seconds, rate, clips, codec, fit):
    if not sounds.available("mp3"):
        pytest.skip("the libsndfile of this system has no MP3")
    silence = np.zeros(seconds * rate, np.float32)
    parts = [explained._Heard("", "", silence, rate)] * (1 + clips)
    found = explained._fitting(dict.fromkeys(explained.MICROPHONES, parts))
    assert found == (codec, fit)


def test_clips_that_are_left_out_are_counted(monkeypatch):
    monkeypatch.setattr(explained, "MOST_SOUND", 60_000)
    said = text_of(explained.page(explanation("a.wav", seconds=0.5)))
    assert re.search("[1-4] of 4 normal clips are left out to keep the page small.", said)


def test_a_page_of_ten_seconds_stays_small():
    made = explained.page(explanation(seconds=10.0))
    assert len(made.encode()) < page.MOST_BYTES


def test_two_pages_of_one_explanation_are_equal_bytes():
    first, second = (explained.page(explanation("a.wav", seconds=0.5)) for _ in range(2))
    assert first == second


def test_a_hostile_name_is_text_everywhere():
    made = explained.page(explanation(seconds=0.5))
    without = re.sub(r"<(style|script)>.*?</\1>", "", made, flags=re.DOTALL)
    assert "<img" not in without
    assert "<script>" not in without
    assert "<b>" not in without
    assert explanations_made.HOSTILE not in made
    made.encode()


def test_a_clip_that_several_branches_find_is_there_once():
    made = explanation("folder/anomaly.wav", seconds=0.5)
    first, second, *_ = made.neighbours
    both = (
        replace(first, branch="spectral", rank=1),
        replace(second, branch="spectral", rank=2),
        replace(first, branch="mn04", rank=1),
    )
    html_of = explained.page(replace(made, neighbours=both))
    assert html_of.count("<audio") == 3 * 3
    assert "nearest of spectral and mn04" in text_of(html_of)
