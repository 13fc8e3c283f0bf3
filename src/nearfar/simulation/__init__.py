"""A simulator of machines that fail, heard by a near and a far microphone.

Each module uses only those before it: ``signals`` (what sounds are built of), ``faults``, ``machines``, ``noise``,
``rooms`` (from a place to two microphones), ``fields`` (noise from many places), ``recorders`` (the microphones and
how they fail), ``sites`` (a machine where it stands), ``dataset`` (the folder of the challenge). For days of sound
there are ``continued`` (sounds without end; before ``signals``), ``schedules`` (what happens), ``streams`` (what is
heard), ``broadcast`` (files that say when they began) and ``days`` (the folder). ``catalogue`` says what there is.

The public names load what they need when they are first used, because a list of the machines needs next to nothing.
"""

import pkgutil
from typing import TYPE_CHECKING, Any

from nearfar.simulation.catalogue import MachineDescription, describe

if TYPE_CHECKING:
    from nearfar.simulation.dataset import PRESETS, simulate
    from nearfar.simulation.days import simulate_stream
    from nearfar.simulation.machines import MACHINES
    from nearfar.simulation.schedules import Onset

_LOADED_WHEN_USED = {
    "MACHINES": "nearfar.simulation.machines:MACHINES",
    "PRESETS": "nearfar.simulation.dataset:PRESETS",
    "Onset": "nearfar.simulation.schedules:Onset",
    "simulate": "nearfar.simulation.dataset:simulate",
    "simulate_stream": "nearfar.simulation.days:simulate_stream",
}

__all__ = ["MACHINES", "PRESETS", "MachineDescription", "Onset", "describe", "simulate", "simulate_stream"]


def __getattr__(name: str) -> Any:
    if name in _LOADED_WHEN_USED:
        return pkgutil.resolve_name(_LOADED_WHEN_USED[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
