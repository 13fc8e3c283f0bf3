"""The commands of the cache of finished work: inspect, verify, clean."""

from __future__ import annotations

from typing import Annotated

import typer

from nearfar.cli.console import FAILED, out
from nearfar.cli.flags import Command, Group
from nearfar.cli.options import Cache
from nearfar.cli.progress import shown_progress

app = typer.Typer(
    cls=Group, no_args_is_help=True, help="Inspect, verify and clean the cache of finished work."
)


@app.command(cls=Command, name="info")
def cache_info(cache: Cache = None) -> None:
    """Show what is in the cache: embeddings, finished steps, measured arithmetics, logs of tasks.

    On a computer of a cluster, also show files that came from other computers.
    """
    from nearfar.embedding import store
    from nearfar.files import cache_files, steps
    from nearfar.report import cached

    out.print(cached.embeddings(store.Store(cache).contents()))
    out.print(cached.steps(steps.Jobs(cache).finished()))
    if files := cache_files.found(cache):
        out.print(cached.files(files))


@app.command(cls=Command, name="verify")
def cache_verify(cache: Cache = None) -> None:
    """Read all embeddings and list those that are damaged. The exit code is 1 if there are any."""
    from nearfar.embedding.store import Store

    with shown_progress("Nothing was changed.") as progress:
        found = Store(cache).verify(lambda done, total: progress("verifying", done, total))
    out.print("\n".join(map(str, found)) or "All embeddings are intact.", markup=False, soft_wrap=True)
    raise typer.Exit(FAILED if found else 0)


@app.command(cls=Command, name="clean")
def cache_clean(
    encoder: Annotated[str | None, typer.Option(help="Also remove all embeddings of this encoder.")] = None,
    unused: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="DAYS",
            help="Also remove embeddings, measured arithmetics, logs of tasks, and files of other computers, that "
            "were not used for this many days.",
        ),
    ] = None,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="Also remove damaged embeddings. This reads all of them.")
    ] = False,
    cache: Cache = None,
) -> None:
    """Remove what this version of nearfar cannot use.

    These are results of other versions of its code, and what killed runs left unfinished.
    """
    from nearfar.embedding import store
    from nearfar.files import cache_files
    from nearfar.report import cached

    if damaged:
        out.print(f"Removed {len(store.Store(cache).drop_damaged())} damaged embeddings.")
    found = store.clean(cache, encoder=encoder, unused_days=unused)
    out.print(cached.removed(found, () if unused is None else cache_files.remove_unused(cache, days=unused)))
