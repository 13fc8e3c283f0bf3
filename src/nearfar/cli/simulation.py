"""The commands of the simulator: the tour, a data set of one's own, and what can be simulated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearfar.cli.console import out
from nearfar.cli.options import CORES, Seed, Workers
from nearfar.cli.progress import CONTINUE, shown_progress


def demo(
    folder: Annotated[Path, typer.Argument(help="New folder for recordings and results.")] = Path("demo"),
    seed: Seed = 0,
    workers: Workers = CORES,
) -> None:
    """Simulate two machines, learn what is normal, score new clips, and say how well that went."""
    from nearfar.cli.demo import demonstrate

    with shown_progress() as progress:
        for shown in demonstrate(folder, seed=seed, workers=workers, progress=progress):
            out.print(shown)


def simulate(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the recordings.")],
    preset: Annotated[
        str, typer.Option(help="small, or dcase2026-like: 7 machines x (990 + 10 + 200) clips of 10 s.")
    ] = "small",
    machines: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Of `nearfar machines` (default: seven of them).")
    ] = None,
    clips: Annotated[
        int | None, typer.Option(help="Source-domain training clips a machine (small: 100).")
    ] = None,
    test_clips: Annotated[
        int | None,
        typer.Option(help="Test clips a domain and label (default: 50 to 990 --clips, at least 20)."),
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Length of a clip (10).")] = None,
    rate: Annotated[int, typer.Option(help="Sampling rate in Hz.")] = 16000,
    snr: Annotated[
        tuple[float, float], typer.Option(metavar="LO HI", help="Machine against noise, near, in dB.")
    ] = (-8, 0),
    shift: Annotated[
        str | None,
        typer.Option(
            metavar="KIND,...",
            help="What differs in the target domain: speed, load, unit, noise, microphones; or none. "
            "By default each machine has its own.",
        ),
    ] = None,
    noise: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Recordings to be heard instead of made noise.")
    ] = None,
    microphone_faults: Annotated[
        str | None,
        typer.Option(
            metavar="KIND,...", help="In a tenth of the test clips: dead, clipped, hum, swapped, delayed."
        ),
    ] = None,
    sources: Annotated[
        bool,
        typer.Option("--sources", help="Also write what each clip is made of: dry machine, machine, noise."),
    ] = False,
    seed: Seed = 0,
    workers: Workers = CORES,
) -> None:
    """Record machines that do not exist, with two microphones, in the layout of the challenge."""
    from nearfar.simulation import simulate

    kept = f"Finished recordings are kept; {CONTINUE}"
    with shown_progress(kept) as progress:
        made = simulate(
            folder, preset=preset, machines=_names(machines), source_clips=clips, test_clips=test_clips,
            seconds=seconds, rate=rate, snr=snr, seed=seed, shift=_names(shift), noise=noise,
            microphone_faults=_names(microphone_faults) or (), sources=sources, workers=workers,
            progress=lambda done, total: progress("simulating", done, total),
        )  # fmt: skip
    out.print(f"wrote {made}; now try `nearfar run spectral --data {made}`", soft_wrap=True)


def _names(text: str | None) -> list[str] | None:
    """Of a list that is joined by commas."""
    return None if text is None else [name.strip() for name in text.split(",")]


def machines() -> None:
    """The machines that can be simulated: their speeds, faults, and what shifts in the target domain."""
    from nearfar.report import catalogues
    from nearfar.simulation import catalogue

    out.print(catalogues.simulated(catalogue.describe()))
