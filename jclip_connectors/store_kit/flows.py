"""Flows: each operation of a store is written once, and runs on a blocking client or on an asyncio client.

A *flow* is a generator: it yields calls to a client, and receives their results. `BlockingStore`, and `AsyncStore` in
`async_flows`, make the calls, retry them if a retry may help, and translate the client's errors into errors of this
package.

    class _Flows:                                          # uses one SDK, and never awaits
        def count(self, ...) -> Flow[int]:
            answer = yield lambda client: client.count(...)  # works with both clients
            return answer.count
"""

import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from jclip_connectors.config import Fingerprint
from jclip_connectors.errors import ConnectorError, StoreUnavailableError
from jclip_connectors.port import Filter, FloatArray, Modality, Record, SearchHit, Verification
from jclip_connectors.store_kit.patience import Patience, upsert_patiently
from jclip_connectors.store_kit.secrets import may_hold_secrets, without_secrets
from jclip_connectors.store_kit.verification import verify

_Result = TypeVar("_Result")
Call: TypeAlias = Callable[[Any], Any]
Flow: TypeAlias = Generator[Call, Any, _Result]
Page: TypeAlias = tuple[list[_Result], Any]  # items, and the start of the next page; `None` after the last page
Translate: TypeAlias = Callable[[Exception], ConnectorError | None]  # `None` for an error that is not the client's


class Undoable:
    """A call that is undone before it is made again: a plain retry of it would change nothing."""

    def __init__(self, call: Call, *, undo: Call) -> None:
        """Keep the call, and the call that undoes it."""
        self.undo = undo
        self.begun = False
        self._call = call

    def __call__(self, client: Any) -> Any:  # noqa: ANN401 (any SDK's)
        """Make the call."""
        self.begun = True
        return self._call(client)


class StoreFlows(Protocol):
    """The operations of one store as flows. Each flow checks all arguments before its first call."""

    attempts: int  # quick tries of each call; 1 if the SDK itself retries

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the configuration that the collection was made with."""

    def translate(self, error: Exception) -> ConnectorError | None:
        """Translate an error of the SDK; `None` for any other error."""

    def upsert(self, records: Sequence[Record]) -> Flow[None]:
        """See `VectorStore.upsert`."""

    def search(
        self, embedding: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> Flow[list[SearchHit]]:
        """See `VectorStore.search`."""

    def search_many(
        self, embeddings: FloatArray, *, limit: int, where: Filter | None, modality: Modality | None, tiles: bool
    ) -> list[Flow[list[list[SearchHit]]]]:
        """See `VectorStore.search_many`: the flows that each search for some rows, in order; one for each request.

        The arguments are checked before it returns. An asyncio store runs several of the flows at a time.
        """

    def get(self, ids: Sequence[str], *, vectors: bool) -> Flow[list[Record]]:
        """See `VectorStore.get`."""

    def delete(self, ids: Sequence[str] | None, *, where: Filter | None) -> Flow[None]:
        """See `VectorStore.delete`."""

    def count(self, *, where: Filter | None, modality: Modality | None) -> Flow[int]:
        """See `VectorStore.count`."""

    def page(
        self,
        start: Any,  # noqa: ANN401 (the type depends on the SDK)
        *,
        where: Filter | None,
        modality: Modality | None,
        vectors: bool,
    ) -> Flow[Page[Record]]:
        """One page of the matching records; `start` is `None` for the first page."""

    def page_of_ids(self, start: Any, *, where: Filter | None, modality: Modality | None) -> Flow[Page[str]]:  # noqa: ANN401 (the type depends on the SDK)
        """One page of the ids of the matching records; `start` is `None` for the first page."""

    def unfound(self, records: Sequence[Record]) -> Flow[list[Record]]:
        """The stored records that a search by their own vectors does not find."""


def run(
    flow: Flow[_Result],
    client: Any,  # noqa: ANN401 (any SDK's)
    *,
    translate: Translate,
    attempts: int,
    patience: Patience | None = None,
) -> _Result:
    """Run a flow on a blocking client.

    Args:
        flow: the operation.
        client: receives the calls of the flow.
        translate: translates the client's errors.
        attempts: how often a call is tried at short intervals while the store is unavailable.
        patience: how long the store is waited for after that, with other calls; `None` is the default of stores.

    Raises:
        ConnectorError: a call failed, and the flow did not handle the error.
    """
    step: Callable[[Any], Call] = flow.send
    value: Any = None
    shared = Patience() if patience is None else patience
    while True:
        call, result = advance(step, value)
        if call is None:
            return cast("_Result", result)
        try:
            step, value = flow.send, _retried(call, client, translate, attempts, shared)
        except ConnectorError as error:
            step, value = flow.throw, error


class BlockingStore:
    """A `VectorStore` over a blocking client.

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

    def upsert(self, records: Sequence[Record]) -> None:
        """Write records; a record replaces the stored record with the same id. The last of several with one id is kept.

        Raises:
            PartialFailureError: the store refused some; `failed` and `kept` are by position in `records`.
        """
        self._run(upsert_patiently(self._flows.upsert, records, self.patience))

    def search(
        self,
        embedding: FloatArray,
        *,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        tiles: bool = False,
    ) -> list[SearchHit]:
        """Find the nearest records by cosine, or by their nearest tile; ties are in the order of ids."""
        return self._run(self._flows.search(embedding, limit=limit, where=where, modality=modality, tiles=tiles))

    def search_many(
        self,
        embeddings: FloatArray,
        *,
        limit: int = 10,
        where: Filter | None = None,
        modality: Modality | None = None,
        tiles: bool = False,
    ) -> list[list[SearchHit]]:
        """Search for each row of `embeddings` (B, E): B lists of results, in order."""
        flows = self._flows.search_many(embeddings, limit=limit, where=where, modality=modality, tiles=tiles)
        return [hits for flow in flows for hits in self._run(flow)]

    def get(self, ids: Sequence[str], *, vectors: bool = True) -> list[Record]:
        """Fetch records by id, in the order of `ids`; unknown ids are left out."""
        return self._run(self._flows.get(ids, vectors=vectors))

    def delete(self, ids: Sequence[str] | None = None, *, where: Filter | None = None) -> None:
        """Delete records by ids or by filter; give exactly one. Unknown ids are ignored."""
        self._run(self._flows.delete(ids, where=where))

    def count(self, *, where: Filter | None = None, modality: Modality | None = None) -> int:
        """Count the matching records."""
        return self._run(self._flows.count(where=where, modality=modality))

    def scroll(
        self, *, where: Filter | None = None, modality: Modality | None = None, vectors: bool = True
    ) -> Iterator[Record]:
        """Iterate over the matching records page by page; the first page is fetched at once."""
        return self._items(functools.partial(self._flows.page, where=where, modality=modality, vectors=vectors))

    def ids(self, *, where: Filter | None = None, modality: Modality | None = None) -> Iterator[str]:
        """Iterate over the ids of the matching records page by page; the first page is fetched at once."""
        return self._items(functools.partial(self._flows.page_of_ids, where=where, modality=modality))

    def verify(self, *, repair: bool = False) -> Verification:
        """Search for each record by its own vectors; with `repair`, write those again that are not found."""
        return self._run(verify(self._flows, repair=repair))

    def close(self) -> None:
        """Do nothing: the caller closes the client."""

    def _run(self, flow: Flow[_Result]) -> _Result:
        flows = self._flows
        return run(flow, self._client, translate=flows.translate, attempts=flows.attempts, patience=self.patience)

    def _items(self, page: Callable[[Any], Flow[Page[_Result]]]) -> Iterator[_Result]:
        return self._rest(page, self._run(page(None)))

    def _rest(self, page: Callable[[Any], Flow[Page[_Result]]], first: Page[_Result]) -> Iterator[_Result]:
        items, start = first
        yield from items
        while start is not None:
            items, start = self._run(page(start))
            yield from items


