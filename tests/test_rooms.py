"""Rooms: the time of a decay, the law of distance, arrivals at their time."""

from __future__ import annotations

import time

import numpy as np
import pyroomacoustics
import pytest

from nearfar.simulation.rooms import INTERPOLATION, Room, heard, reverberation_seconds
from nearfar.simulation.signals import SPEED_OF_SOUND

RATE = 16000
SIZE = (9.0, 7.0, 4.0)
SOURCE, MICROPHONE = (2.0, 3.1, 1.0), (6.5, 4.2, 1.3)


@pytest.fixture(scope="module")
def room() -> Room:
    return Room.build(SIZE, 0.3, rate=RATE)


@pytest.mark.parametrize("size", [(6.0, 5.0, 3.0), SIZE, (11.0, 8.0, 5.0)])
@pytest.mark.parametrize("asked", [0.2, 0.27, 0.35])
def test_a_room_decays_in_the_time_that_was_asked_for(size: tuple[float, ...], asked: float) -> None:
    """At places of a test's own, by pyroomacoustics' measurement; the mean, for places differ."""
    ways = Room.build(size, asked, rate=RATE).ways(
        [(1.1, 1.3, 1.0), (2.2, 4.1, 1.7)], [(4.9, 2.9, 1.2), (4.2, 1.0, 2.1)], rate=RATE
    )
    found = [pyroomacoustics.experimental.measure_rt60(w, fs=RATE, decay_db=20) for w in ways.reshape(4, -1)]
    assert np.mean(found) == pytest.approx(asked, rel=0.15)


def test_the_reverberation_time_of_an_exponential_decay_is_its_time(rng: np.random.Generator) -> None:
    seconds = np.arange(RATE) / RATE
    response = rng.standard_normal(RATE) * 10 ** (-3 * seconds / 0.4)
    assert reverberation_seconds(response, RATE) == pytest.approx(0.4, rel=0.05)


def test_a_sound_that_nothing_reflects_has_no_reverberation() -> None:
    response = np.zeros(100)
    response[10] = 1.0
    assert reverberation_seconds(response, RATE) == 0


def test_direct_sound_comes_in_its_time_and_falls_with_the_distance(room: Room) -> None:
    at = [(3.0, 3.1, 1.0), (2.5, 3.1, 1.0)]
    ways = room.ways([SOURCE], at, rate=RATE)[0]
    peaks = np.abs(ways).argmax(axis=1)
    distances = [1.0, 0.5]
    np.testing.assert_allclose(peaks - INTERPOLATION, np.array(distances) / SPEED_OF_SOUND * RATE, atol=1)
    spectra = [np.abs(np.fft.rfft(way[: peak + 20])) for way, peak in zip(ways, peaks, strict=True)]
    band = [slice(len(s) // 4, len(s) // 2) for s in spectra]
    levels = [np.median(s[b]) for s, b in zip(spectra, band, strict=True)]
    assert levels[1] / levels[0] == pytest.approx(2, rel=0.1)


def test_a_way_is_the_same_there_and_back(room: Room) -> None:
    there = room.ways([SOURCE], [MICROPHONE], rate=RATE)
    back = room.ways([MICROPHONE], [SOURCE], rate=RATE)
    np.testing.assert_allclose(back, there, atol=1e-4 * np.abs(there).max())  # images are in single precision


def test_every_source_is_heard_by_every_microphone(room: Room) -> None:
    places, microphones = [SOURCE, (1.0, 1.0, 1.0)], [MICROPHONE, (8.0, 6.0, 2.0)]
    together = room.ways(places, microphones, rate=RATE)
    for s, place in enumerate(places):
        for m, microphone in enumerate(microphones):
            alone = room.ways([place], [microphone], rate=RATE)[0, 0]
            np.testing.assert_allclose(together[s, m], alone, atol=1e-12)


def test_the_number_of_threads_is_left_as_it_was(room: Room) -> None:
    before = pyroomacoustics.constants.get("num_threads")
    pyroomacoustics.constants.set("num_threads", 3)
    try:
        with pytest.raises(ValueError, match="is not inside the room"):
            room.ways([(-1.0, 1.0, 1.0)], [MICROPHONE], rate=RATE)
        room.ways([SOURCE], [MICROPHONE], rate=RATE)
        assert pyroomacoustics.constants.get("num_threads") == 3
    finally:
        pyroomacoustics.constants.set("num_threads", before)


@pytest.mark.parametrize(
    "place", [(0.0, 1.0, 1.0), (1.0, 7.0, 1.0), (1.0, 1.0, 9.0), (float("nan"), 1.0, 1.0)]
)
def test_a_place_outside_is_refused(room: Room, place: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"is not inside the room of size \(9.0, 7.0, 4.0\)"):
        room.ways([place], [MICROPHONE], rate=RATE)
    with pytest.raises(ValueError, match="is not inside the room"):
        room.ways([SOURCE], [place], rate=RATE)


@pytest.mark.parametrize("asked", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(asked: float) -> None:
    with pytest.raises(ValueError, match=r"reverberation_seconds=.*: all must be positive and finite"):
        Room.build(SIZE, asked, rate=RATE)


def test_a_time_too_short_for_the_room_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reverberation_seconds=0.02: impossible; .* Ask for a longer time"):
        Room.build((20.0, 15.0, 8.0), 0.02, rate=RATE)


@pytest.mark.parametrize(
    ("size", "asked"),
    [
        (SIZE, 10.0),
        (SIZE, 1e308),
        ((0.01, 0.01, 0.01), 0.3),
        ((1e-300, 1e-300, 1e-300), 0.3),
        ((1000.0, 2.0, 2.0), 2.0),
        ((1000.0, 1000.0, 0.1), 0.3),
        ((1e5, 1e5, 1e5), 0.3),
        ((1e300, 1.0, 1.0), 0.3),
    ],
)
def test_a_room_that_takes_too_many_reflections_is_refused_at_once(
    size: tuple[float, ...], asked: float
) -> None:
    message = (
        r"reverberation_seconds=.*: takes \S+ reflections and \S+ samples, but at most 4e\+06 .* shorter time"
    )
    before = time.process_time()
    with pytest.raises(ValueError, match=message):
        Room.build(size, asked, rate=RATE)
    with pytest.raises(ValueError, match=message):
        Room(size, asked, absorption=0.5).ways([], [], rate=RATE)
    assert time.process_time() - before < 1


@pytest.mark.parametrize(("size", "asked"), [((1e4, 1e4, 1e4), 10.0), ((300.0, 3.0, 3.0), 0.2)])
def test_a_search_without_an_end_ends(size: tuple[float, ...], asked: float) -> None:
    with pytest.raises(ValueError, match=r"impossible; .* in this room.*Ask for a"):
        Room.build(size, asked, rate=RATE)


@pytest.mark.parametrize(
    ("size", "rate"), [((np.nan, 2.0, 2.0), RATE), ((np.inf, 2.0, 2.0), RATE), (SIZE, 0)]
)
def test_a_room_of_no_size_is_refused(size: tuple[float, ...], rate: int) -> None:
    with pytest.raises(ValueError, match=r"all must be positive and finite"):
        Room.build(size, 0.3, rate=rate)


def test_both_microphones_hear_a_sound_through_their_way(rng: np.random.Generator) -> None:
    sound, ways = rng.standard_normal(300), rng.standard_normal((2, 50))
    expected = [np.convolve(sound, way, mode="valid") for way in ways]
    np.testing.assert_allclose(heard(sound, ways), expected, atol=1e-10)
