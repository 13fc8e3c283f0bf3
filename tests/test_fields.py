"""Noise from many places: that it is what its sources together would be heard as."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from known_ways import known_ways  # noqa: F401
from scipy.signal import csd, welch

from nearfar.recordings.audio import FAR, NEAR
from nearfar.simulation import fields
from nearfar.simulation.fields import SOURCES, Crowd, Field
from nearfar.simulation.rooms import Room, heard
from nearfar.simulation.signals import coloured, from_db

RATE, SECONDS = 8000, 20
MICROPHONES = ((2.0, 2.0, 1.2), (3.5, 3.0, 1.4))
MACHINE = (1.8, 2.1, 1.0)


@pytest.fixture(scope="module")
def room() -> Room:
    return Room((6.0, 5.0, 3.0), reverberation_seconds=0.2, absorption=0.4)


@pytest.fixture(scope="module")
def crowd(room: Room) -> Crowd:
    return draw(room, 0)


def draw(room: Room, seed: int) -> Crowd:
    return Crowd.draw(
        room, MICROPHONES[NEAR], away_from=(MACHINE, MICROPHONES[FAR]), away=1.0, margin=0.4,
        rng=np.random.default_rng(seed),
    )  # fmt: skip


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources whose levels do not wander."""
    monkeypatch.setattr(fields, "WANDER_DB", 0.0)


def test_a_crowd_is_many_sources_around(room: Room) -> None:
    for seed in range(10):
        crowd = draw(room, seed)
        assert SOURCES[0] <= len(crowd.places) <= SOURCES[1]
        assert len(crowd.levels_db) == len(crowd.slopes) == len(crowd.places)
        for place in crowd.places:
            assert all(
                0.4 - 1e-9 <= at <= size - 0.4 + 1e-9 for at, size in zip(place, room.size, strict=True)
            )
            assert min(math.dist(place, MACHINE), math.dist(place, MICROPHONES[FAR])) >= 1.0
        around = np.sign(np.array(crowd.places)[:, :2] - MICROPHONES[NEAR][:2])
        assert len({tuple(quadrant) for quadrant in around}) >= 3


@pytest.mark.usefixtures("steady")
def test_a_field_is_the_sum_of_its_sources(room: Room, crowd: Crowd) -> None:
    """Against every source synthesized and sent its own way: levels, spectra, cross-spectrum."""
    ways = room.ways(crowd.places, MICROPHONES, rate=RATE)
    field = Field.build(crowd, ways, power=1.0, rate=RATE)
    samples, rng = SECONDS * RATE, np.random.default_rng(0)
    summed = np.zeros((2, samples))
    for level_db, slope, of_source in zip(crowd.levels_db, crowd.slopes, ways, strict=True):
        noise = coloured(slope, samples=samples + ways.shape[-1] - 1, rate=RATE, rng=rng)
        summed += from_db(level_db) * heard(noise, of_source)
    summed /= np.sqrt(np.mean(summed[NEAR] ** 2))
    found = field(samples=samples, rng=rng)
    np.testing.assert_allclose(np.mean(found**2, axis=-1), field.power, rtol=0.05)
    np.testing.assert_allclose(np.mean(found**2, axis=-1), np.mean(summed**2, axis=-1), rtol=0.05)
    for channel in (NEAR, FAR):
        ours, theirs = (welch(s[channel], nperseg=256)[1][2:-2] for s in (found, summed))
        np.testing.assert_allclose(ours, theirs, rtol=0.25)
    ours, theirs = (csd(s[NEAR], s[FAR], nperseg=256)[1] for s in (found, summed))
    assert abs(np.vdot(ours, theirs)) / np.linalg.norm(ours) / np.linalg.norm(theirs) > 0.97
    assert np.angle(np.vdot(ours, theirs)) == pytest.approx(0.0, abs=0.1)


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("share_db", [-6.0, 3.0])
def test_a_field_is_as_strong_as_was_asked_for(room: Room, crowd: Crowd, share_db: float) -> None:
    from dataclasses import replace

    ways = room.ways(crowd.places, MICROPHONES, rate=RATE)
    field = Field.build(replace(crowd, share_db=share_db), ways, power=4.0, rate=RATE)
    power = np.mean(field(samples=20 * RATE, rng=np.random.default_rng(1)) ** 2, axis=-1)
    assert 10 * np.log10(power[NEAR] / 4.0) == pytest.approx(share_db, abs=0.3)


def test_levels_of_the_sources_wander(room: Room, crowd: Crowd) -> None:
    """So that two clips have not the same in common."""
    field = Field.build(crowd, room.ways(crowd.places, MICROPHONES, rate=RATE), power=1.0, rate=RATE)
    levels = 10 * np.log10(field._levels(400, np.random.default_rng(2)))
    assert levels.shape == (len(crowd.places), 400)
    assert np.std(levels) == pytest.approx(3.0, abs=0.5)


def test_short_clips_and_equal_generators(room: Room, crowd: Crowd) -> None:
    field = Field.build(crowd, room.ways(crowd.places, MICROPHONES, rate=RATE), power=1.0, rate=RATE)
    clips = [field(samples=100, rng=np.random.default_rng(seed)) for seed in (3, 3, 4)]
    assert clips[0].shape == (2, 100)
    np.testing.assert_array_equal(clips[0], clips[1])
    assert not np.array_equal(clips[0], clips[2])


def test_what_a_manifest_tells_is_json(room: Room, crowd: Crowd) -> None:
    field = Field.build(crowd, room.ways(crowd.places, MICROPHONES, rate=RATE), power=1.0, rate=RATE)
    told = json.loads(json.dumps(field.described(), allow_nan=False))
    assert told == {
        "places": [list(place) for place in crowd.places],
        "levels_db": list(crowd.levels_db),
        "slopes": list(crowd.slopes),
        "share_db": 0.0,
    }
