"""A data set in the layout of DCASE 2026 Task 2, recorded from simulated machines.

Conventions
-----------
Everything random comes from ``seed``: a site (specimens, room, surroundings) from the seed and the machine's
name, a clip from these and its place (split, domain, label, index). So a clip is the same whatever else the
data set holds, and whoever records it.
"""

from __future__ import annotations

import csv
import json
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import chain, product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nearfar.files.atomic import resumable_folder
from nearfar.files.digests import digest
from nearfar.places.place import Place
from nearfar.places.tasks import each
from nearfar.recordings.audio import NEAR, write
from nearfar.recordings.clips import NO_ATTRIBUTE, Domain, Label, Split, unknown
from nearfar.simulation.catalogue import SCENARIOS
from nearfar.simulation.machines import MACHINES
from nearfar.simulation.machines.mechanics import Condition
from nearfar.simulation.noise import Recordings
from nearfar.simulation.recorders import MICROPHONE_FAULTS, Channels, Recording, fitting_gain
from nearfar.simulation.signals import from_db, rms
from nearfar.simulation.sites import NOISE_FIELDS, SHIFTS, Site

FORMAT = 2  # of the folder; to be raised when equal parameters give other bytes
PARAMETERS = "simulated.json"  # the file that holds them

DOMAINS: tuple[Domain, ...] = ("source", "target")
LABELS: tuple[Label, ...] = ("normal", "anomaly")

SEVERITY = (0.4, 1.0)  # range of the planted faults; our choice, so that simple features hear some, not all
LEVEL_DB = (-38.0, -28.0)  # RMS of the near channel against full scale; drawn without a look at the label
# Steps of what is spread evenly, from clip to clip of one fault, and from fault to fault: square roots (and the
# golden ratio) are hard to approximate by fractions, so multiples of them modulo 1 leave no gaps.
STEPS = {
    "snr": (math.sqrt(2), math.sqrt(3)),
    "severity": (math.sqrt(3), math.sqrt(2)),
    "level": ((math.sqrt(5) - 1) / 2, math.sqrt(3)),
}

MAX_CLIPS = 10_000  # of one kind: the file names have four digits
MIN_SECONDS = 0.5  # ten revolutions of the slowest shaft
MIN_RATE = 8000  # Hz; the highest resonance lies below half of it
AT_A_TIME = 5  # clips that a worker process is given


@dataclass(frozen=True, slots=True)
class Preset:
    """A size and kind of data set; the clips are per machine, ``test_clips`` also per domain and label."""

    machines: tuple[str, ...]
    source_clips: int
    target_clips: int
    test_clips: int
    seconds: float
    noise_field: str = "places"


