"""A machine that runs for days: what is heard is what the truth says, from any block on, and without a click."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
from known_ways import known_ways  # noqa: F401
from scipy.signal import fftconvolve

from nearfar.recordings.audio import FAR, NEAR
from nearfar.simulation.continued import BLOCK_SECONDS
from nearfar.simulation.days import BEGINS, Settings, stream_of
from nearfar.simulation.machines import MACHINES
from nearfar.simulation.machines.mechanics import Condition
from nearfar.simulation.schedules import HOUR, Hall, Onset, Operation, Regime, regimes
from nearfar.simulation.signals import rms
from nearfar.simulation.streams import Drift, Hearing, Joined, Stream

RATE = 8000
BLOCK = BLOCK_SECONDS * RATE


def settings(**given: Any) -> Settings:
    chosen: dict[str, Any] = {
        "machines": ("pump",), "hours": 3.0, "rate": RATE, "snr_db": 0.0, "schedule": False, "hall": False, **given
    }  # fmt: skip
    return Settings(**chosen)


def heard(stream: Stream, first: int, count: int) -> np.ndarray:
    return np.concatenate(list(islice(stream.blocks(first), count)), axis=1).astype(np.float64)


def changed(stream: Stream, **days: Any) -> Stream:
    """The same stream with other days."""
    return replace(stream, days=replace(stream.days, **days))


@pytest.fixture(scope="module")
def steady() -> Stream:
    return stream_of(settings(), "pump")


def seconds_of(difference: np.ndarray) -> tuple[float, float]:
    """From the first sample of a difference that is not nearly zero to the last."""
    size = np.abs(difference).max(axis=0)
    there = np.flatnonzero(size > 1e-3 * size.max())
    return there[0] / RATE, (there[-1] + 1) / RATE


def test_a_stream_can_begin_at_any_block(steady):
    whole = heard(steady, 0, 4)
    assert np.array_equal(heard(steady, 2, 2), whole[:, 2 * BLOCK :])


def test_other_days_of_a_machine_have_its_hall_its_levels_and_another_sound(steady):
    other = stream_of(settings(day_seed=1), "pump")
    assert other.site.units == steady.site.units
    assert other.site.described("source") == steady.site.described("source")
    assert other.levels == steady.levels
    one, two = heard(steady, 0, 1), heard(other, 0, 1)
    assert abs(np.corrcoef(one[NEAR], two[NEAR])[0, 1]) < 0.3
    assert 20 * math.log10(rms(one[NEAR]) / rms(two[NEAR])) == pytest.approx(0, abs=1.5)
    assert stream_of(settings(seed=1), "pump").site.units != steady.site.units


def test_the_microphones_hear_by_the_ways_of_the_room():
    rng = np.random.default_rng(0)
    ways = [rng.standard_normal((2, 50)), rng.standard_normal((2, 50))]
    sounds = rng.standard_normal((2, 300))
    hearing = Hearing(ways, 100)
    found = np.concatenate([hearing(list(sounds[:, at : at + 100])) for at in (0, 100, 200)], axis=1)
    expected = sum(fftconvolve(s[None], way, axes=-1)[:, :300] for s, way in zip(sounds, ways, strict=True))
    assert np.allclose(found, expected, atol=1e-3)


def test_a_room_that_rang_before_goes_on_ringing():
    ways = [np.random.default_rng(1).standard_normal((2, 50))]
    sound = np.random.default_rng(2).standard_normal(100)
    hearing, expected = Hearing(ways, 100), fftconvolve(sound[None], ways[0], axes=-1)[:, 100:]
    hearing.begin([sound])
    assert hearing([None])[:, :49] == pytest.approx(expected, abs=1e-4)
    assert not hearing([None]).any()


def test_blocks_must_follow_each_other(steady):
    joined = Joined(lambda _: np.zeros(BLOCK + steady.grid.overlap), steady.grid)
    joined.begin(3)
    with pytest.raises(ValueError, match="block 4 after block 3: blocks must follow each other"):
        joined(4)


@pytest.mark.parametrize("machine", ["fan", "slider", "valve"])
def test_there_is_no_click_where_blocks_meet(machine):
    """The largest jump from one sample to the next around a border is none that is not elsewhere."""
    stream = stream_of(settings(machines=(machine,), schedule=True, hall=True), machine)
    sound = heard(stream, 40, 9)
    jumps = np.abs(np.diff(sound, 2))
    around = RATE // 100
    borders = [jumps[:, at - around : at + around].max(axis=1) for at in range(BLOCK, sound.shape[1], BLOCK)]
    usual = jumps.reshape(2, -1)[:, : jumps.shape[1] // (2 * around) * 2 * around]
    usual = usual.reshape(2, -1, 2 * around).max(axis=2)
    assert np.median(borders, axis=0) == pytest.approx(np.median(usual, axis=1), rel=0.35)
    assert (np.max(borders, axis=0) <= 1.05 * usual.max(axis=1)).all()


def test_a_step_is_heard_from_its_time_on_and_not_before(steady):
    onset = Onset("leak", start_hours=20.5 / HOUR)
    difference = heard(changed(steady, onsets=(onset,)), 0, 3) - heard(steady, 0, 3)
    distance = math.dist(steady.site.place, steady.scene.microphones[NEAR]) / 343
    first, last = seconds_of(difference)
    assert first == pytest.approx(20.5 + distance, abs=0.02)
    assert last == pytest.approx(48, abs=0.01)


@pytest.mark.parametrize(
    ("profile", "half"), [("linear", 0.5), ("exponential", math.expm1(1.5) / math.expm1(3))]
)
def test_a_fault_grows_as_was_said(steady, profile, half):
    onset = Onset("leak", start_hours=8 / HOUR, profile=profile, hours=32 / HOUR, severity=0.8)
    assert onset.course([7, 24, 40, 1000]) == pytest.approx([0, 0.8 * half, 0.8, 0.8])
    at_once = Onset("leak", start_hours=0, severity=0.8)
    growing, full, healthy = (heard(changed(steady, onsets=o), 1, 1) for o in ((onset,), (at_once,), ()))
    around = slice(int(7.5 * RATE), int(8.5 * RATE))  # 24 s
    # With the healthy sound h and a fault a that is independent of it: (h + s a) / sqrt(1 + s^2 a^2).
    growing, full, healthy = growing[NEAR, around], full[NEAR, around], healthy[NEAR, around]
    basis = np.stack([healthy, full]).T
    share = np.linalg.lstsq(basis, growing, rcond=None)[0][1]
    leak = steady.site.units["A"].faults()["leak"].level
    expected = half * math.sqrt((1 + 0.64 * leak**2) / (1 + 0.64 * half**2 * leak**2))
    assert share == pytest.approx(expected, rel=0.03)


def test_a_faulty_machine_is_no_louder(steady):
    onset = Onset("cavitation", start_hours=0)
    healthy, broken = (changed(steady, onsets=o)._machine(2) for o in ((), (onset,)))
    assert rms(broken) == pytest.approx(rms(healthy), rel=0.02)
    assert np.corrcoef(broken, healthy)[0, 1] < 0.98


def test_what_passes_is_heard_when_the_truth_says(steady):
    hall = Hall.draw(BEGINS, 2 * HOUR, changing=True, rng=np.random.default_rng(3))
    kinds = {h.kind: h for h in hall.happenings}
    assert set(kinds) == {"vehicle", "alarm"}
    for happening in kinds.values():
        alone = replace(hall, changing=False, happenings=(happening,))
        block = int(happening.start // BLOCK_SECONDS)
        difference = heard(changed(steady, hall=alone), block, 4) - heard(steady, block, 4)
        first, last = seconds_of(difference)
        assert block * BLOCK_SECONDS + first == pytest.approx(happening.start, abs=0.5)
        assert block * BLOCK_SECONDS + last == pytest.approx(happening.end, abs=0.7)
        of_each_second = difference[FAR, : 4 * BLOCK].reshape(-1, RATE).std(axis=1)
        loudest = block * BLOCK_SECONDS + float(np.argmax(of_each_second))
        if happening.kind == "vehicle":
            assert loudest == pytest.approx((happening.start + happening.end) / 2, abs=2)
        assert of_each_second.max() > 0.05 * rms(heard(steady, block, 1)[FAR])


@pytest.mark.parametrize(("kind", "channel"), [("near", NEAR), ("far", FAR)])
def test_a_microphone_loses_level(steady, kind, channel):
    drift = Drift((kind,), 6.0, 0.5)
    ratio = heard(changed(steady, drift=drift), 56, 2) / heard(
        steady, 56, 2
    )  # 896 s are half an hour and 4 s
    assert 20 * np.log10(np.median(ratio[channel, :RATE])) == pytest.approx(-6 * 896 / 1800, abs=0.01)
    assert np.allclose(ratio[1 - channel], 1)


def test_a_machine_becomes_duller(steady):
    drift = Drift(("machine",), 6.0, 0.5)
    quiet = replace(steady, snr_db=80.0)
    before, after = (
        np.mean(np.abs(np.fft.rfft(heard(s, 120, 2)[NEAR].reshape(-1, 800))) ** 2, axis=0)
        for s in (quiet, changed(quiet, drift=drift))
    )
    least = 10 ** (-6 / 20)  # what is left at the highest frequency
    share = (1 - least) / (1 + least)
    expected = 20 * np.log10(np.abs(1 + share * np.exp(-1j * np.pi * np.arange(401) / 400)) / (1 + share))
    assert expected[-1] == pytest.approx(-6)
    assert np.abs(10 * np.log10(after / before) - expected)[5:350].max() < 0.3


def test_a_machine_is_silent_while_it_stops_and_turns_as_the_schedule_says():
    plan = (Regime(0, 32, Condition(1450, 1)), Regime(32, 80, None), Regime(80, 112, Condition(2050, 2)))
    operation = Operation.of(plan, nominal=1450, rate=RATE)
    stream = changed(stream_of(settings(), "pump"), operation=operation)
    loud = [rms(stream._machine(b)[: 15 * RATE]) for b in range(7)]
    assert loud[3:5] == [0, 0]
    assert loud[2] == pytest.approx(
        math.sqrt(4 / 4 / 15), rel=0.3
    )  # it runs down in 4 s: the mean of t^3 is 1 / 4
    for block, rpm in ((1, 1450), (6, 2050)):
        spectrum = np.abs(np.fft.rfft(stream._machine(block)[: 15 * RATE] * np.hanning(15 * RATE)))
        line = round(15 * 6 * rpm / 60)  # vanes pass
        near_line = spectrum[line - 15 : line + 16]
        assert near_line.max() > 0.99 * spectrum[line - 300 : line + 300].max()
    turned = operation.turns(np.array([0, 32, 34, 36, 80, 84]) * float(RATE))
    assert np.diff(turned) == pytest.approx(np.array([32, 1.5, 0.5, 0, 2 * 2050 / 1450]) * 1450 / 60)
    assert operation.loudness(np.array([31, 34, 36, 82, 84]) * float(RATE)) == pytest.approx(
        [1, 0.5**1.5, 0, 0.5**1.5, 1]
    )


def test_schedules_cover_all_conditions_and_stop():
    plan = regimes(MACHINES["fan"], 3 * HOUR, changing=True, rng=np.random.default_rng(0))
    assert {r.condition for r in plan} == {
        None,
        *(Condition(s, lo) for s in (1200, 1400, 1600) for lo in (1, 2)),
    }
    assert plan[0].condition is not None
    assert plan[-1].end >= 3 * HOUR
    for before, after in pairwise(plan):
        assert before.end == after.start
        assert before.condition != after.condition
        assert (after.end - after.start) % BLOCK_SECONDS == 0
    shorter = regimes(MACHINES["fan"], HOUR, changing=True, rng=np.random.default_rng(0))
    assert plan[: len(shorter)] == shorter


def test_the_hall_follows_its_shifts():
    hall = Hall.draw(
        datetime(2026, 1, 9, 12), 40 * HOUR, changing=True, rng=np.random.default_rng(0)
    )  # a Friday
    assert hall.level_db(HOUR) == 0
    assert hall.level_db(2 * HOUR) == pytest.approx(-1)  # in the middle of a change
    assert hall.level_db(20 * HOUR) == hall.level_db(26 * HOUR) == -6  # Saturday
    assert hall.shifts(0, 16 * HOUR) == [
        (0, 2 * HOUR, "early"), (2 * HOUR, 10 * HOUR, "late"), (10 * HOUR, 16 * HOUR, "night")
    ]  # fmt: skip
    by_day = [h.kind for h in hall.happenings if h.start < 10 * HOUR]
    assert by_day.count("vehicle") > by_day.count("alarm") > 0
    later = Hall.draw(datetime(2026, 1, 9, 12), 50 * HOUR, changing=True, rng=np.random.default_rng(0))
    assert later.happenings[: len(hall.happenings)] == hall.happenings
    still = Hall.draw(BEGINS, HOUR, changing=False, rng=np.random.default_rng(0))
    assert (still.happenings, still.level_db(20 * HOUR), still.shifts(0, 9)) == ((), 0, [(0, 9, "steady")])


def test_noise_is_quieter_at_night(steady):
    evening = Hall(datetime(2026, 1, 5, 21, 30), changing=True, happenings=())
    loud, quiet = (
        heard(changed(replace(steady, snr_db=-40.0), hall=evening), block, 1)[FAR] for block in (10, 160)
    )
    reference = [heard(replace(steady, snr_db=-40.0), block, 1)[FAR] for block in (10, 160)]
    assert 20 * math.log10(rms(loud) / rms(reference[0])) == pytest.approx(-2, abs=0.1)
    assert 20 * math.log10(rms(quiet) / rms(reference[1])) == pytest.approx(-6, abs=0.1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("leak@3", Onset("leak", 3.0)),
        ("pump/leak@0.5,linear=2", Onset("leak", 0.5, "linear", 2.0, machine="pump")),
        ("any@1, exponential=2, severity=0.5", Onset("any", 1.0, "exponential", 2.0, 0.5)),
        ("leak@1,step", Onset("leak", 1.0)),
    ],
)
def test_faults_on_the_command_line(text, expected):
    assert Onset.parse(text) == expected


@pytest.mark.parametrize("text", ["leak", "@3", "leak@x", "leak@3,linear=x", "/leak@3", "leak@3,severity"])
def test_a_fault_that_cannot_be_read(text):
    with pytest.raises(ValueError, match=r"expected \[MACHINE/\]FAULT@HOURS|must be above 0"):
        Onset.parse(text)
    with pytest.raises(ValueError, match="no profile 'quadratic'"):
        Onset.parse("leak@3,quadratic=2")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"start_hours": -1}, "start_hours=-1: must be finite and not negative"),
        ({"hours": 1}, "hours=1: a step takes no time"),
        ({"profile": "linear"}, "hours=0.0: linear growth needs the hours until"),
        ({"severity": 0}, "severity=0: must be above 0"),
        ({"severity": 1.1}, "severity=1.1: must be above 0"),
    ],
)
def test_onsets_that_make_no_sense(given, message):
    with pytest.raises(ValueError, match=message):
        Onset(**{"fault": "leak", "start_hours": 1.0, **given})
