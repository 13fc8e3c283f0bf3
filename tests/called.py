"""The whole command line in this process, with all that ``main`` does around a command; it takes no new process."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping

from nearfar.cli import main


def nearfar(
    *arguments: object, env: Mapping[str, str] | None = None, encoding: str = "utf-8"
) -> subprocess.CompletedProcess[str]:
    """What ``nearfar`` returns, and what it says on both streams, which have this encoding.

    What it sets for its process is as before afterwards; a traceback is raised, not printed. It is nothing for what
    is to be seen of a process: how it starts and ends, which modules it loads, what a signal does to it.
    """
    words = ["nearfar", *map(str, arguments)]
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    with _restored(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        sys.argv = words
        os.environ.update(env or {})
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(words, code, _text(out), _text(err))


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    words, environment, shown = sys.argv, dict(os.environ), warnings.formatwarning
    terminated, handlers, hook = signal.getsignal(signal.SIGTERM), logging.root.handlers[:], sys.excepthook
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        signal.signal(signal.SIGTERM, terminated)
        sys.argv, warnings.formatwarning, sys.excepthook = words, shown, hook
        logging.root.handlers[:] = handlers


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    encoding, content = stream.encoding, stream.detach().getvalue()
    return content.decode(encoding)
