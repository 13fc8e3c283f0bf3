"""What a notebook shows of an object: a small HTML table."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def table(caption: str, rows: Iterable[Sequence[object]], *, head: Sequence[str] = ()) -> str:
    """An HTML table; all text is escaped.

    Parameters
    ----------
    caption : str
    rows : iterable of sequences
        The first cell of each names the row.
    head : sequence of str
        Names of the columns; none: there is no head.

    Examples
    --------
    >>> from nearfar.files.notebooks import table
    >>> table("fan", [("clips", 110)])
    '<table><caption>fan</caption><tr><th>clips</th><td>110</td></tr></table>'
    """
    lines = [f"<table><caption>{_text(caption)}</caption>"]
    if head:
        lines.append(f"<tr>{''.join(f'<th>{_text(cell)}</th>' for cell in head)}</tr>")
    for first, *others in rows:
        lines.append(
            f"<tr><th>{_text(first)}</th>{''.join(f'<td>{_text(cell)}</td>' for cell in others)}</tr>"
        )
    return "".join([*lines, "</table>"])


def _text(content: object) -> str:
    return html.escape(str(content))
