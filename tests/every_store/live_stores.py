"""Every store that the suites run over: a name, and a context in which empty collections can be had.

    with LIVE_STORES["qdrant"]() as open_store:
        store = open_store(config)      # empty; a later call with the same config empties it and gives it again

Each `tests/doubles/<name>_stores.py` brings one; with QDRANT_URL, WEAVIATE_URL, PINECONE_API_KEY, POSTGRES_URL or
MILVUS_URL or CHROMA_URL set it is the real service's.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import pytest

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.edge.store import QdrantEdgeStore
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import VectorStore

OpenStore = Callable[[EmbeddingConfig], VectorStore]


@contextmanager
def _memory() -> Iterator[OpenStore]:
    yield InMemoryStore


@contextmanager
def _edge() -> Iterator[OpenStore]:
    opened: dict[EmbeddingConfig, QdrantEdgeStore] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))

        def open_store(config: EmbeddingConfig) -> VectorStore:
            # Making a collection waits for the disk a dozen times: one of each kind is emptied and used again.
            if config not in opened:
                store = QdrantEdgeStore.open(folder / str(len(opened)), config)
                opened[config] = stack.enter_context(store)
            opened[config].delete(where={})
            return opened[config]

        yield open_store


def _double(name: str, given: str = "stores") -> Callable[[], AbstractContextManager[OpenStore]]:
    def enter() -> AbstractContextManager[OpenStore]:
        module = importlib.import_module(f"tests.doubles.{name}_stores")
        stores: AbstractContextManager[OpenStore] = getattr(module, given)()
        return stores

    return enter


LIVE_STORES = MappingProxyType(
    {
        "memory": _memory,
        "edge": _edge,
        **{name: _double(name) for name in ("qdrant", "weaviate", "pinecone", "pgvector")},
        "lancedb": _double("lancedb"),
        "milvus": _double("milvus"),
        "chroma": _double("chroma"),
        "chroma-server": _double("chroma", "server_stores"),
    }
)

# Heavy engines: their suites are left to `make test-all`.
SLOW = frozenset(
    {
        "milvus",
        "chroma",
        "chroma-server",
    }
)
EACH_STORE = [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in LIVE_STORES]
"""The names of all stores, as the parameters of a test or a fixture."""


class OverOneStore:
    """For a class of tests: `open_store` of the store called `name`, once for the class."""

    name: str

    @pytest.fixture(scope="class")
    @classmethod
    def open_store(cls):
        with LIVE_STORES[cls.name]() as open_store:
            yield open_store
