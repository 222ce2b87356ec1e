"""Items are read ahead in order, and no more of them wait than their number and their size allow."""

import threading
import time

import pytest

from core_encoder.read_ahead import read_ahead


class Reader:
    """Reads items of `size` bytes; `most` is the largest number that were read and not yet used."""

    def __init__(self, size, fails=()):
        self.size, self.fails = size, fails
        self.read, self.used, self.most = 0, 0, 0
        self.lock = threading.Lock()

    def __call__(self, index):
        with self.lock:
            self.read += 1
            self.most = max(self.most, self.read - self.used)
        if index in self.fails:
            raise ValueError(index)
        return index

    def items(self, count, *, ahead, most_bytes):
        items = read_ahead(range(count), self, ahead=ahead, size_bytes=lambda _: self.size, most_bytes=most_bytes)
        for item in items:
            time.sleep(0.002)  # the model computes; the threads have time to read too far
            with self.lock:
                self.used += 1
            yield item


@pytest.mark.parametrize("count", [0, 1, 5, 40])
@pytest.mark.parametrize("most_bytes", [1, 35, 10**9])
def test_every_item_comes_once_and_in_order(count, most_bytes):
    assert list(Reader(10).items(count, ahead=4, most_bytes=most_bytes)) == list(range(count))


def test_no_more_items_wait_than_their_number_allows():
    reader = Reader(1)
    list(reader.items(60, ahead=5, most_bytes=10**9))
    assert 2 <= reader.most <= 7


def test_no_more_items_wait_than_their_size_allows():
    reader = Reader(100)
    list(reader.items(60, ahead=50, most_bytes=450))
    assert reader.most <= 6  # four wait, one is read, one is used
    huge = Reader(10**6)
    assert list(huge.items(20, ahead=50, most_bytes=450)) == list(range(20))
    assert huge.most <= 9  # before the size of the first one is known, each thread may read one


def test_an_error_comes_when_its_item_is_due():
    items = Reader(1, fails={3}).items(10, ahead=8, most_bytes=10**6)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="3"):
        next(items)
