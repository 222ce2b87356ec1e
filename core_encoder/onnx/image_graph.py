"""The image tower as an ONNX graph: EVA02, pictures in, one raw feature row per picture out."""

import numpy as np
from onnx import TensorProto, helper

from core_encoder.config import VisionConfig
from core_encoder.onnx.graph import MICROSOFT, Graph
from core_encoder.onnx.layers import Layers

_NORM_EPS = 1e-6  # every norm of the tower, the inner ones too
_ROPE_BASE = 10000.0


def build_image_tower(graph: Graph, layers: Layers, config: VisionConfig) -> None:
    """Write the tower to a graph; its input "pixel_values" is (B, 3, S, S) float32."""
    width, tokens = config.width, 1 + config.grid**2
    patches = graph.op(
        "Conv",
        "pixel_values",
        layers.parameter("vision.patch_embedding.weight"),
        layers.parameter("vision.patch_embedding.bias"),
        strides=[config.patch_size] * 2,
    )  # (B, D, G, G)
    patches = graph.op("Transpose", graph.op("Reshape", patches, graph.ints(0, width, -1)), perm=[0, 2, 1])  # (B, P, D)
    count = graph.op("Shape", patches, start=0, end=1)
    shape = graph.op("Concat", count, graph.ints(1, width), axis=0)
    first = graph.op("Expand", layers.parameter("vision.class_token"), shape)  # (B, 1, D)
    x = graph.op("Concat", first, patches, axis=1)
    x = graph.op("Add", x, layers.parameter("vision.position_embedding"))  # (B, 1 + P, D)
    x = graph.op("Reshape", x, graph.ints(-1, width))  # (N, D): a matrix product sees all tokens of a batch
    rotate = _Rotate(graph, config)
    divisor = layers.balance("vision.blocks.0.norm_1", "vision.blocks.0.qkv")
    normed = layers.norm(x, "vision.blocks.0.norm_1", _NORM_EPS, divisor=divisor)
    for i in range(config.num_layers):
        name = f"vision.blocks.{i}"
        zeros = np.zeros(width, np.float32)
        bias = np.concatenate([layers.vector(f"{name}.q_bias"), zeros, layers.vector(f"{name}.v_bias")])  # no key bias
        qkv = layers.linear(normed, f"{name}.qkv", bias, factor=divisor)
        q, k, v = (
            graph.op("Reshape", part, graph.ints(-1, tokens, width))
            for part in graph.ops("Split", qkv, outputs=3, axis=1, num_outputs=3)
        )  # (B, 1 + P, D)
        attended = graph.op("MultiHeadAttention", rotate(q), rotate(k), v, domain=MICROSOFT, num_heads=config.num_heads)
        attended = graph.op("Reshape", attended, graph.ints(-1, width))  # (N, D)
        divisor = layers.balance(f"{name}.attention_norm", f"{name}.out")
        attended = layers.norm(attended, f"{name}.attention_norm", _NORM_EPS, divisor=divisor)
        attended = layers.linear(attended, f"{name}.out", layers.bias(f"{name}.out"), factor=divisor)
        divisor = layers.balance(f"{name}.norm_2", f"{name}.mlp_in")
        normed, x = layers.sum_norm(x, attended, f"{name}.norm_2", _NORM_EPS, divisor=divisor)
        hidden = layers.linear(
            normed, f"{name}.mlp_in", layers.bias(f"{name}.mlp_in"), factor=divisor
        )  # (N, 2 * hidden)
        gate, value = graph.ops("Split", hidden, outputs=2, axis=1, num_outputs=2)
        gated = graph.op("Mul", graph.op("Mul", gate, graph.op("Sigmoid", gate)), value)  # SiLU of the gate
        divisor = layers.balance(f"{name}.mlp_norm", f"{name}.mlp_out")
        gated = layers.norm(gated, f"{name}.mlp_norm", _NORM_EPS, divisor=divisor)
        out = layers.linear(gated, f"{name}.mlp_out", layers.bias(f"{name}.mlp_out"), factor=divisor)
        if i + 1 == config.num_layers:
            normed, _ = layers.sum_norm(x, out, "vision.norm", _NORM_EPS)
            break
        following = f"vision.blocks.{i + 1}"
        divisor = layers.balance(f"{following}.norm_1", f"{following}.qkv")
        normed, x = layers.sum_norm(x, out, f"{following}.norm_1", _NORM_EPS, divisor=divisor)
    normed = graph.op("Reshape", normed, graph.ints(-1, tokens, width))
    features = graph.op("Gather", normed, graph.constant(np.array(0, np.int64)), axis=1)  # (B, D): the class token
    side = config.image_size
    pixels = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["B", 3, side, side])
    graph.save([pixels], features, width)


class _Rotate:
    """Rotates queries or keys, (B, 1 + P, D), by the rows and columns of their patches; pairs are (2i, 2i + 1).

    The class token has cosine 1 and sine 0, which leaves it as it is.
    Source: Fang et al. 2023, "EVA-02", section 2.1, and Su et al. 2021, "RoFormer", equation 15.
    """

    def __init__(self, graph: Graph, config: VisionConfig) -> None:
        self._graph, self._num_heads = graph, config.num_heads
        head_width, grid = config.width // config.num_heads, config.grid
        exponents = np.arange(0, head_width // 2, 2, dtype=np.float32) / np.float32(head_width // 2)
        steps = np.arange(grid, dtype=np.float32) / np.float32(grid) * np.float32(config.rope_span)
        angles = steps[:, None] * np.float32(_ROPE_BASE) ** -exponents  # (G, d / 4)
        rows = np.broadcast_to(angles[:, None], (grid, grid, angles.shape[1]))
        columns = np.broadcast_to(angles[None], (grid, grid, angles.shape[1]))
        table = np.concatenate([rows, columns], axis=-1).reshape(grid * grid, -1)  # (P, d / 2)
        table = np.concatenate([np.zeros_like(table[:1]), table])  # (1 + P, d / 2)
        self._tables = graph.constant(np.cos(table)), graph.constant(np.sin(table))
        self._first = graph.ints(0)  # the position of the first token; the others follow

    def __call__(self, x: str) -> str:
        return self._graph.op(
            "RotaryEmbedding",
            x,
            self._first,
            *self._tables,
            domain=MICROSOFT,
            interleaved=1,
            num_heads=self._num_heads,
        )
