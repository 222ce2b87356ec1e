"""The command line on every store, each driven through its real client."""

import contextlib
import importlib
import json
import uuid

import pytest
from typer.testing import CliRunner

from core_encoder.nano.scenes import Scene, SceneObject, draw_scene
from jclip_connectors.cli import commands as cli
from jclip_connectors.errors import EmbedInputError
from jclip_connectors.store_urls import connected
from tests.doubles.chroma_stores import shared_server
from tests.doubles.pinecone_server import KEY, PineconeDouble
from tests.doubles.postgres_server import postgres
from tests.doubles.qdrant_server import QdrantServer
from tests.doubles.weaviate_server import WeaviateDouble

SECRET = "s3cret-of-the-url"  # noqa: S105 (it is what must not be shown)
OBJECTS = {
    "circle": SceneObject(shape="circle", colour="red", size="large", place="centre"),
    "star": SceneObject(shape="star", colour="yellow", size="large", place="top left"),
    "square": SceneObject(shape="square", colour="blue", size="large", place="right"),
}
pytestmark = pytest.mark.filterwarnings("ignore:Failed to obtain server version")  # the double of Qdrant has none


def jclip(*arguments, code=0):
    result = CliRunner().invoke(cli.make_app(), list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, (name, item) in enumerate(OBJECTS.items()):
        draw_scene(Scene(objects=(item,)), seed=seed).image.save(folder / f"{name}.png")
    (folder / "note.txt").write_text("ein großer gelber Stern oben links")
    return folder


@contextlib.contextmanager
def _qdrant(*_):
    with QdrantServer() as server:
        yield f"{server.url.replace('http', 'qdrant', 1)}/photos"


@contextlib.contextmanager
def _weaviate(*_):
    with WeaviateDouble() as server:
        yield f"weaviate://127.0.0.1:{server.http_port}/Photos?grpc_port={server.grpc_port}"
    assert server.surprises == []


@contextlib.contextmanager
def _pinecone(_, monkeypatch):
    with PineconeDouble() as server:
        monkeypatch.setenv("PINECONE_CONTROLLER_HOST", server.url)
        monkeypatch.setenv("PINECONE_API_KEY", KEY)
        yield "pinecone://photos/holiday"
    assert server.surprises == []


@contextlib.contextmanager
def _postgresql(_, monkeypatch):
    server = postgres()
    monkeypatch.setenv("PGUSER", server.user)
    monkeypatch.setenv("PGPASSWORD", server.password)
    with server.database() as name:
        yield f"postgresql://{server.host}:{server.port}/{name}/holiday%20photos"


@contextlib.contextmanager
def _milvus(_, monkeypatch):
    milvus = importlib.import_module("tests.doubles.milvus_server")
    monkeypatch.setenv("MILVUS_TOKEN", "root:secret-1")
    with milvus.MilvusServer(token="root:secret-1") as server:  # noqa: S106 (of the tests' own server)
        yield f"milvus://127.0.0.1:{server.port}/photos"


@contextlib.contextmanager
def _chroma_server(*_):
    yield f"chroma://127.0.0.1:{shared_server()}/photos-{uuid.uuid4().hex}"


def _in(form):
    return lambda folder, _: contextlib.nullcontext(form.format(folder))


PLACES = {
    "edge": _in("edge:{}/photos.jclip"),
    "lancedb": _in("lancedb:{}/lance#holiday-photos"),
    "chroma": _in("chroma:{}/data#photos"),
    "chroma-server": _chroma_server,
    "milvus": _milvus,
    "milvus in a folder": _in("milvus:{}/photos.db#photos"),
    "qdrant": _qdrant,
    "weaviate": _weaviate,
    "pinecone": _pinecone,
    "postgresql": _postgresql,
}
"""How an empty place is made in a folder, and its keys set: its URL."""
_SLOW = ("chroma", "chroma-server", "milvus", "milvus in a folder")


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow) if name in _SLOW else name for name in PLACES])
def url(request, tmp_path, monkeypatch):
    for name in ("QDRANT_API_KEY", "WEAVIATE_API_KEY", "PINECONE_API_KEY", "JCLIP_MODEL", "CHROMA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with PLACES[request.param](tmp_path, monkeypatch) as made:
        yield made


def test_a_folder_is_indexed_once_and_found_again_and_measured_in_every_store(url, photos, tmp_path):
    indexed = jclip("index", photos, "--store", url, "--model", "nano", "--dimensions", 64)[1]
    assert "4 indexed, 0 unchanged, 0 failed" in indexed
    assert "0 indexed, 4 unchanged, 0 failed" in jclip("index", photos, "--store", url)[1]
    (photos / "square.png").unlink()
    assert "1 records removed" in jclip("index", photos, "--store", url, "--prune", "--prune-anyway")[1]
    where = json.dumps({"suffix": ".png", "size_bytes": {"gte": 1}})
    hits = json.loads(jclip("search", "a yellow star", "--store", url, "--where", where, "--json")[0])
    assert [hit["metadata"]["name"] for hit in hits] == ["star.png", "circle.png"]
    by_image = json.loads(jclip("search", "--image", photos / "circle.png", "--store", url, "--json", "--limit", 1)[0])
    assert by_image[0]["metadata"]["name"] == "circle.png"
    message = jclip("eval", "store", "--store", url, "--k", 1, "--out", tmp_path)[1]
    assert "2 of 3 records have the modality 'image'" in message
    (point,) = json.loads((tmp_path / "store.json").read_text())["settings"]
    assert point["recall_min"] == 1.0
    scheme = url.partition(":")[0]
    settings: dict[str, dict[str, int]] = {
        "lancedb": {"refine_factor": 10},
        "weaviate": {},
        "pinecone": {},
        "milvus": {},
    }
    assert point["setting"] == settings.get(scheme, {"candidates": 4096})
    tuned = scheme not in ("weaviate", "pinecone", "milvus") or url.startswith("milvus://")
    assert ("no setting of its search" in message) is not tuned


def test_other_dimensions_than_the_collections_are_refused_with_both_values(url, photos):
    jclip("index", photos, "--store", url, "--model", "nano", "--dimensions", 64)
    message = jclip("index", photos, "--store", url, "--dimensions", 32, code=2)[1]
    assert "`dimensions` 64 (now 32)" in message


def test_a_search_makes_no_collection(url):
    assert "there is no collection in" in jclip("search", "x", "--store", url, code=2)[1]
    with connected(url) as place:
        assert place.fingerprint() is None


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("photos", "write edge:PATH, "),
        ("", "write edge:PATH, "),
        ("edge:", "names no folder"),
        ("unknown://127.0.0.1/photos", "write edge:PATH, "),
        ("qdrant://127.0.0.1:6333", "names no collection"),
        ("qdrant://127.0.0.1:6333/a/b", "names no collection"),
        ("qdrant://127.0.0.1:port/a", "not a valid URL"),
        ("qdrant:///photos", "write edge:PATH, "),
        ("lancedb:", "names no folder"),
        ("lancedb:lance#", "names no collection"),
        ("lancedb:lance#a b", "LanceDB's names have letters"),
        ("qdrant://[::1/photos", "not a valid URL"),
        ("chroma:", "names no folder"),
        ("chroma:photos#", "names no collection"),
        ("chroma:photos#a b", "`collection_name` is 'a b'"),
        ("chroma://127.0.0.1:8000", "names no collection"),
        (f"chromas://user:{SECRET}@127.0.0.1/photos", "contains credentials"),
        (f"chroma://127.0.0.1/photos?token={SECRET}", "unknown option or a bad value"),
        (f"qdrant://user:{SECRET}@127.0.0.1:6333/photos", "contains credentials"),
        (f"qdrant://127.0.0.1:6333/photos?api_key={SECRET}", "unknown option or a bad value"),
        (f"weaviate://127.0.0.1:1/Photos?grpc_port={SECRET}", "unknown option or a bad value"),
        (f"unknown://127.0.0.1/photos?key={SECRET}", "write edge:PATH, "),
        (f"milvus://127.0.0.1/photos?token={SECRET}", "unknown option or a bad value"),
        ("milvus://127.0.0.1", "names no collection"),
        ("milvus:photos", "no database of Milvus Lite, whose name ends in '.db'"),
        ("milvus:photos.db#", "names no collection"),
        ("milvus:photos.db#a-b", "`collection_name` is 'a-b'"),
        ("milvuss:photos.db", "write edge:PATH, "),
        ("chromas:photos", "write edge:PATH, "),
        ("weaviate://127.0.0.1:1/Photos?grpc_port=1", "another port"),
        ("weaviate://127.0.0.1:1/Photos?grpc_port=99999", "up to 65535"),
        ("pinecone://photos:80", "no port"),
        ("postgresql://127.0.0.1/photos", "names no database and collection"),
        ("postgres://127.0.0.1/a/b/c", "names no database and collection"),
        ("postgres://127.0.0.1//b", "names no database and collection"),
        (f"postgresql://me:{SECRET}@127.0.0.1/a/photos", "contains credentials"),
        (f"postgresql://127.0.0.1/a/photos?password={SECRET}", "unknown option or a bad value"),
    ],
)
def test_a_url_that_is_not_understood_is_refused_without_its_secrets(bad, says, monkeypatch):
    monkeypatch.setenv("PINECONE_API_KEY", SECRET)
    out, message = jclip("search", "x", "--store", bad, code=2)
    assert out == ""
    assert says in message
    assert message.count("\n") == 1
    assert SECRET not in message


