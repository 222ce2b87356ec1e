"""How long the command waits for a server: `?timeout=` in `--store`, and `--timeout`."""

import importlib
import socket
import time

import psycopg
import pytest
import qdrant_client
import weaviate as weaviate_client

from jclip_connectors.errors import EmbedInputError, StoreUnavailableError
from jclip_connectors.pgvector import PgVectorStore
from jclip_connectors.store_urls import connected
from jclip_connectors.testing.store_contract import PLAIN, image, vector
from tests.cli.test_store_urls import SECRET, jclip
from tests.doubles.pinecone_server import KEY, PineconeDouble
from tests.doubles.postgres_faults import TroubledDatabase
from tests.doubles.qdrant_server import Fault, QdrantServer
from tests.doubles.weaviate_server import WeaviateDouble

SLOW_S = 60.0  # longer than any client waits by itself, and than the tests
SOON_S = 15.0  # in which Qdrant's client would wait three times by itself, and the others once
COMMANDS = {
    "index": ("index", "."),
    "search": ("search", "x"),
    "check": ("check",),
}


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in ("QDRANT_API_KEY", "WEAVIATE_API_KEY", "JCLIP_MODEL", "PGOPTIONS", "PGCONNECT_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PINECONE_API_KEY", KEY)


@pytest.fixture
def soon():
    started = time.monotonic()
    yield
    assert time.monotonic() - started < SOON_S


@pytest.fixture
def qdrant():
    with QdrantServer() as server:
        yield server


@pytest.fixture
def weaviate():
    with WeaviateDouble() as server:
        yield server
        assert server.surprises == []


@pytest.fixture
def database(monkeypatch):
    troubled = TroubledDatabase(password="jclip")  # noqa: S106 (of a role of the test)
    with troubled.running():
        monkeypatch.setenv("PGUSER", troubled.role)
        monkeypatch.setenv("PGPASSWORD", troubled.password)
        yield troubled


def qdrant_url(server):
    return f"{server.url.replace('http', 'qdrant', 1)}/photos"


def weaviate_url(server):
    return f"weaviate://127.0.0.1:{server.http_port}/Photos?grpc_port={server.grpc_port}"


def postgresql_url(database):
    return f"postgresql://{database.server.host}:{database.server.port}/{database.name}/photos"


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("by_option", [True, False])
@pytest.mark.usefixtures("soon")
def test_every_command_waits_for_a_slow_server_as_long_as_it_was_told(
    qdrant, command, by_option, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note.txt").write_text("a star")
    qdrant.faults.append(Fault(".", delay_s=SLOW_S, times=3))
    url = qdrant_url(qdrant)
    given = ["--store", url, "--timeout", "0.5"] if by_option else ["--store", f"{url}?timeout=0.5"]
    message = jclip(*command, *given, code=2)[1]
    assert "did not answer in time" in message
    assert "--timeout" in message
    assert message.count("\n") == 1
    assert len(qdrant.requests) == 3


@pytest.mark.parametrize(
    ("address", "option", "seconds"),
    [("?timeout=1.2", None, 2), ("", "90", 90), ("?timeout=30", "30.0", 30), ("", None, None)],
)
def test_the_client_of_qdrant_has_whole_seconds_and_its_own_timeout_without_any(
    qdrant, monkeypatch, address, option, seconds
):
    made = []

    class Kept(qdrant_client.QdrantClient):
        def __init__(self, **options):
            super().__init__(**options)
            made.append(self)

    monkeypatch.setattr("jclip_connectors.qdrant.url.QdrantClient", Kept)
    with connected(qdrant_url(qdrant) + address, timeout=option) as place:
        place.open(PLAIN, 8)
        waited = made[0].http.client._client.timeout
        assert waited.read == waited.connect == (5 if seconds is None else seconds)


@pytest.mark.parametrize(("address", "timeouts"), [("&timeout=0.5", (0.5, 0.5, 0.5)), ("", (30, 90, 2))])
def test_the_client_of_weaviate_has_the_timeout_and_its_own_ones_without_any(weaviate, monkeypatch, address, timeouts):
    made = []
    connect = weaviate_client.connect_to_custom

    def kept(**options):
        made.append(connect(**options))
        return made[-1]

    monkeypatch.setattr(weaviate_client, "connect_to_custom", kept)
    with connected(weaviate_url(weaviate) + address):
        used = made[0]._connection.timeout_config
        assert (used.query, used.insert, used.init) == timeouts


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("GET /v1/schema/Photos", lambda place, _: place.fingerprint()),
        ("Search", lambda _, store: store.search(vector(1), limit=1)),
        ("BatchObjects", lambda _, store: store.upsert([image("a")])),
    ],
)
@pytest.mark.usefixtures("soon")
def test_every_call_to_weaviate_is_waited_for_as_long_as_told(weaviate, method, call):
    with connected(weaviate_url(weaviate), timeout="1") as place:
        store = place.open(PLAIN, 8)
        weaviate.delay(method, SLOW_S)
        with pytest.raises(StoreUnavailableError, match="did not answer in time"):
            call(place, store)


@pytest.mark.parametrize(
    ("route", "call"),
    [
        ("describe_index", lambda place, _: place.fingerprint()),
        ("documents_search", lambda _, store: store.search(vector(1), limit=1)),
    ],
)
def test_every_call_to_pinecone_is_waited_for_as_long_as_told(monkeypatch, route, call):
    with PineconeDouble() as server:
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", server.url)
        with connected("pinecone://photos?timeout=0.5") as place:
            store = place.open(PLAIN, 8)
            server.fail(route, hold_s=SLOW_S, times=9)
            started = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="did not answer in time"):
                call(place, store)
            assert time.monotonic() - started < 30  # four tries; by itself the client waits so long for the first


