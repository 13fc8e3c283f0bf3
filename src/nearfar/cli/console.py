"""Where the commands print, and with which codes they exit."""

from __future__ import annotations

from rich.console import Console, RenderableType

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

# exit codes, beside 0 and typer's 2 for wrong usage
FAILED = 1
ANOMALOUS = 3
INTERRUPTED = 130
TERMINATED = 143


def show(table: RenderableType, json: str, *, as_json: bool) -> None:
    """Print one of two forms of the same."""
    if as_json:
        out.print_json(json)
    else:
        out.print(table)
