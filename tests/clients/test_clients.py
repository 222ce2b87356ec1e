"""Clients of others, as the index serves them, get the encoder's own vectors from our server."""

import base64

import numpy as np
import pytest

from core_encoder.matryoshka import encode_binary, encode_ubinary
from tests.clients.conftest import MODEL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first builds the environment

TEXTS, IMAGES, QUERY, SHORTENED = "texts", "images", "query", "shortened"
VECTORS = {
    "use_openai": {
        "texts": TEXTS, "texts_async": TEXTS, "floats": TEXTS, "images": IMAGES, "shortened": SHORTENED,
    },
    "use_langchain_openai": {"texts": TEXTS, "texts_async": TEXTS, "images": IMAGES, "shortened": SHORTENED},
    "use_langchain_jina": {"texts": TEXTS, "texts_async": TEXTS, "images": IMAGES},
    "use_llamaindex": {
        "texts": TEXTS, "texts_async": TEXTS, "images": IMAGES, "images_async": IMAGES, "query": QUERY,
        "query_async": QUERY, "shortened": SHORTENED,
    },
    "use_haystack": {
        "texts": TEXTS, "texts_async": TEXTS, "images": IMAGES, "images_async": IMAGES, "query": QUERY,
        "query_async": QUERY, "shortened": SHORTENED,
    },
    "use_lancedb": {"texts": TEXTS, "images": IMAGES},
    "use_cohere": {
        "texts": TEXTS, "texts_async": TEXTS, "without_types": TEXTS, "images": IMAGES, "query": QUERY,
        "shortened": SHORTENED,
    },
    "use_huggingface": {"texts": TEXTS, "texts_async": TEXTS},
}  # fmt: skip


@pytest.fixture
def returned(run_client):
    def of(script, function):
        outcome = run_client(script)[function]
        if "raised" in outcome:
            pytest.fail(f"{function} of {script}:\n{outcome['raised']}", pytrace=False)
        return outcome["returned"]

    return of


def same(vectors, expected):
    vectors = np.asarray(vectors)
    return vectors.shape == expected.shape and np.abs(vectors - expected).max() <= 1e-6


@pytest.mark.parametrize(
    ("script", "function", "name"),
    [(script, function, name) for script, functions in VECTORS.items() for function, name in functions.items()],
)
def test_a_client_gets_the_encoders_own_vectors_in_order(returned, expected, script, function, name):
    assert same(returned(script, function), getattr(expected, name))


@pytest.mark.parametrize("script", ["use_openai", "use_huggingface"])
def test_a_text_alone_gets_one_row(returned, expected, script):
    assert same(returned(script, "one_text"), expected.texts[:1])


@pytest.mark.parametrize("script", ["use_langchain_openai", "use_langchain_jina", "use_lancedb"])
def test_clients_that_name_no_task_get_the_vector_of_a_document(returned, expected, script):
    assert same(returned(script, "query"), expected.texts[0])


@pytest.mark.parametrize(("script", "function"), [("use_llamaindex", "one_image"), ("use_lancedb", "image_query")])
def test_an_image_alone_gets_its_vector(returned, expected, script, function):
    assert same(returned(script, function), expected.images[0])


@pytest.mark.parametrize("script", ["use_openai", "use_lancedb"])
def test_texts_and_images_in_one_list_keep_their_order(returned, expected, script):
    rows = [expected.images[0], expected.texts[0], expected.images[1]]
    assert same(returned(script, "mixed"), np.stack(rows))


def test_openai_asks_for_base64_and_gets_it(returned, given):
    assert returned("use_openai", "encoding_on_the_wire") == ["str"] * len(given["texts"])


@pytest.mark.parametrize("script", ["use_openai", "use_haystack"])
def test_a_client_is_told_the_model_and_the_tokens(returned, expected, script):
    tokens = sum(expected.tokens) if script == "use_openai" else expected.tokens[0]
    assert returned(script, "usage") == {"model": MODEL, "prompt": tokens, "total": tokens}


def test_openai_finds_the_model_in_the_list_and_by_its_other_name(returned):
    assert returned("use_openai", "models") == [MODEL, MODEL]


