"""Explanations that no detector made, for tests of pages: what is in them is known, and their names are hostile."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nearfar.detector.fitted import BranchScore, Verdict
from nearfar.evidence.courses import Course
from nearfar.evidence.envelopes import EnvelopePeak, EnvelopeSpectrum
from nearfar.evidence.explanation import Explanation, NormalNeighbour, Sound
from nearfar.evidence.maps import BranchMap
from nearfar.evidence.reasons import Reason
from nearfar.evidence.spectra import BandLevels, FineSpectrum
from nearfar.recordings.inspection.measured import Levels

RATE = 16000
HOSTILE = '<img src=x onerror=alert(1)>"></script><script>alert(1)</script>L\udcfc\u202e.wav'
BURSTS_HZ, TONE_HZ = 4.0, 2300.0


def sound(rng, *, rate=RATE, seconds=4.0, fault=0.0, level=0.02):
    """Noise near and far; with a fault, a tone in bursts near."""
    time = np.arange(round(rate * seconds)) / rate
    far = level / 4 * rng.standard_normal(len(time))
    near = level * rng.standard_normal(len(time)) + 0.5 * far
    near += fault * np.sin(2 * np.pi * TONE_HZ * time) * (np.sin(2 * np.pi * BURSTS_HZ * time) > 0.5)
    near, far = near.astype(np.float32), far.astype(np.float32)
    return Sound(rate, near, far, near - far / 2, "cancelled_3taps")


def branch_map(branch, microphone, *, seconds=4.0, why_not=""):
    """One with a spot between 2 and 2.6 kHz."""
    times, frequencies = np.linspace(0, seconds, 41), np.geomspace(50, RATE / 2, 31)
    values = np.random.default_rng(1).exponential(0.02, (30, 40))
    band = (frequencies[:-1] > 2000) & (frequencies[1:] < 2700)
    values[np.ix_(band, np.arange(40) % 10 < 4)] += 1.0
    if why_not:
        times, frequencies, values = np.zeros(0), np.zeros(0), np.zeros((0, 0))
    return BranchMap(
        branch=branch,
        microphone=microphone,
        how="Each value is a part of the distance to the normal clips.",
        times=times,
        frequencies=frequencies,
        values=values,
        score=float(values.sum()),
        typical=1.0,
        why_not=why_not,
    )


def reason(**changes):
    """More energy at 2.1 to 2.6 kHz."""
    made = Reason(
        kind="band",
        direction="louder",
        low_hz=2100.0,
        high_hz=2600.0,
        peak_hz=2300.0,
        view="near",
        measure="level",
        beyond_db=9.2,
        share=0.99,
        normal_clips=120,
        from_median_db=11.0,
        level_from_median_db=11.0,
        from_expected_db=8.0,
        strength=5.0,
        score_share=0.62,
        far="not heard",
        far_from_expected_db=0.1,
        course=Course("bursts", rate_hz=4.0),
    )
    return replace(made, **changes)


def bands(view, rng):
    edges = np.geomspace(50, RATE / 2, 45)
    median = -60 - 8 * np.log10(edges[:-1] / 50)
    middle = np.sqrt(edges[:-1] * edges[1:])
    clip = median + rng.standard_normal(44) + 12 * np.exp(-((np.log(middle / TONE_HZ) / 0.12) ** 2))
    normal = np.array([median + step for step in (-5, -3, 0, 3, 5)])
    return BandLevels(view, edges, clip, clip + 3, normal, normal[0] - 1, normal[4] + 1, 120)


def fine(view, rng):
    frequencies = np.arange(1, 2049) * RATE / 4096
    median = -90 - 10 * np.log10(frequencies / 50)
    clip = median + 2 * rng.standard_normal(2048)
    clip[np.abs(frequencies - TONE_HZ) < 10] += 25
    return FineSpectrum(view, frequencies, clip, median - 4, median, median + 4, 24)


def envelope(rng):
    frequencies = np.arange(1, 800) * 0.125
    floor = np.full(799, -42.0)
    clip = floor + 3 * rng.standard_normal(799)
    peaks = []
    for order in (1, 2, 3):
        clip[np.argmin(np.abs(frequencies - order * BURSTS_HZ))] = -6.0 * order
        peaks.append(EnvelopePeak(order * BURSTS_HZ, -6.0 * order, 42 - 6.0 * order, 30.0, order))
    normal = floor + 3 * rng.standard_normal((3, 799))
    return EnvelopeSpectrum("near", 2100.0, 2600.0, frequencies, clip, floor, normal, tuple(peaks), BURSTS_HZ)


def explanation(name=HOSTILE, *, seed=0, rate=RATE, seconds=4.0, **changes):
    """Of an anomalous recording, with everything that there can be."""
    rng = np.random.default_rng(seed)
    names = ["normal_1.wav", "=HYPERLINK(1)<b>.wav", "normal_3.wav", "normal_4.wav"]
    made = Explanation(
        name=name,
        machine="fan <b>&amp;",
        system="spectral",
        threshold=3.2,
        false_alarm_rate=0.05,
        reference_scores=np.sort(rng.gamma(4, 0.4, 120)),
        verdict=verdict(name),
        headline="Anomaly: 9 dB more energy at 2.1 to 2.6 kHz than in 99 % of 120 normal clips, in bursts 4 times "
        "a second; the far microphone does not hear it.",
        p_value_means="p = 0.0083: none of the 120 normal clips behind the threshold scored as high.",
        reasons=(
            reason(),
            reason(direction="quieter", low_hz=100.0, high_hz=160.0, score_share=None, course=None),
        ),
        words=("62 % of the score comes from this band.",),
        health=("Both microphones work as in the training clips.",),
        missing=("The branch eat gives no map: its tokens cover the whole clip.",),
        bands=tuple(bands(view, rng) for view in ("near", "far")),
        spectra=tuple(fine(view, rng) for view in ("near", "far")),
        envelope=envelope(rng),
        maps=(
            branch_map("spectral", "near", seconds=seconds),
            branch_map("eat <i>", "near", why_not="No tokens in time."),
        ),
        neighbours=tuple(
            NormalNeighbour(
                each,
                "source" if i else "target",
                "spectral",
                1.0 + i,
                i + 1,
                sound(rng, rate=rate, seconds=seconds),
            )
            for i, each in enumerate(names)
        ),
        sound=sound(rng, rate=rate, seconds=seconds, fault=0.03),
        versions={"nearfar": "0.1.0", "numpy": np.__version__},
    )
    return replace(made, **changes)


def verdict(name=HOSTILE, **changes):
    """An anomaly, of two branches."""
    made = Verdict(
        name,
        score=6.75,
        p_value=1 / 121,
        decision="anomaly",
        branches=(BranchScore("spectral", 6.75, 0.01, 0.7), BranchScore("eat <i>", 1.2, 0.4, -0.1)),
        levels=Levels(near_dbfs=-33.6, far_dbfs=-46.1, coherence=0.12, near_tilt=-1.0, far_tilt=-1.5),
    )
    return replace(made, **changes)
