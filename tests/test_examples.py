"""The examples of docstrings and pages, executed; and the command lines of the pages, parsed.

The Python blocks of a page run in their order, in one namespace, in a temporary folder with the files of
``page_data``. A block that cannot run is marked ``<!-- skip: REASON -->`` in the line above it. It shows up among
the skipped tests, with its reason.
"""

from __future__ import annotations

import ast
import doctest
import pkgutil
import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import page_data
import pytest
import typer
from sybil.document import Document
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

from nearfar.cli import app
from nearfar.export import nearfar_edge
from nearfar.files.listing import DETECTOR
from nearfar.files.steps import CACHE_VARIABLE
from nearfar.research import fused, reproduce
from nearfar.systems import configuration
from nearfar.watching.site import Site
from nearfar.watching.site import load as load_site

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "nearfar"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"  # its Python blocks are modules: tests/test_contributing.py
PAGES = [ROOT / "README.md", CONTRIBUTING, ROOT / "benchmarks" / "README.md", *sorted(ROOT.glob("docs/*.md"))]

FENCE = re.compile(r"^ *```(?P<language>\S*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
SKIP = re.compile(r"<!-- skip: (?P<reason>[^>]*\S) -->\n *\Z")
INLINE = re.compile(r"`([^`]+)`")
SHELL = ("sh", "bash", "console")
BEFORE_A_COMMAND = re.compile(r"while|do|if|then|!|time|\w+=.*")
VARIABLE = re.compile(r'\b([A-Z]\w*)="([^"]*)"')
OPTION = re.compile(r"--?[a-z][a-z-]*")
NOT_OURS = {"-k", "-m"}  # of pytest and Python
OF_THE_RUNNER = set(nearfar_edge.parser()._option_string_actions)  # that is written beside an export
FILE = re.compile(r"(?:src|tests|docs|benchmarks)/(?!_)[\w./*-]+")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
TEST = re.compile(r"(?:test_|Test[A-Z])\w+")
DOTTED = re.compile(r"nearfar(?:\.\w+)+")
OPERATOR = re.compile(r"[|&;<>()]+")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    why_skipped: str

    @property
    def lines(self) -> range:
        return range(self.line, self.line + self.text.count("\n") + 2)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    """The fenced blocks of a page, in their order."""
    text, found = page.read_text(encoding="utf-8"), []
    for fence in FENCE.finditer(text):
        skip = SKIP.search(text, max(0, fence.start() - 500), fence.start())
        line = text.count("\n", 0, fence.start()) + 1
        found.append(Block(page, line, fence["language"], fence["text"], skip["reason"] if skip else ""))
    return tuple(found)


def blocks_in(*languages: str) -> list[Block]:
    """The blocks of all pages in these languages."""
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


PYTHON = [block for block in blocks_in("python") if block.page != CONTRIBUTING]


# The working folder


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small recordings under the names that the pages use."""
    folder = tmp_path_factory.mktemp("recordings-of-pages")
    page_data.write_recordings(folder)
    return folder


@pytest.fixture
def work(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder but for the recordings, and an empty cache."""
    folder = tmp_path / "work"
    folder.mkdir()
    for there in recordings.iterdir():
        (folder / there.name).symlink_to(there)
    monkeypatch.chdir(folder)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return folder


# Docstrings


def docstrings() -> Iterator[tuple[Path, str, ast.Constant]]:
    """Every docstring with an example: its file, the name of what it documents, and itself."""
    for path in sorted(SOURCE.rglob("*.py")):
        if ">>>" in (text := path.read_text(encoding="utf-8")):
            yield from ((path, name, node) for name, node in _docstrings(ast.parse(text), ""))


def _docstrings(node: Any, name: str) -> Iterator[tuple[str, ast.Constant]]:
    match node.body[0]:
        case ast.Expr(value=ast.Constant(value=str(text)) as constant) if ">>>" in text:
            yield name, constant
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.ClassDef | ast.FunctionDef):
            yield from _docstrings(inner, f"{name}.{inner.name}".lstrip("."))


DOCSTRINGS = {f"{path.relative_to(SOURCE)}:{name}": (path, constant) for path, name, constant in docstrings()}


@pytest.mark.newest  # of most modules something runs
@pytest.mark.parametrize("name", DOCSTRINGS)
@pytest.mark.usefixtures("work")
def test_examples_of_a_docstring(name: str) -> None:
    path, constant = DOCSTRINGS[name]
    lines = "\n" * (constant.lineno - 1)  # so that a failure names the line of the file
    run_examples(Document(lines + constant.value, str(path)), DocTestParser(doctest.ELLIPSIS))


def run_examples(document: Document, parser: Any, *, without: Sequence[Block] = ()) -> list[int]:
    """Evaluate the examples of a document in one namespace, but for those in some blocks; the lines of all."""
    for region in parser(document):
        document.add(region)
    document.namespace["__name__"] = "__main__"
    left_out = {line for block in without for line in block.lines}
    examples = list(document)
    for example in examples:
        if example.line not in left_out:
            example.evaluate()
    return [example.line for example in examples]


# Pages


@pytest.mark.parametrize("page", sorted({block.page for block in PYTHON}), ids=lambda page: page.name)
def test_python_blocks_of_a_page(page: Path, work: Path) -> None:
    text = page_data.smaller(page)
    page_data.write_named_files(text, work)
    page_data.PREPARE.get(page.name, lambda _: None)(work)
    own = [block for block in PYTHON if block.page == page]
    skipped = [block for block in own if block.why_skipped]
    lines = run_examples(Document(text, str(page)), PythonCodeBlockParser(), without=skipped)
    unseen = [str(block) for block in own if not set(lines) & set(block.lines)]
    assert not unseen, f"Sybil finds no example in {unseen}"


