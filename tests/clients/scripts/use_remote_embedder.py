"""Our own client: `RemoteEmbedder`, and a collection over it."""

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import core_encoder
import jclip_connectors
from core_encoder.tiling import Tiling
from jclip_connectors import EmbeddingConfig, MultimodalCollection
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.remote import AsyncRemoteEmbedder, RemoteEmbedder

_CONFIG = EmbeddingConfig(model="nano", dimensions=64, tiling=Tiling(max_tiles=4))


def _endpoint(given):
    return {"base_url": f"{given['url']}/v1", "api_key": given["key"]}


def _images(given):
    first, second = given["paths"]
    return [first, Path(second).read_bytes()]


def _rows(texts, query, images, tiles):
    return {
        "texts": texts.tolist(),
        "query": query.tolist(),
        "images": images.tolist(),
        "tiles": [{"vectors": each.vectors.tolist(), "boxes": each.boxes.tolist()} for each in tiles],
    }


def embedded(given):
    with RemoteEmbedder(_CONFIG, **_endpoint(given)) as embedder:
        return _rows(
            embedder.embed_texts(given["texts"]),
            embedder.embed_query(given["texts"][0]),
            embedder.embed_images(_images(given)),
            embedder.embed_image_tiles(_images(given)),
        )


async def embedded_async(given):
    async with AsyncRemoteEmbedder(_CONFIG, **_endpoint(given)) as embedder:
        return _rows(
            await embedder.embed_texts(given["texts"]),
            await embedder.embed_query(given["texts"][0]),
            await embedder.embed_images(_images(given)),
            await embedder.embed_image_tiles(_images(given)),
        )


def found(given):
    with RemoteEmbedder(_CONFIG, **_endpoint(given)) as embedder:
        collection = MultimodalCollection(embedder, InMemoryStore(_CONFIG))
        collection.add_images(given["paths"], ids=["first", "second"], metadatas=[{"year": 2020}, {"year": 2021}])
        collection.add_texts(given["texts"][:2], ids=["red", "green"])
        hits_by_way = {
            "by image": collection.search(image=given["paths"][1], limit=1, modality="image"),
            "by text": collection.search(given["texts"][0], limit=1, modality="text"),
            "filtered": collection.search("a star", where={"year": 2021}),
        }
    return {way: [hit.record_id for hit in hits] for way, hits in hits_by_way.items()}


def installed(given):
    return {
        "distributions": [each.name.lower().replace("_", "-") for each in importlib.metadata.distributions()],
        "importable": [name for name in given["absent"] if importlib.util.find_spec(name)],
        "imported": [name for name in given["absent"] if name in sys.modules],
        "packages": [package.__path__[0] for package in (core_encoder, jclip_connectors)],
        "path": sys.path,
    }
