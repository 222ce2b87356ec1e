"""The definition of an open collection: whether it is still the same one, and its properties."""

import logging
import time
from collections.abc import Collection
from typing import Any

from weaviate.classes.config import Property
from weaviate.classes.query import Filter as Condition

from jclip_connectors.errors import StoreRequestError, StoreUnavailableError
from jclip_connectors.port import record_uuid
from jclip_connectors.store_kit.flows import Flow
from jclip_connectors.store_kit.validation import check_unchanged
from jclip_connectors.weaviate.errors import MissingCollectionError
from jclip_connectors.weaviate.schema import Layout, number_names, number_properties, read_description

_LOG = logging.getLogger(__package__)
_FRESH_S = 2.0  # within one `upsert`; the reading takes about 1.5 ms
_NOBODY = record_uuid("jclip: no record")


class Definition:
    """The definition of one collection, as it was read last."""

    def __init__(self, name: str, layout: Layout, *, properties: Collection[str]) -> None:
        """Use the layout and the names of the properties of an existing collection."""
        self.name = name
        self.layout = layout
        self.properties = set(properties)
        self._read_s = -float("inf")

    def check(self, *, fresh_s: float = 0.0) -> Flow[None]:
        """Read the definition, unless that was done less than `fresh_s` ago, and compare it with the open collection.

        Before a write this prevents that vectors of two models are mixed, and that a server makes the missing
        collection by itself (auto-schema).

        Raises:
            CollectionMismatchError: the collection was deleted, and made again with another configuration.
            StoreRequestError: the collection was deleted, or made again by another program or with vectors of another
                length.
        """
        if time.monotonic() - self._read_s < fresh_s:
            return
        stored = yield from self._reload()
        check_unchanged(stored.fingerprint, self.layout.fingerprint, collection=f"the collection {self.name!r}")
        if stored.dimensions != self.layout.dimensions:
            raise StoreRequestError(
                f"the collection {self.name!r} was made again, for vectors of {stored.dimensions} values instead of "
                f"{self.layout.dimensions}: open it again"
            )
        self._read_s = time.monotonic()

    def check_if_old(self) -> Flow[None]:
        """Check again between the batches of a long write."""
        yield from self.check(fresh_s=_FRESH_S)

    def know(self, fields: Collection[str]) -> Flow[None]:
        """Read the definition if it may lack the numbers of a field: another process may have added the properties."""
        if not self._has(fields):
            yield from self._reload()

    def add_numbers(self, fields: Collection[str]) -> Flow[None]:
        """Add the properties for the numbers of these fields; existing properties are kept.

        Raises:
            StoreUnavailableError: the server accepts no writes. A property that is made meanwhile has no index until
                the server restarts, and filters on it find nothing.
        """
        if self._has(fields):
            return
        yield from self._check_writable()
        for field in sorted(fields):
            for wanted in number_properties(field):
                if wanted.name in self.properties:
                    continue
                try:
                    yield from self._add(wanted)
                except StoreRequestError:
                    yield from self._reload()  # another process may have made it in the meantime
                    if wanted.name not in self.properties:
                        raise
                self.properties.add(wanted.name)
                _LOG.debug("%r: made the property %s and its index", self.name, wanted.name)

    def _check_writable(self) -> Flow[None]:
        """Delete nothing: a server that accepts no writes counts a failure for each shard."""
        nobody = Condition.by_id().equal(_NOBODY)
        answer = yield lambda client: self._in(client).data.delete_many(where=nobody)
        if answer.failed:
            raise StoreUnavailableError(READ_ONLY)

    def _add(self, wanted: Property) -> Flow[None]:
        yield lambda client: self._in(client).config.add_property(wanted)

    def _has(self, fields: Collection[str]) -> bool:
        return all(self.properties.issuperset(number_names(field)) for field in fields)

    def _reload(self) -> Flow[Layout]:
        try:
            definition = yield lambda client: self._in(client).config.get(simple=True)
        except MissingCollectionError as error:
            raise StoreRequestError(
                f"the collection {self.name!r} was deleted while it was open: open it again to make a new one"
            ) from error
        self.properties = {known.name for known in definition.properties}
        return layout_of(definition, self.name)

    def _in(self, client: Any) -> Any:  # noqa: ANN401 (blocking or asyncio)
        return client.collections.use(self.name)


READ_ONLY = "Weaviate's store is read-only: its disk may be nearly full; make room, or try again later"


def layout_of(definition: Any, name: str) -> Layout:  # noqa: ANN401 (the SDK's class for it has no public name)
    """The layout in the definition of a collection.

    Raises:
        StoreRequestError: another program made the collection.
    """
    layout = read_description(None if definition is None else definition.description)
    if layout is None:
        raise StoreRequestError(f"another program made the collection {name!r}: use another name")
    return layout
