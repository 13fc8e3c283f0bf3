"""Torch's compiler: one program for the layers of a network, for each length of its spectrograms.

It takes up to a minute for a large network before the first clip, and needs a C++ compiler on this computer.
"""

from __future__ import annotations

import os
import shutil
import sys
import warnings

import torch
from torch import Tensor

from nearfar.encoders.engines.layers import Function, Layers, OfOneShape

COMPILERS = ("cl",) if sys.platform == "win32" else ("g++", "clang++", "c++")
MOST_PROGRAMS = 256  # of one process; beyond them torch raises


class Compiled(OfOneShape):
    """See ``OfOneShape``; on a processor, weights become constants of the program, laid out for it."""

    def made(self, layers: Layers, spectrogram: Tensor) -> Function:
        """See ``OfOneShape``.

        Raises
        ------
        ValueError
            If there is no C++ compiler.
        """
        on_processor = spectrogram.device.type == "cpu"
        if on_processor:
            self._require_compiler()
        program = torch.compile(layers, dynamic=False, fullgraph=True, options={"freezing": on_processor})
        in_bfloat16 = self.arithmetic.precision == "bfloat16"

        def computed(given: Tensor) -> tuple[Tensor, ...]:
            with (
                torch.no_grad(),
                torch.autocast(given.device.type, torch.bfloat16, enabled=in_bfloat16),
                torch._dynamo.config.patch(recompile_limit=MOST_PROGRAMS),
            ):
                return program(given)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch about itself, while it compiles
            computed(spectrogram)
        return computed

    def _require_compiler(self) -> None:
        named = os.environ.get("CXX")
        if not any(map(shutil.which, (named,) if named else COMPILERS)):
            raise ValueError(
                f"precision={self.arithmetic.name!r} needs a C++ compiler, and there is no "
                f"{named or ' or '.join(COMPILERS)} here; install one (such as Debian's package g++), or take "
                "another precision"
            )
