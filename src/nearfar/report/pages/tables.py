"""Tables of a page: they sort, and their numbers can be saved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nearfar.report.pages.text import file_stem, number

HEAT_LEVELS = 10  # colours of a heat column beyond the first


@dataclass(frozen=True, slots=True)
class Link:
    """A text that leads to an element of the same page, or of another file.

    Attributes
    ----------
    text : str
    target : str
        Identifier of an element of this page; never made from a name.
    """

    text: str
    target: str


Cell = str | float | None | Link


@dataclass(frozen=True, slots=True)
class Column:
    """What a column holds, and how it is shown.

    Attributes
    ----------
    name : str
    kind : {"text", "number", "heat"}
        The cells of a "heat" column are coloured by their number.
    digits : int or None
        Behind the decimal point; None: three significant ones.
    unit : str
    low, high : float
        Numbers with the first and the last colour of a heat column.
    percent : bool
        The numbers are shares and shown in percent.
    """

    name: str
    kind: Literal["text", "number", "heat"] = "text"
    digits: int | None = None
    unit: str = ""
    low: float = 0.0
    high: float = 1.0
    percent: bool = False

    def shown(self, cell: Cell) -> str:
        """The text of a cell."""
        if isinstance(cell, Link):
            return cell.text
        if cell is None or isinstance(cell, str):
            return number(None) if cell is None else cell
        return number(100 * cell, self.digits, "%") if self.percent else number(cell, self.digits, self.unit)

    def key(self, cell: Cell) -> str | float | None:
        """What the cell is sorted by, and saved as; None: not known, which comes last."""
        if isinstance(cell, Link):
            return cell.text
        if isinstance(cell, str) or cell is None:
            return cell
        return None if math.isnan(cell) else float(cell)

    def sorted_by(self, cell: Cell) -> str:
        """The same for the attribute of a cell: empty if not known."""
        key = self.key(cell)
        return "" if key is None else str(key)

    def heat(self, cell: Cell) -> int | None:
        """Which colour, from 0 to ``HEAT_LEVELS``; None for no colour."""
        if self.kind != "heat" or cell is None or isinstance(cell, str | Link) or math.isnan(cell):
            return None
        share = (cell - self.low) / (self.high - self.low) if self.high > self.low else 0.0
        return round(HEAT_LEVELS * min(max(share, 0.0), 1.0))


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a title.

    Attributes
    ----------
    title : str
    columns : sequence of Column
    rows : sequence of sequence of Cell
    note : str
        A sentence below it.

    Examples
    --------
    >>> from nearfar.report.pages.tables import Column, Table
    >>> table = Table("AUC", [Column("machine"), Column("AUC", "heat", 2, low=0.5)], [["fan", 0.75]])
    >>> [column.shown(cell) for column, cell in zip(table.columns, table.rows[0])]
    ['fan', '0.75']
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"a row of {len(row)} cells in the table '{self.title}': must be {len(self.columns)}, one of "
                    "each column"
                )

    @property
    def file(self) -> str:
        """Name of the file that its numbers are saved to, without suffix."""
        return file_stem(self.title)

    @property
    def numbers(self) -> dict[str, object]:
        """Columns and rows, as they are saved."""
        heads = [f"{column.name} ({column.unit})" if column.unit else column.name for column in self.columns]
        return {
            "columns": heads,
            "rows": [[c.key(cell) for c, cell in zip(self.columns, row, strict=True)] for row in self.rows],
        }
