"""The search page in a browser, over the gallery of the demo."""

import dataclasses
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core_encoder.tiling import Tiling
from jclip_connectors.cli.contact_sheet import Section
from jclip_connectors.collection import MultimodalCollection
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.local import LocalEmbedder
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.server.limits import ServerLimits
from jclip_connectors.server.page_app import create_page_app
from jclip_connectors.server.ui.gallery import Shown
from tests.ui.browsing import Visit, chromium, drop, paste, playwright, served

pytestmark = pytest.mark.slow

CONFIG = EmbeddingConfig(model="nano", tiling=Tiling(max_tiles=16))
RING = "a small orange ring"
TOKEN = "a token of the tests"  # noqa: S105
TEXTS = [f"a {colour} {shape}" for colour in ("red", "blue", "orange") for shape in ("ring", "star", "circle", "moon")]


@pytest.fixture(scope="session")
def browser():
    path = chromium()
    with playwright().sync_playwright() as driver:
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        running = driver.chromium.launch(executable_path=path, args=options)
        yield running
        running.close()


@pytest.fixture(scope="session")
def expect(browser):  # noqa: ARG001 (Playwright can be imported then)
    found = playwright().expect
    found.set_options(timeout=20_000)
    return found


@dataclasses.dataclass(frozen=True)
class Demo:
    """The gallery of the demo: its answers, its folder, and its records in memory, with further fields."""

    answers: list[Section]
    folder: Path
    store: InMemoryStore

    @property
    def shown(self):
        return Shown(store=self.store, config=CONFIG, name="demo", roots=(self.folder,), token=TOKEN)

    def answer(self, heading):
        (found,) = [each for each in self.answers if each.heading == heading]
        return found

    def right(self, heading):
        return {Path(path).name for path in self.answer(heading).right_ids}

    def first(self, heading):
        return Path(self.answer(heading).hits[0].uri).name

    def read(self, name):
        return (self.folder / name).read_bytes()


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    from jclip_connectors.cli.demo import run_demo
    from jclip_connectors.edge import QdrantEdgeStore

    folder = tmp_path_factory.mktemp("demo").resolve()
    done = run_demo(folder)
    store = InMemoryStore(CONFIG)
    (collection,) = folder.glob("*.jclip")
    with QdrantEdgeStore.open(collection, CONFIG, read_only=True) as indexed:
        for number, record in enumerate(sorted(indexed.scroll(), key=lambda record: record.record_id)):
            kind = "canvas" if "canvas" in done.captions[record.record_id] else "scene"
            further = {"year": 2000 + number % 25, "kind": kind, "draft": number % 3 == 0}
            store.upsert([dataclasses.replace(record, metadata={**record.metadata, **further})])
    MultimodalCollection(LocalEmbedder(CONFIG, device="cpu"), store).add_texts(TEXTS, ids=TEXTS)
    return Demo(answers=list(done.answers), folder=folder / "pictures", store=store)


@pytest.fixture(scope="session")
def server(demo, model):
    with served(create_page_app(demo.shown, lambda: model, limits=ServerLimits())) as url:
        yield url


@pytest.fixture
def visits(browser):
    opened = []

    def visit(url, **options):
        opened.append(Visit(browser, url, **options))
        return opened[-1]

    yield visit
    for each in opened:
        each.check()
        each.context.close()


@pytest.fixture
def visit(visits, server):
    visit = visits(server)
    visit.open(f"/ui#t={TOKEN}")
    return visit


def names(page):
    return page.locator("#hits li:not([hidden]) .name").all_inner_texts()


def bounds(locator):
    box = locator.bounding_box()
    return box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]


def orange_part(path):
    """Where the orange pixels of a picture lie, as parts of its sides: left, top, right, bottom."""
    red, green, blue = np.moveaxis(np.asarray(Image.open(path).convert("RGB"), dtype=int), 2, 0)
    rows, columns = np.nonzero((red > 200) & (green > 90) & (green < 190) & (blue < 70))
    height, width = red.shape
    return columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height


