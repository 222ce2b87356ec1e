"""Compute the items of an iterator in a thread, before they are needed."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

_Item = TypeVar("_Item")
_END: Final[Any] = object()


def ahead(items: Iterator[_Item], *, count: int) -> Generator[_Item, None, None]:
    """Yield the items in their order; a thread computes the next ones meanwhile.

    An error of `items` is raised here when its item is due. Closing waits for the item that is being computed.

    Args:
        items: used by one thread at a time.
        count: the number of items that are computed before they are needed.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="jclip-ahead") as pool:
        pending = deque(pool.submit(next, items, _END) for _ in range(count))
        try:
            while (item := pending.popleft().result()) is not _END:
                pending.append(pool.submit(next, items, _END))
                yield item
        finally:
            for future in pending:
                future.cancel()
