"""The simulator: how fast it is, where its time goes, and how hard its machines are.

    python benchmarks/bench_simulation.py [--seed 0] [--speed-only] [--noise-field places] [--keep FOLDER]

Difficulty: the preset "small" with 50 test clips a domain and label, `spectral` with each view, both baselines, and
the AUC of a clip's level alone. The noise field concerns the speed of clips only. Speed is processor time of one
thread, files included; clips and a stream (schedule, hall, no fault) of a machine are measured one after the other.
Clips of 10 s, streams of 5 minutes, at 16 kHz, two channels.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from nearfar.evaluation.metrics import omega
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.recordings.audio import FAR, NEAR, read, write
from nearfar.recordings.clips import Clip
from nearfar.research import experiment
from nearfar.simulation import MACHINES, broadcast, days, simulate
from nearfar.simulation.dataset import CHALLENGE, Settings, planned, record, site_of
from nearfar.simulation.fields import Field
from nearfar.simulation.machines.mechanics import dry_sound
from nearfar.simulation.noise import NOISES
from nearfar.simulation.rooms import heard
from nearfar.simulation.sites import NOISE_FIELDS
from nearfar.systems import configuration

RATE, SECONDS = 16000, 10.0
SPEED_CLIPS = 12  # of each machine
STREAM_SECONDS = 300
TEST_CLIPS = 50
SYSTEMS = {
    "spectral_w1, near": ("spectral_w1", "near"),
    "far": ("spectral_w1", "far"),
    "cancelled": ("spectral_w1", "cancelled"),
    "baseline_mse": ("baseline_mse", None),
    "baseline_mahalanobis": ("baseline_mahalanobis", None),
}


def speed(seed: int, noise_field: str) -> None:
    """Real-time factors of single clips in this process, and a profile of all of them."""
    settings = Settings(
        machines=tuple(MACHINES),
        source_clips=SPEED_CLIPS,
        target_clips=1,
        test_clips=1,
        seconds=SECONDS,
        rate=RATE,
        snr=(-8.0, 0.0),
        seed=seed,
        shift=None,
        noise=None,
        microphone_faults=(),
        microphone_fault_share=0.0,
        sources=False,
        noise_field=noise_field,
    )
    print(f"seed {seed}, {SPEED_CLIPS} clips of {SECONDS:g} s a machine, {noise_field}, files included\n")
    print("| machine | room, once (s) | a clip (ms) | times real time | a stream, times real time |")
    print("|---|---|---|---|---|")
    profile, total, clips, streamed = cProfile.Profile(), 0.0, 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        for machine in MACHINES:
            start = time.process_time()
            site = site_of(settings, machine)
            drawn = time.process_time() - start
            chosen = list(planned(settings, machine))[:SPEED_CLIPS]
            times = []
            for clip in chosen:
                start = time.process_time()
                recorded = record(site, clip, samples=settings.samples).clip
                write(Path(folder) / "clip.wav", recorded.astype(np.float32), RATE)
                times.append(time.process_time() - start)
            total, clips = total + sum(times), clips + len(times)
            mean = np.mean(times)
            of_stream = stream_seconds(machine, seed, Path(folder) / "stream.wav")
            streamed += of_stream
            print(
                f"| {machine} | {drawn:.2f} | {1000 * mean:.0f} | {SECONDS / mean:.0f} "
                f"| {STREAM_SECONDS / of_stream:.0f} |"
            )
            profile.enable()
            for clip in chosen:
                recorded = record(site, clip, samples=settings.samples).clip
                write(Path(folder) / "clip.wav", recorded.astype(np.float32), RATE)
            profile.disable()
    of_all = len(MACHINES) * STREAM_SECONDS / streamed
    print(f"| all | | {1000 * total / clips:.0f} | {SECONDS * clips / total:.0f} | {of_all:.0f} |\n")
    where(profile)


def stream_seconds(machine: str, seed: int, path: Path) -> float:
    """The time that some minutes of a machine's stream take, in seconds, after its room and levels are known."""
    settings = days.Settings(machines=(machine,), hours=1.0, rate=RATE, seed=seed)
    stream = days.stream_of(settings, machine)
    next(stream.blocks(0))
    start = time.process_time()
    samples = STREAM_SECONDS * RATE
    pieces = days.pieces(stream, 0, samples)
    broadcast.write(path, pieces, samples=samples, channels=2, rate=RATE, began=days.BEGINS)
    return time.process_time() - start


