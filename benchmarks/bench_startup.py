"""How long the commands that only list something take, side by side with Python itself; each in a new process.

    python benchmarks/bench_startup.py [REPEATS]

Wall time is what a user waits for. It depends on what else the machine does, so the load is printed; processor time
depends on it less.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

PYTHON = [sys.executable, "-c", "pass"]
NEARFAR = [sys.executable, "-c", "from nearfar.cli import main; main()"]
COMMANDS = ("--version", "--help", "systems", "machines", "study", "weights list", "data list")
REPEATS = 5


def measure(command: list[str]) -> tuple[float, float]:
    """Wall and processor time of one run, in seconds."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else REPEATS
    named = {"python -c pass": PYTHON, **{f"nearfar {c}": [*NEARFAR, *c.split()] for c in COMMANDS}}
    print(f"best of {repeats}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'command':<22} {'wall s':>7} {'processor s':>12}")
    for name, command in named.items():
        walls, processors = zip(*(measure(command) for _ in range(repeats)), strict=True)
        print(f"{name:<22} {min(walls):7.2f} {min(processors):12.2f}", flush=True)


if __name__ == "__main__":
    main()
