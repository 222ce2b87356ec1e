"""Read items in threads while the model computes, in order and only a limited number ahead."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(
    positions: Iterable[int], read: Callable[[int], T], *, ahead: int, size_bytes: Callable[[T], int], most_bytes: int
) -> Iterator[T]:
    """Yield the result of `read` for each position, computed by threads before they are needed.

    An error from `read` is raised here when its item is due.

    Args:
        positions: of the items; the caller's thread asks for each when its reading begins.
        read: reads one item.
        ahead: the largest number of items that are read before they are needed.
        size_bytes: the size of an item in memory.
        most_bytes: about the largest size of all items that wait; one item may be larger. An item that is still being
            read counts as much as the largest item so far.
    """
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="jclip-read") as pool:
        pending: deque[Future[T]] = deque()
        largest = most_bytes // workers  # before the first item is known
        known = False
        try:
            for index in positions:
                pending.append(pool.submit(read, index))
                while len(pending) > ahead or _waiting_bytes(pending, size_bytes, largest) > most_bytes:
                    item = pending.popleft().result()
                    largest = max(largest, size_bytes(item)) if known else size_bytes(item)
                    known = True
                    yield item
                    del item  # while it is computed, only the caller holds it
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _waiting_bytes(pending: deque[Future[T]], size_bytes: Callable[[T], int], largest: int) -> int:
    done = [future for future in pending if future.done() and future.exception() is None]
    return sum(size_bytes(future.result()) for future in done) + largest * (len(pending) - len(done))
