"""The routes of the search page, for programs and for the page: the same results as a search of the collection."""

import dataclasses
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from core_encoder.errors import CheckpointError
from jclip_connectors.identity import describe_image
from jclip_connectors.memory import InMemoryStore
from jclip_connectors.port import Record
from jclip_connectors.server.limits import ServerLimits
from jclip_connectors.server.page_app import create_page_app
from jclip_connectors.server.ui.gallery import Shown, describe_fields
from tests.server.harness import wait_until
from tests.ui.conftest import CONFIG, TEXTS

QUERY = "a small orange ring"
OCTETS = {"Content-Type": "application/octet-stream"}


def search(page, **request):
    answer = page.post("/ui/search", json=request)
    assert answer.status_code == 200, answer.text
    return answer.json()["hits"]


def search_picture(page, content, **query):
    answer = page.post("/ui/search", content=content, params=query, headers=OCTETS)
    assert answer.status_code == 200, answer.text
    return answer.json()["hits"]


def shown(path, content_hash=None):
    """A collection with one picture, whose vector is made up."""
    store = InMemoryStore(CONFIG)
    vector = np.eye(128, dtype=np.float32)[0]
    store.upsert([Record(record_id="a", modality="image", embedding=vector, uri=str(path), content_hash=content_hash)])
    return Shown(store=store, config=CONFIG, name="one")


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_text_finds_what_a_search_of_the_collection_finds(page, gallery, modality):
    expected = gallery.collection.search(QUERY, modality=modality, limit=9, group_duplicates=True)
    found = search(page, text=QUERY, modality=modality, limit=9)
    assert [hit["score"] for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-5)
    names = [hit.metadata["path"].rsplit("/")[-1] if hit.uri else hit.record_id for hit in expected]
    assert [hit["name"] for hit in found] == names


def test_the_box_of_the_nearest_tile_covers_the_small_object(page, gallery):
    first = search(page, text=QUERY, limit=1)[0]
    assert first["name"] == "canvas.png"
    with Image.open(gallery.canvas) as canvas:
        assert first["size"] == list(canvas.size)
    left, top, right, bottom = gallery.ring_box
    assert first["box"][0] <= left
    assert first["box"][1] <= top
    assert first["box"][2] >= right
    assert first["box"][3] >= bottom


def test_a_picture_finds_itself_and_its_region_finds_it_too(page, gallery):
    content = gallery.canvas.read_bytes()
    assert search_picture(page, content, limit=3)[0]["name"] == "canvas.png"
    region = ",".join(map(str, search(page, text=QUERY, limit=1)[0]["box"]))
    assert search_picture(page, content, limit=3, box=region)[0]["name"] == "canvas.png"


def test_more_like_this_needs_no_model_and_leaves_the_record_out(page, gallery, monkeypatch):
    first = search(page, text=QUERY, limit=1)[0]
    monkeypatch.setattr(page.app.state.service, "embed_query", None)
    found = search(page, like=first["id"], limit=5)
    assert len(found) == 5
    assert first["id"] not in [hit["id"] for hit in found]
    stored = gallery.collection.get([str(gallery.canvas)])[0].embedding
    expected = gallery.collection.store.search(stored, limit=6, modality="image", tiles=True)
    assert [hit["score"] for hit in found] == pytest.approx(
        [hit.score for hit in expected if hit.record_id != str(gallery.canvas)][:5], abs=1e-5
    )


def test_a_region_of_a_record_is_embedded_from_its_picture(page, gallery):
    first = search(page, text=QUERY, limit=1)[0]
    found = search(page, like=first["id"], box=list(gallery.ring_box), limit=3)
    with Image.open(gallery.canvas) as canvas:
        region = canvas.convert("RGB").crop(gallery.ring_box)
    expected = gallery.collection.search(image=region, modality="image", limit=3)
    assert [hit["score"] for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-5)


def test_a_region_may_have_more_pixels_than_bytes_are_allowed_for_a_file(model, tmp_path):
    path = tmp_path / "large.png"
    Image.new("RGB", (3000, 3000), "red").save(path)
    limits = ServerLimits(max_image_bytes=100_000)
    with TestClient(create_page_app(shown(path), lambda: model, limits=limits), base_url="http://localhost") as page:
        wait_until(lambda: page.get("/ui/info").json()["ready"])
        first = search(page, text="a")[0]
        assert search(page, like=first["id"], box=[0, 0, 3000, 2990])


def test_a_picture_that_has_taken_the_place_of_another_is_not_shown_as_it(model, tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (90, 60), "red").save(path)
    collection = shown(path, describe_image(path)["content_hash"])
    with TestClient(create_page_app(collection, lambda: model, limits=ServerLimits()), base_url="http://[::1]") as page:
        wait_until(lambda: page.get("/ui/info").json()["ready"])
        first = search(page, text="a")[0]
        assert page.get(first["thumb"]).status_code == 200
        Image.new("RGB", (90, 60), "blue").save(path)
        assert page.get(first["picture"]).status_code == 404
        assert page.post("/ui/search", json={"like": first["id"], "box": [0, 0, 9, 9]}).status_code == 404


def test_a_filter_in_the_address_that_is_no_json_is_named(page):
    answer = page.post("/ui/search", content=b"x", params={"where": "{"}, headers=OCTETS)
    assert (answer.status_code, "`where`" in answer.text) == (400, True)


def test_a_filter_keeps_what_matches(page):
    found = search(page, text=QUERY, where={"number": {"lt": 4}, "even": True})
    assert sorted(hit["metadata"]["number"] for hit in found) == [0, 2]


