"""Every back end on the embeddings of ``spectral_w1``, on the two motors: the table of ``docs/backends.md``.

    OMP_NUM_THREADS=1 python benchmarks/backends_on_motors.py MOTORS [CACHE]

For each back end this is the command that the script prints first, with ``nearfar sweep`` in words: three views,
each raw and standardized, options at their defaults. One sweep a back end, because a back end that cannot be
fitted ends its sweep; its error stands in the table. Omega in percent, with the 95 % bootstrap interval by
recording. The labels of the machines that are reported order nothing here, but whoever takes the best of the
table has selected on them: it describes these machines.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd

from nearfar.backends import BACKENDS
from nearfar.files.steps import Jobs
from nearfar.recordings import datasets
from nearfar.recordings.clips import Dataset
from nearfar.research.sweep import sweep

VIEWS = ("near", "cancelled", "near_and_cancelled")
CONDITIONINGS: dict[str, list[str]] = {"raw": [], "standardized": ["standardize"]}
WRAPPED = ("mahalanobis", "nearest_neighbour")  # by per_domain_normalized


def settings() -> list[tuple[str, dict[str, Any]]]:
    """Back ends with the options that they must have."""
    plain: list[tuple[str, dict[str, Any]]] = [(b, {}) for b in BACKENDS if b != "per_domain_normalized"]
    return [*plain, *(("per_domain_normalized", {"backend": b}) for b in WRAPPED)]


def command(backend: str, options: dict[str, Any]) -> str:
    """The same on the command line."""
    conditionings = ";".join(str(steps).replace("'", '"') for steps in CONDITIONINGS.values())
    chosen = "".join(f" --set branch.backend_options.{k}={v}" for k, v in options.items())
    return (
        f"nearfar sweep spectral_w1 --data MOTORS --by-recording --set branch.backend={backend}{chosen} "
        f"--vary 'branch.view={';'.join(VIEWS)}' --vary 'branch.conditioning={conditionings}'"
    )


def swept(motors: Dataset, backend: str, options: dict[str, Any], jobs: Jobs) -> pd.DataFrame:
    """Omega and its interval, by view and conditioning."""
    found = sweep(
        "spectral_w1",
        motors,
        {"branch.view": VIEWS, "branch.conditioning": list(CONDITIONINGS.values())},
        settings={"branch.backend": backend, "branch.backend_options": options},
        unit="recording",
        jobs=jobs,
    )
    return found.table.set_index(list(found.settings))


def rows(name: str, table: pd.DataFrame) -> list[str]:
    """Two rows of Markdown."""
    lines = []
    for conditioning, steps in CONDITIONINGS.items():
        cells = []
        for view in VIEWS:
            omega, low, high = 100 * table.loc[(view, str(steps)), ["omega", "low", "high"]].astype(float)
            cells.append(f"{omega:.1f} ({low:.1f} to {high:.1f})")
        lines.append(f"| {name} | {conditioning} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    motors = datasets.load(Path(sys.argv[1]))
    jobs = Jobs(Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    print(f"{command('BACKEND', {})}\n")
    print(f"| back end | embedding | {' | '.join(f'`{v}`' for v in VIEWS)} |\n|---|---|---|---|---|")
    for backend, options in settings():
        name = f"`{backend}`" + "".join(f" of `{wrapped}`" for wrapped in options.values())
        try:
            lines = rows(name, swept(motors, backend, options, jobs))
        except ValueError as error:
            lines = [f"| {name} | | cannot be fitted: {error} | | |"]
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
