"""`encode_text` and `encode_image` are called as the published class is called: by position, by name, for any form."""

import importlib

import numpy as np
import pytest
import torch
from PIL import Image

from core_encoder import ConfigError, TextTooLongError
from tests.checkpoints import V2_TINY
from tests.late import late

transformers = late("transformers")

TEXTS = ["a red cat", "a blue house by the sea", "红色的猫"]
IMAGES = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue", "green")]


@pytest.fixture(scope="module")
def model():
    importlib.import_module("jclip_connectors.huggingface")
    return transformers().AutoModel.from_pretrained(V2_TINY)


def encoders(model):
    return [(model.encode_text, TEXTS), (model.encode_image, IMAGES)]


def test_the_benchmarks_call_gives_one_tensor(model):
    for encode, items in encoders(model):
        tensor = encode(items, convert_to_numpy=False, convert_to_tensor=True, show_progress_bar=False, batch_size=8)
        assert isinstance(tensor, torch.Tensor)
        assert tensor.dtype == torch.float32
        np.testing.assert_array_equal(tensor.numpy(), encode(items))


def test_neither_array_nor_tensor_gives_a_list_of_tensors_and_a_tensor_has_precedence(model):
    for encode, items in encoders(model):
        rows = encode(items)
        listed = encode(items, convert_to_numpy=False)
        assert [type(row) for row in listed] == [torch.Tensor] * 3
        np.testing.assert_array_equal(torch.stack(listed).numpy(), rows)
        assert isinstance(encode(items, convert_to_numpy=True, convert_to_tensor=True), torch.Tensor)
        single = encode(items[0], convert_to_numpy=False)
        assert isinstance(single, torch.Tensor)
        assert single.shape == (64,)


def test_the_arguments_have_the_published_order(model):
    text = model.encode_text(TEXTS, "retrieval.query", 2, False, True, False, "cpu", False, 16)
    expected = model.encode_text(TEXTS, task="retrieval.query", normalize_embeddings=False, truncate_dim=16)
    np.testing.assert_array_equal(text, expected)
    image = model.encode_image(IMAGES, 2, False, True, False, "cpu", False, 16)
    np.testing.assert_array_equal(image, model.encode_image(IMAGES, normalize_embeddings=False, truncate_dim=16))


def test_a_progress_bar_counts_all_items_when_it_is_wanted(model, capsys):
    for encode, items in encoders(model):
        encode(items)
        assert capsys.readouterr().err == ""
        encode(items, show_progress_bar=True)
        assert "3/3" in capsys.readouterr().err


def test_a_device_moves_the_model_and_an_unknown_one_is_refused(model):
    assert model.encode_text(TEXTS, device=torch.device("cpu")).shape == (3, 64)
    for encode, items in encoders(model):
        with pytest.raises(ConfigError, match="`device` is 'nowhere'"):
            encode(items, device="nowhere")


@pytest.mark.parametrize(
    "given",
    [{"padding": True}, {"padding": "longest"}, {"truncation": True}, {"return_tensors": "pt"}, {"max_length": 512}],
)
def test_an_argument_of_the_tokenizer_that_changes_no_vector_is_taken(model, given):
    np.testing.assert_array_equal(model.encode_text(TEXTS, **given), model.encode_text(TEXTS))


def test_without_truncation_a_longer_text_is_refused(model):
    with pytest.raises(TextTooLongError, match="item 1"):
        model.encode_text(["short", "a long text " * 20], truncation=False, max_length=16)
    assert model.encode_text(["short"], truncation=False, max_length=16).shape == (1, 64)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"is_query": True}, "`is_query` is not supported here: write `task='retrieval.query'`"),
        ({"normalize": False}, "`normalize` is not supported here: its name is `normalize_embeddings`"),
        ({"add_special_tokens": False}, "`add_special_tokens` is not supported"),
        ({"return_tensors": "tf"}, "`return_tensors` is not supported"),
        ({"truncation": "only_second"}, "`truncation` is 'only_second'"),
        ({"anything": None}, "`anything` is not supported here: leave it out"),
        ({"batch_size": 0}, "`batch_size` is 0"),
    ],
)
def test_an_argument_that_is_not_supported_is_refused_by_name(model, given, message):
    with pytest.raises(ConfigError) as refused:
        model.encode_text(TEXTS, **given)
    assert message in str(refused.value)
