"""Haystack's own suites for document stores, as tests that pytest can list before Haystack is imported.

Their classes import Haystack, which takes seconds in every process that collects them. So the names of their tests are
read from the source, and the classes are made when the first of them runs.
"""

import ast
import functools
import importlib.util
import inspect
from pathlib import Path

import numpy as np
import pytest

from tests.late import late

haystack = late("haystack")
duplicates = late("haystack.document_stores.errors")
blocking_suite = late("haystack.testing.document_store")
async_suite = late("haystack.testing.document_store_async")

BLOCKING = ("DocumentStoreBaseExtendedTests", "CountDocumentsByFilterTest")
ASYNC = (
    "CountDocumentsAsyncTest",
    "CountDocumentsByFilterAsyncTest",
    "DeleteAllAsyncTest",
    "DeleteByFilterAsyncTest",
    "DeleteDocumentsAsyncTest",
    "FilterDocumentsAsyncTest",
    "UpdateByFilterAsyncTest",
    "WriteDocumentsAsyncTest",
)
# They ask for `delete_all_documents(recreate_index=...)`, and are skipped where a store has no such option.
OF_AN_OPTION_THAT_IS_NOT_HERE = ("_without_recreate_index", "_with_recreate_index")


def tests_of(module, classes):
    """The names of the tests of some classes of a module of `haystack.testing`, and of their bases there."""
    spec = importlib.util.find_spec("haystack")  # which does not import it
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).with_name("testing").joinpath(f"{module}.py").read_text())
    found = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    names: dict[str, None] = {}
    waiting = list(classes)
    while waiting:
        node = found.get(waiting.pop(0))
        if node is None:
            continue  # a base from elsewhere
        waiting += [base.id for base in node.bases if isinstance(base, ast.Name)]
        functions = [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
        names |= {each.name: None for each in functions if each.name.startswith("test_")}
    return [name for name in names if not name.removesuffix("_async").endswith(OF_AN_OPTION_THAT_IS_NOT_HERE)]


class Overrides:
    """What Haystack's suites leave to a store, or say otherwise than the port does; all else is as it is there."""

    @staticmethod
    def assert_documents_are_equal(received, expected):
        """Stores keep vectors at unit length in float32, and give documents in no particular order."""
        assert len(received) == len(expected)
        given = {document.id: document for document in expected}
        for document in received:
            wanted = given.pop(document.id)
            assert (document.content, document.meta) == (wanted.content, wanted.meta)
            assert (document.embedding is None) == (wanted.embedding is None)
            if document.embedding is not None:
                np.testing.assert_allclose(document.embedding, wanted.embedding, rtol=1e-5, atol=1e-6)
        assert given == {}

    def test_write_documents(self, document_store):
        """Haystack leaves the default to each store, and demands a test of it: here it is FAIL."""
        document = haystack().Document(content="test doc")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(duplicates().DuplicateDocumentError):
            document_store.write_documents([document])
        self.assert_documents_are_equal(document_store.filter_documents(), [document])

    async def test_write_documents_async(self, document_store):
        """Its blocking twin says why."""
        document = haystack().Document(content="test doc")
        assert await document_store.write_documents_async([document]) == 1
        with pytest.raises(duplicates().DuplicateDocumentError):
            await document_store.write_documents_async([document])
        self.assert_documents_are_equal(await document_store.filter_documents_async(), [document])


@functools.cache
def suite(classes, module):
    """A class with the tests of some classes of Haystack's, and our overrides."""
    there = {"document_store": blocking_suite, "document_store_async": async_suite}[module]()
    return type("Suite", (Overrides, *(getattr(there, name) for name in classes)), {})


def call(test, classes, module, document_store):
    """Run one test; gives what is to be awaited for an asyncio test."""
    function = getattr(suite(classes, module)(), test)
    given = {"document_store": document_store, "filterable_docs": blocking_suite().create_filterable_docs()}
    return function(**{name: given[name] for name in inspect.signature(function).parameters})
