"""One case: damaged files are read in a process of their own, and what comes of it is put into a word.

Conventions
-----------
A case is named by its surface and its number; with the seed of the run these are all that its damage depends on.
Its process is forked from one that has loaded everything, so it begins in milliseconds, and whatever it does to
itself costs this case alone. It has ``SECONDS`` and ``BYTES``. Of memory the data segment is limited, not the
address space: that counts mapped libraries too, of which torch alone has gigabytes.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from fuzz.surfaces import Surface, damaged
from nearfar.files.extras import MissingPackageError

SECONDS = 10.0
BYTES = 2 << 30  # beyond what the process has when it begins
TOLD = (ValueError, OSError, LookupError, MissingPackageError)  # what the command line tells in a line
COMMANDS = 0.15  # of the cases of a surface that has commands
OWN_PYTHON = 0.03  # of these commands: in a Python that is started for them
CODES = (0, 1, 2, 3)  # with which a command may end

Kind = Literal["result", "told", "fault"]


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes
    ----------
    surface : str
    number : int
        Of the case; -1: nothing was damaged.
    use : str
        The function or the command.
    changed : sequence of str
        The files that were damaged.
    kind : str
    why : str
        Of a fault: crash, hang, memory, traceback, unnamed or silent.
    said : str
        The message; of a fault also where it was raised.
    value : object
        What was returned.
    seconds : float
    """

    surface: str
    number: int
    use: str
    changed: Sequence[str]
    kind: Kind
    why: str = ""
    said: str = ""
    value: Any = None
    seconds: float = 0.0

    def describe(self) -> dict[str, Any]:
        """As JSON, without what was returned."""
        return {name: value for name, value in asdict(self).items() if name != "value"}


def tried(
    surface: Surface, made: Path, place: Path, *, seed: int, number: int, expected: Mapping[str, Any]
) -> Outcome:
    """The outcome of one case; its files stay in ``place/SURFACE-NUMBER`` if it is a fault.

    Parameters
    ----------
    surface : Surface
    made : Path
        The folder with its valid files.
    place : Path
    seed, number : int
    expected : mapping from a use to what it returns of the valid files
        Of a surface that is guarded.
    """
    chance = Random(f"{seed}/{surface.name}/{number}")
    case = place / f"{surface.name}-{number}"
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(made, case)
    changed = damaged(surface, case, chance)
    use = _use(surface, chance)
    found = _run(surface, case, number, use, changed)
    if found.why == "hang":  # this computer may have other work: what hangs does so again
        shutil.rmtree(case)
        shutil.copytree(made, case)
        damaged(surface, case, Random(f"{seed}/{surface.name}/{number}"))
        found = _run(surface, case, number, use, changed)
    if found.kind == "result" and surface.is_guarded and found.value != expected[use.strip()]:
        told = f"{found.value!r} instead of {expected[use.strip()]!r}"
        found = Outcome(
            surface.name, number, use, found.changed, "fault", "silent", told[:2000], seconds=found.seconds
        )
    if found.kind != "fault":
        shutil.rmtree(case, ignore_errors=True)
    return found


def undamaged(surface: Surface, made: Path, place: Path) -> dict[str, Any]:
    """What every use returns of the valid files; what it loads is loaded here, for all cases.

    Raises
    ------
    Exception
        If one does not: then the surface is wrong.
    """
    found = {}
    for use in (*surface.uses, *map(" ".join, surface.commands)):
        case = place / f"{surface.name}-valid"
        shutil.copytree(made, case)
        if use in surface.uses:
            with _at(case):
                found[use] = json.loads(json.dumps(surface.uses[use](case)))
        elif surface.is_guarded:
            outcome = _run(surface, case, -1, use, [])
            assert outcome.kind == "result", f"{surface.name}, {use}: of valid files {outcome}"
            found[use] = outcome.value
        shutil.rmtree(case)
    return found


@contextmanager
def _at(case: Path) -> Iterator[None]:
    """With that folder as the working folder, and a cache in it."""
    before = Path.cwd()
    os.environ["NEARFAR_CACHE"] = str(case / ".cache")
    os.chdir(case)
    try:
        yield
    finally:
        os.chdir(before)


def _use(surface: Surface, chance: Random) -> str:
    if surface.commands and chance.random() < COMMANDS:
        return " ".join(chance.choice(surface.commands)) + (" " if chance.random() < OWN_PYTHON else "")
    return chance.choice(list(surface.uses))


