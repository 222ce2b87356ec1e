"""Modules that are imported when a test first uses them.

Every worker of pytest-xdist collects every test, so what test files import at their top is loaded by all workers, and
some libraries take longer to load than all of the tests that need them.
"""

import functools
import importlib


def late(name):
    """Give a function that gives the module; it is imported at the first call."""
    return functools.partial(importlib.import_module, name)