def drag(page, part):
    """Draw a region over the large picture."""
    left, top, right, bottom = bounds(page.locator("#stage"))
    width, height = right - left, bottom - top
    page.mouse.move(left + part[0] * width, top + part[1] * height)
    page.mouse.down()
    page.mouse.move(left + part[2] * width, top + part[3] * height, steps=4)
    page.mouse.up()


def test_a_text_finds_the_small_object_and_its_tile_is_outlined(visit, demo, expect):
    visit.search(RING)
    page, first = visit.page, visit.page.locator("#hits li").first
    expect(first.locator(".box")).to_be_visible()
    assert names(page)[0] in demo.right(RING)
    left, top, right, bottom = bounds(first.locator(".shot"))
    outline = bounds(first.locator(".box"))
    ring = orange_part(demo.folder / names(page)[0])
    slack = 2  # pixels of the screen
    assert outline[0] - slack <= left + ring[0] * (right - left)
    assert outline[1] - slack <= top + ring[1] * (bottom - top)
    assert outline[2] + slack >= left + ring[2] * (right - left)
    assert outline[3] + slack >= top + ring[3] * (bottom - top)
    assert (outline[2] - outline[0]) < 0.3 * (right - left)


def test_every_language_finds_a_right_picture_first(visit, demo, expect):
    texts = [answer.heading for answer in demo.answers if answer.query_image is None]
    assert len(texts) == 7
    for text in texts:
        visit.search(text)
        expect(visit.page).to_have_title(f"{text} · demo")
        expect(visit.page.get_by_role("status")).to_contain_text("100 results")
        assert names(visit.page)[0] in demo.right(text)


@pytest.mark.parametrize("give", [drop, paste])
def test_a_picture_finds_itself_first(visit, demo, expect, give):
    give(visit.page, demo.read("010.png"), "mine.png")
    expect(visit.page.locator("#question")).to_contain_text("mine.png")
    first = visit.page.locator("#hits li").first
    expect(first).to_contain_text("010.png")
    expect(first.locator(".score")).to_have_text("1.000")


def test_a_picture_from_a_file_finds_itself_first(visit, demo, expect):
    with visit.page.expect_file_chooser() as chosen:
        visit.page.get_by_role("button", name="Picture…").click()
    chosen.value.set_files(demo.folder / "011.png")
    expect(visit.page.locator("#hits li").first).to_contain_text("011.png")


def test_a_region_of_a_dropped_picture_finds_where_it_lies(visit, demo, expect):
    canvas = demo.first(RING)
    drop(visit.page, demo.read(canvas), "mine.png")
    visit.page.get_by_role("button", name="Select a region").click()
    left, top, right, bottom = orange_part(demo.folder / canvas)
    across, down = np.floor(4 * (left + right) / 2) / 4, np.floor(4 * (top + bottom) / 2) / 4
    drag(visit.page, (across, down, across + 0.25, down + 0.25))
    visit.page.get_by_role("button", name="Search this region").click()
    expect(visit.page.locator("#question")).to_contain_text("A region of mine.png")
    expect(visit.page.locator("#question .box")).to_be_visible()
    first = visit.page.locator("#hits li").first
    expect(first).to_contain_text(canvas)
    assert float(first.locator(".score").inner_text()) > 0.98
    expect(first.locator(".box")).to_be_visible()  # the whole picture would find itself as a whole


def test_a_region_of_a_result_is_drawn_or_moved_by_keys(visit, demo, expect):
    canvas = demo.first(RING)
    visit.search(RING)
    page = visit.page
    page.locator(".card").first.focus()
    page.keyboard.press("r")
    region = page.get_by_role("application")
    expect(region).to_be_focused()
    before = bounds(region)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    moved = bounds(region)
    assert moved[1] < before[1] - 5
    assert moved[0] > before[0] + 5
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowUp")
    sized = bounds(region)
    assert sized[2] < moved[2] - 5
    assert sized[3] < moved[3] - 5
    assert sized[:2] == pytest.approx(moved[:2], abs=1)
    page.keyboard.press("Enter")
    expect(page.locator("#question")).to_contain_text(f"A region of {canvas}")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("#hits li").first).to_contain_text(canvas)  # the whole picture is a result of its region


