"""Read items in threads while the model computes, in order and only a limited number ahead."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(count: int, read: Callable[[int], T], *, ahead: int) -> Iterator[T]:
    """Yield read(0), read(1), ..., read(count - 1), computed by threads at most `ahead` items before they are needed.

    An error from `read` is raised here when its item is due.
    """
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1), thread_name_prefix="jclip-read") as pool:
        pending: deque[Future[T]] = deque()
        try:
            for index in range(count):
                pending.append(pool.submit(read, index))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