SEVEN = ("fan", "gearbox", "bearing", "pump", "slider", "valve", "toycar")  # no motor: the toy car has one
CHALLENGE = Preset(
    SEVEN, source_clips=990, target_clips=10, test_clips=50, seconds=10.0, noise_field="diffuse"
)
FEWEST_TEST_CLIPS = 20  # of a domain and label, unless asked for: with fewer an AUC means little
PRESETS = {
    "small": Preset(SEVEN, source_clips=100, target_clips=10, test_clips=FEWEST_TEST_CLIPS, seconds=10.0),
    "dcase2026-like": CHALLENGE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``simulate`` was asked for.

    Attributes
    ----------
    machines : tuple of str
        Of ``MACHINES``.
    source_clips, target_clips : int
        Normal training clips per machine and domain.
    test_clips : int
        Test clips per machine in each of source / target x normal / anomaly.
    seconds : float
        Length of a clip.
    rate : int
        Samples per second.
    snr : (float, float)
        Range in dB of the machine against the noise at the near microphone, drawn per clip.
    seed : int
    shift : tuple of str or None
        Of ``SHIFTS``, for all machines. ``None``: each machine has its own, of ``SCENARIOS``.
    noise : str or None
        Folder of recordings to mix in instead of synthesized noise.
    microphone_faults : tuple of str
        Of ``MICROPHONE_FAULTS``.
    microphone_fault_share : float
        Share of the test clips with one of these faults.
    sources : bool
        Also write, for every clip ``machine/split/name.wav``, the ``dry`` machine, and machine and noise at each
        microphone: ``sources/machine/split/name_{dry,machine,noise}.wav``, 32-bit floating point.
    noise_field : str
        Of ``NOISE_FIELDS``: ``places`` is one to four sources of noise, ``diffuse`` is noise from many places at
        once, as in the development set of 2026.
    """

    machines: tuple[str, ...]
    source_clips: int
    target_clips: int
    test_clips: int
    seconds: float
    rate: int
    snr: tuple[float, float]
    seed: int
    shift: tuple[str, ...] | None
    noise: str | None
    microphone_faults: tuple[str, ...]
    microphone_fault_share: float
    sources: bool
    noise_field: str = "places"

    def __post_init__(self) -> None:
        self._refuse_names()
        self._refuse_counts()
        if not MIN_SECONDS <= self.seconds < np.inf:
            raise ValueError(f"seconds={self.seconds}: must be finite and at least {MIN_SECONDS}")
        if self.rate < MIN_RATE:
            raise ValueError(
                f"rate={self.rate}: must be at least {MIN_RATE} Hz, because resonances of faults reach half of that"
            )
        if not -np.inf < self.snr[0] <= self.snr[1] < np.inf:
            raise ValueError(f"snr={self.snr}: expected two finite levels in dB, the lower one first")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed}: must not be negative")
        if not 0 <= self.microphone_fault_share <= 1:
            raise ValueError(
                f"microphone_fault_share={self.microphone_fault_share}: must be from 0 to 1 (share of test clips)"
            )

    def _refuse_names(self) -> None:
        for kind, names, known in (
            ("machine", self.machines, MACHINES),
            ("kind of shift", self.shift or (), SHIFTS),
            ("noise field", (self.noise_field,), NOISE_FIELDS),
            ("microphone fault", self.microphone_faults, MICROPHONE_FAULTS),
        ):
            for name in names:
                if name not in known:
                    raise ValueError(unknown(kind, name, known))
        if len(set(self.machines)) != len(self.machines) or not self.machines:
            raise ValueError(f"machines={self.machines}: expected at least one machine, each only once")
        if self.shift is not None and (not self.shift or ("none" in self.shift and len(self.shift) > 1)):
            raise ValueError(f"shift={self.shift}: expected 'none' alone, or one or more kinds of shift")

    def _refuse_counts(self) -> None:
        for name in ("source_clips", "target_clips", "test_clips"):
            if not 1 <= getattr(self, name) <= MAX_CLIPS:
                raise ValueError(f"{name}={getattr(self, name)}: must be between 1 and {MAX_CLIPS}")

    @property
    def samples(self) -> int:
        """Of a clip."""
        return round(self.seconds * self.rate)

    def cells(self, machine: str) -> Iterator[tuple[Cell, int]]:
        """All kinds of clips of a machine with their numbers, training first."""
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
    """One clip, before it sounds: the first part of its line in the manifest.

    Attributes
    ----------
    key : str
        ``machine/split/name.wav``.
    unit : str
        The specimen.
    speed, load : int
        The operating condition.
    fault : str or None
        One of the machine's faults; ``None`` in normal clips.
    severity : float
        Of the fault, up to 1; 0 in normal clips.
    snr_db : float
        Of the machine against its surroundings, at the near microphone over the clip.
    level_db : float
        RMS of the near channel against full scale.
    microphone_fault : str or None
        Of ``MICROPHONE_FAULTS``.
    channel : int or None
        The one that it befalls.
    seed : int
        Of this clip.
    """

    key: str
    machine: str
    split: Split
    domain: Domain
    label: Label
    unit: str
    speed: int
    load: int
    fault: str | None
    severity: float
    snr_db: float
    level_db: float
    microphone_fault: str | None
    channel: int | None
    seed: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """A clip, and what it is made of, in the same unit: full scale is 1.

    Attributes
    ----------
    clip : (2, samples) array
        Within [-1, 1].
    dry : (1, samples) array
        The machine alone at 1 m, without the room.
    machine, noise : (2, samples) array
        Each alone at the microphones; together the clip, if no microphone has a fault.
    """

    clip: Channels
    dry: Channels
    machine: Channels
    noise: Channels


def simulate(  # noqa: PLR0913  # its keyword-only options are its interface
    out: Path | str,
    *,
    preset: str = "small",
    machines: Sequence[str] | None = None,
    source_clips: int | None = None,
    target_clips: int | None = None,
    test_clips: int | None = None,
    seconds: float | None = None,
    rate: int = 16000,
    snr: tuple[float, float] = (-8.0, 0.0),
    seed: int = 0,
    shift: Sequence[str] | None = None,
    noise: Path | str | None = None,
    microphone_faults: Sequence[str] = (),
    microphone_fault_share: float = 0.1,
    sources: bool = False,
    noise_field: str | None = None,
    workers: Place | int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a data set of simulated machines in the layout of DCASE 2026 Task 2.

    It also holds ``manifest.jsonl``, the truth about every clip, and ``simulated.json``, the parameters. The folder
    appears when it is complete; until then it is ``OUT.unfinished``, and an equal call goes on there.

    Parameters
    ----------
    out : Path or str
        The folder to make; it is returned.
    preset : str
        Of ``PRESETS``: what the next six are, unless given. If only ``source_clips`` is
        given, ``test_clips`` is in the challenge's proportion, 50 to 990, but at least 20.
    machines, source_clips, target_clips, test_clips, seconds, noise_field
        The size and kind: see ``Settings``.
    rate, snr, seed, shift, noise, microphone_faults, microphone_fault_share, sources
        The recordings: see ``Settings``.
    workers : Place or int
        Where; a number: in so many processes of this computer. It does not change the data set.
    progress : callable, optional
        Called after every clip with how many are done, and how many there are.

    Raises
    ------
    FileExistsError
        If ``out`` is there, or was begun with other parameters.
    FileNotFoundError
        If the folder of noise holds no recordings.
    ValueError
        If a parameter is out of its range.
    """
    settings = Settings(
        **asdict(_size(preset, machines, source_clips, target_clips, test_clips, seconds, noise_field)),
        rate=rate, snr=snr, seed=seed, sources=sources,
        shift=None if shift is None else tuple(shift), noise=None if noise is None else str(noise),
        microphone_faults=tuple(microphone_faults),
        microphone_fault_share=microphone_fault_share if microphone_faults else 0.0,
    )  # fmt: skip
    return _write_dataset(Path(out), settings, workers, progress)


def _size(
    preset: str,
    machines: Sequence[str] | None,
    source_clips: int | None,
    target_clips: int | None,
    test_clips: int | None,
    seconds: float | None,
    noise_field: str | None,
) -> Preset:
    """The size and kind of a data set: those of the preset, except for what is given."""
    if preset not in PRESETS:
        raise ValueError(unknown("preset", preset, PRESETS))
    if test_clips is None and source_clips is not None:
        in_proportion = round(source_clips * CHALLENGE.test_clips / CHALLENGE.source_clips)
        test_clips = max(in_proportion, FEWEST_TEST_CLIPS)
    given: dict[str, Any] = {
        "machines": None if machines is None else tuple(machines),
        "source_clips": source_clips,
        "target_clips": target_clips,
        "test_clips": test_clips,
        "seconds": seconds,
        "noise_field": noise_field,
    }
    return replace(PRESETS[preset], **{key: value for key, value in given.items() if value is not None})


def _write_dataset(
    out: Path, settings: Settings, workers: Place | int, progress: Callable[[int, int], None] | None
) -> Path:
    parameters = {"format": FORMAT, **asdict(settings), "noise_digest": _noise_digest(settings)}
    if settings.noise_field == "places":  # as before there were others: what was begun then goes on
        del parameters["noise_field"]
    with resumable_folder(out, parameters=parameters, kept_in=PARAMETERS) as folder:
        _fill(folder, settings, workers, progress)
    return out


def _noise_digest(settings: Settings) -> str | None:
    """Of the names and sizes of the recordings of noise: with others the same clips would sound otherwise."""
    if settings.noise is None:
        return None
    folder = Path(settings.noise)
    return digest([[str(p.relative_to(folder)), p.stat().st_size] for p in Recordings.of(folder).paths])


@dataclass(frozen=True, slots=True)
class Task:
    """Some clips of a machine, for a worker."""

    folder: Path
    settings: Settings
    clips: tuple[Planned, ...]


def _fill(
    folder: Path, settings: Settings, workers: Place | int, progress: Callable[[int, int], None] | None
) -> None:
    """Write everything that belongs into the folder and is not there."""
    clips = [clip for machine in settings.machines for clip in planned(settings, machine)]
    missing = [clip for clip in clips if not (folder / clip.key).exists()]
    done = len(clips) - len(missing)

    def tell() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, len(clips))

    tasks = [
        Task(folder, settings, tuple(missing[first : first + AT_A_TIME]))
        for first in range(0, len(missing), AT_A_TIME)
    ]
    for parent in {(folder / clip.key).parent for clip in clips}:
        parent.mkdir(parents=True, exist_ok=True)
        if settings.sources:
            (folder / "sources" / parent.relative_to(folder)).mkdir(parents=True, exist_ok=True)
    each(_work, tasks, workers=workers, named=lambda task: task.clips[0].key, tell=tell)
    refuse_missing(folder, [folder / clip.key for clip in missing])
    _write_tables(folder, settings, clips)


