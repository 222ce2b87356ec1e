"""Pictures and texts in PostgreSQL with pgvector, found by a text, by a picture, and with a filter.

    docker compose up --detach --wait postgres
    PGHOST=127.0.0.1 PGUSER=postgres PGPASSWORD=jclip python examples/pgvector_search.py

Every variable of libpq is understood: PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD, PGSSLMODE. The database must have
pgvector: run `CREATE EXTENSION vector` in it once. Runs with the bundled model; write model="jinaai/jina-clip-v2" for
the real one.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from gallery import TEXTS, draw_pictures, draw_query, show

from jclip_connectors import EmbeddingConfig, MultimodalCollection
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.pgvector import PgVectorStore


def main() -> None:
    """Index, search, print."""
    config = EmbeddingConfig(model="nano", dimensions=64)
    with psycopg.connect(autocommit=True) as connection, TemporaryDirectory() as folder:
        store = PgVectorStore.open(connection, "jclip_example", config)
        shapes = MultimodalCollection(LocalEmbedder(config), store)
        paths, metadatas = draw_pictures(Path(folder))
        shapes.add_images(paths, metadatas)
        shapes.add_texts(TEXTS)
        show("a yellow star", shapes.search("a yellow star", limit=4))
        show("[a picture of a red circle]", shapes.search(image=draw_query(Path(folder)), modality="image", limit=3))
        show("a blue square, from 2019 on", shapes.search("a blue square", where={"year": {"gte": 2019}}, limit=3))


if __name__ == "__main__":
    main()
