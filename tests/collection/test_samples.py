"""What is known of the cosines of a modality: from a sample, from other vectors if there are few records."""

import numpy as np
import pytest

from jclip_connectors.collection import samples
from jclip_connectors.collection.hosts import BlockingHost
from jclip_connectors.collection.samples import REFERENCE_TEXTS, SAMPLE_RECORDS, Sample, SampleCache, Samples
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import Modality, Record
from jclip_connectors.testing import HashEmbedder

CONFIG = EmbeddingConfig(model="hash", revision="1", dimensions=32)
NOTHING = np.empty((0, 0), dtype=np.float32)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def record(at, modality="text", tiles=None):
    rng = np.random.default_rng(at)
    return Record(
        record_id=f"{modality}{at}",
        modality=modality,
        embedding=unit(rng.normal(size=32)),
        tile_embeddings=None if tiles is None else unit(rng.normal(size=(tiles, 32))),
        tile_boxes=None if tiles is None else np.zeros((tiles, 4), dtype=np.int64),
        content="a text" if modality == "text" else None,
    )


class Host(BlockingHost):
    """Counts how often records are read."""

    reads = 0

    def sample_each(self, modalities, count):
        type(self).reads += 1
        return super().sample_each(modalities, count)


@pytest.fixture
def host():
    Host.reads = 0
    return Host(store=InMemoryStore(CONFIG), embedder=HashEmbedder(CONFIG))


def fill(host, texts, images, start=0):
    host.store.upsert([record(at + start) for at in range(texts)])
    host.store.upsert([record(at + start, "image") for at in range(images)])


def test_a_scale_is_the_mean_and_deviation_of_the_sample():
    texts, images = (Sample.of([record(at, kind) for at in range(200)]) for kind in ("text", "image"))
    query = np.arange(32, dtype=np.float32)  # of any length
    scales = Samples(by_modality={"text": texts, "image": images}, reference=NOTHING).scales(query, tiles=False)
    pairs: list[tuple[Modality, Sample]] = [("text", texts), ("image", images)]
    for modality, sample in pairs:
        cosines = sample.rows @ unit(query)
        assert scales[modality].mean == pytest.approx(cosines.mean(), abs=1e-6)
        assert scales[modality].rank_score(0.5) == pytest.approx((0.5 - cosines.mean()) / cosines.std(), abs=1e-4)


def test_with_tiles_a_cosine_is_that_of_the_nearest_tile_of_a_record():
    records = [record(0, "image", tiles=3), record(1, "image"), record(2, "image", tiles=5)]
    query = unit(np.arange(32.0))
    expected = [
        max(r.embedding @ query if r.tile_embeddings is None else r.tile_embeddings @ query, default=0)
        if r.tile_embeddings is not None
        else r.embedding @ query
        for r in records
    ]
    sample = Sample.of(records)
    np.testing.assert_allclose(sample.cosines(query[None], tiles=True)[0], expected, atol=1e-6)
    np.testing.assert_allclose(
        sample.cosines(query[None], tiles=False)[0], [r.embedding @ query for r in records], atol=1e-6
    )


def test_the_tiles_in_memory_are_bounded(monkeypatch):
    monkeypatch.setattr(samples, "MAX_TILES", 10)
    assert len(Sample.of([record(at, "image", tiles=4) for at in range(5)])) == 2
    assert len(Sample.of([record(0, "image", tiles=40)])) == 1
    assert len(Sample.of([])) == 0


def test_equal_vectors_have_a_scale_and_make_no_warning():
    same = Sample.of([record(0)] * 100)
    scales = Samples(by_modality={"text": same, "image": same}, reference=NOTHING).scales(same.rows[0], tiles=False)
    assert scales["text"].rank_score(1.0) == pytest.approx(0, abs=1e-3)
    assert np.isfinite(scales["text"].rank_score(0.5))


@pytest.mark.parametrize("texts", [0, 1, 3])
@pytest.mark.parametrize("images", [0, 1, 3])
@pytest.mark.parametrize("reference", [False, True])
def test_few_records_have_a_scale(texts, images, reference):
    rows = HashEmbedder(CONFIG).embed_texts(list(REFERENCE_TEXTS)) if reference else NOTHING
    known = Samples(
        by_modality={
            "text": Sample.of([record(at) for at in range(texts)]),
            "image": Sample.of([record(at, "image") for at in range(images)]),
        },
        reference=rows,
    )
    for scale in known.scales(record(9).embedding, tiles=False).values():
        assert np.isfinite(scale.mean)
        assert scale.deviation > 0


def test_one_text_that_is_near_is_unusual_beside_the_reference_texts():
    text = record(0)
    known = Samples(
        by_modality={"text": Sample.of([text]), "image": Sample.of([record(at, "image") for at in range(100)])},
        reference=HashEmbedder(CONFIG).embed_texts(list(REFERENCE_TEXTS)),
    )
    assert known.scales(text.embedding, tiles=False)["text"].rank_score(1.0) > 2


def test_samples_are_read_once_until_the_collection_has_grown(host):
    fill(host, 8, 8)
    cache = SampleCache(embeds_texts=True)
    first = host.run(cache.samples())
    assert host.run(cache.samples()) is first
    cache.note_written(1)
    assert host.run(cache.samples()) is first
    fill(host, 1, 0, start=100)
    cache.note_written(1)  # a quarter of the records
    assert len(host.run(cache.samples()).by_modality["text"]) == 9
    assert Host.reads == 2


def test_a_full_sample_is_read_again_when_the_collection_has_doubled(host):
    fill(host, SAMPLE_RECORDS + 9, SAMPLE_RECORDS + 9)
    cache = SampleCache(embeds_texts=True)
    for written, reads in ((0, 1), (SAMPLE_RECORDS - 1, 1), (1, 2), (2 * SAMPLE_RECORDS - 1, 3), (1, 3)):
        cache.note_written(written)
        known = host.run(cache.samples())
        assert len(known.by_modality["image"]) == SAMPLE_RECORDS
        assert (Host.reads, len(known.reference)) == (reads, 0)


def test_a_modality_that_was_missing_is_read_at_once(host):
    fill(host, 8, 0)
    cache = SampleCache(embeds_texts=True)
    host.run(cache.samples())
    fill(host, 0, 1)  # by another process
    assert len(host.run(cache.samples()).by_modality["image"]) == 1


def test_samples_are_read_again_after_a_while_and_after_a_delete_by_filter(host, monkeypatch):
    fill(host, 8, 8)
    cache = SampleCache(embeds_texts=True)
    host.run(cache.samples())
    cache.note_deleted(None)
    host.run(cache.samples())
    assert Host.reads == 2
    monkeypatch.setattr(samples, "_MAX_AGE_S", -1)
    host.run(cache.samples())
    assert Host.reads == 3


def test_without_an_embedder_no_reference_text_is_embedded(host):
    fill(host, 1, 1)
    assert len(host.run(SampleCache(embeds_texts=False).samples()).reference) == 0
    assert len(host.run(SampleCache(embeds_texts=True).samples()).reference) == len(REFERENCE_TEXTS)


def test_the_first_records_of_a_store_in_memory_do_not_depend_on_when_they_were_written(host):
    host.store.upsert([record(at) for at in range(20)])
    forwards = [found.record_id for found in host.store.scroll()]
    host.store.delete(where={})
    host.store.upsert([record(at) for at in reversed(range(20))])
    assert [found.record_id for found in host.store.scroll()] == forwards != [f"text{at}" for at in range(20)]
