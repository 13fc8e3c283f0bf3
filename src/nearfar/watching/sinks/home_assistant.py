"""How Home Assistant finds machines by itself: MQTT discovery of devices.

One retained message a machine, on ``homeassistant/device/ID/config``, says which entities it has and how each is
read from the state of the machine (https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload). Keys
are those of Home Assistant: ``dev`` is the device, ``o`` the origin, ``cmps`` the components, ``p`` a platform.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from nearfar import __version__
from nearfar.logbook.life_cycle import CONDITIONS
from nearfar.logbook.schema import MODES

BIRTH = "online"  # what Home Assistant says on PREFIX/status when it starts
DOCUMENTATION = "https://nearfar.readthedocs.io"
NAMES = {"anomaly": "Anomaly", "microphones": "Broken microphones", "no sound": "No sound"}
LONGEST_SLUG = 40  # characters; topics stay readable


def identifier(site: str, machine: str) -> str:
    """An id of letters, digits, ``_`` and ``-`` alone, as discovery topics allow; another one for every machine.

    Examples
    --------
    >>> from nearfar.watching.sinks.home_assistant import identifier
    >>> identifier("Hall 3", "pump/1"), identifier("Hall 3", "pump 1")
    ('nearfar_hall_3_pump_1_aadf3dc2', 'nearfar_hall_3_pump_1_69474b79')
    """
    digest = hashlib.sha256(f"{site}\0{machine}".encode()).hexdigest()[:8]
    slug = re.sub(r"[^a-z0-9]+", "_", f"{site} {machine}".lower()).strip("_")[:LONGEST_SLUG].strip("_")
    return "_".join(part for part in ("nearfar", slug, digest) if part)


def device(site: str, row: Mapping[str, Any], *, state: str, availability: str) -> dict[str, Any]:
    """The payload of discovery for a machine.

    Parameters
    ----------
    site : str
    row : mapping
        Of the machine, as ``logbook.asked.machines`` gives it.
    state, availability : str
        Topics.
    """
    id = identifier(site, row["name"])
    return {
        "dev": {
            "ids": [id],
            "name": row["name"],
            "mf": "nearfar",
            "mdl": row["system"],
            "sw": __version__,
            "sa": site,
        },
        "o": {"name": "nearfar", "sw": __version__, "url": DOCUMENTATION},
        "cmps": {key: {"unique_id": f"{id}_{key}", **component} for key, component in _components().items()},
        "state_topic": state,
        "availability": [{"topic": availability}],
        "qos": 1,
    }


def _components() -> dict[str, dict[str, Any]]:
    """The entities of a machine. A template that gives "None" makes an entity unknown."""
    problems = {
        condition.replace(" ", "_"): {
            "p": "binary_sensor",
            "name": NAMES[condition],
            "device_class": "problem",
            "value_template": f"{{{{ 'ON' if value_json.conditions['{condition}'].problem else 'OFF' }}}}",
        }
        for condition in CONDITIONS
    }
    return {
        **problems,
        "score": _number("Anomaly score", "score"),
        "evidence": _number("Evidence of an anomaly", "evidence"),
        "running": {
            "p": "binary_sensor",
            "name": "Running",
            "device_class": "running",
            "value_template": (
                "{{ 'None' if value_json.running is none else 'ON' if value_json.running else 'OFF' }}"
            ),
        },
        "mode": {
            "p": "sensor",
            "name": "Mode",
            "device_class": "enum",
            "options": list(MODES),
            "entity_category": "diagnostic",
            "value_template": "{{ value_json.mode }}",
        },
    }


def _number(name: str, key: str) -> dict[str, Any]:
    return {
        "p": "sensor",
        "name": name,
        "state_class": "measurement",
        "suggested_display_precision": 3,
        "value_template": f"{{{{ value_json.{key} }}}}",
    }
