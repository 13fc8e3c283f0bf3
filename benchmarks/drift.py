"""How often `nearfar drift` says so by mistake, and which slow changes it finds after how many days.

Series of one quantity, of which everything is known: 48 windows a day, noise with a standard deviation of 1 within
an hour, and what else the scene says. ``false`` prints, for scenes without a slow change, what was found, where 5 %
and 1 % were asked for a false "drift". ``power`` prints the share of slow changes that were found. Both are of one
quantity. With seven, as the command tests them, each is asked for a seventh of the rate (``--quantities 7``).
``streams`` simulates machines for days, and prints what the command finds. ``real`` draws levels of real
recordings.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import nearfar
from nearfar.decisions import drift
from nearfar.detector.fitted import Detector
from nearfar.recordings import audio
from nearfar.report import verdicts
from nearfar.simulation import days as simulated
from nearfar.simulation.schedules import Onset

Float = NDArray[np.float64]
PER_DAY = 48
SLOPES = (0.5, 1, 2, 4)
SIMULATED = 999  # series for each p-value, fewer than the command has, for there are thousands of tests here


def autoregressive(n: int, coefficient: float, rng: np.random.Generator) -> Float:
    """(n,) of variance one."""
    found = rng.standard_normal(n)
    for i in range(1, n):
        found[i] = coefficient * found[i - 1] + np.sqrt(1 - coefficient**2) * found[i]
    return found


def by_day(days: Float, coefficient: float, scale: float, rng: np.random.Generator) -> Float:
    """Noise that lasts a day, and depends on the day before: (n,) windows."""
    of_days = scale * autoregressive(int(days[-1]) + 1, coefficient, rng)
    return of_days[np.floor(days).astype(int)]


def regimes(days: Float, hours: float, rng: np.random.Generator) -> Float:
    """One of three loads, which changes at random after so many hours on average."""
    changes = rng.random(len(days)) < 24 / PER_DAY / hours
    loads = 2.0 * rng.integers(0, 3, len(days))
    last = np.maximum.accumulate(np.where(changes, np.arange(len(days)), 0))
    return loads[last]


def white(days: Float, rng: np.random.Generator) -> Float:
    """Windows that do not depend on each other."""
    return rng.standard_normal(len(days))


def dependent(days: Float, rng: np.random.Generator) -> Float:
    """Windows with a memory of some five hours."""
    return autoregressive(len(days), 0.9, rng)


def shifts(days: Float, rng: np.random.Generator) -> Float:
    """Day and night, far apart, with half a day missing at either end, and a few hours here and there."""
    y = 5.0 * ((days % 1 > 0.25) & (days % 1 < 0.9)) + rng.standard_normal(len(days))
    y[(days < 0.5) | (days > days[-1] - 0.4)] = np.nan
    for start in rng.uniform(1, days[-1] - 1, 5):
        y[(days > start) & (days < start + 0.3)] = np.nan
    return y


def hourly_regimes(days: Float, rng: np.random.Generator) -> Float:
    """Three loads that change every six hours on average."""
    return regimes(days, 6, rng) + rng.standard_normal(len(days))


def long_regimes(days: Float, rng: np.random.Generator) -> Float:
    """Three loads that change every two days on average."""
    return regimes(days, 48, rng) + rng.standard_normal(len(days))


def half_from_the_day_before(days: Float, rng: np.random.Generator) -> Float:
    """Days depend on the day before by 0.5."""
    return by_day(days, 0.5, 1.0, rng) + rng.standard_normal(len(days))


def weather(days: Float, rng: np.random.Generator) -> Float:
    """Days depend on the day before by 0.8."""
    return by_day(days, 0.8, 1.0, rng) + rng.standard_normal(len(days))


def more_than_weather(days: Float, rng: np.random.Generator) -> Float:
    """By 0.9: more than the test allows for."""
    return by_day(days, 0.9, 1.0, rng) + rng.standard_normal(len(days))


def weekends(days: Float, rng: np.random.Generator) -> Float:
    """Two days of each week are quieter; the recording begins on any day."""
    quiet = (np.floor(days) + rng.integers(0, 7)) % 7 >= 5
    return -3.0 * quiet + by_day(days, 0.3, 0.5, rng) + rng.standard_normal(len(days))


def _onset(days: Float, rng: np.random.Generator) -> float:
    return float(rng.uniform(0.1, 0.9) * days[-1])


def step(days: Float, rng: np.random.Generator, size: float) -> Float:
    """A fault that is there from one window to the next, and stays."""
    return size * (days >= _onset(days, rng)) + half_from_the_day_before(days, rng)


def growing(days: Float, rng: np.random.Generator, hours: float) -> Float:
    """A fault that grows within so many hours, and stays."""
    growth = np.clip((days - _onset(days, rng)) * 24 / hours, 0, 1)
    return 6.0 * growth + half_from_the_day_before(days, rng)


def repaired(days: Float, rng: np.random.Generator) -> Float:
    """A fault of a day or two."""
    onset = _onset(days, rng)
    return 6.0 * ((days >= onset) & (days < onset + 1.5)) + half_from_the_day_before(days, rng)


def two_steps(days: Float, rng: np.random.Generator) -> Float:
    """Two faults, or one that gets worse: more than one step, which the test does not know."""
    first, second = np.sort(rng.uniform(0.15, 0.85, 2)) * days[-1]
    return 4.0 * (days >= first) + 4.0 * (days >= second) + half_from_the_day_before(days, rng)


SCENES: dict[str, Callable[[Float, np.random.Generator], Float]] = {
    "independent windows": white,
    "windows with a memory of 5 h": dependent,
    "shifts, hours missing": shifts,
    "loads of 6 h": hourly_regimes,
    "loads of 2 days": long_regimes,
    "days, 0.5 of the day before": half_from_the_day_before,
    "days, 0.8 of the day before": weather,
    "days, 0.9 of the day before": more_than_weather,
    "weekends": weekends,
    "step of 2": lambda days, rng: step(days, rng, 2.0),
    "step of 4": lambda days, rng: step(days, rng, 4.0),
    "step of 10": lambda days, rng: step(days, rng, 10.0),
    "fault growing in 6 h": lambda days, rng: growing(days, rng, 6.0),
    "fault growing in 24 h": lambda days, rng: growing(days, rng, 24.0),
    "fault of 1.5 days": repaired,
    "two steps": two_steps,
}


def sloping(days: Float, rng: np.random.Generator, *, coefficient: float, slope: float) -> Float:
    """A slow change by so much a week, in noise of days."""
    noise = by_day(days, coefficient, 1.0, rng) + 0.1 * rng.standard_normal(len(days))
    return slope / 7 * days + noise


def kinds(
    scene: Callable[[Float, np.random.Generator], Float], days: int, rate: float, trials: int, seed: int
) -> Counter[str]:
    """What is found in so many series of a scene."""
    time = np.arange(days * PER_DAY) / PER_DAY
    found: Counter[str] = Counter()
    for trial in range(trials):
        y = scene(time, np.random.default_rng((seed, trial)))
        blocks = drift.blocks(time * drift.DAY, y)
        found[drift.change(blocks, false_rate=rate, simulated=SIMULATED).kind] += 1
    return found


def false(trials: int, quantities: int, seed: int, only: str) -> None:
    print("percent of series in which was found:      asked 5 %                      asked 1 %")
    print("scene                          days    drift  sudden  unclear     drift  sudden  unclear")
    for name, scene in SCENES.items():
        for days in (14, 28, 56) if only in name else ():
            cells = []
            for rate in (0.05, 0.01):
                found = kinds(scene, days, rate / quantities, trials, seed)
                cells += [100 * found[kind] / trials for kind in ("drift", "sudden", "unclear")]
            row = "   ".join("".join(f"{cell:8.1f}" for cell in cells[start : start + 3]) for start in (0, 3))
            print(f"{name:30} {days:4d} {row}", flush=True)


def power(trials: int, quantities: int, seed: int) -> None:
    print(
        "percent of slow changes that are found as drift (and as any change), 5 % asked, by change per week in"
    )
    print("standard deviations of the noise of days, which depend on the day before by 0 or 0.5")
    print("noise     days" + "".join(f"{slope:12g}" for slope in SLOPES))
    for coefficient in (0.0, 0.5):
        for days in (14, 21, 28, 56):
            cells = ""
            for slope in SLOPES:
                scene = partial(sloping, coefficient=coefficient, slope=slope)
                found = kinds(scene, days, 0.05 / quantities, trials, seed)
                shares = 100 * np.array([found["drift"], trials - found["none"]]) / trials
                cells += f"{f'{shares[0]:.0f} ({shares[1]:.0f})':>12}"
            print(f"{coefficient:5g}     {days:4d}{cells}", flush=True)


def of_recordings(days: Float, rng: np.random.Generator, *, levels: Sequence[Float], mixed: bool) -> Float:
    """Levels of real recordings of two domains, mixed at random; or a domain for each day."""
    size = (int(days[-1]) + 1, PER_DAY)
    chosen = rng.integers(0, 2, size if mixed else (size[0], 1))
    return np.where(chosen, *(rng.choice(x, size) for x in levels)).ravel()


def real(file: Path, trials: int, seed: int) -> None:
    """Levels of real recordings, in an order of chance, for the published ones have no order: what is found."""
    table = pd.read_csv(file)
    normal = table[table["key"].str.contains("_normal_")]
    print("percent of series of 28 days, two levels drawn each hour, 5 % asked:  drift  sudden  unclear")
    for mixed, what in ((True, "any recording"), (False, "each day of one domain")):
        found: Counter[str] = Counter()
        for machine, rows in normal.groupby(normal["key"].str.split("/").str[0]):
            levels = [
                rows.loc[rows["key"].str.contains(f"_{domain}_"), "near_logmel_mean_db"].to_numpy()
                for domain in ("source", "target")
            ]

            scene = partial(of_recordings, levels=levels, mixed=mixed)
            found += kinds(scene, 28, 0.05, trials, seed + len(str(machine)))
        shares = "".join(
            f"{100 * found[kind] / found.total():8.1f}" for kind in ("drift", "sudden", "unclear")
        )
        print(f"{what:62} {shares}  of {found.total()}", flush=True)


def streams(machines: Sequence[str], n_days: int, every: float, seed: int) -> None:
    """Simulated streams of days: 8 s of every so many hours, scored by a detector of two other days."""
    hours = 24.0 * n_days
    onset = 0.45 * hours
    scenes: dict[str, dict[str, Any]] = {
        "nothing": {},
        "fault, at once": {"onsets": (Onset("any", onset, severity=1.0),)},
        "machine becomes 6 dB duller": {"drift": ("machine",)},
        "fault, growing in 12 h": {"onsets": (Onset("any", onset, "linear", 12.0),)},
    }
    print(
        f"{n_days} days, 8 s of every {every:g} hours; microphones and machine change over all of them; a fault"
    )
    print(f"begins after {onset / 24:.1f} days")
    for machine in machines:
        detector = fitted(machine, seed)
        for name, what in scenes.items():
            settings = settings_of(machine, hours, seed, day_seed=1, **what)
            sounds = list(heard(settings, machine, every))
            tell(detector, machine, name, sounds, settings)
            if name == "nothing":  # a gain that falls needs no other stream
                for channel, microphone in enumerate(("near", "far")):
                    falling = [(hour, quieter(x, channel, 6.0 * hour / hours)) for hour, x in sounds]
                    tell(detector, machine, f"{microphone} loses 6 dB", falling, settings)


def quieter(samples: NDArray[np.float32], channel: int, by_db: float) -> NDArray[np.float32]:
    changed = samples.copy()
    changed[channel] *= 10 ** (-by_db / 20)
    return changed


def tell(
    detector: Detector,
    machine: str,
    name: str,
    sounds: Sequence[tuple[float, NDArray[np.float32]]],
    settings: simulated.Settings,
) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder, "scores.csv")
        file.write_text(scored(detector, sounds, settings))
        found = nearfar.drift(detector, file)
    told = ", ".join(
        f"{q} {c.kind}" + (f" {7 * c.slope:+.2g} a week" if c.kind == "drift" else "")
        for q, c in found.changes.items()
        if c.kind != "none"
    )
    print(f"{machine:8} {name:28} {told or 'no change'}", flush=True)


def settings_of(machine: str, hours: float, seed: int, **what: Any) -> simulated.Settings:
    defaults: dict[str, Any] = {
        "machines": (machine,), "hours": hours, "train_hours": 0.0, "file_hours": 1.0, "rate": 16000,
        "snr_db": -4.0, "seed": seed, "begins": "2026-01-05T06:00:00", "onsets": (), "schedule": True,
        "hall": True, "drift": (), "drift_db": 6.0, "drift_hours": hours,
    }  # fmt: skip
    return simulated.Settings(**{**defaults, **what})


def heard(
    settings: simulated.Settings, machine: str, every: float
) -> Iterator[tuple[float, NDArray[np.float32]]]:
    """8 s every so many hours, with their time in hours."""
    stream = simulated.stream_of(settings, machine)
    block_hours = next(stream.blocks(0)).shape[1] / settings.rate / 3600
    for hour in np.arange(0.0, settings.hours, every):
        block = round(hour / block_hours)
        yield block * block_hours, next(stream.blocks(block))[:, : 8 * settings.rate].copy()


def fitted(machine: str, seed: int) -> Detector:
    """To two days of another draw, 45 minutes apart."""
    with TemporaryDirectory() as folder:
        for i, (_, samples) in enumerate(heard(settings_of(machine, 48.0, seed, day_seed=0), machine, 0.75)):
            (Path(folder) / machine).mkdir(exist_ok=True)
            audio.write(Path(folder) / machine / f"{i:04d}.wav", samples, 16000)
        return Detector.fit(Path(folder) / machine, "spectral", odd_clips="keep")


def scored(
    detector: Detector, sounds: Sequence[tuple[float, NDArray[np.float32]]], settings: simulated.Settings
) -> str:
    """A table as the command `score` prints it, with clock time."""
    began = datetime.fromisoformat(settings.begins)
    lines = [f"clock,{','.join([*verdicts.COLUMNS, *verdicts.LEVELS])}\n"]
    for hour, samples in sounds:
        clock = (began + timedelta(hours=hour)).isoformat()
        verdict = detector.score(samples, settings.rate, name=detector.machine)
        lines.append(f"{clock},{verdicts.csv_line(verdict)}")
    return "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("false", "power", "real", "streams"))
    parser.add_argument("--file", type=Path, help="of levels of recordings: columns key, near_logmel_mean_db")
    parser.add_argument("--machines", default="fan,pump,valve")
    parser.add_argument("--days", type=int, default=21)
    parser.add_argument("--every", type=float, default=1.0)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--quantities", type=int, default=1)
    parser.add_argument("--scene", default="", help="of `false`: only those with this in their names")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.what == "streams":
        streams(asked.machines.split(","), asked.days, asked.every, asked.seed)
    elif asked.what == "real":
        real(asked.file, asked.trials, asked.seed)
    elif asked.what == "false":
        false(asked.trials, asked.quantities, asked.seed, asked.scene)
    else:
        power(asked.trials, asked.quantities, asked.seed)


if __name__ == "__main__":
    main()
