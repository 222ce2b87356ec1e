"""Bad requests: each is a 4xx with a string that says what to do, and the server goes on."""

import base64
import json
import logging
import socket

import pytest

from jclip_connectors.server.limits import ServerLimits
from tests.pictures import png
from tests.server.harness import DATA_URI, PNG_BASE64, Server

BOMB = base64.b64encode(png(30_000, 30_000)).decode()

BAD_ITEMS = {
    "no such file is read": {"image": "/etc/passwd"},
    "a file URL": {"image": "file:///etc/passwd"},
    "an image URL": {"image": "https://example.com/a.png"},
    "a URL in the older field": {"url": "http://169.254.169.254/latest"},
    "a URL in capitals": {"image": "HTTP://localhost/"},
    "no image": {"image": base64.b64encode(b"hello").decode()},
    "an empty image": {"image": ""},
    "half an image": {"image": base64.b64encode(base64.b64decode(PNG_BASE64)[:60]).decode()},
    "half of base64": {"image": PNG_BASE64[:-3]},
    "a data URI without base64": "data:image/png,hello",
    "a data URI without a comma": {"image": "data:image/png;base64"},
    "an image of 900 million pixels": {"image": BOMB},
    "a PDF": {"pdf": "x"},
    "a text and an image": {"text": "a", "image": PNG_BASE64},
    "an empty object": {},
    "a text that is a number": {"text": 5},
    "an image that is a list": {"image": [PNG_BASE64]},
    "null": None,
    "a number": 1.5,
    "a boolean in a list": True,
    "half of a surrogate pair": "\ud800",
}

BAD_FIELDS = [
    {"dimensions": 0}, {"dimensions": -1}, {"dimensions": 129}, {"dimensions": "x"}, {"dimensions": 1.5},
    {"dimensions": True}, {"dimensions": "9" * 400}, {"dimensions": 10**400}, {"dimensions": []},
    {"normalized": "yes"}, {"truncate": 1}, {"partial": "no"}, {"task": "classification"}, {"task": 5},
    {"embedding_type": "int8"}, {"embedding_type": []}, {"embedding_type": 5}, {"embedding_type": [["float"]]},
    {"embedding_type": "float", "encoding_format": "base64"}, {"embedding_type": "binary", "dimensions": 12},
    {"model": "gpt-4"}, {"model": None}, {"model": ["nano"]}, {"input": []}, {"input": None}, {"input": 5},
    {"input": [1, 2, 3]}, {"input": [[1, 2], [3]]}, {"input": {"a": "b"}}, {"input": ["a"] * 2049},
]  # fmt: skip

BAD_BODIES = [
    b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"model": "nano", "input": NaN}', b"[" * 100_000,
    b'{"model": "nano", "input": "a", "dimensions": ' + b"9" * 5000 + b"}",
]  # fmt: skip


def check_refusal(answer):
    assert 400 <= answer.status_code < 500, answer.text
    body = answer.json()
    assert isinstance(body["detail"], str)
    assert isinstance(body["code"], str)
    assert body["detail"]
    assert len(body["detail"]) < 600
    assert "Traceback" not in answer.text
    assert ".py" not in answer.text
    return body


@pytest.fixture(autouse=True)
def _the_next_good_request_succeeds(server):
    yield
    assert server.post(["a star", DATA_URI]).status_code == 200


@pytest.mark.parametrize("name", BAD_ITEMS)
def test_a_bad_item_is_refused_by_its_index(server, name):
    body = check_refusal(server.client.post("/v1/embeddings", content=as_json(["a star", BAD_ITEMS[name]])))
    assert body["detail"].startswith("item 1")
    assert "passwd" not in body["detail"]


@pytest.mark.parametrize("fields", BAD_FIELDS)
def test_a_bad_field_is_refused_by_its_name(server, fields):
    request = {"input": "a star", **fields}
    body = check_refusal(server.post(request.pop("input"), **request))
    assert any(f"`{name}`" in body["detail"] or name in body["detail"] for name in [*fields, "item 0"])


@pytest.mark.parametrize("content", BAD_BODIES)
def test_a_body_that_is_no_request_is_refused(server, content):
    check_refusal(server.client.post("/v1/embeddings", content=content))


