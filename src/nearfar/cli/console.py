"""Consoles for output and errors, and the exit codes."""

from __future__ import annotations

from rich.console import Console, RenderableType

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

# exit codes; typer has 0 for success and 2 for wrong usage
FAILED = 1
ANOMALOUS = 3
INTERRUPTED = 130
TERMINATED = 143


def show(table: RenderableType, json: str, *, as_json: bool) -> None:
    """Print a table, or its content as JSON."""
    if as_json:
        out.print_json(json)
    else:
        out.print(table)
