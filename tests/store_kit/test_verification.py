"""Verification of a collection where some records cannot be read whole."""

import numpy as np
import pytest

from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import Record, Verification
from jclip_connectors.store_kit.flows import run
from jclip_connectors.store_kit.verification import TilesMissingError, _Direct, verify

CONFIG = EmbeddingConfig(model="verified", revision="1", dimensions=8)
LOST = {"r3", "r70", "r71"}


class Torn(InMemoryStore):
    """A store that has lost tiles of some records, and tells of one in each answer."""

    def get(self, ids, *, vectors=True):
        for record_id in ids:
            if vectors and record_id in LOST:
                raise TilesMissingError([record_id])
        return super().get(ids, vectors=vectors)


@pytest.mark.parametrize("repair", [False, True])
def test_records_without_their_tiles_are_named_as_missing_and_the_others_are_verified(repair):
    store = Torn(CONFIG)
    rows = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    store.upsert([Record(record_id=f"r{i}", modality="image", embedding=row) for i, row in enumerate(rows)])
    report = run(verify(_Direct(), repair=repair), store, translate=lambda _: None, attempts=1)
    assert sorted(report.missing) == sorted(LOST)
    assert report == Verification(counted=100, found=97, missing=report.missing, repaired=())
    assert store.count() == 100


def test_the_message_names_the_records_that_are_to_be_added_again():
    told = str(TilesMissingError([f"r{i}" for i in range(12)]))
    assert "'r0', 'r1'" in told
    assert "'r9' and 2 more" in told
    assert "add them again" in told
