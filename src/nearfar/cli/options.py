"""Options that several commands have, and what they stand for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nearfar.recordings.clips import Dataset
    from nearfar.systems.configuration import System

CORES = os.cpu_count() or 1

Workers = Annotated[int, typer.Option(min=1, help="Processes or threads that work side by side.")]
Seed = Annotated[int, typer.Option(min=0, help="Of everything that is drawn at random.")]
Cache = Annotated[
    Path | None,
    typer.Option(help="Where finished steps are kept (default: $NEARFAR_CACHE, or the user's cache)."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting of the system, as branch.view=near."),
]
Preset = Annotated[
    str | None, typer.Option(help="Settings that the system's file has under this name, as small.")
]
AdapterFile = Annotated[
    Path | None,
    typer.Option("--adapter", metavar="FILE", help="For a system that is adapted: of `nearfar adapt`."),
]
MachineNames = Annotated[list[str] | None, typer.Option(help="This machine only; may be repeated.")]
Truth = Annotated[Path | None, typer.Option(help="Ground truth, as the official evaluator has it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def chosen_system(
    name: str, preset: str | None, settings: list[str] | None, false_alarm_rate: float | None = None
) -> System:
    """The system of that name or file, with the settings of the command line."""
    from nearfar.systems import configuration
    from nearfar.systems.settings import parse_settings

    replaced = parse_settings(settings or ())
    if false_alarm_rate is not None:
        replaced["threshold.false_alarm_rate"] = false_alarm_rate
    return configuration.load(name, replaced, preset=preset)


def chosen_data(folder: Path, machines: list[str] | None) -> Dataset:
    """The data set, or some of its machines."""
    from nearfar.recordings import datasets

    found = datasets.load(folder)
    return found.only(machines) if machines else found
