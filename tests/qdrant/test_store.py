"""What is particular to Qdrant: how a collection is made, what is sent, and what becomes of errors."""

import asyncio
import dataclasses
import json
import logging
import socket
import threading
import time
import types
from contextlib import closing
from typing import Any

import grpc  # type: ignore[import-untyped]  # grpcio brings no stubs
import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import (
    CollectionMismatchError,
    ConnectorError,
    EmbedInputError,
    PartialFailureError,
    StoreRequestError,
    StoreUnavailableError,
)
from jclip_connectors.port import NativeFilter, Record
from jclip_connectors.qdrant.errors import translate
from jclip_connectors.qdrant.requests import Layout, to_filter, to_point, to_query
from jclip_connectors.qdrant.store import AsyncQdrantStore, QdrantStore, stored_fingerprint
from jclip_connectors.store_kit import flows
from jclip_connectors.testing.bridge import BridgedStore, EventLoop
from jclip_connectors.testing.store_contract import METADATA, StoreContract
from jclip_connectors.testing.store_contract import E as CONTRACT_E
from tests.doubles.qdrant_server import MAX_BODY_BYTES, Fault, QdrantServer

E = 16
CONFIG = EmbeddingConfig(model="qdrant", revision="1", dimensions=E)
TILED = dataclasses.replace(CONFIG, tiling=Tiling(max_tiles=4))
UNSIZED = dataclasses.replace(CONFIG, dimensions=None)
UPSERT, SEARCH = r"PUT .*/points$", r"POST .*/points/query$"


def records(start, stop, **fields):
    rng = np.random.default_rng(start)
    return [
        Record(record_id=str(i), modality="image", embedding=rng.normal(size=E).astype(np.float32), **fields)
        for i in range(start, stop)
    ]


QUERY = records(999, 1000)[0].embedding


class TestAsyncQdrantStore(StoreContract):
    @pytest.fixture(scope="class")
    @classmethod
    def open_store(cls):
        opened: dict[EmbeddingConfig, BridgedStore] = {}
        client = AsyncQdrantClient(":memory:")
        with EventLoop() as loop:

            def open_store(config):
                if config not in opened:
                    dimensions = CONTRACT_E if config.embedding_dim is None else None
                    opening = AsyncQdrantStore.open(client, str(len(opened)), config, dimensions=dimensions)
                    opened[config] = BridgedStore(loop.run(opening), loop)
                opened[config].delete(where={})
                return opened[config]

            yield open_store
            loop.run(client.close())


@pytest.fixture
def server():
    with QdrantServer() as server:
        yield server


@pytest.fixture
def client(server):
    with closing(QdrantClient(url=server.url, check_compatibility=False)) as client:
        yield client


@pytest.fixture
def store(client, server):
    store = QdrantStore.open(client, "photos", CONFIG)
    server.requests.clear()
    return store


@pytest.fixture
def quick(monkeypatch):
    """Waits between attempts are noted and not waited for."""
    waited: list[float] = []
    monkeypatch.setattr(flows, "time", types.SimpleNamespace(sleep=waited.append))
    return waited


# Opening


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"model": "other"}, "`model` 'qdrant' (now 'other')"),
        ({"dimensions": 8}, "`dimensions` 16 (now 8)"),
        ({"tiling": Tiling(max_tiles=4)}, "`tiling` None (now 'max_tiles=4')"),
    ],
)
def test_another_configuration_is_refused_and_every_difference_named(store, client, other, difference):
    with pytest.raises(CollectionMismatchError) as caught:
        QdrantStore.open(client, "photos", dataclasses.replace(CONFIG, **other))
    assert difference in str(caught.value)
    assert "'photos'" in str(caught.value)
    assert caught.value.stored == CONFIG.fingerprint() == dict(store.fingerprint)


def test_what_was_written_is_there_for_another_client(store, server):
    store.upsert(records(0, 10, metadata={"a": 1}))
    with closing(QdrantClient(url=server.url, check_compatibility=False)) as client:
        again = QdrantStore.open(client, "photos", CONFIG)
        assert again.count() == 10
        assert again.search(QUERY, where={"a": {"gte": 1}}) == store.search(QUERY, where={"a": {"gte": 1}})


