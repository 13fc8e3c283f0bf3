"""The command that serves the logbook by HTTP, with its pages; and who may ask."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nearfar.cli.console import err, out, say

if TYPE_CHECKING:
    from nearfar.watching.site import Site

SiteFile = Annotated[
    Path,
    typer.Argument(
        metavar="SITE.toml",
        help="The file of a site; of one machine, or of a replay, the one that `nearfar watch` names.",
    ),
]
Host = Annotated[
    str | None,
    typer.Option(
        help="Address to listen on (default: as the file says, else 127.0.0.1). Any but this computer's own "
        "needs a token."
    ),
]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Port; 0 takes a free one (default: as the file says, else 8765)."),
]
AddToken = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Make a token for this person or program, show it once, and end."),
]
Role = Annotated[
    Literal["operator", "reader"] | None,
    typer.Option(help="With --add-token: what it allows; a reader acts on nothing (default: operator)."),
]
RemoveToken = Annotated[str | None, typer.Option(metavar="NAME", help="Take back a token, and end.")]
Tokens = Annotated[bool, typer.Option("--tokens", help="List who has a token, and end.")]


def serve(
    site: SiteFile,
    host: Host = None,
    port: Port = None,
    add_token: AddToken = None,
    role: Role = None,
    remove_token: RemoveToken = None,
    tokens: Tokens = False,
) -> None:
    """Serve the logbook of a site by HTTP: pages for people, an interface for programs.

    It reads what `nearfar watch` writes, while that runs or afterwards. Ctrl-C ends it.
    """
    from nearfar.watching.site import load

    asked = [add_token is not None, remove_token is not None, tokens]
    if sum(asked) > 1:
        raise typer.BadParameter("give one of --add-token, --remove-token and --tokens")
    if role is not None and add_token is None:
        raise typer.BadParameter("--role is for --add-token; give that, too, or leave it out")
    loaded = load(site)
    if any(asked):
        _tokens(loaded, add_token, role or "operator", remove_token)
        return
    from nearfar.serving.run import serve as run

    run(loaded, host=host, port=port, told=lambda text: say(text, err))


def _tokens(site: Site, add: str | None, role: Literal["operator", "reader"], remove: str | None) -> None:
    """Make, take back or list tokens."""
    from nearfar.logbook import tokens
    from nearfar.logbook.database import Database
    from nearfar.report import watched

    database = Database.open(site.state)
    try:
        if add is not None:
            with database.writing() as c:
                made = tokens.make(c, add, role, now=time.time())
            say(f"The token of {add} ({role}), which is shown only now:", err)
            say(made)
        elif remove is not None:
            with database.writing() as c:
                if not tokens.remove(c, remove):
                    raise ValueError(f"no token of {remove!r}; `--tokens` lists who has one")
            say(f"{remove} has no token any more", err)
        else:
            with database.reading() as c:
                out.print(watched.tokens(tokens.names(c), site.time_zone))
    finally:
        database.close()
