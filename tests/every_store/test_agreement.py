"""Any history of upsert, delete, search, count and scroll: every store agrees with the one in memory."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.edge.store import QdrantEdgeStore
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import Record
from tests.every_store.live_stores import LIVE_STORES
from tests.profiles import examples

pytestmark = pytest.mark.hypothesis  # as those with `given` are

E = 6
CONFIG = EmbeddingConfig(model="agreement", revision="1", dimensions=E)

# Few of everything, so that filters meet what they ask for.
ids = st.sampled_from("abcdef")
fields = st.sampled_from(["n", ""])
numbers = st.sampled_from([0, 1, 1.0, 2.5]) | st.sampled_from([-0.0, 2**53, 2**53 + 1, 10**400, 1e300, 5e-324])
scalars = st.none() | st.booleans() | numbers | st.sampled_from(["x", "1"]) | st.sampled_from(["", "null", "y" * 300])
values = scalars | st.lists(scalars | st.lists(scalars, max_size=1), max_size=3) | st.just({"n": 1})
metadata = st.dictionaries(fields, values, max_size=2)
operators = (
    st.fixed_dictionaries({"eq": scalars})
    | st.fixed_dictionaries({"ne": scalars})
    | st.fixed_dictionaries({"in": st.lists(scalars, max_size=3)})
    | st.fixed_dictionaries({"nin": st.lists(scalars, max_size=3)})
    | st.fixed_dictionaries({"exists": st.booleans()})
    | st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), numbers, min_size=1, max_size=2)
)
conditions = st.dictionaries(fields, operators | scalars, min_size=1, max_size=2)
filters = st.recursive(
    conditions,
    lambda inner: (
        st.fixed_dictionaries({"not": inner})
        | st.just({})
        | st.fixed_dictionaries({"and": st.lists(inner, min_size=1, max_size=2)})
        | st.fixed_dictionaries({"or": st.lists(inner, min_size=1, max_size=2)})
    ),
    max_leaves=4,
)
modalities = st.sampled_from([None, "text", "image"])
# Whole numbers: cosines are then equal or clearly apart.
vectors = st.lists(st.integers(-3, 3), min_size=E, max_size=E).filter(any).map(lambda row: np.array(row, np.float32))


@st.composite
def records(draw, tiled, ids=ids):
    modality = draw(st.sampled_from(["text", "image"]))
    tiles = draw(st.none() | st.lists(vectors, min_size=1, max_size=3)) if tiled and modality == "image" else None
    return Record(
        record_id=draw(ids),
        modality=modality,
        embedding=draw(vectors),
        tile_embeddings=None if tiles is None else np.stack(tiles),
        tile_boxes=None if tiles is None else np.arange(4 * len(tiles)).reshape(-1, 4),
        content="a text" if modality == "text" else None,
        metadata=draw(metadata),
    )


def content(record):
    vectors = [record.embedding, *(() if record.tile_embeddings is None else record.tile_embeddings)]
    boxes = None if record.tile_boxes is None else record.tile_boxes.tolist()
    return (
        record.record_id,
        record.modality,
        record.content,
        repr(record.metadata),
        boxes,
        np.round(vectors, 4).tolist(),
    )


def config_of(tiled, dimensions):
    return dataclasses.replace(CONFIG, tiling=Tiling() if tiled else None, dimensions=dimensions)


def make_machine(open_store, config, *, reopen):  # noqa: C901 (ruff counts the methods of the class in it)
    """Histories of the store that `open_store` gives, empty; `reopen` closes and opens it, records and all."""
    tiled = config.tiling is not None

    class Machine(RuleBasedStateMachine):
        @initialize(first=st.tuples(*(records(tiled, st.just(record_id)) for record_id in "abcdef")))
        def start(self, first):
            self.reference = InMemoryStore(config)
            self.store = open_store(config)
            self.upsert(first)

        @rule(batch=st.lists(records(tiled), min_size=1, max_size=4))
        def upsert(self, batch):
            self.reference.upsert(batch)
            self.store.upsert(batch)

        @rule(gone=st.lists(ids, max_size=2))
        def delete_ids(self, gone):
            self.reference.delete(gone)
            self.store.delete(gone)

        @rule(where=conditions)
        def delete_where(self, where):
            self.reference.delete(where=where)
            self.store.delete(where=where)

        @rule()
        def open_again(self):
            self.store = reopen(self.store)

        @rule(
            query=vectors, limit=st.integers(1, 6), where=st.none() | filters, modality=modalities, tiles=st.booleans()
        )
        def search(self, query, limit, where, modality, tiles):
            arguments = {"where": where, "modality": modality, "tiles": tiles and tiled}
            everything = self.reference.search(query, limit=10, **arguments)
            found = self.store.search(query, limit=limit, **arguments)
            scores = [hit.score for hit in everything]
            assert [hit.score for hit in found] == pytest.approx(scores[:limit], abs=1e-5)
            expected = {hit.record_id: hit for hit in everything}
            for hit in found:  # of those as near as the last one, either may be left out
                same = expected[hit.record_id]
                assert hit.score == pytest.approx(same.score, abs=1e-5)
                assert repr((hit.metadata, hit.modality, hit.content)) == repr(
                    (same.metadata, same.modality, same.content)
                )
                assert (hit.box is None) == (same.box is None)

        @rule(wheres=st.lists(filters, min_size=5, max_size=10), modality=modalities)
        def filter(self, wheres, modality):
            for where in wheres:
                expected = sorted(record.record_id for record in self.reference.scroll(where=where, modality=modality))
                assert self.store.count(where=where, modality=modality) == len(expected)
                found = self.store.scroll(where=where, modality=modality)
                assert sorted(record.record_id for record in found) == expected

        @invariant()
        def holds_the_same_records(self):
            assert sorted(map(content, self.store.scroll())) == sorted(map(content, self.reference.scroll()))

    return Machine


def check_any_history(open_store, config, *, reopen, max_examples):
    run_state_machine_as_test(
        make_machine(open_store, config, reopen=reopen),
        settings=settings(
            max_examples=examples(max_examples),
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize(("tiled", "dimensions"), [(False, E), (True, None)])
def test_any_history_on_the_engine_leaves_both_stores_alike_even_when_it_is_opened_again(tmp_path, tiled, dimensions):
    config = config_of(tiled, dimensions)
    opened = [QdrantEdgeStore.open(tmp_path, config)]

    def open_store(_):
        opened[0].delete(where={})
        return opened[0]

    def reopen(store):
        store.close()
        opened[0] = QdrantEdgeStore.open(tmp_path, config)
        return opened[0]

    check_any_history(open_store, config, reopen=reopen, max_examples=30)
    opened[0].close()


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "qdrant",
        "weaviate",
        "pinecone",
        "pgvector",
        pytest.param("lancedb", marks=pytest.mark.slow),
        pytest.param("milvus", marks=pytest.mark.slow),
        pytest.param("chroma", marks=pytest.mark.slow),
        pytest.param("chroma-server", marks=pytest.mark.slow),
    ],
)
def test_any_history_over_a_network_leaves_both_stores_alike(name, tiled):
    with LIVE_STORES[name]() as open_store:
        check_any_history(open_store, config_of(tiled, E), reopen=lambda store: store, max_examples=15)
