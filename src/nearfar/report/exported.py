"""A detector that was exported, and how it differs from the file."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from rich.table import Column, Table
from rich.text import Text

from nearfar.files.names import printable

if TYPE_CHECKING:
    from nearfar.export.exporting import Exported


def table(found: Exported) -> Table:
    """What was written, what it takes, and how close it is."""
    rows = Table(Column(no_wrap=True), "", show_header=False, title=f"Export of {printable(found.machine)}")
    for name, text in _rows(found):
        rows.add_row(name, Text(text))
    return rows


def _rows(found: Exported) -> list[tuple[str, str]]:
    rate, parity = found.rate, found.parity
    length = (
        f"any, from {found.least_samples / rate:.3g} s"
        if found.samples is None
        else f"fixed: {found.samples / rate:g} s ({found.samples:,} samples)"
    )
    compared = f"{parity.own} clips of its own, {len(parity.heard) - parity.own} made sounds"
    rows = [
        ("system", found.system),
        ("file", f"{found.size / 1e6:.2f} MB, {found.nodes} nodes, opset {found.opset}, {found.arithmetic}"),
        ("takes", f"{_channels(found.channels)} at {rate} Hz, float32"),
        ("length", length),
        ("compared on", compared + (f"; {len(parity.unscored)} have no score" if parity.unscored else "")),
        ("score", f"differs by {parity.largest_score:.1e} at most (relative; bound {parity.bound:g})"),
    ]
    if not math.isnan(parity.largest_p_value):
        rows.append(("p-value", f"differs by {parity.largest_p_value:.1e} at most (relative)"))
        rows.append(("decisions", f"{parity.changed_decisions} of {len(parity.heard)} change"))
    rows.append(("left out", "\n".join(found.left_out)))
    return rows + [("weights", notice) for notice in found.notices]


def _channels(count: int) -> str:
    return "1 channel (near)" if count == 1 else f"{count} channels (near, far)"


def to_json(found: Exported) -> str:
    """The same as JSON."""
    return json.dumps(found.contents())
