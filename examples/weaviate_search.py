"""Pictures and texts in Weaviate, found by a text, by a picture, and with a filter.

    docker compose up --detach --wait weaviate
    python examples/weaviate_search.py

WEAVIATE_URL and WEAVIATE_GRPC_PORT say where it is (http://127.0.0.1:8080 and 50051); an https URL is taken for
Weaviate Cloud, with its key in WEAVIATE_API_KEY. Runs with the bundled model; write model="jinaai/jina-clip-v2" for the
real one.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import weaviate
from gallery import TEXTS, draw_pictures, draw_query, show

from jclip_connectors import EmbeddingConfig, MultimodalCollection
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.weaviate.store import WeaviateStore


def main() -> None:
    """Index, search, print."""
    config = EmbeddingConfig(model="nano", dimensions=64)
    with connect() as client, TemporaryDirectory() as folder:
        store = WeaviateStore.open(client, "JclipExample", config)
        shapes = MultimodalCollection(LocalEmbedder(config), store)
        paths, metadatas = draw_pictures(Path(folder))
        shapes.add_images(paths, metadatas)
        shapes.add_texts(TEXTS)
        show("a yellow star", shapes.search("a yellow star", limit=4))
        show("[a picture of a red circle]", shapes.search(image=draw_query(Path(folder)), modality="image", limit=3))
        show("a blue square, from 2019 on", shapes.search("a blue square", where={"year": {"gte": 2019}}, limit=3))


def connect() -> weaviate.WeaviateClient:
    """Connect to the server that the environment names."""
    url = urlsplit(os.environ.get("WEAVIATE_URL", "http://127.0.0.1:8080"))
    if url.scheme == "https":
        return weaviate.connect_to_weaviate_cloud(url.geturl(), auth_credentials=os.environ["WEAVIATE_API_KEY"])
    grpc_port = int(os.environ.get("WEAVIATE_GRPC_PORT", "50051"))
    host, port = url.hostname or "127.0.0.1", url.port or 8080
    # Without the checks: one asks the package index for a newer client.
    return weaviate.connect_to_local(host, port, grpc_port, skip_init_checks=True)


if __name__ == "__main__":
    main()
