"""Micro-batching across requests: one worker gives the queued items to the model, and waits only if there are none.

The worker is a thread that takes its next batch itself. If the event loop handed out the batches, the model would be
idle after each one until the loop had finished its current work.
"""

import asyncio
import contextlib
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import JinaClipError
from jclip_connectors.server.observation import log_failure
from jclip_connectors.server.preparation import Encoder, Prepared, PreparedImage, PreparedText
from jclip_connectors.server.requests import RequestError

Outcome: TypeAlias = NDArray[np.float32] | RequestError
"""The raw (E,) features of an item, not normalised, or its error."""

Kind: TypeAlias = type[PreparedText] | type[PreparedImage]

_SHORTEST_RETRY_S, _LONGEST_RETRY_S = 1, 60
_FORGETTING = 0.2  # weight of the newest batch in the measured speed


@dataclass(eq=False)
class _Call:
    """Items that were given to the engine together.

    Attributes:
        outcomes: one per item, `None` while the item waits.
        left: number of items without an outcome.
        done: set when every item has its outcome.
    """

    outcomes: list[Outcome | None]
    left: int
    done: asyncio.Future[None]


@dataclass(frozen=True, eq=False)
class _Place:
    """An item in a queue: its call, and its number in that call."""

    call: _Call
    number: int
    item: Prepared


@dataclass(eq=False)
class _Lane:
    """The queue of one tower.

    Attributes:
        turns: requests that have items here, each once; a batch takes one item from each request in turn, so that a
            small request does not wait for the whole of a large one.
        waiting_tokens: cost of the queued items, and of admitted items that are still being prepared.
        tokens_per_s: measured on batches that were at least half full; `None` before the first.
    """

    turns: OrderedDict["Ticket", None] = field(default_factory=OrderedDict)
    waiting_tokens: int = 0
    tokens_per_s: float | None = None


class Ticket:
    """An admitted request; `Engine.admit` makes one."""

    def __init__(self, engine: "Engine", costs: Mapping[Kind, int]) -> None:
        """Hold `costs` tokens in the lanes; `Engine.admit` counts them."""
        self._engine = engine
        self.reserved = dict(costs)
        self.places: dict[Kind, deque[_Place]] = {kind: deque() for kind in costs}

    async def compute(self, items: Sequence[Prepared]) -> list[Outcome]:
        """Compute items of the request, in their order; several calls may wait at the same time."""
        if not items:
            return []
        call = _Call([None] * len(items), len(items), asyncio.get_running_loop().create_future())
        self._engine.queue(self, [_Place(call, number, item) for number, item in enumerate(items)])
        await call.done
        return [outcome for outcome in call.outcomes if outcome is not None]


