"""Write an ONNX graph: nodes in a small file, weights beside it in a file that is written as they come."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from core_encoder.errors import CheckpointError

OPSET, IR_VERSION = 20, 10  # the oldest with an exact `Gelu`; read by every ONNX Runtime since 1.17
MICROSOFT = "com.microsoft"  # fused operators, which all execution providers of ONNX Runtime share or leave to the CPU
_PAGE, _LINE = 65_536, 64  # bytes; a large weight begins at a page of any system, so that it can be mapped into memory
_SMALL_BYTES = 1024  # smaller constants are kept in the graph itself

Array = NDArray[np.float32 | np.float16 | np.uint8 | np.int8 | np.int64]


class Graph:
    """Collects the nodes of one graph; use with `with`, which closes the file of the weights."""

    def __init__(self, path: Path) -> None:
        """Begin a graph that `save` will write to `path`, with its weights in `path` + ".data"."""
        self._path = path
        self._data: BinaryIO = _data_path(path).open("wb")
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._count = 0

    def __enter__(self) -> Self:
        """Return the graph."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file of the weights."""
        self._data.close()

    def op(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: object) -> str:
        """Add a node and return the name of its first output; `outputs` counts those that are made."""
        return self.ops(kind, *inputs, outputs=outputs, domain=domain, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, domain: str = "", **attributes: object) -> list[str]:
        """Add a node and return the names of its outputs."""
        self._count += 1
        names = [f"{kind}_{self._count}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))  # type: ignore[arg-type]  # as onnx declares it
        return names

    def choose(self, condition: str, then: Callable[[], str], otherwise: Callable[[], str]) -> str:
        """Add a node that computes one of two branches; both may use every name that was made before."""
        branches = [self._subgraph(branch) for branch in (then, otherwise)]
        return self.op("If", condition, then_branch=branches[0], else_branch=branches[1])

    def for_each(self, body: Callable[..., str], *sequences: str) -> str:
        """Add a node that computes `body` for each row of all sequences, and stacks the results."""
        self._count += 1
        names = [f"row_{self._count}_{i}" for i in range(len(sequences))]
        graph = self._subgraph(lambda: body(*names), inputs=names)
        return self.op("Scan", *sequences, body=graph, num_scan_inputs=len(sequences))

    def _subgraph(self, build: Callable[[], str], inputs: Sequence[str] = ()) -> onnx.GraphProto:
        outside, self._nodes = self._nodes, []
        output = self.op("Identity", build())  # a value from outside cannot be returned itself
        inside, self._nodes = self._nodes, outside
        # A type is all that a subgraph has to declare of its ends.
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs]
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        return helper.make_graph(inside, f"subgraph_{output}", ends, [result])

    def constant(self, values: Array) -> str:
        """Add a small constant, which is kept in the graph."""
        if values.nbytes > _SMALL_BYTES:
            return self.weight([values], values.shape, values.dtype)
        self._count += 1
        name = f"constant_{self._count}"
        self._initializers.append(onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def floats(self, *values: float) -> str:
        """Add a float32 constant: a scalar for one value, else a list."""
        return self.constant(np.array(values[0] if len(values) == 1 else values, np.float32))

    def ints(self, *values: int) -> str:
        """Add a list of int64, for shapes and axes."""
        return self.constant(np.array(values, np.int64))

    def weight(self, parts: Iterable[Array], shape: Sequence[int], dtype: np.dtype[np.generic] | type) -> str:
        """Write a weight to the file of the weights.

        Args:
            parts: its rows in order, any number at a time.
            shape: of the whole weight.
            dtype: of the whole weight.
        """
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._data.write(bytes(-self._data.tell() % (_PAGE if size >= 8 * _PAGE else _LINE)))
        start = self._data.tell()
        for part in parts:
            self._data.write(np.ascontiguousarray(part, dtype).data.cast("B"))
        length = self._data.tell() - start
        if length != size:
            raise CheckpointError(f"a weight of shape {tuple(shape)} has {length} bytes of {np.dtype(dtype)}")
        self._count += 1
        tensor = TensorProto(
            name=f"weight_{self._count}",
            data_type=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)),
            dims=shape,
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (("location", _data_path(self._path).name), ("offset", start), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        self._initializers.append(tensor)
        return tensor.name

    def save(self, inputs: Sequence[onnx.ValueInfoProto], output: str, width: int) -> None:
        """Write the graph; its output "features" is (B, width) float32."""
        self._nodes.append(helper.make_node("Identity", [output], ["features"]))
        result = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", width])
        graph = helper.make_graph(self._nodes, self._path.stem, list(inputs), [result], self._initializers)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="jclip-connectors")
        self._data.flush()
        self._path.write_bytes(model.SerializeToString())


def _data_path(path: Path) -> Path:
    return path.with_name(path.name + ".data")
