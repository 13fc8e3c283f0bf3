"""What a linter does not check in the tests themselves."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

MOST_LINES = 60  # of a function
CALLS = ("raises", "warns", "pytest.raises", "pytest.warns")
TEXTS = (".py", ".md", ".toml", ".sh", ".txt", ".j2", ".js", ".css", ".json")
MARK_OF_A_MERGE = re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE)
WITHOUT_MESSAGE = ("SystemExit", "KeyboardInterrupt", "typer.Exit")


def unmatched(source: str) -> Iterator[int]:
    """Lines of each ``pytest.raises`` and ``pytest.warns`` that checks no part of the message."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or _named(node.func) not in CALLS:
            continue
        expected = node.args[:1] or [k.value for k in node.keywords if k.arg == "expected_exception"]
        match = [k.value for k in node.keywords if k.arg == "match"]
        if any(not (isinstance(value, ast.Constant) and value.value in ("", None)) for value in match):
            continue
        if not expected or _named(expected[0]) not in WITHOUT_MESSAGE:
            yield node.lineno


def _named(node: ast.expr) -> str:
    """The name that is written there, with up to one dot, or an empty string."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_every_expected_error_is_recognized_by_its_message() -> None:
    tests = Path(__file__).parent
    found = [
        f"{path.relative_to(tests.parent)}:{line}"
        for path in sorted(tests.rglob("*.py"))
        for line in unmatched(path.read_text(encoding="utf-8"))
    ]
    assert not found, "raises or warns without match=, so that another fault would pass too:\n" + "\n".join(
        found
    )


def test_no_function_is_too_long() -> None:
    """The linter counts statements; this counts lines, with the docstring."""
    source = Path(__file__).parents[1] / "src"
    found = [
        f"{path.relative_to(source)}:{node.lineno} {node.name}"
        for path in sorted(source.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= MOST_LINES
    ]
    assert not found, f"longer than {MOST_LINES} lines:\n" + "\n".join(found)


def test_no_merge_is_left_half_done() -> None:
    top = Path(__file__).parents[1]
    folders = ("src", "tests", "docs", "benchmarks", "findings", ".ci")
    files = [path for folder in folders for path in (top / folder).rglob("*") if path.suffix in TEXTS]
    found = [
        str(path.relative_to(top))
        for path in (*files, *top.glob("*.*"))
        if path.suffix in TEXTS and MARK_OF_A_MERGE.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not found


@pytest.mark.parametrize(
    ("call", "is_found"),
    [
        ("pytest.raises(ValueError)", True),
        ("pytest.raises((ValueError, SystemExit))", True),
        ("pytest.raises(expected_exception=ValueError)", True),
        ("pytest.raises(ValueError, int, 'x')", True),
        ("pytest.raises(\n    ValueError,\n    check=len,\n)", True),
        ("pytest.raises(ValueError, match='')", True),
        ("pytest.raises(ValueError, match=None)", True),
        ("pytest.warns(UserWarning)", True),
        ("pytest.warns()", True),
        ("raises(ValueError)", True),
        ("pytest.raises(ValueError, match='k=0: must be at least 1')", False),
        ("pytest.raises(ValueError, match=message)", False),
        ("pytest.raises(KeyboardInterrupt)", False),
        ("pytest.raises(typer.Exit)", False),
        ("monkeypatch.raises(ValueError)", False),
    ],
)
def test_which_calls_are_found(call: str, is_found: bool) -> None:
    assert list(unmatched(f"with {call}:\n    pass\n")) == [1] * is_found
