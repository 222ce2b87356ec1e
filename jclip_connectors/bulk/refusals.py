"""Writing records to a store that may refuse some of them for good."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from jclip_connectors.errors import ConnectorError, EmbedInputError, PartialFailureError, StoreRequestError
from jclip_connectors.port import Record, VectorStore
from jclip_connectors.store_kit.flows import Flow, run
from jclip_connectors.store_kit.patience import Patience, Patient, upsert_patiently

_MOST_IN_A_ROW = 32  # records that are refused one by one before one is taken: it is not about the records

Upsert: TypeAlias = Callable[[Sequence[Record]], None]


def patient_upsert(store: VectorStore, patience: Patience) -> Upsert:
    """The `upsert` of a store, which waits for its database as `patience` says; stores that share it wait together."""
    if isinstance(store, Patient):
        store.patience = patience
        return store.upsert

    def once(records: Sequence[Record]) -> Flow[None]:
        yield lambda _: store.upsert(records)

    def upsert(records: Sequence[Record]) -> None:
        flow = upsert_patiently(once, records, patience)
        run(flow, store, translate=_as_it_is, attempts=1, patience=patience)

    return upsert


def write_records(upsert: Upsert, records: Sequence[Record]) -> dict[str, str]:
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


def _as_it_is(error: Exception) -> ConnectorError | None:
    """Errors of a store are this package's."""
    return error if isinstance(error, ConnectorError) else None
