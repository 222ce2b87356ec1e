"""The pictures of the pages are what the script draws today, and the table on the page is what it measures."""

import importlib.util
import re
from typing import Any

import numpy as np
import pytest

from core_encoder import JinaClipEncoder
from tests.docs.blocks import DOCS

SCREENSHOTS = {"demo-sheet.png", "demo-terminal.png", "search-page.png"}  # made in a browser: docs/screenshots.py
LARGEST_BYTES = 150_000


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def encoder():
    return JinaClipEncoder.load("nano", device="cpu", local_files_only=True)


@pytest.fixture(scope="module")
def measured(script, encoder):
    return script.measure(encoder)


@pytest.fixture(scope="module")
def drawn(script, encoder, measured):
    return script.draw_all(encoder, measured)


def test_the_pictures_are_those_that_the_script_draws(script, drawn):
    committed = {path.name: path.read_bytes() for path in (DOCS / "pictures").glob("*.png")}
    assert set(committed) == set(drawn) | SCREENSHOTS
    for name, content in drawn.items():
        now, then = script.as_pixels(content), script.as_pixels(committed[name])
        assert now.shape == then.shape, name
        # Another machine rounds differently, which may turn a label's last digit; not a line, a tile or a colour.
        assert np.abs(now - then).mean() < 0.5, f"{name}: run docs/pictures.py and look at it"


def test_pictures_are_small():
    for path in (DOCS / "pictures").glob("*.png"):
        assert path.stat().st_size < LARGEST_BYTES, path.name


def test_the_table_of_shortened_vectors_is_what_is_measured(measured):
    page = (DOCS / "shortened-vectors.md").read_text()
    lengths = re.search(r"^\| values \| (.*) \|$", page, re.MULTILINE)
    shares = re.search(r"^\| right picture first \| (.*) \|$", page, re.MULTILINE)
    assert lengths is not None
    assert shares is not None
    told = {
        int(length): int(share.removesuffix(" %"))
        for length, share in zip(lengths[1].split(" | "), shares[1].split(" | "), strict=True)
    }
    assert set(told) == set(measured)
    for length, share in measured.items():
        assert abs(told[length] - 100 * share) < 2, length


def test_every_picture_is_on_a_page():
    pages = "".join(path.read_text() for path in DOCS.rglob("*.md"))
    for path in (DOCS / "pictures").glob("*.png"):
        assert f"pictures/{path.name})" in pages, path.name
