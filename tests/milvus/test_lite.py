"""Milvus Lite: its folder, its lock, its server, and what it loses."""

import asyncio
import logging
import os
import signal
import threading
from pathlib import Path

import pytest
from pymilvus import AsyncMilvusClient, MilvusClient

from jclip_connectors.errors import EmbedInputError, StoreRequestError, StoreUnavailableError
from jclip_connectors.milvus import AsyncMilvusStore, MilvusStore, stored_fingerprint
from tests.milvus.parts import CONFIG, QUERY, TILED, attempt, ids_of, opened, records, run_python, tiled_record, vectors

pytestmark = pytest.mark.slow


def attempt_elsewhere(path):
    """What another process says that tries to open the collection."""
    out, _ = run_python("print(attempt(sys.argv[1]))", path).communicate(timeout=60)
    return out.strip()


def test_what_was_written_is_searched_after_opening_again(path):
    with opened(path, TILED) as store:
        store.upsert([tiled_record("a", vectors(3, seed=7)), *records(0, 3)])
    with opened(path, TILED) as store:
        assert store.count() == 4
        assert ids_of(store.search(vectors(3, seed=7)[2], limit=1, tiles=True)) == ["a"]
        assert len(store.search(QUERY)) == 4


def test_a_second_process_is_told_that_the_database_is_open_elsewhere(path):
    with opened(path) as store:
        said = attempt_elsewhere(path)
        assert said.startswith("StoreUnavailableError: the Milvus Lite database ")
        assert "is open in another process" in said
        store.upsert(records(0, 1))


def test_after_close_another_process_opens_the_database(path):
    with opened(path) as store:
        store.upsert(records(0, 3))
    assert attempt_elsewhere(path) == "opened"


def test_a_database_that_another_process_has_open_is_refused_quietly_and_opens_once_that_has_ended(path, caplog):
    child = run_python("print(attempt(sys.argv[1]), flush=True)\ninput()", path)
    assert child.stdout.readline() == "opened\n"
    with pytest.raises(StoreUnavailableError, match="is open in another process"):
        MilvusStore.open(path, "photos", CONFIG)
    with pytest.raises(StoreUnavailableError, match="is open in another process"):
        asyncio.run(AsyncMilvusStore.open(path, "photos", CONFIG))
    child.communicate("\n", timeout=60)
    with opened(path) as store:
        assert store.count() == 0
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_an_idle_client_does_not_ask_for_its_server_which_would_hang_up(store):
    assert store._client._handler._grpc_options["grpc.keepalive_time_ms"] > 10**9


def test_the_last_of_the_stores_of_a_path_lets_it_go(path, tmp_path):
    (tmp_path / "link.db").symlink_to(path)
    first = MilvusStore.open(path, "photos", CONFIG)
    second = MilvusStore.open(str(tmp_path / "link.db"), "others", CONFIG)
    first.close()
    first.close()
    with pytest.raises(StoreRequestError, match="closed"):
        first.count()
    second.upsert(records(0, 2))
    assert attempt_elsewhere(path).startswith("StoreUnavailableError")
    second.close()
    assert attempt_elsewhere(path) == "opened"


def test_an_asyncio_store_lets_its_path_go(path):
    async def main():
        store = await AsyncMilvusStore.open(path, "photos", CONFIG)
        await store.upsert(records(0, 2))
        assert (await asyncio.to_thread(attempt_elsewhere, path)).startswith("StoreUnavailableError")
        await store.close()
        await store.close()
        with pytest.raises(StoreRequestError, match="closed"):
            await store.count()

    asyncio.run(main())
    assert attempt_elsewhere(path) == "opened"


def test_a_refused_opening_lets_the_path_go(path):
    with opened(path):
        pass
    with pytest.raises(EmbedInputError, match="`dimensions`"):
        MilvusStore.open(path, "others", TILED, dimensions=3)
    with pytest.raises(EmbedInputError, match="`index` is 'HNSW', but the collection 'photos' was made with 'FLAT'"):
        MilvusStore.open(path, "photos", CONFIG, index="HNSW")
    assert attempt_elsewhere(path) == "opened"


def test_a_client_of_the_callers_keeps_its_database(path):
    client = MilvusClient(str(path))
    with opened(path) as store:
        store.upsert(records(0, 1))
    assert client.has_collection("photos")
    with opened(client) as store:  # closing it closes nothing of the caller's
        assert store.count() == 1
    assert client.query("photos", filter='pk != ""', output_fields=["record_id"])[0]["record_id"] == "0"

    async def read():
        other = AsyncMilvusClient(str(path))
        store = await AsyncMilvusStore.open(other, "photos", CONFIG)
        assert await store.count() == 1
        await store.close()
        assert await other.has_collection("photos")
        await other.close()

    asyncio.run(read())
    client.close()


def test_threads_share_a_path(path):
    ended = []

    def work(number):
        with opened(path) as store:
            store.upsert(records(100 * number, 100 * number + 50))
            ended.append(number)

    with opened(path) as store:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(ended) == [0, 1, 2, 3]
        assert store.count() == 200
        assert len(set(store.ids())) == 200


