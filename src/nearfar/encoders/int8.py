"""The matrix products of a frozen network in 8-bit integers, on the processor, by ONNX Runtime.

Conventions
-----------
A product is ``x W + bias``: x is ``(rows, inputs)``, a row a token; W is ``(inputs, outputs)``, a column an output.
Weights are made integers once, with a scale of each column; tokens at each call, with an offset and a step of each
row::

    W = scale w,  w = -64 ... 64          x = low + step q,  q = 0 ... 255
    x W = step (q w) scale + low (sum of w over the inputs) scale

So a token's numbers depend on no other token: a clip gives the same beside any others. Nothing is calibrated on
recordings, and shapes are free. All else (front end, attention's own products, normalization) stays in float32.

The products are graphs of a dozen nodes each, in memory; a network is not exported, so that any network whose
weights are in linear layers, or in convolutions of single pixels, can be computed so.

Facts: ONNX Runtime, "Quantize ONNX models": where a processor lacks VNNI, the sum of two products of 8-bit numbers
saturates at 16 bits unless weights have 7 bits.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nearfar.encoders import Array

LARGEST_WEIGHT = 64  # 2 * 255 * 64 is below 2 ** 15, so that sums are exact on every processor
STEPS = 255  # of a row, from its lowest to its highest number
SMALLEST = float(np.finfo(np.float32).tiny)  # step or scale, of a row or a column that is constant
SINGLE_PIXEL = (1, 1)

GRAPH = """
<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
product (float[rows, inputs] x) => (float[rows, outputs] y) {
    low = ReduceMin <axes = [1]> (x)
    high = ReduceMax <axes = [1]> (x)
    span = Sub (high, low)
    even = Div (span, steps)
    step = Max (even, smallest)
    above = Sub (x, low)
    in_steps = Div (above, step)
    raised = Add (in_steps, half)
    q = Cast <to = 2> (raised)
    columns = com.microsoft.MatMulIntegerToFloat (q, w, one, scale)
    scaled = Mul (columns, step)
    offset = Gemm (low, sums, bias)
    y = Add (scaled, offset)
}
"""


class Product(nn.Module):
    """A linear layer in integers.

    Parameters
    ----------
    weight : (outputs, inputs) tensor
    bias : (outputs,) tensor or None

    Attributes
    ----------
    n_weights : int
        Of the layer that it stands for.

    Raises
    ------
    ValueError
        If the packages of the extra ``int8`` are not installed.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.n_weights = weight.numel() + (0 if bias is None else bias.numel())
        offset = torch.zeros(len(weight)) if bias is None else bias
        self.session = _session(weight.detach().numpy().T, offset.detach().numpy())

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs), float32."""
        rows = tokens.reshape(-1, tokens.shape[-1])
        (products,) = self.session.run(None, {"x": rows.numpy()})
        return torch.from_numpy(products).reshape(*tokens.shape[:-1], -1)


class PixelProduct(Product):
    """A convolution of single pixels in integers: a product over the channels."""

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, inputs, ..., ...) to (batch, outputs, ..., ...)."""
        return super().forward(maps.movedim(1, -1)).movedim(-1, 1)


def with_integers(network: nn.Module) -> nn.Module:
    """The network, in place, with all its linear layers, and convolutions of single pixels, in integers.

    Raises
    ------
    ValueError
        If the packages of the extra ``int8`` are not installed.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                parent.add_module(name, Product(child.weight, child.bias))
            elif isinstance(child, nn.Conv2d) and is_product(child):
                parent.add_module(name, PixelProduct(child.weight.flatten(1), child.bias))
    return network


def n_weights(network: nn.Module) -> int:
    """How many numbers a network has learnt, whether its layers are replaced by now or not."""
    replaced = sum(getattr(module, "n_weights", 0) for module in network.modules())
    return replaced + sum(parameter.numel() for parameter in network.parameters())


def integers(weight: Array) -> tuple[NDArray[np.int8], Array]:
    """Weights, (inputs, outputs), as integers and the scale of each column, (outputs,)."""
    scale = np.maximum(np.abs(weight).max(axis=0) / LARGEST_WEIGHT, SMALLEST).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale


def is_product(layer: nn.Conv2d) -> bool:
    """Whether a convolution is of single pixels, and so a product over the channels."""
    plain = layer.groups == 1 and layer.stride == SINGLE_PIXEL and layer.padding == (0, 0)
    return plain and layer.kernel_size == SINGLE_PIXEL


def _session(weight: Array, bias: Array) -> Any:
    """A product that is ready to be run, with as many threads as torch has now."""
    onnx, onnxruntime = _packages()
    model = onnx.parser.parse_model(GRAPH)
    for name, array in _constants(weight, bias).items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "0"
    )  # a network has dozens of sessions
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _constants(weight: Array, bias: Array) -> dict[str, NDArray[Any]]:
    """Of the graph, by name."""
    w, scale = integers(weight)
    numbers = {"steps": STEPS, "smallest": SMALLEST, "half": 0.5, "one": 1.0}
    sums = (w.sum(axis=0, dtype=np.int32) * scale)[None].astype(np.float32)
    matrices = {"w": np.ascontiguousarray(w), "scale": scale, "sums": sums, "bias": bias}
    return matrices | {name: cast(Any, np.float32(number)) for name, number in numbers.items()}


def _packages() -> tuple[Any, Any]:
    try:
        import onnx
        import onnx.numpy_helper
        import onnx.parser
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            f"precision='int8' needs packages that are not installed here ({error}); they come with "
            "pip install 'nearfar[int8]'"
        ) from error
    return onnx, onnxruntime
