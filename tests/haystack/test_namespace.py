"""The modules from which Haystack imports the classes."""

import importlib

from tests.late import late

ours = late("jclip_connectors.haystack")


def test_the_modules_that_haystack_imports_have_the_classes_that_say_so_and_nothing_else():
    embedders, retrievers = (
        importlib.import_module(f"haystack_integrations.components.{kind}.jina_clip")
        for kind in ("embedders", "retrievers")
    )
    document_stores = importlib.import_module("haystack_integrations.document_stores.jina_clip")
    there = [(module, name) for module in (embedders, retrievers, document_stores) for name in module.__all__]
    assert len({name for _, name in there}) == len(there)
    for module, name in there:
        assert getattr(module, name) is getattr(ours(), name)
        assert getattr(ours(), name).__module__ == module.__name__
    components = {name for name in ours().__all__ if not name.endswith("Error")}
    assert {name for _, name in there} == components


def test_the_levels_of_all_are_a_namespace():
    for level in ("", ".components", ".components.embedders", ".components.retrievers", ".document_stores"):
        assert importlib.import_module(f"haystack_integrations{level}").__file__ is None