def one_search(search: Flow[list[SearchHit]]) -> Flow[list[list[SearchHit]]]:
    """A flow of `StoreFlows.search_many` that searches for one vector."""
    return [(yield from search)]


def checked(flow: Flow[_Result]) -> Flow[_Result]:
    """Run a flow up to its first call, so that bad arguments are an error now; the result goes on from there."""
    return _go_on(flow, *advance(flow.send, None))


def _go_on(flow: Flow[_Result], call: Call | None, result: Any) -> Flow[_Result]:  # noqa: ANN401 (the flow's result)
    while call is not None:
        step: Callable[[Any], Call] = flow.send
        value: Any = None
        try:
            value = yield call
        except ConnectorError as error:
            step, value = flow.throw, error
        call, result = advance(step, value)
    return cast("_Result", result)


def advance(step: Callable[[Any], Call], value: Any) -> tuple[Call | None, Any]:  # noqa: ANN401 (an SDK result)
    """The next call of a flow and `None`, or `None` and the flow's result."""
    try:
        return step(value), None
    except StopIteration as done:
        return None, done.value


def _retried(call: Call, client: Any, translate: Translate, attempts: int, patience: Patience) -> Any:  # noqa: ANN401 (an SDK result)
    tries = 0
    while True:
        while (delay_s := patience.delay_s()) > 0:
            patience.wait(delay_s)
        sent_s = patience.now_s()
        tries += 1
        try:
            result = _attempt(call, client, translate)
        except StoreUnavailableError as error:
            wait_s = patience.failed(error, tries=tries, attempts=attempts)
            if wait_s is None:
                raise
        else:
            patience.succeeded(sent_s)
            return result
        patience.wait(wait_s)


def _attempt(call: Call, client: Any, translate: Translate) -> Any:  # noqa: ANN401 (an SDK result)
    try:
        if isinstance(call, Undoable) and call.begun:
            call.undo(client)
        return call(client)
    except Exception as error:  # noqa: BLE001 (`translated` raises what is not the SDK's)
        ours, cause = translated(error, translate)
        if cause is not None:
            raise ours from cause
    raise ours  # outside of the `except`, so that a traceback does not show the SDK's error as the context


def translated(error: Exception, translate: Translate) -> tuple[ConnectorError, Exception | None]:
    """Our error and its cause, or `None` for a cause that may quote a header or a password; raises any other error."""
    ours = translate(error)
    if ours is None:
        raise error
    return without_secrets(ours), None if may_hold_secrets(error) else error
