"""The store in memory: fast, and exact whatever is written between searches."""

import threading
import time

import numpy as np

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import Record

E = 64
CONFIG = EmbeddingConfig(model="memory", revision="1", dimensions=E, tiling=Tiling(max_tiles=4))
BOXES = np.arange(8).reshape(2, 4)


def records(count, *, tiles=False):
    rows = np.random.default_rng(0).normal(size=(count, 3, E)).astype(np.float32)
    options = [
        {"tile_embeddings": row[1:], "tile_boxes": BOXES} if tiles and i % 2 else {} for i, row in enumerate(rows)
    ]
    return [
        Record(record_id=str(i), modality="image", embedding=row[0], metadata={"n": i}, **option)
        for i, (row, option) in enumerate(zip(rows, options, strict=True))
    ]


def by_hand(store, query, *, tiles):
    """(id, cosine) of every record, nearest first."""
    query = query / np.linalg.norm(query)
    scores = {}
    for record in store.scroll():
        rows = record.tile_embeddings if tiles and record.tile_embeddings is not None else record.embedding[None]
        scores[record.record_id] = float((rows @ query).max())
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


def test_twenty_thousand_records_are_searched_in_milliseconds():
    store = InMemoryStore(CONFIG)
    store.upsert(records(20_000))
    queries = np.random.default_rng(1).normal(size=(10, E)).astype(np.float32)
    store.search(queries[0])  # makes the array
    started = time.perf_counter()
    for query in queries:
        assert len(store.search(query)) == 10
    # Comparing record by record takes 10 times as long or more.
    assert (time.perf_counter() - started) / len(queries) < 0.04


def test_every_search_sees_what_was_written_and_deleted_before():
    store = InMemoryStore(CONFIG)
    given = records(60, tiles=True)
    query = np.random.default_rng(2).normal(size=E).astype(np.float32)
    for start in range(0, 60, 20):
        store.upsert(given[start : start + 20])
        store.delete([str(start), str(start + 1)])
        store.delete(where={"n": start + 2})
        for tiles in (False, True, False):
            for limit in (1, 7, 100):
                found = store.search(query, limit=limit, tiles=tiles)
                expected = by_hand(store, query, tiles=tiles)[:limit]
                assert [hit.record_id for hit in found] == [record_id for record_id, _ in expected]
                np.testing.assert_allclose([hit.score for hit in found], [score for _, score in expected], atol=1e-6)
        wanted = {"n": {"gte": start + 10}}
        assert len(store.search(query, limit=100, where=wanted)) == 10
    store.delete(where={})
    assert store.search(query) == []
    assert store.search(query, tiles=True) == []


def test_equal_vectors_are_in_the_order_of_their_ids_wherever_they_lie():
    store = InMemoryStore(CONFIG)
    same = np.random.default_rng(3).normal(size=E).astype(np.float32)
    ids = [str(i) for i in range(333)]
    store.upsert([Record(record_id=i, modality="image", embedding=same) for i in reversed(ids)])
    for limit in (1, 10, 332):
        assert [hit.record_id for hit in store.search(same, limit=limit)] == sorted(ids)[:limit]


def test_searches_while_another_thread_writes_are_of_one_moment():
    store = InMemoryStore(CONFIG)
    given, done = records(400), threading.Event()

    def write():
        for start in range(0, 400, 4):
            store.upsert(given[start : start + 4])
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    query = np.random.default_rng(4).normal(size=E).astype(np.float32)
    while not done.is_set():
        assert len(store.search(query, limit=1000)) <= 400
    thread.join()
    assert len(store.search(query, limit=1000)) == 400
