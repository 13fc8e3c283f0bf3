"""Consoles for output and errors, and the exit codes."""

from __future__ import annotations

import sys
from json import loads
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from nearfar.files.names import ERRORS, printable

out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)

# exit codes; typer has 0 for success and 2 for wrong usage
FAILED = 1
ANOMALOUS = 3
INTERRUPTED = 130
TERMINATED = 143


def say(text: str, console: Console = out) -> None:
    """Print text as it is: brackets in a path are no markup. A name that cannot be printed is escaped."""
    console.print(Text(printable(text)), soft_wrap=True)


def escape_what_cannot_be_encoded() -> None:
    """Let no character end the program because the terminal, or the file that is written to, does not have it."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ERRORS)


def show(table: RenderableType, json: str, *, as_json: bool) -> None:
    """Print a table, or its content as JSON."""
    if as_json:
        out.print_json(data=_printable(loads(json)))
    else:
        out.print(table)


def _printable(content: Any) -> Any:
    """JSON in which names that cannot be printed are escaped."""
    match content:
        case str():
            return printable(content)
        case list():
            return [_printable(each) for each in content]
        case dict():
            return {printable(key): _printable(value) for key, value in content.items()}
    return content
