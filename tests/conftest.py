"""What holds for every test: one thread, and few examples unless `--hypothesis-profile thorough` asks for all.

The models here are so small that a second thread only waits for the first, and on a busy machine waits long. The
variable is set before torch is imported, and the processes that tests start inherit it.
"""

import os
import re

from tests.converted import cache_of_this_code

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
os.environ.setdefault("JCLIP_CACHE_DIR", str(cache_of_this_code()))

import pytest

from tests import profiles
from tests.clocks import clock

__all__ = ["clock"]

pytest.register_assert_rewrite("jclip_connectors.testing")  # the suites are inherited, and say what they found

# transformers, Haystack and what they bring load for seconds: the tests that need them come together, so that one
# worker loads them.
_WITH_TRANSFORMERS = re.compile(
    r"tests/(haystack/|huggingface/|test_sentence_transformers|core_encoder/test_(towers|attention_backends))"
    r"|\[(jclip_connectors\.|frameworks/)(haystack|huggingface|sentence.transformers)"
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: _WITH_TRANSFORMERS.search(item.nodeid) is None)


def pytest_configure(config):
    if config.getoption("--hypothesis-profile") is None:
        profiles.load_usual()


@pytest.fixture
def without_extras(monkeypatch):
    """Pictures that need an extra cannot be read, whatever is installed here."""
    from core_encoder.image_formats import EXTRAS_OF_SUFFIXES
    from core_encoder.optional_formats import OptionalFormat
    from jclip_connectors.indexing import IMAGE_SUFFIXES, walk

    monkeypatch.setattr(OptionalFormat, "is_installed", lambda _: False)
    monkeypatch.setattr(walk, "IMAGE_SUFFIXES", IMAGE_SUFFIXES - EXTRAS_OF_SUFFIXES.keys())
