"""Writing records to a store that may refuse some of them for good."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from jclip_connectors.errors import ConnectorError, EmbedInputError, PartialFailureError, StoreRequestError
from jclip_connectors.port import Record, VectorStore
from jclip_connectors.store_kit.flows import Flow, run
from jclip_connectors.store_kit.patience import Patience, Patient, upsert_patiently

# Records that are refused with none accepted between them: then it is not about the records.
_MOST_AT_FIRST, _MOST_IN_A_ROW = 32, 1024

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


class Refusals:
    """Counts what a store refuses in a run; threads may share it."""

    def __init__(self) -> None:
        """Nothing was written yet."""
        self._lock = threading.Lock()
        self._accepted = False
        self._in_a_row = 0

    def count(self, *, accepted: int = 0, refused: int = 0) -> None:
        """Count records."""
        with self._lock:
            self._accepted |= accepted > 0
            self._in_a_row = 0 if accepted else self._in_a_row + refused

    def are_too_many(self) -> bool:
        """Whether the store refuses everything, as far as is seen."""
        with self._lock:
            return self._in_a_row >= (_MOST_IN_A_ROW if self._accepted else _MOST_AT_FIRST)


def write_records(upsert: Upsert, records: Sequence[Record], refusals: Refusals) -> dict[str, str]:
    """Write records; what is refused is written again in halves, so that one bad record does not keep others out.

    Args:
        upsert: of the store.
        records: any number.
        refusals: what the store has refused before.

    Returns:
        Why the store has refused a record, by id.

    Raises:
        StoreUnavailableError: the store cannot be reached; some records may be written.
        StoreRequestError: the store refuses every request.
    """
    refused: dict[str, str] = {}
    parts = [list(records)] if records else []
    while parts:
        part = parts.pop()
        try:
            upsert(part)
        except PartialFailureError as error:
            if error.unavailable:
                raise next(iter(error.unavailable.values())) from error
            _halve([part[at] for at in error.refused], parts, refused, error.refused.values())
            refusals.count(accepted=len(error.kept), refused=len(part) == 1)
            if refusals.are_too_many():
                raise next(iter(error.refused.values())) from error
        except EmbedInputError as error:  # of these records, whatever the store is
            _halve(part, parts, refused, [error])
        except StoreRequestError as error:
            _halve(part, parts, refused, [error])
            refusals.count(refused=len(part) == 1)
            if refusals.are_too_many():
                raise
        else:
            refusals.count(accepted=len(part))
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
