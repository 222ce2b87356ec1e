"""The store itself: asyncio methods, what it shows of itself, what it refuses, and its imports."""

import dataclasses
import pickle
import subprocess
import sys

import pytest
from pydantic import ValidationError

from jclip_connectors.errors import (
    CollectionMismatchError,
    PartialFailureError,
    StoreRequestError,
    StoreUnavailableError,
)
from jclip_connectors.llamaindex.vector_store import JinaClipVectorStore
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.testing import HashEmbedder
from tests.every_store.loops import needing_the_loop
from tests.llamaindex.harness import PLAIN, ask, note, of_document, one, where

OTHER = dataclasses.replace(PLAIN, revision="2")
SECRET = "sk-very-secret"  # noqa: S105 - it is looked for, and must not be found


async def test_the_async_twins_do_the_same(memory):
    assert await memory.async_add([note("a", metadata={"x": 1}), note("b", relationships=of_document("doc"))]) == [
        "a",
        "b",
    ]
    assert (await memory.aquery(ask())).ids == ["a", "b"]
    assert [node.node_id for node in await memory.aget_nodes(["b"])] == ["b"]
    await memory.adelete("doc")
    assert memory.query(ask()).ids == ["a"]
    await memory.adelete_nodes(filters=where(one("x", 2)))
    assert memory.query(ask()).ids == ["a"]
    await memory.adelete_nodes(["a"])
    assert memory.store.count() == 0
    memory.add([note("a")])
    await memory.aclear()
    assert memory.store.count() == 0


async def test_the_event_loop_goes_on_while_the_store_works():
    store = needing_the_loop(InMemoryStore(PLAIN), "upsert", "search", "delete")
    nodes = JinaClipVectorStore(store=store, modality="text")
    assert await nodes.async_add([note("a")]) == ["a"]
    assert (await nodes.aquery(ask())).ids == ["a"]
    await nodes.adelete_nodes(["a"])
    assert store.count() == 0


class KeyedStore(InMemoryStore):
    def __init__(self, config):
        super().__init__(config)
        self.api_key = SECRET

    def __repr__(self):
        return f"KeyedStore({self.api_key})"


def test_the_store_is_neither_shown_nor_dumped_nor_pickled():
    store = KeyedStore(PLAIN)
    nodes = JinaClipVectorStore(store=store, embedder=HashEmbedder(PLAIN), modality="text")
    assert SECRET not in f"{nodes!r}{nodes}{nodes.to_dict()}{nodes.to_json()}"
    assert nodes.client is store
    back = JinaClipVectorStore.from_dict(nodes.to_dict(), store=store)
    assert (back.modality, back.store, back.stores_text) == ("text", store, True)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(nodes)
    for wrong in ({"store": SECRET}, {"store": store, "modality": SECRET}, {"store": store, "api_key": SECRET}):
        with pytest.raises(ValidationError) as caught:
            JinaClipVectorStore(**wrong)
        assert SECRET not in str(caught.value)


def test_an_embedder_with_another_configuration_is_refused():
    with pytest.raises(CollectionMismatchError, match=r"`revision` '1' .now '2'."):
        JinaClipVectorStore(store=InMemoryStore(PLAIN), embedder=HashEmbedder(OTHER))


BAD_STORES = {"no store": None, "a path": "photos.jclip", "a class": object()}


@pytest.mark.parametrize("store", BAD_STORES.values(), ids=BAD_STORES)
def test_what_is_no_store_is_refused(store):
    with pytest.raises(ValidationError, match=r"`store` is a .* which has no upsert"):
        JinaClipVectorStore(store=store)


@pytest.mark.parametrize(
    "error",
    [
        PartialFailureError("records", failed={1: StoreRequestError("refused")}, kept={0: None}),
        StoreUnavailableError("no answer", retry_after_s=3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_store_says_reaches_the_caller(error):
    class Failing(InMemoryStore):
        def upsert(self, *_):
            raise error

    with pytest.raises(type(error)) as caught:
        JinaClipVectorStore(store=Failing(PLAIN)).add([note("a"), note("b")])
    assert caught.value is error


def test_without_llamaindex_the_error_names_the_extra_and_with_it_no_torch_is_loaded():
    code = (
        "import sys\n"
        "from jclip_connectors.errors import MissingDependencyError\n"
        "names = ['embeddings', 'vector_store', 'filters', 'nodes']\n"
        "modules = ['jclip_connectors.llamaindex.' + name for name in names]\n"
        "sys.modules['llama_index'] = None\n"
        "for module in modules:\n"
        "    try:\n        __import__(module)\n"
        "    except MissingDependencyError as error:\n        print(error.extra)\n"
        "del sys.modules['llama_index']\n"
        "for module in modules:\n    __import__(module)\n"
        "print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 (our own code)
    assert run.stdout.split() == [*["llamaindex"] * 4, "False"]
