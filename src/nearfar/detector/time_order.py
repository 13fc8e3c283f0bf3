"""What normal windows tell in order of time: how dependent those are that follow each other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nearfar.decisions.alerts import SETTLE_S
from nearfar.decisions.dependence import Dependence
from nearfar.recordings.clips import Clip
from nearfar.windows.cutting import LEAST_REST
from nearfar.windows.long_recordings import Cutting


def dependence_of(
    clips: Sequence[Clip], scores: NDArray[np.float64] | Sequence[float], cutting: Cutting | None
) -> Dependence | None:
    """Measured on the windows of long recordings; groups, such as days, are heard one against the others.

    Where windows are missing, because the fit left them out, the machine may have stopped: the windows of the
    minute after that do not count, as for ``decisions.alerts.Alerts``.

    Parameters
    ----------
    clips : sequence of Clip
        Those that are windows count.
    scores : (n_clips,) array
        By fits that had not seen them.
    cutting : Cutting or None
        How the long recordings were cut.

    Returns
    -------
    Dependence or None
        ``None`` if no recording was cut, or its windows are too few.
    """
    if cutting is None:
        return None
    known = np.asarray(scores, dtype=np.float64)
    windows = sorted(
        (i for i, clip in enumerate(clips) if clip.span is not None),
        key=lambda i: (clips[i].group, str(clips[i].path), clips[i].span),
    )
    if not windows:
        return None
    groups = np.array([clips[i].group for i in windows])
    counted = known[windows]
    counted[_after_gaps([clips[i] for i in windows], cutting.cut.hop)] = np.nan
    return Dependence.measure(counted, groups, window_s=cutting.cut.seconds, hop_s=cutting.cut.hop)


def _after_gaps(windows: Sequence[Clip], hop_s: float) -> list[int]:
    """Which windows begin within a minute after a gap in their recording, in order of time."""
    found, resumed = [], -math.inf
    for i, (before, clip) in enumerate(zip([None, *windows[:-1]], windows, strict=True)):
        assert clip.span is not None
        begins = clip.span.begins
        if before is None or before.path != clip.path:
            resumed = -math.inf
        elif before.span is not None and begins - before.span.begins > (1 + LEAST_REST) * hop_s:
            resumed = begins
        if begins < resumed + SETTLE_S:
            found.append(i)
    return found
