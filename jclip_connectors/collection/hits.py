"""The results of a search: a list that a notebook shows as pictures."""

from collections.abc import Iterable

from core_encoder.rendering import Rendering
from jclip_connectors.port import SearchHit

_SHOWN = 24  # in a notebook, whose file keeps them


class Hits(list[SearchHit]):
    """A list of results, which Jupyter and its relatives show as cards: the same ones as on a contact sheet."""

    def __init__(self, hits: Iterable[SearchHit], *, rendering: Rendering) -> None:
        """Make a list of results.

        Args:
            hits: the results.
            rendering: how pictures were read when they were embedded; they are shown so.
        """
        super().__init__(hits)
        self._rendering = rendering

    def _repr_html_(self) -> str:
        """The first results with their pictures, which are read now, as HTML that needs no other file."""
        from jclip_connectors.collection.cards import cards_in_notebook  # pictures take long to load

        return cards_in_notebook(self[:_SHOWN], more=max(0, len(self) - _SHOWN), rendering=self._rendering)
