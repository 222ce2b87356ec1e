"""The environments with the engines of others, and with this package."""

from pathlib import Path

import uv

from tests.environments import ROOT, environment, run


def engine_python(name):
    """Build the environment of a file with requirements once, and give its Python."""
    python = environment(f"engines-{name}", Path(__file__).parent / f"{name}.txt")
    if not list(python.parents[1].glob("lib/*/site-packages/jclip_connectors-*")):
        command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--python", str(python), "--no-deps", "--editable"]
        run([*command, str(ROOT)], timeout=300)
    return python
