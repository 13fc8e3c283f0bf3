"""Noise cancellation: its speed; what it takes of noise and of the machine, by known sources.

    python benchmarks/bench_cancellation.py [speed]
    python benchmarks/bench_cancellation.py scenes [--seed 0]
    python benchmarks/bench_cancellation.py sources SET      of nearfar simulate --sources
    python benchmarks/bench_cancellation.py training SET     of nearfar simulate --sources
    python benchmarks/bench_cancellation.py listen FOLDER    writes sound files

Coefficients are estimated on what both microphones record. They are then applied to the machine alone and to the
noise alone, which add up to the result. Levels are of 128 mel bands over the clip. *Gain* is what the ratio of
machine to noise gains in a band, in dB; *lost* is what the machine loses; both are means over bands and clips.
*Worst* is what the machine loses in the worst 2 % of bands and clips.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from nearfar.encoders.features import hertz, log_mel, mel_frequencies
from nearfar.recordings import audio
from nearfar.recordings.audio import FAR, NEAR, Samples
from nearfar.recordings.cancellation import Canceller, Statistics, energy_taken
from nearfar.recordings.microphones import MICROPHONES, cancelled
from nearfar.simulation.machines import MACHINES
from nearfar.simulation.machines.mechanics import Condition, dry_sound
from nearfar.simulation.noise import NOISES, noise_gain
from nearfar.simulation.rooms import Place, Room, heard
from nearfar.simulation.signals import from_db, rms

RATE, SECONDS = 16000, 10.0
ROUNDS = 15
SIZE, MACHINE_PLACE, NEAR_DISTANCE = (9.0, 6.0, 4.0), (4.0, 2.8, 1.0), 0.3  # metres
MARGIN, AWAY = 0.4, 1.5  # of all from walls, of noise from the machine
FAINTER_DB = (-12.0, -3.0)
SENSOR_DB = -50.0  # a microphone's own noise against the machine at near, as in nearfar.simulation.sites
LEVEL = 0.03  # RMS of near
WORST = 0.98
TRAINING_CLIPS, HELD_BACK = 20, 4
WEIGHTS = (0.0, 0.3, 1.0, 3.0, math.inf)
EDGES_HZ = (0.0, 1000.0, 4000.0, 8000.0)
W1 = Canceller(1024, (0,), limit_db=math.inf)
CANCELLERS: Mapping[str, Canceller] = {
    "cancelled": W1,
    **{name: m.view for name, m in MICROPHONES.items() if isinstance(m.view, Canceller)},
    "3taps, no limit": Canceller(limit_db=math.inf),
    "3taps, 10 dB": Canceller(limit_db=10.0),
    "3taps, ridge 0.1": Canceller(ridge=0.1, limit_db=math.inf),
}

Coefficients = np.ndarray
Measured = tuple[np.ndarray, np.ndarray]  # gain and loss in dB, each (bands,)


def plain(samples: Samples, canceller: Canceller) -> np.ndarray:
    """The same, with a solution of one bin after the other, in double precision, as one would write it."""
    n_fft, hop, taps = canceller.n_fft, canceller.hop, canceller.taps
    length, window = samples.shape[1], np.hanning(n_fft + 1)[:-1]
    padded = np.pad(samples.astype(np.float64), ((0, 0), (hop, hop + -length % hop)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft, axis=1)[:, ::hop]
    C, F = np.fft.rfft(frames * window)
    inside, reach = 1 + length // hop, max(map(abs, taps))
    around = np.pad(F, ((reach, reach), (0, 0)))
    explained = np.zeros_like(C)
    for f in range(hop + 1):
        design = np.stack([around[reach + a : reach + a + len(C), f] for a in taps], axis=1)
        A, c = design[:inside], C[:inside, f]
        gram = A.conj().T @ A
        loading = canceller.ridge * np.trace(gram).real / len(taps)
        H = np.linalg.solve(gram + loading * np.eye(len(taps)), A.conj().T @ c)
        energy, mean = np.vdot(c, c).real, len(taps) / inside
        chance = mean + 2 * math.sqrt(mean * (1 - mean) / (inside + 1))
        share = 1 - np.linalg.norm(c - A @ H) ** 2 / energy
        H *= max(0.0, (share - chance) / (1 - chance) / share)
        limit = 1 - 10 ** (-canceller.limit_db / 10)
        beside, own = 2 * np.vdot(A @ H, c).real / energy, np.linalg.norm(A @ H) ** 2 / energy
        if beside - own > limit:
            H *= (beside - math.sqrt(beside**2 - 4 * own * limit)) / (2 * own)
        explained[:, f] = design @ H
    summed, weight = np.zeros_like(padded[0]), np.zeros_like(padded[0])
    for t, frame in enumerate(np.fft.irfft(explained, n_fft)):
        summed[t * hop : t * hop + n_fft] += window * frame
        weight[t * hop : t * hop + n_fft] += window**2
    return samples[NEAR] - (summed[hop : hop + length] / weight[hop : hop + length])


def speed() -> None:
    """Each canceller against today's one tap, and against the plain solution: the best of all rounds."""
    rng = np.random.default_rng(0)
    noise, machine = rng.normal(scale=0.1, size=(2, round(SECONDS * RATE)))
    samples = np.stack([machine + np.roll(noise, 40) + 0.5 * np.roll(noise, 1500), noise]).astype(np.float32)
    views = {name: m.view for name, m in MICROPHONES.items() if isinstance(m.view, Canceller)}
    timed: dict[str, Callable[[], np.ndarray]] = {"cancelled": lambda: cancelled(samples)}
    for name, view in views.items():
        timed[name] = lambda view=view: view(samples)
        timed[f"{name}, plain"] = lambda view=view: plain(samples, view)
    best = dict.fromkeys(timed, math.inf)
    with threadpool_limits(1):
        for _ in range(ROUNDS):
            for name, function in timed.items():
                begun = time.process_time()
                function()
                best[name] = min(best[name], time.process_time() - begun)
    print(f"processor time of {SECONDS:g} s of two channels, {RATE} Hz, one thread; best of {ROUNDS} rounds")
    print(f"{'':20s}{'ms':>8s}{'x cancelled':>13s}{'plain / it':>12s}{'largest difference':>20s}")
    for name in ("cancelled", *views):
        ratios = f"{1e3 * best[name]:8.2f}{best[name] / best['cancelled']:13.2f}"
        if name in views:
            difference = abs(views[name](samples) - plain(samples, views[name])).max()
            ratios += f"{best[f'{name}, plain'] / best[name]:12.1f}{difference:20.1e}"
        print(f"{name:20s}{ratios}")


