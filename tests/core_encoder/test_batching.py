import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_encoder import batching
from core_encoder.batching import length_batches, picture_batches
from core_encoder.errors import ImageDecodeError

LENGTHS = st.lists(st.integers(1, 60), max_size=40)


@given(LENGTHS, st.integers(1, 100))
def test_every_text_is_in_exactly_one_batch(lengths, budget):
    batches = list(length_batches(lengths, max_tokens=budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(batches)


@given(LENGTHS, st.integers(1, 100))
def test_a_batch_keeps_the_budget_unless_one_text_alone_exceeds_it(lengths, budget):
    for batch in length_batches(lengths, max_tokens=budget):
        assert len(batch) == 1 or sum(lengths[index] for index in batch) <= budget


@given(LENGTHS, st.integers(1, 100))
def test_texts_of_like_length_are_neighbours_and_the_longest_come_first(lengths, budget):
    order = [lengths[index] for batch in length_batches(lengths, max_tokens=budget) for index in batch]
    assert order == sorted(lengths, reverse=True)


def test_no_texts_make_no_batch():
    assert list(length_batches([], max_tokens=10)) == []


class Gallery:
    """Images of many pictures; `most` is the largest number of them that were read and not yet given to the model."""

    def __init__(self, tiles, damaged=()):
        self.tiles, self.damaged = tiles, damaged
        self.read = self.given = self.most = 0
        self.lock = threading.Lock()

    def pixels(self, index):
        with self.lock:
            self.read += self.tiles
            self.most = max(self.most, self.read - self.given)
        if index in self.damaged:
            raise ImageDecodeError(f"item {index} is damaged")
        return np.full((self.tiles, 4, 4, 3), index % 256, np.uint8)

    def batches(self, count, *, size, failed=None):
        for done, batch in picture_batches(range(count), self.pixels, side=4, size=size, failed=failed):
            time.sleep(0.005)  # the model computes; the threads have time to read too far
            with self.lock:
                self.given = done * self.tiles
            yield done, batch


def test_images_of_many_tiles_are_read_ahead_by_the_number_of_their_pictures():
    for tiles in (1, 9):
        gallery = Gallery(tiles)
        batches = list(gallery.batches(90, size=45))
        assert [index for _, batch in batches for index in batch] == list(range(90))
        assert {len(batch) * tiles for _, batch in batches} == {45}
        # One batch is with the model, one waits, and each of eight threads may have one more.
        assert 45 < gallery.most <= 45 + 45 + 8 * tiles


def test_pictures_that_wait_are_bounded_in_bytes_too(monkeypatch):
    monkeypatch.setattr(batching, "_MOST_BYTES", 3 * 4 * 4 * 10)
    gallery = Gallery(1)
    list(gallery.batches(300, size=100))
    assert gallery.most <= 100 + 10 + 8


def test_damaged_images_are_no_pictures_of_a_batch():
    failed: dict[int, ImageDecodeError] = {}
    batches = list(Gallery(2, damaged=range(5, 40)).batches(50, size=6, failed=failed))
    assert sorted(failed) == list(range(5, 40))
    assert [index for _, batch in batches for index in batch] == [*range(5), *range(40, 50)]
    assert batches[-1][0] == 50
    with pytest.raises(ImageDecodeError, match="item 5"):
        list(Gallery(2, damaged=[5]).batches(50, size=6))
