"""The program: all commands in the order of the help, error messages, exit codes."""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Annotated

import typer
from rich.text import Text

from nearfar.cli import (
    alerts,
    cache,
    challenge,
    data,
    drift,
    evidence,
    experiments,
    exporting,
    machine,
    reports,
    scoring,
    serving,
    simulation,
    watching,
    weights,
)
from nearfar.cli.console import FAILED, TERMINATED, err, escape_what_cannot_be_encoded, out
from nearfar.cli.flags import Command, Group
from nearfar.cli.progress import CONTINUE
from nearfar.files.extras import MissingPackageError
from nearfar.files.names import printable

DEBUG = "NEARFAR_DEBUG"
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
DECODING = "NEARFAR_DECODING"  # of ``recordings.apart``, which is not loaded for that
# pydantic looks for plugins in the metadata of every installed package, and we have none
WITHOUT_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"

COMMANDS: dict[str, Callable[..., None]] = {  # in the order of the help
    "demo": simulation.demo,
    "simulate": simulation.simulate,
    "machines": simulation.machines,
    "check": data.check,
    "fit": machine.fit,
    "fit-all": machine.fit_all,
    "calibrate": machine.calibrate,
    "learn": machine.learn,
    "adapt": machine.adapt,
    "score": scoring.score,
    "explain": evidence.explain,
    "export": exporting.export,
    "drift": drift.drift,
    "watch": watching.watch,
    "serve": serving.serve,
    "run": experiments.run,
    "study": experiments.study,
    "sweep": experiments.sweep,
    "evaluate": experiments.evaluate,
    "compare": experiments.compare,
    "report": reports.report,
    "submit": challenge.submit,
    "systems": experiments.systems,
}
GROUPS = {"alerts": alerts.app, "data": data.app, "cache": cache.app, "weights": weights.app}

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Detects failing machines by their sound. Learns from normal recordings only, made with one microphone "
    "near the machine and one far from it.",
    epilog="Start with `nearfar demo`. For your own machine: `nearfar fit FOLDER -o DETECTOR`, then "
    "`nearfar score DETECTOR CLIPS`.",
)
for _name, _command in COMMANDS.items():
    app.command(_name, cls=Command)(_command)
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)


def main() -> None:
    """Run the program. An error is one line instead of a traceback, unless ``NEARFAR_DEBUG`` is set."""
    for (
        variable
    ) in ONE_THREAD:  # clips are processed in parallel, so more threads for one clip only slow that down
        os.environ.setdefault(variable, "1")
    os.environ.setdefault(WITHOUT_PLUGINS, "__all__")
    os.environ.setdefault(DECODING, "apart")  # a file that crashes or hangs its library costs no more than it
    for stream in (sys.stdout, sys.stderr):  # names of files that are not in its encoding are shown escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # an exception, so that workers end and nothing is left half done
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    escape_what_cannot_be_encoded()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    warnings.formatwarning = _format_warning
    try:
        app()
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except (ValueError, OSError, LookupError, MissingPackageError, ExceptionGroup) as error:
        if os.environ.get(DEBUG) or _has_unforeseen(error):
            raise
        err.print(Text.assemble(("error:", "bold red"), " ", printable(_message(error))), soft_wrap=True)
        sys.exit(FAILED)


_format_others = warnings.formatwarning


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Our own warnings in one line, as those of the log; others with the place in the code that they are about."""
    if category.__module__.partition(".")[0] == __name__.partition(".")[0]:
        return f"WARNING: {message}\n"
    return _format_others(message, category, filename, lineno, line)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error}); free some space and {CONTINUE}"
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return (
            f"{error}: there is a limit to the size of a file here (see ulimit -f); raise it and {CONTINUE}"
        )
    if isinstance(error, FileNotFoundError) and error.filename is not None:  # of the operating system
        return f"{error.filename}: no such file or folder"
    return str(error.args[0]) if isinstance(error, LookupError) and error.args else str(error)


def _has_unforeseen(error: Exception) -> bool:
    """Whether one of several errors is none of a user's mistakes."""
    if not isinstance(error, ExceptionGroup):
        return False
    return error.split((ValueError, OSError, LookupError, MissingPackageError))[1] is not None


def _version(wanted: bool) -> None:
    if wanted:
        from nearfar import __version__

        out.print(f"nearfar {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Detects failing machines by their sound."""
