"""Events in plain loops over all windows at once."""

from __future__ import annotations

from typing import Any

from nearfar.listening.scoring import WindowVerdict


def events(windows: list[WindowVerdict], gap: float) -> list[dict[str, Any]]:
    """What ``listening.events`` says of windows, recording by recording."""
    found = []
    names: list[str] = []
    for heard in windows:
        if not names or names[-1] != heard.window.recording:
            names.append(heard.window.recording)
    for name in names:
        found += _of_one([heard for heard in windows if heard.window.recording == name], gap)
    return found


def _of_one(windows: list[WindowVerdict], gap: float) -> list[dict[str, Any]]:
    places = [i for i, heard in enumerate(windows) if heard.verdict.decision == "anomaly"]
    groups: list[list[int]] = []
    for place in places:
        ends = [windows[i].window.start + windows[i].window.seconds for i in (groups[-1] if groups else [])]
        alike = groups and runs(windows, place) == runs(windows, groups[-1][0])
        if alike and windows[place].window.start - max(ends) <= gap + 1e-6:
            groups[-1].append(place)
        else:
            groups.append([place])
    return [_event(windows, group) for group in groups]


def runs(windows: list[WindowVerdict], place: int) -> bool:
    """Whether the machine stood still neither in this window nor in the minute before it."""
    begins = windows[place].window.start
    for heard in windows[: place + 1]:
        stands = any(fault.kind == "not_running" for fault in heard.verdict.faults)
        if stands and heard.window.start + heard.window.seconds + 60 > begins + 1e-6:
            return False
    return True


def _event(windows: list[WindowVerdict], group: list[int]) -> dict[str, Any]:
    inside = windows[group[0] : group[-1] + 1]
    peak = max((windows[i] for i in group), key=lambda heard: heard.verdict.score)
    states = {}
    for microphone in ("near", "far"):
        kinds: list[str] = []
        for heard in inside:
            for fault in heard.verdict.faults:
                if fault.microphone in (microphone, "both") and fault.kind not in kinds:
                    kinds.append(fault.kind)
        states[microphone] = ", ".join(kinds) or "ok"
    before = windows[group[0] - 1].verdict.decision if group[0] > 0 else "recording"
    after = windows[group[-1] + 1].verdict.decision if group[-1] + 1 < len(windows) else "recording"
    return {
        "recording": inside[0].window.recording,
        "start": windows[group[0]].window.start,
        "end": max(windows[i].window.start + windows[i].window.seconds for i in group),
        "windows": len(inside),
        "anomalous": len(group),
        "unusable": sum(heard.verdict.decision == "unusable" for heard in inside),
        "peak_score": peak.verdict.score,
        "p_value": peak.verdict.p_value,
        "peak_start": peak.window.start,
        "peak_end": peak.window.start + peak.window.seconds,
        "microphones": states,
        "branches": peak.verdict.branches,
        "levels": peak.verdict.levels,
        "before": before,
        "after": after,
    }
