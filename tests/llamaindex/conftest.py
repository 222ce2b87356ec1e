"""The stores that nodes are kept in, the bundled model, and pictures that the model knows."""

import numpy as np
import pytest

from core_encoder.nano.captions import full_description, write
from core_encoder.nano.scenes import Scene, draw_scene, random_scene
from jclip_connectors.llamaindex.vector_store import JinaClipVectorStore
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.memory import InMemoryStore
from tests.every_store.live_stores import EACH_STORE, LIVE_STORES
from tests.llamaindex.harness import NANO, PLAIN


@pytest.fixture(scope="module", params=EACH_STORE)
def open_store(request):
    with LIVE_STORES[request.param]() as opened:
        yield opened


@pytest.fixture
def nodes(open_store):
    return JinaClipVectorStore(store=open_store(PLAIN))


@pytest.fixture
def memory():
    return JinaClipVectorStore(store=InMemoryStore(PLAIN))


@pytest.fixture(scope="module")
def nano():
    return LocalEmbedder(NANO)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """Drawn pictures with one object each, and what each shows in words."""
    folder = tmp_path_factory.mktemp("gallery")
    rng = np.random.default_rng(5)
    shown: dict[str, Scene] = {}
    while len(shown) < 30:
        scene = random_scene(rng, num_objects=1)
        shown.setdefault(write(full_description(scene), "en"), scene)
    paths = {}
    for at, (caption, scene) in enumerate(shown.items()):
        paths[caption] = str(folder / f"{at:02}.png")
        draw_scene(scene, seed=at).image.save(paths[caption])
    return paths
