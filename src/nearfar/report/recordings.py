"""Problems of a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Column, Table
from rich.text import Text

from nearfar.files.names import printable

if TYPE_CHECKING:
    import pandas as pd


def problems(found: pd.DataFrame) -> Table | Text:
    """The problems that ``nearfar check`` found, one per row."""
    if found.empty:
        return Text("No problems.")
    columns = (Column(name, overflow="fold") for name in found.columns)  # names of clips differ at their ends
    table = Table(*columns, title="1 problem" if len(found) == 1 else f"{len(found)} problems")
    for row in found.itertuples(index=False):
        table.add_row(*(Text(printable(str(value))) for value in row))
    return table