@pytest.mark.parametrize("block", [block for block in PYTHON if block.why_skipped], ids=str)
def test_python_block_that_cannot_run(block: Block) -> None:
    compile(block.text, str(block), "exec")
    pytest.skip(block.why_skipped)


def _site(path: str) -> Site:
    """A site, whose detectors are there as far as that is looked at."""
    for machine in tomllib.loads(Path(path).read_text(encoding="utf-8"))["machines"].values():
        folder = Path(path).parent / machine["detector"]
        folder.mkdir(parents=True)
        (folder / DETECTOR).write_text("{}")
    return load_site(path)


READERS: dict[str, Any] = {
    "branch": configuration.load,
    "fusion": fused.load,
    "rows": reproduce.load,
    "machines": _site,
}  # by a key that each file has


@pytest.mark.parametrize("block", blocks_in("toml"), ids=str)
def test_a_toml_block_can_be_read(block: Block, tmp_path: Path) -> None:
    """As TOML; and if it is a whole file, as what it describes."""
    text = textwrap.dedent(block.text)
    content = tomllib.loads(text)
    if "name" in content:
        (reader,) = (READERS[key] for key in READERS if key in content)
        path = tmp_path / f"{content['name']}.toml"
        path.write_text(text, encoding="utf-8")
        assert reader(str(path)).name == content["name"]


# Command lines

NEARFAR: Any = typer.main.get_command(app)


def calls(block: Block) -> Iterator[list[str]]:
    """The words of each call of nearfar in a shell block, without ``nearfar``."""
    variables: dict[str, str] = {}
    for line in block.text.replace("\\\n", " ").splitlines():
        prompt, dollar, typed = line.partition("$ ")
        if block.language == "console" and (prompt.strip() or not dollar):
            continue  # what a command prints
        typed = typed if block.language == "console" else line
        variables |= {f"${name}": value for name, value in VARIABLE.findall(typed)}
        for name, value in variables.items():
            typed = typed.replace(name, value)
        yield from _calls(typed)


def _calls(line: str) -> Iterator[list[str]]:
    words: list[str] = []
    for word in [*_lexer(line), ";"]:
        if not OPERATOR.fullmatch(word):
            words.append(word)
            continue
        while words and BEFORE_A_COMMAND.fullmatch(words[0]):
            words.pop(0)
        if words and Path(words[0]).name == "nearfar":
            yield words[1:]
        words = []


def _lexer(line: str) -> shlex.shlex:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return lexer


def command_of(words: Sequence[str]) -> tuple[Any, list[str]]:
    """The command that is called, and the words behind its name."""
    command, rest = NEARFAR, list(words)
    while rest and not rest[0].startswith("-") and hasattr(command, "commands"):
        assert rest[0] in command.commands, (
            f"there is no command {rest[0]!r} in `nearfar {shlex.join(words)}`"
        )
        command = command.commands[rest.pop(0)]
    return command, rest


CALLS = [
    pytest.param(words, id=f"{block}-{shlex.join(words)[:40]}")
    for block in blocks_in(*SHELL)
    for words in calls(block)
]


@pytest.mark.parametrize("words", CALLS)
def test_a_command_line_of_a_page_can_be_parsed(words: list[str]) -> None:
    command, rest = command_of(words)
    with command.make_context(shlex.join(words), rest):
        pass  # parsed, with required arguments, options, and the types of their values; not run


def test_options_that_a_page_names_exist() -> None:
    """Of commands inside of sentences, which need not be complete."""
    every = set().union(*(options_of(command) for command in all_commands()))
    unknown = []
    for page in PAGES:
        for text in code_spans(page):
            if text.startswith("nearfar "):
                command, rest = command_of(text.split()[1:])
                known = options_of(command)
            elif (
                OPTION.fullmatch(text.split()[0]) and page.parent.name != "benchmarks"
            ):  # its programs have others
                rest, known = text.split(), every | NOT_OURS | OF_THE_RUNNER
            else:
                continue
            options = [word.partition("=")[0] for word in rest if OPTION.fullmatch(word.partition("=")[0])]
            unknown += [f"{page.name}: `{text}` has {option}" for option in options if option not in known]
    assert not unknown


def all_commands(command: Any = NEARFAR) -> Iterator[Any]:
    yield command
    for inner in getattr(command, "commands", {}).values():
        yield from all_commands(inner)


def options_of(command: Any) -> set[str]:
    return {"--help", "-h"}.union(*((*p.opts, *p.secondary_opts) for p in command.params))


def code_spans(page: Path) -> list[str]:
    """The code inside of sentences."""
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [" ".join(span.split()) for span in INLINE.findall(prose)]


# Names of files and modules


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page: Path) -> None:
    """Files of the repository, links, modules with what is in them, and tests."""
    spans = code_spans(page)
    paths = {span for span in spans if FILE.fullmatch(span)} - set(new_files(page))
    links = {link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link}
    absent = [path for path in sorted(paths) if not list(ROOT.glob(path))]
    absent += [link for link in sorted(links) if not (page.parent / link).exists()]
    for name in sorted(span for span in spans if DOTTED.fullmatch(span)):
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            absent.append(name)
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py"))
    named = sorted(span for span in spans if TEST.fullmatch(span))
    absent += [name for name in named if not re.search(rf"(?:def|class) {name}\b", tests)]
    assert not absent


def new_files(page: Path) -> list[str]:
    """The files that a reader is told to write: a path right before a block."""
    return re.findall(r"`(src/nearfar/\S+)`\)?:\n\n```", page.read_text(encoding="utf-8"))
