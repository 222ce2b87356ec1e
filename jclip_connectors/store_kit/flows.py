"""Stores over a network: each operation is written once, and runs on a blocking client or on an asyncio one.

A store's operation is a *flow*: a generator that yields calls to its client and is sent what they answer, so it never
waits by itself. `BlockingStore` and `AsyncStore` do the waiting: they make the call, try again where that may help,
turn the client's errors into ours, and are the port's two kinds of store.

    class _Flows:                                          # knows one SDK, and never awaits
        def count(self, ...) -> Flow[int]:
            answer = yield lambda client: client.count(...)  # of either client
            return answer.count
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import tenacity

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import ConnectorError
from jclip_connectors.port import Filter, FloatArray, Modality, Record, SearchHit
from jclip_connectors.store_kit.retry import retry_options

_Result = TypeVar("_Result")
Call: TypeAlias = Callable[[Any], Any]
Flow: TypeAlias = Generator[Call, Any, _Result]
Page: TypeAlias = tuple[list[Record], Any]  # and where the next page starts; `None` after the last one
Translate: TypeAlias = Callable[[Exception], ConnectorError | None]  # `None` for what is not the client's error

# What follows the name of a credential and has a digit, as no word of ours there has; and what precedes a host.
_SECRET = re.compile(
    r"((?:key|authorization|bearer|password|token)\W{1,4}(?:bearer\s)?)(?=[\w.+/=-]*\d)[\w.+/=-]{8,}"
    r"|(//)[^/\s@]+(?=@)",
    re.IGNORECASE,
)


class StoreFlows(Protocol):
    """The operations of one store. Each checks all of its arguments before its first call."""

    attempts: int  # of each call; 1 where the SDK itself tries again

    @property
    def fingerprint(self) -> Fingerprint:
        """That of the configuration that the collection was made with."""

    def translate(self, error: Exception) -> ConnectorError | None:
        """Our error for one of the SDK's; `None` for an error that is not the SDK's."""

    def upsert(self, records: Sequence[Record]) -> Flow[None]:
        """As in the port; so are the others."""

    def search(
        self, embedding: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> Flow[list[SearchHit]]:
        """Nearest first; ties in the order of ids."""

    def get(self, ids: Sequence[str]) -> Flow[list[Record]]:
        """In the order of `ids`."""

    def delete(self, ids: Sequence[str] | None, *, where: Filter | None) -> Flow[None]:
        """By ids or by filter."""

    def count(self, *, where: Filter | None, modality: Modality | None) -> Flow[int]:
        """How many match, exactly."""

    def page(self, start: Any, *, where: Filter | None, modality: Modality | None) -> Flow[Page]:  # noqa: ANN401 (each SDK has its own kind of place)
        """Some of the records that match; `start` is `None` for the first page."""


def run(flow: Flow[_Result], client: Any, *, translate: Translate, attempts: int) -> _Result:  # noqa: ANN401 (any SDK's)
    """Run a flow on a blocking client.

    Args:
        flow: what to do.
        client: what its calls are made on.
        translate: gives our error for the client's.
        attempts: how often a call is made while the store is unavailable, at most.

    Raises:
        ConnectorError: the store cannot be reached or refuses, and the flow has no answer to that.
    """
    step: Callable[[Any], Call] = flow.send
    value: Any = None
    while True:
        call, result = _advance(step, value)
        if call is None:
            return cast("_Result", result)
        try:
            retrying = tenacity.Retrying(sleep=time.sleep, **retry_options(attempts))
            step, value = flow.send, retrying(_attempt, call, client, translate)
        except ConnectorError as error:
            step, value = flow.throw, error


async def run_async(
    flow: Flow[_Result],
    client: Any,  # noqa: ANN401 (any SDK's)
    *,
    translate: Translate,
    attempts: int,
    in_threads: bool = False,
) -> _Result:
    """Run a flow on an asyncio client; see `run`.

    Args:
        flow: what to do.
        client: what its calls are made on, in the event loop.
        translate: gives our error for the client's.
        attempts: how often a call is made while the store is unavailable, at most.
        in_threads: whether what the flow does between its calls takes long, and is done in threads.
    """
    step: Callable[[Any], Call] = flow.send
    value: Any = None
    while True:
        call, result = await asyncio.to_thread(_advance, step, value) if in_threads else _advance(step, value)
        if call is None:
            return cast("_Result", result)
        try:
            retrying = tenacity.AsyncRetrying(sleep=asyncio.sleep, **retry_options(attempts))
            step, value = flow.send, await retrying(_attempt_async, call, client, translate)
        except ConnectorError as error:
            step, value = flow.throw, error


class BlockingStore:
    """A `VectorStore` over a blocking client."""

    def __init__(self, client: Any, flows: StoreFlows) -> None:  # noqa: ANN401 (any SDK's)
        """Take a client, which stays the caller's to close; call the subclass's `open` instead."""
        self._client = client
        self._flows = flows

    @property
    def fingerprint(self) -> Fingerprint:
        """That of the configuration that the collection was made with."""
        return self._flows.fingerprint

    def upsert(self, records: Sequence[Record]) -> None:
        """Write records, each in place of the one with its id; of two with one id the last is kept.

        Raises:
            PartialFailureError: the store refused some; the positions in `failed` and `kept` are those in `records`.
        """
        self._run(self._flows.upsert(records))

    def search(
        self,
        embedding: FloatArray,
        *,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        tiles: bool = False,
    ) -> list[SearchHit]:
        """Find the nearest records by cosine, or by their nearest tile; ties in the order of ids."""
        return self._run(self._flows.search(embedding, limit=limit, where=where, modality=modality, tiles=tiles))

    def get(self, ids: Sequence[str]) -> list[Record]:
        """Fetch the records that exist, in the order of `ids`."""
        return self._run(self._flows.get(ids))

    def delete(self, ids: Sequence[str] | None = None, *, where: Filter | None = None) -> None:
        """Delete by ids or by filter, one of the two; an id that is not there is no error."""
        self._run(self._flows.delete(ids, where=where))

    def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the records that match."""
        return self._run(self._flows.count(where=where, modality=modality))

    def scroll(self, *, where: Filter | None = None, modality: Modality | None = None) -> Iterator[Record]:
        """Go through the records that match, a page at a time; the first page is fetched at once."""
        first = self._run(self._flows.page(None, where=where, modality=modality))
        return self._rest(first, where=where, modality=modality)

    def close(self) -> None:
        """Do nothing: the client is the caller's to close."""

    def _run(self, flow: Flow[_Result]) -> _Result:
        return run(flow, self._client, translate=self._flows.translate, attempts=self._flows.attempts)

    def _rest(self, page: Page, *, where: Filter | None, modality: Modality | None) -> Iterator[Record]:
        while True:
            records, start = page
            yield from records
            if start is None:
                return
            page = self._run(self._flows.page(start, where=where, modality=modality))


