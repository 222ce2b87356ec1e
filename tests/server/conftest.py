"""A real server on a loopback port, and clients of it."""

import dataclasses

import pytest

from core_encoder import JinaClipEncoder
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.server.serve import load_served_model
from tests.server.harness import HeldEncoder, Server


def pytest_ignore_collect(collection_path, config):
    """Leave the tests of schemathesis out where `-p no:schemathesis` says so: it takes seconds to load."""
    if collection_path.name == "test_schemathesis.py" and not config.pluginmanager.hasplugin("schemathesis"):
        return True
    return None


@pytest.fixture(scope="session")
def encoder():
    return JinaClipEncoder.load("nano", device="cpu")


@pytest.fixture(scope="session")
def model():
    return load_served_model(EmbeddingConfig(model="nano"), device="cpu", names=["jina-clip-v2"])


@pytest.fixture(scope="package")
def server(model):
    with Server(model) as running:
        yield running


@pytest.fixture
def held(model):
    return HeldEncoder(model.encoder)


@pytest.fixture
def held_model(model, held):
    yield dataclasses.replace(model, encoder=held)
    held.gate.set()
