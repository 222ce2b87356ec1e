"""Collections that version 0.1 wrote are opened, read, searched and added to."""

import json
import tarfile
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import UUID

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient
from weaviate.classes.data import DataObject

from core_encoder.tiling import Tiling
from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.edge import QdrantEdgeStore
from jclip_connectors.errors import CollectionMismatchError
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.pgvector import PgVectorStore
from jclip_connectors.pinecone import PineconeStore
from jclip_connectors.port import Record
from jclip_connectors.qdrant import QdrantStore
from jclip_connectors.testing import HashEmbedder
from jclip_connectors.weaviate import WeaviateStore
from tests.doubles.pinecone_server import Index, Namespace, PineconeDouble
from tests.doubles.postgres_server import postgres
from tests.doubles.qdrant_server import QdrantServer
from tests.doubles.weaviate_collections import Collection
from tests.doubles.weaviate_server import WeaviateDouble

HERE = Path(__file__).parent
OLD = json.loads((HERE / "records.json").read_text(encoding="utf-8"))
CONFIG = EmbeddingConfig.from_fingerprint(OLD["fingerprint"])


def read(name):
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def send(verb, url, body):
    httpx.request(verb, url, json=body).raise_for_status()


@contextmanager
def edge(config, folder):
    with tarfile.open(HERE / "edge.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    with QdrantEdgeStore.open(folder / "photos.jclip", config) as store:
        yield store


@contextmanager
def qdrant(config, _):
    old = read("qdrant.json")
    with QdrantServer() as server, closing(QdrantClient(url=server.url, check_compatibility=False)) as client:
        place = f"{server.url}/collections/photos"
        send("PUT", place, old["collection"])
        for index in old["indexes"]:
            send("PUT", f"{place}/index?wait=true", index)
        send("PUT", f"{place}/points?wait=true", {"points": old["points"]})
        yield QdrantStore.open(client, "photos", config)


@contextmanager
def weaviate(config, _):
    old = read("weaviate.json")
    with WeaviateDouble() as server, server.connect() as client:
        made = server.collections["Photos"] = Collection({"class": "Photos", "vectorConfig": {}})
        made.definition = old["class"]  # with all that the server adds to what it is asked for
        client.collections.use("Photos").data.insert_many(
            [
                DataObject(uuid=UUID(each["id"]), properties=each["properties"], vector=each["vectors"])
                for each in old["objects"]
            ]
        )
        yield WeaviateStore.open(client, "Photos", config)
        assert server.surprises == []


@contextmanager
def pinecone(config, _):
    old = read("pinecone.json")
    with PineconeDouble() as server, server.connect() as client:
        index = server.indexes["photos"] = Index("photos", old["schema"], f"{server.url}/data/photos", 0.0)
        namespace = index.namespaces["jclip"] = Namespace()
        namespace.items.update(old["items"])
        with closing(PineconeStore.open(client, "photos", config)) as store:
            yield store
        assert server.surprises == []


@contextmanager
def pgvector(config, _):
    server = postgres()
    with server.database() as name, closing(server.connect(name)) as connection:
        connection.execute((HERE / "pgvector.sql").read_bytes())
        yield PgVectorStore.open(connection, "photos", config)


STORES = (edge, qdrant, weaviate, pinecone, pgvector)
every_store = pytest.mark.parametrize("opened", STORES, ids=lambda opened: opened.__name__)


@pytest.fixture
def expected():
    """The records of the old collections, in memory."""
    store = InMemoryStore(CONFIG)
    arrays = {"embedding": np.float32, "tile_embeddings": np.float32, "tile_boxes": np.int64}
    store.upsert(
        [
            Record(**each | {name: each[name] and np.array(each[name], kind) for name, kind in arrays.items()})
            for each in OLD["records"]
        ]
    )
    return store


def content(record):
    vectors = [record.embedding, *(() if record.tile_embeddings is None else record.tile_embeddings)]
    boxes = None if record.tile_boxes is None else record.tile_boxes.tolist()
    fields = (record.record_id, record.modality, record.content, record.uri, record.content_hash)
    return *fields, repr(record.metadata), boxes, np.round(vectors, 5).tolist()


@every_store
def test_an_old_collection_has_the_same_records(opened, expected, tmp_path):
    with opened(CONFIG, tmp_path) as store:
        assert sorted(map(content, store.scroll())) == sorted(map(content, expected.scroll()))
        assert len(list(store.scroll())) == 5


@every_store
def test_an_old_collection_is_searched_and_filtered(opened, expected, tmp_path):
    query = HashEmbedder(CONFIG).embed_query("a red ring")
    with opened(CONFIG, tmp_path) as store:
        for options in (
            {},
            {"tiles": True},
            {"modality": "image"},
            {"where": {"year": {"gt": 2000}}},
            {"where": {"place": "Zürich"}},
            {"where": {"tags": "b", "year": {"lte": 2019}}},
        ):
            found, same = store.search(query, **options), expected.search(query, **options)
            assert [(hit.record_id, hit.box) for hit in found] == [(hit.record_id, hit.box) for hit in same]
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in same], abs=1e-5)


@every_store
def test_an_old_collection_is_added_to_and_what_it_has_is_not_embedded_again(opened, tmp_path):
    with opened(CONFIG, tmp_path) as store:
        photos = MultimodalCollection(HashEmbedder(CONFIG), store)
        old = {record["record_id"]: record for record in OLD["records"] if record["modality"] == "text"}
        known = photos.add_texts(
            [record["content"] for record in old.values()],
            ids=list(old),
            metadatas=[record["metadata"] for record in old.values()],
        )
        assert known.embedded == 0
        assert photos.add_texts(["a new text"], ids=["new"], metadatas=[{"year": 2031, "new": 1.5}]).embedded == 1
        assert store.count() == 6
        assert [record.record_id for record in store.scroll(where={"year": {"gt": 2030}})] == ["new"]
        assert [record.record_id for record in store.scroll(where={"new": {"lt": 2}})] == ["new"]
        store.delete(["one"])
        assert store.count(where={"year": {"lt": 2019}}) == 1


@every_store
def test_an_old_collection_refuses_another_configuration_by_the_name_of_what_differs(opened, tmp_path):
    other = EmbeddingConfig(model="hash", revision="1", dimensions=24, tiling=Tiling(max_tiles=9))
    with pytest.raises(CollectionMismatchError, match="`tiling`"), opened(other, tmp_path):
        pass