def where(profile: cProfile.Profile) -> None:
    """The shares of the parts in the profiled time."""
    stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]  # (file, line, name): calls, own, total time
    names = {code_of(dry_sound): "machine and fault", code_of(heard): "room", code_of(write): "file"}
    names |= {code_of(kind.__call__): "noise" for kind in NOISES.values()}
    names[code_of(Field.__call__)] = "noise field"
    parts: dict[str, float] = defaultdict(float)
    for (file, line, _), (_, _, _, cumulative, _) in stats.items():
        if (file, line) in names:
            parts[names[file, line]] += cumulative
    total = sum(cumulative for (f, n, _), (*_, cumulative, _) in stats.items() if (f, n) == code_of(record))
    total += parts["file"]
    parts["the rest: mixing, gains"] = total - sum(parts.values())
    print("| part of a clip | share of the time |\n|---|---|")
    for part, seconds in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"| {part} | {seconds / total:.0%} |")


def code_of(function: object) -> tuple[str, int]:
    """Where a function stands, as the profile names it."""
    code = function.__code__  # type: ignore[attr-defined]
    return code.co_filename, code.co_firstlineno


def difficulty(folder: Path, seed: int, workers: int) -> None:
    """Omega of every machine and system in percent, and the AUC of the level."""
    start = time.perf_counter()
    if not (folder / "data").exists():
        simulate(folder / "data", test_clips=TEST_CLIPS, seed=seed, workers=workers)
        clips = len(CHALLENGE.machines) * (110 + 4 * TEST_CLIPS)
        print(f"\n{clips} clips simulated in {time.perf_counter() - start:.0f} s by {workers} processes")
    data = datasets.load(folder / "data")
    columns = {}
    for column, (name, view) in SYSTEMS.items():
        replaced = {"threshold.method": "none"} | ({"branch.view": view} if view else {})
        system = configuration.load(name, replaced)
        into = folder / "results" / column.replace(", ", "_")
        result = experiment.run(system, data, into, workers=workers, jobs=Jobs(folder / "cache"))
        columns[column] = result.metrics.set_index("machine")
    print(f"\nseed {seed}, Omega in percent; in parentheses AUC of source and target, pAUC\n")
    print(f"| machine | {' | '.join(columns)} | level alone: near, far (AUC) |")
    print("|---" * (len(columns) + 2) + "|")
    for machine in CHALLENGE.machines:
        cells = [_cell(table.loc[[machine]]) for table in columns.values()]
        levels = ", ".join(f"{100 * auc:.0f}" for auc in level_auc(data[machine].test))
        print(f"| {machine} | {' | '.join(cells)} | {levels} |")
    print(f"| all | {' | '.join(f'**{100 * omega(table):.1f}**' for table in columns.values())} | |")


def _cell(table: pd.DataFrame) -> str:
    parts = ", ".join(f"{100 * table[c].iloc[0]:.0f}" for c in ("auc_source", "auc_target", "pauc"))
    return f"**{100 * omega(table):.1f}** ({parts})"


def level_auc(clips: tuple[Clip, ...]) -> tuple[float, float]:
    """Of both channels' RMS as a score."""
    levels = np.array([np.sqrt(np.mean(read(clip.path)[0] ** 2, axis=1)) for clip in clips])
    anomalous = [clip.label == "anomaly" for clip in clips]
    return roc_auc_score(anomalous, levels[:, NEAR]), roc_auc_score(anomalous, levels[:, FAR])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed-only", action="store_true")
    parser.add_argument("--noise-field", choices=list(NOISE_FIELDS), default="places")
    parser.add_argument("--keep", type=Path, help="folder for data and results; they are taken up again")
    chosen = parser.parse_args()
    speed(chosen.seed, chosen.noise_field)
    if chosen.speed_only:
        return
    with tempfile.TemporaryDirectory() as temporary:
        difficulty(chosen.keep or Path(temporary), chosen.seed, os.cpu_count() or 1)


if __name__ == "__main__":
    main()
