"""A real server on a loopback port, and clients of it."""

import pytest

from core_encoder import JinaClipEncoder
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.serve import load_served_model
from tests.server.harness import Server


@pytest.fixture(scope="session")
def encoder():
    return JinaClipEncoder.load("nano", device="cpu")


@pytest.fixture(scope="session")
def model():
    return load_served_model(EmbeddingConfig(model="nano"), device="cpu", names=["jina-clip-v2"])[0]


@pytest.fixture(scope="session")
def server(model):
    with Server(model) as running:
        yield running
