"""What Pinecone takes in a request, and what is told where it does not."""

import contextlib
import json

import pytest

from jclip_connectors.errors import EmbedInputError, PartialFailureError, StoreRequestError, StoreUnavailableError
from jclip_connectors.pinecone.items import MAX_METADATA_BYTES, to_entry
from jclip_connectors.pinecone.store import PineconeStore
from jclip_connectors.port import record_uuid
from jclip_connectors.store_kit.validation import check_records
from jclip_connectors.testing.store_contract import PLAIN, E, ids_of, image, text, vector
from tests.doubles.pinecone_server import PineconeDouble
from tests.pinecone.harness import quiet, requests_for, upsert_route


def metadata_of(size):
    """Metadata with which a record has so many bytes."""
    (record,) = check_records([image("a", metadata={"a": [[""]]})], dimensions=E, tiled=False)
    fields = to_entry(record).record.fields
    empty = len(json.dumps(dict(fields), ensure_ascii=False, separators=(",", ":")).encode())
    return {"a": [["x" * (size - empty)]]}  # a list in a list is no value that a filter asks for


def test_metadata_of_41_kb_is_refused_by_name_before_any_request(server, store):
    batch = [image("good"), image("large", metadata={"a": ["x" * 41_000]})]
    with pytest.raises(EmbedInputError, match=r"record 'large' has 41\d\d\d bytes .* accepts 40960"):
        assert requests_for(server, lambda: store.upsert(batch)) == []
    assert store.count() == 0


def test_metadata_up_to_the_limit_is_taken_and_a_byte_more_is_not(store):
    store.upsert([image("a", metadata=metadata_of(MAX_METADATA_BYTES))])
    assert store.count() == 1
    with pytest.raises(EmbedInputError, match=f"{MAX_METADATA_BYTES + 1} bytes"):
        store.upsert([image("a", metadata=metadata_of(MAX_METADATA_BYTES + 1))])


def test_batches_keep_to_the_count_and_to_the_bytes_of_a_request(server, store):
    many = [image(str(i)) for i in range(2001)]
    assert requests_for(server, lambda: store.upsert(many)) == [upsert_route(store)] * 3
    large = [text(f"t{i}", content="ü" * 15_000) for i in range(100)]  # 3 MB
    assert requests_for(server, lambda: store.upsert(large)) == [upsert_route(store)] * 2
    assert store.count() == 2101


def test_a_batch_with_bad_records_is_kept_but_for_these(server, store):
    server.poison = {str(record_uuid(f"r{position}")) for position in (3, 17)}
    batch = [image(f"r{position}") for position in range(20)] + [image("r3")]
    with pytest.raises(PartialFailureError, match="3 of 21 records failed") as partial:
        store.upsert(batch)
    assert sorted(partial.value.failed) == [3, 17, 20]
    assert all(isinstance(error, StoreRequestError) for error in partial.value.failed.values())
    assert str(partial.value.failed[17]).startswith("the record 'r17' is not written: Pinecone answered 400")
    assert sorted(partial.value.kept) == [position for position in range(20) if position not in (3, 17)]
    assert sorted(ids_of(store.scroll())) == sorted({record.record_id for record in batch} - {"r3", "r17"})


def test_after_an_outage_the_rest_is_not_tried_and_all_of_it_is_told(server, store):
    headers = {"Retry-After": "0"}
    server.fail(upsert_route(store), status=503, skip=1, times=4, headers=headers)
    with pytest.raises(PartialFailureError) as partial:
        store.upsert([image(str(i)) for i in range(2500)])
    assert sorted(partial.value.failed) == list(range(1000, 2500))
    assert sorted(partial.value.kept) == list(range(1000))
    assert "the record '1000' is not written: Pinecone answered 503" in str(partial.value.failed[1000])
    untried = "the record '2400' is not written: not tried after the error: Pinecone answered 503"
    assert untried in str(partial.value.failed[2400])
    assert isinstance(partial.value.failed[2400], StoreUnavailableError)
    assert store.count() == 1000


def test_a_batch_that_is_taken_in_part_is_sent_again_in_halves(server, store):
    server.fail(upsert_route(store), taken=3)
    store.upsert([image(str(i)) for i in range(4)])
    assert store.count() == 4


def test_records_that_are_never_said_to_be_taken_have_failed(server, store):
    server.fail(upsert_route(store), taken=0, times=100)
    with pytest.raises(PartialFailureError, match="wrote 0 of 1 items"):
        store.upsert([image("a"), image("b")])


def test_nothing_is_sent_for_nothing(server, store):
    assert requests_for(server, lambda: (store.upsert([]), store.get([]), store.delete([]))) == []


def test_too_many_requests_are_waited_for_as_long_as_the_service_says(server, store, clock):
    server.fail(upsert_route(store), status=429, times=4, headers={"Retry-After": "0.01"})
    store.upsert([image("a")])
    assert clock.waited == pytest.approx([0.01, 0.99])  # never more than one request a second
    server.fail(upsert_route(store), status=429, times=1000, headers={"Retry-After": "0.01"})
    with pytest.raises(StoreUnavailableError, match="429") as busy:
        store.upsert([image("a")])
    assert busy.value.retry_after_s == 0.01
    assert 60 < sum(clock.waited) < 62


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_tried_again_by_the_sdk(server, store, status):
    server.fail(upsert_route(store), status=status, headers={"Retry-After": "0"})
    store.upsert([image("a")])
    assert ids_of(store.scroll()) == ["a"]


@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_lasting_failure_of_the_service_may_pass_later(server, store, status):
    server.fail(upsert_route(store), status=status, times=4, headers={"Retry-After": "0"})
    with pytest.raises(StoreUnavailableError, match=str(status)):
        store.upsert([image("a")])


@pytest.mark.parametrize("status", [400, 402, 404, 409, 412, 422])
def test_a_refusal_is_told_with_what_the_service_says(server, store, status):
    server.fail(upsert_route(store), status=status, message="for this reason")
    with pytest.raises((StoreRequestError, PartialFailureError), match="for this reason"):
        store.upsert([image("a")])


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_refusal_of_everything_is_not_tried_for_each_record(server, store, status):
    server.fail(upsert_route(store), status=status, times=100)
    before = len(server.requests)
    with pytest.raises(StoreRequestError):
        store.upsert([image("a"), image("b")])
    assert len(server.requests) == before + 1


@pytest.mark.usefixtures("without_backoff")
def test_a_service_that_is_down_is_unavailable():
    with quiet(PineconeDouble()) as server, server.connect() as client:
        store = PineconeStore.open(client, "photos", PLAIN)
        store.close()
    with server.connect() as client, pytest.raises(StoreUnavailableError, match="cannot be reached"):
        PineconeStore.open(client, "photos", PLAIN)


@pytest.mark.usefixtures("without_backoff")
def test_a_service_that_is_slow_is_unavailable(server):
    with server.connect(timeout=1) as client, contextlib.closing(PineconeStore.open(client, "p", PLAIN)) as store:
        server.fail("documents_search", hold_s=20, times=4)
        with pytest.raises(StoreUnavailableError, match="in time"):
            store.search(vector(1))
