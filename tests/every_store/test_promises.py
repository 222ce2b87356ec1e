"""One gallery, one model, every store: the same rankings, the same boxes, and no mixing of configurations."""

import contextlib
import dataclasses

import lancedb
import numpy as np
import pytest
from qdrant_client import QdrantClient

from core_encoder.encoder import JinaClipEncoder
from core_encoder.nano.captions import Description, Mention, full_description, write
from core_encoder.nano.scenes import Colour, SceneObject, Shape, draw_canvas, draw_scene, random_object, random_scene
from core_encoder.nano.wording import LANGUAGES
from core_encoder.tiling import Tiling
from jclip_connectors.chroma import ChromaStore
from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.edge.store import QdrantEdgeStore
from jclip_connectors.errors import CollectionMismatchError
from jclip_connectors.lancedb import LanceStore
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.milvus.store import MilvusStore
from jclip_connectors.pgvector import PgVectorStore
from jclip_connectors.pinecone.store import PineconeStore
from jclip_connectors.port import MODALITIES
from jclip_connectors.qdrant.store import QdrantStore
from jclip_connectors.testing import HashEmbedder
from jclip_connectors.weaviate.store import WeaviateStore
from tests.doubles.chroma_stores import folder_client
from tests.doubles.pgvector_stores import schema as pgvector_schema
from tests.doubles.pinecone_server import PineconeDouble
from tests.doubles.qdrant_server import QdrantServer
from tests.doubles.weaviate_server import WeaviateDouble
from tests.every_store.live_stores import EACH_STORE, LIVE_STORES

NANO = EmbeddingConfig(model="nano")
SHORT = dataclasses.replace(NANO, dimensions=16)
TILED = dataclasses.replace(NANO, tiling=Tiling(max_tiles=16))
PICTURES, CAPTIONS, CANVASES = 200, 25, 24
TIE = 1e-5  # scores that are nearer than this may come in any order

# A small thing each, in one tile of sixteen.
PAIRS: list[tuple[Shape, Colour]] = [("ring", "orange"), ("cross", "white"), ("star", "yellow"), ("heart", "pink")]
HIDDEN = [SceneObject(shape=shape, colour=colour, size="small", place="centre") for shape, colour in PAIRS]


def scenes():
    rng = np.random.default_rng(11)
    return [random_scene(rng, num_objects=1 + index % 3) for index in range(PICTURES)]


SCENES = scenes()


def facts(index):
    items = SCENES[index].objects
    return {
        "n": index,
        "count": len(items),
        "shapes": [item.shape for item in items],
        "colours": [item.colour for item in items],
        "first": {"shape": items[0].shape},
        **({"large": True} if items[0].size == "large" else {}),
    }


def asked(index, language):
    return write(full_description(SCENES[index]), language)


def query_picture(index):
    return draw_scene(SCENES[index], seed=5000 + index).image


QUERIES = {
    **{
        f"{LANGUAGES[index % 5]} {index}": ({"text": asked(index, LANGUAGES[index % 5])}, {}, lambda _: True)
        for index in range(10)
    },
    **{f"picture {index}": ({"index": index}, {}, lambda _: True) for index in range(20, 24)},
    "en of one shape": ({"text": "a red circle"}, {"shapes": "circle"}, lambda meta: "circle" in meta["shapes"]),
    "zh of a range": ({"text": asked(31, "zh")}, {"n": {"gte": 50, "lt": 120}}, lambda meta: 50 <= meta["n"] < 120),
    "fr without a colour": (
        {"text": asked(32, "fr")},
        {"colours": {"nin": ["blue", "black"]}},
        lambda meta: not {"blue", "black"} & set(meta["colours"]),
    ),
    "de of either": (
        {"text": asked(33, "de")},
        {"or": [{"count": 1}, {"large": {"exists": True}, "count": {"gt": 2}}]},
        lambda meta: meta["count"] == 1 or ("large" in meta and meta["count"] > 2),
    ),
    "picture not of a field": ({"index": 34}, {"not": {"large": True}}, lambda meta: "large" not in meta),
    "picture of one": ({"index": 35}, {"n": 35}, lambda meta: meta["n"] == 35),
    "es of none": ({"text": asked(36, "es")}, {"first": "circle"}, lambda _: False),
}