def test_more_like_this_leaves_the_record_itself_out(visit, expect):
    page = visit.page
    visit.search(RING)
    expect(page.locator("#hits li")).to_have_count(100)
    first = names(page)[0]
    page.locator(".card").first.focus()
    page.keyboard.press("m")
    expect(page.locator("#question")).to_contain_text(f"Like {first}")
    expect(page.get_by_role("status")).to_contain_text("results")
    assert first not in names(page)
    second = names(page)[0]
    page.locator(".card").first.click()
    page.get_by_role("button", name="More like this").click()
    expect(page.locator("#question")).to_contain_text(f"Like {second}")
    page.locator("#hits li").nth(2).hover()
    third = names(page)[2]
    page.get_by_role("button", name=f"Similar: {third}").click()
    expect(page.locator("#question")).to_contain_text(f"Like {third}")


def test_filters_are_made_from_the_fields_of_the_collection(visit, expect):
    page = visit.page
    visit.search(RING)
    page.get_by_role("button", name="Filters").click()
    page.get_by_role("checkbox", name="canvas").check()
    expect(page.get_by_role("status")).to_contain_text("26 results")
    expect(page.get_by_role("button", name="Filters (1)")).to_be_visible()
    expect(page.get_by_role("checkbox", name="canvas")).to_be_focused()
    page.get_by_role("combobox", name="draft").select_option("yes")
    page.get_by_role("spinbutton", name="year from").fill("2010")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Filters (3)")).to_be_visible()
    raw = page.get_by_role("textbox", name="As JSON")
    assert json.loads(raw.input_value()) == {"kind": {"in": ["canvas"]}, "draft": True, "year": {"gte": 2010}}
    page.locator("#hits li .card").first.click()
    expect(page.locator("#facts")).to_contain_text("canvas")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Clear all").click()
    expect(page.get_by_role("status")).to_contain_text("100 results")
    expect(page.get_by_role("checkbox", name="canvas")).not_to_be_checked()


def test_a_filter_can_be_written_as_json_and_its_errors_are_under_it(visit, expect):
    page = visit.page
    visit.expected = ("status of 400",)
    visit.search(RING)
    page.get_by_role("button", name="Filters").click()
    raw, error = page.get_by_role("textbox", name="As JSON"), page.locator("#where-error")
    raw.fill('{"year": ')
    page.get_by_role("button", name="Apply JSON").click()
    expect(error).to_contain_text("not a JSON object")
    raw.fill("[1]")
    page.get_by_role("button", name="Apply JSON").click()
    expect(error).to_contain_text("not a JSON object")
    raw.fill('{"year": {"above": 3}}')
    page.get_by_role("button", name="Apply JSON").click()
    expect(error).to_contain_text("unknown operator")
    raw.fill('{"or": [{"year": {"lt": 2001}}, {"kind": "nowhere"}]}')
    page.get_by_role("button", name="Apply JSON").click()
    expect(error).to_be_empty()
    expect(page.get_by_role("status")).to_contain_text("results")
    assert 0 < page.locator("#hits li").count() < 20
    raw.fill('{"kind": "nowhere"}')
    page.get_by_role("button", name="Apply JSON").click()
    expect(page.get_by_role("heading", name="Nothing was found")).to_be_visible()
    page.get_by_role("button", name="Clear the filters").click()
    expect(page.locator("#hits li")).to_have_count(100)


