"""A record of 1,024 values as a request to Qdrant, on one thread: REST's JSON against the message of gRPC.

    python -m benchmarks.qdrant_writer --quick | --full

Both sides begin with checked records and end with the bytes that qdrant-client would send for a batch of 256; nothing
is sent. Processor time.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc

from benchmarks.comparison import Bench, Claim, main
from jclip_connectors.port import Record
from jclip_connectors.qdrant.requests import Layout, payload_of, to_point

_E = 1024
_BATCH = 256
_LAYOUT = Layout(dimensions=_E, coarse=None, tiled=False, quantization=None)


def run(bench: Bench) -> None:
    """Compare the vectors that the bytes hold, then the times of making them."""
    batch = _records(16 if bench.quick else _BATCH)
    print(f"bytes a record: REST {len(_rest(batch)) // len(batch)}, gRPC {len(_grpc(batch)) // len(batch)}")
    bench.compare(
        {"REST": partial(_rest, batch), "gRPC": partial(_grpc, batch)},
        [Claim(what=f"{_E} values as a point, gRPC / REST", baseline="REST", ours="gRPC", difference=_difference)],
        clock="process",
    )


def _records(count: int) -> list[Record]:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(count, _E)).astype(np.float32)
    return [
        Record(
            record_id=f"/photos/{at}.jpg",
            modality="image",
            embedding=row,
            uri=f"/photos/{at}.jpg",
            metadata={"path": f"/photos/{at}.jpg", "size_bytes": at},
        )
        for at, row in enumerate(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    ]


def _points(records: Sequence[Record]) -> list[models.PointStruct]:
    return [to_point(record, _LAYOUT, payload_of(record, _LAYOUT)) for record in records]


def _rest(records: Sequence[Record]) -> bytes:
    return models.PointsList(points=_points(records)).model_dump_json(exclude_unset=True).encode()


def _grpc(records: Sequence[Record]) -> bytes:
    message = grpc.UpsertPoints(
        collection_name="photos", points=[RestToGrpc.convert_point_struct(point) for point in _points(records)]
    )
    data: bytes = message.SerializeToString()
    return data


def _difference(expected: bytes, actual: bytes) -> float:
    rest = models.PointsList.model_validate_json(expected)
    message = grpc.UpsertPoints.FromString(actual)
    sent: NDArray[np.float64] = np.array([point.vector["full"] for point in rest.points])  # type: ignore[index, call-overload]
    packed = np.array([list(point.vectors.vectors.vectors["full"].dense.data) for point in message.points])
    return float(np.abs(sent - packed).max())


if __name__ == "__main__":
    main("qdrant_writer", __doc__, run)
