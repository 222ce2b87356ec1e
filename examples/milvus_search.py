"""Pictures and texts in Milvus, found by a text, by a picture, and with a filter.

    python examples/milvus_search.py                                          # Milvus Lite, in a folder
    docker compose up --detach --wait milvus
    MILVUS_URL=http://127.0.0.1:19530 python examples/milvus_search.py        # a server; its token is in MILVUS_TOKEN

Runs with the bundled model; write model="jinaai/jina-clip-v2" for the real one.
"""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from gallery import TEXTS, draw_pictures, draw_query, show
from pymilvus import MilvusClient

from jclip_connectors import EmbeddingConfig, MultimodalCollection
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.milvus import MilvusStore


@contextmanager
def place(folder: Path) -> Iterator[MilvusClient | Path]:
    """A client of the server at MILVUS_URL, or the path of a database of Milvus Lite."""
    url = os.environ.get("MILVUS_URL")
    if not url:
        yield folder / "milvus.db"
        return
    with closing(MilvusClient(uri=url, token=os.environ.get("MILVUS_TOKEN", ""))) as client:
        yield client


def main() -> None:
    """Index, search, print."""
    config = EmbeddingConfig(model="nano", dimensions=64)
    with (
        TemporaryDirectory() as folder,
        place(Path(folder)) as where,
        closing(MilvusStore.open(where, "jclip_example", config)) as store,
    ):
        shapes = MultimodalCollection(LocalEmbedder(config), store)
        paths, metadatas = draw_pictures(Path(folder))
        shapes.add_images(paths, metadatas)
        shapes.add_texts(TEXTS)
        show("a yellow star", shapes.search("a yellow star", limit=4))
        show("[a picture of a red circle]", shapes.search(image=draw_query(Path(folder)), modality="image", limit=3))
        show("a blue square, from 2019 on", shapes.search("a blue square", where={"year": {"gte": 2019}}, limit=3))


if __name__ == "__main__":
    main()
