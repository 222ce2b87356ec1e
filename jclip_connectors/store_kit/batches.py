"""Splitting a write into batches, and writing the batches until one fails."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from jclip_connectors.errors import ConnectorError, StoreRequestError, StoreUnavailableError
from jclip_connectors.port import Record
from jclip_connectors.store_kit.failures import partial
from jclip_connectors.store_kit.flows import Flow

_Item = TypeVar("_Item")


def split(
    items: Iterable[_Item], *, size_bytes: Callable[[_Item], int], most_items: int, most_bytes: int
) -> Iterator[list[_Item]]:
    """Split items into batches, in order; an item of more than `most_bytes` gets its own batch."""
    batch: list[_Item] = []
    total = 0
    for item in items:
        size = size_bytes(item)
        if batch and (len(batch) == most_items or total + size > most_bytes):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch


def parts(items: Sequence[_Item], size: int) -> Iterator[list[_Item]]:
    """The items, `size` at a time."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def write_batches(
    records: Sequence[Record],
    batches: Sequence[Sequence[Record]],
    write: Callable[[Sequence[Record]], Flow[None]],
) -> Flow[None]:
    """Write batches one after another; the database accepts or refuses a batch as a whole.

    Args:
        records: the records that the caller of `upsert` passed, for the positions in the error.
        batches: the batches of the checked records.
        write: the flow that writes a batch.

    Raises:
        PartialFailureError: some batches were written and some were not.
        ConnectorError: no batch was written; this is the first error.
    """
    failed: dict[str, ConnectorError] = {}
    for position, batch in enumerate(batches):
        try:
            yield from write(batch)
        except StoreUnavailableError as error:
            # The following batches would fail too, each after the same wait.
            failed |= {record.record_id: error for later in batches[position:] for record in later}
            break
        except StoreRequestError as error:
            failed |= {record.record_id: error for record in batch}
    if failed and len(failed) == sum(map(len, batches)):
        raise next(iter(failed.values()))
    if failed:
        raise partial(records, failed)
