"""Coarse search: short prefixes of the vectors select the candidates that are compared in full."""

from typing import Literal, TypeAlias

from core_encoder.models import known_model
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError

CoarseDimensions: TypeAlias = int | Literal["auto"] | None
DEFAULT_COARSE = 64
CANDIDATES = 4096  # at least this many are compared in full: search is exact in a collection of this size
_WORTH_IT = 128  # values; for vectors of at most this length, a coarse stage saves nothing
_CANDIDATES_PER_RESULT = 20
_RESULTS_AT_ONCE, _SEARCHES_AT_ONCE = 2048, 64  # of a request with many searches


def resolve_coarse(coarse_dimensions: CoarseDimensions, config: EmbeddingConfig) -> int | None:
    """The length of the prefix that a new collection searches first; `None` without a coarse stage.

    Args:
        coarse_dimensions: a length; "auto" is 64 for a model trained for prefixes if the vectors have more than 128
            values; `None` is no coarse stage.
        config: the configuration of the vectors.

    Raises:
        EmbedInputError: `coarse_dimensions` is not an int from 1 to less than the length of the vectors.
    """
    if coarse_dimensions is None:
        return None
    dimensions = config.embedding_dim
    if coarse_dimensions == "auto":
        known = known_model(config.model)
        trained = known is not None and known.matryoshka
        return DEFAULT_COARSE if trained and dimensions is not None and dimensions > _WORTH_IT else None
    longest = "the length of the vectors" if dimensions is None else f"{dimensions}, the length of the vectors"
    given: object = coarse_dimensions  # checked here: the annotation is not enforced at run time
    if (
        isinstance(given, bool)
        or not isinstance(given, int)
        or given < 1
        or (dimensions is not None and given >= dimensions)
    ):
        raise EmbedInputError(f"`coarse_dimensions` is {given!r}; use 'auto', None, or an int less than {longest}")
    return given


def count_at_once(limit: int, *, tiles: bool) -> int:
    """How many searches of `search_many` share a request: about 2,000 results, or 250 with their tiles, and 64."""
    results = _RESULTS_AT_ONCE // (8 if tiles else 1)
    return min(_SEARCHES_AT_ONCE, max(1, results // limit))


def count_candidates(candidates: int, *, limit: int) -> int:
    """The number of records that each stage passes to the next one, for `limit` results."""
    return max(candidates, _CANDIDATES_PER_RESULT * limit)
