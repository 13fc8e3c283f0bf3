"""What can be simulated, in a few words, and how the domains of each machine differ.

The facts stand in the machines' modules, once. They are read there as text: the modules themselves load NumPy and
SciPy, and a list of the machines is to appear at once.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "machines"


@dataclass(frozen=True, slots=True)
class Scenario:
    """How the domains of a machine differ, and whether its attributes are told in the file names."""

    shift: tuple[str, ...]
    told: bool


# One of each kind of shift that the challenge has; as there, some machines come without attributes.
SCENARIOS = {
    "fan": Scenario(("noise",), told=True),  # as in 2026: the same speeds in both domains
    "gearbox": Scenario(("unit",), told=True),  # as in 2026: new values of the attribute
    "bearing": Scenario(("speed",), told=False),
    "pump": Scenario(("load",), told=True),
    "slider": Scenario(("microphones",), told=False),
    "valve": Scenario(("speed",), told=False),
    "motor": Scenario(("speed", "load"), told=True),
    "toycar": Scenario(("none",), told=False),
}


@dataclass(frozen=True, slots=True)
class MachineDescription:
    """A machine, for whoever chooses."""

    name: str
    summary: str
    speeds: tuple[int, ...]
    speed_unit: str
    faults: tuple[str, ...]
    shift: tuple[str, ...]


def describe() -> list[MachineDescription]:
    """The machines that can be simulated."""
    return [read_description(name, (FOLDER / f"{name}.py").read_text(encoding="utf-8")) for name in SCENARIOS]


def read_description(name: str, source: str) -> MachineDescription:
    """A machine of ``SCENARIOS``, from the source code of its module.

    Raises
    ------
    ValueError
        If the code does not say its facts in the form that all machines have.
    """
    module = ast.parse(source)
    try:
        machine = _machine(module)
        constants = _constants(machine)
        return MachineDescription(
            name=name,
            summary=(ast.get_docstring(module) or "").rstrip("."),
            speeds=_speeds(constants["SPEEDS"]),
            speed_unit=ast.literal_eval(constants["SPEED_UNIT"]),
            faults=_faults(machine),
            shift=SCENARIOS[name].shift,
        )
    except (ValueError, LookupError) as error:
        raise ValueError(
            f"machine {name!r}: {error}; its module must have one class with `SPEEDS = Offer((...), (...))`, "
            "`SPEED_UNIT`, and a method `faults` that ends with `return {...}`, all written out, because a list of "
            "the machines reads them without running the code"
        ) from error


def _machine(module: ast.Module) -> ast.ClassDef:
    """The class that has ``SPEEDS``."""
    found = [node for node in module.body if isinstance(node, ast.ClassDef) and "SPEEDS" in _constants(node)]
    if len(found) != 1:
        raise ValueError(f"{len(found)} classes have SPEEDS")
    return found[0]


def _constants(machine: ast.ClassDef) -> dict[str, ast.expr]:
    """The class attributes that have a value."""
    return {
        node.target.id: node.value
        for node in machine.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
    }


def _speeds(offer: ast.expr) -> tuple[int, ...]:
    """All values of ``Offer((...), (...))``, ascending."""
    if not isinstance(offer, ast.Call):
        raise ValueError("SPEEDS is not an Offer")  # noqa: TRY004  # of the code that is read
    return tuple(sorted({speed for values in offer.args for speed in ast.literal_eval(values)}))


def _faults(machine: ast.ClassDef) -> tuple[str, ...]:
    """The keys of the dict that the method ``faults`` returns."""
    methods = {node.name: node for node in machine.body if isinstance(node, ast.FunctionDef)}
    returned = methods["faults"].body[-1]
    if not (isinstance(returned, ast.Return) and isinstance(returned.value, ast.Dict)):
        raise ValueError("faults() does not return a dict")  # noqa: TRY004  # of the code that is read
    names = [key.value for key in returned.value.keys if isinstance(key, ast.Constant)]
    if len(names) < len(returned.value.keys):
        raise ValueError("faults() returns names that are not written out")
    return tuple(map(str, names))
