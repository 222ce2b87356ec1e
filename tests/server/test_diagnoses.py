"""Common mistakes: the error names the mistake and the way out, and repeats no byte of what the client sent."""

import base64
import gzip
import json
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pictures import PICTURE, encoded, png
from tests.profiles import examples
from tests.server.harness import DATA_URI, PNG, PNG_BASE64, Server
from tests.server.test_refusals import check_refusal

GOOD = {"model": "nano", "input": "a star"}


def detail_of(answer, status):
    assert answer.status_code == status, answer.text
    return check_refusal(answer)["detail"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/embeddings", {"model": "nano", "messages": []}, "takes `input`, not `messages`"),
        ("/v1/embeddings", {"model": "nano", "inputs": "a"}, "takes `input`, not `inputs` (that is for /embed"),
        ("/v1/embeddings", {"model": "nano", "texts": ["a"]}, "takes `input`, not `texts`"),
        ("/v1/embeddings", {"model": "nano", "prompt": "a"}, "takes `input`, not `prompt`"),
        ("/v1/embeddings", {"model": "nano"}, "`input` is missing: send `input`"),
        ("/v1/embeddings", {"model": "nano", "input": None}, "`input` is null"),
        ("/v1/embeddings", {"input": "a"}, "`model` is missing or null: send 'jina-clip-v2' or 'nano'"),
        ("/v1/embeddings", {"model": 5, "input": "a"}, "`model` is an integer: send"),
        ("/v1/embeddings", {"model": "gpt-4", "input": "a"}, "not served here: send 'jina-clip-v2' or 'nano'"),
        ("/v1/embeddings", {"model": "nano", "input": True}, "`input` is a boolean: send a string"),
        ("/v1/embeddings", {"model": "nano", "input": 1.5}, "`input` is a number: send a string"),
        ("/v1/embeddings", {"model": "nano", "input": {}}, "item 0 is an empty object: send"),
        ("/v1/embeddings", {"model": "nano", "input": []}, "`input` is an empty list"),
        ("/v1/embeddings", {"model": "nano", "input": [["a", "b"]]}, "item 0 is a list of strings: put its strings"),
        ("/v1/embeddings", {"model": "nano", "input": ["a", ["b"]]}, "item 1 is a list of strings"),
        ("/v1/embeddings", {"model": "nano", "input": [[]]}, "item 0 is a list: send"),
        ("/v1/embeddings", {"model": "nano", "input": [[["a"]]]}, "item 0 is a list: send"),
        ("/v1/embeddings", {"model": "nano", "input": [True, False]}, "item 0 is a boolean: send"),
        ("/v1/embeddings", {"model": "nano", "input": [[True]]}, "item 0 is a list: send"),
        ("/v1/embeddings", {"model": "nano", "input": [0.5, 1.5]}, "item 0 is a number: send"),
        ("/v1/embeddings", {"model": "nano", "input": [[0.5]]}, "item 0 is a list: send"),
        ("/v1/embeddings", {"model": "nano", "input": [None]}, "item 0 is null: send"),
        ("/v1/embeddings", {"model": "nano", "input": ["a", 5]}, "item 1 is an integer: send"),
        ("/v1/embeddings", {**GOOD, "dimensions": 129}, "`dimensions` is more than 128: send an integer from 1 to 128"),
        ("/v1/embeddings", {**GOOD, "dimensions": -5}, "`dimensions` is less than 1"),
        ("/v1/embeddings", {**GOOD, "task": "classification"}, "`task` is a value that is not known: send one of"),
        ("/invocations", {"text": "a"}, "takes `input`, not `text`"),
        ("/invocations", {"data": None, "inputs": "a"}, "`data` is null: this route takes `data`, not `inputs`"),
        ("/invocations", {"data": "a"}, "`data` is a string: send a list"),
        ("/predict", {"input": "a"}, "`instances` is missing: this route takes `instances`, not `input` (that is for"),
        ("/score", {"input_data": {"data": ["a"]}}, "`columns` is missing"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(server, path, body, words):
    assert words in check_refusal(server.client.post(path, json=body))["detail"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/embed", {"input": "a"}, "takes `inputs`, not `input` (that is for /v1/embeddings)"),
        ("/embed", {}, "`inputs` is missing"),
        ("/embed", {"inputs": [1, 2]}, "token ids"),
        ("/", {"messages": [{"role": "user"}]}, "takes `inputs`, not `messages`"),
        ("/v2/embed", {"model": "nano", "input_type": "image", "input": ["a"]}, "takes `texts`, not `input`"),
        ("/v2/embed", {"model": "nano", "texts": ["a"]}, "`input_type` is missing or null: send one of"),
        ("/vectorize", {"texts": "a"}, "`texts` is a string: send a list"),
    ],
)
def test_a_wrong_field_is_named_in_the_other_forms_of_errors_too(server, path, body, words):
    answer = server.client.post(path, json=body)
    assert 400 <= answer.status_code < 500
    assert words in answer.text


@pytest.mark.parametrize("value", [5, [5], [1, 2, 3], [[1, 2], [3]], [[0]]])
def test_only_integers_are_called_token_ids(server, value):
    assert "token ids" in detail_of(server.post(value), 400)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "GZIP", "identity, gzip"])
