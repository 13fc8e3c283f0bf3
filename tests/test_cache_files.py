"""What lies in a cache beside embeddings and steps is shown, and goes when it was not used for long."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nearfar.cli import app
from nearfar.files import cache_files
from nearfar.files.steps import Jobs
from nearfar.places.task_logs import log_of, logged

DAYS = 3


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """With one file of each kind, and a finished step."""
    with logged(log_of(tmp_path, "nearfar.research.experiment", "fan"), "fan"):
        pass
    for name, size in ((f"{cache_files.MEASURED}/a.json", 30), (f"{cache_files.SHIPPED}/ab/abc/x.wav", 5)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(bytes(size))
    Jobs(tmp_path).do("a-step", {}, lambda _: None, made_by=["nearfar.files.names"])
    return tmp_path


def sizes(cache: Path) -> dict[str, int]:
    return {file.kind: file.size for file in cache_files.found(cache)}


def test_all_kinds_are_found(cache: Path) -> None:
    log = cache / "logs" / "experiment" / "fan.log"
    assert sizes(cache) == {
        "measured arithmetics": 30,
        "logs of tasks": log.stat().st_size,
        "files of other computers": 5,
    }
    assert all(0 <= file.unused_days < 0.1 for file in cache_files.found(cache))


def test_what_was_not_used_for_long_goes_and_nothing_else(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.time() + DAYS * cache_files.A_DAY
    read = cache / cache_files.MEASURED / "a.json"
    os.utime(read, (later, 0))
    monkeypatch.setattr(time, "time", lambda: later)
    assert cache_files.remove_unused(cache, days=DAYS + 1) == []
    removed = cache_files.remove_unused(cache, days=DAYS - 0.1)
    assert {file.kind for file in removed} == {"logs of tasks", "files of other computers"}
    assert sizes(cache) == {"measured arithmetics": 30}
    assert {path.name for path in cache.iterdir()} == {cache_files.MEASURED, "jobs"}
    assert len(Jobs(cache).finished()) == 1


def test_an_empty_cache_has_none(tmp_path: Path) -> None:
    assert cache_files.found(tmp_path / "none") == cache_files.remove_unused(tmp_path / "none", days=0) == []


def test_the_command_line_shows_and_removes_them(cache: Path) -> None:
    def invoke(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["cache", *arguments, "--cache", str(cache)])
        assert done.exit_code == 0
        return done.output

    shown = invoke("info")
    assert all(kind in shown for kind in cache_files.KINDS.values())
    assert "logs of tasks" not in invoke("clean")
    assert len(sizes(cache)) == len(cache_files.KINDS)
    assert all(kind in invoke("clean", "--unused", "0") for kind in ["logs of tasks"])
    assert sizes(cache) == {}
    assert "Further files" not in invoke("info")
