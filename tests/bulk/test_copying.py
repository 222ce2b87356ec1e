"""A copy has the same records, resumes, says what it could not do, and is compared with its source."""

import dataclasses
import re
import threading
from typing import Any

import numpy as np
import pytest

from core_encoder.errors import ConfigError
from core_encoder.matryoshka import normalize, truncate
from jclip_connectors.bulk.carried import carried_config
from jclip_connectors.bulk.copying import copy_collection
from jclip_connectors.bulk.equality import Sample
from jclip_connectors.edge import QdrantEdgeStore
from jclip_connectors.errors import (
    CollectionMismatchError,
    CopyError,
    EmbedInputError,
    PartialFailureError,
    StoreRequestError,
    StoreUnavailableError,
)
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import NativeFilter
from tests.bulk.copies import NANO, PLAIN, TILED, E, assert_equal_records, synthetic


def filled(count=30, config=TILED, **options):
    store = InMemoryStore(config)
    store.upsert(list(synthetic(count, **options)))
    return store


def test_a_copy_has_the_same_records():
    source, target = filled(), InMemoryStore(TILED)
    seen = []
    report = copy_collection(source, target, batch_size=8, progress=lambda done, total: seen.append((done, total)))
    assert_equal_records(source.scroll(), target.scroll())
    assert (report.read, report.written, report.unchanged, report.failed) == (30, 30, 0, {})
    assert (report.counted, report.compared) == (30, 30)
    assert report.largest_difference < 1e-6
    assert seen == [(8, 30), (16, 30), (24, 30), (30, 30)]


def test_a_copy_adds_to_a_target_and_deletes_nothing():
    source, target = filled(10), filled(20, start=5)
    before = list(target.scroll())
    report = copy_collection(source, target)
    assert (report.read, report.written, report.unchanged) == (10, 5, 5)
    assert_equal_records([*source.scroll(), *before], target.scroll())


def test_a_record_that_has_changed_is_written_again():
    source = filled(12)
    target = filled(12)
    changes: list[dict[str, Any]] = [
        {"metadata": {"n": 1.0}},
        {"content": "new"},
        {"embedding": -source.get(["r 2"])[0].embedding},
        {"tile_boxes": np.zeros((1, 4), np.int64), "tile_embeddings": np.ones((1, E), np.float32)},
    ]
    source.upsert([dataclasses.replace(source.get([f"r {at}"])[0], **change) for at, change in enumerate(changes)])
    report = copy_collection(source, target)
    assert (report.written, report.unchanged) == (4, 8)
    assert_equal_records(source.scroll(), target.scroll())


def test_only_records_that_match_are_copied():
    source, target = filled(), InMemoryStore(TILED)
    report = copy_collection(source, target, where={"n": {"lt": 7}})
    assert (report.read, report.counted) == (7, 7)
    assert sorted(record.metadata["n"] for record in target.scroll()) == list(range(7))


def test_an_empty_collection_can_be_copied():
    report = copy_collection(InMemoryStore(TILED), InMemoryStore(TILED))
    assert (report.read, report.counted, report.compared) == (0, 0, 0)


@pytest.mark.parametrize(
    "target", [PLAIN, dataclasses.replace(TILED, dimensions=4), dataclasses.replace(TILED, revision="2")]
)
def test_a_target_of_another_configuration_is_refused_before_anything_is_written(target):
    store = InMemoryStore(target)
    with pytest.raises(CollectionMismatchError, match="the target"):
        copy_collection(filled(), store)
    assert store.count() == 0
    with pytest.raises(CollectionMismatchError, match="the target"):
        copy_collection(InMemoryStore(TILED), store)


def test_vectors_are_cut_and_scaled_where_the_model_was_trained_for_it():
    source = InMemoryStore(NANO)
    source.upsert(list(synthetic(30, length=128)))
    config = carried_config(source.fingerprint, dimensions=32)
    target = InMemoryStore(config)
    copy_collection(source, target, dimensions=32)
    assert target.fingerprint == dataclasses.replace(NANO, dimensions=32).fingerprint()
    for record, cut in zip(source.scroll(), target.scroll(), strict=True):
        np.testing.assert_allclose(cut.embedding[None], normalize(truncate(record.embedding[None], 32)), atol=1e-6)
        assert (record.tile_embeddings is None) == (cut.tile_embeddings is None)
        if record.tile_embeddings is not None and cut.tile_embeddings is not None:
            np.testing.assert_allclose(cut.tile_embeddings, normalize(truncate(record.tile_embeddings, 32)), atol=1e-6)
            np.testing.assert_array_equal(cut.tile_boxes, record.tile_boxes)
    assert copy_collection(source, target, dimensions=32).unchanged == 30


