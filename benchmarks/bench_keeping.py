"""What it costs that a detector keeps how its clips sound: time of a fit, and size, by what is kept.

    OMP_NUM_THREADS=1 python benchmarks/bench_keeping.py FOLDER [REPEATS] [--before SRC]

FOLDER has the normal clips of one machine, such as SIM/fan of ``nearfar simulate SIM --machines fan --clips 1000``.
Each fit is a new process with one worker. Cold: nothing is in the cache. Warm: the same fit once more. Kinds take
turns, so that all see the same load. Processor time depends on the load less than wall time does. SRC is the code
before detectors kept sounds, for a last kind, ``before``.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

OPTIONS = {
    "recordings": (),
    "no recordings": ("--no-recordings",),
    "nothing": ("--no-learning",),
    "before": (),
}
NEARFAR = [sys.executable, "-c", "from nearfar.cli import main; main()"]


def fitted(folder: Path, kind: str, into: Path, cache: Path, source: str | None) -> float:
    """Fit; processor time in seconds."""
    told = {"NEARFAR_CACHE": str(cache)} | ({"PYTHONPATH": source} if source is not None else {})
    command = [*NEARFAR, "fit", folder, "-o", into, "--replace", "--system", "spectral", "--workers", "1"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [*map(str, command), *OPTIONS[kind]], check=True, capture_output=True, env={**os.environ, **told}
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def size_of(folder: Path, pattern: str = "*") -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern) if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("repeats", type=int, nargs="?", default=3)
    parser.add_argument("--before", metavar="SRC")
    given = parser.parse_args()
    kinds = [kind for kind in OPTIONS if kind != "before" or given.before]
    times: dict[tuple[str, str], list[float]] = {(k, c): [] for k in kinds for c in ("cold", "warm")}
    sizes: dict[str, tuple[int, int]] = {}
    with tempfile.TemporaryDirectory() as place:
        for round_ in range(given.repeats):
            for kind in kinds:
                into, cache = Path(place, kind), Path(place, f"cache {kind} {round_}")
                source = given.before if kind == "before" else None
                for state in ("cold", "warm"):
                    times[kind, state].append(fitted(given.folder, kind, into, cache, source))
                sizes[kind] = size_of(into), size_of(into, "*.flac")
    print(f"best of {given.repeats}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'kept':<14} {'cold s':>8} {'warm s':>8} {'MB':>7} {'of these FLAC':>14}")
    for kind in kinds:
        cold, warm = (min(times[kind, state]) for state in ("cold", "warm"))
        whole, sound = sizes[kind]
        print(f"{kind:<14} {cold:8.1f} {warm:8.1f} {whole / 1e6:7.1f} {sound / 1e6:14.1f}")


if __name__ == "__main__":
    main()
