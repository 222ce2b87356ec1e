"""Searching a collection: queries are embedded, each modality is searched, and the results are put into one order.

The calls of a flow are made on a host (see `hosts`): on its `embedder`; `search_each(embeddings, modalities, ...)`,
which returns for each modality the results of each query; and `sample_each`, for the samples of `samples`.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jclip_connectors.collection.adding import check_images, check_texts
from jclip_connectors.collection.samples import SampleCache, Scale
from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.port import MODALITIES, Filter, FloatArray, ImageSource, Modality, SearchHit
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.validation import check_count, check_modality

_SAME_COSINE = 1 - 1e-4  # vectors of the same content, with the rounding of a database


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is searched for.

    Attributes:
        vector: (E,) float32.
        text: the text of a text query.
    """

    vector: FloatArray
    text: str | None = None

    def is_same(self, hit: SearchHit) -> bool:
        """Whether a result is the query itself."""
        return hit.score > _SAME_COSINE or (
            hit.modality == "text" and self.text is not None and hit.content == self.text
        )


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of a search, except the query; checked when it is made.

    Attributes:
        limit: the largest number of results.
        where: a filter, or `None`.
        modalities: the modalities to search and compare; `(None,)` orders all records by cosine.
        tiles: whether to compare the nearest tile of each record.
        score_threshold: the smallest cosine of a result, or `None`.
        offset: the number of first results to leave out.
        group_duplicates: whether records of equal content are one result.
    """

    limit: int
    where: Filter | None
    modalities: Sequence[Modality | None]
    tiles: bool
    score_threshold: float | None = None
    offset: int = 0
    group_duplicates: bool = False

    def __post_init__(self) -> None:
        """Check the arguments.

        Raises:
            EmbedInputError: an argument is bad; the message names it.
        """
        check_count(self.limit, name="limit")
        offset: object = self.offset
        if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
            raise EmbedInputError(f"`offset` is {offset!r}; use an int of at least 0")
        threshold: object = self.score_threshold
        if threshold is not None and (
            isinstance(threshold, bool) or not isinstance(threshold, int | float) or not math.isfinite(threshold)
        ):
            raise EmbedInputError(f"`score_threshold` is {threshold!r}; use a cosine, a number from -1 to 1")


def modalities_of(modality: Modality | None) -> Sequence[Modality]:
    """The modalities to search for the argument `modality`.

    Raises:
        EmbedInputError: it is no modality.
    """
    check_modality(modality)
    return MODALITIES if modality is None else (modality,)


def search(
    text: str | None, image: ImageSource | None, request: Request, samples: SampleCache
) -> Flow[list[SearchHit]]:
    """Find the records nearest to a text or an image; the arguments are those of `MultimodalCollection.search`."""
    if (text is None) == (image is None):
        raise EmbedInputError("give one of `text` and `image` to search for")
    vector = yield from (_embed_text(text) if image is None else _embed_image(image))
    return (yield from nearest([Query(vector=vector, text=text)], request, samples))[0]


def search_many(
    texts: Sequence[str] | None, images: Sequence[ImageSource] | None, request: Request, samples: SampleCache
) -> Flow[list[list[SearchHit]]]:
    """Search for several texts or images; the arguments are those of `MultimodalCollection.search_many`."""
    if (texts is None) == (images is None):
        raise EmbedInputError("give one of `texts` and `images` to search for")
    if texts is not None:
        check_texts(texts)
        rows = (yield lambda host: host.embedder.embed_queries(list(texts))) if texts else []
        queries = [Query(vector=row, text=text) for row, text in zip(rows, texts, strict=True)]
    else:
        check_images(images)
        rows = (yield from _embed_images(images)) if images else []
        queries = [Query(vector=row) for row in rows]
    return (yield from nearest(queries, request, samples))


def nearest(queries: Sequence[Query], request: Request, samples: SampleCache) -> Flow[list[list[SearchHit]]]:
    """Search for vectors: for each query its results, in their order."""
    results: list[list[SearchHit]] = []
    for query, ranked in zip(queries, (yield from _find(queries, request)), strict=True):
        lists = [hits for hits in ranked if hits]
        if len(lists) < 2:
            hits = lists[0] if lists else []
        else:
            known = yield from samples.samples()
            hits = _in_one_order(query, lists, known.scales(query.vector, tiles=request.tiles))
        results.append(hits[request.offset : request.offset + request.limit])
    return results


def _find(queries: Sequence[Query], request: Request) -> Flow[list[list[list[SearchHit]]]]:
    """For each query and modality the best results, as many as are asked for."""
    wanted = request.offset + request.limit
    asked = wanted + request.group_duplicates  # one result more shows that the last group is complete
    found: dict[int, list[list[SearchHit]]] = {}
    while len(found) < len(queries):
        open_ = [at for at in range(len(queries)) if at not in found]
        embeddings = np.array([queries[at].vector for at in open_], dtype=np.float32)  # (B, E)
        options: dict[str, Any] = {"limit": asked, "where": request.where, "tiles": request.tiles}
        answers = yield functools.partial(_search_each, embeddings, request.modalities, options)
        for at, *ranked in zip(open_, *answers, strict=True):
            kept = [_near_enough(hits, request) for hits in ranked]
            if not request.group_duplicates:
                found[at] = kept
                continue
            groups = [_grouped(hits) for hits in kept]
            # Records of equal content have equal scores: the first groups are complete if there is one more.
            if all(len(each) > wanted or len(hits) < asked for each, hits in zip(groups, kept, strict=True)):
                found[at] = groups
        asked *= 4
    return [found[at] for at in range(len(queries))]


def _search_each(
    embeddings: FloatArray,
    modalities: Sequence[Modality | None],
    options: Mapping[str, Any],
    host: Any,  # noqa: ANN401 (blocking or asyncio)
) -> Any:  # noqa: ANN401 (results, or an awaitable)
    return host.search_each(embeddings, modalities, **options)


def _grouped(hits: Sequence[SearchHit]) -> list[SearchHit]:
    """One result for each content: the first, with the ids of the others."""
    groups: dict[object, list[SearchHit]] = {}
    for position, hit in enumerate(hits):
        content: object = position if hit.content_hash is None else (hit.modality, hit.content_hash)
        groups.setdefault(content, []).append(hit)
    return [
        dataclasses.replace(first, duplicates=tuple(other.record_id for other in others)) if others else first
        for first, *others in groups.values()
    ]


def _near_enough(hits: list[SearchHit], request: Request) -> list[SearchHit]:
    least = request.score_threshold
    return hits if least is None else [hit for hit in hits if hit.score >= least]


def _in_one_order(
    query: Query, ranked: Sequence[Sequence[SearchHit]], scales: dict[Modality, Scale]
) -> list[SearchHit]:
    """Order the results of both modalities by how unusual their cosines are; equal ones by cosine and id.

    What is searched for comes first if the collection has it: nothing can be nearer, however usual its cosine is.
    """
    hits = [hit for hits in ranked for hit in hits]
    scores = [scales[hit.modality].rank_score(hit.score) for hit in hits]
    best = max(scores)
    hits = [
        dataclasses.replace(hit, rank_score=best if query.is_same(hit) else score)
        for hit, score in zip(hits, scores, strict=True)
    ]
    return sorted(hits, key=lambda hit: (-_rank_score(hit), not query.is_same(hit), -hit.score, hit.record_id))


def _rank_score(hit: SearchHit) -> float:
    return -math.inf if hit.rank_score is None else hit.rank_score


def _embed_text(text: object) -> Flow[FloatArray]:
    if not isinstance(text, str):
        raise EmbedInputError(f"`text` is {type(text).__name__}, not a string; write image=... for an image")
    row: FloatArray = yield lambda host: host.embedder.embed_query(text)
    return row


def _embed_image(image: ImageSource) -> Flow[FloatArray]:
    try:
        rows = yield lambda host: host.embedder.embed_images([image])  # (1, E)
    except PartialFailureError as error:
        raise EmbedInputError(f"`image` cannot be embedded: {error.failed[0]}") from error
    return np.asarray(rows[0])


def _embed_images(images: Sequence[ImageSource]) -> Flow[FloatArray]:
    try:
        rows = yield lambda host: host.embedder.embed_images(list(images))
    except PartialFailureError as error:
        position, reason = next(iter(sorted(error.failed.items())))
        raise EmbedInputError(f"`images`[{position}] cannot be embedded: {reason}") from error
    return np.asarray(rows)