def test_the_slider_hides_results_and_asks_nothing(visit, expect):
    page = visit.page
    visit.search(RING)
    expect(page.locator("#hits li")).to_have_count(100)
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "search" in request.url else None)
    page.get_by_role("slider").fill("0.3")
    shown = len(names(page))
    assert 0 < shown < 20
    assert min(map(float, page.locator("#hits li:not([hidden]) .score").all_inner_texts())) >= 0.3
    expect(page.get_by_role("status")).to_contain_text(f"{shown} of 100 results")
    assert not asked
    page.reload()
    expect(page.get_by_role("status")).to_contain_text(f"{shown} of 100 results")


def test_all_results_are_shown_when_the_reader_comes_to_the_end(visit, expect):
    visit.search(RING)
    expect(visit.page.locator("#hits li")).to_have_count(100)
    visit.page.locator("#hits li").last.scroll_into_view_if_needed()
    expect(visit.page.locator("#hits li")).to_have_count(152)
    assert len(set(names(visit.page))) == 152


def test_everything_can_be_done_by_keys(visit, demo, expect):
    page = visit.page
    canvas = demo.first(RING)
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type(RING)
    page.keyboard.press("Enter")
    cards = page.locator(".card")
    expect(cards).to_have_count(100)
    order = []
    for _ in range(7):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert order == ["main", "choose", "help", "tab-image", "filters", "least", "card"]
    expect(cards.first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(cards.nth(1)).to_be_focused()
    page.keyboard.press("ArrowDown")
    columns = page.evaluate("getComputedStyle(document.getElementById('hits')).gridTemplateColumns.split(' ').length")
    expect(cards.nth(1 + columns)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")  # nothing is before the first
    expect(cards.first).to_be_focused()
    page.keyboard.press("End")
    expect(cards.last).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=canvas)
    expect(dialog).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#detail-name")).not_to_have_text(canvas)
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    expect(cards.nth(1)).to_be_focused()
    page.keyboard.press("t")
    expect(page.get_by_role("tab", name="Texts 12")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("i")
    expect(page.get_by_role("tab", name="Images 152")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()


def test_texts_are_on_a_tab_of_their_own(visit, expect):
    page = visit.page
    visit.search("a blue star")
    page.get_by_role("tab", name="Texts 12").click()
    expect(page.locator("#hits li")).to_have_count(12)
    expect(page.locator("#hits li").first).to_contain_text("a blue star")
    page.locator(".card").first.click()
    expect(page.locator("#whole-text")).to_have_text("a blue star")
    expect(page.locator("#stage")).to_be_hidden()
    page.keyboard.press("m")
    expect(page.locator("#hits li")).to_have_count(11)
    page.get_by_role("tab", name="Texts 12").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("tab", name="Images 152")).to_be_focused()
    expect(page.locator("#hits li")).to_have_count(100)


def test_links_back_and_reload_keep_what_is_asked_for(visit, visits, server, demo, expect):
    page = visit.page
    visit.search(RING)
    expect(page.locator("#hits li")).to_have_count(100)
    first = names(page)[0]
    page.get_by_role("button", name="Filters").click()
    page.get_by_role("checkbox", name="canvas").check()
    expect(page.get_by_role("status")).to_contain_text("26 results")
    page.reload()
    expect(page.get_by_role("status")).to_contain_text("26 results")
    expect(page.get_by_role("searchbox")).to_have_value(RING)
    link = page.url
    assert TOKEN not in link
    page.locator(".card").first.focus()
    page.keyboard.press("m")
    expect(page.locator("#question")).to_contain_text(f"Like {first}")
    page.reload()
    expect(page.locator("#question")).to_contain_text(f"Like {first}")
    page.go_back()
    expect(page.get_by_role("searchbox")).to_have_value(RING)
    expect(page.get_by_role("status")).to_contain_text("26 results")
    page.go_back()
    expect(page.get_by_role("status")).to_contain_text("100 results")
    drop(page, demo.read("010.png"), "mine.png")
    expect(page.locator("#question")).to_contain_text("mine.png")
    page.reload()
    expect(page.get_by_role("heading", name="The picture is no longer here")).to_be_visible()

    other = visits(server)
    other.open(link.removeprefix(server) + f"#t={TOKEN}")
    expect(other.page.get_by_role("status")).to_contain_text("26 results")
    assert names(other.page)[0] == first


def test_what_is_written_while_the_page_starts_is_kept(visits, server, expect):
    visit = visits(server)
    held = []
    visit.page.route("**/ui/info", lambda route: held.append(route), times=1)
    visit.open(f"/ui#t={TOKEN}")
    visit.page.wait_for_timeout(300)
    visit.page.get_by_role("searchbox").fill(RING)
    assert len(held) == 1
    held[0].continue_()
    expect(visit.page.get_by_role("heading", level=1)).to_have_text("demo")
    expect(visit.page.get_by_role("searchbox")).to_have_value(RING)
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("#hits li")).to_have_count(100)


def test_a_late_answer_does_not_overwrite_a_newer_one(visit, expect):
    page = visit.page
    held = []

    def hold(route):
        if RING in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    page.route("**/ui/search", hold)
    visit.search(RING)
    visit.search("a blue square")
    expect(page.locator("#hits li")).to_have_count(100)
    found = names(page)
    assert len(held) == 1
    held[0].fulfill(json={"hits": [], "took_ms": 1})
    page.wait_for_timeout(300)
    assert names(page) == found
    expect(page.get_by_role("searchbox")).to_have_value("a blue square")


def test_a_busy_server_is_asked_once_more(visit, expect):
    page = visit.page
    visit.expected = ("status of 429",)
    refusals = [1, 1, 1]

    def refuse(route):
        if refusals:
            refusals.pop()
            body = json.dumps({"detail": "the queue is full"})
            route.fulfill(status=429, headers={"Retry-After": "1"}, body=body, content_type="application/json")
        else:
            route.continue_()

    page.route("**/ui/search", refuse)
    visit.search(RING)
    expect(page.get_by_role("status")).to_contain_text("busy")
    expect(page.get_by_text("the queue is full")).to_be_visible()
    assert len(refusals) == 1  # it was asked once more, and not again
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#hits li")).to_have_count(100)


def test_without_the_server_the_page_says_what_to_do(visit, expect):
    page = visit.page
    visit.expected = ("ERR_FAILED",)
    page.route("**/ui/search", lambda route: route.abort())
    visit.search(RING)
    expect(page.get_by_role("heading", name="The server does not answer")).to_be_visible()
    page.unroute("**/ui/search")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#hits li")).to_have_count(100)


def test_a_search_waits_for_the_model_and_similar_records_need_none(visits, demo, model, expect):
    go_on = threading.Event()

    def load():
        go_on.wait(60)
        return model

    with served(create_page_app(demo.shown, load, limits=ServerLimits())) as url:
        visit = visits(url)
        visit.expected = ("status of 503",)
        page = visit.open(f"/ui#t={TOKEN}")
        visit.search(RING)
        expect(page.get_by_role("status")).to_contain_text("The model is loading")
        go_on.set()
        expect(page.locator("#hits li")).to_have_count(100)
        page.goto("about:blank")


def test_the_page_opens_with_the_token_or_asks_for_a_key(visits, server, expect):
    visit = visits(server)
    visit.expected = ("status of 401",)
    page = visit.open("/ui")
    door = page.get_by_role("dialog", name="This page needs a key")
    expect(door).to_be_visible()
    expect(door.get_by_label("Key")).to_be_focused()
    door.get_by_label("Key").fill("a wrong key")
    page.keyboard.press("Enter")
    expect(door).to_contain_text("This key is not right")
    page.keyboard.press("Escape")
    expect(door).to_be_visible()
    door.get_by_label("Key").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("tab", name="Images 152")).to_be_visible()
    expect(door).to_be_hidden()
    page.reload()
    expect(page.get_by_role("tab", name="Images 152")).to_be_visible()

    other = visits(server)
    other.expected = ("status of 401",)
    page = other.open("/ui#t=wrong")
    expect(page.get_by_role("dialog", name="This page needs a key")).to_be_visible()
    page.evaluate(f"location.hash = 't={TOKEN}'")  # as if the new address was pasted
    expect(page.get_by_role("tab", name="Images 152")).to_be_visible()
    assert "#" not in page.url


