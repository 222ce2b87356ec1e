"""What one search asks for, the order of its results, and filters in Qdrant's own language."""

import dataclasses

import numpy as np
import pytest
from qdrant_client import models

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.port import NativeFilter
from jclip_connectors.qdrant.store import QdrantStore
from tests.qdrant.harness import QUERY, TILED, E, records


def test_one_request_goes_from_the_prefix_to_the_tiles(client, server):
    store = QdrantStore.open(client, "photos", TILED, coarse_dimensions=4, candidates=50)
    store.upsert(records(0, 5, metadata={"year": 2020}))
    server.requests.clear()
    assert len(store.search(QUERY, limit=2, where={"year": 2020}, modality="image", tiles=True)) == 2
    (request,) = server.requests
    tiles = request.json
    full = tiles["prefetch"]
    coarse = full["prefetch"]
    assert [stage["using"] for stage in (tiles, full, coarse)] == ["tiles", "full", "coarse"]
    assert [stage["limit"] for stage in (tiles, full, coarse)] == [2, 50, 50]
    shapes = [np.shape(query) for query in (tiles["query"]["nearest"], full["query"], coarse["query"])]
    assert shapes == [(1, E), (E,), (4,)]
    assert len(coarse["filter"]["must"]) == 2
    assert "prefetch" not in coarse


WIDE = {"hnsw_ef": 77, "oversampling": 1.5}
ASKED = [
    (None, {}, None),
    (None, WIDE, {"hnsw_ef": 77}),
    ("scalar", {}, {"quantization": {"rescore": True, "oversampling": 3.0}}),
    ("scalar", WIDE, {"hnsw_ef": 77, "quantization": {"rescore": True, "oversampling": 1.5}}),
]


@pytest.mark.parametrize("coarse", [None, 4])
@pytest.mark.parametrize(("quantization", "options", "params"), ASKED)
def test_the_search_of_the_index_has_the_options_of_the_store(client, server, coarse, quantization, options, params):
    kinds = {"coarse_dimensions": coarse, "quantization": quantization}
    QdrantStore.open(client, "photos", TILED, **kinds, **options).search(QUERY)
    stage = server.requests[-1].json
    while "prefetch" in stage:
        assert "params" not in stage
        stage = stage["prefetch"]
    assert stage.get("params") == params


@pytest.mark.parametrize(("coarse", "names"), [(None, ["full"]), (4, ["full", "coarse"])])
def test_a_search_for_wholes_does_not_look_at_tiles(client, server, coarse, names):
    store = QdrantStore.open(client, "photos", TILED, coarse_dimensions=coarse)
    store.search(QUERY, limit=300)
    stage, found = server.requests[-1].json, []
    assert stage["with_vector"] is False
    while stage:
        found.append((stage["using"], stage["limit"]))
        stage = stage.get("prefetch")
    assert found == list(zip(names, [300, 6000], strict=False))


def test_a_large_limit_is_cut_to_what_there_is(store, server):
    store.upsert(records(0, 3))
    assert len(store.search(QUERY, limit=10**12)) == 3
    assert server.requests[-1].json["limit"] == 3
    store.delete(where={})
    assert store.search(QUERY, limit=10**12) == []


def test_ties_are_in_the_order_of_ids(store):
    same = records(0, 1)[0]
    store.upsert([dataclasses.replace(same, record_id=record_id) for record_id in "cab"])
    assert [hit.record_id for hit in store.search(same.embedding)] == ["a", "b", "c"]


def native(key, **condition):
    return NativeFilter(models.Filter(must=[models.FieldCondition(key=key, **condition)]))


def test_a_native_filter_asks_the_fields_of_the_metadata(store):
    store.upsert([*records(0, 2, metadata={"year": 2019, "who": {"name": "Ada"}}), *records(2, 3)])
    recent = native("fields.year", range=models.Range(gte=2019))
    assert store.count(where=recent) == 2
    assert store.count(where=recent, modality="text") == 0
    assert len(store.search(QUERY, where=native("fields.who.name", match=models.MatchValue(value="Ada")))) == 2
    store.delete(where=recent)
    assert [record.record_id for record in store.scroll()] == ["2"]


@pytest.mark.parametrize("value", [{"must": []}, None, "year > 2000", models.FieldCondition(key="a")])
def test_a_native_filter_of_another_kind_is_refused_before_anything_is_asked(store, server, value):
    for call in (
        lambda: store.count(where=NativeFilter(value)),
        lambda: store.search(QUERY, where=NativeFilter(value)),
        lambda: store.delete(where=NativeFilter(value)),
        lambda: store.scroll(where=NativeFilter(value)),
    ):
        with pytest.raises(EmbedInputError, match=r"NativeFilter of .*: Qdrant needs a `qdrant_client.models.Filter`"):
            call()
    assert server.requests == []