@pytest.mark.usefixtures("soon")
def test_a_statement_to_postgresql_is_waited_for_as_long_as_told(database):
    with database.connect(autocommit=True) as connection:
        PgVectorStore.open(connection, "photos", PLAIN, dimensions=8)
    with database.locked():
        message = jclip("search", "x", "--store", f"{postgresql_url(database)}?timeout=0.4", code=2)[1]
    assert "did not answer in time" in message


@pytest.mark.usefixtures("soon")
def test_a_connection_to_postgresql_is_waited_for_as_long_as_told(monkeypatch):
    monkeypatch.setenv("PGUSER", "jclip")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/app/photos"
        message = jclip("search", "x", "--store", url, "--timeout", 1, code=2)[1]
    assert "cannot be reached" in message


@pytest.mark.slow
@pytest.mark.usefixtures("soon")
def test_milvus_is_waited_for_no_longer_than_was_said(monkeypatch):
    monkeypatch.delenv("MILVUS_TOKEN", raising=False)
    with importlib.import_module("tests.doubles.milvus_server").MilvusServer() as server:
        with connected(f"milvus://127.0.0.1:{server.port}/photos?timeout=0.5") as place:
            store = place.open(PLAIN, None)
            server.fail("Query", "DescribeCollection", hold=True)
            with pytest.raises(StoreUnavailableError, match="in time"):
                store.count()
            with pytest.raises(StoreUnavailableError, match="in time"):
                place.open(PLAIN, None)
        message = jclip("search", "x", "--store", f"milvus://127.0.0.1:{server.port}/photos", "--timeout", 0.5, code=2)[
            1
        ]
        assert "--timeout" in message
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"milvus://127.0.0.1:{silent.getsockname()[1]}/photos"
        message = jclip("search", "x", "--store", url, "--timeout", 1, code=2)[1]
    assert "cannot be reached" in message


def test_the_settings_of_postgresql_are_kept_beside_the_timeout(database, monkeypatch):
    made = []
    connect = psycopg.connect

    def kept(**options):
        made.append(connect(**options))
        return made[-1]

    monkeypatch.setattr(psycopg, "connect", kept)
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=5MB -c statement_timeout=7s")
    with connected(f"{postgresql_url(database)}?timeout=2.25"):
        assert made[0].execute("SHOW statement_timeout").fetchone() == ("2250ms",)
        assert made[0].execute("SHOW work_mem").fetchone() == ("5MB",)
        assert made[0].info.get_parameters()["connect_timeout"] == "3"
    with connected(postgresql_url(database)):
        assert made[1].execute("SHOW statement_timeout").fetchone() == ("7s",)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("bad", ["0", "-1", "nan", "inf", "1e9", "soon", "", "5s"])
def test_a_bad_timeout_is_one_sentence(command, bad):
    message = jclip(*command, "--store", "qdrant://127.0.0.1:1/photos", f"--timeout={bad}", code=2)[1]
    assert f"`--timeout` is {bad!r}; write a number of seconds above 0" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("bad", ["0", "-1", "nan", "inf", "1e9", "", SECRET])
@pytest.mark.parametrize(
    "url",
    [
        "qdrant://127.0.0.1:1/photos?timeout=",
        "weaviate://127.0.0.1:1/Photos?grpc_port=2&timeout=",
        "pinecone://photos?timeout=",
        "postgresql://127.0.0.1:1/app/photos?timeout=",
    ],
)
def test_a_bad_timeout_in_a_url_is_one_sentence_that_does_not_repeat_it(url, bad):
    message = jclip("search", "x", "--store", url + bad, code=2)[1]
    assert "`timeout` in `--store` has a bad value; write a number of seconds above 0" in message
    assert message.count("\n") == 1
    assert SECRET not in message


@pytest.mark.parametrize(("address", "option"), [("?timeout=5", "6"), ("?timeout=5&timeout=6", None)])
def test_two_timeouts_that_differ_are_refused(address, option):
    with (
        pytest.raises(EmbedInputError, match="given as 5 and as 6 seconds"),
        connected(f"qdrant://127.0.0.1:1/photos{address}", timeout=option),
    ):
        pytest.fail("one of them was taken")


def test_another_word_than_timeout_is_not_taken_for_it():
    message = jclip("search", "x", "--store", "qdrant://127.0.0.1:1/photos?Timeout=5", code=2)[1]
    assert "unknown option or a bad value (timeout=SECONDS)" in message


def test_a_collection_in_a_folder_has_no_timeout(tmp_path):
    folder = tmp_path / "photos.jclip"
    for arguments in (
        ["index", tmp_path, "--collection", folder, "--timeout", 5],
        ["search", "x", "--collection", folder, "--timeout", 5],
        ["check", folder, "--timeout", 5],
        ["search", "x", "--store", f"edge:{folder}", "--timeout", 5],
        ["search", "x", "--store", f"edge:{folder}?timeout=5"],
    ):
        message = jclip(*arguments, code=2)[1]
        assert "a collection in a folder has no server to wait for" in message
        assert message.count("\n") == 1
    assert not folder.exists()


def test_a_folder_may_have_a_name_like_a_timeout(tmp_path):
    folder = tmp_path / "photos?timeout=5"
    folder.mkdir()
    with connected(f"edge:{folder}") as place:
        place.open(PLAIN, 8).upsert([image("a")])
    assert "1 records counted" in jclip("check", folder)[1]
