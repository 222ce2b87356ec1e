"""A small gallery with nano: drawn pictures in a folder, two texts, and the applications that show them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from core_encoder.nano.scenes import SceneObject, draw_canvas, draw_scene, random_scene
from core_encoder.tiling import Tiling
from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.server.app import create_app
from jclip_connectors.server.serve import load_served_model
from jclip_connectors.server.ui.gallery import Shown

RING = SceneObject(shape="ring", colour="orange", size="small", place="centre")
TEXTS = ("a note about the garden", "eine Notiz über Boote")
CONFIG = EmbeddingConfig(model="nano", tiling=Tiling(max_tiles=16), rendering="as_seen")


@dataclass(frozen=True)
class GalleryFolder:
    """Pictures on disk, and the collection of them."""

    folder: Path
    canvas: Path
    ring_box: tuple[int, int, int, int]
    collection: MultimodalCollection


@pytest.fixture(scope="session")
def gallery(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery").resolve()
    rng = np.random.default_rng(3)
    paths = []
    for number in range(12):
        path = folder / f"scene {number}.png"
        draw_scene(random_scene(rng, num_objects=1), seed=number).image.save(path)
        paths.append(path)
    drawing = draw_canvas(RING, seed=5)
    canvas = folder / "canvas.png"
    drawing.image.save(canvas)
    paths.append(canvas)
    rows, columns = np.nonzero(drawing.owner == 0)
    collection = MultimodalCollection(LocalEmbedder(CONFIG, device="cpu"), InMemoryStore(CONFIG))
    metadatas: list[dict[str, Any]] = [
        {"path": str(path), "number": number, "even": number % 2 == 0, "kind": "drawing"}
        for number, path in enumerate(paths)
    ]
    collection.add_images(paths, metadatas, ids=[str(path) for path in paths])
    collection.add_texts(TEXTS, [{"kind": "note"}] * 2, ids=["note 1", "note 2"])
    ring_box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    return GalleryFolder(folder=folder, canvas=canvas, ring_box=ring_box, collection=collection)


@pytest.fixture(scope="session")
def model():
    return load_served_model(CONFIG, device="cpu")


@pytest.fixture(scope="session")
def shown(gallery):
    return Shown(store=gallery.collection.store, config=CONFIG, name="photos", roots=(gallery.folder,))


@pytest.fixture(scope="session")
def page(model, shown):
    with TestClient(create_app(model, CONFIG, collection=shown), base_url="http://127.0.0.1") as client:
        yield client
