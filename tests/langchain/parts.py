"""What the tests of LangChain's adapter have in common; the fixtures are imported by name."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.langchain import JinaClipEmbeddings, JinaClipVectorStore
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.testing import HashEmbedder

SUITE = EmbeddingConfig(model="suite", revision="1", dimensions=6)  # as long as the suite's own embeddings
PLAIN = EmbeddingConfig(model="hash", revision="1", dimensions=16)
TILED = dataclasses.replace(PLAIN, tiling=Tiling(max_tiles=4))


def over(store, embedder=HashEmbedder):
    """A vector store over `store`, with vectors from hashes."""
    tiled = store.fingerprint["tiling"] is not None
    return JinaClipVectorStore(store, JinaClipEmbeddings.from_embedder(embedder(TILED if tiled else PLAIN)))


def ids_of(found):
    return [document.id for document in found]


@pytest.fixture
def documents():
    """A vector store without tiles, in memory."""
    return over(InMemoryStore(PLAIN))


@pytest.fixture
def pictures(tmp_path):
    """The paths of three pictures."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 12, 3), dtype=np.uint8)
    paths = [str(tmp_path / f"{name}.png") for name in "abc"]
    for path, each in zip(paths, pixels, strict=True):
        Image.fromarray(each).save(path)
    return paths
