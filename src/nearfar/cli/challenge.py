"""The command of the challenge: its package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearfar.cli.console import FAILED, out


def submit(
    results: Annotated[list[Path] | None, typer.Argument(metavar="RESULT...", help="Result folders.")] = None,
    package: Annotated[Path | None, typer.Option("--out", "-o", help="The package, a new zip file.")] = None,
    label: Annotated[str, typer.Option(help="LASTNAME_INSTITUTE_task2_N.")] = "",
    meta: Annotated[Path | None, typer.Option(help="Who and how: a YAML or TOML file.")] = None,
    report: Annotated[Path | None, typer.Option(help="The technical report, a PDF.")] = None,
    check: Annotated[Path | None, typer.Option(metavar="PACKAGE", help="Check this one instead.")] = None,
) -> None:
    """Write the challenge's package from results, or check one: every rule, every problem."""
    from nearfar.challenge import schema, write
    from nearfar.challenge.check import check as problems_of

    if check is not None:
        found = problems_of(check)
        out.print("\n".join(found) or f"{check}: no problems", soft_wrap=True)
        raise typer.Exit(FAILED if found else 0)
    if not (results and package and meta and label):
        raise typer.BadParameter("needs RESULT..., --out, --label and --meta; or --check PACKAGE")
    entry = write.Entry(label, results, schema.read_meta(meta), report)
    write.write([entry], package)
    out.print(f"wrote {package}; it keeps every rule that `nearfar submit --check` knows", soft_wrap=True)