@pytest.mark.parametrize("tiled", [False, True])
def test_what_upsert_returned_from_survives_a_killed_process_and_the_batch_on_its_way_is_whole_or_absent(path, tiled):
    code = """
        config = TILED if sys.argv[2] == "True" else CONFIG
        store = MilvusStore.open(sys.argv[1], "photos", config)
        for start in range(0, 10**9, 50):
            given = records(start, start + 50, metadata={"n": start})
            if config is TILED:
                given = [tiled_record(each.record_id, vectors(3, seed=start), metadata=each.metadata) for each in given]
            store.upsert(given)
            print(start + 50, flush=True)
    """
    child = run_python(code, path, tiled)
    for line in child.stdout:
        if int(line) >= 400:
            break
    child.send_signal(signal.SIGKILL)
    acknowledged = int((child.communicate(timeout=60)[0].split() or [line])[-1])
    with opened(path, TILED if tiled else CONFIG) as store:
        found = list(store.scroll())  # with tiles, that are all there
        assert len(found) == len({record.record_id for record in found}) == store.count()
        assert store.count() in (acknowledged, acknowledged + 50)
        assert store.get([str(acknowledged - 1)])[0].metadata == {"n": acknowledged - 50}
        if tiled:
            assert {len(record.tile_embeddings) for record in found} == {3}
            assert len({hit.record_id for hit in store.search(QUERY, limit=1000, tiles=True)}) == len(found)
        store.upsert(records(0, 1))


def test_what_threads_have_written_at_once_survives_a_killed_process(path):
    code = """
        import threading, time
        store, start = MilvusStore.open(sys.argv[1], "photos", CONFIG), threading.Barrier(6)

        def work(first):
            start.wait()
            for n in range(first, first + 90, 30):
                store.upsert(records(n, n + 30))
                sys.stdout.write(f"{n}\\n")
                sys.stdout.flush()

        threads = [threading.Thread(target=work, args=(1000 * at,)) for at in range(6)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        print("written", flush=True)
        time.sleep(60)
    """
    child = run_python(code, path)
    acknowledged = [int(line) for line in iter(child.stdout.readline, "written\n")]
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=60)
    assert len(acknowledged) == 18
    with opened(path) as store:
        assert set(store.ids()) == {str(n + at) for n in acknowledged for at in range(30)}


def test_a_process_that_is_killed_while_it_replaces_tiles_leaves_each_record_as_it_was_or_as_it_is(path):
    code = """
        with opened(sys.argv[1], TILED) as store:
            store.upsert([tiled_record(str(n), vectors(4, seed=n), metadata={"v": -1}) for n in range(60)])
        store = MilvusStore.open(sys.argv[1], "photos", TILED)
        for version in range(10**9):
            store.upsert([tiled_record(str(n), vectors(4, seed=1000 * version + n), metadata={"v": version})
                          for n in range(60)])
            print(version, flush=True)
    """
    child = run_python(code, path)
    for line in child.stdout:
        if int(line) >= 2:
            break
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=60)
    with opened(path, TILED) as store:
        found = list(store.scroll())
        assert sorted(map(int, ids_of(found))) == list(range(60))
        assert len({record.metadata["v"] for record in found}) == 1  # the batch is whole
        version = found[0].metadata["v"]
        for record in found:
            given = vectors(4, seed=1000 * version + int(record.record_id))
            assert abs(record.tile_embeddings - given).max() < 1e-6
        hits = store.search(QUERY, limit=100, tiles=True)
        assert sorted(map(int, ids_of(hits))) == list(range(60))
        best = {record.record_id: float((record.tile_embeddings @ QUERY).max()) for record in found}
        assert all(abs(hit.score - best[hit.record_id]) < 1e-5 for hit in hits)


def test_a_collection_is_in_memory_once_it_is_open(path):
    with opened(path, TILED):
        pass
    with opened(path, TILED) as store:
        for name in ("photos", "photos_tiles"):
            assert store._client.get_load_state(name)["state"].name == "Loaded"


def test_a_collection_whose_maker_was_killed_before_the_index_opens(path, monkeypatch):
    def crash(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(MilvusClient, "create_index", crash)
    with pytest.raises(KeyboardInterrupt):
        MilvusStore.open(path, "photos", TILED)
    monkeypatch.undo()
    with opened(path, TILED) as store:
        store.upsert([tiled_record("a", vectors(3))])
        assert ids_of(store.search(QUERY, tiles=True)) == ids_of(store.search(QUERY)) == ["a"]


def test_the_files_of_a_damaged_database_are_told(path):
    with opened(path) as store:
        store.upsert(records(0, 3))
    for file in path.rglob("*.json*"):
        file.write_text("{")
    with pytest.raises(StoreRequestError):
        MilvusStore.open(path, "photos", CONFIG)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("photos", "not of a Milvus Lite database, which ends in '.db': pass `MilvusClient"),
        ("nowhere/photos.db", "there is no folder"),
        ("file.db", "which is a file"),
        ("http://user:secret@host:19530", "is a string, but not of a Milvus Lite database"),
        ("http://user:secret@host/a.db", "is a string, but not of a Milvus Lite database"),
        (b"photos.db", "is a path, but not of a Milvus Lite database"),
    ],
)
def test_what_is_no_path_of_a_database_is_refused_and_nothing_is_made(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    Path("file.db").touch()
    given = os.fsdecode(name) if isinstance(name, str) else _Bytes(name)
    with pytest.raises(EmbedInputError, match=message) as caught:
        MilvusStore.open(given, "photos", CONFIG)
    assert "secret" not in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["file.db"]


class _Bytes:
    def __init__(self, path):
        self._path = path

    def __fspath__(self):
        return self._path


def test_reading_the_fingerprint_of_a_database_that_is_not_there_makes_none(path):
    assert stored_fingerprint(path, "photos") is None
    assert not path.exists()
    with opened(path):
        pass
    assert stored_fingerprint(path, "photos") == CONFIG.fingerprint()
    assert stored_fingerprint(str(path), "others") is None
    assert attempt(path) == "opened"
