"""The history of a detector: what was added when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nearfar import __version__

FIT, CALIBRATE, LEARN = "fit", "calibrate", "learn"  # what an entry is
History = tuple[Mapping[str, Any], ...]


def entry(
    what: str, clips: int, of_domains: Mapping[str, int], sha: str, *, when: datetime | None, **more: Any
) -> dict[str, Any]:
    """An entry, JSON-able.

    Parameters
    ----------
    what : str
        ``FIT``, ``CALIBRATE`` or ``LEARN``.
    clips : int
    of_domains : mapping from domain to int
    sha : str
        Digest of the clips' contents.
    when : datetime or None
        ``None`` for a fit: the same clips give the same detector.
    **more
        What else is told.
    """
    told = None if when is None else when.astimezone(UTC).isoformat(timespec="seconds")
    return {
        "what": what, "when": told, "nearfar": __version__, "clips": clips, "domains": dict(of_domains),
        "digest": sha, **more,
    }  # fmt: skip


def of_fit(trained_on: Mapping[str, Any]) -> History:
    """That of a detector that was just fitted, from what ``Detector.trained_on`` says."""
    return (entry(FIT, trained_on["clips"], trained_on["domains"], trained_on["digest"], when=None),)
