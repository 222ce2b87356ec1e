"""What importing a part brings with it: a service that only stores vectors must not need torch."""

import json
import subprocess
import sys

import pytest

HEAVY = [
    "torch",
    "transformers",
    "timm",
    "qdrant_edge",
    "qdrant_client",
    "safetensors",
    "tokenizers",
    "huggingface_hub",
    "onnx",
    "onnxruntime",
]


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout  # noqa: S603 (our own code)


@pytest.fixture(scope="module")
def loaded():
    """The heavy modules that each part loads, each in an interpreter that has loaded the parts before it."""
    parts = ["", ".config", ".port", ".filters", ".collection", ".testing", ".local", ".edge"]
    code = (
        "import importlib, json, sys\nfound = {}\n"
        f"for part in {parts!r}:\n"
        "    importlib.import_module('jclip_connectors' + part)\n"
        f"    found[part] = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print(json.dumps(found))"
    )
    return json.loads(run(code))


@pytest.mark.parametrize("part", ["", ".config", ".port", ".filters", ".collection", ".testing", ".local"])
def test_a_part_without_an_sdk_loads_none_and_no_torch(loaded, part):
    assert loaded[part] == []


def test_a_store_loads_its_own_sdk_and_no_torch(loaded):
    assert loaded[".edge"] == ["qdrant_edge"]


def test_a_search_in_a_folder_loads_no_module_that_it_does_not_use():
    unused = ["asyncio", "jclip_connectors.cli.contact_sheet", "jclip_connectors.indexing", "rich.progress", "tenacity"]
    code = (
        "import sys\n"
        "from jclip_connectors.cli.commands import make_app\n"
        "make_app(['search'])\n"
        "import jclip_connectors.local, jclip_connectors.edge\n"
        "from jclip_connectors.collection import MultimodalCollection\n"
        f"print([name for name in {unused!r} if name in sys.modules])"
    )
    assert run(code) == "[]\n"


def test_a_missing_package_is_an_import_error_that_names_the_extra():
    code = (
        "import sys\n"
        "sys.modules['qdrant_edge'] = sys.modules['onnxruntime'] = sys.modules['torch'] = None\n"
        "from jclip_connectors import EmbeddingConfig\n"
        "from jclip_connectors.local import LocalEmbedder\n"
        "from jclip_connectors.errors import MissingDependencyError\n"
        "try:\n    import jclip_connectors.edge.store\n"
        "except MissingDependencyError as error:\n    print(error.extra, isinstance(error, ImportError), error)\n"
        "try:\n    LocalEmbedder(EmbeddingConfig(model='nano'))\n"
        "except MissingDependencyError as error:\n    print(error.extra, isinstance(error, ImportError), error)\n"
    )
    assert run(code).splitlines() == [
        "edge True qdrant-edge-py is not installed: pip install 'jclip-connectors[edge]'",
        "onnx True onnxruntime is not installed: pip install 'jclip-connectors[onnx]'",
    ]


def test_the_encoder_without_its_packages_says_what_to_install():
    code = (
        "import sys\n"
        "sys.modules['tokenizers'] = None\n"
        "import core_encoder\n"
        "try:\n    from core_encoder import JinaClipEncoder\n"
        "except ImportError as error:\n    print(error.name, error)\n"
    )
    assert run(code).strip() == "tokenizers tokenizers is not installed: pip install 'jclip-connectors[onnx]'"