def refuse_missing(folder: Path, paths: Sequence[Path]) -> None:
    """Raise if what computers of a cluster wrote is not in this folder."""
    if missing := [path for path in paths if not path.exists()]:
        raise FileNotFoundError(
            f"{missing[0]}: was made, but is not here; all computers of the cluster must see the folder {folder}"
        )


def _work(task: Task, tell: Callable[[], None]) -> None:
    """Record the clips of a task, each whole or not at all."""
    for clip in task.clips:
        site = site_of(task.settings, clip.machine)
        recorded = record(site, clip, samples=task.settings.samples)
        if task.settings.sources:
            for part in ("dry", "machine", "noise"):
                name = f"sources/{clip.key.removesuffix('.wav')}_{part}.wav"
                _write(task.folder / name, getattr(recorded, part), task.settings.rate, bits=32)
        _write(task.folder / clip.key, recorded.clip, task.settings.rate)
        tell()


def _write(path: Path, samples: Channels, rate: int, *, bits: Literal[16, 32] = 16) -> None:
    """A recording that is whole or absent, whenever the power fails."""
    write(path, samples.astype(np.float32), rate, bits=bits)


@lru_cache(maxsize=len(MACHINES))
def site_of(settings: Settings, machine: str) -> Site:
    """The site of this machine in the data set of these settings."""
    return Site.draw(
        machine,
        shift=shift_of(settings, machine),
        snr_db=sum(settings.snr) / 2,
        rate=settings.rate,
        seeds=seeds_of(settings.seed, machine),
        recordings=None if settings.noise is None else Recordings.of(Path(settings.noise)),
        noise_field=settings.noise_field,
    )


