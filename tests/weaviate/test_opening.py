"""Making and opening a collection: names, options, fingerprints, and two clients at the same time."""

import dataclasses
import re

import pytest
from weaviate.classes.config import Configure

from core_encoder.tiling import Tiling
from jclip_connectors.errors import CollectionMismatchError, EmbedInputError, StoreRequestError
from jclip_connectors.testing.store_contract import PLAIN, TILED, ids_of, image
from jclip_connectors.weaviate.schema import read_description
from jclip_connectors.weaviate.store import WeaviateStore, stored_fingerprint
from tests.doubles.weaviate_server import WeaviateDouble
from tests.weaviate.harness import at_once

FOLDER = dataclasses.replace(PLAIN, dimensions=None)  # like a model in a folder: the length is not known


def stored_index(server, name, vector_name="full"):
    return server.collections[name].definition["vectorConfig"][vector_name]["vectorIndexConfig"]


@pytest.mark.parametrize(
    ("config", "field", "stored", "now"),
    [
        (dataclasses.replace(PLAIN, model="other"), "model", "contract", "'other'"),
        (dataclasses.replace(PLAIN, dimensions=6), "dimensions", 8, 6),
        (dataclasses.replace(PLAIN, tiling=Tiling(max_tiles=4)), "tiling", None, "'.*max_tiles=4"),
        (dataclasses.replace(PLAIN, revision="2"), "revision", "1", "'2'"),
    ],
)
def test_a_collection_of_another_configuration_is_refused_with_both_values(photos, client, config, field, stored, now):
    assert photos.count() == 0
    with pytest.raises(CollectionMismatchError, match=f"`{field}` {stored!r} \\(now {now}"):
        WeaviateStore.open(client, "Photos", config)


def test_the_same_configuration_opens_it_again_with_what_it_holds(photos, client):
    photos.upsert([image("a", metadata={"n": 1})])
    again = WeaviateStore.open(client, "Photos", PLAIN)
    assert ids_of(again.scroll(where={"n": {"gt": 0}})) == ["a"]


def test_the_fingerprint_can_be_read_without_a_configuration(photos, client):
    assert stored_fingerprint(client, "Photos") == photos.fingerprint == PLAIN.fingerprint()
    assert stored_fingerprint(client, "Nothing") is None


FOREIGN = [
    None,
    "photos of the sea",
    "{}",
    "7",
    '{"jclip": 1}',
    '{"jclip": {"fingerprint": {}}}',
    '{"jclip": {"fingerprint": 1, "dimensions": 8}}',
    '{"jclip": {"fingerprint": {}, "dimensions": 8, "later": 1}}',
]


@pytest.mark.parametrize("description", FOREIGN)
def test_a_collection_of_somebody_else_is_refused(client, description):
    client.collections.create(
        "Theirs", description=description, vector_config=[Configure.Vectors.self_provided(name="full")]
    )
    with pytest.raises(StoreRequestError, match="another program made the collection 'Theirs'"):
        WeaviateStore.open(client, "Theirs", PLAIN)
    with pytest.raises(StoreRequestError, match="another program made the collection"):
        stored_fingerprint(client, "Theirs")
    assert read_description(description) is None


@pytest.mark.parametrize("name", ["photos", "", "Pho-tos", "Phötos", "1Photos", "P" * 256, None, "Photos\n"])
def test_a_name_that_weaviate_refuses_is_refused_before_anything_is_asked(server, client, name):
    server.calls.clear()
    for opening in (lambda: WeaviateStore.open(client, name, PLAIN), lambda: stored_fingerprint(client, name)):
        with pytest.raises(EmbedInputError, match=r"`collection_name` is .*use a capital A-Z"):
            opening()
    assert server.calls == []


@pytest.mark.parametrize("quantizer", ["rq", "bq", "sq", "pq", None])
def test_a_new_collection_compresses_as_it_is_told_and_not_otherwise(server, client, quantizer):
    WeaviateStore.open(client, "Photos", TILED, quantizer=quantizer)
    for name, asked in (("full", quantizer), ("tiles", None)):
        index = stored_index(server, "Photos", name)
        assert [kind for kind in ("rq", "bq", "sq", "pq") if index[kind]["enabled"]] == ([asked] if asked else [])
    assert stored_index(server, "Photos")["distance"] == "cosine"


