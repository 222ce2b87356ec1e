"""Searching a collection: the query is embedded, each modality is searched, and the results are fused.

The calls of a flow are made on a host (see `hosts`): on its `embedder`, and `search_each(embedding, modalities, ...)`,
which returns one ranked list for each modality.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from jclip_connectors.errors import EmbedInputError, PartialFailureError
from jclip_connectors.port import MODALITIES, Filter, FloatArray, ImageSource, Modality, SearchHit
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.validation import check_count, check_modality

_RRF_K = 60  # Source: Cormack, Clarke and Buettcher 2009, reciprocal rank fusion


def search(
    text: str | None,
    image: ImageSource | None,
    *,
    limit: int,
    where: Filter | None,
    modality: Modality | None,
    tiles: bool,
) -> Flow[list[SearchHit]]:
    """Find the records nearest to a text or an image; the arguments are those of `MultimodalCollection.search`."""
    check_count(limit, name="limit")
    check_modality(modality)
    if (text is None) == (image is None):
        raise EmbedInputError("give one of `text` and `image` to search for")
    embedding = yield from (_embed_text(text) if image is None else _embed_image(image))
    modalities = MODALITIES if modality is None else (modality,)
    ranked: list[list[SearchHit]] = yield lambda host: host.search_each(
        embedding, modalities, limit=limit, where=where, tiles=tiles
    )
    return fuse_by_rank(ranked)[:limit]


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


def fuse_by_rank(ranked: Sequence[list[SearchHit]]) -> list[SearchHit]:
    """Merge ranked lists by reciprocal rank: the score becomes 1 / (60 + rank). A single list is not changed."""
    found = [hits for hits in ranked if hits]
    if len(found) < 2:
        return found[0] if found else []
    fused = [
        dataclasses.replace(hit, score=1.0 / (_RRF_K + rank))
        for hits in found
        for rank, hit in enumerate(hits, start=1)
    ]
    return sorted(fused, key=lambda hit: -hit.score)  # stable: images come first among equal ranks
