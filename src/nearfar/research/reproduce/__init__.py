"""Published studies, to be run again: a TOML file for each table or figure of a report.

A study says what was published, and how each number is to be found again: which branches (each a system, some of
its settings replaced), fused or alone, under which protocol::

    name = "example"
    title = "Table 1"
    source = "A. Uthor, a report"
    data = "dcase2026"                # on whose development machines the published values were measured
    summary = "Two branches and their fusion."
    seeds = [13711]

    [branches.near]
    system = "spectral_near"
    settings = { "threshold.method" = "none" }

    [branches.cancelled]
    system = "spectral"
    settings = { "threshold.method" = "none" }

    [[rows]]                          # a branch alone
    label = "Near"
    published = 56.2                  # percent; absent where the report has no number
    branch = "near"
    protocol = "complete development"

    [[rows]]                          # a fusion
    label = "Without the near microphone"
    published = -1.7                  # percentage points: without "near", less all
    branches = ["near", "cancelled", "far"]
    without = "near"
    weights = "search"
    protocol = "cross-fitted, leave one machine out"

Rows share what they have in common: a branch with equal settings is run once. A published number is never taken for
ours: a row that cannot be run says what it needs.

The public names load what they need when they are first used, because a list of the studies needs next to nothing.
"""

import pkgutil
from typing import TYPE_CHECKING, Any

from nearfar.research.reproduce.catalogue import STUDIES, StudyDescription, describe

if TYPE_CHECKING:
    from nearfar.research.reproduce.costs import Plan, plan
    from nearfar.research.reproduce.files import PublishedStudy, Row, load
    from nearfar.research.reproduce.reproduction import Found, Reproduction, run

_LOADED_WHEN_USED = {
    "Found": "nearfar.research.reproduce.reproduction:Found",
    "Plan": "nearfar.research.reproduce.costs:Plan",
    "PublishedStudy": "nearfar.research.reproduce.files:PublishedStudy",
    "Reproduction": "nearfar.research.reproduce.reproduction:Reproduction",
    "Row": "nearfar.research.reproduce.files:Row",
    "load": "nearfar.research.reproduce.files:load",
    "plan": "nearfar.research.reproduce.costs:plan",
    "run": "nearfar.research.reproduce.reproduction:run",
}

__all__ = [
    "STUDIES",
    "Found",
    "Plan",
    "PublishedStudy",
    "Reproduction",
    "Row",
    "StudyDescription",
    "describe",
    "load",
    "plan",
    "run",
]


def __getattr__(name: str) -> Any:
    if name in _LOADED_WHEN_USED:
        return pkgutil.resolve_name(_LOADED_WHEN_USED[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
