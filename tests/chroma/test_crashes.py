"""Processes that are killed in the middle of a write, and several processes at once, on the real engine."""

import json
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest

from jclip_connectors.chroma import ChromaStore
from jclip_connectors.errors import PartialFailureError, StoreRequestError, StoreUnavailableError
from jclip_connectors.testing.store_contract import ids_of
from tests.chroma.parts import CONFIG, QUERY, TILED, records
from tests.doubles.chroma_stores import ChromaServer, folder_client, http_client, shared_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# Writes batches without end, each with its number in the metadata, and tells those that are written.
WRITER = """
import sys
from jclip_connectors.chroma import ChromaStore
from tests.chroma.parts import TILED, records
from tests.doubles.chroma_stores import folder_client

folder, start = sys.argv[1], int(sys.argv[2])
with folder_client(folder) as client:
    store = ChromaStore.open(client, "photos", TILED)
    for number in range(start, start + 100_000):
        first = number % 10 * 20
        store.upsert(records(first, first + 20, tiles=1 + number % 3, metadata={"batch": number}))
        print(number, flush=True)
"""

# Writes records of which other processes write the same ones.
SHARING = """
import json, sys
from jclip_connectors.chroma import ChromaStore
from tests.chroma.parts import TILED, records
from tests.doubles.chroma_stores import http_client

port, name, mine = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with http_client(port) as client:
    store = ChromaStore.open(client, name, TILED)
    for start in range(0, 300, 20):
        store.upsert(records(start, start + 20, tiles=2, metadata={"writer": mine, f"n{mine}": start}))
    print(json.dumps(store.count()))
"""


def started(script, *arguments):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 (a script of this file)


def check_whole(store, last):
    """Every batch that was told is there; each record is of one write, with its tiles; a search finds it."""
    found = list(store.scroll())
    batches: dict[int, set[int]] = {}
    for record in found:
        batches.setdefault(int(record.record_id) // 20, set()).add(record.metadata["batch"])
        assert len(record.tile_embeddings) == 1 + record.metadata["batch"] % 3
    assert len(found) == min(last + 1, 10) * 20 or len(found) == min(last + 2, 10) * 20
    for group, numbers in batches.items():
        (number,) = numbers  # a batch is written as a whole
        told = max((n for n in range(last + 1) if n % 10 == group), default=None)
        assert number == told or number == last + 1
    for record in found[::7]:
        assert ids_of(store.search(record.embedding, limit=1)) == [record.record_id]
        assert record.record_id in ids_of(store.search(record.tile_embeddings[-1], limit=3, tiles=True))


def test_a_writer_that_is_killed_leaves_whole_batches_and_loses_none_that_was_confirmed(tmp_path):
    rng = np.random.default_rng(1)
    last = -1
    for _ in range(6):
        with started(WRITER, tmp_path / "data", last + 1) as writer:
            for _ in range(int(rng.integers(3, 20))):
                last = int(writer.stdout.readline())
            time.sleep(float(rng.uniform(0, 0.05)))
            writer.kill()
            told = writer.stdout.read().split()
            last = int(told[-1]) if told else last
        with folder_client(tmp_path / "data") as client:
            check_whole(ChromaStore.open(client, "photos", TILED), last)
        # What may be written of the batch that was cut off is written again by the next writer.


def test_processes_that_write_the_same_records_to_one_server_leave_each_once(name):
    with http_client(shared_server()) as client:
        writers = [started(SHARING, shared_server(), name, mine) for mine in range(3)]
        assert [json.loads(writer.communicate(timeout=300)[0]) <= 300 for writer in writers] == [True] * 3
        store = ChromaStore.open(client, name, TILED)
        found = list(store.scroll())
        assert sorted(int(record.record_id) for record in found) == list(range(300))
        for record in found:
            mine = record.metadata["writer"]
            assert set(record.metadata) == {"writer", f"n{mine}"}
        by_writer = [store.count(where={"writer": mine}) for mine in range(3)]
        assert sum(by_writer) == 300
        # A number that another writer has left beside is not found.
        assert [store.count(where={f"n{mine}": {"gte": 0}}) for mine in range(3)] == by_writer
        store.delete(where={})
        assert client.get_collection(f"{name}.tiles", embedding_function=None).count() == 0


def test_a_server_that_is_killed_between_two_batches_is_told_and_has_the_first_when_it_is_back(tmp_path):
    (tmp_path / "data").mkdir()
    with ChromaServer(tmp_path / "data") as server, http_client(server.port) as client:
        store = ChromaStore.open(client, "photos", CONFIG, patience_s=0)
        store.upsert(records(0, 5))
        upsert, calls = client._server._upsert, []

        def killed(**options):
            calls.append(options)
            if len(calls) == 2:
                server.kill()
            return upsert(**options)

        client._server._upsert = killed
        with pytest.raises(PartialFailureError) as caught:
            store.upsert(records(0, 2500))
        assert sorted(caught.value.kept) == list(range(1000))
        assert {type(error) for error in caught.value.failed.values()} == {StoreUnavailableError}
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            store.search(QUERY)
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            ChromaStore.open(client, "photos", CONFIG)
        server.start()
        assert sorted(map(int, store.ids())) == list(range(1000))
        store.upsert(records(1000, 2500))
        assert store.count() == 2500


def test_a_store_waits_for_a_server_that_comes_back(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    with ChromaServer(tmp_path / "data") as server, http_client(server.port) as client:
        store = ChromaStore.open(client, "photos", CONFIG, patience_s=60)
        store.upsert(records(0, 5))
        server.kill()
        waiting = store.patience.failed

        def failed(*arguments, **options):
            if server._process is None:
                server.start()
            return waiting(*arguments, **options)

        monkeypatch.setattr(store.patience, "failed", failed)
        assert store.count() == 5


def test_a_closed_port_is_a_store_that_cannot_be_reached_and_a_closed_client_is_told(tmp_path):
    (tmp_path / "data").mkdir()
    with ChromaServer(tmp_path / "data") as server, http_client(server.port) as client:
        server.stop()
        with pytest.raises(StoreUnavailableError, match="Chroma cannot be reached"):
            ChromaStore.open(client, "photos", CONFIG)
        server.start()
        store = ChromaStore.open(client, "photos", CONFIG)
    with pytest.raises(StoreRequestError, match="client is closed"):
        store.count()


def test_a_server_that_does_not_answer_in_time_is_told():
    """chromadb's client waits without end unless its session is told otherwise."""
    with http_client(shared_server()) as client:
        store = ChromaStore.open(client, "slow-photos", CONFIG, patience_s=0)
        client._server._session.timeout = httpx.Timeout(1e-4)
        with pytest.raises(StoreUnavailableError, match="did not answer in time"):
            store.count()
