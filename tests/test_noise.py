"""What can be heard beside the machine: the contract of all kinds, what each sounds like, and recordings."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy.signal import butter, hilbert, sosfiltfilt, welch

from nearfar.recordings.audio import AudioError
from nearfar.simulation.machines import MACHINES
from nearfar.simulation.noise import (
    NOISES,
    Alarms,
    Babble,
    Excerpt,
    Factory,
    Hits,
    Noise,
    OtherMachine,
    Recordings,
    Vehicles,
    noise_gain,
)
from nearfar.simulation.signals import rms

RATE = 16000
Sound = NDArray[np.float64]


def drawn(kind: str, seed: int = 0) -> Noise:
    return NOISES[kind].draw(np.random.default_rng(seed))


def clip(noise: Noise, *, seconds: float = 10.0, rate: int = RATE, seed: int = 0) -> Sound:
    return noise(samples=int(seconds * rate), rate=rate, rng=np.random.default_rng(seed))


def spectrum(sound: Sound, *, rate: int = RATE) -> tuple[Sound, Sound]:
    """Frequencies one Hz apart, and power."""
    frequencies, power = welch(sound, rate, nperseg=rate)
    return frequencies, power


def loudness(sound: Sound, *, milliseconds: int, rate: int = RATE) -> Sound:
    """RMS of one short block after the other."""
    length = rate * milliseconds // 1000
    blocks = sound[: len(sound) // length * length].reshape(-1, length)
    return np.sqrt(np.mean(blocks**2, axis=1))


# What all kinds have in common


@pytest.mark.parametrize("kind", NOISES)
def test_equal_generators_give_equal_sounds(kind: str) -> None:
    noise = drawn(kind)
    assert noise == drawn(kind)
    assert noise != drawn(kind, 1)
    first, again, other = (clip(noise, seconds=1.0, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("rate", [8000, 48000])
def test_a_short_clip_is_finite_and_never_silent(kind: str, rate: int) -> None:
    for seed in range(20):
        sound = clip(drawn(kind, seed), seconds=0.5, rate=rate, seed=seed)
        assert sound.shape == (rate // 2,)
        assert sound.dtype == np.float64
        assert np.isfinite(sound).all()
        assert loudness(sound, milliseconds=100, rate=rate).min() > 0.01


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("seed", range(3))
def test_the_level_is_about_one_in_the_long_run(kind: str, seed: int) -> None:
    assert 0.5 < rms(clip(drawn(kind, seed), seconds=60.0, rate=8000)) < 2


@pytest.mark.parametrize("kind", NOISES)
def test_the_parameters_can_be_written_down(kind: str) -> None:
    noise = drawn(kind)
    assert is_dataclass(noise)
    assert json.loads(json.dumps(asdict(noise)))
    assert "array" not in repr(noise)
    assert "np.float64" not in repr(noise)


# A factory


def test_a_factory_hums_at_twice_the_mains() -> None:
    frequencies, power = spectrum(clip(Factory(slope=3.0, hum=0.4)))
    for hertz in (100, 200, 300):
        beside = np.abs(np.abs(frequencies - hertz) - 10) < 4
        assert power[frequencies == hertz] > 10 * np.median(power[beside])


def test_hum_is_as_strong_as_the_factory_says() -> None:
    loud, none = (clip(Factory(slope=3.0, hum=hum)) for hum in (2.0, 0.0))
    assert rms(loud * 5**0.5 - none) == pytest.approx(2)


@pytest.mark.parametrize("slope", [2.0, 5.0])
def test_the_noise_of_a_factory_falls_by_its_slope(slope: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Factory, "DROPS_PER_SECOND", 0.0)
    frequencies, power = spectrum(clip(Factory(slope=slope, hum=0.0), seconds=20.0))
    band = (frequencies > 150) & (frequencies < 6000)
    fitted = np.polyfit(np.log2(frequencies[band]), 10 * np.log10(power[band]), 1)[0]
    assert -fitted == pytest.approx(slope, abs=0.3)


def test_things_drop_in_a_factory() -> None:
    highs = sosfiltfilt(
        butter(4, 4000, "highpass", fs=RATE, output="sos"), clip(Factory(5.0, 0.0), seconds=60)
    )
    loud = loudness(highs, milliseconds=10) > 20 * np.median(np.abs(highs))
    onsets = np.flatnonzero(np.diff(loud.astype(int)) == 1)
    assert 10 < len(onsets) < 50  # 30 are expected
    assert loud.mean() < 0.1


# Another machine


def test_another_machine_is_of_any_type_but_the_one_that_is_left_out(rng: np.random.Generator) -> None:
    names = {OtherMachine.draw(rng).machine for _ in range(200)}
    assert names == set(MACHINES)
    left = {OtherMachine.draw(rng, without="fan").machine for _ in range(200)}
    assert left == set(MACHINES) - {"fan"}


def test_another_machine_runs_healthily_as_usual() -> None:
    for seed in range(20):
        other = OtherMachine.draw(np.random.default_rng(seed))
        kind = MACHINES[other.machine]
        assert isinstance(other.specimen, kind)
        assert other.condition.speed in kind.SPEEDS.usual
        assert other.condition.load in kind.LOADS.usual
    expected = other.specimen.run(
        other.condition, samples=RATE, rate=RATE, rng=np.random.default_rng(5)
    ).sound
    np.testing.assert_array_equal(clip(other, seconds=1.0, seed=5), expected)


# Hits


def lonely_hits() -> Hits:
    return Hits(per_second=0.5, hertz=(700.0, 1900.0), damping=(0.004, 0.003), amplitudes=(1.0, 0.7))


def test_hits_are_rare_and_loud() -> None:
    sound = clip(lonely_hits(), seconds=60)
    levels = loudness(sound, milliseconds=20)
    onsets = np.flatnonzero((levels[1:] > 2) & (levels[1:] > 4 * levels[:-1]))
    assert 15 < len(onsets) < 45  # 30 are expected
    assert np.median(levels) < 0.1
    assert np.abs(sound).max() / rms(sound) > 8


def test_what_was_hit_rings_at_its_modes() -> None:
    frequencies, power = spectrum(clip(lonely_hits(), seconds=60))
    for mode in (700, 1900):
        near = np.abs(frequencies - mode) < 100
        assert frequencies[near][np.argmax(power[near])] == pytest.approx(mode, abs=2)
        assert power[near].max() > 100 * power[np.abs(frequencies - mode - 250) < 50].max()


def test_a_hit_decays_by_the_damping_of_its_mode() -> None:
    """Level against time after the loudest onset, where the next hit is far: 8.686 zeta w dB a second."""
    sound = clip(replace(lonely_hits(), hertz=(700.0,), damping=(0.004,), amplitudes=(1.0,)), seconds=60)
    levels = 20 * np.log10(loudness(sound, milliseconds=10))
    falls = [
        np.polyfit(np.arange(12) / 100, levels[onset + 2 : onset + 14], 1)[0]
        for onset in np.flatnonzero(np.diff(levels) > 20)
        if onset + 14 <= len(levels)
    ]
    assert np.median(falls) == pytest.approx(-8.686 * 0.004 * 2 * np.pi * 700, rel=0.05)


# Babble


def test_the_envelope_of_babble_moves_as_syllables_do() -> None:
    """Fluctuations per octave are strongest around four a second."""
    sound = clip(drawn("babble"), seconds=60, rate=8000)
    envelope = loudness(sound, milliseconds=10, rate=8000)
    power = np.abs(np.fft.rfft(envelope - envelope.mean())) ** 2
    frequencies = np.fft.rfftfreq(len(envelope), 0.01)
    octaves = [
        power[(frequencies >= c / 2**0.5) & (frequencies < c * 2**0.5)].sum() for c in (0.5, 1, 2, 4, 8, 16)
    ]
    assert np.argmax(octaves) == 3


def test_one_talker_speaks_at_a_pitch_through_formants() -> None:
    talker = replace(Babble.draw(np.random.default_rng(0)).talkers[0], pitch_hz=120.0, tract=1.0)
    sound = clip(Babble((talker,)), seconds=30)
    spectra = np.abs(np.fft.rfft(sound[: 29 * RATE].reshape(-1, RATE // 20) * np.hanning(RATE // 20)))
    cepstra = np.fft.irfft(np.log(spectra + 1e-3)).mean(0)
    periods = np.arange(RATE // 300, RATE // 70)
    assert RATE / periods[np.argmax(cepstra[periods])] == pytest.approx(120, rel=0.15)
    frequencies, power = spectrum(sound)
    bands = ((250, 750), (900, 1800), (3200, 5000))
    levels = [power[(frequencies > low) & (frequencies < high)].mean() for low, high in bands]
    assert levels[0] > 2 * levels[1] > 20 * levels[2]


def test_a_shorter_tract_has_higher_formants() -> None:
    long, short = (
        replace(Babble.draw(np.random.default_rng(0)).talkers[0], pitch_hz=150.0, tract=tract)
        for tract in (1.0, 1.2)
    )

    def centroid(talker: Any) -> float:
        frequencies, power = spectrum(clip(Babble((talker,)), seconds=20))
        band = frequencies < 1000
        return float((frequencies * power)[band].sum() / power[band].sum())

    assert centroid(short) > 1.08 * centroid(long)


def test_fricatives_hiss_between_the_vowels() -> None:
    talker = Babble.draw(np.random.default_rng(0)).talkers[0]
    sound = clip(Babble((talker,)), seconds=20)
    highs, lows = (
        loudness(sosfiltfilt(butter(4, edge, kind, fs=RATE, output="sos"), sound), milliseconds=20)
        for edge, kind in ((4000, "highpass"), (2000, "lowpass"))
    )
    assert 0.03 < np.mean(highs > lows) < 0.3


# Vehicles


def passing() -> Vehicles:
    """Fast and near, so that everything is clear: one engine line, no tyres."""
    return Vehicles(firing_hz=500.0, harmonics_db=(0.0,), tyres=0.0, speed=15.0, distance=8.0, interval=10.0)


def test_a_vehicle_is_loudest_when_it_passes_and_falls_with_the_distance() -> None:
    levels = loudness(clip(passing()), milliseconds=50)
    peak = int(np.argmax(levels))
    around = (np.arange(len(levels)) - peak + 100) % 200 - 100  # the next one comes after 10 s, 200 blocks
    away = np.hypot(8.0, 15.0 * around * 0.05)
    near = away < 50
    np.testing.assert_allclose(levels[near] * away[near], levels[peak] * 8.0, rtol=0.2)
    assert levels[np.argmax(away)] < 0.2 * levels[peak]


def test_the_pitch_of_a_vehicle_falls_as_it_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """f / (1 -+ v / c), up to the cosine of the angle: at a distance of 30 m along the way 0.966."""
    monkeypatch.setattr(Vehicles, "WANDER", 0.0)
    sound = clip(passing())
    smooth = sosfiltfilt(butter(2, [400, 600], "bandpass", fs=RATE, output="sos"), sound)
    phase = np.unwrap(np.angle(hilbert(smooth)))
    hertz = np.diff(phase[:: RATE // 5]) * 5 / (2 * np.pi)
    peak = int(np.argmax(loudness(sound, milliseconds=200)))
    assert hertz[(peak - 10) % 49] == pytest.approx(500 / (1 - 15 * 0.966 / 343), rel=0.004)
    assert hertz[(peak + 10) % 49] == pytest.approx(500 / (1 + 15 * 0.966 / 343), rel=0.004)
    assert hertz[peak] == pytest.approx(500, rel=0.01)


def test_vehicles_pass_one_after_the_other() -> None:
    levels = loudness(clip(passing(), seconds=60, rate=8000), milliseconds=100, rate=8000)
    loud = levels > 0.7 * levels.max()
    passes = np.flatnonzero(np.diff(loud.astype(int)) == 1)
    assert 5 <= len(passes) <= 7
    np.testing.assert_allclose(np.diff(passes), 100, atol=4)


def test_an_engine_has_lines_and_tyres_a_bump() -> None:
    slow = {
        "firing_hz": 60.0,
        "harmonics_db": (0.0, 0.0, 0.0),
        "speed": 0.01,
        "distance": 5.0,
        "interval": 10.0,
    }
    frequencies, power = spectrum(clip(Vehicles(tyres=1.0, **slow)))
    for hertz in (60, 120, 180):
        near = np.abs(frequencies - hertz) < 20
        assert frequencies[near][np.argmax(power[near])] == pytest.approx(hertz, abs=2)
    rolling = np.convolve(power, np.ones(50), "same")[400:]
    assert frequencies[400:][np.argmax(rolling)] == pytest.approx(1000, rel=0.15)


# Alarms


def test_an_alarm_beeps_with_two_tones_and_pauses() -> None:
    sound = clip(Alarms(hertz=(2200.0, 3100.0), period=1.0, duty=0.4))
    frequencies, power = spectrum(sound)
    for tone in (2200, 3100):
        near = np.abs(frequencies - tone) < 400
        assert frequencies[near][np.argmax(power[near])] == pytest.approx(tone, abs=3)
    loud = loudness(sound, milliseconds=10) > 0.5
    assert loud.mean() == pytest.approx(0.4, abs=0.02)
    np.testing.assert_allclose(np.diff(np.flatnonzero(np.diff(loud.astype(int)) == 1)), 100, atol=1)


def test_the_tones_of_an_alarm_come_one_after_the_other() -> None:
    sound = clip(Alarms(hertz=(2200.0, 3100.0), period=1.0, duty=0.4), rate=48000)
    first, second = (
        loudness(
            sosfiltfilt(butter(2, [f - 200, f + 200], "bandpass", fs=48000, output="sos"), sound),
            milliseconds=10,
            rate=48000,
        )
        > 0.5
        for f in (2200, 3100)
    )
    assert first.mean() == pytest.approx(0.2, abs=0.03)
    assert second.mean() == pytest.approx(0.2, abs=0.03)
    assert (first & second).mean() < 0.03
    ends = np.flatnonzero(np.diff(first.astype(int)) == -1)[:-1]
    assert second[ends + 5].all()
    assert not (first | second)[ends + 40].any()


def test_where_an_alarm_is_in_its_pattern_differs_from_clip_to_clip() -> None:
    alarm = Alarms(hertz=(2200.0, 3100.0), period=1.0, duty=0.4)
    starts = [loudness(clip(alarm, seconds=0.5, seed=seed), milliseconds=20)[0] > 0.5 for seed in range(40)]
    assert 5 < sum(starts) < 27  # of 40 clips 16 are expected to begin within a beep


# Mixing


@pytest.mark.parametrize("snr_db", [-8.0, 0.0, 12.0])
def test_noise_is_mixed_to_the_ratio_asked_for(snr_db: float, rng: np.random.Generator) -> None:
    wanted, noise = 3.0 * rng.standard_normal(RATE), 0.1 * rng.standard_normal(RATE)
    mixed = wanted + noise_gain(wanted, noise, snr_db=snr_db) * noise
    assert 20 * np.log10(rms(wanted) / rms(mixed - wanted)) == pytest.approx(snr_db)


@pytest.mark.parametrize(
    ("wanted", "noise", "levels"), [(0.0, 1.0, r"=0\.0, .*=1\.0"), (1.0, 0.0, r"=1\.0, .*=0\.0")]
)
def test_silence_cannot_be_mixed(wanted: float, noise: float, levels: str) -> None:
    with pytest.raises(
        ValueError, match=rf"rms\(wanted\){levels}: both must be above 0 for a ratio of 3\.0 dB"
    ):
        noise_gain(np.full(10, wanted), np.full(10, noise), snr_db=3.0)


# Recordings


def write(path: Path, samples: Any, rate: int = RATE, subtype: str = "FLOAT") -> Path:
    """A recording of (samples,) or (samples, channels)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.asarray(samples), rate, subtype=subtype)
    return path


