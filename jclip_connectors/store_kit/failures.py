"""The error of an `upsert` that wrote only some of its records."""

from collections.abc import Mapping, Sequence

from jclip_connectors.errors import ConnectorError, PartialFailureError, StoreRequestError, StoreUnavailableError
from jclip_connectors.port import Record


def partial(records: Sequence[Record], failed: Mapping[str, ConnectorError]) -> PartialFailureError:
    """Make the error of an `upsert` that wrote some records; records with the same id share one failure.

    Args:
        records: the records that the caller passed.
        failed: the error of each record that is not written, by id.
    """
    positions: dict[int, Exception] = {
        position: _named(failed[record.record_id], record.record_id)
        for position, record in enumerate(records)
        if record.record_id in failed
    }
    kept = {position: None for position in range(len(records)) if position not in positions}
    return PartialFailureError("records", failed=positions, kept=kept)


def _named(error: ConnectorError, record_id: str) -> ConnectorError:
    message = f"the record {record_id!r} is not written: {error}"
    if isinstance(error, StoreUnavailableError):
        return StoreUnavailableError(message, retry_after_s=error.retry_after_s, busy=error.busy)
    return StoreRequestError(message)
