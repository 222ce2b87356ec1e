"""Files of vectors written to a store."""

import dataclasses
import threading

import numpy as np
import pytest

from jclip_connectors.bulk.file_records import FileRecords
from jclip_connectors.bulk.loading import load
from jclip_connectors.bulk.vector_files import Sidecar, VectorFolder, file_schema
from jclip_connectors.bulk.vector_rows import VectorRow, to_batch
from jclip_connectors.errors import CollectionMismatchError, EmbedInputError, StoreRequestError
from jclip_connectors.memory import InMemoryStore
from tests.bulk.copies import PLAIN, TILED, E, assert_equal_records, synthetic

SIDECAR = Sidecar(fingerprint=TILED.fingerprint(), dimensions=E)


def put(out, name, rows, sidecar=SIDECAR):
    folder = VectorFolder(out)
    folder.prepare(sidecar)
    rows = [row if isinstance(row, VectorRow) else VectorRow.of(row) for row in rows]
    folder.write(
        f"{name}.parquet", [to_batch(rows, file_schema(sidecar, source="a test"))], file_schema(sidecar, source="")
    )


def files_of(out, count=100, size=20):
    records = list(synthetic(count))
    for start in range(0, count, size):
        put(out, f"{start:04}", records[start : start + size])
    return records


class Opened:
    """Opens one store in memory, for all writers."""

    def __init__(self, config=TILED, store_class=InMemoryStore):
        self.store = store_class(config)

    def __call__(self, config, length):
        assert (config.fingerprint(), length) == (self.store.fingerprint, E)
        return self.store


def loaded(out, store, **options):
    return load(out, store, store_name="memory://a", **options)


def test_every_record_of_every_file_is_written_and_a_second_run_has_nothing_to_do(tmp_path):
    wanted, opened = files_of(tmp_path), Opened()
    done = loaded(tmp_path, opened, batch_size=7)
    assert (done.files, done.files_before, done.written, done.refused) == (5, 0, 100, ())
    assert_equal_records(wanted, opened.store.scroll())
    again = loaded(tmp_path, opened)
    assert (again.files, again.files_before, again.written) == (0, 5, 0)


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_of_the_rows_of_one_id_that_of_the_newest_file_is_written_whatever_the_names_are(tmp_path, names):
    old, opened = list(synthetic(12)), Opened()
    new = [dataclasses.replace(record, metadata={"new": True}) for record in old[:6]]
    put(tmp_path, names[0], old)
    put(tmp_path, names[1], new)
    done = loaded(tmp_path, opened)
    assert (done.written, done.folded) == (12, 6)
    assert_equal_records([*new, *old[6:]], opened.store.scroll())
    assert_equal_records([*new, *old[6:]], FileRecords.open(VectorFolder(tmp_path)).scroll())


def test_a_file_that_came_after_a_load_replaces_the_older_rows(tmp_path):
    old, opened = list(synthetic(12)), Opened()
    put(tmp_path, "z", old)
    loaded(tmp_path, opened)
    new = [dataclasses.replace(record, metadata={"new": True}) for record in old[:6]]
    put(tmp_path, "a", new)
    assert loaded(tmp_path, opened).written == 6
    assert_equal_records([*new, *old[6:]], opened.store.scroll())


def test_another_collection_under_the_name_of_a_loaded_one_is_loaded(tmp_path, caplog):
    wanted, opened = files_of(tmp_path), Opened()
    loaded(tmp_path, opened)
    opened.store.delete(where={})
    opened.store.upsert([dataclasses.replace(wanted[0], record_id="something else")])
    assert loaded(tmp_path, opened).written == 100
    assert "written again" in caplog.text


class Picky(InMemoryStore):
    """A store that refuses every request with one of some records, and does not say which."""

    refuses: frozenset[str] = frozenset()

    def upsert(self, records):
        if self.refuses & {record.record_id for record in records}:
            raise StoreRequestError("a record is refused")
        super().upsert(records)


def test_many_refused_records_in_a_row_do_not_keep_the_others_out(tmp_path):
    records, opened = files_of(tmp_path), Opened(store_class=Picky)
    opened.store.refuses = frozenset(record.record_id for record in records[22:78])
    done = loaded(tmp_path, opened, writers=1)
    assert (done.files, done.written, len(done.refused)) == (5, 44, 56)
    assert_equal_records([*records[:22], *records[78:]], opened.store.scroll())


def test_records_that_the_user_has_deleted_stay_deleted(tmp_path):
    files_of(tmp_path)
    opened = Opened()
    loaded(tmp_path, opened)
    opened.store.delete([record.record_id for record in synthetic(50)])
    assert loaded(tmp_path, opened).written == 0


def test_another_store_has_marks_of_its_own(tmp_path):
    files_of(tmp_path)
    loaded(tmp_path, Opened())
    assert load(tmp_path, Opened(), store_name="memory://b").written == 100


def test_a_store_that_was_emptied_since_is_loaded_again(tmp_path):
    files_of(tmp_path)
    loaded(tmp_path, Opened())
    assert loaded(tmp_path, Opened()).written == 100


def test_rows_that_could_not_be_embedded_are_left_out_and_counted(tmp_path):
    records = list(synthetic(5))
    put(tmp_path, "a", [VectorRow(key="bad.png", error="truncated"), *records, VectorRow(key="b", error="empty")])
    opened = Opened()
    done = loaded(tmp_path, opened)
    assert (done.written, done.skipped) == (5, 2)
    assert_equal_records(records, opened.store.scroll())


