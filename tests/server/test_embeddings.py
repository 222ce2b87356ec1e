"""What clients send to `POST /v1/embeddings`, and what they get."""

import base64
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core_encoder import ConfigError, JinaClipEncoder, resampling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.app import create_app
from jclip_connectors.server.serve import load_served_model
from tests.checkpoints import V2_TINY
from tests.pictures import PICTURE, encoded
from tests.server.harness import DATA_URI, PNG, PNG_BASE64, Server

JPEG = encoded(PICTURE, "JPEG")
TEXTS = ["a red circle", "a blue square above a green star", "", "ein roter Kreis"]


def same(vectors, expected):
    return np.abs(np.asarray(vectors) - expected).max() <= 1e-6


def test_texts_get_the_encoders_own_vectors_in_order(server, encoder):
    assert same(server.vectors(TEXTS), encoder.encode_text(TEXTS))


def test_a_single_string_gets_one_vector(server, encoder):
    assert same(server.vectors("a red circle"), encoder.encode_text(["a red circle"]))


@pytest.mark.parametrize(
    "item", [{"image": PNG_BASE64}, {"image": DATA_URI}, {"bytes": PNG_BASE64}, {"url": DATA_URI}, DATA_URI]
)
def test_an_image_is_the_same_in_every_clients_way_of_sending_it(server, encoder, item):
    assert same(server.vectors([item]), encoder.encode_image([PNG]))


def test_texts_and_images_in_one_list_keep_their_order(server, encoder):
    items = [{"image": PNG_BASE64}, "a red circle", {"image": base64.b64encode(JPEG).decode()}, {"text": "a star"}]
    images, texts = encoder.encode_image([PNG, JPEG]), encoder.encode_text(["a red circle", "a star"])
    assert same(server.vectors(items), np.stack([images[0], texts[0], images[1], texts[1]]))


@pytest.mark.parametrize("size", [(300, 200), (72, 72), (5, 400), (90, 73)])
def test_an_image_of_any_size_gets_the_encoders_own_vector(server, encoder, size):
    png = encoded(PICTURE.resize(size), "PNG")
    assert same(server.vectors([{"image": base64.b64encode(png).decode()}]), encoder.encode_image([png]))


@pytest.mark.parametrize(
    "options",
    [{"resize_mode": "longest"}, {"resize_mode": "squash"}, {"rendering": "as_seen"}, {"rendering": "as_stored"}],
)
def test_images_are_prepared_as_the_servers_configuration_says(model, encoder, options):
    exif = Image.Exif()
    exif[0x0112] = 6
    jpeg = encoded(PICTURE, "JPEG", exif=exif)
    with Server(model, config=EmbeddingConfig(model="nano", **options)) as running:
        vectors = running.vectors([{"image": base64.b64encode(jpeg).decode()}])
    assert same(vectors, encoder.encode_image([jpeg], **{"rendering": "as_seen", **options}))


def test_images_are_resized_as_the_servers_configuration_says(model, encoder):
    png = encoded(PICTURE.resize((900, 700)), "PNG")
    with Server(model, config=EmbeddingConfig(model="nano", resampling="fast")) as running:
        vectors = running.vectors([{"image": base64.b64encode(png).decode()}])
    assert same(vectors, encoder.encode_image([png], resampling="fast"))
    assert not same(vectors, encoder.encode_image([png]))


def test_fast_resizing_without_its_package_is_refused_when_the_server_is_made(model, monkeypatch):
    monkeypatch.setattr(resampling, "cykooz_resizer", None)
    with pytest.raises(ConfigError, match="needs the package cykooz-resizer"):
        create_app(model, EmbeddingConfig(model="nano", resampling="fast"))


def test_the_servers_configuration_is_the_default_of_what_a_request_leaves_out(model, encoder):
    with Server(model, config=EmbeddingConfig(model="nano", dimensions=32, normalize=False)) as running:
        assert same(running.vectors("a star"), encoder.encode_text(["a star"], truncate_dim=32, normalize=False))
        assert same(running.vectors("a star", dimensions=128, normalized=True), encoder.encode_text(["a star"]))


@pytest.mark.parametrize("dimensions", [64, "64"])
def test_dimensions_may_be_a_number_or_its_digits(server, encoder, dimensions):
    assert same(server.vectors(TEXTS, dimensions=dimensions), encoder.encode_text(TEXTS, truncate_dim=64))


def test_vectors_that_are_not_normalised_are_the_encoders_own(server, encoder):
    expected = encoder.encode_text(TEXTS, truncate_dim=32, normalize=False)
    assert same(server.vectors(TEXTS, dimensions=32, normalized=False), expected)


