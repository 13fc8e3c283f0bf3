"""Killing processes that write to the embedding store, and looking at what they leave.

    python benchmarks/kill_store.py [KILLS]

Two writers at a time put embeddings of a small fake encoder; both are killed (SIGKILL) at random moments, so that
one goes on where the other was torn away. At the end the store must verify, and each embedding must be what its
encoder makes of the recording. A round ended in the middle of a write if it left an unfinished transaction, or
bytes that no index names.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import signal
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nearfar.embedding.store import Key, Origin, Store

KILLS, RECORDINGS, SECONDS = 1000, 8, 0.1
MICROPHONES = ("near", "far")
SHAPES = {"mean": (1536,), "rows": (9, 64), "level": ()}  # by pooling

Recordings = dict[str, bytes]  # by their SHA-256


def origin(microphone: str) -> Origin:
    return Origin(encoder="fake", microphone=microphone, code="1")


def embedding(recording: bytes, microphone: str, key: Key) -> NDArray[np.float32]:
    """What the fake encoder makes of a recording."""
    told = f"{microphone} {key.block} {key.pooling}".encode()
    seed = int.from_bytes(hashlib.sha256(told + recording).digest()[:8], "little")
    return np.asarray(np.random.default_rng(seed).normal(size=SHAPES[key.pooling]), np.float32)


def write(cache: Path, recordings: Recordings, seed: int) -> None:
    """Embed at random until killed."""
    rng, store = random.Random(seed), Store(cache)
    while True:
        microphone, audio = rng.choice(MICROPHONES), rng.choice([*recordings])
        keys = [Key(audio, rng.randrange(10**6), rng.choice([*SHAPES])) for _ in range(rng.randrange(1, 17))]
        found = {key: embedding(recordings[audio], microphone, key) for key in keys}
        store.put(origin(microphone), found)


def kill_two(cache: Path, recordings: Recordings, rng: random.Random) -> None:
    """A round: start two writers, and kill both."""
    context = multiprocessing.get_context(
        "fork"
    )  # a thousand interpreters would take most of the time to start
    writers = [
        context.Process(target=write, args=(cache, recordings, rng.randrange(2**32))) for _ in range(2)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        time.sleep(rng.uniform(0, SECONDS))
        writer.kill()
        writer.join()
        if writer.exitcode != -signal.SIGKILL:
            sys.exit(f"a writer ended by itself: exit code {writer.exitcode}")


def ended_in_a_write(store: Store) -> bool:
    """What the last killed writer left tells."""
    if not store.index.exists() or Path(f"{store.index}-journal").exists():
        return True
    with closing(sqlite3.connect(store.index)) as index:
        try:
            sizes = dict(index.execute("SELECT number, size FROM shelves").fetchall())
        except sqlite3.OperationalError:  # there are no tables yet
            return True
    return any(path.stat().st_size != sizes.get(int(path.stem), 0) for path in store.folder.glob("*.f32"))


def count_wrong(store: Store, recordings: Recordings) -> tuple[int, int]:
    """How many embeddings there are, and how many are not what they must be."""
    with closing(sqlite3.connect(store.index)) as index:
        rows = index.execute(
            "SELECT json_extract(origin, '$.microphone'), lower(hex(audio)), block, pooling "
            "FROM embeddings JOIN shelves ON shelf = shelves.number"
        ).fetchall()
    wrong = 0
    for microphone in MICROPHONES:
        keys = [Key(*row[1:]) for row in rows if row[0] == microphone]
        found = store.get(origin(microphone), keys)
        for key in keys:
            expected = embedding(recordings[key.audio], microphone, key)
            wrong += key not in found or not np.array_equal(found[key], expected)
    return len(rows), wrong


def main(kills: int) -> None:
    rng = random.Random(0)
    contents = [rng.randbytes(1000) for _ in range(RECORDINGS)]
    recordings = {hashlib.sha256(content).hexdigest(): content for content in contents}
    with tempfile.TemporaryDirectory() as folder:
        store, rounds, cut, began = Store(Path(folder)), (kills + 1) // 2, 0, time.perf_counter()
        for _ in range(rounds):
            kill_two(Path(folder), recordings, rng)
            cut += ended_in_a_write(store)
        seconds = time.perf_counter() - began
        problems = store.verify()
        there, wrong = count_wrong(store, recordings)
    print(f"{2 * rounds} kills in {seconds:.0f} s; {cut} of {rounds} rounds ended in the middle of a write")
    print(f"{there} embeddings: {len(problems)} problems, {wrong} not what they must be")
    sys.exit(bool(problems or wrong or not there))


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else KILLS)
