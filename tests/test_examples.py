"""The examples, each run as a program, on what tests/doubles has in the place of a service."""

import importlib
import os
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.doubles.chroma_stores import shared_server
from tests.doubles.pinecone_server import KEY, PineconeDouble
from tests.doubles.postgres_server import postgres
from tests.doubles.qdrant_server import Fault, QdrantServer
from tests.doubles.weaviate_server import WeaviateDouble
from tests.forked import run_program

ROOT = Path(__file__).parents[1]
FOUND = re.compile(
    r"a yellow star\n(  0\.\d{3}  (image  yellow-star\.png|text   ein großer gelber Stern oben links)\n){2}(.*\n){2}"
    r"\[a picture of a red circle\]\n  0\.\d{3}  image  red-circle\.png\n(  -?0\.\d{3}  image  .*\n){2}"
    r"a blue square, from 2019 on\n  0\.\d{3}  image  blue-square\.png\n(  -?0\.\d{3}  image  .*\n){2}"
)


TWICE = f"""
import runpy, sys
sys.path.insert(0, {str(ROOT / "examples")!r})
for _ in range(2):
    runpy.run_path(sys.argv[1], run_name="__main__")
"""


def example_twice(name, **variables):
    """Run an example twice, one run after the other in one process; what each of them prints."""
    lines = _output("-c", TWICE, ROOT / "examples" / name, **variables).splitlines(keepends=True)
    assert len(lines) % 2 == 0
    return "".join(lines[: len(lines) // 2]), "".join(lines[len(lines) // 2 :])


def example(name, **variables):
    """Run an example; what it prints."""
    return _output(ROOT / "examples" / name, **variables)


def _output(*program, **variables):
    """What a program prints; nothing it needs is in this process's environment."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "OMP_NUM_THREADS") if key in os.environ}
    environment = {**kept, "PYTHONWARNINGS": "error", "HF_HUB_OFFLINE": "1", **variables}
    code, printed, complaints = run_program(*program, environment=environment)
    assert code == 0, complaints
    assert complaints == ""
    return printed


def test_qdrant_embeds_pictures_and_texts():
    assert re.fullmatch(
        r"a yellow star\n  0\.\d{3}  yellow-star\.png\n(  -?0\.\d{3}  .*\.png\n){2}"
        r"ein blaues Quadrat\n  0\.\d{3}  blue-square\.png\n(  -?0\.\d{3}  .*\.png\n){2}",
        example("qdrant_inference.py"),
    )


def test_qdrant_finds_pictures_and_texts_in_memory():
    known = "error,ignore:Payload indexes have no effect in the local Qdrant"
    assert FOUND.fullmatch(example("qdrant_search.py", PYTHONWARNINGS=known))


def test_qdrant_finds_pictures_and_texts_on_a_server():
    known = "error,ignore:Failed to obtain server version"  # the double has none
    with QdrantServer() as server:
        place = {"QDRANT_URL": server.url, "PYTHONWARNINGS": known}
        first, second = example_twice("qdrant_search.py", **place)
    assert FOUND.fullmatch(first)
    assert first == second  # adding again changes nothing


def test_weaviate_finds_pictures_and_texts():
    with WeaviateDouble() as server:
        place = {"WEAVIATE_URL": f"http://127.0.0.1:{server.http_port}", "WEAVIATE_GRPC_PORT": str(server.grpc_port)}
        first, second = example_twice("weaviate_search.py", **place)
    assert server.surprises == []
    assert FOUND.fullmatch(first)
    assert first == second


def test_pinecone_finds_pictures_and_texts_that_become_visible_later():
    with PineconeDouble(delay_s=1.5) as server:
        place = {"PINECONE_CONTROLLER_HOST": server.url, "PINECONE_API_KEY": KEY, "PINECONE_INDEX": "shapes"}
        first, second = example_twice("pinecone_search.py", **place)
    assert server.surprises == []
    assert FOUND.fullmatch(first)
    assert first == second


@pytest.mark.filterwarnings("ignore:Failed to obtain server version")  # the double has none
def test_a_fastapi_service_adds_and_finds_pictures_and_texts(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    gallery, service = (importlib.import_module(name) for name in ("gallery", "fastapi_search"))
    paths, _ = gallery.draw_pictures(tmp_path)
    with QdrantServer() as server:
        monkeypatch.setenv("QDRANT_URL", server.url)
        with TestClient(service.app) as client:
            texts = client.post("/texts", json={"ids": ["a", "b", "c"], "texts": gallery.TEXTS})
            assert texts.json() == {"added": 3}
            for path in paths:
                assert client.put(f"/pictures/{path.stem}", content=path.read_bytes()).json() == {"added": 1}
            found = client.get("/search", params={"text": "a yellow star", "limit": 2}).json()
            assert {hit["id"] for hit in found} == {"yellow-star", "b"}
            query = gallery.draw_query(tmp_path).read_bytes()
            found = client.post("/search/picture", params={"limit": 1}, content=query).json()
            assert [hit["id"] for hit in found] == ["red-circle"]
            refused = client.put("/pictures/bad", content=b"no picture")
            assert refused.status_code == 422
            assert "format" in refused.json()["detail"]
            assert client.get("/search", params={"text": "a", "limit": 0}).status_code == 422
            server.faults.append(Fault(r"POST .*/points/query$", status=503, times=99))
            assert client.get("/search", params={"text": "a"}).status_code == 503


def test_postgresql_finds_pictures_and_texts():
    server = postgres()
    with server.database() as name:
        place = {"PGHOST": server.host, "PGPORT": str(server.port), "PGDATABASE": name}
        place |= {"PGUSER": server.user, "PGPASSWORD": server.password}
        first, second = example_twice("pgvector_search.py", **place)
    assert FOUND.fullmatch(first)
    assert first == second


def test_chroma_finds_pictures_and_texts_in_a_folder():
    assert FOUND.fullmatch(example("chroma_search.py"))


@pytest.mark.slow
def test_chroma_finds_pictures_and_texts_on_a_server_again():
    place = {"CHROMA_HOST": "127.0.0.1", "CHROMA_PORT": str(shared_server())}
    first, second = example_twice("chroma_search.py", **place)
    assert FOUND.fullmatch(first)
    assert first == second


@pytest.mark.slow
def test_milvus_lite_finds_pictures_and_texts():
    first, second = example_twice("milvus_search.py")
    assert FOUND.fullmatch(first)
    assert first == second


def test_lancedb_finds_pictures_and_texts():
    assert FOUND.fullmatch(example("lancedb_search.py"))


def test_the_databases_of_compose_are_pinned_and_reachable_from_this_machine_only():
    yaml = importlib.import_module("yaml")  # of huggingface-hub, and without types
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert sorted(services) == ["chroma", "milvus", "postgres", "qdrant", "weaviate"]
    for service in services.values():
        assert re.fullmatch(r"\w+/\w+:v?\d+\.\d+\.\d+(-pg\d+)?", service["image"])
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["healthcheck"]["test"][0] == "CMD"
    assert services["weaviate"]["environment"]["AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED"] == "true"
