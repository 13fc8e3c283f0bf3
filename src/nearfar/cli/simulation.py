"""The commands of the simulator: the tour, a simulated data set, the list of machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearfar.cli.console import out, say
from nearfar.cli.options import CORES, Seed, Workers
from nearfar.cli.progress import CONTINUE, shown_progress
from nearfar.files.names import quoted

Size = Annotated[
    str,
    typer.Option(
        help="Size and kind of the data set: small, or dcase2026-like (7 machines; for each of them 990 + 10 "
        "training clips and 200 test clips of 10 s, in diffuse noise)."
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


def demo(
    folder: Annotated[Path, typer.Argument(help="New folder for recordings and results.")] = Path("demo"),
    seed: Seed = 0,
    workers: Workers = CORES,
) -> None:
    """Take the tour: simulate two machines, fit a detector, score new clips, evaluate the scores."""
    from nearfar.cli.demo import demonstrate

    with shown_progress() as progress:
        for shown in demonstrate(folder, seed=seed, workers=workers, progress=progress):
            out.print(shown)


def simulate(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the recordings.")],
    preset: Size = "small",
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
    seed: Seed = 0,
    workers: Workers = CORES,
) -> None:
    """Simulate a data set: machines recorded by two microphones, in the layout of the DCASE challenge."""
    from nearfar.simulation import simulate

    kept = f"Finished recordings are kept; {CONTINUE}."
    with shown_progress(kept) as progress:
        made = simulate(
            folder, preset=preset, machines=_names(machines), source_clips=clips, test_clips=test_clips,
            seconds=seconds, rate=rate, snr=snr, seed=seed, shift=_names(shift), noise=noise,
            noise_field=noise_field,
            microphone_faults=_names(microphone_faults) or (), sources=sources, workers=workers,
            progress=lambda done, total: progress("simulating", done, total),
        )  # fmt: skip
    say(f"Wrote {made}. Next: `nearfar run spectral --data {quoted(made)}`")


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
