"""A data set in the layout of DCASE 2026 Task 2, recorded from simulated machines.

Conventions
-----------
Everything random comes from ``seed``: a site (specimen, room, surroundings) from the seed and the machine's
name, a clip from these and its place (split, domain, label, index). So a clip is the same whatever else the
data set holds.
"""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np

from nearfar.audio import NEAR, write
from nearfar.clips import Domain, Label, Split, unknown
from nearfar.simulation.machines import MACHINES, Condition, Machine, dry_sound
from nearfar.simulation.noise import Signal, Surroundings, from_db, noise_gain
from nearfar.simulation.rooms import Installation, heard
from nearfar.storage import atomic_folder, write_json

FORMAT = 1  # of the folder; to be raised when equal parameters give other bytes

DOMAINS: tuple[Domain, ...] = ("source", "target")
LABELS: tuple[Label, ...] = ("normal", "anomaly")

SEVERITY = (0.4, 1.0)  # range of the planted faults; our choice, so that simple features hear some, not all
SENSOR_RMS = 0.02  # of each microphone's own noise; the machine's is 1 at a distance of 1 m
PEAK_DB = -7.0  # of every clip: its loudness was set by whoever recorded it
PEAK_JITTER_DB = 4.0  # to both sides of it, drawn without a look at the label

MAX_CLIPS = 10_000  # of one kind: the file names have four digits
MIN_SECONDS = 0.5  # ten revolutions of the slowest shaft
MIN_RATE = 8000  # Hz; the highest resonance lies below half of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``simulate`` was asked for; named and explained there."""

    machines: tuple[str, ...]
    source_clips: int
    target_clips: int
    test_clips: int
    seconds: float
    rate: int
    snr: tuple[float, float]
    seed: int

    def __post_init__(self) -> None:
        self._refuse_machines()
        self._refuse_counts()
        if not MIN_SECONDS <= self.seconds < np.inf:
            raise ValueError(f"seconds={self.seconds}: must be finite and at least {MIN_SECONDS}")
        if self.rate < MIN_RATE:
            raise ValueError(
                f"rate={self.rate}: must be at least {MIN_RATE} Hz, to hold what rings in a fault"
            )
        if not -np.inf < self.snr[0] <= self.snr[1] < np.inf:
            raise ValueError(f"snr={self.snr}: expected two finite levels in dB, the lower one first")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed}: must not be negative")

    def _refuse_machines(self) -> None:
        for name in self.machines:
            if name not in MACHINES:
                raise ValueError(unknown("machine", name, MACHINES))
        if len(set(self.machines)) != len(self.machines) or not self.machines:
            raise ValueError(f"machines={self.machines}: expected at least one machine, and each once")

    def _refuse_counts(self) -> None:
        for name in ("source_clips", "target_clips", "test_clips"):
            if not 1 <= getattr(self, name) <= MAX_CLIPS:
                raise ValueError(f"{name}={getattr(self, name)}: must be between 1 and {MAX_CLIPS}")

    def cells(self) -> Iterator[tuple[Cell, int]]:
        """All kinds of clips with their numbers, machine by machine, training first."""
        for machine in self.machines:
            yield Cell(machine, "train", "source", "normal"), self.source_clips
            yield Cell(machine, "train", "target", "normal"), self.target_clips
            for domain, label in product(DOMAINS, LABELS):
                yield Cell(machine, "test", domain, label), self.test_clips


@dataclass(frozen=True, slots=True)
class Cell:
    """Clips that are drawn alike."""

    machine: str
    split: Split
    domain: Domain
    label: Label


@dataclass(frozen=True, slots=True)
class Planned:
    """One clip, before it sounds: a line of the manifest.

    Attributes
    ----------
    key : str
        ``machine/split/name.wav``.
    fault : str or None
        One of the machine's faults; ``None`` in normal clips.
    severity : float
        Of the fault, up to 1; 0 in normal clips.
    rpm, load : int
        The operating condition.
    snr_db : float
        Of the machine against its surroundings, at the near microphone; its own noise is not counted.
    seed : int
        Of this clip.
    """

    key: str
    machine: str
    split: Split
    domain: Domain
    label: Label
    fault: str | None
    severity: float
    rpm: int
    load: int
    snr_db: float
    seed: int


@dataclass(frozen=True, slots=True)
class Site:
    """A specimen of a machine where it stands."""

    machine: Machine
    installation: Installation
    surroundings: dict[Domain, Surroundings]

    @classmethod
    def draw(cls, machine: str, *, rate: int, seed: int) -> Site:
        """The site of this machine in the data set of this seed."""
        of_machine, of_room, of_noise = np.random.default_rng(_sequence(seed, machine)).spawn(3)
        return cls(
            machine=MACHINES[machine].manufacture(of_machine),
            installation=Installation.draw(rate=rate, rng=of_room),
            surroundings={domain: Surroundings.draw(domain, of_noise) for domain in DOMAINS},
        )


