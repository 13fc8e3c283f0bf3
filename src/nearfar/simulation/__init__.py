"""A simulator of machines that fail, heard by a near and a far microphone.

Each module uses only those before it: ``signals`` (what sounds are built of), ``faults``, ``machines``, ``noise``,
``rooms`` (from a place to two microphones), ``recorders`` (the microphones and how they fail), ``sites`` (a
machine where it stands), ``dataset`` (the folder of the challenge).
"""

from nearfar.simulation.dataset import PRESETS, Description, describe, simulate
from nearfar.simulation.machines import MACHINES

__all__ = ["MACHINES", "PRESETS", "Description", "describe", "simulate"]
