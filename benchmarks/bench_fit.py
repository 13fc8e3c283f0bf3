"""What fitting `spectral` costs, beside the code of another commit, and whether both write the same detector.

    git worktree add /tmp/before fa2c494
    python benchmarks/bench_fit.py /tmp/before [--clips 1000] [--rounds 3] [--data FOLDER] [--workers 2]

Without `--data`, this tree simulates a fan: so many clips of 10 s, two channels at 16 kHz, a hundredth of them of
the target domain. Each command runs in a process of its own, with the code of the other tree and of this one in
turn, so that a busy computer slows both. `fit` begins with an empty cache. `fit again` finds the embeddings in the
cache. `calibrate` scores a fifth of the clips with a detector of the others; `learn` adds them. Peak memory is
that of the process. Detectors are compared file by file, and array by array: all but versions and times must be the
same bytes, or the program ends with 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load_file

MAIN = "from nearfar.cli import main; main()"
HERE = Path(__file__).parents[1]
COMMANDS = ("fit", "fit again", "calibrate", "learn")
PASSING = ("versions", "digest", "when", "nearfar")  # of what tells who wrote it, and when
LATER = 5  # each such clip is of a later session, for `calibrate` and `learn`


class Cost(NamedTuple):
    """Of one process."""

    wall: float
    processor: float
    peak: float  # MB


class Tree(NamedTuple):
    """Code to measure, and where it writes."""

    name: str
    root: Path
    work: Path

    def run(self, *arguments: str) -> Cost:
        """What a command costs."""
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment |= {
            "PYTHONPATH": str(self.root / "src"),
            "PYTHONPYCACHEPREFIX": str(self.work / "compiled"),
        }
        begun = time.perf_counter()
        command = [sys.executable, "-W", "ignore", "-c", MAIN, *arguments]
        with (self.work / "said").open("w+") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
            _, status, used = os.wait4(process.pid, 0)
            wall = time.perf_counter() - begun
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                said.seek(0)
                raise SystemExit(f"{self.root}: {' '.join(arguments)}\n{said.read()}")
        return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def commands(tree: Tree, data: Path, number: int, workers: int) -> dict[str, list[str]]:
    """The arguments of each command of a round."""
    whole, part, cache = (str(tree.work / f"{name}{number}") for name in ("whole", "part", "cache"))
    means = ["--workers", str(workers)]
    fit = ["fit", "--system", "spectral", "--cache", cache, *means, "--replace"]
    later = [str(data / "later"), "-o"]
    return {
        "fit": [*fit, str(data / "whole"), "-o", whole],
        "fit again": [*fit, str(data / "whole"), "-o", whole],
        "part": [*fit, str(data / "part"), "-o", part],
        "calibrate": ["calibrate", part, *later, f"{part}-calibrated", *means],
        "learn": ["learn", part, *later, f"{part}-learnt", "--cache", f"{cache}-learn", *means],
    }


def simulated(folder: Path, clips: int, workers: int) -> Path:
    """Clips of a machine that does not exist."""
    few = max(1, clips // 100)
    code = (
        "import sys; from pathlib import Path; import nearfar; nearfar.simulate(Path(sys.argv[1]), "
        "machines=['fan'], clips=int(sys.argv[2]), test_clips=1, seconds=10, workers=int(sys.argv[3]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(HERE / "src")}
    arguments = [sys.executable, "-c", code, str(folder), str(clips - few), str(workers)]
    subprocess.run(arguments, env=environment, check=True)
    return folder / "fan" / "train"


def laid_out(clips: Path, folder: Path) -> Path:
    """The clips as links: all in `whole`; in `part` and `later`, those of two sessions."""
    for number, clip in enumerate(sorted(clips.iterdir())):
        for place in ("whole", "later" if number % LATER == 0 else "part"):
            (folder / place).mkdir(parents=True, exist_ok=True)
            (folder / place / clip.name).symlink_to(clip.resolve())
    return folder


def differences(one: Path, other: Path) -> Iterator[str]:
    """Where two detectors differ, but for versions and times."""
    files = [{p.relative_to(folder) for p in folder.rglob("*") if p.is_file()} for folder in (one, other)]
    yield from (f"{name}: only one has it" for name in sorted(files[0] ^ files[1]))
    for name in sorted(files[0] & files[1]):
        if (one / name).read_bytes() == (other / name).read_bytes():
            continue
        if name.suffix == ".json":
            told = [json.loads((folder / name).read_text()) for folder in (one, other)]
            yield from (f"{name}: {what}" for what in _unequal(*told, ""))
        elif name.suffix == ".safetensors":
            arrays = [load_file(folder / name) for folder in (one, other)]
            yield f"{name}: other bytes"
            yield from (f"{name}: {what}" for what in _unequal_arrays(*arrays))
        else:
            yield f"{name}: other bytes"


def _unequal(one: Any, other: Any, where: str) -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key in one:
            if key not in PASSING:
                yield from _unequal(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from _unequal(*pair, f"{where}[{number}]")
    elif one != other:
        yield f"{where}: {str(one)[:80]} and {str(other)[:80]}"


def _unequal_arrays(one: dict[str, Any], other: dict[str, Any]) -> Iterator[str]:
    for name in sorted({*one, *other}):
        a, b = one.get(name), other.get(name)
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            yield f"{name}: of another kind"
        elif a.tobytes() != b.tobytes():
            away = np.abs(a.astype(np.float64) - b.astype(np.float64)).max()
            yield f"{name}: by up to {away:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path, help="another tree of this repository, with its src")
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--data", type=Path, help="folder of clips, in place of simulated ones")
    parser.add_argument("--only", choices=COMMANDS, action="append", help="which commands (default: all)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        clips = arguments.data or simulated(work / "simulated", arguments.clips, arguments.workers)
        data = laid_out(clips, work / "data")
        trees = []
        for told, root in (("before", arguments.other.resolve()), ("now", HERE)):
            (work / told).mkdir()
            trees.append(Tree(told, root, work / told))
        found = measured(trees, data, arguments.rounds, arguments.workers, arguments.only or COMMANDS)
        n, means = (
            len(list((data / "whole").iterdir())),
            f"{arguments.workers} workers, best of {arguments.rounds}",
        )
        print(f"{n} clips, {means}; load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
        print_costs(found)
        if told := [line for pair in detectors(trees) for line in differences(*pair)]:
            raise SystemExit("\n".join(["the detectors differ:", *told]))
        print("the detectors are the same, but for versions and times")


def measured(
    trees: list[Tree], data: Path, rounds: int, workers: int, only: tuple[str, ...] | list[str]
) -> dict[str, dict[str, list[Cost]]]:
    """The costs of each round, by command and tree."""
    found: dict[str, dict[str, list[Cost]]] = {}
    needs_part = not {"calibrate", "learn"}.isdisjoint(only)
    for number in range(rounds):
        for what in ("fit", "fit again", "part", "calibrate", "learn"):
            if (
                what not in only
                and not (what == "part" and needs_part)
                and not (what == "fit" and "fit again" in only)
            ):
                continue
            for tree in trees[:: 1 - 2 * (number % 2)]:
                if number and what == "part":
                    continue
                cost = tree.run(*commands(tree, data, number if what != "part" else 0, workers)[what])
                found.setdefault(what, {}).setdefault(tree.name, []).append(cost)
    found.pop("part", None)
    return found


def detectors(trees: list[Tree]) -> Iterator[tuple[Path, Path]]:
    """The detectors that both have written, in pairs."""
    for folder in sorted(path.parent for path in trees[0].work.glob("*/detector.json")):
        yield folder, trees[1].work / folder.name


def print_costs(found: dict[str, dict[str, list[Cost]]]) -> None:
    """The table: the least of each number."""
    heads = f"{'wall s: before':>16}{'now':>8}{'ratio':>8}{'processor s':>14}{'now':>8}{'ratio':>8}"
    print(f"{'':<12}{heads}{'peak MB':>10}{'now':>6}")
    for what, of_trees in found.items():
        before, now = (Cost(*map(min, zip(*of_trees[name], strict=True))) for name in ("before", "now"))
        wall = f"{before.wall:>16.1f}{now.wall:>8.1f}{before.wall / now.wall:>8.2f}"
        processor = f"{before.processor:>14.1f}{now.processor:>8.1f}{before.processor / now.processor:>8.2f}"
        print(f"{what:<12}{wall}{processor}{before.peak:>10.0f}{now.peak:>6.0f}")


if __name__ == "__main__":
    main()
