"""JSON lines: whole lines, each once, in a file that others may rename, and that a disk may have no room for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nearfar.watching.sinks import Message, SinkDownError, as_json
from nearfar.watching.sinks.json_lines import JsonLines


def message(number: int, *, what: str = "activated", at: float = 0.0, words: str = "") -> Message:
    id = f"journal-{number}"
    content = {
        "format": 1,
        "id": id,
        "site": "Hall 3",
        "machine": "pump",
        "what": what,
        "at_s": at,
        "words": words,
    }
    return Message(id, "journal", what, "pump", content)


def numbers(path: Path) -> list[int]:
    """Of the messages in a file, all of which must be whole lines."""
    text = path.read_text(encoding="utf-8")
    assert text == "" or text.endswith("\n")
    return [int(json.loads(line)["id"].removeprefix("journal-")) for line in text.splitlines()]


def opened(path: Path, **options: object) -> JsonLines:
    sink = JsonLines(path, **options)
    sink.open(None)
    return sink


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "told.jsonl"  # of a folder that is not there


def test_each_message_is_a_line(path: Path) -> None:
    sink = opened(path)
    told = [message(1), message(2, words="Größe\n\u2028")]
    for each in told:
        sink.deliver(each)
    sink.close()
    assert path.read_bytes() == b"".join(as_json(each) + b"\n" for each in told)


def test_it_goes_on_at_the_end(path: Path) -> None:
    for number in (1, 2, 3):
        sink = opened(path)
        sink.deliver(message(number))
        sink.close()
    assert numbers(path) == [1, 2, 3]


@pytest.mark.parametrize("cut", [1, 5, 9, 10, 11, 60])
def test_half_a_line_is_cut_off_and_told_again(path: Path, cut: int) -> None:
    path.parent.mkdir()
    line = as_json(message(2))
    path.write_bytes(as_json(message(1)) + b"\n" + line[: -len(line) + cut])
    sink = opened(path)
    sink.deliver(message(2))
    sink.close()
    assert numbers(path) == [1, 2]


def test_half_a_line_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(as_json(message(1, words="x" * 100_000))[:70_000])  # longer than what is read at once
    sink = opened(path)
    sink.deliver(message(1))
    sink.close()
    assert numbers(path) == [1]


def test_a_line_that_is_there_is_not_written_twice(path: Path) -> None:
    sink = opened(path)
    for number in (1, 2, 3):
        sink.deliver(message(number))
    sink.close()
    sink = opened(path)  # after a kill, the logbook does not know of the last two
    for number in (2, 3, 4):
        sink.deliver(message(number))
    sink.close()
    assert numbers(path) == [1, 2, 3, 4]


def test_a_new_logbook_begins_with_the_same_numbers_and_is_told(path: Path) -> None:
    sink = opened(path)
    sink.deliver(message(1, at=1.0))
    sink.close()
    sink = opened(path)
    sink.deliver(message(1, at=2.0))
    sink.close()
    assert numbers(path) == [1, 1]


@pytest.mark.parametrize("content", [b"date,score\n1,2\n", b"no end", b"[1]\n", b'{"a": 1}\n', b"\x00\xff\n"])
def test_a_file_of_something_else_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(SinkDownError, match="no message of nearfar"):
        opened(path)
    assert path.read_bytes() == content


def test_a_program_that_renames_the_file_gets_a_new_one(path: Path) -> None:
    sink = opened(path)
    sink.deliver(message(1))
    path.rename(path.with_suffix(".old"))
    sink.deliver(message(2))
    path.unlink()
    sink.deliver(message(3))
    sink.close()
    assert numbers(path.with_suffix(".old")) == [1]
    assert numbers(path) == [3]


def test_large_files_are_renamed_and_the_oldest_go(path: Path) -> None:
    sink = opened(path, most_mb=300 / 1e6, keep=2)
    for number in range(1, 20):
        sink.deliver(message(number))
    sink.close()
    names = sorted(each.name for each in path.parent.iterdir())
    assert names == ["told.jsonl", "told.jsonl.1", "told.jsonl.2"]
    assert all(each.stat().st_size <= 300 for each in path.parent.iterdir())
    kept = [number for name in reversed(names) for number in numbers(path.parent / name)]
    assert kept == list(range(20 - len(kept), 20))


def test_a_message_in_the_renamed_file_is_not_told_again(path: Path) -> None:
    sink = opened(path, most_mb=250 / 1e6)
    for number in range(1, 6):
        sink.deliver(message(number))
    sink.close()
    (path.parent / "told.jsonl.1").replace(path.parent / "kept")
    (path.parent / "kept").replace(path.parent / "told.jsonl.1")
    in_renamed = numbers(path.parent / "told.jsonl.1")
    sink = opened(path, most_mb=1.0)
    sink.deliver(message(in_renamed[-1]))
    sink.close()
    assert in_renamed[-1] not in numbers(path)


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_sink_json_lines import message
from nearfar.watching.sinks import SinkDownError
from nearfar.watching.sinks.json_lines import JsonLines
path = Path(sys.argv[1])
sink = JsonLines(path)
sink.open(None)
sink.deliver(message(1))
room = path.stat().st_size + 30
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
for _ in range(3):
    try:
        sink.deliver(message(2))
    except SinkDownError as error:
        print(error)
assert path.read_bytes().count(b"\\n") == 1 and path.read_bytes().endswith(b"\\n"), path.read_bytes()
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
sink.deliver(message(2))
sink.deliver(message(3))
"""


def test_a_full_disk_is_told_leaves_whole_lines_and_may_have_room_again(path: Path) -> None:
    """A limit on the size of files is a full disk that needs no disk."""
    code = FULL.format(tests=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{path}: File too large"] * 3
    assert numbers(path) == [1, 2, 3]


def test_a_folder_in_its_place_is_down(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(SinkDownError, match=r"told\.jsonl: Is a directory"):
        opened(path)


def test_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    sink = opened(Path("-"))
    sink.deliver(message(1))
    sink.deliver(message(1))  # a pipe has no end that could be read
    sink.close()
    assert capfdbinary.readouterr().out == 2 * (as_json(message(1)) + b"\n")


PIPE = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_sink_json_lines import message
from nearfar.watching.sinks import SinkDownError
from nearfar.watching.sinks.json_lines import JsonLines
sink = JsonLines()
sink.deliver(message(1))
sys.stdin.readline()
try:
    sink.deliver(message(2))
except SinkDownError as error:
    print(error, file=sys.stderr)
sys.stdout = None
"""


def test_a_reader_of_standard_output_that_is_gone_is_down() -> None:
    code = PIPE.format(tests=str(Path(__file__).parent))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["id"] == "journal-1"
        process.stdout.close()
        process.stdin.write(b"go\n")
        process.stdin.flush()
        assert process.stderr.read() == b"-: Broken pipe\n"


@pytest.mark.parametrize(
    ("options", "match"),
    [({"most_mb": 0.0}, "most_mb=0.0: must be more than 0"), ({"keep": 0}, "keep=0: must be at")],
)
def test_options_out_of_range(options: dict[str, float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        JsonLines(Path("x"), **options)


def test_streams() -> None:
    assert JsonLines().streams == ("journal",)
    assert JsonLines(windows=True).streams == ("journal", "windows")
