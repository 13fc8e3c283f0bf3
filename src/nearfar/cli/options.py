"""Options that several commands share, and the objects that they stand for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nearfar.places.place import Place
    from nearfar.recordings.clips import Dataset
    from nearfar.recordings.recording import Channel
    from nearfar.systems.configuration import System
    from nearfar.systems.fusion import FusedSystem
    from nearfar.windows.cutting import Cut

CORES = os.cpu_count() or 1

Workers = Annotated[int, typer.Option(min=1, help="Number of parallel processes or threads.")]
On = Annotated[
    str,
    typer.Option(
        metavar="PLACE",
        help="Where the work is done: local (processes of this computer), ray (a cluster of Ray on this computer, "
        "started for this command), auto (the cluster that this computer belongs to), HOST:PORT or ray://HOST:PORT.",
    ),
]
Gpus = Annotated[
    float,
    typer.Option(
        min=0.0,
        help="Share of a GPU that each task gets on a cluster, such as 0.25 (default: none).",
    ),
]
TaskMemory = Annotated[
    float,
    typer.Option(min=0.0, help="Memory in GiB that a cluster sets aside for each task (default: none)."),
]
Seed = Annotated[int, typer.Option(min=0, help="Random seed.")]
Cache = Annotated[
    Path | None,
    typer.Option(
        help="Cache folder for finished steps (default: $NEARFAR_CACHE, or the user's cache folder)."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting of the system, such as branch.view=near. May be repeated.",
    ),
]
Preset = Annotated[
    str | None, typer.Option(help="Preset of the system (named settings in its file), such as small.")
]
AdapterFile = Annotated[
    Path | None,
    typer.Option(
        "--adapter", metavar="FILE", help="File from `nearfar adapt`, for a system that needs an adapter."
    ),
]
MachineNames = Annotated[list[str] | None, typer.Option(help="Use only this machine. May be repeated.")]
Truth = Annotated[
    Path | None, typer.Option(help="Folder of the ground truth, in the layout of the official evaluator.")
]
FalseAlarmRate = Annotated[
    float | None,
    typer.Option(
        help="Share of normal clips that may be flagged by mistake (default: as set in the system)."
    ),
]
Channels = Annotated[
    str | None,
    typer.Option(
        metavar="NEAR,FAR",
        help="Which channels of the recordings are near and far, such as 3,1: numbers from 1, or names where the "
        "files have them (default: 1,2).",
    ),
]
Hop = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="From the beginning of a window to that of the next, at most as long as a window (default: as long).",
    ),
]
PcmRate = Annotated[
    int | None,
    typer.Option(
        min=1, help="Sampling rate of raw PCM on stdin, in Hz (default: that of the training clips)."
    ),
]
PcmChannels = Annotated[
    int | None,
    typer.Option(
        min=1, help="Number of channels of raw PCM on stdin (default: those that the detector uses)."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def chosen_place(on: str, workers: int, gpus: float = 0.0, memory: float = 0.0) -> Place:
    """Where the work is done."""
    from nearfar.places.place import LOCAL, Needs, Place

    if on == LOCAL and (gpus or memory):
        raise typer.BadParameter(
            "--gpus and --task-memory are for a cluster; name one with --on, such as --on ray"
        )
    try:
        return Place(on, workers, Needs(gpus=gpus, memory=int(memory * 2**30)))
    except ValueError as error:
        raise typer.BadParameter(f"--on: {error}") from error


def chosen_system(
    name: str, preset: str | None, settings: list[str] | None, false_alarm_rate: float | None = None
) -> System:
    """The system of that name or file, with the settings of the command line."""
    from nearfar.systems import configuration
    from nearfar.systems.settings import parse_settings

    replaced = parse_settings(settings or ())
    if false_alarm_rate is not None:
        replaced["threshold.false_alarm_rate"] = false_alarm_rate
    try:
        chosen = configuration.load(name, replaced, preset=preset)
    except ValueError as error:
        if not replaced:
            raise
        configuration.load(name, preset=preset)  # raises if it is not the options that are at fault
        raise ValueError(_of_options(str(error), false_alarm_rate)) from error
    if false_alarm_rate is not None and chosen.threshold.method == "none":
        raise typer.BadParameter(
            f"--false-alarm-rate has no effect: {chosen.name} takes no decisions (threshold.method is 'none')"
        )
    return chosen


def fitted_system(
    name: str | None, preset: str | None, settings: list[str] | None, false_alarm_rate: float | None
) -> System | FusedSystem:
    """The system to fit to one machine, fused or not; without a name the default."""
    from nearfar.systems import fusion
    from nearfar.systems.defaults import default_system
    from nearfar.systems.named import DEFAULT
    from nearfar.systems.settings import parse_settings

    if name is None:
        name = DEFAULT if preset or settings else default_system()  # they are of a system with one branch
    if not fusion.is_fused(name):
        return chosen_system(name, preset, settings, false_alarm_rate)
    chosen = fusion.load(name, parse_settings(settings or ()), preset=preset)
    if false_alarm_rate is None:
        return chosen
    if not 0 < false_alarm_rate < 1:
        raise typer.BadParameter(f"--false-alarm-rate={false_alarm_rate:g}: must be above 0 and below 1")
    return chosen.with_false_alarm_rate(false_alarm_rate)


def chosen_channels(text: str | None) -> tuple[Channel, ...]:
    """The channels that the command line names; empty if it names none."""
    from nearfar.recordings.recording import parse_channels

    if text is None:
        return ()
    try:
        return parse_channels(text)
    except ValueError as error:
        raise typer.BadParameter(f"--channels: {error}") from error


def chosen_cut(window: str | None, hop: str | None, seconds: float) -> Cut | None:
    """How the command line cuts recordings; ``None`` if it does not say.

    Parameters
    ----------
    window, hop : str or None
        Times, as of ``windows.cutting.parse_time``.
    seconds : float
        Of a window, if only the hop is given.
    """
    from nearfar.windows.cutting import Cut, parse_time

    if window is None and hop is None:
        return None
    try:
        length = seconds if window is None else parse_time(window, "window")
        return Cut.of(length, None if hop is None else parse_time(hop, "hop"))
    except ValueError as error:
        raise typer.BadParameter(f"--{error}") from error


def _of_options(faults: str, false_alarm_rate: float | None) -> str:
    """Faults of a system that come from options: those are named, and not the system's file."""
    if false_alarm_rate is not None:
        given = f"--false-alarm-rate={false_alarm_rate:g}"
        faults = faults.replace("\n  threshold.false_alarm_rate: ", f"\n  {given}: ")
        if faults.partition("\n")[2].startswith(f"  {given}: ") and faults.count("\n") == 1:
            return faults.partition("\n")[2].strip()
    heading, newline, listed = faults.partition("\n")
    return f"--set:\n{listed}" if newline and ".toml" in heading else f"--set: {faults}"


def chosen_data(folder: Path, machines: list[str] | None, channels: str | None = None) -> Dataset:
    """The data set, or some of its machines."""
    from nearfar.recordings import datasets

    found = datasets.load(folder, chosen_channels(channels))
    return found.only(machines) if machines else found
