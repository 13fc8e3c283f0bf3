"""What cannot be run here, from measured constants: the table of docs/cluster.md.

    python benchmarks/plan_sizes.py

The constants are those of `nearfar study --plan`, which `benchmarks/plan_constants.py` has measured on the
processor that the table names, in processor time of one thread. Nothing is measured now.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from nearfar.research.reproduce import constants

HOUR, DAY, YEAR = 3600.0, 86400.0, 365.25 * 86400.0
MACHINES, CLIPS = 1000, 1000
FITS = 11  # all clips, and ten folds for a threshold
DCA_MACHINES, DCA_NETWORKS, DCA_EPOCHS, DCA_CLIPS = 5, 100, 30, 990  # of dca_1: ten seeds, two schedules each
ADAPTERS, ADAPTED_EPOCHS, ADAPTED_CLIPS = 7, 2, 6000  # one without each machine, of the clips of six
YEARS, PLANT, WINDOW = 10, 100, 10.0  # machines; seconds from one window to the next
CORES = (16, 256)
GPUS = 8


@dataclass(frozen=True)
class Size:
    """A row: what it is, how its core hours come about, and what is assumed."""

    what: str
    arithmetic: str
    hours: float
    assumed: str
    most_cores: float = math.inf  # that can be busy at the same time

    def __str__(self) -> str:
        days = " | ".join(_days(self.hours * HOUR / min(cores, self.most_cores) / DAY) for cores in CORES)
        return f"| {self.what} | {self.arithmetic} | {self.hours:,.0f} | {days} | {self.assumed} |"


def _days(days: float) -> str:
    return f"{days:.2g}" if days < 10 else f"{days:,.0f}"


def sizes(of: dict[str, Any]) -> list[Size]:
    """All rows, from the constants."""
    return [fleet(of), adapters(of), dca(of), *plant(of)]


def fleet(of: dict[str, Any]) -> Size:
    heard = of["hearing"]["near"] + of["encoding"]["eat"]
    fit, looked = of["fitting"]["domain_local_density"], of["inspecting"]["fit"]
    return Size(
        f"{MACHINES:,} machines of {CLIPS:,} clips of 10 s, ViT-B (`eat_raw`), a detector for each",
        f"10^6 x ({heard:.3f} s heard + {looked:.3f} s inspected + {FITS} x {fit:.5f} s fitted)",
        MACHINES * CLIPS * (heard + looked + FITS * fit) / HOUR,
        "one microphone; float32; a threshold of ten folds; time grows with clips",
    )


def adapters(of: dict[str, Any]) -> Size:
    step = of["adapting"]["eat arcface"]
    return Size(
        f"{ADAPTERS} adapters of ViT-B (`dualmic`), each of six machines",
        f"{ADAPTERS} x {ADAPTED_EPOCHS} epochs x {ADAPTED_CLIPS:,} clips x {step:.2f} s",
        ADAPTERS * ADAPTED_EPOCHS * ADAPTED_CLIPS * step / HOUR,
        f"steps of 4 clips, scaled; an adapter is trained by one core, so no more than {ADAPTERS} are busy",
        most_cores=ADAPTERS,
    )


def dca(of: dict[str, Any]) -> Size:
    step = next(row["seconds"] for row in of["training"] if row["options"].get("n_fft") == 1024)
    steps = DCA_NETWORKS * DCA_EPOCHS * DCA_CLIPS
    needed = steps / GPUS / DAY
    return Size(
        f"DCA's hundred networks (`dca_1`), on cores; {GPUS} GPUs: unknown, no GPU was here",
        f"{DCA_NETWORKS} x {DCA_EPOCHS} epochs x {DCA_CLIPS} clips x {step:.3f} s",
        steps * step / HOUR,
        f"without threshold; one task trains all networks of a machine, so {DCA_MACHINES} are busy (a "
        f"result of each seed has more tasks); {GPUS} GPUs "
        f"would take a day if each did {needed:.1f} clips a second, where a core does {1 / step:.1f}",
        most_cores=DCA_MACHINES,
    )


def plant(of: dict[str, Any]) -> list[Size]:
    """Ten years of a plant in the store, heard by a large and by a small network."""
    windows, kept = YEARS * YEAR / WINDOW, of["store"]
    a_window = kept["bytes"] + kept["index_bytes"]
    of_disk = (
        f"{a_window:,.0f} bytes each: {windows * a_window / 1e9:,.0f} GB a machine, "
        f"{PLANT * windows * a_window / 1e12:,.1f} TB in all, in {kept['files']} files, one of which holds nearly "
        "all: where a file cannot be that large, give groups of machines a cache each"
    )
    return [
        _heard("ViT-B (`eat_raw`)", windows, of["hearing"]["near"] + of["encoding"]["eat"], of_disk),
        _heard(
            "mn04 (`mn04`)", windows, of["hearing"]["near"] + of["encoding"]["efficientat"],
            "ditto, by another network; bytes not measured",
        ),
    ]  # fmt: skip


def _heard(network: str, windows: float, a_window: float, assumed: str) -> Size:
    return Size(
        f"{YEARS} years of {PLANT} machines, windows of 10 s, {network}",
        f"{PLANT} x {windows:,.0f} windows x {a_window:.4f} s",
        PLANT * windows * a_window / HOUR,
        assumed,
    )


def table() -> str:
    """As Markdown, with the processor and the command of the constants above it."""
    of = json.loads(constants.TABLE.read_text(encoding="utf-8"))
    on = " | ".join(f"days on {cores} cores" for cores in CORES)
    lines = [
        f"Constants: one core of an {of['processor']}, by `{of['command']}`.",
        "",
        f"| what | arithmetic | core hours | {on} | assumptions |",
        f"|---|---|---|{'---|' * len(CORES)}---|",
        *map(str, sizes(of)),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