@pytest.mark.parametrize("muvera", [True, False])
def test_muvera_is_for_tiles_and_as_it_is_told(server, client, muvera):
    WeaviateStore.open(client, "Tiled", TILED, muvera=muvera)
    index = stored_index(server, "Tiled", "tiles")
    assert index["multivector"]["enabled"]
    assert index["multivector"]["muvera"]["enabled"] is muvera


@pytest.mark.parametrize(
    ("config", "options", "named"),
    [
        (PLAIN, {"quantizer": "zip"}, "`quantizer` is 'zip'; use one of"),
        (PLAIN, {"quantizer": True}, "`quantizer` is True"),
        (PLAIN, {"muvera": True}, "`muvera`"),
        (FOLDER, {}, "give `dimensions`"),
        (FOLDER, {"dimensions": 0}, "`dimensions` is 0; use an int from 1 to 65535"),
        (FOLDER, {"dimensions": True}, "`dimensions` is True"),
        (PLAIN, {"dimensions": 9}, "`dimensions` is 9, but the configuration has 8"),
    ],
)
def test_a_bad_option_is_refused_before_anything_is_asked(server, client, config, options, named):
    server.calls.clear()
    with pytest.raises(EmbedInputError, match=named):
        WeaviateStore.open(client, "Photos", config, **options)
    assert server.calls == []


def test_vectors_of_another_length_than_the_collection_has_are_refused(client):
    WeaviateStore.open(client, "Photos", FOLDER, dimensions=8)
    with pytest.raises(EmbedInputError, match="`dimensions` is 9, but the collection 'Photos' was made with 8"):
        WeaviateStore.open(client, "Photos", FOLDER, dimensions=9)


def test_a_collection_that_exists_keeps_its_options_and_is_not_opened_with_others(client):
    WeaviateStore.open(client, "Tiled", TILED, quantizer="rq", muvera=True)
    WeaviateStore.open(client, "Tiled", TILED)
    WeaviateStore.open(client, "Tiled", TILED, quantizer="rq", muvera=True)
    with pytest.raises(EmbedInputError, match="`quantizer` is 'bq', but the collection 'Tiled' was made with 'rq'"):
        WeaviateStore.open(client, "Tiled", TILED, quantizer="bq")
    WeaviateStore.open(client, "Plain", TILED)
    with pytest.raises(EmbedInputError, match="`muvera` is True, but the collection 'Plain' was made with False"):
        WeaviateStore.open(client, "Plain", TILED, muvera=True)


@pytest.mark.parametrize("version", ["1.32.5", "1.27.0"])
def test_a_server_that_is_too_old_is_refused(version):
    refusal = pytest.raises(StoreRequestError, match=f"{re.escape(version)}.*use 1.33 or later")
    with WeaviateDouble(version=version) as server, server.connect() as client, refusal:
        WeaviateStore.open(client, "Photos", PLAIN)


def test_two_that_make_one_collection_at_once_both_have_it(server, client):
    server.gather("GET /v1/schema/Photos", 2)  # both see that there is none
    results, errors = at_once(*[lambda: WeaviateStore.open(client, "Photos", PLAIN)] * 2)
    assert errors == []
    assert server.calls.count("POST /v1/schema") == 2
    results[0].upsert([image("a")])
    assert ids_of(results[1].scroll()) == ["a"]


def test_two_that_make_one_collection_in_two_ways_do_not_share_it(server, client):
    other = dataclasses.replace(PLAIN, revision="2")
    server.gather("GET /v1/schema/Photos", 2)
    results, errors = at_once(
        lambda: WeaviateStore.open(client, "Photos", PLAIN), lambda: WeaviateStore.open(client, "Photos", other)
    )
    assert len(results) == 1
    assert [type(error) for error in errors] == [CollectionMismatchError]
