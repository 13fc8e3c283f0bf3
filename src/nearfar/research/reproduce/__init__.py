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
"""

from nearfar.research.reproduce.costs import Plan, plan
from nearfar.research.reproduce.files import STUDIES, Description, Published, Row, describe, load
from nearfar.research.reproduce.reproduction import Found, Reproduction, run

__all__ = [
    "STUDIES",
    "Description",
    "Found",
    "Plan",
    "Published",
    "Reproduction",
    "Row",
    "describe",
    "load",
    "plan",
    "run",
]