@pytest.mark.parametrize(
    ("fingerprint", "options", "message"),
    [
        (PLAIN.fingerprint(), {"dimensions": 4}, "'copied' is not known to be trained for shorter vectors"),
        (
            {**NANO.fingerprint(), "revision": "sha256:0123456789abcdef"},
            {"dimensions": 64},
            "'nano' is not known to be trained",
        ),
        (
            {"model": "jinaai/jina-clip-v1", "dimensions": 768},
            {"dimensions": 384},
            "'jinaai/jina-clip-v1' was not trained",
        ),
        (NANO.fingerprint(), {"dimensions": 129}, "the vectors have 128 values: use 1..128"),
        (NANO.fingerprint(), {"dimensions": 0}, "use an int of at least 1"),
        ({"model": "x", "dimensions": None}, {"dimensions": 7}, "the length of the vectors is not known"),
        ({"dimensions": 7}, {}, "no model"),
    ],
)
def test_vectors_that_cannot_be_cut_or_have_no_origin_are_refused(fingerprint, options, message):
    with pytest.raises(ConfigError, match=message):
        carried_config(fingerprint, **options)


def test_the_length_that_vectors_have_is_no_cut():
    for fingerprint in (PLAIN.fingerprint(), {**PLAIN.fingerprint(), "dimensions": None}):
        assert carried_config(fingerprint, length=E, dimensions=E).fingerprint() == fingerprint


def test_a_fingerprint_is_carried_as_it_is_stored():
    """Also of another version, and of a model whose folder is not on this machine."""
    stored = {
        "model": "nano",
        "revision": "sha256:0123456789abcdef",
        "dimensions": None,
        "exif_orientation": True,
        "tiling": "max_tiles=4",
    }
    config = carried_config(stored, length=E)
    assert config.fingerprint() == stored
    assert config.embedding_dim is None
    assert config.tiling is not None
    source, target = InMemoryStore(config), InMemoryStore(carried_config(stored))
    source.upsert(list(synthetic(3)))
    copy_collection(source, target)
    assert target.fingerprint == stored


def test_a_collection_of_unknown_length_opens_in_a_folder(tmp_path):
    config = carried_config({**TILED.fingerprint(), "dimensions": None})
    with QdrantEdgeStore.open(tmp_path / "a", config) as target:
        copy_collection(InMemoryStore(config), target)
        source = InMemoryStore(config)
        source.upsert(list(synthetic(9)))
        copy_collection(source, target)
        assert_equal_records(source.scroll(), target.scroll())


class Faulty(InMemoryStore):
    """A store that does with the records of a write what `fault` says."""

    def __init__(self, config, fault):
        super().__init__(config)
        self.fault = fault
        self.writes = 0

    def upsert(self, records):
        self.writes += 1
        super().upsert(self.fault(self.writes, list(records)))


def _unavailable_at_the_third(write, records):
    if write == 3:
        raise StoreUnavailableError("gone")
    return records


def test_the_same_call_completes_a_copy_that_was_interrupted():
    source, target = filled(), Faulty(TILED, _unavailable_at_the_third)
    with pytest.raises(StoreUnavailableError, match="gone"):
        copy_collection(source, target, batch_size=8)
    assert target.count() == 16
    report = copy_collection(source, target, batch_size=8)
    assert (report.read, report.written, report.unchanged) == (30, 14, 16)
    assert_equal_records(source.scroll(), target.scroll())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("jclip-copy")]


def test_an_error_of_the_source_is_raised_and_what_was_read_is_kept():
    class Ending(InMemoryStore):
        def scroll(self, **options):
            yield from list(super().scroll(**options))[:20]
            raise StoreUnavailableError("the source is gone")

    source = Ending(TILED)
    source.upsert(list(synthetic(30)))
    target = InMemoryStore(TILED)
    with pytest.raises(StoreUnavailableError, match="the source is gone"):
        copy_collection(source, target, batch_size=8)
    assert target.count() == 16


