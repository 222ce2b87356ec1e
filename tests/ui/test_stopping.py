"""The search page from a shell: its address, and that it leaves nothing behind when it is told to stop."""

import os
import re
import signal
import subprocess
import sys

import httpx
import pytest

from core_encoder.nano.scenes import SceneObject, draw_canvas
from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.edge import QdrantEdgeStore
from jclip_connectors.local import LocalEmbedder
from tests.server.harness import wait_until


@pytest.fixture
def collection(tmp_path):
    config = EmbeddingConfig(model="nano")
    path = tmp_path / "a.png"
    draw_canvas(SceneObject(shape="ring", colour="orange", size="small", place="centre"), seed=1).image.save(path)
    with QdrantEdgeStore.open(tmp_path / "c.jclip", config) as store:
        MultimodalCollection(LocalEmbedder(config, device="cpu"), store).add_images([path])
    return tmp_path / "c.jclip"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the operating system has no SIGHUP")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_page_that_is_told_to_stop_leaves_no_copy_of_the_collection(collection, tmp_path, number):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    command = [sys.executable, "-m", "jclip_connectors.cli.main", "ui", "--collection", collection, "--no-browser"]
    log = tmp_path / "log"
    # A process of its own, as the programs of `tests.forked` know the folder for temporary files already.
    with log.open("wb") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out) as running:  # noqa: S603
        try:
            wait_until(lambda: "/ui#t=" in log.read_text(), seconds=120)
            ((address, token),) = re.findall(r"(http://127\.0\.0\.1:\d+)/ui#t=(\S+)", log.read_text())
            headers = {"Authorization": f"Bearer {token}"}

            def found():
                answer = httpx.post(f"{address}/ui/search", json={"text": "a ring"}, headers=headers, trust_env=False)
                return answer.status_code == 200 and len(answer.json()["hits"]) == 1

            wait_until(found, seconds=120)
            assert list(temporary.glob("jclip-*"))
            running.send_signal(getattr(signal, number))
            assert running.wait(60) in (0, 130)
        finally:
            running.kill()
    assert "Traceback" not in log.read_text()
    assert log.read_text().count(token) == 1
    assert list(temporary.glob("jclip-*")) == []
