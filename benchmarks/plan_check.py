"""Small studies: the time that is planned, and the processor time that they take.

    OMP_NUM_THREADS=1 python benchmarks/plan_check.py [MN04]

Two simulated machines of 100 training clips of 10 s; MN04 is the file of the weights of mn04.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.research import reproduce
from nearfar.research.reproduce import PublishedStudy
from nearfar.simulation import simulate

NONE = {"threshold.method": "none"}
SYSTEMS: dict[str, dict[str, Any]] = {
    "spectral_near": NONE,
    "spectral": {"threshold.false_alarm_rate": 0.1},
    "baseline_mse": NONE | {"branch.training.epochs": 20},
}


def study(system: str, settings: dict[str, Any]) -> PublishedStudy:
    """Of one branch."""
    return PublishedStudy.model_validate(
        {
            "name": "check", "title": "", "source": "", "summary": "", "data": "dcase2026",
            "branches": {"alone": {"system": system, "settings": settings}},
            "rows": [
                {"label": "alone", "branch": "alone", "protocol": "fixed configuration, leave one machine out"}
            ],
        }
    )  # fmt: skip


def main() -> None:
    systems = dict(SYSTEMS)
    if len(sys.argv) > 1:
        systems["mn04"] = NONE | {"branch.encoder_options.weights": sys.argv[1]}
    with TemporaryDirectory() as name:
        root = Path(name)
        clips = {"source_clips": 90, "target_clips": 10, "test_clips": 10}
        simulate(root / "hall", machines=["fan", "pump"], **clips, seconds=10.0, seed=1)
        data = datasets.load(root / "hall")
        for system, settings in systems.items():
            asked, jobs = study(system, settings), Jobs(root / system / "cache")
            planned = 60 * reproduce.plan(asked, data, jobs=jobs).minutes_left
            begun = time.process_time()
            reproduce.run(asked, data, root / system / "out", jobs=jobs)
            took = time.process_time() - begun
            left = reproduce.plan(asked, data, jobs=jobs).minutes_left
            share = took / planned
            print(
                f"{system:13}: planned {planned:.1f} s, took {took:.1f} s ({share:.2f}); then {left:.0f} left"
            )


if __name__ == "__main__":
    main()
