"""Machines with moving parts, as they sound without a room; one file each.

A new machine is a class that keeps the contract of ``mechanics.Machine``, in a file of its own and a line of
``MACHINES``; the contract's tests then cover it.
"""

from nearfar.simulation.machines.bearing import Bearing
from nearfar.simulation.machines.fan import Fan
from nearfar.simulation.machines.gearbox import Gearbox
from nearfar.simulation.machines.mechanics import Machine
from nearfar.simulation.machines.motor import BrushlessMotor
from nearfar.simulation.machines.pump import Pump
from nearfar.simulation.machines.slider import Slider
from nearfar.simulation.machines.toycar import ToyCar
from nearfar.simulation.machines.valve import Valve

MACHINES: dict[str, type[Machine]] = {
    "fan": Fan,
    "gearbox": Gearbox,
    "bearing": Bearing,
    "pump": Pump,
    "slider": Slider,
    "valve": Valve,
    "motor": BrushlessMotor,
    "toycar": ToyCar,
}
