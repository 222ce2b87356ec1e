"""Items are read ahead in order, and no more of them wait than their weight allows."""

import threading
import time

import pytest

from core_encoder.read_ahead import read_ahead


class Reader:
    """Reads items of a weight; `most` is the largest weight that was read and not yet used."""

    def __init__(self, weight, fails=()):
        self.weight, self.fails = weight, fails
        self.read, self.used, self.most = 0, 0, 0
        self.lock = threading.Lock()

    def __call__(self, index):
        with self.lock:
            self.read += self.weight
            self.most = max(self.most, self.read - self.used)
        if index in self.fails:
            raise ValueError(index)
        return index

    def items(self, count, *, most):
        for item in read_ahead(range(count), self, weigh=lambda _: self.weight, most=most):
            time.sleep(0.002)  # the model computes; the threads have time to read too far
            with self.lock:
                self.used += self.weight
            yield item


@pytest.mark.parametrize("count", [0, 1, 5, 40])
@pytest.mark.parametrize("most", [1, 35, 10**9])
def test_every_item_comes_once_and_in_order(count, most):
    assert list(Reader(10).items(count, most=most)) == list(range(count))


def test_no_more_items_wait_than_their_weight_allows():
    light = Reader(1)
    list(light.items(60, most=5))
    assert 2 <= light.most <= 7  # five wait, one is read, one is used
    heavy = Reader(100)
    list(heavy.items(60, most=450))
    assert 200 <= heavy.most <= 600  # four wait
    huge = Reader(10**6)
    assert list(huge.items(20, most=450)) == list(range(20))
    assert huge.most <= 9 * 10**6  # before the weight of the first one is known, each thread may read one


def test_an_error_comes_when_its_item_is_due():
    items = Reader(1, fails={3}).items(10, most=8)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="3"):
        next(items)
