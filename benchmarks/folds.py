"""What each kind of folds costs and brings: the table of ``docs/false-alarms.md``.

    OMP_NUM_THREADS=1 python benchmarks/folds.py DATA [SYSTEM]

DATA is a folder of machines with labelled test clips of two domains. Each machine is fitted once for each kind of
folds. The scores are the same for all kinds, so Omega is, too; the thresholds differ. The table says, for each
machine and kind, how many of the normal test clips are flagged when 5 % are asked, and how many of the anomalous
ones are found.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from nearfar.detector.fitted import Detector
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.recordings.clips import Machine
from nearfar.systems import configuration

KINDS = ("random", "attributes", "far")
CELLS = (("source", "normal"), ("target", "normal"), (None, "anomaly"))


def counted(machine: Machine, system: str) -> dict[str, list[tuple[int, int]] | str]:
    """By kind of folds, the flagged clips and all clips of each cell; or why there are no such folds."""
    found: dict[str, list[tuple[int, int]] | str] = {}
    scores = None
    for kind in KINDS:
        chosen = configuration.load(system, {"threshold.folds_by": kind})
        try:
            detector = Detector.fit(machine, chosen, odd_clips="keep", jobs=Jobs())
        except ValueError as error:
            found[kind] = str(error).partition("(")[0]
            continue
        if scores is None:
            scores = detector.score_clips(machine.test, jobs=Jobs())
        assert detector.threshold is not None
        flags = scores > detector.threshold.value
        of_cells = [
            np.array([c.label == label and domain in (None, c.domain) for c in machine.test])
            for domain, label in CELLS
        ]
        found[kind] = [(int(flags[cell].sum()), int(cell.sum())) for cell in of_cells]
    return found


def row(name: str, kind: str, cells: list[tuple[int, int]]) -> str:
    shown = "  ".join(f"{flagged:4d} of {n:4d} ({flagged / n:6.1%})" for flagged, n in cells)
    return f"{name:10} {kind:10}  {shown}"


def main(data: Path, system: str = "spectral") -> None:
    print(f"{'machine':10} {'folds':10}  {'source, normal':>21}  {'target, normal':>21}  {'anomalous':>21}")
    both: dict[str, list[list[tuple[int, int]]]] = {kind: [] for kind in KINDS}
    for machine in datasets.load(data):
        found = counted(machine, system)
        for kind, cells in found.items():
            print(
                f"{machine.name:10} {kind:10}  {cells}"
                if isinstance(cells, str)
                else row(machine.name, kind, cells)
            )
        if all(isinstance(cells, list) for cells in found.values()):
            for kind, cells in found.items():
                assert isinstance(cells, list)
                both[kind].append(cells)
        sys.stdout.flush()
    for kind, of_machines in both.items():
        if of_machines:
            total = [
                (sum(f for f, _ in cell), sum(n for _, n in cell)) for cell in zip(*of_machines, strict=True)
            ]
            print(row(f"all ({len(of_machines)})", kind, total))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