def test_records_that_the_target_refuses_are_reported_and_the_others_kept():
    class Refusing(InMemoryStore):
        def upsert(self, records):
            super().upsert([record for record in records if record.record_id not in ("r 1", "r 3")])
            failed = {
                at: StoreRequestError("too long") for at, r in enumerate(records) if r.record_id in ("r 1", "r 3")
            }
            if failed:
                raise PartialFailureError("records", failed=failed, kept={})

    target = Refusing(TILED)
    report = copy_collection(filled(), target, batch_size=8)
    assert report.failed == {"r 1": "too long", "r 3": "too long"}
    assert (report.written, target.count()) == (28, 28)


def test_a_record_that_a_target_refuses_keeps_no_other_out():
    def refuse(_, records):
        if "r7" in {record.record_id for record in records}:
            raise StoreRequestError("a record is refused")  # and it does not say which
        return records

    source = filled(300, PLAIN, tiled=False)
    source.upsert([dataclasses.replace(next(iter(source.scroll())), record_id="r7")])
    report = copy_collection(source, Faulty(PLAIN, refuse))
    assert (report.written, dict(report.failed)) == (300, {"r7": "a record is refused"})


def test_a_target_that_is_away_ends_the_copy_and_nothing_counts_as_refused():
    def away(_, _records):
        raise PartialFailureError("records", failed={0: StoreUnavailableError("it is away")}, kept={})

    with pytest.raises(StoreUnavailableError, match="it is away"):
        copy_collection(filled(30, PLAIN, tiled=False), Faulty(PLAIN, away))


def test_a_target_that_refuses_everything_ends_the_copy():
    def refuse(_, records):
        failed = {at: StoreRequestError("not today") for at in range(len(records))}
        raise PartialFailureError("records", failed=failed, kept={})

    target = Faulty(PLAIN, refuse)
    with pytest.raises(StoreRequestError, match="not today"):
        copy_collection(filled(3000, PLAIN, tiled=False), target)
    assert target.writes < 100


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda _, records: records[1:], "compared are not in the target as they were written.*it is missing"),
        (
            lambda _, records: [dataclasses.replace(r, embedding=r.embedding + np.float32(1e-4)) for r in records],
            "`embedding` differs by",
        ),
        (lambda _, records: [dataclasses.replace(r, metadata={}) for r in records], "`metadata` differs"),
        (
            lambda _, records: [
                r if r.tile_boxes is None else dataclasses.replace(r, tile_boxes=r.tile_boxes + 1) for r in records
            ],
            "`tile_boxes` differ",
        ),
    ],
)
def test_a_target_that_does_not_keep_what_it_was_given_is_found_out(fault, message):
    with pytest.raises(CopyError, match=message) as caught:
        copy_collection(filled(), Faulty(TILED, fault), batch_size=8)
    assert set(caught.value.differing) <= {f"r {at}" for at in range(30)}
    assert caught.value.differing


def test_records_that_are_lost_outside_of_the_sample_are_counted():
    target = Faulty(PLAIN, lambda write, records: records[1:] if write == 1 else records)
    source = filled(2000, PLAIN, tiled=False)
    sample = Sample()
    sample.add(source.scroll())
    first = next(iter(source.scroll())).record_id
    assert first not in {record.record_id for record in sample.records}
    with pytest.raises(CopyError, match="the target has 1999 of 2000 records"):
        copy_collection(source, target)


def test_source_and_target_are_two_collections():
    store = filled()
    with pytest.raises(EmbedInputError, match="the same collection"):
        copy_collection(store, store)


@pytest.mark.parametrize(
    ("options", "message"), [({"batch_size": 0}, "`batch_size`"), ({"where": {"n": {"like": 1}}}, "like")]
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(EmbedInputError, match=re.escape(message)):
        copy_collection(filled(), InMemoryStore(TILED), **options)


def test_a_filter_of_another_database_is_refused_by_the_source():
    with pytest.raises(EmbedInputError):
        copy_collection(filled(), InMemoryStore(TILED), where=NativeFilter("anything"))


def test_a_sample_has_every_record_with_the_same_chance_and_the_last_of_one_id():
    chosen = np.zeros(1000)
    records = list(synthetic(1000, tiled=False))
    sample = Sample(size=100)
    for start in range(0, 1000, 7):
        sample.add(records[start : start + 7])
    for record in sample.records:
        chosen[record.metadata["n"]] += 1
    assert chosen.max() == 1
    assert chosen.sum() == 100
    assert 20 <= chosen[:500].sum() <= 80
    again = [dataclasses.replace(record, content="new") for record in records]
    sample.add(again)
    assert len({record.record_id for record in sample.records}) == 100
    assert {record.content for record in sample.records} == {"new"}
