"""The extra "remote" alone, installed as a user installs it: it embeds with a server's model, without torch."""

import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.server.serve import load_served_model
from jclip_connectors.testing.embedder_contract import picture
from tests.environments import ROOT, build, run
from tests.server.harness import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first builds the environment

SCRIPTS = Path(__file__).parent / "clients" / "scripts"
CONFIG = EmbeddingConfig(model="nano", dimensions=64, tiling=Tiling(max_tiles=4))  # as the script's
TEXTS = ["a red circle", "ein grüner Stern", ""]
ABSENT = [
    "torch", "tokenizers", "safetensors", "huggingface_hub", "transformers", "starlette", "uvicorn", "rich", "typer",
    "pytest",
]  # fmt: skip


@pytest.fixture(scope="module")
def home():
    """The folder of the environment, made anew in every run: its wheel has the sources as they are now."""
    with tempfile.TemporaryDirectory(prefix="thin-") as folder:
        home = Path(folder).resolve() / "environment"
        build(home, f"{ROOT}[remote]")
        yield home


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / "first.png", folder / "second.png"]
    picture(1).save(paths[0])
    picture(2, (200, 100)).save(paths[1])
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def returned(home, paths):
    """What the functions of the script returned."""
    model = load_served_model(EmbeddingConfig(model="nano"), device="cpu")
    with Server(model, api_keys=["thin-key"]) as server:
        given = {"url": server.url, "key": "thin-key", "texts": TEXTS, "paths": paths, "absent": ABSENT}
        command = [home / "bin" / "python", "-I", "-W", "error", SCRIPTS / "run.py", SCRIPTS / "use_remote_embedder.py"]
        printed = run([str(part) for part in command], input=json.dumps(given), cwd=home, env={}, timeout=120)
    outcomes = json.loads(printed.splitlines()[-1])
    assert [outcome["raised"] for outcome in outcomes.values() if "raised" in outcome] == []
    return {name: outcome["returned"] for name, outcome in outcomes.items()}


@pytest.fixture(scope="module")
def local():
    return LocalEmbedder(CONFIG, device="cpu")


def test_nothing_that_runs_a_model_or_a_server_is_installed(returned):
    installed = returned["installed"]
    assert {"jclip-connectors", "httpx", "numpy", "pillow"} <= set(installed["distributions"])
    assert not {name.replace("_", "-") for name in ABSENT} & set(installed["distributions"])
    assert installed["importable"] == []
    assert installed["imported"] == []


def test_the_command_says_in_one_line_what_to_install(home):
    done = subprocess.run([home / "bin" / "jclip", "models"], capture_output=True, text=True, check=False)  # noqa: S603 (ours)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: typer is not installed: pip install 'jclip-connectors[cli]'\n"


def test_what_runs_is_the_wheel_alone_and_it_has_every_file(home, returned):
    installed = returned["installed"]
    assert str(ROOT) not in installed["path"]
    assert all(entry.startswith(str(home)) for entry in installed["path"] if entry.endswith("site-packages"))
    for package in map(Path, installed["packages"]):
        assert package.is_relative_to(home)
        assert files(package) == files(ROOT / package.name)


def files(package):
    """The names of all files of a package, but for what Python itself leaves there."""
    found = (path.relative_to(package) for path in package.rglob("*") if path.is_file())
    return {str(path) for path in found if "__pycache__" not in path.parts}


@pytest.mark.parametrize("way", ["embedded", "embedded_async"])
def test_its_vectors_are_the_encoders_own(returned, local, paths, way):
    def check_same(rows, expected):
        np.testing.assert_allclose(np.asarray(rows), expected, rtol=0, atol=1e-6)

    rows = returned[way]
    check_same(rows["texts"], local.embed_texts(TEXTS))
    check_same(rows["query"], local.embed_query(TEXTS[0]))
    check_same(rows["images"], local.embed_images(paths))
    for tiles, expected in zip(rows["tiles"], local.embed_image_tiles(paths), strict=True):
        check_same(tiles["vectors"], expected.vectors)
        assert tiles["boxes"] == expected.boxes.tolist()
    assert len(rows["tiles"][1]["boxes"]) > 1


def test_a_collection_over_it_finds_what_was_added(returned):
    assert returned["found"] == {"by image": ["second"], "by text": ["red"], "filtered": ["second"]}
