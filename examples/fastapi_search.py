"""A service of one's own over a collection: texts and pictures are added and searched, and nothing waits for the model.

    pip install 'jclip-connectors[local,qdrant]' fastapi uvicorn
    python examples/fastapi_search.py                                      # in memory, at http://127.0.0.1:8000/docs
    QDRANT_URL=http://127.0.0.1:6333 python examples/fastapi_search.py     # on a server

QDRANT_API_KEY is sent if it is set. Runs with the bundled model; write model="jinaai/jina-clip-v2" for the real one.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import uvicorn
from fastapi import Body, Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from qdrant_client import AsyncQdrantClient

from jclip_connectors import (
    AsyncMultimodalCollection,
    EmbeddingConfig,
    EmbedInputError,
    SearchHit,
    StoreUnavailableError,
)
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.qdrant import AsyncQdrantStore

CONFIG = EmbeddingConfig(model="nano", dimensions=64)


class Texts(BaseModel):
    """Texts to add, and an id for each."""

    ids: list[str]
    texts: list[str]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model and open the collection once, for all requests."""
    client = AsyncQdrantClient(os.environ.get("QDRANT_URL", ":memory:"), api_key=os.environ.get("QDRANT_API_KEY"))
    embedder = await asyncio.to_thread(LocalEmbedder, CONFIG)  # reading the weights takes a while
    app.state.collection = AsyncMultimodalCollection(
        embedder, await AsyncQdrantStore.open(client, "JclipFastApi", CONFIG)
    )
    yield
    await client.close()


async def the_collection(request: Request) -> AsyncMultimodalCollection:
    """Give a route the collection."""
    collection: AsyncMultimodalCollection = request.app.state.collection
    return collection


app = FastAPI(title="Pictures and texts", lifespan=lifespan)
Collection = Annotated[AsyncMultimodalCollection, Depends(the_collection)]
Picture = Annotated[bytes, Body(media_type="application/octet-stream")]


@app.post("/texts")
async def add_texts(given: Texts, collection: Collection) -> dict[str, int]:
    """Add texts."""
    report = await collection.add_texts(given.texts, ids=given.ids)
    return {"added": len(report.ids)}


@app.put("/pictures/{picture_id}")
async def add_picture(picture_id: str, picture: Picture, collection: Collection) -> dict[str, int]:
    """Add a picture: the bytes of a file."""
    report = await collection.add_images([picture], ids=[picture_id])
    for error in report.failed.values():
        raise error
    return {"added": len(report.ids)}


@app.get("/search")
async def search(text: str, collection: Collection, limit: int = 10) -> list[dict[str, Any]]:
    """Find texts and pictures by a text."""
    return [as_json(hit) for hit in await collection.search(text, limit=limit)]


@app.post("/search/picture")
async def search_by_picture(picture: Picture, collection: Collection, limit: int = 10) -> list[dict[str, Any]]:
    """Find pictures by a picture."""
    return [as_json(hit) for hit in await collection.search(image=picture, modality="image", limit=limit)]


@app.exception_handler(EmbedInputError)
async def refuse(_: Request, error: Exception) -> JSONResponse:
    """Tell a client what is wrong with the request."""
    return JSONResponse({"detail": str(error)}, status_code=422)


@app.exception_handler(StoreUnavailableError)
async def wait(_: Request, error: Exception) -> JSONResponse:
    """Tell a client that another try may succeed."""
    return JSONResponse({"detail": str(error)}, status_code=503)


def as_json(hit: SearchHit) -> dict[str, Any]:
    """One result as the service tells it."""
    return {"id": hit.record_id, "modality": hit.modality, "score": hit.score, "content": hit.content}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8000)
