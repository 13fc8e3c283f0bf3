"""What made an outcome: the source code and the libraries that have a part in it.

A step names the modules that make it. Its code is these modules and all modules of the package that they import.
They count as syntax trees: without comments, docstrings and layout, and without registries, so that a new back end
leaves the steps of all others in place. Its libraries are those of ``LIBRARIES`` that this code imports. Modules in
``NO_PART`` only move content; they compute none of it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from nearfar.files.digests import digest

LIBRARIES = {  # that compute scores: their modules, and the names of their distributions
    "array_api_compat": "array-api-compat",
    "numpy": "numpy",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "soundfile": "soundfile",
    "soxr": "soxr",
    "torch": "torch",
}
NO_PART = (  # these modules, and all below them
    "nearfar.files",  # where outcomes lie
    "nearfar.recordings.clips",  # names of recordings: they are among the inputs of a step
    "nearfar.recordings.datasets",
    "nearfar.recordings.recording",
    "nearfar.recordings.tracks",
    "nearfar.encoders.choosing",  # which arithmetic: its name is among the inputs
    "nearfar.encoders.measuring",
    "nearfar.encoders.processors",
    "nearfar.encoders.remembering",
    "nearfar.encoders.pretrained",  # where weights lie: their digests are among the inputs
    "nearfar.encoders.weights",
    "nearfar.embedding.store",  # where embeddings lie
    "nearfar.systems.arithmetics",  # as choosing
    "nearfar.systems.configuration",  # what a file says: its resolved form is among the inputs
    "nearfar.systems.named",
    "nearfar.systems.options",
    "nearfar.systems.resolved",
    "nearfar.systems.settings",
    "nearfar.research.adaptation",  # which adapters: their digests are among the inputs
    "nearfar.evaluation",  # what becomes of scores
)
IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # "package.module:Class"
PACKAGE = "nearfar"
ROOT = Path(__file__).parents[1]  # of the package


class _Module(NamedTuple):
    """What one module contributes: the digest of its syntax tree, and the modules that it imports, by name."""

    tree: str
    imports: tuple[str, ...]


@cache
def code_digest(*modules: str) -> str:
    """Digest of the code of these modules, and of the versions of the libraries that it computes with.

    Parameters
    ----------
    modules : str
        Names, such as ``"nearfar.backends.mahalanobis"``. A module outside the package counts by itself.

    Raises
    ------
    ModuleNotFoundError
        If there is no such module, or it has no file, as one of a notebook.
    """
    found = _closure(modules)
    return digest([[[name, of.tree] for name, of in sorted(found.items())], _libraries(found.values())])


def modules_of(*modules: str) -> tuple[str, ...]:
    """The names of all modules whose code ``code_digest`` takes.

    Raises
    ------
    ModuleNotFoundError
        If one of those that are named is not there.
    """
    return tuple(sorted(_closure(modules)))


def library_versions() -> dict[str, str]:
    """Versions of all libraries that compute scores and are installed, by the name of the distribution."""
    return {name: found for name in sorted(LIBRARIES.values()) if (found := _version(name))}


def library_version(module: str) -> str:
    """The version of the library that has this top-level module; empty if it is not installed."""
    return _version(LIBRARIES.get(module, module))


def _closure(modules: Iterable[str]) -> dict[str, _Module]:
    """These modules and all of the package that they import, directly or not, but for ``NO_PART``."""
    found: dict[str, _Module] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        file = _file(name)
        if file is None:
            raise ModuleNotFoundError(
                f"{name}: no such module, or none with a file; put its code into a module"
            )
        found[name] = _parse(file)
        if name.partition(".")[0] == PACKAGE:
            waiting += [own for own in found[name].imports if _has_part(own) and _file(own) is not None]
    return found


def _has_part(name: str) -> bool:
    return name.startswith(f"{PACKAGE}.") and not any(
        name == other or name.startswith(f"{other}.") for other in NO_PART
    )


def _libraries(modules: Iterable[_Module]) -> dict[str, str]:
    imported = {name.partition(".")[0] for module in modules for name in module.imports}
    return {
        distribution: _version(distribution)
        for module, distribution in sorted(LIBRARIES.items())
        if module in imported
    }


@cache
def _version(distribution: str) -> str:
    """Empty if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


@cache
def _file(name: str) -> Path | None:
    """The source of a module; None if there is none."""
    package, _, rest = name.partition(".")
    if package == PACKAGE:
        place = ROOT.joinpath(*rest.split(".")) if rest else ROOT
        files = (place.with_suffix(".py"), place / "__init__.py")
        return next((file for file in files if file.is_file()), None)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


@cache
def _parse(file: Path) -> _Module:
    content = file.read_bytes()
    if file.suffix != ".py":  # compiled
        return _Module(hashlib.sha256(content).hexdigest(), ())
    tree = ast.parse(content)
    _strip(tree)
    text = ast.dump(tree)  # without line numbers
    return _Module(hashlib.sha256(text.encode()).hexdigest(), tuple(dict.fromkeys(_imports(tree))))


def _strip(node: ast.AST) -> None:
    """Take out what computes nothing: docstrings, registries, imports for types alone."""
    for each in _statements(node):
        _strip(each)
    if isinstance(body := getattr(node, "body", None), list):
        node.body = [each for each in body if not _computes_nothing(each)] or [ast.Pass()]  # type: ignore[attr-defined]


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """What stands directly in a statement, or a module, and is or holds statements; expressions hold none."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        if isinstance(found := getattr(node, name, None), list):
            yield from found


def _computes_nothing(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" and not node.orelse
    return isinstance(node, ast.Assign | ast.AnnAssign) and _is_registry(node.value)


def _is_registry(value: ast.expr | None) -> bool:
    """Whether it is a table of import paths, ``{"name": "package.module:Class"}``."""
    return (
        isinstance(value, ast.Dict)
        and bool(value.values)
        and all(
            isinstance(v, ast.Constant) and isinstance(v.value, str) and IMPORT_PATH.fullmatch(v.value)
            for v in value.values
        )
    )


def _imports(node: ast.AST) -> Iterator[str]:
    """What is imported anywhere in it; of ``from a import b`` both a and a.b, of which one is a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module is not None:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    for each in _statements(node):
        yield from _imports(each)
