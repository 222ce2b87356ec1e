import dataclasses

import numpy as np
import pytest
from PIL import Image

from core_encoder.tiling import Tiling
from jclip_connectors import EmbeddingConfig, MultimodalCollection
from jclip_connectors.edge.store import QdrantEdgeStore
from jclip_connectors.errors import CollectionMismatchError, EmbedInputError
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.testing import HashEmbedder

CONFIG = EmbeddingConfig(model="hash", revision="1", dimensions=64)
TILED = dataclasses.replace(CONFIG, tiling=Tiling(max_tiles=4))


class CountingEmbedder(HashEmbedder):
    """Tells how much it was asked for at a time."""

    def __init__(self, config):
        super().__init__(config)
        self.batches = []

    def embed_texts(self, texts):
        self.batches.append(len(texts))
        return super().embed_texts(texts)

    def embed_images(self, images):
        self.batches.append(len(images))
        return super().embed_images(images)


@pytest.fixture
def collection():
    return MultimodalCollection(CountingEmbedder(CONFIG), InMemoryStore(CONFIG), batch_size=4)


@pytest.fixture
def embedder(collection):
    return collection._embedder


@pytest.fixture
def paths(tmp_path):
    found = []
    for i in range(10):
        found.append(tmp_path / f"{i}.png")
        Image.new("RGB", (8, 8), (i, i, i)).save(found[-1])
    return found


def ids_of(hits):
    return [hit.record_id for hit in hits]


def test_an_image_is_found_by_itself_and_a_text_by_its_words(collection, paths):
    images = collection.add_images(paths, metadatas=[{"n": i} for i in range(10)])
    collection.add_texts(["a red bicycle", "stock prices"], ids=["bike", "stock"])
    hit = collection.search(image=paths[3], modality="image", limit=1)[0]
    assert (hit.record_id, hit.metadata, hit.uri) == (images.ids[3], {"n": 3}, str(paths[3]))
    assert hit.score == pytest.approx(1, abs=1e-6)
    assert ids_of(collection.search("red bicycle", modality="text")) == ["bike", "stock"]
    assert collection.search("red bicycle", modality="text")[0].content == "a red bicycle"


def test_everything_is_reported_in_the_order_of_the_items(collection, paths):
    report = collection.add_images(paths, ids=[f"id{i}" for i in range(10)])
    assert report.ids == tuple(f"id{i}" for i in range(10))
    assert report.failed == {}
    assert report.embedded == 10
    assert collection.count() == 10


def test_adding_a_file_again_changes_nothing_and_embeds_nothing(collection, embedder, paths):
    first = collection.add_images(paths)
    embedder.batches.clear()
    again = collection.add_images([str(path) for path in paths])
    assert again.ids == first.ids
    assert again.embedded == 0
    assert embedder.batches == []
    assert collection.count() == 10


def test_new_metadata_is_written_without_embedding_again(collection, embedder, paths):
    (record_id,) = collection.add_images(paths[:1], metadatas=[{"old": 1}]).ids
    before = collection.get([record_id])[0].embedding
    embedder.batches.clear()
    assert collection.add_images(paths[:1], metadatas=[{"new": 2}]).embedded == 0
    (record,) = collection.get([record_id])
    assert record.metadata == {"new": 2}
    np.testing.assert_array_equal(record.embedding, before)
    assert embedder.batches == []


def test_new_content_under_an_old_id_is_embedded(collection):
    collection.add_texts(["one"], ids=["a"])
    assert collection.add_texts(["two"], ids=["a"]).embedded == 1
    assert collection.get(["a"])[0].content == "two"
    assert collection.search("two", modality="text")[0].score == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("texts", [["one", "two"], ["two", "one"], ["one", "two", "one"]])
def test_of_items_with_one_id_the_last_is_kept(collection, texts):
    collection.add_texts(["one"], ids=["a"])
    report = collection.add_texts(texts, ids=["a"] * len(texts))
    assert report.ids == ("a",) * len(texts)
    (record,) = collection.get(["a"])
    assert record.content == texts[-1]
    np.testing.assert_allclose(record.embedding, HashEmbedder(CONFIG).embed_query(texts[-1]), atol=1e-6)


def test_a_text_and_an_image_do_not_share_an_id_by_accident(collection):
    data = b"abc"
    text_id = collection.add_texts([data.decode()]).ids[0]
    assert text_id.startswith("text-")
    assert collection.add_images([data]).failed.keys() == {0}


