"""Explanations that no detector made, for tests of pages: what is in them is known, and their names are hostile."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

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
    return SimpleNamespace(
        rate=rate, near=near, far=far, cancelled=near - far / 2, cancelled_view="cancelled_3taps"
    )


def branch_map(branch, microphone, *, seconds=4.0, why_not=""):
    """One with a spot between 2 and 2.6 kHz."""
    times, frequencies = np.linspace(0, seconds, 41), np.geomspace(50, RATE / 2, 31)
    values = np.random.default_rng(1).exponential(0.02, (30, 40))
    band = (frequencies[:-1] > 2000) & (frequencies[1:] < 2700)
    values[np.ix_(band, np.arange(40) % 10 < 4)] += 1.0
    if why_not:
        times, frequencies, values = np.zeros(0), np.zeros(0), np.zeros((0, 0))
    return SimpleNamespace(
        branch=branch,
        microphone=microphone,
        how="Each value is a part of the distance to the normal clips.",
        times=times,
        frequencies=frequencies,
        values=values,
        shown=values,
        score=float(values.sum()),
        adds_up=True,
        why_not=why_not,
    )


def reason(**changes):
    """More energy at 2.1 to 2.6 kHz."""
    return SimpleNamespace(
        **{
            "kind": "band",
            "direction": "louder",
            "low_hz": 2100.0,
            "high_hz": 2600.0,
            "peak_hz": 2300.0,
            "view": "near",
            "measure": "level",
            "beyond_db": 9.2,
            "share": 0.99,
            "normal_clips": 120,
            "from_median_db": 11.0,
            "score_share": 0.62,
            "far": "not heard",
            "far_from_expected_db": 0.1,
            "from_expected_db": 8.0,
            "course": SimpleNamespace(kind="bursts", tone_hz=None, rate_hz=4.0),
            "words": "9 dB more energy at 2.1 to 2.6 kHz than in 99 % of 120 normal clips",
        }
        | changes
    )


def bands(view, rng):
    edges = np.geomspace(50, RATE / 2, 45)
    median = -60 - 8 * np.log10(edges[:-1] / 50)
    middle = np.sqrt(edges[:-1] * edges[1:])
    clip = median + rng.standard_normal(44) + 12 * np.exp(-((np.log(middle / TONE_HZ) / 0.12) ** 2))
    normal = np.array([median + step for step in (-5, -3, 0, 3, 5)])
    return SimpleNamespace(
        view=view,
        edges=edges,
        clip=clip,
        peaks=clip + 3,
        normal=normal,
        lowest=normal[0] - 1,
        highest=normal[4] + 1,
        clips=120,
    )


def fine(view, rng):
    frequencies = np.arange(1, 2049) * RATE / 4096
    median = -90 - 10 * np.log10(frequencies / 50)
    clip = median + 2 * rng.standard_normal(2048)
    clip[np.abs(frequencies - TONE_HZ) < 10] += 25
    return SimpleNamespace(
        view=view,
        frequencies=frequencies,
        clip=clip,
        low=median - 4,
        median=median,
        high=median + 4,
        clips=24,
    )


def envelope(rng):
    frequencies = np.arange(1, 800) * 0.125
    floor = np.full(799, -42.0)
    clip = floor + 3 * rng.standard_normal(799)
    peaks = []
    for order in (1, 2, 3):
        clip[np.argmin(np.abs(frequencies - order * BURSTS_HZ))] = -6.0 * order
        peaks.append(
            SimpleNamespace(
                hz=order * BURSTS_HZ,
                level_db=-6.0 * order,
                above_floor_db=42 - 6.0 * order,
                above_normal_db=30.0,
                order=order,
            )
        )
    return SimpleNamespace(
        view="near",
        low_hz=2100.0,
        high_hz=2600.0,
        frequencies=frequencies,
        clip=clip,
        floor=floor,
        normal=floor + 3 * rng.standard_normal((3, 799)),
        peaks=tuple(peaks),
        rate_hz=BURSTS_HZ,
    )


def explanation(name=HOSTILE, *, seed=0, rate=RATE, seconds=4.0, **changes):
    """Of an anomalous recording, with everything that there can be."""
    rng = np.random.default_rng(seed)
    names = ["normal_1.wav", "=HYPERLINK(1)<b>.wav", "normal_3.wav", "normal_4.wav"]
    made = {
        "name": name,
        "machine": "fan <b>&amp;",
        "system": "spectral",
        "threshold": 3.2,
        "false_alarm_rate": 0.05,
        "reference_scores": np.sort(rng.gamma(4, 0.4, 120)),
        "normal_scores": 120,
        "verdict": SimpleNamespace(
            name=name,
            score=6.75,
            p_value=1 / 121,
            decision="anomaly",
            faults=(),
            error="",
            branches=(
                SimpleNamespace(name="spectral", score=6.75, p_value=0.01, contribution=0.7),
                SimpleNamespace(name="eat <i>", score=1.2, p_value=0.4, contribution=-0.1),
            ),
            levels=SimpleNamespace(
                near_dbfs=-33.6, far_dbfs=-46.1, coherence=0.12, near_tilt=-1.0, far_tilt=-1.5
            ),
        ),
        "headline": "Anomaly: 9 dB more energy at 2.1 to 2.6 kHz than in 99 % of 120 normal clips, in bursts "
        "4 times a second; the far microphone does not hear it.",
        "p_value_means": "p = 0.0083: none of the 120 normal clips behind the threshold scored as high.",
        "reasons": (
            reason(),
            reason(direction="quieter", low_hz=100.0, high_hz=160.0, beyond_db=2.0, score_share=None),
        ),
        "words": ("62 % of the score comes from this band.",),
        "health": ("Both microphones work as in the training clips.",),
        "missing": ("The branch eat gives no map: its tokens cover the whole clip.",),
        "window": None,
        "bands": tuple(bands(view, rng) for view in ("near", "far")),
        "spectra": tuple(fine(view, rng) for view in ("near", "far")),
        "envelope": envelope(rng),
        "maps": (
            branch_map("spectral", "near", seconds=seconds),
            branch_map("eat <i>", "near", why_not="No tokens in time."),
        ),
        "neighbours": tuple(
            SimpleNamespace(
                name=each,
                domain="source" if i else "target",
                branch="spectral",
                distance=1.0 + i,
                rank=i + 1,
                sound=sound(rng, rate=rate, seconds=seconds),
            )
            for i, each in enumerate(names)
        ),
        "sound": sound(rng, rate=rate, seconds=seconds, fault=0.03),
        "versions": {"nearfar": "0.1.0", "numpy": np.__version__},
    }
    return SimpleNamespace(**(made | changes))
