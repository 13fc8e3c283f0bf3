"""An exported detector in ONNX Runtime beside `Detector.score`: time of a verdict, and memory from a bare start.

    python benchmarks/bench_export.py DETECTOR [--rounds 30] [--seconds 10]

DETECTOR is the folder of a detector, as `nearfar fit` writes it. It is exported, and both hear the same clip: the
detector's own sound, repeated, and a little noise. Time is that of the processor, with one thread. The two are
measured in turns, and the least of all rounds counts. Memory is the largest resident set of a process that does
nothing but load and judge one clip of raw samples: Python, NumPy, ONNX Runtime and the file on one side; Python,
nearfar and the folder on the other. The processor and its instructions are printed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from nearfar.detector.fitted import Detector
from nearfar.export import exporting, parity
from nearfar.files.memory import keep_freed_memory

SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
PEAK = """
def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) / 1024
"""
BARE = """
import sys
import numpy as np
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options)
samples = np.load(sys.argv[2])[: session.get_inputs()[0].shape[0]]
session.run(["score"], {"samples": samples})
print(peak())
"""
WHOLE = """
import sys
import numpy as np
from nearfar.detector.fitted import Detector
detector = Detector.load(sys.argv[1])
detector.score(np.load(sys.argv[2]), detector.sample_rate)
print(peak())
"""
NOTHING = "import numpy\nprint(peak())\n"


def processor() -> str:
    """Its name, and which of the instruction sets it has that matter here."""
    told = dict(
        line.split(":", 1)
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        if ":" in line
    )
    known = {name.strip(): text.strip() for name, text in told.items()}
    has = [name for name in SETS if name in known.get("flags", "").split()]
    return f"{known.get('model name', 'unknown')}; {' '.join(has) or 'none of ' + ' '.join(SETS)}"


def least_times(rounds: int, **functions: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of processor time of each, the least of rounds in turns; the first round is left out."""
    least = dict.fromkeys(functions, float("inf"))
    for number in range(rounds + 1):
        for name, function in functions.items():
            begun = time.process_time()
            function()
            if number:
                least[name] = min(least[name], 1e3 * (time.process_time() - begun))
    return least


def megabytes(code: str, *arguments: object) -> float:
    """The largest resident set of a process of its own that runs this code."""
    command = [sys.executable, "-c", PEAK + code, *map(str, arguments)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("detector", type=Path)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    keep_freed_memory()  # as `nearfar score` does
    detector = Detector.load(given.detector)
    samples = round(given.seconds * detector.sample_rate)
    clip = np.tile(detector.sample, (1, 1 + samples // detector.sample.shape[1]))[:, :samples]
    clip = clip + np.float32(1e-4) * np.random.default_rng(0).standard_normal(clip.shape, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        made = exporting.export(detector, Path(folder) / "detector.onnx")
        np.save(Path(folder) / "clip.npy", clip)
        session = parity.light_session(made.path.read_bytes())
        feeds = {"samples": clip[: made.channels]}
        times = least_times(
            given.rounds,
            exported=lambda: session.run(None, feeds),
            detector=lambda: detector.score(clip, detector.sample_rate),
            embeddings=lambda: detector.embeddings(clip, detector.sample_rate),
        )
        bare, whole = (
            megabytes(code, place, Path(folder) / "clip.npy")
            for code, place in ((BARE, made.path), (WHOLE, given.detector))
        )
        size = sum(file.stat().st_size for file in given.detector.rglob("*") if file.is_file())
    score, said = float(session.run(["score"], feeds)[0]), detector.score(clip, detector.sample_rate).score
    print(f"{processor()}; ONNX Runtime {onnxruntime.__version__}, one thread")
    print(
        f"{detector.system.name}, {clip.shape[0]} channels of {given.seconds:g} s at {detector.sample_rate} Hz"
    )
    print(
        f"score         {score:.8g} exported, {said:.8g} by the detector: {abs(score / said - 1):.1e} relative"
    )
    print(
        f"time          {times['exported']:.1f} ms exported, {times['detector']:.1f} ms Detector.score",
        end=" ",
    )
    print(
        f"({times['detector'] / times['exported']:.2f} x), {times['embeddings']:.1f} ms of it the embeddings"
    )
    print(
        f"memory        {bare:.0f} MB exported, {whole:.0f} MB by the detector ({whole / bare:.2f} x)",
        end="; ",
    )
    print(f"{megabytes(NOTHING):.0f} MB Python with NumPy alone")
    print(f"files         {made.size / 1e6:.2f} MB exported, {size / 1e6:.2f} MB the detector's folder")
    print(
        f"parity        {made.parity.largest_score:.1e} at most, on {len(made.parity.heard)} sounds; "
        f"{made.parity.largest_score_of_silence:.1e} with a silent channel"
    )


if __name__ == "__main__":
    main()
