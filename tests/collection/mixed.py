"""A mixed collection of drawn scenes and captions, embedded with the bundled model."""

import functools

import numpy as np

from core_encoder.nano.captions import full_description, write
from core_encoder.nano.scenes import draw_scene, random_scene
from jclip_connectors import EmbeddingConfig, MultimodalCollection
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.memory import InMemoryStore

CONFIG = EmbeddingConfig(model="nano")
NOTES = [
    "shopping list 1: milk, bread, nails",
    "call the plumber about the tap",
    "the password of the router is on its back",
]


@functools.cache
def embedder():
    return LocalEmbedder(CONFIG, device="cpu")


@functools.cache
def pictures(count, seed=0):
    """Scenes of one to three shapes."""
    rng = np.random.default_rng(seed)
    return [draw_scene(random_scene(rng, num_objects=1 + at % 3), seed=at).image for at in range(count)]


@functools.cache
def captions(count, seed=1):
    """Different descriptions of other scenes."""
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[write(full_description(random_scene(rng, num_objects=1 + len(found) % 3)), "en")] = None
    return list(found)


def mixed(texts, images):
    """A collection in memory; ids are t0, t1, ... and i0, i1, ..."""
    collection = MultimodalCollection(embedder(), InMemoryStore(CONFIG))
    collection.add_texts(texts, ids=[f"t{at}" for at in range(len(texts))])
    collection.add_images(images, ids=[f"i{at}" for at in range(len(images))])
    return collection
