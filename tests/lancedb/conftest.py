"""A folder of LanceDB for each test."""

import lancedb
import pytest

from jclip_connectors.lancedb import LanceStore
from tests.lancedb.parts import CONFIG


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "lance"


@pytest.fixture
def connection(folder):
    return lancedb.connect(folder)


@pytest.fixture
def store(connection):
    return LanceStore.open(connection, "photos", CONFIG)


@pytest.fixture
def quick(monkeypatch):
    """Nobody waits between attempts."""
    monkeypatch.setattr("jclip_connectors.store_kit.patience._FIRST_QUICK_WAIT_S", 0.0)
