"""Adding to a collection: files of equal bytes, captions, and progress."""

import shutil
from pathlib import Path

import pytest

from jclip_connectors import AsyncMultimodalCollection, EmbeddingConfig, EmbedInputError, MultimodalCollection
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.testing import HashEmbedder
from jclip_connectors.testing.embedder_contract import picture
from tests.test_async_collection import AsyncInMemoryStore

CONFIG = EmbeddingConfig(model="hash", revision="1", dimensions=32)


@pytest.fixture
def collection():
    return MultimodalCollection(HashEmbedder(CONFIG), InMemoryStore(CONFIG), batch_size=2)


@pytest.fixture
def twins(tmp_path):
    """Three files of equal bytes."""
    paths = [str(tmp_path / f"{name}.png") for name in "abc"]
    picture(0).save(paths[0])
    for path in paths[1:]:
        shutil.copy(paths[0], path)
    return paths


def uris(collection):
    return sorted(str(hit.uri) for hit in collection.search("anything"))


def test_files_of_equal_bytes_in_one_call_are_all_found(collection, twins):
    report = collection.add_images(twins)
    assert len(set(report.ids)) == 3
    assert uris(collection) == twins


def test_files_of_equal_bytes_in_several_calls_are_all_found_and_added_once(collection, twins):
    ids = [collection.add_images([path]).ids[0] for path in twins]
    for path, record_id in zip(reversed(twins), reversed(ids), strict=True):
        again = collection.add_images([path])
        assert (again.ids, again.embedded) == ((record_id,), 0)
    assert uris(collection) == twins


def test_a_file_that_was_the_second_keeps_its_record_when_the_first_is_gone(collection, twins):
    first, second, _ = collection.add_images(twins).ids
    collection.delete([first])
    assert collection.add_images(twins[1:2]).ids == (second,)
    assert uris(collection) == twins[1:]


def test_a_file_that_was_moved_keeps_its_record_and_its_vectors(collection, twins):
    first = collection.add_images(twins[:1])
    moved = Path(twins[0]).rename(Path(twins[0]).with_name("moved.png"))
    again = collection.add_images([str(moved)])
    assert (again.ids, again.embedded) == (first.ids, 0)
    assert uris(collection) == [str(moved)]


def test_a_relative_and_an_absolute_path_are_one_file(collection, twins, monkeypatch):
    monkeypatch.chdir(Path(twins[0]).parent)
    ids = collection.add_images(twins).ids
    assert collection.add_images(["a.png", "b.png", "c.png"]).ids == ids
    assert collection.count() == 3


def test_given_ids_are_never_changed(collection, twins):
    assert collection.add_images(twins, ids=["1", "1", "2"]).ids == ("1", "1", "2")


async def test_an_asyncio_collection_keeps_files_of_equal_bytes_apart(twins):
    store = AsyncInMemoryStore(CONFIG)
    collection = AsyncMultimodalCollection(HashEmbedder(CONFIG), store, batch_size=1)
    report = await collection.add_images(twins)
    assert len(set(report.ids)) == 3
    assert (await collection.add_images(twins)).embedded == 0
    assert store.inner.count() == 3


def test_captions_are_the_content_of_images(collection, twins):
    report = collection.add_images(twins, captions=["a cat", None, "a dog"])
    assert [record.content for record in collection.get(report.ids)] == ["a cat", None, "a dog"]
    report = collection.add_images(twins[:1], captions=["a black cat"])
    assert (collection.get(report.ids)[0].content, report.embedded) == ("a black cat", 0)


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        (["a"], "`captions` has 1 entries for 3 items"),
        ("abc", "`captions` is one str"),
        (["a", 3, None], r"`captions`\[1\] is int"),
    ],
)
def test_bad_captions_are_refused_before_anything_is_written(collection, twins, captions, message):
    with pytest.raises(EmbedInputError, match=message):
        collection.add_images(twins, captions=captions)
    assert collection.count() == 0


def test_progress_is_told_before_the_first_and_after_every_batch(collection, twins):
    told = []
    collection.add_images([*twins, b"no image", b"no image"], progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 5), (2, 5), (4, 5), (5, 5)]
    told.clear()
    collection.add_texts(["a", "b", "c"], progress=lambda done, total: told.append((done, total)))
    assert told == [(0, 3), (2, 3), (3, 3)]


async def test_progress_of_concurrent_batches_only_grows():
    told = []
    collection = AsyncMultimodalCollection(HashEmbedder(CONFIG), AsyncInMemoryStore(CONFIG), batch_size=2)
    texts = [f"text {at}" for at in range(9)]
    await collection.add_texts(texts, progress=lambda done, total: told.append((done, total)))
    assert (told[0], told[-1], len(told)) == ((0, 9), (9, 9), 6)
    assert told == sorted(told)
