"""A file that was moved keeps its vectors, its tiles too, in every store."""

import numpy as np
import pytest
from PIL import Image

from core_encoder.tiling import Tiling
from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.indexing import find_files, find_missing, index_files
from jclip_connectors.testing import HashEmbedder
from tests.every_store.live_stores import EACH_STORE, LIVE_STORES


def content_of(store):
    # A database gives a vector back at unit length, as float32.
    return {
        record.content_hash: (record.embedding.round(5).tolist(), np.size(record.tile_embeddings))
        for record in store.scroll()
    }


@pytest.mark.parametrize("name", EACH_STORE)
def test_moved_files_keep_their_vectors(tmp_path, monkeypatch, name):
    folder = tmp_path / "old"
    folder.mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    (folder / "a.txt").write_text("a text")
    embedder = HashEmbedder(EmbeddingConfig(model="hash", revision="1", dimensions=32, tiling=Tiling(max_tiles=4)))
    with LIVE_STORES[name]() as open_store:
        store = open_store(embedder.config)
        collection = MultimodalCollection(embedder, store)
        assert index_files(collection, find_files([tmp_path]).files).indexed == 4
        before = content_of(store)
        folder.rename(tmp_path / "new")
        for method in ("embed_texts", "embed_images", "embed_image_tiles"):
            monkeypatch.setattr(HashEmbedder, method, None)
        found = find_files([tmp_path])
        report = index_files(collection, found.files)
        assert (report.indexed, report.reused) == (0, 4)
        assert sorted(store.ids()) == sorted(str(path) for path in (tmp_path / "new").iterdir())
        assert content_of(store) == before
        assert find_missing(store, found, report) == []