def test_a_collection_of_another_program_is_left_alone(client, server):
    client.create_collection("photos", vectors_config=models.VectorParams(size=E, distance=models.Distance.COSINE))
    server.requests.clear()
    for call in (lambda: QdrantStore.open(client, "photos", CONFIG), lambda: stored_fingerprint(client, "photos")):
        with pytest.raises(StoreRequestError, match=r"'photos' has no fingerprint.*Name another collection"):
            call()
    assert {call.split()[0] for call in server.calls()} == {"GET"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        (7, "damaged"),
        ('{"format": 2, "fingerprint": {}}', "another version"),
    ],
)
def test_a_fingerprint_that_cannot_be_read_is_refused(client, text, message):
    vectors = {"full": models.VectorParams(size=E, distance=models.Distance.COSINE)}
    client.create_collection("photos", vectors_config=vectors, metadata={"jclip": text})
    with pytest.raises(StoreRequestError, match=message):
        QdrantStore.open(client, "photos", CONFIG)


@pytest.mark.usefixtures("store")
def test_the_stored_fingerprint_is_told_without_a_configuration(client):
    assert stored_fingerprint(client, "photos") == CONFIG.fingerprint()
    assert stored_fingerprint(client, "nothing") is None


def test_of_two_that_make_one_collection_at_once_both_get_it(server):
    barrier = threading.Barrier(4)
    opened: list[int] = []
    errors: list[Exception] = []

    def work():
        with closing(QdrantClient(url=server.url, check_compatibility=False)) as client:
            barrier.wait()
            try:
                opened.append(QdrantStore.open(client, "photos", CONFIG).count())
            except ConnectorError as error:
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (opened, errors) == ([0, 0, 0, 0], [])


def test_a_collection_that_another_process_has_just_made_is_opened(client, server):
    QdrantStore.open(client, "photos", CONFIG)
    absent = b'{"result": {"exists": false}, "status": "ok", "time": 0}'
    server.faults.append(Fault(r"GET .*/exists", status=201, body=absent))  # as it was a moment ago
    assert QdrantStore.open(client, "photos", CONFIG).count() == 0
    server.faults.append(Fault(r"GET .*/exists", status=201, body=absent))
    with pytest.raises(CollectionMismatchError):
        QdrantStore.open(client, "photos", TILED)


def test_a_collection_that_may_not_be_made_is_told(client, server):
    server.faults.append(Fault("PUT", status=400, body=b'{"status": {"error": "no room for collections"}}'))
    with pytest.raises(StoreRequestError, match="no room for collections"):
        QdrantStore.open(client, "photos", CONFIG)


def test_a_collection_of_unknown_length_wants_dimensions(client):
    with pytest.raises(EmbedInputError, match="give `dimensions`"):
        QdrantStore.open(client, "photos", UNSIZED)
    QdrantStore.open(client, "photos", UNSIZED, dimensions=E).upsert(records(0, 1))
    again = QdrantStore.open(client, "photos", UNSIZED)
    assert again.count() == 1
    with pytest.raises(EmbedInputError, match=r"not \(16,\)"):
        again.search(np.ones(E + 1, np.float32))
    with pytest.raises(EmbedInputError, match=r"`dimensions` is 17, but .* was made with 16"):
        QdrantStore.open(client, "photos", UNSIZED, dimensions=17)


