"""`load` with `defer_index`: the search index of Qdrant is built at the end, whatever happens in between."""

from contextlib import closing

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from jclip_connectors.errors import EmbedInputError, StoreUnavailableError
from jclip_connectors.qdrant import QdrantStore
from tests.bulk.copies import TILED
from tests.bulk.test_load_patience import EndedError
from tests.bulk.test_loading import Opened, files_of, loaded
from tests.doubles.qdrant_server import Fault, QdrantServer

POINTS = "PUT /collections/photos/points"
CHANGE = "PATCH /collections/photos"


@pytest.fixture
def server():
    with QdrantServer() as server:
        yield server


@pytest.fixture
def client(server):
    with closing(QdrantClient(url=server.url, check_compatibility=False)) as client:
        yield client


@pytest.fixture
def open_store(client):
    return lambda config, _: QdrantStore.open(client, "photos", config)


def changes(server):
    """The numbers of links that the server was told, one after another, and whether records came between them."""
    return [
        request.json["vectors"]["full"]["hnsw_config"]["m"] if request.call == CHANGE else "points"
        for request in server.requests
        if request.call == CHANGE or request.call == POINTS
    ]


def test_the_index_is_left_out_while_records_are_written_and_built_then(tmp_path, server, open_store, caplog):
    files_of(tmp_path)
    loaded(tmp_path, open_store, defer_index=True)
    assert changes(server) == [0, *["points"] * 5, 16]
    assert "the search index is left out while records are written (m=0); it is built at the end (m=16)" in caplog.text
    assert not list(tmp_path.rglob("*deferred*"))
    server.requests.clear()
    loaded(tmp_path, open_store, defer_index=True)  # nothing to do
    assert changes(server) == []


def test_without_the_option_nothing_is_changed(tmp_path, server, open_store):
    files_of(tmp_path)
    loaded(tmp_path, open_store)
    assert changes(server) == ["points"] * 5


def test_the_collections_own_number_comes_back(tmp_path, server, open_store):
    files_of(tmp_path)
    open_store(TILED, None).set_index_links(32)
    server.requests.clear()
    loaded(tmp_path, open_store, defer_index=True)
    assert changes(server) == [0, *["points"] * 5, 32]


@pytest.mark.usefixtures("clock")
def test_after_a_failure_and_after_an_interrupt_the_index_is_built(tmp_path, server, open_store):
    files_of(tmp_path)
    server.faults.append(Fault(POINTS, status=503, times=1000, skip=2))
    with pytest.raises(StoreUnavailableError):
        loaded(tmp_path, open_store, defer_index=True, writers=1, patience_s=10)
    assert changes(server)[-1] == 16
    server.faults.clear()

    def interrupt(_):
        raise EndedError

    with pytest.raises(EndedError):
        loaded(tmp_path, open_store, defer_index=True, writers=1, progress=interrupt)
    assert changes(server)[-1] == 16


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("again", [False, True])
def test_after_a_kill_the_next_load_gives_the_index_back(tmp_path, server, open_store, again, caplog):
    files_of(tmp_path)
    open_store(TILED, None).set_index_links(24)
    server.requests.clear()
    server.faults.append(Fault(CHANGE, status=503, times=10**4, skip=1))  # what a kill leaves is what this leaves
    loaded(tmp_path, open_store, defer_index=True)
    assert server.links["photos"]["full"] == 0
    assert "the search index is still left out (m=0); the next load gives it back" in caplog.text
    server.faults.clear()
    loaded(tmp_path, open_store, defer_index=again)
    assert server.links["photos"]["full"] == 24
    assert not list(tmp_path.rglob("*deferred*"))


def test_an_index_that_a_load_of_other_files_has_left_out_is_built_as_usual(tmp_path, server, open_store):
    files_of(tmp_path)
    open_store(TILED, None).set_index_links(0)
    loaded(tmp_path, open_store)
    assert server.links["photos"]["full"] == 16


def test_other_stores_have_no_index_that_can_wait(tmp_path):
    files_of(tmp_path)
    with pytest.raises(EmbedInputError, match="`defer_index` is True, but this store builds no index that can wait"):
        loaded(tmp_path, Opened(), defer_index=True)


def test_the_server_refuses_vectors_that_it_does_not_have(open_store, client):
    open_store(TILED, None)
    changed = models.VectorParamsDiff(hnsw_config=models.HnswConfigDiff(m=0))
    with pytest.raises(UnexpectedResponse, match="Not existing vector name"):
        client.update_collection("photos", vectors_config={"coarse": changed})
