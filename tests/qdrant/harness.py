"""What the tests of the Qdrant store share."""

import dataclasses

import numpy as np

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.port import Record
from jclip_connectors.qdrant.requests import Layout

E = 16
CONFIG = EmbeddingConfig(model="qdrant", revision="1", dimensions=E)
TILED = dataclasses.replace(CONFIG, tiling=Tiling(max_tiles=4))
UNSIZED = dataclasses.replace(CONFIG, dimensions=None)
UPSERT, SEARCH = r"PUT .*/points$", r"POST .*/points/query$"


def records(start, stop, **fields):
    rng = np.random.default_rng(start)
    return [
        Record(record_id=str(i), modality="image", embedding=rng.normal(size=E).astype(np.float32), **fields)
        for i in range(start, stop)
    ]


QUERY = records(999, 1000)[0].embedding
LAYOUT = Layout(dimensions=E, coarse=4, tiled=True, quantization="scalar")
