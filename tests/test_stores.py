import pytest

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.qdrant_edge_store import QdrantEdgeStore
from jclip_connectors.testing import InMemoryStore
from tests.contracts.store_contract import StoreContract


class TestInMemoryStore(StoreContract):
    @pytest.fixture
    def open_store(self):
        return InMemoryStore


@pytest.fixture(scope="module")
def opened():
    stores: dict[EmbeddingConfig, QdrantEdgeStore] = {}
    yield stores
    for store in stores.values():
        store.close()


class TestQdrantEdgeStore(StoreContract):
    @pytest.fixture
    def open_store(self, opened, tmp_path_factory):
        def make(config):
            # Making a collection waits for the disk a dozen times: one of each kind is emptied and used again.
            if config not in opened:
                opened[config] = QdrantEdgeStore.open(tmp_path_factory.mktemp("collection"), config)
            opened[config].delete(where={})
            return opened[config]

        return make
