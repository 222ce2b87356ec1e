"""Pictures and texts in Qdrant, found by a text, by a picture, and with a filter.

    python examples/qdrant_search.py                                      # in memory
    QDRANT_URL=http://127.0.0.1:6333 python examples/qdrant_search.py     # on a server

QDRANT_API_KEY is sent if it is set. Runs with the bundled model; write model="jinaai/jina-clip-v2" for the real one.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from gallery import TEXTS, draw_pictures, draw_query, show
from qdrant_client import QdrantClient

from jclip_connectors import EmbeddingConfig, MultimodalCollection
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.qdrant.store import QdrantStore


def main() -> None:
    """Index, search, print."""
    config = EmbeddingConfig(model="nano", dimensions=64)
    client = QdrantClient(os.environ.get("QDRANT_URL", ":memory:"), api_key=os.environ.get("QDRANT_API_KEY"))
    store = QdrantStore.open(client, "JclipExample", config)
    with TemporaryDirectory() as folder:
        shapes = MultimodalCollection(LocalEmbedder(config), store)
        paths, metadatas = draw_pictures(Path(folder))
        shapes.add_images(paths, metadatas)
        shapes.add_texts(TEXTS)
        show("a yellow star", shapes.search("a yellow star", limit=4))
        show("[a picture of a red circle]", shapes.search(image=draw_query(Path(folder)), modality="image", limit=3))
        show("a blue square, from 2019 on", shapes.search("a blue square", where={"year": {"gte": 2019}}, limit=3))
    client.close()


if __name__ == "__main__":
    main()
