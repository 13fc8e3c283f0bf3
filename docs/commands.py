"""The help of every command, asked of the program itself, so that ``cli.md`` cannot fall behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer
from typer.testing import CliRunner

from nearfar.cli import app

WIDTH = 88  # characters of a help page


def write(file: Path) -> None:
    """Write one section of Markdown for each command."""
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(_sections()))


def _sections() -> Iterator[str]:
    for name in _names():
        shown = CliRunner().invoke(
            app, [*name, "--help"], env={"COLUMNS": str(WIDTH), "NO_COLOR": "1"}, prog_name="nearfar"
        )
        if shown.exit_code:
            raise RuntimeError(f"`nearfar {' '.join(name)} --help` fails") from shown.exception
        lines = (line.rstrip() for line in shown.output.strip("\n").splitlines())
        text = "\n".join(lines).strip("\n")
        yield f"## `{' '.join(['nearfar', *name])}`\n\n```text\n{text}\n```\n"


def _names(group: object = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of each command, in the order of the help."""
    command = typer.main.get_command(app) if group is None else group
    yield path
    for word, below in getattr(command, "commands", {}).items():
        yield from _names(below, (*path, word))
