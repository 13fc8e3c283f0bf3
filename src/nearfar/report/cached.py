"""What is in the cache, and what was removed from it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

if TYPE_CHECKING:
    from nearfar.embedding.store import Content, Removed
    from nearfar.files.cache_files import CacheFile
    from nearfar.files.steps import Job


def embeddings(contents: Iterable[Content]) -> Table | Text:
    """What the embedding store has, by what made it; ``code`` is the digest of the code that is here."""
    known = list(contents)
    if not known:
        return Text("No embeddings.")
    words = [Column(h, overflow="fold") for h in ("encoder", "options", "weights", "precision", "microphone")]
    numbers = [Column(heading, justify="right") for heading in ("embeddings", "MB", "days unused")]
    table = Table(*words, *numbers, "code", title="Embeddings")
    for c in known:
        made = c.origin
        named = (made.encoder, json.dumps(dict(made.options)), (made.weights or "none")[:8], made.precision)
        counted = (f"{c.entries:,}", f"{c.size / 1e6:,.1f}", f"{c.unused_days:.0f}")
        table.add_row(*map(escape, named), made.microphone, *counted, _whose(c))
    table.caption = (
        "Embeddings of other code cannot be used by this version; `nearfar cache clean` removes them."
    )
    return table


def steps(jobs: Iterable[Job]) -> Table | Text:
    """The finished steps in a cache; ``code`` is the digest of the code that is here."""
    sizes: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for job in jobs:
        sizes[job.step, _whose(job)].append(job.size)
    if not sizes:
        return Text("No finished steps.")
    numbers = [Column(heading, justify="right") for heading in ("finished", "MB")]
    table = Table("step", "code", *numbers, title="Finished steps")
    for (step, whose), of_step in sorted(sizes.items()):
        table.add_row(escape(step), whose, f"{len(of_step):,}", f"{sum(of_step) / 1e6:,.1f}")
    return table


def files(kept: Collection[CacheFile]) -> Table:
    """What else is in a cache."""
    headings = ("number", "MB", "days unused")
    table = Table("files", *(Column(heading, justify="right") for heading in headings), title="Further files")
    for kind, count, size in _by_kind(kept):
        least = min(file.unused_days for file in kept if file.kind == kind)
        table.add_row(kind, f"{count:,}", f"{size / 1e6:,.1f}", f"{least:.0f}")
    return table


def _by_kind(kept: Iterable[CacheFile]) -> list[tuple[str, int, int]]:
    """Of each kind, how many and their bytes."""
    sizes: defaultdict[str, list[int]] = defaultdict(list)
    for file in kept:
        sizes[file.kind].append(file.size)
    return [(kind, len(of_kind), sum(of_kind)) for kind, of_kind in sizes.items()]


def _whose(made: Content | Job) -> str:
    return "this" if made.is_current else "other"


def removed(found: Iterable[Removed], files: Iterable[CacheFile] = ()) -> Table:
    """What was removed: embeddings and steps, and other files."""
    table = Table("removed", Column("number", justify="right"), Column("MB", justify="right"))
    for r in found:
        table.add_row(r.what, f"{r.count:,}", f"{r.size / 1e6:,.1f}")
    for kind, count, size in _by_kind(files):
        table.add_row(kind, f"{count:,}", f"{size / 1e6:,.1f}")
    return table
