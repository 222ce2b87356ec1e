"""The document store over every store of this package: what Haystack's suites do not ask."""

import numpy as np
import pytest
from PIL import Image

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from tests.every_store.live_stores import LIVE_STORES
from tests.late import late

ours = late("jclip_connectors.haystack")
haystack = late("haystack")
matcher = late("haystack.utils.filters")

TILED = EmbeddingConfig(model="nano", dimensions=32, tiling=Tiling(max_tiles=4))
QUICK = ("memory", "edge")
METAS = [
    {},
    {"a": None, "on": "2024-01-31T12:00:00", "o": {"k": 1, "on": "2024-01-31"}},
    {"a": True, "on": "2024-01-31T12:00:00Z", "o": {"k": None}},
    {"a": 1, "on": "2024-01-31T12:00:00+02:00", "o": {"k": {"deep": "x"}}},
    {"a": 0.5, "on": "1969-07-21 20:17:40.123456", "o": {}},
    {"a": -3, "and": 1, "or": "x", "not": "2024-02-01"},
]
FILTERS = [
    {"field": f"meta.{field}", "operator": operator, "value": value}
    for field, operator, values in (
        ("a", "==", [None, 1, True, 0, 0.5, "1"]),
        ("a", "!=", [None, 1, False]),
        ("a", ">", [None, 0, 0.5, True]),
        ("a", "<=", [0, 1]),
        ("on", "==", ["2024-01-31T12:00:00", "2024-01-31T10:00:00Z", None]),
        ("on", ">", ["2024-01-31T11:00:00Z", "1969-07-21T20:17:40.123455", "2024-01-31"]),
        ("on", "<", ["2024-01-31T12:00:00+00:00"]),
        ("o.k", "==", [1, None]),
        ("o.k", "!=", [None]),
        ("o.k.deep", "in", [["x", "y"], [None]]),
        ("o.on", ">=", ["2024-01-31", "2024-01-31T00:00:00-01:00"]),
        ("and", "==", [1]),
        ("or", "not in", [["x"], []]),
        ("not", ">", ["2024-01-31T23:59:59"]),
    )
    for value in values
]


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in LIVE_STORES]
)
def open_any(request):
    with LIVE_STORES[request.param]() as open_store:
        yield open_store


@pytest.fixture
def documents():
    rows = np.random.default_rng(0).normal(size=(len(METAS), 32)).tolist()
    return [
        haystack().Document(id=f"d{at}", content="a text", meta=meta, embedding=row)
        for at, (meta, row) in enumerate(zip(METAS, rows, strict=True))
    ]


def test_filters_find_what_haystacks_own_matcher_finds(open_any, documents):
    store = ours().JinaClipDocumentStore(open_any(TILED))
    assert store.write_documents(documents) == len(METAS)
    for filters in FILTERS:
        expected = {each.id for each in documents if matcher().document_matches_filter(filters, each)}
        assert {each.id for each in store.filter_documents(filters)} == expected, filters
        nothing_else = store.embedding_retrieval([1.0] * 32, filters)
        assert {each.id for each in nothing_else} == expected, filters
    for given, found in zip(documents, store.get_documents([each.id for each in documents]), strict=True):
        assert found.meta == given.meta
        np.testing.assert_allclose(found.embedding, given.embedding, rtol=1e-5, atol=1e-6)


def test_images_are_found_by_their_tiles_and_texts_beside_them(open_any, documents, tmp_path):
    embedder = ours().JinaClipImageDocumentEmbedder(TILED)
    store = ours().JinaClipDocumentStore(open_any(TILED), image_embedder=embedder)
    given = []
    for name, seed in (("a", 1), ("b", 2)):
        pixels = np.random.default_rng(seed).integers(0, 256, (64, 192, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        given.append(haystack().Document(id=name, meta={"file_path": str(tmp_path / f"{name}.png"), "n": 1}))
    store.write_documents(embedder.run(documents=given)["documents"] + documents[:2])
    [record] = store.store.get(["b"])
    tile, box = record.tile_embeddings[-1].tolist(), record.tile_boxes[-1].tolist()
    best, *_ = store.embedding_retrieval(tile)
    assert (best.id, best.meta["box"], best.score) == ("b", box, 1 / 61)
    assert store.update_by_filter({"field": "meta.n", "operator": "==", "value": 1}, {"n": 2}) == 2
    [again] = store.embedding_retrieval(tile, top_k=1, modality="image")
    assert (again.id, again.meta["box"], again.meta["n"]) == ("b", box, 2)
    assert again.score == pytest.approx(1, abs=1e-4)
    assert store.delete_by_filter({"field": "meta.n", "operator": ">", "value": 1}) == 2
    assert store.count_documents() == 2
