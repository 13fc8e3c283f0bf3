"""Engines: what computes the layers of a frozen network, from its spectrogram to its tokens.

An engine is made of a network once, and then hears. The front end, from samples to the spectrogram, is no business
of it: that stays in float32, in torch, whatever computes the rest.

A clip has the same tokens alone and in company. In float32 of torch that is so to the last bits; every other
arithmetic computes clip by clip on a processor, so that it is so to the bit: its roundings may depend on how many
rows a product has, and its scales on the loudest clip. Together they are computed on a GPU only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from nearfar.encoders.arithmetic import Arithmetic, EngineName
from nearfar.files.extras import MissingPackageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from nearfar.encoders.frozen import Tokens


class Engine(Protocol):
    """What computes a network in some arithmetic."""

    def hear(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> Tokens:
        """(batch, bands, frames) to the tokens of these blocks, in this order, in float32."""

    def outputs(self, spectrogram: Tensor, blocks: tuple[int, ...]) -> list[Tensor]:
        """(batch, bands, frames) to the grid of each of these blocks, (batch, frames, bands, dim), in float32.

        Unlike ``hear`` it takes blocks of different sizes together.
        """


def with_weights_for(network: nn.Module, arithmetic: Arithmetic, device: torch.device) -> nn.Module:
    """The network, in place, with its weights as torch needs them for this arithmetic, on the device.

    Raises
    ------
    MissingPackageError
        If a package is missing; says how to install it.
    """
    require_packages(arithmetic)
    if arithmetic.engine == "eager" and arithmetic.precision == "int8":
        from nearfar.encoders.int8 import with_integers

        return with_integers(network)
    if arithmetic.precision == "bfloat16" and arithmetic.engine in ("eager", "compiled"):
        from nearfar.encoders.engines.bfloat16 import with_bfloat16

        return with_bfloat16(network.to(device), for_compiler=arithmetic.engine == "compiled")
    return network.to(device)


def prepare(network: nn.Module, arithmetic: Arithmetic, device: torch.device) -> Engine:
    """An engine for a network that ``with_weights_for`` gave.

    Raises
    ------
    MissingPackageError
        If a package is missing; says how to install it.
    ValueError
        If there is no C++ compiler for what needs one.
    """
    require_packages(arithmetic)
    engine = _class(arithmetic.engine)(network, arithmetic)
    if device.type == "cpu" and arithmetic.name != "float32":
        from nearfar.encoders.engines.one_by_one import OneByOne

        return OneByOne(engine)
    return engine


def _class(name: EngineName) -> Callable[[nn.Module, Arithmetic], Engine]:
    """Loaded now, with its library; and imported by name, so that it counts as code of what it computes."""
    if name == "compiled":
        from nearfar.encoders.engines.compiled import Compiled

        return Compiled
    if name == "onnxruntime":
        from nearfar.encoders.engines.onnx_runtime import OnnxRuntime

        return OnnxRuntime
    if name == "openvino":
        from nearfar.encoders.engines.open_vino import OpenVino

        return OpenVino
    from nearfar.encoders.engines.eager import Eager

    return Eager


def require_packages(arithmetic: Arithmetic) -> None:
    """Raise unless all packages that it needs can be imported.

    Raises
    ------
    MissingPackageError
        Names the extra that installs them.
    """
    for package in arithmetic.packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingPackageError(
                f"precision={arithmetic.name!r} needs packages that are not installed here ({error}); they come "
                f"with pip install 'nearfar[{arithmetic.extra}]'",
                name=package,
            ) from error
