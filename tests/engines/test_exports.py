"""The programs of others that the page about copies shows open an export, and print what the page says."""

import itertools
import os

import pytest

from tests.docs import readers_folder
from tests.docs.blocks import DOCS, blocks_of
from tests.engines.pythons import engine_python
from tests.environments import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test builds the environment

BLOCKS = {
    code.text.split()[1]: (code.text, printed.text)
    for code, printed in itertools.pairwise(blocks_of(DOCS / "copy.md"))
    if code.options == "run"
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
    readers_folder.fill(folder)
    readers_folder.export(folder)
    return folder


def test_every_program_of_the_page_is_found():
    assert list(BLOCKS) == ["datasets", "duckdb", "lancedb"]


@pytest.mark.parametrize("program", BLOCKS)
def test_an_export_opens_in_a_program_of_others(program, folder):
    python = engine_python("requirements")
    code, printed = BLOCKS[program]
    environ = {"HOME": str(folder), "PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1"}
    assert run([str(python), "-I", "-c", code], env=environ, cwd=folder, timeout=200).strip() == printed.strip()
