"""The wheel, installed: what is saved loads in a fresh process, beside the packages of others in the same namespace."""

import os
import sys
import zipfile
from pathlib import Path

import pytest
import uv

from tests.environments import build, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the environment is built

ROOT = Path(__file__).parents[2]
EXTRAS = ("onnx", "edge", "haystack")
SHARED = ("haystack_integrations", "haystack_integrations/components", "haystack_integrations/document_stores")
SAVING = """
import sys
from haystack import Pipeline
from jclip_connectors import EmbeddingConfig
from jclip_connectors.haystack import JinaClipDocumentStore, JinaClipTextEmbedder, JinaClipTextRetriever

config = EmbeddingConfig(model="nano")
pipeline = Pipeline()
store = JinaClipDocumentStore(url=sys.argv[1], config=config)
pipeline.add_component("retriever", JinaClipTextRetriever(store, JinaClipTextEmbedder(config)))
print(pipeline.dumps())
"""
LOADING = """
import sys
from haystack import Pipeline
import haystack_integrations.components.embedders.other as other

pipeline = Pipeline.loads(sys.stdin.read())
assert "jclip_connectors.haystack" in sys.modules
print(pipeline.run({"retriever": {"query": "red"}}), other.NAME)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [uv.find_uv_bin(), "build", "--quiet", "--python", sys.executable, "--out-dir", str(folder), str(ROOT)]
    run(command)  # the sdist, and the wheel from the sdist
    (made,) = folder.glob("*.whl")
    return made


def test_the_wheel_has_the_namespace_without_modules_of_its_own_in_the_levels_of_all(wheel):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("haystack_integrations/")]
    homes = {str(Path(name).parent) for name in names}
    assert homes == {
        "haystack_integrations/components/embedders/jina_clip",
        "haystack_integrations/components/retrievers/jina_clip",
        "haystack_integrations/document_stores/jina_clip",
    }
    assert sorted(Path(name).name for name in names) == ["__init__.py"] * 3 + ["py.typed"] * 3


def test_what_is_saved_loads_in_a_fresh_process_beside_the_packages_of_others(wheel, tmp_path):
    python = build(
        tmp_path / "environment",
        "--constraint",
        str(ROOT / "constraints" / "dev.txt"),
        f"{wheel}[{','.join(EXTRAS)}]",
    )
    site = Path(run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
    other = site / "haystack_integrations" / "components" / "embedders" / "other"
    other.mkdir()
    (other / "__init__.py").write_text("NAME = 'another package'\n")
    environment = {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "JCLIP_CACHE_DIR": str(tmp_path / "cache"),
        "HAYSTACK_TELEMETRY_ENABLED": "False",
    }
    folder = {"env": environment, "cwd": tmp_path, "timeout": 300}
    saved = run([str(python), "-c", SAVING, f"edge:{tmp_path}/photos.jclip"], **folder)
    assert "haystack_integrations.components.retrievers.jina_clip.JinaClipTextRetriever" in saved
    printed = run([str(python), "-c", LOADING], input=saved, **folder)
    assert printed.strip() == "{'retriever': {'documents': []}} another package"
