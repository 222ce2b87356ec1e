"""Pictures and texts in Chroma, found by a text, by a picture, and with a filter.

    python examples/chroma_search.py                             # in a folder that is deleted afterwards

    docker compose up --detach --wait chroma
    CHROMA_HOST=127.0.0.1 python examples/chroma_search.py       # on a server; CHROMA_PORT if it is not 8000

Runs with the bundled model; write model="jinaai/jina-clip-v2" for the real one.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import chromadb
from chromadb.api import ClientAPI
from chromadb.config import Settings
from gallery import TEXTS, draw_pictures, draw_query, show

from jclip_connectors import EmbeddingConfig, MultimodalCollection
from jclip_connectors.chroma import ChromaStore
from jclip_connectors.local import LocalEmbedder


def connect(folder: Path) -> ClientAPI:
    """A client of the server that the environment names, else of a folder."""
    settings = Settings(anonymized_telemetry=False)
    if "CHROMA_HOST" in os.environ:
        port = int(os.environ.get("CHROMA_PORT", "8000"))
        return chromadb.HttpClient(host=os.environ["CHROMA_HOST"], port=port, settings=settings)
    return chromadb.PersistentClient(str(folder), settings=settings)


def main() -> None:
    """Index, search, print."""
    config = EmbeddingConfig(model="nano", dimensions=64)
    with TemporaryDirectory() as name:
        folder = Path(name)
        store = ChromaStore.open(connect(folder / "data"), "jclip-example", config)
        shapes = MultimodalCollection(LocalEmbedder(config), store)
        paths, metadatas = draw_pictures(folder)
        shapes.add_images(paths, metadatas)
        shapes.add_texts(TEXTS)
        show("a yellow star", shapes.search("a yellow star", limit=4))
        show("[a picture of a red circle]", shapes.search(image=draw_query(folder), modality="image", limit=3))
        show("a blue square, from 2019 on", shapes.search("a blue square", where={"year": {"gte": 2019}}, limit=3))


if __name__ == "__main__":
    main()
