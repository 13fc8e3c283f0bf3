"""The published studies: their files, and what each is in a few words.

Reading these loads neither NumPy nor pydantic, so that a list of them appears at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from nearfar.systems.named import read_toml

STUDIES: dict[str, Path] = {
    Path(str(file)).stem: Path(str(file))
    for file in sorted(resources.files(__package__).iterdir(), key=str)
    if str(file).endswith(".toml")
}


@dataclass(frozen=True, slots=True)
class StudyDescription:
    """What a list of studies shows of one; ``rows`` says how many there are."""

    name: str
    title: str
    source: str
    data: str
    summary: str
    rows: int


def describe() -> list[StudyDescription]:
    """All studies, read without looking up the systems that they name."""
    contents = map(read_toml, STUDIES.values())
    return [
        StudyDescription(c["name"], c["title"], c["source"], c["data"], c["summary"], len(c["rows"]))
        for c in contents
    ]
