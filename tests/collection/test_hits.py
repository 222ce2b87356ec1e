"""The list of results that a search gives, and what a notebook shows of it."""

import base64
import copy
import io
import pickle
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from PIL import Image

from core_encoder.tiling import Box
from jclip_connectors.collection.hits import Hits
from jclip_connectors.port import SearchHit

EVIL = "<img src=x onerror=alert(1)>&\"' star.png"


def hit(number=1, **fields):
    return SearchHit(**{"score": 0.5, "record_id": f"id {number}", "modality": "text", "metadata": {}, **fields})


def hits(*found):
    return Hits(found, rendering="as_seen")


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / EVIL.replace("/", "_")
    Image.new("RGB", (800, 400), "red").save(path)
    return path


class Seen(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_hits_are_a_list_like_any_other():
    one, two = hit(1), hit(2)
    found = hits(one, two)
    assert found == [one, two]
    assert issubclass(type(found), list)
    assert found[:1] == [one]
    assert [*found] == [one, two]
    assert repr(found) == repr([one, two])
    copies: list[Any] = [copy.copy(found), copy.deepcopy(found), pickle.loads(pickle.dumps(found))]  # noqa: S301 (ours)
    for again in copies:
        assert again == found
        assert again._repr_html_() == found._repr_html_()


def test_a_notebook_shows_the_pictures_of_hits_without_other_files(picture):
    found = hits(hit(modality="image", uri=str(picture), box=Box(0, 0, 400, 400), score=0.25))
    seen = Seen(found._repr_html_())
    (image,) = [attributes for tag, attributes in seen.tags if tag == "img"]
    kind, content = image["src"].split(",", 1)
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as thumbnail:
        assert thumbnail.size == (400, 200)
    (outline,) = [attributes["style"] for tag, attributes in seen.tags if tag == "i"]
    assert outline == "left:0.00%;top:0.00%;width:50.00%;height:100.00%"
    assert "0.2500" in seen.text
    assert EVIL in seen.text


def test_hostile_names_and_texts_are_text_in_a_notebook(picture):
    found = hits(
        hit(1, modality="image", uri=str(picture)),
        hit(2, content="<script>alert(1)</script>", metadata={"path": "<b>bold</b>"}),
        hit(3, record_id="</style><svg onload=alert(1)>\x00\u202e", content="</blockquote>"),
    )
    page = found._repr_html_()
    seen = Seen(page)
    assert {tag for tag, _ in seen.tags} <= {"div", "style", "ol", "li", "p", "b", "span", "img", "blockquote"}
    assert not [name for _, attributes in seen.tags for name in attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in seen.text
    assert page.count("</style>") == 1
    assert "\x00" not in page
    assert not re.findall(r"https?:|url\(|@import", page)


def test_a_picture_that_is_gone_has_a_placeholder(tmp_path):
    page = hits(hit(modality="image", uri=str(tmp_path / "gone.png")))._repr_html_()
    assert "cannot be read any more" in page


def test_a_notebook_shows_no_more_cards_than_a_person_looks_at():
    page = hits(*(hit(number, content="a text") for number in range(100)))._repr_html_()
    assert page.count("<li>") == 24
    assert "and 76 more" in page


def test_no_hits_say_that_nothing_was_found():
    assert "Nothing was found" in hits()._repr_html_()
