"""What was recorded: `evidence.recorded` and `evidence.clock_offsets`, and the page of `nearfar check --page`."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import scipy.signal
from recorded_made import named, write_odd_dataset
from typer.testing import CliRunner

from nearfar.cli.program import app
from nearfar.evidence.clock_offsets import clock_offset
from nearfar.evidence.recorded import (
    ClipRecorded,
    band_edges,
    drift_of,
    groups_by,
    quantiles_of,
    recorded,
    spectra_of,
)
from nearfar.recordings import audio, datasets
from nearfar.recordings.clips import Clip
from nearfar.recordings.datasets.validation import Problem, validate
from nearfar.report.pages import recorded as of_recorded
from nearfar.windows.long_recordings import cut_dataset

RATE = 16000


def stretched(x, ppm):
    """The same sound by a clock that is so much slower, by interpolation of eight times as many samples."""
    finer = scipy.signal.resample(x, 8 * len(x))
    return np.interp(8 * np.arange(len(x)) * (1 + 1e-6 * ppm), np.arange(len(finer)), finer)


def pair(rng, seconds=6, delay=0, common=1.0):
    noise, own = rng.standard_normal((2, seconds * RATE))
    return np.stack([common * np.roll(noise, delay) + own, noise])


# clocks


@pytest.mark.parametrize("ppm", [0, 2, -15, 100, -250])
@pytest.mark.parametrize("seconds", [3, 10])
def test_a_drift_is_measured_within_its_error(rng, ppm, seconds):
    near, far = pair(rng, seconds, delay=40)
    found = clock_offset(np.stack([near, stretched(far, ppm)]).astype(np.float32), RATE)
    assert found.error < 3
    assert abs(found.drift - ppm) < 4 * found.error + 0.05
    assert found.delay == pytest.approx(40 / RATE, abs=0.2 / RATE)
    assert found.why_not == ""


@pytest.mark.parametrize("delay", [-500, -3, 0, 7, 800])
def test_a_delay_is_measured(rng, delay):
    found = clock_offset(pair(rng, delay=delay).astype(np.float32), RATE)
    assert found.delay * RATE == pytest.approx(delay, abs=0.1)


def test_errors_of_the_drift_are_as_large_as_they_are_said_to_be(rng):
    found = [clock_offset(pair(rng, 3, common=0.5).astype(np.float32), RATE) for _ in range(30)]
    drifts, errors = np.array([one.drift for one in found]), np.array([one.error for one in found])
    assert 0.6 < np.sqrt(np.mean(drifts**2)) / np.sqrt(np.mean(errors**2)) < 1.6


def test_it_is_said_when_clocks_cannot_be_told(rng):
    unrelated = rng.standard_normal((2, 6 * RATE)).astype(np.float32)
    assert clock_offset(unrelated, RATE).why_not == "near and far have too little in common"
    assert clock_offset(unrelated[:1], RATE).why_not == "there is one channel only"
    assert clock_offset(unrelated[:, :RATE], RATE).why_not == "clips are shorter than 2 s"
    assert np.isnan(clock_offset(np.zeros((2, 6 * RATE), np.float32), RATE).drift)


def test_two_noises_seldom_tell_a_drift(rng):
    told = [
        not np.isnan(clock_offset(rng.standard_normal((2, 4 * RATE)).astype(np.float32), RATE).drift)
        for _ in range(20)
    ]
    assert not any(told)


def clip_of(offset, level=(-20.0, -30.0), **how):
    known = Clip(Path("1.wav"), "m", 0, "train", "1.wav", **how)
    rows = np.zeros((len(level), 3), np.float32)
    return ClipRecorded(
        known,
        RATE,
        4.0,
        None,
        np.float32(level),
        np.float32(level),
        np.float32(level),
        rows,
        rows,
        rows[0],
        offset,
    )


def test_the_drift_of_a_machine_is_the_median_with_the_interval_of_its_order(rng):
    """Twenty values: the sixth and the fifteenth are the 95 % interval (D. Altman, Practical Statistics, B11)."""
    offsets = [clock_offset(pair(rng, 2).astype(np.float32), RATE) for _ in range(20)]
    found = drift_of([clip_of(offset) for offset in offsets])
    values = sorted(offset.drift for offset in offsets)
    assert (found.told, found.asked) == (20, 20)
    assert (found.ppm, found.low, found.high) == (np.median(values), values[5], values[14])
    assert np.isnan(drift_of([clip_of(offset) for offset in offsets[:5]]).ppm)


# spectra


def test_bands_add_up_to_the_level_of_the_channel(rng):
    samples = (0.1 * rng.standard_normal((2, 4 * RATE))).astype(np.float32)
    levels, coherence = spectra_of(samples, RATE)
    total = 10 * np.log10((10 ** (levels / 10)).sum(axis=1))
    np.testing.assert_allclose(total, 10 * np.log10((samples**2).mean(axis=1)), atol=0.1)
    assert coherence.mean() < 0.03
    assert levels.shape[1] == len(coherence) == len(band_edges(RATE)) - 1


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_coherence_is_the_share_that_is_common(rng, share):
    common, own = rng.standard_normal((2, 20 * RATE))
    samples = np.stack([np.sqrt(share) * common + np.sqrt(1 - share) * own, common]).astype(np.float32)
    edges = band_edges(RATE)
    _, expected = scipy.signal.coherence(*samples, fs=RATE, nperseg=2048)
    found = spectra_of(samples, RATE)[1]
    assert found[edges[:-1] > 500].mean() == pytest.approx(share, abs=0.02)
    assert expected.mean() == pytest.approx(share, abs=0.03)


def test_no_more_than_chance_is_taken_from_the_coherence_of_a_short_recording(rng):
    found = []
    for _ in range(10):
        common, *own = rng.standard_normal((3, 2 * RATE))
        samples = np.sqrt(0.5) * common + np.sqrt(0.5) * np.stack(own)  # coherence 0.25
        found.append(spectra_of(samples.astype(np.float32), RATE)[1][10:].mean())
    assert np.mean(found) == pytest.approx(0.25, abs=0.012)


@pytest.mark.parametrize("rate", [80, 500, 8000, 44100, 192000])
def test_bands_of_any_rate_ascend(rate):
    assert (np.diff(band_edges(rate)) > 0).all()


def test_clips_are_grouped_by_what_names_tell():
    offset = clock_offset(np.zeros((1, 10), np.float32), RATE)
    clips = [
        clip_of(offset, attributes="speed_1_load_2"),
        clip_of(offset, attributes="speed_3", domain="target"),
    ]
    assert {name: len(of) for name, of in groups_by(clips, "speed").items()} == {"1": 1, "3": 1}
    assert list(groups_by(clips, "load")) == ["2"]
    assert list(groups_by(clips, "domain")) == ["target"]
    np.testing.assert_allclose(quantiles_of(np.arange(101.0)[:, None])[:, 0], [5, 50, 95])


# a data set with everything that can be wrong


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    return write_odd_dataset(tmp_path_factory.mktemp("odd") / "plant")


@pytest.fixture(scope="module")
def found(odd):
    dataset, cuttings = cut_dataset(datasets.load_any(odd))
    return recorded(dataset, cuttings)


def test_the_problems_are_those_of_check(odd, found):
    assert list(found.problems) == validate(cut_dataset(datasets.load_any(odd))[0])


def test_each_recording_is_read_once_and_those_that_are_heard_twice(odd, monkeypatch):
    read: dict[str, int] = {}
    original = audio.read_recorded

    def counting(recording):
        read[str(recording)] = read.get(str(recording), 0) + 1
        return original(recording)

    monkeypatch.setattr(audio, "read_recorded", counting)
    dataset = datasets.load_any(odd).only(["pump"])
    result = recorded(dataset)
    heard = {str(one.clip.recording) for machine in result.machines for one in machine.audible}
    assert {name for name, times in read.items() if times > 1} <= heard
    assert max(read.values()) <= 2
    assert len(read) == len(dataset.clips)


def test_what_cannot_be_read_has_no_part(found):
    fan = next(machine for machine in found.machines if machine.name == "fan")
    assert (fan.unread, fan.other_rate) == (1, 1)
    assert all(one.rate == RATE for one in fan.clips)


def test_the_fault_among_the_training_clips_can_be_heard_beside_a_typical_one(found):
    fan = next(machine for machine in found.machines if machine.name == "fan")
    first, second = fan.audible[:2]
    assert "typical" in first.about
    assert second.clip.name == named("odd")
    assert set(second.views) == {"near", "cancelled"}


def test_clips_with_dates_in_their_names_are_in_order_of_time(found):
    pump = next(machine for machine in found.machines if machine.name == "pump")
    assert pump.by_time
    began = [one.began for one in pump.clips]
    assert began == sorted(began)


def test_training_clips_come_first_where_no_time_is_known(found):
    fan = next(machine for machine in found.machines if machine.name == "fan")
    assert not fan.by_time
    splits = [one.clip.split for one in fan.clips]
    assert splits == ["train"] * len(fan.train) + ["test"]


def test_a_page_says_what_was_found_and_no_name_is_markup(found):
    html = of_recorded.page(found)
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert len(re.findall("<audio ", html)) >= 4
    assert len(html.encode()) < 10_000_000
    for text in (
        "coherence of near and far",
        "drift of the clocks",
        "level within a clip",
        "Without 1 clip that cannot be read",
    ):
        assert text in html


def test_the_command_writes_a_page_also_of_a_data_set_with_errors(odd, tmp_path):
    page = tmp_path / "page.html"
    first = CliRunner().invoke(app, ["check", str(odd), "--page", str(page)])
    plain = CliRunner().invoke(app, ["check", str(odd)])
    assert first.exit_code == plain.exit_code == 1
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    again = CliRunner().invoke(app, ["check", str(odd), "--page", str(page)])
    assert again.exit_code != 0
    assert "--replace" in again.output + str(again.exception)
    page.write_text("old")
    assert CliRunner().invoke(app, ["check", str(odd), "--page", str(page), "--replace"]).exit_code == 1
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_page_never_replaces_a_recording(odd):
    recording = next(odd.rglob("*.wav"))
    before = recording.read_bytes()
    told = CliRunner().invoke(app, ["check", str(odd), "--page", str(recording), "--replace"])
    assert "a page is a file that ends in .html; choose such a name" in str(told.exception)
    assert recording.read_bytes() == before


def test_replace_without_a_page_is_refused(odd):
    told = CliRunner().invoke(app, ["check", str(odd), "--replace"])
    assert told.exit_code == 2
    assert "--replace has no effect without --page" in " ".join(told.output.split())


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("clips", [1, 3])
def test_few_clips_and_one_channel_have_a_page(rng, tmp_path, channels, clips):
    for i in range(clips):
        audio.write(
            tmp_path / "mill" / f"{i}.wav",
            (0.1 * rng.standard_normal((channels, RATE))).astype(np.float32),
            RATE,
        )
    html = of_recorded.page(recorded(datasets.load_any(tmp_path / "mill")))
    assert "level of each clip" in html
    assert ("coherence of near" in html) == (channels == 2)


def test_an_unreadable_machine_has_a_page(tmp_path):
    for i in range(3):
        path = tmp_path / "mill" / f"{i}.wav"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no sound")
    html = of_recorded.page(recorded(datasets.load_any(tmp_path / "mill")))
    assert "There is no clip that can be shown" in html


def test_an_empty_folder_is_refused_as_ever(tmp_path):
    (tmp_path / "mill").mkdir()
    told = CliRunner().invoke(app, ["check", str(tmp_path / "mill"), "--page", str(tmp_path / "page.html")])
    assert told.exit_code != 0
    assert not (tmp_path / "page.html").exists()


def test_a_page_of_very_many_problems_stays_small(found):
    """Seven machines with a thousand clips each, all of them with problems."""
    fan = next(machine for machine in found.machines if machine.name == "fan")
    clips = (fan.clips * 30)[:1000]
    problems = tuple(
        Problem("error", kind, one.clip.key, 100 * "x")
        for kind in ("unlike", "late", "swapped")
        for one in clips
    )
    machines = tuple(replace(fan, name=f"fan {i}", clips=clips, problems=problems) for i in range(7))
    every = replace(found, machines=machines, problems=7 * problems)
    assert len(of_recorded.page(every).encode()) < 10_000_000
