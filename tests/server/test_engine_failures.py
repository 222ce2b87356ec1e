"""Whatever the model raises fails its batch alone; if the model's thread ends after all, everybody is told."""

import asyncio
import ctypes
import dataclasses
import logging
import threading

import numpy as np
import pytest

from tests.server.harness import DATA_URI, Server, in_background, wait_until
from tests.server.openapi_check import find_problem


class Panic(BaseException):
    """As the libraries raise that are written in Rust: it is no `Exception`."""


RAISED = [
    MemoryError, RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, StopIteration,
    Panic, AssertionError, RecursionError,
]  # fmt: skip


class Failing:
    """An encoder that raises once, or gives something that is no vectors."""

    def __init__(self, encoder):
        self._encoder = encoder
        self.error = None
        self.rows = None

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_tokens(self, texts, **options):
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if self.rows is not None:
            rows, self.rows = self.rows, None
            return rows
        return self._encoder.encode_tokens(texts, **options)


@pytest.fixture(scope="module")
def failing(model):
    encoder = Failing(model.encoder)
    with Server(dataclasses.replace(model, encoder=encoder)) as server:
        server.failing = encoder
        yield server


@pytest.mark.parametrize("kind", RAISED)
def test_whatever_the_model_raises_fails_its_batch_and_no_other(failing, caplog, kind):
    failing.failing.error = kind("secret words")
    answer = failing.post("secret words")
    assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL_ERROR")
    assert "secret" not in answer.text + caplog.text
    assert f"a batch of 1 items failed: {kind.__name__}" in caplog.text
    assert failing.client.get("/live").status_code == 200
    assert failing.post(["a star", DATA_URI]).status_code == 200


@pytest.mark.parametrize("rows", [np.zeros((0, 128), np.float32), np.zeros((5, 128), np.float32), None, 5])
def test_a_model_that_gives_another_number_of_vectors_fails_its_batch(failing, rows):
    failing.failing.rows = rows if rows is not None else ()
    assert failing.post(["a", "b"]).status_code == 500
    assert failing.post(["a star", DATA_URI]).status_code == 200


def test_a_failure_that_cannot_be_logged_is_answered_all_the_same(failing, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("jclip_connectors.server.engine.log_failure", fail)
    failing.failing.error = MemoryError()
    assert failing.post("a star").status_code == 500
    assert failing.post("a star").status_code == 200


@pytest.mark.parametrize("kind", [Panic, SystemExit, KeyboardInterrupt, MemoryError, RuntimeError])
@pytest.mark.parametrize("text", ["secret words", "secret words " * 200])
def test_what_the_tokenizer_raises_fails_its_request_and_no_other(model, caplog, monkeypatch, kind, text):
    error = kind("secret words")

    def fail(*_args, **_options):
        raise error

    with Server(model) as server:
        monkeypatch.setattr(server.app.state.service._preparation, "prepare_texts", fail)
        answer = server.post(text)
        monkeypatch.undo()
        assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL_ERROR")
        assert answer.headers["X-Request-ID"]
        assert "secret" not in answer.text + caplog.text
        assert f"a request failed: {kind.__name__}" in caplog.text
        assert server.post("a star").status_code == 200


@pytest.mark.parametrize("kind", [Panic, SystemExit, MemoryError])
def test_what_the_decoder_of_images_raises_fails_its_request_and_no_other(model, monkeypatch, kind):
    error = kind("secret words")

    def fail(*_args, **_options):
        raise error

    with Server(model) as server:
        monkeypatch.setattr(server.app.state.service._preparation, "prepare_image", fail)
        answer = server.post(["a star", DATA_URI])
        monkeypatch.undo()
        assert (answer.status_code, answer.json()["code"]) == (500, "INTERNAL_ERROR")
        assert "secret" not in answer.text
        assert server.post(["a star", DATA_URI]).status_code == 200


def check_dead(server):
    """All probes but Prometheus' say that the server must be started again, and no request waits."""
    for path in ("/live", "/health", "/ready", "/ping", "/.well-known/live", "/weaviate/64/.well-known/ready"):
        answer = server.client.get(path)
        assert answer.status_code == 503, path
        assert "start the server again" in answer.json()["detail"]
    for body in (["a star"], [DATA_URI], ["a star"] * 300):
        answer = server.post(body)
        assert answer.status_code == 503
        assert "start the server again" in answer.json()["detail"]
        assert find_problem("POST", "/v1/embeddings", 503, answer.headers["Content-Type"], answer.content) is None
    assert server.client.get("/metrics").status_code == 200


@pytest.mark.parametrize("kind", [SystemExit, MemoryError, Panic])
def test_a_thread_that_is_killed_makes_the_probes_fail(model, caplog, kind):
    with caplog.at_level(logging.ERROR), Server(model) as server:
        assert server.post("a star").status_code == 200
        thread = next(each for each in threading.enumerate() if each in server.engine._thread._threads)
        assert thread.ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(kind))
        assert server.post("the one that wakes it").status_code in (500, 503)
        wait_until(lambda: not server.engine.is_alive)
        check_dead(server)
    assert f"the model's thread failed: {kind.__name__}" in caplog.text


def test_whoever_waits_when_the_thread_ends_is_answered(held_model, held, monkeypatch):
    with Server(held_model) as server:
        error = Panic("secret words")

        def fail(*_):
            raise error

        with in_background(server.post, "computed") as first:
            wait_until(lambda: len(held.batches) == 1)
            with (
                in_background(server.post, ["a", "b"], count=3) as texts,
                in_background(server.post, [DATA_URI] * 3) as images,
            ):
                wait_until(lambda: server.engine._num_requests == 5)
                monkeypatch.setattr(server.engine, "_measure", fail)
                held.gate.set()
        answers = first + texts + images
        assert len(answers) == 5
        assert {answer.status_code for answer in answers} <= {500, 503}
        assert not any("secret" in answer.text for answer in answers)
        assert server.engine.waiting_tokens == 0
        check_dead(server)
