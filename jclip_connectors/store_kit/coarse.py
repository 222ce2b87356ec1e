"""The short prefix of a vector that chooses, in a large collection, the records that are compared in full."""

from typing import Literal, TypeAlias

from core_encoder.models import known_model
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError

CoarseDimensions: TypeAlias = int | Literal["auto"] | None
DEFAULT_COARSE = 64
CANDIDATES = 4096  # records that are compared in full, at least: a collection of no more is searched exactly
_WORTH_IT = 128  # values; a stage before shorter vectors saves nothing
_CANDIDATES_PER_RESULT = 20


def resolve_coarse(coarse_dimensions: CoarseDimensions, config: EmbeddingConfig) -> int | None:
    """The length of the prefix that a new collection searches first, or `None` for none.

    Args:
        coarse_dimensions: a length; "auto" is 64 for a model that was trained for prefixes and vectors of more than
            128 values; `None` is no such stage.
        config: what the vectors are made with.

    Raises:
        EmbedInputError: not a length that is shorter than the vectors.
    """
    if coarse_dimensions is None:
        return None
    dimensions = config.embedding_dim
    if coarse_dimensions == "auto":
        known = known_model(config.model)
        trained = known is not None and known.matryoshka
        return DEFAULT_COARSE if trained and dimensions is not None and dimensions > _WORTH_IT else None
    longest = "the vectors are" if dimensions is None else f"{dimensions}, the length of the vectors"
    given: object = coarse_dimensions  # whatever the caller has
    if (
        isinstance(given, bool)
        or not isinstance(given, int)
        or given < 1
        or (dimensions is not None and given >= dimensions)
    ):
        raise EmbedInputError(f"`coarse_dimensions` is {given!r}; use 'auto', None, or less than {longest}")
    return given


def count_candidates(candidates: int, *, limit: int) -> int:
    """How many records each stage leaves to the next one, where `limit` are wanted in the end."""
    return max(candidates, _CANDIDATES_PER_RESULT * limit)
