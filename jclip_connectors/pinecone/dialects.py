"""The two APIs to read and write an index: the Documents API, and the vectors API of older indexes.

Both have the same flows, which use an `Index` or `AsyncIndex` of the SDK and exchange `Item`s.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pinecone import DenseVectorQuery

from jclip_connectors.pinecone.filters import Expression
from jclip_connectors.pinecone.items import Item
from jclip_connectors.store_kit.flows import Flow

FETCH_IDS = 100  # per request: ids of tiles then fit in the URL of a GET, and whole items in a few MB
DELETE_IDS = 1000
_PAGE = 100  # whole items, of at most 60 KB each with vectors of 1024 values
_NAMES_PAGE = 1000  # items, with one short field each


@dataclass(frozen=True, kw_only=True)
class Match:
    """A match of a search.

    Attributes:
        item: the item without its vector; its fields are empty if they were not requested.
        score: the cosine.
    """

    item: Item
    score: float


class Dialect(Protocol):
    """The operations on one namespace of an index that the store needs."""

    @property
    def namespace(self) -> str:
        """The namespace; not empty."""

    def write(self, items: Sequence[Item]) -> Flow[int]:
        """Write items in one request, replacing items with the same id; returns the number of written items."""

    def search(
        self, vector: list[float], *, top_k: int, where: Expression, fields: Sequence[str] | None = None
    ) -> Flow[list[Match]]:
        """Find the items nearest to `vector`, nearest first, with at least the `fields`; `None` requests no fields."""

    def fetch(self, ids: Sequence[str], *, fields: Sequence[str] | None = None) -> Flow[dict[str, Item]]:
        """Read at most `FETCH_IDS` items by id: whole items, or at least the `fields`; unknown ids are left out."""

    def page(
        self, where: Expression, *, token: str | None, fields: Sequence[str] | None = None
    ) -> Flow[tuple[list[Item], str | None]]:
        """Read one page of the matching items, whole or at least the `fields`, and the token of the next page."""

    def delete(self, ids: Sequence[str]) -> Flow[None]:
        """Delete at most `DELETE_IDS` items by id."""

    def delete_where(self, where: Expression) -> Flow[None]:
        """Delete the matching items."""


@dataclass(frozen=True, kw_only=True)
class Documents:
    """An index with a schema.

    Attributes:
        namespace: the namespace; not empty.
        field: the name of the vector field.
    """

    namespace: str
    field: str

    def write(self, items: Sequence[Item]) -> Flow[int]:
        """See `Dialect.write`."""
        documents = [{"_id": item.item_id, self.field: item.vector, **item.fields} for item in items]
        answer = yield lambda index: index.documents.upsert(namespace=self.namespace, documents=documents)
        taken: int = answer.upserted_count
        return taken

    def search(
        self, vector: list[float], *, top_k: int, where: Expression, fields: Sequence[str] | None = None
    ) -> Flow[list[Match]]:
        """See `Dialect.search`."""
        answer = yield lambda index: index.documents.search(
            namespace=self.namespace,
            score_by=[DenseVectorQuery(field=self.field, values=vector)],
            top_k=top_k,
            filter=where,
            include_fields=fields,
        )
        return [Match(item=self._item(match), score=match.score) for match in answer.matches]

    def fetch(self, ids: Sequence[str], *, fields: Sequence[str] | None = None) -> Flow[dict[str, Item]]:
        """See `Dialect.fetch`."""
        answer = yield lambda index: index.documents.fetch(
            namespace=self.namespace, ids=list(ids), include_fields=fields
        )
        return {item.item_id: item for item in map(self._item, answer.documents.values())}

    def page(
        self, where: Expression, *, token: str | None, fields: Sequence[str] | None = None
    ) -> Flow[tuple[list[Item], str | None]]:
        """See `Dialect.page`."""
        answer = yield lambda index: index.documents.fetch(
            namespace=self.namespace,
            filter=where,
            limit=_NAMES_PAGE if fields is not None and len(fields) == 1 else _PAGE,
            pagination_token=token,
            include_fields=None if fields is None else list(fields),
        )
        return [self._item(document) for document in answer.documents.values()], _next(answer)

    def delete(self, ids: Sequence[str]) -> Flow[None]:
        """See `Dialect.delete`."""
        yield lambda index: index.documents.delete(namespace=self.namespace, ids=list(ids))

    def delete_where(self, where: Expression) -> Flow[None]:
        """See `Dialect.delete_where`."""
        yield lambda index: index.documents.delete(namespace=self.namespace, filter=where)

    def _item(self, document: Any) -> Item:  # noqa: ANN401 (a `pinecone.Document`, whose fields have no types)
        fields = document.to_dict()
        item_id, vector = fields.pop("_id"), fields.pop(self.field, None)
        fields.pop("_score", None)
        return Item(item_id=item_id, vector=[] if vector is None else vector, fields=fields)


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """An index without a schema, made before 2026.

    Attributes:
        namespace: the namespace; not empty.
    """

    namespace: str

    def write(self, items: Sequence[Item]) -> Flow[int]:
        """See `Dialect.write`."""
        vectors = [{"id": item.item_id, "values": item.vector, "metadata": dict(item.fields)} for item in items]
        answer = yield lambda index: index.upsert(vectors=vectors, namespace=self.namespace)
        taken: int = answer.upserted_count
        return taken

    def search(
        self, vector: list[float], *, top_k: int, where: Expression, fields: Sequence[str] | None = None
    ) -> Flow[list[Match]]:
        """See `Dialect.search`."""
        answer = yield lambda index: index.query(
            vector=vector, top_k=top_k, namespace=self.namespace, filter=where, include_metadata=fields is not None
        )
        return [
            Match(item=Item(item_id=match.id, vector=[], fields=match.metadata or {}), score=match.score)
            for match in answer.matches
        ]

    def fetch(self, ids: Sequence[str], *, fields: Sequence[str] | None = None) -> Flow[dict[str, Item]]:  # noqa: ARG002 (this API returns all fields)
        """See `Dialect.fetch`."""
        answer = yield lambda index: index.fetch(ids=list(ids), namespace=self.namespace)
        return {item.item_id: item for item in _items(answer.vectors)}

    def page(
        self,
        where: Expression,
        *,
        token: str | None,
        fields: Sequence[str] | None = None,  # noqa: ARG002 (this API returns all fields)
    ) -> Flow[tuple[list[Item], str | None]]:
        """See `Dialect.page`."""
        answer = yield lambda index: index.fetch_by_metadata(
            filter=where, namespace=self.namespace, limit=_PAGE, pagination_token=token
        )
        return list(_items(answer.vectors)), _next(answer)

    def delete(self, ids: Sequence[str]) -> Flow[None]:
        """See `Dialect.delete`."""
        yield lambda index: index.delete(ids=list(ids), namespace=self.namespace)

    def delete_where(self, where: Expression) -> Flow[None]:
        """See `Dialect.delete_where`."""
        yield lambda index: index.delete(filter=where, namespace=self.namespace)


def _items(vectors: Mapping[str, Any]) -> Iterable[Item]:
    return (
        Item(item_id=item_id, vector=found.values, fields=found.metadata or {}) for item_id, found in vectors.items()
    )


def _next(answer: Any) -> str | None:  # noqa: ANN401 (one of four SDK classes)
    token: str | None = None if answer.pagination is None else answer.pagination.next
    return token
