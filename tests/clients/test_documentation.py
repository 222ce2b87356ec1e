"""Every block of the page about clients that says so runs as it stands, and gives the encoder's own vectors."""

import ast
import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from weaviate.classes.config import Configure

from core_encoder.matryoshka import normalize
from jclip_connectors.server.limits import ServerLimits
from tests.clients.conftest import KEY
from tests.environments import run

pytestmark = pytest.mark.timeout(900)  # the first builds the environment

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
WEAVIATE = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "Configure" in block]
BLOCKS = dict(re.findall(r"\*\*(\w[\w-]+)[^\n]*\n(?:[^\n]+\n)*\n```python run\n(.*?)```", PAGE, re.DOTALL))
DIMENSIONS = 32
RUNNER = """
import json, sys
code, key = json.load(sys.stdin)
names = {"KEY": key}
exec(compile(code, "page", "exec"), names)
print()
print(json.dumps([list(map(float, vector)) for vector in names["vectors"]]))
"""


def test_every_block_that_is_to_run_is_found():
    assert len(BLOCKS) == PAGE.count("```python run") == 9
    assert len(BLOCKS) + len(WEAVIATE) == PAGE.count("```python")


@pytest.mark.slow
@pytest.mark.parametrize("client", BLOCKS)
def test_a_block_of_the_page_runs_as_it_stands(client, clients_python, server, encoder, expected, tmp_path):
    (tmp_path / "cat.png").write_bytes(expected.pictures[0])
    ours = "jclip_connectors" in BLOCKS[client]  # is not among the clients of others
    code = BLOCKS[client].replace("http://localhost:8080", server.url)
    code = code.replace("dimensions=512", f"dimensions={DIMENSIONS}")  # as many as the small model of the tests has
    environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HAYSTACK_TELEMETRY_ENABLED": "False"}
    command = [sys.executable if ours else str(clients_python), "-I", "-c", RUNNER]
    printed = run(command, env=environ, cwd=tmp_path, input=json.dumps([code, KEY]), timeout=200)
    vectors = np.array(json.loads(printed.splitlines()[-1]))
    rows = np.concatenate([encoder.encode_text(["a red bicycle"]), expected.images[:1]])
    assert len(vectors) == 1 + ("cat.png" in code)
    np.testing.assert_allclose(vectors, normalize(rows[: len(vectors), : vectors.shape[1]]), atol=1e-6)


@pytest.mark.parametrize("block", WEAVIATE)
def test_weaviates_client_takes_what_the_page_gives_it(block):
    calls = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    [made] = [call for call in calls if ast.unparse(call.func).startswith("Configure.Vectors.")]
    vectors = eval(ast.unparse(made), {"Configure": Configure})  # noqa: S307 (our own page)
    told = vectors.vectorizer._to_dict()
    assert (told["imageFields"], told["textFields"]) == (["picture"], ["caption"])
    assert 512 in told.values() or told["inferenceUrl"].endswith("/weaviate/512")


def test_the_page_has_every_limit_with_its_default():
    rows = re.findall(r"^\| (`(?:max|body)_[^|]*) \| ([^|]*) \|", PAGE, re.MULTILINE)
    units = {"": 1, "Ki": 2**10, "Mi": 2**20, "KiB": 2**10, "MiB": 2**20}
    told = {}
    for names, values in rows:
        for name, value in zip(names.split(", "), values.split(", "), strict=True):
            number, _, unit = value.partition(" ")
            told[name.strip("`")] = int(number) * units[unit]
    assert told == dataclasses.asdict(ServerLimits())
