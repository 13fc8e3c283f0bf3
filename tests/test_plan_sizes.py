"""The table of sizes that cannot be run here is that of the page."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from nearfar.research.reproduce import constants

ROOT = Path(__file__).parents[1]


def test_the_page_has_the_table_that_the_constants_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import plan_sizes

    assert plan_sizes.table() in (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")


def test_a_row_is_its_arithmetic() -> None:
    """Ten years of windows, by hand."""
    of = json.loads(constants.TABLE.read_text(encoding="utf-8"))
    hours = 100 * 10 * 365.25 * 8640 * (of["hearing"]["near"] + of["encoding"]["eat"]) / 3600
    assert f"| {hours:,.0f} |" in (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
