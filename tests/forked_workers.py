"""Worker processes without the seconds that a new Python takes to load the library.

They are forked from a process that has loaded it and does nothing else. The environment that they see is that of
the process that asks for them, as if they were new. What is looked at in ``test_processes`` are real new ones.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

LOADED = (
    "nearfar.detector.fitted", "nearfar.evidence.explanation", "nearfar.research.experiment",
    "nearfar.research.listened", "nearfar.simulation", "pandas", "scipy.signal", "scipy.stats",
    "sklearn.covariance", "sklearn.neighbors",
)  # fmt: skip
NETWORKS = ("nearfar.training.adaptation", "nearfar.encoders.eat", "nearfar.encoders.autoencoder")

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([*LOADED, *(NETWORKS if importlib.util.find_spec("torch") else ())])


class ForkedWorkers(ProcessPoolExecutor):
    """In place of ``ProcessPoolExecutor`` in ``nearfar.files.processes``, whatever context that asks for."""

    def __init__(
        self,
        workers: int,
        *,
        mp_context: Any,
        initializer: Callable[..., None],
        initargs: tuple[Any, ...] = (),
    ) -> None:
        assert mp_context.get_start_method() == "spawn"
        given = (dict(os.environ), initializer, initargs)
        super().__init__(workers, mp_context=CONTEXT, initializer=_begin, initargs=given)


def _begin(
    environment: Mapping[str, str], initializer: Callable[..., None], initargs: tuple[Any, ...]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    initializer(*initargs)
