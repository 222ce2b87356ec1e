"""What holds for the files of the page as they are written, without a browser."""

import re
from pathlib import Path

import pytest

import jclip_connectors.server

FOLDER = Path(jclip_connectors.server.__file__).parent / "ui"
PAGE, STYLE, SCRIPT = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js"))

WAYS_IN = (
    "innerHTML", "outerHTML", "insertAdjacentHTML", "setHTML", "srcdoc", "DOMParser", "createContextualFragment",
    "document.write", "eval(", "Function(", "javascript:", "cssText", "localStorage", "window.open",
)  # fmt: skip


@pytest.mark.parametrize("name", WAYS_IN)
def test_the_script_has_no_way_for_text_to_become_code_or_markup(name):
    assert name not in SCRIPT
    assert name not in PAGE


def test_the_page_has_no_styles_or_handlers_in_its_tags_and_no_script_of_its_own():
    assert not re.findall(r"<[^>]*\s(?:style|on\w+)\s*=", PAGE)
    assert "<style" not in PAGE
    assert re.findall(r"<script[^>]*>([^<]*)</script>", PAGE) == [""]


def test_nothing_comes_from_elsewhere():
    for text in (PAGE, STYLE, SCRIPT):
        assert not re.findall(r"https?:|\burl\(|@import|\bimport\b", text)
        assert not re.findall(r"""["'(]//\w""", text)


def test_every_id_that_the_script_asks_for_is_in_the_page():
    ids = re.findall(r'\bid="([^"]+)"', PAGE)
    asked = set(re.findall(r'\$\("([^"]+)"\)', SCRIPT))
    assert len(ids) == len(set(ids))
    assert asked <= set(ids)
    assert set(re.findall(r'(?:aria-\w+|for)="([a-z-]+)"', PAGE)) & {"results", "filter-panel", "key"} <= set(ids)


def test_the_page_is_light():
    assert sum(len(text.encode()) for text in (PAGE, STYLE, SCRIPT)) <= 40_000
