"""The contact sheet: whole, harmless, and honest about where the tile is."""

import base64
import re
from html.parser import HTMLParser
from io import BytesIO

import pytest
from PIL import Image

from core_encoder.tiling import Box
from jclip_connectors.cli.contact_sheet import Section, write_contact_sheet
from jclip_connectors.port import SearchHit

EVIL = """<img src=x onerror=alert(1)>'">&</title><script>alert(2)</script>"""


class Page(HTMLParser):
    """Every element of a page, as (tag, attributes), and its text."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.text = [], ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def hit(path, **fields):
    given = {"score": 0.5, "record_id": str(path), "modality": "image", "metadata": {}, "uri": str(path), **fields}
    return SearchHit(**given)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (400, 200), (10, 200, 30)).save(path)
    return path


@pytest.fixture
def sheet(tmp_path):
    def write(*sections, title="results", **options):
        write_contact_sheet(tmp_path / "sheet.html", title, sections, **options)
        return Page(tmp_path / "sheet.html")

    return write


def test_pictures_are_in_the_page_itself(sheet, photo):
    page = sheet(Section(heading="green", hits=[hit(photo, score=0.12345)], query_image=photo))
    query, found = page.all("img")
    for image in (query, found):
        scheme, data = image["src"].split(",", 1)
        assert scheme == "data:image/jpeg;base64"
        with Image.open(BytesIO(base64.b64decode(data))) as thumbnail:
            assert thumbnail.size == (400, 200)
        assert int(image["width"]) == 2 * int(image["height"])
    assert found["alt"] == "Result 1: photo.png"
    assert "0.1235" in page.text or "0.1234" in page.text


def test_a_large_picture_becomes_a_thumbnail(sheet, tmp_path):
    Image.new("RGB", (3000, 1000)).save(tmp_path / "large.png")
    page = sheet(Section(heading="", hits=[hit(tmp_path / "large.png")]))
    assert len(page.source) < 20_000


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(sheet, photo):
    page = sheet(Section(heading="green", hits=[hit(photo, box=Box(0, 0, 200, 200))]))
    assert not {"script", "link", "iframe", "object", "a", "form", "base"} & {tag for tag, _ in page.elements}
    (policy,) = [meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not re.search(r"url\(|@import|https?:", page.source)
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:").startswith("data:")


def test_text_from_anywhere_stays_text(sheet, tmp_path, photo):
    evil = tmp_path / EVIL.replace("/", "∕")
    evil.write_bytes(photo.read_bytes())
    page = sheet(
        Section(heading=EVIL, hits=[hit(evil), hit("x", uri=None, modality="text", content=EVIL)], query_image=evil),
        Section(heading="gone", hits=[hit(tmp_path / EVIL)]),
        title=EVIL,
    )
    assert page.all("script") == []
    assert all(image["src"].startswith("data:") and "onerror" not in image for image in page.all("img"))
    assert len(page.all("img")) == 2
    assert page.text.count(EVIL) >= 4  # title, headline, heading, content


def test_the_winning_tile_is_outlined_where_it_is(sheet, photo):
    page = sheet(Section(heading="", hits=[hit(photo, box=Box(100, 0, 300, 150))]))
    (outline,) = page.all("i")
    assert outline["style"] == "left:25.00%;top:0.00%;width:50.00%;height:75.00%"
    assert "100, 0 to 300, 150" in page.all("img")[0]["alt"]


@pytest.mark.parametrize("box", [None, Box(0, 0, 400, 200)])
def test_the_whole_picture_is_not_outlined(sheet, photo, box):
    assert sheet(Section(heading="", hits=[hit(photo, box=box)])).all("i") == []


def test_a_turned_picture_is_turned_as_its_boxes_are(sheet, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (400, 200)).save(tmp_path / "turned.jpg", exif=exif)
    section = Section(heading="", hits=[hit(tmp_path / "turned.jpg", box=Box(0, 0, 200, 100))])
    (turned,), (flat,) = (sheet(section, rendering=how).all("img") for how in ("as_seen", "as_stored"))
    assert int(turned["height"]) == 2 * int(turned["width"])
    assert int(flat["width"]) == 2 * int(flat["height"])


def test_a_picture_that_is_gone_or_damaged_becomes_a_placeholder(sheet, tmp_path):
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    page = sheet(Section(heading="", hits=[hit(tmp_path / "gone.png"), hit(tmp_path / "damaged.png")]))
    assert page.text.count("cannot be read any more") == 2
    assert "gone.png" in page.text


def test_right_answers_are_marked_where_they_are_known(sheet, photo):
    hits = [hit(photo), hit(photo, record_id="other")]
    assert sheet(Section(heading="", hits=hits, right_ids={str(photo)})).text.count("✓ right") == 1
    assert "✓" not in sheet(Section(heading="", hits=hits)).text


def test_a_long_text_is_cut_and_an_empty_result_said(sheet):
    page = sheet(
        Section(heading="", hits=[hit("x", uri=None, modality="text", content="word " * 1000)]),
        Section(heading="", hits=[]),
    )
    assert page.text.count("word") == 80
    assert "…" in page.text
    assert "Nothing was found" in page.text


def test_a_name_that_is_not_unicode_can_be_written(sheet, tmp_path):
    assert r"\udcff" in sheet(Section(heading="a\udcff", hits=[hit(tmp_path / "\udcff.png")])).text


def test_an_earlier_page_stays_when_the_new_one_cannot_be_made(sheet, tmp_path, monkeypatch):
    sheet(Section(heading="first", hits=[]))
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        sheet(Section(heading="second", hits=[]))
    assert "first" in (tmp_path / "sheet.html").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.html"]


FORBIDDEN = [*range(0x09), 0x0B, *range(0x0D, 0x20), *range(0x7F, 0xA0), *range(0xFDD0, 0xFDF0), 0xFFFE, 0x10FFFF]


def test_characters_that_a_page_must_not_contain_are_shown_instead(sheet):
    every = "".join(map(chr, FORBIDDEN))
    metadata, content = {"path": f"/a/{every}.txt"}, f"a red{every} triangle"
    found = SearchHit(score=0.5, record_id="a", modality="text", metadata=metadata, content=content)
    page = sheet(Section(heading=every, hits=[found]), title=every)
    assert not any(chr(code) in page.source for code in FORBIDDEN)
    assert "\u2400\u2401" in page.text
    assert "\u241b" in page.text  # escape
    assert "\u2421\\x80" in page.text
    assert "\\U0010ffff" in page.text
    assert "a red" in page.text


def test_lines_and_letters_of_all_languages_stay_as_they_are(sheet):
    text = "a\n\tb \u05e9\u05dc\u05d5\u05dd \u8d64 \U0001f469\u200d\U0001f680 \u0646\u200c\u0645"
    hit = SearchHit(score=0.5, record_id="a", modality="text", metadata={}, content=text)
    assert text in sheet(Section(heading="x", hits=[hit])).text
