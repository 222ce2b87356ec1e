"""Reading a collection without locking it: from a copy of its files, while others read and write."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.edge import snapshot
from jclip_connectors.edge.locks import folder_lock, shard_lock
from jclip_connectors.edge.optimize import optimize_collection
from jclip_connectors.edge.store import QdrantEdgeStore
from jclip_connectors.errors import CollectionMismatchError, EmbedInputError, StoreRequestError, StoreUnavailableError
from jclip_connectors.port import Record
from tests.edge.test_store import CONFIG, E, records, run_python

QUERY = records(999, 1000)[0].embedding


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "photos.jclip"


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Where copies are made; nothing is left there."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    assert list(place.iterdir()) == []


def read(folder, config=CONFIG, **options):
    return QdrantEdgeStore.open(folder, config, read_only=True, **options)


def files_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_collection_is_read_while_it_is_open_for_writing(folder):
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        store.upsert(records(0, 40, metadata={"n": 1}))
        store.delete(["3"])
        with read(folder) as first, read(folder) as second:
            store.upsert(records(40, 50))
            for reader in (first, second):
                assert sorted(reader.ids()) == sorted(set(map(str, range(40))) - {"3"})
                assert reader.search(QUERY, limit=5, where={"n": 1}) == store.search(QUERY, limit=5, where={"n": 1})
                np.testing.assert_array_equal(reader.get(["7"])[0].embedding, store.get(["7"])[0].embedding)
        with read(folder) as reader:
            assert reader.count() == 49
        store.upsert(records(50, 60))
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        assert store.count() == 59


def test_reading_changes_no_file(folder):
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        store.upsert(records(0, 20))
        before = files_of(folder)
        with read(folder) as reader:
            assert reader.count() == 20
        assert files_of(folder) == before
    before = files_of(folder)
    with read(folder) as reader:
        assert len(reader.search(QUERY)) == 10
    assert files_of(folder) == before


def test_several_processes_read_at_once(folder):
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        store.upsert(records(0, 20))
        code = """
            with QdrantEdgeStore.open(sys.argv[1], CONFIG, read_only=True) as store:
                print(store.count(), len(store.search(records(0, 1)[0].embedding)), flush=True)
                input()
        """
        children = [run_python(code, folder) for _ in range(2)]
        assert [child.stdout.readline().split() for child in children] == [["20", "10"]] * 2
        for child in children:
            child.communicate("\n", timeout=60)


def test_what_a_killed_process_has_written_is_read(folder):
    code = """
        store = QdrantEdgeStore.open(sys.argv[1], CONFIG)
        store.upsert(records(0, 30))
        print("written", flush=True)
        input()
    """
    child = run_python(code, folder)
    assert child.stdout.readline() == "written\n"
    child.kill()
    child.communicate(timeout=60)
    with read(folder) as reader:
        assert reader.count() == 30


def test_a_reader_changes_nothing_and_says_so(folder):
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        store.upsert(records(0, 1))
    with read(folder) as reader:
        for change in (
            lambda: reader.upsert(records(1, 2)),
            lambda: reader.delete(["0"]),
            lambda: reader.delete(where={}),
        ):
            with pytest.raises(StoreRequestError, match="`read_only=True`"):
                change()
        assert reader.count() == 1
        reader.close()
        with pytest.raises(StoreRequestError, match="closed"):
            reader.count()


def test_where_there_is_nothing_to_read_nothing_is_made(folder, tmp_path):
    for place in (folder, tmp_path / "temporary"):
        with pytest.raises(StoreRequestError, match="no collection"):
            read(place)
    assert not folder.exists()


def test_a_reader_checks_the_configuration(folder):
    QdrantEdgeStore.open(folder, CONFIG).close()
    with pytest.raises(CollectionMismatchError, match="`revision`"):
        read(folder, EmbeddingConfig(model="edge", revision="2", dimensions=E))
    with pytest.raises(EmbedInputError, match="`coarse_dimensions`"):
        read(folder, coarse_dimensions=4)


def test_a_new_collection_without_records_is_read(folder):
    unsized = EmbeddingConfig(model="edge", revision="1")
    with QdrantEdgeStore.open(folder, unsized), read(folder, unsized) as reader:
        assert reader.search(QUERY) == []
        assert reader.count(where={"a": {"gt": 1}}) == 0


def test_an_index_is_linked_and_the_tiles_are_there(folder):
    config = EmbeddingConfig(model="edge", revision="1", dimensions=E, tiling=Tiling(max_tiles=4))
    boxes = np.array([[0, 0, 9, 9], [5, 0, 9, 9]])
    tiles = {"tile_embeddings": np.random.default_rng(1).normal(size=(2, E)), "tile_boxes": boxes}
    with QdrantEdgeStore.open(folder, config) as store:
        store.upsert(records(0, 200, **tiles))
    assert optimize_collection(folder).changed
    with QdrantEdgeStore.open(folder, config) as store:
        store.upsert(records(200, 210))
        expected = store.search(QUERY, limit=30, tiles=True)
        with read(folder, config) as reader:
            assert reader.search(QUERY, limit=30, tiles=True) == expected
            place = Path(tempfile.gettempdir())
            assert any(path.is_symlink() for path in place.rglob("*"))
    optimize_collection(folder)
    with read(folder, config) as reader:
        assert reader.count() == 210


def test_only_what_is_in_a_sparse_file_is_copied(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(64 * 2**20)
        for place in (0, 10 * 2**20 + 5, 64 * 2**20 - 3):
            file.seek(place)
            file.write(b"abc")
    snapshot._copy_sparse(source, target)
    assert source.read_bytes() == target.read_bytes()
    assert target.stat().st_blocks * 512 < 2**20


def test_a_copy_without_room_is_told_beforehand(folder, monkeypatch):
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        store.upsert(records(0, 10))
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(StoreUnavailableError, match="TMPDIR"):
        read(folder)


def test_a_reader_waits_for_a_change_and_a_change_for_readers(folder):
    QdrantEdgeStore.open(folder, CONFIG).close()
    code = (
        "print('ready', flush=True)\nQdrantEdgeStore.open(sys.argv[1], CONFIG, read_only=True).close()\nprint('read')"
    )
    with shard_lock(folder):
        child = run_python(code, folder)
        assert child.stdout.readline() == "ready\n"
        with pytest.raises(Exception, match="timed out"):
            child.wait(0.5)
    assert child.communicate(timeout=60)[0] == "read\n"


def test_a_refused_process_has_not_touched_the_files(folder):
    """The engine repairs the files before it asks for its lock, so it is not asked."""
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        store.upsert(records(0, 20))
        before = files_of(folder)
        with pytest.raises(StoreUnavailableError, match="open elsewhere"):
            QdrantEdgeStore.open(folder, CONFIG)
        assert files_of(folder) == before


def test_a_store_of_an_older_version_keeps_others_out(folder):
    """It has the engine's lock alone."""
    QdrantEdgeStore.open(folder, CONFIG).close()
    descriptor = os.open(folder / "shard" / "wal", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(StoreUnavailableError, match="open elsewhere"), folder_lock(folder):
            pass
    finally:
        os.close(descriptor)
    with folder_lock(folder):
        pass


# A full disk


def test_a_nearly_full_disk_is_told_before_the_engine_is_asked(folder, monkeypatch):
    usage = shutil.disk_usage(folder.parent)
    free = usage.free
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    free = 600 * 1024
    with pytest.raises(StoreUnavailableError, match="the disk is full"):
        QdrantEdgeStore.open(folder, CONFIG)
    free = usage.free
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        store.upsert(records(0, 5))
        free = 5 * 2**20
        store.upsert(records(5, 6))
        with pytest.raises(StoreUnavailableError, match="the disk is full"):
            store.upsert(records(6, 7, content="x" * 2**20))
        free = 2**20
        for change in (lambda: store.upsert(records(6, 7)), lambda: store.delete(["0"])):
            with pytest.raises(StoreUnavailableError, match="the disk is full"):
                change()
        assert store.count() == 6
        free = usage.free
        store.upsert([Record(record_id="more", modality="image", embedding=QUERY)])
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        assert store.count() == 7


# Comparisons


def test_a_comparison_makes_no_index(folder):
    with QdrantEdgeStore.open(folder, CONFIG) as store:
        store.upsert(records(0, 5, metadata={"n": 1}))
        for field in ("n", *map(str, range(50))):
            assert store.count(where={field: {"gt": 0}}) == (5 if field == "n" else 0)
    assert len(list(folder.glob("shard/segments/*/payload_index/*-map"))) == 2  # of `modality` and `terms`
    assert list(folder.rglob("*numeric*")) == []
