"""What the server tells of itself: metrics, one line a request, and an id with every answer; never content."""

import json
import logging

from tests.server.harness import DATA_URI, Server


def lines(caplog):
    return [json.loads(each.getMessage()) for each in caplog.records if each.name == "jclip_connectors.server"]


def metric(server, name):
    samples = [line for line in server.client.get("/metrics").text.splitlines() if line.startswith(name)]
    assert samples, name
    return sum(float(line.rsplit(" ", 1)[1]) for line in samples)


def test_metrics_count_requests_tokens_and_batches(model):
    with Server(model) as server:
        server.post(["a star", DATA_URI])
        server.post("a star")
        server.post([])
        assert metric(server, 'jclip_requests_total{route="/v1/embeddings",status="200"}') == 2
        assert metric(server, 'jclip_requests_total{route="/v1/embeddings",status="422"}') == 1
        assert metric(server, 'jclip_request_seconds_count{route="/v1/embeddings"}') == 3
        assert metric(server, 'jclip_tokens_total{kind="image"}') > 0
        assert metric(server, 'jclip_batch_items_sum{kind="text"}') == 2
        assert metric(server, 'jclip_batch_items_sum{kind="image"}') == 1
        assert metric(server, "jclip_waiting_tokens") == 0


def test_paths_that_are_no_routes_make_no_metrics_of_their_own(model):
    with Server(model) as server:
        for number in range(3):
            server.client.get(f"/secret-{number}")
        text = server.client.get("/metrics").text
        assert 'jclip_requests_total{route="unknown",status="404"} 3.0' in text
        assert "secret" not in text


def test_metrics_are_for_those_who_have_a_key(model):
    with Server(model, api_keys=["a-key"]) as server:
        assert server.client.get("/metrics").status_code == 401
        assert server.client.get("/metrics", headers={"Authorization": "Bearer a-key"}).status_code == 200


def test_every_request_is_one_line_without_its_content(model, caplog):
    with caplog.at_level(logging.INFO), Server(model) as server:
        good = server.post(["secret words", DATA_URI])
        bad = server.post({"secret": "words"}, model="secret-model")
        lost = server.client.get("/secret-path?secret=query")
    first, second, third = lines(caplog)
    assert (first["status"], first["route"], first["items"]) == (200, "/v1/embeddings", 2)
    assert first["tokens"] == good.json()["usage"]["total_tokens"]
    assert (second["status"], second["code"]) == (400, "INPUT_MODEL_NOT_FOUND")
    assert (third["status"], third["route"]) == (404, "unknown")
    assert [each["request_id"] for each in (first, second, third)] == [
        answer.headers["X-Request-ID"] for answer in (good, bad, lost)
    ]
    ours = [each.getMessage() for each in caplog.records if each.name.startswith("jclip")]
    assert "secret" not in "".join(ours)


def test_an_error_names_the_id_of_its_line(server):
    answer = server.post([])
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


def test_openais_clients_find_what_they_read_of_an_error(server):
    error = server.post("a star", dimensions=0).json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", "dimensions")
    assert "`dimensions` is less than 1" in error["message"]
