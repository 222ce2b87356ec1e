"""An embedder and a store together: texts and images in one collection, found by text or by image."""

from jclip_connectors.collection.adding import AddReport
from jclip_connectors.collection.asynchronous import AsyncMultimodalCollection
from jclip_connectors.collection.blocking import MultimodalCollection

__all__ = ["AddReport", "AsyncMultimodalCollection", "MultimodalCollection"]
