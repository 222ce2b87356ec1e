"""What LangChain's searches have in common: a query of some kind, options, and a ranking."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from jclip_connectors.collection.searching import fuse_by_rank
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.langchain.documents import known_options
from jclip_connectors.langchain.embeddings import image_function
from jclip_connectors.port import MODALITIES, Filter, FloatArray, ImageSource, Modality, SearchHit, VectorStore
from jclip_connectors.store_kit.validation import check_count, check_embedding, check_modality

_Query = TypeVar("_Query")


@dataclass(frozen=True, kw_only=True)
class _Request:
    """What is asked of the store beside the vector."""

    where: Filter | None
    modality: Modality | None
    tiles: bool


class Searcher:
    """Embeddings and a store, and whether the store keeps tiles.

    Each search checks all of its options before it embeds the query, which takes long.
    """

    def __init__(self, store: VectorStore, embedding: Embeddings, *, tiled: bool) -> None:
        """Put them together."""
        self._store = store
        self._embedding = embedding
        self._tiled = tiled

    def nearest(
        self, embed: Callable[[_Query], FloatArray], query: _Query, k: int, options: Mapping[str, object]
    ) -> list[SearchHit]:
        """Find the nearest; where texts and images are found they are fused by rank.

        Raises:
            EmbedInputError: an option that is unknown or cannot be used, or a query that cannot be embedded.
        """
        request = self._request(k, options)
        return self._rank(embed(query), k, request)

    def by_cosine(
        self, embed: Callable[[_Query], FloatArray], query: _Query, k: int, options: Mapping[str, object]
    ) -> list[SearchHit]:
        """Find the nearest, texts and images on one scale of cosines; see `nearest`."""
        request = self._request(k, options)
        return self._ask(embed(query), k, request, modality=request.modality)

    def diverse(
        self,
        embed: Callable[[_Query], FloatArray],
        query: _Query,
        k: int,
        options: Mapping[str, object],
        *,
        fetch_k: int,
        lambda_mult: float,
    ) -> list[SearchHit]:
        """Choose `k` of the `fetch_k` nearest by maximal marginal relevance, on their full vectors; see `nearest`."""
        request = self._request(k, options)
        check_count(fetch_k, name="fetch_k")
        weight: object = lambda_mult  # whatever the caller has
        if not isinstance(weight, int | float) or not 0 <= weight <= 1:
            raise EmbedInputError(f"`lambda_mult` is {weight!r}; use a number from 0 to 1")
        vector = embed(query)
        hits = self._rank(vector, max(k, fetch_k), request)
        stored = {record.record_id: record.embedding for record in self._store.get([hit.record_id for hit in hits])}
        hits = [hit for hit in hits if hit.record_id in stored]  # without those that were deleted meanwhile
        rows = [stored[hit.record_id].tolist() for hit in hits]
        return [hits[at] for at in maximal_marginal_relevance(vector, rows, lambda_mult, k)]

    def embed_text(self, text: str) -> FloatArray:
        """Embed a query: (E,).

        Raises:
            EmbedInputError: it is no text.
        """
        given: object = text
        if not isinstance(given, str):
            raise EmbedInputError(f"`query` is {type(given).__name__}, not a string")
        return as_vector(self._embedding.embed_query(text))

    def embed_image(self, image: ImageSource) -> FloatArray:
        """Embed an image that is searched for: (E,).

        Raises:
            EmbedInputError: it cannot be read, or the embeddings embed only texts.
        """
        try:
            rows = image_function(self._embedding)([image])
        except PartialFailureError as error:
            raise EmbedInputError(f"`uri` cannot be searched for: {error.failed[0]}") from error
        return as_vector(rows[0])

    def _request(self, k: int, options: Mapping[str, object]) -> _Request:
        check_count(k, name="k")
        known: dict[str, Any] = known_options(options, "filter", "modality", "tiles")
        modality, tiles = known.get("modality"), known.get("tiles")
        check_modality(modality)
        return _Request(where=known.get("filter"), modality=modality, tiles=self._tiled if tiles is None else tiles)

    def _rank(self, vector: FloatArray, limit: int, request: _Request) -> list[SearchHit]:
        if request.modality is not None or not hasattr(self._embedding, "embed_images"):
            return self._ask(vector, limit, request, modality=request.modality)
        return fuse_by_rank([self._ask(vector, limit, request, modality=modality) for modality in MODALITIES])[:limit]

    def _ask(self, vector: FloatArray, limit: int, request: _Request, *, modality: Modality | None) -> list[SearchHit]:
        return self._store.search(vector, limit=limit, where=request.where, modality=modality, tiles=request.tiles)


def as_vector(embedding: object) -> FloatArray:
    """A query that is a vector already: (E,).

    Raises:
        EmbedInputError: it is no vector.
    """
    return check_embedding(embedding, dimensions=None)