def test_a_text_and_an_image_with_one_content_hash_do_not_share_a_vector(collection, embedder):
    text = "P3 2 1 255 255 0 0 0 0 255"  # a text, and also a plain PPM file of two pixels
    image = text.encode()
    as_text, as_image = embedder.embed_texts([text])[0], embedder.embed_images([image])[0]
    for add, item, vector, content in (
        (collection.add_texts, text, as_text, text),
        (collection.add_images, image, as_image, None),
        (collection.add_texts, text, as_text, text),
    ):
        assert add([item], ids=["a"]).embedded == 1
        (record,) = collection.get(["a"])
        assert (record.modality, record.content) == ("image" if content is None else "text", content)
        np.testing.assert_allclose(record.embedding, vector, atol=1e-6)


def test_work_is_done_in_batches(collection, embedder, paths):
    collection.add_images(paths)
    collection.add_texts(["t"] * 5, ids=list("abcde"))
    assert embedder.batches == [4, 4, 2, 4, 1]


def test_bad_images_are_reported_and_the_others_kept(collection, paths, tmp_path):
    broken = tmp_path / "broken.png"
    Image.effect_noise((32, 32), 50).save(broken)
    broken.write_bytes(broken.read_bytes()[:500])
    given = [
        paths[0],
        tmp_path / "nope.png",
        broken,
        *paths[1:4],
        b"no image",
        "http://user:secret@host/a.png",
        tmp_path,
    ]
    report = collection.add_images(given, ids=[str(i) for i in range(9)])
    assert report.ids == ("0", "3", "4", "5")
    assert list(report.failed) == [1, 2, 6, 7, 8]
    assert all(isinstance(error, EmbedInputError) for error in report.failed.values())
    assert "nope.png" in str(report.failed[1])
    assert "URL" in str(report.failed[7])
    assert "secret" not in str(report.failed[7])
    assert sorted(ids_of(collection.search("x", modality="image"))) == ["0", "3", "4", "5"]


def test_a_path_is_kept_as_the_uri_and_nothing_else_is(collection, paths):
    data = paths[0].read_bytes()
    collection.add_images([data, Image.open(paths[1]), np.zeros((4, 4, 3), np.uint8), paths[2]], ids=list("abcd"))
    assert [record.uri for record in collection.get(list("abcd"))] == [None, None, None, str(paths[2])]


def test_a_file_and_its_bytes_are_one_record(collection, paths):
    assert collection.add_images([paths[0]]).ids == collection.add_images([paths[0].read_bytes()]).ids


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metadatas": [{}]}, "`metadatas` has 1 entries for 2 items"),
        ({"metadatas": {"a": 1}}, "`metadatas` is one dict"),
        ({"metadatas": [{}, {"a": float("inf")}]}, r"`metadatas`\[1\]\['a'\] is not JSON"),
        ({"metadatas": [{}, None]}, r"`metadatas`\[1\] is NoneType"),
        ({"ids": ["a"]}, "`ids` has 1 entries for 2 items"),
        ({"ids": "ab"}, "`ids` is one str"),
        ({"ids": ["a", ""]}, r"`ids`\[1\] is ''"),
        ({"ids": ["a", 7]}, r"`ids`\[1\] is 7"),
    ],
)
def test_what_the_caller_got_wrong_is_refused_before_anything_is_written(
    collection, embedder, paths, arguments, message
):
    for add, items in ((collection.add_texts, ["x", "y"]), (collection.add_images, paths[:2])):
        with pytest.raises(EmbedInputError, match=message):
            add(items, **arguments)
    assert collection.count() == 0
    assert embedder.batches == []


def test_one_item_is_not_a_list(collection, paths):
    with pytest.raises(EmbedInputError, match=r"write a list, \[text\]"):
        collection.add_texts("a red bicycle")
    for image in (str(paths[0]), paths[0], b"x", Image.new("RGB", (2, 2)), np.zeros((4, 4, 3), np.uint8)):
        with pytest.raises(EmbedInputError, match=r"write a list, \[image\]"):
            collection.add_images(image)


@pytest.mark.parametrize("bad", [None, 3, b"bytes"])
def test_what_is_no_text_is_refused_by_position(collection, bad):
    with pytest.raises(EmbedInputError, match=r"`texts`\[1\]"):
        collection.add_texts(["good", bad])
    assert collection.count() == 0


def test_a_text_that_is_no_unicode_is_reported(collection):
    report = collection.add_texts(["good", "\ud800"])
    assert list(report.failed) == [1]
    assert collection.count() == 1