def generator() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Recordings of several kinds, and what is not one."""
    write(tmp_path / "b.wav", 0.1 * rng.standard_normal((3 * RATE, 2)))
    write(tmp_path / "a" / "z.FLAC", 0.1 * rng.standard_normal(3 * 44100), 44100, "PCM_16")
    write(tmp_path / "a" / "y" / "c.wav", 0.1 * rng.standard_normal(8000), 8000, "PCM_16")
    write(tmp_path / ".hidden.wav", np.ones(100))
    (tmp_path / "notes.txt").write_text("of the hall")
    (tmp_path / "folder.wav").mkdir()
    return tmp_path


def test_all_recordings_of_a_folder_are_found_in_order(folder: Path) -> None:
    assert Recordings.of(folder).paths == (folder / "a/y/c.wav", folder / "a/z.FLAC", folder / "b.wav")


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000])
def test_a_clip_of_recordings_has_its_length_and_rms_one(folder: Path, rate: int) -> None:
    noise = Recordings.of(folder)
    for seed in range(12):
        sound = clip(noise, seconds=2.0, rate=rate, seed=seed)
        assert (sound.shape, sound.dtype) == ((2 * rate,), np.float64)
        assert np.isfinite(sound).all()
        assert rms(sound) == pytest.approx(1)
        np.testing.assert_array_equal(sound, clip(noise, seconds=2.0, rate=rate, seed=seed))


def test_all_recordings_are_heard_from_anywhere(folder: Path) -> None:
    rng, noise = np.random.default_rng(0), Recordings.of(folder)
    excerpts = [noise.excerpt(samples=RATE, rate=RATE, rng=rng) for _ in range(300)]
    assert {excerpt.path for excerpt in excerpts} == set(noise.paths)
    starts = [excerpt.start for excerpt in excerpts if excerpt.path.name == "b.wav"]
    assert 0 <= min(starts) < 0.1 * 2 * RATE
    assert 0.9 * 2 * RATE < max(starts) <= 2 * RATE


def test_an_excerpt_tells_what_a_clip_reads(folder: Path) -> None:
    noise = Recordings((folder / "b.wav",))
    told = noise.excerpt(samples=RATE, rate=RATE, rng=generator())
    assert told.start > 0
    heard = noise(samples=RATE, rate=RATE, rng=generator())
    samples, _ = soundfile.read(folder / "b.wav")
    expected = samples[told.start : told.start + RATE, 0]  # the first channel
    np.testing.assert_allclose(heard, expected / rms(expected), rtol=1e-6)


def test_a_part_is_all_that_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, read, seek = [], soundfile.SoundFile.read, soundfile.SoundFile.seek

    def spy_read(file: soundfile.SoundFile, frames: int, **options: Any) -> Any:
        asked.append(frames)
        return read(file, frames, **options)

    def spy_seek(file: soundfile.SoundFile, start: int, *options: int) -> int:
        asked.append(start)
        return int(seek(file, start, *options))

    noise = Recordings((folder / "a" / "z.FLAC",))
    told = noise.excerpt(samples=RATE, rate=RATE, rng=generator())
    monkeypatch.setattr(soundfile.SoundFile, "read", spy_read)
    monkeypatch.setattr(soundfile.SoundFile, "seek", spy_seek)
    noise(samples=RATE, rate=RATE, rng=generator())
    assert asked == [told.start, 44100]


@pytest.mark.parametrize("recorded", [8000, 11025, 44100, 48000])
def test_a_recording_keeps_its_pitch_at_another_rate(recorded: int, tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(3 * recorded) / recorded)
    noise = Recordings((write(tmp_path / "a.wav", tone, recorded),))
    frequencies, power = spectrum(clip(noise, seconds=2.0))
    assert frequencies[np.argmax(power)] == 1000
    assert power[np.abs(frequencies - 1000) > 50].sum() < 1e-3 * power.sum()


def test_a_short_recording_is_repeated_from_its_beginning(tmp_path: Path, rng: np.random.Generator) -> None:
    short = rng.standard_normal(1500)
    noise = Recordings((write(tmp_path / "a.wav", short),))
    assert noise.excerpt(samples=4000, rate=RATE, rng=rng) == Excerpt(tmp_path / "a.wav", 0)
    expected = np.concatenate([short, short, short[:1000]])
    np.testing.assert_allclose(noise(samples=4000, rate=RATE, rng=rng), expected / rms(expected), rtol=1e-5)


def test_a_recording_as_long_as_the_clip_is_heard_once(tmp_path: Path, rng: np.random.Generator) -> None:
    whole = rng.standard_normal(4000)
    noise = Recordings((write(tmp_path / "a.wav", whole),))
    np.testing.assert_allclose(noise(samples=4000, rate=RATE, rng=rng), whole / rms(whole), rtol=1e-5)


@pytest.mark.parametrize(
    ("names", "source", "target"),
    [("abcde", "ace", "bd"), ("ab", "a", "b"), ("a", "a", "a")],
)
def test_each_domain_has_half_of_the_recordings(names: str, source: str, target: str) -> None:
    halves = Recordings(tuple(Path(name) for name in names)).halves()
    assert halves == tuple(Recordings(tuple(Path(name) for name in half)) for half in (source, target))


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(FileNotFoundError, match=r"no recordings \(\.wav, \.flac\) in this folder"):
        Recordings.of(tmp_path)


@pytest.mark.parametrize("name", ["missing", "a.wav"])
def test_what_is_no_folder_is_refused(name: str, tmp_path: Path) -> None:
    write(tmp_path / "a.wav", np.ones(10))
    with pytest.raises(NotADirectoryError, match=rf"{name}: not a folder; expected one with recordings"):
        Recordings.of(tmp_path / name)


def test_a_silent_part_is_refused_by_name(tmp_path: Path) -> None:
    stereo = np.stack([np.zeros(5000), np.ones(5000)], axis=1)  # only the first channel counts
    noise = Recordings((write(tmp_path / "still.wav", stereo),))
    with pytest.raises(AudioError, match=r"still\.wav: silent from sample \d+ to \d+, like 50 parts before"):
        clip(noise, seconds=0.25)


def test_silence_is_passed_over(tmp_path: Path, rng: np.random.Generator) -> None:
    """A recording with a pause, and a file that is all silent: only what can be heard is played, and told."""
    paused = np.concatenate([rng.standard_normal(4000), np.zeros(16000), rng.standard_normal(4000)]) * 0.1
    noise = Recordings((write(tmp_path / "a.wav", paused), write(tmp_path / "b.wav", np.zeros(9000))))
    for seed in range(20):
        assert rms(clip(noise, seconds=0.25, seed=seed)) == pytest.approx(1)
        told = noise.excerpt(samples=RATE // 4, rate=RATE, rng=np.random.default_rng(seed))
        assert told.path.name == "a.wav"
        assert paused[told.start : told.start + RATE // 4].any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    samples = np.ones(4000)
    samples[[10, 20]] = value
    noise = Recordings((write(tmp_path / "a.wav", samples),))
    with pytest.raises(AudioError, match=r"a\.wav: 2 samples from 0 on are NaN or infinite") as refused:
        clip(noise, seconds=0.25)
    assert refused.value.fault == "not_finite"


def test_a_damaged_recording_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    path = write(tmp_path / "a.flac", rng.uniform(-0.5, 0.5, RATE), subtype="PCM_16")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError, match=r"a\.flac: damaged, its samples cannot be decoded") as refused:
        clip(Recordings((path,)), seconds=1.0)
    assert refused.value.fault == "unreadable"


def test_a_truncated_recording_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.ones(RATE))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(AudioError, match=r"a\.wav: truncated, 5000 of 64000 bytes"):
        clip(Recordings((path,)), seconds=1.0)


def test_a_recording_that_has_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.wav: no such file"):
        clip(Recordings((tmp_path / "gone.wav",)), seconds=1.0)
