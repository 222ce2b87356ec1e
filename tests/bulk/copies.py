"""Records for tests of copies, and whether two stores have the same."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.port import Record

E = 8
PLAIN = EmbeddingConfig(model="copied", revision="1", dimensions=E)
TILED = EmbeddingConfig(model="copied", revision="1", dimensions=E, tiling=Tiling(max_tiles=4))
NANO = EmbeddingConfig(model="nano", tiling=Tiling(max_tiles=4))


def unit(rows: Any) -> Any:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def synthetic(count: int, *, length: int = E, tiled: bool = True, start: int = 0) -> Iterator[Record]:
    """Records of every kind: texts, pictures with and without tiles, deep metadata."""
    for at in range(start, start + count):
        rng = np.random.default_rng(at)
        given: dict[str, Any] = {"modality": "image", "uri": f"/photos/{at}.jpg", "content_hash": f"sha256:{at}"}
        if at % 3 == 0:
            given = {"modality": "text", "content": f"Text {at} \u00fc \U0001f6b2"}
        elif tiled and at % 3 == 1:
            tiles = int(rng.integers(1, 6))
            given["tile_embeddings"] = unit(rng.normal(size=(tiles, length)))
            given["tile_boxes"] = rng.integers(0, 5000, size=(tiles, 4))
        metadata = {"n": at, "third": at % 3 == 0, "deep": {"list": [None, 1, 1.5, "x"], "": {}}, "big": 2**60}
        yield Record(record_id=f"r {at}", embedding=unit(rng.normal(size=length)), metadata=metadata, **given)


def assert_equal_records(wanted: Any, found: Any, *, tolerance: float = 1e-6) -> None:
    wanted, found = ({record.record_id: record for record in records} for records in (wanted, found))
    assert wanted.keys() == found.keys()
    for record_id, record in wanted.items():
        other = found[record_id]
        for name in ("modality", "content", "uri", "content_hash", "metadata"):
            assert getattr(record, name) == getattr(other, name)
        assert repr(record.metadata) == repr(other.metadata)  # 1 is not 1.0
        np.testing.assert_allclose(record.embedding, other.embedding, rtol=0, atol=tolerance)
        assert (record.tile_embeddings is None) == (other.tile_embeddings is None)
        if record.tile_embeddings is not None:
            np.testing.assert_allclose(record.tile_embeddings, other.tile_embeddings, rtol=0, atol=tolerance)
            np.testing.assert_array_equal(record.tile_boxes, other.tile_boxes)
