"""The import rules hold, and each of them is able to fail."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RULES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
CONTRACTS = [rule["id"] for rule in RULES]
VIOLATIONS = {
    "encoder-knows-no-connector": ("core_encoder/tiling.py", "import jclip_connectors.port"),
    "encoder-layers": ("core_encoder/tiling.py", "import core_encoder.torch.text_tower"),
    "connector-layers": ("jclip_connectors/testing/hash_embedder.py", "import jclip_connectors.edge.store"),
    "store-layers": ("jclip_connectors/weaviate/schema.py", "import jclip_connectors.weaviate.operations"),
    "server-layers": ("jclip_connectors/server/limits.py", "import jclip_connectors.server.engine"),
    "dialect-layers": ("jclip_connectors/server/dialects/fields.py", "import jclip_connectors.server.dialects.tei"),
    "who-runs-the-model": ("jclip_connectors/indexing/walk.py", "import core_encoder.encoder"),
    "who-knows-ray": ("jclip_connectors/bulk/embed_shard.py", "import ray"),
    "thin-base": ("jclip_connectors/filters.py", "import torch"),
}


def lint(folder, contract):
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--contract", contract]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603 - our own tool


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layers")
    for package in ("core_encoder", "jclip_connectors"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", folder / "pyproject.toml")
    return folder


def test_every_contract_is_shown_to_fail():
    assert sorted(VIOLATIONS) == sorted(CONTRACTS)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_a_contract_is_kept_and_an_offending_import_breaks_it(copy, contract):
    kept = lint(copy, contract)
    assert kept.returncode == 0, kept.stdout
    name, line = VIOLATIONS[contract]
    path = copy / name
    source = path.read_text()
    path.write_text(f"{source}\n{line}\n")
    try:
        broken = lint(copy, contract)
    finally:
        path.write_text(source)
    assert broken.returncode == 1, broken.stdout
    assert re.search(r"Contracts: 0 kept, 1 broken", broken.stdout)


def test_a_module_without_a_layer_breaks_the_contract(copy):
    stray = copy / "jclip_connectors" / "stray.py"
    stray.write_text("")
    try:
        broken = lint(copy, "connector-layers")
    finally:
        stray.unlink()
    assert broken.returncode == 1, broken.stdout
    assert "stray" in broken.stdout
