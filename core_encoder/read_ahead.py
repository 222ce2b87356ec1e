"""Read items in threads while the model computes, in order and only a limited weight of them ahead."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(
    positions: Iterable[int], read: Callable[[int], T], *, weigh: Callable[[T], int], most: int
) -> Generator[T, None, None]:
    """Yield the result of `read` for each position, computed by threads before they are needed.

    An error from `read` is raised here when its item is due. Close the generator: it waits for its threads, which the
    garbage collector must not do, as it may come while Python starts another thread, and would wait without end.

    Args:
        positions: of the items; the caller's thread asks for each when its reading begins.
        read: reads one item.
        weigh: the weight of an item, at least 1.
        most: the largest weight of all items that wait; one item may be heavier. An item that is still being read
            counts as much as the heaviest item so far.
    """
    workers = min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="jclip-read") as pool:
        pending: deque[Future[T]] = deque()
        heaviest = max(1, most // workers)  # before the first item is known
        known = False
        try:
            for index in positions:
                pending.append(pool.submit(read, index))
                while _weight(pending, weigh, heaviest) > most:
                    item = pending.popleft().result()
                    heaviest = max(heaviest, weigh(item)) if known else weigh(item)
                    known = True
                    yield item
                    del item  # while it is computed, only the caller holds it
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _weight(pending: deque[Future[T]], weigh: Callable[[T], int], heaviest: int) -> int:
    done = [future for future in pending if future.done() and future.exception() is None]
    return sum(weigh(future.result()) for future in done) + heaviest * (len(pending) - len(done))
