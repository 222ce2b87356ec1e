"""The searches of LangChain's vector store: queries, options and ranking.

Each search is a flow (see `collection.hosts`), so the blocking and the async methods share the code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings

from jclip_connectors.collection.diversity import choose_diverse
from jclip_connectors.collection.searching import fuse_by_rank
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.langchain.documents import known_options
from jclip_connectors.langchain.hosts import as_vector
from jclip_connectors.port import MODALITIES, Filter, FloatArray, ImageSource, Modality, Record, SearchHit
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.validation import check_count, check_modality


@dataclass(frozen=True, kw_only=True)
class _Request:
    """The arguments of a search, except the vector."""

    where: Filter | None
    modality: Modality | None
    tiles: bool


class Searcher:
    """The searches over a store.

    Each search checks all options before it embeds the query, because embedding is slow.
    """

    def __init__(self, embedding: Embeddings, *, tiled: bool) -> None:
        """Check what the embeddings support; `tiled` says whether the store has tiles."""
        self._fuses = hasattr(embedding, "embed_images")
        self._tiled = tiled

    def nearest(self, query: Flow[FloatArray], k: int, options: Mapping[str, object]) -> Flow[list[SearchHit]]:
        """Find the nearest records; results of both modalities are fused by rank.

        Raises:
            EmbedInputError: an option is unknown or invalid, or the query cannot be embedded.
        """
        request = self._request(k, options)
        vector = yield from query
        return (yield from self._rank(vector, k, request))

    def by_cosine(self, query: Flow[FloatArray], k: int, options: Mapping[str, object]) -> Flow[list[SearchHit]]:
        """Find the nearest records, with texts and images ordered by cosine together; see `nearest`."""
        request = self._request(k, options)
        vector = yield from query
        return (yield from _ask(vector, k, request, (request.modality,)))[0]

    def diverse(
        self, query: Flow[FloatArray], k: int, options: Mapping[str, object], *, fetch_k: int, lambda_mult: float
    ) -> Flow[list[SearchHit]]:
        """Choose `k` of the `fetch_k` nearest by maximal marginal relevance of their full vectors; see `nearest`."""
        request = self._request(k, options)
        check_count(fetch_k, name="fetch_k")
        weight: object = lambda_mult
        if not isinstance(weight, int | float) or not 0 <= weight <= 1:
            raise EmbedInputError(f"`lambda_mult` is {weight!r}; use a number from 0 to 1")
        vector = yield from query
        hits = yield from self._rank(vector, max(k, fetch_k), request)
        found: list[Record] = yield lambda host: host.store.get([hit.record_id for hit in hits])
        stored = {record.record_id: record.embedding for record in found}
        hits = [hit for hit in hits if hit.record_id in stored]  # without records that were deleted in the meantime
        rows = np.array([stored[hit.record_id] for hit in hits], dtype=np.float32).reshape(-1, len(vector))  # (N, E)
        return [hits[at] for at in choose_diverse(rows @ vector, rows, limit=k, threshold=lambda_mult)]

    def _request(self, k: int, options: Mapping[str, object]) -> _Request:
        check_count(k, name="k")
        known: dict[str, Any] = known_options(options, "filter", "modality", "tiles")
        modality, tiles = known.get("modality"), known.get("tiles")
        check_modality(modality)
        return _Request(where=known.get("filter"), modality=modality, tiles=self._tiled if tiles is None else tiles)

    def _rank(self, vector: FloatArray, limit: int, request: _Request) -> Flow[list[SearchHit]]:
        if request.modality is not None or not self._fuses:
            return (yield from _ask(vector, limit, request, (request.modality,)))[0]
        return fuse_by_rank((yield from _ask(vector, limit, request, MODALITIES)))[:limit]


def text_query(text: object) -> Flow[FloatArray]:
    """Embed a text as a query: (E,).

    Raises:
        EmbedInputError: `text` is not a string.
    """
    if not isinstance(text, str):
        raise EmbedInputError(f"`query` is {type(text).__name__}, not a string")
    row: FloatArray = yield lambda host: host.embedder.embed_query(text)
    return row


def image_query(image: ImageSource) -> Flow[FloatArray]:
    """Embed an image as a query: (E,).

    Raises:
        EmbedInputError: the image cannot be read, or the embeddings support only texts.
    """
    try:
        rows = yield lambda host: host.embedder.embed_images([image])
    except PartialFailureError as error:
        raise EmbedInputError(f"`uri` cannot be embedded: {error.failed[0]}") from error
    return as_vector(rows[0])


def vector_query(embedding: object) -> Flow[FloatArray]:
    """Use an existing vector as a query: (E,).

    Raises:
        EmbedInputError: it is not a vector.
    """
    yield from ()
    return as_vector(embedding)


def _ask(
    vector: FloatArray, limit: int, request: _Request, modalities: tuple[Modality | None, ...]
) -> Flow[list[list[SearchHit]]]:
    ranked: list[list[SearchHit]] = yield lambda host: host.search_each(
        vector, modalities, limit=limit, where=request.where, tiles=request.tiles
    )
    return ranked