BAD_OPTIONS = [
    ({"dimensions": 0}, "`dimensions` is 0"),
    ({"dimensions": True}, "`dimensions` is True"),
    ({"dimensions": 65_537}, "from 1 to 65536"),
    ({"dimensions": 17}, "`dimensions` is 17, but the configuration has 16"),
    ({"coarse_dimensions": 16}, "less than 16"),
    ({"coarse_dimensions": 0}, "`coarse_dimensions` is 0"),
    ({"quantization": "product"}, r"`quantization` is 'product'; use one of \('scalar', 'binary'\)"),
    ({"candidates": 0}, "`candidates` is 0"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS, ids=str)
def test_a_bad_option_is_refused_before_anything_is_asked(client, server, options, message):
    with pytest.raises(EmbedInputError, match=message):
        QdrantStore.open(client, "photos", CONFIG, **options)
    assert server.requests == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a?b", "x" * 256, "a\0", None, 3])
def test_a_name_that_qdrant_does_not_have_is_refused(client, server, name):
    for call in (lambda: QdrantStore.open(client, name, CONFIG), lambda: stored_fingerprint(client, name)):
        with pytest.raises(EmbedInputError, match="`collection_name`"):
            call()
    assert server.requests == []


def test_a_name_with_spaces_and_umlauts_is_a_name(client):
    store = QdrantStore.open(client, "grüne Äpfel %41", CONFIG)
    store.upsert(records(0, 2))
    assert store.count() == 2


# What a collection is made of


def made(client, config, **options):
    QdrantStore.open(client, "made", config, **options)
    vectors = client.get_collection("made").config.params.vectors
    client.delete_collection("made")
    return vectors


@pytest.mark.parametrize(
    ("model", "dimensions", "coarse"),
    [
        ("jinaai/jina-clip-v2", None, 64),
        ("jinaai/jina-clip-v2", 129, 64),
        ("jinaai/jina-clip-v2", 128, None),
        ("jinaai/jina-clip-v1", None, None),
        ("nano", None, None),
        ("elsewhere", 1024, None),
    ],
)
def test_a_new_collection_gets_a_prefix_where_the_model_was_trained_for_it(client, model, dimensions, coarse):
    config = EmbeddingConfig(model=model, dimensions=dimensions)
    if model == "nano":
        config = EmbeddingConfig(model=model)
    vectors = made(client, config)
    assert vectors["full"].size == config.embedding_dim
    assert ("coarse" in vectors) == (coarse is not None)
    if coarse is not None:
        assert vectors["coarse"].size == coarse


def test_only_what_is_searched_first_has_a_graph(client):
    plain = made(client, TILED)
    assert plain["full"].hnsw_config.m is None
    assert plain["tiles"].hnsw_config.m == 0
    staged = made(client, TILED, coarse_dimensions=4)
    assert {name: vector.hnsw_config.m for name, vector in staged.items()} == {"coarse": None, "full": 0, "tiles": 0}
    assert {vector.distance for vector in staged.values()} == {models.Distance.COSINE}
    assert staged["tiles"].multivector_config.comparator == models.MultiVectorComparator.MAX_SIM
    assert staged["full"].multivector_config is None


def test_a_collection_of_a_few_thousand_long_vectors_is_still_scanned(client):
    vectors = made(client, dataclasses.replace(CONFIG, dimensions=1024))
    assert vectors["full"].hnsw_config.full_scan_threshold == 4096 * 4  # KiB; 4 KiB a vector
    assert made(client, CONFIG)["full"].hnsw_config.full_scan_threshold == 10_000


@pytest.mark.parametrize(
    ("quantization", "kind"), [("scalar", models.ScalarQuantization), ("binary", models.BinaryQuantization)]
)
def test_quantized_vectors_are_a_first_stage_of_their_own(client, server, quantization, kind):
    config = EmbeddingConfig(model="jinaai/jina-clip-v2", dimensions=256)
    store = QdrantStore.open(client, "photos", config, quantization=quantization)
    vectors = client.get_collection("photos").config.params.vectors
    assert set(vectors) == {"full"}
    assert isinstance(vectors["full"].quantization_config, kind)
    assert vectors["full"].on_disk is True
    store.search(np.ones(256, np.float32))
    assert server.requests[-1].json["params"]["quantization"] == {"rescore": True, "oversampling": 3.0}
    QdrantStore.open(client, "photos", config)
    QdrantStore.open(client, "photos", config, quantization=quantization)
    other: Any = "binary" if quantization == "scalar" else "scalar"
    with pytest.raises(EmbedInputError, match=f"`quantization` is '{other}', but .* was made with '{quantization}'"):
        QdrantStore.open(client, "photos", config, quantization=other)


def test_a_prefix_that_is_asked_for_is_what_gets_quantized(client):
    vectors = made(client, CONFIG, coarse_dimensions=8, quantization="scalar")
    assert vectors["coarse"].quantization_config is not None
    assert vectors["full"].quantization_config is None


def test_the_prefix_is_part_of_the_collection(client):
    QdrantStore.open(client, "photos", CONFIG, coarse_dimensions=8)
    for other in (4, None):
        with pytest.raises(EmbedInputError, match=f"`coarse_dimensions` is {other}, but .* was made with 8"):
            QdrantStore.open(client, "photos", CONFIG, coarse_dimensions=other)
    QdrantStore.open(client, "photos", CONFIG).upsert(records(0, 5))
    assert len(QdrantStore.open(client, "photos", CONFIG, coarse_dimensions=8).search(QUERY)) == 5


# Searching


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


def test_only_writing_makes_indexes_and_each_once(store, server, client):
    store.search(QUERY, where={"year": {"gt": 1}})
    store.count(where={"year": {"gt": 1}})
    assert not any("/index" in call for call in server.calls())
    store.upsert(records(0, 2, metadata={"year": 2020, "tag": "x"}))
    store.upsert(records(2, 4, metadata={"year": 2021, "prices": [1, 2.5], "tag": "x"}))
    QdrantStore.open(client, "photos", CONFIG).upsert(records(4, 6, metadata={"year": 2021}))
    asked = [(r.json["field_name"], r.json["field_schema"]) for r in server.requests if "/index" in r.call]
    assert asked == [
        ("modality", "keyword"),
        ("terms", "keyword"),
        ('numbers."year"', "float"),
        ('numbers."prices"', "float"),
    ]


def test_a_key_that_may_only_read_can_search(caplog):
    caplog.set_level(logging.DEBUG)
    with QdrantServer(api_key="owner-secret", read_only_key="reader-secret") as server:

        def connect(key):
            with pytest.warns(UserWarning, match="insecure connection"):
                return closing(QdrantClient(url=server.url, api_key=key, check_compatibility=False))

        with connect("owner-secret") as client:
            owner = QdrantStore.open(client, "photos", CONFIG)
            owner.upsert(records(0, 3, metadata={"year": 2020}))
        with connect("reader-secret") as client:
            reader = QdrantStore.open(client, "photos", CONFIG)
            assert len(reader.search(QUERY, where={"year": {"gt": 2000}})) == 3
            assert reader.count() == len(list(reader.scroll())) == len(reader.get(["0", "1", "2"])) == 3
            said = [repr(reader), str(vars(reader)), caplog.text]
            for call in (lambda: reader.upsert(records(0, 1)), lambda: reader.delete(["0"])):
                with pytest.raises(StoreRequestError, match=r"credentials \(HTTP 403\): check the API key") as caught:
                    call()
                said += [str(caught.value), repr(caught.value)]
        with connect("stolen-secret") as client, pytest.raises(StoreRequestError, match="HTTP 401") as caught:
            QdrantStore.open(client, "photos", CONFIG)
        said += [str(caught.value), repr(caught.value)]
        assert "secret" not in " ".join(said)


def test_a_key_that_is_no_header_is_not_quoted(server):
    with (
        pytest.warns(UserWarning, match="insecure connection"),
        closing(QdrantClient(url=server.url, api_key="secret\n", check_compatibility=False)) as client,
        pytest.raises(StoreRequestError) as caught,
    ):
        QdrantStore.open(client, "photos", CONFIG)
    assert "secret" not in str(caught.value)


# Filters in Qdrant's own language


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
        with pytest.raises(EmbedInputError, match=r"NativeFilter of .*: Qdrant takes a `qdrant_client.models.Filter`"):
            call()
    assert server.requests == []


def test_fields_hold_what_qdrant_can_hold():
    deep: list[object] = []
    for _ in range(40):
        deep = [deep]
    metadata = {**METADATA, "\udcff": 1, "deep": deep, "edge": 2**63 - 1, "over": 2**63, "inside": [{"n": 2**64}]}
    payload: Any = to_point(records(0, 1, metadata=metadata)[0], LAYOUT).payload
    kept = {"int", "float", "tiny", "bool", "null", "empty", "list", "nested", "a.b[0]", "and", "long", "edge"}
    assert set(payload["fields"]) == kept
    assert all(repr(payload["fields"][key]) == repr(metadata[key]) for key in kept)


LAYOUT = Layout(dimensions=E, coarse=4, tiled=True, quantization="scalar")


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


# Writing in batches


def sizes(server):
    return [len(request.json["points"]) for request in server.requests if request.call.endswith("/points")]


def test_records_are_written_by_the_256(store, server):
    store.upsert(records(0, 600))
    assert sizes(server) == [256, 256, 88]
    assert store.count() == 600


def test_a_request_stays_below_the_size_that_a_server_takes(store, server):
    megabyte = "\u00e4" * 2**19  # two bytes each; six in the JSON of a careless program
    long = [dataclasses.replace(r, modality="text", content=megabyte, metadata={"n": megabyte}) for r in records(0, 20)]
    store.upsert(long)
    assert max(len(request.body) for request in server.requests) < MAX_BODY_BYTES
    assert 1 < len(sizes(server)) < 20
    assert store.get(["19"])[0].metadata == {"n": megabyte}


def test_the_size_of_vectors_is_not_underestimated(client, server):
    store = QdrantStore.open(client, "photos", TILED)
    rng = np.random.default_rng(0)
    boxes = np.zeros((2000, 4), int)
    many = [
        dataclasses.replace(record, tile_embeddings=rng.normal(size=(2000, E)), tile_boxes=boxes)
        for record in records(0, 40)
    ]
    store.upsert(many)
    assert len(sizes(server)) > 1
    assert max(len(request.body) for request in server.requests) < 24 * 2**20


def test_a_record_too_large_for_any_request_is_refused_by_name_and_nothing_written(store, server):
    large = dataclasses.replace(records(1, 2)[0], record_id="huge", modality="text", content="x" * 25 * 2**20)
    with pytest.raises(EmbedInputError, match=r"'huge' needs \d+ bytes in a request"):
        store.upsert([*records(0, 1), large])
    assert server.requests == []


def test_a_refused_batch_is_reported_by_position_and_the_others_are_written(store, server):
    given = [*records(0, 600), *records(300, 301)]  # 300 twice
    server.faults.append(Fault(UPSERT, status=400, body=b'{"status": {"error": "bad batch"}}', skip=1))
    with pytest.raises(PartialFailureError, match=r"257 of 601 records failed: 256: the record '256' is not") as caught:
        store.upsert(given)
    assert sorted(caught.value.failed) == [*range(256, 512), 600]
    assert sorted(caught.value.kept) == [*range(256), *range(512, 600)]
    error = caught.value.failed[600]
    assert isinstance(error, StoreRequestError)
    assert str(error) == "the record '300' is not written: Qdrant refuses this (HTTP 400): bad batch"
    assert store.count() == 344


@pytest.mark.usefixtures("quick")
def test_after_a_batch_that_does_not_get_through_the_rest_is_not_tried(store, server):
    server.faults.append(Fault(UPSERT, status=503, skip=1, times=99))
    with pytest.raises(PartialFailureError) as caught:
        store.upsert(records(0, 1000))
    assert sorted(caught.value.failed) == list(range(256, 1000))
    assert all(isinstance(error, StoreUnavailableError) for error in caught.value.failed.values())
    assert sizes(server) == [256, 256, 256, 256]  # the first, and three attempts at the second
    assert store.count() == 256


@pytest.mark.usefixtures("quick")
def test_if_nothing_was_written_the_error_is_the_servers(store, server):
    server.faults.append(Fault(UPSERT, status=503, times=99))
    with pytest.raises(StoreUnavailableError, match="HTTP 503"):
        store.upsert(records(0, 300))
    server.faults[:] = [Fault(UPSERT, status=400, times=99)]
    with pytest.raises(StoreRequestError, match="HTTP 400"):
        store.upsert(records(0, 300))
    assert store.count() == 0


@pytest.mark.usefixtures("quick")
def test_a_write_that_is_tried_again_writes_once(store, server):
    server.faults.append(Fault(UPSERT, status=502))
    store.upsert(records(0, 3))
    assert store.count() == 3
    assert sizes(server) == [3, 3]


# Errors


def test_a_server_that_is_down_is_unavailable(quick):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with closing(QdrantClient(url=f"http://127.0.0.1:{port}", check_compatibility=False)) as client:
        for call in (lambda: QdrantStore.open(client, "photos", CONFIG), lambda: stored_fingerprint(client, "photos")):
            with pytest.raises(StoreUnavailableError, match="cannot be reached"):
                call()
    assert quick == [0.25, 0.5] * 2


@pytest.mark.usefixtures("quick")
def test_a_server_that_goes_away_is_unavailable(store, server):
    server.stop()
    with pytest.raises(StoreUnavailableError):
        store.count()


@pytest.mark.usefixtures("quick")
def test_a_server_that_is_slow_is_waited_for_no_longer_than_the_client_says(server):
    with closing(QdrantClient(url=server.url, check_compatibility=False, timeout=1)) as client:
        store = QdrantStore.open(client, "photos", CONFIG)
        server.faults.append(Fault(SEARCH, delay_s=20, times=3))
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="not answered in time"):
            store.search(QUERY)
        assert time.monotonic() - started < 15


