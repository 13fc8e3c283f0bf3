"""What a frozen encoder can compute in: a precision, and the engine that does it.

Conventions
-----------
An *arithmetic* is named after its precision, and after its engine where that is not torch alone. ``float32`` is
the default, to the last bit what it always was; ``auto`` stands for one of them, and is none itself.

What may be chosen without asking is bounded by its *parity* with ``float32``: the cosine of pooled embeddings, and
Omega on clips of which it is known whether they are normal.

This module loads no torch and none of the engines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from nearfar.files.extras import is_installed

LEAST_COSINE = 0.9995  # of pooled embeddings, to those in float32
MOST_OMEGA_POINTS = 0.2  # percent, from float32

EngineName: TypeAlias = Literal["eager", "compiled", "onnxruntime", "openvino"]
ArithmeticName: TypeAlias = Literal[
    "float32",
    "bfloat16",
    "int8",
    "float32_compiled",
    "bfloat16_compiled",
    "float32_onnxruntime",
    "float32_openvino",
    "bfloat16_openvino",
]
Precision: TypeAlias = Literal["auto", ArithmeticName]  # what an encoder is asked for


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """One way to compute the same network.

    Attributes
    ----------
    name : str
        As in ``ARITHMETICS``.
    precision : {"float32", "bfloat16", "int8"}
        Of matrix products, or of their weights.
    engine : {"eager", "compiled", "onnxruntime", "openvino"}
        What computes it: torch, torch with its compiler, or another library.
    extra : str or None
        Of this package, what installs the packages that it needs beside torch.
    """

    name: ArithmeticName
    precision: Literal["float32", "bfloat16", "int8"]
    engine: EngineName = "eager"
    extra: str | None = None

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that it needs beside torch, as they are imported."""
        return PACKAGES[self.extra] if self.extra else ()

    @property
    def is_installed(self) -> bool:
        """Whether they are installed here; none is loaded."""
        return all(map(is_installed, self.packages))

    def computes_on(self, device_type: str) -> bool:
        """Whether it is for this kind of device, ``"cpu"`` or ``"cuda"``."""
        return device_type == "cpu" or (self.precision != "int8" and self.engine in ("eager", "compiled"))


PACKAGES = {
    "int8": ("onnx", "onnxruntime"),
    "export": ("onnx", "onnxruntime"),
    "openvino": ("openvino",),
}
ARITHMETICS = {
    arithmetic.name: arithmetic
    for arithmetic in (
        Arithmetic("float32", "float32"),
        Arithmetic("bfloat16", "bfloat16"),
        Arithmetic("int8", "int8", extra="int8"),
        Arithmetic("float32_compiled", "float32", "compiled"),
        Arithmetic("bfloat16_compiled", "bfloat16", "compiled"),
        Arithmetic("float32_onnxruntime", "float32", "onnxruntime", "export"),
        Arithmetic("float32_openvino", "float32", "openvino", "openvino"),
        Arithmetic("bfloat16_openvino", "bfloat16", "openvino", "openvino"),
    )
}
