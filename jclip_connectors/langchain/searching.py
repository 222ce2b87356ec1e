"""What LangChain's searches have in common: a query of some kind, options, and a ranking.

Each is a flow (see `collection.hosts`), so that the blocking methods and their asynchronous twins run the same lines.
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
    """What is asked of the store beside the vector."""

    where: Filter | None
    modality: Modality | None
    tiles: bool


class Searcher:
    """The searches over a store that keeps tiles or not, with embeddings for images or only for texts.

    Each search checks all of its options before it embeds the query, which takes long.
    """

    def __init__(self, embedding: Embeddings, *, tiled: bool) -> None:
        """Look at what the embeddings can do."""
        self._fuses = hasattr(embedding, "embed_images")
        self._tiled = tiled

    def nearest(self, query: Flow[FloatArray], k: int, options: Mapping[str, object]) -> Flow[list[SearchHit]]:
        """Find the nearest; where texts and images are found they are fused by rank.

        Raises:
            EmbedInputError: an option that is unknown or cannot be used, or a query that cannot be embedded.
        """
        request = self._request(k, options)
        vector = yield from query
        return (yield from self._rank(vector, k, request))

    def by_cosine(self, query: Flow[FloatArray], k: int, options: Mapping[str, object]) -> Flow[list[SearchHit]]:
        """Find the nearest, texts and images on one scale of cosines; see `nearest`."""
        request = self._request(k, options)
        vector = yield from query
        return (yield from _ask(vector, k, request, (request.modality,)))[0]

    def diverse(
        self, query: Flow[FloatArray], k: int, options: Mapping[str, object], *, fetch_k: int, lambda_mult: float
    ) -> Flow[list[SearchHit]]:
        """Choose `k` of the `fetch_k` nearest by maximal marginal relevance, on their full vectors; see `nearest`."""
        request = self._request(k, options)
        check_count(fetch_k, name="fetch_k")
        weight: object = lambda_mult
        if not isinstance(weight, int | float) or not 0 <= weight <= 1:
            raise EmbedInputError(f"`lambda_mult` is {weight!r}; use a number from 0 to 1")
        vector = yield from query
        hits = yield from self._rank(vector, max(k, fetch_k), request)
        found: list[Record] = yield lambda host: host.store.get([hit.record_id for hit in hits])
        stored = {record.record_id: record.embedding for record in found}
        hits = [hit for hit in hits if hit.record_id in stored]  # without those that were deleted meanwhile
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
    """Embed a text that is searched for: (E,).

    Raises:
        EmbedInputError: it is no text.
    """
    if not isinstance(text, str):
        raise EmbedInputError(f"`query` is {type(text).__name__}, not a string")
    row: FloatArray = yield lambda host: host.embedder.embed_query(text)
    return row


def image_query(image: ImageSource) -> Flow[FloatArray]:
    """Embed an image that is searched for: (E,).

    Raises:
        EmbedInputError: it cannot be read, or the embeddings embed only texts.
    """
    try:
        rows = yield lambda host: host.embedder.embed_images([image])
    except PartialFailureError as error:
        raise EmbedInputError(f"`uri` cannot be searched for: {error.failed[0]}") from error
    return as_vector(rows[0])


def vector_query(embedding: object) -> Flow[FloatArray]:
    """Take a vector that was made already: (E,).

    Raises:
        EmbedInputError: it is no vector.
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
