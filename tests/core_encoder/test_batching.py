from hypothesis import given
from hypothesis import strategies as st

from core_encoder.batching import length_batches

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