def test_a_missing_key_is_named_by_its_variable(monkeypatch):
    monkeypatch.delenv("PINECONE_API_KEY", raising=False)
    message = jclip("search", "x", "--store", "pinecone://photos", code=2)[1]
    assert "PINECONE_API_KEY" in message or "api_key" in message


def test_the_password_of_postgresql_comes_from_its_own_file_as_for_every_client(tmp_path, monkeypatch):
    server = postgres()
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGUSER", server.user)
    with server.database() as name:
        url = f"postgres://{server.host}:{server.port}/{name}/photos"
        monkeypatch.setenv("PGPASSFILE", str(tmp_path / "absent"))
        message = jclip("search", "x", "--store", url, code=2)[1]
        assert "refuses the credentials" in message
        assert "PGPASSWORD" in message
        passwords = tmp_path / "pgpass"
        passwords.write_text(f"{server.host}:{server.port}:{name}:{server.user}:{server.password}\n")
        passwords.chmod(0o600)
        monkeypatch.setenv("PGPASSFILE", str(passwords))
        assert "there is no collection in" in jclip("search", "x", "--store", url, code=2)[1]


@pytest.mark.parametrize(
    "url",
    [
        *(
            "qdrant://127.0.0.1:1/photos",
            "weaviate://127.0.0.1:1/Photos?grpc_port=2",
            "postgres://127.0.0.1:1/a/photos",
        ),
        "chroma://127.0.0.1:1/photos",
        "qdrant://127.0.0.1:1/photos",
        "weaviate://127.0.0.1:1/Photos?grpc_port=2",
        "postgres://127.0.0.1:1/a/photos",
        "milvus://127.0.0.1:1/photos?timeout=1",
    ],
)
def test_a_server_that_is_not_there_is_one_line(url):
    message = jclip("search", "x", "--store", url, code=2)[1]
    assert "cannot be reached" in message
    assert message.count("\n") == 1


