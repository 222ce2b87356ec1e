"""What a user gets who installs the first line of the README: a wheel, ONNX Runtime, and no torch."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import uv

from core_encoder.nano.scenes import Scene, SceneObject, draw_scene
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.local import LocalEmbedder
from tests.environments import ROOT, build, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first builds the environment

LIGHT = ("onnx", "edge", "cli")
ABSENT = ["torch", "torchvision", "transformers", "sentence_transformers", "timm", "triton", "pytest"]
NOT_FOR_A_SEARCH = ["asyncio", "huggingface_hub", "jclip_connectors.indexing", "onnx", "safetensors", "tenacity"]
STAR = SceneObject(shape="star", colour="yellow", size="large", place="top left")
CIRCLE = SceneObject(shape="circle", colour="red", size="large", place="centre")
MOST_BYTES = 150e6


def pins(*extras):
    return [part for extra in extras for part in ("--constraint", str(ROOT / "constraints" / f"{extra}.txt"))]


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory(prefix="light-") as name:
        yield Path(name).resolve()


@pytest.fixture(scope="module")
def wheel(folder):
    run(
        [
            uv.find_uv_bin(),
            "build",
            "--quiet",
            "--wheel",
            "--python",
            sys.executable,
            "--out-dir",
            str(folder),
            str(ROOT),
        ]
    )
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def home(folder, wheel):
    """The folder of the environment, with the server too."""
    home = folder / "environment"
    build(home, *pins(*LIGHT, "server"), f"{wheel}[{','.join(LIGHT)},server]")
    return home


@pytest.fixture(scope="module")
def variables(folder):
    return {"HOME": str(folder), "JCLIP_CACHE_DIR": str(folder / "cache"), "PATH": os.environ["PATH"]}


@pytest.fixture(scope="module")
def jclip(home, folder, variables):
    def call(*arguments):
        return run([str(home / "bin" / "jclip"), *map(str, arguments)], env=variables, cwd=folder, timeout=300)

    return call


@pytest.fixture(scope="module")
def collection(folder, jclip):
    (folder / "photos").mkdir()
    for name, item in (("star", STAR), ("circle", CIRCLE)):
        draw_scene(Scene(objects=(item,)), seed=1).image.save(folder / "photos" / f"{name}.png")
    jclip("index", folder / "photos", "--collection", folder / "photos.jclip", "--model", "nano")
    return folder / "photos.jclip"


def test_the_wheels_are_few_megabytes(folder, wheel):
    target = f"{wheel}[{','.join(LIGHT)}]"
    run([sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder / "wheels"), *pins(*LIGHT), target])
    sizes = {path.name: path.stat().st_size for path in (folder / "wheels").iterdir()}
    assert sum(sizes.values()) <= MOST_BYTES, sizes
    assert any(name.startswith("onnxruntime-") for name in sizes)
    assert not any(name.startswith(("torch-", "nvidia", "triton-")) for name in sizes)


def test_torch_is_not_there(home, variables):
    code = f"from importlib.util import find_spec\nprint([name for name in {ABSENT!r} if find_spec(name) is not None])"
    assert run([str(home / "bin" / "python"), "-I", "-c", code], env=variables) == "[]\n"


def test_the_demo_finds_what_it_drew(folder, home, variables):
    command = [str(home / "bin" / "jclip"), "demo", "--folder", "demo"]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=folder, check=True)  # noqa: S603 (ours)
    assert "8 of 8 queries found a right picture first" in done.stderr


def test_what_is_indexed_is_found(folder, jclip, collection):
    hits = json.loads(jclip("search", "ein großer gelber Stern oben links", "--collection", collection, "--json"))
    assert [Path(hit["uri"]).name for hit in hits] == ["star.png", "circle.png"]
    found = jclip("search", "--image", folder / "photos" / "circle.png", "--collection", collection, "--paths")
    assert Path(found.splitlines()[0]).name == "circle.png"


def test_a_search_loads_only_what_it_uses(home, variables, collection):
    code = (
        "import sys\nfrom jclip_connectors.cli.main import main\n"
        f"sys.argv = ['jclip', 'search', 'a red circle', '--collection', {str(collection)!r}]\n"
        f"try:\n    main()\nfinally:\n    print([name for name in {NOT_FOR_A_SEARCH!r} if name in sys.modules])"
    )
    printed = run([str(home / "bin" / "python"), "-I", "-c", code], env=variables)
    assert "circle.png" in printed
    assert printed.splitlines()[-1] == "[]"


def test_a_model_can_be_verified(jclip):
    assert "FAILED" not in jclip("verify", "nano")


def test_the_server_answers_with_the_vectors_of_torch(folder, home, variables):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [str(home / "bin" / "jclip"), "serve", "--model", "nano", "--port", str(port)]
    with (folder / "server.log").open("wb") as log, subprocess.Popen(command, env=variables, stderr=log) as server:  # noqa: S603 (ours)
        try:
            wait_for(f"{url}/live", server)
            body = json.dumps({"model": "nano", "input": ["a red circle"]}).encode()
            request = urllib.request.Request(f"{url}/v1/embeddings", body, {"Content-Type": "application/json"})  # noqa: S310 (ours)
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 (ours)
                vector = json.load(answer)["data"][0]["embedding"]
        finally:
            server.terminate()
    expected = LocalEmbedder(EmbeddingConfig(model="nano"), device="cpu", runtime="torch").embed_texts(["a red circle"])
    np.testing.assert_allclose(vector, expected[0], rtol=0, atol=3e-5)


def wait_for(url, process):
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 (ours)
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"the server does not answer; exit code {process.poll()}")
