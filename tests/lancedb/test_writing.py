"""How records are written to LanceDB: a commit for each batch, from many processes, and when one is killed."""

import dataclasses
import signal
import threading

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from jclip_connectors.errors import (
    CollectionMismatchError,
    PartialFailureError,
    StoreRequestError,
)
from jclip_connectors.lancedb import LanceStore, lance_optimize, operations
from jclip_connectors.lancedb.clients import BlockingClient
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import record_uuid
from tests.lancedb.parts import CONFIG, TILED, ids_of, records, start, vectors


def versions(connection):
    return len(connection.open_table("photos").list_versions())


def test_records_are_written_by_the_thousand_each_thousand_in_one_commit(store, connection):
    before = versions(connection)
    store.upsert(records(0, 2500))
    assert versions(connection) == before + 3
    assert store.count() == 2500


def test_large_records_are_written_by_their_size(store, connection, monkeypatch):
    monkeypatch.setattr(operations, "_BATCH_BYTES", 150_000)
    before = versions(connection)
    store.upsert([dataclasses.replace(each, metadata={"text": "x" * 20_000}) for each in records(0, 5)])
    assert versions(connection) == before + 3


def refuse(monkeypatch, what, *, times):
    """The engine refuses the first writes of rows whose ids are `what`, with a text of its own."""
    merge, left = BlockingClient.merge, [times]

    def refusing(self, rows):
        if left[0] and set(what) & set(rows["record_id"].to_pylist()):
            left[0] -= 1
            raise RuntimeError(TEXT)
        merge(self, rows)

    monkeypatch.setattr(BlockingClient, "merge", refusing)


TEXT = (
    "lance error: Retryable commit conflict for version 3: This Update transaction was preempted by concurrent "
    "transaction Update at version 3. Please retry., /root/.cargo/registry/src/x/lance-13.0.0/src/io/commit.rs:97:21"
)


@pytest.mark.usefixtures("quick")
def test_a_commit_that_another_writer_was_faster_than_is_made_again(store, monkeypatch):
    refuse(monkeypatch, ["1"], times=2)
    store.upsert(records(0, 3))
    assert store.count() == 3


@pytest.mark.usefixtures("quick")
def test_a_batch_that_does_not_get_through_stops_the_rest_and_is_told_by_position(store, monkeypatch):
    monkeypatch.setattr(operations, "_BATCH_RECORDS", 2)
    refuse(monkeypatch, ["3"], times=100)
    with pytest.raises(PartialFailureError, match="too many writers at once: Retryable commit conflict") as caught:
        store.upsert(records(0, 6))
    assert sorted(caught.value.failed) == [2, 3, 4, 5]
    assert ".rs" not in str(caught.value)
    assert sorted(store.ids()) == ["0", "1"]


def test_a_second_handle_sees_what_is_written_deleted_and_optimised(store, folder):
    other = LanceStore.open(lancedb.connect(folder), "photos", CONFIG)
    store.upsert(records(0, 3))
    assert sorted(other.ids()) == ["0", "1", "2"]
    store.delete(["1"])
    lance_optimize(store)
    assert sorted(ids_of(other.search(records(0, 1)[0].embedding))) == ["0", "2"]


def test_a_collection_that_was_dropped_or_made_again_is_not_written(store, folder):
    store.upsert(records(0, 3))
    other = lancedb.connect(folder)
    other.drop_table("photos")
    for call in (lambda: store.upsert(records(0, 1)), lambda: store.delete(where={})):
        with pytest.raises(StoreRequestError, match="'photos' was deleted"):
            call()
    with pytest.raises(StoreRequestError, match="Table 'photos' was not found"):
        store.count()
    LanceStore.open(other, "photos", TILED)
    with pytest.raises(CollectionMismatchError, match="tiling"):
        store.upsert(records(0, 1))


def test_columns_of_the_users_own_keep_their_values(store, connection):
    store.upsert(records(0, 3))
    table = connection.open_table("photos")
    table.add_columns(pa.field("mine", pa.int64()))
    table.update(where="record_id = '1'", values={"mine": 7})
    store.upsert(records(0, 4))
    assert sorted(connection.open_table("photos").to_arrow()["mine"].to_pylist(), key=str) == [7, None, None, None]


def test_threads_may_share_a_store(store):
    failed = []

    def work(i):
        try:
            store.upsert(records(100 * i, 100 * i + 50))
            store.search(records(i, i + 1)[0].embedding)
        except Exception as error:  # noqa: BLE001 (shown below)
            failed.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert store.count() == 300


def test_pages_of_a_scroll_are_each_record_once_while_others_write_and_optimise(store, monkeypatch):
    monkeypatch.setattr(operations, "_PAGE_RECORDS", 50)
    store.upsert(records(0, 600))
    seen = []
    for i, record in enumerate(store.scroll()):
        seen.append(record.record_id)
        if i % 200 == 0:
            store.upsert(records(0, 600))
            lance_optimize(store)
    assert sorted(seen, key=int) == [str(i) for i in range(600)]


RACE = """
import sys, lancedb
from jclip_connectors.lancedb import LanceStore
from tests.lancedb.parts import CONFIG, records
store = LanceStore.open(lancedb.connect(sys.argv[1]), "photos", CONFIG, patience_s=60)
for first in range(0, 400, 25):
    store.upsert(records(first, first + 25))
"""


