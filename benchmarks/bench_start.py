"""From the shell to the verdict on one clip, beside the code of another commit.

    git worktree add /tmp/before cb98476
    python benchmarks/bench_start.py /tmp/before [--rounds 10]

Each command runs in a process of its own, with the code of the other tree and of this one in turn, so that a busy
computer slows both. First, each tree fits `spectral` to the same 30 clips of 10 s, two channels at 16 kHz. A run of
each command is not measured: it compiles the modules, and the disk is warm after it. The wall time of the fastest
round is what a user waits for on an idle computer; the processor time depends less on what else the computer does.
A command that a tree does not have is left out. If the two trees do not score alike, that is an error.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

RATE, SECONDS, CLIPS = 16_000, 10, 30
MAIN = "from nearfar.cli import main; main()"
HERE = Path(__file__).parents[1]
HEAVY = ("torch", "sklearn", "pandas", "matplotlib", "scipy.stats", "scipy.signal")


class Tree(NamedTuple):
    """Code to measure, and the detector that it has fitted."""

    root: Path
    detector: Path
    environment: dict[str, str]

    def python(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run code in a new process."""
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=self.environment, check=False)

    def seconds(self, code: str, *arguments: str) -> tuple[float, float]:
        """Wall and processor time of that."""
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        self.python(code, *arguments).check_returncode()
        wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def make_clips(folder: Path) -> Path:
    """A machine near and a hall in both channels."""
    folder.mkdir()
    for i in range(CLIPS + 1):
        rng = np.random.default_rng(i)
        machine, hall = 0.1 * rng.standard_normal((2, RATE * SECONDS))
        clip = np.stack([machine + 0.5 * np.roll(hall, 40), 0.2 * np.roll(machine, 60) + hall])
        soundfile.write(folder / f"{i:03d}.wav", clip.T.clip(-1, 1), RATE)
    return folder


def make_tree(root: Path, folder: Path, clips: Path) -> Tree:
    """A tree, and what it fits to the clips."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPATH": str(root / "src"), "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    tree = Tree(root, folder / "detector", environment)
    options = ["-o", str(tree.detector), "--system", "spectral", "--cache", str(folder / "cache")]
    fitted = tree.python(MAIN, "fit", str(clips), *options)
    if fitted.returncode:
        raise SystemExit(f"{root}: {fitted.stderr}")
    return tree


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path, help="another tree of this repository, with its src")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = make_clips(folder / "clips")
        new = (clips / f"{CLIPS:03d}.wav").rename(folder / "new.wav")
        trees = []
        for number, root in enumerate((arguments.other.resolve(), HERE)):
            (folder / str(number)).mkdir()
            trees.append(make_tree(root, folder / str(number), clips))
        compare_verdicts(trees, new)
        print_times(trees, new, folder, arguments.rounds)


def compare_verdicts(trees: list[Tree], clip: Path) -> None:
    """Print what each tree loads for a verdict; end if the numbers differ."""
    code = f"""
import sys
from nearfar.cli import main
try:
    main()
finally:
    print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""
    verdicts = []
    for tree in trees:
        done = tree.python(code, "score", str(tree.detector), str(clip), "--json")
        verdicts.append({k: json.loads(done.stdout)[k] for k in ("score", "p_value", "decision")})
        print(f"{tree.root.name}: {verdicts[-1]}, loads {done.stderr.strip()}")
    if verdicts[0] != verdicts[1]:
        raise SystemExit("the two trees do not score alike")


def print_times(trees: list[Tree], clip: Path, folder: Path, rounds: int) -> None:
    """The table: each command with each tree, in turn."""
    page = folder / "page.html"

    def commands(tree: Tree) -> dict[str, list[str]]:
        one = [str(tree.detector), str(clip)]
        return {
            "python -c pass": ["pass"],
            "import nearfar.detector.fitted": ["import nearfar.detector.fitted"],
            "nearfar --help": [MAIN, "--help"],
            "nearfar score": [MAIN, "score", *one],
            "nearfar score --json": [MAIN, "score", *one, "--json"],
            "nearfar explain -o": [MAIN, "explain", *one, "-o", str(page), "--replace"],
        }

    print(f"best of {rounds}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'wall s (processor s)':<32}{'before':>15}{'now':>15}{'ratio':>15}")
    for name in commands(trees[0]):
        there = [tree for tree in trees if tree.python(*commands(tree)[name]).returncode == 0]
        found = [[tree.seconds(*commands(tree)[name]) for tree in there] for _ in range(rounds)]
        best = [
            tuple(min(times) for times in zip(*of_tree, strict=True)) for of_tree in zip(*found, strict=True)
        ]
        row = dict(zip((tree.root for tree in there), best, strict=True))
        cells = [f"{row[t.root][0]:.2f} ({row[t.root][1]:.2f})" if t.root in row else "-" for t in trees]
        ratio = "-"
        if len(best) == len(trees):
            ratio = f"{best[1][0] / best[0][0]:.2f} ({best[1][1] / best[0][1]:.2f})"
        print(f"{name:<32}" + "".join(f"{cell:>15}" for cell in (*cells, ratio)), flush=True)


if __name__ == "__main__":
    main()
