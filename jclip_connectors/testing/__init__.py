"""For your own tests: an embedder without a model, and the suites that every store and every embedder here passes.

    class TestMyStore(StoreContract):
        @pytest.fixture
        def open_store(self):
            return MyStore.open

The suites need pytest, which is imported when the first suite is used.
"""

from typing import TYPE_CHECKING

from jclip_connectors.testing.hash_embedder import HashEmbedder

if TYPE_CHECKING:
    from jclip_connectors.testing.bridge import BridgedStore, EventLoop
    from jclip_connectors.testing.embedder_contract import EmbedderContract
    from jclip_connectors.testing.store_contract import StoreContract

__all__ = ["BridgedStore", "EmbedderContract", "EventLoop", "HashEmbedder", "StoreContract"]


def __getattr__(name: str) -> object:
    """Import a suite, and pytest with it, on first use (PEP 562); a failed assertion shows its values."""
    module = {
        "BridgedStore": "bridge",
        "EventLoop": "bridge",
        "EmbedderContract": "embedder_contract",
        "StoreContract": "store_contract",
    }.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    import pytest

    path = f"{__name__}.{module}"
    pytest.register_assert_rewrite(path)
    return getattr(importlib.import_module(path), name)
