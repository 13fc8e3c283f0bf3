"""The command that tells slow changes over days."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearfar.cli.console import ANOMALOUS, out, show

FalseRate = Annotated[
    float,
    typer.Option(
        help="How often a drift may be found by mistake, in any of the quantities, whatever the days."
    ),
]
Block = Annotated[
    float | None,
    typer.Option(
        metavar="HOURS",
        help="Hours that become one value; what returns in every block is taken out. 168 takes out weekends "
        "(default: 24; more days if there would be more than 120 values).",
    ),
]
Every = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Seconds from one row to the next, for clips in order whose tables have no clock time.",
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="QUANTITY",
        help="Test only this: score, near_dbfs, far_dbfs, near_over_far, coherence, near_tilt or far_tilt. May be "
        "repeated. The fewer are tested, the smaller changes are found.",
    ),
]


def drift(
    detector: Annotated[Path, typer.Argument(help="Folder of a detector.")],
    scores: Annotated[
        list[Path],
        typer.Argument(
            help="Tables of its scores over days, as `nearfar score --csv` or --json prints them, in any order; - "
            "for one on stdin."
        ),
    ],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, one line per quantity.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    false_rate: FalseRate = 0.05,
    block: Block = None,
    every: Every = None,
    only: Only = None,
    fail_on_drift: Annotated[
        bool, typer.Option("--fail-on-drift", help="Exit with code 3 if there is a drift.")
    ] = False,
) -> None:
    """Tell whether scores, microphones and levels change slowly, over days.

    A fault that comes suddenly is no drift: it is told as a sudden change.
    """
    from nearfar.detector import drifting
    from nearfar.report import drifts

    if as_csv and as_json:
        raise typer.BadParameter("give either --csv or --json, not both")
    found = drifting.drift(detector, scores, false_rate=false_rate, block=block, every=every, only=only or ())
    if as_csv:
        out.file.write(drifts.csv_text(found))
    else:
        show(drifts.table(found), drifts.json_text(found), as_json=as_json)
    raise typer.Exit(ANOMALOUS if fail_on_drift and "drift" in found.kinds else 0)