# known sources


@dataclass(frozen=True, slots=True)
class Scene:
    """A machine in a room: metres, seconds, decibels at near; ``late`` is how much later far is recorded."""

    far: float = 2.0
    reverberation: float = 0.3
    sources: int = 2
    snr_db: float = -4.0
    late: float = 0.0
    seconds: float = SECONDS


SCENES = {
    "a usual scene": Scene(),
    **{f"far at {d:g} m": Scene(far=d) for d in (0.5, 1.0, 3.5)},
    **{f"reverberation {t:g} s": Scene(reverberation=t) for t in (0.15, 0.6)},
    **{f"{n} sources of noise": Scene(sources=n) for n in (1, 4, 12, 24)},
    **{f"machine to noise {snr:g} dB": Scene(snr_db=snr) for snr in (-12.0, 4.0, 12.0, 30.0)},
    "12 dB, far at 1 m": Scene(far=1.0, snr_db=12.0),
    "12 dB, far at 0.5 m": Scene(far=0.5, snr_db=12.0),
    **{f"far {1e3 * late:g} ms late": Scene(late=late) for late in (-0.1, -0.03, 0.03, 0.1)},
    **{f"clips of {s:g} s": Scene(seconds=s) for s in (0.5, 1.0, 2.0)},
}
MANY = 4  # with more sources all are alike, as a diffuse field is made


@cache
def room_of(reverberation: float) -> Room:
    return Room.build(SIZE, reverberation, rate=RATE)


def around(centre: Place, distance: float, rng: np.random.Generator) -> Place:
    """A place at this distance, inside the room."""
    while True:
        step = rng.standard_normal(3)
        place = np.array(centre) + distance * step / np.linalg.norm(step)
        if all(MARGIN <= at <= length - MARGIN for at, length in zip(place, SIZE, strict=True)):
            return tuple(place.tolist())


