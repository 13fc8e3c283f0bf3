"""Which computers do the work, and what a task needs of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

LOCAL = "local"
OWN_CLUSTER = "ray"
ANY_CLUSTER = "auto"
_ADDRESS = re.compile(r"(ray://)?(?P<host>\[[0-9a-fA-F:.]+\]|[^\s/:\[\]]+):(?P<port>\d{1,5})")
EXPECTED = (
    "expected local (worker processes), ray (a cluster of this computer, started for this command), "
    "auto (the cluster that this computer belongs to), HOST:PORT (the cluster with this head, joined from one of "
    "its computers) or ray://HOST:PORT (joined from outside)"
)


class PlaceError(OSError):
    """Tasks cannot run where they should: the message says why, and what to do. It ends all of them."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What one task takes of a computer, so that a cluster does not put too many on it.

    Attributes
    ----------
    cores : float
    memory : int
        In bytes; 0: not counted.
    gpus : float
        Share of a GPU; 0: the task sees none.

    Raises
    ------
    ValueError
        If a number is below 0, or of several GPUs not whole.
    """

    cores: float = 1.0
    memory: int = 0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if not (self.cores > 0 and self.memory >= 0 and self.gpus >= 0):
            raise ValueError(
                f"cores={self.cores}, memory={self.memory}, gpus={self.gpus}: a task needs more than 0 cores, "
                "and no less than 0 of memory and GPUs"
            )
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus={self.gpus}: above 1 they must be whole, such as 2")

    def __str__(self) -> str:
        told = [f"{self.cores:g} {'core' if self.cores == 1 else 'cores'}"]
        if self.memory:
            told.append(f"{self.memory / 2**30:.3g} GiB")
        if self.gpus:
            told.append(f"{self.gpus:g} GPU")
        return ", ".join(told)


@dataclass(frozen=True, slots=True)
class Place:
    """Where tasks run.

    Attributes
    ----------
    address : str
        "local": worker processes. "ray": a cluster of this computer alone, which is started for this process and
        ends with it. "auto": the cluster that this computer belongs to. "HOST:PORT" or "ray://HOST:PORT": the
        cluster with that head.
    workers : int
        Worker processes, or cores of the cluster that is started; a cluster that is joined has its own number.
    needs : Needs
        Of each task, on a cluster.

    Raises
    ------
    ValueError
        If the address is none of these, or GPUs are asked for without a cluster.

    Examples
    --------
    >>> from nearfar.places.place import Place
    >>> Place("ray", workers=4).is_cluster, Place.of(4).is_cluster
    (True, False)
    """

    address: str = LOCAL
    workers: int = 1
    needs: Needs = Needs()

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"workers={self.workers}: must be at least 1")
        if self.address in (LOCAL, OWN_CLUSTER, ANY_CLUSTER):
            pass
        elif (found := _ADDRESS.fullmatch(self.address)) is None or not 0 < int(found["port"]) < 65536:
            raise ValueError(f"place {self.address!r}: {EXPECTED}")
        if self.needs != Needs() and not self.is_cluster:
            raise ValueError(f"tasks that need {self.needs} are for a cluster; name one, such as 'ray'")

    @classmethod
    def of(cls, workers: Self | int) -> Self:
        """So many processes of this computer; a place stays as it is."""
        return cls(workers=workers) if isinstance(workers, int) else workers

    @property
    def host_and_port(self) -> tuple[str, int] | None:
        """Of the head, where the address names it."""
        found = _ADDRESS.fullmatch(self.address)
        return None if found is None else (found["host"].strip("[]"), int(found["port"]))

    @property
    def is_cluster(self) -> bool:
        """Whether Ray is needed."""
        return self.address != LOCAL