def shift_of(settings: Settings, machine: str) -> tuple[str, ...]:
    """What the domains of this machine differ in."""
    return SCENARIOS[machine].shift if settings.shift is None else settings.shift


def planned(settings: Settings, machine: str) -> Iterator[Planned]:
    """All clips of a machine."""
    site = site_of(settings, machine)
    for cell, count in settings.cells(machine):
        for index in range(count):
            yield plan(settings, site, cell, index)


def plan(settings: Settings, site: Site, cell: Cell, index: int) -> Planned:
    """Draw what a clip is to be.

    An anomaly's index decides its fault, so that all are equally many. What makes a clip hard, its severity, ratio
    to the noise and level, is spread evenly over its range within a cell and within each fault, so that small data
    sets are as hard as large ones: by an additive recurrence (H. Niederreiter, "Random Number Generation and
    Quasi-Monte Carlo Methods", SIAM 1992, section 3.1), every second value mirrored, which makes the mean exact.
    """
    of_cell = seeds_of(settings.seed, cell.machine, cell.split, cell.domain, cell.label)
    place = seeds_of(settings.seed, cell.machine, cell.split, cell.domain, cell.label, str(index))
    seed = int(place.generate_state(1, np.uint64)[0]) >> 11  # 53 bits, which every JSON reader holds
    rng = _streams(seed)[0]
    scene = site.scenes[cell.domain]
    unit, speed, load = (rng.choice(values).item() for values in (scene.units, scene.speeds, scene.loads))
    faults = list(site.units[unit].faults()) if cell.label == "anomaly" else [None]
    turn, fault = divmod(index, len(faults))
    starts = np.random.default_rng(of_cell).random(len(STEPS))
    pair, mirrored = divmod(turn, 2)
    evenly = {
        name: (start + pair * step + fault * beside) % 1
        for start, (name, (step, beside)) in zip(starts, STEPS.items(), strict=True)
    }
    at = {name: 1 - x if mirrored else x for name, x in evenly.items()}
    microphone_fault, channel = _microphone_fault(settings, cell, rng)
    name = f"section_00_{cell.domain}_{cell.split}_{cell.label}_{index:04d}"
    told = [f"{key}_{value}" for key, value in _told(site, cell.machine, unit, speed, load)] or [NO_ATTRIBUTE]
    return Planned(
        key=f"{cell.machine}/{cell.split}/{'_'.join([name, *told])}.wav",
        **asdict(cell),
        unit=unit,
        speed=speed,
        load=load,
        fault=faults[fault],
        severity=_within(SEVERITY, at["severity"]) if faults[fault] else 0.0,
        snr_db=_within(settings.snr, at["snr"]),
        level_db=_within(LEVEL_DB, at["level"]),
        microphone_fault=microphone_fault,
        channel=channel,
        seed=seed,
    )