def away(rng: np.random.Generator) -> Place:
    """A place anywhere in the room, but not beside the machine."""
    while True:
        place = rng.uniform(MARGIN, np.array(SIZE) - MARGIN)
        if math.dist(place, MACHINE_PLACE) > AWAY:
            return tuple(place.tolist())


def parts(scene: Scene, machine: str, seed: int) -> tuple[Samples, Samples]:
    """What both microphones record of the machine, and of the noise: each (2, samples)."""
    rng = np.random.default_rng([seed, sorted(MACHINES).index(machine)])
    microphones = [around(MACHINE_PLACE, d, rng) for d in (NEAR_DISTANCE, scene.far)]
    places = [away(rng) for _ in range(scene.sources)]
    ways = room_of(scene.reverberation).ways([MACHINE_PLACE, *places], microphones, rate=RATE)
    samples, lead = round(scene.seconds * RATE), round(abs(scene.late) * RATE)
    filled = lead + samples + ways.shape[-1] - 1
    kind = MACHINES[machine]
    condition = Condition(kind.SPEEDS.usual[0], kind.LOADS.usual[0])
    dry = dry_sound(kind.manufacture(rng), condition, samples=filled, rate=RATE, rng=rng)
    of_machine = heard(dry, ways[0])
    noise = np.zeros_like(of_machine)
    for i, way in enumerate(ways[1:]):
        is_loudest = i == 0 or scene.sources > MANY
        name = "factory" if is_loudest else str(rng.choice(list(NOISES)))
        level = 1.0 if is_loudest else from_db(rng.uniform(*FAINTER_DB))
        noise += level * heard(NOISES[name].draw(rng)(samples=filled, rate=RATE, rng=rng), way)
    noise *= noise_gain(of_machine[NEAR], noise[NEAR], snr_db=scene.snr_db)
    noise += from_db(SENSOR_DB) * rms(of_machine[NEAR]) * rng.standard_normal(noise.shape)
    starts = (0, lead) if scene.late < 0 else (lead, 0)  # a late channel holds what was before
    gain = LEVEL / rms((of_machine + noise)[NEAR])
    machine_part, noise_part = (
        np.stack([gain * part[m, starts[m] : starts[m] + samples] for m in (NEAR, FAR)]).astype(np.float32)
        for part in (of_machine, noise)
    )
    return machine_part, noise_part


def response(canceller: Canceller, statistics: Statistics) -> Coefficients:
    """As the views have it; W1 is neither regularized nor shrunk."""
    if canceller is not W1:
        return canceller.response(statistics)
    return statistics.cross / (statistics.gram[:, 0] + 1e-12)


def power(waveform: np.ndarray) -> np.ndarray:
    """Of the mel bands, over the clip."""
    return np.asarray((10 ** (np.asarray(log_mel(np.ascontiguousarray(waveform))) / 10)).mean(axis=-1))


def measured(canceller: Canceller, found: Coefficients, machine: Samples, noise: Samples) -> Measured:
    """What coefficients do to both parts."""
    lost, gone = (
        10 * np.log10(power(part[NEAR]) / power(canceller.apply(part, found))) for part in (machine, noise)
    )
    return gone - lost, lost


def told(results: list[Measured]) -> str:
    """Gain, mean loss, worst loss."""
    gain, lost = (np.array(of) for of in zip(*results, strict=True))
    return f"{gain.mean():6.1f}{lost.mean():6.1f}{np.quantile(lost, WORST):6.1f}"


def head(title: str) -> None:
    print(f"{'gain, lost, worst':24s}" + "".join(f"{name:>19s}" for name in CANCELLERS))
    print(title)


def scenes(seed: int) -> None:
    """One clip of each machine in each scene."""
    head("one clip of each machine")
    for title, scene in SCENES.items():
        results: dict[str, list[Measured]] = {name: [] for name in CANCELLERS}
        for machine in sorted(MACHINES):
            of_machine, noise = parts(scene, machine, seed)
            for name, canceller in CANCELLERS.items():
                found = response(canceller, canceller.statistics(of_machine + noise))
                results[name].append(measured(canceller, found, of_machine, noise))
        print(f"{title:24s}" + "".join(f" {told(of)}" for of in results.values()), flush=True)