def test_a_server_that_asks_to_wait_is_waited_for(store, server, quick):
    server.faults.append(Fault(SEARCH, status=429, headers={"Retry-After": "7"}))
    assert store.search(QUERY) == []
    assert quick == [7.0]


def test_a_server_that_asks_to_wait_for_an_hour_is_not_waited_for(store, server, quick):
    server.faults.append(Fault(SEARCH, status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(StoreUnavailableError, match="asks to wait 3600 s") as caught:
        store.search(QUERY)
    assert caught.value.retry_after_s == 3600.0
    assert quick == []


def test_after_three_attempts_the_delay_is_told(store, server, quick):
    server.faults.append(Fault(SEARCH, status=429, headers={"Retry-After": "2"}, times=99))
    with pytest.raises(StoreUnavailableError) as caught:
        store.search(QUERY)
    assert caught.value.retry_after_s == 2.0
    assert quick == [2.0, 2.0]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again(store, server, quick, status):
    server.faults.append(Fault(SEARCH, status=status, times=2))
    assert store.search(QUERY) == []
    server.faults.append(Fault(SEARCH, status=status, times=3))
    with pytest.raises(StoreUnavailableError, match=f"HTTP {status}.: out of order"):
        store.search(QUERY)
    assert quick == [0.25, 0.5] * 2


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, b'{"status": {"error": "expected dim: 16"}}', r"refuses this \(HTTP 400\): expected dim: 16"),
        (404, b"<html>lost</html>", r"\(HTTP 404\): <html>lost"),
        (413, b"", "max_request_size_mb"),
        (418, b"\xff" * 10_000, r"\(HTTP 418\)"),
        (401, b'{"status": {"error": "key secret-1 is bad"}}', "check the API key"),
    ],
)
def test_a_refusal_is_told_once_and_not_tried_again(store, server, status, body, message):
    server.faults.append(Fault(SEARCH, status=status, body=body, times=99))
    with pytest.raises(StoreRequestError, match=message) as caught:
        store.search(QUERY)
    assert len(server.requests) == 1
    assert len(str(caught.value)) < 1000
    assert "secret" not in str(caught.value)


