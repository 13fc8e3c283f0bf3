"""Days of sound: a folder of long recordings of simulated machines, and the truth about them.

Conventions
-----------
The machine and its hall come from ``seed`` alone, and are those of the clips of the same seed. What happens (the
schedule, who passes, when, and all that is random in the sound) comes from ``seed`` and ``day_seed``. So two
streams with equal ``seed`` and different ``day_seed`` are different days of one machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from nearfar.files.atomic import atomic_file, resumable_folder
from nearfar.places.place import Place
from nearfar.places.tasks import each
from nearfar.recordings.clips import Split, unknown
from nearfar.simulation import broadcast
from nearfar.simulation.dataset import MIN_RATE, PARAMETERS, SEVEN, refuse_missing, seeds_of
from nearfar.simulation.machines import MACHINES
from nearfar.simulation.schedules import DRIFTS, HOUR, Hall, Onset, Operation, Regime, regimes
from nearfar.simulation.sites import Site
from nearfar.simulation.streams import Days, Drift, Samples, Stream

FORMAT = 1  # of the folder; to be raised when equal parameters give other bytes
BEGINS = datetime(2026, 1, 5, 8)  # a Monday, in the early shift
MIN_FILE_SECONDS = 10.0
DRIFT_DB, DRIFT_HOURS = 6.0, 24.0
MAX_HOURS = 24.0 * 366
MANIFEST = "manifest.jsonl"
COURSE_POINTS = 61  # of a severity in a recording's line of the manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``simulate_stream`` was asked for.

    Attributes
    ----------
    machines : tuple of str
        Of ``MACHINES``.
    hours, train_hours, file_hours : float
        Of all, of the normal recordings in ``train``, and of one recording.
    rate : int
        Samples per second.
    snr_db : float
        Of the machine against the steady noise in the early shift, at the near microphone.
    seed, day_seed : int
        Of the machine and its hall, and of what happens.
    begins : str
        Date and time of the first sample, ISO 8601.
    onsets : tuple of Onset
    schedule, hall : bool
        Whether the machine's regime changes, and whether the hall does.
    drift : tuple of str
        Of ``DRIFTS``.
    drift_db, drift_hours : float
        See ``streams.Drift``.
    """

    machines: tuple[str, ...]
    hours: float
    train_hours: float = 0.0
    file_hours: float = 1.0
    rate: int = 16000
    snr_db: float = -4.0
    seed: int = 0
    day_seed: int = 0
    begins: str = BEGINS.isoformat()
    onsets: tuple[Onset, ...] = ()
    schedule: bool = True
    hall: bool = True
    drift: tuple[str, ...] = ()
    drift_db: float = DRIFT_DB
    drift_hours: float = DRIFT_HOURS

    def __post_init__(self) -> None:
        self._refuse_names()
        self._refuse_numbers()
        self._refuse_onsets()

    def _refuse_names(self) -> None:
        for kind, names, known in (
            ("machine", self.machines, MACHINES),
            ("kind of drift", self.drift, DRIFTS),
        ):
            for name in names:
                if name not in known:
                    raise ValueError(unknown(kind, name, known))
            if len(set(names)) != len(names):
                raise ValueError(f"{kind} {', '.join(names)}: name each only once")
        if not self.machines:
            raise ValueError("machines=(): expected at least one machine")

    def _refuse_numbers(self) -> None:
        least = MIN_FILE_SECONDS / HOUR
        if not least <= self.hours <= MAX_HOURS:
            raise ValueError(
                f"hours={self.hours}: must be between {least:.4f} ({MIN_FILE_SECONDS:g} s) and {MAX_HOURS:g}"
            )
        if not 0 <= self.train_hours <= self.hours:
            raise ValueError(f"train_hours={self.train_hours}: must be between 0 and hours={self.hours:g}")
        if not least <= self.file_hours < np.inf:
            raise ValueError(
                f"file_hours={self.file_hours}: must be at least {least:.4f} ({MIN_FILE_SECONDS:g} s)"
            )
        if self.rate < MIN_RATE:
            raise ValueError(
                f"rate={self.rate}: must be at least {MIN_RATE} Hz, because resonances of faults reach half of that"
            )
        if 4 * self.file_hours * HOUR * self.rate > broadcast.MOST_BYTES:
            most = broadcast.MOST_BYTES / (4 * HOUR * self.rate)
            raise ValueError(
                f"file_hours={self.file_hours}: a WAV file holds at most {most:.1f} hours at {self.rate} Hz"
            )
        if not np.isfinite(self.snr_db):
            raise ValueError(f"snr_db={self.snr_db}: must be a finite level in dB")
        for name in ("seed", "day_seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: must not be negative")
        if self.drift and not (np.isfinite(self.drift_db) and 0 < self.drift_hours < np.inf):
            raise ValueError(
                f"drift_db={self.drift_db}, drift_hours={self.drift_hours}: must be finite, and the hours above 0"
            )

    def _refuse_onsets(self) -> None:
        for onset in self.onsets:
            if onset.start_hours < self.train_hours:
                raise ValueError(
                    f"{onset.fault} starts after {onset.start_hours:g} hours, but the first "
                    f"train_hours={self.train_hours:g} are to be normal; let it start later, or shorten train_hours"
                )
            if onset.start_hours >= self.hours:
                raise ValueError(
                    f"{onset.fault} starts after {onset.start_hours:g} hours, but the stream ends after "
                    f"hours={self.hours:g}; let it start earlier, or the stream be longer"
                )
            if onset.machine is not None and onset.machine not in self.machines:
                raise ValueError(
                    f"fault {onset.fault} of machine {onset.machine}, which is not simulated; "
                    f"there are {', '.join(self.machines)}"
                )


