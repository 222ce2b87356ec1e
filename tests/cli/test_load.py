"""`jclip load`, from a folder of files of vectors to every store."""

import json
from contextlib import closing

import pytest
from qdrant_client import QdrantClient

from jclip_connectors.edge import QdrantEdgeStore
from jclip_connectors.qdrant import QdrantStore
from tests.bulk.copies import TILED, assert_equal_records
from tests.bulk.test_loading import files_of
from tests.cli.test_store_urls import jclip
from tests.doubles.qdrant_server import QdrantServer

pytestmark = pytest.mark.filterwarnings("ignore:Failed to obtain server version")  # the double of Qdrant has none


def test_a_folder_is_loaded_and_the_same_command_has_nothing_to_do(tmp_path):
    wanted = files_of(tmp_path / "out")
    told = jclip("load", tmp_path / "out", "--collection", tmp_path / "a")[1]
    assert "5 of 5 files, 100 records" in told
    assert "5 files loaded, 0 were loaded before; 100 records written, 0 refused" in told
    with QdrantEdgeStore.open(tmp_path / "a", TILED, read_only=True) as store:
        assert_equal_records(wanted, store.scroll())
    told = jclip("load", f"parquet:{tmp_path / 'out'}", "--store", f"edge:{tmp_path / 'a'}")[1]
    assert "0 files loaded, 5 were loaded before" in told


def test_a_server_is_loaded_by_several_writers(tmp_path):
    wanted = files_of(tmp_path / "out")
    with QdrantServer() as server:
        url = server.url.replace("http:", "qdrant:") + "/photos"
        out, told = jclip("load", tmp_path / "out", "--store", url, "--progress-json")
        assert "100 records written" in told
        assert json.loads(out.splitlines()[-1])["written"] == 100
        with closing(QdrantClient(url=server.url, check_compatibility=False)) as client:
            assert_equal_records(wanted, QdrantStore.open(client, "photos", TILED).scroll())
