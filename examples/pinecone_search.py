"""Pictures and texts in Pinecone, found by a text, by a picture, and with a filter.

    PINECONE_API_KEY=... python examples/pinecone_search.py

Makes the index PINECONE_INDEX ("jclip-example") where it is not there yet. Runs with the bundled model; write
model="jinaai/jina-clip-v2" for the real one.
"""

import os
import time
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

from gallery import TEXTS, draw_pictures, draw_query, show
from pinecone import Pinecone

from jclip_connectors import EmbeddingConfig, MultimodalCollection
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.pinecone.store import PineconeStore

PATIENCE_S = 60  # what is written can be found a little later


def main() -> None:
    """Index, search, print."""
    config = EmbeddingConfig(model="nano", dimensions=64)
    name = os.environ.get("PINECONE_INDEX", "jclip-example")
    with ExitStack() as stack:
        client = stack.enter_context(Pinecone())
        store = stack.enter_context(closing(PineconeStore.open(client, name, config, namespace="shapes")))
        folder = stack.enter_context(TemporaryDirectory())
        shapes = MultimodalCollection(LocalEmbedder(config), store)
        paths, metadatas = draw_pictures(Path(folder))
        shapes.add_images(paths, metadatas)
        shapes.add_texts(TEXTS)
        give_up = time.monotonic() + PATIENCE_S
        while shapes.count() < len(paths) + len(TEXTS) and time.monotonic() < give_up:
            time.sleep(1)
        show("a yellow star", shapes.search("a yellow star", limit=4))
        show("[a picture of a red circle]", shapes.search(image=draw_query(Path(folder)), modality="image", limit=3))
        show("a blue square, from 2019 on", shapes.search("a blue square", where={"year": {"gte": 2019}}, limit=3))


if __name__ == "__main__":
    main()