def test_an_empty_collection_says_how_to_fill_it(visits, model, expect):
    shown = Shown(store=InMemoryStore(CONFIG), config=CONFIG, name="empty", token=TOKEN)
    with served(create_page_app(shown, lambda: model, limits=ServerLimits())) as url:
        visit = visits(url)
        page = visit.open(f"/ui#t={TOKEN}")
        expect(page.get_by_role("heading", name="This collection is empty")).to_be_visible()
        expect(page.get_by_text("jclip index")).to_be_visible()
        page.goto("about:blank")


def test_a_picture_that_is_gone_is_a_placeholder(visits, demo, model, expect, tmp_path):
    path = tmp_path / "gone.png"
    path.write_bytes(demo.read("010.png"))
    collection = MultimodalCollection(LocalEmbedder(CONFIG, device="cpu"), InMemoryStore(CONFIG))
    collection.add_images([path])
    collection.add_texts(["a text"])
    path.unlink()
    shown = Shown(store=collection.store, config=CONFIG, name="gone", token=TOKEN)
    with served(create_page_app(shown, lambda: model, limits=ServerLimits())) as url:
        visit = visits(url)
        visit.expected = ("status of 404",)
        page = visit.open(f"/ui#t={TOKEN}")
        visit.search(RING)
        expect(page.locator("#hits li")).to_contain_text("This picture cannot be shown")
        page.locator(".card").click()
        expect(page.locator("#no-picture")).to_be_visible()
        expect(page.get_by_role("button", name="Select a region")).to_be_hidden()
        page.goto("about:blank")


