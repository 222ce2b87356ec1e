"""Every other dialect: the right vectors for what its clients send, and errors in the form that they read."""

import base64
from typing import ClassVar

import numpy as np
import pytest

from core_encoder.matryoshka import encode_binary, encode_int8, encode_ubinary
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.limits import ServerLimits
from tests.pictures import PICTURE, encoded
from tests.server.harness import DATA_URI, PNG, PNG_BASE64, Server

JPEG = encoded(PICTURE.resize((150, 90)), "JPEG")
JPEG_BASE64 = base64.b64encode(JPEG).decode()
TEXTS = ["a red circle", "a blue square above a green star", ""]


@pytest.fixture
def ask(server):
    def post(path, **body):
        answer = server.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return post


def same(vectors, expected):
    return np.asarray(vectors).shape == expected.shape and np.abs(np.asarray(vectors) - expected).max() <= 1e-6


class TestWeaviate:
    def test_texts_and_images_of_an_object_get_their_vectors(self, ask, encoder):
        answer = ask("/vectorize", texts=TEXTS, images=[PNG_BASE64, JPEG_BASE64])
        assert same(answer["textVectors"], encoder.encode_text(TEXTS))
        assert same(answer["imageVectors"], encoder.encode_image([PNG, JPEG]))

    @pytest.mark.parametrize("absent", [{"images": []}, {"images": None}, {}])
    def test_what_is_absent_has_no_vectors(self, ask, encoder, absent):
        answer = ask("/vectorize", texts=TEXTS, **absent)
        assert answer["imageVectors"] == []
        assert same(answer["textVectors"], encoder.encode_text(TEXTS))

    def test_an_object_without_either_gets_empty_lists(self, ask):
        assert ask("/vectorize", texts=[], images=[]) == {"textVectors": [], "imageVectors": []}

    def test_the_path_says_the_dimensions(self, ask, encoder):
        answer = ask("/weaviate/64/vectorize", texts=TEXTS, images=[PNG_BASE64])
        assert same(answer["textVectors"], encoder.encode_text(TEXTS, truncate_dim=64))
        assert same(answer["imageVectors"], encoder.encode_image([PNG], truncate_dim=64))

    def test_an_empty_caption_that_the_hosted_apis_module_leaves_out_is_an_empty_text(self, server, encoder):
        headers = {"X-Header-Vectordb-Source": "Weaviate"}
        vectors = server.vectors([{}, {"image": PNG_BASE64}, {"text": "a star"}], headers=headers)
        expected = np.concatenate(
            [encoder.encode_text([""]), encoder.encode_image([PNG]), encoder.encode_text(["a star"])]
        )
        assert same(vectors, expected)
        refused = server.post([{}])
        assert (refused.status_code, "an empty text is {'text': ''}" in refused.json()["detail"]) == (400, True)
        assert server.post([{"audio": "AAAA"}], headers=headers).status_code == 400

    def test_a_text_that_is_too_long_is_cut(self, ask, encoder):
        long = "star " * (encoder.max_tokens + 1)
        with pytest.warns(UserWarning, match="were cut"):
            assert same(ask("/vectorize", texts=[long])["textVectors"], encoder.encode_text([long]))

    @pytest.mark.parametrize("mount", ["", "/weaviate/64"])
    def test_probes_and_meta_are_answered(self, server, mount):
        assert server.client.get(f"{mount}/.well-known/ready").status_code == 200
        assert server.client.get(f"{mount}/.well-known/live").status_code == 200
        assert server.client.get(f"{mount}/meta").json()["dimensions"] == (64 if mount else 128)

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/vectorize", {"texts": "a star"}),
            ("/vectorize", {"texts": [5]}),
            ("/vectorize", {"images": ["AAAA"]}),
            ("/weaviate/0/vectorize", {"texts": ["a star"]}),
            ("/weaviate/many/vectorize", {"texts": ["a star"]}),
        ],
    )
    def test_errors_are_objects_with_a_string(self, server, path, body):
        answer = server.client.post(path, json=body)
        assert 400 <= answer.status_code < 500
        assert isinstance(answer.json()["error"], str)


