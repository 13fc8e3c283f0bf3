"""Stand-in until the branch fast is merged."""

from __future__ import annotations

from dataclasses import dataclass

from nearfar.detector.fitted import Verdict
from nearfar.windows.cutting import Window


@dataclass(frozen=True, slots=True)
class WindowVerdict:
    window: Window
    verdict: Verdict
