"""Nothing is logged about errors that are raised or handled, and everything about calls of others."""

import asyncio
import dataclasses
import logging

import pytest
from pymilvus import AsyncMilvusClient, MilvusClient
from pymilvus.exceptions import MilvusException

from jclip_connectors.errors import StoreRequestError
from jclip_connectors.milvus import AsyncMilvusStore, MilvusStore
from jclip_connectors.port import NativeFilter
from tests.milvus.parts import CONFIG, TILED, opened, records

pytestmark = pytest.mark.slow

LOGGERS = ("", "pymilvus", "pymilvus.milvus_client")  # the client's do not propagate


class Collector(logging.Handler):
    def __init__(self):
        super().__init__(logging.DEBUG)
        self.records = []

    def emit(self, record):
        self.records.append(record)

    def told(self):
        return [
            each.getMessage()
            for each in self.records
            if each.levelno >= logging.WARNING and each.name.startswith(("pymilvus", "milvus_lite", "grpc"))
        ]


@pytest.fixture
def collector():
    collector = Collector()
    for name in LOGGERS:
        logging.getLogger(name).addHandler(collector)
    yield collector
    for name in LOGGERS:
        logging.getLogger(name).removeHandler(collector)


SHORT = dataclasses.replace(CONFIG, dimensions=8)
WRONG = NativeFilter('secret_word == "of the user"')


def test_what_is_raised_or_handled_is_not_logged(path, collector, capfd):
    with opened(path, TILED) as store:  # which asks for collections that are not there
        with pytest.raises(StoreRequestError):
            store.count(where=WRONG)
        with pytest.raises(StoreRequestError):
            store.search(records(0, 1)[0].embedding, where=WRONG)
        with pytest.raises(StoreRequestError):
            MilvusStore.open(store._client, "photos_tiles", CONFIG)
        store._client.release_collection("photos")
        assert store.count() == 0
        store._client.drop_collection("photos")
        with opened(path, SHORT, name="photos") as other:  # whose vectors cannot be compared
            other.upsert([dataclasses.replace(record, embedding=record.embedding[:8]) for record in records(0, 3)])
            with pytest.raises(StoreRequestError):
                store.search(records(0, 1)[0].embedding)
    assert collector.told() == []
    assert "ERROR" not in capfd.readouterr().err


def test_what_is_raised_or_handled_by_an_asyncio_store_is_not_logged(path, collector, capfd):
    async def main():
        store = await AsyncMilvusStore.open(path, "photos", TILED)
        with pytest.raises(StoreRequestError):
            await store.count(where=WRONG)
        await store.close()

    asyncio.run(main())
    assert collector.told() == []
    assert "ERROR" not in capfd.readouterr().err


def test_what_others_do_with_the_client_is_logged_as_ever(path, collector):
    with opened(path):
        client = MilvusClient(str(path))
        with pytest.raises(MilvusException):
            client.query("nothing", filter='pk != ""')
        client.close()

        async def ask():
            other = AsyncMilvusClient(str(path))
            with pytest.raises(MilvusException):
                await other.query("nothing", filter='pk != ""')
            await other.close()

        asyncio.run(ask())
    assert len([each for each in collector.told() if "'nothing' does not exist" in each]) == 2


def test_the_levels_and_handlers_of_others_are_left_as_they_are(path):
    before = [(name, logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in LOGGERS]
    with opened(path):
        pass
    assert before == [(name, logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in LOGGERS]
    assert logging.root.manager.disable == logging.NOTSET