def simulate(
    out: Path,
    *,
    machines: Sequence[str] = ("fan", "gearbox"),
    source_clips: int = 100,
    target_clips: int = 10,
    test_clips: int = 20,
    seconds: float = 4.0,
    rate: int = 16000,
    snr: tuple[float, float] = (-8.0, 0.0),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a data set of simulated machines in the layout of DCASE 2026 Task 2.

    It also holds ``manifest.jsonl``, the truth about every clip, and ``simulated.json``, the parameters. The
    folder appears whole or not at all.

    Parameters
    ----------
    out : Path
        The folder to make; it is returned.
    machines : sequence of str
        Of ``MACHINES``.
    source_clips, target_clips : int
        Normal training clips per machine and domain.
    test_clips : int
        Test clips per machine in each of source / target x normal / anomaly.
    seconds, rate : float, int
        Length of a clip, and samples per second.
    snr : (float, float)
        Range in dB of the machine against the noise at the near microphone, drawn per clip.
    seed : int
    progress : callable, optional
        Called after every clip with how many are done, and how many there are.

    Raises
    ------
    FileExistsError
        If ``out`` is there.
    ValueError
        If a parameter is out of its range.
    """
    settings = Settings(
        machines=tuple(machines),
        source_clips=source_clips,
        target_clips=target_clips,
        test_clips=test_clips,
        seconds=seconds,
        rate=rate,
        snr=snr,
        seed=seed,
    )
    with atomic_folder(out) as folder:
        _fill(folder, settings, progress)
    return out


def _fill(folder: Path, settings: Settings, progress: Callable[[int, int], None] | None) -> None:
    """Write everything that belongs into the folder."""
    rate, samples = settings.rate, round(settings.seconds * settings.rate)
    sites = {name: Site.draw(name, rate=rate, seed=settings.seed) for name in settings.machines}
    manifest = [
        plan(sites[cell.machine].machine, cell, index, snr=settings.snr, seed=settings.seed)
        for cell, count in settings.cells()
        for index in range(count)
    ]
    for cell, _ in settings.cells():
        (folder / cell.machine / cell.split).mkdir(parents=True, exist_ok=True)
    for done, clip in enumerate(manifest, 1):
        recording = record(sites[clip.machine], clip, samples=samples, rate=rate)
        write(folder / clip.key, recording.astype(np.float32), rate)
        if progress is not None:
            progress(done, len(manifest))
    _write_tables(folder, manifest)
    write_json(folder / "simulated.json", {"format": FORMAT, **asdict(settings)})


def plan(machine: Machine, cell: Cell, index: int, *, snr: tuple[float, float], seed: int) -> Planned:
    """Draw what a clip is to be; an anomaly's index decides its fault, so that all are equally many."""
    place = _sequence(seed, cell.machine, cell.split, cell.domain, cell.label, str(index))
    clip_seed = int(place.generate_state(1, np.uint64)[0]) >> 11  # 53 bits, which every JSON reader holds
    rng = _streams(clip_seed)[0]
    rpm = int(rng.choice(machine.SOURCE_RPM if cell.domain == "source" else machine.TARGET_RPM))
    load = int(rng.choice(machine.LOADS))
    snr_db, severity = rng.uniform(*snr), rng.uniform(*SEVERITY)
    kinds = list(machine.faults())
    broken = cell.label == "anomaly"
    name = f"section_00_{cell.domain}_{cell.split}_{cell.label}_{index:04d}_rpm_{rpm}_load_{load}.wav"
    return Planned(
        key=f"{cell.machine}/{cell.split}/{name}",
        **asdict(cell),
        fault=kinds[index % len(kinds)] if broken else None,
        severity=severity if broken else 0.0,
        rpm=rpm,
        load=load,
        snr_db=snr_db,
        seed=clip_seed,
    )


def record(site: Site, clip: Planned, *, samples: int, rate: int) -> Signal:
    """The sound of a planned clip: (2, samples) array within [-1, 1]."""
    _, of_machine, of_noise, of_sensors, of_level = _streams(clip.seed)
    at, surroundings = site.installation, site.surroundings[clip.domain]
    filled = samples + at.machine.shape[-1] - 1  # so that the room sounds when a clip begins
    sound = dry_sound(
        site.machine,
        Condition(clip.rpm, clip.load),
        fault=clip.fault,
        severity=clip.severity,
        samples=filled,
        rate=rate,
        rng=of_machine,
    )
    machine = heard(sound, at.machine)
    noise = heard(surroundings.ambient(samples=filled, rate=rate, rng=of_noise), at.ambient[clip.domain])
    noise += heard(surroundings.hum(samples=filled, rate=rate, rng=of_noise), at.hum)
    noise *= noise_gain(machine[NEAR], noise[NEAR], snr_db=clip.snr_db)
    sensors = SENSOR_RMS * of_sensors.standard_normal(noise.shape)
    recording = at.gains[:, None] * (machine + noise + sensors)
    peak_db = PEAK_DB + of_level.uniform(-PEAK_JITTER_DB, PEAK_JITTER_DB)
    return recording / np.abs(recording).max() * from_db(peak_db)


def _write_tables(folder: Path, manifest: Sequence[Planned]) -> None:
    """The organizers' attribute files, one per machine, and our manifest."""
    lines = (json.dumps(asdict(clip), sort_keys=True) + "\n" for clip in manifest)
    (folder / "manifest.jsonl").write_text("".join(lines))
    for machine in dict.fromkeys(clip.machine for clip in manifest):
        with (folder / machine / "attributes_00.csv").open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["file_name", "d1p", "d1v", "d2p", "d2v"])
            of_machine = (clip for clip in manifest if clip.machine == machine)
            table.writerows([clip.key, "rpm", clip.rpm, "load", clip.load] for clip in of_machine)


def _sequence(seed: int, *place: str) -> np.random.SeedSequence:
    """The seeds of a place in the data set; names count, not positions, so that additions change nothing."""
    return np.random.SeedSequence(seed, spawn_key=[zlib.crc32(part.encode()) for part in place])


def _streams(seed: int) -> list[np.random.Generator]:
    """A clip's generators, for its plan, machine, noise, sensors and level: none depends on another's use."""
    return np.random.default_rng(seed).spawn(5)
