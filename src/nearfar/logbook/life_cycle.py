"""The life of an alert, in the words of OPC UA Part 9 (IEC 62541-9), which follows ISA-18.2 and IEC 62682."""

from __future__ import annotations

from typing import Literal

Condition = Literal["anomaly", "microphones", "no sound"]
CONDITIONS: tuple[Condition, ...] = ("anomaly", "microphones", "no sound")
SEVERITIES = {"anomaly": 700, "no sound": 500, "microphones": 400}  # of 1000; our choice
WHAT = (
    # an alert
    "activated", "acknowledged", "cleared", "re-armed", "evidence", "commented",
    # a condition
    "shelved", "unshelved", "suppressed", "unsuppressed", "out of service", "in service",
    # a machine
    "event", "normal", "mode", "detector", "heard late",
)  # fmt: skip