@pytest.fixture(scope="module")
def embedders():
    """For each configuration, all of one loaded model."""
    encoder = JinaClipEncoder.load("nano", local_files_only=True)
    return {config: LocalEmbedder(config, encoder=encoder) for config in (NANO, SHORT, TILED)}


@pytest.fixture(scope="module")
def gallery(embedders):
    """200 pictures and 25 captions, embedded once: records."""
    store = InMemoryStore(NANO)
    collection = MultimodalCollection(embedders[NANO], store)
    pictures = [draw_scene(scene, seed=index).image for index, scene in enumerate(SCENES)]
    described = [facts(index) for index in range(PICTURES)]
    collection.add_images(pictures, described, [f"picture {index}" for index in range(PICTURES)])
    captions = [asked(index, LANGUAGES[index % 5]) for index in range(CAPTIONS)]
    collection.add_texts(captions, described[:CAPTIONS], [f"caption {index}" for index in range(CAPTIONS)])
    return list(store.scroll())


@pytest.fixture(scope="module")
def canvases(embedders):
    """Records with tiles, and where on each canvas the object is: (left, top, right, bottom)."""
    rng = np.random.default_rng(3)
    taken = {(item.shape, item.colour) for item in HIDDEN}
    items = list(HIDDEN)
    while len(items) < CANVASES:
        item = random_object(rng)
        if (item.shape, item.colour) not in taken:
            items.append(item)
    drawn = [draw_canvas(item, seed=200 + index, tiles_per_side=4) for index, item in enumerate(items)]
    store = InMemoryStore(TILED)
    names = [f"canvas {index}" for index in range(CANVASES)]
    MultimodalCollection(embedders[TILED], store).add_images([drawing.image for drawing in drawn], ids=names)
    extents = {}
    for name, drawing in zip(names, drawn, strict=True):
        rows, columns = np.nonzero(drawing.owner == 0)
        extents[name] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return list(store.scroll()), extents


@pytest.fixture(scope="module", params=EACH_STORE)
def open_store(request):
    with LIVE_STORES[request.param]() as opened:
        yield opened


@pytest.fixture(scope="module")
def filled(open_store, embedders, gallery):
    store = open_store(NANO)
    store.upsert(gallery)
    return MultimodalCollection(embedders[NANO], store)


@pytest.fixture(scope="module")
def tiled(open_store, embedders, canvases):
    store = open_store(TILED)
    store.upsert(canvases[0])
    return MultimodalCollection(embedders[TILED], store)


def check_ranking(hits, exact):
    """`hits` are all of `exact`, a score by id, from the best to the worst."""
    assert {hit.record_id for hit in hits} == set(exact)
    assert [hit.score for hit in hits] == pytest.approx(sorted(exact.values(), reverse=True), abs=TIE)
    assert [hit.score for hit in hits] == pytest.approx([exact[hit.record_id] for hit in hits], abs=TIE)


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize(("query", "where", "matches"), QUERIES.values(), ids=QUERIES)
def test_every_store_ranks_the_gallery_by_the_exact_cosines(
    filled, embedders, gallery, query, where, matches, modality
):
    embedder = embedders[NANO]
    if "text" in query:
        vector = embedder.embed_query(query["text"])
        hits = filled.search(query["text"], limit=PICTURES, where=where, modality=modality)
    else:
        picture = query_picture(query["index"])
        vector = embedder.embed_images([picture])[0]
        hits = filled.search(image=picture, limit=PICTURES, where=where, modality=modality)
    exact = {
        record.record_id: float(record.embedding @ vector)
        for record in gallery
        if record.modality == modality and matches(record.metadata)
    }
    check_ranking(hits, exact)
    assert all(matches(hit.metadata) for hit in hits)


def test_every_store_finds_pictures_by_words_in_every_language(filled):
    right = 0
    for index in range(0, 30, 3):  # scenes of one object: any picture of such an object is right
        (item,) = SCENES[index].objects
        mentioned = Description(mentions=(Mention(shape=item.shape, colour=item.colour, size=None, place=None),))
        best = filled.search(write(mentioned, LANGUAGES[index % 5]), limit=1, modality="image")[0]
        right += mentioned.fits(SCENES[best.metadata["n"]])
    assert right >= 9


