"""Values of a graph that are computed with as if they were arrays: ``(x - mean) @ directions.T`` adds its nodes.

What a room computes with NumPy can be written here in nearly the same words, which makes it easy to see that it is
the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import helper

from nearfar.encoders.graphs import Graph, Value

Scalar = type[np.generic]

LAST = np.iinfo(np.int64).max  # a slice that ends there ends with its axis


@dataclass(frozen=True, eq=False, slots=True)
class Expression:
    """A value, its graph, and the type of its numbers. Constants beside it take this type.

    Attributes
    ----------
    graph : Graph
    value : str
    dtype : NumPy scalar type

    Examples
    --------
    >>> import numpy as np
    >>> from nearfar.export.expressions import Expression
    >>> from nearfar.encoders.graphs import Graph
    >>> graph = Graph()
    >>> x = Expression(graph, graph.input("x", np.float64, (None,)), np.float64)
    >>> y = (2 * x - 1).sum(0)
    >>> graph.output("y", y.value, y.dtype, ())
    >>> [node.op_type for node in graph.model({}).graph.node]
    ['Mul', 'Sub', 'ReduceSum', 'Identity']
    """

    __array_ufunc__ = None  # arrays leave it to this class to compute with it

    graph: Graph
    value: Value
    dtype: Scalar

    def _of(self, op: str, *inputs: Any, dtype: Scalar | None = None, **attributes: Any) -> Expression:
        """The outcome of a node whose inputs are expressions, and arrays of their final type."""
        given = [one.value if isinstance(one, Expression) else one for one in inputs]
        return Expression(self.graph, self.graph.add(op, *given, **attributes), dtype or self.dtype)

    def _beside(self, other: Any) -> Any:
        """An operand: an expression as it is, anything else as a constant of this type."""
        return other if isinstance(other, Expression) else np.asarray(other, self.dtype)

    def __add__(self, other: Any) -> Expression:
        return self._of("Add", self, self._beside(other))

    def __radd__(self, other: Any) -> Expression:
        return self._of("Add", self._beside(other), self)

    def __sub__(self, other: Any) -> Expression:
        return self._of("Sub", self, self._beside(other))

    def __rsub__(self, other: Any) -> Expression:
        return self._of("Sub", self._beside(other), self)

    def __mul__(self, other: Any) -> Expression:
        return self._of("Mul", self, self._beside(other))

    def __rmul__(self, other: Any) -> Expression:
        return self._of("Mul", self._beside(other), self)

    def __truediv__(self, other: Any) -> Expression:
        return self._of("Div", self, self._beside(other))

    def __rtruediv__(self, other: Any) -> Expression:
        return self._of("Div", self._beside(other), self)

    def __floordiv__(self, other: Any) -> Expression:
        """Of integers that are not negative."""
        return self._of("Div", self, self._beside(other))

    def __matmul__(self, other: Any) -> Expression:
        return self._of("MatMul", self, self._beside(other))

    def __rmatmul__(self, other: Any) -> Expression:
        return self._of("MatMul", self._beside(other), self)

    def __neg__(self) -> Expression:
        return self._of("Neg", self)

    def __gt__(self, other: Any) -> Expression:
        return self._of("Greater", self, self._beside(other), dtype=np.bool_)

    def __ge__(self, other: Any) -> Expression:
        return self._of("GreaterOrEqual", self, self._beside(other), dtype=np.bool_)

    def sqrt(self) -> Expression:
        return self._of("Sqrt", self)

    def exp(self) -> Expression:
        return self._of("Exp", self)

    def log(self) -> Expression:
        return self._of("Log", self)

    def squared(self) -> Expression:
        return self * self

    def at_least(self, other: Any) -> Expression:
        """The larger one of two numbers."""
        return self._of("Max", self, self._beside(other))

    def at_most(self, other: Any) -> Expression:
        """The smaller one of two numbers."""
        return self._of("Min", self, self._beside(other))

    def sum(self, *axes: int, keepdims: bool = False) -> Expression:
        return self._reduced("ReduceSum", axes, keepdims)

    def sum_of_squares(self, *axes: int, keepdims: bool = False) -> Expression:
        return self._reduced("ReduceSumSquare", axes, keepdims)

    def mean(self, *axes: int, keepdims: bool = False) -> Expression:
        return self._reduced("ReduceMean", axes, keepdims)

    def max(self, *axes: int, keepdims: bool = False) -> Expression:
        return self._reduced("ReduceMax", axes, keepdims)

    def min(self, *axes: int, keepdims: bool = False) -> Expression:
        return self._reduced("ReduceMin", axes, keepdims)

    def _reduced(self, op: str, axes: Sequence[int], keepdims: bool) -> Expression:
        return self._of(op, self, np.array(axes, np.int64), keepdims=int(keepdims))

    def smallest(self, k: int, axis: int = -1) -> Expression:
        """The k smallest numbers along an axis, in order."""
        values, _ = self.graph.add("TopK", self.value, np.array([k]), outputs=2, axis=axis, largest=0)
        return Expression(self.graph, values, self.dtype)

    def astype(self, dtype: Scalar) -> Expression:
        """The same numbers in another type; nothing is added if they have it already."""
        if dtype is self.dtype:
            return self
        return self._of("Cast", self, dtype=dtype, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reshape(self, *shape: int) -> Expression:
        return self._of("Reshape", self, np.array(shape, np.int64))

    def convolved(
        self, kernel: Any, *, group: int, strides: Sequence[int] = (1,), pads: Sequence[int] = (0, 0)
    ) -> Expression:
        """A convolution along the last axis, (1, channels, n), as of ONNX; each group of channels on its own."""
        return self._of("Conv", self, self._beside(kernel), group=group, strides=[*strides], pads=[*pads])

    def spread(self, kernel: Any, *, group: int, strides: Sequence[int]) -> Expression:
        """The transposed convolution: the kernels, weighted, are added where their strides lie."""
        return self._of("ConvTranspose", self, self._beside(kernel), group=group, strides=[*strides])

    def place_of_smallest(self, axis: int = 0) -> Expression:
        """Where the smallest number along an axis is, the first of several; the axis stays, of length 1."""
        return self._of("ArgMin", self, dtype=np.int64, axis=axis, keepdims=1)

    def picks(self, array: NDArray[np.float64]) -> Expression:
        """The numbers of an array that are at these places."""
        return self._of("Gather", array, self, dtype=np.float64)

    def to_the_power(self, number: float) -> Expression:
        """Each of these to the power of a number."""
        return self._of("Pow", self, self._beside(number))

    def as_exponent_of(self, number: float) -> Expression:
        """A number to the power of each of these."""
        return self._of("Pow", self._beside(number), self)

    def flattened(self) -> Expression:
        """A matrix: all axes but the last one become one."""
        return self._of("Flatten", self, axis=-1)

    def transpose(self, *order: int) -> Expression:
        return self._of("Transpose", self, perm=order)

    def cut(self, axis: int, start: int | Expression = 0, stop: int | Expression = LAST) -> Expression:
        """From one place on an axis to before another; places are integers, or (1,) expressions of integers."""
        ends = [one if isinstance(one, Expression) else np.array([one]) for one in (start, stop)]
        return self._of("Slice", self, *ends, np.array([axis]))

    def taken(self, places: NDArray[np.int64], axis: int = 0) -> Expression:
        """What is at these places of an axis."""
        return self._of("Gather", self, places, axis=axis)

    def padded(self, axis: int, before: int | Expression, after: int | Expression) -> Expression:
        """With zeros before and behind, on one axis."""
        ends = [one if isinstance(one, Expression) else np.array([one]) for one in (before, after)]
        if isinstance(before, int) and isinstance(after, int):
            pads: Any = np.array([before, after])
        else:
            pads = self._of("Concat", *ends, axis=0, dtype=np.int64)
        return self._of("Pad", self, pads, None, np.array([axis]))

    def length(self, axis: int) -> Expression:
        """Of an axis: a (1,) expression of an integer."""
        end = None if axis == -1 else axis + 1
        return self._of("Shape", self, dtype=np.int64, start=axis, end=end)


def where(condition: Expression, yes: Any, no: Any) -> Expression:
    """Numbers of one or the other; two plain numbers are taken in double precision."""
    own = next((one for one in (yes, no) if isinstance(one, Expression)), None)
    if own is None:
        yes, no = np.float64(yes), np.float64(no)
        return Expression(condition.graph, condition.graph.add("Where", condition.value, yes, no), np.float64)
    return own._of("Where", condition, own._beside(yes), own._beside(no))


def joined(parts: Sequence[Any], axis: int) -> Expression:
    """Side by side; a single one as it is. At least one of them is an expression."""
    own: Expression = next(one for one in parts if isinstance(one, Expression))
    return own if len(parts) == 1 else own._of("Concat", *map(own._beside, parts), axis=axis)


def counted(length: Expression) -> Expression:
    """0, 1, 2 and so on, up to a length, which is a (1,) expression of an integer."""
    end = length.reshape()
    return end._of("Range", np.int64(0), end, np.int64(1))
