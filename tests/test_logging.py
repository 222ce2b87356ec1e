"""What is logged, by which logger, and that a normal run logs nothing that a user sees by default."""

import logging

import pytest
from qdrant_client import QdrantClient

from jclip_connectors import EmbeddingConfig, MultimodalCollection
from jclip_connectors.edge import QdrantEdgeStore
from jclip_connectors.indexing import find_files, index_files
from jclip_connectors.qdrant import QdrantStore
from jclip_connectors.testing import HashEmbedder
from jclip_connectors.testing.embedder_contract import picture
from tests.doubles.qdrant_server import Fault, QdrantServer

CONFIG = EmbeddingConfig(model="hash", revision="1", dimensions=32)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        picture(number).save(folder / f"{number}.png")
    (folder / "table.csv").write_text("a,b\n")
    return folder


def told(caplog, name):
    return [(r.levelname, r.getMessage()) for r in caplog.records if r.name == name]


def test_a_normal_run_logs_nothing_at_info_and_above(folder, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with QdrantEdgeStore.open(tmp_path / "c.jclip", CONFIG) as store:
        photos = MultimodalCollection(HashEmbedder(CONFIG), store)
        index_files(photos, find_files([folder]).files)
        photos.search("a red circle")
    assert [record for record in caplog.records if record.name.startswith(("jclip", "core_encoder"))] == []


def test_what_is_left_out_is_told_at_debug(folder, caplog):
    caplog.set_level(logging.DEBUG, logger="jclip_connectors.indexing")
    find_files([folder])
    [(level, message)] = told(caplog, "jclip_connectors.indexing")
    assert level == "DEBUG"
    assert "table.csv" in message


@pytest.mark.filterwarnings("ignore:Failed to obtain server version")
def test_batches_indexes_and_retries_are_told_by_the_package_that_makes_them(caplog, monkeypatch):
    monkeypatch.setattr("jclip_connectors.store_kit.retry._FIRST_WAIT_S", 0.0)
    caplog.set_level(logging.DEBUG, logger="jclip_connectors")
    with QdrantServer() as server:
        client = QdrantClient(url=server.url, check_compatibility=False)
        photos = MultimodalCollection(HashEmbedder(CONFIG), QdrantStore.open(client, "photos", CONFIG))
        server.faults.append(Fault(r"PUT .*/points$", status=503))
        photos.add_texts(["a secret plan"], [{"year": 2024}])
        client.close()
    messages = told(caplog, "jclip_connectors.qdrant")
    assert ("DEBUG", "'photos': 1 records in 1 batches") in messages
    assert any("made the payload index" in message for _, message in messages)
    [(level, message)] = told(caplog, "jclip_connectors.store_kit")
    assert level == "WARNING"
    assert "HTTP 503" in message
    assert "secret plan" not in caplog.text
