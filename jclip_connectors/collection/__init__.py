"""Collections: an embedder and a store behind one interface, for texts and images."""

from jclip_connectors.collection.adding import AddReport
from jclip_connectors.collection.asynchronous import AsyncMultimodalCollection
from jclip_connectors.collection.blocking import MultimodalCollection

__all__ = ["AddReport", "AsyncMultimodalCollection", "MultimodalCollection"]
