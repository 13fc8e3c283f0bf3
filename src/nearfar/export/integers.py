"""Matrix products of an exported network in 8-bit integers.

Conventions
-----------
A product is ``x W``: x is ``(..., rows, inputs)``, a row a token; W is ``(inputs, outputs)``, a column an output.
Weights are made integers once, with a scale of each column; tokens at each run, with a step of each row::

    W = scale w,  w = -64 ... 64          x = step (q - 128),  q = 1 ... 255          x W = step ((q - 128) w) scale

So a quiet token has as many steps as a loud one. All else stays in float32: the front end, convolutions, what
attention multiplies. Nothing is calibrated on recordings.

Facts: ONNX Runtime, "Quantize ONNX models": where a processor lacks VNNI, the sum of two products of 8-bit numbers
saturates at 16 bits unless weights have 7 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

CONTRIBUTED = "com.microsoft"  # ONNX Runtime's own operators
PRODUCT = "MatMulIntegerToFloat"  # of these
LARGEST_WEIGHT = 64  # 2 * 255 * 64 is below 2 ** 15, so that sums are exact on every processor
ZERO, STEPS = 128, 127  # what a token's zero becomes, and how far its largest number is from that
SMALLEST = 1e-30  # largest number of a row that has a step; it is 0 below
FEWEST = 16  # inputs and outputs; smaller products take as long in integers

Array = NDArray[np.float32]


def with_integers(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of a network with its products by constant weights in integers.

    Convolutions stay as they are: those of an EfficientAT took two to three times as long in integers, on a
    processor with AMX (one core), because ONNX Runtime keeps their maps in blocks of channels.

    Parameters
    ----------
    model : onnx.ModelProto
        As of ``encoders.exporting.network_model``; not changed.

    Returns
    -------
    onnx.ModelProto
        As it was, if it has no such product: see ``has_integers``.
    """
    found = onnx.ModelProto()
    found.CopyFrom(model)
    weights = {one.name: one for one in found.graph.initializer}
    products = {
        node.name: numpy_helper.to_array(weights[node.input[1]])
        for node in found.graph.node
        if node.op_type == "MatMul" and _is_large(weights.get(node.input[1]))
    }
    if not products:
        return found
    nodes: list[onnx.NodeProto] = []
    for node in found.graph.node:
        nodes += _in_integers(found.graph, node, products[node.name]) if node.name in products else [node]
    del found.graph.node[:]
    found.graph.node.extend(nodes)
    _drop_unused(found.graph)
    if CONTRIBUTED not in {one.domain for one in found.opset_import}:
        found.opset_import.append(helper.make_opsetid(CONTRIBUTED, 1))
    return found


def has_integers(model: onnx.ModelProto) -> bool:
    """Whether any product of a model is in integers."""
    return any(node.op_type == PRODUCT for node in model.graph.node)


def _is_large(weight: onnx.TensorProto | None) -> bool:
    """Whether this is a constant, and a matrix of many numbers."""
    if weight is None or len(weight.dims) != 2 or weight.data_type != onnx.TensorProto.FLOAT:
        return False
    return min(weight.dims) >= FEWEST


def _in_integers(graph: onnx.GraphProto, node: onnx.NodeProto, weight: Array) -> list[onnx.NodeProto]:
    """The nodes in place of a product; their constants go into the graph."""
    prefix, (x,), (y,) = f"{node.name}/", node.input[:1], node.output
    w, scale = integers(weight)
    constants = {
        "w": w, "scale": scale, "one": np.float32(1), "zero": np.uint8(ZERO), "part": np.float32(1 / STEPS),
        "smallest": np.float32(SMALLEST), "last": np.array([-1]), "rows": np.array([-1, len(w)]),
        "outputs": np.array([w.shape[1]]),
    }  # fmt: skip
    for name, array in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(array), prefix + name))

    zero = helper.make_tensor("value", onnx.TensorProto.UINT8, [1], [ZERO])

    def add(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
        names = [x if name == "x" else prefix + name for name in inputs.split()]
        made = y if output == "y" else prefix + output
        return helper.make_node(op, names, [made], name=prefix + output, **attributes)

    return [
        add("Reshape", "x rows", "flat"),
        add("ReduceMin", "flat last", "low", keepdims=0),
        add("ReduceMax", "flat last", "high", keepdims=0),
        add("Neg", "low", "below"),
        add("Max", "high below smallest", "largest"),
        add("Mul", "largest part", "step"),
        add("Shape", "step", "count"),
        add("ConstantOfShape", "count", "zeros", value=zero),
        add("QuantizeLinear", "flat step zeros", "q", axis=0),
        add(PRODUCT, "q w one scale zero", "columns", domain=CONTRIBUTED),
        add("Unsqueeze", "step last", "of_row"),
        add("Mul", "columns of_row", "scaled"),
        add("Shape", "x", "before", end=-1),
        add("Concat", "before outputs", "shape", axis=0),
        add("Reshape", "scaled shape", "y"),
    ]  # fmt: skip


def integers(weight: Array) -> tuple[NDArray[np.int8], Array]:
    """Weights, (inputs, outputs), as integers and the scale of each column, (outputs,)."""
    scale = np.maximum(np.abs(weight).max(axis=0) / LARGEST_WEIGHT, SMALLEST).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [one for one in graph.initializer if one.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
