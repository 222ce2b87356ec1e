"""Pages in a browser: without the option no page of another origin reads anything; with it, those that are allowed."""

import logging

import pytest

from core_encoder.errors import ConfigError
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.limits import ServerLimits
from jclip_connectors.server.serve import serve
from tests.server.harness import Server, in_background, wait_until
from tests.server.test_observation import lines

PAGE, OTHER = "http://localhost:3000", "https://other.example"
GOOD = {"model": "nano", "input": "a star"}
QUESTION = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


@pytest.fixture(scope="module")
def open_to_a_page(model):
    with Server(model, cors_origins=[PAGE, "https://app.example.com:443"], api_keys=["a-key"]) as running:
        yield running


@pytest.fixture(scope="module")
def open_to_all(model):
    with Server(model, cors_origins=["*"]) as running:
        yield running


def question(server, origin, path="/v1/embeddings", **headers):
    return server.client.options(path, headers={"Origin": origin, **QUESTION, **headers})


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/models", "/v2/embed/", "/nothing"])
def test_a_page_of_an_allowed_origin_may_ask_with_a_key(open_to_a_page, path):
    answer = question(open_to_a_page, PAGE, path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Vary"] == "Origin"


def test_the_headers_of_other_clients_are_allowed_and_what_is_no_header_is_not(open_to_a_page):
    many = "authorization, x-api-key, x-stainless-lang, x-stainless-retry-count, content-type"
    asked = question(open_to_a_page, PAGE, **{"Access-Control-Request-Headers": many})
    assert asked.headers["Access-Control-Allow-Headers"] == many
    for odd in ("a b", "x" * 5000, "a;b", ""):
        asked = question(open_to_a_page, PAGE, **{"Access-Control-Request-Headers": odd})
        assert asked.headers["Access-Control-Allow-Headers"] == "authorization, content-type"


def test_answers_and_refusals_can_be_read_by_the_allowed_page(open_to_a_page):
    key = {"Authorization": "Bearer a-key"}
    answers = {
        200: open_to_a_page.client.post("/v1/embeddings", json=GOOD, headers={"Origin": PAGE, **key}),
        401: open_to_a_page.client.post("/v1/embeddings", json=GOOD, headers={"Origin": PAGE}),
        404: open_to_a_page.client.get("/nothing", headers={"Origin": PAGE}),
        405: open_to_a_page.client.get("/v1/embeddings", headers={"Origin": PAGE}),
        422: open_to_a_page.client.post("/v1/embeddings", json={"model": "nano"}, headers={"Origin": PAGE, **key}),
        415: open_to_a_page.client.post(
            "/v1/embeddings", content=b"x", headers={"Origin": PAGE, **key, "Content-Encoding": "gzip"}
        ),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert answer.headers["Vary"] == "Origin"
        assert "Retry-After" in answer.headers["Access-Control-Expose-Headers"]


def test_a_failure_of_the_server_can_be_read_too(open_to_a_page, monkeypatch):
    def fail(_body, _dialect):
        raise RuntimeError("secret words")

    monkeypatch.setattr(open_to_a_page.app.state.service, "answer", fail)
    headers = {"Origin": PAGE, "Authorization": "Bearer a-key"}
    answer = open_to_a_page.client.post("/v1/embeddings", json=GOOD, headers=headers)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (500, PAGE)
    assert answer.headers["X-Request-ID"]


@pytest.mark.parametrize(
    "origin",
    [OTHER, "null", "http://localhost:3001", "http://localhost:3000.evil.example", "https://localhost:3000", ""],
)
def test_a_page_of_another_origin_may_read_nothing(open_to_a_page, origin):
    asked = question(open_to_a_page, origin)
    assert asked.status_code == 403
    assert "--cors-origin" in asked.json()["detail"]
    answer = open_to_a_page.client.get("/live", headers={"Origin": origin})
    assert answer.status_code == 200
    for each in (asked, answer):
        assert "Access-Control-Allow-Origin" not in each.headers
        assert each.headers["Vary"] == "Origin"


def test_a_browsers_question_is_a_line_in_the_log_too(open_to_a_page, caplog):
    with caplog.at_level(logging.INFO):
        asked = question(open_to_a_page, PAGE)
        wait_until(lambda: lines(caplog))
    (line,) = lines(caplog)
    assert (line["route"], line["status"], line["request_id"]) == ("preflight", 204, asked.headers["X-Request-ID"])


def test_a_request_of_no_page_is_answered_as_ever(open_to_a_page):
    answer = open_to_a_page.client.get("/live")
    assert (answer.status_code, "Access-Control-Allow-Origin" in answer.headers) == (200, False)
    assert answer.headers["Vary"] == "Origin"


def test_a_port_that_browsers_leave_out_and_capital_letters_make_no_other_origin(open_to_a_page, model):
    assert question(open_to_a_page, "https://app.example.com").status_code == 204
    with Server(model, cors_origins=["HTTPS://App.Example.com"]) as server:
        assert question(server, "https://app.example.com").status_code == 204


def test_a_star_lets_every_page_read(open_to_all):
    assert question(open_to_all, OTHER).headers["Access-Control-Allow-Origin"] == "*"
    answer = open_to_all.client.post("/v1/embeddings", json=GOOD, headers={"Origin": "null"})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, "*")
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_without_the_option_a_browsers_question_is_told_of_it(server):
    answer = question(server, PAGE)
    assert answer.status_code == 403
    assert "start the server with --cors-origin" in answer.json()["detail"]
    answer = server.client.post("/v1/embeddings", json=GOOD, headers={"Origin": PAGE})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control") or name == "vary"]
    assert server.client.options("/v1/embeddings").status_code == 405


def test_a_refusal_before_the_application_can_be_read_by_each_allowed_page(held_model, held):
    pages = [PAGE, "https://app.example.com"]
    with Server(held_model, limits=ServerLimits(max_waiting_requests=1), cors_origins=pages) as server:
        with in_background(server.post, "first") as first:
            wait_until(lambda: len(held.batches) == 1)
            for origin in (*pages, OTHER, PAGE, None):
                headers = {} if origin is None else {"Origin": origin}
                answer = server.client.post("/v1/embeddings", json=GOOD, headers=headers)
                assert answer.status_code == 429
                assert answer.headers.get("Access-Control-Allow-Origin") == (origin if origin in pages else None)
                assert answer.headers["Vary"] == "Origin"
                assert int(answer.headers["Retry-After"]) >= 1
            assert 429 not in server.judged.statuses
            assert question(server, PAGE).status_code == 204
            held.gate.set()
        assert first[0].status_code == 200


@pytest.mark.parametrize(
    "origins",
    [
        ["localhost:3000"], ["http://localhost:3000/"], ["https://app.example.com/path"], ["*", PAGE], [""], ["null"],
        ["https://*.example.com"], ["https://user@example.com"], ["https://a.example\r\nX: y"], "https://a.example",
        ["http://localhost:3000 "],
    ],
)  # fmt: skip
def test_an_origin_that_no_browser_sends_is_refused_before_the_model_is_loaded(monkeypatch, origins):
    monkeypatch.setattr("logging.config.dictConfig", lambda _: None)
    with pytest.raises(ConfigError, match="`cors_origins`"):
        serve(EmbeddingConfig(model="no/such-model-anywhere"), cors_origins=origins)


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8000", "http://[::1]:3000", "tauri://localhost", "app://a_b.c"])
def test_origins_of_every_form_are_allowed(model, origin):
    with Server(model, cors_origins=[origin]) as server:
        assert question(server, origin).headers["Access-Control-Allow-Origin"] == origin
