"""A simulator of machines that fail, heard by a near and a far microphone.

Five modules, each using only those before it: ``noise`` (sounds without a machine), ``faults``, ``machines``,
``rooms`` (from a place to two microphones), ``dataset`` (the folder of the challenge).
"""

from nearfar.simulation.dataset import simulate
from nearfar.simulation.machines import MACHINES

__all__ = ["MACHINES", "simulate"]
