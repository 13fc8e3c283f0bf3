"""What was fitted or loaded: a detector, an adapter, pretrained weights."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nearfar.decisions.rates import CONFIDENCE, FlaggedShare, between, percent
from nearfar.detector.learning import stays
from nearfar.files.names import printable
from nearfar.recordings.clips import counted
from nearfar.systems.branches import UNDISCLOSED
from nearfar.windows.long_recordings import Cutting

if TYPE_CHECKING:
    from nearfar.decisions.calibration import Calibration
    from nearfar.decisions.thresholds import Threshold
    from nearfar.detector.fitted import Detector
    from nearfar.detector.fleet import FittedMachine
    from nearfar.detector.normal_sounds import NormalClip
    from nearfar.encoders.weights import Likeness, Verified
    from nearfar.systems.resolved import ResolvedFusion
    from nearfar.training.adapters import Adapter


HOLDS_FOR = (
    "clips like these, of the same days and conditions. Another day or other noise may give more false alarms. Set "
    "the threshold on normal recordings of a later session: nearfar calibrate DETECTOR NORMALS"
)
ALIKE = "Windows of one recording are alike, so that the intervals are narrower than they should be"
HOLDS_FOR_LATER = (
    "clips like these recordings, of the same days and conditions. Pieces of one recording are alike: several "
    "sessions tell more than many clips of one"
)
OF_ONE_SESSION = "Stretches of it are kept together, but all are of one session"
MORE_SESSIONS = "record several, or set the threshold on another one: nearfar calibrate DETECTOR NORMALS"
QUIET_PLANT = "If your plant is quiet, that is the machine's own sound: then use --system spectral_near"
ALERTS = "1 per 30 days"  # for which it is told what holds
SOME_DB = 0.5  # of a band, to be told that cancellation took something
ALL_CLIPS = "all clips"  # of a machine whose clips tell no domain
NOTHING_KEPT = "nothing of its clips: it cannot learn, nor show how a recording differs from them"
NO_SOUNDS = "embeddings of its clips, but not how they sound: it was fitted by an older nearfar"
OPT_OUT = "Whoever has the detector can hear them; fit --no-recordings keeps no sound, --no-learning nothing"
BECAME = {
    "fitted": "fitted",
    "is there": "there already, the same",
    "another is there": "left as it is: fitted otherwise, or calibrated or taught since",
    "not a detector": "left as it is: damaged, or no detector",
}
MACHINES_SHOWN = 20  # of a hall; others are counted
SHOWN = 5  # clips that a table names; it counts the others


def fleet(found: Sequence[FittedMachine]) -> Table:
    """How many machines of a hall have which detectors; those that are not new by their names."""
    table = Table(title=f"{counted(len(found), 'machine')}")
    for column in ("detectors", "machines", "which"):
        table.add_column(column)
    for became, words in BECAME.items():
        names = sorted(one.name for one in found if one.became == became)
        if names:
            more = "" if len(names) <= MACHINES_SHOWN else f" and {len(names) - MACHINES_SHOWN} more"
            table.add_row(words, str(len(names)), escape(printable(", ".join(names[:MACHINES_SHOWN]) + more)))
    return table


def fleet_json(found: Sequence[FittedMachine]) -> str:
    """The same, a row for each machine."""
    ordered = sorted(found, key=lambda one: one.name)
    rows = [{"machine": one.name, "detector": str(one.detector), "became": one.became} for one in ordered]
    return json.dumps(rows, indent=2)


def detector(fitted: Detector, folder: Path | None = None) -> Table:
    """What was fitted, to which clips, how the detector decides, and what it keeps of the clips.

    Parameters
    ----------
    fitted : Detector
    folder : Path or None
        Where it is saved.
    """
    table = Table(show_header=False, title=escape(printable(f"Detector of '{fitted.machine}'")))
    known, limit = fitted.trained_on, fitted.describe_threshold()
    table.add_row("system", escape(f"{fitted.system.name}: {fitted.system.summary}"))
    if fitted.system.fusion is not None:
        table.add_row("branches", escape(_branches(fitted.system.fusion)))
    if computed_in := _arithmetics(fitted):
        table.add_row("computed in", ", ".join(computed_in))
    table.add_row(
        "fitted to",
        f"{counted(known['clips'], 'normal clip')}{_by_domain(known['domains'])} of "
        f"{counted(known['channels'], 'channel')} at {known['rate']} Hz",
    )
    _add_recordings(table, known, MORE_SESSIONS)
    if known["left_out"]:
        table.add_row("left out", _listed(known["left_out"]))
    if known["faults"]:
        table.add_row(
            "warning", "; ".join(f"{f} in {counted(n, 'clip')}" for f, n in known["faults"].items())
        )
    if known["unlike"]:
        table.add_row("unlike the others", _listed(known["unlike"]))
    for view, taken in known["taken"].items():
        label = "cancelled" if len(known["taken"]) == 1 else view
        table.add_row(label, _cancelled(taken, fused=fitted.system.fusion is not None))
    if limit is None or fitted.threshold is None:
        table.add_row("decision", "none: the detector has no threshold")
        _add_kept(table, fitted, folder)
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
    _add_alerts(table, fitted, known)
    _add_kept(table, fitted, folder)
    return table


def _add_kept(table: Table, fitted: Detector, folder: Path | None) -> None:
    """What the detector keeps of its clips, how large that is, and how to keep less."""
    sounds = fitted.sounds
    if sounds is None:
        told = NOTHING_KEPT if fitted.kept is None else NO_SOUNDS
    elif not sounds.clips:
        told = f"embeddings and levels of {counted(len(sounds), 'clip')}, and the sound of none"
    else:
        of = ", ".join(f"{n} {domain}" for domain, n in _domains_of(sounds.clips).items())
        told = (
            f"the sound of {counted(len(sounds.clips), 'normal clip')}{f' ({of})' if of else ''} as FLAC, "
            f"{_megabytes(sounds.size)}, to hear beside what is unlike them; embeddings and levels of "
            f"{counted(len(sounds), 'clip')}. {OPT_OUT}"
        )
    size = "" if folder is None else f". The detector has {_megabytes(size_of(folder))}"
    table.add_row("keeps", f"{told.removesuffix('.')}{size}")


def _domains_of(clips: Sequence[NormalClip]) -> dict[str, int]:
    return dict(sorted(Counter(clip.domain for clip in clips if clip.domain).items()))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _what(told: Mapping[str, Any]) -> str:
    """What a detector was calibrated on."""
    return "normal recording" if told.get("recordings") is None else "normal clip"


def _add_recordings(table: Table, known: Mapping[str, Any], advice: str) -> None:
    """Long recordings that were cut, and into what; and, with advice, if they are one."""
    if known.get("recordings") is None:
        return
    cutting = Cutting.restore(known["recordings"])
    table.add_row("cut", str(cutting))
    for domain, recording in cutting.stretches.items():
        of = f" of {domain}" if domain else ""
        table.add_row(
            "one recording",
            escape(printable(f"nearly all clips{of} are of {recording}. {OF_ONE_SESSION}: {advice}")),
        )


def _add_alerts(table: Table, fitted: Detector, known: Mapping[str, Any]) -> None:
    """Of a detector of long recordings: what is promised of alerts, and what is only measured."""
    if known.get("recordings") is None:
        return
    cut = Cutting.restore(known["recordings"]).cut
    try:
        told = ". ".join(fitted.alerts(ALERTS, cut=cut).describe())
    except ValueError as error:
        told = str(error)
    table.add_row("alerts", f'With nearfar score --false-alerts "{ALERTS}": {told}')


def _arithmetics(fitted: Detector) -> list[str]:
    """The arithmetics of its encoders that are not float32, each once."""
    found = (b.encoder.options.arguments().get("precision") for b in fitted.system.branches)
    return list(dict.fromkeys(name for name in found if name not in (None, "float32")))


def _branches(fusion: ResolvedFusion) -> str:
    """Those of a fused system, their weights, and what puts their scores on one scale."""
    weights = ", ".join(f"{name} (weight {weight:.2g})" for name, weight in fusion.weights.items())
    return f"{weights}; each on the scale of its own scores of unseen normal clips"


def _add_rates(table: Table, fitted: Detector, known: Calibration) -> None:
    """What the unseen clips tell of the rate, by domain and by group, and of which clips that is true."""
    assert fitted.threshold is not None
    asked, above = fitted.threshold.false_alarm_rate, fitted.threshold.value
    table.add_row("unseen clips", escape(printable(_how_unseen(known.how))))
    _add_shares(table, fitted.flagged(), asked)
    _add_groups(table, known, above)
    cut = fitted.trained_on.get("recordings")
    table.add_row("holds for", f"{HOLDS_FOR}. {ALIKE}" if cut else HOLDS_FOR)


def _by_domain(counts: Mapping[str, int]) -> str:
    """Such as " (990 source, 10 target)"; nothing if no clip tells its domain."""
    if list(counts) == [UNDISCLOSED]:
        return ""
    return " (" + ", ".join(f"{n} {domain}" for domain, n in counts.items()) + ")"


def _cancelled(taken: Mapping[str, float], *, fused: bool) -> str:
    """By how much cancellation lowers near, by band, and what to do if that is wrong."""
    if all(decibels < SOME_DB for decibels in taken.values()):
        return (
            f"less than {SOME_DB:g} dB in each band, on a median clip: near stays about as it is. Far explains "
            "hardly anything of near, or the clips are too short to tell"
        )
    bands = ", ".join(f"{decibels:.0f} dB ({band})" for band, decibels in taken.items())
    advice = f"{QUIET_PLANT}." if fused else f"{QUIET_PLANT}, or --set branch.view=near"
    return f"near becomes quieter by {bands}, on a median clip: far explains that much. {advice}"


def _add_shares(table: Table, flagged: Mapping[str, FlaggedShare], asked: float) -> None:
    """A line for each domain. The share of the only one is by construction, and stays what was asked for."""
    alone = len(flagged) == 1
    for domain, share in flagged.items():
        label = ALL_CLIPS if alone and domain == UNDISCLOSED else domain
        table.add_row(label, _rate(share, asked, by_construction=alone))


def _add_groups(table: Table, known: Calibration, above: float) -> None:
    """The group that is flagged most, if there are several."""
    groups = known.by_group(above=above)
    if len(groups) > 1:
        name, most = max(groups.items(), key=lambda item: item[1].share)
        if not most.flagged:
            table.add_row("groups", f"none of the {len(groups)} has a clip above the threshold")
            return
        table.add_row(
            "groups",
            escape(printable(f"the one that is flagged most, of {len(groups)}: {name}, {most}")),
        )


def _how_unseen(how: Mapping[str, Any]) -> str:
    """Which clips were kept together, so that no fit saw a part of what it scored."""
    if how["by"] == "random":
        told = f"dealt at random to {how['fits']} fits"
    else:
        groups = how["groups"]
        counts = ", ".join(f"{n} of {domain}" for domain, n in groups.items())
        if list(groups) == [UNDISCLOSED]:
            counts = counted(groups[UNDISCLOSED], "group")
        told = f"kept together by {how['by']} ({counts}), in {how['fits']} fits"
    reasons = how["random_in"]
    if list(reasons) == [UNDISCLOSED] and how["by"] == "random":
        return f"{told}. Groups were not used: {reasons[UNDISCLOSED]}"
    why = "; ".join(f"{domain}: {reason}" for domain, reason in reasons.items())
    if not why:
        return told
    return (
        f"{told}. Groups were not used in {why}" if how["by"] == "random" else f"{told}. At random in {why}"
    )


def _rate(share: FlaggedShare, asked: float, *, by_construction: bool) -> str:
    """How many clips of a domain would have been flagged, and what more of them would tell.

    If the threshold comes from these clips alone, more of them would move it, so that the asked share is above it.
    """
    n, (low, high) = share.clips, share.interval()
    told = (
        f"of {n} unseen {'clip' if n == 1 else 'clips'} {share.flagged} would have been flagged "
        f"({percent(share.share)}; {percent(CONFIDENCE)} interval {between(low, high)})"
    )
    if 1 / n > asked:
        told += f": {counted(n, 'clip')} {'tells' if n == 1 else 'tell'} no rate below {percent(1 / n)}"
    if high - low > asked:
        more = share.with_clips(_more(n))
        if by_construction:
            more = FlaggedShare(max(0, math.floor(asked * (more.clips + 1)) - 1), more.clips)
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
    table.add_row(
        "calibrated on",
        f"{counted(told['clips'], _what(told))}{_by_domain(told['domains'])}, each scored once",
    )
    _add_recordings(table, told, "give recordings of several")
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
    _add_shares(table, after.flagged(), threshold.false_alarm_rate)
    _add_groups(table, after.calibration, threshold.value)
    table.add_row("holds for", HOLDS_FOR_LATER)
    _add_alerts(table, after, told)
    return table


def learnt(after: Detector, folder: Path | None = None) -> Table:
    """What was learnt, what the old threshold would have flagged of it, the new threshold, and the history.

    Parameters
    ----------
    after : Detector
    folder : Path or None
        Where it is saved.
    """
    told, known, threshold = after.history[-1], after.trained_on, after.threshold
    table = Table(
        show_header=False, title=escape(printable(f"Detector of '{after.machine}', which has learnt more"))
    )
    table.add_row("learnt", f"{counted(told['clips'], 'normal clip')}{_by_domain(told['domains'])}")
    if told["recordings"] is not None:
        table.add_row("windows", str(Cutting.restore(told["recordings"])))
    if told["left_out"]:
        table.add_row("left out", _listed(told["left_out"]))
    if told["faults"]:
        noticed = "; ".join(f"{fault} in {counted(n, 'clip')}" for fault, n in told["faults"].items())
        table.add_row(
            "noticed", f"{noticed}. Learnt all the same: listen to these, if that is not the new condition"
        )
    if told["unlike"]:
        table.add_row("unlike the others", _listed(told["unlike"]))
    table.add_row("fitted to", f"{counted(known['clips'], 'normal clip')}{_by_domain(known['domains'])}")
    for sentence in stays(after):
        table.add_row("stays", sentence)
    _add_flagged_before(table, told)
    if threshold is None:
        table.add_row("now", "no threshold")
    else:
        _add_now(table, after, threshold)
    _add_kept(table, after, folder)
    table.add_row("history", _history(after.history))
    return table


def _add_flagged_before(table: Table, told: Mapping[str, Any]) -> None:
    """The old threshold, and how many of the new clips are above it."""
    before = told["before"]
    if before is None:
        return
    share = FlaggedShare(before["flagged"], told["clips"])
    table.add_row(
        "before",
        f"threshold {before['value']:.4g}, from {counted(before['normal_clips'], 'clip')}. Of the new clips it "
        f"would have flagged {share}",
    )


def _add_now(table: Table, after: Detector, threshold: Threshold) -> None:
    scores = threshold.normal_scores
    above = FlaggedShare.of(scores > threshold.value)
    table.add_row(
        "now",
        f"anomaly if the score is above {threshold.value:.4g}. The threshold comes from "
        f"{counted(len(scores), 'normal clip')}, each scored by a fit that had not seen it. By construction, "
        f"{above.flagged} of these are above it, for the {percent(threshold.false_alarm_rate)} you ask."
        + (f" No p-value is below {threshold.floor:.2g}." if threshold.floor else ""),
    )
    _add_shares(table, after.flagged(), threshold.false_alarm_rate)


def _history(entries: Sequence[Mapping[str, Any]]) -> Text:
    """A line for each entry."""
    return Text(
        "\n".join(
            f"{one['what']}{'' if one['when'] is None else ' ' + one['when']}: "
            f"{counted(one['clips'], 'clip')}{_by_domain(one['domains'])}, digest {one['digest'][:12]}, "
            f"nearfar {one['nearfar']}"
            for one in entries
        )
    )


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
