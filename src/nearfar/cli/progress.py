"""The progress of long work: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from nearfar.cli.console import INTERRUPTED, err

if TYPE_CHECKING:
    from nearfar.systems.branches import Progress


@contextmanager
def shown_progress(kept: str = "nothing is kept") -> Iterator[Progress]:
    """A callback (step, done, total) that draws bars on a terminal, and prints finished steps elsewhere.

    A bar tells how many are done, how many a second, and the time left. ``kept`` is what Ctrl-C tells.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    speed = TextColumn("{task.fields[rate]}")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        speed,
        TimeRemainingColumn(),
    )
    bars: dict[
        str, tuple[TaskID, int, float]
    ] = {}  # with how many were done when it appeared, and when that was
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as drawn:

        def told(step: str, done: int, total: int) -> None:
            if not err.is_terminal:
                if done == total:
                    err.print(f"{step}: {total} done", soft_wrap=True)
                return
            if step not in bars:
                bars[step] = drawn.add_task(step, rate=""), done, time.monotonic()
            bar, before, begun = bars[step]
            rate = f"{(done - before) / (time.monotonic() - begun):.3g}/s" if done > before else ""
            drawn.update(bar, completed=done, total=total, rate=rate)
            if done >= total:
                drawn.remove_task(bars.pop(step)[0])

        try:
            yield told
        except KeyboardInterrupt:
            drawn.stop()
            err.print(f"interrupted; {kept}")
            raise typer.Exit(INTERRUPTED) from None
