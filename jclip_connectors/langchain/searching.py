"""The searches of LangChain's vector store: queries, options and ranking.

Each search is a flow (see `collection.hosts`), so the blocking and the async methods share the code.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings

from jclip_connectors.collection.diversity import choose_diverse
from jclip_connectors.collection.samples import SampleCache
from jclip_connectors.collection.searching import Query, Request, modalities_of, nearest
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.langchain.documents import known_options
from jclip_connectors.langchain.hosts import as_vector
from jclip_connectors.port import FloatArray, ImageSource, Record, SearchHit
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.validation import check_count


class Searcher:
    """The searches over a store.

    Each search checks all options before it embeds the query, because embedding is slow.
    """

    def __init__(self, embedding: Embeddings, *, tiled: bool) -> None:
        """Check what the embeddings support; `tiled` says whether the store has tiles."""
        self._both = hasattr(embedding, "embed_images")
        self._tiled = tiled
        self.samples = SampleCache(embeds_texts=True)

    def nearest(self, query: Flow[Query], k: int, options: Mapping[str, object]) -> Flow[list[SearchHit]]:
        """Find the nearest records, in the order of `MultimodalCollection.search`.

        Raises:
            EmbedInputError: an option is unknown or invalid, or the query cannot be embedded.
        """
        request = self._request(k, options)
        return (yield from nearest([(yield from query)], request, self.samples))[0]

    def diverse(
        self, query: Flow[Query], k: int, options: Mapping[str, object], *, fetch_k: int, lambda_mult: float
    ) -> Flow[list[SearchHit]]:
        """Choose `k` of the `fetch_k` nearest by maximal marginal relevance of their full vectors; see `nearest`."""
        check_count(k, name="k")
        check_count(fetch_k, name="fetch_k")
        request = self._request(max(k, fetch_k), options)
        weight: object = lambda_mult
        if not isinstance(weight, int | float) or not 0 <= weight <= 1:
            raise EmbedInputError(f"`lambda_mult` is {weight!r}; use a number from 0 to 1")
        found = yield from query
        hits = (yield from nearest([found], request, self.samples))[0]
        records: list[Record] = yield lambda host: host.store.get([hit.record_id for hit in hits])
        stored = {record.record_id: record.embedding for record in records}
        hits = [hit for hit in hits if hit.record_id in stored]  # without records that were deleted in the meantime
        vector = found.vector
        rows = np.array([stored[hit.record_id] for hit in hits], dtype=np.float32).reshape(-1, len(vector))  # (N, E)
        return [hits[at] for at in choose_diverse(rows @ vector, rows, limit=k, threshold=lambda_mult)]

    def _request(self, k: int, options: Mapping[str, object]) -> Request:
        check_count(k, name="k")
        known: dict[str, Any] = known_options(options, "filter", "modality", "tiles", "score_threshold")
        modality, tiles = known.get("modality"), known.get("tiles")
        both = modalities_of(modality)
        return Request(
            limit=k,
            where=known.get("filter"),
            # Embeddings of texts alone have no images to compare with.
            modalities=both if self._both or modality is not None else (None,),
            tiles=self._tiled if tiles is None else tiles,
            score_threshold=known.get("score_threshold"),
        )


def text_query(text: object) -> Flow[Query]:
    """Embed a text as a query.

    Raises:
        EmbedInputError: `text` is not a string.
    """
    if not isinstance(text, str):
        raise EmbedInputError(f"`query` is {type(text).__name__}, not a string")
    row: FloatArray = yield lambda host: host.embedder.embed_query(text)
    return Query(vector=row, text=text)


def image_query(image: ImageSource) -> Flow[Query]:
    """Embed an image as a query.

    Raises:
        EmbedInputError: the image cannot be read, or the embeddings support only texts.
    """
    try:
        rows = yield lambda host: host.embedder.embed_images([image])
    except PartialFailureError as error:
        raise EmbedInputError(f"`uri` cannot be embedded: {error.failed[0]}") from error
    return Query(vector=as_vector(rows[0]))


def vector_query(embedding: object) -> Flow[Query]:
    """Use an existing vector as a query.

    Raises:
        EmbedInputError: it is not a vector.
    """
    yield from ()
    return Query(vector=as_vector(embedding))