def test_nothing_added_is_no_error(collection):
    assert collection.add_texts([]).ids == ()
    assert collection.add_images([]).ids == ()
    assert collection.search("anything") == []


def test_texts_and_images_are_compared_by_rank_score_and_keep_their_cosines(collection, paths):
    collection.add_images(paths[:3])
    collection.add_texts(["red", "green", "blue"], ids=["r", "g", "b"])
    hits = collection.search("red", limit=6)
    assert hits[0].record_id == "r"
    ranks = [hit.rank_score for hit in hits]
    assert ranks == sorted(ranks, reverse=True)
    for modality in ("text", "image"):
        alone = collection.search("red", modality=modality)
        assert [(hit.record_id, hit.score) for hit in hits if hit.modality == modality] == [
            (hit.record_id, hit.score) for hit in alone
        ]


def test_with_one_modality_there_is_nothing_to_compare(collection):
    collection.add_texts(["red", "green"], ids=["r", "g"])
    hits = collection.search("red")
    assert ids_of(hits) == ["r", "g"]
    assert hits[0].score == pytest.approx(1, abs=1e-6)


def test_filters_and_limits_reach_the_store(collection, paths):
    collection.add_images(paths, metadatas=[{"year": 2015 + i} for i in range(10)])
    hits = collection.search(image=paths[0], where={"year": {"gte": 2020}}, limit=3)
    assert len(hits) == 3
    assert all(hit.metadata["year"] >= 2020 for hit in hits)
    assert collection.count(where={"year": {"lt": 2020}}) == 5
    collection.delete(where={"year": {"lt": 2020}})
    assert collection.count() == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "one of `text` and `image`"),
        ({"text": "a", "image": b"b"}, "one of `text` and `image`"),
        ({"text": 3}, "`text` is int"),
        ({"image": b"b"}, "`image` cannot be embedded: the image"),
        ({"text": "a", "limit": 0}, "`limit`"),
        ({"text": "a", "modality": "video"}, "`modality`"),
        ({"text": "a", "where": {"a": {"like": 1}}}, "unknown operator 'like'"),
    ],
)
def test_a_bad_search_is_refused_by_name(collection, arguments, message):
    with pytest.raises(EmbedInputError, match=message):
        collection.search(**arguments)


def test_a_store_of_another_configuration_is_refused():
    with pytest.raises(CollectionMismatchError, match="`tiling`"):
        MultimodalCollection(HashEmbedder(TILED), InMemoryStore(CONFIG))
    with pytest.raises(EmbedInputError, match="`batch_size` is 0"):
        MultimodalCollection(HashEmbedder(CONFIG), InMemoryStore(CONFIG), batch_size=0)


def test_tiles_find_the_part_of_an_image_and_name_its_box(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (10, 40, 3), dtype=np.uint8)
    with QdrantEdgeStore.open(tmp_path / "c", TILED) as store:
        collection = MultimodalCollection(HashEmbedder(TILED), store)
        collection.add_images([noise, noise[:, ::-1]], ids=["a", "b"])
        collection.add_texts(["a text"], ids=["t"])
        (hit,) = collection.search(image=noise[:, 20:].copy(), limit=1, modality="image")
        assert (hit.record_id, hit.box) == ("a", (20, 0, 40, 10))
        assert hit.score == pytest.approx(1, abs=1e-5)
        (hit,) = collection.search(image=noise, limit=1, modality="image")
        assert (hit.record_id, hit.box) == ("a", (0, 0, 40, 10))
        (hit,) = collection.search("a text", modality="text")
        assert (hit.record_id, hit.box) == ("t", None)
        assert hit.score == pytest.approx(1, abs=1e-5)
        assert collection.add_images([noise, noise[:, ::-1]], metadatas=[{"n": 1}, {}], ids=["a", "b"]).embedded == 0
        tiles = collection.get(["a"])[0].tile_embeddings
        assert tiles is not None
        assert tiles.shape == (3, 64)


@pytest.mark.parametrize("name", ["texts", "images"])
@pytest.mark.parametrize("items", [(item for item in ["a"]), {"a"}, {"a": "b"}, None, 3])
def test_what_has_no_order_or_no_length_is_refused_with_what_to_write(collection, name, items):
    add = collection.add_texts if name == "texts" else collection.add_images
    with pytest.raises(EmbedInputError, match=rf"`{name}` is .*; write a list"):
        add(items)
    for other in ("metadatas", "ids"):
        if items is not None:
            with pytest.raises(EmbedInputError, match=rf"`{other}` is .*; write a list"):
                add(["a"], **{other: items})
    assert collection.count() == 0