HOSTILE = [
    "<img src=x onerror=alert(1)>&\"' star.png",
    "javascript:alert(1).png",
    "line\nbreak.png",
    "\u202egnp.exe.png",
    "</span><script>alert(1)<",
    "x" * 250 + ".png",
    "a'b\"c`d.png",
    "%2e%2e%2f&id=1#t.png",
    "\x01\x1b[31m.png",
    "${alert(1)}{{7*7}}.png",
]


def test_hostile_names_metadata_and_texts_are_shown_and_nothing_runs(visits, demo, model, expect, tmp_path):
    collection = MultimodalCollection(LocalEmbedder(CONFIG, device="cpu"), InMemoryStore(CONFIG))
    evil = "<svg onload=alert(1)>\"'"
    metadatas = [{evil: evil, "__proto__": {"tab": "x"}, "constructor": name, "list": [evil]} for name in HOSTILE]
    paths = []
    for number, name in enumerate(HOSTILE):
        path = tmp_path / name.replace("/", "_")
        path.write_bytes(demo.read(f"{number:03}.png"))
        paths.append(path)
    collection.add_images(paths, metadatas)
    collection.add_texts([f"<b onclick=alert(1)>{name}</b>" for name in HOSTILE], metadatas)
    shown = Shown(store=collection.store, config=CONFIG, name=evil, token=TOKEN)
    with served(create_page_app(shown, lambda: model, limits=ServerLimits())) as url:
        visit = visits(url)
        page = visit.open(f"/ui#t={TOKEN}")
        expect(page.get_by_role("heading", level=1)).to_have_text(evil)
        visit.search("<img src=x onerror=alert(1)>")
        expect(page.locator("#hits li")).to_have_count(len(HOSTILE))
        texts = page.locator("#hits .name").evaluate_all("all => all.map((each) => each.textContent)")
        assert set(texts) == {path.name for path in paths}
        for number in range(len(HOSTILE)):
            expect(page.locator("#hits img").nth(number)).to_have_js_property("complete", value=True)
        assert page.evaluate("document.querySelectorAll('script, svg, #hits b, [onerror], [onclick]').length") == 1
        page.locator(".card").first.click()
        expect(page.locator("#facts")).to_contain_text(evil)
        page.keyboard.press("m")
        expect(page.locator("#question")).to_be_visible()
        page.get_by_role("button", name="Filters").click()
        page.get_by_role("group", name="constructor").get_by_role("checkbox").first.check()
        expect(page.get_by_role("button", name="Filters (1)")).to_be_visible()
        page.get_by_role("tab", name="Texts").click()
        expect(page.locator("#hits li").first).to_contain_text("<b onclick=alert(1)>")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.goto("about:blank")


