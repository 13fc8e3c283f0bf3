"""Lists to choose from: systems, simulated machines, data sets, published studies, weights.

These tables need only names and numbers, so a list appears at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Column, Table

if TYPE_CHECKING:
    from nearfar.encoders.pretrained import Pretrained
    from nearfar.research.reproduce.catalogue import StudyDescription
    from nearfar.simulation.catalogue import MachineDescription
    from nearfar.systems.named import SystemDescription


def systems(described: Iterable[SystemDescription]) -> Table:
    """The systems that can be fitted, and what each of them needs."""
    known = list(described)
    table = Table(Column("system", no_wrap=True), "summary, and what it needs", title="Systems")
    for d in known:
        table.add_row(d.name, f"{escape(d.summary)}\n[dim]{escape(_needs(d))}[/]", end_section=True)
    on = "; ".join(sorted({d.needs.measured_on for d in known}))
    table.caption = f"Times are for a fit to 1,000 clips of 10 s, on {on}."
    return table


def _needs(d: SystemDescription) -> str:
    """What the system needs, in one line."""
    microphones = f"{d.needs.channels} microphone{'s' if d.needs.channels > 1 else ''}"
    time, for_adapter = _time(d.needs.minutes), d.needs.adapter_minutes
    adapter = [f"{_time(for_adapter)} to train an adapter on seven such machines"] if for_adapter else []
    presets = [f"--preset {preset}" for preset in d.presets]
    return "; ".join(
        [
            microphones,
            f"weights: {d.needs.weights}",
            f"training: {d.needs.training}",
            time,
            *adapter,
            *presets,
        ]
    )


def _time(minutes: float) -> str:
    return f"{minutes / 60:.0f} hours" if minutes > 120 else f"{minutes:g} minutes"


def simulated(described: Iterable[MachineDescription]) -> Table:
    """The machines that can be simulated."""
    table = Table(
        "machine", "what it is", "speeds", "faults", "shifts", title="Machines that can be simulated"
    )
    for d in described:
        speeds = f"{', '.join(map(str, d.speeds))} {d.speed_unit}"
        table.add_row(d.name, d.summary, speeds, ", ".join(d.faults), ", ".join(d.shift))
    table.caption = "Shifts: what differs in the target domain by default; --shift changes it."
    return table


def published(modules: Mapping[str, ModuleType]) -> Table:
    """The published data sets: machines, parts, licences."""
    table = Table("data set", "machines", "parts to download", "licence", title="Published data sets")
    for name, module in modules.items():
        published = module.PUBLISHED
        machines = dict.fromkeys(m for part in published.machines.values() for m in part)
        subsets = ", ".join(published.remotes) or "by hand"
        table.add_row(name, ", ".join(machines), subsets, published.license.splitlines()[0])
    return table


def studies(described: Iterable[StudyDescription]) -> Table:
    """The published studies that can be reproduced."""
    names = [Column(heading, no_wrap=True) for heading in ("study", "rows", "data")]
    table = Table(*names, "title, summary, source", title="Published studies")
    for d in described:
        table.add_row(
            d.name,
            str(d.rows),
            d.data,
            f"{escape(d.title)}. {escape(d.summary)}\n[dim]{escape(d.source)}[/]",
            end_section=True,
        )
    return table


def weights(records: Iterable[Pretrained], here: Collection[str], folder: Path) -> Table:
    """Pretrained weights: encoder, size, licence, and how to get those that are not on this computer."""
    names = [Column(heading, no_wrap=True) for heading in ("weights", "encoder", "size")]
    table = Table(*names, "licence", Column("", no_wrap=True), title="Weights")
    for record in records:
        place = "here" if record.name in here else "add" if record.url is None else "get"
        table.add_row(record.name, record.encoder, record.megabytes, record.licence.name, place)
    table.caption = escape(
        f"here: in {folder}. get: download with `nearfar weights get NAME`. add: download the file yourself "
        "(`nearfar weights get NAME` says where), then `nearfar weights add NAME FILE`."
    )
    return table
