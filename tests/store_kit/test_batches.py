import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jclip_connectors.errors import PartialFailureError, StoreRequestError, StoreUnavailableError
from jclip_connectors.store_kit.batches import split, write_batches
from jclip_connectors.testing.store_contract import image


@given(st.lists(st.integers(0, 3000), max_size=30), st.integers(1, 5), st.integers(1000, 5000))
def test_batches_follow_each_other_and_stay_within_their_limits(sizes, count, most_bytes):
    items = list(enumerate(sizes))
    batches = list(split(items, size_bytes=lambda item: item[1], most_items=count, most_bytes=most_bytes))
    assert [item for batch in batches for item in batch] == items
    for batch in batches:
        assert 1 <= len(batch) <= count
        assert len(batch) == 1 or sum(size for _, size in batch) <= most_bytes


@given(st.lists(st.integers(0, 3000), max_size=30), st.integers(1, 5), st.integers(1000, 5000))
def test_a_batch_ends_only_where_the_next_item_does_not_fit(sizes, count, most_bytes):
    batches = list(split(sizes, size_bytes=lambda size: size, most_items=count, most_bytes=most_bytes))
    for batch, following in itertools.pairwise(batches):
        assert len(batch) == count or sum(batch) + following[0] > most_bytes


@pytest.fixture
def done():
    """The ids of the records that are written."""
    return []


def write(errors, done):
    """Write the records "0" to "3", one a batch; `errors` has what the write of a batch raises."""
    records = [image(str(number)) for number in range(4)]

    def write_one(batch):
        name = batch[0].record_id
        if name in errors:
            raise errors[name]
        done.append(name)
        yield from ()

    list(write_batches(records, [[record] for record in records], write_one))


def test_all_batches_are_written_in_their_order(done):
    write({}, done)
    assert done == ["0", "1", "2", "3"]


def test_a_refused_batch_does_not_stop_the_following_ones(done):
    with pytest.raises(PartialFailureError) as caught:
        write({"1": StoreRequestError("too large")}, done)
    assert done == ["0", "2", "3"]
    assert list(caught.value.failed) == [1]
    assert isinstance(caught.value.failed[1], StoreRequestError)


def test_after_a_batch_that_could_not_be_sent_no_other_is_tried(done):
    with pytest.raises(PartialFailureError) as caught:
        write({"2": StoreUnavailableError("busy", retry_after_s=3.0)}, done)
    assert done == ["0", "1"]
    assert sorted(caught.value.failed) == [2, 3]
    assert [getattr(error, "retry_after_s", None) for error in caught.value.failed.values()] == [3.0, 3.0]


@pytest.mark.parametrize("error", [StoreRequestError("no"), StoreUnavailableError("busy")])
def test_where_no_batch_is_written_the_error_is_the_first_one_itself(error, done):
    with pytest.raises(type(error)) as caught:
        write(dict.fromkeys("0123", error), done)
    assert caught.value is error
