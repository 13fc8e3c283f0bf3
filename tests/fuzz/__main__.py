"""``python -m fuzz``: try many cases, and tell what came of them.

The same seed and number give the same case: ``python -m fuzz --only SURFACE --case N`` runs it again, and keeps its
files. The exit code is 1 if there was a fault.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ["NEARFAR_WEIGHTS"] = os.devnull + "/no-weights"
os.environ.pop("NEARFAR_DEBUG", None)
os.environ["COLUMNS"] = "250"  # no name of a file is broken into two lines

from fuzz import cases  # noqa: E402  # reads the variables when it loads
from fuzz.cases import Outcome  # noqa: E402
from fuzz.surfaces import Surface, all_surfaces  # noqa: E402

HOUR = 3600.0


def main() -> int:
    """Parse, try, tell."""
    asked = _arguments()
    surfaces = all_surfaces()
    if asked.list:
        print("\n".join(surfaces))
        return 0
    chosen = {name: surfaces[name] for name in asked.only or surfaces}
    begun = time.monotonic()
    with TemporaryDirectory(prefix="nearfar-fuzz-") as folder:
        made, expected = _made(chosen, Path(folder))
        print(f"{len(chosen)} surfaces are ready after {time.monotonic() - begun:.0f} s", flush=True)
        place = asked.keep or Path(folder) / "cases"
        place.mkdir(parents=True, exist_ok=True)
        found = _try_all(asked, chosen, made, expected, place, begun)
    return _told(found, time.monotonic() - begun, asked)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fuzz", description="Try damaged files on everything that reads files."
    )
    parser.add_argument("--seed", type=int, default=1, help="of all damage (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=HOUR, help="how long it may take (default: an hour)")
    parser.add_argument("--cases", type=int, default=10**9, help="of each surface, at most")
    parser.add_argument("--only", action="append", metavar="SURFACE", help="this surface; may be given again")
    parser.add_argument("--case", type=int, metavar="N", help="this case alone, and keep its files")
    parser.add_argument(
        "--from", type=int, default=0, dest="first", metavar="N", help="the number of the first case"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the files of faults stay")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all outcomes into a file, a line each"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the surfaces")
    asked = parser.parse_args()
    if asked.case is not None:
        asked.first, asked.cases, asked.jobs = asked.case, 1, 1
        asked.keep = asked.keep or Path("fuzz-cases")
    asked.keep = asked.keep and asked.keep.absolute()  # a case changes its folder
    return asked


def _made(surfaces: dict[str, Surface], folder: Path) -> tuple[dict[str, Path], dict[str, dict[str, Any]]]:
    """The folder of each surface, and what its uses return; all that they load is loaded here."""
    made, expected = {}, {}
    for name, surface in surfaces.items():
        made[name] = folder / "valid" / name
        made[name].mkdir(parents=True)
        surface.make(made[name])
        expected[name] = cases.undamaged(surface, made[name], folder)
    return made, expected


def _try_all(
    asked: argparse.Namespace,
    surfaces: dict[str, Surface],
    made: dict[str, Path],
    expected: dict[str, Any],
    place: Path,
    begun: float,
) -> list[Outcome]:
    """In rounds of one case of each surface, the first of them always: a short time is short for all."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def work(job: int) -> None:
        try:
            for number in range(asked.first + job, asked.first + asked.cases, asked.jobs):
                for name, surface in surfaces.items():
                    if number >= asked.first + asked.jobs and time.monotonic() - begun > asked.seconds:
                        return
                    answers.put(
                        cases.tried(
                            surface,
                            made[name],
                            place,
                            seed=asked.seed,
                            number=number,
                            expected=expected[name],
                        )
                    )
        finally:
            answers.put(None)

    workers = [context.Process(target=work, args=(job,)) for job in range(asked.jobs)]
    for worker in workers:
        worker.start()
    found: list[Outcome] = []
    running = len(workers)
    while running:
        outcome = answers.get()
        if outcome is None:
            running -= 1
            continue
        found.append(outcome)
        if outcome.kind == "fault" or asked.case is not None:
            _show(outcome)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0, "the fuzzer itself failed"
    return sorted(found, key=lambda one: (one.surface, one.number))


def _show(outcome: Outcome) -> None:
    changed = ", ".join(outcome.changed)
    print(
        f"--- {outcome.kind} {outcome.why}: {outcome.surface} {outcome.number}, {outcome.use}, of {changed}"
    )
    print("\n".join(f"    {line}" for line in outcome.said.splitlines()), flush=True)


def _told(found: list[Outcome], seconds: float, asked: argparse.Namespace) -> int:
    """The table of what came of them; returns the exit code."""
    if asked.json:
        asked.json.write_text("".join(json.dumps(one.describe()) + "\n" for one in found), encoding="utf-8")
    counts = {
        name: Counter(one.kind for one in found if one.surface == name)
        for name in dict.fromkeys(o.surface for o in found)
    }
    print(f"{'surface':24} {'cases':>6} {'result':>6} {'told':>6} {'fault':>6}")
    for name, count in [*counts.items(), ("all", Counter(one.kind for one in found))]:
        print(f"{name:24} {count.total():6} {count['result']:6} {count['told']:6} {count['fault']:6}")
    slowest = max(found, key=lambda one: one.seconds, default=None)
    if slowest is not None:
        print(f"slowest: {slowest.seconds:.1f} s, {slowest.surface} {slowest.number}")
    print(f"{len(found)} cases in {seconds:.0f} s, seed {asked.seed}")
    return int(any(one.kind == "fault" for one in found))


if __name__ == "__main__":
    sys.exit(main())
