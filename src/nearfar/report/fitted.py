"""What was fitted or loaded: a detector, an adapter, pretrained weights."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nearfar.decisions.rates import CONFIDENCE, FlaggedShare, between, percent
from nearfar.files.names import printable
from nearfar.recordings.clips import counted

if TYPE_CHECKING:
    from nearfar.decisions.calibration import Calibration
    from nearfar.detector.fitted import Detector
    from nearfar.encoders.weights import Likeness, Verified
    from nearfar.training.adapters import Adapter


HOLDS_FOR = (
    "clips like these, of the same days and conditions. Another day or other noise may give more false alarms. Set "
    "the threshold on normal recordings of a later session: nearfar calibrate DETECTOR NORMALS"
)
HOLDS_FOR_LATER = (
    "clips like these recordings, of the same days and conditions. Pieces of one recording are alike: several "
    "sessions tell more than many clips of one"
)
QUIET_PLANT = (
    "If your plant is quiet, that is the machine's own sound: then fit with a view of near, such as that of "
    "spectral_near"
)
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
    for taken in known["taken"].values():
        bands = ", ".join(f"{decibels:.0f} dB {band}" for band, decibels in taken.items())
        table.add_row("cancelled", f"{bands}: what far explains of near, on a median clip. {QUIET_PLANT}")
    if limit is None or fitted.threshold is None:
        table.add_row("decision", "none: the detector has no threshold")
        return table
    scores, asked = fitted.threshold.normal_scores, percent(limit["false_alarm_rate"])
    above = FlaggedShare.of(scores > limit["value"])
    table.add_row(
        "decision",
        f"anomaly if the score is above {limit['value']:.4g}. The threshold comes from "
        f"{counted(len(scores), 'normal clip')}, each scored by a fit that had not seen it. "
        f"By construction, {above.flagged} of these are above it, for the {asked} you ask."
        + (f" No p-value is below {limit['smallest_p_value']:.2g}." if limit["smallest_p_value"] else ""),
    )
    if fitted.calibration is not None:
        _add_rates(table, fitted, fitted.calibration)
    return table


def _add_rates(table: Table, fitted: Detector, known: Calibration) -> None:
    """What the unseen clips tell of the rate, by domain and by group, and of which clips that is true."""
    assert fitted.threshold is not None
    asked, above = fitted.threshold.false_alarm_rate, fitted.threshold.value
    table.add_row("unseen clips", escape(printable(_how_unseen(known.how))))
    for domain, share in fitted.flagged().items():
        table.add_row(domain, _rate(share, asked))
    _add_groups(table, known, above)
    table.add_row("holds for", HOLDS_FOR)


def _add_groups(table: Table, known: Calibration, above: float) -> None:
    """The group that is flagged most, if there are several."""
    groups = known.by_group(above=above)
    if len(groups) > 1:
        name, most = max(groups.items(), key=lambda item: item[1].share)
        table.add_row(
            "groups",
            escape(printable(f"the one that is flagged most, of {len(groups)}: {name}, {most}")),
        )


def _how_unseen(how: Mapping[str, Any]) -> str:
    """Which clips were kept together, so that no fit saw a part of what it scored."""
    if how["by"] == "random":
        told = f"dealt at random to {how['fits']} fits"
    else:
        counts = ", ".join(f"{n} of {domain}" for domain, n in how["groups"].items())
        told = f"kept together by {how['by']} ({counts}), in {how['fits']} fits"
    why = "; ".join(f"{domain}: {reason}" for domain, reason in how["random_in"].items())
    if not why:
        return told
    return (
        f"{told}. Groups were not used in {why}" if how["by"] == "random" else f"{told}. At random in {why}"
    )


def _rate(share: FlaggedShare, asked: float) -> str:
    """How many clips of a domain would have been flagged, and what more of them would tell."""
    n, (low, high) = share.clips, share.interval()
    told = (
        f"of {n} unseen {'clip' if n == 1 else 'clips'} {share.flagged} would have been flagged "
        f"({percent(share.share)}; {percent(CONFIDENCE)} interval {between(low, high)})"
    )
    if 1 / n > asked:
        told += f": {counted(n, 'clip')} {'tells' if n == 1 else 'tell'} no rate below {percent(1 / n)}"
    if high - low > asked:
        more = share.with_clips(_more(n))
        told += f". With {more.clips} such clips, the interval would be about {between(*more.interval())}"
    return told


def _more(clips: int) -> int:
    """The next power of ten that is at least twice as many clips."""
    return 10 ** math.ceil(math.log10(2 * clips))


def calibrated(after: Detector) -> Table:
    """What a calibration changed: the threshold, and what the old one would have flagged of the new recordings."""
    told, threshold = after.calibrated_on, after.threshold
    assert told is not None
    assert threshold is not None
    assert after.calibration is not None
    table = Table(show_header=False, title=escape(printable(f"Detector of '{after.machine}', calibrated")))
    domains = ", ".join(f"{n} {domain}" for domain, n in told["domains"].items())
    table.add_row(
        "calibrated on", f"{counted(told['clips'], 'normal recording')} ({domains}), each scored once"
    )
    if told["left_out"]:
        table.add_row("left out", _listed(told["left_out"]))
    _add_before(table, told)
    above = FlaggedShare.of(threshold.normal_scores > threshold.value)
    table.add_row(
        "now",
        f"anomaly if the score is above {threshold.value:.4g}. This threshold comes from these recordings alone. "
        f"By construction, {above.flagged} of them are above it, for the "
        f"{percent(threshold.false_alarm_rate)} you ask."
        + (f" No p-value is below {threshold.floor:.2g}." if threshold.floor else ""),
    )
    for domain, share in after.flagged().items():
        table.add_row(domain, _rate(share, threshold.false_alarm_rate))
    _add_groups(table, after.calibration, threshold.value)
    table.add_row("holds for", HOLDS_FOR_LATER)
    return table


def _add_before(table: Table, told: Mapping[str, Any]) -> None:
    """The old threshold, and what it would have flagged: whether the calibration was needed."""
    before = told["before"]
    if before is None:
        table.add_row("before", "no threshold")
        return
    asked, where = before["false_alarm_rate"], "fit" if before["learnt_from"] == "fit" else "last calibration"
    share = FlaggedShare(before["flagged"], told["clips"])
    table.add_row(
        "before",
        f"threshold {before['value']:.4g}, from {counted(before['normal_clips'], 'clip')} of the "
        f"{where}, {percent(asked)} asked. Of the new recordings it would have flagged {share}",
    )
    if len(told["domains"]) > 1:
        for domain, of in before["domains"].items():
            table.add_row(f"before, {domain}", str(FlaggedShare(of["flagged"], of["clips"])))


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
