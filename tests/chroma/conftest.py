"""One folder of Chroma for each module, and a new name for each test."""

import uuid

import pytest

from tests.chroma.parts import Watched
from tests.doubles.chroma_stores import folder_client


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with folder_client(tmp_path_factory.mktemp("chroma")) as opened:
        yield opened


@pytest.fixture
def watched(client):
    return Watched(client)


@pytest.fixture
def name():
    return f"photos-{uuid.uuid4().hex}"


@pytest.fixture
def quick(monkeypatch):
    """Nobody waits between attempts."""
    monkeypatch.setattr("jclip_connectors.store_kit.patience._FIRST_QUICK_WAIT_S", 0.0)
