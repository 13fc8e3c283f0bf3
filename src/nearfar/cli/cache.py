"""The commands of the cache: what is kept of finished work."""

from __future__ import annotations

from typing import Annotated

import typer

from nearfar.cli.console import FAILED, out
from nearfar.cli.options import Cache
from nearfar.cli.progress import shown_progress

app = typer.Typer(
    no_args_is_help=True, help="What is kept of finished work: look at it, verify it, clean it."
)


@app.command("info")
def cache_info(cache: Cache = None) -> None:
    """What is in the cache: embeddings by what made them, and finished steps."""
    from nearfar.embedding import store
    from nearfar.files import steps
    from nearfar.report import cached

    out.print(cached.embeddings(store.Store(cache).contents()))
    out.print(cached.steps(steps.Jobs(cache).finished()))


@app.command("verify")
def cache_verify(cache: Cache = None) -> None:
    """Read all embeddings, and list those that are damaged. Exit code 1 if there are any."""
    from nearfar.embedding.store import Store

    with shown_progress("Nothing was changed.") as progress:
        found = Store(cache).verify(lambda done, total: progress("verifying", done, total))
    out.print("\n".join(map(str, found)) or "all embeddings are whole", markup=False, soft_wrap=True)
    raise typer.Exit(FAILED if found else 0)


@app.command("clean")
def cache_clean(
    encoder: Annotated[str | None, typer.Option(help="Also all embeddings of this encoder.")] = None,
    unused: Annotated[
        float | None,
        typer.Option(min=0, metavar="DAYS", help="Also embeddings that nobody used for so long."),
    ] = None,
    damaged: Annotated[bool, typer.Option("--damaged", help="Also damaged embeddings: reads all.")] = False,
    cache: Cache = None,
) -> None:
    """Remove what this version cannot use, because other code made it or a killed run left it unfinished."""
    from nearfar.embedding import store
    from nearfar.report import cached

    if damaged:
        out.print(f"removed {len(store.Store(cache).drop_damaged())} damaged embeddings")
    out.print(cached.removed(store.clean(cache, encoder=encoder, unused_days=unused)))
