"""A folder of files of vectors is read like a store, and added to."""

import dataclasses
import uuid

import numpy as np
import pyarrow.parquet as pq
import pytest

from jclip_connectors.bulk import file_records
from jclip_connectors.bulk.carried import carried_config
from jclip_connectors.bulk.copying import copy_collection
from jclip_connectors.bulk.file_records import FileRecords
from jclip_connectors.bulk.vector_files import Sidecar, VectorFolder
from jclip_connectors.errors import (
    CollectionMismatchError,
    EmbedInputError,
    StoreRequestError,
    StoreUnavailableError,
)
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import NativeFilter
from tests.bulk.copies import PLAIN, TILED, E, assert_equal_records, synthetic


def store(count=60, config=TILED, **options):
    made = InMemoryStore(config)
    made.upsert(list(synthetic(count, **options)))
    return made


@pytest.fixture(params=["path", "memory"])
def folder(request, tmp_path):
    return VectorFolder(tmp_path / "out" if request.param == "path" else f"memory://{uuid.uuid4().hex}/out")


def files(folder, config=TILED):
    return FileRecords.make(folder, config, length=E)


def test_records_go_into_files_and_come_back(folder):
    source, target = store(), files(folder)
    report = copy_collection(source, target, batch_size=16)
    assert (report.written, report.counted, report.compared) == (60, 60, 60)
    (name,) = folder.files()
    assert name.startswith("part-00000000-")
    opened = FileRecords.open(folder)
    assert opened.fingerprint == source.fingerprint
    assert_equal_records(source.scroll(), opened.scroll())
    back = InMemoryStore(carried_config(opened.fingerprint))
    copy_collection(opened, back)
    assert_equal_records(source.scroll(), back.scroll())


def test_files_have_a_bounded_size(folder, monkeypatch):
    monkeypatch.setattr(file_records, "_FILE_ROWS", 25)
    target = files(folder, PLAIN)
    copy_collection(store(60, PLAIN, tiled=False), target, batch_size=10)
    assert len(folder.files()) == 3
    monkeypatch.setattr(file_records, "_FILE_BYTES", 20 * E * 4)
    target.upsert(list(synthetic(60, tiled=False, start=100)))
    assert len(folder.files()) == 6
    assert target.count() == 120


def test_a_copy_that_was_interrupted_goes_on_and_changes_are_added_behind(folder, monkeypatch):
    monkeypatch.setattr(file_records, "_FILE_ROWS", 20)
    source = store()

    class Ending(InMemoryStore):
        def scroll(self, **options):
            yield from list(source.scroll(**options))[:48]
            raise StoreUnavailableError("gone")

        def count(self, **options):
            return source.count(**options)

    with pytest.raises(StoreUnavailableError):
        copy_collection(Ending(TILED), files(folder), batch_size=8)
    assert len(folder.files()) == 2
    report = copy_collection(source, files(folder), batch_size=8)
    assert (report.written, report.unchanged, report.counted) == (20, 40, 60)
    before = folder.files()
    assert copy_collection(source, files(folder)).unchanged == 60
    assert folder.files() == before
    changed = dataclasses.replace(source.get(["r 5"])[0], metadata={"n": 999})
    source.upsert([changed])
    report = copy_collection(source, files(folder))
    assert (report.written, report.unchanged, report.counted) == (1, 59, 60)
    assert_equal_records(source.scroll(), files(folder).scroll())
    assert files(folder).count(where={"n": 5}) == 0  # as the row that says so is not the last
    assert files(folder).count(where={"n": 999}) == 1


def test_what_waits_for_a_file_is_written_by_close(folder):
    target = files(folder)
    target.upsert(list(synthetic(5)))
    assert folder.files() == []
    target.close()
    assert len(folder.files()) == 1


def test_records_are_filtered_and_found_by_id(folder):
    target = files(folder)
    target.upsert(list(synthetic(30)))
    assert target.count(where={"n": {"lt": 7}}) == 7
    assert target.count(modality="text") == 10
    assert {record.metadata["n"] for record in target.scroll(where={"third": True}, vectors=False)} == set(
        range(0, 30, 3)
    )
    assert [record.record_id for record in target.get(["r 7", "nobody", "r 3"])] == ["r 7", "r 3"]
    assert target.get([]) == []
    with pytest.raises(EmbedInputError, match="filter of a database"):
        target.count(where=NativeFilter("x"))


def test_files_of_others_are_read_before_those_of_copies(folder):
    sidecar = Sidecar(fingerprint=PLAIN.fingerprint(), dimensions=E)
    folder.prepare(sidecar)
    old, new = (list(synthetic(4, tiled=False)) for _ in range(2))
    new = [dataclasses.replace(record, metadata={"new": True}) for record in new]
    folder.write_records("ffffffffffffffffffff.parquet", [old], sidecar, source="test")
    target = files(folder, PLAIN)
    target.upsert(new[:2])
    assert sorted(str(record.metadata.get("new")) for record in target.scroll()) == ["None", "None", "True", "True"]


def test_half_precision_has_its_own_tolerance(folder):
    folder.prepare(Sidecar(fingerprint=TILED.fingerprint(), dimensions=E, vector_type="float16"))
    source = store()
    report = copy_collection(source, files(folder))
    assert 1e-6 < report.largest_difference < 1e-3
    assert copy_collection(source, files(folder)).unchanged == 60


def test_a_folder_of_other_vectors_or_of_nothing_is_refused(folder, tmp_path):
    files(folder)
    with pytest.raises(CollectionMismatchError, match="tiling"):
        files(folder, PLAIN)
    with pytest.raises(EmbedInputError, match="`dimensions`"):
        FileRecords.make(folder, TILED, length=E + 1)
    with pytest.raises(EmbedInputError, match="no folder of vectors"):
        FileRecords.open(VectorFolder(tmp_path / "nothing"))


def test_what_a_killed_copy_has_left_is_removed_by_the_next_one(tmp_path):
    files(VectorFolder(tmp_path)).close()
    left = tmp_path / ".tmp" / "part-00000000-0a0b0c0d.parquet.1.0a0b0c0d"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"half")
    files(VectorFolder(tmp_path))
    assert not left.exists()


def test_two_copies_into_one_folder_at_once_lose_nothing(tmp_path):
    first, second = files(VectorFolder(tmp_path)), files(VectorFolder(tmp_path))
    records = list(synthetic(40))
    taken = [first._folder.files(), second._folder.files()]
    assert taken == [[], []]
    with pytest.MonkeyPatch.context() as patch:  # both look before either writes
        patch.setattr(VectorFolder, "files", lambda _: [])
        for target, part in ((first, records[:20]), (second, records[20:])):
            target.upsert(part)
            target.close()
    assert {record.record_id for record in FileRecords.open(VectorFolder(tmp_path)).scroll()} == {
        record.record_id for record in records
    }


def test_a_damaged_file_is_named(tmp_path):
    target = files(VectorFolder(tmp_path))
    target.upsert(list(synthetic(3)))
    target.close()
    (path,) = tmp_path.glob("part-*")
    path.write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(StoreRequestError, match=path.name):
        list(target.scroll())


def test_a_file_is_plain_parquet(tmp_path):
    target = files(VectorFolder(tmp_path))
    copy_collection(store(9), target)
    (path,) = tmp_path.glob("part-*")
    table = pq.read_table(path)
    vectors = np.stack(table.column("embedding").to_pylist())
    assert vectors.shape == (9, E)
    assert table.column_names[:2] == ["record_id", "key"]
