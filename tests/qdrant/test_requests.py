"""What is sent: points and queries, over HTTP and gRPC, and what the double of the server accepts."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from jclip_connectors.qdrant.requests import to_filter, to_point, to_query
from jclip_connectors.qdrant.store import QdrantStore
from jclip_connectors.testing.store_contract import METADATA
from tests.qdrant.harness import CONFIG, LAYOUT, QUERY, E, records


def test_fields_hold_what_qdrant_can_hold():
    deep: list[object] = []
    for _ in range(40):
        deep = [deep]
    metadata = {**METADATA, "\udcff": 1, "deep": deep, "edge": 2**63 - 1, "over": 2**63, "inside": [{"n": 2**64}]}
    payload: Any = to_point(records(0, 1, metadata=metadata)[0], LAYOUT).payload
    kept = {"int", "float", "tiny", "bool", "null", "empty", "list", "nested", "a.b[0]", "and", "long", "edge"}
    assert set(payload["fields"]) == kept
    assert all(repr(payload["fields"][key]) == repr(metadata[key]) for key in kept)


def test_what_is_sent_survives_the_way_through_grpc():
    tiles = np.eye(2, E, dtype=np.float32)
    boxes = np.array([[0, 0, 9, 9], [5, 0, 9, 9]])
    metadata = {"year": 2020, "big": 2**62, "score": 1.5, "none": None, "who": {"tags": ["a", True, []]}}
    (record,) = records(0, 1, metadata=metadata, tile_embeddings=tiles, tile_boxes=boxes)
    point: Any = to_point(record, LAYOUT)
    back: Any = GrpcToRest.convert_point_struct(RestToGrpc.convert_point_struct(point))
    assert back.payload == point.payload
    assert repr(back.payload["fields"]["year"]) == "2020"
    assert back.id == point.id
    np.testing.assert_allclose(back.vector["full"], point.vector["full"], atol=1e-7)
    np.testing.assert_allclose(back.vector["tiles"], point.vector["tiles"], atol=1e-7)
    condition: Any = to_filter({"not": {"or": [{"a": 1}, {"b": {"lt": 2}}]}, "c": {"in": []}}, "image")
    returned: Any = GrpcToRest.convert_filter(RestToGrpc.convert_filter(condition))
    assert len(returned.must) == 3
    assert returned.must[-1] == condition.must[-1]
    request = to_query(QUERY, LAYOUT, condition, tiles=True, limit=3, candidates=7)
    stage: Any = GrpcToRest.convert_prefetch_query(RestToGrpc.convert_prefetch_query(request["prefetch"]))
    assert (stage.using, stage.limit, stage.prefetch[0].using, stage.prefetch[0].limit) == ("full", 7, "coarse", 7)


def test_what_the_double_does_not_know_it_refuses_loudly(client):
    QdrantStore.open(client, "photos", CONFIG)
    with pytest.raises(Exception, match=r"the double has no .*/points/query/groups"):
        client.query_points_groups("photos", group_by="a", query=QUERY.tolist(), using="full")
    with pytest.raises(Exception, match="that does not wait"):
        client.upsert("photos", [to_point(records(0, 1)[0], dataclasses.replace(LAYOUT, tiled=False))], wait=False)
    assert json.loads(client.get_collection("photos").config.metadata["jclip"])["format"] == 2
