"""`jclip check`, on a folder and on a server that has lost records from its index."""

import dataclasses

import pytest

from jclip_connectors.edge import QdrantEdgeStore
from jclip_connectors.store_urls import connected
from jclip_connectors.testing.store_contract import PLAIN, image, vector
from jclip_connectors.weaviate import WeaviateStore
from tests.cli.test_store_urls import jclip
from tests.doubles.weaviate_server import WeaviateDouble


@pytest.fixture
def server():
    with WeaviateDouble() as server:
        yield server
        assert server.surprises == []


@pytest.fixture
def url(server):
    with server.connect() as client:
        store = WeaviateStore.open(client, "Photos", PLAIN)
        store.upsert([image(f"photo {number:02}", vector(1, number)) for number in range(20)])
    return f"weaviate://127.0.0.1:{server.http_port}/Photos?grpc_port={server.grpc_port}"


def test_a_whole_collection_in_a_folder_or_on_a_server_is_right(tmp_path, url):
    with QdrantEdgeStore.open(tmp_path / "photos.jclip", PLAIN) as store:
        store.upsert([image("a"), image("b", vector(0, 1))])
    assert "2 records counted, 2 found, 0 not found" in jclip("check", tmp_path / "photos.jclip")[1]
    assert "20 records counted, 20 found, 0 not found" in jclip("check", "--store", url)[1]


def test_lost_records_are_named_and_written_again(server, url):
    server.lose("Photos", [f"photo {number:02}" for number in range(12)])
    told = jclip("check", "--store", url, code=1)[1]
    assert "20 records counted, 8 found, 12 not found" in told
    assert told.count("  photo") == 10
    assert "  and 2 more" in told
    assert "0 written again and found, 12 not; --repair writes them again" in told
    assert "12 written again and found, 0 not" in jclip("check", "--store", url, "--repair")[1]
    assert "0 not found" in jclip("check", "--store", url)[1]


def test_a_record_that_cannot_be_repaired_is_named_first_and_is_to_be_added_again(server, url, monkeypatch):
    server.lose("Photos", [f"photo {number:02}" for number in range(12)])
    verify = WeaviateStore.verify

    def without_the_last(store, *, repair):
        report = verify(store, repair=repair)
        return dataclasses.replace(report, repaired=tuple(x for x in report.repaired if x != "photo 11"))

    monkeypatch.setattr(WeaviateStore, "verify", without_the_last)
    told = jclip("check", "--store", url, "--repair", code=1)[1]
    assert "12 not found\n  photo 11\n" in told
    assert "11 written again and found, 1 not; add them again" in told


def test_a_collection_that_does_not_exist_is_not_made(tmp_path, url):
    assert "there is no collection in" in jclip("check", tmp_path / "nothing", code=2)[1]
    assert not (tmp_path / "nothing").exists()
    assert "there is no collection in" in jclip("check", "--store", url.replace("Photos", "Nothing"), code=2)[1]
    with connected(url) as place:
        assert place.fingerprint() is not None
