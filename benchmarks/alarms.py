"""What decides is not one clip, and a threshold of another day: two ways to fewer false alarms, measured.

    python benchmarks/alarms.py several SET... [--system NAME] [--cache DIR]
    python benchmarks/alarms.py later MOTORS [--system NAME] [--cache DIR]

``several``: false alarms and faults found by one clip, and by k of n clips. A *spell* is five clips that follow
each other: normal ones of one domain in the order of their names, or anomalous ones of one fault, from the source
and the target in turn (without a manifest: of one recording). A spell alarms if there is an alarm after one of its
clips.

``later``: the threshold of ``nearfar calibrate`` on half of the recordings of the normal test clips, judged on the
other half, for every way to halve them; beside the threshold of the fit. A recording is what a machine's clips of
equal domain and attributes are from.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain, combinations, product, zip_longest
from pathlib import Path

import numpy as np

import nearfar
from nearfar.decisions.alarms import AlarmRule, Alarms
from nearfar.decisions.rates import FlaggedShare
from nearfar.decisions.thresholds import THRESHOLDS
from nearfar.detector.fitted import Detector
from nearfar.files.steps import Jobs
from nearfar.recordings.clips import Clip, Machine

SPELL = 5  # clips
RULES = ("1/1", "2/3", "3/5")
ASKED = (0.01, 0.02, 0.05, 0.1, 0.2)
EQUAL = (0.02, 0.05, 0.1, 0.2)  # shares of normal spells with an alarm, at which rules are compared
RATES = (0.05, 0.01)

Scores = dict[str, float]
Fitted = tuple[Machine, dict[str, str], Detector, Scores]


def fitted(machine: Machine, system: str, jobs: Jobs) -> tuple[Detector, Scores]:
    """The detector of a machine, and the scores of its test clips by key."""
    detector = Detector.fit(machine, system, jobs=jobs)
    scores = detector.score_clips(machine.test, jobs=jobs)
    return detector, {clip.key: float(score) for clip, score in zip(machine.test, scores, strict=True)}


def faults_of(root: Path) -> dict[str, str]:
    """The fault of each anomalous clip of a simulated set, by key."""
    file = root / "manifest.jsonl"
    lines = map(json.loads, file.read_text().splitlines()) if file.is_file() else ()
    return {line["key"]: line["fault"] for line in lines if line["fault"]}


def spells(machine: Machine, faults: dict[str, str]) -> Iterator[tuple[str, tuple[Clip, ...]]]:
    """What each spell is ("source", "target" or "fault"), and its clips."""
    runs: dict[tuple[str, str], list[Clip]] = defaultdict(list)
    for clip in sorted(machine.test, key=lambda clip: clip.key):
        if clip.label == "normal":
            runs[str(clip.domain), "" if faults else clip.attributes].append(clip)
    for (domain, _), clips in runs.items():
        yield from ((domain, spell) for spell in in_spells(clips))
    by_fault: dict[str, dict[str, list[Clip]]] = defaultdict(lambda: defaultdict(list))
    for clip in sorted(machine.test, key=lambda clip: clip.key):
        if clip.label == "anomaly":
            by_fault[faults.get(clip.key, clip.attributes)][str(clip.domain)].append(clip)
    for of_domains in by_fault.values():
        in_turn = chain.from_iterable(zip_longest(*of_domains.values()))
        yield from (("fault", spell) for spell in in_spells([clip for clip in in_turn if clip is not None]))


def in_spells(clips: Sequence[Clip]) -> Iterator[tuple[Clip, ...]]:
    """Spells one after the other; what is left over is none."""
    for start in range(0, len(clips) - SPELL + 1, SPELL):
        yield tuple(clips[start : start + SPELL])


def alarms(rule: AlarmRule, flags: Sequence[bool]) -> bool:
    """Whether there is an alarm after any clip of a spell."""
    counted = Alarms(rule)
    return any(counted.after("", flag) for flag in flags)


def several(roots: Sequence[Path], system: str, jobs: Jobs) -> None:
    """Print the table of rules."""
    machines: list[Fitted] = []
    for root in roots:
        faults = faults_of(root)
        for machine in nearfar.load_dataset(root):
            machines.append((machine, faults, *fitted(machine, system, jobs)))
    print(f"{len(machines)} machines, {system}; flagged clips, and spells of {SPELL} clips with an alarm")
    print(
        f"{'':14}clips: source    target          anomalous       spells: source   target          faults found"
    )
    for text, rate in product(RULES, ASKED):
        rule, clips, found = AlarmRule.parse(text), defaultdict(list), defaultdict(list)
        for machine, faults, detector, scores in machines:
            threshold = detector.with_false_alarm_rate(rate).threshold
            assert threshold is not None
            for clip in machine.test:
                kind = str(clip.domain) if clip.label == "normal" else "fault"
                clips[kind].append(scores[clip.key] > threshold.value)
            for kind, spell in spells(machine, faults):
                found[kind].append(alarms(rule, [scores[clip.key] > threshold.value for clip in spell]))
        kinds = ("source", "target", "fault")
        cells = [_share(of[kind]) for of in (clips, found) for kind in kinds]
        print(f"{text:4} at {rate:4.0%}  {'  '.join(cells)}")
    at_equal_false_alarms(machines)


def at_equal_false_alarms(fitted_to: Sequence[Fitted]) -> None:
    """Print how many faults each rule finds where as many spells of normal clips alarm, of both domains.

    Scores are divided by the threshold of their machine at 5 %. One limit for all of these is chosen for each rule:
    the lowest that gives no more false alarms.
    """
    heads = "".join(f"{f'{most:.0%} of spells':>20}" for most in EQUAL)
    print(f"\nfaults found where so many spells of normal clips alarm\n    {heads}")
    for text in (*RULES, "5/5"):
        rule, highest = AlarmRule.parse(text), defaultdict(list)
        for machine, faults, detector, scores in fitted_to:
            threshold = detector.with_false_alarm_rate(0.05).threshold
            assert threshold is not None
            for kind, spell in spells(machine, faults):
                relative = [scores[clip.key] / threshold.value for clip in spell]
                highest[kind].append(_highest(rule, relative))
        normal = np.sort([*highest["source"], *highest["target"]])
        limits = [normal[len(normal) - 1 - int(most * len(normal))] for most in EQUAL]
        cells = [FlaggedShare.of(np.array(highest["fault"]) > limit) for limit in limits]
        print(f"{text:4}" + "".join(f"{f'{x.flagged} of {x.clips}, {x.share:.0%}':>20}" for x in cells))


def _highest(rule: AlarmRule, scores: Sequence[float]) -> float:
    """The limit from which on a spell has no alarm: of each group the k-th largest score, of these the largest."""
    groups = (scores[max(0, end - rule.of_last) : end] for end in range(rule.needed, len(scores) + 1))
    return max(sorted(group)[-rule.needed] for group in groups)


def _share(flags: Sequence[bool]) -> str:
    share = FlaggedShare.of(flags)
    return f"{share.flagged:3d} of {share.clips:3d} {share.share:4.0%}"


def later(root: Path, system: str, jobs: Jobs) -> None:
    """Print what is flagged of the other half of the recordings, by domain."""
    print("                                      flagged normals: mean (range) of all halves, percent")
    print("machine  threshold                 asked   source              target              anomalies")
    for machine in nearfar.load_dataset(root):
        detector, scores = fitted(machine, system, jobs)
        assert detector.threshold is not None
        for method, rate in [("fit", 0.05), ("fit", 0.01), *((m, r) for m in THRESHOLDS for r in RATES)]:
            found = list(halves(machine, scores, detector, method, rate))
            rows = [row for row in found if row is not None]
            refused = f"  ({len(found) - len(rows)} of {len(found)} halves refused)" if None in found else ""
            if rows:
                cells = (
                    f"{np.mean(x):5.1f} ({min(x):3.0f} to {max(x):3.0f})  " for x in zip(*rows, strict=True)
                )
                print(f"{machine.name:8} {_named(method):24} {rate:5.0%}   {'  '.join(cells)}{refused}")
            else:
                print(
                    f"{machine.name:8} {_named(method):24} {rate:5.0%}   too few clips for this rate{refused}"
                )


def _named(method: str) -> str:
    return "of the fit" if method == "fit" else f"calibrated, {method}"


def halves(
    machine: Machine, scores: Scores, detector: Detector, method: str, rate: float
) -> Iterator[tuple[float, float, float] | None]:
    """Percent flagged of the other half: normals of the source, of the target, and all anomalies.

    None for a half from which no such threshold can be had.
    """
    recordings: dict[tuple[str, str], list[Clip]] = defaultdict(list)
    for clip in machine.test:
        if clip.label == "normal":
            recordings[str(clip.domain), clip.attributes].append(clip)
    anomalies = [scores[clip.key] for clip in machine.test if clip.label == "anomaly"]
    for chosen in combinations(recordings, len(recordings) // 2):
        others = [name for name in recordings if name not in chosen]
        if len({domain for domain, _ in chosen}) < 2 or len({domain for domain, _ in others}) < 2:
            continue
        known = np.array([scores[clip.key] for name in chosen for clip in recordings[name]])
        if method == "fit":
            threshold = detector.with_false_alarm_rate(rate).threshold
            assert threshold is not None
            value = threshold.value
        else:
            try:
                value = THRESHOLDS[method].fit(known, false_alarm_rate=rate).value
            except ValueError:  # too few, or far from any gamma distribution
                yield None
                continue
        normals = [
            [scores[c.key] for name in others if name[0] == domain for c in recordings[name]]
            for domain in ("source", "target")
        ]
        source, target, found = (100 * float((np.array(x) > value).mean()) for x in (*normals, anomalies))
        yield source, target, found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("several", "later"))
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--system", default="spectral")
    parser.add_argument("--cache", type=Path)
    asked = parser.parse_args()
    jobs = Jobs(asked.cache)
    if asked.what == "several":
        several(asked.sets, asked.system, jobs)
    else:
        for root in asked.sets:
            later(root, asked.system, jobs)


if __name__ == "__main__":
    main()
