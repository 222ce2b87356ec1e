"""Pictures and texts in a folder of LanceDB, found by a text, by a picture, and with a filter.

    python examples/lancedb_search.py [FOLDER]

Runs with the bundled model; write model="jinaai/jina-clip-v2" for the real one. Without a folder, a temporary one is
used.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import lancedb
from gallery import TEXTS, draw_pictures, draw_query, show

from jclip_connectors import EmbeddingConfig, MultimodalCollection
from jclip_connectors.lancedb import LanceStore, lance_optimize
from jclip_connectors.local import LocalEmbedder


def main() -> None:
    """Index, search, print."""
    config = EmbeddingConfig(model="nano", dimensions=64)
    with TemporaryDirectory() as folder:
        connection = lancedb.connect(sys.argv[1] if len(sys.argv) > 1 else Path(folder) / "lance")
        store = LanceStore.open(connection, "jclip_example", config)
        shapes = MultimodalCollection(LocalEmbedder(config), store)
        paths, metadatas = draw_pictures(Path(folder))
        shapes.add_images(paths, metadatas)
        shapes.add_texts(TEXTS)
        lance_optimize(store)  # merges the files of the writes; more than 4,096 records get an index
        show("a yellow star", shapes.search("a yellow star", limit=4))
        show("[a picture of a red circle]", shapes.search(image=draw_query(Path(folder)), modality="image", limit=3))
        show("a blue square, from 2019 on", shapes.search("a blue square", where={"year": {"gte": 2019}}, limit=3))


if __name__ == "__main__":
    main()
