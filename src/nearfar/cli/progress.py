"""The progress of long work: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

import typer

from nearfar.cli.console import INTERRUPTED, TERMINATED, err, out

if TYPE_CHECKING:
    from rich.progress import TaskID

    from nearfar.systems.branches import Progress

CONTINUE = "run the same command again to continue"
MAX_SILENCE = 30.0  # seconds without a line, where no bars can be drawn
SECONDS_TO_END = 1.0  # that a last line may take


@contextmanager
def shown_progress(kept: str = "Nothing was kept.") -> Iterator[Progress]:
    """A callback (step, done, total) that draws bars on a terminal, and prints lines elsewhere.

    Parameters
    ----------
    kept : str
        A sentence for Ctrl-C and SIGTERM: what of the work was kept.
    """
    with _interruptible(kept), _bars() if err.is_terminal else _lines() as told:
        yield told


@contextmanager
def streamed_progress(kept: str = "Nothing was kept.") -> Iterator[Progress]:
    """The same beside lines on standard output: where these are seen on the terminal, they are the progress."""
    with _interruptible(kept):
        if err.is_terminal and out.is_terminal:
            yield lambda *_: None
            return
        with _bars(redirect_stdout=False) if err.is_terminal else _lines() as told:
            yield told


@contextmanager
def _interruptible(kept: str) -> Iterator[None]:
    """Ctrl-C ends the command with a sentence, and so does SIGTERM, which ``program`` turns into an exit."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"Interrupted. {kept}", markup=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    except SystemExit as ended:
        if ended.code == TERMINATED:
            err.print(f"Terminated. {kept}", markup=False, soft_wrap=True)
        raise


@dataclass
class _Step:
    """A step that is running: how far it was when it was first and last reported, and when that was."""

    first_done: int
    first_time: float
    done: int
    total: int
    time: float

    @property
    def rate(self) -> float | None:
        """Items a second since the first report; None as long as there is only one."""
        elapsed = self.time - self.first_time
        return (
            (self.done - self.first_done) / elapsed if self.done > self.first_done and elapsed > 0 else None
        )

    def seconds_left(self, now: float) -> float | None:
        """At this rate; None if that is not known yet."""
        if self.rate is None:
            return None
        since = min((now - self.time) * self.rate, 1.0)  # what is done of the next item, at most all of it
        return (self.total - self.done - since) / self.rate


class ProgressLines:
    """Progress as lines of a log: each finished step, and where the work stands whenever it was silent for long.

    Parameters
    ----------
    write : callable(line)
    clock : callable
        Seconds since whenever.
    max_silence : float
        Seconds after which ``report`` has something to say.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        *,
        clock: Callable[[], float] = time.monotonic,
        max_silence: float = MAX_SILENCE,
    ) -> None:
        self._write, self._clock, self._max_silence = write, clock, max_silence
        self._running: dict[str, _Step] = {}
        self._begun = self._line_time = clock()
        self._lock = Lock()  # the steps are told by one thread, and reported by another

    def __call__(self, step: str, done: int, total: int) -> None:
        """Take note of what is done of a step, and print that it is finished."""
        with self._lock:
            now = self._clock()
            if done >= total:
                self._running.pop(step, None)
                self._print(f"{step}: {total} done")
                return
            known = self._running.setdefault(step, _Step(done, now, done, total, now))
            known.done, known.total, known.time = done, total, now

    def report(self) -> None:
        """Print where the work stands, if there was no line for so long."""
        with self._lock:
            if self.silence < self._max_silence:
                return
            now = self._clock()
            latest = max((step.time for step in self._running.values()), default=0.0)
            since = min(latest, self._line_time)  # steps told since the last line; if none, the one told last
            told = [_line(name, step, now) for name, step in self._running.items() if step.time >= since]
            self._print("; ".join(told) or f"still working, {_duration(now - self._begun)} so far")

    @property
    def silence(self) -> float:
        """Seconds since the last line."""
        return self._clock() - self._line_time

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Report from a thread of its own as long as the body runs, because an item can take minutes."""
        ended = Event()
        thread = Thread(target=self._report_until, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(SECONDS_TO_END)

    def _report_until(self, ended: Event) -> None:
        if hasattr(
            signal, "pthread_sigmask"
        ):  # leave Ctrl-C to the main thread, which may have to put it off
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        while not ended.wait(max(0.0, self._max_silence - self.silence)):
            try:
                self.report()
            except OSError:  # nobody reads; the main thread will notice at its next line
                return

    def _print(self, line: str) -> None:
        self._line_time = self._clock()
        self._write(line)


def _line(name: str, step: _Step, now: float) -> str:
    left = step.seconds_left(now)
    return f"{name}: {step.done} of {step.total}" + (
        "" if left is None else f", about {_duration(left)} left"
    )


def _duration(seconds: float) -> str:
    """In the unit that makes a number of one to three digits."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.0f} h"


@contextmanager
def _lines() -> Iterator[Progress]:
    lines = ProgressLines(lambda line: err.print(line, markup=False, soft_wrap=True), max_silence=MAX_SILENCE)
    with lines.reporting():
        yield lines


@contextmanager
def _bars(*, redirect_stdout: bool = True) -> Iterator[Progress]:
    """A bar for each step: how many items are done, how many a second, and the time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    bars: dict[str, tuple[TaskID, _Step]] = {}
    with Progress(*columns, console=err, transient=True, redirect_stdout=redirect_stdout) as drawn:
        working = drawn.add_task("working", total=None, rate="")  # seen while no step has a bar

        def told(step: str, done: int, total: int) -> None:
            now = time.monotonic()
            if step not in bars:
                bars[step] = drawn.add_task(step, rate=""), _Step(done, now, done, total, now)
            bar, known = bars[step]
            known.done, known.time = done, now
            drawn.update(bar, completed=done, total=total, rate=f"{known.rate:.3g}/s" if known.rate else "")
            if done >= total:
                drawn.remove_task(bars.pop(step)[0])
            drawn.update(working, visible=not bars)

        yield told
