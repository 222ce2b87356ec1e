"""Making and opening a collection: names, options, fingerprints, and what another program has made."""

import dataclasses
import threading
from contextlib import closing

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from core_encoder.tiling import Tiling
from jclip_connectors.errors import CollectionMismatchError, ConnectorError, EmbedInputError, StoreRequestError
from jclip_connectors.qdrant.store import QdrantStore, stored_fingerprint
from tests.doubles.qdrant_server import Fault
from tests.qdrant.harness import CONFIG, QUERY, TILED, UNSIZED, E, records


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
        with pytest.raises(StoreRequestError, match=r"'photos' has no fingerprint.*Use another collection"):
            call()
    assert {call.split()[0] for call in server.calls()} == {"GET"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        (7, "damaged"),
        ('{"format": 3, "fingerprint": {}}', "another version"),
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
    ({"hnsw_ef": 0}, "`hnsw_ef` is 0"),
    ({"oversampling": 0.5}, "`oversampling` is 0.5; use a number of at least 1"),
    ({"oversampling": float("nan")}, "`oversampling` is nan"),
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