def test_a_compressed_body_is_refused_with_the_name_of_its_encoding(server, encoding):
    headers = {"Content-Encoding": encoding}
    answer = server.client.post("/v1/embeddings", content=gzip.compress(b"{}"), headers=headers)
    name = encoding.lower().removeprefix("identity, ").removeprefix("x-")
    assert f"compressed (Content-Encoding: {name}): send it uncompressed" in detail_of(answer, 415)
    assert answer.headers["Accept-Encoding"] == "identity"


def test_an_encoding_that_nobody_knows_is_not_repeated(server):
    answer = server.client.post("/v1/embeddings", json=GOOD, headers={"Content-Encoding": "canary"})
    assert "an encoding that is not known" in detail_of(answer, 415)
    assert server.client.post("/v1/embeddings", json=GOOD, headers={"Content-Encoding": "identity"}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v2/embed", "/embed", "/vectorize", "/predict", "/score"])
def test_every_dialect_refuses_a_compressed_body(server, path):
    answer = server.client.post(path, content=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, "gzip" in answer.text) == (415, True)


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 400, "the body is empty: send a JSON object with `model` and `input`"),
        (b" \n", 400, "the body is empty"),
        (gzip.compress(b"{}", mtime=0), 415, "is compressed with gzip"),
        (zlib.compress(b"{}" * 9), 415, "is compressed with deflate"),
        (b"model=nano&input=a", 400, "the body is a form: send JSON"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n', 400, "a form in several parts"),
        (b"<?xml version='1.0'?>", 400, "XML or HTML"),
        (b"{'model': 'nano'}", 400, "single quotation marks"),
        ('{"model": "nano"}'.encode("utf-16"), 400, "UTF-16"),
        ('{"model": "nano"}'.encode("utf-16-le"), 400, "UTF-16"),
        (b'{"model": "\xe9"}', 400, "is not UTF-8 at byte 11"),
        (b'{"model": "nano", "input": NaN}', 400, "NaN or Infinity"),
        (b'{"input": ' + b"9" * 5000 + b"}", 400, "too many digits"),
        (b'{"model": "nano"} {}', 400, "something follows after its end, at line 1, column 19"),
        (b'{"model": "nano",\n "input": "a', 400, "a string has no end, at line 2, column 11"),
        (b'{"model": "nano" "input"}', 400, "a comma or a closing bracket is missing"),
        (b'{"model" "nano"}', 400, "a colon is missing"),
        (b'{model: "nano"}', 400, "a field's name in double quotation marks is missing"),
        (b'{"model": nano}', 400, "a value is missing"),
        (b'{"model": "a\nb"}', 400, "a control character"),
        (rb'{"model": "\x"}', 400, "a backslash that begins no escape"),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b"[]", 422, "the body is a list: send an object with"),
        (b"null", 422, "the body is null"),
    ],
)
def test_a_body_that_is_no_json_is_told_what_it_is(server, content, status, words):
    assert words in detail_of(server.client.post("/v1/embeddings", content=content), status)


