"""Pump, slider and valve: their formulas and the faults that only they have."""

import numpy as np
import pytest
from scipy.signal import find_peaks

from nearfar.simulation.faults import Impacts, Running
from nearfar.simulation.machines.mechanics import Condition, dry_sound
from nearfar.simulation.machines.pump import Cavitation, Pump
from nearfar.simulation.machines.slider import DryRail, OfScrew, RailDamage, Slider
from nearfar.simulation.machines.valve import Sticking, Valve, Whistle

RATE = 16000
SAMPLES = 10 * RATE
MACHINES = (Pump, Slider, Valve)
OWN_FAULTS = (
    Cavitation(vanes=6, collapses=150, resonance_hz=3000, damping=0.3, level=0.3),
    DryRail(3000, octaves=0.5, level=0.3),
    RailDamage(2000, damping=0.03, level=0.3),
    OfScrew(Impacts(1.0, 2000, damping=0.03, level=0.3)),
    Sticking(2500, octaves=0.1, seconds=0.04, level=0.3),
    Whistle(1200, octaves=0.05, level=0.3),
)


def _rms(signal):
    return np.sqrt(np.mean(np.square(signal)))


def _peak(signal, low, high, padded=1 << 19):
    """The frequency of the strongest line between ``low`` and ``high`` Hz."""
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(len(signal)), padded))
    frequencies = np.fft.rfftfreq(padded, 1 / RATE)
    within = (frequencies > low) & (frequencies < high)
    return frequencies[within][np.argmax(spectrum[within])]


def _line_over_floor(signal, hertz):
    """Power near ``hertz`` (1 %) over the median power around it (30 %), in dB."""
    power = np.abs(np.fft.rfft(signal * np.hanning(len(signal)))) ** 2
    frequencies = np.fft.rfftfreq(len(signal), 1 / RATE)
    off = np.abs(frequencies / hertz - 1)
    return 10 * np.log10(power[off < 0.01].max() / np.median(power[off < 0.3]))


def _run(machine, speed, load=1, seed=0, samples=SAMPLES, rate=RATE):
    return machine.run(Condition(speed, load), samples=samples, rate=rate, rng=np.random.default_rng(seed))


def _turning(hertz, seconds=10, sound=None, events=()):
    """Something of RMS one whose angle turns evenly, from 0."""
    angle = 2 * np.pi * hertz * np.arange(seconds * RATE) / RATE
    if sound is None:
        sound = np.random.default_rng(5).standard_normal(seconds * RATE)
    return Running(sound / _rms(sound), angle, RATE, np.asarray(events, float))


def _added(fault, running, severity=1.0, seed=0):
    return fault(running, severity=severity, rng=np.random.default_rng(seed)) - running.sound


@pytest.fixture(scope="module", params=MACHINES, ids=lambda machine: machine.__name__)
def specimen(request):
    return request.param.manufacture(np.random.default_rng(1))


