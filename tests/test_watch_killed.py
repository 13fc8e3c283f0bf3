"""Watching that is killed at random moments ends with the logbook of an unbroken run."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from watched import Logbook, evidence_is_made_here, site_of, watch, write_site  # noqa: F401

KILLS = 8

pytestmark = pytest.mark.slow


def watch_it(place: Path, state: Path) -> None:
    watch(site_of(place, state))


def test_kills_at_random_moments_change_nothing(tmp_path: Path) -> None:
    """As ``benchmarks/kill_watch.py`` does it with the command line, 200 times."""
    write_site(tmp_path)
    began = time.monotonic()
    watch_it(tmp_path, tmp_path / "whole.db")
    seconds, whole = time.monotonic() - began, Logbook.of(tmp_path / "whole.db").lasting()
    context, rng, killed, state = (
        multiprocessing.get_context("fork"),
        random.Random(0),
        0,
        tmp_path / "state.db",
    )
    for _ in range(KILLS):
        process = context.Process(target=watch_it, args=(tmp_path, state))
        process.start()
        process.join(rng.uniform(0, 0.4 * seconds))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:  # it had come to its end: begin again
            assert Logbook.of(state).lasting() == whole
            for one in (*tmp_path.glob("state.db*"), tmp_path / "state-sounds"):
                shutil.rmtree(one) if one.is_dir() else one.unlink()
    assert killed > KILLS // 3
    watch_it(tmp_path, state)
    found = Logbook.of(state).lasting()
    for name, rows in whole.items():
        assert found[name] == rows, name
    sounds = [
        {one.name: one.read_bytes() for one in (tmp_path / f"{name}-sounds").iterdir()}
        for name in ("state", "whole")
    ]
    assert sounds[0] == sounds[1]
