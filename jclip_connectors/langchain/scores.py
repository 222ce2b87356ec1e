"""Conversion of results to LangChain documents, with or without scores.

A score is a cosine; a relevance is (1 + cosine) / 2, since LangChain wants 0 to 1.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from langchain_core.documents import Document

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.langchain.documents import to_document
from jclip_connectors.port import SearchHit


def scored(hits: Sequence[SearchHit]) -> list[tuple[Document, float]]:
    """Documents with their scores: higher is nearer."""
    return [(to_document(hit), hit.score) for hit in hits]


def without_scores(found: Sequence[tuple[Document, float]]) -> list[Document]:
    """The documents without their scores."""
    return [document for document, _ in found]


def with_relevance(hits: Sequence[SearchHit]) -> list[tuple[Document, float]]:
    """Documents with their relevance: 0 to 1, higher is nearer."""
    return [(to_document(hit), relevance(hit.score)) for hit in hits]


def relevance(cosine: float) -> float:
    """Convert a cosine to LangChain's scale of 0 to 1."""
    return float(np.clip((1 + cosine) / 2, 0, 1))


def as_cosine(options: Mapping[str, object]) -> dict[str, object]:
    """The options of a search with its `score_threshold`, a relevance, as a cosine.

    Raises:
        EmbedInputError: it is no number from 0 to 1.
    """
    least = options.get("score_threshold")
    if least is None:
        return {name: value for name, value in options.items() if name != "score_threshold"}
    if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least <= 1:
        raise EmbedInputError(f"`score_threshold` is {least!r}; use a relevance, a number from 0 to 1")
    return {**options, "score_threshold": 2 * least - 1}
