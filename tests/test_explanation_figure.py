"""The picture of an explanation: what it shows is what the explanation holds; what is missing is left out."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from test_figures import NAMES, drawn, lines, steps

from nearfar.detector.fitted import Verdict
from nearfar.evidence.envelopes import EnvelopePeak, EnvelopeSpectrum
from nearfar.evidence.explanation import Explanation, Sound
from nearfar.evidence.maps import BranchMap
from nearfar.evidence.reasons import Reason
from nearfar.evidence.spectra import BandLevels
from nearfar.report.figures.explained import explanation

RATE = 8000
EDGES = np.geomspace(50.0, 4000.0, 13)


def reason(**known: Any) -> Reason:
    """A reason; numbers that the picture does not look at are 1."""
    others = {f.name: 1.0 for f in dataclasses.fields(Reason) if f.default is dataclasses.MISSING}
    return Reason(**{**others, **known})


REASON = reason(
    kind="band", direction="louder", low_hz=500.0, high_hz=900.0, peak_hz=700.0, view="near", measure="level",
    share=1.0, normal_clips=60,
)  # fmt: skip
QUIETER = dataclasses.replace(REASON, direction="quieter", low_hz=100.0, high_hz=200.0)
LOUDNESS = dataclasses.replace(REASON, kind="loudness", low_hz=0.0, high_hz=4000.0)
MISSING = "There is no map of eat: its back end compares whole clips."
NOTHING = np.empty((0, 0))


def explained(rng: np.random.Generator, **other: Any) -> Explanation:
    near, far = rng.normal(0, 0.01, (2, 2 * RATE)).astype(np.float32)
    levels = rng.normal(-50, 2, (60, 12))
    rates = np.arange(1.0, 101.0)
    peaks = (EnvelopePeak(29.0, 0.0, 20.0, None, 1), EnvelopePeak(58.0, -3.0, 17.0, None, 2))
    values = rng.gamma(0.3, 0.01, (12, 20))
    known: dict[str, Any] = {
        "name": "fan/test/0001.wav",
        "machine": "fan",
        "system": "spectral",
        "verdict": Verdict("fan/test/0001.wav", 3.2, 0.016, "anomaly"),
        "threshold": 1.5,
        "false_alarm_rate": 0.05,
        "reference_scores": np.arange(60.0),
        "headline": "Anomaly: it is louder.",
        "p_value_means": "p = 0.016: none of the 60 normal clips scored as high.",
        "words": ("Anomaly: it is louder.", "Also something else.", MISSING),
        "health": (),
        "missing": (MISSING,),
        "reasons": (REASON, QUIETER, LOUDNESS),
        "bands": (BandLevels.of("near", EDGES, levels[0], levels[1], levels),),
        "envelope": EnvelopeSpectrum(
            "near", 500, 900, rates, np.full(100, -40.0), np.full(100, -50.0), np.full((2, 100), -45.0), peaks, 29.0
        ),
        "maps": (
            BranchMap("spectral", "near", "", np.arange(21) / 8, EDGES, values, float(values.sum()), 1.0),
            BranchMap("eat", "near", "", np.empty(0), np.empty(0), NOTHING, 0.0, 0.0, why_not="whole clips"),
        ),
        "sound": Sound(RATE, near, far, None, ""),
    }  # fmt: skip
    return Explanation(**{**known, **other})


def panels(figure: Figure) -> dict[str, Axes]:
    """By their titles; colour bars have none."""
    found = [axes for part in figure.subfigs for axes in part.axes]
    return {title: axes for axes in found if (title := axes.get_title("left"))}


def written(figure: Figure) -> list[str]:
    return [text.get_text() for part in figure.subfigs for text in part.texts]


def test_each_panel_shows_what_was_found(rng: np.random.Generator) -> None:
    found = explained(rng)
    figure = explanation(found)
    assert drawn(figure)
    sound, abnormal, bands, envelope = panels(figure).values()
    assert list(panels(figure)) == [
        "Near microphone", "Abnormal in it, by spectral (near)", "Against 60 normal clips",
        "How often it swells, 500 to 900 Hz",
    ]  # fmt: skip
    (mesh,) = [c for c in abnormal.collections if isinstance(c, QuadMesh)]
    np.testing.assert_allclose(mesh.get_array(), found.maps[0].shown)
    assert abnormal.get_xlim() == sound.get_xlim() == (0, 2)  # though the map ends later
    np.testing.assert_array_equal(steps(bands, "this clip").get_data().values, found.bands[0].clip)
    np.testing.assert_allclose(np.hstack(lines(envelope, "_peak"))[0], [29, 58])


def test_bands_that_are_reasons_are_marked(rng: np.random.Generator) -> None:
    sound, _, bands, _ = panels(explanation(explained(rng))).values()
    np.testing.assert_allclose([line[1] for line in lines(sound, "_reason")], [[500, 900], [100, 200]])
    spans = [
        p.get_extents().transformed(bands.transData.inverted())
        for p in bands.patches
        if "abnormal" in str(p.get_label())
    ]
    np.testing.assert_allclose([span.intervalx for span in spans], [[500, 900], [100, 200]])  # fmt: skip


def test_the_words_are_those_of_the_explanation(rng: np.random.Generator) -> None:
    found = explained(rng)
    told = written(explanation(found))
    assert told[:3] == ["Anomaly", "score 3.2, threshold 1.5, p = 0.016, spectral", "fan: 0001.wav"]
    assert told[3:] == ["Anomaly: it is louder.", "Also something else.", MISSING]


def test_maps_that_have_no_room_are_told(rng: np.random.Generator) -> None:
    found = explained(rng)
    figure = explanation(dataclasses.replace(found, maps=found.maps[:1] * 5))
    titles = [axes.get_title("left") for part in figure.subfigs for axes in part.axes]
    assert titles.count("Abnormal in it, by spectral (near)") == 3
    assert written(figure)[-1] == "2 more maps are on the page of the explanation (-o FILE)."


@pytest.mark.parametrize(
    ("decision", "heading"),
    [("normal", "Normal"), ("", "No decision"), ("unusable", "Cannot be used"), ("anomaly", "Anomaly")],
)
def test_what_is_not_known_is_left_out(rng: np.random.Generator, decision: Any, heading: str) -> None:
    found = explained(
        rng, verdict=Verdict("a", np.nan, np.nan, decision), threshold=None, words=(), missing=(),
        reasons=(), bands=(), envelope=None, maps=(), sound=None,
    )  # fmt: skip
    figure = explanation(found)
    assert drawn(figure)
    assert written(figure)[:2] == [heading, "spectral"]
    assert panels(figure) == {}


@pytest.mark.parametrize("left_out", ["sound", "maps", "bands", "envelope"])
def test_any_part_can_be_missing(rng: np.random.Generator, left_out: str) -> None:
    empty = () if left_out in ("maps", "bands") else None
    assert drawn(explanation(explained(rng, **{left_out: empty})))


def test_the_sound_in_which_the_reason_was_found_is_shown(rng: np.random.Generator) -> None:
    near, cancelled = rng.normal(0, 0.01, (2, RATE)).astype(np.float32)
    sound = Sound(RATE, near, near, cancelled, "cancelled_3taps")
    of_cancelled_view = dataclasses.replace(REASON, view="cancelled_3taps")
    of_near, of_cancelled = (
        next(iter(panels(explanation(explained(rng, sound=sound, reasons=(one,))))))
        for one in (REASON, of_cancelled_view)
    )
    assert of_near == "Near microphone"
    assert of_cancelled == "Near microphone without what the far one explains (cancelled_3taps)"


def test_any_name_can_be_drawn(rng: np.random.Generator) -> None:
    for first, second, third in (NAMES[:3], NAMES[3:6], NAMES[5:]):
        verdict = Verdict(first, 3.2, 0.016, "anomaly")
        named = {"name": first, "machine": second, "system": third, "verdict": verdict}
        found = explained(rng, **named, words=(first + second, third), missing=(third,))
        figure = explanation(dataclasses.replace(found, maps=(), envelope=None, sound=None))
        assert drawn(figure)
        assert not any(text.get_parse_math() for part in figure.subfigs for text in part.texts)


def test_tables_and_statistics_are_not_loaded() -> None:
    """They take longer to load than the picture takes to draw."""
    slow = "{'pandas', 'scipy.stats', 'sklearn'}"
    code = f"import sys, nearfar.report.figures.explained; print(*({slow} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