@pytest.mark.parametrize(
    ("content_type", "words"),
    [
        ("multipart/form-data; boundary=x", "a form in several parts"),
        ("image/png", "is an image"),
        ("application/xml", "is XML"),
        ("APPLICATION/MSGPACK", "is MessagePack"),
    ],
)
def test_a_content_type_of_another_language_is_refused_with_its_name(server, content_type, words):
    answer = server.client.post("/v1/embeddings", content=PNG, headers={"Content-Type": content_type})
    assert words in detail_of(answer, 415)
    assert "send JSON" in answer.text


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", "application/x-www-form-urlencoded", "text/plain", "application/a+json", ""],
)  # fmt: skip
def test_json_under_another_name_is_read(server, content_type):
    headers = {"Content-Type": content_type}
    answer = server.client.post("/v1/embeddings", content=json.dumps(GOOD).encode(), headers=headers)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/embeddings", "POST /v1/embeddings"),
        ("/v1/v1/embeddings", "POST /v1/embeddings"),
        ("/v1/embedding", "POST /v1/embeddings"),
        ("/v1/embed", "POST /embed"),
        ("/v1/Embeddings", "POST /v1/embeddings"),
        ("//v1//embeddings", "POST /v1/embeddings"),
        ("/openai/v1/embeddings", "POST /v1/embeddings"),
        ("/api/embed", "POST /embed"),
        ("/v2/embeddings", "POST /v1/embeddings"),
        ("/v1/invocations", "POST /invocations"),
        ("/models", "GET /v1/models"),
        ("/healthz", "GET /health"),
    ],
)
def test_an_unknown_route_is_told_the_near_one_and_all_others(server, path, near):
    status, detail = 404, check_refusal(server.client.post(f"{server.url}{path}", json=GOOD))["detail"]
    assert (status, f"Did you mean {near}?" in detail) == (404, True), detail
    for route in ("/v1/embeddings", "/v2/embed", "/embed", "/vectorize", "/invocations", "/predict", "/score", "/live"):
        assert f" {route}" in detail


@pytest.mark.parametrize("path", ["/canary", "/v1/canary", "/v1/chat/completions", "/x" * 3000, "/%ff%fe", "/v1"])
def test_a_route_that_is_near_to_none_is_told_the_routes(server, path):
    detail = detail_of(server.client.get(path), 404)
    assert "canary" not in detail
    assert "/v1/embeddings" in detail


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/embeddings", "POST"),
        ("DELETE", "/v1/models/nano", "GET, HEAD"),
        ("PUT", "/health", "GET, HEAD"),
        ("GET", "/weaviate/64/vectorize", "POST"),
        ("GET", "/", "POST"),
        ("OPTIONS", "/embed/", "POST"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(server, method, path, allowed):
    answer = server.client.request(method, path)
    assert answer.headers["Allow"] == allowed
    assert allowed.replace(", ", " and ") in detail_of(answer, 405)


@pytest.mark.parametrize("path", ["/v1/embeddings/", "/v1/embeddings//", "/v1/embeddings/?a=b"])
def test_a_slash_at_the_end_changes_nothing(server, encoder, path):
    answer = server.client.post(path, json=GOOD)
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(answer.json()["data"][0]["embedding"], encoder.encode_text(["a star"])[0], atol=1e-6)


@pytest.mark.parametrize("path", ["/v1/models/", "/health/", "/info/", "/weaviate/64/meta/", "/v1/models/nano/"])
def test_a_slash_at_the_end_of_other_routes_changes_nothing(server, path):
    answer = server.client.get(path)
    assert answer.status_code == 200
    assert answer.text == server.client.get(path.rstrip("/")).text


def test_a_slash_at_the_end_is_refused_while_the_queue_is_full_as_without_it(held_model):
    with Server(held_model) as server:
        server.uvicorn.lifespan.state["shedding"].unanswered += 10**6
        answers = [server.client.post(path, json=GOOD) for path in ("/v1/embeddings", "/v1/embeddings/")]
        server.uvicorn.lifespan.state["shedding"].unanswered -= 10**6
        assert [answer.status_code for answer in answers] == [429, 429]
        assert 429 not in server.judged.statuses


# Content that no error may repeat: as a text, in the numbers of a request, in its names, and in the bytes of an image.
CANARY = "zqxjkvbw"
NUMBER = 918273645
PLACES = [CANARY, [CANARY], {CANARY: CANARY}, {"text": {CANARY: 1}}, {"image": CANARY}, NUMBER, [NUMBER], [[CANARY]]]
ROUTES = {
    "/v1/embeddings": ("model", "input", "dimensions", "embedding_type", "task", "truncate", "normalized", "modality"),
    "/v2/embed": (
        "model",
        "texts",
        "images",
        "inputs",
        "input_type",
        "embedding_types",
        "output_dimension",
        "truncate",
    ),
    "/embed": ("inputs", "dimensions", "truncate", "normalize", "prompt_name", "truncation_direction", "modality"),
    "/vectorize": ("texts", "images"),
    "/invocations": ("data", "input", "model", "parameters", "modality"),
    "/predict": ("instances", "parameters"),
    "/score": ("input_data", "input", "model"),
}
FIELDS: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"model": "nano", "input": "a"},
    "/v2/embed": {"model": "nano", "input_type": "search_document", "texts": ["a"]},
    "/embed": {"inputs": "a"},
    "/vectorize": {},
    "/invocations": {"data": ["a"]},
    "/predict": {"instances": ["a"]},
    "/score": {"input": "a"},
}


