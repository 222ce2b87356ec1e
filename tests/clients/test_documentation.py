"""Every block of the page about clients that says so runs as it stands, and gives the encoder's own vectors."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.clients.conftest import KEY
from tests.environments import run

pytestmark = pytest.mark.timeout(900)  # the first builds the environment

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
BLOCKS = dict(re.findall(r"\*\*(\w[\w-]+)[^\n]*\n(?:[^\n]+\n)*\n```python run\n(.*?)```", PAGE, re.DOTALL))
RUNNER = """
import json, sys
code, key = json.load(sys.stdin)
names = {"KEY": key}
exec(compile(code, "page", "exec"), names)
print()
print(json.dumps([list(map(float, vector)) for vector in names["vectors"]]))
"""


def test_every_block_that_is_to_run_is_found():
    assert len(BLOCKS) == PAGE.count("```python run") == 8


@pytest.mark.parametrize("client", BLOCKS)
def test_a_block_of_the_page_runs_as_it_stands(client, clients_python, server, encoder, expected, tmp_path):
    (tmp_path / "cat.png").write_bytes(expected.pictures[0])
    code = BLOCKS[client].replace("http://localhost:8080", server.url)
    environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HAYSTACK_TELEMETRY_ENABLED": "False"}
    command = [str(clients_python), "-I", "-c", RUNNER]
    printed = run(command, env=environ, cwd=tmp_path, input=json.dumps([code, KEY]), timeout=200)
    vectors = np.array(json.loads(printed.splitlines()[-1]))
    rows = np.concatenate([encoder.encode_text(["a red bicycle"]), expected.images[:1]])
    assert len(vectors) == 1 + ("cat.png" in code)
    np.testing.assert_allclose(vectors, rows[: len(vectors)], atol=1e-6)