class TestTextEmbeddingsInference:
    @pytest.mark.parametrize("inputs", ["a red circle", ["a red circle"]])
    def test_inputs_may_be_one_text_or_a_list(self, ask, encoder, inputs):
        assert same(ask("/embed", inputs=inputs), encoder.encode_text(["a red circle"]))

    def test_the_options_of_its_clients_are_understood(self, ask, encoder):
        options = {"truncate": True, "truncation_direction": "Right", "prompt_name": None, "normalize": False}
        answer = ask("/embed", inputs=TEXTS, dimensions=64, **options)
        assert same(answer, encoder.encode_text(TEXTS, truncate_dim=64, normalize=False))

    def test_an_image_may_be_sent_as_a_data_uri(self, ask, encoder):
        assert same(ask("/embed", inputs=[DATA_URI]), encoder.encode_image([PNG]))

    def test_info_says_what_its_clients_ask_for(self, server):
        info = server.client.get("/info").json()
        assert (info["model_id"], info["model_dtype"], info["max_input_length"]) == ("jina-clip-v2", "float32", 8192)

    def test_info_tells_the_limits_that_hold(self, model):
        limits = ServerLimits(
            max_items=3,
            max_waiting_requests=7,
            max_text_chars=500,
            max_image_bytes=2000,
            max_pixels=90,
            max_image_urls=5,
        )
        config = EmbeddingConfig(model="nano", max_tokens=32, dimensions=64)
        with Server(model, config=config, limits=limits) as small:
            info = small.client.get("/info").json()
            assert (info["max_client_batch_size"], info["max_concurrent_requests"]) == (3, 7)
            assert (info["max_input_length"], info["max_batch_tokens"]) == (32, model.batch_tokens)
            assert (info["dimensions"], info["embedding_dim"]) == (64, 128)
            assert (info["max_image_bytes"], info["max_image_pixels"], info["max_image_urls"]) == (2000, 90, 0)
            assert small.client.post("/embed", json={"inputs": ["a"] * 3}).status_code == 200
            assert small.client.post("/embed", json={"inputs": ["a"] * 4}).status_code == 422
            long = "star " * 40
            assert small.client.post("/embed", json={"inputs": long}).status_code == 400
            assert small.client.post("/embed", json={"inputs": long, "truncate": True}).status_code == 200
            assert small.client.post("/embed", json={"inputs": "a" * 501}).status_code == 400
            described = small.client.get("/v1/models").json()["data"][0]
            assert (described["context_length"], described["max_output_length"]) == (32, 128)
        with Server(model, limits=limits, image_urls=True) as fetching:
            assert fetching.client.get("/info").json()["max_image_urls"] == 5

    @pytest.mark.parametrize(
        "body", [{}, {"inputs": []}, {"inputs": [5]}, {"inputs": "a", "truncation_direction": "left"}]
    )
    def test_errors_have_their_type(self, server, body):
        answer = server.client.post("/embed", json=body)
        assert 400 <= answer.status_code < 500
        assert isinstance(answer.json()["error"], str)
        assert answer.json()["error_type"] == "Validation"


class TestCohere:
    OPTIONS: ClassVar = {"model": "nano", "input_type": "search_document", "embedding_types": ["float"]}

    def test_texts_are_answered_with_themselves(self, ask, encoder):
        answer = ask("/v2/embed", texts=TEXTS, **self.OPTIONS)
        assert same(answer["embeddings"]["float"], encoder.encode_text(TEXTS))
        assert answer["texts"] == TEXTS
        assert answer["meta"]["billed_units"] == {"input_tokens": sum(encoder.count_tokens(TEXTS))}

    def test_images_are_data_uris(self, ask, encoder):
        answer = ask("/v2/embed", images=[DATA_URI], **self.OPTIONS | {"input_type": "image"})
        assert same(answer["embeddings"]["float"], encoder.encode_image([PNG]))
        assert answer["meta"]["billed_units"]["images"] == 1

    def test_inputs_mix_texts_and_images_in_order(self, ask, encoder):
        inputs = [
            {"content": [{"type": "image_url", "image_url": {"url": DATA_URI}}]},
            {"content": [{"type": "text", "text": "a star"}]},
        ]
        answer = ask("/v2/embed", inputs=inputs, **self.OPTIONS)
        expected = np.concatenate([encoder.encode_image([PNG]), encoder.encode_text(["a star"])])
        assert same(answer["embeddings"]["float"], expected)

    def test_every_type_holds_the_same_vector(self, ask, encoder):
        types = ["float", "int8", "binary", "ubinary", "base64"]
        options = self.OPTIONS | {"embedding_types": types, "output_dimension": 64}
        answer = ask("/v2/embed", texts=TEXTS, **options)["embeddings"]
        expected = encoder.encode_text(TEXTS, truncate_dim=64)
        assert answer["int8"] == encode_int8(expected).tolist()
        assert answer["binary"] == encode_binary(expected).tolist()
        assert answer["ubinary"] == encode_ubinary(expected).tolist()
        assert same([np.frombuffer(base64.b64decode(text), "<f4") for text in answer["base64"]], expected)

    @pytest.mark.parametrize(
        "change",
        [
            {"texts": None},
            {"images": [DATA_URI]},
            {"input_type": "other"},
            {"input_type": None},
            {"embedding_types": ["uint8"]},
            {"embedding_types": []},
            {"embedding_types": "float"},
            {"truncate": "START"},
            {"output_dimension": 4096},
            {"model": "embed-v4.0"},
            {"texts": None, "inputs": [{"content": [{"type": "text", "text": "a"}] * 2}]},
            {"texts": None, "inputs": [{"content": [{"type": "video"}]}]},
            {"texts": None, "inputs": [{"content": [{"type": "image_url", "image_url": {}}]}]},
            {"texts": None, "inputs": ["a"]},
        ],
    )
    def test_errors_have_a_message(self, server, change):
        answer = server.client.post("/v2/embed", json={"texts": ["a"], **self.OPTIONS, **change})
        assert 400 <= answer.status_code < 500, answer.text
        assert isinstance(answer.json()["message"], str)


