"""Haystack's own suites for document stores over every store of this package, blocking and asyncio."""

import inspect

import pytest
from qdrant_client import AsyncQdrantClient

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.qdrant import AsyncQdrantStore
from tests.doubles.qdrant_server import QdrantServer
from tests.every_store.live_stores import LIVE_STORES
from tests.haystack import official
from tests.late import late
from tests.test_async_collection import AsyncInMemoryStore

ours = late("jclip_connectors.haystack")

CONFIG = EmbeddingConfig(model="suite", revision="1", dimensions=768)  # as long as the suites' own embeddings
BLOCKING = official.tests_of("document_store", official.BLOCKING)
ASYNC = official.tests_of("document_store_async", official.ASYNC)
QUICK = ("memory", "edge")
STORES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in LIVE_STORES]


def over(store):
    return ours().JinaClipDocumentStore(store, allow_unembedded=True)


@pytest.fixture(scope="module", params=STORES)
def open_any(request):
    with LIVE_STORES[request.param]() as open_store:
        yield open_store


@pytest.mark.parametrize("test", BLOCKING)
def test_a_test_of_haystacks_passes(test, open_any):
    official.call(test, official.BLOCKING, "document_store", over(open_any(CONFIG)))


@pytest.mark.parametrize("test", ASYNC)
async def test_an_asyncio_test_of_haystacks_passes_in_threads(test, open_any):
    await official.call(test, official.ASYNC, "document_store_async", over(open_any(CONFIG)))


@pytest.mark.parametrize("test", ASYNC)
async def test_an_asyncio_test_of_haystacks_passes_over_an_asyncio_store(test):
    await official.call(test, official.ASYNC, "document_store_async", over(AsyncInMemoryStore(CONFIG)))


@pytest.fixture(scope="module")
def qdrant():
    with QdrantServer() as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("test", ASYNC)
async def test_an_asyncio_test_of_haystacks_passes_over_the_asyncio_client_of_qdrant(test, qdrant):
    client = AsyncQdrantClient(url=qdrant.url, check_compatibility=False)
    store = await AsyncQdrantStore.open(client, "haystack", CONFIG)
    await store.delete(where={})
    await official.call(test, official.ASYNC, "document_store_async", over(store))
    await client.close()


@pytest.mark.parametrize(
    ("listed", "classes", "module"),
    [(BLOCKING, official.BLOCKING, "document_store"), (ASYNC, official.ASYNC, "document_store_async")],
)
def test_every_test_of_the_suites_is_run_but_those_of_an_option_that_is_not_here(listed, classes, module):
    suite = official.suite(classes, module)
    left_out = {name for name in dir(suite) if name.startswith("test_")} - set(listed) - set(vars(official.Overrides))
    assert all(name.removesuffix("_async").endswith(official.OF_AN_OPTION_THAT_IS_NOT_HERE) for name in left_out)
    assert len(left_out) == 2
    for method in (
        ours().JinaClipDocumentStore.delete_all_documents_async,
        ours().JinaClipDocumentStore.delete_all_documents,
    ):
        assert list(inspect.signature(method).parameters) == ["self"]
