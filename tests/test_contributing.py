"""The worked examples of CONTRIBUTING.md: in a copy of the repository, the tests that they name must pass.

The sentence above a block says where it goes; ``PLACES`` lists the forms of that sentence.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CACHES = shutil.ignore_patterns(".*cache")  # what is compiled holds for a copy of equal age, too
SECTION = re.compile(r"^### (?P<title>.+)\n(?P<text>(?s:.*?))(?=^### |\Z)", re.MULTILINE)
BLOCK = re.compile(
    r"(?P<above>(?:^[^\n]+\n)*^[^\n]+):\n\n```(?:python|toml|text)\n(?P<code>(?s:.*?))^```$", re.MULTILINE
)
NAMED_TESTS = re.compile(r"^\$ \.venv/bin/python -m pytest (?P<arguments>.+)$", re.MULTILINE)
# Each run ends with collections of garbage, which need not look at what the others have loaded
RUN_EACH = """
import gc, json, sys
import pytest
codes = []
for run in json.loads(sys.argv[1]):
    codes.append(int(pytest.main(["-q", "-p", "no:cacheprovider", *run])))
    gc.freeze()
print("codes", json.dumps(codes))
"""


# Where a block goes: (what the file holds, block, name that the sentence gives) to what the file is to hold


def new_file(text: str, code: str, _: str) -> str:
    assert not text, "the file is there already"
    return code


def in_container(text: str, code: str, name: str) -> str:
    """Behind the bracket that opens a dict or a list; that of ``return``, if the name is a function's."""
    bracket = re.search(rf"^(?:def {name}\b(?s:.*?)return|{name}\b.*=) [\[{{]", text, re.MULTILINE)
    assert bracket, f"there is no list or dict {name}"
    return f"{text[: bracket.end()]}\n{code}{text[bracket.end() :]}"


def at_the_top(text: str, code: str, _: str) -> str:
    return _before(r"(?:from|import) (?!__future__)", text, code)


def above_a_name(text: str, code: str, name: str) -> str:
    return _before(rf"{name}\b", text, f"{code}\n\n")


def below_everything(text: str, code: str, _: str) -> str:
    return f"{text}\n\n{code}"


def in_place_of_a_line(text: str, code: str, _: str) -> str:
    """Of the one that begins alike, up to the first colon."""
    (line,) = (
        line for line in text.splitlines(keepends=True) if line.startswith(code.partition(":")[0] + ":")
    )
    return text.replace(line, code)


def _before(pattern: str, text: str, code: str) -> str:
    start = re.search(f"^{pattern}", text, re.MULTILINE)
    assert start, f"there is no line that begins with {pattern}"
    return text[: start.start()] + code + text[start.start() :]


PLACES: dict[str, Callable[[str, str, str], str]] = {
    r"in `(?P<name>\w+)` of `(?P<path>\S+)`": in_container,
    r"top of `(?P<path>\S+)`": at_the_top,
    r"`(?P<path>\S+)`, above `(?P<name>\w+)`": above_a_name,
    r"`(?P<path>\S+)`, below the other commands": below_everything,
    r"Replace the line in `(?P<path>\S+)`": in_place_of_a_line,
    r"`(?P<path>\S+)`": new_file,
}


def sections() -> Iterator[tuple[str, str]]:
    """Title and text of each kind of extension."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for section in SECTION.finditer(page[page.index("\n## Extensions\n") :]):
        yield section["title"], section["text"]


def apply(section: str, root: Path) -> list[Path]:
    """Put the blocks of a section into a repository; the files that are new."""
    new = []
    for block in BLOCK.finditer(section):
        above = " ".join(block["above"].split())
        found = ((re.search(f"{form}$", above), place) for form, place in PLACES.items())
        match, place = next(((match, place) for match, place in found if match), (None, None))
        assert match, f"where does the block go? Above it stands: {above}"
        path = root / match["path"]
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(place(before, block["code"], match.groupdict().get("name", "")), encoding="utf-8")
        if place is new_file:
            new.append(path)
    return new


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of what the tests need."""
    for folder in ("src", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=CACHES)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_worked_examples_pass_the_tests_that_they_name(repository: Path) -> None:
    named, new = {}, []
    for title, text in sections():
        blocks = apply(text, repository)
        assert len(re.findall("```(?:python|toml|text)\n", text)) == len(BLOCK.findall(text)), title
        named[title] = [shlex.split(tests) for tests in NAMED_TESTS.findall(text)]
        assert named[title], f"{title}: no tests are named"
        new += blocks
    python = [str(path) for path in new if path.suffix == ".py"]
    named["examples in docstrings"] = [["--doctest-modules", *python]]
    for check in (["check"], ["format", "--check"]):
        run([sys.executable, "-m", "ruff", *check, *python], repository)
    runs = [arguments for of_section in named.values() for arguments in of_section]
    done = run([sys.executable, "-c", RUN_EACH, json.dumps(runs)], repository)
    codes = json.loads(done.rpartition("codes ")[2])
    titles = [title for title, of_section in named.items() for _ in of_section]
    failed = {title for title, code in zip(titles, codes, strict=True) if code}  # 5: no test was selected
    assert not failed, f"{failed}:\n{done}"


def run(command: list[str], repository: Path) -> str:
    """What a command prints, in the copy; an error if it fails."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    ours |= {"PYTHONPATH": str(repository / "src"), "NEARFAR_CACHE": str(repository / "cache")}
    done = subprocess.run(
        command, cwd=repository, env=ours, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
