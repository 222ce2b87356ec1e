"""Requests that come at the same time: they share batches, take turns, give up, and are finished at the end."""

import dataclasses
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.limits import ServerLimits
from jclip_connectors.server.preparation import PreparedImage
from jclip_connectors.server.serve import load_served_model
from tests.checkpoints import V2_TINY
from tests.server.harness import DATA_URI, Server, in_background, wait_until


def test_requests_that_wait_share_one_batch(held_model, held):
    with Server(held_model) as server:
        with in_background(server.post, "first") as first:
            wait_until(lambda: held.batches == [("text", 1)])
            with in_background(server.post, ["a", "b"], count=5) as others:
                wait_until(lambda: server.engine.waiting_tokens >= 30)
                held.gate.set()
        assert [answer.status_code for answer in first + others] == [200] * 6
        assert held.batches == [("text", 1), ("text", 10)]


def test_a_batch_stays_within_its_tokens(held_model, held):
    with Server(dataclasses.replace(held_model, batch_tokens=12)) as server:
        held.gate.set()
        server.post(["a star"] * 9)
        cost = held.count_tokens(["a star"])[0]
        assert {count for _, count in held.batches} == {12 // cost}


def test_items_that_each_cost_more_than_a_batch_are_computed_one_by_one(held_model, held):
    with Server(dataclasses.replace(held_model, batch_tokens=12)) as server:
        lane = server.engine._lanes[PreparedImage]
        with in_background(server.post, [DATA_URI], count=3) as answers:
            wait_until(lambda: held.batches and sum(len(each.places[PreparedImage]) for each in list(lane.turns)) == 2)
            held.gate.set()
        assert [answer.status_code for answer in answers] == [200] * 3
        assert held.batches == [("image", 1)] * 3


def test_a_text_does_not_wait_for_all_the_images_before_it(held_model, held):
    with Server(dataclasses.replace(held_model, batch_tokens=60)) as server:
        with in_background(server.post, [DATA_URI] * 10) as images:
            wait_until(lambda: len(held.batches) == 1 and server.engine.waiting_tokens > 0)
            waiting = server.engine.waiting_tokens
            with in_background(server.post, "a star") as texts:
                wait_until(lambda: server.engine.waiting_tokens > waiting)
                held.gate.set()
        assert [answer.status_code for answer in images + texts] == [200, 200]
        assert [kind for kind, _ in held.batches[:3]] == ["image", "text", "image"]


def test_an_image_does_not_wait_for_all_the_texts_before_it(held_model, held):
    with Server(dataclasses.replace(held_model, batch_tokens=12)) as server:
        images = server.engine._lanes[PreparedImage]
        with in_background(server.post, ["a star"] * 50) as texts:
            wait_until(lambda: len(held.batches) == 1 and server.engine.waiting_tokens > 0)
            with in_background(server.post, [DATA_URI]) as image:
                wait_until(lambda: any(ticket.places[PreparedImage] for ticket in list(images.turns)))
                held.gate.set()
        assert [answer.status_code for answer in texts + image] == [200, 200]
        assert [kind for kind, _ in held.batches[:3]] == ["text", "image", "text"]
        assert len(held.batches) > 4


def test_many_clients_at_once_each_get_their_own_vectors(model):
    texts = [f"{colour} {shape} {n}" for colour in ("red", "blue") for shape in ("star", "circle") for n in range(15)]
    expected = model.encoder.encode_text(texts)
    with Server(model) as server, ThreadPoolExecutor(16) as clients:
        vectors = list(clients.map(lambda text: server.vectors(text)[0], texts))
    assert np.abs(np.array(vectors) - expected).max() <= 1e-6


def test_what_the_model_cannot_compute_fails_alone_and_not_the_batch_that_it_shares(held_model, held):
    held.poison = held.tokenize(["bad"], task=None, max_tokens=None)[0].ids
    with Server(held_model) as server:
        with in_background(server.post, "first"):
            wait_until(lambda: len(held.batches) == 1)
            with (
                in_background(server.post, ["a", "b", "c"]) as good,
                in_background(server.post, ["a star", "bad"]) as bad,
            ):
                wait_until(lambda: server.engine.waiting_tokens >= 15)
                held.gate.set()
        assert held.batches[1] == ("text", 5)
        assert good[0].status_code == 200
        assert (bad[0].status_code, bad[0].json()["code"]) == (500, "INTERNAL_ERROR")


def test_a_model_that_is_broken_is_not_asked_again_for_each_item_and_its_words_are_not_logged(held_model, held, caplog):
    held.poison = held.tokenize(["bad"], task=None, max_tokens=None)[0].ids
    held.error = RuntimeError("what a client has sent")
    held.gate.set()
    with Server(held_model) as server:
        answer = server.post(["a", "bad", "c"])
    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL_ERROR")
    assert "has sent" not in answer.text + caplog.text
    assert "a batch of 3 items failed: RuntimeError" in caplog.text
    assert held.batches == [("text", 3)]


def test_a_small_request_does_not_wait_for_the_whole_of_a_large_one_before_it(held_model, held):
    with Server(dataclasses.replace(held_model, batch_tokens=12)) as server:
        with in_background(server.post, ["a star"] * 50) as large:
            wait_until(lambda: len(held.batches) == 1 and server.engine.waiting_tokens > 0)
            waiting = server.engine.waiting_tokens
            with in_background(server.post, "a circle") as small:
                wait_until(lambda: server.engine.waiting_tokens > waiting)
                held.gate.set()
                wait_until(lambda: small)
                assert server.engine.waiting_tokens > waiting / 2
        assert [answer.status_code for answer in large + small] == [200, 200]


def test_a_request_with_many_images_has_few_of_them_decoded_at_a_time(held_model, held):
    with Server(dataclasses.replace(held_model, batch_tokens=60)) as server:
        ahead = server.app.state.service._images_ahead
        with in_background(server.post, [DATA_URI] * 50) as answers:
            wait_until(lambda: len(held.batches) == 1)
            waiting = server.engine.waiting_tokens
            time.sleep(0.2)
            queued = sum(len(ticket.places[PreparedImage]) for ticket in server.engine._lanes[PreparedImage].turns)
            held.gate.set()
        assert queued < ahead < 20
        assert waiting > 40 * server.app.state.service._preparation.image_cost
        assert len(answers[0].json()["data"]) == 50
        assert server.engine.waiting_tokens == 0


def test_work_that_would_wait_too_long_is_refused_although_it_is_little(held_model, held):
    with Server(dataclasses.replace(held_model, batch_tokens=12), limits=ServerLimits(max_wait_s=1)) as server:
        held.gate.set()
        held.delay_s = 0.6
        server.post(["a star"] * 4)  # by which the speed becomes known
        with in_background(server.post, ["a star"] * 20) as slow:
            wait_until(lambda: server.engine.waiting_tokens >= 40)
            refused = server.post("a circle")
            held.delay_s = 0
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 1
        assert slow[0].status_code == 200


def test_nobody_is_told_to_come_back_later_than_in_a_minute(held_model, held):
    limits = ServerLimits(max_waiting_tokens=1000)
    with Server(dataclasses.replace(held_model, batch_tokens=12), limits=limits) as server:
        held.gate.set()
        held.delay_s = 0.6
        server.post(["a star"] * 3)  # some 20 tokens a second
        held.delay_s = 0
        held.gate.clear()
        with in_background(server.post, ["a star"] * 500) as large:
            wait_until(lambda: server.engine.waiting_tokens >= 1900)
            refused = server.post("a circle")
            held.gate.set()
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "60"
        assert large[0].status_code == 200


def test_a_small_slow_batch_says_nothing_of_how_long_full_batches_take(held_model, held):
    with Server(dataclasses.replace(held_model, batch_tokens=12), limits=ServerLimits(max_wait_s=1)) as server:
        held.gate.set()
        held.delay_s = 0.6
        server.post("a star")
        held.gate.clear()
        held.delay_s = 0
        with in_background(server.post, ["a star"] * 20) as large:
            wait_until(lambda: server.engine.waiting_tokens >= 40)
            with in_background(server.post, "a circle") as small:
                wait_until(lambda: small or server.engine._num_requests == 2)
                held.gate.set()
        assert [answer.status_code for answer in large + small] == [200, 200]


def test_a_query_that_only_its_prefix_makes_too_long_is_refused_or_cut():
    text = "star " * 12
    tiny = load_served_model(EmbeddingConfig(model=str(V2_TINY)), device="cpu")
    config = EmbeddingConfig(
        model=str(V2_TINY), max_tokens=tiny.encoder.tokenize([text], task=None, max_tokens=None)[0].num_tokens
    )
    with Server(tiny, config=config) as server:
        options = {"model": V2_TINY.name, "task": "retrieval.query"}
        refused = server.post(["a", text], **options)
        assert (refused.status_code, refused.json()["code"]) == (400, "INPUT_TOKEN_LIMIT_EXCEEDED")
        assert refused.json()["detail"].startswith("item 1")
        assert server.post(["a", text], truncate=True, **options).status_code == 200


def test_a_full_queue_is_answered_with_when_to_come_back(held_model, held):
    with Server(held_model, limits=ServerLimits(max_waiting_tokens=5)) as server:
        with in_background(server.post, "first") as first:
            wait_until(lambda: len(held.batches) == 1)
            with in_background(server.post, ["a star"] * 5) as second:
                wait_until(lambda: server.engine.waiting_tokens > 5)
                refused = server.post("too many")
                probe = server.client.get("/ready")
                held.gate.set()
        assert (refused.status_code, refused.json()["code"]) == (429, "RATE_CONCURRENCY_LIMIT_EXCEEDED")
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert probe.status_code == 503
        assert [answer.status_code for answer in first + second] == [200, 200]
        assert server.post("and now").status_code == 200


def test_a_client_that_goes_frees_its_places(held_model, held):
    with Server(held_model) as server:
        with in_background(server.post, "first") as first:
            wait_until(lambda: len(held.batches) == 1)
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(
                    f"{server.url}/v1/embeddings",
                    json={"model": "nano", "input": ["gone"] * 5},
                    timeout=httpx.Timeout(30, read=1),
                    trust_env=False,
                )
            wait_until(lambda: server.engine.waiting_tokens == 0)
            held.gate.set()
        assert first[0].status_code == 200
        assert held.batches == [("text", 1)]


def test_a_client_that_goes_while_its_batch_is_computed_does_not_take_the_others_answers_along(held_model, held):
    body = b'{"model": "nano", "input": ["gone"]}'
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with Server(held_model) as server:
        with in_background(server.post, "first"):
            wait_until(lambda: len(held.batches) == 1)
            first_gate, held.gate = held.gate, threading.Event()
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(head + body)
                wait_until(lambda: server.engine.waiting_tokens > 0)
                waiting = server.engine.waiting_tokens
                with in_background(server.post, ["a star"]) as other:
                    wait_until(lambda: server.engine.waiting_tokens > waiting)
                    first_gate.set()
                    wait_until(lambda: len(held.batches) == 2)
                    connection.close()
                    wait_until(lambda: server.engine._num_requests == 1)
                    held.gate.set()
        assert held.batches == [("text", 1), ("text", 2)]
        assert [answer.status_code for answer in other] == [200]


def test_stopping_finishes_what_was_accepted(held_model, held):
    with Server(held_model) as server:
        with in_background(server.post, ["a star", DATA_URI], count=6) as answers:
            wait_until(lambda: len(held.batches) == 1)
            wait_until(lambda: server.engine.waiting_tokens >= 6 * server.app.state.service._preparation.image_cost)
            server.stop()
            held.gate.set()
        assert [answer.status_code for answer in answers] == [200] * 6
