"""What was fitted or loaded: a detector, an adapter, pretrained weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nearfar.files.names import printable

if TYPE_CHECKING:
    from nearfar.detector.fitted import Detector
    from nearfar.encoders.weights import Likeness, Verified
    from nearfar.training.adapters import Adapter


SHOWN = 5  # clips that a table names; it counts the others


def detector(fitted: Detector) -> Table:
    """What was fitted, to which clips, and how the detector decides."""
    table = Table(show_header=False, title=escape(printable(f"Detector of '{fitted.machine}'")))
    known, limit = fitted.trained_on, fitted.describe_threshold()
    domains = ", ".join(f"{n} {domain}" for domain, n in known["domains"].items())
    table.add_row("system", escape(f"{fitted.system.name}: {fitted.system.summary}"))
    table.add_row(
        "fitted to",
        f"{known['clips']} normal clips ({domains}) of {known['channels']} channels at {known['rate']} Hz",
    )
    if known["left_out"]:
        table.add_row("left out", _listed(known["left_out"]))
    if known["faults"]:
        table.add_row("warning", "; ".join(f"{f} in {n} clips" for f, n in known["faults"].items()))
    if known["unlike"]:
        table.add_row("unlike the others", _listed(known["unlike"]))
    if limit is None:
        table.add_row("decision", "none: the detector has no threshold")
        return table
    table.add_row(
        "decision",
        f"anomaly if the score is above {limit['value']:.4g}. This threshold comes from {limit['normal_clips']:g} "
        "normal clips that the fit did not use. Of other normal clips like these, the detector flags at most "
        f"{limit['false_alarm_rate']:.1%} by mistake."
        + (f" No p-value is below {limit['smallest_p_value']:.2g}." if limit["smallest_p_value"] else ""),
    )
    return table


def _listed(suspects: Sequence[Mapping[str, str]]) -> Text:
    """The first clips and what is wrong with them, and how many more there are."""
    lines = [f"{suspect['clip']}: {suspect['message']}" for suspect in suspects[:SHOWN]]
    if len(suspects) > SHOWN:
        kinds = Counter(suspect["kind"] for suspect in suspects)
        counts = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        lines.append(f"... {len(suspects)} clips in all: {counts}")
    return Text("\n".join(lines))


def adapter(made: Adapter) -> Table:
    """What an adapter was trained on, and how many parameters it has."""
    machines = made.made_with["machines"]
    table = Table(box=None, show_header=False)
    table.add_row("adapter for", f"{made.made_with['encoder']}, blocks {made.made_with['blocks']}")
    table.add_row("machines", escape(", ".join(machines)))
    table.add_row("normal clips", str(sum(machine["clips"] for machine in machines.values())))
    table.add_row("parameters", f"{sum(array.size for array in made.arrays.values()):,}")
    table.add_row("seed", str(made.made_with["seed"]))
    return table


def verified(name: str, found: Verified) -> Text:
    """That weights load and have not changed, and which file they are."""
    published = {
        True: "as published",
        False: "not the published file",
        None: "the checksum of the published file is not known",
    }
    return Text(
        f"{name}: loads ({found.parameters:,} parameters); unchanged since it was added; "
        f"{published[found.as_published]}\n{found.path}\nSHA-256 {found.sha256}"
    )


def likeness(found: Likeness) -> Text:
    """How much tokens differ from those of the authors' program."""
    return Text(
        f"Largest difference from the authors' tokens: {found.largest:.3g} (standard deviation of the tokens: "
        f"{found.deviation:.3g}); correlation: {found.correlation:.6f}"
    )
