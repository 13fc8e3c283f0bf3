"""What sounds are built of: levels, spectra and formulas as the docstrings say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import welch

from nearfar.simulation.signals import (
    bump,
    coloured,
    drift,
    from_db,
    lines,
    normalized,
    ringing,
    rms,
    shaped,
)

RATE = 16000
LONG = 20 * RATE
Noise = Callable[..., NDArray[np.float64]]


def spectrum_db(signal: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    frequencies, power = welch(signal, RATE, nperseg=4096)
    return frequencies[1:], 10 * np.log10(power[1:])


# Levels


@pytest.mark.parametrize(("level", "factor"), [(0.0, 1.0), (20.0, 10.0), (-6.0, 0.501187), (-40.0, 0.01)])
def test_a_level_in_db_is_of_power(level: float, factor: float) -> None:
    assert from_db(level) == pytest.approx(factor, rel=1e-5)


def test_levels_come_in_arrays_too() -> None:
    np.testing.assert_allclose(from_db(np.array([0.0, 20.0])), [1.0, 10.0])


def test_the_rms_of_a_sine_is_its_amplitude_by_the_root_of_two() -> None:
    assert rms(3 * np.sin(2 * np.pi * np.arange(1000) / 100)) == pytest.approx(3 / 2**0.5)
    assert rms(np.array([3.0, -3.0])) == 3.0


def test_a_normalized_signal_has_rms_one_and_its_shape(rng: np.random.Generator) -> None:
    signal = 7 * rng.standard_normal(1000)
    assert rms(normalized(signal)) == pytest.approx(1)
    np.testing.assert_allclose(normalized(signal) * rms(signal), signal)


def test_silence_stays_silence() -> None:
    np.testing.assert_array_equal(normalized(np.zeros(10)), np.zeros(10))


# Noise


@pytest.mark.parametrize(
    "noise",
    [
        lambda **of: shaped(np.ones_like, **of),
        lambda **of: coloured(3.0, **of),
        lambda **of: bump(1000.0, octaves=0.5, **of),
    ],
)
@pytest.mark.parametrize("samples", [4000, 4001, 15991])
@pytest.mark.parametrize("rate", [8000, 48000])
def test_noise_has_rms_one_whatever_its_length(noise: Noise, samples: int, rate: int) -> None:
    first, again, other = (
        noise(samples=samples, rate=rate, rng=np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert first.shape == (samples,)
    assert rms(first) == pytest.approx(1)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_shaped_noise_follows_the_amplitude_that_was_asked_for(rng: np.random.Generator) -> None:
    step = shaped(lambda f: np.where(f < 2000, 1.0, 0.1), samples=LONG, rate=RATE, rng=rng)
    frequencies, levels = spectrum_db(step)
    below, above = levels[frequencies < 1900], levels[frequencies > 2100]
    assert below.mean() - above.mean() == pytest.approx(20, abs=0.3)
    assert max(below.std(), above.std()) < 1


def test_shaped_noise_is_gaussian(rng: np.random.Generator) -> None:
    noise = shaped(np.ones_like, samples=LONG, rate=RATE, rng=rng)
    assert np.mean(noise) == pytest.approx(0, abs=0.01)
    assert np.mean(noise**4) == pytest.approx(3, rel=0.05)


def test_shaped_noise_is_asked_for_no_amplitude_at_0_hz(rng: np.random.Generator) -> None:
    noise = shaped(lambda f: 1 / f, samples=RATE, rate=RATE, rng=rng)  # a warning of a division is an error
    assert np.isfinite(noise).all()


@pytest.mark.parametrize("slope", [0.0, 2.0, 3.0, 6.0])
def test_coloured_noise_falls_by_its_slope(slope: float, rng: np.random.Generator) -> None:
    frequencies, levels = spectrum_db(coloured(slope, samples=LONG, rate=RATE, rng=rng))
    band = (frequencies > 100) & (frequencies < 6000)
    fitted = np.polyfit(np.log2(frequencies[band]), levels[band], 1)[0]
    assert -fitted == pytest.approx(slope, abs=0.2)


def test_coloured_noise_is_flat_below_60_hz(rng: np.random.Generator) -> None:
    noise = coloured(6.0, samples=LONG, rate=RATE, rng=rng)
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequencies = np.fft.rfftfreq(LONG, 1 / RATE)

    def mean(low: float, high: float) -> float:
        return float(power[(frequencies > low) & (frequencies < high)].mean())

    assert mean(5, 25) == pytest.approx(mean(35, 58), rel=0.2)
    assert mean(110, 130) == pytest.approx(mean(5, 58) / 4, rel=0.2)


@pytest.mark.parametrize(("hertz", "octaves"), [(1000.0, 0.5), (500.0, 1.0), (2500.0, 0.3)])
def test_the_power_of_a_bump_has_halved_after_its_octaves(
    hertz: float, octaves: float, rng: np.random.Generator
) -> None:
    frequencies, levels = spectrum_db(bump(hertz, octaves=octaves, samples=5 * LONG, rate=RATE, rng=rng))
    at = np.log2(frequencies / hertz)

    def level(distance: float) -> float:
        return float(levels[np.abs(at - distance) < 0.04].mean())

    for side in (-1, 1):
        assert level(0) - level(side * octaves) == pytest.approx(3, abs=0.7)
        assert level(0) - level(1.5 * side * octaves) == pytest.approx(10 * np.log10(3.25), abs=0.7)


@pytest.mark.parametrize("hertz", [0.5, 2.0])
def test_a_drift_is_about_standard_normal_and_as_slow_as_asked_for(
    hertz: float, rng: np.random.Generator
) -> None:
    course = drift(hertz, samples=200_000, rate=100, rng=rng)
    assert course.mean() == pytest.approx(0, abs=0.15)
    assert course.std() == pytest.approx(0.9, abs=0.15)
    power = np.abs(np.fft.rfft(course)) ** 2
    frequencies = np.fft.rfftfreq(len(course), 1 / 100)
    assert power[frequencies < hertz].sum() > 0.95 * power.sum()
    distant = np.corrcoef(course[: -int(200 / hertz)], course[int(200 / hertz) :])[0, 1]
    assert distant == pytest.approx(0, abs=0.15)


@pytest.mark.parametrize("samples", [1, 4000])
def test_a_drift_may_be_shorter_than_its_first_step(samples: int, rng: np.random.Generator) -> None:
    course = drift(0.01, samples=samples, rate=8000, rng=rng)
    assert course.shape == (samples,)
    assert np.isfinite(course).all()


# Lines and ringing


def test_lines_are_the_sum_of_their_formula(rng: np.random.Generator) -> None:
    angle = np.cumsum(rng.uniform(0, 0.1, 500))
    found = lines(angle, (1.0, 2.5), np.array([3.0, 0.5]), np.array([0.1, -2.0]))
    expected = 3.0 * np.cos(angle + 0.1) + 0.5 * np.cos(2.5 * angle - 2.0)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_no_lines_are_silence() -> None:
    np.testing.assert_array_equal(lines(np.arange(5.0), (), np.empty(0), np.empty(0)), np.zeros(5))


def test_lines_want_an_amplitude_each() -> None:
    with pytest.raises(ValueError, match=r"zip\(\) argument 2 is shorter than argument 1"):
        lines(np.arange(5.0), (1.0, 2.0), np.ones(1), np.zeros(2))


def damped_sines(
    onsets: list[float], strengths: list[float], *, hertz: float, damping: float, samples: int, rate: int
) -> NDArray[np.float64]:
    """The formula of ``ringing``, impact by impact."""
    omega, total = 2 * np.pi * hertz / rate, np.zeros(samples)
    for onset, strength in zip(onsets, strengths, strict=True):
        since = np.arange(samples) - onset
        heard = np.where(
            since >= 0, np.exp(-damping * omega * np.maximum(since, 0)) * np.sin(omega * since), 0
        )
        total += strength * heard
    return total


@pytest.mark.parametrize(
    ("onsets", "strengths"),
    [
        ([0.0], [1.0]),
        ([10.0, 33.3, 500.75], [1.0, -0.4, 2.0]),
        ([100.0, 100.0, 100.5, 100.999], [1.0, 1.0, 1.0, 1.0]),
        ([1998.2, 1999.0], [1.0, 1.0]),
    ],
)
@pytest.mark.parametrize(
    ("hertz", "damping", "rate"), [(1500.0, 0.05, 16000), (3700.0, 0.002, 8000), (40.0, 0.3, 48000)]
)
def test_ringing_is_the_sum_of_damped_sines(
    onsets: list[float], strengths: list[float], hertz: float, damping: float, rate: int
) -> None:
    found = ringing(
        np.array(onsets), np.array(strengths), hertz=hertz, damping=damping, samples=2000, rate=rate
    )
    expected = damped_sines(onsets, strengths, hertz=hertz, damping=damping, samples=2000, rate=rate)
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_impacts_outside_the_signal_are_not_heard() -> None:
    onsets, strengths = [-500.0, -1.0, 20.0, 1999.5, 2000.0, 9e9], [9.0, 9.0, 1.0, 9.0, 9.0, 9.0]
    found = ringing(
        np.array(onsets), np.array(strengths), hertz=1000.0, damping=0.05, samples=2000, rate=RATE
    )
    expected = damped_sines([20.0], [1.0], hertz=1000.0, damping=0.05, samples=2000, rate=RATE)
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_nothing_rings_that_is_not_hit() -> None:
    found = ringing(np.empty(0), np.empty(0), hertz=1000.0, damping=0.05, samples=50, rate=RATE)
    np.testing.assert_array_equal(found, np.zeros(50))
