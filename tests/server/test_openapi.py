"""What the published OpenAPI file shows is accepted, and everything that is answered agrees with it.

The harness compares every answer of every server test with the file; here the comparison itself is tested, each kind of
answer is asked for once, and the requests of the file are sent.
"""

import copy
import json
import socket

import httpx
import pytest

from jclip_connectors.server.limits import ServerLimits
from tests.server.harness import DATA_URI, PNG_BASE64, Server, in_background, wait_until
from tests.server.openapi_check import ENCODINGS, SPEC, find_problem

CLIPS = {name: SPEC["components"]["schemas"][name] for name in ("ClipV1Request", "ClipV2Request")}
GOOD_ANSWER = {
    "object": "list",
    "model": "nano",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}],
    "usage": {"total_tokens": 3, "prompt_tokens": 3},
}
DETAIL_AS_A_LIST = {"detail": [{"loc": ["body", "model"], "msg": "Field required"}]}  # FastAPI's own form


def with_embedding(embedding):
    return {**GOOD_ANSWER, "data": [{"object": "embedding", "index": 0, "embedding": embedding}]}


def problem(answer, status=200, path="/v1/embeddings", method="POST", content_type="application/json"):
    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return find_problem(method, path, status, content_type, content)


@pytest.mark.parametrize("embedding", [[0.6, 0.8], "AACAPw==", [-128, 5], {"float": [0.6, 0.8], "base64": "AACAPw=="}])
def test_a_good_answer_agrees_with_the_file(embedding):
    assert problem(with_embedding(embedding)) is None


@pytest.mark.parametrize(
    "answer",
    [
        {name: GOOD_ANSWER[name] for name in ("object", "model", "usage")},
        {name: GOOD_ANSWER[name] for name in ("object", "model", "data")},
        {**GOOD_ANSWER, "model": None},
        {**GOOD_ANSWER, "usage": {"total_tokens": 3}},
        {**GOOD_ANSWER, "usage": {"total_tokens": 3.5, "prompt_tokens": 3}},
        {**GOOD_ANSWER, "data": [{"embedding": [1.0]}]},
        {**GOOD_ANSWER, "data": [{"star": 0.5}]},
        with_embedding(None),
        with_embedding(["0.6"]),
        with_embedding([[0.6, 0.8]]),
        with_embedding({}),
        with_embedding({"star": 0.5}),
        with_embedding({"float": 0.5}),
        with_embedding({"float": [0.6], "int8": [5]}),
        {
            **GOOD_ANSWER,
            "data": [{"index": 0, "embedding": {"float": [1]}}, {"index": 1, "embedding": {"binary": [1]}}],
        },
        {**GOOD_ANSWER, "data": [{"index": 0, "embedding": {"float": [1]}}, {"index": 1, "embedding": [1]}]},
        json.dumps(with_embedding([float("nan")])).encode(),
    ],
)
def test_an_answer_of_another_form_is_noticed(answer):
    assert problem(answer)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 413, 422, 429, 499, 500, 503])
@pytest.mark.parametrize("body", [DETAIL_AS_A_LIST, {}, {"error": "no"}, {"detail": "a", "code": 5}, b"", b"no"])
def test_an_error_of_another_form_is_noticed_whatever_its_status(status, body):
    assert problem(body, status)
    assert problem({"detail": "a", "code": "B", "request_id": "c"}, status) is None


def test_an_answer_of_another_content_type_or_status_is_noticed():
    assert problem(GOOD_ANSWER, content_type="text/plain")
    assert problem(GOOD_ANSWER, status=201)
    assert problem({"data": [{"id": "nano"}]}, path="/v1/models", method="GET")
    assert problem({"id": "nano"}, path="/v1/models/jinaai/nano", method="GET")


def test_an_answer_of_the_server_that_disagrees_fails_the_test_that_got_it(model, monkeypatch):
    async def answer(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b"{}"})

    with Server(model) as running:
        monkeypatch.setattr(running.judged, "_app", answer)
        with pytest.raises(AssertionError, match="POST /v1/embeddings -> 200"):
            running.post("a star")
        monkeypatch.undo()


@pytest.mark.parametrize("encoding", [*ENCODINGS, *([each] for each in ENCODINGS), ENCODINGS])
def test_every_encoding_is_answered_as_the_file_says(server, encoding):
    answer = server.post(["a star", DATA_URI], embedding_type=encoding)
    assert answer.status_code == 200
    assert len(answer.json()["data"]) == 2


def test_an_answer_in_which_items_failed_alone_agrees_with_the_file(server):
    assert server.post(["a star", {"image": "AAAA"}], partial=True).status_code == 200
    assert server.post([{"image": "AAAA"}], partial=True).json()["data"] == []