def test_the_collection_is_named_in_exactly_one_way(tmp_path):
    for arguments in ([], ["--collection", tmp_path, "--store", f"edge:{tmp_path}"]):
        assert "one of --collection PATH and --store URL" in jclip("search", "x", *arguments, code=2)[1]


def test_an_empty_path_is_not_taken_for_this_folder(tmp_path):
    for arguments in (["index", "", "--collection", tmp_path / "c"], ["index", tmp_path, "--collection", ""]):
        assert "an empty path is not allowed" in jclip(*arguments, code=2)[1]
    with pytest.raises(EmbedInputError, match="names no folder"), connected("edge:"):
        pass


def test_a_folder_is_optimised_and_found_as_before(tmp_path, photos):
    collection = tmp_path / "photos.jclip"
    jclip("index", photos, "--collection", collection, "--model", "nano")
    assert "4 records" in jclip("optimize", collection)[1]
    hits = json.loads(jclip("search", "a red circle", "--collection", collection, "--json", "--limit", 1)[0])
    assert hits[0]["metadata"]["name"] == "circle.png"
    assert "error: " in jclip("optimize", tmp_path / "nothing", code=2)[1]
    assert "nothing to do" in jclip("optimize", "--store", f"edge:{collection}")[1]


def test_a_table_of_lancedb_is_optimised_and_found_as_before(tmp_path, photos):
    url = f"lancedb:{tmp_path / 'lance'}"
    assert "there is no collection" in jclip("optimize", "--store", url, code=2)[1]
    jclip("index", photos, "--store", url, "--model", "nano")
    assert "4 records, each search compares them all" in jclip("optimize", "--store", url)[1]
    hits = json.loads(jclip("search", "a red circle", "--store", url, "--json", "--limit", 1)[0])
    assert hits[0]["metadata"]["name"] == "circle.png"


def test_a_server_is_not_optimised_from_here():
    message = jclip("optimize", "--store", f"qdrant://me:{SECRET}@127.0.0.1:1/photos", code=2)[1]
    assert SECRET not in message
    assert "takes edge:PATH or lancedb:PATH#TABLE" in message