def check_silent(answer):
    """Fail if an error repeats the canary, in any of the ways in which it was written."""
    if answer.status_code != 200:
        said = (answer.text + str(answer.headers)).lower()
        assert CANARY not in said
        assert CANARY[:4] not in said
        assert str(NUMBER) not in said
        assert base64.b64encode(CANARY.encode()).decode().lower()[:8] not in said


@pytest.mark.parametrize("path", ROUTES)
def test_no_error_repeats_a_field(server, path):
    for name in (*ROUTES[path], CANARY):
        for value in (*PLACES, {"columns": [CANARY], "data": [CANARY]}, {"dimensions": NUMBER, "task": CANARY}):
            check_silent(server.client.post(path, json={**FIELDS[path], name: value}))
            check_silent(server.client.post(path, json={name: value}))
    check_silent(server.client.post(path + CANARY, json=FIELDS[path]))
    check_silent(server.client.request("GET", f"{path}/{CANARY}"))
    for content in (CANARY, f'{{"{CANARY}', f"{CANARY}={CANARY}", f'{{"a": "\\{CANARY}"}}', f'{{"a": {CANARY}}}'):
        check_silent(server.client.post(path, content=content))
    for headers in ({"Content-Type": CANARY}, {"Content-Encoding": CANARY}, {"Authorization": CANARY}):
        check_silent(server.client.post(path, content=CANARY, headers=headers))


def test_no_error_repeats_a_path_or_a_parameter(server):
    for path in (f"/{CANARY}", f"/v1/models/{CANARY}", f"/weaviate/{CANARY}/meta", f"/live/{CANARY}?{CANARY}={CANARY}"):
        check_silent(server.client.get(path))
    check_silent(server.client.post(f"/weaviate/{CANARY}/vectorize", json={"texts": ["a"]}))


def with_canaries(data):
    """A picture's file with the canary in each of many places."""
    for place in (0, 4, 8, 12, 16, 20, 33, 37, 41, len(data) // 2, len(data) - 12):
        yield data[:place] + CANARY.encode() + data[place + len(CANARY) :]
        yield data[:place] + CANARY.encode() + data[place:]
    yield CANARY.encode() * 20


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_no_error_repeats_bytes_of_an_image(server, format_):
    items = [{"image": base64.b64encode(each).decode()} for each in with_canaries(encoded(PICTURE, format_))]
    answer = server.post(items, partial=True)
    assert answer.json()["errors"]
    said = "".join(each["detail"] for each in answer.json()["errors"]).lower()
    assert CANARY[:4] not in said


@pytest.mark.parametrize(
    "url", [f"https://{CANARY}.example/a.png", f"https://{CANARY}.example:22/", f"http://{CANARY}/"]
)
def test_no_error_repeats_an_address(server, model, url):
    check_silent(server.post([{"image": url}]))
    with Server(model, image_urls=True, allowed_hosts=["images.example.com"]) as fetching:
        answer = fetching.post([{"image": url}])
        assert answer.status_code == 400
        check_silent(answer)
        assert "22" not in answer.json()["detail"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.just(NUMBER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.just(CANARY)
    | st.just(DATA_URI),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "image", "url", "type", "content", CANARY]), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.mark.hypothesis
@settings(max_examples=examples(150), derandomize=True, database=None, deadline=None)
@given(path=st.sampled_from(sorted(ROUTES)), data=st.data())
def test_whatever_is_sent_no_error_repeats_it_and_none_is_the_servers(server, path, data):
    fields = st.dictionaries(st.sampled_from([*ROUTES[path], CANARY]), JSON, max_size=3)
    answer = server.client.post(path, json={**FIELDS[path], **data.draw(fields)})
    assert answer.status_code < 500
    check_silent(answer)


def test_a_picture_that_is_too_large_says_its_size_and_not_its_bytes(server):
    detail = detail_of(server.post([{"image": base64.b64encode(png(30_000, 30_000)).decode()}]), 400)
    assert "30000" in detail
    assert PNG_BASE64[:8] not in detail