class Engine:
    """Queues in front of one encoder; filled and read in one event loop, emptied by one thread."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        batch_tokens: int,
        max_waiting_requests: int,
        max_waiting_tokens: int,
        max_wait_s: int,
        observe: Callable[[str, int, float], None] = lambda *_: None,
    ) -> None:
        """Queue for `encoder`; `start` begins the work.

        Args:
            encoder: computes the vectors, one call at a time.
            batch_tokens: highest cost of a batch; a single item may cost more.
            max_waiting_requests: that wait or are being computed; at this limit, new requests are refused.
            max_waiting_tokens: likewise, for the cost of the waiting items.
            max_wait_s: likewise, for the time that the waiting items will take.
            observe: called after every batch with "text" or "image", the number of items, and the seconds.
        """
        self._encoder = encoder
        self._batch_tokens = batch_tokens
        self._max_waiting_requests = max_waiting_requests
        self._max_waiting_tokens = max_waiting_tokens
        self._max_wait_s = max_wait_s
        self._observe = observe
        self._lanes: dict[Kind, _Lane] = {PreparedText: _Lane(), PreparedImage: _Lane()}
        self._changed = threading.Condition()  # hold it to read or change the lanes
        self._num_requests = 0  # admitted, and not answered yet
        self._closing = False
        self._dead = False  # whether the worker has ended although the engine is not closing
        self._batch: list[_Place] = []  # that the worker computes
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jclip-model")
        self._worker: asyncio.Future[None] | None = None

    @property
    def waiting_tokens(self) -> int:
        """Cost of the items that wait for the model."""
        return sum(lane.waiting_tokens for lane in self._lanes.values())

    @property
    def is_alive(self) -> bool:
        """Whether the worker runs; once it has ended, every request gets an error."""
        return not self._dead

    def start(self) -> None:
        """Start the worker; needs a running event loop."""
        loop = asyncio.get_running_loop()
        self._worker = loop.run_in_executor(self._thread, self._work, loop)

    async def close(self) -> None:
        """Finish the accepted requests; the server must have stopped accepting requests before."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()

    def has_room(self, unanswered: int = 0) -> bool:
        """Say whether another request would be admitted.

        Args:
            unanswered: requests that the server has received and not answered, admitted or not.
        """
        return (
            self.is_alive
            and max(unanswered, self._num_requests) < self._max_waiting_requests
            and self.waiting_tokens < self._max_waiting_tokens
            and self._wait_s() <= self._max_wait_s
        )

    def refusal(self) -> RequestError:
        """The error for a request when there is no room: 429, with `Retry-After`; 503 if the worker has ended."""
        if not self.is_alive:
            return RequestError(
                "the model's thread has ended: start the server again; its log says why",
                status=503,
                code="SERVICE_UNAVAILABLE",
            )
        return RequestError(
            f"too much work waits ({self._num_requests} requests, {self.waiting_tokens} tokens): try again later",
            status=429,
            code="RATE_CONCURRENCY_LIMIT_EXCEEDED",
            retry_after_s=min(_LONGEST_RETRY_S, max(_SHORTEST_RETRY_S, math.ceil(self._wait_s()))),
        )

    def check_room(self) -> None:
        """Refuse a request that would have to wait too long.

        Raises:
            RequestError: 429, with `Retry-After`; 503 if the worker has ended.
        """
        if not self.has_room():
            raise self.refusal()

    @contextlib.contextmanager
    def admit(self, costs: Mapping[Kind, int]) -> Iterator[Ticket]:
        """Admit a request; at the end of the block, its waiting items and their cost leave the queue.

        Args:
            costs: in tokens, the sum over the request's items of each kind.

        Raises:
            RequestError: as for `check_room`.
        """
        self.check_room()
        ticket = Ticket(self, costs)
        self._num_requests += 1
        with self._changed:
            for kind, cost in costs.items():
                self._lanes[kind].waiting_tokens += cost
        try:
            yield ticket
        finally:
            self._num_requests -= 1
            with self._changed:
                for kind, cost in ticket.reserved.items():
                    self._lanes[kind].waiting_tokens -= cost
                    ticket.places[kind].clear()

    def queue(self, ticket: Ticket, places: Sequence[_Place]) -> None:
        """Queue items of a ticket, each in the lane of its kind."""
        with self._changed:
            if self.is_alive:
                for place in places:
                    ticket.places[type(place.item)].append(place)
                    self._lanes[type(place.item)].turns.setdefault(ticket)
                self._changed.notify()
                return
        _deliver(places, [_failure()] * len(places))

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Compute the queued items, in the model's thread, until the engine closes; nothing it raises is lost."""
        try:
            self._compute(loop)
        except BaseException as error:  # noqa: BLE001 (whoever waits must be answered, whatever has happened)
            self._give_up(loop)
            log_failure("the model's thread", error)

    def _give_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer all who wait with an error, because the worker ends."""
        with self._changed:
            self._dead = True
            left = self._batch
            for lane in self._lanes.values():
                for ticket in lane.turns:
                    for places in ticket.places.values():
                        left += places
                        places.clear()
                lane.turns.clear()
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
            loop.call_soon_threadsafe(_deliver, left, [_failure()] * len(left))

    def _compute(self, loop: asyncio.AbstractEventLoop) -> None:
        kind: Kind = PreparedImage
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or any(map(self._has, self._lanes)))
                # Alternate texts and images, so that neither waits for two batches of the other.
                waiting = [each for each in self._lanes if self._has(each)]
                if not waiting:
                    return
                kind = next((each for each in waiting if each is not kind), kind)
                tokens = self._take(kind)
            started = time.perf_counter()
            outcomes = self._outcomes([place.item for place in self._batch])
            self._measure(kind, len(self._batch), tokens, time.perf_counter() - started)
            loop.call_soon_threadsafe(_deliver, self._batch, outcomes)
            self._batch = []

    def _has(self, kind: Kind) -> bool:
        turns = self._lanes[kind].turns
        while turns and not next(iter(turns)).places[kind]:  # all taken, or the client has disconnected
            turns.popitem(last=False)
        return bool(turns)

    def _take(self, kind: Kind) -> int:
        """Take the next batch, one item of each request in turn; returns its cost."""
        lane, batch, tokens = self._lanes[kind], self._batch, 0
        while self._has(kind):
            ticket = next(iter(lane.turns))
            cost = ticket.places[kind][0].item.cost
            if batch and tokens + cost > self._batch_tokens:
                break
            batch.append(ticket.places[kind].popleft())
            ticket.reserved[kind] -= cost
            tokens += cost
            lane.turns.move_to_end(ticket)
        lane.waiting_tokens -= tokens
        return tokens

    def _measure(self, kind: Kind, count: int, tokens: int, seconds: float) -> None:
        self._observe("image" if kind is PreparedImage else "text", count, seconds)
        if 2 * tokens >= self._batch_tokens:  # a small batch does not show the speed of a full one
            lane, speed = self._lanes[kind], tokens / max(seconds, 1e-6)
            old = lane.tokens_per_s
            lane.tokens_per_s = speed if old is None else old + _FORGETTING * (speed - old)

    def _wait_s(self) -> float:
        """Estimated seconds to compute all waiting items; a lane without a measured speed counts as 0."""
        return sum(lane.waiting_tokens / lane.tokens_per_s for lane in self._lanes.values() if lane.tokens_per_s)

    def _outcomes(self, items: Sequence[Prepared]) -> list[Outcome]:
        try:
            return self._isolate(items)
        except BaseException:  # noqa: BLE001 (even the memory to log a failure may be missing)
            return [_failure()] * len(items)

    def _isolate(self, items: Sequence[Prepared]) -> list[Outcome]:
        """Compute items together, in the model's thread; if the model refuses them, each item alone."""
        try:
            return self._call(items)
        except BaseException as error:  # noqa: BLE001 (whatever the model raises fails its batch, not the worker)
            if isinstance(error, JinaClipError) and len(items) > 1:
                return [outcome for item in items for outcome in self._isolate([item])]
            log_failure(f"a batch of {len(items)} items", error)
            return [_failure()] * len(items)

    def _call(self, items: Sequence[Prepared]) -> list[Outcome]:
        if isinstance(items[0], PreparedImage):
            squares = [item.square for item in items if isinstance(item, PreparedImage)]
            rows = self._encoder.encode_image(squares, normalize=False)
        else:
            texts = [item.tokens for item in items if isinstance(item, PreparedText)]
            rows = self._encoder.encode_tokens(texts, normalize=False)
        if len(rows) != len(items):  # without an outcome for each, a request would wait for ever
            raise RuntimeError("the model gave another number of vectors")
        return list(rows)


def _failure() -> RequestError:
    return RequestError("the model failed; see the server's log", status=500, code="INTERNAL_ERROR")


def _deliver(batch: Sequence[_Place], outcomes: Sequence[Outcome]) -> None:
    """Give a batch's outcomes to the calls that wait for them, in the event loop."""
    for place, outcome in zip(batch, outcomes, strict=True):
        call = place.call
        call.outcomes[place.number] = outcome
        call.left -= 1
        if call.left == 0 and not call.done.done():  # it is done already if the client has disconnected
            call.done.set_result(None)
