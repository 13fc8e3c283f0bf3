"""Reasons and the words that are made of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from test_unusual import BANDS, normal_levels

from nearfar.evidence import reasons
from nearfar.evidence.courses import Course
from nearfar.evidence.reasons import Compared, Reason, find, loudness, told_band, told_db, told_hz

EDGES = 50.0 * 2 ** (np.arange(BANDS + 1) / 6)

LOUDER = Reason(
    kind="band",
    direction="louder",
    low_hz=2136.0,
    high_hz=2563.0,
    peak_hz=2300.0,
    view="near",
    measure="level",
    beyond_db=9.2,
    share=0.99,
    normal_clips=250,
    from_median_db=14.0,
    level_from_median_db=14.0,
    from_expected_db=13.0,
    strength=3.0,
    far="not heard",
    far_from_expected_db=0.1,
    course=Course("bursts", rate_hz=29.3),
)


def but(**changes: Any) -> str:
    return dataclasses.replace(LOUDER, **changes).words


def test_the_words_of_the_issue() -> None:
    assert LOUDER.words == (
        "9 dB more energy at 2.1 to 2.6 kHz than in 99 % of 250 normal clips, in bursts 29 times a second; the far "
        "microphone does not hear it"
    )


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"direction": "quieter", "course": None}, "9 dB less energy at 2.1 to 2.6 kHz"),
        ({"direction": "quieter", "course": None}, "; the far microphone shows no such change"),
        ({"share": 1.0, "normal_clips": 40}, "than in all 40 normal clips"),
        ({"measure": "relative"}, "kHz, relative to the rest of the sound, than in 99 %"),
        (
            {"measure": "expected"},
            "13 dB more energy at 2.1 to 2.6 kHz than expected from the rest of the sound (99 % of 250 normal "
            "clips: up to 4 dB)",
        ),
        ({"far": "heard", "far_from_expected_db": 8.0}, "hears it, too (+8.0 dB), so it may be the hall and not"),
        ({"far": "heard less", "far_from_expected_db": 2.0}, "microphone hears it, too, but less (+2.0 dB)"),
        (
            {"direction": "quieter", "far": "heard less", "far_from_expected_db": -1.0},
            "shows it, too, but less (-1.0 dB)",
        ),
        ({"course": Course("steady")}, "clips, steadily;"),
        ({"course": Course("steady", tone_hz=2345.0)}, "clips, as a tone at 2.34 kHz;"),
        ({"course": Course("bursts", tone_hz=2345.0, rate_hz=3.21)}, "2.34 kHz in bursts 3.2 times a second;"),
        ({"course": Course("bursts", rate_hz=1.23)}, "swelling 1.2 times a second;"),
        ({"course": Course("irregular")}, "in irregular knocks;"),
        ({"course": Course("once", begin_s=3.1, end_s=3.3)}, "once, at 3.2 s;"),
        ({"course": Course("part", begin_s=2.0, end_s=5.04)}, "only from 2.0 to 5.0 s;"),
        ({"course": Course("rising", change_db=6.4)}, "rising by 6 dB during the clip;"),
        ({"course": Course("falling", change_db=-6.4)}, "falling by 6 dB during the clip;"),
        (
            {"kind": "combination", "score_share": 0.623},
            "the sound at 2.1 to 2.6 kHz (62 % of what speaks for the score), with 13 dB more energy than expected",
        ),
        (
            {"kind": "combination", "from_expected_db": 0.1, "course": Course("steady")},
            "the sound at 2.1 to 2.6 kHz, where the mean level is as expected",
        ),
        ({"kind": "loudness"}, "the sound as a whole is 9 dB louder than in 99 % of 250 normal clips"),
        ({"kind": "loudness", "far": "heard"}, "so is that of the far microphone: look at the gain"),
    ],
)  # fmt: skip
def test_each_part_of_the_words(changes: dict[str, Any], part: str) -> None:
    assert part in but(**changes)


def test_nothing_is_said_of_a_far_microphone_that_is_not_there() -> None:
    assert "far" not in but(far="unknown")
    assert "far" not in but(kind="loudness", far="unknown")


def test_numbers_as_they_are_told() -> None:
    assert [told_db(x) for x in (0.04, 1.94, 1.96, 12.4)] == ["0.0 dB", "1.9 dB", "2 dB", "12 dB"]
    assert [told_hz(x) for x in (56.1, 994.0, 996.0, 8000.0)] == ["56 Hz", "990 Hz", "1 kHz", "8 kHz"]
    assert told_hz(1234.5, digits=3) == "1.23 kHz"
    assert told_band(891.0, 1260.0) == "890 Hz to 1.3 kHz"


def compared(
    changes: dict[str, tuple[int, int, float]], *, n: int = 120, gain: float = 0.0, seed: int = 1
) -> Compared:
    """Near and far, in each of which some bands are off by some dB."""
    clip, normal = {}, {}
    for i, view in enumerate(("near", "far")):
        clip[view] = normal_levels(1, seed + 10 * i)[0] + gain
        normal[view] = normal_levels(n, 50 + i)
        if view in changes:
            first, stop, db = changes[view]
            clip[view][first:stop] += db
    return Compared(EDGES, clip, normal, ("source",) * n)


def test_a_band_is_named_with_its_edges_and_levels() -> None:
    (reason, interval), *_ = find(compared({"near": (20, 23, 8.0)}), ["near"])
    assert (interval.first, interval.stop) == (20, 23)
    assert (reason.kind, reason.direction, reason.view) == ("band", "louder", "near")
    assert reason.low_hz == pytest.approx(EDGES[20])
    assert reason.high_hz == pytest.approx(EDGES[23])
    assert EDGES[20] < reason.peak_hz < EDGES[23]
    assert (reason.share, reason.normal_clips) == (0.99, 120)
    assert reason.score_share is None
    assert reason.course is None


def test_the_number_is_what_the_level_goes_beyond() -> None:
    both = compared({"near": (20, 23, 25.0)})
    reason, _ = find(both, ["near"])[0]
    level = 10 * np.log10((10 ** (both.normal["near"][:, 20:23] / 10)).sum(axis=1))
    own = 10 * np.log10((10 ** (both.clip["near"][20:23] / 10)).sum())
    assert reason.measure == "level"
    assert reason.beyond_db == pytest.approx(own - np.quantile(level, 0.99))
    assert reason.from_median_db == pytest.approx(own - np.median(level))


def test_a_gain_that_hides_a_level_is_taken_away_before_it_is_told() -> None:
    reason, _ = find(compared({"near": (30, 33, 6.0)}, gain=-4.0), ["near"])[0]
    assert reason.measure in ("relative", "expected")
    assert reason.beyond_db > 0


def test_the_number_of_normal_clips_is_that_of_those_it_was_compared_with() -> None:
    reason, _ = find(compared({"near": (20, 23, 25.0)}, n=900), ["near"])[0]
    assert (reason.measure, reason.normal_clips) == ("level", 900)
    found = [find(compared({"near": (8 + i, 10 + i, 6.0)}, n=900), ["near"])[0][0] for i in range(0, 20, 2)]
    expected = [reason for reason in found if reason.measure == "expected"]
    assert expected
    assert {reason.normal_clips for reason in expected} == {400}


def test_what_some_normal_clips_have_as_well_is_not_unusual_by_itself() -> None:
    """Three of 200 normal clips, which may be hidden faults, have as much: too few to widen the limits."""
    both = compared({"near": (20, 21, 4.0)}, n=200)
    both.normal["near"][[50, 100, 150], 20] += 4.0
    reason, interval = find(both, ["near"])[0]
    assert (interval.first, interval.stop) == (20, 21)
    assert interval.strength > 1
    assert reason.beyond_db < 0
    assert reason.kind == "combination"
    assert "99 %" not in reason.words


def test_all_is_said_of_few_clips() -> None:
    reason, _ = find(compared({"near": (20, 23, 12.0)}, n=30), ["near"])[0]
    assert (reason.share, reason.normal_clips) == (1.0, 30)
    assert "all 30 normal clips" in reason.words


@pytest.mark.parametrize(
    ("far", "said"), [(None, "not heard"), ((20, 23, 3.0), "heard less"), ((20, 23, 8.0), "heard")]
)
def test_whether_far_hears_it_too(far: tuple[int, int, float] | None, said: str) -> None:
    both = compared({"near": (20, 23, 8.0)} | ({} if far is None else {"far": far}))
    _, interval = find(both, ["near"])[0]
    assert reasons.far_hears(both.scan("far"), interval)[0] == said
    assert reasons.far_hears(None, interval) == ("unknown", None)


def test_a_clip_without_an_unusual_band_is_a_combination() -> None:
    found = find(compared({}), ["near"])
    assert [reason.kind for reason, _ in found] == ["combination"]


def test_neighbouring_bands_are_one() -> None:
    both = compared({"near": (20, 22, 8.0)})
    both.clip["near"][23:25] += 8.0
    found = find(both, ["near"])
    first = found[0][0]
    assert first.low_hz == pytest.approx(EDGES[20])
    assert first.high_hz == pytest.approx(EDGES[25])


def test_the_sound_as_a_whole() -> None:
    assert loudness(compared({}), "near") is None
    louder = loudness(compared({}, gain=20.0), "near")
    assert louder is not None
    assert (louder.kind, louder.direction, louder.far) == ("loudness", "louder", "heard")
    assert louder.beyond_db > 3
    quieter = loudness(compared({}, gain=-20.0), "near")
    assert quieter is not None
    assert quieter.direction == "quieter"
    assert all(
        reason.measure != "level"
        for reason, _ in find(compared({"near": (20, 23, 9.0)}, gain=20.0), ["near"])
    )


def test_what_is_quieter_only_beside_the_rest_is_told_later() -> None:
    """A hiss in most bands lifts what is expected of the others: these are not quieter by themselves."""
    both = compared({"near": (12, 40, 12.0)})
    found = [reason for reason, _ in find(both, ["near"])]
    assert found[0].direction == "louder"
    assert found[0].low_hz >= EDGES[11]
