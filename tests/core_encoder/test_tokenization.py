"""Token ids as the reference's, packing without padding."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_encoder import CheckpointError, ConfigError, InputError
from core_encoder.tokenization import TextTokenizer, pack
from tests.checkpoints import V1_TINY, V2_TINY

FOLDERS = pytest.mark.parametrize("folder", [V1_TINY, V2_TINY], ids=["v1", "v2"])
PAD = {V1_TINY: 0, V2_TINY: 1}


def tokenizer(folder):
    return TextTokenizer.load(folder, vocab_size=1000)


@FOLDERS
def test_ids_equal_the_references_truncated_to_512(folder):
    expected = np.load(folder / "expected.npz")
    texts = json.loads((folder / "texts.json").read_text())
    rows = tokenizer(folder).encode(texts, max_tokens=512)
    for row, ids in zip(rows, expected["text_input_ids"], strict=True):
        assert row.ids == ids[ids != PAD[folder]].tolist()
    assert max(row.num_tokens for row in rows) > 512  # the truncation was put to the test


@FOLDERS
@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=40), min_size=2, max_size=4))
def test_a_text_alone_has_the_tokens_that_it_has_among_others(folder, texts):
    together = tokenizer(folder).encode(texts, max_tokens=20, prefix="a ")
    assert together == [tokenizer(folder).encode([text], max_tokens=20, prefix="a ")[0] for text in texts]


@FOLDERS
def test_truncation_keeps_both_special_tokens_and_the_true_count(folder):
    long = "the cat " * 50
    (whole,) = tokenizer(folder).encode([long], max_tokens=None)
    (cut,) = tokenizer(folder).encode([long], max_tokens=10)
    assert len(cut.ids) == 10
    assert cut.ids[:9] == whole.ids[:9]
    assert cut.ids[-1] == whole.ids[-1]
    assert cut.num_tokens == whole.num_tokens == len(whole.ids)


@FOLDERS
def test_a_prefix_counts_towards_the_limit(folder):
    with_prefix = tokenizer(folder).encode(["cat"], max_tokens=None, prefix="red ")
    assert with_prefix == tokenizer(folder).encode(["red cat"], max_tokens=None)


@FOLDERS
def test_a_max_tokens_without_room_for_text_is_refused(folder):
    with pytest.raises(ConfigError, match="`max_tokens` is 2"):
        tokenizer(folder).encode(["cat"], max_tokens=2)


@pytest.mark.parametrize(
    ("item", "message"), [(5, "found int"), (None, "NoneType"), (b"x", "bytes"), ("\ud800", "surrogate")]
)
def test_an_item_that_is_not_text_is_named_by_its_position(item, message):
    with pytest.raises(InputError, match=rf"item 12: .*{message}"):
        tokenizer(V2_TINY).encode(["fine", "fine", item], max_tokens=None, first_index=10)


def test_a_tokenizer_larger_than_the_model_is_refused():
    with pytest.raises(CheckpointError, match="token id 421"):
        TextTokenizer.load(V2_TINY, vocab_size=421)


def test_a_damaged_tokenizer_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(CheckpointError, match=r"tokenizer\.json' is not a tokenizer"):
        TextTokenizer.load(tmp_path, vocab_size=10)


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=8).filter(any), min_size=1, max_size=6))
def test_packing_takes_pad_tokens_out_and_leaves_the_others_in_place(rows):
    packed = pack(rows, pad_token_id=0)
    starts = np.cumsum([0, *packed.lengths])
    for row, start, end in zip(rows, starts, starts[1:], strict=False):
        kept = [(token, place) for place, token in enumerate(row) if token != 0]
        ids, positions = packed.input_ids[start:end].tolist(), packed.positions[start:end].tolist()
        assert list(zip(ids, positions, strict=True)) == kept
    assert len(packed.input_ids) == starts[-1]
    assert packed.input_ids.dtype == packed.positions.dtype == np.int64


def test_a_row_of_padding_alone_is_refused_by_its_position():
    with pytest.raises(InputError, match="item 1: the text has no tokens"):
        pack([[3, 1], [1, 1]], pad_token_id=1)
