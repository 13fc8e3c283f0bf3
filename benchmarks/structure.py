"""The structure of the code in numbers: rooms, arrows between them, the longest functions, their complexity.

Run it at any commit, ``python benchmarks/structure.py``. Rooms and arrows are those of import-linter's graph; the
complexity is radon's, if it is installed (``pip install radon``).
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import grimp

PACKAGE = "nearfar"
SOURCE = Path(__file__).parents[1] / "src" / PACKAGE
SHOWN = 3  # of the longest, and of the most complex


def rooms_and_arrows() -> tuple[int, int, int]:
    """How many rooms, arrows between two of them, and modules there are."""
    graph = grimp.build_graph(PACKAGE)
    of = {module: module.split(".")[1] for module in graph.modules if "." in module}
    arrows = {
        (of[module], of[imported])
        for module in of
        for imported in graph.find_modules_directly_imported_by(module)
        if imported in of and of[imported] != of[module]
    }
    return len(set(of.values())), len(arrows), len(graph.modules)


def function_lengths() -> list[tuple[int, str]]:
    """Lines of every function, docstring included, with its place; the longest first."""
    found = [
        (node.end_lineno - node.lineno + 1, f"{file.relative_to(SOURCE)}: {node.name}")
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None
    ]
    return sorted(found, reverse=True)


def complexities() -> list[tuple[int, str]]:
    """Cyclomatic complexity of every function, with its place; the highest first."""
    from radon.complexity import cc_visit

    found = [
        (block.complexity, f"{file.relative_to(SOURCE)}: {block.name}")
        for file in SOURCE.rglob("*.py")
        for block in cc_visit(file.read_text(encoding="utf-8"))
        if block.letter != "C"  # a class
    ]
    return sorted(found, reverse=True)


def main() -> None:
    rooms, arrows, modules = rooms_and_arrows()
    print(f"{rooms} rooms, {arrows} arrows between them, {modules} modules")
    lengths = function_lengths()
    print(f"{len(lengths)} functions; the longest, in lines with docstring:")
    print(*(f"  {lines:3} {place}" for lines, place in lengths[:SHOWN]), sep="\n")
    if importlib.util.find_spec("radon") is None:
        print("complexity: not measured, radon is not installed")
        return
    print("the most complex, by radon:")
    print(*(f"  {value:3} {place}" for value, place in complexities()[:SHOWN]), sep="\n")


if __name__ == "__main__":
    main()