def test_the_collection_is_described_with_the_fields_that_filters_can_be_made_from(page):
    info = page.get("/ui/info").json()
    assert (info["name"], info["model"], info["ready"]) == ("photos", "nano", True)
    assert info["counts"] == {"image": 13, "text": 2}
    assert info["fields"] == [
        {"name": "even", "type": "boolean"},
        {"name": "kind", "type": "string", "values": ["drawing", "note"]},
        {"name": "number", "type": "number", "smallest": 0, "largest": 12},
    ]


def test_names_are_no_list_to_choose_from_where_each_comes_once():
    metadatas = [{"name": f"{at}.png", "tag": f"tag {at % 60}", "few": f"{at % 2}"} for at in range(100)]
    fields = {field["name"]: field for field in describe_fields(metadatas)}
    assert fields["name"] == {"name": "name", "type": "string"}
    assert len(fields["tag"]["values"]) == 50
    assert sorted(fields["few"]["values"]) == ["0", "1"]


def test_texts_have_their_content_and_no_picture(page):
    found = search(page, text="Boote", modality="text")
    assert {hit["content"] for hit in found} == set(TEXTS)
    assert {(hit["thumb"], hit["picture"], hit["size"]) for hit in found} == {(None, None, None)}


@pytest.mark.parametrize(("side", "longest"), [("", 400), ("&side=300", 600), ("&side=5", 400), ("&side=99999", 400)])
def test_a_thumbnail_is_a_jpeg_of_twice_the_side(page, gallery, side, longest):
    first = search(page, text=QUERY, limit=1)[0]
    answer = page.get(first["thumb"] + side)
    assert answer.headers["content-type"] == "image/jpeg"
    with Image.open(BytesIO(answer.content)) as image, Image.open(gallery.canvas) as canvas:
        assert image.format == "JPEG"
        assert max(image.size) == min(longest, max(canvas.size))
        assert not image.getexif()


def test_no_answer_has_the_path_of_a_folder(page, gallery):
    answers = [page.post("/ui/search", json={"text": QUERY}), page.get("/ui/info")]
    assert all(str(gallery.folder) not in answer.text for answer in answers)
    assert "canvas.png" in answers[0].text


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({}, "text"),
        ({"text": "a", "like": "b"}, "text"),
        ({"text": " "}, "text"),
        ({"text": 1}, "text"),
        ({"like": 1}, "like"),
        ({"text": "a", "box": [0, 0, 1, 1]}, "box"),
        ({"text": "a", "limit": 201}, "limit"),
        ({"text": "a", "limit": True}, "limit"),
        ({"text": "a", "modality": "sound"}, "modality"),
        ({"text": "a", "where": [1]}, "where"),
        ({"text": "a", "where": {"number": {"in": list(range(10_000))}}}, "where"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(page, request_, field):
    answer = page.post("/ui/search", json=request_)
    assert answer.status_code == 400
    assert f"`{field}`" in answer.text


def test_metadata_and_filters_may_have_every_number_of_json(model):
    store = shown("a.png").store
    (record,) = store.get(["a"])
    store.upsert([dataclasses.replace(record, metadata={"large": 10**30, "small": 1e-300, "name": "é\u2028"})])
    collection = Shown(store=store, config=CONFIG, name="one")
    with TestClient(create_page_app(collection, lambda: model, limits=ServerLimits()), base_url="http://[::1]") as page:
        wait_until(lambda: page.get("/ui/info").json()["ready"])
        (found,) = search(page, text="a", where={"large": {"gt": 10**29}})
        assert found["metadata"] == {"large": 10**30, "small": 1e-300, "name": "é\u2028"}


def test_a_bad_filter_is_told_in_the_words_of_the_filter_grammar(page):
    answer = page.post("/ui/search", json={"text": "a", "where": {"number": {"near": 1}}})
    assert answer.status_code == 400
    assert "near" in answer.text


@pytest.mark.parametrize(
    "box", [[0, 0, 0, 5], [5, 5, 4, 6], [-1, 0, 2, 2], [0, 0, 10**6, 10], [0, 0, 1], [0.5, 0, 1, 1], "0,0,1,1"]
)
def test_a_box_outside_the_picture_is_refused(page, box):
    first = search(page, text=QUERY, limit=1)[0]
    assert page.post("/ui/search", json={"like": first["id"], "box": box}).status_code == 400


def test_what_is_no_picture_is_refused(page):
    assert page.post("/ui/search", content=b"GIF89a no", headers=OCTETS).status_code == 400
    assert page.post("/ui/search", content=b"", headers=OCTETS).status_code == 400
    assert page.post("/ui/search", content=b"GIF89a no", params={"box": "0,0,1,1"}, headers=OCTETS).status_code == 400


def test_a_picture_that_is_gone_is_no_picture_and_the_record_is_still_found(model, tmp_path):
    path = tmp_path / "a.png"
    Image.effect_noise((90, 60), 30).save(path)
    app = create_page_app(shown(path), lambda: model, limits=ServerLimits())
    with TestClient(app, base_url="http://localhost") as page:
        wait_until(lambda: page.get("/ui/info").json()["ready"])
        path.unlink()
        first = search(page, text="a")[0]
        assert first["size"] is None
        assert page.get(first["thumb"]).status_code == 404


def test_the_page_is_there_before_the_model_and_says_if_it_cannot_be_loaded(tmp_path, caplog):
    let: list[bool] = []

    def load():
        wait_until(lambda: let)
        raise CheckpointError("the weights are damaged")

    app = create_page_app(shown(tmp_path / "a.png"), load, limits=ServerLimits())
    with TestClient(app, base_url="http://localhost") as page:
        assert page.get("/ui/info").json()["ready"] is False
        answer = page.post("/ui/search", json={"text": "a"})
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
        let.append(True)
        wait_until(lambda: "cannot be loaded" in page.post("/ui/search", json={"text": "a"}).text)
    assert "the weights are damaged" in caplog.text
