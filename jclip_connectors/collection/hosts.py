"""Hosts: they run the flows of a collection on a store and an embedder, both blocking; `async_hosts` has the others."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from jclip_connectors.collection.adding import Adding
from jclip_connectors.port import FloatArray, Modality, Record, SearchHit, VectorStore
from jclip_connectors.store_kit.flows import Flow, run
from jclip_connectors.store_kit.patience import Patience

_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class BlockingHost:
    """A blocking store and embedder.

    Attributes:
        store: stores the records.
        embedder: has `embed_query` and `embed_images`, for flows that search by text or by image.
        embed: makes one row or one `TileEmbeddings` per source of a batch, for flows that add items.
    """

    store: VectorStore
    embedder: Any = None
    embed: Callable[[Any], Any] | None = None

    def run(self, flow: Flow[_Result]) -> _Result:
        """Run a flow without retries: the store retries its own operations."""
        return run(flow, self, translate=as_it_is, attempts=1, patience=Patience(0.0))

    def search_each(
        self,
        embeddings: FloatArray,
        modalities: Sequence[Modality | None],
        **options: Any,  # noqa: ANN401 (the options of the port)
    ) -> list[list[list[SearchHit]]]:
        """Search each modality separately for each row of `embeddings` (B, E)."""
        if len(embeddings) == 1:
            return [[self.store.search(embeddings[0], modality=modality, **options)] for modality in modalities]
        return [self.store.search_many(embeddings, modality=modality, **options) for modality in modalities]

    def sample_each(self, modalities: Sequence[Modality], count: int) -> list[list[Record]]:
        """The first `count` records of each modality, whose order is that of a hash."""
        return [list(itertools.islice(self.store.scroll(modality=modality), count)) for modality in modalities]

    def records(self, **options: Any) -> list[Record]:  # noqa: ANN401 (the options of the port)
        """All matching records."""
        return list(self.store.scroll(**options))

    def work(self, task: Callable[[], _Result]) -> _Result:
        """Run a slow task."""
        return task()

    def add(self, adding: Adding, *, batch_size: int, what: str) -> None:
        """Add the items, one batch after another.

        Raises:
            PartialFailureError: a batch failed after others were written.
        """
        try:
            adding.advance(0)
            for positions in adding.batches(batch_size):
                self.run(adding.write(adding.describe(positions)))
                adding.advance(len(positions))
        except Exception as error:
            failure = adding.failure(error, what=what)
            if failure is error:
                raise
            raise failure from error


def as_it_is(_: Exception) -> None:
    """Translate nothing: stores and embedders raise errors of this package."""
