"""Flows on an asyncio client; see `flows`. A blocking program loads no asyncio, which takes longer than a search."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar, cast

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import ConnectorError, StoreUnavailableError
from jclip_connectors.port import Filter, FloatArray, Modality, Record, SearchHit, Verification
from jclip_connectors.store_kit.flows import (
    Call,
    Flow,
    Page,
    StoreFlows,
    Translate,
    Undoable,
    advance,
    checked,
    translated,
)
from jclip_connectors.store_kit.patience import Patience, upsert_patiently
from jclip_connectors.store_kit.verification import verify

_Result = TypeVar("_Result")
_SEARCHES_AT_ONCE = 8  # requests of one `search_many`


async def run_async(
    flow: Flow[_Result],
    client: Any,  # noqa: ANN401 (any SDK's)
    *,
    translate: Translate,
    attempts: int,
    patience: Patience | None = None,
    in_threads: bool = False,
) -> _Result:
    """Run a flow on an asyncio client; see `run`.

    Args:
        flow: the operation.
        client: receives the calls of the flow, in the event loop.
        translate: translates the client's errors.
        attempts: how often a call is tried at short intervals while the store is unavailable.
        patience: how long the store is waited for after that, with other calls; `None` is the default of stores.
        in_threads: run the flow's own code in threads, because it takes long.
    """
    step: Callable[[Any], Call] = flow.send
    value: Any = None
    shared = Patience() if patience is None else patience
    while True:
        call, result = await asyncio.to_thread(advance, step, value) if in_threads else advance(step, value)
        if call is None:
            return cast("_Result", result)
        try:
            step, value = flow.send, await _retried_async(call, client, translate, attempts, shared)
        except ConnectorError as error:
            step, value = flow.throw, error


class AsyncStore:
    """An `AsyncVectorStore` over an asyncio client; for the methods see `BlockingStore`.

    Attributes:
        patience: how long the database is waited for; stores that share it wait together.
    """

    def __init__(self, client: Any, flows: StoreFlows, *, patience_s: float | None = None) -> None:  # noqa: ANN401 (any SDK's)
        """Keep a client, which the caller closes; use the subclass's `open` instead."""
        self._client = client
        self._flows = flows
        self.patience = Patience(patience_s)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that the collection was made with."""
        return self._flows.fingerprint

    async def upsert(self, records: Sequence[Record]) -> None:
        """Write records; they are checked and converted in threads. See `BlockingStore.upsert`."""
        await self._run(upsert_patiently(self._flows.upsert, records, self.patience), in_threads=True)

    async def search(
        self,
        embedding: FloatArray,
        *,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        tiles: bool = False,
    ) -> list[SearchHit]:
        """Find the nearest records by cosine, or by their nearest tile; ties are in the order of ids."""
        return await self._run(self._flows.search(embedding, limit=limit, where=where, modality=modality, tiles=tiles))

    async def search_many(
        self,
        embeddings: FloatArray,
        *,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        tiles: bool = False,
    ) -> list[list[SearchHit]]:
        """Search for each row of `embeddings` (B, E), in several requests at a time: B lists of results, in order."""
        flows = self._flows.search_many(embeddings, limit=limit, where=where, modality=modality, tiles=tiles)
        found: list[list[SearchHit]] = []
        for start in range(0, len(flows), _SEARCHES_AT_ONCE):
            running = [asyncio.create_task(self._run(flow)) for flow in flows[start : start + _SEARCHES_AT_ONCE]]
            try:
                found += [hits for lists in await asyncio.gather(*running) for hits in lists]
            except BaseException:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
                raise
        return found

    async def get(self, ids: Sequence[str], *, vectors: bool = True) -> list[Record]:
        """Fetch records by id, in the order of `ids`; unknown ids are left out."""
        return await self._run(self._flows.get(ids, vectors=vectors))

    async def delete(self, ids: Sequence[str] | None = None, *, where: Filter | None = None) -> None:
        """Delete records by ids or by filter; give exactly one."""
        await self._run(self._flows.delete(ids, where=where))

    async def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the matching records."""
        return await self._run(self._flows.count(where=where, modality=modality))

    def scroll(
        self, *, where: Filter | None = None, modality: Modality | None = None, vectors: bool = True
    ) -> AsyncIterator[Record]:
        """Iterate over the matching records page by page."""
        return self._items(functools.partial(self._flows.page, where=where, modality=modality, vectors=vectors))

    def ids(self, *, where: Filter | None = None, modality: Modality | None = None) -> AsyncIterator[str]:
        """Iterate over the ids of the matching records page by page."""
        return self._items(functools.partial(self._flows.page_of_ids, where=where, modality=modality))

    async def verify(self, *, repair: bool = False) -> Verification:
        """Search for each record by its own vectors; with `repair`, write those again that are not found."""
        return await self._run(verify(self._flows, repair=repair), in_threads=True)

    async def close(self) -> None:
        """Do nothing: the caller closes the client."""

    def _items(self, page: Callable[[Any], Flow[Page[_Result]]]) -> AsyncIterator[_Result]:
        return self._rest(page, checked(page(None)))

    async def _rest(
        self, page: Callable[[Any], Flow[Page[_Result]]], first: Flow[Page[_Result]]
    ) -> AsyncIterator[_Result]:
        items, start = await self._run(first)
        for item in items:
            yield item
        while start is not None:
            items, start = await self._run(page(start))
            for item in items:
                yield item

    async def _run(self, flow: Flow[_Result], *, in_threads: bool = False) -> _Result:
        flows = self._flows
        return await run_async(
            flow,
            self._client,
            translate=flows.translate,
            attempts=flows.attempts,
            patience=self.patience,
            in_threads=in_threads,
        )


async def _retried_async(call: Call, client: Any, translate: Translate, attempts: int, patience: Patience) -> Any:  # noqa: ANN401 (an SDK result)
    tries = 0
    while True:
        while (delay_s := patience.delay_s()) > 0:
            await asyncio.sleep(delay_s)
        sent_s = patience.now_s()
        tries += 1
        try:
            result = await _attempt_async(call, client, translate)
        except StoreUnavailableError as error:
            wait_s = patience.failed(error, tries=tries, attempts=attempts)
            if wait_s is None:
                raise
        else:
            patience.succeeded(sent_s)
            return result
        await asyncio.sleep(wait_s)


async def _attempt_async(call: Call, client: Any, translate: Translate) -> Any:  # noqa: ANN401 (an SDK result)
    try:
        if isinstance(call, Undoable) and call.begun:
            await call.undo(client)
        return await call(client)
    except Exception as error:  # noqa: BLE001 (`translated` raises what is not the SDK's)
        ours, cause = translated(error, translate)
        if cause is not None:
            raise ours from cause
    raise ours