def test_of_rows_with_one_id_the_last_one_is_written_whatever_the_order_of_the_writers(tmp_path):
    records = list(synthetic(40))
    later = [type(record)(**{**vars(record), "uri": f"later {record.record_id}"}) for record in records[5:15]]
    put(tmp_path, "b", records)
    put(tmp_path, "c", [*later, *later[::-1]])  # two rows of one id in one file, too
    put(tmp_path, "a", later)
    opened = Opened()
    done = loaded(tmp_path, opened, writers=3, batch_size=3)
    assert (done.written, done.folded) == (40, 30)
    assert_equal_records([*records[:5], *later, *records[15:]], opened.store.scroll())


def test_a_file_that_was_written_again_is_loaded_again(tmp_path):
    files_of(tmp_path)
    opened = Opened()
    loaded(tmp_path, opened)
    put(tmp_path, "0020", list(synthetic(3, start=500)))
    done = loaded(tmp_path, opened)
    assert (done.files, done.files_before, done.written) == (1, 4, 3)


class Choosy(InMemoryStore):
    """Refuses a batch with certain records as a whole, as databases do."""

    bad = frozenset({"r 3", "r 4", "r 77"})

    def upsert(self, records):
        if found := [record.record_id for record in records if record.record_id in self.bad]:
            raise StoreRequestError(f"no {found[0]}")
        super().upsert(records)


def test_what_the_store_refuses_for_good_is_reported_and_keeps_nothing_else_out(tmp_path):
    wanted, opened = files_of(tmp_path), Opened(store_class=Choosy)
    done = loaded(tmp_path, opened)
    assert [(each["file"], each["id"], each["error"]) for each in done.refused] == [
        ("0000.parquet", "r 3", "no r 3"),
        ("0000.parquet", "r 4", "no r 4"),
        ("0060.parquet", "r 77", "no r 77"),
    ]
    assert_equal_records([record for record in wanted if record.record_id not in Choosy.bad], opened.store.scroll())
    again = loaded(tmp_path, opened)
    assert (again.files, again.refused) == (0, done.refused)  # they are told again, and not tried
    opened.store.bad = frozenset()
    redone = loaded(tmp_path, opened, redo_refused=True)
    assert (redone.files, redone.written, redone.refused) == (2, 40, ())
    assert_equal_records(wanted, opened.store.scroll())
    assert loaded(tmp_path, opened).refused == ()


class Locked(InMemoryStore):
    def upsert(self, _):
        raise StoreRequestError("the key is wrong")


def test_a_store_that_refuses_everything_ends_the_load(tmp_path):
    files_of(tmp_path, size=100)
    with pytest.raises(StoreRequestError, match="the key is wrong"):
        loaded(tmp_path, Opened(store_class=Locked))
    assert loaded(tmp_path, Opened()).files == 1


def test_a_limit_ends_the_run_and_the_next_one_goes_on(tmp_path):
    wanted, opened = files_of(tmp_path), Opened()
    assert loaded(tmp_path, opened, limit=50, writers=1).written == 50
    assert loaded(tmp_path, opened).written == 60  # the third file had been half written
    assert_equal_records(wanted, opened.store.scroll())


def test_each_writer_has_a_store_and_there_are_no_more_than_files(tmp_path):
    files_of(tmp_path)
    opened = []

    def open_store(config, _):
        opened.append(threading.current_thread())
        return InMemoryStore(config)

    loaded(tmp_path, open_store, writers=3)
    assert opened == [threading.main_thread()] * 3
    opened.clear()
    load(tmp_path, open_store, store_name="b", writers=20)
    assert len(opened) == 5


def test_vectors_of_another_configuration_are_refused(tmp_path):
    files_of(tmp_path)

    def open_store(config, _):
        raise CollectionMismatchError(PLAIN.fingerprint(), config.fingerprint(), collection="it")

    with pytest.raises(CollectionMismatchError):
        loaded(tmp_path, open_store)


@pytest.mark.parametrize(("name", "value"), [("writers", 0), ("batch_size", True), ("limit", 0)])
def test_a_bad_option_is_named(tmp_path, name, value):
    with pytest.raises(EmbedInputError, match=f"`{name}` is"):
        loaded(tmp_path, Opened(), **{name: value})


def test_a_folder_without_vectors_is_named(tmp_path):
    with pytest.raises(EmbedInputError, match="no folder of vectors"):
        loaded(tmp_path / "nothing", Opened())


def test_no_key_is_in_the_name_of_the_marks(tmp_path):
    files_of(tmp_path)
    opened = Opened()
    load(tmp_path, opened, store_name="qdrant://user:key123456@host/photos?timeout=3")
    assert load(tmp_path, opened, store_name="qdrant://host/photos/").files_before == 5
    assert not [path for path in tmp_path.rglob("*") if "key123456" in str(path)]


def test_vectors_of_16_bits_are_loaded_at_unit_length(tmp_path):
    sidecar = Sidecar(fingerprint=TILED.fingerprint(), dimensions=E, vector_type="float16")
    records = list(synthetic(9))
    put(tmp_path, "a", records, sidecar)
    opened = Opened()
    loaded(tmp_path, opened)
    assert_equal_records(records, opened.store.scroll(), tolerance=1e-3)
    assert all(abs(np.linalg.norm(record.embedding) - 1) < 1e-6 for record in opened.store.scroll())