def test_an_answer_of_something_else_is_told(store, server):
    server.faults.append(Fault(SEARCH, status=201, body=b'{"result": "hello"}'))
    with pytest.raises(StoreRequestError, match="is it a Qdrant server"):
        store.search(QUERY)


def test_a_collection_that_is_gone_is_told(store, client):
    client.delete_collection("photos")
    for call in (store.count, lambda: store.search(QUERY), lambda: store.upsert(records(0, 1))):
        with pytest.raises(StoreRequestError, match=r"HTTP 404.*photos"):
            call()


def test_a_closed_client_is_told(store, client):
    client.close()
    with pytest.raises(StoreRequestError, match="client is closed"):
        store.count()


def test_local_mode_refuses_as_a_server_does():
    client = QdrantClient(":memory:")
    store = QdrantStore.open(client, "photos", CONFIG)
    store.upsert(records(0, 3))
    assert store.count() == 3
    client.delete_collection("photos")
    with pytest.raises(StoreRequestError, match="not found"):
        store.count()
    client.close()
    with pytest.raises(StoreRequestError, match="closed"):
        store.count()


class CallError(grpc.RpcError):  # type: ignore[misc]  # grpcio brings no stubs
    def __init__(self, code):
        super().__init__()
        self._code = code

    def code(self):
        return self._code

    def details(self):
        return "what the server says"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, StoreUnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, StoreUnavailableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, StoreUnavailableError),
        (grpc.StatusCode.UNAUTHENTICATED, StoreRequestError),
        (grpc.StatusCode.INVALID_ARGUMENT, StoreRequestError),
    ],
)
def test_errors_of_the_grpc_transport_are_translated(code, kind):
    ours = translate(CallError(code))
    assert type(ours) is kind
    assert code.name in str(ours)


