"""What a URL says of a place in Chroma: the folder, the server, the key, and how long an answer is waited for."""

import httpx
import pytest

from jclip_connectors.chroma import ChromaStore
from jclip_connectors.chroma.clients import ServerClient
from jclip_connectors.errors import EmbedInputError, StoreRequestError, StoreUnavailableError
from jclip_connectors.store_urls import connected
from tests.chroma.parts import CONFIG, UNSIZED, E, records
from tests.doubles.chroma_proxy import ChromaProxy
from tests.doubles.chroma_stores import folder_client, http_client, shared_server

KEY = "ck-0123456789"


def test_a_folder_is_made_by_the_first_record_and_not_by_a_look(tmp_path):
    url = f"chroma:{tmp_path / 'data'}#photos"
    with connected(url, read_only=True) as place:
        assert place.fingerprint() is None
    assert not (tmp_path / "data").exists()
    with connected(url) as place:
        place.open(UNSIZED, E).upsert(records(0, 2))
    with connected(url) as place:
        assert place.fingerprint() == UNSIZED.fingerprint()
        assert place.open(UNSIZED, None, {"candidates": 5}).count() == 2
        assert (place.search_options, place.collection) == (("candidates",), "photos")
        assert place.folder == tmp_path / "data"
    with connected(f"chroma:{tmp_path / 'data'}") as place:
        assert (place.fingerprint(), place.collection) == (None, "jclip")
    with folder_client(tmp_path / "data") as client:  # which was closed
        assert ChromaStore.open(client, "photos", UNSIZED).count() == 2


def test_a_folder_of_other_things_gets_no_database(tmp_path):
    (tmp_path / "boat.jpg").write_bytes(b"")
    for path in (tmp_path, tmp_path / "boat.jpg"):
        with pytest.raises(EmbedInputError, match=r"has other files|is not a folder"), connected(f"chroma:{path}"):
            pytest.fail("it was taken")
    assert [path.name for path in tmp_path.iterdir()] == ["boat.jpg"]


def test_a_file_that_is_no_database_is_told(tmp_path):
    (tmp_path / "chroma.sqlite3").write_bytes(b"no database" * 100)
    with connected(f"chroma:{tmp_path}") as place, pytest.raises(StoreRequestError, match="not a database"):
        place.fingerprint()


def test_a_closed_port_is_a_store_that_cannot_be_reached():
    with (
        pytest.raises(StoreUnavailableError, match="cannot be reached"),
        connected("chroma://127.0.0.1:1/photos"),
    ):
        pytest.fail("it was reached")


@pytest.mark.slow
def test_the_key_is_sent_and_the_tenant_and_the_database_are_those_of_the_environment(monkeypatch, name):
    for variable in ("CHROMA_API_KEY", "CHROMA_TENANT", "CHROMA_DATABASE"):
        monkeypatch.delenv(variable, raising=False)
    with ChromaProxy(shared_server(), key=KEY) as server:
        url = f"chroma://127.0.0.1:{server.port}/{name}"
        with pytest.raises(StoreRequestError, match=r"refuses the credentials \(HTTP 401\)"), connected(url):
            pytest.fail("it was let in")
        monkeypatch.setenv("CHROMA_API_KEY", f" {KEY}\n")
        with connected(url) as place:
            place.open(CONFIG, None).upsert(records(0, 1))
        with http_client(shared_server()) as client:
            assert ChromaStore.open(client, name, CONFIG).count() == 1
        monkeypatch.setenv("CHROMA_DATABASE", "another")
        with pytest.raises(StoreRequestError, match="another"), connected(url):
            pytest.fail("there is no such database")


@pytest.mark.slow
def test_every_request_waits_as_long_as_the_url_says_the_first_one_too():
    with ChromaProxy(shared_server()) as server:
        url = f"chroma://127.0.0.1:{server.port}/photos"
        server.slow.set()
        with pytest.raises(StoreUnavailableError, match="did not answer in time"), connected(url, timeout="0.3"):
            pytest.fail("it has answered")
        server.slow.clear()
        with connected(f"{url}?timeout=0.3") as place:
            server.slow.set()
            with pytest.raises(StoreUnavailableError, match="did not answer in time"):
                place.fingerprint()


@pytest.mark.slow
def test_a_client_closes_its_connections_with_itself_and_waits_without_end_by_default():
    client = ServerClient("127.0.0.1", shared_server(), secure=False, headers={}, timeout_s=None)
    sessions = list(client._sessions)
    assert [session.timeout for session in sessions] == [httpx.Timeout(None)] * 2
    client.close()
    client.close()
    assert [session.is_closed for session in sessions] == [True, True]
