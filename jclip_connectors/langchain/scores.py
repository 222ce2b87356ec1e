"""Conversion of results to LangChain documents, with or without scores."""

from collections.abc import Sequence

import numpy as np
from langchain_core.documents import Document

from jclip_connectors.langchain.documents import to_document
from jclip_connectors.port import SearchHit


def scored(hits: Sequence[SearchHit]) -> list[tuple[Document, float]]:
    """Documents with their scores: higher is nearer."""
    return [(to_document(hit), hit.score) for hit in hits]


def without_scores(found: Sequence[tuple[Document, float]]) -> list[Document]:
    """The documents without their scores."""
    return [document for document, _ in found]


def relevance(cosine: float) -> float:
    """Convert a cosine to LangChain's scale of 0 to 1."""
    return float(np.clip((1 + cosine) / 2, 0, 1))