def test_every_store_orders_pictures_and_captions_in_the_same_way(filled, embedders, gallery):
    memory = InMemoryStore(NANO)
    memory.upsert(gallery)
    for text in (asked(0, "en"), asked(7, "fr")):
        hits = filled.search(text, limit=20)
        expected = MultimodalCollection(embedders[NANO], memory).search(text, limit=20)
        assert [hit.rank_score for hit in hits] == pytest.approx([hit.rank_score for hit in expected], abs=1e-3)
        assert [hit.record_id for hit in hits] == [hit.record_id for hit in expected]
        for kind in MODALITIES:
            apart = filled.search(text, limit=20, modality=kind)
            mixed = [hit for hit in hits if hit.modality == kind]
            assert mixed
            assert [hit.record_id for hit in mixed] == [hit.record_id for hit in apart[: len(mixed)]]
            assert [hit.score for hit in mixed] == pytest.approx([hit.score for hit in apart[: len(mixed)]], abs=1e-5)


def test_what_every_store_keeps_of_texts_and_pictures_is_of_one_length_and_unit_norm(filled, gallery, embedders):
    kept = {record.record_id: record for record in filled._store.scroll()}
    assert kept.keys() == {record.record_id for record in gallery}
    for record in gallery:
        stored = kept[record.record_id]
        assert stored.embedding.shape == (embedders[NANO].dimensions,)
        assert stored.embedding.dtype == np.float32
        assert np.linalg.norm(stored.embedding) == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(stored.embedding, record.embedding, atol=1e-6)
        assert (stored.modality, stored.metadata) == (record.modality, record.metadata)


def test_truncated_vectors_of_texts_and_pictures_are_of_that_length_and_unit_norm(open_store, embedders):
    collection = MultimodalCollection(embedders[SHORT], open_store(SHORT))
    collection.add_images([query_picture(index) for index in range(3)], ids=["a", "b", "c"])
    collection.add_texts(["a red circle", "", "eine blaue Raute"], ids=["d", "e", "f"])
    records = collection.get(list("abcdef"))
    assert [record.modality for record in records] == ["image"] * 3 + ["text"] * 3
    assert {record.embedding.shape for record in records} == {(16,)}
    assert [np.linalg.norm(record.embedding) for record in records] == pytest.approx([1] * 6, abs=1e-5)


