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
    from nearfar.export.labelled import Labelled
    from nearfar.export.parity import Parity


def table(found: Exported, labelled: Labelled | None = None) -> Table:
    """What was written, what it takes, how close it is, and what 8 bits cost on labelled clips."""
    rows = Table(Column(no_wrap=True), "", show_header=False, title=f"Export of {printable(found.machine)}")
    for name, text in [*_rows(found), *([] if labelled is None else _of_labelled(labelled))]:
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
        (
            "score",
            f"differs by {parity.largest_score:.1e} at most (relative; {_bound(found)}){_silence(parity)}",
        ),
    ]
    if not math.isnan(parity.largest_p_value):
        rows.append(("p-value", f"differs by {parity.largest_p_value:.1e} at most (relative)"))
        rows.append(("decisions", f"{parity.changed_decisions} of {len(parity.heard)} change"))
    rows.append(("left out", "\n".join(found.left_out)))
    return rows + [("weights", notice) for notice in found.notices]


def _bound(found: Exported) -> str:
    return f"bound {found.parity.bound:g}" if found.arithmetic == "float32" else "in 8 bits without a bound"


def _silence(parity: Parity) -> str:
    """What a silent microphone changes, whose scores are less exact in the detector, too."""
    if not (found := parity.largest_score_of_silence):
        return ""
    return f"; with a silent channel by {found:.1e}"


def _of_labelled(found: Labelled) -> list[tuple[str, str]]:
    """What 8 bits cost, beside float32."""
    changed = "" if found.changed_decisions is None else f"; {found.changed_decisions} decisions change"
    before, after = (100 * omega for omega in found.omega)
    rows = [
        ("8 bits on", f"{found.clips} labelled clips, {found.anomalies} of them anomalous"),
        ("Omega", f"{after:.2f}, in float32 {before:.2f}: {-found.lost_points:+.2f} points"),
        ("scores", f"differ by {found.largest_difference:.1e} at most (relative){changed}"),
        ("size", f"{found.size[1] / 1e6:.2f} MB, in float32 {found.size[0] / 1e6:.2f} MB"),
        ("time", "{1:.1f} ms a clip on one core, in float32 {0:.1f} ms".format(*found.milliseconds)),
    ]
    return rows + ([] if found.warning is None else [("warning", found.warning)])


def _channels(count: int) -> str:
    return "1 channel (near)" if count == 1 else f"{count} channels (near, far)"


def to_json(found: Exported, labelled: Labelled | None = None) -> str:
    """The same as JSON."""
    return json.dumps(found.contents() | ({} if labelled is None else {"labelled": labelled.contents()}))