class TestSageMaker:
    def test_the_ping_is_answered(self, server):
        assert server.client.get("/ping").status_code == 200

    def test_what_the_client_of_the_marketplace_sends_is_understood(self, ask, encoder):
        data = [{"text": "a star"}, {"bytes": PNG_BASE64}]
        answer = ask("/invocations", data=data, parameters={"task": "text-matching", "dimensions": 64})["data"]
        expected = np.concatenate(
            [encoder.encode_text(["a star"], truncate_dim=64), encoder.encode_image([PNG], truncate_dim=64)]
        )
        assert [each["index"] for each in answer] == [0, 1]
        assert same([each["embedding"] for each in answer], expected)

    @pytest.mark.parametrize("named", [{}, {"model": None}, {"model": "nano"}])
    def test_a_request_of_the_hosted_api_needs_no_model(self, ask, encoder, named):
        answer = ask("/invocations", input=TEXTS, **named)["data"]
        assert same([each["embedding"] for each in answer], encoder.encode_text(TEXTS))

    @pytest.mark.parametrize("body", [{}, {"data": []}, {"data": {"text": "a"}}, {"data": ["a"], "parameters": 5}])
    def test_errors_have_a_detail(self, server, body):
        answer = server.client.post("/invocations", json=body)
        assert 400 <= answer.status_code < 500
        assert isinstance(answer.json()["detail"], str)


class TestVertex:
    def test_an_instance_may_have_a_text_an_image_or_both(self, ask, encoder):
        image = {"bytesBase64Encoded": PNG_BASE64}
        instances = [{"text": "a star"}, {"image": image}, {"text": "a circle", "image": image}, "a star"]
        answer = ask("/predict", instances=instances, parameters={"dimension": 64})["predictions"]
        texts = encoder.encode_text(["a star", "a circle"], truncate_dim=64)
        picture = encoder.encode_image([PNG], truncate_dim=64)[0]
        assert [set(each) for each in answer] == [
            {"textEmbedding"}, {"imageEmbedding"}, {"textEmbedding", "imageEmbedding"}, {"textEmbedding"},
        ]  # fmt: skip
        assert same([each["textEmbedding"] for each in answer if "textEmbedding" in each], texts[[0, 1, 0]])
        assert same([each["imageEmbedding"] for each in answer[1:3]], np.stack([picture, picture]))

    def test_a_bad_image_is_called_by_the_number_of_its_instance(self, server):
        instances = [{"text": "a", "image": PNG_BASE64}, {"text": "b", "image": "AAAA"}]
        answer = server.client.post("/predict", json={"instances": instances})
        assert (answer.status_code, answer.json()["detail"][:7]) == (400, "item 1 ")

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"instances": []},
            {"instances": [{}]},
            {"instances": [5]},
            {"instances": [{"image": {"gcsUri": "gs://a/b"}}]},
            {"instances": ["a"], "parameters": {"dimension": 0}},
            {"instances": ["a"], "parameters": []},
        ],
    )
    def test_errors_have_a_detail(self, server, body):
        answer = server.client.post("/predict", json=body)
        assert 400 <= answer.status_code < 500
        assert isinstance(answer.json()["detail"], str)


class TestAzure:
    def test_a_table_of_images_and_texts_gets_a_row_of_vectors_each(self, ask, encoder):
        rows = [[PNG_BASE64, ""], ["", "a star"], [JPEG_BASE64, "a circle"]]
        table = {"columns": ["image", "text"], "index": [0, 1, 2], "data": rows}
        answer = ask("/score", input_data=table)
        images, texts = encoder.encode_image([PNG, JPEG]), encoder.encode_text(["a star", "a circle"])
        assert [set(row) for row in answer] == [
            {"image_features"},
            {"text_features"},
            {"image_features", "text_features"},
        ]
        assert same([answer[0]["image_features"], answer[2]["image_features"]], images)
        assert same([answer[1]["text_features"], answer[2]["text_features"]], texts)

    def test_a_column_alone_needs_no_lists_for_rows(self, ask, encoder):
        answer = ask("/score", input_data={"columns": ["text"], "data": TEXTS[:2]})
        assert same([row["text_features"] for row in answer], encoder.encode_text(TEXTS[:2]))

    def test_a_request_of_the_hosted_api_needs_no_model(self, ask, encoder):
        answer = ask("/score", input=["a star", {"image": PNG_BASE64}], dimensions=64)["data"]
        assert same([answer[0]["embedding"]], encoder.encode_text(["a star"], truncate_dim=64))

    @pytest.mark.parametrize(
        "table",
        [
            {},
            {"columns": ["sound"], "data": ["a"]},
            {"columns": ["text", "text"], "data": [["a", "b"]]},
            {"columns": ["text"], "data": []},
            {"columns": ["text"], "data": [["a", "b"]]},
            {"columns": ["image", "text"], "data": [["", ""]]},
            {"columns": [["text"]], "data": ["a"]},
        ],
    )
    def test_errors_have_a_detail(self, server, table):
        answer = server.client.post("/score", json={"input_data": table})
        assert 400 <= answer.status_code < 500
        assert isinstance(answer.json()["detail"], str)
