"""Haystack over drawn pictures: one pipeline indexes them, another answers a text, offline and without a key.

Both pipelines are saved as YAML and loaded again before they run, as a service would do.

python examples/haystack_pipeline.py
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # before Haystack is imported

import numpy as np
from haystack import Pipeline
from haystack.components.converters.image import ImageFileToDocument
from haystack.components.writers import DocumentWriter
from haystack.document_stores.types import DuplicatePolicy

from core_encoder.nano.captions import full_description, write
from core_encoder.nano.scenes import Scene, draw_scene, random_scene
from jclip_connectors import EmbeddingConfig
from jclip_connectors.haystack import (
    JinaClipDocumentStore,
    JinaClipImageDocumentEmbedder,
    JinaClipTextEmbedder,
    JinaClipTextRetriever,
)

CONFIG = EmbeddingConfig(model="nano")


def draw(folder: Path, number: int, scene: Scene) -> Path:
    """Draw a picture."""
    path = folder / f"{number:02}.png"
    draw_scene(scene, seed=number).image.save(path)
    return path


def indexing(url: str) -> str:
    """A pipeline that reads, embeds and writes pictures, as YAML."""
    pipeline = Pipeline()
    pipeline.add_component("converter", ImageFileToDocument(store_full_path=True))
    pipeline.add_component("embedder", JinaClipImageDocumentEmbedder(CONFIG))
    store = JinaClipDocumentStore(url=url, config=CONFIG)
    pipeline.add_component("writer", DocumentWriter(store, policy=DuplicatePolicy.OVERWRITE))
    pipeline.connect("converter.documents", "embedder.documents")
    pipeline.connect("embedder.documents", "writer.documents")
    return str(pipeline.dumps())


def searching(url: str) -> str:
    """A pipeline that finds pictures by a text, as YAML."""
    pipeline = Pipeline()
    store = JinaClipDocumentStore(url=url)
    pipeline.add_component("retriever", JinaClipTextRetriever(store, JinaClipTextEmbedder(CONFIG), top_k=3))
    return str(pipeline.dumps())


def main() -> None:
    """Draw, index and search."""
    rng = np.random.default_rng(3)
    with TemporaryDirectory() as name:
        folder = Path(name)
        url = f"edge:{folder}/pictures.jclip"
        scenes = [random_scene(rng, num_objects=1) for _ in range(40)]
        captions = {
            str(draw(folder, at, scene)): write(full_description(scene), "en") for at, scene in enumerate(scenes)
        }

        index, search = Pipeline.loads(indexing(url)), Pipeline.loads(searching(url))
        written = index.run({"converter": {"sources": list(captions)}})["writer"]["documents_written"]
        asked = write(full_description(scenes[0]), "en")
        print(f"{written} pictures: {asked}")
        for document in search.run({"retriever": {"query": asked}})["retriever"]["documents"]:
            print(f"  {document.score:.2f}  {captions[document.meta['file_path']]}")
        search.close()
        index.close()


if __name__ == "__main__":
    main()
