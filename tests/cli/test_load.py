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
from tests.doubles.qdrant_server import Fault, QdrantServer

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


def test_a_server_that_is_away_while_files_are_loaded_is_waited_for(tmp_path, clock):
    files_of(tmp_path / "out")
    with QdrantServer() as server:
        server.faults.append(Fault("PUT /collections/photos/points", status=503, times=30, skip=2))
        url = server.url.replace("http:", "qdrant:") + "/photos"
        told = jclip("load", tmp_path / "out", "--store", url, "--writers", 1)[1]
        assert "100 records written" in told
        assert sum(clock.waited) > 300
        server.faults.append(Fault("PUT /collections/photos/points", status=503, times=1000))
        told = jclip("load", tmp_path / "out", "--store", url + "?timeout=9", "--patience", "1m", code=0)[1]
        assert "0 files loaded, 5 were loaded before" in told
        server.stop()


def test_a_server_that_stays_away_ends_the_load_and_says_how_to_go_on(tmp_path, clock):
    files_of(tmp_path / "out")
    with QdrantServer() as server:
        server.faults.append(Fault("PUT /collections/photos/points", status=503, times=1000, skip=2))
        url = server.url.replace("http:", "qdrant:") + "/photos"
        told = jclip("load", tmp_path / "out", "--store", url, "--patience", "5m", code=2)[1]
    assert "stopped; loaded files are kept, and the same command continues from there" in told
    assert 250 < clock.now_s - 1000 < 2000


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--rate", "0/s", "write 500/s"), ("--patience", "soon", "write 90s, 30m or 2h"), ("--follow", "0", "write 90s")],
)
def test_a_bad_number_is_named(tmp_path, option, value, message):
    assert message in jclip("load", tmp_path, "--collection", tmp_path / "a", option, value, code=2)[1]


def test_an_index_goes_on_after_a_server_was_busy_for_minutes(tmp_path, clock):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.txt").write_text("a red bicycle")
    with QdrantServer() as server:
        url = server.url.replace("http:", "qdrant:") + "/photos"
        arguments = ("index", folder, "--store", url, "--model", "nano")
        server.faults.append(Fault("POST /collections/photos/points", status=429, times=15))
        assert "1 indexed" in jclip(*arguments)[1]
        assert sum(clock.waited) > 240
        (folder / "b.txt").write_text("two red bicycles")
        server.faults.append(Fault("POST /collections/photos/points", status=503, times=10**6))
        jclip(*arguments, "--patience", "2m", code=2)
