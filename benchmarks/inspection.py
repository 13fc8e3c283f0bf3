"""What the inspection of recordings finds, what it invents, and what it costs; all on simulated machines.

    python benchmarks/inspection.py planted [--seeds 0,1,2] [--folder DIR]
    python benchmarks/inspection.py spoilt [--seeds 0,1,2] [--folder DIR]
    python benchmarks/inspection.py cost [CLIPS]

``planted``: every kind of fault planted in normal test clips of eight machines, fitted to 100 + 10 clips each;
and what is said of clips in which nothing is planted. ``spoilt``: training sets of one fan that hold what they
should not. ``cost``: milliseconds a clip, side by side with the features of `spectral_w1`. Recordings are kept in
DIR for another run.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soxr
from threadpoolctl import threadpool_limits

import nearfar
from nearfar.encoders.features import BASELINE, log_mel
from nearfar.recordings import audio, datasets
from nearfar.recordings.audio import Samples
from nearfar.recordings.clips import Clip, DatasetError, Machine
from nearfar.recordings.inspection.alone import faults_alone
from nearfar.recordings.inspection.measured import measure
from nearfar.recordings.inspection.training import look
from nearfar.recordings.inspection.usual import Usual, faults_against
from nearfar.recordings.microphones import cancelled
from nearfar.simulation import simulate
from nearfar.simulation.machines import MACHINES

RATE, SECONDS = 16000, 10
Rng = np.random.Generator
Plant = Callable[[Samples, int, Rng, Samples], Samples]  # a clip, a channel, its noise alone


def dead(x: Samples, c: int, rng: Rng, _noise: Samples) -> Samples:
    x[c] = 0.3 / 32768 * rng.standard_normal(x.shape[1])
    return x


def deaf(x: Samples, c: int, rng: Rng, _noise: Samples) -> Samples:
    x[c] = 10 ** (-78 / 20) * rng.standard_normal(x.shape[1])
    return x


def gone(x: Samples, c: int, rng: Rng, _noise: Samples) -> Samples:
    length = int(rng.uniform(0.05, 0.6) * x.shape[1])
    start = rng.integers(0, x.shape[1] - length)
    x[c, start : start + length] = rng.choice([0.0, 1e-4]) * rng.standard_normal(length)
    return x


def exchanged(x: Samples, _c: int, _rng: Rng, _noise: Samples) -> Samples:
    return x[::-1]


def exchanged_half_way(x: Samples, _c: int, rng: Rng, _noise: Samples) -> Samples:
    at = int(rng.uniform(0.3, 0.7) * x.shape[1])
    x[:, at:] = x[::-1, at:].copy()
    return x


def doubled(x: Samples, c: int, _rng: Rng, _noise: Samples) -> Samples:
    x[1 - c] = x[c]
    return x


def doubled_one_apart(x: Samples, c: int, rng: Rng, _noise: Samples) -> Samples:
    x[1 - c] = rng.choice([0.5, 1.0]) * np.roll(x[c], rng.choice([-1, 1]))
    return x


def late(x: Samples, c: int, rng: Rng, _noise: Samples) -> Samples:
    x[c] = np.roll(x[c], round(rng.uniform(0.005, 0.05) * RATE))
    return x


def drifting(x: Samples, c: int, rng: Rng, _noise: Samples) -> Samples:
    grid = np.arange(x.shape[1])
    x[c] = np.interp(grid * (1 + rng.choice([-1, 1]) * rng.uniform(50e-6, 300e-6)), grid, x[c])
    return x


def offset(x: Samples, c: int, rng: Rng, _noise: Samples) -> Samples:
    x[c] += rng.choice([-1, 1]) * rng.uniform(0.05, 0.3)
    return x


def clipped(x: Samples, c: int, rng: Rng, _noise: Samples) -> Samples:
    gain = 0.99 / np.abs(x[c]).max() * 10 ** (rng.uniform(15, 25) / 20)
    x[c] = np.clip(gain * x[c], -0.99, 0.99)
    return x


def short(x: Samples, _c: int, rng: Rng, _noise: Samples) -> Samples:
    return x[:, : int(rng.uniform(0.1, 0.8) * x.shape[1])]


def integers_as_float(x: Samples, _c: int, _rng: Rng, _noise: Samples) -> Samples:
    return x * 32768


def right_aligned(x: Samples, _c: int, _rng: Rng, _noise: Samples) -> Samples:
    return x / 256


def not_running(_x: Samples, _c: int, _rng: Rng, noise: Samples) -> Samples:
    return noise.copy()


def half_not_running(x: Samples, _c: int, _rng: Rng, noise: Samples) -> Samples:
    half = x.shape[1] // 2
    x[:, half:] = noise[:, half:]
    return x


def another_rate(x: Samples, _c: int, rng: Rng, _noise: Samples) -> Samples:
    return soxr.resample(x.T, RATE, int(rng.choice([22050, 44100, 48000]))).T


PLANTS: dict[str, tuple[Plant, set[str]]] = {
    "dead": (dead, {"dead"}),
    "deaf, noise at -78 dBFS": (deaf, {"deaf"}),
    "gone for 5 to 60 % of the clip": (gone, {"gone"}),
    "exchanged": (exchanged, {"swapped"}),
    "exchanged half-way": (exchanged_half_way, {"swapped"}),
    "doubled": (doubled, {"identical"}),
    "doubled, one sample apart": (doubled_one_apart, {"identical"}),
    "late by 5 to 50 ms": (late, {"late"}),
    "drifting, 50 to 300 ppm": (drifting, {"drifting"}),
    "offset of 0.05 to 0.3": (offset, {"offset"}),
    "clipped, 15 to 25 dB too loud": (clipped, {"clipped"}),
    "another rate": (another_rate, {"rate"}),
    "10 to 80 % of the length": (short, {"short"}),
    "16-bit integers as numbers": (integers_as_float, {"units"}),
    "24 bits right-aligned in 32": (right_aligned, {"units"}),
    "machine off": (not_running, {"not_running"}),
    "machine off in the second half": (half_not_running, {"not_running"}),
}


def simulated(folder: Path, name: str, **settings: object) -> Path:
    """A simulated data set with its sources; made once."""
    place = folder / name
    if not place.exists():
        simulate(place, sources=True, workers=2, **settings)  # type: ignore[arg-type]
    return place


def noise_of(clip: Clip, root: Path) -> Samples:
    """What the two microphones hear without the machine."""
    path = root / "sources" / clip.machine / clip.split / clip.name
    return audio.read(path.with_name(f"{path.stem}_noise.wav"))[0]


def kinds(usual: Usual, samples: Samples, rate: int) -> set[str]:
    """What is said of a recording."""
    measured = measure(samples, rate)
    return {f.kind for f in (*faults_alone(measured), *faults_against(usual, measured, lambda: samples))}


def planted(folder: Path, seeds: list[int]) -> None:
    """The table of planted faults, machine by machine."""
    hits: Counter[tuple[str, str]] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    for seed in seeds:
        root = simulated(
            folder, f"eight-{seed}", machines=tuple(MACHINES), source_clips=100, test_clips=20, seed=seed
        )
        for machine in datasets.load(root):
            found = look(machine, workers=2)
            tell(
                hits, counts, machine.name, "training clips left out", len(found.left_out), len(machine.train)
            )
            odd = len({clip for clip, _ in found.noticed}) + len(found.unlike)
            tell(hits, counts, machine.name, "training clips called odd", odd, len(machine.train))
            assert found.usual is not None
            plant_all(found.usual, machine, root, hits, counts)
            print(f"seed {seed}, {machine.name}: done", flush=True)
        show(hits, counts, seed)


def show(hits: Counter, counts: Counter, seed: int) -> None:
    """The shares so far, over all machines and for each."""
    print(f"up to seed {seed}")
    names = [*dict.fromkeys(m for _, m in counts)]
    print(f"{'':34s}{'all':>9s}" + "".join(f"{name:>9s}" for name in names))
    for kind in dict.fromkeys(kind for kind, _ in counts):
        share = sum(hits[kind, m] for m in names) / sum(counts[kind, m] for m in names)
        cells = (f"{hits[kind, m] / counts[kind, m]:9.1%}" for m in names)
        print(f"{kind:34s}{share:9.2%}" + "".join(cells))


def tell(hits: Counter, counts: Counter, machine: str, kind: str, hit: int, count: int = 1) -> None:
    hits[kind, machine] += hit
    counts[kind, machine] += count


def plant_all(usual: Usual, machine: Machine, root: Path, hits: Counter, counts: Counter) -> None:
    """Every kind in every other normal test clip; the others, and clips of faulty machines, as they are."""
    rng = np.random.default_rng(1)
    normal = [clip for clip in machine.test if clip.label == "normal"]
    for clip in machine.test:
        samples, rate = audio.read(clip.recording)
        label = "normal" if clip.label == "normal" else "faulty machines'"
        tell(hits, counts, machine.name, f"{label} clips called odd", bool(kinds(usual, samples, rate)))
    for clip in normal[::2]:
        samples, noise = audio.read(clip.recording)[0], noise_of(clip, root)
        for kind, (plant, expected) in PLANTS.items():
            spoilt_clip = np.ascontiguousarray(
                plant(samples.copy(), int(rng.integers(2)), rng, noise), np.float32
            )
            rate = RATE if plant is not another_rate else 48000
            hit = bool(expected & kinds(usual, spoilt_clip, rate))
            tell(hits, counts, machine.name, kind, hit)


def write(clips: list[tuple[str, Samples]], folder: Path) -> Path:
    for name, samples in clips:
        audio.write(folder / "train" / name, samples, RATE)
    return folder


def spoilt_sets(machine: Machine, root: Path) -> Iterator[tuple[str, list[tuple[str, Samples]]]]:
    """Training sets of one machine, each spoilt in its own way."""
    train = [(f"{i:02}.wav", audio.read(clip.recording)[0]) for i, clip in enumerate(machine.train[:60])]
    noise = [noise_of(clip, root) for clip in machine.train[:60]]
    faults = [clip for clip in machine.test if clip.label == "anomaly"][20:30]
    yield "clean", train
    yield "clean, the first 50", train[:50]
    yield (
        "10 clips of the machine switched off",
        [*train[:50], *zip([n for n, _ in train[50:]], noise[50:], strict=True)],
    )
    half = SECONDS * RATE // 2
    yield (
        "10 clips off in their second half",
        [
            (name, x if i < 50 else np.concatenate([x[:, :half], noise[i][:, half:]], axis=1))
            for i, (name, x) in enumerate(train)
        ],
    )
    yield (
        "30 clips with the channels exchanged",
        [(n, x if i % 2 else x[::-1]) for i, (n, x) in enumerate(train)],
    )
    yield "10 clips, each six times", [(f"{k}_{name}", x) for k in range(6) for name, x in train[:10]]
    yield (
        "30 clips of 2 s beside 30 of 10 s",
        [(n, x if i % 2 else x[:, : 2 * RATE]) for i, (n, x) in enumerate(train)],
    )
    hidden = [audio.read(clip.recording)[0] for clip in faults]
    yield "10 hidden faults", [*train[:50], *((f"{50 + i}.wav", x) for i, x in enumerate(hidden))]


def spoilt(folder: Path, seeds: list[int]) -> None:
    """The table of spoilt training sets of one fan."""
    for seed in seeds:
        root = simulated(
            folder, f"fan-{seed}", machines=("fan",), source_clips=60, target_clips=1, test_clips=40,
            shift=("none",), seed=seed,
        )  # fmt: skip
        machine = datasets.load(root)["fan"]
        normal = [clip.path for clip in machine.test if clip.label == "normal" and clip.domain == "source"][
            :20
        ]
        faults = [clip.path for clip in machine.test if clip.label == "anomaly" and clip.domain == "source"][
            :20
        ]
        print(f"seed {seed}\n{'the training set holds':40s}{'AUC':>6s}{'found':>8s}{'flagged':>9s}  fit says")
        for name, clips in spoilt_sets(machine, root):
            with tempfile.TemporaryDirectory() as place:
                print(f"{name:40s}{judged(write(clips, Path(place) / 'fan'), normal, faults)}", flush=True)


def judged(folder: Path, normal: list[Path], faults: list[Path]) -> str:
    """AUC, share of faults found and of normal clips flagged, and what the fit says."""
    try:
        detector = nearfar.fit(folder, "spectral_w1")  # the table was measured with it
    except (DatasetError, ValueError) as error:
        return f"{'':23s}  refused: {str(error)[:200]}"
    good, bad = ([detector.score(path) for path in paths] for paths in (normal, faults))
    wins = np.array([[b.score > g.score for g in good] for b in bad])
    found, flagged = (np.mean([v.decision == "anomaly" for v in some]) for some in (bad, good))
    known = detector.trained_on
    left = Counter(suspect["kind"] for suspect in known["left_out"])
    said = f"left out: {dict(left)}" if left else ""
    said += f" unlike: {[suspect['clip'] for suspect in known['unlike']]}" if known["unlike"] else ""
    return f"{wins.mean():6.2f}{found:8.0%}{flagged:9.0%}  {said}"


def cost(clips: int) -> None:
    """Milliseconds of processor time a clip: the features of `spectral_w1`, and the inspection beside them."""
    rng = np.random.default_rng(0)
    pairs = [0.1 * rng.standard_normal((2, SECONDS * RATE)).astype(np.float32) for _ in range(clips)]
    for pair in pairs:
        pair[1] += 0.5 * pair[0]
    usual = Usual.of([measure(pair, RATE) for pair in pairs[:40]], [""] * 40)

    def features(pair: Samples) -> None:
        log_mel(cancelled(pair), BASELINE)

    def inspection(pair: Samples) -> None:
        measured = measure(pair, RATE)
        faults_alone(measured)
        faults_against(usual, measured, lambda: pair)

    with threadpool_limits(1):
        times: dict[str, list[float]] = {"features": [], "inspection": []}
        for pair in pairs:
            for name, function in (("features", features), ("inspection", inspection)):
                begin = time.process_time()
                function(pair)
                times[name].append(1e3 * (time.process_time() - begin))
    for name, spent in times.items():
        print(f"{name:12s} median {np.median(spent):6.2f} ms of processor time a clip of 2 x {SECONDS} s")
    print(f"ratio {np.median(times['inspection']) / np.median(times['features']):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("what", choices=("planted", "spoilt", "cost"))
    parser.add_argument("clips", nargs="?", type=int, default=200)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.what == "cost":
        cost(given.clips)
        return
    folder = given.folder or Path(tempfile.mkdtemp())
    try:
        {"planted": planted, "spoilt": spoilt}[given.what](folder, [int(s) for s in given.seeds.split(",")])
    finally:
        if given.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
