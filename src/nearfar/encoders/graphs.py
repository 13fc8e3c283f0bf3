"""An ONNX graph that is written node by node: who adds a node gets the name of its result.

Conventions
-----------
A *value* is the name of a tensor in the graph. What is given as an array becomes a constant, which is kept once
however often it is used. Names are counted, so that the same calls make the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.inliner import inline_local_functions

OPSET = 18  # the first in which the axes of all reductions are inputs; ONNX Runtime 1.14 and later know it
IR_VERSION = 8  # that of the releases of ONNX that brought the opset

Array = NDArray[Any]
Value = str
Given = Value | Array | np.generic | None  # a value, a constant, or nothing for an input that is left out
Length = int | str | None  # of an axis: a number, a name for any length, or nothing known


class Graph:
    """An ONNX graph, from its inputs on.

    Parameters
    ----------
    name : str
        Of the graph; no one reads it but people.

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.encoders.graphs import Graph
    >>> graph = Graph()
    >>> x = graph.input("x", np.float32, (2, "samples"))
    >>> graph.output("energy", graph.add("ReduceSumSquare", x, np.array([1]), keepdims=0), np.float32, (2,))
    >>> [node.op_type for node in graph.model({}).graph.node]
    ['ReduceSumSquare', 'Identity']
    """

    def __init__(self, name: str = "nearfar") -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[bytes, Value] = {}
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._domains = {"": OPSET}
        self._counted = 0

    def input(self, name: str, dtype: type[np.generic], shape: Sequence[Length]) -> Value:
        """What the graph is given, under this name.

        Parameters
        ----------
        name : str
        dtype : NumPy scalar type
            Such as ``np.float32``.
        shape : sequence of int, str or None
            A string names a length that is free.
        """
        self._inputs.append(_described(name, dtype, shape))
        return name

    def output(self, name: str, value: Value, dtype: type[np.generic], shape: Sequence[Length]) -> None:
        """Give a value out under this name; type and shape as of ``input``, ``()`` for a scalar."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=name))
        self._outputs.append(_described(name, dtype, shape))

    def constant(self, array: Array | np.generic) -> Value:
        """The value of an array, of its own type; the same for arrays that are equal to the last bit."""
        return self._constant(numpy_helper.from_array(np.array(array, order="C")))

    def _constant(self, tensor: onnx.TensorProto) -> Value:
        tensor.name = ""
        digest = hashlib.sha256(tensor.SerializeToString(deterministic=True)).digest()
        if digest not in self._constants:
            tensor.name = self._constants[digest] = f"constant_{len(self._constants)}"
            self._initializers.append(tensor)
        return self._constants[digest]

    @overload
    def add(
        self, op: str, *inputs: Given, domain: str = "", outputs: Literal[1] = 1, **attributes: Any
    ) -> Value: ...

    @overload
    def add(
        self, op: str, *inputs: Given, domain: str = "", outputs: int, **attributes: Any
    ) -> tuple[Value, ...]: ...

    def add(
        self, op: str, *inputs: Given, domain: str = "", outputs: int = 1, **attributes: Any
    ) -> Value | tuple[Value, ...]:
        """Add a node.

        Parameters
        ----------
        op : str
            An operator of ONNX.
        *inputs : str, array or None
            Values, arrays that become constants, and ``None`` for an optional input that is left out.
        domain : str
            Of the operator; empty for those of ONNX, of opset ``OPSET``; others count as version 1.
        outputs : int
        **attributes
            Of the node; those that are ``None`` are left out.

        Returns
        -------
        str or tuple of str
            The value of its output; of its outputs, if there are several.
        """
        self._domains.setdefault(domain, 1)
        name = self._new(op)
        made = tuple([name] if outputs == 1 else [f"{name}_{i}" for i in range(outputs)])
        given = [self._value(one) for one in inputs]
        self._nodes.append(helper.make_node(op, given, made, name=name, domain=domain, **attributes))
        return made[0] if outputs == 1 else made

    def inline(self, model: onnx.ModelProto, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Add all nodes of a model, with what it knows; constants that the graph already has are not added again.

        Parameters
        ----------
        model : onnx.ModelProto
            Of opset ``OPSET``; local functions are resolved.
        inputs : mapping from its inputs to values
            All of them.

        Returns
        -------
        mapping from its outputs to values

        Raises
        ------
        ValueError
            If the model is of another opset, or inputs are missing or strange.
        """
        if model.functions:
            model = inline_local_functions(model)
        self._take_domains(model)
        known = {tensor.name for tensor in model.graph.initializer}
        expected = {one.name for one in model.graph.input} - known
        if expected != set(inputs):
            raise ValueError(f"inputs={sorted(inputs)}: the model expects {sorted(expected)}")
        prefix = self._new("model")
        values = dict(inputs) | {"": ""}
        for tensor in model.graph.initializer:
            own = onnx.TensorProto()
            own.CopyFrom(tensor)
            values[tensor.name] = self._constant(own)

        def renamed(name: str) -> str:
            return values.get(name) or (name and f"{prefix}/{name}")

        self._nodes += _renamed(model.graph.node, renamed)
        return {one.name: renamed(one.name) for one in model.graph.output}

    def model(self, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The graph as a model, checked, without what no output needs; the metadata is sorted.

        Raises
        ------
        onnx.checker.ValidationError, onnx.shape_inference.InferenceError
            If the graph is not valid.
        """
        nodes, needed = _needed(self._nodes, {one.name for one in self._outputs})
        constants = [tensor for tensor in self._initializers if tensor.name in needed]
        graph = helper.make_graph(nodes, self._name, self._inputs, self._outputs, initializer=constants)
        model = helper.make_model(
            graph,
            producer_name="nearfar",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid(*pair) for pair in sorted(self._domains.items())],
        )
        helper.set_model_props(model, dict(sorted(metadata.items())))
        onnx.checker.check_model(model, full_check=set(self._domains) == {""})
        return model

    def _new(self, op: str) -> str:
        self._counted += 1
        return f"{op}_{self._counted}"

    def _value(self, given: Given) -> Value:
        if given is None:
            return ""
        return given if isinstance(given, str) else self.constant(given)

    def _take_domains(self, model: onnx.ModelProto) -> None:
        for one in model.opset_import:
            domain = "" if one.domain == "ai.onnx" else one.domain
            if one.version != self._domains.setdefault(domain, one.version):
                raise ValueError(
                    f"the model is of opset {one.version} of {domain or 'ONNX'}; expected {self._domains[domain]}"
                )


