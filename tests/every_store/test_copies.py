"""Every store gives its records to a copy and takes them, with equal vectors."""

import psycopg
import pytest

from jclip_connectors.bulk.copying import copy_collection
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.pgvector import PgVectorStore
from tests.bulk.copies import TILED, assert_equal_records, synthetic
from tests.doubles.postgres_server import postgres
from tests.every_store.live_stores import EACH_STORE, LIVE_STORES


@pytest.mark.parametrize("name", EACH_STORE)
def test_records_go_into_a_store_and_come_back(name):
    given, back = InMemoryStore(TILED), InMemoryStore(TILED)
    given.upsert(list(synthetic(150)))
    with LIVE_STORES[name]() as open_store:
        store = open_store(TILED)
        report = copy_collection(given, store, batch_size=64)
        assert (report.written, report.counted, report.failed) == (150, 150, {})
        assert report.largest_difference < 1e-6
        copy_collection(store, back)
        assert_equal_records(given.scroll(), back.scroll())
        assert copy_collection(given, store).unchanged == 150
        assert copy_collection(store, back, where={"n": {"gte": 75}}).read == 75


@pytest.mark.parametrize("storage", ["vector", "halfvec"])
def test_a_store_of_shorter_numbers_has_a_tolerance_of_its_own(storage):
    with postgres().database() as name, psycopg.connect(**postgres().address(name)) as connection:
        store = PgVectorStore.open(connection, "photos", TILED, storage=storage)
        given = InMemoryStore(TILED)
        given.upsert(list(synthetic(150)))
        report = copy_collection(given, store)
        assert (report.largest_difference > 1e-6) == (storage == "halfvec")
        back = InMemoryStore(TILED)
        copy_collection(store, back)
        assert_equal_records(given.scroll(), back.scroll(), tolerance=1e-6 if storage == "vector" else 1e-3)
