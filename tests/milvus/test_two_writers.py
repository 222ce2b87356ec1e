"""Two writers of one record, who replace each other's tiles; and what is told of a record that has lost its tiles."""

import numpy as np
import pytest

from jclip_connectors.errors import StoreUnavailableError
from jclip_connectors.milvus.requests import key_of
from tests.cli.test_store_urls import jclip
from tests.milvus.parts import TILED, ids_of, opened, tiled_record, vectors

pytestmark = pytest.mark.slow

ONE, OTHER = (
    [tiled_record(str(n), vectors(tiles, seed=10 * tiles + n), metadata={"tiles": tiles}) for n in range(3)]
    for tiles in (3, 2)
)


class Interrupted:
    """A client after one of whose calls another writer does something, once."""

    def __init__(self, client, method, collection, meanwhile):
        self._client = client
        self._at: tuple[str, str] | None = (method, collection)
        self._meanwhile = meanwhile

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def call(collection, **options):
            answer = method(collection, **options)
            if (name, collection) == self._at:
                self._at = None
                self._meanwhile()
            return answer

        return call


@pytest.fixture
def writers(path):
    with opened(path, TILED) as first, opened(path, TILED) as second:
        first.upsert(ONE)
        yield first, second


def interrupt(store, method, collection, meanwhile):
    store._client = Interrupted(store._client, method, collection, meanwhile)


def assert_are(store, records):
    found = {record.record_id: record for record in store.scroll()}
    assert sorted(found) == ids_of(records)
    for record in records:
        np.testing.assert_allclose(found[record.record_id].tile_embeddings, record.tile_embeddings, atol=1e-6)
        assert ids_of(store.search(record.tile_embeddings[1], limit=1, tiles=True)) == [record.record_id]


def test_tiles_of_a_former_version_that_another_writer_has_made_current_again_are_kept(writers):
    first, second = writers
    interrupt(first, "upsert", "photos", lambda: second.upsert(ONE))
    first.upsert(OTHER)
    assert_are(second, ONE)


def test_tiles_that_another_writer_has_deleted_before_their_records_were_written_are_written_again(writers):
    first, second = writers
    interrupt(first, "upsert", "photos_tiles", lambda: second.upsert(OTHER))
    first.upsert(ONE)
    assert_are(second, ONE)


@pytest.mark.parametrize(
    "what", [{"ids": ["0", "1", "2"]}, {"where": {"tiles": 3}}, {"where": {}}], ids=["ids", "where", "all"]
)
def test_records_that_are_written_while_they_are_deleted_keep_their_tiles(writers, what):
    first, second = writers
    interrupt(first, "delete", "photos", lambda: second.upsert(ONE[:2]))
    first.delete(**what)
    assert_are(second, ONE[:2])
    rows = second._client.query("photos_tiles", filter='pk != ""', output_fields=["record_id"])
    assert {row["record_id"] for row in rows} == {"0", "1"}


@pytest.mark.parametrize("what", [{"ids": ["0", "1", "2"]}, {"where": {"tiles": 3}}], ids=["ids", "where"])
def test_records_that_are_deleted_while_they_are_written_are_whole(writers, what):
    first, second = writers
    interrupt(first, "upsert", "photos_tiles", lambda: second.delete(**what))
    first.upsert(ONE)
    assert_are(second, ONE)


def test_of_records_that_are_deleted_as_soon_as_they_are_written_no_tiles_are_left(writers):
    first, second = writers
    interrupt(first, "upsert", "photos", lambda: second.delete(where={}))
    first.upsert(OTHER)
    assert second._client.query("photos_tiles", filter='pk != ""', output_fields=["record_id"]) == []


@pytest.fixture
def torn(writers):
    """A store in which a record has lost its tiles."""
    store, _ = writers
    store._client.delete("photos_tiles", filter=f'owner == "{key_of("1")}"')
    return store


@pytest.mark.parametrize("repair", [False, True])
def test_a_verification_names_a_record_that_has_lost_its_tiles_which_can_be_added_again(torn, repair):
    report = torn.verify(repair=repair)
    assert (report.counted, report.found, report.missing, report.repaired) == (3, 2, ("1",), ())
    torn.upsert(ONE[1:2])
    assert torn.verify().missing == ()


def test_reading_a_record_that_has_lost_its_tiles_says_which_to_add_again(torn):
    with pytest.raises(StoreUnavailableError, match=r"tiles of these records are missing: '1'.*add them again"):
        torn.get(["0", "1"])
    assert ids_of(torn.get(["0", "2"])) == ["0", "2"]


@pytest.mark.usefixtures("torn")
def test_on_the_command_line_check_lists_a_record_that_has_lost_its_tiles(path):
    for options, advice in (([], "--repair writes them again"), (["--repair"], "add them again")):
        told = jclip("check", "--store", f"milvus:{path}#photos", *options, code=1)[1]
        assert "3 records counted, 2 found, 1 not found\n  1\n" in told
        assert f"0 written again and found, 1 not; {advice}" in told
