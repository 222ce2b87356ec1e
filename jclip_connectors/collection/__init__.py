"""Collections: an embedder and a store behind one interface, for texts and images."""

from typing import TYPE_CHECKING

from jclip_connectors.collection.adding import AddReport
from jclip_connectors.collection.blocking import MultimodalCollection

if TYPE_CHECKING:
    from jclip_connectors.collection.asynchronous import AsyncMultimodalCollection

__all__ = ["AddReport", "AsyncMultimodalCollection", "MultimodalCollection"]


def __getattr__(name: str) -> object:
    """Import the asyncio collection on first use (PEP 562): loading asyncio takes longer than a search."""
    if name == "AsyncMultimodalCollection":
        from jclip_connectors.collection.asynchronous import AsyncMultimodalCollection

        return AsyncMultimodalCollection
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
