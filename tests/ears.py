"""What hears a source in tests, as the watcher does: in a thread, one recording after the other, to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nearfar.recordings.blocks import Lost, length_of
from nearfar.watching.sources import Arrival, Ear

PATIENCE = 300.0  # seconds: far more than anything takes, also on a computer that has much other work
STOPPED = 30.0  # seconds: no source waits that long without a look whether it is to stop


@dataclass(eq=False)
class Hearing:
    """A recording, and what was heard of it so far."""

    arrival: Arrival
    blocks: list[Any] = field(default_factory=list)
    is_ended: bool = False

    @property
    def length(self) -> int:
        return sum(map(length_of, list(self.blocks)))

    @property
    def lost(self) -> list[Lost]:
        return [block for block in list(self.blocks) if isinstance(block, Lost)]

    @property
    def sound(self) -> np.ndarray:
        """All that was heard, NaN where samples are lost: (channels, samples)."""
        there = [block for block in self.blocks if not isinstance(block, Lost)]
        channels = len(there[0]) if there else 1
        return np.concatenate(
            [
                np.full((channels, block.samples), np.nan, np.float32) if isinstance(block, Lost) else block
                for block in self.blocks
            ]
            or [np.empty((1, 0), np.float32)],
            axis=1,
        )


class Listener:
    """Hears a source until it is told to stop."""

    def __init__(self, source: Any, *, finished: set[str] | None = None, **ear: Any) -> None:
        self.heard: list[Hearing] = []
        self.heard_at: list[float] = []
        self.finished = set() if finished is None else finished
        self.error: BaseException | None = None
        self.is_done = False
        self.may_take = threading.Event()
        self.may_take.set()
        self._stop = threading.Event()
        self._source = source
        self.ear = Ear(
            **{
                "is_finished": self.finished.__contains__,
                "stopping": self._stop.is_set,
                "sleep": self._stop.wait,
                "now": time.time,
                "heard": self.heard_at.append,
                **ear,
            }
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            for arrival in self._source.arrivals(self.ear):
                hearing = Hearing(arrival)
                self.heard.append(hearing)
                if arrival.stream is not None:
                    for block in arrival.stream.recorded.blocks(0):
                        hearing.blocks.append(block)
                        while not self.may_take.wait(0.05) and not self._stop.is_set():
                            pass
                if not self._stop.is_set():
                    hearing.is_ended = True
                    self.finished.add(arrival.key)
        except BaseException as error:
            self.error = error
        self.is_done = True

    def start(self) -> None:
        self._thread.start()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until it holds; fail if it does not in a long time."""
        end = time.monotonic() + PATIENCE
        while not condition():
            if self.error is not None:
                raise AssertionError(f"waited until {what}") from self.error
            assert time.monotonic() < end, f"waited until {what}; heard {self.heard}"
            time.sleep(0.005)

    def until_ended(self, count: int = 1) -> None:
        self.until(lambda: sum(one.is_ended for one in self.heard) >= count, f"{count} recordings have ended")

    def until_error(self) -> BaseException:
        end = time.monotonic() + PATIENCE
        while self.error is None:
            assert time.monotonic() < end, "waited for an error"
            time.sleep(0.005)
        return self.error

    def stop(self) -> float:
        """Stop; how long that took, in seconds."""
        begun = time.monotonic()
        self._stop.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "it does not stop"
        return time.monotonic() - begun


@contextmanager
def listening(source: Any, **options: Any) -> Iterator[Listener]:
    """A listener in a thread, as long as the body runs; then it must stop, whatever it waits for."""
    listener = Listener(source, **options)
    listener.start()
    try:
        yield listener
    finally:
        listener.may_take.set()
        took = listener.stop()
    assert took < STOPPED, f"it took {took:.1f} s to stop"


def noise(frames: int, channels: int = 2, *, seed: int = 0) -> np.ndarray:
    """16-bit noise: (samples, channels)."""
    return np.random.default_rng(seed).integers(-20000, 20000, (frames, channels), dtype=np.int16)


def as_samples(frames: np.ndarray) -> np.ndarray:
    """What 16-bit frames are as samples, said once more: (channels, samples)."""
    return (frames.astype(np.float64) / 32768).T
