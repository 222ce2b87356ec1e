"""A short prefix chooses what is compared in full: how much of the exact result that keeps, measured."""

from contextlib import closing

import numpy as np
import pytest
from qdrant_client import QdrantClient

from core_encoder.nano.captions import full_description, write
from core_encoder.nano.scenes import draw_scene, random_scene
from core_encoder.nano.wording import Language
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.edge.optimize import optimize_collection
from jclip_connectors.edge.store import QdrantEdgeStore
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.pgvector import Hnsw, PgVectorStore, operations
from jclip_connectors.port import Record
from jclip_connectors.qdrant.store import QdrantStore
from tests.doubles.pgvector_stores import schema as pgvector_schema
from tests.doubles.qdrant_server import QdrantServer

NANO = EmbeddingConfig(model="nano")
PICTURES = 600
LANGUAGES: tuple[Language, ...] = ("en", "de", "fr", "es", "zh")
LIMIT = 10
CANDIDATES = 20 * LIMIT  # what a search of so many results leaves to the second stage, at least
KEPT = 0.99


def to_records(rows):
    return [Record(record_id=str(i), modality="image", embedding=row) for i, row in enumerate(rows)]


def exact_top(rows, queries):
    """The ids of the nearest records to each query, computed here."""
    return [{str(i) for i in np.argsort(-(rows @ query))[:LIMIT]} for query in queries]


def kept(store, exact, queries):
    """The share of the exact results that the store finds."""
    found = [{hit.record_id for hit in store.search(query, limit=LIMIT)} for query in queries]
    return np.mean([len(ours & theirs) / LIMIT for ours, theirs in zip(found, exact, strict=True)])


@pytest.fixture(scope="module")
def gallery():
    """(600, 128) pictures; (150, 128) queries, captions of other scenes and 50 of the pictures; what is nearest."""
    rng = np.random.default_rng(0)
    scenes = [random_scene(rng, num_objects=1 + i % 3) for i in range(PICTURES + 100)]
    embedder = LocalEmbedder(NANO, local_files_only=True)
    rows = embedder.embed_images([draw_scene(scene, seed=i).image for i, scene in enumerate(scenes[:PICTURES])])
    captions = [write(full_description(scene), LANGUAGES[i % 5]) for i, scene in enumerate(scenes[PICTURES:])]
    queries = np.stack([*(embedder.embed_query(caption) for caption in captions), *rows[:50]])
    return rows, queries, exact_top(rows, queries)


@pytest.mark.parametrize("coarse", [32, 64])
def test_the_engine_keeps_the_exact_top_ten_of_a_gallery_before_and_after_it_is_optimised(tmp_path, gallery, coarse):
    rows, queries, exact = gallery
    with QdrantEdgeStore.open(tmp_path / "c", NANO, coarse_dimensions=coarse, candidates=1) as store:
        store.upsert(to_records(rows))
        assert kept(store, exact, queries) >= KEPT
    assert optimize_collection(tmp_path / "c").changed
    with QdrantEdgeStore.open(tmp_path / "c", NANO, candidates=1) as store:
        assert kept(store, exact, queries) >= KEPT


@pytest.mark.parametrize("coarse", [32, 64])
def test_a_qdrant_server_keeps_the_exact_top_ten_of_a_gallery(gallery, coarse):
    rows, queries, exact = gallery
    with QdrantServer() as server, closing(QdrantClient(url=server.url, check_compatibility=False)) as client:
        store = QdrantStore.open(client, "gallery", NANO, coarse_dimensions=coarse, candidates=1)
        store.upsert(to_records(rows))
        assert kept(store, exact, queries) >= KEPT
        first_stage = server.requests[-1].json["prefetch"]
        assert (first_stage["using"], first_stage["limit"], len(first_stage["query"])) == ("coarse", CANDIDATES, coarse)


@pytest.mark.parametrize(
    "options",
    [
        {"coarse_dimensions": 32, "candidates": 1},
        {"coarse_dimensions": 64, "candidates": 1},
        {"quantization": "binary", "candidates": 2 * CANDIDATES},
    ],
)
def test_postgresql_keeps_the_exact_top_ten_of_a_gallery(gallery, options):
    rows, queries, exact = gallery
    with pgvector_schema() as (connection, schema):
        store = PgVectorStore.open(connection, "gallery", NANO, schema=schema, **options)
        store.upsert(to_records(rows))
        assert kept(store, exact, queries) >= KEPT
        with pytest.MonkeyPatch.context() as patched:  # a gallery of 600 is not worth a graph
            patched.setattr(operations, "_WORTH_A_GRAPH", 1)
            store = PgVectorStore.open(connection, "gallery", NANO, schema=schema, hnsw=Hnsw(), **options)
            assert kept(store, exact, queries) >= KEPT


def test_the_prefix_really_decides(tmp_path, gallery):
    """With one far too short something is lost; with room for the whole gallery nothing is."""
    rows, queries, exact = gallery
    shares = {}
    for candidates in (1, PICTURES):
        path = tmp_path / str(candidates)
        with QdrantEdgeStore.open(path, NANO, coarse_dimensions=8, candidates=candidates) as store:
            store.upsert(to_records(rows))
            shares[candidates] = kept(store, exact, queries)
    assert shares[1] < KEPT
    assert shares[PICTURES] == 1


@pytest.mark.slow
def test_a_large_collection_keeps_the_exact_top_ten_before_and_after_it_is_optimised(tmp_path):
    """10,000 vectors of 256 values in clusters, most of whose length is in the first values."""
    rng = np.random.default_rng(0)
    scale = np.exp(-np.arange(256) / 40)
    centres = rng.normal(size=(200, 256)) * scale
    rows = centres[rng.integers(0, 200, 10_000)] + 0.5 * rng.normal(size=(10_000, 256)) * scale
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    queries = (rows[:100] + 0.1 * rng.normal(size=(100, 256)) * scale).astype(np.float32)
    exact = exact_top(rows, queries)
    config = EmbeddingConfig(model="synthetic", revision="1", dimensions=256)
    with QdrantEdgeStore.open(tmp_path / "c", config, coarse_dimensions=64, candidates=1) as store:
        for start in range(0, len(rows), 1000):
            store.upsert(to_records(rows)[start : start + 1000])
        assert kept(store, exact, queries) >= KEPT
    assert optimize_collection(tmp_path / "c").changed
    with QdrantEdgeStore.open(tmp_path / "c", config, candidates=1) as store:
        assert kept(store, exact, queries) >= KEPT