@pytest.mark.parametrize("width", [320, 640])
def test_a_narrow_page_never_scrolls_sideways(visits, server, expect, width):
    visit = visits(server, viewport={"width": width, "height": 640}, has_touch=True)
    page = visit.open(f"/ui#t={TOKEN}")
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert page.evaluate(fits)
    visit.search(RING)
    expect(page.locator("#hits li")).to_have_count(100)
    assert page.evaluate(fits)
    page.get_by_role("button", name="Filters").click()
    assert page.evaluate(fits)
    page.get_by_role("button", name="Filters").click()
    page.locator(".card").first.click()
    inside = "(() => { const d = document.getElementById('detail'); return d.scrollWidth <= d.clientWidth; })()"
    assert page.evaluate(fits)
    assert page.evaluate(inside)
    page.keyboard.press("r")
    assert page.evaluate(inside)
    page.get_by_role("button", name="Search this region").click()
    expect(page.locator("#question")).to_be_visible()
    assert page.evaluate(fits)


@pytest.mark.parametrize(("scheme", "page_is_dark"), [("light", False), ("dark", True)])
def test_the_page_follows_the_colours_of_the_system(visits, server, expect, scheme, page_is_dark):
    visit = visits(server, color_scheme=scheme)
    page = visit.open(f"/ui#t={TOKEN}")
    expect(page.get_by_role("tab", name="Images 152")).to_be_visible()
    rgb = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(rgb) < 80) is page_is_dark


def test_nothing_jumps_while_pictures_load(visit, expect):
    page = visit.page
    page.route("**/ui/thumb/**", lambda _: None)  # they never come
    visit.search(RING)
    expect(page.locator("#hits li")).to_have_count(100)
    without = bounds(page.locator("#hits li").nth(7))
    page.unroute("**/ui/thumb/**")
    visit.search(RING)
    expect(page.locator("#hits img").nth(7)).to_have_js_property("complete", value=True)
    assert bounds(page.locator("#hits li").nth(7)) == without


def test_results_have_roles_and_names_for_a_screen_reader(visit, expect):
    page = visit.page
    expect(page.get_by_role("search")).to_be_visible()
    expect(page.get_by_role("tablist", name="What to show")).to_be_visible()
    visit.search(RING)
    expect(page.get_by_role("list", name="Results").get_by_role("listitem")).to_have_count(100)
    first = page.locator(".card").first
    name, score = first.locator(".name").inner_text(), first.locator(".score").inner_text()
    expect(page.get_by_role("button", name=f"{name} {score}", exact=True)).to_be_visible()
    expect(page.get_by_role("tabpanel", name="Images 152")).to_be_visible()
    expect(page.get_by_role("slider", name="Score")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("100 results")
    first.click()
    expect(page.get_by_role("dialog", name=name).get_by_role("img", name=name)).to_be_visible()
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select, textarea')].filter((each) => each.checkVisibility() && "
        "!(each.ariaLabel || each.textContent.trim() || each.labels?.length)).map((each) => each.outerHTML)"
    )
    assert unnamed == []