@pytest.mark.slow
def test_four_processes_that_write_the_same_new_ids_write_each_once(folder):
    processes = [start(RACE, str(folder)) for _ in range(4)]  # they race to make the collection as well
    for process in processes:
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told
    store = LanceStore.open(lancedb.connect(folder), "photos", CONFIG)
    assert store.count() == 400
    assert sorted(store.ids(), key=int) == [str(i) for i in range(400)]


WRITE = """
import sys, lancedb
from jclip_connectors.lancedb import LanceStore
from tests.lancedb.parts import TILED, records
store = LanceStore.open(lancedb.connect(sys.argv[1]), "photos", TILED)
cycle = int(sys.argv[2])
for batch in range(10_000):
    first = 150 * (batch % 4)
    store.upsert(records(first, first + 150, tiles=2, metadata={"cycle": cycle, "batch": batch}))
    print(batch, flush=True)
"""


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_each_batch_whole_and_nothing_that_it_was_told_is_lost(folder):
    found: dict[int, list[tuple[int, int]]] = {}
    for cycle in range(6):
        process = start(WRITE, str(folder), str(cycle))
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(3 + cycle)]
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.communicate()[0].split()]
        store = LanceStore.open(lancedb.connect(folder), "photos", TILED)
        found.clear()
        for record in store.scroll():
            part = int(record.record_id) // 150
            found.setdefault(part, []).append((record.metadata["cycle"], record.metadata["batch"]))
        for part, writes in found.items():
            assert len(writes) == 150
            assert len(set(writes)) == 1, "half a batch"
            confirmed = [batch for batch in told if batch % 4 == part]
            if confirmed:
                assert writes[0] >= (cycle, confirmed[-1])
    verified = LanceStore.open(lancedb.connect(folder), "photos", TILED).verify()
    assert (verified.missing, verified.counted) == ((), sum(map(len, found.values())))


OPTIMISE = """
import sys, lancedb
from datetime import timedelta
from jclip_connectors.errors import StoreUnavailableError
from jclip_connectors.lancedb import LanceStore, lance_optimize
from tests.lancedb.parts import CONFIG
store = LanceStore.open(lancedb.connect(sys.argv[1]), "photos", CONFIG)
done = 0
for _ in range(25):
    try:
        lance_optimize(store, keep=timedelta(hours=1))
        done += 1
    except StoreUnavailableError:  # the others were faster three times, and nothing is lost
        pass
print(done)
"""


@pytest.mark.slow
def test_a_program_may_optimise_while_others_write_delete_and_read(folder, store):
    store.upsert(records(0, 500))
    with start(OPTIMISE, str(folder)) as optimising, start(RACE, str(folder)) as writing:
        while optimising.poll() is None:
            store.upsert(records(400, 600))
            store.delete([str(at) for at in range(550, 600)])
            assert store.count() == len(set(store.ids())) >= 550
            assert ids_of(store.search(records(400, 600)[7].embedding, limit=1)) == ["407"]
        done, told = optimising.communicate(timeout=300)
        assert optimising.returncode == 0, told
        assert int(done) > 0
        _, told = writing.communicate(timeout=300)
        assert writing.returncode == 0, told
    assert store.count() == 550


@pytest.mark.slow
def test_with_indexes_any_history_leaves_the_collection_as_it_is_in_memory(connection, monkeypatch):
    monkeypatch.setattr(operations, "CANDIDATES", 300)
    store, reference = LanceStore.open(connection, "tiled", TILED), InMemoryStore(TILED)
    rng = np.random.default_rng(5)
    for step in range(14):
        first = int(rng.integers(0, 1500))
        batch = records(first, first + 120, tiles=2 * (step % 2), metadata={"step": step, "tag": str(step % 3)})
        gone = [str(each) for each in rng.integers(0, 1500, 60)]
        for each in (store, reference):
            each.upsert(batch)
            each.delete(gone)
            if step % 5 == 4:
                each.delete(where={"step": step - 3})
        if step == 9:
            for each in (store, reference):
                each.delete(where={})
        if step % 4 == 3:
            lance_optimize(store)
        assert sorted(store.ids()) == sorted(reference.ids())
        where = {"tag": {"in": ["0", "2"]}, "step": {"gte": step - 5}}
        assert store.count(where=where) == reference.count(where=where)
        wanted = [str(each) for each in rng.integers(0, 1500, 40)]
        for mine, given in zip(store.get(wanted), reference.get(wanted), strict=True):
            assert (mine.record_id, mine.metadata) == (given.record_id, given.metadata)
            np.testing.assert_allclose(mine.embedding, given.embedding, atol=1e-6)
        for query in vectors(5, seed=step):
            found, expected = (each.search(query, where=where, tiles=True) for each in (store, reference))
            assert len(found) == len(expected)
            assert len({hit.record_id for hit in found} & {hit.record_id for hit in expected}) >= len(expected) - 1
    assert store.verify().missing == ()


def test_pages_are_in_the_order_of_the_uuids_of_the_ids_with_any_number_of_records(store, monkeypatch):
    monkeypatch.setattr(operations, "_PAGE_RECORDS", 5)
    monkeypatch.setattr(operations, "_PAGES_AT_ONCE", 3)
    for number in (0, 5, 14, 15, 16, 31):
        store.delete(where={})
        store.upsert(records(0, number))
        expected = sorted(map(str, range(number)), key=record_uuid)
        assert ids_of(store.scroll()) == expected
        assert ids_of(store.scroll(where={"a": {"exists": False}}, modality="image", vectors=False)) == expected
