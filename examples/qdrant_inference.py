"""qdrant-client with our encoder behind `models.Document` and `models.Image`: no vector is seen.

    python examples/qdrant_inference.py

Runs in memory with the bundled model. With a server: `QdrantClient(url)`; with the real model:
"jinaai/jina-clip-v2@256".
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from gallery import TEXTS, draw_pictures
from qdrant_client import QdrantClient, models

from jclip_connectors.qdrant_inference import register

MODEL = "nano@64"  # the first 64 values of its vectors


def main() -> None:
    """Index pictures and texts, search, print."""
    register()
    client = QdrantClient(":memory:")
    size = client.get_embedding_size(MODEL)
    client.create_collection("shapes", models.VectorParams(size=size, distance=models.Distance.COSINE))
    with TemporaryDirectory() as folder:
        paths, metadatas = draw_pictures(Path(folder))
        inputs: list[models.Image | models.Document] = [models.Image(image=str(path), model=MODEL) for path in paths]
        inputs += [models.Document(text=text, model=MODEL) for text in TEXTS]
        payloads = [{"name": path.name, **metadata} for path, metadata in zip(paths, metadatas, strict=True)]
        payloads += [{"name": text} for text in TEXTS]
        points = [
            models.PointStruct(id=number, vector=vector, payload=payload)
            for number, (vector, payload) in enumerate(zip(inputs, payloads, strict=True))
        ]
        client.upsert("shapes", points)
    pictures = models.Filter(must=[models.FieldCondition(key="year", range=models.Range(gte=2018))])
    for text in ("a yellow star", "ein blaues Quadrat"):
        query = models.Document(text=text, model=MODEL)
        print(text)
        for hit in client.query_points("shapes", query, query_filter=pictures, limit=3).points:
            print(f"  {hit.score:.3f}  {(hit.payload or {})['name']}")
    client.close()


if __name__ == "__main__":
    main()