@pytest.mark.parametrize(
    ("function", "kind", "code", "param", "words"),
    [
        ("bad_model", "BadRequestError", "INPUT_MODEL_NOT_FOUND", "model", "a model that is not served here"),
        ("bad_item", "BadRequestError", "INPUT_INVALID", "input.1", "item 1 is empty, or only zeros, not an image"),
        ("bad_dimensions", "UnprocessableEntityError", "INPUT_INVALID", "dimensions", "`dimensions` is more than 64"),
        ("bad_key", "AuthenticationError", "AUTH_INVALID_API_KEY", None, "the API key is not one of"),
        ("token_ids", "BadRequestError", "INPUT_INVALID", "input", "send the text"),
    ],
)
def test_openai_shows_what_was_wrong(returned, function, kind, code, param, words):
    error = returned("use_openai", function)
    assert error["kind"] == kind
    assert words in error["message"]
    assert (error["code"], error["param"]) == (code, param)
    assert words in error["body"]["message"]
    assert error["type"]
    assert error["request_id"]
    assert "served-key" not in str(error)


def test_langchain_shows_how_to_send_texts_instead_of_token_ids(returned):
    assert "check_embedding_ctx_length=False" in returned("use_langchain_openai", "token_ids")


def test_langchain_shows_that_image_urls_are_not_fetched(returned):
    assert returned("use_langchain_jina", "image_url").startswith("item 1 is the URL of an image")


@pytest.mark.parametrize("script", ["use_llamaindex", "use_haystack", "use_lancedb"])
def test_clients_of_the_hosted_api_show_what_was_wrong(returned, script):
    assert "`model` is a model that is not served here" in returned(script, "bad_model")


def test_llamaindex_says_the_status_where_it_is_asynchronous(returned):
    assert returned("use_llamaindex", "bad_model_async") == 400


def test_haystack_shows_which_image_is_damaged(returned):
    assert "item 2" in returned("use_haystack", "bad_item")


@pytest.mark.parametrize("function", ["bits", "signed_bits"])
def test_llamaindex_unpacks_the_signs(returned, expected, function):
    assert np.array_equal(returned("use_llamaindex", function), expected.texts > 0)


def test_lancedb_finds_a_text_in_a_table_by_itself(returned, given, expected):
    found = returned("use_lancedb", "table")
    assert found["text"] == given["texts"][1]
    assert same(found["vector"], expected.texts[1])


def test_cohere_embeds_inputs_of_both_kinds_in_order(returned, expected):
    assert same(returned("use_cohere", "mixed"), np.stack([expected.images[0], expected.texts[0]]))


def test_cohere_gets_every_encoding_that_it_asks_for(returned, expected):
    embeddings = returned("use_cohere", "encoded")
    assert same(embeddings["float"], expected.texts)
    assert np.array_equal(embeddings["binary"], encode_binary(expected.texts))
    assert np.array_equal(embeddings["ubinary"], encode_ubinary(expected.texts))
    assert same([np.frombuffer(base64.b64decode(row), "<f4") for row in embeddings["base64"]], expected.texts)


def test_cohere_is_told_its_texts_and_tokens(returned, given, expected):
    answer = returned("use_cohere", "answer")
    assert answer["id"]
    assert (answer["texts"], answer["tokens"]) == (given["texts"], sum(expected.tokens))


@pytest.mark.parametrize(
    ("function", "kind", "words"),
    [
        ("bad_model", "BadRequestError", "`model` is a model that is not served here"),
        ("bad_item", "BadRequestError", "item 1"),
        ("bad_key", "UnauthorizedError", "the API key is not one of"),
    ],
)
def test_cohere_shows_what_was_wrong(returned, function, kind, words):
    error = returned("use_cohere", function)
    assert error["kind"] == kind
    assert words in error["body"]["message"]


def test_huggingface_may_ask_for_a_query_shortened_and_not_normalised(returned, encoder, given):
    raw = encoder.encode_text(given["texts"], task="retrieval.query", truncate_dim=32, normalize=False)
    vectors = np.asarray(returned("use_huggingface", "every_option"))
    assert vectors.shape == raw.shape
    assert np.abs(vectors - raw).max() <= 1e-6 * np.abs(raw).max()


@pytest.mark.parametrize(
    ("function", "status", "words"),
    [
        ("bad_text", 400, "tokens"),
        ("bad_prompt", 422, "prompt_name"),
        ("bad_key", 401, "the API key is not one of"),
    ],
)
def test_huggingface_shows_what_was_wrong(returned, function, status, words):
    error = returned("use_huggingface", function)
    assert error["status"] == status
    assert words in error["body"]["error"]
    assert words in error["message"]
    assert error["body"]["error_type"]