class TestContract:
    @pytest.mark.parametrize("rate", [8000, 16000, 48000])
    def test_half_a_second_at_every_rate_and_condition(self, specimen, rate):
        for speed in specimen.SPEEDS.usual + specimen.SPEEDS.shifted:
            for load in specimen.LOADS.usual + specimen.LOADS.shifted:
                running = _run(specimen, speed, load, speed + load, samples=rate // 2, rate=rate)
                assert running.sound.shape == running.angle.shape == (rate // 2,)
                assert _rms(running.sound) == pytest.approx(1)
                assert np.all(np.diff(running.angle) > 0)
                if specimen.SPEED_UNIT == "cpm":
                    assert np.all((running.events >= 0) & (running.events < rate // 2))
                    assert len(running.events) >= 1
                    assert np.all(np.diff(running.events) > 0)

    @pytest.mark.parametrize("rate", [8000, 16000, 48000])
    def test_every_fault_is_heard_in_half_a_second(self, specimen, rate):
        running = _run(specimen, specimen.SPEEDS.usual[0], samples=rate // 2, rate=rate)
        assert len(specimen.faults()) == 5
        for name, fault in specimen.faults().items():
            faulty = fault(running, severity=1.0, rng=np.random.default_rng(2))
            assert np.all(np.isfinite(faulty)), name
            assert _rms(faulty - running.sound) > 0.05, name

    def test_equal_generators_give_equal_sounds(self, specimen):
        condition = Condition(specimen.SPEEDS.usual[0], 1)
        for name in specimen.faults():
            first, second = (
                dry_sound(
                    specimen,
                    condition,
                    fault=name,
                    severity=0.5,
                    samples=RATE,
                    rate=RATE,
                    rng=np.random.default_rng(9),
                )
                for _ in range(2)
            )
            np.testing.assert_array_equal(first, second)

    def test_specimens_differ(self, specimen):
        assert type(specimen).manufacture(np.random.default_rng(2)) != specimen
        assert type(specimen).manufacture(np.random.default_rng(1)) == specimen


class TestPump:
    def test_frequencies(self):
        of = Pump.manufacture(np.random.default_rng(0)).frequencies(Condition(1450, 1))
        assert of["shaft"] == pytest.approx(24.1667, abs=1e-3)
        assert of["vane_passing"] == pytest.approx(145.0)
        assert of["hum"] == pytest.approx(100.0)  # four poles at 50 Hz
        assert of["outer_race"] == pytest.approx(24.1667 * 4.5 * (1 - 7.94 / 39.04), rel=1e-4)

    @pytest.mark.parametrize("rpm", [1450, 1750])
    def test_lines(self, rpm):
        sound = _run(Pump.manufacture(np.random.default_rng(0)), rpm).sound
        vane = 6 * rpm / 60
        assert _peak(sound, 0.8 * vane, 1.2 * vane) == pytest.approx(vane, rel=0.01)
        for hertz in (rpm / 60, 100 * rpm / 1450, 2 * vane, 3 * vane):
            assert _line_over_floor(sound, hertz) > 15, hertz

    def test_throttling_makes_the_flow_louder(self):
        pump = Pump.manufacture(np.random.default_rng(0))
        tonal = [_line_over_floor(_run(pump, 1450, load).sound, 145.0) for load in (1, 2, 3)]
        assert tonal[0] > tonal[1] + 1 > tonal[2] + 2

    def test_cavitation_crackles_at_high_frequencies_with_the_vanes(self):
        fault = Cavitation(vanes=6, collapses=150, resonance_hz=3000, damping=0.3, level=0.3)
        crackle = _added(fault, _turning(24.0))
        power = np.abs(np.fft.rfft(crackle)) ** 2
        frequencies = np.fft.rfftfreq(SAMPLES, 1 / RATE)
        assert power[frequencies > 1500].sum() > 0.7 * power.sum()
        assert _peak(np.square(crackle) - np.mean(np.square(crackle)), 30, 400) == pytest.approx(144, abs=0.5)

    def test_the_number_of_collapses_is_the_one_asked_for(self):
        fault = Cavitation(vanes=6, collapses=2, resonance_hz=3000, damping=0.3, level=0.3, depth=0.0)
        crackle = np.abs(_added(fault, _turning(10.0)))
        heard = len(find_peaks(crackle, height=0.02 * crackle.max(), distance=20)[0])
        assert heard == pytest.approx(200, abs=45)  # 2 x 10 Hz x 10 s, Poisson


class TestSlider:
    def test_frequencies(self):
        slider = Slider.manufacture(np.random.default_rng(0))
        of = slider.frequencies(Condition(90, 1))
        assert of["cycle"] == pytest.approx(1.5)
        assert of["screw"] == pytest.approx(
            37.5
        )  # 10 turns a stroke, 3 strokes/s, 0.8 of the way in full speed
        assert of["balls"] == pytest.approx(37.5 * 8 * (1 - 4 / 20.4))
        assert of["outer_race"] == pytest.approx(37.5 * 4.5 * (1 - 7.94 / 39.04))
        assert of["rolling"] == pytest.approx(0.2 * 3 / 0.8 / slider.roughness)

    def test_it_reverses_twice_per_cycle(self):
        events = _run(Slider.manufacture(np.random.default_rng(0)), 110).events
        assert len(events) == pytest.approx(10 * 2 * 110 / 60, abs=1.5)
        np.testing.assert_allclose(np.diff(events) / RATE, 60 / 110 / 2, rtol=0.02)

    def test_each_reversal_is_a_blow(self):
        running = _run(Slider.manufacture(np.random.default_rng(0)), 110)
        for event in running.events.astype(int)[1:-1]:
            before = np.abs(running.sound[event - 100 : event]).max()
            assert np.abs(running.sound[event : event + 100]).max() > 3 * before

    @pytest.mark.parametrize("cpm", [90, 130])
    def test_between_the_ramps_the_balls_are_a_line(self, cpm):
        running = _run(Slider.manufacture(np.random.default_rng(0)), cpm, load=3)
        screw = 10 * 2 * cpm / 60 / 0.8
        balls = 8 * (1 - 4 / 20.4) * screw
        power = 0.0
        frequencies = np.fft.rfftfreq(1 << 15, 1 / RATE)
        for start, end in np.stack([running.events[:-1], running.events[1:]], axis=1):
            steady = running.sound[int(start + 0.22 * (end - start)) : int(start + 0.78 * (end - start))]
            power += np.abs(np.fft.rfft(steady * np.hanning(len(steady)), 1 << 15)) ** 2
        near = (frequencies > 0.7 * balls) & (frequencies < 1.4 * balls)
        assert frequencies[near][np.argmax(power[near])] == pytest.approx(balls, rel=0.015)

    def test_it_is_loud_in_motion_and_faint_at_rest(self):
        running = _run(Slider.manufacture(np.random.default_rng(0)), 110)
        for start, end in zip(running.events[:-1], running.events[1:], strict=True):
            moving = running.sound[int(start + 0.3 * (end - start)) : int(start + 0.7 * (end - start))]
            assert _rms(moving) > 4 * _rms(running.sound[int(end) - 100 : int(end)])

    def test_the_noise_of_rolling_gets_higher_with_the_velocity(self):
        slider = Slider(harmonics_db=(0.0,), roughness=0.3e-3, blow=0.0, resonance_hz=1300.0)
        running = _run(slider, 110)
        frequencies = np.fft.rfftfreq(256, 1 / RATE)
        above = frequencies > 700  # the balls' only line is at 295 Hz
        centroids = []
        for moment in (0.1, 0.5):  # of a stroke: half of full speed, and full speed
            power = 0.0
            for start, end in zip(running.events[:-1], running.events[1:], strict=True):
                middle = int(start + moment * (end - start))
                power += (
                    np.abs(np.fft.rfft(running.sound[middle - 128 : middle + 128] * np.hanning(256))) ** 2
                )
            centroids.append(np.sum((frequencies * power)[above]) / np.sum(power[above]))
        assert centroids[1] > 1.4 * centroids[0]

    def test_a_dry_rail_is_as_loud_as_the_carriage_is_fast(self):
        noise = np.abs(_added(DryRail(3000, octaves=0.5, level=0.3), _turning(1.0)))
        stroke = noise.reshape(20, -1)  # half a second each
        level = [_rms(stroke[:, int(at * 8000) - 80 : int(at * 8000) + 80]) for at in (0.05, 0.1, 0.5, 0.9)]
        np.testing.assert_allclose(np.divide(level, level[2]), [0.25, 0.5, 1, 0.5], rtol=0.1)

    def test_a_pit_in_the_rail_is_hit_there_and_back(self):
        for seed in range(5):
            hits = np.abs(_added(RailDamage(2000, damping=0.03, level=0.3), _turning(1.0), seed=seed))
            peaks = find_peaks(hits, height=0.1 * hits.max(), distance=RATE // 20)[0] / RATE
            assert len(peaks) == 20
            there, back = (peaks % 1).reshape(10, 2).T
            assert np.all((there > 1 / 6 - 1e-3) & (there < 1 / 3 + 1e-3))
            np.testing.assert_allclose(there + back, 1.0, atol=2e-3)

    def test_a_fault_of_the_screw_keeps_its_orders_but_follows_the_carriage(self):
        fault = OfScrew(Impacts(1.0, 3000, damping=0.1, level=0.3))
        hits = np.abs(_added(fault, _turning(0.5)))
        peaks = find_peaks(hits, height=0.2 * hits.max(), distance=200)[0] / RATE
        assert len(peaks) == pytest.approx(100, abs=1)  # 10 turns in each of 10 strokes
        steps = np.diff(peaks)
        assert np.min(steps) == pytest.approx(0.08, rel=0.02)  # 0.8 s a stroke's way at full speed, 10 turns
        assert np.max(steps) > 2 * np.min(steps)  # across a reversal


def _valve(**changes):
    values = {
        "opening_hz": 1700.0,
        "closing_hz": 1000.0,
        "click": 7.0,
        "hiss_hz": 2200.0,
        "build_up": 0.01,
        "hum_db": (0.0, -3.0, -6.0),
    }
    return Valve(**(values | changes))


def _open_and_closed(events, cpm):
    """The intervals in which the valve of load 1 is open, and those in which it is not."""
    intervals = np.stack([events[:-1], events[1:]], axis=1).astype(int)
    long = np.diff(intervals)[:, 0] > 0.5 * 60 / cpm * RATE
    return intervals[~long], intervals[long]


class TestValve:
    def test_frequencies(self):
        of = _valve().frequencies(Condition(200, 1))
        assert of == pytest.approx(
            {"cycle": 200 / 60, "hum": 100.0, "opening": 1700.0, "closing": 1000.0, "hiss": 2200.0}
        )

    @pytest.mark.parametrize("load", [1, 2, 3])
    @pytest.mark.parametrize("cpm", [160, 240])
    def test_it_clicks_twice_per_actuation_in_the_pattern_of_its_load(self, cpm, load):
        events = _run(_valve(), cpm, load).events
        assert len(events) == pytest.approx(2 * cpm / 6, abs=4)
        cycles = np.diff(events) / RATE * cpm / 60
        shortest, longest = {1: (0.4, 0.6), 2: (0.2, 1.0), 3: (0.3, 1.2)}[load]
        assert cycles.min() == pytest.approx(shortest, abs=0.06)
        assert cycles.max() == pytest.approx(longest, abs=0.08)

    def test_a_clip_begins_anywhere_in_the_pattern(self):
        pauses = [np.diff(_run(_valve(), 200, 3, seed, samples=2 * RATE).events) for seed in range(60)]
        clicks_to_the_long_pause = {int(np.argmax(pause > 0.8 * 0.3 * RATE)) for pause in pauses}
        assert clicks_to_the_long_pause == {0, 1, 2, 3, 4, 5}

    def test_each_event_is_a_click(self):
        running = _run(_valve(), 200)
        for event in running.events.astype(int)[1:-1]:
            before = _rms(running.sound[event - 200 : event])
            assert np.abs(running.sound[event : event + 40]).max() > 3 * before

    def test_stop_and_seat_ring_at_their_resonances(self):
        running = _run(_valve(click=100.0), 200)
        opened, closed = _open_and_closed(running.events, 200)
        for intervals, hertz in ((opened, 1700), (closed, 1000)):
            for start, _ in intervals:
                assert _peak(running.sound[start : start + 100], 300, 4000, 1 << 13) == pytest.approx(
                    hertz, rel=0.06
                )

    def test_it_hisses_and_hums_while_open_only(self):
        running = _run(_valve(), 160)
        opened, closed = _open_and_closed(running.events, 160)
        settled = 1200  # samples: over seven times the time to build up
        during = np.median([_rms(running.sound[start + settled : end - 10]) for start, end in opened])
        between = np.median([_rms(running.sound[start + settled : end - 10]) for start, end in closed])
        assert during > 5 * between > 0.25 * during  # never silent
        assert _peak(running.sound, 60, 140) == pytest.approx(100, abs=0.1)

    def test_the_hiss_builds_up(self):
        running = _run(_valve(click=0.0), 160)
        opened, _ = _open_and_closed(running.events, 160)
        first = np.median([_rms(running.sound[start : start + 50]) for start, _ in opened])
        later = np.median([_rms(running.sound[start + 800 : start + 1600]) for start, _ in opened])
        assert first < 0.4 * later

    def test_a_plunger_squeaks_after_the_events(self):
        events = np.arange(1.5, 10, 1.0) * RATE
        squeaks = _added(Sticking(2500, octaves=0.1, seconds=0.04, level=0.3), _turning(1.0, events=events))
        assert not squeaks[: int(events[0])].any()
        power = np.square(squeaks[RATE:]).reshape(9, RATE).sum(axis=0)
        since = power[RATE // 2 :]
        assert since[:640].sum() == pytest.approx((1 - np.exp(-2)) * power.sum(), rel=0.1)  # 40 ms
        assert _peak(squeaks, 500, 7000) == pytest.approx(2500, rel=0.1)

    def test_a_clogged_outlet_whistles_while_air_flows(self):
        flow = np.repeat(np.tile([0.01, 1.0], 10), RATE // 2)
        sound = flow * np.random.default_rng(5).standard_normal(SAMPLES)
        whistle = _added(Whistle(1200, octaves=0.02, level=0.3), _turning(1.0, sound=sound))
        halves = whistle.reshape(20, -1)[:, 4000:]
        assert _rms(halves[1::2]) > 20 * _rms(halves[::2]) > 0
        assert _peak(whistle, 300, 7000) == pytest.approx(1200, rel=0.05)


@pytest.mark.parametrize("fault", OWN_FAULTS, ids=lambda fault: type(fault).__name__)
class TestOwnFaults:
    events = np.arange(0.5, 10) * RATE

    def test_severity_is_the_amplitude_of_what_is_added(self, fault):
        running = _turning(24.0, events=self.events)
        assert not _added(fault, running, severity=0.0).any()
        whole = _added(fault, running, severity=1.0)
        assert _rms(whole) == pytest.approx(0.3)
        np.testing.assert_allclose(_added(fault, running, severity=0.5), whole / 2, atol=1e-12)

    def test_the_level_is_relative_to_the_sound(self, fault):
        running = _turning(24.0, events=self.events)
        louder = Running(5 * running.sound, running.angle, RATE, running.events)
        np.testing.assert_allclose(_added(fault, louder), 5 * _added(fault, running), atol=1e-9)

    def test_silence_stays_silent(self, fault):
        running = _turning(24.0)
        silence = Running(np.zeros(SAMPLES), running.angle, RATE)
        assert not fault(silence, severity=1.0, rng=np.random.default_rng(0)).any()

    @pytest.mark.parametrize("severity", [-0.1, 1.1, float("nan")])
    def test_refuses_a_severity(self, fault, severity):
        with pytest.raises(ValueError, match=r"severity=.*: must be between 0"):
            fault(_turning(24.0, seconds=1), severity=severity, rng=np.random.default_rng(0))
