"""The commands of the simulator: the tour, a simulated data set, the list of machines."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from nearfar.cli.console import out, say
from nearfar.cli.options import CORES, On, Seed, Workers, chosen_place
from nearfar.cli.progress import CONTINUE, shown_progress
from nearfar.files.names import quoted

Size = Annotated[
    str | None,
    typer.Option(
        help="Size and kind of the data set: small, or dcase2026-like (7 machines; for each of them 990 + 10 "
        "training clips and 200 test clips of 10 s, in diffuse noise). Default: small."
    ),
]
Machines = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME,...", help="Machines from `nearfar machines` (default: seven of them). May be repeated."
    ),
]
Clips = Annotated[
    int | None, typer.Option(help="Number of source-domain training clips per machine (small: 100).")
]
TestClips = Annotated[
    int | None,
    typer.Option(
        help="Number of test clips per machine, domain and label (default: 50 for 990 --clips, at least 20)."
    ),
]
Seconds = Annotated[float | None, typer.Option(help="Length of a clip in seconds (default: 10).")]
Snr = Annotated[
    tuple[float, float],
    typer.Option(
        metavar="LO HI", help="Lowest and highest signal-to-noise ratio at the near microphone, in dB."
    ),
]
Shift = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND,...",
        help="What differs in the target domain: speed, load, unit, noise, microphones, or none (default: see "
        "`nearfar machines`). May be repeated.",
    ),
]
NoiseFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Folder of recordings to use as background noise, instead of synthetic noise.",
    ),
]
NoiseField = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="Where the noise comes from: places (one to four sources; default of small) or diffuse (many sources "
        "in all directions; default of dcase2026-like).",
    ),
]
MicrophoneFaults = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND,...",
        help="Faults of the microphones in a tenth of the test clips: dead, clipped, hum, swapped, delayed. "
        "May be repeated.",
    ),
]
Sources = Annotated[
    bool,
    typer.Option(
        "--sources",
        help="Also write the parts of each clip: the machine without the room, the machine, the noise.",
    ),
]
StreamHours = Annotated[
    float | None,
    typer.Option(metavar="HOURS", help="Simulate so many hours of sound of each machine, instead of clips."),
]
Faults = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        metavar="FAULT@HOURS",
        help="With --stream: a fault of `nearfar machines` (or any) that starts after these hours, at once; "
        "bearing@3,linear=2 grows for 2 hours (or exponential=2); severity=0.5 is half of the worst; fan/bearing@3 "
        "is of the fan only. May be repeated.",
    ),
]
TrainHours = Annotated[
    float | None,
    typer.Option(
        help="With --stream: write so many hours, without a fault, to MACHINE/train, and the rest to MACHINE/test "
        "(default: all of them, or 0 with a --fault)."
    ),
]
FileHours = Annotated[float | None, typer.Option(help="With --stream: length of a recording (default: 1).")]
Begins = Annotated[
    datetime | None,
    typer.Option(
        help="With --stream: when the first recording begins (default: 2026-01-05T08:00:00, a Monday)."
    ),
]
DaySeed = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="With --stream: seed of what happens; the machine and its hall depend on --seed alone (default: 0).",
    ),
]
Schedule = Annotated[
    bool,
    typer.Option(
        "--schedule/--no-schedule",
        help="With --stream: whether the machine changes speed and load, and stops.",
    ),
]
HallChanges = Annotated[
    bool,
    typer.Option(
        "--hall/--no-hall",
        help="With --stream: whether the noise depends on the shift, and vehicles pass and alarms sound.",
    ),
]
DriftKinds = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND,...",
        help="With --stream: what changes slowly: machine (it becomes duller), near, far (the microphone loses "
        "level). May be repeated.",
    ),
]
DriftDb = Annotated[float | None, typer.Option(help="With --drift: by how many dB, in the end (default: 6).")]
DriftHours = Annotated[float | None, typer.Option(help="With --drift: in how many hours (default: 24).")]

KEPT = f"Finished recordings are kept; {CONTINUE}."


def demo(
    folder: Annotated[Path, typer.Argument(help="New folder for recordings and results.")] = Path("demo"),
    seed: Seed = 0,
    workers: Workers = CORES,
) -> None:
    """Take the tour: simulate two machines, fit a detector, score new clips, evaluate the scores."""
    from rich.text import Text

    from nearfar.cli.demo import demonstrate

    with shown_progress() as progress:
        for shown in demonstrate(folder, seed=seed, workers=workers, progress=progress):
            out.print(shown, soft_wrap=isinstance(shown, Text))


def simulate(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the recordings.")],
    preset: Size = None,
    machines: Machines = None,
    clips: Clips = None,
    test_clips: TestClips = None,
    seconds: Seconds = None,
    rate: Annotated[int, typer.Option(help="Sampling rate in Hz.")] = 16000,
    snr: Snr = (-8, 0),
    shift: Shift = None,
    noise: NoiseFolder = None,
    noise_field: NoiseField = None,
    microphone_faults: MicrophoneFaults = None,
    sources: Sources = False,
    stream: StreamHours = None,
    faults: Faults = None,
    train_hours: TrainHours = None,
    file_hours: FileHours = None,
    begins: Begins = None,
    day_seed: DaySeed = None,
    schedule: Schedule = True,
    hall: HallChanges = True,
    drift: DriftKinds = None,
    drift_db: DriftDb = None,
    drift_hours: DriftHours = None,
    seed: Seed = 0,
    workers: Workers = CORES,
    on: On = "local",
) -> None:
    """Simulate machines recorded by two microphones: a data set of clips, or hours of sound with --stream.

    Clips are in the layout of the DCASE challenge. With --stream each machine runs for hours: recordings of an hour
    that know when they began, label tracks for Audacity, and the truth in manifest.jsonl.
    """
    of_clips = {
        "--preset": preset, "--clips": clips, "--test-clips": test_clips, "--seconds": seconds, "--shift": shift,
        "--noise": noise, "--noise-field": noise_field, "--microphone-faults": microphone_faults,
        "--sources": sources or None,
    }  # fmt: skip
    of_stream = {
        "--fault": faults, "--train-hours": train_hours, "--file-hours": file_hours, "--begins": begins,
        "--day-seed": day_seed, "--no-schedule": None if schedule else True, "--no-hall": None if hall else True,
        "--drift": drift, "--drift-db": drift_db, "--drift-hours": drift_hours,
    }  # fmt: skip
    shared = {"machines": _names(machines), "rate": rate, "seed": seed, "workers": chosen_place(on, workers)}
    if stream is None:
        _refuse(of_stream, "belongs to a stream; give --stream HOURS, or leave it out")
        _simulate_clips(folder, of_clips, snr=snr, **shared)
    else:
        _refuse(of_clips, "is about clips; leave it out, or leave out --stream")
        _simulate_stream(folder, stream, of_stream, snr_db=sum(snr) / 2, **shared)


def _refuse(given: Mapping[str, Any], why: str) -> None:
    """Raise if an option was given that has no effect here."""
    for option, value in given.items():
        if value is not None:
            raise typer.BadParameter(f"{option} {why}")


def _simulate_clips(folder: Path, given: Mapping[str, Any], **shared: Any) -> None:
    """A data set of clips."""
    from nearfar.simulation import simulate

    with shown_progress(KEPT) as progress:
        made = simulate(
            folder, preset=given["--preset"] or "small", source_clips=given["--clips"],
            test_clips=given["--test-clips"], seconds=given["--seconds"], shift=_names(given["--shift"]),
            noise=given["--noise"], noise_field=given["--noise-field"],
            microphone_faults=_names(given["--microphone-faults"]) or (), sources=bool(given["--sources"]),
            progress=lambda done, total: progress("simulating", done, total), **shared,
        )  # fmt: skip
    say(f"Wrote {made}. Next: `nearfar run spectral --data {quoted(made)}`")


def _simulate_stream(folder: Path, hours: float, given: Mapping[str, Any], **shared: Any) -> None:
    """Hours of sound."""
    from nearfar.simulation import Onset, simulate_stream

    options = {
        "train_hours": given["--train-hours"], "file_hours": given["--file-hours"], "begins": given["--begins"],
        "day_seed": given["--day-seed"], "drift": _names(given["--drift"]), "drift_db": given["--drift-db"],
        "drift_hours": given["--drift-hours"], "machines": shared.pop("machines"),
    }  # fmt: skip
    with shown_progress(KEPT) as progress:
        made = simulate_stream(
            folder, hours, faults=[Onset.parse(text) for text in given["--fault"] or ()],
            schedule=given["--no-schedule"] is None, hall=given["--no-hall"] is None,
            progress=lambda done, total: progress("simulating (seconds of sound)", done, total),
            **{key: value for key, value in options.items() if value is not None}, **shared,
        )  # fmt: skip
    normal = sorted(made.glob("*/train"))
    following = f". Next: `nearfar fit {quoted(normal[0].parent)} -o detector`" if normal else ""
    say(f"Wrote {made}{following}")


def _names(texts: list[str] | None) -> list[str] | None:
    """The names in lists with commas, each once."""
    if texts is None:
        return None
    return list(dict.fromkeys(name.strip() for text in texts for name in text.split(",")))


def machines() -> None:
    """List the machines that can be simulated: speeds, faults, and what differs in the target domain."""
    from nearfar.report import catalogues
    from nearfar.simulation import catalogue

    out.print(catalogues.simulated(catalogue.describe()))
