"""The operations of LangChain's vector store on a blocking or asyncio store."""

from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor

from jclip_connectors.collection.adding import Adding, AddReport
from jclip_connectors.collection.async_hosts import AsyncHost, is_asyncio
from jclip_connectors.collection.hosts import BlockingHost
from jclip_connectors.errors import EmbedInputError, PartialFailureError, StoreRequestError
from jclip_connectors.langchain.documents import Item, known_options
from jclip_connectors.langchain.embeddings import JinaClipEmbeddings, image_function
from jclip_connectors.langchain.hosts import async_host, blocking_host
from jclip_connectors.langchain.searching import Searcher
from jclip_connectors.port import AsyncVectorStore, Record, VectorStore
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.validation import check_count, check_fingerprint

_Result = TypeVar("_Result")
_BATCH_SIZE = 64
_MAX_CONCURRENCY = 4  # concurrent batches of one call, on an asyncio store


class Operations:
    """Combines a store and embeddings; an asyncio store is awaited in the caller's event loop."""

    def __init__(self, store: VectorStore | AsyncVectorStore, embedding: Embeddings) -> None:
        """Combine a store and embeddings; for errors see `JinaClipVectorStore`."""
        if not isinstance(embedding, Embeddings):
            raise EmbedInputError(f"`embedding` is {type(embedding).__name__}, not one of LangChain's `Embeddings`")
        if isinstance(embedding, JinaClipEmbeddings):
            check_fingerprint(store.fingerprint, embedding.config.fingerprint(), collection="the store")
        self._embedding = embedding
        tiled = store.fingerprint.get("tiling") is not None
        self.searcher = Searcher(embedding, tiled=tiled)
        self._host: BlockingHost | AsyncHost
        if is_asyncio(store):
            self._host = async_host(store, embedding, tiled=tiled)
        else:
            self._host = blocking_host(cast("VectorStore", store), embedding, tiled=tiled)

    def run(self, flow: Flow[_Result]) -> _Result:
        """Run a flow.

        Raises:
            StoreRequestError: the store is asyncio.
        """
        return self._blocking().run(flow)

    async def arun(self, flow: Flow[_Result]) -> _Result:
        """Run a flow; in a thread if the store is blocking."""
        if isinstance(self._host, AsyncHost):
            return await self._host.run(flow)
        return await run_in_executor(None, self._host.run, flow)

    def add(self, items: list[Item], *, batch_size: int = _BATCH_SIZE) -> list[str]:
        """Embed and write items.

        Returns:
            The id of each item.

        Raises:
            EmbedInputError: there are images, but the embeddings support only texts.
            PartialFailureError: some items could not be added; `kept` has the ids of the added items.
            StoreRequestError: the store is asyncio.
        """
        host, adding = self._blocking(), self._adding(items, batch_size)
        try:
            host.add(adding, batch_size=batch_size, what="documents")
        finally:
            self.searcher.samples.note_written(len(items))
        return _ids(adding)

    async def aadd(self, items: list[Item], *, batch_size: int = _BATCH_SIZE) -> list[str]:
        """See `add`; in a thread if the store is blocking, else with concurrent batches."""
        if not isinstance(self._host, AsyncHost):
            return await run_in_executor(None, self.add, items, batch_size=batch_size)
        adding = self._adding(items, batch_size)
        try:
            await self._host.add(adding, batch_size=batch_size, max_concurrency=_MAX_CONCURRENCY, what="documents")
        finally:
            self.searcher.samples.note_written(len(items))
        return _ids(adding)

    @staticmethod
    def get(ids: Sequence[str]) -> Flow[list[Record]]:
        """Fetch records by id, in the order of `ids`; unknown ids are left out."""
        records: list[Record] = yield lambda host: host.store.get(ids)
        return records

    def delete(self, ids: Sequence[str] | None, options: Mapping[str, object]) -> Flow[None]:
        """Delete by `ids` or by the option `filter`; without both, delete everything."""
        where = known_options(options, "filter").get("filter")
        yield lambda host: host.store.delete(ids, where={} if ids is None and where is None else where)
        self.searcher.samples.note_deleted(ids)

    def _blocking(self) -> BlockingHost:
        if isinstance(self._host, AsyncHost):
            raise StoreRequestError("the store is asyncio: call the async version of this method, `a...`")
        return self._host

    def _adding(self, items: list[Item], batch_size: int) -> Adding:
        check_count(batch_size, name="batch_size")
        if any(item.is_image for item in items):
            image_function(self._embedding)
        # For other embeddings it is not known whether they made the stored vectors.
        reuse = isinstance(self._embedding, JinaClipEmbeddings)
        given = [{} if item.record_id is None else {"record_id": item.record_id} for item in items]
        return Adding(items, given, describe=Item.fields, reuse=reuse)


def _ids(adding: Adding) -> list[str]:
    """The ids, if no item failed."""
    report: AddReport = adding.report(what="documents")
    if report.failed:
        raise PartialFailureError("documents", failed=report.failed, kept=dict(sorted(adding.kept.items())))
    return list(report.ids)
