"""What Weaviate sends, byte for byte, gets answers that it can read."""

import base64
import http.client
import json
import socket

import numpy as np
import pytest

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.serve import load_served_model
from tests.checkpoints import V2_TINY
from tests.clients.weaviate_requests import (
    CLIP_META,
    CLIP_OBJECT,
    CLIP_OLDER_IMAGE,
    CLIP_QUERY,
    CLIP_READY,
    IMAGE,
    JINA_OBJECT,
    JINA_OLDER_IMAGE,
    JINA_QUERY,
    TEXTS,
)
from tests.server.harness import Server


@pytest.fixture(scope="module")
def open_server():
    """multi2vec-clip knows of no keys."""
    config = EmbeddingConfig(model=str(V2_TINY))
    with Server(load_served_model(config, device="cpu"), config=config) as running:
        yield running


@pytest.fixture(scope="module")
def expected(encoder):
    images = encoder.encode_image([base64.b64decode(IMAGE)])
    return {"texts": encoder.encode_text(TEXTS), "images": images}


def exchange(server, request):
    """Send bytes, and give the status and the JSON object of the answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        content = answer.read()
        assert answer.getheader("Content-Encoding") is None
    assert answer.status == 204 or answer.getheader("Content-Type") == "application/json"
    return answer.status, json.loads(content) if content else None


def same(rows, expected):
    rows = np.asarray(rows, np.float32)  # as Weaviate reads them
    return rows.shape == expected.shape and np.abs(rows - expected).max() <= 1e-6


def test_an_object_for_the_clip_container_gets_the_vectors_of_its_texts_and_images(open_server, expected):
    status, answer = exchange(open_server, CLIP_OBJECT)
    assert status == 200, answer
    assert same(answer["textVectors"], expected["texts"])
    assert same(answer["imageVectors"], expected["images"])
    assert not answer.get("error")


@pytest.mark.parametrize(
    ("request_", "field", "kind"),
    [(CLIP_QUERY, "textVectors", "texts"), (CLIP_OLDER_IMAGE, "imageVectors", "images")],
)
def test_one_kind_alone_gets_exactly_one_vector(open_server, expected, request_, field, kind):
    status, answer = exchange(open_server, request_)
    assert status == 200, answer
    assert same(answer[field], expected[kind][:1])
    other = {"textVectors", "imageVectors"} - {field}
    assert not answer[other.pop()]


def test_the_clip_container_is_ready_and_describes_itself(open_server):
    assert exchange(open_server, CLIP_READY)[0] <= 299
    status, meta = exchange(open_server, CLIP_META)
    assert status == 200
    assert isinstance(meta, dict)


def test_the_path_of_the_clip_container_says_the_dimensions(open_server, encoder):
    request = CLIP_QUERY.replace(b"POST /vectorize", b"POST /weaviate/32/vectorize")
    status, answer = exchange(open_server, request)
    assert status == 200, answer
    assert same(answer["textVectors"], encoder.encode_text(TEXTS[:1], truncate_dim=32))
    assert exchange(open_server, CLIP_READY.replace(b"GET /", b"GET /weaviate/32/"))[0] <= 299


def test_a_refusal_of_the_clip_container_is_an_object_with_an_error(open_server, server):
    damaged = CLIP_OLDER_IMAGE.replace(IMAGE.encode(), b"A" * len(IMAGE))
    status, answer = exchange(open_server, damaged)
    assert status > 399
    assert answer["error"].startswith("item 0 ")
    status, answer = exchange(server, CLIP_QUERY)  # Weaviate has no key for it
    assert status == 401
    assert isinstance(answer["error"], str)


def test_an_object_for_the_hosted_api_gets_its_texts_and_then_its_images(server, expected):
    status, answer = exchange(server, JINA_OBJECT)
    assert status == 200, answer
    assert [each["index"] for each in answer["data"]] == [0, 1, 2]
    rows = [each["embedding"] for each in answer["data"]]
    assert same(rows, np.concatenate([expected["texts"], expected["images"]]))
    assert isinstance(answer["usage"]["total_tokens"], int)


def test_a_query_for_the_hosted_api_gets_the_vector_of_a_query(server, encoder, expected):
    status, answer = exchange(server, JINA_QUERY)
    assert status == 200, answer
    query = encoder.encode_text(TEXTS[:1], task="retrieval.query")
    assert same([each["embedding"] for each in answer["data"]], query)
    assert not same(query, expected["texts"][:1])


def test_an_image_as_an_older_weaviate_sends_it_gets_its_vector(server, expected):
    status, answer = exchange(server, JINA_OLDER_IMAGE)
    assert status == 200, answer
    assert same([each["embedding"] for each in answer["data"]], expected["images"])


@pytest.mark.parametrize(
    ("found", "sent", "status", "words"),
    [
        (b"Bearer served-key", b"Bearer wrong-keys", 401, "the API key is not one of"),
        (b"jina-clip-v2", b"jina-clip-v9", 400, "`model` is a model that is not served here"),
        (IMAGE.encode(), b"A" * len(IMAGE), 400, "item 2 "),
    ],
)
def test_a_refusal_for_the_hosted_api_has_its_detail_as_a_string(server, found, sent, status, words):
    assert found in JINA_OBJECT
    answered, answer = exchange(server, JINA_OBJECT.replace(found, sent))
    assert answered == status
    assert words in answer["detail"]