def _within(limits: tuple[float, float], at: float) -> float:
    low, high = limits
    return float(low + (high - low) * at)


def _microphone_fault(
    settings: Settings, cell: Cell, rng: np.random.Generator
) -> tuple[str | None, int | None]:
    """What befalls which channel: in the test clips only, for nobody would learn from broken microphones."""
    befalls = cell.split == "test" and rng.random() < settings.microphone_fault_share
    if not befalls:
        return None, None
    return str(rng.choice(settings.microphone_faults)), int(rng.integers(2))


def _told(site: Site, machine: str, unit: str, speed: int, load: int) -> list[tuple[str, Any]]:
    """The attributes that the file's name gives; those that are the same in all clips are none."""
    if not SCENARIOS[machine].told:
        return []
    several = any(len(scene.units) > 1 for scene in site.scenes.values())
    of_unit = [("unit", unit)] if several else []
    return [*of_unit, (MACHINES[machine].SPEED_UNIT, speed), ("load", load)]


def record(site: Site, clip: Planned, *, samples: int) -> Recorded:
    """The sound of a planned clip."""
    _, of_machine, of_noise, of_sensors, of_microphone = _streams(clip.seed)
    take = site.take(
        clip.domain,
        clip.unit,
        Condition(clip.speed, clip.load),
        fault=clip.fault,
        severity=clip.severity,
        snr_db=clip.snr_db,
        samples=samples,
        rngs=(of_machine, of_noise, of_sensors),
    )
    lead = site.lead
    sound = take.machine + take.noise
    factor = from_db(clip.level_db) / rms(sound[NEAR, lead:])
    recording = Recording(factor * sound, lead, site.rate)
    samples_heard = recording.clip
    if clip.microphone_fault is not None and clip.channel is not None:
        fault = MICROPHONE_FAULTS[clip.microphone_fault]
        samples_heard = fault(recording, clip.channel, of_microphone)
    fitting = fitting_gain(samples_heard)
    factor *= fitting
    return Recorded(
        clip=fitting * samples_heard,
        dry=factor * take.dry[None, lead:],
        machine=factor * take.machine[:, lead:],
        noise=factor * take.noise[:, lead:],
    )


def _write_tables(folder: Path, settings: Settings, clips: Sequence[Planned]) -> None:
    """The organizers' attribute files, one per machine, and our manifest."""
    lines = (json.dumps(described(settings, clip), sort_keys=True) + "\n" for clip in clips)
    (folder / "manifest.jsonl").write_text("".join(lines))
    for machine in settings.machines:
        with (folder / machine / "attributes_00.csv").open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            of_machine = [clip for clip in clips if clip.machine == machine]
            site = site_of(settings, machine)
            told = [_told(site, machine, clip.unit, clip.speed, clip.load) for clip in of_machine]
            pairs = range(1, len(told[0]) + 1)
            table.writerow(["file_name", *(f"d{i}{what}" for i in pairs for what in "pv")])
            table.writerows(
                [clip.key, *chain.from_iterable(pair)] for clip, pair in zip(of_machine, told, strict=True)
            )


def described(settings: Settings, clip: Planned) -> dict[str, Any]:
    """A line of the manifest: every parameter that made the clip."""
    site = site_of(settings, clip.machine)
    condition = Condition(clip.speed, clip.load)
    line = {
        **asdict(clip),
        "speed_unit": MACHINES[clip.machine].SPEED_UNIT,
        "frequencies_hz": site.units[clip.unit].frequencies(condition),
        "specimen": asdict(site.units[clip.unit]),
        **site.described(clip.domain),
    }
    if settings.noise is not None:
        of_noise = _streams(clip.seed)[2]
        line["excerpts"] = site.excerpts(clip.domain, samples=settings.samples, rng=of_noise)
    return line


def seeds_of(seed: int, *place: str) -> np.random.SeedSequence:
    """The seeds of a place in the data set; names count, not positions, so that additions change nothing."""
    return np.random.SeedSequence(seed, spawn_key=[zlib.crc32(part.encode()) for part in place])


def _streams(seed: int) -> list[np.random.Generator]:
    """A clip's generators, for plan, machine, noise, sensors, microphone fault: none depends on another's use."""
    return np.random.default_rng(seed).spawn(5)
