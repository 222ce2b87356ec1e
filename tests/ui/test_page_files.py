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


def colours():
    """The colours of both schemes: by scheme, each variable with (red, green, blue) from 0 to 1."""
    schemes = re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL)
    assert len(schemes) == 2
    found = []
    for scheme in schemes:
        values = re.findall(r"--([\w-]+): #([0-9a-f]+);", scheme)
        wide = {name: "".join(2 * digit for digit in value) if len(value) == 3 else value for name, value in values}
        found.append(
            {name: tuple(int(value[at : at + 2], 16) / 255 for at in (0, 2, 4)) for name, value in wide.items()}
        )
    return found


def luminance(colour):
    """Source: WCAG 2.2, "relative luminance"."""
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one, other):
    """Source: WCAG 2.2, "contrast ratio"."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", colours(), ids=["light", "dark"])
def test_text_and_edges_have_the_contrast_that_wcag_asks_for(scheme):
    for ground in ("page", "card", "soft", "stage"):
        for text in ("ink", "quiet", "error"):
            assert contrast(scheme[text], scheme[ground]) >= 4.5, (text, ground)
        assert contrast(scheme["accent"], scheme[ground]) >= 3, ground  # the outline of what has the focus
    assert contrast(scheme["on-accent"], scheme["accent"]) >= 4.5
    for ground in ("page", "card"):
        assert contrast(scheme["edge"], scheme[ground]) >= 3, ground
