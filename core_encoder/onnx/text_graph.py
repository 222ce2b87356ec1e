"""The text tower as an ONNX graph: packed tokens in, one raw feature row per text out.

As in torch's tower, matrix products see all tokens of a batch at once and no padding. Only attention pads: it gathers
the tokens of each text into a row of a rectangle, and takes them out of it afterwards.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from core_encoder.alibi import alibi_slopes
from core_encoder.config import MAX_TOKENS, TextConfig
from core_encoder.onnx.graph import MICROSOFT, Graph
from core_encoder.onnx.layers import Layers
from core_encoder.onnx.rectangle import LONG_BLOCK, LONG_TOKENS

INPUTS = ("input_ids", "positions", "rectangle", "mask", "places")


def build_text_tower(graph: Graph, layers: Layers, config: TextConfig) -> None:
    """Write the tower to a graph.

    Its inputs, for B texts of N tokens in all, the longest of L tokens:
        input_ids: (N,) int64, the texts one after another, without pad tokens.
        positions: (N,) int64, each token's place in its own text.
        rectangle: (B, L) int64, which of the N tokens stands there; any token in places that are not used.
        mask: (B, L) int32, 1 where `rectangle` has a token of the text.
        places: (N,) int64, each token's place in the flattened rectangle.
    """
    words = layers.embedding("input_ids", "text.word_embedding")
    kind = graph.constant(layers.first_row("text.token_type"))
    x = layers.norm(graph.op("Add", words, kind), "text.embedding_norm", config.layer_norm_eps)  # (N, D)
    attention = _Rotary(graph, config) if config.position == "rotary" else _Alibi(graph, config)
    for i in range(config.num_layers):
        name = f"text.layers.{i}"
        divisor = layers.balance("text.embedding_norm" if i == 0 else f"text.layers.{i - 1}.norm_2", f"{name}.qkv")
        qkv = layers.linear(
            layers.divided(x, divisor), f"{name}.qkv", layers.bias(f"{name}.qkv"), factor=divisor
        )  # (N, 3 * D)
        attended = attention(*graph.ops("Split", qkv, outputs=3, axis=1, num_outputs=3))  # (N, D)
        attended = layers.linear(attended, f"{name}.out", layers.bias(f"{name}.out"))
        x, _ = layers.sum_norm(x, attended, f"{name}.norm_1", config.layer_norm_eps)
        x, _ = layers.sum_norm(x, _mlp(graph, layers, config, x, name), f"{name}.norm_2", config.layer_norm_eps)
    graph.save(_inputs(), _mean(graph, x), config.width)


def _inputs() -> list[onnx.ValueInfoProto]:
    shapes: dict[str, list[str]] = {"rectangle": ["B", "L"], "mask": ["B", "L"]}
    return [
        helper.make_tensor_value_info(
            name, TensorProto.INT32 if name == "mask" else TensorProto.INT64, shapes.get(name, ["N"])
        )
        for name in INPUTS
    ]


def _mlp(graph: Graph, layers: Layers, config: TextConfig, x: str, name: str) -> str:
    """(N, D) -> (N, D): v2's plain MLP, or v1's gated one; the exact (erf) GELU."""
    divisor = layers.balance(f"{name}.norm_1", f"{name}.mlp.fc_in")
    x = layers.divided(x, divisor)
    if config.gated_mlp:
        both = layers.linear(x, f"{name}.mlp.fc_in", factor=divisor)  # (N, 2 * hidden)
        gate, value = graph.ops("Split", both, outputs=2, axis=1, num_outputs=2)
        hidden = graph.op("Mul", graph.op("Gelu", gate), value)
    else:
        hidden = graph.op(
            "Gelu", layers.linear(x, f"{name}.mlp.fc_in", layers.bias(f"{name}.mlp.fc_in"), factor=divisor)
        )
    return layers.linear(hidden, f"{name}.mlp.fc_out", layers.bias(f"{name}.mlp.fc_out"))


def _mean(graph: Graph, x: str) -> str:
    """The mean over the tokens of each text: (N, D) -> (B, D)."""
    used = graph.op("Unsqueeze", graph.op("Cast", "mask", to=TensorProto.FLOAT), graph.ints(-1))  # (B, L, 1)
    total = graph.op("ReduceSum", graph.op("Mul", graph.op("Gather", x, "rectangle"), used), graph.ints(1), keepdims=0)
    return graph.op("Div", total, graph.op("ReduceSum", used, graph.ints(1), keepdims=0))


class _Attention:
    """Softmax attention within each text: (N, D) queries, keys and values -> (N, D)."""

    def __init__(self, graph: Graph, config: TextConfig) -> None:
        self._graph = graph
        self._width, self._num_heads = config.width, config.num_heads
        longest = graph.op("Gather", graph.op("Shape", "rectangle"), graph.constant(np.array(1, np.int64)))
        self._is_long = graph.op("Greater", longest, graph.constant(np.array(LONG_TOKENS, np.int64)))

    def _from_rectangle(self, attended: str) -> str:
        """(B, L, D) -> (N, D)."""
        return self._graph.op(
            "Gather", self._graph.op("Reshape", attended, self._graph.ints(-1, self._width)), "places"
        )

    def _attend(self, q: str, k: str, v: str, mask: str = "", bias: str = "") -> str:
        inputs = [q, k, v, "", mask, bias]
        while not inputs[-1]:
            inputs.pop()
        return self._graph.op("MultiHeadAttention", *inputs, domain=MICROSOFT, num_heads=self._num_heads)


class _Rotary(_Attention):
    """v2: queries and keys are rotated by their positions; pairs are (i, i + d / 2).

    Source: Su et al. 2021, "RoFormer", equation 15, with base^(-2i/d).
    """

    def __init__(self, graph: Graph, config: TextConfig) -> None:
        super().__init__(graph, config)
        head_width, base = config.width // config.num_heads, np.float32(config.rotary_base)
        exponents = np.arange(0, head_width, 2, dtype=np.float32) / np.float32(head_width)
        angles = np.arange(MAX_TOKENS, dtype=np.float32)[:, None] / base**exponents  # (8192, d / 2)
        self._tables = graph.constant(np.cos(angles)), graph.constant(np.sin(angles))
        self._positions = graph.op("Unsqueeze", "positions", graph.ints(0))  # (1, N)

    def __call__(self, q: str, k: str, v: str) -> str:
        graph = self._graph
        q, k, v = (graph.op("Gather", x, "rectangle") for x in (self._rotate(q), self._rotate(k), v))  # (B, L, D)
        # Without a mask, the operator never holds the L x L scores of a head, so a long text is a batch by itself.
        attended = graph.choose(self._is_long, lambda: self._attend(q, k, v), lambda: self._attend(q, k, v, "mask"))
        return self._from_rectangle(attended)

    def _rotate(self, x: str) -> str:
        graph = self._graph
        row = graph.op("Unsqueeze", x, graph.ints(0))  # (1, N, D)
        row = graph.op(
            "RotaryEmbedding", row, self._positions, *self._tables, domain=MICROSOFT, num_heads=self._num_heads
        )
        return graph.op("Squeeze", row, graph.ints(0))


class _Alibi(_Attention):
    """v1: scores lose slope * distance, symmetrically."""

    def __init__(self, graph: Graph, config: TextConfig) -> None:
        super().__init__(graph, config)
        slopes = np.array(alibi_slopes(config.num_heads), np.float32)[None, :, None, None]
        self._slopes = graph.constant(-slopes)  # (1, H, 1, 1)
        places = graph.op("Cast", graph.op("Gather", "positions", "rectangle"), to=TensorProto.FLOAT)  # (B, L)
        self._keys = graph.op("Unsqueeze", places, graph.ints(1, 2))  # (B, 1, 1, L)
        self._places = places
        # Once for all layers; in long texts it would be too large.
        self._bias = graph.choose(
            self._is_long, lambda: graph.floats(0.0), lambda: self._penalty(places)
        )  # (B, H, L, L)

    def __call__(self, q: str, k: str, v: str) -> str:
        graph = self._graph
        q, k, v = (graph.op("Gather", x, "rectangle") for x in (q, k, v))  # (B, L, D)

        def block(queries: str, places: str) -> str:
            return self._attend(queries, k, v, "mask", self._penalty(places))  # (1, block, D)

        def in_blocks() -> str:
            queries = graph.op("Reshape", q, graph.ints(-1, 1, LONG_BLOCK, self._width))
            places = graph.op("Reshape", self._places, graph.ints(-1, 1, LONG_BLOCK))  # (L / block, 1, block)
            attended = graph.for_each(block, queries, places)  # (L / block, 1, block, D)
            return graph.op("Reshape", attended, graph.ints(1, -1, self._width))

        attended = graph.choose(self._is_long, in_blocks, lambda: self._attend(q, k, v, "mask", self._bias))
        return self._from_rectangle(attended)

    def _penalty(self, places: str) -> str:
        """Places of queries, (B, Q) -> the bias of their scores, (B, H, Q, L)."""
        graph = self._graph
        queries = graph.op("Unsqueeze", places, graph.ints(1, 3))  # (B, 1, Q, 1)
        return graph.op("Mul", graph.op("Abs", graph.op("Sub", queries, self._keys)), self._slopes)
