"""What normal windows tell in order of time: how dependent those are that follow each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nearfar.decisions.dependence import Dependence
from nearfar.recordings.clips import Clip
from nearfar.windows.long_recordings import Cutting


def dependence_of(
    clips: Sequence[Clip], scores: NDArray[np.float64] | Sequence[float], cutting: Cutting | None
) -> Dependence | None:
    """Measured on the windows of long recordings; groups, such as days, are heard one against the others.

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
    groups = np.array([clips[i].group for i in windows])
    return Dependence.measure(known[windows], groups, window_s=cutting.cut.seconds, hop_s=cutting.cut.hop)
