"""Collections that are embedded again from their sources, and what is not found any more."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from core_encoder.nano.scenes import draw_scene, random_scene
from core_encoder.tiling import Tiling
from jclip_connectors.bulk import reindexing
from jclip_connectors.bulk.found_sources import SourceFinder
from jclip_connectors.bulk.reindexing import reindex_collection
from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError, StoreUnavailableError
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.memory import InMemoryStore

OLD = EmbeddingConfig(model="nano")
NEW = EmbeddingConfig(model="nano", dimensions=64, tiling=Tiling(max_tiles=4))


@pytest.fixture(scope="module")
def embedder():
    return LocalEmbedder(OLD)


@pytest.fixture(scope="module")
def new_embedder(embedder):
    return embedder.with_config(NEW)


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    paths = [tmp_path / "photos" / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        draw_scene(random_scene(rng, num_objects=2), seed=number, side_px=144).image.save(path)
    return paths


@pytest.fixture
def old(embedder, photos):
    store = InMemoryStore(OLD)
    collection = MultimodalCollection(embedder, store)
    collection.add_images(photos, metadatas=[{"n": number, "size_bytes": None} for number in range(6)])
    collection.add_texts(["a red bicycle", "a blue boat"], ids=["bicycle", "boat"], metadatas=[{"n": 1.0}, {"n": None}])
    return store


def fresh(new_embedder, photos):
    collection = MultimodalCollection(new_embedder, store := InMemoryStore(NEW))
    collection.add_images(photos, metadatas=[{"n": number, "size_bytes": None} for number in range(6)])
    collection.add_texts(["a red bicycle", "a blue boat"], ids=["bicycle", "boat"], metadatas=[{"n": 1.0}, {"n": None}])
    return store


def by_id(store):
    return {record.record_id: record for record in store.scroll()}


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for record_id, record in wanted.items():
        fields = dataclasses.asdict(record)
        for name, value in dataclasses.asdict(found[record_id]).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_allclose(value, fields[name], atol=1e-6, err_msg=f"{record_id} {name}")
            else:
                assert value == fields[name], f"{record_id} {name}"


def test_a_reindexed_collection_is_the_one_that_the_new_model_would_have_made(old, photos, new_embedder):
    before = by_id(old)
    seen = []
    report = reindex_collection(
        old, new := InMemoryStore(NEW), new_embedder, batch_size=3, progress=lambda *done: seen.append(done)
    )
    assert (report.total, report.embedded, report.unchanged, report.moved) == (8, 8, 0, 0)
    assert (report.missing, report.extra, report.settled) == ({}, 0, True)
    assert seen == [(3, 8), (6, 8), (8, 8)]
    assert_equal(by_id(new), by_id(fresh(new_embedder, photos)))
    assert_equal(by_id(old), before)
    again = reindex_collection(old, new, new_embedder)
    assert (again.embedded, again.unchanged) == (0, 8)


def test_a_moved_picture_is_found_by_its_content_where_it_is_told_to_look(old, photos, new_embedder, tmp_path):
    elsewhere = tmp_path / "elsewhere" / "deep"
    elsewhere.mkdir(parents=True)
    for path in photos[:2]:
        shutil.move(path, elsewhere / f"moved {path.name}")
    (elsewhere / "other.png").write_bytes(b"no picture")
    lost = reindex_collection(old, new := InMemoryStore(NEW), new_embedder)
    assert len(lost.missing) == 2
    assert set(lost.missing.values()) == {f"there is no file {str(path)!r}" for path in photos[:2]}
    found = reindex_collection(old, new, new_embedder, look_in=[tmp_path / "elsewhere"])
    assert (found.embedded, found.unchanged, found.moved, found.missing) == (2, 6, 2, {})
    addresses = {record.uri for record in new.scroll() if record.uri is not None}
    assert addresses == {*map(str, photos[2:]), *(str(elsewhere / f"moved {path.name}") for path in photos[:2])}
    assert reindex_collection(old, new, new_embedder).unchanged == 8  # at its new place it is not missed


def test_what_is_not_found_again_is_told_and_not_invented(old, photos, new_embedder):
    photos[0].unlink()
    draw_scene(random_scene(np.random.default_rng(9), num_objects=2), seed=9, side_px=144).image.save(photos[1])
    photos[2].unlink()
    photos[2].mkdir()
    one = next(old.scroll(modality="image"))
    places = {"bytes": None, "url": "https://user:secret@host/a.png", "nul": "a\0b"}
    lost = [dataclasses.replace(one, record_id=name, uri=uri, content_hash="sha256:0") for name, uri in places.items()]
    old.upsert(lost)
    report = reindex_collection(old, new := InMemoryStore(NEW), new_embedder)
    reasons = {old.get([record_id])[0].uri or record_id: reason for record_id, reason in report.missing.items()}
    assert reasons == {
        str(photos[0]): f"there is no file {str(photos[0])!r}",
        str(photos[1]): f"{str(photos[1])!r} has other content than when it was added",
        str(photos[2]): f"{str(photos[2])!r} is no file",
        "bytes": "the record has no address: its picture was added as bytes, or as pixels",
        "https://user:secret@host/a.png": "the picture is at a URL, and URLs are not downloaded",
        "a\0b": reasons["a\0b"],
    }
    assert "secret" not in str(list(reasons.values()))
    assert new.count() == report.embedded == 5


def test_a_picture_that_was_added_as_bytes_is_found_by_its_content(photos, embedder, new_embedder):
    collection = MultimodalCollection(embedder, old := InMemoryStore(OLD))
    collection.add_images([photos[0].read_bytes()])
    old.upsert([dataclasses.replace(next(old.scroll()), record_id="file", uri=photos[1].as_uri(), content_hash=None)])
    report = reindex_collection(old, new := InMemoryStore(NEW), new_embedder, look_in=[photos[0].parent])
    assert (report.embedded, report.moved, report.missing) == (2, 1, {})
    assert {record.uri for record in new.scroll()} == {str(photos[0]), photos[1].as_uri()}


def test_a_picture_that_cannot_be_decoded_is_named_and_the_others_are_kept(old, photos, new_embedder):
    bad = photos[0].read_bytes()[:200]
    photos[0].write_bytes(bad)
    [record] = [record for record in old.scroll() if record.uri == str(photos[0])]
    old.upsert([dataclasses.replace(record, content_hash=None)])
    report = reindex_collection(old, new := InMemoryStore(NEW), new_embedder)
    assert list(report.missing) == [record.record_id]
    assert new.count() == 7


def test_a_stopped_run_goes_on_and_embeds_nothing_twice(old, new_embedder):
    class Ending(InMemoryStore):
        left = 2

        def upsert(self, records):
            if not self.left:
                raise StoreUnavailableError("busy")
            self.left -= 1
            super().upsert(records)

    new = Ending(NEW)
    with pytest.raises(StoreUnavailableError):
        reindex_collection(old, new, new_embedder, batch_size=2)
    assert new.count() == 4
    new.left = 100
    report = reindex_collection(old, new, new_embedder, batch_size=2)
    assert (report.embedded, report.unchanged) == (4, 4)


def test_a_record_of_which_only_the_metadata_has_changed_keeps_its_new_vectors(old, new_embedder):
    reindex_collection(old, new := InMemoryStore(NEW), new_embedder)
    record = next(old.scroll(modality="image"))
    Path(record.uri).unlink()
    old.upsert([dataclasses.replace(record, metadata={"n": 99}, content="a caption")])
    report = reindex_collection(old, new, new_embedder)
    assert (report.embedded, report.unchanged, report.missing) == (0, 8, {})
    [now] = new.get([record.record_id])
    assert (now.metadata, now.content, now.tile_embeddings is None) == ({"n": 99}, "a caption", False)


def test_records_that_come_meanwhile_are_taken_too_and_a_collection_that_never_rests_is_told(old, new_embedder):
    class Busy(InMemoryStore):
        added = 0
        most = 1

        def count(self, **options):
            if self.added < self.most:
                self.added += 1
                text = f"text {self.added}"
                self.upsert([dataclasses.replace(old.get(["boat"])[0], record_id=text, content=text)])
            return super().count(**options)

    busy = Busy(OLD)
    busy.upsert(list(old.scroll()))
    report = reindex_collection(busy, new := InMemoryStore(NEW), new_embedder)
    assert (report.total, report.settled, new.count()) == (9, True, 9)
    busy.most = 100
    assert not reindex_collection(busy, new, new_embedder).settled


def test_records_that_the_old_collection_does_not_have_are_counted_and_kept(old, new_embedder):
    new = InMemoryStore(NEW)
    reindex_collection(old, new, new_embedder)
    old.delete(["boat"])
    assert reindex_collection(old, new, new_embedder).extra == 1
    assert new.count() == 8


def test_a_refused_record_is_named(old, new_embedder):
    class Refusing(InMemoryStore):
        def upsert(self, records):
            if any(each.record_id == "boat" for each in records):
                raise EmbedInputError("too large")
            super().upsert(records)

    report = reindex_collection(old, Refusing(NEW), new_embedder)
    assert report.missing == {"boat": "too large"}


def test_many_large_pictures_of_a_batch_are_read_some_at_a_time(old, new_embedder, monkeypatch):
    monkeypatch.setattr(reindexing, "_BATCH_BYTES", 1)
    assert reindex_collection(old, InMemoryStore(NEW), new_embedder).embedded == 8


def test_a_file_is_not_read_beyond_the_limit_of_a_picture(old, embedder):
    limited = embedder.with_config(dataclasses.replace(NEW, max_image_bytes=100))
    report = reindex_collection(old, InMemoryStore(NEW), limited)
    assert len(report.missing) == 6
    assert all("bytes, and 100 are allowed" in reason for reason in report.missing.values())


def test_a_folder_that_does_not_exist_is_named_before_anything_is_done(old, new_embedder, tmp_path):
    with pytest.raises(EmbedInputError, match="there is no folder"):
        reindex_collection(old, InMemoryStore(NEW), new_embedder, look_in=[tmp_path / "nowhere"])
    with pytest.raises(EmbedInputError, match="are the same collection"):
        reindex_collection(old, old, new_embedder)


def test_a_text_is_what_the_record_has(old):
    finder = SourceFinder([], most_bytes=100)
    assert finder.find(old.get(["boat"])[0]).content == "a blue boat"
    with pytest.raises(EmbedInputError, match="the record has no text"):
        finder.find(dataclasses.replace(old.get(["boat"])[0], content=None))
