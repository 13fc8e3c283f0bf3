"""What a watch of 100,000 recordings costs that were all heard: ``python benchmarks/bench_sources.py``."""

from __future__ import annotations

import argparse
import hashlib
import resource
import tempfile
import time
from pathlib import Path

from nearfar.watching.sources.settling import Settling

HEADER = 44  # bytes, of a WAV without samples: a look does not open them


def filled(folder: Path, files: int, folders: int) -> None:
    """So many files in so many folders, an hour old or more."""
    for number in range(folders):
        (folder / f"{number:04}").mkdir()
    for number in range(files):
        place = folder / f"{number % folders:04}" if folders > 1 else folder
        (place / f"pump_{number:06}.wav").write_bytes(bytes(HEADER))


def timed(looking: Settling) -> float:
    """Milliseconds of processor time of a look."""
    begun = time.process_time()
    looking.look()
    return 1000 * (time.process_time() - begun)


def peak_mb() -> float:
    """The most memory that was used so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Fill folders, look at them, and print what it took of a processor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--folders", type=int, default=1)
    arguments = parser.parse_args()
    asked = 0

    def is_known(key: str) -> bool:
        nonlocal asked
        asked += 1
        return bool(hashlib.blake2b(key.encode()).digest())  # stands for a question to the logbook

    with tempfile.TemporaryDirectory(prefix="nearfar-bench-") as name:
        folder = Path(name)
        filled(folder, arguments.files, arguments.folders)
        time.sleep(3)  # until the times of folders are older than times can be coarse
        before = peak_mb()
        looking = Settling(
            folder, pattern="*", recursive=True, is_known=is_known, grows=lambda: None, stopping=lambda: False
        )
        print(f"{arguments.files:,} files in {arguments.folders:,} folders")
        print(f"first look:                {timed(looking):9.1f} ms, {asked:,} asked for")
        print(f"memory:                    {peak_mb() - before:9.1f} MB")
        looks = sorted(timed(looking) for _ in range(20))
        print(f"nothing has come:          {looks[10]:9.2f} ms (median of 20)")
        came = []
        for number in range(10):
            place = folder / "0000" if arguments.folders > 1 else folder
            (place / f"new_{number}.wav").write_bytes(bytes(HEADER))
            came.append(timed(looking))
        print(f"a file has come:           {sorted(came)[5]:9.2f} ms (median of 10)")
        looking._all_at = 0.0
        print(f"a look at all:             {timed(looking):9.1f} ms")


if __name__ == "__main__":
    main()
