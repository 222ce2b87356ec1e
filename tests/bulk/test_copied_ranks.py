"""A copy that was cut ranks as a collection that was made at that length."""

import dataclasses

import numpy as np
import pytest

from core_encoder.nano.scenes import COLOURS, SHAPES, Scene, SceneObject, draw_scene
from core_encoder.tiling import Tiling
from jclip_connectors.bulk.carried import carried_config
from jclip_connectors.bulk.copying import copy_collection
from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.memory import InMemoryStore

FULL = EmbeddingConfig(model="nano", tiling=Tiling(max_tiles=4))
HALF = dataclasses.replace(FULL, dimensions=64)
QUERIES = ["a red circle", "ein gelber Stern", "a large blue square at the right", "something green"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for seed, shape in enumerate(SHAPES):
        item = SceneObject(shape=shape, colour=COLOURS[seed % 3], size="large", place="centre")
        picture = draw_scene(Scene(objects=(item,)), seed=seed).image
        picture.resize((150, 100)).save(folder / f"{seed:02}-{shape}.png")
    return sorted(folder.iterdir())


def filled(config, pictures):
    store = InMemoryStore(config)
    collection = MultimodalCollection(LocalEmbedder(config), store)
    collection.add_images(pictures)
    collection.add_texts([f"a note about a {path.stem}" for path in pictures])
    return collection, store


def test_a_copy_cut_to_half_the_values_ranks_as_a_fresh_collection_of_that_length(pictures):
    _, source = filled(FULL, pictures)
    fresh, expected = filled(HALF, pictures)
    target = InMemoryStore(carried_config(source.fingerprint, dimensions=64))
    copy_collection(source, target, dimensions=64)
    assert target.fingerprint == expected.fingerprint
    copied = MultimodalCollection(LocalEmbedder(HALF), target)
    for record, other in zip(target.scroll(), expected.scroll(), strict=True):
        np.testing.assert_allclose(record.embedding, other.embedding, atol=1e-6)
        assert (record.tile_embeddings is None) == (other.tile_embeddings is None)
        if record.tile_embeddings is not None and other.tile_embeddings is not None:
            np.testing.assert_allclose(record.tile_embeddings, other.tile_embeddings, atol=1e-6)
    for query in QUERIES:
        found, wanted = (each.search(query, limit=20) for each in (copied, fresh))
        assert [hit.record_id for hit in found] == [hit.record_id for hit in wanted]
        assert [hit.box for hit in found] == [hit.box for hit in wanted]
        np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in wanted], atol=1e-6)
    assert any(record.tile_embeddings is not None and len(record.tile_embeddings) > 2 for record in target.scroll())