@dataclass(frozen=True, slots=True)
class File:
    """One recording, by its samples in the stream."""

    key: str
    machine: str
    split: Split
    start: int
    samples: int


@dataclass(frozen=True, slots=True)
class Task:
    """A recording for a worker."""

    folder: Path
    settings: Settings
    file: File


def simulate_stream(  # noqa: PLR0913  # its keyword-only options are its interface
    out: Path | str,
    hours: float,
    *,
    machines: Sequence[str] = SEVEN,
    faults: Sequence[Onset] = (),
    train_hours: float | None = None,
    file_hours: float = 1.0,
    rate: int = 16000,
    snr_db: float = -4.0,
    seed: int = 0,
    day_seed: int = 0,
    begins: datetime = BEGINS,
    schedule: bool = True,
    hall: bool = True,
    drift: Sequence[str] = (),
    drift_db: float | None = None,
    drift_hours: float | None = None,
    workers: Place | int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write hours or days of sound of simulated machines, as long recordings that know when they began.

    ``MACHINE/train`` holds normal recordings, ``MACHINE/test`` the rest; beside each is a label track for Audacity.
    ``manifest.jsonl`` has the truth. The folder appears when it is complete; until then it is ``OUT.unfinished``,
    and an equal call goes on there.

    Parameters
    ----------
    out : Path or str
        The folder to make; it is returned.
    hours : float
        Of each machine.
    faults : sequence of Onset
        What breaks, when, and how it grows.
    train_hours : float, optional
        So much of the beginning lies in ``train``. By default all, or nothing if there are faults.
    drift_db, drift_hours : float, optional
        How far ``drift`` goes, and in which time: 6 dB in 24 hours by default.
    machines, file_hours, rate, snr_db, seed, day_seed, begins, schedule, hall, drift
        See ``Settings``.
    workers : Place or int
        Where; a number: in so many processes of this computer. It does not change the recordings.
    progress : callable, optional
        Called with how many seconds of sound are done, and how many there are.

    Raises
    ------
    FileExistsError
        If ``out`` is there, or was begun with other parameters.
    ValueError
        If a parameter is out of its range, or contradicts another one.
    """
    settings = Settings(
        machines=tuple(machines), hours=float(hours), file_hours=float(file_hours), rate=rate,
        train_hours=float(train_hours if train_hours is not None else 0.0 if faults else hours),
        onsets=tuple(faults), schedule=schedule, hall=hall, drift=tuple(drift), snr_db=float(snr_db), seed=seed,
        day_seed=day_seed, begins=begins.isoformat(), **_how_far(drift, drift_db=drift_db, drift_hours=drift_hours),
    )  # fmt: skip
    return _write_days(Path(out), settings, workers, progress)


def _how_far(drift: Sequence[str], **given: float | None) -> dict[str, float]:
    """How far and how long something drifts, as far as that is said; it must not be if nothing does."""
    found = {name: float(value) for name, value in given.items() if value is not None}
    if found and not drift:
        raise ValueError(f"{found}: nothing drifts; say what, of {', '.join(DRIFTS)}")
    return found


def _write_days(
    out: Path, settings: Settings, workers: Place | int, progress: Callable[[int, int], None] | None
) -> Path:
    for machine in settings.machines:
        onsets_of(settings, machine)  # raises before anything is written
    parameters = {"stream_format": FORMAT, **json.loads(json.dumps(asdict(settings)))}
    with resumable_folder(out, parameters=parameters, kept_in=PARAMETERS) as folder:
        _fill(folder, settings, workers, progress)
    return out


def _fill(
    folder: Path, settings: Settings, workers: Place | int, progress: Callable[[int, int], None] | None
) -> None:
    """Write everything that belongs into the folder and is not there."""
    if (folder / MANIFEST).exists():  # the run was killed while it tidied up
        _tidy(folder)
        return
    files = [file for machine in settings.machines for file in files_of(settings, machine)]
    missing = [file for file in files if not (folder / file.key).with_suffix(".json").exists()]
    total = sum(file.samples for file in files)
    done = total - sum(file.samples for file in missing)

    def tell(samples: int) -> None:
        nonlocal done
        done += samples
        if progress is not None:
            progress(done // settings.rate, total // settings.rate)

    for part in folder.rglob(".*.part"):  # of a run that was killed
        part.unlink()
    tasks = [Task(folder, settings, file) for file in missing]
    each(_work, tasks, workers=workers, named=lambda task: task.file.key, tell=tell)
    described = [(folder / file.key).with_suffix(".json") for file in files]
    refuse_missing(folder, described)
    lines = [json.dumps(json.loads(path.read_text()), sort_keys=True) + "\n" for path in described]
    with atomic_file(folder / MANIFEST) as part:
        part.write_text("".join(lines))
    _tidy(folder)


def _tidy(folder: Path) -> None:
    """Remove what told which recordings were finished; it is in the manifest."""
    for path in folder.glob("*/*/*.json"):
        path.unlink()


def _work(task: Task, tell: Callable[..., None]) -> None:
    """Record one file, then its labels, then what tells that it is finished."""
    settings, file = task.settings, task.file
    stream = stream_of(settings, file.machine)
    began = _time(settings, file.start)

    def told() -> Iterator[Samples]:
        for piece in pieces(stream, file.start, file.samples):
            yield piece
            tell(piece.shape[-1])

    path = task.folder / file.key
    clipped = broadcast.write(path, told(), samples=file.samples, channels=2, rate=settings.rate, began=began)
    truth = truth_of(settings, stream, file)
    with atomic_file(path.with_suffix(".txt")) as part:
        part.write_text(labels(truth))
    with atomic_file(path.with_suffix(".json")) as part:
        part.write_text(json.dumps({**truth, "clipped": clipped}))


def pieces(stream: Stream, start: int, samples: int) -> Iterator[Samples]:
    """The samples of a stream from ``start`` on, in pieces of at most a block."""
    block, skipped = divmod(start, stream.grid.samples)
    for sound in stream.blocks(block):
        piece = sound[:, skipped : skipped + samples]
        yield piece
        skipped, samples = 0, samples - piece.shape[-1]
        if not samples:
            return


def files_of(settings: Settings, machine: str) -> Iterator[File]:
    """All recordings of a machine."""
    length = round(settings.file_hours * HOUR * settings.rate)
    borders = [0, *(round(hours * HOUR * settings.rate) for hours in (settings.train_hours, settings.hours))]
    splits: tuple[Split, ...] = ("train", "test")
    for split, begin, end in zip(splits, borders[:-1], borders[1:], strict=True):
        for start in range(begin, end, length):
            name = f"{machine}_{_time(settings, start):%Y-%m-%d_%H-%M-%S}.wav"
            yield File(f"{machine}/{split}/{name}", machine, split, start, min(length, end - start))


def _time(settings: Settings, sample: int) -> datetime:
    """When a sample of the stream is recorded."""
    return datetime.fromisoformat(settings.begins) + timedelta(seconds=sample / settings.rate)


@lru_cache(maxsize=len(MACHINES))
def stream_of(settings: Settings, machine: str) -> Stream:
    """A machine of these settings, at its site."""
    of_site = seeds_of(settings.seed, machine)
    site = Site.draw(machine, shift=("none",), snr_db=settings.snr_db, rate=settings.rate, seeds=of_site)
    of_days = seeds_of(settings.seed, machine, "days", str(settings.day_seed))
    return Stream(
        site=site,
        snr_db=settings.snr_db,
        days=days_of(settings, machine),
        of_site=seeds_of(settings.seed, machine, "levels"),
        of_days=of_days,
    )


def days_of(settings: Settings, machine: str) -> Days:
    """What happens to a machine."""
    kind = MACHINES[machine]
    seconds = settings.hours * HOUR
    return Days(
        operation=Operation.of(
            regimes_of(settings, machine), nominal=float(kind.SPEEDS.usual[0]), rate=settings.rate
        ),
        hall=Hall.draw(
            datetime.fromisoformat(settings.begins),
            seconds,
            changing=settings.hall,
            rng=_rng(settings, machine, "hall"),
        ),
        onsets=onsets_of(settings, machine),
        drift=Drift(settings.drift, settings.drift_db, settings.drift_hours),
    )


def regimes_of(settings: Settings, machine: str) -> tuple[Regime, ...]:
    """At what a machine runs."""
    rng = _rng(settings, machine, "schedule")
    return regimes(MACHINES[machine], settings.hours * HOUR, changing=settings.schedule, rng=rng)


def onsets_of(settings: Settings, machine: str) -> tuple[Onset, ...]:
    """The faults of a machine, each by its name.

    Raises
    ------
    ValueError
        If the machine has no such fault.
    """
    unit = MACHINES[machine].manufacture(np.random.default_rng(0))
    known = list(unit.faults())
    rng = _rng(settings, machine, "faults")
    found: list[Onset] = []
    for onset in settings.onsets:
        if onset.machine not in (None, machine):
            continue
        left = [name for name in known if name not in {other.fault for other in found}]
        fault = str(rng.choice(left)) if onset.fault == "any" and left else onset.fault
        if fault not in known:
            raise ValueError(unknown(f"fault of the {machine}", fault, [*known, "any"]))
        if fault not in left:
            raise ValueError(
                f"fault {fault} of the {machine}: given more than once; let it start once, and grow"
            )
        found.append(Onset(fault, onset.start_hours, onset.profile, onset.hours, onset.severity, machine))
    return tuple(found)


def _rng(settings: Settings, machine: str, part: str) -> np.random.Generator:
    return np.random.default_rng(seeds_of(settings.seed, machine, "days", str(settings.day_seed), part))


def truth_of(settings: Settings, stream: Stream, file: File) -> dict[str, Any]:
    """What happens in a recording; times are in seconds since its beginning."""
    begin, end = file.start / settings.rate, (file.start + file.samples) / settings.rate
    unit = MACHINES[file.machine].SPEED_UNIT

    def within(start: float, stop: float) -> dict[str, float]:
        return {"start": round(max(start, begin) - begin, 6), "end": round(min(stop, end) - begin, 6)}

    happened = [h for h in stream.days.hall.happenings if h.start < end and h.end > begin]
    faults = []
    for onset in stream.days.onsets:
        times = np.linspace(begin, end, COURSE_POINTS)
        course = np.round(onset.course(times), 6)
        if not course.any():
            continue
        told = {key: value for key, value in asdict(onset).items() if key != "machine"}
        start = round(HOUR * onset.start_hours - begin, 6)
        faults.append(
            {
                **told,
                "start": start,
                "course": [*zip((times - begin).round(3).tolist(), course.tolist(), strict=True)],
            }
        )
    drifting = stream.days.drift
    return {
        "key": file.key,
        "machine": file.machine,
        "split": file.split,
        "label": "anomaly" if faults else "normal",
        "began": _time(settings, file.start).isoformat(),
        "stream_start": begin,
        "seconds": end - begin,
        "regimes": [
            {
                **within(r.start, r.end),
                "speed": r.condition.speed if r.condition else 0,
                "speed_unit": unit,
                "load": r.condition.load if r.condition else 0,
            }
            for r in regimes_of(settings, file.machine)
            if r.start < end and r.end > begin
        ],
        "shifts": [{**within(a, b), "shift": name} for a, b, name in stream.days.hall.shifts(begin, end)],
        "happenings": [
            {**within(h.start, h.end), "kind": h.kind, "level_db": round(h.level_db, 3)} for h in happened
        ],
        "faults": faults,
        "drift_db": {
            kind: [round(float(drifting.course_db(kind, at)), 6) for at in (begin, end)]
            for kind in drifting.kinds
        },
        "snr_db": settings.snr_db,
        "unit": stream.unit,
        "specimen": asdict(stream.site.units[stream.unit]),
        **stream.site.described("source"),
    }


def labels(truth: dict[str, Any]) -> str:
    """A label track as Audacity reads it: start, end and text, with tabs between."""
    found = [(r["start"], r["end"], _regime(r)) for r in truth["regimes"]]
    found += [(h["start"], h["end"], h["kind"]) for h in truth["happenings"]]
    found += [(s["start"], s["end"], f"shift {s['shift']}") for s in truth["shifts"]]
    found += [(max(f["start"], 0.0), truth["seconds"], f"fault {f['fault']}") for f in truth["faults"]]
    return "".join(f"{start:.6f}\t{end:.6f}\t{text}\n" for start, end, text in sorted(found))


def _regime(regime: dict[str, Any]) -> str:
    return f"{regime['speed']} {regime['speed_unit']} load {regime['load']}" if regime["speed"] else "stop"
