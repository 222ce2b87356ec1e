"""The page about engines of others: each program runs in such an engine, and prints what the page says."""

import itertools
import os
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.docs import readers_folder
from tests.docs.blocks import DOCS, blocks_of
from tests.engines.pythons import engine_python
from tests.environments import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first test builds the environment

NAMES = ("datasets", "pyspark", "dask", "daft")
PAIRS = [pair for pair in itertools.pairwise(blocks_of(DOCS / "bulk-engines.md")) if pair[0].options == "run"]
BLOCKS = {
    name: (code.text, printed.text)
    for name in NAMES
    for code, printed in PAIRS
    if re.search(rf"^(?:from|import) {name}\b", code.text, re.MULTILINE)
}


@pytest.fixture
def folder(tmp_path):
    readers_folder.fill(tmp_path)
    names = ["bicycle.jpg", "boat.jpg", "cat.jpg"]
    images = [*((tmp_path / name).read_bytes() for name in names), b"no picture"]
    pq.write_table(pa.table({"key": [*names, "bad.jpg"], "image": images}), tmp_path / "pictures.parquet")
    return tmp_path


def test_every_program_of_the_page_is_found():
    assert tuple(BLOCKS) == NAMES
    assert len(PAIRS) == len(NAMES)


@pytest.mark.parametrize("engine", NAMES)
def test_an_engine_embeds_a_table_as_the_page_shows(engine, folder):
    python = engine_python("daft" if engine == "daft" else "requirements")
    code, printed = BLOCKS[engine]
    code = code.replace("jinaai/jina-clip-v2", "nano").replace("1024", "128")
    script = folder / "page.py"
    script.write_text(code)
    environ = {
        "HOME": str(folder),
        "PATH": os.environ["PATH"],
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "PYSPARK_PYTHON": str(python),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }
    if "JAVA_HOME" in os.environ:
        environ["JAVA_HOME"] = os.environ["JAVA_HOME"]
    # Spark and Daft write progress to the same stream as results, so only the last line is looked at.
    assert run([str(python), str(script)], env=environ, cwd=folder, timeout=400).splitlines()[-1] == printed.strip()
