"""How much one may ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one may ask for. All defaults are our choice.

    Attributes
    ----------
    json_bytes : int
        Of the body of an action.
    body_seconds : float
        Within which such a body must have come in.
    upload_bytes : int
        Of a recording.
    upload_seconds : float
        Within which a recording must have come in.
    uploads : int
        How many recordings may come in or be decoded at once.
    recording_seconds : float
        How long a recording may be.
    work_seconds : float
        How long the worker may take to decode, score and explain a recording, and how long it may compute.
    work_bytes : int
        How much memory the worker may write to.
    followers : int
        How many may follow ``/api/changes`` at once.
    follower_behind : int
        How many messages a follower may be behind before it is cut off.
    kept_bytes : int
        Of answers that are kept until something changes.
    kept_pages_bytes : int
        Of evidence pages that are kept.
    session_seconds : float
        How long a log-in lasts.
    log_ins : int
        How many log-ins may fail within a minute, for each client.
    """

    json_bytes: int = 64 * 1024
    body_seconds: float = 10.0
    upload_bytes: int = 50_000_000
    upload_seconds: float = 60.0
    uploads: int = 2
    recording_seconds: float = 600.0
    work_seconds: float = 60.0
    work_bytes: int = 3 * 2**30
    followers: int = 100
    follower_behind: int = 256
    kept_bytes: int = 16 * 2**20
    kept_pages_bytes: int = 64 * 2**20
    session_seconds: float = 12 * 3600.0
    log_ins: int = 10
