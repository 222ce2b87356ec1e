"""Clients for one table, on LanceDB's blocking and asyncio connections.

Each call opens the table anew, in a millisecond: a table that stays open sees nothing that others write, nor that it
was dropped or made again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from lancedb.index import BTree, HnswSq
from lancedb.query import ColumnOrdering

from jclip_connectors.port import FloatArray

if TYPE_CHECKING:
    from lancedb.db import AsyncConnection, DBConnection

_METRIC: Literal["cosine"] = "cosine"
_MISSING = "was not found"
DISTANCE, QUERY = "_distance", "query_index"


@dataclass(frozen=True, kw_only=True)
class Read:
    """Rows to read.

    Attributes:
        columns: of the table.
        where: a condition; `None` is every row.
        limit: the most rows.
        in_order: whether they are the first ones in the order of `key`.
    """

    columns: Sequence[str]
    where: str | None
    limit: int | None = None
    in_order: bool = False

    @property
    def ordering(self) -> list[ColumnOrdering] | None:
        """The order of the rows."""
        return [ColumnOrdering(column_name="key")] if self.in_order else None


@dataclass(frozen=True, kw_only=True)
class Search:
    """Rows to find.

    Attributes:
        vectors: (E,), or (B, E) for a search for each row.
        column: with the vectors that are compared.
        columns: of the table, which are read; the distances are read too.
        where: a condition; `None` is every row.
        limit: the most rows for each vector.
        refine: how many times as many rows an index gives, to be compared by their whole vectors; `None` uses no index.
        partitions: how many partitions of an index are searched, at least.
    """

    vectors: FloatArray
    column: str
    columns: Sequence[str]
    where: str | None
    limit: int
    refine: int | None
    partitions: int

    @property
    def read(self) -> list[str]:
        """The columns of the answer; LanceDB warns at each search that does not read the distance."""
        return [*self.columns, DISTANCE]


class BlockingClient:
    """One table, through a blocking connection, which the caller made."""

    def __init__(self, connection: "DBConnection", name: str) -> None:
        """Keep the caller's connection."""
        self._connection = connection
        self._name = name

    def schema(self) -> pa.Schema | None:
        """The schema of the table; `None` if there is none."""
        try:
            return self._table().schema
        except ValueError as error:
            if _MISSING in str(error):
                return None
            raise

    def create(self, schema: pa.Schema) -> None:
        """Make the table, without rows."""
        self._connection.create_table(self._name, schema=schema)

    def merge(self, rows: pa.Table) -> None:
        """Write rows in one commit; each replaces the row with its id."""
        merge = self._table().merge_insert("record_id").when_matched_update_all().when_not_matched_insert_all()
        merge.execute(rows)

    def delete(self, where: str) -> None:
        """Delete the rows of a condition."""
        self._table().delete(where)

    def count(self, where: str | None) -> int:
        """Count the rows of a condition."""
        counted: int = self._table().count_rows(where)
        return counted

    def read(self, asked: Read) -> pa.Table:
        """Read rows."""
        query = _narrow(self._table().search().select(list(asked.columns)), asked.where, asked.limit)
        if asked.ordering is not None:
            query = query.order_by(asked.ordering)
        return query.to_arrow()

    def search(self, asked: Search) -> pa.Table:
        """Find rows; those of many vectors have a column with the position of the vector."""
        query = self._table().search(asked.vectors, vector_column_name=asked.column)
        return _refine(query, asked).to_arrow()

    def indexed_columns(self) -> set[str]:
        """The columns that have an index."""
        return {column for index in self._table().list_indices() for column in index.columns}

    def index_rows(self, column: str) -> None:
        """Make an index for looking up rows."""
        self._table().create_index(column, config=BTree())

    def index_vectors(self, column: str) -> None:
        """Make an index for searching vectors."""
        self._table().create_index(column, config=HnswSq(distance_type=_METRIC))

    def compact(self, keep: timedelta) -> None:
        """Merge the files of the table, add new rows to its indexes, and remove versions that are older than `keep`."""
        self._table().optimize(cleanup_older_than=keep)

    def _table(self) -> Any:  # noqa: ANN401 (lancedb's builders have no useful types)
        return self._connection.open_table(self._name)


class AsyncClient:
    """One table, through an asyncio connection; see `BlockingClient`."""

    def __init__(self, connection: "AsyncConnection", name: str) -> None:
        """Keep the caller's connection."""
        self._connection = connection
        self._name = name

    async def schema(self) -> pa.Schema | None:
        """See `BlockingClient.schema`."""
        try:
            return await (await self._table()).schema()
        except ValueError as error:
            if _MISSING in str(error):
                return None
            raise

    async def create(self, schema: pa.Schema) -> None:
        """See `BlockingClient.create`."""
        await self._connection.create_table(self._name, schema=schema)

    async def merge(self, rows: pa.Table) -> None:
        """See `BlockingClient.merge`."""
        table = await self._table()
        await table.merge_insert("record_id").when_matched_update_all().when_not_matched_insert_all().execute(rows)

    async def delete(self, where: str) -> None:
        """See `BlockingClient.delete`."""
        await (await self._table()).delete(where)

    async def count(self, where: str | None) -> int:
        """See `BlockingClient.count`."""
        counted: int = await (await self._table()).count_rows(where)
        return counted

    async def read(self, asked: Read) -> pa.Table:
        """See `BlockingClient.read`."""
        query = _narrow((await self._table()).query().select(list(asked.columns)), asked.where, asked.limit)
        if asked.ordering is not None:
            query = query.order_by(asked.ordering)
        return await query.to_arrow()

    async def search(self, asked: Search) -> pa.Table:
        """See `BlockingClient.search`."""
        vectors: Any = asked.vectors if asked.vectors.ndim == 1 else list(asked.vectors)
        query = (await self._table()).query().nearest_to(vectors).column(asked.column)
        return await _refine(query, asked).to_arrow()

    async def indexed_columns(self) -> set[str]:
        """See `BlockingClient.indexed_columns`."""
        return {column for index in await (await self._table()).list_indices() for column in index.columns}

    async def index_rows(self, column: str) -> None:
        """See `BlockingClient.index_rows`."""
        await (await self._table()).create_index(column, config=BTree())

    async def index_vectors(self, column: str) -> None:
        """See `BlockingClient.index_vectors`."""
        await (await self._table()).create_index(column, config=HnswSq(distance_type=_METRIC))

    async def compact(self, keep: timedelta) -> None:
        """See `BlockingClient.compact`."""
        await (await self._table()).optimize(cleanup_older_than=keep)

    async def _table(self) -> Any:  # noqa: ANN401 (lancedb's builders have no useful types)
        return await self._connection.open_table(self._name)


def _narrow(query: Any, where: str | None, limit: int | None) -> Any:  # noqa: ANN401 (a builder)
    if where is not None:
        query = query.where(where)
    return query if limit is None else query.limit(limit)


def _refine(query: Any, asked: Search) -> Any:  # noqa: ANN401 (a builder)
    """The options of a search, which both builders have; a condition is met before vectors are compared."""
    query = _narrow(query.distance_type(_METRIC).select(asked.read), asked.where, asked.limit)
    if asked.refine is None:
        return query.bypass_vector_index()
    # All partitions, where those give too few rows: a filter may leave only some that are far away.
    return query.nprobes(asked.partitions).maximum_nprobes(0).refine_factor(asked.refine)
