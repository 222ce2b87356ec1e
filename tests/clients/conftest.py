"""A server that asks for a key, the environment of its clients, and what the encoder itself makes of what they send."""

import base64
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from core_encoder import JinaClipEncoder
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.serve import load_served_model
from tests.checkpoints import V2_TINY
from tests.environments import environment, run
from tests.pictures import PICTURE, encoded
from tests.server.harness import Server

HERE = Path(__file__).parent
KEY = "served-key"
MODEL = "jina-clip-v2"
TEXTS = [
    "a red circle",
    "a blue square above a green star",
    "ein grüner Stern 🚲",
    "a star",
    "two stars & <one> circle",
]


@pytest.fixture(scope="session")
def encoder():
    return JinaClipEncoder.load(V2_TINY, device="cpu")


@pytest.fixture(scope="package")
def server():
    # This one tells queries from documents, as the model does that it has the layout of.
    config = EmbeddingConfig(model=str(V2_TINY))
    model = load_served_model(config, device="cpu", names=[MODEL])
    with Server(model, config=config, api_keys=["another", KEY]) as running:
        yield running


@pytest.fixture(scope="session")
def expected(encoder):
    """Vectors of the encoder, by the names that the scripts give theirs."""
    pictures = [encoded(PICTURE, "PNG"), encoded(PICTURE.rotate(90, expand=True), "JPEG")]
    texts, images = encoder.encode_text(TEXTS), encoder.encode_image(pictures)
    return SimpleNamespace(
        pictures=pictures,
        texts=texts,
        images=images,
        query=encoder.encode_text(TEXTS[:1], task="retrieval.query")[0],
        shortened=encoder.encode_text(TEXTS, truncate_dim=32),
        tokens=encoder.count_tokens(TEXTS),
    )


@pytest.fixture(scope="session")
def clients_python():
    return environment("clients", HERE / "requirements.txt")


@pytest.fixture(scope="package")
def given(server, encoder, expected, tmp_path_factory):
    """What every script is given: where the server is, and what to embed."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / "first.png", folder / "second.jpg"]
    for path, picture in zip(paths, expected.pictures, strict=True):
        path.write_bytes(picture)
    damaged = folder / "damaged.png"
    damaged.write_bytes(expected.pictures[0][:60])
    return {
        "url": server.url,
        "key": KEY,
        "model": MODEL,
        "dimensions": encoder.embedding_dim,
        "texts": TEXTS,
        "paths": [str(path) for path in paths],
        "damaged": str(damaged),
        "data_uris": [
            f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
            for kind, picture in zip(("png", "jpeg"), expected.pictures, strict=True)
        ],
    }


@pytest.fixture(scope="package")
def run_client(clients_python, given, tmp_path_factory):
    """Run all of a script, once, and give what its functions returned."""
    home = tmp_path_factory.mktemp("home")
    outcomes = {}

    def run_script(name):
        if name not in outcomes:
            command = [
                str(clients_python),
                "-I",
                str(HERE / "scripts" / "run.py"),
                str(HERE / "scripts" / f"{name}.py"),
            ]
            environ = {"HOME": str(home), "PATH": "/usr/bin:/bin", "HAYSTACK_TELEMETRY_ENABLED": "False"}
            printed = run(command, env=environ, cwd=home, input=json.dumps(given), timeout=200)
            outcomes[name] = json.loads(printed.splitlines()[-1])
        return outcomes[name]

    return run_script
