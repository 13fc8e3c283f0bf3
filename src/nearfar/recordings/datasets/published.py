"""What a published data set is: the part that the modules ``dcase2020`` to ``dcase2026`` share.

Conventions
-----------
A published set has two *parts* that are reported apart: ``dev``, the development machines, and ``eval``, the
evaluation machines. It is published as three *subsets*: ``dev``, ``train`` (additional training: the normal
clips of the evaluation machines) and ``eval`` (their test clips).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Part = Literal["dev", "eval"]
Subset = Literal["dev", "train", "eval"]

PART_OF: dict[Subset, Part] = {"dev": "dev", "train": "eval", "eval": "eval"}
RATE = 16_000  # Hz, of every year; of the published sets only

CC_BY_NC_SA_4_0 = """\
Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International (CC BY-NC-SA 4.0)
https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode
You may copy, share and adapt the recordings if you give credit to their authors and say what you changed,
if you do not use them commercially, and if you pass on what you make of them under the same licence.
This summary is not the licence."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many clips one section of one machine has.

    Attributes
    ----------
    source, target : int
        Normal training clips of either domain.
    cell : int
        Test clips in each of source/target x normal/anomaly; the evaluation set has as many, undisclosed.
    """

    source: int
    target: int
    cell: int

    @property
    def test(self) -> int:
        return 4 * self.cell


@dataclass(frozen=True)
class Remote:
    """A Zenodo record: its number, and the MD5 of those of its archives that are known beforehand."""

    record: int
    md5: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """A set that the organizers of DCASE Challenge Task 2 published.

    Attributes
    ----------
    name : str
        ``dcase2020`` to ``dcase2026``.
    bibtex, license : str
        The task description to cite; the licence's name, address and summary.
    machines : part -> names
    sections : part -> numbers
        Of every machine of that part.
    channels : int
    counts : Counts or None
        None where they differ by machine.
    remotes : subset -> Remote
        Empty where there is nothing to download from.
    """

    name: str
    bibtex: str
    license: str
    machines: Mapping[Part, tuple[str, ...]]
    sections: Mapping[Part, tuple[int, ...]]
    channels: int
    counts: Counts | None
    remotes: Mapping[Subset, Remote]
