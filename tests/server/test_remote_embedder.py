"""The client without torch and the server of this package, together."""

import dataclasses

import numpy as np
import pytest

from core_encoder.tiling import Tiling
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.remote.embedder import RemoteEmbedder
from jclip_connectors.testing.embedder_contract import EmbedderContract, picture

NANO = EmbeddingConfig(model="nano", dimensions=64)
TILED = dataclasses.replace(NANO, tiling=Tiling(max_tiles=4))


class TestRemoteEmbedderOnOurServer(EmbedderContract):
    @pytest.fixture
    def embedder(self, server):
        with RemoteEmbedder(NANO, base_url=f"{server.url}/v1") as embedder:
            yield embedder

    @pytest.fixture
    def tiled_embedder(self, server):
        with RemoteEmbedder(TILED, base_url=f"{server.url}/v1") as embedder:
            yield embedder


def test_remote_vectors_equal_local_ones_and_share_their_fingerprint(server):
    local = LocalEmbedder(TILED)
    images = [picture(1), picture(2, (200, 100))]
    with RemoteEmbedder(TILED, base_url=f"{server.url}/v1") as remote:
        assert remote.config.fingerprint() == local.config.fingerprint()
        np.testing.assert_allclose(
            remote.embed_texts(["a", "ein Stern"]), local.embed_texts(["a", "ein Stern"]), atol=3e-6
        )
        np.testing.assert_allclose(remote.embed_query("a star"), local.embed_query("a star"), atol=3e-6)
        np.testing.assert_allclose(remote.embed_images(images), local.embed_images(images), atol=3e-6)
        for there, here in zip(remote.embed_image_tiles(images), local.embed_image_tiles(images), strict=True):
            np.testing.assert_allclose(there.vectors, here.vectors, atol=3e-6)
            assert there.boxes.tolist() == here.boxes.tolist()
