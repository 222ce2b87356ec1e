"""`serve` in a process of its own, and how it stops."""

import contextlib
import importlib
import json
import resource
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.forked import Program
from tests.server.harness import wait_until

SERVE = """
import sys
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.serve import serve
serve(EmbeddingConfig(model="nano"), port=int(sys.argv[1]), api_keys=["a-key"], device="cpu")
"""


@pytest.fixture
def process():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Program("-c", SERVE, port) as running:
        yield running, f"http://127.0.0.1:{port}"


def is_ready(url):
    try:
        return httpx.get(f"{url}/ready", trust_env=False).status_code == 200
    except httpx.ConnectError:
        return False


def test_a_server_that_is_told_to_stop_answers_what_it_accepted(process):
    running, url = process
    wait_until(lambda: is_ready(url), seconds=60)
    headers = {"Authorization": "Bearer a-key"}
    with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:

        def embed(count):
            request = {"model": "nano", "input": ["a red circle above a blue star"] * count}
            return client.post("/v1/embeddings", json=request)

        assert embed(1).status_code == 200
        with ThreadPoolExecutor(4) as clients:
            answers = [clients.submit(embed, 1000) for _ in range(4)]
            wait_until(lambda: any(answer.done() for answer in answers))  # so that all have been accepted
            running.terminate()
            assert [len(answer.result().json()["data"]) for answer in answers] == [1000] * 4
    assert running.wait(30) in (0, -signal.SIGTERM)
    log = running.stderr
    assert "Traceback" not in log
    assert "a-key" not in log


def test_a_server_that_is_told_to_stop_under_load_loses_nothing_that_it_accepted(process):
    running, url = process
    wait_until(lambda: is_ready(url), seconds=60)
    answered = []

    def ask_until_it_is_gone(number):
        headers = {"Authorization": "Bearer a-key"}
        with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
            request = {"model": "nano", "input": ["a red circle above a blue star"] * (1 + 20 * (number % 4))}
            with contextlib.suppress(httpx.TransportError):  # it is gone, or closed a connection that was idle
                while True:
                    answer = client.post("/v1/embeddings", json=request)
                    answered.append((answer.status_code, len(answer.json().get("data", ()))))

    with ThreadPoolExecutor(24) as clients:
        asking = [clients.submit(ask_until_it_is_gone, number) for number in range(24)]
        wait_until(lambda: len(answered) > 100, seconds=30)
        running.terminate()
        for each in asking:
            each.result()
    assert running.wait(30) in (0, -signal.SIGTERM)
    lines = [json.loads(line[line.index("{") :]) for line in running.stderr.splitlines() if '"route"' in line]
    served = [(line["status"], line["items"]) for line in lines if line["route"] == "/v1/embeddings"]
    # What the server worked on, each client got: a request more in its log than here would be one that was lost.
    assert sorted(served) == sorted(answered)
    assert {status for status, _ in answered} == {200}


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        (1024, 1_048_576, (65_536, 1_048_576)),
        (1024, 4096, (4096, 4096)),
        (256, resource.RLIM_INFINITY, (10_240, resource.RLIM_INFINITY)),  # macOS, which takes no more
        (1_000_000, 1_000_000, None),
    ],
)
def test_as_many_connections_are_allowed_as_the_system_lets_a_process_have(monkeypatch, soft, hard, raised):
    limits = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    importlib.import_module("jclip_connectors.server.serve")._raise_file_limit()
    assert limits == ([] if raised is None else [raised])