def test_tiles_are_kept_with_their_boxes_and_unit_norm(tiled, canvases):
    records, _ = canvases
    for record, stored in zip(records, tiled.get([record.record_id for record in records]), strict=True):
        assert stored.tile_embeddings.shape == (17, stored.embedding.shape[0])
        np.testing.assert_allclose(np.linalg.norm(stored.tile_embeddings, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(stored.tile_embeddings, record.tile_embeddings, atol=1e-6)
        assert stored.tile_boxes.tolist() == record.tile_boxes.tolist()


@pytest.mark.parametrize("index", range(len(HIDDEN)), ids=[f"{item.colour} {item.shape}" for item in HIDDEN])
def test_tiles_find_the_small_object_and_tell_the_box_that_holds_it(tiled, embedders, canvases, index):
    records, extents = canvases
    item = HIDDEN[index]
    mentioned = Description(mentions=(Mention(shape=item.shape, colour=item.colour, size=item.size, place=None),))
    text = write(mentioned, LANGUAGES[index % 5])
    hits = tiled.search(text, limit=CANVASES)
    query = embedders[TILED].embed_query(text)
    check_ranking(hits, {record.record_id: float((record.tile_embeddings @ query).max()) for record in records})
    best = hits[0]
    assert best.record_id == f"canvas {index}"
    left, top, right, bottom = extents[best.record_id]
    assert (best.box.right - best.box.left, best.box.bottom - best.box.top) == (72, 72)  # a tile, not all of it
    assert best.box.left <= left < right <= best.box.right
    assert best.box.top <= top < bottom <= best.box.bottom


# --- what cannot be mixed

OTHERS = {
    "model": (
        EmbeddingConfig(model="jinaai/jina-clip-v2", dimensions=NANO.embedding_dim),
        "`model` 'nano' (now 'jinaai/jina-clip-v2')",
    ),
    "dimensions": (SHORT, f"`dimensions` {NANO.embedding_dim} (now 16)"),
    "tiling": (TILED, "`tiling` None (now 'max_tiles=16')"),
}


@contextlib.contextmanager
def edge_opener(folder):
    def reopen(config):
        with QdrantEdgeStore.open(folder / "photos.jclip", config) as store:
            return store.fingerprint, store.count()

    def fill(records):
        with QdrantEdgeStore.open(folder / "photos.jclip", NANO) as store:
            store.upsert(records)

    yield fill, reopen


def remote_opener(open_one):
    """An opener over `open_one`, which opens one collection with a configuration."""

    def reopen(config):
        with contextlib.closing(open_one(config)) as store:
            return store.fingerprint, store.count()

    def fill(records):
        with contextlib.closing(open_one(NANO)) as store:
            store.upsert(records)

    return fill, reopen


@contextlib.contextmanager
def qdrant_opener(_):
    with (
        QdrantServer() as server,
        contextlib.closing(QdrantClient(url=server.url, check_compatibility=False)) as client,
    ):
        yield remote_opener(lambda config: QdrantStore.open(client, "photos", config))


@contextlib.contextmanager
def weaviate_opener(_):
    with WeaviateDouble() as server, server.connect() as client:
        yield remote_opener(lambda config: WeaviateStore.open(client, "Photos", config))
    assert server.surprises == []


@contextlib.contextmanager
def pinecone_opener(_):
    with PineconeDouble() as server, server.connect() as client:
        yield remote_opener(lambda config: PineconeStore.open(client, "photos", config))
    assert server.surprises == []


@contextlib.contextmanager
def pgvector_opener(_):
    with pgvector_schema() as (connection, schema):
        yield remote_opener(lambda config: PgVectorStore.open(connection, "photos", config, schema=schema))


@contextlib.contextmanager
def lancedb_opener(folder):
    connection = lancedb.connect(folder)
    yield remote_opener(lambda config: LanceStore.open(connection, "photos", config))


@contextlib.contextmanager
def milvus_opener(folder):
    yield remote_opener(lambda config: MilvusStore.open(folder / "milvus.db", "photos", config))


@contextlib.contextmanager
def chroma_opener(folder):
    with folder_client(folder / "data") as client:
        yield remote_opener(lambda config: ChromaStore.open(client, "photos", config))


OPENERS = {
    "edge": edge_opener,
    "qdrant": qdrant_opener,
    "weaviate": weaviate_opener,
    "pinecone": pinecone_opener,
    "pgvector": pgvector_opener,
    "lancedb": lancedb_opener,
    "milvus": milvus_opener,
    "chroma": chroma_opener,
}


@pytest.fixture(scope="module", params=[each for each in EACH_STORE if each.values[0] in OPENERS])
def opener(request, tmp_path_factory, gallery):
    with OPENERS[request.param](tmp_path_factory.mktemp("opener")) as (fill, reopen):
        fill(gallery[:3])
        yield reopen


@pytest.mark.parametrize(("other", "difference"), OTHERS.values(), ids=OTHERS)
def test_a_collection_is_not_opened_with_another_configuration_and_both_values_are_named(opener, other, difference):
    with pytest.raises(CollectionMismatchError) as caught:
        opener(other)
    assert difference in str(caught.value)
    assert caught.value.stored == NANO.fingerprint()
    assert caught.value.requested == other.fingerprint()
    assert opener(NANO) == (NANO.fingerprint(), 3)


@pytest.mark.parametrize(("config", "difference"), [(SHORT, OTHERS["dimensions"][1]), (TILED, OTHERS["tiling"][1])])
def test_no_store_is_put_together_with_an_embedder_of_another_configuration(filled, embedders, config, difference):
    with pytest.raises(CollectionMismatchError) as caught:
        MultimodalCollection(embedders[config], filled._store)
    assert difference in str(caught.value)


def test_no_store_is_put_together_with_an_embedder_of_another_model(filled):
    other, difference = OTHERS["model"]
    with pytest.raises(CollectionMismatchError) as caught:
        MultimodalCollection(HashEmbedder(other), filled._store)
    assert difference in str(caught.value)
