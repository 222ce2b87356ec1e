"""`serve` in a process of its own, and how it stops."""

import contextlib
import importlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from core_encoder.errors import ConfigError
from jclip_connectors.cli import commands
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.app import create_app
from tests.forked import Program
from tests.server.harness import DATA_URI, Server, wait_until

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


JCLIP = Path(sys.executable).with_name("jclip")


def test_the_command_serves_in_a_new_interpreter_and_tells_of_a_setting_without_effect(encoder):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(JCLIP), "serve", "--model", "nano", "--port", str(port), "--cors-origin", "http://localhost:3000"]
    environment = {**os.environ, "JCLIP_TILES": "9"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True) as running:  # noqa: S603
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: running.poll() is not None or is_ready(url), seconds=120)
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
                page = {"Origin": "http://localhost:3000"}
                body = {"model": "nano", "input": ["a star", DATA_URI]}
                answer = client.post("/v1/embeddings/", json=body, headers=page)
                assert answer.status_code == 200, answer.text
                assert answer.headers["Access-Control-Allow-Origin"] == page["Origin"]
                star = answer.json()["data"][0]["embedding"]
                np.testing.assert_allclose(star, encoder.encode_text(["a star"])[0], atol=2e-6)
                refused = client.post("/v1/embeddings", json={"model": "nano", "messages": []})
                assert "takes `input`, not `messages`" in refused.json()["detail"]
        finally:
            running.terminate()
            said = running.communicate(timeout=60)[1]
    assert running.returncode in (0, -signal.SIGTERM)
    assert "`tiling` (JCLIP_TILES) has no effect on a server" in said
    assert "Traceback" not in said
    assert "a star" not in said


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        ([], {"JCLIP_SERVER_HOTS": "127.0.0.1"}, "unknown variable JCLIP_SERVER_HOTS; known are JCLIP_SERVER_HOST, "),
        (["--limit", "max_image_urls=5"], {}, "--limit max_image_urls=... has no effect without --allow-image-urls"),
        (["--limit", "max_items=5", "--limit", "max_fetch_s=5"], {}, "--limit max_fetch_s=... has no effect"),
        (["--cors-origin", "localhost:3000"], {}, "`cors_origins` has 'localhost:3000': write"),
    ],
)
def test_a_setting_without_effect_is_refused_before_the_model_is_loaded(arguments, variables, words):
    result = CliRunner().invoke(commands.make_app(), ["serve", "--model", "no/such-model", *arguments], env=variables)
    assert (result.exit_code, words in result.stderr) == (2, True), result.output


@pytest.mark.parametrize("route", ["/embed", "/v1/embeddings/", "predict", "", "/{a}", "/predict?a=b"])
def test_a_route_that_would_hide_another_one_is_refused(model, route):
    with pytest.raises(ConfigError, match="`predict_route`"):
        create_app(model, EmbeddingConfig(model="nano"), predict_route=route)


@pytest.mark.parametrize("route", ["/v1/endpoints/12/deployedModels/34:predict", "/own/"])
def test_a_route_of_the_cloud_is_answered_with_and_without_a_slash(model, route):
    with Server(model, predict_route=route, health_route="/own-health/") as server:
        for path in (route.rstrip("/"), route.rstrip("/") + "/"):
            assert server.client.post(path, json={"instances": ["a star"]}).status_code == 200
        assert server.client.get("/own-health").status_code == 200
