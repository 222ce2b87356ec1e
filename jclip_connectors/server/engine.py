"""Micro-batching across requests: one worker gives the model what has queued, and never waits while it could work."""

import asyncio
import contextlib
import logging
import math
import time
import traceback
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError, TextTooLongError
from jclip_connectors.server.preparation import Encoder, Prepared, PreparedImage, PreparedText, item_error
from jclip_connectors.server.requests import RequestError

Outcome: TypeAlias = NDArray[np.float32] | RequestError
"""The raw (E,) features of an item, not normalised, or why it has none."""

_LOG = logging.getLogger("jclip_connectors.server")
_SHORTEST_RETRY_S, _LONGEST_RETRY_S = 1, 60
_FORGETTING = 0.2  # weight of the newest batch in the measured speed


@dataclass(eq=False)
class _Ticket:
    """One request's items in the engine.

    Attributes:
        outcomes: of the items, `None` while they wait.
        left: how many items have no outcome.
        done: set when none is left.
    """

    outcomes: list[Outcome | None]
    left: int
    done: asyncio.Future[None]


@dataclass(frozen=True, eq=False)
class _Place:
    """An item in a queue: its request, and its number in it."""

    ticket: _Ticket
    number: int
    item: Prepared


class Engine:
    """Queues in front of one encoder; lives in one event loop, computes in one thread."""

    def __init__(self, encoder: Encoder, *, max_tokens: int, batch_tokens: int, max_waiting_tokens: int) -> None:
        """Queue for `encoder`; `start` begins the work.

        Args:
            encoder: of which one call runs at a time.
            max_tokens: of the longest text.
            batch_tokens: cost of what the model is given at once; one item may cost more.
            max_waiting_tokens: cost of what may wait; while it is reached, requests are refused.
        """
        self._encoder = encoder
        self._max_tokens = max_tokens
        self._batch_tokens = batch_tokens
        self._max_waiting_tokens = max_waiting_tokens
        self._queues: dict[type[Prepared], deque[_Place]] = {PreparedText: deque(), PreparedImage: deque()}
        self._waiting_tokens = 0
        self._tokens_per_s: float | None = None
        self._wake = asyncio.Event()
        self._closing = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jclip-model")
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting_tokens(self) -> int:
        """Cost of the items that wait for the model."""
        return self._waiting_tokens

    def start(self) -> None:
        """Begin the work, in the event loop that runs."""
        self._worker = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Refuse new requests and finish those that were accepted."""
        self._closing = True
        self._wake.set()
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()

    def check_room(self) -> None:
        """Refuse a request that would have to wait too long.

        Raises:
            RequestError: 429 while too much waits, 503 when the server is stopping; both say when to come back.
        """
        if self._closing:
            raise RequestError(
                "the server is stopping: try another one, or again later",
                status=503,
                code="SERVICE_UNAVAILABLE",
                retry_after_s=_LONGEST_RETRY_S,
            )
        if self._waiting_tokens >= self._max_waiting_tokens:
            raise RequestError(
                f"too much work waits ({self._waiting_tokens} tokens): try again later",
                status=429,
                code="RATE_CONCURRENCY_LIMIT_EXCEEDED",
                retry_after_s=self._retry_after_s(),
            )

    async def run(self, items: Sequence[Prepared]) -> list[Outcome]:
        """Compute the items of one request, in their order; cancelling the call frees their places at once.

        Raises:
            RequestError: as for `check_room`; nothing is queued then.
        """
        if not items:
            return []
        self.check_room()
        ticket = _Ticket([None] * len(items), len(items), asyncio.get_running_loop().create_future())
        for number, item in enumerate(items):
            self._queues[type(item)].append(_Place(ticket, number, item))
            self._waiting_tokens += item.cost
        self._wake.set()
        try:
            await ticket.done
        except asyncio.CancelledError:
            self._forget(ticket)
            raise
        return [outcome for outcome in ticket.outcomes if outcome is not None]

    def _forget(self, ticket: _Ticket) -> None:
        for kind, queue in self._queues.items():
            kept = deque(place for place in queue if place.ticket is not ticket)
            self._waiting_tokens -= _cost(queue) - _cost(kept)
            self._queues[kind] = kept

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        last: type[Prepared] = PreparedImage
        while True:
            batch = self._take(after=last)
            if not batch:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            last = type(batch[0].item)
            started = time.perf_counter()
            outcomes = await loop.run_in_executor(self._thread, self._encode, [place.item for place in batch])
            self._measure(_cost(batch), time.perf_counter() - started)
            for place, outcome in zip(batch, outcomes, strict=True):
                _deliver(place, outcome)

    def _take(self, *, after: type[Prepared]) -> list[_Place]:
        """Take the next batch: texts and images by turns, so that neither waits for two batches of the other."""
        kinds = sorted(self._queues, key=lambda kind: kind is after)
        queue = next((self._queues[kind] for kind in kinds if self._queues[kind]), None)
        batch: list[_Place] = []
        tokens = 0
        while queue and (not batch or tokens + queue[0].item.cost <= self._batch_tokens):
            batch.append(queue.popleft())
            tokens += batch[-1].item.cost
        self._waiting_tokens -= tokens
        return batch

    def _measure(self, tokens: int, seconds: float) -> None:
        speed = tokens / max(seconds, 1e-6)
        old = self._tokens_per_s
        self._tokens_per_s = speed if old is None else old + _FORGETTING * (speed - old)

    def _retry_after_s(self) -> int:
        wait = self._waiting_tokens / (self._tokens_per_s or self._waiting_tokens)
        return min(_LONGEST_RETRY_S, max(_SHORTEST_RETRY_S, math.ceil(wait)))

    def _encode(self, batch: Sequence[Prepared]) -> list[Outcome]:
        """Compute a batch of texts or of images, in the model's thread."""
        if isinstance(batch[0], PreparedImage):
            return self._isolate(batch)
        outcomes: dict[int, Outcome] = {}
        # A call takes one task, and cut texts have a call of their own, which warns.
        numbered = sorted(enumerate(batch), key=lambda pair: _group(pair[1]))
        for _, group in groupby(numbered, key=lambda pair: _group(pair[1])):
            numbers, items = zip(*group, strict=True)
            outcomes.update(zip(numbers, self._isolate(items), strict=True))
        return [outcomes[number] for number in range(len(batch))]

    def _isolate(self, items: Sequence[Prepared]) -> list[Outcome]:
        """Compute items together; where one of them is at fault, each alone."""
        try:
            return list(self._call(items))
        except InputError as error:
            if len(items) > 1:
                return [outcome for item in items for outcome in self._isolate([item])]
            refusal = item_error(error, items[0].index)
            if isinstance(error, TextTooLongError):
                refusal.code = "INPUT_TOKEN_LIMIT_EXCEEDED"
            return [refusal]
        except Exception as error:  # noqa: BLE001 (whatever the model raises fails its batch, and not the worker)
            # The message of the error may hold content; the places in the code do not.
            frames = "".join(traceback.format_tb(error.__traceback__))
            _LOG.error("a batch of %d items failed: %s\n%s", len(items), type(error).__name__, frames)
            failure = RequestError("the model failed; the server's log says more", status=500, code="INTERNAL_ERROR")
            return [failure] * len(items)

    def _call(self, items: Sequence[Prepared]) -> NDArray[np.float32]:
        first = items[0]
        if isinstance(first, PreparedImage):
            squares = [item.square for item in items if isinstance(item, PreparedImage)]
            return self._encoder.encode_image(squares, normalize=False)
        with _no_warning_of_cut_texts() if first.truncate else contextlib.nullcontext():
            return self._encoder.encode_text(
                [item.text for item in items if isinstance(item, PreparedText)],
                task=self._encoder.query_task if first.query else None,
                normalize=False,
                max_tokens=self._max_tokens,
                overflow="truncate" if first.truncate else "error",
            )


_group = attrgetter("query", "truncate")


def _cost(places: Sequence[_Place] | deque[_Place]) -> int:
    return sum(place.item.cost for place in places)


def _deliver(place: _Place, outcome: Outcome) -> None:
    ticket = place.ticket
    ticket.outcomes[place.number] = outcome
    ticket.left -= 1
    if ticket.left == 0 and not ticket.done.done():  # done already where the client has gone
        ticket.done.set_result(None)


@contextlib.contextmanager
def _no_warning_of_cut_texts() -> Iterator[None]:
    """The client asked for it, and is told by `usage`; only the model's thread comes here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\d+ of \d+ texts were cut")
        yield