def _run(surface: Surface, case: Path, number: int, use: str, changed: Sequence[Path]) -> Outcome:
    """In a process of its own."""
    answer, said, begun = case / ".answer", case / ".said", time.monotonic()
    names = _names(changed, case)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _in_child(surface, case, use, names, answer, said)
    status = _waited(pid, begun + SECONDS)
    seconds = time.monotonic() - begun
    told: dict[str, Any] = {
        "kind": "fault",
        "said": said.read_text(errors="replace")[-2000:] if said.exists() else "",
    }
    if status is None:
        told["why"] = "hang"
    elif os.WIFSIGNALED(status):
        told["why"] = f"crash ({signal.Signals(os.WTERMSIG(status)).name})"
    elif answer.exists():
        told |= json.loads(answer.read_text())
    else:
        told["why"] = f"crash (exit {os.waitstatus_to_exitcode(status)})"
    shown = [str(path.relative_to(case)) for path in changed]
    return Outcome(surface.name, number, use.strip(), shown, seconds=seconds, **told)


def _names(changed: Sequence[Path], case: Path) -> list[str]:
    """Of which a message must have one: the file, or a folder that it lies in."""
    return sorted({part for path in changed for part in path.relative_to(case).parts})


def _is_named(names: Sequence[str], message: str) -> bool:
    return not names or any(name in message for name in names)


def _waited(pid: int, until: float) -> int | None:
    """How a process ended; ``None`` if it had to be killed, with those that it started."""
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _in_child(surface: Surface, case: Path, use: str, names: Sequence[str], answer: Path, said: Path) -> None:
    try:
        os.setsid()
        faulthandler.disable()  # what a test of a crash prints is not of interest
        _confine(said)
        os.environ["NEARFAR_CACHE"] = str(case / ".cache")
        os.environ["NEARFAR_DECODING"] = "apart"  # as of the command line: a library that crashes is told
        os.chdir(case)
        if use in surface.uses:
            told = _called(lambda: surface.uses[use](case), names)
        else:
            told = _commanded(use, names, said)
        answer.write_text(json.dumps(told))
    except BaseException:  # of the fuzzer itself
        traceback.print_exc()
        os._exit(99)
    os._exit(0)


def _confine(said: Path) -> None:
    """Limits, and a file for what is printed."""
    used = int(
        next(
            line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData")
        ).split()[1]
    )
    resource.setrlimit(resource.RLIMIT_DATA, (1024 * used + BYTES, 1024 * used + BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    file = os.open(said, os.O_CREAT | os.O_RDWR | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(file, 1)
    os.dup2(file, 2)


def _called(function: Callable[[], Any], names: Sequence[str]) -> dict[str, Any]:
    try:
        return {"kind": "result", "value": json.loads(json.dumps(function()))}
    except MemoryError:
        return {"kind": "fault", "why": "memory", "said": traceback.format_exc()[-2000:]}
    except TOLD as error:
        message = str(error)
        if _is_named(names, message):
            return {"kind": "told", "said": f"{type(error).__name__}: {message[:300]}"}
        return {"kind": "fault", "why": "unnamed", "said": traceback.format_exc()[-3000:]}
    except Exception:  # whatever else comes out is what the fuzzer looks for
        return {"kind": "fault", "why": "traceback", "said": traceback.format_exc()[-3000:]}


def _commanded(use: str, names: Sequence[str], said: Path) -> dict[str, Any]:
    """A command line as a shell runs it, but for the start of Python."""
    out = said.with_suffix(".out")
    os.dup2(os.open(out, os.O_CREAT | os.O_RDWR | os.O_TRUNC), 1)
    code = _own_python(use.split()) if use.endswith(" ") else _main(use.split())
    if isinstance(code, str):
        return {"kind": "fault", "why": "traceback", "said": code}
    printed, text = out.read_text(errors="replace"), said.read_text(errors="replace")
    if "Traceback (most recent call last)" in text or code not in CODES:
        return {"kind": "fault", "why": "traceback", "said": f"exit {code}: {text[-3000:]}"}
    if code in (1, 2) and not _is_named(names, printed + text):
        return {"kind": "fault", "why": "unnamed", "said": f"exit {code}: {printed[-1500:]}{text[-1500:]}"}
    return {"kind": "result" if code in (0, 3) else "told", "value": printed, "said": text[:300]}


def _main(arguments: Sequence[str]) -> int | str:
    """The exit code, or the traceback of what it let through."""
    from nearfar.cli import main

    sys.argv[:] = ["nearfar", *arguments]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        return traceback.format_exc()[-3000:]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _own_python(arguments: Sequence[str]) -> int:
    code = "from nearfar.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], check=False).returncode