class AsyncStore:
    """An `AsyncVectorStore` over an asyncio client; what each method does is said at `BlockingStore`."""

    def __init__(self, client: Any, flows: StoreFlows) -> None:  # noqa: ANN401 (any SDK's)
        """Take a client, which stays the caller's to close; call the subclass's `open` instead."""
        self._client = client
        self._flows = flows

    @property
    def fingerprint(self) -> Fingerprint:
        """That of the configuration that the collection was made with."""
        return self._flows.fingerprint

    async def upsert(self, records: Sequence[Record]) -> None:
        """Write records, each in place of the one with its id; they are checked and converted in threads."""
        flow, flows = self._flows.upsert(records), self._flows
        await run_async(flow, self._client, translate=flows.translate, attempts=flows.attempts, in_threads=True)

    async def search(
        self,
        embedding: FloatArray,
        *,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        tiles: bool = False,
    ) -> list[SearchHit]:
        """Find the nearest records by cosine, or by their nearest tile; ties in the order of ids."""
        return await self._run(self._flows.search(embedding, limit=limit, where=where, modality=modality, tiles=tiles))

    async def get(self, ids: Sequence[str]) -> list[Record]:
        """Fetch the records that exist, in the order of `ids`."""
        return await self._run(self._flows.get(ids))

    async def delete(self, ids: Sequence[str] | None = None, *, where: Filter | None = None) -> None:
        """Delete by ids or by filter, one of the two."""
        await self._run(self._flows.delete(ids, where=where))

    async def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the records that match."""
        return await self._run(self._flows.count(where=where, modality=modality))

    async def scroll(self, *, where: Filter | None = None, modality: Modality | None = None) -> AsyncIterator[Record]:
        """Go through the records that match, a page at a time."""
        start: Any = None
        while True:
            records, start = await self._run(self._flows.page(start, where=where, modality=modality))
            for record in records:
                yield record
            if start is None:
                return

    async def close(self) -> None:
        """Do nothing: the client is the caller's to close."""

    async def _run(self, flow: Flow[_Result]) -> _Result:
        return await run_async(flow, self._client, translate=self._flows.translate, attempts=self._flows.attempts)


def _advance(step: Callable[[Any], Call], value: Any) -> tuple[Call | None, Any]:  # noqa: ANN401 (what an SDK answers)
    """The next call of a flow and `None`; or `None` and the result of the flow."""
    try:
        return step(value), None
    except StopIteration as done:
        return None, done.value


def _attempt(call: Call, client: Any, translate: Translate) -> Any:  # noqa: ANN401 (what the SDK answers)
    try:
        return call(client)
    except Exception as error:
        ours = translate(error)
        if ours is None:
            raise
        raise _without_secrets(ours) from error


async def _attempt_async(call: Call, client: Any, translate: Translate) -> Any:  # noqa: ANN401 (what the SDK answers)
    try:
        return await call(client)
    except Exception as error:
        ours = translate(error)
        if ours is None:
            raise
        raise _without_secrets(ours) from error


def _without_secrets(error: ConnectorError) -> ConnectorError:
    """The error, without a key or a password that a server or the SDK has quoted in what it tells."""
    error.args = (_SECRET.sub(r"\1\2***", str(error)),)
    return error