def test_every_error_that_the_server_knows_agrees_with_the_file(model, monkeypatch):
    async def fail(*_):
        raise RuntimeError

    with Server(model, api_keys=["key"], limits=ServerLimits(max_body_bytes=1000, body_timeout_s=1)) as server:
        key = {"Authorization": "Bearer key"}
        server.post("a star")
        server.post("a star", model="gpt-4", headers=key)
        server.post("a star", dimensions=0, headers=key)
        server.post("a" * 2000, headers=key)
        server.client.get("/v1/models/gpt-4", headers=key)
        server.client.get("/v1/embeddings", headers=key)
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
            slow.sendall(
                b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key\r\nContent-Length: 9\r\n\r\n{"
            )
            assert slow.recv(100).startswith(b"HTTP/1.1 408")
        monkeypatch.setattr(server.app.state.service, "answer", fail)
        server.post("a star", headers=key)
    assert server.judged.statuses == {401, 400, 422, 413, 404, 405, 408, 500}


def test_the_errors_of_a_full_server_agree_with_the_file(held_model, held):
    limits = ServerLimits(max_waiting_tokens=1)
    with (
        Server(held_model, limits=limits) as server,
        in_background(server.post, "first") as first,
    ):
        wait_until(lambda: held.batches)
        with pytest.raises(httpx.ReadTimeout):  # this client goes, and is answered all the same
            httpx.post(
                f"{server.url}/v1/embeddings", json=request("gone"), timeout=httpx.Timeout(30, read=1), trust_env=False
            )
        wait_until(lambda: server.judged.statuses)
        with in_background(server.post, ["a star"] * 5) as second:
            wait_until(lambda: server.engine.waiting_tokens > 1)
            refused = server.post("too many")  # before the application: not among what it answers
            server.client.get("/ready")
            held.gate.set()
    assert [answer.status_code for answer in first + second] == [200, 200]
    assert server.judged.statuses == {499, 503, 200}
    assert refused.status_code == 429
    assert find_problem("POST", "/v1/embeddings", 429, refused.headers["Content-Type"], refused.content) is None


def request(item, **fields):
    return {"model": "nano", "input": item, **fields}


def published_examples():
    """Give each example of the file, as for a model of 128 dimensions that is called nano."""
    for schema in CLIPS.values():
        example = copy.deepcopy(schema["example"])
        example["model"] = "nano"
        if "dimensions" in example:
            example["dimensions"] //= 8
        yield example


def with_the_images_bytes(example):
    items = [{"image": PNG_BASE64} if "image" in item else item for item in example["input"]]
    return {**example, "input": items}


@pytest.mark.parametrize("example", list(published_examples()))
def test_a_published_example_is_answered_once_its_image_is_sent_as_bytes(server, encoder, example):
    refused = server.client.post("/v1/embeddings", json=example)
    assert (refused.status_code, refused.json()["detail"][:6]) == (400, "item 0")
    assert "URL" in refused.json()["detail"]
    answer = server.client.post("/v1/embeddings", json=with_the_images_bytes(example))
    vectors = [each["embedding"] for each in answer.json()["data"]]
    texts = encoder.encode_text(example["input"][1:], truncate_dim=example.get("dimensions"))
    assert vectors[1] == pytest.approx(texts[0].tolist(), abs=1e-6)
    if "dimensions" in example:  # older examples of the hosted API have it in quotation marks
        quoted = with_the_images_bytes({**example, "dimensions": str(example["dimensions"])})
        assert server.client.post("/v1/embeddings", json=quoted).json()["data"] == answer.json()["data"]


INPUTS: list[object] = [
    "a star",
    {"text": "a star"},
    {"image": PNG_BASE64},
    ["a star", {"text": "a"}, {"image": PNG_BASE64}],
]
VALUES: dict[str, list[object]] = {
    "input": INPUTS,
    "dimensions": [1, 128, 64.0, None],  # JSON knows one kind of number
    "embedding_type": [*ENCODINGS, ENCODINGS, ["base64"], None],
    "normalized": [True, False, None],
    "task": ["retrieval.query", None],
    "truncate": [True, False, None],
}


def test_no_field_of_the_file_is_left_out_here():
    assert {name for schema in CLIPS.values() for name in schema["properties"]} == {"model", *VALUES}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in VALUES.items() for value in values])
def test_every_value_that_the_file_allows_is_accepted(server, name, value):
    answer = server.client.post("/v1/embeddings", json={**request("a star"), name: value})
    assert answer.status_code == 200, answer.text


def test_a_pdf_which_the_file_allows_is_refused_because_no_local_model_reads_one(server):
    answer = server.post({"pdf": "JVBERi0xLjcK"})
    assert (answer.status_code, answer.json()["detail"][:6]) == (400, "item 0")