def test_errors_of_others_are_not_taken_for_the_clients():
    for error in (ZeroDivisionError(), KeyError("x"), OSError(28, "No space left on device")):
        assert translate(error) is None


# Asynchronously


async def test_many_can_wait_for_the_server_at_once(server):
    client = AsyncQdrantClient(url=server.url, check_compatibility=False)
    store = await AsyncQdrantStore.open(client, "photos", CONFIG)
    await asyncio.gather(*(store.upsert(records(start, start + 10)) for start in range(0, 100, 10)))
    assert await store.count() == 100
    server.faults.append(Fault(SEARCH, meeting=threading.Barrier(5), times=5))
    found = await asyncio.gather(*(store.search(QUERY, limit=3) for _ in range(5)))
    assert found == [found[0]] * 5
    assert len([record async for record in store.scroll()]) == 100
    await store.close()
    await client.close()


async def test_errors_are_the_same_for_a_program_with_an_event_loop(server, monkeypatch):
    waited = []

    async def note(seconds):
        waited.append(seconds)

    client = AsyncQdrantClient(url=server.url, check_compatibility=False)
    store = await AsyncQdrantStore.open(client, "photos", CONFIG)
    monkeypatch.setattr(flows, "asyncio", types.SimpleNamespace(sleep=note))
    server.faults.append(Fault(SEARCH, status=429, headers={"Retry-After": "3"}))
    assert await store.search(QUERY) == []
    assert waited == [3.0]
    with pytest.raises(CollectionMismatchError):
        await AsyncQdrantStore.open(client, "photos", TILED)
    server.faults.append(Fault(UPSERT, status=400, skip=1))
    with pytest.raises(PartialFailureError) as caught:
        await store.upsert(records(0, 300))
    assert sorted(caught.value.failed) == list(range(256, 300))
    await client.close()
    with pytest.raises(StoreRequestError, match="closed"):
        await store.count()


def test_what_the_double_does_not_know_it_refuses_loudly(client):
    QdrantStore.open(client, "photos", CONFIG)
    with pytest.raises(Exception, match=r"the double has no .*/points/query/groups"):
        client.query_points_groups("photos", group_by="a", query=QUERY.tolist(), using="full")
    with pytest.raises(Exception, match="that does not wait"):
        client.upsert("photos", [to_point(records(0, 1)[0], dataclasses.replace(LAYOUT, tiled=False))], wait=False)
    assert json.loads(client.get_collection("photos").config.metadata["jclip"])["format"] == 1