def _described(name: str, dtype: type[np.generic], shape: Sequence[Length]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)


def _needed(nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes that it takes to have these values, in their order, and the names of all values that it takes."""
    found, wanted = [], set(wanted)
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            found.append(node)
            wanted |= _used(node)
    return found[::-1], wanted


def _used(node: onnx.NodeProto) -> set[str]:
    """The values that a node uses; within the graphs of its attributes, all names that there are."""
    return {*node.input}.union(*(_used(inner) for graph in _graphs_of(node) for inner in graph.node))


def _graphs_of(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs among a node's attributes."""
    return [
        graph
        for attribute in node.attribute
        for graph in ([attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs)
    ]


def _renamed(nodes: Iterable[onnx.NodeProto], renamed: Callable[[str], str]) -> list[onnx.NodeProto]:
    """Copies of nodes, with all their values under other names, within the graphs of their attributes, too."""
    found = []
    for node in nodes:
        own = onnx.NodeProto()
        own.CopyFrom(node)
        own.name = renamed(node.name)
        own.input[:] = [renamed(name) for name in node.input]
        own.output[:] = [renamed(name) for name in node.output]
        for graph in _graphs_of(own):
            _rename_within(graph, renamed)
        found.append(own)
    return found


def _rename_within(graph: onnx.GraphProto, renamed: Callable[[str], str]) -> None:
    """All values of the graph of an attribute, which may also use those around it."""
    for described in (*graph.input, *graph.output, *graph.initializer):
        described.name = renamed(described.name)
    del graph.value_info[:]
    inner = _renamed(graph.node, renamed)
    del graph.node[:]
    graph.node.extend(inner)