def test_token_ids_are_refused_with_what_to_send_instead(server):
    assert "send the text" in check_refusal(server.post([[1, 2, 3]]))["detail"]


def test_an_unknown_route_and_a_wrong_method_are_refused_in_the_same_form(server):
    assert server.client.get("/nothing").status_code == 404
    check_refusal(server.client.get("/nothing"))
    check_refusal(server.client.get("/v1/embeddings"))
    check_refusal(server.client.get("/v1/models/../../etc/passwd"))
    check_refusal(server.client.get("/v1/models/gpt-4"))


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read(model):
    with Server(model, limits=ServerLimits(max_body_bytes=1000)) as small:
        assert check_refusal(small.post("a" * 2000))["code"] == "INPUT_TOO_LARGE"


def test_a_body_of_unknown_length_is_refused_where_it_passes_the_limit(model):
    with Server(model, limits=ServerLimits(max_body_bytes=1000)) as small:
        answer = small.client.post("/v1/embeddings", content=(b" " * 100 for _ in range(50)))
        assert answer.status_code == 413


def test_a_body_that_never_comes_is_given_up(model):
    with (
        Server(model, limits=ServerLimits(body_timeout_s=1)) as hasty,
        socket.create_connection(("127.0.0.1", hasty.port), timeout=10) as slow,
    ):
        slow.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_bodies_together_stay_within_their_limit(model):
    with Server(model, limits=ServerLimits(max_buffered_bytes=1000)) as small:
        answer = small.post("a" * 2000)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert small.post("a star").status_code == 200


def test_an_image_over_the_limits_of_the_server_is_refused(model):
    with Server(model, limits=ServerLimits(max_image_bytes=100)) as small:
        assert "100 are allowed" in check_refusal(small.post([{"image": PNG_BASE64}]))["detail"]
    with Server(model, limits=ServerLimits(max_pixels=100)) as small:
        assert "max_pixels" in check_refusal(small.post([{"image": PNG_BASE64}]))["detail"]


def test_a_text_of_ten_million_characters_is_refused(server):
    assert "10000000 characters" in check_refusal(server.post("a" * 10_000_000))["detail"]


def test_texts_that_are_too_much_together_are_refused_before_they_are_tokenized(server):
    assert "5000000 characters in all" in check_refusal(server.post(["a" * 250_000] * 20))["detail"]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "AUTH_MISSING_API_KEY"),
        (b"secret-key", "AUTH_INVALID_FORMAT"),
        (b"Basic secret-key", "AUTH_INVALID_FORMAT"),
        (b"Bearer secret", "AUTH_INVALID_API_KEY"),
        (b"Bearer secret-key-and-more", "AUTH_INVALID_API_KEY"),
        (b"Bearer \xff\xfe", "AUTH_INVALID_API_KEY"),
    ],
)
def test_without_a_right_key_nothing_is_answered(model, header, code):
    headers = {} if header is None else {b"Authorization": header}
    with Server(model, api_keys=["other", "secret-key"]) as closed:
        answer = closed.post("a star", headers=headers)
        assert (answer.status_code, check_refusal(answer)["code"]) == (401, code)
        assert closed.client.get("/v1/models", headers=headers).status_code == 401
        assert closed.client.get("/live").status_code == 200
        assert closed.post("a star", headers={"Authorization": "bearer secret-key"}).status_code == 200


def test_a_failure_of_the_model_says_nothing_of_the_content(model, monkeypatch, caplog):
    def fail(texts, **_options):
        raise RuntimeError(f"cannot do {texts}")

    with Server(model) as failing, caplog.at_level(logging.INFO):
        monkeypatch.setattr(model.encoder, "encode_tokens", fail)
        answer = failing.post("secret words")
        monkeypatch.undo()
        assert failing.post("a star").status_code == 200
    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL_ERROR")
    assert "secret" not in answer.text + caplog.text
    assert "RuntimeError" in caplog.text


def test_a_failure_of_the_server_itself_says_nothing_of_it(model, monkeypatch):
    def fail(_body, _dialect):
        raise RuntimeError("secret words")

    with Server(model) as failing:
        monkeypatch.setattr(failing.app.state.service, "answer", fail)
        answer = failing.post("a star")
    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL_ERROR")
    assert "secret" not in answer.text


def as_json(items):
    return json.dumps({"model": "nano", "input": items}).encode()
