"""Layers of a graph in each precision: matrix products, embeddings and norms."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from core_encoder.exported import OnnxPrecision
from core_encoder.onnx.graph import MICROSOFT, Graph
from core_encoder.onnx.merged_weights import FloatArray, MergedWeights

# The largest weight in int8. With 7 bits the sums of two products of a CPU without VNNI cannot exceed 16 bits
# (2 * 255 * 63 < 2^15), so that every CPU computes the same.
_MOST_WEIGHT, _MOST_VALUE = 63, 127
_ZERO = 128  # the unsigned number that stands for 0
_LEAST_SCALE = 1e-12  # of a row of zeros
_LEAST_SIZE = 1e-5  # of a channel and of a column that are balanced; smaller ones are as good as zero


class Layers:
    """Adds the layers of one tower to a graph."""

    def __init__(self, graph: Graph, weights: MergedWeights, precision: OnnxPrecision) -> None:
        """Write the weights of the matrices in `precision`; everything else is float32."""
        self.graph = graph
        self._weights = weights
        self._precision = precision

    def parameter(self, name: str) -> str:
        """A parameter in float32."""
        return self.graph.weight(self._weights.rows(name), self._weights.shape(name), np.float32)

    def norm(self, x: str, name: str, eps: float, *, divisor: FloatArray | None = None) -> str:
        """Normalise the last axis, and divide by `divisor`: (N, D) -> (N, D)."""
        return self.graph.op("LayerNormalization", x, *self._gain_and_bias(name, divisor), axis=-1, epsilon=eps)

    def sum_norm(self, x: str, y: str, name: str, eps: float, *, divisor: FloatArray | None = None) -> tuple[str, str]:
        """Add two (N, D), normalise, and divide by `divisor`: the normalised sum, and the sum itself."""
        gain, bias = self._gain_and_bias(name, divisor)
        normed, _, _, total = self.graph.ops(
            "SkipLayerNormalization", x, y, gain, bias, outputs=4, domain=MICROSOFT, epsilon=eps
        )
        return normed, total

    def _gain_and_bias(self, name: str, divisor: FloatArray | None) -> tuple[str, str]:
        gain, bias = (self.vector(f"{name}.{kind}") for kind in ("weight", "bias"))
        if divisor is not None:
            gain, bias = gain / divisor, bias / divisor
        return self.graph.constant(gain), self.graph.constant(bias)

    def balance(self, norm: str, linear: str) -> FloatArray | None:
        """What to divide the inputs of a matrix by, and to multiply its columns by, so that both are easy to round.

        In int8 a few large channels would leave few levels to all others. How large a channel is after a norm is known
        from the norm's gain and bias, without any data.

        Args:
            norm: the norm whose output goes into the matrix.
            linear: the layer of the matrix.

        Returns:
            (in,) positive numbers, or `None` where nothing is rounded.

        Source: Xiao et al. 2023, "SmoothQuant", equation 4, with alpha = 0.5 and the norm's own statistics.
        """
        if self._precision != "int8":
            return None
        size = np.sqrt(self.vector(f"{norm}.weight") ** 2 + self.vector(f"{norm}.bias") ** 2)  # (in,) root mean square
        column = np.zeros_like(size)
        for rows in self._weights.rows(f"{linear}.weight"):
            column = np.maximum(column, np.abs(rows).max(axis=0))
        found = np.sqrt(np.maximum(size, _LEAST_SIZE) / np.maximum(column, _LEAST_SIZE))
        balanced: FloatArray = found / np.exp(np.log(found).mean())
        return balanced

    def divided(self, x: str, divisor: FloatArray | None) -> str:
        """Divide channels, if there is anything to divide by: (N, D) -> (N, D)."""
        return x if divisor is None else self.graph.op("Mul", x, self.graph.constant(np.float32(1) / divisor))

    def linear(self, x: str, name: str, bias: FloatArray | None = None, *, factor: FloatArray | None = None) -> str:
        """Multiply by a matrix and add a bias: (N, in) -> (N, out).

        Args:
            x: (N, in) float32.
            name: of the layer, whose `weight` is (out, in).
            bias: (out,), or `None` for none.
            factor: (in,), by which the columns of the matrix are multiplied because `x` was divided by it.
        """
        weight = f"{name}.weight"
        if self._precision == "int8":
            return self._linear_int8(x, weight, bias, factor)
        if self._precision == "fp16":
            return self._linear_fp16(x, weight, bias)
        inputs = [x, self.parameter(weight), *([] if bias is None else [self.graph.constant(bias)])]
        return self.graph.op("Gemm", *inputs, transB=1)

    def bias(self, name: str) -> FloatArray:
        """The bias of a layer."""
        return self.vector(f"{name}.bias")

    def vector(self, name: str) -> FloatArray:
        """A parameter as an array: (D,)."""
        return self._weights.whole(name)

    def first_row(self, name: str) -> FloatArray:
        """The first row of a matrix: (D,)."""
        row: FloatArray = self._weights.whole(name)[0]
        return row

    def embedding(self, ids: str, name: str) -> str:
        """Look rows up: (N,) int64 -> (N, D) float32."""
        graph, shape = self.graph, self._weights.shape(name)
        if self._precision == "fp32":
            return graph.op("Gather", self.parameter(name), ids)
        if self._precision == "fp16":
            table = graph.weight(self._halves(name), shape, np.float16)
            return graph.op("Cast", graph.op("Gather", table, ids), to=TensorProto.FLOAT)
        scales: list[FloatArray] = []

        def rows() -> Iterator[NDArray[np.int8]]:
            for part in self._weights.rows(name):
                quantised, scale = quantise_rows(part, _MOST_VALUE)
                scales.append(scale)
                yield quantised

        table = graph.weight(rows(), shape, np.int8)
        scale = graph.weight(scales, (shape[0], 1), np.float32)
        values = graph.op("Cast", graph.op("Gather", table, ids), to=TensorProto.FLOAT)
        return graph.op("Mul", values, graph.op("Gather", scale, ids))

    def _halves(self, name: str) -> Iterator[NDArray[np.float16]]:
        for part in self._weights.rows(name):
            yield part.astype(np.float16)

    def _linear_fp16(self, x: str, weight: str, bias: FloatArray | None) -> str:
        graph = self.graph
        matrix = graph.weight(self._halves(weight), self._weights.shape(weight), np.float16)
        product = graph.op("Gemm", graph.op("Cast", x, to=TensorProto.FLOAT16), matrix, transB=1)
        product = graph.op("Cast", product, to=TensorProto.FLOAT)
        return product if bias is None else graph.op("Add", product, graph.constant(bias))

    def _linear_int8(self, x: str, weight: str, bias: FloatArray | None, factor: FloatArray | None) -> str:
        """The product of int8 values with a scale for each token and a scale for each output channel.

        The scale of a token depends on that token alone, so what shares the batch does not matter.
        """
        graph = self.graph
        values = self._weights.whole(weight)  # (out, in)
        rows, scale = quantise_rows(values if factor is None else values * factor, _MOST_WEIGHT)  # and (out, 1)
        matrix = graph.weight([np.ascontiguousarray(rows.T)], rows.T.shape, np.int8)  # (in, out)
        most = graph.op("ReduceMax", graph.op("Abs", x), graph.ints(-1), keepdims=0)  # (N,)
        step = graph.op("Mul", graph.op("Max", most, graph.floats(_LEAST_SCALE)), graph.floats(1 / _MOST_VALUE))
        zero = graph.constant(np.array([_ZERO], np.uint8))
        zeros = graph.op("Expand", zero, graph.op("Shape", step))
        levels = graph.op("QuantizeLinear", x, step, zeros, axis=0)  # (N, in) uint8, 1..255
        product = graph.op(
            "MatMulIntegerToFloat",
            levels,
            matrix,
            graph.floats(1.0),
            graph.constant(scale[:, 0]),
            graph.constant(np.array(_ZERO, np.uint8)),
            domain=MICROSOFT,
        )  # (N, out), without the scale of the tokens
        product = graph.op("Mul", product, graph.op("Unsqueeze", step, graph.ints(-1)))
        return product if bias is None else graph.op("Add", product, graph.constant(bias))


def quantise_rows(rows: FloatArray, most: int) -> tuple[NDArray[np.int8], FloatArray]:
    """Round each row to whole multiples of a scale of its own.

    Args:
        rows: (R, C) float32.
        most: the largest absolute value of a rounded number.

    Returns:
        (R, C) int8 in -most..most, and the scales, (R, 1) float32.
    """
    scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True), _LEAST_SCALE) / np.float32(most)  # (R, 1)
    return np.rint(rows / scale).astype(np.int8), scale.astype(np.float32)