def clips(folder: Path, machine: str, domain: str) -> Iterator[tuple[Samples, Samples, Samples]]:
    """Training clips with their machine and their noise."""
    for path in sorted((folder / machine / "train").glob(f"*_{domain}_train_*.wav")):
        beside = folder / "sources" / machine / "train"
        files = (path, *(beside / f"{path.stem}_{part}.wav" for part in ("machine", "noise")))
        clip, of_machine, noise = (audio.load(file, RATE) for file in files)
        yield clip, of_machine, noise


def machines_of(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "sources").iterdir())


def sources(folder: Path, count: int = 6) -> None:
    """The first clips of each domain of a set, by machine; and by machine and band."""
    head(f"{count} training clips of each domain")
    by_machine: dict[str, dict[str, list[Measured]]] = {}
    for machine in machines_of(folder):
        of = by_machine[machine] = {name: [] for name in CANCELLERS}
        for domain in ("source", "target"):
            for clip, part, noise in islice(clips(folder, machine, domain), count):
                for name, canceller in CANCELLERS.items():
                    found = response(canceller, canceller.statistics(clip))
                    of[name].append(measured(canceller, found, part, noise))
        print(f"{machine:24s}" + "".join(f" {told(results)}" for results in of.values()), flush=True)
    everything = [[one for of in by_machine.values() for one in of[name]] for name in CANCELLERS]
    print(f"{'all':24s}" + "".join(f" {told(results)}" for results in everything))
    low, high = mel_frequencies(np.array([0.0, RATE / 2]), "slaney")
    centres = hertz(np.linspace(low, high, 130)[1:-1], "slaney")
    for low, high in pairwise(EDGES_HZ):
        band = (centres >= low) & (centres < high)
        rows = [[(gain[band], lost[band]) for gain, lost in results] for results in everything]
        print(f"{f'{low:g} to {high:g} Hz':24s}" + "".join(f" {told(results)}" for results in rows))


def training(folder: Path) -> None:
    """Coefficients of the clip, of other clips of its machine and domain, and of both."""
    canceller = Canceller()
    print(f"{'weight of training clips':24s}" + "".join(f"{weight:>19g}" for weight in WEIGHTS))
    for domain in ("source", "target"):
        for machine in machines_of(folder):
            every = list(islice(clips(folder, machine, domain), TRAINING_CLIPS + HELD_BACK))
            kept, held_back = every[:-HELD_BACK], every[-HELD_BACK:]
            fitted = canceller.fit(clip for clip, _, _ in kept)
            results: dict[float, list[Measured]] = {weight: [] for weight in WEIGHTS}
            for clip, part, noise in held_back:
                for weight in WEIGHTS:
                    found = replace(fitted, weight=weight).response(clip)
                    results[weight].append(measured(canceller, found, part, noise))
            row = f"{domain}, {machine}"
            print(f"{row:24s}" + "".join(f" {told(of)}" for of in results.values()), flush=True)


def listen(folder: Path, seed: int) -> None:
    """Near, what each view leaves, and the machine alone: where it helps, and where it hurts."""
    folder.mkdir(parents=True, exist_ok=True)
    for title, machine, scene in (
        ("helps", "gearbox", replace(Scene(), sources=1)),
        ("many_sources", "gearbox", replace(Scene(), sources=24)),
        ("hurts", "gearbox", replace(Scene(), far=0.5, snr_db=12.0)),
    ):
        part, noise = parts(scene, machine, seed)
        samples = part + noise
        heard_as = {"near": samples[NEAR], "machine_alone": part[NEAR]}
        heard_as |= {name: m.view(samples) for name, m in MICROPHONES.items() if "cancelled" in name}
        for name, waveform in heard_as.items():
            audio.write(folder / f"{title}_{name}.wav", waveform[None], RATE)
        taken = energy_taken(samples[NEAR], heard_as["cancelled_3taps"], rate=RATE)
        print(
            f"{title:14s} three taps took " + ", ".join(f"{band}: {db:.1f} dB" for band, db in taken.items())
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", default="speed")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.what == "speed":
        speed()
        return
    with threadpool_limits(1):
        if given.what == "scenes":
            scenes(given.seed)
        elif given.folder is None:
            parser.error(f"{given.what}: say which folder")
        elif given.what == "listen":
            listen(given.folder, given.seed)
        else:
            {"sources": sources, "training": training}[given.what](given.folder)


if __name__ == "__main__":
    main()