def test_a_query_gets_the_prefix_of_queries_and_a_passage_none():
    config = EmbeddingConfig(model=str(V2_TINY))
    tiny = load_served_model(config, device="cpu")
    encoder = JinaClipEncoder.load(V2_TINY, device="cpu")
    query = encoder.encode_text(["a star"], task="retrieval.query")
    passage = encoder.encode_text(["a star"])
    assert not same(passage, query)
    with Server(tiny, config=config) as running:
        assert same(running.vectors("a star", model=V2_TINY.name, task="retrieval.query"), query)
        assert same(running.vectors("a star", model=V2_TINY.name, task="retrieval.passage"), passage)
        assert str(V2_TINY) not in running.client.get("/v1/models").text


@pytest.mark.parametrize("field", ["embedding_type", "encoding_type", "encoding_format"])
def test_base64_holds_the_same_numbers_as_float(server, field):
    text = server.post("a star", **{field: "base64"}).json()["data"][0]["embedding"]
    assert np.array_equal(np.frombuffer(base64.b64decode(text), "<f4"), server.vectors("a star")[0])


def test_binary_is_the_sign_of_every_value_in_packed_bits(server):
    bits = np.packbits(server.vectors("a star")[0] > 0)
    assert server.vectors("a star", embedding_type="ubinary")[0].tolist() == bits.tolist()
    assert server.vectors("a star", embedding_type="binary")[0].tolist() == (bits.astype(int) - 128).tolist()


def test_a_list_of_encodings_gives_each_vector_under_their_names(server):
    embedding = server.post("a star", embedding_type=["ubinary", "float"]).json()["data"][0]["embedding"]
    assert set(embedding) == {"float", "ubinary"}
    assert len(embedding["ubinary"]) * 8 == len(embedding["float"]) == 128


def test_usage_counts_the_tokens_of_texts(server, encoder):
    usage = server.post(TEXTS).json()["usage"]
    assert usage == dict.fromkeys(("total_tokens", "prompt_tokens"), sum(encoder.count_tokens(TEXTS)))


def test_usage_prices_an_image_by_its_tiles(server):
    png = encoded(PICTURE.resize((73, 72)), "PNG")
    usage = server.post([{"image": base64.b64encode(png).decode()}]).json()["usage"]
    assert usage == {"total_tokens": 2000, "prompt_tokens": 2000, "image_tokens": 2000}


def test_a_text_over_the_limit_is_refused_unless_it_may_be_cut(server, encoder):
    long = "star " * (encoder.max_tokens + 1)
    refused = server.post(["a star", long])
    assert (refused.status_code, refused.json()["code"]) == (400, "INPUT_TOKEN_LIMIT_EXCEEDED")
    assert refused.json()["detail"].startswith("item 1 has ")
    cut = server.post(long, truncate=True).json()
    assert cut["usage"]["total_tokens"] == encoder.max_tokens
    with pytest.warns(UserWarning, match="were cut"):
        assert same(cut["data"][0]["embedding"], encoder.encode_text([long])[0])


def test_with_partial_a_bad_item_fails_alone(server, encoder):
    answer = server.post(["a star", {"image": "AAAA"}, {"pdf": "x"}, "a circle"], partial=True).json()
    assert [each["index"] for each in answer["data"]] == [0, 3]
    assert same([each["embedding"] for each in answer["data"]], encoder.encode_text(["a star", "a circle"]))
    assert [each["index"] for each in answer["errors"]] == [1, 2]
    assert answer["errors"][0]["detail"].startswith("item 1 is empty, or only zeros, not an image in an allowed format")


@pytest.mark.parametrize("name", ["nano", "jina-clip-v2", "jinaai/jina-clip-v2", "jina-ai/nano"])
def test_the_model_may_be_called_by_any_of_its_names_and_answers_to_it(server, name):
    assert server.post("a star", model=name).json()["model"] == name


def test_the_models_are_listed_with_what_both_kinds_of_clients_read(server):
    listed = server.client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert listed["data"][0] == server.client.get("/v1/models/jina-ai/jina-clip-v2").json()
    assert (listed["data"][0]["id"], listed["data"][0]["max_output_length"]) == ("jina-clip-v2", 128)


@pytest.mark.parametrize("route", ["/health", "/live", "/ready"])
def test_probes_are_answered(server, route):
    assert server.client.get(route).status_code == 200


@pytest.mark.parametrize("field", ["max_pixels", "max_image_bytes"])
def test_limits_on_images_in_the_configuration_are_refused_as_the_server_has_its_own(model, field):
    limited: dict[str, Any] = {field: 10}
    with pytest.raises(ConfigError, match="--limit max_pixels=N"):
        Server(model, config=EmbeddingConfig(model="nano", **limited))
