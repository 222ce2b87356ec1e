"""Writing records to a store that may refuse some of them for good."""

from collections.abc import Callable, Iterable, Sequence

from jclip_connectors.errors import EmbedInputError, PartialFailureError, StoreRequestError
from jclip_connectors.port import Record

_MOST_IN_A_ROW = 32  # records that are refused one by one before one is taken: it is not about the records


def write_records(upsert: Callable[[Sequence[Record]], None], records: Sequence[Record]) -> dict[str, str]:
    """Write records; what is refused is written again in halves, so that one bad record does not keep others out.

    Args:
        upsert: of the store.
        records: any number.

    Returns:
        Why the store has refused a record, by id.

    Raises:
        StoreUnavailableError: the store cannot be reached; some records may be written.
        StoreRequestError: the store refuses every request.
    """
    refused: dict[str, str] = {}
    taken = 0
    parts = [list(records)] if records else []
    while parts:
        part = parts.pop()
        try:
            upsert(part)
        except PartialFailureError as error:
            if error.unavailable:
                raise next(iter(error.unavailable.values())) from error
            taken += len(error.kept)
            _halve([part[at] for at in error.refused], parts, refused, error.refused.values())
        except (EmbedInputError, StoreRequestError) as error:
            _halve(part, parts, refused, [error])
            if isinstance(error, StoreRequestError) and not taken and len(refused) >= _MOST_IN_A_ROW:
                raise
        else:
            taken += len(part)
    return refused


def _halve(
    part: list[Record], parts: list[list[Record]], refused: dict[str, str], reasons: Iterable[Exception]
) -> None:
    """Put the halves of a refused part before the other parts; of one record, keep the reason."""
    if len(part) == 1:
        refused[part[0].record_id] = str(next(iter(reasons)))
    elif part:
        middle = len(part) // 2
        parts += [part[middle:], part[:middle]]
